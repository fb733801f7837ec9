"""Audio as people bring it: preparing and the pipeline read it alike, and no error is silent."""

import struct
import tracemalloc
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile as sf
import torch
from models.tiny import assert_same_scores, audio_only, fused

from hf_ser.data.audio import encode_flac, pcm_sha256, read_clip
from hf_ser.data.integrity import clip_findings
from hf_ser.data.prepare import prepare
from hf_ser.data.schema import Utterance
from hf_ser.data.shards import read_row
from hf_ser.models import SerPipeline, decoding
from hf_ser.models.decoding import decode_audio, read_audio
from hf_ser.models.samples import audio_problem
from hf_ser.models.streams import BLOCK_VALUES

RATE = 16_000


def noise(seconds: float = 0.5, rate: int = RATE, seed: int = 0, channels: int | None = None) -> np.ndarray:
    size = round(seconds * rate) if channels is None else (round(seconds * rate), channels)
    return np.random.default_rng(seed).normal(0, 0.1, size).astype(np.float32)


def encoded(samples, rate: int = RATE, container: str = "WAV", subtype: str = "PCM_16") -> bytes:
    file = BytesIO()
    sf.write(file, samples, rate, format=container, subtype=subtype)
    return file.getvalue()


def kinds(content: bytes, **options) -> list[str]:
    return [finding.kind for finding in clip_findings("x", read_clip(content, **options))]


@pytest.fixture(scope="module")
def ask():
    model, processor = fused()
    return SerPipeline(
        model=model,
        feature_extractor=processor.feature_extractor,
        tokenizer=processor.tokenizer,
        task="audio-classification",
    )


@pytest.fixture(scope="module")
def processor():
    return fused()[1]


# Scale of floats


@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize(("peak", "kind"), [(1.0, None), (1.6, "over_full_scale"), (7.0, "scaled"), (21_000, "scaled")])
def test_floats_beyond_full_scale_are_one_thing_as_file_array_and_cell(peak, kind, rate):
    samples = noise(rate=rate)
    samples *= peak / np.abs(samples).max()
    content = encoded(samples, rate, subtype="FLOAT")
    clip = read_clip(content)
    for form in ({"array": samples, "sampling_rate": rate}, (rate, samples), {"bytes": content, "path": None}):
        np.testing.assert_array_equal(decode_audio(form), clip.samples)
    np.testing.assert_array_equal(decode_audio(encode_flac(clip.samples)), clip.samples)
    assert [one.kind for one in clip_findings("x", clip)] == ([kind] if kind else [])
    assert np.abs(clip.samples).max() <= 1
    if peak > 2:
        true = samples / (peak if peak < 64 else 2**15)
        np.testing.assert_allclose(clip.samples, decode_audio((rate, true)), atol=2**-22)


@pytest.mark.parametrize("peak", [90_000.0, 2.0**31])
def test_floats_of_no_known_scale_are_refused_alike(peak, ask):
    samples = noise() / 0.5 * peak
    for form in (encoded(samples, subtype="DOUBLE"), {"array": samples, "sampling_rate": RATE}):
        with pytest.raises(ValueError, match=r"float samples reach .* Expected -1 to 1, or the size of 16-bit"):
            decode_audio(form)
    with pytest.raises(ValueError, match="float samples reach"):
        ask(samples)
    row, (finding,) = read_row(Utterance("x", encoded(samples, subtype="FLOAT"), "a", "t"), ("a",))
    assert (row, finding.kind) == (None, "unreadable")


def test_a_quiet_part_of_a_file_at_16_bit_scale_is_not_taken_for_another_scale(tmp_path):
    samples = np.concatenate([noise() * 10, noise(seed=1) * 40_000])  # peaks near 4 and 16,000
    sf.write(tmp_path / "x.wav", samples, RATE, subtype="FLOAT")
    whole = read_clip(tmp_path / "x.wav").samples
    for source in (tmp_path / "x.wav", (tmp_path / "x.wav").read_bytes()):
        np.testing.assert_array_equal(read_clip(source, 0.0, 0.5).samples, whole[:8000])
        np.testing.assert_array_equal(decode_audio(source, max_seconds=0.25), whole[:4000])


# Several clips, channels, rates


@pytest.mark.parametrize("make", [np.stack, lambda two: torch.from_numpy(np.stack(two)), lambda two: np.stack(two * 4)])
def test_several_clips_as_one_array_are_refused(make, ask, processor):
    given = make([noise(), noise(seed=1)])
    for call in (ask, lambda one: ask([one]), processor, lambda one: processor(audio=[one])):
        with pytest.raises(ValueError, match=r"Audio has shape .*give several clips as a list"):
            call(given)
    with pytest.raises(ValueError, match="give several clips as a list"):
        decode_audio({"array": np.zeros((16, 8000)), "sampling_rate": RATE})


def test_what_is_plainly_channels_is_averaged(ask):
    left, right = noise(), noise(seed=1)
    expected = ask((left + right) / 2)
    assert_same_scores(ask(np.stack([left, right], 1)), expected)
    assert_same_scores(ask({"array": np.stack([left, right]), "sampling_rate": RATE}), expected)
    assert_same_scores(ask(left[None]), ask(left))


def test_the_processor_uses_the_rate_and_swallows_nothing(processor):
    fast = noise(1.0, 48_000)
    expected = processor(audio=decode_audio({"array": fast, "sampling_rate": 48_000}))
    for given in (fast, [fast], torch.from_numpy(fast), fast.tolist()):
        found = processor(audio=given, sampling_rate=48_000, return_tensors="pt", padding=True)
        torch.testing.assert_close(found["input_values"], expected["input_values"])
    with pytest.raises(TypeError, match="sample_rate"):
        processor(audio=fast, sample_rate=48_000)
    with pytest.raises(ValueError, match="return_tensors='np'"):
        processor(audio=fast, return_tensors="np")
    with pytest.raises(ValueError, match="sampling rate is 999999999 Hz"):
        processor(audio=fast, sampling_rate=999_999_999)


@pytest.mark.parametrize("rate", [900, 800_000, 2**31 - 1])
def test_absurd_rates_and_channel_counts_are_refused(rate):
    content = bytearray(encoded(noise()))
    content[24:28] = struct.pack("<I", rate)
    with pytest.raises(ValueError, match=rf"the sampling rate is {rate} Hz\. Expected 1000 to 768000"):
        read_clip(bytes(content))
    with pytest.raises(ValueError, match="the sampling rate is"):
        decode_audio({"array": noise(), "sampling_rate": rate})
    with pytest.raises(ValueError, match=r"65 channels\. Expected 64 at most"):
        read_clip(encoded(noise(0.1, channels=65)))


def test_channels_that_cancel_are_reported_and_one_is_kept(ask, tmp_path):
    samples = noise(rate=44_100)
    for other in (-samples, -0.95 * samples):
        content = encoded(np.stack([samples, other], 1), 44_100, subtype="FLOAT")
        assert kinds(content) == ["stereo", "cancelling_channels"]
        np.testing.assert_array_equal(read_clip(content).samples, decode_audio((44_100, samples)))
        np.testing.assert_array_equal(decode_audio(BytesIO(content)), read_clip(content).samples)
    assert kinds(encoded(noise(channels=6), 44_100)) == ["stereo"]
    assert len(ask({"array": np.stack([samples, -samples]), "sampling_rate": 44_100})) == 3


def partly_inverted(rate: int, inverted: list[int], seconds: int = 12, channels: int = 2) -> np.ndarray:
    """Stereo whose right channel is the left one turned round in some of its seconds."""
    left = noise(float(seconds), rate)
    sign = np.where(np.isin(np.arange(len(left)) // rate, inverted), -1, 1)
    return np.stack([left, 0.98 * sign * left, *[np.zeros_like(left)] * (channels - 2)], 1).astype(np.float32)


@pytest.mark.parametrize("rate", [16_000, 44_100, 8_000])
@pytest.mark.parametrize(
    "inverted", [[*range(9)], [*range(3, 12)], [0], [8], [2, 5, 6], [11], []], ids=lambda seconds: f"{len(seconds)}"
)
def test_the_first_seconds_of_a_file_have_the_channels_of_the_whole(rate, inverted, tmp_path):
    both = partly_inverted(rate, inverted)
    sf.write(tmp_path / "x.wav", both, rate, subtype="FLOAT")
    whole = read_clip(tmp_path / "x.wav")
    assert (whole.channel == 1) == bool(inverted)
    for second in range(12):  # none is lost
        assert np.abs(whole.samples[second * RATE : (second + 1) * RATE]).mean() > 0.03
    for seconds in (1.0, 7.5, 8.0, 9.1):
        for source in (
            tmp_path / "x.wav",
            {"array": both, "sampling_rate": rate},
            {"array": both.T.copy(), "sampling_rate": rate},
        ):
            part = read_audio(source, max_seconds=seconds)
            np.testing.assert_array_equal(part.samples, whole.samples[: round(seconds * RATE)])
            assert (part.channel is not None) == any(one < seconds for one in inverted)


def test_audio_beyond_the_seconds_that_are_read_is_not_reported():
    both = partly_inverted(RATE, [2, 3], 4)
    both[2 * RATE :] *= 1.9 / np.abs(both).max()
    both[: 2 * RATE] *= 0.5 / np.abs(both[: 2 * RATE]).max()
    audio = read_audio({"array": both, "sampling_rate": RATE}, max_seconds=2.0)
    assert (audio.frames, audio.channel, audio.complete) == (2 * RATE, None, False)
    same = np.stack([both[: 2 * RATE, 0]] * 2, 1)
    audio = read_audio({"array": np.concatenate([same, both]), "sampling_rate": RATE}, max_seconds=1.97)
    assert audio.channels_equal and audio.frames == 31_520
    assert not read_audio(
        {"array": np.concatenate([same, both]), "sampling_rate": RATE}, max_seconds=5.0
    ).channels_equal


def test_of_many_channels_that_cancel_a_loud_one_is_kept():
    both = partly_inverted(RATE, [0, 1, 2], 3, channels=4)[:, [2, 0, 3, 1]]
    audio = read_audio({"array": both, "sampling_rate": RATE})
    assert audio.channel == 2 and np.abs(audio.samples).mean() > 0.05


def test_one_channel_of_two(tmp_path):
    both = noise(channels=2)
    content = encoded(both, subtype="FLOAT")
    for number, name in enumerate(("left", "right")):
        np.testing.assert_array_equal(read_clip(content, channel=name).samples, decode_audio((RATE, both[:, number])))
    with pytest.raises(ValueError, match="the right channel was requested and it has 1"):
        read_clip(encoded(noise()), channel="right")
    (tmp_path / "a.wav").write_bytes(content)
    (tmp_path / "t.csv").write_text("path,label,channel\na.wav,x,left\na.wav,y,2\na.wav,y,\na.wav,x,middle\n")
    dataset, report = prepare("table", tmp_path / "t.csv", tmp_path / "out", channel="mix")
    assert dataset["id"][:] == ["table/a.wav", "table/a.wav@left", "table/a.wav@right"]
    for row, name in zip(dataset, ("mix", "left", "right"), strict=True):
        assert row["pcm_sha256"] == pcm_sha256(read_clip(content, channel=name).samples)
    assert report["skipped"] == {"bad_segment": 1}


# Files with wrong headers, cut off files, or are something else


def with_total(flac: bytes, samples: int) -> bytes:
    """A FLAC whose header promises another number of samples."""
    changed = bytearray(flac)
    changed[21] = (changed[21] & 0xF0) | (samples >> 32)
    changed[22:26] = struct.pack(">I", samples & 0xFFFFFFFF)
    return bytes(changed)


@pytest.mark.parametrize("rate", [16_000, 48_000])
@pytest.mark.parametrize(("total", "found"), [(0, []), (2**36 - 1, ["truncated"]), (10**9, ["truncated"])])
def test_a_flac_of_unknown_or_untrue_length_is_read(rate, total, found):
    whole = encoded(noise(1.0, rate), rate, "FLAC")
    lying = with_total(whole, total)
    np.testing.assert_array_equal(read_clip(lying).samples, read_clip(whole).samples)
    assert kinds(lying) == found
    np.testing.assert_array_equal(read_clip(lying, 0.25, 0.75).samples, read_clip(whole, 0.25, 0.75).samples)
    with pytest.raises(ValueError):
        read_clip(lying, 5.0, 6.0)


def test_an_rf64_that_promises_too_much_and_a_memory_error_are_one_clip_lost(tmp_path, monkeypatch):
    content = bytearray(encoded(noise(), container="RF64"))
    at = content.index(b"ds64") + 8
    content[at : at + 24] = struct.pack("<QQQ", 2**40, 2**40 - 100, 2**39 - 50)
    assert len(read_clip(bytes(content)).samples) <= 8001
    sf.write(tmp_path / "good.wav", noise(), RATE)
    sf.write(tmp_path / "huge.wav", noise(seed=1), RATE)
    (tmp_path / "t.csv").write_text("path,label\ngood.wav,x\nhuge.wav,y\n")
    collect = decoding._Buffer.add

    def add(self, *given, **options):
        if "huge" in self.named:
            raise MemoryError
        return collect(self, *given, **options)

    monkeypatch.setattr(decoding._Buffer, "add", add)
    _, report = prepare("table", tmp_path / "t.csv", tmp_path / "out")
    (finding,) = (one for one in report["findings"] if one["skipped"])
    assert finding["item"].endswith("huge.wav") and "more audio than the memory holds" in finding["detail"]


@pytest.mark.parametrize(("container", "subtype"), [("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")])
@pytest.mark.parametrize("share", [0.4, 0.8])
def test_cut_off_lossy_files_are_read_as_far_as_they_go(container, subtype, share):
    content = encoded(noise(4.0, 44_100), 44_100, container, subtype)
    cut = read_clip(content[: int(len(content) * share)])
    assert 0.5 * share * 4 < cut.duration_seconds < 4
    assert "truncated" in [finding.kind for finding in clip_findings("x", cut)]
    assert kinds(content) == []


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\xff\xf1\x50\x80\x2e\x7f\xfc", "AAC"),
        (b"ID3\x04\x00\x00\x00\x00\x00\x05hello\xff\xf9\x50\x80", "AAC"),
        (b"\x00\x00\x00\x20ftypM4A ", "MP4 or M4A"),
        (b"\x1a\x45\xdf\xa3", "WebM or Matroska"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
    ],
)
def test_what_only_goes_by_the_name_of_audio_is_named(tmp_path, head, kind):
    (tmp_path / "voice.mp3").write_bytes(head + bytes(500))
    with pytest.raises(ValueError, match=rf"voice\.mp3: not readable as audio \(this is {kind}.*Expected WAV, FLAC"):
        read_clip(tmp_path / "voice.mp3")


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_memory_follows_the_seconds_that_are_kept(tmp_path, rate):
    """Half a minute of eight channels at 48 kHz is 46 MB as float32, and 2 MB as what is kept of it."""
    with sf.SoundFile(tmp_path / "long.wav", "w", rate, 8, "PCM_U8") as file:
        for _ in range(30):
            file.write(noise(1.0, rate, channels=8))
    tracemalloc.start()
    try:
        samples = decode_audio(tmp_path / "long.wav")
        peak = tracemalloc.get_traced_memory()[1]
        decode_audio(tmp_path / "long.wav", max_seconds=2.0)
    finally:
        tracemalloc.stop()
    assert len(samples) == 30 * RATE
    assert peak < 2 * samples.nbytes + 4e6


@pytest.mark.parametrize("rate", [16_000, 44_100, 8_000])
def test_the_beginning_is_that_of_the_whole_whatever_the_blocks(rate, monkeypatch):
    content = encoded(noise(6.0, rate), rate)
    whole = decode_audio(content)
    np.testing.assert_array_equal(decode_audio(content, max_seconds=1.5), whole[: round(1.5 * RATE)])
    monkeypatch.setattr(decoding, "BLOCK_VALUES", BLOCK_VALUES // 7)
    np.testing.assert_array_equal(decode_audio(content), whole)


def test_the_hash_does_not_hang_on_the_last_bit():
    samples = read_clip(encoded(noise(3.0, 44_100), 44_100)).samples
    nudged = samples + np.random.default_rng(1).choice([-1e-9, 1e-9], len(samples))
    assert pcm_sha256(nudged) == pcm_sha256(samples)
    deep = encoded(np.round(noise() * 2**15) / 2**15, subtype="PCM_24")
    assert pcm_sha256(read_clip(deep).samples) == pcm_sha256(
        read_clip(encoded(np.round(noise() * 2**15) / 2**15)).samples
    )


# The pipeline


@pytest.mark.parametrize(
    ("samples", "found"),
    [
        (np.zeros(RATE, np.float32), "silence"),
        (np.full(RATE, 0.2, np.float32), "silence .a constant of 0.2"),
        (noise() * 1e-5, "silence"),
        (noise(0.05), "too short"),
        (np.zeros(0, np.float32), "no samples"),
        (np.append(noise(), np.inf).astype(np.float32), "NaN or infinity"),
    ],
)
def test_the_pipeline_refuses_what_preparing_skips(samples, found, ask):
    with pytest.raises(ValueError, match=f"expected speech, found .*{found}"):
        ask(samples)
    kind = audio_problem(decode_audio({"array": samples, "sampling_rate": RATE}))[0]
    assert kinds(encoded(samples, subtype="FLOAT")) == [kind]


@pytest.mark.parametrize("trim", [False, True])
def test_a_long_clip_is_cut_with_a_warning(trim, tmp_path):
    model, extractor = audio_only("crnn")
    extractor.max_seconds, extractor.trim_silence = 2.0, trim
    ask = SerPipeline(model=model, feature_extractor=extractor, task="audio-classification")
    sf.write(tmp_path / "long.wav", noise(5.0, 44_100), 44_100)
    with pytest.warns(UserWarning, match=r"long\.wav: only the first 2 s count, of 5\.0 s"):
        answer = ask(str(tmp_path / "long.wav"))
    assert_same_scores(answer, ask(decode_audio(tmp_path / "long.wav")[: 2 * RATE]))


def test_every_form_of_a_clip_that_hugging_face_users_hold(ask, tmp_path):
    samples = noise(1.0)
    expected = ask(samples)
    content = encoded(samples, subtype="FLOAT")
    decoder = SimpleNamespace(
        get_all_samples=lambda: SimpleNamespace(data=torch.from_numpy(samples[None]), sample_rate=RATE)
    )
    shorts = np.round(samples * 2**15).astype(np.int16)
    for form in (
        bytearray(content),
        memoryview(content),
        decoder,
        (RATE, samples),
        (samples, RATE),
        {"audio": decoder},
    ):
        assert_same_scores(ask(form), expected)
        assert_same_scores(ask([form, form])[1], expected)
    assert_same_scores(ask((RATE, shorts)), ask(shorts))
    stereo = SimpleNamespace(data=torch.from_numpy(np.stack([samples, samples])), sample_rate=RATE)
    assert_same_scores(ask(SimpleNamespace(get_all_samples=lambda: stereo)), expected)


@pytest.mark.parametrize("missing", [float("nan"), np.nan, None, ""])
def test_a_text_that_pandas_lacks_is_missing(ask, processor, missing):
    pd = pytest.importorskip("pandas")
    samples = noise(1.0)
    expected = ask(samples)
    assert_same_scores(ask(samples, text=missing), expected)
    assert_same_scores(ask([samples, samples], text=pd.Series([missing, "hello"]))[0], expected)
    assert ask([samples], text=[pd.NA]) == [expected]
    assert not processor(text=[missing, "hello"])["text_mask"][0].any()
    with pytest.raises(ValueError, match=r"text is 3 \(int\): expected a text"):
        ask([samples], text=[3])


def test_a_generator_is_read_as_its_answers_are_consumed(ask):
    read = []

    def endless():
        while True:
            read.append(len(read))
            yield noise(seed=len(read))

    answers = ask(endless(), batch_size=2)
    assert read == []
    assert next(answers) == ask([noise(seed=1), noise(seed=2)], batch_size=2)[0]
    assert len(read) == 2


def test_a_prepared_data_set_and_its_column(ask, tmp_path):
    for seed in range(3):
        sf.write(tmp_path / f"{seed}.wav", noise(seed=seed, rate=22_050), 22_050)
    (tmp_path / "t.csv").write_text("path,label,transcript\n0.wav,x,hello you\n1.wav,y,\n2.wav,x,what a day\n")
    dataset, _ = prepare("table", tmp_path / "t.csv", tmp_path / "out")
    files, texts = [str(tmp_path / f"{seed}.wav") for seed in range(3)], ["hello you", None, "what a day"]
    assert ask(dataset, batch_size=2) == ask(files, text=texts, batch_size=2)
    assert ask(dataset["audio"]) == ask(files)
    assert ask(dataset[0]) == ask(files[0], text=texts[0])


def test_function_to_apply_and_num_workers_of_the_stock_pipeline(ask):
    samples = noise(1.0)
    logits = {one["label"]: one["score"] for one in ask(samples, function_to_apply="none", num_workers=2)}
    scores = {one["label"]: one["score"] for one in ask(samples, function_to_apply="softmax")}
    total = sum(np.exp(list(logits.values())))
    assert scores == pytest.approx({name: np.exp(value) / total for name, value in logits.items()}, abs=1e-5)
    with pytest.raises(ValueError, match="function_to_apply is 'sotfmax': expected one of softmax, sigmoid, none"):
        ask(samples, function_to_apply="sotfmax")
    with pytest.raises(TypeError):
        ask(samples, sampling_rate=8000)


def test_a_file_a_part_and_predict_give_the_same_samples(tmp_path):
    from scripts import predict

    model, extractor = audio_only("crnn")
    extractor.max_seconds = 1.0
    ask = SerPipeline(model=model, feature_extractor=extractor, task="audio-classification")
    sf.write(tmp_path / "x.wav", noise(3.0, 48_000, channels=2) * 1e5, 48_000, subtype="FLOAT")
    samples, notes = predict.read(ask, str(tmp_path / "x.wav"))
    np.testing.assert_array_equal(samples, read_clip(tmp_path / "x.wav").samples[:RATE])
    assert notes[0].startswith("scaled, float samples reach") and notes[1].startswith(
        "only the first 1 s count, of 3.0"
    )
    assert read_audio(tmp_path / "x.wav").scale == 2**15
