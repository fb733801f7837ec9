"""What may differ between a corpus and the world: each condition changes a clip, or its words, in one way.

A condition is a plain function of a sample, a generator and what else the data set holds. The generator is seeded by
the condition's name, the seed and the row's id, so that what happens to a row depends neither on the rows beside it nor
on their order. A new condition is one row of `CONDITIONS`.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from io import BytesIO

import numpy as np
import soundfile as sf
import torch
from datasets import Dataset
from scipy.signal import butter, correlate, sosfiltfilt
from torchaudio.functional import add_noise, fftconvolve

from hf_ser.audio import leading_zeros_seconds
from hf_ser.columns import SAMPLING_RATE
from hf_ser.models.decoding import decode_audio
from hf_ser.transcripts.noise import Confusions, corrupted, vocabulary_confusions

MILD, HARD, EXTREME = "mild", "hard", "extreme"
SEVERITIES = (MILD, HARD, EXTREME)

SOUND, WORDS, BOTH, VOICES, CODEC = "sound", "words", "both", "voices", "codec"
"""What a condition needs: a model that hears, one that reads, a fused one; with the last two a model that hears, and
other speakers' clips or a codec of libsndfile."""

MP3, VORBIS, OPUS = ("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("OGG", "OPUS")

LEAST_SAMPLES = SAMPLING_RATE // 10
"""A cut leaves 0.1 s at least."""

BABBLE_VOICES = 5
LEAST_SPEAKERS = 3
"""Of a data set, for babble: with two, all of it would be one voice talking beside another."""

LONGEST_DELAY = 2_500
"""Samples by which a codec's answer may come late; LAME's is 1,105."""


@dataclass(frozen=True)
class Sample:
    """A row as the model is to get it.

    Shapes:
        samples: `(samples,)` float32 at 16 kHz, None where the row has no sound.
    """

    id: str
    samples: np.ndarray | None
    text: str | None


class Others:
    """The data set around a row: whose voices may talk beside it, and whose words may take the place of its own.

    Args:
        dataset: With the words as they are read; sound is decoded when it is asked for.
    """

    def __init__(self, dataset: Dataset):
        self.dataset = dataset
        self.ids, self.speakers, self.labels, self.texts = (
            dataset[name][:] for name in ("id", "speaker", "label", "transcript")
        )
        self.row = {name: row for row, name in enumerate(self.ids)}
        # By id, so that a data set in another order gives the same draws.
        self.order = sorted(range(len(self.ids)), key=self.ids.__getitem__)

    @cached_property
    def clips_of(self) -> dict[str, list[int]]:
        """Rows with sound of each known speaker."""
        found, heard = {}, self.dataset["duration_seconds"][:]
        for row in self.order:
            if self.speakers[row] and heard[row]:
                found.setdefault(self.speakers[row], []).append(row)
        return dict(sorted(found.items()))

    @cached_property
    def confusions(self) -> Confusions:
        """Any word of the data set for any other."""
        return vocabulary_confusions(self.texts)

    @cached_property
    def digest(self) -> str:
        """Hash of all that a draw can depend on."""
        columns = (self.ids, self.speakers, self.labels, self.texts, self.dataset["pcm_sha256"][:])
        rows = sorted(map(repr, zip(*columns, strict=True)))
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()

    def voices(self, name: str, generator: np.random.Generator) -> list[np.ndarray]:
        """Clips of other speakers than a row's, of as many as there are.

        Raises:
            ValueError: the row's speaker is not known.
        """
        speaker = self.speakers[self.row[name]]
        if not speaker:
            raise ValueError("its speaker is not known: any other voice might be the same")
        theirs = generator.permutation([one for one in self.clips_of if one != speaker])
        chosen = [self.clips_of[theirs[turn % len(theirs)]] for turn in range(BABBLE_VOICES)]
        rows = [rows[generator.integers(len(rows))] for rows in chosen]
        return [decode_audio(self.dataset[row]["audio"]) for row in rows]

    def other_words(self, name: str, generator: np.random.Generator) -> str:
        """Words, other than a row's own, of a row with another label.

        Raises:
            ValueError: no row has such words.
        """
        own = self.row[name]
        start = int(generator.integers(len(self.order)))
        for row in self.order[start:] + self.order[:start]:
            if self.labels[row] != self.labels[own] and self.texts[row] and self.texts[row] != self.texts[own]:
                return self.texts[row]
        raise ValueError("no clip with another label has other words")


Change = Callable[[Sample, np.random.Generator, Others], Sample]


@dataclass(frozen=True)
class Condition:
    """One way in which the test differs from the corpus.

    Args:
        name: Unique, and a file name.
        group: Kind of change.
        level: How much of it, such as `20 dB`.
        severity: `mild` and `hard` are judged, `extreme` is told.
        what: One sentence.
        change: Makes the changed sample.
        needs: `SOUND`, `WORDS`, `BOTH`, `VOICES` or `CODEC`.
    """

    name: str
    group: str
    level: str
    severity: str
    what: str
    change: Change
    needs: str = SOUND


def apply(condition: Condition, sample: Sample, seed: int, others: Others) -> Sample:
    """A sample under a condition, its sound within full scale as a file would hold it.

    Raises:
        ValueError: the condition cannot be put on this sample.
    """
    if sample.samples is None and condition.needs in (SOUND, VOICES, CODEC):
        raise ValueError("the row has no sound")
    digest = hashlib.sha256(f"{condition.name}/{seed}/{sample.id}".encode()).digest()
    generator = np.random.default_rng(int.from_bytes(digest[:16], "big"))
    try:
        changed = condition.change(sample, generator, others)
    except sf.LibsndfileError as error:
        raise ValueError(error.error_string) from error
    if changed.samples is None:
        return changed
    samples = np.asarray(changed.samples, dtype=np.float32)
    if not (len(samples) and np.isfinite(samples).all()):
        raise ValueError("the change leaves no finite sound")
    return replace(changed, samples=np.clip(samples, -1, 1))


def lacking(condition: Condition, kind: str, others: Others) -> str | None:
    """Why a condition says nothing about a kind of model, or cannot be made here; None where it can."""
    kinds = {WORDS: ("text", "fusion"), BOTH: ("fusion",)}.get(condition.needs, ("audio", "fusion"))
    if kind not in kinds:
        return f"not for a model of kind {kind}"
    if condition.needs in (WORDS, BOTH) and not any(others.texts):
        return "no row has words"
    if condition.needs == VOICES and len(others.clips_of) < LEAST_SPEAKERS:
        return f"babble takes {LEAST_SPEAKERS} known speakers, found {len(others.clips_of)}"
    return lacking_codec(**condition.change.keywords) if condition.needs == CODEC else None


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


# Noise


def with_noise(sample: Sample, generator, others: Others, kind: str, snr_db: float) -> Sample:
    """Noise over the whole clip; the clip's power is that between its first and its last sample that is not zero."""
    sounding = np.flatnonzero(sample.samples)
    if not len(sounding):
        raise ValueError("digital silence has no signal-to-noise ratio")
    length = len(sample.samples)
    noise = babble(sample, generator, others) if kind == "babble" else colored(length, generator, kind)
    share = (sounding[-1] - sounding[0] + 1) / length
    # add_noise compares the energies of whole clips: padding with zeros would make the noise softer.
    ratio = torch.tensor(snr_db + 10 * np.log10(share))
    signal, noise = (torch.from_numpy(np.asarray(one, dtype=np.float32)) for one in (sample.samples, noise))
    return replace(sample, samples=add_noise(signal, noise, ratio).numpy())


def colored(length: int, generator: np.random.Generator, kind: str) -> np.ndarray:
    """White noise, or pink (power falling with 1/f); `(length,)`."""
    white = generator.standard_normal(length)
    if kind == "white":
        return white
    spectrum = np.fft.rfft(white)
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    return np.fft.irfft(spectrum, length)


def babble(sample: Sample, generator: np.random.Generator, others: Others) -> np.ndarray:
    """The sum of other speakers' clips, each as loud as the next, repeated where it is shorter than the sample."""
    total = np.zeros(len(sample.samples))
    for voice in others.voices(sample.id, generator):
        voice = np.resize(np.roll(voice, int(generator.integers(len(voice)))), len(total))
        total += voice / (rms(voice) or 1.0)
    if not total.any():
        raise ValueError("the other voices are silent")
    return total


# Level and band


def with_gain(sample: Sample, generator, others, gain_db: float) -> Sample:
    """Louder or softer; `apply` clips what passes full scale."""
    return replace(sample, samples=sample.samples * 10 ** (gain_db / 20))


def clipped(sample: Sample, generator, others, share: float) -> Sample:
    """The loudest samples cut flat where they begin; the rest keeps its level."""
    limit = np.quantile(np.abs(sample.samples), 1 - share)
    return replace(sample, samples=np.clip(sample.samples, -limit, limit))


def telephone(sample: Sample, generator, others) -> Sample:
    """300 to 3,400 Hz, at 8 kHz, in the mu-law code of a digital exchange."""
    narrow = decode_audio({"array": sample.samples, "sampling_rate": SAMPLING_RATE}, 8_000)
    narrow = sosfiltfilt(butter(6, (300, 3_400), "bandpass", fs=8_000, output="sos"), narrow, padlen=0)
    wide = coded(np.clip(narrow, -1, 1).astype(np.float32), "WAV", "ULAW", 8_000)
    return replace(sample, samples=fitted(at_16_khz(wide, 8_000), len(sample.samples)))


def low_passed(sample: Sample, generator, others, hertz: float) -> Sample:
    """Without what lies above a frequency; forwards and backwards, so that nothing is delayed."""
    sections = butter(8, hertz, "lowpass", fs=SAMPLING_RATE, output="sos")
    return replace(sample, samples=sosfiltfilt(sections, sample.samples, padlen=0))


def with_codec(
    sample: Sample, generator, others, format, subtype, rate=SAMPLING_RATE, compression=None, mode=None
) -> Sample:
    """Written by a codec at a rate and read again, at the clip's own place in time and length."""
    samples = sample.samples
    if rate != SAMPLING_RATE:
        samples = decode_audio({"array": samples, "sampling_rate": SAMPLING_RATE}, rate)
    decoded = coded(samples, format, subtype, rate, compression, mode)
    if rate != SAMPLING_RATE:
        decoded = at_16_khz(decoded, rate)
    return replace(sample, samples=aligned(decoded, sample.samples))


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


# Room


def reverberant(sample: Sample, generator, others, rt60_seconds: float) -> Sample:
    """In a room: the direct sound, then noise that falls by 60 dB in RT60; the level stays.

    The reverberation's energy grows with RT60, as in rooms of one size, and is the direct sound's at 0.6 s.
    """
    times = np.arange(int(rt60_seconds * SAMPLING_RATE)) / SAMPLING_RATE
    tail = generator.standard_normal(len(times)) * 10 ** (-3 * times / rt60_seconds)
    response = tail * np.sqrt(rt60_seconds / 0.6 / np.square(tail).sum())
    response[0] = 1.0
    dry, response = (torch.from_numpy(np.asarray(one, dtype=np.float32)) for one in (sample.samples, response))
    wet = fftconvolve(dry, response)[: len(dry)].numpy()
    return replace(sample, samples=wet * (rms(sample.samples) / (rms(wet) or 1.0)))


# Time


def cut(sample: Sample, generator, others, seconds=None, begin=0.0, end=1.0) -> Sample:
    """The first seconds, or the part between two shares of the length; 0.1 s at least, where the clip has it."""
    length = len(sample.samples)
    first, last = (0, int(seconds * SAMPLING_RATE)) if seconds else (int(begin * length), int(end * length))
    missing = LEAST_SAMPLES - (min(last, length) - first)
    first = max(0, first - max(0, missing))
    return replace(sample, samples=sample.samples[first : max(last, first + LEAST_SAMPLES)])


def taken_for(sample: Sample, generator, others, rate: int) -> Sample:
    """Played as if its samples had been taken at another rate: length and pitch change."""
    return replace(sample, samples=at_16_khz(sample.samples, rate))


def with_silence(sample: Sample, generator, others, seconds: float) -> Sample:
    """Exact zeros in front."""
    return replace(sample, samples=np.pad(sample.samples, (int(seconds * SAMPLING_RATE), 0)))


def without_leading_zeros(sample: Sample, generator, others) -> Sample:
    """Begun with the first sample that is not zero."""
    first = round(leading_zeros_seconds(sample.samples) * SAMPLING_RATE)
    return replace(sample, samples=sample.samples[min(first, max(0, len(sample.samples) - LEAST_SAMPLES)) :])


def without_zeros(sample: Sample, generator, others, floor_dbfs: float) -> Sample:
    """Faint noise wherever the clip is exactly zero."""
    noise = 10 ** (floor_dbfs / 20) * generator.standard_normal(len(sample.samples))
    return replace(sample, samples=np.where(sample.samples == 0, noise, sample.samples))


# Rate


def upsampled(sample: Sample, generator, others) -> Sample:
    """Recorded at 8 kHz and brought to 16 kHz: nothing above 4 kHz."""
    narrow = decode_audio({"array": sample.samples, "sampling_rate": SAMPLING_RATE}, 8_000)
    return replace(sample, samples=fitted(at_16_khz(narrow, 8_000), len(sample.samples)))


def aliased(sample: Sample, generator, others) -> Sample:
    """Every second sample taken without a filter: what lay above 4 kHz is folded under it."""
    return replace(sample, samples=fitted(at_16_khz(sample.samples[::2], 8_000), len(sample.samples)))


# Words


def misread(sample: Sample, generator, others: Others, wer: float) -> Sample:
    """Words wrong at a word error rate, one of the data set's in the place of another."""
    seed = int(generator.integers(2**31))
    return replace(sample, text=corrupted([sample.text], [sample.id], wer, others.confusions, seed)[0])


def without_words(sample: Sample, generator, others) -> Sample:
    """No transcript."""
    return replace(sample, text=None)


def wrong_words(sample: Sample, generator, others: Others) -> Sample:
    """The transcript of a clip with another label."""
    return replace(sample, text=others.other_words(sample.id, generator)) if sample.text else sample


def without_sound(sample: Sample, generator, others) -> Sample:
    """No sound."""
    return replace(sample, samples=None)


def at_16_khz(samples: np.ndarray, rate: int) -> np.ndarray:
    """Resampled to the models' rate."""
    return decode_audio({"array": np.asarray(samples, dtype=np.float32), "sampling_rate": rate})


def fitted(samples: np.ndarray, length: int) -> np.ndarray:
    """Cut, or padded with zeros behind, to a length."""
    return np.pad(samples[:length], (0, max(0, length - len(samples))))


def rms(samples: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def _group(group: str, change: Change, *rows: tuple, needs: str = SOUND) -> tuple[Condition, ...]:
    """Conditions of one function; each row is name, level, severity, sentence and the function's settings."""
    return tuple(
        Condition(name, group, level, severity, what, partial(change, **settings), needs)
        for name, level, severity, what, settings in rows
    )


def _noises(kind: str, what: str, needs: str = SOUND) -> tuple[Condition, ...]:
    rows = (
        (f"{kind}_{snr}db", f"{snr} dB", severity, f"{what}, {snr} dB under it.", {"kind": kind, "snr_db": float(snr)})
        for snr, severity in ((20, MILD), (10, HARD), (0, EXTREME))
    )
    return _group("noise", with_noise, *rows, needs=needs)


def _codec(format: str, subtype: str, rate: int = SAMPLING_RATE, compression=None, mode: str | None = None) -> dict:
    return {"format": format, "subtype": subtype, "rate": rate, "compression": compression, "mode": mode}


CONDITIONS = (
    *_noises("white", "The clip in white noise"),
    *_noises("pink", "The clip in pink noise"),
    *_noises("babble", "The clip in the voices of five others", needs=VOICES),
    *_group(
        "gain",
        with_gain,
        ("gain_minus_30db", "-30 dB", MILD, "A much softer recording.", {"gain_db": -30.0}),
        ("gain_minus_15db", "-15 dB", MILD, "A softer recording.", {"gain_db": -15.0}),
        ("gain_plus_15db", "+15 dB", MILD, "A louder recording, clipped at full scale.", {"gain_db": 15.0}),
    ),
    *_group(
        "clipping",
        clipped,
        ("clipping_1", "1 %", MILD, "The loudest hundredth of the samples is cut flat.", {"share": 0.01}),
        ("clipping_10", "10 %", HARD, "The loudest tenth of the samples is cut flat.", {"share": 0.1}),
    ),
    *_group("band", telephone, ("telephone", "300-3,400 Hz", HARD, "A telephone: its band, at 8 kHz, in mu-law.", {})),
    *_group("band", low_passed, ("low_pass_4khz", "4 kHz", HARD, "Nothing above 4 kHz.", {"hertz": 4_000.0})),
    *_group(
        "codec",
        with_codec,
        # A level names a bit rate only where it is constant: Vorbis and Opus spend on each clip what it takes.
        ("mp3_24kbit", "MP3 24 kbit/s", MILD, "MP3 at 24 kbit/s.", _codec(*MP3, compression=0.9, mode="CONSTANT")),
        ("mp3_8kbit", "MP3 8 kbit/s", HARD, "MP3 at 8 kbit/s.", _codec(*MP3, compression=0.99, mode="CONSTANT")),
        ("vorbis_lowest", "Vorbis lowest", MILD, "Ogg Vorbis at its lowest quality.", _codec(*VORBIS, compression=1.0)),
        ("opus_low", "Opus low", MILD, "Opus at a low quality.", _codec(*OPUS, compression=0.9)),
        ("opus_very_low", "Opus very low", HARD, "Opus at a very low quality.", _codec(*OPUS, compression=0.97)),
        ("mu_law", "mu-law 8 bits", MILD, "Mu-law, 8 bits a sample.", _codec("WAV", "ULAW")),
        ("gsm", "GSM 13 kbit/s", HARD, "GSM 6.10 at 8 kHz, an early mobile telephone.", _codec("WAV", "GSM610", 8_000)),
        needs=CODEC,
    ),
    *_group(
        "room",
        reverberant,
        ("room_0.3s", "RT60 0.3 s", MILD, "Reverberation that falls by 60 dB in 0.3 s.", {"rt60_seconds": 0.3}),
        ("room_0.6s", "RT60 0.6 s", HARD, "Reverberation that falls by 60 dB in 0.6 s.", {"rt60_seconds": 0.6}),
        ("room_1.2s", "RT60 1.2 s", EXTREME, "Reverberation that falls by 60 dB in 1.2 s.", {"rt60_seconds": 1.2}),
    ),
    *_group(
        "cut",
        cut,
        ("first_2s", "first 2 s", HARD, "Only the first 2 s.", {"seconds": 2.0}),
        ("first_1s", "first 1 s", EXTREME, "Only the first second.", {"seconds": 1.0}),
        ("last_half", "last half", HARD, "Only the second half.", {"begin": 0.5}),
        ("middle_half", "middle half", HARD, "Without first and last quarter.", {"begin": 0.25, "end": 0.75}),
    ),
    *_group(
        "speed",
        taken_for,
        ("speed_0.9", "0.9", MILD, "A tenth slower, and lower.", {"rate": 14_400}),
        ("speed_1.1", "1.1", MILD, "A tenth faster, and higher.", {"rate": 17_600}),
        ("speed_0.75", "0.75", HARD, "A quarter slower, and lower.", {"rate": 12_000}),
        ("speed_1.33", "1.33", HARD, "A third faster, and higher.", {"rate": 21_280}),
    ),
    *_group(
        "silence",
        with_silence,
        ("silence_0.5s", "0.5 s in front", MILD, "Half a second of exact zeros in front.", {"seconds": 0.5}),
        ("silence_2s", "2 s in front", HARD, "Two seconds of exact zeros in front.", {"seconds": 2.0}),
    ),
    *_group(
        "silence",
        without_leading_zeros,
        ("no_leading_zeros", "none in front", MILD, "Without the exact zeros in front, which can tell a label.", {}),
    ),
    *_group(
        "silence",
        without_zeros,
        ("no_zeros", "-70 dBFS instead", MILD, "Faint noise in the place of all exact zeros.", {"floor_dbfs": -70.0}),
    ),
    *_group(
        "rate",
        taken_for,
        ("taken_for_8khz", "as 8 kHz", EXTREME, "16 kHz taken for 8 kHz: half as fast, and lower.", {"rate": 8_000}),
        ("taken_for_22khz", "as 22.05 kHz", HARD, "16 kHz taken for 22.05 kHz: faster, and higher.", {"rate": 22_050}),
        ("taken_for_44khz", "as 44.1 kHz", EXTREME, "16 kHz taken for 44.1 kHz: much faster.", {"rate": 44_100}),
    ),
    *_group("rate", upsampled, ("from_8khz", "from 8 kHz", HARD, "Recorded at 8 kHz and brought to 16 kHz.", {})),
    *_group("rate", aliased, ("aliased", "no filter", EXTREME, "Every second sample taken, without a filter.", {})),
    *_group(
        "words",
        misread,
        ("wer_0.1", "WER 0.1", MILD, "A tenth of the words is wrong.", {"wer": 0.1}),
        ("wer_0.2", "WER 0.2", HARD, "A fifth of the words is wrong.", {"wer": 0.2}),
        ("wer_0.4", "WER 0.4", EXTREME, "Two fifths of the words are wrong.", {"wer": 0.4}),
        needs=WORDS,
    ),
    *_group("words", wrong_words, ("wrong_words", "wrong", EXTREME, "Words of another label's clip.", {}), needs=WORDS),
    # Without its only modality a model says the same of every clip, which is no news: for fused models alone.
    *_group("words", without_words, ("no_words", "missing", HARD, "No transcript.", {}), needs=BOTH),
    *_group("words", without_sound, ("no_sound", "no sound", HARD, "No sound, words alone.", {}), needs=BOTH),
)

GROUPS = tuple(dict.fromkeys(condition.group for condition in CONDITIONS))
