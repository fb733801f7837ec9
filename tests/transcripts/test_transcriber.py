"""Transcribing clips: each once and early, equal in any batch, retried in batches, joined in order."""

import random
import zlib

import numpy as np
import pytest
import torch
from transcripts.fake import FakeDecode, FakeRecogniser, voiced

from hf_ser.data.schema import SAMPLING_RATE
from hf_ser.transcripts.recogniser import DecodeOptions, Transcript
from hf_ser.transcripts.transcriber import Request, transcribe, windows

SURE, UNSURE = -0.1, -2.0
REPEATED = " again and again and" * 20
NOTHING_HEARD = Transcript("", None, None, 1.0, None)


def request(samples: np.ndarray, key: str = "clip", language: str | None = "en") -> Request:
    return Request(key, len(samples) / SAMPLING_RATE, lambda: samples, language)


def broken(error: Exception, key: str = "broken") -> Request:
    def read():
        raise error

    return Request(key, 3.0, read, "en")


def with_pause(*voices: int, seconds: float = 25) -> np.ndarray:
    """One window per voice, with a pause after each but the last."""
    parts = [part for voice in voices for part in (voiced(voice, seconds), np.zeros(4800, np.float32))]
    return np.concatenate(parts[:-1])


@pytest.fixture
def scripted(monkeypatch):
    """Replaces the recogniser's `decode` by a FakeDecode with the given script."""

    def put(script: dict | None = None) -> FakeDecode:
        decode = FakeDecode(script)
        monkeypatch.setattr(FakeRecogniser, "decode", lambda self, *windows: decode(*windows))
        return decode

    return put


def transcript(samples: np.ndarray, language: str | None = "en", recogniser=None, **options) -> Transcript:
    """Transcript of one clip, in 30 s unless the options say otherwise."""
    options = DecodeOptions(**{"whole_window": True, **options})
    ((_, answer),) = transcribe(recogniser or FakeRecogniser(), [request(samples, "clip", language)], options)
    return answer


# Windows


def test_a_clip_of_30_seconds_is_one_window():
    samples = voiced(100, 30)
    assert [len(part) for part in windows(samples)] == [len(samples)]
    assert [len(part) for part in windows(samples[:0])] == [0]
    assert len(windows(np.append(samples, samples[:1]))) == 2


def test_a_long_clip_is_cut_in_its_pauses_and_loses_nothing():
    draw = np.random.default_rng(0)
    pauses, parts, length = [], [], 0
    while length < 100 * SAMPLING_RATE:
        burst = draw.normal(0, 0.1, draw.integers(3 * SAMPLING_RATE, 9 * SAMPLING_RATE))
        pause = draw.normal(0, 0.001, draw.integers(2400, 8000))  # 0.15 s and more
        pauses.append((length + len(burst), length + len(burst) + len(pause)))
        parts += [burst, pause]
        length = pauses[-1][1]
    samples = np.concatenate(parts).astype(np.float32)
    cut = windows(samples)
    ends = np.cumsum([len(part) for part in cut])
    assert len(cut) >= 4
    np.testing.assert_array_equal(np.concatenate(cut), samples)
    for part, end in zip(cut[:-1], ends, strict=False):
        assert 20 * SAMPLING_RATE <= len(part) <= 30 * SAMPLING_RATE
        assert any(start + 800 <= end <= stop - 799 for start, stop in pauses), end  # a tenth of a second around it


def test_the_cut_is_in_the_middle_of_the_pause():
    samples = voiced(100, 50)
    start = 25 * SAMPLING_RATE + 7
    samples[start : start + 1600] = 0
    assert [len(part) for part in windows(samples)] == [start + 800, len(samples) - start - 800]


# The same answers in any company


@pytest.fixture(scope="module")
def mixed() -> list[Request]:
    """Clips of many lengths, among them three of several windows, some with a given language."""
    draw = random.Random(1)
    lengths = [draw.uniform(0.2, 8) for _ in range(16)] + [4.0, 29.99, 30.0, 0.00007]
    clips = [voiced(100 + number, seconds) for number, seconds in enumerate(lengths)]
    clips += [with_pause(*range(voice, voice + 4)) for voice in (200, 300, 400)]
    languages = [draw.choice(("de", None)) for _ in clips]
    return [
        request(clip, f"clip {n}", language) for n, (clip, language) in enumerate(zip(clips, languages, strict=True))
    ]


@pytest.mark.parametrize("whole_window", [False, True])
def test_neither_batch_nor_order_changes_an_answer(mixed, whole_window):
    # By the real decoder; about half of the windows are poor at first, so temperatures and seeds matter.
    options = DecodeOptions(whole_window=whole_window, temperatures=(0.0, 0.5, 1.0), logprob_threshold=-0.5)
    runs = []
    for batch_size in (1, 3, 32):
        shuffled = random.Random(batch_size).sample(mixed, len(mixed))
        answers = list(transcribe(FakeRecogniser(), shuffled, options, batch_size))
        assert sorted(one.key for one, _ in answers) == sorted(one.key for one in mixed)
        runs.append({one.key: answer for one, answer in answers})
    assert runs[0] == runs[1] == runs[2]
    assert {answer.temperature for answer in runs[0].values()} >= {0.0, 1.0}
    assert len({answer.text for answer in runs[0].values()}) > 16  # short ones may agree by chance


def test_the_longest_come_first_and_clips_are_batched_by_length(scripted):
    scripted()
    lengths = {1: 0.3, 2: 0.5, 3: 0.51, 4: 1.5, 5: 29.4, 6: 30.0, 7: 1.4}
    requests = [request(voiced(voice, seconds), str(voice)) for voice, seconds in lengths.items()]
    whole, alone = FakeRecogniser(), FakeRecogniser()
    list(transcribe(whole, requests, DecodeOptions(whole_window=True), batch_size=3))
    assert whole.encoded == [(30, [6, 5, 4]), (30, [7, 3, 2]), (30, [1])]
    list(transcribe(alone, requests, DecodeOptions()))
    assert alone.encoded == [(2, [4, 7, 3]), (1, [2, 1]), (30, [6, 5])]


def test_the_window_is_part_of_the_answer():
    clip = voiced(123, 2)
    assert transcript(clip, whole_window=False) != transcript(clip) == transcript(clip)


# A clip alone, then 30 s


ENDLESS = " a different word" * 9
"""Of 153 tokens, too many for ten seconds and fewer than openai-whisper's own rules find suspicious."""


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        pytest.param((" fine", SURE, 0.0), (" other", SURE, 0.0), ("fine", False), id="a sure answer is kept"),
        pytest.param((ENDLESS[:70], SURE, 0.0), (" fine", SURE, 0.0), ("fine", True), id="too many tokens"),
        pytest.param((REPEATED[:69], SURE, 0.0), (" fine", SURE, 0.0), ("fine", True), id="repeats itself"),
        pytest.param((" bad", UNSURE, 0.0), (" fine", SURE, 0.0), ("fine", True), id="improbable"),
        pytest.param((" bad", UNSURE, 0.9), (" fine", SURE, 0.0), ("fine", True), id="silence in the clip alone"),
        pytest.param((" bad", UNSURE, 0.9), (" bad", UNSURE, 0.9), ("", True), id="silence in both"),
    ],
)
def test_a_suspicious_answer_to_a_clip_alone_is_decoded_again_in_30_s(scripted, first, second, expected):
    decode, recogniser = scripted({7: [first, second]}), FakeRecogniser()
    answer = transcript(voiced(7, 6.2), recogniser=recogniser, whole_window=False)
    assert (answer.text, answer.suspicious) == expected
    assert recogniser.encoded == [(7, [7]), (30, [7])][: 1 + answer.suspicious]
    assert [temperature for temperature, _ in decode.calls] == [0.0] * (1 + answer.suspicious)


def test_the_second_attempt_has_no_limit_and_poor_answers_to_it_are_tried_at_temperatures(scripted):
    poor = (" poor", UNSURE, 0.0)
    decode = scripted({7: [poor, poor, (" fine", SURE, 0.0)]})
    answer = transcript(voiced(7, 2.2), whole_window=False, temperatures=(0.0, 0.4))
    assert (answer.text, answer.temperature) == ("fine", 0.4)
    assert [temperature for temperature, _ in decode.calls] == [0.0, 0.0, 0.4]
    assert decode.limits == [30, None, None]
    decode = scripted({7: [poor]})
    transcript(voiced(7, 2.2), whole_window=False, temperatures=(0.0,), max_tokens=20)
    assert decode.limits == [20, 20]


def test_suspicious_clips_of_all_lengths_are_decoded_in_30_s_together(scripted):
    scripted({voice: [(" poor", UNSURE, 0.0), (" fine", SURE, 0.0)] for voice in range(1, 7)})
    requests = [request(voiced(voice, voice), str(voice)) for voice in range(1, 10)]
    recogniser = FakeRecogniser()
    list(transcribe(recogniser, requests, DecodeOptions(), batch_size=4))
    assert [voices for seconds, voices in recogniser.encoded if seconds == 30] == [[6, 5, 4, 3], [2, 1]]


def test_the_language_of_a_suspicious_clip_is_detected_again(scripted):
    scripted({301: [(" poor", UNSURE, 0.0), (" fine", SURE, 0.0)]})
    recogniser = FakeRecogniser()
    assert transcript(voiced(301, 2), None, recogniser, whole_window=False).language == "de"
    assert recogniser.detected == [301, 301]


def test_the_compression_ratio_is_of_the_whole_text(scripted):
    scripted({1: [(" no no no no", SURE, 0.0)], 2: [(" no no no no", SURE, 0.0)]})
    assert transcript(with_pause(1, 2)).compression_ratio == pytest.approx(23 / len(zlib.compress(b"no " * 7 + b"no")))
    assert transcript(voiced(0, 2)).compression_ratio is None


def test_seeds_differ_by_clip_window_and_temperature_alone(scripted):
    poor = [(" poor", UNSURE, 0.0)]
    options = DecodeOptions(temperatures=(0.0, 0.5))
    clips = [request(with_pause(1, 2), "one"), request(voiced(3, 3), "two")]
    seen = []
    for batch_size, requests in ((1, clips), (8, clips[::-1])):
        decode = scripted({1: poor, 2: poor, 3: poor})
        list(transcribe(FakeRecogniser(), requests, options, batch_size))
        seen.append(decode.seeds)
    assert seen[0] == seen[1]
    assert len(set(seen[0].values())) == 6
    assert all(0 <= seed < 2**63 for seed in seen[0].values())


# Early, batch by batch


@pytest.mark.parametrize("lengths", [[1] * 40, range(1, 31)], ids=["equal", "all different"])
def test_clips_come_early_and_are_read_a_batch_ahead(scripted, lengths):
    scripted()
    read = []

    def reading(seconds: int, voice: int):
        read.append(voice)
        return voiced(voice, seconds)

    requests = [
        Request(f"{voice}", seconds, lambda seconds=seconds, voice=voice: reading(seconds, voice), "en")
        for voice, seconds in enumerate(lengths, start=100)
    ]
    answers = transcribe(FakeRecogniser(), requests, DecodeOptions(), batch_size=4)
    for done in range(1, len(requests) + 1):
        next(answers)
        assert len(read) <= done + 2 * 4
    assert sorted(read) == list(range(100, 100 + len(requests)))
    assert next(answers, None) is None


def test_of_very_long_clips_less_than_a_batch_is_read_ahead(scripted):
    scripted()
    read = []
    requests = [Request(f"{n}", 600.0, lambda n=n: read.append(n) or voiced(100 + n, 1), "en") for n in range(8)]
    next(transcribe(FakeRecogniser(), requests, DecodeOptions(), batch_size=4))
    assert len(read) <= 5


def test_an_unreadable_clip_gives_its_error_and_the_rest_is_transcribed(scripted):
    scripted()
    nan = np.append(voiced(9, 1), np.float32("nan"))
    requests = [
        *(broken(OSError("gone"), "a"), broken(ValueError("no audio"), "b"), request(nan, "c")),
        *(request(voiced(1, 2), "d"), request(voiced(2, 4), "e")),
    ]
    answers = {one.key: answer for one, answer in transcribe(FakeRecogniser(), requests, DecodeOptions(), 2)}
    assert isinstance(answers["a"], OSError)
    assert str(answers["b"]) == "no audio"
    assert str(answers["c"]) == "c: found samples that are NaN or infinite, expected audio."
    assert (answers["d"].text, answers["e"].text) == ("1", "2")
    with pytest.raises(KeyError, match="a mistake"):
        list(transcribe(FakeRecogniser(), [broken(KeyError("a mistake"))], DecodeOptions()))


def test_a_batch_size_of_0_is_refused():
    with pytest.raises(ValueError, match=r"--batch_size 0: expected at least one window in a batch\."):
        next(transcribe(FakeRecogniser(), [], DecodeOptions(), batch_size=0))


def test_an_error_of_the_model_is_not_a_clip_that_cannot_be_read(scripted):
    scripted()
    with pytest.raises(ValueError, match="not in tuple"):
        transcript(voiced(1, 2), language="xx")


# Tried again


def test_poor_answers_are_retried_together_and_encoded_once(scripted):
    poor, good = (" poor", UNSURE, 0.0), (" good", SURE, 0.0)
    tries = {voice: 1 + voice % 4 for voice in range(1, 25)}  # six each settled by the first, second, third, fourth
    decode = scripted({voice: [poor] * (count - 1) + [good] for voice, count in tries.items()})
    recogniser = FakeRecogniser()
    requests = [request(voiced(voice, 3), str(voice)) for voice in tries]
    options = DecodeOptions(whole_window=True, temperatures=(0.0, 0.3, 0.6, 0.9))
    answers = {int(one.key): answer for one, answer in transcribe(recogniser, requests, options, batch_size=6)}
    assert sorted(voice for _, voices in recogniser.encoded for voice in voices) == sorted(tries)
    # 24 first tries, 18 second, 12 third, 6 fourth: never a batch that is not whole.
    assert sorted(temperature for temperature, _ in decode.calls) == [0.0] * 4 + [0.3] * 3 + [0.6] * 2 + [0.9]
    assert {len(voices) for _, voices in decode.calls} == {6}
    assert {voice: answer.temperature for voice, answer in answers.items()} == {
        voice: options.temperatures[count - 1] for voice, count in tries.items()
    }
    assert {answer.text for answer in answers.values()} == {"good"}


@pytest.mark.parametrize(
    ("tries", "text", "temperature"),
    [
        pytest.param([(REPEATED, SURE, 0.0), (" fine", SURE, 0.0)], "fine", 0.2, id="repeats itself"),
        pytest.param([(" bad", -1.01, 0.0), (" fine", -0.99, 0.0)], "fine", 0.2, id="improbable"),
        pytest.param([(" bad", UNSURE, 0.59), (" worse", -3.0, 0.0)], "worse", 0.4, id="the last is kept"),
        pytest.param([(" bad", UNSURE, 0.61), (" fine", SURE, 0.0)], "", 0.0, id="silence is not tried again"),
        pytest.param([(" sure", SURE, 0.99)], "sure", 0.0, id="a sure text is kept against no speech"),
        pytest.param([(REPEATED, SURE, 0.99), (" fine", SURE, 0.99)], "fine", 0.2, id="repeats itself, no speech"),
        pytest.param([(" bad", UNSURE, 0.0), (" bad", UNSURE, 0.9)], "", 0.2, id="silence at the second try"),
        pytest.param([(" bad", -1.0, 0.9)], "", 0.0, id="at the threshold: not poor, but silence"),
        pytest.param([(" bad", UNSURE, float("nan"))], "bad", 0.4, id="a model without a no-speech token"),
    ],
)
def test_which_answers_are_retried_and_which_are_silence(scripted, tries, text, temperature):
    scripted({7: tries})
    answer = transcript(voiced(7, 3), temperatures=(0.0, 0.2, 0.4))
    assert (answer.text, answer.temperature) == (text, temperature)
    stood = tries[min(round(temperature / 0.2), len(tries) - 1)]
    assert answer.avg_logprob == stood[1]  # of a single window exactly
    assert answer.no_speech_prob == pytest.approx(stood[2], nan_ok=True)


def test_digital_silence_is_not_decoded(scripted):
    decode, recogniser = scripted(), FakeRecogniser()
    faint = voiced(1, 2) / 40  # -92 dBFS
    for samples in (voiced(0, 2), voiced(0, 70), faint, voiced(1, 0)):
        assert transcript(samples, recogniser=recogniser) == NOTHING_HEARD
    assert recogniser.encoded == decode.calls == []


def test_a_batch_that_does_not_fit_into_memory_is_halved_permanently(scripted, monkeypatch):
    decode, refused, most = scripted(), [], 1

    def small(recogniser, features, *rest):
        if len(features) > most:
            refused.append(len(features))
            raise torch.cuda.OutOfMemoryError("out of memory")
        return decode(features, *rest)

    monkeypatch.setattr(FakeRecogniser, "decode", small)
    requests = [request(voiced(voice, 3), str(voice), None) for voice in range(1, 17)]
    answers = {one.key: answer.text for one, answer in transcribe(FakeRecogniser(), requests, DecodeOptions(), 8)}
    assert answers == {one.key: one.key for one in requests}
    assert sorted(refused) == [2, 2, 2, 2, 4, 4, 8]  # once, of two batches
    most = 0
    with pytest.raises(torch.cuda.OutOfMemoryError):
        transcript(voiced(1, 3))


# Languages


def test_a_language_is_detected_once_a_clip_in_its_first_window_with_audio(scripted):
    decode, recogniser = scripted(), FakeRecogniser()
    leading = np.concatenate([voiced(0, 25), with_pause(301, 302, 303)])  # a window of silence, then `de`, `ja`, `en`
    requests = [
        *(
            request(leading, "long", None),
            request(voiced(601, 3), "found", None),
            request(voiced(601, 3), "given", "ja"),
        ),
        request(with_pause(602, 604), "given long", "en"),
    ]
    options = DecodeOptions(whole_window=True)
    answers = {one.key: answer for one, answer in transcribe(recogniser, requests, options)}
    assert {key: answer.language for key, answer in answers.items()} == {
        "long": "de",
        "found": "de",
        "given": "ja",
        "given long": "en",
    }
    assert sorted(recogniser.detected) == [301, 601]
    assert {key: answer.text for key, answer in answers.items()} == {
        "long": "301 302 303",
        "found": "601",
        "given": "601",
        "given long": "602 604",
    }
    assert sorted(recogniser.opened) == [("de", None), ("en", None), ("ja", None)]
    assert len(decode.calls) == 2  # what waited for its language is decoded together, after the rest


def test_a_model_of_one_language_neither_detects_nor_gets_a_language(scripted):
    scripted()
    recogniser = FakeRecogniser(multilingual=False)
    answer = transcript(with_pause(1, 2), language="de", recogniser=recogniser, prompt="Kim")
    assert (answer.text, answer.language) == ("1 2", None)
    assert recogniser.detected == []
    assert recogniser.opened == [(None, "Kim")]


# Put together


def test_windows_are_weighted_by_their_tokens(scripted):
    script = {1: [("abc", UNSURE, 0.0), ("abc", -0.6, 0.1)], 2: [("a", -0.2, 0.3)], 3: [("dropped", UNSURE, 0.9)]}
    scripted(script)
    answer = transcript(with_pause(1, 2, 0, 3))
    assert (answer.text, answer.language, answer.no_speech_prob, answer.temperature) == ("abc a", "en", 0.1, 0.2)
    assert answer.avg_logprob == pytest.approx((4 * -0.6 + 2 * -0.2) / 6)


def test_if_all_windows_are_judged_silent_the_log_probability_is_of_all(scripted):
    scripted({1: [("a", -2.0, 0.9)], 2: [("abc", -5.0, 0.8)]})
    answer = transcript(with_pause(1, 2))
    assert (answer.text, answer.no_speech_prob) == ("", 0.8)
    assert answer.avg_logprob == pytest.approx((2 * -2.0 + 4 * -5.0) / 6)


@pytest.mark.parametrize(
    ("language", "texts", "whole"),
    [
        ("en", (" Hello,", " you there. "), "Hello, you there."),
        ("en", ("Hello", "you"), "Hello you"),
        ("de", (" eins ", " zwei"), "eins zwei"),
        ("en", (" one", " ", "two"), "one two"),
        ("ja", ("こんにちは", "世界"), "こんにちは世界"),
        ("zh", (" 你好", " 世界"), "你好 世界"),
    ],
)
def test_windows_are_joined_by_a_space_if_the_language_has_spaces(scripted, monkeypatch, language, texts, whole):
    scripted({voice: [(text, SURE, 0.0)] for voice, text in enumerate(texts, start=1)})
    recogniser = FakeRecogniser()
    monkeypatch.setattr(recogniser, "initial_tokens", lambda *given: [1])
    assert transcript(with_pause(*range(1, len(texts) + 1)), language, recogniser).text == whole
