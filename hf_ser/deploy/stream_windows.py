"""Stretches of speech and their windows: what is classified of a recording, and what a moment's answer is made of."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hf_ser.json_record import Record
from hf_ser.models.audio_notes import no_speech
from hf_ser.models.processing_ser import longest_seconds
from hf_ser.models.samples import SAMPLING_RATE, audio_problem
from hf_ser.runs.classifier import TEXT, Classifier
from hf_ser.transcripts.recogniser import Word

DEFAULT_WINDOW_SECONDS, LEAST_WINDOW_SECONDS = 5.0, 1.0

# Clips that models are trained on have some silence around the speech. Measured with a ridge on whisper-base (RAVDESS,
# EmoBox fold 1, 15 minutes of the test speakers' clips with pauses, mean recall over the time of each emotion): windows
# without any 45.7 %, with 0.5 s 60.4 %, 1 s 68.5 %, 1.5 s 64.6 %; of the clips themselves 80.2 %.
CONTEXT_SECONDS = 1.0
"""How much of the silence around a stretch its windows hold; a quarter of a window at most."""

LEAST_PROBABILITY = 1e-12
"""Of which a logarithm is taken."""
BATCH_SIZES = {"cpu": 2}
OTHER_BATCH_SIZE = 16
"""Windows a forward pass, by the kind of device. On a CPU 8 are no faster (whisper-base), and take 100 MB more."""


@dataclass(frozen=True)
class Segment(Record):
    """A stretch of a recording with one emotion, or without speech.

    Args:
        start, end: Seconds from the beginning of the recording.
        speech: Whether it holds speech.
        emotion: The most probable one; None without speech.
        probability: That of the emotion, calibrated.
        unsure: Whether the probability is below the model's threshold.
        speaker: Who speaks, or the channel; None where that is not known.
        probabilities: Of each emotion.
        text: The transcript, where the recording is transcribed too; it decides nothing of the emotion.
        words: The words of the text with their times.
    """

    start: float
    end: float
    speech: bool
    emotion: str | None = None
    probability: float | None = None
    unsure: bool = False
    speaker: str | None = None
    probabilities: dict[str, float] | None = None
    text: str | None = None
    words: list[Word] | None = None


@dataclass
class Stretch:
    """Consecutive samples with speech or without, as far as they are known; all positions in samples.

    Speech is read in windows that begin every half window, from the silence before the stretch on; the last one ends in
    the silence behind it. A cell is half a window, the last one up to three quarters.

    Args:
        is_speech: Whether it holds speech.
        start, end: What is known of it.
        window: Length of a window, an even number.
        before: Where its windows begin; None is its own start.
        behind: Where its last window ends; None as long as that is not known.

    Attributes:
        is_over: Whether it ends at `end`.
        answers: Log-probabilities of each window that was classified, None where that is no speech after all.
        cut: How far its cells were returned.
    """

    is_speech: bool
    start: int
    end: int
    window: int
    before: int | None = None
    behind: int | None = None
    is_over: bool = False
    answers: dict[tuple[int, int], np.ndarray | None] = field(default_factory=dict)
    cut: int = 0

    def __post_init__(self):
        self.before = self.start if self.before is None else self.before
        self.cut = self.before
        self.is_over = self.is_over or self.behind is not None

    @property
    def hop(self) -> int:
        """From window to window."""
        return self.window // 2

    @property
    def is_complete(self) -> bool:
        """Whether all of its windows are certain."""
        return self.behind is not None if self.is_speech else self.is_over

    def new_windows(self) -> list[tuple[int, int]]:
        """Begin and end of the windows that are certain, still wanted, and not classified yet."""
        end = self.end if self.behind is None else self.behind
        last = (end - self.before - self.window) // self.hop
        found = [(self.before + k * self.hop, self.before + k * self.hop + self.window) for k in range(last + 1)]
        if self.behind is not None and (not found or found[-1][1] < end):
            found.append((max(self.before, end - self.window), end))
        return [one for one in found if self.is_speech and one[1] > self.cut and one not in self.answers]

    def cells(self) -> list[tuple[int, int, np.ndarray | None]]:
        """Begin, end and mean log-probabilities of the further cells that are certain; None without speech."""
        found = []
        while (end := self._cell_end()) is not None:
            mean = self._mean(self.cut, end) if self.is_speech else None
            found.append((max(self.cut, self.start), end, mean))
            self.cut = end
        self.answers = {(a, b): answer for (a, b), answer in self.answers.items() if b > self.cut}
        return found

    def _cell_end(self) -> int | None:
        left = self.end - self.cut
        if self.is_complete and left < 3 * self.hop // 2:
            return self.end if left > 0 else None
        # With a whole window behind its beginning, a later end changes nothing of a cell.
        return self.cut + self.hop if left >= self.window or self.is_complete else None

    def _mean(self, start: int, end: int) -> np.ndarray | None:
        total, weights = 0.0, 0
        for (a, b), answer in self.answers.items():
            is_regular = (a - self.before) % self.hop == 0 and b - a == self.window
            weight = min(b, end) - max(a, start) if is_regular or a <= start else 0
            if answer is not None and weight > 0:
                total, weights = total + weight * answer, weights + weight
        return total / weights if weights else None


def classify(model: Classifier, stretches: Sequence[Stretch], samples: np.ndarray, first: int = 0) -> list[float]:
    """Classify the new windows of stretches.

    Args:
        model: A model that takes audio.
        stretches: They get the answers.
        samples: Of the recording, `(samples,)`.
        first: Position of the first of them.

    Returns:
        How alike each window is to the training data, of a model that knows.
    """
    waiting = []
    for stretch in stretches:
        for start, end in stretch.new_windows():
            clip = samples[start - first : end - first]
            stretch.answers[start, end] = None
            if audio_problem(clip) is None and no_speech(clip) is None:
                waiting.append((stretch, (start, end), clip))
    if not waiting:
        return []
    model.check_has_classes()
    clips = [clip for _, _, clip in waiting]
    batch_size = BATCH_SIZES.get(model.model.device.type, OTHER_BATCH_SIZE)
    outputs, alike = model.answers(clips, [None] * len(clips), batch_size)
    found = np.log(outputs[:, : len(model.labels)] + LEAST_PROBABILITY)
    for (stretch, place, _), answer in zip(waiting, found, strict=True):
        stretch.answers[place] = answer
    return [one for one in alike if one is not None]


def cell_segments(model: Classifier, stretch: Stretch, speaker: str | None) -> list[Segment]:
    """The further cells of a stretch as segments."""
    found = []
    for start, end, logarithms in stretch.cells():
        one = Segment(start / SAMPLING_RATE, end / SAMPLING_RATE, logarithms is not None, speaker=speaker)
        found.append(one if logarithms is None else answered_segment(model, one, logarithms))
    return found


def window_samples(seconds: float) -> tuple[int, int]:
    """Samples of a window, an even number, and of the silence that it holds before or behind a stretch."""
    window = 2 * int(seconds * SAMPLING_RATE / 2)
    return window, int(min(CONTEXT_SECONDS * SAMPLING_RATE, window / 4))


def checked_window(model: Classifier, seconds: float | None) -> float:
    """The length of a window for a model; None is the longest that it takes, at most 5 s.

    Raises:
        ValueError: the model is of text alone, or the window is longer than it takes, or shorter than 1 s.
    """
    if model.kind == TEXT:
        raise ValueError(f"{model.name}: found a text-only model. Expected one that takes audio.")
    longest = longest_seconds(model.pipeline.feature_extractor)
    if seconds is None:
        return min(DEFAULT_WINDOW_SECONDS, longest or DEFAULT_WINDOW_SECONDS)
    if not LEAST_WINDOW_SECONDS <= seconds <= (longest or np.inf):
        most = f" to {longest:g}, which is all that {model.name} takes" if longest else ""
        raise ValueError(f"The window is {seconds:g} s. Expected {LEAST_WINDOW_SECONDS:g} s{most or ' or more'}.")
    return seconds


def answered_segment(model: Classifier, segment: Segment, logarithms: np.ndarray) -> Segment:
    """A segment with the emotion that its mean log-probabilities `(classes,)` give."""
    shares = np.exp(logarithms - logarithms.max())
    shares = shares / shares.sum()
    best = int(shares.argmax())
    threshold = model.abstain_threshold
    return replace(
        segment,
        emotion=model.labels[best],
        probability=float(shares[best]),
        unsure=threshold is not None and bool(shares[best] < threshold),
        probabilities={label: float(share) for label, share in zip(model.labels, shares, strict=True)},
    )


def joined(model: Classifier, segments: list[Segment]) -> list[Segment]:
    """Segments in which neighbours of one speaker and one emotion, or without speech, are one.

    The log-probabilities are averaged by length.

    Args:
        model: The one that the segments are from.
        segments: Of each speaker in order.
    """
    found, sums = [], []
    for one in segments:
        seconds = one.end - one.start
        weighted = None
        if one.probabilities is not None:
            weighted = seconds * np.log(
                np.array([one.probabilities[label] for label in model.labels]) + LEAST_PROBABILITY
            )
        last = found[-1] if found else None
        if last and (last.speaker, last.emotion) == (one.speaker, one.emotion) and abs(last.end - one.start) < 1e-6:
            found[-1] = replace(last, end=one.end)
            sums[-1] = None if weighted is None else sums[-1] + weighted
        else:
            found.append(one)
            sums.append(weighted)
    return [
        one if total is None else answered_segment(model, one, total / (one.end - one.start))
        for one, total in zip(found, sums, strict=True)
    ]
