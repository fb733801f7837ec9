"""MSP-Podcast: spontaneous turns of podcasts, with the votes of several raters and valence, arousal and dominance.

Turns on whose emotion the raters do not agree (X) are left out, as are those whose labels are withheld (Test3 of recent
releases). A turn of an unknown speaker is kept without one; with such turns the published parts (`--protocol fixed`)
need `--allow_leak`, since it is not known whether the parts share these speakers.
"""

import re
from itertools import zip_longest
from pathlib import Path

from hf_ser.data.corpora.named_files import named_files
from hf_ser.data.folders import files_under
from hf_ser.data.schema import REFERENCE, Finding, Listing, Utterance, split_parts
from hf_ser.data.separated import read_separated
from hf_ser.files import read_old_text

LICENCE = "MSP-Podcast licence of UT Dallas: for research, not to be passed on"
MAY_BE_SHARED = False
SOURCE = (
    "Lotfian and Busso 2019, Building naturalistic emotionally balanced speech corpus by retrieving emotional speech "
    "from existing podcast recordings, IEEE Trans. Affect. Comput. 10(4)"
)
LANGUAGE = "en"
DIMENSION_SCALE = (1.0, 7.0)

LABELS = ("neutral", "happy", "sad", "angry", "fearful", "disgust", "surprised", "contempt", "other")
CODES = dict(zip("NHSAFDUCO", LABELS, strict=True))
"""Labels by the code of the consensus."""
NO_AGREEMENT = "X"
WORDS = {
    "neutral": "neutral",
    "happy": "happy",
    "sad": "sad",
    "angry": "angry",
    "fear": "fearful",
    "disgust": "disgust",
    "surprise": "surprised",
    "contempt": "contempt",
}
"""Labels by the raters' words; any other word, such as `Other-Tired`, counts as other."""

CONSENSUS, DETAILED, OLD_LABELS = "labels_consensus.csv", "labels_detailed.csv", "labels.txt"
COLUMNS = ("FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom", "SpkrID", "Gender", "Split_Set")
NAME = re.compile(r"(MSP-PODCAST_\w+?)_\w+$")
"""Podcast and turn."""
# WORKER00000007; Neutral; Neutral,Concerned; A:4.000000; V:4.000000; D:4.000000;
RATING = re.compile(r"\s*(WORKER\w*)\s*;\s*([^;]+);")
# MSP-PODCAST_0001_0008.wav; N; A:2.200000; V:4.000000; D:2.600000;
TURN = re.compile(r"\s*(MSP-PODCAST_\w+)(?:\.wav)?\s*;")


def list_utterances(data_dir: str | Path) -> Listing:
    """List the turns of the consensus that have a label and audio.

    Votes are read from `labels_detailed.csv`, or `labels.txt` of older releases, and texts from `Transcripts`, where
    they exist.

    Args:
        data_dir: Folder with `Labels/labels_consensus.csv` and `Audios`, at any depth.

    Raises:
        FileNotFoundError: no such folder, no consensus in it, or no turn of it with audio.
        ValueError: a table without the expected columns, or a cell that is not a number.
    """
    root = Path(data_dir)
    audio, findings = named_files(root, "msp_podcast", _turn, "Audios/MSP-PODCAST_0001_0008.wav")
    others = {file.name: file for file in reversed(files_under(root)[0]) if not file.name.startswith("._")}
    if CONSENSUS not in others:
        raise FileNotFoundError(
            f"{root}: found no {CONSENSUS}. Expected Labels/{CONSENSUS} next to Audios, as the corpus is published: "
            "point --data_dir at the folder that holds both."
        )
    votes = read_votes(others)
    if not votes:
        findings.append(Finding("no_table", DETAILED, f"nor {OLD_LABELS}: no turn has votes"))
    utterances, seen, rows = [], set(), _rows(others[CONSENSUS])
    for line, row in rows:
        name = _name(row["FileName"])
        if found := _why_left_out(name, row["EmoClass"], audio, seen):
            findings.append(Finding(found[0], f"msp_podcast/{name}", found[1], skipped=True))
            continue
        seen.add(name)
        transcript = others.get(f"{name}.txt")
        place = f"{others[CONSENSUS]}, line {line}"
        utterances.append(_utterance(name, row, audio[name], votes.get(name), transcript, place))
    if not utterances:
        raise FileNotFoundError(
            f"{root}: none of the turns of {CONSENSUS} has a label and audio, such as "
            "Audios/MSP-PODCAST_0001_0008.wav: point --data_dir at the folder that holds Labels and Audios."
        )
    if unlisted := sorted(set(audio) - {_name(row["FileName"]) for _, row in rows}):
        detail = f"{len(unlisted)} recordings are not in {CONSENSUS}, the first: {unlisted[0]}"
        findings.append(Finding("unlabelled_audio", CONSENSUS, detail, skipped=True, count=len(unlisted)))
    return Listing(LABELS, utterances, findings)


def read_votes(files: dict[str, Path]) -> dict[str, dict[str, float]]:
    """Read the raters' votes by turn from the table of single ratings; empty without a table.

    Args:
        files: Files of the corpus by their names.
    """
    votes: dict[str, dict[str, float]] = {}

    def add(turn: str, word: str) -> None:
        label = WORDS.get(word.strip().lower(), "other")
        votes.setdefault(turn, {})
        votes[turn][label] = votes[turn].get(label, 0.0) + 1

    if DETAILED in files:
        table = read_separated(files[DETAILED])
        for row in table.rows:
            cells = dict(zip_longest(table.header, row.cells[: len(table.header)], fillvalue=""))
            turn = _name(cells.get("FileName", ""))
            rating = RATING.match(cells.get("EmoDetail", ""))
            word = rating[2] if rating else cells.get("EmoClass_Major", "")
            if turn and word.strip():
                add(turn, word)
    elif OLD_LABELS in files:
        turn = None
        for line in read_old_text(files[OLD_LABELS]).splitlines():
            if found := TURN.match(line):
                turn = found[1]
            elif turn and (rating := RATING.match(line)):
                add(turn, rating[2])
    return votes


def _name(file_name: str) -> str:
    """The name of a turn as a table gives it, with the ending of its file or without."""
    return file_name.strip().rpartition(".")[0] or file_name.strip()


def _turn(file: Path) -> str | None:
    return file.stem if NAME.match(file.stem) else None


def _why_left_out(name: str, code: str, audio: dict[str, Path], seen: set[str]) -> tuple[str, str] | None:
    """Kind and detail of the finding on a turn that is left out; None if it is kept."""
    if name in seen:
        return "doubled_label", f"again in {CONSENSUS}"
    if code == NO_AGREEMENT:
        return "no_majority", "the raters do not agree on an emotion"
    if code not in CODES:
        return "no_label", f"the emotion is {code!r}, expected one of {', '.join(CODES)}"
    return None if name in audio else ("missing_audio", f"no Audios/{name}.wav")


def _utterance(
    name: str, row: dict[str, str], audio: Path, votes: dict[str, float] | None, text: Path | None, place: str
) -> Utterance:
    speaker = row["SpkrID"].strip()
    transcript = " ".join(read_old_text(text).split()) if text else None
    part = row["Split_Set"].strip()
    return Utterance(
        id=f"msp_podcast/{name}",
        audio=audio,
        label=CODES[row["EmoClass"]],
        corpus="msp_podcast",
        speaker=f"msp_podcast/{speaker}" if speaker.lower() not in ("", "unknown") else None,
        sex={"female": "female", "male": "male"}.get(row["Gender"].strip().lower()),
        session=NAME.match(name)[1],
        split=split_parts([part])[part] if part else None,
        transcript=transcript or None,
        transcript_source=REFERENCE if transcript else None,
        votes=votes,
        valence=_number(row["EmoVal"], place),
        activation=_number(row["EmoAct"], place),
        dominance=_number(row["EmoDom"], place),
    )


def _rows(file: Path) -> list[tuple[int, dict[str, str]]]:
    """Rows of the consensus with their line numbers."""
    table = read_separated(file)
    if missing := [column for column in COLUMNS if column not in table.header]:
        raise ValueError(
            f"{file}: found no column {', '.join(missing)}. Expected the table as it was published, with "
            f"{', '.join(COLUMNS)}: copy it again."
        )
    return [(row.line, dict(zip_longest(table.header, row.cells, fillvalue=""))) for row in table.rows]


def _number(text: str, place: str) -> float | None:
    if text.strip().lower() in ("", "nan"):
        return None
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"{place}: found '{text}', expected a number: copy the table again.") from error
