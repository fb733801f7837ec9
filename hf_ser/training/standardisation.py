"""Standardises what a head that is trained in epochs reads of frozen encoders, by the training rows."""

import torch
from torch.utils.data import DataLoader

from hf_ser.models.modeling_ser import is_frozen
from hf_ser.training.building import Candidate
from hf_ser.training.fold_data import FoldData
from hf_ser.training.frozen_pass import unwrapped
from hf_ser.training.ridge import LEAST_SCALE


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
    modalities = [one for one in features.stores if is_frozen(candidate.encoders[one])]
    counts = dict.fromkeys(modalities, 0)
    sums, squares = dict.fromkeys(modalities, 0.0), dict.fromkeys(modalities, 0.0)
    for view in (None,) if rows.view is None else range(training.cache_views):
        if rows.view is not None:
            rows.view.set(view)
        for batch in DataLoader(rows.train, training.per_device_eval_batch_size, collate_fn=candidate.collator):
            for one in modalities:
                if f"{one}_hidden" in batch:
                    valid = batch[f"{one}_hidden"][batch[f"{one}_mask"].bool()].double()
                    counts[one] += len(valid)
                    sums[one], squares[one] = sums[one] + valid.sum(0), squares[one] + valid.square().sum(0)
    for one in modalities:
        if counts[one]:
            mean = sums[one] / counts[one]
            deviation = (squares[one] / counts[one] - mean.square()).clamp(min=0).sqrt()
            model.set_standardisation(one, mean, torch.where(deviation < LEAST_SCALE, 1.0, deviation))
