"""Mistakes in tables that people make, each with its likely cause and what to do."""

import pytest
from datasets import Dataset

from hf_ser.data.corpora.table import list_utterances
from hf_ser.data.corpora.table_paths import by_other_capitals, local_path
from hf_ser.data.prepared import load_prepared


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("t.csv", "path|label|speaker\na|sad|s\n", r"seem to be separated by '\|'.*first line `sep=\|`"),
        ("t.csv", "path:label\na:sad\n", "seem to be separated by ':'"),
        ("t.csv", "path,label\n1,a,sad\n2,b,sad\n", r"every row has one cell more, as R's.*row\.names=FALSE"),
        ("t.csv", "path,label,text\na,sad,oh, no\nb,sad,x\n", "a text with ',' in it has to be in quotes"),
        ("t.csv", "# exported\npath,label\na,sad\n", "the first line seems to be a comment"),
        ("t.csv", "path,label\n# a,b,c\na,sad\n", "the line seems to be a comment"),
        ("t.csv", "PK\x03\x04 and so on", "an Excel file or an archive under the name of a table"),
        ("t.xlsx", "", r"found '\.xlsx': convert it\. Save it from its program"),
        ("t.json", "[]", "convert it.*read_json"),
        ("t.sav", "", "convert it.*read_spss"),
        ("t.zip", "", "convert it.*Unpack it"),
        ("t.csv", "path,label,split\na,sad,0\nb,sad,1\n", r"These look like folds.*--split_file"),
        ("t.csv", "path,label,split\na,sad,fold0\nb,sad,fold_1\n", "These look like folds"),
        ("t.csv", "path,label\nhttps://x.example/a.wav,sad\n", "is a web address, expected a file: download it"),
        ("t.csv", "path,label,start\na,sad,00:00:01:12\n", r"a timecode with frames, expected seconds or h:min:s"),
        ("t.csv", "path,votes:sad\na,70%\n", "without the percent sign"),
        (
            "t.jsonl",
            '{"path": "a", "votes": ["sad", "sad"]}\n',
            r"Expected an object of counts by label",
        ),
    ],
)
def test_a_mistake_is_named_with_its_likely_cause(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=said) as refused:
        list_utterances(tmp_path / name)
    assert ".." not in str(refused.value).replace("...", "")


def test_a_folder_in_quotes_is_no_home():
    with pytest.raises(FileNotFoundError, match="A shell expands ~ only outside quotes"):
        list_utterances("~/nothing/here.csv")


def test_a_home_in_a_cell_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.wav").write_bytes(b"x")
    assert local_path(tmp_path / "elsewhere", "~/a.wav") == tmp_path / "a.wav"


def test_a_name_that_differs_in_capitals_is_named(tmp_path):
    (tmp_path / "Anna_01.WAV").write_bytes(b"x")
    assert by_other_capitals(tmp_path / "anna_01.wav") == "Anna_01.WAV"
    assert by_other_capitals(tmp_path / "anna_02.wav") is None


def test_a_data_set_that_was_prepared_keeps_its_speakers_and_truth_is_written_as_in_json(tmp_path):
    (tmp_path / "t.jsonl").write_text(
        '{"path": "a", "label": true, "speaker": "table/s0"}\n{"path": "b", "label": false, "speaker": "s0"}\n'
    )
    listing = list_utterances(tmp_path / "t.jsonl")
    assert listing.labels == ("false", "true") and {one.speaker for one in listing.utterances} == {"table/s0"}


def test_a_saved_selection_is_no_prepared_data_set_and_an_empty_one_has_no_rows(tmp_path):
    rows = Dataset.from_dict({"path": ["a.wav", "b.wav"], "label": ["sad", "happy"]})
    rows.select([0]).save_to_disk(tmp_path / "part")
    with pytest.raises(FileNotFoundError, match=r"without integrity\.json, as save_to_disk writes one after select"):
        load_prepared(tmp_path / "part")
    rows.select([]).save_to_disk(tmp_path / "none")
    with pytest.raises(ValueError, match=r"without a row|none of its 0 rows"):
        list_utterances(tmp_path / "none")
