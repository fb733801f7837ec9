"""Labels for very many files: a callable for Ray Data, Spark and datasets, whose errors are a column."""

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat

import numpy as np
import torch

from hf_ser.data.given_clips import GivenClip
from hf_ser.models.streams import MIX
from hf_ser.normal_form import storable
from hf_ser.runs.answers import Answer, ClipPredictor, reuse_memory
from hf_ser.runs.classifier import TEXT, Classifier

AUDIO_COLUMNS, TEXT_COLUMNS = ("path", "file", "audio"), ("transcript", "text")
"""Columns of a batch that the audio and the text are looked for in, by this order."""


class Labeller:
    """Adds the emotion of each row to a batch; a row that cannot be classified has its reason in the column `error`.

    Audio is the column `path`, `file` or `audio`: a path, bytes, or a dictionary with `bytes` or `path`, as a column of
    a data set holds it undecoded; optional are `transcript` or `text`, `start`, `end` and `channel`. Further columns
    stay.

    The model is loaded at the first call, so that a labeller is pickled by the model's name; it computes in one
    thread, so that there can be a worker for each core.

    Args:
        model: A model folder, or a model of the Hub, `user/name` or `user/name@REVISION`.
        device: A torch device; by default a GPU where there is one.
        batch_size: Clips a forward pass; no effect on the result beyond rounding.
        channel: Of clips with several channels, for rows that name none.

    Attributes:
        classifier: The model; None before the first call.
    """

    def __init__(self, model: str | os.PathLike, device: str | None = None, batch_size: int = 16, channel: str = MIX):
        self.model, self.device, self.batch_size, self.channel = os.fspath(model), device, batch_size, channel
        self.classifier: Classifier | None = None

    def __getstate__(self) -> dict:
        return vars(self) | {"classifier": None}

    def __call__(self, batch):
        """Label a batch.

        Args:
            batch: A dictionary of columns (lists or arrays), as Ray Data and datasets give them, or a pandas DataFrame.

        Returns:
            The same kind with the further columns of `answer_columns`.

        Raises:
            ValueError: the model cannot be loaded, or the batch has no audio column.
        """
        columns = batch if isinstance(batch, Mapping) else {name: batch[name] for name in batch}
        answers = list(self.predictor().answers(clips_of(columns)))
        found = answer_columns(answers, self.classifier.labels, self.classifier.dimensions)
        if not isinstance(batch, Mapping):
            return batch.assign(**found)
        if any(isinstance(column, np.ndarray) for column in columns.values()):
            found = {name: _as_array(column) for name, column in found.items()}
        return {**columns, **found}

    def in_pandas(self, batches: Iterable) -> Iterable:
        """Label DataFrames one after another, as the function that Spark's `mapInPandas` takes."""
        return map(self, batches)

    def predictor(self) -> ClipPredictor:
        """What classifies clips; loads the model where that was not done."""
        if self.classifier is None:
            torch.set_num_threads(1)
            reuse_memory()
            classifier = Classifier(self.model, self.device)
            if classifier.kind == TEXT:
                raise ValueError(f"{self.model}: found a text-only model. Expected one that takes audio.")
            self.classifier = classifier
        return ClipPredictor(self.classifier.pipeline, self.batch_size, self.channel)


def clips_of(columns: Mapping[str, Sequence]) -> list[GivenClip]:
    """The clips of a batch.

    Raises:
        ValueError: it has no column of audio.
    """
    name = next((one for one in AUDIO_COLUMNS if one in columns), None)
    if name is None:
        raise ValueError(
            f"found the columns {', '.join(map(str, columns)) or '(none)'}. Expected audio in one of "
            f"{', '.join(AUDIO_COLUMNS)}: rename it."
        )
    text = next((columns[one] for one in TEXT_COLUMNS if one in columns), repeat(None))
    starts, ends = (columns.get(one, repeat(None)) for one in ("start", "end"))
    channels = columns.get("channel", repeat(None))
    return [
        _clip(number, *cells)
        for number, cells in enumerate(zip(columns[name], text, starts, ends, channels, strict=False))
    ]


def _clip(number: int, audio, text, start, end, channel) -> GivenClip:
    named = audio.get("path") if isinstance(audio, Mapping) else audio
    file = str(named) if isinstance(named, str | os.PathLike) else f"row {number}"
    if audio is None or audio != audio:  # NaN, as pandas writes what is missing
        return GivenClip(file, error=f"row {number}: found no audio. Expected a path, or bytes: fill it in.")
    try:
        start, end = (None if one is None or one != one else float(one) for one in (start, end))
    except (TypeError, ValueError):
        return GivenClip(file, error=f"{file}: found start {start!r}, end {end!r}. Expected seconds: mend the row.")
    text, channel = (one if isinstance(one, str) and one else None for one in (text, channel))
    return GivenClip(file, audio, text, start, end, channel)


def answer_columns(answers: Sequence[Answer], labels: Sequence[str], dimensions: Sequence[str] = ()) -> dict[str, list]:
    """Answers as columns: `label`, `confidence`, `unsure`, `score:LABEL`, the dimensions, `notes`,
    `familiarity` and `error`.

    Of a clip that could not be classified all but `error` are None; of a model without classes label and confidence.
    """
    found = {
        "label": [],
        "confidence": [],
        "unsure": [],
        **{f"score:{one}": [] for one in labels},
        **{name: [] for name in dimensions},
        "notes": [],
        "familiarity": [],
        "error": [],
    }
    for answer in answers:
        scores = {one["label"]: one["score"] for one in answer.scores}
        is_there = answer.error is None
        best = answer.scores[0] if answer.scores else {"label": None, "score": None}
        found["label"].append(best["label"])
        found["confidence"].append(best["score"])
        found["unsure"].append(answer.unsure if is_there else None)
        for label in labels:
            found[f"score:{label}"].append(scores.get(label))
        for name in dimensions:
            found[name].append((answer.dimensions or {}).get(name))
        found["notes"].append(storable(" | ".join(answer.notes)) if is_there else None)
        found["familiarity"].append(answer.familiarity)
        found["error"].append(None if is_there else storable(answer.error))
    return found


def _as_array(column: list) -> np.ndarray:
    """A column as an array; numbers with NaN where there is none, all else as objects."""
    if all(isinstance(one, float) or one is None for one in column) and any(one is not None for one in column):
        return np.array([np.nan if one is None else one for one in column])
    return np.array(column, dtype=object)
