"""Rows of a data set to a batch: decoding, extraction and padding happen here, in the loader's workers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hf_ser.inputs.frozen import FrozenFeatures
from hf_ser.models.decoding import decode_audio
from hf_ser.models.processing_ser import SerProcessor

Augmenter = Callable[[np.ndarray, str, int], np.ndarray]
"""Changes a clip `(samples,)`, of an id, for one of its views."""


@dataclass
class Collator:
    """Makes a batch of rows, of what the model takes; rows without text or audio are marked so in its mask.

    Args:
        processor: Feature extractor and tokenizer of the model, or one of them.
        augmenter: Changes the audio of rows that carry a `view`.
        frozen: Frozen features, which are read in place of the audio or text of their modality.
    """

    processor: SerProcessor
    augmenter: Augmenter | None = None
    frozen: FrozenFeatures | None = None

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Shapes: as `SerProcessor` or `FrozenFeatures.batch`, `speaker_statistics` where rows carry them, and labels
        as `labels`.
        """
        kept, batch = self.frozen.stores if self.frozen else (), {}
        if self.processor.feature_extractor is not None and "audio" not in kept:
            batch = {**self.processor.features(clips(rows, self.augmenter), None), **statistics(rows)}
        if self.processor.tokenizer is not None and "text" not in kept:
            fused = self.processor.feature_extractor is not None
            has_audio = [row["audio"] is not None for row in rows] if fused else None
            context = [row["context"] for row in rows] if "context" in rows[0] else None
            batch |= self.processor.text_features([row["transcript"] for row in rows], has_audio, context)
        if self.frozen:
            batch |= self.frozen.batch(rows)
        return batch | {"labels": labels(rows)}


def first_of_text(texts: Sequence[str | None]) -> np.ndarray:
    """For each text the first row that has the same; shape `(rows,)`."""
    found: dict[str, int] = {}
    return np.array([found.setdefault((text or "").strip(), row) for row, text in enumerate(texts)], dtype=int)


def clips(rows: list[dict[str, Any]], augmenter: Augmenter | None = None) -> list:
    """The decoded clips of some rows, each `(samples,)` float32 at 16 kHz; None where a row has no audio."""
    decoded = [None if row["audio"] is None else decode_audio(row["audio"]) for row in rows]
    if augmenter is None:
        return decoded
    return [
        clip if clip is None or row.get("view") is None else augmenter(clip, row["id"], row["view"])
        for clip, row in zip(decoded, rows, strict=True)
    ]


def statistics(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """`speaker_statistics` `(batch, 2, bands)` of rows that carry them, else nothing."""
    if "speaker_statistics" not in rows[0]:
        return {}
    return {"speaker_statistics": torch.tensor(np.stack([row["speaker_statistics"] for row in rows]))}


def labels(rows: list[dict[str, Any]]) -> torch.Tensor:
    """The rows' targets, `(batch, classes)` float32, where they carry any (`with_target`), else `(batch,)` int64."""
    return torch.tensor([row["target"] if "target" in row else row["label"] for row in rows])
