"""The fused model: an audio encoder, a text encoder and a fusion head, as one `PreTrainedModel`."""

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import SequenceClassifierOutput

from .configuration_ser import SerFusionConfig
from .encoders import build_encoder, encode_audio, ignore_padding
from .fusion import FUSIONS, Branch, Sequences, WeightedFusion
from .pipeline_ser import copy_island


class SerFusionForAudioClassification(PreTrainedModel):
    """Emotion from sound and words; either may be missing, row by row or altogether.

    Built from its configuration with fresh weights. To start from pretrained encoders use
    `hf_ser.training.building.build_fusion`, to load a trained model use `from_pretrained`.
    """

    config_class = SerFusionConfig
    base_model_prefix = "ser"
    main_input_name = "input_values"
    input_modalities = ("audio", "text")
    # The loss is a mean over the batch taken here: Trainer must not divide it by the items of an accumulated step.
    accepts_loss_kwargs = False
    # `labels` may be distributions; stock classifiers take such for other tasks, so SerTrainer keeps them from those.
    accepts_soft_labels = True
    supports_gradient_checkpointing = True
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True

    def __init__(self, config: SerFusionConfig):
        super().__init__(config)
        self.audio_encoder = ignore_padding(build_encoder(config.audio_config))
        self.text_encoder = build_encoder(config.text_config)
        self.fusion_head = FUSIONS[config.fusion](config)
        self.post_init()

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
        labels: torch.Tensor | None = None,
        return_dict: bool | None = None,
    ) -> SequenceClassifierOutput:
        """Classify a batch.

        Args:
            input_values: Waveforms or features, as `SerProcessor` makes them.
            audio_mask: 1 where there is sound; a row of zeros has no sound.
            input_ids: Tokens of the words.
            text_mask: 1 where there are tokens; a row of zeros has no words.
            labels: Class indices, or a distribution over the classes (times a weight of the row, if wanted).

        Shapes:
            input_values: `(batch, samples)` or features; audio_mask: `(batch, samples or feature frames)`;
            input_ids, text_mask: `(batch, tokens)`; labels: `(batch,)` int64 or `(batch, classes)` float;
            logits: `(batch, classes)`.

        Raises:
            ValueError: neither sound nor words are given, for the batch or for one of its rows.
        """
        audio, text = self._encode_audio(input_values, audio_mask), self._encode_text(input_ids, text_mask)
        if audio is None and text is None:
            raise ValueError("Neither input_values nor input_ids were given: expected sound, words or both.")
        audio = audio or self._absent(text, self.config.audio_config.hidden_size)
        text = text or self._absent(audio, self.config.text_config.hidden_size)
        if not (audio.present | text.present).all():
            raise ValueError("A row of the batch has neither sound nor words: leave that row out.")
        if self.training:
            audio, text = self._drop_modalities(audio, text)
        logits, branch_logits = self.fusion_head(audio, text)
        loss = None
        if labels is not None:
            loss = nn.functional.cross_entropy(logits, labels)
            for name, modality in (("audio", audio), ("text", text)):
                if name in branch_logits:
                    branch = _present_loss(branch_logits[name], labels, modality.present)
                    loss = loss + self.config.branch_loss_weight * branch
        return SequenceClassifierOutput(loss=loss, logits=logits)

    def _encode_audio(self, values, mask) -> Sequences | None:
        if values is None:
            return None
        if mask is None:
            # A waveform is (batch, samples); of features, only the axis of frames is masked.
            frames = values.shape[1 if self.config.audio_config.model_type == "audio-spectrogram-transformer" else -1]
            mask = torch.ones(values.shape[0], frames, dtype=torch.long, device=values.device)
        present = mask.any(1)
        # A row without sound runs through the encoder as if it were all sound; its output is then replaced.
        mask = torch.where(present[:, None], mask, torch.ones_like(mask))
        hidden, frames_mask = encode_audio(self.audio_encoder, self.config.audio_config, values, mask)
        return Sequences(hidden, frames_mask, present)

    def _encode_text(self, input_ids, mask) -> Sequences | None:
        if input_ids is None:
            return None
        mask = torch.ones_like(input_ids) if mask is None else mask
        present = mask.any(1)
        mask = torch.where(present[:, None], mask, torch.ones_like(mask))
        hidden = self.text_encoder(input_ids=input_ids, attention_mask=mask).last_hidden_state
        return Sequences(hidden, mask.bool(), present)

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

    def save_pretrained(self, save_directory, is_main_process: bool = True, **kwargs):
        """As transformers', with the pipeline's code, and under the key names in memory.

        transformers 5 writes AST under older key names that Trainer's resume then silently fails to load
        (huggingface/transformers #48805), so the conversion is off unless asked for.
        """
        kwargs.setdefault("save_original_format", False)
        super().save_pretrained(save_directory, is_main_process=is_main_process, **kwargs)
        if is_main_process:
            copy_island(save_directory)


def _present_loss(logits: torch.Tensor, labels: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    losses = nn.functional.cross_entropy(logits, labels, reduction="none")
    return (losses * present).sum() / present.sum().clamp(min=1)
