"""Transcript cache: one SQLite file that several processes share and that survives kills and damage."""

import errno
import hashlib
import json
import os
import re
import shutil
import sqlite3
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, fields
from itertools import chain, count
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from hf_ser.files import cache_folder
from hf_ser.transcripts.recogniser import DecodeOptions, Transcript

DECODING_VERSION = "2"
"""Version of the decoding. Raise it when its transcripts change: everything is then decoded again."""

LOCK_SECONDS = 60
"""Longest wait for another process; a `put` takes milliseconds."""

POLL_SECONDS = 0.005
KEYS_PER_QUERY = 500
"""Keys of one query; older SQLite allows 999 variables in a statement."""

TABLE = "CREATE TABLE IF NOT EXISTS transcripts (key TEXT PRIMARY KEY, checksum TEXT NOT NULL, value TEXT NOT NULL)"
KEY_DIGITS, CHECKSUM_DIGITS = 64, 16
JSON_OBJECT = re.compile(rb'\{(?:[^"{}\x00-\x1f\x80-\xff]|"(?:[^"\\\x00-\x1f\x80-\xff]|\\.)*")*\}')
"""JSON object as `_row` writes it: ASCII, and not nested."""

SQLITE_ERRORS = (sqlite3.DatabaseError, UnicodeDecodeError)
"""UnicodeDecodeError: SQLite quotes damaged bytes in a message, which Python cannot decode."""

Row = tuple[str, str, str]
"""Key, checksum and value, in the order of their bytes in the file."""

Result = TypeVar("Result")


def cache_file() -> Path:
    """Path of the user's transcript cache: `transcripts.sqlite` in the cache folder."""
    return cache_folder() / "transcripts.sqlite"


def transcript_key(pcm_sha256: str, revision: str, language: str | None, options: DecodeOptions) -> str:
    """Cache key of a transcript: a hash of everything that determines it.

    Args:
        pcm_sha256: Hash of the audio, from `hf_ser.data.audio.pcm_sha256`.
        revision: `Recogniser.revision`.
        language: Language given to the model; None if it is detected.
        options: Decoding options.
    """
    parts = {
        "decoding": DECODING_VERSION,
        "fields": [field.name for field in fields(Transcript)],  # an entry with other fields could not be read back
        "pcm_sha256": pcm_sha256,
        "revision": revision,
        "language": language,
        "options": asdict(options),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class TranscriptCache:
    """Transcripts by key, in a file that is created if missing and repaired if damaged.

    Several processes may use the file at once; each opens its own cache (after a fork) and uses it in one thread. The
    journal is SQLite's default one: the write-ahead log needs shared memory, which network folders lack. A kill loses
    at most the current `put`.

    Each row has a checksum; an entry that does not match it counts as missing. A file that SQLite finds damaged is kept
    as `transcripts.sqlite.damaged-1` (or -2, ...), and its readable rows go into a new file. Both give a warning.

    Args:
        path: The file; its folder is created if missing.

    Raises:
        ValueError: the path is a folder, the disk is full, another process keeps the file locked; also of `get`, `put`.
        PermissionError: the folder or the file is not writable.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._connection, self._inode = None, None
        self._lock = FileLock(f"{self.path}.lock", timeout=LOCK_SECONDS)
        with self._errors_explained():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.is_dir():
                raise ValueError(
                    f"{self.path}: found a folder, expected a file for the transcript cache. Name another."
                )
            self._open()

    def __enter__(self) -> "TranscriptCache":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; all that was put is stored already."""
        if self._connection is not None:
            self._connection.close()

    def get(self, keys: Iterable[str]) -> dict[str, Transcript]:
        """Return the cached transcripts among some keys."""
        keys = list(dict.fromkeys(keys))
        rows = self._run(lambda: self._select(keys))
        valid = {key: value for key, checksum, value in rows if checksum == _checksum(key, value)}
        if lost := len(rows) - len(valid):
            warnings.warn(
                f"{self.path}: found {lost} of {len(rows)} entries altered (their checksum does not match). They count "
                "as missing and are decoded again; if it happens often, look at the disk.",
                stacklevel=2,
            )
        return {key: Transcript(**json.loads(value)) for key, value in valid.items()}

    def put(self, entries: Mapping[str, Transcript]) -> None:
        """Store transcripts, all or none; they are on the disk when this returns."""
        rows = [_row(key, transcript) for key, transcript in entries.items()]
        if rows:
            self._run(lambda: self._insert(rows))

    def _select(self, keys: list[str]) -> list[Row]:
        self._reopen_if_replaced()
        rows = []
        for start in range(0, len(keys), KEYS_PER_QUERY):
            part = keys[start : start + KEYS_PER_QUERY]
            places = ",".join("?" * len(part))
            query = f"SELECT key, checksum, value FROM transcripts WHERE key IN ({places})"
            rows += self._connection.execute(query, part).fetchall()
        return rows

    def _insert(self, rows: list[Row]) -> None:
        with self._locked():  # else the row could go into a file that another process is replacing
            self._reopen_if_replaced()
            _write(self._connection, rows)

    def _run(self, action: Callable[[], Result]) -> Result:
        """Run an action on the file; if it finds damage, repair the file and run it again."""
        with self._errors_explained():
            try:
                return action()
            except SQLITE_ERRORS as error:
                if not _is_damage(error):
                    raise
                self._open(str(error))
                return action()

    def _reopen_if_replaced(self) -> None:
        """Open the file again if another process has repaired it or a user has removed it."""
        if self._inode != _inode(self.path):
            self._open()

    def _open(self, damage: str | None = None) -> None:
        """Open the file, after repairing it if it is damaged.

        Args:
            damage: Error of a read or write, which the quick check may not find.
        """
        with self._locked():
            if self._inode != _inode(self.path):
                damage = None  # it was in the previous file, which another process has repaired
            self.close()
            self._inode = None  # if the rest fails, the next use opens it again
            self._connection = _connect(self.path)
            damage = _find_damage(self._connection) or damage
            if damage:
                self._connection.close()
                _repair(self.path, damage)
                self._connection = _connect(self.path)
            self._inode = _inode(self.path)

    def _locked(self):
        """Hold the lock for writing and for replacing the file."""
        return self._lock.acquire(poll_interval=POLL_SECONDS)

    @contextmanager
    def _errors_explained(self) -> Iterator[None]:
        """Turn system errors into messages with a remedy."""
        try:
            yield
        except (OSError, sqlite3.OperationalError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            if isinstance(error, Timeout) or "locked" in reason:
                raise ValueError(
                    f"{self.path}: found the transcript cache locked by another process for {LOCK_SECONDS} s, expected "
                    "it to be free within milliseconds. End the process that holds it (such as a sqlite3 shell in a "
                    "transaction, or a stopped run), then run again: what was decoded before is kept."
                ) from error
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "full" in reason:
                raise ValueError(
                    f"{self.path}: the disk is full. Free some space and run again, which continues where this ended, "
                    "or name another folder with HF_SER_CACHE."
                ) from error
            kind = PermissionError if isinstance(error, PermissionError) or "readonly" in reason else ValueError
            raise kind(
                f"{self.path}: the transcript cache cannot be used: {reason}. Expected a file that may be written, in "
                "a folder that may be written: name another with HF_SER_CACHE, or remove the file."
            ) from error


def _row(key: str, transcript: Transcript) -> Row:
    value = json.dumps(vars(transcript))
    return key, _checksum(key, value), value


def _checksum(key: str, value: str) -> str:
    return hashlib.sha256(f"{key}{value}".encode()).hexdigest()[:CHECKSUM_DIGITS]


def _inode(path: Path) -> tuple[int, int] | None:
    """Device and inode of a file; None if there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _connect(database: str | Path, uri: bool = False) -> sqlite3.Connection:
    connection = sqlite3.connect(database, timeout=LOCK_SECONDS, isolation_level=None, uri=uri)
    connection.text_factory = lambda raw: raw.decode(errors="replace")  # a flipped bit may not be UTF-8
    return connection


def _write(connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
    with connection:  # commits, or rolls back after an error
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT OR REPLACE INTO transcripts (key, checksum, value) VALUES (?, ?, ?)", rows)


def _find_damage(connection: sqlite3.Connection) -> str | None:
    """Damage of a database, None if there is none; a new one gets its table."""
    try:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        connection.execute(TABLE)
    except SQLITE_ERRORS as error:
        if not _is_damage(error):
            raise
        return str(error)
    return None if found == "ok" else " ".join(found.split())


def _is_damage(error: Exception) -> bool:
    """Whether an error is damage of the file, and not a lock, a full disk or missing rights (OperationalErrors).

    Of OperationalErrors only a missing table or column (the file was emptied, or is another program's) and a header of
    a future version are damage.
    """
    found = str(error).startswith(("no such", "unsupported file"))
    return found or type(error) in (sqlite3.DatabaseError, UnicodeDecodeError)


def _repair(path: Path, damage: str) -> None:
    """Keep a damaged file under another name and copy its readable rows into a new one, under the lock."""
    aside = next(file for n in count(1) if not (file := path.with_name(f"{path.name}.damaged-{n}")).exists())
    fresh = path.with_name(f"{path.name}.repaired")
    try:
        shutil.copyfile(path, aside)  # not renamed: a kill after that would leave no cache at all
        rows = {row[0]: row for row in _readable_rows(aside)}
        for leftover in (fresh, Path(f"{fresh}-journal")):
            leftover.unlink(missing_ok=True)
        with closing(_connect(fresh)) as connection:
            connection.execute(TABLE)
            _write(connection, rows.values())
    except (OSError, sqlite3.Error):
        aside.unlink(missing_ok=True)  # else every run on a full disk would add a copy
        raise
    with suppress(FileNotFoundError):
        os.replace(f"{path}-journal", f"{aside}-journal")  # else it would be replayed into the new file
    os.replace(fresh, path)
    warnings.warn(
        f"{path}: found the transcript cache damaged ({damage}). {len(rows)} entries could be read and were kept, "
        f"others are decoded again. The damaged file is {aside}: remove it when you have seen it.",
        stacklevel=2,
    )


def _readable_rows(file: Path) -> Iterator[Row]:
    """Rows of a damaged file that match their checksum; a row may come twice."""
    for key, checksum, value in chain(
        _rows_in_bytes(file), _rows_in_table(file)
    ):  # rows of the table come last and win
        if checksum == _checksum(key, value):
            yield key, checksum, value


def _rows_in_bytes(file: Path) -> Iterator[Row]:
    """Rows found by pattern anywhere in the file, except those of more than a page (some 4,000 letters)."""
    content = file.read_bytes()
    for found in JSON_OBJECT.finditer(content):
        value_at, checksum_at = found.start(), found.start() - CHECKSUM_DIGITS
        before = content[max(0, checksum_at - KEY_DIGITS) : value_at].decode("latin-1")
        yield before[:KEY_DIGITS], before[KEY_DIGITS:], found[0].decode()


def _rows_in_table(file: Path) -> Iterator[Row]:
    """Rows that SQLite can read, forwards from the first and backwards from the last."""
    address = f"{file.absolute().as_uri()}?mode=ro&immutable=1"  # read-only: no journal is replayed
    with closing(_connect(address, uri=True)) as connection:
        for order in ("ASC", "DESC"):
            with suppress(*SQLITE_ERRORS):
                yield from connection.execute(f"SELECT key, checksum, value FROM transcripts ORDER BY rowid {order}")
