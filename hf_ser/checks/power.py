"""How many speakers and clips a comparison of two systems needs, from its smallest detectable difference in UAR.

The difference is a mean over speakers. Its spread is estimated from finished runs: a part between speakers, which more
clips do not reduce, and a part due to the choice of clips within a speaker, which falls with their number. How often a
paired test finds a difference follows from the noncentral t distribution.

Source: Cohen 1988, Statistical Power Analysis for the Behavioral Sciences, chapter 2 (paired t test).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np
from scipy.optimize import brentq
from scipy.stats import chi2, nct, t

from hf_ser.data.schema import UNKNOWN
from hf_ser.json_record import Record
from hf_ser.runs.comparison import check_has_classes, common_utterances
from hf_ser.runs.predictions import Prediction, check_predictions
from hf_ser.runs.report import PredictionArrays, prediction_arrays

POWER, LEVEL = 0.8, 0.05
FEWEST_SPEAKERS = 3
SPEAKERS = (6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 100, 200)
"""Numbers of speakers in the table."""
CLIP_FACTORS = (0.5, 1.0, 2.0)
"""Clips a speaker in the table, as multiples of those of the runs."""
DIFFERENCES = (0.01, 0.02, 0.03, 0.05, 0.1)
"""Differences in UAR for which the speakers needed are given."""
MOST_SPEAKERS = 100_000

ONE_RUN = (
    "One run does not show how similar the errors of two systems are. Two systems of its spread were assumed, whose "
    "errors on a speaker are {how}. Name a second run for the measured figure, which is mostly smaller."
)
NO_PARTS = (
    "No speaker has two clips of one class: how much of the spread is due to the choice of clips is unknown, and more "
    "clips are assumed not to help."
)


@dataclass(frozen=True, kw_only=True)
class Detectable(Record):
    """Smallest detectable differences in UAR with a number of speakers.

    Args:
        speakers: Test speakers.
        by_clips: The difference for each number of clips a speaker in `clips`, and last for unlimited ones.
    """

    speakers: int
    by_clips: list[float]


@dataclass(frozen=True, kw_only=True)
class PowerAnalysis(Record):
    """Differences that a comparison of two systems can detect.

    Args:
        names: The runs whose spread was taken: one or two.
        n_utterances, n_speakers: Size of these runs.
        power, level: Share of cases in which a difference is found; level of the two-sided test.
        correlation: Assumed correlation of the two systems' errors over speakers; None for two runs.
        difference: UAR of the second run minus that of the first; None for one run.
        detectable: Smallest difference that these speakers and clips can show.
        spread: Standard deviation of the difference over speakers.
        spread_ci95: Its 95 % interval.
        spread_between: The part of it between speakers.
        spread_of_clips: The part due to the choice of clips.
        clips: Numbers of clips a speaker of the table.
        table: Smallest differences by number of speakers.
        speakers_needed: Speakers that a difference in UAR needs, at the runs' clips a speaker; None for very many.
        notes: How to read the figures.
    """

    WHAT: ClassVar[str] = "a power analysis of hf_ser"

    names: list[str]
    n_utterances: int
    n_speakers: int
    power: float
    level: float
    correlation: float | None = None
    difference: float | None = None
    detectable: float
    spread: float
    spread_ci95: list[float]
    spread_between: float
    spread_of_clips: float
    clips: list[int]
    table: list[Detectable]
    speakers_needed: dict[str, int | None]
    notes: list[str]


def power_analysis(
    rows: Sequence[Prediction],
    other: Sequence[Prediction] | None = None,
    names: Sequence[str] = ("A", "B"),
    *,
    correlation: float = 0.0,
    power: float = POWER,
    level: float = LEVEL,
    differences: Sequence[float] = DIFFERENCES,
) -> PowerAnalysis:
    """Compute what a paired comparison of two systems can detect, from the spread of one or two runs over speakers.

    Args:
        rows, other: Results of `read_predictions`.
        names: Names of the runs.
        correlation: For one run, the assumed correlation of the errors of two such systems over speakers, from 0 to 1.
        power, level: Share of cases in which a difference should be found; level of the two-sided test.
        differences: Differences in UAR for which the number of speakers is computed.

    Raises:
        ValueError: as `compare`; clips without a speaker, fewer than three speakers, no spread, numbers out of range.
    """
    check_shares(power, level, correlation, differences)
    check_predictions(rows, f"predictions of {names[0]}")
    check_has_classes(rows, names[0])
    if other is None:
        a = prediction_arrays(rows)
        gain, notes = a.correct.astype(float), [ONE_RUN.format(how=_correlation_text(correlation))]
        scale = 2 * (1 - correlation)
    else:
        check_predictions(other, f"predictions of {names[1]}")
        check_has_classes(other, names[1])
        a, b, notes = common_utterances(rows, other, names)
        gain, scale = b.correct.astype(float) - a.correct, 1.0
    variance, of_clips, n_speakers = spread_of(a, gain, names[0])
    if of_clips is None:
        notes.append(NO_PARTS)
    variance, of_clips = scale * variance, scale * (of_clips or 0.0)
    if not variance:
        raise ValueError(
            f"{' and '.join(names[: 1 if other is None else 2])}: found no spread over the speakers, expected some: "
            "name runs that make errors; two runs must differ."
        )
    between, per_speaker = max(variance - of_clips, 0.0), len(a.rows) / n_speakers
    clips = sorted({max(1, round(factor * per_speaker)) for factor in CLIP_FACTORS})
    spreads = [math.sqrt(between + of_clips * per_speaker / number) for number in clips] + [math.sqrt(between)]
    total = math.sqrt(between + of_clips)
    freedom = n_speakers - 1
    return PowerAnalysis(
        names=list(names[: 1 if other is None else 2]),
        n_utterances=len(a.rows),
        n_speakers=n_speakers,
        power=power,
        level=level,
        correlation=correlation if other is None else None,
        difference=None if other is None else uar_difference(a, gain),
        detectable=detectable(total, n_speakers, power, level),
        spread=total,
        spread_ci95=[total * math.sqrt(freedom / chi2.ppf(share, freedom)) for share in (0.975, 0.025)],
        spread_between=math.sqrt(between),
        spread_of_clips=math.sqrt(of_clips),
        clips=clips,
        table=[
            Detectable(speakers=n, by_clips=[detectable(one, n, power, level) for one in spreads])
            for n in sorted({*SPEAKERS, n_speakers})
        ],
        speakers_needed={f"{one:g}": speakers_needed(one, total, power, level) for one in differences},
        notes=notes,
    )


def check_shares(power: float, level: float, correlation: float, differences: Sequence[float]) -> None:
    """Check the numbers of a power analysis.

    Raises:
        ValueError: one is out of range.
    """
    if not 0 < level < power < 1:
        raise ValueError(
            f"power is {power:g} and level {level:g}: expected 0 < level < power < 1, such as 0.8 and 0.05."
        )
    if not 0 <= correlation < 1:
        raise ValueError(f"correlation is {correlation:g}: expected 0 (unrelated errors) to below 1 (the same errors).")
    if wrong := [one for one in differences if not 0 < one < 1]:
        raise ValueError(
            f"difference is {wrong[0]:g}: expected a share above 0 and below 1, such as 0.02 for 2 points."
        )


def spread_of(answers: PredictionArrays, gain: np.ndarray, name: str) -> tuple[float, float | None, int]:
    """Variance over speakers of the mean gain, its part due to the choice of clips (None: unknown), number of speakers.

    Each speaker's value is that of the linearised UAR, so that speakers with different numbers of clips are weighted
    correctly.

    Shapes:
        gain: `(utterances,)`, such as 1 for a right answer.
    """
    speakers = np.array(answers.column("speaker"))
    people, who = np.unique(speakers, return_inverse=True)
    if UNKNOWN in people or len(people) < FEWEST_SPEAKERS:
        found = (
            f"{(speakers == UNKNOWN).sum()} clips without a speaker" if UNKNOWN in people else f"{len(people)} speakers"
        )
        raise ValueError(f"{name}: found {found}, expected {FEWEST_SPEAKERS} or more known speakers.")
    n, n_classes, classes = len(people), len(answers.labels), answers.references
    counts = np.zeros((n, n_classes))
    np.add.at(counts, (who, classes), 1)
    gains = np.zeros_like(counts)
    np.add.at(gains, (who, classes), gain)
    support = counts.sum(axis=0)
    if not support.all():
        absent = [label for label, of_class in zip(answers.labels, support, strict=True) if not of_class]
        raise ValueError(f"{name}: found no utterance of {', '.join(absent)}, expected all classes of the task.")
    values = (n / n_classes * (gains - counts * (gains.sum(axis=0) / support)) / support).sum(axis=1)
    deviation = gain - (gains / counts.clip(1))[who, classes]
    freedom = (counts - 1).clip(0).sum(axis=0)
    if not freedom.all():
        return float(values.var(ddof=1)), None, n
    of_class = np.bincount(classes, deviation**2, n_classes) / freedom
    return float(values.var(ddof=1)), float((of_class * n / support).sum() / n_classes**2), n


def uar_difference(answers: PredictionArrays, gain: np.ndarray) -> float:
    """The mean gain of the classes: UAR of the second run minus that of the first."""
    n_classes = len(answers.labels)
    return float((np.bincount(answers.references, gain, n_classes) / np.bincount(answers.references)).mean())


def detectable(spread: float, n_speakers: int, power: float = POWER, level: float = LEVEL) -> float:
    """Smallest mean difference that a paired t test over some speakers finds with the given power."""
    return noncentrality(n_speakers - 1, power, level) * spread / math.sqrt(n_speakers)


@cache
def noncentrality(freedom: int, power: float, level: float) -> float:
    """The standardised mean whose sign a two-sided t test finds with the given power."""
    limit, high = t.ppf(1 - level / 2, freedom), 1.0
    while nct.sf(limit, freedom, high) < power:
        high *= 2
    return brentq(lambda shift: nct.sf(limit, freedom, shift) - power, 0, high)


def speakers_needed(difference: float, spread: float, power: float = POWER, level: float = LEVEL) -> int | None:
    """Fewest speakers, at least three, with which a difference is found; None for more than `MOST_SPEAKERS`."""
    low, high = FEWEST_SPEAKERS - 1, FEWEST_SPEAKERS
    while detectable(spread, high, power, level) > difference:
        low, high = high, 2 * high
        if high > MOST_SPEAKERS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if detectable(spread, middle, power, level) <= difference else (middle, high)
    return high


def format_power(analysis: PowerAnalysis) -> str:
    """A power analysis as plain text, differences in points of UAR."""
    one, low, high = analysis, *analysis.spread_ci95
    between, of_clips = _points(one.spread_between), _points(one.spread_of_clips)
    rounded = round(one.n_utterances / one.n_speakers)
    lines = [
        f"{' and '.join(one.names)}: {one.n_utterances} utterances, {one.n_speakers} speakers, {rounded} clips each",
        f"spread of a difference over speakers: {_points(one.spread)} points of UAR (95 % interval {_points(low)} to "
        f"{_points(high)}); {between} between speakers, {of_clips} due to the choice of clips",
        *one.notes,
        "",
        f"smallest difference that a paired test finds in {100 * one.power:.0f} of 100 cases (two-sided, "
        f"{100 * one.level:g} %), in points of UAR",
        "speakers" + "".join(f"{f'{clips} clips':>12}" for clips in one.clips) + f"{'unlimited':>12}",
    ]
    for row in one.table:
        mark = " *" if row.speakers == one.n_speakers else ""
        lines.append(f"{row.speakers:>8}" + "".join(f"{_points(value):>12}" for value in row.by_clips) + mark)
    needed = [f"{100 * float(d):g} points: {n or f'over {MOST_SPEAKERS}'}" for d, n in one.speakers_needed.items()]
    lines += ["", f"speakers that a difference needs at {rounded} clips each: {', '.join(needed)}"]
    if one.difference is not None:
        lines.append(
            f"{one.names[1]} - {one.names[0]} is {100 * one.difference:+.1f} points; these speakers can show "
            f"{_points(one.detectable)}"
        )
    return "\n".join(lines)


def _points(share: float) -> str:
    return f"{100 * share:.1f}"


def _correlation_text(correlation: float) -> str:
    return f"correlated by {correlation:g}" if correlation else "unrelated"
