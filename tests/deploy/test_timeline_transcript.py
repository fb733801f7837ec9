"""Words with their times in a time line, and in the files it is written to."""

import csv
import json

import calls
import numpy as np
import pytest
import soundfile as sf

from hf_ser.deploy.stream_windows import Segment
from hf_ser.deploy.timeline import Timeline, make_timeline
from hf_ser.deploy.timeline_transcript import MARGIN_SECONDS, parts_of, timing_recogniser
from hf_ser.transcripts.recogniser import Word

RTTM = "SPEAKER call 1 0.50 2.00 <NA> <NA> anna <NA> <NA>\nSPEAKER call 1 3.50 1.00 <NA> <NA> ben <NA> <NA>\n"


class Clock:
    """A recogniser that says a word a second, in the language that it is given."""

    name, revision = "openai-whisper/clock", "abc"

    def words(self, samples: np.ndarray, language: str | None = None) -> list[Word]:
        seconds = len(samples) / 16_000
        return [Word(one + 0.3, one + 0.5, f" {language}<{one}>") for one in range(int(seconds))]


@pytest.fixture(scope="module")
def timeline(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("call")
    sf.write(folder / "call.wav", 0.5 * calls.voice(1, 5.0), 16_000)
    (folder / "who.rttm").write_text(RTTM)
    return make_timeline(model, folder / "call.wav", turns=folder / "who.rttm", recogniser=Clock(), language="en")


def test_each_word_is_in_the_segment_of_its_middle_at_its_time(timeline):
    assert timeline.transcript_source == "openai-whisper/clock@abc"
    words = [word for one in timeline.segments for word in one.words]
    # 0.3 s behind the beginning of each part, which is 0.2 s before the turn.
    assert [word.start for word in words] == pytest.approx([0.6, 1.6, 3.6])
    assert "".join(one.text for one in timeline.segments if one.speaker == "anna") == "en<0> en<1>"
    assert [one.text for one in timeline.segments if one.speaker == "ben"] == ["en<0>"]
    again = Timeline.from_json(json.loads(json.dumps(timeline.to_json())), "x")
    assert again == timeline


def test_the_files_have_the_text_with_its_times(timeline, tmp_path):
    for name in ("a.csv", "a.vtt", "a.html"):
        timeline.save(tmp_path / name)
    with open(tmp_path / "a.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == [one.text for one in timeline.segments]
    vtt = (tmp_path / "a.vtt").read_text()
    assert "<00:00:00.600> en&lt;0&gt;<00:00:01.600> en&lt;1&gt;\n" in vtt and vtt.endswith("\n")
    page = (tmp_path / "a.html").read_text()
    assert '<span class="word" data-start="3.6"> en&lt;0&gt;</span>' in page and "Text by openai-whisper/clock" in page


def test_speech_is_cut_in_pauses_and_where_it_is_long():
    def of(*pairs):
        return [Segment(a, b, True, "angry", 0.5) for a, b in pairs]

    found = parts_of(of((1, 2), (2, 4), (5, 6)))
    assert [len(one.segments) for one in found] == [2, 1]
    assert (found[0].before, found[0].behind) == (1 - MARGIN_SECONDS, 4 + MARGIN_SECONDS)
    first, second = parts_of(of((0, 200), (200, 350)))
    assert (first.before, first.behind, second.before, second.behind) == (0, 200, 200, 350 + MARGIN_SECONDS)
    assert parts_of([Segment(0, 1, False)]) == []


def test_a_recogniser_without_times_is_refused(monkeypatch):
    monkeypatch.setattr("hf_ser.deploy.timeline_transcript.load_recogniser", lambda *_: object())
    with pytest.raises(ValueError, match=r"gives no times of words\. Expected openai-whisper:NAME or faster-whisper"):
        timing_recogniser("transformers:openai/whisper-base")
