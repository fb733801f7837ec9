"""Emotion of speech as it arrives: samples in, segments out with a latency that is known."""

from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np

from hf_ser.deploy.stream_speech import FRAME, REACH, Detector, SpeechFrames, runs, speech_detector
from hf_ser.models.audio_notes import no_speech
from hf_ser.models.decoding import SAMPLING_RATE, audio_problem, on_grid, resampling_stream
from hf_ser.models.processing_ser import longest_seconds
from hf_ser.runs.classifier import TEXT, Classifier
from hf_ser.runs.json_record import Record

DEFAULT_WINDOW_SECONDS, LEAST_WINDOW_SECONDS = 5.0, 1.0
LEAST_PROBABILITY = 1e-12
"""Of which a logarithm is taken."""
BATCH_SIZE = 8


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
    """

    start: float
    end: float
    speech: bool
    emotion: str | None = None
    probability: float | None = None
    unsure: bool = False
    speaker: str | None = None
    probabilities: dict[str, float] | None = None


@dataclass
class Stretch:
    """Consecutive samples with speech or without, as far as they are known; all positions in samples.

    Speech is read in windows that begin every half window from the stretch's beginning on; the last one ends with the
    stretch. A cell is half a window, the last one up to three quarters.

    Args:
        is_speech: Whether it holds speech.
        start, end: What is known of it.
        window: Length of a window, an even number.
        is_over: Whether it ends at `end`.
        answers: Log-probabilities of each window that was classified, None where that is no speech after all.
        cut: How far its cells were returned.
    """

    is_speech: bool
    start: int
    end: int
    window: int
    is_over: bool = False
    answers: dict[tuple[int, int], np.ndarray | None] = field(default_factory=dict)
    cut: int = 0

    def __post_init__(self):
        self.cut = self.start

    @property
    def hop(self) -> int:
        """From window to window."""
        return self.window // 2

    def windows(self) -> list[tuple[int, int]]:
        """Begin and end of all windows that are certain, in order."""
        last = (self.end - self.start - self.window) // self.hop
        found = [(self.start + k * self.hop, self.start + k * self.hop + self.window) for k in range(last + 1)]
        if self.is_over and (not found or found[-1][1] < self.end):
            found.append((max(self.start, self.end - self.window), self.end))
        return found if self.is_speech else []

    def new_windows(self) -> list[tuple[int, int]]:
        """Those that are still wanted and were not classified yet."""
        return [one for one in self.windows() if one[1] > self.cut and one not in self.answers]

    def cells(self) -> list[tuple[int, int, np.ndarray | None]]:
        """Begin, end and mean log-probabilities of the further cells that are certain; None without speech."""
        found = []
        while (end := self._cell_end()) is not None:
            found.append((self.cut, end, self._mean(self.cut, end) if self.is_speech else None))
            self.cut = end
        self.answers = {(a, b): answer for (a, b), answer in self.answers.items() if b > self.cut}
        return found

    def _cell_end(self) -> int | None:
        if self.is_over and self.end - self.cut < 3 * self.hop // 2:
            return self.end if self.end > self.cut else None
        known = self.end - self.cut >= self.window  # so that a later end changes nothing of it
        return self.cut + self.hop if known or self.is_over else None

    def _mean(self, start: int, end: int) -> np.ndarray | None:
        total, weights = 0.0, 0
        for (a, b), answer in self.answers.items():
            is_regular = (a - self.start) % self.hop == 0 and b - a == self.window
            weight = min(b, end) - max(a, start) if is_regular or a <= start else 0
            if answer is not None and weight > 0:
                total, weights = total + weight * answer, weights + weight
        return total / weights if weights else None


class SerStream:
    """Takes a recording in chunks, as from a microphone or a telephone, and returns segments as they become certain.

    The segments joined are those of `timeline` for the whole recording, however it is cut into chunks. Each moment is
    in a returned segment at the latest `latency_seconds` after it.

    Args:
        model: A model that takes audio.
        sampling_rate: Of the chunks, in Hz.
        window_seconds: What is classified at a time; by default the longest that the model takes, at most 5 s.
        detector: Of voice activity: `silero`, `energy`, or a new one of your own; by default silero-vad where that is
            installed.
        speaker: Who speaks, for the segments.
        every_sample: Take everything as speech, as of a turn that somebody has marked.

    Raises:
        ValueError: the model is of text alone, or the window is longer than it takes, or shorter than 1 s.
    """

    def __init__(
        self,
        model: Classifier,
        sampling_rate: float = SAMPLING_RATE,
        window_seconds: float | None = None,
        detector: Detector | str | None = None,
        speaker: str | None = None,
        every_sample: bool = False,
    ):
        self.model, self.speaker, self.every_sample = model, speaker, every_sample
        self.window_seconds = checked_window(model, window_seconds)
        self.window = 2 * int(self.window_seconds * SAMPLING_RATE / 2)
        self.resampler = None
        if sampling_rate != SAMPLING_RATE:
            self.resampler = resampling_stream(sampling_rate, SAMPLING_RATE)
        if isinstance(detector, str) or detector is None:
            detector = None if every_sample else speech_detector(detector)
        self.frames = None if every_sample else SpeechFrames(detector)
        self.samples, self.first = np.zeros(0, np.float32), 0  # kept samples, and which of all is the first of them
        self.decided = 0
        self.stretches: deque[Stretch] = deque()

    @property
    def latency_seconds(self) -> float:
        """How long after a moment its segment is returned, at most; the time for computing it comes on top."""
        certain = 0 if self.every_sample else (REACH + 1) * FRAME / SAMPLING_RATE
        return self.window / SAMPLING_RATE + certain

    def feed(self, samples: np.ndarray) -> list[Segment]:
        """Take the next chunk; return the segments that are now certain, half a window long or less.

        Shapes:
            `(samples,)` floats within -1 and 1, or int16; any number of them.
        """
        return self._feed(samples, is_last=False)

    def close(self) -> list[Segment]:
        """End the recording; return the segments that are left."""
        return self._feed(np.zeros(0, np.float32), is_last=True)

    def _feed(self, samples: np.ndarray, is_last: bool) -> list[Segment]:
        samples = self._resampled(np.asarray(samples), is_last)
        self.samples = np.concatenate([self.samples, samples])
        total = self.first + len(self.samples)
        if self.every_sample:
            flags, size = np.ones(1, bool), total - self.decided
        else:
            flags, size = self.frames.add(samples, is_last), FRAME
        for is_speech, count in runs(flags):
            self._extend(is_speech, min(total, self.decided + count * size))
        if is_last and self.stretches:
            self.stretches[-1].is_over = True
        self._classify()
        found = [self._segment(*cell) for stretch in self.stretches for cell in stretch.cells()]
        while self.stretches and self.stretches[0].is_over:
            self.stretches.popleft()
        self._forget()
        return found

    def _resampled(self, samples: np.ndarray, is_last: bool) -> np.ndarray:
        if samples.ndim != 1:
            raise ValueError(f"The chunk has the shape {samples.shape}: expected (samples,), one channel a stream.")
        if samples.dtype == np.int16:
            samples = samples / 2.0**15
        if self.resampler is not None:
            samples = self.resampler.resample_chunk(np.asarray(samples, dtype=np.float64), last=is_last)
        samples = on_grid(samples)
        if wrong := int(np.isnan(samples).sum()):
            raise ValueError(f"{wrong} samples are NaN or infinite: expected numbers within -1 and 1.")
        return samples

    def _extend(self, is_speech: bool, end: int) -> None:
        last = self.stretches[-1] if self.stretches else None
        if last is None or last.is_speech != is_speech:
            if last is not None:
                last.is_over = True
            self.stretches.append(Stretch(is_speech, self.decided, self.decided, self.window))
        self.stretches[-1].end = self.decided = end

    def _classify(self) -> None:
        """Classify the new windows of all stretches."""
        waiting = []
        for stretch in self.stretches:
            for start, end in stretch.new_windows():
                clip = self.samples[start - self.first : end - self.first]
                stretch.answers[start, end] = None
                if audio_problem(clip) is None and no_speech(clip) is None:
                    waiting.append((stretch, (start, end), clip))
        if not waiting:
            return
        clips = [clip for _, _, clip in waiting]
        found = self.model.probabilities(clips, [None] * len(clips), BATCH_SIZE)
        for (stretch, place, _), answer in zip(waiting, np.log(found + LEAST_PROBABILITY), strict=True):
            stretch.answers[place] = answer

    def _segment(self, start: int, end: int, logarithms: np.ndarray | None) -> Segment:
        start, end = start / SAMPLING_RATE, end / SAMPLING_RATE
        if logarithms is None:
            return Segment(start, end, False, speaker=self.speaker)
        return answered_segment(self.model, Segment(start, end, True, speaker=self.speaker), logarithms)

    def _forget(self) -> None:
        """Drop samples that no later window reaches."""
        open_from = self.stretches[-1].start if self.stretches and self.stretches[-1].is_speech else self.decided
        keep = max(open_from, self.decided - self.window - self.window // 2) - self.first
        if keep > 0:
            self.samples, self.first = self.samples[keep:], self.first + keep


def checked_window(model: Classifier, seconds: float | None) -> float:
    """The length of a window for a model; None is the longest that it takes, at most 5 s.

    Raises:
        ValueError: as `SerStream`.
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
