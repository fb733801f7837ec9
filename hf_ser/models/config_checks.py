"""Whether the values of a configuration are plausible, before anything is built from them."""

import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields

LARGEST_NESTING = 16
MOST_VALUES = 400_000
MOST_LABELS = 30_000
LARGEST = {
    re.compile(r"(layers|depths|blocks|^(n|num)_layer|^depth)$"): 1_000,
    re.compile(r"(heads|groups|stages|experts)$"): 100_000,
    re.compile(r"(n_bands|n_mels|num_mel_bins|image_size)$"): 10_000,
    re.compile(r"(size|sizes|dims?|d_model|channels|kernel|strides?|positions|frames|rank|max_length|labels)$"): 10**8,
}
"""Counts and sizes by the end of their names, and what no model has more of; the first that fits decides."""

SHARE = re.compile(r"(^|_)(dropout|drop_rate|layerdrop|prob|probability)$")
"""Numbers from 0 to 1, which dropout is given; some models write a negative number or none where they have it not."""

HIGHEST_TEMPERATURE = 1_000.0
"""Of a temperature and of what 1 is divided by it. Training fits one between 0.25 and 10."""

MIXED = (
    *("audio_layers", "text_layers"),
    *("max_relative_positions", "attention_layers", "attn_layers", "step_kernel"),  # DeBERTa, GPT-Neo, Reformer, xLSTM
)
MAY_BE_INFINITE = ("time_step_limit",)
DTYPES = ("float32", "float16", "bfloat16", "float64", "auto")
SECONDS = {
    "window_seconds": 10.0,
    "hop_seconds": 10.0,
    "seconds": 3_600.0,
    "start_seconds": 3_600.0,
    "max_seconds": 10_800.0,
}
LEAST_SECONDS = 0.1
LOWEST_SPEED, HIGHEST_SPEED, MOST_SPEEDS = 0.5, 2.0, 16
"""Of the views of a clip."""
MOST_TURNS = 16
"""Of previous turns of a dialogue."""
LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000
"""Hz of audio, of files as well."""
EXTRACTOR = {
    **dict.fromkeys(("sampling_rate", "feature_size", "num_mel_bins", "n_fft", "hop_length", "chunk_length"), 1),
    **dict.fromkeys(("max_length", "n_samples", "nb_max_frames"), 1),
    **dict.fromkeys(("padding_value", "max_seconds", "mean", "std", "dither"), 0.0),
    **dict.fromkeys(("do_normalize", "return_attention_mask", "trim_silence"), False),
    "padding_side": "right",
    "speeds": (1.0,),
}
"""Values of feature extractors that are read, each with one of the right kind."""


def check_config(values: Mapping, where: str, defaults: Mapping | None = None) -> None:
    """Make sure that a configuration describes a model that somebody could have trained.

    Args:
        values: The configuration, as its file holds it or as keyword arguments.
        where: What the messages call it.
        defaults: Default values by key, whose kinds (number, text, yes or no) the values must have.

    Raises:
        ValueError: a value of the wrong kind or out of all measure; the message names its key.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{where}: found {_kind(values)}, expected an object of keys and values.")
    for path, key, value in _walk(values, where):
        _check_value(where, path, key, value)
    _check_calibration(values, where)
    _check_labels(values, where)
    for key, default in (defaults or {}).items():
        if values.get(key) is not None:
            _check_kind(where, key, values[key], default)


def check_own_config(config, more: Mapping) -> None:
    """`check_config` of one of our configurations while it is made; `more` are values that are none of its fields."""
    from transformers import PreTrainedConfig  # takes seconds, and whoever reads audio alone needs the limits above

    common = {field.name for field in fields(PreTrainedConfig)}
    own = [field for field in fields(config) if field.name not in common and field.default is not MISSING]
    defaults = {field.name: field.default for field in own}
    check_config({**vars(config), **more}, f"configuration of {config.model_type}", defaults)


def check_extractor(extractor, where: str) -> None:
    """`check_config` of what a feature extractor was loaded with.

    Raises:
        ValueError: as `check_config`, or a number that has to be positive and is not.
    """
    held = {name: value for name, value in vars(extractor).items() if name in EXTRACTOR}
    check_config(held, where, EXTRACTOR)
    if held.get("sampling_rate") is None:
        raise _refused(where, "sampling_rate", None, "Hz, such as 16000")
    for name, value in held.items():
        counts = isinstance(EXTRACTOR[name], int) and not isinstance(EXTRACTOR[name], bool)
        least = 1 if counts else LEAST_SECONDS if name == "max_seconds" else -math.inf
        if _is_number(value) and value < least:
            raise _refused(where, name, value, f"a number from {least:g} on")
    speeds = held.get("speeds") or [1.0]
    if len(speeds) > MOST_SPEEDS or not all(LOWEST_SPEED <= one <= HIGHEST_SPEED for one in speeds):
        expected = f"at most {MOST_SPEEDS} numbers from {LOWEST_SPEED:g} to {HIGHEST_SPEED:g}"
        raise _refused(where, "speeds", speeds, expected)


def check_tokenizer(tokenizer, vocab_size: int, where: str) -> None:
    """Make sure that a tokenizer can make batches for a model of `vocab_size` tokens.

    Raises:
        ValueError: its longest text is no number, it has no token for padding, or the model does not have one of its
            special tokens.
    """
    longest = tokenizer.model_max_length
    if not _is_number(longest) or longest < 1:
        raise _refused(where, "model_max_length", longest, "a number of tokens from 1 on")
    if tokenizer.pad_token_id is None:
        raise _refused(where, "pad_token", tokenizer.pad_token, "the token that fills short rows")
    for token, index in zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True):
        if index >= vocab_size:
            expected = f"one of the {vocab_size:,} tokens of the model"
            raise ValueError(f"{where}: special token {token!r} is number {index}, expected {expected}.")


def check_arguments(values, of: Callable, where: str) -> None:
    """`check_config` of the arguments of a part of a model, which must be ones that it has.

    Raises:
        ValueError: as `check_config`, or an argument that `of` does not have.
    """
    known = {name: one.default for name, one in inspect.signature(of).parameters.items()}
    check_config(values, where, known)
    if unknown := sorted(set(values) - set(known)):
        raise ValueError(f"{where}: found {unknown[0]}, expected one of {', '.join(known)}.")


def _walk(values: Mapping, where: str) -> Iterator[tuple[str, str, object]]:
    """Path, key and value of everything in a configuration; those of a list have its key."""
    pending, count = [("", "", values, 0)], 0
    while pending:
        path, key, value, depth = pending.pop()
        count += 1
        if depth > LARGEST_NESTING or count > MOST_VALUES:
            found = f"more than {MOST_VALUES:,} values" if count > MOST_VALUES else f"values nested {depth} deep"
            raise ValueError(f"{where}: found {found} ({path[:60]}), expected a model's configuration.")
        if isinstance(value, Mapping):
            labels = key in ("id2label", "label2id")  # whose keys are names, and which have a check of their own
            inside = () if labels else value.items()
            pending += [(f"{path}.{name}" if path else str(name), str(name), one, depth + 1) for name, one in inside]
        elif isinstance(value, list | tuple):
            pending += [(path, key, one, depth + 1) for one in value]
        if path:
            yield path, key, value


def _check_value(where: str, path: str, key: str, value) -> None:
    if key in ("dtype", "torch_dtype") and isinstance(value, str) and value.removeprefix("torch.") not in DTYPES:
        raise _refused(where, path, value, f"one of {', '.join(DTYPES)}")
    if key == "model_type" and not isinstance(value, str):
        raise _refused(where, path, value, "the name of a kind of model")
    if isinstance(value, float) and not math.isfinite(value) and not (math.isinf(value) and key in MAY_BE_INFINITE):
        raise _refused(where, path, value, "a finite number")
    limit = next((limit for pattern, limit in LARGEST.items() if pattern.search(key)), None)
    if isinstance(value, bool | None | Mapping | list | tuple):
        return
    if limit is not None and not _is_mixed(key):
        if isinstance(value, str) or value != int(value) or not 0 <= value <= limit:
            raise _refused(where, path, value, f"a whole number from 0 to {limit:,}")
    elif SHARE.search(key) and (isinstance(value, str) or not -1 <= value <= 1):
        raise _refused(where, path, value, "a number from 0 to 1")
    elif key in SECONDS and (isinstance(value, str) or not 0 <= value <= SECONDS[key]):
        raise _refused(where, path, value, f"seconds from 0 to {SECONDS[key]:g}")
    elif key == "sampling_rate" and (isinstance(value, str) or not LOWEST_RATE <= value <= HIGHEST_RATE):
        raise _refused(where, path, value, f"Hz from {LOWEST_RATE:,} to {HIGHEST_RATE:,}")
    elif isinstance(value, int) and abs(value) > 10**15:
        raise _refused(where, path, value, "a number that a model could have")


def _is_mixed(key: str) -> bool:
    """Whether a key that ends like a count may hold a word or a negative number: our `audio_layers` may be `last`."""
    return key in MIXED


def _check_calibration(values: Mapping, where: str) -> None:
    temperature, threshold = values.get("calibration_temperature"), values.get("abstain_threshold")
    if temperature is not None:
        low, high = 1 / HIGHEST_TEMPERATURE, HIGHEST_TEMPERATURE
        if not _is_number(temperature) or not low <= temperature <= high:
            expected = f"a number from {low:g} to {high:g}, or none"
            raise _refused(where, "calibration_temperature", temperature, expected)
    if threshold is not None and (not _is_number(threshold) or not 0 <= threshold <= 1):
        raise _refused(where, "abstain_threshold", threshold, "a confidence from 0 to 1, or none")


def _check_labels(values: Mapping, where: str) -> None:
    """Classes are numbered from 0 on, each by a text of its own, and as many as `num_labels` says."""
    labels, numbers, count = values.get("id2label"), values.get("label2id"), values.get("num_labels")
    if labels is not None:
        if not isinstance(labels, Mapping):
            raise _refused(where, "id2label", labels, "an object of class numbers and their names")
        least = 0 if values.get("dimensions") else 1  # which a model may predict in place of classes
        if not least <= len(labels) <= MOST_LABELS:
            raise ValueError(f"{where}: id2label has {len(labels):,} classes, expected 1 to {MOST_LABELS:,}.")
        if bad := [name for name in labels.values() if not (isinstance(name, str) and name.strip())]:
            raise _refused(where, "id2label", bad[0], "a text as the name of each class")
        if {str(index) for index in labels} != {str(index) for index in range(len(labels))}:
            raise _refused(where, "id2label", sorted(map(str, labels))[:3], f"classes 0 to {len(labels) - 1}")
        if len(set(labels.values())) < len(labels):
            raise ValueError(f"{where}: two classes of id2label have the same name, expected a name for each.")
        if count is not None and count != len(labels):
            raise _refused(where, "num_labels", count, f"{len(labels)}, as many as id2label names")
    if numbers is not None and not isinstance(numbers, Mapping):
        raise _refused(where, "label2id", numbers, "an object of class names and their numbers")
    if labels and numbers and len(numbers) == len(labels):
        wrong = [name for index, name in labels.items() if str(numbers.get(name)) != str(index)]
        if wrong:
            raise _refused(where, "label2id", numbers.get(wrong[0]), f"what id2label says of class '{wrong[0]}'")


def _check_kind(where: str, key: str, value, default) -> None:
    if isinstance(default, bool):
        fits, expected = isinstance(value, bool), "true or false"
    elif isinstance(default, int | float):
        whole = isinstance(default, int)
        fits = _is_number(value) and (not whole or value == int(value))
        expected = "a whole number" if whole else "a number"
    elif isinstance(default, str):
        fits, expected = isinstance(value, str) or (_is_mixed(key) and isinstance(value, int | list | tuple)), "a word"
    elif isinstance(default, list | tuple):
        fits, expected = isinstance(value, list | tuple) and all(map(_is_number, value)), "a list of numbers"
    else:
        return
    if not fits:
        raise _refused(where, key, value, f"{expected}, such as {default}")


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _refused(where: str, key: str, value, expected: str) -> ValueError:
    shown = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:57]}..."
    return ValueError(f"{where}: {key} is {shown}, expected {expected}. Mend it, or copy the file anew.")


def _kind(value) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
