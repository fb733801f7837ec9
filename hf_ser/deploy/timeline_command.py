"""Time lines on the command line: segments printed, files written, the real-time factor and what was left out."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from hf_ser.data.given_clips import GivenClip
from hf_ser.deploy.timeline import Timeline, timed_timeline
from hf_ser.deploy.timeline_files import check_form
from hf_ser.deploy.timeline_words import clock, segment_text
from hf_ser.normal_form import printable
from hf_ser.runs.classifier import Classifier


def print_timelines(
    model: Classifier, clips: Sequence[GivenClip], outputs: Sequence[Path], as_json: bool, settings: Mapping
) -> bool:
    """Print the segments of each recording; write its files.

    Args:
        model: A model that takes audio.
        clips: The recordings.
        outputs: Files that a single recording is written to; each is of one of the forms of `timeline_files`.
        as_json: Print each time line as JSON on one line.
        settings: Of `make_timeline`.

    Returns:
        Whether all could be read.

    Raises:
        ValueError: files for several recordings, or of an unknown form.
    """
    for path in outputs:
        check_form(path)
    if outputs and len(clips) != 1:
        raise ValueError(f"--output {outputs[0]}: found {len(clips)} recordings. Expected one: name one of them.")
    if parts := [clip.name for clip in clips if (clip.start_seconds, clip.end_seconds) != (None, None)]:
        raise ValueError(f"{parts[0]}: found a part of a file. Expected whole recordings for --timeline.")
    failed = 0
    for clip in clips:
        try:
            if clip.error:
                raise ValueError(clip.error)
            with progress_stream() as stream:
                own = {"channel": clip.channel} if clip.channel else {}
                timeline, factor = timed_timeline(model, clip.path, **{**settings, **own}, progress=stream)
        except (ValueError, OSError) as error:
            print(printable(f"skipped: {error}"), file=sys.stderr)
            failed += 1
            continue
        for path in outputs:
            timeline.save(path)
        print(json.dumps(timeline.to_json()) if as_json else as_lines(timeline), flush=True)
        print(printable(summary(timeline, factor)), file=sys.stderr)
    return not failed


def as_lines(timeline: Timeline) -> str:
    """The segments, one a line."""
    return "\n".join(
        f"{clock(one.start)[:10]} {clock(one.end)[:10]}  {segment_text(one)}"
        + (f'  "{printable(one.text)}"' if one.text else "")
        for one in timeline.segments
    )


def summary(timeline: Timeline, factor: float) -> str:
    """What was found in a recording, in a line."""
    speech = sum(one.end - one.start for one in timeline.segments if one.speech)
    unsure = sum(one.end - one.start for one in timeline.segments if one.unsure)
    share = f", of which {100 * unsure / speech:.0f} % is unsure" if speech else ""
    found = f"{speech:.0f} s of speech by {timeline.voice_activity}{share}"
    if timeline.unlike_share:
        found += f"; {100 * timeline.unlike_share:.0f} % of the windows are unlike the training data"
    return (
        f"{timeline.file}: {clock(timeline.seconds)[:8]}, {found}; windows of {timeline.window_seconds:g} s; "
        f"real-time factor {factor:.3f}"
    )


@contextmanager
def progress_stream() -> Iterator[IO | None]:
    """Where a progress bar goes: a terminal's standard error, by a descriptor of its own; None elsewhere.

    While an MP3 is read the usual one leads to a file.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    with os.fdopen(os.dup(sys.stderr.fileno()), "w") as stream:
        yield stream
