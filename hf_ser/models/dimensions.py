"""Valence, arousal and dominance: their common scale, and the concordance of predictions with the annotation."""

from collections.abc import Mapping

import torch

SCALE = (-1.0, 1.0)
"""The scale that dimensions of every corpus are brought to, and that models predict."""


def check_dimensions(dimensions) -> None:
    """Make sure that the dimensions of a configuration are names with a scale each.

    Raises:
        ValueError: they are not.
    """
    is_mapping = isinstance(dimensions, Mapping) and all(isinstance(name, str) and name for name in dimensions)
    if not is_mapping or not all(_is_scale(one) for one in dimensions.values()):
        raise ValueError(
            f"dimensions is {str(dimensions)[:60]!r}, expected names with the lowest and the highest value of each, "
            'such as {"valence": [-1.0, 1.0]}.'
        )


def _is_scale(scale) -> bool:
    is_pair = isinstance(scale, list | tuple) and len(scale) == 2
    return is_pair and all(isinstance(end, int | float) for end in scale) and scale[0] < scale[1]


def concordance(predicted: torch.Tensor, annotated: torch.Tensor) -> torch.Tensor:
    """Concordance correlation coefficient (CCC) of each dimension, over the rows that are annotated.

    NaN where fewer than two rows are, or where neither prediction nor annotation varies.

    Shapes:
        predicted, annotated `(rows, dimensions)`, annotated NaN where it is missing; the result `(dimensions,)`.

    Source: Lin 1989, A concordance correlation coefficient to evaluate reproducibility, Biometrics 45(1).
    """
    is_there = ~annotated.isnan()
    count = is_there.sum(0)
    kind = torch.promote_types(predicted.dtype, torch.float32)
    predicted, annotated = (torch.where(is_there, one.to(kind), 0.0) for one in (predicted, annotated))
    n = count.clamp(min=1)
    means = predicted.sum(0) / n, annotated.sum(0) / n
    apart = [torch.where(is_there, one - mean, 0.0) for one, mean in zip((predicted, annotated), means, strict=True)]
    variances = [one.square().sum(0) / n for one in apart]
    covariance = (apart[0] * apart[1]).sum(0) / n
    spread = variances[0] + variances[1] + (means[0] - means[1]).square()
    defined = (count > 1) & (spread > 0)
    # The divisor is safe also where the result is thrown away: a gradient through NaN would be NaN.
    return torch.where(defined, 2 * covariance / torch.where(defined, spread, 1.0), torch.nan)


def concordance_loss(predicted: torch.Tensor, annotated: torch.Tensor) -> torch.Tensor:
    """One minus the CCC, the mean over the dimensions that have one in this batch; 0 where none has.

    Shapes: as of `concordance`; the result is a single number.
    """
    ccc = concordance(predicted, annotated)
    defined = ~ccc.isnan()
    losses = torch.where(defined, 1 - torch.where(defined, ccc, 0.0), 0.0)
    return losses.sum() / defined.sum().clamp(min=1)
