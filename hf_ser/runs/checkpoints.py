"""Loading trained models: complete, with unchanged weights, and without running code from their folder."""

import hashlib
import json
from copy import deepcopy
from pathlib import Path

import torch
from transformers import PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file, logging

from hf_ser.models.loading import check_weights
from hf_ser.revisions import checkpoint_config, clear_loading_errors, split_revision
from hf_ser.runs.record import RECORD, TrainingRecord

BYTES_A_WEIGHT = 4
MOST_WEIGHTS_A_BYTE = 4
"""Largest ratio of weights to stored bytes; quantised weights take less than a byte each."""
UNCHECKED_SIZE = 100_000_000
"""Number of weights below which a model's size is not checked."""

QUIET = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
"""Arguments of `cached_file` for a file that may be missing or unreachable."""


def load_model(auto_class, name: str) -> PreTrainedModel:
    """Load a model in float32, without random weights and without running the folder's code.

    Args:
        auto_class: Such as AutoModelForAudioClassification.
        name: A folder, or a Hub id with or without `@revision`.

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: weights are missing, not finite, or differ from those that training saved.
    """
    model, loading = load_with_info(auto_class, name)
    check_weights(model, loading, name)
    return model


def load_with_info(auto_class, name: str, **kwargs) -> tuple[PreTrainedModel, dict]:
    """Load a model in float32, with transformers' loading info, which the caller must check; raises as `load_model`."""
    config = checkpoint_config(name)
    repository, revision = split_revision(name)
    check_saved_weights(name)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # hides the table of missing weights: the caller checks the loading info
    try:
        with clear_loading_errors(name):
            check_size(auto_class, config, name)
            return auto_class.from_pretrained(
                repository,
                revision=revision,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                trust_remote_code=False,
                **kwargs,
            )
    finally:
        logging.set_verbosity(verbosity)


def check_size(auto_class, config, name: str) -> None:
    """Check that a model is not far larger than its files, before memory is allocated.

    Raises:
        ValueError: the configuration describes far more weights than are stored.
    """
    with torch.device("meta"):
        model = auto_class.from_config(deepcopy(config), trust_remote_code=False)
    size = sum(parameter.numel() for parameter in model.parameters())
    stored = sum(file.stat().st_size for file in weight_files(name))
    if stored and size > UNCHECKED_SIZE and size > MOST_WEIGHTS_A_BYTE * stored:
        raise ValueError(
            f"{name}: config.json describes a model of {size:,} weights, and its files hold {stored:,} bytes. Expected "
            f"about {BYTES_A_WEIGHT} bytes a weight: correct config.json, or download both again."
        )


def weight_files(name: str) -> list[Path]:
    """The safetensors files of a model in a folder or in the Hub's cache; empty for pickled weights."""
    repository, revision = split_revision(name)
    single = cached_file(repository, SAFE_WEIGHTS_NAME, revision=revision, **QUIET)
    if single is not None:
        return [Path(single)]
    index = cached_file(repository, SAFE_WEIGHTS_INDEX_NAME, revision=revision, **QUIET)
    if index is None:
        return []
    parts = sorted(set(json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"].values()))
    found = [cached_file(repository, part, revision=revision, **QUIET) for part in parts]
    return [Path(file) for file in found if file is not None]


def weights_digests(folder: str | Path) -> dict[str, str]:
    """SHA-256 of each weights file in a folder, by file name."""
    return {file.name: _digest(file) for file in sorted(Path(folder).glob("*.safetensors"))}


def check_saved_weights(name: str) -> None:
    """Check a model's weights against the digests in its training record, where it has them.

    Raises:
        ValueError: they differ.
    """
    saved = _saved_digests(name)
    for file in weight_files(name) if saved else ():
        if file.name in saved and _digest(file) != saved[file.name]:
            raise ValueError(
                f"{file}: these are not the weights that training saved (their SHA-256 is not that in "
                f"training_record.json). Expected the same: the file is damaged or was changed. Copy it again or train "
                f"again; if you changed it yourself, remove `weights` from that record."
            )


def _saved_digests(name: str) -> dict[str, str]:
    repository, revision = split_revision(name)
    file = cached_file(repository, RECORD, revision=revision, **QUIET)
    if file is None:
        return {}
    try:
        return TrainingRecord.read(file).weights or {}
    except ValueError:
        if Path(repository).is_dir():
            raise
        return {}  # others on the Hub may use this file's name too


def _digest(file: Path) -> str:
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
