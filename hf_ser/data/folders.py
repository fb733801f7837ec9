"""List the files below a folder, each once, through links as well."""

import os
from pathlib import Path

from hf_ser.data.schema import Finding


def files_under(root: str | Path) -> tuple[list[Path], list[Finding]]:
    """List all files below a folder.

    Linked folders are entered too, but each folder only once, by its own name if that is below the root. A link to a
    parent folder, or to a folder that was entered before, gives a finding.

    Args:
        root: The folder; if it does not exist, there are no files.

    Returns:
        Files sorted by path, and findings (`linked_again`, `broken_link`, `unreadable_folder`).
    """
    root = Path(root)
    files, findings, seen = [], [], {os.path.realpath(root): root}
    folders, links = ([root] if root.is_dir() else []), []
    while folders or links:
        folder = folders.pop(0) if folders else links.pop(0)
        real = os.path.realpath(folder)
        if folder != root:
            if real in seen or _leads_back(folder, real):
                first = seen.get(real)
                detail = f"a link to {first}, which is read there" if first else "a link to a folder that contains it"
                findings.append(Finding("linked_again", str(folder), f"{detail}: not entered again"))
                continue
            seen[real] = folder
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            detail = f"{error.strerror or error}: its files are missing"
            findings.append(Finding("unreadable_folder", str(folder), detail, skipped=True))
            continue
        for entry in entries:
            path = folder / entry.name
            if os.path.isdir(path):
                (links if entry.is_symlink() else folders).append(path)
            elif os.path.isfile(path):
                files.append(path)
            elif entry.is_symlink():
                findings.append(Finding("broken_link", str(path), "a link to nothing", skipped=True))
    return sorted(files), findings


def relative_name(path: Path, root: Path) -> str:
    """Path relative to a folder, with `/` on every system."""
    return path.relative_to(root).as_posix()


def _leads_back(link: Path, real: str) -> bool:
    """Whether a link leads to one of its parent folders."""
    passed = [os.path.realpath(parent) for parent in link.absolute().parents]
    return real in passed or Path(passed[0]).is_relative_to(real)
