"""Labels of very many files on disk: shards by a stable hash, parts of a thousand files, going on where it broke."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import perf_counter

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from hf_ser.data.given_clips import GivenClip
from hf_ser.deploy.labeller import answer_columns
from hf_ser.files import atomic_write, remove_leftovers
from hf_ser.json_record import Record
from hf_ser.normal_form import storable
from hf_ser.runs.answers import Answer, ClipPredictor, json_line
from hf_ser.runs.checkpoints import weights_digests
from hf_ser.runs.classifier import Classifier
from hf_ser.stable import seed

PART_FILES = 1000
SETTINGS, ERRORS = "labelling.json", "errors.jsonl"
PART = "part-{:06d}.parquet"


@dataclass(frozen=True)
class Shard:
    """One of several equal shares of all files, which depends on their names alone.

    Args:
        index: From 1 on.
        count: Of all shards.
    """

    index: int = 1
    count: int = 1

    @classmethod
    def parsed(cls, text: str) -> "Shard":
        """`3/16` as a shard; raises ValueError for anything else."""
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise ValueError(f"--shard {text}: expected such as 3/16, from 1/16 to 16/16.")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return f"shard-{self.index:0{len(str(self.count))}d}-of-{self.count}"

    def holds(self, name: str) -> bool:
        """Whether a file of this name is in it."""
        return seed("shard", name) % self.count == self.index - 1


@dataclass(frozen=True)
class Labelling(Record):
    """What all shards of an output folder were made with.

    Args:
        model: Name of the model.
        weights: SHA-256 of its weights files, where it is a folder.
        labels: Its emotions.
        shards: Number of shards.
        channel: Of clips that name none.
    """

    WHAT = "the settings of a labelling"

    model: str
    weights: dict[str, str]
    labels: list[str]
    shards: int
    channel: str


@dataclass
class Labelled:
    """What a shard has come to.

    Args:
        files: Files of the shard.
        before: Of these, those that were labelled by an earlier run.
        new: Those that this run has labelled up to now.
        failed: Those that could not be read, in all runs.
        unsure: Those with an unsure answer, in all runs.
        seconds: Time that this run took for the new ones.
    """

    files: int = 0
    before: int = 0
    new: int = 0
    failed: int = 0
    unsure: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        answered = self.before + self.new - self.failed
        speed = f", {self.new / self.seconds:.1f} files a second" if self.new and self.seconds else ""
        share = f"; {100 * self.unsure / answered:.1f} % of the {answered} answered are unsure" if answered > 0 else ""
        done = f"{self.files} files, {self.before} of them labelled before, {self.new} now"
        return f"{done}, {self.failed} failed{speed}{share}"


def label_shard(
    model: Classifier,
    clips: Sequence[GivenClip],
    output: str | Path,
    shard: Shard = Shard(),
    batch_size: int = 16,
    channel: str = "mix",
    part_files: int = PART_FILES,
) -> Iterator[Labelled]:
    """Label the clips of a shard; a run that was killed goes on where it was.

    Into `output/shard-03-of-16/` go `part-000000.parquet` and so on, which hold each clip once, also those that failed,
    and `errors.jsonl` with the reasons of these. A part is there whole or not at all.

    Args:
        model: A model that takes audio.
        clips: Those of all shards; a clip that is given twice is labelled once.
        output: Folder of all shards.
        shard: Which of them.
        batch_size: Clips a forward pass; no effect on the result beyond rounding.
        channel: Of clips that name none.
        part_files: Clips of a part; what is lost at most when a run is killed.

    Yields:
        What the shard has come to, at the start and after each part.

    Raises:
        ValueError: the folder was begun with another model or other settings, or another process labels this shard.
    """
    output, folder = Path(output), Path(output) / shard.folder
    weights = weights_digests(model.name) if Path(model.name).is_dir() else {}
    _check_settings(output, Labelling(model.name, weights, model.labels, shard.count, channel))
    folder.mkdir(exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield from _label(
                model, clips, folder, shard, ClipPredictor(model.pipeline, batch_size, channel), part_files
            )
    except Timeout:
        raise ValueError(
            f"{folder}: found another process that labels this shard. Expected one a shard: give another --shard."
        ) from None


def _label(
    model: Classifier, clips: Sequence[GivenClip], folder: Path, shard: Shard, predictor: ClipPredictor, part_files: int
) -> Iterator[Labelled]:
    remove_leftovers(folder)
    done, result = _finished(folder)
    wanted = {storable(clip.name): clip for clip in clips if shard.holds(clip.name)}
    result.before = sum(name in done for name in wanted)
    result.files = len(wanted)
    yield result
    number = 1 + max((int(file.stem.rpartition("-")[2]) for file in folder.glob("part-*.parquet")), default=-1)
    waiting = (clip for name, clip in wanted.items() if name not in done)
    began = perf_counter()
    while part := list(islice(waiting, part_files)):
        answers = _answers(predictor, part)
        table = _table(answers, model.labels, model.dimensions)
        with atomic_write(folder / PART.format(number), "wb") as file:
            pq.write_table(table, file)
        _add_errors(folder, table)
        result.new += len(part)
        result.failed += sum(one.error is not None for one in answers)
        result.unsure += sum(one.unsure for one in answers)
        result.seconds = perf_counter() - began
        number += 1
        yield result


def _answers(predictor: ClipPredictor, clips: list[GivenClip]) -> list[Answer]:
    """Answers in the order of the clips; files of like size are batched together, for padding takes time too."""
    order = sorted(range(len(clips)), key=lambda number: _bytes(clips[number]))
    found = dict(zip(order, predictor.answers(clips[number] for number in order), strict=True))
    return [found[number] for number in range(len(clips))]


def _bytes(clip: GivenClip) -> int:
    try:
        return os.stat(clip.path).st_size
    except OSError:  # it is reported when it is read
        return 0


def _table(answers: list, labels: Sequence[str], dimensions: Sequence[str]) -> pa.Table:
    clips = [one.clip for one in answers]
    columns = {
        "name": pa.array([storable(clip.name) for clip in clips], pa.string()),
        "file": pa.array([storable(clip.file) for clip in clips], pa.string()),
        "start": pa.array([clip.start_seconds for clip in clips], pa.float64()),
        "end": pa.array([clip.end_seconds for clip in clips], pa.float64()),
        "channel": pa.array([clip.channel for clip in clips], pa.string()),
    }
    texts, flags = ("label", "notes", "error"), ("unsure",)
    for name, values in answer_columns(answers, labels, dimensions).items():
        kind = pa.string() if name in texts else pa.bool_() if name in flags else pa.float32()
        columns[name] = pa.array(values, kind)
    return pa.table(columns)


def _finished(folder: Path) -> tuple[set[str], Labelled]:
    """Names of the clips in the parts that are there, and what they came to; `errors.jsonl` is made anew from them."""
    names, result = set(), Labelled()
    with atomic_write(folder / ERRORS) as errors:
        for file in sorted(folder.glob("part-*.parquet")):
            part = pq.read_table(file, columns=["name", "file", "unsure", "error"])
            names.update(part["name"].to_pylist())
            result.unsure += sum(one is True for one in part["unsure"].to_pylist())
            lines = _error_lines(part)
            result.failed += len(lines)
            errors.writelines(lines)
    return names, result


def _error_lines(part: pa.Table) -> list[str]:
    rows = zip(part["name"].to_pylist(), part["error"].to_pylist(), strict=True)
    return [json_line({"file": name, "error": error}) + "\n" for name, error in rows if error is not None]


def _add_errors(folder: Path, part: pa.Table) -> None:
    if lines := _error_lines(part):
        with open(folder / ERRORS, "a", encoding="utf-8", newline="\n") as file:
            file.writelines(lines)


def _check_settings(output: Path, settings: Labelling) -> None:
    """Write the settings of a new output folder; raises ValueError where it was begun with others."""
    output.mkdir(parents=True, exist_ok=True)
    with FileLock(output / ".lock"):
        before = Labelling.read_if_there(output / SETTINGS)
        if before is None:
            with atomic_write(output / SETTINGS) as file:
                json.dump(settings.to_json(), file, indent=1)
            return
    for name, value in settings.to_json().items():
        if name != "model" and (found := before.to_json().get(name)) != value:
            raise ValueError(
                f"{output}: found labels that were made with {name} {found}, expected {value}: give another --output, "
                "or the model and settings of before."
            )
