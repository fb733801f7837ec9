"""Random draws and digests that depend on names alone: equal in every process and order, unlike Python's `hash`."""

import hashlib
from collections.abc import Iterable

import numpy as np


def generator(*names: object) -> np.random.Generator:
    """Random number generator seeded by names, such as `generator("noise", seed, id)`."""
    return np.random.default_rng(int.from_bytes(_hashed(names)[:16], "big"))


def uniform(*names: object) -> float:
    """Uniform random number in [0, 1)."""
    return int.from_bytes(_hashed(names)[:6], "big") / 2**48


def seed(*names: object) -> int:
    """Seed of 63 bits for a library."""
    return int.from_bytes(_hashed(names)[:8], "big") >> 1


def text_digest(text: str) -> str:
    """SHA-256 of a text, in hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def rows_digest(rows: Iterable[object]) -> str:
    """SHA-256 of rows of plain values; their order does not matter."""
    return text_digest("\n".join(sorted(map(repr, rows))))


def _hashed(names: tuple[object, ...]) -> bytes:
    return hashlib.sha256("/".join(map(str, names)).encode()).digest()
