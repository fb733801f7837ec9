"""Pictures of a report and of a training run, drawn without pyplot, which has global state."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hf_ser.data.schema import UNKNOWN
from hf_ser.plotting import (
    BLUE,
    ORANGE,
    WARNING,
    folds_text,
    percent_axis,
    remove_picture,
    save,
    title,
    wrapped,
    wrapped_notices,
)
from hf_ser.publish.curves import plot_reliability, plot_risk_coverage, plot_roc
from hf_ser.publish.dataset_plots import SEX_COLOURS, shortened
from hf_ser.publish.dimension_plots import DIMENSIONS_PICTURE, plot_dimensions
from hf_ser.runs.comparison_figures import Comparison, SpeakerPair
from hf_ser.runs.figures import DimensionReport, GroupFigures, Report
from hf_ser.runs.report_text import counted, headline_uar
from hf_ser.runs.scores import DIGITS

TRAINING, VALIDATION = BLUE, ORANGE
RUNS = {"a": BLUE, "b": ORANGE}
LONGEST_NAME, LONGEST_RUN, MOST_NAMED = 24, 50, 8
SHIFTED = {"textcoords": "offset points"}


def write_pictures(report: Report | DimensionReport, folder: str | Path, system: str = "") -> list[Path]:
    """Draw every picture of a report: those of `PICTURES` if it has classes, `dimensions.png` if it has dimensions.

    Args:
        report: Result of `make_report`.
        folder: Folder for the PNG files.
        system: The system in one line, for the titles.

    Returns:
        The PNG files that were written.
    """
    pictures = PICTURES if isinstance(report, Report) else {}
    pictures = pictures | ({DIMENSIONS_PICTURE: plot_dimensions} if report.dimensions else {})
    written = []
    for name, draw in pictures.items():
        path = Path(folder) / name
        if draw is plot_groups and len(report.per_speaker) < 2:
            remove_picture(path)  # with one speaker it would repeat the headline
            continue
        draw(report, path, system)
        written.append(path)
    return written


def plot_confusion_matrix(report: Report, path: str | Path, system: str = "") -> None:
    """Draw counts and row percentages of a report's confusion matrix as a PNG.

    The colour is the row percentage, so that the diagonal shows each class's recall.

    Args:
        report: Result of `make_report`.
        path: PNG file to write.
        system: The system in one line, for the title.
    """
    counts = np.array(report.confusion_matrix)  # (reference, predicted)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    labels = [wrapped(label) for label in report.labels]
    longest = max(len(line) for label in labels for line in label.split("\n"))
    cell = max(0.85, 4.0 / len(labels))  # inches
    side = cell * len(labels) + 0.1 * longest
    figure = Figure(figsize=(side + 0.8, side + 0.9 + 0.3 * len(report.notices)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), count in np.ndenumerate(counts):
        text = f"{count}\n{100 * share[row, column]:.1f} %"
        color = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=9)
    turned = 0.09 * longest > cell
    axes.set_xticks(range(len(labels)), labels, rotation=40 if turned else 0, ha="right" if turned else "center")
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="predicted (cells: utterances, per cent of the reference class)", ylabel="reference")
    title(figure, axes, report, width=int(12 * side), figures=f"UAR {headline_uar(report)}", system=system)
    save(figure, path)


def plot_learning_curves(
    histories: dict[str, list[dict]], path: str | Path, notices: Sequence[str] = (), system: str = ""
) -> None:
    """Draw training loss, validation loss and validation UAR against the epoch as a PNG; a star marks the best UAR.

    For a model without classes, the validation CCC replaces UAR. Nothing is drawn for trainings of a single epoch,
    whose curves would be dots.

    Args:
        histories: `state.log_history` of the Trainer by fold; entries without `epoch` or the key of a curve are
            skipped.
        path: PNG file to write.
        notices: Notices of the report, such as a leak, to draw above the curves.
        system: The system in one line, for the title.
    """
    if (
        max(
            (len(_points(one, key)) for one in histories.values() for key in ("loss", "eval_uar", "eval_ccc")),
            default=0,
        )
        < 2
    ):
        remove_picture(path)
        return
    figure = Figure(figsize=(10, 4.2 + 0.3 * len(notices)), layout="constrained")
    loss_axes, uar_axes = figure.subplots(1, 2, sharex=True)
    several = len(histories) > 1
    style = {"linewidth": 0.9, "alpha": 0.6} if several else {"linewidth": 1.8}
    has_uar = any("eval_uar" in entry for history in histories.values() for entry in history)
    has_ccc = any("eval_ccc" in entry for history in histories.values() for entry in history)
    measure = "ccc" if has_ccc and not has_uar else "uar"  # the model has no classes
    for history in histories.values():
        _curve(loss_axes, history, "loss", color=TRAINING, label="training", **style)
        _curve(loss_axes, history, "eval_loss", color=VALIDATION, label="validation", linestyle="--", **style)
        _curve(uar_axes, history, f"eval_{measure}", color=VALIDATION, label="validation", **style)
        _mark_best(uar_axes, history, f"eval_{measure}")
    for axes, name in ((loss_axes, "loss"), (uar_axes, "UAR, %" if measure == "uar" else measure.upper())):
        axes.set(xlabel="epoch", ylabel=name)
        axes.grid(alpha=0.3)
        _legend(axes, nothing=f"no {name.partition(',')[0]} was logged")
    if measure == "uar":
        percent_axis(uar_axes, "y")
    which = f"{folds_text(histories)}, one line each" if several else folds_text(histories)
    heading = textwrap.fill(", ".join(one for one in (system, which) if one), 100).replace("$", r"\$")
    figure.suptitle(heading, fontsize=10.5)
    if notices:
        loss_axes.set_title(wrapped_notices(notices, 60), color=WARNING, fontsize=9, loc="left")
    last = max((entry["epoch"] for history in histories.values() for entry in history if "epoch" in entry), default=1)
    loss_axes.set_xlim(0, 1.04 * max(last, 1e-3))
    if last >= 1:  # whole epochs on the axis, but not for a run shorter than one
        loss_axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))
    save(figure, path)


def plot_groups(report: Report, path: str | Path, system: str = "") -> None:
    """Draw the UAR of each sex with its interval, and of each speaker from the worst to the best, as a PNG.

    A hollow point is the WA of a speaker or sex without utterances of some class.

    Args:
        report: Result of `make_report`.
        path: PNG file to write.
        system: The system in one line, for the title.
    """
    sexes = report.per_sex
    speakers = dict(sorted(report.per_speaker.items(), key=lambda item: item[1].best))
    names = [f"{name}, {counted(group.n_speakers, 'speaker')}" for name, group in sexes.items()] + list(speakers)
    places = [*range(len(sexes)), *range(len(sexes) + 1, len(sexes) + 1 + len(speakers))]  # a gap between the two
    longest = min(max(map(len, names)), LONGEST_NAME)
    wide, high = min(max(7.0, 0.2 * len(names) + 1.5), 18.0), 4.4 + 0.065 * longest
    figure = Figure(figsize=(wide, high + 0.3 * len(report.notices)), layout="constrained")
    axes = figure.subplots()
    for place, (name, group) in zip(places, sexes.items(), strict=False):
        _group_point(axes, place, group, SEX_COLOURS[name], size=10)
    for place, group in zip(places[len(sexes) :], speakers.values(), strict=True):
        _group_point(axes, place, group, SEX_COLOURS[group.sex or UNKNOWN], size=6)
    axes.axhline(report.uar, color="black", linewidth=1, label="UAR of all")
    axes.axhline(report.chance_uar, color="gray", linestyle=":", label="chance")
    size = 9 if len(names) <= 50 else 6.5
    axes.set_xticks(places, [shortened(name, LONGEST_NAME) for name in names], rotation=90, fontsize=size)
    axes.set(ylabel="UAR, %", ylim=(-0.02, 1.02), xlim=(-1, places[-1] + 1))
    percent_axis(axes, "y")
    axes.grid(alpha=0.3, axis="y")
    _group_legend(axes, report)
    title(figure, axes, report, width=int(9 * wide), figures=f"UAR {headline_uar(report)}", system=system)
    save(figure, path)


def plot_comparison(comparison: Comparison, path: str | Path) -> None:
    """Draw the recall of each class and the figure of each speaker of two compared runs as a PNG.

    Args:
        comparison: Result of `hf_ser.runs.comparison.compare`.
        path: PNG file to write.
    """
    classes, notices = comparison.per_class, comparison.notices
    high = max(4.6, 0.5 * len(classes) + 1.5) + 0.3 * len(notices)
    figure = Figure(figsize=(11, high), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.2, 1])
    for row, one in enumerate(classes.values()):
        colour = RUNS["b" if one.difference >= 0 else "a"]
        left.plot([one.a, one.b], [row, row], color=colour, zorder=1)
        left.annotate(f"{100 * one.difference:+.1f}", (max(one.a, one.b), row), (7, -3), **SHIFTED, fontsize=9)
    for run, colour in RUNS.items():
        name = f"{run.upper()}: {shortened(comparison.names[run], LONGEST_RUN)}"
        left.scatter([getattr(one, run) for one in classes.values()], range(len(classes)), color=colour, label=name)
    left.set_yticks(range(len(classes)), [wrapped(label) for label in classes])
    left.invert_yaxis()
    left.set(xlabel="recall of the class, % (numbers: B minus A, in points)", xlim=(-0.02, 1.12))
    percent_axis(left, "x")
    left.legend(loc="lower center", bbox_to_anchor=(0.5, 1), fontsize=9, frameon=False)
    _plot_speaker_pairs(right, comparison.per_speaker)
    left.grid(alpha=0.3)
    figure.supxlabel(textwrap.fill(comparison.verdict.replace("$", r"\$"), 130), fontsize=10)
    if notices:
        figure.suptitle(wrapped_notices(notices, 120), color=WARNING, fontsize=9, fontweight="bold")
    save(figure, path)


PICTURES = {
    "confusion_matrix.png": plot_confusion_matrix,
    "reliability.png": plot_reliability,
    "risk_coverage.png": plot_risk_coverage,
    "roc.png": plot_roc,
    "groups.png": plot_groups,
}
"""Pictures that need only a report."""


def _group_point(axes: Axes, place: int, group: GroupFigures, colour: str, size: float) -> None:
    if interval := getattr(group, "uar_ci95", None):
        axes.plot([place, place], interval, color=colour, linewidth=2.5, solid_capstyle="butt")
    face = "white" if group.uar is None else colour
    axes.plot(place, group.best, "o", color=colour, markerfacecolor=face, markersize=size)


def _group_legend(axes: Axes, report: Report) -> None:
    groups = [*report.per_sex.values(), *report.per_speaker.values()]
    for sex in report.per_sex:
        axes.plot([], [], "o", color=SEX_COLOURS[sex], label=sex)
    if any(getattr(group, "uar_ci95", None) for group in groups):
        axes.plot([], [], color="dimgray", linewidth=2.5, label="95 % interval over speakers")
    if any(group.uar is None for group in groups):
        axes.plot([], [], "o", color="dimgray", markerfacecolor="white", label="WA (a class is missing)")
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.005, 1))


def _plot_speaker_pairs(axes: Axes, speakers: dict[str, SpeakerPair]) -> None:
    """Plot run B against run A, one point a speaker; the speakers with the largest differences are named."""
    for measure, face in (("uar", "dimgray"), ("wa", "white")):
        points = [(one.a, one.b) for one in speakers.values() if one.measure == measure]
        if points:
            axes.scatter(*zip(*points, strict=True), color=face, edgecolor="dimgray", label=measure.upper())
    for name in sorted(speakers, key=lambda name: -round(abs(speakers[name].difference), DIGITS))[:MOST_NAMED]:
        point = (speakers[name].a, speakers[name].b)
        axes.annotate(shortened(name, LONGEST_NAME), point, (5, 3), **SHIFTED, fontsize=7)
    axes.plot([0, 1], [0, 1], "--", color="gray")
    ahead = sum(one.difference > 0 for one in speakers.values())
    axes.set(xlabel="A, %", ylabel="B, %", aspect="equal", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    percent_axis(axes, "x", "y")
    axes.set_title(f"each speaker: B is ahead for {ahead} of {len(speakers)}", fontsize=10)
    axes.legend(fontsize=9, loc="lower right")
    axes.grid(alpha=0.3)


def _points(history: list[dict], key: str) -> list[tuple[float, float]]:
    return [(entry["epoch"], entry[key]) for entry in history if key in entry and "epoch" in entry]


def _curve(axes: Axes, history: list[dict], key: str, **style) -> None:
    points = _points(history, key)
    if points:
        marker = "." if len(points) < 30 else None  # a line without markers would not show a single epoch
        axes.plot(*zip(*points, strict=True), marker=marker, **style)


def _mark_best(axes: Axes, history: list[dict], key: str) -> None:
    points = [point for point in _points(history, key) if math.isfinite(point[1])]
    if points:
        epoch, uar = max(points, key=lambda point: (point[1], -point[0]))  # the first of equal ones, as in Trainer
        axes.plot(epoch, uar, marker="*", markersize=10, color=WARNING, linestyle="none", label="best epoch")


def _legend(axes: Axes, nothing: str) -> None:
    """Draw one legend entry for each kind of curve, or a text where there is no curve."""
    handles, labels = axes.get_legend_handles_labels()
    kinds = dict(zip(labels, handles, strict=True))
    if kinds:
        axes.legend(kinds.values(), kinds.keys(), fontsize=9)
    else:
        axes.text(0.5, 0.5, nothing, ha="center", va="center", transform=axes.transAxes, color="gray")
