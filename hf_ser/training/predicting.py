"""transformers' Trainer as far as it predicts and saves, whatever way its model is trained."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from accelerate.utils import extract_model_from_parallel
from datasets import Dataset
from scipy.special import softmax
from transformers import EvalPrediction, PrinterCallback, ProgressCallback, Trainer

from hf_ser.inputs.collate import first_of_text
from hf_ser.models.dimensions import concordance
from hf_ser.models.last_layers import last_layers, layer_inputs, side_by_side
from hf_ser.models.saving import share_weights
from hf_ser.runs.scores import DIGITS, score
from hf_ser.training.building import Candidate
from hf_ser.training.frozen_pass import unwrapped
from hf_ser.training.threads import choose_threads
from hf_ser.training.training_progress import OneLineProgress


class PredictingTrainer(Trainer):
    """Trainer over a `Candidate`: what trainers by gradient descent and those that solve for a head share.

    Args:
        candidate: The model, its collator and its encoders.
        labels: Emotion names in class order; none of a model that predicts dimensions alone.
        kwargs: As Trainer's; `args` are SerTrainingArguments.
    """

    def __init__(self, candidate: Candidate, labels: list[str], **kwargs):
        choose_threads(candidate.model, kwargs["args"])
        self.encoders = candidate.encoders
        self.measure: Callable[[torch.Tensor], torch.Tensor] | None = None
        super().__init__(
            model=candidate.model,
            data_collator=candidate.collator,
            compute_metrics=metrics_over(labels, getattr(candidate.model.config, "dimensions", None)),
            **kwargs,
        )
        self.model_accepts_loss_kwargs = False  # our models take the mean over the batch themselves
        self.label_smoother = None  # Trainer's knows neither distributions nor branches
        for callback in (ProgressCallback, PrinterCallback):
            self.remove_callback(callback)
        self.add_callback(OneLineProgress())

    def floating_point_ops(self, inputs: dict) -> int:
        """None are counted: Trainer would warn of a batch that holds what was computed before."""
        return 0

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        """As Trainer's; of the outputs the answers alone."""
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
        return (loss, answers_in(loss, outputs)) if return_outputs else loss

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As Trainer's, with the permissions of any new file."""
        super().save_model(output_dir, _internal_call)
        if self.args.should_save:
            share_weights(output_dir or self.args.output_dir)

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


def answers_in(loss: torch.Tensor, outputs: Mapping) -> dict[str, torch.Tensor]:
    """The loss, and of a model's outputs the logits and the dimensions, where there are."""
    found = {"loss": loss, "logits": outputs["logits"], "dimensions": outputs.get("dimensions")}
    return {name: values for name, values in found.items() if values is not None}


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
