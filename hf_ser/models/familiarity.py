"""How alike a clip is to the training data, by what the last layer is given."""

import torch
from torch import nn

MOST_DIRECTIONS = 32
LEAST_SCALE = 1e-6
"""Deviation below which a feature counts as constant."""
UNFAMILIAR = 0.01
"""Familiarity below which a clip is unlike the training data."""


MOST_FEATURES = 1_000_000


def check_measured(size: int, directions: int) -> None:
    """Make sure that the numbers of features and directions in a configuration are plausible.

    Raises:
        ValueError: they are not.
    """
    if not (0 <= size <= MOST_FEATURES and 0 <= directions <= MOST_DIRECTIONS):
        raise ValueError(
            f"familiarity_size is {size}, familiarity_directions {directions}: expected 0 to {MOST_FEATURES} and 0 to "
            f"{MOST_DIRECTIONS}: take config.json anew from where the model comes from."
        )


class Familiarity(nn.Module):
    """A normal distribution of the training clips' features, and how far clips of the validation speakers are from it.

    Features are standardised; along their first principal directions they have variances of their own, in all other
    directions a common one. The familiarity of a clip is the share of validation clips that are at least as far, by a
    normal distribution of the logarithms of their distances: of few clips no small share can be counted.

    Source: Tipping & Bishop 1999, Probabilistic principal component analysis; as a measure of unfamiliar inputs: Lee
    et al. 2018, A simple unified framework for detecting out-of-distribution samples and adversarial attacks.

    Args:
        size: Features.
        directions: Principal directions with variances of their own.
    """

    def __init__(self, size: int, directions: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.register_buffer("directions", torch.zeros(directions, size))
        self.register_buffer("variances", torch.ones(directions))
        self.register_buffer("rest", torch.ones(()))
        self.register_buffer("distances", torch.tensor([0.0, 1.0]))  # mean and deviation of their logarithms

    @classmethod
    def fitted(cls, train: torch.Tensor, validation: torch.Tensor) -> "Familiarity":
        """Measure the training clips, then how far the validation clips are from them.

        Shapes: both `(clips, size)`.
        """
        train, size = train.double(), train.shape[1]
        count = min(MOST_DIRECTIONS, max(1, len(train) // 4), size)
        mean, scale = train.mean(0), train.std(0, correction=0)
        scale = torch.where(scale < LEAST_SCALE, 1.0, scale)
        standard = (train - mean) / scale
        variances, directions = principal(standard, count)
        rest = (standard.square().sum() / len(train) - variances.sum()) / max(size - count, 1)
        made = cls(size, count)
        found = {"mean": mean, "scale": scale, "directions": directions}
        found |= {"variances": variances.clamp(min=LEAST_SCALE), "rest": rest.clamp(min=LEAST_SCALE)}
        for name, values in found.items():
            getattr(made, name).copy_(values)
        logarithms = made.distance(validation.float()).log()
        deviation = logarithms.std() if len(logarithms) > 1 else torch.tensor(1.0)
        made.distances.copy_(torch.stack([logarithms.mean(), deviation.clamp(min=LEAST_SCALE)]))
        return made

    def distance(self, vectors: torch.Tensor) -> torch.Tensor:
        """Mean squared deviation a feature, by the variances. Shapes: `(batch, size)`, out `(batch,)`."""
        standard = (vectors.float() - self.mean.float()) / self.scale.float()
        along = standard @ self.directions.float().T
        distance = (along.square() / self.variances.float()).sum(1) + LEAST_SCALE
        if len(self.directions) < standard.shape[1]:  # else nothing but rounding is beside the directions
            beside = standard - along @ self.directions.float()  # a difference of sums of squares would be rounded more
            distance = distance + beside.square().sum(1) / self.rest.float()
        return distance / standard.shape[1]

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """The familiarity, from 0 (unlike) to 1. Shapes: `(batch, size)`, out `(batch,)`."""
        mean, deviation = self.distances.float()
        return torch.special.ndtr((mean - self.distance(vectors).log()) / deviation)


def principal(standard: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first principal directions of centred rows, and the variances along them.

    Found between the rows where these are fewer than the features: thousands of features take seconds otherwise.

    Shapes: standard `(rows, size)`; out `(count,)`, `(count, size)`.
    """
    between_rows = len(standard) < standard.shape[1]
    products = standard @ standard.T if between_rows else standard.T @ standard
    values, vectors = torch.linalg.eigh(products)
    values, vectors = values[-count:].clamp(min=LEAST_SCALE), vectors[:, -count:].T
    directions = vectors @ standard / values.sqrt()[:, None] if between_rows else vectors
    return values / len(standard), directions
