"""Pretrained encoders with what turns audio and text into their inputs: checked, and cropped to the clips' length."""

from collections import Counter, defaultdict
from itertools import chain

from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from tokenizers.trainers import WordLevelTrainer
from transformers import (
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForAudioClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from hf_ser.models import (
    PRESETS,
    TEXT_PRESETS,
    SerConfig,
    SpectrogramConfig,
    SpectrogramModel,
    TextRnnConfig,
    TextRnnModel,
    WaveformFeatureExtractor,
)
from hf_ser.models.configuration_ser import AUDIO, TEXT
from hf_ser.models.encoders import family_of
from hf_ser.models.loading import fresh_weights, not_finite
from hf_ser.models.spectrogram import vision_config, with_backbone
from hf_ser.revisions import checkpoint_config, split_revision
from hf_ser.runs.checkpoints import load_with_info

TRIMMED = ("crnn", "functionals", "random_kernels")
"""Networks that read a clip without the silence at its ends: digital zeros are a shortcut."""


def load_audio_encoder(audio) -> tuple[PreTrainedModel, object]:
    """An audio encoder and its feature extractor, cropped to `max_seconds` where its length is fixed.

    Args:
        audio: AudioArguments. Its `audio_model` is a network of ours by its name (random weights), an image model
            (random or trained, behind a spectrogram), a model that train_audio.py wrote (its encoder), or any audio
            model that AutoModel knows.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: weights of the encoder are not in the checkpoint, or a setting does not belong to it.
    """
    name = audio.audio_model
    if name in PRESETS:
        encoder = SpectrogramModel(SpectrogramConfig(**with_front_end(PRESETS[name], audio)))
        return encoder, WaveformFeatureExtractor(max_seconds=audio.max_seconds, trim_silence=name in TRIMMED)
    config = checkpoint_config(name)
    if type(config) in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
        reject_enrolment(audio, config.model_type, audio.normalisation)
        backbone = load_trained(AutoModel, name)
        encoder = SpectrogramModel(SpectrogramConfig(**with_front_end(vision_config(backbone.config), audio)))
        encoder = with_backbone(encoder, backbone)
        return encoder, WaveformFeatureExtractor(max_seconds=audio.max_seconds)
    reject_front_end(audio, config)
    encoder = pretrained_encoder(name, config, AUDIO)
    feature_extractor = load_feature_extractor(name, audio)
    family_of(encoder.config).crop(encoder, feature_extractor, audio.max_seconds)
    return encoder, feature_extractor


def pretrained_encoder(name: str, config: PreTrainedConfig, modality: str) -> PreTrainedModel:
    """The encoder of a checkpoint: of a model of ours that of the modality, else as its family says.

    Raises:
        FileNotFoundError, ValueError: as `load_trained`, or a model of ours without an encoder of this modality.
    """
    if not isinstance(config, SerConfig):
        family = family_of(config)
        return family.encoder_of(load_trained(family.auto_class, name))
    if modality not in config.modalities:
        found = " and ".join(config.modalities)
        raise ValueError(f"{name}: found a model of {found}, expected one with an encoder of {modality}: name another.")
    return load_trained(AutoModelForAudioClassification, name).encoders[modality]


def with_front_end(settings: dict, audio) -> dict:
    """Arguments of SpectrogramConfig with the requested normalisation."""
    if not audio.normalisation:
        return settings
    return {**settings, "front_end": {**settings.get("front_end", {}), "normalisation": audio.normalisation}}


def reject_front_end(audio, config: PreTrainedConfig) -> None:
    """Make sure that no normalisation of our front ends is given for an encoder that has its own.

    Raises:
        ValueError: one is.
    """
    own = config.audio_config if isinstance(config, SerConfig) else config
    reject_enrolment(audio, config.model_type, (getattr(own, "front_end", None) or {}).get("normalisation"))
    if audio.normalisation:
        raise ValueError(
            f"--normalisation {audio.normalisation}: {audio.audio_model} ({config.model_type}) brings its own. "
            f"Expected with one of {', '.join(PRESETS)}: leave it out."
        )


def reject_enrolment(audio, kind: str, normalisation: str | None) -> None:
    """Make sure that clips to know a speaker by are drawn only for an encoder that scales by speaker.

    Raises:
        ValueError: it does not.
    """
    if audio.enrolment_clips and normalisation != "speaker":
        raise ValueError(
            f"--enrolment_clips is {audio.enrolment_clips}: {audio.audio_model} ({kind}) scales by no speaker. "
            "Expected an encoder with --normalisation speaker: add it, name a model that was trained with it, or leave "
            "--enrolment_clips out."
        )


def load_text_encoder(text, texts, speakers=None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A text encoder and its tokenizer; ours learn their vocabulary as `train_tokenizer`.

    Raises:
        FileNotFoundError, ValueError: as `load_trained`.
    """
    if text.text_model in TEXT_PRESETS:
        tokenizer = train_tokenizer(texts, speakers)
        config = TextRnnConfig(vocab_size=len(tokenizer), **TEXT_PRESETS[text.text_model])
        return TextRnnModel(config), tokenizer
    encoder = pretrained_encoder(text.text_model, checkpoint_config(text.text_model), TEXT)
    return encoder, load_tokenizer(text.text_model, encoder.config)


def load_tokenizer(name: str, config: PreTrainedConfig) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint, limited to the longest text that its encoder has positions for."""
    repository, revision = split_revision(name)
    tokenizer = AutoTokenizer.from_pretrained(repository, revision=revision, trust_remote_code=False)
    if positions := getattr(config, "max_position_embeddings", None):
        # RoBERTa's positions start behind its padding index.
        first = config.pad_token_id + 1 if config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
        tokenizer.model_max_length = min(tokenizer.model_max_length, positions - first)
    return tokenizer


def load_trained(auto_class, name: str, **kwargs) -> PreTrainedModel:
    """`from_pretrained` in float32 that refuses an encoder whose weights are not all there.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: the checkpoint lacks weights of the encoder, which would then be random.
    """
    model, loading = load_with_info(auto_class, name, **kwargs)
    if isinstance(model.config, SerConfig):
        encoders = list(model.encoders.values())
    else:
        encoders = [family_of(model.config).encoder_of(model)]
    names = {id(p): n for n, p in model.named_parameters()}
    of_encoder = {names[id(p)] for encoder in encoders for p in encoder.parameters()}
    random = [key for key in fresh_weights(loading) if key in of_encoder]
    if random:
        raise ValueError(
            f"{name}: {len(random)} weights of the {model.config.model_type} encoder are not in the checkpoint (such "
            f"as {random[0]}) and would be random. Expected a trained encoder: name another model or a whole one."
        )
    if bad := [name for encoder in encoders for name in not_finite(encoder)]:
        raise ValueError(
            f"{name}: {len(bad)} weights of the {model.config.model_type} encoder hold NaN or infinity (such as "
            f"{bad[0]}), expected numbers: name another model, or take its files anew."
        )
    return model


def load_feature_extractor(name: str, audio):
    """The feature extractor of a checkpoint, set to the longest clip and to the speeds of a clip."""
    repository, revision = split_revision(name)
    extractor = AutoFeatureExtractor.from_pretrained(repository, revision=revision, trust_remote_code=False)
    extractor.max_seconds = audio.max_seconds
    if speeds := audio.speed_list:
        extractor.speeds = speeds
    elif hasattr(extractor, "speeds"):  # of the model that the encoder is taken from
        del extractor.speeds
    return extractor


LEAST_SPEAKERS, LEAST_USES_UNKNOWN = 2, 3
"""Speakers who must have used a word for it to enter a vocabulary; uses of it where it is not known who spoke.

A vocabulary is readable in the model's folder and is pushed with it. What one person says (a name, an address, a
telephone number) must not be in it.
"""


def train_tokenizer(texts, speakers=None) -> PreTrainedTokenizerFast:
    """A word tokenizer whose vocabulary is the words of `texts` that several speakers use, lower-cased.

    Any other word is [UNK].

    Args:
        texts: Transcripts of the training rows, None where there is none.
        speakers: Who speaks each, None where that is not known; None for all of them, too.

    Raises:
        ValueError: no word is used by several speakers.
    """
    words = Tokenizer(WordLevel(unk_token="[UNK]"))
    words.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    spoken = [
        [word for word, _ in words.pre_tokenizer.pre_tokenize_str(words.normalizer.normalize_str(text or ""))]
        for text in texts
    ]
    kept = shared_words(spoken, speakers or [None] * len(spoken))
    if any(spoken) and not kept:
        raise ValueError(
            f"None of the {len(set(chain(*spoken)))} words of the training rows is used by {LEAST_SPEAKERS} speakers "
            f"(or {LEAST_USES_UNKNOWN} times where the speakers are not known), and others do not enter a vocabulary "
            "that is kept with the model. Expected more transcripts: use a pretrained --text_model, which needs none."
        )
    known = [" ".join(word for word in row if word in kept) for row in spoken]
    words.train_from_iterator(known, WordLevelTrainer(special_tokens=["[PAD]", "[UNK]"], show_progress=False))
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="[PAD]",
        unk_token="[UNK]",
        model_max_length=256,
        padding_side="right",
        model_input_names=["input_ids", "attention_mask"],
    )


def shared_words(spoken: list[list[str]], speakers: list[str | None]) -> set[str]:
    """Words that do not tell of one person: several speakers use them, or they are used often by who is not known.

    A corpus of a single speaker has no others to use them: there all uses count as of unknown speakers.
    """
    if len(set(speakers) - {None}) < LEAST_SPEAKERS:
        speakers = [None] * len(speakers)
    users, uses = defaultdict(set), Counter()
    for row, speaker in zip(spoken, speakers, strict=True):
        if speaker is None:
            uses.update(row)
        for word in row if speaker is not None else ():
            users[word].add(speaker)
    often = {word for word, count in uses.items() if count >= LEAST_USES_UNKNOWN}
    return often | {word for word, who in users.items() if len(who) >= LEAST_SPEAKERS}
