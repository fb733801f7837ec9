"""The real RAVDESS, where it lies beside the checkout: what field.md says of it must come out."""

from pathlib import Path

import numpy as np
import pytest
from shared_data import SHARED

from hf_ser.data.corpora.ravdess import list_utterances
from hf_ser.data.prepare import prepare
from hf_ser.data.schema import SAMPLING_RATE
from hf_ser.models.decoding import decode_audio

FLAC, ORIGINALS = SHARED / "data" / "ravdess", SHARED / "data" / "ravdess_48k"

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        not (FLAC.is_dir() and ORIGINALS.is_dir()),
        reason=f"no RAVDESS under {SHARED}: name its folder in HF_SER_SHARED",
    ),
]

TWINS = ("ravdess/03-01-03-01-02-01-07", "ravdess/03-01-03-01-02-02-07")
STEREO = (
    "03-01-02-01-01-02-01",
    "03-01-08-01-02-02-01",
    "03-01-02-01-02-02-05",
    "03-01-03-01-02-01-20",
    "03-01-06-01-01-02-20",
)


def of_kind(report: dict, kind: str) -> list[dict]:
    return [finding for finding in report["findings"] if finding["kind"] == kind]


def test_the_originals_with_their_known_faults(tmp_path):
    dataset, report = prepare("ravdess", ORIGINALS, tmp_path / "data")
    assert (report["n_listed"], report["n_kept"]) == (10, 9)
    assert report["skipped"] == {"duplicate": 1}
    (duplicate,) = of_kind(report, "duplicate")
    assert duplicate["item"] == TWINS[1]
    assert duplicate["detail"] == f"same audio as {TWINS[0]}, which is kept"
    assert set(TWINS) & set(dataset["id"][:]) == {TWINS[0]}
    assert {Path(finding["item"]).stem for finding in of_kind(report, "stereo")} == set(STEREO)
    assert {finding["detail"] for finding in of_kind(report, "stereo")} == {"2 channels, all equal"}
    assert report["source_formats"] == {"48000 Hz, 2 channel(s), PCM_16": 5, "48000 Hz, 1 channel(s), PCM_16": 4}
    assert all(2.5 < seconds < 5.5 for seconds in dataset["duration_seconds"][:])


def test_the_folder_holds_twenty_actors_of_sixty_clips():
    listing = list_utterances(FLAC)
    assert listing.findings == []
    clips = {}
    for utterance in listing.utterances:
        clips.setdefault(utterance.speaker, []).append(utterance.label)
    assert sorted(clips) == [f"ravdess/{actor:02d}" for actor in range(1, 21)]
    for labels in clips.values():
        assert {label: labels.count(label) for label in listing.labels} == {
            **dict.fromkeys(listing.labels, 8),
            "neutral": 4,
        }


def test_the_two_equal_clips_of_actor_07(tmp_path):
    (tmp_path / "Actor_07").mkdir()
    for file in (FLAC / "Actor_07").iterdir():
        (tmp_path / "Actor_07" / file.name).symlink_to(file)
    dataset, report = prepare("ravdess", tmp_path, tmp_path / "data")
    assert (report["n_listed"], report["n_kept"]) == (60, 59)
    assert report["skipped"] == {"duplicate": 1}
    assert of_kind(report, "duplicate")[0]["item"] == TWINS[1]
    assert TWINS[1] not in dataset["id"][:]
    assert report["labels"]["happy"] == 7
    assert report["source_formats"] == {"16000 Hz, 1 channel(s), PCM_16": 60 - 1}


@pytest.mark.parametrize("name", [*STEREO, TWINS[0].split("/")[1], "03-01-05-02-01-01-02", "03-01-01-01-01-01-09"])
def test_resampling_agrees_with_another_resampler(name):
    # The FLACs were made by another, steeper filter: the same in time and level, and alike but for the last octave.
    actor = f"Actor_{name[-2:]}"
    ours, theirs = decode_audio(ORIGINALS / actor / f"{name}.wav"), decode_audio(FLAC / actor / f"{name}.flac")
    assert abs(len(ours) - len(theirs)) <= 1
    shared = min(len(ours), len(theirs))
    ours, theirs = ours[:shared], theirs[:shared]
    assert np.corrcoef(ours, theirs)[0, 1] > 0.999
    frequencies = np.fft.rfftfreq(shared, 1 / SAMPLING_RATE)
    spectrum, difference = np.fft.rfft(theirs), np.fft.rfft(ours - theirs)
    for below_hz, decibels in ((4000, -45), (6000, -45), (8001, -30)):
        band = frequencies < below_hz
        assert 10 * np.log10((abs(difference[band]) ** 2).sum() / (abs(spectrum[band]) ** 2).sum()) < decibels
