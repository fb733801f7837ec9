"""Figures of valence, arousal and dominance: the concordance of predictions with the annotation, and its interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hf_ser.data.schema import UNKNOWN
from hf_ser.json_record import Record
from hf_ser.models.dimensions import SCALE
from hf_ser.runs.intervals import moment_intervals
from hf_ser.runs.predictions import Prediction

MOST_POINTS = 1000
"""Most points of a scatter plot in a report."""

MEAN = "mean"
"""Key of the mean over the dimensions."""


@dataclass(frozen=True, kw_only=True)
class DimensionGroup(Record):
    """CCC of one group of utterances, such as a speaker.

    Args:
        n: Utterances.
        ccc: By dimension; None where fewer than two utterances are annotated, or nothing varies.
        mean_ccc: Mean over the dimensions that have one.
        mean_ccc_ci95: 95 % interval over the speakers of a sex; None for other groups, and where there is none.
        sex: Sex of the speaker, if known.
    """

    n: int
    ccc: dict[str, float | None]
    mean_ccc: float | None
    mean_ccc_ci95: list[float] | None = None
    sex: Literal["female", "male"] | None = None


@dataclass(frozen=True, kw_only=True)
class DimensionFigures(Record):
    """How well a model predicts valence, arousal and dominance.

    Args:
        scale: Lowest and highest value of predictions and annotations.
        n: Annotated utterances by dimension.
        ccc: Concordance correlation coefficient (CCC) by dimension, 1 is best; None where nothing varies.
        ccc_ci95: Its 95 % interval over test speakers by dimension, made as that of UAR.
        mean_ccc: Mean CCC over the dimensions: the headline figure.
        mean_ccc_ci95: Its 95 % interval.
        ccc_ci95_note: How the intervals were made and how far they hold, or why there are none.
        pearson: Pearson correlation by dimension, which ignores a wrong scale or offset.
        mae: Mean absolute error by dimension, on the scale.
        per_speaker, per_sex, per_fold: CCC by group; unknown holds utterances without a speaker or a sex.
        points: Annotated and predicted value of utterances by dimension; a sample if there are many.
    """

    scale: list[float]
    n: dict[str, int]
    ccc: dict[str, float | None]
    ccc_ci95: dict[str, list[float] | None]
    mean_ccc: float | None
    mean_ccc_ci95: list[float] | None
    ccc_ci95_note: str
    pearson: dict[str, float | None]
    mae: dict[str, float | None]
    per_speaker: dict[str, DimensionGroup]
    per_sex: dict[str, DimensionGroup]
    per_fold: dict[str, DimensionGroup]
    points: dict[str, list[list[float]]]

    def without_names(self) -> "DimensionFigures":
        """The figures without names of speakers."""
        names = [UNKNOWN if name == UNKNOWN else f"speaker {n}" for n, name in enumerate(self.per_speaker, start=1)]
        return replace(self, per_speaker=dict(zip(names, self.per_speaker.values(), strict=True)))


@dataclass(frozen=True, kw_only=True)
class ConcordanceChange(Record):
    """Mean CCC of changed recordings.

    Args:
        ccc: Mean CCC of the changed clips; None where there is none.
        delta_ccc: Change against the same clips unchanged.
        delta_ccc_ci95: 95 % interval of the change over speakers; None where there is none.
    """

    ccc: float | None = None
    delta_ccc: float | None = None
    delta_ccc_ci95: list[float] | None = None


def dimension_figures(rows: Sequence[Prediction]) -> DimensionFigures:
    """Compute the figures of rows that have dimensions and are sorted by id."""
    names = list(rows[0].dimensions)
    moments = np.array([_moments(row) for row in rows])
    columns = {key: [getattr(row, key) or UNKNOWN for row in rows] for key in ("speaker", "sex", "fold")}
    pooled = moments.sum(0)
    by_speaker = summed(moments, columns["speaker"])
    varies = ~np.isnan(ccc_from_moments(pooled))  # the mean is of the dimensions that have a CCC
    intervals, note = None, "No interval: neither predictions nor annotations vary."
    if varies.any():
        intervals, note = moment_intervals({name: one[varies] for name, one in by_speaker.items()}, _with_mean)
    varying = [name for name, one in zip(names, varies, strict=True) if one]
    of_each = dict.fromkeys([*names, MEAN]) | dict(zip([*varying, MEAN], intervals or (), strict=False))
    return DimensionFigures(
        scale=list(SCALE),
        n=dict(zip(names, pooled[:, 0].astype(int).tolist(), strict=True)),
        **_ccc(pooled, names),
        ccc_ci95={name: of_each[name] for name in names},
        mean_ccc_ci95=of_each[MEAN],
        ccc_ci95_note=note,
        pearson=_numbers(names, pearson_from_moments(pooled)),
        mae=_numbers(names, _mean_absolute_error(rows, names)),
        per_speaker=_per_speaker(rows, by_speaker, names),
        per_sex=_per_sex(moments, columns, names),
        per_fold=_groups(moments, columns["fold"], names),
        points=_points(rows, names),
    )


def concordance_change(rows: Sequence[Prediction], changed: Mapping[str, Mapping[str, float]]) -> ConcordanceChange:
    """Compute the mean CCC of other predictions for the same utterances, and its change against the rows' own.

    Args:
        rows: Rows that have dimensions.
        changed: The other predictions by id.
    """
    pairs = [[sums_of(one, row.annotated) for one in (row.dimensions, changed[row.id])] for row in rows]
    moments = np.array(pairs)
    by_speaker = summed(moments, [row.speaker or UNKNOWN for row in rows])
    varies = ~np.isnan(ccc_from_moments(moments.sum(0))).any(0)
    if not varies.any():
        return ConcordanceChange()
    before, after = _with_mean(moments.sum(0)[:, varies])[:, -1]
    intervals, _ = moment_intervals({name: one[:, varies] for name, one in by_speaker.items()}, _change)
    return ConcordanceChange(
        ccc=float(after),
        delta_ccc=float(after - before),
        delta_ccc_ci95=intervals[0] if intervals else None,
    )


def _change(moments: np.ndarray) -> np.ndarray:
    """Mean CCC of the second minus that of the first predictions: (resamples, 2, dimensions, 6) to (resamples, 1)."""
    means = _with_mean(moments)[..., -1]
    return means[:, 1:] - means[:, :1]


def _moments(row: Prediction) -> list[list[float]]:
    """Sums from which the CCC of each dimension is computed: `(dimensions, 6)`."""
    return sums_of(row.dimensions, row.annotated)


def sums_of(predictions: Mapping[str, float], annotations: Mapping[str, float | None]) -> list[list[float]]:
    """The sums of one utterance, zeros where a dimension is not annotated: `(dimensions, 6)`."""
    found = []
    for name, predicted in predictions.items():
        if (annotated := annotations[name]) is None:
            found.append([0.0] * 6)
        else:
            found.append([1.0, predicted, annotated, predicted**2, annotated**2, predicted * annotated])
    return found


def _parts(moments: np.ndarray) -> tuple[np.ndarray, ...]:
    """Number, difference of the means, both variances and the covariance, from sums `(..., dimensions, 6)`."""
    n, predicted, annotated, predicted_squares, annotated_squares, products = np.moveaxis(moments, -1, 0)
    count = np.maximum(n, 1)
    means = predicted / count, annotated / count
    variances = predicted_squares / count - means[0] ** 2, annotated_squares / count - means[1] ** 2
    return n, means[0] - means[1], *(one.clip(min=0) for one in variances), products / count - means[0] * means[1]


def ccc_from_moments(moments: np.ndarray) -> np.ndarray:
    """CCC of each dimension; NaN where fewer than two utterances are annotated, or nothing varies.

    Shapes:
        moments: (..., dimensions, 6); the result: (..., dimensions)

    Source: Lin 1989, A concordance correlation coefficient to evaluate reproducibility, Biometrics 45(1).
    """
    n, apart, *variances, covariance = _parts(moments)
    spread = sum(variances) + apart**2
    defined = (n > 1) & (spread > 1e-12)
    return np.where(defined, 2 * covariance / np.where(defined, spread, 1.0), np.nan)


def pearson_from_moments(moments: np.ndarray) -> np.ndarray:
    """Pearson correlation of each dimension; NaN where one of the two does not vary. Shapes as `ccc_from_moments`."""
    n, _, predicted, annotated, covariance = _parts(moments)
    spread = np.sqrt(predicted * annotated)
    defined = (n > 1) & (spread > 1e-12)
    return np.where(defined, covariance / np.where(defined, spread, 1.0), np.nan)


def _with_mean(moments: np.ndarray) -> np.ndarray:
    """CCC of each dimension and their mean: (..., dimensions + 1)."""
    ccc = ccc_from_moments(moments)
    return np.concatenate([ccc, ccc.mean(-1, keepdims=True)], axis=-1)


def summed(moments: np.ndarray, groups: Sequence[str]) -> dict[str, np.ndarray]:
    """The moments of each group, sorted by its name; moments: (utterances, dimensions, 6)."""
    groups = np.array(groups)
    return {name: moments[groups == name].sum(0) for name in sorted(set(groups.tolist()))}


def _ccc(pooled: np.ndarray, names: Sequence[str]) -> dict:
    """`ccc` and `mean_ccc` of pooled moments."""
    ccc = _numbers(names, ccc_from_moments(pooled))
    known = [one for one in ccc.values() if one is not None]
    return {"ccc": ccc, "mean_ccc": sum(known) / len(known) if known else None}


def _numbers(names: Sequence[str], values: np.ndarray) -> dict[str, float | None]:
    return {name: None if np.isnan(one) else float(one) for name, one in zip(names, values, strict=True)}


def _groups(moments: np.ndarray, groups: Sequence[str], names: Sequence[str]) -> dict[str, DimensionGroup]:
    counts = {name: groups.count(name) for name in groups}
    return {name: DimensionGroup(n=counts[name], **_ccc(one, names)) for name, one in summed(moments, groups).items()}


def _per_speaker(
    rows: Sequence[Prediction], by_speaker: Mapping[str, np.ndarray], names: Sequence[str]
) -> dict[str, DimensionGroup]:
    of_speaker: dict[str, list[Prediction]] = {}
    for row in rows:
        of_speaker.setdefault(row.speaker or UNKNOWN, []).append(row)
    found = {}
    for name, moments in by_speaker.items():
        sexes = {row.sex for row in of_speaker[name]} if name != UNKNOWN else set()
        sex = next(iter(sexes)) if len(sexes) == 1 else None
        found[name] = DimensionGroup(n=len(of_speaker[name]), **_ccc(moments, names), sex=sex)
    return found


def _per_sex(
    moments: np.ndarray, columns: Mapping[str, Sequence[str]], names: Sequence[str]
) -> dict[str, DimensionGroup]:
    found, sexes, speakers = {}, np.array(columns["sex"]), np.array(columns["speaker"])
    for name, group in _groups(moments, columns["sex"], names).items():
        chosen = sexes == name
        intervals, _ = moment_intervals(summed(moments[chosen], speakers[chosen].tolist()), _with_mean)
        found[name] = replace(group, mean_ccc_ci95=intervals[-1] if intervals else None)
    return found


def _mean_absolute_error(rows: Sequence[Prediction], names: Sequence[str]) -> np.ndarray:
    apart = [
        [abs(row.dimensions[name] - row.annotated[name]) if row.annotated[name] is not None else np.nan for row in rows]
        for name in names
    ]
    return np.array([np.nan if np.isnan(one).all() else np.nanmean(one) for one in apart])


def _points(rows: Sequence[Prediction], names: Sequence[str]) -> dict[str, list[list[float]]]:
    """Annotated and predicted value of each utterance; of a sample if there are more than `MOST_POINTS`."""
    chosen = rows
    if len(rows) > MOST_POINTS:
        drawn = np.random.default_rng(0).choice(len(rows), MOST_POINTS, replace=False)
        chosen = [rows[index] for index in sorted(drawn)]
    return {
        name: [
            [round(row.annotated[name], 4), round(row.dimensions[name], 4)]
            for row in chosen
            if row.annotated[name] is not None
        ]
        for name in names
    }
