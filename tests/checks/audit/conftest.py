"""Data sets to audit: a few speakers of the generated voice, written as a table that a test may spoil first."""

import json

import numpy as np
import pytest
import soundfile

from hf_ser.data.corpora import synthetic
from hf_ser.data.prepare import prepare
from hf_ser.data.schema import SAMPLING_RATE
from hf_ser.models.decoding import decode_audio


@pytest.fixture(autouse=True)
def draws_nothing(no_pictures):
    """The audit looks at none of the pictures of a run."""


@pytest.fixture(scope="session")
def clips():
    """Rows of a table with the samples of their clips: 8 speakers, 4 clips of each label."""
    rows = []
    for speaker in range(1, 9):
        taken = dict.fromkeys(synthetic.LABELS, 0)
        for clip in range(1, 41):
            utterance = synthetic.utterance(speaker, clip)
            if taken[utterance.label] < 4:
                taken[utterance.label] += 1
                row = {"path": f"{speaker}_{clip}.wav", "label": utterance.label, "speaker": f"s{speaker}"}
                row |= {"sex": utterance.sex, "transcript": utterance.transcript}
                rows.append((row, decode_audio(utterance.audio)))
    return rows


@pytest.fixture
def prepared_of(tmp_path):
    """A function from rows and samples to the folder of a prepared data set."""

    def build(rows: list[tuple[dict, np.ndarray]]):
        for row, samples in rows:
            soundfile.write(tmp_path / row["path"], samples, SAMPLING_RATE)
        (tmp_path / "clips.jsonl").write_text("\n".join(json.dumps(row) for row, _ in rows))
        prepare("table", tmp_path / "clips.jsonl", tmp_path / "data")
        return tmp_path / "data"

    return build
