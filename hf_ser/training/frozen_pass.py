"""Computes the frozen features of a fold in one pass before its training: what is stored already is not computed again.

Features are rounded as they are stored (to float16, means of clips to float32) before they are used, so a run on stored
features computes with the same numbers as the run that stored them. A feature may differ in its last bit with the batch
in which it was computed.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import extract_model_from_parallel
from datasets import Dataset
from peft import PeftModel
from torch import nn
from torch.utils.data import DataLoader, Subset

from hf_ser.augment.views import with_views
from hf_ser.files import cache_folder
from hf_ser.inputs.collate import Collator, clips, statistics
from hf_ser.inputs.feature_store import FeatureStore
from hf_ser.inputs.frozen import KEY_COLUMNS, FrozenFeatures, features_digest, frozen_module
from hf_ser.models import SOLVED_HEADS
from hf_ser.progress import Progress
from hf_ser.stable import text_digest
from hf_ser.training.building import Candidate
from hf_ser.training.fold_data import FoldData
from hf_ser.training.solved_heads import is_solved
from hf_ser.transcripts.loading import computes_bfloat16


def frozen_features(candidate: Candidate, rows: FoldData, training) -> FrozenFeatures:
    """Compute and store what is missing of a fold's frozen features; all processes call it, each computes its share.

    Nothing is stored where no encoder is frozen, or its features are not the same in every epoch.

    The weights are hashed here: call it once they are final (frozen, cropped, statistics fitted).

    Args:
        candidate: The model.
        rows: The rows of the fold, for this candidate.
        training: SerTrainingArguments.

    Raises:
        ValueError: as `FrozenFeatures.key`.
        OSError: no room for them.
    """
    features = empty_features(candidate, rows, training)
    if training.cache_views and "audio" not in features.stores:
        PartialState().print(f"note: no features are kept of the {training.cache_views} views that each clip has")
    if not features.stores:
        return features
    model = unwrapped(candidate.model).to(training.device).eval()
    for view, part in passes(rows, training.cache_views, is_solved(candidate.model.config)):
        if rows.view is not None:
            rows.view.set(view)
        for modality in features.stores:
            named = f", view {view + 1} of {training.cache_views}" if view is not None else ""
            compute_missing(model, candidate.collator, part, modality, features, training, named)
    PartialState().wait_for_everyone()
    return features


def empty_features(candidate: Candidate, rows: FoldData, training) -> FrozenFeatures:
    """The stores of what can be kept of a candidate; a note says why that of a frozen encoder cannot."""
    config = candidate.model.config
    settings = {name: getattr(config, name) for name in ("audio_layers", "text_layers")}
    settings["mean"] = config.head in SOLVED_HEADS
    settings["precision"] = "bf16" if training.bf16 else "fp16" if training.fp16 else "float32"
    changes = () if rows.view is None else candidate.collator.augmenter.keys
    readers = {"audio": candidate.processor.feature_extractor, "text": candidate.processor.tokenizer}
    stores = {}
    for modality, encoder in candidate.encoders.items():
        if (module := frozen_module(encoder)) is None:
            continue
        if reason := not_kept(training, modality == "audio" and bool(changes)):
            if module is encoder:
                note = f"features of the frozen {modality} encoder are neither kept nor standardised: {reason}"
                PartialState().print(f"note: {note}")
            continue
        digest = features_digest(module, encoder.config, readers[modality], settings, rows.fitted)
        stores[modality] = FeatureStore(cache_folder() / "frozen" / digest)
    return FrozenFeatures(stores, len(candidate.encoders) > 1, training.cache_views, tuple(map(text_digest, changes)))


def not_kept(training, is_changed: bool) -> str | None:
    """Why the features of a frozen encoder cannot be kept; None where they can.

    Args:
        training: SerTrainingArguments.
        is_changed: Whether training changes what the encoder reads.
    """
    if training.stages:
        return "a later stage may train it"
    if training.fsdp or os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true":
        return "FSDP splits the model, and reading them under it was never tested"
    if is_changed and not training.cache_views:
        return "every clip is augmented anew in every epoch. Limit the views (--cache_views 4) to have them kept"
    return None


def passes(rows: FoldData, cache_views: int, is_solved: bool) -> Iterator[tuple[int | None, Dataset]]:
    """The parts of a fold, each with the view in which it is read; None for the clips as they are."""
    if rows.view is None or not cache_views:
        yield from ((None, part) for part in (rows.train, rows.validation, rows.test))
        return
    changed = [rows.train]
    if is_solved:  # for on training and validation speakers together, with the unchanged clips
        changed.append(with_views(rows.validation, rows.view, cache_views))
        yield None, rows.train
    yield None, rows.validation
    yield None, rows.test
    for view in range(cache_views):
        yield from ((view, part) for part in changed)


@dataclass
class EncoderInputs:
    """Makes the inputs of one encoder from rows, with the key of each row.

    Args:
        collator: Of the model.
        modality: `audio` or `text`.
        features: By which the keys are made.
    """

    collator: Collator
    modality: str
    features: FrozenFeatures

    def __call__(self, rows: list[dict[str, Any]]) -> tuple[list[str], dict[str, torch.Tensor]]:
        keys, processor = [self.features.key(self.modality, row) for row in rows], self.collator.processor
        if self.modality == "text":
            has_audio = [row["duration_seconds"] is not None for row in rows]
            return keys, processor.text_features([row["transcript"] for row in rows], has_audio)
        inputs = processor.features(clips(rows, self.collator.augmenter), None)
        return keys, {**inputs, **statistics(rows)}


def compute_missing(
    model: nn.Module, collator: Collator, part: Dataset, modality: str, features: FrozenFeatures, training, named: str
) -> None:
    """Compute one modality of the rows of a part, the longest first, so that memory runs out at once or not at all."""
    store, state = features.stores[modality], PartialState()
    order = missing_rows(part, modality, features)[state.process_index :: state.num_processes]
    if not order:
        return
    loader = DataLoader(
        Subset(part, order),
        batch_size=training.per_device_eval_batch_size,
        collate_fn=EncoderInputs(collator, modality, features),
        num_workers=training.dataloader_num_workers,
    )
    dtype = torch.bfloat16 if training.bf16 else torch.float16 if training.fp16 else None
    autocast = torch.autocast(training.device.type, dtype) if dtype else nullcontext()
    hidden = training.disable_tqdm or not state.is_main_process
    if training.device.type == "cpu":
        note_precision(training.bf16)
    bar = Progress(len(order), f"frozen {modality} features{named}", "clips", hidden)
    with bar, torch.inference_mode(), autocast:
        for number, (keys, inputs) in enumerate(loader):
            outputs = model.frozen_part(**{name: value.to(training.device) for name, value in inputs.items()})
            arrays = valid_positions(keys, outputs[f"{modality}_hidden"], outputs[f"{modality}_mask"])
            if number == 0:
                check_room(store, arrays, len(order) * state.num_processes)
            store.put(arrays)
            bar.update(len(keys))
    store.close()


def check_room(store: FeatureStore, arrays: Mapping[str, np.ndarray], rows: int) -> None:
    """Make sure that the features of so many rows have room on the disk, by those of some of the longest.

    Clips are seldom shorter than a quarter of the longest on average: a quarter of that size has to be free.

    Raises:
        OSError: it is not.
    """
    needed = sum(array.nbytes / 2 for array in arrays.values()) / len(arrays) * rows / 4
    folder = next(one for one in (store.folder, *store.folder.parents) if one.exists())
    if needed > (free := shutil.disk_usage(folder).free):
        raise OSError(
            f"{store.folder}: found room for {free / 1e9:.1f} GB, and the features of {rows} clips would take more "
            f"than {needed / 1e9:.1f} GB. Expected room for them: name a folder on a larger disk with HF_SER_CACHE, "
            "shorten --max_seconds, read fewer layers, or keep none: --stages head:20@1e-3."
        )


@cache
def note_precision(is_bfloat16: bool) -> None:
    """Print, once a process, that another precision would take less time on this processor."""
    if is_bfloat16 and not computes_bfloat16():
        note = "this processor has no instructions for bfloat16, in which it takes longer: leave out --bf16"
    elif not is_bfloat16 and computes_bfloat16():
        note = "this processor computes bfloat16 itself: --bf16 true takes less time, features differ by under 1 %"
    else:
        return
    PartialState().print(f"note: {note}")


def keyed_rows(part: Dataset, modality: str, features: FrozenFeatures) -> Iterator[tuple[str | None, dict[str, Any]]]:
    """Yield the key of each row's features, None without the modality, and what it is made from; no audio is read."""
    columns: Mapping[str, list] = part.select_columns([one for one in KEY_COLUMNS if one in part.column_names])[:]
    for values in zip(*columns.values(), strict=True):
        given = dict(zip(columns, values, strict=True))
        yield features.key(modality, given), given


def missing_rows(part: Dataset, modality: str, features: FrozenFeatures) -> list[int]:
    """The rows of which features are missing, each key once, the longest first."""
    first, lengths = {}, {}
    for row, (key, given) in enumerate(keyed_rows(part, modality, features)):
        if key is not None and key not in first:
            first[key] = row
            lengths[key] = len(given["transcript"]) if modality == "text" else given["duration_seconds"]
    missing = features.stores[modality].missing(first)
    return [first[key] for key in sorted(missing, key=lengths.__getitem__, reverse=True)]


def valid_positions(keys: list[str], hidden: torch.Tensor, mask: torch.Tensor) -> dict[str, np.ndarray]:
    """Each row's own positions by its key; hidden `(batch, positions, *tail)`, mask `(batch, positions)`."""
    arrays, valid = hidden.float().cpu().numpy(), mask.bool().cpu().numpy()
    return {key: arrays[row][valid[row]] for row, key in enumerate(keys)}


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, without what distributed training, compilation or peft put around it."""
    model = extract_model_from_parallel(model, keep_torch_compile=False)
    return model.get_base_model() if isinstance(model, PeftModel) else model
