"""The one decoder: a file, its bytes or an array, at any rate and channel count, to mono float32 at 16 kHz.

Preparing a corpus, the pipeline and scripts/predict.py all pass `read_audio`, so that a model is used on the audio that
it was trained on. A file is read in blocks, mixed and resampled as it goes: memory follows the seconds that are kept,
not the size, rate or channel count of the file, nor the length that its header promises.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile as sf

from .config_checks import HIGHEST_RATE, LOWEST_RATE
from .libraries import soxr
from .opening import opened_source
from .source_kinds import ArraySource, content_hint, foreign_format, is_cut_off, plain_source

SAMPLING_RATE = 16_000

# python-soxr at its highest quality, in double precision. Measured with sines into 16 kHz, beside torchaudio with the
# "kaiser_best" values that were used before: at 7 kHz both 0.00 dB; at 7.3 kHz 0.00 against -0.21 dB, at 7.5 kHz -0.32
# against -2.97; what is left of 9 kHz is under -191 dB (24, 44.1 and 48 kHz) against -118 to -154, of 8.2 kHz under
# -179 against -118. 3.7 s at 48 kHz take 1.4 ms against 13.4 (HQ in single precision: 0.9 ms, -130 dB at 8.2 kHz).
# Double precision leaves a rounding of 1e-16, a billionth of the 24-bit grid: processors that round otherwise still
# give the same samples. A stream's samples do not depend on its blocks, so a part that is read first is that of all.
QUALITY = "VHQ"

RESAMPLING = {
    "lowpass_filter_width": 64,
    "rolloff": 0.9475937167399596,
    "resampling_method": "sinc_interp_kaiser",
    "beta": 14.769656459379492,
}
"""Of torchaudio's resampling, with which changes of clips in training and stress tests shift pitch and speed."""

FULL_SCALE = 2**23
"""Samples lie on a 24-bit grid: finer than any recording, and what FLAC holds exactly."""

CHANNELS = ("mix", "left", "right")
MIX, LEFT, RIGHT = CHANNELS
"""What is made of several channels: their mean, or one of them (the first, the second)."""

MOST_CHANNELS = 64
LONGEST_SECONDS = 3 * 3600
"""More at a time is no clip: an hour at 16 kHz takes 230 MB."""

BLOCK_VALUES = 2**15
UNKNOWN_FRAMES = 2**47
"""A header that promises more than 90 years at 48 kHz, or nothing, comes from a pipe: the length is not known."""

CANCELLED = 0.01
"""Share of the channels' power under which their mean is no use: a microphone wired the wrong way round cancels the
other. Channels that have nothing in common leave 1 / channels."""

STRETCH_SECONDS, STRETCH_VALUES = 1.0, 2**20
"""Of what length it is decided whether channels cancel; less where there are many, which would take memory."""

SLIGHTLY_OVER, LEAST_OF_16_BITS, SHORTS = 2.0, 64.0, 2.0**15

MIN_SECONDS, SILENT_DBFS = 0.1, -90.0
PROBLEMS = {
    "empty": "no samples",
    "not_finite": "NaN or infinity",
    "too_short": "a clip that is too short",
    "silent": "silence",
}
"""Kinds of `audio_problem`, as messages name them."""


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
    with readable(named), _opened(source, named) as stream:
        _check_form(stream, named, index)
        scale = np.float32(scale_of(_peak_of(source, named) if stream.floats else 0.0, named))
        mixer, same_rate = _Mixer(stream, index), stream.samplerate == sampling_rate
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
    with readable(named), _opened(source, named) as stream:
        _check_form(stream, named, None)
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


def _read(source, wanted: _Wanted, channel: int | None) -> Audio:
    with _opened(source, wanted.named) as stream:
        _check_form(stream, wanted.named, channel)
        first, last = wanted.frames_of(stream.samplerate, stream.length)
        buffer, measured, mixer = _Buffer(stream.samplerate, wanted), _Measured(stream), _Mixer(stream, channel)
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
            peak = max(peak, _peak_of(source, wanted.named))  # a quiet part must not be taken for another scale
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


@contextmanager
def _opened(source, named: str):
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


def _check_form(stream, named: str, channel: int | None) -> None:
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


class _Mixer:
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


class _Measured:
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


def resampling_stream(rate: float, new_rate: float) -> "soxr.ResampleStream":
    """A resampler of one channel, of `QUALITY`, that takes float64 in blocks."""
    return soxr.ResampleStream(rate, new_rate, 1, dtype="float64", quality=QUALITY)


def resample(samples: np.ndarray, rate: float, new_rate: float) -> np.ndarray:
    """Samples at one rate brought to another, whatever their scale.

    Shapes:
        `(samples,)` float32 in and out.
    """
    if rate == new_rate or not len(samples):
        return np.asarray(samples, dtype=np.float32)
    signal = resampling_stream(rate, new_rate).resample_chunk(np.asarray(samples, dtype=np.float64), last=True)
    return signal.astype(np.float32)


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


@lru_cache(maxsize=1024)
def _peak_of_file(path: str, size: int, changed: int) -> float:
    with _opened(path, path) as stream:
        return _peak_of_stream(stream)


def _peak_of(source, named: str) -> float:
    """The peak of a whole source of floats, of which only a part was requested."""
    if isinstance(source, str | Path):
        status = Path(source).stat()
        return _peak_of_file(str(source), status.st_size, status.st_mtime_ns)
    with _opened(source, named) as stream:
        return _peak_of_stream(stream)


def _peak_of_stream(stream) -> float:
    measured = _Measured(stream)
    for block in stream.blocks(0, stream.length):
        measured.add(block.reshape(-1, 1))
    return measured.peak


def on_grid(samples: np.ndarray) -> np.ndarray:
    """Round to the 24-bit grid; what is beyond full scale is held there. NaN and infinity become NaN."""
    return grid_steps(samples) / np.float32(FULL_SCALE)


def grid_steps(samples: np.ndarray) -> np.ndarray:
    """Whole steps of the 24-bit grid as float32, held at full scale; NaN for what is no number."""
    # A power of two only moves the exponent, and whole numbers up to 2**24 are exact in float32.
    steps = np.rint(np.asarray(samples, dtype=np.float32) * np.float32(FULL_SCALE))
    if not np.isfinite(steps).all():
        steps = np.where(np.isfinite(steps), steps, np.float32(np.nan))
    return np.clip(steps, -FULL_SCALE, FULL_SCALE - 1, out=steps)


def audio_problem(samples: np.ndarray, sampling_rate: int = SAMPLING_RATE) -> tuple[str, str] | None:
    """What keeps samples out of a data set and out of a model: a kind of `PROBLEMS` and the detail; None where nothing.

    One rule for scripts/prepare_data.py, scripts/predict.py and the pipeline.
    """
    if not len(samples):
        return "empty", "no samples"
    power, mean = power_and_mean(samples)
    if not np.isfinite(power):
        return "not_finite", f"{int((~np.isfinite(samples)).sum())} samples are NaN or infinite"
    seconds = len(samples) / sampling_rate
    if seconds < MIN_SECONDS:
        return "too_short", f"{seconds:.3f} s, at least {MIN_SECONDS} s are needed"
    level = decibels(power)
    if level < SILENT_DBFS:
        return "silent", f"level {level:.1f} dBFS" if power else "all samples are 0"
    if decibels(max(0.0, power - mean**2)) < SILENT_DBFS:
        return "silent", f"a constant of {mean:.3g} and nothing else"
    return None


def power_and_mean(samples: np.ndarray) -> tuple[float, float]:
    """Mean square and mean, in double precision, without a copy of a long clip."""
    power = total = 0.0
    for start in range(0, len(samples), 2**20):
        part = np.asarray(samples[start : start + 2**20], dtype=np.float64)
        power, total = power + float(np.square(part).sum()), total + float(part.sum())
    return power / max(1, len(samples)), total / max(1, len(samples))


def decibels(power: float) -> float:
    """A mean square in dB under full scale; minus infinity for digital silence."""
    return 10 * float(np.log10(power)) if power > 0 else float("-inf")
