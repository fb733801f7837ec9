"""The emotion tasks: models of audio, of text or of both, each predicting the label of an utterance.

In a run's folder beside what every task writes:

    O/fold_K/ or O/final/     predictions.jsonl, and code that loads the model elsewhere
    O/predictions.jsonl       all folds that are finished
    O/report.json, *.png      made from the predictions alone
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from accelerate import PartialState
from datasets import Dataset
from scipy.special import softmax
from transformers import PreTrainedConfig, TrainerCallback, set_seed

from hf_ser.checks.audit.data import CLEARED
from hf_ser.data.folds import Fold
from hf_ser.data.schema import REFERENCE
from hf_ser.models import copy_code
from hf_ser.publish.results import write_fold_report, write_results
from hf_ser.publish.trackers import track_results
from hf_ser.revisions import split_revision
from hf_ser.runs.calibration import abstain_threshold, fit_temperature
from hf_ser.runs.predictions import PREDICTIONS, Prediction, write_predictions
from hf_ser.runs.record import ASR_RECORD, RECORD, TrainingRecord, is_own_network, provenance
from hf_ser.stable import rows_digest
from hf_ser.training.arguments import (
    OF_MODEL,
    AdaptArguments,
    AudioArguments,
    AugmentArguments,
    CommonHeadArguments,
    FusionArguments,
    HeadArguments,
    TextArguments,
    reject_transcript_settings,
)
from hf_ser.training.building import build_model, from_fold
from hf_ser.training.familiarity import familiarity_of, learn_familiarity
from hf_ser.training.fits import FittedTrainer, is_solved, reject_descent
from hf_ser.training.fold_data import FoldData, fold_data
from hf_ser.training.fold_run import FoldTask, save_model
from hf_ser.training.frozen_pass import frozen_features, unwrapped
from hf_ser.training.run import Settings, Task
from hf_ser.training.trainer import SerTrainer, choose_threads
from hf_ser.training.trainer_arguments import SerTrainingArguments
from hf_ser.transcripts.context import previous_turns
from hf_ser.transcripts.fold_transcripts import ASR, MIXED, fold_transcripts
from hf_ser.transcripts.sentence_bank import bank_digest, sentence_bank

HASHED_COLUMNS = ("id", "label", "votes", "speaker", "sex", "transcript", "pcm_sha256")
"""What distinguishes one data set from another."""


class EmotionFold(FoldTask):
    """An emotion task on one fold; it builds an untrained model for each trainer.

    Attributes:
        transcripts: The transcripts of its rows.
        rows: Its rows for the model that was built last.
    """

    def __init__(self, task, fold: Fold):
        self.task, self.fold = task, fold
        self.labels = task.dataset.features["label"].names
        self.transcripts = fold_transcripts(task.dataset, fold, task.data, task.training.seed)
        if TextArguments in task.settings and (turns := task.settings[TextArguments].context):
            context = previous_turns(task.dataset, fold, self.transcripts.text, turns)
            self.transcripts = replace(self.transcripts, context=context)
        self.prepare()
        if not task.reads_text:  # the transcripts of the data set were not used
            self.transcripts = replace(self.transcripts, source=dict.fromkeys(self.transcripts.source))
        recogniser = recogniser_source(task.data, task.reads_text)
        self.sources = self.candidate.sources | recogniser

    def prepare(self) -> None:
        """Build the model and the rows, with all their checks."""
        task, training = self.task, self.task.training
        set_seed(training.seed)
        rows = task.dataset.select_columns(["id", "speaker"]).select(self.fold.train)
        texts = [self.transcripts.text[name] for name in rows["id"][:]]
        parts = {"audio": task.settings.get(AudioArguments), "text": task.settings.get(TextArguments)}
        parts |= {name: from_fold(part, self.fold.name) for name, part in parts.items() if part is not None}
        parts |= {"texts": texts, "speakers": rows["speaker"][:]}
        self.candidate = build_model(self.labels, task.head, task.settings[AdaptArguments], **parts)
        choose_threads(self.candidate.model, training)  # before statistics of the audio are computed
        audio, augment = (task.settings.get(kind) for kind in (AudioArguments, AugmentArguments))
        arguments = (task.data, training, audio, augment)
        self.rows: FoldData = fold_data(task.dataset, self.fold, self.transcripts, self.candidate, *arguments)
        self.is_fresh = True

    def trainer(self, arguments, callbacks: Sequence[TrainerCallback] = ()) -> SerTrainer:
        if not self.is_fresh:
            self.prepare()
        self.is_fresh = False
        if arguments.cache_frozen:
            self.candidate.collator.frozen = frozen_features(self.candidate, self.rows, arguments)
            PartialState().print(self.candidate.collator.frozen.summary())
        trainer = SerTrainer
        if is_solved(self.candidate.model.config):
            enrolment_clips = getattr(self.task.settings.get(AudioArguments), "enrolment_clips", 0)
            balance = self.task.head.class_balance
            trainer = partial(FittedTrainer, enrolment_clips=enrolment_clips, class_balance=balance)
        return trainer(
            self.candidate,
            self.labels,
            args=arguments,
            train_dataset=self.rows.train,
            eval_dataset=self.rows.validation,
            callbacks=list(callbacks),
            view=self.rows.view,
        )

    def describe(self, record: TrainingRecord) -> TrainingRecord:
        sources = self.candidate.sources
        return replace(
            record,
            notes=self.rows.notes + [one.detail for one in record.audit if one.kind == CLEARED],
            encoders=provenance(sources),
            base_models=sorted({split_revision(one)[0] for one in sources.values() if on_the_hub(one)}),
            transcript_sources=sorted({source or "none" for source in self.transcripts.source.values()}),
            words=self.transcripts.details,
            solved=is_solved(self.candidate.model.config),
        )

    def finish(self, trainer: SerTrainer, folder: Path, record: TrainingRecord) -> TrainingRecord:
        """As FoldTask's; the model is calibrated on the validation rows first."""
        calibrate(trainer, self.candidate.model.config, self.rows.validation)
        model = unwrapped(self.candidate.model)
        learn_familiarity(trainer, model, self.rows.train, self.rows.validation)
        logits = trainer.logits(self.rows.test) if len(self.fold.test) else None
        alike = familiarity_of(trainer, model, self.rows.test)
        save_model(trainer, self.candidate, folder)
        if not trainer.is_world_process_zero():
            return record
        copy_code(folder, unwrapped(self.candidate.model))
        if logits is not None:
            write_predictions(folder / PREDICTIONS, self.prediction_rows(logits, alike, record.leaks, record.notes))
            if trackers := self.task.training.report_to:
                write_fold_report(folder, record.audit)
                track_results(trackers, folder, trainer.args)
        return replace(record, best_validation_uar=saved_uar(trainer))

    def prediction_rows(
        self, logits: np.ndarray, familiarity: list[float | None], leaks: list[str], notes: list[str]
    ) -> list[Prediction]:
        """The test rows as `predictions.jsonl` has them; logits: `(rows, classes)`."""
        config, fold, labels = self.candidate.model.config, self.fold, self.labels
        probabilities = softmax(logits / config.calibration_temperature, axis=-1)
        same = {"protocol": self.task.data.protocol, "fold": fold.name, "split_fingerprint": fold.fingerprint}
        same |= {"leaks": leaks, "temperature": config.calibration_temperature}
        same |= {"abstain_threshold": config.abstain_threshold, "notes": notes}
        names = ("id", "corpus", "speaker", "sex")
        columns = self.task.dataset.select_columns([*names, "label", "votes"]).select(fold.test).to_list()
        return [
            Prediction(
                **{name: row[name] for name in names},
                **same,
                transcript_source=self.transcripts.source[row["id"]],
                reference=labels[row["label"]],
                votes=None if row["votes"] is None else dict(zip(labels, row["votes"], strict=True)),
                familiarity=alike,
                probabilities=dict(zip(labels, of_row.tolist(), strict=True)),
            )
            for row, alike, of_row in zip(columns, familiarity, probabilities, strict=True)
        ]


class EmotionTask(Task):
    """What the models of audio, of text and of both share."""

    fold_class = EmotionFold

    def __init__(self, given: Settings):
        super().__init__(given)
        if not self.reads_text:
            reject_transcript_settings(self.data)
        models = [given[one] for one in (AudioArguments, TextArguments) if one in given]
        reject_descent(models, self.head, given.get(AugmentArguments), given[AdaptArguments], self.training)

    @property
    def head(self) -> CommonHeadArguments:
        """The settings of the head."""
        return self.settings.get(HeadArguments) or self.settings[FusionArguments]

    def open(self, dataset: Dataset, folds: list[Fold]) -> dict:
        """As Task's; what distinguishes data are the labels, and a hash of the rows whatever their order."""
        if not self.reads_text:
            check_audio(dataset)
        elif AudioArguments in self.settings:
            check_transcripts(dataset, folds)
        self.dataset, self.notices = dataset, notices(dataset, self.data, *self.settings.values())
        optional = [name for name in ("reference_transcript", "asr_transcript") if name in dataset.column_names]
        columns, labels = dataset.select_columns([*HASHED_COLUMNS, *optional])[:], dataset.features["label"].names
        digest = rows_digest(zip(*columns.values(), strict=True))[:16]
        described = {"rows": dataset.num_rows, "labels": labels, "digest": digest}
        if self.data.sentence_bank:
            # The content of the file may have changed.
            described["sentence_bank"] = bank_digest(sentence_bank(self.data.sentence_bank, labels))
        return described

    def write_results(self) -> str:
        return write_results(self.training.output_dir, self.dataset)


class AudioTask(EmotionTask):
    """An audio-only model."""

    name = "audio"
    classes = (*OF_MODEL[name], SerTrainingArguments)
    reads_text = False


class TextTask(EmotionTask):
    """A text-only model."""

    name = "text"
    classes = (*OF_MODEL[name], SerTrainingArguments)


class FusionTask(EmotionTask):
    """A model of audio and text."""

    name = "fusion"
    classes = (*OF_MODEL[name], SerTrainingArguments)
    default_recipe = "quickstart.yaml"


def check_audio(dataset: Dataset) -> None:
    """Make sure that every clip has audio.

    Raises:
        ValueError: one has none.
    """
    if missing := dataset["duration_seconds"][:].count(None):
        raise ValueError(
            f"{missing} of {len(dataset)} clips have no audio, and this model is audio-only. Expected audio for each: "
            "add the audio files and prepare the data again, or use train_text.py or train_fusion.py."
        )


def check_transcripts(dataset: Dataset, folds: list[Fold]) -> None:
    """Make sure that some training rows of each fold have a transcript.

    Raises:
        ValueError: none of a fold has.
    """
    has_text = [bool(text and text.strip()) for text in dataset["transcript"][:]]
    for fold in folds:
        if not any(has_text[row] for row in fold.train):
            raise ValueError(
                f"Fold {fold.name}: none of its {len(fold.train)} training clips has a transcript, and this model is "
                "of audio and text. Expected transcripts: train on the audio alone with train_audio.py; or prepare the "
                "data, let scripts/transcribe.py --dataset DS write transcripts, and train on what it writes."
            )


NO_TRANSCRIPT = {
    None: "",
    REFERENCE: " by the corpus",
    ASR: " by a recogniser, or an empty one",
    MIXED: " by a recogniser, or an empty one; in training the corpus's own is used for one that is missing",
}
"""Whose transcript is missing, by `--transcript_source`."""


def notices(dataset: Dataset, data, *arguments) -> list[str]:
    """What the models cannot learn from in the data."""
    found = []
    if data.target != "label" and (unrated := dataset["votes"][:].count(None)):
        found.append(f"{unrated} of {len(dataset)} clips have no raters' votes: their label is the target")
    for one in arguments:
        if isinstance(one, AudioArguments):
            seconds = dataset["duration_seconds"][:]
            if long := sum(length is not None and length > one.max_seconds for length in seconds):
                found.append(f"{long} of {len(dataset)} clips are longer than --max_seconds {one.max_seconds:g}: cut")
            if missing := seconds.count(None):
                found.append(f"{missing} of {len(dataset)} clips have no audio")
        if isinstance(one, TextArguments) and (empty := sum(not text for text in dataset["transcript"][:])):
            found.append(f"{empty} of {len(dataset)} clips have no transcript{NO_TRANSCRIPT[data.transcript_source]}")
    return found


def recogniser_source(data, reads_text: bool) -> dict[str, str]:
    """The folder with the training record of the recogniser whose transcripts are used."""
    if not (reads_text and data.dataset and data.transcript_source != REFERENCE):
        return {}
    folder = Path(data.dataset) / ASR_RECORD
    return {"transcripts": str(folder)} if (folder / RECORD).is_file() else {}


def saved_uar(trainer: SerTrainer) -> float | None:
    """Validation UAR of the saved weights: the best, or the last where the last weights are kept."""
    state, evaluated = trainer.state, [one for one in trainer.state.log_history if "eval_uar" in one]
    if trainer.args.load_best_model_at_end and trainer.args.metric_for_best_model.removeprefix("eval_") == "uar":
        return state.best_metric
    if trainer.args.load_best_model_at_end:  # chosen by another metric
        evaluated = [one for one in evaluated if one["step"] == state.best_global_step]
    return next((one["eval_uar"] for one in reversed(evaluated)), None)


def on_the_hub(source: str) -> bool:
    """Whether an encoder was loaded from the Hub, and not from a folder or made here."""
    return not is_own_network(source) and not Path(source).exists()


def calibrate(trainer: SerTrainer, config: PreTrainedConfig, validation: Dataset) -> None:
    """Set temperature and abstention threshold in a model's configuration by its validation speakers, never the test's.

    For a solved head by all its speakers, each left out in turn: the validation speakers alone are fewer, and their
    temperature made the calibration error larger on RAVDESS's test speakers.
    """
    if (left_out := getattr(trainer, "left_out", None)) is not None:
        logits, labels = left_out
    else:
        logits = trainer.logits(validation, "calibration")
        labels = np.array(validation.with_format(None)["label"][:])
    config.calibration_temperature = fit_temperature(logits, labels)
    config.abstain_threshold = abstain_threshold(softmax(logits / config.calibration_temperature, axis=-1))
