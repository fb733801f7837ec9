"""Classes without descent: a linear layer by ridge or logistic regression, whose strength left-out speakers choose."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, recall_score
from sklearn.model_selection import GroupKFold
from torch import nn
from tqdm import tqdm

from hf_ser.runs.calibration import fit_temperature
from hf_ser.runs.scores import DIGITS
from hf_ser.training.objective import rarity_weights
from hf_ser.training.ridge import INNER_FOLDS, PENALTIES, PENALTY, ridge_solutions, row_products

NEVER_SEEN = -30.0
"""Bias of a class without a training row."""

SHARPNESS = 10.0
"""What the answers of a ridge, near 0 and 1, are multiplied by to be logits, before a temperature is fitted to them."""


class Coefficients(NamedTuple):
    """A linear layer of the classes that have training rows.

    Shapes: classes `(known,)`, indices among all of them; weight `(known, size)`, bias `(known,)`.
    """

    classes: np.ndarray
    weight: np.ndarray
    bias: np.ndarray

    def answers(self, vectors: np.ndarray, n_classes: int) -> np.ndarray:
        """Shapes: vectors `(rows, size)`; returns `(rows, n_classes)`."""
        answers = np.full((len(vectors), n_classes), NEVER_SEEN)
        answers[:, self.classes] = vectors @ self.weight.T + self.bias
        return answers

    def sharpened(self, factor: float) -> "Coefficients":
        """All answers of the classes that are known times a factor."""
        return Coefficients(self.classes, factor * self.weight, factor * self.bias)

    def unstandardised(self, mean: np.ndarray, scale: np.ndarray) -> "Coefficients":
        """For vectors as they were before `(vectors - mean) / scale`; both `(size,)`."""
        weight = self.weight / scale
        return Coefficients(self.classes, weight, self.bias - weight @ mean)


class LogisticFit:
    """Logistic regression; a row whose target is shared by several classes counts for each by its share.

    Shapes: vectors `(rows, size)`, targets `(rows, classes)`.
    """

    strengths = (0.001, 0.003, 0.01, 0.03, 0.1)
    """Inverse, among which speakers that were left out choose."""
    strength_name = "regularisation_c"
    gives_logits = True
    class_power = 1.0

    def __init__(self, vectors: np.ndarray, targets: np.ndarray, copies: int = 1):
        self.vectors, self.targets = vectors, targets / copies

    def fit(self, rows: np.ndarray, strength: float) -> Coefficients:
        """Solve for the coefficients of some of the rows, by their indices."""
        of, classes = np.nonzero(self.targets[rows])
        regression = LogisticRegression(C=strength, max_iter=1000)
        regression.fit(self.vectors[rows][of], classes, sample_weight=self.targets[rows][of, classes])
        weight, bias = regression.coef_, regression.intercept_
        if len(regression.classes_) == 2:  # scikit-learn keeps one row for two classes
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        return Coefficients(regression.classes_, weight, bias)

    def fits(self, rows: np.ndarray, strengths: Sequence[float]) -> Iterator[Coefficients]:
        """`fit` with each of several strengths."""
        return (self.fit(rows, strength) for strength in strengths)


class RidgeFit:
    """Ridge regression on the targets, in which by default every class weighs alike.

    Solved between the rows where these are fewer than the features, else between the features, so that memory grows
    with the smaller of the two. What a row's targets sum to is its weight: it says how much the row counts, not what
    its answer shall be.

    Args:
        copies: How many rows each clip has; all of them together weigh as much as one would.
        class_power: Power by which a class weighs the more, the rarer it is; 1: all classes weigh alike; 0: all rows.

    Shapes: as LogisticFit's.
    """

    strengths = PENALTIES
    strength_name = PENALTY
    gives_logits = False

    def __init__(self, vectors: np.ndarray, targets: np.ndarray, copies: int = 1, class_power: float = 1.0):
        self.vectors, self.row_weights, self.copies = vectors, targets.sum(1), copies
        self.class_power = class_power
        self.targets = targets / np.where(self.row_weights > 0, self.row_weights, 1.0)[:, None]
        self.products = row_products(vectors)

    def fit(self, rows: np.ndarray, strength: float) -> Coefficients:
        """Solve for the coefficients of some of the rows, by their indices."""
        return next(self.fits(rows, [strength]))

    def fits(self, rows: np.ndarray, strengths: Sequence[float]) -> Iterator[Coefficients]:
        """`fit` with each of several strengths, which have the products of the features in common."""
        of_classes = self.row_weights[rows] @ self.targets[rows]
        classes = np.flatnonzero(of_classes)
        targets = self.targets[np.ix_(rows, classes)]
        of_class = rarity_weights(of_classes[classes], self.class_power, len(rows))
        weights = self.row_weights[rows] * (targets @ of_class) / self.copies
        centred = targets - 1 / len(classes)
        for weight, bias in ridge_solutions(self.vectors, self.products, rows, centred, weights, strengths):
            yield Coefficients(classes, weight, bias)


FITS = {"functionals": LogisticFit, "random_kernels": RidgeFit, "logistic": LogisticFit, "ridge": RidgeFit}
"""How the head is solved for, by the network under it or by its own name.

UAR on validation speakers of RAVDESS, mean of EmoBox's six folds, vectors not scaled by speaker: a ridge on the
functionals alone gives 58.5 %, an RBF-SVM 54.8 %, a kernel ridge of RBF kernels 58.5 % at best; a penalty on what
differs between speakers 58.0 % where the plain ridge gives 58.4 %.
"""


def fitted_head(
    method: LogisticFit | RidgeFit, speakers: list[str], scored: np.ndarray | None = None, views: int = 1
) -> tuple[Coefficients, dict[str, float | None], np.ndarray | None]:
    """The head of all rows, with the strength, and of a ridge the sharpness, that suit speakers who were left out.

    Args:
        method: With its rows.
        speakers: Who speaks in each clip.
        scored: Which clips count in these choices: all by default.
        views: Rows of each clip, one after another, over which its answer is averaged.

    Returns:
        The coefficients; what was chosen, by name; and the logits of left-out speakers, None where there was only one.

    Shapes:
        the logits: `(clips, classes)`.
    """
    scored = np.ones(len(speakers), bool) if scored is None else scored
    strength, inner_uar, answers = chosen_strength(method, speakers, scored, views)
    fitted, found = method.fit(np.arange(len(method.targets)), strength), {method.strength_name: strength}
    if not method.gives_logits:
        factor = SHARPNESS
        if answers is not None:
            factor /= fit_temperature(SHARPNESS * answers[scored], method.targets[::views][scored].argmax(1))
            answers = factor * answers
        fitted, found = fitted.sharpened(factor), found | {"sharpness": factor}
    return fitted, found | {"inner_uar": inner_uar}, answers


def chosen_strength(
    method: LogisticFit | RidgeFit, speakers: list[str], scored: np.ndarray | slice = slice(None), views: int = 1
) -> tuple[float, float | None, np.ndarray | None]:
    """The strength that does best on training speakers who were left out, its UAR over their rows, and its answers.

    Of equally good ones the first. Of a single speaker it cannot be found: the middle one, and None. Arguments as of
    `fitted_head`.

    Shapes:
        the answers: `(clips, classes)`.
    """
    folds = min(INNER_FOLDS, len(set(speakers)))
    if folds < 2:
        return method.strengths[len(method.strengths) // 2], None, None
    n_classes, truth = method.targets.shape[1], method.targets[::views].argmax(1)
    answers = {strength: np.empty((len(truth), n_classes)) for strength in method.strengths}
    # The views of a clip are the rows behind its first.
    first, places = views * np.arange(len(truth))[:, None], np.arange(views)
    splits = list(GroupKFold(folds).split(truth, groups=speakers))
    for inner, left_out in tqdm(splits, desc=f"choosing {method.strength_name}", disable=None):
        fits = method.fits((first[inner] + places).ravel(), method.strengths)
        vectors = method.vectors[first[left_out] + places].mean(1)  # linear: the mean of their answers
        for answer, fitted in zip(answers.values(), fits, strict=True):
            answer[left_out] = fitted.answers(vectors, n_classes)
    uar = {
        strength: recall_score(
            truth[scored], answer[scored].argmax(1), labels=np.unique(truth[scored]), average="macro", zero_division=0
        )
        for strength, answer in answers.items()
    }
    scores = uar
    if method.class_power != 1:  # classes count in the choice as they do in the fit
        weights = np.bincount(truth[scored])[truth[scored]] ** -float(method.class_power)
        scores = {
            strength: accuracy_score(truth[scored], answer[scored].argmax(1), sample_weight=weights)
            for strength, answer in answers.items()
        }
    best = max(scores, key=lambda strength: round(scores[strength], DIGITS))
    return best, float(uar[best]), answers[best]


def side_by_side(parts: Sequence[Coefficients]) -> Coefficients:
    """The sum of linear layers, each of columns of its own; a class that one does not know is left to the others."""
    classes = np.unique(np.concatenate([one.classes for one in parts]))
    weight, bias = [], np.zeros(len(classes))
    for one in parts:
        places = np.searchsorted(classes, one.classes)
        weight.append(np.zeros((len(classes), one.weight.shape[1])))
        weight[-1][places] = one.weight
        bias[places] += one.bias
    return Coefficients(classes, np.concatenate(weight, axis=1), bias)


def found_of(modalities: Sequence[str], solved: Sequence[tuple]) -> dict[str, float | None]:
    """What was chosen in solving for each modality, by name; of two the modality is in the name."""
    if len(solved) == 1:
        return dict(solved[0][1])
    chosen = {
        f"{name}_{modality}": value
        for modality, (_, found, _) in zip(modalities, solved, strict=True)
        for name, value in found.items()
        if name != "inner_uar"
    }
    return chosen | {"inner_uar": None}


def uar_of(logits: np.ndarray, truth: np.ndarray) -> float:
    """The mean recall of the classes that are there; logits `(rows, classes)`, truth `(rows,)`."""
    return float(recall_score(truth, logits.argmax(1), labels=np.unique(truth), average="macro", zero_division=0))


def mean_loss(fitted: Coefficients, vectors: np.ndarray, targets: np.ndarray) -> float:
    """Cross entropy over the rows; vectors `(rows, size)`, targets `(rows, classes)`."""
    logarithms = log_softmax(fitted.answers(vectors, targets.shape[1]), axis=1)
    return float(-(targets * logarithms).sum(1).mean())


def copy_coefficients(classifier: nn.Linear, fitted: Coefficients) -> None:
    """Into a linear layer of all classes, of which the fit may know fewer."""
    with torch.no_grad():
        classifier.weight.zero_()
        classifier.bias.fill_(NEVER_SEEN)
        classifier.weight[fitted.classes] = torch.from_numpy(fitted.weight).to(classifier.weight)
        classifier.bias[fitted.classes] = torch.from_numpy(fitted.bias).to(classifier.bias)
