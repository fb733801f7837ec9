"""A trained model as ONNX in a folder with one file of Python that runs it without torch."""

import json
import logging
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from filelock import FileLock
from transformers import PreTrainedTokenizerBase

from hf_ser.checks.stress.run import balanced_sample, load_as_trained, untrained_rows, usable_rows
from hf_ser.data.corpora import synthetic
from hf_ser.deploy import onnx_ser
from hf_ser.deploy.onnx_graph import WaveformModel
from hf_ser.files import atomic_write, hidden_sibling, replace_folder, temporary_folder
from hf_ser.models import SerConfig
from hf_ser.models.configuration_ser import AUDIO, TEXT
from hf_ser.models.decoding import decode_audio
from hf_ser.models.encoders import MIN_SECONDS
from hf_ser.runs.classifier import Classifier
from hf_ser.runs.record import hashed, read_record
from hf_ser.runs.scores import uar_from_confusion

LARGEST_DIFFERENCE = 1e-4
"""In probability, between torch and onnxruntime; more is refused."""
LARGEST_DIFFERENCE_OF_COUNTS = 1e-3
"""The same of functionals and random kernels. Among them are shares of frames above a threshold: a value that is at it
but for rounding may count here and not there, and of 2,000 shares one or none differed by one frame on each clip."""
MOST_UAR_LOST = 0.01
"""By smaller weights; more is refused."""
QUANTISED = ("MatMul",)
"""Operations whose weights become int8: models whose convolutions were quantised gave the same answer to all clips."""
LEAST_HALVED = 1024
"""Values of a weight that is stored in half precision; fewer would save nothing."""
CHECKED_CLIPS = ((1, 1), (2, 2), (3, 5), (4, 7))
"""Speakers and clips of the generated corpus on which both programs are compared."""


@dataclass(frozen=True)
class Measured:
    """How a program did on clips with labels: its UAR, and processor milliseconds a clip, one clip at a time."""

    clips: int
    uar: float
    milliseconds: float


@dataclass(frozen=True)
class Exported:
    """What an export came to.

    Args:
        folder: Where it is.
        megabytes: Size of the ONNX file.
        difference: Largest difference in probability between torch and the float32 file, on `checked` answers.
        measured: By program (`torch`, `float32`, `int8` or `fp16`), where a data set was named.
        notes: What a person should know of it.
    """

    folder: Path
    megabytes: float
    difference: float
    checked: int
    measured: dict[str, Measured]
    notes: tuple[str, ...]


def export_onnx(
    model: str,
    folder: str | Path,
    quantize: str | None = None,
    dataset: str | Path | None = None,
    max_clips: int | None = None,
) -> Exported:
    """Write a model as ONNX; the folder appears whole or not at all.

    Args:
        model: Folder or Hub id of a model of audio, or of audio and text.
        folder: Where it is written; an older export there is replaced.
        quantize: One of `SMALLER`: `int8` for int8 weights of the matrix products, `fp16` to store weights in half
            precision, which are computed with in float32.
        dataset: Prepared data set on whose clips smaller weights are tested: the model's validation clips where they
            are in it, else clips that it was not trained on.
        max_clips: Take at most so many of them.

    Raises:
        ImportError: onnx, onnxscript or onnxruntime is missing.
        ValueError: a model that cannot be exported, whose export answers something else, or whose smaller weights lose
            too much; or the folder holds something else.
    """
    import onnxscript  # noqa: F401  (named when it is missing, before anything is done)

    folder = Path(folder)
    check_replaceable(folder)
    classifier = exportable(model)
    with FileLock(hidden_sibling(folder, "lock")), temporary_folder(folder.parent, folder.name) as work:
        save_graph(classifier, work / onnx_ser.WEIGHTS)
        settings = write_runtime(classifier, work)
        difference, checked = check_same_answers(classifier, work)
        measured, notes = {}, []
        if classifier.speaker_front_end is not None:
            notes.append("enrolment clips are not exported: answers are those of the model without them")
        if classifier.dimensions:
            notes.append(f"classes alone are exported: {', '.join(classifier.dimensions)} are left out")
        clips = gate_clips(classifier, dataset, max_clips) if dataset else None
        if clips is not None:
            measured["torch"] = measure(clips, lambda *batch: classifier.probabilities(*batch, batch_size=1))
            measured["float32"] = measure(clips, onnx_ser.OnnxSer(work, threads=1).probabilities)
        if quantize:
            SMALLER[quantize](work)
            settings["weights"] = quantize
            if clips is None:
                notes.append(f"the {quantize} weights were not tested: name clips with labels by --dataset")
            else:
                measured[quantize] = measure(clips, onnx_ser.OnnxSer(work, threads=1).probabilities)
                check_uar(measured["float32"], measured[quantize], quantize)
        settings["checked"] = {"largest_difference": difference, "answers": checked} | {
            name: asdict(one) for name, one in measured.items()
        }
        write_settings(settings, work)
        megabytes = (work / onnx_ser.WEIGHTS).stat().st_size / 1e6
        replace_folder(work, folder)
    return Exported(folder, megabytes, difference, checked, measured, tuple(notes))


def check_replaceable(folder: Path) -> None:
    """Make sure that nothing but an older export would be replaced.

    Raises:
        ValueError: there is something else.
    """
    if folder.exists() and not (folder / onnx_ser.SETTINGS).is_file() and (folder.is_file() or any(folder.iterdir())):
        raise ValueError(f"{folder}: found other files. Expected none, or an older export: name another folder.")


def exportable(model: str) -> Classifier:
    """Load a model that can be exported.

    Raises:
        ValueError: one of text alone or of dimensions alone, or none of ours.
    """
    classifier = Classifier(model, "cpu")
    config = classifier.model.config
    if not isinstance(config, SerConfig) or AUDIO not in config.modalities:
        kind = "a text-only model" if classifier.kind == TEXT else f"a {config.model_type} classifier of transformers"
        raise ValueError(f"{model}: found {kind}. Expected a model of train_audio.py or train_fusion.py: name one.")
    classifier.check_has_classes()
    return classifier


def save_graph(classifier: Classifier, file: Path) -> None:
    """Write a model as an ONNX file for any number of clips and, where its family takes any, any length.

    Raises:
        ValueError: torch cannot export it.
    """
    module = WaveformModel(classifier.model, classifier.pipeline.feature_extractor)
    given = example_inputs(classifier, module.features.padded_samples)
    any_size = torch.export.Dim.DYNAMIC
    shapes = {name: {0: any_size} for name in given}
    if module.features.padded_samples is None:
        shapes["waveform"][given["waveform"].dim() - 1] = any_size
    for name in ("input_ids", "text_mask"):
        if name in shapes:
            shapes[name][1] = any_size
    try:
        with torch.no_grad(), warnings.catch_warnings(action="ignore"), quiet("torch.onnx", "onnxscript", "onnx_ir"):
            program = torch.onnx.export(
                module,
                kwargs=given,
                dynamo=True,
                dynamic_shapes=shapes,
                input_names=list(given),
                output_names=["logits"],
                verbose=False,
            )
            program.save(file)
    except Exception as error:  # torch has many
        why = str(error).strip().splitlines()[0][:300]
        raise ValueError(
            f"{classifier.name}: torch cannot export this model ({type(error).__name__}: {why}). Expected one without "
            "shapes that depend on values, as front ends with image_size have them, and without parts of a file of "
            "your own that ONNX lacks: choose another, or deploy it with scripts/serve.py, which runs torch."
        ) from error


@contextmanager
def quiet(*names: str) -> Iterator[None]:
    """Only errors of libraries that report each step."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def example_inputs(classifier: Classifier, padded_samples: int | None) -> dict[str, torch.Tensor]:
    """Inputs that torch traces the model with: noise, and tokens where it takes text."""
    extractor = classifier.pipeline.feature_extractor
    speeds = getattr(extractor, "speeds", None)
    shape = (2, len(speeds)) if speeds else (2,)
    length = padded_samples or extractor.sampling_rate
    draw = torch.Generator().manual_seed(0)
    given = {
        "waveform": 0.1 * torch.randn(*shape, length, generator=draw),
        "samples": torch.full(shape, length) - torch.arange(2).reshape(-1, *[1] * (len(shape) - 1)) * (length // 4),
    }
    if TEXT in classifier.model.config.modalities:
        given |= {"input_ids": torch.full((2, 5), 1), "text_mask": torch.tensor([[1] * 5, [1] * 3 + [0] * 2])}
    return given


def write_runtime(classifier: Classifier, folder: Path) -> dict:
    """Write what `OnnxSer` needs beside the graph: itself, the settings, which are returned, and the tokenizer."""
    config, extractor = classifier.model.config, classifier.pipeline.feature_extractor
    rate, seconds = extractor.sampling_rate, getattr(extractor, "max_seconds", None)
    padded = WaveformModel(classifier.model, extractor).features.padded_samples
    settings = {
        "format": onnx_ser.FORMAT,
        "model": Path(classifier.name).name,
        "labels": classifier.labels,
        "modalities": list(config.modalities),
        "sampling_rate": rate,
        "temperature": classifier.temperature,
        "abstain_threshold": classifier.abstain_threshold,
        "weights": "float32",
        "audio": {
            "padded_samples": padded,
            "max_samples": int(seconds * rate) if seconds else None,
            "min_samples": int(MIN_SECONDS * rate),
            "trim_silence": bool(getattr(extractor, "trim_silence", False)),
            "speeds": list(getattr(extractor, "speeds", None) or []) or None,
        },
        "text": None,
    }
    if TEXT in config.modalities:
        settings["text"] = write_tokenizer(classifier.pipeline.tokenizer, folder)
    shutil.copyfile(onnx_ser.__file__, folder / Path(onnx_ser.__file__).name)
    write_settings(settings, folder)
    return settings


def write_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> dict:
    """Write a tokenizer as the library `tokenizers` reads it; returns what else has to be known of it.

    Raises:
        ValueError: it is none of that library.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(f"{type(tokenizer).__name__}: expected a tokenizer with a tokenizer.json: convert it.")
    tokenizer.backend_tokenizer.save(str(folder / onnx_ser.TOKENIZER))
    longest = tokenizer.model_max_length
    return {
        "max_tokens": int(longest) if longest < 1e9 else None,
        "pad_id": tokenizer.pad_token_id,
        "unknown_id": tokenizer.unk_token_id,
    }


def write_settings(settings: dict, folder: Path) -> None:
    """Write the settings as JSON."""
    with atomic_write(folder / onnx_ser.SETTINGS) as file:
        json.dump(settings, file, indent=2, ensure_ascii=False, allow_nan=False)


def check_same_answers(classifier: Classifier, folder: Path) -> tuple[float, int]:
    """The largest difference in probability between torch, clip by clip, and the export, in one batch; and of how many.

    Raises:
        ValueError: it is too large.
    """
    spoken = [synthetic.utterance(*one) for one in CHECKED_CLIPS]
    clips, texts = [one.audio for one in spoken], [one.transcript for one in spoken]
    if TEXT in classifier.model.config.modalities:
        clips, texts = [*clips, clips[0], None], [*texts, None, texts[1]]
    else:
        texts = [None] * len(clips)
    with warnings.catch_warnings(action="ignore"):
        expected = [by_label(classifier.pipeline(clip, text=text)) for clip, text in zip(clips, texts, strict=True)]
    found = [by_label(answer) for answer in onnx_ser.OnnxSer(folder)(clips, texts, batch_size=len(clips))]
    difference = max(
        abs(one[label] - other[label]) for one, other in zip(expected, found, strict=True) for label in one
    )
    front_end = getattr(classifier.model.audio_encoder, "front_end", None)
    most = LARGEST_DIFFERENCE_OF_COUNTS if getattr(front_end, "is_whole", False) else LARGEST_DIFFERENCE
    if not difference <= most:
        raise ValueError(
            f"{classifier.name}: the export differs from torch by {difference:.2g} in a probability. Expected "
            f"{most:g} at most, so it was not written: please report this model, and deploy it with "
            "scripts/serve.py, which runs torch."
        )
    return difference, len(clips)


def by_label(answer: Sequence[dict]) -> dict[str, float]:
    """Scores by their labels."""
    return {one["label"]: one["score"] for one in answer}


def quantize_weights(folder: Path) -> None:
    """Replace the graph's weights of matrix products by int8 ones."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    file, quantised = folder / onnx_ser.WEIGHTS, folder / "int8.onnx"
    with quiet(""):  # the root's: it asks for a preparation that changes nothing here
        quantize_dynamic(file, quantised, op_types_to_quantize=list(QUANTISED), weight_type=QuantType.QInt8)
    quantised.replace(file)


PRODUCTS = ("MatMul", "Gemm", "Conv")
"""Operations whose weights are stored in half precision."""


def halve_weights(folder: Path) -> None:
    """Store the graph's weights in half precision.

    They are converted back when the graph is loaded: on a CPU onnxruntime computes next to nothing in float16, and the
    logarithms of a spectrogram need more than that.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    file = folder / onnx_ser.WEIGHTS
    model = onnx.load(file)
    casts = []
    products = {name for node in model.graph.node if node.op_type in PRODUCTS for name in node.input}
    for weight in model.graph.initializer:
        if weight.name not in products:  # statistics, filters: rounding would move them by more than their deviation
            continue
        values = numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.size < LEAST_HALVED or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_fp16"))
        casts.append(helper.make_node("Cast", [weight.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, file)


SMALLER = {"int8": quantize_weights, "fp16": halve_weights}
"""Ways to make the weights smaller, as `--quantize` names them."""


@dataclass(frozen=True)
class LabelledClips:
    """Clips with labels, as indices of `classes`; `dataset` has the columns `audio` and `transcript`."""

    dataset: Dataset
    labels: list[int]
    classes: list[str]
    rate: int
    takes_text: bool


def gate_clips(classifier: Classifier, folder: str | Path, max_clips: int | None) -> LabelledClips:
    """The clips of a data set that smaller weights are tested on.

    Raises:
        ValueError: the model was trained on all of them, or they lack one of its classes.
    """
    record = read_record(classifier.name)
    dataset, _ = load_as_trained(classifier, folder, record, None)
    known = set(record.split.validation.ids) if record and record.split else set()
    rows = [row for row, name in enumerate(dataset["id"][:]) if hashed(name) in known]
    if not rows:
        rows, _, _ = untrained_rows(dataset, record, allow_leak=False)
    rows, _ = usable_rows(dataset, rows, classifier)
    rows = balanced_sample(dataset, rows, max_clips, seed=0)
    clips = labelled_clips(classifier, dataset, rows)
    if missing := [name for index, name in enumerate(clips.classes) if index not in clips.labels]:
        raise ValueError(
            f"{folder}: found no clip of {', '.join(missing)} among those that the model may be tested on. Expected "
            "clips of each class, its validation clips or such that it was not trained on: name another data set."
        )
    return clips


def labelled_clips(classifier: Classifier, dataset: Dataset, rows: list[int]) -> LabelledClips:
    """Some rows of a data set, with labels in the order of a model's classes."""
    part, names = dataset.select(rows), dataset.features["label"].names
    labels = [classifier.labels.index(names[label]) for label in part["label"][:]]
    takes_text = TEXT in classifier.model.config.modalities
    return LabelledClips(
        part, labels, classifier.labels, classifier.pipeline.feature_extractor.sampling_rate, takes_text
    )


def measure(clips: LabelledClips, probabilities: Callable[[list, list], np.ndarray]) -> Measured:
    """The UAR of a program on clips, and its processor time a clip, one at a time and without decoding."""
    confusion, seconds = np.zeros((len(clips.classes), len(clips.classes)), dtype=int), 0.0
    for row, label in zip(clips.dataset, clips.labels, strict=True):
        samples = decode_audio(row["audio"], clips.rate)
        text = row.get("transcript") if clips.takes_text else None
        began = time.process_time()
        answer = probabilities([samples], [text])
        seconds += time.process_time() - began
        confusion[label, int(answer[0].argmax())] += 1
    number = len(clips.labels)
    return Measured(number, uar_from_confusion(confusion, clips.classes), 1000 * seconds / number)


def check_uar(before: Measured, after: Measured, kind: str) -> None:
    """Check that smaller weights, of a kind of `SMALLER`, cost next to nothing.

    Raises:
        ValueError: they cost a point of UAR or more.
    """
    if before.uar - after.uar >= MOST_UAR_LOST:
        found = f"UAR {100 * after.uar:.1f} %, with float32 {100 * before.uar:.1f} % ({after.clips} clips)"
        raise ValueError(
            f"{kind} weights: {found}. Expected a loss under {100 * MOST_UAR_LOST:g} point, so nothing was written: "
            "leave out --quantize."
        )
