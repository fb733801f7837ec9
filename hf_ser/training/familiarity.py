"""What a model keeps of its training clips, to know clips that are unlike them."""

import numpy as np
import torch
from datasets import Dataset
from sklearn.model_selection import GroupKFold
from torch import nn

from hf_ser.models import SerModelForClassification
from hf_ser.models.familiarity import Familiarity
from hf_ser.models.last_layers import last_layers
from hf_ser.training.predicting import PredictingTrainer

MOST_CLIPS = 1_000
"""Clips of a part that are looked at: more change nothing of note and cost as many forward passes."""
FEWEST_CLIPS = 8
GROUPS = 5
"""Groups of training speakers that are left out in turn."""


def learn_familiarity(
    trainer: PredictingTrainer, model: SerModelForClassification, train: Dataset, validation: Dataset
):
    """Measure the training clips as the model was trained on them, and the validation clips; keep both in the model.

    Costs a forward pass of at most MOST_CLIPS clips of each part, as predicting them: of frozen encoders whose features
    are kept they are read, so that the head alone is computed.

    Nothing is kept under FSDP and DeepSpeed, where a process has a part of the weights, of a model that is normalised
    by speaker, whose features depend on other clips, of a head of somebody's own without a last linear layer, and where
    there are too few clips.
    """
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled or is_by_speaker(model):
        return
    try:
        last_layers(model)
    except ValueError:
        return
    chosen = {"train": train, "validation": validation}
    chosen = {name: part.select(spread(len(part), MOST_CLIPS)) for name, part in chosen.items()}
    if min(map(len, chosen.values())) < FEWEST_CLIPS:
        return
    clips, validation = (
        torch.from_numpy(trainer.outputs_and_measured(part, f"familiarity_{name}", nn.Identity())[1])
        for name, part in chosen.items()
    )
    is_there, validation = ~clips.isnan().any(1), validation[~validation.isnan().any(1)]
    if min(int(is_there.sum()), len(validation)) < FEWEST_CLIPS:
        return
    speakers = np.array(chosen["train"].with_format(None)["speaker"][:])[is_there.numpy()]
    known = Familiarity.of(clips[is_there])
    known.calibrate(known.distance(validation), left_out_distances(clips[is_there], speakers))
    model.set_familiarity(known)


def left_out_distances(clips: torch.Tensor, speakers: np.ndarray) -> torch.Tensor:
    """The distances of clips from those of other speakers; none where there is one speaker.

    Shapes: clips `(clips, size)`, speakers `(clips,)`; the result `(clips,)`, in another order.
    """
    _, groups = np.unique(speakers.astype(str), return_inverse=True)
    if not groups.any():
        return torch.empty(0)
    splits = GroupKFold(min(GROUPS, groups.max() + 1)).split(clips, groups=groups)
    return torch.cat([Familiarity.of(clips[others]).distance(clips[out]) for others, out in splits])


def outputs_and_familiarity(
    trainer: PredictingTrainer, model: SerModelForClassification, rows: Dataset
) -> tuple[np.ndarray, list[float | None]]:
    """The outputs of rows, `(rows, outputs)`, and how alike each is to the training data; None where not known."""
    if model.familiarity is None:
        return trainer.outputs(rows), [None] * len(rows)
    outputs, alike = trainer.outputs_and_measured(rows, "test", model.familiarity)
    return outputs, [None if np.isnan(one) else one for one in alike.tolist()]


def is_by_speaker(model: SerModelForClassification) -> bool:
    """Whether a model is normalised by speaker."""
    front_end = getattr(model.encoders.get("audio"), "front_end", None)
    return bool(model.config.speaker_views) or getattr(front_end, "normalisation", None) == "speaker"


def spread(count: int, most: int) -> list[int]:
    """At most so many positions, at equal distances."""
    return sorted({round(one) for one in np.linspace(0, count - 1, min(count, most))}) if count else []
