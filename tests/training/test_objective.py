"""Losses beside cross entropy, rare classes and mixup."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot
from training.small import assert_same_outcome, resumed_as_in_one, small_candidate, small_trainer

from hf_ser.training.objective import Objective, class_weights, mixed

LABELS = torch.tensor([0, 2, 1, 0])
LOGITS = torch.tensor([[2.0, 0.5, -1], [0.1, 0.2, 0.3], [-30, 40, 1], [-40, 40, 0]])


def objective(weights=None, **settings) -> Objective:
    plain = {"label_smoothing_factor": 0.0, "mixup": 0.0}
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


def test_mixup_mixes_sound_and_labels_by_one_share():
    values = torch.eye(4)[:, :3] + 1
    mask = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 0, 0]])
    torch.manual_seed(3)
    batch = mixed({"input_values": values, "attention_mask": mask, "labels": torch.arange(4)}, 0.4, 4)
    shares = batch["labels"]
    torch.testing.assert_close(shares.sum(1), torch.ones(4))
    torch.testing.assert_close(batch["input_values"], shares @ values)
    assert ((shares > 0).sum(1) > 1).any()
    assert torch.equal(batch["attention_mask"], ((shares > 0).float() @ mask.float() > 0).long())


def test_classes_weigh_by_their_rarity():
    weights = class_weights([0, 0, 0, 2], 4)
    torch.testing.assert_close(weights, torch.tensor([2 / 3, 1.0, 2.0, 1.0]))
    assert weights[torch.tensor([0, 0, 0, 2])].mean() == pytest.approx(1)
    half = class_weights([0, 0, 0, 2], 4, power=0.5)
    assert half[2] / half[0] == pytest.approx(3**0.5) and half[torch.tensor([0, 0, 0, 2])].mean() == pytest.approx(1)


def test_a_run_of_all_that_is_drawn_resumes_within_an_epoch(tmp_path):
    settings = {"mixup": 0.4, "class_weights": 1.0, "label_smoothing_factor": 0.1}
    whole, again, _ = resumed_as_in_one(tmp_path, 4, **settings)
    assert_same_outcome(again, whole)


def test_training_alone_is_mixed_and_evaluation_is_of_the_plain_rows(tmp_path):
    trainer = small_trainer(tmp_path, small_candidate(), mixup=1.0, class_weights=1.0)
    model, batch = trainer.model, trainer.data_collator(trainer.train_dataset[:8])
    seen = []
    model.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs), with_kwargs=True)
    loss, outputs = trainer.compute_loss(model.eval(), batch, return_outputs=True)
    weights = class_weights([row["label"] for row in trainer.train_dataset], 3)
    torch.testing.assert_close(
        loss, (weights[batch["labels"]] * cross_entropy(outputs["logits"], batch["labels"], reduction="none")).mean()
    )
    trainer.compute_loss(model.train(), batch)
    assert torch.equal(seen[0]["input_values"], batch["input_values"])
    assert "labels" not in seen[0]
    assert not torch.equal(seen[-1]["input_values"], batch["input_values"])


def test_mixup_of_words_is_refused(tmp_path):
    candidate = small_candidate()
    candidate.encoders["text"] = candidate.encoders["audio"]
    with pytest.raises(ValueError, match="texts cannot be mixed"):
        small_trainer(tmp_path, candidate, mixup=0.2)
