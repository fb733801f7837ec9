"""Pictures of calibration, risk and coverage, and ROC."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from hf_ser.plotting import BLUE, GRAY, emotion_colours, line_styles, percent_axis, save, title, wrapped
from hf_ser.runs.figures import Calibration, Report


def plot_reliability(report: Report, path: str | Path, system: str = "") -> None:
    """Draw the accuracy and the number of utterances at each confidence as a PNG.

    Args:
        report: Result of `make_report`; bins without utterances are left empty.
        path: PNG file to write.
        system: The system in one line, for the title.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, figure 4.
    """
    calibration = report.calibration
    bins = [one for one in calibration.bins if one.n]
    middles = [(one.low + one.high) / 2 for one in bins]
    widths = [0.94 * (one.high - one.low) for one in bins]
    figure = Figure(figsize=(6.4, 6.6 + 0.3 * len(report.notices)), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    upper.bar(middles, [one.accuracy for one in bins], widths, color=BLUE, alpha=0.75, label="accuracy")
    upper.plot([one.confidence for one in bins], [one.accuracy for one in bins], "k.", label="mean confidence")
    upper.plot([0, 1], [0, 1], "--", color="gray", label="perfectly calibrated")
    upper.set(ylabel="accuracy (WA, %)", xlim=(0, 1), ylim=(0, 1.02))
    upper.grid(alpha=0.3)
    upper.legend(fontsize=9, loc="upper left")
    counts = lower.bar(middles, [one.n for one in bins], widths, color=GRAY)
    lower.bar_label(counts, fontsize=7, padding=1)
    lower.set(xlabel="confidence: probability of the predicted class, %", ylabel="utterances")
    lower.margins(y=0.2)
    percent_axis(upper, "x", "y")
    title(figure, upper, report, width=62, figures=ece_text(calibration), system=system)
    save(figure, path)


def ece_text(calibration: Calibration) -> str:
    """Expected calibration error with and without temperature, as text."""
    before = calibration.ece_uncalibrated
    if before is None or not any(calibration.temperature.values()):
        return f"ECE {calibration.ece:.3f}, no temperature was fitted"
    if all(value is None or round(value, 2) == 1 for value in calibration.temperature.values()):
        return f"ECE {calibration.ece:.3f}, by the head's own scale (temperature 1.00)"
    worse = ", worse than without it" if calibration.is_worse else ""
    return f"ECE {calibration.ece:.3f} after temperature scaling{worse}, {before:.3f} before"


def plot_risk_coverage(report: Report, path: str | Path, system: str = "") -> None:
    """Draw the error rate among the most confident utterances, and a point for the abstain threshold, as a PNG.

    Args:
        report: Result of `make_report`.
        path: PNG file to write.
        system: The system in one line, for the title.

    Source: Geifman & El-Yaniv 2017, Selective Classification for Deep Neural Networks, section 2.
    """
    curve, abstention = report.risk_coverage, report.abstention
    figure = Figure(figsize=(6.4, 4.8 + 0.3 * len(report.notices)), layout="constrained")
    axes = figure.subplots()
    axes.plot(curve.coverage, curve.risk, color=BLUE, linewidth=1.8, label="most confident first")
    axes.axhline(1 - report.wa, linestyle="--", color="gray", label="all answered")
    if abstention.coverage is not None and abstention.wa is not None:
        coverage, risk = abstention.coverage, 1 - abstention.wa
        label = f"abstain threshold: {100 * coverage:.1f} % answered, {100 * risk:.1f} % of them wrong"
        axes.plot(coverage, risk, "o", color="black", markersize=8, label=label)
    highest = max([*curve.risk, 1 - report.wa, 0.05])
    axes.set(xlabel="coverage: share of utterances answered, %", ylabel="risk: error rate among them, %")
    axes.set(xlim=(0, 1.02), ylim=(0, min(1.3 * highest, 1.05)))
    percent_axis(axes, "x", "y")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9, loc="best")
    title(figure, axes, report, width=62, figures=f"area under the curve (AURC) {curve.aurc:.3f}", system=system)
    save(figure, path)


def plot_roc(report: Report, path: str | Path, system: str = "") -> None:
    """Draw the ROC curve of each class against all others as a PNG.

    Args:
        report: Result of `make_report`.
        path: PNG file to write.
        system: The system in one line, for the title.
    """
    curves = report.roc
    names = {label: wrapped(label) for label in curves}
    longest = max(len(line) for name in names.values() for line in name.split("\n"))
    side = max(5.2, 0.2 * sum(name.count("\n") + 1 for name in names.values()) + 1)  # inches
    figure = Figure(figsize=(side + 1.6 + 0.08 * longest, side + 0.6 + 0.3 * len(report.notices)), layout="constrained")
    axes = figure.subplots()
    palette, styles = emotion_colours(curves), line_styles(curves)
    for label, curve in curves.items():
        entry, style = f"{names[label]} ({curve.auc:.3f})", styles[label]
        axes.plot(curve.false_positive_rate, curve.true_positive_rate, style, color=palette[label], label=entry)
    axes.plot([0, 1], [0, 1], ":", color="gray", label="chance (0.500)")
    axes.set(xlabel="false positive rate, %", ylabel="true positive rate (recall), %")
    axes.set(xlim=(-0.01, 1), ylim=(0, 1.01), aspect="equal", anchor="N")
    percent_axis(axes, "x", "y")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.01, 0.5), title="class (AUC)")
    mean = np.mean([curve.auc for curve in curves.values()])
    title(
        figure,
        axes,
        report,
        width=62,
        figures=f"ROC of each class against the rest, mean AUC {mean:.3f}",
        system=system,
    )
    save(figure, path)
