"""Valence, arousal and dominance: their common scale, and the concordance of predictions with the annotation."""

import torch

SCALE = (-1.0, 1.0)
"""The scale that dimensions of every corpus are brought to, and that models predict."""


def check_dimensions(names, scale) -> None:
    """Make sure that the dimensions of a configuration are names, each once, and have a scale.

    Raises:
        ValueError: they are not.
    """
    if names is None and scale is None:
        return
    is_list = isinstance(names, list | tuple) and all(isinstance(name, str) and name for name in names)
    if not is_list or not names or len(set(names)) < len(names):
        raise ValueError(f"dimensions is {str(names)[:60]}, expected a list of names, such as ['valence', 'arousal'].")
    is_pair = isinstance(scale, list | tuple) and len(scale) == 2 and all(isinstance(one, int | float) for one in scale)
    if not is_pair or not scale[0] < scale[1]:
        raise ValueError(
            f"dimension_scale is {str(scale)[:60]}, expected the lowest and the highest value of the dimensions, such "
            f"as {list(SCALE)}."
        )


def within_scale(predicted: torch.Tensor, scale=SCALE) -> torch.Tensor:
    """Predictions cut to the ends of their scale, as they are given to users and reported; the shape stays."""
    return predicted.clamp(*scale)


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
