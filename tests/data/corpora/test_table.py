"""A user's own table: whichever of the formats it comes in, the same clips, labels and speakers come out."""

import json
from pathlib import Path

import pandas as pd
import pytest

from hf_ser.data.corpora.table import list_utterances
from hf_ser.data.schema import METADATA_COLUMNS, Listing, Utterance

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


def write(folder: Path, suffix: str, rows: list[dict], name: str = "clips") -> Path:
    """As a user would write it: votes are JSON in a CSV, objects elsewhere; a missing key is an empty cell."""
    file = folder / f"{name}{suffix}"
    if suffix == ".jsonl":
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    elif suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(file)
    else:
        cells = [{k: json.dumps(v) if isinstance(v, dict) else v for k, v in row.items()} for row in rows]
        pd.DataFrame(cells).to_csv(file, index=False, sep="\t" if suffix == ".tsv" else ",")
    return file


@pytest.fixture
def listed(tmp_path):
    """A function that writes a table from rows or text, and lists it."""

    def write_and_list(table: list[dict] | str, suffix: str = ".csv", **flags) -> Listing:
        if not isinstance(table, str):
            return list_utterances(write(tmp_path, suffix, table), **flags)
        file = tmp_path / f"clips{suffix}"
        file.write_text(table, encoding="utf-8")
        return list_utterances(file, **flags)

    return write_and_list


def found(listing: Listing) -> list[tuple]:
    return [(finding.kind, finding.item, finding.detail, finding.skipped) for finding in listing.findings]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_the_same_listing(listed, tmp_path, suffix):
    said = 'Schöne Grüße, "Jürgen"'
    first = {"path": "a.wav", "id": "first", "label": "Ärger", "speaker": "01", "sex": "F", "session": "2"}
    rows = [
        first | {"sentence": "s7", "transcript": said, "votes": {"Ärger": 2, "Freude": 1}},
        {"path": "sub folder/b.flac", "label": "Freude", "speaker": "Müller", "transcript_source": "whisper@1"},
        {"path": "c.wav", "label": " Freude ", "transcript": "ja", "transcript_source": "whisper@1"},
    ]
    listing = listed(rows, suffix)
    assert listing.labels == ("Freude", "Ärger")
    assert listing.findings == []
    assert listing.utterances == [
        Utterance(
            id="table/first",
            audio=tmp_path / "a.wav",
            label="Ärger",
            corpus="table",
            speaker="table/01",
            sex="female",
            session="2",
            sentence="s7",
            transcript=said,
            transcript_source="reference",
            votes={"Ärger": 2.0, "Freude": 1.0},
        ),
        Utterance(
            id="table/sub folder/b.flac",
            audio=tmp_path / "sub folder/b.flac",
            label="Freude",
            corpus="table",
            speaker="table/Müller",
        ),
        Utterance(
            id="table/c.wav",
            audio=tmp_path / "c.wav",
            label="Freude",
            corpus="table",
            transcript="ja",
            transcript_source="whisper@1",
        ),
    ]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_relative_paths_start_at_the_table_and_absolute_ones_stay(tmp_path, suffix, monkeypatch):
    rows = [{"path": "clips/a.wav", "label": "sad"}, {"path": "/data/b.wav", "label": "sad"}]
    (tmp_path / "elsewhere").mkdir()
    file = write(tmp_path, suffix, rows)
    monkeypatch.chdir(tmp_path / "elsewhere")
    listing = list_utterances(str(file))
    assert [u.audio for u in listing.utterances] == [tmp_path / "clips/a.wav", Path("/data/b.wav")]
    assert [u.id for u in listing.utterances] == ["table/clips/a.wav", "table//data/b.wav"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_speakers_keep_their_zeros(listed, suffix):
    rows = [{"path": f"{name}.wav", "label": "sad", "speaker": name} for name in ("01", "1", "1.0", "007")]
    speakers = [u.speaker for u in listed(rows, suffix).utterances]
    assert speakers == ["table/01", "table/1", "table/1.0", "table/007"]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_speakers_written_as_numbers_stay_whole_beside_an_empty_cell(listed, suffix):
    rows = [{"path": "a.wav", "label": 3, "speaker": 7}, {"path": "b.wav", "label": 4, "speaker": None}]
    listing = listed(rows, suffix)
    assert [u.speaker for u in listing.utterances] == ["table/7", None]
    assert listing.labels == ("3", "4")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_cells_that_only_look_empty(listed, suffix):
    # "None" may be a transcript; as a speaker it is unknown, which is counted.
    rows = [{"path": "a.wav", "label": "sad", "speaker": "NA", "transcript": "None"}]
    listing = listed(rows, suffix)
    (utterance,) = listing.utterances
    assert (utterance.speaker, utterance.transcript) == (None, "None")
    assert [f.kind for f in listing.findings] == ["unknown_speaker_word", "no_speakers"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        *[(given, "female") for given in ("F", "f", "female", "Female", "FEMALE", " fem ")],
        *[(given, "male") for given in ("m", "M", "Male", "male")],
        *[(given, None) for given in ("unknown", "", None, "d", "x", "females and males", "femme")],
    ],
)
def test_spellings_of_sex(listed, given, expected):
    assert listed([{"path": "a.wav", "label": "sad", "sex": given}], ".jsonl").utterances[0].sex == expected


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_votes_give_the_label_and_ties_give_none(listed, suffix):
    rows = [
        {"path": "a.wav", "votes": {"angry": 1, "sad": 3, "happy": 2}},
        {"path": "tie.wav", "votes": {"angry": 2, "sad": 2, "happy": 1}},
        {"path": "none.wav", "votes": {"angry": 0, "sad": 0, "happy": 0}},
        {"path": "share.wav", "votes": {"angry": 0.6, "sad": 0.4, "happy": 0}},
        {"path": "clear.wav", "votes": {"angry": 0, "sad": 0, "happy": 5}, "speaker": "1"},
    ]
    listing = listed(rows, suffix)
    named = [(u.id.removeprefix("table/"), u.label) for u in listing.utterances]
    assert named == [("a.wav", "sad"), ("share.wav", "angry"), ("clear.wav", "happy")]
    assert listing.utterances[0].votes == {"angry": 1.0, "sad": 3.0, "happy": 2.0}
    assert listing.labels == ("angry", "happy", "sad")
    assert found(listing) == [
        ("incomplete_row", f"clips{suffix}, row 2", "no label, and no majority of votes", True),
        ("incomplete_row", f"clips{suffix}, row 3", "no label, and no majority of votes", True),
    ]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_label_is_preferred_to_the_votes_and_decides_a_tie(listed, suffix):
    rows = [
        {"path": "a.wav", "label": "sad", "votes": {"angry": 2, "sad": 2}},
        {"path": "b.wav", "label": "calm", "votes": {"angry": 2, "sad": 0}},
        {"path": "c.wav", "label": "calm", "speaker": "1"},
    ]
    listing = listed(rows, suffix)
    assert [u.label for u in listing.utterances] == ["sad", "calm", "calm"]
    # No clip has the label "angry", so it is not a class: its votes are left out, which is reported.
    assert listing.labels == ("calm", "sad")
    assert [u.votes for u in listing.utterances] == [{"sad": 2.0}, None, None]
    assert [(f.kind, f.item) for f in listing.findings] == [("lost_votes", "votes for angry")]
    assert "left out of 2 clips' votes" in listing.findings[0].detail


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_votes_for_some_of_the_labels(listed, suffix):
    rows = [{"path": "a.wav", "votes": {"angry": 2}}, {"path": "b.wav", "votes": {"sad": 1}}]
    votes = [u.votes for u in listed(rows, suffix).utterances]
    assert votes == [{"angry": 2.0}, {"sad": 1.0}]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_without_label_or_path_are_found(listed, suffix):
    rows = [
        {"path": "a.wav", "label": ""},
        {"path": "b.wav", "label": "sad", "speaker": "1"},
        {"path": None, "label": "sad"},
        {"path": "c.wav", "label": None},
        {"path": "d.wav", "label": "  "},
    ]
    listing = listed(rows, suffix)
    assert [u.id for u in listing.utterances] == ["table/b.wav"]
    assert listing.labels == ("sad",)
    no_label = "no label, and no majority of votes"
    assert found(listing) == [
        ("incomplete_row", f"clips{suffix}, row {row}", problem, True)
        for row, problem in ((1, no_label), (3, "no path"), (4, no_label), (5, no_label))
    ]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_repeated_paths_get_ids_of_their_own(listed, suffix):
    rows = [{"path": path, "label": "sad"} for path in ("a.wav", "b.wav", "a.wav", "a.wav")]
    utterances = listed(rows, suffix).utterances
    assert [u.id for u in utterances] == ["table/a.wav", "table/b.wav", "table/a.wav#2", "table/a.wav#3"]
    assert [u.audio.name for u in utterances] == ["a.wav", "b.wav", "a.wav", "a.wav"]


def test_a_csv_from_a_spreadsheet(tmp_path):
    file = tmp_path / "clips.CSV"
    file.write_bytes("\ufeffpath,label,extra column\r\nGrün.wav,fröhlich,x\r\n".encode())
    (utterance,) = list_utterances(file).utterances
    assert (utterance.id, utterance.label) == ("table/Grün.wav", "fröhlich")


EXPECTED_COLUMNS = (
    r"Expected `path` and `label` \(or `votes`\), and if known `speaker`, `sex`, `transcript`: rename the columns, "
    r"or name them as --columns path=FILE,label=EMOTION\."
)
EXPECTED_VOTES = r'Expected an object of counts by label such as \{"angry": 2, "sad": 1\}\.'


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.csv", "item,label\na.wav,sad\n", f"a.csv: found columns item, label. {EXPECTED_COLUMNS}"),
        ("a.csv", "path,code\na.wav,sad\n", f"a.csv: found columns path, code. {EXPECTED_COLUMNS}"),
        ("a.csv", "path|label\na.wav|sad\n", rf"a.csv: found columns path\|label. {EXPECTED_COLUMNS}"),
        ("a.csv", "path,label\na.wav,sad,\n", "a.csv: not readable as .csv"),
        ("a.csv", "path,label,Label\na.wav,sad,1\n", "found columns label and Label. Expected one column for `label`"),
        ("a.csv", "path,label,start,start_seconds\na.wav,sad,1,2\n", "columns start and start_seconds. Expected one"),
        (
            "a.jsonl",
            '{"path": {"bytes": "x"}, "label": "sad"}',
            "found audio in the column of paths. Expected paths",
        ),
        ("a.jsonl", '{"path": "a.wav"}\n', f"a.jsonl: found columns path. {EXPECTED_COLUMNS}"),
        ("a.csv", "", r"a.csv: not readable as .csv \(the file is empty\). Expected a complete file"),
        (
            "a.csv",
            "path,label\n",
            "a.csv: none of its 0 rows has a path and a label. Expected both in each: fill these columns in.",
        ),
        ("a.csv", "path,label\na.wav,\n,sad\n", "a.csv: none of its 2 rows has a path and a label"),
        (
            "a.csv",
            'path,label\n"a.wav,sad,x\n',
            r"a.csv: not readable as .csv \(line 2: a cell begins with a quote, and",
        ),
        ("a.jsonl", "path,label\na.wav,sad\n", r"a.jsonl: not readable as .jsonl \(.*\). Expected a complete file"),
        (
            "a.parquet",
            "path,label\na.wav,sad\n",
            r"a.parquet: not readable as .parquet \(.*\). Expected a complete file",
        ),
        (
            "a.xlsx",
            "path,label\n",
            "a.xlsx: a table is one of .csv, .tsv, .jsonl, .parquet, found '.xlsx': convert it.",
        ),
        ("a", "path,label\n", "a: a table is one of .csv, .tsv, .jsonl, .parquet, found '': convert it."),
        ("a.csv", "path,votes\na.wav,angry 2\n", f"a.csv, row 1: votes are 'angry 2'. {EXPECTED_VOTES}"),
        ("a.csv", "path,votes\na.wav,2\n", f"a.csv, row 1: votes are '2'. {EXPECTED_VOTES}"),
        ("a.csv", 'path,votes\na.wav,"[1, 2]"\n', rf"a.csv, row 1: votes are '\[1, 2\]'. {EXPECTED_VOTES}"),
        ("a.jsonl", '{"path": "a.wav", "votes": {"sad": "x"}}\n', f"row 1: votes are .*'x'.*{EXPECTED_VOTES}"),
        (
            "a.jsonl",
            '{"path": "a.wav", "votes": {"sad": 2, "angry": -1}}\n',
            f"row 1: votes are .*-1.*{EXPECTED_VOTES}",
        ),
        ("a.jsonl", '{"path": "a.wav", "votes": {"sad": 1e999}}\n', f"row 1: votes are .*inf.*{EXPECTED_VOTES}"),
    ],
)
def test_errors_say_found_expected_and_remedy(tmp_path, name, content, text):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=text):
        list_utterances(tmp_path / name)


def test_a_csv_in_another_encoding_is_refused_rather_than_guessed(tmp_path):
    (tmp_path / "a.csv").write_bytes("path,label\na.wav,Ärger\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"a.csv: not readable as .csv \('utf-8' codec can't decode"):
        list_utterances(tmp_path / "a.csv")


def test_a_table_that_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        list_utterances(tmp_path / "missing.csv")
    expected = "no such table. Expected a .csv, .tsv, .jsonl, .parquet file, a folder, or the Hub id of a data set as "
    assert str(error.value) == f"{tmp_path / 'missing.csv'}: {expected}user/name: name it in --data_dir."


@pytest.mark.parametrize(
    "text",
    [
        "path;label;speaker\na.wav;sad;1\n",
        "Path, Label, Speaker\na.wav, sad, 1\n",
        "\ufeffpath\tlabel\tspeaker\na.wav\tsad\t1\n",
    ],
    ids=["semicolons", "capitals and blanks", "tabs and a byte order mark"],
)
def test_csv_as_people_have_it(listed, tmp_path, text):
    (utterance,) = listed(text).utterances
    assert (utterance.id, utterance.label, utterance.speaker) == ("table/a.wav", "sad", "table/1")
    assert utterance.audio == tmp_path / "a.wav"


def test_paths_written_on_windows(listed, tmp_path):
    (utterance,) = listed("path,label\ncalls\\a.wav,sad\n").utterances
    assert utterance.audio == tmp_path / "calls" / "a.wav"


def test_ids_stay_unique_and_whole(listed):
    rows = [{"id": name, "path": "a.wav", "label": "sad"} for name in ("a", "a", "a#2", 12345678901234567, None)]
    ids = [utterance.id for utterance in listed(rows, ".jsonl").utterances]
    assert ids == ["table/a", "table/a#2", "table/a#2#2", "table/12345678901234567", "table/a.wav"]


def test_an_unknown_value_is_reported(listed):
    listing = listed(
        "path,label,speaker,sex,split,dialogue_kind\n"
        "a.wav,sad,1,W,dev,improvised\nb.wav,sad,1,woman,Valid,Script\nc.wav,sad,1,x,,play\nd.wav,sad,1,,,\n"
    )
    assert [(u.sex, u.split, u.dialogue_kind) for u in listing.utterances] == [
        ("female", "validation", "impro"),
        ("female", "validation", "script"),
        (None, None, None),
        (None, None, None),
    ]
    assert found(listing)[1:] == [
        ("unknown_sex", "table/c.wav", "found 'x', expected female or male", False),
        ("unknown_dialogue_kind", "table/c.wav", "found 'play', expected impro or script", False),
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        *[(given, "train") for given in ("train", "Train", " TRAIN ")],
        *[(given, "validation") for given in ("validation", "dev", "val", "valid", "DEV")],
        ("test", "test"),
    ],
)
def test_spellings_of_split(listed, given, expected):
    assert listed([{"path": "a.wav", "label": "sad", "split": given}]).utterances[0].split == expected


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_all_that_an_utterance_can_tell_is_read(listed, tmp_path, suffix):
    texts = ("speaker", "race", "ethnicity", "session", "dialogue", "script", "scene", "sentence", "transcript")
    metadata = {column: f"{column} 1" for column in texts} | {"transcript_source": "whisper@1"}
    metadata |= {"sex": "male", "split": "test", "dialogue_kind": "impro"}
    metadata |= {"age": 31.0, "valence": 2.5, "activation": 3.0, "dominance": -0.25}
    assert set(metadata) == set(METADATA_COLUMNS)
    listing = listed([{"path": "a.wav", "label": "sad", "start": 1.5, "end": 2.25} | metadata], suffix)
    metadata["speaker"] = "table/speaker 1"
    part = {"start_seconds": 1.5, "end_seconds": 2.25}
    assert listing.utterances == [
        Utterance(id="table/a.wav@1.5-2.25", audio=tmp_path / "a.wav", label="sad", corpus="table", **metadata, **part)
    ]
    assert listing.findings == []


def test_an_invalid_number_is_reported_and_left_out(listed, tmp_path):
    listing = listed('path,label,speaker,age,valence,dominance\na.wav,sad,1,25-30,nan,"2,5"\nb.wav,sad,1,30,-1e1,\n')
    numbers = [(u.age, u.valence, u.dominance) for u in listing.utterances]
    assert numbers == [(None, None, 2.5), (30.0, -10.0, None)]
    assert found(listing) == [
        ("bad_number", "table/a.wav", f"{column}: found '{text}', expected a number", False)
        for column, text in (("age", "25-30"), ("valence", "nan"))
    ] + [
        ("decimal_comma", str(tmp_path / "clips.csv"), "numbers with a comma, read as decimals: 1 of dominance", False)
    ]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("names", [("start", "end"), ("start_seconds", "end_seconds")])
def test_parts_of_one_file_have_ids_of_their_own_that_stay(listed, suffix, names):
    parts = [
        (0, 1.5),
        (1.5, 3.0),
        (0.1 + 0.2, 0.9),
        (7200.125, 7201.0625),
        (3, None),
        (None, 2),
        (1.5, 3),
        (None, None),
    ]
    rows = [{"path": "long.wav", "label": "sad"} | dict(zip(names, part, strict=True)) for part in parts]
    for listing in (listed(rows, suffix), listed(rows[::-1], suffix)):
        by_id = {u.id.removeprefix("table/long.wav"): (u.start_seconds, u.end_seconds) for u in listing.utterances}
        keys = ("@0-1.5", "@1.5-3", "@0.3-0.9", "@7200.125-7201.062", "@3-", "@0-2", "@1.5-3#2", "")
        assert by_id == dict(zip(keys, parts, strict=True))


def test_a_part_that_is_none_is_found_and_skipped(listed):
    listing = listed("path,label,speaker,start,end\na,sad,1,-1,2\nb,sad,1,2,2\nc,sad,1,x,3\nd,sad,1,,0\ne,sad,1,2,3\n")
    assert [u.id for u in listing.utterances] == ["table/e@2-3"]
    expected = "expected a start from 0 on and an end after it"
    assert found(listing) == [
        ("bad_segment", "clips.csv, row 1", f"found seconds -1.0 to 2.0, {expected}", True),
        ("bad_segment", "clips.csv, row 2", f"found seconds 2.0 to 2.0, {expected}", True),
        ("bad_segment", "clips.csv, row 3", "found 'x', expected a number", True),
        ("bad_segment", "clips.csv, row 4", f"found seconds None to 0.0, {expected}", True),
    ]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_columns_of_other_names(listed, tmp_path, suffix):
    rows = [{"file_name": "a.wav", "Emotion": "sad", "label": "0", "who": "7", "transcript": "s7", "begin": 1.0}]
    columns = {"path": "file_name", "label": "emotion", "speaker": "who", "sentence": "transcript", "start": "begin"}
    (utterance,) = listed(rows, suffix, columns=columns | {"id": "file_name"}).utterances
    # "transcript" is now the sentence, and no transcript; the flag's label wins over a column of that name.
    metadata = {"speaker": "table/7", "sentence": "s7", "start_seconds": 1.0}
    audio = tmp_path / "a.wav"
    assert utterance == Utterance(id="table/a.wav", audio=audio, label="sad", corpus="table", **metadata)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("named", [True, False])
def test_votes_in_a_column_for_each_label(listed, suffix, named):
    names = ("ang", "Sad", "hap") if named else ("votes:Angry", "votes:sad", "Votes: happy")
    columns = {"votes:Angry": "ang", "votes:sad": "sad", "votes:happy": "hap"} if named else None
    counts = [(2, 1, 0), (0, 0, 0), (1, 1, None), (0, 3, 1), (0, 0.0, 0.5)]
    rows = [{"path": f"{i}.wav", "speaker": "1"} | dict(zip(names, row, strict=True)) for i, row in enumerate(counts)]
    listing = listed(rows, suffix, columns=columns)
    assert [(u.id, u.label, u.votes) for u in listing.utterances] == [
        ("table/0.wav", "Angry", {"Angry": 2, "sad": 1, "happy": 0}),
        ("table/3.wav", "sad", {"Angry": 0, "sad": 3, "happy": 1}),
        ("table/4.wav", "happy", {"Angry": 0, "sad": 0, "happy": 0.5}),
    ]
    assert [(f.kind, f.item) for f in listing.findings] == [
        ("incomplete_row", f"clips{suffix}, row 2"),
        ("incomplete_row", f"clips{suffix}, row 3"),
    ]


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        (
            {"emotion": "label"},
            r"--columns: found 'emotion=label'. Expected before the = one of path, label, votes, id",
        ),
        ({"votes:": "label"}, r"found 'votes:=label'.* end, or votes:LABEL for the column of votes for one label"),
        (
            {"speaker": "who"},
            r"clips.csv: found columns path, label. Expected 'who', which --columns gives for `speaker`: name",
        ),
        ({"speaker": "path"}, f"clips.csv: found columns path, label. {EXPECTED_COLUMNS}"),
    ],
)
def test_names_of_columns_that_are_not_there(listed, columns, text):
    with pytest.raises(ValueError, match=text):
        listed("path,label\na.wav,sad\n", columns=columns)


def test_a_speaker_read_from_the_path(listed, tmp_path):
    rows = [
        {"path": "anna_1.wav", "label": "sad"},
        {"path": "calls/bert_2.wav", "label": "sad", "speaker": ""},
        {"path": "calls\\carl_2.wav", "label": "sad"},
        {"path": str(tmp_path / "dora_1.wav"), "label": "sad"},
        {"path": "emil_1.wav", "label": "sad", "speaker": "the column wins"},
    ]
    listing = listed(rows, ".jsonl", speaker_pattern=r"(?:^|/)([a-z]+)_\d")
    speakers = [u.speaker.removeprefix("table/") for u in listing.utterances]
    assert speakers == ["anna", "bert", "carl", "dora", "the column wins"]
    assert listing.findings == []


def test_a_speaker_that_is_not_in_the_path_is_reported(listed):
    listing = listed("path,label\n1.wav,sad\na_2.wav,sad\n3.wav,sad\n", speaker_pattern="(.)_")
    assert [u.speaker for u in listing.utterances] == [None, "table/a", None]
    detail = "'(.)_' finds no speaker in 2 paths, the first that of table/1.wav"
    assert [(f.kind, f.detail) for f in listing.findings] == [("speaker_not_in_path", detail)]


def test_a_corpus_without_speakers_gets_the_remedy(listed):
    for flags in ({}, {"speaker_pattern": "(x)"}):
        (finding,) = listed("path,label\na.wav,sad\nb.wav,sad\n", **flags).findings
        assert (finding.kind, finding.skipped) == ("no_speakers", False)
        assert "add a column `speaker`, or give --speaker_pattern" in finding.detail


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("(", r"--speaker_pattern '\(': not a regular expression \(.*Correct it"),
        ("abc", "--speaker_pattern 'abc': found 0 groups. Expected one or more, around the speaker"),
        ("", "found 0 groups"),
    ],
)
def test_a_pattern_without_one_group_is_refused(listed, pattern, text):
    with pytest.raises(ValueError, match=text):
        listed("path,label\na.wav,sad\n", speaker_pattern=pattern)
