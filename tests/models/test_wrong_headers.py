"""Headers that promise too little, too much or nonsense: what is there is read in bounded memory, or a reason given."""

import struct
import tracemalloc
from io import BytesIO

import numpy as np
import pytest
import soundfile as sf

from hf_ser.augment.augmenter import Augmenter
from hf_ser.augment.mixing import readable_seconds
from hf_ser.data.audio import read_clip
from hf_ser.data.integrity import clip_findings
from hf_ser.data.schema import Utterance
from hf_ser.data.shards import _as_dataset, read_row
from hf_ser.models import wrong_headers
from hf_ser.models.opening import PatchedFile
from hf_ser.models.wrong_headers import _mp3_frames, header_patch

RATE, SECONDS = 16_000, 3
TIME = np.arange(SECONDS * RATE) / RATE
VOICE = (0.3 * np.sin(2 * np.pi * 220 * TIME) * (1 + np.sin(2 * np.pi * 3 * TIME)) / 2).astype(np.float32)
NOISE = np.random.default_rng(0).normal(0, 0.1, SECONDS * RATE).astype(np.float32)


def encoded(container: str, subtype: str, samples=NOISE, rate: int = RATE) -> bytearray:
    file = BytesIO()
    sf.write(file, samples, rate, format=container, subtype=subtype)
    return bytearray(file.getvalue())


def reader(content: bytes):
    return lambda start, count: bytes(content[start : start + count])


def put(content: bytearray, at: int, form: str, *values) -> bytes:
    new = bytearray(content)
    struct.pack_into(form, new, at, *values)
    return bytes(new)


def read(content: bytes) -> tuple[float, list[str]]:
    """Seconds and findings."""
    clip = read_clip(content)
    return clip.duration_seconds, [one.kind for one in clip_findings("x", clip)]


def assert_whole(content: bytes, kinds: list[str]) -> None:
    seconds, found = read(content)
    assert seconds == pytest.approx(SECONDS, abs=0.1) and found == kinds
    part = read_clip(content, 2.0, 2.5)  # behind what the header promises
    assert part.duration_seconds == pytest.approx(0.5)


def with_total(flac: bytearray, total: int) -> bytes:
    packed = int.from_bytes(flac[18:26], "big") >> 36 << 36
    return put(flac, 18, ">Q", packed | total)


def pages(content: bytes) -> list[bytearray]:
    found, at = [], 0
    while at < len(content):
        length = 27 + content[at + 26] + sum(content[at + 27 : at + 27 + content[at + 26]])
        found.append(bytearray(content[at : at + length]))
        at += length
    return found


def joined(found: list[bytearray]) -> bytes:
    """Pages with their checksums made anew."""
    for page in found:
        page[22:26] = bytes(4)
        crc = 0
        for byte in page:
            crc ^= byte << 24
            for _ in range(8):
                crc = (crc << 1 ^ 0x04C11DB7 if crc & 0x80000000 else crc << 1) & 0xFFFFFFFF
        page[22:26] = struct.pack("<I", crc)
    return b"".join(found)


# Too little


@pytest.mark.parametrize("size", [0, 1, 7, 10_000, 50_001])
def test_a_wav_reads_on_where_its_samples_go_on(size):
    content = encoded("WAV", "PCM_16")
    assert_whole(put(content, content.find(b"data") + 4, "<I", size), ["wrong_header"])
    stereo = encoded("WAV", "FLOAT", np.stack([NOISE, VOICE], axis=1))
    assert_whole(put(stereo, stereo.find(b"data") + 4, "<I", size), ["stereo", "wrong_header"][::-1])


@pytest.mark.parametrize("size", [1, 10_000])
def test_an_aiff_and_an_rf64_read_on(size):
    content = encoded("AIFF", "PCM_16")
    assert_whole(put(content, content.find(b"SSND") + 4, ">I", size), ["wrong_header"])
    content = encoded("RF64", "PCM_16")
    assert_whole(put(content, content.find(b"ds64") + 16, "<Q", size), ["wrong_header"])


def test_other_chunks_behind_the_samples_are_no_samples():
    content = bytes(encoded("WAV", "PCM_16"))
    for behind in (b"LIST\x0a\0\0\0INFOabcdef", b"id3 \x08\0\0\0abcdefgh", bytes(64)):
        assert header_patch(content + behind) == (None, None)
        assert len(read_clip(content + behind).samples) == SECONDS * RATE


ID3V1 = b"TAG" + b"a title".ljust(125, b"\0")
ID3V2 = b"ID3\x04\0\0\0\0\x17\x38" + bytes(range(256)) * 11
BEHIND = {
    "ID3v1": ID3V1,
    "ID3v2": ID3V2,
    "APE": b"APETAGEX" + struct.pack("<IIII8x", 2000, 64, 1, 0xA0000000) + b"x" * 500 + ID3V1,
    "XML": b'<?xml version="1.0"?><BWFXML>' + b" " * 3001,
    "XMP": b"\r\n<?xpacket begin=''?>" + b"y" * 900,
    "0xFF": b"\xff" * 4096,
    "random": np.random.default_rng(3).bytes(5000),
    "cut chunk": b"LIST\xff\xff\0\0INFOISFT",
    "cut other chunk": b"bext\x5a\x02\0\0made by",
    "cut name": b"LIS",
}


@pytest.mark.parametrize("behind", BEHIND.values(), ids=BEHIND)
@pytest.mark.parametrize(
    ("container", "subtype", "samples"),
    [
        *(("WAV", "PCM_16", NOISE), ("WAV", "PCM_U8", NOISE[:-1]), ("WAV", "FLOAT", NOISE), ("WAV", "ULAW", NOISE)),
        *(("AIFF", "PCM_16", NOISE), ("AIFF", "PCM_S8", NOISE[:-1]), ("RF64", "PCM_24", NOISE[:-1])),
        *(("W64", "PCM_16", NOISE), ("W64", "PCM_U8", NOISE[:-3]), ("CAF", "PCM_16", NOISE), ("AU", "PCM_16", NOISE)),
        *(("FLAC", "PCM_16", NOISE), ("OGG", "VORBIS", NOISE), ("MP3", "MPEG_LAYER_III", NOISE)),
    ],
)
def test_metadata_behind_the_samples_is_no_audio(container, subtype, samples, behind):
    content = bytes(encoded(container, subtype, samples))
    wanted = read_clip(content).samples
    found = read_clip(content + behind)
    np.testing.assert_array_equal(found.samples, wanted)
    assert "not read" in (found.header_note or "not read")
    whole = put(content, 4, "<I" if container == "WAV" else ">I", len(content) + len(behind) - 8)
    if container in ("WAV", "AIFF") and behind is not BEHIND["random"]:  # as if they belonged to it
        np.testing.assert_array_equal(read_clip(whole + behind).samples, wanted)


@pytest.mark.parametrize("behind", [b"LIST\x0a\0\0\0INFOabcdef", b"id3 \xff\0\0\0ID3", b"iXML\x08\0\0\0<BWFXML>"])
@pytest.mark.parametrize("grows", [0, 1])
def test_an_odd_number_of_bytes_without_its_pad_byte_ends_there(behind, grows):
    content = bytes(encoded("WAV", "PCM_U8", NOISE[:-1]))
    content = content[: content.find(b"data") + 8 + len(NOISE) - 1]
    wanted = read_clip(content).samples
    given = put(content + behind, 4, "<I", len(content) - 8 + grows * len(behind))
    np.testing.assert_array_equal(read_clip(given).samples, wanted)


@pytest.mark.parametrize("tag", [b"", ID3V1])
@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_a_stream_ends_before_a_tag_and_may_begin_with_silence(size, tag):
    samples = NOISE * (TIME > 0.1)
    content = encoded("WAV", "PCM_16", samples)
    at = content.find(b"data") + 4
    found = read_clip(put(put(content, at, "<I", size), 4, "<I", size) + tag)
    np.testing.assert_array_equal(found.samples, read_clip(bytes(content)).samples)


@pytest.mark.parametrize("tag", [ID3V1, ID3V2, BEHIND["APE"]])
def test_an_empty_recording_with_a_tag_is_empty(tag):
    content = encoded("WAV", "PCM_16", NOISE[:0])
    assert len(read_clip(bytes(content) + tag).samples) == 0


def test_bytes_of_no_known_kind_behind_the_samples_are_told():
    content = bytes(encoded("WAV", "PCM_16"))
    assert read(content + BEHIND["random"]) == (SECONDS, ["wrong_header"])
    assert "5000 bytes follow, which were not read" in read_clip(content + BEHIND["random"]).header_note
    assert read(content + ID3V1) == (SECONDS, [])


@pytest.mark.parametrize("total", [1, 1000, 4096, 40_000])
@pytest.mark.parametrize(("subtype", "rate"), [("PCM_16", 16_000), ("PCM_24", 48_000), ("PCM_S8", 12_345)])
def test_a_flac_reads_on(total, subtype, rate):
    content = encoded("FLAC", subtype, NOISE, rate)
    assert header_patch(bytes(content)) == (None, None)
    changed = with_total(content, total)
    clip = read_clip(changed)
    np.testing.assert_array_equal(clip.samples, read_clip(bytes(content)).samples)
    assert "wrong_header" in [one.kind for one in clip_findings("x", clip)]


def test_a_flac_with_another_block_size_than_it_says_is_read_by_its_own():
    content = encoded("FLAC", "PCM_16")
    assert_whole(put(content, 8, ">HH", 65_535, 65_535), ["wrong_header"])


@pytest.mark.parametrize("frames", [0, 1, 5, 60])
@pytest.mark.parametrize("samples", [NOISE, VOICE, np.stack([NOISE, VOICE], axis=1)], ids=["noise", "voice", "stereo"])
def test_an_mp3_reads_on(frames, samples):
    content = encoded("MP3", "MPEG_LAYER_III", samples)
    true = read_clip(bytes(content)).samples
    at = max(content.find(b"Xing"), content.find(b"Info"))
    clip = read_clip(put(content, at + 8, ">I", frames))
    np.testing.assert_array_equal(clip.samples, true)
    assert f"says {frames} frames" in clip.header_note


@pytest.mark.parametrize("seed", range(3))
def test_an_mp3_of_changing_bit_rate_without_a_count_is_read_whole(seed):
    loud = np.random.default_rng(seed).normal(0, 0.1, SECONDS * RATE) * (TIME > 1.5)  # the first frames are small
    content = encoded("MP3", "MPEG_LAYER_III", loud)
    at = max(content.find(b"Xing"), content.find(b"Info"))
    start, second = (frame[0] for frame in list(_mp3_frames(reader(content), len(content)))[:2])
    for damaged in (
        put(content, at, "4s", b"\0\0\0\0"),
        put(content, at + 4, ">I", 0),
        put(content, start + 36, ">4sHHHII", b"VBRI", 1, 0, 0, 100, 2),
        bytes(content[second:]),
    ):
        assert read_clip(damaged).duration_seconds == pytest.approx(SECONDS, abs=0.15)


@pytest.fixture(scope="module")
def long_mp3() -> bytes:
    """A minute of changing bit rate, about 1,700 frames."""
    loud = np.random.default_rng(0).normal(0, 0.1, 60 * RATE) * np.tile([1, 0.01], 120).repeat(4000)
    return bytes(encoded("MP3", "MPEG_LAYER_III", loud.astype(np.float32)))


@pytest.fixture
def short_limits(monkeypatch):
    """What is long begins with 300 frames."""
    for name, value in {"MOST_FRAMES": 300, "FRAMES_AT_A_PLACE": 8, "BUFFER_BYTES": 2048, "RESYNC_BYTES": 2048}.items():
        monkeypatch.setattr(wrong_headers, name, value)


def test_a_long_mp3_is_not_read_whole_for_its_header(long_mp3, short_limits):
    seen = []

    class File(BytesIO):
        def read(self, count: int = -1) -> bytes:
            seen.append(count)
            return super().read(count)

    assert len(list(_mp3_frames(reader(long_mp3), len(long_mp3)))) > 5 * wrong_headers.MOST_FRAMES
    assert header_patch(File(long_mp3)) == (None, None)
    assert -1 not in seen and sum(seen) < 0.7 * len(long_mp3)


@pytest.mark.parametrize("frames", [0, 3, 300, 1000])
def test_a_long_mp3_with_a_wrong_count_is_read_whole(frames, long_mp3, short_limits):
    at = max(long_mp3.find(b"Xing"), long_mp3.find(b"Info"))
    patch, note = header_patch(put(bytearray(long_mp3), at + 8, ">I", frames))
    counted = len(list(_mp3_frames(reader(long_mp3), len(long_mp3)))) - 1
    assert patch == (at + 8, at + 12, struct.pack(">I", counted)) and f"there are {counted}" in note


def test_a_long_mp3_without_a_count_gets_one(long_mp3, short_limits):
    at = max(long_mp3.find(b"Xing"), long_mp3.find(b"Info"))
    without = put(bytearray(long_mp3), at, "4s", b"\0\0\0\0")
    (start, end, new), _ = header_patch(without)
    assert start == end and len(new) > 100  # a frame is put in
    file = PatchedFile(BytesIO(without), start, end, new)
    wanted = without[:start] + new + without[end:]
    for place in (0, start - 1, start, start + 7, start + len(new), len(wanted) - 5):
        file.seek(max(0, place))
        assert file.read(1000) == wanted[max(0, place) :][:1000]
    assert file.seek(0, 2) == len(wanted)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("position", [1, 100, -1, -5])
def test_an_ogg_whose_positions_go_backwards_is_told(subtype, position, tmp_path):
    found = pages(encoded("OGG", subtype))
    assert len(found) > 3 and header_patch(joined(found))[1] is None
    found[-1][6:14] = struct.pack("<q", position)
    (tmp_path / "x.ogg").write_bytes(joined(found))
    row, findings = read_row(Utterance("x", tmp_path / "x.ogg", "a", "t"), ("a",))
    kinds = {one.kind for one in findings}
    assert kinds & {"wrong_header", "unreadable", "empty", "too_short"}, (row and row["duration_seconds"], kinds)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_a_second_stream_in_an_ogg_is_told(subtype):
    both = bytes(encoded("OGG", subtype)) + bytes(encoded("OGG", subtype, VOICE))
    assert read(both)[1] == ["wrong_header"]


# Too much, and nonsense


def damaged_everywhere():
    """Each kind of file with large numbers in each place of its first bytes, and cut."""
    for container, subtype in (
        *(("WAV", "PCM_16"), ("RF64", "PCM_16"), ("AIFF", "PCM_16"), ("FLAC", "PCM_16")),
        *(("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")),
    ):
        content = encoded(container, subtype, NOISE[:8000])
        for at in range(0, 140, 2):
            yield put(content, at, "4s", b"\xff\xff\xff\xff")
            yield put(content, at, "4s", b"\x7f\xff\xff\xff")
            yield put(content, at, "4s", b"\0\0\0\0")
            yield bytes(content[:at])


def test_no_damage_costs_memory_or_ends_the_process():
    read_clip(bytes(encoded("MP3", "MPEG_LAYER_III")))
    tracemalloc.start()
    unreadable = 0
    for content in damaged_everywhere():
        try:
            assert read_clip(content).duration_seconds <= 10
        except ValueError as error:
            unreadable += 1
            assert "Expected" in str(error)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert unreadable and peak < 50e6


@pytest.mark.parametrize("total", [SECONDS * RATE + 1, 10**7, 2**36 - 1])
def test_a_flac_that_promises_too_much_is_read_to_its_end(total):
    assert read(with_total(encoded("FLAC", "PCM_16"), total)) == (SECONDS, ["truncated"])


# Noise folders


@pytest.mark.parametrize("promised", [3, 10**5, 2**32 - 1])
def test_noise_is_taken_from_what_can_be_read(promised, tmp_path):
    content = encoded("MP3", "MPEG_LAYER_III")
    at = max(content.find(b"Xing"), content.find(b"Info"))
    (tmp_path / "x.mp3").write_bytes(put(content, at + 8, ">I", promised))
    sf.write(tmp_path / "whole.wav", NOISE, RATE)
    assert readable_seconds(str(tmp_path / "whole.wav"), 1, 1) == SECONDS
    assert readable_seconds(str(tmp_path / "x.mp3"), 1, 1) == pytest.approx(SECONDS, abs=0.2) or promised == 3
    (tmp_path / "whole.wav").unlink()
    row, _ = read_row(Utterance("t/a", bytes(encoded("WAV", "PCM_16", VOICE)), "a", "t", speaker="s"), ("a",))
    augmenter = Augmenter("noise_folder:1@5", _as_dataset([row], ("a",)), [0], tmp_path)
    for view in range(8):
        changed = augmenter(VOICE, "t/a", view)
        assert np.isfinite(changed).all() and np.abs(changed - VOICE).max() > 0.01
