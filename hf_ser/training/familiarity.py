"""What a model keeps of its training clips, to know clips that are unlike them."""

import numpy as np
import torch
from datasets import Dataset
from torch.utils.data import DataLoader

from hf_ser.models import SerModelForClassification
from hf_ser.models.familiarity import Familiarity
from hf_ser.models.last_layers import last_layers, layer_inputs, side_by_side
from hf_ser.training.trainer import SerTrainer

MOST_CLIPS = 1_000
"""Clips of a part that are looked at: more change nothing of note and cost as many forward passes."""
FEWEST_CLIPS = 8


def learn_familiarity(trainer: SerTrainer, model: SerModelForClassification, train: Dataset, validation: Dataset):
    """Measure the training clips as the model was trained on them, and the validation clips; keep both in the model.

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
    parts = [vectors_of(trainer, model, part.select(spread(len(part), MOST_CLIPS))) for part in (train, validation)]
    vectors = [part[~np.isnan(part).any(1)] for part in parts]
    if min(map(len, vectors)) >= FEWEST_CLIPS:
        model.set_familiarity(Familiarity.fitted(*map(torch.from_numpy, vectors)))


def familiarity_of(trainer: SerTrainer, model: SerModelForClassification, rows: Dataset) -> list[float | None]:
    """How alike rows are to the training data; None where that is not known."""
    if model.familiarity is None:
        return [None] * len(rows)
    vectors = vectors_of(trainer, model, rows)
    with torch.no_grad():
        found = model.familiarity(torch.from_numpy(vectors).to(model.device)).tolist()
    return [None if np.isnan(one) else one for one in found]


def is_by_speaker(model: SerModelForClassification) -> bool:
    """Whether a model is normalised by speaker."""
    front_end = getattr(model.encoders.get("audio"), "front_end", None)
    return bool(model.config.speaker_views) or getattr(front_end, "normalisation", None) == "speaker"


def spread(count: int, most: int) -> list[int]:
    """At most so many positions, at equal distances."""
    return sorted({round(one) for one in np.linspace(0, count - 1, min(count, most))}) if count else []


@torch.no_grad()
def vectors_of(trainer: SerTrainer, model: SerModelForClassification, rows: Dataset) -> np.ndarray:
    """What the last layer is given for each row, the same in every process; NaN of a row that lacks audio or text.

    Shapes: the result `(rows, size)` float32.
    """
    loader = DataLoader(rows, batch_size=trainer.args.per_device_eval_batch_size, collate_fn=trainer.data_collator)
    model.to(trainer.args.device).eval()
    found = []
    for batch in loader:
        inputs = {name: values.to(model.device) for name, values in batch.items() if name != "labels"}
        with layer_inputs(last_layers(model)) as given:
            model(**inputs)
        vectors = side_by_side(given)
        for modality in model.config.modalities:
            mask = inputs.get(f"{modality}_mask")
            is_missing = np.full(len(vectors), True) if mask is None else ~mask.flatten(1).any(1).cpu().numpy()
            vectors[is_missing] = np.nan
        found.append(vectors)
    return np.concatenate(found) if found else np.empty((0, 1), np.float32)
