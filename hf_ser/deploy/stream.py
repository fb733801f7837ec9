"""Emotion of speech as it arrives: samples in, segments out with a latency that is known."""

from collections import deque

import numpy as np

from hf_ser.deploy.stream_speech import FRAME, REACH, Detector, SpeechFrames, runs, speech_detector
from hf_ser.deploy.stream_windows import Segment, Stretch, cell_segments, checked_window, classify, window_samples
from hf_ser.models.samples import SAMPLING_RATE, on_grid, resampling_stream
from hf_ser.runs.classifier import Classifier


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

    Attributes:
        familiarity: How alike each window was to the training data, of a model that knows.

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
    ):
        self.model, self.speaker = model, speaker
        self.window_seconds = checked_window(model, window_seconds)
        self.window, self.context = window_samples(self.window_seconds)
        is_same = sampling_rate == SAMPLING_RATE
        self.resampler = None if is_same else resampling_stream(sampling_rate, SAMPLING_RATE)
        self.frames = SpeechFrames(
            speech_detector(detector) if isinstance(detector, str) or detector is None else detector
        )
        self.samples, self.first = np.zeros(0, np.float32), 0  # what is kept, and the position of the first of it
        self.decided = 0
        self.stretches: deque[Stretch] = deque()
        self.familiarity: list[float] = []

    @property
    def latency_seconds(self) -> float:
        """How long after a moment its segment is returned, at most; the time for computing it comes on top."""
        return (self.window + self.context + (REACH + 1) * FRAME) / SAMPLING_RATE

    def feed(self, samples: np.ndarray) -> list[Segment]:
        """Take the next chunk; return the segments that are now certain, three quarters of a window long at most.

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
        for is_speech, count in runs(self.frames.add(samples, is_last)):
            self._extend(is_speech, min(total, self.decided + count * FRAME))
        self._end_stretches(is_last)
        self.familiarity += classify(self.model, self.stretches, self.samples, self.first)
        found = [one for stretch in self.stretches for one in cell_segments(self.model, stretch, self.speaker)]
        while self.stretches and self.stretches[0].is_complete:
            self.stretches.popleft()
        if (forgotten := self.decided - 2 * self.window - self.first) > 0:  # no later window begins there
            self.samples, self.first = self.samples[forgotten:], self.first + forgotten
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
            before = self.decided
            if last is not None:
                last.is_over = True
                before = max(last.start, before - self.context)  # silence, where this is speech
            before = before if is_speech else self.decided
            self.stretches.append(Stretch(is_speech, self.decided, self.decided, self.window, before))
        self.stretches[-1].end = self.decided = end

    def _end_stretches(self, is_last: bool) -> None:
        """Find where the last windows of stretches end: in the silence behind them, once enough of it is known."""
        if is_last and self.stretches:
            self.stretches[-1].is_over = True
        for number, stretch in enumerate(self.stretches):
            if stretch.is_over and stretch.behind is None:
                silence = self.stretches[number + 1] if number + 1 < len(self.stretches) else None
                wanted = stretch.end + self.context
                known = stretch.end if silence is None else silence.end
                if silence is None or silence.is_over or known >= wanted:
                    stretch.behind = min(wanted, known)
