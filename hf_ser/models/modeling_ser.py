"""Our classifiers as `PreTrainedModel`s: one that hears, and one of an audio encoder, a text encoder and a fusion head.

Both take a batch in two forms: as sound and words, or, for an encoder that is never trained, as what `frozen_part`
made of them before.
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import SequenceClassifierOutput

from .configuration_ser import (
    LAST,
    MIX,
    SOLVED_HEADS,
    SerAudioConfig,
    SerFusionConfig,
    number_of_layers,
)
from .encoders import build_encoder, encode_audio, ignore_padding, read_layers
from .fusion import (
    FUSIONS,
    AudioHead,
    Branch,
    LayerMixing,
    MeanPooling,
    Sequences,
    SolvedHead,
    WeightedFusion,
    vector_size,
)
from .loading import CheckedWeights
from .saving import SharedWeights, copy_island
from .spectrogram import SpectrogramConfig


@dataclass
class SerOutput(SequenceClassifierOutput):
    """More than `SequenceClassifierOutput`: `branch_logits`, of late fusion, name -> (logits, rows that have it)."""

    branch_logits: dict[str, tuple[torch.Tensor, torch.Tensor]] | None = None


class SerPreTrainedModel(CheckedWeights, SharedWeights, PreTrainedModel):
    """What both have: the audio encoder and how it is read, weights of the head, saving with the pipeline's code."""

    base_model_prefix = "ser"
    main_input_name = "input_values"
    # The loss is a mean over the batch taken here: Trainer must not divide it by the items of an accumulated step.
    accepts_loss_kwargs = False
    # `labels` may be distributions; stock classifiers take such for other tasks, so SerTrainer keeps them from those.
    accepts_soft_labels = True
    supports_gradient_checkpointing = True
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True

    def __init__(self, config):
        super().__init__(config)
        self.audio_encoder = ignore_padding(build_encoder(config.audio_config))
        if config.audio_layers == MIX:
            self.audio_mixing = LayerMixing(number_of_layers(config.audio_config) + 1)

    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, nn.Linear):
            # The encoders initialise their own layers; these are the head's, trained from nothing on little data.
            # Tried with cached frames of whisper-base (RAVDESS, EmoBox fold 1, validation speakers, noise in place of
            # words, 12 epochs, one seed): best UAR 0.65, and 0.58 with transformers' own deviation of 0.02.
            init.xavier_uniform_(module.weight)
        elif isinstance(module, Branch):
            init.zeros_(module.missing)
        elif isinstance(module, WeightedFusion):
            init.zeros_(module.weight_scores)
        elif isinstance(module, LayerMixing):
            init.zeros_(module.scores)

    def frozen_part(self, **batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """The batch with what is never trained computed: `forward` takes it in place of the sound and the words.

        An encoder without a parameter to train is computed whole, of our spectrogram networks at least the front end;
        where there is neither, the batch stays as it is.

        Shapes:
            audio_hidden: `(batch, positions, *)`; audio_mask: `(batch, positions)` bool, False in all positions of a
            row without sound. Likewise `text_hidden`, `text_mask`.
        """
        if batch.get("input_values") is not None:
            if fixed(self.audio_encoder):
                audio = self.hear(batch["input_values"], batch.get("audio_mask"), batch.get("speaker_statistics"))
                if self.config.head in SOLVED_HEADS:  # nothing behind it is trained: its mean is all that is needed
                    audio = _mean(audio)
                batch |= _as_inputs("audio", audio)
            elif self.config.audio_config.model_type == SpectrogramConfig.model_type:
                batch |= _as_inputs("audio", self._features(**batch))
            if "audio_hidden" in batch:
                batch = {name: value for name, value in batch.items() if name not in OF_THE_SOUND}
        return batch

    def _features(self, input_values, audio_mask=None, speaker_statistics=None, **_) -> Sequences:
        """What the front end makes of the sound, frames first, as the cache keeps positions."""
        mask = _full_mask(input_values) if audio_mask is None else audio_mask
        present = mask.any(1)
        mask = torch.where(present[:, None], mask, torch.ones_like(mask))
        features, frames = self.audio_encoder.front_end(input_values, mask, speaker_statistics)
        return Sequences(features.permute(0, 3, 1, 2), frames, present)

    def hear(self, values, mask=None, speaker_statistics=None) -> Sequences:
        """Run the audio encoder, before any mixing of layers."""
        # Of features, only the axis of frames is masked.
        mask = _full_mask(values, self.config.audio_config.model_type) if mask is None else mask
        present = mask.any(1)
        # A row without sound runs through the encoder as if it were all sound; its output is then replaced.
        mask = torch.where(present[:, None], mask, torch.ones_like(mask))
        encoder, config = self.audio_encoder, self.config
        hidden, frames = encode_audio(
            encoder, config.audio_config, values, mask, config.audio_layers, speaker_statistics
        )
        if self.training:
            # Encoders of one length (Whisper, AST) give positions of no sound too. Dropout would draw for them, and
            # other than in a training that reads stored outputs, which have none.
            hidden, frames = _closed_up(hidden, frames)
        return Sequences(hidden, frames, present)

    def audio_sequences(
        self, input_values=None, audio_mask=None, audio_hidden=None, speaker_statistics=None
    ) -> Sequences | None:
        """The sound of a batch as the head reads it, from either of its forms; None where there is none."""
        if audio_hidden is not None:
            audio = self._taken_up(audio_hidden, audio_mask)
        elif input_values is not None:
            audio = self.hear(input_values, audio_mask, speaker_statistics)
        else:
            return None
        if next(self.audio_encoder.parameters(), None) is None:  # functionals, which are float32 whatever the head is
            audio = Sequences(audio.hidden.to(self.dtype), audio.mask, audio.present)
        if self.config.audio_layers == MIX:
            audio = Sequences(self.audio_mixing(audio.hidden), audio.mask, audio.present)
        return audio

    def _taken_up(self, hidden: torch.Tensor, mask: torch.Tensor) -> Sequences:
        """From what `frozen_part` gave to what `hear` gives."""
        present = mask.any(1)
        if self.config.audio_config.model_type != SpectrogramConfig.model_type or hidden.dim() == 3:
            return Sequences(hidden, mask, present)
        # Features of our own front end: frames, channels, bands.
        mask = torch.where(present[:, None], mask, torch.ones_like(mask))
        output = self.audio_encoder(hidden.permute(0, 2, 3, 1), attention_mask=mask)
        return Sequences(output.last_hidden_state, output.attention_mask, present)

    def save_pretrained(self, save_directory, is_main_process: bool = True, **kwargs):
        """As transformers', with the pipeline's code, and under the key names in memory.

        transformers 5 writes AST under older key names that Trainer's resume then silently fails to load
        (huggingface/transformers #48805), so the conversion is off unless asked for.
        """
        kwargs.setdefault("save_original_format", False)
        super().save_pretrained(save_directory, is_main_process=is_main_process, **kwargs)
        if is_main_process:
            copy_island(save_directory)


def _closed_up(hidden: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each row's own positions in their order from the first on, and no more of others than the longest row needs.

    AST's, which lie band by band, have gaps.

    Shapes: hidden `(batch, positions, *)`, mask `(batch, positions)` bool.
    """
    longest = int(mask.sum(1).max().clamp(min=1))
    order = mask.logical_not().to(torch.uint8).argsort(dim=1, stable=True)[:, :longest]
    rows = torch.arange(len(mask), device=mask.device)[:, None]
    return hidden[rows, order], mask.gather(1, order)


def _mean(audio: Sequences) -> Sequences:
    """The mean over the positions of each row, as its only position."""
    mean = MeanPooling(audio.hidden.shape[-1])(audio.hidden, audio.mask)
    return Sequences(mean[:, None], audio.present[:, None], audio.present)


OF_THE_SOUND = ("input_values", "speaker_statistics")
"""Inputs that the outputs of an audio encoder take the place of."""


class SerAudioForAudioClassification(SerPreTrainedModel):
    """Emotion from sound alone: any audio encoder, its layers read as the configuration says, pooled and classified.

    Built from its configuration with fresh weights. To start from a pretrained encoder use
    `hf_ser.training.building.build_audio`, to load a trained model use `from_pretrained`.
    """

    config_class = SerAudioConfig
    input_modalities = ("audio",)

    def __init__(self, config: SerAudioConfig):
        super().__init__(config)
        head = SolvedHead if config.head in SOLVED_HEADS else AudioHead
        self.audio_head = head(config, vector_size(config))
        self.post_init()

    def forward(
        self,
        input_values: torch.Tensor | None = None,
        audio_mask: torch.Tensor | None = None,
        audio_hidden: torch.Tensor | None = None,
        speaker_statistics: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        return_dict: bool | None = None,
    ) -> SerOutput:
        """Classify a batch.

        Args:
            input_values: Waveforms or features, as `audio_inputs` makes them.
            audio_mask: 1 where there is sound.
            input_features, attention_mask: The same two by the names that feature extractors give them.
            audio_hidden: What `frozen_part` gave, in place of `input_values`.
            speaker_statistics: Of each row's speaker, for a front end that is normalised by them.
            labels: Class indices, or a distribution over the classes (times a weight of the row, if wanted).

        Shapes:
            input_values: `(batch, samples)` or features; audio_mask: `(batch, samples or feature frames)`;
            audio_hidden: `(batch, positions, *)`; labels: `(batch,)` int64 or `(batch, classes)` float;
            logits: `(batch, classes)`.

        Raises:
            ValueError: there is no sound, in the batch or in one of its rows, or something is given twice.
        """
        input_values = one_of(input_values=input_values, input_features=input_features)
        audio_mask = one_of(audio_mask=audio_mask, attention_mask=attention_mask)
        audio = self.audio_sequences(input_values, audio_mask, audio_hidden, speaker_statistics)
        if audio is None or lacks_rows(audio.present):
            raise ValueError("A row of the batch has no sound, and this model only hears: leave that row out.")
        logits = self.audio_head(audio)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SerOutput(loss=loss, logits=logits)


class SerFusionForAudioClassification(SerPreTrainedModel):
    """Emotion from sound and words; either may be missing, row by row or altogether.

    Built from its configuration with fresh weights. To start from pretrained encoders use
    `hf_ser.training.building.build_fusion`, to load a trained model use `from_pretrained`.
    """

    config_class = SerFusionConfig
    input_modalities = ("audio", "text")

    def __init__(self, config: SerFusionConfig):
        super().__init__(config)
        self.text_encoder = build_encoder(config.text_config)
        if config.text_layers == MIX:
            self.text_mixing = LayerMixing(number_of_layers(config.text_config) + 1)
        self.fusion_head = FUSIONS[config.fusion](config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.text_encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.text_encoder.set_input_embeddings(value)

    def forward(
        self,
        input_values: torch.Tensor | None = None,
        audio_mask: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        text_mask: torch.Tensor | None = None,
        audio_hidden: torch.Tensor | None = None,
        text_hidden: torch.Tensor | None = None,
        speaker_statistics: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        return_dict: bool | None = None,
    ) -> SerOutput:
        """Classify a batch.

        Args:
            input_values: Waveforms or features, as `SerProcessor` makes them.
            audio_mask: 1 where there is sound; a row of zeros has no sound.
            input_ids: Tokens of the words.
            text_mask: 1 where there are tokens; a row of zeros has no words.
            input_features: `input_values` by the name that some feature extractors give them.
            attention_mask: The mask of the one that is given, where audio or text is given alone.
            audio_hidden, text_hidden: What `frozen_part` gave, in place of `input_values` and `input_ids`.
            speaker_statistics: Of each row's speaker, for a front end that is normalised by them.
            labels: Class indices, or a distribution over the classes (times a weight of the row, if wanted).

        Shapes:
            input_values: `(batch, samples)` or features; audio_mask: `(batch, samples or feature frames)`;
            input_ids, text_mask: `(batch, tokens)`; audio_hidden, text_hidden: `(batch, positions, *)`;
            labels: `(batch,)` int64 or `(batch, classes)` float; logits: `(batch, classes)`.

        Raises:
            ValueError: neither sound nor words are given, for the batch or for one of its rows; something is given
                twice, or a mask of which it is not clear whose it is.
        """
        input_values = one_of(input_values=input_values, input_features=input_features)
        if attention_mask is not None:
            has_audio, has_text = input_values is not None, input_ids is not None
            if has_audio and has_text:
                raise ValueError(
                    "attention_mask was given with both audio and text, and it is not clear whose it is. Expected "
                    "audio_mask for the audio and text_mask for the text: rename it, as SerProcessor does."
                )
            if has_text:
                text_mask = one_of(text_mask=text_mask, attention_mask=attention_mask)
            else:
                audio_mask = one_of(audio_mask=audio_mask, attention_mask=attention_mask)
        audio = self.audio_sequences(input_values, audio_mask, audio_hidden, speaker_statistics)
        text = self.text_sequences(input_ids, text_mask, text_hidden)
        if audio is None and text is None:
            raise ValueError("Neither input_values nor input_ids were given: expected sound, words or both.")
        audio = audio or self._absent(text, vector_size(self.config))
        text = text or self._absent(audio, self.config.text_config.hidden_size)
        if lacks_rows(audio.present | text.present):
            raise ValueError("A row of the batch has neither sound nor words: leave that row out.")
        if self.training:
            audio, text = self._drop_modalities(audio, text)
        logits, branches = self.fusion_head(audio, text)
        present = {"audio": audio.present, "text": text.present}
        branch_logits = {name: (of_branch, present[name]) for name, of_branch in branches.items()}
        loss = None
        if labels is not None:
            loss = nn.functional.cross_entropy(logits, labels)
            for of_branch, there in branch_logits.values():
                loss = loss + self.config.branch_loss_weight * _present_loss(of_branch, labels, there)
        return SerOutput(loss=loss, logits=logits, branch_logits=branch_logits or None)

    def frozen_part(self, **batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """As for sound alone; a text encoder that is not trained likewise."""
        batch = super().frozen_part(**batch)
        if batch.get("input_ids") is not None and fixed(self.text_encoder):
            batch |= _as_inputs("text", self.read(batch.pop("input_ids"), batch.get("text_mask")))
        return batch

    def read(self, input_ids: torch.Tensor, mask: torch.Tensor | None = None) -> Sequences:
        """Run the text encoder, before any mixing of layers."""
        mask = torch.ones_like(input_ids) if mask is None else mask
        present = mask.any(1)
        mask = torch.where(present[:, None], mask, torch.ones_like(mask))
        layers = self.config.text_layers
        shown = {} if layers == LAST else {"output_hidden_states": True}
        output = self.text_encoder(input_ids=input_ids, attention_mask=mask, **shown)
        return Sequences(read_layers(output, layers), mask.bool(), present)

    def text_sequences(self, input_ids=None, text_mask=None, text_hidden=None) -> Sequences | None:
        """The words of a batch as the head reads them, from either of their forms; None where there are none."""
        if text_hidden is not None:
            text = Sequences(text_hidden, text_mask, text_mask.any(1))
        elif input_ids is not None:
            text = self.read(input_ids, text_mask)
        else:
            return None
        if self.config.text_layers == MIX:
            text = Sequences(self.text_mixing(text.hidden), text.mask, text.present)
        return text

    @staticmethod
    def _absent(other: Sequences, size: int) -> Sequences:
        rows = other.hidden.shape[0]
        none = torch.zeros(rows, 1, dtype=torch.bool, device=other.hidden.device)
        return Sequences(other.hidden.new_zeros(rows, 1, size), none, none[:, 0])

    def _drop_modalities(self, audio: Sequences, text: Sequences) -> tuple[Sequences, Sequences]:
        both = audio.present & text.present
        draw = torch.rand(both.shape, device=both.device)
        drop_text = both & (draw < self.config.modality_dropout / 2)
        drop_audio = both & (draw > 1 - self.config.modality_dropout / 2)
        return (
            Sequences(audio.hidden, audio.mask, audio.present & ~drop_audio),
            Sequences(text.hidden, text.mask, text.present & ~drop_text),
        )


def one_of(**given: torch.Tensor | None) -> torch.Tensor | None:
    """The one of two inputs of one meaning that is given, None where neither is.

    Raises:
        ValueError: both are.
    """
    there = {name: value for name, value in given.items() if value is not None}
    if len(there) > 1:
        raise ValueError(f"{' and '.join(there)} were both given, which mean the same: expected one of them.")
    return next(iter(there.values()), None)


def lacks_rows(present: torch.Tensor) -> bool:
    """Whether a row has nothing to be classified by.

    An exported or compiled program cannot branch on values: there the caller has looked before.
    """
    return not torch.compiler.is_compiling() and not present.all()


def fixed(encoder: nn.Module) -> bool:
    """Whether nothing of an encoder is trained."""
    return not any(parameter.requires_grad for parameter in encoder.parameters())


def _as_inputs(name: str, sequences: Sequences) -> dict[str, torch.Tensor]:
    mask = sequences.mask & sequences.present[:, None]
    return {f"{name}_hidden": sequences.hidden, f"{name}_mask": mask}


def _full_mask(values: torch.Tensor, model_type: str = "") -> torch.Tensor:
    """All sound: the samples of a waveform, or the frames of features (AST has `(batch, frames, bands)`)."""
    frames = values.shape[1 if model_type == "audio-spectrogram-transformer" else -1]
    return torch.ones(values.shape[0], frames, dtype=torch.long, device=values.device)


def _present_loss(logits: torch.Tensor, labels: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    losses = nn.functional.cross_entropy(logits, labels, reduction="none")
    return (losses * present).sum() / present.sum().clamp(min=1)
