"""Plot of a study."""

import textwrap
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hf_ser.checks.study.figures import StudyResult, SystemApart, SystemFigures
from hf_ser.plotting import BLUE, GRAY, WARNING, save, wrapped, wrapped_notices

FAIR, APART = BLUE, GRAY
WIDTH = 90
"""Characters per line above the plot."""


def plot_study(result: StudyResult, path: str | Path) -> None:
    """Draw each system's UAR with its interval over speakers and its seeds, best first, as a PNG.

    Leaked systems are red, those of another protocol grey, both below the others.

    Args:
        result: Result of `make_study`.
        path: PNG file to write.
    """
    apart = sorted(result.apart, key=lambda one: -one.uar)
    systems = [*result.systems, *apart]
    figure = Figure(figsize=(8.5, 0.42 * len(systems) + 2.2), layout="constrained")
    axes = figure.subplots()
    for place, one in enumerate(systems):
        _point(axes, place, one)
    names = [f"{one.name} (LEAKED)" if one.leaks else one.name for one in systems]
    axes.set_yticks(range(len(systems)), [wrapped(name) for name in names], fontsize=9)
    for label, one in zip(axes.get_yticklabels(), systems, strict=True):
        label.set_color(WARNING if one.leaks else "black")
    if apart and result.systems:
        axes.axhline(len(result.systems) - 0.5, color="black", linewidth=0.8, linestyle=":")
    axes.axvline(100 * result.chance_uar, color="gray", linestyle="--", linewidth=1)
    axes.set(xlabel="UAR, %", ylim=(len(systems) - 0.4, -0.6), xlim=(0, 100))
    axes.grid(axis="x", alpha=0.3)
    _title(figure, axes, result)
    figure.legend(handles=_legend(systems), loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    save(figure, path)


def _point(axes: Axes, place: int, one: SystemFigures) -> None:
    colour = _colour(one)
    if one.uar_ci95:
        axes.plot([100 * end for end in one.uar_ci95], [place, place], color=colour, linewidth=2.5, alpha=0.6)
    axes.plot([100 * uar for uar in one.uar_by_seed], [place] * len(one.seeds), "|", color="black", markersize=7)
    axes.plot(100 * one.uar, place, "o", color=colour)


def _colour(one: SystemFigures) -> str:
    if one.leaks:
        return WARNING
    return APART if isinstance(one, SystemApart) else FAIR


def _title(figure: Figure, axes: Axes, result: StudyResult) -> None:
    shared = result.conditions
    line = "no system without a leak" if shared is None else f"{shared.corpus}, protocol {shared.protocol}"
    over = f" over {len(result.seeds)} seeds" if len(result.seeds) > 1 else ""
    figure.suptitle("\n".join(textwrap.wrap(f"{line}: UAR{over}", WIDTH)), fontsize=11)
    leaked = [f"{one.name}: {one.why}" for one in result.apart if one.leaks]
    stamped = ("Synthetic", "Paired")
    made = sorted({notice for one in result.systems for notice in one.notices if notice.startswith(stamped)})
    if leaked or made:
        axes.set_title(wrapped_notices([*made, *leaked], WIDTH), color=WARNING, fontsize=8, fontweight="bold")


def _legend(systems: list[SystemFigures]) -> list[Line2D]:
    kinds = {FAIR: "compared", APART: "tested differently, not compared", WARNING: "leaked, not comparable"}
    found = {_colour(one) for one in systems}
    points = [Line2D([], [], color=colour, marker="o", label=kinds[colour]) for colour in kinds if colour in found]
    lines = [
        Line2D([], [], color="black", marker="|", linestyle="none", label="one seed"),
        Line2D([], [], color="gray", linewidth=2.5, label="95 % interval over speakers"),
        Line2D([], [], color="gray", linestyle="--", label="chance"),
    ]
    return [*points, *lines]
