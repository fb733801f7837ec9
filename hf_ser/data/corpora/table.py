"""A user's own corpus: a table with a row for each clip, a folder for each label, or a data set of `datasets`.

A table has the columns `path` (relative to the table's folder, or absolute) and `label` or votes: `votes`, an object of
counts by label (in a CSV, JSON), or `votes:<label>`, a column of counts for each label. `start` and `end` or `duration`
are the seconds of a clip that is part of a file (`start_ms`, `end_ms`, `duration_ms`: milliseconds), `channel` (left,
right or mix) its channel. Optional are `id` and `hf_ser.data.schema.METADATA_COLUMNS`. Other names of these
columns are in `hf_ser.data.corpora.table_names`; columns that are not read are named in a finding.

Every text is normalised (`hf_ser.normal_form`). Findings count what was read as another value: unknown speakers,
spellings of one label, names of splits.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import soundfile as sf

from hf_ser.data.corpora.table_cells import (
    MISSING_TEXTS,
    channel_of,
    majority,
    number,
    part_name,
    part_of_file,
    plain,
    votes_of,
)
from hf_ser.data.corpora.table_columns import NAMES, SEPARATOR, Naming, Rows, cell_meanings
from hf_ser.data.corpora.table_folders import AUDIO_SUFFIXES
from hf_ser.data.corpora.table_labels import (
    doubtful_findings,
    is_no_majority,
    joined_labels,
    joined_votes,
    misspelt_findings,
    reject_doubtful_gaps,
    reject_other_labels,
    reject_ratings,
    shown,
    without_several,
)
from hf_ser.data.corpora.table_paths import is_absolute, local_path, relative_to
from hf_ser.data.corpora.table_rows import Cell, read_rows
from hf_ser.data.schema import (
    DIALOGUE_KINDS,
    METADATA_COLUMNS,
    NUMBERS,
    REFERENCE,
    SEXES,
    SPLITS,
    Finding,
    Listing,
    Utterance,
    known_split_names,
    split_parts,
)
from hf_ser.models.source_kinds import WEB_ADDRESS, check_regular_file
from hf_ser.normal_form import is_missing_label, is_unknown, look_alike, normal_name, normal_text, printable, storable

LICENCE = "the user's own"
MAY_BE_SHARED = None
SOURCE = "the user's own"
LANGUAGE = None

VALUES = {
    "sex": (SEXES, {"w": "female", "woman": "female", "man": "male"}),
    "dialogue_kind": (DIALOGUE_KINDS, {"improvised": "impro", "scripted": "script"}),
}
"""Values of a column, and other names of them; beginnings of values are read too."""

FOLD = re.compile(r"(?:cv|fold|part|set|split|group)?[ _-]*\d+", re.IGNORECASE)
"""Names of folds of a cross-validation."""

FREE_TEXT = re.compile(r"\S+\s+\S+\s+\S+|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{4}")
"""Three words, or four characters of a script without spaces: a transcript, not the id of a sentence."""

MAX_CHECKED = 50
"""Segments whose file is opened to check that they are in seconds."""


def list_utterances(
    data_dir: str | Path,
    columns: dict[str, str] | None = None,
    speaker_pattern: str | None = None,
    label_pattern: str | None = None,
    audio_dir: str | Path | None = None,
) -> Listing:
    """List the clips of a table, folder or data set.

    Args:
        data_dir: A .csv, .tsv, .jsonl or .parquet file; a folder with a sub-folder for each label, or with a
            metadata.csv with `file_name` in it or in the folder of each split; a folder of `datasets.save_to_disk`; or
            a Hub id, as `user/name`, `user/name@revision` or `user/name:config`.
        columns: Names of the columns if they differ from ours: `{"path": "file", "votes:angry": "ang"}`; an empty name
            leaves a column out. `label:CELL` and `speaker:CELL` give the meaning of a cell: `{"label:NA": "negative"}`.
        speaker_pattern: Regular expression for the path of a clip relative to `data_dir`; its groups, joined by `_`,
            are the speaker if no column has it.
        label_pattern: Regular expression for the same path; its one group is the label if no column has it. Sub-folders
            are then not labels.
        audio_dir: Base of relative paths, by default the folder of the table. A missing absolute path is searched in it
            by its last folders and name.

    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: an unsupported table, a missing column, an unknown split, labels that are not emotions, or no
            usable row.
    """
    patterns = {
        "speaker": _pattern("--speaker_pattern", speaker_pattern),
        "label": _pattern("--label_pattern", label_pattern, at_most=1),
    }
    source = read_rows(data_dir, Naming(columns or {}, needs_label=label_pattern is None), audio_dir)
    left_out, cells = [ours for ours, theirs in (columns or {}).items() if not theirs], cell_meanings(columns or {})
    reader = _TableReader(source, patterns, audio_dir is not None, left_out, cells)
    reader.label_is_named = bool((columns or {}).get("label"))
    return reader.listing()


def _pattern(flag: str, text: str | None, at_most: int | None = None) -> re.Pattern | None:
    try:
        pattern = re.compile(text) if text is not None else None
    except re.error as error:
        raise ValueError(f"{flag} '{text}': not a regular expression ({error}). Correct it.") from error
    if pattern is not None and not 1 <= pattern.groups <= (at_most or pattern.groups):
        what = flag.removeprefix("--").removesuffix("_pattern")
        example = r"'speaker(\d+)/'" if what == "speaker" else r"'([a-z]+)/[^/]+$'"
        wanted = "one" if at_most else "one or more"
        raise ValueError(
            f"{flag} '{text}': found {pattern.groups} groups. Expected {wanted}, around the {what}, such as "
            f"{example}: write others as (?:...)."
        )
    return pattern


@dataclass
class _TableReader:
    """Turns rows into utterances, and counts what findings report.

    Args:
        source: The rows.
        patterns: Patterns of speaker and label in paths.
        moved: Whether missing absolute paths are searched below the folder.
        left_out: Columns that the user left out.
        label_is_named: Whether the user named the column of the labels: it may then hold sexes.
        cells: Meaning of cells by column and cell; None for a missing value.
    """

    source: Rows
    patterns: dict[str, re.Pattern | None]
    moved: bool
    left_out: Sequence[str] = ()
    cells: dict[tuple[str, str], str | None] = field(default_factory=dict)
    id_counts: Counter = field(default_factory=Counter)
    commas: Counter = field(default_factory=Counter)
    unknown: dict[str, Counter] = field(default_factory=lambda: defaultdict(Counter))
    written: dict[str, dict[str, Counter]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(Counter)))
    invalid: dict[tuple[str, str, str], list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))
    joined_votes_counts: Counter = field(default_factory=Counter)
    splits: dict[str, str | None] = field(default_factory=dict)
    transcript_column: str = "transcript"
    label_is_named: bool = False

    def listing(self) -> Listing:
        """Read all rows."""
        where, rows = self.source.where, self.source.rows
        findings = list(self.source.findings)
        self.splits = split_parts({word for row in rows if (word := plain(row.get("split"))) and not is_unknown(word)})
        findings += self.split_findings()
        if sentence_is_text(rows):
            self.transcript_column = "sentence"
            detail = "holds texts and no ids, and there is no column `transcript`: read as the transcript"
            findings.append(Finding("sentence_is_text", f"{where}, column sentence", detail))
        utterances = []
        for row in rows:
            utterance, found = self.read(row)
            findings += found
            if utterance is not None:
                utterances.append(utterance)
        reject_doubtful_gaps(where, self.unknown.get("label", {}), Counter(one.label for one in utterances))
        if not utterances:
            raise self.no_clip_error(findings)
        self.reject_paths_as_labels()
        self.reject_windows_paths(utterances)
        reject_milliseconds(where, utterances)
        findings += self.overlap_findings(utterances)
        utterances, joined = joined_labels(utterances, self.written["label"])
        reject_other_labels(where, utterances, self.label_is_named)
        reject_ratings(where, utterances)
        utterances, several = without_several(utterances)
        findings += [*joined, *several, *self.invalid_findings(), *self.count_findings()]
        findings += [*doubtful_findings(utterances), *misspelt_findings(utterances)]
        findings += self.speaker_findings(utterances)
        return _with_labels(utterances, findings)

    def read(self, row: dict) -> tuple[Utterance | None, list[Finding]]:
        """Utterance of a row (None if it is left out), and findings."""
        place, name = row["place"], _name(row["path"])
        try:
            votes = votes_of(row, self.commas)
        except ValueError as error:
            return None, [Finding("bad_votes", place, str(error), skipped=True)]
        votes = self.merged(votes)
        label = self.label(row, name) or self.majority_label(votes)
        if problem := self.problem_of(name, label):
            return None, [Finding("incomplete_row", place, problem, skipped=True)]
        if WEB_ADDRESS.match(name):
            detail = f"{printable(name)[:200]} is a web address, expected a file: download it and name the file"
            return None, [Finding("web_address", place, detail, skipped=True)]
        if is_no_majority(label):
            detail = f"the label {printable(label)} means that the raters did not agree"
            return None, [Finding("no_majority", place, detail, skipped=True)]
        try:
            part, channel = part_of_file(row, self.commas), channel_of(row)
        except ValueError as error:
            return None, [Finding("bad_segment", place, str(error), skipped=True)]
        findings, given = [], plain(row.get("id"))
        unique = self.unique(given or storable(name) + part_name(part) + (f"@{channel}" if channel else ""))
        if given not in (None, unique):
            detail = f"the id {printable(given)} occurs twice, so this row is {printable(unique)}"
            findings.append(Finding("repeated_id", f"table/{unique}", detail))
        metadata, invalid = self.metadata(row, name)
        for kind, column, text, expected in invalid:
            self.invalid[kind, column, expected].append((f"table/{unique}", printable(text)))
        path = row["path"]
        utterance = Utterance(
            id=f"table/{unique}",
            audio=path if isinstance(path, Cell) else local_path(self.source.folder, str(path), self.moved),
            label=label,
            corpus="table",
            votes=votes,
            start_seconds=part[0],
            end_seconds=part[1],
            channel=channel,
            **metadata,
        )
        return utterance, findings

    @staticmethod
    def problem_of(name: str | None, label: str | None) -> str | None:
        """Reason why a row is incomplete, None if it is complete."""
        return "no path" if not name else "no label, and no majority of votes" if not label else None

    def label(self, row: dict, name: str | None) -> str | None:
        """Label of a row, from its column or the pattern; None if missing."""
        raw = _raw(row.get("label"))
        if raw and ("label", plain(raw)) in self.cells:
            return self.cells["label", plain(raw)]
        if raw and is_missing_label(raw):
            self.unknown["label"][printable(raw)] += 1
            return None
        raw = raw or self.in_path("label", name)
        label = normal_name(plain(raw) or "") or None
        if label:
            self.written["label"][label][raw] += 1
        return label

    def merged(self, votes: dict[str, float] | None) -> dict[str, float] | None:
        """Votes of a row with the spellings of each label added up."""
        if votes is None or len(joined := joined_votes(votes)) == len(votes):
            return votes
        alike = Counter(map(look_alike, votes))
        self.joined_votes_counts[tuple(sorted(name for name in votes if alike[look_alike(name)] > 1))] += 1
        return joined

    def majority_label(self, votes: dict[str, float] | None) -> str | None:
        """Label with most votes, None if there is none or it is a missing label."""
        label = majority(votes)
        if label and is_missing_label(label):
            self.unknown["votes"][printable(label)] += 1
            return None
        if label:
            self.written["label"][label][label] += 1
        return label

    def metadata(self, row: dict, name: str) -> tuple[dict, list[tuple[str, str, str, str]]]:
        """Metadata of a row; and kind, column, text and expected value of each invalid cell."""
        metadata, invalid = {column: plain(row.get(column)) for column in METADATA_COLUMNS}, []
        if self.transcript_column == "sentence":
            metadata["transcript"], metadata["sentence"] = metadata["sentence"], None
            row = row | {"transcript": row.get("sentence"), "sentence": None}
        for column in NAMES:
            metadata[column] = self.name(column, row.get(column))
        metadata["speaker"] = metadata["speaker"] or self.name("speaker", self.in_path("speaker", name))
        # A prepared data set of a table has the prefix already.
        metadata["speaker"] = f"table/{metadata['speaker'].removeprefix('table/')}" if metadata["speaker"] else None
        for column, (values, others) in VALUES.items():
            given = metadata[column]
            metadata[column] = _value_of(given, values, others) if given else None
            if given and metadata[column] is None and not is_unknown(given):
                invalid.append((f"unknown_{column}", column, given, " or ".join(values)))
        given, metadata["split"] = metadata["split"], self.splits.get(metadata["split"] or "")
        if given and metadata["split"] is None and not is_unknown(given):
            invalid.append(("unknown_split", "split", given, " or ".join(SPLITS)))
        for column in NUMBERS:
            try:
                metadata[column] = number(row.get(column), column, self.commas, row.get(SEPARATOR))
            except ValueError as error:
                metadata[column] = None
                invalid.append(("bad_number", column, plain(row.get(column)), str(error).partition("expected ")[2]))
        metadata["transcript"] = self.transcript(row.get("transcript"))
        metadata["transcript_source"] = (metadata["transcript_source"] or REFERENCE) if metadata["transcript"] else None
        return metadata, invalid

    def name(self, column: str, value) -> str | None:
        """Name in a cell, None if empty or unknown."""
        raw = _raw(value)
        if raw is None:
            return None
        if (column, plain(raw)) in self.cells:
            return self.cells[column, plain(raw)]
        if is_unknown(raw):
            self.unknown[column][printable(raw)] += 1
            return None
        name = normal_name(plain(raw) or "")
        self.written[column][name][raw] += 1
        return name or None

    def transcript(self, value) -> str | None:
        """Transcript in a cell, None if missing."""
        raw = _raw(value)
        if raw in MISSING_TEXTS:
            self.unknown["transcript"][raw] += 1
            return None
        return (normal_text(raw) or None) if raw else None

    def in_path(self, what: str, name: str | None) -> str | None:
        """Joined groups of a pattern in a path, None if it is not found."""
        if (pattern := self.patterns[what]) is None or name is None:
            return None
        found = pattern.search(relative_to(self.source.folder, local_path(self.source.folder, name, self.moved)))
        groups = [group for group in found.groups() if group] if found else []
        return storable("_".join(groups)) or None

    def unique(self, name: str) -> str:
        """Unique id from a name."""
        name = plain(name) or name
        unique = name
        while unique in self.id_counts:
            self.id_counts[name] += 1
            unique = f"{name}#{self.id_counts[name]}"
        self.id_counts[unique] += 1
        return unique

    def split_findings(self) -> list[Finding]:
        """Report how the names of the split are read.

        Raises:
            ValueError: an unknown name.
        """
        counts = Counter(word for row in self.source.rows if (word := plain(row.get("split"))) in self.splits)
        unknown = sorted(word for word, part in self.splits.items() if part is None)
        if unknown and not self.source.free_splits:
            listed = ", ".join(f"'{printable(word)}' ({counts[word]} rows)" for word in unknown)
            folds = ""
            if all(FOLD.fullmatch(word) for word in unknown):
                folds = (
                    " These look like folds: for one of them write train, validation and test in the column, or in a "
                    "file for --protocol fixed --split_file; else new folds by speaker are made."
                )
            raise ValueError(
                f"{self.source.where}: found {listed} in the column of the split. Expected one of "
                f"{known_split_names()}, a number or word after it such as Test1 or dev-clean, or nothing: rename "
                f"them, or leave the column out with --columns split= (nothing after the equals sign).{folds}"
            )
        others = {word: part for word, part in self.splits.items() if part and word.casefold() != part}
        if not others:
            return []
        listed = ", ".join(f"'{printable(word)}' ({counts[word]} rows) as {others[word]}" for word in sorted(others))
        return [Finding("split_words", self.source.where, f"read {listed}")]

    def invalid_findings(self) -> list[Finding]:
        """Report invalid cells: each column once, a single cell by its clip."""
        findings = []
        for (kind, column, expected), cells in self.invalid.items():
            before = f"{column}: " if kind == "bad_number" else ""
            if len(cells) == 1:
                ((item, text),) = cells
                findings.append(Finding(kind, item, f"{before}found '{text}', expected {expected}"))
                continue
            counts = Counter(text for _, text in cells)
            listed = ", ".join(f"'{text}' ({count})" for text, count in counts.most_common(10))
            more = f" and {len(counts) - 10} others" if len(counts) > 10 else ""
            detail = f"{len(cells)} cells are read as empty: found {listed}{more}, expected {expected}"
            findings.append(Finding(kind, f"{self.source.where}, column {column}", detail, count=len(cells)))
        return findings

    def no_clip_error(self, findings: list[Finding]) -> ValueError:
        """Error for a table without usable rows, with the most frequent reason."""
        where, rows, skipped = self.source.where, self.source.rows, [one for one in findings if one.skipped]
        self.reject_paths_as_labels()
        kinds = Counter(one.kind for one in skipped)
        kind = kinds.most_common(1)[0][0] if kinds else "incomplete_row"
        first = next((f". The first that is left out: {f.item}: {f.detail}" for f in skipped if f.kind == kind), "")
        first = first.rstrip(".")
        if kind == "incomplete_row":
            return ValueError(
                f"{where}: none of its {len(rows)} rows has a path and a label. Expected both in each: fill these "
                f"columns in{first}."
            )
        counts = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())
        return ValueError(
            f"{where}: none of its {len(rows)} rows can be used ({counts}){first}. Expected at least one: correct "
            "these cells, or leave their column out with --columns NAME= (nothing after the equals sign)."
        )

    def reject_paths_as_labels(self) -> None:
        """Refuse paths in the column of the label.

        Raises:
            ValueError: most labels are file names.
        """
        labels = [label for row in self.source.rows if (label := plain(row.get("label")))]
        files = [label for label in labels if label.lower().endswith(AUDIO_SUFFIXES)]
        if 2 * len(files) <= len(labels) or not files:
            return
        paths = [path for row in self.source.rows if (path := _name(row["path"]))]
        if any(path.lower().endswith(AUDIO_SUFFIXES) for path in paths):
            found, remedy = "file names too", "name the column of the emotions, as --columns label=NAME"
        else:
            found = f"such as {printable(paths[0])}" if paths else "nothing"
            remedy = "the two seem swapped: rename them in the table, or give --columns path=LABEL,label=PATH with "
            remedy += "their names in it"
        raise ValueError(
            f"{self.source.where}: found file names in the column of the label, such as {printable(files[0])}, and in "
            f"that of the path {found}. Expected file names in the one and emotions in the other: {remedy}."
        )

    def count_findings(self) -> list[Finding]:
        """Report values that were read as others, with counts."""
        where, findings = self.source.where, []
        for column, counts in sorted(self.unknown.items()):
            listed = ", ".join(f"'{cell}' ({count})" for cell, count in counts.most_common(10))
            detail = f"{counts.total()} cells mean that it is not known, and are read as empty: {listed}"
            if column in ("label", "speaker"):
                cell = next(iter(counts))
                detail += f"; if one is a name, give --columns {column}:{cell}={cell}"
            findings.append(Finding(f"unknown_{column}_word", f"{where}, column {column}", detail))
        for column, spellings in sorted(self.written.items()):
            several = {name: ways for name, ways in spellings.items() if len(ways) > 1 and column != "label"}
            for name, ways in sorted(several.items()):
                listed = ", ".join(f"{shown(way)} ({count})" for way, count in sorted(ways.items()))
                detail = f"spellings that are read as one: {listed}"
                findings.append(Finding(f"joined_{column}s", f"{column} {name}", detail))
        for names, rows in sorted(self.joined_votes_counts.items()):
            detail = (
                f"votes for {', '.join(map(shown, names))} in one row are added up, since they are spellings of one"
            )
            findings.append(Finding("joined_votes", where, detail, count=rows))
        if self.commas:
            listed = ", ".join(f"{count} of {column}" for column, count in sorted(self.commas.items()))
            findings.append(Finding("decimal_comma", where, f"numbers with a comma, read as decimals: {listed}"))
        return findings

    def speaker_findings(self, utterances: list[Utterance]) -> list[Finding]:
        """Report clips without a speaker, if there are no speakers or a pattern is given."""
        where, pattern = self.source.where, self.patterns["speaker"]
        unknown = [utterance.id for utterance in utterances if utterance.speaker is None]
        if len(unknown) == len(utterances):
            remedy = "add a column `speaker`, or give --speaker_pattern: splits by speaker need it"
            return [Finding("no_speakers", where, f"no clip has a speaker: {remedy}")]
        if unknown and pattern is not None:
            detail = f"'{pattern.pattern}' finds no speaker in {len(unknown)} paths, the first that of {unknown[0]}"
            return [Finding("speaker_not_in_path", where, detail)]
        return []

    def overlap_findings(self, utterances: list[Utterance]) -> list[Finding]:
        """Report clips that extend to the end of their file and overlap later clips of it.

        Raises:
            ValueError: starts without ends, unless the user left them out.
        """
        last = defaultdict(float)
        for one in utterances:
            last[repr(one.audio), one.channel] = max(last[repr(one.audio), one.channel], one.start_seconds or 0.0)
        overlapping = [
            one
            for one in utterances
            if one.end_seconds is None and (one.start_seconds or 0.0) < last[repr(one.audio), one.channel]
        ]
        if not overlapping:
            return []
        found = f"{len(overlapping)} clips extend to the end of their file and overlap later ones"
        if "end" not in self.left_out and all(one.end_seconds is None for one in utterances):
            raise ValueError(
                f"{self.source.where}: {found}, the first: {overlapping[0].id}. Expected a column `end` or `duration` "
                "too: add it, or name it as --columns end=NAME (nothing after the equals sign if this is meant)."
            )
        return [Finding("runs_over_others", self.source.where, f"{found}: fill their end in", count=len(overlapping))]

    def reject_windows_paths(self, utterances: list[Utterance]) -> None:
        """Refuse a table that was written on another machine.

        Raises:
            ValueError: all paths are absolute Windows paths of missing files.
        """
        paths = [str(row["path"]) for row in self.source.rows if isinstance(row["path"], str)]
        of_windows = paths and all(is_absolute(path) and not path.startswith("/") for path in paths)
        if of_windows and not any(Path(utterance.audio).is_file() for utterance in utterances):
            raise ValueError(
                f"{self.source.where}: found absolute paths of Windows, the first {printable(paths[0])}, and none of "
                f"these {len(paths)} files {'in --audio_dir ' + str(self.source.folder) if self.moved else 'here'}. "
                "Expected paths on this machine: give --audio_dir DIR, the folder with the recordings; they are "
                "searched in it by their last folders and names."
            )


def sentence_is_text(rows: Iterable[dict]) -> bool:
    """Whether a column `sentence` holds transcripts, as in Common Voice, and there is no other."""
    rows = list(rows)
    if any("transcript" in row for row in rows):
        return False
    texts = [text for row in rows if (text := plain(row.get("sentence")))]
    return 2 * sum(bool(FREE_TEXT.search(text)) for text in texts) > len(texts)


def reject_milliseconds(where: str, utterances: Iterable[Utterance]) -> None:
    """Check that segments are in seconds, by the lengths of some files.

    Raises:
        ValueError: most are far beyond the end of their file, and fit as milliseconds or samples.
    """
    ends = [(u.end_seconds, u) for u in utterances if u.end_seconds and isinstance(u.audio, Path)]
    checked, beyond, fitting = 0, 0, Counter()
    for end, utterance in ends[:: max(1, len(ends) // MAX_CHECKED)]:
        try:
            check_regular_file(utterance.audio)  # reading a pipe would block
            info = sf.info(utterance.audio)
        except (OSError, RuntimeError, ValueError):
            continue  # it is reported when it is read
        checked += 1
        beyond += end > 10 * info.duration + 1
        fitting["milliseconds"] += end / 1000 <= info.duration + 0.5
        fitting["samples"] += end <= info.frames + 0.5 * info.samplerate
    unit = next((unit for unit in ("milliseconds", "samples") if fitting[unit] == checked), None)
    if checked and 2 * beyond > checked and unit:
        raise ValueError(
            f"{where}: found segments far beyond the end of their files, such as one up to {ends[0][0]:g} in "
            f"{ends[0][1].audio.name}, which fit as {unit}. Expected `start` and `end` in seconds: divide them by "
            f"{'1000' if unit == 'milliseconds' else 'the sampling rate'}."
        )


def _with_labels(utterances: list[Utterance], findings: list[Finding]) -> Listing:
    """Set the labels of the listing; votes for other labels are left out."""
    labels = {utterance.label for utterance in utterances}
    lost = Counter(name for u in utterances for name in u.votes or {} if name not in labels)
    findings += [
        Finding("lost_votes", f"votes for {name}", f"no clip has this label; left out of {count} clips' votes")
        for name, count in sorted(lost.items())
    ]
    utterances = [replace(u, votes=_votes_for(u.votes, labels)) if u.votes else u for u in utterances]
    return Listing(tuple(sorted(labels)), utterances, findings)


def _name(path) -> str | None:
    """Name of a clip from its path or cell, None if empty."""
    return path.name if isinstance(path, Cell) else _raw(path)


def _raw(value) -> str | None:
    """Cell without spaces around it, not normalised; None if empty."""
    text = value.strip() if isinstance(value, str) else plain(value)
    return text if text and plain(text) else None


def _value_of(given: str, values: tuple[str, ...], others: dict[str, str]) -> str | None:
    begun = [value for value in values if value.startswith(given.lower())]
    return others.get(given.lower()) or (begun[0] if len(begun) == 1 else None)


def _votes_for(votes: dict[str, float], labels: set[str]) -> dict[str, float] | None:
    kept = {name: count for name, count in votes.items() if name in labels}
    return kept if sum(kept.values()) > 0 else None
