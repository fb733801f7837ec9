"""Conditions of the stress test: each changes the audio or the text of a clip in one way.

A condition is a function of a sample, a generator and the other rows. Changes of audio are in `hf_ser.augment.changes`,
shared with augmentation. The generator is seeded by condition, seed and row id, so that a change depends neither on
other rows nor on their order. A new condition is one row of `CONDITIONS`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial, wraps

import numpy as np
import soundfile as sf
from datasets import Dataset

from hf_ser import stable
from hf_ser.augment import changes
from hf_ser.augment.changes import MP3, OPUS, VORBIS, codec_problem
from hf_ser.data.schema import SAMPLING_RATE
from hf_ser.models.decoding import decode_audio
from hf_ser.transcripts.noise import Confusions, corrupt, vocabulary_confusions

MILD, HARD, EXTREME = "mild", "hard", "extreme"
SEVERITIES = (MILD, HARD, EXTREME)

NEEDS_AUDIO, NEEDS_TEXT, NEEDS_BOTH, VOICES, CODEC = "audio", "text", "both", "voices", "codec"
"""What a condition needs: a model of audio, text or both; `VOICES` and `CODEC` need audio and more."""

LEAST_SPEAKERS = 3
"""Fewest speakers for babble: with two, the noise would be a single voice."""


@dataclass(frozen=True)
class Sample:
    """A row as input of a model.

    Shapes:
        samples: `(samples,)` float32 at 16 kHz, None where the row has no audio.
    """

    id: str
    samples: np.ndarray | None
    text: str | None


class OtherRows:
    """The other rows of the data set, whose voices and texts conditions use.

    Args:
        dataset: The data set with the transcripts that the model reads; audio is decoded on access.
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
        """Rows with audio of each known speaker."""
        found, lengths = {}, self.dataset["duration_seconds"][:]
        for row in self.order:
            if self.speakers[row] and lengths[row]:
                found.setdefault(self.speakers[row], []).append(row)
        return dict(sorted(found.items()))

    @cached_property
    def confusions(self) -> Confusions:
        """Confusions of each word of the data set with any other."""
        return vocabulary_confusions(self.texts)

    @cached_property
    def digest(self) -> str:
        """Hash of everything that a draw depends on."""
        columns = (self.ids, self.speakers, self.labels, self.texts, self.dataset["pcm_sha256"][:])
        return stable.rows_digest(zip(*columns, strict=True))

    def voices(self, name: str, generator: np.random.Generator) -> list[np.ndarray]:
        """Draw clips of other speakers than a row's.

        Raises:
            ValueError: the row's speaker is unknown.
        """
        speaker = self.speakers[self.row[name]]
        if not speaker:
            raise ValueError("its speaker is unknown: another clip might have the same voice")
        rows = changes.draw_babble_clips(self.clips_of, speaker, generator)
        return [decode_audio(self.dataset[row]["audio"]) for row in rows]

    def other_text(self, name: str, generator: np.random.Generator) -> str:
        """Draw the transcript of a row with another label and another transcript.

        Raises:
            ValueError: there is none.
        """
        own = self.row[name]
        start = int(generator.integers(len(self.order)))
        for row in self.order[start:] + self.order[:start]:
            if self.labels[row] != self.labels[own] and self.texts[row] and self.texts[row] != self.texts[own]:
                return self.texts[row]
        raise ValueError("no clip with another label has another transcript")


Change = Callable[[Sample, np.random.Generator, OtherRows], Sample]


@dataclass(frozen=True)
class Condition:
    """One change of the test clips.

    Args:
        name: Unique name, also of a file.
        group: Kind of change.
        level: Amount, such as `20 dB`.
        severity: `mild` and `hard` are judged, `extreme` is only reported.
        what: One sentence.
        change: Function that makes the changed sample.
        needs: `NEEDS_AUDIO`, `NEEDS_TEXT`, `NEEDS_BOTH`, `VOICES` or `CODEC`.
    """

    name: str
    group: str
    level: str
    severity: str
    what: str
    change: Change
    needs: str = NEEDS_AUDIO


def apply(condition: Condition, sample: Sample, seed: int, others: OtherRows) -> Sample:
    """Change a sample; its audio stays within full scale, as in a file.

    Raises:
        ValueError: the condition does not apply to this sample.
    """
    if sample.samples is None and condition.needs in (NEEDS_AUDIO, VOICES, CODEC):
        raise ValueError("the row has no audio")
    generator = stable.generator(condition.name, seed, sample.id)
    try:
        changed = condition.change(sample, generator, others)
    except sf.LibsndfileError as error:
        raise ValueError(error.error_string) from error
    if changed.samples is None:
        return changed
    return replace(changed, samples=changes.within_full_scale(changed.samples))


def reason_to_skip(condition: Condition, kind: str, others: OtherRows) -> str | None:
    """Why a condition does not apply to a kind of model or data set; None where it does."""
    kinds = {NEEDS_TEXT: ("text", "fusion"), NEEDS_BOTH: ("fusion",)}.get(condition.needs, ("audio", "fusion"))
    if kind not in kinds:
        return f"not for a model of kind {kind}"
    if condition.needs in (NEEDS_TEXT, NEEDS_BOTH) and not any(others.texts):
        return "no row has a transcript"
    if condition.needs == VOICES and len(others.clips_of) < LEAST_SPEAKERS:
        return f"babble needs {LEAST_SPEAKERS} known speakers, found {len(others.clips_of)}"
    return codec_problem(**condition.change.keywords) if condition.needs == CODEC else None


def audio_change(change: Callable[..., np.ndarray]) -> Change:
    """Turn a change of audio into a change of a sample; it keeps its name, which is part of the cache key."""

    @wraps(change)
    def changed(sample: Sample, generator: np.random.Generator, others: OtherRows, **settings) -> Sample:
        return replace(sample, samples=change(sample.samples, generator, **settings))

    return changed


def with_noise(sample: Sample, generator, others: OtherRows, kind: str, snr_db: float) -> Sample:
    """Add white or pink noise, or other speakers' voices, to the whole clip."""
    if kind != "babble":
        return replace(sample, samples=changes.with_noise(sample.samples, generator, kind, snr_db))
    noise = changes.babble(len(sample.samples), generator, others.voices(sample.id, generator))
    return replace(sample, samples=changes.mix_noise(sample.samples, noise, snr_db))


def with_word_errors(sample: Sample, generator, others: OtherRows, wer: float) -> Sample:
    """Replace words with others of the data set, at a word error rate."""
    seed = int(generator.integers(2**31))
    return replace(sample, text=corrupt([sample.text], [sample.id], wer, others.confusions, seed)[0])


def without_text(sample: Sample, generator, others) -> Sample:
    """Remove the transcript."""
    return replace(sample, text=None)


def with_other_text(sample: Sample, generator, others: OtherRows) -> Sample:
    """Replace the transcript with that of a clip with another label."""
    return replace(sample, text=others.other_text(sample.id, generator)) if sample.text else sample


def without_audio(sample: Sample, generator, others) -> Sample:
    """Remove the audio."""
    return replace(sample, samples=None)


def _group(group: str, change: Change, *rows: tuple, needs: str = NEEDS_AUDIO) -> tuple[Condition, ...]:
    """Conditions of one function; a row is name, level, severity, sentence and the function's settings."""
    return tuple(
        Condition(name, group, level, severity, what, partial(change, **settings), needs)
        for name, level, severity, what, settings in rows
    )


def _noises(kind: str, what: str, needs: str = NEEDS_AUDIO) -> tuple[Condition, ...]:
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
        audio_change(changes.with_gain),
        ("gain_minus_30db", "-30 dB", MILD, "A much softer recording.", {"gain_db": -30.0}),
        ("gain_minus_15db", "-15 dB", MILD, "A softer recording.", {"gain_db": -15.0}),
        ("gain_plus_15db", "+15 dB", MILD, "A louder recording, clipped at full scale.", {"gain_db": 15.0}),
    ),
    *_group(
        "clipping",
        audio_change(changes.clipped),
        ("clipping_1", "1 %", MILD, "The loudest hundredth of the samples is cut flat.", {"share": 0.01}),
        ("clipping_10", "10 %", HARD, "The loudest tenth of the samples is cut flat.", {"share": 0.1}),
    ),
    *_group(
        "band",
        audio_change(changes.telephone),
        ("telephone", "300-3,400 Hz", HARD, "A telephone: its band, at 8 kHz, in mu-law.", {}),
    ),
    *_group(
        "band",
        audio_change(changes.low_passed),
        ("low_pass_4khz", "4 kHz", HARD, "Nothing above 4 kHz.", {"hertz": 4_000.0}),
    ),
    *_group(
        "codec",
        audio_change(changes.with_codec),
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
        audio_change(changes.reverberant),
        ("room_0.3s", "RT60 0.3 s", MILD, "Reverberation that falls by 60 dB in 0.3 s.", {"rt60_seconds": 0.3}),
        ("room_0.6s", "RT60 0.6 s", HARD, "Reverberation that falls by 60 dB in 0.6 s.", {"rt60_seconds": 0.6}),
        ("room_1.2s", "RT60 1.2 s", EXTREME, "Reverberation that falls by 60 dB in 1.2 s.", {"rt60_seconds": 1.2}),
    ),
    *_group(
        "cut",
        audio_change(changes.cut),
        ("first_2s", "first 2 s", HARD, "Only the first 2 s.", {"seconds": 2.0}),
        ("first_1s", "first 1 s", EXTREME, "Only the first second.", {"seconds": 1.0}),
        ("last_half", "last half", HARD, "Only the second half.", {"begin": 0.5}),
        ("middle_half", "middle half", HARD, "Without first and last quarter.", {"begin": 0.25, "end": 0.75}),
    ),
    *_group(
        "speed",
        audio_change(changes.with_wrong_rate),
        ("speed_0.9", "0.9", MILD, "A tenth slower, and lower.", {"rate": 14_400}),
        ("speed_1.1", "1.1", MILD, "A tenth faster, and higher.", {"rate": 17_600}),
        ("speed_0.75", "0.75", HARD, "A quarter slower, and lower.", {"rate": 12_000}),
        ("speed_1.33", "1.33", HARD, "A third faster, and higher.", {"rate": 21_280}),
    ),
    *_group(
        "silence",
        audio_change(changes.with_silence),
        ("silence_0.5s", "0.5 s in front", MILD, "Half a second of exact zeros in front.", {"seconds": 0.5}),
        ("silence_2s", "2 s in front", HARD, "Two seconds of exact zeros in front.", {"seconds": 2.0}),
    ),
    *_group(
        "silence",
        audio_change(changes.without_leading_zeros),
        ("no_leading_zeros", "none in front", MILD, "Without the exact zeros in front, which can reveal a label.", {}),
    ),
    *_group(
        "silence",
        audio_change(changes.fill_zeros),
        ("no_zeros", "-70 dBFS instead", MILD, "Faint noise in place of all exact zeros.", {"floor_dbfs": -70.0}),
    ),
    *_group(
        "rate",
        audio_change(changes.with_wrong_rate),
        ("taken_for_8khz", "as 8 kHz", EXTREME, "16 kHz taken for 8 kHz: half as fast, and lower.", {"rate": 8_000}),
        ("taken_for_22khz", "as 22.05 kHz", HARD, "16 kHz taken for 22.05 kHz: faster, and higher.", {"rate": 22_050}),
        ("taken_for_44khz", "as 44.1 kHz", EXTREME, "16 kHz taken for 44.1 kHz: much faster.", {"rate": 44_100}),
    ),
    *_group(
        "rate",
        audio_change(changes.upsampled),
        ("from_8khz", "from 8 kHz", HARD, "Recorded at 8 kHz and brought to 16 kHz.", {}),
    ),
    *_group(
        "rate",
        audio_change(changes.aliased),
        ("aliased", "no filter", EXTREME, "Every second sample taken, without a filter.", {}),
    ),
    *_group(
        "words",
        with_word_errors,
        ("wer_0.1", "WER 0.1", MILD, "A tenth of the words is wrong.", {"wer": 0.1}),
        ("wer_0.2", "WER 0.2", HARD, "A fifth of the words is wrong.", {"wer": 0.2}),
        ("wer_0.4", "WER 0.4", EXTREME, "Two fifths of the words are wrong.", {"wer": 0.4}),
        needs=NEEDS_TEXT,
    ),
    *_group(
        "words",
        with_other_text,
        ("wrong_words", "wrong", EXTREME, "Words of another label's clip.", {}),
        needs=NEEDS_TEXT,
    ),
    # For fused models only: without its only modality a model gives every clip the same answer.
    *_group("words", without_text, ("no_words", "missing", HARD, "No transcript.", {}), needs=NEEDS_BOTH),
    *_group("words", without_audio, ("no_sound", "no audio", HARD, "No audio, the text alone.", {}), needs=NEEDS_BOTH),
)

GROUPS = tuple(dict.fromkeys(condition.group for condition in CONDITIONS))
