"""Valence, arousal and dominance of a data set's rows, on the scale that all corpora are brought to."""

import re
from collections.abc import Mapping

import numpy as np
from datasets import Dataset

from hf_ser.data.corpora import CORPORA
from hf_ser.models.dimensions import SCALE

COLUMNS = {"valence": "valence", "arousal": "activation", "dominance": "dominance"}
"""Columns of a data set by the names of the dimensions."""

STATED = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*,\s*(-?\d+(?:\.\d+)?)\s*")


def stated_scale(text: str | None) -> tuple[float, float] | None:
    """The two ends of a scale in `1,7`; None where none is stated.

    Raises:
        ValueError: it is something else.
    """
    if text is None:
        return None
    found = STATED.fullmatch(str(text))
    ends = tuple(map(float, found.groups())) if found else (0.0, 0.0)
    if ends[0] >= ends[1]:
        raise ValueError(
            f"--dimension_scale is {text}: expected the lowest and the highest value that raters could give, such as "
            "--dimension_scale=1,7 or --dimension_scale=-1,1."
        )
    return ends


def dimensions_of(dataset: Dataset, stated: tuple[float, float] | None = None) -> dict[str, np.ndarray]:
    """The dimensions that a data set has, from -1 to 1, NaN where a row is not annotated.

    Args:
        dataset: A prepared data set.
        stated: Scale of rows whose corpus states none, as a table.

    Shapes: each `(rows,)`.

    Raises:
        ValueError: no row is annotated; a corpus whose scale is not known; a value outside a stated scale.
    """
    columns = {name: one for name, one in COLUMNS.items() if one in dataset.column_names}
    given = dataset.select_columns(["corpus", *columns.values()])[:]
    values = {name: np.array(given[one], dtype=np.float64) for name, one in columns.items()}
    values = {name: one for name, one in values.items() if not np.isnan(one).all()}
    if not values:
        raise ValueError(
            f"Found no valence, arousal or dominance in any of {len(dataset)} rows, expected the raters' means in one "
            "of these columns at least. Corpora with them are "
            f"{', '.join(name for name, one in CORPORA.items() if hasattr(one, 'DIMENSION_SCALE'))} and tables that "
            "have such columns: use one of them, or --target label."
        )
    corpora = np.array(given["corpus"])
    for corpus in np.unique(corpora):
        rows = corpora == corpus
        low, high = _scale(corpus, {name: one[rows] for name, one in values.items()}, stated)
        for one in values.values():
            one[rows] = SCALE[0] + (one[rows] - low) * (SCALE[1] - SCALE[0]) / (high - low)
    return values


def _scale(corpus: str, values: Mapping[str, np.ndarray], stated: tuple[float, float] | None) -> tuple[float, float]:
    """The scale of a corpus: its own, or the stated one, within which all values then have to be."""
    known = getattr(CORPORA.get(corpus), "DIMENSION_SCALE", None)
    found = np.concatenate(list(values.values()))
    if known or np.isnan(found).all():
        return known or SCALE
    range_found = f"{corpus}: found values of {', '.join(values)} from {np.nanmin(found):g} to {np.nanmax(found):g}"
    if stated is None:
        raise ValueError(
            f"{range_found}, and no scale. Expected the lowest and the highest value that raters could give: state "
            "them, such as --dimension_scale=1,5."
        )
    if np.nanmin(found) < stated[0] or np.nanmax(found) > stated[1]:
        raise ValueError(
            f"{range_found}, --dimension_scale {stated[0]:g},{stated[1]:g}: expected no value outside the scale. State "
            "the one on which the raters judged, or mend the table."
        )
    return stated
