"""Encoders that normalise over a whole padded clip, made independent of the padding."""

import torch
from torch import nn
from transformers import PreTrainedModel


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
        # An exported program has no lengths to cut rows at; a GPU would wait for them.
        if torch.compiler.is_compiling() or x.device.type != "cpu":
            return self._masked(x)
        # Clip by clip: torch's own norm takes a quarter of the time of the same in single steps.
        lengths, norm = self.frames.clamp(min=2).tolist(), super().forward
        rows = [norm(row[None, :, :length]) for row, length in zip(x, lengths, strict=True)]
        return torch.cat([nn.functional.pad(row, (0, x.shape[2] - row.shape[2])) for row in rows])

    def _masked(self, x: torch.Tensor) -> torch.Tensor:
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
