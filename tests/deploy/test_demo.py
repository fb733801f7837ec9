"""The page of the demo: it builds for models of each kind, its function answers as the pipeline, and it is served."""

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import calls
import numpy as np
import pytest
import requests
import soundfile as sf
from models.tiny import save_trained

pytest.importorskip("gradio", reason="needs the extra demo")

import gradio as gr

from hf_ser.deploy.demo import MOST_WORDS, UNSURE, answer, build_demo, read_card, section, word_changes
from hf_ser.deploy.demo_timeline import timeline_view
from hf_ser.models import SerPipeline
from hf_ser.runs.classifier import Classifier

CARD = "# Model\n\n## Figures\n\nUAR 70\n\n## Intended use\n\nFor research.\n\n## Limits\n\n- A label is acted.\n"
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module", params=["audio", "fusion"])
def classify(request, tmp_path_factory):
    return SerPipeline.from_pretrained(str(save_trained(request.param, tmp_path_factory.mktemp(request.param))))


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> str:
    file = tmp_path_factory.mktemp("clips") / "a.wav"
    sf.write(file, calls.voice(1, 1.2), 16_000)
    return str(file)


def test_the_page_answers_as_the_pipeline(classify, recording):
    text = "hello you" if "text" in classify.modalities else None
    expected = classify(recording, text=text)
    scores, label, notes = answer(classify, recording, text)
    assert scores == {one["label"]: one["score"] for one in expected} and sum(scores.values()) == pytest.approx(1)
    assert label == (UNSURE if expected.unsure else expected[0]["label"]) and notes == "\n".join(expected.notes)
    with pytest.raises(gr.Error, match="There is no recording"):
        answer(classify, None)


def test_a_recording_that_cannot_be_read_is_refused_without_its_path(classify, tmp_path):
    (tmp_path / "secret.wav").write_text("no audio")
    with pytest.raises(gr.Error) as caught:
        answer(classify, str(tmp_path / "secret.wav"))
    assert "the recording: not readable as audio" in str(caught.value) and "secret" not in str(caught.value)


def test_the_page_shows_the_limits_of_the_card(classify):
    page = build_demo(classify, "mine", card=CARD)
    assert "not what a person" in page.article and "- A label is acted." in page.article
    assert "For research." in page.article and "UAR 70" not in page.article
    assert len(page.input_components) == 1 + ("text" in classify.modalities)


def test_the_page_is_served(classify, recording):
    page = build_demo(classify, "mine")
    _, address, _ = page.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    try:
        assert requests.get(address, timeout=10).status_code == 200
        assert requests.get(f"{address}config", timeout=10).json()["title"] == "mine"
    finally:
        page.close()


def test_a_card_without_limits_and_a_folder_without_a_card_add_nothing(tmp_path):
    assert section("# Model\n", "Limits") == "" and read_card(tmp_path) == ""


def test_what_each_word_changes_is_the_score_without_it(classify, recording):
    if "text" not in classify.modalities:
        return
    changes = word_changes(classify, recording, "hello  what day")
    whole = classify(recording, text="hello what day")
    best = whole[0]["label"]
    without = {one["label"]: one["score"] for one in classify(recording, text="hello day")}[best]
    assert [word for word, _ in changes] == ["hello", "what", "day"]
    assert changes[1][1] == pytest.approx(whole[0]["score"] - without, abs=1e-4)
    assert (
        word_changes(classify, recording, " ") == [] == word_changes(classify, recording, "hello " * (MOST_WORDS + 1))
    )


def test_a_long_recording_has_a_time_line_and_a_clip_has_none(classify, recording, tmp_path):
    model = Classifier(classify.model.name_or_path, "cpu")
    assert timeline_view(model, recording) is None
    clip, pause = calls.voice(2, 4.0), np.zeros(32_000)
    sf.write(tmp_path / "call.wav", np.concatenate([clip, pause, clip]), 16_000)
    picture, rows = timeline_view(model, str(tmp_path / "call.wav"))
    assert picture.axes and rows[0][0] == "00:00:00" and rows[-1][1] == "00:00:10"
    page = build_demo(classify, "mine", timeline=lambda file: timeline_view(model, file))
    assert len(page.output_components) == 5 + ("text" in classify.modalities)
    shown = page.fns[next(iter(page.fns))].fn(str(tmp_path / "call.wav"), *["hello"] * ("text" in classify.modalities))
    assert shown[-1]["visible"] and shown[-1]["value"] == rows
    assert not page.fns[next(iter(page.fns))].fn(recording)[-1]["visible"]
