"""Solving a ridge regression, between the rows or between the features, whichever are fewer."""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.linalg import solve
from sklearn.kernel_ridge import KernelRidge

PENALTIES, PENALTY = (0.3, 0.6, 1.2, 2.5), "ridge_lambda"
"""Penalties among which speakers who were left out choose, in mean squares of a vector's features; and their name."""
INNER_FOLDS = 5
LEAST_SCALE = 1e-6
"""Deviation under which a feature counts as constant."""


def row_products(vectors: np.ndarray) -> np.ndarray | None:
    """The products between rows, where these are no more than the features; the 1 is for a feature of 1, the bias."""
    return vectors @ vectors.T / vectors.shape[1] + 1 if len(vectors) <= vectors.shape[1] else None


def ridge_solutions(
    vectors: np.ndarray,
    products: np.ndarray | None,
    rows: np.ndarray,
    centred: np.ndarray,
    weights: np.ndarray,
    strengths: Sequence[float],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Weight `(targets, size)` and bias `(targets,)` for each strength.

    Args:
        vectors: Of all rows.
        products: Result of `row_products`.
        rows: Those to solve for.
        centred, weights: Their targets less a constant, and how much each row counts.
        strengths: Penalties, which have the products of the features in common.

    Shapes: vectors `(all rows, size)`, rows and weights `(rows,)`, centred `(rows, targets)`.
    """
    size = vectors.shape[1]
    if products is None:
        roots = np.sqrt(weights)[:, None]
        features = np.column_stack([vectors[rows] / size**0.5, np.ones(len(rows))]) * roots
        squares, of_targets = features.T @ features, features.T @ (roots * centred)
        for strength in strengths:
            solved = solve(squares + strength * np.eye(size + 1), of_targets, assume_a="pos")
            yield solved[:-1].T / size**0.5, solved[-1]
        return
    for strength in strengths:
        ridge = KernelRidge(alpha=strength, kernel="precomputed")
        ridge.fit(products[np.ix_(rows, rows)], centred, sample_weight=weights)
        yield ridge.dual_coef_.T @ vectors[rows] / size, ridge.dual_coef_.sum(0)
