"""Our own audio encoder: a spectrogram front end and a small network behind it, as one `PreTrainedModel`."""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import ModelOutput

from .config_checks import check_arguments, check_own_config
from .feature_changes import FeatureChanges
from .front_end import SpectrogramFrontEnd
from .loading import CheckedWeights
from .networks import FITTED, NETWORKS, without_trained_pooler
from .saving import SharedWeights


class SpectrogramConfig(PreTrainedConfig):
    """What rebuilds a spectrogram encoder.

    Args:
        network: A key of NETWORKS.
        front_end: Arguments of SpectrogramFrontEnd that differ from its defaults.
        hidden_size: Width of the positions that come out; of `vision`, `functionals` and `random_kernels`
            their own.
        channels: Of the convolution blocks, of `crnn`.
        dropout: In the network.
        feature_changes: Arguments of FeatureChanges, by which features vary in training; None for none.
        backbone_config: Of `vision` only: any image model that AutoModel knows.

    Raises:
        ValueError: unknown network, or a value that no model has.
    """

    model_type = "ser_spectrogram"
    sub_configs = {"backbone_config": AutoConfig}  # noqa: RUF012  (transformers reads it so)

    network: str = "crnn"
    front_end: dict | None = None
    hidden_size: int = 128
    channels: list[int] | tuple[int, ...] = (16, 32, 64, 128)
    dropout: float = 0.2
    feature_changes: dict | None = None
    backbone_config: dict | PreTrainedConfig | None = None

    def __post_init__(self, **kwargs):
        check_own_config(self, kwargs)
        check_arguments(self.front_end or {}, SpectrogramFrontEnd, "front_end")
        check_arguments(self.feature_changes or {}, FeatureChanges, "feature_changes")
        if self.network not in NETWORKS:
            raise ValueError(
                f"Unknown network '{self.network}': expected one of {', '.join(NETWORKS)}, or one of a file "
                "that is named by --plugins (beside a saved model: --plugins FOLDER/FILE.py). functionals_mlp is gone: "
                "train another in its place."
            )
        self.front_end = dict(self.front_end or {})
        if self.network in FITTED:
            self.hidden_size = SpectrogramFrontEnd(**self.front_end).n_bands
        if self.network == "vision":
            self.backbone_config = _as_config(self.backbone_config)
            self.hidden_size = _width(self.backbone_config)
        self._refuse_stretching()
        super().__post_init__(**kwargs)

    def _refuse_stretching(self) -> None:
        fixed = [name for name in ("seconds", "image_size") if self.front_end.get(name)]
        if fixed and (self.feature_changes or {}).get("stretch"):
            raise ValueError(
                f"feature_changes stretch clips whose length {fixed[0]} fixes: expected one of them, not both."
            )


def _as_config(given: dict | PreTrainedConfig | None) -> PreTrainedConfig:
    if given is None:
        raise ValueError("Network 'vision' was given no backbone_config: expected one of an image model (ResNet, ViT).")
    if isinstance(given, PreTrainedConfig):
        return given
    return AutoConfig.for_model(**given)


def _width(backbone: PreTrainedConfig) -> int:
    """Size of the last feature map or of the patches."""
    sizes = getattr(backbone, "hidden_size", None) or getattr(backbone, "hidden_sizes", None)
    if sizes is None:
        raise ValueError(
            f"How wide {backbone.model_type}'s output is is not known: expected hidden_size or hidden_sizes."
        )
    return sizes if isinstance(sizes, int) else sizes[-1]


@dataclass
class SpectrogramOutput(ModelOutput):
    """Shapes: last_hidden_state `(batch, positions, hidden_size)`; attention_mask `(batch, positions)` bool."""

    last_hidden_state: torch.Tensor | None = None
    attention_mask: torch.Tensor | None = None


class SpectrogramModel(CheckedWeights, SharedWeights, PreTrainedModel):
    """From waveforms, or features computed before, to a sequence of vectors; what pools and classifies comes after."""

    config_class = SpectrogramConfig
    base_model_prefix = "encoder"
    main_input_name = "input_values"

    def __init__(self, config: SpectrogramConfig):
        super().__init__(config)
        self.front_end = SpectrogramFrontEnd(**config.front_end)
        shape = (self.front_end.n_channels, self.front_end.n_bands, self.front_end.n_frames)
        self.feature_changes = FeatureChanges(**config.feature_changes or {})
        self.network = NETWORKS[config.network](config, *shape)
        self.post_init()

    @property
    def dtype(self) -> torch.dtype:
        # Of the functionals there is no parameter to ask, as transformers would.
        return next(self.network.parameters(), self.front_end.window).dtype

    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, (nn.Conv1d, nn.Conv2d)):  # ReLU follows each
            init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, (nn.Linear, nn.RNNBase)):
            module.reset_parameters()  # torch's own: transformers' deviation of 0.02 is for deep transformers

    def forward(
        self,
        input_values: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        speaker_statistics: torch.Tensor | None = None,
    ) -> SpectrogramOutput:
        """Encode a batch.

        Shapes:
            input_values: waveforms `(batch, samples)`, or features `(batch, channels, bands, frames)` as the front end
            gives them; attention_mask: `(batch, samples)` or `(batch, frames)`, 1 where there is audio;
            speaker_statistics: `(batch, 2, bands)`, for the front end.
        """
        if attention_mask is None:
            attention_mask = input_values.new_ones(input_values.shape[0], input_values.shape[-1])
        features, mask = input_values, attention_mask.bool()
        if input_values.dim() == 2:
            features, mask = self.front_end(input_values, attention_mask, speaker_statistics)
        features, mask = self.feature_changes(features, mask)
        output = self.network(features.to(self.dtype), mask)
        if not (isinstance(output, tuple) and len(output) == 2):
            raise ValueError(
                f"network {self.config.network}: found {type(output).__name__} from its forward, expected a pair: "
                "positions (batch, positions, size) and their mask."
            )
        hidden, mask = output
        return SpectrogramOutput(last_hidden_state=hidden, attention_mask=mask)


def with_backbone(model: SpectrogramModel, backbone: PreTrainedModel) -> SpectrogramModel:
    """Put a trained image model in place of the fresh one of network `vision`.

    Raises:
        ValueError: another network, or another kind of image model than the configuration's.
    """
    expected = getattr(model.config.backbone_config, "model_type", f"none, of network '{model.config.network}'")
    if backbone.config.model_type != expected or _width(backbone.config) != model.config.hidden_size:
        raise ValueError(
            f"The backbone given is {backbone.config.model_type}, the configuration's is {expected}: "
            "make the configuration with vision_config(backbone.config)."
        )
    model.network.backbone = without_trained_pooler(backbone)
    return model


def vision_config(backbone_config: PreTrainedConfig | dict) -> dict:
    """Arguments of SpectrogramConfig for an image model: 4 s of 128 mel bands as a picture.

    A model that names its `image_size` gets the picture in that size, others as it is (128 bands, 401 frames).
    """
    size = getattr(_as_config(backbone_config), "image_size", None)
    size = [size, size] if isinstance(size, int) else size
    front_end = {"n_bands": 128, "window_seconds": 0.064, "seconds": 4.0}
    return {
        "network": "vision",
        "backbone_config": backbone_config,
        "front_end": front_end | ({"image_size": list(size)} if size else {}),
    }


LIBROSA = {"window_seconds": 2048 / 22_050, "hop_seconds": 512 / 22_050}
"""The frames that librosa makes where nothing else is said, of which several systems were built."""

FUNCTIONALS = {"features": "functionals", "n_bands": 80, "top_db": 78.0, "normalisation": "none"}
"""Not normalised: so they are the same in every fold, and a cache of them serves all."""

CHANGES = {
    "warp": 0.03, "shift": 1.0, "stretch": 0.08, "curve": 0.08, "gain": 0.08, "band_mask": 4, "frame_mask": 10
}  # fmt: skip
"""Of `crnn`. Twice as strong, training on RAVDESS stood still at chance for six epochs, and patience ended."""

PRESETS = {
    "crnn": {"feature_changes": CHANGES},
    "spectrogram_cnn": {
        "network": "image_cnn",
        "front_end": {**LIBROSA, "n_bands": 128, "image_size": [64, 64]},
    },
    "mfcc_cnn": {
        "network": "image_cnn",
        "front_end": {
            **LIBROSA, "features": "mfcc", "n_bands": 20, "n_mels": 128, "image_size": [64, 64],
            "normalisation": "corpus",
        },
    },
    "six_layer_cnn": {
        "network": "six_layer_cnn",
        "dropout": 0.5,
        # 280 frames: 1 + 48000 // 172.
        "front_end": {"n_bands": 128, "window_seconds": 0.064, "hop_seconds": 0.01075, "seconds": 3.0},
    },
    "cnn_lstm": {
        "network": "cnn_lstm",
        "hidden_size": 64,
        # 108 frames: 1 + 40000 // 372.
        "front_end": {
            **LIBROSA, "features": "mfcc", "n_bands": 20, "n_mels": 128, "normalisation": "corpus",
            "seconds": 2.5, "start_seconds": 0.6,
        },
    },
    "alexnet": {
        "network": "alexnet",
        "hidden_size": 256,
        "dropout": 0.5,
        "front_end": {
            "features": "log_spectrogram", "n_bands": 200, "window_seconds": 0.040, "hop_seconds": 0.020, "deltas": True
        },
    },
    "functionals": {
        "network": "functionals",
        "front_end": FUNCTIONALS,
    },
    "random_kernels": {
        "network": "random_kernels",
        "front_end": {**FUNCTIONALS, "features": "random_kernels"},
    },
}  # fmt: skip
"""Arguments of SpectrogramConfig by the name of a system.

Coefficients are normalised over the training clips: over a clip of its own, each would lose its mean and deviation, and
with them loudness and timbre (see scripts/recipes/README.md).
"""
