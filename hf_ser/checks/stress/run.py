"""Run the stress test: select test rows and predict them under each condition; predictions are cached for resuming.

O/stress/<condition>.json     the probabilities of one condition, and a key of everything that they depend on
O/stress.json, O/stress.png   the result
"""

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from datasets import Dataset

from hf_ser.checks.stress.conditions import (
    CODEC,
    MILD,
    NEEDS_TEXT,
    VOICES,
    Condition,
    OtherRows,
    Sample,
    apply,
    reason_to_skip,
)
from hf_ser.checks.stress.results import Outcome
from hf_ser.data.folds import FINAL, fingerprint
from hf_ser.data.labels import NATIVE, apply_label_map
from hf_ser.data.prepared import load_prepared
from hf_ser.data.schema import SAMPLING_RATE
from hf_ser.files import atomic_write
from hf_ser.inputs.collate import clips
from hf_ser.inputs.dimensions import dimensions_of, stated_scale
from hf_ser.inputs.speakers import clips_digest
from hf_ser.progress import Progress
from hf_ser.runs.classifier import AUDIO, TEXT, Classifier, enrolment_settings, rows_of_speakers, statistics_of_rows
from hf_ser.runs.predictions import PREDICTIONS, Prediction, read_predictions
from hf_ser.runs.record import TRAINING_WITHHELD, TrainingRecord, hashed, is_withheld, read_record
from hf_ser.stable import rows_digest, uniform
from hf_ser.transcripts.fold_transcripts import with_transcript_source

CONDITIONS_VERSION = 3
"""Increase it when a function of `conditions.py` changes, so that cached answers are recomputed."""

MAX_BYTES_IN_MEMORY = 1_000_000_000
"""Audio up to this size is kept in memory; more is read again for each condition."""

BATCHES = 8
"""Batches that are sorted by length together, to reduce padding."""

WITHHELD_NOTICE = f"This model may have been trained on these speakers: {TRAINING_WITHHELD}."
UNRECORDED = "The training data of this model is not recorded: it may have been trained on these clips."
SEEN_IN_TRAINING = "met_in_training"
"""Name of the leak: test rows that the model was trained on, or its checkpoint chosen on."""


def unchanged(sample: Sample, generator, others) -> Sample:
    """Return the sample itself."""
    return sample


CLEAN = Condition("clean", "clean", "", MILD, "As it is in the data set.", partial(unchanged), NEEDS_TEXT)


@dataclass(frozen=True)
class Selection:
    """The rows that a model is tested on.

    Args:
        dataset: The whole data set, with the transcripts and labels of the model.
        rows: Indices of the rows to test.
        predictions: The run's own predictions of these rows by id; empty where they are not its test part.
        leaks: Leaks of the result.
        notices: Notices on the rows.
        speaker_statistics: Statistics of each row's speaker from unchanged clips; None without per-speaker
            normalisation.

    Shapes:
        speaker_statistics `(rows, 2, bands)`.
    """

    dataset: Dataset
    rows: list[int]
    predictions: dict[str, dict]
    leaks: tuple[str, ...]
    notices: tuple[str, ...]
    speaker_statistics: np.ndarray | None = None


def select_rows(
    classifier: Classifier,
    folder: str | Path,
    label_map: str | None = None,
    max_clips: int | None = None,
    seed: int = 0,
    allow_leak: bool = False,
) -> Selection:
    """Select the rows to test a model on: those its fold was tested on, else all that it was not trained on.

    Args:
        classifier: The model.
        folder: A prepared data set.
        label_map: The label map, if the model's training record names none.
        max_clips: Most clips, balanced over classes.
        seed: Seed of the draw of clips.
        allow_leak: Keep rows that the model was trained on, and mark the result as leaked.

    Raises:
        ValueError: labels do not fit, no row is left, or as `read_record` and `statistics_of_rows`.
    """
    if getattr(classifier.model.config, "context_turns", 0):
        raise ValueError(
            f"{classifier.name}: found a model that reads previous turns of a dialogue, which the stress test does not "
            "give it. Expected a model that was trained without --context."
        )
    record = read_record(classifier.name)
    dataset, notices = load_as_trained(classifier, folder, record, label_map)
    predictions = own_predictions(classifier.name, dataset)
    if predictions:
        rows = [row for row, name in enumerate(dataset["id"][:]) if name in predictions]
        leaks = tuple(sorted({leak for row in predictions.values() for leak in row.leaks}))
        notices += prediction_notices(predictions, len(rows))
    else:
        rows, leaks, more = untrained_rows(dataset, record, allow_leak)
        notices += more
    rows, more = usable_rows(dataset, rows, classifier)
    notices += more
    if not rows:
        raise ValueError(
            f"{folder}: no row is left to test {classifier.name} on ({' '.join(notices)}). Expected clips that it was "
            "not trained on: name another data set, or add --allow_leak to have the result stamped as leaked."
        )
    rows = balanced_sample(dataset, rows, max_clips, seed)
    statistics, more = statistics_of_rows(classifier, dataset, rows)
    return Selection(dataset, rows, predictions, leaks, (*notices, *more), statistics)


def own_predictions(name: str, dataset: Dataset) -> dict[str, Prediction]:
    """Predictions of a fold's model for its test part by id; empty if there are none, or none is in the data."""
    file = Path(name) / PREDICTIONS
    known = {row.id: row for row in read_predictions(file)} if file.is_file() else {}
    return known if known.keys() & set(dataset["id"][:]) else {}


def load_as_trained(classifier: Classifier, folder, record: TrainingRecord | None, label_map: str | None):
    """Load a data set with the transcripts and labels of a model's training, and notices on it.

    Raises:
        ValueError: the model has labels that the data set lacks, or two label maps.
    """
    dataset, settings = load_prepared(folder), record.settings if record else {}
    recorded = settings.get("label_map")
    if label_map and recorded and label_map != recorded:
        raise ValueError(
            f"--label_map {label_map}: {classifier.name} was trained with the label map {recorded}. Expected that one: "
            "leave out --label_map."
        )
    name, dropped = recorded or label_map or NATIVE, {}
    if classifier.kind != AUDIO:
        # Before any row is dropped: changing a column of a selection makes `datasets` copy all audio.
        dataset = with_transcript_source(dataset, settings.get("transcript_source"))
    if dataset.features["label"].names != classifier.labels:
        dataset, dropped = apply_label_map(dataset, name)
    labels = dataset.features["label"].names
    if foreign := [label for label in classifier.labels if label not in labels]:
        raise ValueError(
            f"{classifier.name} has the classes {', '.join(classifier.labels)}; {folder} has {', '.join(labels)} "
            f"(label map {name}) and lacks {', '.join(foreign)}. Expected a data set with all classes of the model: "
            "name another, or the --label_map that the model was trained with."
        )
    return dataset, [f"The label map {name} drops {sum(dropped.values())} clips."] if dropped else []


def prediction_notices(predictions: dict[str, Prediction], found: int) -> list[str]:
    """Notices on rows of a run's own test part."""
    notices = []
    if found < len(predictions):
        notices.append(
            f"{len(predictions) - found} of the {len(predictions)} clips of the test part are not in the data."
        )
    sources = {row.transcript_source for row in predictions.values() if row.transcript_source}
    if changed := sorted(source for source in sources if "+" in source):
        notices.append(
            f"The run was tested on changed transcripts ({', '.join(changed)}); the clean run reads the originals."
        )
    return notices


def untrained_rows(
    dataset: Dataset, record: TrainingRecord | None, allow_leak: bool
) -> tuple[list[int], tuple, list[str]]:
    """Rows whose id, audio and speaker neither the model nor its ancestors were trained on; leaks; notices."""
    rows = list(range(len(dataset)))
    if record is None:
        return rows, (), [UNRECORDED]
    splits = record.splits
    withheld = [WITHHELD_NOTICE] if is_withheld(splits) else []
    known = {
        kind: {one for split in splits for part in split.parts.values() for one in getattr(part, kind)}
        for kind in ("ids", "pcm", "speakers")
    }
    columns = [dataset[name][:] for name in ("id", "pcm_sha256", "speaker")]
    left = [
        row
        for row, (name, pcm, speaker) in enumerate(zip(*columns, strict=True))
        if not (
            hashed(name) in known["ids"]
            or (pcm and pcm[:16] in known["pcm"])
            or (speaker and hashed(speaker) in known["speakers"])
        )
    ]
    n_known = len(rows) - len(left)
    if not n_known:
        return rows, (), withheld
    of_all = f"{n_known} of {len(rows)} clips"
    if allow_leak:
        return (
            rows,
            (SEEN_IN_TRAINING,),
            [f"{of_all} or their speakers were in the training data, and are tested anyway.", *withheld],
        )
    left_out = f"{of_all} are left out: they, equal recordings or their speakers were in the training data."
    return left, (), [left_out, *withheld]


def usable_rows(dataset: Dataset, rows: list[int], classifier: Classifier) -> tuple[list[int], list[str]]:
    """Rows that a model can classify and whose label it knows, and notices of the others."""
    names, labels, lengths = dataset.features["label"].names, dataset["label"][:], dataset["duration_seconds"][:]
    own = [row for row in rows if names[labels[row]] in classifier.labels or not classifier.labels]
    notices = []
    if len(own) < len(rows):
        notices.append(f"{len(rows) - len(own)} clips are left out: the model does not know their labels.")
    kept = [row for row in own if lengths[row] or classifier.kind != AUDIO]
    if len(kept) < len(own):
        notices.append(f"{len(own) - len(kept)} clips are left out: they have no audio.")
    return kept, notices


def balanced_sample(dataset: Dataset, rows: list[int], most: int | None, seed: int) -> list[int]:
    """Draw at most `most` of some rows by id, balanced over classes."""
    if most is None or most >= len(rows):
        return rows
    names, labels, taken = dataset["id"][:], dataset["label"][:], {}
    turns = []
    for row in sorted(rows, key=lambda row: uniform("stress", seed, names[row])):
        taken[labels[row]] = taken.get(labels[row], 0) + 1
        turns.append((taken[labels[row]], row))
    return sorted(row for _, row in sorted(turns)[:most])


def run_conditions(
    classifier: Classifier,
    chosen: Selection,
    conditions: Sequence[Condition],
    folder: str | Path,
    seed: int = 0,
    batch_size: int = 16,
) -> tuple[list[Outcome], list[str]]:
    """Predict the rows without changes, then under each condition that applies to this data.

    Outcomes in `folder` with the same key are read; the others are computed and written there.

    Returns:
        The outcomes, and a notice for each reason to leave out conditions.
    """
    others, reasons = OtherRows(chosen.dataset), {}
    wanted = [CLEAN]
    for condition in conditions:
        reason = reason_to_skip(condition, classifier.kind, others)
        if reason is None:
            wanted.append(condition)
        elif not reason.startswith("not for"):  # obvious from the kind of model
            reasons.setdefault(reason, []).append(condition.name)
    key = CacheKey(classifier, chosen, others, seed)
    kept = {one.name: read_outcome(Path(folder) / f"{one.name}.json", key.of(one), one) for one in wanted}
    missing = [one for one in wanted if kept[one.name] is None]
    rows = SampleRows(chosen, text=classifier.kind != AUDIO, audio=classifier.kind != TEXT)
    with Progress(len(missing) * len(chosen.rows), "stress", "clips") as bar:
        for condition in missing:
            bar.set_postfix_str(condition.name)
            outcome = run_condition(classifier, condition, rows, others, seed, batch_size, bar)
            write_outcome(Path(folder) / f"{condition.name}.json", key.of(condition), outcome)
            kept[condition.name] = outcome
    return [kept[one.name] for one in wanted], [f"left out: {', '.join(n)} ({why})" for why, n in reasons.items()]


class SampleRows:
    """The rows to test as samples, cached in memory if the audio is small.

    Args:
        chosen: The rows.
        text, audio: Whether to read the texts, and the audio.
    """

    def __init__(self, chosen: Selection, text: bool, audio: bool):
        self.part = chosen.dataset.select_columns(["id", "transcript", "audio"]).select(chosen.rows)
        self.text, self.audio = text, audio
        self.speaker_statistics = chosen.speaker_statistics
        lengths = chosen.dataset.select_columns("duration_seconds").select(chosen.rows)["duration_seconds"][:]
        seconds = sum(length or 0 for length in lengths)
        self.cached: dict[int, Sample] | None = {} if 4 * SAMPLING_RATE * seconds < MAX_BYTES_IN_MEMORY else None

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, row: int) -> Sample:
        if self.cached is not None and row in self.cached:
            return self.cached[row]
        cell = self.part[row]
        sample = Sample(cell["id"], clips([cell])[0] if self.audio else None, cell["transcript"] if self.text else None)
        if self.cached is not None:
            self.cached[row] = sample
        return sample

    def speaker_arguments(self, rows: list[int]) -> dict[str, np.ndarray]:
        """Keyword arguments of `Classifier.probabilities` on the speakers of some rows; empty for most models."""
        if self.speaker_statistics is None:
            return {}
        return {"speaker_statistics": self.speaker_statistics[rows]}


def run_condition(
    classifier: Classifier,
    condition: Condition,
    rows: SampleRows,
    others: OtherRows,
    seed: int,
    batch_size: int,
    bar: Progress,
) -> Outcome:
    """Predict all rows under one condition; rows to which it does not apply are skipped with the reason.

    Speaker statistics come from unchanged clips, since enrolment clips are recorded beforehand.
    """
    probabilities, dimensions, familiarity, skipped = {}, {}, {}, {}
    n_classes = len(classifier.labels)

    def changed(row: int) -> Sample | None:
        try:
            return apply(condition, rows[row], seed, others)
        except ValueError as error:
            skipped[rows[row].id] = str(error)
            return None

    # Threads help, since codecs release Python's lock.
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        for start in range(0, len(rows), BATCHES * batch_size):
            indices = range(start, min(start + BATCHES * batch_size, len(rows)))
            given = {row: one for row, one in zip(indices, pool.map(changed, indices), strict=True) if one is not None}
            if given:
                audio, texts = [one.samples for one in given.values()], [one.text for one in given.values()]
                answers, similarity = classifier.answers(
                    audio, texts, batch_size, **rows.speaker_arguments(list(given))
                )
                for one, row, known in zip(given.values(), answers.tolist(), similarity, strict=True):
                    probabilities[one.id], familiarity[one.id] = row[:n_classes], known
                    if classifier.dimensions:
                        dimensions[one.id] = dict(zip(classifier.dimensions, row[n_classes:], strict=True))
            bar.update(len(indices))
    return Outcome(condition, probabilities, dict(sorted(skipped.items())), dimensions, familiarity)


class CacheKey:
    """Key of cached answers: model, rows and their speakers, condition, seed."""

    def __init__(self, classifier: Classifier, chosen: Selection, others: OtherRows, seed: int):
        part = chosen.dataset.select_columns(["id", "pcm_sha256", "transcript"]).select(chosen.rows)
        rows = zip(*(part[name][:] for name in part.column_names), strict=True)
        self.others = others
        self.shared = [CONDITIONS_VERSION, seed, model_digest(classifier), rows_digest(rows)]
        if chosen.speaker_statistics is not None:
            known_by = rows_of_speakers(chosen.dataset["speaker"][:], chosen.rows)
            self.shared += [*enrolment_settings(classifier), clips_digest(chosen.dataset, known_by)]

    def of(self, condition: Condition) -> str:
        """The key of one condition."""
        change = condition.change
        own = [condition.name, change.func.__name__, sorted(change.keywords.items())]
        if condition.needs in (VOICES, NEEDS_TEXT) and condition is not CLEAN:  # these draw from other rows
            own.append(self.others.digest)
        if condition.needs == CODEC:
            own.append(sf.__libsndfile_version__)
        return _sha256(json.dumps([*self.shared, *own]).encode())


def model_digest(classifier: Classifier) -> str:
    """Hash of a model's weights, configuration, feature extractor and tokenizer."""
    digest = hashlib.sha256()
    config = classifier.model.config.to_dict()
    # The path and the version that saved it do not change the answers.
    config = {key: value for key, value in config.items() if key not in ("_name_or_path", "transformers_version")}
    digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    for name, weights in sorted(classifier.model.state_dict().items()):
        digest.update(name.encode())
        # As bytes: NumPy has no bfloat16.
        digest.update(weights.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    if classifier.kind == TEXT:
        parts = (classifier.tokenizer,)
    else:
        parts = (classifier.pipeline.tokenizer, classifier.pipeline.feature_extractor)
    for part in filter(None, parts):
        settings = part.get_vocab() if hasattr(part, "get_vocab") else part.to_dict()
        digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def read_outcome(file: Path, key: str, condition: Condition) -> Outcome | None:
    """Read the cached outcome of a condition; None where it is missing, damaged or has another key."""
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        answers = {name: kept[name] for name in ("probabilities", "skipped", "dimensions") if name in kept}
        if kept["key"] != key or kept["digest"] != _digest(*answers.values()):
            return None
        return Outcome(condition, **answers, familiarity=kept.get("familiarity", {}))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_outcome(file: Path, key: str, outcome: Outcome) -> None:
    """Write the outcome of a condition."""
    answers = {"probabilities": outcome.probabilities, "skipped": outcome.skipped}
    answers |= {"dimensions": outcome.dimensions} if outcome.dimensions else {}
    with atomic_write(file) as handle:
        kept = {"key": key, "digest": _digest(*answers.values()), **answers}
        json.dump(kept | {"familiarity": outcome.familiarity}, handle)


def annotations(classifier: Classifier, chosen: Selection) -> dict[int, dict[str, float | None]]:
    """The annotated dimensions of the tested rows by their indices; empty if the model predicts none.

    A model with classes and dimensions can also be tested on data without annotations, by its classes.

    Raises:
        ValueError: as `dimensions_of`, for a model that predicts only dimensions; the data lack a dimension.
    """
    if not classifier.dimensions:
        return {}
    record = read_record(classifier.name)
    try:
        known = dimensions_of(chosen.dataset, stated_scale(record and record.settings.get("dimension_scale")))
    except ValueError:
        if classifier.labels:
            return {}
        raise
    nothing = np.full(len(chosen.dataset), np.nan)
    values = {name: known.get(name, nothing) for name in classifier.dimensions}
    return {
        row: {name: None if np.isnan(one[row]) else float(one[row]) for name, one in values.items()}
        for row in chosen.rows
    }


def clean_rows(classifier: Classifier, chosen: Selection, clean: Outcome) -> list[Prediction]:
    """The clean outcome as rows of predictions, for the report's figures."""
    columns = chosen.dataset.select_columns(["id", "corpus", "speaker", "sex", "label", "transcript_source"])
    names = chosen.dataset.features["label"].names
    tested = fingerprint({"test": [columns[row]["id"] for row in chosen.rows]})
    annotated = annotations(classifier, chosen)
    rows = []
    for row in chosen.rows:
        cell = columns[row]
        if cell["id"] not in clean.probabilities:
            continue
        before = chosen.predictions.get(cell["id"])
        rows.append(
            Prediction(
                **{name: cell[name] for name in ("id", "corpus", "speaker", "sex")},
                protocol=before.protocol if before else "unmet",
                fold=before.fold if before else FINAL,
                split_fingerprint=before.split_fingerprint if before else tested,
                leaks=sorted({*chosen.leaks, *(before.leaks if before else ())}),
                transcript_source=cell["transcript_source"] if classifier.kind != AUDIO else None,
                reference=names[cell["label"]],
                # The stress test reports neither soft labels nor calibration nor abstention.
                probabilities=dict(zip(classifier.labels, clean.probabilities[cell["id"]], strict=True)),
                dimensions=clean.dimensions[cell["id"]] if annotated else None,
                annotated=annotated[row] if annotated else None,
            )
        )
    return rows


def _digest(*answers) -> str:
    """Hash to detect a damaged file."""
    return _sha256(json.dumps(answers).encode())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
