"""Pictures of a report and of a training run, drawn without pyplot: no global state, no display, safe in threads."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hf_ser.evaluation.report import headline_uar
from hf_ser.files import atomic_write

TRAINING, VALIDATION = "tab:blue", "tab:orange"
WARNING = "tab:red"


def plot_confusion_matrix(report: dict, path: str | Path) -> None:
    """Draw counts and row per cent of a report's confusion matrix as a PNG.

    The colour is the row per cent, so that the diagonal shows each class's recall whatever its size. Notices (leaked,
    synthetic) stand in red under the title, since pictures travel without their text.

    Args:
        report: As `make_report` gives it.
        path: PNG file to write.
    """
    counts = np.array(report["confusion_matrix"])  # (reference, predicted)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    labels = [_wrapped(label) for label in report["labels"]]
    longest = max(len(line) for label in labels for line in label.split("\n"))
    cell = max(0.85, 4.0 / len(labels))  # inches
    side = cell * len(labels) + 0.1 * longest
    figure = Figure(figsize=(side + 0.8, side + 0.9 + 0.3 * len(report["notices"])), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), count in np.ndenumerate(counts):
        text = f"{count}\n{100 * share[row, column]:.0f} %"
        color = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=9)
    turned = 0.09 * longest > cell
    axes.set_xticks(range(len(labels)), labels, rotation=40 if turned else 0, ha="right" if turned else "center")
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="predicted (cells: utterances, per cent of the reference class)", ylabel="reference")
    _title(figure, axes, report, width=int(12 * side))
    _save(figure, path)


def plot_learning_curves(histories: dict[str, list[dict]], path: str | Path, notices: Sequence[str] = ()) -> None:
    """Draw training loss, validation loss and validation UAR against the epoch as a PNG; a star marks the best UAR.

    Args:
        histories: `state.log_history` of the Trainer by fold. Entries without `epoch` and without the key of a curve
            are passed over, so a run without validation, or one that logged nothing, is drawn as far as it goes.
        path: PNG file to write.
        notices: Of the report, such as that the run leaked: drawn above the curves.
    """
    figure = Figure(figsize=(10, 4.2 + 0.3 * len(notices)), layout="constrained")
    loss_axes, uar_axes = figure.subplots(1, 2, sharex=True)
    several = len(histories) > 1
    style = {"linewidth": 0.9, "alpha": 0.6} if several else {"linewidth": 1.8}
    for history in histories.values():
        _curve(loss_axes, history, "loss", color=TRAINING, label="training", **style)
        _curve(loss_axes, history, "eval_loss", color=VALIDATION, label="validation", linestyle="--", **style)
        _curve(uar_axes, history, "eval_uar", color=VALIDATION, label="validation", **style)
        _mark_best(uar_axes, history)
    for axes, name in ((loss_axes, "loss"), (uar_axes, "UAR")):
        axes.set(xlabel="epoch", ylabel=name)
        axes.grid(alpha=0.3)
        _legend(axes, nothing=f"no {name} was logged")
    if notices:
        figure.suptitle("\n".join(textwrap.fill(notice, 110) for notice in notices), color=WARNING, fontsize=9)
    if several:
        uar_axes.set_title(f"{len(histories)} folds, one line each", fontsize=10)
    last = max((entry["epoch"] for history in histories.values() for entry in history if "epoch" in entry), default=1)
    loss_axes.set_xlim(0, 1.04 * max(last, 1e-3))
    if last >= 1:  # whole epochs on the axis, but not for a run shorter than one
        loss_axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))
    _save(figure, path)


def _title(figure: Figure, axes: Axes, report: dict, width: int) -> None:
    head = f"{report['corpus']}, protocol {report['protocol']}"
    figure.suptitle(
        "\n".join(textwrap.wrap(head, width) + textwrap.wrap(f"UAR {headline_uar(report)}", width)), fontsize=11
    )
    if report["notices"]:
        lines = [textwrap.fill(notice, width) for notice in report["notices"]]
        axes.set_title("\n".join(lines), color=WARNING, fontsize=9, fontweight="bold")


def _wrapped(label: str) -> str:
    """A long label over several lines, broken at blanks and after underscores."""
    return textwrap.fill(label.replace("_", "_ "), 18).replace("_ ", "_")


def _points(history: list[dict], key: str) -> list[tuple[float, float]]:
    return [(entry["epoch"], entry[key]) for entry in history if key in entry and "epoch" in entry]


def _curve(axes: Axes, history: list[dict], key: str, **style) -> None:
    points = _points(history, key)
    if points:
        marker = "." if len(points) < 30 else None  # a run of one epoch is a point, which a bare line would not show
        axes.plot(*zip(*points, strict=True), marker=marker, **style)


def _mark_best(axes: Axes, history: list[dict]) -> None:
    points = [point for point in _points(history, "eval_uar") if math.isfinite(point[1])]
    if points:
        epoch, uar = max(points, key=lambda point: (point[1], -point[0]))  # the first of equals, as Trainer keeps it
        axes.plot(epoch, uar, marker="*", markersize=10, color=WARNING, linestyle="none", label="best epoch")


def _legend(axes: Axes, nothing: str) -> None:
    """One entry a kind of curve, not one a fold; or a word in the middle where there is no curve at all."""
    handles, labels = axes.get_legend_handles_labels()
    kinds = dict(zip(labels, handles, strict=True))
    if kinds:
        axes.legend(kinds.values(), kinds.keys(), fontsize=9)
    else:
        axes.text(0.5, 0.5, nothing, ha="center", va="center", transform=axes.transAxes, color="gray")


def _save(figure: Figure, path: str | Path) -> None:
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format="png", dpi=150)
