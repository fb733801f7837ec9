"""Draws and digests that depend on their names alone: the same in every process and order, unlike Python's `hash`."""

import hashlib
from collections.abc import Iterable

import numpy as np


def generator(*names: object) -> np.random.Generator:
    """Random numbers of whatever the names stand for, such as `generator("noise", seed, id)`."""
    return np.random.default_rng(int.from_bytes(_hashed(names)[:16], "big"))


def share(*names: object) -> float:
    """A number from 0 to below 1."""
    return int.from_bytes(_hashed(names)[:6], "big") / 2**48


def seed(*names: object) -> int:
    """A seed of 63 bits, as libraries take them."""
    return int.from_bytes(_hashed(names)[:8], "big") >> 1


def text_digest(text: str) -> str:
    """SHA-256 of a text, in hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def rows_digest(rows: Iterable[object]) -> str:
    """SHA-256 of rows of plain values, whatever their order."""
    return text_digest("\n".join(sorted(map(repr, rows))))


def _hashed(names: tuple[object, ...]) -> bytes:
    return hashlib.sha256("/".join(map(str, names)).encode()).digest()
