"""Contents of `report.json`: every figure of an evaluation, and the conditions under which it was measured.

All shares are from 0 to 1; a figure that cannot be computed is None. `Report.schema()` is the JSON schema of the file.
"""

from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Literal

from hf_ser.data.corpora import CORPORA
from hf_ser.data.schema import UNKNOWN
from hf_ser.json_record import Record
from hf_ser.revisions import public_name
from hf_ser.runs.dimension_figures import DimensionFigures
from hf_ser.runs.findings import Verdict

REPORT_VERSION = 3

LAST_DIGIT = 0.001
"""Last digit of a calibration error in reports: a smaller difference counts as none."""


@dataclass(frozen=True, kw_only=True)
class LabelMap(Record):
    """Label map of the data.

    Args:
        name: Name or file of the map.
        dropped: Rows that the map drops, by the corpus's label.
        not_found: Labels that the map reads and no row has; absent where there are none.
    """

    name: str
    dropped: dict[str, int]
    not_found: list[str] | None = None


@dataclass(frozen=True, kw_only=True)
class SoftLabels(Record):
    """Distance of the probabilities from the raters' votes.

    Args:
        n: Utterances that raters voted on.
        note: Why there are no figures, where n is 0.
        kl: Kullback-Leibler divergence from the votes, nats; 0 is best.
        cosine: Cosine between prediction and votes; 1 is best.
        brier: Squared distance summed over classes; 0 is best, 2 is worst.
        majority_wa: Share of utterances whose predicted class got the most votes, or tied for them.
        entropy_correlation: Spearman correlation of the entropy of prediction and votes; absent where either is
            constant.
    """

    n: int
    note: str | None = None
    kl: float | None = None
    cosine: float | None = None
    brier: float | None = None
    majority_wa: float | None = None
    entropy_correlation: float | None = None


@dataclass(frozen=True, kw_only=True)
class ClassFigures(Record):
    """Figures of one class.

    Args:
        precision: Share of its predictions that are right.
        recall: Share of its utterances that are recognised.
        f1: Harmonic mean of the two.
        support: Its utterances.
    """

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, kw_only=True)
class GroupFigures(Record):
    """Figures of one group of utterances, such as a fold.

    Args:
        n: Utterances.
        wa: Weighted accuracy.
        uar: UAR; None where a class of the task is absent.
    """

    n: int
    wa: float | None
    uar: float | None

    @property
    def best(self) -> float:
        """UAR, or WA where there is none."""
        return self.wa if self.uar is None else self.uar


@dataclass(frozen=True, kw_only=True)
class SpeakerFigures(GroupFigures):
    """Figures of one speaker, whose `sex` is None where it is unknown."""

    sex: Literal["female", "male"] | None


@dataclass(frozen=True, kw_only=True)
class SexFigures(Record):
    """Figures of the speakers of one sex.

    Args:
        n: Utterances.
        n_speakers: Known speakers.
        wa: Weighted accuracy.
        uar: UAR; None where a class of the task is absent.
        uar_ci95: 95 % interval over the speakers of this sex; None where there is none.
        uar_ci95_note: How the interval was made and how far it can be trusted, or why there is none.
        recall: Recall by class; None where the class is absent.
    """

    n: int
    n_speakers: int
    wa: float
    uar: float | None
    uar_ci95: list[float] | None
    uar_ci95_note: str = "no note"
    recall: dict[str, float | None]

    best = GroupFigures.best


@dataclass(frozen=True, kw_only=True)
class SexGap(Record):
    """How much better women are recognised than men.

    Args:
        uar: UAR of the women minus that of the men; None where either is unknown.
        ci95: 95 % interval of the gap, both groups drawn independently.
        note: How the interval was made, or why there is none.
    """

    uar: float | None
    ci95: list[float] | None
    note: str


@dataclass(frozen=True, kw_only=True)
class Bin(Record):
    """Utterances of similar confidence, in (low, high].

    Args:
        low, high: Edges.
        n: Utterances.
        confidence: Their mean confidence; None where there are none.
        accuracy: Share of them that is right; None where there are none.
    """

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True, kw_only=True)
class Calibration(Record):
    """How far confidence can be trusted; fitted on validation speakers, measured on test speakers.

    Args:
        temperature: Temperature that divides the logits of each fold; None if it was not calibrated.
        ece: Expected calibration error after calibration.
        ece_uncalibrated: The same without the temperatures; None where no fold was calibrated.
        nll: Mean negative log probability of the true class, nats, after calibration.
        nll_uncalibrated: The same without the temperatures; None where no fold was calibrated.
        bins: Utterances by their confidence.
    """

    temperature: dict[str, float | None]
    ece: float
    ece_uncalibrated: float | None
    nll: float
    nll_uncalibrated: float | None
    bins: list[Bin]

    @property
    def is_worse(self) -> bool:
        """Whether the calibration error on the test speakers is larger with the temperature than without."""
        return self.ece_uncalibrated is not None and self.ece > self.ece_uncalibrated + LAST_DIGIT / 2


@dataclass(frozen=True, kw_only=True)
class Abstention(Record):
    """Figures of the utterances whose confidence reaches the abstain threshold of their fold.

    Args:
        threshold: Abstain threshold of each fold; None where it has none.
        coverage: Share of all test utterances that is answered; None where a fold has no threshold.
        n: Utterances that are answered.
        wa: WA of those; None where there are none.
        uar: UAR of those; None where a class of the task is not among them.
        note: How to read the figures, or why there are none.
    """

    threshold: dict[str, float | None]
    coverage: float | None
    n: int | None
    wa: float | None
    uar: float | None
    note: str


@dataclass(frozen=True, kw_only=True)
class RiskCoverage(Record):
    """Error rate if the model answers only its most confident utterances.

    Args:
        coverage: Share of the utterances answered, most confident first.
        risk: Share of wrong answers among those; utterances of equal confidence count as in the mean over all orders.
        aurc: Mean risk over every number of answers from one to all; 0 is best.
    """

    coverage: list[float]
    risk: list[float]
    aurc: float


@dataclass(frozen=True, kw_only=True)
class Mistake(Record):
    """One utterance that was classified wrongly: its id, its fold, and the probability of the predicted class."""

    id: str
    fold: str
    confidence: float


@dataclass(frozen=True, kw_only=True)
class Confusion(Record):
    """A pair of classes that are confused.

    Args:
        reference: True class.
        predicted: Class it is taken for.
        n: Utterances.
        share: Share of the reference's utterances.
        worst: The mistakes with the highest confidence, which come first.
    """

    reference: str
    predicted: str
    n: int
    share: float
    worst: list[Mistake]


@dataclass(frozen=True, kw_only=True)
class RocCurve(Record):
    """ROC curve of one class against the rest: the area under the whole curve, and the rates of the points shown."""

    auc: float
    false_positive_rate: list[float]
    true_positive_rate: list[float]


@dataclass(frozen=True, kw_only=True)
class Conditions(Record):
    """What figures were measured on, and what a reader must know about them.

    Args:
        corpus: Name of the corpus; several names are in alphabetical order with + between them.
        protocol: How the folds were made, such as emobox or speaker_folds.
        split_fingerprint: Fingerprint of the split; for several folds the SHA-256 of their lines fold:fingerprint.
            Equal if training, validation and test rows are equal.
        folds: Split fingerprint of each fold that was tested.
        leaks: Leaks that were known before training. Do not compare leaked figures with clean ones.
        notes: What else a reader of the figures must know, such as that features were scaled by all clips of a test
            speaker.
        transcript_sources: Sources of the transcripts: reference, or a recogniser and the hash of its weights, and how
            they were changed; none if the model reads no transcript.
    """

    corpus: str
    protocol: str
    split_fingerprint: str
    folds: dict[str, str]
    leaks: list[str]
    notes: list[str] = field(default_factory=list)
    transcript_sources: list[str]

    @property
    def is_synthetic(self) -> bool:
        """Whether generated voices are among the data."""
        return "synthetic" in self.corpus.split("+")

    @property
    def is_paired(self) -> bool:
        """Whether the data pair text of one corpus with audio of another."""
        return "paired" in self.corpus.split("+")


@dataclass(frozen=True, kw_only=True)
class Report(Conditions):
    """Every figure of an evaluation, and its conditions.

    Args:
        label_map: Label map of the data; None where it is unknown.
        audit: Verdict of the audit of data and run; None if it was not run.
        n_utterances: Test utterances of all folds.
        n_speakers: Known test speakers.
        uar: Unweighted average recall over all classes of the task: the headline figure.
        uar_ci95, wa_ci95, macro_f1_ci95: 95 % interval over test speakers, [low, high]: expanded percentile bootstrap.
            None where uar_ci95_note says why.
        uar_ci95_note: How the intervals of uar, wa and macro_f1 were made and how far they hold, or why there are none.
        wa: Weighted accuracy, that is plain accuracy.
        macro_f1: Mean F1 over the classes.
        weighted_f1: Mean F1 over the classes, weighted by their utterances.
        mcc: Matthews correlation coefficient.
        roc_auc_ovr: Area under the ROC curve of one class against the rest, unweighted mean over classes.
        ece: Expected calibration error of the calibrated probabilities; 15 bins of equal width.
        confusion_matrix: Numbers of utterances; rows are references, columns predictions, in the order of labels.
        labels: Classes of the task in the order of their indices.
        per_speaker: Figures by speaker; unknown holds the utterances without one.
        per_sex: Figures by sex of the speaker; unknown holds the rest.
        per_asr_confidence: Figures by thirds of the utterances, by how sure the recogniser was of their transcripts;
            absent where no transcript is a recogniser's.
        confusions: Confused pairs of classes, most frequent first.
        roc: ROC curve of each class against the rest.
        unfamiliar: Share of the test utterances that are unlike the training data; absent where that is not known.
        chance_uar: UAR of guessing: one divided by the number of classes.
        notices: Warnings to show next to the figures: leaks, synthetic or paired data, absent actors.
        versions: Versions of Python and packages; None where a package is not installed.
        dimensions: Figures of valence, arousal and dominance; absent where the model does not predict them.
    """

    WHAT: ClassVar[str] = f"a report of hf_ser, version {REPORT_VERSION}"
    REMEDY: ClassVar[str] = "Make it again with python scripts/evaluate.py and the run's folder."

    report_version: Literal[3] = REPORT_VERSION
    label_map: LabelMap | None
    audit: Verdict | None
    n_utterances: int
    n_speakers: int
    uar: float
    uar_ci95: list[float] | None
    wa_ci95: list[float] | None
    macro_f1_ci95: list[float] | None
    uar_ci95_note: str
    wa: float
    macro_f1: float
    weighted_f1: float
    mcc: float
    roc_auc_ovr: float
    ece: float
    soft_labels: SoftLabels
    per_class: dict[str, ClassFigures]
    confusion_matrix: list[list[int]]
    labels: list[str]
    per_speaker: dict[str, SpeakerFigures]
    per_sex: dict[str, SexFigures]
    sex_gap: SexGap
    per_fold: dict[str, GroupFigures]
    per_asr_confidence: dict[str, GroupFigures] | None = None
    calibration: Calibration
    abstention: Abstention
    risk_coverage: RiskCoverage
    confusions: list[Confusion]
    roc: dict[str, RocCurve]
    unfamiliar: float | None = None
    chance_uar: float
    notices: list[str]
    versions: dict[str, str | None]
    dimensions: DimensionFigures | None = None

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object, its version first."""
        return {"report_version": self.report_version} | super().to_json()

    @property
    def is_leaked(self) -> bool:
        """Whether training or the audit found a leak."""
        return bool(self.leaks or (self.audit and self.audit.leak))

    def public(self, with_people: bool) -> "Report":
        """The report as it is pushed with a model: no local path.

        Args:
            with_people: Keep the names of speakers and clips.
        """
        kept = self.label_map and replace(self.label_map, name=public_name(self.label_map.name))
        report = replace(self, label_map=kept)
        if with_people:
            return report
        numbers = count(1)
        names = [UNKNOWN if name == UNKNOWN else f"speaker {n}" for n, name in enumerate(self.per_speaker, start=1)]
        return replace(
            report,
            per_speaker=dict(zip(names, self.per_speaker.values(), strict=True)),
            confusions=[
                replace(pair, worst=[replace(one, id=f"clip {next(numbers)}") for one in pair.worst])
                for pair in self.confusions
            ],
            notices=anonymous_notices(self.notices),
            dimensions=self.dimensions and self.dimensions.without_names(),
        )


@dataclass(frozen=True, kw_only=True)
class DimensionReport(Conditions):
    """The figures of a model that predicts only dimensions, and their conditions.

    Args:
        label_map, audit, n_utterances, n_speakers, notices, versions: As in Report.
        dimensions: Figures of valence, arousal and dominance.
    """

    WHAT: ClassVar[str] = Report.WHAT
    REMEDY: ClassVar[str] = Report.REMEDY

    report_version: Literal[3] = REPORT_VERSION
    label_map: LabelMap | None
    audit: Verdict | None
    n_utterances: int
    n_speakers: int
    dimensions: DimensionFigures
    notices: list[str]
    versions: dict[str, str | None]

    is_leaked = Report.is_leaked

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object, its version first."""
        return {"report_version": self.report_version} | super().to_json()

    def public(self, with_people: bool) -> "DimensionReport":
        """The report as it is pushed with a model; see `Report.public`."""
        kept = self.label_map and replace(self.label_map, name=public_name(self.label_map.name))
        report = replace(self, label_map=kept)
        if with_people:
            return report
        without_names = self.dimensions.without_names()
        return replace(report, dimensions=without_names, notices=anonymous_notices(self.notices))


def read_report(file: str | Path) -> Report | DimensionReport | None:
    """Read a report of either kind; None if there is no file.

    Raises:
        ValueError: as `Record.read`.
    """
    if not Path(file).is_file():
        return None
    values = Report.read_json(file)
    is_of_dimensions = isinstance(values, dict) and "uar" not in values and "dimensions" in values
    return (DimensionReport if is_of_dimensions else Report).from_json(values, str(file))


def anonymous_notices(notices: list[str], clips: set[str] = frozenset()) -> list[str]:
    """The notices that name no clip and no speaker; such names begin with their corpus."""
    names = (*clips, *(f"{corpus}/" for corpus in CORPORA))
    return [notice for notice in notices if not any(name in notice for name in names)]
