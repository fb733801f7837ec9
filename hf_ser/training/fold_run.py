"""One fold of a run: a fresh model, trained from the last checkpoint on, saved, and its test rows predicted."""

import json
import shutil
import time
from collections.abc import Callable
from copy import copy
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from accelerate import PartialState
from datasets import Dataset
from peft import PeftModel
from scipy.special import softmax
from transformers import PreTrainedConfig, TrainerCallback, set_seed
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import get_last_checkpoint

from hf_ser.augment.training import AugmentArguments
from hf_ser.checks.audit.data import CLEARED
from hf_ser.checks.audit.findings import LEAK, AuditFinding
from hf_ser.checks.audit.not_copies import read_not_copies
from hf_ser.data.protocols import Fold
from hf_ser.data.schema import REFERENCE
from hf_ser.inputs.frozen import CachedCollator, FrozenCache, unwrapped
from hf_ser.models import SOLVED_HEADS, copy_code, share_weights
from hf_ser.publish.results import write_fold_report
from hf_ser.publish.trackers import tensorboard_beside, track_results
from hf_ser.revisions import split_revision
from hf_ser.runs.calibration import abstain_threshold, fit_temperature
from hf_ser.runs.checkpoints import WEIGHTS, weights_digests
from hf_ser.runs.predictions import PREDICTIONS, write_predictions
from hf_ser.runs.record import (
    ASR_RECORD,
    RECORD,
    ancestry,
    hardware,
    is_own_network,
    provenance,
    split_record,
    stage_leaks,
    write_record,
)
from hf_ser.training.arguments import AudioArguments
from hf_ser.training.building import Candidate
from hf_ser.training.fits import FittedTrainer, is_solved
from hf_ser.training.fold_data import FoldData, fold_data
from hf_ser.training.search import search
from hf_ser.training.trainer import SerTrainer, choose_threads, count_parameters
from hf_ser.transcripts.fold_transcripts import FoldTranscripts, fold_transcripts


@dataclass(frozen=True)
class Asked:
    """What a run is asked to do, for each of its folds.

    Args:
        build: Makes an untrained model from the classes, the words of the training rows, who speaks them, and the fold.
        changed: What differs from the defaults, for the record.
        audio, augment: AudioArguments and AugmentArguments; None for a model that only reads.
    """

    build: Callable[[list[str], list[str | None], list[str | None], Fold], Candidate]
    dataset: Dataset
    data: object
    training: object
    changed: dict
    audio: AudioArguments | None = None
    augment: AugmentArguments | None = None


class Job:
    """One fold of a run: its words, and as many fresh trainers as are wanted.

    Attributes:
        candidate, rows: The model that was made last, and its rows.
        seconds: How long the words, the first model and the rows took, with statistics of the training clips.
    """

    def __init__(self, asked: Asked, fold: Fold):
        self.asked, self.fold, started = asked, fold, time.time()
        self.labels = asked.dataset.features["label"].names
        self.words = fold_transcripts(asked.dataset, fold, asked.data, asked.training.seed)
        self.prepare()
        self.seconds = time.time() - started

    def prepare(self) -> None:
        """Make the model and the rows, with every check that refuses them."""
        asked, dataset = self.asked, self.asked.dataset
        set_seed(asked.training.seed)
        rows = dataset.select_columns(["id", "speaker"]).select(self.fold.train)
        texts = [self.words.text[name] for name in rows["id"][:]]
        self.candidate = asked.build(self.labels, texts, rows["speaker"][:], self.fold)
        choose_threads(self.candidate.model, asked.training)  # the statistics of the sound are computed too
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
        trainer = SerTrainer
        if is_solved(self.candidate.model.config):
            enrolment_clips = self.asked.audio.enrolment_clips if self.asked.audio else 0
            trainer = partial(FittedTrainer, enrolment_clips=enrolment_clips)
        return trainer(
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
        told = {name: getattr(config, name) for name in ("audio_layers", "text_layers")}
        told["mean"] = config.head in SOLVED_HEADS
        told["precision"] = "bf16" if training.bf16 else "fp16" if training.fp16 else "float32"
        augmentation = None if self.rows.view is None else self.candidate.collator.augmenter.key
        return FrozenCache(self.candidate, told, augmentation, training.cache_views, self.rows.fitted)


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
        # Trainer expects the state of every such callback in a checkpoint; one of an earlier version has none.
        state.stateful_callbacks.setdefault("Clock", self.state())

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
    reads = "text" in candidate.sources
    if not reads:  # the transcripts of the data set were not used
        words = replace(words, source=dict.fromkeys(words.source))
    sources = candidate.sources | recogniser_record(data, reads)
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
    if trainer.frozen is not None:
        PartialState().print(trainer.frozen.summary())
    calibrate(trainer, candidate.model.config, rows.validation)
    if len(fold.test):
        logits = trainer.logits(rows.test)
    save_model(trainer, candidate, folder)
    if not trainer.is_world_process_zero():
        return
    notes = rows.notes + [one.detail for one in audit if one.kind == CLEARED]
    if len(fold.test):
        predicted = prediction_rows(dataset, fold, words, logits, candidate.model.config, data.protocol, leaks)
        write_predictions(folder / PREDICTIONS, [row | {"notes": notes} for row in predicted])
    record |= {"finished": True, "protocol": data.protocol, "leaks": leaks, "audit": [asdict(one) for one in audit]}
    record |= {"settings": asked.changed, "notes": notes, WEIGHTS: weights_digests(folder)}
    if data.not_copies:
        record |= {"not_copies": read_not_copies(data.not_copies).record()}
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
    trainer: SerTrainer, candidate: Candidate, dataset: Dataset, words: FoldTranscripts, parameters: tuple[int, int]
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
        "solved": isinstance(trainer, FittedTrainer),
        "history": trainer.state.log_history,
    }


def saved_uar(trainer: SerTrainer) -> float | None:
    """Validation UAR of the weights that are saved: the best, or the last where the last weights are kept."""
    state, evaluated = trainer.state, [one for one in trainer.state.log_history if "eval_uar" in one]
    if trainer.args.load_best_model_at_end and trainer.args.metric_for_best_model.removeprefix("eval_") == "uar":
        return state.best_metric
    if trainer.args.load_best_model_at_end:  # chosen by another metric
        evaluated = [one for one in evaluated if one["step"] == state.best_global_step]
    return next((one["eval_uar"] for one in reversed(evaluated)), None)


def on_the_hub(source: str) -> bool:
    """Whether an encoder was loaded from the Hub, and not from a folder or made here."""
    return not is_own_network(source) and not Path(source).exists()


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
        share_weights(folder)
        share_weights(folder / "adapter")
    else:
        trainer.save_model(str(folder))
    if trainer.is_world_process_zero():
        candidate.processor.save_pretrained(folder)
        copy_code(folder, unwrapped(candidate.model))
        # Trainer's pickle of its arguments: the record says the same as text.
        (folder / "training_args.bin").unlink(missing_ok=True)


def calibrate(trainer: SerTrainer, config: PreTrainedConfig, validation: Dataset) -> None:
    """Put into a model's configuration how sure it may be, by its validation speakers: never by those of the test.

    Of a head that was solved for, by all its speakers, each left out in turn: the validation speakers alone are fewer,
    and the temperature that suited them made the error larger on RAVDESS's test speakers.
    """
    if (left_out := getattr(trainer, "left_out", None)) is not None:
        logits, labels = left_out
    else:
        logits = trainer.logits(validation, "calibration")
        labels = np.array(validation.with_format(None)["label"][:])
    config.calibration_temperature = fit_temperature(logits, labels)
    config.abstain_threshold = abstain_threshold(softmax(logits / config.calibration_temperature, axis=-1))


def prediction_rows(
    dataset: Dataset, fold: Fold, words: FoldTranscripts, logits: np.ndarray, config, protocol: str, leaks: list[str]
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
