"""Test a model that was not trained here, such as one of the Hub, under a protocol of this package.

This writes a run's folder without models, so that the result can be read and compared like that of a training:

    O/run.json            the model, the data and how its labels were mapped
    O/predictions.jsonl   for the test rows of all chosen folds
    O/audit.json, O/report.json, O/report.html, O/*.png
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from datasets import Dataset

from hf_ser.checks.audit.data import audit_data
from hf_ser.data.folds import FINAL, Fold, fingerprint
from hf_ser.data.labels import NATIVE, apply_label_map
from hf_ser.data.schema import SAMPLING_RATE
from hf_ser.data.splitting import make_folds
from hf_ser.files import atomic_write
from hf_ser.inputs.collate import clips
from hf_ser.models.samples import resample
from hf_ser.normal_form import look_alike, printable
from hf_ser.progress import Progress
from hf_ser.publish.results import write_pictures_and_page
from hf_ser.revisions import public_name
from hf_ser.runs.checkpoints import weight_files
from hf_ser.runs.classifier import AUDIO, TEXT, Classifier, statistics_of_rows
from hf_ser.runs.findings import AUDIT, LEAK, WARNING, AuditFinding, finding, verdict, write_audit
from hf_ser.runs.folder import RunFolder
from hf_ser.runs.predictions import PREDICTIONS, Prediction, write_predictions
from hf_ser.runs.record import RECORD, TRAINING_WITHHELD, ancestry, is_withheld, stage_leaks
from hf_ser.runs.report import REPORT, RUN, label_map_of, make_report, write_report
from hf_ser.runs.report_text import format_report
from hf_ser.transcripts.confidence import LOGPROB, logprob_of

CHUNK = 8
"""Batches whose clips are in memory at a time, sorted by length together."""

UNKNOWN_TRAINING = "training_data_unknown"
UNKNOWN_REMEDY = "ask its authors; for a figure on unseen speakers, test it on recordings that were never published"


@dataclass(frozen=True)
class LabelMaps:
    """How the labels of the data set and of the model are mapped.

    Args:
        of_data: Label map of the data set, as in training.
        of_model: Class of the data set for each label of the model; an empty class leaves the label out.
    """

    of_data: str = NATIVE
    of_model: Mapping[str, str] | None = None

    @classmethod
    def parsed(cls, text: str | None) -> "LabelMaps":
        """Parse `four_class,happy=joy,=contempt`: a label map of the data set, and pairs CLASS=LABEL of the model's.

        Raises:
            ValueError: two label maps of the data set, or a label of the model in two pairs.
        """
        parts = [part.strip() for part in (text or "").split(",") if part.strip()]
        named = [part for part in parts if "=" not in part]
        pairs = [[one.strip() for one in part.split("=", 1)] for part in parts if "=" in part]
        labels = [label for _, label in pairs]
        if len(named) > 1 or len(set(labels)) < len(labels) or not all(labels):
            raise ValueError(
                f"--label_map {text}: expected at most one label map of the data set, and pairs CLASS=LABEL that each "
                "name another label of the model, such as four_class,happy=joy,=contempt (=LABEL leaves it out)."
            )
        return cls(named[0] if named else NATIVE, {label: ours for ours, label in pairs})


def evaluate_model(
    classifier: Classifier,
    dataset: Dataset,
    protocol: str,
    which: str = "all",
    *,
    output_dir: str | Path | None = None,
    label_map: str | None = None,
    batch_size: int = 16,
    allow_leak: bool = False,
    embed_audio: bool | None = None,
    **split,
) -> RunFolder:
    """Test a model on the test parts of a protocol, and write a run's folder.

    Args:
        classifier: A model of this package, or an audio or text classifier of transformers.
        dataset: A prepared data set.
        protocol, which: Protocol and fold, as of `make_folds`.
        output_dir: By default `runs/` and the model's name.
        label_map: As `LabelMaps.parsed`.
        batch_size: Clips a forward pass; no effect on the result beyond rounding.
        allow_leak: Test rows that the model was trained on, by its record; the result is stamped as leaked.
        embed_audio: As `allowed` of `hf_ser.publish.page.playable_clips`.
        split: More arguments of `make_folds`, such as `n_folds`.

    Raises:
        ValueError: labels without a class or classes without a label, pickled weights, no test part, a model that was
            trained on the test rows, or a folder that holds another run.
    """
    check_can_be_tested(classifier)
    maps = LabelMaps.parsed(label_map)
    dataset, dropped = apply_label_map(dataset, maps.of_data)
    columns = columns_of_labels(classifier, dataset.features["label"].names, maps.of_model or {})
    folder = Path(output_dir or Path("runs") / public_name(classifier.name).replace("/", "_"))
    settings = {"evaluated": classifier.name, "protocol": protocol, "fold": which, **split}
    settings |= {"label_map": label_map} if label_map else {}
    described = {"rows": len(dataset), "label_map": {"name": maps.of_data, "dropped": dropped}}
    record_run(folder, {"settings": settings, "data": described | {"labels_of_model": classifier.labels}})
    # The model was trained on none of these folds, so speakers shared by training and test do not matter.
    folds = [with_test_only(one, dataset) for one in make_folds(dataset, protocol, which, allow_leak=True, **split)]
    leaks = {one.name: stage_leaks(dataset, one, {"evaluated": classifier.name}, allow_leak) for one in folds}
    findings = [*training_findings(classifier), *audit_data(dataset, folds, classifier.kind != AUDIO)]
    rows = []
    for fold in folds:
        found = {one.kind for one in findings if one.severity == LEAK and one.fold in (None, fold.name)}
        conditions = {"protocol": protocol, "fold": fold.name, "leaks": sorted({*leaks[fold.name], *found})}
        conditions |= {"split_fingerprint": fold.fingerprint, "notes": [one.detail for one in findings[:1]]}
        rows += predicted_rows(classifier, dataset, fold, columns, batch_size, conditions)
    write_predictions(folder / PREDICTIONS, rows)
    write_audit({"run": folder.name}, findings, folder / AUDIT)
    report = make_report(rows, verdict(findings), label_map_of(folder))
    write_report(report, folder / REPORT)
    write_pictures_and_page(report, folder, dataset, embed_audio)
    return RunFolder(folder)


def summary(run: RunFolder) -> str:
    """The report of an evaluated model as text."""
    return f"model  {run.system}\n{format_report(run.report)}\nreport: {run.path / 'report.html'}"


def check_can_be_tested(classifier: Classifier) -> None:
    """Check that a model is a classifier whose weights hold no code.

    Raises:
        ValueError: pickled weights, a regression model, or one that reads previous turns.
    """
    config, name = classifier.model.config, classifier.name
    classifier.check_has_classes()
    if not weight_files(name):
        raise ValueError(
            f"{name}: found pickled weights, which may run code. Expected safetensors: convert them where you trust "
            "their source, with AutoModelForAudioClassification.from_pretrained(...).save_pretrained(...)."
        )
    if getattr(config, "problem_type", None) == "regression" or config.num_labels < 2:
        raise ValueError(f"{name}: found a model with {config.num_labels} outputs, expected two classes or more.")
    if getattr(config, "context_turns", 0):
        raise ValueError(
            f"{name}: found a model that reads previous turns of a dialogue, which this test does not give it. "
            "Expected a model that was trained without --context."
        )


def columns_of_labels(classifier: Classifier, classes: Sequence[str], pairs: Mapping[str, str]) -> np.ndarray:
    """Index of the class of each label of a model; -1 for a label that is left out.

    Names are compared without capitals, spaces, hyphens and the like. Several labels may map to one class.

    Shapes:
        the result `(labels,)`.

    Raises:
        ValueError: a label without a class, a class without a label, or a pair of unknown names.
    """
    labels, keys = classifier.labels, {look_alike(one): index for index, one in enumerate(classes)}
    given = {look_alike(label): ours for label, ours in pairs.items()}
    remedy = (
        f"The model has the labels {', '.join(labels)}; the data set has the classes {', '.join(classes)}. Map "
        "labels to classes with --label_map CLASS=LABEL,CLASS=LABEL; =LABEL leaves a label out, and a label map "
        "of the data set, such as four_class or a YAML file, leaves classes out: --label_map four_class,CLASS=LABEL."
    )
    unknown = [label for label in pairs if look_alike(label) not in {look_alike(one) for one in labels}]
    unknown += [ours for ours in pairs.values() if ours and look_alike(ours) not in keys]
    if unknown:
        raise ValueError(printable(f"--label_map: found {', '.join(unknown)}, expected names of both. {remedy}"))
    named = [given.get(look_alike(label), label) for label in labels]
    without = [label for label, ours in zip(labels, named, strict=True) if ours and look_alike(ours) not in keys]
    columns = np.array([keys.get(look_alike(ours), -1) if ours else -1 for ours in named])
    missing = [one for index, one in enumerate(classes) if index not in columns]
    if without or missing:
        found = [f"no class for the labels {', '.join(without)}"] * bool(without)
        found += [f"no label for the classes {', '.join(missing)}"] * bool(missing)
        raise ValueError(printable(f"{classifier.name}: found {' and '.join(found)}, expected one for each. {remedy}"))
    return columns


def with_test_only(fold: Fold, dataset: Dataset) -> Fold:
    """A fold without its training and validation part, with its own fingerprint.

    Raises:
        ValueError: it has no test part.
    """
    if fold.name == FINAL:
        raise ValueError("--fold final: found no test part, expected one. Name a fold, or all of them with --fold all.")
    none, ids = np.array([], dtype=int), dataset["id"][:]
    tested = fingerprint({"test": [ids[row] for row in fold.test]})
    return replace(fold, train=none, validation=none, fingerprint=tested, leaks=())


def training_findings(classifier: Classifier) -> list[AuditFinding]:
    """One finding: what is known about a model's training, for readers of the figures."""
    splits, name = ancestry(classifier.name), public_name(classifier.name)
    start = f"Not trained here: {name} was tested as it is, not trained on the other speakers of each fold. "
    if not splits:
        detail = (
            f"{start}Nothing is known about leaks: its training data is not recorded, and may include these speakers "
            "or clips."
        )
    elif is_withheld(splits):
        detail = f"{start}This model may have been trained on these speakers: {TRAINING_WITHHELD}."
    else:
        detail = f"{start}By its record it was trained on {', '.join(sorted({c for s in splits for c in s.corpora}))}."
        return [finding("trained_elsewhere", WARNING, detail, "the figure is of a model trained on other data")]
    return [finding(UNKNOWN_TRAINING, WARNING, detail, UNKNOWN_REMEDY)]


def record_run(folder: Path, run: dict) -> None:
    """Write the model and the data into a run's folder.

    Raises:
        ValueError: it holds another run.
    """
    run, file = json.loads(json.dumps(run, default=str)), folder / RUN
    is_other = file.is_file() and json.loads(file.read_text(encoding="utf-8")).get("settings") != run["settings"]
    if is_other or any(folder.glob(f"*/{RECORD}")) or (folder / RECORD).is_file():
        raise ValueError(f"{folder}: found another run, expected a folder for this one: name another --output_dir.")
    with atomic_write(file) as handle:
        json.dump(run, handle, indent=1)


def predicted_rows(
    classifier: Classifier, dataset: Dataset, fold: Fold, columns: np.ndarray, batch_size: int, conditions: dict
) -> Iterator[Prediction]:
    """Yield the predictions of a fold's test rows; for an audio-only model, rows without audio are left out.

    Raises:
        ValueError: no row is left, or as `Classifier.probabilities`.
    """
    names, lengths = dataset.features["label"].names, dataset["duration_seconds"][:]
    rows = [int(row) for row in fold.test if classifier.kind != AUDIO or lengths[row]]
    if not rows:
        raise ValueError(f"Fold {fold.name}: none of its {len(fold.test)} test clips has audio, expected some.")
    if left_out := len(fold.test) - len(rows):
        conditions = conditions | {"notes": [*conditions["notes"], f"{left_out} test clips have no audio: left out."]}
    statistics, more = statistics_of_rows(classifier, dataset, rows)
    known = {"temperature": getattr(classifier.model.config, "calibration_temperature", None)}
    known |= {"abstain_threshold": classifier.abstain_threshold}
    conditions = conditions | {"notes": [*conditions["notes"], *more]}
    wanted = ["id", "corpus", "speaker", "sex", "label", "votes", "audio", "transcript", "transcript_source"]
    wanted += [LOGPROB] if LOGPROB in dataset.column_names else []
    part, size = dataset.select_columns(wanted).select(rows), CHUNK * batch_size
    with Progress(len(rows), f"fold {fold.name}", "clips") as bar:
        for start in range(0, len(rows), size):
            chunk = part.select(range(start, min(start + size, len(rows)))).to_list()
            of_speakers = None if statistics is None else statistics[start : start + size]
            texts = [row["transcript"] for row in chunk]
            given, similarity = classifier.answers(samples_of(classifier, chunk), texts, batch_size, of_speakers)
            shares_of_rows = class_probabilities(given[:, : len(classifier.labels)], columns, len(names))
            for row, shares, familiarity in zip(chunk, shares_of_rows, similarity, strict=True):
                source = None if classifier.kind == AUDIO else row["transcript_source"]
                yield Prediction(
                    **{name: row[name] for name in ("id", "corpus", "speaker", "sex")},
                    **conditions,
                    **known,
                    transcript_source=source,
                    asr_avg_logprob=logprob_of(row, source),
                    reference=names[row["label"]],
                    votes=None if row["votes"] is None else dict(zip(names, row["votes"], strict=True)),
                    familiarity=familiarity,
                    probabilities=dict(zip(names, shares.tolist(), strict=True)),
                )
            bar.update(len(chunk))


def samples_of(classifier: Classifier, rows: list[dict]) -> list[np.ndarray | None]:
    """The audio of some rows at the model's rate; None for each row if the model is text-only."""
    if classifier.kind == TEXT:
        return [None] * len(rows)
    rate = classifier.pipeline.feature_extractor.sampling_rate
    return [
        clip if clip is None or rate == SAMPLING_RATE else resample(clip, SAMPLING_RATE, rate) for clip in clips(rows)
    ]


def class_probabilities(probabilities: np.ndarray, columns: np.ndarray, n_classes: int) -> np.ndarray:
    """Sum the probabilities of each class's labels, and normalise them without the labels that are left out.

    Shapes:
        probabilities `(rows, labels)`; columns `(labels,)`; the result `(rows, classes)`.
    """
    added = np.zeros((len(probabilities), n_classes))
    for label, column in enumerate(columns):
        if column >= 0:
            added[:, column] += probabilities[:, label]
    total = added.sum(axis=1, keepdims=True)
    return np.divide(added, total, out=np.full_like(added, 1 / n_classes), where=total > 0)
