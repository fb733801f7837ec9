"""RAVDESS in practice: nested, unzipped twice, with songs, audio of videos and files of macOS."""

import re

import pytest

from hf_ser.data.corpora import ravdess
from hf_ser.data.corpora.ravdess import list_utterances
from hf_ser.data.schema import REFERENCE

NESTED = "Audio_Speech_Actors_01-24"


def listed(root) -> dict:
    """File by id."""
    return {u.id: u.audio.relative_to(root).as_posix() for u in list_utterances(root).utterances}


def found(root) -> list[tuple]:
    return sorted((f.kind, f.item, f.detail) for f in list_utterances(root).findings)


@pytest.mark.parametrize("emotion", range(1, 9))
@pytest.mark.parametrize(("actor", "sex"), [("01", "male"), ("02", "female"), ("23", "male"), ("24", "female")])
def test_everything_is_in_the_name(tree, emotion, actor, sex):
    expected = ["neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"][emotion - 1]
    for statement, text in (("01", "Kids are talking by the door"), ("02", "Dogs are sitting by the door")):
        tree(f"Actor_{actor}/03-01-0{emotion}-01-{statement}-01-{actor}.wav")
        (utterance,) = (u for u in list_utterances(tree()).utterances if u.sentence == statement)
        assert utterance.id == f"ravdess/03-01-0{emotion}-01-{statement}-01-{actor}"
        assert utterance.audio == tree() / f"Actor_{actor}/03-01-0{emotion}-01-{statement}-01-{actor}.wav"
        assert (utterance.label, utterance.sex) == (expected, sex)
        assert (utterance.corpus, utterance.speaker) == ("ravdess", f"ravdess/{actor}")
        assert (utterance.transcript, utterance.transcript_source) == (text, REFERENCE)
        assert utterance.session is utterance.votes is None


def test_labels_keep_the_order_of_the_corpus_even_where_some_are_absent(tree):
    listing = list_utterances(tree("03-01-08-01-01-01-01.wav"))
    assert listing.labels == ravdess.LABELS
    assert listing.labels[0] == "neutral"
    assert listing.findings == []


@pytest.mark.parametrize("folder", [".", "Actor_05", NESTED, f"RAVDESS/{NESTED}/Actor_05"])
def test_files_are_found_at_any_depth(tree, folder):
    assert list(listed(tree(f"{folder}/03-01-04-02-02-01-05.wav"))) == ["ravdess/03-01-04-02-02-01-05"]


def test_upper_case_endings(tree):
    root = tree("Actor_05/03-01-04-02-02-01-05.WAV", "Actor_05/03-01-04-02-02-02-05.Flac")
    assert len(listed(root)) == 2


@pytest.mark.parametrize("nested", [NESTED, "A second copy"])  # after and before Actor_01 in the alphabet
def test_a_folder_unzipped_twice_counts_once(tree, nested):
    root = tree(
        f"{nested}/Actor_01/03-01-01-01-01-01-01.wav",
        f"{nested}/Actor_01/03-01-01-01-01-02-01.wav",
        "Actor_01/03-01-01-01-01-01-01.wav",
    )
    assert listed(root) == {
        "ravdess/03-01-01-01-01-01-01": "Actor_01/03-01-01-01-01-01-01.wav",
        "ravdess/03-01-01-01-01-02-01": f"{nested}/Actor_01/03-01-01-01-01-02-01.wav",
    }
    detail = "same name as Actor_01/03-01-01-01-01-01-01.wav"
    assert found(root) == [("doubled_file", f"{nested}/Actor_01/03-01-01-01-01-01-01.wav", detail)]


def test_wav_beside_flac_counts_once(tree):
    root = tree("Actor_01/03-01-01-01-01-01-01.wav", "Actor_01/03-01-01-01-01-01-01.flac")
    assert listed(root) == {"ravdess/03-01-01-01-01-01-01": "Actor_01/03-01-01-01-01-01-01.flac"}
    assert [kind for kind, *_ in found(root)] == ["doubled_file"]


def test_song_is_passed_over(tree):
    root = tree(
        "Audio_Song_Actors_01-24/Actor_01/03-02-04-01-01-01-01.wav",
        f"{NESTED}/Actor_01/03-01-04-01-01-01-01.wav",
    )
    assert list(listed(root)) == ["ravdess/03-01-04-01-01-01-01"]
    (song,) = list_utterances(root).findings
    assert (song.kind, song.skipped) == ("song", True)
    assert song.item == "Audio_Song_Actors_01-24/Actor_01/03-02-04-01-01-01-01.wav"


@pytest.mark.parametrize("modality", ["01", "02"])
@pytest.mark.parametrize("folder", ["", "a/deeper/folder/"])
def test_an_audio_only_clip_is_preferred_to_its_video(tree, modality, folder):
    # Whichever comes first by depth or by name: the same audio must never have two ids.
    root = tree(f"{modality}-01-05-01-01-01-09.wav", f"{folder}03-01-05-01-01-01-09.wav")
    assert listed(root) == {"ravdess/03-01-05-01-01-01-09": f"{folder}03-01-05-01-01-01-09.wav"}
    detail = f"same audio as {folder}03-01-05-01-01-01-09.wav"
    assert found(root) == [("video_twin", f"{modality}-01-05-01-01-01-09.wav", detail)]


def test_audio_of_a_video_without_audio_only_clip_is_kept_once(tree):
    root = tree("01-01-05-01-01-01-09.wav", "02-01-05-01-01-01-09.wav", "03-01-05-01-01-02-09.wav")
    assert set(listed(root)) == {"ravdess/01-01-05-01-01-01-09", "ravdess/03-01-05-01-01-02-09"}
    assert [(kind, item) for kind, item, _ in found(root)] == [("video_twin", "02-01-05-01-01-01-09.wav")]


FOREIGN = (
    "._03-01-05-01-01-01-09.wav",  # AppleDouble: no audio, and the name of a clip
    "__MACOSX/Actor_09/._03-01-05-01-01-01-09.wav",
    "03-01-09-01-01-01-09.wav",  # there is no ninth emotion
    "03-01-05-01-01-01.wav",
    "03-01-05-01-01-01-09 (copy).wav",
    "x03-01-05-01-01-01-09.wav",
    "noise.flac",
)


def test_foreign_names_are_reported_and_left_out(tree):
    root = tree("Actor_09/03-01-05-01-01-01-09.wav", *FOREIGN)
    assert list(listed(root)) == ["ravdess/03-01-05-01-01-01-09"]
    detail = "file name is not that of a RAVDESS clip"
    assert found(root) == sorted(("not_ravdess", name, detail) for name in FOREIGN)
    assert all(finding.skipped for finding in list_utterances(root).findings)


def test_files_that_are_no_audio_are_not_even_mentioned(tree):
    root = tree("03-01-05-01-01-01-09.wav", "01-01-05-01-01-01-09.mp4", "README.txt")
    assert len(listed(root)) == 1
    assert found(root) == []


def test_a_folder_may_be_given_as_text(tree):
    root = tree("03-01-05-01-01-01-09.wav")
    assert list_utterances(str(root)) == list_utterances(root)


@pytest.mark.parametrize(
    ("folder", "names", "files"),
    [
        ("missing", (), 0),
        ("", (), 0),
        ("", ("README.txt", "01-01-05-01-01-01-09.mp4"), 0),
        ("", ("a.wav", "b.flac"), 2),
        ("", ("03-02-04-01-01-01-01.wav",), 1),
        ("03-01-05-01-01-01-09.wav", ("03-01-05-01-01-01-09.wav",), 0),
    ],
    ids=["missing folder", "empty folder", "no audio", "other audio", "song only", "a file"],
)
def test_nothing_found_says_what_was_expected(tree, folder, names, files):
    root = tree(*names) / folder
    text = (
        f"{root}: found {files} .wav or .flac files, none with a RAVDESS speech name. Expected files such as Actor_01/"
    )
    with pytest.raises(FileNotFoundError, match=re.escape(text) + ".*point --data_dir at the unpacked Audio_Speech"):
        list_utterances(root)
