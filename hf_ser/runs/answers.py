"""Predictions of a model for many clips, read and classified batch by batch, and their output files."""

import csv
import ctypes
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hf_ser.data.given_clips import GivenClip
from hf_ser.files import atomic_write
from hf_ser.models import SerPipeline
from hf_ser.models.audio_notes import NO_SPEECH
from hf_ser.models.familiarity import UNFAMILIAR
from hf_ser.models.streams import MIX
from hf_ser.normal_form import printable, storable

MOST_SECONDS = 600.0
"""Longest batch in seconds of audio, padding included: a longer one costs memory and saves no time."""

OUTPUTS = (".csv", ".jsonl")


@dataclass(frozen=True)
class Answer:
    """The prediction of a model for a clip, or the error in its place.

    Args:
        clip: The clip.
        scores: Label and score of each class, most probable first; empty if there is an error.
        notes: Reasons to doubt the prediction.
        is_speech: Whether the clip seems to contain speech.
        unsure: Whether no speech was found, or the best score is below the model's threshold.
        dimensions: Valence, arousal and dominance, of a model that predicts them.
        familiarity: How similar the clip is to the training data; None if unknown.
        error: Why there is no prediction.
        embedding: Input of the model's last layer, `(size,)`; None if it is not kept.
    """

    clip: GivenClip
    scores: list[dict] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    is_speech: bool = True
    unsure: bool = False
    dimensions: dict[str, float] | None = None
    familiarity: float | None = None
    error: str | None = None
    embedding: np.ndarray | None = None

    def as_row(self, abstains: bool) -> dict:
        """The answer as a JSON object.

        Args:
            abstains: Leave out the label where the model is unsure.
        """
        part = {"start": self.clip.start_seconds, "end": self.clip.end_seconds, "channel": self.clip.channel}
        named = {"file": self.clip.file} | {key: value for key, value in part.items() if value is not None}
        if self.error is not None:
            return named | {"error": self.error}
        known = answer_row(self.scores, self.clip.text, self.unsure, self.notes, abstains)
        return named | (self.dimensions or {}) | known | {"familiarity": self.familiarity}

    @property
    def is_unlike_training(self) -> bool:
        """Whether the clip is unlike the training data."""
        return bool(unlike_note(self.familiarity))


def answer_row(scores: list[dict], text: str | None, unsure: bool, notes: Sequence[str], abstains: bool) -> dict:
    """A prediction as a JSON object, without the name of its file."""
    if not scores:  # the model has no classes
        return {"unsure": unsure, "text": text, "notes": list(notes)}
    return {
        "label": None if unsure and abstains else scores[0]["label"],
        "confidence": scores[0]["score"],
        "unsure": unsure,
        "scores": {one["label"]: one["score"] for one in scores},
        "text": text,
        "notes": list(notes),
    }


@dataclass(frozen=True)
class ClipPredictor:
    """A model's pipeline and its settings for predicting clips.

    Args:
        classify: The pipeline.
        batch_size: Clips a forward pass; no effect on the result beyond rounding.
        channel: Channel of clips that do not name one.
        speaker_statistics: Statistics of the speaker of all clips, if the model needs them.
        notes_of: Returns further notes on a clip.
        embeddings: Whether answers include the input of the model's last layer.
    """

    classify: SerPipeline
    batch_size: int = 8
    channel: str = MIX
    speaker_statistics: object = None
    notes_of: Callable[[GivenClip], Sequence[str]] = lambda clip: ()
    embeddings: bool = False

    def answers(self, clips: Iterable[GivenClip]) -> Iterator[Answer]:
        """Yield an answer for each clip, in order; it holds the error if the clip could not be classified."""
        waiting, longest = [], 0
        rate = self.classify.feature_extractor.sampling_rate
        for clip in clips:
            one = self._read(clip)
            samples = 0 if isinstance(one, Answer) else len(one[1])
            if max(longest, samples) * (len(waiting) + 1) > MOST_SECONDS * rate:
                yield from self._flush(waiting)
                waiting, longest = [], 0
            waiting.append(one)
            longest = max(longest, samples)
            if len(waiting) >= self.batch_size or not longest:
                yield from self._flush(waiting)
                waiting, longest = [], 0
        yield from self._flush(waiting)

    def _read(self, clip: GivenClip) -> Answer | tuple[GivenClip, np.ndarray, dict[str, str]]:
        if clip.error is not None:
            return Answer(clip, error=clip.error)
        channel = clip.channel or self.channel
        try:
            return clip, *self.classify.read(clip.path, channel, clip.start_seconds, clip.end_seconds)
        except (ValueError, OSError, MemoryError) as error:
            return Answer(clip, error=str(error) or f"{clip.file}: {type(error).__name__}")

    def _flush(self, batch: list) -> Iterator[Answer]:
        readable = [one for one in batch if not isinstance(one, Answer)]
        answers = iter(self._classify_batch(readable))
        for one in batch:
            yield one if isinstance(one, Answer) else next(answers)

    def _classify_batch(self, readable: list[tuple]) -> Iterator[Answer]:
        if not readable:
            return
        clips, samples, notes = zip(*readable, strict=True)
        try:
            texts = [clip.text for clip in clips]
            scores = self.classify.answers(samples, texts, self.speaker_statistics, self.embeddings)
        except (ValueError, RuntimeError, MemoryError) as error:  # such as too little memory for this many
            if len(readable) > 1:
                for one in readable:
                    yield from self._classify_batch([one])
            else:
                why = f"{clips[0].file}: the model failed on this clip ({type(error).__name__}: {error})."
                if not isinstance(error, ValueError):
                    why += " Expected a clip that fits into memory: cut it, or try --device cpu."
                yield Answer(clips[0], error=why)
            return
        for clip, found, noted in zip(clips, scores, notes, strict=True):
            is_speech = NO_SPEECH not in noted
            unsure = self.classify.is_unsure(found[0]["score"] if found else None, noted)
            notes_of_text = self.classify.text_notes(clip.text).values()
            all_notes = (*noted.values(), *notes_of_text, *self.notes_of(clip), *unlike_note(found.familiarity))
            more = {"dimensions": found.dimensions, "familiarity": found.familiarity, "embedding": found.embedding}
            yield Answer(clip, list(found), all_notes, is_speech, unsure, **more)


def unlike_note(familiarity: float | None) -> list[str]:
    """The note on a clip that is unlike the training data; empty for any other clip."""
    is_unlike = familiarity is not None and familiarity < UNFAMILIAR
    return [f"unlike the training data (familiarity {familiarity:.1g})"] if is_unlike else []


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt."""
REUSED_BYTES = 2**25
"""Largest block that is reused, the most that glibc allows."""


def reuse_memory() -> None:
    """Keep the memory of finished batches for the next ones, where the C library is glibc.

    By default glibc returns each large block to the system, and fetching it again takes a quarter of the time of a
    prediction (random_kernels, RAVDESS: 26 to 29 in place of 19 CPU ms a clip).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or Windows
        return
    mallopt(M_MMAP_THRESHOLD, REUSED_BYTES)
    mallopt(M_TRIM_THRESHOLD, 16 * REUSED_BYTES)


def json_line(row: dict, encoding: str = "utf-8") -> str:
    """A JSON object on one line; characters that the encoding lacks, and control characters, are escaped as `\\uXXXX`.

    Raises:
        ValueError: a number in it is NaN or infinite, which JSON cannot hold.
    """
    line = json.dumps(row, ensure_ascii=False, allow_nan=False)
    try:
        line.encode(encoding)
        is_plain = printable(line) == line
    except (UnicodeEncodeError, LookupError):
        is_plain = False
    return line if is_plain else json.dumps(row, allow_nan=False).replace("\x7f", "\\u007f")


def check_output(path: Path | None, tables: Sequence[Path]) -> None:
    """Check the output file for predictions before the work begins.

    Raises:
        ValueError: its ending is not supported, or it is a folder or an input table.
    """
    if path is None:
        return
    if path.suffix.lower() not in OUTPUTS:
        raise ValueError(f"--output {path}: found '{path.suffix}'. Expected {' or '.join(OUTPUTS)}: rename it.")
    if path.is_dir():
        raise ValueError(f"--output {path}: found a folder. Expected a file: name another.")
    if any(path.resolve() == table.resolve() for table in tables):
        raise ValueError(f"--output {path}: found an input table. Expected another file: rename it.")


@contextmanager
def answers_file(
    path: Path | None, labels: Sequence[str], abstains: bool, dimensions: Sequence[str] = ()
) -> Iterator[Callable[[Answer], None]]:
    """Open a file for answers and yield the function that writes one; the file appears once it is complete.

    Without a path nothing is written.

    Raises:
        OSError: it cannot be written.
    """
    if path is None:
        yield lambda answer: None
        return
    with atomic_write(path) as file:
        if path.suffix.lower() == ".jsonl":
            yield lambda answer: file.write(json_line(answer.as_row(abstains)) + "\n")
            return
        names = ["file", "start", "end", "channel", *(("label", "confidence") if labels else ()), "unsure", *dimensions]
        names += [*(f"score:{label}" for label in labels), "text", "notes", "familiarity", "error"]
        writer = csv.DictWriter(file, names, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        yield lambda answer: writer.writerow(_cells(answer, abstains))


@contextmanager
def embeddings_file(path: Path | None, rows_at_once: int = 1000) -> Iterator[Callable[[Answer], None]]:
    """Open a Parquet file for embeddings and yield the function that writes one; the file appears once complete.

    Its columns are `file`, `start`, `end`, `channel`, `label` and `embedding`; a clip that could not be read is left
    out. Without a path nothing is written.

    Raises:
        OSError: it cannot be written.
    """
    if path is None:
        yield lambda answer: None
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {name: pa.string() for name in ("file", "channel", "label")}
    columns |= {"start": pa.float64(), "end": pa.float64(), "embedding": pa.list_(pa.float32())}
    schema, waiting = pa.schema([(name, columns[name]) for name in EMBEDDING_COLUMNS]), []
    with atomic_write(path, "wb") as file, pq.ParquetWriter(file, schema) as writer:

        def flush() -> None:
            writer.write_table(pa.Table.from_pylist(waiting, schema))
            waiting.clear()

        def write(answer: Answer) -> None:
            if answer.embedding is not None:
                row = answer.as_row(abstains=False)
                kept = {name: row.get(name) for name in EMBEDDING_COLUMNS}
                waiting.append(kept | {"file": storable(row["file"]), "embedding": answer.embedding})
            if len(waiting) >= rows_at_once:
                flush()

        yield write
        flush()


EMBEDDING_COLUMNS = ("file", "start", "end", "channel", "label", "embedding")
"""Columns of a file of embeddings."""


def _cells(answer: Answer, abstains: bool) -> dict:
    row = answer.as_row(abstains)
    row |= {f"score:{label}": score for label, score in row.get("scores", {}).items()}
    row["notes"] = " | ".join(row.get("notes", ()))
    if answer.error is None:
        row["unsure"] = str(answer.unsure).lower()
    return {key: storable(value) if isinstance(value, str) else value for key, value in row.items()}


def text_row(
    file: str, scores: list[dict], text: str | None, unsure: bool, dimensions: Mapping[str, float] | None = None
) -> str:
    """An answer as a line of text: file, labels with scores (most probable first), dimensions, transcript."""
    shown = "  ".join(
        [
            *(f"{one['label']} {100 * one['score']:.1f} %" for one in scores),
            *(f"{name} {value:+.2f}" for name, value in (dimensions or {}).items()),
        ]
    )
    return printable(f"{file}  {'unsure: ' if unsure else ''}{shown}" + (f'  "{text}"' if text else ""))
