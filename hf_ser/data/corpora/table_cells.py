"""Parse cells of a user's table: texts, numbers, times and votes, as various programs write them."""

import datetime
import json
import math
import re
from collections import Counter

import numpy as np
import pandas as pd

from hf_ser.data.corpora.table_columns import SEPARATOR, VOTES
from hf_ser.data.corpora.table_names import MILLISECONDS
from hf_ser.models.streams import CHANNELS
from hf_ser.normal_form import is_unknown, normal_form, normal_name, printable
from hf_ser.yaml_text import unique_keys

CHANNEL_NAMES = {"1": "left", "2": "right", "l": "left", "r": "right", "mono": "mix"}
CHANNEL_NAMES |= {name: name for name in CHANNELS}
"""Values of a column `channel`."""

DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+")
NUMBER = re.compile(r"[+-]?[\d.,]+(?:[eE][+-]?\d+)?")
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+")
"""Ambiguous: thousands separators, or three decimals."""

FRAMES = re.compile(r"\d+:\d+:\d+[:;]\d+")
TIME = re.compile(
    r"(?:(?P<days>\d+) days?,? ?)?(?:\+?(?:(?P<hours>\d+):)?(?P<minutes>\d+):(?P<seconds>\d+(?:[.,]\d+)?))?"
)
UNITS = {"s": 1.0, "sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0, "ms": 0.001, "min": 60.0}
WITH_UNIT = re.compile(rf"([+-]?\d+(?:[.,]\d+)?|[+-]?[.,]\d+) ?({'|'.join(UNITS)})")
MISSING_TEXTS = ("nan", "NaN", "NaT", "<NA>", "#N/A")
"""Texts that programs write for a missing transcript; as transcripts they do not occur."""


def plain(value) -> str | None:
    """Cell as a normalised text, None if empty."""
    if value is None or value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, bool | np.bool_):
        return str(value).lower()  # as JSON writes it
    if isinstance(value, float) and value.is_integer():  # integers with missing values become floats
        value = int(value)
    return normal_form(str(value)) or None


def number(value, column: str, commas: Counter, separator: str | None = None) -> float | None:
    """Cell as a number, None if empty or unknown.

    Args:
        value: The cell.
        column: Its column.
        commas: Counts the numbers with a decimal comma, by column.
        separator: Separator of the table; with a semicolon, a comma is a decimal comma.

    Raises:
        ValueError: not a number.
    """
    text = plain(value)
    if text is None or (is_unknown(text) and text != "-1" and text.casefold() != "nan"):
        return None
    if separator != ";" and THOUSANDS.fullmatch(text):
        plainly = text.replace(",", "")
        raise ValueError(
            f"found '{printable(text)}', expected a number without thousands: write {plainly}, or "
            f"{float(text.replace(',', '.', 1).replace(',', '')):g} if the comma is a decimal one"
        )
    if DECIMAL_COMMA.fullmatch(text):
        commas[column] += 1
        text = text.replace(",", ".")
    try:
        found = float(text) if "_" not in text else math.nan
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise ValueError(f"found '{printable(text)}', expected a number")
    return found


def seconds(value, column: str, commas: Counter, separator: str | None = None) -> float | None:
    """Cell as seconds: a number, a duration such as `0 days 00:00:01.5` or `1:02.5`, or None if empty.

    Raises:
        ValueError: another form.
    """
    if isinstance(value, np.timedelta64 | datetime.timedelta) and not pd.isna(value):
        return pd.Timedelta(value).total_seconds()
    text = plain(value)
    if text and FRAMES.fullmatch(text):
        raise ValueError(
            f"found '{printable(text)}', a timecode with frames, expected seconds or h:min:s: write its frames as a "
            "fraction of a second"
        )
    if text is None or text.casefold() in ("nat", "nan", "none", "end"):
        return None
    if (time := TIME.fullmatch(text)) and any(time.groups()):
        factors = {"days": 86400, "hours": 3600, "minutes": 60, "seconds": 1}
        return sum(factor * float((time[name] or "0").replace(",", ".")) for name, factor in factors.items())
    if unit := WITH_UNIT.fullmatch(text.lower()):
        return float(unit[1].replace(",", ".")) * UNITS[unit[2]]
    return number(value, column, commas, separator)


def part_of_file(row: dict, commas: Counter) -> tuple[float | None, float | None]:
    """Start and end in seconds of a part of a file, each None if not given.

    Raises:
        ValueError: not times, or not in this order.
    """
    start, end, duration = (_seconds_of(row, column, commas) for column in ("start", "end", "duration"))
    if duration is not None and duration <= 0:
        raise ValueError(f"found a duration of {duration:g} seconds, expected one above 0")
    if end is None and duration is not None:
        end = (start or 0.0) + duration
    if (start or 0.0) < 0 or (end is not None and end <= (start or 0.0)):
        raise ValueError(f"found seconds {start} to {end}, expected a start from 0 on and an end after it")
    return start, end


def _seconds_of(row: dict, column: str, commas: Counter) -> float | None:
    """Time of a row in seconds, from its column in seconds or milliseconds."""
    found = seconds(row.get(column), column, commas, row.get(SEPARATOR))
    name = column + MILLISECONDS
    if found is not None or row.get(name) is None:
        return found
    found = seconds(row[name], name, commas, row.get(SEPARATOR))
    has_unit = isinstance(row[name], np.timedelta64 | datetime.timedelta) or not NUMBER.fullmatch(
        plain(row[name]) or ""
    )
    return found if found is None or has_unit else found / 1000


def channel_of(row: dict) -> str | None:
    """Channel of a row, None if not given.

    Raises:
        ValueError: an unknown channel.
    """
    given = (plain(row.get("channel")) or "").lower()
    if given and not is_unknown(given) and given not in CHANNEL_NAMES:
        raise ValueError(f"found the channel '{printable(given)}', expected left, right or mix (or 1, 2)")
    return CHANNEL_NAMES.get(given)


def part_name(part: tuple[float | None, float | None]) -> str:
    """Suffix `@1.5-3` of a part of a file, to the millisecond; empty for a whole file."""
    start, end = part
    if start is None and end is None:
        return ""
    return f"@{round(start or 0.0, 3):.10g}-{'' if end is None else f'{round(end, 3):.10g}'}"


def votes_of(row: dict, commas: Counter) -> dict[str, float] | None:
    """Raters' votes of a row by label, None if there are none.

    Raises:
        ValueError: not counts.
    """
    value = row.get("votes")
    if value is None or value == "":
        spread = {name: cell for name, cell in row.items() if name.startswith(VOTES)}
        mark = row.get(SEPARATOR)
        counts = [
            (name.removeprefix(VOTES), _count(cell, f"column {name}", commas, mark)) for name, cell in spread.items()
        ]
    else:
        counts = _counts_of_object(value, commas)
    votes: dict[str, float] = {}
    for name, count in counts:
        if count is not None:
            votes[normal_name(name)] = votes.get(normal_name(name), 0.0) + count
    return votes if sum(votes.values()) > 0 else None


def _count(cell, where: str, commas: Counter, separator: str | None = None) -> float | None:
    """Number of votes, None if the cell is empty.

    Raises:
        ValueError: not a count.
    """
    try:
        count = number(cell, "votes", commas, separator)
    except ValueError as error:
        percent = " (without the percent sign)" if "%" in str(cell) else ""
        raise ValueError(f"{where}: {error} of votes from 0 on{percent}") from error
    if count is not None and count < 0:
        raise ValueError(f"{where}: found {count:g}, expected a number of votes from 0 on")
    return count


def _counts_of_object(value, commas: Counter) -> list[tuple[str, float | None]]:
    """Counts by label of one cell.

    Raises:
        ValueError: another form.
    """
    try:
        given = json.loads(value, object_pairs_hook=unique_keys) if isinstance(value, str) else dict(value)
        return [(str(name), _count(cell, f"for {name}", commas)) for name, cell in given.items()]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        shown = printable(repr(value) if len(repr(value)) < 200 else f"{repr(value)[:200]} ...")
        why = f" ({error})" if str(error).startswith("for ") else ""
        raise ValueError(
            f'votes are {shown}{why}. Expected an object of counts by label such as {{"angry": 2, "sad": 1}}.'
        ) from error


def majority(votes: dict[str, float] | None) -> str | None:
    """Label with most votes, None for a tie."""
    first, *rest = sorted((votes or {}).items(), key=lambda vote: -vote[1]) or [(None, 0)]
    return None if rest and rest[0][1] == first[1] else first[0]
