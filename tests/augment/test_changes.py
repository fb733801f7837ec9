"""Changes that only augmentation has: length, pitch, shift. Shared ones are tested with the stress test."""

import numpy as np
import pytest

from hf_ser.augment.changes import (
    mix_noise,
    pitch_shifted,
    rms,
    shifted,
    spectrum_masked,
    telephone,
    time_stretched,
    with_speed,
)

RATE = 16_000


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def pitch(samples: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(samples, 2 * RATE)).argmax()) / 2


@pytest.mark.parametrize(
    ("change", "setting", "seconds", "hertz"),
    [
        (with_speed, {"factor": 1.1}, 1 / 1.1, 550),
        (time_stretched, {"factor": 1.25}, 0.8, 500),
        (time_stretched, {"factor": 0.8}, 1.25, 500),
        (pitch_shifted, {"semitones": 2}, 1.0, 500 * 2 ** (2 / 12)),
        (pitch_shifted, {"semitones": -3.3}, 1.0, 500 * 2 ** (-3.3 / 12)),
    ],
)
def test_length_and_pitch_are_as_requested(change, setting, seconds, hertz):
    changed = change(tone(500), None, **setting)
    assert len(changed) / RATE == pytest.approx(seconds, abs=1e-3)
    assert pitch(changed) == pytest.approx(hertz, abs=1)
    assert np.sqrt(np.mean(changed[2000:-2000] ** 2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.1)


@pytest.mark.parametrize("change", [time_stretched, with_speed])
def test_clips_of_a_few_samples_work(change):
    assert np.isfinite(change(tone(500, 0.01), None, factor=0.9)).all()


def test_a_shift_keeps_the_length_and_half_of_the_clip():
    clip = tone(500)
    np.testing.assert_array_equal(shifted(clip, None, 0.25)[4000:], clip[:-4000])
    np.testing.assert_array_equal(shifted(clip, None, -0.25)[:-4000], clip[4000:])
    assert not shifted(clip, None, 0.25)[:4000].any()
    np.testing.assert_array_equal(shifted(clip, None, 9.0)[8000:], clip[:8000])


def test_masks_change_ranges_of_time_and_bands_and_leave_the_rest():
    clip = np.random.default_rng(0).standard_normal(3 * RATE).astype(np.float32) / 10
    clip[RATE : 2 * RATE] *= 8  # louder than the clip is on average: a mask there changes the level
    np.testing.assert_allclose(spectrum_masked(clip, np.random.default_rng(1), 0.0), clip, atol=1e-6)
    changed = spectrum_masked(clip, np.random.default_rng(7), 0.3)
    assert changed.shape == clip.shape and changed.dtype == np.float32
    before, after = (np.abs(np.fft.rfft(one.reshape(-1, 800), axis=1)) for one in (clip, changed))
    ratio = after / before
    untouched = np.isclose(ratio, 1, atol=0.02).mean()
    assert 0.2 < untouched < 0.95, "masks of up to 0.3 cover a part of the clip"
    assert rms(changed[RATE : 2 * RATE]) < 0.98 * rms(clip[RATE : 2 * RATE])
    assert np.isfinite(spectrum_masked(np.zeros(7, np.float32), np.random.default_rng(0), 0.2)).all()


def test_silent_noise_is_refused():
    with pytest.raises(ValueError, match="the noise is silent"):
        mix_noise(tone(500), np.zeros(RATE), 10.0)


@pytest.mark.parametrize(
    ("hertz", "decibels"), [(100, -42.1), (160, -21.9), (200, -15.5), (250, -10.6), (300, -7.6), (500, -3.2), (1000, 0)]
)
def test_a_telephone_loses_low_frequencies_as_a_handset_does(hertz, decibels):
    """Sending sensitivity to that at 1 kHz: ITU-T P.48 (1988), intermediate reference system."""
    tone = np.sin(2 * np.pi * hertz * np.arange(16_000) / 16_000).astype(np.float32)
    middle = slice(4_000, 12_000)
    assert 20 * np.log10(rms(telephone(tone, None)[middle]) / rms(tone[middle])) == pytest.approx(decibels, abs=3)
