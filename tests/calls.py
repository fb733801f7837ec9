"""Generated telephone calls: random vowels of random voices with pauses, and what lines and call centres add."""

import numpy as np
from scipy.signal import butter, resample_poly, sosfilt

from hf_ser.data.schema import SAMPLING_RATE

LINE_RATE, HOP = 8000, 80

VOWELS_HZ = np.array([(270, 2290, 3010), (530, 1840, 2480), (730, 1090, 2440), (440, 1020, 2240), (300, 870, 2240)])
"""Formants of a man's vowels: Peterson and Barney 1952, table II."""

TELEPHONE = butter(4, (300, 3400), "bandpass", fs=LINE_RATE, output="sos")


def voice(seed: int, seconds: float) -> np.ndarray:
    """Generated speech of a given length with pauses; each seed is another voice and text. Mono, 16 kHz."""
    generator = np.random.default_rng(seed)
    frames = int(seconds * LINE_RATE) // HOP
    at = np.arange(frames) * HOP / LINE_RATE
    ends = np.cumsum(generator.uniform(0.12, 0.35, int(seconds / 0.12) + 2))
    syllable = np.searchsorted(ends, at)
    pitch = generator.uniform(90, 240) * 2 ** np.interp(at, ends, generator.normal(0, 0.2, len(ends)))
    formants = VOWELS_HZ[generator.integers(0, len(VOWELS_HZ), len(ends))[syllable]] * generator.uniform(0.9, 1.15)
    loudness = np.where(generator.random(len(ends)) < 0.25, 0, generator.uniform(0.3, 1, len(ends)))[syllable]
    phase = 2 * np.pi * np.cumsum(np.repeat(pitch, HOP)) / LINE_RATE
    spoken = np.zeros(len(phase))
    for harmonic in range(1, 19):
        hertz = harmonic * pitch
        gain = (1 / (1 + ((hertz[:, None] - formants) / (80, 100, 140)) ** 2)).sum(axis=1) * loudness * (hertz < 3800)
        spoken += np.repeat(gain, HOP) * np.sin(harmonic * phase)
    return resample_poly(spoken / np.abs(spoken).max(), SAMPLING_RATE // LINE_RATE, 1)


def hiss(clip: np.ndarray, seed: int, decibels: float) -> np.ndarray:
    """With stationary noise of its own from the first sample to the last."""
    return clip + np.random.default_rng(seed).standard_normal(len(clip)) * 10 ** (decibels / 20)


def hum(clip: np.ndarray, decibels: float) -> np.ndarray:
    """With the mains and its harmonics, the same in every clip."""
    time = np.arange(SAMPLING_RATE) / SAMPLING_RATE
    second = sum(np.sin(2 * np.pi * 50 * n * time + n) / n for n in range(1, 30))
    return clip + 10 ** (decibels / 20) * np.resize(second, len(clip))


def telephone(clip: np.ndarray) -> np.ndarray:
    """Through 300 to 3,400 Hz and mu-law on eight bits."""
    line = sosfilt(TELEPHONE, resample_poly(clip, 1, 2))
    line = line / np.abs(line).max()
    coded = np.round(np.sign(line) * np.log1p(255 * np.abs(line)) / np.log(256) * 127) / 127
    return resample_poly(np.sign(coded) * np.expm1(np.abs(coded) * np.log(256)) / 255, 2, 1)


def tones(*hertz: float, seconds: float = 0.3) -> np.ndarray:
    """Tones at once."""
    time = np.arange(int(seconds * SAMPLING_RATE)) / SAMPLING_RATE
    return 0.6 * sum(np.sin(2 * np.pi * one * time) for one in hertz) / len(hertz)


def dialled(digits: str) -> np.ndarray:
    """The keys of a telephone, 0.12 s each."""
    keys, rows, columns = "123456789*0#", (697, 770, 852, 941), (1209, 1336, 1477)
    gap = np.zeros(int(0.08 * SAMPLING_RATE))
    pressed = [(rows[keys.index(one) // 3], columns[keys.index(one) % 3]) for one in digits]
    return np.concatenate([part for pair in pressed for part in (tones(*pair, seconds=0.12), gap)])


def music(seconds: float) -> np.ndarray:
    """One tune of plucked chords, always the same."""
    generator, samples, at = np.random.default_rng(1), np.zeros(int(seconds * SAMPLING_RATE)), 0
    while at < len(samples):
        length = int(generator.choice([0.25, 0.5, 0.75]) * SAMPLING_RATE)
        decay = np.exp(-np.arange(length) / SAMPLING_RATE * 3)
        notes = 220 * 2 ** (generator.choice([0, 2, 4, 5, 7, 9, 11, 12, 14, 16], 3) / 12)
        chord = tones(*(note * n for note in notes for n in (1, 2, 3)), seconds=length / SAMPLING_RATE) * decay
        samples[at : at + length] += chord[: len(samples) - at]
        at += length
    return samples / np.abs(samples).max()
