"""The audit as a user calls it: table, JSON and exit status."""

import json
import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts/audit.py"
QUICK = ("--num_train_epochs", "1", "--n_folds", "3", "--disable_tqdm", "true", "--early_stopping_patience", "0")


def status(script, *arguments) -> int:
    with pytest.raises(SystemExit) as end:
        script("audit", *arguments)
    return end.value.code


def test_status_and_findings_of_a_clean_and_of_a_leaky_split(prepared, script, tmp_path, capsys):
    ask = ("--dataset", prepared, "--n_folds", "3", "--output", tmp_path / "audit.json")
    assert status(script, *ask) == 0
    assert "verdict: no leak found" in capsys.readouterr().out
    assert json.loads((tmp_path / "audit.json").read_text())["verdict"] in ("clean", "warnings")
    assert status(script, *ask, "--protocol", "random") == 1
    output = capsys.readouterr().out
    assert "LEAK     speaker_overlap_train_test (fold 1, 2, 3)" in output
    assert "remedy: split by speaker" in output
    assert "LEAKED" in output
    audit = json.loads((tmp_path / "audit.json").read_text())
    assert (audit["verdict"], audit["protocol"], audit["audit_version"]) == ("leak", "random", 1)
    (first, *_) = [one for one in audit["findings"] if one["kind"] == "speaker_overlap_train_test"]
    assert first["evidence"] == [f"table/s{n}" for n in range(1, 7)]
    assert {"severity", "detail", "remedy", "fold"} <= set(first)


def test_a_run_under_its_own_label_map(prepared, script, tmp_path, capsys):
    run = ("--dataset", prepared, "--label_map", "valence_binary", "--output_dir", tmp_path / "o")
    script("train_text", *run, *QUICK)
    assert status(script, "--run", tmp_path / "o") == 0
    assert status(script, "--run", tmp_path / "o", "--dataset", prepared) == 0
    assert "other_data" not in capsys.readouterr().out
    script("evaluate", tmp_path / "o/predictions.jsonl")
    assert "audit        no leak found" in capsys.readouterr().out


def test_what_cannot_be_audited(script, tmp_path, monkeypatch, capsys):
    with pytest.raises(ValueError, match="Found neither --dataset nor --run: name a prepared data set or a run"):
        script("audit")
    with pytest.raises(FileNotFoundError, match="found no finished fold, expected the --output_dir of a training scr"):
        script("audit", "--run", tmp_path)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--dataset", "nowhere"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    output = capsys.readouterr().err
    assert (ended.value.code, "Traceback" in output) == (2, False)
    assert "nowhere: found no prepared data set" in output
