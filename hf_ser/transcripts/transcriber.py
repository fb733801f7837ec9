"""Transcribe clips with any Whisper: cut into windows, decode in batches, retry poor answers, join.

requests > samples, read ahead > windows > batches of one length > features > answers, by attempt > transcripts

The first attempt encodes the clip alone, without the rest of 30 s (`audio_attention` says why that works). Whatever is
suspicious of its answer, the window is decoded again in 30 s, as Whisper's own `transcribe` does.
"""

import math
import os
import zlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from torch import Tensor

from hf_ser.data.audio import rms_dbfs
from hf_ser.data.schema import SAMPLING_RATE
from hf_ser.models.samples import SILENT_DBFS
from hf_ser.stable import seed
from hf_ser.transcripts.recogniser import MAX_WINDOW_SECONDS, DecodeOptions, Hypothesis, Recogniser, Transcript

LONGEST, EARLIEST, TENTH = MAX_WINDOW_SECONDS * SAMPLING_RATE, 20 * SAMPLING_RATE, SAMPLING_RATE // 10
"""Samples: a longer clip is cut between `EARLIEST` and `LONGEST`, in the quietest `TENTH` of a second."""

WITHOUT_BLANKS = {"zh", "ja", "th", "lo", "my", "yue"}
"""Languages without spaces between words. Source: `Tokenizer.split_to_word_tokens` of openai-whisper."""

MARGIN_SECONDS = 0.5
"""Least length of what is encoded after a clip's end."""

TOKENS_A_SECOND = 10
"""More are suspicious: fast English has 7, an endless answer has no end."""

SILENCE = Transcript("", None, None, 1.0, None)


@dataclass
class Request:
    """A clip to transcribe.

    Args:
        key: Identifies the clip; with the window and the temperature it seeds the sampling.
        seconds: Approximate length; long clips come first.
        read: Returns the samples, `(samples,)` float32 at 16 kHz; called in a thread.
        language: Language code; None to detect it.
    """

    key: str
    seconds: float
    read: Callable[[], np.ndarray]
    language: str | None = None


@dataclass(frozen=True)
class _Answer:
    """Accepted answer of a window."""

    text: str
    hypothesis: Hypothesis
    temperature: float
    suspicious: bool


@dataclass
class _Clip:
    """A clip that is not finished; `pending` are the windows that wait for its language to be detected."""

    request: Request
    language: str | None
    n_windows: int
    pending: list["_Window"] = field(default_factory=list)
    answers: dict[int, _Answer] = field(default_factory=dict)


@dataclass
class _Window:
    """Part of a clip that is not silent: its samples until 30 s are encoded, its features for a retry.

    Args:
        clip: The clip.
        index: Number of the window in it.
        seconds: Length that is encoded.
        attempt: Attempt to come: 0 for a part of 30 s alone, then one for each temperature.
        samples: None once 30 s are encoded and must be decoded again.
        features: Output of the encoder for 30 s.
        suspicious: Whether its first answer was.
    """

    clip: _Clip
    index: int
    seconds: int
    attempt: int
    samples: np.ndarray | None
    features: Tensor | None = None
    suspicious: bool = False


def transcribe(
    recogniser: Recogniser, requests: Sequence[Request], options: DecodeOptions, batch_size: int = 32
) -> Iterator[tuple[Request, Transcript | Exception]]:
    """Transcribe clips; each is yielded as soon as it is finished, in any order.

    An answer depends on the clip, its key and the options, not on the other clips, their order or `batch_size`.

    Args:
        recogniser: The model.
        requests: The clips. They are read batch by batch, one ahead of the decoding.
        options: Decoding options.
        batch_size: Windows encoded and decoded together; halved permanently if GPU memory is too small.

    Yields:
        Each request once, with its transcript, or with the OSError or ValueError raised when it was read.

    Raises:
        ValueError: `batch_size` is below 1, or the model does not know the language of a request.
    """
    if batch_size < 1:
        raise ValueError(f"--batch_size {batch_size}: expected at least one window in a batch.")
    decoding = _Decoding(recogniser, options, batch_size)
    # Longest first: memory runs out at once or never, and windows of one length come together.
    in_order = sorted(requests, key=lambda request: (-request.seconds, request.key))
    for request, samples in _read_ahead(in_order, batch_size):
        if isinstance(samples, Exception):
            yield request, samples
        elif not (audible := _audible_windows(samples)):
            yield request, SILENCE
        else:
            decoding.add(request, audible)
            yield from decoding.decode_ready(longest_to_come=_window_seconds(samples, options))
    yield from decoding.decode_ready(longest_to_come=0)


def windows(samples: np.ndarray) -> list[np.ndarray]:
    """Cut a clip into consecutive parts of at most 30 s.

    Each cut is in the quietest tenth of a second between 20 and 30 s after the previous one.

    Shapes:
        samples: `(samples,)` at 16 kHz.
    """
    parts = []
    while len(samples) > LONGEST:
        energy = np.cumsum(np.square(samples[EARLIEST:LONGEST], dtype=np.float64))
        cut = EARLIEST + int(np.argmin(energy[TENTH:] - energy[:-TENTH])) + 1 + TENTH // 2
        parts.append(samples[:cut])
        samples = samples[cut:]
    return [*parts, samples]


def _audible_windows(samples: np.ndarray) -> dict[int, np.ndarray]:
    """Windows of a clip that are not digital silence, by number; copies, since a view would keep the whole clip."""
    return {index: part.copy() for index, part in enumerate(windows(samples)) if rms_dbfs(part) >= SILENT_DBFS}


def _window_seconds(samples: np.ndarray, options: DecodeOptions) -> int:
    """Length in seconds that is encoded of a clip, or of the first part of a longer one."""
    seconds = math.ceil(len(samples) / SAMPLING_RATE + MARGIN_SECONDS)
    return MAX_WINDOW_SECONDS if options.whole_window else min(seconds, MAX_WINDOW_SECONDS)


def _read_ahead(requests: Sequence[Request], batch_size: int) -> Iterator[tuple[Request, np.ndarray | Exception]]:
    """Yield each clip in order, while threads read the next: at most a batch of clips, and of windows in seconds."""
    queue, seconds_ahead = deque(), 0.0
    pool = ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1))
    try:
        for request in requests:
            queue.append((request, pool.submit(_read, request)))
            seconds_ahead += request.seconds
            while len(queue) > batch_size or seconds_ahead > batch_size * MAX_WINDOW_SECONDS:
                first, samples = queue.popleft()
                seconds_ahead -= first.seconds
                yield first, samples.result()
        for first, samples in queue:
            yield first, samples.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _read(request: Request) -> np.ndarray | Exception:
    try:
        samples = request.read()
    except (OSError, ValueError) as error:
        return error
    if not np.isfinite(samples).all():
        return ValueError(f"{request.key}: found samples that are NaN or infinite, expected audio.")
    return samples


class _Decoding:
    """Queue of windows; those of one length and attempt are collected into batches."""

    def __init__(self, recogniser: Recogniser, options: DecodeOptions, batch_size: int):
        self.recogniser, self.options, self.batch_size = recogniser, options, batch_size
        self.initial_tokens = cache(lambda language: recogniser.initial_tokens(language, options.prompt))
        self.waiting: dict[tuple[int, int], list[_Window]] = defaultdict(list)
        """By length in seconds and by attempt."""

    def add(self, request: Request, audible: dict[int, np.ndarray]) -> None:
        """Queue the windows of a clip; if the language must be detected, only the first one."""
        clip = _Clip(request, request.language if self.recogniser.multilingual else None, len(audible))
        parts = []
        for index, part in audible.items():
            seconds = _window_seconds(part, self.options)
            parts.append(_Window(clip, index, seconds, int(seconds == MAX_WINDOW_SECONDS), part))
        known = len(parts) if clip.language or not self.recogniser.multilingual else 1
        clip.pending = parts[known:]
        self._wait(parts[:known])

    def _wait(self, parts: Sequence[_Window]) -> None:
        for window in parts:
            self.waiting[window.seconds, window.attempt].append(window)

    def decode_ready(self, longest_to_come: int) -> Iterator[tuple[Request, Transcript]]:
        """Decode full batches, and what no clip to come can join; yield the finished clips."""
        while ready := [
            (attempt, -seconds)
            for (seconds, attempt), parts in self.waiting.items()
            if len(parts) >= self.batch_size or (parts and not _may_be_joined(seconds, attempt, longest_to_come))
        ]:
            # First attempts first, so that second attempts form large batches.
            attempt, longest = min(ready)
            parts = self.waiting[-longest, attempt]
            batch, parts[: self.batch_size] = parts[: self.batch_size], []
            yield from self._decode_batch(batch, attempt)

    def _decode_batch(self, batch: list[_Window], attempt: int) -> Iterator[tuple[Request, Transcript]]:
        temperatures = self.options.temperatures
        temperature, last = temperatures[max(0, attempt - 1)], attempt == len(temperatures)
        for window, (hypothesis, features) in zip(batch, self._answers(batch, temperature), strict=True):
            clip, text = window.clip, self.recogniser.text(hypothesis.tokens)
            self._wait(clip.pending)  # the language is known now
            clip.pending = []
            if attempt == 0 and _is_suspicious(text, hypothesis, window.seconds, self.options):
                window.seconds, window.attempt, window.suspicious = MAX_WINDOW_SECONDS, 1, True
                if clip.n_windows == 1:
                    clip.language = clip.request.language  # a wrong language may be the reason: detect it again
                self._wait([window])
                continue
            if attempt and _is_poor(text, hypothesis, self.options) and not last:
                # A clone, since a view would keep the features of the whole batch.
                window.samples, window.features, window.attempt = None, features.clone(), attempt + 1
                self._wait([window])
                continue
            clip.answers[window.index] = _Answer(text, hypothesis, temperature, window.suspicious)
            if len(clip.answers) == clip.n_windows:
                yield clip.request, _transcript(clip, self.options)

    def _answers(self, batch: list[_Window], temperature: float) -> list[tuple[Hypothesis, Tensor]]:
        """Answer and features of each window; the batch size is halved if memory runs out."""
        try:
            features = self._features(batch)
            initial_tokens = [self.initial_tokens(window.clip.language) for window in batch]
            seeds = [_seed(window, temperature) for window in batch]
            answers = self.recogniser.decode(features, initial_tokens, temperature, seeds, self._max_tokens(batch[0]))
            return list(zip(answers, features, strict=True))
        except torch.cuda.OutOfMemoryError:
            if len(batch) == 1:
                raise
        # Outside of the handler, which would keep all tensors alive.
        features = None
        self.batch_size = half = len(batch) // 2
        return [*self._answers(batch[:half], temperature), *self._answers(batch[half:], temperature)]

    def _max_tokens(self, window: _Window) -> int | None:
        """Longest answer: of a first attempt no more than is suspicious, so that an endless one is cheap."""
        if window.attempt:
            return self.options.max_tokens
        limit = TOKENS_A_SECOND * window.seconds
        return min(limit, self.options.max_tokens or limit)

    def _features(self, batch: list[_Window]) -> Tensor:
        """Encode windows of one length, and detect unknown languages.

        Shapes:
            returns `(windows, 50 * seconds, width)`.
        """
        if batch[0].features is not None:
            return torch.stack([window.features for window in batch])
        features = self.recogniser.encode([window.samples for window in batch], batch[0].seconds)
        unknown = [row for row, window in enumerate(batch) if window.clip.language is None]
        if unknown and self.recogniser.multilingual:
            for row, language in zip(unknown, self.recogniser.detect_languages(features[unknown]), strict=True):
                batch[row].clip.language = language
        return features


def _may_be_joined(seconds: int, attempt: int, longest_to_come: int) -> bool:
    """Whether a window to come may be decoded together with those that wait: any of them may have to be in 30 s."""
    return longest_to_come >= seconds if attempt == 0 else longest_to_come > 0


def _seed(window: _Window, temperature: float) -> int:
    """Seed of 63 bits for sampling a window at a temperature."""
    return seed(f"{window.clip.request.key}\n{window.index}\n{float(temperature)}")


def compression_ratio(text: str) -> float:
    """Bytes of a text divided by its bytes after compression, as in openai-whisper."""
    content = text.strip().encode()
    return len(content) / len(zlib.compress(content))


def _is_suspicious(text: str, hypothesis: Hypothesis, seconds: int, options: DecodeOptions) -> bool:
    """Whether to decode 30 s: the answer to the clip alone is endless, poor, or that of silence."""
    endless = len(hypothesis.tokens) >= TOKENS_A_SECOND * seconds
    return endless or _is_poor(text, hypothesis, options) or _is_silent(hypothesis, options)


def _is_poor(text: str, hypothesis: Hypothesis, options: DecodeOptions) -> bool:
    """Whether to retry a window: its text is repetitive or improbable, and it is not silence.

    Source: `decode_with_fallback` in `transcribe` and `compression_ratio` of openai-whisper.
    """
    repeats = compression_ratio(text) > options.compression_ratio_threshold
    improbable = hypothesis.avg_logprob < options.logprob_threshold
    silent = hypothesis.no_speech_prob > options.no_speech_threshold and improbable
    return (repeats or improbable) and not silent


def _is_silent(hypothesis: Hypothesis, options: DecodeOptions) -> bool:
    """Whether to drop the text of a window. Source: `should_skip` in `transcribe` of openai-whisper."""
    no_speech = hypothesis.no_speech_prob > options.no_speech_threshold
    return no_speech and not hypothesis.avg_logprob > options.logprob_threshold


def _transcript(clip: _Clip, options: DecodeOptions) -> Transcript:
    """Join the windows of a clip; if all are judged silent, the log probability is that of all."""
    answers = [answer for _, answer in sorted(clip.answers.items())]
    speech = [answer for answer in answers if not _is_silent(answer.hypothesis, options)]
    counted = [answer.hypothesis for answer in speech or answers]
    weights = np.array([len(hypothesis.tokens) + 1 for hypothesis in counted])  # the end token counts as one
    text = _joined([answer.text for answer in speech], clip.language)
    return Transcript(
        text=text,
        language=clip.language,
        avg_logprob=float(np.dot([hypothesis.avg_logprob for hypothesis in counted], weights / weights.sum())),
        no_speech_prob=min(answer.hypothesis.no_speech_prob for answer in answers),
        temperature=max(answer.temperature for answer in answers),
        compression_ratio=compression_ratio(text) if text else None,
        suspicious=any(answer.suspicious for answer in answers),
    )


def _joined(texts: Sequence[str], language: str | None) -> str:
    """Join texts, with a space between them if the language has spaces and the texts have none."""
    joined = ""
    for text in filter(None, map(str.rstrip, texts)):
        blank = "" if text[0].isspace() or language in WITHOUT_BLANKS else " "
        joined += blank + text
    return joined.strip()
