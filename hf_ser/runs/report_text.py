"""A report as text for the terminal, and texts of figures that the plots share."""

import textwrap

from hf_ser.markup import line_width
from hf_ser.normal_form import printable
from hf_ser.runs.dimension_figures import DimensionFigures, DimensionGroup
from hf_ser.runs.figures import (
    Abstention,
    Calibration,
    ClassFigures,
    Confusion,
    DimensionReport,
    GroupFigures,
    LabelMap,
    Report,
    RiskCoverage,
    SexGap,
    SoftLabels,
)
from hf_ser.runs.findings import Verdict
from hf_ser.runs.report import NO_TEXT

SHOWN_CONFUSIONS = 3
NAME_WIDTH = 13
"""Width of the names of the rows."""


def format_report(report: Report | DimensionReport) -> str:
    """The report as a plain-text table for the terminal; UAR, WA, F1 and the class table in per cent."""
    of_classes = _class_lines(report) if isinstance(report, Report) else []
    lines = [*_heading_lines(report), *of_classes]
    if report.dimensions:
        lines += [*([""] if of_classes else []), *dimension_lines(report.dimensions)]
    if not of_classes:
        lines += _line("audit", audit_text(report.audit))
    return printable("\n".join(lines), keep_lines=True)


def _heading_lines(report: Report | DimensionReport) -> list[str]:
    """Notices, label map, corpus, protocol and number of utterances."""
    lines = [line for notice in report.notices for line in textwrap.wrap(notice, line_width())]
    return [
        *lines,
        *([""] if lines else []),
        *_label_map_lines(report.label_map),
        f"{report.corpus}, protocol {report.protocol}, {counted(len(report.folds), 'fold')}, "
        f"split {report.split_fingerprint[:12]}",
        *textwrap.wrap(_size_text(report), line_width()),
        "",
    ]


def _class_lines(report: Report) -> list[str]:
    n_folds = len(report.folds)
    return [
        *_line("UAR", headline_uar(report)),
        *_line("", report.uar_ci95_note),
        *_line(
            "WA",
            f"{_percent(report.wa)} %, macro F1 {_percent(report.macro_f1)} %, "
            f"weighted F1 {_percent(report.weighted_f1)} %",
        ),
        *_line("MCC", f"{report.mcc:.3f}, ROC AUC {report.roc_auc_ovr:.3f}, ECE {report.ece:.3f}"),
        *_line("calibration", _calibration_text(report.calibration)),
        *_line("answered", _abstention_text(report.abstention, report.risk_coverage)),
        *_line("rater votes", _soft_text(report.soft_labels)),
        *_line("unfamiliar", unfamiliar_text(report.unfamiliar)),
        *_line("audit", audit_text(report.audit)),
        "",
        *_class_table(report.per_class),
        "",
        *_group_lines("sex", report.per_sex),
        *_line("sex gap", _gap_text(report.sex_gap)),
        *(_group_lines("fold", report.per_fold) if n_folds > 1 else []),
        *(_group_lines("recogniser", report.per_asr_confidence) if report.per_asr_confidence else []),
        *_confusion_lines(report.confusions),
    ]


def dimension_lines(figures: DimensionFigures) -> list[str]:
    """CCC of each dimension and their mean, and by sex and fold."""
    rows = [(name, figures.ccc[name], figures.ccc_ci95[name], figures.n[name]) for name in figures.ccc]
    width = max(len("dimension"), *(len(name) for name, *_ in rows))
    folds = figures.per_fold
    return [
        *_line("CCC", headline_ccc(figures)),
        *_line("", figures.ccc_ci95_note),
        "",
        f"{'dimension':<{width}}     CCC      95 % interval  Pearson    MAE  utterances",
        *(
            f"{name:<{width}}  {ccc_text(ccc):>6}  {_span(span):>17}  {ccc_text(figures.pearson[name]):>7}  "
            f"{ccc_text(figures.mae[name]):>5}  {n:>10}"
            for name, ccc, span, n in rows
        ),
        "",
        *_line("sex", _ccc_groups(figures.per_sex)),
        *(_line("fold", _ccc_groups(folds)) if len(folds) > 1 else []),
    ]


def headline_ccc(figures: DimensionFigures) -> str:
    """Mean CCC over the dimensions with its interval."""
    interval = figures.mean_ccc_ci95
    span = f"95 % interval {_span(interval)}" if interval else "no interval"
    low, high = figures.scale
    return f"{ccc_text(figures.mean_ccc)}, mean of {', '.join(figures.ccc)} on a scale from {low:g} to {high:g}, {span}"


def ccc_text(value: float | None) -> str:
    """A CCC with three digits."""
    return "none" if value is None else f"{value:.3f}"


def _span(interval: list[float] | None) -> str:
    return f"[{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "none"


def _ccc_groups(groups: dict[str, DimensionGroup]) -> str:
    return ", ".join(f"{name}: CCC {ccc_text(group.mean_ccc)} (n {group.n})" for name, group in groups.items())


def unfamiliar_text(share: float | None) -> str:
    """How many test utterances are unlike the training data; empty where that is not known."""
    return "" if share is None else f"{_percent(share)} % of the utterances are unlike the training data"


def _label_map_lines(label_map: LabelMap | None) -> list[str]:
    texts = []
    if label_map and label_map.dropped:
        dropped, rows = label_map.dropped, sum(label_map.dropped.values())
        by_label = ", ".join(f"{label} {count}" for label, count in dropped.items())
        texts.append(f"labels {label_map.name}, which drops {rows} rows of the data: {by_label}")
    if lacking := label_map and label_map.not_found:
        texts.append(f"labels {label_map.name}, which reads labels that no row has: {', '.join(lacking)}")
    return [line for text in texts for line in textwrap.wrap(text, line_width())]


def headline_uar(report: Report) -> str:
    """UAR in per cent with its interval and chance, for the terminal and the plots."""
    interval = report.uar_ci95
    span = f"95 % interval [{_percent(interval[0])}, {_percent(interval[1])}]" if interval else "no interval"
    return f"{_percent(report.uar)} %, {span}, chance {_percent(report.chance_uar)} %"


def counted(n: int, noun: str) -> str:
    """`1 speaker`, `2 speakers`."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def transcripts_text(sources: list[str]) -> str:
    """The sources of the transcripts; empty for an audio-only model."""
    return "" if sources == NO_TEXT else ", ".join(sources)


def _size_text(report: Report | DimensionReport) -> str:
    size = f"{counted(report.n_utterances, 'utterance')}, {counted(report.n_speakers, 'speaker')}"
    sources = transcripts_text(report.transcript_sources)
    return f"{size}, transcripts: {sources}" if sources else size


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _line(kind: str, text: str) -> list[str]:
    return textwrap.wrap(text, line_width(), initial_indent=f"{kind:<{NAME_WIDTH}}", subsequent_indent=" " * NAME_WIDTH)


def _soft_text(soft: SoftLabels) -> str:
    if not soft.n:
        return "none in this corpus"
    correlation = soft.entropy_correlation
    return (
        f"KL {soft.kl:.3f} nats, cosine {soft.cosine:.3f}, Brier {soft.brier:.3f}, "
        f"most voted class {_percent(soft.majority_wa)} %"
        + ("" if correlation is None else f", entropy correlation {correlation:.2f}")
        + f" (votes of {soft.n} utterances)"
    )


def _calibration_text(calibration: Calibration) -> str:
    before, temperatures = calibration.ece_uncalibrated, [t for t in calibration.temperature.values() if t]
    if before is None:
        return f"not calibrated: ECE {calibration.ece:.3f}, NLL {calibration.nll:.3f} nats"
    worse = " (worse: these scores are not calibrated)" if calibration.is_worse else ""
    low, high = f"{min(temperatures):.2f}", f"{max(temperatures):.2f}"
    if low == high == "1.00":  # as of closed-form heads, whose scale comes from held-out speakers
        return f"ECE {calibration.ece:.3f}, NLL {calibration.nll:.3f} nats; the head's own scale, temperature 1.00"
    return (
        f"ECE {before:.3f} before, {calibration.ece:.3f} after{worse}, "
        f"NLL {calibration.nll_uncalibrated:.3f} before, "
        f"{calibration.nll:.3f} nats after, temperature {low if low == high else f'{low} to {high}'}"
    )


def _abstention_text(abstention: Abstention, risk_coverage: RiskCoverage) -> str:
    aurc = f"AURC {risk_coverage.aurc:.3f}"
    if abstention.n is None:
        return f"no threshold, {aurc}"
    if not abstention.n:
        return f"no utterance, {aurc}"
    name = "WA" if abstention.uar is None else "UAR"
    figure = f"{name} {_percent(getattr(abstention, name.lower()))} %"
    return f"{_percent(abstention.coverage)} % (n {abstention.n}), {figure} on those, {aurc}"


def _gap_text(gap: SexGap) -> str:
    if gap.uar is None:
        return gap.note
    span = f"95 % interval [{_points(gap.ci95[0])}, {_points(gap.ci95[1])}]" if gap.ci95 else "no interval"
    return f"UAR female - male {_points(gap.uar)} points, {span}"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


def _confusion_lines(confusions: list[Confusion]) -> list[str]:
    """The most frequent confusions, each with its most confident mistake."""
    if not confusions:
        return []
    lines = [
        f"{one.reference} taken for {one.predicted}: {one.n}, {_percent(one.share)} %, e.g. {one.worst[0].id}"
        for one in confusions[:SHOWN_CONFUSIONS]
    ]
    return [line for kind, text in zip(("wrong", "", ""), lines, strict=False) for line in _line(kind, text)]


def audit_text(audit: Verdict | None) -> str:
    """The verdict of an audit in one line."""
    if audit is None:
        return "not run"
    found = f"LEAK: {', '.join(audit.leak)}" if audit.verdict == "leak" else "no leak found"
    return found + (f"; warnings: {', '.join(audit.warning)}" if audit.warning else "")


def _class_table(per_class: dict[str, ClassFigures]) -> list[str]:
    per_class = {printable(label): row for label, row in per_class.items()}
    width = max(len("class"), *(len(label) for label in per_class))
    header = f"{'class':<{width}}  precision  recall     f1  support"
    return [header] + [
        f"{label:<{width}}  {_percent(row.precision):>9}  {_percent(row.recall):>6}  {_percent(row.f1):>5}  "
        f"{row.support:>7}"
        for label, row in per_class.items()
    ]


def _group_lines(kind: str, groups: dict[str, GroupFigures]) -> list[str]:
    def figure(group: GroupFigures) -> str:
        return f"WA {_percent(group.wa)}" if group.uar is None else f"UAR {_percent(group.uar)}"

    text = ", ".join(f"{name}: {figure(group)} (n {group.n})" for name, group in groups.items())
    return _line(kind, text)
