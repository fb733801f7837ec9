"""The networks behind our own audio encoder: from spectrogram features to a sequence of vectors.

Each is a class `(config, n_channels, n_bands, n_frames)` called with features `(batch, channels, bands, frames)` and a
mask `(batch, frames)`, and returns hidden `(batch, positions, hidden_size)` with its mask `(batch, positions)`. Where
a clip's length varies, every step either looks at one position or is masked again after it, so that a clip gives the
same whatever it was batched or padded with.
"""

from itertools import pairwise

import torch
from torch import nn
from transformers import AutoModel, PreTrainedConfig

from .random_kernels import N_KERNEL_FEATURES
from .recurrent import run_packed


def masked(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Zero past each clip's end; shapes x `(batch, channels, bands, frames)`, mask `(batch, frames)` bool."""
    return x.masked_fill(~mask[:, None, None], 0.0)


def one_position(vector: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A clip's one vector `(batch, size)` as a sequence of length 1 and its mask."""
    return vector[:, None], torch.ones(vector.shape[0], 1, dtype=torch.bool, device=vector.device)


class ConvBlock(nn.Module):
    """3x3 convolution with a stride that halves the bands (and the frames), LayerNorm over channels, ReLU.

    Batch norm in its place was tried and left out: it learns faster (UAR on validation speakers of RAVDESS, EmoBox
    fold 3, one seed, after four epochs: 29.3 %, and 16.4 % so), but then a training depends on how many processes and
    accumulated steps a batch is divided into.
    """

    def __init__(self, channels_in: int, channels_out: int, halve_frames: bool, dropout: float):
        super().__init__()
        self.stride = 2 if halve_frames else 1
        self.conv = nn.Conv2d(channels_in, channels_out, 3, stride=(2, self.stride), padding=1, bias=False)
        self.norm = nn.LayerNorm(channels_out)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Shapes: x `(batch, channels, bands, frames)`, zero where `mask` `(batch, frames)` is False."""
        x = self.norm(self.conv(x).permute(0, 2, 3, 1)).relu().permute(0, 3, 1, 2)
        mask = mask[:, :: self.stride]
        # Zero again, so that the next convolution sees past a clip's end what it sees when the clip is alone.
        return self.dropout(masked(x, mask)), mask


class ConvRecurrent(nn.Module):
    """Our own: convolution blocks, then a bidirectional GRU; one position for every four frames."""

    def __init__(self, config: PreTrainedConfig, n_channels: int, n_bands: int, n_frames: int | None):
        super().__init__()
        sizes = (n_channels, *config.channels)
        self.blocks = nn.ModuleList(
            ConvBlock(a, b, halve_frames=i < 2, dropout=config.dropout / 2) for i, (a, b) in enumerate(pairwise(sizes))
        )
        for _ in config.channels:
            n_bands = -(-n_bands // 2)
        self.project = nn.Linear(n_bands * sizes[-1], config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.gru = nn.GRU(config.hidden_size, config.hidden_size // 2, batch_first=True, bidirectional=True)

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = masked(features, mask)
        for block in self.blocks:
            x, mask = block(x, mask)
        x = self.dropout(self.norm(self.project(x.permute(0, 3, 1, 2).flatten(2))))
        return run_packed(self.gru, x, mask), mask


class ImageCnn(nn.Module):
    """Two convolutions on a square picture of the spectrogram, one channel shown three times; one position.

    Three channels, as pictures have them: 3 > 16 > 32, 3x3, ReLU, max-pool 2, then one linear layer.
    """

    def __init__(self, config: PreTrainedConfig, n_channels: int, n_bands: int, n_frames: int):
        super().__init__()
        self.repeats = 3 // n_channels
        self.features = nn.Sequential(*_pooled_conv(3, 16), *_pooled_conv(16, 32), nn.Flatten())
        self.project = nn.Linear(32 * (n_bands // 4) * (n_frames // 4), config.hidden_size)

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return one_position(self.project(self.features(features.repeat(1, self.repeats, 1, 1))).relu())


def _pooled_conv(channels_in: int, channels_out: int) -> list[nn.Module]:
    return [nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]


class SixLayerCnn(nn.Module):
    """Six convolutions of 32 to 512 channels with batch norm, ReLU and max-pool, then 512 > 256 > `hidden_size`.

    What is left of the picture after six halvings is averaged to one vector of 512; one position.
    """

    channels = (32, 64, 128, 256, 512, 512)

    def __init__(self, config: PreTrainedConfig, n_channels: int, n_bands: int, n_frames: int):
        super().__init__()
        layers = []
        for a, b in pairwise((n_channels, *self.channels)):
            layers += [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(config.dropout))
        self.dense = nn.Sequential(
            nn.Linear(512, 256), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(256, config.hidden_size), nn.ReLU()
        )

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return one_position(self.dense(self.features(features)))


class CnnLstm(nn.Module):
    """Six convolutions over the coefficients of each frame, then two LSTMs over the frames; one position, the last."""

    channels = (32, 32, 64, 64, 128, 128)

    def __init__(self, config: PreTrainedConfig, n_channels: int, n_bands: int, n_frames: int):
        super().__init__()
        layers = []
        for a, b in pairwise((n_channels, *self.channels)):
            # A kernel one frame wide: the same convolution over the coefficients at every time.
            layers += [nn.Conv2d(a, b, (3, 1), padding=(1, 0)), nn.BatchNorm2d(b), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.first = nn.LSTM(n_bands * self.channels[-1], 64, batch_first=True)
        self.second = nn.LSTM(64, 32, batch_first=True)
        self.dropout = nn.Dropout(config.dropout)
        self.dense = nn.Linear(32, config.hidden_size)

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.features(features).permute(0, 3, 1, 2).flatten(2)
        x = self.dropout(self.first(x)[0])
        x = self.dropout(self.second(x)[0][:, -1])
        return one_position(self.dense(x).relu())


class AlexNet(nn.Module):
    """AlexNet's five convolutions, under torchvision's names; the last feature map's places are the positions.

    Clips of any length: shorter ones than the layers need, and past a clip's end, are zeros.

    Source: Krizhevsky 2014, One weird trick for parallelizing convolutional neural networks (the widths); Zhang et
    al. 2019, Attention based fully convolutional network for speech emotion recognition (on spectrograms).
    """

    smallest = 63
    """Bands and frames that give one position."""

    def __init__(self, config: PreTrainedConfig, n_channels: int, n_bands: int, n_frames: int | None):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(n_channels, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        )  # fmt: skip

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        missing = [max(0, self.smallest - size) for size in features.shape[2:]]
        x = nn.functional.pad(masked(features, mask), (0, missing[1], 0, missing[0]))
        lengths = mask.sum(1)
        for layer in self.features:
            x = layer(x)
            if not isinstance(layer, nn.ReLU):
                lengths = _length_after(layer, lengths)
                mask = torch.arange(x.shape[3], device=x.device)[None] < lengths[:, None]
                x = masked(x, mask)
        return x.flatten(2).transpose(1, 2), mask.repeat(1, x.shape[2])


def _length_after(layer: nn.Conv2d | nn.MaxPool2d, lengths: torch.Tensor) -> torch.Tensor:
    """Frames that a clip of so many frames has alone after a convolution or pooling, at least one."""
    sizes = (layer.kernel_size, layer.stride, layer.padding)
    kernel, stride, padding = (size if isinstance(size, int) else size[1] for size in sizes)
    return ((lengths + 2 * padding - kernel) // stride + 1).clamp(min=1)


class Vision(nn.Module):
    """Any image model of transformers on a picture of the spectrogram; its map's places or patches are the positions.

    One channel is shown as many times as the model takes channels.
    """

    def __init__(self, config: PreTrainedConfig, n_channels: int, n_bands: int, n_frames: int):
        super().__init__()
        self.repeats = getattr(config.backbone_config, "num_channels", 3) // n_channels
        self.backbone = without_trained_pooler(AutoModel.from_config(config.backbone_config))

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.backbone(features.repeat(1, self.repeats, 1, 1)).last_hidden_state
        if hidden.dim() == 4:
            hidden = hidden.flatten(2).transpose(1, 2)
        return hidden, torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)


def without_trained_pooler(backbone: nn.Module) -> nn.Module:
    """Drop what has weights behind the positions that are read: unused weights stall distributed training."""
    pooler = getattr(backbone, "pooler", None)
    if pooler is not None and next(pooler.parameters(), None) is not None:
        backbone.pooler = None
    if backbone.config.model_type.startswith("convnext"):
        backbone.layernorm = nn.Identity()  # of the pooled vector; ViT's, of that name, is before its patches come out
    return backbone


class Functionals(nn.Module):
    """A clip's functionals as they are, for a head that is fitted; one position, and nothing to train.

    Raises:
        ValueError: features of more than one frame.
    """

    def __init__(self, config: PreTrainedConfig, n_channels: int, n_bands: int, n_frames: int | None):
        super().__init__()
        if n_frames != 1:
            raise ValueError(
                f"Network {config.network!r}: found a front end of {n_frames or 'any number of'} frames, expected one: "
                "take features 'functionals'."
            )
        self.size = n_bands

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return one_position(features[:, 0, :, 0])


class RandomKernelVector(Functionals):
    """Functionals and what random convolutions give, standardised, in the shares that they have in the sum of squares.

    The statistics are batch norm's, which travel with the weights: a fit sets them; where a head is trained, they are
    those of its batches. The weights are the only parameters. A fit leaves them as they are; that there are any tells
    the store of kept features to hold what comes before the standardisation, which differs by fold.

    Raises:
        ValueError: features of another kind.
    """

    kernel_share = 0.7
    clip_at = 4.0
    """In deviations of a functional: where one is cut off, for no single one should decide."""

    def __init__(self, config: PreTrainedConfig, n_channels: int, n_bands: int, n_frames: int | None):
        super().__init__(config, n_channels, n_bands, n_frames)
        sizes = {1 - self.kernel_share: n_bands - N_KERNEL_FEATURES, self.kernel_share: N_KERNEL_FEATURES}
        if n_bands <= N_KERNEL_FEATURES:
            raise ValueError(
                f"Network {config.network!r}: found a front end of {n_bands} functionals, expected more than "
                f"{N_KERNEL_FEATURES}: take features 'random_kernels'."
            )
        self.standardise = nn.BatchNorm1d(n_bands, affine=False)
        blocks = [torch.full((size,), (n_bands * share / size) ** 0.5) for share, size in sizes.items()]
        self.weights = nn.Parameter(torch.cat(blocks))

    def vectors(self, functionals: torch.Tensor) -> torch.Tensor:
        """Shapes: `(batch, size)`, and so is the result."""
        norm = self.standardise
        if norm.training and len(functionals) > 1:
            functionals = norm(functionals)
        else:  # the statistics so far, in training too where one clip has no deviation
            functionals = nn.functional.batch_norm(functionals, norm.running_mean, norm.running_var, eps=norm.eps)
        return functionals.clamp(-self.clip_at, self.clip_at) * self.weights

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return one_position(self.vectors(features[:, 0, :, 0]))


NETWORKS = {
    "crnn": ConvRecurrent,
    "image_cnn": ImageCnn,
    "six_layer_cnn": SixLayerCnn,
    "cnn_lstm": CnnLstm,
    "alexnet": AlexNet,
    "vision": Vision,
    "functionals": Functionals,
    "random_kernels": RandomKernelVector,
}
"""By the name in a configuration."""
FITTED = ("functionals", "random_kernels")
"""Without a parameter to train: what they make of a clip is a vector, under a linear head that is fitted to it."""
