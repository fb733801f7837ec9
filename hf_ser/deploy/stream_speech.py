"""Voice activity: which stretches of a recording hold speech, decided as its samples arrive."""

import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Protocol

import numpy as np
import torch
from scipy.ndimage import binary_closing, binary_dilation, binary_opening

from hf_ser.models.audio_notes import QUIET_DBFS
from hf_ser.models.samples import SAMPLING_RATE

FRAME = 512
"""Samples at 16 kHz of one decision, 32 ms: what silero-vad takes."""

PAUSE_FRAMES, BURST_FRAMES, MARGIN_FRAMES = 25, 9, 3
"""Shorter pauses (0.8 s) count as speech, shorter bursts (0.3 s) as none; a stretch begins and ends 0.1 s wider."""

REACH = PAUSE_FRAMES + BURST_FRAMES + MARGIN_FRAMES
"""Frames after one on which its decision depends: 1.2 s."""

ABOVE_NOISE_DB, NOISE_FRAMES, NOISE_RANK, FIRST_NOISE_DBFS = 10.0, 312, 31, -55.0
"""Speech is so much louder than the quietest tenth of the last 10 s, which begin with a noise of this level."""

DETECTORS = ("silero", "energy")
SILERO, ENERGY = DETECTORS


class Detector(Protocol):
    """Decides frame by frame; it remembers what came before."""

    name: str

    def decide(self, frames: np.ndarray) -> np.ndarray:
        """Which frames hold speech: `(frames, FRAME)` float32 at 16 kHz to `(frames,)` bool."""


class EnergyDetector:
    """Takes for speech what is louder than the noise around it; music and other noises that come and go count too."""

    name = ENERGY

    def __init__(self):
        self.levels = np.full(NOISE_FRAMES - 1, FIRST_NOISE_DBFS)

    def decide(self, frames: np.ndarray) -> np.ndarray:
        """As `Detector`."""
        power = np.square(frames - frames.mean(1, keepdims=True), dtype=np.float64).mean(1)
        levels = 10 * np.log10(np.maximum(power, 1e-9))
        known = np.concatenate([self.levels, levels])
        self.levels = known[len(levels) :]
        recent = np.lib.stride_tricks.sliding_window_view(known, NOISE_FRAMES)
        noise = np.partition(recent, NOISE_RANK, axis=1)[:, NOISE_RANK]
        return levels > np.maximum(noise + ABOVE_NOISE_DB, QUIET_DBFS)


class SileroDetector:
    """The voice activity detector silero-vad, which knows a voice from other noises.

    Raises:
        ImportError: it is not installed.

    Source: https://github.com/snakers4/silero-vad
    """

    name, threshold = SILERO, 0.5

    def __init__(self):
        threads = torch.get_num_threads()
        try:
            from silero_vad import load_silero_vad  # sets the threads of the whole process to one

            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # of torch, on how the package stores its network
                self.model = load_silero_vad()
        finally:
            torch.set_num_threads(threads)

    @torch.inference_mode()
    def decide(self, frames: np.ndarray) -> np.ndarray:
        """As `Detector`."""
        given = torch.from_numpy(np.ascontiguousarray(frames, dtype=np.float32))
        found = [float(self.model(frame, SAMPLING_RATE)) for frame in given]
        return np.array(found) >= self.threshold


def speech_detector(name: str | None = None) -> Detector:
    """A new detector: silero-vad where it is installed, else by energy; or the one that is named.

    Raises:
        ValueError: there is none of this name.
        ImportError: silero-vad is named and not installed.
    """
    if name not in (None, *DETECTORS):
        raise ValueError(f"voice activity is {name!r}: expected one of {', '.join(DETECTORS)}.")
    if name == ENERGY or (name is None and find_spec("silero_vad") is None):
        return EnergyDetector()
    return SileroDetector()


class SpeechFrames:
    """Frames of a recording with short pauses closed and short bursts left out, as far as they are certain.

    Args:
        detector: A new one.
    """

    def __init__(self, detector: Detector):
        self.detector = detector
        self.samples, self.raw = np.zeros(0, np.float32), np.zeros(REACH, bool)

    def add(self, samples: np.ndarray, is_last: bool = False) -> np.ndarray:
        """Take further samples; return which of the next frames hold speech, `(frames,)` bool.

        Args:
            samples: `(samples,)` float32 at 16 kHz.
            is_last: Whether the recording ends here; what is left of it then counts as a frame too.
        """
        self.samples = np.concatenate([self.samples, samples])
        if is_last:
            self.samples = np.pad(self.samples, (0, -len(self.samples) % FRAME))
        whole = len(self.samples) // FRAME
        frames, self.samples = self.samples[: whole * FRAME].reshape(-1, FRAME), self.samples[whole * FRAME :]
        found = [self.raw, self.detector.decide(frames)] if whole else [self.raw]
        self.raw = np.concatenate([*found, np.zeros(REACH, bool)] if is_last else found)
        if (certain := len(self.raw) - 2 * REACH) <= 0:
            return np.zeros(0, bool)
        decided = smoothed(self.raw)[REACH : REACH + certain]
        self.raw = self.raw[certain:]
        return decided


def smoothed(is_speech: np.ndarray) -> np.ndarray:
    """Close pauses, leave out bursts, widen what is left; `(frames,)` bool."""
    closed = binary_closing(np.pad(is_speech, REACH), np.ones(PAUSE_FRAMES))
    opened = binary_opening(closed, np.ones(BURST_FRAMES))
    return binary_dilation(opened, np.ones(2 * MARGIN_FRAMES + 1))[REACH:-REACH]


def runs(flags: np.ndarray) -> Iterator[tuple[bool, int]]:
    """Each value of `(frames,)` bool with the length of its run."""
    if len(flags):
        ends = np.append(np.flatnonzero(np.diff(flags)) + 1, len(flags))
        for start, end in zip(np.append(0, ends[:-1]), ends, strict=True):
            yield bool(flags[start]), int(end - start)
