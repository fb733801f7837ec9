"""Exports: the same answers as torch's, in a process without torch; what cannot be exported is refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import calls
import numpy as np
import pytest
import soundfile as sf
import torch
from models.tiny import AUDIO, CALIBRATED, LABELS, audio_only, awaken, fused, text_only
from models.tiny import clips as noise

pytest.importorskip("onnxscript", reason="needs the extra onnx")

from hf_ser.deploy import onnx_export
from hf_ser.deploy.onnx_export import Measured, check_uar, export_onnx
from hf_ser.deploy.onnx_graph import FEATURES
from hf_ser.deploy.onnx_ser import OnnxSer
from hf_ser.models import PRESETS, SerConfig, SerModelForClassification, SerPipeline, SpectrogramConfig
from hf_ser.models.front_end import WaveformFeatureExtractor
from hf_ser.models.processing_ser import audio_inputs
from hf_ser.models.samples import resample
from hf_ser.training.building import label_maps

WITHOUT_TORCH = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "hf_ser"):
            raise ImportError(f"{name} must not be imported")

sys.meta_path.insert(0, Refuse())
sys.path.insert(0, sys.argv[1])
import json
from onnx_ser import OnnxSer
classify = OnnxSer(sys.argv[1])
print(json.dumps(classify(json.loads(sys.argv[2]), text=json.loads(sys.argv[3]))))
"""


def save(model, processor, folder: Path) -> Path:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[str]:
    """A voice at the model's rate, one at another and in stereo, and one that is shorter than the least."""
    folder = tmp_path_factory.mktemp("clips")
    other = np.stack([resample(part * calls.voice(2, 1.5), 16_000, 44_100) for part in (1.0, 0.5)], axis=1)
    sf.write(folder / "a.wav", calls.voice(1, 1.2), 16_000)
    sf.write(folder / "b.flac", other, 44_100)
    sf.write(folder / "c.wav", calls.voice(4, 0.2), 16_000)
    return [str(folder / name) for name in ("a.wav", "b.flac", "c.wav")]


@pytest.fixture(scope="module")
def audio_export(tmp_path_factory) -> tuple[Path, Path]:
    """A head that was solved for on frozen layers of Whisper, of clips at three speeds; its folder and its export."""
    folder = tmp_path_factory.mktemp("ridge")
    audio_config, extractor = AUDIO["whisper"]()
    extractor.speeds, extractor.max_seconds = [0.9, 1.0, 1.1], 2.0
    model = solved(audio_config, audio_layers=[1, 2], **CALIBRATED)
    export_onnx(str(save(model, extractor, folder / "model")), folder / "onnx")
    return folder / "model", folder / "onnx"


def solved(audio_config, **settings) -> SerModelForClassification:
    torch.manual_seed(0)
    config = SerConfig(audio_config=audio_config, head="ridge", pooling="mean", **label_maps(LABELS))
    for name, value in settings.items():
        setattr(config, name, value)
    return awaken(SerModelForClassification(config))


def assert_same(answers: list, expected: list, most: float = 1e-4) -> None:
    for one, other in zip(answers, expected, strict=True):
        assert {row["label"]: row["score"] for row in one} == pytest.approx(
            {row["label"]: row["score"] for row in other}, abs=most
        )


@pytest.mark.filterwarnings("ignore::UserWarning")
def expected_answers(model: Path, clips: list, texts: list) -> list:
    classify = SerPipeline.from_pretrained(str(model))
    return [classify(clip, text=text) for clip, text in zip(clips, texts, strict=True)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_export_answers_as_torch_where_torch_cannot_be_imported(audio_export, clips):
    model, export = audio_export
    assert {file.name for file in export.iterdir()} == {"model.onnx", "onnx_ser.json", "onnx_ser.py"}
    command = [sys.executable, "-c", WITHOUT_TORCH, str(export), json.dumps(clips), "null"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=export)
    assert done.returncode == 0, done.stderr
    assert_same(json.loads(done.stdout), expected_answers(model, clips, [None] * 3))
    settings = json.loads((export / "onnx_ser.json").read_text())
    assert settings["temperature"] == 2.5 and settings["abstain_threshold"] == 0.4
    assert settings["checked"]["largest_difference"] < 1e-4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("text", "fusion"), [("gru", "gated"), ("bert", "cross_attention")])
def test_a_fused_export_answers_with_and_without_either_modality(tmp_path, clips, text, fusion):
    audio = {"gru": "wav2vec2", "bert": "crnn"}[text]
    model = save(*fused(audio, text, fusion), tmp_path / "model")
    export_onnx(str(model), tmp_path / "onnx")
    texts = ["hello you", None, "   ", "what a day there you hello", "nothing that is known"]
    items = [clips[0], clips[1], clips[2], None, clips[0]]
    answers = OnnxSer(tmp_path / "onnx")(items, texts)
    assert_same(answers, expected_answers(model, items, texts))
    one = OnnxSer(tmp_path / "onnx")
    assert_same([one(clips[0], text="hello you")], answers[:1])
    with pytest.raises(ValueError, match="A row has no audio and no text"):
        one(None)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_random_kernels_export_with_their_front_end(tmp_path, clips):
    model = solved(SpectrogramConfig(**PRESETS["random_kernels"]))
    folder = save(model, WaveformFeatureExtractor(max_seconds=3.0, trim_silence=True), tmp_path / "model")
    export_onnx(str(folder), tmp_path / "onnx")
    answers = OnnxSer(tmp_path / "onnx")(clips)
    assert_same(answers, expected_answers(folder, clips, [None] * 3), onnx_export.LARGEST_DIFFERENCE_OF_COUNTS)


@pytest.mark.slow
def test_int8_weights_are_smaller_and_answer_alike(audio_export, tmp_path, clips):
    shutil.copytree(audio_export[1], tmp_path / "onnx")
    before = OnnxSer(tmp_path / "onnx")(clips)
    onnx_export.quantize_weights(tmp_path / "onnx")
    assert {file.name for file in (tmp_path / "onnx").iterdir()} == {"model.onnx", "onnx_ser.json", "onnx_ser.py"}
    assert (tmp_path / "onnx" / "model.onnx").stat().st_size < (audio_export[1] / "model.onnx").stat().st_size
    assert_same(OnnxSer(tmp_path / "onnx")(clips), before, 0.2)


# What is refused


@pytest.mark.parametrize("kind", ["wav2vec2", "wav2vec2_layer_norm", "whisper", "ast", "crnn"])
def test_what_goes_into_the_graph_is_what_the_feature_extractor_does(kind):
    _, extractor = AUDIO[kind]()
    seconds = (1.2, 0.3, 1.9)
    expected = audio_inputs(extractor, noise(*seconds))
    features = FEATURES[type(extractor).__name__](extractor)
    waveform = torch.zeros(3, features.padded_samples or int(max(seconds) * 16_000))
    for row, clip in enumerate(noise(*seconds)):
        waveform[row, : len(clip)] = torch.from_numpy(clip)
    values, mask = features(waveform, torch.tensor([int(one * 16_000) for one in seconds]))
    assert torch.equal(mask, expected["audio_mask"])
    torch.testing.assert_close(values, expected["input_values"], rtol=0, atol=1e-4)


def test_models_that_cannot_be_exported_are_refused_and_nothing_is_written(tmp_path, monkeypatch):
    text = save(*text_only(), tmp_path / "text")
    with pytest.raises(ValueError, match=r"found a text-only model\. Expected a model of train_audio"):
        export_onnx(str(text), tmp_path / "onnx")
    ast = save(*audio_only("ast"), tmp_path / "ast")
    monkeypatch.delitem(FEATURES, "ASTFeatureExtractor")
    with pytest.raises(ValueError, match="features of ASTFeatureExtractor cannot be exported"):
        export_onnx(str(ast), tmp_path / "onnx")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match=r"found other files. Expected none, or an older export"):
        export_onnx(str(ast), tmp_path / "other")
    assert sorted(file.name for file in tmp_path.iterdir() if not file.name.startswith(".")) == ["ast", "other", "text"]


@pytest.mark.slow
def test_an_export_that_answers_something_else_is_refused(audio_export, tmp_path, monkeypatch):
    class Wrong(OnnxSer):
        def __call__(self, *args, **kwargs):
            answers = super().__call__(*args, **kwargs)
            answers[0][0]["score"] += 0.001
            return answers

    model, _ = audio_export
    monkeypatch.setattr(onnx_export.onnx_ser, "OnnxSer", Wrong)
    monkeypatch.setattr(onnx_export, "save_graph", lambda _, file: file.write_bytes(graph))
    graph = (audio_export[1] / "model.onnx").read_bytes()
    with pytest.raises(ValueError, match=r"differs from torch by 0\.0009\d* in a probability|by 0\.001 in"):
        export_onnx(str(model), tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


@pytest.mark.slow
def test_weights_in_half_precision_take_less_space_and_answer_alike(audio_export, tmp_path, clips):
    folder = shutil.copytree(audio_export[1], tmp_path / "onnx")
    before, size = OnnxSer(folder)(clips), (folder / "model.onnx").stat().st_size
    onnx_export.halve_weights(folder)
    assert (folder / "model.onnx").stat().st_size < 0.95 * size  # most of so small a model is the graph
    assert_same(OnnxSer(folder)(clips), before, 2e-3)


def test_int8_weights_that_cost_a_point_are_refused_with_both_figures():
    check_uar(Measured(100, 0.700, 5.0), Measured(100, 0.691, 3.0), "int8")
    with pytest.raises(ValueError, match=r"UAR 68.9 %, with float32 70.0 % \(100 clips\)"):
        check_uar(Measured(100, 0.700, 5.0), Measured(100, 0.689, 3.0), "int8")


@pytest.mark.slow
def test_the_runtime_refuses_what_it_cannot_judge(audio_export, tmp_path):
    classify = OnnxSer(audio_export[1])
    voice = calls.voice(1, 1.0)
    sf.write(tmp_path / "inverted.wav", np.stack([voice, -voice], axis=1), 16_000)
    (tmp_path / "text.wav").write_text("no audio")
    for source, message in {
        tmp_path / "gone.wav": "no such file",
        tmp_path / "text.wav": "not readable as audio",
        tmp_path / "inverted.wav": "its channels cancel each other",
        b"": "not readable as audio",
    }.items():
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            classify(source)
    for samples, message in ((np.zeros(16_000), "silent"), (voice[:800], "too short"), (voice * np.nan, "not finite")):
        with pytest.raises(ValueError, match=message):
            classify({"array": samples, "sampling_rate": 16_000})
    with pytest.raises(ValueError, match="a text for a model of audio alone"):
        classify({"array": voice, "sampling_rate": 16_000}, text="hello")
    with pytest.raises(FileNotFoundError, match="expected a folder that `hf-ser export` wrote"):
        OnnxSer(tmp_path)
