"""Folders are walked through links once, loops and unreadable folders are reported; writes are atomic."""

import errno
import os
import subprocess
import sys

import corpora_trees.emodb
import corpora_trees.iemocap
import corpora_trees.tess
import pytest

from hf_ser import files
from hf_ser.augment.mixing import usable_noises
from hf_ser.data import corpora
from hf_ser.data.folders import files_under


@pytest.fixture
def linked(tmp_path):
    """A folder of labels with a linked folder, two loops and a broken link."""
    for name in ("data/angry/a.wav", "elsewhere/sad/b.wav", "elsewhere/sad/c.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    root = tmp_path / "data"
    os.symlink("../elsewhere/sad", root / "sad")
    os.symlink("../elsewhere/sad", root / "sad again")
    os.symlink(".", root / "loop")
    os.symlink("../..", root / "angry" / "up")
    os.symlink("nowhere", root / "gone")
    return root


def test_linked_folders_are_entered_once_and_loops_are_reported(linked):
    found, findings = files_under(linked)
    assert [file.relative_to(linked).as_posix() for file in found] == ["angry/a.wav", "sad/b.wav", "sad/c.wav"]
    kinds = {(one.kind, os.path.basename(one.item), one.skipped) for one in findings}
    assert kinds == {
        ("linked_again", "loop", False),
        ("linked_again", "up", False),
        ("linked_again", "sad again", False),
        ("broken_link", "gone", True),
    }


def test_a_folder_itself_goes_before_a_link_to_it(tmp_path):
    (tmp_path / "sad").mkdir()
    (tmp_path / "sad/x.wav").touch()
    os.symlink("sad", tmp_path / "a link")
    assert [file.parent.name for file in files_under(tmp_path)[0]] == ["sad"]


@pytest.mark.parametrize(
    ("corpus", "tree"),
    [
        (corpora.emodb, corpora_trees.emodb),
        (corpora.tess, corpora_trees.tess),
        (corpora.iemocap, corpora_trees.iemocap),
    ],
    ids=["emodb", "tess", "iemocap"],
)
def test_corpora_behind_links(tmp_path, corpus, tree):
    root = tree.build(tmp_path / "real")
    expected = {utterance.id for utterance in corpus.list_utterances(root).utterances}
    linked = tmp_path / "linked"
    linked.mkdir()
    for folder in sorted(root.iterdir()):
        os.symlink(folder, linked / folder.name)
    os.symlink(linked, linked / "again")
    listing = corpus.list_utterances(linked)
    assert {utterance.id for utterance in listing.utterances} == expected
    assert "linked_again" in {finding.kind for finding in listing.findings}


def test_labels_and_noises_behind_links(linked, tmp_path):
    assert corpora.table.list_utterances(linked).labels == ("angry", "sad")
    noises = tmp_path / "noises"
    noises.mkdir()
    os.symlink(linked, noises / "more")
    with pytest.raises(ValueError, match=r"found \d audio files, none of which can be read"):
        usable_noises(noises)


def test_a_folder_that_may_not_be_read_is_named(linked, monkeypatch):
    scandir = os.scandir

    def refusing(folder):
        if os.path.basename(folder) == "angry":
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(files.os, "scandir", refusing)
    _, findings = files_under(linked)
    assert [(one.detail, one.skipped) for one in findings if one.kind == "unreadable_folder"] == [
        ("Permission denied: its files are missing", True)
    ]


CHILD = """
import os, signal, sys, time
from pathlib import Path
from hf_ser.files import atomic_write, temporary_folder
folder = Path(sys.argv[1])
with temporary_folder(folder, "work") as work, atomic_write(folder / "report.json") as file:
    (work / "part").write_text("x")
    file.write("half")
    file.flush()
    print("ready", flush=True)
    time.sleep(60)
"""


def test_temporary_files_of_killed_processes_are_removed_and_those_of_running_ones_stay(tmp_path):
    with subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"ready\n"
        held = sorted(path.name for path in tmp_path.iterdir())
        assert len(held) == 3
        assert files.remove_leftovers(tmp_path) == []  # the process is running
        with files.atomic_write(tmp_path / "report.json") as file:
            file.write("whole")
        assert sorted(path.name for path in tmp_path.iterdir()) == [*held, "report.json"]
        child.kill()
    (tmp_path / ".hidden").touch()  # a user's own
    with files.temporary_folder(tmp_path, "work"), files.atomic_write(tmp_path / "report.json") as file:
        file.write("whole again")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "report.json"]
    assert (tmp_path / "report.json").read_text() == "whole again"


def test_hidden_files_of_others_stay(tmp_path):
    for name in (f".report.json.{'0a' * 16}", f".cache.{'f' * 32}", f".x.hf_ser_{'g' * 32}", f"x.hf_ser_{'0' * 32}"):
        (tmp_path / name).write_text("somebody's")
    (tmp_path / f".work.{'1' * 32}").mkdir()
    kept = sorted(tmp_path.iterdir())
    with files.temporary_folder(tmp_path, "work"), files.atomic_write(tmp_path / "report.json") as file:
        file.write("x")
    assert files.remove_leftovers(tmp_path) == []
    assert sorted(tmp_path.iterdir()) == sorted([*kept, tmp_path / "report.json"])


def test_a_full_disk_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_text("good")

    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"), files.atomic_write(tmp_path / "a.json") as file:
        file.write("half")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.json": "good"}
