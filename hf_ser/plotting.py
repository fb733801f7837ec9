"""Shared parts of all pictures: title and notices, wrapped names, colours, saving."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hf_ser.files import atomic_write
from hf_ser.glyphs import replace_missing_glyphs

WARNING = "tab:red"


def title(figure: Figure, axes: Axes, report, width: int, figures: str) -> None:
    """Write the corpus, protocol and figures above a picture, and the notices (leaked, synthetic) in red.

    Notices are in the picture itself, since pictures are passed on without their text.

    Args:
        figure: A figure with one column of panels.
        axes: The topmost panel.
        report: A `Report`.
        width: Characters a line.
        figures: The line under the corpus.
    """
    lines = (f"{report.corpus}, protocol {report.protocol}", figures)
    figure.suptitle("\n".join(part for line in lines for part in textwrap.wrap(line, width)), fontsize=11)
    if report.notices:
        axes.set_title(wrapped_notices(report.notices, int(1.1 * width)), color=WARNING, fontsize=9, fontweight="bold")


def wrapped_notices(notices: Sequence[str], width: int) -> str:
    """Notices, each wrapped to lines of its own; dollar signs are escaped."""
    return "\n".join(textwrap.fill(notice, width) for notice in notices).replace("$", r"\$")


def wrapped(label: str, width: int = 18) -> str:
    """A label wrapped at blanks and after underscores; dollar signs are escaped."""
    return textwrap.fill(label.replace("_", "_ "), width).replace("_ ", "_").replace("$", r"\$")


def colours(n: int) -> list:
    """Colours for `n` classes, distinct up to 20, then repeated."""
    palette = matplotlib.colormaps["tab10" if n <= 10 else "tab20"].colors
    return [palette[index % len(palette)] for index in range(n)]


def save(figure: Figure, path: str | Path, dpi: int = 150) -> None:
    """Write a figure as a PNG, whole or not at all."""
    replace_missing_glyphs(figure)
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format="png", dpi=dpi)
