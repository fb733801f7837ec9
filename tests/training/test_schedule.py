"""Stages and the head's own learning rate: who is trained when and how fast, also in a run that is resumed."""

import pytest
import torch
from training.small import assert_same_outcome, resumed_as_in_one, small_candidate, small_trainer
from transformers import TrainerCallback

from hf_ser.training.schedule import Stage, one_cycle, parse_stages

STAGES = "head:1@0.02,top:1:1@0.01,all:2@0.005"


class Watch(TrainerCallback):
    """Keeps, for each step, which weights it changed and the learning rates of the groups."""

    def __init__(self, model):
        self.model, self.changed, self.rates = model, [], []

    def on_step_begin(self, args, state, control, optimizer, **kwargs):
        self.before = {n: p.detach().clone() for n, p in self.model.named_parameters()}
        self.rates.append(
            {(group["part"], id(p)): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        )

    def on_step_end(self, args, state, control, **kwargs):
        self.changed.append({n for n, p in self.model.named_parameters() if not torch.equal(p, self.before[n])})


def test_stages_are_read_and_what_is_none_is_refused():
    assert parse_stages("head:5@1e-3, top:2:1@2e-4,all:10@2e-5") == [
        Stage("head", 5, 1e-3),
        Stage("top:2", 1, 2e-4),
        Stage("all", 10, 2e-5),
    ]
    for text in (
        "head",
        "head:5",
        "neck:5@1e-3",
        "head:0@1e-3",
        "head:5@fast",
        "head:5@0",
        "top:0:1@1",
        "head:5@nan",
        "",
    ):
        with pytest.raises(ValueError, match=r"is not a stage. Expected PART:EPOCHS@PEAK_RATE"):
            parse_stages(text)


def test_each_stage_trains_its_part_alone_under_its_own_cycle(tmp_path):
    candidate = small_candidate()
    watch = Watch(candidate.model)
    trainer = small_trainer(tmp_path, candidate, [watch], stages=STAGES, head_learning_rate=0.03, weight_decay=0.5)
    trainer.train()
    head = {n for n, _ in candidate.model.named_parameters() if not n.startswith("encoder.")}
    top = head | {
        n for n, _ in candidate.model.named_parameters() if n.startswith(("encoder.layers.2.", "encoder.norm."))
    }
    everything = {n for n, _ in candidate.model.named_parameters()}
    assert watch.changed == [head] * 3 + [top] * 3 + [everything] * 6
    names = {id(p): n for n, p in candidate.model.named_parameters()}
    rates = [{names[i]: rate for (_, i), rate in of_step.items()} for of_step in watch.rates]
    cycle, long = ([one_cycle((i + 0.5) / n) for i in range(n)] for n in (3, 6))
    assert [r["classifier.bias"] for r in rates[:3]] == pytest.approx([0.02 * f for f in cycle])
    assert [r["classifier.bias"] for r in rates[3:6]] == pytest.approx([0.03 * f for f in cycle])
    assert [r["encoder.layers.2.0.bias"] for r in rates[3:6]] == pytest.approx([0.01 * f for f in cycle])
    assert [r["encoder.embeddings.bias"] for r in rates] == pytest.approx([0] * 6 + [0.005 * f for f in long])


@pytest.mark.parametrize("stop", [3, 5])
def test_a_run_resumed_within_a_stage_or_between_two_ends_as_one_in_one_go(tmp_path, stop):
    whole, again, trainer = resumed_as_in_one(tmp_path, stop, stages=STAGES)
    assert_same_outcome(again, whole)
    assert trainer.args.num_train_epochs == 4


def test_the_head_has_a_learning_rate_of_its_own_and_weight_decay_stays_apart(tmp_path):
    trainer = small_trainer(tmp_path, head_learning_rate=0.3)
    names = {id(p): n for n, p in trainer.model.named_parameters()}
    groups = trainer.create_optimizer().param_groups
    rates = {names[id(p)]: group["lr"] for group in groups for p in group["params"]}
    assert rates == {name: 0.01 if name.startswith("encoder.") else 0.3 for name in names.values()}
    decayed = {names[id(p)] for group in groups if group["weight_decay"] for p in group["params"]}
    assert {n for n in names.values() if n.endswith("bias")}.isdisjoint(decayed)
    assert "encoder.layers.0.0.weight" in decayed


def test_patience_is_of_the_last_stage(tmp_path):
    # No evaluation after the first is better. The last stage begins behind step 12 of 24.
    stages = "head:3@0.01,all:1@0.01,all:4@0.01"
    trainer = small_trainer(tmp_path, early_stopping_patience=2, eval_strategy="epoch", stages=stages)
    trainer.compute_metrics = lambda _: {"uar": 0.5}
    trainer.train()
    evaluated = [one["step"] for one in trainer.state.log_history if "eval_uar" in one]
    assert (trainer.state.global_step, evaluated) == (18, [*range(3, 19, 3)])


def test_what_is_frozen_for_good_no_stage_trains(tmp_path):
    candidate = small_candidate()
    candidate.model.encoder.embeddings.requires_grad_(False)
    trainer = small_trainer(tmp_path, candidate, stages="all:1@0.01")
    before = candidate.model.encoder.embeddings.weight.clone()
    trainer.train()
    assert torch.equal(candidate.model.encoder.embeddings.weight, before)
    candidate.model.encoder.requires_grad_(False)
    with pytest.raises(ValueError, match="--stages audio: found only frozen weights"):
        small_trainer(tmp_path, candidate, stages="audio:1@0.01")
    with pytest.raises(ValueError, match="--stages text: this model has no text encoder, it has audio"):
        small_trainer(tmp_path, stages="text:1@0.01")
