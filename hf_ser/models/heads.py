"""Masked pooling, the mixing of layers, and the heads: of one modality, of both, and those that are solved for.

A head is made of the model's configuration. It is called with each modality as a sequence of vectors with a mask, by
its name (`audio`, `text`), and returns its outputs and those of its branches by modality: `config.num_outputs`, the
logits of the classes and behind them the dimensions of a model that predicts some. Where a row lacks one of two
modalities, a learned vector takes its place, so that every fusion head also answers with the other modality alone.
"""

from dataclasses import dataclass

import torch
from torch import nn


@dataclass
class Sequences:
    """One modality of a batch.

    Shapes:
        hidden: `(batch, positions, size)`; mask: `(batch, positions)` bool; present: `(batch,)` bool.
    """

    hidden: torch.Tensor
    mask: torch.Tensor
    present: torch.Tensor


def masked_mean(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean over the positions that the mask holds.

    Shapes: hidden `(batch, positions, size)`, mask `(batch, positions)` bool; out `(batch, size)`.
    """
    weights = mask.to(hidden.dtype).unsqueeze(-1)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


def one_position_a_view(one: Sequences, views: int = 1) -> Sequences:
    """The mean over the positions of each view of a clip, which is all that a head reads that is solved for.

    Shapes: hidden `(batch * views, positions, size)`; out `(batch, views, size)`.
    """
    means, present = masked_mean(one.hidden, one.mask), one.present.unflatten(0, (-1, views))
    return Sequences(means.unflatten(0, (-1, views)), present, present.all(1))


def context_apart(text: Sequences) -> tuple[Sequences, Sequences]:
    """The text, and the mean of the previous turns of its dialogue, which are the positions behind the first.

    Shapes: hidden `(batch, 1 + turns, size)`; of both results `(batch, 1, size)`.
    """
    turns, mask = text.hidden[:, 1:], text.mask[:, 1:]
    has_turns = text.present & mask.any(1)
    own = Sequences(text.hidden[:, :1], text.mask[:, :1], text.present)
    return own, Sequences(masked_mean(turns, mask)[:, None], has_turns[:, None], has_turns)


class MeanPooling(nn.Module):
    """Mean over the positions that the mask holds."""

    def __init__(self, size: int):
        super().__init__()

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Shapes: hidden `(batch, positions, size)`, mask `(batch, positions)` bool; out `(batch, size)`."""
        return masked_mean(hidden, mask)


class AttentivePooling(nn.Module):
    """Mean weighted by a learned score of each position.

    Source: Mirsamadi et al. 2017, Automatic speech emotion recognition using recurrent neural networks with local
    attention.
    """

    def __init__(self, size: int):
        super().__init__()
        self.score = nn.Sequential(nn.Linear(size, size // 2), nn.Tanh(), nn.Linear(size // 2, 1, bias=False))

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Shapes: hidden `(batch, positions, size)`, mask `(batch, positions)` bool; out `(batch, size)`."""
        return torch.einsum("bps,bp->bs", hidden, self.weights(hidden, mask))

    def weights(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """What each position counts, `(batch, positions)`; they sum to one."""
        scores = self.score(hidden).squeeze(-1).float().masked_fill(~mask, -1e9)
        return scores.softmax(1).to(hidden.dtype)


class AttentiveStatisticsPooling(AttentivePooling):
    """Weighted mean and deviation, side by side, brought back to one vector of the positions' size.

    Source: Okabe et al. 2018, Attentive statistics pooling for deep speaker embedding.
    """

    def __init__(self, size: int):
        super().__init__(size)
        self.join = nn.Linear(2 * size, size)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Shapes: hidden `(batch, positions, size)`, mask `(batch, positions)` bool; out `(batch, size)`."""
        weights = self.weights(hidden, mask)
        mean = torch.einsum("bps,bp->bs", hidden, weights)
        variance = torch.einsum("bps,bp->bs", (hidden - mean[:, None]).square(), weights)
        # Of one position the variance is 0, where a root has no finite slope.
        return self.join(torch.cat([mean, (variance + 1e-6).sqrt()], dim=-1))


POOLINGS = {"mean": MeanPooling, "attentive": AttentivePooling, "attentive_statistics": AttentiveStatisticsPooling}


class LayerMixing(nn.Module):
    """One sequence of an encoder's hidden layers: their mean, weighted by a learned softmax.

    Layers differ in scale (Whisper's by two orders), so each is brought to one before it is weighted.

    Source: Yang et al. 2021, SUPERB (weighted sum of all hidden layers).
    """

    def __init__(self, layers: int):
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(layers))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Shapes: hidden `(batch, positions, layers, size)`; out `(batch, positions, size)`."""
        weights = self.scores.softmax(0).to(hidden.dtype)
        return torch.einsum("bpls,l->bps", nn.functional.layer_norm(hidden, hidden.shape[-1:]), weights)


class Classifier(nn.Module):
    """One vector a row to the outputs: through a hidden layer, or at once."""

    def __init__(self, config, size: int, hidden: bool = True):
        super().__init__()
        self.hidden = nn.Identity()
        if hidden:
            self.hidden, size = nn.Sequential(nn.Linear(size, config.head_size), nn.GELU()), config.head_size
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(size, config.num_outputs)

    def classify(self, vectors: torch.Tensor) -> torch.Tensor:
        """Shapes: vectors `(batch, size)`; out `(batch, outputs)`."""
        return self.classifier(self.dropout(self.hidden(vectors)))

    forward = classify


class Standardisation(nn.Module):
    """Fixed statistics of the training vectors, by which vectors are standardised, and cut at 4 deviations.

    Layers of pretrained encoders hold dimensions of very different scales: without it a head follows the largest.
    """

    clip_at = 4.0

    def __init__(self, *shape: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("deviation", torch.ones(shape))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Shapes: `(*, *shape)`, and so is the result."""
        return ((vectors - self.mean) / self.deviation).clamp(-self.clip_at, self.clip_at)


class SpeakerMeans(nn.Module):
    """How far the mean of a speaker's clips is from that of the training speakers, shrunk by how little they tell.

    Of the difference of n clips the share `between / (between + within / n)` counts, dimension by dimension: of the
    variance between training speakers' means, and within a speaker (Bayes' rule for two normal distributions).

    Args:
        views: Views of a clip, each with a mean of its own.
        size: Of a vector.
    """

    def __init__(self, views: int, size: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(views, size))
        self.register_buffer("between", torch.ones(size))
        self.register_buffer("within", torch.ones(size))

    def fit(self, vectors: torch.Tensor, rows_of_speakers: list) -> None:
        """Measure the training speakers; vectors `(clips, views, size)`, and which of them are each speaker's."""
        means = torch.stack([vectors[rows].mean(0) for rows in rows_of_speakers])
        counts = torch.tensor([len(rows) for rows in rows_of_speakers]).to(vectors)
        squares = sum(
            (vectors[rows] - mean).square().sum(0) for rows, mean in zip(rows_of_speakers, means, strict=True)
        )
        within = (squares / (counts.sum() - len(counts)).clamp(min=1)).mean(0)
        between = means.var(0).mean(0) - within * (1 / counts).mean()
        self.mean.copy_(vectors.mean(0))
        self.within.copy_(within.clamp(min=1e-12))
        self.between.copy_(between.clamp(min=0))

    def offset(self, vectors: torch.Tensor) -> torch.Tensor:
        """What is taken off the clips of a speaker of whom some are known.

        Shapes: `(clips, views, size)`, out `(views, size)`.
        """
        return self.between / (self.between + self.within / len(vectors)) * (vectors.mean(0) - self.mean)


class SolvedHead(nn.Module):
    """Vectors of both modalities side by side, standardised, under one linear layer that is solved for at once.

    A position is the mean of one view of a clip (`one_position_a_view`): the clip at one of several speeds. What the
    layer answers of the mean of the standardised views is the mean of its answers of them.

    Previous turns of the dialogue are one more vector, where `context_turns` is not 0.

    Of a row without a modality its standardised mean is 0: what the training rows have on average.
    """

    modalities, has_branches = (1, 2), False

    def __init__(self, config):
        super().__init__()
        self.sizes = [config.size_of(modality) for modality in config.modalities]
        self.reads_context = config.context_turns > 0
        if self.reads_context:
            self.sizes.append(config.size_of("text"))
        size = sum(self.sizes)
        self.standardisation, self.classifier = Standardisation(size), nn.Linear(size, config.num_outputs)
        self.speakers = SpeakerMeans(config.speaker_views, size) if config.speaker_views else None

    def forward(self, speaker_statistics: torch.Tensor | None = None, **given: Sequences) -> tuple[torch.Tensor, dict]:
        """Shapes: speaker_statistics `(batch, views, size)`, of `SpeakerMeans.offset`; out `(batch, outputs)`."""
        known, parts = self.standardisation.mean.split(self.sizes), self.parts(given)
        views = max(one.hidden.shape[1] for one in parts)
        vectors = [
            torch.where(one.present[:, None, None], one.hidden, mean.to(one.hidden.dtype)).expand(-1, views, -1)
            for one, mean in zip(parts, known, strict=True)
        ]
        vectors = torch.cat(vectors, dim=-1)
        if speaker_statistics is not None:
            vectors = vectors - speaker_statistics
        return self.classifier(self.standardisation(vectors).mean(1)), {}

    def parts(self, given: dict[str, Sequences]) -> list[Sequences]:
        """What is put side by side: audio, text, and the previous turns of the dialogue."""
        if not self.reads_context:
            return list(given.values())
        return [part for name, one in given.items() for part in (context_apart(one) if name == "text" else [one])]


class SingleHead(Classifier):
    """The head of a model of one modality: its positions pooled, then classified."""

    modalities = (1,)

    def __init__(self, config):
        (modality,) = config.modalities
        size = config.size_of(modality)
        is_mlp = config.head == "mlp"
        super().__init__(config, config.head_size if is_mlp else size, hidden=is_mlp)
        self.align = nn.Identity()
        if is_mlp:
            self.align = nn.Sequential(
                nn.Linear(size, config.head_size), nn.LayerNorm(config.head_size), nn.Dropout(config.dropout)
            )
            size = config.head_size
        self.pooling = POOLINGS[config.pooling](size)

    def forward(self, **given: Sequences) -> tuple[torch.Tensor, dict]:
        """Shapes: out `(batch, outputs)`."""
        (sequences,) = given.values()
        return self.classify(self.pooling(self.align(sequences.hidden), sequences.mask)), {}


class Branch(nn.Module):
    """Bring one modality to the fusion's size; rows without it become one learned vector."""

    def __init__(self, config, hidden_size: int):
        super().__init__()
        self.project = nn.Linear(hidden_size, config.head_size)
        self.norm = nn.LayerNorm(config.head_size)
        self.dropout = nn.Dropout(config.dropout)
        self.pooling = POOLINGS[config.pooling](config.head_size)
        self.missing = nn.Parameter(torch.zeros(config.head_size))

    def align(self, modality: Sequences) -> tuple[torch.Tensor, torch.Tensor]:
        """Projected sequence and its mask; shapes `(batch, positions, head_size)`, `(batch, positions)`."""
        hidden = self.dropout(self.norm(self.project(modality.hidden)))
        hidden = torch.where(modality.present[:, None, None], hidden, self.missing.to(hidden.dtype))
        only_first = torch.arange(hidden.shape[1], device=hidden.device)[None] == 0
        present = modality.present[:, None]
        return hidden, (present & modality.mask) | (~present & only_first)  # onnxruntime has no `where` of bools

    def forward(self, modality: Sequences) -> torch.Tensor:
        """One vector a row, shape `(batch, head_size)`."""
        return self.pooling(*self.align(modality))


class FusionHead(nn.Module):
    """What all fusion heads share: one branch a modality.

    Attributes:
        has_branches: Whether each modality has logits of its own, with a loss of their own.
    """

    modalities = (2,)
    has_branches = False

    def __init__(self, config):
        super().__init__()
        self.audio = Branch(config, config.size_of("audio"))
        self.text = Branch(config, config.size_of("text"))


class ConcatFusion(FusionHead):
    """Early fusion: both pooled vectors side by side."""

    def __init__(self, config):
        super().__init__(config)
        self.classifier = Classifier(config, 2 * config.head_size)

    def forward(self, audio: Sequences, text: Sequences):
        return self.classifier(torch.cat([self.audio(audio), self.text(text)], dim=-1)), {}


class GatedFusion(FusionHead):
    """Early fusion: a gate decides, dimension by dimension, how much of each modality enters.

    Source: Arevalo et al. 2017, Gated multimodal units for information fusion, the bimodal unit.
    """

    def __init__(self, config):
        super().__init__(config)
        size = config.head_size
        self.audio_value, self.text_value = nn.Linear(size, size), nn.Linear(size, size)
        self.gate = nn.Linear(2 * size, size)
        self.classifier = Classifier(config, size)

    def forward(self, audio: Sequences, text: Sequences):
        a, t = self.audio(audio), self.text(text)
        gate = torch.sigmoid(self.gate(torch.cat([a, t], dim=-1)))
        fused = gate * torch.tanh(self.audio_value(a)) + (1 - gate) * torch.tanh(self.text_value(t))
        return self.classifier(fused), {}


class CrossAttentionFusion(FusionHead):
    """Early fusion on sequences: each modality attends to the other, then both are pooled and joined.

    Source: Tsai et al. 2019, Multimodal transformer for unaligned multimodal language sequences
    (crossmodal attention).
    """

    def __init__(self, config):
        super().__init__(config)
        size, heads = config.head_size, config.num_fusion_heads
        self.audio_from_text = nn.MultiheadAttention(size, heads, dropout=config.dropout, batch_first=True)
        self.text_from_audio = nn.MultiheadAttention(size, heads, dropout=config.dropout, batch_first=True)
        self.audio_norm, self.text_norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.classifier = Classifier(config, 2 * size)

    def forward(self, audio: Sequences, text: Sequences):
        a, a_mask = self.audio.align(audio)
        t, t_mask = self.text.align(text)
        a_seen = self.audio_from_text(a, t, t, key_padding_mask=~t_mask, need_weights=False)[0]
        t_seen = self.text_from_audio(t, a, a, key_padding_mask=~a_mask, need_weights=False)[0]
        a = self.audio.pooling(self.audio_norm(a + a_seen), a_mask)
        t = self.text.pooling(self.text_norm(t + t_seen), t_mask)
        return self.classifier(torch.cat([a, t], dim=-1)), {}


class MeanFusion(FusionHead):
    """Late fusion: the mean of the branches' probabilities and dimensions; a row without a modality has the other's."""

    has_branches = True

    def __init__(self, config):
        super().__init__(config)
        self.n_classes = config.num_labels
        self.audio_classifier = Classifier(config, config.head_size)
        self.text_classifier = Classifier(config, config.head_size)

    def modality_weights(self) -> torch.Tensor:
        return self.audio.missing.new_full((2,), 0.5)

    def forward(self, audio: Sequences, text: Sequences):
        branches = {
            "audio": self.audio_classifier(self.audio(audio)),
            "text": self.text_classifier(self.text(text)),
        }
        present = torch.stack([audio.present, text.present], dim=1)
        weights = self.modality_weights().float() * present
        weights = weights / weights.sum(1, keepdim=True)
        logits = [outputs[:, : self.n_classes] for outputs in branches.values()]
        log_probabilities = torch.stack([one.float().log_softmax(-1) for one in logits], dim=1)
        # log of the weighted mean of probabilities: these are logits whose softmax is that mean.
        fused = (log_probabilities + weights.clamp(min=1e-12).log().unsqueeze(-1)).logsumexp(1)
        if branches["audio"].shape[-1] > self.n_classes:
            dimensions = torch.stack([outputs[:, self.n_classes :].float() for outputs in branches.values()], dim=1)
            fused = torch.cat([fused, (dimensions * weights.unsqueeze(-1)).sum(1)], dim=-1)
        return fused, branches


class WeightedFusion(MeanFusion):
    """Late fusion: as the mean, with one learned weight a modality (softmax, so that they sum to one)."""

    def __init__(self, config):
        super().__init__(config)
        self.weight_scores = nn.Parameter(torch.zeros(2))

    def modality_weights(self) -> torch.Tensor:
        return self.weight_scores.softmax(0)


FUSIONS = {
    "concat": ConcatFusion,
    "gated": GatedFusion,
    "cross_attention": CrossAttentionFusion,
    "mean": MeanFusion,
    "weighted": WeightedFusion,
}
SOLVED_HEADS = ("ridge", "logistic")
"""Heads on standardised means that are solved for at once; their encoders are frozen."""
HEADS = {"mlp": SingleHead, "linear": SingleHead, **FUSIONS, **dict.fromkeys(SOLVED_HEADS, SolvedHead)}
"""All heads by name; `modalities` of each says of how many it can be."""
