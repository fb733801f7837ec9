"""The command `hf-ser`, and what all scripts share: an input error is shown in its own words, without a traceback."""

import ast
import os
import runpy
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

from hf_ser.files import packaged
from hf_ser.markup import for_terminal
from hf_ser.normal_form import printable

USAGE = """\
usage: hf-ser COMMAND [arguments]    (hf-ser COMMAND --help shows a command's arguments)

commands:
{commands}

On several processes: accelerate launch -m hf_ser.scripts.train_fusion [arguments]"""


def main() -> None:
    """Run one of the scripts by its name, as `python scripts/NAME.py` does in a checkout."""
    known = scripts()
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h"):
        print(usage(known))
    elif (name := name.replace("-", "_")) not in known:
        print(f"error: unknown command {sys.argv[1]!r}, expected one of {', '.join(known)}", file=sys.stderr)
        sys.exit(2)
    else:
        sys.argv = [f"hf-ser {name}", *sys.argv[2:]]
        runpy.run_module(f"hf_ser.scripts.{name}", run_name="__main__")


def scripts() -> dict[str, Path]:
    """The file of each script by its name."""
    return {file.stem: file for file in sorted(packaged("scripts").glob("*.py")) if file.stem != "__init__"}


def usage(known: dict[str, Path]) -> str:
    """All commands with the first line of their documentation, read without importing them."""
    about = {name: ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) for name, file in known.items()}
    width = max(map(len, known))
    return USAGE.format(commands="\n".join(f"  {name:{width}}  {doc.splitlines()[0]}" for name, doc in about.items()))


class Shown:
    """Standard output on which labels, speakers and file names control no terminal; all else is the stream's own."""

    def __init__(self, stream):
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write(for_terminal(text))
        return len(text)

    def __getattr__(self, name: str):
        return getattr(self.stream, name)


def run(main: Callable[[], None]) -> None:
    """Call a script's `main`; end with status 2 and one message where this package refused its input.

    So it is with a folder that may not be written. An error raised anywhere else is a fault to be reported and keeps
    its traceback; `HF_SER_TRACEBACK=1` keeps all. What a script prints holds no control codes of a user's texts.
    """
    try:
        with redirect_stdout(Shown(sys.stdout)):
            main()
    except (ValueError, FileNotFoundError, FileExistsError, PermissionError) as error:
        raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
        ours = any(folder in raised_in.parents for folder in (Path(__file__).parent, packaged("scripts")))
        if not (ours or isinstance(error, PermissionError)) or os.environ.get("HF_SER_TRACEBACK"):
            raise
        print(f"error: {printable(error, keep_lines=True)}", file=sys.stderr)
        sys.exit(2)
