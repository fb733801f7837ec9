"""Audio of the example trees: the smallest valid clips, all different."""

import zlib
from pathlib import Path

import numpy as np
import soundfile


def write_clip(path: Path, seconds: float = 0.3, rate: int = 16_000, seed: int | None = None) -> Path:
    """Write a clip of noise in the format that the ending names, and the folders above it.

    Without a seed the sound follows from the path's last two parts, so that two files of a tree differ and the same
    tree sounds the same wherever it is built.
    """
    if seed is None:
        seed = zlib.crc32("/".join(path.parts[-2:]).encode())
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(scale=0.1, size=round(seconds * rate))
    soundfile.write(path, noise.clip(-0.99, 0.99), rate, subtype="PCM_16")
    return path
