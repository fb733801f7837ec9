"""Audio that is mixed into clips: training clips of other speakers, and the files of a noise folder."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile as sf
from datasets import Dataset

from hf_ser.augment import changes
from hf_ser.data.folders import files_under
from hf_ser.data.schema import SAMPLING_RATE
from hf_ser.models.decoding import decode_audio, read_audio

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
