"""The report: every figure of an evaluation and its conditions, computed from the predictions alone."""

import hashlib
import json
import platform
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import compress
from pathlib import Path

import numpy as np
from sklearn.metrics import auc, precision_recall_fscore_support, roc_curve

from hf_ser.data.protocols import PUBLISHED
from hf_ser.data.schema import SEXES, UNKNOWN
from hf_ser.files import atomic_write
from hf_ser.models.familiarity import UNFAMILIAR
from hf_ser.runs.calibration import curve_points, nll, reaches_threshold, reliability_bins, risk_coverage, tempered
from hf_ser.runs.dimension_figures import dimension_figures
from hf_ser.runs.figures import (
    Abstention,
    Calibration,
    ClassFigures,
    Conditions,
    Confusion,
    DimensionReport,
    GroupFigures,
    LabelMap,
    Mistake,
    Report,
    RocCurve,
    SexFigures,
    SexGap,
    SoftLabels,
    SpeakerFigures,
)
from hf_ser.runs.findings import Verdict
from hf_ser.runs.intervals import gap_interval, speaker_intervals
from hf_ser.runs.predictions import Prediction, check_predictions
from hf_ser.runs.scores import ROUNDING, expected_calibration_error, score, soft_scores, uar_from_confusion
from hf_ser.transcripts.confidence import thirds

REPORT = "report.json"
RUN = "run.json"
"""File with the settings and data of a run, in its folder."""

MOST_CONFUSIONS, WORST_OF_EACH = 10, 5
"""Most pairs of confused classes in a report, and most utterances of each."""

PACKAGES = ("hf_ser", "torch", "transformers", "datasets", "scikit-learn", "numpy")

NO_VOTES = "No rater votes in this corpus: soft-label figures need the votes of several raters."
NO_TEXT = ["none"]
"""`transcript_sources` of an audio-only model."""


def label_map_of(run: str | Path) -> LabelMap | None:
    """The label map of a run; None where the folder has no run.json."""
    file = Path(run) / RUN
    label_map = json.loads(file.read_text(encoding="utf-8"))["data"].get("label_map") if file.is_file() else None
    return label_map and LabelMap.from_json(label_map, str(file))


@dataclass(frozen=True)
class PredictionArrays:
    """Predictions of a run as arrays.

    Shapes:
        given, probabilities: (utterances, classes), as in the file and scaled to sum to exactly 1;
        references, predicted, confidence: (utterances,)
    """

    rows: list[Prediction]
    labels: list[str]
    given: np.ndarray
    probabilities: np.ndarray
    references: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        return self.given.argmax(axis=1)

    @property
    def confidence(self) -> np.ndarray:
        return self.probabilities.max(axis=1)

    @property
    def correct(self) -> np.ndarray:
        return self.predicted == self.references

    def column(self, key: str) -> list[str]:
        """A column of names; `UNKNOWN` where one is missing."""
        return [getattr(row, key) or UNKNOWN for row in self.rows]

    def confusions(self, groups: list[str], kept: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """One confusion matrix for each group; `groups` names the group of each utterance, `kept` selects some."""
        kept = np.ones(len(self.rows), dtype=bool) if kept is None else kept
        groups = list(compress(groups, kept))
        return confusion_by_group(groups, self.references[kept], self.predicted[kept], len(self.labels))


def prediction_arrays(rows: Sequence[Prediction]) -> PredictionArrays:
    """Predictions as arrays, sorted by id: no figure may depend on the order of batches or folds."""
    rows = sorted(rows, key=lambda row: row.id)
    labels = rows[0].labels
    given = np.array([list(row.probabilities.values()) for row in rows], dtype=np.float64)
    references = np.array([labels.index(row.reference) for row in rows])
    return PredictionArrays(rows, labels, given, given / given.sum(axis=1, keepdims=True), references)


def make_report(
    rows: Sequence[Prediction], audit: Verdict | None = None, label_map: LabelMap | None = None
) -> Report | DimensionReport:
    """Compute the report of a run, over all folds together and in `per_fold` for each.

    Args:
        rows: Result of `read_predictions`, in any order.
        audit: Verdict of the audit; None where it was not run.
        label_map: Result of `label_map_of`; None where it is unknown.

    Raises:
        ValueError: as `check_predictions`; a class has no utterance; two temperatures or thresholds within one fold.
    """
    check_predictions(rows)
    if not rows[0].probabilities:
        return dimension_report(rows, audit, label_map)
    answers = prediction_arrays(rows)
    by_fold = answers.confusions(answers.column("fold"))
    conditions, headline = conditions_of(answers.rows), _headline(answers)
    notices = [*notices_of(conditions, audit), *_no_skill(answers, headline["uar"]), *_absent_actors(answers.rows)]
    return Report(
        **vars(conditions),
        label_map=label_map,
        audit=audit,
        **headline,
        soft_labels=_soft_labels(answers.rows, answers.given),
        per_class=_per_class(answers),
        confusion_matrix=sum(by_fold.values()).tolist(),
        labels=answers.labels,
        per_speaker=_per_speaker(answers),
        **_by_sex(answers),
        per_fold={name: GroupFigures(**_figures(one)) for name, one in by_fold.items()},
        per_asr_confidence=_per_asr_confidence(answers),
        calibration=_calibration(answers),
        abstention=_abstention(answers),
        risk_coverage=risk_coverage(answers.confidence, answers.correct),
        confusions=_confusions(answers),
        roc=_roc(answers),
        unfamiliar=unfamiliar_share([row.familiarity for row in answers.rows]),
        chance_uar=1 / len(answers.labels),
        notices=notices,
        versions=_versions(),
        dimensions=dimension_figures(answers.rows) if answers.rows[0].dimensions else None,
    )


def dimension_report(
    rows: Sequence[Prediction], audit: Verdict | None = None, label_map: LabelMap | None = None
) -> DimensionReport:
    """The report of a model that predicts only dimensions; arguments as of `make_report`."""
    rows = sorted(rows, key=lambda row: row.id)
    conditions = conditions_of(rows)
    return DimensionReport(
        **vars(conditions),
        label_map=label_map,
        audit=audit,
        n_utterances=len(rows),
        n_speakers=len({row.speaker for row in rows if row.speaker}),
        dimensions=dimension_figures(rows),
        notices=[*notices_of(conditions, audit), *_absent_actors(rows)],
        versions=_versions(),
    )


def write_report(report: Report | DimensionReport, path: str | Path) -> None:
    """Write a report as indented JSON, atomically."""
    with atomic_write(path) as file:
        file.write(json.dumps(report.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def unfamiliar_share(familiarity: Sequence[float | None]) -> float | None:
    """Share of clips that are unlike the training data, among those where it is known; None if it never is."""
    known = [one for one in familiarity if one is not None]
    return sum(one < UNFAMILIAR for one in known) / len(known) if known else None


def _headline(answers: PredictionArrays) -> dict:
    by_speaker = answers.confusions(answers.column("speaker"))
    figures = score(answers.given, answers.references, answers.labels)
    intervals, note = speaker_intervals(by_speaker)
    return {
        "n_utterances": len(answers.rows),
        "n_speakers": len(by_speaker.keys() - {UNKNOWN}),
        "uar": figures.pop("uar"),
        **{f"{name}_ci95": interval for name, interval in intervals.items()},
        "uar_ci95_note": note,
        **figures,
    }


def confusion_by_group(
    groups: list[str], references: np.ndarray, predicted: np.ndarray, n_classes: int
) -> dict[str, np.ndarray]:
    """One confusion matrix for each group, in natural order of their names.

    Shapes:
        references, predicted: (utterances,); each matrix: (classes, classes)
    """
    names = sorted(set(groups), key=_natural)
    position = {name: index for index, name in enumerate(names)}
    group = np.array([position[name] for name in groups], dtype=int)
    cell = (group * n_classes + references) * n_classes + predicted
    counts = np.bincount(cell, minlength=len(names) * n_classes**2)
    return dict(zip(names, counts.reshape(-1, n_classes, n_classes), strict=True))


def _natural(name: str) -> tuple[list, str]:
    """Sort key under which fold 10 follows fold 9."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)], name


def _figures(confusion: np.ndarray) -> dict:
    has_every_class = confusion.sum(axis=1).all()
    return {
        "n": int(confusion.sum()),
        "wa": float(np.trace(confusion) / confusion.sum()),
        "uar": uar_from_confusion(confusion) if has_every_class else None,
    }


def _per_speaker(answers: PredictionArrays) -> dict[str, SpeakerFigures]:
    sexes: dict[str, set] = {}
    for row, speaker in zip(answers.rows, answers.column("speaker"), strict=True):
        sexes.setdefault(speaker, set()).add(row.sex if speaker != UNKNOWN else None)
    return {
        name: SpeakerFigures(**_figures(confusion), sex=next(iter(sexes[name])) if len(sexes[name]) == 1 else None)
        for name, confusion in answers.confusions(answers.column("speaker")).items()
    }


def _by_sex(answers: PredictionArrays) -> dict:
    """`per_sex` and `sex_gap` of the report."""
    sexes = np.array(answers.column("sex"))
    groups = {sex: answers.confusions(answers.column("speaker"), sexes == sex) for sex in sorted(set(sexes.tolist()))}
    per_sex = {sex: _sex_figures(group, answers.labels) for sex, group in groups.items()}
    return {"per_sex": per_sex, "sex_gap": sex_gap(groups)}


def _sex_figures(by_speaker: dict[str, np.ndarray], labels: list[str]) -> SexFigures:
    confusion = sum(by_speaker.values())
    figures, support = _figures(confusion), confusion.sum(axis=1)
    recall = {
        label: float(confusion[index, index] / support[index]) if support[index] else None
        for index, label in enumerate(labels)
    }
    interval, note = None, "No interval: a class of the task is absent."
    if figures["uar"] is not None:
        intervals, note = speaker_intervals(by_speaker)
        interval = intervals["uar"]
    n_speakers = len(by_speaker.keys() - {UNKNOWN})
    return SexFigures(**figures, n_speakers=n_speakers, uar_ci95=interval, uar_ci95_note=note, recall=recall)


def sex_gap(by_sex: dict[str, dict[str, np.ndarray]]) -> SexGap:
    """UAR of female minus UAR of male speakers, with its interval.

    Args:
        by_sex: Confusion matrices by sex and speaker: `{"female": {speaker: matrix}, "male": ...}`.
    """
    if lacking := [sex for sex in SEXES if sex not in by_sex]:
        return SexGap(uar=None, ci95=None, note=f"No gap: no utterance of a {' or '.join(lacking)} speaker.")
    pooled = {sex: sum(by_sex[sex].values()) for sex in SEXES}
    if lacking := [sex for sex, confusion in pooled.items() if not confusion.sum(axis=1).all()]:
        whose = " and ".join(lacking)
        return SexGap(uar=None, ci95=None, note=f"No gap: a class of the task is absent for {whose} speakers.")
    interval, note = gap_interval(by_sex["female"], by_sex["male"])
    gap = uar_from_confusion(pooled["female"]) - uar_from_confusion(pooled["male"])
    return SexGap(uar=gap, ci95=interval, note=note)


def _per_asr_confidence(answers: PredictionArrays) -> dict[str, GroupFigures] | None:
    """Figures by thirds of the clips, by how sure the recogniser was of their transcripts; None where none has any."""
    of_clips = thirds([row.asr_avg_logprob for row in answers.rows])
    kept = np.array([one is not None for one in of_clips])
    if not kept.any():
        return None
    return {name: GroupFigures(**_figures(one)) for name, one in answers.confusions(of_clips, kept).items()}


def _value_per_fold(answers: PredictionArrays, key: str) -> dict[str, float | None]:
    """The one value of a key in each fold."""
    found: dict[str, set] = {}
    for row in answers.rows:
        found.setdefault(row.fold, set()).add(getattr(row, key))
    for fold, values in found.items():
        if len(values) > 1:
            raise ValueError(
                f"fold {fold!r}: found {len(values)} values of {key}, expected one, since a fold is one model. Report "
                "the predictions of different models apart."
            )
    return {fold: found[fold].pop() for fold in sorted(found, key=_natural)}


def _calibration(answers: PredictionArrays) -> Calibration:
    temperature = _value_per_fold(answers, "temperature")
    before = None
    if any(temperature.values()):
        back = np.array([[1 / (row.temperature or 1)] for row in answers.rows])  # a fold without one was not calibrated
        before = tempered(answers.probabilities, back)
    return Calibration(
        temperature=temperature,
        ece=expected_calibration_error(answers.confidence, answers.correct),
        ece_uncalibrated=None if before is None else expected_calibration_error(before.max(axis=1), answers.correct),
        nll=nll(answers.probabilities, answers.references),
        nll_uncalibrated=None if before is None else nll(before, answers.references),
        bins=reliability_bins(answers.confidence, answers.correct),
    )


def _abstention(answers: PredictionArrays) -> Abstention:
    """Figures over the utterances whose confidence reaches the threshold."""
    threshold = _value_per_fold(answers, "abstain_threshold")
    if without := [fold for fold, value in threshold.items() if value is None]:
        note = f"No figures: fold {', '.join(without)} of these predictions has no abstain threshold."
        return Abstention(threshold=threshold, coverage=None, n=None, wa=None, uar=None, note=note)
    # The confidence before rescaling, as the pipeline compares it.
    kept = reaches_threshold(answers.given.max(axis=1), np.array([row.abstain_threshold for row in answers.rows]))
    n = int(kept.sum())
    one_group = ["all"] * len(kept)
    figures = _figures(answers.confusions(one_group, kept)["all"]) if n else {"n": 0, "wa": None, "uar": None}
    note = "The answered utterances are those whose confidence reaches the threshold of validation speakers."
    if figures["uar"] is None:
        note += " No UAR: a class of the task is not among them."
    return Abstention(threshold=threshold, coverage=n / len(kept), **figures, note=note)


def _confusions(answers: PredictionArrays) -> list[Confusion]:
    """Confused pairs of classes, most frequent first."""
    pairs = list(zip(answers.references.tolist(), answers.predicted.tolist(), strict=True))
    support = Counter(reference for reference, _ in pairs)
    wrong = Counter(pair for pair in pairs if pair[0] != pair[1])
    most = sorted(wrong, key=lambda pair: (-wrong[pair], pair))[:MOST_CONFUSIONS]
    return [
        Confusion(
            reference=answers.labels[pair[0]],
            predicted=answers.labels[pair[1]],
            n=wrong[pair],
            share=wrong[pair] / support[pair[0]],
            worst=_worst(answers, [index for index, one in enumerate(pairs) if one == pair]),
        )
        for pair in most
    ]


def _worst(answers: PredictionArrays, mistakes: list[int]) -> list[Mistake]:
    """The mistakes with the highest confidence."""
    confidence = answers.confidence
    surest = sorted(mistakes, key=lambda index: -confidence[index])[:WORST_OF_EACH]
    return [Mistake(id=answers.rows[i].id, fold=answers.rows[i].fold, confidence=float(confidence[i])) for i in surest]


def _roc(answers: PredictionArrays) -> dict[str, RocCurve]:
    """Each class against the rest."""
    curves = {}
    for index, label in enumerate(answers.labels):
        false, true, _ = roc_curve(answers.references == index, answers.probabilities[:, index])
        shown = curve_points(len(false))
        curves[label] = RocCurve(
            auc=float(auc(false, true)),
            false_positive_rate=false[shown].tolist(),
            true_positive_rate=true[shown].tolist(),
        )
    return curves


def conditions_of(rows: list[Prediction]) -> Conditions:
    """Conditions of the figures: corpus, protocol, splits, leaks, notes, transcripts."""
    prints = {row.fold: row.split_fingerprint for row in rows}
    folds = {fold: prints[fold] for fold in sorted(prints, key=_natural)}
    if len(folds) == 1:
        fingerprint = next(iter(folds.values()))
    else:
        lines = "\n".join(sorted(f"{fold}:{one}" for fold, one in folds.items()))
        fingerprint = hashlib.sha256(lines.encode()).hexdigest()
    return Conditions(
        corpus="+".join(sorted({corpus for row in rows for corpus in row.corpus.split("+")})),
        protocol=rows[0].protocol,
        split_fingerprint=fingerprint,
        folds=folds,
        leaks=sorted({leak for row in rows for leak in row.leaks}),
        notes=sorted({note for row in rows for note in row.notes}),
        transcript_sources=sorted({row.transcript_source or "none" for row in rows}),
    )


def _soft_labels(rows: list[Prediction], probabilities: np.ndarray) -> SoftLabels:
    """Figures over the rows with votes; probabilities: (utterances, classes)."""
    voted = [index for index, row in enumerate(rows) if row.votes is not None]
    if not voted:
        return SoftLabels(n=0, note=NO_VOTES)
    votes = np.array([list(rows[index].votes.values()) for index in voted], dtype=np.float64)
    return SoftLabels(n=len(voted), **soft_scores(probabilities[voted], votes))


def _per_class(answers: PredictionArrays) -> dict[str, ClassFigures]:
    labels, classes = answers.labels, range(len(answers.labels))
    *columns, counts = precision_recall_fscore_support(
        answers.references, answers.predicted, labels=classes, zero_division=0
    )
    columns.append(counts.astype(int))  # where no answer is right, scikit-learn counts in floats
    names = ("precision", "recall", "f1", "support")
    return {
        label: ClassFigures(**dict(zip(names, values, strict=True)))
        for label, *values in zip(labels, *(column.tolist() for column in columns), strict=True)
    }


def notices_of(conditions: Conditions, audit: Verdict | None = None) -> list[str]:
    """Warnings to show next to figures measured under some conditions."""
    notices = []
    if conditions.leaks:
        notices.append(
            f"LEAKED RUN: {', '.join(conditions.leaks)}. The test set was not independent of training: "
            "do not compare this figure with clean ones."
        )
    # Leaks found before training are in the predictions already.
    if audit and (later := [kind for kind in audit.leak if kind not in conditions.leaks]):
        notices.append(f"THE AUDIT FOUND A LEAK: {', '.join(later)}. Do not compare this figure with clean ones.")
    notices += conditions.notes
    if conditions.is_synthetic:
        notices.append("Synthetic corpus: this figure tests the software and says nothing about speech.")
    if conditions.is_paired:
        notices.append(
            "Paired corpus: clips of RAVDESS with sentences of MELD of the same emotion, which are not what is spoken. "
            "This figure shows how two real sources are combined; do not compare it with figures of either corpus."
        )
    return notices


def _no_skill(answers: PredictionArrays, uar: float) -> list[str]:
    """Notice of a model that has learned nothing: its intervals and calibration error look good."""
    if len(predicted := set(answers.predicted.tolist())) == 1:
        return [f"The model predicts one class for every utterance: {answers.labels[predicted.pop()]}."]
    is_chance = uar <= 1 / len(answers.labels) + ROUNDING
    return ["UAR is not above chance: the model has learned nothing."] if is_chance else []


def _absent_actors(rows: list[Prediction]) -> list[str]:
    """Notice of a published protocol that was run on a part of its corpus, so that published figures do not compare."""
    listed = dict(enumerate(PUBLISHED.get(rows[0].protocol, ()), start=1))
    tested = {(row.fold, row.speaker.partition("/")[2]) for row in rows if row.speaker}
    lacking = {
        fold: [actor for actor in actors if (str(fold), f"{actor:02d}") not in tested]
        for fold, actors in listed.items()
        if any(row.fold == str(fold) for row in rows)
    }
    absent = ", ".join(
        f"{', '.join(map(str, actors))} in fold {fold}" for fold, actors in sorted(lacking.items()) if actors
    )
    note = (
        f"Test actors absent from the data: {absent}. Do not compare this figure with published ones of this protocol."
    )
    return [note] if absent else []


def _versions() -> dict[str, str | None]:
    def installed(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:  # e.g. run from a checkout that is not installed
            return None

    return {"python": platform.python_version(), **{package: installed(package) for package in PACKAGES}}
