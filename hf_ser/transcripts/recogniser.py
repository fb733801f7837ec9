"""Interface of a Whisper model, whichever library computes it, and the options and results of decoding."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from hf_ser.json_record import Record

MAX_WINDOW_SECONDS = 30
"""Length of Whisper's input; longer clips are cut, shorter ones padded with zeros."""

POSITIONS_A_SECOND = 50
"""Positions of the encoder's output."""

PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class DecodeOptions:
    """Options that determine a transcript besides the audio and the weights; part of its cache key.

    Args:
        prompt: Text that the model takes as preceding, such as names that it should know.
        whole_window: Whether the encoder computes 30 s of every clip. Without it, it computes the clip and what follows
            is its output for silence, the same for all clips; suspicious answers are decoded again in 30 s.
        temperatures: Tried in order until an answer is not poor. 0 is greedy.
        compression_ratio_threshold: Answers with a higher gzip compression ratio repeat themselves: poor.
        logprob_threshold: Answers with a lower mean log probability per token are poor.
        no_speech_threshold: A window with a higher probability of no speech, whose answer is also below
            `logprob_threshold`, is silence: its text is empty and it is not tried again.
        max_tokens: Longest answer to a window; None for the model's limit.
        precision: Precision of the weights: float32, float16 or bfloat16, in faster-whisper also int8.

    Source:
        `transcribe` of openai-whisper, whose values these are (Radford et al. 2022, section 4.5).
    """

    prompt: str | None = None
    whole_window: bool = False
    temperatures: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    compression_ratio_threshold: float = 2.4
    logprob_threshold: float = -1.0
    no_speech_threshold: float = 0.6
    max_tokens: int | None = None
    precision: str = "float32"

    def __post_init__(self):
        if not self.temperatures or min(self.temperatures) < 0:
            raise ValueError(f"--temperatures {self.temperatures}: expected one or more from 0 on, such as 0 0.2 0.4.")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"--max_tokens {self.max_tokens}: expected at least one token.")


@dataclass(frozen=True)
class Hypothesis:
    """Result of decoding one window.

    Args:
        tokens: Generated tokens, without the initial tokens and the end token.
        avg_logprob: Sum of the log probabilities of the tokens and the end, divided by their number.
        no_speech_prob: Probability of the no-speech token at the start; NaN if the model has none.
    """

    tokens: tuple[int, ...]
    avg_logprob: float
    no_speech_prob: float


@dataclass(frozen=True)
class Transcript:
    """Transcript of a clip, with the model's confidence.

    Args:
        text: Empty if there is no speech.
        language: Code such as `en`, given or detected; None if nothing was decoded or the model knows one language.
        avg_logprob: Mean over all tokens of all windows; None if nothing was decoded.
        no_speech_prob: Lowest of all windows; 1 for digital silence.
        temperature: Highest temperature of an accepted answer; None if nothing was decoded.
        compression_ratio: Bytes of the text divided by its bytes after compression, high where it repeats itself; None
            if it is empty.
        suspicious: Whether an answer to the clip alone was suspicious and 30 s were decoded.
    """

    text: str
    language: str | None
    avg_logprob: float | None
    no_speech_prob: float
    temperature: float | None
    compression_ratio: float | None = None
    suspicious: bool = False


@dataclass(frozen=True)
class Word(Record):
    """A word of a recording, with its beginning and end in seconds."""

    start: float
    end: float
    text: str


class TimingRecogniser(Protocol):
    """A recogniser that also gives the times of words, as the libraries do by the attention to the audio."""

    def words(self, samples: np.ndarray, language: str | None = None) -> list[Word]:
        """The words of a recording of any length, their times from its first sample on.

        Shapes: samples `(samples,)` float32 at 16 kHz.

        Raises:
            ValueError: the model does not know the language.
        """


class Recogniser(Protocol):
    """A loaded Whisper model, as the modules of the back ends implement it.

    Attributes:
        name: Name in `transcript_source`: `openai-whisper/base`, a Hub id, or a file's or folder's name.
        revision: First twelve hexadecimal digits of the SHA-256 of its weights and its tokenizer.
        multilingual: Whether it knows several languages.
        max_tokens: Longest answer to a window.
        device: As torch names it.
    """

    name: str
    revision: str
    multilingual: bool
    max_tokens: int
    device: str

    def encode(self, clips: Sequence[np.ndarray], seconds: int) -> Tensor:
        """Encode clips in a window of `seconds`.

        A row does not depend on the others. Shapes: clips `(samples,)` float32 at 16 kHz, none longer than the window;
        returns `(clips, 50 * seconds, width)` in the precision of the weights, on the device.
        """

    def detect_languages(self, features: Tensor) -> list[str | None]:
        """Detect the language code of each row; None if the model knows one language only."""

    def initial_tokens(self, language: str | None, prompt: str | None) -> list[int]:
        """Tokens before the answer: prompt, start, language, task, no time stamps.

        Raises:
            ValueError: the model does not know the language; the message lists those it knows.
        """

    def decode(
        self,
        features: Tensor,
        initial_tokens: Sequence[Sequence[int]],
        temperature: float,
        seeds: Sequence[int],
        max_tokens: int | None = None,
    ) -> list[Hypothesis]:
        """Decode windows; the decoder always attends to 30 s, of which those after the features are silence.

        Args:
            features: Output of `encode`.
            initial_tokens: Tokens before the answer of each row, all of one length.
            temperature: Sampling temperature; 0 is greedy.
            seeds: Seed of each row; unused at temperature 0.
            max_tokens: Longest answer; None for the model's limit.

        Shapes:
            features: `(rows, positions, width)`.
        """

    def text(self, tokens: Sequence[int]) -> str:
        """Text of tokens as the tokenizer gives it, spaces at the ends kept."""


class DecoderState(Protocol):
    """State of the decoder of a batch of windows."""

    def step(self, tokens: Tensor) -> Tensor:
        """Feed the next tokens.

        Shapes:
            tokens: `(rows, new)` int64; returns logits `(rows, new, vocabulary)` float32.
        """

    def keep(self, rows: Tensor) -> None:
        """Keep these rows alone. Shapes: `(kept,)` int64, positions among the current rows."""

    def close(self) -> None:
        """Restore the model."""


class StepwiseRecogniser(Recogniser, Protocol):
    """A recogniser whose decoder is run token by token, by `greedy.decode`.

    Attributes:
        start, end, no_speech: Special tokens; `no_speech` is None if the model has none.
    """

    start: int
    end: int
    no_speech: int | None

    def suppress(self, logits: Tensor, n_generated: int) -> None:
        """Set the logits of tokens that may not come next to minus infinity, in place.

        Shapes: `(rows, vocabulary)`. `n_generated`: tokens of the answer so far.
        """

    def decoder(self, features: Tensor) -> DecoderState:
        """Start decoding. Only one state is open at a time."""


def weights_digest(model: nn.Module, *rules: str) -> str:
    """First twelve hexadecimal digits of the SHA-256 of a model's weights and its tokenizer.

    Args:
        model: On the CPU, in the precision in which it was saved.
        rules: Texts that identify the tokenizer and the rules of decoding.
    """
    digest = hashlib.sha256("\n".join(rules).encode())
    for name, weights in sorted(model.state_dict().items()):
        weights = weights.to_dense() if weights.is_sparse else weights
        digest.update(f"{name} {tuple(weights.shape)} {weights.dtype}".encode())
        digest.update(weights.contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:12]
