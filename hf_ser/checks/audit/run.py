"""The audit of a run, from its training records and predictions."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from datasets import Dataset
from sklearn.metrics import confusion_matrix

from hf_ser.checks.audit.data import audit_data
from hf_ser.checks.audit.not_copies import NotCopies
from hf_ser.data.folds import CHOSEN_ON_TEST, FINAL, Fold
from hf_ser.data.folds import fingerprint as split_fingerprint
from hf_ser.data.schema import SPLITS
from hf_ser.runs.figures import Report, read_report
from hf_ser.runs.findings import LEAK, WARNING, AuditFinding, finding
from hf_ser.runs.folder import RunFolder
from hf_ser.runs.predictions import PREDICTIONS, Prediction, read_predictions
from hf_ser.runs.record import RECORD, TRAINING_WITHHELD, TrainingRecord, as_trained, hashed, is_withheld
from hf_ser.runs.report import REPORT, make_report
from hf_ser.runs.scores import ROUNDING, uar_from_confusion

STAGE_REMEDY = "train the encoder on the same fold: --audio_model 'runs/audio/fold_{fold}'"


def audit_run(
    folder: str | Path, dataset: Dataset | None = None, cleared: NotCopies | None = None
) -> list[AuditFinding]:
    """Audit the finished folds of a run.

    Args:
        folder: `--output_dir` of the training script.
        dataset: The run's data set, whose parts are found by the hashes in the records and audited. Without it only
            records, predictions and the findings of the audit before training are used.
        cleared: Pairs of clips that a person has cleared: they are not copies; by default those of the run's records.

    Raises:
        FileNotFoundError: the folder holds no finished fold.
    """
    folder = Path(folder)
    done = list(RunFolder(folder).folds.values()) if folder.is_dir() else []
    if not done:
        raise FileNotFoundError(
            f"{folder}: found no finished fold, expected the --output_dir of a training script with fold_1/{RECORD} or "
            "the like: name a run, or let it finish."
        )
    found, folds, reads_text = [], [], False
    of_all = read_predictions(folder / PREDICTIONS) if (folder / PREDICTIONS).is_file() else []
    if dataset is not None and not (of_all and dataset.features["label"].names == of_all[0].labels):
        dataset = as_trained(dataset, done[0].record.settings)
    for fold in done:
        record = fold.record
        rows = fold.predictions or [row for row in of_all if row.fold == fold.name]
        found += record_findings(record, rows)
        reads_text |= record.settings.get("model") != "audio"
        if dataset is None:
            found += record.audit
        else:
            folds.append(fold_of_record(dataset, record, rows))
            found += unknown_rows(folds[-1], record, rows) or altered_findings(dataset, folds[-1])
        found += branch_findings(record, rows)
    if dataset is not None:
        found += audit_data(
            dataset, folds, reads_text, cleared or cleared_in_training([fold.record for fold in done], dataset)
        )
    return [*_without_repeats(found), *figure_findings(folder)]


def cleared_in_training(records: Sequence[TrainingRecord], dataset: Dataset) -> NotCopies:
    """Pairs that were cleared when the folds were trained."""
    ids = dataset["id"][:]
    by_fold = [NotCopies.of_record(record.not_copies, ids) for record in records]
    last = next((one for one in reversed(by_fold) if one.pairs), NotCopies())
    return replace(last, pairs=frozenset().union(*(one.pairs for one in by_fold)))


def fold_of_record(dataset: Dataset, record: TrainingRecord, predictions: Sequence[Prediction]) -> Fold:
    """The split of a training record, its rows found by their hashes.

    Raises:
        ValueError: the record withholds them.
    """
    names = np.array([hashed(name) for name in dataset["id"][:]])
    split = record.split
    if is_withheld([split]):
        raise ValueError(
            f"Fold {split.fold}: found the record of a pushed model: {TRAINING_WITHHELD}. Expected the record as "
            "training wrote it: audit the run where it was trained, or leave out --dataset."
        )
    parts = {part: np.flatnonzero(np.isin(names, rows.ids)) for part, rows in split.parts.items()}
    parts["test"] = np.flatnonzero(np.isin(names, [hashed(row.id) for row in predictions]))
    return Fold(split.fold, fingerprint=split.split_fingerprint, leaks=tuple(record.leaks), **parts)


def unknown_rows(fold: Fold, record: TrainingRecord, predictions: Sequence[Prediction]) -> list[AuditFinding]:
    """Find rows of the record that are missing from the data set.

    Raises:
        ValueError: all rows are missing.
    """
    of_record = {part: len(rows.ids) for part, rows in record.split.parts.items()}
    of_record["test"] = len(predictions)
    lacking = {part: n - len(getattr(fold, part)) for part, n in of_record.items()}
    if not any(lacking.values()):
        return []
    if sum(lacking.values()) == sum(of_record.values()):
        raise ValueError(
            f"Fold {fold.name}: none of the run's {sum(of_record.values())} rows is in this data set. Expected the one "
            "that the run was trained on: name it with --dataset, or leave out --dataset."
        )
    detail = (
        f"rows of the run that are not in this data set: {', '.join(f'{n} of {part}' for part, n in lacking.items())}"
    )
    return [finding("other_data", WARNING, detail, "name the data set that the run was trained on", fold=fold.name)]


def altered_findings(dataset: Dataset, fold: Fold) -> list[AuditFinding]:
    """Check that the rows of the record give its split fingerprint."""
    ids = np.array(dataset["id"][:])
    made = split_fingerprint({part: ids[getattr(fold, part)].tolist() for part in SPLITS})
    if made == fold.fingerprint:
        return []
    detail = f"the rows of the record give the split fingerprint {made}, the record has {fold.fingerprint}"
    remedy = "audit with the data set of the run; if this is it, the record was changed: train again"
    return [finding("record_does_not_match", LEAK, detail, remedy, fold=fold.name)]


def record_findings(record: TrainingRecord, predictions: Sequence[Prediction]) -> list[AuditFinding]:
    """Find contradictions between a fold's record and its predictions, and leaks that they show."""
    fold, split = record.split.fold, record.split
    stamped = sorted({*record.leaks, *(leak for row in predictions for leak in row.leaks)})
    found = [
        finding(leak, LEAK, "recorded when the fold was trained", "train again without --allow_leak", fold=fold)
        for leak in stamped
    ]
    if not predictions and fold != FINAL:
        detail = "the fold has no predictions: its test speakers are unknown"
        found.append(finding("no_predictions", WARNING, detail, "run the training command again", fold=fold))
    if others := {row.split_fingerprint for row in predictions} - {split.split_fingerprint}:
        detail = f"predictions are of the split {', '.join(sorted(others))}, the record of {split.split_fingerprint}"
        remedy = "keep record and predictions of one training together"
        found.append(finding("record_does_not_match", LEAK, detail, remedy, fold=fold))
    speakers = {hashed(row.speaker): row.speaker for row in predictions if row.speaker}
    ids = {hashed(row.id): row.id for row in predictions}
    for part, rows in split.parts.items():
        if shared := speakers.keys() & set(rows.speakers):
            detail = f"{len(shared)} test speakers are in {part}"
            who = [speakers[one] for one in shared]
            remedy = "train again with a speaker-independent protocol"
            found.append(finding(f"speaker_overlap_{part}_test", LEAK, detail, remedy, who, fold))
        if shared := ids.keys() & set(rows.ids):
            kind = CHOSEN_ON_TEST if part == "validation" else "utterance_overlap_train_test"
            detail = f"{len(shared)} of {len(ids)} tested utterances are in {part}"
            found.append(finding(kind, LEAK, detail, "test on other utterances", [ids[one] for one in shared], fold))
    for ancestor in record.ancestors:
        for rows, how in ((ancestor.train, "was trained on"), (ancestor.validation, "had its checkpoint chosen on")):
            shared = [ids[one] for one in ids.keys() & set(rows.ids)]
            who = [speakers[one] for one in speakers.keys() & set(rows.speakers)]
            if shared or who:
                detail = (
                    f"an encoder of this model {how} {len(shared)} tested utterances and {len(who)} of their speakers"
                )
                found.append(finding("stage_leakage", LEAK, detail, STAGE_REMEDY, shared or who, fold))
    frozen = record.settings.get("freeze", "none")
    for modality, origin in (record.encoders or {}).items():
        if frozen in (modality, "both") and origin == "trained here from scratch":
            detail = f"the {modality} encoder was frozen with random weights"
            remedy = f"train it first (train_{modality}.py) and name its folder, or leave out --freeze {frozen}"
            found.append(finding("untrained_encoder", WARNING, detail, remedy, fold=fold))
    return found


def branch_findings(record: TrainingRecord, predictions: Sequence[Prediction]) -> list[AuditFinding]:
    """Check whether a fused model is worse than one of its encoders alone, on the same test rows."""
    found, fold = [], record.split.fold
    for modality, source in record.sources.items():
        file = Path(source) / PREDICTIONS
        if not (predictions and file.is_file()):
            continue
        theirs = {row.id: row for row in read_predictions(file)}
        ours = {row.id: row for row in predictions}
        if theirs.keys() != ours.keys():
            continue
        branch, fused = (_uar(list(rows.values())) for rows in (theirs, ours))
        if branch is not None and fused is not None and fused < branch - ROUNDING:
            detail = (
                f"the fused model has UAR {100 * fused:.1f} %, its {modality} encoder alone {100 * branch:.1f} % "
                f"on the same {len(ours)} test clips"
            )
            remedy = "use the encoder alone, or change the fusion"
            found.append(finding("fusion_below_branch", WARNING, detail, remedy, fold=fold))
    return found


def _uar(predictions: Sequence[Prediction]) -> float | None:
    """UAR of some predictions; None if a class is absent or the model has no classes."""
    if not (labels := predictions[0].labels):
        return None
    answers = [row.predicted for row in predictions]
    confusion = confusion_matrix([row.reference for row in predictions], answers, labels=labels)
    return uar_from_confusion(confusion, labels) if confusion.sum(axis=1).all() else None


def figure_findings(folder: Path) -> list[AuditFinding]:
    """Check that UAR, WA and CCC of the report follow from the predictions."""
    predictions, report = folder / PREDICTIONS, folder / REPORT
    if not (predictions.is_file() and report.is_file()):
        return []
    stored, made = read_report(report), make_report(read_predictions(predictions))
    pairs = {}
    if isinstance(stored, Report) and isinstance(made, Report):
        pairs = {"uar": (stored.uar, made.uar), "wa": (stored.wa, made.wa)}
    if stored.dimensions and made.dimensions:
        pairs["mean CCC"] = tuple(one.dimensions.mean_ccc or 0.0 for one in (stored, made))
    differing = [
        f"{name} is reported as {found:.4f}, the predictions give {expected:.4f}"
        for name, (found, expected) in pairs.items()
        if abs(found - expected) > 1e-6
    ]
    if not differing:
        return []
    remedy = "write the report again with scripts/evaluate.py"
    return [finding("figures_do_not_follow", LEAK, "; ".join(differing), remedy)]


def _without_repeats(found: list[AuditFinding]) -> list[AuditFinding]:
    """Remove repeated findings."""
    kept = {}
    for one in found:
        kept.setdefault((one.kind, one.fold, one.detail), one)
    return list(kept.values())
