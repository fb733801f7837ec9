"""Contents of `comparison.json`: two runs on the same utterances, and how far their figures differ.

All shares are from 0 to 1, and differences are run b minus run a.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from hf_ser.json_record import Record
from hf_ser.runs.figures import Conditions

COMPARISON_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class RunFigures(Record):
    """Figures of one run on the common utterances: UAR, weighted accuracy, mean F1 over the classes."""

    uar: float
    wa: float
    macro_f1: float


@dataclass(frozen=True, kw_only=True)
class Difference(RunFigures):
    """Differences of the figures, each with its 95 % interval over speakers; None where `interval_note` says why."""

    uar_ci95: list[float] | None
    wa_ci95: list[float] | None
    macro_f1_ci95: list[float] | None


@dataclass(frozen=True, kw_only=True)
class Permutation(Record):
    """Paired permutation test of the difference in UAR.

    Args:
        p: The p value; None where speakers are unknown.
        n_permutations: Permutations that were computed.
        exact: Whether these are all possible ones.
    """

    p: float | None
    n_permutations: int
    exact: bool


@dataclass(frozen=True, kw_only=True)
class ClassRecalls(Record):
    """Recall of one class in both runs; `support` is its utterances."""

    support: int
    a: float
    b: float
    difference: float


@dataclass(frozen=True, kw_only=True)
class SpeakerPair(Record):
    """Figures of one speaker in both runs.

    Args:
        n: Utterances.
        measure: UAR, or WA if the speaker has no utterance of some class.
        a, b, difference: The figures.
    """

    n: int
    measure: Literal["uar", "wa"]
    a: float
    b: float
    difference: float


@dataclass(frozen=True, kw_only=True)
class Outcomes(Record):
    """Numbers of utterances, by which run was right."""

    both_right: int
    only_a_right: int
    only_b_right: int
    both_wrong: int


@dataclass(frozen=True, kw_only=True)
class Example(Record):
    """One utterance, its class, and the class that each run predicted."""

    id: str
    reference: str
    a: str
    b: str


@dataclass(frozen=True, kw_only=True)
class Comparison(Record):
    """Comparison of two runs on the utterances that both were tested on.

    Args:
        names: Names of the runs `a` and `b`.
        n_utterances: Utterances that both were tested on.
        n_speakers: Known speakers among them.
        n_only_a, n_only_b: Utterances that only one run was tested on.
        conditions: What each run was measured on.
        verdict: Which run is better, in words.
        a, b: Figures of each run.
        difference: Their differences.
        interval_note: How the intervals were made and how far they hold, or why there are none.
        permutation: Test of the difference in UAR.
        per_class: Recalls by class.
        per_speaker: Figures by speaker; unknown holds the utterances without one.
        examples: Most confident utterances that only one run got right, under `only_a_right` and `only_b_right`.
        notices: Warnings to show next to the figures.
    """

    WHAT: ClassVar[str] = "a comparison of two runs"
    REMEDY: ClassVar[str] = "Make it again with python scripts/evaluate.py and the folders of both runs."

    comparison_version: Literal[1] = COMPARISON_VERSION
    names: dict[str, str]
    n_utterances: int
    n_speakers: int
    n_only_a: int
    n_only_b: int
    conditions: dict[str, Conditions]
    verdict: str
    a: RunFigures
    b: RunFigures
    difference: Difference
    interval_note: str
    permutation: Permutation
    per_class: dict[str, ClassRecalls]
    per_speaker: dict[str, SpeakerPair]
    outcomes: Outcomes
    examples: dict[str, list[Example]]
    notices: list[str]
