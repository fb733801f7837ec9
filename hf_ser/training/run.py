"""One run: every chosen fold trained, saved and predicted, then one report over them.

    O/run.json                the settings that decide the result
    O/fold_K/ or O/final/     model, processor, code, training_record.json, predictions.jsonl
    O/predictions.jsonl       all folds that are done
    O/report.json, *.png      made from the predictions alone

A fold whose training record stands is done and is not trained again; a fold that was killed goes on from its last
checkpoint.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from datasets import Dataset
from filelock import FileLock, Timeout
from huggingface_hub import HfApi
from transformers.utils import logging

from hf_ser.augment.copies import without_evaluated_copies
from hf_ser.augment.training import AugmentArguments
from hf_ser.checks.audit.data import CLEARED, audit_data
from hf_ser.checks.audit.not_copies import read_not_copies
from hf_ser.data.labels import apply_label_map, labels_not_found, not_found_notice
from hf_ser.data.prepare import check_columns, load_or_prepare, load_prepared
from hf_ser.data.protocols import FINAL, Fold, describe, fold_folder, make_folds
from hf_ser.data.schema import REFERENCE
from hf_ser.files import atomic_write, remove_leftovers
from hf_ser.publish.hub import check_push, is_private_push, push_model
from hf_ser.publish.results import write_results
from hf_ser.registry import plugin_digests
from hf_ser.runs.findings import LEAK, NOTE, AuditFinding, format_audit
from hf_ser.runs.record import corpora_of_sources, is_finished, read_record
from hf_ser.runs.report import RUN
from hf_ser.stable import rows_digest
from hf_ser.training.arguments import AudioArguments, TextArguments
from hf_ser.training.building import Candidate, check_sources, named_sources
from hf_ser.training.fold_run import Asked, Job, train_fold, trial_arguments
from hf_ser.training.learning_rate_finder import find_learning_rate
from hf_ser.training.parsing import settings
from hf_ser.training.search import STORAGE
from hf_ser.transcripts.fold_transcripts import ASR, MIXED, with_transcript_source
from hf_ser.transcripts.sentence_bank import bank_digest, sentence_bank

ALL_FOLDS = "all"
HASHED_COLUMNS = ("id", "label", "votes", "speaker", "sex", "transcript", "pcm_sha256")
"""By which one data set is distinguished from another."""

LOCK = ".training.lock"
"""Held by the process that trains into a folder."""


def open_data(data, *models, dataset: Dataset | None = None) -> tuple[Dataset, list[Fold], dict]:
    """The data set, the folds and the label space that DataArguments ask for.

    Args:
        data: DataArguments.
        models: AudioArguments, TextArguments or AsrArguments, whose pretrained models must be found.
        dataset: A prepared data set that is open already, in place of the one that `data` names.

    Returns:
        Also `{"name": of the label map, "dropped": rows that it drops, by label}`, with the labels that it reads and no
        row has as `not_found`, where there are some.

    Raises:
        ValueError, FileNotFoundError: see `check_sources`, `load_prepared`, `load_or_prepare`,
            `with_transcript_source`, `make_folds`.
    """
    check_sources(models, [data.fold] if data.fold != ALL_FOLDS else [])
    if dataset is not None:
        check_columns(dataset, "dataset")
    elif data.dataset:
        dataset = load_prepared(data.dataset)
    else:
        names = ("columns", "speaker_pattern", "label_pattern", "audio_dir")
        dataset = load_or_prepare(data.corpus, data.data_dir, **{name: getattr(data, name) for name in names})
    read_not_copies(data.not_copies, dataset["id"][:] if data.not_copies else None)  # refuses before the work
    # Before any row is dropped: to change a column of a selection, `datasets` would copy all of its sound.
    dataset = with_transcript_source(dataset, data.transcript_source)
    names = dataset.features["label"].names
    given = [names[i] for i in set(dataset["label"][:])]
    dataset, dropped = apply_label_map(dataset, data.label_map)
    label_map = {"name": data.label_map, "dropped": dropped}
    if lacking := labels_not_found(data.label_map, given):
        PartialState().print(f"note: {not_found_notice(data.label_map, lacking, given)}")
        label_map["not_found"] = lacking
    if dropped:
        told = ", ".join(f"{name} {count}" for name, count in dropped.items())
        PartialState().print(f"label map {data.label_map} drops {sum(dropped.values())} clips: {told}")
    folds = make_folds(
        dataset,
        data.protocol,
        data.fold,
        data.n_folds,
        data.validation_fraction,
        data.split_seed,
        data.allow_leak,
        data.n_text_folds,
        data.split_file,
    )
    check_sources(models, [fold.name for fold in folds])
    folds = [without_evaluated_copies(dataset, fold) for fold in folds]
    return dataset, folds, label_map


def train_folds(
    model: str,
    build: Callable[[list[str], list[str | None], list[str | None], Fold], Candidate],
    dataset: Dataset,
    folds: list[Fold],
    label_map: dict,
    data,
    training,
    *others,
) -> None:
    """Train the folds that are not done yet, then write the results of all that are.

    Args:
        model: What is trained: fusion, audio or text.
        build: Makes an untrained model from the classes, the words of the training rows, who speaks them, and the fold.
        dataset: The data set.
        folds: Folds to train.
        label_map: Its name and what it dropped, for the report.
        data, training: DataArguments and SerTrainingArguments.
        others: The run's other argument dataclasses, for the record.

    Raises:
        ValueError: the output folder holds another run, or an encoder leaks.
    """
    logging.disable_progress_bar()  # one bar for each file that is read or saved; the bars of training stay
    if model == "audio" and (silent := dataset["duration_seconds"][:].count(None)):
        raise ValueError(
            f"{silent} of {len(dataset)} clips have no sound, and this model only hears. Expected a sound for each: "
            "bring the audio files and prepare the data again, or use train_text.py or train_fusion.py."
        )
    if model == "fusion":
        check_transcripts(dataset, folds)
    if training.push_to_hub:
        may_push(folds, training, dataset, others)
    output_dir = Path(training.output_dir)
    changed = {"model": model, **settings(data, training, *others)}
    described = {**data_digest(dataset), "label_map": label_map}
    if plugins := plugin_digests():
        described["plugins"] = plugins
    if data.sentence_bank:
        # A file of one name may say something else another day.
        described["sentence_bank"] = bank_digest(sentence_bank(data.sentence_bank, described["labels"]))
    with claimed(output_dir, {"settings": changed, "data": described}):
        for notice in notices(dataset, data, *others):
            PartialState().print(f"note: {notice}")
        to_train = not_done(dataset, folds, output_dir)
        audit = audited(dataset, [fold for fold, _ in to_train], model != "audio", data.allow_leak, data.not_copies)
        of_the_sound = {type(one): one for one in others}
        audio, augment = (of_the_sound.get(kind) for kind in (AudioArguments, AugmentArguments))
        asked = Asked(build, dataset, data, training, changed, audio, augment)
        if training.find_learning_rate:
            suggest_learning_rate(Job(asked, folds[0]), output_dir)
            return
        for fold, folder in to_train:
            train_fold(asked, fold, folder, audit)
        PartialState().wait_for_everyone()
        if PartialState().is_main_process:
            print(write_results(output_dir, dataset))
            if training.push_to_hub:
                push(output_dir / fold_folder(folds[0].name), training)


def check_transcripts(dataset: Dataset, folds: list[Fold]) -> None:
    """Make sure that a model of audio and text has some text to learn from.

    Raises:
        ValueError: no training row of a fold has a transcript.
    """
    has_text = [bool(text and text.strip()) for text in dataset["transcript"][:]]
    for fold in folds:
        if not any(has_text[row] for row in fold.train):
            raise ValueError(
                f"Fold {fold.name}: none of its {len(fold.train)} training clips has a transcript, and this model is "
                "of audio and text. Expected transcripts: train on the audio alone with train_audio.py; or prepare the "
                "data, let scripts/transcribe.py --dataset DS write transcripts, and train on what it writes."
            )


def suggest_learning_rate(job: Job, output_dir: Path) -> None:
    """Find a learning rate for a fold, and say it."""
    arguments = trial_arguments(job.asked.training, output_dir)
    PartialState().print("trying learning rates, each for a step (--cache_frozen true computes features but once)")
    rate = find_learning_rate(job.trainer(arguments), output_dir)
    PartialState().wait_for_everyone()
    if PartialState().is_main_process:
        shutil.rmtree(arguments.output_dir, ignore_errors=True)
    PartialState().print(f"suggested learning rate: {rate:.1e} (nothing was trained); see {output_dir}")


def not_done(dataset: Dataset, folds: list[Fold], output_dir: Path) -> list[tuple[Fold, Path]]:
    """The folds that are still to be trained, each with its folder; all of them are described."""
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


def may_push(folds: list[Fold], training, dataset: Dataset, models: Sequence = ()) -> None:
    """Make sure, before the work, that its result can be pushed; `models` are the arguments that name encoders.

    Raises:
        ValueError, PermissionError: no name on the Hub, several models for one name, or as `check_push`.
    """
    if not training.hub_model_id or len(folds) > 1:
        found = "no --hub_model_id" if not training.hub_model_id else f"{len(folds)} folds, a model each"
        raise ValueError(
            f"--push_to_hub: found {found}, expected --hub_model_id user/name and one fold: name them (--fold 1, or "
            "--fold final), or train first and push afterwards with scripts/push_to_hub.py."
        )
    if PartialState().is_main_process:
        encoders = named_sources(models, [fold.name for fold in folds])
        private = is_private_push({*dataset["corpus"][:], *corpora_of_sources(encoders)}, training.hub_private_repo)
        check_push(training.hub_model_id, private, HfApi(token=training.hub_token))


def push(folder: Path, training) -> None:
    """Push a fold's model to where `may_push` has looked."""
    private, api = training.hub_private_repo, HfApi(token=training.hub_token)
    push_model(folder, training.hub_model_id, private, revision=training.hub_revision, api=api)


def audited(
    dataset: Dataset, folds: list[Fold], reads: bool, allow_leak: bool, not_copies: str | None = None
) -> list[AuditFinding]:
    """What the audit finds in the data and in the folds that are about to be trained.

    Raises:
        ValueError: a leak, and `allow_leak` is not given.
    """
    if not folds:
        return []
    # By one process for all: comparing the sounds of a large corpus takes minutes and a gigabyte.
    cleared = read_not_copies(not_copies)
    holder = [audit_data(dataset, folds, reads, cleared) if PartialState().is_main_process else None]
    (findings,) = broadcast_object_list(holder)
    told = (CLEARED, "not_copies_unreported")
    PartialState().print(format_audit([one for one in findings if one.severity != NOTE or one.kind in told]))
    leaks = {one.kind: one for one in findings if one.severity == LEAK}
    if leaks and not allow_leak:
        first = next(iter(leaks.values()))
        raise ValueError(
            f"The audit found a leak: {', '.join(leaks)}. {first.detail}. Expected a test part that is independent of "
            f"training: {first.remedy}; or add --allow_leak to have the result stamped as leaked."
        )
    return findings


OF_SOURCE = {
    None: "",
    REFERENCE: " by the corpus",
    ASR: " by a recogniser, or an empty one",
    MIXED: " by a recogniser, or an empty one; in training the corpus's own is read for one that is missing",
}
"""What kind of transcript it is that a clip has none of."""


def notices(dataset: Dataset, data, *arguments) -> list[str]:
    """What of the data the models will not get to know."""
    found = []
    if data.target != "label" and (unrated := dataset["votes"][:].count(None)):
        found.append(f"{unrated} of {len(dataset)} clips have no raters' votes: their label is the target")
    for one in arguments:
        if isinstance(one, AudioArguments):
            seconds = dataset["duration_seconds"][:]
            if long := sum(length is not None and length > one.max_seconds for length in seconds):
                found.append(f"{long} of {len(dataset)} clips are longer than --max_seconds {one.max_seconds:g}: cut")
            if silent := seconds.count(None):
                found.append(f"{silent} of {len(dataset)} clips have no sound")
        if isinstance(one, TextArguments) and (wordless := sum(not words for words in dataset["transcript"][:])):
            found.append(f"{wordless} of {len(dataset)} clips have no transcript{OF_SOURCE[data.transcript_source]}")
    return found


def claim(output_dir: Path, run: dict) -> None:
    """Mark a folder as this run's.

    Raises:
        ValueError: it holds a run with other settings or data.
    """
    file = output_dir / RUN
    run = json.loads(json.dumps(run, default=str))
    # A run that was refused before its first fold began holds nothing; nor does a search for a learning rate.
    folders = [folder for name in ("*", FINAL) for folder in output_dir.glob(fold_folder(name))]
    traces = (STORAGE, "checkpoints/checkpoint-*")
    begun = any(is_finished(folder) or any(any(folder.glob(one)) for one in traces) for folder in folders)
    if not (file.is_file() and begun):
        with atomic_write(file) as handle:
            json.dump(run, handle, indent=1)
        return
    held = json.loads(file.read_text(encoding="utf-8"))
    if held != run:
        old, new = held["settings"], run["settings"]
        differing = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
        found = "; ".join(f"{key} was {old.get(key, 'default')}, is {new.get(key, 'default')}" for key in differing)
        raise ValueError(
            f"{output_dir} holds another run ({found or 'other data'}). Expected one run in a folder: name another "
            "--output_dir, or remove this one."
        )


@contextmanager
def claimed(output_dir: Path, run: dict) -> Iterator[None]:
    """Mark a folder as this run's and keep it: of two that train into it, each would remove the other's checkpoints.

    A process that is killed lets go of it.

    Args:
        output_dir: The folder.
        run: What the run is told by: its settings and its data.

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
            claim(output_dir, run)
        yield
    finally:
        if lock is not None:
            lock.release()


def data_digest(dataset: Dataset) -> dict:
    """What tells one prepared data set from another: its labels and a hash of its rows, whatever their order."""
    optional = [name for name in ("reference_transcript", "asr_transcript") if name in dataset.column_names]
    columns = dataset.select_columns([*HASHED_COLUMNS, *optional])[:]
    digest = rows_digest(zip(*columns.values(), strict=True))[:16]
    return {"rows": dataset.num_rows, "labels": dataset.features["label"].names, "digest": digest}
