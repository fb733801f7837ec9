"""Our classifier as a `PreTrainedModel`: an audio encoder, a text encoder, or both, and a head.

A batch has one of two forms for each encoder: its inputs, or, where the encoder is never trained, the outputs that
`frozen_part` computed before.
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import SequenceClassifierOutput

from .configuration_ser import AUDIO, LAST, MIX, TEXT, SerConfig, number_of_layers
from .dimensions import concordance_loss
from .earlier_folders import HEADS_BEFORE
from .encoders import Family, family_of, read_layers
from .familiarity import Familiarity
from .heads import (
    HEADS,
    SOLVED_HEADS,
    Branch,
    LayerMixing,
    Sequences,
    Standardisation,
    WeightedFusion,
    one_position_a_view,
)
from .loading import CheckedWeights
from .padding import ignore_padding
from .saving import SharedWeights, copy_code
from .spectrogram import SpectrogramConfig

AUDIO_INPUTS = ("input_values", "speaker_statistics")
"""Inputs that are replaced by the output of an audio encoder."""


@dataclass
class SerOutput(SequenceClassifierOutput):
    """More than `SequenceClassifierOutput`: `dimensions` of a model that predicts some, `(batch, dimensions)`, and
    `branch_logits`, of late fusion, name -> (outputs, rows that have it).

    `hidden_states` are what the head reads of each modality that is there, `(batch, positions, size)`.
    """

    dimensions: torch.Tensor | None = None
    branch_logits: dict[str, tuple[torch.Tensor, torch.Tensor]] | None = None


class SerModelForClassification(CheckedWeights, SharedWeights, PreTrainedModel):
    """Emotion from audio, text or both; of a model of both either may be missing, row by row or altogether.

    Built from its configuration with fresh weights. To start from pretrained encoders use
    `hf_ser.training.building.build_model`, to load a trained model use `from_pretrained`.

    Attributes:
        audio_encoder, text_encoder: Those that the configuration names.
        head: One of HEADS.
        familiarity: How alike a clip is to the training data; None where that was not measured.
    """

    config_class = SerConfig
    base_model_prefix = "ser"
    main_input_name = "input_values"
    input_modalities = (AUDIO, TEXT)
    # The loss is a mean over the batch taken here: Trainer must not divide it by the items of an accumulated step.
    accepts_loss_kwargs = False
    supports_gradient_checkpointing = True
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True

    def __init__(self, config: SerConfig):
        super().__init__(config)
        if AUDIO in config.modalities:
            self.audio_encoder = ignore_padding(family_of(config.audio_config).build(config.audio_config))
            if config.audio_layers == MIX:
                self.audio_mixing = LayerMixing(number_of_layers(config.audio_config) + 1)
        else:
            self.main_input_name = "input_ids"
        if TEXT in config.modalities:
            self.text_encoder = family_of(config.text_config).build(config.text_config)
            if config.text_layers == MIX:
                self.text_mixing = LayerMixing(number_of_layers(config.text_config) + 1)
        for modality in config.standardised or ():
            setattr(self, f"{modality}_standardisation", Standardisation(*config.shape_of(modality)))
        self.head = HEADS[config.head](config)
        size, directions = config.familiarity_size, config.familiarity_directions
        self.familiarity = Familiarity(size, directions) if size else None
        self.post_init()

    @classmethod
    def from_pretrained(cls, name, *args, **kwargs):
        """As transformers', which refuses a folder whose weights are not all there; see CheckedWeights."""
        return super().from_pretrained(name, *args, **{"key_mapping": HEADS_BEFORE} | kwargs)

    def set_familiarity(self, familiarity: Familiarity) -> None:
        """Keep what is known of the training clips; it is saved with the model."""
        self.familiarity = familiarity.to(self.device)
        self.config.familiarity_directions, self.config.familiarity_size = familiarity.directions.shape

    def set_standardisation(self, modality: str, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        """Standardise what the encoder of a modality puts out, before the head reads it; it is saved with the model.

        Shapes: mean and deviation `(size,)`, with a mixture of layers `(layers, size)`.
        """
        module = Standardisation(*mean.shape)
        module.mean.copy_(mean)
        module.deviation.copy_(deviation)
        setattr(self, f"{modality}_standardisation", module.to(self.device, self.dtype))
        self.config.standardised = sorted({*(self.config.standardised or ()), modality})

    @property
    def encoders(self) -> dict[str, PreTrainedModel]:
        """The encoders by modality."""
        return {modality: getattr(self, f"{modality}_encoder") for modality in self.config.modalities}

    @property
    def families(self) -> dict[str, Family]:
        """The family of each encoder by modality."""
        return {modality: family_of(encoder.config) for modality, encoder in self.encoders.items()}

    def get_input_embeddings(self) -> nn.Module:
        """Return the embeddings of the text, or what the audio encoder has in their place."""
        return list(self.encoders.values())[-1].get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace what `get_input_embeddings` returns."""
        list(self.encoders.values())[-1].set_input_embeddings(value)

    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, nn.Linear):
            # The encoders initialise their own layers; these are the head's, trained from nothing on little data.
            # Tried with cached frames of whisper-base (RAVDESS, EmoBox fold 1, validation speakers, noise in place of
            # text, 12 epochs, one seed): best UAR 0.65, and 0.58 with transformers' own deviation of 0.02.
            init.xavier_uniform_(module.weight)
        elif isinstance(module, Branch):
            init.zeros_(module.missing)
        elif isinstance(module, WeightedFusion):
            init.zeros_(module.weight_scores)
        elif isinstance(module, LayerMixing):
            init.zeros_(module.scores)

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
        output_hidden_states: bool = False,
        return_dict: bool | None = None,
    ) -> SerOutput:
        """Classify a batch.

        Args:
            input_values: Waveforms or features, as `SerProcessor` makes them.
            audio_mask: 1 where there is audio; a row of zeros has none.
            input_ids: Tokens of the texts.
            text_mask: 1 where there are tokens; a row of zeros has no text.
            audio_hidden, text_hidden: Outputs of `frozen_part`, in place of `input_values` and `input_ids`.
            speaker_statistics: Of each row's speaker, for a front end that is normalised by them, or for a head that
                takes their mean off.
            labels: Class indices, or a distribution over the classes (times a weight of the row, if wanted); behind it
                the dimensions of a model that predicts some, NaN where they are not annotated.
            input_features: `input_values` by the name that some feature extractors give them.
            attention_mask: The mask of the one that is given, where audio or text is given alone.
            output_hidden_states: Whether to return what the head reads.

        Shapes:
            input_values: `(batch, samples)` or features; audio_mask: `(batch, samples or feature frames)`; of clips at
            several speeds, for a head that is solved for, both `(batch, speeds, ...)`;
            input_ids, text_mask: `(batch, tokens)`, with previous turns of the dialogue behind each text `(batch, 1 +
            turns, tokens)`; audio_hidden, text_hidden: `(batch, positions, *)`;
            labels: `(batch,)` int64 or `(batch, outputs)` float; logits: `(batch, classes)`.

        Raises:
            ValueError: the batch or one of its rows has no modality of the model; an input that the model has no
                encoder for, or that is given twice, or a mask of which it is not clear whose it is.
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
        in_head = {"speaker_statistics": speaker_statistics} if self.config.speaker_views else {}
        in_front_end = None if in_head else speaker_statistics
        given = {
            AUDIO: self._audio_sequences(input_values, audio_mask, audio_hidden, in_front_end),
            TEXT: self._text_sequences(input_ids, text_mask, text_hidden),
        }
        sequences = self._complete({modality: one for modality, one in given.items() if one is not None})
        if self.training and len(sequences) == 2:
            sequences = self._drop_modalities(**sequences)
        outputs, branches = self._outputs(sequences, **in_head)
        branch_logits = {name: (of_branch, sequences[name].present) for name, of_branch in branches.items()}
        loss = None
        if labels is not None:
            loss = self._loss(outputs, labels)
            for of_branch, present in branch_logits.values():
                loss = loss + self.config.branch_loss_weight * self._loss(of_branch, labels, present)
        hidden_states = tuple(one.hidden for one in sequences.values()) if output_hidden_states else None
        logits, dimensions = self._apart(outputs)
        own = {"dimensions": dimensions, "branch_logits": branch_logits or None}
        return SerOutput(loss=loss, logits=logits, hidden_states=hidden_states, **own)

    def frozen_part(self, **batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """Replace the inputs of a batch by the outputs of what is never trained, which `forward` takes as well.

        An encoder without a parameter to train is computed whole, of our spectrogram networks at least the front end;
        where there is neither, the batch stays as it is. A head that is solved for reads no more than the mean over
        the positions of each view of a clip, which is then all that is returned.

        Shapes:
            audio_hidden, text_hidden: `(batch, positions, *)`; audio_mask, text_mask: `(batch, positions)` bool, False
            in all positions of a row without that modality.
        """
        outputs = {}
        if batch.get("input_values") is not None:
            scaling = None if self.config.speaker_views else batch.get("speaker_statistics")
            audio = [batch["input_values"], batch.get("audio_mask"), scaling]
            if self.is_solved or is_frozen(self.audio_encoder):
                outputs[AUDIO] = self.encode_audio(*audio)
            elif self.config.audio_config.model_type == SpectrogramConfig.model_type:
                outputs[AUDIO] = self._front_end(*audio)
        if batch.get("input_ids") is not None and (self.is_solved or is_frozen(self.text_encoder)):
            outputs[TEXT] = self.encode_text(batch["input_ids"], batch.get("text_mask"))
        replaced = {AUDIO: AUDIO_INPUTS[:1] if self.config.speaker_views else AUDIO_INPUTS, TEXT: ("input_ids",)}
        batch = {name: values for name, values in batch.items() if not any(name in replaced[one] for one in outputs)}
        for modality, one in outputs.items():
            batch |= {f"{modality}_hidden": one.hidden, f"{modality}_mask": one.mask & one.present[:, None]}
        return batch

    @property
    def is_solved(self) -> bool:
        """Whether the head is one that is solved for at once, whose encoders are never trained."""
        return self.config.head in SOLVED_HEADS

    def encode_audio(self, values, mask=None, speaker_statistics=None) -> Sequences:
        """Run the audio encoder, before any mixing of layers; arguments as of `forward`.

        Raises:
            ValueError: clips at several speeds, for a head that does not average them.
        """
        config, layers = self.config.audio_config, self.config.audio_layers
        family, views = family_of(config), 1
        if mask is not None and mask.dim() == 3:
            if not self.is_solved:
                raise ValueError(
                    f"Found clips at {mask.shape[1]} speeds for head {self.config.head}: expected one, which only "
                    f"{' and '.join(SOLVED_HEADS)} average. Take `speeds` out of preprocessor_config.json."
                )
            views, values, mask = mask.shape[1], values.flatten(0, 1), mask.flatten(0, 1)
            if speaker_statistics is not None:
                speaker_statistics = speaker_statistics.repeat_interleave(views, 0)
        present, mask = _usable(family.full_mask(values) if mask is None else mask)
        hidden, frames = family.encode(self.audio_encoder, config, values, mask, layers, speaker_statistics)
        if self.training:
            # Encoders of one length (Whisper, AST) give positions of padding too. Dropout would draw for them, and
            # other than in a training that reads stored outputs, which have none.
            hidden, frames = _without_padding(hidden, frames)
        audio = Sequences(hidden, frames, present)
        return one_position_a_view(audio, views) if self.is_solved else audio

    def encode_text(self, input_ids: torch.Tensor, mask: torch.Tensor | None = None) -> Sequences:
        """Run the text encoder, before any mixing of layers; arguments as of `forward`.

        Raises:
            ValueError: previous turns of the dialogue, for a head that does not read them.
        """
        texts = 1
        if input_ids.dim() == 3:
            if not self.config.context_turns:
                raise ValueError(
                    "Found texts with previous turns of their dialogue: expected texts alone, for this model reads no "
                    "context: leave it out."
                )
            texts, input_ids = input_ids.shape[1], input_ids.flatten(0, 1)
            mask = None if mask is None else mask.flatten(0, 1)
        present, mask = _usable(torch.ones_like(input_ids) if mask is None else mask)
        layers = self.config.text_layers
        shown = {} if layers == LAST else {"output_hidden_states": True}
        output = self.text_encoder(input_ids=input_ids, attention_mask=mask, **shown)
        text = Sequences(read_layers(output, layers), mask.bool(), present)
        if not self.is_solved:
            return text
        text = one_position_a_view(text, texts)
        return Sequences(text.hidden, text.mask, text.mask[:, 0])

    def save_pretrained(self, save_directory, is_main_process: bool = True, **kwargs):
        """As transformers', with the code that loads it, and under the key names in memory.

        transformers 5 writes AST under older key names that Trainer's resume then silently fails to load
        (huggingface/transformers #48805), so the conversion is off unless `save_original_format=True`.
        """
        kwargs.setdefault("save_original_format", False)
        super().save_pretrained(save_directory, is_main_process=is_main_process, **kwargs)
        if is_main_process:
            copy_code(save_directory, self)

    def _apart(self, outputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The columns of the classes, and those of the dimensions; None of a model that predicts none."""
        if not self.config.dimensions:
            return outputs, None
        return outputs[:, : self.config.num_labels], outputs[:, self.config.num_labels :]

    def _loss(self, outputs, labels, present: torch.Tensor | None = None) -> torch.Tensor:
        """Cross entropy of the classes, and one minus the concordance of the dimensions; of `present` rows alone."""
        if not self.config.dimensions:
            return class_loss(outputs, labels, present)
        (logits, predicted), (classes, annotated) = self._apart(outputs), self._apart(labels)
        if present is not None:
            annotated = torch.where(present[:, None], annotated, torch.nan)
        loss = concordance_loss(predicted, annotated)
        return loss + class_loss(logits, classes, present) if self.config.num_labels else loss

    def _outputs(self, sequences: dict[str, Sequences], **in_head) -> tuple[torch.Tensor, dict]:
        """The head's outputs and those of its branches.

        Raises:
            ValueError: a head of somebody's own returns something else.
        """
        output, size = self.head(**sequences, **in_head), self.config.num_outputs
        if not (isinstance(output, tuple) and len(output) == 2):
            found = type(output).__name__
        elif output[0].shape[-1] != size:
            found = f"logits of shape {tuple(output[0].shape)}"
        else:
            return output
        raise ValueError(
            f"head {self.config.head}: found {found} from its forward, expected a pair: logits (batch, {size}) and "
            "a dictionary of its branches' logits, {} where it has none."
            + " Behind the logits are the dimensions: config.num_outputs in all."
            * bool(self.config.dimensions)
        )

    def _audio_sequences(self, values, mask, hidden, speaker_statistics) -> Sequences | None:
        """The audio of a batch as the head reads it, from either of its forms; None where there is none."""
        if values is None and hidden is None:
            return None
        self._check_takes(AUDIO)
        if hidden is None:
            audio = self.encode_audio(values, mask, speaker_statistics)
        else:
            audio = self._from_frozen_audio(hidden, mask)
        if next(self.audio_encoder.parameters(), None) is None:  # functionals, which are float32 whatever the head is
            audio = Sequences(audio.hidden.to(self.dtype), audio.mask, audio.present)
        return self._as_read(AUDIO, audio)

    def _text_sequences(self, input_ids, mask, hidden) -> Sequences | None:
        """The text of a batch as the head reads it, from either of its forms; None where there is none."""
        if input_ids is None and hidden is None:
            return None
        self._check_takes(TEXT)
        text = self.encode_text(input_ids, mask) if hidden is None else Sequences(hidden, mask, mask.any(1))
        return self._as_read(TEXT, text)

    def _as_read(self, modality: str, one: Sequences) -> Sequences:
        """What an encoder puts out as the head reads it: standardised, and its layers mixed, where they are."""
        hidden = one.hidden
        if modality in (self.config.standardised or ()):
            hidden = getattr(self, f"{modality}_standardisation")(hidden)
        if getattr(self.config, f"{modality}_layers") == MIX:
            hidden = getattr(self, f"{modality}_mixing")(hidden)
        return Sequences(hidden, one.mask, one.present)

    def _front_end(self, values, mask=None, speaker_statistics=None) -> Sequences:
        """The features of our own front end, frames first, as they are cached."""
        present, mask = _usable(family_of(self.config.audio_config).full_mask(values) if mask is None else mask)
        features, frames = self.audio_encoder.front_end(values, mask, speaker_statistics)
        return Sequences(features.permute(0, 3, 1, 2), frames, present)

    def _from_frozen_audio(self, hidden: torch.Tensor, mask: torch.Tensor) -> Sequences:
        """The output of the encoder, from what `frozen_part` returned: the same, or features of our own front end."""
        if self.config.audio_config.model_type != SpectrogramConfig.model_type or hidden.dim() == 3:
            return Sequences(hidden, mask, mask.any(1))
        present, mask = _usable(mask)
        output = self.audio_encoder(hidden.permute(0, 2, 3, 1), attention_mask=mask)
        return Sequences(output.last_hidden_state, output.attention_mask, present)

    def _check_takes(self, modality: str) -> None:
        if modality not in self.config.modalities:
            found = " and ".join(self.config.modalities)
            raise ValueError(f"Found {modality}, expected {found}, which is all that this model takes: leave it out.")

    def _complete(self, given: dict[str, Sequences]) -> dict[str, Sequences]:
        """All modalities of the model; one that the batch lacks is missing in each row.

        Raises:
            ValueError: a row has none.
        """
        wanted = self.config.modalities
        if not given:
            names = " or ".join({AUDIO: "input_values", TEXT: "input_ids"}[one] for one in wanted)
            raise ValueError(f"Found neither audio nor text in the batch: expected {names}.")
        present = torch.stack([one.present for one in given.values()]).any(0)
        if lacks_rows(present):
            raise ValueError(f"A row of the batch has no {' and no '.join(wanted)}: leave that row out.")
        other = next(iter(given.values()))
        return {one: given[one] if one in given else self._missing(one, other) for one in wanted}

    def _missing(self, modality: str, other: Sequences) -> Sequences:
        rows = other.hidden.shape[0]
        none = torch.zeros(rows, 1, dtype=torch.bool, device=other.hidden.device)
        return Sequences(other.hidden.new_zeros(rows, 1, self.config.size_of(modality)), none, none[:, 0])

    def _drop_modalities(self, audio: Sequences, text: Sequences) -> dict[str, Sequences]:
        both = audio.present & text.present
        draw = torch.rand(both.shape, device=both.device)
        drop_text = both & (draw < self.config.modality_dropout / 2)
        drop_audio = both & (draw > 1 - self.config.modality_dropout / 2)
        return {
            AUDIO: Sequences(audio.hidden, audio.mask, audio.present & ~drop_audio),
            TEXT: Sequences(text.hidden, text.mask, text.present & ~drop_text),
        }


class HeadEnrolment:
    """Enrols a speaker for a head that takes off speakers' means, as `SpectrogramFrontEnd` does for its own scaling.

    Args:
        model: With a head that is solved for, of which `speaker_views` is not 0.
    """

    normalisation, is_whole = "speaker", True

    def __init__(self, model: SerModelForClassification):
        self.model = model

    @property
    def device(self) -> torch.device:
        """Where its inputs have to be."""
        return self.model.device

    @torch.no_grad()
    def moments(self, batches) -> torch.Tensor:
        """The vectors of a speaker's clips; batches of values and masks, out `(clips, views, size)`."""
        return torch.cat([self.model.encode_audio(values, mask).hidden for values, mask in batches])

    def speaker_scaling(self, vectors: torch.Tensor) -> torch.Tensor:
        """The `speaker_statistics` of such vectors; shape `(views, size)`."""
        return self.model.head.speakers.offset(vectors)


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


def is_frozen(encoder: nn.Module) -> bool:
    """Whether nothing of an encoder is trained."""
    return not any(parameter.requires_grad for parameter in encoder.parameters())


def _usable(mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Which rows have the modality, and the mask with all of the others' positions in it.

    A row without it runs through the encoder like any other; its output is not used.
    """
    present = mask.any(1)
    return present, torch.where(present[:, None], mask, torch.ones_like(mask))


def _without_padding(hidden: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each row's own positions in their order from the first on, and no more of others than the longest row needs.

    AST's positions are ordered band by band, so that padding is between them.

    Shapes: hidden `(batch, positions, *)`, mask `(batch, positions)` bool.
    """
    longest = int(mask.sum(1).max().clamp(min=1))
    order = mask.logical_not().to(torch.uint8).argsort(dim=1, stable=True)[:, :longest]
    rows = torch.arange(len(mask), device=mask.device)[:, None]
    return hidden[rows, order], mask.gather(1, order)


def class_loss(logits: torch.Tensor, labels: torch.Tensor, present: torch.Tensor | None = None) -> torch.Tensor:
    """Mean cross entropy, of the rows that are `present`."""
    if present is None:
        return nn.functional.cross_entropy(logits, labels)
    losses = nn.functional.cross_entropy(logits, labels, reduction="none")
    return (losses * present).sum() / present.sum().clamp(min=1)
