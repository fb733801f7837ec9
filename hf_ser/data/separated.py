"""The one reader of separated text (CSV, TSV): every line of a file becomes a row, or is named in an error.

Programs disagree on quotes. Spreadsheets put a cell into quotes and double those in it; Common Voice and others write a
cell as it is, and a transcript may begin with a lone quote. A reader that takes such a quote for the beginning of a
cell swallows all lines up to the next one. So a quote counts only where the cell it begins is closed as the rule says.
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
"""Lines that one cell in quotes may go over."""

MARKS = (
    *((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be")),
    *((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")),
)
"""Byte order marks; that of UTF-16 begins that of UTF-32, which is therefore looked for first."""


@dataclass(frozen=True)
class Row:
    """The cells of a row, and the number of its first line, from 1."""

    line: int
    cells: list[str]


@dataclass(frozen=True)
class Separated:
    """What a file holds; its lines are the header, the blank ones and those of the rows, and no others.

    Args:
        header: Names of the columns, in their normal form.
        rows: All rows; the header's is not among them. A row may have fewer or more cells than the header.
        separator: What parts the cells.
        findings: What a person should know of how it was read.
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
    """Read a file.

    Args:
        file: The file; its separator is the one of comma, semicolon and tab that its header has most of, or the one of
            a first line such as `sep=;`.
        decode: Gives the text of the file, by default `decoded`.
        separators: Those that are looked for.

    Raises:
        ValueError: the text cannot be decoded or is empty, or a line cannot be told from the ones around it.
    """
    file = Path(file)
    lines = re.split(r"\r\n|\r|\n", (decode or decoded)(file))
    said = re.fullmatch(r"\ufeff?\"?sep=(.)\"?", lines[0].strip(" "))
    first = next((number for number, line in enumerate(lines) if line.strip() and not (said and number == 0)), None)
    if first is None:
        raise ValueError("No columns to parse from file")
    separator = said[1] if said else max(separators, key=lines[first].count)
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
            detail = f"lines {number + 1} to {following} are one row, for a cell in quotes goes over them"
            findings.append(Finding("row_of_several_lines", f"{file.name}, line {number + 1}", detail))
        rows.append(Row(number + 1, cells))
        number = following
    if reading.lone_quotes:
        detail = f"{len(reading.lone_quotes)} cells begin with a quote that is not closed, and are read as they are"
        findings.append(Finding("lone_quote", f"{file.name}, line {reading.lone_quotes[0]}", detail))
    return Separated([normal_form(name) for name in header], rows, separator, findings, first + 1)


class _Reading:
    """The lines of a file on their way into cells.

    Args:
        file: For messages.
        lines: Of the file, without their ends.
        separator: What parts cells.
    """

    def __init__(self, file: Path, lines: list[str], separator: str):
        self.file, self.lines, self.separator = file, lines, separator
        self.width: int | None = None
        self.lone_quotes: list[int] = []
        mark = re.escape(separator)
        # A cell in quotes, with its quotes doubled, or one that is taken as it is.
        self.in_quotes = re.compile(r' *"([^"]*(?:""[^"]*)*)"(?!") *')
        self.quoted = re.compile(rf"{self.in_quotes.pattern}(?={mark}|\Z)")
        self.bare = re.compile(rf"[^{mark}]*")

    def cells(self, line: str) -> tuple[list[str], int | None]:
        """The cells of one line, and where the first begins whose first quote this line does not close."""
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
        """The cells of the row that begins in a line (counted from 0), and the line after it.

        Raises:
            ValueError: the row may end in this line or in a later one, and nothing tells which.
        """
        cells, opened = self.cells(self.lines[number])
        if opened is None:
            return cells, number + 1
        width = width or len(cells)
        over, end = self.over_lines(number, opened)
        whole = all(len(self.cells(line)[0]) == width for line in self.lines[number:end])
        # Nobody types tabs into a transcript: lines with a whole row of them are rows.
        if whole and (over is None or self.separator == "\t"):
            self.lone_quotes.append(number + 1)
            return cells, number + 1
        if over is not None and len(over) == width and not whole:
            return over, end
        found = f"and the line has {len(cells)} cells where the header has {width}"
        if over is not None:
            found = (
                f"which line {end} closes; read so, the row has {len(over)} cells where the header has {width}"
                f"{', and each of these lines is a whole row by itself' * whole}"
            )
        raise ValueError(
            f"line {number + 1}: a cell begins with a quote, {found}, so that nothing tells where the row ends. "
            'Expected a cell with quotes to stand in quotes, and those within it to be doubled, such as """Yes"", he '
            'said": save the table with a program that does so, or as JSONL'
        )

    def over_lines(self, number: int, opened: int) -> tuple[list[str] | None, int]:
        """The cells of a row whose quotes go over several lines, None where they do not, and the line after it."""
        text = self.lines[number]
        for end in range(number + 1, min(len(self.lines), number + MAX_LINES)):
            text += "\n" + self.lines[end]
            if '"' not in self.lines[end] or not self.in_quotes.match(text, opened):
                continue
            if not self.quoted.match(text, opened):
                break  # text follows the quote that would close it, so it closes nothing
            cells, again = self.cells(text)
            if again is None:
                return cells, end + 1
            opened = again
        return None, number + 1


def decoded(file: Path) -> str:
    """The text of a file: UTF-8, or what its byte order mark says.

    Raises:
        ValueError: it is none of these.
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
            f"a zero byte in line {line}, as UTF-16 without its mark has them: save it as 'CSV UTF-8', or convert it "
            "with `iconv -f utf-16le -t utf-8 OLD > NEW`"
        )
    return text
