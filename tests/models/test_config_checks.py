"""Configurations that nobody can have trained are refused by the name of their key, before anything is built."""

import json
import shutil

import pytest
from models.tiny import AUDIO, LABELS, TEXT, awaken, save_trained, tokenizer
from transformers import AutoConfig, AutoModelForAudioClassification, AutoModelForSequenceClassification

from hf_ser.models import SerConfig, SpectrogramConfig, TextRnnConfig
from hf_ser.models.config_checks import check_config
from hf_ser.revisions import checkpoint_config
from hf_ser.runs.classifier import Classifier
from hf_ser.training.building import label_maps

BAD = [
    ("calibration_temperature", float("nan")),
    ("calibration_temperature", -1.5),
    ("calibration_temperature", 0),
    ("calibration_temperature", 1e-300),
    ("calibration_temperature", 1e9),
    ("calibration_temperature", "2"),
    ("calibration_temperature", True),
    ("calibration_temperature", [1.0]),
    ("abstain_threshold", 1.01),
    ("abstain_threshold", -0.1),
    ("abstain_threshold", float("nan")),
    ("abstain_threshold", "high"),
    ("id2label", {"0": "a", "1": 5, "2": "c"}),
    ("id2label", {"0": "a", "1": None, "2": "c"}),
    ("id2label", {"0": "a", "1": ["b"], "2": "c"}),
    ("id2label", {"0": "a", "1": " ", "2": "c"}),
    ("id2label", {"0": "a", "1": "a", "2": "c"}),
    ("id2label", {"0": "a", "2": "c"}),
    ("id2label", {"x": "a", "y": "c"}),
    ("id2label", ["a", "b"]),
    ("id2label", {}),
    ("id2label", {str(i): f"label {i}" for i in range(31_000)}),
    ("label2id", {"angry": 1, "happy": 0, "sad": 2}),
    ("label2id", [0, 1, 2]),
    ("num_labels", 7),
    ("num_labels", -3),
    ("dropout", float("inf")),
    ("dropout", "much"),
    ("dtype", "system"),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A model of ours and one of transformers' of each kind."""
    root = tmp_path_factory.mktemp("models")
    for kind in ("audio", "text"):
        save_trained(kind, root / kind)
    config, extractor = AUDIO["wav2vec2"]()
    config.id2label, config.label2id = label_maps(LABELS).values()
    awaken(AutoModelForAudioClassification.from_config(config)).save_pretrained(root / "wav2vec2")
    extractor.save_pretrained(root / "wav2vec2")
    words = tokenizer()
    config = TEXT["bert"](len(words))
    config.id2label, config.label2id = label_maps(LABELS).values()
    awaken(AutoModelForSequenceClassification.from_config(config)).save_pretrained(root / "bert")
    words.save_pretrained(root / "bert")
    return root


@pytest.fixture
def spoiled(folders, tmp_path):
    def spoil(kind: str, **values):
        folder = shutil.copytree(folders / kind, tmp_path / kind, dirs_exist_ok=True)
        config = json.loads((folder / "config.json").read_text())
        for path, value in values.items():
            *above, key = path.split("__")
            inner = config
            for name in above:
                inner = inner[name]
            inner[key] = value
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return spoil


def refused(folder, key: str) -> None:
    """Both ways of loading refuse it by the file's and the key's name."""
    for load in (checkpoint_config, Classifier):
        with pytest.raises(ValueError, match=rf"{folder}.*{key}.*expected"):
            load(str(folder))


@pytest.mark.parametrize("kind", ["audio", "wav2vec2"])
@pytest.mark.parametrize(("key", "value"), BAD, ids=lambda one: str(one)[:20])
def test_a_number_or_a_label_that_no_model_has(spoiled, kind, key, value):
    refused(spoiled(kind, **{"attention_dropout" if key == "dropout" and kind != "audio" else key: value}), key)


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("audio", "head_size", -1),
        ("audio", "head_size", "128"),
        ("audio", "head_size", 1e12),
        ("audio", "pooling", ["mean"]),
        ("audio", "head", {"a": 1}),
        ("audio", "audio_config", [1]),
        ("audio", "audio_config", {"network": "crnn"}),
        ("audio", "audio_config__hidden_size", 2**40),
        ("audio", "audio_config__channels", "many"),
        ("audio", "audio_config__front_end", {"n_bands": 10**9}),
        ("audio", "audio_config__front_end", {"sampling_rate": 1e12}),
        ("audio", "audio_config__front_end", {"window_seconds": "long"}),
        ("audio", "audio_config__front_end", {"hop": 0.01}),
        ("audio", "audio_config__front_end", [1]),
        ("audio", "audio_config__feature_changes", {"band_mask": "x"}),
        ("text", "text_config__num_layers", 10**9),
        ("text", "text_config__vocab_size", -5),
        ("text", "pooling", "loudest"),
        ("text", "text_config__bidirectional", "yes"),
        ("wav2vec2", "num_hidden_layers", 10**9),
        ("wav2vec2", "num_attention_heads", -2),
        ("wav2vec2", "hidden_size", "32"),
        ("wav2vec2", "conv_dim", [16, -16, 16]),
        ("bert", "num_hidden_layers", 10**9),
        ("bert", "intermediate_size", 10**12),
        ("bert", "hidden_dropout_prob", 7),
    ],
)
def test_a_size_that_no_model_has(spoiled, kind, key, value):
    folder = spoiled(kind, **{key: value})
    with pytest.raises(ValueError, match=r"[eE]xpected"):
        Classifier(str(folder))


def test_a_model_far_larger_than_its_files_is_refused_before_memory_is_asked_for(spoiled):
    folder = spoiled("bert", hidden_size=80_000, intermediate_size=400_000, num_hidden_layers=12)
    with pytest.raises(ValueError, match=r"describes a model of [\d,]+ weights, and its files hold [\d,]+ by"):
        Classifier(str(folder))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "7",
        "{}",
        '{"model_type": 5}',
        '{"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil"}}',
        '{"model_type": null}',
        '{"hidden_size": 5}',
        "{" * 5,
        '{"model_type": "wav2vec2", "a": ' + "[" * 60 + "]" * 60 + "}",
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        "\\x00\\xff",
    ],
    ids=lambda text: text[:24] or "empty",
)
def test_a_file_that_is_no_configuration(spoiled, text):
    folder = spoiled("wav2vec2")
    (folder / "config.json").write_text(text)
    for load in (checkpoint_config, Classifier):
        with pytest.raises(ValueError, match=rf"{folder}.*[eE]xpected"):
            load(str(folder))


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model.safetensors", b""),
        ("model.safetensors", b"\xff" * 100),
        ("preprocessor_config.json", b"[]"),
        ("preprocessor_config.json", b'{"feature_extractor_type": 5}'),
        ("preprocessor_config.json", b"{"),
    ],
)
def test_a_damaged_file_beside_it_is_told_with_the_models_name(spoiled, file, content):
    folder = spoiled("wav2vec2")
    (folder / file).write_bytes(content)
    with pytest.raises(ValueError, match=f"{folder}.*[eE]xpected"):
        Classifier(str(folder))


def test_a_missing_file_beside_it_is_told_with_the_models_name(spoiled):
    folder = spoiled("wav2vec2")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=f"{folder}: could not be loaded as a model"):
        Classifier(str(folder))


def test_a_configuration_of_ours_checks_itself_wherever_it_is_made():
    for make in (SerConfig, TextRnnConfig, SpectrogramConfig):
        for key, value in (("calibration_temperature", float("nan")), ("abstain_threshold", 2.0)):
            with pytest.raises(ValueError, match=f"{key} is .*expected"):
                make(**{key: value})
        with pytest.raises(ValueError, match="dropout is"):
            make(dropout=2.5)


def test_what_is_usual_passes():
    labels = label_maps(LABELS)
    for one in ({"audio_config": AUDIO["crnn"]()[0]}, {"text_config": TEXT["gru"](50)}):
        config = SerConfig(**one, **labels, calibration_temperature=0.25, abstain_threshold=1.0)
        assert AutoConfig.for_model(**json.loads(config.to_json_string())).num_labels == 3
    for make in AUDIO.values():
        check_config(json.loads(make()[0].to_json_string(use_diff=False)), "config")
    for make in TEXT.values():
        check_config(json.loads(make(50).to_json_string(use_diff=False)), "config")


EVIL = """
from pathlib import Path
Path({mark!r}).write_text("run")
from transformers import *
Evil = Wav2Vec2Config
"""


def test_no_code_of_a_folder_is_run_and_nobody_is_asked(folders, tmp_path, monkeypatch):
    asked, mark = [], tmp_path / "mark"
    monkeypatch.setattr("builtins.input", lambda *words: asked.append(words) or "y")
    for kind in ("audio", "wav2vec2", "bert", "text"):
        folder = shutil.copytree(folders / kind, tmp_path / kind)
        (folder / "evil.py").write_text(EVIL.format(mark=str(mark)))
        for file in folder.glob("*.json"):
            content = json.loads(file.read_text())
            if "config" in file.name:
                classes = ("Config", "Model", "ModelForAudioClassification", "ModelForSequenceClassification")
                classes += ("FeatureExtractor", "Processor")
                content["auto_map"] = {f"Auto{name}": "evil.Evil" for name in classes}
                content["auto_map"]["AutoTokenizer"] = ["evil.Evil", "evil.Evil"]
                file.write_text(json.dumps(content))
        Classifier(str(folder))
    alien = tmp_path / "wav2vec2"
    config = json.loads((alien / "config.json").read_text())
    (alien / "config.json").write_text(json.dumps(config | {"model_type": "alien"}))
    with pytest.raises(ValueError, match=r"model_type is 'alien'.*code from a model's folder is not run here"):
        Classifier(str(alien))
    assert not asked and not mark.exists()


def test_files_and_configurations_have_the_same_highest_rate():
    from hf_ser.models import config_checks, streams

    assert streams.HIGHEST_RATE is config_checks.HIGHEST_RATE
