"""Tiny random models of every architecture that is fused, with the extractors and tokenizers that belong to them."""

import hashlib

import numpy as np
import torch
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    BertConfig,
    DistilBertConfig,
    HubertConfig,
    RobertaConfig,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    WavLMConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
)

from hf_ser.models import (
    SerConfig,
    SerModelForClassification,
    SerProcessor,
    SpectrogramConfig,
    TextRnnConfig,
    WaveformFeatureExtractor,
    copy_code,
)
from hf_ser.training.building import label_maps
from hf_ser.training.pretrained import train_tokenizer

LABELS = ("angry", "happy", "sad")
TEXTS = ("hello you", None, "what a day there you hello")
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
SPEECH = {
    **TINY,
    "conv_dim": (16, 16, 16),
    "conv_kernel": (10, 3, 3),
    "conv_stride": (5, 4, 4),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "mask_time_prob": 0.0,
    "layerdrop": 0.0,
}
WHISPER = {
    "d_model": 32,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 48,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 48,
    "vocab_size": 100,
    **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 0),
}
AUDIO = {
    "crnn": lambda: (SpectrogramConfig(channels=(4, 8, 8, 8), hidden_size=32), WaveformFeatureExtractor(max_seconds=3)),
    "wav2vec2": lambda: (Wav2Vec2Config(**SPEECH), Wav2Vec2FeatureExtractor()),
    "wav2vec2_layer_norm": lambda: (
        Wav2Vec2Config(**SPEECH, feat_extract_norm="layer", do_stable_layer_norm=True),
        Wav2Vec2FeatureExtractor(return_attention_mask=True),
    ),
    "hubert": lambda: (HubertConfig(**SPEECH), Wav2Vec2FeatureExtractor()),
    "wavlm": lambda: (WavLMConfig(**SPEECH), Wav2Vec2FeatureExtractor()),
    "whisper": lambda: (WhisperConfig(**WHISPER, max_source_positions=150), WhisperFeatureExtractor(chunk_length=3)),
    "ast": lambda: (ASTConfig(**TINY, max_length=200), ASTFeatureExtractor(max_length=200)),
}
TEXT = {
    "gru": lambda size: TextRnnConfig(vocab_size=size, hidden_size=32, embedding_size=16),
    "bert": lambda size: BertConfig(vocab_size=size, **TINY),
    "distilbert": lambda size: DistilBertConfig(vocab_size=size, dim=32, n_layers=2, n_heads=2, hidden_dim=48),
    "roberta": lambda size: RobertaConfig(vocab_size=size, **TINY, pad_token_id=0),
}


def tokenizer():
    """A word tokenizer of the few words in TEXTS."""
    return train_tokenizer(TEXTS * 3)


def clips(*seconds: float, seed: int = 0) -> list[np.ndarray]:
    """Noise of the given lengths."""
    draw = np.random.default_rng(seed)
    return [0.1 * draw.standard_normal(int(s * 16_000)).astype(np.float32) for s in seconds]


def awaken(model: torch.nn.Module) -> torch.nn.Module:
    """Spread the weights, so that logits differ from row to row and an error could be seen in them."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return model.eval()


def weights_of(model: torch.nn.Module) -> str:
    """A digest of all weights by name, equal only where they are equal to the bit."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode() + weight.numpy().tobytes())
    return digest.hexdigest()


def assert_same_answers(one: torch.Tensor, other: torch.Tensor) -> None:
    """Check outputs of equal weights, as tests/README.md promises them: to 1e-6 of the largest.

    Not to the bit: weights that were read from a file lie elsewhere in memory, and some processors' matrix products
    round by that (measured on an AMD EPYC: 2.4e-7 in logits of 2.8).
    """
    torch.testing.assert_close(one, other, rtol=0, atol=1e-6 * max(1.0, float(other.abs().max())))


def assert_same_scores(one: list[dict], other: list[dict]) -> None:
    """Check answers of the pipeline: the same labels in the same order, their scores to 1e-6."""
    assert [a["label"] for a in one] == [a["label"] for a in other]
    np.testing.assert_allclose([a["score"] for a in one], [a["score"] for a in other], rtol=0, atol=1e-6)


def fused(audio: str = "crnn", text: str = "gru", fusion: str = "gated", **settings):
    """A fused model in evaluation mode and its processor."""
    audio_config, feature_extractor = AUDIO[audio]()
    words = tokenizer()
    config = SerConfig(
        audio_config=audio_config,
        text_config=TEXT[text](len(words)),
        head=fusion,
        head_size=16,
        **(label_maps(LABELS) | settings),
    )
    torch.manual_seed(0)
    return awaken(SerModelForClassification(config)), SerProcessor(feature_extractor, words)


CALIBRATED = {"calibration_temperature": 2.5, "abstain_threshold": 0.4}


def audio_only(audio: str = "crnn", **settings):
    """A model of audio alone, in evaluation mode, and its feature extractor."""
    audio_config, feature_extractor = AUDIO[audio]()
    torch.manual_seed(0)
    config = SerConfig(audio_config=audio_config, head_size=16, **label_maps(LABELS), **settings)
    return awaken(SerModelForClassification(config)), feature_extractor


def text_only(text: str = "gru", **settings):
    """A model of text alone, in evaluation mode, and its tokenizer."""
    words = tokenizer()
    torch.manual_seed(0)
    config = SerConfig(text_config=TEXT[text](len(words)), head_size=16, **label_maps(LABELS), **settings)
    return awaken(SerModelForClassification(config)), words


def save_trained(kind: str, folder):
    """A small model of `audio`, `text` or both (`fusion`), saved as a training run does."""
    model, processor = {"audio": audio_only, "text": text_only, "fusion": fused}[kind]()
    for name, value in CALIBRATED.items():
        setattr(model.config, name, value)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    copy_code(folder, model)
    return folder
