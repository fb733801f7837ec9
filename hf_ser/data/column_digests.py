"""SHA-256 of each column of a prepared data set, stored with it, to detect changed labels or transcripts.

Damaged audio is detected by the checksums of FLAC when it is decoded; labels, speakers and transcripts have none.
"""

import hashlib
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, load_from_disk

from hf_ser.files import atomic_write
from hf_ser.normal_form import printable

DIGESTS = "digests.json"
FORMAT_VERSION = 1
"""Version of the digests; those of other versions are not compared."""
CHUNKS_AT_ONCE = 256
"""Chunks of a column that are hashed together."""


def open_checked(folder: str | Path) -> tuple[Dataset, bool]:
    """Open a data set folder and check that no column has changed since `write_digests`.

    Returns:
        The data set, memory-mapped, and whether it has digests.

    Raises:
        ValueError: damaged files, or a changed column.
    """
    folder = Path(folder)
    try:
        dataset = load_from_disk(str(folder))
        for name in dataset.column_names:
            for chunk in dataset.data.column(name).chunks:
                chunk.validate(full=True)  # damaged offsets would crash the process
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{folder}: not readable as a data set ({printable(error)[:200]}). Expected the files that "
            "scripts/prepare_data.py wrote: they are damaged. Copy them again, or prepare the data set again."
        ) from error
    stored = _stored_digests(folder)
    if stored is None:
        return dataset, False
    found = column_digests(dataset)
    if changed := sorted(name for name in {*stored, *found} if stored.get(name) != found.get(name)):
        raise ValueError(
            f"{folder}: found other values in {', '.join(map(printable, changed))} than were written (the SHA-256 of "
            f"a column is not that in {DIGESTS}). Expected the same: the files are damaged or were changed. Copy them "
            f"again or prepare the data set again; if you changed them yourself, remove {DIGESTS}."
        )
    return dataset, True


def write_digests(folder: str | Path) -> None:
    """Write the digests of a new data set folder."""
    digests = {"form": FORMAT_VERSION, "columns": column_digests(load_from_disk(str(folder)))}
    with atomic_write(Path(folder) / DIGESTS) as file:
        json.dump(digests, file, indent=1)


def column_digests(dataset: Dataset) -> dict[str, str]:
    """SHA-256 of the type (with label names) and values of each column, by name.

    Of audio, names and sizes are hashed, not the bytes, which have their own checksums. The division of rows into files
    does not matter.
    """
    if dataset._indices is not None:
        raise ValueError("found rows that were selected or sorted, expected those of a stored data set: save it first.")
    return {name: _digest(repr(dataset.features[name]), dataset.data.column(name)) for name in dataset.column_names}


def _digest(kind: str, column: pa.ChunkedArray) -> str:
    parts = defaultdict(hashlib.sha256)  # lengths and contents separately, so that chunks do not matter
    # Joining the many small chunks takes a tenth of the time. Audio is not copied.
    chunks = column.chunks
    if not pa.types.is_struct(column.type):
        chunks = [
            pa.concat_arrays(chunks[start : start + CHUNKS_AT_ONCE]) for start in range(0, len(chunks), CHUNKS_AT_ONCE)
        ]
    for chunk in chunks:
        _add(parts, "", chunk)
    total = hashlib.sha256(f"{kind} {len(column)}".encode())
    for name, part in sorted(parts.items()):
        total.update(f" {name} {part.hexdigest()}".encode())
    return total.hexdigest()


def _add(parts: dict, name: str, values: pa.Array) -> None:
    """Hash values of any type: which are null, their lengths and contents."""
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    kind = values.type
    parts[f"{name}.valid"].update(_as_numpy(values.is_valid()).tobytes())
    if pa.types.is_struct(kind):
        for field, child in zip(kind, values.flatten(), strict=True):
            if pa.types.is_binary(child.type) and name == "" and field.name == "bytes":
                child = pc.binary_length(child)
            _add(parts, f"{name}/{field.name}", child)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        parts[f"{name}.length"].update(_numbers(pc.list_value_length(values)))
        _add(parts, f"{name}[]", values.flatten())
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        parts[f"{name}.length"].update(_numbers(pc.binary_length(values)))
        parts[f"{name}.content"].update(_content(values))
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        parts[f"{name}.content"].update(_numbers(values))
    else:  # a column that a user has added
        parts[f"{name}.content"].update("".join(f"{value!r}\n" for value in values.to_pylist()).encode())


def _content(values: pa.Array) -> memoryview | bytes:
    """Concatenated bytes of all strings."""
    values = pc.fill_null(values, "" if pa.types.is_string(values.type) else b"")
    if not len(values):
        return b""
    _, offsets, data = values.buffers()
    ends = np.frombuffer(offsets, dtype=np.int32)[values.offset : values.offset + len(values) + 1]
    return memoryview(data)[ends[0] : ends[-1]] if data is not None else b""


def _numbers(values: pa.Array) -> bytes:
    return _as_numpy(pc.fill_null(values, False if pa.types.is_boolean(values.type) else 0)).tobytes()


def _as_numpy(values: pa.Array) -> np.ndarray:
    array = values.to_numpy(zero_copy_only=False)
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def _stored_digests(folder: Path) -> dict[str, str] | None:
    """Read the stored digests; None if missing or of another version."""
    file = folder / DIGESTS
    if not file.is_file():
        return None
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        return dict(stored["columns"]) if stored["form"] == FORMAT_VERSION else None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file}: not readable ({printable(error)}). Expected the digests that scripts/prepare_data.py wrote: copy "
            "the data set again or prepare it again; if you trust it as it is, remove this file."
        ) from error
