"""A recogniser whose answer depends on the loudest sample of a window, and which records its calls."""

from collections.abc import Sequence

import numpy as np
import torch

from hf_ser.data.schema import SAMPLING_RATE
from hf_ser.transcripts.greedy import decode
from hf_ser.transcripts.recogniser import Hypothesis

LANGUAGES = ("en", "de", "ja")
LETTERS = " abcdefgh"


def voiced(voice: int, seconds: float) -> np.ndarray:
    """A clip whose loudest sample is `voice` thousandths of full scale."""
    return np.full(round(seconds * SAMPLING_RATE), voice / 1000, np.float32)


class FakeRecogniser:
    """Tokens are characters. The language is that of the voice's number, counted round LANGUAGES.

    Shapes:
        features: `(clips, 50 * seconds, 2)`: the voice, and the length of the window in seconds.
    """

    name, revision, device, max_tokens = "fake", "0" * 12, "cpu", 24
    start, end, no_speech = 1, 0, 2

    def __init__(self, multilingual: bool = True):
        self.multilingual = multilingual
        self.encoded, self.detected, self.opened = [], [], []

    def encode(self, clips: Sequence[np.ndarray], seconds: int) -> torch.Tensor:
        assert all(0 < len(clip) <= seconds * SAMPLING_RATE for clip in clips)
        voices = [round(1000 * float(clip.max())) for clip in clips]
        self.encoded.append((seconds, voices))
        rows = torch.tensor([[voice, seconds] for voice in voices], dtype=torch.float32)
        return rows[:, None].repeat(1, 50 * seconds, 1)

    def detect_languages(self, features: torch.Tensor) -> list[str]:
        voices = voices_of(features)
        self.detected += voices
        return [LANGUAGES[voice % len(LANGUAGES)] for voice in voices]

    def initial_tokens(self, language: str | None, prompt: str | None) -> list[int]:
        self.opened.append((language, prompt))
        return [self.start, 3 + LANGUAGES.index(language) if language else 3]

    def suppress(self, logits: torch.Tensor, n_generated: int) -> None:
        allowed = [self.end, *map(ord, LETTERS)]
        logits[:, [token for token in range(logits.shape[1]) if token not in allowed]] = -torch.inf

    def decoder(self, features: torch.Tensor) -> "FakeDecoder":
        return FakeDecoder(features)

    def decode(self, *windows, **options) -> list[Hypothesis]:
        return decode(self, *windows, **options)

    def text(self, tokens: Sequence[int]) -> str:
        return "".join(map(chr, tokens))


class FakeDecoder:
    """Random logits that depend on the voice, the window length and the tokens so far."""

    def __init__(self, features: torch.Tensor):
        self.history = [[*map(int, row[0])] for row in features]

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        logits = torch.empty(*tokens.shape, 128)
        for row, new in enumerate(tokens.tolist()):
            for position, token in enumerate(new):
                self.history[row].append(token)
                drawn = np.random.default_rng(self.history[row]).normal(0, 3, 128)
                logits[row, position] = torch.from_numpy(drawn)
        return logits

    def keep(self, rows: torch.Tensor) -> None:
        self.history = [self.history[row] for row in rows.tolist()]

    def close(self) -> None:
        self.history = None


class FakeDecode:
    """Replaces a recogniser's `decode` by scripted answers, one per attempt; the last is repeated.

    Args:
        script: By voice, `(text, avg_logprob, no_speech_prob)` of each attempt. Other voices say their number.
    """

    def __init__(self, script: dict[int, list[tuple[str, float, float]]] | None = None):
        self.script, self.tries, self.calls, self.seeds, self.limits = script or {}, {}, [], {}, []

    def __call__(self, features, initial_tokens, temperature, seeds, max_tokens) -> list[Hypothesis]:
        voices = voices_of(features)
        assert len(initial_tokens) == len(seeds) == len(voices)
        self.calls.append((temperature, voices))
        self.limits.append(max_tokens)
        self.seeds |= {(voice, temperature): seed for voice, seed in zip(voices, seeds, strict=True)}
        return [self.answer(voice) for voice in voices]

    def answer(self, voice: int) -> Hypothesis:
        answers = self.script.get(voice, [(f" {voice}", -0.1, 0.0)])
        attempt = self.tries[voice] = self.tries.get(voice, -1) + 1
        text, avg_logprob, no_speech_prob = answers[min(attempt, len(answers) - 1)]
        return Hypothesis(tuple(map(ord, text)), avg_logprob, no_speech_prob)


def voices_of(features: torch.Tensor) -> list[int]:
    return features[:, 0, 0].int().tolist()
