"""IEMOCAP: five sessions of two actors each, improvised and scripted dialogues, with the votes of several raters.

The first letter of a turn's name is the actor with motion-capture markers, the letter of its last group the speaker:
`Ses01F_impro01_M000` is spoken by the man of session 1.

Turns without a majority of the raters are left out. The classes are those of the corpus; the label map `four_class`
gives the task that most papers report.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from hf_ser.data.folders import files_under, relative_name
from hf_ser.data.schema import REFERENCE, Finding, Listing, Utterance
from hf_ser.files import read_old_text

LICENCE = "IEMOCAP release licence: for research, not to be passed on"
MAY_BE_SHARED = False
SOURCE = (
    "Busso et al. 2008, IEMOCAP: interactive emotional dyadic motion capture database, "
    "Language Resources and Evaluation 42(4)"
)
LANGUAGE = "en"
DIMENSION_SCALE = (1.0, 5.0)

LABELS = (
    *("neutral", "happy", "excited", "sad", "angry"),
    *("frustrated", "fearful", "disgust", "surprised", "other"),
)
CODES = dict(zip(("neu", "hap", "exc", "sad", "ang", "fru", "fea", "dis", "sur", "oth"), LABELS, strict=True))
"""Labels by code, which is also the beginning of the raters' categories (`Anger`, `Happiness`)."""
NO_MAJORITY = "xxx"

SESSION = re.compile(r"Session[1-9]$")
# Session, dialogue without its take letter, kind of dialogue, speaker's letter.
TURN = re.compile(r"(Ses\d\d)[FM]_((impro|script)\d+(?:_\d+)?)[a-z]?_([FM])\d+[a-z]?$")
OVERLAP = re.compile(r"Ses\d\d[FM]_\w+_[FM]XX\d*$")
# [6.2901 - 8.2357]  Ses01F_impro01_F000  neu  [2.5000, 2.5000, 2.5000]
NUMBER = r"\s*(\d+(?:\.\d+)?)\s*"
HEADER = re.compile(rf"\[[\d. ]+-[\d. ]+\]\s*(\S+)\s+(\w+)\s*\[{NUMBER},{NUMBER},{NUMBER}\]$")
# C-E4:  Anger; Frustration;  (comment)
VOTE = re.compile(r"C-E\d+\s*:([^(]*)(\(.*)?$")
# No votes: the actors on themselves (C-F1, C-M1), and attributes (A-E3, A-F1).
OTHER_RATING = re.compile(r"(C-[FM]|A-[EFM])\d+\s*:")
# Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.
TRANSCRIPT = re.compile(r"(Ses\w+)\s*\[[\d. ]+-[\d. ]+\]\s*:?\s*(.*)$")


@dataclass
class _Rating:
    """Ratings of one turn; `code` is None if its header is unreadable, `votes` if a vote is."""

    code: str | None
    dimensions: tuple[float, ...] = ()
    votes: dict[str, float] | None = None


def list_utterances(data_dir: str | Path) -> Listing:
    """List the turns with a majority label and audio, of the sessions that exist.

    A rater with several emotions splits one vote among them. macOS files (`._*`) are ignored. Every skipped turn gives
    a finding: without a majority, a label or audio, spoken by both actors at once, or in a damaged line.

    Args:
        data_dir: Folder with `Session1` to `Session5`, at any depth.

    Raises:
        FileNotFoundError: no such folder, no session in it, or none of its labelled turns has audio.
    """
    root = Path(data_dir)
    sessions, findings = _sessions(root)
    utterances, labelled = [], 0
    for folder in sessions:
        ratings, found = _read_ratings(folder, root)
        transcripts, more = _read_transcripts(folder, root, ratings)
        audio = _audio(folder)
        findings += [*found, *more, *_unmatched_findings(ratings, transcripts, audio, root)]
        labelled += len(ratings)
        utterances += [
            _utterance(turn, rating, audio[turn], transcripts.get(turn))
            for turn, rating in ratings.items()
            if turn in audio and rating.code in CODES
        ]
    if not utterances:
        raise FileNotFoundError(
            f"{root}: found {len(sessions)} sessions with {labelled} labelled turns, none of them with a label and its "
            "audio. Expected Session1/dialog/EmoEvaluation/Ses01F_impro01.txt and "
            "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav: point --data_dir at the folder that holds "
            "Session1 to Session5."
        )
    return Listing(LABELS, utterances, findings)


def _sessions(root: Path) -> tuple[list[Path], list[Finding]]:
    """Folder of each session; the least nested one if the corpus was unpacked twice."""
    files, findings = files_under(root)
    folders = {parent for file in files for parent in file.parents if parent.is_relative_to(root)}
    folders = [p for p in folders if SESSION.match(p.name) and (p / "dialog" / "EmoEvaluation").is_dir()]
    chosen = {}
    for folder in sorted(folders, key=lambda p: (len(p.parts), str(p))):
        first = chosen.setdefault(folder.name, folder)
        if first != folder:
            detail = f"the same session as {relative_name(first, root)}"
            findings.append(Finding("doubled_session", relative_name(folder, root), detail, skipped=True))
    if chosen:
        findings += [
            Finding("absent_session", name, f"no {name}/dialog/EmoEvaluation, so its two speakers are missing")
            for name in (f"Session{number}" for number in range(1, 6))
            if name not in chosen
        ]
    return [chosen[name] for name in sorted(chosen)], findings


def _read_ratings(folder: Path, root: Path) -> tuple[dict[str, _Rating], list[Finding]]:
    """Ratings by turn of one session; a turn with a damaged header has a rating without code."""
    ratings, findings = {}, []
    for file in _texts(folder / "dialog" / "EmoEvaluation"):
        current = None  # the turn that rater lines belong to
        for number, line in _lines(file):
            place = f"{relative_name(file, root)}, line {number}"
            if line.startswith("%"):
                continue
            if (header := HEADER.match(line)) and TURN.match(header[1]) and header[2].lower() in (*CODES, NO_MAJORITY):
                current = _Rating(header[2].lower(), tuple(map(float, header.groups()[2:])), {})
                if header[1] in ratings:
                    findings.append(Finding("doubled_label", header[1], f"again in {place}", skipped=True))
                else:
                    ratings[header[1]] = current
            elif re.search(r"[\[\]]|Ses\d", line) and not OTHER_RATING.match(line) and not VOTE.match(line):
                current = None
                turn = next((word for word in line.split() if TURN.match(word)), None)
                if turn:
                    ratings.setdefault(turn, _Rating(None))
                detail = f"line {number} of {file.name} is {line!r}, expected times, turn, label and [V, A, D]"
                findings.append(Finding("unreadable_block", turn or place, detail, skipped=True))
            elif not _count_vote(line, current):
                findings.append(Finding("unreadable_vote", place, f"found {line!r}; this turn has no votes then"))
                if current:
                    current.votes = None
    return ratings, findings


def _count_vote(line: str, rating: _Rating | None) -> bool:
    """Add a rater's line to the votes of its turn; return whether the line is readable."""
    vote = VOTE.match(line)
    if vote is None:
        return OTHER_RATING.match(line) is not None
    named = {word.strip().lower()[:3] for word in re.split("[;,]", vote[1])} - {""}
    if not named <= set(CODES):
        return False
    if rating and rating.votes is not None:
        for code in sorted(named):  # the order of a set differs in every run
            rating.votes[CODES[code]] = rating.votes.get(CODES[code], 0.0) + 1 / len(named)
    return True


def _read_transcripts(folder: Path, root: Path, ratings: dict[str, _Rating]) -> tuple[dict[str, str], list[Finding]]:
    """Transcripts by turn of one session, and a finding for each line that belongs to no labelled turn."""
    transcripts, findings = {}, []
    for file in _texts(folder / "dialog" / "transcriptions"):
        for number, line in _lines(file):
            match = TRANSCRIPT.match(line)
            turn = match[1] if match else f"{relative_name(file, root)}, line {number}"
            if match and turn in ratings:
                transcripts.setdefault(turn, " ".join(match[2].split()))
            elif match and OVERLAP.match(turn):
                findings.append(Finding("overlap_turn", turn, "both speak at once, and it has no label", skipped=True))
            elif match:
                findings.append(Finding("unlabelled_turn", turn, "transcribed, but has no label", skipped=True))
            else:
                findings.append(Finding("unnamed_line", turn, f"names no turn: {line!r}", skipped=True))
    return transcripts, findings


def _audio(folder: Path) -> dict[str, Path]:
    """Audio files by turn of one session; the first by path if there are several."""
    files = [p for p in files_under(folder / "sentences" / "wav")[0] if p.suffix.lower() in (".wav", ".flac")]
    return {file.stem: file for file in reversed(files) if not file.name.startswith("._")}


def _unmatched_findings(ratings: dict, transcripts: dict, audio: dict[str, Path], root: Path) -> list[Finding]:
    """Findings about turns without a majority, audio or transcript, and audio without a label."""
    findings = []
    for turn, rating in ratings.items():
        if rating.code == NO_MAJORITY:
            findings.append(Finding("no_majority", turn, "no emotion has a majority of the raters", skipped=True))
        elif rating.code and turn not in audio:
            detail = f"no sentences/wav/{turn.rpartition('_')[0]}/{turn}.wav in its session"
            findings.append(Finding("missing_audio", turn, detail, skipped=True))
        elif rating.code and not transcripts.get(turn):
            findings.append(Finding("no_transcript", turn, "no text in the transcription of its dialogue"))
    unlabelled = [audio[turn] for turn in sorted(audio.keys() - ratings.keys())]
    detail = "no rating in EmoEvaluation names it"
    return findings + [
        Finding("unlabelled_audio", relative_name(file, root), detail, skipped=True) for file in unlabelled
    ]


def _utterance(turn: str, rating: _Rating, audio: Path, transcript: str | None) -> Utterance:
    session, scene, kind, letter = TURN.match(turn).groups()
    valence, activation, dominance = rating.dimensions
    return Utterance(
        id=f"iemocap/{turn}",
        audio=audio,
        label=CODES[rating.code],
        corpus="iemocap",
        speaker=f"iemocap/{session}{letter}",
        sex="female" if letter == "F" else "male",
        session=session,
        dialogue=turn.rpartition("_")[0],
        dialogue_kind=kind,
        script=scene if kind == "script" else None,
        scene=scene,
        transcript=transcript or None,
        transcript_source=REFERENCE if transcript else None,
        votes=rating.votes or None,
        valence=valence,
        activation=activation,
        dominance=dominance,
    )


def _texts(folder: Path) -> list[Path]:
    """Text files of a folder itself; those below it (`Categorical`, `Attribute`) are sheets of single raters."""
    return sorted(p for p in folder.glob("*.txt") if p.is_file() and not p.name.startswith("._"))


def _lines(file: Path) -> list[tuple[int, str]]:
    """Non-empty lines with their numbers."""
    numbered = enumerate(re.split(r"\r\n|\r|\n", read_old_text(file)), start=1)
    return [(number, line.strip()) for number, line in numbered if line.strip()]
