"""A table from elsewhere reads no devices, and what it takes from outside its folder is counted before it is pushed."""

import json
import os
import signal
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from hf_ser.data.integrity import OUTSIDE, outside_findings
from hf_ser.data.prepare import prepare
from hf_ser.models.decoding import read_audio
from hf_ser.publish.privacy import check_outside_files


def write(file: Path, seed: int) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    sf.write(file, np.random.default_rng(seed).normal(0, 0.1, 4000), 16_000)
    return file


def outside_of(report: dict) -> tuple[int, list[str]]:
    return report["noted"].get(OUTSIDE, 0), [one["detail"] for one in report["findings"] if one["kind"] == OUTSIDE]


@pytest.fixture(autouse=True)
def ends():
    """Whatever waits for a pipe ends in an error, not never."""
    signal.alarm(60)
    yield
    signal.alarm(0)


@pytest.fixture
def table(tmp_path):
    """A folder of two clips, beside it two private ones."""
    write(tmp_path / "given/a.wav", 1)
    write(tmp_path / "given/deep/b.wav", 2)
    write(tmp_path / "private.wav", 3)
    write(tmp_path / "home/diary.wav", 4)
    return tmp_path / "given"


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_devices_pipes_and_kernel_files_are_skipped_at_once(table, tmp_path, ending):
    os.mkfifo(table / "pipe.wav")
    (table / "link.wav").symlink_to("/dev/zero")
    odd = ["/dev/zero", "pipe.wav", "link.wav", "/dev/stdin", "/proc/kmsg", "/proc/self/environ", "deep"]
    odd += ["../" * 20 + "dev/full"]
    rows = [{"path": path, "label": "sad", "start": 0, "end": 500} for path in odd]  # ends are looked up in the files
    rows += [{"path": "a.wav", "label": "sad", "start": 0, "end": 0.2}, {"path": "deep/b.wav", "label": "angry"}]
    if ending == "csv":
        lines = [",".join(str(row.get(name, "")) for name in ("path", "label", "start", "end")) for row in rows]
        (table / "t.csv").write_text("\n".join(["path,label,start,end", *lines]))
    else:
        (table / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    dataset, report = prepare("table", table / f"t.{ending}", tmp_path / "data")
    assert len(dataset) == 2 and report["skipped"] == {"unreadable": len(odd)}
    details = [one["detail"] for one in report["findings"] if one["skipped"]]
    assert all(
        "no regular file but" in one or "file of the kernel" in one or "found a folder" in one for one in details
    )


def test_the_decoder_opens_no_pipe_and_no_device(tmp_path):
    os.mkfifo(tmp_path / "x.wav")
    for path in (tmp_path / "x.wav", "/dev/zero"):
        with pytest.raises(ValueError, match=r"no regular file but a device, pipe or socket.*Expected an audio file"):
            read_audio(path)
        with pytest.raises(ValueError, match="no regular file"):
            read_audio({"path": str(path)})
    with pytest.raises(FileNotFoundError, match="found a folder"):
        read_audio(tmp_path)


def test_paths_that_lead_out_are_counted_with_examples(table, tmp_path):
    (table / "inner.wav").symlink_to(table / "a.wav")
    (table / "leak.wav").symlink_to(tmp_path / "private.wav")
    (table / "folder").symlink_to(tmp_path / "home")
    paths = ["a.wav", str(table / "deep/b.wav"), "deep/../a.wav", "../private.wav", "folder/diary.wav", "leak.wav"]
    paths += ["inner.wav", "../given/deep/b.wav", "missing/../../private.wav"]
    rows = [f"{path},{('sad', 'angry')[number % 2]},s{number}" for number, path in enumerate(paths)]
    (table / "t.csv").write_text("\n".join(["path,label,speaker", *rows]))
    report = prepare("table", table / "t.csv", tmp_path / "data")[1]
    count, (detail,) = outside_of(report)
    assert count == 3 and detail.startswith(f"3 recordings are outside {table}, or links that lead out of it: ")
    assert all(name in detail for name in ("../private.wav", "folder/diary.wav", "leak.wav"))
    with pytest.raises(ValueError, match=r"3 of its recordings come from elsewhere.*--allow_outside_files"):
        check_outside_files(tmp_path / "data", allowed=False)
    check_outside_files(tmp_path / "data", allowed=True)


def test_a_named_audio_dir_is_not_outside(table, tmp_path):
    write(tmp_path / "home/c.wav", 5)
    (table / "t.csv").write_text(f"path,label\nc.wav,sad\n{table}/a.wav,angry\n../private.wav,sad\n")
    report = prepare("table", table / "t.csv", tmp_path / "data", audio_dir=tmp_path / "home")[1]
    count, (detail,) = outside_of(report)
    assert count == 1 and "private.wav" in detail and f"{table} and {tmp_path / 'home'}" in detail


def test_links_in_an_unpacked_archive_are_counted(tmp_path):
    private = write(tmp_path / "home/secret.wav", 1)
    write(tmp_path / "source/sad/a.wav", 2)
    write(tmp_path / "source/angry/b.wav", 3)
    (tmp_path / "source/angry/c.wav").symlink_to(private)
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(tmp_path / "source", "x")
    with tarfile.open(tmp_path / "x.tar") as archive:
        archive.extractall(tmp_path, filter="fully_trusted")
    report = prepare("table", tmp_path / "x", tmp_path / "data")[1]
    assert outside_of(report)[0] == 1


def test_a_folder_that_is_a_link_itself_is_its_own(table, tmp_path):
    (tmp_path / "alias").symlink_to(table)
    assert outside_findings("table", [tmp_path / "alias/a.wav", table / "a.wav"], [tmp_path / "alias"]) == []
    assert outside_findings("table", [table / "none.wav", "/nowhere/x.wav"], [table]) == []
    (found,) = outside_findings("ravdess", [tmp_path / "private.wav"] * 5, [table])
    assert found.count == 5 and found.detail.endswith("private.wav ...")


def test_pushing_wants_an_explicit_word(table, tmp_path, monkeypatch):
    from hf_ser.publish.hub import push_dataset

    (table / "t.csv").write_text("path,label\na.wav,sad\n../private.wav,angry\n")
    prepare("table", table / "t.csv", tmp_path / "data")
    with pytest.raises(ValueError, match="--allow_outside_files"):
        push_dataset(tmp_path / "data", "user/name", licence="cc-by-4.0", api=object())
