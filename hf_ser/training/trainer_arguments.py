"""The settings of the training: ours with those of transformers, and the checks of those that do not go together."""

from dataclasses import dataclass, fields
from importlib.util import find_spec
from typing import ClassVar

import torch
from transformers import TrainingArguments

from hf_ser.plotting import read_formats
from hf_ser.publish.trackers import check_trackers
from hf_ser.runs.scores import HIGHER_IS_BETTER
from hf_ser.settings import COUNT, NOT_NEGATIVE, check_settings, setting
from hf_ser.training.arguments import CommonArguments, TrainingSettings
from hf_ser.training.limits import (
    check_checkpoints,
    check_length,
    check_loading,
    check_methods,
    check_numbers,
    check_optimizer,
    check_precision,
    check_unused,
    follow_metric,
)
from hf_ser.training.schedule import Stage, parse_stages


@dataclass
class BasicTrainingArguments(CommonArguments, TrainingArguments):
    """transformers' TrainingArguments with this toolkit's defaults."""

    metrics: ClassVar = HIGHER_IS_BETTER
    """Whether higher is better, by the names of the metrics that may choose the checkpoint."""

    recipe: ClassVar[str | None] = None
    """Name of the recipe that the settings were read from, set by `parse_arguments`."""

    per_device_eval_batch_size: int = setting(
        16, "clips a device in evaluation; no effect beyond rounding", range=COUNT
    )
    weight_decay: float = setting(0.01, "of the optimizer", range=NOT_NEGATIVE)
    warmup_steps: float = setting(
        0.1, "steps of rising learning rate; below 1 a share of all steps", range=NOT_NEGATIVE
    )
    eval_strategy: str = setting("epoch", "when to evaluate on the validation speakers")
    save_strategy: str = setting("epoch", "when to save a checkpoint")
    save_total_limit: int | None = setting(1, "checkpoints kept beside the best", range=COUNT)
    logging_strategy: str = setting("epoch", "when to log")
    load_best_model_at_end: bool = setting(True, "keep the checkpoint with the best validation UAR")
    metric_for_best_model: str | None = setting("uar", f"what chooses the checkpoint: {', '.join(HIGHER_IS_BETTER)}")
    greater_is_better: bool | None = setting(True, "whether more of it is better: follows from the metric by itself")
    length_column_name: str = setting("duration_seconds", "of --train_sampling_strategy group_by_length")
    dataloader_pin_memory: bool = setting(torch.cuda.is_available(), "pin batches in memory; of use with a GPU alone")
    remove_unused_columns: bool = setting(False, "must stay off: the collator reads the rows whole")
    restore_callback_states_from_checkpoint: bool = setting(True, "whether a resumed run goes on counting its patience")

    def __post_init__(self):
        for check in (check_length, check_settings, check_numbers, check_methods, check_unused, check_checkpoints):
            check(self)
        check_loading(self)
        check_precision(self)
        follow_metric(self, self.metrics)
        if (self.bf16 or self.bf16_full_eval) and not torch.accelerator.is_available():
            self.use_cpu = True  # else transformers asks for it, although there is nothing else
        try:
            super().__post_init__()
        except Exception as error:  # of a kind that transformers chooses, without the name of a setting
            raise ValueError(
                f"transformers refuses the training settings ({type(error).__name__}: {error}). Expected settings that "
                "go together: change or leave out what it names."
            ) from error
        check_trackers(self.report_to)
        read_formats(self.pictures)
        check_optimizer(self)


@dataclass
class SerTrainingArguments(TrainingSettings, BasicTrainingArguments):
    """All settings of the training of an emotion model."""

    def __post_init__(self):
        super().__post_init__()
        if self.search and find_spec("optuna") is None:
            raise ImportError(
                "--search: found no Optuna, which proposes the settings. Expected it installed: pip install "
                "hf_ser[search]; or leave --search out."
            )
        if self.stages:
            self.follow_stages(parse_stages(self.stages))

    def follow_stages(self, stages: list[Stage]) -> None:
        """Set the length of training and the highest learning rate to what the stages say.

        Raises:
            ValueError: another length, learning rate or schedule is given as well.
        """
        default = {f.name: f.default for f in fields(self)}
        given = {
            "num_train_epochs": float(sum(stage.epochs for stage in stages)),
            "learning_rate": max(stage.peak for stage in stages),
            "lr_scheduler_type": default["lr_scheduler_type"],
            "warmup_steps": default["warmup_steps"],
            "max_steps": default["max_steps"],
        }
        for name, value in given.items():
            found = getattr(self, name)
            if found not in (value, default[name]):
                raise ValueError(
                    f"--{name} is {found}, --stages {self.stages}: the stages say themselves how long and how fast "
                    f"each is trained. Expected no --{name}: leave it out, or leave out --stages."
                )
            setattr(self, name, value)
