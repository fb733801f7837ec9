"""The steps of the scripts as functions of `import hf_ser`."""

import json
import subprocess
import sys

import numpy as np
import pytest

import hf_ser
from hf_ser.runs.folder import RunFolder
from hf_ser.training.arguments import AudioArguments

TINY = {"model": "audio", "audio_model": "spectrogram_cnn", "max_steps": 2, "num_train_epochs": 1}


@pytest.fixture(scope="module")
def run(prepared, tmp_path_factory):
    return hf_ser.train(prepared, output_dir=tmp_path_factory.mktemp("runs") / "a", **TINY)


def test_importing_the_package_loads_no_large_library():
    code = "import sys, hf_ser; print(sorted({'torch', 'transformers', 'datasets', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there_and_documented():
    for name in hf_ser.__all__:
        assert getattr(hf_ser, name).__doc__, name
    with pytest.raises(AttributeError, match=r"nonsense.*expected one of .*load_dataset"):
        hf_ser.nonsense  # noqa: B018


def test_a_corpus_a_table_and_a_prepared_folder_are_loaded(table, prepared):
    assert len(hf_ser.load_dataset(table)) == len(hf_ser.load_dataset(prepared)) == 48
    with pytest.raises(ValueError, match=r"ravdes: no corpus of this name. Expected one of .*ravdess"):
        hf_ser.load_dataset("ravdes", "somewhere")


def test_a_run_is_an_object(run):
    assert run.report.uar == pytest.approx(run.folds["1"].report.uar)
    assert run.settings["audio_model"] == "spectrogram_cnn"
    fold = run.folds["1"]
    assert fold.name == "1" and fold.is_tested and len(fold.predictions) == run.report.n_utterances
    assert run.audit.findings and run.report.audit.verdict == run.audit.verdict and fold.stress is None
    assert fold.record.settings == {key: value for key, value in run.settings.items() if key != "model"} | {
        "model": "audio"
    }
    assert fold.model().kind == "audio"
    assert repr(run) == f"RunFolder('{run.path}', folds=['1'])"
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such folder. Expected the folder that a training"):
        RunFolder("nowhere")


def test_training_from_python_is_training_by_the_script(run, prepared, script, capsys):
    flags = [f"--{name}={value}" for name, value in TINY.items() if name != "model"]
    script("train_audio", "--dataset", prepared, *flags, "--output_dir", run.path)
    assert "fold 1 is done" in capsys.readouterr().out


def test_a_data_set_in_memory_is_trained_on(run, prepared, tmp_path):
    data = hf_ser.load_dataset(prepared)
    again = hf_ser.train(data, output_dir=tmp_path / "b", **TINY)
    one, other = ([row.probabilities for row in each.folds["1"].predictions] for each in (run, again))
    np.testing.assert_allclose([list(row.values()) for row in one], [list(row.values()) for row in other], atol=1e-5)
    with pytest.raises(ValueError, match=r"without the columns .*pcm_sha256"):
        hf_ser.train(data.remove_columns("pcm_sha256"), output_dir=tmp_path / "c", **TINY)


def test_wrong_settings_are_refused_as_flags_are(prepared):
    with pytest.raises(ValueError, match=r"model is 'video', expected one of audio, text, fusion"):
        hf_ser.train(prepared, model="video")
    with pytest.raises(ValueError, match=r"Unknown settings audio_modle=crnn.*did you mean audio_model"):
        hf_ser.train(prepared, audio_modle="crnn")
    with pytest.raises(ValueError, match=r"^head_dropout is 2: expected 0 to 0.95"):
        hf_ser.train(prepared, head_dropout=2)
    with pytest.raises(ValueError, match=r"^argument head: invalid choice: 'best'"):
        hf_ser.train(prepared, head="best")
    with pytest.raises(ValueError, match=r"^transcript_source asr: .* run scripts/transcribe.py --dataset DS, then"):
        hf_ser.train(prepared, model="text", transcript_source="asr")


def test_a_run_is_evaluated_audited_compared_and_embedded(run, table):
    assert hf_ser.evaluate(run).to_json() == json.loads((run.path / "report.json").read_text())
    assert {finding.severity for finding in hf_ser.audit(run)} <= {"note", "warning", "leak"}
    assert hf_ser.audit(hf_ser.load_dataset(table), n_folds=3)
    assert hf_ser.compare(run, run).difference.uar == 0
    files = sorted(table.parent.glob("*.wav"))[:3]
    vectors = hf_ser.embeddings(run.folds["1"], files)
    assert vectors.shape[0] == 3 and np.isfinite(vectors).all()


def test_a_recipe_is_checked_kept_and_read_again(tmp_path, prepared):
    recipe = hf_ser.Recipe("seeds/crnn", fold="all", num_train_epochs=2)
    assert repr(recipe) == "Recipe('seeds/crnn', model='audio', fold='all', num_train_epochs=2)"
    recipe.save(tmp_path / "mine.yaml")
    again = hf_ser.Recipe(tmp_path / "mine.yaml")
    named = [
        {f: getattr(one, f) for f in ("audio_model",)} for one in again.parsed().values() if hasattr(one, "audio_model")
    ]
    assert named == [{"audio_model": "crnn"}]
    with pytest.raises(ValueError, match="nonsense"):
        hf_ser.Recipe(nonsense=1)
    with pytest.raises(ValueError, match="model is 'video', expected one of audio, text, fusion"):
        hf_ser.Recipe(model="video")
    tiny = {name: value for name, value in TINY.items() if name != "model"}
    run = hf_ser.train(
        prepared,
        hf_ser.Recipe(max_steps=9, **{k: v for k, v in tiny.items() if k != "max_steps"}),
        max_steps=2,
        output_dir=tmp_path / "run",
    )
    assert run.settings["max_steps"] == 2


def test_a_model_is_stressed_from_python(run, prepared, tmp_path):
    result = hf_ser.stress(run.folds["1"], hf_ser.load_dataset(prepared), ("gain",), max_clips=8, output_dir=tmp_path)
    assert (tmp_path / "stress.json").is_file() and {one.group for one in result.conditions} == {"gain"}
    with pytest.raises(ValueError, match=r"^groups thunder: expected some of"):
        hf_ser.stress(run.folds["1"], prepared, ("thunder",))


def test_clips_are_classified_from_python(run):
    clip = 0.1 * np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    one = hf_ser.predict(run.folds["1"], clip)
    several = hf_ser.predict(run.folds["1"], [clip, clip])
    assert one[0]["label"] == several[1][0]["label"] and len(several) == 2
    ask = hf_ser.SerPipeline.from_pretrained(str(run.folds["1"].path))
    assert ask(clip)[0]["score"] == pytest.approx(one[0]["score"], abs=1e-6)


def test_wrong_arguments_in_python_name_what_was_expected(prepared, tmp_path):
    data = hf_ser.load_dataset(prepared)
    with pytest.raises(ValueError, match=r"recipe is a list, expected a Recipe.*protocol=\"emobox\""):
        hf_ser.train(data, hf_ser.make_folds(data, "speaker_folds"))
    with pytest.raises(ValueError, match=r"model is 'fusion', and the recipe is of 'text': expected one"):
        hf_ser.train(data, hf_ser.Recipe(model="text"), model="fusion")
    with pytest.raises(ValueError, match=r"(?<!-)n_folds"):
        hf_ser.make_folds(data, "speaker_folds", n_folds=50)
    with pytest.raises(FileNotFoundError, match=r"no such folder\. Expected the folder that a training wrote"):
        hf_ser.RunFolder(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"nosuch: found no such file or folder, and no corpus of this name"):
        hf_ser.load_dataset("nosuch")
    with pytest.raises(FileNotFoundError, match=r"found no such folder\. Expected a trained model's"):
        hf_ser.SerPipeline.from_pretrained(str(tmp_path / "none"))


def test_a_list_is_as_good_as_names_with_commas():
    lists, text = hf_ser.Recipe(audio_layers=[2, 3, 4]), hf_ser.Recipe(audio_layers="2,3,4")
    assert lists.parsed()[AudioArguments] == text.parsed()[AudioArguments]
    trackers = hf_ser.Recipe(report_to=["tensorboard"]).parsed()
    assert any(getattr(one, "report_to", None) == ["tensorboard"] for one in trackers.values())


def test_the_folder_of_a_data_set_is_audited_as_one(prepared):
    kinds = {one.kind for one in hf_ser.audit(prepared)}
    assert kinds == {one.kind for one in hf_ser.audit(hf_ser.load_dataset(prepared))}


def test_answering_needs_nothing_that_only_training_and_pictures_need():
    large = {"matplotlib", "sklearn", "peft", "networkx", "jiwer", "hf_ser.training", "hf_ser.publish"}
    code = f"import sys, hf_ser; hf_ser.load_model, hf_ser.predict; print(sorted({large} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_run_in_place_of_a_model_is_refused(run):
    with pytest.raises(ValueError, match=r"found a RunFolder, expected a model.*such as run.folds"):
        hf_ser.load_model(run)
