"""What the pipeline gives for a clip, and the check of what says how."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
import torch

FUNCTIONS = ("softmax", "sigmoid", "none")


class Scores(list):
    """The answer for one clip, most probable first: a list of `{"label", "score"}` with what to know about it.

    Args:
        scores: The list.
        notes: What makes it doubtful, as the pipeline warns of it.
        unsure: Whether no speech was found, or the best score is below `abstain_below`, by default the model's own
            threshold.
        abstains: Whether `abstain_below` was given, so that an unsure answer has no label.
        embedding: What the model's last layer was given, `(size,)` float32, with `embeddings=True`; else None.
        dimensions: Valence, arousal and dominance of a model that predicts them, on the scale that its configuration
            names; else None.
        familiarity: With `familiarity=True` how alike the clip is to the training data: the share of validation clips
            that are at least as far from it, below 0.01 unlike it. None of a model that does not know, and of a clip
            without all that the model takes.
        text: What `transcribe` gave for the clip; None where it was not used.
    """

    def __init__(
        self,
        scores: Iterable[dict] = (),
        notes: tuple[str, ...] = (),
        unsure: bool = False,
        abstains: bool = False,
        embedding: np.ndarray | None = None,
        dimensions: dict[str, float] | None = None,
        familiarity: float | None = None,
        text: str | None = None,
    ):
        super().__init__(scores)
        self.notes, self.unsure, self.abstains, self.embedding = notes, unsure, abstains, embedding
        self.dimensions, self.familiarity, self.text = dimensions, familiarity, text

    @property
    def label(self) -> str | None:
        """The most probable emotion; None where the answer is unsure and `abstain_below` was given."""
        return None if (self.unsure and self.abstains) or not self else self[0]["label"]


@dataclass(frozen=True)
class Answering:
    """How the clips of a call are read and answered: settings of `SerPipeline.__call__`."""

    channel: str
    statistics: torch.Tensor | None = None
    abstain_below: float | None = None
    embeddings: bool = False
    dimensions: bool | None = None
    familiarity: bool = False
    transcribe: Callable | None = None


class Dimensions(dict):
    """The answer for one clip as `{"valence": ..., "arousal": ..., "dominance": ...}`, with what to know about it.

    Args:
        scores: The labels of the same clip with their scores and notes; empty where the model has no classes.
    """

    def __init__(self, scores: Scores):
        super().__init__(scores.dimensions)
        self.scores, self.notes, self.unsure = scores, scores.notes, scores.unsure
        self.embedding, self.familiarity, self.text = scores.embedding, scores.familiarity, scores.text


def check_finite(logits: torch.Tensor, name: str) -> None:
    """Make sure that a model's answers are numbers.

    Args:
        logits: What it answers, of any shape.
        name: Of the model.

    Raises:
        ValueError: one of them is NaN or infinite.
    """
    if wrong := int((~torch.isfinite(logits)).sum()):
        raise ValueError(
            f"{name or 'this model'}: {wrong} of {logits.numel()} logits are NaN or infinite. Expected numbers: its "
            "weights are damaged or its training has failed (or float16 is too small for them, then load it as "
            "float32): take the model's files anew, or train it again."
        )


def checked_function(name) -> dict[str, str]:
    """`function_to_apply` as transformers' own pipeline takes it, a text or an enumeration.

    Raises:
        ValueError: another.
    """
    name = getattr(name, "value", name) or "softmax"
    if name not in FUNCTIONS:
        raise ValueError(f"function_to_apply is {name!r}: expected one of {', '.join(FUNCTIONS)}.")
    return {"function_to_apply": name}


def checked_count(name: str, value) -> int | None:
    """A number of things; None stays None.

    Raises:
        ValueError: no whole number, or one below 1.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} is {value!r}: expected a whole number from 1 on, or None for the default.")
    return int(value)


def checked_share(name: str, value) -> float | None:
    """A number from 0 to 1; None stays None.

    Raises:
        ValueError: another.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value <= 1:
        raise ValueError(f"{name} is {value!r}: expected a number from 0 to 1, or None for the model's own threshold.")
    return float(value)
