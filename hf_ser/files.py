"""Atomic writes, temporary folders, and the paths of packaged files and of the cache."""

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


def package_file(name: str) -> Path:
    """Path of a file or folder that comes with the package, such as `cards/report.html` or `scripts/recipes`.

    In a checkout these are top folders; in an installed wheel they are inside the package.

    Raises:
        FileNotFoundError: no such file.
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
    """Read a text of an older corpus as UTF-8, with or without a byte order mark, else as Latin-1."""
    raw = Path(path).read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def cache_folder() -> Path:
    """Folder of all caches: `$HF_SER_CACHE`, else `~/.cache/hf_ser`. It may not exist yet."""
    return Path(os.environ.get("HF_SER_CACHE", "~/.cache/hf_ser")).expanduser()


def hidden_sibling(folder: Path, purpose: str) -> Path:
    """Hidden path beside a folder, for a lock or for contents before they get its name."""
    return folder.with_name(f".{folder.name}.hf_ser_{purpose}")


def replace_folder(new: Path, old: Path) -> None:
    """Replace `old` by `new`. If the process is killed midway, `restore_folder` brings `old` back.

    The caller holds `hidden_sibling(old, "lock")`.
    """
    aside = hidden_sibling(old, "before")
    shutil.rmtree(aside, ignore_errors=True)
    if old.exists():
        os.replace(old, aside)
    os.replace(new, old)
    shutil.rmtree(aside, ignore_errors=True)


def restore_folder(folder: Path) -> None:
    """Bring back a folder if a run was killed while it replaced it."""
    aside = hidden_sibling(folder, "before")
    if aside.is_dir() and not folder.exists():
        with FileLock(hidden_sibling(folder, "lock")):  # another process may be inside `replace_folder`
            if not folder.exists():
                os.replace(aside, folder)


@contextmanager
def atomic_write(path: str | Path, mode: str = "w") -> Iterator[IO]:
    """Write a file that gets its name only once it is complete.

    A killed run or a full disk must neither leave half a file nor destroy the previous one. So the content goes to a
    temporary file in the same folder (a rename is atomic only within one file system), is synced, and then renamed. The
    temporary file has the permissions of any new file, not the 0600 of `tempfile`, since colleagues read these.

    Args:
        path: File to write; its folder is created if missing.
        mode: `w` for text (UTF-8, `\\n` line ends on every system), `wb` for bytes.

    Yields:
        The open file. If the block raises, `path` stays unchanged.

    Raises:
        ValueError: another mode.
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
"""Names of the temporary files and folders of `atomic_write` and `temporary_folder`; killed processes leave them."""


def _new_temporary(path: Path, mode: str, encoding: dict) -> tuple[Path, IO]:
    """Create a file beside another, open for writing and locked while it is open."""
    while True:
        temporary = path.with_name(f".{path.name}.hf_ser_{uuid4().hex}")
        handle = open(temporary, mode, **encoding)  # noqa: SIM115  (the caller closes it)
        if _lock(handle) is not False and temporary.exists():
            return temporary, handle
        handle.close()  # another process took it for a leftover before it was locked


def _lock(handle: IO) -> bool | None:
    """Lock an open file; the system releases the lock when the process ends.

    Returns:
        Whether the lock was free; None if this system or file system has no such locks.
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
    """Create a hidden folder and remove it afterwards; folders of killed processes are removed first."""
    parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(parent, name)
    folder = parent / f".{name}.hf_ser_{uuid4().hex}"
    with open(_lock_file(folder), "wb") as handle:
        _lock(handle)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            _lock_file(folder).unlink(missing_ok=True)


def _lock_file(folder: Path) -> Path:
    """File beside a temporary folder that its process keeps locked."""
    return folder.with_name(f"{folder.name}.alive")


def remove_leftovers(folder: str | Path, name: str | None = None) -> list[Path]:
    """Remove temporary files and folders that killed processes left in a folder; those of running processes stay.

    Args:
        folder: The folder; its sub-folders are not searched.
        name: Name of the file that was being written; None for all.

    Returns:
        The removed paths.
    """
    try:
        entries = [entry for entry in os.scandir(folder) if LEFTOVER.fullmatch(entry.name)]
    except OSError:
        return []
    removed = []
    for entry in entries:
        path, is_folder = Path(entry.path), entry.is_dir(follow_symlinks=False)
        if name not in (None, LEFTOVER.fullmatch(entry.name)["name"]) or not _is_abandoned(path, is_folder):
            continue
        if is_folder:
            shutil.rmtree(path, ignore_errors=True)
            _lock_file(path).unlink(missing_ok=True)
        else:
            path.unlink(missing_ok=True)
        removed.append(path)
    return removed


def _is_abandoned(path: Path, is_folder: bool) -> bool:
    """Whether the process that created a temporary file or folder has ended."""
    try:
        with open(_lock_file(path) if is_folder else path, "r+b") as handle:
            return _lock(handle) is True
    except OSError:  # no permission, or just renamed
        return False
