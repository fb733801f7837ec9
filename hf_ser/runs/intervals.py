"""Bootstrap intervals over the test speakers.

Speakers are drawn instead of utterances, since the clips of a speaker are not independent. A resample is a multinomial
weight for each speaker's confusion matrix, so that all resamples are one matrix product.

The percentiles are *expanded*: with n speakers, the plain percentile interval is too narrow by sqrt((n - 1) / n), and
by the normal distribution in place of Student's t. Both are corrected in the levels.

Source: Hesterberg 2015, What Teachers Should Know About the Bootstrap, The American Statistician 69(4), section 5.3.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import numpy as np
from scipy.special import ndtr, stdtrit

from hf_ser.data.schema import UNKNOWN
from hf_ser.runs.scores import ROUNDING, uar_from_confusion

RESAMPLES = 5_000
SEED = 0
CONFIDENCE = 0.95

COVERAGE = {2: 51, 3: 74, 4: 86, 5: 91}
"""Measured coverage of the nominal 95 % interval of UAR in %, by number of speakers: see Intervals in
scripts/recipes/README.md."""

PAIRED_COVERAGE = {2: 51, 3: 75, 4: 88, 5: 92, 6: 92}
"""Measured coverage of the interval of a difference of two runs."""

CCC_COVERAGE = {2: 50, 3: 76, 4: 86, 5: 90}
"""Measured coverage of the interval of a mean CCC."""

GAP_COVERAGE = {2: "67 to 85", 3: "90"}
"""Measured coverage of the interval of a gap between two groups, by the speakers of the smaller one."""

Confusions = Mapping[str, np.ndarray]
"""One confusion matrix for each speaker, `(classes, classes)`, rows the reference."""


def wa_from_confusion(confusion: np.ndarray) -> np.ndarray:
    """Plain accuracy.

    Shapes:
        confusion: (..., classes, classes); the result: (...)
    """
    return np.trace(confusion, axis1=-2, axis2=-1) / confusion.sum(axis=(-2, -1))


def macro_f1_from_confusion(confusion: np.ndarray) -> np.ndarray:
    """Mean F1 over the classes; every class has a reference.

    Shapes:
        confusion: (..., classes, classes); the result: (...)
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    return (2 * hits / (confusion.sum(axis=-1) + confusion.sum(axis=-2))).mean(axis=-1)


STATISTICS = {"uar": uar_from_confusion, "wa": wa_from_confusion, "macro_f1": macro_f1_from_confusion}


def speaker_intervals(by_speaker: Confusions, resamples: int = RESAMPLES) -> tuple[dict[str, list[float] | None], str]:
    """95 % intervals of the pooled `STATISTICS`.

    Returns:
        `{statistic: [low, high]}` and a note; the values are None where the note says why there are none.
    """
    return _intervals([by_speaker], lambda pooled: pooled[0], resamples, COVERAGE)


def difference_intervals(
    by_speaker: Confusions, other: Confusions, resamples: int = RESAMPLES
) -> tuple[dict[str, list[float] | None], str]:
    """95 % intervals of the differences `other - by_speaker` of two models, paired by the same draws.

    Raises:
        ValueError: the two have different speakers or references.
    """
    if by_speaker.keys() != other.keys() or any(
        (matrix.sum(axis=1) != other[name].sum(axis=1)).any() for name, matrix in by_speaker.items()
    ):
        raise ValueError(
            "paired interval: found two sets of confusion matrices with different speakers or references, expected "
            "predictions of the same utterances. Join the runs by utterance first."
        )
    other = {name: other[name] for name in by_speaker}
    return _intervals([by_speaker, other], lambda pooled: pooled[1] - pooled[0], resamples, PAIRED_COVERAGE)


def gap_interval(group: Confusions, other: Confusions, resamples: int = RESAMPLES) -> tuple[list[float] | None, str]:
    """95 % interval of `UAR(group) - UAR(other)` of two independent groups, with Welch's degrees of freedom."""
    for one in (group, other):
        if reason := _why_none(one):
            return None, reason
    pooled = [_pooled(one, _draws(len(one), resamples, stream)) for stream, one in enumerate((group, other))]
    complete = _have_every_class(pooled[0]) & _have_every_class(pooled[1])
    if reason := _too_many_dropped(complete):
        return None, reason
    uars = [uar_from_confusion(one[complete]) for one in pooled]
    note = _note(f"{len(group)} and {len(other)} speakers, drawn independently", complete)
    fewest = min(len(group), len(other))
    note += _coverage_note(f"With {fewest} speakers in a group", GAP_COVERAGE.get(fewest))
    return _expanded(uars[0] - uars[1], uars, [len(group), len(other)]), note


def moment_intervals(
    by_speaker: Mapping[str, np.ndarray], figures: Callable[[np.ndarray], np.ndarray], resamples: int = RESAMPLES
) -> tuple[list[list[float]] | None, str]:
    """95 % intervals of figures that follow from sums over utterances, such as the CCC of each dimension.

    Args:
        by_speaker: The sums of each speaker, `(..., dimensions, 6)`, the first of which counts annotated utterances.
        figures: Computes the figures of pooled sums `(resamples, ..., dimensions, 6)`; NaN where there is none.

    Returns:
        `[low, high]` of each figure, and a note; None where the note says why there are none.

    Shapes:
        the result of `figures`: `(resamples, figures)`.
    """
    if reason := _why_none(by_speaker, lambda sums: sums[..., 0].max()):
        return None, reason
    values = figures(_pooled(by_speaker, _draws(len(by_speaker), resamples)))
    complete = np.isfinite(values).all(axis=1)
    if reason := _too_many_dropped(complete, "a dimension that varies"):
        return None, reason
    found = [_expanded(one, [one], [len(by_speaker)]) for one in values[complete].T]
    few = _coverage_note(f"With only {len(by_speaker)} speakers", CCC_COVERAGE.get(len(by_speaker)))
    return found, _note(f"{len(by_speaker)} speakers", complete, "a dimension that varies") + few


def holds_zero(interval: Sequence[float]) -> bool:
    """Whether an interval `[low, high]` contains 0, with a tolerance for rounding."""
    return interval[0] <= ROUNDING and interval[1] >= -ROUNDING


def _intervals(
    runs: Sequence[Confusions], figure, resamples: int, coverage: Mapping[int, int]
) -> tuple[dict[str, list[float] | None], str]:
    """Intervals of `figure([statistic of each run])`; all runs have the same speakers and draws."""
    if reason := _why_none(runs[0]):
        return dict.fromkeys(STATISTICS), reason
    n_speakers = len(runs[0])
    draws = _draws(n_speakers, resamples)
    pooled = [_pooled(run, draws) for run in runs]
    complete = _have_every_class(pooled[0])
    if reason := _too_many_dropped(complete):
        return dict.fromkeys(STATISTICS), reason
    intervals = {}
    for name, statistic in STATISTICS.items():
        values = figure([statistic(one[complete]) for one in pooled])
        intervals[name] = _expanded(values, [values], [n_speakers])
    few = _coverage_note(f"With only {n_speakers} speakers", coverage.get(n_speakers))
    return intervals, _note(f"{n_speakers} speakers", complete) + few


@lru_cache(maxsize=4)  # the same for every run of as many speakers
def _draws(n_speakers: int, resamples: int, stream: int = 0) -> np.ndarray:
    """How often each speaker is drawn: (resamples, speakers). Another stream is independent of the first."""
    generator = np.random.default_rng([SEED, stream])
    counts = generator.multinomial(n_speakers, np.full(n_speakers, 1 / n_speakers), size=resamples)
    return counts.astype(np.float64)  # so that BLAS computes the product


def _pooled(by_speaker: Confusions, draws: np.ndarray) -> np.ndarray:
    """Confusion matrices of the resamples: (resamples, classes, classes)."""
    matrices = np.stack(list(by_speaker.values())).astype(np.float64)
    return (draws @ matrices.reshape(len(matrices), -1)).reshape(len(draws), *matrices.shape[1:])


def _have_every_class(pooled: np.ndarray) -> np.ndarray:
    """Which resamples have every class: (resamples,)."""
    return (pooled.sum(axis=2) > 0).all(axis=1)


def _expanded(values: np.ndarray, parts: Sequence[np.ndarray], sizes: Sequence[int]) -> list[float]:
    """Expanded percentile interval of resampled values.

    Args:
        values: The figure in each resample.
        parts: The figure of each independent group in each resample; `values` is their sum or difference.
        sizes: Number of speakers in each group.

    Shapes:
        values, each of parts: (resamples,)
    """
    sizes, variances = np.array(sizes), np.array([part.var() for part in parts])
    unbiased = variances * sizes / (sizes - 1)
    if not unbiased.any():
        return [float(values[0])] * 2
    freedom = unbiased.sum() ** 2 / (unbiased**2 / (sizes - 1)).sum()  # Welch's; n - 1 for a single group
    z = stdtrit(freedom, (1 + CONFIDENCE) / 2) * np.sqrt(unbiased.sum() / variances.sum())
    return np.quantile(values, [ndtr(-z), ndtr(z)]).tolist()


def _why_none(by_speaker: Confusions, count: Callable[[np.ndarray], float] = np.sum) -> str | None:
    if UNKNOWN in by_speaker:
        n_unknown = int(count(by_speaker[UNKNOWN]))
        return f"No interval: {n_unknown} utterances have no speaker, and the bootstrap draws whole speakers."
    if len(by_speaker) < 2:
        return "No interval: one speaker only, and the bootstrap draws whole speakers."
    return None


def _too_many_dropped(complete: np.ndarray, lacked: str = "a class of the task") -> str | None:
    dropped = int((~complete).sum())
    if dropped <= len(complete) // 2:
        return None
    return f"No interval: {dropped} of {len(complete)} resamples of the speakers lacked {lacked}."


def _note(subject: str, complete: np.ndarray, lacked: str = "a class") -> str:
    return (
        f"Expanded percentile bootstrap over {subject}, {len(complete)} resamples, seed {SEED}; "
        f"{int((~complete).sum())} resamples lacked {lacked} and were dropped. "
        "Covers the choice of test speakers, not chance in training."
    )


def _coverage_note(subject: str, measured: int | str | None) -> str:
    if measured is None:
        return ""
    return (
        f" {subject} it is too narrow: in simulations it held the true figure {measured} times in 100 instead of 95. "
        "An interval of zero width only says that these speakers have the same figure."
    )
