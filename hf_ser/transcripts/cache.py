"""What was decoded once, kept in one SQLite file that several processes share and that outlives kills and damage."""

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

DECODING = "1"
"""Version of the decoding. Raise it when that comes to give other words: everything is then decoded anew."""

LOCK_SECONDS = 60
"""How long one process waits for another; a `put` takes milliseconds."""

POLL_SECONDS = 0.005
PORTION = 500
"""Keys asked for at once; older SQLite takes 999 variables in a statement."""

TABLE = "CREATE TABLE IF NOT EXISTS transcripts (key TEXT PRIMARY KEY, checksum TEXT NOT NULL, value TEXT NOT NULL)"
KEY_DIGITS, CHECKSUM_DIGITS = 64, 16
JSON_OBJECT = re.compile(rb'\{(?:[^"{}\x00-\x1f\x80-\xff]|"(?:[^"\\\x00-\x1f\x80-\xff]|\\.)*")*\}')
"""One as `_row` writes it: ASCII, and without another in it."""

SQLITE_ERRORS = (sqlite3.DatabaseError, UnicodeDecodeError)
"""The second where SQLite quotes damaged bytes in a message, which Python then cannot read."""

Row = tuple[str, str, str]
"""Key, checksum and value, in the order in which their bytes stand in the file."""

Answer = TypeVar("Answer")


def cache_file() -> Path:
    """The user's own: `transcripts.sqlite` in the cache folder."""
    return cache_folder() / "transcripts.sqlite"


def transcript_key(pcm_sha256: str, revision: str, language: str | None, options: DecodeOptions) -> str:
    """Under which a transcript is kept: a hash of all that decides it.

    Args:
        pcm_sha256: Of the sound, as `hf_ser.data.audio.pcm_sha256` gives it.
        revision: Of the model, as `Recogniser.revision`.
        language: That the model is told; None where it is to be detected.
        options: Of the decoding.
    """
    decides = {
        "decoding": DECODING,
        "fields": [field.name for field in fields(Transcript)],  # an entry of other fields could not be read back
        "pcm_sha256": pcm_sha256,
        "revision": revision,
        "language": language,
        "options": asdict(options),
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


class TranscriptCache:
    """Transcripts by key, in a file that is made where it is missing and repaired where it is damaged.

    Several processes may use it at once, each with a cache that it has opened itself (not one from before a fork) and
    uses in one thread. The journal is SQLite's default one, not the write-ahead log: that needs memory which all share,
    so it would shut out a folder on a network. A kill loses at most the `put` under way.

    Each row has a checksum, so damage costs entries, never words: an entry that it does not fit counts as missing. A
    file that SQLite finds damaged is kept as `transcripts.sqlite.damaged-1` (or -2, ...), and what can still be read of
    it goes into a new one. Both are told by `warnings.warn`, so that callers need do nothing.

    Args:
        path: The file; its folder is made where it is missing.

    Raises:
        ValueError: the path is a folder, the disk is full, another process keeps the file locked; also of `get`, `put`.
        PermissionError: the folder or the file may not be written.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._connection, self._inode = None, None
        self._lock = FileLock(f"{self.path}.lock", timeout=LOCK_SECONDS)
        with self._told():
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
        """Let go of the file; what was put is in it already."""
        if self._connection is not None:
            self._connection.close()

    def get(self, keys: Iterable[str]) -> dict[str, Transcript]:
        """The transcripts of those keys that are there."""
        keys = list(dict.fromkeys(keys))
        rows = self._run(lambda: self._select(keys))
        sound = {key: value for key, checksum, value in rows if checksum == _checksum(key, value)}
        if lost := len(rows) - len(sound):
            warnings.warn(
                f"{self.path}: found {lost} of {len(rows)} entries altered (their checksum does not fit). They count "
                "as missing and are decoded again; if it happens often, look at the disk.",
                stacklevel=2,
            )
        return {key: Transcript(**json.loads(value)) for key, value in sound.items()}

    def put(self, entries: Mapping[str, Transcript]) -> None:
        """Keep transcripts, all or none; they are on the disk when this returns."""
        rows = [_row(key, transcript) for key, transcript in entries.items()]
        if rows:
            self._run(lambda: self._insert(rows))

    def _select(self, keys: list[str]) -> list[Row]:
        self._follow()
        rows = []
        for start in range(0, len(keys), PORTION):
            part = keys[start : start + PORTION]
            places = ",".join("?" * len(part))
            query = f"SELECT key, checksum, value FROM transcripts WHERE key IN ({places})"
            rows += self._connection.execute(query, part).fetchall()
        return rows

    def _insert(self, rows: list[Row]) -> None:
        with self._alone():  # else it could go into a file that another process is just replacing
            self._follow()
            _write(self._connection, rows)

    def _run(self, action: Callable[[], Answer]) -> Answer:
        """What an action on the file gives; where it meets damage, on the repaired file."""
        with self._told():
            try:
                return action()
            except SQLITE_ERRORS as error:
                if not _means_damage(error):
                    raise
                self._open(str(error))
                return action()

    def _follow(self) -> None:
        """Open the file that is there now, where another process has repaired it or a user has removed it."""
        if self._inode != _inode(self.path):
            self._open()

    def _open(self, damage: str | None = None) -> None:
        """Open the file, repaired first where it is damaged.

        Args:
            damage: What reading or writing it has met, which the quick check may not find.
        """
        with self._alone():
            if self._inode != _inode(self.path):
                damage = None  # it was met in the file of before, which another process has repaired meanwhile
            self.close()
            self._inode = None  # should the rest fail, the next use opens it again
            self._connection = _connect(self.path)
            damage = _damage(self._connection) or damage
            if damage:
                self._connection.close()
                _repair(self.path, damage)
                self._connection = _connect(self.path)
            self._inode = _inode(self.path)

    def _alone(self):
        """Hold the lock under which the file is written, and replaced by a repaired one."""
        return self._lock.acquire(poll_interval=POLL_SECONDS)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Errors of the system in our words."""
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
    """Which file bears this name; None where there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _connect(database: str | Path, uri: bool = False) -> sqlite3.Connection:
    connection = sqlite3.connect(database, timeout=LOCK_SECONDS, isolation_level=None, uri=uri)
    connection.text_factory = lambda raw: raw.decode(errors="replace")  # a flipped bit may leave no UTF-8
    return connection


def _write(connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
    with connection:  # commits, or takes back what an error left half-way
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT OR REPLACE INTO transcripts (key, checksum, value) VALUES (?, ?, ?)", rows)


def _damage(connection: sqlite3.Connection) -> str | None:
    """What is wrong with a database; one that is new gets its table."""
    try:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        connection.execute(TABLE)
    except SQLITE_ERRORS as error:
        if not _means_damage(error):
            raise
        return str(error)
    return None if found == "ok" else " ".join(found.split())


def _means_damage(error: Exception) -> bool:
    """Whether the file is to blame, and not a lock, a full disk or missing rights, which are OperationalErrors.

    Of these only a missing table or column (the file was emptied, or is another program's) and a header that tells of a
    future version are damage.
    """
    found = str(error).startswith(("no such", "unsupported file"))
    return found or type(error) in (sqlite3.DatabaseError, UnicodeDecodeError)


def _repair(path: Path, damage: str) -> None:
    """Put a damaged file aside and what can be read of it into a new one. The lock is held, nothing is open."""
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
        aside.unlink(missing_ok=True)  # where the disk is full, every run would add a copy
        raise
    with suppress(FileNotFoundError):
        os.replace(f"{path}-journal", f"{aside}-journal")  # else it would be played back into the new file
    os.replace(fresh, path)
    warnings.warn(
        f"{path}: found the transcript cache damaged ({damage}). {len(rows)} entries could be read and were kept, "
        f"others are decoded again. The damaged file is {aside}: remove it when you have seen it.",
        stacklevel=2,
    )


def _readable_rows(file: Path) -> Iterator[Row]:
    """What a damaged file still holds, each as often as it is found; only what fits its checksum."""
    for key, checksum, value in chain(_rows_in_bytes(file), _rows_in_table(file)):  # the table, found last, prevails
        if checksum == _checksum(key, value):
            yield key, checksum, value


def _rows_in_bytes(file: Path) -> Iterator[Row]:
    """Rows by their looks, wherever they lie; those of more than a page (some 4,000 letters) lie in pieces."""
    content = file.read_bytes()
    for found in JSON_OBJECT.finditer(content):
        value_at, checksum_at = found.start(), found.start() - CHECKSUM_DIGITS
        before = content[max(0, checksum_at - KEY_DIGITS) : value_at].decode("latin-1")
        yield before[:KEY_DIGITS], before[KEY_DIGITS:], found[0].decode()


def _rows_in_table(file: Path) -> Iterator[Row]:
    """Rows as far as SQLite reads, from the first on and from the last back."""
    address = f"{file.absolute().as_uri()}?mode=ro&immutable=1"  # it stays as it is: no journal is played back
    with closing(_connect(address, uri=True)) as connection:
        for order in ("ASC", "DESC"):
            with suppress(*SQLITE_ERRORS):
                yield from connection.execute(f"SELECT key, checksum, value FROM transcripts ORDER BY rowid {order}")
