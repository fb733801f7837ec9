"""Ragged arrays by key, kept on disk: the features that frozen encoders make.

FOLDER/WRITER.f16      the arrays, one after another
FOLDER/WRITER.index    a line for each: key, place in the file, shape, type and checksum
"""

import json
import warnings
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from io import BufferedWriter, FileIO
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import numpy as np

FEW_POSITIONS = 16
"""Up to so many an array is kept in float32: the mean of a clip, or those of its speeds, which take little room."""


class Entry(NamedTuple):
    """Place of an array: file, first byte, shape `(positions, *tail)`, checksum, and type of a number."""

    file: str
    offset: int
    shape: tuple[int, ...]
    crc: int
    dtype: str = "<f2"

    @property
    def stop(self) -> int:
        """The first byte after it."""
        return self.offset + np.dtype(self.dtype).itemsize * int(np.prod(self.shape))


class FeatureStore:
    """Ragged arrays by key, in a folder that several processes share and that outlives kills and damage.

    Numbers are kept as float16, those of few positions or beyond its range as float32. Each process writes files of its
    own and reads those of all. An entry counts from the moment its line is in the index, which is written after its
    data. Lines and data have checksums: what was cut or altered counts as missing. Loader workers may hold a store from
    before a fork or get it pickled, to read.

    Args:
        folder: Where the files are; it is made with the first entry.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._entries: dict[str, list[Entry]] = {}
        self._bytes_read: dict[str, int] = {}
        self._maps: dict[str, np.ndarray] = {}
        self._checked: set[Entry] = set()
        self._writer: _Writer | None = None
        self._has_warned = False

    def __getstate__(self) -> dict:
        return {"folder": self.folder}

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["folder"])

    def get(self, keys: Iterable[str]) -> dict[str, np.ndarray]:
        """The arrays of those keys that are stored whole, not to be written to.

        Shapes:
            each `(positions, *tail)` float16 or float32.
        """
        keys = list(dict.fromkeys(keys))
        if not all(self._entries.get(key) for key in keys):
            self._read_indices()
        found = {key: self._whole(key) for key in keys}
        return {key: array for key, array in found.items() if array is not None}

    def missing(self, keys: Iterable[str]) -> list[str]:
        """The keys, each once, of which no whole array is stored."""
        self._read_indices()
        return [key for key in dict.fromkeys(keys) if self._whole(key) is None]

    def put(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Store arrays; a key that is there already keeps what it has.

        Raises:
            OSError: they cannot be written, as on a full disk.
        """
        arrays = {key: array for key, array in arrays.items() if not self._entries.get(key)}
        if not arrays:
            return
        try:
            self._writer = self._writer or _Writer(self.folder)
            for key, entry in self._writer.append(arrays).items():
                self._entries.setdefault(key, []).append(entry)
                self._checked.add(entry)
            self._bytes_read[self._writer.index_name] = self._writer.index_bytes
        except OSError as error:
            self.close()
            raise OSError(
                error.errno,
                f"features of a frozen encoder cannot be stored ({error.strerror}; {self.size_mb():.0f} MB are there). "
                "Expected room for them: free some space, or name another folder with HF_SER_CACHE. What "
                "is stored is kept: give the same command again",
                str(self.folder),
            ) from error

    def close(self) -> None:
        """Close the files that are being written; all that was put is in them already."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def size_mb(self) -> float:
        """Size of all files on disk, in MB (10^6 bytes)."""
        return sum(file.stat().st_size for file in self.folder.glob("*.*")) / 1e6

    def __len__(self) -> int:
        self._read_indices()
        return sum(bool(entries) for entries in self._entries.values())

    def _read_indices(self) -> None:
        """Read what any process has written to the indices since they were last read."""
        for index in sorted(self.folder.glob("*.index")):
            start = self._bytes_read.get(index.name, 0)
            if index.stat().st_size <= start:
                continue
            with open(index, "rb") as file:
                file.seek(start)
                content = file.read()
            whole = content[: content.rfind(b"\n") + 1]  # the last line may be on its way, or cut by a kill
            self._bytes_read[index.name] = start + len(whole)
            for line in whole.splitlines():
                self._add_entry(line, index.with_suffix(".f16").name)

    def _add_entry(self, line: bytes, file: str) -> None:
        described, _, checksum = line.rpartition(b"\t")
        if checksum != b"%08x" % zlib.crc32(described):
            self._warn_of_damage(file)
            return
        key, offset, shape, *rest = json.loads(described)
        self._entries.setdefault(key, []).append(Entry(file, offset, tuple(shape), *rest))

    def _whole(self, key: str) -> np.ndarray | None:
        entries = self._entries.get(key, [])
        while entries:
            array = self._array(entries[0])
            if array is not None:
                return array
            self._warn_of_damage(entries.pop(0).file)
        return None

    def _array(self, entry: Entry) -> np.ndarray | None:
        """An entry's array in the mapped file; None where it is cut or altered."""
        data = self._maps.get(entry.file)
        if data is None or len(data) < entry.stop:
            data = self._maps[entry.file] = _mapped(self.folder / entry.file)
        stored = data[entry.offset : entry.stop]
        if entry not in self._checked:
            if len(stored) != entry.stop - entry.offset or zlib.crc32(stored) != entry.crc:
                return None
            self._checked.add(entry)
        return stored.view(entry.dtype).reshape(entry.shape)

    def _warn_of_damage(self, file: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"{self.folder / file}: found features of the frozen encoder cut or altered (their checksum does "
                "not fit). They count as missing and are computed again; if it happens often, look at the disk.",
                stacklevel=2,
            )


class _Writer:
    """The pair of files that one process appends to."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        name = uuid4().hex
        self.data_name, self.index_name = f"{name}.f16", f"{name}.index"
        self._data = BufferedWriter(FileIO(folder / self.data_name, "x"))
        self._index = BufferedWriter(FileIO(folder / self.index_name, "x"))
        self._offset = self.index_bytes = 0

    def append(self, arrays: Mapping[str, np.ndarray]) -> dict[str, Entry]:
        entries, lines, offset = {}, [], self._offset
        for key, array in arrays.items():
            stored = as_stored(array)
            self._data.write(stored.data)
            place = (self.data_name, offset, stored.shape, zlib.crc32(stored.data))
            entries[key] = entry = Entry(*place, stored.dtype.str)
            offset = entry.stop
            described = json.dumps([key, *entry[1:]]).encode()
            lines.append(b"%s\t%08x\n" % (described, zlib.crc32(described)))
        self._data.flush()  # before the index names it
        self._index.write(b"".join(lines))
        self._index.flush()
        self._offset, self.index_bytes = offset, self.index_bytes + sum(map(len, lines))
        return entries

    def close(self) -> None:
        for file in (self._data, self._index):
            with suppress(OSError):  # what a full disk did not take is tried once more
                file.close()


def as_stored(array: np.ndarray) -> np.ndarray:
    """An array rounded to float16; to float32 where it has few positions, or a number beyond float16 (65504)."""
    if len(array) <= FEW_POSITIONS:
        return np.ascontiguousarray(array, dtype="<f4")
    with np.errstate(over="ignore"):
        rounded = np.ascontiguousarray(array, dtype="<f2")
    return rounded if np.isfinite(rounded).all() else np.ascontiguousarray(array, dtype="<f4")


def _mapped(file: Path) -> np.ndarray:
    """The bytes of a file, mapped into memory; none where it is gone or empty."""
    with suppress(OSError, ValueError):
        # Copy-on-write: torch warns of arrays that are read-only, and these are only read.
        return np.asarray(np.memmap(file, dtype=np.uint8, mode="c"))
    return np.empty(0, dtype=np.uint8)
