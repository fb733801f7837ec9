"""Statistics of speakers: of all their clips or of some that are drawn, whatever the order of the rows."""

import numpy as np
import pytest
import torch
from models.tiny import assert_same_answers

from hf_ser.data.prepared import load_prepared
from hf_ser.inputs.speakers import clips_digest, enrolment_note, enrolment_rows, speaker_statistics
from hf_ser.models.decoding import decode_audio
from hf_ser.models.front_end import SpectrogramFrontEnd, WaveformFeatureExtractor


@pytest.fixture(scope="module")
def data(prepared):
    return load_prepared(prepared)


@pytest.fixture(scope="module")
def parts():
    return SpectrogramFrontEnd(n_bands=20, normalisation="speaker"), WaveformFeatureExtractor()


def test_all_clips_of_a_speaker_whatever_the_order_of_rows(data, parts):
    statistics = speaker_statistics(data, *parts)
    shuffled = speaker_statistics(data.select(np.random.default_rng(0).permutation(len(data))), *parts)
    assert list(statistics) == list(shuffled) == sorted(set(data["speaker"][:]))
    speaker = data[0]["speaker"]
    own = [decode_audio(row["audio"]) for row in data if row["speaker"] == speaker]
    frames = torch.cat([parts[0].raw(torch.from_numpy(clip)[None])[0][0] for clip in own], 1)
    expected = torch.stack([frames.mean(1), frames.std(1, correction=0)])
    np.testing.assert_allclose(statistics[speaker], expected, atol=1e-3)
    for name, values in statistics.items():
        assert_same_answers(torch.from_numpy(values), torch.from_numpy(shuffled[name]))


def test_the_draw_follows_seed_and_speaker_and_not_the_rows(data, capsys):
    def drawn(rows, clips, seed=0):
        return {
            speaker: [rows["id"][row] for row in found] for speaker, found in enrolment_rows(rows, clips, seed).items()
        }

    first = drawn(data, 3)
    assert {len(ids) for ids in first.values()} == {3}
    assert first == drawn(data.select(range(len(data) - 1, -1, -1)), 3) != drawn(data, 3, seed=1)
    speaker = data[0]["speaker"]
    alone = data.select([row for row, name in enumerate(data["speaker"][:]) if name == speaker])
    assert drawn(alone, 3) == {speaker: first[speaker]}
    assert capsys.readouterr().out == ""
    assert {len(ids) for ids in drawn(data, 100).values()} == {8}
    assert "6 of 6 speakers have fewer than 100 clips to enrol" in capsys.readouterr().out


def test_training_speakers_are_known_by_all_their_clips_and_draw_the_others_to_them(data, parts, capsys):
    front_end, extractor = SpectrogramFrontEnd(n_bands=20, normalisation="speaker"), parts[1]
    speakers = data["speaker"][:]
    trained = sorted(set(speakers))[:4]
    rows = [row for row, speaker in enumerate(speakers) if speaker in trained]
    every = speaker_statistics(data, *parts)
    apart = speaker_statistics(data, *parts, enrolment_clips=2)
    found = speaker_statistics(data, front_end, extractor, enrolment_clips=2, training_rows=rows)
    assert list(found) == list(every)
    known = np.stack([every[speaker] for speaker in trained])
    np.testing.assert_allclose(front_end.speaker_mean, known[:, 0].mean(0), rtol=1e-5)
    assert "2 of 6 speakers are known by fewer than 4 clips" in capsys.readouterr().out
    everybody = speaker_statistics(data, front_end, extractor, training_rows=rows)
    assert capsys.readouterr().out == ""
    weight = front_end.prior_clips[0].item()
    assert weight and not parts[0].prior_clips.any()

    def drawn(own: np.ndarray, clips: int) -> np.ndarray:
        return (clips * own[0] + weight * known[:, 0].mean(0)) / (clips + weight)

    for speaker, own in every.items():
        np.testing.assert_allclose(everybody[speaker][0], drawn(own, 8), rtol=1e-4)
        expected = drawn(own, 8) if speaker in trained else drawn(apart[speaker], 2)
        np.testing.assert_allclose(found[speaker][0], expected, rtol=1e-4)
    again = speaker_statistics(data, front_end, extractor, enrolment_clips=2)  # as whoever enrols them
    for speaker in set(every) - set(trained):
        assert_same_answers(torch.from_numpy(again[speaker]), torch.from_numpy(found[speaker]))


def test_an_unknown_or_silent_speaker_is_refused(data, parts):
    speakers, seconds = data["speaker"][:], data["duration_seconds"][:]
    unknown = data.remove_columns("speaker").add_column("speaker", [None, *speakers[1:]])
    with pytest.raises(ValueError, match=r"1 of 48 clips have no speaker.*name another normalisation"):
        speaker_statistics(unknown, *parts)
    silent = [None if speaker == speakers[0] else one for speaker, one in zip(speakers, seconds, strict=True)]
    with pytest.raises(ValueError, match=f"1 speakers have no clip with audio, the first is '{speakers[0]}'"):
        speaker_statistics(data.remove_columns("duration_seconds").add_column("duration_seconds", silent), *parts)


def test_the_note_says_what_was_used_of_test_speakers():
    assert enrolment_note(0).startswith("transductive") and "all of their clips" in enrolment_note(0)
    assert "5 of their clips" in enrolment_note(5) and "transductive" not in enrolment_note(5)


def test_the_digest_of_clips_follows_them_and_not_their_order(data):
    rows = list(range(10))
    assert clips_digest(data, rows) == clips_digest(data, rows[::-1]) == clips_digest(data.select(rows[::-1]), rows)
    other = data.remove_columns("pcm_sha256").add_column("pcm_sha256", ["x", *data["pcm_sha256"][1:]])
    assert len({clips_digest(data, rows), clips_digest(data, rows[1:]), clips_digest(other, rows)}) == 3
