"""hf_ser/deploy/timeline*.py: time lines of recordings, the files they are written to, and predict.py --timeline."""

import base64
import csv
import hashlib
import json
import re
from dataclasses import replace

import calls
import numpy as np
import pytest
import soundfile as sf
from models.tiny import LABELS

from hf_ser.deploy.stream import SerStream
from hf_ser.deploy.stream_windows import Segment, joined
from hf_ser.deploy.timeline import Timeline, make_timeline
from hf_ser.deploy.timeline_command import summary
from hf_ser.deploy.timeline_turns import read_turns
from hf_ser.deploy.timeline_words import clock
from hf_ser.models.decoding import audio_blocks, read_audio

RATE = 16_000
RTTM = "SPEAKER call 1 1.00 2.50 <NA> <NA> anna <NA> <NA>\nSPEAKER call 1 0.20 0.90 <NA> <NA> ben <NA> <NA>\n"


@pytest.fixture(scope="module")
def call(tmp_path_factory):
    """A stereo recording at 8 kHz: the left speaker first, then the right one."""
    path = tmp_path_factory.mktemp("call") / "call.wav"
    one, other = calls.voice(1, 5.0)[::2], calls.voice(2, 4.0)[::2]
    both = 1e-4 * np.random.default_rng(0).standard_normal((80_000, 2))
    both[: len(one), 0] += one
    both[-len(other) :, 1] += other
    sf.write(path, 0.5 * both, 8000)
    return path


@pytest.fixture(scope="module")
def timeline(model, call):
    return make_timeline(model, call, voice_activity="energy", channels=True)


@pytest.mark.parametrize(
    ("suffix", "rate", "channel"), [("wav", 8000, "mix"), ("flac", 16_000, "right"), ("mp3", 44_100, "left")]
)
def test_blocks_are_what_is_read_as_a_whole(tmp_path, suffix, rate, channel):
    voice = 0.5 * calls.voice(1, 3.0)
    sf.write(tmp_path / f"a.{suffix}", np.stack([voice, -voice if channel == "mix" else voice[::-1]], 1), rate)
    whole = read_audio(str(tmp_path / f"a.{suffix}"), channel=channel).samples
    blocks = np.concatenate(list(audio_blocks(str(tmp_path / f"a.{suffix}"), channel=channel)))
    assert np.array_equal(blocks, whole)


def test_the_time_line_is_that_of_the_stream(model, call):
    mono = make_timeline(model, call, voice_activity="energy", channel="left")
    samples, stream = read_audio(str(call), channel="left").samples, SerStream(model, detector="energy")
    found = [one for start in range(0, len(samples), 1111) for one in stream.feed(samples[start : start + 1111])]
    expected = joined(model, found + stream.close())
    assert [(one.start, one.end, one.emotion) for one in mono.segments] == [
        (one.start, one.end, one.emotion) for one in expected
    ]
    np.testing.assert_allclose(
        [one.probability or 0 for one in mono.segments], [one.probability or 0 for one in expected], atol=1e-5
    )


def test_the_share_of_windows_unlike_the_training_data_is_stated(model, call, tmp_path, monkeypatch):
    assert make_timeline(model, call, voice_activity="energy").unlike_share is None  # the model does not know

    def answers(clips, texts, batch_size):
        known = len(known_windows)
        known_windows.extend(clips)
        shares = [0.001 if (known + place) % 2 else 0.5 for place in range(len(clips))]
        return whole(clips, texts, batch_size)[0], shares

    whole, known_windows = model.answers, []
    monkeypatch.setattr(model, "answers", answers)
    timeline = make_timeline(model, call, voice_activity="energy")
    assert len(known_windows) > 1 and timeline.unlike_share == (len(known_windows) // 2) / len(known_windows)
    percent = f"{100 * timeline.unlike_share:.0f} % of the windows are unlike the training data"
    assert percent in summary(timeline, 0.1)
    assert percent in timeline.save(tmp_path / "call.html").read_text()
    assert Timeline.read(timeline.save(tmp_path / "call.json")) == timeline


def test_channels_are_speakers(timeline):
    assert set(timeline.speakers) == {"left", "right"} and timeline.seconds == 10
    left = [one for one in timeline.segments if one.speaker == "left" and one.speech]
    right = [one for one in timeline.segments if one.speaker == "right" and one.speech]
    assert left and max(one.end for one in left) < 5.5
    assert right and min(one.start for one in right) > 5.5
    assert [one.start for one in timeline.segments] == sorted(one.start for one in timeline.segments)
    with pytest.raises(ValueError, match="neither with turns nor with one channel"):
        make_timeline(None, "a.wav", channels=True, channel="left")


def test_turns_of_an_rttm_file_are_speakers(model, call, tmp_path):
    (tmp_path / "who.rttm").write_text(RTTM)
    found = make_timeline(model, call, turns=tmp_path / "who.rttm")
    assert found.speakers == ["ben", "anna"] and found.voice_activity == "rttm"
    assert found.segments[0].start == pytest.approx(0.2) and found.segments[-1].end == pytest.approx(3.5)
    assert all(one.speech for one in found.segments)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("SPEAKER call 1 x 2 <NA> <NA> anna <NA> <NA>\n", "line 1: found 'SPEAKER call 1 x 2"),
        ("SPEAKER call 1 3 -2 <NA> <NA> anna <NA> <NA>\n", "line 1"),
        ("\n", "found no turns. Expected SPEAKER lines"),
        (RTTM.replace("call", "a", 1).replace("call", "b"), "found no turns of call, only of a, b"),
    ],
)
def test_a_file_that_is_no_rttm_is_refused(tmp_path, content, message):
    (tmp_path / "who.rttm").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_turns(tmp_path / "who.rttm", "call")


def test_a_mono_recording_has_no_channels_as_speakers(model, tmp_path):
    sf.write(tmp_path / "mono.wav", calls.voice(1, 1.0), RATE)
    with pytest.raises(ValueError, match=r"found 1 channel. Expected 2, one a speaker"):
        make_timeline(model, tmp_path / "mono.wav", channels=True)


# Files


def test_json_is_read_as_it_was_written(timeline, tmp_path):
    assert Timeline.read(timeline.save(tmp_path / "a.json")) == timeline
    silent = next(one for one in json.loads((tmp_path / "a.json").read_text())["segments"] if not one["speech"])
    assert set(silent) == {"start", "end", "speech", "unsure", "speaker"}


def test_csv_rttm_vtt_and_labels_hold_the_segments(timeline, tmp_path):
    for suffix in ("csv", "rttm", "vtt", "txt"):
        timeline.save(tmp_path / f"a.{suffix}")
    with open(tmp_path / "a.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(timeline.segments) and {row["emotion"] for row in rows} <= {*LABELS, ""}
    speech = [one for one in timeline.segments if one.speech]
    turns = read_turns(tmp_path / "a.rttm")
    assert [(turn.start, turn.speaker) for turn in turns] == sorted(
        (round(one.start, 3), f"{one.speaker}_{one.emotion}") for one in speech
    )
    vtt = (tmp_path / "a.vtt").read_text()
    assert vtt.startswith("WEBVTT\n\n") and vtt.count(" --> ") == len(speech)
    assert f"{clock(speech[0].start)} --> {clock(speech[0].end)}\n{speech[0].speaker}: {speech[0].emotion}" in vtt
    labels = (tmp_path / "a.txt").read_text().splitlines()
    assert len(labels) == len(timeline.segments) and all(len(line.split("\t")) == 3 for line in labels)
    assert clock(3725.0014) == "01:02:05.001"


def test_names_of_users_stay_text(timeline, tmp_path):
    evil = replace(timeline.segments[0], speech=True, emotion=LABELS[0], probability=0.5, speaker="<b>x --> y\n1")
    one = replace(timeline, segments=[evil], file="a/<script>.wav")
    for suffix in ("vtt", "rttm", "txt", "html"):
        one.save(tmp_path / f"a.{suffix}")
    assert (tmp_path / "a.vtt").read_text().count(" --> ") == 1
    assert len((tmp_path / "a.rttm").read_text().splitlines()) == 1
    page = (tmp_path / "a.html").read_text()
    assert "<b>x" not in page and "<script>.wav" not in page


def test_the_page_plays_what_is_clicked(timeline, tmp_path, call):
    page = timeline.save(tmp_path / "deep" / "a.html").read_text()
    assert page.count('<rect class="bar"') == page.count("<tr data-from=") == len(timeline.segments)
    address = re.search(r'<audio [^>]*src="([^"]+)"', page)[1]
    assert (tmp_path / "deep" / address).resolve() == call.resolve()
    for name in ("script", "style"):
        (content,) = re.findall(rf"<{name}>(.*?)</{name}>", page, re.DOTALL)
        assert base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() in page
    assert "style=" not in page and "onclick" not in page  # its security policy lets neither in


def test_the_picture_has_a_row_for_ten_minutes(timeline, tmp_path):
    long = replace(
        timeline, seconds=1500.0, segments=[*timeline.segments, Segment(1400.0, 1500.0, False, speaker="left")]
    )
    assert timeline.save(tmp_path / "a.png").read_bytes()[16:24] != long.save(tmp_path / "b.png").read_bytes()[16:24]


def test_another_ending_is_refused(timeline, tmp_path):
    with pytest.raises(ValueError, match=r"found '.doc'. Expected one of .json, .csv, .rttm, .vtt, .txt, .png, .html"):
        timeline.save(tmp_path / "a.doc")


# The command


def test_predict_prints_a_time_line_and_writes_its_files(script, folder, call, tmp_path, capsys):
    arguments = [folder, call, "--timeline", "--vad", "energy", "--output", tmp_path / "a.json"]
    script("predict", *arguments, "--output", tmp_path / "a.vtt", "--window", 2)
    printed = capsys.readouterr()
    timeline = Timeline.read(tmp_path / "a.json")
    assert len(printed.out.splitlines()) == len(timeline.segments) and timeline.window_seconds == 2
    assert "real-time factor" in printed.err and (tmp_path / "a.vtt").is_file()
    script("predict", folder, call, "--timeline", "--vad", "energy", "--json", "--channels")
    assert json.loads(capsys.readouterr().out)["segments"][0]["speaker"] == "left"


@pytest.mark.parametrize(
    ("more", "message"),
    [(["--window", "2"], "--window does not go without"), (["--timeline", "--abstain"], "--abstain does not go with")],
)
def test_options_of_clips_and_time_lines_are_not_mixed(script, folder, call, capsys, more, message):
    with pytest.raises(SystemExit):
        script("predict", folder, call, *more)
    assert message in capsys.readouterr().err


def test_a_recording_that_cannot_be_read_is_named(script, folder, call, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        script("predict", folder, tmp_path / "gone.wav", call, "--timeline", "--vad", "energy")
    assert ended.value.code == 1
    printed = capsys.readouterr()
    assert "skipped: " in printed.err and "gone.wav" in printed.err and "call.wav" in printed.err
