"""A time line as one HTML page with a player: a click on a segment plays it."""

import os
from pathlib import Path
from urllib.parse import quote

from hf_ser.deploy.timeline_record import TimelineRecord
from hf_ser.deploy.timeline_words import clock, segment_text
from hf_ser.files import atomic_write, package_file
from hf_ser.markup import page_environment
from hf_ser.plotting import emotion_colours

TEMPLATE = "timeline.html"
LANE, BAR = 40, 34
"""Height of a speaker's lane, and of its highest bar, in pixels."""
SILENCE_BAR = 3


def save_page(timeline: TimelineRecord, path: Path) -> None:
    """Write a time line as an HTML page; it names the recording's file, and holds no audio.

    Raises:
        FileNotFoundError: the template is missing.
    """
    template = page_environment().from_string(package_file(f"cards/{TEMPLATE}").read_text(encoding="utf-8"))
    palette = emotion_colours(timeline.labels)
    speakers = timeline.speakers or [None]
    page = template.render(
        name=Path(timeline.file).name,
        source=_address(timeline.file, path),
        timeline=timeline,
        length=clock(timeline.seconds)[:8],
        legend=list(palette.items()),
        speakers=speakers,
        lane=LANE,
        bars=[_bar(one, timeline, palette, speakers.index(one.speaker)) for one in timeline.segments],
    )
    with atomic_write(path) as file:
        file.write(page)


def _bar(segment, timeline: TimelineRecord, palette: dict[str, str], lane: int) -> dict:
    height = max(SILENCE_BAR, round(BAR * segment.probability)) if segment.speech else SILENCE_BAR
    return {
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "clock": clock(segment.start)[:10],
        "seconds": round(segment.end - segment.start, 1),
        "y": (lane + 1) * LANE - height,
        "height": height,
        "colour": palette[segment.emotion] if segment.speech else "#9aa0a8",
        "opacity": 0.4 if segment.unsure else 1,
        "text": segment_text(segment),
        "segment": segment,
    }


def _address(file: str, page: Path) -> str:
    """The recording as the page finds it: relative to it, so that both can be moved together."""
    try:
        relative = os.path.relpath(Path(file).resolve(), page.resolve().parent)
    except ValueError:  # on another drive
        relative = Path(file).name
    return quote(relative.replace(os.sep, "/"))
