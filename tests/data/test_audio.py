"""The decoder, and the way of a clip into a data set: nothing is lost, nothing changes pitch, speed or level."""

import hashlib
import re
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from hf_ser.data.audio import encode_flac, leading_zeros_seconds, on_grid, pcm_sha256, read_clip, rms_dbfs
from hf_ser.data.schema import SAMPLING_RATE
from hf_ser.models import decoding, streams
from hf_ser.models.decoding import decode_audio

SOUNDFILE = {  # container and subtype, and how far a decoded level may be off
    "wav_8": ("WAV", "PCM_U8", 0.002),
    "wav_16": ("WAV", "PCM_16", 0.001),
    "wav_24": ("WAV", "PCM_24", 0.001),
    "wav_float": ("WAV", "FLOAT", 0.001),
    "flac": ("FLAC", "PCM_16", 0.001),
    "ogg": ("OGG", "VORBIS", 0.02),
    "mp3": ("MP3", "MPEG_LAYER_III", 0.02),
}
RATES = (8_000, 16_000, 24_414, 44_100, 48_000, 96_000)
MP3_RATES = (8_000, 16_000, 44_100, 48_000)  # of these, MP3 knows no others


def tone(rate: int, hz: float = 440.0, amplitude: float = 0.5, seconds: float = 0.5) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate)


def noise(samples: int, seed: int = 0) -> np.ndarray:
    """16-bit integers."""
    return np.random.default_rng(seed).normal(0, 3000, samples).round().astype(np.int16)


def encoded(samples: np.ndarray, rate: int, container: str = "WAV", subtype: str = "PCM_16") -> bytes:
    file = BytesIO()
    sf.write(file, samples, rate, format=container, subtype=subtype)
    return file.getvalue()


def amplitude_of(samples: np.ndarray) -> float:
    """Of a sine, away from the edges."""
    return float(np.sqrt(2 * np.mean(samples[len(samples) // 10 : -len(samples) // 10] ** 2)))


def pitch_of(samples: np.ndarray) -> float:
    """Hz of the strongest partial, to a tenth."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 10 * SAMPLING_RATE))
    return spectrum.argmax() / 10


@pytest.mark.parametrize(
    ("kind", "rate"), [(kind, rate) for kind in SOUNDFILE for rate in (MP3_RATES if kind == "mp3" else RATES)]
)
def test_a_tone_keeps_pitch_level_and_length(kind, rate):
    container, subtype, tolerance = SOUNDFILE[kind]
    samples = decode_audio(encoded(tone(rate), rate, container, subtype))
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert abs(len(samples) - SAMPLING_RATE / 2) <= 1
    assert pitch_of(samples) == pytest.approx(440, abs=0.2)
    assert amplitude_of(samples) == pytest.approx(0.5, rel=tolerance)


def test_the_requested_rate_is_returned():
    assert len(decode_audio(encoded(tone(48_000), 48_000), sampling_rate=22_050)) == 11_025


@pytest.mark.parametrize("rate", [24_414, 24_414.0625, 11_025, 767_999])
def test_an_odd_rate_costs_no_more_than_another(rate):
    # 24,414 Hz (TESS) shares no factor with 16,000: torchaudio took 5 seconds and hundreds of megabytes a clip.
    started = time.process_time()
    samples = decode_audio({"array": tone(int(rate), seconds=2.0), "sampling_rate": rate})
    assert abs(len(samples) - 2 * SAMPLING_RATE) <= 1
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize("rate", [24_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("hz", [8_200, 9_000, 11_500])
def test_what_16_khz_cannot_hold_does_not_come_back_as_another_pitch(rate, hz):
    # The 24-bit grid alone leaves -144 dB.
    assert amplitude_of(decode_audio({"array": tone(rate, hz=hz), "sampling_rate": rate})) < 0.5 * 1e-6


@pytest.mark.parametrize("rate", [24_000, 44_100, 48_000])
@pytest.mark.parametrize("hz", [100, 7_000, 7_300])
def test_what_16_khz_can_hold_is_kept(rate, hz):
    assert amplitude_of(decode_audio({"array": tone(rate, hz=hz), "sampling_rate": rate})) == pytest.approx(0.5, 2e-3)


def test_integers_are_decoded_without_loss():
    samples = noise(1000)
    samples[:2] = -(2**15), 2**15 - 1
    expected = samples.astype(np.float32) / 2**15
    for container in ("WAV", "FLAC"):
        np.testing.assert_array_equal(decode_audio(encoded(samples, SAMPLING_RATE, container)), expected)
    deep = np.array([-(2**23), -1, 0, 1, 2**23 - 1], dtype=np.int32)
    decoded = decode_audio(encoded(deep << 8, SAMPLING_RATE, subtype="PCM_24"))
    np.testing.assert_array_equal(decoded, deep.astype(np.float32) / 2**23)


@pytest.mark.parametrize("container", ["WAV", "FLAC", "OGG"])
def test_channels_of_a_file_are_averaged(container):
    left, right = tone(SAMPLING_RATE, 440), tone(SAMPLING_RATE, 1000)
    subtype = "VORBIS" if container == "OGG" else "PCM_16"
    decoded = decode_audio(encoded(np.stack([left, right], axis=1), SAMPLING_RATE, container, subtype))
    tolerance = 0.1 if container == "OGG" else 1e-4  # OGG colours the onset; both tones together reach 0.5
    np.testing.assert_allclose(decoded, (left + right) / 2, atol=tolerance)


@pytest.mark.parametrize("frames", [0, 1])
def test_a_stereo_file_shorter_than_its_channels_are_many(frames):
    # (1, 2) must not be taken for two samples of one channel, nor (0, 2) for two samples that are not there.
    decoded = decode_audio(encoded(np.full((frames, 2), (0.5, -0.25)), SAMPLING_RATE, subtype="FLOAT"))
    assert decoded.tolist() == [0.125] * frames


@pytest.mark.parametrize("key", ["array", "raw"])
def test_arrays_of_either_layout(key):
    left, right = tone(8_000, 440), tone(8_000, 1000)
    mono = decode_audio({key: (left + right) / 2, "sampling_rate": 8_000})
    assert len(mono) == SAMPLING_RATE / 2
    for stereo in (np.stack([left, right]), np.stack([left, right], axis=1), torch.tensor(np.stack([left, right]))):
        np.testing.assert_allclose(decode_audio({key: stereo, "sampling_rate": 8_000}), mono, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([-(2**15), 0, 2**14], dtype=np.int16), [-1, 0, 0.5]),
        (np.array([-(2**31), 0, 2**30], dtype=np.int32), [-1, 0, 0.5]),
        (np.array([-128, 0, 64], dtype=np.int8), [-1, 0, 0.5]),
        (np.array([0, 128, 192], dtype=np.uint8), [-1, 0, 0.5]),
        (np.array([-1, 0, 0.5], dtype=np.float64), [-1, 0, 0.5]),
        ([-1.0, 0.0, 0.5], [-1, 0, 0.5]),
    ],
)
def test_integer_arrays_have_full_scale_one(values, expected):
    decoded = decode_audio({"array": values, "sampling_rate": SAMPLING_RATE})
    assert decoded.dtype == np.float32
    assert decoded.tolist() == expected


def test_every_form_of_a_source_gives_the_same_samples(tmp_path):
    file = tmp_path / "Größe.wav"
    file.write_bytes(encoded(noise(500), SAMPLING_RATE))
    expected = noise(500).astype(np.float32) / 2**15
    content = file.read_bytes()
    with open(file, "rb") as handle:
        sources = [
            *(file, str(file), content, BytesIO(content), handle),
            {"path": str(file)},
            {"bytes": content, "path": None},
            {"bytes": content, "path": "not there any more.wav"},
            {"bytes": None, "path": str(file)},
            {"array": expected, "sampling_rate": SAMPLING_RATE},
        ]
        for source in sources:
            np.testing.assert_array_equal(decode_audio(source), expected, err_msg=str(source))


NOT_AUDIO = r"not readable as audio \(Format not recognised\.\)\. Expected WAV, FLAC, OGG or MP3; convert it, or check"
NO_RATE = r"shape \(5,\) was given without its sampling rate.*pass \{\"array\": array, \"sampling_rate\": rate_in_hz\}"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (b"", f"^bytes given: {NOT_AUDIO}"),
        (b"not audio at all", f"^bytes given: {NOT_AUDIO}"),
        (BytesIO(b"not audio"), f"^BytesIO given: {NOT_AUDIO}"),
        (np.zeros(5), NO_RATE),
        (torch.zeros(5), NO_RATE),
        ({"array": np.zeros(5)}, NO_RATE),
        ({"raw": [0.0] * 5}, NO_RATE),
        ({"array": np.zeros(5), "sampling_rate": None}, NO_RATE),
        ({"array": np.zeros(5), "sampling_rate": 0}, NO_RATE),
        (
            {"array": np.zeros((2, 3, 4)), "sampling_rate": 8000},
            r"shape \(2, 3, 4\): expected \(samples,\) or \(samples",
        ),
        (None, "Cannot decode NoneType: expected a path, bytes, a binary file object or a dictionary"),
        ({"path": None, "bytes": None}, "Cannot decode NoneType: expected a path"),
        (7, "Cannot decode int: expected a path"),
    ],
)
def test_errors_say_found_expected_and_remedy(source, text):
    with pytest.raises(ValueError, match=text):
        decode_audio(source)


def test_errors_name_the_file(tmp_path):
    (tmp_path / "text.wav").write_text("path,label\n" * 50)
    (tmp_path / "empty.wav").touch()
    for name in ("text.wav", "empty.wav"):
        with pytest.raises(ValueError, match=f"{name}: {NOT_AUDIO}"):
            decode_audio(tmp_path / name)
    missing = tmp_path / "missing.wav"
    with pytest.raises(FileNotFoundError) as error:
        decode_audio(missing)
    assert str(error.value) == f"{missing}: no such file. Expected an audio file (WAV, FLAC, OGG or MP3)."


@pytest.mark.parametrize(
    ("source", "found"),
    [(".", "a folder"), (Path("."), "a folder"), ("https://a.org/x.wav", "a web address"), ("s3://b/x", "a web")],
)
def test_what_is_no_file_is_named(source, found):
    with pytest.raises(FileNotFoundError, match=f"{re.escape(str(source))}: found {found}.*Expected an audio file"):
        decode_audio(source)
    with pytest.raises(FileNotFoundError, match="The path is empty"):
        decode_audio("")


@pytest.mark.parametrize(("content", "hint"), [(b"", "it has 0 bytes"), (b'{"a": 1}\n' * 600, "it is a text file")])
def test_what_is_no_audio_at_all_is_named(content, hint, tmp_path):
    (tmp_path / "x.wav").write_bytes(content)
    for source in (tmp_path / "x.wav", BytesIO(content), {"bytes": content or None, "path": str(tmp_path / "x.wav")}):
        with pytest.raises(ValueError, match=f"check that it was copied whole: {hint}"):
            decode_audio(source)


def test_a_cut_off_flac_is_an_error_and_a_cut_off_wav_is_what_is_there():
    flac, wav = (encoded(noise(20_000), SAMPLING_RATE, container) for container in ("FLAC", "WAV"))
    with pytest.raises(ValueError, match=r"not readable as audio \(.*flac decoder lost sync.*check that it was copied"):
        decode_audio(flac[: len(flac) // 2])
    half = decode_audio(wav[: 44 + 2 * 10_000])
    np.testing.assert_array_equal(half, noise(20_000)[:10_000].astype(np.float32) / 2**15)


def test_read_clip_notes_what_the_file_was(tmp_path):
    file = tmp_path / "clip.wav"
    file.write_bytes(encoded(tone(48_000), 48_000, subtype="PCM_24"))
    for source in (file, str(file), file.read_bytes()):
        clip = read_clip(source)
        assert clip.source_format == "48000 Hz, 1 channel(s), PCM_24"
        assert clip.channels_equal
        assert clip.duration_seconds == 0.5
        assert len(clip.samples) == SAMPLING_RATE / 2
        assert clip.source_bytes == file.stat().st_size == 44 + 3 * 24_000


def test_read_clip_tells_equal_channels_from_different_ones():
    one = tone(SAMPLING_RATE)
    other = one.copy()
    other[100] += 0.01
    equal, different = (read_clip(encoded(np.stack(pair, 1), SAMPLING_RATE)) for pair in ((one, one), (one, other)))
    assert (equal.source_channels, equal.channels_equal) == (2, True)
    assert (different.source_channels, different.channels_equal) == (2, False)
    np.testing.assert_array_equal(equal.samples, read_clip(encoded(one, SAMPLING_RATE)).samples)


def test_read_clip_keeps_an_overdriven_clip_within_full_scale():
    clip = read_clip(encoded(tone(48_000, amplitude=2.0), 48_000, subtype="FLOAT"))
    assert clip.samples.max() == 1 - 2**-23
    assert clip.samples.min() == -1


PARTS = [(0, 0.5), (0.25, 0.75), (1.2345, None), (None, 0.3), (0.5, 99.0), (0.1 + 0.2, 0.9)]
PART_KINDS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "gsm": ("WAV", "GSM610"),
}
"""The last cannot be sought in: a part of it is read from the beginning on."""


@pytest.mark.parametrize("kind", PART_KINDS)
@pytest.mark.parametrize(("start", "end"), PARTS)
def test_a_part_is_exactly_the_cut_of_the_whole(tmp_path, kind, start, end):
    content = encoded(noise(2 * SAMPLING_RATE), SAMPLING_RATE, *PART_KINDS[kind])
    whole = read_clip(content).samples
    expected = whole[round((start or 0) * SAMPLING_RATE) : None if end is None else round(end * SAMPLING_RATE)]
    (tmp_path / "long").write_bytes(content)
    for source in (content, tmp_path / "long"):
        np.testing.assert_array_equal(read_clip(source, start, end).samples, expected)


@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize(("start", "end"), PARTS)
def test_a_part_of_any_rate_has_the_requested_length(rate, start, end):
    clip = read_clip(encoded(noise(2 * rate), rate), start, end)
    seconds = min(2.0, end or 2.0) - (start or 0.0)
    assert clip.duration_seconds == pytest.approx(seconds, abs=1 / SAMPLING_RATE)
    assert clip.source_rate == rate


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_a_part_of_another_rate_is_the_cut_of_the_whole_but_for_its_edges(rate):
    content = encoded(np.stack([noise(2 * rate), noise(2 * rate, seed=1)], axis=1), rate)
    whole, part = read_clip(content).samples[8_000:24_000], read_clip(content, 0.5, 1.5).samples
    edge = 128  # samples of 16 kHz that the filter reaches, 111 of them
    assert len(part) == len(whole)
    np.testing.assert_allclose(part[edge:-edge], whole[edge:-edge], atol=2**-22)
    assert np.abs(part - whole)[[*range(edge), *range(-edge, 0)]].max() > 2**-22


def test_only_the_part_is_read(monkeypatch):
    read = []

    class Recording(sf.SoundFile):
        def read(self, frames=-1, *args, **options):
            read.append(frames)
            return super().read(frames, *args, **options)

    content = encoded(np.zeros((60 * 8_000, 2)), 8_000, "FLAC")
    monkeypatch.setattr(streams.sf, "SoundFile", Recording)
    assert len(read_clip(content, 30.0, 30.5).samples) == SAMPLING_RATE / 2
    assert read == [4_000]


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [
        (2.0, 3.0, "2 to 3"),
        (2.5, None, "2.5 to inf"),
        (-0.5, 1.0, "-0.5 to 1"),
        (1.0, 1.0, "1 to 1"),
        (1.5, 1.0, "1.5 to 1"),
        (None, 0.0, "0 to 0"),
        (float("nan"), None, "nan to inf"),
        (0.0, float("nan"), "0 to nan"),
        (float("inf"), None, "inf to inf"),
    ],
)
def test_a_part_that_is_not_in_the_file(tmp_path, start, end, found):
    file = tmp_path / "long.wav"
    file.write_bytes(encoded(noise(2 * 8_000), 8_000))
    with pytest.raises(ValueError) as error:
        read_clip(file, start, end)
    assert str(error.value) == (
        f"{file}: a part from {found} s was requested, of a file of 2 s. Expected a start in the file and before the "
        "end: mend the start and end that were given."
    )


def test_channels_are_compared_within_the_part():
    left, right = noise(2 * SAMPLING_RATE), noise(2 * SAMPLING_RATE)
    right[100] += 1
    content = encoded(np.stack([left, right], axis=1), SAMPLING_RATE)
    assert [read_clip(content, start, 1.5).channels_equal for start in (None, 0.5)] == [False, True]


@pytest.mark.parametrize(
    ("part", "expected"), [((), True), ((0.5,), True), ((0.0, 1.5), True), ((0.0, 1.0), False), ((0.5, 0.8), False)]
)
def test_a_part_before_the_end_of_a_cut_off_file_is_complete(part, expected):
    content = encoded(noise(2 * SAMPLING_RATE), SAMPLING_RATE)
    assert read_clip(content[: 44 + 2 * SAMPLING_RATE], *part).cut_short == expected
    assert not read_clip(content, *part).cut_short


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([0, 0, 0, 0.5, 0, 0], 3),
        ([0.5, 0, 0], 0),
        ([0, 2**-23, 0], 1),
        ([0, -0.0, -0.5], 2),
        ([0, 0, np.nan], 2),
        ([0] * 400, 400),
        ([], 0),
    ],
)
def test_exact_zeros_at_the_beginning(samples, expected):
    assert leading_zeros_seconds(np.array(samples, dtype=np.float32)) == expected / SAMPLING_RATE


def test_on_grid_rounds_to_24_bits_and_hides_nothing():
    step = 2.0**-23
    given = np.array([0.4 * step, 0.6 * step, -0.6 * step, 0.5, 1.5, -1.5, 1.0, np.nan, np.inf], dtype=np.float32)
    gridded = on_grid(given)
    assert gridded.dtype == np.float32
    np.testing.assert_array_equal(gridded, [0, step, -step, 0.5, 1 - step, -1, 1 - step, np.nan, np.nan])
    np.testing.assert_array_equal(on_grid(gridded), gridded)


FLAC_SOURCES = {
    "16-bit": (encoded(noise(4000), SAMPLING_RATE), "PCM_16"),
    "8-bit": (encoded(tone(SAMPLING_RATE), SAMPLING_RATE, subtype="PCM_U8"), "PCM_16"),
    "24-bit": (encoded(tone(SAMPLING_RATE), SAMPLING_RATE, subtype="PCM_24"), "PCM_24"),
    "float": (encoded(tone(SAMPLING_RATE, amplitude=1.5), SAMPLING_RATE, subtype="FLOAT"), "PCM_24"),
    "48 kHz": (encoded(noise(4000), 48_000), "PCM_24"),
    "44.1 kHz": (encoded(noise(4000), 44_100), "PCM_24"),
    "mp3": (encoded(tone(44_100), 44_100, "MP3", "MPEG_LAYER_III"), "PCM_24"),
    "one sample": (encoded(noise(1), SAMPLING_RATE), "PCM_16"),
    "ends of the scale": (encoded(np.array([-(2**15), 2**15 - 1] * 30, np.int16), SAMPLING_RATE), "PCM_16"),
    "silence": (encoded(np.zeros(400), SAMPLING_RATE), "PCM_16"),
}


@pytest.mark.parametrize("kind", FLAC_SOURCES)
def test_flac_gives_back_exactly_what_was_stored(kind):
    source, subtype = FLAC_SOURCES[kind]
    samples = read_clip(source).samples
    stored = encode_flac(samples)
    info = sf.info(BytesIO(stored))
    assert (info.format, info.subtype, info.samplerate, info.channels) == ("FLAC", subtype, SAMPLING_RATE, 1)
    np.testing.assert_array_equal(decode_audio(stored), samples)
    assert pcm_sha256(read_clip(stored).samples) == pcm_sha256(samples)


def test_the_hash_is_of_the_audio_not_of_the_file():
    samples = noise(2000)
    stereo = np.stack([samples, samples], axis=1)
    same = {
        "wav": encoded(samples, SAMPLING_RATE),
        "flac": encoded(samples, SAMPLING_RATE, "FLAC"),
        "24-bit": encoded(samples, SAMPLING_RATE, subtype="PCM_24"),
        "float": encoded(samples / 2**15, SAMPLING_RATE, subtype="FLOAT"),
        "stereo": encoded(stereo, SAMPLING_RATE),
        "header": encoded(samples, SAMPLING_RATE) + b"LIST\x04\x00\x00\x00INFO",
    }
    hashes = {name: pcm_sha256(read_clip(content).samples) for name, content in same.items()}
    expected = hashlib.sha256((samples.astype("<i4") * 256).tobytes()).hexdigest()
    assert hashes == dict.fromkeys(same, expected)


def test_other_audio_has_another_hash():
    samples = noise(2000)
    louder, later = samples.copy(), np.roll(samples, 1)
    louder[1000] += 1
    others = [louder, later, -samples, samples[:-1], np.append(samples, np.int16(0)), noise(2000, seed=1)]
    hashes = {pcm_sha256(read_clip(encoded(each, SAMPLING_RATE)).samples) for each in [samples, *others]}
    assert len(hashes) == 1 + len(others)


def test_rms_in_dbfs():
    assert rms_dbfs(tone(SAMPLING_RATE, amplitude=1.0)) == pytest.approx(-3.01, abs=0.01)
    assert rms_dbfs(np.full(10, 0.001, np.float32)) == pytest.approx(-60)
    assert rms_dbfs(np.zeros(10, np.float32)) == rms_dbfs(np.zeros(0, np.float32)) == -np.inf


def test_one_rate_in_the_whole_package():
    # The island cannot import columns.py, so it has its own name for the rate.
    assert decoding.SAMPLING_RATE == SAMPLING_RATE == 16_000


def test_64_bit_integers_have_no_known_scale():
    with pytest.raises(ValueError, match=r"64-bit integers.*Expected floats from -1 to 1, or samples as int16"):
        decode_audio({"array": [0, 1000, -1000] * 100, "sampling_rate": SAMPLING_RATE})
