"""Chance changes of spectrogram features while a network trains; at evaluation there are none.

All draws are torch's, on the features' device, so that a run that is resumed with its generator draws the same.
"""

import torch
from torch import nn

MASKS = 2
"""Stretches of bands, and of frames, that are blanked."""
KNOTS = 6
"""Of the random curve over the bands."""


class FeatureChanges(nn.Module):
    """Each clip of a training batch a little different every time; with every setting at 0, nothing.

    Args:
        warp: Largest share by which the bands are drawn together or apart (another vocal tract).
        shift: Most bands that all are moved up or down.
        stretch: Largest share by which a clip gets faster or slower; not for networks of a fixed length.
        curve: Deviation of a smooth random curve over the bands that is added (another microphone or room).
        gain: Deviation of one number that is added to the whole clip.
        band_mask: Most bands in one of two blanked stretches.
        frame_mask: Most frames in one of two blanked stretches.

    Source: Jaitly and Hinton 2013, Vocal tract length perturbation improves speech recognition (warp); Park et al.
    2019, SpecAugment (the masks).
    """

    def __init__(
        self,
        warp: float = 0.0,
        shift: float = 0.0,
        stretch: float = 0.0,
        curve: float = 0.0,
        gain: float = 0.0,
        band_mask: int = 0,
        frame_mask: int = 0,
    ):
        super().__init__()
        self.warp, self.shift, self.stretch = warp, shift, stretch
        self.curve, self.gain = curve, gain
        self.band_mask, self.frame_mask = band_mask, frame_mask

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Shapes: features `(batch, channels, bands, frames)`, mask `(batch, frames)` bool; as many clips come out."""
        if not self.training:
            return features, mask
        with torch.no_grad():
            if self.warp or self.shift or self.stretch:
                features, mask = self._moved(features, mask)
            features = self._coloured(features) if self.curve or self.gain else features
            features = blanked(features, features.new_full((len(features),), features.shape[2]), self.band_mask, axis=2)
            features = blanked(features, mask.sum(1), self.frame_mask, axis=3)
            return features.masked_fill(~mask[:, None, None], 0.0), mask

    def _moved(self, features: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Bands warped and shifted, time stretched, by interpolation between their neighbours."""
        bands, frames = features.shape[2:]
        warp, shift, rate = (
            width * (2 * torch.rand(len(features), 1, device=features.device) - 1)
            for width in (self.warp, self.shift, self.stretch)
        )
        lengths = mask.sum(1, keepdim=True)
        stretched = (lengths / (1 + rate)).round().long().clamp(min=1) * (lengths > 0)
        times = torch.arange(int(stretched.max().clamp(min=1)), device=features.device)
        source = (times * (1 + rate)).minimum((lengths - 1).clamp(min=0))
        places = (torch.arange(bands, device=features.device) * (1 + warp) + shift).clamp(0, bands - 1)
        across = (2 * source / max(frames - 1, 1) - 1)[:, None].expand(-1, bands, -1)
        down = (2 * places / max(bands - 1, 1) - 1)[..., None].expand_as(across)
        grid = torch.stack([across, down], dim=-1).to(features.dtype)
        moved = nn.functional.grid_sample(features, grid, padding_mode="border", align_corners=True)
        return moved, times < stretched

    def _coloured(self, features: torch.Tensor) -> torch.Tensor:
        """What a microphone or a room adds to the logarithm; differences over time, in further channels, stay."""
        knots = self.curve * torch.randn(len(features), 1, KNOTS, device=features.device)
        curve = nn.functional.interpolate(knots, size=features.shape[2], mode="linear", align_corners=True)[:, 0]
        added = curve + self.gain * torch.randn(len(features), 1, device=features.device)
        return torch.cat([features[:, :1] + added[:, None, :, None], features[:, 1:]], dim=1)


def blanked(features: torch.Tensor, lengths: torch.Tensor, widest: int, axis: int) -> torch.Tensor:
    """Zero, the mean, in stretches of up to `widest` bands (axis 2) or frames (axis 3) of each clip.

    Shapes: features `(batch, channels, bands, frames)`; lengths `(batch,)`, places of each clip along the axis.
    """
    places = torch.arange(features.shape[axis], device=features.device)
    for _ in range(MASKS if widest else 0):
        width = torch.rand(len(features), 1, device=features.device) * (widest + 1)
        start = torch.rand(len(features), 1, device=features.device) * (lengths[:, None] - width).clamp(min=0)
        hit = (places >= start.floor()) & (places < start.floor() + width.floor())
        features = features.masked_fill(hit[:, None, :, None] if axis == 2 else hit[:, None, None], 0.0)
    return features
