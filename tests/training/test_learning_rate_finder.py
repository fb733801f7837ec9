"""The range test suggests a rate where the loss falls, and leaves the model alone."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from training.small import small_candidate, small_trainer

from hf_ser.training.learning_rate_finder import find_learning_rate, smooth, steepest
from hf_ser.training.run import suggest_learning_rate


def test_the_steepest_fall_before_the_lowest_loss_is_suggested():
    rates = list(np.geomspace(1e-6, 1, 61))
    valley = [1 / (1 + (rate / 1e-3) ** 2) + (100 * (rate - 0.1) if rate > 0.1 else 0) for rate in rates]
    assert steepest(rates, valley) == pytest.approx(1e-3, rel=0.3)
    with pytest.raises(ValueError, match="the loss was finite for 3 steps"):
        steepest(rates[:3], valley[:3])


@pytest.mark.parametrize("seed", range(5))
def test_noise_of_the_first_batches_is_no_fall(seed):
    rates = np.geomspace(1e-6, 1, 100)
    fall = 1.8 - 0.8 / (1 + (3e-3 / rates) ** 1.5) + np.where(rates > 0.1, 5 * rates, 0)
    losses = fall + np.random.default_rng(seed).normal(0, 0.1, 100)
    losses[0] += 1  # a hard batch
    assert 1e-3 < steepest(list(rates), smooth(list(losses))) < 0.1
    # An easy one: the lowest loss of all is the first.
    losses[0] = 0.5
    assert 1e-3 < steepest(list(rates), smooth(list(losses))) < 0.1


def test_no_trial_is_left_that_would_pass_for_a_run(tmp_path, monkeypatch):
    (tmp_path / "trials").mkdir()
    monkeypatch.setattr("hf_ser.training.run.find_learning_rate", lambda trainer, folder: 1e-2)
    training, fold = small_trainer(tmp_path).args, SimpleNamespace(trainer=lambda arguments: None)
    suggest_learning_rate(SimpleNamespace(training=training, fold_class=lambda *_: fold), None)
    assert not (tmp_path / "trials").exists()


def test_smoothing_begins_at_the_first_loss():
    assert smooth([2.0, 2.0, 2.0]) == pytest.approx([2.0, 2.0, 2.0])
    assert smooth([1.0, 0.0])[-1] == pytest.approx(0.09 / 0.19)


def test_the_model_is_left_as_it_was_and_the_test_is_written(tmp_path):
    candidate = small_candidate()
    trainer = small_trainer(tmp_path / "checkpoints", candidate, head_learning_rate=0.1)
    before = {name: tensor.clone() for name, tensor in candidate.model.state_dict().items()}
    found = find_learning_rate(trainer, tmp_path)
    after = candidate.model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    told = json.loads((tmp_path / "learning_rate.json").read_text())
    assert told["suggestion"] == found
    assert 1e-6 < found < 1
    assert len(told["rates"]) == len(told["losses"]) > 30
    assert (tmp_path / "learning_rate.png").read_bytes()[:4] == b"\x89PNG"
    assert trainer.optimizer is None
