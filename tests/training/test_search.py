"""The search for settings: what it tries, keeps, stops and goes on with, over a model too small to matter."""

import json
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import Trainer

from hf_ser.training.search import Choices, Range, search, search_space
from hf_ser.training.trainer_arguments import SerTrainingArguments

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


@pytest.fixture
def searched(monkeypatch):
    """Sets what is searched: batch sizes, and a learning rate where it is given."""

    def of(batch_sizes: list[int], **more) -> None:
        space = {"per_device_train_batch_size": Choices(batch_sizes), **more}
        monkeypatch.setattr("hf_ser.training.search.search_space", lambda _: space)

    return of


def test_the_best_settings_are_found_from_the_run_as_given_and_kept(training, build, searched, tmp_path, capsys):
    training.per_device_train_batch_size = 8
    searched([8, 32], learning_rate=Range(1e-4, 1e-2, log=True))
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


def test_a_killed_search_goes_on_and_another_space_is_refused(training, build, searched, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_ser.training.search.plot_search", lambda *_: None)
    training.num_train_epochs = 1

    def killed(arguments):
        if len(build.made) == 2:
            raise KeyboardInterrupt
        return build(arguments)

    searched([8, 32])
    with pytest.raises(KeyboardInterrupt):
        search(killed, training, tmp_path / "f", 3)
    search(build, training, tmp_path / "f", 3)
    assert len(build.made) == 3, "two before the kill, one after"
    search(build, training, tmp_path / "f", 3)
    assert len(build.made) == 3, "a whole search is not made again"
    searched([8, 64])
    with pytest.raises(ValueError, match=r"found a search of .*32.*, expected .*64"):
        search(build, training, tmp_path / "f", 3)


def test_a_trial_behind_the_median_is_stopped_and_never_chosen(training, build, searched, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_ser.training.search.plot_search", lambda *_: None)
    monkeypatch.setattr("hf_ser.training.search.WARM_UP_TRIALS", 1)
    training.num_train_epochs, training.per_device_train_batch_size = 3, 32
    searched([8, 9, 10, 32])
    search(build, training, tmp_path / "f", 4)
    trials = json.loads((tmp_path / "f" / "search.json").read_text())["trials"]
    behind = [one for one in trials if one["uar"] < 0.32]
    assert behind and all(one["state"] == "pruned" and one["epochs"] < 3 for one in behind)


def test_what_is_searched_is_around_the_runs_own_learning_rate(training):
    space = {name: one.to_json() for name, one in search_space(training).items()}
    assert space["learning_rate"] == [pytest.approx(1e-4), pytest.approx(1e-2), "log"]
    assert all(name in space for name in ("weight_decay", "warmup_steps", "per_device_train_batch_size"))
    for name, one in space.items():
        for value in [value for value in one if not isinstance(value, str)]:
            replace(training, **{name: value})  # none is refused


def test_without_optuna_it_is_named(training, build, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"pip install hf_ser\[search\]"):
        search(build, training, tmp_path / "f", 1)


def test_a_fold_is_trained_with_the_best_of_its_search(prepared, script, tmp_path):
    told = ("--dataset", prepared, "--fold", "1", "--n_folds", "3", "--num_train_epochs", "1", "--use_cpu", "true")
    output = ("--output_dir", tmp_path / "o", "--disable_tqdm", "true")
    script("train_text", *told, *output, "--search", "2")
    found = json.loads((tmp_path / "o" / "fold_1" / "search.json").read_text())["best"]["settings"]
    record = json.loads((tmp_path / "o" / "fold_1" / "training_record.json").read_text())
    assert record["search"] == found and record["finished"]
    rates = [one["learning_rate"] for one in record["history"] if "learning_rate" in one]
    assert max(rates) <= found["learning_rate"]
