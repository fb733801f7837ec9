"""The figures of `hf_ser.runs.scores` as an `evaluate.Metric`."""

from collections.abc import Sequence

import evaluate
import numpy as np
from datasets import Features, List, Value

from hf_ser.runs.scores import score


class SerMetric(evaluate.Metric):
    """The figures of `score` with the `evaluate` interface: `compute`, `add_batch` and `evaluate.combine`.

    `evaluate.load("hf_ser/runs/metrics.py", labels=...)` gives the same. It collects in memory unless `num_process` is
    above 1, so that parallel runs share no cache file.

    Args:
        labels: All class names of the task in the order of their indices.
        **kwargs: As for `evaluate.Metric`.

    Shapes:
        predictions: (utterances, classes) probabilities, references: (utterances,) class indices.

    Raises:
        ValueError: In `compute`, as `score` does.

    Examples:
        >>> metric = SerMetric(labels=["happy", "sad"])
        >>> metric.add_batch(predictions=[[0.9, 0.1], [0.6, 0.4]], references=[0, 1])
        >>> metric.compute()["uar"]
        0.5
    """

    def __init__(self, labels: Sequence[str], **kwargs):
        self.labels = tuple(labels)
        kwargs.setdefault("keep_in_memory", kwargs.get("num_process", 1) == 1)
        super().__init__(**kwargs)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="UAR, WA, F1, MCC, ROC AUC and calibration error over all classes of an emotion task.",
            citation="",
            inputs_description="predictions: one list of class probabilities an utterance; references: class indices.",
            features=Features({"predictions": List(Value("float64")), "references": Value("int64")}),
        )

    def _compute(self, predictions, references) -> dict[str, float]:
        return score(predictions, np.asarray(references, dtype=np.int64), self.labels)
