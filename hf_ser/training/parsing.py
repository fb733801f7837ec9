"""The settings of a run: a YAML recipe first, flags over it, nothing unknown; and which of them a record keeps."""

import argparse
import sys
import typing
from collections.abc import Iterable
from dataclasses import MISSING, fields
from difflib import get_close_matches
from enum import Enum
from pathlib import Path

from transformers import HfArgumentParser

from hf_ser.recipes import find_recipe
from hf_ser.settings import NOT_OF_ARGPARSE, as_word
from hf_ser.yaml_text import read_mapping


def parse_arguments(
    classes: tuple[type, ...],
    argv: list[str] | None = None,
    default_recipe: Path | None = None,
    output_dir: str = "runs/default",
):
    """Read a recipe and flags into dataclasses.

    Args:
        classes: Dataclasses whose fields are the known keys.
        argv: Arguments; by default those of the process. The first may be a recipe: a YAML file, or the name of one.
        default_recipe: Recipe to use where there are no arguments at all.
        output_dir: The script's own default for the results.

    Returns:
        One instance of each class.

    Raises:
        FileNotFoundError, ValueError: the recipe is missing, is no mapping, has unknown keys or a value of the wrong
            kind; a flag is unknown or has a bad value.
        SystemExit: help was requested, and is printed.

    The last instance, of the training, gets the name of the recipe as its attribute `recipe`.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv and default_recipe is not None:
        argv = [str(default_recipe)]
    parser = SettingsParser(classes, allow_abbrev=False)
    parser.set_defaults(output_dir=output_dir)
    if ALL_HELP in argv:
        parser.print_help()
        raise SystemExit
    recipe = take_recipe(argv, parser)
    arguments = parsed(argv, parser)
    arguments[-1].recipe = Path(recipe).stem if recipe else None
    return arguments


def take_recipe(argv: list[str], parser: "SettingsParser") -> str | None:
    """Remove the recipe from the arguments, make its values the defaults, and return its name.

    Raises:
        FileNotFoundError, ValueError: see `parse_arguments`.
    """
    recipe = argv.pop(0) if argv and not argv[0].startswith("-") else None
    if recipe is not None:
        parser.set_defaults(**read_recipe(recipe, parser))
    return recipe


def parsed(argv: list[str], parser: "SettingsParser") -> list:
    """Read flags into the parser's dataclasses.

    Raises:
        ValueError: a flag is unknown or has a bad value.
    """
    try:
        *arguments, unknown = parser.parse_args_into_dataclasses(argv, return_remaining_strings=True)
    except argparse.ArgumentError as error:
        raise ValueError(f"{error}; --help shows all") from error
    if unknown:
        raise ValueError(f"Unknown settings {' '.join(unknown)}: {_hint(unknown[0], parser.known)}")
    return arguments


ALL_HELP = "--help-all"


class SettingsParser(HfArgumentParser):
    """HfArgumentParser whose errors are exceptions, without pages of usage.

    Attributes:
        known: The field of each setting, by its name.
        types: The type of each.
    """

    def __init__(self, classes: tuple[type, ...], **kwargs):
        super().__init__(classes, **kwargs)
        self.known = {f.name: f for one in classes for f in fields(one) if f.init}
        self.types = {name: hint for one in classes for name, hint in typing.get_type_hints(one).items()}

    def add_argument(self, *names, **facts):
        """As argparse's, without what of a setting `check_settings` alone knows."""
        return super().add_argument(*names, **{key: facts[key] for key in facts.keys() - NOT_OF_ARGPARSE})

    def error(self, message: str) -> typing.NoReturn:
        """Raise argparse.ArgumentError."""
        raise argparse.ArgumentError(None, message)

    def accepts(self, name: str, value) -> bool:
        """Whether a value of a recipe can be that of a setting."""
        kinds = {self.types[name], *typing.get_args(self.types[name])}
        if value is None:
            return type(None) in kinds
        if value == []:
            return self.takes_list(name)
        if isinstance(value, bool) and bool not in kinds:
            return False
        try:
            return not self.parse_known_args(as_flag(name, value, self.takes_list(name)))[1]
        except argparse.ArgumentError:
            return False

    def takes_list(self, name: str) -> bool:
        """Whether a setting takes several values."""
        return takes_list(self.types.get(name))

    def expected(self, name: str) -> str:
        """The values that a setting may have, as messages name them."""
        if choices := self.known[name].metadata.get("choices"):
            return f"one of {', '.join(map(str, choices))}"
        kinds = (self.types[name], *typing.get_args(self.types[name]))
        if names := next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Enum)), None):
            return f"one of {', '.join(one.value for one in names)}"
        if self.takes_list(name):
            return "one name, or a list of them"
        return next((words for kind, words in IN_WORDS.items() if kind in kinds), "a text")


class EarlyParser(SettingsParser):
    """SettingsParser that knows some settings by their names and types in words alone, and takes any of their values.

    Args:
        classes: Dataclasses whose settings it knows whole.
        others: The types of more settings, such as `float | None`, by name.
    """

    def __init__(self, classes: tuple[type, ...], others: typing.Mapping[str, str]):
        super().__init__(classes, allow_abbrev=False)
        self.ours = set(self.known)
        for name in others.keys() - self.ours:
            self.known[name] = None
            number = {"int": int, "float": float}.get(others[name].removesuffix(" | None"))
            flags = dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}"))
            self.add_argument(*flags, **({"nargs": "*"} if number is None else {"type": number}))
            if others[name] in ("bool", "bool | None"):
                self.add_argument(f"--no_{name}", f"--no-{name.replace('_', '-')}", action="store_true")

    def accepts(self, name: str, value) -> bool:
        """As SettingsParser's; of the others anything."""
        return name not in self.ours or super().accepts(name, value)

    def set_defaults(self, **values) -> None:
        """As argparse's, without those of the others, whose kind may be wrong."""
        super().set_defaults(**{name: value for name, value in values.items() if name in self.ours})


IN_WORDS = {
    bool: "true or false",
    float: "a number",
    int: "a whole number",
    str: "a text (in quotes where YAML reads it as another kind of value, such as no, on or 1.0)",
}


def as_flag(name: str, value, is_list: bool = True) -> list[str]:
    """A setting as the command line has it: of one that takes a list each value is a word, else they are joined."""
    words = [as_word(one) for one in value] if isinstance(value, list | tuple) else [as_word(value)]
    words = words if is_list or not words else [",".join(words)]
    # One word, for a value may begin with a dash.
    return [f"--{name}={words[0]}"] if len(words) == 1 else [f"--{name}", *words]


GONE = {
    "cache_frozen": "features of frozen encoders are always kept: leave it out.",
    "class_balance": "it is class_weights now, with the same numbers.",
    "mixup": "no recipe gained by it: leave it out.",
    "ema_decay": "no recipe gained by it: leave it out.",
    "layer_decay": "--stages head:5@1e-3,top:4:5@3e-5,all:5@1e-5 lets upper layers learn more.",
    "head_size": "it follows from the encoders: leave it out.",
}
"""What became of settings of earlier versions that people have in their recipes."""


def _hint(unknown: str, known: Iterable[str]) -> str:
    """What may have been meant."""
    name, _, _ = unknown.removeprefix("--").partition("=")
    if name in GONE:
        return f"{name} is gone; {GONE[name]}"
    near = get_close_matches(name, known, n=3, cutoff=0.75)
    dashes = "--" if unknown.startswith("--") else ""
    return f"did you mean {', '.join(dashes + one for one in near)}?" if near else "expected those that --help lists."


def read_recipe(file: str, parser: SettingsParser) -> dict:
    """A recipe as a dictionary of known keys.

    Raises:
        FileNotFoundError, ValueError: see `parse_arguments`.
    """
    path = find_recipe(file, (Path.cwd(),))
    values = read_mapping(path)
    if unknown := sorted(map(str, set(values) - parser.known.keys())):
        hint = _hint(unknown[0], parser.known)
        raise ValueError(f"{path}: unknown settings {', '.join(unknown)}: {hint}")
    for key, value in values.items():
        if not parser.accepts(key, value):
            found = "empty" if value is None else as_word(value)
            raise ValueError(f"{path}: --{key} is {found}: expected {parser.expected(key)}. Change this line.")
    # As a flag would give them: argparse turns text into the field's type (YAML leaves 1e-4 a text), lists stay.
    return {key: as_default(value, parser.takes_list(key)) for key, value in values.items()}


def as_default(value, is_list: bool):
    """A value of a recipe as argparse takes it for a default."""
    if isinstance(value, bool | None) or (isinstance(value, list) and is_list):
        return value
    return ",".join(map(as_word, value)) if isinstance(value, list) else as_word(value)


def takes_list(kind) -> bool:
    """Whether values of a type are lists."""
    return any(typing.get_origin(one) is list for one in (kind, *typing.get_args(kind)))


def flags_of(classes: Iterable[type], settings: typing.Mapping[str, typing.Any]) -> list[str]:
    """Settings as the command line has them; of None the default stays."""
    types = {name: hint for one in classes for name, hint in typing.get_type_hints(one).items()}
    given = {name: value for name, value in settings.items() if value is not None}
    return [word for name, value in given.items() for word in as_flag(name, value, takes_list(types.get(name)))]


NOT_OF_THE_RESULT = {
    *("corpus", "data_dir", "dataset", "columns", "speaker_pattern", "label_pattern", "audio_dir", "fold"),
    "not_copies",
    *("output_dir", "per_device_eval_batch_size", "save_total_limit"),
    *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_prefetch_factor", "dataloader_persistent_workers"),
    *("disable_tqdm", "logging_steps", "logging_strategy", "log_level", "report_to", "run_name", "project"),
    "pictures",
    *("do_eval", "use_cpu", "local_rank", "push_to_hub", "hub_model_id", "hub_token", "hub_private_repo"),
    *("hub_revision", "hub_strategy", "hub_always_push", "trackio_space_id", "trackio_bucket_id"),
    "trackio_static_space_id",
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
