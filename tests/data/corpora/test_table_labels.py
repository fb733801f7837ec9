"""Labels and cells of a table that are not what they seem: joined, reported or refused, with what to do."""

import json
import re

import pytest

from hf_ser.data.corpora.table import list_utterances
from hf_ser.data.corpora.table_labels import is_one_edit
from hf_ser.data.listing import column_names
from hf_ser.normal_form import normal_name


@pytest.fixture
def listed(tmp_path):
    def write_and_list(text: str, suffix: str = ".csv", **flags):
        (tmp_path / f"t{suffix}").write_text(text, encoding="utf-8")
        return list_utterances(tmp_path / f"t{suffix}", **flags)

    return write_and_list


def table(*labels: str, column: str = "label") -> str:
    rows = [f'{n}.wav,"{label}",s{n}' for n, label in enumerate(labels)]
    return "\n".join([f"path,{column},speaker", *rows]) + "\n"


@pytest.mark.parametrize("way", ["angry!", "angry?", "*angry*", "'angry'", "angry;", "...angry", "angry…", "angry:"])
def test_punctuation_around_a_label_makes_no_class(listed, way):
    listing = listed(table("angry", way, "sad"))
    assert listing.labels == ("angry", "sad")
    (finding,) = listing.findings
    assert finding.kind == "joined_labels" and "'angry' (1)" in finding.detail


@pytest.mark.parametrize("name", ["arousal+", "arousal-", "?", "a.b", "c#", "happy (weak)"])
def test_signs_that_tell_names_apart_stay(name):
    assert normal_name(name) == name


def test_a_rare_label_one_letter_from_a_frequent_one_is_named(listed):
    listing = listed(table(*["sad"] * 30, "sadd", *["angry"] * 30, "agnry", "calm", "odd"))
    assert [(f.kind, f.item, f.count) for f in listing.findings] == [
        ("misspelt_label", "label agnry", 1),
        ("misspelt_label", "label sadd", 1),
    ]
    assert "30 have sad, which is one letter away: correct it in the table" in listing.findings[1].detail
    assert listing.labels == ("agnry", "angry", "calm", "odd", "sad", "sadd")


@pytest.mark.parametrize(
    ("one", "other", "edit"),
    [
        *[("sad", other, True) for other in ("sadd", "sa", "mad", "asd", "sda", "xsad")],
        *[("sad", other, False) for other in ("sad", "sadly", "das", "bored", "")],
    ],
)
def test_one_edit(one, other, edit):
    assert is_one_edit(one, other) is is_one_edit(other, one) is edit


@pytest.mark.parametrize("cell", ["angry|sad", "angry; sad", "angry/sad", "angry, sad", "sad and angry", "angry|odd"])
def test_a_cell_of_several_labels_is_left_out_and_counted(listed, cell):
    listing = listed(table("angry", "sad", cell, cell))
    assert listing.labels == ("angry", "sad")
    (finding,) = listing.findings
    assert (finding.kind, finding.skipped, finding.count) == ("several_labels", True, 2)
    assert "holds 2 labels: give each clip one" in finding.detail


@pytest.mark.parametrize("cell", ["happy/excited", "shock and awe"])
def test_a_name_that_is_written_with_a_stroke_stays_a_class(listed, cell):
    listing = listed(table("angry", "sad", cell))
    assert cell in listing.labels and not listing.findings


def test_swapped_columns_are_named(listed):
    with pytest.raises(ValueError, match=r"found file names in the column of the label, such as a\.wav.*seem swapped"):
        listed("label,path\na.wav,sad\nb.wav,angry\n")
    with pytest.raises(ValueError, match=r"in that of the path file names too.*--columns label=NAME"):
        listed("path,label\na.wav,a.wav\nb.wav,b.wav\n")
    assert listed("label,path\na.wav,sad\nb.wav,angry\n", columns={"path": "label", "label": "path"}).labels == (
        "angry",
        "sad",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "path,votes:angry,votes:sad\na.wav,many,1\n",
            "row 1: column votes:angry: found 'many', expected a number",
        ),
        ("path,votes:angry,votes:sad\na.wav,-1,1\n", "row 1: column votes:angry: found -1, expected a number of votes"),
        ('path,votes\na.wav,"{""sad"": ""x""}"\n', "votes are .*for sad: found 'x', expected a number of votes"),
    ],
)
def test_votes_that_are_no_numbers_are_named_by_column_row_and_value(listed, text, said):
    with pytest.raises(ValueError, match=r"none of its 1 rows can be used \(bad_votes 1\)") as error:
        listed(text)
    assert re.search(said, str(error.value))
    assert str(error.value).count("row 1") == 1


def test_invalid_ages_are_one_finding(listed):
    rows = "".join(f"{n}.wav,sad,s,{word}\n" for n, word in enumerate(["twenties"] * 3 + ["thirties", "31"]))
    (finding,) = listed("path,label,speaker,age\n" + rows).findings
    assert (finding.kind, finding.count, finding.skipped) == ("bad_number", 4, False)
    assert finding.item.endswith("t.csv, column age")
    assert finding.detail == "4 cells are read as empty: found 'twenties' (3), 'thirties' (1), expected a number"


def test_invalid_sexes_are_one_finding(listed):
    (finding,) = listed("path,label,speaker,sex\na,sad,s,x\nb,sad,s,y\n").findings
    assert (finding.kind, finding.count) == ("unknown_sex", 2)


@pytest.mark.parametrize(
    ("votes", "label"),
    [
        ({"Sad": 2, "sad": 3, "happy": 4}, "sad"),
        ({"Sad": 3, "sad": 2, "happy": 4}, "Sad"),
        ({"no emotion": 2, "no_emotion": 2, "angry": 3}, "no emotion"),
        ({"1": 2, "1.0": 2, "2": 3}, "1"),
        ({"Sad": 2, "sad": 2, "happy": 4}, None),
        ({"nan": 5, "happy": 4}, None),
    ],
)
@pytest.mark.parametrize("spread", [False, True])
def test_the_majority_is_taken_after_spellings_of_votes_are_joined(tmp_path, votes, label, spread):
    more = {f"votes:{name}": count for name, count in votes.items()} if spread else {"votes": votes}
    rows = [{"path": "a.wav", **more}, {"path": "b.wav", "label": "other"}]
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    listing = list_utterances(tmp_path / "t.jsonl")
    assert [one.label for one in listing.utterances if one.id == "table/a.wav"] == ([label] if label else [])
    joined = [one.count for one in listing.findings if one.kind == "joined_votes"]
    assert joined == ([1] if len(votes) == 3 else [])
    if label:
        assert sum(listing.utterances[0].votes.values()) in (3.0, 4.0, 5.0)


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        (["+", "-", "0"] * 4, "'+' (4 of 12 clips), '-' (4 of 12 clips)"),
        (["PA", "NA"] * 5, "'NA' (5 of 10 clips)"),
        ([":-)", ":-(", "ok"] * 3, "':-)' (3 of 9 clips), ':-(' (3 of 9 clips)"),
        (["None", "Low", "High"] * 3, "'None' (3 of 9 clips)"),
        (["+", "-"] * 3, "missing one, and none"),
    ],
)
def test_a_class_that_is_called_as_an_empty_cell_is_not_lost(listed, labels, named):
    with pytest.raises(ValueError, match=rf"{re.escape(named)}.*keep it with --columns label:.*=NAME"):
        listed(table(*labels))


def test_the_user_says_what_a_cell_means(listed):
    labels = ["PA", "NA"] * 5
    assert listed(table(*labels), columns=column_names("label:NA=negative")).labels == ("PA", "negative")
    listing = listed(table(*labels), columns=column_names("label:NA="))
    assert listing.labels == ("PA",) and len(listing.utterances) == 5
    assert listed(table(*["+", "-"] * 3), columns=column_names("label:+=+,label:-=-")).labels == ("+", "-")
    text = "path,label,speaker\na,sad,Nan\nb,sad,Ben\nc,sad,Nan\n"
    assert [one.speaker for one in listed(text).utterances] == [None, "table/Ben", None]
    (detail,) = [one.detail for one in listed(text).findings if one.kind == "unknown_speaker_word"]
    assert detail.endswith("if one is a name, give --columns speaker:Nan=Nan")
    kept = listed(text, columns=column_names("speaker:Nan=Nan"))
    assert [one.speaker for one in kept.utterances] == ["table/Nan", "table/Ben", "table/Nan"]
    with pytest.raises(ValueError, match=r"found 'path:x=y'.*label:CELL=NAME"):
        listed(text, columns=column_names("path:x=y"))


def test_few_or_plainly_missing_labels_are_no_classes(listed):
    assert listed(table(*["sad", "happy"] * 20, "NA", "-")).labels == ("happy", "sad")
    assert listed(table(*["sad", "happy", "nan", "?", "N/A"] * 4)).labels == ("happy", "sad")


def test_numbers_with_a_plus_are_the_same_class(listed):
    assert listed(table("+1", "1", "-1", "0", "+1")).labels == ("-1", "0", "1")


@pytest.mark.parametrize(
    "labels",
    [
        [f"{number / 7:.2f}" for number in range(48)],
        [str(number) for number in range(48)],
        [f"{number / 10}" for number in range(10, 25)] * 9,
    ],
)
def test_ratings_are_no_labels(listed, labels):
    with pytest.raises(ValueError, match=r"found \d+ different numbers.*look like ratings.*bin them into classes"):
        listed(table(*labels))


@pytest.mark.parametrize("labels", [range(8), [0.5, 1, 1.5, 2], list(range(20)) * 5])
def test_numbers_of_a_few_classes_are_labels(listed, labels):
    assert len(listed(table(*map(str, labels))).labels) == len(set(labels))


@pytest.mark.parametrize("header", ["path,label,speaker", "File Name,Emotion,Speaker"])
def test_a_header_in_the_middle_is_named_and_no_label(listed, header):
    listing = listed(f"{header}\na.wav,sad,s\n{header}\nb.wav,happy,t\n")
    assert listing.labels == ("happy", "sad")
    assert [(one.kind, one.item) for one in listing.findings if one.skipped] == [("repeated_header", "t.csv, row 2")]
