"""What a model is trained towards: label, votes of the raters, what most of them chose, or valence and its like."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset

TARGETS = ("label", "votes", "majority", "dimensions", "both")
DIMENSIONAL = ("dimensions", "both")
"""Targets with valence, arousal and dominance: in place of the label, or beside it."""


def with_target(
    dataset: Dataset,
    rows: Sequence[int],
    target: str = "label",
    columns: Mapping[str, Mapping[str, Any]] | None = None,
) -> Dataset:
    """The rows to train on, each with a `target` where that is not simply its label.

    Rows to evaluate get none: UAR and the choice of the checkpoint stay against the corpus's label.

    Args:
        dataset: A prepared data set.
        rows: Positions of the training rows.
        target: `label` is the corpus's; `votes` the distribution of the raters' votes; `majority` the class with most
            votes, where several tie the corpus's label if it is one of them, else equal parts of each. A row without
            votes has its label as target. Of DIMENSIONAL `columns` has the targets (`dimension_targets`).
        columns: More columns to read the rows with, as `with_columns`.

    Shapes:
        `target` of a row: `(classes,)` float32.

    Raises:
        ValueError: unknown target; none of the rows has votes.
    """
    if target not in TARGETS:
        raise ValueError(f"Unknown target '{target}': expected one of {', '.join(TARGETS)}.")
    if target in ("label", *DIMENSIONAL):
        return with_columns(dataset.select(rows), columns or {})
    chosen = dataset.select_columns(["id", "label", "votes"]).select(rows)
    votes = chosen["votes"][:]
    voted = np.array([given is not None for given in votes], dtype=bool)
    if not voted.any():
        raise ValueError(
            f"Found no votes of raters in the {len(votes)} training rows, expected the votes column to be filled in "
            "one of them at least. Some corpora were published without (RAVDESS is one), and none are invented here: "
            "use --target label."
        )
    labels = np.eye(dataset.features["label"].num_classes)[chosen["label"][:]]
    shares = labels.copy()
    shares[voted] = [given for given in votes if given is not None]
    shares /= shares.sum(axis=1, keepdims=True)
    targets = shares if target == "votes" else _majority(shares, labels)
    by_id = dict(zip(chosen["id"][:], targets.astype(np.float32).tolist(), strict=True))
    return with_columns(dataset.select(rows), {**(columns or {}), "target": by_id})


def dimension_targets(dataset: Dataset, dimensions: Mapping[str, np.ndarray], with_labels: bool) -> dict[str, list]:
    """The targets of all rows by id, also of those to evaluate: the label as one of the classes, then the dimensions.

    Args:
        dataset: A prepared data set.
        dimensions: Result of `dimensions_of`.
        with_labels: Whether the classes are predicted too; else the dimensions are alone.

    Shapes:
        of a row: `(outputs,)` float32, NaN where a dimension is not annotated.
    """
    columns = [np.stack(list(dimensions.values()), axis=1)]
    if with_labels:
        columns.insert(0, np.eye(dataset.features["label"].num_classes)[dataset["label"][:]])
    rows = np.concatenate(columns, axis=1).astype(np.float32)
    return dict(zip(dataset["id"][:], rows.tolist(), strict=True))


def with_columns(dataset: Dataset, columns: Mapping[str, Mapping[str, Any]]) -> Dataset:
    """A data set whose rows are read with other values in some columns, or with more columns.

    To add a column to a selection, `datasets` would copy all of its audio.

    Args:
        dataset: A data set with the column `id`.
        columns: The values of each column, by id; without any the data set stays as it is.
    """
    return dataset.with_transform(SetColumns(columns)) if columns else dataset


@dataclass(frozen=True, eq=False)  # `datasets` compares transforms, and arrays have no single truth value
class SetColumns:
    """Rows as they are read from a data set, with the values of some columns by their id."""

    columns: Mapping[str, Mapping[str, Any]]

    def __call__(self, rows: dict[str, list]) -> dict[str, list]:
        """Args: columns of some rows, their `id` among them."""
        return {**rows, **{column: [values[name] for name in rows["id"]] for column, values in self.columns.items()}}


def most_voted(votes: np.ndarray) -> np.ndarray:
    """The class with the most votes, or all that tie for it.

    Shapes:
        votes: `(rows, classes)`; returns the same, bool.
    """
    return np.isclose(votes, votes.max(axis=1, keepdims=True), rtol=0, atol=1e-6)  # shares are stored as float32


def _majority(shares: np.ndarray, labels: np.ndarray) -> np.ndarray:
    tied = most_voted(shares)
    settled = (tied & (labels > 0)).any(axis=1, keepdims=True)
    chosen = np.where(settled, labels, tied)
    return chosen / chosen.sum(axis=1, keepdims=True)
