"""Tables in practice: spellings, missing values of programs, paths of other machines, folders that are not labels."""

import json
import os
import unicodedata
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from hf_ser.data.corpora import table_rows
from hf_ser.data.corpora.table import list_utterances
from hf_ser.data.integrity import format_integrity
from hf_ser.data.listing import column_names
from hf_ser.data.prepare import prepare


@pytest.fixture
def listed(tmp_path):
    def write_and_list(text, suffix=".csv", **flags):
        (tmp_path / f"t{suffix}").write_text(text, encoding="utf-8")
        return list_utterances(tmp_path / f"t{suffix}", **flags)

    return write_and_list


def kinds(listing) -> list[str]:
    return [finding.kind for finding in listing.findings]


def tone(file, seconds=0.5, pitch=200.0):
    file.parent.mkdir(parents=True, exist_ok=True)
    sf.write(file, 0.3 * np.sin(2 * np.pi * pitch * np.arange(int(16000 * seconds)) / 16000), 16000)


def test_spellings_of_one_label_are_joined_and_counted(listed):
    labels = [
        "sad",
        "sad.",
        "sad\u200b",
        "Sad",
        " sad",
        "überrascht",
        "u\u0308berrascht",
        "no-emotion",
        "no_emotion",
        "sad",
    ]
    rows = "".join(f"{n}.wav,{label},s{n}\n" for n, label in enumerate(labels))
    listing = listed("path,label,speaker\n" + rows)
    assert listing.labels == ("no-emotion", "sad", "überrascht")
    found = {one.item: one.detail for one in listing.findings if one.kind == "joined_labels"}
    assert set(found) == {"label no-emotion", "label sad", "label überrascht"}
    assert found["label sad"] == "spellings that are read as one: 'sad' (3), 'Sad' (1), 'sad.' (1), 'sad\\u200b' (1)"


def test_numbers_of_one_class_and_its_votes_are_joined(listed):
    listing = listed(
        'path,label,speaker,votes\na,1,s,"{""1.0"": 2, ""2"": 1}"\nb,1.0,s,\nc,2,t,\nd,2.0,t,"{""-1"": 1}"\n'
    )
    assert listing.labels == ("1", "2")
    assert [one.votes for one in listing.utterances] == [{"1": 2.0, "2": 1.0}, None, None, None]
    assert kinds(listing) == ["joined_labels", "joined_labels", "lost_votes"]


def test_spellings_of_one_speaker_are_one_person(listed):
    names = ["Jürgen", "Ju\u0308rgen", "Jürgen.", "\u00a0Jürgen ", "Jür\u200bgen"]
    listing = listed("path,label,speaker\n" + "".join(f"{n},sad,{name}\n" for n, name in enumerate(names)))
    assert {one.speaker for one in listing.utterances} == {"table/Jürgen"}
    assert [one.item for one in listing.findings if one.kind == "joined_speakers"] == ["speaker Jürgen"]


def test_unknown_speakers_are_missing_and_counted(listed):
    cells = ["Unknown", "nan", "N/A", "-", "?", "none", "unk", "Unknown", "anna"]
    listing = listed("path,label,speaker\n" + "".join(f"{n},sad,{cell}\n" for n, cell in enumerate(cells)))
    assert [one.speaker for one in listing.utterances] == [None] * 8 + ["table/anna"]
    (said,) = (one.detail for one in listing.findings if one.kind == "unknown_speaker_word")
    assert said.startswith("8 cells mean that it is not known") and "'Unknown' (2)" in said and "'unk' (1)" in said


def test_labels_that_programs_write_are_none(listed):
    listing = listed("path,label,speaker\na,nan,s\nb,N/A,s\nc,<NA>,s\nd,sad,s\ne,none,s\nf,xxx,s\n")
    assert [one.label for one in listing.utterances] == ["sad", "none"]
    assert kinds(listing) == [*["incomplete_row"] * 3, "no_majority", "unknown_label_word", "doubtful_label"]


@pytest.mark.parametrize("column", ["label", "path", "speaker"])
def test_a_column_that_is_there_twice_is_refused_by_its_name(listed, column):
    with pytest.raises(ValueError, match=f"found 2 columns `{column}`, and only one of them can be `{column}`"):
        listed(f"path,label,speaker,{column}\na,sad,s,x\n")
    with pytest.raises(ValueError, match=f"found 2 columns `{column} x`"):
        listed(f"path,label,speaker,{column} x,{column} x\na,sad,s,1,2\n", columns={column: f"{column} x"})
    assert listed("path,label,speaker,note,note\na,sad,s,1,2\n").labels == ("sad",)


def test_published_names_of_a_split(listed):
    cells = ["Train", "Development", "Test1", "Test2", "training", "devel", "validate", "dev-clean", "", "nan"]
    listing = listed("path,label,speaker,split\n" + "".join(f"{n},sad,s,{cell}\n" for n, cell in enumerate(cells)))
    parts = ["train", "validation", "test", "test", "train", "validation", "validation", "validation", None, None]
    assert [one.split for one in listing.utterances] == parts
    assert "'Test1' (1 rows) as test" in next(one.detail for one in listing.findings if one.kind == "split_words")


@pytest.mark.parametrize("word", ["fold1", "1", "train-dev", "validated", "hold-out"])
def test_an_unknown_name_of_a_split_is_refused(listed, word):
    text = f"path,label,speaker,split\na,sad,s,train\nb,sad,s,{word}\nc,sad,s,{word}\n"
    with pytest.raises(
        ValueError, match=rf"found '{word}' \(2 rows\) in the column of the split\. Expected one of train, training"
    ):
        listed(text)
    assert {one.split for one in listed(text, columns=column_names("split=")).utterances} == {None}


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        *(("0 days 00:00:01.5", 1.5), ("00:01:02.25", 62.25), ("1:02", 62.0), ("1,5", 1.5), ("450ms", 0.45)),
        *(("1 days 00:00:01", 86401.0), ("2.5 s", 2.5), ("\uff11.5", 1.5), ("0 days 00:00:01,5", 1.5)),
    ],
)
def test_times_as_programs_write_them(listed, given, seconds):
    (one,) = listed(f'path,label,speaker,start,end\na,sad,s,0 days,"{given}"\n').utterances
    assert (one.start_seconds, one.end_seconds) == (0.0, pytest.approx(seconds))


def test_times_of_a_parquet_file(tmp_path):
    ends = [timedelta(seconds=1.5), pd.NaT]
    pd.DataFrame({"path": ["a", "b"], "label": "sad", "speaker": "s", "end": ends}).to_parquet(tmp_path / "t.parquet")
    assert [one.end_seconds for one in list_utterances(tmp_path / "t.parquet").utterances] == [1.5, None]


def test_decimal_commas_are_read_and_counted(listed):
    listing = listed("path;label;speaker;start;end;age;votes:sad\na;sad;s;0,1;0,5;34,5;0,5\n")
    (one,) = listing.utterances
    assert (one.start_seconds, one.end_seconds, one.age, one.votes) == (0.1, 0.5, 34.5, {"sad": 0.5})
    assert listing.findings[-1].detail.endswith("1 of age, 1 of end, 1 of start, 1 of votes")


@pytest.mark.parametrize(("ends", "unit"), [((400, 800), "milliseconds"), ((8000, 16000), "samples")])
def test_times_in_other_units_are_refused(listed, tmp_path, ends, unit):
    tone(tmp_path / "a.wav", 1.0)
    with pytest.raises(ValueError, match=rf"far beyond the end of their files.*fit as {unit}\. Expected .* in seconds"):
        listed("path,label,speaker,start,end\n" + "".join(f"a.wav,sad,s,{end - 400},{end}\n" for end in ends))
    assert len(listed("path,label,speaker,end\na.wav,sad,s,0.5\na.wav,sad,s,400\n").utterances) == 2


def test_a_spoken_sentence_is_the_transcript(listed):
    (one,) = listed("path\tlabel\tspeaker\tsentence\na\tsad\ts\tplease call me back\n", ".tsv").utterances
    assert (one.transcript, one.sentence, one.transcript_source) == ("please call me back", None, "reference")
    (one,) = listed("path,label,speaker,sentence\na,sad,s,请给我回电话\n").utterances
    assert one.transcript == "请给我回电话"
    (one,) = listed("path,label,speaker,sentence\na,sad,s,IEO 01\n").utterances
    assert (one.transcript, one.sentence) == (None, "IEO 01")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_file_names_of_another_system_are_found(listed, tmp_path, form):
    tone(tmp_path / unicodedata.normalize(form, "Müller/grüße 1.wav"))
    other = unicodedata.normalize("NFD" if form == "NFC" else "NFC", "Müller/grüße 1.wav")
    for path in (other, other.replace("/", "\\"), f"\ufeff{other}", other.replace(" ", "\u00a0")):
        (one,) = listed(f"path,label,speaker\n{path},sad,s\n").utterances
        assert one.audio.is_file()
        assert unicodedata.is_normalized("NFC", one.id)


def test_the_folder_of_the_recordings_and_paths_of_windows(listed, tmp_path):
    tone(tmp_path / "audio/clips/a.wav")
    text = "path,label,speaker\nC:\\Users\\x\\clips\\a.wav,sad,s\n"
    with pytest.raises(ValueError, match=r"absolute paths of Windows, the first C:.*give --audio_dir DIR, the folder"):
        listed(text)
    for given in (text, "path,label\n/home/y/clips/a.wav,sad\n", "path,label\nclips/a.wav,sad\n"):
        (one,) = listed(given, audio_dir=tmp_path / "audio").utterances
        assert one.audio == tmp_path / "audio/clips/a.wav"
    with pytest.raises(FileNotFoundError, match=r"--audio_dir .*: no such folder"):
        listed(text, audio_dir=tmp_path / "nowhere")


def test_files_that_are_not_there_are_named_once_with_the_remedy(tmp_path):
    (tmp_path / "t.csv").write_text("path,label\n" + f"{'a' * 300}.wav,sad\nb.wav,sad\n")
    with pytest.raises(
        ValueError, match=r"none of 2 clips could be used.*None of its files exists: give --audio_dir"
    ) as error:
        prepare("table", tmp_path / "t.csv", tmp_path / "ds")
    assert str(error.value).count(str(tmp_path)) <= 1


@pytest.mark.parametrize(
    "row",
    [
        *('{"path": "\\ud800", "label": "sad"}', "[" * 100_000, '{"path": "x", "label": "sad", "label": "angry"}', "{"),
        *('["x"]', '{"path": "x", "label": "sad", "votes": ' + "[" * 500 + "]" * 500 + "}"),
    ],
    ids=["surrogate", "deep", "twice", "torn", "list", "deep votes"],
)
def test_a_row_that_cannot_be_read_is_skipped_and_named(listed, row):
    listing = listed('{"path": "a", "label": "sad", "speaker": "s"}\n' + row + "\n", ".jsonl")
    assert [one.id for one in listing.utterances] == ["table/a"]
    (bad,) = (one for one in listing.findings if one.skipped)
    assert bad.kind in ("unreadable_row", "bad_votes") and "2" in bad.item


def test_a_damaged_parquet_file_is_one_clear_error(tmp_path):
    pd.DataFrame({"path": ["a"] * 999, "label": "sad"}).to_parquet(tmp_path / "t.parquet")
    raw = bytearray((tmp_path / "t.parquet").read_bytes())
    raw[4:300] = bytes(296)
    (tmp_path / "t.parquet").write_bytes(raw)
    with pytest.raises(ValueError, match=r"t.parquet: not readable as .parquet \(.*Expected a complete file"):
        list_utterances(tmp_path / "t.parquet")


def test_metadata_of_each_split(tree):
    root = tree("data/train/audio/a.wav", "data/train/audio/b.wav", "data/Test/audio/a.wav", "data/Test/left/out.wav")
    for part, rows in (("train", "audio/a.wav,sad,s1\naudio/b.wav,angry,s1\n"), ("Test", "audio/a.wav,sad,s2\n")):
        (root / f"data/{part}/metadata.csv").write_text(f"file_name,label,speaker\n{rows}")
    for folder in (root, root / "data"):
        listing = list_utterances(folder)
        assert [(one.split, one.label, one.speaker) for one in listing.utterances] == [
            ("test", "sad", "table/s2"),
            ("train", "sad", "table/s1"),
            ("train", "angry", "table/s1"),
        ]
        assert all(one.audio.is_file() for one in listing.utterances)
        assert [(one.kind, one.count) for one in listing.findings] == [("not_in_metadata", 1)]


@pytest.mark.parametrize(
    ("files", "text"),
    [
        (("0011/Angry/a.wav", "0012/Sad/b.wav"), "0011, 0012, and below them Angry, Sad, so that the upper ones seem"),
        (("anna/anger/a.wav", "bert/joy/b.wav"), "the upper ones seem to be speakers and the lower ones labels"),
        (("female/a.wav", "male/b.wav"), "which are sexes"),
        (("ESD/0011/Angry/a.wav", "ESD/0012/Sad/b.wav"), "found the sub-folders ESD, which alone holds all of them"),
        (("Actor_01/a.wav", "Actor_02/b.wav"), "which are numbered like speakers"),
        (("train/wavs/a.wav", "test/wavs/b.wav"), "which are names for folders of any content"),
    ],
)
def test_folders_that_are_no_labels_are_refused_with_the_way_out(tree, files, text):
    with pytest.raises(ValueError, match=f"{text}.*--label_pattern"):
        list_utterances(tree(*files))


@pytest.mark.parametrize("labels", [("class_0", "class_1"), ("0", "1"), ("wütend", "froh"), ("happy", "Actor_01")])
def test_folders_that_may_be_labels(tree, labels):
    assert set(list_utterances(tree(*(f"{label}/a.wav" for label in labels))).labels) == set(labels)


def test_labels_and_speakers_read_from_the_path(tree):
    root = tree("0011/Angry/a.wav", "0012/Sad/b.wav", "0012/c.wav", "d.wav")
    listing = list_utterances(root, label_pattern=r"([^/]+)/[^/]+\.wav$", speaker_pattern=r"^(\d\d)(\d\d)/")
    assert [(one.label, one.speaker) for one in listing.utterances] == [
        ("Angry", "table/00_11"),
        ("Sad", "table/00_12"),
        ("0012", "table/00_12"),
    ]
    assert [one.kind for one in listing.findings] == ["incomplete_row"]
    for wrong in ("Angry", "(a)(b)"):
        with pytest.raises(ValueError, match=r"--label_pattern '.*': found \d groups. Expected one, around the label"):
            list_utterances(root, label_pattern=wrong)


@pytest.mark.parametrize("rows", ["a,female\nb,male\n", "a,F\nb,M\n"])
def test_a_label_column_of_sexes_is_refused(listed, rows):
    with pytest.raises(ValueError, match=r"which are sexes\. Expected emotions.*--columns label=NAME"):
        listed(f"path,label\n{rows}")
    named = listed(f"path,who\n{rows}", columns={"label": "who"})  # any attribute can be learned by those who say so
    assert len(named.labels) == 2


def test_a_label_column_of_speakers_is_refused(listed):
    with pytest.raises(ValueError, match=r"which are their clips' speakers\. Expected emotions"):
        listed("path,who\na,anna\nb,bert\n", columns={"label": "who", "speaker": "who"})


def test_what_was_found_adds_up(tmp_path):
    for number, name in enumerate("abcd"):
        tone(tmp_path / f"{name}.wav", pitch=200.0 + 50 * number)
    tone(tmp_path / "again.wav", pitch=200.0)
    rows = [("a.wav", "sad"), ("b.wav", "angry"), ("c.wav", "xxx"), ("d.wav", "bored"), ("e.wav", "sad")]
    rows += [("again.wav", "sad"), ("b.wav", "nan"), ("", "sad")]
    lines = [json.dumps({"path": path, "label": label, "speaker": "s"}) for path, label in rows]
    (tmp_path / "t.jsonl").write_text("\n".join([*lines, "{", ""]))
    (tmp_path / "map.yaml").write_text("low: sad\nhigh: angry\n")
    _, report = prepare("table", tmp_path / "t.jsonl", tmp_path / "ds", str(tmp_path / "map.yaml"))
    assert report["n_found"] == 9 == report["n_kept"] + sum(report["skipped"].values()) + 1
    assert report["dropped_by_label_map"] == {"bored": 1}
    assert "found     9 rows and files = 2 kept + 6 skipped + 1 dropped by the label map" in format_integrity(report)
    stored = json.loads((tmp_path / "ds/integrity.json").read_text())
    assert {kind: stored[kind] for kind in ("n_found", "n_kept", "skipped")} == {
        kind: report[kind] for kind in ("n_found", "n_kept", "skipped")
    }


def test_controls_of_a_terminal_are_never_printed(tmp_path):
    tone(tmp_path / "a.wav")
    tone(tmp_path / "b.wav", pitch=300)
    rows = [
        {"path": "a.wav", "label": "\x1b[31mred\x07", "speaker": "s"},
        {"path": "b.wav\x1b]0;x\x07", "label": "sad"},
    ]
    rows.append({"path": "b.wav", "label": "sad", "speaker": "\u202et", "sex": "\x9b5m"})
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    dataset, report = prepare("table", tmp_path / "t.jsonl", tmp_path / "ds")
    assert dataset.features["label"].names == ["[31mred", "sad"]
    text = format_integrity(report)
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(text)


def test_file_names_that_are_no_utf_8_are_read(tmp_path):
    name = os.fsdecode(b"gr\xfcn.wav")
    try:
        tone(tmp_path / "sad" / "a.wav")
        os.rename(tmp_path / "sad/a.wav", tmp_path / "sad" / name)
    except OSError:
        pytest.skip("this file system has no such names")
    dataset, _ = prepare("table", tmp_path, tmp_path / "ds")
    assert dataset["id"][:] == [r"table/sad/gr\udcfcn.wav"]


def test_every_reader_has_its_names(tmp_path):
    assert set(table_rows.READERS) == {".csv", ".tsv", ".jsonl", ".parquet"}


def test_a_list_or_an_object_is_no_label_and_no_speaker(tmp_path):
    lines = ['{"path": "a.wav", "label": "sad", "speaker": "s1"}', '{"path": "b.wav", "label": ["angry"]}']
    lines += ['{"path": "c.wav", "label": "sad", "speaker": {"n": "s1"}}']
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    for name in "abc":
        (tmp_path / f"{name}.wav").touch()
    listing = list_utterances(tmp_path / "t.jsonl")
    assert [one.id for one in listing.utterances] == ["table/a.wav"]
    found = [one.detail for one in listing.findings if one.kind == "unreadable_row"]
    assert found == [
        "label is not a text: list, expected a text, ['angry']",
        "speaker is not a text: dict, expected a text, {'n': 's1'}",
    ]


@pytest.mark.parametrize("cell", ["1,000", "12,500", "1,234,567"])
@pytest.mark.parametrize("column", ["start", "end", "age", "end_ms"])
def test_a_number_that_may_have_thousands_is_refused(listed, column, cell):
    listing = listed(f'path,label,speaker,{column}\na,sad,s,"{cell}"\nb,sad,s,"0,500"\n')
    said = next(one.detail for one in listing.findings if one.kind in ("bad_segment", "bad_number"))
    assert f"found '{cell}', expected a number without thousands: write {cell.replace(',', '')}, or" in said


def test_behind_a_semicolon_a_comma_is_a_decimal_one(listed):
    (one,) = listed("path;label;speaker;start;end;age\na;sad;s;1,000;12,500;34,500\n").utterances
    assert (one.start_seconds, one.end_seconds, one.age) == (1.0, 12.5, 34.5)
