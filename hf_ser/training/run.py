"""One run: every chosen fold trained, saved and predicted, then one report over them.

    O/run.json                the settings that decide the result
    O/fold_K/ or O/final/     model, processor, code, training_record.json, predictions.jsonl
    O/predictions.jsonl       all folds that are done
    O/report.json, *.png      made from the predictions alone

A fold whose training record stands is done and is not trained again; a fold that was killed goes on from its last
checkpoint.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from copy import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from datasets import Dataset
from huggingface_hub import HfApi
from peft import PeftModel
from scipy.special import softmax
from transformers import PreTrainedConfig, TrainerCallback, set_seed
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import logging

from hf_ser.audit.data import audit_data
from hf_ser.audit.findings import LEAK, NOTE, AuditFinding, format_audit
from hf_ser.augmentation import AugmentArguments
from hf_ser.augmented_copies import with_honest_copies
from hf_ser.columns import REFERENCE
from hf_ser.dataset import load_or_prepare, load_prepared
from hf_ser.evaluation.calibration import abstain_threshold, fit_temperature
from hf_ser.evaluation.predictions import PREDICTIONS, write_predictions
from hf_ser.evaluation.report import RUN
from hf_ser.files import atomic_write
from hf_ser.hub import check_push, push_model
from hf_ser.labels import apply_label_map
from hf_ser.models import PRESETS, TEXT_PRESETS, copy_island
from hf_ser.protocols import FINAL, Fold, describe, fold_folder, make_folds
from hf_ser.provenance import (
    RECORD,
    ancestry,
    hardware,
    is_finished,
    provenance,
    split_record,
    stage_leaks,
    write_record,
)
from hf_ser.results import write_fold_report, write_results
from hf_ser.revisions import split_revision
from hf_ser.sentence_bank import bank_digest, sentence_bank
from hf_ser.training.arguments import AudioArguments, TextArguments, settings
from hf_ser.training.building import Candidate
from hf_ser.training.fold_data import FoldData, fold_data
from hf_ser.training.frozen_cache import CachedCollator, FrozenCache
from hf_ser.training.functionals import FITTED, FittedTrainer
from hf_ser.training.learning_rate_finder import find_learning_rate
from hf_ser.training.search import search
from hf_ser.training.trackers import check_trackers, tensorboard_beside, track_results
from hf_ser.training.trainer import SerTrainer, count_parameters
from hf_ser.transcripts.results import ASR_RECORD
from hf_ser.words import ASR, MIXED, Words, fold_words, read_as


def open_data(data) -> tuple[Dataset, list[Fold], dict]:
    """The data set, the folds and the label space that DataArguments ask for.

    Returns:
        Also `{"name": of the label map, "dropped": rows that it drops, by label}`.

    Raises:
        ValueError, FileNotFoundError: see `load_prepared`, `load_or_prepare`, `read_as` and `make_folds`.
    """
    if data.dataset:
        dataset = load_prepared(data.dataset)
    else:
        dataset = load_or_prepare(
            data.corpus, data.data_dir, columns=data.columns, speaker_pattern=data.speaker_pattern
        )
    # Before any row is dropped: to change a column of a selection, `datasets` would copy all of its sound.
    dataset = read_as(dataset, data.transcript_source)
    dataset, dropped = apply_label_map(dataset, data.label_map)
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
    folds = [with_honest_copies(dataset, fold) for fold in folds]
    return dataset, folds, {"name": data.label_map, "dropped": dropped}


def train_folds(
    model: str,
    build: Callable[[list[str], list[str | None], Fold], Candidate],
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
        build: Makes an untrained model from the classes, the words of the training rows and the fold.
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
    check_trackers(training.report_to)
    if training.push_to_hub:
        may_push(folds, training)
    output_dir = Path(training.output_dir)
    changed = {"model": model, **settings(data, training, *others)}
    described = {**data_digest(dataset), "label_map": label_map}
    if data.sentence_bank:
        # A file of one name may say something else another day.
        described["sentence_bank"] = bank_digest(sentence_bank(data.sentence_bank, described["labels"]))
    with PartialState().main_process_first():
        claim(output_dir, {"settings": changed, "data": described})
    for notice in notices(dataset, data, *others):
        PartialState().print(f"note: {notice}")
    to_train = not_done(dataset, folds, output_dir)
    audit = audited(dataset, [fold for fold, _ in to_train], model != "audio", data.allow_leak)
    asked = Asked(build, dataset, data, training, changed, *(of_kind(others, one) for one in SOUND_ARGUMENTS))
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


def suggest_learning_rate(job: "Job", output_dir: Path) -> None:
    """Find a learning rate for a fold, and say it."""
    arguments = trial_arguments(job.asked.training, output_dir)
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
            PartialState().print(f"fold {fold.name} is done: {folder}")
        else:
            to_train.append((fold, folder))
    return to_train


def may_push(folds: list[Fold], training) -> None:
    """Make sure, before the work, that its result can be pushed.

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
        check_push(training.hub_model_id, bool(training.hub_private_repo), HfApi(token=training.hub_token))


def push(folder: Path, training) -> None:
    """Push a fold's model to where `may_push` has looked."""
    private, api = bool(training.hub_private_repo), HfApi(token=training.hub_token)
    push_model(folder, training.hub_model_id, private, revision=training.hub_revision, api=api)


def audited(dataset: Dataset, folds: list[Fold], reads: bool, allow_leak: bool) -> list[AuditFinding]:
    """What the audit finds in the data and in the folds that are about to be trained.

    Raises:
        ValueError: a leak, and `allow_leak` is not given.
    """
    if not folds:
        return []
    # By one process for all: comparing the sounds of a large corpus takes minutes and a gigabyte.
    holder = [audit_data(dataset, folds, reads) if PartialState().is_main_process else None]
    (findings,) = broadcast_object_list(holder)
    PartialState().print(format_audit([one for one in findings if one.severity != NOTE]))
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
    if output_dir.exists() and not output_dir.is_dir():
        raise FileExistsError(f"{output_dir} is a file, expected a folder to write: name another --output_dir.")
    file = output_dir / RUN
    run = json.loads(json.dumps(run, default=str))
    # A run that was refused before its first fold began holds nothing; nor does a search for a learning rate.
    folders = [folder for name in ("*", FINAL) for folder in output_dir.glob(fold_folder(name))]
    begun = any(is_finished(folder) or any(folder.glob("checkpoints/checkpoint-*")) for folder in folders)
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


def data_digest(dataset: Dataset) -> dict:
    """What tells one prepared data set from another: its labels and a hash of its rows, whatever their order."""
    told = ("id", "label", "votes", "speaker", "sex", "transcript", "pcm_sha256")
    told += tuple(name for name in ("reference_transcript", "asr_transcript") if name in dataset.column_names)
    columns = [dataset[name][:] for name in told]
    rows = sorted(repr(row) for row in zip(*columns, strict=True))
    digest = hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]
    return {"rows": dataset.num_rows, "labels": dataset.features["label"].names, "digest": digest}


@dataclass(frozen=True)
class Asked:
    """What a run is asked to do, for each of its folds.

    Args:
        build: Makes an untrained model from the classes, the words of the training rows and the fold.
        changed: What differs from the defaults, for the record.
        audio, augment: AudioArguments and AugmentArguments; None for a model that only reads.
    """

    build: Callable[[list[str], list[str | None], Fold], Candidate]
    dataset: Dataset
    data: object
    training: object
    changed: dict
    audio: AudioArguments | None = None
    augment: AugmentArguments | None = None


SOUND_ARGUMENTS = (AudioArguments, AugmentArguments)


def of_kind(arguments: tuple, kind: type):
    """The one of a kind among some dataclasses; None where there is none."""
    return next((one for one in arguments if isinstance(one, kind)), None)


class Job:
    """One fold of a run: its words, and as many fresh trainers as are wanted.

    Attributes:
        candidate, rows: The model that was made last, and its rows.
        seconds: How long the words, the first model and the rows took, with statistics of the training clips.
    """

    def __init__(self, asked: Asked, fold: Fold):
        self.asked, self.fold, started = asked, fold, time.time()
        self.labels = asked.dataset.features["label"].names
        self.words = fold_words(asked.dataset, fold, asked.data, asked.training.seed)
        self.prepare()
        self.seconds = time.time() - started

    def prepare(self) -> None:
        """Make the model and the rows, with every check that refuses them."""
        asked, dataset = self.asked, self.asked.dataset
        set_seed(asked.training.seed)
        texts = [self.words.text[name] for name in dataset.select(self.fold.train)["id"][:]]
        self.candidate = asked.build(self.labels, texts, self.fold)
        told = (asked.data, asked.training, asked.audio, asked.augment)
        self.rows: FoldData = fold_data(dataset, self.fold, self.words, self.candidate, *told)
        self.is_fresh = True

    def trainer(self, arguments, callbacks=()) -> SerTrainer:
        """A trainer of a fresh model."""
        if not self.is_fresh:
            self.prepare()
        self.is_fresh = False
        frozen = self.frozen_cache() if arguments.cache_frozen else None
        if frozen is not None:
            self.candidate = replace(self.candidate, collator=CachedCollator(self.candidate.collator, frozen))
        alone = list(self.candidate.encoders) == ["audio"]
        fits = alone and self.asked.audio.audio_model in FITTED
        return (FittedTrainer if fits else SerTrainer)(
            self.candidate,
            self.labels,
            args=arguments,
            train_dataset=self.rows.train,
            eval_dataset=self.rows.validation,
            callbacks=list(callbacks),
            frozen=frozen,
            view=self.rows.view,
        )

    def frozen_cache(self) -> FrozenCache:
        """Where the outputs of what is never trained are kept."""
        config, training = self.candidate.model.config, self.asked.training
        told = {name: getattr(config, name, None) for name in ("audio_layers", "text_layers")}
        told["precision"] = "bf16" if training.bf16 else "fp16" if training.fp16 else "float32"
        if augmented := self.rows.view is not None:
            told["augment"] = self.candidate.collator.augmenter.key
        return FrozenCache(self.candidate, told, augmented, training.cache_views)


class Clock(TrainerCallback, ExportableState):
    """Keeps in each checkpoint for how long the run has been trained, so that a resumed one counts on.

    Attributes:
        earlier: Seconds up to the checkpoint that this run was resumed from.
    """

    def __init__(self):
        self.earlier, self.started = 0.0, time.time()

    def on_train_begin(self, args, state, control, **kwargs):
        """Begin to count what comes after `earlier`."""
        self.started = time.time()

    def state(self) -> dict:
        """What Trainer writes into a checkpoint, and makes another of when it goes on from there."""
        return {"args": {}, "attributes": {"earlier": self.earlier + time.time() - self.started}}


def seconds_of(trainer: SerTrainer, checkpoint: str | None) -> float:
    """Train, from a checkpoint on if there is one; the seconds, with those up to the checkpoint."""
    started = time.time()
    trainer.train(resume_from_checkpoint=checkpoint)
    clocks = [one for one in trainer.callback_handler.callbacks if isinstance(one, Clock)]
    return time.time() - started + sum(clock.earlier for clock in clocks)


def trial_arguments(training, folder: Path):
    """The arguments of a training that leaves no checkpoint and is told to no tracker."""
    arguments = copy(training)
    arguments.output_dir, arguments.push_to_hub, arguments.report_to = str(folder / "trials"), False, []
    return arguments


def fold_arguments(training, folder: Path):
    """The arguments of a fold's training."""
    arguments = copy(training)
    arguments.output_dir = str(folder / "checkpoints")
    arguments.push_to_hub = False  # Trainer would push checkpoints, under a card that says nothing of the split
    arguments.run_name = training.run_name or f"{folder.parent.name}/{folder.name}"
    return arguments


def train_fold(asked: Asked, fold: Fold, folder: Path, audit: list[AuditFinding]) -> None:
    """Train one fold, save its model, predict its test rows and write its record, in this order."""
    dataset, data, job = asked.dataset, asked.data, Job(asked, fold)
    words, candidate = job.words, job.candidate
    sources = candidate.sources | recogniser_record(data, "text" in candidate.sources)
    audit = [one for one in audit if one.fold in (None, fold.name)]
    found = {one.kind for one in audit if one.severity == LEAK}
    leaks = sorted({*fold.leaks, *found, *words.leaks, *stage_leaks(dataset, fold, sources, data.allow_leak)})
    record = {
        "finished": False,
        "split": split_record(dataset, fold),
        "ancestors": [record for source in sources.values() for record in ancestry(source)],
    }
    if PartialState().is_main_process:
        # Before training, so that a checkpoint of a run that is killed says whom it has met.
        write_record(folder, record)
    arguments = fold_arguments(asked.training, folder)
    if asked.training.search:
        best = search(job.trainer, arguments, folder, asked.training.search)
        record |= {"search": best}
        for name, value in best.items():
            setattr(arguments, name, value)
    arguments.report_to, callbacks = tensorboard_beside(asked.training.report_to, folder)
    trainer = job.trainer(arguments, [*callbacks, Clock()])
    candidate, rows = job.candidate, job.rows
    parameters = count_parameters(candidate.model)  # before LoRA is merged
    checkpoints = Path(arguments.output_dir)
    seconds = seconds_of(trainer, last_whole_checkpoint(checkpoints))
    calibrate(trainer, candidate.model.config, rows.validation)
    if len(fold.test):
        logits = trainer.logits(rows.test)
    save_model(trainer, candidate, folder)
    if not trainer.is_world_process_zero():
        return
    if len(fold.test):
        predicted = prediction_rows(dataset, fold, words, logits, candidate.model.config, data.protocol, leaks)
        write_predictions(folder / PREDICTIONS, [row | {"notes": rows.notes} for row in predicted])
    record |= {"finished": True, "protocol": data.protocol, "leaks": leaks, "audit": [asdict(one) for one in audit]}
    record |= {"settings": asked.changed, "notes": rows.notes}
    record |= {"train_seconds": round(seconds, 1), "prepare_seconds": round(job.seconds, 1)}
    write_record(folder, record | training_details(trainer, candidate, dataset, words, parameters))
    if asked.training.report_to and len(fold.test):
        write_fold_report(folder, audit)
        track_results(asked.training.report_to, folder, arguments)
    shutil.rmtree(checkpoints, ignore_errors=True)


def recogniser_record(data, reads: bool) -> dict[str, str]:
    """Where the data set says whom the recogniser of its words was trained on, if a model reads these."""
    # The noise on the corpus's own words is learned from what the recogniser made of them.
    of_recogniser = data.transcript_source != REFERENCE or data.transcript_noise
    if not (reads and data.dataset and of_recogniser):
        return {}
    folder = Path(data.dataset) / ASR_RECORD
    return {"transcripts": str(folder)} if (folder / RECORD).is_file() else {}


def training_details(
    trainer: SerTrainer, candidate: Candidate, dataset: Dataset, words: Words, parameters: tuple[int, int]
) -> dict:
    """What the record says of how a fold was trained; `parameters` are all, and those that were trained."""
    return {
        "corpora": sorted(set(dataset["corpus"][:])),
        "encoders": provenance(candidate.sources),
        "sources": candidate.sources,
        "base_models": sorted({split_revision(one)[0] for one in candidate.sources.values() if on_the_hub(one)}),
        "seed": trainer.args.seed,
        "parameters": parameters[0],
        "parameters_trained": parameters[1],
        "transcript_sources": sorted({source or "none" for source in words.source.values()}),
        "words": words.details,
        "hardware": hardware(),
        "precision": trainer.accelerator.mixed_precision,
        "best_validation_uar": saved_uar(trainer),
        "history": trainer.state.log_history,
    }


def saved_uar(trainer: SerTrainer) -> float | None:
    """Validation UAR of the weights that are saved: the best, or the last where the last weights are kept."""
    if trainer.args.load_best_model_at_end:
        return trainer.state.best_metric
    return next((one["eval_uar"] for one in reversed(trainer.state.log_history) if "eval_uar" in one), None)


def on_the_hub(source: str) -> bool:
    """Whether an encoder was loaded from the Hub, and not from a folder or made here."""
    return source not in (*PRESETS, *TEXT_PRESETS) and not Path(source).exists()


def last_whole_checkpoint(folder: Path) -> str | None:
    """The last checkpoint that was written to its end, None where there is none.

    Trainer writes `trainer_state.json` last: a folder without it was being written when the run was killed.
    """
    for checkpoint in folder.glob("checkpoint-*"):
        try:
            json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            if PartialState().is_main_process:
                shutil.rmtree(checkpoint, ignore_errors=True)
    PartialState().wait_for_everyone()
    return get_last_checkpoint(str(folder)) if folder.is_dir() else None


def save_model(trainer: SerTrainer, candidate: Candidate, folder: Path) -> None:
    """Save the trained model with its processor and code; LoRA is merged, the adapter kept beside it."""
    if isinstance(candidate.model, PeftModel):
        if not trainer.is_world_process_zero():
            return
        candidate.model.save_pretrained(folder / "adapter")
        candidate.model.merge_and_unload().save_pretrained(folder)
    else:
        trainer.save_model(str(folder))
    if trainer.is_world_process_zero():
        candidate.processor.save_pretrained(folder)
        copy_island(folder)
        # Trainer's pickle of its arguments: the record says the same as text.
        (folder / "training_args.bin").unlink(missing_ok=True)


def calibrate(trainer: SerTrainer, config: PreTrainedConfig, validation: Dataset) -> None:
    """Put into a model's configuration how sure it may be, by its validation speakers: never by those of the test."""
    logits = trainer.logits(validation, "calibration")
    config.calibration_temperature = fit_temperature(logits, np.array(validation.with_format(None)["label"][:]))
    config.abstain_threshold = abstain_threshold(softmax(logits / config.calibration_temperature, axis=-1))


def prediction_rows(
    dataset: Dataset, fold: Fold, words: Words, logits: np.ndarray, config, protocol: str, leaks: list[str]
) -> list[dict]:
    """The test rows of a fold as `predictions.jsonl` holds them; logits: `(rows, classes)`."""
    labels = dataset.features["label"].names
    probabilities = softmax(logits / config.calibration_temperature, axis=-1)
    told = ("id", "corpus", "speaker", "sex")
    columns = dataset.select_columns([*told, "label", "votes"]).select(fold.test).to_list()
    return [
        {
            **{name: row[name] for name in told},
            "protocol": protocol,
            "fold": fold.name,
            "split_fingerprint": fold.fingerprint,
            "leaks": leaks,
            "transcript_source": words.source[row["id"]],
            "reference": labels[row["label"]],
            "votes": None if row["votes"] is None else dict(zip(labels, row["votes"], strict=True)),
            "temperature": config.calibration_temperature,
            "abstain_threshold": config.abstain_threshold,
            "probabilities": dict(zip(labels, answer.tolist(), strict=True)),
        }
        for row, answer in zip(columns, probabilities, strict=True)
    ]
