"""What the pipeline takes as clips and texts: one or several, of any form, each with its text."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import repeat
from numbers import Real
from pathlib import Path

import numpy as np

from .processing_ser import (
    one_text,
)

KEYS = ("path", "bytes", "array", "raw", "sampling_rate", "start", "end", "channel", "text", "transcript")
"""Of a dictionary that is one clip."""


def part_of(item, start: float | None, end: float | None, channel: str) -> tuple[float | None, float | None, str]:
    """Start, end and channel that a dictionary brings along; what is given for it otherwise holds where it brings none.

    Raises:
        ValueError: a key that is not known, or a time that is no number.
    """
    if not isinstance(item, Mapping):
        return start, end, channel
    if is_row(item):
        if not isinstance(item["audio"], str | Path):  # such as of a data set, whose clips are cut already
            return start, end, channel
    elif unknown := [key for key in item if key not in KEYS]:
        raise ValueError(
            f"{name_of_clip(item)} has the keys {', '.join(map(repr, unknown))}, which are not known. Expected some of "
            f"{', '.join(KEYS)}: rename them, or leave them out."
        )
    times = []
    for key, given in (("start", start), ("end", end)):
        value = item.get(key)
        if value is None or value != value:  # NaN, as pandas writes what is missing
            times.append(given)
        elif isinstance(value, Real) and not isinstance(value, bool):
            times.append(float(value))
        else:
            raise ValueError(
                f"{name_of_clip(item)}: {key} is {value!r}. Expected seconds: give a number, or leave it out."
            )
    return *times, item.get("channel") or channel


def has_rows(source) -> bool:
    """Whether a clip was given as an array of rows of samples, which may be channels or clips."""
    if isinstance(source, Mapping):
        source = source.get("array", source.get("raw"))
    array = next((one for one in source if hasattr(one, "shape")), None) if isinstance(source, tuple) else source
    shape = getattr(array, "shape", ())
    return len(shape) == 2 and 1 < shape[0] < shape[1]


def is_row(item) -> bool:
    """Whether it is a row of a data set, whose clip is one of its columns."""
    return isinstance(item, Mapping) and "audio" in item


def name_of_clip(item) -> str:
    """What messages call a clip."""
    source = item["audio"] if is_row(item) else item
    if isinstance(source, Mapping) and isinstance(source.get("path"), str | Path) and not source.get("bytes"):
        source = source["path"]
    return str(source) if isinstance(source, str | Path) else f"a clip given as {type(source).__name__}"


def text_of(item) -> str | None:
    """The text that a dictionary brings along."""
    if not isinstance(item, Mapping):
        return None
    return one_text(item.get("text") if item.get("text") is not None else item.get("transcript"))


def each_of(inputs) -> Iterable:
    """Several clips one after another; a data set without `__iter__` by number."""
    return inputs if isinstance(inputs, Iterable) else (inputs[i] for i in range(len(inputs)))


def paired(inputs, text, single: bool) -> Iterator[tuple]:
    """Each clip with its text, read one by one."""
    if single and not isinstance(text, list | tuple | np.ndarray):
        text = one_text(text)
    items = [inputs] if single else each_of(inputs)
    if text is None:
        return zip(items, repeat(None), strict=False)
    if isinstance(text, str) is not single:
        found = "one text" if isinstance(text, str) else f"{len(text)} texts in a list"
        raise _uneven("one clip" if single else _counted(items), found)
    texts = [text] if single else text
    if hasattr(items, "__len__") and hasattr(texts, "__len__") and len(items) != len(texts):
        raise _uneven(_counted(items), f"{len(texts)} texts in a list")
    return _strictly(iter(items), iter(texts))


def _strictly(items: Iterator, texts: Iterator) -> Iterator[tuple]:
    missing = object()
    for item in items:
        if (text := next(texts, missing)) is missing:
            raise _uneven("an iterator of more clips", "fewer texts")
        yield item, one_text(text)
    if next(texts, missing) is not missing:
        raise _uneven("an iterator of fewer clips", "more texts")


def _counted(items) -> str:
    return f"a list of {len(items)} clips" if hasattr(items, "__len__") else "an iterator of clips"


def _uneven(clips: str, texts: str) -> ValueError:
    return ValueError(f"{clips} and {texts}: expected one text for one clip, or as many as clips (None where unknown).")
