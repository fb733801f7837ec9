"""Copies of a clip as augmentation makes them."""

import io

import numpy as np
import soundfile

from hf_ser.data.schema import SAMPLING_RATE
from hf_ser.models.decoding import decode_audio


def recoded(samples: np.ndarray) -> np.ndarray:
    """Quieter, trimmed, through a lossy codec, with a little noise."""
    rng = np.random.default_rng(len(samples))
    copy = 0.5 * samples[1000:-500]
    copy = copy + rng.normal(0, 0.05 * np.sqrt(np.mean(copy**2)), len(copy))
    buffer = io.BytesIO()
    soundfile.write(buffer, copy.astype(np.float32), SAMPLING_RATE, format="OGG")
    return decode_audio(buffer.getvalue())
