"""Clips on their way into a data set: decoded once, described, hashed and stored without loss."""

import hashlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile as sf

from hf_ser.columns import SAMPLING_RATE
from hf_ser.models.decoding import decode_audio

FULL_SCALE = 2**23
"""Clips are kept on a 24-bit grid: finer than any recording, and what FLAC holds exactly."""


@dataclass(frozen=True)
class Clip:
    """A decoded clip and what its file was.

    Shapes:
        samples: `(samples,)` float32, mono, 16 kHz, on the 24-bit grid.
    """

    samples: np.ndarray
    source_rate: int
    source_channels: int
    source_subtype: str
    channels_equal: bool
    truncated: bool = False

    @property
    def duration_seconds(self) -> float:
        return len(self.samples) / SAMPLING_RATE

    @property
    def source_format(self) -> str:
        return f"{self.source_rate} Hz, {self.source_channels} channel(s), {self.source_subtype}"


def read_clip(source: str | Path | bytes) -> Clip:
    """Decode a file or its bytes, and note what it was.

    Raises:
        FileNotFoundError, ValueError: as `decode_audio`.
    """
    samples = decode_audio(source)
    with sf.SoundFile(BytesIO(source) if isinstance(source, bytes) else source) as file:
        stereo = file.read(dtype="float32") if file.channels > 1 else None
        equal = stereo is None or bool((stereo == stereo[:, :1]).all())
        form = file.samplerate, file.channels, file.subtype, equal
    return Clip(on_grid(samples), *form, truncated=is_truncated(source))


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
    held = np.clip(np.round(samples * FULL_SCALE) / FULL_SCALE, -1, 1 - 1 / FULL_SCALE)
    return np.where(np.isfinite(samples), held, np.nan).astype(np.float32)


def pcm_sha256(samples: np.ndarray) -> str:
    """Hash of the sound itself: equal for equal clips whatever their file name, container or header."""
    return hashlib.sha256(np.round(samples * FULL_SCALE).astype("<i4").tobytes()).hexdigest()


def encode_flac(samples: np.ndarray) -> bytes:
    """A clip on the 24-bit grid as FLAC at 16 kHz: 16 bits where they hold it exactly, else 24; lossless either way."""
    fits_16_bits = bool((np.round(samples * FULL_SCALE).astype(np.int32) % 256 == 0).all())
    buffer = BytesIO()
    subtype = "PCM_16" if fits_16_bits else "PCM_24"
    # As integers at the top of 32 bits, so that libsndfile only shifts and never rescales.
    integers = (np.round(samples.astype(np.float64) * FULL_SCALE).astype(np.int64) << 8).astype(np.int32)
    sf.write(buffer, integers, SAMPLING_RATE, format="FLAC", subtype=subtype)
    return buffer.getvalue()


def rms_dbfs(samples: np.ndarray) -> float:
    """Root mean square in dB under full scale; minus infinity for digital silence."""
    power = float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0
    return 10 * np.log10(power) if power > 0 else float("-inf")
