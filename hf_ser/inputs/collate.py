"""Rows of a data set to a batch: decoding, extraction and padding happen here, in the loader's workers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import FeatureExtractionMixin, PreTrainedTokenizerBase

from hf_ser.models.decoding import decode_audio
from hf_ser.models.processing_ser import SerProcessor, audio_inputs

Augmenter = Callable[[np.ndarray, str, int], np.ndarray]
"""Changes a clip `(samples,)`, of an id, for one of its views."""


@dataclass
class AudioCollator:
    """For a classifier that only hears.

    Args:
        augmenter: Changes the sound of rows that carry a `view`.
    """

    feature_extractor: FeatureExtractionMixin
    augmenter: Augmenter | None = None

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Shapes: as `audio_inputs`, `speaker_statistics` where the rows carry them, and labels as `labels`."""
        batch = audio_inputs(self.feature_extractor, clips(rows, self.augmenter))
        return {**batch, **statistics(rows), "labels": labels(rows)}


@dataclass
class TextCollator:
    """For a classifier that only reads; a row without words is read as an empty text."""

    tokenizer: PreTrainedTokenizerBase

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Shapes: input_ids and attention_mask `(batch, tokens)`, labels as `labels`."""
        return {**text_inputs(self.tokenizer, [row["transcript"] for row in rows]), "labels": labels(rows)}


@dataclass
class FusionCollator:
    """For the fused model; rows without words are marked so in `text_mask`, without sound in `audio_mask`."""

    processor: SerProcessor
    augmenter: Augmenter | None = None

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Shapes: as `SerProcessor`, and labels as `labels`."""
        batch = self.processor.features(clips(rows, self.augmenter), [row["transcript"] for row in rows])
        return {**batch, **statistics(rows), "labels": labels(rows)}


def text_inputs(tokenizer: PreTrainedTokenizerBase, texts: list[str | None]) -> dict[str, torch.Tensor]:
    """Inputs of a classifier that only reads; None is read as an empty text.

    Shapes:
        input_ids and attention_mask `(batch, tokens)`.
    """
    # A word tokenizer makes no token of an empty text: [UNK] stands for it, so that no row is without a position.
    empty = tokenizer.unk_token or tokenizer.pad_token
    texts = [(text or "").strip() or empty for text in texts]
    batch = tokenizer(texts, padding=True, padding_side="right", truncation=True, return_tensors="pt")
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}


def first_of_text(texts: Sequence[str | None]) -> np.ndarray:
    """For each text the first row that has the same, as `text_inputs` reads them; shape `(rows,)`."""
    found: dict[str, int] = {}
    return np.array([found.setdefault((text or "").strip(), row) for row, text in enumerate(texts)], dtype=int)


def clips(rows: list[dict[str, Any]], augmenter: Augmenter | None = None) -> list:
    """The decoded clips of some rows, each `(samples,)` float32 at 16 kHz; None where a row has no sound."""
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
