"""A trained model behind one call: audio and text in, calibrated probabilities out."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from datasets import Dataset
from scipy.special import softmax
from transformers import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from transformers.utils import logging

from hf_ser.inputs.collate import first_of_text
from hf_ser.inputs.speakers import enrolment_note, speaker_statistics
from hf_ser.models import SerConfig, SerPipeline
from hf_ser.models.configuration_ser import AUDIO, TEXT
from hf_ser.models.dimensions import within_scale
from hf_ser.models.last_layers import last_layers, layer_inputs, side_by_side
from hf_ser.models.pipeline_answers import check_finite
from hf_ser.revisions import checkpoint_config, clear_loading_errors, split_revision
from hf_ser.runs.checkpoints import load_model
from hf_ser.runs.record import read_record

FUSION = "fusion"


class Answers(NamedTuple):
    """What a model says of rows.

    Attributes:
        outputs: Class probabilities, followed by the dimensions if the model predicts any, `(rows, outputs)` float64.
        familiarity: How similar each row is to the training data; None if unknown.
    """

    outputs: np.ndarray
    familiarity: list[float | None]


class Classifier:
    """A model of audio, text or both, loaded with this package's code; the folder's own code is not run.

    Args:
        name: A model folder, or a Hub id with or without `@revision`.
        device: A torch device; None uses a GPU if there is one.

    Attributes:
        kind: `audio`, `text` or `fusion`.
        labels: Classes in the order of the columns of `probabilities`; empty for a model that predicts only dimensions.
        dimensions: Names of the dimensions that it predicts, such as valence; empty for most models.
        temperature: Divisor of the logits; 1.0 if the model was not calibrated.
        abstain_threshold: Confidence below which the model abstains; None if it never does.
        model: The model, in evaluation mode.
        speaker_front_end: Computes speaker statistics, for a model with per-speaker normalisation; else None. Such a
            model is less accurate without them.

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: weights are missing or not finite, files are damaged, or there is no such device.
    """

    def __init__(self, name: str, device: str | None = None):
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        self.name, config = name, checkpoint_config(name)
        is_text = type(config) in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
        model = load_model(AutoModelForSequenceClassification if is_text else AutoModelForAudioClassification, name)
        if isinstance(config, SerConfig):
            self.kind = FUSION if len(config.modalities) == 2 else config.modalities[0]
        else:
            self.kind = TEXT if is_text else AUDIO
        parts = {}
        if self.kind != TEXT:
            parts["feature_extractor"] = _load_component(AutoFeatureExtractor, name)
        if self.kind != AUDIO:
            parts["tokenizer"] = _load_component(AutoTokenizer, name)
        with clear_loading_errors(name):
            task, device = "audio-classification", checked_device(device)
            self.pipeline = SerPipeline(model=model, task=task, device=device, **parts)
        self.model, self.speaker_front_end = self.pipeline.model, self.pipeline.speaker_front_end
        config = self.model.config
        self.labels = [config.id2label[index] for index in range(config.num_labels)]
        self.dimensions = list(getattr(config, "dimensions", None) or ())
        self.temperature = getattr(config, "calibration_temperature", None) or 1.0
        self.abstain_threshold = getattr(config, "abstain_threshold", None)

    def probabilities(self, clips: Sequence, texts: Sequence, *args, **options) -> np.ndarray:
        """Class probabilities of each row; arguments as of `answers`.

        Shapes:
            `(rows, classes)` float64.

        Raises:
            ValueError: as the pipeline, or the model has no classes.
        """
        self.check_has_classes()
        return self.answers(clips, texts, *args, **options).outputs[:, : len(self.labels)]

    def check_has_classes(self) -> None:
        """Check that the model predicts classes.

        Raises:
            ValueError: it predicts only dimensions.
        """
        if not self.labels:
            raise ValueError(
                f"{self.name}: found a model that predicts {', '.join(self.dimensions)} and no classes. Expected one "
                "with classes, such as one that was trained with --target both: name another model."
            )

    def answers(
        self,
        clips: Sequence[np.ndarray | None],
        texts: Sequence[str | None],
        batch_size: int = 16,
        speaker_statistics: np.ndarray | None = None,
    ) -> Answers:
        """Classify rows.

        An audio-only model ignores texts, a text-only model ignores clips. A text-only model classifies each distinct
        text once, so that equal texts have equal answers.

        Args:
            clips: Audio of each row; None where it is missing.
            texts: Text of each row; None where it is missing.
            batch_size: Rows a forward pass, of similar length; no effect on the result beyond rounding.
            speaker_statistics: Statistics of each row's speaker, from `statistics_of_rows`; None without enrolment.

        Shapes:
            each clip `(samples,)` float32 at 16 kHz; speaker_statistics `(rows, 2, bands)`.

        Raises:
            ValueError: as the pipeline.
        """
        outputs, n_classes = np.empty((len(texts), len(self.labels) + len(self.dimensions))), len(self.labels)
        familiarity = np.full(len(texts), None)
        first = first_of_text(texts) if self.kind == TEXT else np.arange(len(texts))
        unique = np.unique(first)
        for part in self.batches([clips[row] for row in unique], [texts[row] for row in unique], batch_size):
            rows = unique[part]
            known = None if speaker_statistics is None else speaker_statistics[rows]
            some = [clips[row] for row in rows], [texts[row] for row in rows]
            with layer_inputs(last_layers(self.model) if self.pipeline.knows_training_data else {}) as given:
                outputs[rows] = self.forward(*some, known)
            if given:
                familiarity[rows] = self.pipeline.familiarity(side_by_side(given), *some)
        outputs = outputs[first]
        if n_classes:
            outputs[:, :n_classes] = softmax(outputs[:, :n_classes] / self.temperature, axis=-1)
        return Answers(outputs, familiarity[first].tolist())

    def batches(self, clips: Sequence, texts: Sequence, batch_size: int = 16) -> Iterator[np.ndarray]:
        """Yield the row positions of each forward pass: similar lengths together, the longest first."""
        if self.kind == TEXT:
            sizes = [len(text or "") for text in texts]
        else:
            sizes = [0 if clip is None else len(clip) for clip in clips]
        order = np.argsort(sizes, kind="stable")[::-1]
        for start in range(0, len(order), batch_size):
            yield order[start : start + batch_size]

    def forward(self, clips: list, texts: list, speaker_statistics: np.ndarray | None = None) -> np.ndarray:
        """Logits of rows in one forward pass, before the temperature, followed by the dimensions.

        Shapes:
            speaker_statistics `(rows, 2, bands)`; the result `(rows, outputs)` float64.

        Raises:
            ValueError: an output is not finite.
        """
        batch = self.pipeline.extract(clips, texts)
        if speaker_statistics is not None:
            batch["speaker_statistics"] = torch.from_numpy(speaker_statistics)
        with torch.inference_mode():
            answer = self.model(**{name: values.to(self.model.device) for name, values in batch.items()})
        outputs = answer.logits.double().cpu()
        if self.dimensions:
            outputs = torch.cat([outputs, within_scale(answer.dimensions.double().cpu())], dim=1)
        check_finite(outputs, self.name)
        return outputs.numpy()


def _load_component(auto_class, name: str):
    """Load the tokenizer or feature extractor of a model."""
    repository, revision = split_revision(name)
    with clear_loading_errors(name):
        return auto_class.from_pretrained(repository, revision=revision, trust_remote_code=False)


def checked_device(name: str | None) -> str:
    """Check the name of a device; None gives a GPU if there is one, else the CPU.

    Raises:
        ValueError: there is no such device.
    """
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        known = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        why = str(error).splitlines()[0]
        raise ValueError(f"device {name!r}: {why} Expected one of: {', '.join(known)}.") from error
    return name


def statistics_of_rows(
    classifier: Classifier, dataset: Dataset, rows: Sequence[int]
) -> tuple[np.ndarray | None, list[str]]:
    """Speaker statistics of some rows, computed as in training, for a model with per-speaker normalisation.

    Args:
        classifier: Any model.
        dataset: All rows of the speakers, with the labels of the model.
        rows: Indices of the rows.

    Returns:
        The statistics and a note on them; None and no note for a model without per-speaker normalisation.

    Shapes:
        `(rows, 2, bands)` float32.

    Raises:
        ValueError: a row has no speaker, or as `speaker_statistics`.
    """
    if classifier.speaker_front_end is None:
        return None, []
    names = dataset["speaker"][:]
    speakers = [names[row] for row in rows]
    if unknown := speakers.count(None):
        raise ValueError(
            f"{classifier.name} normalises each clip by its speaker, and {unknown} of {len(rows)} clips have no "
            "speaker. Expected a speaker for each: use data with speakers, or a model with another normalisation."
        )
    pool, (clips, seed) = dataset.select(rows_of_speakers(names, rows)), enrolment_settings(classifier)
    extractor = classifier.pipeline.feature_extractor
    known = speaker_statistics(pool, classifier.speaker_front_end, extractor, clips, seed)
    return np.stack([known[speaker] for speaker in speakers]), [enrolment_note(clips)]


def enrolment_settings(classifier: Classifier) -> tuple[int, int]:
    """Enrolment clips of each speaker in training (0 for all), and the seed that drew them."""
    record = read_record(classifier.name)
    return (record.settings.get("enrolment_clips", 0), record.seed or 0) if record else (0, 0)


def rows_of_speakers(names: Sequence[str | None], rows: Sequence[int]) -> list[int]:
    """All rows of the speakers of some rows; `names` holds the speaker of every row."""
    wanted = {names[row] for row in rows}
    return [row for row, name in enumerate(names) if name in wanted]
