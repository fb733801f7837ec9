"""Clips on their way into a data set: decoded once, described, hashed and stored without loss."""

import hashlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile as sf

from hf_ser.columns import SAMPLING_RATE
from hf_ser.models.decoding import decode_audio, read_file

FULL_SCALE = 2**23
"""Clips are kept on a 24-bit grid: finer than any recording, and what FLAC holds exactly."""


@dataclass(frozen=True)
class Clip:
    """A decoded clip and what its file was, of which it may be a part.

    Shapes:
        samples: `(samples,)` float32, mono, 16 kHz, on the 24-bit grid.
    """

    samples: np.ndarray
    source_rate: int
    source_channels: int
    source_subtype: str
    channels_equal: bool
    source_bytes: int
    truncated: bool = False

    @property
    def duration_seconds(self) -> float:
        return len(self.samples) / SAMPLING_RATE

    @property
    def source_format(self) -> str:
        return f"{self.source_rate} Hz, {self.source_channels} channel(s), {self.source_subtype}"


def read_clip(source: str | Path | bytes, start_seconds: float | None = None, end_seconds: float | None = None) -> Clip:
    """Decode a file or its bytes, or only a part, and note what it was.

    Args:
        source: The file or its bytes.
        start_seconds, end_seconds: The part; None is the beginning or the end of the file. Of a part that ends beyond
            the file, what is there is read.

    Raises:
        FileNotFoundError: the path does not exist.
        ValueError: no audio that soundfile reads, or the part does not begin in it.
    """
    signal, rate, subtype = read_file(source, start_seconds, end_seconds)
    samples = decode_audio({"array": signal.mean(axis=1), "sampling_rate": rate})
    # A part that is there whole does not suffer from what its file has lost.
    whole = end_seconds is not None and len(signal) == round(end_seconds * rate) - round((start_seconds or 0.0) * rate)
    return Clip(
        samples=on_grid(samples),
        source_rate=rate,
        source_channels=signal.shape[1],
        source_subtype=subtype,
        channels_equal=bool((signal[:, 1:] == signal[:, :1]).all()),
        source_bytes=len(source) if isinstance(source, bytes) else Path(source).stat().st_size,
        truncated=not whole and is_truncated(source),
    )


def is_truncated(source: str | Path | bytes) -> bool:
    """Whether a WAV file is shorter than its header says: libsndfile reads what is there without a word.

    A stream's header (length zero or all ones) says nothing, and the pad byte at the end is often left out.
    """
    if isinstance(source, bytes):
        head, size = source[:8], len(source)
    else:
        with open(source, "rb") as file:
            head, size = file.read(8), Path(source).stat().st_size
    promised = int.from_bytes(head[4:8], "little")
    return head[:4] == b"RIFF" and 0 < promised < 0xFFFFFF00 and size + 1 < promised + 8


def on_grid(samples: np.ndarray) -> np.ndarray:
    """Round to the 24-bit grid; what resampling lifted beyond full scale is held there. NaN and infinity become NaN."""
    return np.where(np.isfinite(samples), _integers(samples) / FULL_SCALE, np.nan).astype(np.float32)


def pcm_sha256(samples: np.ndarray) -> str:
    """Hash of the sound itself: equal for equal clips whatever their file name, container or header."""
    return hashlib.sha256(_integers(samples).astype("<i4").tobytes()).hexdigest()


def encode_flac(samples: np.ndarray) -> bytes:
    """A clip on the 24-bit grid as FLAC at 16 kHz: 16 bits where they hold it exactly, else 24; lossless either way."""
    integers = _integers(samples)
    subtype = "PCM_16" if (integers % 256 == 0).all() else "PCM_24"
    buffer = BytesIO()
    # At the top of 32 bits, so that libsndfile only shifts and never rescales.
    sf.write(buffer, integers * 256, SAMPLING_RATE, format="FLAC", subtype=subtype)
    return buffer.getvalue()


def _integers(samples: np.ndarray) -> np.ndarray:
    """Steps of the 24-bit grid as int32; 0 for what is no number."""
    steps = np.round(np.where(np.isfinite(samples), samples, 0) * FULL_SCALE)
    return np.clip(steps, -FULL_SCALE, FULL_SCALE - 1).astype(np.int32)


def leading_zeros_seconds(samples: np.ndarray) -> float:
    """Length of the exact zeros that a clip at 16 kHz begins with: an editor's padding, which can tell a label."""
    return int(np.append(samples != 0, True).argmax()) / SAMPLING_RATE


def rms_dbfs(samples: np.ndarray) -> float:
    """Root mean square in dB under full scale; minus infinity for digital silence."""
    power = float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0
    return 10 * np.log10(power) if power > 0 else float("-inf")
