"""Models from pretrained or fresh encoders, each with what turns audio and texts into its inputs."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from torch import nn

from hf_ser.data.folds import fold_folder
from hf_ser.inputs.collate import Collator
from hf_ser.models import PRESETS, SOLVED_HEADS, TEXT_PRESETS, SerConfig, SerModelForClassification, SerProcessor
from hf_ser.models.configuration_ser import AUDIO, TEXT
from hf_ser.models.dimensions import SCALE
from hf_ser.models.encoders import family_of
from hf_ser.models.networks import FITTED
from hf_ser.models.padding import ignore_padding
from hf_ser.models.saving import check_is_loadable
from hf_ser.revisions import checkpoint_config
from hf_ser.training.adaptation import adapted
from hf_ser.training.pretrained import load_audio_encoder, load_text_encoder


@dataclass
class Candidate:
    """A model ready to train.

    Args:
        model: The model; a PeftModel where LoRA is used.
        processor: Its feature extractor and tokenizer, which are saved beside it.
        collator: Makes batches of rows.
        encoders: Its encoders by modality, to freeze them or give them their own learning rate.
        sources: Where each encoder came from, by modality.
    """

    model: nn.Module
    processor: SerProcessor
    collator: Collator
    encoders: dict[str, nn.Module]
    sources: dict[str, str] = field(default_factory=dict)


def build_model(labels, head, adapt, audio=None, text=None, texts=(), speakers=None, dimensions=()) -> Candidate:
    """A model of audio, of text, or of both.

    Args:
        labels: Emotion names in class order; none of a model that predicts dimensions alone.
        head: HeadArguments, of both modalities FusionArguments.
        adapt: AdaptArguments.
        audio: AudioArguments; None for text alone.
        text: TextArguments; None for audio alone.
        texts: Transcripts of the training rows, from which our text encoders learn their vocabulary.
        speakers: Who speaks each of the texts, None where that is not known.
        dimensions: Names of the dimensions that it predicts, such as valence.

    Raises:
        ValueError: a network that only a fit can train in fusion, no texts for a text-only model, or a part that would
            not be found where the model is loaded.
    """
    encoders, sources, processor = {}, {}, SerProcessor()
    by_speaker = head.chosen in SOLVED_HEADS and getattr(audio, "normalisation", None) == "speaker"
    if audio is not None:
        own = replace(audio, normalisation=None, enrolment_clips=0) if by_speaker else audio
        encoders[AUDIO], processor.feature_extractor = load_audio_encoder(own)
        sources[AUDIO] = audio.audio_model
        check_network(audio.audio_model, encoders[AUDIO], text is not None)
        if audio.audio_model in FITTED and text is None:
            head = replace(head, head="linear", pooling="mean")
    if text is not None:
        if audio is None and not any(texts):
            raise ValueError(
                "None of the training clips has a transcript, so there is no text to train on. Expected texts in the "
                "transcript column: add them, or train on the audio with train_audio.py."
            )
        encoders[TEXT], processor.tokenizer = load_text_encoder(text, texts, speakers)
        sources[TEXT] = text.text_model
    if head.chosen in SOLVED_HEADS:
        every = "both" if len(encoders) == 2 else next(iter(encoders))
        head, adapt = replace(head, pooling="mean"), replace(adapt, freeze=every)
        if by_speaker:
            check_takes_means(audio, encoders)
    config = SerConfig(
        **{f"{modality}_config": encoder.config for modality, encoder in encoders.items()},
        **({"audio_layers": audio.audio_layers} if audio is not None else {}),
        **({"text_layers": text.text_layers, "context_turns": text.context} if text is not None else {}),
        **head_settings(head),
        **({"speaker_views": len(audio.speed_list) or 1} if by_speaker else {}),
        **label_maps(labels),
        **({"dimensions": list(dimensions), "dimension_scale": list(SCALE)} if dimensions else {}),
    )
    drop_unread_layers(config, encoders, adapt.freeze)
    model = SerModelForClassification(config)
    for modality, encoder in encoders.items():
        setattr(model, f"{modality}_encoder", ignore_padding(encoder))
    check_is_loadable(model)
    model = adapted(model, encoders, adapt, sources)
    return Candidate(model, processor, Collator(processor), encoders, sources)


def check_network(source: str, encoder: nn.Module, is_fused: bool) -> None:
    """Make sure that a network without a weight to train is used as it can be.

    Args:
        source: `audio_model`.
        encoder: The encoder that was loaded from it.
        is_fused: Whether text is read beside it.

    Raises:
        ValueError: functionals that nothing standardises, or one that was fitted before.
    """
    network = network_of(encoder)
    if is_fused and network == "functionals":
        raise ValueError(
            f"--audio_model {source}: found functionals, whose standardisation is fitted with the head, which fusion "
            "trains. Expected with text a network that standardises: random_kernels."
        )
    if not is_fused and network in FITTED and network != source:
        raise ValueError(
            f"--audio_model {source}: found a model of {network}, in which nothing can be trained further. Expected "
            f"--audio_model {network}, whose head is fitted anew, or a network that is trained."
        )


def check_takes_means(audio, encoders: dict[str, nn.Module]) -> None:
    """Make sure that a solved head may take the mean of a speaker's clips off.

    Raises:
        ValueError: text is read too, or the encoder scales by speaker itself.
    """
    front_end = getattr(encoders[AUDIO], "front_end", None)
    if len(encoders) == 2 or front_end is not None:
        found = "an encoder with a normalisation of its own" if front_end is not None else "text beside the audio"
        raise ValueError(
            f"--normalisation {audio.normalisation}, on a head that is solved for: found {found}. Expected a "
            "pretrained encoder of audio alone, such as openai/whisper-base: leave --normalisation out."
        )


def drop_unread_layers(config: SerConfig, encoders: dict[str, nn.Module], frozen: str) -> None:
    """Remove the layers of frozen encoders that are above the highest one that is read, where that is possible."""
    for modality, encoder in encoders.items():
        read = getattr(config, f"{modality}_layers")
        numbers = read if isinstance(read, list) else [read]
        if frozen in (modality, "both") and all(isinstance(one, int) for one in numbers):
            family_of(encoder.config).drop_layers(encoder, max(numbers))


def network_of(encoder: nn.Module) -> str | None:
    """Which of our spectrogram networks an encoder is; None of others."""
    return getattr(encoder.config, "network", None)


def head_settings(head) -> dict:
    """What HeadArguments or FusionArguments say, as a configuration names it."""
    own = {"head": head.chosen, "dropout": head.head_dropout}
    return own | {name: getattr(head, name) for name in ("pooling", "modality_dropout") if hasattr(head, name)}


def label_maps(labels) -> dict:
    """`id2label` and `label2id` of a configuration."""
    return {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}


MODEL_NAMES = ("audio_model", "text_model", "asr_model")
"""Settings that name a model; in each, {fold} stands for the name of a fold."""


def of_fold(source: str, name: str) -> str:
    """The name of a model with `{fold}` replaced."""
    return source.replace("fold_{fold}", fold_folder(name)).replace("{fold}", name)


def check_sources(models: Sequence, folds: Sequence[str]) -> None:
    """Make sure that the pretrained models that are named are found, before there is any work.

    Args:
        models: AudioArguments, TextArguments or AsrArguments.
        folds: Names of the folds; a model that is named by its fold is looked for under each of them.

    Raises:
        FileNotFoundError, ValueError: one is not, see `checkpoint_config`.
    """
    for source in named_sources(models, folds):
        checkpoint_config(source)


def named_sources(models: Sequence, folds: Sequence[str]) -> list[str]:
    """The pretrained models that are named, each once; arguments as of `check_sources`."""
    named = [getattr(one, key) for one in models for key in MODEL_NAMES if hasattr(one, key)]
    pretrained = [one for one in named if one not in PRESETS and one not in TEXT_PRESETS]
    sources = [of_fold(one, fold) for one in pretrained for fold in folds if "{fold}" in one]
    return list(dict.fromkeys([*sources, *(one for one in pretrained if "{fold}" not in one)]))


def from_fold(arguments, name: str):
    """The same arguments with `{fold}` in the names of models replaced, so that every fold finds its own encoder.

    `runs/audio/fold_{fold}` is the folder of that fold in another run, `runs/audio/final` where all are trained on.
    """
    values = {key: of_fold(value, name) if key in MODEL_NAMES else value for key, value in vars(arguments).items()}
    return type(arguments)(**values)
