"""Trainer with what this toolkit needs: UAR, frozen encoders that stay fixed, and a learning rate for the head."""

from collections.abc import Callable

import numpy as np
from datasets import Dataset
from peft import PeftModel
from scipy.special import softmax
from torch import nn
from transformers import EarlyStoppingCallback, EvalPrediction, ProgressCallback, Trainer

from hf_ser.scores import score
from hf_ser.training.building import Candidate


class SerTrainer(Trainer):
    """transformers' Trainer over a `Candidate`."""

    def __init__(self, candidate: Candidate, labels: list[str], **kwargs):
        if kwargs["args"].label_smoothing_factor:
            raise ValueError(
                f"--label_smoothing_factor is {kwargs['args'].label_smoothing_factor}: Trainer then takes the labels "
                "away from the model, and late fusion loses its branch losses. Expected 0: leave it out."
            )
        self.encoders = list(candidate.encoders.values())
        super().__init__(
            model=candidate.model,
            data_collator=candidate.collator,
            compute_metrics=metrics_over(labels),
            **kwargs,
        )
        # All our models take the mean over the batch themselves. Left to itself, Trainer sees the `**kwargs` of a stock
        # classifier and takes it for one that divides by the items of all accumulated steps: the loss is then n-fold.
        self.model_accepts_loss_kwargs = False
        if self.is_fsdp_enabled and isinstance(candidate.model, PeftModel):
            raise ValueError("LoRA under FSDP is not tested here: use multi_gpu.yaml, or leave out --lora.")
        self.remove_callback(ProgressCallback)
        if not self.args.disable_tqdm:
            self.add_callback(OneLineProgress)
        if patience := self.args.early_stopping_patience:
            self.add_callback(EarlyStoppingCallback(patience))

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        """As Trainer's; of float labels `(batch, classes)` the cross entropy, whatever the model."""
        # Trainer sets the whole model to training; a frozen encoder is a fixed function, without dropout.
        for encoder in self.encoders:
            if not any(parameter.requires_grad for parameter in encoder.parameters()):
                encoder.eval()
        if not inputs["labels"].is_floating_point() or getattr(self.model, "accepts_soft_labels", False):
            return super().compute_loss(model, inputs, return_outputs, **kwargs)
        # Stock classifiers flatten float labels into an error, or take them for a task of several labels a clip and
        # write that into their configuration. Like theirs of class indices, this is the mean over the batch.
        outputs = model(**{name: value for name, value in inputs.items() if name != "labels"})
        loss = nn.functional.cross_entropy(outputs["logits"], inputs["labels"])
        return (loss, outputs) if return_outputs else loss

    def create_optimizer(self, model=None):
        """As Trainer's, with the learning rate of everything but the encoders set apart where one is given."""
        optimizer = super().create_optimizer(model)
        rate = self.args.head_learning_rate
        if rate is None:
            return optimizer
        encoders = {id(parameter) for encoder in self.encoders for parameter in encoder.parameters()}
        for group in list(optimizer.param_groups):
            head = [parameter for parameter in group["params"] if id(parameter) not in encoders]
            if head and len(head) < len(group["params"]):
                group["params"] = [parameter for parameter in group["params"] if id(parameter) in encoders]
                optimizer.add_param_group({**group, "params": head, "lr": rate})
            elif head:
                group["lr"] = rate
        return optimizer

    def logits(self, dataset: Dataset, prefix: str = "test") -> np.ndarray:
        """What the model answers, in the order of the rows, shape `(rows, classes)`.

        `prefix` names the rows to trackers, which log what is predicted.

        Longest clips first, so that memory runs out at once or not at all and little is padded; then put back in order.
        Rows without sound come last.
        """
        # Without its transform, if it has one: that is given whole rows, and all their sound would be read for it.
        seconds = dataset.with_format(None)["duration_seconds"][:]
        order = np.argsort([-(length or 0) for length in seconds], kind="stable")
        # group_by_length would also reorder what is predicted, and rows would get each other's answer. No metrics: a
        # fold may lack a class, and the report is made over all folds.
        strategy, self.args.train_sampling_strategy = self.args.train_sampling_strategy, "random"
        metrics, self.compute_metrics = self.compute_metrics, None
        logits = first(self.predict(dataset.select(order), metric_key_prefix=prefix).predictions)
        self.args.train_sampling_strategy, self.compute_metrics = strategy, metrics
        answers = np.empty(logits.shape)
        answers[order] = logits
        return answers


class OneLineProgress(ProgressCallback):
    """Trainer's progress bars, with one line an epoch that a person can read instead of dictionaries."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Write the epoch's figures above the bar."""
        if not state.is_world_process_zero or self.training_bar is None:
            return
        if "eval_uar" in logs:
            self.training_bar.write(
                f"epoch {logs['epoch']:5.1f}  validation UAR {100 * logs['eval_uar']:5.1f} %  "
                f"loss {logs['eval_loss']:.3f}  ({logs['eval_samples_per_second']:.0f} clips/s)"
            )
        elif "loss" in logs:
            self.training_bar.write(f"epoch {logs['epoch']:5.1f}  training loss {float(logs['loss']):.3f}")


def metrics_over(labels: list[str]) -> Callable[[EvalPrediction], dict[str, float]]:
    """`compute_metrics` over all classes of a task."""

    def compute(evaluated: EvalPrediction) -> dict[str, float]:
        # In float64, so that rows sum to one within rounding.
        probabilities = softmax(first(evaluated.predictions).astype(np.float64), axis=-1)
        figures = score(probabilities, evaluated.label_ids, labels)
        # Rounded, so that no rounding error of a sum chooses between two equal checkpoints.
        return {name: round(figure, 10) for name, figure in figures.items()}

    return compute


def first(predictions) -> np.ndarray:
    """The logits, also where a model returns more than them."""
    return predictions[0] if isinstance(predictions, tuple) else predictions


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """All parameters, and those that are trained."""
    parameters = list(model.parameters())
    return sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)
