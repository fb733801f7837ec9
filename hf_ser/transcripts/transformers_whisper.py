"""Whisper of transformers, with the interface of `recogniser`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    DynamicCache,
    EncoderDecoderCache,
    WhisperForConditionalGeneration,
    WhisperProcessor,
)
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import logging

from hf_ser.data.schema import SAMPLING_RATE
from hf_ser.revisions import checkpoint_config, split_revision
from hf_ser.transcripts.audio_attention import KeysAndValues, Projections, ReplacedAttention
from hf_ser.transcripts.greedy import decode, keep_rows
from hf_ser.transcripts.recogniser import (
    MAX_WINDOW_SECONDS,
    POSITIONS_A_SECOND,
    PRECISIONS,
    Hypothesis,
    weights_digest,
)


def load(name: str, device: str, precision: str) -> "TransformersWhisper":
    """Load a Whisper of transformers.

    Args:
        name: A folder, or a Hub id with or without `@revision`.
        device: As torch names it.
        precision: float32, float16 or bfloat16.

    Raises:
        FileNotFoundError: no such model.
        ValueError: not a Whisper, or an incomplete one.
    """
    model, processor = load_whole(name)
    if not hasattr(model.generation_config, "no_timestamps_token_id"):
        raise ValueError(
            f"{name}: its generation_config.json is missing or older than the tokens of Whisper's languages and tasks. "
            "Expected one with no_timestamps_token_id: copy that of the model from which it was trained."
        )
    called = "/".join(Path(name).absolute().parts[-2:]) if Path(name).is_dir() else split_revision(name)[0]
    return TransformersWhisper(model, processor, called, device, precision)


def load_whole(name: str) -> tuple[WhisperForConditionalGeneration, WhisperProcessor]:
    """Load a Whisper in float32 on the CPU, and its processor; refuse a checkpoint with missing weights.

    Raises:
        FileNotFoundError, ValueError: see `load`.
    """
    expected = (
        "Expected a whole Whisper, with decoder and tokenizer: a folder, or a Hub id such as openai/whisper-small"
    )
    source, revision = split_revision(name)
    try:
        kind = checkpoint_config(name).model_type
    except (OSError, ValueError) as error:  # a ValueError where the folder is there and has no configuration
        raise FileNotFoundError(f"{name}: found no model ({str(error).splitlines()[0]}). {expected}.") from error
    if kind != "whisper":
        raise ValueError(f"{name}: found a model of type {kind}. {expected}.")
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # its table of new weights; they are checked here
    model, loading = WhisperForConditionalGeneration.from_pretrained(
        source, revision=revision, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True
    )
    logging.set_verbosity(verbosity)
    if fresh := sorted({*loading["missing_keys"], *(key for key, *_ in loading["mismatched_keys"])}):
        decoder = all(".decoder." in key or key.startswith("proj_out") for key in fresh)
        part = "it has no decoder" if decoder else "it is not whole"
        raise ValueError(
            f"{name}: {len(fresh)} weights are not in the checkpoint (such as {fresh[0]}) and would be random: {part}. "
            f"{expected}."
        )
    try:
        return model, WhisperProcessor.from_pretrained(source, revision=revision, trust_remote_code=False)
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(f"{name}: found no tokenizer or feature extractor of Whisper in it. {expected}.") from error


class TransformersWhisper:
    """`recogniser.StepwiseRecogniser` of transformers.

    Args:
        model: In float32, on the CPU.
        processor: Its feature extractor and tokenizer.
        name: Name in `transcript_source`.
        device, precision: Of the computation.
    """

    def __init__(self, model, processor: WhisperProcessor, name: str, device: str, precision: str):
        self.name = name
        self.rules = model.generation_config
        self.extractor, self.tokenizer = processor.feature_extractor, processor.tokenizer
        suppressed = [self.rules.suppress_tokens or [], self.rules.begin_suppress_tokens or []]
        vocabulary = sorted(self.tokenizer.get_vocab().items())
        self.revision = weights_digest(model, repr(suppressed), repr(vocabulary))
        self.model = model.to(device, PRECISIONS[precision]).eval()
        self.device, self.dtype = str(device), PRECISIONS[precision]
        self.languages = getattr(self.rules, "lang_to_id", None) or {}
        self.multilingual = bool(self.languages) and getattr(self.rules, "is_multilingual", True)
        self.max_tokens = model.config.max_target_positions // 2
        self.start, self.end = self.rules.decoder_start_token_id, self.rules.eos_token_id
        # By its position, as in `generate`: it is `<|nospeech|>`, or `<|nocaptions|>` in older checkpoints.
        self.no_speech = self.rules.no_timestamps_token_id - 1
        self.always, self.first = suppressed

    def encode(self, clips: Sequence[np.ndarray], seconds: int) -> Tensor:
        """As `Recogniser.encode`."""
        length = seconds * SAMPLING_RATE
        # A second more than the window: the transform reads a little beyond its end.
        mels = self.extractor(
            list(clips), sampling_rate=SAMPLING_RATE, max_length=length + SAMPLING_RATE, return_tensors="pt"
        )["input_features"][:, :, : seconds * 2 * POSITIONS_A_SECOND]
        return self._encode(mels.to(self.device, self.dtype), seconds)

    def _encode(self, mels: Tensor, seconds: int) -> Tensor:
        # On a CPU 30 s at a time: larger batches do not fit into its caches and take longer.
        parts = mels.split(max(1, MAX_WINDOW_SECONDS // seconds)) if self.device == "cpu" else [mels]
        with torch.inference_mode(), self._window(seconds):
            return torch.cat([self.model.get_encoder()(part).last_hidden_state for part in parts])

    @cached_property
    def silence(self) -> list[KeysAndValues]:
        """Keys and values in each layer of 30 s of silence."""
        features = self.encode([np.zeros(SAMPLING_RATE, np.float32)], MAX_WINDOW_SECONDS)
        layers = self.model.get_decoder().layers
        with torch.inference_mode():
            return [projections(layer.encoder_attn).keys_and_values(features) for layer in layers]

    @contextmanager
    def _window(self, seconds: int) -> Iterator[None]:
        """Crop the encoder's positions to some seconds: it takes no input of another length."""
        encoder, config = self.model.get_encoder(), self.model.config
        whole, positions = encoder.embed_positions, config.max_source_positions
        cropped = min(positions, seconds * POSITIONS_A_SECOND)
        encoder.embed_positions = nn.Embedding.from_pretrained(whole.weight[:cropped])
        config.max_source_positions = cropped
        try:
            yield
        finally:
            encoder.embed_positions, config.max_source_positions = whole, positions

    def detect_languages(self, features: Tensor) -> list[str | None]:
        """As `Recogniser.detect_languages`."""
        if not self.multilingual:
            return [None] * len(features)
        start = torch.full((len(features), 1), self.start, device=features.device)
        state = self.decoder(features)
        try:
            with torch.inference_mode():
                logits = state.step(start)[:, 0, list(self.languages.values())]
        finally:
            state.close()
        codes = [token.strip("<|>") for token in self.languages]
        return [codes[best] for best in logits.argmax(-1).tolist()]

    def initial_tokens(self, language: str | None, prompt: str | None) -> list[int]:
        """As `Recogniser.initial_tokens`."""
        before = self.tokenizer.get_prompt_ids(prompt).tolist() if prompt else []
        # As many as openai-whisper keeps: the last ones, after the token that marks a prompt.
        before = [*before[:1], *before[1:][1 - self.max_tokens :]]
        token = f"<|{language or 'en'}|>"
        known = self.languages if self.multilingual else ("<|en|>",)
        if token not in known:
            codes = " ".join(sorted(each.strip("<|>") for each in known))
            raise ValueError(f"--language {language}: {self.name} does not know it. Expected one of {codes}.")
        if not self.multilingual:
            return [*before, self.start, self.rules.no_timestamps_token_id]
        task = (self.languages[token], self.rules.task_to_id["transcribe"], self.rules.no_timestamps_token_id)
        return [*before, self.start, *task]

    def suppress(self, logits: Tensor, n_generated: int) -> None:
        """As `Recogniser.suppress`."""
        logits[:, self.always if n_generated else [*self.always, *self.first]] = -torch.inf

    def decoder(self, features: Tensor) -> "TransformersDecoder":
        """As `Recogniser.decoder`."""
        return TransformersDecoder(self.model, features, self.silence)

    def decode(self, *windows, **options) -> list[Hypothesis]:
        """As `Recogniser.decode`."""
        return decode(self, *windows, **options)

    def text(self, tokens: Sequence[int]) -> str:
        """As `Recogniser.text`."""
        return self.tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)


def projections(attention: nn.Module) -> Projections:
    """Layers of an attention of transformers."""
    return Projections(attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj, attention.num_heads)


class TransformersDecoder:
    """`recogniser.DecoderState` of transformers.

    Args:
        model: The model; until `close` its attention to the audio is replaced.
        features: `(rows, positions, width)`.
        silence: As `ReplacedAttention` takes it.
    """

    def __init__(self, model: WhisperForConditionalGeneration, features: Tensor, silence: Sequence[KeysAndValues]):
        self.model, self.features = model, features
        layers = model.get_decoder().layers
        self.attention = ReplacedAttention(layers, "encoder_attn", projections, features, silence)
        self.cache = EncoderDecoderCache(DynamicCache(), DynamicCache())

    def step(self, tokens: Tensor) -> Tensor:
        """As `DecoderState.step`."""
        outputs = self.model(
            encoder_outputs=BaseModelOutput(self.features),
            decoder_input_ids=tokens,
            past_key_values=self.cache,
            use_cache=True,
        )
        return outputs.logits.float()

    def keep(self, rows: Tensor) -> None:
        """As `DecoderState.keep`."""
        self.features = self.features[: len(rows)]  # for the number of rows alone
        self.attention.keep(rows)
        for layer in self.cache.self_attention_cache.layers:
            layer.keys, layer.values = keep_rows(layer.keys, rows), keep_rows(layer.values, rows)

    def close(self) -> None:
        """As `DecoderState.close`."""
        self.cache = None
        self.attention.restore()
