"""What all pictures of a report share: what stands above them, how long names are broken, and the file."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hf_ser.files import atomic_write
from hf_ser.glyphs import without_boxes

WARNING = "tab:red"


def title(figure: Figure, axes: Axes, report: dict, width: int, figures: str) -> None:
    """Write the corpus, protocol and figures above a picture, and the notices (leaked, synthetic) in red under them.

    Notices stand in the picture itself, since pictures travel without their text.

    Args:
        figure: It has one column of panels.
        axes: The topmost panel.
        report: As `make_report` gives it.
        width: Characters a line.
        figures: The line under the corpus.
    """
    lines = (f"{report['corpus']}, protocol {report['protocol']}", figures)
    figure.suptitle("\n".join(part for line in lines for part in textwrap.wrap(line, width)), fontsize=11)
    if report["notices"]:
        axes.set_title(filled(report["notices"], int(1.1 * width)), color=WARNING, fontsize=9, fontweight="bold")


def filled(notices: Sequence[str], width: int) -> str:
    """Notices, each on lines of its own; a dollar sign begins no formula."""
    return "\n".join(textwrap.fill(notice, width) for notice in notices).replace("$", r"\$")


def wrapped(label: str, width: int = 18) -> str:
    """A long label over several lines, broken at blanks and after underscores; a dollar sign begins no formula."""
    return textwrap.fill(label.replace("_", "_ "), width).replace("_ ", "_").replace("$", r"\$")


def colours(n: int) -> list:
    """Colours for `n` classes, told apart by eye up to 20; then they come again."""
    palette = matplotlib.colormaps["tab10" if n <= 10 else "tab20"].colors
    return [palette[index % len(palette)] for index in range(n)]


def save(figure: Figure, path: str | Path, dpi: int = 150) -> None:
    """Write a figure as a PNG, whole or not at all."""
    without_boxes(figure)
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format="png", dpi=dpi)
