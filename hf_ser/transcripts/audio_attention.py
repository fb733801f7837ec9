"""The decoder's attention to the audio, for both back ends on torch: to a clip, and to the silence after it.

A Whisper that attends to less than 30 s repeats itself: it waits for the silence that followed every short clip when
it was trained. So only the clip is encoded, and the encoder's output for silence follows it up to 30 s. It is the same
for every clip, so its keys and values are computed once, and one product gives all rows' attention to it.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hf_ser.transcripts.greedy import keep_rows

KeysAndValues = tuple[Tensor, Tensor]


class Projections(NamedTuple):
    """Linear layers of one layer's attention to the audio, under the names of neither library."""

    query: nn.Module
    key: nn.Module
    value: nn.Module
    out: nn.Module
    n_heads: int

    def heads(self, states: Tensor) -> Tensor:
        """Shapes: `(rows, positions, width)` to `(rows, heads, positions, width of a head)`."""
        return states.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)

    def keys_and_values(self, features: Tensor) -> KeysAndValues:
        """Keys and values, contiguous in each head: strided ones take a CPU nearly twice as long.

        Shapes:
            features: `(rows, positions, width)`; returns two of `(rows, heads, positions, width of a head)`.
        """
        return self.heads(self.key(features)).contiguous(), self.heads(self.value(features)).contiguous()


class AudioAttention(nn.Module):
    """Attention of one decoder layer to some windows, and to the silence after them.

    Args:
        projections: Layers of the attention that this one replaces.
        features: Encoder's output for the windows.
        silence: Keys and values of 30 s of silence; those of the positions after the windows are used.

    Shapes:
        features: `(rows, positions, width)`; silence: two of `(1, heads, positions of 30 s, width of a head)`.
    """

    def __init__(self, projections: Projections, features: Tensor, silence: KeysAndValues):
        super().__init__()
        self.projections, positions = projections, features.shape[1]
        self.keys, self.values = projections.keys_and_values(features)
        self.silent_keys, self.silent_values = (states[0, :, positions:] for states in silence)

    def keep(self, rows: Tensor) -> None:
        """Keep these rows alone."""
        self.keys, self.values = keep_rows(self.keys, rows), keep_rows(self.values, rows)

    def forward(self, hidden_states: Tensor, *_, **__) -> tuple[Tensor, None]:
        """Attend; the libraries' other arguments are the features and a cache, which are not used.

        Shapes:
            hidden_states: `(rows, new, width)`; returns the same and, in the place of the weights, None.
        """
        queries = self.projections.heads(self.projections.query(hidden_states))
        if self.silent_keys.shape[1]:
            found = self._with_silence(queries)
        else:
            found = nn.functional.scaled_dot_product_attention(queries, self.keys, self.values)
        return self.projections.out(found.transpose(1, 2).flatten(2)), None

    def _with_silence(self, queries: Tensor) -> Tensor:
        """Attention to both, whose weights add up to 1. Shapes: `(rows, heads, new, width of a head)`."""
        n_rows, positions = len(queries), self.keys.shape[2]
        queries = queries * queries.shape[-1] ** -0.5
        own = queries @ self.keys.transpose(-1, -2)
        silent = _by_row(_by_head(queries) @ self.silent_keys.transpose(-1, -2), n_rows)
        weights = torch.cat([own, silent], -1).softmax(-1, dtype=torch.float32).to(queries.dtype)
        own, silent = weights[..., :positions], weights[..., positions:]
        return own @ self.values + _by_row(_by_head(silent) @ self.silent_values, n_rows)


def _by_head(states: Tensor) -> Tensor:
    """Shapes: `(rows, heads, new, n)` to `(heads, rows * new, n)`."""
    return states.transpose(0, 1).flatten(1, 2)


def _by_row(states: Tensor, n_rows: int) -> Tensor:
    """Shapes: `(heads, rows * new, n)` to `(rows, heads, new, n)`."""
    return states.unflatten(1, (n_rows, -1)).transpose(0, 1)


class ReplacedAttention:
    """Replaces the attention to the audio in all layers of a decoder, until `restore`.

    Args:
        layers: The decoder's layers.
        name: Attribute of a layer that holds its attention to the audio.
        projections: Returns the projections of such an attention.
        features, silence: As `AudioAttention` takes them, `silence` for each layer.
    """

    def __init__(
        self,
        layers: Sequence[nn.Module],
        name: str,
        projections: Callable[[nn.Module], Projections],
        features: Tensor,
        silence: Sequence[KeysAndValues],
    ):
        self.layers, self.name = layers, name
        self.originals = [getattr(layer, name) for layer in layers]
        with torch.inference_mode():
            self.replacements = [
                AudioAttention(projections(attention), features, states)
                for attention, states in zip(self.originals, silence, strict=True)
            ]
        self._put(self.replacements)

    def keep(self, rows: Tensor) -> None:
        """Keep these rows alone."""
        for attention in self.replacements:
            attention.keep(rows)

    def restore(self) -> None:
        """Put the library's own attention back."""
        self._put(self.originals)

    def _put(self, attentions: Sequence[nn.Module]) -> None:
        for layer, attention in zip(self.layers, attentions, strict=True):
            setattr(layer, self.name, attention)
