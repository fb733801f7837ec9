"""The row: what one utterance is, and how a data set of them is typed.

Everything that reads a corpus ends in `Utterance`s; everything that trains starts from rows typed by `features`.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from datasets import Audio, ClassLabel, Features, List, Value

SAMPLING_RATE = 16_000
"""Hz. Every stored clip and every model of this toolkit uses this one rate."""

REFERENCE = "reference"
"""`transcript_source` of words that the corpus itself gives; an ASR transcript says `<ASR id>@<revision>`."""

ASR_COLUMNS = Features(
    {"reference_transcript": Value("string"), "asr_avg_logprob": Value("float32"), "no_speech_prob": Value("float32")}
)
"""What a transcribed data set (`hf_ser.transcripts`) has beside the columns of `features`: the corpus's own words, for
`transcript` has the recogniser's, and how sure the recogniser was."""

SEXES = ("female", "male")
SPLITS = ("train", "validation", "test")
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "trn", "trainset"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "validate", "validating", "vld"), "validation"),
    **dict.fromkeys(("dev", "devel", "development", "devset", "valset", "tune", "tuning"), "validation"),
    **dict.fromkeys(("test", "testing", "tst", "testset"), "test"),
}
"""Words that published splits go by, and what they are here; a number or a word may follow: `Test1`, `dev-clean`."""
EVALUATION_WORDS = ("eval", "evaluation", "evl", "evaluate")
"""Words of either the validation or the test part, which only the other words of the split tell."""
DIALOGUE_KINDS = ("impro", "script")

UNKNOWN = "unknown"
"""How a speaker, a sex or another group that the corpus does not name is written in tables and pictures."""

NUMBERS = ("age", "valence", "activation", "dominance")
TOLD = (
    *("speaker", "sex", "age", "race", "ethnicity"),
    *("session", "dialogue", "dialogue_kind", "script", "scene", "sentence", "split"),
    *("transcript", "transcript_source", "valence", "activation", "dominance"),
)
"""Columns that an utterance brings along as they are, beside its id, label, votes and corpus."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One clip of one speaker, as a corpus lists it before its audio is read.

    Args:
        id: Unique over all corpora, `<corpus>/<name>`.
        audio: File to decode, the bytes of one, or a function without arguments that gives the bytes when they are
            needed (its `repr` tells one sound from another); None where only the words are known.
        label: Emotion, one of the listing's labels.
        corpus: Name of the corpus.
        speaker: Who speaks, `<corpus>/<name>`, None where the corpus does not say. Of two tables, speakers of one name
            are taken to be one person, which is the safe side.
        sex: `female`, `male` or None.
        age: Years.
        race, ethnicity: As the corpus words them.
        session: Recording session, where the corpus has them.
        dialogue: Conversation that the utterance is a turn of.
        dialogue_kind: `impro` (improvised) or `script` (read from a play).
        script: Text that is performed, where it is a play that several speakers read.
        scene: Script or improvised scenario: who shares it speaks of the same thing.
        sentence: Fixed sentence that several clips share.
        split: `train`, `validation` or `test`, where the corpus was published with one.
        transcript: The words, None where they are not known.
        transcript_source: `reference`, or `<ASR id>@<revision>`; None without a transcript.
        votes: Raters' votes by label (counts or shares), None where there are none.
        valence, activation, dominance: Means of the raters, on the corpus's own scale.
        start_seconds, end_seconds: Part of the file that is this clip; None is its beginning, or its end.
        channel: What of a file of several channels is this clip: `left`, `right`, or `mix`
            (the mean of all, also None).
    """

    id: str
    audio: str | Path | bytes | Callable[[], bytes] | None
    label: str
    corpus: str
    speaker: str | None = None
    sex: str | None = None
    age: float | None = None
    race: str | None = None
    ethnicity: str | None = None
    session: str | None = None
    dialogue: str | None = None
    dialogue_kind: str | None = None
    script: str | None = None
    scene: str | None = None
    sentence: str | None = None
    split: str | None = None
    transcript: str | None = None
    transcript_source: str | None = None
    votes: dict[str, float] | None = None
    valence: float | None = None
    activation: float | None = None
    dominance: float | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    channel: str | None = None


@dataclass(frozen=True)
class Finding:
    """Something a person should know about one item: what kind, which item, and what exactly was found.

    Args:
        kind: A short controlled word, e.g. `unreadable`, `stereo`, `duplicate`.
        item: File or utterance id.
        detail: What was found, in words.
        skipped: Whether the item is left out of the data set because of it.
        count: How many items it stands for.
    """

    kind: str
    item: str
    detail: str
    skipped: bool = False
    count: int = 1


@dataclass(frozen=True)
class Listing:
    """What a corpus folder holds: the label names in their order, the utterances, and what was passed over and why."""

    labels: tuple[str, ...]
    utterances: list[Utterance]
    findings: list[Finding] = field(default_factory=list)


def split_words(words: Iterable[str]) -> dict[str, str | None]:
    """The part that each word of a published split is, None for a word that is not known.

    `eval` is the test part, or the validation part where another word is the test part and none the validation part.
    """
    parts = {word: _split_word(word) for word in words}
    known = set(parts.values())
    evaluation = "validation" if "test" in known and "validation" not in known else "test"
    return {word: evaluation if part in EVALUATION_WORDS else part for word, part in parts.items()}


def known_split_words() -> str:
    """The words of published splits, for a message."""
    return ", ".join((*SPLIT_WORDS, *EVALUATION_WORDS))


def _split_word(word: str) -> str | None:
    """A part, a word of EVALUATION_WORDS, or None: unknown, or of several parts, such as `train-dev`."""
    first, *others = re.findall(r"[^\W\d_]+", word.casefold()) or [""]
    known = SPLIT_WORDS | {word: word for word in EVALUATION_WORDS}
    if not re.match(r"\W*[^\W\d_]", word) or any(
        known.get(other, known.get(first)) != known.get(first) for other in others
    ):
        return None
    begun = {part for name, part in known.items() if name.startswith(first) and part in SPLITS}
    return known.get(first) or (begun.pop() if len(begun) == 1 and len(first) > 1 and not others else None)


def features(labels: tuple[str, ...]) -> Features:
    """Typed columns of a prepared data set.

    Args:
        labels: Emotion names in the order of their class indices.

    Returns:
        `datasets.Features`; `audio` holds the encoded bytes of a mono 16 kHz clip and is never decoded by `datasets`
        itself, `votes` is a distribution over `labels` or null. The columns of `TOLD` are as in `Utterance`; those
        after them were measured when the clip was read: its level (RMS, dB under full scale), the exact zeros that it
        begins with, the format and size of its file, the hash of its samples, and the landmarks by which it is known
        again (`hf_ser.data.fingerprint`). They are null where there is no sound.
    """
    text, number = Value("string"), Value("float32")
    return Features(
        {
            "id": text,
            "audio": Audio(SAMPLING_RATE, decode=False),
            "label": ClassLabel(names=list(labels)),
            "votes": List(number),
            "corpus": text,
            **{name: number if name in NUMBERS else text for name in TOLD},
            "duration_seconds": number,
            "level_dbfs": number,
            "leading_zeros_seconds": number,
            "source_format": text,
            "source_bytes": Value("int64"),
            "pcm_sha256": text,
            "fingerprint": Value("binary"),
        }
    )
