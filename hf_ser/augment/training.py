"""Training clips that differ from epoch to epoch: drawn changes of the sound, the same for a clip and a view anywhere.

A specification names changes, each with the probability that a clip gets it and the range its strength is drawn from:
`pink:0.5@5-20,gain,speed:0.3@0.9-1.1`. The draws belong to the seed, the clip's id, the view and the change, so that
they depend neither on the rows beside nor on workers, processes or order, and a changed clip only by its rounding. A
new change is one row of `CHANGES`.
"""

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from datasets import Dataset
from scipy.fft import next_fast_len
from scipy.signal import oaconvolve

from hf_ser import stable
from hf_ser.augment import changes as sounds
from hf_ser.data.folders import files_under
from hf_ser.data.schema import SAMPLING_RATE
from hf_ser.models.decoding import decode_audio, read_audio

logger = logging.getLogger(__name__)

AUGMENTATION_VERSION = 1
"""Of what the changes do: raise it where a function of `sound_changes.py` changes, and no cached view is used again."""

AUDIO_FILES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".gsm")
"""Endings of what a noise folder may hold; files with others are passed over."""


END_SECONDS = 0.1
"""Length of the end of a noise file that is read to see whether it is there."""


class Company:
    """What a clip may be changed with: the voices of training clips and the files of a noise folder.

    Args:
        dataset: The data set that `rows` are of.
        rows: Positions of the training rows.
        noises: Readable files, by their name within the folder.
    """

    def __init__(self, dataset: Dataset, rows: Sequence[int], noises: Mapping[str, Path]):
        self.dataset, self.noises = dataset, dict(sorted(noises.items()))
        columns = dataset.select_columns(["id", "speaker", "duration_seconds", "pcm_sha256"]).select(rows)
        ids, speakers, heard, hashes = (columns[name][:] for name in columns.column_names)
        self.speaker = dict(zip(ids, speakers, strict=True))
        self.sounds = sorted(map(repr, zip(ids, speakers, hashes, strict=True)))
        found = {}
        for name, row in sorted(zip(ids, rows, strict=True)):
            found.setdefault(self.speaker[name] or f"unknown speaker of {name}", []).append(int(row))
        sounding = {int(row) for row, seconds in zip(rows, heard, strict=True) if seconds}
        kept = {who: [row for row in theirs if row in sounding] for who, theirs in sorted(found.items())}
        self.clips_of = {who: theirs for who, theirs in kept.items() if theirs}

    def voices(self, name: str, generator: np.random.Generator) -> list[np.ndarray]:
        """Training clips of other speakers than that of a clip; where its speaker is not known, other clips."""
        speaker = self.speaker.get(name) or f"unknown speaker of {name}"
        rows = sounds.drawn_voices(self.clips_of, speaker, generator)
        return [decode_audio(self.dataset[row]["audio"]) for row in rows]

    def noise(self, length: int, generator: np.random.Generator) -> np.ndarray:
        """A part of a file of the noise folder, from anywhere in it, repeated where it is shorter than `length`."""
        file = list(self.noises.values())[generator.integers(len(self.noises))]
        status = file.stat()
        spare = readable_seconds(str(file), status.st_size, status.st_mtime_ns) - length / SAMPLING_RATE
        start = float(generator.uniform(0, spare)) if spare > 0 else 0.0
        part = read_audio(file, SAMPLING_RATE, start, start + length / SAMPLING_RATE)
        return np.resize(part.samples, length)


@lru_cache(maxsize=65_536)
def readable_seconds(file: str, size: int, changed: int) -> float:
    """How much of a noise file can be read: what its header says, unless nothing is there at that end.

    Args:
        file: The file.
        size, changed: Its size and time of change, so that another file of this name is measured anew.
    """
    said = sf.info(file).duration
    try:
        end = read_audio(file, SAMPLING_RATE, max(0.0, said - END_SECONDS), said)
        if not end.cut_short and len(end.samples):
            return said
    except ValueError:
        pass  # the header is wrong
    return len(read_audio(file, SAMPLING_RATE).samples) / SAMPLING_RATE


Change = Callable[[np.ndarray, np.random.Generator, float, str, Company], np.ndarray]


@dataclass(frozen=True)
class Kind:
    """A change that can be asked for.

    Args:
        change: Makes the changed samples of samples, a generator, a strength, the clip's id and a company.
        probability: Where the specification gives none.
        low, high: Range of the strength, where the specification gives none; None where there is nothing to choose.
        limits: The strength must lie between these.
        unit: Of the strength, with a blank before; empty where it is a plain number.
        what: One sentence.
    """

    change: Change
    probability: float
    low: float | None
    high: float | None
    limits: tuple[float, float]
    unit: str
    what: str


def _sound(change: Callable[..., np.ndarray], setting: str | None = None) -> Change:
    """A change of `sound_changes` with its strength as one of its settings."""

    def changed(samples, generator, strength, name, company):
        return change(samples, generator, **({setting: strength} if setting else {}))

    return changed


def _white_or_pink(samples, generator, strength, name, company) -> np.ndarray:
    kind = (_white, _pink)[generator.integers(2)]
    return kind(samples, generator, strength, name, company)


def _white(samples, generator, strength, name, company) -> np.ndarray:
    return sounds.with_noise(samples, generator, "white", strength)


def _pink(samples, generator, strength, name, company) -> np.ndarray:
    # A Fourier transform of a length with large prime factors takes ten times as long as one of a longer clip.
    noise = sounds.colored(next_fast_len(len(samples), real=True), generator, "pink")
    return sounds.mixed(samples, noise[: len(samples)], strength)


def _room(samples, generator, strength, name, company) -> np.ndarray:
    response = sounds.room_response(generator, strength).astype(np.float32)
    # Not `reverberant`: the last bits of torch's transform depend on its threads, of which a loader worker has one.
    return sounds.as_loud_as(samples, oaconvolve(samples, response)[: len(samples)])


def _babble(samples, generator, strength, name, company: Company) -> np.ndarray:
    voices = company.voices(name, generator)
    return sounds.mixed(samples, sounds.babble(len(samples), generator, voices), strength)


def _noise_folder(samples, generator, strength, name, company: Company) -> np.ndarray:
    return sounds.mixed(samples, company.noise(len(samples), generator), strength)


def _codec(samples, generator, strength, name, company) -> np.ndarray:
    """One of the codecs that this libsndfile has, at a compression."""
    settings = [
        {"format": format, "subtype": subtype, "rate": SAMPLING_RATE, "mode": mode}
        for (format, subtype), mode in ((sounds.MP3, "CONSTANT"), (sounds.VORBIS, None), (sounds.OPUS, None))
    ]
    usable = [one for one in settings if sounds.lacking_codec(**one) is None]
    if not usable:
        raise ValueError(f"libsndfile {sf.__libsndfile_version__} writes none of MP3, Vorbis and Opus")
    return sounds.with_codec(samples, generator, **usable[generator.integers(len(usable))], compression=strength)


_SNR = (-20.0, 60.0)

CHANGES = {
    "pitch_shift": Kind(
        _sound(sounds.pitch_shifted, "semitones"),
        0.3,
        -2,
        2,
        (-12, 12),
        " semitones",
        "Higher or lower by semitones, as long.",
    ),
    "time_stretch": Kind(
        _sound(sounds.time_stretched, "factor"), 0.3, 0.9, 1.1, (0.5, 2), "", "Faster by a factor, at the same pitch."
    ),
    "speed": Kind(
        _sound(sounds.with_speed, "factor"), 0.3, 0.9, 1.1, (0.5, 2), "", "Faster by a factor, and higher by as much."
    ),
    "shift": Kind(
        _sound(sounds.shifted, "seconds"), 0.5, -0.2, 0.2, (-5, 5), " s", "Later by seconds, at the same length."
    ),
    "room": Kind(_room, 0.3, 0.1, 0.6, (0.02, 2), " s", "A room of an RT60 in seconds."),
    "babble": Kind(
        _babble, 0.3, 10, 25, _SNR, " dB", "Five training clips of others, at a signal-to-noise ratio in dB."
    ),
    "noise_folder": Kind(_noise_folder, 0.5, 5, 20, _SNR, " dB", "A file of --noise_dir, at a ratio in dB."),
    "noise": Kind(_white_or_pink, 0.5, 5, 20, _SNR, " dB", "White noise or pink, at a ratio in dB."),
    "white": Kind(_white, 0.5, 5, 20, _SNR, " dB", "White noise, likewise."),
    "pink": Kind(_pink, 0.5, 5, 20, _SNR, " dB", "Pink noise, likewise."),
    "gain": Kind(
        _sound(sounds.with_gain, "gain_db"), 0.5, -6, 6, (-60, 40), " dB", "Louder by dB, clipped at full scale."
    ),
    "codec": Kind(_codec, 0.3, 0.5, 0.95, (0, 1), "", "MP3, Vorbis or Opus at a compression, 1 the smallest file."),
    "telephone": Kind(_sound(sounds.telephone), 0.2, None, None, (0, 0), "", "300 to 3,400 Hz in mu-law at 8 kHz."),
    "spec_augment": Kind(
        _sound(sounds.spectrum_masked, "share"),
        0.5,
        0.05,
        0.15,
        (0, 0.5),
        "",
        "Two stretches of bands and of time blanked, each up to a share of all.",
    ),
}
"""By name, in the order in which they are applied: voice, room, what else sounds there, recording, its spectrogram."""

ITEM = re.compile(r"(?P<name>[a-z_]+)(?::(?P<share>[\d.]+))?(?:@(?P<low>[+-]?[\d.]+)(?:-(?P<high>[+-]?[\d.]+))?)?")


@dataclass(frozen=True)
class Drawn:
    """A change as a specification asks for it; a strength is drawn evenly from `low` to `high`."""

    name: str
    probability: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        ranged = "" if self.low is None else f"@{self.low:g}-{self.high:g}"
        return f"{self.name}:{self.probability:g}{ranged}"


def parse_augmentation(spec: str) -> tuple[Drawn, ...]:
    """The changes that a specification asks for, in the order in which they are applied.

    Args:
        spec: Names of `CHANGES` with commas between, each also as `name:probability@low-high`, `name:probability` or
            `name@low-high`; one number after the @ is a fixed strength.

    Raises:
        ValueError: not of this form, an unknown name, one named twice, or a number out of its limits.
    """
    drawn = [_read_item(item.strip(), spec) for item in spec.split(",")]
    names = [one.name for one in drawn]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"--augment {spec}: found {twice[0]} twice, expected each change once: leave one of them out.")
    return tuple(sorted(drawn, key=lambda one: list(CHANGES).index(one.name)))


def _read_item(item: str, spec: str) -> Drawn:
    """One change of a specification; raises as `parse_augmentation`."""
    match = ITEM.fullmatch(item)
    if match is None or match["name"] not in CHANGES:
        raise ValueError(
            f"--augment {spec}: found '{item}', expected one of {', '.join(CHANGES)}, with a probability and a range "
            "where the defaults do not suit, such as pink:0.5@5-20."
        )
    kind, ranged = CHANGES[match["name"]], match["low"] is not None
    try:
        share = kind.probability if match["share"] is None else float(match["share"])
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
    return Drawn(match["name"], share, low, high)


class Augmenter:
    """Changes clips as a specification says; what a clip becomes depends on the seed, its id and the view alone.

    Args:
        spec: As `parse_augmentation` reads it; None or an empty text changes nothing.
        dataset: A prepared data set; its sound is only read for babble.
        training_rows: Positions of the training rows: nobody else is heard in babble.
        noise_dir: Folder for `noise_folder`.
        seed: Of all draws.

    Attributes:
        notices: What a person should know, such as files of the noise folder that cannot be read.
        failed: How often each change could not be put on a clip, in this process.

    Raises:
        ValueError: a wrong specification, no usable noise, nobody for babble.
    """

    def __init__(
        self,
        spec: str | None,
        dataset: Dataset,
        training_rows: Sequence[int],
        noise_dir: str | Path | None = None,
        seed: int = 0,
    ):
        self.drawn = parse_augmentation(spec) if spec else ()
        self.seed, self.notices, self.failed = seed, [], Counter()
        asked, noises, self.company = {one.name for one in self.drawn}, {}, None
        if "noise_folder" in asked:
            noises, self.notices = usable_noises(noise_dir)
        if asked & {"noise_folder", "babble"}:
            self.company = Company(dataset, training_rows, noises)
        if "babble" in asked and len(self.company.clips_of) < 2:
            raise ValueError(
                f"--augment {spec}: found sound of {len(self.company.clips_of)} training speaker, expected two at "
                "least, so that somebody else can be heard: leave out babble."
            )

    def __call__(self, samples: np.ndarray, id: str, view: int | None) -> np.ndarray:
        """One view of a clip.

        Args:
            samples: The clip; it stays as it is.
            id: Of its row.
            view: Which one, such as the epoch; None gives the clip itself.

        Shapes:
            samples, and what is returned: `(samples,)` float32 at 16 kHz; `speed` and `time_stretch` change the length.
        """
        if view is None or samples is None or len(samples) == 0:
            return samples
        for one, strength, generator in self._draws(id, view):
            samples = self._changed(one, strength, samples, generator, id)
        return samples

    def told(self, id: str, view: int) -> list[str]:
        """What is done to a view of a clip, in words such as `pink 12.3 dB`."""
        draws = ((one.name, strength) for one, strength, _ in self._draws(id, view))
        return [name if value is None else f"{name} {value:.3g}{CHANGES[name].unit}" for name, value in draws]

    def _draws(self, id: str, view: int) -> Iterator[tuple[Drawn, float | None, np.random.Generator]]:
        """The changes that a view of a clip gets, each with its strength and its generator."""
        for one in self.drawn:
            generator = stable.generator(one.name, self.seed, view, id)
            if generator.random() < one.probability:
                yield one, None if one.low is None else float(generator.uniform(one.low, one.high)), generator

    def _changed(self, one: Drawn, strength, samples: np.ndarray, generator, id: str) -> np.ndarray:
        """Samples after one change, or as they were where it fails; the first failure of each is told."""
        try:
            changed = CHANGES[one.name].change(samples, generator, strength, id, self.company)
            return sounds.within_full_scale(changed)
        except (ValueError, RuntimeError, OSError) as error:  # libsndfile's errors are RuntimeErrors
            self.failed[one.name] += 1
            if self.failed[one.name] == 1:
                logger.warning("%s stays without %s (%s); further clips are not told", id, one.name, error)
            return samples

    @cached_property
    def key(self) -> str:
        """Text of all that a changed clip depends on besides the clip, its id and the view, for caches."""
        told = [f"version {AUGMENTATION_VERSION}", ",".join(map(str, self.drawn)), f"seed {self.seed}"]
        if self.company is not None:
            noises = [(name, file.stat()) for name, file in self.company.noises.items()]
            files = [f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in noises]
            sources = [*files, *self.company.sounds]
            told.append(hashlib.sha256("\n".join(sources).encode()).hexdigest())
        return " ".join(told)


def usable_noises(folder: str | Path | None) -> tuple[dict[str, Path], list[str]]:
    """Files of a noise folder that can be read, by their name within it, and a notice of those that cannot.

    Raises:
        FileNotFoundError, ValueError: no folder, or none of its files can be read.
    """
    if folder is None or not Path(folder).is_dir():
        raise FileNotFoundError(
            f"--noise_dir {folder}: no such folder. Expected one with sound files for noise_folder."
        )
    folder = Path(folder)
    files, found = files_under(folder)
    usable, bad = {}, [f"{one.item}: {one.detail}" for one in found if one.skipped]
    for file in (file for file in files if file.suffix.lower() in AUDIO_FILES):
        try:
            if not np.isfinite(read_audio(file, end_seconds=1.0).samples).all():
                raise ValueError(f"{file}: samples that are no numbers")
            usable[file.relative_to(folder).as_posix()] = file
        except (ValueError, RuntimeError, OSError) as error:
            bad.append(str(error))
    if not usable:
        why = f"; the first: {bad[0]}" if bad else ""
        raise ValueError(
            f"--noise_dir {folder}: found {len(bad)} sound files, none of which can be read{why}. Expected WAV, FLAC, "
            "OGG or MP3 files of noise: name another folder."
        )
    return usable, [f"--noise_dir {folder}: {len(bad)} files are left out: {'; '.join(bad)}"] if bad else []


class View:
    """Which view of its clips training is at: one number that loader workers share, however they were started."""

    def __init__(self):
        # Shared memory that a pickle for a spawned worker refers to; a multiprocessing.Value could not be pickled for
        # the fingerprints of `datasets`.
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    def set(self, epoch: int | None) -> None:
        """To be called before the loader of an epoch begins; None is the clip itself."""
        self._epoch[0] = -1 if epoch is None else int(epoch)

    def get(self) -> int | None:
        epoch = int(self._epoch[0])
        return None if epoch < 0 else epoch

    def __deepcopy__(self, memo) -> "View":
        return self  # `datasets` copies a data set with all it holds, and every copy must see the epoch


def with_views(dataset: Dataset, view: View, cache_views: int = 0) -> Dataset:
    """A data set whose rows carry the `view` that is wanted of them, beside what its own transform gives them.

    Args:
        dataset: Training rows, as `hf_ser.inputs.targets` gives them.
        view: Set to the epoch before each.
        cache_views: Views that there are, taken in turn; 0 for another in each epoch.
    """
    inner = dataset.format["format_kwargs"].get("transform") if dataset.format["type"] == "custom" else None
    return dataset.with_transform(SetView(view, cache_views, inner))


@dataclass(frozen=True)
class SetView:
    """Rows as they are read from a data set, with the view that is wanted now."""

    view: View
    cache_views: int = 0
    inner: Callable[[dict[str, list]], dict[str, list]] | None = None

    def __call__(self, rows: dict[str, list]) -> dict[str, list]:
        """Args: columns of some rows."""
        rows = rows if self.inner is None else self.inner(rows)
        epoch = self.view.get()
        wanted = epoch % self.cache_views if self.cache_views and epoch is not None else epoch
        return {**rows, "view": [wanted] * len(next(iter(rows.values())))}
