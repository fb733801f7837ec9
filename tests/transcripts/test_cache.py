"""The transcript cache under kills, several writers and every kind of damage: entries may be lost, never altered."""

import errno
import hashlib
import math
import multiprocessing
import os
import random
import re
import signal
import sqlite3
import time
import warnings
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from filelock import FileLock

from hf_ser.transcripts import cache as module
from hf_ser.transcripts.cache import TranscriptCache, cache_file, transcript_key
from hf_ser.transcripts.recogniser import DecodeOptions, Transcript

fork = multiprocessing.get_context("fork")  # a new interpreter would import torch for seconds
PAGE = 4096


def key(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def transcript(number: int) -> Transcript:
    """Some are longer than a page."""
    words = 1000 if number % 40 == 20 else 5
    return Transcript(f'"{number}" ' + "wörter} " * words, "de", -number / 7, 0.25, 0.0)


def entries(*numbers: int) -> dict[str, Transcript]:
    return {key(number): transcript(number) for number in numbers}


ENTRIES = entries(*range(120))


@pytest.fixture
def file(tmp_path) -> Path:
    """A cache of ENTRIES."""
    path = tmp_path / "transcripts.sqlite"
    with TranscriptCache(path) as cache:
        cache.put(ENTRIES)
    return path


@contextmanager
def silently():
    """No warning may be given."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def start(function, *args):
    """Run a function in a process of its own."""
    process = fork.Process(target=function, args=args)
    process.start()
    return process


def finish(*processes) -> None:
    """All exit with 0."""
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * len(processes)


def is_valid(path: Path) -> bool:
    connection = sqlite3.connect(path)
    found = connection.execute("PRAGMA integrity_check").fetchall()
    connection.close()
    return found == [("ok",)]


def test_entries_are_there_when_the_file_is_opened_again(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "KEYS_PER_QUERY", 7)  # so that 100 keys take many queries
    path = tmp_path / "new" / "folder" / "transcripts.sqlite"
    odd = {key(-1): Transcript('\0 "}{ \ud800 \x7f 話', None, None, math.inf, None)}
    with silently():
        with TranscriptCache(path) as cache:
            cache.put(entries(*range(0, 100, 2)) | odd)
            cache.put({})
            cache.put({key(4): transcript(5)})  # the later one stays
        with TranscriptCache(path) as cache:
            found = cache.get([*map(key, range(-1, 100)), key(0)])
            assert found == entries(*range(0, 100, 2)) | odd | {key(4): transcript(5)}
            cache.put({key(1): replace(transcript(1), no_speech_prob=math.nan)})
            assert math.isnan(cache.get([key(1)])[key(1)].no_speech_prob)


def test_the_key_changes_with_all_that_determines_a_transcript(monkeypatch):
    options = DecodeOptions()
    others = {"prompt": "Zoë", "whole_window": True, "temperatures": (0.0,), "compression_ratio_threshold": 2.0}
    others |= {"logprob_threshold": -2.0, "no_speech_threshold": 0.5, "max_tokens": 9, "precision": "bfloat16"}
    assert others.keys() == asdict(options).keys()
    inputs = [("audio", "model", "en", options), ("audio2", "model", "en", options), ("audio", "model2", "en", options)]
    inputs += [("audio", "model", language, options) for language in ("de", None, "None")]
    inputs += [("audio", "model", "en", replace(options, **{name: other})) for name, other in others.items()]
    keys = [transcript_key(*one) for one in inputs]
    assert len(set(keys)) == len(inputs)
    assert keys[0] == transcript_key("audio", "model", "en", DecodeOptions())
    monkeypatch.setattr(module, "DECODING_VERSION", "another")
    assert transcript_key(*inputs[0]) not in keys


def test_the_file_is_in_the_cache_folder(monkeypatch):
    monkeypatch.setenv("HF_SER_CACHE", "~/elsewhere")
    assert cache_file() == Path.home() / "elsewhere" / "transcripts.sqlite"
    monkeypatch.delenv("HF_SER_CACHE")
    assert cache_file() == Path.home() / ".cache" / "hf_ser" / "transcripts.sqlite"


def batch(number: int) -> dict[str, Transcript]:
    return entries(*range(5 * number, 5 * number + 5))


def put_forever(path: Path, first: int, pipe: int) -> None:
    with TranscriptCache(path) as cache:
        for number in range(first, first + 10_000):
            cache.put(batch(number))
            os.write(pipe, number.to_bytes(4, "big"))  # only now; so few bytes go whole or not at all


def test_twenty_kills_lose_nothing_that_was_put(tmp_path):
    path, moments, done = tmp_path / "transcripts.sqlite", random.Random(4), 0
    for _ in range(20):
        reading, writing = os.pipe()
        child = start(put_forever, path, done, writing)
        os.close(writing)
        assert os.read(reading, 4) == done.to_bytes(4, "big")
        time.sleep(moments.uniform(0, 0.02))
        child.kill()
        child.join()
        with open(reading, "rb") as pipe:
            done += 1 + len(pipe.read()) // 4
        with silently(), TranscriptCache(path) as cache:
            reported = entries(*range(5 * done))
            assert cache.get(reported) == reported
            assert len(cache.get(batch(done))) in (0, 5)  # the one that was under way
        assert is_valid(path)


def put_all(path: Path, numbers: list[int], barrier) -> None:
    barrier.wait()
    with silently(), TranscriptCache(path) as cache:
        for number in numbers:
            cache.put(batch(number))


def test_several_writers_at_once_lose_nothing(tmp_path):
    path, barrier = tmp_path / "transcripts.sqlite", fork.Barrier(4)
    parts = [range(16), range(8, 24), range(23, 7, -1), range(16, 32)]
    finish(*(start(put_all, path, list(part), barrier) for part in parts))
    with silently(), TranscriptCache(path) as cache:
        assert cache.get(map(key, range(200))) == entries(*range(160))


def place_of(raw: bytes, number: int) -> int:
    return raw.index(f'{{"text": "\\"{number}\\"'.encode())


def page_of(raw: bytes, number: int) -> int:
    return place_of(raw, number) // PAGE * PAGE


def altered(raw: bytes, number: int, letter: bytes) -> bytes:
    """With another letter in the text of a transcript."""
    at = place_of(raw, number)
    return raw[:at] + raw[at:].replace(b"w", letter, 1)


def cut(raw: bytes) -> bytes:
    return raw[: page_of(raw, 80)]


def with_another_header(raw: bytes) -> bytes:
    return b"x" * 100 + raw[100:]


def with_a_page_overwritten(raw: bytes) -> bytes:
    at = page_of(raw, 80)
    raw = altered(raw, 7, b"W")  # nor is that one kept
    return raw[:at] + random.Random(4).randbytes(PAGE) + raw[at + PAGE :]


def with_a_row_that_the_index_misses(raw: bytes) -> bytes:
    """What the quick check does not find: of a key in the index, the row's number follows it."""
    (at,) = (found.end() for found in re.finditer(key(60).encode(), raw) if raw[found.end()] == 61)
    return raw[:at] + bytes([127]) + raw[at + 1 :]


def of_another_program(raw: bytes) -> bytes:
    return raw.replace(b"checksum", b"somewhat")


@pytest.mark.parametrize(
    ("damaged", "message", "least", "long"),
    [
        (cut, "database disk image is malformed", 60, []),
        (with_another_header, "file is not a database", 117, []),
        (with_a_page_overwritten, "btreeInitPage", 100, [20, 60, 100]),
        (with_a_row_that_the_index_misses, "database disk image is malformed", 120, [20, 60, 100]),
        (of_another_program, "no such column: checksum", 117, []),
    ],
)
def test_a_damaged_file_is_kept_aside_and_its_readable_entries_are_kept(file, damaged, message, least, long):
    raw = damaged(file.read_bytes())
    file.write_bytes(raw)
    earlier, aside = (file.with_name(f"{file.name}.damaged-{n}") for n in (1, 2))
    earlier.write_text("earlier")
    with pytest.warns(UserWarning) as caught, TranscriptCache(file) as cache:
        found = cache.get(ENTRIES)
    assert len(caught) == 1
    first, rest = str(caught[0].message).split("). ")
    assert first.startswith(f"{file}: found the transcript cache damaged (")
    assert message in first
    assert rest == (
        f"{len(found)} entries could be read and were kept, others are decoded again. The damaged file is {aside}: "
        "remove it when you have seen it."
    )
    assert least <= len(found)
    assert found.items() <= ENTRIES.items()
    assert [number for number in (20, 60, 100) if key(number) in found] == long  # only SQLite itself reads these
    assert (earlier.read_text(), aside.read_bytes()) == ("earlier", raw)
    with silently(), TranscriptCache(file) as cache:
        cache.put(ENTRIES)
        assert cache.get(ENTRIES) == ENTRIES
    assert is_valid(file)


def test_an_altered_entry_is_missing_and_its_neighbours_are_not(file):
    raw = file.read_bytes()
    file.write_bytes(altered(altered(raw, 7, b"W"), 8, b"\xf7"))  # another text; not UTF-8
    with TranscriptCache(file) as cache:
        with pytest.warns(UserWarning, match="found 2 of 120 entries altered .* They count as missing"):
            found = cache.get(ENTRIES)
        assert ENTRIES.keys() - found.keys() == {key(7), key(8)}
        assert found.items() <= ENTRIES.items()
        with silently():
            cache.put(entries(7, 8))
            assert cache.get(ENTRIES) == ENTRIES


def test_an_empty_file_is_a_new_cache(file):
    file.write_bytes(b"")
    with silently(), TranscriptCache(file) as cache:
        assert cache.get(ENTRIES) == {}
        cache.put(ENTRIES)
        assert cache.get(ENTRIES) == ENTRIES


def die_while_writing(path: Path) -> None:
    """Leave a journal that is to be replayed: pages that are changed in the file, but not committed."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA cache_size = 1")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE transcripts SET value = replace(value, 'rter', 'lfe')")
    os.kill(os.getpid(), signal.SIGKILL)


def test_an_unfinished_transaction_is_rolled_back(file):
    start(die_while_writing, file).join()
    assert b"lfe" in file.read_bytes()
    assert Path(f"{file}-journal").stat().st_size > PAGE
    with silently(), TranscriptCache(file) as cache:
        assert cache.get(ENTRIES) == ENTRIES
    assert is_valid(file)


def test_the_journal_of_another_file_alters_no_text(file, tmp_path):
    other = tmp_path / "other.sqlite"
    with TranscriptCache(other) as cache:
        cache.put(entries(*range(1000, 1100)))
    start(die_while_writing, other).join()
    os.replace(f"{other}-journal", f"{file}-journal")
    with pytest.warns(UserWarning, match="found the transcript cache damaged"), TranscriptCache(file) as cache:
        assert cache.get(ENTRIES).items() <= ENTRIES.items()
        cache.put(ENTRIES)
    with silently(), TranscriptCache(file) as cache:
        assert cache.get(ENTRIES) == ENTRIES
    assert is_valid(file)


def test_a_journal_goes_aside_with_the_file_that_it_belongs_to(file):
    shell = sqlite3.connect(file, isolation_level=None)
    shell.execute("BEGIN IMMEDIATE")
    shell.execute("DELETE FROM transcripts")
    file.write_bytes(with_another_header(file.read_bytes()))
    with pytest.warns(UserWarning, match="117 entries"), TranscriptCache(file):
        assert Path(f"{file}.damaged-1-journal").exists()
        assert not Path(f"{file}-journal").exists()
    shell.close()
    with silently(), TranscriptCache(file) as cache:
        assert len(cache.get(ENTRIES)) == 117


def die_while_repairing(path: Path) -> None:
    module._readable_rows = lambda _: os.kill(os.getpid(), signal.SIGKILL)
    TranscriptCache(path)


def test_a_repair_that_was_cut_off_is_done_again(file):
    file.write_bytes(with_another_header(file.read_bytes()))
    child = start(die_while_repairing, file)
    child.join()
    assert child.exitcode == -signal.SIGKILL
    with pytest.warns(UserWarning, match="117 entries .*damaged-2"), TranscriptCache(file) as cache:
        assert len(cache.get(ENTRIES)) == 117


def test_a_repair_that_finds_the_disk_full_leaves_all_as_it_was(file, monkeypatch):
    def fill_up(source, copy):
        copy.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file.write_bytes(with_another_header(file.read_bytes()))
    monkeypatch.setattr(module.shutil, "copyfile", fill_up)
    with pytest.raises(ValueError, match=r"transcripts.sqlite: the disk is full\. Free some space and run again"):
        TranscriptCache(file)
    assert {one.name for one in file.parent.iterdir()} <= {file.name, f"{file.name}.lock"}


def open_damaged(path: Path, barrier, results) -> None:
    barrier.wait()
    with warnings.catch_warnings(record=True) as caught, TranscriptCache(path) as cache:
        results.put((len(caught), len(cache.get(ENTRIES))))


def test_of_processes_that_find_the_damage_together_one_repairs(file):
    file.write_bytes(with_a_page_overwritten(file.read_bytes()))
    barrier, results = fork.Barrier(3), fork.SimpleQueue()
    finish(*(start(open_damaged, file, barrier, results) for _ in range(3)))
    warned, found = zip(*(results.get() for _ in range(3)), strict=True)
    assert sorted(warned) == [0, 0, 1]
    assert len(set(found)) == 1 and found[0] >= 100
    assert [one.name for one in file.parent.glob("*.damaged-*")] == ["transcripts.sqlite.damaged-1"]


def repair(path: Path) -> None:
    with pytest.warns(UserWarning, match="damaged"), TranscriptCache(path) as cache:
        cache.put(entries(500))


@pytest.mark.parametrize(
    ("damaged", "looks"),
    [(with_a_page_overwritten, True), (with_another_header, False)],  # the first can be written to, the second cannot
)
def test_an_open_cache_goes_on_in_the_file_that_another_process_has_repaired(file, monkeypatch, damaged, looks):
    with silently(), TranscriptCache(file) as cache:
        file.write_bytes(damaged(file.read_bytes()))
        finish(start(repair, file))
        with monkeypatch.context() as patch:
            if not looks:  # as if the repair came just after it had looked
                patch.setattr(cache, "_reopen_if_replaced", lambda: None)
            cache.put(entries(501))
        assert cache.get(entries(500, 501)) == entries(500, 501)
        with TranscriptCache(file) as another:
            assert another.get(entries(500, 501)) == entries(500, 501)
        file.unlink()
        assert cache.get(ENTRIES) == {}


def test_damage_that_comes_while_the_file_is_open_is_repaired_by_the_next_put(file):
    with TranscriptCache(file) as cache:
        file.write_bytes(with_another_header(file.read_bytes()))
        with pytest.warns(UserWarning, match="file is not a database"):
            cache.put(entries(500))
        assert cache.get(entries(0, 500)) == entries(0, 500)


def test_a_lock_that_is_not_released_is_reported(file, monkeypatch):
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.05)
    holder = sqlite3.connect(file, isolation_level=None)
    with TranscriptCache(file) as cache:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ValueError, match=r"transcripts.sqlite: found .* locked by another process for 0.05 s, exp"):
            cache.put(entries(500))
        holder.execute("ROLLBACK")
        with FileLock(f"{file}.lock"), pytest.raises(ValueError, match="locked by another process"):
            cache.put(entries(500))
        cache.put(entries(500))
        assert cache.get(entries(500)) == entries(500)
    holder.close()


def test_a_path_that_cannot_be_written_is_reported(file, tmp_path):
    with pytest.raises(ValueError, match=r"found a folder, expected a file for the transcript cache\. Name another"):
        TranscriptCache(tmp_path)
    with pytest.raises(ValueError, match=r"cannot be used: Not a directory\. Expected .* name another with HF_SER"):
        TranscriptCache(file / "below" / "transcripts.sqlite")
    shut = tmp_path / "shut"
    shut.mkdir(mode=0o500)
    user = os.geteuid()
    try:
        os.seteuid(user or 65534)  # root may write anywhere
        with pytest.raises(PermissionError, match=r"shut/transcripts.sqlite: .*: Permission denied\. Expected"):
            TranscriptCache(shut / "transcripts.sqlite")
    finally:
        os.seteuid(user)
