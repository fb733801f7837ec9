"""MSP-Improv: six sessions of two actors each, who improvise towards 20 sentences, with the votes of several raters.

`MSP-IMPROV-S08A-F05-S-FM02` is sentence 8 (S08) with the intended emotion angry (A), spoken by the woman of session 5
(F05), in an improvisation (S). The labels name the videos, `UTD-IMPROV-S08A-F05-S-FM02.avi`.

The label is what most raters chose, not the intended emotion. Turns without a majority (X) are left out.
"""

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hf_ser.data.corpora.named_files import named_files
from hf_ser.data.folders import files_under
from hf_ser.data.schema import REFERENCE, Finding, Listing, Utterance
from hf_ser.files import read_old_text

LICENCE = "MSP-Improv licence of UT Dallas: for research, not to be passed on"
MAY_BE_SHARED = False
SOURCE = (
    "Busso et al. 2017, MSP-IMPROV: An acted corpus of dyadic interactions to study emotion perception, "
    "IEEE Trans. Affect. Comput. 8(1)"
)
LANGUAGE = "en"
DIMENSION_SCALE = (1.0, 5.0)

LABELS = ("neutral", "happy", "sad", "angry", "other")
CODES = dict(zip("NHSAO", LABELS, strict=True))
NO_MAJORITY = "X"
KINDS = {"R": "script", "S": "impro", "T": "impro"}
"""Kind of dialogue by the recording's letter: read, improvised, and the sentence itself in an improvisation; turns
between the recordings (P) have none."""

FEWEST_TURNS, FEWEST_ERRORS = 10, 3
"""Fewest angry and sad turns to compare their activation, and standard errors by which they have to differ."""
TABLES = ("Evalution.txt", "Evaluation.txt")
"""Names of the table of labels; the first is as it was published."""
NAME = re.compile(r"MSP-IMPROV-(S\d\d)([AHNS])-([FM])(\d\d)-([PRST])-([FM]{2}\d+)$")
"""Sentence, intended emotion, sex and session of the speaker, recording, turn."""
NUMBER = r"(\d+(?:\.\d+)?|NaN)"
# UTD-IMPROV-S08A-F05-S-FM02.avi; H; A:2.571429; V:4.285714; D:3.285714 ; N:4.142857;
TURN = re.compile(rf"UTD-(IMPROV-[\w-]+)\.avi\s*;\s*(\w)\s*;\s*A:{NUMBER}\s*;\s*V:{NUMBER}\s*;\s*D:{NUMBER}\s*;")
# 83572734; Happy; Happy,Excited; A:2.000000; V:5.000000; D:3.000000; N:4.000000;
RATING = re.compile(r"([\w-]+)\s*;\s*(Neutral|Happy|Sad|Angry|Other)\b[^;]*;")


@dataclass
class _Rating:
    """Consensus and votes of one turn; a missing mean is None."""

    code: str
    activation: float | None
    valence: float | None
    dominance: float | None
    votes: dict[str, float] = field(default_factory=dict)


def list_utterances(data_dir: str | Path) -> Listing:
    """List the turns with a majority label and audio.

    Args:
        data_dir: Folder with `Evalution.txt` and, at any depth, the recordings; texts are read from files named like
            them, where they exist (`All_human_transcriptions`).

    Raises:
        FileNotFoundError: no such folder, no table of labels in it, or none of its turns has audio.
    """
    root = Path(data_dir)
    audio, findings = named_files(root, "msp_improv", _turn, "session1/S01A/S/MSP-IMPROV-S01A-F01-S-FM01.wav")
    others = {file.name: file for file in reversed(files_under(root)[0]) if not file.name.startswith("._")}
    table = next((others[name] for name in TABLES if name in others), None)
    if table is None:
        raise FileNotFoundError(
            f"{root}: found no {' or '.join(TABLES)}. Expected the labels next to the recordings, as the corpus "
            "is published: point --data_dir at the folder that holds both."
        )
    ratings, found = read_ratings(table)
    findings += found
    findings += _orient_activation(ratings.values(), table.name)
    findings += _unmatched(ratings, audio)
    utterances = [
        _utterance(name, rating, audio[name], others.get(f"{name}.txt"))
        for name, rating in ratings.items()
        if name in audio and rating.code in CODES
    ]
    if not utterances:
        raise FileNotFoundError(
            f"{root}: none of the {len(ratings)} turns of {table.name} has a label and audio, such as "
            "session1/S01A/S/MSP-IMPROV-S01A-F01-S-FM01.wav: point --data_dir at the folder that holds both."
        )
    return Listing(LABELS, utterances, findings)


def read_ratings(file: Path) -> tuple[dict[str, _Rating], list[Finding]]:
    """Ratings by turn, and a finding for each line that cannot be read."""
    ratings, findings, current = {}, [], None
    for number, line in enumerate(re.split(r"\r\n|\r|\n", read_old_text(file)), start=1):
        line = line.strip()
        if not line or line.startswith("%"):
            continue
        if turn := TURN.match(line):
            current = _Rating(turn[2].upper(), *map(_mean, turn.groups()[2:]))
            if ratings.setdefault(f"MSP-{turn[1]}", current) is not current:
                findings.append(Finding("doubled_label", turn[1], f"again in line {number}", skipped=True))
        elif line.startswith("UTD-"):
            current = None
            detail = f"line {number} is {line[:80]!r}, expected turn; label; A:mean; V:mean; D:mean; N:mean;"
            findings.append(Finding("unreadable_block", f"{file.name}, line {number}", detail, skipped=True))
        elif current and (rating := RATING.match(line)):
            label = rating[2].lower()
            current.votes[label] = current.votes.get(label, 0.0) + 1
        elif current:
            detail = f"found {line[:80]!r}, expected a rater's emotion: this vote does not count"
            findings.append(Finding("unreadable_vote", f"{file.name}, line {number}", detail))
    return ratings, findings


def is_activation_reversed(ratings: Iterable[_Rating]) -> bool | None:
    """Whether the activation is given from active to calm: angry turns then have lower values than sad ones.

    None if that is not clear: with fewer than `FEWEST_TURNS` of either, or a difference that may be chance.
    """
    known = [rating for rating in ratings if rating.activation is not None]
    angry, sad = (np.array([one.activation for one in known if one.code == code]) for code in "AS")
    if min(len(angry), len(sad)) < FEWEST_TURNS:
        return None
    difference = angry.mean() - sad.mean()
    error = math.sqrt(angry.var(ddof=1) / len(angry) + sad.var(ddof=1) / len(sad))
    return bool(difference < 0) if abs(difference) > FEWEST_ERRORS * error else None


def _orient_activation(ratings: Collection[_Rating], table: str) -> list[Finding]:
    """Make the activation of ratings rise from calm to active, or remove it if its direction is unknown."""
    is_reversed = is_activation_reversed(ratings)
    if is_reversed is None:
        codes = [rating.code for rating in ratings if rating.activation is not None]
        if not codes:
            return []
        for rating in ratings:
            rating.activation = None
        detail = (
            "activation is left out: whether 1 is calm or active follows from its difference between angry and sad "
            f"turns, expected at least {FEWEST_TURNS} of each that differ by more than chance, found "
            f"{codes.count('A')} angry and {codes.count('S')} sad ones. Use the complete table as it was published"
        )
        return [Finding("activation_left_out", table, detail)]
    if not is_reversed:
        return []
    for rating in ratings:
        rating.activation = None if rating.activation is None else sum(DIMENSION_SCALE) - rating.activation
    detail = "1 is the most active here (angry turns have lower values than sad ones): read as 6 minus the value"
    return [Finding("reversed_activation", table, detail)]


def _mean(text: str) -> float | None:
    return None if text == "NaN" else float(text)


def _turn(file: Path) -> str | None:
    return file.stem if NAME.match(file.stem) else None


def _unmatched(ratings: Mapping[str, _Rating], audio: Mapping[str, Path]) -> list[Finding]:
    """Findings about turns without a majority or audio, and audio without a label."""
    findings = []
    for name, rating in ratings.items():
        if rating.code == NO_MAJORITY:
            findings.append(Finding("no_majority", name, "no emotion has a majority of the raters", skipped=True))
        elif rating.code not in CODES:
            detail = f"the emotion is {rating.code!r}, expected one of {', '.join(CODES)}"
            findings.append(Finding("no_label", name, detail, skipped=True))
        elif name not in audio:
            findings.append(Finding("missing_audio", name, f"no {name}.wav", skipped=True))
    detail = "no rating names it"
    return findings + [
        Finding("unlabelled_audio", name, detail, skipped=True) for name in sorted(audio.keys() - ratings.keys())
    ]


def _utterance(name: str, rating: _Rating, audio: Path, text: Path | None) -> Utterance:
    sentence, intended, sex, session, recording, _ = NAME.match(name).groups()
    transcript = " ".join(read_old_text(text).split()) if text else None
    return Utterance(
        id=f"msp_improv/{name}",
        audio=audio,
        label=CODES[rating.code],
        corpus="msp_improv",
        speaker=f"msp_improv/{sex}{session}",
        sex="female" if sex == "F" else "male",
        session=f"session{int(session)}",
        dialogue=name.rpartition("-")[0],
        dialogue_kind=KINDS.get(recording),
        scene=f"{sentence}{intended}",
        sentence=sentence if recording in "RT" else None,
        transcript=transcript or None,
        transcript_source=REFERENCE if transcript else None,
        votes=rating.votes or None,
        valence=rating.valence,
        activation=rating.activation,
        dominance=rating.dominance,
    )
