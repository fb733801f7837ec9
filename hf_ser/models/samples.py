"""Samples at 16 kHz on a 24-bit grid: resampling, rounding, level, and what makes them no clip."""

import numpy as np

from .libraries import soxr

SAMPLING_RATE = 16_000

# python-soxr at its highest quality, in double precision. Measured with sines into 16 kHz, beside torchaudio with the
# "kaiser_best" values that were used before: at 7 kHz both 0.00 dB; at 7.3 kHz 0.00 against -0.21 dB, at 7.5 kHz -0.32
# against -2.97; what is left of 9 kHz is under -191 dB (24, 44.1 and 48 kHz) against -118 to -154, of 8.2 kHz under
# -179 against -118. 3.7 s at 48 kHz take 1.4 ms against 13.4 (HQ in single precision: 0.9 ms, -130 dB at 8.2 kHz).
# Double precision leaves a rounding of 1e-16, a billionth of the 24-bit grid: processors that round otherwise still
# give the same samples. A stream's samples do not depend on its blocks, so a part that is read first is that of all.
QUALITY = "VHQ"

RESAMPLING = {
    "lowpass_filter_width": 64,
    "rolloff": 0.9475937167399596,
    "resampling_method": "sinc_interp_kaiser",
    "beta": 14.769656459379492,
}
"""Of torchaudio's resampling, with which changes of clips in training and stress tests shift pitch and speed."""

FULL_SCALE = 2**23
"""Samples lie on a 24-bit grid: finer than any recording, and what FLAC holds exactly."""

MIN_SECONDS, SILENT_DBFS = 0.1, -90.0

PROBLEMS = {
    "empty": "no samples",
    "not_finite": "NaN or infinity",
    "too_short": "a clip that is too short",
    "silent": "silence",
}
"""Kinds of `audio_problem`, as messages name them."""

TRIM_FRAME_SECONDS = 0.010
TRIM_DB = 60.0
"""Frames this far under a clip's loudest are cut from its ends: digital zeros and the noise of a quiet room."""
LEAST_SECONDS = 0.25
"""Trimming leaves at least this much of a clip."""


def resampling_stream(rate: float, new_rate: float) -> "soxr.ResampleStream":
    """A resampler of one channel, of `QUALITY`, that takes float64 in blocks."""
    return soxr.ResampleStream(rate, new_rate, 1, dtype="float64", quality=QUALITY)


def resample(samples: np.ndarray, rate: float, new_rate: float) -> np.ndarray:
    """Samples at one rate brought to another, whatever their scale.

    Shapes:
        `(samples,)` float32 in and out.
    """
    if rate == new_rate or not len(samples):
        return np.asarray(samples, dtype=np.float32)
    signal = resampling_stream(rate, new_rate).resample_chunk(np.asarray(samples, dtype=np.float64), last=True)
    return signal.astype(np.float32)


def on_grid(samples: np.ndarray) -> np.ndarray:
    """Round to the 24-bit grid; what is beyond full scale is held there. NaN and infinity become NaN."""
    return grid_steps(samples) / np.float32(FULL_SCALE)


def grid_steps(samples: np.ndarray) -> np.ndarray:
    """Whole steps of the 24-bit grid as float32, held at full scale; NaN for what is no number."""
    # A power of two only moves the exponent, and whole numbers up to 2**24 are exact in float32.
    steps = np.rint(np.asarray(samples, dtype=np.float32) * np.float32(FULL_SCALE))
    if not np.isfinite(steps).all():
        steps = np.where(np.isfinite(steps), steps, np.float32(np.nan))
    return np.clip(steps, -FULL_SCALE, FULL_SCALE - 1, out=steps)


def audio_problem(samples: np.ndarray, sampling_rate: int = SAMPLING_RATE) -> tuple[str, str] | None:
    """What keeps samples out of a data set and out of a model: a kind of `PROBLEMS` and the detail; None where nothing.

    One rule for scripts/prepare_data.py, scripts/predict.py and the pipeline.
    """
    if not len(samples):
        return "empty", "no samples"
    power, mean = power_and_mean(samples)
    if not np.isfinite(power):
        return "not_finite", f"{int((~np.isfinite(samples)).sum())} samples are NaN or infinite"
    seconds = len(samples) / sampling_rate
    if seconds < MIN_SECONDS:
        return "too_short", f"{seconds:.3f} s, at least {MIN_SECONDS} s are needed"
    level = decibels(power)
    if level < SILENT_DBFS:
        return "silent", f"level {level:.1f} dBFS" if power else "all samples are 0"
    if decibels(max(0.0, power - mean**2)) < SILENT_DBFS:
        return "silent", f"a constant of {mean:.3g} and nothing else"
    return None


def power_and_mean(samples: np.ndarray) -> tuple[float, float]:
    """Mean square and mean, in double precision, without a copy of a long clip."""
    power = total = 0.0
    for start in range(0, len(samples), 2**20):
        part = np.asarray(samples[start : start + 2**20], dtype=np.float64)
        power, total = power + float(part @ part), total + float(part.sum())
    return power / max(1, len(samples)), total / max(1, len(samples))


def decibels(power: float) -> float:
    """A mean square in dB under full scale; minus infinity for digital silence."""
    return 10 * float(np.log10(power)) if power > 0 else float("-inf")


def trimmed(clip: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Without the silence at both ends: frames far under the clip's loudest, or digital zeros.

    A clip that is silent all over stays as it is.
    """
    frame, least = round(TRIM_FRAME_SECONDS * sampling_rate), int(LEAST_SECONDS * sampling_rate)
    if len(clip) <= least:
        return clip
    frames = np.pad(clip, (0, -len(clip) % frame)).reshape(-1, frame)
    energy = np.square(frames, dtype=np.float64).sum(1)
    loud = np.flatnonzero(energy > energy.max() * 10 ** (-TRIM_DB / 10))
    if len(loud) == 0:
        return clip
    stop = min(len(clip), max((loud[-1] + 1) * frame, loud[0] * frame + least))
    return clip[min(loud[0] * frame, stop - least) : stop]
