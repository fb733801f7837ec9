"""SAVEE in its two layouts: the speaker as a folder, and the speaker in the file name."""

import re

import pytest
from corpora_trees import savee as tree

from hf_ser.data.corpora import savee
from hf_ser.data.corpora.savee import list_utterances
from hf_ser.data.labels import EMOTIONS


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize("speaker", ["DC", "JE", "JK", "KL"])
@pytest.mark.parametrize("layout", ["AudioData/{}/{}.wav", "ALL/{}_{}.wav", "{}_{}.WAV"])
@pytest.mark.parametrize(
    ("code", "label"),
    [
        ("a01", "angry"),
        ("d15", "disgust"),
        ("f09", "fearful"),
        ("h10", "happy"),
        ("n30", "neutral"),
        ("sa03", "sad"),
        ("su12", "surprised"),
    ],
)
def test_speaker_and_emotion_in_both_layouts(tmp_path, speaker, layout, code, label):
    file = layout.format(speaker, code)
    (utterance,) = list_utterances(touch(tmp_path, file)).utterances
    assert (utterance.id, utterance.audio) == (f"savee/{speaker}_{code}", tmp_path / file)
    assert (utterance.label, utterance.sex) == (label, "male")
    assert (utterance.corpus, utterance.speaker) == ("savee", f"savee/{speaker}")
    assert utterance.transcript is utterance.transcript_source is utterance.sentence is None


def test_labels_are_of_the_common_vocabulary():
    assert set(savee.EMOTION_CODES.values()) == set(savee.LABELS) <= set(EMOTIONS)


def test_the_archive_beside_its_flat_copy(tmp_path):
    listing = list_utterances(tree.build(tmp_path))
    assert {u.id for u in listing.utterances} == {f"savee/{name.replace('/', '_')}" for name in tree.CLIPS}
    foreign = "file name is not that of a clip of this corpus"
    assert sorted((f.kind, f.item, f.detail) for f in listing.findings) == [
        ("doubled_file", "AudioData/DC/a01.wav", "same clip as ALL/DC_a01.wav"),
        ("not_savee", "AudioData/DC/._a01.wav", foreign),
        ("not_savee", "AudioData/DC/a16.wav", foreign),
        ("not_savee", "AudioData/Samples/a01.wav", foreign),
    ]


def test_the_folder_of_one_speaker_may_be_given_even_from_within(tmp_path, monkeypatch):
    touch(tmp_path, "DC/a01.wav")
    assert [u.id for u in list_utterances(tmp_path / "DC").utterances] == ["savee/DC_a01"]
    monkeypatch.chdir(tmp_path / "DC")
    assert [u.id for u in list_utterances(".").utterances] == ["savee/DC_a01"]


@pytest.mark.parametrize(
    "name", ["DC_a00", "DC_a16", "DC_n31", "DC_x01", "DC_a1", "DC_su16", "AB_a01", "a01", "DC_s01"]
)
def test_foreign_names_are_reported_and_left_out(tmp_path, name):
    listing = list_utterances(touch(tmp_path, "DC_a01.wav", f"{name}.wav"))
    assert [u.id for u in listing.utterances] == ["savee/DC_a01"]
    assert [(f.kind, f.item, f.skipped) for f in listing.findings] == [("not_savee", f"{name}.wav", True)]


@pytest.mark.parametrize(("folder", "files"), [("missing", 0), ("", 1)])
def test_nothing_found_says_what_was_expected(tmp_path, folder, files):
    root = touch(tmp_path, "speech.wav") / folder
    text = f"{root}: found {files} .wav or .flac files, none with the name of a clip of savee. Expected"
    with pytest.raises(FileNotFoundError, match=re.escape(text)):
        list_utterances(root)
