"""Losses beside cross entropy, and rare classes."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot
from training.small import assert_same_outcome, resumed_as_in_one, small_candidate, small_trainer

from hf_ser.training.objective import Objective, class_weights

LABELS = torch.tensor([0, 2, 1, 0])
LOGITS = torch.tensor([[2.0, 0.5, -1], [0.1, 0.2, 0.3], [-30, 40, 1], [-40, 40, 0]])


def objective(weights=None, **settings) -> Objective:
    plain = {"label_smoothing_factor": 0.0}
    return Objective(SimpleNamespace(**{**plain, **settings}), weights)


def test_smoothing_and_weights_are_those_of_cross_entropy():
    weights = torch.tensor([0.5, 1.0, 2.0])
    ours = objective(weights, label_smoothing_factor=0.1)
    assert not ours.is_plain
    assert objective().is_plain
    expected = cross_entropy(LOGITS, LABELS, weight=weights, label_smoothing=0.1, reduction="none")
    torch.testing.assert_close(ours.rows(LOGITS, LABELS), expected)
    torch.testing.assert_close(ours.rows(LOGITS, 3.0 * one_hot(LABELS, 3).float()), 3 * expected)


def test_a_branchs_loss_is_over_the_rows_that_have_it():
    present = torch.tensor([True, False, True, False])
    outputs = {"logits": LOGITS, "branch_logits": {"audio": (-LOGITS, None), "text": (LOGITS / 2, present)}}
    expected = cross_entropy(LOGITS, LABELS) + 0.3 * cross_entropy(-LOGITS, LABELS)
    expected = expected + 0.3 * cross_entropy(LOGITS[present] / 2, LABELS[present])
    torch.testing.assert_close(objective().of_outputs(outputs, LABELS, 0.3), expected)


def test_classes_weigh_by_their_rarity():
    weights = class_weights([0, 0, 0, 2], 4)
    torch.testing.assert_close(weights, torch.tensor([2 / 3, 1.0, 2.0, 1.0]))
    assert weights[torch.tensor([0, 0, 0, 2])].mean() == pytest.approx(1)
    half = class_weights([0, 0, 0, 2], 4, power=0.5)
    assert half[2] / half[0] == pytest.approx(3**0.5) and half[torch.tensor([0, 0, 0, 2])].mean() == pytest.approx(1)


def test_a_run_of_all_that_is_drawn_resumes_within_an_epoch(tmp_path):
    settings = {"class_weights": 1.0, "label_smoothing_factor": 0.1}
    whole, again, _ = resumed_as_in_one(tmp_path, 4, **settings)
    assert_same_outcome(again, whole)


def test_classes_weigh_in_the_loss_of_a_trainer(tmp_path):
    trainer = small_trainer(tmp_path, small_candidate(), class_weights=1.0)
    model, batch = trainer.model, trainer.data_collator(trainer.train_dataset[:8])
    loss, outputs = trainer.compute_loss(model.eval(), batch, return_outputs=True)
    weights = class_weights([row["label"] for row in trainer.train_dataset], 3)
    torch.testing.assert_close(
        loss, (weights[batch["labels"]] * cross_entropy(outputs["logits"], batch["labels"], reduction="none")).mean()
    )
