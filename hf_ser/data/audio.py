"""Clips on their way into a data set: decoded once, described, hashed and stored without loss."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile as sf

from hf_ser.data.schema import SAMPLING_RATE
from hf_ser.models.decoding import MIX, decibels, grid_steps, on_grid, power_and_mean, read_audio

HASHED_STEPS = 2**8
"""Steps of the 24-bit grid in one of the 16-bit grid that is hashed."""

BLOCK = 2**20
"""Samples that are looked at together: a long clip is not copied whole."""

__all__ = ["Clip", "encode_flac", "leading_zeros_seconds", "on_grid", "pcm_sha256", "read_clip", "rms_dbfs"]


@dataclass(frozen=True)
class Clip:
    """A decoded clip and what its file was, of which it may be a part.

    Args:
        source_seconds: Length that the file promises, or the part of it; None where nothing tells it.
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
    truncated: bool = False
    source_seconds: float | None = None
    peak: float = 0.0
    scale: float = 1.0
    channel: int | None = None
    asked_channel: str = MIX
    complete: bool = True
    header_note: str | None = None

    @property
    def duration_seconds(self) -> float:
        return len(self.samples) / SAMPLING_RATE

    @property
    def cut_short(self) -> bool:
        return self.truncated

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
    """Decode a file or its bytes, or only a part, and note what it was.

    Args:
        source: The file or its bytes.
        start_seconds, end_seconds: The part; None is the beginning or the end of the file. Of a part that ends beyond
            the file, what is there is read.
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
        truncated=audio.cut_short,
        source_seconds=audio.source_seconds,
        peak=audio.peak,
        scale=audio.scale,
        channel=audio.channel,
        asked_channel=channel,
        complete=audio.complete,
        header_note=audio.header_note,
    )


def pcm_sha256(samples: np.ndarray) -> str:
    """Hash of the audio itself: equal for equal clips whatever their file name, container or header.

    It is of the samples rounded to 16 bits (and written as steps of the 24-bit grid). Processors round differently when
    they resample: in double precision by about 1e-16. Between two steps of the 24-bit grid that changes one sample in a
    billion, so of a corpus of thousands of clips some would have another hash elsewhere; of the 16-bit grid one in
    300 billion. (A coarser grid does not help where the rounding is that of single precision, 1e-7: some of 60,000
    samples always lie at an edge.) Clips that differ only below 16 bits are one recording, kept at two depths. MP3, OGG
    and Opus are decoded in single precision, so that their hash holds for one processor alone.
    """
    digest = hashlib.sha256()
    for steps in _integers(samples):
        digest.update(((steps + HASHED_STEPS // 2) // HASHED_STEPS * HASHED_STEPS).astype("<i4", copy=False))
    return digest.hexdigest()


def encode_flac(samples: np.ndarray) -> bytes:
    """A clip on the 24-bit grid as FLAC at 16 kHz: 16 bits where they hold it exactly, else 24; lossless either way."""
    subtype = "PCM_24" if any((steps & 255).any() for steps in _integers(samples)) else "PCM_16"
    buffer = BytesIO()
    with sf.SoundFile(buffer, "w", SAMPLING_RATE, 1, subtype, format="FLAC") as file:
        for steps in _integers(samples):
            file.write(steps * 256)  # at the top of 32 bits, so that libsndfile only shifts and never rescales
    return buffer.getvalue()


def _integers(samples: np.ndarray) -> Iterator[np.ndarray]:
    """Steps of the 24-bit grid as int32, block by block; 0 for what is no number."""
    for start in range(0, len(samples), BLOCK):
        yield np.nan_to_num(grid_steps(samples[start : start + BLOCK]), copy=False).astype(np.int32)


def leading_zeros_seconds(samples: np.ndarray) -> float:
    """Length of the exact zeros that a clip at 16 kHz begins with: an editor's padding, which can tell a label."""
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
