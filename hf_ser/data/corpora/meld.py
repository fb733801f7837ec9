"""MELD: transcribed turns of the series Friends, in three published parts.

The corpus has tables of transcripts and video clips (.mp4). The audio must be extracted to .wav or .flac next to the
clips; without it, an utterance has text only.

The published parts share speakers (six of them speak most turns of each) and episodes, so a result on them is not
speaker-independent. A speaker is a voice: two parts of one actor are one speaker, and so are different people under one
name such as `Woman`. Turns of several people at once (`All`, `Ross and Rachel`; 69 of 13,708) are left out, since they
would leak voices of test speakers into training.
"""

import re
from dataclasses import replace
from pathlib import Path

from hf_ser.data.folders import files_under, relative_name
from hf_ser.data.schema import REFERENCE, Finding, Listing, Utterance
from hf_ser.data.separated import read_separated
from hf_ser.files import read_old_text

LICENCE = "GPL-3.0 for the annotation; audio and video belong to the makers of the series"
MAY_BE_SHARED = False
SOURCE = (
    "Poria et al. 2019, MELD: A Multimodal Multi-Party Dataset for Emotion Recognition in Conversations, ACL, "
    "built on EmotionLines (Chen et al. 2018, LREC)"
)
LANGUAGE = "en"

LABELS = ("neutral", "happy", "sad", "angry", "fearful", "disgust", "surprised")
EMOTIONS = {
    "neutral": "neutral",
    "joy": "happy",
    "sadness": "sad",
    "anger": "angry",
    "fear": "fearful",
    "disgust": "disgust",
    "surprise": "surprised",
}
"""Our labels by the corpus's names."""

PARTS = {"train": "train", "dev": "validation", "test": "test"}
"""Our splits by the beginning of the table's name; ids keep the corpus's name."""

TEXT_COLUMNS, NUMBER_COLUMNS = ("Utterance", "Speaker", "Emotion"), ("Dialogue_ID", "Utterance_ID", "Season", "Episode")
TIME_COLUMNS = ("StartTime", "EndTime")

SEVERAL = re.compile(r"(All|Both|The Guys|Her-Friends|.+ and .+)$")
SAME_VOICE = {
    "Joey/Drake": "Joey",
    "Dr. Drake Remoray": "Joey",
    "Rachel/actress": "Rachel",
    "Ursula": "Phoebe",
    "Phoebe/Waitress": "Phoebe",
    "Phoebe Sr.": "Phoebe Sr",
}
"""Other names of a voice: parts in a play, a twin by the same actress, a spelling."""

CLIP = re.compile(r"dia\d+_utt\d+$")
# MELD's own folders are train_splits, dev_splits_complete and output_repeated_splits_test.
PART_FOLDER = re.compile(r"(?<![a-z])(train|dev|test)")
AUDIO_SUFFIXES, VIDEO_SUFFIX = (".wav", ".flac"), ".mp4"
EXTRACT = 'for f in *.mp4; do ffmpeg -i "$f" -vn -ac 1 -ar 16000 "${f%.mp4}.wav"; done'

# Quotes and dashes of Windows that were stored as control characters, as some copies of the tables have them.
CONTROLS = {code: bytes([code]).decode("cp1252", errors="ignore") for code in range(0x80, 0xA0)}


def list_utterances(data_dir: str | Path) -> Listing:
    """List the rows of the tables below a folder, with their audio if it exists.

    Args:
        data_dir: Folder with any of `train_sent_emo.csv`, `dev_sent_emo.csv` and `test_sent_emo.csv`, and audio files
            `dia0_utt0.wav` in folders whose names contain the part, at any depth.

    Raises:
        FileNotFoundError: no such folder, or none of the tables in it.
        ValueError: a table without the expected columns, or no usable row.
    """
    root = Path(data_dir)
    tables, absent = _tables(root)
    rows = {part: _read_rows(file) for part, file in tables.items()}
    listed, findings = _listed(rows)
    audio, videos, misplaced = _clips(root, list(tables))
    utterances = [replace(utterance, audio=audio.get(name)) for name, utterance in listed.items() if utterance]
    if not utterances:
        raise ValueError(
            f"{root}: none of the {sum(map(len, rows.values()))} rows of its tables can be used, the first because: "
            f"{findings[0].detail if findings else 'there is none'}. Expected rows as in the published tables: get "
            "them again."
        )
    findings = [*absent, *findings, *misplaced, *_audio_findings(listed, audio, videos, root)]
    return Listing(LABELS, utterances, findings)


def _tables(root: Path) -> tuple[dict[str, Path], list[Finding]]:
    """Table of each part; the least nested one of several copies."""
    tables, findings, below = {}, [], files_under(root)[0]
    for part in PARTS:
        files = [file for file in below if file.name == f"{part}_sent_emo.csv"]
        for file in sorted(files, key=lambda p: (len(p.parts), str(p))):
            first = tables.setdefault(part, file)
            if first != file:
                detail = f"the same table as {relative_name(first, root)}"
                findings.append(Finding("doubled_file", relative_name(file, root), detail, skipped=True))
        if part not in tables:
            findings.append(Finding("absent_table", f"{part}_sent_emo.csv", "not there, so this part is missing"))
    if not tables:
        raise FileNotFoundError(
            f"{root}: found no {', '.join(f'{part}_sent_emo.csv' for part in PARTS)}. Expected at least one of these "
            "tables: point --data_dir at the folder that holds them."
        )
    return tables, findings


def _read_rows(file: Path) -> list[dict[str, str]]:
    """Rows of a table, their cells trimmed, with `place` for findings."""
    try:
        table = read_separated(file, lambda path: read_old_text(path).translate(CONTROLS))
    except ValueError as error:
        raise ValueError(f"{file}: {error}. Get the published table again.") from error
    header = table.header
    if missing := [column for column in (*TEXT_COLUMNS, *NUMBER_COLUMNS) if column not in header]:
        raise ValueError(
            f"{file}: found columns {', '.join(header)}. Expected also {', '.join(missing)}, with commas between: get "
            "the published table again."
        )
    # The cells of a row of another length cannot be trusted.
    return [
        {"place": f"{file.name}, line {row.line}"}
        | (
            {n: " ".join(cell.split()) for n, cell in zip(header, row.cells, strict=True)}
            if len(row.cells) == len(header)
            else {}
        )
        for row in table.rows
    ]


def _listed(rows: dict[str, list[dict[str, str]]]) -> tuple[dict[str, Utterance | None], list[Finding]]:
    """Utterances by part and name of the clip (None for a row that is left out), and findings."""
    listed, first_of, findings = {}, {}, []
    for part, row in [(part, row) for part, table in rows.items() for row in table]:
        if not (all(row.get(n) for n in TEXT_COLUMNS) and all(row.get(n, "").isdecimal() for n in NUMBER_COLUMNS)):
            detail = "its cells are not those of the header, or one is empty"
            findings.append(Finding("unreadable_row", row["place"], detail, skipped=True))
            continue
        name = f"{part}_dia{row['Dialogue_ID']}_utt{row['Utterance_ID']}"
        if name in listed:
            findings.append(Finding("doubled_row", name, f"again in {row['place']}", skipped=True))
            continue
        listed[name] = None
        if row["Emotion"].lower() not in EMOTIONS:
            detail = f"found '{row['Emotion']}', expected one of {', '.join(EMOTIONS)}"
            findings.append(Finding("unknown_emotion", name, detail, skipped=True))
        elif SEVERAL.match(row["Speaker"]):
            detail = f"'{row['Speaker']}' is several people, who also speak elsewhere"
            findings.append(Finding("several_speakers", name, detail, skipped=True))
        else:
            listed[name] = _utterance(name, part, row)
            if (speaker := row["Speaker"]) in SAME_VOICE:
                findings.append(Finding("same_voice", name, f"'{speaker}' counts as '{SAME_VOICE[speaker]}'"))
            # The same moment of an episode, cut into two dialogues and rated twice.
            moment = tuple(row.get(n) for n in (*TEXT_COLUMNS[:2], *NUMBER_COLUMNS[2:], *TIME_COLUMNS))
            if (first := first_of.setdefault(moment, name)) != name and row.get(TIME_COLUMNS[0]):
                detail = f"the same turn as {first}; labels {listed[name].label} and {listed[first].label}"
                findings.append(Finding("repeated_turn", name, detail))
    return listed, findings


def _utterance(name: str, part: str, row: dict[str, str]) -> Utterance:
    return Utterance(
        id=f"meld/{name}",
        audio=None,
        label=EMOTIONS[row["Emotion"].lower()],
        corpus="meld",
        speaker=f"meld/{SAME_VOICE.get(row['Speaker'], row['Speaker'])}",
        session=f"s{int(row['Season']):02d}e{int(row['Episode']):02d}",
        dialogue=name.rpartition("_")[0],
        split=PARTS[part],
        transcript=row["Utterance"],
        transcript_source=REFERENCE,
    )


def _clips(root: Path, parts: list[str]) -> tuple[dict[str, Path], set[str], list[Finding]]:
    """Audio files and names of video clips by part and name of the clip, and findings about other audio files."""
    below, findings = files_under(root)
    audio, videos = {}, set()
    files = (p for p in below if p.suffix.lower() in (*AUDIO_SUFFIXES, VIDEO_SUFFIX) and not p.name.startswith("._"))
    for file in sorted(files, key=lambda p: (len(p.parts), str(p))):
        folders = [PART_FOLDER.search(name.lower()) for name in reversed(file.relative_to(root).parts[:-1])]
        # The nearest folder that names a part; with one table, clips can only belong to it.
        part = next((found[1] for found in folders if found), parts[0] if len(parts) == 1 else None)
        name, relative = f"{part}_{file.stem}", relative_name(file, root)
        if file.suffix.lower() == VIDEO_SUFFIX:
            videos.add(name)
        elif not CLIP.match(file.stem):
            detail = "expected a name such as dia0_utt0.wav"
            findings.append(Finding("not_meld", relative, detail, skipped=True))
        elif part is None:
            detail = "in no folder named after train, dev or test, which use the same numbers of dialogues"
            findings.append(Finding("unplaced_audio", relative, detail, skipped=True))
        elif (first := audio.setdefault(name, file)) != file:
            detail = f"the same clip as {relative_name(first, root)}"
            findings.append(Finding("doubled_file", relative, detail, skipped=True))
    return audio, videos, findings


def _audio_findings(listed: dict, audio: dict[str, Path], videos: set[str], root: Path) -> list[Finding]:
    """Findings about rows without audio, and audio without a row."""
    without_audio = [name for name, utterance in listed.items() if utterance and name not in audio]
    filmed = [name for name in without_audio if name in videos]
    findings = []
    if filmed:
        detail = (
            f"their clips are only {VIDEO_SUFFIX}, so they have no audio; extract the audio in each folder: {EXTRACT}"
        )
        findings.append(Finding("film_only", f"{len(filmed)} rows", detail))
    if audio or videos:
        detail = "no .wav, .flac or .mp4 of this turn, which has text only"
        findings += [Finding("missing_audio", name, detail) for name in without_audio if name not in videos]
    else:
        detail = "no dia0_utt0.wav, .flac or .mp4 in this folder, so every row has text only"
        findings.append(Finding("words_only", f"all {len(without_audio)} rows", detail))
    detail = "no row of the tables names it"
    unlabelled = [audio[name] for name in sorted(audio.keys() - listed.keys())]
    return findings + [
        Finding("unlabelled_audio", relative_name(file, root), detail, skipped=True) for file in unlabelled
    ]
