"""Whisper models with random weights, for tests and timings; they do not transcribe."""

from pathlib import Path

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode
from whisper import ModelDimensions, Whisper
from whisper.decoding import DecodingOptions, DecodingTask
from whisper.tokenizer import Tokenizer, get_tokenizer

from hf_ser.models.saving import share_weights

SIZES = {
    "tiny": {"width": 384, "heads": 6, "layers": 4},
    "mini": {"width": 64, "heads": 2, "layers": 2},
}
"""`tiny` has the dimensions of the published whisper-tiny; `mini` is for tests."""

SPREAD_OF_LOGITS = 12.0
"""Standard deviation of the logits: with it the chosen token has more than half of the probability."""

RENAMED = (
    ("encoder.positional_embedding", "encoder.embed_positions.weight"),
    ("decoder.positional_embedding", "decoder.embed_positions.weight"),
    ("token_embedding", "embed_tokens"),
    ("blocks", "layers"),
    ("cross_attn_ln", "encoder_attn_layer_norm"),
    ("cross_attn", "encoder_attn"),
    ("attn_ln", "self_attn_layer_norm"),
    (".attn.", ".self_attn."),
    (".query.", ".q_proj."),
    (".key.", ".k_proj."),
    (".value.", ".v_proj."),
    (".out.", ".out_proj."),
    ("mlp_ln", "final_layer_norm"),
    ("mlp.0", "fc1"),
    ("mlp.2", "fc2"),
    ("ln_post", "layer_norm"),
    ("decoder.ln.", "decoder.layer_norm."),
)
"""Parts of weight names in openai-whisper and in transformers, replaced in this order."""


def write_random_whisper(
    folder: str | Path, size: str = "tiny", seed: int = 0, multilingual: bool = True
) -> tuple[Path, Path]:
    """Write one random Whisper in the formats of both libraries.

    Its answers depend on the audio and are mostly ten to thirty random tokens long.

    Args:
        folder: Folder of both; created if missing.
        size: One of `SIZES`; the vocabulary (51,865) and positions (1,500 and 448) are those of the published models.
        seed: Seed of the weights.
        multilingual: Whether it has language tokens; else it is like the published `.en` models.

    Returns:
        A `.pt` file that `whisper.load_model` takes, and a folder that `from_pretrained` takes, with the same weights.

    Raises:
        ValueError: an unknown size.
    """
    if size not in SIZES:
        raise ValueError(f"size {size!r}: expected one of {', '.join(SIZES)}. Pass one of these.")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model = random_model(**SIZES[size], seed=seed, multilingual=multilingual)
    name = f"random-{size}" if multilingual else f"random-{size}.en"
    checkpoint, transformers_folder = folder / f"{name}.pt", folder / name
    torch.save({"dims": vars(model.dims), "model_state_dict": model.state_dict()}, checkpoint)
    task = DecodingTask(model, DecodingOptions(without_timestamps=True))
    converted = WhisperForConditionalGeneration(configuration(model.dims, task.tokenizer))
    converted.load_state_dict(renamed(model.state_dict()))
    converted.generation_config = generation_configuration(task)
    converted.save_pretrained(transformers_folder)
    share_weights(transformers_folder)
    extractor = WhisperFeatureExtractor(feature_size=model.dims.n_mels)
    WhisperProcessor(extractor, converted_tokenizer(task.tokenizer)).save_pretrained(transformers_folder)
    return checkpoint, transformers_folder


def random_model(width: int, heads: int, layers: int, seed: int, multilingual: bool) -> Whisper:
    """Model of openai-whisper whose weights depend on the seed alone."""
    vocabulary = 51865 if multilingual else 51864
    model = Whisper(ModelDimensions(80, 1500, width, heads, layers, vocabulary, 448, width, heads, layers))
    generator = torch.Generator().manual_seed(seed)
    for name, weights in sorted(model.named_parameters()):
        if name.endswith("bias"):
            scale = 0.1
        elif "ln" in name:
            # Random signs for the decoder's last norm: with ones, tied embeddings repeat the last token for ever.
            scale = float(name == "decoder.ln.weight")
        elif name == "decoder.positional_embedding":
            scale = 1.0
        elif name == "decoder.token_embedding.weight":
            scale = SPREAD_OF_LOGITS / width**0.5
        else:
            # Attention must vary with the audio and outweigh what all clips share.
            gain = 3.0 if ".query." in name or ".key." in name else 2.0 if "cross_attn" in name else 1.5
            scale = gain / weights[0].numel() ** 0.5
        mean = float("ln" in name and name.endswith("weight") and scale == 0)
        torch.nn.init.normal_(weights, mean, scale, generator)
    let_answers_end(model)
    return model.eval()


@torch.no_grad()
def let_answers_end(model: Whisper) -> None:
    """Make the end likelier with every token, no-speech likely at the start, and time stamps impossible, in place.

    The logits of these tokens depend on the first feature alone, which grows with the position.
    """
    tokenizer = get_tokenizer(model.is_multilingual, num_languages=model.num_languages)
    decoder, embeddings = model.decoder, model.decoder.token_embedding.weight
    decoder.positional_embedding[:, 0] = torch.arange(model.dims.n_text_ctx).clamp(max=60)
    decoder.positional_embedding[0, 0] = 10
    decoder.ln.weight[0] = 1
    embeddings[tokenizer.timestamp_begin :] = 0
    embeddings[[tokenizer.eot, tokenizer.no_speech]] = 0
    embeddings[tokenizer.eot, 0] = 15
    embeddings[tokenizer.no_speech, 0] = 25


def renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of openai-whisper under their names in transformers, which has the embeddings twice."""
    converted = {}
    for name, values in weights.items():
        for old, new in RENAMED:
            name = name.replace(old, new)
        converted[f"model.{name}"] = values
    converted["proj_out.weight"] = converted["model.decoder.embed_tokens.weight"]
    return converted


def configuration(dims: ModelDimensions, tokenizer: Tokenizer) -> WhisperConfig:
    """Configuration of the model for transformers."""
    return WhisperConfig(
        vocab_size=dims.n_vocab,
        num_mel_bins=dims.n_mels,
        d_model=dims.n_audio_state,
        encoder_layers=dims.n_audio_layer,
        encoder_attention_heads=dims.n_audio_head,
        encoder_ffn_dim=4 * dims.n_audio_state,
        decoder_layers=dims.n_text_layer,
        decoder_attention_heads=dims.n_text_head,
        decoder_ffn_dim=4 * dims.n_text_state,
        max_source_positions=dims.n_audio_ctx,
        max_target_positions=dims.n_text_ctx,
        decoder_start_token_id=tokenizer.sot,
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), tokenizer.eot),
    )


def generation_configuration(task: DecodingTask) -> GenerationConfig:
    """Generation configuration for transformers: as openai-whisper decodes without time stamps."""
    tokenizer = task.tokenizer
    _, forbidden = task.logit_filters
    languages = {tokenizer.decode([token]): token for token in tokenizer.all_language_tokens}
    tasks = {"transcribe": tokenizer.transcribe, "translate": tokenizer.translate}
    multilingual = {"lang_to_id": languages, "task_to_id": tasks} if task.model.is_multilingual else {}
    return GenerationConfig(
        max_length=task.n_ctx,
        decoder_start_token_id=tokenizer.sot,
        prev_sot_token_id=tokenizer.sot_prev,
        no_timestamps_token_id=tokenizer.no_timestamps,
        is_multilingual=task.model.is_multilingual,
        suppress_tokens=forbidden.suppress_tokens,
        begin_suppress_tokens=[*tokenizer.encode(" "), tokenizer.eot],
        **multilingual,
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), tokenizer.eot),
    )


def converted_tokenizer(tokenizer: Tokenizer) -> WhisperTokenizer:
    """Tokenizer of openai-whisper in the format of transformers.

    tiktoken merges the two neighbours whose union has the lowest rank, so every pair of tokens whose union is a token
    is a merge, in the order of the unions.
    """
    encoding, letters = tokenizer.encoding, bytes_to_unicode()
    pieces = [encoding.decode_single_token_bytes(token) for token in range(tokenizer.eot)]
    known = {piece: "".join(letters[byte] for byte in piece) for piece in pieces}
    merges = [
        (known[piece[:cut]], known[piece[cut:]])
        for piece in pieces
        for cut in range(1, len(piece))
        if piece[:cut] in known and piece[cut:] in known
    ]
    converted = WhisperTokenizer({name: token for token, name in enumerate(known.values())}, merges)
    others = sorted(tokenizer.special_tokens, key=tokenizer.special_tokens.get)
    first_time = others.index("<|0.00|>")
    converted.add_special_tokens({"extra_special_tokens": others[1:first_time]})
    converted.add_tokens(others[first_time:])
    return converted
