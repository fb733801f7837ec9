"""Clips given on the command line: files, folders, wild cards and tables."""

import glob
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path

from hf_ser.data.corpora.table import reject_milliseconds
from hf_ser.data.corpora.table_cells import channel_of, part_name, part_of_file, plain
from hf_ser.data.corpora.table_columns import Naming, Rows
from hf_ser.data.corpora.table_folders import AUDIO_SUFFIXES, audio_below
from hf_ser.data.corpora.table_paths import local_path
from hf_ser.data.corpora.table_rows import READERS, read_rows
from hf_ser.data.folders import files_under
from hf_ser.data.schema import Finding, Utterance
from hf_ser.models.source_kinds import WEB_ADDRESS
from hf_ser.normal_form import is_unknown, normal_text

OTHER_NAMES = {
    "path": ("file", "file_name", "filename", "file_path", "filepath", "audio", "wav", "audio_path"),
    "transcript": ("text",),
}
"""Other names of our columns."""


@dataclass(frozen=True)
class GivenClip:
    """A clip to classify, or the reason why it cannot be read.

    Args:
        file: Name in the output.
        path: Path of the file.
        text: Transcript, None if unknown.
        start_seconds, end_seconds, channel: Part of the file; None is all of it.
        error: Reason why it cannot be read.
    """

    file: str
    path: str = ""
    text: str | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    channel: str | None = None
    error: str | None = None

    @property
    def name(self) -> str:
        """Name of the file and its part: `call.wav@1.5-3`."""
        part = part_name((self.start_seconds, self.end_seconds))
        return self.file + part + (f"@{self.channel}" if self.channel else "")


@dataclass
class Given:
    """All clips in order, notes for the user, and the tables that were read."""

    clips: list[GivenClip] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tables: list[Path] = field(default_factory=list)

    def fail(self, item: str, why: str) -> None:
        """Add an item that cannot be read; the others are still classified."""
        self.clips.append(GivenClip(item, error=why))


def given_clips(
    inputs: Iterable[str], columns: Mapping[str, str] | None = None, audio_dir: str | Path | None = None
) -> Given:
    """Find all clips of the inputs.

    Args:
        inputs: Files; folders, with all audio files below them; wild cards; and tables with a column `path`, and
            optionally `transcript` (or `text`), `start`, `end` and `channel`.
        columns: Names of a table's columns if they differ from ours.
        audio_dir: Base folder of the relative paths of tables; by default that of the table.
    """
    given, naming = Given(), Naming(columns or {}, needs_label=False, alternatives=OTHER_NAMES)
    for item in inputs:
        _add(given, item, naming, audio_dir)
    return given


def _add(given: Given, item: str, naming: Naming, audio_dir) -> None:
    path = Path(item)
    if os.path.isdir(item):
        _add_folder(given, item)
    elif path.suffix.lower() in READERS:
        _add_table(given, item, naming, audio_dir)
    elif glob.has_magic(item) and not os.path.exists(item):
        found = _matching_files(given, item) if "**" in path.parts else sorted(glob.glob(item))
        if not found:
            given.fail(item, f"{item}: no file matches. Expected one or more: check the folder and the ending.")
        for match in found:
            _add(given, match, naming, audio_dir)
    else:
        given.clips.append(GivenClip(item, item))


def _matching_files(given: Given, item: str) -> list[str]:
    """Files that match a wild card with `**`; each folder is entered once, since links may form loops."""
    parts = Path(item).parts
    start = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    root, pattern = Path(*parts[:start]), [part for part, _ in groupby(parts[start:])]
    files, findings = files_under(root)
    _report_findings(given, findings)
    found = [file for file in files if _fits(file.relative_to(root).parts, pattern)]
    if pattern[-1] == "**":  # as the folder itself
        found = [file for file in found if file.suffix.lower() in AUDIO_SUFFIXES]
    return [str(file) for file in found]


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether path parts match a wild card: `**` is any number of folders; hidden names need a dot in the pattern."""
    if not pattern or (not parts and pattern[0] != "**"):
        return not pattern and not parts
    is_hidden = bool(parts) and parts[0].startswith(".")
    if pattern[0] == "**":
        return _fits(parts, pattern[1:]) or (bool(parts) and not is_hidden and _fits(parts[1:], pattern))
    shown = not is_hidden or pattern[0].startswith(".")
    return shown and fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])


def _add_folder(given: Given, item: str) -> None:
    folder = Path(item)
    files, findings = audio_below(folder)
    given.clips += [GivenClip(str(folder / file), str(folder / file)) for file in files]
    passed_over = Counter()
    for finding in findings:
        if finding.kind == "not_audio":
            passed_over[finding.detail.rpartition("with ")[2]] += finding.count
    _report_findings(given, findings)
    if passed_over:
        listed = ", ".join(f"{count} with {suffix}" for suffix, count in sorted(passed_over.items()))
        given.notes.append(f"{folder}: left out {listed}; only {', '.join(AUDIO_SUFFIXES)} are read")
    if not files:
        given.fail(item, f"{item}: found no audio files. Expected some that end in {', '.join(AUDIO_SUFFIXES)}.")


def _report_findings(given: Given, findings: Iterable[Finding]) -> None:
    """Turn the findings of a folder into errors and notes."""
    for finding in findings:
        if finding.kind == "unreadable_folder":
            given.fail(finding.item, f"{finding.item}: {finding.detail}")
        elif finding.kind == "linked_again":
            given.notes.append(f"{finding.item}: {finding.detail}")
        elif finding.kind == "broken_link" and Path(finding.item).suffix.lower() in AUDIO_SUFFIXES:
            given.fail(finding.item, f"{finding.item}: {finding.detail}. Expected an audio file: copy it again.")


def _add_table(given: Given, item: str, naming: Naming, audio_dir) -> None:
    if not Path(item).is_file():
        given.fail(item, f"{item}: no such table. Expected a {', '.join(READERS)} file: check its name and folder.")
        return
    try:
        rows = read_rows(item, naming, audio_dir)
    except (ValueError, OSError) as error:
        given.fail(item, str(error))
        return
    given.tables.append(Path(item))
    for finding in rows.findings:
        if finding.skipped:
            given.fail(item, f"{finding.item}: {finding.detail}")
        else:
            given.notes.append(f"{finding.item}: {finding.detail}")
    commas = Counter()
    clips = [_clip_of_row(rows, row, commas, audio_dir is not None) for row in rows.rows]
    try:
        reject_milliseconds(item, [_segment(clip) for clip in clips if clip.error is None])
    except ValueError as error:
        given.fail(item, str(error))
        return
    given.clips += clips
    if commas:
        listed = ", ".join(f"{count} of {column}" for column, count in sorted(commas.items()))
        given.notes.append(f"{item}: numbers with a comma, read as decimals: {listed}")
    if not rows.rows:
        given.fail(item, f"{item}: found no rows. Expected one a clip: fill the column `path` in.")


def _clip_of_row(rows: Rows, row: dict, commas: Counter, moved: bool) -> GivenClip:
    place, written = row["place"], row.get("path")
    if written is None or not str(written).strip():
        return GivenClip(place, error=f"{place}: found no path. Expected that of an audio file: fill it in.")
    is_address = WEB_ADDRESS.match(str(written))
    path = str(written) if is_address else str(local_path(rows.folder, str(written), moved))
    try:
        start, end = part_of_file(row, commas)
        channel = channel_of(row)
    except ValueError as error:
        return GivenClip(path, error=f"{place}, {path}: {error}: correct the row.")
    text = plain(row.get("transcript"))
    text = None if text is None or is_unknown(text) else normal_text(str(row["transcript"]))
    return GivenClip(path, path, text, start, end, channel)


def _segment(clip: GivenClip) -> Utterance:
    """Utterance of a clip, for checks of preparing."""
    return Utterance(clip.name, Path(clip.path), "", "table", end_seconds=clip.end_seconds)


def with_texts(clips: Sequence[GivenClip], texts: Sequence[str | None]) -> list[GivenClip]:
    """Set the text of each clip."""
    return [replace(clip, text=text) for clip, text in zip(clips, texts, strict=True)]
