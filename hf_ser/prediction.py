"""Loads a trained model from Python and predicts with it; nothing is imported that only training needs."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from hf_ser.runs.classifier import Classifier

Audio = str | Path | np.ndarray

FLAG = re.compile(r"((?:\S+\.py|hf-ser|pip|accelerate)\b[^,;:)]*)|--(?=[a-z])(?!help)")
"""The dashes of a flag, or a whole command, in which they belong there."""


@contextmanager
def errors_in_python() -> Iterator[None]:
    """Let an error name settings as Python has them, `head` in place of `--head`."""
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        error.args = tuple(
            FLAG.sub(lambda found: found[1] or "", one) if isinstance(one, str) else one for one in error.args
        )
        raise


@errors_in_python()
def load_model(model: Classifier | os.PathLike | str, device: str | None = None) -> Classifier:
    """Load a model with this package's own code: none of a model's folder is run.

    `load_model("user/name@v1").pipeline("call.wav", text="where is my parcel")` answers as
    `pipeline("audio-classification")` does.
    """
    if isinstance(model, Classifier):
        return model
    if not isinstance(model, str | os.PathLike):
        raise ValueError(
            f"{getattr(model, 'path', model)}: found a {type(model).__name__}, expected a model, its folder or name "
            "on the Hub; of a run the model of a fold, such as run.folds['1']."
        )
    return Classifier(os.fspath(model), device)


@errors_in_python()
def predict(
    model: Classifier | os.PathLike | str,
    clips: Audio | Sequence[Audio | None],
    text: str | Sequence[str | None] | None = None,
    **options,
) -> list | Iterator[list]:
    """Classify one clip or several.

    Args:
        model: A model, its folder, or its name on the Hub.
        clips: A file, an array `(samples,)` at 16 kHz, or a list of them; None for a text alone.
        text: The transcript of the clip, or of each.
        options: `top_k`, `batch_size`, `enrolment`, `channel`, `dimensions` and more of `SerPipeline`.

    Returns:
        All classes with their calibrated scores, most probable first, and as attributes `unsure` and `notes`; of
        several clips a list of such lists.

    Raises:
        ValueError, FileNotFoundError: as `SerPipeline`.
    """
    return load_model(model).pipeline(clips, text=text, **options)
