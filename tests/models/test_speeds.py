"""A clip at several speeds: what a solved head answers of it, in every way that a model is used."""

import json

import pytest
import torch
from models.tiny import assert_same_answers, audio_only, clips, fused
from transformers import AutoFeatureExtractor

from hf_ser.models import SerModelForClassification, SerPipeline, config_checks
from hf_ser.models.config_checks import HIGHEST_SPEED, LOWEST_SPEED
from hf_ser.models.processing_ser import at_speed, audio_inputs, longest_seconds
from hf_ser.runs.classifier import Classifier
from hf_ser.runs.embeddings import embeddings
from hf_ser.training.arguments import MOST_SPEEDS, SPEED, AudioArguments

SPEEDS = [0.8, 1.0, 1.25]
SOLVED = {"head": "ridge", "pooling": "mean"}


def at_speeds(audio: str):
    """A model of audio alone under a solved head, with statistics that cut some values, and its extractor."""
    model, extractor = audio_only(audio, **SOLVED)
    model.head.standardisation.deviation.copy_(torch.linspace(0.05, 2, 32))
    extractor.speeds = SPEEDS
    return model, extractor


@pytest.mark.parametrize("audio", ["whisper", "wav2vec2", "crnn"])
def test_a_solved_head_answers_with_the_mean_over_the_speeds(audio):
    model, extractor = at_speeds(audio)
    sounds = clips(1.0, 0.5, 2.0)
    batch = audio_inputs(extractor, sounds)
    assert batch["input_values"].shape[:2] == batch["audio_mask"].shape[:2] == (3, 3)
    with torch.no_grad():
        answers = model(**batch).logits
        alone = torch.cat([model(**audio_inputs(extractor, [sound])).logits for sound in sounds])
        frozen = model.frozen_part(**batch)
        of_frozen = model(**frozen).logits
        extractor.speeds = None
        views = [[at_speed(sound, 16_000, speed) for sound in sounds] for speed in SPEEDS]
        each = torch.stack([model(**audio_inputs(extractor, view)).logits for view in views])
    assert frozen["audio_hidden"].shape == (3, 3, 32) and frozen["audio_mask"].all()
    torch.testing.assert_close(answers, each.mean(0), atol=2e-5, rtol=0)
    torch.testing.assert_close(answers, alone, atol=2e-5, rtol=0)
    assert (each[0] - each[1]).abs().max() > 1e-3
    assert_same_answers(of_frozen, answers)


def test_speeds_are_saved_and_every_way_to_the_answer_has_them(tmp_path):
    model, extractor = at_speeds("whisper")
    model.save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    again = AutoFeatureExtractor.from_pretrained(tmp_path)
    sounds = clips(1.0, 0.5)
    with torch.no_grad():
        expected = model(**audio_inputs(extractor, sounds)).logits
        loaded = SerModelForClassification.from_pretrained(tmp_path).eval()(**audio_inputs(again, sounds)).logits
    assert again.speeds == SPEEDS and torch.equal(loaded, expected)
    assert longest_seconds(again) == 1.25 * 3, "the fastest reaches furthest"
    classifier = Classifier(str(tmp_path), "cpu")
    found = torch.from_numpy(classifier.probabilities(sounds, [None, None]))
    torch.testing.assert_close(found, expected.double().softmax(-1), atol=1e-5, rtol=0)
    vectors = torch.from_numpy(embeddings(classifier, sounds, [None, None]))
    assert vectors.shape == (2, 32)
    torch.testing.assert_close(model.head.classifier(vectors), expected, atol=1e-5, rtol=0)


def test_a_speaker_is_enrolled_at_every_speed_in_the_pipeline(tmp_path):
    model, extractor = audio_only("whisper", **SOLVED, speaker_views=3)
    extractor.speeds = SPEEDS
    model.save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    ask = Classifier(str(tmp_path), "cpu").pipeline
    others, sound = clips(1.0, 0.5, seed=1), clips(0.7)[0]
    with torch.no_grad():
        mean = model.encode_audio(*audio_inputs(extractor, others).values()).hidden.mean(0)
        offset = mean / (1 + 1 / 2)  # as they are made: a mean of 0, and variances of 1
        logits = model(**audio_inputs(extractor, [sound]), speaker_statistics=offset[None]).logits[0]
    given = [{"array": one, "sampling_rate": 16_000} for one in (*others, sound)]
    answer = ask(given[2], enrolment=given[:2], function_to_apply="none")
    found = {one["label"]: one["score"] for one in answer}
    expected = dict(zip(model.config.id2label.values(), logits.tolist(), strict=True))
    assert found == pytest.approx(expected, abs=1e-4)
    assert ask(given[2], function_to_apply="none")[0]["score"] != pytest.approx(answer[0]["score"], abs=1e-3)


def test_of_both_modalities_a_text_is_the_same_at_each_speed():
    model, processor = fused("whisper", "bert", "ridge", pooling="mean")
    processor.feature_extractor.speeds = SPEEDS
    sounds, texts = [*clips(1.0, 0.6), None], ["hello you", None, "what a day"]
    with torch.no_grad():
        answers = model(**processor(sounds, texts)).logits
        alone = [model(**processor([one], [text])).logits for one, text in zip(sounds, texts, strict=True)]
        of_text = model(**processor(None, texts[2:])).logits
    torch.testing.assert_close(answers, torch.cat(alone), atol=2e-5, rtol=0)
    torch.testing.assert_close(answers[2:], of_text, atol=2e-5, rtol=0)


def test_speeds_for_another_head_or_beyond_reason_are_refused(tmp_path):
    model, extractor = audio_only("whisper")
    extractor.speeds = SPEEDS
    with pytest.raises(ValueError, match=r"3 speeds for head mlp: expected one, which only ridge and logistic average"):
        model(**audio_inputs(extractor, clips(1.0)))
    model, extractor = at_speeds("whisper")
    for speeds in ([0.01], [1.0] * 99, ["fast"], "1"):
        extractor.speeds = speeds
        extractor.save_pretrained(tmp_path)
        assert json.loads((tmp_path / "preprocessor_config.json").read_text())["speeds"] == speeds
        with pytest.raises(ValueError, match=r"speeds is .*expected"):
            SerPipeline(
                model, feature_extractor=AutoFeatureExtractor.from_pretrained(tmp_path), task="audio-classification"
            )


def test_settings_and_saved_models_have_the_same_limits():
    assert (SPEED.low, SPEED.high, MOST_SPEEDS) == (LOWEST_SPEED, HIGHEST_SPEED, config_checks.MOST_SPEEDS)
    assert AudioArguments("openai/whisper-base", speeds="0.9, 1,1.1").speed_list == [0.9, 1.0, 1.1]
    for speeds, said in (("0.3,1", "each 0.5 to 2, such as"), ("fast", "numbers, each"), ("1,1.0", "a speed twice")):
        with pytest.raises(ValueError, match=said):
            AudioArguments("openai/whisper-base", speeds=speeds)
