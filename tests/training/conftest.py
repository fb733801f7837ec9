"""A corpus small enough to train on in seconds: a few speakers of the generated voice, as a user's own table."""

import csv
import importlib.util
import sys
from pathlib import Path

import pytest

from hf_ser.corpora import synthetic
from hf_ser.dataset import prepare

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="session")
def table(tmp_path_factory) -> Path:
    """A CSV of 6 speakers with 8 clips each, two a label."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = []
    for speaker in range(1, 7):
        taken = dict.fromkeys(synthetic.LABELS, 0)
        for clip in range(1, 41):
            utterance = synthetic.utterance(speaker, clip)
            if taken[utterance.label] == 2:
                continue
            taken[utterance.label] += 1
            name = f"{speaker}_{clip}.wav"
            (folder / name).write_bytes(utterance.audio)
            rows.append(
                {
                    "path": name,
                    "label": utterance.label,
                    "speaker": f"s{speaker}",
                    "sex": utterance.sex,
                    "transcript": utterance.transcript,
                }
            )
    with open(folder / "clips.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return folder / "clips.csv"


@pytest.fixture(scope="session")
def prepared(table, tmp_path_factory) -> Path:
    """The same as a prepared data set folder."""
    folder = tmp_path_factory.mktemp("prepared") / "data"
    prepare("table", table, folder)
    return folder


@pytest.fixture
def script(monkeypatch):
    """Call a script's `main` in this process with the given arguments."""

    def call(name: str, *arguments) -> None:
        spec = importlib.util.spec_from_file_location(f"script_{name}", SCRIPTS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        module.main()

    return call
