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
from hf_ser.scores import score, soft_scores, uar_from_confusion

REPORT = "report.json"
RUN = "run.json"
"""Settings and data of a run, in its folder."""

REPORT_VERSION = 2
RESAMPLES = 2_000
SEED = 0
FEW_SPEAKERS = 10
"""Below this, the interval's note warns: a bootstrap cannot see more variety among speakers than it is given."""

LINE = 100
"""Characters a line of the terminal table."""

UNKNOWN = "unknown"
PACKAGES = ("hf_ser", "torch", "transformers", "datasets", "scikit-learn", "numpy")

NO_VOTES = "No rater votes in this corpus: soft-label figures need those of several raters, and none are invented here."
VERDICTS = ("clean", "warnings", "leak")


def label_map_of(run: str | Path) -> dict | None:
    """The label map of a run's folder, `{"name": ..., "dropped": {label: rows}}`; None where the folder is no run's."""
    file = Path(run) / RUN
    return json.loads(file.read_text(encoding="utf-8"))["data"].get("label_map") if file.is_file() else None


def make_report(rows: Sequence[dict], audit: dict | None = None, label_map: dict | None = None) -> dict:
    """Compute the report of a run; all folds are pooled, and `per_fold` tells them apart.

    Args:
        rows: Predictions as `read_predictions` gives them, in any order.
        audit: What the audit of the data and the run came to: `verdict`, one of `VERDICTS`, and the kinds of its
            findings in the lists `leak` and `warning`. None where it was not run.
        label_map: As `label_map_of`; None where it is not known.

    Returns:
        Plain dicts, lists, strings and numbers, ready for JSON. `confusion_matrix` has the reference in its rows and
        the prediction in its columns, both in the order of `labels`. `uar` of a speaker, sex or fold that lacks one of
        the task's classes is None, and so is `uar_ci95` where `uar_ci95_note` says why. `soft_labels` has the figures
        of `soft_scores` over the `n` utterances that raters voted on, or an `n` of 0 and a `note`.

    Raises:
        ValueError: As `check_predictions`, a class of the task that no row has as its reference, or an unknown verdict.
    """
    check_predictions(rows)
    if audit is not None and audit["verdict"] not in VERDICTS:
        raise ValueError(f"audit: found the verdict {audit['verdict']!r}, expected one of {', '.join(VERDICTS)}.")
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
    conditions = _conditions(rows) | {"label_map": label_map, "audit": audit}
    return {
        "report_version": REPORT_VERSION,
        **conditions,
        "n_utterances": len(rows),
        "n_speakers": len(by_speaker.keys() - {UNKNOWN}),
        "uar": figures["uar"],
        "uar_ci95": interval,
        "uar_ci95_note": note,
        **{name: figure for name, figure in figures.items() if name != "uar"},
        "soft_labels": _soft_labels(rows, probabilities),
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
        *_label_map_lines(report["label_map"]),
        f"{report['corpus']}, protocol {report['protocol']}, {n_folds} fold{'s' if n_folds > 1 else ''}, "
        f"split {report['split_fingerprint'][:12]}",
        *textwrap.wrap(
            f"{report['n_utterances']} utterances, {report['n_speakers']} speakers, "
            f"transcripts: {', '.join(report['transcript_sources'])}",
            LINE,
        ),
        "",
        *_line("UAR", headline_uar(report)),
        *_line("", report["uar_ci95_note"]),
        *_line(
            "WA",
            f"{_percent(report['wa'])} %, macro F1 {_percent(report['macro_f1'])} %, "
            f"weighted F1 {_percent(report['weighted_f1'])} %",
        ),
        *_line("MCC", f"{report['mcc']:.3f}, ROC AUC {report['roc_auc_ovr']:.3f}, ECE {report['ece']:.3f}"),
        *_line("soft", _soft_text(report["soft_labels"])),
        *_line("audit", _audit_text(report["audit"])),
        "",
        *_class_table(report["per_class"]),
        "",
        *_group_lines("sex", report["per_sex"]),
        *(_group_lines("fold", report["per_fold"]) if n_folds > 1 else []),
    ]
    return "\n".join(lines)


def _label_map_lines(label_map: dict | None) -> list[str]:
    if not (label_map and label_map["dropped"]):
        return []
    dropped = ", ".join(f"{label} {rows}" for label, rows in label_map["dropped"].items())
    text = f"labels {label_map['name']}, which drops {sum(label_map['dropped'].values())} rows of the data: {dropped}"
    return textwrap.wrap(text, LINE)


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
        "transcript_sources": sorted({row["transcript_source"] or "none" for row in rows}),
    }


def _soft_labels(rows: list[dict], probabilities: np.ndarray) -> dict:
    """Figures over the rows with votes; probabilities: (utterances, classes)."""
    voted = [index for index, row in enumerate(rows) if row["votes"] is not None]
    if not voted:
        return {"n": 0, "note": NO_VOTES}
    votes = np.array([list(rows[index]["votes"].values()) for index in voted], dtype=np.float64)
    return {"n": len(voted), **soft_scores(probabilities[voted], votes)}


def _per_class(references: np.ndarray, predicted: np.ndarray, labels: list[str]) -> dict[str, dict]:
    columns = precision_recall_fscore_support(references, predicted, labels=range(len(labels)), zero_division=0)
    names = ("precision", "recall", "f1", "support")
    return {
        label: dict(zip(names, values, strict=True))
        for label, *values in zip(labels, *(column.tolist() for column in columns), strict=True)
    }


def _notices(conditions: dict) -> list[str]:
    audit, notices = conditions["audit"], []
    if conditions["leaks"]:
        notices.append(
            f"LEAKED RUN: {', '.join(conditions['leaks'])}. The test set was not independent of training: "
            "compare this figure with no clean one."
        )
    # Leaks that were found before training stand in the predictions already.
    if audit and (later := [kind for kind in audit["leak"] if kind not in conditions["leaks"]]):
        notices.append(f"THE AUDIT FOUND A LEAK: {', '.join(later)}. Compare this figure with no clean one.")
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


def _line(kind: str, text: str) -> list[str]:
    return textwrap.wrap(text, LINE, initial_indent=f"{kind:<7}", subsequent_indent=" " * 7)


def _soft_text(soft: dict) -> str:
    if not soft["n"]:
        return "no rater votes in this corpus"
    doubt = soft["entropy_correlation"]
    return (
        f"KL {soft['kl']:.3f} nats, cosine {soft['cosine']:.3f}, Brier {soft['brier']:.3f}, "
        f"most voted class {_percent(soft['majority_wa'])} %"
        + ("" if doubt is None else f", entropy correlation {doubt:.2f}")
        + f" (votes of {soft['n']} utterances)"
    )


def _audit_text(audit: dict | None) -> str:
    if audit is None:
        return "not run"
    found = f"LEAK: {', '.join(audit['leak'])}" if audit["verdict"] == "leak" else "no leak found"
    return found + (f"; warnings: {', '.join(audit['warning'])}" if audit["warning"] else "")


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
    return _line(kind, text)
