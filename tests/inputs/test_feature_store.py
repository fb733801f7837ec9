"""Stored whole or not at all: what several processes, kills and full disks leave of the arrays."""

import multiprocessing
import warnings

import numpy as np
import pytest

from hf_ser.inputs import feature_store
from hf_ser.inputs.feature_store import FeatureStore


def arrays(*names: str) -> dict[str, np.ndarray]:
    """Some arrays of different lengths by name."""
    return {name: np.full((20 + len(name), 2, 4), i + 0.5, dtype=np.float16) for i, name in enumerate(names)}


@pytest.mark.parametrize("damage", ["index cut", "data cut", "data altered", "line altered"])
def test_what_a_kill_or_a_disk_damages_is_missing_and_the_rest_is_there(tmp_path, damage):
    whole = arrays("a", "bb", "ccc")
    FeatureStore(tmp_path).put(whole)
    (data,), (index,) = tmp_path.glob("*.f16"), tmp_path.glob("*.index")
    file = index if "index" in damage or "line" in damage else data
    content = bytearray(file.read_bytes())
    if "cut" in damage:
        content = content[:-3]
    else:
        content[-12] ^= 1
    file.write_bytes(content)
    store = FeatureStore(tmp_path)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = store.get(whole)
    assert sorted(found) == ["a", "bb"]
    assert [str(one.message).count("cut or altered") for one in told] == ([] if damage == "index cut" else [1])
    store.put(whole)
    warnings.simplefilter("ignore")
    again = FeatureStore(tmp_path).get(whole)
    assert {name: array.tobytes() for name, array in again.items()} == {n: a.tobytes() for n, a in whole.items()}


def write_some(folder, first: int) -> None:
    """Store 40 arrays, one by one; those of `first` 0 and 20 overlap."""
    store = FeatureStore(folder)
    for i in range(first, first + 40):
        store.put({f"key {i}": np.full((20, 3), i, dtype=np.float16)})


def test_several_processes_write_at_once_and_a_reader_follows(tmp_path):
    reader = FeatureStore(tmp_path)
    assert not reader.get(["key 0"])
    writers = [multiprocessing.get_context("fork").Process(target=write_some, args=(tmp_path, n)) for n in (0, 20)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = reader.get(f"key {i}" for i in range(60))
    assert {name: array[0, 0] for name, array in found.items()} == {f"key {i}": i for i in range(60)}
    assert len(reader) == 60 and reader.size_mb() > 60 * 30 / 1e6


def test_a_full_disk_ends_the_writing_and_what_is_stored_can_be_read(tmp_path, monkeypatch):
    store, raw = FeatureStore(tmp_path), feature_store.FileIO
    store.put(arrays("a"))
    store.close()
    monkeypatch.setattr(feature_store, "FileIO", lambda *_: raw("/dev/full", "w"))
    with pytest.raises(OSError, match=r"cannot be stored \(No space left on device.*free some space"):
        store.put(arrays("a", "b"))
    assert list(store.get("abc")) == ["a"] and store.missing("abc") == ["b", "c"]


def test_means_and_numbers_beyond_float16_are_kept_as_float32(tmp_path):
    large = {"a": np.array([[1.5, 1e6]] * 20, dtype=np.float32), "b": np.array([[1.5]] * 20, dtype=np.float32)}
    large["c"] = np.array([[1 / 3]], dtype=np.float32)  # a mean
    FeatureStore(tmp_path).put(large)
    found = FeatureStore(tmp_path).get(large)
    assert {name: array.dtype.str for name, array in found.items()} == {"a": "<f4", "b": "<f2", "c": "<f4"}
    assert all(np.array_equal(found[name], array) for name, array in large.items())
