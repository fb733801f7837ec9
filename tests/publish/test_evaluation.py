"""Somebody else's model on our data: its labels, the run's folder, and what the report says of its training."""

import json

import pytest
import torch
from models.tiny import AUDIO, awaken
from transformers import AutoModelForAudioClassification

import hf_ser
from hf_ser.data.corpora.synthetic import LABELS
from hf_ser.publish.evaluation import LabelMaps, columns_of_labels
from hf_ser.runs.classifier import Classifier
from hf_ser.runs.folder import RunFolder
from hf_ser.runs.record import hashed

pytestmark = pytest.mark.usefixtures("no_pictures")

THEIRS = ("contempt", "Angry", "joy", *[one for one in LABELS if one not in ("angry", "happy")])


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """A model of transformers with labels of its own."""
    config, extractor = AUDIO["wav2vec2"]()
    config.id2label = dict(enumerate(THEIRS))
    config.label2id = {label: index for index, label in enumerate(THEIRS)}
    folder = tmp_path_factory.mktemp("models") / "theirs"
    torch.manual_seed(0)
    awaken(AutoModelForAudioClassification.from_config(config)).save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder


MAP = "happy=joy,=contempt"


def test_a_model_from_elsewhere_gets_a_run_that_is_compared_with_ours(theirs, prepared, script, tmp_path, capsys):
    arguments = ("--model", theirs, "--dataset", prepared, "--fold", 1, "--n_folds", 3, "--label_map", MAP)
    script("evaluate", *arguments, "--output_dir", tmp_path / "a", "--batch_size", 4)
    out = capsys.readouterr().out
    assert "model  theirs" in out and "Nothing is known about leaks" in " ".join(out.split())
    assert f"predict.py {theirs} call.wav" in out and "stress.py" not in out
    run = RunFolder(tmp_path / "a")
    assert run.report.uar_ci95 is not None and run.report.n_speakers == 2 and run.report.audit.leak == []
    assert "training_data_unknown" in run.report.audit.warning and run.report.leaks == []
    assert sorted(run.report.labels) == sorted(LABELS) and list(run.report.folds) == ["1"]
    assert any("Not trained here: theirs" in notice for notice in run.report.notices)
    page = (tmp_path / "a" / "report.html").read_text()
    assert "Nothing is known about leaks" in page and "theirs" in page
    report = hf_ser.evaluate(
        theirs, prepared, "speaker_folds", 1, n_folds=3, label_map=MAP, output_dir=tmp_path / "b", batch_size=16
    )
    assert report.uar == run.report.uar
    script("evaluate", tmp_path / "a", tmp_path / "b")
    assert "same UAR" in capsys.readouterr().out
    script("evaluate", tmp_path / "a")
    out = capsys.readouterr().out
    assert "Nothing is known about leaks" in " ".join(out.split()) and "stress.py" not in out


def test_probabilities_of_a_class_are_those_of_its_labels(theirs, prepared, tmp_path):
    joined = next(one for one in LABELS if one not in ("angry", "happy"))
    hf_ser.evaluate(
        theirs, prepared, "speaker_folds", 1, n_folds=3, label_map=f"{MAP},angry={joined},{joined}=Angry",
        output_dir=tmp_path,
    )  # fmt: skip
    swapped = {row["id"]: row for row in map(json.loads, (tmp_path / "predictions.jsonl").read_text().splitlines())}
    classifier, data = Classifier(str(theirs)), hf_ser.load_dataset(prepared)
    position = next(index for index, name in enumerate(data["id"][:]) if name in swapped)
    clip = data[position]["audio"]["bytes"]
    scores = {one["label"]: one["score"] for one in classifier.pipeline(clip)}
    kept = 1 - scores["contempt"]
    assert swapped[data[position]["id"]]["probabilities"] == pytest.approx(
        {one: scores[{"happy": "joy", "angry": joined, joined: "Angry"}.get(one, one)] / kept for one in LABELS},
        abs=1e-5,
    )


def test_labels_that_cannot_be_mapped_are_refused_with_both_lists(theirs):
    classifier = Classifier(str(theirs))
    with pytest.raises(
        ValueError, match=r"no class for the labels contempt, joy.*model has the labels contempt, Angry"
    ):
        columns_of_labels(classifier, LABELS, {})
    with pytest.raises(ValueError, match=r"found no label for the classes calm, expected.*data set has the classes"):
        columns_of_labels(classifier, (*LABELS, "calm"), {"joy": "happy", "contempt": ""})
    with pytest.raises(ValueError, match=r"found glad, delight, expected names of both"):
        columns_of_labels(classifier, LABELS, {"glad": "happy", "joy": "delight"})
    with pytest.raises(ValueError, match=r"two|another label"):
        LabelMaps.parsed("happy=joy,sad=joy")
    assert LabelMaps.parsed("four_class, happy=joy,=x") == LabelMaps("four_class", {"joy": "happy", "x": ""})


def test_pickled_weights_and_another_run_are_refused(theirs, prepared, tmp_path):
    model = AutoModelForAudioClassification.from_pretrained(theirs)
    pickled = tmp_path / "pickled"
    model.config.save_pretrained(pickled)
    (pickled / "preprocessor_config.json").write_bytes((theirs / "preprocessor_config.json").read_bytes())
    torch.save(model.state_dict(), pickled / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"found pickled weights, which may run code\. Expected safetensors"):
        hf_ser.evaluate(pickled, prepared, "speaker_folds", 1, label_map=MAP, output_dir=tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "run.json").write_text('{"settings": {"model": "audio"}}')
    with pytest.raises(ValueError, match="found another run, expected a folder for this one"):
        hf_ser.evaluate(theirs, prepared, "speaker_folds", 1, label_map=MAP, output_dir=tmp_path / "b")
    with pytest.raises(ValueError, match="label_map is for a model from elsewhere"):
        hf_ser.evaluate(theirs, label_map=MAP)


def test_a_model_with_a_record_is_not_tested_on_what_it_was_trained_on(theirs, prepared, tmp_path):
    folder, none = tmp_path / "recorded", {"ids": [], "pcm": [], "speakers": []}
    folder.mkdir()
    for file in theirs.iterdir():
        (folder / file.name).symlink_to(file)
    split = {"fold": "1", "split_fingerprint": "ab", "corpora": ["mine"], "train": none, "validation": none}

    def evaluate(out: str, speakers: list[str]):
        split["train"] = none | {"speakers": [hashed(one) for one in speakers]}
        (folder / "training_record.json").write_text(json.dumps({"finished": True, "split": split}))
        return hf_ser.evaluate(
            folder, prepared, "speaker_folds", 1, n_folds=3, label_map=MAP, output_dir=tmp_path / out
        )

    report = evaluate("a", ["somebody else"])
    assert "trained_elsewhere" in report.audit.warning
    assert any("it was trained on mine" in notice for notice in report.notices)
    speakers = hf_ser.load_dataset(prepared)["speaker"][:]
    with pytest.raises(ValueError, match="this evaluated model was trained on data that fold 1 uses as test"):
        evaluate("b", speakers)
