"""The emotion tasks: models of audio, of text or of both, each predicting the label of an utterance.

In a run's folder beside what every task writes:

    O/fold_K/ or O/final/     predictions.jsonl, and code that loads the model elsewhere
    O/predictions.jsonl       all folds that are finished
    O/report.json, *.png      made from the predictions alone
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset
from scipy.special import softmax
from transformers import PreTrainedConfig, TrainerCallback, set_seed

from hf_ser.augment.views import number_of_views
from hf_ser.checks.audit.data import CLEARED
from hf_ser.data.folds import Fold
from hf_ser.data.schema import REFERENCE
from hf_ser.inputs.dimensions import dimensions_of, stated_scale
from hf_ser.inputs.targets import DIMENSIONAL
from hf_ser.models import copy_code
from hf_ser.models.dimensions import within_scale
from hf_ser.publish.results import write_fold_report, write_results
from hf_ser.publish.trackers import track_results
from hf_ser.revisions import split_revision
from hf_ser.runs.calibration import abstain_threshold, fit_temperature
from hf_ser.runs.dimension_figures import dimension_figures
from hf_ser.runs.folder import FoldFolder
from hf_ser.runs.predictions import PREDICTIONS, Prediction, write_predictions
from hf_ser.runs.record import ASR_RECORD, RECORD, TrainingRecord, is_own_network, provenance
from hf_ser.runs.report import prediction_arrays
from hf_ser.runs.report_text import ccc_text, counted
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
from hf_ser.training.emotion_checks import (
    check_annotated,
    check_audio,
    check_target,
    check_transcripts,
    missing_values,
    notices,
)
from hf_ser.training.familiarity import learn_familiarity, outputs_and_familiarity
from hf_ser.training.fitted_trainer import FittedTrainer
from hf_ser.training.fold_data import FoldData, fold_data
from hf_ser.training.fold_run import FoldTask, save_model
from hf_ser.training.frozen_pass import frozen_features, unwrapped
from hf_ser.training.predicting import PredictingTrainer
from hf_ser.training.run import Settings, Task
from hf_ser.training.solved_heads import has_solved_head, is_solved, reject_descent
from hf_ser.training.standardisation import standardise_frozen
from hf_ser.training.threads import choose_threads
from hf_ser.training.trainer import SerTrainer
from hf_ser.training.trainer_arguments import SerTrainingArguments
from hf_ser.transcripts.confidence import LOGPROB, logprob_of
from hf_ser.transcripts.context import previous_turns
from hf_ser.transcripts.fold_transcripts import fold_transcripts
from hf_ser.transcripts.sentence_bank import bank_digest, sentence_bank

HASHED_COLUMNS = ("id", "label", "votes", "speaker", "sex", "transcript", "pcm_sha256")
"""What distinguishes one data set from another."""


class EmotionFold(FoldTask):
    """An emotion task on one fold; it builds an untrained model for each trainer.

    Attributes:
        labels: All classes of the data; `classes` are those that the model predicts: all, or none beside dimensions.
        transcripts: The transcripts of its rows.
        rows: Its rows for the model that was built last.
    """

    def __init__(self, task, fold: Fold):
        self.task, self.fold = task, fold
        self.labels = task.dataset.features["label"].names
        self.classes = task.predicted_classes
        check_annotated(task.dimensions, fold)
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
        parts["dimensions"] = list(task.dimensions)
        self.candidate = build_model(self.classes, task.head, task.settings[AdaptArguments], **parts)
        choose_threads(self.candidate.model, training)  # before statistics of the audio are computed
        audio, augment = (task.settings.get(kind) for kind in (AudioArguments, AugmentArguments))
        arguments = (task.data, training, audio, augment)
        self.rows: FoldData = fold_data(task.dataset, self.fold, self.transcripts, self.candidate, *arguments)
        self.is_fresh = True

    def trainer(self, arguments, callbacks: Sequence[TrainerCallback] = ()) -> PredictingTrainer:
        if not self.is_fresh:
            self.prepare()
        self.is_fresh = False
        features = frozen_features(self.candidate, self.rows, arguments)
        if features.stores:
            self.candidate.collator.frozen = features
            PartialState().print(features.summary())
        trainer = SerTrainer
        if is_solved(self.candidate.model.config):
            enrolment_clips = getattr(self.task.settings.get(AudioArguments), "enrolment_clips", 0)
            trainer = partial(FittedTrainer, enrolment_clips=enrolment_clips)
        elif features.stores:
            standardise_frozen(self.candidate, self.rows, arguments)
        return trainer(
            self.candidate,
            self.classes,
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

    def finish(self, trainer: PredictingTrainer, folder: Path, record: TrainingRecord) -> TrainingRecord:
        """As FoldTask's; the probabilities of classes are calibrated on the validation rows first."""
        if self.classes:
            calibrate(trainer, self.candidate.model.config, self.rows.validation)
        model = unwrapped(self.candidate.model)
        learn_familiarity(trainer, model, self.rows.train, self.rows.validation)
        outputs = None
        if len(self.fold.test):
            outputs, alike = outputs_and_familiarity(trainer, model, self.rows.test)
        save_model(trainer, self.candidate, folder)
        if not trainer.is_world_process_zero():
            return record
        copy_code(folder, model)
        if outputs is not None:
            write_predictions(folder / PREDICTIONS, self.prediction_rows(outputs, alike, record.leaks, record.notes))
            if trackers := self.task.training.report_to:
                write_fold_report(folder, record.audit)
                track_results(trackers, folder, trainer.args)
        best = {f"best_validation_{name}": saved_figure(trainer, name) for name in ("uar", "ccc")}
        return replace(record, **best)

    def prediction_rows(
        self, outputs: np.ndarray, familiarity: list[float | None], leaks: list[str], notes: list[str]
    ) -> list[Prediction]:
        """The test rows as `predictions.jsonl` has them; outputs: `(rows, outputs)`."""
        config, fold, labels = self.candidate.model.config, self.fold, self.labels
        temperature = getattr(config, "calibration_temperature", None)
        logits, predicted = outputs[:, : len(self.classes)], outputs[:, len(self.classes) :]
        probabilities = softmax(logits / temperature, axis=-1) if self.classes else logits
        same = {"protocol": self.task.data.protocol, "fold": fold.name, "split_fingerprint": fold.fingerprint}
        same |= {"leaks": leaks, "temperature": temperature}
        same |= {"abstain_threshold": getattr(config, "abstain_threshold", None), "notes": notes}
        dimensions = dimension_rows(self.task.dimensions, fold.test, within_scale(torch.from_numpy(predicted)).numpy())
        names = ("id", "corpus", "speaker", "sex")
        dataset, sources = self.task.dataset, self.transcripts.source
        more = [LOGPROB] if LOGPROB in dataset.column_names else []
        columns = dataset.select_columns([*names, "label", "votes", *more]).select(fold.test).to_list()
        return [
            Prediction(
                **{name: row[name] for name in names},
                **same,
                transcript_source=sources[row["id"]],
                asr_avg_logprob=logprob_of(row, sources[row["id"]]),
                reference=labels[row["label"]],
                votes=None if row["votes"] is None else dict(zip(labels, row["votes"], strict=True)),
                familiarity=alike,
                probabilities=dict(zip(self.classes, of_row.tolist(), strict=True)),
                **of_dimensions,
            )
            for row, alike, of_row, of_dimensions in zip(columns, familiarity, probabilities, dimensions, strict=True)
        ]


class EmotionTask(Task):
    """What the models of audio, of text and of both share.

    Attributes:
        dimensions: The dimensions of the data set as `dimensions_of` gives them; none where classes alone are
            predicted. From `open` on.
    """

    fold_class = EmotionFold
    dimensions: dict[str, np.ndarray]

    def __init__(self, given: Settings):
        super().__init__(given)
        if not self.reads_text:
            reject_transcript_settings(self.data)
        models = [given[one] for one in (AudioArguments, TextArguments) if one in given]
        reject_descent(models, self.head, given[AdaptArguments], self.training)
        augment = getattr(given.get(AugmentArguments), "augment", None)
        solved = has_solved_head(models, self.head)
        self.training.cache_views = number_of_views(augment, self.training.cache_views, solved)
        check_target(self.data, self.head, self.training)

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
        self.dataset, self.dimensions = dataset, {}
        if self.data.target in DIMENSIONAL:
            self.dimensions = dimensions_of(dataset, stated_scale(self.data.dimension_scale))
        self.notices = notices(dataset, self.data, *self.settings.values()) + missing_values(self.dimensions)
        optional = [name for name in ("reference_transcript", "asr_transcript") if name in dataset.column_names]
        columns, labels = dataset.select_columns([*HASHED_COLUMNS, *optional])[:], dataset.features["label"].names
        digest = rows_digest(zip(*columns.values(), strict=True))[:16]
        described = {"rows": dataset.num_rows, "labels": labels, "digest": digest}
        if self.dimensions:
            values = np.stack(list(self.dimensions.values()), axis=1).tolist()
            described |= {"dimensions": rows_digest(zip(columns["id"], values, strict=True))[:16]}
        if self.data.sentence_bank:
            # The content of the file may have changed.
            described["sentence_bank"] = bank_digest(sentence_bank(self.data.sentence_bank, labels))
        return described

    @property
    def predicted_classes(self) -> list[str]:
        """As Task's: those of the data, or none beside dimensions alone."""
        return [] if self.data.target == "dimensions" else self.dataset.features["label"].names

    def fold_figures(self, folder: Path) -> str:
        fold = FoldFolder(folder)
        if not fold.is_tested:
            return "trained, without a test"
        rows, figures = fold.predictions, []
        if rows[0].probabilities:
            tested = prediction_arrays(rows)
            recalls = [tested.correct[tested.references == one] for one in range(len(tested.labels))]
            if all(map(len, recalls)):
                figures.append(f"UAR {100 * np.mean([one.mean() for one in recalls]):.1f} %")
            figures.append(f"WA {100 * tested.correct.mean():.1f} %")
        if rows[0].dimensions:
            figures.append(f"CCC {ccc_text(dimension_figures(rows).mean_ccc)}")
        speakers = counted(len({row.speaker for row in rows}), "speaker")
        return f"{', '.join(figures)} on {len(rows)} clips of {speakers}"

    def write_results(self) -> str:
        return write_results(self.training.output_dir, self.dataset)


def dimension_rows(dimensions: Mapping[str, np.ndarray], rows: Sequence[int], predicted: np.ndarray) -> list[dict]:
    """What each test row has of dimensions in its prediction; nothing where the model predicts none.

    Shapes: predicted `(rows, dimensions)`.
    """
    if not dimensions:
        return [{}] * len(rows)
    annotated = np.stack([values[rows] for values in dimensions.values()], axis=1)
    return [
        {
            "dimensions": dict(zip(dimensions, of_row.tolist(), strict=True)),
            "annotated": {
                name: None if np.isnan(one) else float(one) for name, one in zip(dimensions, given, strict=True)
            },
        }
        for of_row, given in zip(predicted, annotated, strict=True)
    ]


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


def recogniser_source(data, reads_text: bool) -> dict[str, str]:
    """The folder with the training record of the recogniser whose transcripts are used."""
    if not (reads_text and data.dataset and data.transcript_source != REFERENCE):
        return {}
    folder = Path(data.dataset) / ASR_RECORD
    return {"transcripts": str(folder)} if (folder / RECORD).is_file() else {}


def saved_figure(trainer: PredictingTrainer, name: str) -> float | None:
    """A validation figure of the saved weights: the best, or the last where the last weights are kept."""
    state, evaluated = trainer.state, [one for one in trainer.state.log_history if f"eval_{name}" in one]
    if not evaluated:
        return None
    if trainer.args.load_best_model_at_end and trainer.args.metric_for_best_model.removeprefix("eval_") == name:
        return state.best_metric
    if trainer.args.load_best_model_at_end:  # chosen by another metric
        evaluated = [one for one in evaluated if one["step"] == state.best_global_step]
    return next((one[f"eval_{name}"] for one in reversed(evaluated)), None)


def on_the_hub(source: str) -> bool:
    """Whether an encoder was loaded from the Hub, and not from a folder or made here."""
    return not is_own_network(source) and not Path(source).exists()


def calibrate(trainer: PredictingTrainer, config: PreTrainedConfig, validation: Dataset) -> None:
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
