"""What a Whisper must be able to do to be decoded here, whichever library computes it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

MAX_WINDOW_SECONDS = 30
"""What Whisper hears at once; longer clips are cut, shorter ones padded with zeros."""

PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class DecodeOptions:
    """All that decides a transcript beside the sound and the weights; part of the key under which it is cached.

    Args:
        prompt: Words that the model takes to have gone before, such as names that it should know; None for none.
        short_window: Whether the encoder computes only the clip's length, rounded up to a whole second, instead of
            30 s. It changes the words of some clips.
        temperatures: Of the decoding, in order: the next is tried where the last gave a poor answer. 0 is greedy.
        compression_ratio_threshold: Answers that gzip better than this repeat themselves: poor.
        logprob_threshold: Answers with a lower mean log probability a token are poor.
        no_speech_threshold: A window with a higher probability of no speech, whose answer is also below
            `logprob_threshold`, is silence: it has no words and is not tried again.
        max_tokens: Longest answer to a window; None is the most that the model can give.
        precision: What the weights are computed in: float32, float16 or bfloat16.

    Source:
        `transcribe` of openai-whisper, whose values these are (Radford et al. 2022, section 4.5).
    """

    prompt: str | None = None
    short_window: bool = False
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
    """One answer of the decoder to one window.

    Args:
        tokens: What it said, without the opening before and the end after.
        avg_logprob: Sum of the log probabilities of the tokens and the end, divided by their number.
        no_speech_prob: Probability of the no-speech token at the start, NaN where the model has none.
    """

    tokens: tuple[int, ...]
    avg_logprob: float
    no_speech_prob: float


@dataclass(frozen=True)
class Transcript:
    """The words of a clip, and how sure the model is of them.

    Args:
        text: Empty where nobody speaks.
        language: Code such as `en` in which the model was told, or found, it to be spoken; None where nothing was
            decoded or the model knows one language only.
        avg_logprob: Of a clip of several windows the mean over all tokens; None where nothing was decoded.
        no_speech_prob: Of several windows the lowest; 1 where the sound is digital silence.
        temperature: Highest at which a window was settled; None where nothing was decoded.
    """

    text: str
    language: str | None
    avg_logprob: float | None
    no_speech_prob: float
    temperature: float | None


class DecoderState(Protocol):
    """The decoder half-way through some windows."""

    def step(self, tokens: Tensor) -> Tensor:
        """Feed the tokens that are new since the last call.

        Shapes:
            tokens: `(rows, new)` int64; returns logits `(rows, new, vocabulary)` float32.
        """

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows alone. Shapes: `(kept,)` int64, positions among the rows so far."""

    def close(self) -> None:
        """Leave the model as it was before."""


class Recogniser(Protocol):
    """A Whisper model ready to decode; `openai_whisper` and `transformers_whisper` have one each.

    Attributes:
        name: What `transcript_source` calls it: `openai-whisper/base`, a Hub id, or a file's or folder's name.
        revision: First twelve hexadecimal digits of the SHA-256 of its weights and of what turns tokens into words.
        multilingual: Whether it knows several languages.
        max_tokens: Longest answer to a window.
        start, end, no_speech: Tokens; `no_speech` is None where the model has none.
        device: Where it computes, as torch names it.
    """

    name: str
    revision: str
    multilingual: bool
    max_tokens: int
    start: int
    end: int
    no_speech: int | None
    device: str

    def encode(self, clips: Sequence[np.ndarray], seconds: int) -> Tensor:
        """What the encoder makes of some clips in a window of `seconds`.

        A row does not depend on the others. Shapes: clips `(samples,)` float32 at 16 kHz, none longer than the window;
        returns `(clips, 50 * seconds, width)` in the precision of the weights, on the device.
        """

    def detect_languages(self, features: Tensor) -> list[str | None]:
        """Code of the language of each row; None where the model knows one only."""

    def opening(self, language: str | None, prompt: str | None) -> list[int]:
        """Tokens before the answer: the prompt's, the start, language, task and no time stamps.

        Raises:
            ValueError: the model does not know the language; the text lists those it knows.
        """

    def suppress(self, logits: Tensor, said: int) -> None:
        """Set to minus infinity, in place, what may not come next.

        Shapes: `(rows, vocabulary)`. `said`: tokens of the answer so far.
        """

    def decoder(self, features: Tensor) -> DecoderState:
        """A decoder before its first step. One is open at a time."""

    def text(self, tokens: Sequence[int]) -> str:
        """The words of an answer as the tokenizer gives them, blanks at the ends kept."""


def weights_digest(model: nn.Module, *reading: str) -> str:
    """First twelve hexadecimal digits of the SHA-256 of a model's weights and of what turns its tokens into words.

    Args:
        model: On the CPU, in the precision in which it was saved.
        reading: Texts that stand for the tokenizer and the rules of decoding.
    """
    digest = hashlib.sha256("\n".join(reading).encode())
    for name, weights in sorted(model.state_dict().items()):
        weights = weights.to_dense() if weights.is_sparse else weights
        digest.update(f"{name} {tuple(weights.shape)} {weights.dtype}".encode())
        digest.update(weights.contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:12]
