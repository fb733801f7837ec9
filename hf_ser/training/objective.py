"""What is minimised beside plain cross entropy."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from hf_ser.models.dimensions import concordance_loss


class Objective:
    """The loss over the logits of a model.

    Args:
        args: ObjectiveArguments with transformers' `label_smoothing_factor`.
        weights: Weight of each class, or None.
    """

    def __init__(self, args, weights: torch.Tensor | None = None):
        self.smoothing, self.weights = args.label_smoothing_factor, weights

    @property
    def is_plain(self) -> bool:
        """Whether this is what every model minimises by itself."""
        return not (self.smoothing or self.weights is not None)

    def rows(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss of each row.

        Shapes:
            logits: `(batch, classes)`; labels: `(batch,)` int64, or `(batch, classes)` float: a distribution, perhaps
            times a weight of the row; returns `(batch,)`.
        """
        logits = logits.float()
        targets = as_distributions(labels, logits.shape[-1])
        if self.smoothing:
            whole = targets.sum(-1, keepdim=True)
            targets = (1 - self.smoothing) * targets + self.smoothing * whole / logits.shape[-1]
        if self.weights is not None:
            targets = targets * self.weights.to(logits.device)
        return -(targets * logits.log_softmax(-1)).sum(-1)

    def of_outputs(self, outputs: Mapping, labels: torch.Tensor, branch_weight: float) -> torch.Tensor:
        """The mean loss of a batch, with that of each branch in late fusion, and of the dimensions as models take it.

        Args:
            outputs: `logits`, perhaps `dimensions`, perhaps `branch_logits`: by name the outputs and which rows are
                there (None: all).
            labels: As in `rows`, with the dimensions behind them.
            branch_weight: Weight of a branch's loss.
        """
        logits, predicted = outputs["logits"], outputs.get("dimensions")
        n_classes, annotated = logits.shape[-1], None
        if predicted is not None:
            labels, annotated = labels[:, :n_classes], labels[:, n_classes:]
        loss = self.rows(logits, labels).mean()
        if annotated is not None:
            loss = loss + concordance_loss(predicted, annotated)
        for of_branch, present in (outputs.get("branch_logits") or {}).values():
            rows = self.rows(of_branch[:, :n_classes], labels)
            present = torch.ones_like(rows) if present is None else present
            loss = loss + branch_weight * (rows * present).sum() / present.sum().clamp(min=1)
            if annotated is not None:
                of_present = torch.where(present[:, None].bool(), annotated, torch.nan)
                loss = loss + branch_weight * concordance_loss(of_branch[:, n_classes:], of_present)
        return loss


def as_distributions(labels: torch.Tensor, n_classes: int) -> torch.Tensor:
    """Class indices as distributions; distributions as they are."""
    return labels if labels.is_floating_point() else nn.functional.one_hot(labels, n_classes).float()


def class_weights(labels: Sequence[int], n_classes: int, power: float = 1.0) -> torch.Tensor:
    """Weights of the classes of training rows, with a mean of 1 over the rows; of a class without rows 1.

    Args:
        labels: Class of each row.
        n_classes: Of the model.
        power: By which a class weighs the more, the rarer it is; 1: all classes weigh alike; 0: all rows.
    """
    counts = np.bincount(labels, minlength=n_classes).astype(np.float64)
    weights, present = np.ones(n_classes), counts > 0
    weights[present] = rarity_weights(counts[present], power, counts.sum())
    return torch.tensor(weights, dtype=torch.float32)


def rarity_weights(counts: np.ndarray, power: float, rows: float) -> np.ndarray:
    """Weights of classes by their counts, to a power; they sum to `rows` over the rows.

    Shapes: counts `(classes,)`, each above 0.
    """
    return counts**-power * rows / (counts ** (1 - power)).sum()
