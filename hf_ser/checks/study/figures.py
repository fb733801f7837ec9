"""Contents of `study.json`: the figures of every system over its seeds, and which of them differ.

All shares are from 0 to 1, and times are in seconds.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from hf_ser.json_record import Record
from hf_ser.runs.figures import Conditions

STUDY_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class SystemFigures(Record):
    """Figures of one system over its seeds.

    Args:
        name: Name of the system in the study.
        seeds: Finished seeds.
        protocol, split_fingerprint, transcript_sources: What it was measured on.
        leaks: Leaks that were known before training, or found by the audit.
        n_utterances: Test utterances.
        n_speakers: Known test speakers.
        uar, wa: Means over seeds.
        uar_ci95: 95 % interval over speakers; None where `interval_note` says why.
        interval_note: How the interval was made and how far it holds, or why there is none.
        uar_by_seed: UAR of each seed.
        uar_spread: Their standard deviation; None for one seed.
        weighted_f1: Mean over seeds.
        parameters, parameters_trained: Largest number of any fold; None where no record is found.
        train_seconds: Mean over seeds of the sum over folds, with evaluation.
        clips_per_second: Training clips a second over all epochs; None where it is unknown.
        hardware: What the folds were trained on.
        notes, notices: Warnings to show next to the figures.
    """

    name: str
    seeds: list[int]
    protocol: str
    split_fingerprint: str
    transcript_sources: list[str]
    leaks: list[str]
    n_utterances: int
    n_speakers: int
    uar: float
    uar_ci95: list[float] | None
    interval_note: str
    uar_by_seed: list[float]
    uar_spread: float | None
    wa: float
    weighted_f1: float
    parameters: int | None
    parameters_trained: int | None
    train_seconds: float
    clips_per_second: float | None
    hardware: list[str]
    notes: list[str]
    notices: list[str]


@dataclass(frozen=True, kw_only=True)
class SystemDifference(Record):
    """Paired difference of a system to the baseline, on the seeds that both have.

    Args:
        to: Name of the baseline.
        seeds: The seeds.
        uar: Difference in UAR, the system minus the baseline.
        uar_ci95: Its 95 % interval over speakers; None where `interval_note` says why.
        interval_note: How the interval was made and how far it holds, or why there is none.
        p: p value of the paired permutation test; None where speakers are unknown.
        n_permutations, exact: Permutations that were computed, and whether these are all possible ones.
        p_holm: p corrected for the number of systems.
        is_significant: Whether the difference is significant.
    """

    to: str
    seeds: list[int]
    uar: float
    uar_ci95: list[float] | None
    interval_note: str
    p: float | None
    n_permutations: int
    exact: bool
    p_holm: float | None
    is_significant: bool


@dataclass(frozen=True, kw_only=True)
class ComparedSystem(SystemFigures):
    """A comparable system; `difference` is None for the baseline, and where the two have no common seed."""

    difference: SystemDifference | None


@dataclass(frozen=True, kw_only=True)
class SystemApart(SystemFigures):
    """A system that is not compared with others, and the reason."""

    why: str


@dataclass(frozen=True, kw_only=True)
class StudyConditions(Conditions):
    """What the comparable systems were measured on, and the classes in the order of their indices."""

    labels: list[str]


@dataclass(frozen=True, kw_only=True)
class StudyResult(Record):
    """Result of a study.

    Args:
        conditions: What the comparable systems share; None where there are none.
        chance_uar: UAR of guessing: one divided by the number of classes.
        baseline: Name of the system that the others are compared with; None where there is none.
        seeds: Seeds of the study.
        systems: Comparable systems, best first.
        apart: The other systems.
        missing: Names of the unfinished runs.
        notices: Warnings to show next to the table.
    """

    WHAT: ClassVar[str] = "the result of a study"
    REMEDY: ClassVar[str] = "Make it again with python scripts/compare.py and the study."

    study_version: Literal[1] = STUDY_VERSION
    conditions: StudyConditions | None
    chance_uar: float
    baseline: str | None
    seeds: list[int]
    systems: list[ComparedSystem]
    apart: list[SystemApart]
    missing: list[str]
    notices: list[str]
