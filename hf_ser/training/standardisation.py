"""Standardises what a head that is trained in epochs reads of frozen encoders, by the training rows."""

from collections.abc import Iterator

import numpy as np
import torch
from datasets import Dataset

from hf_ser.inputs.frozen import FrozenFeatures
from hf_ser.models.modeling_ser import is_frozen
from hf_ser.training.building import Candidate
from hf_ser.training.fold_data import FoldData
from hf_ser.training.frozen_pass import keyed_rows, unwrapped
from hf_ser.training.ridge import LEAST_SCALE

ROWS_AT_A_TIME = 256


@torch.no_grad()
def standardise_frozen(candidate: Candidate, rows: FoldData, training) -> None:
    """Keep in the model mean and deviation of each dimension of the frozen features of the training rows.

    Of encoders whose features are kept (`frozen_features`, called before), over all their valid positions, in all views
    in which they are read. The head then reads them standardised.

    Args:
        candidate: The model; its collator reads the features.
        rows: Of the fold.
        training: SerTrainingArguments.
    """
    model, features = unwrapped(candidate.model), candidate.collator.frozen
    views = range(training.cache_views) if rows.view is not None and training.cache_views else (None,)
    for modality in features.stores:
        if not is_frozen(candidate.encoders[modality]):  # a front end of ours, which standardises by itself
            continue
        count, total, squares = 0, 0.0, 0.0
        for view in views:
            if rows.view is not None:
                rows.view.set(view)
            for array in features_of(rows.train, modality, features):
                valid = torch.from_numpy(array).double()
                count += len(valid)
                total, squares = total + valid.sum(0), squares + valid.square().sum(0)
        if count:
            mean = total / count
            deviation = (squares / count - mean.square()).clamp(min=0).sqrt()
            model.set_standardisation(modality, mean, torch.where(deviation < LEAST_SCALE, 1.0, deviation))


def features_of(part: Dataset, modality: str, features: FrozenFeatures) -> Iterator[np.ndarray]:
    """Yield the features of each row that has the modality, `(positions, *tail)`, without reading audio."""
    keys = [key for key, _ in keyed_rows(part, modality, features) if key is not None]
    for start in range(0, len(keys), ROWS_AT_A_TIME):
        some = keys[start : start + ROWS_AT_A_TIME]
        found = features.stores[modality].get(some)
        yield from (found[key] for key in some)
