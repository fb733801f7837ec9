"""EmoDB: everything is in the file name; other and doubled files are reported."""

import re

import pytest
from corpora_trees import emodb as tree

from hf_ser.data.corpora import emodb
from hf_ser.data.corpora.emodb import list_utterances
from hf_ser.data.labels import EMOTIONS
from hf_ser.data.schema import REFERENCE


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize(
    ("name", "label", "sex", "age", "text"),
    [
        ("03a01Fa", "happy", "male", 31, "Der Lappen liegt auf dem Eisschrank."),
        ("08a02Wb", "angry", "female", 34, "Das will sie am Mittwoch abgeben."),
        ("09a04La", "bored", "female", 21, "Heute abend könnte ich es ihm sagen."),
        ("10a05Eb", "disgust", "male", 32, "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück."),
        ("11a07Ac", "fearful", "male", 26, "In sieben Stunden wird es soweit sein."),
        ("12b01Nb", "neutral", "male", 30, "Was sind denn das für Tüten, die da unter dem Tisch stehen?"),
        ("13b02Td", "sad", "female", 32, "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter."),
        ("14b03Lb", "bored", "female", 35, "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe"),
        ("15b09Wa", "angry", "male", 25, "Ich will das eben wegbringen und dann mit Karl was trinken gehen."),
        ("16b10F", "happy", "female", 31, "Die wird auf dem Platz sein, wo wir sie immer hinlegen."),
    ],
)
def test_everything_is_in_the_name(tmp_path, name, label, sex, age, text):
    (utterance,) = list_utterances(touch(tmp_path, f"wav/{name}.wav")).utterances
    assert utterance.id == f"emodb/{name}"
    assert utterance.audio == tmp_path / f"wav/{name}.wav"
    assert (utterance.label, utterance.sex, utterance.age) == (label, sex, age)
    assert (utterance.corpus, utterance.speaker, utterance.sentence) == ("emodb", f"emodb/{name[:2]}", name[2:5])
    assert utterance.transcript.startswith(text)
    assert utterance.transcript_source == REFERENCE


def test_the_tables_are_those_of_the_paper():
    assert [sex for sex, _ in emodb.SPEAKERS.values()].count("female") == len(emodb.SPEAKERS) / 2 == 5
    assert len(emodb.SENTENCES) == 10
    assert set(emodb.LETTERS.values()) == set(emodb.LABELS) <= set(EMOTIONS)


def test_the_archive_as_it_unpacks(tmp_path):
    listing = list_utterances(tree.build(tmp_path))
    assert listing.labels == emodb.LABELS
    assert sorted(u.id for u in listing.utterances) == sorted(f"emodb/{name}" for name in tree.CLIPS)
    assert {u.audio.parent for u in listing.utterances} == {tmp_path / "wav"}
    foreign = "file name is not that of a clip of this corpus"
    assert sorted((f.kind, f.item, f.detail) for f in listing.findings) == [
        ("doubled_file", "copy/wav/03a01Fa.wav", "same clip as wav/03a01Fa.wav"),
        ("not_emodb", "wav/._03a01Fa.wav", foreign),
        ("not_emodb", "wav/03a03Fa.wav", foreign),
    ]
    assert all(finding.skipped for finding in listing.findings)


@pytest.mark.parametrize("name", ["01a01Fa", "03a03Fa", "03a01Xa", "03a01fa", "03a01Faa", "x03a01Fa", "03a01Fa (1)"])
def test_names_that_are_nearly_right_are_not_guessed_at(tmp_path, name):
    listing = list_utterances(touch(tmp_path, "03a01Fa.wav", f"{name}.wav"))
    assert [u.id for u in listing.utterances] == ["emodb/03a01Fa"]
    assert [(f.kind, f.item) for f in listing.findings] == [("not_emodb", f"{name}.wav")]


def test_a_copy_with_audio_is_preferred_to_an_empty_one(tmp_path):
    touch(tmp_path, "03a01Fa.wav", "deeper/03a01Fa.flac")
    (tmp_path / "deeper/03a01Fa.flac").write_bytes(b"audio" * 100)
    (utterance,) = list_utterances(tmp_path).utterances
    assert utterance.audio == tmp_path / "deeper/03a01Fa.flac"


@pytest.mark.parametrize(("folder", "files"), [("missing", 0), ("", 1)])
def test_nothing_found_says_what_was_expected(tmp_path, folder, files):
    root = touch(tmp_path, "speech.wav") / folder
    text = f"{root}: found {files} .wav or .flac files, none with the name of a clip of emodb. Expected"
    with pytest.raises(FileNotFoundError, match=re.escape(text)):
        list_utterances(root)
