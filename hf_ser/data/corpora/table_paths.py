"""The files of a user's own table: where they are, however their names are spelled or wherever they were moved to."""

import os
from functools import lru_cache
from pathlib import Path, PureWindowsPath

from hf_ser.normal_form import normal_form


def local_path(folder: Path, path: str, moved: bool = False) -> Path:
    """A file of a table on this machine; where there is none the path as it would be.

    Tried are the path as given, with the separators of Windows read as such, and with names of the same normal form:
    Macs write `ü` as two characters.

    Args:
        folder: Where relative paths begin.
        path: As the table has it.
        moved: Look for an absolute path that is not there by its last folders and its name below `folder`.
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
    """The name of the one file beside a path that is not there whose name differs from its own in capitals alone."""
    wanted = normal_form(path.name).casefold()
    found = [name for name in _names(str(path.parent)).values() if normal_form(name).casefold() == wanted]
    return found[0] if len(found) == 1 and found[0] != path.name else None


def is_absolute(path: str) -> bool:
    """Whether a path is absolute on Windows or elsewhere."""
    return PureWindowsPath(path).is_absolute() or PureWindowsPath(path).drive != "" or path.startswith("/")


def relative_to(folder: Path, path: Path) -> str:
    """A path for patterns and names: relative where it lies below the folder, with `/` between."""
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def _existing(folder: str, path: str) -> str | None:
    """The file of this path, or of one whose names have the same normal form."""
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
    """The names in a folder by their normal form; none where the folder cannot be read."""
    try:
        return {normal_form(name): name for name in sorted(os.listdir(folder))}
    except (OSError, ValueError):
        return {}
