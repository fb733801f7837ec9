"""The changes of training clips that a specification may name, and how it is read.

A specification names changes, each with its probability and the range of its strength:
`pink:0.5@5-20,gain,speed:0.3@0.9-1.1`. Changes parted by a slash take turns, each in every so-many-th view of a clip:
`telephone/white@15-25/room`. A new change is one entry of `CHANGES`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hf_ser.models.samples import SAMPLING_RATE

ChangeFunction = Callable[..., np.ndarray]
"""Of samples, a generator, a strength, the clip's id and the `MixingSources`."""


@dataclass(frozen=True)
class Change:
    """A change that a specification may name.

    Args:
        change: Returns changed samples, from samples, a generator, a strength, the clip's id and the mixing sources.
        probability: Default probability.
        low, high: Default range of the strength; None for a change without strength.
        limits: Lowest and highest strength.
        unit: Unit of the strength with a space before, or empty.
        what: Description in one sentence.
        version: Of its function: raise it when that changes, so that no kept view is used again.
    """

    change: ChangeFunction
    probability: float
    low: float | None
    high: float | None
    limits: tuple[float, float]
    unit: str
    what: str
    version: int = 1


def _changes():
    """`hf_ser.augment.changes`, imported as the first clip is changed: it needs torch, and settings are read before."""
    from hf_ser.augment import changes

    return changes


def _audio_change(change: str, setting: str | None = None) -> ChangeFunction:
    """Wrap a function of `hf_ser.augment.changes`; the strength is its argument `setting`."""

    def changed(samples, generator, strength, name, sources):
        return getattr(_changes(), change)(samples, generator, **({setting: strength} if setting else {}))

    return changed


def _white_or_pink(samples, generator, strength, name, sources) -> np.ndarray:
    kind = (_white, _pink)[generator.integers(2)]
    return kind(samples, generator, strength, name, sources)


def _white(samples, generator, strength, name, sources) -> np.ndarray:
    return _changes().with_noise(samples, generator, "white", strength)


def _pink(samples, generator, strength, name, sources) -> np.ndarray:
    from scipy.fft import next_fast_len

    changes = _changes()
    # A Fourier transform of a length with large prime factors takes ten times as long as one of a longer clip.
    noise = changes.colored_noise(next_fast_len(len(samples), real=True), generator, "pink")
    return changes.mix_noise(samples, noise[: len(samples)], strength)


def _room(samples, generator, strength, name, sources) -> np.ndarray:
    from scipy.signal import oaconvolve

    changes = _changes()
    response = changes.room_response(generator, strength).astype(np.float32)
    # Not `reverberant`: the last bits of torch's transform depend on its threads, of which a loader worker has one.
    return changes.match_level(samples, oaconvolve(samples, response)[: len(samples)])


def _babble(samples, generator, strength, name, sources) -> np.ndarray:
    changes = _changes()
    voices = sources.voices(name, generator)
    return changes.mix_noise(samples, changes.babble(len(samples), generator, voices), strength)


def _noise_folder(samples, generator, strength, name, sources) -> np.ndarray:
    return _changes().mix_noise(samples, sources.noise(len(samples), generator), strength)


def _codec(samples, generator, strength, name, sources) -> np.ndarray:
    """Encode and decode with a random codec that this libsndfile has."""
    changes = _changes()
    settings = [
        {"format": format, "subtype": subtype, "rate": SAMPLING_RATE, "mode": mode}
        for (format, subtype), mode in ((changes.MP3, "CONSTANT"), (changes.VORBIS, None), (changes.OPUS, None))
    ]
    usable = [one for one in settings if changes.codec_problem(**one) is None]
    if not usable:
        import soundfile as sf

        raise ValueError(f"libsndfile {sf.__libsndfile_version__} writes none of MP3, Vorbis and Opus")
    return changes.with_codec(samples, generator, **usable[generator.integers(len(usable))], compression=strength)


_SNR = (-20.0, 60.0)

CHANGES = {
    "pitch_shift": Change(
        _audio_change("pitch_shifted", "semitones"),
        0.3,
        -2,
        2,
        (-12, 12),
        " semitones",
        "Higher or lower by semitones, as long.",
    ),
    "time_stretch": Change(
        _audio_change("time_stretched", "factor"),
        0.3,
        0.9,
        1.1,
        (0.5, 2),
        "",
        "Faster by a factor, at the same pitch.",
    ),
    "speed": Change(
        _audio_change("with_speed", "factor"),
        0.3,
        0.9,
        1.1,
        (0.5, 2),
        "",
        "Faster by a factor, and higher by as much.",
    ),
    "shift": Change(
        _audio_change("shifted", "seconds"),
        0.5,
        -0.2,
        0.2,
        (-5, 5),
        " s",
        "Later by seconds, at the same length.",
    ),
    "room": Change(_room, 0.3, 0.1, 0.6, (0.02, 2), " s", "A room of an RT60 in seconds."),
    "babble": Change(
        _babble, 0.3, 10, 25, _SNR, " dB", "Five training clips of other speakers, at a signal-to-noise ratio in dB."
    ),
    "noise_folder": Change(_noise_folder, 0.5, 5, 20, _SNR, " dB", "A file of --noise_dir, at a ratio in dB."),
    "noise": Change(_white_or_pink, 0.5, 5, 20, _SNR, " dB", "White noise or pink, at a ratio in dB."),
    "white": Change(_white, 0.5, 5, 20, _SNR, " dB", "White noise, likewise."),
    "pink": Change(_pink, 0.5, 5, 20, _SNR, " dB", "Pink noise, likewise."),
    "gain": Change(
        _audio_change("with_gain", "gain_db"),
        0.5,
        -6,
        6,
        (-60, 40),
        " dB",
        "Louder by dB, clipped at full scale.",
    ),
    "codec": Change(_codec, 0.3, 0.5, 0.95, (0, 1), "", "MP3, Vorbis or Opus at a compression, 1 the smallest file."),
    "telephone": Change(
        _audio_change("telephone"), 0.2, None, None, (0, 0), "", "300 to 3,400 Hz in mu-law at 8 kHz.", version=2
    ),
    "spec_augment": Change(
        _audio_change("spectrum_masked", "share"),
        0.5,
        0.05,
        0.15,
        (0, 0.5),
        "",
        "Two ranges of bands and two of time masked, each up to a share of all.",
    ),
}
"""Changes by name, in the order in which they are applied: voice, room, noise, recording, spectrogram."""

ITEM = re.compile(r"(?P<name>[a-z_]+)(?::(?P<share>[\d.]+))?(?:@(?P<low>[+-]?[\d.]+)(?:-(?P<high>[+-]?[\d.]+))?)?")


@dataclass(frozen=True)
class RequestedChange:
    """A change of a specification; its strength is drawn uniformly from `low` to `high`."""

    name: str
    probability: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        ranged = "" if self.low is None else f"@{self.low:g}-{self.high:g}"
        return f"{self.name}:{self.probability:g}{ranged}"


def parse_augmentation(spec: str) -> tuple[tuple[RequestedChange, ...], ...]:
    """Parse a specification of changes: its turns, each with its changes in the order in which they are applied.

    Args:
        spec: Names of `CHANGES`, separated by commas, each also as `name:probability@low-high`, `name:probability` or
            `name@low-high`; one number after the @ is a fixed strength. Such lists, separated by slashes, take turns:
            the first view of a clip gets those of the first, and so on. A change in turns is certain to be made where
            it has no probability.

    Raises:
        ValueError: another form, an unknown or repeated name, or a number out of its limits.
    """
    turns = [[item.strip() for item in turn.split(",")] for turn in spec.split("/")]
    return tuple(_read_turn(turn, spec, len(turns) > 1) for turn in turns)


def _read_turn(items: list[str], spec: str, takes_turns: bool) -> tuple[RequestedChange, ...]:
    requested = [_read_item(item, spec, takes_turns) for item in items]
    names = [one.name for one in requested]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"--augment {spec}: found {twice[0]} twice, expected each change once: leave one of them out, or let them "
            f"take turns, as in {twice[0]}/{twice[0]}."
        )
    return tuple(sorted(requested, key=lambda one: list(CHANGES).index(one.name)))


def _read_item(item: str, spec: str, is_certain: bool) -> RequestedChange:
    """Parse one change; raises as `parse_augmentation`."""
    match = ITEM.fullmatch(item)
    if match is None or match["name"] not in CHANGES:
        raise ValueError(
            f"--augment {spec}: found '{item}', expected one of {', '.join(CHANGES)}, with a probability and a range "
            "where the defaults do not suit, such as pink:0.5@5-20."
        )
    kind, ranged = CHANGES[match["name"]], match["low"] is not None
    try:
        usual = 1.0 if is_certain else kind.probability
        share = usual if match["share"] is None else float(match["share"])
        low = float(match["low"]) if ranged else kind.low
        high = (low if match["high"] is None else float(match["high"])) if ranged else kind.high
    except ValueError as error:
        raise ValueError(
            f"--augment {spec}: '{item}' has no number ({error}), expected one: write 0.5@5-20."
        ) from error
    if ranged and kind.low is None:
        raise ValueError(f"--augment {spec}: {match['name']} has no strength, found '{item}': leave out the @.")
    if not 0 < share <= 1:
        raise ValueError(f"--augment {spec}: the probability of '{item}' is {share:g}, expected above 0, at most 1.")
    if low is not None and not kind.limits[0] <= low <= high <= kind.limits[1]:
        raise ValueError(
            f"--augment {spec}: '{item}' has the range {low:g} to {high:g}, expected the lower number first and both "
            f"from {kind.limits[0]:g} to {kind.limits[1]:g}. {kind.what}"
        )
    return RequestedChange(match["name"], share, low, high)
