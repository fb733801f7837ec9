"""TESS as people have it: everything twice, folders in any spelling, one speaker's code misspelt."""

import re

import pytest
from corpora_trees import tess as tree

from hf_ser.data.audio import read_clip
from hf_ser.data.corpora import tess
from hf_ser.data.corpora.tess import list_utterances
from hf_ser.data.labels import EMOTIONS
from hf_ser.data.schema import REFERENCE


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize(("speaker", "age"), [("OAF", 64), ("YAF", 26)])
@pytest.mark.parametrize(
    ("code", "label"),
    [
        ("angry", "angry"),
        ("disgust", "disgust"),
        ("fear", "fearful"),
        ("happy", "happy"),
        ("neutral", "neutral"),
        ("ps", "surprised"),
        ("sad", "sad"),
    ],
)
def test_everything_is_in_the_name(tmp_path, speaker, age, code, label):
    (utterance,) = list_utterances(touch(tmp_path, f"folder/{speaker}_back_{code}.wav")).utterances
    assert utterance.id == f"tess/{speaker}_back_{code}"
    assert (utterance.label, utterance.sex, utterance.age) == (label, "female", age)
    assert (utterance.corpus, utterance.speaker, utterance.sentence) == ("tess", f"tess/{speaker}", "back")
    assert (utterance.transcript, utterance.transcript_source) == ("Say the word back", REFERENCE)


def test_labels_are_of_the_common_vocabulary():
    assert set(tess.EMOTION_CODES.values()) == set(tess.LABELS) <= set(EMOTIONS)


def test_the_archive_that_holds_everything_twice(tmp_path):
    root = tree.build(tmp_path) / tree.ARCHIVE
    listing = list_utterances(tmp_path)
    assert {u.audio.relative_to(root).as_posix() for u in listing.utterances} == {*tree.CLIPS, tree.AIFF}
    assert {u.speaker for u in listing.utterances} == {"tess/OAF", "tess/YAF"}
    doubled = {f.item: f.detail for f in listing.findings if f.kind == "doubled_file"}
    assert doubled == {
        f"{tree.ARCHIVE}/{tree.ARCHIVE}/{name}": f"same clip as {tree.ARCHIVE}/{name}" for name in tree.CLIPS
    }
    rest = [(f.kind, f.item.split("/")[-1], f.skipped) for f in listing.findings if f.kind != "doubled_file"]
    assert sorted(rest) == [("misnamed", "OA_bite_neutral.wav", False), ("not_tess", "._OAF_back_angry.wav", True)]


def test_the_misspelt_speaker_is_no_third_one(tmp_path):
    listing = list_utterances(touch(tmp_path, "OAF_neutral/OA_bite_neutral.wav"))
    (utterance,) = listing.utterances
    assert (utterance.id, utterance.speaker, utterance.age) == ("tess/OAF_bite_neutral", "tess/OAF", 64)
    assert [(f.kind, f.detail) for f in listing.findings] == [("misnamed", "read as OAF_bite_neutral")]


def test_the_misspelt_clip_and_its_corrected_copy_are_one(tmp_path):
    listing = list_utterances(touch(tmp_path, "OAF_bite_neutral.wav", "OA_bite_neutral.wav"))
    assert [u.id for u in listing.utterances] == ["tess/OAF_bite_neutral"]
    assert [f.kind for f in listing.findings if f.skipped] == ["doubled_file"]


def test_capitals_make_no_other_clip(tmp_path):
    listing = list_utterances(touch(tmp_path, "a/OAF_back_angry.wav", "b/oaf_Back_Angry.WAV"))
    assert [u.id for u in listing.utterances] == ["tess/OAF_back_angry"]
    assert [f.kind for f in listing.findings] == ["doubled_file"]


def test_an_aiff_named_wav_is_read(tmp_path):
    utterances = list_utterances(tree.build(tmp_path)).utterances
    (odd,) = (u for u in utterances if u.id == "tess/YAF_neat_fear")
    assert odd.audio.read_bytes()[:4] == b"FORM"
    assert read_clip(odd.audio).source_rate == 96_000


@pytest.mark.parametrize("name", ["OAF_angry", "MAF_back_angry", "OAF_back_calm", "OAF_back_angry (1)", "XOAF_back_ps"])
def test_foreign_names_are_reported_and_left_out(tmp_path, name):
    listing = list_utterances(touch(tmp_path, "OAF_back_angry.wav", f"{name}.wav"))
    assert len(listing.utterances) == 1
    assert [(f.kind, f.item, f.skipped) for f in listing.findings] == [("not_tess", f"{name}.wav", True)]


@pytest.mark.parametrize(("folder", "files"), [("missing", 0), ("", 1)])
def test_nothing_found_says_what_was_expected(tmp_path, folder, files):
    root = touch(tmp_path, "speech.wav") / folder
    text = (
        f"{root}: found {files} .wav or .flac files, none with the name of a clip of tess. Expected files such as OAF"
    )
    with pytest.raises(FileNotFoundError, match=re.escape(text)):
        list_utterances(root)
