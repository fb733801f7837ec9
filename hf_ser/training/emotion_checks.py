"""Whether settings and data suit an emotion task, and what its models cannot learn from in the data."""

from collections.abc import Mapping

import numpy as np
from datasets import Dataset

from hf_ser.data.folds import Fold
from hf_ser.data.schema import REFERENCE
from hf_ser.inputs.dimensions import stated_scale
from hf_ser.inputs.targets import DIMENSIONAL
from hf_ser.training.arguments import (
    AudioArguments,
    CommonHeadArguments,
    TextArguments,
)
from hf_ser.training.trainer_arguments import SerTrainingArguments
from hf_ser.transcripts.fold_transcripts import ASR, MIXED


def check_target(data, head: CommonHeadArguments, training: SerTrainingArguments) -> None:
    """Make sure that the settings suit what is trained towards; without classes the CCC chooses the checkpoint.

    Raises:
        ValueError: settings of classes where there are none, or of dimensions where there are none.
    """
    stated_scale(data.dimension_scale)  # refuses before any data is read
    if data.target not in DIMENSIONAL and training.metric_for_best_model == "ccc":
        raise ValueError(
            f"--metric_for_best_model is ccc, --target is {data.target}: found no dimensions, of which it is the "
            "concordance. Expected --target dimensions or both: add it, or leave --metric_for_best_model out."
        )
    if data.target != "dimensions":
        return
    if training.metric_for_best_model == "uar":
        training.metric_for_best_model = "ccc"
    used = {name: getattr(training, name) for name in ("class_weights", "label_smoothing_factor", "search")}
    used |= {"head": head.chosen if head.chosen == "logistic" else None}
    if given := {name: value for name, value in used.items() if value}:
        name, value = next(iter(given.items()))
        raise ValueError(
            f"--{name} is {value}, --target is dimensions: found a setting of classes, and none are predicted. "
            f"Expected none: leave --{name} out, or predict both with --target both."
        )


def check_annotated(dimensions: Mapping[str, np.ndarray], fold: Fold) -> None:
    """Make sure that each dimension is annotated in the training and the validation part of a fold.

    Raises:
        ValueError: one is in fewer than two rows of a part.
    """
    for name, values in dimensions.items():
        for part in ("train", "validation"):
            rows = getattr(fold, part)
            if len(rows) and (known := int((~np.isnan(values[rows])).sum())) < 2:
                raise ValueError(
                    f"Fold {fold.name}: {known} of its {len(rows)} {part} clips have an annotation of {name}, expected "
                    "two at least. Leave its column out of the table, annotate more clips, or use another protocol."
                )


def missing_values(dimensions: Mapping[str, np.ndarray]) -> list[str]:
    """How many rows lack each dimension."""
    counts = {name: int(np.isnan(values).sum()) for name, values in dimensions.items()}
    return [
        f"{count} of {len(dimensions[name])} clips have no annotation of {name}: they do not count for it"
        for name, count in counts.items()
        if count
    ]


def check_audio(dataset: Dataset) -> None:
    """Make sure that every clip has audio.

    Raises:
        ValueError: one has none.
    """
    if missing := dataset["duration_seconds"][:].count(None):
        raise ValueError(
            f"{missing} of {len(dataset)} clips have no audio, and this model is audio-only. Expected audio for each: "
            "add the audio files and prepare the data again, or use train_text.py or train_fusion.py."
        )


def check_transcripts(dataset: Dataset, folds: list[Fold]) -> None:
    """Make sure that some training rows of each fold have a transcript.

    Raises:
        ValueError: none of a fold has.
    """
    has_text = [bool(text and text.strip()) for text in dataset["transcript"][:]]
    for fold in folds:
        if not any(has_text[row] for row in fold.train):
            raise ValueError(
                f"Fold {fold.name}: none of its {len(fold.train)} training clips has a transcript, and this model is "
                "of audio and text. Expected transcripts: train on the audio alone with train_audio.py; or prepare the "
                "data, let scripts/transcribe.py --dataset DS write transcripts, and train on what it writes."
            )


NO_TRANSCRIPT = {
    None: "",
    REFERENCE: " by the corpus",
    ASR: " by a recogniser, or an empty one",
    MIXED: " by a recogniser, or an empty one; in training the corpus's own is used for one that is missing",
}
"""Whose transcript is missing, by `--transcript_source`."""


def notices(dataset: Dataset, data, *arguments) -> list[str]:
    """What the models cannot learn from in the data."""
    found = []
    if data.target in ("votes", "majority") and (unrated := dataset["votes"][:].count(None)):
        found.append(f"{unrated} of {len(dataset)} clips have no raters' votes: their label is the target")
    for one in arguments:
        if isinstance(one, AudioArguments):
            seconds = dataset["duration_seconds"][:]
            if long := sum(length is not None and length > one.max_seconds for length in seconds):
                found.append(f"{long} of {len(dataset)} clips are longer than --max_seconds {one.max_seconds:g}: cut")
            if missing := seconds.count(None):
                found.append(f"{missing} of {len(dataset)} clips have no audio")
        if isinstance(one, TextArguments) and (empty := sum(not text for text in dataset["transcript"][:])):
            found.append(f"{empty} of {len(dataset)} clips have no transcript{NO_TRANSCRIPT[data.transcript_source]}")
    return found
