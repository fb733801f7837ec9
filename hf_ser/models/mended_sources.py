"""Files that soundfile alone reads wrongly or noisily: WAV headers of streams, and MP3 with libmpg123's messages."""

import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import BytesIO, RawIOBase
from pathlib import Path

NOT_MP3 = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"FORM")
MPG123 = re.compile(
    rb"\[?[\w/.]*src/libmpg123/|(?:Warning|Note|Error): .*(?:Xing|LAME|ID3|MPEG|fuzzy|frame|sync|stream|header|gapless)"
)
"""How its messages begin: with their place in its code, or in words about an MP3."""
LARGEST = 0xFFFFFFFF
MOST_CHUNKS = 1000

_one_at_a_time = threading.RLock()


class PatchedFile(RawIOBase):
    """A file that can be sought in, with a few bytes read as others.

    Args:
        file: The binary file, which stays the caller's to close.
        patches: New bytes by their place.
    """

    def __init__(self, file, patches: dict[int, bytes]):
        self.file, self.patches = file, patches

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def readinto(self, buffer) -> int:
        start = self.file.tell()
        content = bytearray(self.file.read(len(buffer)))
        for place, new in self.patches.items():
            for index, byte in enumerate(new, place - start):
                if 0 <= index < len(content):
                    content[index] = byte
        buffer[: len(content)] = content
        return len(content)


@contextmanager
def opened_source(source) -> Iterator:
    """What soundfile is given for a path, bytes or a file object.

    A program that writes a WAV into a pipe leaves the size of the samples as 0. Where samples follow all the same, the
    size is read as that of the rest of the file.
    """
    content = BytesIO(source) if isinstance(source, bytes) else source
    with open(source, "rb") if isinstance(source, str | Path) else nullcontext(content) as file:
        file.seek(0)  # it may have been read before
        head = file.read(12)
        head = head if isinstance(head, bytes) else b""  # a text file, which soundfile refuses
        patches = stream_patches(file) if head[:4] == b"RIFF" and head[8:] == b"WAVE" else {}
        file.seek(0)
        if patches:
            yield PatchedFile(file, patches)
        else:
            with nullcontext() if head[:4] in NOT_MP3 else without_mpg123_messages():
                # By its path, soundfile is faster than through a file object of Python; it opens names in UTF-8 alone.
                yield source if isinstance(source, str | Path) and _is_utf8(str(source)) else file


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def stream_patches(file) -> dict[int, bytes]:
    """The sizes to put into the header of a WAV whose samples have the size 0, though some follow; else nothing."""
    end = file.seek(0, 2)
    place = _data_of_size_zero(file, end)
    if place is None or place + 8 >= end or _are_chunks(file, place + 8, end):
        return {}
    size = min(end - place - 8, LARGEST - place - 8)
    return {4: min(end - 8, LARGEST).to_bytes(4, "little"), place + 4: size.to_bytes(4, "little")}


def _data_of_size_zero(file, end: int) -> int | None:
    place = 12
    for _ in range(MOST_CHUNKS):
        if place + 8 > end:
            return None
        file.seek(place)
        name, size = file.read(4), int.from_bytes(file.read(4), "little")
        if name == b"data":
            return place if size == 0 else None
        place += 8 + size + size % 2
    return None


def _are_chunks(file, place: int, end: int) -> bool:
    """Whether chunks of a WAV, such as tags after an empty recording, fill the file from here to its end."""
    for _ in range(MOST_CHUNKS):
        if place >= end:
            return True
        file.seek(place)
        name, size = file.read(4), int.from_bytes(file.read(4), "little")
        if not (name.isascii() and name.decode("ascii").isprintable() and place + 8 + size <= end):
            return False
        place += 8 + size + size % 2
    return False


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
