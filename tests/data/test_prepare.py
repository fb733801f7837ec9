"""Preparing a folder with all usual defects: readable clips are kept, the others are reported."""

import csv
import hashlib
import json
import os
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from corpora_trees import emodb, meld, savee
from datasets import Dataset, Features, Value

import hf_ser.data.shards
from hf_ser.data.audio import pcm_sha256, read_clip, rms_dbfs
from hf_ser.data.corpora import CORPORA
from hf_ser.data.integrity import speaker_findings
from hf_ser.data.listing import list_corpora
from hf_ser.data.prepare import load_or_prepare, prepare
from hf_ser.data.prepared import load_prepared
from hf_ser.data.schema import SAMPLING_RATE, Listing, Utterance, features
from hf_ser.data.shards import read_row

ROOT = Path(__file__).parents[2]
LABELS = ("angry", "sad")


def noise(seed: int, samples: int = 3200) -> np.ndarray:
    """16-bit integers near -20 dBFS."""
    return np.random.default_rng(seed).normal(0, 3000, samples).round().astype(np.int16)


def write(file: Path, samples: np.ndarray, rate: int = SAMPLING_RATE, subtype: str = "PCM_16") -> None:
    sf.write(file, samples, rate, subtype=subtype)


def write_table(folder: Path, rows: list[tuple], columns: str = "path label speaker") -> Path:
    with open(folder / "clips.csv", "w", newline="") as file:
        csv.writer(file).writerows([columns.split(), *rows])
    return folder / "clips.csv"


def clips(folder: Path, n: int) -> Path:
    """A table of `n` good clips, `00.wav` and so on; clip i holds noise(i)."""
    folder.mkdir(exist_ok=True)
    for i in range(n):
        write(folder / f"{i:02d}.wav", noise(i))
    return write_table(folder, [(f"{i:02d}.wav", LABELS[i % 2], f"s{i % 3}") for i in range(n)])


@pytest.fixture(scope="module")
def messy(tmp_path_factory):
    """The table's folder."""
    folder = tmp_path_factory.mktemp("messy")
    write(folder / "plain.wav", noise(1))
    write(folder / "flac.flac", noise(2))
    write(folder / "eight_bit.wav", noise(3), subtype="PCM_U8")
    write(folder / "deep.wav", noise(4) / 2**15 + 2**-20, subtype="PCM_24")
    write(folder / "fast.wav", noise(5, 19_200), 96_000)
    write(folder / "stereo.wav", np.stack([noise(6), noise(7)], axis=1))
    write(folder / "stereo_equal.wav", np.stack([noise(8), noise(8)], axis=1))
    write(folder / "quiet.wav", noise(9) // 200)
    write(folder / "long.wav", noise(10, 31 * SAMPLING_RATE))
    write(folder / "truncated.wav", noise(11, 16_000))
    os.truncate(folder / "truncated.wav", 44 + 2 * 8_000)

    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("this is a text\n")
    write(folder / "header_only.wav", noise(12, 0))
    write(folder / "header_only_stereo.wav", np.zeros((0, 2)))
    write(folder / "silent.wav", np.zeros(3200))
    write(folder / "nan.wav", np.where(np.arange(3200) < 5, np.nan, 0.1), subtype="FLOAT")
    write(folder / "short.wav", noise(13, 160))
    (folder / "broken.flac").write_bytes((folder / "flac.flac").read_bytes()[:2000])

    for name in ("twin_a.wav", "twin_b.wav", "label_a.wav", "label_b.wav", "speaker_a.wav", "speaker_b.wav"):
        write(folder / name, noise({"t": 14, "l": 15, "s": 16}[name[0]]))
    write(folder / "twin_c.flac", noise(14))
    rows = [(file.name, "angry", "01") for file in sorted(folder.iterdir(), reverse=True)]
    other = {"label_b.wav": ("label_b.wav", "sad", "01"), "speaker_b.wav": ("speaker_b.wav", "angry", "02")}
    rows = [other.get(row[0], row) for row in rows]
    write_table(folder, [*rows, ("missing.wav", "angry", "01"), ("plain.wav", "", "01")])
    return folder


@pytest.fixture(scope="module")
def prepared(messy, tmp_path_factory):
    """Data set and report."""
    return prepare("table", messy / "clips.csv", tmp_path_factory.mktemp("prepared") / "data")


KEPT = (
    *("deep.wav", "eight_bit.wav", "fast.wav", "flac.flac", "long.wav", "plain.wav", "quiet.wav", "stereo.wav"),
    *("stereo_equal.wav", "truncated.wav", "twin_a.wav"),
)
NOT_AUDIO = "not readable as audio (Format not recognised.). Expected WAV, FLAC, OGG or MP3; convert it, or check"
SAME_LABEL = "same audio: table/label_a.wav is angry by table/01, table/label_b.wav is sad by table/01"
SAME_SPEAKER = "same audio: table/speaker_a.wav is angry by table/01, table/speaker_b.wav is angry by table/02"
SKIPPED = {  # by file name: kind, and how the detail begins after the file's name
    "clips.csv, row 27": ("incomplete_row", "no label, and no majority of votes"),
    "missing.wav": ("unreadable", "no such file. Expected an audio file"),
    "empty.wav": ("unreadable", NOT_AUDIO),
    "text.wav": ("unreadable", NOT_AUDIO),
    "broken.flac": ("unreadable", "not readable as audio ("),
    "header_only.wav": ("empty", "no samples"),
    "header_only_stereo.wav": ("empty", "no samples"),
    "silent.wav": ("silent", "all samples are 0"),
    "nan.wav": ("not_finite", "5 samples are NaN or infinite"),
    "short.wav": ("too_short", "0.010 s, at least 0.1 s are needed"),
    "twin_b.wav": ("duplicate", "same audio as table/twin_a.wav, which is kept"),
    "twin_c.flac": ("duplicate", "same audio as table/twin_a.wav, which is kept"),
    "label_a.wav": ("conflicting_duplicate", SAME_LABEL),
    "label_b.wav": ("conflicting_duplicate", SAME_LABEL),
    "speaker_a.wav": ("conflicting_duplicate", SAME_SPEAKER),
    "speaker_b.wav": ("conflicting_duplicate", SAME_SPEAKER),
}
NOTED = {
    "stereo.wav": ("stereo", "2 channels, different, averaged"),
    "stereo_equal.wav": ("stereo", "2 channels, all equal"),
    "quiet.wav": ("quiet", "level -66.6 dBFS"),
    "truncated.wav": ("truncated", "the file ends before its header says; 0.50 s are there"),
    "long.wav": ("long", "31.0 s; models use the first --max_seconds of it"),
}


def test_what_can_be_read_is_kept_in_the_order_of_the_ids(prepared):
    dataset, _ = prepared
    assert dataset["id"][:] == [f"table/{name}" for name in KEPT]
    assert not set(KEPT) & set(SKIPPED)


@pytest.mark.parametrize("skipped", [True, False])
def test_what_was_found_is_named_with_its_reason(prepared, messy, skipped):
    _, report = prepared
    found = {}
    for finding in (f for f in report["findings"] if f["skipped"] == skipped and f["kind"] != "other_format"):
        name = finding["item"].removeprefix(f"{messy}/").removeprefix("table/")
        assert name not in found
        found[name] = finding["kind"], finding["detail"].removeprefix(f"{messy / name}: ")
    expected = SKIPPED if skipped else NOTED
    assert {name: kind for name, (kind, _) in found.items()} == {name: kind for name, (kind, _) in expected.items()}
    for name, (_, detail) in expected.items():
        assert found[name][1].startswith(detail), name


def test_the_report_counts(prepared, tmp_path):
    dataset, report = prepared
    assert (report["corpus"], report["n_listed"], report["n_kept"]) == ("table", 26, len(KEPT))
    assert report["n_listed"] - report["n_kept"] == len(SKIPPED) - 1  # the row without a label was not listed
    assert report["skipped"] == {
        "conflicting_duplicate": 4,
        "duplicate": 2,
        "empty": 2,
        "incomplete_row": 1,
        "not_finite": 1,
        "silent": 1,
        "too_short": 1,
        "unreadable": 4,
    }
    assert report["noted"] == {"stereo": 2, "quiet": 1, "long": 1, "truncated": 1, "other_format": 5}
    assert (report["labels"], report["speakers"]) == ({"angry": 11}, {"table/01": 11})
    assert report["sexes"] == {"unknown": 11}
    assert report["source_formats"] == {
        "16000 Hz, 1 channel(s), PCM_16": 6,
        "16000 Hz, 2 channel(s), PCM_16": 2,
        "16000 Hz, 1 channel(s), PCM_U8": 1,
        "16000 Hz, 1 channel(s), PCM_24": 1,
        "96000 Hz, 1 channel(s), PCM_16": 1,
    }
    assert report["hours"] == round(sum(dataset["duration_seconds"][:]) / 3600, 4)
    folder = Path(dataset.cache_files[0]["filename"]).parent
    assert json.loads((folder / "integrity.json").read_text()) == report


def test_columns_are_typed_and_the_file_is_mapped(prepared):
    dataset, _ = prepared
    assert dataset.features == features(LABELS)
    assert len(dataset.cache_files) > 0
    assert list(dataset.features) == list(features(LABELS))


def test_stored_audio_is_that_of_the_file(prepared, messy):
    dataset, _ = prepared
    for row in dataset:
        name = row["id"].removeprefix("table/")
        assert row["audio"]["path"] == name
        info = sf.info(BytesIO(row["audio"]["bytes"]))
        assert (info.format, info.samplerate, info.channels) == ("FLAC", SAMPLING_RATE, 1)
        stored, given = read_clip(row["audio"]["bytes"]).samples, read_clip(messy / name).samples
        np.testing.assert_array_equal(stored, given, err_msg=name)
        assert row["pcm_sha256"] == pcm_sha256(given)
        assert row["duration_seconds"] == pytest.approx(len(given) / SAMPLING_RATE)


def test_stored_audio_of_known_samples(prepared):
    dataset, _ = prepared
    stored = dict(zip(dataset["id"][:], (cell["bytes"] for cell in dataset["audio"][:]), strict=True))
    expected = {
        "plain.wav": noise(1) / 2**15,
        "deep.wav": noise(4) / 2**15 + 2**-20,
        "stereo.wav": (noise(6) / 2**15 + noise(7) / 2**15) / 2,
        "truncated.wav": noise(11, 16_000)[:8_000] / 2**15,
    }
    for name, samples in expected.items():
        np.testing.assert_array_equal(read_clip(stored[f"table/{name}"]).samples, samples.astype(np.float32), name)
    assert len(read_clip(stored["table/fast.wav"]).samples) == 3200


def test_all_columns_of_a_row(tmp_path):
    write(tmp_path / "a.wav", noise(1))
    columns = "path label speaker sex session sentence transcript transcript_source votes"
    votes = '{"sad": 3, "angry": 1}'
    write(tmp_path / "b.wav", noise(2))
    first = ("a.wav", "sad", "01", "F", "2", "k", "ja, ja", "whisper@1", votes)
    write_table(tmp_path, [first, ("b.wav", "angry", "", "", "", "", "", "", "")], columns)
    dataset, _ = prepare("table", tmp_path / "clips.csv", tmp_path / "data")
    row = {name: value for name, value in dataset[0].items() if value is not None}
    assert len(row.pop("audio")["bytes"]) > 1000
    assert len(row.pop("fingerprint")) > 0
    assert row == {
        "id": "table/a.wav",
        "label": 1,
        "votes": [0.25, 0.75],
        "speaker": "table/01",
        "sex": "female",
        "session": "2",
        "sentence": "k",
        "transcript": "ja, ja",
        "transcript_source": "whisper@1",
        "duration_seconds": pytest.approx(0.2),
        "corpus": "table",
        "level_dbfs": pytest.approx(rms_dbfs(noise(1) / 2**15), abs=1e-3),
        "leading_zeros_seconds": 0.0,
        "source_format": "16000 Hz, 1 channel(s), PCM_16",
        "source_bytes": (tmp_path / "a.wav").stat().st_size,
        "pcm_sha256": hashlib.sha256((noise(1).astype("<i4") * 256).tobytes()).hexdigest(),
    }


def test_clips_given_as_bytes():
    file = BytesIO()
    sf.write(file, noise(1), SAMPLING_RATE, format="WAV")
    row, findings = read_row(Utterance("toy/a", file.getvalue(), "sad", "toy"), LABELS)
    assert findings == []
    assert (row["label"], row["votes"], row["audio"]["path"]) == (1, None, "toy/a")
    row, (finding,) = read_row(Utterance("toy/b", b"no audio", "sad", "toy"), LABELS)
    assert row is None
    assert (finding.kind, finding.item) == ("unreadable", "toy/b")
    assert finding.detail.startswith(f"bytes given: {NOT_AUDIO}")


def test_whole_shards_of_bad_clips(tmp_path, monkeypatch):
    table = clips(tmp_path / "in", 6)
    for name in ("00.wav", "01.wav", "04.wav", "05.wav"):
        (tmp_path / "in" / name).write_text("no audio")
    monkeypatch.setattr(hf_ser.data.shards, "SHARD_ROWS", 2)
    dataset, report = prepare("table", table, tmp_path / "data")
    assert dataset["id"][:] == ["table/02.wav", "table/03.wav"]
    assert dataset.features == features(LABELS)
    assert report["skipped"] == {"unreadable": 4}


def test_duplicates_are_found_across_shards(tmp_path, monkeypatch):
    table = clips(tmp_path / "in", 6)
    write(tmp_path / "in" / "04.wav", noise(0))  # 04 is angry by s1, 00 is angry by s0
    monkeypatch.setattr(hf_ser.data.shards, "SHARD_ROWS", 2)
    dataset, report = prepare("table", table, tmp_path / "data")
    assert dataset["id"][:] == [f"table/0{i}.wav" for i in (1, 2, 3, 5)]
    assert report["skipped"] == {"conflicting_duplicate": 2}


def test_no_usable_clip_at_all_names_a_clip_and_not_a_lesser_finding(tmp_path):
    (tmp_path / "a.wav").write_text("no audio")
    (tmp_path / "b.wav").write_text("no audio")
    write_table(tmp_path, [("a.wav", "sad", "01"), ("b.wav", "angry", "01"), ("c.wav", "", "01")])
    with pytest.raises(
        ValueError, match=r"^table: none of 2 clips could be used\. The first: .*a\.wav: .*not readable"
    ):
        prepare("table", tmp_path / "clips.csv", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_existing_output_is_refused_and_left_alone(tmp_path):
    table = clips(tmp_path / "in", 2)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "precious").write_text("mine")
    with pytest.raises(FileExistsError) as error:
        prepare("table", table, tmp_path / "data")
    assert str(error.value) == (
        f"{tmp_path / 'data'} already exists and holds other files, which stay: name another --output_dir."
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "in"]
    assert (tmp_path / "data" / "precious").read_text() == "mine"


def test_unknown_corpus_and_missing_folder():
    with pytest.raises(ValueError, match="Unknown corpus 'emo': expected one of ravdess, iemocap, emodb, crema_d"):
        list_corpora("emo", "/data")
    with pytest.raises(ValueError, match="Corpus 'ravdess' is read from disk: give its folder with --data_dir"):
        list_corpora("ravdess", None)


@pytest.fixture
def reads(monkeypatch):
    """Names of the files that were decoded; name one in `reads.fatal` and the run is killed there."""

    class Reads(list):
        fatal = None

    seen = Reads()

    def recording(source, *part):
        name = Path(source).name
        if name == seen.fatal:
            raise KeyboardInterrupt
        seen.append(name)
        return read_clip(source, *part)

    monkeypatch.setattr(hf_ser.data.shards, "read_clip", recording)
    monkeypatch.setattr(hf_ser.data.shards, "SHARD_ROWS", 4)
    return seen


def killed(reads, table: Path, output_dir: Path, fatal: str) -> None:
    reads.fatal = fatal
    with pytest.raises(KeyboardInterrupt):
        prepare("table", table, output_dir)
    reads.fatal = None
    reads.clear()


def content(dataset: Dataset) -> list[dict]:
    return dataset.select_columns(["id", "label", "speaker", "pcm_sha256", "audio"])[:]


def test_a_killed_run_goes_on_where_it_was(tmp_path, reads):
    table = clips(tmp_path / "in", 11)
    (tmp_path / "in" / "02.wav").write_text("no audio")
    killed(reads, table, tmp_path / "data", fatal="09.wav")
    assert not (tmp_path / "data").exists()
    resumed, report = prepare("table", table, tmp_path / "data")
    assert sorted(reads) == ["08.wav", "09.wav", "10.wav"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "in"]
    unbroken, unbroken_report = prepare("table", table, tmp_path / "unbroken")
    assert content(resumed) == content(unbroken)
    assert resumed.num_rows == 10
    assert report == unbroken_report


def test_a_run_killed_in_its_first_shard(tmp_path, reads):
    table = clips(tmp_path / "in", 6)
    killed(reads, table, tmp_path / "data", fatal="00.wav")
    dataset, _ = prepare("table", table, tmp_path / "data")
    assert sorted(reads) == [f"0{i}.wav" for i in range(6)]
    assert dataset.num_rows == 6


def change_label(folder: Path) -> None:
    text = (folder / "clips.csv").read_text()
    (folder / "clips.csv").write_text(text.replace("00.wav,angry", "00.wav,sad"))


def change_sound(folder: Path) -> None:
    write(folder / "00.wav", noise(99))
    os.utime(folder / "00.wav", ns=(1, 1))  # clocks of file systems may be coarse


@pytest.mark.parametrize("change", [change_label, change_sound])
def test_a_changed_listing_starts_anew(tmp_path, reads, change):
    table = clips(tmp_path / "in", 6)
    killed(reads, table, tmp_path / "data", fatal="05.wav")
    change(tmp_path / "in")
    dataset, _ = prepare("table", table, tmp_path / "data")
    assert sorted(reads) == [f"0{i}.wav" for i in range(6)]
    unbroken, _ = prepare("table", table, tmp_path / "unbroken")
    assert content(dataset) == content(unbroken)


def test_shards_of_another_size_are_not_reused(tmp_path, reads, monkeypatch):
    table = clips(tmp_path / "in", 9)
    killed(reads, table, tmp_path / "data", fatal="08.wav")
    monkeypatch.setattr(hf_ser.data.shards, "SHARD_ROWS", 6)
    dataset, _ = prepare("table", table, tmp_path / "data")
    assert dataset.num_rows == 9


def test_load_prepared_tells_missing_from_unfinished(tmp_path, reads):
    table = clips(tmp_path / "in", 6)
    expected = "Expected a folder written by scripts/prepare_data.py: run it with --output_dir"
    folder = tmp_path / "data"
    with pytest.raises(FileNotFoundError) as missing:
        load_prepared(folder)
    assert str(missing.value).startswith(f"{folder}: found no prepared data set. {expected} {folder} (an unfinished")
    killed(reads, table, folder, fatal="05.wav")
    with pytest.raises(FileNotFoundError) as unfinished:
        load_prepared(folder)
    assert str(unfinished.value).startswith(f"{folder}: found an unfinished one, {folder}.partial. {expected} {folder}")
    with pytest.raises(FileNotFoundError, match="found no prepared data set"):
        load_prepared(tmp_path / "in")
    written, _ = prepare("table", table, folder)
    opened = load_prepared(str(folder))
    assert content(opened) == content(written)
    assert len(opened.cache_files) > 0


def test_the_cache_is_used_until_a_file_changes(tmp_path, reads, monkeypatch):
    monkeypatch.setenv("HF_SER_CACHE", str(tmp_path / "cache"))
    table = clips(tmp_path / "in", 4)
    first = load_or_prepare("table", table)
    assert len(reads) == 4
    assert Path(first.cache_files[0]["filename"]).parent.parent == tmp_path / "cache"
    again = load_or_prepare("table", table)
    assert len(reads) == 4
    assert content(again) == content(first)

    change_sound(tmp_path / "in")
    changed = load_or_prepare("table", table)
    assert len(reads) == 8
    assert changed["pcm_sha256"][0] == hashlib.sha256((noise(99).astype("<i4") * 256).tobytes()).hexdigest()
    assert changed["pcm_sha256"][1:] == first["pcm_sha256"][1:]
    change_label(tmp_path / "in")
    assert load_or_prepare("table", table)["label"][0] == 1 - changed["label"][0]
    assert sum(path.is_dir() for path in (tmp_path / "cache").iterdir()) == 3


def test_of_two_runs_at_once_one_prepares_and_the_other_waits(tmp_path, reads, monkeypatch):
    monkeypatch.setenv("HF_SER_CACHE", str(tmp_path / "cache"))
    table = clips(tmp_path / "in", 9)
    with ThreadPoolExecutor(2) as pool:
        one, other = (run.result() for run in [pool.submit(load_or_prepare, "table", table) for _ in range(2)])
    assert sorted(reads) == [f"0{i}.wav" for i in range(9)]
    assert content(one) == content(other)


def test_the_cache_of_a_generated_corpus(tmp_path, reads, monkeypatch):
    file = BytesIO()
    sf.write(file, noise(1), SAMPLING_RATE, format="WAV")
    listing = Listing(LABELS, [Utterance("synthetic/a", file.getvalue(), "sad", "synthetic")])
    monkeypatch.setattr(CORPORA["synthetic"], "list_utterances", lambda data_dir: listing)
    monkeypatch.setattr(hf_ser.data.shards, "read_clip", read_clip)
    monkeypatch.setenv("HF_SER_CACHE", str(tmp_path / "cache"))
    first = load_or_prepare("synthetic", None)
    monkeypatch.setattr(CORPORA["synthetic"], "list_utterances", None)  # what is there is opened without generating
    assert load_or_prepare("synthetic", None)["id"][:] == first["id"][:] == ["synthetic/a"]
    monkeypatch.setattr(hf_ser.data.prepare, "PREPARATION", "another")
    with pytest.raises(TypeError):
        load_or_prepare("synthetic", None)


def flags_of(table: Path, folder: Path) -> list[str]:
    return ["--corpus", "table", "--data_dir", str(table), "--output_dir", str(folder)]


def test_the_script_prints_the_report(tmp_path, monkeypatch, capsys):
    """Run as a file, but in this process, for another imports for seconds; one that refuses is begun below."""
    folder, file = tmp_path, str(ROOT / "scripts" / "prepare_data.py")
    table = clips(folder / "in", 3)
    (folder / "in" / "02.wav").write_text("no audio")
    monkeypatch.setattr(sys, "argv", [file, *flags_of(table, folder / "good")])
    runpy.run_path(file, run_name="__main__")  # an error would raise SystemExit
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "table: 2 of 3 listed clips kept, 0.00 hours, 2 known speakers"
    assert "skipped   unreadable 1" in lines
    assert any("02.wav" in line and "not readable as audio" in line for line in lines)
    assert f"data set: {folder / 'good'}, all findings: {folder / 'good'}/integrity.json" in lines
    assert lines[-3] == "next:" and all(str(folder / "good") in line for line in lines[-2:])
    assert load_prepared(folder / "good").num_rows == 2


@pytest.mark.slow
def test_the_script_refuses_in_one_line(tmp_path):
    folder = tmp_path
    command = [sys.executable, ROOT / "scripts" / "prepare_data.py", *flags_of(folder / "nothing.csv", folder / "bad")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert ended.returncode == 2
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"error: {folder / 'nothing.csv'}: no such table. Expected a .csv")
    assert not (folder / "bad").exists()


def test_parts_of_a_longer_file_are_clips_of_their_own(tmp_path):
    write(tmp_path / "long.wav", noise(1, 32_000))
    rows = [("long.wav", "sad", "s1", "0.25", "0.75"), ("long.wav", "angry", "s2", "1", "3")]
    write_table(tmp_path, rows, "path label speaker start end")
    dataset, report = prepare("table", tmp_path / "clips.csv", tmp_path / "data")
    assert report["noted"] == {"cut_short": 1}
    assert dataset["duration_seconds"][:] == [0.5, 1.0]
    expected = noise(1, 32_000)[4_000:12_000] / np.float32(2**15)
    np.testing.assert_array_equal(read_clip(dataset[0]["audio"]["bytes"]).samples, expected)


def test_rows_of_text_only(tmp_path):
    silent = Utterance("toy/text", None, "sad", "toy", speaker="toy/a", transcript="oh", transcript_source="reference")
    row, findings = read_row(silent, LABELS)
    assert findings == []
    assert {name for name, value in row.items() if value is None} >= {"audio", "duration_seconds", "pcm_sha256"}
    assert (row["id"], row["transcript"]) == ("toy/text", "oh")
    folder = meld.build(tmp_path / "meld")
    dataset, report = prepare("meld", folder, tmp_path / "data")
    assert None in dataset["audio"][:]
    assert report["source_formats"]["text only"] == dataset["audio"][:].count(None)


def test_audio_that_is_read_when_it_is_needed():
    file = BytesIO()
    sf.write(file, noise(1), SAMPLING_RATE, format="WAV")
    row, findings = read_row(Utterance("toy/a", file.getvalue, "sad", "toy"), LABELS)
    assert findings == []
    assert row["source_bytes"] == len(file.getvalue())
    assert row["pcm_sha256"] == pcm_sha256(noise(1) / np.float32(2**15))


def test_several_corpora_as_one(tmp_path):
    folders = {name: str(tree.build(tmp_path / name)) for name, tree in {"emodb": emodb, "savee": savee}.items()}
    dataset, report = prepare("emodb,savee", ",".join(folders.values()), tmp_path / "data")
    assert set(dataset["corpus"][:]) == {"emodb", "savee"}
    assert {who.split("/")[0] for who in dataset["speaker"][:]} == {"emodb", "savee"}
    assert report["corpus"] == "emodb,savee"
    mapped, report = prepare("emodb,savee", ",".join(folders.values()), tmp_path / "four", "four_class")
    assert set(mapped.features["label"].names) <= {"neutral", "happy", "sad", "angry"}
    assert mapped.num_rows + sum(report["dropped_by_label_map"].values()) == dataset.num_rows
    assert report["dropped_by_label_map"]


@pytest.mark.parametrize(
    ("corpus", "data_dir", "error"),
    [
        ("ravdess,emodb", "A", "found 1 folders for 2 corpora, expected each corpus once and a folder for each"),
        ("emodb,emodb", "A,B", "expected each corpus once"),
        ("emodb,nothing", "A,B", "Unknown corpus 'nothing'"),
    ],
)
def test_corpora_that_cannot_be_joined(corpus, data_dir, error):
    with pytest.raises(ValueError, match=error):
        list_corpora(corpus, data_dir)


def test_options_of_a_table_are_for_tables(tmp_path):
    with pytest.raises(ValueError, match="columns: found for corpus 'ravdess', expected with --corpus table"):
        list_corpora("ravdess", tmp_path, columns="path=file")
    with pytest.raises(ValueError, match="--columns path: expected our names and the table's, such as path=file"):
        list_corpora("table", clips(tmp_path, 2), columns="path")
    (tmp_path / "clips.csv").write_text((tmp_path / "clips.csv").read_text().replace("label", "feeling"))
    assert len(list_corpora("table", tmp_path / "clips.csv", columns="label=feeling").utterances) == 2


def test_a_data_set_of_an_earlier_version_is_refused(tmp_path):
    dataset, _ = prepare("table", clips(tmp_path, 2), tmp_path / "data")
    dataset.remove_columns("fingerprint").save_to_disk(tmp_path / "old")
    (tmp_path / "old/integrity.json").write_text("{}")
    with pytest.raises(ValueError, match="without the columns fingerprint, of an earlier version"):
        load_prepared(tmp_path / "old")


def test_a_folder_of_recordings_is_never_to_be_removed(tmp_path):
    (tmp_path / "corpus/angry").mkdir(parents=True)
    (tmp_path / "corpus/angry/a.wav").touch()
    (tmp_path / "t.csv").write_text("path,label\n")
    for given in (tmp_path / "corpus", tmp_path / "t.csv"):
        with pytest.raises(FileNotFoundError, match=r"no prepared data set but .*--corpus table --data_dir") as error:
            load_prepared(given)
        assert f"--data_dir {given}" in str(error.value)
        assert "remove" not in str(error.value) and f"--output_dir {given}" not in str(error.value)
    with pytest.raises(FileExistsError, match="already exists and holds other files, which stay") as error:
        prepare("synthetic", None, tmp_path / "corpus")
    assert "remove" not in str(error.value)


def test_every_corpus_is_listed_in_one_form_of_text(monkeypatch, tmp_path):
    names = {
        "id": "ravdess/\uff10\uff11",
        "speaker": "ravdess/u\u0308",
        "transcript": "a\u00a0 b",
        "session": "1\u200b",
    }
    one = Utterance(audio=None, label="sad", corpus="ravdess", **names)
    monkeypatch.setattr(CORPORA["ravdess"], "list_utterances", lambda folder: Listing(("sad",), [one]))
    (listed,) = list_corpora("ravdess", tmp_path).utterances
    found = (listed.id, listed.speaker, listed.transcript, listed.session)
    assert found == ("ravdess/01", "ravdess/ü", "a b", "1")


@pytest.mark.parametrize("cell", [{"bytes": None, "path": "/dev/zero"}, {"bytes": b"", "path": "private.wav"}])
def test_a_prepared_data_set_that_names_files_is_refused(tmp_path, cell):
    prepare("table", clips(tmp_path / "in", 4), tmp_path / "ours")
    dataset = load_prepared(tmp_path / "ours")
    cells = dataset.with_format("arrow")["audio"][:].to_pylist()
    cells[2] = cell
    stored = {"bytes": Value("binary"), "path": Value("string")}
    columns = {name: dataset[name][:] for name in dataset.column_names if name != "audio"} | {"audio": cells}
    plain = Features({**dataset.features, "label": Value("int64"), "audio": stored})
    theirs = Dataset.from_dict(columns, features=Features({name: plain[name] for name in columns}))
    spoiled = tmp_path / "theirs"
    theirs.save_to_disk(spoiled)
    (spoiled / "integrity.json").write_text((tmp_path / "ours" / "integrity.json").read_text())
    with pytest.raises(ValueError, match=r"1 audio cells hold no bytes.*files of this disk"):
        load_prepared(spoiled)


def test_how_many_clips_have_no_speaker_is_counted():
    (finding,) = speaker_findings("table", ["a", None, None, "b"], ["sad", "sad", "calm", "calm"])
    assert (finding.kind, finding.count) == ("missing_speakers", 2)
    assert finding.detail.startswith("2 of 4 clips have no speaker (calm 1, sad 1): training refuses them")
    assert speaker_findings("table", [None, None], ["sad", "calm"]) == []  # which the corpus reports itself
    assert speaker_findings("table", ["a"], ["sad"]) == []


def test_a_class_without_a_usable_clip_is_no_class(tmp_path):
    for i in range(4):
        write(tmp_path / f"{i}.wav", noise(i))
    (tmp_path / "4.wav").write_bytes(b"no audio")
    rows = [(f"{i}.wav", label, f"s{i}") for i, label in enumerate(("sad", "happy", "sad", "happy", "bored"))]
    table = write_table(tmp_path, [*rows, ("5.wav", "calm", "s5")])
    dataset, report = prepare("table", table, tmp_path / "data")
    assert dataset.features["label"].names == ["happy", "sad"] and set(report["labels"]) == {"happy", "sad"}
    lost = {one["item"]: one["detail"] for one in report["findings"] if one["kind"] == "lost_class"}
    assert set(lost) == {"label bored", "label calm"}
    assert lost["label calm"] == "none of its 1 clips can be used (unreadable 1): it is not a class of this data set"
    assert [dataset.features["label"].names[i] for i in dataset["label"][:]] == ["sad", "happy", "sad", "happy"]


def test_a_class_of_conflicting_copies_alone_is_no_class_and_its_votes_go(tmp_path):
    for i in range(3):
        write(tmp_path / f"{i}.wav", noise(i))
    write(tmp_path / "3.wav", noise(9))
    write(tmp_path / "4.wav", noise(9))
    labels = ("sad", "happy", "sad", "calm", "happy")
    rows = [{"path": f"{i}.wav", "label": one, "votes": {"calm": 1, one: 3}} for i, one in enumerate(labels)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    dataset, report = prepare("table", tmp_path / "t.jsonl", tmp_path / "data")
    assert dataset.features["label"].names == ["happy", "sad"] and report["noted"]["lost_class"] == 1
    assert dataset["votes"][:] == [[0, 1], [1, 0], [0, 1]]
