"""Changed copies of a recording are found; clips that are only similar are not."""

from io import BytesIO

import numpy as np
import pytest
import soundfile as sf
from calls import dialled, hiss, hum, music, telephone, tones, voice

from hf_ser.data import fingerprint as module
from hf_ser.data.corpora.synthetic import list_utterances, utterance
from hf_ser.data.fingerprint import fingerprint, similar_pairs
from hf_ser.data.schema import SAMPLING_RATE
from hf_ser.models.decoding import decode_audio

CLIPS = 24


def mp3(clip):
    buffer = BytesIO()
    sf.write(buffer, clip, SAMPLING_RATE, format="MP3")
    return decode_audio(buffer.getvalue())


def noisy(clip, snr):
    # Not the same noise for each clip: that would be a recording which they truly share.
    noise = np.random.default_rng(len(clip)).standard_normal(len(clip)) * np.sqrt(np.mean(clip**2))
    return clip + noise * 10 ** (-snr / 20)


CHANGES = {
    "the same": lambda clip: clip,
    "turned over": lambda clip: -clip,
    "60 dB quieter": lambda clip: clip / 1000,
    "clipped": lambda clip: np.clip(clip / np.abs(clip).max() * 2, -1, 1),
    "as MP3": mp3,
    "at 8 kHz and back": lambda clip: decode_audio(
        {"array": decode_audio({"array": clip, "sampling_rate": 16_000}, 8000), "sampling_rate": 8000}
    ),
    "later by half a hop": lambda clip: np.pad(clip, (module.HOP // 2, 0)),
    "after a second of zeros": lambda clip: np.pad(clip, (SAMPLING_RATE + 1, 0)),
    "without its first quarter": lambda clip: clip[len(clip) // 4 :],
    "without its last quarter": lambda clip: clip[: -len(clip) // 4],
    "with noise at 20 dB": lambda clip: noisy(clip, 20),
    "with hum": lambda clip: clip + 0.1 * np.sin(np.arange(len(clip)) * 2 * np.pi * 50 / SAMPLING_RATE),
    "with a constant": lambda clip: clip + 0.1,
}


@pytest.fixture(scope="module")
def clips():
    """Four speakers' clips of 0.7 to 1.8 seconds."""
    return [decode_audio(utterance(s, n).audio) for s in range(1, 5) for n in range(1, CLIPS // 4 + 1)]


@pytest.fixture(scope="module")
def prints(clips):
    return [fingerprint(clip) for clip in clips]


def test_different_clips_of_the_same_voices_are_no_pairs():
    """Of the whole generated corpus: 480 clips of twelve voices with the same formants, hardly over a second long."""
    assert similar_pairs([fingerprint(decode_audio(one.audio)) for one in list_utterances().utterances]) == []


@pytest.mark.parametrize("change", CHANGES)
def test_each_changed_clip_is_found_with_its_origin_and_no_other(clips, prints, change):
    changed = [fingerprint(np.asarray(CHANGES[change](clip), dtype=np.float32)) for clip in clips]
    found = {(i, j): score for i, j, score in similar_pairs([*prints, *changed])}
    assert set(found) == {(i, i + CLIPS) for i in range(CLIPS)}
    assert all(module.THRESHOLD <= score <= 1 for score in found.values())


def test_the_score_falls_with_the_noise(clips, prints):
    def score(snr):
        return similar_pairs([prints[0], fingerprint(noisy(clips[0], snr))])[0][2]

    assert similar_pairs([prints[0], prints[0]]) == [(0, 1, 1.0)]
    assert 1 > score(30) > score(20) > module.THRESHOLD


def test_a_fingerprint_is_small_and_does_not_depend_on_the_gain(clips, prints):
    for clip, known in zip(clips, prints, strict=True):
        assert 0 < len(known) < 300 * (len(clip) / SAMPLING_RATE + 0.1)
        assert fingerprint(clip) == fingerprint(clip * np.float32(2**-8)) == known
        assert fingerprint(clip.astype(np.float64)) == known


SILENCE_FLOOR = {
    "no samples": np.zeros(0, np.float32),
    "one sample": np.zeros(1, np.float32),
    "zeros": np.zeros(50_000, np.float32),
    "NaN": np.full(50_000, np.nan, np.float32),
}


@pytest.mark.parametrize("silence", SILENCE_FLOOR)
def test_nothing_gives_empty_bytes_which_resemble_nothing(prints, silence):
    assert fingerprint(SILENCE_FLOOR[silence]) == b""
    assert similar_pairs([b"", prints[0], b"", b"", prints[0], b""]) == [(1, 4, 1.0)]
    assert similar_pairs([b"", b""]) == similar_pairs([]) == []


def test_a_nan_in_a_clip_does_not_hide_it(clips, prints):
    broken = clips[0].copy()
    broken[100] = np.nan
    assert [(i, j) for i, j, _ in similar_pairs([prints[0], fingerprint(broken)])] == [(0, 1)]


def test_steady_tones_resemble_no_clip_and_noises_no_other_noise(prints):
    time_seconds = np.arange(2 * SAMPLING_RATE) / SAMPLING_RATE
    tones = [np.sin(2 * np.pi * hertz * time_seconds) for hertz in (440, 1000)]
    noises = [np.random.default_rng(i).standard_normal(2 * SAMPLING_RATE) for i in range(10)]
    assert similar_pairs([*prints, *map(fingerprint, [*tones, *noises])]) == []


def test_pairs_within_a_part_are_left_out(prints):
    twice = [*prints[:3], *prints[:3]]
    assert [pair[:2] for pair in similar_pairs(twice, [0, 0, 0, 1, 1, 1])] == [(0, 3), (1, 4), (2, 5)]
    assert [pair[:2] for pair in similar_pairs(twice, [0, 1, 2, 0, 2, 2])] == [(1, 4)]


def test_the_result_does_not_depend_on_the_size_of_a_block(monkeypatch, clips, prints):
    all_prints = [*prints, *(fingerprint(clip[1000:]) for clip in clips)]
    at_once = similar_pairs(all_prints)
    monkeypatch.setattr(module, "BLOCK_CLIPS", 7)
    monkeypatch.setattr(module, "SCANNED_ENTRIES", 1000)
    assert similar_pairs(all_prints) == at_once
    assert len(at_once) == CLIPS


def test_of_very_many_copies_each_is_tied_to_the_next_ones(monkeypatch, prints):
    monkeypatch.setattr(module, "MAX_COLLISIONS", 3)
    found = {pair[:2] for pair in similar_pairs([prints[0]] * 20)}
    assert {(i, j) for i in range(20) for j in range(i + 1, min(i + 4, 20))} >= found
    assert {(i, i + 1) for i in range(19)} <= found


def test_a_part_for_each_clip_is_expected(prints):
    with pytest.raises(ValueError, match="1 parts for 2 fingerprints: expected one part for each clip"):
        similar_pairs(prints[:2], [0])


def test_too_many_clips_are_refused(monkeypatch, prints):
    monkeypatch.setattr(module, "MAX_CLIPS", 2)
    with pytest.raises(ValueError, match="3 fingerprints, at most 2 expected"):
        similar_pairs(prints[:3])


N_CALLS = 30


@pytest.fixture(scope="module")
def voices():
    """Unrelated calls of 4 to 20 s."""
    seconds = np.random.default_rng(0).uniform(4, 20, N_CALLS)
    return [voice(number, length) for number, length in enumerate(seconds)]


@pytest.fixture(scope="module")
def tune():
    return music(20)


def beeping(clip):
    return clip + np.resize(np.pad(tones(1400), (0, 5 * SAMPLING_RATE)), len(clip))


LINES = {
    "hiss": lambda clip, n, tune: hiss(clip, n, -30),
    "loud hiss": lambda clip, n, tune: hiss(clip, n, -15),
    "hiss alone": lambda clip, n, tune: hiss(0 * clip, n, -20),
    "hiss and telephone": lambda clip, n, tune: telephone(hiss(clip, n, -40)),
    "telephone and hiss": lambda clip, n, tune: hiss(telephone(clip), n, -20),
    "one microphone's hum": lambda clip, n, tune: hum(hiss(clip, n, -45), -25),
    "the same number dialled first": lambda clip, n, tune: hiss(np.append(dialled("0123456789"), clip), n, -40),
    "a beep every five seconds": lambda clip, n, tune: hiss(beeping(clip), n, -40),
    "the same music behind the voice": lambda clip, n, tune: hiss(clip + 0.3 * tune[: len(clip)], n, -45),
}


@pytest.mark.parametrize("line", LINES)
def test_unrelated_calls_are_no_pairs(voices, tune, line):
    calls = [LINES[line](clip, 1000 + n, tune) for n, clip in enumerate(voices)]
    assert similar_pairs([fingerprint(call) for call in calls]) == []


def test_copies_of_calls_are_found_and_nothing_else(voices):
    calls = [hiss(clip, 1000 + n, -45) for n, clip in enumerate(voices)]
    copies = [
        [telephone(call) for call in calls[:10]],
        [call[len(call) // 4 :] for call in calls[10:20]],
        [hum(hiss(0.3 * call, n, -60), -50) for n, call in enumerate(calls[20:])],
    ]
    found = similar_pairs([fingerprint(call) for call in [*calls, *(one for each in copies for one in each)]])
    assert [pair[:2] for pair in found] == [(n, n + N_CALLS) for n in range(N_CALLS)]


def test_peaks_beyond_the_first_and_the_last_frame_are_no_matches():
    """All of the first clip but its end is moved before the second begins, or all but its beginning past the last."""
    bins = np.arange(0, 200, 10)
    last = module.MAX_FRAMES - 1
    for early, late in ((0, 1), (1, 0)):
        frames = np.arange(last - 2000, last, 10) if late else np.arange(0, 2000, 10)
        many = [(frame, bin_) for frame in frames for bin_ in bins]
        edge = [(0 if early else last, bin_) for bin_ in bins]
        peaks = [np.array(sorted(each), module.PEAK).tobytes() for each in (many, edge)]
        joined, edges = module._joined(peaks)
        shift = np.array([-3000 if early else 3000])
        assert module._agreement(joined, edges, np.array([0]), np.array([1]), shift).tolist() == [0.0]


def test_a_tone_of_many_peaks_counts_once_for_each_that_it_meets():
    """In a level spectrum each frame is a peak; three of one clip may match one of the other."""
    dense = [(frame, 40) for frame in range(90)] + [(frame, 90) for frame in range(0, 90, 3)]
    sparse = [(frame, 40) for frame in range(1, 90, 3)] + [(frame, 150) for frame in range(0, 90, 3)]
    joined, edges = module._joined([np.array(sorted(each), module.PEAK).tobytes() for each in (dense, sparse)])
    (score,) = module._agreement(joined, edges, np.array([0]), np.array([1]), np.array([0]))
    assert score == pytest.approx(0.5)
