"""Models from pretrained or fresh encoders, each with what turns clips and words into its inputs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from tokenizers.trainers import WordLevelTrainer
from torch import nn
from transformers import (
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from hf_ser.collator import AudioCollator, FusionCollator, TextCollator
from hf_ser.models import (
    LogMelFeatureExtractor,
    SerFusionConfig,
    SerFusionForAudioClassification,
    SerProcessor,
    SpectrogramCnnConfig,
    SpectrogramCnnForAudioClassification,
    TextGruConfig,
    TextGruForSequenceClassification,
)
from hf_ser.models.configuration_ser import pipeline_entry
from hf_ser.models.encoders import ignore_padding, without_pooler
from hf_ser.models.processing_ser import MIN_SECONDS
from hf_ser.protocols import fold_folder
from hf_ser.revisions import checkpoint_config, split_revision

OUR_CNN, OUR_GRU = "cnn", "gru"
WHISPER, AST = "whisper", "audio-spectrogram-transformer"

# Attention projections by model type: what LoRA is put on.
LORA_TARGETS = {
    "wav2vec2": "q_proj|k_proj|v_proj|out_proj",
    "hubert": "q_proj|k_proj|v_proj|out_proj",
    "wavlm": "q_proj|k_proj|v_proj|out_proj",
    WHISPER: "q_proj|k_proj|v_proj|out_proj",
    AST: "q_proj|k_proj|v_proj|o_proj",
    "distilbert": "q_lin|k_lin|v_lin|out_lin",
    "bert": "query|key|value|dense",
    "roberta": "query|key|value|dense",
}
# Weights that the pretraining task leaves out, and that are used only where training masks its input.
MAY_BE_FRESH = ("masked_spec_embed", "pooler.")


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


def build_fusion(labels, texts, audio, text, fusion, adapt) -> Candidate:
    """The fused model.

    Args:
        labels: Emotion names in class order.
        texts: Transcripts of the training rows, from which our GRU learns its vocabulary.
        audio, text, fusion, adapt: AudioArguments, TextArguments, FusionArguments, AdaptArguments.
    """
    audio_encoder, feature_extractor = load_audio_encoder(audio.audio_model, audio.max_seconds)
    text_encoder, tokenizer = load_text_encoder(text.text_model, texts)
    config = SerFusionConfig(
        audio_config=audio_encoder.config,
        text_config=text_encoder.config,
        fusion=fusion.fusion,
        fusion_size=fusion.fusion_size,
        pooling=fusion.pooling,
        dropout=fusion.head_dropout,
        modality_dropout=fusion.modality_dropout,
        branch_loss_weight=fusion.branch_loss_weight,
        **label_maps(labels),
    )
    model = SerFusionForAudioClassification(config)
    model.audio_encoder, model.text_encoder = ignore_padding(audio_encoder), text_encoder
    processor = SerProcessor(feature_extractor, tokenizer)
    encoders = {"audio": model.audio_encoder, "text": model.text_encoder}
    sources = {"audio": audio.audio_model, "text": text.text_model}
    model = adapted(model, encoders, adapt, sources)
    return Candidate(model, processor, FusionCollator(processor), encoders, sources)


def build_audio(labels, audio, adapt) -> Candidate:
    """A classifier that only hears: transformers' own, or our CNN."""
    if audio.audio_model == OUR_CNN:
        model = SpectrogramCnnForAudioClassification(SpectrogramCnnConfig(**label_maps(labels)))
        feature_extractor = LogMelFeatureExtractor(max_seconds=audio.max_seconds)
    else:
        model = load_trained(AutoModelForAudioClassification, audio.audio_model, **label_maps(labels))
        feature_extractor = load_feature_extractor(audio.audio_model, audio.max_seconds)
        crop(classifier_encoder(model), model.config, feature_extractor, audio.max_seconds)
    model.config.custom_pipelines = pipeline_entry("SerAudioPipeline")
    # Under the key names in memory, for the reason that SerFusionForAudioClassification.save_pretrained gives.
    model.save_pretrained = partial(model.save_pretrained, save_original_format=False)
    encoders = {"audio": classifier_encoder(model)}
    sources = {"audio": audio.audio_model}
    model = adapted(ignore_padding(model), encoders, adapt, sources)
    return Candidate(model, feature_extractor, AudioCollator(feature_extractor), encoders, sources)


def build_text(labels, texts, text, adapt) -> Candidate:
    """A classifier that only reads: transformers' own, or our GRU."""
    if not any(texts):
        raise ValueError(
            "None of the training clips has a transcript, so there is nothing to read. Expected words in the "
            "transcript column: add them, or train on the sound with train_audio.py."
        )
    if text.text_model == OUR_GRU:
        tokenizer = train_tokenizer(texts)
        model = TextGruForSequenceClassification(TextGruConfig(vocab_size=len(tokenizer), **label_maps(labels)))
    else:
        model = load_trained(AutoModelForSequenceClassification, text.text_model, **label_maps(labels))
        tokenizer = load_tokenizer(text.text_model, model.config)
    encoders = {"text": classifier_encoder(model)}
    sources = {"text": text.text_model}
    model = adapted(model, encoders, adapt, sources)
    return Candidate(model, tokenizer, TextCollator(tokenizer), encoders, sources)


def label_maps(labels) -> dict:
    """`id2label` and `label2id` of a configuration."""
    return {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}


def load_audio_encoder(name: str, max_seconds: float) -> tuple[PreTrainedModel, object]:
    """An audio encoder and its feature extractor, cropped to `max_seconds` where its length is fixed.

    Raises:
        ValueError: weights of the encoder are not in the checkpoint.
    """
    if name == OUR_CNN:
        return AutoModel.from_config(SpectrogramCnnConfig()), LogMelFeatureExtractor(max_seconds=max_seconds)
    if checkpoint_config(name).model_type == WHISPER:
        # Through the classifier, which is transformers' public way to Whisper's encoder without its decoder.
        encoder = load_trained(AutoModelForAudioClassification, name).encoder
    else:
        encoder = without_pooler(load_trained(AutoModel, name))
    feature_extractor = load_feature_extractor(name, max_seconds)
    crop(encoder, encoder.config, feature_extractor, max_seconds)
    return encoder, feature_extractor


def load_text_encoder(name: str, texts) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A text encoder and its tokenizer; our GRU learns its vocabulary from `texts`.

    Raises:
        ValueError: weights of the encoder are not in the checkpoint.
    """
    if name == OUR_GRU:
        tokenizer = train_tokenizer(texts)
        return AutoModel.from_config(TextGruConfig(vocab_size=len(tokenizer))), tokenizer
    encoder = without_pooler(load_trained(AutoModel, name))
    return encoder, load_tokenizer(name, encoder.config)


def load_tokenizer(name: str, config: PreTrainedConfig) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint, told the longest text that its encoder has positions for."""
    repository, revision = split_revision(name)
    tokenizer = AutoTokenizer.from_pretrained(repository, revision=revision)
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
    checkpoint_config(name)
    repository, kwargs["revision"] = split_revision(name)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # its table of fresh weights always lists the head; what matters is checked here
    model, loading = auto_class.from_pretrained(
        repository, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True, **kwargs
    )
    logging.set_verbosity(verbosity)
    encoder = classifier_encoder(model)
    names = {id(p): n for n, p in model.named_parameters()}
    of_encoder = {names[id(p)] for p in encoder.parameters()}
    fresh = set(loading["missing_keys"]) | {key for key, *_ in loading["mismatched_keys"]}
    random = sorted(key for key in fresh & of_encoder if not any(part in key for part in MAY_BE_FRESH))
    if random:
        raise ValueError(
            f"{name}: {len(random)} weights of the {model.config.model_type} encoder are not in the checkpoint (such "
            f"as {random[0]}) and would be random. Expected a trained encoder: name another model or a whole one."
        )
    return model


def classifier_encoder(model: PreTrainedModel) -> nn.Module:
    """The encoder inside a classifier; an encoder is returned as it is."""
    return model.encoder if model.config.model_type == WHISPER else model.base_model


def load_feature_extractor(name: str, max_seconds: float):
    """The feature extractor of a checkpoint, told the longest clip."""
    repository, revision = split_revision(name)
    extractor = AutoFeatureExtractor.from_pretrained(repository, revision=revision)
    extractor.max_seconds = max_seconds
    return extractor


def crop(encoder: nn.Module, config: PreTrainedConfig, feature_extractor, max_seconds: float) -> None:
    """Shorten an encoder that always computes one length (Whisper 30 s, AST 10 s) and its extractor, in place.

    The position table is cut, so weights and positions of the first `max_seconds` (Whisper: rounded up to a whole
    second) are as they were; a shorter table is never stretched.
    """
    if config.model_type == WHISPER:
        seconds = min(feature_extractor.chunk_length, int(-(-max_seconds // 1)))
        positions = min(config.max_source_positions, seconds * 50)
        table = nn.Embedding(positions, config.d_model)
        table.weight = nn.Parameter(encoder.embed_positions.weight.detach()[:positions].clone(), requires_grad=False)
        encoder.embed_positions, encoder.max_source_positions = table, positions
        config.max_source_positions = positions
        feature_extractor.chunk_length, feature_extractor.nb_max_frames = seconds, seconds * 100
        feature_extractor.n_samples = seconds * feature_extractor.sampling_rate
    elif config.model_type == AST:
        bands = (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1
        frames = min(config.max_length, max(int(max(max_seconds, MIN_SECONDS) * 100), config.patch_size))
        times = (frames - config.patch_size) // config.time_stride + 1
        table = encoder.embeddings.position_embeddings.detach()
        patches = table[:, 2:].unflatten(1, (bands, -1))[:, :, :times].flatten(1, 2)
        encoder.embeddings.position_embeddings = nn.Parameter(torch.cat([table[:, :2], patches], dim=1))
        config.max_length = feature_extractor.max_length = frames


def train_tokenizer(texts) -> PreTrainedTokenizerFast:
    """A word tokenizer whose vocabulary is the words of `texts`, lower-cased; any other word is [UNK]."""
    words = Tokenizer(WordLevel(unk_token="[UNK]"))
    words.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.train_from_iterator((t for t in texts if t), WordLevelTrainer(special_tokens=["[PAD]", "[UNK]"]))
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="[PAD]",
        unk_token="[UNK]",
        model_max_length=256,
        padding_side="right",
        model_input_names=["input_ids", "attention_mask"],
    )


def adapted(model: PreTrainedModel, encoders: dict[str, nn.Module], adapt, sources: dict[str, str]) -> nn.Module:
    """Freeze encoders or put LoRA on them, as AdaptArguments say; the rest of the model is always trained.

    Raises:
        ValueError: one encoder is to be frozen and LoRA-trained, is not there, has no known LoRA targets, or would be
            frozen with the random weights that it is made with.
    """
    frozen, through_lora = _named(adapt.freeze, encoders), _named(adapt.lora, encoders)
    if both := sorted(set(frozen) & set(through_lora)):
        raise ValueError(f"--freeze and --lora both name the {both[0]} encoder: LoRA already keeps its weights.")
    for name in frozen:
        if sources[name] in (OUR_CNN, OUR_GRU):
            raise ValueError(
                f"--freeze {adapt.freeze}: the {name} encoder is made here, with random weights. Expected a trained "
                f"one to be frozen: train it first with train_{name}.py and name its folder, or leave out --freeze."
            )
        encoders[name].requires_grad_(False)
    return _with_lora(model, encoders, through_lora, adapt) if through_lora else model


def _named(choice: str, encoders: dict[str, nn.Module]) -> list[str]:
    if choice == "none":
        return []
    names = list(encoders) if choice == "both" else [choice]
    if names[0] not in encoders:
        raise ValueError(f"This model has no {choice} encoder to freeze or adapt: it has {', '.join(encoders)}.")
    return names


def _with_lora(model: PreTrainedModel, encoders, names, adapt) -> PeftModel:
    paths = {id(module): path for path, module in model.named_modules()}
    targets = []
    for name in names:
        model_type = encoders[name].config.model_type
        if model_type not in LORA_TARGETS:
            known = ", ".join(LORA_TARGETS)
            raise ValueError(f"LoRA is not known for {model_type}: expected one of {known}. Train it whole instead.")
        targets.append(rf"{paths[id(encoders[name])]}\..*\.({LORA_TARGETS[model_type]})")
    inside = {paths[id(encoder)].split(".")[0] for encoder in encoders.values()}
    # Every part beside the encoders is trained and saved whole: peft would silently freeze it.
    whole = [name for name, _ in model.named_children() if name not in inside]
    whole += [paths[id(encoders[name])] for name in encoders if name not in names and _trains(encoders[name])]
    config = LoraConfig(
        r=adapt.lora_rank, lora_alpha=adapt.lora_alpha, target_modules="|".join(targets), modules_to_save=whole
    )
    model = get_peft_model(model, config)
    for name in encoders:
        if paths[id(encoders[name])] in whole:
            # What is trained is peft's copy, not the module that was there.
            encoders[name] = model.base_model.model.get_submodule(paths[id(encoders[name])]).modules_to_save["default"]
    return model


def _trains(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def from_fold(arguments, name: str):
    """The same arguments with `{fold}` in the names of models replaced, so that every fold finds its own encoder.

    `runs/audio/fold_{fold}` is the folder of that fold in another run, `runs/audio/final` where all are trained on.
    """
    values = {
        key: value.replace("fold_{fold}", fold_folder(name)).replace("{fold}", name)
        if key in ("audio_model", "text_model")
        else value
        for key, value in vars(arguments).items()
    }
    return type(arguments)(**values)
