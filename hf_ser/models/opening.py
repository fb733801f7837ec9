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

from .lying_headers import header_patch

NOT_MP3 = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"FORM")
MPG123 = re.compile(
    rb"\[?[\w/.]*src/libmpg123/|(?:Warning|Note|Error): .*(?:Xing|LAME|ID3|MPEG|fuzzy|frame|sync|stream|header|gapless)"
)
"""How its messages begin: with their place in its code, or in words about an MP3."""

_one_at_a_time = threading.RLock()


class PatchedFile(RawIOBase):
    """A file that can be sought in, with some bytes read as others of the same number.

    Args:
        file: The binary file, which stays the caller's to close.
        start: Where these bytes begin.
        new: The bytes that are read instead.
    """

    def __init__(self, file, start: int, new: bytes):
        self.file, self.start, self.new = file, start, new

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self.file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):  # a damaged header may send libsndfile before the beginning
            return self.file.tell()

    def tell(self) -> int:
        return self.file.tell()

    def readinto(self, buffer) -> int:
        start = self.file.tell()
        content = bytearray(self.file.read(len(buffer)))
        for index, byte in enumerate(self.new, self.start - start):
            if 0 <= index < len(content):
                content[index] = byte
        buffer[: len(content)] = content
        return len(content)


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
                yield source if by_path else PatchedFile(file, 0, b""), note
            elif patch[1] - patch[0] == len(patch[2]):
                yield PatchedFile(file, patch[0], patch[2]), note
            else:  # an MP3 that is given a frame more
                content = file.read()
                yield BytesIO(content[: patch[0]] + patch[2] + content[patch[1] :]), note


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
            os.dup2(caught.fileno(), 2)
            try:
                yield
            finally:
                try:
                    sys.stderr.flush()
                finally:
                    os.dup2(saved, 2)
                    os.close(saved)
                caught.seek(0)
                if kept := b"".join(line for line in caught if not MPG123.match(line)):
                    os.write(2, kept)
