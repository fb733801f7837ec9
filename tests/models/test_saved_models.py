"""What loads is what was trained: in this process, in a fresh one, without hf_ser, and through the pipeline."""

import inspect
import json
import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from models.tiny import (
    AUDIO,
    LABELS,
    TEXT,
    TEXTS,
    assert_same_answers,
    assert_same_scores,
    audio_only,
    clips,
    fused,
    text_only,
    weights_of,
)
from permissions import assert_as_any_new_file
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoModelForAudioClassification, AutoProcessor, pipeline

from hf_ser.models import SerModelForClassification, SerProcessor
from hf_ser.models.processing_ser import audio_inputs
from hf_ser.models.samples import resample
from hf_ser.runs.checkpoints import load_model
from hf_ser.training.arguments import AudioArguments
from hf_ser.training.pretrained import load_audio_encoder

FRESH = """
import sys, json, warnings
warnings.simplefilter("ignore")
if {absent}:
    sys.modules["hf_ser"] = None  # any import of it fails
else:
    from hf_ser.models import SerConfig
import hashlib
import numpy as np, torch
from transformers import AutoModelForAudioClassification, AutoProcessor, pipeline
{weights_of}
answers = {{}}
for folder in {folders}:
    sounds = [np.load(folder + f"/clip{{i}}.npy") for i in range(3)]
    texts = json.load(open(folder + "/texts.json"))
    ask = pipeline("audio-classification", model=folder, trust_remote_code=True)
    given = [{{"array": s, "sampling_rate": 16000}} for s in sounds]
    said = ask(given, text=texts, batch_size=2) if texts else ask(given)
    names = ask.model.config.id2label
    scores = [[next(a["score"] for a in row if a["label"] == names[i]) for i in range(len(names))] for row in said]
    logits, digest = None, weights_of(ask.model)
    if texts:
        model = AutoModelForAudioClassification.from_pretrained(folder, trust_remote_code=True).eval()
        processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
        with torch.no_grad():
            logits = model(**processor(sounds, texts)).logits.tolist()
    answers[folder] = {{"scores": scores, "logits": logits, "weights": digest, "code": type(ask.model).__module__}}
print("ANSWERS" + json.dumps(answers))
"""


def in_fresh_process(folders: list[Path], absent: bool, tmp_path: Path) -> dict:
    code = FRESH.format(absent=absent, folders=[str(f) for f in folders], weights_of=inspect.getsource(weights_of))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.split("ANSWERS")[1])


def keep_inputs(folder: Path, sounds, texts) -> None:
    for i, sound in enumerate(sounds):
        np.save(folder / f"clip{i}.npy", sound)
    (folder / "texts.json").write_text(json.dumps(texts))


WAYS = [
    pytest.param(True, id="without hf_ser"),
    pytest.param(False, id="with hf_ser", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> tuple[dict, dict]:
    """What models that fuse and models that hear say and weigh, by the folders that they were saved in."""
    folder = tmp_path_factory.mktemp("kept")
    return keep_fused(folder / "fused"), keep_heard(folder / "heard")


@pytest.fixture(scope="module", params=WAYS)
def told(request, kept, tmp_path_factory) -> tuple[bool, dict]:
    """Whether hf_ser is absent, and what one fresh process then answers for all of them: it takes seconds to begin."""
    folders = [Path(folder) for expected in kept for folder in expected]
    return request.param, in_fresh_process(folders, request.param, tmp_path_factory.mktemp("fresh"))


def keep_fused(tmp_path: Path) -> dict:
    expected = {}
    for audio, text in [("crnn", "gru"), ("wav2vec2", "bert"), ("whisper", "distilbert"), ("ast", "roberta")]:
        model, processor = fused(audio, text, "cross_attention" if audio == "ast" else "gated")
        sounds, folder = clips(1.0, 1.9, 0.35), tmp_path / f"{audio}_{text}"
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        keep_inputs(folder, sounds, TEXTS)
        with torch.no_grad():
            expected[str(folder)] = model(**processor(sounds, list(TEXTS))).logits, weights_of(model)
    return expected


def test_fused_models_in_a_fresh_process(kept, told):
    (expected, _), (absent, answers) = kept, told
    for folder, (logits, weights) in expected.items():
        assert answers[folder]["weights"] == weights
        assert answers[folder]["code"].startswith("transformers_modules" if absent else "hf_ser.models")
        assert_same_answers(torch.tensor(answers[folder]["logits"]), logits)
        torch.testing.assert_close(torch.tensor(answers[folder]["scores"]), logits.softmax(-1), atol=1e-5, rtol=0)


def keep_heard(tmp_path: Path) -> dict:
    expected = {}
    for name, settings in (
        ("crnn", {}),
        ("wav2vec2", {"audio_layers": "mix"}),
        ("whisper", {}),
        ("ast", {"head": "linear"}),
        ("whisper", {"head": "ridge", "pooling": "mean"}),
    ):
        model, extractor = audio_only(name, **{"pooling": "attentive_statistics"} | settings)
        sounds, folder = clips(1.0, 1.9, 0.35), tmp_path / f"{name}_{model.config.head}"
        if model.config.head == "ridge":
            extractor.speeds = [0.8, 1.0, 1.25]
        model.save_pretrained(folder)
        extractor.save_pretrained(folder)
        keep_inputs(folder, sounds, None)
        with torch.no_grad():
            expected[str(folder)] = model(**audio_inputs(extractor, sounds)).logits, weights_of(model)
    return expected


def test_audio_models_in_a_fresh_process(kept, told):
    (_, expected), (_, answers) = kept, told
    for folder, (logits, weights) in expected.items():
        assert answers[folder]["weights"] == weights
        torch.testing.assert_close(torch.tensor(answers[folder]["scores"]), logits.softmax(-1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("audio", AUDIO)
def test_every_audio_encoder_reloads_with_the_same_weights_and_answers(tmp_path, audio):
    model, processor = fused(audio)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again = SerModelForClassification.from_pretrained(tmp_path).eval()
    batch = AutoProcessor.from_pretrained(tmp_path)(clips(1.0, 0.4), ["hello", None])
    assert weights_of(again) == weights_of(model)
    with torch.no_grad():
        assert_same_answers(again(**batch).logits, model(**processor(clips(1.0, 0.4), ["hello", None])).logits)


@pytest.mark.parametrize("umask", [0o022, 0o027])
def test_others_read_the_weights_as_the_umask_says(tmp_path, umask):
    before = os.umask(umask)
    try:
        fused()[0].save_pretrained(tmp_path / "fused")
        audio_only()[0].save_pretrained(tmp_path / "audio", max_shard_size="10KB")
        text_only()[0].save_pretrained(tmp_path / "text")
        for folder in ("fused", "audio", "text"):
            assert_as_any_new_file(tmp_path / folder)
        assert len(list((tmp_path / "audio").glob("*.safetensors"))) > 1
    finally:
        os.umask(before)


@pytest.mark.parametrize("audio", AUDIO)
def test_key_names_on_disk_are_those_in_memory(tmp_path, audio):
    """Trainer resumes with load_state_dict(strict=False): a renamed key would be left untrained without a word."""
    model, _ = fused(audio)
    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert set(file.keys()) == set(model.state_dict())


def test_text_models_reload_with_the_same_weights_and_answers(tmp_path):
    for name in TEXT:
        model, words = text_only(name)
        batch = dict(words(["hello you", "what a day"], padding=True, return_tensors="pt"))
        inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
        model.save_pretrained(tmp_path / name)
        SerProcessor(None, words).save_pretrained(tmp_path / name)
        again = SerModelForClassification.from_pretrained(tmp_path / name).eval()
        assert weights_of(again) == weights_of(model), name
        with torch.no_grad():
            assert_same_answers(again(**inputs).logits, model(**inputs).logits)
    read = pipeline("text-classification", model=str(tmp_path / "gru"), trust_remote_code=True)
    several = read(["hello you", "what a day"])
    assert {a["label"] for a in several[0]} == set(LABELS)
    assert_same_scores(read("hello you"), several[0])
    listen = pipeline("audio-classification", model=str(tmp_path / "gru"), trust_remote_code=True)
    assert_same_scores(listen(None, text="what a day"), several[1])
    with pytest.raises(ValueError, match="A clip has no text, and this model takes text alone"):
        read(["hello you", ""])


@pytest.mark.parametrize("kind", ["audio", "fusion"])
def test_a_folder_of_an_earlier_version_is_read_as_what_it_is(kind, tmp_path):
    model = (audio_only() if kind == "audio" else fused(fusion="mean"))[0]
    model.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    values = json.loads(file.read_text()) | {"model_type": f"ser_{kind}"}
    if kind == "fusion":
        values |= {"fusion": values["head"], "head": "mlp"}
    else:
        del values["text_config"]
    file.write_text(json.dumps(values))
    with safe_open(tmp_path / "model.safetensors", "pt") as weights:
        tensors = {key.replace("head.", f"{kind}_head.", 1): weights.get_tensor(key) for key in weights.keys()}  # noqa: SIM118
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    again = load_model(AutoModelForAudioClassification, str(tmp_path)).eval()
    assert weights_of(again) == weights_of(model) and again.config.head == model.config.head


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fused")
    model, processor = fused()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def ask(saved):
    return pipeline("audio-classification", model=str(saved), trust_remote_code=True)


def test_pipeline_takes_any_form_of_a_clip(ask, tmp_path):
    sound = clips(1.0)[0]
    file = tmp_path / "clip.wav"
    sf.write(file, sound, 16_000, subtype="FLOAT")
    wanted = ask({"array": sound, "sampling_rate": 16_000})
    assert [set(a) for a in wanted] == [{"label", "score"}] * 3, "all labels by default"
    assert sum(a["score"] for a in wanted) == pytest.approx(1)
    for form in (str(file), file, file.read_bytes(), BytesIO(file.read_bytes()), sound, torch.from_numpy(sound)):
        assert_same_scores(ask(form), wanted)
    assert_same_scores(ask({"raw": sound, "sampling_rate": 16_000}), wanted)
    assert_same_scores(ask({"path": str(file)}), wanted)
    for answer in ask([str(file), sound]):
        assert_same_scores(answer, wanted)
    assert_same_scores(ask(str(file), top_k=1), wanted[:1])
    with open(file, "rb") as handle:
        assert_same_scores(ask(handle), wanted)
    assert ask([]) == []
    (answer,) = ask(clip for clip in [sound])
    assert_same_scores(answer, wanted)


def test_pipeline_reads_48_khz_stereo(ask, tmp_path):
    left, right = clips(3.0, 3.0)  # as many samples as one second at 48 kHz
    sf.write(tmp_path / "stereo.wav", np.stack([left, right], 1), 48_000, subtype="FLOAT")
    said = ask(str(tmp_path / "stereo.wav"))
    resampled = resample((left + right) / 2, 48_000, 16_000)
    for one, other in zip(said, ask(resampled), strict=True):
        assert one["label"] == other["label"]
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)
    assert ask({"array": np.stack([left, right]), "sampling_rate": 48_000}) == said
    assert said != ask(str(tmp_path / "stereo.wav"), text="hello")


def test_pipeline_uses_words(ask):
    sound = {"array": clips(1.0)[0], "sampling_rate": 16_000}
    silent, spoken = ask(sound), ask(sound, text="hello you")
    assert silent != spoken
    assert ask({**sound, "text": "hello you"}) == spoken
    assert ask([sound, sound], text=[None, "hello you"]) == [silent, spoken]
    assert ask(sound, text="") == silent


def test_pipeline_answers_do_not_depend_on_the_batch(ask):
    given = [{"array": clip, "sampling_rate": 16_000} for clip in clips(1.0, 2.0, 0.5, 1.4)]
    one, four = ask(given), ask(given, batch_size=4)
    for a, b in zip(one, four, strict=True):
        assert {x["label"]: pytest.approx(x["score"], abs=1e-5) for x in a} == {x["label"]: x["score"] for x in b}


def test_pipeline_refuses_what_it_cannot_hear(ask, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        ask(str(tmp_path / "none.wav"))
    (tmp_path / "text.wav").write_text("not sound")
    with pytest.raises(ValueError, match=r"text\.wav: not readable as audio"):
        ask(str(tmp_path / "text.wav"))
    with pytest.raises(ValueError, match="found NaN or infinity"):
        ask(np.full(8000, np.nan, dtype=np.float32))
    with pytest.raises(ValueError, match="one clip and 1 texts in a list"):
        ask(clips(1.0)[0], text=["hello"])
    with pytest.raises(ValueError, match="a list of 2 clips and one text"):
        ask(clips(1.0, 0.5), text="yes")
    with pytest.raises(TypeError, match="texts"):
        ask(clips(1.0)[0], texts="hello")
    with pytest.raises(ValueError, match="a list of 1 clips and 2 texts in a list: expected one text for one clip"):
        ask([clips(1.0)[0]], text=["a", "b"])


def test_pipeline_of_an_object_has_no_dropout(saved):
    from hf_ser.models import SerPipeline

    model = SerModelForClassification.from_pretrained(saved).train()
    processor = AutoProcessor.from_pretrained(saved)
    ask = SerPipeline(
        model=model,
        feature_extractor=processor.feature_extractor,
        tokenizer=processor.tokenizer,
        task="audio-classification",
    )
    assert ask(clips(1.0)[0]) == ask(clips(1.0)[0])
    assert not model.training


def test_a_folder_runs_no_pickle(saved):
    assert not [f.name for f in saved.iterdir() if f.suffix in (".bin", ".pt", ".pkl", ".ckpt")]


def test_encoder_of_a_trained_classifier_is_found_again(tmp_path):
    """A fused model starts from the folder that train_audio.py wrote."""
    model, extractor = audio_only()
    model.save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    encoder, _ = load_audio_encoder(AudioArguments(audio_model=str(tmp_path)))
    for name, weight in model.audio_encoder.state_dict().items():
        assert torch.equal(encoder.state_dict()[name], weight)
