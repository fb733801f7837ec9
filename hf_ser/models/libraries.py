"""Versions of the libraries, checked before anything of them is used; the one place that imports torchaudio and soxr.

Every other file takes torchaudio's functions and transforms, and soxr, from here.
"""

import sys
from importlib.metadata import PackageNotFoundError, version

from packaging.version import Version

LEAST_TRANSFORMERS = "5.23"
LEAST_SOXR = "0.5"
PAIR = ("torch==2.14.1", "torchaudio==2.11.1")
"""A torch and a torchaudio that fit each other."""


def check_transformers() -> None:
    """Make sure that transformers is recent enough for this code.

    Raises:
        ImportError: it is older than `LEAST_TRANSFORMERS`.
    """
    # Not imported for this: that takes a second.
    found = getattr(sys.modules.get("transformers"), "__version__", None) or version("transformers")
    # Of 5.23.0.dev0 or 5.23rc1, on the way to it, the release counts.
    if Version(Version(found).base_version) < Version(LEAST_TRANSFORMERS):
        raise ImportError(
            f"This model's code found transformers {found}, expected {LEAST_TRANSFORMERS} or later (below 6). Run: "
            f'pip install "transformers>={LEAST_TRANSFORMERS},<6"'
        )


def torchaudio_error(error: Exception) -> ImportError:
    """What to raise where torchaudio cannot be imported, which is mostly since it was built for another torch."""
    torch = _version("torch")
    # pip takes a local build (2.14.1+cpu) for the requested version, and would leave it as it is.
    again = "--force-reinstall " if "+" in torch else ""
    return ImportError(
        f"torchaudio {_version('torchaudio')} cannot be imported beside torch {torch} "
        f"({str(error).strip().partition(chr(10))[0]}). Expected two that fit each other and come from one package "
        f"index (both for the CPU alone, or both not). Run: pip install {again}{' '.join(PAIR)}"
    )


def soxr_error(error: Exception) -> ImportError:
    """What to raise where soxr is missing or too old: a transformers without it loads all else of a model."""
    return ImportError(
        f"This model's code found soxr {_version('soxr')} ({str(error).strip().partition(chr(10))[0]}), which "
        f'resamples audio. Expected {LEAST_SOXR} or later. Run: pip install "soxr>={LEAST_SOXR}"'
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"


check_transformers()

try:
    import soxr  # noqa: F401
    from soxr import ResampleStream as _  # noqa: F401
except (ImportError, OSError, AttributeError) as error:
    raise soxr_error(error) from error


def __getattr__(name: str):
    """`audio_functional` and `audio_transforms` of torchaudio: with torch it takes seconds, and decoding needs none."""
    if name not in ("audio_functional", "audio_transforms"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:  # an OSError where a symbol is missing in torch, an AttributeError or RuntimeError where an operator is
        from torchaudio import functional, transforms
    except (ImportError, OSError, AttributeError, RuntimeError) as error:
        raise torchaudio_error(error) from error
    return functional if name == "audio_functional" else transforms
