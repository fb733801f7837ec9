"""From clips and words to a batch, in one place for training, evaluation and the pipeline."""

import numpy as np
import torch
from transformers import FeatureExtractionMixin, ProcessorMixin
from transformers.feature_extraction_utils import BatchFeature

from .front_end import trimmed

MIN_SECONDS = 0.25
"""Shorter clips are padded with silence to this length, the least that all encoders (wav2vec2's masking) can take."""


def extract_audio(feature_extractor: FeatureExtractionMixin, clips: list[np.ndarray]) -> dict[str, torch.Tensor]:
    """Run any encoder's feature extractor on a batch of clips; each row is what it would be alone, but for padding.

    Where the extractor has the attribute `trim_silence`, both ends of a clip lose their silence; where it has
    `max_seconds`, longer clips keep their beginning.

    Shapes:
        clips: list of `(samples,)` float32 at the extractor's rate;
        returns `input_values` or `input_features` by the extractor's own name, and `attention_mask`
        `(batch, samples)` for waveforms, `(batch, feature frames)` otherwise.
    """
    rate = feature_extractor.sampling_rate
    max_seconds = getattr(feature_extractor, "max_seconds", None)
    longest = int(max_seconds * rate) if max_seconds else None
    clips = [np.asarray(clip, dtype=np.float32) for clip in clips]
    if getattr(feature_extractor, "trim_silence", False):
        clips = [trimmed(clip, rate) for clip in clips]
    clips = [_at_least(clip[:longest], int(MIN_SECONDS * rate)) for clip in clips]
    kind = feature_extractor.__class__.__name__
    if kind == "WhisperFeatureExtractor":
        return dict(feature_extractor(clips, sampling_rate=rate, return_attention_mask=True, return_tensors="pt"))
    if kind == "ASTFeatureExtractor":
        batch = dict(feature_extractor(clips, sampling_rate=rate, return_tensors="pt"))
        # Kaldi's frames: 25 ms every 10 ms, whole windows only.
        frames = torch.tensor([1 + (len(clip) - int(0.025 * rate)) // int(0.010 * rate) for clip in clips])
        mask = torch.arange(feature_extractor.max_length)[None] < frames[:, None]
        return {**batch, "attention_mask": mask.long()}
    return dict(
        feature_extractor(clips, sampling_rate=rate, padding=True, return_attention_mask=True, return_tensors="pt")
    )


def audio_inputs(feature_extractor: FeatureExtractionMixin, clips: list[np.ndarray | None]) -> dict[str, torch.Tensor]:
    """`extract_audio` under the names that our models take; None is a row without sound.

    Shapes:
        input_values: as the encoder takes them; audio_mask: `(batch, samples or feature frames)`.
    """
    silence = np.zeros(int(MIN_SECONDS * feature_extractor.sampling_rate), dtype=np.float32)
    batch = extract_audio(feature_extractor, [silence if clip is None else clip for clip in clips])
    mask = batch["attention_mask"]
    mask[[clip is None for clip in clips]] = 0
    values = batch["input_values"] if "input_values" in batch else batch["input_features"]
    return {"input_values": values, "audio_mask": mask}


def classifier_inputs(feature_extractor: FeatureExtractionMixin, clips: list[np.ndarray]) -> dict[str, torch.Tensor]:
    """`extract_audio` for transformers' own classifiers, without the mask where the encoder was trained without one."""
    batch = extract_audio(feature_extractor, clips)
    if feature_extractor.__class__.__name__ in ("WhisperFeatureExtractor", "ASTFeatureExtractor"):
        del batch["attention_mask"]
    return batch


def _at_least(clip: np.ndarray, samples: int) -> np.ndarray:
    return clip if len(clip) >= samples else np.pad(clip, (0, samples - len(clip)))


class SerProcessor(ProcessorMixin):
    """Feature extractor and tokenizer of a fused model as one.

    Args:
        feature_extractor: Of the audio encoder.
        tokenizer: Of the text encoder.
    """

    feature_extractor_class = "AutoFeatureExtractor"
    tokenizer_class = "AutoTokenizer"

    def __init__(self, feature_extractor, tokenizer):
        super().__init__(feature_extractor, tokenizer)

    def __call__(self, audio=None, text=None, **kwargs) -> BatchFeature:
        """Make the model's inputs; a None inside either list is a row without that modality.

        Args:
            audio: List of `(samples,)` arrays at the extractor's rate, or one array, or None.
            text: List of strings, or one string, or None. An empty string counts as no words.

        Shapes:
            `input_values` and `audio_mask` as `audio_inputs` gives them; `input_ids`, `text_mask`: `(batch, tokens)`.

        Raises:
            ValueError: both lists are given with different lengths.
        """
        audio = [audio] if isinstance(audio, np.ndarray) else audio
        text = [text] if isinstance(text, str) else text
        if audio is not None and text is not None and len(audio) != len(text):
            raise ValueError(f"{len(audio)} clips, {len(text)} texts: expected one text a clip (None where unknown).")
        batch = {}
        if audio is not None:
            batch |= audio_inputs(self.feature_extractor, audio)
        if text is not None:
            batch |= self._text_inputs(text)
        return BatchFeature(batch)

    def _text_inputs(self, text: list) -> dict[str, torch.Tensor]:
        words = [(item or "").strip() for item in text]
        # padding_side is fixed: our GRU reads its text from the left end.
        batch = self.tokenizer(words, padding=True, padding_side="right", truncation=True, return_tensors="pt")
        if batch["input_ids"].shape[1] == 0:  # a word tokenizer adds nothing to an empty text
            batch["input_ids"] = torch.full((len(words), 1), self.tokenizer.pad_token_id)
            batch["attention_mask"] = torch.zeros(len(words), 1, dtype=torch.long)
        mask = batch["attention_mask"]
        mask[[not item for item in words]] = 0
        return {"input_ids": batch["input_ids"].long(), "text_mask": mask}

    @property
    def model_input_names(self) -> list[str]:
        return ["input_values", "audio_mask", "input_ids", "text_mask"]
