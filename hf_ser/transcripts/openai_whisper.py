"""Whisper as openai-whisper computes it, behind the interface of `recogniser`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import whisper
from torch import Tensor, nn
from whisper.audio import HOP_LENGTH, N_FFT, log_mel_spectrogram, pad_or_trim
from whisper.decoding import DecodingOptions, DecodingTask

from hf_ser.transcripts.greedy import keep_rows
from hf_ser.transcripts.recogniser import MAX_WINDOW_SECONDS, PRECISIONS, weights_digest

POSITIONS_A_SECOND, FRAMES_A_SECOND = 50, 100
PREFIX = "openai-whisper:"


def load(name: str, device: str, precision: str) -> "OpenAiWhisper":
    """A model of openai-whisper.

    Args:
        name: One of `whisper.available_models()`, which is downloaded if it is not there yet, or a `.pt` file.
        device: As torch names it.
        precision: float32, float16 or bfloat16.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no such model, or the file is no Whisper of openai-whisper.
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
    """As `recogniser.Recogniser`.

    Args:
        model: In float32, on the CPU.
        name: What `transcript_source` calls it.
        device, precision: Where and in what it computes.
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
        self.tokenizer, self.filters, self.opening_length = tokenizer, task.logit_filters, task.sample_begin

    def encode(self, clips: Sequence[np.ndarray], seconds: int) -> Tensor:
        """As `Recogniser.encode`."""
        mels = torch.stack([self._mel(clip, seconds * FRAMES_A_SECOND) for clip in clips]).to(self.dtype)
        # On a CPU 30 s at a time: what more would compute on the way does not fit into its caches. (In the size of
        # Whisper-base on one core: 66 ms a window of 3 s in tens, 84 ms alone; 1.2 s a window of 30 s, 1.4 s in pairs.)
        parts = mels.split(max(1, MAX_WINDOW_SECONDS // seconds)) if self.device == "cpu" else [mels]
        with torch.inference_mode(), self._window(seconds):
            return torch.cat([self.model.encoder(part) for part in parts])

    def _mel(self, clip: np.ndarray, frames: int) -> Tensor:
        """A clip's spectrogram as `transcribe` of openai-whisper makes it: padded with zeros that are no silence.

        (`decode` of a padded clip, and transformers, have the spectrogram of silence there; the words of some clips
        differ for it.) Shapes: `(mels, frames)`.
        """
        mel = log_mel_spectrogram(clip, self.model.dims.n_mels, N_FFT, self.device)  # of the clip and some silence
        return pad_or_trim(mel[:, : len(clip) // HOP_LENGTH], frames)

    @contextmanager
    def _window(self, seconds: int) -> Iterator[None]:
        """The encoder with positions for so many seconds: it takes no input of another length."""
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
        with torch.inference_mode():
            logits = self.model.logits(start, features)[:, 0, tokens]
        return [codes[best] for best in logits.argmax(-1).tolist()]

    def opening(self, language: str | None, prompt: str | None) -> list[int]:
        """As `Recogniser.opening`."""
        known = self.tokenizer.all_language_codes if self.multilingual else ("en",)
        if language is not None and language not in known:
            raise ValueError(f"--language {language}: {self.name} does not know it. Expected one of {' '.join(known)}.")
        options = DecodingOptions(language=language, prompt=prompt, without_timestamps=True)
        return list(DecodingTask(self.model, options).initial_tokens)

    def suppress(self, logits: Tensor, said: int) -> None:
        """As `Recogniser.suppress`."""
        # The filters look only at how many tokens there are.
        tokens = torch.empty(len(logits), self.opening_length + said)
        for one in self.filters:
            one.apply(logits, tokens)

    def decoder(self, features: Tensor) -> "OpenAiDecoder":
        """As `Recogniser.decoder`."""
        return OpenAiDecoder(self.model, features)

    def text(self, tokens: Sequence[int]) -> str:
        """As `Recogniser.text`."""
        return self.tokenizer.decode([token for token in tokens if token < self.end])


def in_precision(model: whisper.Whisper, precision: torch.dtype) -> whisper.Whisper:
    """Cast what openai-whisper itself casts whenever it is used, once, in place: the norms compute in float32."""
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Embedding)):
            module.to(precision)
    return model


class OpenAiDecoder:
    """As `recogniser.DecoderState`: openai-whisper keeps keys and values of what was said by hooks on its layers.

    Args:
        model: Whose decoder it is; until `close` the hooks are on it, and its attention to the sound is replaced.
        features: `(rows, positions, width)`.
    """

    def __init__(self, model: whisper.Whisper, features: Tensor):
        self.model, self.features = model, features
        self.replaced = [block.cross_attn for block in model.decoder.blocks]
        with torch.inference_mode():
            self.heard = [AttentionToSound(attention, features) for attention in self.replaced]
        for block, attention in zip(model.decoder.blocks, self.heard, strict=True):
            block.cross_attn = attention
        self.cache, self.hooks = model.install_kv_cache_hooks()

    def step(self, tokens: Tensor) -> Tensor:
        """As `DecoderState.step`."""
        return self.model.decoder(tokens, self.features, kv_cache=self.cache)

    def keep(self, rows: Tensor) -> None:
        """As `DecoderState.keep`."""
        for layer, held in self.cache.items():
            self.cache[layer] = keep_rows(held, rows)
        for attention in self.heard:
            attention.keys, attention.values = keep_rows(attention.keys, rows), keep_rows(attention.values, rows)

    def close(self) -> None:
        """As `DecoderState.close`."""
        for hook in self.hooks:
            hook.remove()
        for block, attention in zip(self.model.decoder.blocks, self.replaced, strict=True):
            block.cross_attn = attention


class AttentionToSound(nn.Module):
    """What `whisper.model.MultiHeadAttention` computes of a sound, with the keys and values of each head in one piece.

    There they lie in strips, since no tensor of the cache's shape can hold them otherwise; reading strips takes a CPU
    nearly twice as long, and it is most of what a step does (at 16 rows of 30 s in the size of Whisper-base, on one
    core: 44 ms a layer in strips, 25 ms in one piece).

    Args:
        attention: Of a layer of the decoder.
        features: `(rows, positions, width)`.
    """

    def __init__(self, attention: nn.Module, features: Tensor):
        super().__init__()
        self.query, self.out, self.n_heads = attention.query, attention.out, attention.n_head
        self.keys, self.values = (self._heads(part(features)).contiguous() for part in (attention.key, attention.value))

    def _heads(self, states: Tensor) -> Tensor:
        """Shapes: `(rows, positions, width)` to `(rows, heads, positions, width of a head)`."""
        return states.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)

    def forward(self, x: Tensor, features: Tensor | None = None, kv_cache: dict | None = None) -> tuple[Tensor, None]:
        """As there; the features and the cache are not looked at."""
        found = nn.functional.scaled_dot_product_attention(self._heads(self.query(x)), self.keys, self.values)
        return self.out(found.transpose(1, 2).flatten(2)), None
