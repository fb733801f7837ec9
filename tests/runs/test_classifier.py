"""A trained model behind one call, whatever its kind: the figures of its pipeline, calibrated."""

import numpy as np
import pytest
import torch
from models.tiny import LABELS, TEXTS, clips, save_trained, tokenizer
from transformers import AutoModelForAudioClassification

from hf_ser.runs.answers import json_line
from hf_ser.runs.classifier import Classifier, checked_device


@pytest.fixture(scope="module", params=["audio", "fusion", "text"])
def classifier(request, tmp_path_factory):
    return Classifier(str(save_trained(request.param, tmp_path_factory.mktemp(request.param))), "cpu")


def test_kind_labels_temperature_and_threshold_come_back_from_the_folder(classifier):
    assert classifier.labels == list(LABELS)
    assert (classifier.temperature, classifier.abstain_threshold) == (2.5, 0.4)
    assert not classifier.model.training


def test_answers_do_not_depend_on_the_batch_or_the_order(classifier):
    audio, texts = clips(1.0, 0.4, 2.2), list(TEXTS)
    whole = classifier.probabilities(audio, texts, batch_size=3)
    np.testing.assert_allclose(classifier.probabilities(audio, texts, batch_size=1), whole, atol=1e-5)
    np.testing.assert_allclose(classifier.probabilities(audio[::-1], texts[::-1], 2)[::-1], whole, atol=1e-5)
    assert np.ptp(whole, axis=0).max() > 1e-3  # the rows do differ


def test_a_pipeline_gives_the_same_calibrated_scores(classifier):
    clip = None if classifier.kind == "text" else clips(1.0)[0]
    text = None if classifier.kind == "audio" else "hello you"
    by_label = {one["label"]: one["score"] for one in classifier.pipeline(clip, text=text)}
    (probabilities,) = classifier.probabilities([clip], [text])
    assert by_label == pytest.approx(dict(zip(LABELS, probabilities, strict=True)), abs=1e-6)
    classifier.pipeline.model.config.calibration_temperature = None
    raw = {one["label"]: one["score"] for one in classifier.pipeline(clip, text=text)}
    classifier.pipeline.model.config.calibration_temperature = 2.5
    tempered = np.array([raw[label] for label in LABELS]) ** (1 / 2.5)
    assert probabilities == pytest.approx(tempered / tempered.sum(), abs=1e-5)


def test_a_text_model_gives_what_transformers_gives(tmp_path):
    folder = save_trained("text", tmp_path)
    model = AutoModelForAudioClassification.from_pretrained(folder)
    with torch.inference_mode():
        logits = model(**tokenizer()(["hello you"], return_tensors="pt", return_token_type_ids=False)).logits[0]
    (probabilities,) = Classifier(str(folder), "cpu").probabilities([None], ["hello you"])
    assert probabilities == pytest.approx((logits / 2.5).softmax(-1).numpy(), abs=1e-6)


def test_a_fused_model_works_without_audio_or_text(tmp_path):
    ask = Classifier(str(save_trained("fusion", tmp_path)), "cpu")
    (clip,) = clips(1.0)
    both, text_only, audio_only = ask.probabilities([clip, None, clip], ["hello", "hello", None])
    assert not np.allclose(both, text_only) and not np.allclose(both, audio_only)


def test_equal_texts_have_equal_answers_whatever_they_are_batched_with(tmp_path):
    ask = Classifier(str(save_trained("text", tmp_path)), "cpu")
    sizes = []

    def rounded_otherwise(model, _, outputs):
        sizes.append(len(outputs.logits))
        outputs.logits += 1e-7 * torch.randn_like(outputs.logits)

    ask.model.register_forward_hook(rounded_otherwise)
    texts = ["hello you", "what a day", None, "hello you ", "", "what a day", "hello you"]
    answers = ask.probabilities([None] * len(texts), texts, batch_size=2)
    assert sum(sizes) == len({tuple(answer) for answer in answers}) == 3
    for one, other in ((0, 3), (0, 6), (1, 5), (2, 4)):
        np.testing.assert_array_equal(answers[one], answers[other])
    np.testing.assert_allclose(answers[1], ask.probabilities([None], ["what a day"])[0], atol=1e-5)


@pytest.mark.parametrize("name", ["potato", "cuda:77"])
def test_a_device_that_is_not_here_is_named(name):
    with pytest.raises(ValueError, match=rf"device '{name}': .* Expected one of: cpu"):
        checked_device(name)
    assert checked_device("cpu") == "cpu"


@pytest.mark.parametrize("wrong", [1e45, float("nan"), float("inf")])
@pytest.mark.parametrize("kind", ["audio", "fusion", "text"])
def test_answers_that_are_no_numbers_are_refused(kind, wrong, tmp_path):
    classifier = Classifier(str(save_trained(kind, tmp_path)), "cpu")
    with torch.no_grad():
        for weights in classifier.model.parameters():
            weights.mul_(wrong)
    audio, texts = clips(1.0, 0.4), ["hello you", "what a day"]
    refusal = rf"{tmp_path}: \d+ of \d+ logits are NaN or infinite\. Expected numbers: .* train it again"
    with pytest.raises(ValueError, match=refusal):
        classifier.probabilities(audio, texts)
    if kind == "text":
        return
    for function in ("softmax", "sigmoid", "none"):
        with pytest.raises(ValueError, match=refusal):
            classifier.pipeline(audio, text=texts if kind == "fusion" else None, function_to_apply=function)


def test_a_json_line_is_json(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        json_line({"file": "a.wav", "scores": {"sad": float("nan")}})
    assert json_line({"score": 0.5}) == '{"score": 0.5}'
