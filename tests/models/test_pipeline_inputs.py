"""What the pipeline makes of its arguments: dictionaries, texts, several channels, and what is refused by name."""

import re
import warnings

import calls
import numpy as np
import pytest
import soundfile as sf
import torch
from models.tiny import assert_same_scores, audio_only, fused

from hf_ser.data.audio import read_clip
from hf_ser.data.integrity import clip_findings
from hf_ser.models import SerPipeline

RATE = 16_000
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def voice(seed: int, seconds: float) -> np.ndarray:
    """A voice within full scale."""
    return 0.5 * calls.voice(seed, seconds)


@pytest.fixture(scope="module")
def ask():
    model, extractor = audio_only()
    return SerPipeline(model=model, feature_extractor=extractor, task="audio-classification")


@pytest.fixture(scope="module")
def ask_fused():
    model, processor = fused()
    parts = {"feature_extractor": processor.feature_extractor, "tokenizer": processor.tokenizer}
    return SerPipeline(model=model, task="audio-classification", **parts)


@pytest.fixture
def file(tmp_path):
    both = np.stack([voice(1, 6.0), voice(2, 6.0)], 1)
    sf.write(tmp_path / "call.wav", both, RATE, subtype="FLOAT")
    return tmp_path / "call.wav"


# Dictionaries


def test_a_dictionary_brings_its_part_its_channel_and_its_text(ask, ask_fused, file):
    both = sf.read(file, dtype="float32")[0]
    part = both[2 * RATE : 4 * RATE]
    for given, wanted in (
        ({"path": str(file), "start": 2, "end": 4}, part.mean(1)),
        ({"path": file, "start": np.float32(2), "end": 4.0, "channel": "right"}, part[:, 1]),
        ({"bytes": file.read_bytes(), "start": 4, "end": None}, both[4 * RATE :].mean(1)),
        ({"array": both, "sampling_rate": RATE, "end": 2.0, "channel": "left"}, both[: 2 * RATE, 0]),
        ({"audio": str(file), "start": 2, "end": 4, "emotion": "sad"}, part.mean(1)),
        ({"path": str(file), "start": float("nan"), "channel": None}, both.mean(1)),
    ):
        assert_same_scores(ask(given), ask(wanted))
        assert_same_scores(ask([given, wanted])[0], ask(wanted))
    assert_same_scores(
        ask_fused({"path": str(file), "transcript": "what a day"}), ask_fused(str(file), text="what a day")
    )


@pytest.mark.parametrize("key", ["begin", "start_seconds", "Channel", "label", 3])
def test_a_key_that_is_not_known_is_named(ask, file, key):
    for given in ({"path": str(file), key: 1}, [{"path": str(file), key: 1}]):
        with pytest.raises(
            ValueError, match=rf"call\.wav has the keys {key!r}, which are not known\. Expected some of path"
        ):
            ask(given)


@pytest.mark.parametrize("value", ["2", True, [2]])
def test_a_time_that_is_no_number_is_named(ask, file, value):
    with pytest.raises(ValueError, match=r"call\.wav: start is .*Expected seconds"):
        ask({"path": str(file), "start": value})


# Several channels, or several clips


@pytest.mark.parametrize("rows", [3, 5, 8])
def test_rows_of_an_array_are_not_taken_for_channels(ask, rows):
    clips = np.stack([voice(seed, 1.0) for seed in range(rows)])
    for given in ({"array": clips, "sampling_rate": RATE}, (RATE, clips), (torch.from_numpy(clips), RATE)):
        with pytest.raises(ValueError, match=rf"{rows} clips in one array, or channels.*channels as array\.T"):
            ask(given)
    assert "channels, different, averaged" in ask({"array": clips.T, "sampling_rate": RATE}).notes[0]


def test_two_rows_that_are_averaged_are_told(ask):
    clips = np.stack([voice(1, 1.0), voice(2, 1.0)])
    for given in ({"array": clips, "sampling_rate": RATE}, (RATE, clips)):
        assert ask(given).notes == ("2 channels, different, averaged; two clips are given as a list",)
    assert ask((RATE, clips.T)).notes == () == ask((RATE, np.stack([clips[0]] * 2))).notes


# Arguments


@pytest.mark.parametrize("value", [-1, 0, "2", 1.0, [1], True])
@pytest.mark.parametrize("name", ["top_k", "batch_size"])
def test_counts_are_whole_numbers(ask, name, value):
    with pytest.raises(ValueError, match=rf"{name} is {re.escape(repr(value))}: expected a whole number from 1 on"):
        ask([voice(1, 1.0)], **{name: value})
    assert len(ask(voice(1, 1.0), **{name: np.int64(2)})) == (2 if name == "top_k" else 3)


def test_unsure_does_not_hang_on_the_kind_of_scores(ask):
    sound = voice(1, 1.0)
    for threshold, unsure in ((0.99, True), (0.0, False)):
        ask.model.config.abstain_threshold = threshold
        try:
            assert {ask(sound, function_to_apply=name).unsure for name in ("softmax", "sigmoid", "none")} == {unsure}
        finally:
            ask.model.config.abstain_threshold = None


def test_what_is_no_clip_is_refused_in_its_own_words(ask, file, tmp_path):
    sound = voice(1, 1.0)
    masked = np.ma.array(sound, mask=np.arange(len(sound)) < 10)
    for given, message in (
        ({str(file)}, "inputs is a set, which has no order"),
        (frozenset([str(file)]), "inputs is a set"),
        (np.float32(0.5), "inputs is .*expected audio"),
        (7, r"inputs is 7 \(int\): expected audio"),
        (masked, "10 samples are missing. Expected all of them: fill them, as array.filled"),
        ((RATE, masked), "10 samples are missing"),
        (np.array([str(file), str(file)]), "list of str.*give several paths or clips as one flat list"),
        (np.array([file, file]), "list of PosixPath|list of WindowsPath"),
        ([[str(file), str(file)]], "list of str.*one flat list"),
        ({"array": [sound], "sampling_rate": [RATE]}, r"sampling rate is \[16000\]: .*a list of dictionaries"),
        ({"array": sound, "sampling_rate": -1}, "sampling rate is -1: expected samples a second"),
    ):
        with pytest.raises(ValueError, match=message):
            ask(given)
    (tmp_path / "t.txt").write_text("x" * 100)
    with open(tmp_path / "t.txt") as text, pytest.raises(ValueError, match=r"opened as text.*mode 'rb'"):
        ask(text)


def test_forms_of_arrays_that_are_one_clip(ask):
    sound = voice(1, 1.0)
    assert_same_scores(ask(np.ma.array(sound, mask=False)), ask(sound))
    half = torch.from_numpy(sound).bfloat16()
    assert_same_scores(ask(half), ask(half.float()))
    assert_same_scores(ask((RATE, half)), ask(half.float()))


def test_a_silence_that_may_be_another_scale_is_told(ask, tmp_path):
    sound = voice(1, 1.0)
    with pytest.raises(ValueError, match=r"int32 has its full scale at 2147483648: if these are 16-bit samples"):
        ask((RATE, (sound * 30_000).astype(np.int32)))
    pascal = (sound * 2e-5).astype(np.float32)
    sf.write(tmp_path / "p.wav", pascal, RATE, subtype="FLOAT")
    for given in (pascal, str(tmp_path / "p.wav")):
        with pytest.raises(ValueError, match=r"float samples reach .*where full scale is 1: if they have another unit"):
            ask(given)
    (finding,) = clip_findings("p", read_clip(tmp_path / "p.wav"))
    assert finding.skipped and "such as pascal" in finding.detail
    with pytest.raises(ValueError, match=r"silence \(all samples are 0\)"):
        ask(np.zeros(RATE, np.int16))


# Texts


def test_a_text_without_a_known_word_is_missing_and_told(ask_fused):
    sound = voice(1, 1.0)
    wanted = ask_fused(sound)
    for text in ("xyzzy plugh", "???", "\U0001f600"):
        answer = ask_fused(sound, text=text)
        assert_same_scores(answer, wanted)
        assert answer.notes == ("the model knows no word of the text, which counts as missing",)
    known = ask_fused(sound, text="xyzzy hello")
    assert known.notes == () and known[0]["score"] != wanted[0]["score"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ask_fused([sound, sound], text=["hello you", "xyzzy"])
    assert [str(one.message) for one in caught if "knows no word" in str(one.message)]


def test_a_text_that_is_cut_is_told(ask_fused):
    sound = voice(1, 1.0)
    (note,) = ask_fused(sound, text="hello " * 300).notes
    assert note == "text truncated: the first 256 of its 300 tokens count"
    assert ask_fused(sound, text="hello " * 256).notes == ()


@pytest.mark.parametrize("text", ["hello \ud83d", "\udcff"])
def test_a_text_with_half_a_character_is_refused(ask_fused, text):
    with pytest.raises(ValueError, match=r"half of a surrogate pair at .*: expected Unicode"):
        ask_fused(voice(1, 1.0), text=text)
