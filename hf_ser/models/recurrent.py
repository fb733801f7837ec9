"""Our own text encoder: word embeddings and a bidirectional GRU, for a vocabulary learned from the training rows."""

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, SequenceClassifierOutput

from .fusion import POOLINGS


class TextGruConfig(PreTrainedConfig):
    """Vocabulary size, width of the embeddings and of both directions together, and how a text is pooled."""

    model_type = "ser_text_gru"

    vocab_size: int = 1000
    embedding_size: int = 64
    hidden_size: int = 128
    dropout: float = 0.2
    pooling: str = "attentive"
    pad_token_id: int = 0
    initializer_range: float = 0.1


class TextGruPreTrainedModel(PreTrainedModel):
    config_class = TextGruConfig
    base_model_prefix = "encoder"
    main_input_name = "input_ids"


class TextGruModel(TextGruPreTrainedModel):
    """One bidirectional GRU layer over word embeddings."""

    def __init__(self, config: TextGruConfig):
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_size, padding_idx=config.pad_token_id)
        self.dropout = nn.Dropout(config.dropout)
        self.gru = nn.GRU(config.embedding_size, config.hidden_size // 2, batch_first=True, bidirectional=True)
        self.post_init()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> BaseModelOutput:
        """Shapes: input_ids and attention_mask `(batch, tokens)`, padded on the right; out `(batch, tokens, size)`."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        embedded = self.dropout(self.embedding(input_ids))
        # Packed, so that the backward direction starts at each text's own end and not in the padding.
        lengths = attention_mask.sum(1).clamp(min=1).cpu()
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        hidden, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=input_ids.shape[1])
        return BaseModelOutput(last_hidden_state=hidden)


class TextGruForSequenceClassification(TextGruPreTrainedModel):
    """The encoder alone, pooled over the text and classified."""

    accepts_loss_kwargs = False
    accepts_soft_labels = True

    def __init__(self, config: TextGruConfig):
        super().__init__(config)
        self.encoder = TextGruModel(config)
        self.pooling = POOLINGS[config.pooling](config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, input_ids, attention_mask=None, labels=None) -> SequenceClassifierOutput:
        """Shapes: input_ids `(batch, tokens)`; labels `(batch,)` class indices or `(batch, classes)` shares."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        hidden = self.encoder(input_ids, attention_mask).last_hidden_state
        logits = self.classifier(self.dropout(self.pooling(hidden, attention_mask.bool())))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)
