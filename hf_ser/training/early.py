"""A look at the command line of a training before torch is imported, which takes ten seconds: most mistakes end there.

`parse_arguments` looks at it again, with all that transformers knows of its own settings.
"""

import ast
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from hf_ser.settings import check_settings
from hf_ser.training.arguments import OF_MODEL, AsrCommonArguments, TrainingSettings, show_help


def check_command_line(name: str) -> None:
    """Print the help where it is requested; refuse unknown settings, and values that ours cannot have.

    Args:
        name: Kind of model, a key of `OF_MODEL`.

    Raises:
        SystemExit: help was requested.
        FileNotFoundError, ValueError: as `parse_arguments`.
    """
    show_help(name)
    from hf_ser.training.parsing import ALL_HELP, EarlyParser, parsed, take_recipe  # imports a part of transformers

    argv = sys.argv[1:]
    if ALL_HELP in argv:
        return
    training = AsrCommonArguments if name == "asr" else TrainingSettings
    parser = EarlyParser((*OF_MODEL[name], training), names_of_transformers())
    take_recipe(argv, parser)
    check_settings(next(one for one in parsed(argv, parser) if isinstance(one, training)))


def names_of_transformers() -> dict[str, str]:
    """The settings of transformers' TrainingArguments and their types, read in its files without importing them."""
    folder = Path(find_spec("transformers").origin).parent
    files = ("training_args.py", "training_args_seq2seq.py")
    return {name: kind for file in files for name, kind in _fields_in(folder / file)}


def _fields_in(file: Path) -> Iterator[tuple[str, str]]:
    for one in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(one, ast.ClassDef) and any(_is_dataclass(each) for each in one.decorator_list):
            for line in one.body:
                if isinstance(line, ast.AnnAssign) and "ClassVar" not in (kind := ast.unparse(line.annotation)):
                    yield line.target.id, kind


def _is_dataclass(decorator: ast.expr) -> bool:
    return ast.unparse(decorator).startswith("dataclass")
