"""The report: every figure of an evaluation, with the conditions it was measured under, from the predictions alone."""

import hashlib
import json
import platform
import re
import textwrap
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from sklearn.metrics import precision_recall_fscore_support

from hf_ser.evaluation.predictions import check_predictions
from hf_ser.files import atomic_write
from hf_ser.protocols import PUBLISHED
from hf_ser.scores import score, uar_from_confusion

REPORT_VERSION = 1
RESAMPLES = 2_000
SEED = 0
FEW_SPEAKERS = 10
"""Below this, the interval's note warns: a bootstrap cannot see more variety among speakers than it is given."""

LINE = 100
"""Characters a line of the terminal table."""

UNKNOWN = "unknown"
PACKAGES = ("hf_ser", "torch", "transformers", "datasets", "scikit-learn", "numpy")


def make_report(rows: Sequence[dict]) -> dict:
    """Compute the report of a run; all folds are pooled, and `per_fold` tells them apart.

    Args:
        rows: Predictions as `read_predictions` gives them, in any order.

    Returns:
        Plain dicts, lists, strings and numbers, ready for JSON. `confusion_matrix` has the reference in its rows and
        the prediction in its columns, both in the order of `labels`. `uar` of a speaker, sex or fold that lacks one of
        the task's classes is None, and so is `uar_ci95` where `uar_ci95_note` says why.

    Raises:
        ValueError: As `check_predictions`, or a class of the task that no row has as its reference.
    """
    check_predictions(rows)
    rows = sorted(rows, key=lambda row: row["id"])  # the report must not depend on the order of batches or folds
    labels = list(rows[0]["probabilities"])
    probabilities = np.array([list(row["probabilities"].values()) for row in rows], dtype=np.float64)
    references = np.array([labels.index(row["reference"]) for row in rows])
    figures = score(probabilities, references, labels)
    predicted = probabilities.argmax(axis=1)

    def confusions(key: str) -> dict[str, np.ndarray]:
        return _confusion_by_group([row[key] or UNKNOWN for row in rows], references, predicted, len(labels))

    by_speaker, by_fold = confusions("speaker"), confusions("fold")
    confusion = sum(by_fold.values())
    interval, note = _interval(by_speaker)
    conditions = _conditions(rows)
    return {
        "report_version": REPORT_VERSION,
        **conditions,
        "n_utterances": len(rows),
        "n_speakers": len(by_speaker.keys() - {UNKNOWN}),
        "uar": figures["uar"],
        "uar_ci95": interval,
        "uar_ci95_note": note,
        **{name: figure for name, figure in figures.items() if name != "uar"},
        "per_class": _per_class(references, predicted, labels),
        "confusion_matrix": confusion.tolist(),
        "labels": labels,
        "per_speaker": {name: _group_figures(group) for name, group in by_speaker.items()},
        "per_sex": {name: _group_figures(group) for name, group in confusions("sex").items()},
        "per_fold": {name: _group_figures(group) for name, group in by_fold.items()},
        "chance_uar": 1 / len(labels),
        "notices": [*_notices(conditions), *_absent_actors(rows)],
        "versions": _versions(),
    }


def write_report(report: dict, path: str | Path) -> None:
    """Write a report as indented JSON, whole or not at all."""
    with atomic_write(path) as file:
        file.write(json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def format_report(report: dict) -> str:
    """The report as a plain-text table for the terminal; UAR, WA, F1 and the class table in per cent."""
    n_folds = len(report["folds"])
    lines = [line for notice in report["notices"] for line in textwrap.wrap(notice, LINE)]
    lines += [
        *([""] if lines else []),
        f"{report['corpus']}, protocol {report['protocol']}, {n_folds} fold{'s' if n_folds > 1 else ''}, "
        f"split {report['split_fingerprint'][:12]}",
        f"{report['n_utterances']} utterances, {report['n_speakers']} speakers",
        "",
        f"UAR  {headline_uar(report)}",
        *textwrap.wrap(report["uar_ci95_note"], LINE, initial_indent="     ", subsequent_indent="     "),
        f"WA   {_percent(report['wa'])} %, macro F1 {_percent(report['macro_f1'])} %, "
        f"weighted F1 {_percent(report['weighted_f1'])} %",
        f"MCC  {report['mcc']:.3f}, ROC AUC {report['roc_auc_ovr']:.3f}, ECE {report['ece']:.3f}",
        "",
        *_class_table(report["per_class"]),
        "",
        *_group_lines("sex", report["per_sex"]),
        *(_group_lines("fold", report["per_fold"]) if n_folds > 1 else []),
    ]
    return "\n".join(lines)


def headline_uar(report: dict) -> str:
    """UAR in per cent with its interval and chance, the way the terminal and the plots print it."""
    interval = report["uar_ci95"]
    span = f"95 % interval [{_percent(interval[0])}, {_percent(interval[1])}]" if interval else "no interval"
    return f"{_percent(report['uar'])} %, {span}, chance {_percent(report['chance_uar'])} %"


def _confusion_by_group(
    groups: list[str], references: np.ndarray, predicted: np.ndarray, n_classes: int
) -> dict[str, np.ndarray]:
    """One confusion matrix a group, in natural order of their names.

    Shapes:
        references, predicted: (utterances,); each matrix: (classes, classes)
    """
    names = sorted(set(groups), key=_natural)
    position = {name: index for index, name in enumerate(names)}
    group = np.array([position[name] for name in groups])
    cell = (group * n_classes + references) * n_classes + predicted
    counts = np.bincount(cell, minlength=len(names) * n_classes**2)
    return dict(zip(names, counts.reshape(-1, n_classes, n_classes), strict=True))


def _natural(name: str) -> tuple[list, str]:
    """Sort key under which fold 10 follows fold 9."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)], name


def _group_figures(confusion: np.ndarray) -> dict:
    whole = confusion.sum(axis=1).all()
    return {
        "n": int(confusion.sum()),
        "wa": float(np.trace(confusion) / confusion.sum()),
        "uar": uar_from_confusion(confusion) if whole else None,
    }


def _interval(by_speaker: dict[str, np.ndarray]) -> tuple[list[float] | None, str]:
    """95 % percentile bootstrap of the pooled UAR over speakers, and what to know about it.

    Speakers, not utterances, are drawn: a speaker's clips rise and fall together, and drawing clips would pretend to
    many more independent observations than there are. A resample is a multinomial weight for each speaker's confusion
    matrix, so that all of them are one integer matrix product.
    """
    if UNKNOWN in by_speaker:
        n_unknown = int(by_speaker[UNKNOWN].sum())
        return None, f"No interval: {n_unknown} utterances have no speaker, and the bootstrap draws whole speakers."
    n_speakers = len(by_speaker)
    if n_speakers < 2:
        return None, "No interval: one speaker only, and the bootstrap draws whole speakers."
    matrices = np.stack(list(by_speaker.values()))  # (speakers, classes, classes)
    draws = np.random.default_rng(SEED).multinomial(n_speakers, np.full(n_speakers, 1 / n_speakers), size=RESAMPLES)
    resamples = (draws @ matrices.reshape(n_speakers, -1)).reshape(RESAMPLES, *matrices.shape[1:])
    resamples = resamples[(resamples.sum(axis=2) > 0).all(axis=1)]
    dropped = RESAMPLES - len(resamples)
    if dropped > RESAMPLES // 2:
        return None, f"No interval: {dropped} of {RESAMPLES} resamples of the speakers lacked a class of the task."
    note = (
        f"Percentile bootstrap over {n_speakers} speakers, {RESAMPLES} resamples, seed {SEED}; "
        f"{dropped} resamples lacked a class and were dropped. Covers the choice of test speakers, not of training."
    )
    if n_speakers < FEW_SPEAKERS:
        note += f" With fewer than {FEW_SPEAKERS} speakers such an interval is too narrow."
    return np.percentile(uar_from_confusion(resamples), [2.5, 97.5]).tolist(), note


def _conditions(rows: list[dict]) -> dict:
    """What the figures were measured on: corpus, protocol, splits and their leaks."""
    prints = {row["fold"]: row["split_fingerprint"] for row in rows}
    folds = {fold: prints[fold] for fold in sorted(prints, key=_natural)}
    if len(folds) == 1:
        fingerprint = next(iter(folds.values()))
    else:
        lines = "\n".join(sorted(f"{fold}:{one}" for fold, one in folds.items()))
        fingerprint = hashlib.sha256(lines.encode()).hexdigest()
    return {
        "corpus": "+".join(sorted({corpus for row in rows for corpus in row["corpus"].split("+")})),
        "protocol": rows[0]["protocol"],
        "split_fingerprint": fingerprint,
        "folds": folds,
        "leaks": sorted({leak for row in rows for leak in row["leaks"]}),
    }


def _per_class(references: np.ndarray, predicted: np.ndarray, labels: list[str]) -> dict[str, dict]:
    columns = precision_recall_fscore_support(references, predicted, labels=range(len(labels)), zero_division=0)
    names = ("precision", "recall", "f1", "support")
    return {
        label: dict(zip(names, values, strict=True))
        for label, *values in zip(labels, *(column.tolist() for column in columns), strict=True)
    }


def _notices(conditions: dict) -> list[str]:
    notices = []
    if conditions["leaks"]:
        notices.append(
            f"LEAKED RUN: {', '.join(conditions['leaks'])}. The test set was not independent of training: "
            "compare this figure with no clean one."
        )
    if "synthetic" in conditions["corpus"].split("+"):
        notices.append("Synthetic corpus: this figure proves the machinery and says nothing about speech.")
    return notices


def _absent_actors(rows: list[dict]) -> list[str]:
    """A published protocol run on a part of its corpus gives a figure that stands beside no published one."""
    listed = dict(enumerate(PUBLISHED.get(rows[0]["protocol"], ()), start=1))
    tested = {(row["fold"], row["speaker"]) for row in rows}
    lacking = {
        fold: [actor for actor in actors if (str(fold), f"ravdess/{actor:02d}") not in tested]
        for fold, actors in listed.items()
        if any(row["fold"] == str(fold) for row in rows)
    }
    said = ", ".join(
        f"{', '.join(map(str, actors))} in fold {fold}" for fold, actors in sorted(lacking.items()) if actors
    )
    note = f"Test actors absent from the data: {said}. Compare this figure with no published one of this protocol."
    return [note] if said else []


def _versions() -> dict[str, str | None]:
    def installed(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:  # e.g. run from a checkout that is not installed
            return None

    return {"python": platform.python_version(), **{package: installed(package) for package in PACKAGES}}


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _class_table(per_class: dict[str, dict]) -> list[str]:
    width = max(len("class"), *(len(label) for label in per_class))
    header = f"{'class':<{width}}  precision  recall     f1  support"
    return [header] + [
        f"{label:<{width}}  {_percent(row['precision']):>9}  {_percent(row['recall']):>6}  {_percent(row['f1']):>5}  "
        f"{row['support']:>7}"
        for label, row in per_class.items()
    ]


def _group_lines(kind: str, groups: dict[str, dict]) -> list[str]:
    def figure(group: dict) -> str:
        return f"WA {_percent(group['wa'])}" if group["uar"] is None else f"UAR {_percent(group['uar'])}"

    text = ", ".join(f"{name}: {figure(group)} (n {group['n']})" for name, group in groups.items())
    return textwrap.wrap(text, LINE, initial_indent=f"{kind:<5}", subsequent_indent="     ")
