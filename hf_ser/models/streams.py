"""A source that is read forward, block by block, and its channels made into one."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile as sf

from .config_checks import HIGHEST_RATE, LOWEST_RATE
from .opening import opened_source
from .samples import SILENT_DBFS
from .source_kinds import ArraySource, content_hint, foreign_format

CHANNELS = ("mix", "left", "right")

MIX, LEFT, RIGHT = CHANNELS
"""What is made of several channels: their mean, or one of them (the first, the second)."""

MOST_CHANNELS = 64

BLOCK_VALUES = 2**15

UNKNOWN_FRAMES = 2**47
"""A header that promises more than 90 years at 48 kHz, or nothing, comes from a pipe: the length is not known."""

CANCELLED = 0.01
"""Share of the channels' power under which their mean is no use: a microphone wired the wrong way round cancels the
other. Channels that have nothing in common leave 1 / channels."""

STRETCH_SECONDS, STRETCH_VALUES = 1.0, 2**20
"""Of what length it is decided whether channels cancel; less where there are many, which would take memory."""

SLIGHTLY_OVER, LEAST_OF_16_BITS, SHORTS = 2.0, 64.0, 2.0**15


@contextmanager
def readable(named: str) -> Iterator[None]:
    """Turn what libraries raise into an error that names the source."""
    try:
        yield
    except MemoryError as error:
        raise ValueError(
            f"{named}: more audio than the memory holds. Expected one utterance: cut it, or give start and end."
        ) from error
    except (sf.SoundFileError, TypeError, OverflowError) as error:
        # libsndfile's own message, without the address of a BytesIO: the same file must give the same message.
        why = getattr(error, "error_string", error)
        if "SF_INFO struct incomplete" in str(why):
            raise ValueError(
                f"{named}: its header says 0 Hz or 0 channels. Expected a sampling rate of {LOWEST_RATE} to "
                f"{HIGHEST_RATE} Hz and a channel or more: the header is damaged; copy it anew, or mend the rate."
            ) from error
        raise ValueError(not_readable(named, why)) from error


def not_readable(named: str, why: object, hint: str = "") -> str:
    """The refusal of what soundfile cannot read."""
    return (
        f"{named}: not readable as audio ({why}). Expected WAV, FLAC, OGG or MP3; convert it, or check that it was "
        f"copied whole{hint}."
    )


@contextmanager
def opened(source, named: str):
    if isinstance(source, ArraySource):
        yield source
        return
    if kind := foreign_format(source):
        raise ValueError(
            f"{named}: not readable as audio (this is {kind}, whatever its name says). Expected WAV, FLAC, OGG or MP3; "
            "convert it, such as with: ffmpeg -i IN OUT.flac."
        )
    with opened_source(source) as (content, note), _sound_file(source, content, named) as file:
        yield _FileStream(file, note)


def _sound_file(source, content, named: str) -> sf.SoundFile:
    try:
        return sf.SoundFile(content)
    except sf.SoundFileError as error:
        if hint := content_hint(source):
            why = getattr(error, "error_string", error)
            raise ValueError(not_readable(named, why, f": {hint}")) from error
        raise


class _FileStream:
    """A file that is read forward. Its `length` is infinite where nothing tells it."""

    def __init__(self, file: sf.SoundFile, header_note: str | None = None):
        self.header_note = header_note
        self.file, self.samplerate, self.channels, self.subtype = file, file.samplerate, file.channels, file.subtype
        self.length = file.frames if file.frames < UNKNOWN_FRAMES else np.inf
        self.exact = file.subtype in ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24")
        self.floats = file.subtype.startswith(("FLOAT", "DOUBLE", "VORBIS", "OPUS", "MPEG"))

    def blocks(self, first: int, last: float) -> Iterator[np.ndarray]:
        """Shapes: `(frames, channels)` float32."""
        skip = first
        if self.file.seekable():
            if first:
                self.file.seek(first)
            skip = 0
            # soundfile would seek after every block, which costs time and fails where the header has a wrong length.
            self.file.seekable = lambda: False
        todo, most = last - first + skip, max(1, BLOCK_VALUES // self.channels)
        while todo > 0:
            block = self.file.read(int(min(most, todo)), dtype="float32", always_2d=True)
            if not len(block):
                return
            todo -= len(block)
            if skip:  # GSM 6.10, for one, cannot be sought in
                block, skip = block[skip:], max(0, skip - len(block))
            yield block


def check_form(stream, named: str, channel: int | None) -> None:
    if not LOWEST_RATE <= stream.samplerate <= HIGHEST_RATE:
        raise ValueError(
            f"{named}: the sampling rate is {stream.samplerate:.10g} Hz. Expected {LOWEST_RATE} to {HIGHEST_RATE}: its "
            "header is damaged, or the rate was given in another unit; mend it."
        )
    if stream.channels > MOST_CHANNELS:
        raise ValueError(
            f"{named}: {stream.channels} channels. Expected {MOST_CHANNELS} at most: its header is damaged, or the "
            "array is no recording; mend it."
        )
    if channel is not None and channel >= stream.channels:
        raise ValueError(
            f"{named}: the {(LEFT, RIGHT)[channel]} channel was requested and it has {stream.channels}. Expected "
            "more: ask for left or mix."
        )


class Mixer:
    """Makes one channel of several: their mean, and in stretches in which they cancel one of them.

    It is decided in stretches of one length, each by itself and what was before: so the beginning of a file is the same
    whether all of it is read, as in preparing, or only the first seconds, as a model takes them.

    Args:
        stream: What is read.
        channel: The one that is wanted, counted from 0; None is the mean.

    Attributes:
        kept: The channel in place of the mean where they cancel, counted from 1; None where they do not.
    """

    def __init__(self, stream, channel: int | None):
        self.channel, self.kept, self.cancels = channel, None, False
        self.is_mixed = channel is None and stream.channels > 1
        self.frames = max(1, min(round(STRETCH_SECONDS * stream.samplerate), STRETCH_VALUES // stream.channels))

    def stretches(self, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """The same frames in blocks of one length where channels are mixed. Shapes: `(frames, channels)`."""
        if not self.is_mixed:
            yield from blocks
            return
        waiting, count = [], 0
        for block in blocks:
            while count + len(block) >= self.frames:
                head, block = np.split(block, [self.frames - count])
                yield np.concatenate([*waiting, head])
                waiting, count = [], 0
            waiting.append(block)
            count += len(block)
        if count:
            yield np.concatenate(waiting)

    def decide(self, block: np.ndarray) -> None:
        """Find out whether the channels of a stretch cancel."""
        self.cancels = False
        if not self.is_mixed or not len(block) or _are_equal(block):
            return
        powers = np.array([np.dot(column, column) for column in block.T], dtype=np.float64)
        mean, mixed = powers.mean(), _mean_of_channels(block)
        is_silent = not mean / len(block) > 10 ** (SILENT_DBFS / 10)
        self.cancels = not is_silent and float(np.dot(mixed, mixed)) < CANCELLED * mean
        if self.cancels and (self.kept is None or powers[self.kept - 1] < powers.max() / 2):
            self.kept = int(powers.argmax()) + 1

    def one_channel(self, block: np.ndarray) -> np.ndarray:
        """One channel of a stretch, `(frames,)`."""
        if block.shape[1] == 1 or self.channel is not None:
            return block[:, self.channel or 0]
        return block[:, self.kept - 1] if self.cancels else _mean_of_channels(block)


def _mean_of_channels(block: np.ndarray) -> np.ndarray:
    total = block[:, 0].copy()
    for other in block.T[1:]:  # many times faster than the mean over a short axis
        total += other
    return total / np.float32(block.shape[1])


def _are_equal(block: np.ndarray) -> bool:
    return all(np.array_equal(block[:, 0], other) for other in block.T[1:])


class Measured:
    """The properties of a source beside its samples, collected block by block."""

    def __init__(self, stream):
        self.floats, self.frames, self.peak, self.equal = stream.floats, 0, 0.0, True

    def add(self, block: np.ndarray) -> None:
        self.frames += len(block)
        if self.floats and len(block):
            highest, lowest = float(block.max()), float(block.min())
            if not np.isfinite(highest - lowest):
                known = block[np.isfinite(block)]
                highest, lowest = known.max(initial=0.0), known.min(initial=0.0)
            self.peak = max(self.peak, float(highest), -float(lowest))
        self.equal = self.equal and _are_equal(block)


def scale_of(peak: float, named: str) -> float:
    """What floats of this peak are divided by, so that full scale is 1.

    Raises:
        ValueError: nothing tells their scale.
    """
    if peak <= SLIGHTLY_OVER:
        return 1.0
    if peak <= LEAST_OF_16_BITS:
        return peak
    if peak <= SLIGHTLY_OVER * SHORTS:
        return SHORTS
    raise ValueError(
        f"{named}: float samples reach {peak:g}. Expected -1 to 1, or the size of 16-bit integers (to 32768): which "
        "scale they have is not known; divide them by their full scale."
    )


def peak_of(source, named: str) -> float:
    """The peak of a whole source of floats, of which only a part was requested."""
    if isinstance(source, str | Path):
        status = Path(source).stat()
        return _peak_of_file(str(source), status.st_size, status.st_mtime_ns)
    with opened(source, named) as stream:
        return _peak_of_stream(stream)


@lru_cache(maxsize=1024)
def _peak_of_file(path: str, size: int, changed: int) -> float:
    with opened(path, path) as stream:
        return _peak_of_stream(stream)


def _peak_of_stream(stream) -> float:
    measured = Measured(stream)
    for block in stream.blocks(0, stream.length):
        measured.add(block.reshape(-1, 1))
    return measured.peak
