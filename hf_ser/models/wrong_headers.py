"""Files whose headers promise less audio than they hold: what is wrong is mended in memory, or reported.

libsndfile reads no further than a header says, without a warning: a WAV from a pipe (size 0) is empty, an MP3 of
changing bit rate without a count of its frames ends where its first frame's rate would end it. Headers that promise
too much need nothing here: reading ends where the file does.
"""

import os
import struct
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path

Reader = Callable[[int, int], bytes]
"""The bytes of a source from a position on, as many as requested or as there are."""

KBITS = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Bit rates of MPEG-1 layer III, and of its lower sampling rates (MPEG-2 and 2.5)."""
MPEG_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
FRAMES_FLAG = 1
RESYNC_BYTES, BUFFER_BYTES = 2**16, 2**18
MOST_FRAMES, PLACES, FRAMES_AT_A_PLACE = 4096, 16, 64
"""Frames of an MP3 that are counted one by one, one to two minutes; of a longer one, some at several places."""
PROMISED_SHARE = 0.8
"""Of the frames that a long MP3 of changing bit rate is likely to have: fewer in its header are counted."""
FLAC_TAIL = 2**16

UNKNOWN_SIZE = b"\xff" * 4
CHUNKS = frozenset(
    (
        *(b"LIST", b"list", b"INFO", b"adtl", b"id3 ", b"ID3 ", b"fact", b"cue ", b"smpl", b"inst", b"plst", b"PEAK"),
        *(b"bext", b"iXML", b"aXML", b"axml", b"chna", b"cart", b"DISP", b"JUNK", b"junk", b"PAD ", b"FLLR", b"_PMX"),
        *(b"umid", b"levl", b"mext", b"link", b"acid", b"afsp", b"bwav", b"regn", b"minf", b"elm1", b"SAUR", b"LGWV"),
        *(b"NAME", b"AUTH", b"(c) ", b"ANNO", b"MARK", b"INST", b"MIDI", b"AESD", b"APPL", b"COMT", b"COMM", b"FVER"),
        *(b"SAXL", b"CHAN", b"basc", b"trns", b"cate", b"strc", b"note", b"labl", b"ltxt", b"data", b"SSND", b"fmt "),
    )
)
"""Names of chunks of WAV and AIFF: one of these begins a chunk, however it goes on."""
TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICS", b"<?xml", b"<?xpa", b"<x:xmp", b"<BWF")
"""How what programs append to any file begins: tags of MP3 players, and XML."""
LEAST_OF_AUDIO, MOST_PADDING = 8, 2**16


Patch = tuple[int, int, bytes]
"""Where bytes begin and end that are read as others, and these."""


def header_patch(source) -> tuple[Patch | None, str | None]:
    """What lets libsndfile read all of a source, and what its header says wrongly; None where nothing is wrong.

    Args:
        source: Path, bytes or a binary file object that can be sought in.
    """
    if isinstance(source, str | Path):
        status = os.stat(source)
        return _looked_at_file(str(source), status.st_size, status.st_mtime_ns)
    if isinstance(source, bytes):
        return _looked_at(lambda start, count: source[start : start + count], len(source))

    def read(start: int, count: int) -> bytes:
        source.seek(start)
        return source.read(count)

    size = source.seek(0, 2)
    source.seek(0)
    is_binary = isinstance(source.read(0), bytes)
    return _looked_at(read, size) if is_binary else (None, None)


@lru_cache(maxsize=4096)
def _looked_at_file(path: str, size: int, changed: int) -> tuple:
    # Cached: the segments of one long file are read one by one.
    with open(path, "rb") as file:

        def read(start: int, count: int) -> bytes:
            file.seek(start)
            return file.read(count)

        return _looked_at(read, size)


def _looked_at(read: Reader, size: int) -> tuple[Patch | None, str | None]:
    """What to put in place of which bytes, and a note; None for nothing."""
    try:
        return _looked_at_kind(read, size, read(0, 12))
    except (IndexError, struct.error):  # it ends within its header: libsndfile will say so
        return None, None


def _looked_at_kind(read: Reader, size: int, head: bytes) -> tuple:
    if head[:4] in (b"RIFF", b"RF64", b"BW64", b"FORM"):
        return _chunks_of_wav(read, size, head)
    if head[:4] == b"riff":
        return _chunks_of_w64(read, size), None
    if head[:4] == b"fLaC":
        return _total_of_flac(read, size)
    if head[:4] == b"OggS":
        return None, _pages_of_ogg(read)
    if head[:3] == b"ID3" or (head[:1] == b"\xff" and head[1:2] >= b"\xe0"):
        return _frames_of_mp3(read, size)
    return None, None


def _chunks_of_wav(read: Reader, size: int, head: bytes) -> tuple:
    """Samples that go on where their chunk ends go on to the end of the file, where its headers leave room for that.

    What comes after the end that both sizes give (that of the samples and that of all chunks) is no audio: tags and
    padding, mostly.
    """
    order, wanted = (">", b"SSND") if head[:4] == b"FORM" else ("<", b"data")
    whole, start, long_size_at, long_size = struct.unpack(f"{order}I", head[4:8])[0] + 8, 12, None, None
    while len(chunk := read(start, 8)) == 8:
        name, length = chunk[:4], struct.unpack(f"{order}I", chunk[4:])[0]
        if name == b"ds64" and len(numbers := read(start + 8, 16)) == 16:
            long_size_at, (long_whole, long_size) = start + 16, struct.unpack("<QQ", numbers)
            whole = long_whole + 8 if head[4:8] == UNKNOWN_SIZE else whole
        if name == wanted:
            break
        start += 8 + length + length % 2
    else:
        return None, None
    at, form = start + 4, f"{order}I"
    if length == 0xFFFFFFFF and long_size is not None and head[:2] != b"RI":
        at, form, length = long_size_at, "<Q", long_size
    begin, is_known = start + 8, chunk[4:] != UNKNOWN_SIZE or form == "<Q"
    ends = (begin + length, begin + length + length % 2) if is_known else (begin, begin)
    if size - ends[1] < 1 or any(_is_no_audio(read, end, size, order, is_known and length) for end in ends):
        return None, None
    if is_known and length and whole in ends:
        return None, f"behind the end of its samples {size - ends[1]} bytes follow, which were not read"
    there = (whole if ends[1] < whole <= size else _without_tag(read, size)) - begin
    there = min(there, 0xFFFFFFFE if form[1] == "I" else size)
    if (is_known and there <= length) or (not is_known and there == size - begin):
        return None, None
    note = f"its header says {length} bytes of samples and {there} are there, which were read" if is_known else None
    return (at, at + struct.calcsize(form), struct.pack(form, there)), note


def _is_no_audio(read: Reader, end: int, size: int, order: str, has_samples: int) -> bool:
    """Whether a chunk, also one that is cut off, a tag or padding follows on the samples."""
    rest, chunk = size - end, read(end, 8)
    name = chunk[:4]
    if name in CHUNKS or chunk.lstrip().startswith(TAGS) or (has_samples and rest < LEAST_OF_AUDIO):
        return True
    if has_samples and rest <= MOST_PADDING and len(set(read(end, rest))) == 1:
        return True
    length = struct.unpack(f"{order}I", chunk[4:])[0] if len(chunk) == 8 else size
    return all(32 <= byte < 127 for byte in name) and length <= rest - 8


def _without_tag(read: Reader, size: int) -> int:
    """Where a file ends without the tag of an MP3 player, ID3v1, which has 128 bytes."""
    return size - 128 if size >= 128 and read(size - 128, 3) == b"TAG" else size


def _chunks_of_w64(read: Reader, size: int) -> Patch | None:
    """Leave out what follows on the samples of a W64, which libsndfile would read as more of them."""
    whole, start = struct.unpack("<Q", read(16, 8))[0], 40
    while start < size and len(chunk := read(start, 24)) == 24:
        length = struct.unpack("<Q", chunk[16:])[0]
        end = start + (length + 7) // 8 * 8
        if length < 24:
            return None
        if chunk[:4] == b"data":
            stop = start + length
            others = (_is_no_audio(read, at, size, "<", length) for at in (stop, end) if at < size)
            return (stop, size, b"") if stop < size and (stop <= whole <= end or any(others)) else None
        start = end
    return None


def _total_of_flac(read: Reader, size: int) -> tuple:
    """A total of samples smaller than the last frame's position counts as unknown: the file is read to the end."""
    info = read(8, 18)
    total = int.from_bytes(info[10:18], "big") & (2**36 - 1)
    start, header = 4, read(4, 4)
    while len(header) == 4 and not header[0] & 128:
        start += 4 + int.from_bytes(header[1:], "big")
        header = read(start, 4)
    start += 4 + int.from_bytes(header[1:], "big")
    first, tail_at = read(start, 4), max(start, size - FLAC_TAIL)
    if not total or len(first) < 4 or len(info) < 18:
        return None, None
    block, head = int.from_bytes(info[:2], "big"), read(start, 16)
    own = _end_of_flac_frame(head, 0)  # the first frame's number is 0
    if own is not None and own < min(block, total) and not first[1] & 1:
        note = f"its header says blocks of {block} samples and its first has {own}, by which it was read"
        return (8, 12, struct.pack(">HH", own, own)), note
    tail, at = read(tail_at, FLAC_TAIL), None
    while (at := tail.rfind(first[:2], 0, at)) >= 0:
        frame = tail[at : at + 16]
        alike = len(frame) > 6 and (frame[2] ^ first[2]) & 15 == 0 and frame[3] & 15 == first[3] & 15
        if alike and (end := _end_of_flac_frame(frame, block)) is not None:
            break
    else:
        return None, None
    if end <= total:
        return None, None
    packed = int.from_bytes(info[10:18], "big") - total
    note = f"its header says {total} samples and there are {end}, which were read"
    return (18, 26, packed.to_bytes(8, "big")), note


def _end_of_flac_frame(frame: bytes, block: int) -> int | None:
    """The sample after a frame's last, None where this is no header of one (RFC 9639, section 9.1)."""
    if len(frame) < 6:
        return None
    count = next((n for n in range(8) if not frame[4] & (128 >> n)), 8)
    if count in (1, 8):
        return None
    extra = max(1, count)
    number = frame[4] & (127 if count == 0 else (1 << (7 - count)) - 1)
    for byte in frame[5 : 4 + extra]:
        number = number << 6 | byte & 63
    at, code = 4 + extra, frame[2] >> 4
    sizes = {1: 192, **{n: 576 << (n - 2) for n in range(2, 6)}, **{n: 256 << (n - 8) for n in range(8, 16)}}
    if code in (6, 7):
        samples = int.from_bytes(frame[at : at + code - 5], "big") + 1
        at += code - 5
    elif (samples := sizes.get(code)) is None:
        return None
    at += {12: 1, 13: 2, 14: 2}.get(frame[2] & 15, 0)
    if at >= len(frame) or _crc8(frame[:at]) != frame[at]:
        return None
    return (number if frame[1] & 1 else number * block) + samples


def _crc8(content: bytes) -> int:
    crc = 0
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07 if crc & 128 else crc << 1) & 255
    return crc


def _pages_of_ogg(read: Reader) -> str | None:
    """What is wrong with the positions that pages of an OGG give; libsndfile reads no further than the last one."""
    last, serial = 0, None
    for begins, ends, position, number, content in _ogg_pages(read):
        if begins and serial is not None and number != serial and last:
            return "another stream begins where the first ends, and was not read"
        serial = number if serial is None else serial
        if number != serial or not content:
            continue
        if position < last and (position != -1 or ends):
            return "the positions in it go backwards: some of it may be missing here"
        if last and position == last:
            return "the positions in it stand still: some of it may be missing here"
        last = max(last, position)
    return None


def _ogg_pages(read: Reader) -> Iterator[tuple[bool, bool, int, int, int]]:
    """Whether a page begins and ends a stream, its position (-1 for none), its stream and its length."""
    start = 0
    while len(page := read(start, 282)) >= 27 and page[:4] == b"OggS":
        position, number = struct.unpack("<qI", page[6:18])
        content = sum(page[27 : 27 + page[26]])
        yield bool(page[5] & 2), bool(page[5] & 4), position, number, content
        start += 27 + page[26] + content


def _frames_of_mp3(read: Reader, size: int) -> tuple:
    """Give an MP3 of changing bit rate the number of its frames, where its first frame says none or too few.

    Of a long file only some places are looked at, as long as nothing there speaks against its header.
    """
    read = _buffered(read)
    frames = _mp3_frames(read, size)
    found = list(islice(frames, MOST_FRAMES))
    if len(found) < 2:
        return None, None
    start, length, _, tag = found[0]
    first = read(start, length)
    marks = {name: first.find(name) for name in (b"Xing", b"Info", b"VBRI")}
    mark = next((at for at in marks.values() if at > 0), None)
    promised = None
    if mark is not None and marks[b"VBRI"] != mark and first[mark + 7] & FRAMES_FLAG:
        promised = int.from_bytes(first[mark + 8 : mark + 12], "big")
    if len(found) == MOST_FRAMES:
        samples = [found[1:], *(_some_mp3_frames(read, size, part) for part in range(1, PLACES))]
        if _is_as_promised(samples, size - start, promised, mark is not None):
            return None, None
    count = len(found) - (mark is not None) + (sum(1 for _ in frames) if len(found) == MOST_FRAMES else 0)
    if promised is not None:
        if promised + 1 >= count:
            return None, None
        note = f"its header says {promised} frames and there are {count}, which were read"
        return (start + mark + 8, start + mark + 12, struct.pack(">I", count)), note
    if mark is None and len(found) < MOST_FRAMES and len({kbits for _, _, kbits, _ in found}) == 1:
        return None, None  # of one bit rate: the size tells the length
    new = first[:4] + bytes(tag - 4) + b"Xing" + struct.pack(">II", FRAMES_FLAG, count)
    if len(new) > length:
        return None, "its bit rate changes and no header counts its frames: some of it may be missing here"
    return (start, start + (length if mark is not None else 0), new.ljust(length, b"\0")), None


def _some_mp3_frames(read: Reader, size: int, part: int) -> list[tuple]:
    """Some frames from one of `PLACES` on that lie evenly in a file."""
    return list(islice(_mp3_frames(read, size, part * size // PLACES), FRAMES_AT_A_PLACE))


def _is_as_promised(samples: list[list[tuple]], size: int, promised: int | None, has_mark: bool) -> bool:
    """Whether frames at several places of a long MP3 bear out its header, or the constant bit rate that needs none."""
    if promised is None:
        return not has_mark and len({kbits for part in samples for _, _, kbits, _ in part}) == 1
    means = [sum(length for _, length, _, _ in part) / len(part) for part in samples if part]
    return promised >= PROMISED_SHARE * size / (sum(means) / len(means))


def _buffered(read: Reader) -> Reader:
    """Read in blocks what is requested in small pieces, one after another."""
    begins, block = 0, b""

    def buffered(start: int, count: int) -> bytes:
        nonlocal begins, block
        if start < begins or start + count > begins + len(block):
            begins, block = start, read(start, max(count, BUFFER_BYTES))
        return block[start - begins : start - begins + count]

    return buffered


def _mp3_frames(read: Reader, size: int, at: int = 0) -> Iterator[tuple[int, int, int, int]]:
    """Start, length, kbit/s and the place of a tag in it of each frame of layer III; others are passed over."""
    while not at and (head := read(at, 10))[:3] == b"ID3":
        at += 10 + sum((byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=False))
    while at + 4 <= size:
        frame = _mp3_frame(read(at, 4))
        if frame is None:
            if (at := _next_mp3_frame(read, at + 1)) is None:
                return
            continue
        yield at, *frame
        at += frame[0]


def _next_mp3_frame(read: Reader, start: int) -> int | None:
    """Where two frames follow on each other next; None where none do within `RESYNC_BYTES`."""
    part, at = read(start, RESYNC_BYTES), -1
    while (at := part.find(b"\xff", at + 1)) >= 0:
        one = _mp3_frame(read(start + at, 4))
        if one and _mp3_frame(read(start + at + one[0], 4)):
            return start + at
    return None


def _mp3_frame(head: bytes) -> tuple[int, int, int] | None:
    """Length, kbit/s and the place of a tag in it, by its first four bytes; None where no frame begins so."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:  # layer III alone
        return None
    version, rate, bits = head[1] >> 3 & 3, head[2] >> 2 & 3, head[2] >> 4
    if version == 1 or rate == 3 or bits in (0, 15):
        return None
    kbits, hertz = KBITS[version == 3][bits], MPEG_RATES[version][rate]
    length = (144_000 if version == 3 else 72_000) * kbits // hertz + (head[2] >> 1 & 1)
    is_mono = head[3] >> 6 == 3
    side = (17 if is_mono else 32) if version == 3 else (9 if is_mono else 17)
    return length, kbits, 4 + side
