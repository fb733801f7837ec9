"""The forms in which a time line is written: JSON, CSV, RTTM, WebVTT, Audacity's labels, a picture, a page."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO

from hf_ser.deploy.stream_windows import Segment
from hf_ser.deploy.timeline_page import save_page
from hf_ser.deploy.timeline_picture import save_picture
from hf_ser.deploy.timeline_record import TimelineRecord
from hf_ser.deploy.timeline_words import clock, segment_text
from hf_ser.files import atomic_write
from hf_ser.normal_form import printable, storable


def save_timeline(timeline: TimelineRecord, path: str | Path) -> Path:
    """Write a time line in the form that the name ends in; whole or not at all.

    Raises:
        ValueError: an ending that is none of FORMS.
    """
    path = check_form(path)
    FORMS[path.suffix.lower()](timeline, path)
    return path


def check_form(path: str | Path) -> Path:
    """The path, if its ending is one of FORMS; raises ValueError otherwise."""
    path = Path(path)
    if path.suffix.lower() not in FORMS:
        raise ValueError(f"--output {path}: found '{path.suffix}'. Expected one of {', '.join(FORMS)}: rename it.")
    if path.is_dir():
        raise ValueError(f"--output {path}: found a folder. Expected a file: name another.")
    return path


def _as_text(write: Callable[[TimelineRecord, IO], None]) -> Callable[[TimelineRecord, Path], None]:
    def save(timeline: TimelineRecord, path: Path) -> None:
        with atomic_write(path) as file:
            write(timeline, file)

    return save


def _write_json(timeline: TimelineRecord, file: IO) -> None:
    json.dump(timeline.to_json(), file, ensure_ascii=False, indent=1, allow_nan=False)
    file.write("\n")


def _write_csv(timeline: TimelineRecord, file: IO) -> None:
    names = ["start", "end", "speaker", "speech", "emotion", "probability", "unsure"]
    writer = csv.writer(file, lineterminator="\n")
    has_text = timeline.transcript_source is not None
    writer.writerow([*names, *(storable(f"score:{label}") for label in timeline.labels), *["text"] * has_text])
    for one in timeline.segments:
        scores = [(one.probabilities or {}).get(label) for label in timeline.labels]
        cells = [one.start, one.end, one.speaker, str(one.speech).lower(), one.emotion, one.probability]
        cells += [str(one.unsure).lower(), *scores, *[one.text] * has_text]
        writer.writerow([storable(cell) if isinstance(cell, str) else cell for cell in cells])


def _write_rttm(timeline: TimelineRecord, file: IO) -> None:
    # The name is what the emotions are of: programs that compare RTTM files compare names and times.
    recording = _one_word(Path(timeline.file).stem)
    for one in timeline.segments:
        if one.speech:
            name = "_".join(_one_word(part) for part in (one.speaker, one.emotion) if part)
            place = f"{one.start:.3f} {one.end - one.start:.3f}"
            file.write(f"SPEAKER {recording} 1 {place} <NA> <NA> {name} {one.probability:.3f} <NA>\n")


def _write_vtt(timeline: TimelineRecord, file: IO) -> None:
    file.write("WEBVTT\n")
    for one in timeline.segments:
        if one.speech:
            lines = [_in_vtt(segment_text(one)), *([_timed_words(one)] if one.text else [])]
            file.write("\n".join(["", f"{clock(one.start)} --> {clock(one.end)}", *lines, ""]))


def _timed_words(segment: Segment) -> str:
    """The words of a segment, each after its time, which players colour it at."""
    text, last = "", segment.start
    for word in segment.words:
        if last < word.start < segment.end:
            text, last = f"{text}<{clock(word.start)}>", word.start
        text += _in_vtt(printable(word.text))
    return text.strip()


def _in_vtt(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _write_audacity(timeline: TimelineRecord, file: IO) -> None:
    for one in timeline.segments:
        file.write(f"{one.start:.6f}\t{one.end:.6f}\t{segment_text(one)}\n")


def _one_word(text: str) -> str:
    return re.sub(r"\s+", "_", printable(text)) or "_"


FORMS: dict[str, Callable[[TimelineRecord, Path], None]] = {
    ".json": _as_text(_write_json),
    ".csv": _as_text(_write_csv),
    ".rttm": _as_text(_write_rttm),
    ".vtt": _as_text(_write_vtt),
    ".txt": _as_text(_write_audacity),
    ".png": save_picture,
    ".html": save_page,
}
"""By the ending of the file; `.txt` is what Audacity imports as labels."""
