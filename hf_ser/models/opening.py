"""Opens what soundfile reads wrongly or noisily: headers that promise too little, and MP3 with libmpg123's messages."""

import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import BytesIO, RawIOBase
from pathlib import Path

from .wrong_headers import header_patch

NOT_MP3 = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"FORM")
MPG123 = re.compile(
    rb"\[?[\w/.]*src/libmpg123/|(?:Warning|Note|Error): .*(?:Xing|LAME|ID3|MPEG|fuzzy|frame|sync|stream|header|gapless)"
)
"""How its messages begin: with their place in its code, or with a message about an MP3."""

_one_at_a_time = threading.RLock()


class PatchedFile(RawIOBase):
    """A file that can be sought in, with some bytes read as others, also as more or fewer.

    Args:
        file: The binary file, which stays the caller's to close.
        start, end: Where these bytes begin and end.
        new: What is read instead.
    """

    def __init__(self, file, start: int = 0, end: int = 0, new: bytes = b""):
        self.file, self.start, self.end, self.new, self.at = file, start, end, new, 0
        self.size = file.seek(0, 2) - (end - start) + len(new)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        new = offset + (0, self.at, self.size)[whence]
        if 0 <= new < 2**63:  # a damaged header may send libsndfile before the beginning
            self.at = new
        return self.at

    def tell(self) -> int:
        return self.at

    def readinto(self, buffer) -> int:
        done = 0
        while done < len(buffer):  # libsndfile takes fewer bytes than it wants for the end of the file
            content = self._next(len(buffer) - done)
            if not content:
                break
            buffer[done : done + len(content)] = content
            done, self.at = done + len(content), self.at + len(content)
        return done

    def _next(self, count: int) -> bytes:
        if self.at < self.start:
            return self._of_file(self.at, min(count, self.start - self.at))
        if (place := self.at - self.start) < len(self.new):
            return self.new[place : place + count]
        return self._of_file(self.at - len(self.new) + self.end - self.start, count)

    def _of_file(self, start: int, count: int) -> bytes:
        self.file.seek(start)
        return self.file.read(count)


@contextmanager
def opened_source(source) -> Iterator[tuple]:
    """What soundfile is given for a path, bytes or a file object, and what the header says wrongly, or None.

    A header that promises too little is read as one that tells the truth, so that all of the audio is read.
    """
    patch, note = header_patch(source)
    content = BytesIO(source) if isinstance(source, bytes) else source
    with open(source, "rb") if isinstance(source, str | Path) else nullcontext(content) as file:
        file.seek(0)  # it may have been read before
        head = file.read(12)
        head = head if isinstance(head, bytes) else b""  # a text file, which soundfile refuses
        file.seek(0)
        with nullcontext() if head[:4] in NOT_MP3 else without_mpg123_messages():
            if patch is None:
                # By its path, soundfile is faster than through a file object of Python; it opens names in UTF-8 alone.
                by_path = isinstance(source, str | Path) and _is_utf8(str(source))
                yield source if by_path else PatchedFile(file), note
            else:
                yield PatchedFile(file, *patch), note


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def without_mpg123_messages() -> Iterator[None]:
    """Leave out what libmpg123 prints while it reads; all else that goes to the standard error still comes.

    After a jump into an MP3 it lacks the bits that earlier frames have saved up, says so in pages, and recovers. It
    prints to the file descriptor, where Python cannot filter, so the descriptor leads to a file meanwhile.
    """
    with _one_at_a_time:
        try:
            sys.stderr.flush()
            saved = os.dup(2)
        except (OSError, AttributeError, ValueError):  # a program without a standard error
            yield
            return
        with tempfile.TemporaryFile() as caught:
            _saved.append(saved)
            os.dup2(caught.fileno(), 2)
            try:
                yield
            finally:
                try:
                    sys.stderr.flush()
                finally:
                    if saved in _saved:  # not in a child, where it is done
                        os.dup2(saved, 2)
                        _saved.remove(saved)
                        os.close(saved)
                caught.seek(0)
                if kept := b"".join(line for line in caught if not MPG123.match(line)):
                    os.write(2, kept)


_saved: list[int] = []
"""Where the standard error leads to while it is caught, the outermost first."""


def _after_fork_in_child() -> None:
    """Let a child go on whose parent was reading an MP3 in another thread, which does not exist in the child."""
    global _one_at_a_time
    _one_at_a_time = threading.RLock()
    if _saved:
        os.dup2(_saved[0], 2)
        for saved in _saved:
            os.close(saved)
        _saved.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork_in_child)
