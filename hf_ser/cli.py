"""The command `hf-ser`, and the error handling of all scripts: input errors are shown without a traceback.

Scripts import this first, so that Ctrl-C prints one line also during their slow imports: import nothing large here.
"""

import argparse
import errno
import logging
import os
import re
import runpy
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from multiprocessing import parent_process
from pathlib import Path
from typing import NoReturn

from hf_ser.normal_form import for_terminal, printable
from hf_ser.versions import extra_of

USAGE = """\
usage: hf-ser COMMAND [arguments]    (hf-ser COMMAND --help shows a command's arguments)

commands:
{commands}

Own parts: --plugins FILE.py behind any command (hf_ser/README.md)
On several processes: hf-ser launch [arguments of accelerate launch] COMMAND [arguments]"""

STOPPED = "stopped by Ctrl-C"
CONTINUES = "the same command goes on where it stopped"

LAUNCH = "launch"
"""The command that runs another one by `accelerate launch`."""

LATER_PROCESS_SECONDS = 10.0
"""How long a process behind the first waits before it shows its error: it is ended if the first had the same one."""


def main() -> None:
    """Run a script by its name, like `python scripts/NAME.py` in a checkout."""
    prepare_console()
    stop_at_once_on_interrupt()
    known = scripts()
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h"):
        print(usage(known))
    elif name == LAUNCH:
        launch(sys.argv[2:], known)
    elif (name := name.replace("-", "_")) not in known:
        end_by_unknown_command(sys.argv[1], [*known, LAUNCH])
    else:
        sys.argv = [f"hf-ser {name}", *sys.argv[2:]]
        runpy.run_module(f"hf_ser.scripts.{name}", run_name="__main__")


def scripts() -> dict[str, Path]:
    """The scripts' files by name."""
    from hf_ser.files import package_file

    return {file.stem: file for file in sorted(package_file("scripts").glob("*.py")) if file.stem != "__init__"}


def usage(known: dict[str, Path]) -> str:
    """The list of commands, each with the first line of its docstring, which is also that of its file."""
    about = {name: file.read_text(encoding="utf-8").splitlines()[0].strip('"') for name, file in known.items()}
    width = max(map(len, known))
    return USAGE.format(commands="\n".join(f"  {name:{width}}  {first}" for name, first in about.items()))


def end_by_unknown_command(name: str, known: Iterable[str]) -> NoReturn:
    """End with status 2 and the list of commands."""
    print(f"error: unknown command {name!r}, expected one of {', '.join(known)}", file=sys.stderr)
    sys.exit(2)


def launch(arguments: list[str], known: Iterable[str]) -> NoReturn:
    """Run a command, or a script of one's own, by `accelerate launch`, and end with its status.

    Accelerate and torch add a traceback of their own to an error or Ctrl-C that the command has explained already: here
    it is left out.
    """
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    sys.argv = ["accelerate launch", *arguments]
    given = launch_command_parser().parse_args()
    if (name := given.training_script.replace("-", "_")) in known:
        given.module, given.training_script = True, f"hf_ser.scripts.{name}"
    elif not (given.module or given.no_python or Path(given.training_script).is_file()):
        end_by_unknown_command(given.training_script, known)
    for name in ("torch.distributed.elastic", "accelerate.commands.launch"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        launch_command(given)
    except subprocess.CalledProcessError as error:
        sys.exit(status_of(error.returncode))
    except ChildFailedError as error:
        sys.exit(status_of(error.get_first_failure()[1].exitcode))
    except (KeyboardInterrupt, SignalException):
        sys.exit(128 + signal.SIGINT)  # the command has said so itself
    sys.exit()


def status_of(exit_code: int) -> int:
    """The status to end with after a process; one that a signal ended had no chance to say so, and it is said here."""
    if exit_code >= 0:
        return exit_code
    print(
        f"error: found a process that was ended by signal {-exit_code} ({signal.strsignal(-exit_code)}), perhaps out "
        "of memory. Expected it to finish: a smaller batch or fewer processes need less memory.",
        file=sys.stderr,
    )
    return 128 - exit_code


class PrintableStream:
    """A stream that escapes control codes in what is written to it."""

    def __init__(self, stream):
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write(for_terminal(text))
        return len(text)

    def __getattr__(self, name: str):
        return getattr(self.stream, name)


def run(main: Callable[[], None], continues: bool = False) -> None:
    """Call a script's `main`; end with status 2 and one message on an input error.

    Args:
        main: The script's work.
        continues: Whether the same command, run again, goes on where this one was stopped.

    Input errors are errors of this package, missing permissions, missing packages and a full disk. Other errors keep
    their traceback; `HF_SER_TRACEBACK=1` keeps all. Ctrl-C ends with one line and status 130, a closed output with
    status 141. Control codes in the output are escaped.
    """
    prepare_console()
    if signal.getsignal(signal.SIGINT) is _stop_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # from here on there is something to clean up
    try:
        with redirect_stdout(PrintableStream(sys.stdout)):
            take_plugins(sys.argv)
            main()
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        if os.environ.get("HF_SER_TRACEBACK"):
            raise
        if is_first_process():
            message = f"{STOPPED}: {CONTINUES}" if continues else STOPPED
            print("\n" * sys.stderr.isatty() + message, file=sys.stderr, flush=True)  # below a progress bar
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that flushing at exit does not raise again
        sys.exit(128 + 13)
    except Exception as error:
        message = error_message(error)
        if message is None or os.environ.get("HF_SER_TRACEBACK"):
            raise
        if not is_first_process():
            time.sleep(LATER_PROCESS_SECONDS)
        print(f"error: {printable(message, keep_lines=True)}", file=sys.stderr, flush=True)
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            sys.stdout.flush()
            os._exit(2)  # a process of several would wait for the others as it ends, and the launcher for it
        sys.exit(2)


def is_first_process() -> bool:
    """Whether this is the only process, or of several that a launcher started on this machine the first."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def show_next(*commands: str) -> None:
    """Print the commands that people type next, as this one was typed: `hf-ser NAME`, or `python scripts/NAME.py`."""
    if commands and is_first_process():
        installed = sys.argv[0].startswith("hf-ser") or "site-packages" in sys.argv[0]
        typed = [_as_typed(command, installed) for command in commands]
        print("\n".join(["next:", *(f"  {command}" for command in typed)]))


def _as_typed(command: str, installed: bool) -> str:
    name, _, rest = command.partition(" ")
    return f"{f'hf-ser {name}' if installed else f'python scripts/{name}.py'} {rest}"


def parse_early(parse: Callable[[], object]) -> None:
    """Parse the command line before the libraries are imported, which takes seconds: it asks for help or is wrong."""
    run(parse)
    stop_at_once_on_interrupt()


def take_plugins(arguments: list[str]) -> None:
    """Import the files that `--plugins` names, by which own parts are registered, and remove it from the arguments.

    Raises:
        FileNotFoundError, ValueError: see `hf_ser.registry.load_plugins`.
    """
    from hf_ser.registry import load_installed_plugins, load_plugins

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--plugins", action="append", default=[], help="Python files with commas between")
    given, arguments[1:] = parser.parse_known_args(arguments[1:])
    load_installed_plugins()
    load_plugins(*(source for one in given.plugins for source in one.split(",")))


def error_message(error: Exception) -> str | None:
    """The message of an error that users can correct; None for any other error."""
    if full := disk_full_message(error):
        return full
    from hf_ser.files import package_file

    raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    ours = any(folder in raised_in.parents for folder in (Path(__file__).parent, package_file("scripts")))
    if isinstance(error, PermissionError):
        return str(error)
    if ours and isinstance(error, ValueError | FileNotFoundError | FileExistsError | ImportError):
        return missing_package_message(error) if isinstance(error, ModuleNotFoundError) else str(error)
    return missing_package_message(error) if isinstance(error, ImportError) else None


def missing_package_message(error: ImportError) -> str | None:
    """The message of an error about a missing package, with the command that installs it; None for any other error."""
    if isinstance(error, ModuleNotFoundError):
        name = (error.name or "").partition(".")[0]
        if not name or name in ("hf_ser", "scripts"):
            return None
        extra = extra_of(name)
        install = f"pip install hf_ser[{extra}]" if extra else f"pip install {name}"
        return f"found no package {name}, which is needed here. Expected it installed: {install}"
    text = " ".join(str(error).split())
    return f"found a package that is not installed: {text}" if NOT_INSTALLED.search(text) else None


NOT_INSTALLED = re.compile(r"not found in your environment|not installed|pip install")
"""Texts of libraries' ImportErrors about a missing optional package."""

FULL = re.compile(
    r"No space left on device|Disk quota exceeded|[Ee]rrno 28\b|os error (28|122)\b|database or disk is full"
    r"|PytorchStreamWriter failed writing|unexpected pos \d+ vs"
)
"""Texts of libraries' errors about a full disk."""


def disk_full_message(error: BaseException) -> str | None:
    """The message of an error that was caused by a full disk; None for any other error.

    Only explicit causes count: an error raised while another was handled is an error of its own.
    """
    seen, one = [], error
    while one is not None and one not in seen:
        seen.append(one)
        if getattr(one, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or FULL.search(str(one)):
            place = f" at {one.filename}" if getattr(one, "filename", None) else ""
            return (
                f"found no space left{place} ({' '.join(str(one).split())[:200]}). Expected space on the disk: free "
                "some, or give another --output_dir, and run the same command again. It continues: what is finished "
                "is kept (parts of a preparation, transcripts, checkpoints, folds), what is half written is made "
                "again. Caches are in $HF_SER_CACHE (default: ~/.cache/hf_ser) and $HF_HOME."
            )
        one = one.__cause__
    return None


def prepare_console() -> None:
    """Print characters that the console's encoding lacks, such as `ü` in ASCII, as `\\xfc`."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # tests and notebooks replace the streams
            stream.reconfigure(errors="backslashreplace")


def stop_at_once_on_interrupt() -> None:
    """End the process on Ctrl-C with one line during imports: some libraries catch KeyboardInterrupt."""
    if threading.current_thread() is threading.main_thread() and not os.environ.get("HF_SER_TRACEBACK"):
        signal.signal(signal.SIGINT, _stop_at_once)


def _stop_at_once(number, frame) -> NoReturn:
    os.write(2, f"{STOPPED}\n".encode())
    os._exit(128 + signal.SIGINT)  # nothing to clean up yet


def _is_script() -> bool:
    """Whether this process runs one of the scripts, and does not merely import one."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    here = Path(__file__).resolve().parent  # scripts are beside it in a checkout, inside it in a wheel
    return file is not None and Path(file).resolve().parent in (here / "scripts", here.parent / "scripts")


if _is_script() and parent_process() is None:  # workers would each print a line
    stop_at_once_on_interrupt()
