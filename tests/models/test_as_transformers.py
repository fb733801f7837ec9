"""Our models used as transformers' own: inputs by the extractors' names, in half precision, exported."""

import numpy as np
import pytest
import torch
from models.tiny import AUDIO, TEXTS, audio_only, clips, fused
from transformers import AutoModelForAudioClassification

from hf_ser.models import PRESETS, SerConfig, SerModelForClassification, SerPipeline
from hf_ser.models.processing_ser import audio_inputs
from hf_ser.training.building import label_maps

EXACT = {"whisper": 3.0, "ast": 2.015}
"""Seconds that an extractor of one length pads nothing of: 3 s of Whisper's windows, 200 frames of AST's."""
HALF = (torch.bfloat16, torch.float16)


@pytest.mark.parametrize("audio", AUDIO)
def test_what_a_feature_extractor_gives_is_what_a_model_takes(audio):
    model, extractor = audio_only(audio)
    (sound,) = clips(EXACT.get(audio, 1.0))
    with torch.no_grad():
        given = extractor(sound, sampling_rate=16_000, return_tensors="pt")
        scores = model(**given).logits.softmax(-1)[0]
    ask = SerPipeline(model=model, feature_extractor=extractor, task="audio-classification")
    said = {one["label"]: one["score"] for one in ask(sound)}
    np.testing.assert_allclose(list(scores), [said[model.config.id2label[i]] for i in range(3)], atol=1e-6)


@pytest.mark.parametrize("audio", ["wav2vec2_layer_norm", "crnn"])
def test_an_attention_mask_is_the_audios(audio):
    model, extractor = audio_only(audio)
    given = extractor(
        clips(1.0, 0.5), sampling_rate=16_000, padding=True, return_attention_mask=True, return_tensors="pt"
    )
    with torch.no_grad():
        torch.testing.assert_close(model(**given).logits, model(**audio_inputs(extractor, clips(1.0, 0.5))).logits)


def test_a_fused_model_takes_either_part_by_its_usual_names():
    model, processor = fused("whisper", "bert")
    audio = processor.feature_extractor(
        clips(3.0), sampling_rate=16_000, return_attention_mask=True, return_tensors="pt"
    )
    text = processor.tokenizer(["hello you"], return_tensors="pt", return_token_type_ids=False)
    ours = processor(clips(3.0), ["hello you"])
    heard_alone = {name: ours[name] for name in ("input_values", "audio_mask")}
    read_alone = {name: ours[name] for name in ("input_ids", "text_mask")}
    with torch.no_grad():
        torch.testing.assert_close(model(**audio).logits, model(**heard_alone).logits)
        torch.testing.assert_close(model(**text).logits, model(**read_alone).logits)
        for given in ({**audio, **text}, {**heard_alone, **text}):
            with pytest.raises(ValueError, match=r"not clear whose it is.*audio_mask for the audio and text_mask"):
                model(**given)


def test_what_is_given_twice_or_unknown_is_refused():
    model, extractor = audio_only("wav2vec2_layer_norm")
    batch = audio_inputs(extractor, clips(1.0))
    with pytest.raises(ValueError, match="audio_mask and attention_mask were both given"):
        model(**batch, attention_mask=batch["audio_mask"])
    with pytest.raises(ValueError, match="input_values and input_features were both given"):
        model(**batch, input_features=batch["input_values"])
    with pytest.raises(TypeError, match="samples"):
        model(**batch, samples=1)


@pytest.mark.parametrize("dtype", HALF, ids=["bfloat16", "float16"])
@pytest.mark.parametrize("audio", AUDIO)
def test_half_precision_answers_nearly_the_same(tmp_path, audio, dtype):
    model, extractor = audio_only(audio)
    batch = audio_inputs(extractor, clips(1.0, 0.6))
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        wanted = model(**batch).logits.softmax(-1)
        loaded = AutoModelForAudioClassification.from_pretrained(tmp_path, dtype=dtype).eval()
        assert loaded.head.classifier.weight.dtype == dtype
        for half in (loaded, model.to(dtype)):
            torch.testing.assert_close(half(**batch).logits.float().softmax(-1), wanted, rtol=0, atol=0.05)


@pytest.mark.parametrize("network", sorted(set(PRESETS) - {"crnn", "alexnet"}))
def test_our_networks_answer_in_bfloat16(network):
    torch.manual_seed(0)
    config = SerConfig(audio_config={"model_type": "ser_spectrogram", **PRESETS[network]}, **label_maps("abc"))
    model, extractor = SerModelForClassification(config).eval(), AUDIO["crnn"]()[1]
    batch = audio_inputs(extractor, clips(1.0, 0.6))
    with torch.no_grad():
        wanted = model(**batch).logits.softmax(-1)
        torch.testing.assert_close(model.bfloat16()(**batch).logits.float().softmax(-1), wanted, rtol=0, atol=0.05)


@pytest.mark.parametrize(("audio", "text"), [("wav2vec2", "bert"), ("whisper", "gru"), ("ast", "roberta")])
def test_a_fused_model_answers_in_bfloat16(audio, text):
    model, processor = fused(audio, text, "cross_attention" if audio == "ast" else "weighted")
    batch = processor(clips(1.0, 0.6, 0.5), list(TEXTS))
    with torch.no_grad():
        wanted = model(**batch).logits.softmax(-1)
        torch.testing.assert_close(model.bfloat16()(**batch).logits.float().softmax(-1), wanted, rtol=0, atol=0.05)


@pytest.mark.parametrize("audio", ["wav2vec2", "hubert", "wavlm", "whisper", "ast"])
def test_an_audio_model_exports_for_any_batch(audio):
    model, extractor = audio_only(audio)
    batch, other = (audio_inputs(extractor, clips(*seconds)) for seconds in ((1.0, 0.6), (1.0, 0.7, 0.5)))
    assert_exports(model, batch, other)


def test_a_fused_model_exports_for_any_batch():
    model, processor = fused("wav2vec2", "bert")
    texts = ["hello you what a day", "hello", None]
    assert_exports(model, dict(processor(clips(1.0, 0.6), texts[:2])), dict(processor(clips(1.0, 0.7, 0.5), texts)))


def assert_exports(model, batch, other):
    rows = torch.export.Dim("rows", min=2, max=64)
    shapes = {name: {0: rows} for name in batch}
    with torch.no_grad():
        program = torch.export.export(model, (), batch, dynamic_shapes=shapes).module()
        for given in (batch, other):
            torch.testing.assert_close(program(**given)["logits"], model(**given).logits, rtol=0, atol=1e-5)


def test_a_row_without_sound_is_still_refused():
    model, extractor = audio_only("wav2vec2")
    batch = audio_inputs(extractor, [clips(1.0)[0], None])
    with pytest.raises(ValueError, match="A row of the batch has no audio"):
        model(**batch)
