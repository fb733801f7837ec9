"""SHA-256 of each column of a prepared data set, kept beside it, so that a changed label or transcript is noticed.

Flipped bits in stored audio are noticed where it is decoded, by the checksums of FLAC. A label, a speaker or a
transcript has no such checksum, and another value in its place would be used as if it were the corpus's.
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
FORM = 1
"""Version of how a column is hashed; digests of another are not compared."""
TOGETHER = 256
"""Chunks of a column that are hashed at once."""


def open_checked(folder: str | Path) -> tuple[Dataset, bool]:
    """Open a data set folder; no column has changed since `write_digests`.

    Returns:
        The data set, memory-mapped, and whether its columns could be compared with stored digests.

    Raises:
        ValueError: the files are damaged, or a column is another than the one that was written.
    """
    folder = Path(folder)
    try:
        dataset = load_from_disk(str(folder))
        for name in dataset.column_names:
            for chunk in dataset.data.column(name).chunks:
                chunk.validate(full=True)  # damaged offsets would end the process where they are followed
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{folder}: not readable as a data set ({printable(error)[:200]}). Expected the files that "
            "scripts/prepare_data.py wrote: they are damaged. Copy them anew, or prepare the data set again."
        ) from error
    stored = _stored_digests(folder)
    if stored is None:
        return dataset, False
    found = column_digests(dataset)
    if changed := sorted(name for name in {*stored, *found} if stored.get(name) != found.get(name)):
        raise ValueError(
            f"{folder}: found other values in {', '.join(map(printable, changed))} than were written (the SHA-256 of "
            f"a column is not that in {DIGESTS}). Expected the same: the files are damaged or were changed. Copy them "
            f"anew or prepare the data set again; if you changed them yourself, remove {DIGESTS}."
        )
    return dataset, True


def write_digests(folder: str | Path) -> None:
    """Store the digests of a data set folder that has just been written."""
    digests = {"form": FORM, "columns": column_digests(load_from_disk(str(folder)))}
    with atomic_write(Path(folder) / DIGESTS) as file:
        json.dump(digests, file, indent=1)


def column_digests(dataset: Dataset) -> dict[str, str]:
    """SHA-256 of each column by its name: its type with the names of labels, and all values in the order of the rows.

    Of audio the names and sizes of the files are hashed, not the bytes, which have checksums of their own. How the rows
    are divided among files makes no difference.
    """
    if dataset._indices is not None:
        raise ValueError("found rows that were selected or sorted, expected those of a stored data set: save it first.")
    return {name: _digest(repr(dataset.features[name]), dataset.data.column(name)) for name in dataset.column_names}


def _digest(kind: str, column: pa.ChunkedArray) -> str:
    parts = defaultdict(hashlib.sha256)  # lengths and contents apart, so that the chunks do not show
    # A data set has a chunk for every few rows: together they take a tenth of the time. Audio is not copied.
    chunks = column.chunks
    if not pa.types.is_struct(column.type):
        chunks = [pa.concat_arrays(chunks[start : start + TOGETHER]) for start in range(0, len(chunks), TOGETHER)]
    for chunk in chunks:
        _add(parts, "", chunk)
    whole = hashlib.sha256(f"{kind} {len(column)}".encode())
    for name, part in sorted(parts.items()):
        whole.update(f" {name} {part.hexdigest()}".encode())
    return whole.hexdigest()


def _add(parts: dict, name: str, values: pa.Array) -> None:
    """Hash values of any type: which are null, how long each is, and what it holds."""
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    kind = values.type
    parts[f"{name}.valid"].update(_as_numpy(values.is_valid()).tobytes())
    if pa.types.is_struct(kind):
        for field, held in zip(kind, values.flatten(), strict=True):
            if pa.types.is_binary(held.type) and name == "" and field.name == "bytes":
                held = pc.binary_length(held)
            _add(parts, f"{name}/{field.name}", held)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        parts[f"{name}.length"].update(_numbers(pc.list_value_length(values)))
        _add(parts, f"{name}[]", values.flatten())
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        parts[f"{name}.length"].update(_numbers(pc.binary_length(values)))
        parts[f"{name}.content"].update(_content(values))
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        parts[f"{name}.content"].update(_numbers(values))
    else:  # of a column that a user has added
        parts[f"{name}.content"].update("".join(f"{value!r}\n" for value in values.to_pylist()).encode())


def _content(values: pa.Array) -> memoryview | bytes:
    """The bytes of all texts, one after the other."""
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
    """None where there are none, or those of another version."""
    file = folder / DIGESTS
    if not file.is_file():
        return None
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
        return dict(held["columns"]) if held["form"] == FORM else None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file}: not readable ({printable(error)}). Expected the digests that scripts/prepare_data.py wrote: copy "
            "the data set anew or prepare it again; if you trust it as it is, remove this file."
        ) from error
