"""A picture of a time line: a bar a speaker, coloured by emotion, as high as its probability."""

import math
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from hf_ser.deploy.timeline_record import TimelineRecord
from hf_ser.plotting import emotion_colours, save, wrapped

ROW_SECONDS, MOST_ROWS = 600.0, 12
"""A row of the picture is ten minutes, or a twelfth of a longer recording than two hours."""

SILENCE = "0.88"


def save_picture(timeline: TimelineRecord, path: Path) -> None:
    """Draw a time line as a PNG."""
    save(picture_of(timeline), path)


def picture_of(timeline: TimelineRecord, width: float = 13) -> Figure:
    """The picture, so many inches wide."""
    seconds = max(timeline.seconds, 1e-3)
    per_row = min(seconds, max(ROW_SECONDS, seconds / MOST_ROWS))
    rows = math.ceil(seconds / per_row - 1e-9)
    palette = emotion_colours(timeline.labels)
    speakers = timeline.speakers or [None]
    figure = Figure(figsize=(width, 1.6 + rows * (0.5 + 0.45 * len(speakers))), layout="constrained")
    for row, axes in enumerate(figure.subplots(rows, 1, squeeze=False)[:, 0]):
        _draw_row(axes, timeline, palette, speakers, row * per_row, (row + 1) * per_row)
    handles = [Patch(color=palette[label], label=wrapped(label)) for label in timeline.labels]
    handles += [Patch(facecolor="white", edgecolor="0.3", hatch="////", label="unsure")]
    handles += [Patch(color=SILENCE, label="no speech")]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), int(width / 1.3)), fontsize=9)
    heading = f"{Path(timeline.file).name}: emotion by {timeline.model}, height is its probability"
    figure.suptitle(wrapped(heading, round(8.5 * width)), fontsize=10.5)
    return figure


def _draw_row(axes: Axes, timeline: TimelineRecord, palette: dict, speakers: list, start: float, end: float) -> None:
    for one in timeline.segments:
        if one.end <= start or one.start >= end:
            continue
        left, lane = max(one.start, start), len(speakers) - 1 - speakers.index(one.speaker)
        width = min(one.end, end) - left
        if one.speech:
            hatch = {"hatch": "////", "edgecolor": "white"} if one.unsure else {}
            axes.bar(
                left, 0.9 * one.probability, width, lane, align="edge", color=palette[one.emotion], linewidth=0, **hatch
            )
        else:
            axes.bar(left, 0.06, width, lane, align="edge", color=SILENCE, linewidth=0)
    axes.set(xlim=(start, end), ylim=(0, len(speakers)))
    names = [wrapped(name) if name else "" for name in reversed(speakers)]
    axes.set_yticks([lane + 0.45 for lane in range(len(speakers))], names, fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(lambda value, _: f"{int(value) // 60}:{int(value) % 60:02d}")
    axes.spines[["top", "right", "left"]].set_visible(False)
