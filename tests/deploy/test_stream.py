"""hf_ser/deploy/stream.py: segments of a recording that arrives in chunks, and where speech is found in it."""

import itertools

import calls
import numpy as np
import pytest
import torch
from models.tiny import save_trained

from hf_ser.deploy.stream import SerStream
from hf_ser.deploy.stream_speech import REACH, EnergyDetector, SpeechFrames, runs, speech_detector
from hf_ser.deploy.stream_windows import Stretch, joined
from hf_ser.runs.classifier import Classifier

RATE = 16_000


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return Classifier(str(save_trained("audio", tmp_path_factory.mktemp("audio"))), "cpu")


@pytest.fixture(scope="module")
def call():
    """A voice of 7 s, a pause of 2 s, one of 1.5 s, a pause of 4 s, all over faint noise."""
    parts = [calls.voice(1, 7.0), np.zeros(2 * RATE), calls.voice(2, 1.5), np.zeros(4 * RATE)]
    noise = 1e-4 * np.random.default_rng(0).standard_normal(sum(map(len, parts)))
    return (np.concatenate(parts) + noise).astype(np.float32)


def segments_of(stream: SerStream, samples: np.ndarray, sizes) -> list:
    found, at = [], 0
    for size in sizes:
        found += stream.feed(samples[at : at + size])
        at += size
        if at >= len(samples):
            break
    return found + stream.close()


def assert_equal(some: list, others: list) -> None:
    assert [(one.start, one.end, one.speech, one.emotion) for one in some] == [
        (one.start, one.end, one.speech, one.emotion) for one in others
    ]
    for one, other in zip(some, others, strict=True):
        assert one.probability == pytest.approx(other.probability, abs=1e-5)


def test_segments_do_not_depend_on_the_chunks(model, call):
    draw = np.random.default_rng(1)
    whole = segments_of(SerStream(model, detector="energy"), call, [len(call)])
    chunks = segments_of(SerStream(model, detector="energy"), call, iter(lambda: int(draw.integers(1, 9000)), None))
    assert_equal(chunks, whole)
    assert_equal(joined(model, chunks), joined(model, whole))
    assert whole[0].start == 0 and whole[-1].end == pytest.approx(len(call) / RATE)
    assert all(one.end == other.start for one, other in itertools.pairwise(whole))


def test_a_moment_is_answered_within_the_latency(model, call):
    stream, chunk, answered = SerStream(model, detector="energy", window_seconds=2), RATE // 10, 0.0
    for start in range(0, len(call), chunk):
        answered = max([answered, *(one.end for one in stream.feed(call[start : start + chunk]))])
        given = min(start + chunk, len(call)) / RATE
        assert answered >= given - stream.latency_seconds - chunk / RATE
    assert len(stream.samples) < 6 * RATE  # what no later window reaches is forgotten


def test_speech_is_found_between_pauses(model, call):
    found = joined(model, segments_of(SerStream(model, detector="energy"), call, [len(call)]))
    speech = [one for one in found if one.speech]
    assert speech[0].start < 0.2 and abs(speech[-1].end - 10.5) < 0.4
    silences = [one for one in found if not one.speech]
    assert len(silences) == 2 and abs(silences[0].start - 7) < 0.4 and abs(silences[0].end - 9) < 0.4
    assert all(one.emotion is None and one.probabilities is None and not one.unsure for one in silences)
    assert all(one.unsure == (one.probability < model.abstain_threshold) for one in speech)


def test_another_rate_and_integers_are_the_same_recording(model):
    voice = calls.voice(3, 3.0)
    one = joined(model, segments_of(SerStream(model, detector="energy"), voice, [len(voice)]))
    short = np.round(voice * 32767).astype(np.int16)
    other = joined(model, segments_of(SerStream(model, detector="energy"), short, [len(voice)]))
    assert [(a.start, a.emotion) for a in one] == [(b.start, b.emotion) for b in other]
    doubled = joined(
        model, segments_of(SerStream(model, 32_000, detector="energy"), np.repeat(voice, 2), [2 * len(voice)])
    )
    assert doubled[-1].end == pytest.approx(one[-1].end, abs=0.01)


def test_log_probabilities_of_overlapping_windows_are_averaged_by_length():
    assert Stretch(True, 0, 100, 40, behind=100).new_windows() == [(0, 40), (20, 60), (40, 80), (60, 100)]
    stretch = Stretch(True, 0, 95, 40, behind=95)
    assert stretch.new_windows()[-1] == (55, 95)
    for number, window in enumerate(stretch.new_windows()):
        stretch.answers[window] = np.array([float(number)])
    cells = stretch.cells()
    assert [(start, end) for start, end, _ in cells] == [(0, 20), (20, 40), (40, 60), (60, 80), (80, 95)]
    assert [float(mean[0]) for _, _, mean in cells] == pytest.approx([0.0, 0.5, 1.5, (2 + 3) / 2, 3.0])


def test_windows_hold_silence_around_speech_and_cells_do_not():
    stretch = Stretch(True, 10, 40, 40, before=0)
    assert not stretch.new_windows() or stretch.new_windows() == [(0, 40)]
    stretch.is_over, stretch.behind = True, 50
    assert stretch.new_windows() == [(0, 40), (10, 50)]
    stretch.answers = {(0, 40): np.array([0.0]), (10, 50): np.array([1.0])}
    assert [(start, end, float(mean[0])) for start, end, mean in stretch.cells()] == [(10, 20, 0.0), (20, 40, 0.5)]


def test_a_text_model_and_windows_that_it_cannot_take_are_refused(model, tmp_path):
    with pytest.raises(ValueError, match=r"The window is 9 s. Expected 1 s to 3, which is all"):
        SerStream(model, window_seconds=9)
    with pytest.raises(ValueError, match="text-only model"):
        SerStream(Classifier(str(save_trained("text", tmp_path)), "cpu"))
    with pytest.raises(ValueError, match="NaN or infinite"):
        SerStream(model, detector="energy").feed(np.array([np.nan]))
    with pytest.raises(ValueError, match=r"the shape \(2, 10\)"):
        SerStream(model, detector="energy").feed(np.zeros((2, 10)))
    with pytest.raises(ValueError, match="expected one of silero, energy"):
        speech_detector("loud")


def test_pauses_are_closed_and_bursts_left_out_however_frames_arrive():
    class Given:
        name = "given"

        def decide(self, frames):
            return frames[:, 0] > 0

    flags = np.zeros(200, bool)
    flags[20:40] = flags[50:70] = flags[100:104] = flags[150:170] = True  # a short pause, a short burst
    samples = np.repeat(flags, 512).astype(np.float32)
    whole = SpeechFrames(Given()).add(samples, is_last=True)
    assert list(runs(whole)) == [(False, 17), (True, 56), (False, 74), (True, 26), (False, 27)]
    frames, parts = SpeechFrames(Given()), []
    for start in range(0, len(samples), 3000):
        parts.append(frames.add(samples[start : start + 3000]))
        assert sum(map(len, parts)) >= (start + 3000) // 512 - REACH - 1 or start + 3000 > len(samples)
    parts.append(frames.add(np.zeros(0, np.float32), is_last=True))
    assert np.array_equal(np.concatenate(parts), whole)


def test_noise_of_any_level_is_no_speech_by_energy():
    draw = np.random.default_rng(0)
    for level in (1e-4, 1e-3, 1e-2):
        noise = (level * draw.standard_normal(20 * RATE)).astype(np.float32).reshape(-1, 512)[: 20 * RATE // 512]
        assert EnergyDetector().decide(noise)[320:].mean() < 0.02


def test_silero_leaves_the_threads_as_they_are():
    pytest.importorskip("silero_vad", reason="needs the extra vad")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert speech_detector().name == "silero"
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
