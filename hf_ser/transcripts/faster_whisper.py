"""Whisper of faster-whisper, which CTranslate2 computes, with the interface of `recogniser`. An optional package."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hf_ser.transcripts.recogniser import MAX_WINDOW_SECONDS, POSITIONS_A_SECOND, Hypothesis, Word

PREFIX = "faster-whisper:"


def load(name: str, device: str, precision: str) -> "FasterWhisper":
    """Load a model of faster-whisper.

    Args:
        name: A size or Hub id, downloaded if not cached, or a folder in CTranslate2's format.
        device: As torch names it.
        precision: float32, float16, bfloat16 or int8; which of them work depends on the processor.

    Raises:
        ValueError: faster-whisper is not installed, no such model, or a precision that the device lacks.
        FileNotFoundError: the model is not cached and could not be downloaded.
    """
    try:
        import faster_whisper
    except ImportError as error:
        raise ValueError(
            f"--asr {PREFIX}{name} needs the package faster-whisper, which is not installed ({error}). Expected "
            "`pip install hf_ser[fast]`, or openai-whisper: or transformers: in the place of faster-whisper:."
        ) from error
    kind, _, index = device.partition(":")
    threads = {"cpu_threads": torch.get_num_threads()} if kind == "cpu" else {"device_index": int(index or 0)}
    try:
        model = faster_whisper.WhisperModel(name, device=kind, compute_type=precision, **threads)
    except ValueError as error:
        raise ValueError(f"--asr {PREFIX}{name} in {precision} on {device}: {error}") from error
    except Exception as error:  # of the Hub, of CTranslate2 and of the tokenizer
        raise FileNotFoundError(
            f"--asr {PREFIX}{name}: not loaded ({error}). Expected a size such as base and a network, or a folder in "
            "CTranslate2's format with model.bin, config.json, vocabulary and tokenizer.json."
        ) from error
    folder = Path(name) if Path(name).is_dir() else Path(faster_whisper.download_model(name, local_files_only=True))
    return FasterWhisper(model, f"faster-whisper/{Path(name).name}", weights_digest(folder), device)


def weights_digest(folder: Path) -> str:
    """First twelve hexadecimal digits of the SHA-256 of a model's files that decide its transcripts."""
    digest = hashlib.sha256()
    for file in ("model.bin", "config.json", "tokenizer.json"):
        if (folder / file).is_file():
            with open(folder / file, "rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()[:12]


class FasterWhisper:
    """`recogniser.Recogniser` of faster-whisper.

    CTranslate2 decodes batches by itself, and draws from a generator of its own: answers at a temperature above 0 are
    not the same in every run.

    Args:
        model: A `WhisperModel`.
        name: Name in `transcript_source`.
        revision: Digest of the weights.
        device: As torch names it.
    """

    def __init__(self, model, name: str, revision: str, device: str):
        from faster_whisper.tokenizer import _LANGUAGE_CODES, Tokenizer

        self.whisper, self.model, self.name, self.revision, self.device = model, model.model, name, revision, device
        self.multilingual = self.model.is_multilingual
        self.tokenizer = Tokenizer(model.hf_tokenizer, self.multilingual, "transcribe", "en")
        known = model.hf_tokenizer.token_to_id
        self.languages = {code: known(f"<|{code}|>") for code in _LANGUAGE_CODES if known(f"<|{code}|>") is not None}
        self.max_tokens = model.max_length // 2

    def encode(self, clips: Sequence[np.ndarray], seconds: int) -> Tensor:
        """As `Recogniser.encode`; the spectrogram is padded with zeros, as faster-whisper does."""
        frames = 2 * POSITIONS_A_SECOND * seconds
        # Without the last frame, as in its `transcribe`: it is of padding.
        mels = [self.whisper.feature_extractor(clip)[:, :frames][:, : len(clip) // 160] for clip in clips]
        return self._encode(np.stack([np.pad(mel, ((0, 0), (0, frames - mel.shape[1]))) for mel in mels]))

    def _encode(self, mels: np.ndarray) -> Tensor:
        return torch.from_numpy(np.array(self.model.encode(_storage(mels), to_cpu=True), np.float32))

    @cached_property
    def silence(self) -> Tensor:
        """Encoder's output for the padding after a clip. Shapes: `(positions of 30 s, width)`."""
        frames = 2 * POSITIONS_A_SECOND * MAX_WINDOW_SECONDS
        return self._encode(np.zeros((1, self.model.n_mels, frames)))[0]

    def _followed_by_silence(self, features: Tensor):
        silence = self.silence[features.shape[1] :].expand(len(features), -1, -1)
        return _storage(torch.cat([features, silence], 1).numpy())

    def detect_languages(self, features: Tensor) -> list[str | None]:
        """As `Recogniser.detect_languages`."""
        if not self.multilingual:
            return [None] * len(features)
        found = self.model.detect_language(self._followed_by_silence(features))
        return [candidates[0][0].strip("<|>") for candidates in found]

    def initial_tokens(self, language: str | None, prompt: str | None) -> list[int]:
        """As `Recogniser.initial_tokens`."""
        known = self.languages if self.multilingual else {"en": None}
        if language is not None and language not in known:
            codes = " ".join(sorted(known))
            raise ValueError(f"--language {language}: {self.name} does not know it. Expected one of {codes}.")
        tokenizer = self.tokenizer
        before = [tokenizer.sot_prev, *tokenizer.encode(" " + prompt.strip())[1 - self.max_tokens :]] if prompt else []
        task = [self.languages[language or "en"], tokenizer.transcribe] if self.multilingual else []
        return [*before, tokenizer.sot, *task, tokenizer.no_timestamps]

    def decode(
        self,
        features: Tensor,
        initial_tokens: Sequence[Sequence[int]],
        temperature: float,
        seeds: Sequence[int],
        max_tokens: int | None = None,
    ) -> list[Hypothesis]:
        """As `Recogniser.decode`; the seeds are not used."""
        longest, n_initial = min(max_tokens or self.max_tokens, self.max_tokens), len(initial_tokens[0])
        sampling = {"sampling_topk": 0, "sampling_temperature": temperature} if temperature else {}
        results = self.model.generate(
            self._followed_by_silence(features),
            [list(tokens) for tokens in initial_tokens],
            beam_size=1,
            # CTranslate2 ends an answer at half of it, or where it and the initial tokens reach it, the last one aside.
            max_length=min(max(2 * longest, n_initial + longest - 1), self.whisper.max_length),
            return_scores=True,
            return_no_speech_prob=True,
            **sampling,
        )
        return [_hypothesis(result) for result in results]

    def text(self, tokens: Sequence[int]) -> str:
        """As `Recogniser.text`."""
        return self.tokenizer.decode(list(tokens))

    def words(self, samples: np.ndarray, language: str | None = None) -> list[Word]:
        """As `TimingRecogniser.words`."""
        self.initial_tokens(language, None)  # refuses an unknown language
        options = {"temperature": 0.0, "condition_on_previous_text": False, "word_timestamps": True}
        segments, _ = self.whisper.transcribe(samples, language=language, **options)
        words = [word for segment in segments for word in segment.words or ()]
        return [Word(float(one.start), float(one.end), one.word) for one in words]


def _storage(array: np.ndarray):
    from ctranslate2 import StorageView

    return StorageView.from_array(np.ascontiguousarray(array, np.float32))


def _hypothesis(result) -> Hypothesis:
    """Result of one window; its score is the mean over the tokens without the end."""
    tokens = result.sequences_ids[0]
    return Hypothesis(tuple(tokens), result.scores[0] * len(tokens) / (len(tokens) + 1), result.no_speech_prob)
