"""Whether other people can read what was saved."""

import os
from pathlib import Path


def assert_as_any_new_file(folder: Path) -> None:
    """Check that all weights in a folder, and below it, have the permissions that the umask gives."""
    os.umask(umask := os.umask(0))
    weights = list(folder.rglob("*.safetensors"))
    assert weights
    for file in weights:
        assert file.stat().st_mode & 0o777 == 0o666 & ~umask, file
    assert not list(folder.rglob(".*.mode"))
