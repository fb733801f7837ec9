"""A run's folder: it holds one run, and one process at a time trains into it."""

import json
from types import SimpleNamespace

import pytest

from hf_ser.training import run
from hf_ser.training.run import fold_line, locked_run_folder, place_text, record_run

RUN, OTHER = {"settings": {"learning_rate": 1e-2}}, {"settings": {"learning_rate": 0.1}}


def test_a_folder_holds_one_run_once_it_has_a_checkpoint(tmp_path):
    record_run(tmp_path, OTHER)
    record_run(tmp_path, RUN)
    (tmp_path / "fold_2").mkdir()  # refused before its first step
    record_run(tmp_path, OTHER)
    record_run(tmp_path, RUN)
    for fold in ("final", "fold_1"):
        checkpoint = tmp_path / fold / "checkpoints" / "checkpoint-1"
        checkpoint.mkdir(parents=True)
        with pytest.raises(ValueError, match=r"holds another run \(learning_rate was 0.01, is 0.1\)"):
            record_run(tmp_path, OTHER)
        checkpoint.rmdir()
    (tmp_path / "fold_2" / "search.db").touch()  # whose trials would count as the other run's
    with pytest.raises(ValueError, match="holds another run"):
        record_run(tmp_path, OTHER)


def test_a_run_that_another_version_began_is_not_gone_on_with(tmp_path):
    begun = RUN | {"data": {"rows": 3}}
    record_run(tmp_path, begun)
    (tmp_path / "fold_1" / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"holds another run \(begun by another version of hf_ser"):
        record_run(tmp_path, RUN | {"data": {"rows": 3, "training_version": run.TRAINING_VERSION}})


def test_one_process_trains_into_a_folder(tmp_path):
    with locked_run_folder(tmp_path / "o", RUN):
        with pytest.raises(ValueError, match="another process that trains into this folder"):
            locked_run_folder(tmp_path / "o", OTHER).__enter__()
        assert json.loads((tmp_path / "o" / "run.json").read_text()) == RUN, "the other was refused before it wrote"
    with locked_run_folder(tmp_path / "o", OTHER):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="file is a file, expected a folder to write"):
        locked_run_folder(tmp_path / "file", RUN).__enter__()


def test_a_fold_says_its_place_and_the_time_that_is_left(monkeypatch):
    folds = [SimpleNamespace(name=name) for name in ("2", "3", "5")]
    assert place_text(folds, folds[2]) == "fold 3 of 3"
    assert place_text(folds[:1], folds[0]) == "fold 2"
    monkeypatch.setattr(run.time, "monotonic", lambda: 120.0)
    task = SimpleNamespace(fold_figures=lambda folder: "UAR 50.0 %")
    assert (
        fold_line(task, None, "fold 2 of 3", 0.0, 2, 3) == "fold 2 of 3: UAR 50.0 %, 2.0 min, about 1.0 min for 1 more"
    )
    assert fold_line(task, None, "fold 3 of 3", 0.0, 3, 3) == "fold 3 of 3: UAR 50.0 %, 2.0 min"
