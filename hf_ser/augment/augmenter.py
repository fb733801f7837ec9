"""Augmentation of training clips: random changes of the audio, another one for each view (epoch) of a clip.

The draws depend on the seed, the clip's id, the view and the change alone, not on other rows, workers, processes or
order.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from datasets import Dataset

from hf_ser import stable
from hf_ser.augment import changes
from hf_ser.augment.mixing import MixingSources, usable_noises
from hf_ser.augment.specification import CHANGES, RequestedChange, parse_augmentation

logger = logging.getLogger(__name__)


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
        self.turns = parse_augmentation(spec) if spec else ((),)
        self.seed, self.notices, self.failed = seed, [], Counter()
        names, noises, self.sources = {one.name for turn in self.turns for one in turn}, {}, None
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
        for one in self.turns[view % len(self.turns)]:
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
    def keys(self) -> tuple[str, ...]:
        """Of each turn the key for caches: all that a changed clip depends on besides the clip, its id and the view."""
        mixed = ""
        if self.sources is not None:
            noises = [(name, file.stat()) for name, file in self.sources.noises.items()]
            files = [f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in noises]
            mixed = " " + hashlib.sha256("\n".join([*files, *self.sources.clip_keys]).encode()).hexdigest()
        versions = [",".join(str(CHANGES[one.name].version) for one in turn) for turn in self.turns]
        return tuple(
            f"version {version} {','.join(map(str, turn))} seed {self.seed}{mixed}"
            for version, turn in zip(versions, self.turns, strict=True)
        )
