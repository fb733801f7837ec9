"""The rule for clips without speech has no false alarm on real voices: clean, noisy, and over the telephone."""

from collections import Counter

import calls
import numpy as np
import pytest
from shared_data import SHARED

from hf_ser.models.audio_notes import STEADY_DECIBELS, band_levels, no_speech
from hf_ser.models.decoding import decode_audio

FLAC = SHARED / "data" / "ravdess"

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not FLAC.is_dir(), reason=f"no RAVDESS under {SHARED}: name its folder in HF_SER_SHARED"),
]


def test_every_clip_of_ravdess_is_speech():
    alarms, least, files = Counter(), 99.0, sorted(FLAC.rglob("*.flac"))
    for seed, file in enumerate(files):
        clip = decode_audio(file).astype(np.float64)
        noise = np.random.default_rng(seed).standard_normal(len(clip)) * np.sqrt(np.square(clip).mean() / 10**0.5)
        for name, heard in {"clean": clip, "5 dB": clip + noise, "line": calls.telephone(clip + noise)}.items():
            alarms[name] += no_speech(heard) is not None
            quiet, loud = np.percentile(band_levels(heard), (5, 95), axis=0)
            least = min(least, float((loud - quiet).max()))
    assert alarms.total() == 0
    assert least > STEADY_DECIBELS + 5, "the threshold lies well below every one of them"
    assert len(files) > 1000
