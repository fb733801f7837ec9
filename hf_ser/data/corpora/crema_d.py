"""CREMA-D: 91 actors, 6 emotions, 12 sentences, and raters' votes for each clip.

The label is the intended emotion, not the perceived one: 40 % of the audio-only votes agree with it, and it is the
unique majority for 42 % of the clips. `votes` has the perceived emotions. The text says little about the emotion: each
sentence is equally frequent in all emotions, except IEO, which is three times as frequent in all but neutral.
"""

import re
from itertools import zip_longest
from pathlib import Path

from hf_ser.data.corpora.named_files import MIN_AUDIO_BYTES, named_files
from hf_ser.data.download import Download, git_lfs
from hf_ser.data.folders import files_under
from hf_ser.data.schema import REFERENCE, Finding, Listing, Utterance
from hf_ser.data.separated import read_separated

LICENCE = "ODbL 1.0, contents DbCL 1.0"
MAY_BE_SHARED = True
SOURCE = "Cao et al. 2014, CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset, IEEE Trans. Affect. Comput. 5(4)"
LANGUAGE = "en"

PAGE = "https://gitlab.com/cs-cooper-lab/crema-d-mirror"
GITHUB = "CheyneyComputerScience/CREMA-D"
COMMIT = "1658cd342dff90010aa843eaeebd53610a08b1dc"
MIRROR = f"{PAGE}/-/raw/d15eeed6a139e9724483ed9a2fc4643f88708b79"


def downloads(folder: Path) -> list[Download]:
    """List the tables and audio files of one commit; the audio comes from the authors' mirror."""
    raw = f"https://raw.githubusercontent.com/{GITHUB}/{COMMIT}"
    votes = "sha256:774d9d759cb5caf2542758a39eca8c0f1d2777f9987ff5d5adf8066d192f377b"
    actors = "sha256:e33ddc8b60bedf98541735801127cbb67098b5957271adbdd5dea8a44294eec3"
    pointers = Download(f"https://github.com/{GITHUB}/archive/{COMMIT}.zip", "CREMA-D-pointers.zip")
    return [
        Download(f"{raw}/processedResults/tabulatedVotes.csv", "tabulatedVotes.csv", 4_057_953, votes),
        Download(f"{raw}/VideoDemographics.csv", "VideoDemographics.csv", 4_033, actors),
        *git_lfs(pointers, "AudioWAV/", MIRROR, folder, PAGE),
    ]


DOWNLOADS = downloads

LABELS = ("neutral", "happy", "sad", "angry", "fearful", "disgust")
EMOTION_CODES = {
    "NEU": "neutral",
    "HAP": "happy",
    "SAD": "sad",
    "ANG": "angry",
    "FEA": "fearful",
    "DIS": "disgust",
}
SENTENCES = {
    "IEO": "It's eleven o'clock",
    "TIE": "That is exactly what happened",
    "IOM": "I'm on my way to the meeting",
    "IWW": "I wonder what this is about",
    "TAI": "The airplane is almost full",
    "MTI": "Maybe tomorrow it will be cold",
    "IWL": "I would like a new alarm clock",
    "ITH": "I think I have a doctor's appointment",
    "DFA": "Don't forget a jacket",
    "ITS": "I think I've seen this before",
    "TSI": "The surface is slick",
    "WSI": "We'll stop in a couple of minutes",
}
NAME = re.compile(rf"(1\d{{3}})_({'|'.join(SENTENCES)})_({'|'.join(EMOTION_CODES)})_(LO|MD|HI|XX?)$")
"""Actor, sentence, emotion, level (XX: unspecified). One published file says X for XX."""

VOTES, DEMOGRAPHICS = "tabulatedVotes.csv", "VideoDemographics.csv"
VOTE_COLUMNS = {"N": "neutral", "H": "happy", "S": "sad", "A": "angry", "F": "fearful", "D": "disgust"}
VOICE = "1"
"""First digit of a row's number in the table of votes: 1 only voice, 2 only face, 3 both."""
WRONG_AUDIO = ("1064_IEO_DIS_MD", "1064_TIE_SAD_XX", "1076_MTI_NEU_XX", "1076_MTI_SAD_XX")
"""Clips whose raters were played other audio than the WAV of that name, or none (README of the corpus)."""
POINTER = b"version https://git-lfs"


def list_utterances(data_dir: str | Path) -> Listing:
    """List the clips below a folder, with votes and actors if the tables of the corpus are in it.

    Clips are .wav or .flac; the MP3s of the corpus have the same audio. If a clip is stored twice, the first is kept.
    Without the table of actors, sex, age, race and ethnicity are unknown.

    Raises:
        FileNotFoundError: no such folder, or no clip of CREMA-D in it.
        ValueError: a table that cannot be read.
    """
    root = Path(data_dir)
    files, findings = _clips(root)
    votes_file, actors_file = _table(root, VOTES), _table(root, DEMOGRAPHICS)
    votes = read_votes(votes_file) if votes_file else {}
    actors = read_actors(actors_file) if actors_file else {}
    findings += _vote_findings(files, votes) if votes_file else [Finding("no_table", VOTES, "no clip has votes")]
    if not actors_file:
        findings.append(Finding("no_table", DEMOGRAPHICS, "no speaker has sex, age, race or ethnicity"))
    return Listing(LABELS, [_utterance(name, file, votes.get(name), actors) for name, file in files.items()], findings)


def read_votes(file: str | Path) -> dict[str, dict[str, float]]:
    """Read the votes of raters who listened to a clip without seeing it.

    Args:
        file: `tabulatedVotes.csv`, which has three rows per clip; the audio-only one is read.

    Returns:
        Counts by label, by file name without ending; clips without votes are left out.

    Raises:
        ValueError: a missing column, or a cell that is not a number.
    """
    votes = {}
    for line, row in _rows(file, ("", *VOTE_COLUMNS, "fileName")):
        if not re.fullmatch(r"[123]\d{5}", row[""]):
            raise ValueError(
                f"{file}, line {line}: the row is numbered '{row['']}', expected 1 to 3 (voice, face, both) and five "
                "digits: take the table as it was published."
            )
        if row[""].startswith(VOICE):
            counts = {label: _number(row[column], file, line) for column, label in VOTE_COLUMNS.items()}
            if sum(counts.values()) > 0:
                votes[row["fileName"]] = counts
    return votes


def read_actors(file: str | Path) -> dict[str, dict]:
    """Read sex, age in years, race and ethnicity of each actor from `VideoDemographics.csv`; None if unknown.

    Raises:
        ValueError: a missing column, or an age that is not a number.
    """
    return {
        row["ActorID"]: {
            "sex": {"Female": "female", "Male": "male"}.get(row["Sex"]),
            "age": _number(row["Age"], file, line),
            **{name.lower(): None if row[name] in ("", "Unknown") else row[name] for name in ("Race", "Ethnicity")},
        }
        for line, row in _rows(file, ("ActorID", "Age", "Sex", "Race", "Ethnicity"))
    }


def _clips(root: Path) -> tuple[dict[str, Path], list[Finding]]:
    """File of each clip, by its name in the tables."""
    files, findings = named_files(root, "crema_d", _name, "AudioWAV/1001_IEO_ANG_HI.wav")
    pointers = {name for name, file in files.items() if _is_pointer(file)}
    if len(pointers) == len(files):
        raise FileNotFoundError(
            f"{root}: found {len(pointers)} files that are only pointers of git-lfs, expected audio: run `git lfs "
            "pull` in the repository, or fetch the corpus with --download."
        )
    for name, file in files.items():
        relative = str(file.relative_to(root))
        if name in pointers:
            findings.append(Finding("git_lfs_pointer", relative, "no audio: run `git lfs pull`", skipped=True))
        elif name != file.stem:
            findings.append(Finding("misnamed", relative, f"read as {name}"))
    return {name: file for name, file in files.items() if name not in pointers}, findings


def _name(file: Path) -> str | None:
    return file.stem + "X" * file.stem.endswith("_X") if NAME.match(file.stem) else None


def _table(root: Path, name: str) -> Path | None:
    files = (file for file in files_under(root)[0] if file.name == name)
    return min(files, key=lambda p: (len(p.parts), str(p)), default=None)


def _is_pointer(file: Path) -> bool:
    """Whether a file is the pointer that git leaves without git-lfs."""
    return file.stat().st_size < MIN_AUDIO_BYTES and file.read_bytes().startswith(POINTER)


def _utterance(name: str, file: Path, votes: dict[str, float] | None, actors: dict[str, dict]) -> Utterance:
    actor, sentence, emotion, _ = NAME.match(name).groups()
    return Utterance(
        id=f"crema_d/{name}",
        audio=file,
        label=EMOTION_CODES[emotion],
        corpus="crema_d",
        speaker=f"crema_d/{actor}",
        sentence=sentence,
        transcript=SENTENCES[sentence],
        transcript_source=REFERENCE,
        votes=None if name in WRONG_AUDIO else votes,
        **actors.get(actor, {}),
    )


def _vote_findings(files: dict[str, Path], votes: dict[str, dict[str, float]]) -> list[Finding]:
    findings = [Finding("unrated", f"crema_d/{name}", f"no rater in {VOTES}") for name in files if name not in votes]
    findings += [
        Finding("misheard", f"crema_d/{name}", "the raters were played other audio or none: its votes are left out")
        for name in WRONG_AUDIO
        if name in files and name in votes
    ]
    if absent := sorted(set(votes) - set(files)):
        detail = f"{len(absent)} of its {len(votes)} clips are not in the folder, the first: {absent[0]}"
        findings.append(Finding("absent_clips", VOTES, detail))
    return findings


def _rows(file: str | Path, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """Rows of a table with their line numbers."""
    try:
        table = read_separated(file)
    except ValueError as error:
        raise ValueError(f"{file}: {error}. Expected the table as it was published: download it again.") from error
    if missing := [column for column in columns if column not in table.header]:
        named = ", ".join(column or "'' (the row's number)" for column in missing)
        raise ValueError(f"{file}: found no column {named}. Expected the published table: download it again.")
    rows = (
        (row.line, dict(zip_longest(table.header, row.cells[: len(table.header)], fillvalue=""))) for row in table.rows
    )
    return list(rows)


def _number(text: str, file: str | Path, line: int) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(
            f"{file}, line {line}: found '{text}', expected a number: take the table as it was published."
        ) from error
