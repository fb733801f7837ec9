"""A linear head that is fitted and not descended to: what is saved answers as the regression did."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from hf_ser.models import SerAudioConfig, SerAudioForAudioClassification, SpectrogramConfig
from hf_ser.training import functionals
from hf_ser.training.functionals import FunctionalsTrainer, chosen_strength, copy_coefficients, fit, linear_head

CLASSES = 3


def hears(normalisation: str) -> SerAudioForAudioClassification:
    """An encoder of few functionals under a linear head."""
    front_end = {"features": "functionals", "n_bands": 8, "normalisation": normalisation}
    config = SpectrogramConfig(network="functionals", front_end=front_end)
    labels = {index: str(index) for index in range(CLASSES)}
    config = SerAudioConfig(audio_config=config, pooling="mean", head="linear", id2label=labels)
    return SerAudioForAudioClassification(config).eval()


class Rows(list):
    """Rows of a data set, as far as the trainer asks for them."""

    def with_format(self, _):
        return {"speaker": [row["speaker"] for row in self]}


def rows() -> Rows:
    """A second a clip, a part of its samples quieter by its class; 4 speakers of 9 clips."""
    draw, made = np.random.default_rng(0), Rows()
    for index in range(36):
        clip, label = draw.standard_normal(16_000), index % CLASSES
        clip[:: 1 + label] *= 0.1
        made.append({"clip": torch.from_numpy(clip).float(), "labels": label, "speaker": f"s{index // 9}"})
    return made


def collate(batch: list[dict]) -> dict[str, torch.Tensor]:
    values = torch.stack([row["clip"] for row in batch])
    made = {"input_values": values, "audio_mask": torch.ones_like(values, dtype=torch.long)}
    return made | {"labels": torch.tensor([row["labels"] for row in batch])}


def trainer_of(model: SerAudioForAudioClassification, data: Rows, validation_uar: float = 0.8) -> FunctionalsTrainer:
    """With what its `train` touches of Trainer, and without the rest."""
    trainer = FunctionalsTrainer.__new__(FunctionalsTrainer)
    trainer.model, trainer.encoder = model, model.audio_encoder
    trainer.classifier, trainer._prepare_inputs = linear_head(model, model.audio_encoder.network.size), dict
    trainer.args = SimpleNamespace(
        device="cpu", per_device_eval_batch_size=8, dataloader_num_workers=0, disable_tqdm=True
    )
    trainer.train_dataset, trainer.data_collator = data, collate
    trainer.state = SimpleNamespace(log_history=[], best_metric=None, epoch=None)
    trainer.log = lambda entry: trainer.state.log_history.append(entry)
    trainer.evaluate = lambda: {"eval_uar": validation_uar}
    return trainer


@pytest.mark.parametrize("normalisation", ["none", "corpus", "speaker"])
def test_the_saved_model_answers_as_the_regression(normalisation, monkeypatch, tmp_path):
    monkeypatch.setattr(functionals, "REGULARISATIONS", (0.003, 0.03))
    kept = []
    monkeypatch.setattr(
        functionals, "copy_coefficients", lambda *given: (kept.append(given[1:]), copy_coefficients(*given))
    )
    model, data = hears(normalisation), rows()
    trainer = trainer_of(model, data)
    trainer.train()
    model.save_pretrained(tmp_path)
    again = SerAudioForAudioClassification.from_pretrained(tmp_path)
    batch = collate(data)
    labels = batch.pop("labels")
    vectors, targets = trainer.training_vectors()
    assert targets.argmax(1).tolist() == labels.tolist()
    ((fitted, mean, scale),) = kept
    logits = again(**batch).logits
    np.testing.assert_allclose(logits.softmax(1).detach(), fitted.predict_proba((vectors - mean) / scale), atol=1e-4)
    assert (logits.argmax(1) == labels).float().mean() > 0.9
    assert trainer.state.best_metric == 0.8
    assert trainer.state.log_history[0]["regularisation_c"] in (0.003, 0.03)


def test_strength_is_chosen_on_speakers_who_were_left_out(monkeypatch):
    monkeypatch.setattr(functionals, "REGULARISATIONS", (1e-3, 1e3))
    speakers = [f"s{index // 10}" for index in range(60)]
    truth = np.arange(60) % 2
    # Each speaker tells the classes apart by an axis of their own, strongly; all of them share a weak one.
    vectors = np.zeros((60, 7))
    vectors[np.arange(60), 1 + np.arange(60) // 10] = 20 * (2 * truth - 1)
    vectors[:, 0] = 0.1 * (2 * truth - 1)
    _, uar = chosen_strength(vectors, np.eye(2)[truth], speakers)
    assert uar == 1.0
    vectors[:, 0] = 0.0  # of the others' axes, nobody who was left out has anything
    assert chosen_strength(vectors, np.eye(2)[truth], speakers)[1] == 0.5
    assert chosen_strength(vectors, np.eye(2)[truth], ["s0"] * 60) == (1e3, None)


def test_shared_targets_count_by_their_shares():
    vectors = np.zeros((2, 1))
    fitted = fit(vectors, np.array([[0.75, 0.25, 0.0], [0.75, 0.0, 0.25]]), 1.0)
    np.testing.assert_allclose(fitted.predict_proba(vectors[:1]), [[0.75, 0.125, 0.125]], atol=1e-3)


def test_two_classes_and_a_class_without_rows_fit_the_layer():
    vectors = np.random.default_rng(0).standard_normal((20, 2))
    fitted = fit(vectors, np.eye(3)[np.where(vectors[:, 0] > 0, 2, 0)], 1.0)
    layer, mean, scale = nn.Linear(2, 3), np.array([1.0, -2.0]), np.array([3.0, 0.5])
    copy_coefficients(layer, fitted, mean, scale)
    answers = layer(torch.from_numpy(vectors * scale + mean).float()).softmax(1).detach().numpy()
    np.testing.assert_allclose(answers[:, [0, 2]], fitted.predict_proba(vectors), atol=1e-5)
    assert answers[:, 1].max() < 1e-6


def test_a_head_that_coefficients_do_not_fit_is_refused():
    model = hears("none")
    with pytest.raises(ValueError, match=r"expected one linear layer of the 5 functionals: give --head linear"):
        linear_head(model, 5)
    with pytest.raises(ValueError, match="The head is None"):
        linear_head(nn.Linear(2, 2), 2)
