"""The search for settings: what it tries, keeps, stops and goes on with, over a model too small to matter."""

import json
import sys

import pytest
import torch
from torch import nn
from transformers import Trainer

from hf_ser.runs.record import read_record
from hf_ser.training.arguments import SerTrainingArguments
from hf_ser.training.search import Choices, Range, read_space, search

ROWS = [{"x": torch.tensor([float(n), 1.0]), "labels": n} for n in range(4)]


class Line(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Linear(2, 1)

    def forward(self, x, labels):
        answers = self.weight(x)[:, 0]
        return {"loss": ((answers - labels) ** 2).mean(), "logits": answers}


@pytest.fixture
def training(tmp_path):
    told = {"num_train_epochs": 2, "use_cpu": True, "disable_tqdm": True, "logging_strategy": "no", "search": 9}
    return SerTrainingArguments(output_dir=str(tmp_path / "o"), **told)


@pytest.fixture
def build(training):
    """Trainers whose validation UAR is their batch size / 100, and what they were made with."""
    made = []

    def trainer(arguments):
        made.append(arguments)
        uar = arguments.per_device_train_batch_size / 100
        return Trainer(Line(), arguments, train_dataset=ROWS, eval_dataset=ROWS, compute_metrics=lambda _: {"uar": uar})

    trainer.made = made
    return trainer


def space(tmp_path, text: str) -> str:
    (tmp_path / "space.yaml").write_text(text)
    return str(tmp_path / "space.yaml")


def test_the_best_settings_are_found_from_the_run_as_given_and_kept(training, build, tmp_path, capsys):
    training.per_device_train_batch_size = 8
    training.search_space = space(tmp_path, "per_device_train_batch_size: [8, 32]\nlearning_rate: [1e-4, 1e-2, log]")
    best = search(build, training, tmp_path / "f", 4)
    told = json.loads((tmp_path / "f" / "search.json").read_text())
    assert best == told["best"]["settings"] and best["per_device_train_batch_size"] == 32
    assert told["best"]["uar"] == pytest.approx(0.32) and len(told["trials"]) == 4
    assert told["trials"][0]["settings"] == {"per_device_train_batch_size": 8, "learning_rate": 1e-3}
    assert [one.per_device_train_batch_size for one in build.made] == [
        one["settings"]["per_device_train_batch_size"] for one in told["trials"]
    ], "each trial has a trainer of its own, with its settings"
    assert training.per_device_train_batch_size == 8, "the run's own arguments stay"
    assert not list((tmp_path / "f").rglob("checkpoint-*")) and (tmp_path / "f" / "search.png").is_file()
    assert "their figure flatters" in capsys.readouterr().out


def test_a_killed_search_goes_on_and_another_space_is_refused(training, build, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_ser.training.search.plot_search", lambda *_: None)
    training.num_train_epochs = 1

    def killed(arguments):
        if len(build.made) == 2:
            raise KeyboardInterrupt
        return build(arguments)

    training.search_space = space(tmp_path, "per_device_train_batch_size: [8, 32]")
    with pytest.raises(KeyboardInterrupt):
        search(killed, training, tmp_path / "f", 3)
    search(build, training, tmp_path / "f", 3)
    assert len(build.made) == 3, "two before the kill, one after"
    search(build, training, tmp_path / "f", 3)
    assert len(build.made) == 3, "a whole search is not made again"
    training.search_space = space(tmp_path, "per_device_train_batch_size: [8, 64]")
    with pytest.raises(ValueError, match=r"found a search of .*32.*, expected .*64"):
        search(build, training, tmp_path / "f", 3)


def test_a_trial_behind_the_median_is_stopped_and_never_chosen(training, build, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_ser.training.search.plot_search", lambda *_: None)
    monkeypatch.setattr("hf_ser.training.search.WARM_UP_TRIALS", 1)
    training.num_train_epochs, training.per_device_train_batch_size = 3, 32
    training.search_space = space(tmp_path, "per_device_train_batch_size: [8, 9, 10, 32]")
    search(build, training, tmp_path / "f", 4)
    trials = json.loads((tmp_path / "f" / "search.json").read_text())["trials"]
    behind = [one for one in trials if one["uar"] < 0.32]
    assert behind and all(one["state"] == "pruned" and one["epochs"] < 3 for one in behind)


def test_a_space_is_read_with_the_types_of_its_settings(training, tmp_path):
    lines = (
        "learning_rate: [1e-5, 1e-3, log]\nearly_stopping_patience: [2, 6, linear]\nlr_scheduler_type: [linear, cosine]"
    )
    told = read_space(space(tmp_path, lines), training)
    assert isinstance(told["learning_rate"], Range) and told["learning_rate"].told() == [1e-5, 1e-3, "log"]
    assert told["early_stopping_patience"].whole and isinstance(told["lr_scheduler_type"], Choices)
    assert "weight_decay" in read_space(None, training)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("learnig_rate: [1, 2]", "found learnig_rate, expected settings of the training"),
        ("seed: [1, 2]\noutput_dir: [a, b]", "found seed, output_dir, expected settings of the training"),
        ("learning_rate: [0, 1, log]", "expected low < high, and above 0 where it is log"),
        ("learning_rate: 3", "expected \\[low, high, log\\]"),
        ("- a", "expected 'key: value' lines, found list"),
        ("{}", "expected one for each setting to search"),
        ("ema_decay: [0.9, 2, linear]", "ema_decay: found 2.0, which the training refuses: --ema_decay is 2: expected"),
        ("swa_start: [0.5, 0.75]", "swa_start: found 0.5, which the training refuses: --ema_decay is 0.99"),
    ],
)
def test_a_space_that_says_nothing_or_what_flags_may_not_is_refused(training, tmp_path, text, found):
    training.ema_decay = 0.99
    with pytest.raises(ValueError, match=found):
        read_space(space(tmp_path, text), training)


def test_without_optuna_it_is_named(training, build, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"pip install hf_ser\[search\]"):
        search(build, training, tmp_path / "f", 1)


def test_a_fold_is_trained_with_the_best_of_its_search(prepared, script, tmp_path):
    told = ("--dataset", prepared, "--fold", "1", "--n_folds", "3", "--num_train_epochs", "1", "--use_cpu", "true")
    lines = space(tmp_path, "learning_rate: [1e-4, 1e-2, log]")
    output = ("--output_dir", tmp_path / "o", "--disable_tqdm", "true")
    script("train_text", *told, *output, "--search", "2", "--search_space", lines)
    found = json.loads((tmp_path / "o" / "fold_1" / "search.json").read_text())["best"]["settings"]
    record = read_record(tmp_path / "o" / "fold_1")
    assert record.search == found and record.finished
    rates = [one["learning_rate"] for one in record.history if "learning_rate" in one]
    assert 0 < max(rates) <= found["learning_rate"]
