"""Settings: dataclass fields that say all there is to know of themselves, the one check of their values, their help.

Nothing here imports what is large, so that `--help` is answered at once.
"""

import ast
import json
import math
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Range:
    """Numbers between two ends.

    Args:
        low, high: The ends.
        above: Whether the lower end itself is left out.
        below: Whether the upper end itself is left out.
        unit: What follows the range in a message, such as " seconds".
    """

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False
    unit: str = ""

    def holds(self, value: float) -> bool:
        """Whether a number is in the range."""
        high_enough = value > self.low if self.above else value >= self.low
        return high_enough and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        if not (self.above or self.below or math.isinf(self.high)):
            return f"{self.low:g} to {self.high:g}{self.unit}"
        start = f"above {self.low:g}" if self.above else f"{self.low:g} or more"
        end = "" if math.isinf(self.high) else f" and {'below' if self.below else 'at most'} {self.high:g}"
        return start + end + self.unit


NOT_NEGATIVE, POSITIVE, COUNT = Range(0), Range(0, above=True), Range(1)
SEED = Range(0, 2**32 - 1)  # what numpy takes

NOT_OF_ARGPARSE = ("range", "only_with", "not_with")
"""What the metadata of a setting holds beside the arguments of `ArgumentParser.add_argument`."""


def setting(
    default,
    help: str,
    choices: Iterable[str] | None = None,
    range: Range | None = None,
    only_with: tuple[str, tuple] | None = None,
    not_with: Mapping[str, str] | None = None,
):
    """A dataclass field of a setting, with all facts about it.

    Args:
        default: Its value where none is given; a list is copied for each instance.
        help: What it is for.
        choices: The values that it may have.
        range: The numbers that it may be.
        only_with: Another setting of the same dataclass, and the values of it under which this one is used.
        not_with: Other settings of the same dataclass that exclude this one, each with the reason.
    """
    facts = {"help": help, "choices": choices, "range": range}
    facts |= {"only_with": only_with, "not_with": not_with}
    known = {name: fact for name, fact in facts.items() if fact is not None}
    if isinstance(default, list):
        return field(default_factory=default.copy, metadata=known)
    return field(default=default, metadata=known)


@cache
def names_in(file: str, variable: str) -> tuple[str, ...]:
    """Read the names in a dictionary or a tuple of one of our files, without importing what that file imports.

    Args:
        file: The file within this package, such as `models/heads.py`.
        variable: The variable, such as `FUSIONS`: the keys of a dictionary, or the texts of a tuple.
    """
    statements = ast.parse((Path(__file__).parent / file).read_text(encoding="utf-8")).body
    values = {
        target.id: one.value
        for one in statements
        if isinstance(one, ast.Assign)
        for target in one.targets
        if isinstance(target, ast.Name)
    }

    def texts(node: ast.expr) -> Iterator[str]:
        if isinstance(node, ast.Constant):
            yield node.value
        elif isinstance(node, ast.Starred):
            yield from texts(values[node.value.id])
        else:
            for one in node.keys if isinstance(node, ast.Dict) else node.elts:
                yield from texts(one)

    return tuple(texts(values[variable]))


@dataclass(frozen=True)
class Registered:
    """The names of a registry: of the imported one, to which others may have added, else those in its file.

    Args:
        file, variable: As of `names_in`.
    """

    file: str
    variable: str

    def __iter__(self) -> Iterator[str]:
        name = self.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        registry = getattr(sys.modules.get(f"hf_ser.{name}"), self.variable, None)
        return iter(names_in(self.file, self.variable) if registry is None else registry)


def default_of(one: Field):
    """The default of a field, also where it is made anew for each instance."""
    return one.default if one.default_factory is MISSING else one.default_factory()


def check_settings(arguments) -> None:
    """Make sure that each setting of a dataclass holds a value that it may have, and is used.

    argparse looks at the flags of a command line alone: this holds for recipes and Python too.

    Raises:
        ValueError: a number that is out of its range or not finite, a value that is none of the choices, a setting that
            another one leaves unused or excludes.
    """
    for one in fields(arguments):
        value, default = getattr(arguments, one.name), default_of(one)
        if isinstance(value, int | float) and not isinstance(value, bool):
            check_number(one.name, value, one.metadata.get("range"))
        if (choices := one.metadata.get("choices")) and value not in (*choices, default):
            raise ValueError(f"--{one.name} is {value}: expected one of {', '.join(choices)}.")
        if value == default:
            continue
        if rule := one.metadata.get("only_with"):
            _check_is_used(arguments, one.name, *rule)
        for other, reason in one.metadata.get("not_with", {}).items():
            if getattr(arguments, other):
                raise ValueError(
                    f"--{one.name} is {value}, --{other} is {getattr(arguments, other)}: {reason}. Expected one of "
                    "them: leave the other out."
                )


def check_number(name: str, value: float, allowed: Range | None) -> None:
    """Make sure that a number is finite, and in its range if it has one.

    Raises:
        ValueError: it is not.
    """
    expected = f"{allowed}" if allowed else "a number"
    if not is_finite(value):
        raise ValueError(f"--{name} is {str(value)[:20]}: expected {expected}, a number that is finite.")
    if allowed and not allowed.holds(value):
        raise ValueError(f"--{name} is {value:g}: expected {expected}.")


def is_finite(value: float) -> bool:
    """Whether a number is finite, and small enough to be computed with."""
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _check_is_used(arguments, name: str, other: str, wanted: tuple) -> None:
    found = getattr(arguments, other)
    if found not in wanted:
        value, values = as_word(getattr(arguments, name)), " or ".join(map(as_word, wanted))
        raise ValueError(
            f"--{name} is {value}, --{other} is {as_word(found)}: found a setting that nothing would use. Expected "
            f"--{other} {values}: add it, or leave --{name} out."
        )


def as_word(value) -> str:
    """A value as the command line has it, where truth is `true`."""
    if isinstance(value, dict):
        return json.dumps(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


HELP_COLUMNS, NAME_COLUMNS = 150, 33


def help_of(
    program: str,
    groups: tuple[type, ...],
    defaults: Mapping,
) -> str:
    """Describe the settings of some dataclasses, by dataclass.

    Args:
        program: Name of the script.
        groups: The dataclasses.
        defaults: Defaults of this script that are not those of the dataclasses.
    """
    lines = [f"usage: {program} [RECIPE.yaml] [--NAME VALUE ...]", ""]
    for group in groups:
        lines += [(group.__doc__ or group.__name__).splitlines()[0]]
        lines += [line for one in fields(group) for line in _help_lines(one, defaults)]
        lines += [""]
    return "\n".join([*lines, "--help-all shows all settings of transformers' TrainingArguments too."])


def _help_lines(one: Field, defaults: Mapping) -> list[str]:
    default, choices = defaults.get(one.name, default_of(one)), one.metadata.get("choices")
    about = " ".join(one.metadata["help"].split())
    about = f"{about} ({', '.join(choices)})" if choices else about
    words = default if isinstance(default, list) else [getattr(default, "value", default)]
    known = "" if default in (None, "", []) else f" [{', '.join(map(as_word, words))}]"
    left = f"  --{one.name} ".ljust(NAME_COLUMNS)
    return textwrap.wrap(left + about + known, HELP_COLUMNS, subsequent_indent=" " * NAME_COLUMNS)
