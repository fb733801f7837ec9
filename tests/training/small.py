"""A model of a few hundred weights with what training treats apart: layers, dropout, BatchNorm and a head."""

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel, TrainerCallback, set_seed
from transformers.modeling_outputs import SequenceClassifierOutput

from hf_ser.training.building import Candidate
from hf_ser.training.trainer import SerTrainer
from hf_ser.training.trainer_arguments import SerTrainingArguments

LABELS = ["angry", "happy", "sad"]
QUIET = {"report_to": ["none"], "disable_tqdm": True, "use_cpu": True, "log_level": "error"}


class SmallConfig(PreTrainedConfig):
    model_type = "small"


class SmallEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embeddings = nn.Linear(6, 8)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Dropout(0.2)) for _ in range(3))
        self.norm = nn.LayerNorm(8)
        self.config = SmallConfig()

    def forward(self, values):
        hidden = self.embeddings(values)
        for layer in self.layers:
            hidden = hidden + layer(hidden)
        return self.norm(hidden)


class SmallClassifier(PreTrainedModel):
    config_class = SmallConfig

    def __init__(self, config):
        super().__init__(config)
        self.encoder, self.batch_norm, self.classifier = SmallEncoder(), nn.BatchNorm1d(8), nn.Linear(8, 3)
        self.post_init()

    def forward(self, input_values, labels=None):
        # Not straight into the BatchNorm: it would undo what LayerNorm learns, whose gradients were rounding alone.
        logits = self.classifier(self.batch_norm(torch.tanh(self.encoder(input_values))))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


def collate(rows):
    return {
        "input_values": torch.tensor([row["values"] for row in rows]),
        "labels": torch.tensor([row["label"] for row in rows]),
    }


def rows(n: int = 24) -> list[dict]:
    """Points about a centre of their class; half of them of the first class."""
    draw = torch.Generator().manual_seed(0)
    labels = [(0, 1, 0, 2)[i % 4] for i in range(n)]
    return [
        {"id": str(i), "label": label, "values": (torch.randn(6, generator=draw) + label).tolist()}
        for i, label in enumerate(labels)
    ]


def small_candidate() -> Candidate:
    set_seed(1)
    model = SmallClassifier(SmallConfig(num_labels=3))
    return Candidate(model, None, collate, {"audio": model.encoder}, {"audio": "small"})


def small_trainer(folder, candidate=None, callbacks=(), **settings) -> SerTrainer:
    """A trainer of six steps of 8 rows, three an epoch; it evaluates and saves nothing unless told."""
    by_step = {"eval_strategy": "no", "save_strategy": "no", "logging_strategy": "steps", "logging_steps": 1}
    by_step |= {"save_total_limit": None, "load_best_model_at_end": False}
    length = {} if "stages" in settings else {"num_train_epochs": 2, "learning_rate": 0.01}
    fixed = {"output_dir": str(folder), "per_device_train_batch_size": 8, "early_stopping_patience": 0}
    trainer = SerTrainer(
        candidate or small_candidate(),
        LABELS,
        args=SerTrainingArguments(**{**fixed, **by_step, **length, **QUIET, **settings}),
        train_dataset=rows(),
        eval_dataset=rows(12),
        callbacks=list(callbacks),
    )
    # The true metrics take longer than the training.
    trainer.compute_metrics = lambda told: {"uar": float((told.predictions.argmax(1) == told.label_ids).mean())}
    return trainer


class StopAt(TrainerCallback):
    """Ends a run after a step, as if it were killed."""

    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step >= self.step


def resumed_as_in_one(folder, stop: int, **settings) -> tuple[dict, dict, SerTrainer]:
    """Weights and figures of a run in one go, those of one that was killed and resumed, and the latter's trainer."""
    settings = {"save_strategy": "steps", "save_steps": stop, "eval_steps": stop, **settings}
    whole = small_trainer(folder / "whole", **settings)
    whole.train()
    small_trainer(folder / "killed", callbacks=[StopAt(stop)], **settings).train()
    again = small_trainer(folder / "killed", **settings)
    again.train(resume_from_checkpoint=str(folder / "killed" / f"checkpoint-{stop}"))
    return outcome(whole), outcome(again), again


def assert_same_outcome(one: dict, other: dict) -> None:
    """Check two trainings to 1e-5 in weights and figures: the same arithmetic may round otherwise elsewhere in memory.

    With noise of 1e-7 in every layer's output they differ by 6e-8.
    """
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def outcome(trainer: SerTrainer) -> dict:
    """The weights, and all losses and scores on the way, without times."""
    kept = ("loss", "eval_loss", "eval_uar", "learning_rate", "step")
    logs = [{k: v for k, v in one.items() if k in kept} for one in trainer.state.log_history]
    weights = {name: tensor.tolist() for name, tensor in trainer.model.state_dict().items()}
    return {"weights": weights, "logs": logs, "best": trainer.state.best_metric}
