"""What the audio encoders differ in: how they are built from a configuration, and which output frames are sound."""

import torch
from torch import nn
from transformers import AutoModel, AutoModelForAudioClassification, PreTrainedConfig, PreTrainedModel

from .recurrent import TextRnnConfig, TextRnnModel
from .spectrogram import SpectrogramConfig, SpectrogramModel

OWN_MODELS = {SpectrogramConfig.model_type: SpectrogramModel, TextRnnConfig.model_type: TextRnnModel}


def build_encoder(config: PreTrainedConfig) -> PreTrainedModel:
    """An encoder with fresh weights; they are loaded after construction, never in here."""
    if config.model_type in OWN_MODELS:
        return OWN_MODELS[config.model_type](config)
    if config.model_type == "whisper":
        return AutoModelForAudioClassification.from_config(config).encoder
    return without_pooler(AutoModel.from_config(config))


def without_pooler(encoder: PreTrainedModel) -> PreTrainedModel:
    """Drop BERT's pooler: fusion reads the sequence, and unused weights stall distributed training."""
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    return encoder


def encode_audio(
    encoder: nn.Module,
    config: PreTrainedConfig,
    values: torch.Tensor,
    mask: torch.Tensor,
    layers: str | int | list[int] = "last",
    speaker_statistics: torch.Tensor | None = None,
):
    """Run an audio encoder.

    Args:
        layers: `last`, `mix` for all of them, a number, or several, which are put side by side.
        speaker_statistics: Of each row's speaker, for a front end that is normalised by them.

    Shapes:
        values: `(batch, samples)` waveform, or features as the encoder's extractor makes them;
        mask: `(batch, samples)` or `(batch, feature frames)`, 1 where there is sound;
        speaker_statistics: `(batch, 2, bands)`;
        returns hidden `(batch, frames, size)`, with `mix` `(batch, frames, layers, size)`, with several numbers
        `(batch, frames, layers * size)`, and its mask
        `(batch, frames)` bool.
    """
    if config.model_type == SpectrogramConfig.model_type:
        output = encoder(values, attention_mask=mask, speaker_statistics=speaker_statistics)
        return output.last_hidden_state, output.attention_mask
    # Whisper and AST were trained on clips padded to one length without a mask; padding is left out when pooling.
    masked = {} if config.model_type in ("whisper", "audio-spectrogram-transformer") else {"attention_mask": mask}
    values = values.to(encoder.dtype)  # of a model in half precision; an extractor gives float32
    hidden = read_layers(encoder(values, **masked, output_hidden_states=layers != "last"), layers)
    return hidden, output_mask(config, mask.bool(), hidden.shape[1])


def read_layers(output, layers: str | int | list[int]) -> torch.Tensor:
    """The hidden layers that are asked for; the number of the last is the encoder's whole answer.

    Shapes:
        `(batch, positions, size)`, of `mix` `(batch, positions, layers, size)`, of several `(batch, positions,
        layers * size)`.
    """
    if isinstance(layers, list):
        return torch.cat([read_layers(output, one) for one in layers], dim=-1)
    if layers == "last" or layers == len(output.hidden_states or ()) - 1:
        return output.last_hidden_state
    if layers == "mix":
        return torch.stack([*output.hidden_states[:-1], output.last_hidden_state], dim=2)
    return output.hidden_states[layers]


def output_mask(config: PreTrainedConfig, mask: torch.Tensor, frames: int) -> torch.Tensor:
    """Which of an encoder's output frames hold sound, from the mask of its input; `(batch, frames)` bool."""
    if config.model_type == "audio-spectrogram-transformer":
        patch, stride = config.patch_size, config.time_stride
        times = mask.unfold(1, patch, stride).any(-1)
        bands = (frames - 2) // times.shape[1]
        # Two class tokens, then the patches band by band, each band from the start of the clip to its end.
        return torch.cat([torch.ones_like(mask[:, :2]), times.repeat(1, bands)], dim=1)
    lengths = mask.sum(1)
    if config.model_type == "whisper":
        lengths = (lengths + 1) // 2
    elif hasattr(config, "conv_stride"):
        for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
            lengths = (lengths - kernel) // stride + 1
        for _ in range(config.num_adapter_layers if getattr(config, "add_adapter", False) else 0):
            lengths = (lengths - 1) // config.adapter_stride + 1
    elif mask.shape[1] != frames:
        raise ValueError(
            f"{config.model_type} gives {frames} frames for {mask.shape[1]} of its input, and which of them hold sound "
            "is not known. Expected wav2vec2, HuBERT, WavLM, AST, Whisper, a network of ours, or as many frames out as "
            "in."
        )
    return torch.arange(frames, device=mask.device)[None] < lengths[:, None]


class MaskedGroupNorm(nn.GroupNorm):
    """GroupNorm with one channel a group whose statistics leave padding out.

    wav2vec2-base, HuBERT-base and WavLM-base normalise their first layer over the whole padded clip, so that a clip's
    features change with the length it is padded to. With `frames` set, a padded clip gives what it gives alone.
    """

    frames: torch.Tensor | None = None
    kernel: int
    stride: int

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shapes: x `(batch, channels, frames)`."""
        if self.frames is None:
            return super().forward(x)
        mask = (torch.arange(x.shape[2], device=x.device)[None] < self.frames[:, None])[:, None].float()
        count = mask.sum(2, keepdim=True).clamp(min=1)
        values = x.float()
        mean = (values * mask).sum(2, keepdim=True) / count
        variance = ((values - mean).square() * mask).sum(2, keepdim=True) / count
        scaled = (values - mean) * torch.rsqrt(variance + self.eps)
        return (scaled * self.weight[None, :, None] + self.bias[None, :, None]).to(x.dtype)


def ignore_padding(model: PreTrainedModel) -> PreTrainedModel:
    """Make a group-normalised speech encoder independent of padding; others are returned as they are.

    Weights and their names stay the same. `model` is what gets `input_values` and `attention_mask`: the encoder or a
    classifier around it.
    """
    layers = [m for m in model.modules() if type(getattr(m, "layer_norm", None)) is nn.GroupNorm and hasattr(m, "conv")]
    if not layers:
        return model
    for layer in layers:
        norm = MaskedGroupNorm(layer.layer_norm.num_groups, layer.layer_norm.num_channels, layer.layer_norm.eps)
        norm.weight, norm.bias = layer.layer_norm.weight, layer.layer_norm.bias
        norm.kernel, norm.stride = layer.conv.kernel_size[0], layer.conv.stride[0]
        layer.layer_norm = norm
    model.register_forward_pre_hook(_note_lengths, with_kwargs=True)
    return model


def _note_lengths(model: nn.Module, args: tuple, kwargs: dict) -> None:
    # It looks for the norms in the model it is called on, and holds none: peft deep-copies encoders with their hooks.
    mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
    for norm in model.modules():
        if isinstance(norm, MaskedGroupNorm):
            norm.frames = None if mask is None else (mask.sum(1) - norm.kernel) // norm.stride + 1
