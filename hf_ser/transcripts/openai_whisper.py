"""Whisper of openai-whisper, with the interface of `recogniser`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import whisper
from torch import Tensor, nn
from whisper.audio import HOP_LENGTH, N_FFT, log_mel_spectrogram, pad_or_trim
from whisper.decoding import DecodingOptions, DecodingTask

from hf_ser.transcripts.audio_attention import KeysAndValues, Projections, ReplacedAttention
from hf_ser.transcripts.greedy import decode, keep_rows
from hf_ser.transcripts.recogniser import (
    MAX_WINDOW_SECONDS,
    POSITIONS_A_SECOND,
    PRECISIONS,
    Hypothesis,
    Word,
    weights_digest,
)

FRAMES_A_SECOND = 100
PREFIX = "openai-whisper:"


def load(name: str, device: str, precision: str) -> "OpenAiWhisper":
    """Load a model of openai-whisper.

    Args:
        name: One of `whisper.available_models()`, downloaded if not cached, or a `.pt` file.
        device: As torch names it.
        precision: float32, float16 or bfloat16.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no such model, or the file is not a model of openai-whisper.
    """
    if name.endswith(".pt"):
        if not Path(name).is_file():
            raise FileNotFoundError(f"{name}: found nothing, expected a .pt file of openai-whisper.")
    elif name not in whisper.available_models():
        known = ", ".join(whisper.available_models())
        raise ValueError(f"--asr {PREFIX}{name}: no such model. Expected one of {known}, or the path of a .pt file.")
    try:
        model = whisper.load_model(name, device="cpu")  # torch.load there has weights_only=True: no code is run
    except Exception as error:  # a stranger's file may fail in many ways
        if not name.endswith(".pt"):
            raise FileNotFoundError(
                f"{PREFIX}{name}: not there yet, and it could not be downloaded ({error}). Expected a network, or the "
                "path of a .pt file that was fetched elsewhere."
            ) from error
        raise ValueError(
            f"{name}: not readable as a model of openai-whisper ({error}). Expected a .pt file with `dims` and "
            "`model_state_dict`; a model of transformers is a folder."
        ) from error
    called = name if name in whisper.available_models() else Path(name).stem
    return OpenAiWhisper(model, f"openai-whisper/{called}", device, precision)


class OpenAiWhisper:
    """`recogniser.StepwiseRecogniser` of openai-whisper.

    Args:
        model: In float32, on the CPU.
        name: Name in `transcript_source`.
        device, precision: Of the computation.
    """

    def __init__(self, model: whisper.Whisper, name: str, device: str, precision: str):
        self.name = name
        task = DecodingTask(model, DecodingOptions(without_timestamps=True))
        tokenizer = task.tokenizer
        self.revision = weights_digest(model, tokenizer.encoding.name, str(model.num_languages))
        self.model = in_precision(model, PRECISIONS[precision]).to(device).eval()
        self.device, self.dtype = str(device), PRECISIONS[precision]
        self.multilingual, self.max_tokens = model.is_multilingual, task.sample_len
        self.start, self.end, self.no_speech = tokenizer.sot, tokenizer.eot, tokenizer.no_speech
        self.tokenizer, self.filters, self.n_initial = tokenizer, task.logit_filters, task.sample_begin

    def encode(self, clips: Sequence[np.ndarray], seconds: int) -> Tensor:
        """As `Recogniser.encode`."""
        mels = torch.stack([self._mel(clip, seconds * FRAMES_A_SECOND) for clip in clips])
        return self._encode(mels.to(self.dtype), seconds)

    def _encode(self, mels: Tensor, seconds: int) -> Tensor:
        # On a CPU 30 s at a time: larger batches do not fit into its caches and take longer.
        parts = mels.split(max(1, MAX_WINDOW_SECONDS // seconds)) if self.device == "cpu" else [mels]
        with torch.inference_mode(), self._window(seconds):
            return torch.cat([self.model.encoder(part) for part in parts])

    @cached_property
    def silence(self) -> list[KeysAndValues]:
        """Keys and values in each layer of the padding that `transcribe` of openai-whisper puts after a clip."""
        mels = torch.zeros(1, self.model.dims.n_mels, MAX_WINDOW_SECONDS * FRAMES_A_SECOND)
        features = self._encode(mels.to(self.device, self.dtype), MAX_WINDOW_SECONDS)
        with torch.inference_mode():
            return [projections(block.cross_attn).keys_and_values(features) for block in self.model.decoder.blocks]

    def _mel(self, clip: np.ndarray, frames: int) -> Tensor:
        """Spectrogram of a clip as in `transcribe` of openai-whisper, `(mels, frames)`: padded with zeros, not silence.

        `decode` and transformers pad the audio instead, which changes some transcripts.
        """
        mel = log_mel_spectrogram(clip, self.model.dims.n_mels, N_FFT, self.device)  # of the clip and padding
        return pad_or_trim(mel[:, : len(clip) // HOP_LENGTH], frames)

    @contextmanager
    def _window(self, seconds: int) -> Iterator[None]:
        """Crop the encoder's positions to some seconds: it takes no input of another length."""
        encoder, whole = self.model.encoder, self.model.encoder.positional_embedding
        encoder.positional_embedding = whole[: seconds * POSITIONS_A_SECOND]
        try:
            yield
        finally:
            encoder.positional_embedding = whole

    def detect_languages(self, features: Tensor) -> list[str | None]:
        """As `Recogniser.detect_languages`."""
        if not self.multilingual:
            return [None] * len(features)
        codes, tokens = self.tokenizer.all_language_codes, list(self.tokenizer.all_language_tokens)
        start = torch.full((len(features), 1), self.start, device=features.device)
        state = self.decoder(features)
        try:
            with torch.inference_mode():
                logits = state.step(start)[:, 0, tokens]
        finally:
            state.close()
        return [codes[best] for best in logits.argmax(-1).tolist()]

    def initial_tokens(self, language: str | None, prompt: str | None) -> list[int]:
        """As `Recogniser.initial_tokens`."""
        known = self.tokenizer.all_language_codes if self.multilingual else ("en",)
        if language is not None and language not in known:
            raise ValueError(f"--language {language}: {self.name} does not know it. Expected one of {' '.join(known)}.")
        options = DecodingOptions(language=language, prompt=prompt, without_timestamps=True)
        return list(DecodingTask(self.model, options).initial_tokens)

    def suppress(self, logits: Tensor, n_generated: int) -> None:
        """As `Recogniser.suppress`."""
        # The filters look only at how many tokens there are.
        tokens = torch.empty(len(logits), self.n_initial + n_generated)
        for one in self.filters:
            one.apply(logits, tokens)

    def decoder(self, features: Tensor) -> "OpenAiDecoder":
        """As `Recogniser.decoder`."""
        return OpenAiDecoder(self.model, features, self.silence)

    def decode(self, *windows, **options) -> list[Hypothesis]:
        """As `Recogniser.decode`."""
        return decode(self, *windows, **options)

    def text(self, tokens: Sequence[int]) -> str:
        """As `Recogniser.text`."""
        return self.tokenizer.decode([token for token in tokens if token < self.end])

    def words(self, samples: np.ndarray, language: str | None = None) -> list[Word]:
        """As `TimingRecogniser.words`; in float32 or float16."""
        self.initial_tokens(language, None)  # refuses an unknown language
        options = {"temperature": 0.0, "condition_on_previous_text": False, "fp16": self.dtype == torch.float16}
        found = whisper.transcribe(self.model, samples, language=language, word_timestamps=True, **options)
        words = [word for segment in found["segments"] for word in segment["words"]]
        return [Word(float(one["start"]), float(one["end"]), one["word"]) for one in words]


def in_precision(model: whisper.Whisper, precision: torch.dtype) -> whisper.Whisper:
    """Cast what openai-whisper itself casts whenever it is used, once, in place: the norms compute in float32."""
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Embedding)):
            module.to(precision)
    return model


def projections(attention: nn.Module) -> Projections:
    """Layers of an attention of openai-whisper."""
    return Projections(attention.query, attention.key, attention.value, attention.out, attention.n_head)


class OpenAiDecoder:
    """`recogniser.DecoderState` of openai-whisper, which caches keys and values by hooks on its layers.

    Args:
        model: The model; until `close` it has the hooks, and its attention to the audio is replaced.
        features: `(rows, positions, width)`.
        silence: As `ReplacedAttention` takes it.
    """

    def __init__(self, model: whisper.Whisper, features: Tensor, silence: Sequence[KeysAndValues]):
        self.model, self.features = model, features
        self.attention = ReplacedAttention(model.decoder.blocks, "cross_attn", projections, features, silence)
        self.cache, self.hooks = model.install_kv_cache_hooks()

    def step(self, tokens: Tensor) -> Tensor:
        """As `DecoderState.step`."""
        return self.model.decoder(tokens, self.features, kv_cache=self.cache)

    def keep(self, rows: Tensor) -> None:
        """As `DecoderState.keep`."""
        for layer, state in self.cache.items():
            self.cache[layer] = keep_rows(state, rows)
        self.attention.keep(rows)

    def close(self) -> None:
        """As `DecoderState.close`."""
        for hook in self.hooks:
            hook.remove()
        self.attention.restore()
