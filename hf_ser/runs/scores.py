"""UAR and other figures from class probabilities, always over all classes of the task.

`hf_ser.runs.metrics.SerMetric` has the `evaluate` interface; it is a file of its own because importing `evaluate` is
slow. `soft_scores` compares with the votes of several raters instead of one label.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import entropy, spearmanr
from sklearn.metrics import confusion_matrix, f1_score, matthews_corrcoef, roc_auc_score

from hf_ser.inputs.targets import most_voted

HIGHER_IS_BETTER = {
    **dict.fromkeys(("uar", "wa", "macro_f1", "weighted_f1", "mcc", "roc_auc_ovr", "ccc"), True),
    **dict.fromkeys(("ece", "loss"), False),
}
"""Whether higher is better, by the name of each figure of `score`, of the mean CCC and of the loss."""

SUM_TOLERANCE = 1e-3
"""Tolerance of a row's sum of probabilities, large enough for half-precision softmax and rounded files."""

ECE_BINS = 15

ROUNDING = 1e-9
"""Figures that differ by less than this are equal: the order of additions changes them by as much."""

DIGITS = 10
"""Decimals that figures are rounded to before the best is chosen, so that rounding breaks no tie."""

ENTROPY_DIGITS = 6
"""Decimals that an entropy is rounded to: equal probabilities in float32 differ by some 1e-7."""

KL_FLOOR = 1e-6
"""Smallest probability in the Kullback-Leibler divergence, so that one vote costs at most 13.8 nats."""


def score(probabilities: np.ndarray, references: np.ndarray, labels: Sequence[str]) -> dict[str, float]:
    """Score class probabilities against the true classes; the predicted class is the most probable one.

    Args:
        probabilities: Predicted distribution of each utterance, columns in the order of `labels`.
        references: True class indices into `labels`.
        labels: All class names of the task, whether or not they occur.

    Shapes:
        probabilities: (utterances, classes), references: (utterances,)

    Returns:
        `uar` (unweighted average recall), `wa` (weighted accuracy, that is plain accuracy), `macro_f1`, `weighted_f1`,
        `mcc` (Matthews correlation), `roc_auc_ovr` (one class against the rest, unweighted mean over classes) and
        `ece` (expected calibration error); all but `mcc` (-1 to 1) are from 0 to 1.

    Raises:
        ValueError: shapes differ; probabilities are not a distribution; a reference is not a class index; a class
            has no reference.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, eq. 3 (`ece`).
    """
    probabilities, references = _checked(probabilities, references, labels)
    classes = range(len(labels))
    predicted = probabilities.argmax(axis=1)
    uar = uar_from_confusion(confusion_matrix(references, predicted, labels=classes), labels)
    # scikit-learn wants sums of 1 to within 1e-5, and the two-class task as one column.
    distribution = probabilities / probabilities.sum(axis=1, keepdims=True)
    ranked = distribution[:, 1] if len(labels) == 2 else distribution
    figures = {
        "uar": uar,
        "wa": (predicted == references).mean(),
        "macro_f1": f1_score(references, predicted, labels=classes, average="macro", zero_division=0),
        "weighted_f1": f1_score(references, predicted, labels=classes, average="weighted", zero_division=0),
        "mcc": matthews_corrcoef(references, predicted),
        "roc_auc_ovr": roc_auc_score(references, ranked, labels=classes, multi_class="ovr", average="macro"),
        "ece": expected_calibration_error(distribution.max(axis=1), predicted == references),
    }
    return {name: float(figure) for name, figure in figures.items()}


def soft_scores(probabilities: np.ndarray, votes: np.ndarray) -> dict[str, float | None]:
    """Score class probabilities against the raters' votes; each figure is a mean over utterances.

    Args:
        probabilities: Predicted distribution of each utterance.
        votes: Share of the votes that each class got.

    Shapes:
        probabilities, votes: (utterances, classes)

    Returns:
        `kl`: Kullback-Leibler divergence `sum votes log(votes / prediction)` in nats, the prediction not below
        `KL_FLOOR`; 0 is best.
        `cosine`: cosine between the two; 1 is best.
        `brier`: squared distance between the two, summed over the classes; 0 is best, 2 is worst.
        `majority_wa`: share of utterances whose predicted class got the most votes, or tied for them.
        `entropy_correlation`: Spearman's correlation between the entropies of prediction and votes; None where either
        is constant.

    Raises:
        ValueError: shapes differ, or a row is not a distribution.

    Source: Kullback and Leibler 1951, On information and sufficiency (`kl`); Brier 1950, Verification of forecasts
    expressed in terms of probability (`brier`).
    """
    votes = np.asarray(votes)
    width = votes.shape[-1] if votes.ndim else 0
    probabilities = _probability_table(probabilities, width)
    votes = _probability_table(votes, width, "votes", "shares: divide each utterance's votes by their number")
    if len(probabilities) != len(votes):
        raise ValueError(f"votes: found {len(votes)} rows, expected one for each of {len(probabilities)} predictions.")
    predicted, votes = (np.clip(table, 0, None) for table in (probabilities, votes))
    predicted, votes = (table / table.sum(axis=1, keepdims=True) for table in (predicted, votes))
    lengths = np.linalg.norm(predicted, axis=1) * np.linalg.norm(votes, axis=1)
    chosen = predicted.argmax(axis=1)[:, None]
    figures = {
        "kl": entropy(votes, predicted.clip(min=KL_FLOOR), axis=1).mean(),
        "cosine": ((predicted * votes).sum(axis=1) / lengths).mean(),
        "brier": ((predicted - votes) ** 2).sum(axis=1).mean(),
        "majority_wa": np.take_along_axis(most_voted(votes), chosen, axis=1).mean(),
    }
    entropies = [entropy(table, axis=1).round(ENTROPY_DIGITS) for table in (predicted, votes)]
    vary = all(len(set(values)) > 1 for values in entropies)
    return {
        **{name: float(figure) for name, figure in figures.items()},
        "entropy_correlation": float(spearmanr(*entropies).statistic) if vary else None,
    }


def uar_from_confusion(confusion: np.ndarray, labels: Sequence[str] | None = None) -> float | np.ndarray:
    """Unweighted average recall over the task's classes.

    An absent class is an error; `sklearn.metrics.balanced_accuracy_score` would leave it out of the mean.

    Args:
        confusion: Counts, rows the reference, columns the prediction; leading axes are separate matrices.
        labels: Class names for the error.

    Shapes:
        confusion: (..., classes, classes); the result: (...), a plain float for one matrix.

    Raises:
        ValueError: a class has no reference.
    """
    confusion = np.asarray(confusion)
    support = confusion.sum(axis=-1)
    names = labels if labels is not None else [f"class {index}" for index in range(support.shape[-1])]
    absent = (support == 0).reshape(-1, support.shape[-1]).any(axis=0)
    if absent.any():
        lacking = ", ".join(repr(name) for name, gone in zip(names, absent, strict=True) if gone)
        raise ValueError(
            f"UAR: found no utterance with the reference {lacking}, expected at least one of each of the task's "
            f"{len(names)} classes ({', '.join(names)}), since UAR is their mean recall. Score several folds together, "
            "choose a protocol whose test sets have every class, or remove the class from the task's labels."
        )
    uar = (np.diagonal(confusion, axis1=-2, axis2=-1) / support).mean(axis=-1)
    return uar if uar.ndim else float(uar)


def difference(one: float, other: float) -> float:
    """The first figure minus the second; 0 where they differ only by rounding."""
    return one - other if abs(one - other) > ROUNDING else 0.0


def calibration_bins(confidence: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """Number of utterances, sum of confidence and number of correct ones in each of `ECE_BINS` equal-width bins.

    Bin m of M holds the confidences in ((m - 1) / M, m / M], as in Guo et al. 2017, with a tolerance for rounding.

    Shapes:
        confidence: (utterances,), correct: (utterances,); the result: (3, bins)
    """
    bins = np.clip(np.ceil(confidence * ECE_BINS - ROUNDING).astype(int) - 1, 0, ECE_BINS - 1)
    sums = (np.bincount(bins, weights=weights, minlength=ECE_BINS) for weights in (None, confidence, correct))
    return np.stack([one.astype(np.float64) for one in sums])


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Mean distance of confidence from accuracy over equal-width bins, weighted by their utterances.

    Shapes:
        confidence: (utterances,), correct: (utterances,)
    """
    _, confident, right = calibration_bins(confidence, correct)
    # n_m |accuracy_m - confidence_m| is the absolute difference of the bin's sums: no division by an empty bin.
    return float(np.abs(right - confident).sum() / len(confidence))


def _checked(probabilities, references, labels: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Check and convert the arrays to float64 and integers; raises as `score`."""
    width = len(labels)
    if width < 2:
        raise ValueError(f"labels: found {list(labels)}, expected two classes or more. Pass all labels of the task.")
    probabilities = _probability_table(probabilities, width)
    references = np.asarray(references)
    if references.shape != probabilities.shape[:1] or not np.issubdtype(references.dtype, np.integer):
        raise ValueError(
            f"references: found {references.dtype} of shape {references.shape}, expected one integer class index for "
            f"each of the {len(probabilities)} rows of probabilities. Pass indices into the labels, not names."
        )
    outside = np.flatnonzero((references < 0) | (references >= width))
    if outside.size:
        raise ValueError(
            f"references: found {references[outside[0]]} in row {outside[0]}, expected 0 to {width - 1} for the labels "
            f"{list(labels)}. Leave out unlabelled utterances and pass all labels of the task."
        )
    return probabilities, references


def _probability_table(
    probabilities, width: int, name: str = "probabilities", wanted: str = "the softmax of the model's logits"
) -> np.ndarray:
    try:
        table = np.asarray(probabilities, dtype=np.float64)
    except ValueError:
        raise ValueError(
            f"{name}: found rows of different lengths, expected {width} numbers in each, one for each label. "
            "Score the runs of different label sets apart."
        ) from None
    if table.ndim != 2 or table.shape[1] != width or not len(table):
        raise ValueError(
            f"{name}: found shape {table.shape}, expected (utterances, {width}) with one utterance or more and "
            f"one column for each of the {width} labels. Check that the model and the labels belong to the same task."
        )
    not_finite = np.flatnonzero(~np.isfinite(table).all(axis=1))
    if not_finite.size:
        raise ValueError(
            f"{name}: found {table[not_finite[0]].tolist()} in row {not_finite[0]}, expected finite numbers. Look for "
            "a diverged training run, or for overflow in half precision."
        )
    off = np.abs(table.sum(axis=1) - 1) > SUM_TOLERANCE
    off |= (table < -SUM_TOLERANCE).any(axis=1)
    if off.any():
        row = np.flatnonzero(off)[0]
        raise ValueError(
            f"{name}: found {table[row].tolist()} (sum {table[row].sum():.4g}) in row {row}, expected numbers "
            f"from 0 to 1 with the sum 1 (tolerance {SUM_TOLERANCE}). Pass {wanted}."
        )
    return table
