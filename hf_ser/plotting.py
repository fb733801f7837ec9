"""Shared parts of all pictures: colours of the emotions, title and notices, wrapped names, style, saving."""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hf_ser.files import atomic_write
from hf_ser.glyphs import replace_missing_glyphs

WARNING = "#B3001B"

EMOTION_COLOURS = {
    "neutral": "#B0B0B0",
    "calm": "#8EC5F5",
    "happy": "#F0B400",
    "excited": "#FB914E",
    "sad": "#332288",
    "angry": "#C2320A",
    "frustrated": "#6B3E1E",
    "fearful": "#8763B1",
    "disgust": "#006644",
    "contempt": "#AF19D8",
    "surprised": "#FF407B",
    "bored": "#BB7E4E",
    "other": "#222222",
}
"""The colour of each emotion in every picture and page. The eight of RAVDESS are at least 20 apart in CIELAB for the
three kinds of colour blindness too (Machado et al. 2009). No thirteen colours are: lines differ in style too, points in
shape."""

BLUE, ORANGE, GRAY = "#0072B2", "#D97700", "#6B7280"
"""Colours of what is no emotion: the first and the second of two, and what is neither."""

LINES = ("-", "--", "-.", ":")

FORMATS = ("png", "pdf", "svg")
"""Formats of `--pictures`. PNG is always written: pages and cards show it."""

_formats: ContextVar[tuple[str, ...]] = ContextVar("formats", default=("png",))


def emotion_colours(labels: Iterable[str]) -> dict[str, str]:
    """The colour of each label: its own for an emotion of `EMOTION_COLOURS`, for others one that is left, in turn."""
    labels = list(labels)
    spare = [one for name, one in EMOTION_COLOURS.items() if name not in labels] or list(EMOTION_COLOURS.values())
    others = sorted(set(labels) - EMOTION_COLOURS.keys())
    given = {name: spare[place % len(spare)] for place, name in enumerate(others)}
    return {label: EMOTION_COLOURS.get(label) or given[label] for label in labels}


def line_styles(labels: Iterable[str]) -> dict[str, str]:
    """A style of line for each label, for readers who cannot distinguish the colours."""
    return {label: LINES[place % 3] for place, label in enumerate(labels)}


def read_formats(text: str) -> tuple[str, ...]:
    """The formats that `--pictures` names, such as `png,pdf`.

    Raises:
        ValueError: an unknown one.
    """
    names = tuple(dict.fromkeys(one.strip().lower() for one in text.split(",") if one.strip()))
    if unknown := [one for one in names if one not in FORMATS]:
        raise ValueError(f"--pictures {text}: found {', '.join(unknown)}, expected some of {', '.join(FORMATS)}.")
    return tuple(dict.fromkeys(("png", *names)))


@contextmanager
def picture_formats(text: str) -> Iterator[None]:
    """Write every picture in these formats; raises as `read_formats`."""
    token = _formats.set(read_formats(text))
    try:
        yield
    finally:
        _formats.reset(token)


def title(figure: Figure, axes: Axes, report, width: int, figures: str, system: str = "") -> None:
    """Write the system, the corpus, the protocol, the folds and figures above a picture, and the notices in red.

    All is in the picture itself, since pictures are passed on without their text.

    Args:
        figure: A figure with one column of panels.
        axes: The topmost panel.
        report: A `Report`.
        width: Characters a line.
        figures: The line under the corpus.
        system: The system in one line.
    """
    lines = [system, f"{report.corpus}, protocol {report.protocol}, {folds_text(report.folds)}", figures]
    text = "\n".join(part for line in lines for part in textwrap.wrap(line, width))
    figure.suptitle(text.replace("$", r"\$"), fontsize=10.5)
    if report.notices:
        axes.set_title(wrapped_notices(report.notices, int(1.1 * width)), color=WARNING, fontsize=9, fontweight="bold")


def folds_text(folds: Iterable[str]) -> str:
    """`fold 2`, or `6 folds`."""
    names = list(folds)
    return f"fold {names[0]}" if len(names) == 1 else f"{len(names)} folds"


def wrapped_notices(notices: Sequence[str], width: int) -> str:
    """Notices, each wrapped to lines of its own; dollar signs are escaped."""
    return "\n".join(textwrap.fill(notice, width) for notice in notices).replace("$", r"\$")


def wrapped(label: str, width: int = 18) -> str:
    """A label wrapped at blanks and after underscores; dollar signs are escaped."""
    return textwrap.fill(label.replace("_", "_ "), width).replace("_ ", "_").replace("$", r"\$")


def colours(n: int) -> list:
    """Colours for `n` speakers or other names, distinct up to 20, then repeated; of emotions see `emotion_colours`."""
    palette = matplotlib.colormaps["tab10" if n <= 10 else "tab20"].colors
    return [palette[index % len(palette)] for index in range(n)]


def percent_axis(axes: Axes, *names: str) -> None:
    """Label the ticks of axes (`x`, `y`) of shares in per cent, as all tables have them."""
    for name in names:
        getattr(axes, f"{name}axis").set_major_formatter(lambda share, _: f"{100 * share:.4g}")


def save(figure: Figure, path: str | Path, dpi: int = 150) -> None:
    """Write a figure in the house style as a PNG, and beside it in the other `picture_formats`, whole or not at all."""
    replace_missing_glyphs(figure)
    for axes in figure.axes:
        _apply_style(axes)
    for kind in _formats.get():
        file = Path(path).with_suffix(f".{kind}")
        # Without a date, so that the same figures give the same file; as text, so that a PDF can be searched.
        dated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind)
        with (
            matplotlib.rc_context({"pdf.fonttype": 42, "svg.hashsalt": "hf_ser"}),
            atomic_write(file, "wb") as handle,
        ):
            figure.savefig(handle, format=kind, dpi=dpi, metadata=dated)


def remove_picture(path: str | Path) -> None:
    """Remove a picture of an earlier call in every format."""
    for kind in FORMATS:
        Path(path).with_suffix(f".{kind}").unlink(missing_ok=True)


def _apply_style(axes: Axes) -> None:
    """Thin grey axes without a frame, and the grid behind what is drawn; an image keeps its frame."""
    for spine in axes.spines.values():
        spine.set(color="#9AA0A8", linewidth=0.8)
    if not axes.images:
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
    axes.tick_params(color="#9AA0A8")
