"""Pairs of clips that a person has cleared: they are not copies of one recording."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hf_ser.data.separated import Separated, read_separated
from hf_ser.normal_form import normal_form, printable
from hf_ser.runs.record import ClearedPairs, hashed

HEADER = re.compile(r"(id|clip|utterance|file|path|first|one|a)([ _-]?(id|1|a|one))?", re.IGNORECASE)
"""First cell of a header; used if ids have no corpus prefix to distinguish them from a header."""


@dataclass(frozen=True)
class NotCopies:
    """The cleared pairs.

    Args:
        file: Name of the file that lists them.
        sha256: Hash of that file.
        pairs: Pairs of ids.
    """

    file: str = ""
    sha256: str = ""
    pairs: frozenset[frozenset[str]] = field(default_factory=frozenset)

    def record(self) -> ClearedPairs:
        """The pairs for a training record, with hashed ids."""
        pairs = sorted(sorted(map(hashed, pair)) for pair in self.pairs)
        return ClearedPairs(file=self.file, sha256=self.sha256, pairs=pairs)

    @classmethod
    def of_record(cls, record: ClearedPairs | None, ids: Iterable[str]) -> "NotCopies":
        """The pairs of a training record whose clips are in a data set; the record of a pushed model has none."""
        if record is None or record.pairs is None:
            return cls()
        names = {hashed(one): one for one in ids}
        pairs = frozenset(frozenset(names[one] for one in pair) for pair in record.pairs if set(pair) <= set(names))
        return cls(record.file or "", record.sha256, pairs)


def read_not_copies(file: str | Path | None, ids: Iterable[str] | None = None) -> NotCopies:
    """Read a CSV of two columns of utterance ids, with or without a header; empty without a file.

    Args:
        file: The file, separated by commas, semicolons or tabs.
        ids: Ids of the data set; without them ids are not checked.

    Raises:
        FileNotFoundError, ValueError: no such file, a line that is not a pair, or ids that are not in the data set.
    """
    if not file:
        return NotCopies()
    file, ids = Path(file), None if ids is None else set(ids)
    if not file.is_file():
        raise FileNotFoundError(
            f"{file}: no such file. Expected a CSV with two columns of utterance ids (--not_copies), one pair a line."
        )
    table = _table(file)
    rows = [(table.header_line, table.header), *((row.line, row.cells) for row in table.rows)]
    rows = [(number, [normal_form(cell) for cell in cells]) for number, cells in rows]
    names = {normal_form(one): one for one in ids or ()}
    rows = [(number, [names.get(cell, cell) for cell in cells]) for number, cells in rows]
    if _is_header(rows[0][1], ids):
        rows = rows[1:]
    pairs = set()
    for number, row in rows:
        if not any(row):
            continue
        if len(row) != 2 or not all(row) or row[0] == row[1]:
            raise ValueError(
                f"{file}, line {number}: found {printable(', '.join(row))!r}, expected the ids of two clips, such as "
                "'table/a.wav,table/b.wav': correct the line."
            )
        pairs.add(frozenset(row))
    unknown = sorted({one for pair in pairs for one in pair} - ids) if ids is not None else []
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise ValueError(
            f"{file}: {len(unknown)} ids are not in the data set: "
            f"{', '.join(map(printable, unknown[:5]))}{more}. Expected ids as the audit names them "
            "(a = b in its evidence): correct them, or remove the lines."
        )
    return NotCopies(file.name, hashlib.sha256(file.read_bytes()).hexdigest(), frozenset(pairs))


def _is_header(cells: list[str], ids: set[str] | None) -> bool:
    if any("/" in cell or (ids is not None and cell in ids) for cell in cells):
        return False
    return all("/" in one for one in ids or ()) or bool(HEADER.fullmatch(cells[0]))


def _table(file: Path) -> Separated:
    """The lines of the file, split at the separator that gives two cells, since ids may contain commas."""
    try:
        tables = [read_separated(file, separators=mark) for mark in "\t;,"]
    except ValueError as error:
        raise ValueError(
            f"{file}: not UTF-8, or not a table ({error}). Expected a CSV with two columns of utterance ids: save it "
            "as one."
        ) from error
    return next((one for one in tables if len(one.header) == 2), tables[-1])
