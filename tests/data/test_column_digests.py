"""A prepared data set is read as it was written: a changed value in any column, or a damaged file, is noticed."""

import json
import os
import shutil

import numpy as np
import pyarrow as pa
import pytest
import soundfile as sf
from datasets import Dataset, concatenate_datasets, load_from_disk

from hf_ser.data.column_digests import DIGESTS, column_digests, write_digests
from hf_ser.data.listing import list_corpora, listing_digest
from hf_ser.data.prepare import load_or_prepare, prepare
from hf_ser.data.prepared import load_prepared

SPEAKER = "anneliese-of-the-north"
WORDS = "where is my parcel number "


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    lines = ["path,label,speaker,transcript,age,votes:angry,votes:sad"]
    for i in range(6):
        sf.write(folder / f"{i}.wav", np.random.default_rng(i).normal(0, 0.1, 4000), 16_000)
        lines.append(f"{i}.wav,{('angry', 'sad')[i % 2]},{SPEAKER}{i % 3},{WORDS}{i},{30 + i},{1 + i % 2},{i}")
    (folder / "clips.csv").write_text("\n".join(lines) + "\n")
    prepare("table", folder / "clips.csv", folder / "data")
    return folder / "data"


@pytest.fixture
def prepared(original, tmp_path):
    return shutil.copytree(original, tmp_path / "data")


def arrow_file(folder):
    (file,) = folder.glob("*.arrow")
    return file


def test_an_untouched_data_set_is_read_without_a_note(prepared, capsys):
    assert len(load_prepared(prepared)) == 6
    assert "note" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "found, column",
    [
        (SPEAKER, "speaker"),
        (WORDS, "transcript"),
        ("referencereference", "transcript_source"),
        ("PCM_16", "source_format"),
    ],
)
def test_a_flipped_bit_in_a_text_is_noticed(prepared, found, column):
    content = bytearray(arrow_file(prepared).read_bytes())
    at = content.find(found.encode())
    assert at > 0
    content[at + 2] ^= 1
    arrow_file(prepared).write_bytes(content)
    with pytest.raises(ValueError, match=f"found other values in {column} than were written.*remove {DIGESTS}"):
        load_prepared(prepared)


def changed(folder, column, change):
    """The data set with another value in one cell, saved over the old files as by another program."""
    table = load_from_disk(str(folder)).data.table
    values = table.column(column).to_pylist()
    values[3] = change(values[3])
    new = pa.array(values, table.schema.field(column).type)
    table = table.set_column(table.column_names.index(column), table.schema.field(column), new)
    arrow_file(folder).unlink()  # it is mapped
    with pa.ipc.new_stream(folder / "data-00000-of-00001.arrow", table.schema) as stream:
        stream.write_table(table)


@pytest.mark.parametrize(
    "column, change",
    [
        ("label", lambda value: 1 - value),
        ("votes", lambda value: value[::-1]),
        ("age", lambda value: None),
        ("duration_seconds", lambda value: np.nextafter(np.float32(value), np.float32(9))),
        ("fingerprint", lambda value: value[:-1]),
        ("sex", lambda value: "female"),
        ("audio", lambda value: {**value, "path": "other.wav"}),
        ("audio", lambda value: {**value, "bytes": value["bytes"][:-1]}),
    ],
)
def test_a_changed_value_is_noticed(prepared, column, change):
    changed(prepared, column, change)
    with pytest.raises(ValueError, match=f"found other values in {column} than"):
        load_prepared(prepared)


def test_labels_that_change_their_names_are_noticed(prepared):
    info = (prepared / "dataset_info.json").read_text()
    (prepared / "dataset_info.json").write_text(info.replace('"angry"', '"happy"'))
    with pytest.raises(ValueError, match="found other values in label"):
        load_prepared(prepared)


def test_every_flipped_bit_outside_audio_is_noticed_or_harmless(prepared):
    whole, rng = arrow_file(prepared).read_bytes(), np.random.default_rng(3)
    expected = column_digests(load_prepared(prepared))
    for at in rng.integers(0, len(whole), 60):
        content = bytearray(whole)
        content[at] ^= 1 << int(rng.integers(8))
        arrow_file(prepared).unlink()
        arrow_file_path = prepared / "data-00000-of-00001.arrow"
        arrow_file_path.write_bytes(content)
        try:
            assert column_digests(load_prepared(prepared)) == expected  # in audio, or in no value
        except ValueError as error:
            assert "Expected" in str(error)


def test_a_cut_file_is_one_clear_error(prepared):
    os.truncate(arrow_file(prepared), arrow_file(prepared).stat().st_size // 2)
    with pytest.raises(ValueError, match=r"not readable as a data set|other values"):
        load_prepared(prepared)


def test_an_older_data_set_is_read_with_a_note(prepared, capsys):
    (prepared / DIGESTS).unlink()
    assert len(load_prepared(prepared)) == 6
    assert "has no digests of its columns" in capsys.readouterr().out


def test_damaged_digests_are_an_error(prepared):
    (prepared / DIGESTS).write_text('{"form": 1, "col')
    with pytest.raises(ValueError, match=f"{DIGESTS}: not readable"):
        load_prepared(prepared)


def test_digests_do_not_depend_on_how_rows_are_stored(prepared, tmp_path):
    dataset = load_prepared(prepared)
    halves = concatenate_datasets([dataset.select(range(2)), dataset.select(range(2, 6))])
    halves.save_to_disk(tmp_path / "again", num_shards=3)
    write_digests(tmp_path / "again")
    stored = [json.loads((folder / DIGESTS).read_text()) for folder in (prepared, tmp_path / "again")]
    assert stored[0] == stored[1]


def test_texts_that_run_together_and_missing_values_differ():
    def digest(values):
        return column_digests(Dataset.from_dict({"x": values}))["x"]

    different = [["ab", "c"], ["a", "bc"], ["abc", None], ["abc", ""], [None, "abc"], ["abc"]]
    assert len({digest(values) for values in different}) == len(different)
    assert digest([[1.0], None, []]) != digest([[1.0], [], None])


def test_rewritten_recordings_of_equal_size_and_time_are_prepared_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_SER_CACHE", str(tmp_path / "cache"))
    lines = ["path,label"]
    for i in range(2):
        sf.write(tmp_path / f"{i}.wav", np.random.default_rng(i).normal(0, 0.1, 4000), 16_000)
        lines.append(f"{i}.wav,{('angry', 'sad')[i]}")
    (tmp_path / "clips.csv").write_text("\n".join(lines))
    before = load_or_prepare("table", tmp_path / "clips.csv")["pcm_sha256"][:]
    file, status = tmp_path / "1.wav", (tmp_path / "1.wav").stat()
    listed = listing_digest(list_corpora("table", tmp_path / "clips.csv"))
    sf.write(file, np.random.default_rng(9).normal(0, 0.1, 4000), 16_000)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert listing_digest(list_corpora("table", tmp_path / "clips.csv")) != listed
    after = load_or_prepare("table", tmp_path / "clips.csv")["pcm_sha256"][:]
    assert after[0] == before[0] and after[1] != before[1]
