"""What the pipeline takes as clips and texts: one or several, of any form, each with its text."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import repeat
from numbers import Real
from pathlib import Path

import numpy as np
from transformers import Pipeline

from .processing_ser import one_text

KEYS = ("path", "bytes", "array", "raw", "sampling_rate", "start", "end", "channel", "text", "transcript")
"""Of a dictionary that is one clip."""


@dataclass(frozen=True)
class ReadClip:
    """A clip as a model gets it.

    Args:
        samples: `(samples,)` float32 at the model's rate; None where there is no audio.
        text: The transcript; None where it is not known.
        context: The turns of the dialogue before it.
        notes: What a person should know of it, by kind.
        transcript: The text, where a recogniser gave it.
    """

    samples: np.ndarray | None
    text: str | None
    context: list[str] | None
    notes: dict[str, str]
    transcript: str | None = None

    @property
    def length(self) -> tuple[int, int]:
        """Samples and characters, by which clips are put into batches."""
        return 0 if self.samples is None else len(self.samples), len(self.text or "")


def transcript_of(samples: np.ndarray, rate: int, transcribe: Callable, named: str) -> str:
    """The text that a recogniser gives for a clip.

    Args:
        samples: `(samples,)` float32.
        rate: Of the samples.
        transcribe: A function of the samples, or a pipeline of transformers, which is given the rate too.
        named: The clip in messages.

    Raises:
        ValueError: it fails, or gives no text.
    """
    try:
        given = transcribe({"raw": samples, "sampling_rate": rate} if isinstance(transcribe, Pipeline) else samples)
    except Exception as error:  # whatever a recogniser may raise does not name the clip
        raise ValueError(
            f"{named}: transcribe failed ({type(error).__name__}: {error}). Expected a recogniser that takes "
            f"{len(samples) / rate:.1f} s of samples: mend it or its settings, or give the text of this clip."
        ) from error
    text = given.get("text") if isinstance(given, Mapping) else given
    if not isinstance(text, str):
        raise ValueError(
            f"{named}: transcribe returned {str(given)[:100]!r} ({type(given).__name__}). Expected a text, or a "
            "dictionary with one as `text`: wrap the recogniser in a function."
        )
    return one_text(text).strip()


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
