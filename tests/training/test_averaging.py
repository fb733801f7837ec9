"""Averaged weights are what is evaluated and kept; the weights themselves are what training goes on with."""

import pytest
import torch
from permissions import assert_as_any_new_file
from safetensors.torch import load_file
from training.small import SmallClassifier, assert_same_outcome, resumed_as_in_one, small_candidate, small_trainer
from transformers import TrainerCallback

from hf_ser.training.averaging import AVERAGING

BEST = {
    "load_best_model_at_end": True,
    "eval_strategy": "steps",
    "save_strategy": "steps",
    "eval_steps": 3,
    "save_steps": 3,
}


class Weights(TrainerCallback):
    """Keeps the weights after each step."""

    def __init__(self, model):
        self.model, self.kept = model, []

    def on_step_end(self, args, state, control, **kwargs):
        self.kept.append({n: t.detach().clone() for n, t in self.model.state_dict().items()})


def test_a_resumed_run_ends_as_one_in_one_go(tmp_path):
    whole, again, _ = resumed_as_in_one(tmp_path, 4, ema_decay=0.6)
    assert_same_outcome(again, whole)


def test_training_goes_on_with_the_weights_and_ends_with_the_average(tmp_path):
    plain, averaged = small_candidate(), small_candidate()
    kept = [Weights(plain.model), Weights(averaged.model)]
    small_trainer(tmp_path / "plain", plain, [kept[0]]).train()
    trainer = small_trainer(tmp_path / "averaged", averaged, [kept[1]], ema_decay=0.6)
    trainer.train()
    for one, other in zip(*(k.kept for k in kept), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    expected = None
    for i, weights in enumerate(kept[0].kept):
        share = 1 - min(0.6, (1 + i) / (10 + i))
        expected = {
            n: w if not i or not w.is_floating_point() else expected[n] + share * (w - expected[n])
            for n, w in weights.items()
        }
    torch.testing.assert_close(dict(averaged.model.state_dict()), expected, rtol=1e-5, atol=1e-7)
    assert averaged.model.batch_norm.num_batches_tracked == 6


def test_the_best_checkpoint_is_an_average_and_is_what_was_evaluated(tmp_path):
    trainer = small_trainer(tmp_path, ema_decay=0.6, **BEST)
    trainer.train()
    best = trainer.state.best_model_checkpoint
    step = int(best.rsplit("-", 1)[1])
    told = next(one for one in trainer.state.log_history if "eval_uar" in one and one["step"] == step)
    found = trainer.evaluate()
    assert (found["eval_uar"], found["eval_loss"]) == (told["eval_uar"], told["eval_loss"])
    held = load_file(f"{best}/{AVERAGING}")
    name = "encoder.layers.0.0.weight"
    stored = SmallClassifier.from_pretrained(best).state_dict()[name]
    assert torch.equal(trainer.model.state_dict()[name], stored)
    assert torch.equal(held[f"average.{name}"], stored)
    assert not torch.equal(held[f"weights.{name}"], stored)
    assert_as_any_new_file(tmp_path)  # the averages' too


def test_a_checkpoint_without_an_average_is_refused(tmp_path):
    small_trainer(tmp_path, save_strategy="steps", save_steps=1, max_steps=1).train()
    with pytest.raises(FileNotFoundError, match="the average of this run's weights is lost"):
        small_trainer(tmp_path, ema_decay=0.5).train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_the_best_of_a_resumed_run_is_that_of_one_in_one_go(tmp_path):
    whole, again, trainer = resumed_as_in_one(tmp_path, 3, ema_decay=0.6, **BEST)
    assert_same_outcome(again, whole)
    best = load_file(f"{trainer.state.best_model_checkpoint}/model.safetensors")
    assert torch.equal(trainer.model.classifier.weight, best["classifier.weight"])
