"""Find the files of a user's table, also with other spellings of their names or in another folder."""

import os
from functools import lru_cache
from pathlib import Path, PureWindowsPath

from hf_ser.normal_form import normal_form


def local_path(folder: Path, path: str, moved: bool = False) -> Path:
    """Path of a file of a table on this machine; if there is no such file, the expected path.

    The path is tried as given, with Windows separators, and with names of the same normal form (macOS writes `ü` as two
    characters).

    Args:
        folder: Base of relative paths.
        path: Path in the table.
        moved: Whether to search a missing absolute path below `folder` by its last folders and name.
    """
    given = os.path.join(folder, path)
    if os.path.isfile(given):
        return Path(given)
    if path.startswith("~") and os.path.isfile(home := os.path.expanduser(path)):
        return Path(home)
    local = PureWindowsPath(path).as_posix() if "\\" in path else path
    if found := _existing(str(folder), local):
        return Path(found)
    if moved and is_absolute(path):
        parts = PureWindowsPath(path).parts[1:]
        below = (_existing(str(folder), "/".join(parts[start:])) for start in range(len(parts)))
        if found := next((file for file in below if file), None):
            return Path(found)
    return folder / local


def by_other_capitals(path: Path) -> str | None:
    """Name of the only file in the folder of a missing path that differs from it only in capitals, else None."""
    wanted = normal_form(path.name).casefold()
    found = [name for name in _names(str(path.parent)).values() if normal_form(name).casefold() == wanted]
    return found[0] if len(found) == 1 and found[0] != path.name else None


def is_absolute(path: str) -> bool:
    """Whether a path is absolute on any system."""
    return PureWindowsPath(path).is_absolute() or PureWindowsPath(path).drive != "" or path.startswith("/")


def relative_to(folder: Path, path: Path) -> str:
    """Path for patterns and names: relative if it is below the folder, with `/` as separator."""
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def _existing(folder: str, path: str) -> str | None:
    """Existing file of a path, or of one whose names have the same normal form; else None."""
    if os.path.isfile(given := os.path.join(folder, path)):
        return given
    found = "/" if path.startswith("/") else folder
    for part in path.split("/"):
        if part in ("", "."):
            continue
        if not os.path.lexists(os.path.join(found, part)):
            part = _names(found).get(normal_form(part))
            if part is None:
                return None
        found = os.path.join(found, part)
    return found if os.path.isfile(found) else None


@lru_cache(maxsize=4096)
def _names(folder: str) -> dict[str, str]:
    """Names in a folder by normal form; empty if it cannot be read."""
    try:
        return {normal_form(name): name for name in sorted(os.listdir(folder))}
    except (OSError, ValueError):
        return {}
