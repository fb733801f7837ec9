"""One fold of a run: a fresh model, trained from the last checkpoint on, saved, and its test rows predicted."""

import json
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path

from accelerate import PartialState
from peft import PeftModel
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import get_last_checkpoint

from hf_ser.checks.audit.not_copies import read_not_copies
from hf_ser.data.folds import Fold
from hf_ser.models import share_weights
from hf_ser.publish.trackers import separate_tensorboard
from hf_ser.runs.checkpoints import weights_digests
from hf_ser.runs.findings import LEAK, AuditFinding
from hf_ser.runs.record import TrainingRecord, ancestry, hardware, split_record, stage_leaks, write_record
from hf_ser.training.building import Candidate
from hf_ser.training.search import search
from hf_ser.training.threads import count_parameters


class FoldTask(ABC):
    """A task on one fold: what is built, trained, saved and predicted.

    Attributes:
        fold: The fold, with the rows that can be used.
        candidate: The model that was built last.
        sources: Folder or name of each model that it was built or its transcripts made with, by modality.
    """

    fold: Fold
    candidate: Candidate
    sources: dict[str, str]

    @abstractmethod
    def __init__(self, task, fold: Fold):
        """Build the model of a `Task`, with every check that refuses it."""

    @abstractmethod
    def trainer(self, arguments, callbacks: Sequence[TrainerCallback] = ()) -> Trainer:
        """A trainer of an untrained model."""

    @abstractmethod
    def describe(self, record: TrainingRecord) -> TrainingRecord:
        """The fold's record with what the task knows before training."""

    @abstractmethod
    def finish(self, trainer: Trainer, folder: Path, record: TrainingRecord) -> TrainingRecord:
        """Save the trained model, and write what it predicts for the test rows; called by all processes.

        Args:
            trainer: The trainer after training.
            folder: Folder of the fold.
            record: The result of `describe`.

        Returns:
            The record with what was measured, on the main process.
        """


def train_fold(task, fold: Fold, folder: Path, findings: list[AuditFinding]) -> None:
    """Train a `Task` on one fold, save its model, predict its test rows and write its record, in this order."""
    started, training = time.time(), task.training
    fold_task = task.fold_class(task, fold)
    prepare_seconds = time.time() - started
    record = fold_task.describe(known_before_training(task, fold_task, findings))
    if PartialState().is_main_process:
        # Before training, so that the checkpoint of a killed run says whom it was trained on.
        write_record(folder, record)
    arguments = fold_arguments(training, folder)
    if training.search:
        best = search(fold_task.trainer, arguments, folder, training.search)
        record = replace(record, search=best)
        for name, value in best.items():
            setattr(arguments, name, value)
    arguments.report_to, callbacks = separate_tensorboard(training.report_to, folder)
    trainer = fold_task.trainer(arguments, [*callbacks, Clock()])
    parameters, trained = count_parameters(fold_task.candidate.model)  # before LoRA is merged
    checkpoints = Path(arguments.output_dir)
    if checkpoint := last_complete_checkpoint(checkpoints):
        PartialState().print(f"{folder.name}: goes on from {Path(checkpoint).name}, where an earlier run was stopped")
    seconds = seconds_of(trainer, checkpoint)
    record = fold_task.finish(trainer, folder, record)
    if not trainer.is_world_process_zero():
        return
    record = replace(
        record,
        finished=True,
        seed=trainer.args.seed,
        parameters=parameters,
        parameters_trained=trained,
        train_seconds=round(seconds, 1),
        prepare_seconds=round(prepare_seconds, 1),
        hardware=hardware(),
        precision=trainer.accelerator.mixed_precision,
        history=trainer.state.log_history,
        weights=weights_digests(folder),
    )
    write_record(folder, record)
    shutil.rmtree(checkpoints, ignore_errors=True)


def known_before_training(task, fold_task: FoldTask, findings: list[AuditFinding]) -> TrainingRecord:
    """The record of a fold as far as it is known before training, whatever the `Task`.

    Raises:
        ValueError: a model that it is built from was trained on its test speakers.
    """
    dataset, data, fold, sources = task.dataset, task.data, fold_task.fold, fold_task.sources
    findings = [one for one in findings if one.fold in (None, fold.name)]
    found = {one.kind for one in findings if one.severity == LEAK}
    return TrainingRecord(
        split=split_record(dataset, fold),
        ancestors=[split for source in sources.values() for split in ancestry(source)],
        protocol=data.protocol,
        settings=task.changed,
        recipe=task.training.recipe,
        leaks=sorted({*fold.leaks, *found, *stage_leaks(dataset, fold, sources, data.allow_leak)}),
        audit=findings,
        not_copies=read_not_copies(data.not_copies).record() if data.not_copies else None,
        corpora=sorted(set(dataset["corpus"][:])),
        sources=fold_task.candidate.sources,
    )


class Clock(TrainerCallback, ExportableState):
    """Keeps the seconds of training in each checkpoint, so that a resumed run adds its own.

    Attributes:
        earlier: Seconds before the checkpoint that this run was resumed from.
    """

    def __init__(self):
        self.earlier, self.started = 0.0, time.time()

    def on_train_begin(self, args, state, control, **kwargs):
        """Start counting the seconds after `earlier`."""
        self.started = time.time()
        # Trainer expects this callback's state in the checkpoint; checkpoints of earlier versions have none.
        state.stateful_callbacks.setdefault("Clock", self.state())

    def state(self) -> dict:
        """What Trainer writes into a checkpoint, and restores this callback from."""
        return {"args": {}, "attributes": {"earlier": self.earlier + time.time() - self.started}}


def seconds_of(trainer: Trainer, checkpoint: str | None) -> float:
    """Train, from a checkpoint on if there is one, and return the seconds, including those before the checkpoint."""
    started = time.time()
    trainer.train(resume_from_checkpoint=checkpoint)
    clocks = [one for one in trainer.callback_handler.callbacks if isinstance(one, Clock)]
    return time.time() - started + sum(clock.earlier for clock in clocks)


def fold_arguments(training, folder: Path):
    """Arguments of a fold's training."""
    arguments = copy(training)
    arguments.output_dir = str(folder / "checkpoints")
    arguments.push_to_hub = False  # Trainer would push checkpoints, under a card that says nothing of the split
    arguments.run_name = training.run_name or f"{folder.parent.name}/{folder.name}"
    return arguments


def last_complete_checkpoint(folder: Path) -> str | None:
    """The last complete checkpoint, None where there is none; incomplete ones are removed.

    Trainer writes `trainer_state.json` last: a folder without it was incomplete when the run was killed.
    """
    for checkpoint in folder.glob("checkpoint-*"):
        try:
            json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            if PartialState().is_main_process:
                shutil.rmtree(checkpoint, ignore_errors=True)
    PartialState().wait_for_everyone()
    return get_last_checkpoint(str(folder)) if folder.is_dir() else None


def save_model(trainer: Trainer, candidate: Candidate, folder: Path) -> None:
    """Save the trained model with its processor; LoRA is merged, the adapter kept beside it."""
    if not isinstance(candidate.model, PeftModel):
        trainer.save_model(str(folder))
    elif trainer.is_world_process_zero():
        candidate.model.save_pretrained(folder / "adapter")
        candidate.model.merge_and_unload().save_pretrained(folder)
        share_weights(folder / "adapter")
    if trainer.is_world_process_zero():
        share_weights(folder)
        candidate.processor.save_pretrained(folder)
        # Trainer's pickle of its arguments, which the record has as text.
        (folder / "training_args.bin").unlink(missing_ok=True)
