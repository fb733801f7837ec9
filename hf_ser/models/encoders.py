"""What is special to each family of encoders, in one class a family: nothing else knows a family by its name.

A family says how an encoder is built, found in a pretrained model, fed, run, cropped and adapted. A new one is a
subclass of `Family` in `FAMILIES`.
"""

import numpy as np
import torch
from torch import nn
from transformers import AutoModel, AutoModelForAudioClassification, PreTrainedConfig, PreTrainedModel

from .recurrent import TextRnnConfig, TextRnnModel
from .spectrogram import SpectrogramConfig, SpectrogramModel

MIN_SECONDS = 0.25
"""Shorter clips are padded with silence to this length, the least that all encoders (wav2vec2's masking) can take."""
SPEECH_PROJECTIONS = "q_proj|k_proj|v_proj|out_proj"


class Family:
    """An encoder as AutoModel builds it; of audio, one that takes waveforms with a mask, as wav2vec2 does.

    Attributes:
        auto_class: What loads a pretrained model with this encoder.
        config_class: Its configuration, where transformers does not have it.
        extractor: Class name of its feature extractor, where that needs more than to be called.
        takes_mask: Whether it was trained with a mask of the padding.
        lora_targets: Its linear layers that LoRA is put on, as a regular expression; None where they are not known.
    """

    auto_class = AutoModel
    config_class: type[PreTrainedConfig] | None = None
    extractor: str | None = None
    takes_mask = True

    def __init__(self, lora_targets: str | None = None):
        self.lora_targets = lora_targets

    def build(self, config: PreTrainedConfig) -> PreTrainedModel:
        """Build an encoder with fresh weights; they are loaded after construction, never in here."""
        return without_pooler(AutoModel.from_config(config))

    def encoder_of(self, model: PreTrainedModel) -> PreTrainedModel:
        """Return the encoder inside a model of `auto_class`, or of a classifier."""
        return without_pooler(model.base_model)

    def inputs(self, extractor, clips: list[np.ndarray]) -> dict[str, torch.Tensor]:
        """Run the feature extractor on clips, each `(samples,)` float32 at its rate.

        Shapes:
            `input_values` or `input_features`, by the extractor's own name; `attention_mask` `(batch, samples)` for
            waveforms, `(batch, feature frames)` otherwise.
        """
        rate = extractor.sampling_rate
        return dict(extractor(clips, sampling_rate=rate, padding=True, return_attention_mask=True, return_tensors="pt"))

    def longest_seconds(self, extractor) -> float | None:
        """Return the length that the extractor cuts clips to by itself; None: it does not."""
        return None

    def full_mask(self, values: torch.Tensor) -> torch.Tensor:
        """Return the mask of inputs without padding: of samples, or of feature frames."""
        return torch.ones(values.shape[0], values.shape[-1], dtype=torch.long, device=values.device)

    def encode(
        self,
        encoder: nn.Module,
        config: PreTrainedConfig,
        values: torch.Tensor,
        mask: torch.Tensor,
        layers: str | int | list[int] = "last",
        speaker_statistics: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run an audio encoder.

        Args:
            layers: `last`, `mix` for all of them, a number, or several, which are put side by side.
            speaker_statistics: Of each row's speaker, for a front end that is normalised by them.

        Shapes:
            values: `(batch, samples)` waveform, or features as the encoder's extractor makes them;
            mask: `(batch, samples)` or `(batch, feature frames)`, 1 where there is audio;
            speaker_statistics: `(batch, 2, bands)`;
            returns hidden `(batch, frames, size)`, with `mix` `(batch, frames, layers, size)`, with several numbers
            `(batch, frames, layers * size)`, and its mask `(batch, frames)` bool.
        """
        masked = {"attention_mask": mask} if self.takes_mask else {}
        values = values.to(encoder.dtype)  # of a model in half precision; an extractor gives float32
        hidden = read_layers(encoder(values, **masked, output_hidden_states=layers != "last"), layers)
        return hidden, self.output_mask(config, mask.bool(), hidden.shape[1])

    def output_mask(self, config: PreTrainedConfig, mask: torch.Tensor, frames: int) -> torch.Tensor:
        """Return which of the output frames are audio, from the mask of the input; `(batch, frames)` bool.

        Raises:
            ValueError: it is not known.
        """
        lengths = mask.sum(1)
        if hasattr(config, "conv_stride"):
            for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
                lengths = (lengths - kernel) // stride + 1
            for _ in range(config.num_adapter_layers if getattr(config, "add_adapter", False) else 0):
                lengths = (lengths - 1) // config.adapter_stride + 1
        elif mask.shape[1] != frames:
            raise ValueError(
                f"{config.model_type} gives {frames} frames for {mask.shape[1]} of its input, and which of them are "
                f"padding is not known. Expected {', '.join(FAMILIES)}, or as many frames out as in: name another "
                "encoder, or register a family (hf_ser/README.md)."
            )
        return before(lengths, frames)

    def crop(self, encoder: nn.Module, extractor, max_seconds: float) -> None:
        """Shorten an encoder that always computes one length, and its extractor, in place; by default there is none.

        Positions and their weights of the first `max_seconds` stay as they were; a shorter table is never stretched.
        """

    def drop_layers(self, encoder: nn.Module, highest: int) -> None:
        """Remove the layers above the highest that is read, in place, where that is known to change no answer."""


class Wav2Vec2(Family):
    """wav2vec2 and its like, which take waveforms with a mask."""

    def __init__(self, lora_targets: str = SPEECH_PROJECTIONS):
        super().__init__(lora_targets)


class Whisper(Family):
    """The encoder of Whisper, trained on clips padded to one length without a mask: padding is left out afterwards."""

    # transformers' public way to Whisper's encoder without its decoder.
    auto_class = AutoModelForAudioClassification
    extractor = "WhisperFeatureExtractor"
    takes_mask = False

    def __init__(self):
        super().__init__(SPEECH_PROJECTIONS)

    def build(self, config):
        encoder = AutoModelForAudioClassification.from_config(config).encoder
        if getattr(config, "ends_without_norm", False):
            encoder.layer_norm = nn.Identity()
        return encoder

    def encoder_of(self, model):
        return model.encoder

    def inputs(self, extractor, clips):
        return dict(
            extractor(clips, sampling_rate=extractor.sampling_rate, return_attention_mask=True, return_tensors="pt")
        )

    def longest_seconds(self, extractor):
        return extractor.n_samples / extractor.sampling_rate

    def output_mask(self, config, mask, frames):
        return before((mask.sum(1) + 1) // 2, frames)

    def crop(self, encoder, extractor, max_seconds):
        """As Family's; the length is rounded up to a whole second."""
        config = encoder.config
        seconds = min(extractor.chunk_length, int(-(-max_seconds // 1)))
        positions = min(config.max_source_positions, seconds * 50)
        table = nn.Embedding(positions, config.d_model)
        table.weight = nn.Parameter(encoder.embed_positions.weight.detach()[:positions].clone(), requires_grad=False)
        encoder.embed_positions, encoder.max_source_positions = table, positions
        config.max_source_positions = positions
        extractor.chunk_length, extractor.nb_max_frames = seconds, seconds * 100
        extractor.n_samples = seconds * extractor.sampling_rate

    def drop_layers(self, encoder, highest):
        config = encoder.config
        if highest >= config.encoder_layers:
            return
        encoder.layers = encoder.layers[: max(1, highest)]
        config.encoder_layers = config.num_hidden_layers = len(encoder.layers)
        # Behind the last of all comes a norm, which a layer in between has not.
        encoder.layer_norm, config.ends_without_norm = nn.Identity(), True


class Ast(Family):
    """The Audio Spectrogram Transformer, trained on clips padded to one length without a mask."""

    extractor = "ASTFeatureExtractor"
    takes_mask = False

    def __init__(self):
        super().__init__("q_proj|k_proj|v_proj|o_proj")

    def inputs(self, extractor, clips):
        rate = extractor.sampling_rate
        # Kaldi's frames: 25 ms every 10 ms, whole windows only.
        frames = torch.tensor([1 + (len(clip) - int(0.025 * rate)) // int(0.010 * rate) for clip in clips])
        mask = before(frames, extractor.max_length).long()
        return {**extractor(clips, sampling_rate=rate, return_tensors="pt"), "attention_mask": mask}

    def longest_seconds(self, extractor):
        return 0.010 * extractor.max_length + 0.015

    def full_mask(self, values):
        return super().full_mask(values[:, :, 0])  # features are `(batch, frames, bands)`

    def output_mask(self, config, mask, frames):
        times = mask.unfold(1, config.patch_size, config.time_stride).any(-1)
        bands = (frames - 2) // times.shape[1]
        # Two class tokens, then the patches band by band, each band from the start of the clip to its end.
        return torch.cat([torch.ones_like(mask[:, :2]), times.repeat(1, bands)], dim=1)

    def crop(self, encoder, extractor, max_seconds):
        config = encoder.config
        bands = (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1
        frames = min(config.max_length, max(int(max(max_seconds, MIN_SECONDS) * 100), config.patch_size))
        times = (frames - config.patch_size) // config.time_stride + 1
        table = encoder.embeddings.position_embeddings.detach()
        patches = table[:, 2:].unflatten(1, (bands, -1))[:, :, :times].flatten(1, 2)
        encoder.embeddings.position_embeddings = nn.Parameter(torch.cat([table[:, :2], patches], dim=1))
        config.max_length = extractor.max_length = frames


class Spectrogram(Family):
    """Our own networks on spectrograms or functionals, and image models."""

    config_class = SpectrogramConfig

    def build(self, config):
        return SpectrogramModel(config)

    def encode(self, encoder, config, values, mask, layers="last", speaker_statistics=None):
        output = encoder(values, attention_mask=mask, speaker_statistics=speaker_statistics)
        return output.last_hidden_state, output.attention_mask


class TextRnn(Family):
    """Our own recurrent network on text."""

    config_class = TextRnnConfig

    def build(self, config):
        return TextRnnModel(config)


class Bert(Family):
    """BERT and its like: a stack of layers, with nothing behind the last."""

    def drop_layers(self, encoder, highest):
        kept = max(1, highest)
        encoder.encoder.layer = encoder.encoder.layer[:kept]
        encoder.config.num_hidden_layers = kept


BERT_PROJECTIONS = "query|key|value|dense"
FAMILIES: dict[str, Family] = {
    **dict.fromkeys(("wav2vec2", "hubert", "data2vec-audio", "unispeech"), Wav2Vec2()),
    # WavLM's attention reads the weights of its projections past their modules: LoRA on them would change nothing.
    "wavlm": Wav2Vec2("intermediate_dense|output_dense"),
    "whisper": Whisper(),
    "audio-spectrogram-transformer": Ast(),
    SpectrogramConfig.model_type: Spectrogram(),
    TextRnnConfig.model_type: TextRnn(),
    # Of BERT and its like the feed-forward layers too.
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "electra"), Bert(BERT_PROJECTIONS)),
    "albert": Family(BERT_PROJECTIONS),
    "distilbert": Family("q_lin|k_lin|v_lin|out_lin"),
    "mpnet": Bert("q|k|v|o"),
    "deberta-v2": Family("query_proj|key_proj|value_proj|dense"),
}
"""By the `model_type` of a configuration."""
OTHERS = Family()


def family_of(config: PreTrainedConfig) -> Family:
    """Return the family of an encoder."""
    return FAMILIES.get(config.model_type, OTHERS)


def family_of_extractor(extractor) -> Family:
    """Return the family whose feature extractor it is."""
    kind = type(extractor).__name__
    return next((family for family in FAMILIES.values() if family.extractor == kind), OTHERS)


def before(lengths: torch.Tensor, frames: int) -> torch.Tensor:
    """Return a mask of the first positions of each row; lengths `(batch,)`, out `(batch, frames)` bool."""
    return torch.arange(frames, device=lengths.device)[None] < lengths[:, None]


def without_pooler(encoder: PreTrainedModel) -> PreTrainedModel:
    """Drop BERT's pooler: heads read the positions, and unused weights stall distributed training."""
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    return encoder


def read_layers(output, layers: str | int | list[int]) -> torch.Tensor:
    """Return some hidden layers of an encoder's output; the last one is its whole output.

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
