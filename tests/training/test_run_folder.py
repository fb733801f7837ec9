"""A run's folder: it holds one run, and one process at a time trains into it."""

import json

import pytest

from hf_ser.training.run import locked_run_folder, record_run

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
