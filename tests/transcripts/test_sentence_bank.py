"""The packaged sentences have their form, a user's file replaces or joins them, and a wrong one is refused."""

import pytest

from hf_ser.data.labels import EMOTIONS
from hf_ser.transcripts.sentence_bank import DEFAULT, bank_digest, read_bank, sentence_bank


def test_the_packaged_bank_has_different_sentences_for_every_emotion_and_names_none():
    bank = read_bank(DEFAULT)
    assert tuple(bank) == EMOTIONS
    assert all(len(sentences) >= 8 for sentences in bank.values())
    said = [sentence.casefold() for sentences in bank.values() for sentence in sentences]
    assert len(set(said)) == len(said)
    assert [one for one in said if any(emotion in one for emotion in set(EMOTIONS) - {"other"})] == []


def test_a_file_replaces_the_packaged_bank_or_joins_it(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("happy:\n  - Hurray!\n  - She said yes!\nyes: [Yes, no]\n")
    assert sentence_bank(str(file), ["yes", "happy"]) == {"yes": ["Yes", "no"], "happy": ["Hurray!", "She said yes!"]}
    joined = sentence_bank(f"default,{file}", ["happy", "yes"])
    assert joined["happy"] == [*read_bank(DEFAULT)["happy"], "Hurray!"], "a sentence of both is there once"
    assert joined["yes"] == ["Yes", "no"]
    assert bank_digest(joined) != bank_digest(sentence_bank("default", ["happy", "sad"]))


def test_classes_without_sentences_are_named_with_the_remedy():
    with pytest.raises(ValueError, match=r"no sentences for fine, upset,.*--sentence_bank default,FILE\.yaml"):
        sentence_bank("default", ["happy", "fine", "upset"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("happy: Hurray!", r"found 'Hurray!' under happy, expected a list"),
        ("happy: []", r"found \[\] under happy"),
        ("happy: [Hurray!, '']", r"found '' under happy"),
        ("happy:\n  - She said: yes!", r"found {'She said': 'yes!'} under happy.*in quotes"),
        ("happy: [a]\nsad: [b]\nhappy: [c]", r"not readable as YAML \(line 3: found 'happy' again, which is in line 1"),
        ("- happy", "found list, expected a list of sentences under each class"),
        ("happy: [", "not readable as YAML"),
        ("", "found NoneType, expected"),
    ],
)
def test_a_file_of_another_form_is_named(tmp_path, text, said):
    (tmp_path / "b.yaml").write_text(text)
    with pytest.raises(ValueError, match=rf"b\.yaml: {said}"):
        read_bank(str(tmp_path / "b.yaml"))


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"'defualt': no such sentence bank. Expected 'default', a YAML file"):
        sentence_bank("defualt", ["happy", "sad"])
