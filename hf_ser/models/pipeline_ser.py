"""`pipeline("audio-classification")` for our models: any audio file without ffmpeg, words if known, all labels."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from transformers import Pipeline

from .decoding import decode_audio
from .encoders import ignore_padding
from .front_end import SpectrogramFrontEnd
from .processing_ser import SerProcessor, audio_inputs, classifier_inputs

ENROLMENT_BATCH = 16


class SerPipeline(Pipeline):
    """Emotion of one clip or many, from the sound and, where given, the words."""

    _load_tokenizer = True
    _load_feature_extractor = True
    _load_processor = False
    _load_image_processor = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.model.eval()  # `pipeline(model=object)` leaves dropout on

    def __call__(
        self,
        inputs,
        text=None,
        top_k: int | None = None,
        batch_size: int | None = None,
        enrolment=None,
        speaker_statistics: torch.Tensor | None = None,
    ):
        """Classify.

        Args:
            inputs: A path, bytes, a binary file object, a one-dimensional array at the model's rate, or a dictionary
                (`array` or `raw` with `sampling_rate`; `bytes`; `path`; optionally `text`); or several of those as a
                list, a generator or a data set.
            text: The words of the clip; of several clips a list of them (None where unknown).
            top_k: Keep only so many labels; all by default.
            batch_size: Clips per forward pass; the result does not depend on it beyond rounding.
            enrolment: Other clips of the one speaker of all inputs, for a model that was trained with per-speaker
                normalisation, which was tested so; without them each clip is normalised by itself (of functionals, by
                the training speakers).
            speaker_statistics: What the method of this name made of the enrolment clips, for many calls; `(2, bands)`.

        Returns:
            A list of `{"label", "score"}` with falling scores; for several clips, a list of such lists.

        Raises:
            FileNotFoundError, ValueError: an input cannot be read, the texts are not one a clip, or the model has no
                use for enrolment clips.
        """
        statistics = speaker_statistics if enrolment is None else self.speaker_statistics(enrolment)
        single = _is_single(inputs)
        items, texts = _listed(inputs, text, single)
        size = batch_size or self._batch_size or 1
        top_k = top_k or self._postprocess_params.get("top_k")
        answers = []
        for start in range(0, len(items), size):
            batch = self.preprocess(items[start : start + size], texts[start : start + size])
            if statistics is not None:
                batch["speaker_statistics"] = statistics.expand(len(items[start : start + size]), -1, -1)
            answers += self.postprocess(self.forward(batch), top_k=top_k)
        return answers[0] if single else answers

    def _sanitize_parameters(self, top_k: int | None = None):
        return {}, {}, {"top_k": top_k}

    def preprocess(self, items: list, texts: list) -> dict:
        """Decode and extract a batch of clips with their words."""
        words = [
            item.get("text") if said is None and isinstance(item, dict) else said
            for item, said in zip(items, texts, strict=True)
        ]
        processor = SerProcessor(self.feature_extractor, self.tokenizer)
        sounds = [None if item is None else self.decode(item) for item in items]
        return dict(processor(audio=sounds, text=words))

    def speaker_statistics(self, enrolment) -> torch.Tensor:
        """Mean and deviation of each band over one clip or more of a speaker, `(2, bands)`, as in evaluation.

        Raises:
            ValueError: the model is not normalised by speaker, or there is no clip.
        """
        front_end = self.speaker_front_end
        if front_end is None:
            raise ValueError(
                "Enrolment clips were given to a model that was not trained with --normalisation speaker: leave out "
                "`enrolment`."
            )
        items = _listed(enrolment, None, _is_single(enrolment))[0]
        if not items:
            raise ValueError("0 enrolment clips: expected one or more, or leave out `enrolment`.")
        return front_end.speaker_scaling(front_end.moments(self._sounds(items)))

    @property
    def speaker_front_end(self) -> SpectrogramFrontEnd | None:
        """That of a model that was trained with per-speaker normalisation; None of any other."""
        front_end = getattr(getattr(self.model, "audio_encoder", None), "front_end", None)
        return front_end if getattr(front_end, "normalisation", None) == "speaker" else None

    def _sounds(self, items: list) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Shapes: waveforms and mask `(batch, samples)`."""
        for start in range(0, len(items), ENROLMENT_BATCH):
            clips = [self.decode(item) for item in items[start : start + ENROLMENT_BATCH]]
            batch = audio_inputs(self.feature_extractor, clips)
            yield batch["input_values"].to(self.device), batch["audio_mask"].to(self.device)

    def decode(self, item) -> np.ndarray:
        """One input to `(samples,)` float32 at the model's rate."""
        rate = self.feature_extractor.sampling_rate
        if isinstance(item, torch.Tensor):
            item = item.detach().cpu().numpy()
        if isinstance(item, np.ndarray):
            # As in transformers, a bare array is taken at the model's own rate.
            item = {"array": item, "sampling_rate": rate}
        clip = decode_audio(item, rate)
        if not len(clip) or not np.isfinite(clip).all():
            found = "no samples" if not len(clip) else "NaN or infinity"
            named = item if isinstance(item, str | Path) else f"a clip given as {type(item).__name__}"
            raise ValueError(f"{named}: expected sound, found {found}. Leave it out, or record it again.")
        return clip

    def _forward(self, model_inputs: dict):
        return self.model(**model_inputs)

    def postprocess(self, model_outputs, top_k: int | None = None) -> list[list[dict]]:
        """Logits `(batch, classes)` to labels with scores, calibrated where validation speakers gave a temperature."""
        names = self.model.config.id2label
        temperature = getattr(self.model.config, "calibration_temperature", None) or 1.0
        probabilities = (model_outputs["logits"].float() / temperature).softmax(-1)
        return [
            [{"label": names[int(i)], "score": float(row[i])} for i in row.argsort(descending=True)[:top_k]]
            for row in probabilities
        ]


class SerAudioPipeline(SerPipeline):
    """The same for a model that only hears: ours, and transformers' own audio classifiers."""

    _load_tokenizer = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.is_ours = self.model.config.model_type == "ser_audio"
        if not self.is_ours:
            ignore_padding(self.model)

    def preprocess(self, items: list, texts: list) -> dict:
        """Decode and extract a batch of clips; words are refused, for the model cannot use them."""
        if any(said is not None for said in texts):
            raise ValueError("This model was trained on sound alone: leave out `text`, or load a fused model.")
        make = audio_inputs if self.is_ours else classifier_inputs
        return make(self.feature_extractor, [self.decode(item) for item in items])


def _is_single(inputs) -> bool:
    return isinstance(inputs, str | Path | bytes | dict | np.ndarray | torch.Tensor) or hasattr(inputs, "read")


def _listed(inputs, text, single: bool) -> tuple[list, list]:
    """Clips and texts as two lists of one length."""
    if single:
        items = [inputs]
    else:
        items = list(inputs) if isinstance(inputs, Iterable) else [inputs[i] for i in range(len(inputs))]
    if text is None:
        return items, [None] * len(items)
    texts = [text] if single and isinstance(text, str) else text
    if isinstance(texts, str) or single is not isinstance(text, str) or len(texts := list(texts)) != len(items):
        found = "one text" if isinstance(text, str) else f"{len(text)} texts in a list"
        clips = "one clip" if single else f"a list of {len(items)} clips"
        raise ValueError(
            f"{clips} and {found}: expected one text for one clip, or as many as clips (None where unknown)."
        )
    return items, texts
