"""Files that are either whole or absent, and where they are kept."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import IO
from uuid import uuid4

from filelock import FileLock

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


def packaged(name: str) -> Path:
    """Path of a file or folder that comes with the package, such as `cards/report.html` or `scripts/recipes`.

    In a checkout these are its own top folders, in an installed wheel they lie inside the package.

    Raises:
        FileNotFoundError: there is none.
    """
    folder, _, rest = name.partition("/")
    try:
        path = Path(str(files(f"hf_ser.{folder}"))) / rest
    except ModuleNotFoundError:
        path = None
    if path is None or not path.exists():
        raise FileNotFoundError(
            f"{name}: found no such file in the installed package, which should contain it. In a checkout run "
            "`pip install -e .`; otherwise install hf_ser again."
        )
    return path


def read_old_text(path: str | Path) -> str:
    """A text of an older corpus: UTF-8, with or without its mark, or Latin-1 where it is not that."""
    raw = Path(path).read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def cache_folder() -> Path:
    """Where what was worked out once is kept: `$HF_SER_CACHE`, else `~/.cache/hf_ser`. It may not be there yet."""
    return Path(os.environ.get("HF_SER_CACHE", "~/.cache/hf_ser")).expanduser()


def beside(folder: Path, what: str) -> Path:
    """A hidden name next to a folder, for what is on its way to that name or from it."""
    return folder.with_name(f".{folder.name}.hf_ser_{what}")


def replace_folder(new: Path, old: Path) -> None:
    """Give a folder the name of another, which is removed. Killed half-way, `mend_folder` brings the old one back.

    The caller holds `beside(old, "lock")`.
    """
    aside = beside(old, "before")
    shutil.rmtree(aside, ignore_errors=True)
    if old.exists():
        os.replace(old, aside)
    os.replace(new, old)
    shutil.rmtree(aside, ignore_errors=True)


def mend_folder(folder: Path) -> None:
    """Bring back a folder over whose replacement a run was killed."""
    aside = beside(folder, "before")
    if aside.is_dir() and not folder.exists():
        with FileLock(beside(folder, "lock")):  # a run may be just between the two names
            if not folder.exists():
                os.replace(aside, folder)


@contextmanager
def atomic_write(path: str | Path, mode: str = "w") -> Iterator[IO]:
    """Open a file for writing that takes its name only once it is complete.

    A run that is killed, or a disk that fills, while a report is being written must not leave half a file that a later
    run reads as a result, nor destroy the good file that was there. So the text goes to a temporary file in the same
    folder (a rename is atomic only within one file system), reaches the disk, and then takes the name. The temporary
    file has the permissions of any new file, not the 0600 of `tempfile`, since colleagues read these.

    Args:
        path: File to write; its folder is made where it is missing.
        mode: `w` for text (UTF-8, `\\n` line ends on every system), `wb` for bytes.

    Yields:
        The open file handle. If the block raises, `path` stays as it was.

    Raises:
        ValueError: Another mode.
    """
    if mode not in ("w", "wb"):
        raise ValueError(f"atomic_write: found mode {mode!r}, expected 'w' (text) or 'wb' (bytes). Pass one of these.")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent, path.name)
    encoding = {"encoding": "utf-8", "newline": "\n"} if mode == "w" else {}
    temporary, handle = _new_temporary(path, mode, encoding)
    try:
        with handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


LEFTOVER = re.compile(r"\.(?P<name>.+)\.hf_ser_[0-9a-f]{32}")
"""Name, which no other program gives, of what `atomic_write` and `temporary_folder` have not finished.

A process that is killed leaves it behind.
"""


def _new_temporary(path: Path, mode: str, encoding: dict) -> tuple[Path, IO]:
    """A new file beside another, open for writing and locked for as long as it is open."""
    while True:
        temporary = path.with_name(f".{path.name}.hf_ser_{uuid4().hex}")
        handle = open(temporary, mode, **encoding)  # noqa: SIM115  (closed by who asked for it)
        if _lock(handle) is not False and temporary.exists():
            return temporary, handle
        handle.close()  # another process took it for a leftover before it was locked


def _lock(handle: IO) -> bool | None:
    """Lock an open file; the system lets go of it when its process ends, in any way.

    Returns:
        Whether no other process has it locked; None where this system or file system has no such locks.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (OSError, AttributeError):
        return None
    return True


@contextmanager
def temporary_folder(parent: Path, name: str) -> Iterator[Path]:
    """Make a hidden folder that goes at the end; what a killed process left of the same name goes at the start."""
    parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(parent, name)
    folder = parent / f".{name}.hf_ser_{uuid4().hex}"
    with open(_alive(folder), "wb") as handle:
        _lock(handle)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            _alive(folder).unlink(missing_ok=True)


def _alive(folder: Path) -> Path:
    """The file beside a temporary folder that its process keeps locked."""
    return folder.with_name(f"{folder.name}.alive")


def remove_leftovers(folder: str | Path, name: str | None = None) -> list[Path]:
    """Remove hidden temporary files and folders that killed processes left in a folder; those of live ones stay.

    Args:
        folder: The folder; what is in its sub-folders stays.
        name: Of the file that was being written; None for all.

    Returns:
        What was removed.
    """
    try:
        entries = [entry for entry in os.scandir(folder) if LEFTOVER.fullmatch(entry.name)]
    except OSError:
        return []
    removed = []
    for entry in entries:
        path, is_folder = Path(entry.path), entry.is_dir(follow_symlinks=False)
        if name not in (None, LEFTOVER.fullmatch(entry.name)["name"]) or not _is_left(path, is_folder):
            continue
        if is_folder:
            shutil.rmtree(path, ignore_errors=True)
            _alive(path).unlink(missing_ok=True)
        else:
            path.unlink(missing_ok=True)
        removed.append(path)
    return removed


def _is_left(path: Path, is_folder: bool) -> bool:
    """Whether the process is gone that made a temporary file or folder."""
    try:
        with open(_alive(path) if is_folder else path, "r+b") as handle:
            return _lock(handle) is True
    except OSError:  # not ours to touch, or just renamed
        return False
