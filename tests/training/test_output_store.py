"""Stored whole or not at all: what several processes, kills and full disks leave of the arrays."""

import multiprocessing
import warnings

import numpy as np
import pytest

from hf_ser.inputs import output_store
from hf_ser.inputs.output_store import OutputStore


def arrays(*names: str) -> dict[str, np.ndarray]:
    """Some arrays of different lengths by name."""
    return {name: np.full((3 + len(name), 2, 4), i + 0.5, dtype=np.float16) for i, name in enumerate(names)}


@pytest.mark.parametrize("damage", ["index cut", "data cut", "data altered", "line altered"])
def test_what_a_kill_or_a_disk_damages_is_missing_and_the_rest_is_there(tmp_path, damage):
    whole = arrays("a", "bb", "ccc")
    OutputStore(tmp_path).put(whole)
    (data,), (index,) = tmp_path.glob("*.f16"), tmp_path.glob("*.index")
    file = index if "index" in damage or "line" in damage else data
    content = bytearray(file.read_bytes())
    if "cut" in damage:
        content = content[:-3]
    else:
        content[-12] ^= 1
    file.write_bytes(content)
    store = OutputStore(tmp_path)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = store.get(whole)
    assert sorted(found) == ["a", "bb"]
    assert [str(one.message).count("cut or altered") for one in told] == ([] if damage == "index cut" else [1])
    store.put(whole)
    warnings.simplefilter("ignore")
    again = OutputStore(tmp_path).get(whole)
    assert {name: array.tobytes() for name, array in again.items()} == {n: a.tobytes() for n, a in whole.items()}


def write_some(folder, first: int) -> None:
    """Store 40 arrays, one by one; those of `first` 0 and 20 overlap."""
    store = OutputStore(folder)
    for i in range(first, first + 40):
        store.put({f"key {i}": np.full((5, 3), i, dtype=np.float16)})


def test_several_processes_write_at_once_and_a_reader_follows(tmp_path):
    reader = OutputStore(tmp_path)
    assert not reader.get(["key 0"])
    writers = [multiprocessing.get_context("fork").Process(target=write_some, args=(tmp_path, n)) for n in (0, 20)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = reader.get(f"key {i}" for i in range(60))
    assert {name: array[0, 0] for name, array in found.items()} == {f"key {i}": i for i in range(60)}
    assert len(reader) == 60 and reader.size_mb() > 60 * 30 / 1e6


def test_a_full_disk_is_told_once_and_ends_the_writing(tmp_path, monkeypatch):
    store, raw = OutputStore(tmp_path), output_store.FileIO
    store.put(arrays("a"))
    store.close()
    monkeypatch.setattr(output_store, "FileIO", lambda *_: raw("/dev/full", "w"))
    with pytest.warns(UserWarning, match=r"cannot be stored \(No space left on device\)"):
        store.put(arrays("a", "b"))
    store.put(arrays("c"))
    assert list(store.get("abc")) == ["a"]
