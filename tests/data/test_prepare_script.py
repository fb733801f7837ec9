"""scripts/prepare_data.py, killed in between: the same command finishes what was begun."""

import sys

import numpy as np
import pytest
import soundfile as sf

from hf_ser.publish.dataset_card import CARD
from scripts import prepare_data


@pytest.fixture
def command(tmp_path, monkeypatch):
    """A function that runs the script on a table of four clips."""
    rows = ["path,label,speaker"]
    for n, label in enumerate(("sad", "angry", "sad", "angry")):
        sf.write(tmp_path / f"{n}.wav", np.random.default_rng(n).normal(0, 0.1, 16_000), 16_000)
        rows.append(f"{n}.wav,{label},s{n % 2}")
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")

    def run(*flags: str) -> None:
        given = ["--corpus", "table", "--data_dir", str(tmp_path / "t.csv"), "--output_dir", str(tmp_path / "ds")]
        monkeypatch.setattr(sys, "argv", ["prepare_data.py", *given, *flags])
        prepare_data.main()

    return run


def test_a_report_that_was_killed_while_it_was_drawn_is_finished_by_the_same_command(
    command, tmp_path, monkeypatch, capsys
):
    def killed(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("hf_ser.publish.dataset_plots.draw_examples", killed)
        with pytest.raises(KeyboardInterrupt):
            command("--report")
    assert not (tmp_path / "ds" / CARD).exists()
    command("--report")
    assert (tmp_path / "ds" / CARD).is_file() and (tmp_path / "ds" / "examples.png").is_file()
    assert "holds this data set already, and no report of it yet: it is drawn now" in capsys.readouterr().out
    with pytest.raises(FileExistsError, match="is a prepared data set: name another --output_dir"):
        command("--report")


def test_a_report_of_other_data_is_not_drawn(command, tmp_path):
    command()
    (tmp_path / "t.csv").write_text("path,label,speaker\n0.wav,sad,a\n3.wav,angry,b\n")
    with pytest.raises(FileExistsError, match="is a prepared data set"):
        command("--report")
    assert not (tmp_path / "ds" / CARD).exists()


def test_copies_that_were_killed_leave_nothing_behind(command, tmp_path):
    command("--augmented_copies", "1", "--augment", "gain:1@3")
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
    command("--augmented_copies", "1", "--augment", "gain:1@3", "--report")
    assert (tmp_path / "ds" / CARD).is_file()
