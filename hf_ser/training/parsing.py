"""What a run is told: a YAML recipe first, flags over it, nothing that is not known; and what of it a record keeps."""

import sys
from collections.abc import Iterable
from dataclasses import MISSING, fields
from difflib import get_close_matches
from pathlib import Path

import yaml
from transformers import HfArgumentParser

from hf_ser.recipes import find_recipe
from hf_ser.yaml_text import load_yaml


def parse_arguments(
    classes: tuple[type, ...],
    argv: list[str] | None = None,
    default_recipe: Path | None = None,
    output_dir: str = "runs/default",
):
    """Read a recipe and flags into dataclasses.

    Args:
        classes: Dataclasses whose fields are the known keys.
        argv: Arguments; by default those of the process. The first may be a YAML recipe.
        default_recipe: Recipe to use where there are no arguments at all.
        output_dir: The script's own default for the results.

    Returns:
        One instance of each class.

    Raises:
        FileNotFoundError, ValueError: the recipe is missing, is no mapping, or has unknown keys; a flag is unknown.
        SystemExit: a bad value, with argparse's message.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv and default_recipe is not None:
        argv = [str(default_recipe)]
    parser = HfArgumentParser(classes, allow_abbrev=False)
    parser.set_defaults(output_dir=output_dir)
    if argv and argv[0].endswith((".yaml", ".yml")):
        known = {f.name for one in classes for f in fields(one) if f.init}
        parser.set_defaults(**read_recipe(argv.pop(0), known))
    *arguments, unknown = parser.parse_args_into_dataclasses(argv, return_remaining_strings=True)
    if unknown:
        flags = [f"--{f.name}" for one in classes for f in fields(one) if f.init]
        raise ValueError(
            f"Unknown arguments {' '.join(unknown)}: expected flags of this script; {_hint(unknown[0], flags)}"
        )
    return arguments


def _hint(unknown: str, known: Iterable[str]) -> str:
    """What may have been meant."""
    near = get_close_matches(unknown, known, n=3, cutoff=0.75)
    return f"did you mean {', '.join(near)}?" if near else "see --help."


def read_recipe(file: str, known: set[str]) -> dict:
    """A recipe as a dictionary of known keys.

    Raises:
        FileNotFoundError, ValueError: see `parse_arguments`.
    """
    try:
        values = load_yaml(find_recipe(file, (Path.cwd(),)).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{file}: not readable as YAML ({error}).") from error
    if not isinstance(values, dict):
        raise ValueError(f"{file}: expected 'key: value' lines, found {type(values).__name__}.")
    if unknown := sorted(map(str, set(values) - known)):
        hint = _hint(unknown[0], known)
        raise ValueError(f"{file}: unknown keys {', '.join(unknown)}. Expected flags of this script; {hint}")
    # As a flag would give them: argparse turns text into the field's type (YAML leaves 1e-4 a text), lists stay.
    return {key: value if isinstance(value, list | bool | None) else str(value) for key, value in values.items()}


NOT_OF_THE_RESULT = {
    *("corpus", "data_dir", "dataset", "columns", "speaker_pattern", "label_pattern", "audio_dir", "fold"),
    "not_copies",
    *("output_dir", "per_device_eval_batch_size", "save_total_limit"),
    *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_prefetch_factor", "dataloader_persistent_workers"),
    *("disable_tqdm", "logging_steps", "logging_strategy", "log_level", "report_to", "run_name", "project"),
    *("do_eval", "use_cpu", "local_rank", "push_to_hub", "hub_model_id", "hub_token", "hub_private_repo"),
    *("hub_revision", "hub_strategy", "hub_always_push", "trackio_space_id", "trackio_bucket_id"),
    *("trackio_static_space_id", "threads", "find_learning_rate"),
}
"""Settings that may differ between two calls for the same run: where and how it is computed, never what."""


PLAIN = str | int | float | bool | list | dict


def settings(*arguments) -> dict:
    """What differs from the defaults, over all dataclasses of a run: the part of a run that decides its result."""
    changed = {}
    for one in arguments:
        for f in fields(one):
            value, default = getattr(one, f.name), None if f.default is MISSING else f.default
            # TrainingArguments turns some fields into objects as it is made, and None into False or an empty list or
            # dictionary; none of this is a setting.
            unset = default in (None, "") and (value is False or value in ([], {}))
            plain = isinstance(value, PLAIN) and value != default and not unset
            if f.init and plain and f.name not in NOT_OF_THE_RESULT:
                changed[f.name] = value
    return changed
