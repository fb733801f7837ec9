"""A model is loaded whole, as it was saved, or refused: no answer comes from a random or a damaged number."""

import json
import shutil

import pytest
import torch
from models.tiny import AUDIO, LABELS, TEXT, audio_only, awaken, fused, save_trained, tokenizer
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForAudioClassification,
    pipeline,
)

from hf_ser.models import SerModelForClassification, SpectrogramModel
from hf_ser.runs.checkpoints import weights_digests
from hf_ser.runs.classifier import Classifier
from hf_ser.training.arguments import AudioArguments
from hf_ser.training.building import label_maps
from hf_ser.training.pretrained import load_audio_encoder

RANDOM = r"missing or of another shape \(such as {}.*would be random numbers. Expected a whole model"


def changed(folder, change) -> None:
    """Rewrite the weights of a folder."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def with_config(folder, **values) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    for kind in ("audio", "text", "fusion"):
        save_trained(kind, root / kind)
    return root


@pytest.fixture
def copy_of(models, tmp_path):
    return lambda kind: shutil.copytree(models / kind, tmp_path / kind)


@pytest.mark.parametrize(
    ("kind", "lost"),
    [
        ("audio", "head.classifier.weight"),
        ("audio", "audio_encoder.network"),
        ("audio", "audio_encoder.front_end.filter_bank"),
        ("fusion", "head.text.missing"),
        ("fusion", "text_encoder."),
        ("text", "head.classifier."),
        ("text", "text_encoder.embedding"),
    ],
)
def test_a_model_of_ours_that_lacks_weights_is_refused(copy_of, kind, lost):
    folder = copy_of(kind)
    changed(folder, lambda weights: [weights.pop(key) for key in list(weights) if key.startswith(lost)])
    task = "text-classification" if kind == "text" else "audio-classification"
    for load in (
        lambda: Classifier(str(folder)),
        lambda: AutoModelForAudioClassification.from_pretrained(folder),
        lambda: pipeline(task, model=str(folder), trust_remote_code=True),
    ):
        with pytest.raises(ValueError, match=rf"{folder}: \d+ weights of this .*{RANDOM.format(lost)}"):
            load()


def test_weights_of_another_shape_are_refused(copy_of):
    folder = copy_of("audio")
    with_config(folder, head_size=20)
    SerModelForClassification.from_pretrained(folder, ignore_mismatched_sizes=True)  # a new head is asked for
    for load in (SerModelForClassification.from_pretrained, Classifier):
        with pytest.raises(ValueError, match=r"in the file, .* by config.json\) and would be random"):
            load(str(folder))


def test_who_asks_what_is_missing_is_told(copy_of):
    folder = copy_of("audio")
    changed(folder, lambda weights: weights.pop("head.classifier.bias"))
    _, loading = SerModelForClassification.from_pretrained(folder, output_loading_info=True)
    assert loading["missing_keys"] == {"head.classifier.bias"}


@pytest.mark.parametrize("name", ["wav2vec2", "hubert", "wavlm", "whisper", "ast"])
def test_a_base_encoder_is_no_classifier(tmp_path, name):
    config, extractor = AUDIO[name]()
    awaken(AutoModel.from_config(config)).save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=rf"weights of this {config.model_type} model are {RANDOM.format('')}"):
        Classifier(str(tmp_path))


def test_transformers_own_classifiers_answer_when_they_are_whole(tmp_path):
    config, extractor = AUDIO["wav2vec2"]()
    config.id2label, config.label2id = label_maps(LABELS).values()
    awaken(AutoModelForAudioClassification.from_config(config)).save_pretrained(tmp_path / "audio")
    extractor.save_pretrained(tmp_path / "audio")
    assert Classifier(str(tmp_path / "audio")).labels == list(LABELS)
    words = tokenizer()
    awaken(AutoModel.from_config(TEXT["bert"](len(words)))).save_pretrained(tmp_path / "text")
    words.save_pretrained(tmp_path / "text")
    with pytest.raises(ValueError, match=f"weights of this bert model are {RANDOM.format('')}"):
        Classifier(str(tmp_path / "text"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", ["audio", "text"])
def test_weights_that_are_no_numbers_are_refused(copy_of, kind, value):
    folder = copy_of(kind)
    changed(folder, lambda weights: next(iter(weights.values())).view(-1)[:1].fill_(value))
    with pytest.raises(ValueError, match=r"1 weights hold NaN or infinity \(such as .*train it again at a lower"):
        Classifier(str(folder))


def test_an_encoder_whose_weights_are_no_numbers_trains_nothing(tmp_path):
    model, extractor = audio_only()
    next(model.audio_encoder.parameters()).data.fill_(float("nan"))
    model.save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="encoder hold NaN or infinity"):
        load_audio_encoder(AudioArguments(audio_model=str(tmp_path)))


def test_an_encoder_of_ours_is_loaded_whole_too(tmp_path):
    encoder = audio_only()[0].audio_encoder
    encoder.save_pretrained(tmp_path)
    SpectrogramModel.from_pretrained(tmp_path)
    changed(tmp_path, lambda weights: weights.pop("front_end.window"))
    with pytest.raises(ValueError, match=r"such as front_end.window, not in the file"):
        SpectrogramModel.from_pretrained(tmp_path)


def recorded(folder):
    (folder / "training_record.json").write_text(json.dumps({"finished": True, "weights": weights_digests(folder)}))
    return folder


@pytest.mark.parametrize("kind", ["audio", "fusion", "text"])
def test_weights_that_changed_since_training_are_refused(copy_of, kind):
    folder = recorded(copy_of(kind))
    Classifier(str(folder))
    file = folder / "model.safetensors"
    raw = bytearray(file.read_bytes())
    raw[-3] ^= 1  # one bit of the last weight: another number, of the same size
    file.write_bytes(raw)
    with pytest.raises(ValueError, match=rf"{file}: these are not the weights that training saved"):
        Classifier(str(folder))


def test_an_encoder_that_changed_since_training_is_refused(tmp_path):
    model, extractor = audio_only()
    model.save_pretrained(tmp_path, max_shard_size="10KB")
    extractor.save_pretrained(tmp_path)
    recorded(tmp_path)
    load_audio_encoder(AudioArguments(audio_model=str(tmp_path)))
    part = sorted(tmp_path.glob("model-*.safetensors"))[-1]
    weights = load_file(part)
    save_file({name: values * 1.001 for name, values in weights.items()}, part, {"format": "pt"})
    with pytest.raises(ValueError, match=f"{part.name}: these are not the weights that training saved"):
        load_audio_encoder(AudioArguments(audio_model=str(tmp_path)))


def test_a_part_that_is_defined_elsewhere_is_not_saved(tmp_path):
    class Mine(torch.nn.Linear):
        pass

    model, _ = fused()
    model.head.gate = Mine(2, 2)
    with pytest.raises(
        ValueError, match=r"test_whole_weights.py, line \d+: found an import of models, which is not installed"
    ):
        model.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())
