"""What may happen to a sound: each function changes a clip in one way. The stress test and augmentation share them.

A change takes samples and a generator, which some have no use for, and its settings by name. It makes new samples and
leaves those it was given as they are.

Shapes:
    samples, and what is returned: `(samples,)` at 16 kHz, float32 where they come from a clip.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cache, lru_cache
from io import BytesIO

import numpy as np
import soundfile as sf
import torch
from scipy.signal import butter, correlate, sosfiltfilt

from hf_ser.data.audio import leading_zeros_seconds
from hf_ser.data.schema import SAMPLING_RATE
from hf_ser.models.decoding import RESAMPLING, resample
from hf_ser.models.libraries import audio_functional, audio_transforms

MP3, VORBIS, OPUS = ("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("OGG", "OPUS")

LEAST_SAMPLES = SAMPLING_RATE // 10
"""A cut leaves 0.1 s at least."""

BABBLE_VOICES = 5

LONGEST_DELAY = 2_500
"""Samples by which a codec's answer may come late; LAME's is 1,105."""

VOCODER_WINDOW = 1_024
"""Samples a frame of the phase vocoder, 64 ms: with 512, low voices are heard to flutter."""


def within_full_scale(samples: np.ndarray) -> np.ndarray:
    """A changed sound as a file would hold it: float32, clipped at full scale.

    Raises:
        ValueError: nothing is left of it, or something that is no number.
    """
    samples = np.asarray(samples, dtype=np.float32)
    if not (len(samples) and np.isfinite(samples).all()):
        raise ValueError("the change leaves no finite sound")
    return np.clip(samples, -1, 1)


# Noise


def with_noise(samples: np.ndarray, generator: np.random.Generator, kind: str, snr_db: float) -> np.ndarray:
    """White or pink noise over the whole clip, as `mixed`."""
    return mixed(samples, colored(len(samples), generator, kind), snr_db)


def mixed(samples: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """A clip with noise under it; the clip's power is that between its first and its last sample that is not zero.

    Shapes:
        noise: `(samples,)`, as long as the clip.

    Raises:
        ValueError: the clip, or the noise, is silent.
    """
    sounding = np.flatnonzero(samples)
    if not len(sounding):
        raise ValueError("digital silence has no signal-to-noise ratio")
    if not noise.any():
        raise ValueError("the noise is silent")
    share = (sounding[-1] - sounding[0] + 1) / len(samples)
    # add_noise compares the energies of whole clips: padding with zeros would make the noise softer.
    ratio = torch.tensor(snr_db + 10 * np.log10(share))
    signal, noise = (torch.from_numpy(np.asarray(one, dtype=np.float32)) for one in (samples, noise))
    return audio_functional.add_noise(signal, noise, ratio).numpy()


def colored(length: int, generator: np.random.Generator, kind: str) -> np.ndarray:
    """White noise, or pink (power falling with 1/f); `(length,)`."""
    white = generator.standard_normal(length)
    if kind == "white":
        return white
    spectrum = np.fft.rfft(white)
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    return np.fft.irfft(spectrum, length)


def drawn_voices(clips_of: Mapping[str, Sequence[int]], speaker: str, generator: np.random.Generator) -> list[int]:
    """Rows of clips for babble: of other speakers than one, of as many as there are.

    Args:
        clips_of: Rows by speaker, in an order that depends on nothing.
        speaker: Who is not to be among them.
        generator: Of the draw.
    """
    theirs = generator.permutation([one for one in clips_of if one != speaker])
    chosen = [clips_of[theirs[turn % len(theirs)]] for turn in range(BABBLE_VOICES)]
    return [rows[generator.integers(len(rows))] for rows in chosen]


def babble(length: int, generator: np.random.Generator, voices: Sequence[np.ndarray]) -> np.ndarray:
    """The sum of clips, each as loud as the next, repeated where it is shorter than `length`; `(length,)`."""
    total = np.zeros(length)
    for voice in voices:
        voice = np.resize(np.roll(voice, int(generator.integers(len(voice)))), length)
        total += voice / (rms(voice) or 1.0)
    if not total.any():
        raise ValueError("the other voices are silent")
    return total


# Level and band


def with_gain(samples: np.ndarray, generator, gain_db: float) -> np.ndarray:
    """Louder or softer; what passes full scale is for `within_full_scale` to clip."""
    return samples * 10 ** (gain_db / 20)


def clipped(samples: np.ndarray, generator, share: float) -> np.ndarray:
    """The loudest samples cut flat where they begin; the rest keeps its level."""
    limit = np.quantile(np.abs(samples), 1 - share)
    return np.clip(samples, -limit, limit)


def telephone(samples: np.ndarray, generator) -> np.ndarray:
    """300 to 3,400 Hz, at 8 kHz, in the mu-law code of a digital exchange."""
    narrow = resample(samples, SAMPLING_RATE, 8_000)
    narrow = sosfiltfilt(butter(6, (300, 3_400), "bandpass", fs=8_000, output="sos"), narrow, padlen=0)
    wide = coded(np.clip(narrow, -1, 1).astype(np.float32), "WAV", "ULAW", 8_000)
    return fitted(at_16_khz(wide, 8_000), len(samples))


def low_passed(samples: np.ndarray, generator, hertz: float) -> np.ndarray:
    """Without what lies above a frequency; forwards and backwards, so that nothing is delayed."""
    sections = butter(8, hertz, "lowpass", fs=SAMPLING_RATE, output="sos")
    return sosfiltfilt(sections, samples, padlen=0)


def with_codec(
    samples: np.ndarray, generator, format, subtype, rate=SAMPLING_RATE, compression=None, mode=None
) -> np.ndarray:
    """Written by a codec at a rate and read again, at the clip's own place in time and length."""
    given = samples
    if rate != SAMPLING_RATE:
        given = resample(samples, SAMPLING_RATE, rate)
    decoded = coded(given, format, subtype, rate, compression, mode)
    if rate != SAMPLING_RATE:
        decoded = at_16_khz(decoded, rate)
    return aligned(decoded, samples)


def coded(
    samples: np.ndarray,
    format: str,
    subtype: str,
    rate: int,
    compression: float | None = None,
    mode: str | None = None,
) -> np.ndarray:
    """Samples through libsndfile's encoder and decoder, in memory."""
    return sf.read(BytesIO(encoded(samples, format, subtype, rate, compression, mode)), dtype="float32")[0]


def encoded(
    samples: np.ndarray,
    format: str,
    subtype: str,
    rate: int,
    compression: float | None = None,
    mode: str | None = None,
) -> bytes:
    """The file that libsndfile makes of samples.

    Args:
        samples: At `rate`.
        format, subtype: As libsndfile names them.
        rate: Hertz.
        compression: 0 to 1, the smallest file; None for the format's own.
        mode: Of the bit rate, such as `CONSTANT`; None for the format's own, and for Vorbis and Opus, which have one.
    """
    file = BytesIO()
    sf.write(file, samples, rate, format=format, subtype=subtype, compression_level=compression, bitrate_mode=mode)
    return file.getvalue()


def aligned(decoded: np.ndarray, original: np.ndarray) -> np.ndarray:
    """A codec's answer where its sound lies over the original's: MP3 at low rates begins with its encoder's delay."""
    length = min(len(decoded), len(original))
    likeness = correlate(decoded[:length], original[:length], method="fft")[length - 1 :][:LONGEST_DELAY]
    return fitted(decoded[int(likeness.argmax()) :], len(original))


@cache
def lacking_codec(
    format: str, subtype: str, rate: int, compression: float | None = None, mode: str | None = None
) -> str | None:
    """What this libsndfile says where it cannot write and read a codec; None where it can."""
    try:
        coded(np.zeros(rate, dtype=np.float32), format, subtype, rate, compression, mode)
    except (sf.LibsndfileError, ValueError, TypeError) as error:
        why = getattr(error, "error_string", error)
        return f"libsndfile {sf.__libsndfile_version__} does not write and read {format} {subtype} ({why})"
    return None


# Room


def reverberant(samples: np.ndarray, generator, rt60_seconds: float) -> np.ndarray:
    """In a room: the direct sound, then noise that falls by 60 dB in RT60; the level stays."""
    response = room_response(generator, rt60_seconds)
    dry, response = (torch.from_numpy(np.asarray(one, dtype=np.float32)) for one in (samples, response))
    wet = audio_functional.fftconvolve(dry, response)[: len(dry)].numpy()
    return as_loud_as(samples, wet)


def room_response(generator: np.random.Generator, rt60_seconds: float) -> np.ndarray:
    """What a room answers to a click, RT60 long.

    The reverberation's energy grows with RT60, as in rooms of one size, and is the direct sound's at 0.6 s.
    """
    times = np.arange(int(rt60_seconds * SAMPLING_RATE)) / SAMPLING_RATE
    tail = generator.standard_normal(len(times)) * 10 ** (-3 * times / rt60_seconds)
    response = tail * np.sqrt(rt60_seconds / 0.6 / np.square(tail).sum())
    response[0] = 1.0
    return response


# Time


def cut(samples: np.ndarray, generator, seconds=None, begin=0.0, end=1.0) -> np.ndarray:
    """The first seconds, or the part between two shares of the length; 0.1 s at least, where the clip has it."""
    length = len(samples)
    first, last = (0, int(seconds * SAMPLING_RATE)) if seconds else (int(begin * length), int(end * length))
    missing = LEAST_SAMPLES - (min(last, length) - first)
    first = max(0, first - max(0, missing))
    return samples[first : max(last, first + LEAST_SAMPLES)]


def taken_for(samples: np.ndarray, generator, rate: int) -> np.ndarray:
    """Played as if its samples had been taken at another rate: length and pitch change."""
    return at_16_khz(samples, rate)


def with_silence(samples: np.ndarray, generator, seconds: float) -> np.ndarray:
    """Exact zeros in front."""
    return np.pad(samples, (int(seconds * SAMPLING_RATE), 0))


def without_leading_zeros(samples: np.ndarray, generator) -> np.ndarray:
    """Begun with the first sample that is not zero."""
    first = round(leading_zeros_seconds(samples) * SAMPLING_RATE)
    return samples[min(first, max(0, len(samples) - LEAST_SAMPLES)) :]


def without_zeros(samples: np.ndarray, generator, floor_dbfs: float) -> np.ndarray:
    """Faint noise wherever the clip is exactly zero."""
    noise = 10 ** (floor_dbfs / 20) * generator.standard_normal(len(samples))
    return np.where(samples == 0, noise, samples)


# Speed, length and pitch


def with_speed(samples: np.ndarray, generator, factor: float) -> np.ndarray:
    """Played faster (above 1) or slower, to a hundredth: length and pitch change."""
    return resampled(samples, round(100 * factor), 100)


def time_stretched(samples: np.ndarray, generator, factor: float) -> np.ndarray:
    """Spoken faster (above 1) or slower at the same pitch, by a phase vocoder; `(round(samples / factor),)`."""
    hop = VOCODER_WINDOW // 4
    window = torch.hann_window(VOCODER_WINDOW)
    advance = torch.linspace(0, np.pi * hop, VOCODER_WINDOW // 2 + 1)[:, None]
    signal = torch.from_numpy(np.asarray(samples, dtype=np.float32))
    spectrum = torch.stft(signal, VOCODER_WINDOW, hop, window=window, pad_mode="constant", return_complex=True)
    stretched = audio_functional.phase_vocoder(spectrum, factor, advance)
    length = max(1, round(len(samples) / factor))
    spoken = torch.istft(stretched, VOCODER_WINDOW, hop, window=window, length=length).numpy()
    return as_loud_as(samples, spoken)  # neighbouring bands no longer fit: speech loses 3 dB


def pitch_shifted(samples: np.ndarray, generator, semitones: float) -> np.ndarray:
    """Higher or lower by semitones at the same length: stretched, then played faster by as much.

    torchaudio's own `pitch_shift` resamples between rates without a common factor, with a kernel of a gigabyte; the
    nearest ratio of small numbers is within a hundredth of a semitone.
    """
    factor = Fraction(2 ** (semitones / 12)).limit_denominator(50)
    stretched = time_stretched(samples, generator, float(1 / factor))
    return fitted(resampled(stretched, factor.numerator, factor.denominator), len(samples))


def resampled(samples: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Samples at one rate brought to another; only the ratio of the rates counts."""
    if rate == new_rate:
        return np.asarray(samples, dtype=np.float32)
    return _resampler(rate, new_rate)(torch.from_numpy(np.asarray(samples, dtype=np.float32))).numpy()


@lru_cache(maxsize=256)
def _resampler(rate: int, new_rate: int) -> audio_transforms.Resample:
    """With its kernel, which takes longer to make than to use."""
    return audio_transforms.Resample(rate, new_rate, **RESAMPLING)


def shifted(samples: np.ndarray, generator, seconds: float) -> np.ndarray:
    """Later (zeros in front, the end is lost) or earlier (below 0), at the same length; half of it at most is lost."""
    by = int(np.clip(round(seconds * SAMPLING_RATE), -(len(samples) // 2), len(samples) // 2))
    return np.pad(samples, (by, 0))[: len(samples)] if by >= 0 else np.pad(samples[-by:], (0, -by))


MASKS = 2
"""Stretches of bands, and of frames, that `spectrum_masked` blanks."""

MASKED_WINDOW, MASKED_HOP = 400, 100
"""Samples of a frame and between frames there: 25 ms and 6.25 ms, near what encoders compute."""


def spectrum_masked(samples: np.ndarray, generator: np.random.Generator, share: float) -> np.ndarray:
    """Two stretches of mel bands and two of time, each up to a share of all, brought to the clip's mean spectrum.

    The published masks put zeros into mean-normalised log-mel features. Here the sound itself is changed (mean log
    magnitude of each frequency, its own phases), so that encoders that read waveforms meet the same.

    Source: Park et al. 2019, SpecAugment: A simple data augmentation method for automatic speech recognition (without
    the warp of time).
    """
    frames = {"n_fft": MASKED_WINDOW, "hop_length": MASKED_HOP, "window": torch.hann_window(MASKED_WINDOW)}
    signal = torch.from_numpy(np.asarray(samples, dtype=np.float32))
    spectrum = torch.stft(signal, **frames, pad_mode="constant", return_complex=True)
    mel = np.log10(1 + np.linspace(0, SAMPLING_RATE / 2, len(spectrum)) / 700)
    places = mel / mel[-1], np.linspace(0, 1, spectrum.shape[1])
    hit = np.zeros(spectrum.shape, dtype=bool)
    for axis, place in enumerate(places):
        for _ in range(MASKS):
            width = generator.uniform(0, share)
            start = generator.uniform(0, 1 - width)
            stretch = (place >= start) & (place < start + width)
            hit |= stretch[:, None] if axis == 0 else stretch[None]
    magnitude = spectrum.abs() + 1e-8
    mean = magnitude.log().mean(1, keepdim=True).exp()
    changed = torch.where(torch.from_numpy(hit), spectrum * (mean / magnitude), spectrum)
    return torch.istft(changed, **frames, length=len(samples)).numpy()


# Rate


def upsampled(samples: np.ndarray, generator) -> np.ndarray:
    """Recorded at 8 kHz and brought to 16 kHz: nothing above 4 kHz."""
    narrow = resample(samples, SAMPLING_RATE, 8_000)
    return fitted(at_16_khz(narrow, 8_000), len(samples))


def aliased(samples: np.ndarray, generator) -> np.ndarray:
    """Every second sample taken without a filter: what lay above 4 kHz is folded under it."""
    return fitted(at_16_khz(samples[::2], 8_000), len(samples))


def at_16_khz(samples: np.ndarray, rate: int) -> np.ndarray:
    """Resampled to the models' rate."""
    return resample(samples, rate, SAMPLING_RATE)


def fitted(samples: np.ndarray, length: int) -> np.ndarray:
    """Cut, or padded with zeros behind, to a length."""
    return np.pad(samples[:length], (0, max(0, length - len(samples))))


def as_loud_as(original: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """A changed clip at the level of the original."""
    return changed * (rms(original) / (rms(changed) or 1.0))


def rms(samples: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
