"""Plot of a stress test."""

import textwrap
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hf_ser.checks.stress.results import FAILED, NOT_JUDGED, PASSED, subject
from hf_ser.plotting import BLUE, GRAY, WARNING, save, wrapped_notices
from hf_ser.runs.stress import StressLine, StressResult

COLOURS = {PASSED: BLUE, FAILED: WARNING, NOT_JUDGED: GRAY}
WIDTH = 100
"""Characters per line of the title."""

NOTE_WIDTH = 160
"""Characters per line of the note under the axis."""


def plot_stress(result: StressResult, path: str | Path) -> None:
    """Draw the change in UAR of every condition, in points, with its interval and its limit, as a PNG.

    For a model without classes, it is the change in the mean CCC, times 100.

    Args:
        result: Result of `make_stress`.
        path: PNG file to write.
    """
    lines, places = result.conditions, _places(result.conditions)
    height = 0.21 * (max(places, default=0) + 2) + 1.7 + 0.3 * len(result.notices)
    figure = Figure(figsize=(9.5, height), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color="black", linewidth=0.8)
    for place, line in zip(places, lines, strict=True):
        _dot(axes, place, line)
    _bands(axes, places, lines)
    names = [f"{line.name} ({line.severity})" for line in lines]
    axes.set_yticks(places, names, fontsize=8)
    axes.set_ylim(max(places, default=0) + 0.8, -0.8)
    measure, unit = ("UAR", "points") if result.clean.uar is not None else ("CCC", "times 100")
    axes.set_xlabel(f"change in {measure} against the clean run, {unit} (line: 95 % interval over speakers)")
    axes.grid(axis="x", alpha=0.3)
    figure.suptitle("\n".join([f"stress test: {result.verdict}", textwrap.fill(subject(result), WIDTH)]), fontsize=10)
    if result.notices:
        axes.set_title(wrapped_notices(result.notices, WIDTH), color=WARNING, fontsize=8, fontweight="bold")
    _legend(figure, result.interval_note)
    save(figure, path)


def _places(lines: list[StressLine]) -> list[float]:
    """Positions of the conditions, one a line, with a gap before each new group."""
    places, place = [], -1.0
    for before, line in zip([None, *lines], lines, strict=False):
        place += 1.0 if before is None or before.group == line.group else 1.6
        places.append(place)
    return places


def _dot(axes: Axes, place: float, line: StressLine) -> None:
    color = COLOURS[line.verdict]
    change, interval = line.delta_uar, line.delta_ci95
    if change is None:
        change, interval = line.delta_ccc, line.delta_ccc_ci95
    if interval:
        axes.plot([100 * end for end in interval], [place, place], color=color, linewidth=1.5, alpha=0.6)
    if change is not None:
        axes.plot(100 * change, place, "o", color=color, markersize=5)
    if line.limit is not None:
        axes.plot(-100 * line.limit, place, "|", color="black", markersize=9)


def _bands(axes: Axes, places: list[float], lines: list[StressLine]) -> None:
    """Write the names of the groups at the right, and shade every other group."""
    for number, group in enumerate(dict.fromkeys(line.group for line in lines)):
        theirs = [place for place, line in zip(places, lines, strict=True) if line.group == group]
        if number % 2 == 0:
            axes.axhspan(min(theirs) - 0.65, max(theirs) + 0.65, color="black", alpha=0.04, linewidth=0)
        middle = (min(theirs) + max(theirs)) / 2
        axes.text(1.01, middle, group, transform=axes.get_yaxis_transform(), va="center", fontsize=9)


def _legend(figure: Figure, note: str) -> None:
    """Draw the legend with the note of the intervals as its title, so that the layout places it."""
    dots = [Line2D([], [], color=color, marker="o", label=verdict) for verdict, color in COLOURS.items()]
    limit = Line2D([], [], color="black", marker="|", markersize=9, linestyle="none", label="limit")
    legend = figure.legend(handles=[*dots, limit], loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    legend.set_title(wrapped_notices([note], NOTE_WIDTH), {"size": 7})
