"""The one decoder: a file, its bytes or an array, at any rate and channel count, to mono float32 at 16 kHz."""

from fractions import Fraction
from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile as sf
import torch

from .libraries import audio_functional

SAMPLING_RATE = 16_000

# torchaudio's default filter is 1.8 dB down at 7 kHz and lets a sine of 9 kHz through at -17 dB; these values, from its
# documentation ("kaiser_best"), keep 7 kHz whole and hold 8.2 kHz and above under -57 dB (sines at 48 kHz).
RESAMPLING = {
    "lowpass_filter_width": 64,
    "rolloff": 0.9475937167399596,
    "resampling_method": "sinc_interp_kaiser",
    "beta": 14.769656459379492,
}


def decode_audio(source, sampling_rate: int = SAMPLING_RATE) -> np.ndarray:
    """Decode to mono at `sampling_rate`.

    Args:
        source: Path, bytes, binary file object, or a dictionary holding `bytes` or `path` (a `datasets` audio cell) or
            `array`/`raw` with `sampling_rate`. WAV, FLAC, OGG and MP3 are read by soundfile, without ffmpeg.
        sampling_rate: Hz of the result.

    Shapes:
        returns `(samples,)` float32; several channels are averaged.

    Raises:
        FileNotFoundError: the path does not exist.
        ValueError: the data is no audio that soundfile reads, an array has no rate or more than two axes.
    """
    if isinstance(source, dict):
        array = source.get("array", source.get("raw"))
        if array is not None and source.get("sampling_rate"):
            return _mono_at(np.asarray(array), source["sampling_rate"], sampling_rate)
        source = np.asarray(array) if array is not None else source.get("bytes") or source.get("path")
    if isinstance(source, np.ndarray | torch.Tensor):
        raise ValueError(
            f"An array of shape {tuple(source.shape)} was given without its sampling rate. Expected a dictionary: pass "
            '{"array": array, "sampling_rate": rate_in_hz}.'
        )
    if not isinstance(source, str | Path | bytes | BytesIO) and not hasattr(source, "read"):
        raise ValueError(
            f"Cannot decode {type(source).__name__}: expected a path, bytes, a binary file object or a dictionary with "
            "bytes, path, or array and sampling_rate."
        )
    signal, rate, _ = read_file(source)
    return _mono_at(signal.mean(axis=1), rate, sampling_rate)


def read_file(
    source, start_seconds: float | None = None, end_seconds: float | None = None
) -> tuple[np.ndarray, int, str]:
    """Read a file, or only a part of it, as it is stored.

    Args:
        source: Path, bytes or binary file object.
        start_seconds, end_seconds: The part; None is the beginning or the end of the file. Of a part that ends beyond
            the file, what is there is read.

    Returns:
        The signal, its sampling rate in Hz, and the subtype as soundfile names it, such as `PCM_16`.

    Shapes:
        signal: `(samples, channels)` float32.

    Raises:
        FileNotFoundError: the path does not exist.
        ValueError: no audio that soundfile reads, or the part is not one of this file.
    """
    named = source if isinstance(source, str | Path) else f"{type(source).__name__} given"
    if isinstance(source, str | Path) and not Path(source).is_file():
        raise FileNotFoundError(f"{source}: no such file. Expected an audio file (WAV, FLAC, OGG or MP3).")
    try:
        with sf.SoundFile(BytesIO(source) if isinstance(source, bytes) else source) as file:
            first, last = _frames_of(file, start_seconds, end_seconds, named)
            if file.seekable():
                file.seek(first)
                signal = file.read(last - first, dtype="float32", always_2d=True)
            else:  # GSM 6.10, for one
                signal = file.read(last, dtype="float32", always_2d=True)[first:]
            return signal, file.samplerate, file.subtype
    except (sf.LibsndfileError, TypeError) as error:
        # libsndfile's own words, without the address of a BytesIO: the same file must be told in the same words.
        why = getattr(error, "error_string", error)
        raise ValueError(
            f"{named}: not readable as audio ({why}). Expected WAV, FLAC, OGG or MP3; convert it, or check that it "
            "was copied whole."
        ) from error


def _frames_of(file: sf.SoundFile, start: float | None, end: float | None, named) -> tuple[int, int]:
    """First frame of a part given in seconds, and the frame after its last."""
    if start is None and end is None:
        return 0, file.frames
    start, end, seconds = start or 0.0, np.inf if end is None else end, file.frames / file.samplerate
    if not (0 <= start < end and start < seconds):
        raise ValueError(
            f"{named}: a part from {start:g} to {end:g} s was asked for, of a file of {seconds:g} s. Expected a start "
            "in the file and before the end: mend the start and end that were given."
        )
    return round(start * file.samplerate), round(min(end, seconds) * file.samplerate)


def _mono_at(signal: np.ndarray, rate: int, sampling_rate: int) -> np.ndarray:
    if signal.dtype in (np.int64, np.uint64):
        raise ValueError(
            "Audio is given as 64-bit integers, which no recording is: whether they are 16-bit samples is not known. "
            "Expected floats from -1 to 1, or samples as int16, int32 or uint8: convert it, as array.astype('int16')."
        )
    if np.issubdtype(signal.dtype, np.integer):
        limits = np.iinfo(signal.dtype)
        middle = (limits.max + limits.min + 1) // 2  # 0, but 128 in unsigned 8-bit
        signal = (signal.astype(np.float64) - middle) / (limits.max - middle + 1)
    signal = np.asarray(signal, dtype=np.float32)
    if signal.ndim == 2:
        # soundfile gives (samples, channels), torch code (channels, samples): no clip has more channels than samples.
        signal = signal.mean(axis=1 if signal.shape[0] >= signal.shape[1] else 0)
    if signal.ndim != 1:
        raise ValueError(f"Audio has shape {signal.shape}: expected (samples,) or (samples, channels).")
    if rate <= 0:
        raise ValueError(f"The sampling rate is {rate}: expected samples a second, such as 16000.")
    if rate != sampling_rate and len(signal):
        # A rate such as the 24,414 Hz of TESS shares no large factor with 16,000: for every clip torchaudio would build
        # 400 MB of filters. The nearest ratio of small numbers is exact for usual rates, else within a millionth.
        ratio = (Fraction(float(rate)) / sampling_rate).limit_denominator(1000)
        signal = torch.from_numpy(np.ascontiguousarray(signal))
        signal = audio_functional.resample(signal, ratio.numerator, ratio.denominator, **RESAMPLING).numpy()
    return np.ascontiguousarray(signal, dtype=np.float32)
