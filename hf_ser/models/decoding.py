"""The one decoder: a file, its bytes or an array, at any rate and channel count, to mono float32 at 16 kHz."""

from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from torchaudio.functional import resample

SAMPLING_RATE = 16_000


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
        if "sampling_rate" in source and ("array" in source or "raw" in source):
            array = source["array"] if "array" in source else source["raw"]
            return _mono_at(np.asarray(array), source["sampling_rate"], sampling_rate)
        source = source.get("bytes") or source.get("path")
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
    signal, rate = _read(source)
    return _mono_at(signal, rate, sampling_rate)


def _read(source) -> tuple[np.ndarray, int]:
    named = source if isinstance(source, str | Path) else f"{type(source).__name__} given"
    if isinstance(source, str | Path) and not Path(source).is_file():
        raise FileNotFoundError(f"{source}: no such file. Expected an audio file (WAV, FLAC, OGG or MP3).")
    try:
        return sf.read(BytesIO(source) if isinstance(source, bytes) else source, dtype="float32")
    except (sf.LibsndfileError, TypeError) as error:
        raise ValueError(
            f"{named}: not readable as audio ({error}). Expected WAV, FLAC, OGG or MP3; convert it, or check that it "
            "was copied whole."
        ) from error


def _mono_at(signal: np.ndarray, rate: int, sampling_rate: int) -> np.ndarray:
    if np.issubdtype(signal.dtype, np.integer):
        signal = signal / -float(np.iinfo(signal.dtype).min)
    signal = np.asarray(signal, dtype=np.float32)
    if signal.ndim == 2:
        # soundfile gives (samples, channels), torch code (channels, samples): no clip has more channels than samples.
        signal = signal.mean(axis=1 if signal.shape[0] >= signal.shape[1] else 0)
    if signal.ndim != 1:
        raise ValueError(f"Audio has shape {signal.shape}: expected (samples,) or (samples, channels).")
    if rate != sampling_rate and len(signal):
        signal = resample(torch.from_numpy(np.ascontiguousarray(signal)), int(rate), sampling_rate).numpy()
    return np.ascontiguousarray(signal, dtype=np.float32)
