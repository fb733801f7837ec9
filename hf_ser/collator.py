"""Rows of a data set to a batch: decoding, extraction and padding happen here, in the loader's workers."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import FeatureExtractionMixin, PreTrainedTokenizerBase

from hf_ser.models.decoding import decode_audio
from hf_ser.models.processing_ser import SerProcessor, classifier_inputs


@dataclass
class AudioCollator:
    """For a classifier that only hears."""

    feature_extractor: FeatureExtractionMixin

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Shapes: as `classifier_inputs`, and labels as `labels`."""
        return {**classifier_inputs(self.feature_extractor, clips(rows)), "labels": labels(rows)}


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

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Shapes: as `SerProcessor`, and labels as `labels`."""
        batch = self.processor(audio=clips(rows), text=[row["transcript"] for row in rows])
        return {**batch, "labels": labels(rows)}


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


def clips(rows: list[dict[str, Any]]) -> list:
    """The decoded clips of some rows, each `(samples,)` float32 at 16 kHz; None where a row has no sound."""
    return [None if row["audio"] is None else decode_audio(row["audio"]) for row in rows]


def labels(rows: list[dict[str, Any]]) -> torch.Tensor:
    """The rows' targets, `(batch, classes)` float32, where they carry any (`with_target`), else `(batch,)` int64."""
    return torch.tensor([row["target"] if "target" in row else row["label"] for row in rows])
