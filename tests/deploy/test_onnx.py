"""Exports: the same answers as torch's, in a process without torch; what cannot be exported is refused."""

import json
import subprocess
import sys
from pathlib import Path

import calls
import numpy as np
import pytest
import soundfile as sf
from models.tiny import audio_only, fused, save_trained, text_only

pytest.importorskip("onnxscript", reason="needs the extra onnx")

from hf_ser.deploy import onnx_export
from hf_ser.deploy.onnx_export import Measured, check_uar, export_onnx
from hf_ser.deploy.onnx_ser import OnnxSer
from hf_ser.models import PRESETS, SerConfig, SerModelForClassification, SerPipeline, SpectrogramConfig
from hf_ser.models.decoding import resample
from hf_ser.models.front_end import WaveformFeatureExtractor

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
    folder = tmp_path_factory.mktemp("crnn")
    export_onnx(str(save_trained("audio", folder / "model")), folder / "onnx")
    return folder / "model", folder / "onnx"


def assert_same(answers: list, expected: list) -> None:
    for one, other in zip(answers, expected, strict=True):
        assert {row["label"]: row["score"] for row in one} == pytest.approx(
            {row["label"]: row["score"] for row in other}, abs=1e-4
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
    audio = {"gru": "wav2vec2", "bert": "whisper"}[text]
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
def test_a_head_that_was_solved_for_exports_with_several_speeds(tmp_path, clips):
    import torch
    from models.tiny import AUDIO, LABELS, awaken

    from hf_ser.training.building import label_maps

    audio_config, extractor = AUDIO["whisper"]()
    extractor.speeds, extractor.max_seconds = [0.9, 1.0, 1.1], 2.0
    torch.manual_seed(0)
    config = SerConfig(
        audio_config=audio_config, head="ridge", pooling="mean", audio_layers=[1, 2], **label_maps(LABELS)
    )
    model = save(awaken(SerModelForClassification(config)), extractor, tmp_path / "model")
    export_onnx(str(model), tmp_path / "onnx")
    assert_same(OnnxSer(tmp_path / "onnx")(clips), expected_answers(model, clips, [None] * 3))
    onnx_export.quantize_weights(tmp_path / "onnx")
    assert len(OnnxSer(tmp_path / "onnx")(clips)) == 3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_random_kernels_export_with_their_front_end(tmp_path, clips):
    import torch
    from models.tiny import LABELS, awaken

    from hf_ser.training.building import label_maps

    torch.manual_seed(0)
    audio_config = SpectrogramConfig(**PRESETS["random_kernels"])
    config = SerConfig(audio_config=audio_config, head="ridge", pooling="mean", **label_maps(LABELS))
    extractor = WaveformFeatureExtractor(max_seconds=3.0, trim_silence=True)
    model = save(awaken(SerModelForClassification(config)), extractor, tmp_path / "model")
    done = export_onnx(str(model), tmp_path / "onnx")
    assert done.difference < 1e-4
    assert_same(OnnxSer(tmp_path / "onnx")(clips), expected_answers(model, clips, [None] * 3))


# What is refused


def test_models_that_cannot_be_exported_are_refused_and_nothing_is_written(tmp_path):
    text = save(*text_only(), tmp_path / "text")
    with pytest.raises(ValueError, match=r"found a text-only model\. Expected a model of train_audio"):
        export_onnx(str(text), tmp_path / "onnx")
    ast = save(*audio_only("ast"), tmp_path / "ast")
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
    with pytest.raises(ValueError, match=r"differs from torch by 0.001 in a probability"):
        export_onnx(str(model), tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


def test_int8_weights_that_cost_a_point_are_refused_with_both_figures():
    check_uar(Measured(100, 0.700, 5.0), Measured(100, 0.691, 3.0))
    with pytest.raises(ValueError, match=r"UAR 68.9 %, with float32 70.0 % \(100 clips\)"):
        check_uar(Measured(100, 0.700, 5.0), Measured(100, 0.689, 3.0))


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
