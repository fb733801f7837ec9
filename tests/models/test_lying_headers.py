"""Headers that promise too little, too much or nonsense: what is there is read in bounded memory, or a reason given."""

import struct
import tracemalloc
from io import BytesIO

import numpy as np
import pytest
import soundfile as sf

from hf_ser.augment.training import Augmenter, readable_seconds
from hf_ser.data.audio import read_clip
from hf_ser.data.integrity import clip_findings
from hf_ser.data.prepare import _typed, read_row
from hf_ser.data.schema import Utterance
from hf_ser.models.lying_headers import _mp3_frames, header_patch

RATE, SECONDS = 16_000, 3
TIME = np.arange(SECONDS * RATE) / RATE
VOICE = (0.3 * np.sin(2 * np.pi * 220 * TIME) * (1 + np.sin(2 * np.pi * 3 * TIME)) / 2).astype(np.float32)
NOISE = np.random.default_rng(0).normal(0, 0.1, SECONDS * RATE).astype(np.float32)


def encoded(container: str, subtype: str, samples=NOISE, rate: int = RATE) -> bytearray:
    file = BytesIO()
    sf.write(file, samples, rate, format=container, subtype=subtype)
    return bytearray(file.getvalue())


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
    start, second = (frame[0] for frame in list(_mp3_frames(bytes(content)))[:2])
    for damaged in (
        put(content, at, "4s", b"\0\0\0\0"),
        put(content, at + 4, ">I", 0),
        put(content, start + 36, ">4sHHHII", b"VBRI", 1, 0, 0, 100, 2),
        bytes(content[second:]),
    ):
        assert read_clip(damaged).duration_seconds == pytest.approx(SECONDS, abs=0.15)


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
    augmenter = Augmenter("noise_folder:1@5", _typed([row], ("a",)), [0], tmp_path)
    for view in range(8):
        changed = augmenter(VOICE, "t/a", view)
        assert np.isfinite(changed).all() and np.abs(changed - VOICE).max() > 0.01
