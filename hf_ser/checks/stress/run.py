"""The stress test: rows that a model has not met, its answers under each condition, kept so that a killed run goes on.

O/stress/<condition>.json     the probabilities of one condition, and a key of all that they depend on
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
from tqdm import tqdm

from hf_ser.checks.stress.conditions import CODEC, MILD, VOICES, WORDS, Condition, Others, Sample, apply, lacking
from hf_ser.checks.stress.results import Outcome
from hf_ser.data.labels import NATIVE, apply_label_map
from hf_ser.data.prepare import load_prepared
from hf_ser.data.protocols import FINAL, fingerprint
from hf_ser.data.schema import SAMPLING_RATE
from hf_ser.files import atomic_write
from hf_ser.inputs.collate import clips
from hf_ser.inputs.speakers import clips_digest
from hf_ser.runs.classifier import AUDIO, TEXT, Classifier, enrolment_settings, rows_of_speakers, statistics_of_rows
from hf_ser.runs.predictions import PREDICTIONS, read_predictions
from hf_ser.runs.record import CANNOT_BE_CHECKED, hashed, is_withheld, read_record
from hf_ser.stable import rows_digest, uniform
from hf_ser.transcripts.fold_transcripts import with_transcript_source

CONDITIONS_VERSION = 2
"""Of what the conditions do: raise it where a function of `conditions.py` changes, and nothing kept is used again."""

HELD_BYTES = 1_000_000_000
"""Sound up to this size is read once and held; more is read for each condition anew."""

BATCHES = 8
"""Changed clips are held for so many batches: the model sorts them by length, so that little is padded."""

WITHHELD_NOTICE = f"Of this model, {CANNOT_BE_CHECKED}: it may have met these speakers."
UNRECORDED = "What this model was trained on is not recorded: whether it has met these clips is not known."
MET = "met_in_training"
"""The leak of rows that the model was trained on, or its checkpoint chosen on."""


def unchanged(sample: Sample, generator, others) -> Sample:
    """The clean run's change."""
    return sample


CLEAN = Condition("clean", "clean", "", MILD, "As it is in the data set.", partial(unchanged), WORDS)


@dataclass(frozen=True)
class Chosen:
    """What a model is tested on.

    Args:
        dataset: The whole data set, in the words and labels of the model: the rows beside are voices for babble.
        rows: Indices of the rows to test.
        predictions: The run's own predictions of these rows by id, empty where the rows are not of its test part.
        leaks: What stamps the result.
        notices: What else is to be known of the rows.
        speaker_statistics: Of each row's speaker, of clips as they are; None of a model that is not scaled by speaker.

    Shapes:
        speaker_statistics `(rows, 2, bands)`.
    """

    dataset: Dataset
    rows: list[int]
    predictions: dict[str, dict]
    leaks: tuple[str, ...]
    notices: tuple[str, ...]
    speaker_statistics: np.ndarray | None = None


def choose_rows(
    classifier: Classifier,
    folder: str | Path,
    label_map: str | None = None,
    max_clips: int | None = None,
    seed: int = 0,
    allow_leak: bool = False,
) -> Chosen:
    """The rows of a data set to test a model on: those its fold was tested on, else all that it has not met.

    Args:
        classifier: The model.
        folder: A prepared data set.
        label_map: Where the model's training record names none.
        max_clips: At most so many, of all classes alike, drawn by the seed.
        seed: Of the draw.
        allow_leak: Keep rows that the model has met, and stamp the result.

    Raises:
        ValueError: labels that do not fit, no row is left, or as `hf_ser.runs.record.read_record` and
            `hf_ser.runs.classifier.statistics_of_rows`.
    """
    record = read_record(classifier.name)
    dataset, notices = open_labelled(classifier, folder, record, label_map)
    predictions = own_predictions(classifier.name, dataset)
    if predictions:
        rows = [row for row, name in enumerate(dataset["id"][:]) if name in predictions]
        leaks = tuple(sorted({leak for row in predictions.values() for leak in row["leaks"]}))
        notices += of_predictions(predictions, len(rows))
    else:
        rows, leaks, more = unmet(dataset, record, allow_leak)
        notices += more
    rows, more = usable(dataset, rows, classifier)
    notices += more
    if not rows:
        raise ValueError(
            f"{folder}: no row is left to test {classifier.name} on ({' '.join(notices)}). Expected clips that it was "
            "not trained on: name another data set, or add --allow_leak to have the result stamped as leaked."
        )
    rows = spread(dataset, rows, max_clips, seed)
    statistics, more = statistics_of_rows(classifier, dataset, rows)
    return Chosen(dataset, rows, predictions, leaks, (*notices, *more), statistics)


def own_predictions(name: str, dataset: Dataset) -> dict[str, dict]:
    """What a fold's model said of its test part, by id; empty where that is not known, or none of it is in the data."""
    file = Path(name) / PREDICTIONS
    known = {row["id"]: row for row in read_predictions(file)} if file.is_file() else {}
    return known if known.keys() & set(dataset["id"][:]) else {}


def open_labelled(classifier: Classifier, folder, record: dict | None, label_map: str | None):
    """A data set in the words and the labels that a model was trained with, and what to know about it.

    Raises:
        ValueError: the model has labels that the data set lacks, or two label maps.
    """
    dataset, settings = load_prepared(folder), (record or {}).get("settings", {})
    recorded = settings.get("label_map")
    if label_map and recorded and label_map != recorded:
        raise ValueError(
            f"--label_map {label_map}: {classifier.name} was trained with the label map {recorded}. Expected that one: "
            "leave out --label_map."
        )
    name, dropped = recorded or label_map or NATIVE, {}
    if classifier.kind != AUDIO:
        # Before any row is dropped: to change a column of a selection, `datasets` would copy all of its sound.
        dataset = with_transcript_source(dataset, settings.get("transcript_source"))
    if dataset.features["label"].names != classifier.labels:
        dataset, dropped = apply_label_map(dataset, name)
    labels = dataset.features["label"].names
    if foreign := [label for label in classifier.labels if label not in labels]:
        raise ValueError(
            f"{classifier.name} tells {', '.join(classifier.labels)} apart; {folder} has {', '.join(labels)} (label "
            f"map {name}) and lacks {', '.join(foreign)}. Expected a data set with all classes of the model: name "
            "another, or the --label_map that the model was trained with."
        )
    told = [f"The label map {name} drops {sum(dropped.values())} clips."] if dropped else []
    return dataset, told


def of_predictions(predictions: dict[str, dict], found: int) -> list[str]:
    """What to know about rows that are those of a run's own test part."""
    notices = []
    if found < len(predictions):
        notices.append(
            f"{len(predictions) - found} of the {len(predictions)} clips of the test part are not in the data."
        )
    sources = {row["transcript_source"] for row in predictions.values() if row["transcript_source"]}
    if changed := sorted(source for source in sources if "+" in source):
        notices.append(
            f"The run was tested on changed words ({', '.join(changed)}); the clean run here reads them as is."
        )
    return notices


def unmet(dataset: Dataset, record: dict | None, allow_leak: bool) -> tuple[list[int], tuple, list[str]]:
    """The rows whose id, sound and speaker nothing in a model's ancestry has met; leaks; notices."""
    rows = list(range(len(dataset)))
    if record is None:
        return rows, (), [UNRECORDED]
    splits = [record["split"], *record["ancestors"]]
    untold = [WITHHELD_NOTICE] if is_withheld(splits) else []
    known = {
        kind: {one for split in splits for part in ("train", "validation") for one in split[part][kind]}
        for kind in ("ids", "pcm", "speakers")
    }
    columns = [dataset[name][:] for name in ("id", "pcm_sha256", "speaker")]
    left = [
        row
        for row, (name, sound, speaker) in enumerate(zip(*columns, strict=True))
        if not (
            hashed(name) in known["ids"]
            or (sound and sound[:16] in known["pcm"])
            or (speaker and hashed(speaker) in known["speakers"])
        )
    ]
    met = len(rows) - len(left)
    if not met:
        return rows, (), untold
    of_all = f"{met} of {len(rows)} clips"
    if allow_leak:
        return rows, (MET,), [f"{of_all} or their speakers were met in training, and are tested all the same.", *untold]
    left_out = f"{of_all} are left out: the model has met them, equal sounds or their speakers in training."
    return left, (), [left_out, *untold]


def usable(dataset: Dataset, rows: list[int], classifier: Classifier) -> tuple[list[int], list[str]]:
    """The rows that a model can answer and whose label is one of its own; notices of the others."""
    names, labels, heard = dataset.features["label"].names, dataset["label"][:], dataset["duration_seconds"][:]
    own = [row for row in rows if names[labels[row]] in classifier.labels]
    notices = []
    if len(own) < len(rows):
        notices.append(f"{len(rows) - len(own)} clips are left out: the model does not know their labels.")
    kept = [row for row in own if heard[row] or classifier.kind != AUDIO]
    if len(kept) < len(own):
        notices.append(f"{len(own) - len(kept)} clips are left out: they have no sound.")
    return kept, notices


def spread(dataset: Dataset, rows: list[int], most: int | None, seed: int) -> list[int]:
    """At most so many of some rows, drawn by id, of all classes alike."""
    if most is None or most >= len(rows):
        return rows
    names, labels, taken = dataset["id"][:], dataset["label"][:], {}
    turns = []
    for row in sorted(rows, key=lambda row: uniform("stress", seed, names[row])):
        taken[labels[row]] = taken.get(labels[row], 0) + 1
        turns.append((taken[labels[row]], row))
    return sorted(row for _, row in sorted(turns)[:most])


def answered(
    classifier: Classifier,
    chosen: Chosen,
    conditions: Sequence[Condition],
    folder: str | Path,
    seed: int = 0,
    batch_size: int = 16,
) -> tuple[list[Outcome], list[str]]:
    """The model's answers without changes, then under each condition that can be put on this data.

    What lies in `folder` under the key of a condition is read; the rest is computed and kept there.

    Returns:
        Also a notice for each reason for which conditions were left out.
    """
    others, reasons = Others(chosen.dataset), {}
    wanted = [CLEAN]
    for condition in conditions:
        reason = lacking(condition, classifier.kind, others)
        if reason is None:
            wanted.append(condition)
        elif not reason.startswith("not for"):  # that a model cannot read is no news
            reasons.setdefault(reason, []).append(condition.name)
    key = Key(classifier, chosen, others, seed)
    kept = {one.name: read_outcome(Path(folder) / f"{one.name}.json", key.of(one), one) for one in wanted}
    missing = [one for one in wanted if kept[one.name] is None]
    rows = Rows(chosen, reads=classifier.kind != AUDIO, hears=classifier.kind != TEXT)
    with tqdm(total=len(missing) * len(chosen.rows), unit=" clips", desc="stress", disable=None) as bar:
        for condition in missing:
            bar.set_postfix_str(condition.name)
            outcome = answer(classifier, condition, rows, others, seed, batch_size, bar)
            write_outcome(Path(folder) / f"{condition.name}.json", key.of(condition), outcome)
            kept[condition.name] = outcome
    return [kept[one.name] for one in wanted], [f"left out: {', '.join(n)} ({why})" for why, n in reasons.items()]


class Rows:
    """The rows to test as samples, their sound held where it is small.

    Args:
        chosen: The rows.
        reads, hears: What the model takes; the rest is not read.
    """

    def __init__(self, chosen: Chosen, reads: bool, hears: bool):
        self.part = chosen.dataset.select_columns(["id", "transcript", "audio"]).select(chosen.rows)
        self.reads, self.hears = reads, hears
        self.speaker_statistics = chosen.speaker_statistics
        lengths = chosen.dataset.select_columns("duration_seconds").select(chosen.rows)["duration_seconds"][:]
        seconds = sum(length or 0 for length in lengths)
        self.held: dict[int, Sample] | None = {} if 4 * SAMPLING_RATE * seconds < HELD_BYTES else None

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, row: int) -> Sample:
        if self.held is not None and row in self.held:
            return self.held[row]
        cell = self.part[row]
        sound = clips([cell])[0] if self.hears else None
        sample = Sample(cell["id"], sound, cell["transcript"] if self.reads else None)
        if self.held is not None:
            self.held[row] = sample
        return sample

    def of_speakers(self, rows: list[int]) -> dict[str, np.ndarray]:
        """What `Classifier.probabilities` is to know of the speakers of some rows; nothing of most models."""
        if self.speaker_statistics is None:
            return {}
        return {"speaker_statistics": self.speaker_statistics[rows]}


def answer(
    classifier: Classifier, condition: Condition, rows: Rows, others: Others, seed: int, batch_size: int, bar: tqdm
) -> Outcome:
    """The model's answers under one condition; a row that it cannot be put on is skipped, and told.

    What is known of a speaker is of unchanged clips: it was recorded before.
    """
    probabilities, skipped = {}, {}

    def changed(row: int) -> Sample | None:
        try:
            return apply(condition, rows[row], seed, others)
        except ValueError as error:
            skipped[rows[row].id] = str(error)
            return None

    # Codecs let go of Python's lock while they work.
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        for start in range(0, len(rows), BATCHES * batch_size):
            indices = range(start, min(start + BATCHES * batch_size, len(rows)))
            given = {row: one for row, one in zip(indices, pool.map(changed, indices), strict=True) if one is not None}
            if given:
                sounds, texts = [one.samples for one in given.values()], [one.text for one in given.values()]
                answers = classifier.probabilities(sounds, texts, batch_size, **rows.of_speakers(list(given)))
                probabilities |= {one.id: row.tolist() for one, row in zip(given.values(), answers, strict=True)}
            bar.update(len(indices))
    return Outcome(condition, probabilities, dict(sorted(skipped.items())))


class Key:
    """What the answers of a model depend on: its weights and settings, rows and their speakers, condition, seed."""

    def __init__(self, classifier: Classifier, chosen: Chosen, others: Others, seed: int):
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
        told = [condition.name, change.func.__name__, sorted(change.keywords.items())]
        if condition.needs in (VOICES, WORDS) and condition is not CLEAN:  # these draw from the rows beside
            told.append(self.others.digest)
        if condition.needs == CODEC:
            told.append(sf.__libsndfile_version__)
        return _sha256(json.dumps([*self.shared, *told]).encode())


def model_digest(classifier: Classifier) -> str:
    """Hash of a model's weights and configuration, its extractor and its tokenizer, wherever it was loaded from."""
    digest = hashlib.sha256()
    config = classifier.model.config.to_dict()
    # Where it lies, and what saved it, change no answer.
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
    """What is kept of a condition; None where there is nothing, or it is damaged or of another key."""
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
        if held["key"] != key or held["digest"] != _digest(held["probabilities"], held["skipped"]):
            return None
        return Outcome(condition, held["probabilities"], held["skipped"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_outcome(file: Path, key: str, outcome: Outcome) -> None:
    """Keep the answers of a condition."""
    answers = {"probabilities": outcome.probabilities, "skipped": outcome.skipped}
    with atomic_write(file) as handle:
        json.dump({"key": key, "digest": _digest(*answers.values()), **answers}, handle)


def clean_rows(classifier: Classifier, chosen: Chosen, clean: Outcome) -> list[dict]:
    """The clean run as rows of predictions, for the report's figures."""
    told = chosen.dataset.select_columns(["id", "corpus", "speaker", "sex", "label", "transcript_source"])
    names = chosen.dataset.features["label"].names
    stamp = {
        "protocol": "unmet",
        "fold": FINAL,
        "split_fingerprint": fingerprint({"test": [told[row]["id"] for row in chosen.rows]}),
    }
    rows = []
    for row in chosen.rows:
        cell = told[row]
        if cell["id"] not in clean.probabilities:
            continue
        before = chosen.predictions.get(cell["id"], {})
        source = cell["transcript_source"] if classifier.kind != AUDIO else None
        rows.append(
            {
                **{name: cell[name] for name in ("id", "corpus", "speaker", "sex")},
                **{name: before.get(name, value) for name, value in stamp.items()},
                "leaks": sorted({*chosen.leaks, *before.get("leaks", ())}),
                "transcript_source": source,
                "reference": names[cell["label"]],
                # Soft labels, calibration and abstention are the report's, not the stress test's.
                **dict.fromkeys(("votes", "temperature", "abstain_threshold")),
                "probabilities": dict(zip(classifier.labels, clean.probabilities[cell["id"]], strict=True)),
            }
        )
    return rows


def _digest(probabilities, skipped) -> str:
    """Hash by which a file that was cut or changed is known."""
    return _sha256(json.dumps([probabilities, skipped]).encode())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
