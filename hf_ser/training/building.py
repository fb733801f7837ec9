"""Models from pretrained or fresh encoders, each with what turns clips and words into its inputs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from torch import nn
from transformers import AutoModelForSequenceClassification

from hf_ser.data.protocols import fold_folder
from hf_ser.inputs.collate import AudioCollator, FusionCollator, TextCollator
from hf_ser.models import (
    PRESETS,
    TEXT_PRESETS,
    SerAudioConfig,
    SerAudioForAudioClassification,
    SerFusionConfig,
    SerFusionForAudioClassification,
    SerProcessor,
    TextRnnConfig,
    TextRnnForSequenceClassification,
)
from hf_ser.models.configuration_ser import SOLVED_HEADS
from hf_ser.models.encoders import ignore_padding
from hf_ser.models.networks import FITTED
from hf_ser.models.saving import check_is_loadable
from hf_ser.revisions import checkpoint_config
from hf_ser.training.adaptation import adapted, drop_layers
from hf_ser.training.pretrained import (
    classifier_encoder,
    load_audio_encoder,
    load_text_encoder,
    load_tokenizer,
    load_trained,
    train_tokenizer,
)


@dataclass
class Candidate:
    """A model ready to train.

    Args:
        model: The model; a PeftModel where LoRA is used.
        processor: What is saved beside it (`SerProcessor`, feature extractor or tokenizer).
        collator: Rows to batches.
        encoders: Its encoders by modality, to freeze them or give them their own learning rate.
        sources: Where each encoder came from, by modality.
    """

    model: nn.Module
    processor: object
    collator: Callable
    encoders: dict[str, nn.Module]
    sources: dict[str, str] = field(default_factory=dict)


def build_fusion(labels, texts, audio, text, fusion, adapt, speakers=None) -> Candidate:
    """The fused model.

    Args:
        labels: Emotion names in class order.
        texts: Transcripts of the training rows, from which our text encoders learn their vocabulary.
        audio, text, fusion, adapt: AudioArguments, TextArguments, FusionArguments, AdaptArguments.
        speakers: Who speaks each of the texts, None where that is not known.

    Raises:
        ValueError: functionals that nothing standardises, or a part that would not be found where the model is loaded.
    """
    audio_encoder, feature_extractor = load_audio_encoder(audio)
    if network_of(audio_encoder) == "functionals":
        raise ValueError(
            f"--audio_model {audio.audio_model}: found functionals, whose standardisation is fitted with the head, "
            "which fusion trains. Expected with words a network that standardises: functionals_mlp or random_kernels."
        )
    text_encoder, tokenizer = load_text_encoder(text, texts, speakers)
    config = SerFusionConfig(
        audio_config=audio_encoder.config,
        text_config=text_encoder.config,
        audio_layers=audio.audio_layers,
        fusion=fusion.fusion,
        modality_dropout=fusion.modality_dropout,
        **head_settings(fusion),
        **label_maps(labels),
    )
    model = SerFusionForAudioClassification(config)
    model.audio_encoder, model.text_encoder = ignore_padding(audio_encoder), text_encoder
    processor = SerProcessor(feature_extractor, tokenizer)
    encoders = {"audio": model.audio_encoder, "text": model.text_encoder}
    sources = {"audio": audio.audio_model, "text": text.text_model}
    check_is_loadable(model)
    model = adapted(model, encoders, adapt, sources)
    return Candidate(model, processor, FusionCollator(processor), encoders, sources)


def build_audio(labels, audio, head, adapt) -> Candidate:
    """A model that only hears; arguments as AudioArguments, HeadArguments and AdaptArguments."""
    if audio.audio_model in FITTED:
        head = replace(head, head="linear", pooling="mean")
    if head.head in SOLVED_HEADS:
        head, adapt = replace(head, pooling="mean"), replace(adapt, freeze="audio")
    encoder, feature_extractor = load_audio_encoder(audio)
    if (network := network_of(encoder)) in FITTED and network != audio.audio_model:
        raise ValueError(
            f"--audio_model {audio.audio_model}: found a model of {network}, in which nothing can be trained further. "
            f"Expected --audio_model {network}, whose head is fitted anew, or a network that is trained."
        )
    config = SerAudioConfig(
        audio_config=encoder.config, audio_layers=audio.audio_layers, **head_settings(head), **label_maps(labels)
    )
    if adapt.freeze == "audio":
        drop_layers(encoder, config)
    model = SerAudioForAudioClassification(config)
    model.audio_encoder = ignore_padding(encoder)
    encoders, sources = {"audio": model.audio_encoder}, {"audio": audio.audio_model}
    check_is_loadable(model)
    model = adapted(model, encoders, adapt, sources)
    return Candidate(model, feature_extractor, AudioCollator(feature_extractor), encoders, sources)


def build_text(labels, texts, text, adapt, speakers=None) -> Candidate:
    """A classifier that only reads: transformers' own, or one of ours; arguments as of `build_fusion`."""
    if not any(texts):
        raise ValueError(
            "None of the training clips has a transcript, so there is nothing to read. Expected words in the "
            "transcript column: add them, or train on the sound with train_audio.py."
        )
    if text.text_model in TEXT_PRESETS:
        tokenizer = train_tokenizer(texts, speakers)
        config = TextRnnConfig(vocab_size=len(tokenizer), **TEXT_PRESETS[text.text_model], **label_maps(labels))
        model = TextRnnForSequenceClassification(config)
    else:
        model = load_trained(AutoModelForSequenceClassification, text.text_model, **label_maps(labels))
        tokenizer = load_tokenizer(text.text_model, model.config)
    encoders = {"text": classifier_encoder(model)}
    sources = {"text": text.text_model}
    check_is_loadable(model)
    model = adapted(model, encoders, adapt, sources)
    return Candidate(model, tokenizer, TextCollator(tokenizer), encoders, sources)


def network_of(encoder: nn.Module) -> str | None:
    """Which of our spectrogram networks an encoder is; None of others."""
    return getattr(encoder.config, "network", None)


def head_settings(head) -> dict:
    """What HeadArguments say, as a configuration names it."""
    return {
        "pooling": head.pooling,
        "head": head.head,
        "dropout": head.head_dropout,
    }


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
