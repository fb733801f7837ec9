"""From audio and text to a batch, in one place for training, evaluation and the pipeline."""

from numbers import Real
from pathlib import Path

import numpy as np
import torch
from transformers import FeatureExtractionMixin, ProcessorMixin
from transformers.feature_extraction_utils import BatchFeature

from .decoding import decode_audio
from .encoders import MIN_SECONDS, family_of_extractor
from .samples import resample, trimmed
from .source_kinds import is_rate_and_array, one_clip


def extract_audio(feature_extractor: FeatureExtractionMixin, clips: list[np.ndarray]) -> dict[str, torch.Tensor]:
    """Run any encoder's feature extractor on a batch of clips; each row is what it would be alone, but for padding.

    Where the extractor has the attribute `trim_silence`, both ends of a clip lose their silence; where it has
    `max_seconds`, longer clips keep their beginning; where it has `speeds`, a clip is given once at each of them.

    Shapes:
        clips: list of `(samples,)` float32 at the extractor's rate;
        returns `input_values` or `input_features` by the extractor's own name, and `attention_mask`
        `(batch, samples)` for waveforms, `(batch, feature frames)` otherwise; with speeds `(batch, speeds, ...)`.
    """
    rate = feature_extractor.sampling_rate
    max_seconds = getattr(feature_extractor, "max_seconds", None)
    longest = int(max_seconds * rate) if max_seconds else None
    clips = [np.asarray(clip, dtype=np.float32) for clip in clips]
    if getattr(feature_extractor, "trim_silence", False):
        clips = [trimmed(clip, rate) for clip in clips]
    speeds = getattr(feature_extractor, "speeds", None)
    views = [at_speed(clip, rate, speed) for clip in clips for speed in speeds or (1.0,)]
    views = [_at_least(view[:longest], int(MIN_SECONDS * rate)) for view in views]
    batch = family_of_extractor(feature_extractor).inputs(feature_extractor, views)
    if speeds:
        batch = {name: values.unflatten(0, (len(clips), len(speeds))) for name, values in batch.items()}
    return batch


def at_speed(clip: np.ndarray, sampling_rate: int, speed: float) -> np.ndarray:
    """A clip played faster (above 1) or slower: its length and its pitch change together."""
    return resample(clip, speed * sampling_rate, sampling_rate)


def longest_seconds(feature_extractor: FeatureExtractionMixin) -> float | None:
    """How much of a clip an extractor takes: what comes after it is cut off; None where nothing is.

    At several speeds it is what the fastest takes, which reaches furthest into the clip.
    """
    own = family_of_extractor(feature_extractor).longest_seconds(feature_extractor)
    limits = [limit for limit in (getattr(feature_extractor, "max_seconds", None), own) if limit]
    return min(limits) * max(getattr(feature_extractor, "speeds", None) or (1.0,)) if limits else None


def seconds_to_read(feature_extractor: FeatureExtractionMixin) -> float | None:
    """How much of a file an extractor has to see; None is all of it, since its loudest place says what is silence."""
    return None if getattr(feature_extractor, "trim_silence", False) else longest_seconds(feature_extractor)


def one_text(text) -> str | None:
    """A text, or None where it is missing, as pandas writes it too (NaN, NA).

    Raises:
        ValueError: it is no text.
    """
    if isinstance(text, str):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"text is {text[:100]!r}, with half of a surrogate pair at {error.start}: expected Unicode. Read it as "
                "UTF-8 from where it comes, or leave these characters out."
            ) from error
    if text is None or isinstance(text, str):
        return text
    if str(text) in ("nan", "<NA>", "NaT"):
        return None
    raise ValueError(f"text is {text!r} ({type(text).__name__}): expected a text, or None where it is not known.")


def has_known_word(tokenizer, ids: list[int]) -> bool:
    """Whether a text has any token but the one for unknown words; special tokens of other vocabularies count as some.

    Args:
        tokenizer: What made the tokens.
        ids: The tokens of the text.
    """
    return any(token != tokenizer.unk_token_id for token in ids)


def audio_inputs(feature_extractor: FeatureExtractionMixin, clips: list[np.ndarray | None]) -> dict[str, torch.Tensor]:
    """`extract_audio` under the names that our models take; None is a row without audio.

    Shapes:
        input_values: as the encoder takes them; audio_mask: `(batch, samples or feature frames)`; of an extractor
        with speeds both `(batch, speeds, ...)`.
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
    if not family_of_extractor(feature_extractor).takes_mask:
        del batch["attention_mask"]
    return batch


def _at_least(clip: np.ndarray, samples: int) -> np.ndarray:
    return clip if len(clip) >= samples else np.pad(clip, (0, samples - len(clip)))


def is_one_clip(inputs) -> bool:
    """Whether what was given is one clip, not several."""
    if isinstance(inputs, str | Path | bytes | bytearray | memoryview | dict | np.ndarray | torch.Tensor):
        return True
    if isinstance(inputs, list) and inputs and all(isinstance(sample, Real) for sample in inputs[:2]):
        return True  # samples as a list
    return hasattr(inputs, "read") or hasattr(inputs, "get_all_samples") or is_rate_and_array(inputs)


def with_rate(clip, sampling_rate: float):
    """A bare array with its rate; any other form of a clip as it is.

    Raises:
        ValueError: an array of several clips.
    """
    if isinstance(clip, list):
        clip = np.asarray(clip)
    if isinstance(clip, np.ndarray | torch.Tensor):
        return {"array": one_clip(clip), "sampling_rate": sampling_rate}
    return clip


class SerProcessor(ProcessorMixin):
    """Feature extractor and tokenizer of a model as one; of a model of one modality the other is None.

    Args:
        feature_extractor: Of the audio encoder.
        tokenizer: Of the text encoder.
    """

    def __init__(self, feature_extractor=None, tokenizer=None):
        if feature_extractor is not None and tokenizer is not None:
            super().__init__(feature_extractor, tokenizer)
        else:  # ProcessorMixin wants all of its parts
            self.feature_extractor, self.tokenizer, self.chat_template = feature_extractor, tokenizer, None

    def __call__(
        self, audio=None, text=None, sampling_rate: float | None = None, return_tensors: str = "pt", padding=True
    ) -> BatchFeature:
        """Make the model's inputs; a None inside either list is a row without that modality.

        Args:
            audio: List of clips, or one, or None. A clip is a `(samples,)` array, or what `decode_audio` takes.
            text: List of strings, or one string, or None. An empty string, and NaN or NA of pandas, is no text.
            sampling_rate: Hz of the arrays, which are resampled where the extractor has another; by default they have
                the extractor's.
            return_tensors, padding: As other processors take them, which here have one value.

        Shapes:
            `input_values` and `audio_mask` as `audio_inputs` gives them; `input_ids`, `text_mask`: `(batch, tokens)`.

        Raises:
            TypeError: an argument that is not known.
            ValueError: both lists are given with different lengths, a clip that `decode_audio` refuses, several clips
                in one array, a modality that the model does not have, or tensors of another kind.
        """
        if return_tensors != "pt" or padding not in (True, "longest"):
            raise ValueError(
                f"return_tensors={return_tensors!r}, padding={padding!r}: expected 'pt' and True, leave them out."
            )
        if audio is not None and self.feature_extractor is not None:
            rate = self.feature_extractor.sampling_rate
            audio = [audio] if is_one_clip(audio) else list(audio)
            audio = [
                None if clip is None else decode_audio(with_rate(clip, sampling_rate or rate), rate) for clip in audio
            ]
        return self.features(audio, [text] if isinstance(text, str) else text)

    def features(
        self, audio: list[np.ndarray | None] | None, text: list | None, context: list[list[str]] | None = None
    ) -> BatchFeature:
        """Make the model's inputs of decoded clips, and of texts, with the previous turns of their dialogues if given.

        Where there is a tokenizer alone, a missing text is read as an empty one: the row has nothing else.

        Raises:
            ValueError: the lists have different lengths, or one is of a modality that the model does not have.
        """
        for name, given, part in (("audio", audio, self.feature_extractor), ("text", text, self.tokenizer)):
            if given is not None and part is None:
                raise ValueError(f"Found {name} for a model that does not take it: leave it out.")
        if audio is not None and text is not None and len(audio) != len(text):
            raise ValueError(f"{len(audio)} clips, {len(text)} texts: expected one text a clip (None where unknown).")
        batch = {}
        if audio is not None:
            batch |= audio_inputs(self.feature_extractor, audio)
        if text is not None:
            has_audio = None if audio is None else [one is not None for one in audio]
            batch |= self.text_features(text, has_audio, context)
        return BatchFeature(batch)

    def text_features(
        self, text: list, has_audio: list[bool] | None = None, context: list[list[str]] | None = None
    ) -> dict[str, torch.Tensor]:
        """Make the inputs of the text encoder; beside audio, a text of unknown words alone counts as missing.

        Args:
            text: The texts, None where one is missing.
            has_audio: Which rows have audio; None: no row.
            context: Previous turns of each text's dialogue, for a model that reads them.
        """
        if context is not None:
            return self.text_with_context(text, has_audio, context)
        batch = text_inputs(self.tokenizer, text, self.feature_extractor is None)
        if self.feature_extractor is not None:
            for row, ids in enumerate(batch["input_ids"]):
                if has_audio is not None and has_audio[row]:  # else the row would have nothing
                    known = has_known_word(self.tokenizer, ids[batch["text_mask"][row].bool()].tolist())
                    batch["text_mask"][row] *= known
        return batch

    def text_with_context(self, text: list, has_audio: list[bool] | None, context: list[list[str]]) -> dict:
        """`text_features` of the texts, each with the previous turns of its dialogue behind it.

        Shapes: `(batch, 1 + turns, tokens)`.
        """
        width = 1 + max(map(len, context), default=0)
        rows = [[one, *turns, *[None] * (width - 1 - len(turns))] for one, turns in zip(text, context, strict=True)]
        has_audio = [one for one in has_audio or [False] * len(rows) for _ in range(width)]
        batch = self.text_features([one for row in rows for one in row], has_audio)
        batch = {name: values.unflatten(0, (len(rows), width)) for name, values in batch.items()}
        # A turn that is not there is none; the text itself of a model of text alone is read as an unknown word.
        is_there = torch.tensor([[bool(one) for one in row[1:]] for row in rows], dtype=torch.bool)
        batch["text_mask"][:, 1:] *= is_there[..., None]
        return batch

    def save_pretrained(self, save_directory, **kwargs):
        """As ProcessorMixin's; one part alone is saved as what it is, which its own Auto class loads."""
        if self.feature_extractor is not None and self.tokenizer is not None:
            return super().save_pretrained(save_directory, **kwargs)
        return (self.feature_extractor or self.tokenizer).save_pretrained(save_directory, **kwargs)

    @property
    def model_input_names(self) -> list[str]:
        names = ["input_values", "audio_mask"] * (self.feature_extractor is not None)
        return names + ["input_ids", "text_mask"] * (self.tokenizer is not None)


def text_inputs(tokenizer, texts: list, empty_is_text: bool = False) -> dict[str, torch.Tensor]:
    """Tokens of texts under the names that our models take.

    Args:
        tokenizer: Of the text encoder.
        texts: Strings; None, an empty one, NaN and NA are no text.
        empty_is_text: Read those as one unknown word, so that each row has something.

    Shapes:
        input_ids, text_mask: `(batch, tokens)`, padded on the right.
    """
    texts = [(one_text(item) or "").strip() for item in texts]
    if empty_is_text:
        texts = [text or tokenizer.unk_token or tokenizer.pad_token for text in texts]
    # padding_side is fixed: our recurrent networks read a text from the left end.
    batch = tokenizer(texts, padding=True, padding_side="right", truncation=True, return_tensors="pt")
    if batch["input_ids"].shape[1] == 0:  # a word tokenizer adds nothing to an empty text
        batch["input_ids"] = torch.full((len(texts), 1), tokenizer.pad_token_id)
        batch["attention_mask"] = torch.zeros(len(texts), 1, dtype=torch.long)
    mask = batch["attention_mask"]
    mask[[not text for text in texts]] = 0
    return {"input_ids": batch["input_ids"].long(), "text_mask": mask}
