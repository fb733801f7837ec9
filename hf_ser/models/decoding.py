"""The one decoder: a file, its bytes or an array, at any rate and channel count, to mono float32 at 16 kHz.

Preparing a corpus, the pipeline and scripts/predict.py all pass `read_audio`, so that a model is used on the audio that
it was trained on. A file is read in blocks, mixed and resampled as it goes: memory follows the seconds that are kept,
not the size, rate or channel count of the file, nor the length that its header promises.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .samples import SAMPLING_RATE, on_grid, resampling_stream
from .source_kinds import ArraySource, is_cut_off, plain_source
from .streams import (
    BLOCK_VALUES,
    CHANNELS,
    LEFT,
    MIX,
    RIGHT,
    SLIGHTLY_OVER,
    Measured,
    Mixer,
    check_form,
    opened,
    peak_of,
    readable,
    scale_of,
)

LONGEST_SECONDS = 3 * 3600
"""More at a time is no clip: an hour at 16 kHz takes 230 MB."""


@dataclass(frozen=True)
class Audio:
    """What was read, and what its source was.

    Args:
        samples: Mono, within -1 and 1, on the 24-bit grid.
        rate, channels, subtype: Of the source; the subtype as soundfile names it, such as `PCM_16`.
        frames: Frames of the source that were read.
        source_seconds: Length of the source or of the part as promised; None where nothing tells it.
        channels_equal: Whether all channels hold the same.
        peak: Largest absolute value of a source of floats, as it is stored; 0 for integers.
        scale: What the samples were divided by.
        channel: The channel that was kept where all of them together cancel, counted from 1; None where they do not.
        cut_short: Whether the source ends before it says.
        complete: Whether all was read, not only the first `max_seconds`.
        header_note: What the header of the source says wrongly; None where nothing was found.

    Shapes:
        samples: `(samples,)` float32.
    """

    samples: np.ndarray
    rate: float
    channels: int
    subtype: str
    frames: int
    source_seconds: float | None
    channels_equal: bool
    peak: float = 0.0
    scale: float = 1.0
    channel: int | None = None
    cut_short: bool = False
    complete: bool = True
    header_note: str | None = None


def decode_audio(
    source, sampling_rate: int = SAMPLING_RATE, channel: str = MIX, max_seconds: float | None = None
) -> np.ndarray:
    """Decode to mono at `sampling_rate`, as `read_audio` does, without what the source was.

    Shapes:
        returns `(samples,)` float32.
    """
    return read_audio(source, sampling_rate, channel=channel, max_seconds=max_seconds).samples


def read_audio(
    source,
    sampling_rate: int = SAMPLING_RATE,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    channel: str = MIX,
    max_seconds: float | None = None,
) -> Audio:
    """Decode a source, or a part of it, to mono at `sampling_rate`.

    Floats are taken as full scale 1. Slight overs (to 2, as lossy formats and mixing give) are held at full scale. What
    reaches 64 is divided by its peak, what reaches the size of 16-bit integers by 32768; more is refused, for nothing
    tells its scale. Of a file of floats the whole of it decides, whichever part is read.

    Args:
        source: Path, bytes, binary file object, or a dictionary holding `bytes` or `path` (a `datasets` audio cell) or
            `array`/`raw` with `sampling_rate`; `(rate, array)`; or a decoder of torchcodec. WAV, FLAC, OGG and MP3 are
            read by soundfile, without ffmpeg.
        sampling_rate: Hz of the result.
        start_seconds, end_seconds: The part; None is the beginning or the end of the source. Of a part that ends
            beyond the source, what is there is read.
        channel: `mix` is the mean of all channels (in seconds in which they cancel, a loud one of them), else `left`
            or `right`.
        max_seconds: Read only the beginning.

    Raises:
        FileNotFoundError: the path does not exist.
        ValueError: no audio that soundfile reads, of no known scale, of an absurd rate or channel count, too long, or
            the part or the channel is not one of this source.
    """
    if channel not in CHANNELS:
        raise ValueError(f"channel is {channel!r}: expected {', '.join(CHANNELS[:-1])} or {CHANNELS[-1]}.")
    source, named = plain_source(source)
    wanted = _Wanted(sampling_rate, start_seconds, end_seconds, max_seconds, named)
    with readable(named):
        return _read(source, wanted, (LEFT, RIGHT).index(channel) if channel != MIX else None)


def audio_blocks(source, sampling_rate: int = SAMPLING_RATE, channel: str = MIX) -> Iterator[np.ndarray]:
    """Yield what `read_audio` returns of a whole source block by block, whatever its length.

    Args:
        source, sampling_rate, channel: As `read_audio` takes them.

    Shapes:
        each `(samples,)` float32; a block may be empty.

    Raises:
        FileNotFoundError, ValueError: as `read_audio`, but for the length; also in the middle of a damaged file.
    """
    if channel not in CHANNELS:
        raise ValueError(f"channel is {channel!r}: expected {', '.join(CHANNELS[:-1])} or {CHANNELS[-1]}.")
    source, named = plain_source(source)
    index = (LEFT, RIGHT).index(channel) if channel != MIX else None
    with readable(named), opened(source, named) as stream:
        check_form(stream, named, index)
        scale = np.float32(scale_of(peak_of(source, named) if stream.floats else 0.0, named))
        mixer, same_rate = Mixer(stream, index), stream.samplerate == sampling_rate
        resampler = None if same_rate else resampling_stream(stream.samplerate, sampling_rate)
        for block in mixer.stretches(stream.blocks(0, stream.length)):
            mixer.decide(block)
            signal = mixer.one_channel(block)
            if resampler is not None:
                signal = resampler.resample_chunk(np.asarray(signal, dtype=np.float64))
            yield on_grid(np.asarray(signal, dtype=np.float32) / scale)
        if resampler is not None:
            rest = resampler.resample_chunk(np.zeros(0), last=True)
            yield on_grid(rest.astype(np.float32) / scale)


def source_form(source) -> tuple[float | None, int]:
    """Seconds that a source promises to hold, None where it is not known, and its channels.

    Raises:
        FileNotFoundError, ValueError: as `read_audio`.
    """
    source, named = plain_source(source)
    with readable(named), opened(source, named) as stream:
        check_form(stream, named, None)
        return (None if stream.length == np.inf else stream.length / stream.samplerate), stream.channels


@dataclass(frozen=True)
class _Wanted:
    rate: int
    start: float | None
    end: float | None
    max_seconds: float | None
    named: str

    def frames_of(self, rate: float, frames: float) -> tuple[int, float]:
        """First frame of the part, and the frame after its last: infinite where nothing tells the length."""
        if self.start is None and self.end is None:
            return 0, frames
        start, end, seconds = self.start or 0.0, np.inf if self.end is None else self.end, frames / rate
        if not (0 <= start < end and start < seconds):
            raise ValueError(self.not_there(f"{seconds:g} s"))
        last = min(end, seconds)
        return round(start * rate), round(last * rate) if np.isfinite(last) else np.inf

    def not_there(self, length: str) -> str:
        start, end = self.start or 0.0, np.inf if self.end is None else self.end
        return (
            f"{self.named}: a part from {start:g} to {end:g} s was requested, of a file of {length}. Expected a start "
            "in the file and before the end: mend the start and end that were given."
        )


def _read(source, wanted: _Wanted, channel: int | None) -> Audio:
    with opened(source, wanted.named) as stream:
        check_form(stream, wanted.named, channel)
        first, last = wanted.frames_of(stream.samplerate, stream.length)
        buffer, measured, mixer = _Buffer(stream.samplerate, wanted), Measured(stream), Mixer(stream, channel)
        most = np.inf if wanted.max_seconds is None else int(np.ceil(wanted.max_seconds * stream.samplerate))
        kept = None
        for block in mixer.stretches(stream.blocks(first, last)):
            mixer.decide(block)
            if measured.frames < most:  # the resampler may want some more
                kept = mixer.kept if mixer.cancels else kept
                measured.add(block[: int(min(len(block), most - measured.frames))])
            buffer.add(mixer.one_channel(block))
            if buffer.full:
                break
        if first and not measured.frames:
            raise ValueError(wanted.not_there("less, whatever its header says"))
        peak = measured.peak
        partly = first or last < stream.length or buffer.full
        if stream.floats and partly and (stream.subtype in ("FLOAT", "DOUBLE") or peak > SLIGHTLY_OVER):
            peak = max(peak, peak_of(source, wanted.named))  # a quiet part must not be taken for another scale
        scale = scale_of(peak, wanted.named)
        seconds = None if last == np.inf else (last - first) / stream.samplerate
        exact = stream.exact and stream.samplerate == wanted.rate and (stream.channels == 1 or channel is not None)
        return Audio(
            samples=buffer.samples(scale, exact),
            rate=stream.samplerate,
            channels=stream.channels,
            subtype=stream.subtype,
            frames=measured.frames,
            source_seconds=seconds,
            channels_equal=measured.equal,
            peak=peak,
            scale=scale,
            cut_short=not buffer.full and _ends_early(source, wanted, stream, measured.frames, last - first),
            complete=not buffer.full or measured.frames == last - first,
            channel=kept,
            header_note=getattr(stream, "header_note", None),
        )


def _ends_early(source, wanted: _Wanted, stream, frames: int, promised: float) -> bool:
    """A part that is there whole does not suffer from what its file has lost."""
    if frames < promised < np.inf:
        return True
    last_frame = None if wanted.end is None else round(wanted.end * stream.samplerate)
    whole = last_frame is not None and frames == last_frame - round((wanted.start or 0.0) * stream.samplerate)
    return not whole and not isinstance(source, ArraySource) and is_cut_off(source)


class _Buffer:
    """Samples at the wanted rate, as many as are wanted."""

    def __init__(self, rate: float, wanted: _Wanted):
        self.resampler = None if rate == wanted.rate else resampling_stream(rate, wanted.rate)
        self.most = None if wanted.max_seconds is None else int(wanted.max_seconds * wanted.rate)
        self.longest, self.named, self.content = LONGEST_SECONDS * wanted.rate, wanted.named, bytearray()

    def add(self, signal: np.ndarray, last: bool = False) -> None:
        if self.resampler is not None:
            signal = self.resampler.resample_chunk(np.asarray(signal, dtype=np.float64), last=last)
        self.content += np.ascontiguousarray(signal, dtype=np.float32).data.cast("B") if len(signal) else b""
        if len(self.content) > 4 * self.longest:
            raise ValueError(
                f"{self.named}: longer than {LONGEST_SECONDS // 3600} hours. Expected one utterance: cut it, or "
                "give the start and end of each."
            )

    @property
    def full(self) -> bool:
        return self.most is not None and len(self.content) >= 4 * self.most

    def samples(self, scale: float, exact: bool) -> np.ndarray:
        """What was kept, on the 24-bit grid; `exact` where it is on it already."""
        if self.resampler is not None and not self.full:
            self.add(np.zeros(0), last=True)
        # Mind the order: a bytearray that an array looks at cannot grow any more.
        samples = np.frombuffer(self.content, dtype=np.float32)[: self.most]
        for start in range(0, 0 if exact else len(samples), BLOCK_VALUES):
            part = samples[start : start + BLOCK_VALUES]
            part[:] = on_grid(part / np.float32(scale))
        return samples
