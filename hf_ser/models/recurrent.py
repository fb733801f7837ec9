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
        # Packed, so that the backward direction starts at each text's own end and not in the padding.
        lengths = attention_mask.sum(1).clamp(min=1).cpu()
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        hidden, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=input_ids.shape[1])
        return BaseModelOutput(last_hidden_state=hidden)


TEXT_PRESETS = {"gru": {}, "bilstm": {"cell": "lstm", "num_layers": 2}}
"""Arguments of TextRnnConfig by the name of a system."""
