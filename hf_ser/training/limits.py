"""Which values a training setting may have: ranges of numbers, names of methods, and what of transformers is not used.

All of it is checked as the settings are read, before any data is prepared or a model is built.
"""

import math
from collections.abc import Mapping
from copy import copy
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches

import torch
from torch import nn
from transformers import Trainer, TrainingArguments, get_scheduler
from transformers.trainer_utils import HubStrategy, IntervalStrategy, SaveStrategy, SchedulerType
from transformers.training_args import OptimizerNames


@dataclass(frozen=True)
class Range:
    """Numbers between two ends.

    Args:
        low, high: The ends.
        above: Whether the lower end itself is left out.
        below: Whether the upper end itself is left out.
        unit: What follows the range in a message, such as " seconds".
    """

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False
    unit: str = ""

    def holds(self, value: float) -> bool:
        """Whether a number is in the range."""
        high_enough = value > self.low if self.above else value >= self.low
        return high_enough and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        if not (self.above or self.below or math.isinf(self.high)):
            return f"{self.low:g} to {self.high:g}{self.unit}"
        start = f"above {self.low:g}" if self.above else f"{self.low:g} or more"
        end = "" if math.isinf(self.high) else f" and {'below' if self.below else 'at most'} {self.high:g}"
        return start + end + self.unit


NOT_NEGATIVE, POSITIVE, COUNT, SHARE = Range(0), Range(0, above=True), Range(1), Range(0, 1)
OPEN_SHARE = Range(0, 1, below=True)
SEED = Range(0, 2**32 - 1)  # what numpy takes

RANGES = {
    # of the data
    **dict.fromkeys(("n_folds", "n_text_folds"), Range(2)),
    "validation_fraction": Range(0, 0.5, above=True, unit=", such as 0.2"),
    "split_seed": SEED,
    "transcript_noise": Range(0, 1, unit=", such as 0.2 for 20 %"),
    "sentence_bank_share": Range(0, 1, above=True),
    # of the model
    "max_seconds": Range(0.5, 600, unit=" seconds"),
    "enrolment_clips": NOT_NEGATIVE,
    "head_size": Range(1, 100_000),
    "head_dropout": Range(0, 0.95),
    "dropout_samples": Range(1, 1_000),
    "modality_dropout": SHARE,
    "branch_loss_weight": NOT_NEGATIVE,
    "freeze_layers": NOT_NEGATIVE,
    **dict.fromkeys(("lora_rank", "lora_alpha"), COUNT),
    # of the objective and the schedule
    **dict.fromkeys(("focal_gamma", "mixup", "r_drop"), NOT_NEGATIVE),
    "label_smoothing_factor": Range(0, 0.99),
    "layer_decay": Range(0.01, 1),
    "head_learning_rate": POSITIVE,
    "ema_decay": Range(0, 0.999999),
    "swa_start": Range(0, 0.99),
    **dict.fromkeys(("early_stopping_patience", "cache_views", "threads", "search"), NOT_NEGATIVE),
    # of transformers
    **dict.fromkeys(("per_device_train_batch_size", "per_device_eval_batch_size"), COUNT),
    **dict.fromkeys(("gradient_accumulation_steps", "eval_accumulation_steps", "torch_empty_cache_steps"), COUNT),
    **dict.fromkeys(("warmup_steps", "weight_decay", "adam_epsilon", "max_grad_norm"), NOT_NEGATIVE),
    **dict.fromkeys(("adam_beta1", "adam_beta2"), OPEN_SHARE),
    **dict.fromkeys(("logging_steps", "save_steps"), POSITIVE),
    **dict.fromkeys(("eval_steps", "eval_delay", "neftune_noise_alpha", "dataloader_num_workers"), NOT_NEGATIVE),
    **dict.fromkeys(("save_total_limit", "dataloader_prefetch_factor", "ddp_bucket_cap_mb", "ddp_timeout"), COUNT),
    **dict.fromkeys(("generation_max_length", "generation_num_beams"), COUNT),
    **dict.fromkeys(("seed", "data_seed"), SEED),
    "local_rank": Range(-1),
}
"""What a number may be, by the name of its setting. `check_length` looks at those that say how long training is."""

CHOSEN_BY_LENGTH = ("num_train_epochs", "max_steps", "learning_rate")

METHODS = {
    "optim": OptimizerNames,
    "lr_scheduler_type": SchedulerType,
    "eval_strategy": IntervalStrategy,
    "logging_strategy": IntervalStrategy,
    "save_strategy": SaveStrategy,
    "hub_strategy": HubStrategy,
}
"""Settings of transformers that are one of several names, which it would refuse without naming the setting."""

UNUSED = {
    "remove_unused_columns": "the collator reads the rows whole",
    "prediction_loss_only": "the checkpoint is chosen by figures that need the predictions",
    "batch_eval_metrics": "the figures are taken over all clips at once",
    "eval_do_concat_batches": "the figures are taken over all clips at once",
    "include_for_metrics": "no figure is made from inputs or losses",
    "label_names": "labels have one name here",
    "resume_from_checkpoint": "a run goes on from the last checkpoint in its --output_dir by itself",
    "save_only_model": "a run that is killed could not go on where it was",
    "hub_strategy": "--push_to_hub pushes once, when training is done",
    "hub_always_push": "--push_to_hub pushes once, when training is done",
    "use_liger_kernel": "it replaces layers of language models, and none is trained here",
    "liger_kernel_config": "it replaces layers of language models, and none is trained here",
    "predict_with_generate": "the word error rate is taken of what the model writes by itself",
    "sortish_sampler": "clips are drawn as --train_sampling_strategy says",
}
"""Settings of transformers that must stay as they are, each with the reason."""


def check_numbers(arguments) -> None:
    """Make sure that each number of some arguments is one, and within its range.

    Raises:
        ValueError: one is not.
    """
    for f in fields(arguments):
        value = getattr(arguments, f.name)
        if isinstance(value, bool) or not isinstance(value, int | float) or f.name in CHOSEN_BY_LENGTH:
            continue
        allowed = RANGES.get(f.name)
        expected = f"{allowed}" if allowed else "a number"
        if not is_finite(value):
            raise ValueError(f"--{f.name} is {str(value)[:20]}: expected {expected}, a number that is finite.")
        if allowed and not allowed.holds(value):
            raise ValueError(f"--{f.name} is {value:g}: expected {expected}.")


def is_finite(value: float) -> bool:
    """Whether a number is finite, and small enough to be computed with."""
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def check_length(training: TrainingArguments) -> None:
    """Make sure that a training learns at all: some epochs or steps, at some rate.

    Raises:
        ValueError: it does not.
    """
    if not (0 < training.num_train_epochs < float("inf")):
        raise ValueError(
            f"--num_train_epochs is {training.num_train_epochs:g}: found a training that learns nothing or never ends. "
            "Expected a number above 0, such as 20."
        )
    if not (training.max_steps == -1 or 0 < training.max_steps < float("inf")):
        raise ValueError(
            f"--max_steps is {training.max_steps}: expected a number above 0, or -1 to go by --num_train_epochs."
        )
    if training.learning_rate is not None and not (0 < training.learning_rate < float("inf")):
        raise ValueError(
            f"--learning_rate is {training.learning_rate:g}: found a training that learns nothing. Expected a number "
            "above 0, such as 1e-3."
        )


def check_methods(training: TrainingArguments) -> None:
    """Make sure that the settings that are one of several names are.

    Raises:
        ValueError: one is not.
    """
    for name, names in METHODS.items():
        known, value = [one.value for one in names], getattr(training, name)
        if value not in known:
            near = get_close_matches(str(value), known, n=3, cutoff=0.6)
            hint = f" (did you mean {', '.join(near)}?)" if near else ""
            raise ValueError(f"--{name} is {value}: expected one of {', '.join(known)}{hint}.")


def check_unused(training: TrainingArguments) -> None:
    """Make sure that no setting of transformers is changed that this toolkit's trainers would not follow.

    Raises:
        ValueError: one is.
    """
    for f in fields(training):
        value, default = getattr(training, f.name), f.default if f.default is not MISSING else None
        if f.name in UNUSED and value != default and not (default is None and not value):
            wanted = f"{default}".lower() if isinstance(default, bool) else "none"
            wanted = f"{wanted}: leave it out" if isinstance(default, bool) else "it left out"
            raise ValueError(
                f"--{f.name} is {getattr(value, 'value', value)}: found a setting that is not used here, since "
                f"{UNUSED[f.name]}. Expected {wanted}."
            )


def check_checkpoints(training: TrainingArguments) -> None:
    """Make sure that the best checkpoint, where it is wanted, can be found and kept.

    Raises:
        ValueError: training is not evaluated, or saves nothing, or not when it evaluates.
    """
    evaluated, saved = (str(getattr(one, "value", one)) for one in (training.eval_strategy, training.save_strategy))
    patience = getattr(training, "early_stopping_patience", 0)
    if evaluated == "no" and (training.load_best_model_at_end or patience):
        raise ValueError(
            "--eval_strategy no: found a training that is never evaluated, of which no best checkpoint can be chosen "
            "and whose early stopping never counts. Expected epoch or steps; or, to keep the last weights, also "
            "--load_best_model_at_end false --early_stopping_patience 0."
        )
    if not training.load_best_model_at_end or saved == "best":
        return
    if saved == "no":
        raise ValueError(
            "--save_strategy no: found a training that saves no checkpoint and so cannot return to its best one. "
            f"Expected {evaluated}, as --eval_strategy; or, to keep the last weights, --load_best_model_at_end false."
        )
    if saved != evaluated:
        raise ValueError(
            f"--save_strategy is {saved}, --eval_strategy is {evaluated}: the best checkpoint is among those that are "
            "both saved and evaluated. Expected the same for both: change one of them."
        )


def follow_metric(training: TrainingArguments, metrics: Mapping[str, bool]) -> None:
    """Set whether a higher value of the metric that chooses the checkpoint is better.

    Args:
        training: The training arguments.
        metrics: Whether higher is better, by the names of the metrics that there are.

    Raises:
        ValueError: no such metric, or the other direction is asked for.
    """
    default = {f.name: f.default for f in fields(training)}
    if training.metric_for_best_model is None:
        training.metric_for_best_model = default["metric_for_best_model"]
    name = training.metric_for_best_model.removeprefix("eval_")
    if name not in metrics:
        near = get_close_matches(name, metrics, n=1, cutoff=0.5)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(
            f"--metric_for_best_model is {training.metric_for_best_model}: expected one of {', '.join(metrics)}{hint}."
        )
    higher, given = metrics[name], training.greater_is_better
    if given not in (None, higher, default["greater_is_better"]):
        raise ValueError(
            f"--greater_is_better is {str(given).lower()}, --metric_for_best_model is {name}: of this metric the "
            f"{'highest' if higher else 'lowest'} value is best. Expected {str(higher).lower()}: leave it out."
        )
    training.greater_is_better = higher


def check_loading(training: TrainingArguments) -> None:
    """Make sure that the settings of loader workers have workers to apply to.

    Raises:
        ValueError: they have not.
    """
    if training.dataloader_num_workers:
        return
    names = ("dataloader_persistent_workers", "dataloader_prefetch_factor", "dataloader_multiprocessing_context")
    for name in names:
        if value := getattr(training, name):
            raise ValueError(
                f"--{name} is {value}, --dataloader_num_workers is 0: found a setting of loader workers, of which "
                f"there are none. Expected --dataloader_num_workers 1 or more: add it, or leave --{name} out."
            )


def check_precision(training: TrainingArguments) -> None:
    """Make sure that half precision is computed where it can be.

    Raises:
        ValueError: fp16 without an accelerator.
    """
    for name in ("fp16", "fp16_full_eval"):
        if getattr(training, name) and (training.use_cpu or not torch.accelerator.is_available()):
            raise ValueError(
                f"--{name} is true: found no GPU, and a processor does not train in float16. Expected --bf16 true, or "
                f"no half precision: leave --{name} out."
            )


def check_optimizer(training: TrainingArguments) -> None:
    """Make sure that the optimizer and the learning-rate schedule can be made from their settings: make them once.

    Raises:
        ValueError: they cannot.
    """
    trial, model = copy(training), nn.Linear(1, 1)
    if trial.learning_rate is None:
        trial.learning_rate = 1e-3
    settings = f"--optim {training.optim.value}" + (f" --optim_args {trial.optim_args}" if trial.optim_args else "")
    optimizer = torch.optim.SGD(model.parameters(), lr=trial.learning_rate)
    try:
        cls, options = Trainer.get_optimizer_cls_and_kwargs(trial, model)
        if isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer) and cls.__module__.startswith("torch."):
            cls(model.parameters(), **options)
        settings = f"--lr_scheduler_type {training.lr_scheduler_type.value}"
        settings += f" --lr_scheduler_kwargs {trial.lr_scheduler_kwargs}" if trial.lr_scheduler_kwargs else ""
        get_scheduler(trial.lr_scheduler_type, optimizer, 1, 10, trial.lr_scheduler_kwargs or None)
    except Exception as error:  # each optimizer has exceptions of its own
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{settings}: it cannot be made ({type(error).__name__}: {reason}). Expected settings that it knows, and "
            "its package installed: change them, or leave them out."
        ) from error
