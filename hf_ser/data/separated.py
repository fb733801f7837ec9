"""Read separated text (CSV, TSV): every line becomes a row, or is named in an error.

Programs disagree on quotes. Spreadsheets quote a cell and double the quotes in it; Common Voice and others do not,
and a transcript may begin with a single quote, after which other readers swallow all lines up to the next one. So a
quote counts only if the cell that it begins is closed properly.
"""

import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hf_ser.data.schema import Finding
from hf_ser.normal_form import normal_form

SEPARATORS = ",;\t"
MAX_LINES = 1000
"""Longest quoted cell, in lines."""

MARKS = (
    *((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be")),
    *((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")),
)
"""Byte order marks; that of UTF-32 is tried first, since it begins with that of UTF-16."""


@dataclass(frozen=True)
class Row:
    """Cells of a row, and the number of its first line, from 1."""

    line: int
    cells: list[str]


@dataclass(frozen=True)
class Separated:
    """Contents of a file.

    Args:
        header: Normalised column names.
        rows: All rows after the header. A row may have fewer or more cells than the header.
        separator: Separator of the cells.
        findings: Remarks on how the file was read.
        header_line: Number of the header's line.
    """

    header: list[str]
    rows: list[Row]
    separator: str
    findings: list[Finding] = field(default_factory=list)
    header_line: int = 1


def read_separated(
    file: str | Path, decode: Callable[[Path], str] | None = None, separators: str = SEPARATORS
) -> Separated:
    """Read a file of separated text.

    Args:
        file: The file. Its separator is the most frequent one in the header, or that of a first line such as `sep=;`.
        decode: Returns the text of the file, by default `decoded`.
        separators: Possible separators.

    Raises:
        ValueError: an undecodable or empty file, or ambiguous quotes.
    """
    file = Path(file)
    lines = re.split(r"\r\n|\r|\n", (decode or decoded)(file))
    declared = re.fullmatch(r"\ufeff?\"?sep=(.)\"?", lines[0].strip(" "))
    first = next((number for number, line in enumerate(lines) if line.strip() and not (declared and number == 0)), None)
    if first is None:
        raise ValueError("the file is empty")
    separator = declared[1] if declared else max(separators, key=lines[first].count)
    reading = _Reading(file, lines, separator)
    header, following = reading.record(first, None)
    reading.width = len(header)
    rows, blank, findings = [], first, []
    number = following
    while number < len(lines):
        if not lines[number].strip():
            number, blank = number + 1, blank + 1
            continue
        cells, following = reading.record(number, reading.width)
        if following - number > 1:
            detail = f"lines {number + 1} to {following} are one row, since a quoted cell spans them"
            findings.append(Finding("row_of_several_lines", f"{file.name}, line {number + 1}", detail))
        rows.append(Row(number + 1, cells))
        number = following
    if reading.lone_quotes:
        detail = f"{len(reading.lone_quotes)} cells begin with a quote that is not closed, and are read as they are"
        findings.append(Finding("lone_quote", f"{file.name}, line {reading.lone_quotes[0]}", detail))
    return Separated([normal_form(name) for name in header], rows, separator, findings, first + 1)


class _Reading:
    """Splits the lines of a file into cells.

    Args:
        file: For messages.
        lines: Lines without their ends.
        separator: Separator of cells.
    """

    def __init__(self, file: Path, lines: list[str], separator: str):
        self.file, self.lines, self.separator = file, lines, separator
        self.width: int | None = None
        self.lone_quotes: list[int] = []
        mark = re.escape(separator)
        # A quoted cell, with its quotes doubled, or one without quoting.
        self.in_quotes = re.compile(r' *"([^"]*(?:""[^"]*)*)"(?!") *')
        self.quoted = re.compile(rf"{self.in_quotes.pattern}(?={mark}|\Z)")
        self.bare = re.compile(rf"[^{mark}]*")

    def cells(self, line: str) -> tuple[list[str], int | None]:
        """Cells of one line, and the start of the first cell with an unclosed quote (None if there is none)."""
        if '"' not in line:
            return line.split(self.separator), None
        cells, at, opened = [], 0, None
        while True:
            if found := self.quoted.match(line, at):
                cells.append(found[1].replace('""', '"'))
            else:
                found = self.bare.match(line, at)
                cells.append(found[0])
                if opened is None and found[0].lstrip(" ").startswith('"'):
                    opened = at
            at = found.end()
            if at >= len(line):
                return cells, opened
            at += 1
            if at == len(line):
                return [*cells, ""], opened

    def record(self, number: int, width: int | None) -> tuple[list[str], int]:
        """Cells of the row that begins in a line (from 0), and the line after it.

        Raises:
            ValueError: the row may end in this line or in a later one.
        """
        cells, opened = self.cells(self.lines[number])
        if opened is None:
            return cells, number + 1
        width = width or len(cells)
        joined, end = self.across_lines(number, opened)
        are_rows = all(len(self.cells(line)[0]) == width for line in self.lines[number:end])
        # Transcripts have no tabs: lines with all tabs of a row are rows.
        if are_rows and (joined is None or self.separator == "\t"):
            self.lone_quotes.append(number + 1)
            return cells, number + 1
        if joined is not None and len(joined) == width and not are_rows:
            return joined, end
        found = f"and the line has {len(cells)} cells where the header has {width}"
        if joined is not None:
            found = (
                f"which line {end} closes; read so, the row has {len(joined)} cells where the header has {width}"
                f"{', and each of these lines is a complete row' * are_rows}"
            )
        raise ValueError(
            f"line {number + 1}: a cell begins with a quote, {found}, so that the end of the row is ambiguous. "
            'Expected a cell with quotes to be in quotes, and those within it to be doubled, such as """Yes"", he '
            'said": save the table with a program that does so, or as JSONL'
        )

    def across_lines(self, number: int, opened: int) -> tuple[list[str] | None, int]:
        """Cells of a row whose quotes span several lines (None if they do not), and the line after it."""
        text = self.lines[number]
        for end in range(number + 1, min(len(self.lines), number + MAX_LINES)):
            text += "\n" + self.lines[end]
            if '"' not in self.lines[end] or not self.in_quotes.match(text, opened):
                continue
            if not self.quoted.match(text, opened):
                break  # text follows the quote, so it does not close the cell
            cells, again = self.cells(text)
            if again is None:
                return cells, end + 1
            opened = again
        return None, number + 1


def decoded(file: Path) -> str:
    """Decode a file as UTF-8, or by its byte order mark.

    Raises:
        ValueError: another encoding, or no text.
    """
    raw = file.read_bytes()
    if raw.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise ValueError(
            "this is an Excel file or an archive under the name of a table: open it in its program and save it as "
            "'CSV UTF-8'"
        )
    mark, encoding = next(((mark, name) for mark, name in MARKS if raw.startswith(mark)), (b"", "utf-8"))
    try:
        text = raw[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{error}; in line {line}, expected UTF-8. Excel's plain CSV is in the code page of Windows, in the West "
            "cp1252: save it as 'CSV UTF-8', or convert it with `iconv -f cp1252 -t utf-8 OLD > NEW`"
        ) from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise ValueError(
            f"a zero byte in line {line}, as in UTF-16 without a mark: save it as 'CSV UTF-8', or convert it "
            "with `iconv -f utf-16le -t utf-8 OLD > NEW`"
        )
    return text
