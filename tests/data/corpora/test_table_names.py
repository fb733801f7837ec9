"""Names of columns: which are read by another name, and what is said of those that are not read."""

import json

import pytest

from hf_ser.data.corpora.table import list_utterances
from hf_ser.data.corpora.table_columns import Naming
from hf_ser.data.given_clips import given_clips


@pytest.fixture
def listed(tmp_path):
    def write_and_list(text, name="t.csv", **flags):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return list_utterances(tmp_path / name, **flags)

    return write_and_list


def found(listing, kind) -> list[tuple[str, int]]:
    return [(one.detail, one.count) for one in listing.findings if one.kind == kind]


@pytest.mark.parametrize(
    ("header", "row", "part"),
    [
        ("start,duration", "1.5,0.5", (1.5, 2.0)),
        ("offset,duration", "1.5,0.5", (1.5, 2.0)),
        ("onset,offset", "1.5,2", (1.5, 2.0)),
        ("start_ms,end_ms", "1500,2000", (1.5, 2.0)),
        ("Start Time (ms),dur [ms]", "1500,500", (1.5, 2.0)),
        ("start_ms,end_ms", "1.5 s,00:00:02", (1.5, 2.0)),
        ("tmin,tmax", "1.5,2", (1.5, 2.0)),
        ("Begin Time,End Time", "1.5,2", (1.5, 2.0)),
        ("Begin Time - ss.msec,Begin Time - msec,End Time - ss.msec,End Time - msec", "1.5,1500,2.0,2000", (1.5, 2.0)),
        ("Begin Time - hh:mm:ss.ms,End Time - hh:mm:ss.ms", "00:00:01.500,00:00:02.000", (1.5, 2.0)),
        ("Beginn,Ende", "1.5,2", (1.5, 2.0)),
        ("segmentStart,segmentEnd", "1.5,2", (1.5, 2.0)),
        ("start,end,duration", "1.5,2,9", (1.5, 2.0)),
        ("duration", "9", (None, None)),
    ],
)
def test_times_by_the_names_of_other_programs(listed, tmp_path, header, row, part):
    listing = listed(f"path,label,speaker,{header}\na.wav,sad,s,{row}\n")
    (one,) = listing.utterances
    assert (one.start_seconds, one.end_seconds) == part
    (clip,) = given_clips([str(tmp_path / "t.csv")]).clips
    assert (clip.start_seconds, clip.end_seconds) == part


def test_people_texts_and_labels_by_other_names_are_counted(listed):
    row = {"audio_filepath": "a.wav", "emotion": "sad", "speaker_id": "anna", "gender": "f", "text": "oh dear"}
    listing = listed(json.dumps(row | {"arousal": 0.2, "duration": 4.5}) + "\n", "t.jsonl")
    (one,) = listing.utterances
    assert (one.id, one.label, one.speaker, one.sex) == ("table/a.wav", "sad", "table/anna", "female")
    assert (one.transcript, one.activation) == ("oh dear", 0.2)
    assert found(listing, "read_as") == [
        (
            "columns by another name: read audio_filepath as `path`, emotion as `label`, speaker_id as `speaker`, "
            "gender as `sex`, text as `transcript`, arousal as `activation`",
            6,
        )
    ]
    assert found(listing, "unread_columns") == [("not read: duration", 1)]


def test_our_own_name_and_the_users_go_first(listed):
    text = "path,label,emotion,speaker,speaker_id\na.wav,sad,angry,anna,7\n"
    (one,) = listed(text).utterances
    assert (one.label, one.speaker) == ("sad", "table/anna")
    listing = listed(text, columns={"label": "emotion", "speaker": "", "session": "speaker_id"})
    (one,) = listing.utterances
    assert (one.label, one.speaker, one.session) == ("angry", None, "7")
    assert not found(listing, "read_as") and not found(listing, "doubtful_column")
    assert found(listing, "unread_columns") == [("not read: label, speaker", 2)]


@pytest.mark.parametrize(
    ("column", "what", "remedy"),
    [
        ("caller", "the speaker", "--columns speaker=caller"),
        ("utterance", "the text", "--columns transcript=utterance"),
        ("Endzeitpunkt", "a time", "--columns end=Endzeitpunkt (end_ms= in milliseconds)"),
        ("gender_code", "the sex", "--columns sex=gender_code"),
    ],
)
def test_a_column_that_seems_to_be_ours_is_named_with_what_to_write(listed, column, what, remedy):
    listing = listed(f"path,label,{column}\na.wav,sad,x\n")
    ((detail, _),) = found(listing, "doubtful_column")
    assert f"seems to be that of {what}, and it is not read: give {remedy} if it is" in detail
    ours = remedy.split("=")[0].removeprefix("--columns ")
    assert not found(listed(f"path,label,{column}\na.wav,sad,x\n", columns={ours: ""}), "doubtful_column")


def test_two_columns_that_may_be_one_of_ours_are_not_chosen_between(listed):
    listing = listed("path,label,actor,spk\na.wav,sad,1,2\n")
    assert listing.utterances[0].speaker is None
    assert len(found(listing, "doubtful_column")) == 2


@pytest.mark.parametrize("column", ["until", "n_samples", "seg_len", "stop_frame"])
def test_starts_without_the_ends_that_are_there_are_refused(listed, column):
    text = f"path,label,speaker,start,{column}\na.wav,sad,s,0,1\n"
    with pytest.raises(
        ValueError, match=rf"no ends, and a column {column} that is not read.*give --columns \w+={column}"
    ):
        listed(text)
    assert listed(text, columns={"end": ""}).utterances[0].end_seconds is None
    assert listed(text, columns={"end": column}).utterances[0].end_seconds == 1.0


def test_clips_that_go_on_over_later_ones_are_refused_or_named(listed):
    text = "path,label,speaker,start,bis\na.wav,sad,s,0,1\na.wav,happy,s,1,2\n"
    with pytest.raises(ValueError, match=r"1 clips extend to the end of their file .*table/a.wav@0-.*--columns"):
        listed(text)
    assert [count for _, count in found(listed(text, columns={"end": ""}), "runs_over_others")] == [1]
    assert not found(listed(text, columns={"end": "bis"}), "runs_over_others")
    listing = listed("path,label,start,end\na.wav,sad,0,\na.wav,sad,1,2\n")
    assert len(found(listing, "runs_over_others")) == 1


def test_a_duration_of_nothing_is_no_clip(listed):
    listing = listed("path,label,start,duration\na.wav,sad,1,0\na.wav,sad,1,1\n")
    assert [one.kind for one in listing.findings if one.skipped] == ["bad_segment"]


def test_many_unread_columns_are_named_in_part():
    columns = ["path", "label", *(f"x{number}" for number in range(30))]
    naming = Naming({})
    (finding,) = naming.findings("t.csv", columns, naming.named("t.csv", columns))
    assert finding.count == 30 and finding.detail.endswith("x19 and 10 others")
