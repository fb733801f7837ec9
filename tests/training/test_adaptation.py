"""Encoders that are trained in part, or through low-rank changes, of every kind of model that is named."""

import pytest
import torch
from torch import nn
from transformers import (
    AlbertConfig,
    ASTConfig,
    AutoModel,
    BertConfig,
    ConvNextConfig,
    Data2VecAudioConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    HubertConfig,
    MPNetConfig,
    PreTrainedConfig,
    PreTrainedModel,
    ResNetConfig,
    RobertaConfig,
    UniSpeechConfig,
    ViTConfig,
    Wav2Vec2Config,
    WavLMConfig,
    WhisperConfig,
    XLMRobertaConfig,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from hf_ser.models import FAMILIES, SpectrogramConfig, SpectrogramModel
from hf_ser.models.spectrogram import vision_config
from hf_ser.training.adaptation import adapted, by_depth, layers_of
from hf_ser.training.arguments import AdaptArguments

TINY = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
SPEECH = {**TINY, "conv_dim": (8, 8), "conv_kernel": (10, 3), "conv_stride": (5, 4), "num_conv_pos_embeddings": 8}
SPEECH |= {"num_conv_pos_embedding_groups": 4, "mask_time_prob": 0.0, "layerdrop": 0.0}
TEXT = {**TINY, "vocab_size": 30}
WHISPER = {"d_model": 16, "encoder_layers": 3, "encoder_attention_heads": 2, "encoder_ffn_dim": 24}
CONFIGS = {
    "wav2vec2": Wav2Vec2Config(**SPEECH),
    "hubert": HubertConfig(**SPEECH),
    "wavlm": WavLMConfig(**SPEECH),
    "data2vec-audio": Data2VecAudioConfig(**SPEECH, conv_pos_kernel_size=3),
    "unispeech": UniSpeechConfig(**SPEECH),
    "whisper": WhisperConfig(**WHISPER, max_source_positions=50, vocab_size=30, pad_token_id=0),
    "audio-spectrogram-transformer": ASTConfig(**TINY, max_length=32, num_mel_bins=16),
    "bert": BertConfig(**TEXT),
    "distilbert": DistilBertConfig(vocab_size=30, dim=16, n_layers=3, n_heads=2, hidden_dim=24),
    "roberta": RobertaConfig(**TEXT),
    "xlm-roberta": XLMRobertaConfig(**TEXT),
    "electra": ElectraConfig(**TEXT, embedding_size=8),
    "albert": AlbertConfig(**TEXT, embedding_size=8, num_hidden_groups=3),
    "mpnet": MPNetConfig(**TEXT),
    "deberta-v2": DebertaV2Config(
        **TEXT, relative_attention=True, pos_att_type=["p2c", "c2p"], max_relative_positions=8
    ),
}
SOUND = ("wav2vec2", "hubert", "wavlm", "data2vec-audio", "unispeech", "whisper", "audio-spectrogram-transformer")


class Headed(PreTrainedModel):
    """An encoder and a head."""

    config_class = PreTrainedConfig

    def __init__(self, encoder):
        super().__init__(PreTrainedConfig(num_labels=3))
        self.encoder, self.head = encoder, nn.Linear(16, 3)
        self.post_init()

    def forward(self, **inputs):
        return self.head(self.encoder(**inputs).last_hidden_state.mean(1))


def headed(kind: str, **adapt):
    torch.manual_seed(0)
    config = CONFIGS[kind]
    encoder = WhisperEncoder(config) if kind == "whisper" else AutoModel.from_config(config)
    name = "audio" if kind in SOUND else "text"
    encoders = {name: encoder}
    model = adapted(Headed(encoder), encoders, AdaptArguments(**adapt), {name: "a folder"})
    return model.eval(), encoders[name]


def inputs_of(kind: str) -> dict:
    draw = torch.Generator().manual_seed(1)
    if kind not in SOUND:
        return {"input_ids": torch.randint(2, 30, (2, 9), generator=draw)}
    if kind == "whisper":
        return {"input_features": torch.randn(2, 80, 100, generator=draw)}
    shape = (2, 32, 16) if kind == "audio-spectrogram-transformer" else (2, 400)
    return {"input_values": torch.randn(*shape, generator=draw)}


def trained(module) -> set[str]:
    return {name for name, parameter in module.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_layers_of_every_kind_are_known(kind):
    _, encoder = headed(kind)
    before, *layers, _ = by_depth(encoder)
    assert before and len(layers) == len(layers_of(encoder)) == 3
    assert sum(map(len, by_depth(encoder))) == len(list(encoder.parameters()))


@pytest.mark.parametrize("kind", CONFIGS)
def test_lora_is_on_every_layer_and_merges_into_the_same_answers(kind):
    model, encoder = headed(kind, lora="audio" if kind in SOUND else "text", lora_rank=2)
    assert FAMILIES[kind].lora_targets
    for layer in layers_of(encoder):
        assert len([name for name in trained(layer) if "lora_B" in name]) >= 2
        assert all("lora_" in name for name in trained(layer))
    model(**inputs_of(kind)).square().sum().backward()
    # This head reads no pooler.
    changes = [p for name, p in encoder.named_parameters() if "lora_B" in name and "pooler" not in name]
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in changes)
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn_like(parameter))
        wanted = model(**inputs_of(kind))
        assert not torch.allclose(wanted, headed(kind)[0](**inputs_of(kind)), atol=1e-2)
        merged = model.merge_and_unload().eval()
        torch.testing.assert_close(merged(**inputs_of(kind)), wanted, atol=2e-5, rtol=1e-4)
    assert {name for name, _ in merged.named_parameters()} == {n for n, _ in headed(kind)[0].named_parameters()}


def test_recurrent_layers_are_layers():
    encoder = nn.ModuleDict({"embeddings": nn.Embedding(5, 4), "one": nn.GRU(4, 4), "two": nn.LSTM(4, 4)})
    assert layers_of(encoder) == [encoder["one"], encoder["two"]]
    assert [len(part) for part in by_depth(encoder)] == [1, 4, 4, 0]


IMAGE = {
    "resnet": ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 8], depths=[1, 1, 1], layer_type="basic"),
    "convnext": ConvNextConfig(hidden_sizes=[8, 8, 8], depths=[1, 1, 1], num_stages=3),
    "vit": ViTConfig(**TINY, image_size=16, patch_size=8),
}


@pytest.mark.parametrize("kind", IMAGE)
def test_an_image_model_that_is_shown_spectrograms_has_layers(kind):
    encoder = SpectrogramModel(SpectrogramConfig(**vision_config(IMAGE[kind])))
    assert len(layers_of(encoder)) == 3
    before, *layers, after = by_depth(encoder)
    assert before and all(layers)
    assert len(after) == (2 if kind == "vit" else 0), "ViT's last LayerNorm"


def test_what_cannot_be_adapted_is_said():
    for adapt, said in (
        ({"freeze": "both", "lora": "text"}, "--freeze and --lora both name the text encoder"),
        ({"lora": "audio"}, "found no audio encoder in this model, which has text"),
    ):
        with pytest.raises(ValueError, match=said):
            headed("bert", **adapt)
    encoder = AutoModel.from_config(CONFIGS["bert"])
    with pytest.raises(ValueError, match="the text encoder is made here, with random weights"):
        adapted(Headed(encoder), {"text": encoder}, AdaptArguments(freeze="text"), {"text": "gru"})
