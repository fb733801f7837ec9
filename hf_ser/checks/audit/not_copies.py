"""Pairs of clips that a person has listened to and cleared: they are not copies of one recording."""

import csv
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hf_ser.runs.record import hashed

HEADER = re.compile(r"(id|clip|utterance|file|path|first|one|a)([ _-]?(id|1|a|one))?", re.IGNORECASE)
"""First cell by which a header is known where ids do not all have the prefix of their corpus, which a header lacks."""


@dataclass(frozen=True)
class NotCopies:
    """The cleared pairs.

    Args:
        file: Name of the file that lists them, for people.
        sha256: Hash of that file.
        pairs: Two ids each.
    """

    file: str = ""
    sha256: str = ""
    pairs: frozenset[frozenset[str]] = field(default_factory=frozenset)

    def record(self) -> dict:
        """What a training record keeps: the ids as hashes, as those of the parts are."""
        pairs = sorted(sorted(map(hashed, pair)) for pair in self.pairs)
        return {"file": self.file, "sha256": self.sha256, "pairs": pairs}

    @classmethod
    def of_record(cls, record: dict | None, ids: Iterable[str]) -> "NotCopies":
        """The pairs of a training record, as far as a data set has their clips."""
        if not record:
            return cls()
        names = {hashed(one): one for one in ids}
        pairs = frozenset(frozenset(names[one] for one in pair) for pair in record["pairs"] if set(pair) <= set(names))
        return cls(record["file"], record["sha256"], pairs)


def read_not_copies(file: str | Path | None, ids: Iterable[str] | None = None) -> NotCopies:
    """Read a CSV of two columns of utterance ids, with or without a header; no pairs where there is no file.

    Args:
        file: The file; commas, semicolons or tabs separate.
        ids: Of the data set; without them no id is refused.

    Raises:
        FileNotFoundError, ValueError: no such file, a line that is no pair, or ids that the data set does not have.
    """
    if not file:
        return NotCopies()
    file, ids = Path(file), None if ids is None else set(ids)
    if not file.is_file():
        raise FileNotFoundError(
            f"{file}: no such file. Expected a CSV with two columns of utterance ids (--not_copies), one pair a line."
        )
    held = file.read_bytes()
    try:
        text = held.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not UTF-8 ({error}). Expected a CSV in UTF-8: save it as that.") from error
    rows = [(n, [cell.strip() for cell in row]) for n, row in _numbered(text)]
    if rows and _is_header(rows[0][1], ids):
        rows = rows[1:]
    pairs = set()
    for number, row in rows:
        if len(row) != 2 or not all(row) or row[0] == row[1]:
            raise ValueError(
                f"{file}, line {number}: found {', '.join(row)!r}, expected the ids of two clips, such as "
                "'table/a.wav,table/b.wav': mend the line."
            )
        pairs.add(frozenset(row))
    unknown = sorted({one for pair in pairs for one in pair} - ids) if ids is not None else []
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise ValueError(
            f"{file}: {len(unknown)} ids are not in the data set: {', '.join(unknown[:5])}{more}. Expected ids as the "
            "audit names them (a = b in its evidence): correct them, or take the lines out."
        )
    return NotCopies(file.name, hashlib.sha256(held).hexdigest(), frozenset(pairs))


def _is_header(cells: list[str], ids: set[str] | None) -> bool:
    if any("/" in cell or (ids is not None and cell in ids) for cell in cells):
        return False
    return all("/" in one for one in ids or ()) or bool(HEADER.fullmatch(cells[0]))


def _numbered(text: str) -> list[tuple[int, list[str]]]:
    """Cells of each line that is not blank, with its number."""
    lines = text.splitlines()
    first = next((line for line in lines if line.strip()), "")
    delimiter = next((mark for mark in ("\t", ";") if mark in first), ",")
    reader = csv.reader(lines, delimiter=delimiter)
    return [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
