"""Vocabulary of column names in other programs and languages.

NeMo and Kaldi write `offset` and `duration`, Praat `tmin` and `tmax`, ELAN `Begin Time - ss.msec`, others `start_ms` or
`Beginn;Ende`. A name is looked up without capitals, spaces, dashes, underscores and unit.
"""

import re
from collections.abc import Collection, Sequence

from hf_ser.normal_form import normal_form

MILLISECONDS = "_ms"
"""Ending of our names of times in milliseconds: `start_ms`."""

START = ("start", "start_ms")
END = ("end", "end_ms", "duration", "duration_ms")
TIMES = ("duration", "duration_ms", "start_ms", "end_ms", "start", "end")

OTHER_NAMES = {
    "path": (
        *("file", "filename", "filepath", "fullpath", "wav", "wavfile", "wavpath", "wavfilename", "soundfile"),
        *("audio", "audiofile", "audiopath", "audiofilename", "audiofilepath", "recording", "datei", "dateiname"),
        *("dateipfad", "fichier", "archivo", "pathtofile"),
    ),
    "label": ("emotion", "emotions", "emo", "emotionlabel", "emotioncategory", "emotionclass", "emotionname"),
    "speaker": (
        *("speakerid", "speakername", "speakercode", "spk", "spkid", "spkr", "spkrid", "spkcode", "talker", "talkerid"),
        *("actor", "actorid", "subjectid", "participant", "participantid", "clientid", "sprecher", "sprecherid"),
        *("sprecherin", "locuteur", "hablante"),
    ),
    "sex": ("gender", "speakergender", "speakersex", "spkgender", "geschlecht", "sexe", "sexo", "genero", "genre"),
    "transcript": ("text", "transcription", "transkript", "transkription", "spokentext", "rawtext", "texttranscript"),
    "session": ("sessionid",),
    "dialogue": ("dialogueid", "dialogid", "dialog", "conversationid"),
    "activation": ("arousal",),
    "start": (
        *("start", "begin", "starttime", "begintime", "startseconds", "segmentstart", "segstart", "tmin", "xmin"),
        *("onset", "onsettime", "from", "tstart", "tbegin", "startpos", "beginn", "anfang", "startzeit", "debut"),
        *("inicio", "inizio"),
    ),
    "end": (
        *("end", "stop", "endtime", "stoptime", "endseconds", "segmentend", "segend", "tmax", "xmax", "finish"),
        *("offsettime", "to", "tend", "tstop", "endpos", "ende", "endzeit", "fin", "fine"),
    ),
    "duration": ("duration", "dur", "dauer", "duree", "duracion", "durata", "segmentduration", "segdur"),
}
"""Other names of our columns, in the form of `spelling`."""

UNITS = {
    **dict.fromkeys(("ms", "msec", "msecs", "millis", "millisecond", "milliseconds", "millisekunden"), MILLISECONDS),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds", "sekunden"), ""),
}

SEEMS = {
    "a time": {
        "end": (
            *("end", "ends", "stop", "finish", "until", "till", "tmax", "xmax", "ende", "endzeit", "fin", "t1", "t2"),
        ),
        "duration": ("duration", "dur", "length", "len", "dauer", "duree", "samples", "frames", "nsamples", "nframes"),
        "start": (
            *("start", "begin", "onset", "tmin", "xmin", "from", "beginn", "anfang", "offset", "time", "times", "t0"),
        ),
    },
    "the speaker": {
        "speaker": (
            *("speaker", "spk", "spkr", "talker", "actor", "subject", "participant", "client", "person", "caller"),
            *("customer", "agent", "patient", "user", "voice", "character", "sprecher", "who"),
        ),
    },
    "the sex": {"sex": ("gender", "sex", "geschlecht", "sexe", "sexo")},
    "the text": {
        "transcript": ("text", "transcript", "transcription", "utterance", "words", "caption", "said", "asr", "phrase")
    },
    "the label": {"label": ("emotion", "emotions", "emo", "label", "feeling", "mood", "affect", "sentiment")},
}
"""Possible contents of a column with one of these words in its name."""


def words_of(name: str) -> list[str]:
    """Split `Begin Time - ss.msec` or `beginTime_ms` into lower-case words without accents."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", normal_form(name))
    return re.findall(r"[^\W_]+", name.lower().translate(str.maketrans("áéèêíóúñçäöü", "aeeeiouncaou")))


def spelling(name: str) -> tuple[str, str]:
    """Name for the look-up, and the ending of our name for its unit: `("begintime", "_ms")`."""
    words = words_of(name)
    if "hh" in words:  # ELAN's hh:mm:ss.ms: the unit is in the cells
        return "".join(words[: words.index("hh")]), ""
    unit = ""
    if len(words) > 1 and words[-1] in UNITS:
        unit = UNITS[words.pop()]
        if len(words) > 1 and words[-1] == "ss":  # ELAN's ss.msec: seconds with a fraction
            unit = ""
            words.pop()
        if len(words) > 1 and words[-1] == "in":
            words.pop()
    return "".join(words), unit


def by_other_names(found: Sequence[str], names: dict[str, str], left_out: Collection[str]) -> dict[str, str]:
    """Map our names to columns with one of `OTHER_NAMES`, if exactly one has it and none has our own name.

    Args:
        found: Columns of the table.
        names: Columns that are read already, ours to theirs.
        left_out: Our names that the user left out.
    """
    taken, spelled = set(names.values()), {name: spelling(name) for name in dict.fromkeys(found)}
    more: dict[str, str] = {}

    def look_up(ours: str, others: Sequence[str], units: bool = False) -> None:
        columns: dict[str, list[str]] = {}
        for theirs, (spelt, unit) in spelled.items():
            if theirs not in taken and spelt in others and (units or not unit):
                columns.setdefault(ours + unit, []).append(theirs)
        # ELAN writes one time in three units and columns: seconds are used.
        chosen = min(columns, default=None)
        if chosen is not None and len({spelled[theirs][0] for theirs in columns[chosen]}) == 1:
            more[chosen] = columns[chosen][0]
            taken.update(columns[chosen] if units else more.values())

    for ours, others in OTHER_NAMES.items():
        has_label = ours == "label" and any(name.startswith("votes") for name in names)
        if ours not in ("start", "end", "duration", *names, *left_out) and not has_label:
            look_up(ours, others)
    if not any(name in names or name in left_out for name in START):
        look_up("start", OTHER_NAMES["start"], units=True)
    spans = any(spelt in OTHER_NAMES["duration"] for spelt, _ in spelled.values())
    if not any(name in names or name in more or name in left_out for name in START) and spans:
        look_up("start", ("offset",), units=True)  # NeMo's start; beside an onset it is the end
    if any(name in names or name in more for name in START) and not any(n in names or n in left_out for n in END):
        look_up("end", (*OTHER_NAMES["end"], "offset"), units=True)
        if not any(name in more for name in END):
            look_up("duration", OTHER_NAMES["duration"], units=True)
    elif not any(name in names or name in left_out for name in END):
        look_up("end", OTHER_NAMES["end"], units=True)
    return more


def _seems(words: Collection[str], seeming: Collection[str]) -> bool:
    """Whether a word is in `seeming`, or begins with a long one of it: `Startzeitpunkt`."""
    return any(word == one or (len(one) > 4 and word.startswith(one)) for word in words for one in seeming)


def doubtful_columns(unread: Sequence[str], names: Collection[str], left_out: Collection[str]) -> list[tuple]:
    """Unread columns that may hold a missing column: their name, its probable content, and our name."""
    doubtful = []
    for theirs in unread:
        words = set(words_of(theirs)) | {spelling(theirs)[0]}
        for what, ours in SEEMS.items():
            fits = [name for name, seeming in ours.items() if _seems(words, seeming)]
            have = {"start": START, "end": END, "duration": END}
            is_read = [any(one in names or one in left_out for one in have.get(name, (name,))) for name in fits]
            # The length of a whole file does not make it a part.
            idle = what == "a time" and fits and fits[0] == "duration" and not any(one in names for one in START)
            if fits and not any(is_read) and not idle:
                doubtful.append((theirs, what, fits[0]))
                break
    return doubtful
