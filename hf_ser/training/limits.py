"""Which values the settings of transformers may have: ranges, names of methods, and which are not used here.

All of it is checked as the settings are read, before any data is prepared or a model is built.
"""

from collections.abc import Mapping
from copy import copy
from dataclasses import MISSING, fields
from difflib import get_close_matches

import torch
from torch import nn
from transformers import Trainer, TrainingArguments, get_scheduler
from transformers.trainer_utils import HubStrategy, IntervalStrategy, SaveStrategy, SchedulerType
from transformers.training_args import OptimizerNames

from hf_ser.settings import COUNT, NOT_NEGATIVE, POSITIVE, SEED, Range, check_number

RANGES = {
    **dict.fromkeys(("eval_accumulation_steps", "torch_empty_cache_steps"), COUNT),
    **dict.fromkeys(("adam_epsilon", "max_grad_norm"), NOT_NEGATIVE),
    **dict.fromkeys(("adam_beta1", "adam_beta2"), Range(0, 1, below=True)),
    **dict.fromkeys(("logging_steps", "save_steps"), POSITIVE),
    **dict.fromkeys(("eval_steps", "eval_delay", "neftune_noise_alpha", "dataloader_num_workers"), NOT_NEGATIVE),
    **dict.fromkeys(("dataloader_prefetch_factor", "ddp_bucket_cap_mb", "ddp_timeout"), COUNT),
    **dict.fromkeys(("generation_max_length", "generation_num_beams"), COUNT),
    "data_seed": SEED,
    "local_rank": Range(-1),
}
"""What a number may be, of the settings that are transformers' alone; ours say it themselves."""

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


def check_numbers(training: TrainingArguments) -> None:
    """Make sure that each number of transformers' own settings is within its range.

    Raises:
        ValueError: one is not.
    """
    for name, allowed in RANGES.items():
        if isinstance(value := getattr(training, name, None), int | float):
            check_number(name, value, allowed)


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
        ValueError: no such metric, or the other direction is requested.
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
