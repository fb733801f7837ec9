"""Our own text encoder: word embeddings and a recurrent network, for a vocabulary learned from the training rows."""

from .libraries import check_transformers  # noqa: F401  (before transformers 4 fails at a name it does not have)

# isort: split
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from .config_checks import check_own_config
from .loading import CheckedWeights
from .saving import SharedWeights

CELLS = {"gru": nn.GRU, "lstm": nn.LSTM}


class TextRnnConfig(PreTrainedConfig):
    """What rebuilds a recurrent text encoder.

    Args:
        vocab_size: Words known.
        embedding_size: Width of a word.
        cell: `gru` or `lstm`.
        num_layers: Recurrent layers.
        bidirectional: Whether a text is also read from its end.
        hidden_size: Width of the output, both directions together.
        dropout: Of the embeddings, and between layers.

    Raises:
        ValueError: unknown cell, a value that no model has, or a width that two directions cannot share.
    """

    model_type = "ser_text_rnn"

    vocab_size: int = 1000
    embedding_size: int = 64
    cell: str = "gru"
    num_layers: int = 1
    bidirectional: bool = True
    hidden_size: int = 128
    dropout: float = 0.2
    pad_token_id: int = 0
    initializer_range: float = 0.1

    def __post_init__(self, **kwargs):
        check_own_config(self, kwargs)
        if self.cell not in CELLS:
            raise ValueError(f"Unknown cell '{self.cell}': expected one of {', '.join(CELLS)}.")
        if self.bidirectional and self.hidden_size % 2:
            raise ValueError(f"hidden_size {self.hidden_size} is shared by two directions: expected an even number.")
        super().__post_init__(**kwargs)


class TextRnnModel(CheckedWeights, SharedWeights, PreTrainedModel):
    """Recurrent layers over word embeddings."""

    config_class = TextRnnConfig
    base_model_prefix = "encoder"
    main_input_name = "input_ids"

    def __init__(self, config: TextRnnConfig):
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_size, padding_idx=config.pad_token_id)
        self.dropout = nn.Dropout(config.dropout)
        self.rnn = CELLS[config.cell](
            config.embedding_size,
            config.hidden_size // (2 if config.bidirectional else 1),
            num_layers=config.num_layers,
            batch_first=True,
            bidirectional=config.bidirectional,
            dropout=config.dropout if config.num_layers > 1 else 0.0,
        )
        self.post_init()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> BaseModelOutput:
        """Shapes: input_ids and attention_mask `(batch, tokens)`, padded on the right; out `(batch, tokens, size)`."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        embedded = self.dropout(self.embedding(input_ids))
        return BaseModelOutput(last_hidden_state=run_packed(self.rnn, embedded, attention_mask))


def run_packed(rnn: nn.RNNBase, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """A recurrent layer that ends, and turns back, at each row's own end.

    Shapes: x `(batch, positions, size)`; mask `(batch, positions)`, padded on the right; out as x.
    """
    lengths = mask.sum(1).clamp(min=1)
    if torch.onnx.is_in_onnx_export():
        return _run_in_onnx(rnn, x, lengths)
    packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(rnn(packed)[0], batch_first=True, total_length=x.shape[1])[0]


ONNX_GATES = {"GRU": (1, 0, 2), "LSTM": (0, 3, 1, 2)}
"""Torch's places of the gates in the order of ONNX: reset, update, new; input, forget, cell, output."""


def _run_in_onnx(rnn: nn.RNNBase, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """The same by ONNX's own operations, which take lengths: of torch's an export would be a loop of fixed length."""
    directions = 2 if rnn.bidirectional else 1
    settings = {"hidden_size": rnn.hidden_size, "direction": "bidirectional" if directions == 2 else "forward"}
    if rnn.mode == "GRU":
        settings["linear_before_reset"] = 1
    for layer in range(rnn.num_layers):
        parts = [
            [_reordered(weight, rnn.mode) for weight in rnn.all_weights[layer * directions + direction]]
            for direction in range(directions)
        ]
        of_input, of_state, input_bias, state_bias = (torch.stack(part) for part in zip(*parts, strict=True))
        x = torch.onnx.ops.symbolic(
            rnn.mode,
            [x.transpose(0, 1), of_input, of_state, torch.cat([input_bias, state_bias], 1), lengths.int()],
            settings,
            dtype=x.dtype,
            shape=[x.shape[1], directions, x.shape[0], rnn.hidden_size],
            version=14,
        )
        x = x.permute(2, 0, 1, 3).flatten(2)
    return x


def _reordered(weight: torch.Tensor, mode: str) -> torch.Tensor:
    gates = weight.chunk(len(ONNX_GATES[mode]))
    return torch.cat([gates[place] for place in ONNX_GATES[mode]])


TEXT_PRESETS = {"gru": {}, "bilstm": {"cell": "lstm", "num_layers": 2}}
"""Arguments of TextRnnConfig by the name of a system."""
