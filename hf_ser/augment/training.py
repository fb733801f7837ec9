"""Augmentation of training clips: random changes of the audio, another one for each view (epoch) of a clip.

A specification names changes, each with its probability and the range of its strength:
`pink:0.5@5-20,gain,speed:0.3@0.9-1.1`. The draws depend on the seed, the clip's id, the view and the change alone, not
on other rows, workers, processes or order. A new change is one entry of `CHANGES`.
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
from hf_ser.augment import changes
from hf_ser.data.folders import files_under
from hf_ser.data.schema import SAMPLING_RATE
from hf_ser.models.decoding import decode_audio, read_audio

logger = logging.getLogger(__name__)

AUGMENTATION_VERSION = 1
"""Version of the changes. Raise it when a function of `changes.py` changes, so that no cached view is used again."""

NOISE_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".gsm")
"""File endings that are read from a noise folder; other files are ignored."""


CHECKED_END_SECONDS = 0.1
"""Length of the end of a noise file that is read to check the length in its header."""


class MixingSources:
    """Audio that is mixed into clips: training clips of other speakers, and the files of a noise folder.

    Args:
        dataset: A prepared data set.
        rows: Positions of the training rows.
        noises: Readable files by their name within the folder.
    """

    def __init__(self, dataset: Dataset, rows: Sequence[int], noises: Mapping[str, Path]):
        self.dataset, self.noises = dataset, dict(sorted(noises.items()))
        columns = dataset.select_columns(["id", "speaker", "duration_seconds", "pcm_sha256"]).select(rows)
        ids, speakers, durations, hashes = (columns[name][:] for name in columns.column_names)
        self.speaker = dict(zip(ids, speakers, strict=True))
        self.clip_keys = sorted(map(repr, zip(ids, speakers, hashes, strict=True)))
        found = {}
        for name, row in sorted(zip(ids, rows, strict=True)):
            found.setdefault(self.speaker[name] or f"unknown speaker of {name}", []).append(int(row))
        with_audio = {int(row) for row, seconds in zip(rows, durations, strict=True) if seconds}
        kept = {speaker: [row for row in clips if row in with_audio] for speaker, clips in sorted(found.items())}
        self.clips_of = {speaker: clips for speaker, clips in kept.items() if clips}

    def voices(self, name: str, generator: np.random.Generator) -> list[np.ndarray]:
        """Training clips of other speakers than a clip's; if its speaker is unknown, other clips."""
        speaker = self.speaker.get(name) or f"unknown speaker of {name}"
        rows = changes.draw_babble_clips(self.clips_of, speaker, generator)
        return [decode_audio(self.dataset[row]["audio"]) for row in rows]

    def noise(self, length: int, generator: np.random.Generator) -> np.ndarray:
        """Random part of a random noise file, repeated if shorter than `length`; `(length,)`."""
        file = list(self.noises.values())[generator.integers(len(self.noises))]
        status = file.stat()
        spare = readable_seconds(str(file), status.st_size, status.st_mtime_ns) - length / SAMPLING_RATE
        start = float(generator.uniform(0, spare)) if spare > 0 else 0.0
        part = read_audio(file, SAMPLING_RATE, start, start + length / SAMPLING_RATE)
        return np.resize(part.samples, length)


@lru_cache(maxsize=65_536)
def readable_seconds(file: str, size: int, changed: int) -> float:
    """Seconds of a noise file that can be read: those of its header, unless the end is missing.

    Args:
        file: The file.
        size, changed: Its size and modification time, so that a replaced file is measured again.
    """
    promised = sf.info(file).duration
    try:
        end = read_audio(file, SAMPLING_RATE, max(0.0, promised - CHECKED_END_SECONDS), promised)
        if not end.cut_short and len(end.samples):
            return promised
    except ValueError:
        pass  # the header is wrong
    return len(read_audio(file, SAMPLING_RATE).samples) / SAMPLING_RATE


ChangeFunction = Callable[[np.ndarray, np.random.Generator, float, str, MixingSources], np.ndarray]


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
    """

    change: ChangeFunction
    probability: float
    low: float | None
    high: float | None
    limits: tuple[float, float]
    unit: str
    what: str


def _audio_change(change: Callable[..., np.ndarray], setting: str | None = None) -> ChangeFunction:
    """Wrap a function of `hf_ser.augment.changes`; the strength is its argument `setting`."""

    def changed(samples, generator, strength, name, sources):
        return change(samples, generator, **({setting: strength} if setting else {}))

    return changed


def _white_or_pink(samples, generator, strength, name, sources) -> np.ndarray:
    kind = (_white, _pink)[generator.integers(2)]
    return kind(samples, generator, strength, name, sources)


def _white(samples, generator, strength, name, sources) -> np.ndarray:
    return changes.with_noise(samples, generator, "white", strength)


def _pink(samples, generator, strength, name, sources) -> np.ndarray:
    # A Fourier transform of a length with large prime factors takes ten times as long as one of a longer clip.
    noise = changes.colored_noise(next_fast_len(len(samples), real=True), generator, "pink")
    return changes.mix_noise(samples, noise[: len(samples)], strength)


def _room(samples, generator, strength, name, sources) -> np.ndarray:
    response = changes.room_response(generator, strength).astype(np.float32)
    # Not `reverberant`: the last bits of torch's transform depend on its threads, of which a loader worker has one.
    return changes.match_level(samples, oaconvolve(samples, response)[: len(samples)])


def _babble(samples, generator, strength, name, sources: MixingSources) -> np.ndarray:
    voices = sources.voices(name, generator)
    return changes.mix_noise(samples, changes.babble(len(samples), generator, voices), strength)


def _noise_folder(samples, generator, strength, name, sources: MixingSources) -> np.ndarray:
    return changes.mix_noise(samples, sources.noise(len(samples), generator), strength)


def _codec(samples, generator, strength, name, sources) -> np.ndarray:
    """Encode and decode with a random codec that this libsndfile has."""
    settings = [
        {"format": format, "subtype": subtype, "rate": SAMPLING_RATE, "mode": mode}
        for (format, subtype), mode in ((changes.MP3, "CONSTANT"), (changes.VORBIS, None), (changes.OPUS, None))
    ]
    usable = [one for one in settings if changes.codec_problem(**one) is None]
    if not usable:
        raise ValueError(f"libsndfile {sf.__libsndfile_version__} writes none of MP3, Vorbis and Opus")
    return changes.with_codec(samples, generator, **usable[generator.integers(len(usable))], compression=strength)


_SNR = (-20.0, 60.0)

CHANGES = {
    "pitch_shift": Change(
        _audio_change(changes.pitch_shifted, "semitones"),
        0.3,
        -2,
        2,
        (-12, 12),
        " semitones",
        "Higher or lower by semitones, as long.",
    ),
    "time_stretch": Change(
        _audio_change(changes.time_stretched, "factor"),
        0.3,
        0.9,
        1.1,
        (0.5, 2),
        "",
        "Faster by a factor, at the same pitch.",
    ),
    "speed": Change(
        _audio_change(changes.with_speed, "factor"),
        0.3,
        0.9,
        1.1,
        (0.5, 2),
        "",
        "Faster by a factor, and higher by as much.",
    ),
    "shift": Change(
        _audio_change(changes.shifted, "seconds"),
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
        _audio_change(changes.with_gain, "gain_db"),
        0.5,
        -6,
        6,
        (-60, 40),
        " dB",
        "Louder by dB, clipped at full scale.",
    ),
    "codec": Change(_codec, 0.3, 0.5, 0.95, (0, 1), "", "MP3, Vorbis or Opus at a compression, 1 the smallest file."),
    "telephone": Change(
        _audio_change(changes.telephone), 0.2, None, None, (0, 0), "", "300 to 3,400 Hz in mu-law at 8 kHz."
    ),
    "spec_augment": Change(
        _audio_change(changes.spectrum_masked, "share"),
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


def parse_augmentation(spec: str) -> tuple[RequestedChange, ...]:
    """Parse a specification of changes, and sort them in the order in which they are applied.

    Args:
        spec: Names of `CHANGES`, separated by commas, each also as `name:probability@low-high`, `name:probability` or
            `name@low-high`; one number after the @ is a fixed strength.

    Raises:
        ValueError: another form, an unknown or repeated name, or a number out of its limits.
    """
    requested = [_read_item(item.strip(), spec) for item in spec.split(",")]
    names = [one.name for one in requested]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"--augment {spec}: found {twice[0]} twice, expected each change once: leave one of them out.")
    return tuple(sorted(requested, key=lambda one: list(CHANGES).index(one.name)))


def _read_item(item: str, spec: str) -> RequestedChange:
    """Parse one change; raises as `parse_augmentation`."""
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
    return RequestedChange(match["name"], share, low, high)


class Augmenter:
    """Changes clips by a specification; the result depends on the seed, the clip's id and the view alone.

    Args:
        spec: As `parse_augmentation` reads it; None or an empty text changes nothing.
        dataset: A prepared data set; its audio is only read for babble.
        training_rows: Positions of the training rows, the only clips that babble is made of.
        noise_dir: Folder for `noise_folder`.
        seed: Seed of all draws.

    Attributes:
        notices: Messages for the user, such as noise files that cannot be read.
        failed: How often each change failed in this process.

    Raises:
        ValueError: a wrong specification, no usable noise, too few speakers for babble.
    """

    def __init__(
        self,
        spec: str | None,
        dataset: Dataset,
        training_rows: Sequence[int],
        noise_dir: str | Path | None = None,
        seed: int = 0,
    ):
        self.requested = parse_augmentation(spec) if spec else ()
        self.seed, self.notices, self.failed = seed, [], Counter()
        names, noises, self.sources = {one.name for one in self.requested}, {}, None
        if "noise_folder" in names:
            noises, self.notices = usable_noises(noise_dir)
        if names & {"noise_folder", "babble"}:
            self.sources = MixingSources(dataset, training_rows, noises)
        if "babble" in names and len(self.sources.clips_of) < 2:
            raise ValueError(
                f"--augment {spec}: found audio of {len(self.sources.clips_of)} training speaker, expected at least "
                "two, since babble is made of other speakers: leave out babble."
            )

    def __call__(self, samples: np.ndarray, id: str, view: int | None) -> np.ndarray:
        """Return one view of a clip.

        Args:
            samples: The clip; it is not modified.
            id: Id of its row.
            view: Number of the view, such as the epoch; None returns the clip unchanged.

        Shapes:
            samples, and what is returned: `(samples,)` float32 at 16 kHz; `speed` and `time_stretch` change the length.
        """
        if view is None or samples is None or len(samples) == 0:
            return samples
        for one, strength, generator in self._draws(id, view):
            samples = self._changed(one, strength, samples, generator, id)
        return samples

    def describe(self, id: str, view: int) -> list[str]:
        """Describe the changes of a view of a clip, each as `pink 12.3 dB`."""
        draws = ((one.name, strength) for one, strength, _ in self._draws(id, view))
        return [name if value is None else f"{name} {value:.3g}{CHANGES[name].unit}" for name, value in draws]

    def _draws(self, id: str, view: int) -> Iterator[tuple[RequestedChange, float | None, np.random.Generator]]:
        """Draw the changes of a view of a clip, each with its strength and its generator."""
        for one in self.requested:
            generator = stable.generator(one.name, self.seed, view, id)
            if generator.random() < one.probability:
                yield one, None if one.low is None else float(generator.uniform(one.low, one.high)), generator

    def _changed(self, one: RequestedChange, strength, samples: np.ndarray, generator, id: str) -> np.ndarray:
        """Samples after one change, or unchanged if it fails; the first failure of each change is logged."""
        try:
            changed = CHANGES[one.name].change(samples, generator, strength, id, self.sources)
            return changes.within_full_scale(changed)
        except (ValueError, RuntimeError, OSError) as error:  # libsndfile's errors are RuntimeErrors
            self.failed[one.name] += 1
            if self.failed[one.name] == 1:
                logger.warning("%s stays without %s (%s); further failures are not logged", id, one.name, error)
            return samples

    @cached_property
    def key(self) -> str:
        """Key for caches: all that a changed clip depends on besides the clip, its id and the view."""
        parts = [f"version {AUGMENTATION_VERSION}", ",".join(map(str, self.requested)), f"seed {self.seed}"]
        if self.sources is not None:
            noises = [(name, file.stat()) for name, file in self.sources.noises.items()]
            files = [f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in noises]
            parts.append(hashlib.sha256("\n".join([*files, *self.sources.clip_keys]).encode()).hexdigest())
        return " ".join(parts)


def usable_noises(folder: str | Path | None) -> tuple[dict[str, Path], list[str]]:
    """Readable files of a noise folder by their name within it, and a notice about the others.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: none of its files can be read.
    """
    if folder is None or not Path(folder).is_dir():
        raise FileNotFoundError(
            f"--noise_dir {folder}: no such folder. Expected one with audio files for noise_folder."
        )
    folder = Path(folder)
    files, found = files_under(folder)
    usable, bad = {}, [f"{one.item}: {one.detail}" for one in found if one.skipped]
    for file in (file for file in files if file.suffix.lower() in NOISE_SUFFIXES):
        try:
            if not np.isfinite(read_audio(file, end_seconds=1.0).samples).all():
                raise ValueError(f"{file}: samples that are NaN or infinite")
            usable[file.relative_to(folder).as_posix()] = file
        except (ValueError, RuntimeError, OSError) as error:
            bad.append(str(error))
    if not usable:
        why = f"; the first: {bad[0]}" if bad else ""
        raise ValueError(
            f"--noise_dir {folder}: found {len(bad)} audio files, none of which can be read{why}. Expected WAV, FLAC, "
            "OGG or MP3 files of noise: name another folder."
        )
    return usable, [f"--noise_dir {folder}: {len(bad)} files are left out: {'; '.join(bad)}"] if bad else []


class View:
    """Number of the current view (epoch), shared with all loader workers however they were started."""

    def __init__(self):
        # Shared memory that a pickle for a spawned worker refers to; a multiprocessing.Value could not be pickled for
        # the fingerprints of `datasets`.
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    def set(self, epoch: int | None) -> None:
        """Set the view, before the loader of an epoch starts; None is the unchanged clip."""
        self._epoch[0] = -1 if epoch is None else int(epoch)

    def get(self) -> int | None:
        epoch = int(self._epoch[0])
        return None if epoch < 0 else epoch

    def __deepcopy__(self, memo) -> "View":
        return self  # `datasets` deep-copies transforms, and every copy must see the epoch


def with_views(dataset: Dataset, view: View, cache_views: int = 0) -> Dataset:
    """Add a column `view`, the current view, to the rows of a data set after its own transform.

    Args:
        dataset: Training rows, as `hf_ser.inputs.targets` returns them.
        view: Set to the epoch before each epoch.
        cache_views: Number of views, used in turn; 0 for a new one each epoch.
    """
    inner = dataset.format["format_kwargs"].get("transform") if dataset.format["type"] == "custom" else None
    return dataset.with_transform(SetView(view, cache_views, inner))


@dataclass(frozen=True, eq=False)
class SetView:
    """Transform of a data set that adds the current view to its rows."""

    view: View
    cache_views: int = 0
    inner: Callable[[dict[str, list]], dict[str, list]] | None = None

    def __call__(self, rows: dict[str, list]) -> dict[str, list]:
        """Add the column `view` to a batch of columns."""
        rows = rows if self.inner is None else self.inner(rows)
        epoch = self.view.get()
        number = epoch % self.cache_views if self.cache_views and epoch is not None else epoch
        return {**rows, "view": [number] * len(next(iter(rows.values())))}
