"""A user's own table: whichever of the formats it comes in, the same clips, labels and speakers come out."""

import json
from pathlib import Path

import pandas as pd
import pytest

from hf_ser.columns import Utterance
from hf_ser.corpora.table import list_utterances

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


def only(file: Path) -> Utterance:
    (utterance,) = list_utterances(file).utterances
    return utterance


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_the_same_listing(tmp_path, suffix):
    said = 'Schöne Grüße, "Jürgen"'
    first = {"path": "a.wav", "id": "first", "label": "Ärger", "speaker": "01", "sex": "F", "session": "2"}
    rows = [
        first | {"sentence": "s7", "transcript": said, "votes": {"Ärger": 2, "Freude": 1}},
        {"path": "sub folder/b.flac", "label": "Freude", "speaker": "Müller", "transcript_source": "whisper@1"},
        {"path": "c.wav", "label": " Freude ", "transcript": "ja", "transcript_source": "whisper@1"},
    ]
    listing = list_utterances(write(tmp_path, suffix, rows))
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
def test_speakers_keep_their_zeros(tmp_path, suffix):
    rows = [{"path": f"{name}.wav", "label": "sad", "speaker": name} for name in ("01", "1", "1.0", "007")]
    speakers = [u.speaker for u in list_utterances(write(tmp_path, suffix, rows)).utterances]
    assert speakers == ["table/01", "table/1", "table/1.0", "table/007"]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_speakers_written_as_numbers_stay_whole_beside_an_empty_cell(tmp_path, suffix):
    rows = [{"path": "a.wav", "label": 3, "speaker": 7}, {"path": "b.wav", "label": 4, "speaker": None}]
    listing = list_utterances(write(tmp_path, suffix, rows))
    assert [u.speaker for u in listing.utterances] == ["table/7", None]
    assert listing.labels == ("3", "4")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_cells_that_only_look_empty(tmp_path, suffix):
    # Norma Adams speaks; "None" is all that she says.
    rows = [{"path": "a.wav", "label": "sad", "speaker": "NA", "transcript": "None"}]
    utterance = only(write(tmp_path, suffix, rows))
    assert (utterance.speaker, utterance.transcript) == ("table/NA", "None")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        *[(given, "female") for given in ("F", "f", "female", "Female", "FEMALE", " fem ")],
        *[(given, "male") for given in ("m", "M", "Male", "male")],
        *[(given, None) for given in ("unknown", "", None, "d", "x", "females and males", "femme")],
    ],
)
def test_spellings_of_sex(tmp_path, given, expected):
    assert only(write(tmp_path, ".jsonl", [{"path": "a.wav", "label": "sad", "sex": given}])).sex == expected


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_votes_give_the_label_and_ties_give_none(tmp_path, suffix):
    rows = [
        {"path": "a.wav", "votes": {"angry": 1, "sad": 3, "happy": 2}},
        {"path": "tie.wav", "votes": {"angry": 2, "sad": 2, "happy": 1}},
        {"path": "nobody.wav", "votes": {"angry": 0, "sad": 0, "happy": 0}},
        {"path": "share.wav", "votes": {"angry": 0.6, "sad": 0.4, "happy": 0}},
        {"path": "clear.wav", "votes": {"angry": 0, "sad": 0, "happy": 5}},
    ]
    listing = list_utterances(write(tmp_path, suffix, rows))
    named = [(u.id.removeprefix("table/"), u.label) for u in listing.utterances]
    assert named == [("a.wav", "sad"), ("share.wav", "angry"), ("clear.wav", "happy")]
    assert listing.utterances[0].votes == {"angry": 1.0, "sad": 3.0, "happy": 2.0}
    assert listing.labels == ("angry", "happy", "sad")
    assert [(f.kind, f.item, f.detail, f.skipped) for f in listing.findings] == [
        ("incomplete_row", f"clips{suffix}, row 2", "no label, and no majority of votes", True),
        ("incomplete_row", f"clips{suffix}, row 3", "no label, and no majority of votes", True),
    ]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_label_stands_above_the_votes_and_settles_a_tie(tmp_path, suffix):
    rows = [
        {"path": "a.wav", "label": "sad", "votes": {"angry": 2, "sad": 2}},
        {"path": "b.wav", "label": "calm", "votes": {"angry": 2, "sad": 0}},
        {"path": "c.wav", "label": "calm"},
    ]
    listing = list_utterances(write(tmp_path, suffix, rows))
    assert [u.label for u in listing.utterances] == ["sad", "calm", "calm"]
    # "angry" is nobody's label, so it is no class that could be tested: its votes are left out, and that is said.
    assert listing.labels == ("calm", "sad")
    assert [u.votes for u in listing.utterances] == [{"sad": 2.0}, None, None]
    assert [(f.kind, f.item) for f in listing.findings] == [("lost_votes", "votes for angry")]
    assert "left out of 2 clips' votes" in listing.findings[0].detail


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_votes_for_some_of_the_labels(tmp_path, suffix):
    rows = [{"path": "a.wav", "votes": {"angry": 2}}, {"path": "b.wav", "votes": {"sad": 1}}]
    votes = [u.votes for u in list_utterances(write(tmp_path, suffix, rows)).utterances]
    assert votes == [{"angry": 2.0}, {"sad": 1.0}]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_without_label_or_path_are_found(tmp_path, suffix):
    rows = [
        {"path": "a.wav", "label": ""},
        {"path": "b.wav", "label": "sad"},
        {"path": None, "label": "sad"},
        {"path": "c.wav", "label": None},
        {"path": "d.wav", "label": "  "},
    ]
    listing = list_utterances(write(tmp_path, suffix, rows))
    assert [u.id for u in listing.utterances] == ["table/b.wav"]
    assert listing.labels == ("sad",)
    found = [(f.item.split(", ")[1], f.detail, f.skipped) for f in listing.findings]
    no_label = "no label, and no majority of votes"
    assert found == [
        ("row 1", no_label, True),
        ("row 3", "no path", True),
        ("row 4", no_label, True),
        ("row 5", no_label, True),
    ]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_repeated_paths_get_ids_of_their_own(tmp_path, suffix):
    rows = [{"path": path, "label": "sad"} for path in ("a.wav", "b.wav", "a.wav", "a.wav")]
    utterances = list_utterances(write(tmp_path, suffix, rows)).utterances
    assert [u.id for u in utterances] == ["table/a.wav", "table/b.wav", "table/a.wav#2", "table/a.wav#3"]
    assert [u.audio.name for u in utterances] == ["a.wav", "b.wav", "a.wav", "a.wav"]


def test_a_csv_from_a_spreadsheet(tmp_path):
    file = tmp_path / "clips.CSV"
    file.write_bytes("\ufeffpath,label,extra column\r\nGrün.wav,fröhlich,x\r\n".encode())
    utterance = only(file)
    assert (utterance.id, utterance.label) == ("table/Grün.wav", "fröhlich")


EXPECTED_COLUMNS = (
    r"Expected `path` and `label` \(or `votes`\), and where known `speaker`, `sex`, `transcript`: rename the columns\."
)
EXPECTED_VOTES = r'Expected an object of counts by label such as \{"angry": 2, "sad": 1\}\.'


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.csv", "file,label\na.wav,sad\n", f"a.csv: found columns file, label. {EXPECTED_COLUMNS}"),
        ("a.csv", "path,emotion\na.wav,sad\n", f"a.csv: found columns path, emotion. {EXPECTED_COLUMNS}"),
        ("a.csv", "path|label\na.wav|sad\n", rf"a.csv: found columns path\|label. {EXPECTED_COLUMNS}"),
        ("a.csv", "path,label\na.wav,sad,\n", "a.csv: not readable as .csv"),
        ("a.csv", "path,label,start\na.wav,sad,1\n", "a.csv: found columns start. Expected one file a clip"),
        ("a.jsonl", '{"path": "a.wav"}\n', f"a.jsonl: found columns path. {EXPECTED_COLUMNS}"),
        ("a.csv", "", r"a.csv: not readable as .csv \(No columns to parse from file\). Check the file's format."),
        ("a.csv", "path,label\n", "a.csv: none of its 0 rows has a path and a label: fill these columns in."),
        ("a.csv", "path,label\na.wav,\n,sad\n", "a.csv: none of its 2 rows has a path and a label"),
        ("a.csv", 'path,label\n"a.wav,sad\n', r"a.csv: not readable as .csv \(.*EOF inside string"),
        ("a.jsonl", "path,label\na.wav,sad\n", r"a.jsonl: not readable as .jsonl \(.*\). Check the file's format."),
        (
            "a.parquet",
            "path,label\na.wav,sad\n",
            r"a.parquet: not readable as .parquet \(.*\). Check the file's format.",
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


@pytest.mark.parametrize("name", ["missing.csv", ""])
def test_a_table_that_is_no_file(tmp_path, name):
    with pytest.raises(FileNotFoundError) as error:
        list_utterances(tmp_path / name)
    expected = "no such table. Expected a .csv, .tsv, .jsonl, .parquet file: name it in --data_dir."
    assert str(error.value) == f"{tmp_path / name}: {expected}"


@pytest.mark.parametrize(
    "text",
    [
        "path;label;speaker\na.wav;sad;1\n",
        "Path, Label, Speaker\na.wav, sad, 1\n",
        "\ufeffpath\tlabel\tspeaker\na.wav\tsad\t1\n",
    ],
    ids=["semicolons", "capitals and blanks", "tabs and a byte order mark"],
)
def test_csv_as_people_have_it(tmp_path, text):
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    (utterance,) = list_utterances(tmp_path / "a.csv").utterances
    assert (utterance.id, utterance.label, utterance.speaker) == ("table/a.wav", "sad", "table/1")
    assert utterance.audio == tmp_path / "a.wav"


def test_paths_written_on_windows(tmp_path):
    (tmp_path / "a.csv").write_text("path,label\ncalls\\a.wav,sad\n")
    assert list_utterances(tmp_path / "a.csv").utterances[0].audio == tmp_path / "calls" / "a.wav"


def test_ids_stay_unique_and_whole(tmp_path):
    rows = [{"id": name, "path": "a.wav", "label": "sad"} for name in ("a", "a", "a#2", 12345678901234567, None)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    ids = [utterance.id for utterance in list_utterances(tmp_path / "a.jsonl").utterances]
    assert ids == ["table/a", "table/a#2", "table/a#2#2", "table/12345678901234567", "table/a.wav"]


def test_a_sex_that_is_not_understood_is_said(tmp_path):
    (tmp_path / "a.csv").write_text("path,label,sex\na.wav,sad,W\nb.wav,sad,woman\nc.wav,sad,x\n")
    listing = list_utterances(tmp_path / "a.csv")
    assert [utterance.sex for utterance in listing.utterances] == ["female", "female", None]
    assert [(f.kind, f.detail) for f in listing.findings] == [("unknown_sex", "found 'x', expected female or male")]
