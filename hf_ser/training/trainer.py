"""Trainer with what this toolkit needs: UAR, frozen encoders that stay fixed, own objectives, stages and averages."""

import math
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import extract_model_from_parallel
from datasets import Dataset
from peft import PeftModel
from scipy.special import softmax
from torch import nn
from tqdm import tqdm
from transformers import EvalPrediction, PrinterCallback, ProgressCallback, Trainer, TrainerCallback
from transformers.trainer_utils import has_length

from hf_ser.inputs.collate import first_of_text
from hf_ser.models.dimensions import concordance
from hf_ser.models.last_layers import last_layers, layer_inputs, side_by_side
from hf_ser.models.modeling_ser import is_frozen
from hf_ser.models.saving import share_weights
from hf_ser.runs.scores import DIGITS, score
from hf_ser.training.averaging import WeightAveraging
from hf_ser.training.building import Candidate
from hf_ser.training.frozen_pass import unwrapped
from hf_ser.training.objective import Objective, class_weights, mixed
from hf_ser.training.schedule import Patience, Stages, parse_stages, split_groups, stage_schedule

STRENGTHS = ("ridge_lambda", "regularisation_c")
"""How the names begin under which a head that is solved for logs the strengths of its penalties."""

SMALL = 5_000_000
"""Parameters below which a model is computed faster by one thread of a processor."""


class SerTrainer(Trainer):
    """transformers' Trainer over a `Candidate`.

    Args:
        candidate: The model, its collator and its encoders.
        labels: Emotion names in class order; none of a model that predicts dimensions alone.
        view: A `View`, whose epoch is set as training goes on; or None.
        kwargs: As Trainer's; `args` are SerTrainingArguments.

    Raises:
        ValueError: settings and model do not go together.
    """

    def __init__(self, candidate: Candidate, labels: list[str], view=None, **kwargs):
        args = kwargs["args"]
        check_model(candidate, args)
        choose_threads(candidate.model, args)
        self.encoders, self.n_classes = candidate.encoders, len(labels)
        self.measure: Callable[[torch.Tensor], torch.Tensor] | None = None
        self.stages = Stages(parse_stages(args.stages), candidate.model, self.encoders) if args.stages else None
        if self.stages and args.ddp_find_unused_parameters is None:
            args.ddp_find_unused_parameters = True  # what a stage leaves alone never gets a gradient
        super().__init__(
            model=candidate.model,
            data_collator=candidate.collator,
            compute_metrics=metrics_over(labels, getattr(candidate.model.config, "dimensions", None)),
            **kwargs,
        )
        self.model_accepts_loss_kwargs = False  # our models take the mean over the batch themselves
        if self.is_fsdp_enabled and isinstance(candidate.model, PeftModel):
            raise ValueError(
                "--lora: found FSDP, under which it was never tested. Expected whole weights in every process: use "
                "multi_gpu.yaml, or leave out --lora."
            )
        self.label_smoother = None  # Trainer's knows neither distributions nor branches: the objective smooths
        self._add_ours(view)

    def _add_ours(self, view) -> None:
        """The objective, and the callbacks that the arguments ask for."""
        args, self.averaging = self.args, None
        power, weights = args.class_weights, None
        if power:
            weights = class_weights(labels_of(self.train_dataset), self.n_classes, power)
        self.objective = Objective(args, weights)
        if args.ema_decay:
            if self.is_fsdp_enabled or self.is_deepspeed_enabled:
                raise ValueError("--ema_decay needs whole weights: leave it out under FSDP, DeepSpeed.")
            self.averaging = WeightAveraging(self.model, args.ema_decay)
        for callback in (ProgressCallback, PrinterCallback):
            self.remove_callback(callback)
        views = Views(view) if view is not None else None
        patience = Patience(args.early_stopping_patience) if args.early_stopping_patience else None
        for callback in (OneLineProgress(), patience, self.stages, self.averaging, views):
            if callback is not None:
                self.add_callback(callback)

    def _run_epoch(self, *args, **kwargs):
        # Trainer asks whether to stop only behind a step: a run resumed where its patience ended would go on.
        if not self.control.should_training_stop:
            super()._run_epoch(*args, **kwargs)

    def floating_point_ops(self, inputs: dict) -> int:
        """None are counted: Trainer would warn of a batch that holds what was computed before."""
        return 0

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        """As Trainer's where the objective is plain."""
        # Trainer sets the whole model to training; a frozen encoder is a fixed function, without dropout. One whose
        # features were read is not run.
        for modality, encoder in self.encoders.items():
            if f"{modality}_hidden" not in inputs and is_frozen(encoder):
                encoder.eval()
        if self.objective.is_plain:
            result = super().compute_loss(model, inputs, return_outputs, **kwargs)
        else:
            result = self._own_loss(model, inputs)
        if not return_outputs:
            return result[0] if isinstance(result, tuple) else result
        loss, outputs = result
        kept = {"logits": outputs["logits"], "dimensions": outputs.get("dimensions")}
        return loss, {"loss": loss} | {name: values for name, values in kept.items() if values is not None}

    def _own_loss(self, model, inputs) -> tuple[torch.Tensor, dict]:
        """The loss by the objective, from logits that the model computes without labels."""
        objective = self.objective
        if model.training and objective.mixup:
            inputs = mixed(inputs, objective.mixup, self.n_classes)
        outputs = model(**{name: value for name, value in inputs.items() if name != "labels"})
        weight = getattr(self.model.config, "branch_loss_weight", 0.0)
        return objective.of_outputs(outputs, inputs["labels"], weight), outputs

    def create_optimizer(self, model=None):
        """As Trainer's, with a learning rate for each part where the arguments set some apart."""
        made = self.optimizer is None
        optimizer = super().create_optimizer(model)
        if made and (self.args.head_learning_rate is not None or self.stages):
            split_groups(optimizer, self.encoders, self.args)
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer=None):
        """As Trainer's, or one cycle a stage."""
        if self.stages and self.lr_scheduler is None:
            stages, trained = self.stages.stages, self.stages.trained
            optimizer = optimizer or self.optimizer
            self.lr_scheduler = stage_schedule(optimizer, stages, trained, self.args, num_training_steps)
            self._created_lr_scheduler = True
        return super().create_scheduler(num_training_steps, optimizer)

    def evaluate(self, *args, **kwargs):
        """As Trainer's; while weights are averaged, of their average."""
        with self._average():
            return super().evaluate(*args, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As Trainer's; a checkpoint's model is the average of the weights, and these are kept beside it."""
        with self._average():
            super().save_model(output_dir, _internal_call)
        if _internal_call and self.averaging and self.args.should_save:
            self.averaging.save(output_dir)
        if self.args.should_save:
            share_weights(output_dir or self.args.output_dir)

    def _average(self):
        # After training the model is the average already, or the best checkpoint.
        return self.averaging.applied() if self.averaging and self.is_in_train else nullcontext()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        # peft lets all that it loads be trained, also what is to stay as it is.
        trained = {name: parameter.requires_grad for name, parameter in self.model.named_parameters()}
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(trained[name])
        if self.averaging:
            self.averaging.load(resume_from_checkpoint)

    def logits(self, dataset: Dataset, prefix: str = "test") -> np.ndarray:
        """The logits of `outputs`, shape `(rows, classes)`."""
        return self.outputs(dataset, prefix)[:, : self.model.config.num_labels]

    def outputs(self, dataset: Dataset, prefix: str = "test") -> np.ndarray:
        """Predict all rows, in their order: the logits of the classes, and behind them the dimensions, where there are.

        Shapes: `(rows, outputs)`.

        `prefix` names the rows to trackers, which log what is predicted.
        """
        return self._outputs_in(self._predictions(dataset, prefix))

    def outputs_and_measured(
        self, dataset: Dataset, prefix: str, measure: Callable[[torch.Tensor], torch.Tensor]
    ) -> tuple[np.ndarray, np.ndarray]:
        """`outputs`, and what a function gives for the embeddings of the same rows, which pass the encoders once.

        Args:
            dataset, prefix: As of `outputs`.
            measure: Of what the last layer is given, on the model's device; NaN of a row that lacks audio or text.

        Shapes: measure `(batch, size)` to `(batch, *)`; out `(rows, outputs)`, `(rows, *)` float32.

        Raises:
            ValueError: a model without a last linear layer.
        """
        self.measure = measure
        try:
            *predictions, measured = self._predictions(dataset, prefix)
        finally:
            self.measure = None
        return self._outputs_in(predictions), measured

    def prediction_step(self, model, inputs, *args, **kwargs):
        """As Trainer's; while embeddings are measured, what was found is behind the outputs."""
        if self.measure is None:
            return super().prediction_step(model, inputs, *args, **kwargs)
        model = extract_model_from_parallel(model, keep_torch_compile=False)  # a compiled model does not record
        with layer_inputs(last_layers(unwrapped(model))) as given:
            loss, outputs, labels = super().prediction_step(model, inputs, *args, **kwargs)
        vectors = side_by_side(given)
        for modality in self.encoders:
            mask = inputs.get(f"{modality}_mask")
            vectors[np.full(len(vectors), True) if mask is None else ~mask.flatten(1).any(1).cpu().numpy()] = np.nan
        measured = self.measure(torch.from_numpy(vectors).to(self.args.device))
        return loss, (*(outputs if isinstance(outputs, tuple) else (outputs,)), measured), labels

    def _predictions(self, dataset: Dataset, prefix: str) -> tuple[np.ndarray, ...]:
        """What `prediction_step` gives for all rows, in their order.

        Longest clips first, so that memory runs out at once or not at all and little is padded; then put back in order.
        Rows without audio come last.
        """
        # Without its transform, if it has one: that takes whole rows, and all their audio would be read for it.
        seconds = dataset.with_format(None)["duration_seconds"][:]
        order = np.argsort([-(length or 0) for length in seconds], kind="stable")
        # group_by_length would also reorder what is predicted, and rows would get each other's logits. No metrics: a
        # fold may lack a class, and the report is made over all folds.
        strategy, self.args.train_sampling_strategy = self.args.train_sampling_strategy, "random"
        metrics, self.compute_metrics = self.compute_metrics, None
        predictions = self.predict(dataset.select(order), metric_key_prefix=prefix).predictions
        self.args.train_sampling_strategy, self.compute_metrics = strategy, metrics
        places = np.argsort(order)
        if set(self.encoders) == {"text"}:
            # Equal texts have equal answers, which else differ by rounding with what they were padded to.
            rows = dataset.select_columns(["id", "transcript"])  # the id, by which a transform finds other transcripts
            places = places[first_of_text([row["transcript"] for row in rows])]
        parts = predictions if isinstance(predictions, tuple) else (predictions,)
        return tuple(part[places] for part in parts)

    def _outputs_in(self, predictions: Sequence[np.ndarray]) -> np.ndarray:
        """The outputs in what was predicted, in which branches may follow; shape `(rows, outputs)` float64."""
        count = 2 if getattr(self.model.config, "dimensions", None) else 1
        return np.concatenate(predictions[:count], axis=1, dtype=np.float64)


class Views(TrainerCallback):
    """Tells a `View` the epoch, so that a clip is changed otherwise in each; also in a run that is resumed."""

    def __init__(self, view):
        self.view = view

    def on_epoch_begin(self, args, state, control, **kwargs):
        """Set the epoch; with `cache_views` the rows take so many views in turn."""
        self.view.set(int(state.epoch or 0))


class OneLineProgress(ProgressCallback):
    """Named progress bars on a terminal, and for each epoch one line that a person can read, also in a file."""

    def on_train_begin(self, args, state, control, **kwargs):
        """Show the bar of the training, with the name of its fold's folder."""
        if state.is_world_process_zero:
            name = f"training {Path(args.output_dir).parent.name}"
            if args.max_steps <= 0 and getattr(args, "early_stopping_patience", 0):
                name += (
                    f", at most {args.num_train_epochs:g} epochs"  # so the time that remains is at most what it says
                )
            self.training_bar = bar(args, name, state.max_steps, unit=" steps")
        self.current_step = 0

    def on_prediction_step(self, args, state, control, eval_dataloader=None, **kwargs):
        """Move the bar of a prediction on."""
        if state.is_world_process_zero and has_length(eval_dataloader):
            if self.prediction_bar is None:
                during = self.training_bar is not None
                name = "validation" if during else f"predicting {Path(args.output_dir).parent.name}"
                self.prediction_bar = bar(args, name, len(eval_dataloader), leave=not during)
            self.prediction_bar.update(1)

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Write the figures of an epoch, or of a head that was solved for, above the bar."""
        if not state.is_world_process_zero:
            return
        main = next(iter(args.metrics))  # uar, or wer of a recogniser
        if {"inner_uar", "inner_ccc"} & set(logs):
            chosen = ", ".join(f"{name} {value:g}" for name, value in logs.items() if name.startswith(STRENGTHS))
            reached = reached_text(logs, "inner_", main)
            tqdm.write(f"solved with {chosen}" + f", {reached} on speakers left out" * bool(reached))
        elif "eval_loss" in logs and (reached := reached_text(logs, "eval_", main)):
            tqdm.write(
                f"epoch {logs['epoch']:5.1f}  validation {reached}  "
                f"loss {logs['eval_loss']:.3f}  ({logs['eval_samples_per_second']:.1f} clips/s)"
            )
        elif "loss" in logs:
            tqdm.write(f"epoch {logs['epoch']:5.1f}  training loss {float(logs['loss']):.3f}")

    def on_train_end(self, args, state, control, **kwargs):
        """Say why a bar has stopped short of its end."""
        if self.training_bar is not None and state.global_step < state.max_steps:
            chosen_by = args.metric_for_best_model
            is_named = chosen_by in ("uar", "ccc")
            what = f"{chosen_by.upper()} had not risen" if is_named else f"{chosen_by} had not become better"
            tqdm.write(
                f"stopped after epoch {state.epoch:.0f} of {args.num_train_epochs:g}: validation {what} for "
                f"{args.early_stopping_patience} evaluations"
            )
        super().on_train_end(args, state, control, **kwargs)


def reached_text(logs: dict, prefix: str, main: str) -> str:
    """The main figure in logs, a share, and the CCC, as far as they are there."""
    share, ccc = logs.get(prefix + main), logs.get(f"{prefix}ccc")
    width = 5 if prefix == "eval_" else 0
    texts = [] if share is None else [f"{main.upper()} {100 * share:{width}.1f} %"]
    return ", ".join(texts + ([] if ccc is None else [f"CCC {ccc:.3f}"]))


def bar(args, name: str, total: int, leave: bool = True, unit: str = " batches") -> tqdm:
    """A named progress bar, on a terminal unless `--disable_tqdm`."""
    hidden = args.disable_tqdm or None
    return tqdm(total=total, desc=name, leave=leave, dynamic_ncols=True, disable=hidden, unit=unit)


def labels_of(dataset) -> list[int]:
    """The class of each row, whatever it is trained towards."""
    if isinstance(dataset, Dataset):
        return dataset.with_format(None)["label"][:]  # without its transform, which would read all of the audio
    return [row["label"] for row in dataset]


def check_model(candidate: Candidate, args) -> None:
    """Make sure that the settings suit the model.

    Raises:
        ValueError: mixup of texts, or gradient checkpointing of a model that has none.
    """
    if args.mixup and "text" in candidate.encoders:
        raise ValueError(
            f"--mixup is {args.mixup:g}: found a model that reads text, and texts cannot be mixed. Expected an "
            "audio-only model: use train_audio.py, or leave out --mixup."
        )
    known = any(hasattr(module, "gradient_checkpointing") for module in candidate.model.modules())
    if args.gradient_checkpointing and not known:
        kind = candidate.model.config.model_type
        raise ValueError(
            f"--gradient_checkpointing true: {kind} does not support it. Expected a transformer with layers to compute "
            "again: leave it out, or lower --per_device_train_batch_size and raise --gradient_accumulation_steps."
        )


def choose_threads(model: nn.Module, args) -> None:
    """Set the processor threads of this process by the size of the model, where OMP_NUM_THREADS does not say them.

    Small models get one thread and large ones their share of the processor. On two busy cores two threads were measured
    to be seven times slower than one for a small CNN, for they wait for each other at every layer; for the same reason
    batches are made by no workers of their own unless `--dataloader_num_workers` says so.
    """
    if "OMP_NUM_THREADS" not in os.environ and args.device.type == "cpu":
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        torch.set_num_threads(threads_for(count_parameters(model)[0], processes))


def threads_for(parameters: int, processes: int) -> int:
    """Processor threads of each process for a model with so many parameters to compute with."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 1 if parameters < SMALL else max(cores // processes, 1)


def metrics_over(
    labels: list[str], dimensions: Iterable[str] | None = None
) -> Callable[[EvalPrediction], dict[str, float]]:
    """`compute_metrics` over all classes of a task, and over its dimensions: the mean CCC, and that of each."""

    def compute(evaluated: EvalPrediction) -> dict[str, float]:
        figures, targets = {}, evaluated.label_ids
        if dimensions:
            annotated = torch.from_numpy(targets[:, len(labels) :])
            of_each = concordance(torch.from_numpy(evaluated.predictions[1]), annotated).tolist()
            ccc = dict(zip(dimensions, of_each, strict=True))
            known = [one for one in ccc.values() if not math.isnan(one)]
            figures |= {"ccc": sum(known) / len(known) if known else 0.0}
            figures |= {f"ccc_{name}": one for name, one in ccc.items() if not math.isnan(one)}
            targets = targets[:, : len(labels)].argmax(1) if labels else None
        if labels:
            # In float64, so that rows sum to one within rounding.
            probabilities = softmax(first(evaluated.predictions).astype(np.float64), axis=-1)
            figures = score(probabilities, targets, labels) | figures
        # Rounded, so that no rounding error of a sum chooses between two equal checkpoints.
        return {name: round(figure, DIGITS) for name, figure in figures.items()}

    return compute


def first(predictions) -> np.ndarray:
    """The logits, also where a model returns more than them."""
    return predictions[0] if isinstance(predictions, tuple) else predictions


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """All parameters, and those that are trained."""
    parameters = list(model.parameters())
    return sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)
