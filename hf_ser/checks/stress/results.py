"""Results of the stress test: the change in UAR under each condition, its interval over speakers, and a verdict."""

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from sklearn.metrics import confusion_matrix

from hf_ser.checks.stress.conditions import HARD, MILD, Condition
from hf_ser.data.schema import UNKNOWN
from hf_ser.files import atomic_write
from hf_ser.markup import line_width
from hf_ser.runs.dimension_figures import concordance_change
from hf_ser.runs.figures import DimensionReport, Report, SexGap
from hf_ser.runs.intervals import difference_intervals, holds_zero
from hf_ser.runs.predictions import Prediction
from hf_ser.runs.report import make_report, unfamiliar_share
from hf_ser.runs.report_text import counted
from hf_ser.runs.scores import ROUNDING, difference, uar_from_confusion
from hf_ser.runs.stress import CleanFigures, StressLine, StressResult

PICTURE = "stress.png"

MAX_DROP = {MILD: 0.05, HARD: 0.15}
"""Largest allowed fall of UAR, by severity; these limits are a choice."""

MAX_SHARE = {MILD: 0.25, HARD: 0.5}
"""Largest allowed fall as a share of the clean UAR above chance, the stricter limit for a model near chance."""

NO_SKILL = "The clean UAR is not above chance, so no change is judged."

MAX_SEX_GAP = 0.10
SEX_GAP = "sex_gap"
NO_GAP = SexGap(uar=None, ci95=None, note="No gap: the model has no classes.")

PASSED, FAILED, NOT_JUDGED = "passed", "failed", "not judged"


HOW_TO_READ = (
    "How to read it: each line changes the same clips in one way and gives the change in UAR against the clean run in "
    "points, with a 95 % interval over speakers. A condition fails where UAR falls by more than its limit, whatever "
    "the interval: the points allowed, but no more than a quarter (mild) or half (hard) of the clean UAR above chance. "
    "Extreme ones are reported and not judged."
)


@dataclass(frozen=True)
class Outcome:
    """Predictions of a model under one condition.

    Args:
        condition: The condition.
        probabilities: Probabilities of each changed row by id, in the order of the model's labels.
        skipped: Reason for each row that could not be changed, by id.
        dimensions: Valence, arousal and dominance of each changed row by id; empty where the model predicts none.
        familiarity: How similar each changed row is to the training data, by id; None if unknown.
    """

    condition: Condition
    probabilities: Mapping[str, Sequence[float]]
    skipped: Mapping[str, str]
    dimensions: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    familiarity: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def unfamiliar(self) -> float | None:
        """Share of the rows that are unlike the training data; None if unknown."""
        return unfamiliar_share(list(self.familiarity.values()))


def make_stress(
    about: dict,
    rows: Sequence[Prediction],
    clean: Outcome,
    outcomes: Sequence[Outcome],
    thresholds: Mapping[str, float] = MAX_DROP,
    notices: Sequence[str] = (),
) -> StressResult:
    """Compute the result of a stress test.

    Args:
        about: `model`, `dataset` and `seed`.
        rows: Predictions of the unchanged rows, as `make_report` takes them.
        clean, outcomes: The outcomes without changes, and under each condition.
        thresholds: Largest allowed fall of UAR, by severity, within `MAX_SHARE`; other severities are not judged.
        notices: More notices for readers.

    Raises:
        ValueError: as `make_report`.
    """
    report = make_report(rows)
    has_classes = isinstance(report, Report)
    skill = max(difference(report.uar, report.chance_uar), 0.0) if has_classes else 0.0
    # A model at chance has no limits: it would pass every condition.
    limits = {severity: min(most, MAX_SHARE[severity] * skill) or None for severity, most in thresholds.items()}
    gap = report.sex_gap if has_classes else NO_GAP
    lines, notes = {}, {}
    for one in outcomes:
        lines[one.condition.name], notes[one.condition.name] = compare_condition(one, rows, clean, limits)
    conditions = [line for line in lines.values() if line is not None]
    failed = [line.name for line in conditions if line.verdict == FAILED]
    failed += [SEX_GAP] if gap_verdict(gap) == FAILED else []
    skipped = {one.condition.name: dict(one.skipped) for one in (clean, *outcomes) if one.skipped}
    return StressResult(
        **about,
        **{name: getattr(report, name) for name in ("corpus", "n_utterances", "n_speakers", "leaks")},
        notices=[*report.notices, *notices, *_not_judged(has_classes, skill), *_notices(skipped, lines)],
        clean=replace(clean_figures(report), unfamiliar=clean.unfamiliar),
        sex_gap=gap,
        thresholds=dict(thresholds),
        limits=limits,
        verdict=FAILED if failed else PASSED if skill else NOT_JUDGED,
        failed=failed,
        conditions=conditions,
        interval_note=shared_note({line.name: notes[line.name] for line in conditions}),
        skipped=skipped,
        versions=report.versions,
    )


def clean_figures(report: Report | DimensionReport) -> CleanFigures:
    """The figures of the unchanged clips."""
    of_classes = {name: getattr(report, name, None) for name in ("uar", "uar_ci95", "wa")}
    dimensions = report.dimensions
    of_dimensions = {"ccc": dimensions.mean_ccc, "ccc_ci95": dimensions.mean_ccc_ci95} if dimensions else {}
    return CleanFigures(**of_classes, **of_dimensions)


def _not_judged(has_classes: bool, skill: float) -> list[str]:
    if not has_classes:
        return ["Changes of the CCC are reported and not judged."]
    return [] if skill else [NO_SKILL]


def compare_condition(
    outcome: Outcome, rows: Sequence[Prediction], clean: Outcome, limits: Mapping[str, float]
) -> tuple[StressLine | None, str]:
    """Compare a condition with the clean run on their common rows: a line of the result, and the note of its interval.

    The line is None if these rows lack a class.
    """
    labels = rows[0].labels
    kept = [row for row in rows if row.id in outcome.probabilities]
    if not kept or (labels and {row.reference for row in kept} != set(labels)):
        return None, ""
    named = {name: getattr(outcome.condition, name) for name in ("name", "group", "level", "severity", "what")}
    if outcome.dimensions and rows[0].dimensions:
        named |= vars(concordance_change(kept, outcome.dimensions))
    if not labels:
        none = dict.fromkeys(("uar", "delta_uar", "delta_ci95", "limit"))
        return StressLine(**named, n=len(kept), **none, verdict=NOT_JUDGED, unfamiliar=outcome.unfamiliar), ""
    before, after = (by_speaker(kept, one.probabilities, labels) for one in (clean, outcome))
    uar, clean_uar = (uar_from_confusion(sum(one.values()), labels) for one in (after, before))
    limit = limits.get(outcome.condition.severity)
    change = difference(uar, clean_uar)
    # A fall by exactly the limit passes, despite rounding.
    too_much = limit is not None and change < -limit - ROUNDING
    intervals, note = difference_intervals(before, after)
    line = StressLine(
        **named,
        n=len(kept),
        uar=uar,
        delta_uar=change,
        delta_ci95=intervals["uar"],
        limit=limit,
        verdict=NOT_JUDGED if limit is None else FAILED if too_much else PASSED,
        unfamiliar=outcome.unfamiliar,
    )
    return line, note


def by_speaker(rows: Sequence[Prediction], answers: Mapping[str, Sequence[float]], labels: list[str]) -> dict:
    """Confusion matrices `(classes, classes)` of some rows by speaker."""
    pairs = {}
    for row in rows:
        pair = row.reference, labels[int(np.argmax(answers[row.id]))]
        pairs.setdefault(row.speaker or UNKNOWN, []).append(pair)
    return {name: confusion_matrix(*zip(*pairs[name], strict=True), labels=labels) for name in sorted(pairs)}


def gap_verdict(gap: SexGap) -> str:
    """The verdict on the gap between the sexes: failed above `MAX_SEX_GAP` with an interval that excludes 0."""
    if gap.uar is None or gap.ci95 is None:
        return NOT_JUDGED
    is_wide = abs(gap.uar) > MAX_SEX_GAP + ROUNDING
    return FAILED if is_wide and not holds_zero(gap.ci95) else PASSED


def write_stress(result: StressResult, path: str | Path) -> None:
    """Write a result as indented JSON, atomically."""
    with atomic_write(path) as file:
        file.write(json.dumps(result.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def format_stress(result: StressResult) -> str:
    """The result as a table for the terminal: verdict first, UAR in per cent, changes in points."""
    verdict = f"verdict: {result.verdict}"
    if result.failed:
        verdict += f" ({', '.join(result.failed)})"
    lines = [verdict, HOW_TO_READ, *(f"note: {notice}" for notice in result.notices), subject(result)]
    lines.append(_sex_text(result.sex_gap))
    lines += [f"intervals of the changes: {result.interval_note}"] if result.interval_note else []
    rows = [("condition", "level", "severity", "UAR", "change", "95 % interval", "limit", "unfamiliar", "verdict")]
    rows += [_cells(line) for line in result.conditions]
    if result.clean.unfamiliar is None:
        rows = [(*row[:-2], row[-1]) for row in rows]
    else:
        lines.append(f"unlike the training data: {100 * result.clean.unfamiliar:.1f} % of the unchanged clips")
    if result.clean.ccc is not None:
        last = 1 if result.clean.unfamiliar is None else 2
        rows = [
            (*row[:3], *more, *(row[3:] if result.clean.uar is not None else row[-last:]))
            for row, more in zip(rows, [("CCC", "change"), *map(_ccc_cells, result.conditions)], strict=True)
        ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = [
        "  ".join(
            cell.rjust(width) if 3 <= column < len(row) - 1 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([*(part for line in lines for part in textwrap.wrap(line, line_width())), "", *table])


def subject(result: StressResult) -> str:
    """The model, the data and the clean figures in one line."""
    clean = result.clean
    has_classes = clean.uar is not None
    interval = f" [{', '.join(f'{100 * end:.1f}' for end in clean.uar_ci95)}]" if clean.uar_ci95 else ""
    of_ccc = f" [{', '.join(f'{end:.3f}' for end in clean.ccc_ci95)}]" if clean.ccc_ci95 else ""
    amount = f"{counted(result.n_utterances, 'clip')}, {counted(result.n_speakers, 'speaker')}"
    return f"{result.model} on {result.dataset} ({result.corpus}): {amount}; " + ", ".join(
        [
            *([f"clean UAR {100 * clean.uar:.1f} %{interval}, WA {100 * clean.wa:.1f} %"] if has_classes else []),
            *([f"{'' if has_classes else 'clean '}CCC {clean.ccc:.3f}{of_ccc}"] if clean.ccc is not None else []),
        ]
    )


def _sex_text(gap: SexGap) -> str:
    if gap.uar is None:
        return f"sex gap: unknown. {gap.note}"
    gap_text = f"sex gap: UAR of women minus men {100 * gap.uar:+.1f} points"
    if not gap.ci95:
        return f"{gap_text}: {NOT_JUDGED}. {gap.note}"
    interval = ", ".join(f"{100 * end:+.1f}" for end in gap.ci95)
    judged = f"limit {100 * MAX_SEX_GAP:.0f} where the interval excludes 0: {gap_verdict(gap)}"
    return f"{gap_text} [{interval}], {judged}. {gap.note}"


def _ccc_cells(line: StressLine) -> tuple[str, str]:
    return ("", "") if line.ccc is None else (f"{line.ccc:.3f}", f"{line.delta_ccc:+.3f}")


def _cells(line: StressLine) -> tuple[str, ...]:
    unfamiliar = "" if line.unfamiliar is None else f"{100 * line.unfamiliar:.0f} %"
    if line.uar is None:
        return (line.name, line.level, line.severity, "", "", "", "", unfamiliar, line.verdict)
    interval = line.delta_ci95
    return (
        line.name,
        line.level,
        line.severity,
        f"{100 * line.uar:.1f}",
        f"{100 * line.delta_uar:+.1f}",
        f"[{100 * interval[0]:+.1f}, {100 * interval[1]:+.1f}]" if interval else "none",
        "" if line.limit is None else f"{-100 * line.limit:+.1f}",
        unfamiliar,
        line.verdict,
    )


def shared_note(notes: dict[str, str]) -> str:
    """The notes of the intervals, each once: the most frequent first, then the others with their conditions."""
    named: dict[str, list[str]] = {}
    for name, note in notes.items():
        named.setdefault(note, []).append(name)
    most, *others = sorted(named, key=lambda note: -len(named[note])) or [""]
    return " ".join([most, *(f"{', '.join(named[note])}: {note}" for note in others)])


def _notices(skipped: dict[str, dict[str, str]], lines: dict[str, StressLine | None]) -> list[str]:
    found, classless = [], [name for name, line in lines.items() if line is None]
    for name, clips in skipped.items():
        first, why = next(iter(clips.items()))
        found.append(f"{name}: {len(clips)} clips skipped, such as {first}: {why}")
    if classless:
        found.append(f"left out, since a class has no clip that could be changed this way: {', '.join(classless)}")
    return found
