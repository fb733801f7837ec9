"""Changes of a clip's audio, shared by the stress test and augmentation: each function changes a clip in one way.

A change takes samples, a generator (which some ignore) and its settings by name. It returns new samples and does not
modify its input.

Shapes:
    samples, and what is returned: `(samples,)` at 16 kHz, float32 if they come from a clip.
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
from hf_ser.models.libraries import audio_functional, audio_transforms
from hf_ser.models.samples import RESAMPLING, resample

MP3, VORBIS, OPUS = ("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("OGG", "OPUS")

MIN_SAMPLES = SAMPLING_RATE // 10
"""A cut keeps at least 0.1 s."""

BABBLE_VOICES = 5

MAX_CODEC_DELAY = 2_500
"""Longest delay of a codec in samples; LAME's is 1,105."""

VOCODER_WINDOW = 1_024
"""Samples a frame of the phase vocoder, 64 ms: with 512, low voices flutter audibly."""


def within_full_scale(samples: np.ndarray) -> np.ndarray:
    """Changed samples as a file stores them: float32, clipped at full scale.

    Raises:
        ValueError: no samples are left, or some are NaN or infinite.
    """
    samples = np.asarray(samples, dtype=np.float32)
    if not (len(samples) and np.isfinite(samples).all()):
        raise ValueError("the change leaves no finite audio")
    return np.clip(samples, -1, 1)


# Noise


def with_noise(samples: np.ndarray, generator: np.random.Generator, kind: str, snr_db: float) -> np.ndarray:
    """Add white or pink noise to the whole clip, as `mix_noise`."""
    return mix_noise(samples, colored_noise(len(samples), generator, kind), snr_db)


def mix_noise(samples: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Add noise to a clip; its power is measured between its first and last sample that is not zero.

    Shapes:
        noise: `(samples,)`, as long as the clip.

    Raises:
        ValueError: the clip, or the noise, is silent.
    """
    nonzero = np.flatnonzero(samples)
    if not len(nonzero):
        raise ValueError("digital silence has no signal-to-noise ratio")
    if not noise.any():
        raise ValueError("the noise is silent")
    share = (nonzero[-1] - nonzero[0] + 1) / len(samples)
    # add_noise compares the energies of whole clips: padding with zeros would make the noise softer.
    ratio = torch.tensor(snr_db + 10 * np.log10(share))
    signal, noise = (torch.from_numpy(np.asarray(one, dtype=np.float32)) for one in (samples, noise))
    return audio_functional.add_noise(signal, noise, ratio).numpy()


def colored_noise(length: int, generator: np.random.Generator, kind: str) -> np.ndarray:
    """White noise, or pink noise (power proportional to 1/f); `(length,)`."""
    white = generator.standard_normal(length)
    if kind == "white":
        return white
    spectrum = np.fft.rfft(white)
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    return np.fft.irfft(spectrum, length)


def draw_babble_clips(clips_of: Mapping[str, Sequence[int]], speaker: str, generator: np.random.Generator) -> list[int]:
    """Rows of clips for babble, of as many speakers other than one as there are.

    Args:
        clips_of: Rows by speaker, in a fixed order.
        speaker: The speaker to leave out.
        generator: Random number generator.
    """
    others = generator.permutation([one for one in clips_of if one != speaker])
    chosen = [clips_of[others[turn % len(others)]] for turn in range(BABBLE_VOICES)]
    return [rows[generator.integers(len(rows))] for rows in chosen]


def babble(length: int, generator: np.random.Generator, voices: Sequence[np.ndarray]) -> np.ndarray:
    """Sum of clips at equal level, each repeated if shorter than `length`; `(length,)`."""
    total = np.zeros(length)
    for voice in voices:
        voice = np.resize(np.roll(voice, int(generator.integers(len(voice)))), length)
        total += voice / (rms(voice) or 1.0)
    if not total.any():
        raise ValueError("the other voices are silent")
    return total


# Level and band


def with_gain(samples: np.ndarray, generator, gain_db: float) -> np.ndarray:
    """Change the level by dB; `within_full_scale` clips the result."""
    return samples * 10 ** (gain_db / 20)


def clipped(samples: np.ndarray, generator, share: float) -> np.ndarray:
    """Clip the loudest share of the samples; the rest is unchanged."""
    limit = np.quantile(np.abs(samples), 1 - share)
    return np.clip(samples, -limit, limit)


def telephone(samples: np.ndarray, generator) -> np.ndarray:
    """Telephone audio: 300 to 3,400 Hz at 8 kHz, mu-law.

    The band begins and ends as a handset's does: within 3 dB of its nominal sensitivity from 100 Hz to 1 kHz.

    Source: ITU-T P.48 (1988), intermediate reference system, sending sensitivity.
    """
    narrow = resample(samples, SAMPLING_RATE, 8_000)
    narrow = sosfiltfilt(butter(2, (300, 3_400), "bandpass", fs=8_000, output="sos"), narrow, padlen=0)
    wide = through_codec(np.clip(narrow, -1, 1).astype(np.float32), "WAV", "ULAW", 8_000)
    return with_length(at_16_khz(wide, 8_000), len(samples))


def low_passed(samples: np.ndarray, generator, hertz: float) -> np.ndarray:
    """Remove frequencies above a limit; filtered forwards and backwards, so without delay."""
    sections = butter(8, hertz, "lowpass", fs=SAMPLING_RATE, output="sos")
    return sosfiltfilt(sections, samples, padlen=0)


def with_codec(
    samples: np.ndarray, generator, format, subtype, rate=SAMPLING_RATE, compression=None, mode=None
) -> np.ndarray:
    """Encode and decode a clip at a rate; the result keeps the clip's timing and length."""
    given = samples if rate == SAMPLING_RATE else resample(samples, SAMPLING_RATE, rate)
    decoded = through_codec(given, format, subtype, rate, compression, mode)
    return aligned(decoded if rate == SAMPLING_RATE else at_16_khz(decoded, rate), samples)


def through_codec(
    samples: np.ndarray,
    format: str,
    subtype: str,
    rate: int,
    compression: float | None = None,
    mode: str | None = None,
) -> np.ndarray:
    """Encode samples with libsndfile and decode them again, in memory."""
    return sf.read(BytesIO(encoded(samples, format, subtype, rate, compression, mode)), dtype="float32")[0]


def encoded(
    samples: np.ndarray,
    format: str,
    subtype: str,
    rate: int,
    compression: float | None = None,
    mode: str | None = None,
) -> bytes:
    """Encode samples as a file with libsndfile.

    Args:
        samples: At `rate`.
        format, subtype: libsndfile's names.
        rate: Hertz.
        compression: 0 to 1, the smallest file; None for the format's default.
        mode: Bit-rate mode such as `CONSTANT`; None for the format's default, and for Vorbis and Opus.
    """
    file = BytesIO()
    sf.write(file, samples, rate, format=format, subtype=subtype, compression_level=compression, bitrate_mode=mode)
    return file.getvalue()


def aligned(decoded: np.ndarray, original: np.ndarray) -> np.ndarray:
    """Remove the delay of a codec by correlation: MP3 at low rates begins with its encoder's delay."""
    length = min(len(decoded), len(original))
    correlation = correlate(decoded[:length], original[:length], method="fft")[length - 1 :][:MAX_CODEC_DELAY]
    return with_length(decoded[int(correlation.argmax()) :], len(original))


@cache
def codec_problem(
    format: str, subtype: str, rate: int, compression: float | None = None, mode: str | None = None
) -> str | None:
    """Why this libsndfile cannot write and read a codec; None if it can."""
    try:
        through_codec(np.zeros(rate, dtype=np.float32), format, subtype, rate, compression, mode)
    except (sf.LibsndfileError, ValueError, TypeError) as error:
        why = getattr(error, "error_string", error)
        return f"libsndfile {sf.__libsndfile_version__} does not write and read {format} {subtype} ({why})"
    return None


# Room


def reverberant(samples: np.ndarray, generator, rt60_seconds: float) -> np.ndarray:
    """Add reverberation: noise that decays by 60 dB in RT60 seconds; the level is kept."""
    response = room_response(generator, rt60_seconds)
    dry, response = (torch.from_numpy(np.asarray(one, dtype=np.float32)) for one in (samples, response))
    wet = audio_functional.fftconvolve(dry, response)[: len(dry)].numpy()
    return match_level(samples, wet)


def room_response(generator: np.random.Generator, rt60_seconds: float) -> np.ndarray:
    """Impulse response of a room, RT60 seconds long; `(samples,)`.

    The energy of the reverberation grows with RT60, and equals that of the direct path at 0.6 s.
    """
    times = np.arange(int(rt60_seconds * SAMPLING_RATE)) / SAMPLING_RATE
    tail = generator.standard_normal(len(times)) * 10 ** (-3 * times / rt60_seconds)
    response = tail * np.sqrt(rt60_seconds / 0.6 / np.square(tail).sum())
    response[0] = 1.0
    return response


# Time


def cut(samples: np.ndarray, generator, seconds=None, begin=0.0, end=1.0) -> np.ndarray:
    """Keep the first seconds, or the part between two shares of the length, but at least 0.1 s."""
    length = len(samples)
    first, last = (0, int(seconds * SAMPLING_RATE)) if seconds else (int(begin * length), int(end * length))
    missing = MIN_SAMPLES - (min(last, length) - first)
    first = max(0, first - max(0, missing))
    return samples[first : max(last, first + MIN_SAMPLES)]


def with_wrong_rate(samples: np.ndarray, generator, rate: int) -> np.ndarray:
    """Treat the samples as if they had another rate: length and pitch change."""
    return at_16_khz(samples, rate)


def with_silence(samples: np.ndarray, generator, seconds: float) -> np.ndarray:
    """Put exact zeros in front."""
    return np.pad(samples, (int(seconds * SAMPLING_RATE), 0))


def without_leading_zeros(samples: np.ndarray, generator) -> np.ndarray:
    """Remove the zeros before the first other sample."""
    first = round(leading_zeros_seconds(samples) * SAMPLING_RATE)
    return samples[min(first, max(0, len(samples) - MIN_SAMPLES)) :]


def fill_zeros(samples: np.ndarray, generator, floor_dbfs: float) -> np.ndarray:
    """Replace exact zeros by faint noise."""
    noise = 10 ** (floor_dbfs / 20) * generator.standard_normal(len(samples))
    return np.where(samples == 0, noise, samples)


# Speed, length and pitch


def with_speed(samples: np.ndarray, generator, factor: float) -> np.ndarray:
    """Play faster (above 1) or slower, rounded to 0.01: length and pitch change."""
    return resampled(samples, round(100 * factor), 100)


def time_stretched(samples: np.ndarray, generator, factor: float) -> np.ndarray:
    """Speak faster (above 1) or slower at the same pitch, by a phase vocoder; `(round(samples / factor),)`."""
    hop = VOCODER_WINDOW // 4
    window = torch.hann_window(VOCODER_WINDOW)
    advance = torch.linspace(0, np.pi * hop, VOCODER_WINDOW // 2 + 1)[:, None]
    signal = torch.from_numpy(np.asarray(samples, dtype=np.float32))
    spectrum = torch.stft(signal, VOCODER_WINDOW, hop, window=window, pad_mode="constant", return_complex=True)
    stretched = audio_functional.phase_vocoder(spectrum, factor, advance)
    length = max(1, round(len(samples) / factor))
    speech = torch.istft(stretched, VOCODER_WINDOW, hop, window=window, length=length).numpy()
    return match_level(samples, speech)  # phases of neighbouring bands no longer agree: speech loses 3 dB


def pitch_shifted(samples: np.ndarray, generator, semitones: float) -> np.ndarray:
    """Shift the pitch by semitones at the same length: time-stretch, then resample.

    torchaudio's `pitch_shift` resamples between rates without a common factor, with a kernel of a gigabyte. The nearest
    ratio of small numbers is within 0.01 semitones.
    """
    factor = Fraction(2 ** (semitones / 12)).limit_denominator(50)
    stretched = time_stretched(samples, generator, float(1 / factor))
    return with_length(resampled(stretched, factor.numerator, factor.denominator), len(samples))


def resampled(samples: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Resample; only the ratio of the rates matters."""
    if rate == new_rate:
        return np.asarray(samples, dtype=np.float32)
    return _resampler(rate, new_rate)(torch.from_numpy(np.asarray(samples, dtype=np.float32))).numpy()


@lru_cache(maxsize=256)
def _resampler(rate: int, new_rate: int) -> audio_transforms.Resample:
    """Cached resampler: computing its kernel takes longer than using it."""
    return audio_transforms.Resample(rate, new_rate, **RESAMPLING)


def shifted(samples: np.ndarray, generator, seconds: float) -> np.ndarray:
    """Shift later (zeros in front) or earlier (below 0) at the same length; at most half of the clip is lost."""
    by = int(np.clip(round(seconds * SAMPLING_RATE), -(len(samples) // 2), len(samples) // 2))
    return np.pad(samples, (by, 0))[: len(samples)] if by >= 0 else np.pad(samples[-by:], (0, -by))


MASKS = 2
"""Masks over bands, and over frames, of `spectrum_masked`."""

MASKED_WINDOW, MASKED_HOP = 400, 100
"""Window and hop of `spectrum_masked` in samples: 25 ms and 6.25 ms, close to those of encoders."""


def spectrum_masked(samples: np.ndarray, generator: np.random.Generator, share: float) -> np.ndarray:
    """Replace two ranges of mel bands and two of time, each up to a share of all, by the clip's mean spectrum.

    The published masks put zeros into mean-normalised log-mel features. Here the audio itself is changed (mean log
    magnitude of each frequency, original phases), so that encoders of waveforms are affected too.

    Source: Park et al. 2019, SpecAugment: A simple data augmentation method for automatic speech recognition (without
    time warping).
    """
    frames = {"n_fft": MASKED_WINDOW, "hop_length": MASKED_HOP, "window": torch.hann_window(MASKED_WINDOW)}
    signal = torch.from_numpy(np.asarray(samples, dtype=np.float32))
    spectrum = torch.stft(signal, **frames, pad_mode="constant", return_complex=True)
    mel = np.log10(1 + np.linspace(0, SAMPLING_RATE / 2, len(spectrum)) / 700)
    places = mel / mel[-1], np.linspace(0, 1, spectrum.shape[1])
    masked = np.zeros(spectrum.shape, dtype=bool)
    for axis, place in enumerate(places):
        for _ in range(MASKS):
            width = generator.uniform(0, share)
            start = generator.uniform(0, 1 - width)
            inside = (place >= start) & (place < start + width)
            masked |= inside[:, None] if axis == 0 else inside[None]
    magnitude = spectrum.abs() + 1e-8
    mean = magnitude.log().mean(1, keepdim=True).exp()
    changed = torch.where(torch.from_numpy(masked), spectrum * (mean / magnitude), spectrum)
    return torch.istft(changed, **frames, length=len(samples)).numpy()


# Rate


def upsampled(samples: np.ndarray, generator) -> np.ndarray:
    """Audio of 8 kHz upsampled to 16 kHz: nothing above 4 kHz."""
    narrow = resample(samples, SAMPLING_RATE, 8_000)
    return with_length(at_16_khz(narrow, 8_000), len(samples))


def aliased(samples: np.ndarray, generator) -> np.ndarray:
    """Drop every second sample without a filter: frequencies above 4 kHz alias."""
    return with_length(at_16_khz(samples[::2], 8_000), len(samples))


def at_16_khz(samples: np.ndarray, rate: int) -> np.ndarray:
    """Resample to the models' rate."""
    return resample(samples, rate, SAMPLING_RATE)


def with_length(samples: np.ndarray, length: int) -> np.ndarray:
    """Cut, or pad with zeros at the end, to a length."""
    return np.pad(samples[:length], (0, max(0, length - len(samples))))


def match_level(original: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """Scale a changed clip to the level of the original."""
    return changed * (rms(original) / (rms(changed) or 1.0))


def rms(samples: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
