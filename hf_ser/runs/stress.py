"""Contents of `stress.json`: how much worse a model is on changed recordings."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from hf_ser.json_record import Record
from hf_ser.revisions import public_name
from hf_ser.runs.dimension_figures import ConcordanceChange
from hf_ser.runs.figures import SexGap, anonymous_notices

STRESS = "stress.json"
STRESS_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class StressLine(ConcordanceChange):
    """A model under one condition, on the clips that could be changed so.

    Args:
        name, group, level, severity, what: The condition.
        n: Utterances.
        uar: Their UAR when changed; None for a model without classes.
        delta_uar: Change against the same clips unchanged.
        delta_ci95: 95 % interval of the change over speakers; None where there is none.
        limit: Largest allowed fall of UAR; None where it is not judged.
        verdict: `passed`, `failed` or `not judged`.
        unfamiliar: Share of the changed clips that are unlike the training data; absent where that is not known.
    """

    name: str
    group: str
    level: str
    severity: str
    what: str
    n: int
    uar: float | None
    delta_uar: float | None
    delta_ci95: list[float] | None
    limit: float | None
    verdict: str
    unfamiliar: float | None = None


@dataclass(frozen=True, kw_only=True)
class CleanFigures(Record):
    """Figures of the unchanged clips: None for a model without classes, absent for one without dimensions."""

    uar: float | None
    uar_ci95: list[float] | None
    wa: float | None
    ccc: float | None = None
    ccc_ci95: list[float] | None = None
    unfamiliar: float | None = None


@dataclass(frozen=True, kw_only=True)
class StressResult(Record):
    """A stress test.

    Args:
        model, dataset, seed: What was tested on what; the seed of the changes.
        leaks, notices: Warnings to show next to the figures.
        thresholds: Largest allowed fall of UAR, by severity; `limits` has the limits that follow for this model.
        failed: Conditions that failed, and `sex_gap` if that is too wide.
        conditions: One entry a condition.
        interval_note: How the intervals of the changes were made.
        skipped: Reason for each clip that could not be changed, by condition and id; only their number once published.
        versions: Versions of Python and packages; None where a package is not installed.
    """

    WHAT: ClassVar[str] = "a stress test of hf_ser"
    REMEDY: ClassVar[str] = "Make it again with python scripts/stress.py."

    stress_version: Literal[1] = STRESS_VERSION
    model: str
    dataset: str
    seed: int
    corpus: str
    n_utterances: int
    n_speakers: int
    leaks: list[str]
    notices: list[str]
    clean: CleanFigures
    sex_gap: SexGap
    thresholds: dict[str, float]
    limits: dict[str, float | None]
    verdict: str
    failed: list[str]
    conditions: list[StressLine]
    interval_note: str = ""
    skipped: dict[str, Any]
    versions: dict[str, str | None]
    seconds: float | None = None

    def public(self, with_people: bool) -> "StressResult":
        """The result as it is pushed with a model: no local path.

        Args:
            with_people: Keep the names of clips; else skipped ones are counted.
        """
        result = replace(self, model=public_name(self.model), dataset=public_name(self.dataset))
        if with_people:
            return result
        clips = {clip for skipped in self.skipped.values() for clip in skipped}
        counts = {name: len(skipped) for name, skipped in self.skipped.items()}
        return replace(result, skipped=counts, notices=anonymous_notices(self.notices, clips))
