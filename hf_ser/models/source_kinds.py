"""The forms in which audio is handed over: files and what they really are, arrays and their layout."""

import os
import re
import sys
from collections.abc import Iterator
from io import BytesIO, TextIOBase
from numbers import Real
from pathlib import Path

import numpy as np

MOST_CHANNELS_OF_AN_ARRAY, MOST_ROWS_OF_ONE_CLIP = 8, 2
"""More columns, or rows, than this are clips, not channels: a batch is `(clips, samples)`."""

WEB_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|https?:/")
"""Of http, and of storage such as s3; pathlib makes one slash of two."""

BLOCK_FRAMES = 2**16
KERNEL_FOLDERS = ("/proc/", "/sys/")
"""What looks like a file there may block whoever reads it, or tell of this process."""

MOST_OF_A_PAGE = 65_307
"""Bytes of the longest page of OGG."""

BEGINNINGS = {
    b"\x1a\x45\xdf\xa3": "WebM or Matroska",
    b"\x30\x26\xb2\x75": "Windows Media (WMA)",
    b"#!AMR": "AMR",
    b"FLV": "Flash video",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"%PDF": "a PDF",
    b"\x89PNG": "a PNG picture",
    b"version https://git-lfs": "a Git LFS pointer, not the file: run git lfs pull",
    b"<!DOCTYPE": "a web page",
    b"<html": "a web page",
}
"""How files begin that go by the name of audio and that soundfile cannot read."""


class ArraySource:
    """Samples in memory, as a stream that `decoding` reads.

    Args:
        array: `(frames, channels)`.
        samplerate: Hz.
    """

    def __init__(self, array: np.ndarray, samplerate: float):
        self.array, self.samplerate, self.channels, self.length = array, samplerate, array.shape[1], len(array)
        self.floats = array.dtype.kind == "f"
        self.exact = array.dtype.kind in "iu" and array.dtype.itemsize <= 2
        self.subtype = str(array.dtype)

    def blocks(self, first: int, last: float) -> Iterator[np.ndarray]:
        """Shapes: `(frames, channels)` float32."""
        for start in range(first, int(last), BLOCK_FRAMES):
            yield _as_float(self.array[start : min(start + BLOCK_FRAMES, int(last))])


def _as_float(block: np.ndarray) -> np.ndarray:
    if block.dtype.kind == "f":
        return block.astype(np.float32)
    limits = np.iinfo(block.dtype)
    middle = (int(limits.max) + int(limits.min) + 1) // 2  # 0, but 128 in unsigned 8-bit
    return ((block.astype(np.float64) - middle) / (int(limits.max) - middle + 1)).astype(np.float32)


def plain_source(source) -> tuple:
    """Any form of audio as a path, bytes, a file object that can be sought in or an `ArraySource`, and its name.

    Raises:
        FileNotFoundError: the path does not exist.
        ValueError: no regular file, no form of audio, an array without its rate, of more than two axes or of no known
            layout.
    """
    if hasattr(source, "get_all_samples"):  # a decoder of torchcodec, as `datasets` gives with it
        decoded = source.get_all_samples()
        return array_source(np.asarray(decoded.data).T, decoded.sample_rate), "audio given as AudioDecoder"
    if pair := _rate_and_array(source):
        source = dict(zip(("sampling_rate", "array"), pair, strict=True))
    given = source
    if isinstance(source, dict):
        array = source.get("array", source.get("raw"))
        if array is not None and source.get("sampling_rate"):
            return array_source(array, source["sampling_rate"]), "an array given"
        source = np.asarray(array) if array is not None else source.get("bytes") or source.get("path")
    if is_array(source):
        raise ValueError(
            f"An array of shape {tuple(source.shape)} was given without its sampling rate. Expected a dictionary: pass "
            '{"array": array, "sampling_rate": rate_in_hz}.'
        )
    if isinstance(source, bytearray | memoryview):
        source = bytes(source)
    if isinstance(source, TextIOBase):
        raise ValueError(
            f"{getattr(source, 'name', type(source).__name__)}: a file that was opened as text. Expected a binary one: "
            "open it with mode 'rb', or give its path."
        )
    if hasattr(source, "read"):
        if getattr(source, "closed", False):
            raise ValueError(f"{type(source).__name__}: a closed file. Expected an open one: open it anew.")
        return _sought(source), f"{type(source).__name__} given"
    if not isinstance(source, str | Path | bytes):
        keys = f" Found the keys {', '.join(map(str, given))}." if isinstance(given, dict) else ""
        raise ValueError(
            f"Cannot decode {type(source).__name__}: expected a path, bytes, a binary file object or a dictionary with "
            f"bytes, path, or array and sampling_rate.{keys}"
        )
    if isinstance(source, bytes):
        return source, "bytes given"
    check_regular_file(source)
    return source, str(source)


def content_hint(source) -> str | None:
    """What is plainly wrong with a file or bytes that no reader knows: nothing is in it, or it is a text."""
    head = _head(source, 4096)
    if not head:
        return "it has 0 bytes, as a copy or a recording that failed or has not ended"
    return "it is a text file, so give the recording itself" if _is_text(head) else None


def check_regular_file(path: str | Path) -> None:
    """Make sure that a path is a file with contents of its own, which a table or a user may name.

    Raises:
        FileNotFoundError: there is none, or it is a folder or an address of the web.
        ValueError: a device, pipe or socket (which may never end), or a file of the kernel.
    """
    wanted = "Expected an audio file (WAV, FLAC, OGG or MP3)"
    if WEB_ADDRESS.match(str(path)):
        found = "a web address, and nothing is downloaded here"
        raise FileNotFoundError(f"{path}: found {found}. {wanted}: download it first, and give the file.")
    if not str(path):
        raise FileNotFoundError(f"The path is empty. {wanted}: name one.")
    if os.path.isdir(path):
        remedy = "give the files in it, or the folder to scripts/predict.py, which reads all of them"
        raise FileNotFoundError(f"{path}: found a folder. {wanted}: {remedy}.")
    if not os.path.isfile(path):
        if not os.path.exists(path):  # Path's own raises of a name that is too long
            raise FileNotFoundError(f"{path}: no such file. {wanted}.")
        raise ValueError(
            f"{path}: no regular file but a device, pipe or socket, which may never end. {wanted}: name one."
        )
    if os.path.realpath(path).startswith(KERNEL_FOLDERS):
        raise ValueError(f"{path}: a file of the kernel, not one on a disk. {wanted}: name one.")


def _rate_and_array(source) -> tuple | None:
    """`(rate, array)` of gradio, or `(array, rate)` of librosa, soundfile and torchaudio."""
    if not isinstance(source, tuple) or len(source) != 2:
        return None
    for rate, array in (source, source[::-1]):
        if isinstance(rate, Real) and is_array(array):
            return rate, array
    return None


def is_rate_and_array(source) -> bool:
    """Whether a tuple is one clip, not two."""
    return _rate_and_array(source) is not None


def _sought(file):
    try:
        if file.seekable():
            return file
    except (AttributeError, ValueError, OSError):
        pass
    content = file.read()  # a pipe or a download
    return BytesIO(content) if isinstance(content, bytes) else file


def array_source(array, rate) -> ArraySource:
    """An array of one clip, `(samples,)`, `(samples, channels)` or `(channels, samples)`.

    Raises:
        ValueError: of other axes, of more rows than channels, of no known scale, or the rate is no number above 0.
    """
    array = _as_array(array)
    if array.dtype in (np.int64, np.uint64):
        raise ValueError(
            "Audio is given as 64-bit integers, which no recording is: whether they are 16-bit samples is not known. "
            "Expected floats from -1 to 1, or samples as int16, int32 or uint8: convert it, as array.astype('int16')."
        )
    if array.dtype.kind not in "fiu":
        raise ValueError(f"Audio is given as {array.dtype}. Expected floats from -1 to 1, or integers: convert it.")
    if array.ndim not in (1, 2):
        raise ValueError(f"Audio has shape {array.shape}: expected (samples,) or (samples, channels).")
    given = rate
    try:
        rate = float(rate)
    except (TypeError, ValueError):
        rate = float("nan")
    if not rate > 0 or isinstance(given, list | tuple):
        several = "; give several clips as a list of dictionaries" if isinstance(given, list | tuple) else ""
        raise ValueError(f"The sampling rate is {given!r}: expected samples a second, such as 16000{several}.")
    if array.ndim == 1:
        return ArraySource(array[:, None], rate)
    # soundfile gives (samples, channels), torch code (channels, samples): no clip has more channels than samples.
    if array.shape[0] < array.shape[1]:
        check_channels(array.shape, array.shape[0], most=MOST_ROWS_OF_ONE_CLIP)
        array = array.T
    else:
        check_channels(array.shape, array.shape[1])
    return ArraySource(array, rate)


def is_array(value) -> bool:
    """Whether something is an array of numpy or of torch."""
    return isinstance(value, np.ndarray) or is_tensor(value)


def is_tensor(value) -> bool:
    """Whether something is a tensor of torch, which is not imported to find out: that takes seconds."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _as_array(array) -> np.ndarray:
    """Samples of any library as an array.

    Raises:
        ValueError: samples of a masked array are missing, or it holds texts or clips.
    """
    if is_tensor(array):
        array = array.detach().cpu()
        return np.asarray(array.float() if str(array.dtype) == "torch.bfloat16" else array)  # numpy has no bfloat16
    if isinstance(array, np.ma.MaskedArray) and (missing := np.ma.count_masked(array)):
        raise ValueError(
            f"Audio is a masked array in which {missing} samples are missing. Expected all of them: fill them, as "
            "array.filled(0), or leave the clip out."
        )
    try:
        array = np.asarray(array)
    except ValueError as error:  # a list of lists of several lengths
        raise ValueError(f"Audio is no array ({error}). Expected one clip: give several clips as a list.") from error
    if array.dtype.kind in "OUS":
        first = type(array.flat[0]).__name__ if array.size else array.dtype
        raise ValueError(
            f"Audio is given as an array or a list of {first}, shape {array.shape}. Expected the samples of one clip: "
            "give several paths or clips as one flat list, as array.ravel().tolist()."
        )
    return array


def check_channels(shape: tuple[int, ...], channels: int, most: int = MOST_CHANNELS_OF_AN_ARRAY) -> None:
    """Refuse an array that is several clips, not several channels of one.

    Raises:
        ValueError: more than `most` channels.
    """
    if channels > most:
        raise ValueError(
            f"Audio has shape {shape}: {channels} clips in one array, or channels, is not known. Expected one clip, "
            "(samples,) or (samples, channels): give several clips as a list, list(array), and channels as array.T."
        )


def one_clip(array):
    """A bare array that is plainly one clip; rows of samples are as likely several clips.

    Raises:
        ValueError: `(clips, samples)`.
    """
    if array.ndim == 2 and array.shape[0] < array.shape[1]:
        check_channels(tuple(array.shape), array.shape[0], most=1)
    return array


def foreign_format(source) -> str | None:
    """What a file or bytes are, by their beginning, where that is a kind which soundfile cannot read."""
    head = _head(source, 4096)
    start = head
    if head[:3] == b"ID3" and len(head) > 10:  # a tag; its size has seven bits a byte
        size = sum((byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        start = _head(source, 2, 10 + size)
    if len(start) > 1 and start[0] == 0xFF and start[1] & 0xF6 == 0xF0:
        return "AAC"
    if head[4:8] == b"ftyp":
        return "MP4 or M4A"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "AVI"
    return next((kind for beginning, kind in BEGINNINGS.items() if head.startswith(beginning)), None)


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # not merely a character that was cut in two
            return False
        text = head[: error.start].decode("utf-8-sig")
    return bool(text) and all(one.isprintable() or one in "\t\r\n" for one in text)


def is_cut_off(source) -> bool:
    """Whether a WAV or AIFF file is shorter than its header says, or an OGG ends without its last page.

    libsndfile reads what is there without a word. A stream's header (length zero or all ones) says nothing, and the pad
    byte at the end of a WAV is often left out.
    """
    head, size = _head(source, 8), _size(source)
    if head[:4] == b"OggS":
        tail = _head(source, MOST_OF_A_PAGE, max(0, size - MOST_OF_A_PAGE))
        page = tail[max(0, tail.rfind(b"OggS")) :]
        is_last, lengths = page[5:6] > b"\x03", page[27 : 27 + (page[26] if len(page) > 26 else 0)]
        return not is_last or len(page) < 27 + len(lengths) + sum(lengths)
    promised = int.from_bytes(head[4:8], "big" if head[:4] == b"FORM" else "little")
    return head[:4] in (b"RIFF", b"FORM") and 0 < promised < 0xFFFFFF00 and size + 1 < promised + 8


def _head(source, count: int, start: int = 0) -> bytes:
    if isinstance(source, bytes):
        return source[start : start + count]
    if isinstance(source, str | Path):
        with open(source, "rb") as file:
            file.seek(start)
            return file.read(count)
    source.seek(start)
    content = source.read(count)
    return content if isinstance(content, bytes) else b""


def _size(source) -> int:
    if isinstance(source, bytes):
        return len(source)
    return Path(source).stat().st_size if isinstance(source, str | Path) else source.seek(0, 2)
