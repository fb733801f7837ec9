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
    given = folder / path
    if os.path.isfile(given):
        return given
    local = Path(PureWindowsPath(path).as_posix() if "\\" in path else path)
    if found := _existing(folder / local):
        return found
    if moved and is_absolute(path):
        parts = PureWindowsPath(path).parts[1:]
        below = (_existing(folder.joinpath(*parts[start:])) for start in range(len(parts)))
        if found := next((file for file in below if file), None):
            return found
    return folder / local


def is_absolute(path: str) -> bool:
    """Whether a path is absolute on Windows or elsewhere."""
    return PureWindowsPath(path).is_absolute() or PureWindowsPath(path).drive != "" or path.startswith("/")


def relative_to(folder: Path, path: Path) -> str:
    """A path for patterns and names: relative where it lies below the folder, with `/` between."""
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def _existing(path: Path) -> Path | None:
    """The file of this path, or of one whose names have the same normal form."""
    if os.path.isfile(path):
        return path
    found = Path(path.anchor or ".")
    for part in path.parts[1:] if path.anchor else path.parts:
        if not os.path.lexists(found / part):
            part = _names(str(found)).get(normal_form(part))
            if part is None:
                return None
        found /= part
    return found if os.path.isfile(found) else None


@lru_cache(maxsize=4096)
def _names(folder: str) -> dict[str, str]:
    """The names in a folder by their normal form; none where the folder cannot be read."""
    try:
        return {normal_form(name): name for name in sorted(os.listdir(folder))}
    except (OSError, ValueError):
        return {}
