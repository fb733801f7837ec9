"""Decode clips for a data set, hash them and encode them without loss."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile as sf

from hf_ser.data.schema import SAMPLING_RATE
from hf_ser.models.decoding import read_audio
from hf_ser.models.samples import decibels, grid_steps, on_grid, power_and_mean
from hf_ser.models.streams import MIX

STEPS_16_BIT = 2**8
"""Steps of the 24-bit grid in one step of the 16-bit grid, which is hashed."""

BLOCK = 2**20
"""Samples processed together, so that a long clip is not copied whole."""

__all__ = ["Clip", "encode_flac", "leading_zeros_seconds", "on_grid", "pcm_sha256", "read_clip", "rms_dbfs"]


@dataclass(frozen=True)
class Clip:
    """A decoded clip, a file or a part of one, with properties of the file.

    Args:
        source_seconds: Length of the file or part by its header; None if unknown.
        peak, scale, channel, complete, header_note: As in `hf_ser.models.decoding.Audio`.

    Shapes:
        samples: `(samples,)` float32, mono, 16 kHz, on the 24-bit grid.
    """

    samples: np.ndarray
    source_rate: int
    source_channels: int
    source_subtype: str
    channels_equal: bool
    source_bytes: int
    cut_short: bool = False
    source_seconds: float | None = None
    peak: float = 0.0
    scale: float = 1.0
    channel: int | None = None
    requested_channel: str = MIX
    complete: bool = True
    header_note: str | None = None

    @property
    def duration_seconds(self) -> float:
        return len(self.samples) / SAMPLING_RATE

    @property
    def source_format(self) -> str:
        return f"{self.source_rate} Hz, {self.source_channels} channel(s), {self.source_subtype}"


def read_clip(
    source: str | Path | bytes,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    channel: str = MIX,
    max_seconds: float | None = None,
) -> Clip:
    """Decode a file or its bytes, or a part.

    Args:
        source: The file or its bytes.
        start_seconds, end_seconds: The part; None is the beginning or the end of the file. A part that ends beyond the
            file is cut short.
        channel: `mix`, `left` or `right`.
        max_seconds: Read only the beginning.

    Raises:
        FileNotFoundError, ValueError: as `hf_ser.models.decoding.read_audio`.
    """
    audio = read_audio(source, SAMPLING_RATE, start_seconds, end_seconds, channel, max_seconds)
    return Clip(
        samples=audio.samples,
        source_rate=audio.rate,
        source_channels=audio.channels,
        source_subtype=audio.subtype,
        channels_equal=audio.channels_equal,
        source_bytes=len(source) if isinstance(source, bytes) else Path(source).stat().st_size,
        cut_short=audio.cut_short,
        source_seconds=audio.source_seconds,
        peak=audio.peak,
        scale=audio.scale,
        channel=audio.channel,
        requested_channel=channel,
        complete=audio.complete,
        header_note=audio.header_note,
    )


def pcm_sha256(samples: np.ndarray) -> str:
    """SHA-256 of the audio itself: equal for equal clips whatever their file name, container or header.

    The samples are rounded to 16 bits, since processors differ in resampling by about 1e-16: that changes one sample in
    a billion on the 24-bit grid, one in 300 billion on the 16-bit grid. Clips that differ only below 16 bits have one
    hash. MP3, OGG and Opus are decoded in single precision, so their hash is valid on one kind of processor only.
    """
    digest = hashlib.sha256()
    for steps in _integers(samples):
        digest.update(((steps + STEPS_16_BIT // 2) // STEPS_16_BIT * STEPS_16_BIT).astype("<i4", copy=False))
    return digest.hexdigest()


def encode_flac(samples: np.ndarray) -> bytes:
    """Encode a clip on the 24-bit grid as lossless FLAC at 16 kHz, in 16 bits if they suffice, else 24."""
    subtype = "PCM_24" if any((steps & 255).any() for steps in _integers(samples)) else "PCM_16"
    buffer = BytesIO()
    with sf.SoundFile(buffer, "w", SAMPLING_RATE, 1, subtype, format="FLAC") as file:
        for steps in _integers(samples):
            file.write(steps * 256)  # in the highest bits, so that libsndfile shifts and does not rescale
    return buffer.getvalue()


def _integers(samples: np.ndarray) -> Iterator[np.ndarray]:
    """Steps of the 24-bit grid as int32, block by block; 0 for NaN."""
    for start in range(0, len(samples), BLOCK):
        steps = grid_steps(samples[start : start + BLOCK])
        steps[np.isnan(steps)] = 0
        yield steps.astype(np.int32)


def leading_zeros_seconds(samples: np.ndarray) -> float:
    """Length of the exact zeros at the beginning of a clip at 16 kHz: padding, which can reveal a label."""
    zeros = 0
    for start in range(0, len(samples), BLOCK):
        others = samples[start : start + BLOCK] != 0
        if others.any():
            return (start + int(others.argmax())) / SAMPLING_RATE
        zeros += len(others)
    return zeros / SAMPLING_RATE


def rms_dbfs(samples: np.ndarray) -> float:
    """Root mean square in dB under full scale; minus infinity for digital silence."""
    return decibels(power_and_mean(samples)[0])
