"""Valence, arousal and dominance from a corpus to predictions: prepared, trained, reported, predicted and saved."""

import csv
import itertools
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from corpora_trees import iemocap, msp_improv

import hf_ser as ser
from hf_ser.checks.stress.results import format_stress
from hf_ser.data.prepare import prepare
from hf_ser.data.prepared import load_prepared
from hf_ser.models import SerPipeline
from hf_ser.publish.privacy import model_files
from hf_ser.runs.figures import DimensionReport, Report
from hf_ser.runs.folder import RunFolder
from hf_ser.training.dimension_fits import DimensionFit, fitted_dimensions

NAMES = ["valence", "arousal", "dominance"]
QUICK = ("--num_train_epochs", 1, "--seed", 1)


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    """IEMOCAP's tree, prepared, with other dimensions in each turn."""
    folder = tmp_path_factory.mktemp("iemocap")
    root = iemocap.build(folder / "tree")
    values = itertools.cycle([(1.0, 4.5, 2.0), (4.0, 4.0, 3.5), (2.5, 2.0, 3.0), (1.5, 1.5, 1.0), (5.0, 3.0, 4.5)])
    for file in sorted(root.glob("**/EmoEvaluation/*.txt")):
        same = re.escape("[2.5000, 3.0000, 3.5000]")
        file.write_text(re.sub(same, lambda _: str(list(next(values))), file.read_text()))
    prepare("iemocap", root, folder / "data", label_map="four_class")
    return folder / "data"


@pytest.fixture(scope="module")
def improvised(tmp_path_factory):
    folder = tmp_path_factory.mktemp("msp_improv")
    prepare("msp_improv", msp_improv.build(folder / "tree"), folder / "data", label_map="four_class")
    return folder / "data"


def clip_of(dataset, folder):
    file = folder / "clip.flac"
    file.write_bytes(dataset[0]["audio"]["bytes"])
    return str(file)


def test_iemocap_to_dimensions_alone(sessions, tmp_path, script, capsys):
    run = tmp_path / "run"
    script(
        *("train_audio", "--dataset", sessions, "--target", "dimensions", "--protocol", "leave_one_session_out"),
        *("--audio_model", "functionals", "--output_dir", run),
    )
    said = capsys.readouterr().out
    assert "CCC" in said and "UAR" not in said.partition("model  ")[2]
    report = RunFolder(run).report
    assert isinstance(report, DimensionReport) and list(report.dimensions.ccc) == NAMES
    fold = RunFolder(run).folds["1"]
    assert fold.record.best_validation_ccc is not None and fold.record.best_validation_uar is None
    assert fold.predictions[0].probabilities == {} and set(fold.predictions[0].annotated) == set(NAMES)
    page, card = (run / "report.html").read_text(), (fold.path / "README.md").read_text()
    assert "Valence, arousal and dominance" in page and "<strong>UAR" not in page and ">confusions<" not in page
    assert "it gives valence, arousal, dominance on a scale\nfrom -1 to 1" in card and "UAR" not in card
    files = model_files(fold.path)  # as they are pushed: this corpus may not be passed on
    assert {"dimensions.png", "dimensions.py"} < set(files) and "predictions.jsonl" not in files
    assert "speaker 1" in files["report.json"].decode() and "Ses01" not in files["report.json"].decode()
    data = load_prepared(sessions)
    stressed = ser.stress(fold, sessions, ("speed",))
    assert stressed.clean.ccc == pytest.approx(report.dimensions.mean_ccc, abs=1e-4) and stressed.clean.uar is None
    assert all(one.delta_ccc is not None and one.uar is None for one in stressed.conditions)
    assert "CCC" in format_stress(stressed) and stressed.verdict == "not judged"
    script("predict", fold.path, clip_of(data, tmp_path), "--output", tmp_path / "answers.csv")
    with open(tmp_path / "answers.csv", newline="") as file:
        (answer,) = csv.DictReader(file)
    columns = ["file", "start", "end", "channel", "unsure", *NAMES, "text", "notes", "familiarity", "error"]
    assert list(answer) == columns
    assert all(-1 <= float(answer[name]) <= 1 for name in NAMES)


def test_msp_improv_to_both(improvised, tmp_path, script, capsys):
    run = tmp_path / "run"
    script(
        *("train_audio", "--dataset", improvised, "--target", "both", "--protocol", "leave_one_session_out"),
        *("--audio_model", "functionals", "--output_dir", run),
    )
    said = capsys.readouterr().out
    assert "solved with regularisation_c" in said and "note: " not in said.partition("solved")[2]
    report = RunFolder(run).report
    assert isinstance(report, Report) and list(report.dimensions.ccc) == NAMES
    assert set(report.dimensions.per_sex) == {"female", "male"} and len(report.dimensions.per_speaker) == 2
    fold = RunFolder(run).folds["1"]
    assert fold.record.best_validation_ccc is not None and fold.record.best_validation_uar is not None
    stressed = ser.stress(fold, improvised, ("speed",))
    assert stressed.clean.ccc is not None and stressed.clean.uar == pytest.approx(report.uar)
    assert all(one.ccc is not None and one.uar is not None for one in stressed.conditions)
    again = ser.stress(fold, improvised, ("speed",))  # from what was kept
    assert again.conditions == stressed.conditions
    capsys.readouterr()
    script("predict", fold.path, clip_of(load_prepared(improvised), tmp_path), "--json")
    answer = json.loads(capsys.readouterr().out)
    assert set(NAMES) < set(answer) and answer["label"] in report.labels and len(answer["scores"]) == 4


def test_the_same_dimensions_in_a_fresh_process(sessions, tmp_path, script):
    run = tmp_path / "run"
    script(
        *("train_audio", "--dataset", sessions, "--target", "both", "--protocol", "leave_one_session_out"),
        *("--audio_model", "functionals", "--output_dir", run),
    )
    folder = run / "fold_1"
    row = RunFolder(run).folds["1"].predictions[0]
    data = load_prepared(sessions)
    clip = tmp_path / "clip.flac"
    clip.write_bytes(data[data["id"][:].index(row.id)]["audio"]["bytes"])
    pipe = SerPipeline.from_pretrained(str(folder))
    answer = pipe(str(clip), dimensions=True)
    assert list(answer) == NAMES and [one["label"] for one in answer.scores] and answer.scores.dimensions == answer
    assert pipe(str(clip)) == answer.scores and pipe([str(clip)] * 2, dimensions=True) == [answer, answer]
    np.testing.assert_allclose(list(answer.values()), list(row.dimensions.values()), atol=1e-5)
    code = (
        "import json, sys; from transformers import pipeline;"
        f"ask = pipeline('audio-classification', model={str(folder)!r}, trust_remote_code=True);"
        f"print(json.dumps(ask({str(clip)!r}, dimensions=True)))"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"HF_MODULES_CACHE": str(tmp_path / "modules"), "PYTHONNOUSERSITE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    fresh = json.loads(done.stdout.splitlines()[-1])
    np.testing.assert_allclose(list(fresh.values()), list(answer.values()), atol=1e-6)
    assert list(fresh) == NAMES


@pytest.mark.parametrize("target", ["dimensions", "both"])
def test_gradient_learners(improvised, tmp_path, target):
    settings = {"audio_model": "spectrogram_cnn", "max_seconds": 1, "protocol": "leave_one_session_out"}
    run = ser.train(improvised, target=target, output_dir=tmp_path / "run", num_train_epochs=2, **settings)
    history = run.folds["1"].record.history
    assert [one for one in history if "eval_ccc" in one and "eval_ccc_valence" in one]
    assert bool([one for one in history if "eval_uar" in one]) == (target == "both")
    assert list(run.report.dimensions.ccc) == NAMES
    assert hasattr(run.report, "uar") == (target == "both")


def test_a_model_of_classes_gives_no_dimensions(prepared, tmp_path, script):
    script("train_audio", "--dataset", prepared, "--output_dir", tmp_path, *QUICK)
    pipe = SerPipeline.from_pretrained(str(tmp_path / "fold_1"))
    with pytest.raises(ValueError, match="predicts no valence, arousal or dominance"):
        pipe(np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32), dimensions=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"target": "dimensions", "class_weights": 1},
            "class_weights is 1.0, target is dimensions",
        ),
        ({"target": "label", "metric_for_best_model": "ccc"}, "metric_for_best_model is ccc, target is label"),
        ({"target": "label", "dimension_scale": "1,5"}, "Expected target dimensions or both"),
        ({"target": "both", "dimension_scale": "5,1"}, "dimension_scale is 5,1: expected the lowest"),
    ],
)
def test_settings_that_do_not_go_together(improvised, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        ser.train(improvised, output_dir=tmp_path, audio_model="spectrogram_cnn", **settings)


def test_a_table_needs_its_scale(prepared, tmp_path, script):
    with pytest.raises(ValueError, match="Found no valence, arousal or dominance in any of 48 rows"):
        script("train_audio", "--dataset", prepared, "--target", "both", "--output_dir", tmp_path)


def test_a_table_with_a_scale_and_missing_values(table, tmp_path, script, capsys):
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    means = {"angry": (20, 90), "happy": (90, 80), "neutral": (50, 40), "sad": (20, 10)}
    with open(tmp_path / "rated.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "speaker", "valence", "arousal"])
        for number, row in enumerate(rows):
            valence, arousal = (one + number % 5 for one in means[row["label"]])
            writer.writerow([row["path"], row["label"], row["speaker"], valence if number % 8 else "", arousal])
    script(
        *("train_audio", "--corpus", "table", "--data_dir", tmp_path / "rated.csv", "--audio_dir", table.parent),
        *("--target", "both", "--dimension_scale=0,100", "--audio_model", "functionals", "--n_folds", 3),
        *("--output_dir", tmp_path / "run"),
    )
    assert "note: 6 of 48 clips have no annotation of valence: they do not count for it" in capsys.readouterr().out
    run = RunFolder(tmp_path / "run")
    assert run.report.dimensions.ccc["arousal"] > 0.3 and list(run.report.dimensions.ccc) == ["valence", "arousal"]
    annotated = [row.annotated["valence"] for row in run.folds["1"].predictions]
    assert None in annotated and run.report.dimensions.n["valence"] == len(annotated) - annotated.count(None)
    assert run.settings["dimension_scale"] == "0,100"


def problem(speakers: int = 8, size: int = 12) -> tuple[np.ndarray, np.ndarray, list[str]]:
    draw = np.random.default_rng(0)
    vectors = draw.standard_normal((20 * speakers, size))
    targets = vectors @ draw.standard_normal((size, 2)) / 4 + draw.normal(0, 0.3, (len(vectors), 2)) + 0.2
    return vectors, targets, [f"s{row // 20}" for row in range(len(vectors))]


@pytest.mark.parametrize("size", [12, 400])  # solved between features, and between rows
def test_the_ridge_follows_the_annotation_and_varies_as_it_does(size):
    vectors, targets, speakers = problem(size=size)
    targets[::7, 1] = np.nan
    fitted = fitted_dimensions(DimensionFit(vectors, targets), speakers, np.ones(len(targets), bool))
    answers = vectors @ fitted.weight.T + fitted.bias
    known = ~np.isnan(targets[:, 1])
    assert np.corrcoef(answers[known, 1], targets[known, 1])[0, 1] > 0.8
    if size == 12:
        assert fitted.inner_ccc > 0.7
        np.testing.assert_allclose(answers[:, 0].std(), targets[:, 0].std(), rtol=0.1)


def test_the_ridge_is_that_of_scikit_learn():
    from sklearn.linear_model import Ridge

    vectors, targets, _ = problem()
    (solved,) = DimensionFit(vectors, targets).fits(np.arange(len(vectors)), [0.6])
    widened = np.concatenate([vectors, np.full((len(vectors), 1), vectors.shape[1] ** 0.5)], 1)
    ridge = Ridge(alpha=0.6 * vectors.shape[1], fit_intercept=False).fit(widened, targets - targets.mean(0))
    wanted = ridge.predict(widened) + targets.mean(0)
    np.testing.assert_allclose(vectors @ solved[:, :-1].T + solved[:, -1], wanted, atol=1e-8)


def test_of_one_speaker_the_middle_penalty():
    vectors, targets, _ = problem(speakers=2)
    fitted = fitted_dimensions(DimensionFit(vectors, targets), ["s0"] * 40, np.ones(40, bool))
    assert fitted.inner_ccc is None and (fitted.strengths == 1.2).all()
