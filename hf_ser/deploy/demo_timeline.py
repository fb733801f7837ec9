"""The time line of a long recording for the page of the demo: a picture and a table."""

from matplotlib.figure import Figure

from hf_ser.deploy.timeline import make_timeline
from hf_ser.deploy.timeline_picture import picture_of
from hf_ser.deploy.timeline_words import clock, segment_text
from hf_ser.models.decoding import source_form
from hf_ser.runs.classifier import Classifier

LEAST_SECONDS = 10.0
"""A shorter recording is a clip, which has one answer."""


def timeline_view(model: Classifier, file: str) -> tuple[Figure, list[list[str]]] | None:
    """A picture of a recording's time line, and a row of start, end and answer for each segment.

    None of a recording of less than `LEAST_SECONDS`, or whose length is not known.
    """
    seconds, _ = source_form(file)
    if seconds is None or seconds < LEAST_SECONDS:
        return None
    timeline = make_timeline(model, file)
    rows = [[clock(one.start)[:8], clock(one.end)[:8], segment_text(one)] for one in timeline.segments]
    return picture_of(timeline, width=9), rows
