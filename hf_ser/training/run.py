"""One run: every chosen fold trained, saved and tested, then one report over them, whatever the task.

    O/run.json                the settings that decide the result
    O/fold_K/ or O/final/     model, processor, training_record.json, and what the task predicts
    O/report.json, *.png      over all folds that are finished

A fold whose training record says that it is finished is not trained again; one that was killed continues from its last
checkpoint.
"""

import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from datasets import Dataset
from filelock import FileLock, Timeout
from huggingface_hub import HfApi
from tqdm import tqdm
from transformers.utils import logging

from hf_ser.augment.copies import without_evaluated_copies
from hf_ser.checks.audit.data import CLEARED, audit_data
from hf_ser.checks.audit.not_copies import read_not_copies
from hf_ser.data.folds import FINAL, Fold, describe, fold_folder
from hf_ser.data.labels import apply_label_map, labels_not_found, not_found_notice
from hf_ser.data.listing import list_corpora, named_folders
from hf_ser.data.prepare import load_or_prepare
from hf_ser.data.prepared import check_columns, load_prepared
from hf_ser.data.splitting import make_folds
from hf_ser.files import atomic_write, remove_leftovers
from hf_ser.plotting import picture_formats
from hf_ser.publish.hub import check_push, is_private_push, push_model
from hf_ser.publish.privacy import check_purpose
from hf_ser.registry import plugin_digests
from hf_ser.runs.findings import LEAK, NOTE, AuditFinding, format_audit
from hf_ser.runs.record import corpora_of_sources, is_finished, read_record
from hf_ser.runs.report import RUN
from hf_ser.training.building import check_sources, named_sources
from hf_ser.training.fold_run import FoldTask, train_fold
from hf_ser.training.parsing import settings
from hf_ser.training.search import STORAGE
from hf_ser.transcripts.fold_transcripts import with_transcript_source

Settings = dict[type, object]
"""The settings of a run by their dataclass."""

ALL_FOLDS = "all"
TRAINING_VERSION = 2
"""Raise it when the same settings come to train otherwise: a run that was begun before is then not gone on with."""
LOCK = ".training.lock"
"""Locked by the process that trains into a folder."""


def open_data(data, *models, dataset: Dataset | None = None) -> tuple[Dataset, list[Fold], dict]:
    """Open the data set of DataArguments, map its labels, and make the folds.

    Args:
        data: DataArguments.
        models: Settings, of which those that name pretrained models are checked: the models must be found.
        dataset: A prepared data set, instead of the one that `data` names.

    Returns:
        The data set, the folds, and of the label map its `name`, the number of rows it drops by label (`dropped`) and,
        where there are any, labels that it maps and no row has (`not_found`).

    Raises:
        ValueError, FileNotFoundError: see `check_sources`, `load_prepared`, `load_or_prepare`,
            `with_transcript_source`, `make_folds`.
    """
    table = {name: getattr(data, name) for name in ("columns", "speaker_pattern", "label_pattern", "audio_dir")}
    if dataset is not None:
        check_columns(dataset, "dataset")
    elif data.dataset:
        dataset = load_prepared(data.dataset)
    elif not all(map(os.path.exists, filter(None, named_folders(data.corpus, data.data_dir).values()))):
        list_corpora(data.corpus, data.data_dir, **table)  # refuses a mistyped path, before an encoder is looked for
    check_sources(models, [data.fold] if data.fold != ALL_FOLDS else [])
    if dataset is None:
        dataset = load_or_prepare(data.corpus, data.data_dir, **table)
    read_not_copies(data.not_copies, dataset["id"][:] if data.not_copies else None)  # refuses before the work
    # Before any row is dropped: to change a column of a selection, `datasets` would copy all of its audio.
    dataset = with_transcript_source(dataset, data.transcript_source)
    names = dataset.features["label"].names
    present = [names[i] for i in set(dataset["label"][:])]
    dataset, dropped = apply_label_map(dataset, data.label_map)
    label_map = {"name": data.label_map, "dropped": dropped}
    if not_found := labels_not_found(data.label_map, present):
        PartialState().print(f"note: {not_found_notice(data.label_map, not_found, present)}")
        label_map["not_found"] = not_found
    if dropped:
        counts = ", ".join(f"{name} {count}" for name, count in dropped.items())
        PartialState().print(f"label map {data.label_map} drops {sum(dropped.values())} clips: {counts}")
    folds = make_folds(
        dataset,
        data.protocol,
        data.fold,
        data.n_folds,
        data.validation_fraction,
        data.split_seed,
        data.allow_leak,
        data.split_file,
    )
    check_sources(models, [fold.name for fold in folds])
    folds = [without_evaluated_copies(dataset, fold) for fold in folds]
    return dataset, folds, label_map


class Task(ABC):
    """What differs between the kinds of model that are trained; an instance is a run of one kind.

    Attributes:
        name: Key of TASKS.
        classes: Dataclasses of its settings, in the order of `--help`: DataArguments first, training arguments last.
        fold_class: The task on one fold.
        default_recipe: Recipe that is used where no arguments are given.
        reads_text: Whether the model reads transcripts; text that gives the label away is then a leak.
        settings: The settings of this run by their dataclass; `data` and `training` are the first and the last.
        dataset, notices: The data set, and what the user should know about it; from `open` on.
    """

    name: ClassVar[str]
    classes: ClassVar[tuple[type, ...]]
    fold_class: ClassVar[type[FoldTask]]
    default_recipe: ClassVar[str | None] = None
    reads_text: ClassVar[bool] = True
    dataset: Dataset
    notices: list[str]

    def __init__(self, given: Settings):
        """Raises ValueError for settings that this kind has no use for."""
        self.settings, self.data, self.training = given, given[self.classes[0]], given[self.classes[-1]]

    @abstractmethod
    def open(self, dataset: Dataset, folds: list[Fold]) -> dict:
        """Take the data set, and check it and the folds before the work.

        Returns:
            What distinguishes the data from other data, for `run.json`.

        Raises:
            ValueError: the data cannot be used.
        """

    def usable(self, fold: Fold) -> Fold:
        """A fold with the rows that can be learned from: here all.

        Raises:
            ValueError: none are left.
        """
        return fold

    def fold_figures(self, folder: Path) -> str:
        """The figures of a trained fold in a few words; empty where there are none."""
        return ""

    @property
    def predicted_classes(self) -> list[str]:
        """The classes that its models predict: here none."""
        return []

    @abstractmethod
    def write_results(self) -> str:
        """Write the report over the finished folds, and return it as a table."""

    @cached_property
    def changed(self) -> dict:
        """The settings that decide the result and differ from the defaults, for the records."""
        return {"model": self.name, **settings(*self.settings.values())}


def train_folds(task: Task, dataset: Dataset, folds: list[Fold], label_map: dict) -> None:
    """Train the folds that are not finished yet, then write the results of all that are.

    Args:
        task: The kind of model, with the settings of the run.
        dataset, folds, label_map: As `open_data` returns them.

    Raises:
        ValueError: the data cannot be used, the output folder holds another run, or an encoder leaks.
    """
    logging.disable_progress_bar()  # one bar for each file that is read or saved; the bars of training stay
    data, training, output_dir = task.data, task.training, Path(task.training.output_dir)
    described = task.open(dataset, folds) | {"label_map": label_map, "training_version": TRAINING_VERSION}
    if plugins := plugin_digests():
        described["plugins"] = plugins
    if training.push_to_hub:
        check_can_push(folds, task, dataset)
    locked = locked_run_folder(output_dir, {"settings": task.changed, "data": described})
    with locked, picture_formats(training.pictures):
        for notice in task.notices:
            PartialState().print(f"note: {notice}")
        to_train = [(task.usable(fold), folder) for fold, folder in unfinished(dataset, folds, output_dir)]
        findings = audit(dataset, [fold for fold, _ in to_train], task.reads_text, data.allow_leak, data.not_copies)
        started = time.monotonic()
        for place, (fold, folder) in enumerate(to_train, start=1):
            show(place_text(folds, fold))
            train_fold(task, fold, folder, findings)
            show(fold_line(task, folder, place_text(folds, fold), started, place, len(to_train)))
        PartialState().wait_for_everyone()
        if PartialState().is_main_process:
            print(task.write_results())
            if training.push_to_hub:
                push(output_dir / fold_folder(folds[0].name), training)


def show(text: str) -> None:
    """Print on the main process, above a progress bar."""
    if PartialState().is_main_process:
        tqdm.write(text)


def place_text(folds: list[Fold], fold: Fold) -> str:
    """`fold 3 of 6`; of a single fold its name."""
    names = [one.name for one in folds]
    return f"fold {fold.name}" if len(names) == 1 else f"fold {names.index(fold.name) + 1} of {len(names)}"


def fold_line(task: Task, folder: Path, place: str, started: float, done: int, total: int) -> str:
    """The figures of a trained fold, and how long the folds that are left will take if they take as long as these."""
    passed = time.monotonic() - started
    figures = task.fold_figures(folder) if PartialState().is_main_process else ""
    clock = f"{passed / 60:.1f} min"
    if left := total - done:
        clock += f", about {passed / done * left / 60:.1f} min for {left} more"
    return f"{place}: {', '.join(one for one in (figures, clock) if one)}"


def unfinished(dataset: Dataset, folds: list[Fold], output_dir: Path) -> list[tuple[Fold, Path]]:
    """The folds that are not finished, each with its folder; prints who is in each fold."""
    to_train = []
    for fold in folds:
        folder = output_dir / fold_folder(fold.name)
        PartialState().print(describe(dataset, fold))
        if is_finished(folder):
            _require_same_split(fold, folder)
            PartialState().print(f"fold {fold.name} is done: {folder}")
        else:
            to_train.append((fold, folder))
    return to_train


def _require_same_split(fold: Fold, folder: Path) -> None:
    trained = read_record(folder).split.split_fingerprint
    if trained != fold.fingerprint:
        raise ValueError(
            f"{folder}: fold {fold.name} was trained on the split {trained}, expected {fold.fingerprint}, which "
            "belongs to the other folds: name another --output_dir, or remove this fold's folder."
        )


def check_can_push(folds: list[Fold], task: Task, dataset: Dataset) -> None:
    """Make sure, before training, that the model can be pushed.

    Raises:
        ValueError, PermissionError: no name on the Hub, several models for one name, or as `check_push`.
    """
    training = task.training
    if not training.hub_model_id or len(folds) > 1:
        found = "no --hub_model_id" if not training.hub_model_id else f"{len(folds)} folds, a model each"
        raise ValueError(
            f"--push_to_hub: found {found}, expected --hub_model_id user/name and one fold: name them (--fold 1, or "
            "--fold final), or train first and push afterwards with scripts/push_to_hub.py."
        )
    check_purpose("--push_to_hub", task.predicted_classes, None)
    if PartialState().is_main_process:
        encoders = named_sources(list(task.settings.values()), [fold.name for fold in folds])
        private = is_private_push({*dataset["corpus"][:], *corpora_of_sources(encoders)}, training.hub_private_repo)
        check_push(training.hub_model_id, private, HfApi(token=training.hub_token))


def push(folder: Path, training) -> None:
    """Push a fold's model to the repository of `check_can_push`."""
    private, api = training.hub_private_repo, HfApi(token=training.hub_token)
    push_model(folder, training.hub_model_id, private, revision=training.hub_revision, api=api)


def audit(
    dataset: Dataset, folds: list[Fold], reads_text: bool, allow_leak: bool, not_copies: str | None = None
) -> list[AuditFinding]:
    """Audit the data and the folds that are about to be trained, and print the findings.

    Raises:
        ValueError: a leak, and `allow_leak` is not given.
    """
    if not folds:
        return []
    # By one process for all: comparing the recordings of a large corpus takes minutes and a gigabyte.
    cleared = read_not_copies(not_copies)
    holder = [audit_data(dataset, folds, reads_text, cleared) if PartialState().is_main_process else None]
    (findings,) = broadcast_object_list(holder)
    shown_notes = (CLEARED, "not_copies_unreported")
    PartialState().print(format_audit([one for one in findings if one.severity != NOTE or one.kind in shown_notes]))
    leaks = {one.kind: one for one in findings if one.severity == LEAK}
    if leaks and not allow_leak:
        first = next(iter(leaks.values()))
        raise ValueError(
            f"The audit found a leak: {', '.join(leaks)}. {first.detail}. Expected a test part that is independent of "
            f"training: {first.remedy}; or add --allow_leak to have the result stamped as leaked."
        )
    return findings


def record_run(output_dir: Path, run: dict) -> None:
    """Write the settings and the data of a run into its folder, or make sure that they are the ones it has.

    Raises:
        ValueError: it holds a run with other settings or data.
    """
    file = output_dir / RUN
    run = json.loads(json.dumps(run, default=str))
    # A run that was refused before its first fold began holds nothing.
    folders = [folder for name in ("*", FINAL) for folder in output_dir.glob(fold_folder(name))]
    traces = (STORAGE, "checkpoints/checkpoint-*")
    begun = any(is_finished(folder) or any(any(folder.glob(one)) for one in traces) for folder in folders)
    if not (file.is_file() and begun):
        with atomic_write(file) as handle:
            json.dump(run, handle, indent=1)
        return
    recorded = json.loads(file.read_text(encoding="utf-8"))
    if recorded != run:
        old, new = recorded["settings"], run["settings"]
        differing = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
        found = "; ".join(f"{key} was {old.get(key, 'default')}, is {new.get(key, 'default')}" for key in differing)
        if len({str(one.get("data", {}).get("training_version")) for one in (recorded, run)}) == 2:
            found = "begun by another version of hf_ser, which trains otherwise" + f"; {found}" * bool(found)
        raise ValueError(
            f"{output_dir} holds another run ({found or 'other data'}). Expected one run in a folder: give the "
            "settings that it was begun with, or name another --output_dir."
        )


@contextmanager
def locked_run_folder(output_dir: Path, run: dict) -> Iterator[None]:
    """Lock a folder for this run: of two that train into it, each would remove the other's checkpoints.

    The lock of a process that is killed is released.

    Args:
        output_dir: The folder.
        run: Settings and data of the run, by which it is recognised.

    Raises:
        FileExistsError: it is a file.
        ValueError: another process trains into it, or it holds a run with other settings or data.
    """
    if output_dir.exists() and not output_dir.is_dir():
        raise FileExistsError(f"{output_dir} is a file, expected a folder to write: name another --output_dir.")
    output_dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(output_dir / LOCK) if PartialState().is_main_process else None
    try:
        if lock is not None:
            lock.acquire(blocking=False)
    except Timeout as error:
        raise ValueError(
            f"{output_dir}: found another process that trains into this folder, perhaps one whose terminal or "
            "compare.py is gone. Expected none: wait for it, or end it (pgrep -af train_), and start this again."
        ) from error
    try:
        if lock is not None:
            for folder in (output_dir, *output_dir.glob("*/")):
                remove_leftovers(folder)
        with PartialState().main_process_first():
            record_run(output_dir, run)
        yield
    finally:
        if lock is not None:
            lock.release()
