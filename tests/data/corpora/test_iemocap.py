"""IEMOCAP as people have it, on a tree of the same shape: the corpus itself may not be passed on."""

import re
from collections import Counter

import pytest
from corpora_trees import iemocap as tree

from hf_ser.data.corpora.iemocap import LABELS, list_utterances
from hf_ser.data.labels import read_label_map
from hf_ser.data.schema import REFERENCE

FIRST = "IEMOCAP_full_release/Session1"
RATINGS = f"{FIRST}/dialog/EmoEvaluation/Ses01F_impro01.txt"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tree.build(tmp_path_factory.mktemp("iemocap"))


@pytest.fixture(scope="module")
def listing(root):
    return list_utterances(root)


@pytest.fixture(scope="module")
def by_id(listing):
    return {utterance.id: utterance for utterance in listing.utterances}


@pytest.fixture
def session(tmp_path):
    """A session of one dialogue with one neutral turn, and a function that gives its ratings another text."""
    folder, turn = tmp_path / "Session1", "Ses01F_impro01_F000"
    tree.write_clip(tree.wav(folder, turn))

    def rated(text):
        tree.write(folder / "dialog/EmoEvaluation/Ses01F_impro01.txt", text)
        return list_utterances(tmp_path)

    return rated


def votes(line: str) -> str:
    return f"[6.29 - 8.23]\tSes01F_impro01_F000\tneu\t[2.5, 2.5, 2.5]\n{line}\n"


def items(listing, kind: str) -> list[str]:
    return [finding.item for finding in listing.findings if finding.kind == kind]


def test_the_usual_four_classes_have_their_counts_in_spite_of_every_irregularity(listing):
    labels = Counter(utterance.label for utterance in listing.utterances)
    assert labels == {
        "neutral": 30,
        "happy": 20,
        "excited": 20,
        "sad": 20,
        "angry": 20,
        "frustrated": 10,
        "fearful": 1,
        "disgust": 1,
        "surprised": 1,
        "other": 1,
    }
    four = read_label_map("four_class")
    mapped = Counter(four[utterance.label] for utterance in listing.utterances if utterance.label in four)
    assert mapped == {"neutral": 30, "happy": 40, "sad": 20, "angry": 20}


def test_labels_are_those_of_the_corpus(listing):
    assert listing.labels == LABELS
    assert LABELS[:5] == ("neutral", "happy", "excited", "sad", "angry")


def test_the_last_letter_says_who_speaks_and_not_the_first(by_id):
    man, woman = by_id["iemocap/Ses01F_impro01_M000"], by_id["iemocap/Ses01F_impro01_F000"]
    assert (man.speaker, man.sex) == ("iemocap/Ses01M", "male")
    assert (woman.speaker, woman.sex) == ("iemocap/Ses01F", "female")
    other = by_id["iemocap/Ses04M_script01_1b_F002"]
    assert (other.speaker, other.sex) == ("iemocap/Ses04F", "female")


def test_every_session_has_two_speakers_and_each_of_them_half_its_turns(listing):
    turns = Counter(utterance.speaker for utterance in listing.utterances if utterance.session != "Ses01")
    assert turns == {f"iemocap/Ses0{n}{letter}": 12 for n in range(2, 6) for letter in "FM"}


@pytest.mark.parametrize(
    ("turn", "kind", "script", "scene"),
    [
        ("Ses02F_impro01_F000", "impro", None, "impro01"),
        ("Ses02M_impro05a_M001", "impro", None, "impro05"),
        ("Ses02F_script01_3_M000", "script", "script01_3", "script01_3"),
        ("Ses02M_script01_1b_F000", "script", "script01_1", "script01_1"),
    ],
)
def test_takes_of_one_scene_are_one_scene(by_id, turn, kind, script, scene):
    utterance = by_id[f"iemocap/{turn}"]
    assert (utterance.session, utterance.dialogue) == ("Ses02", turn[:-5])
    assert (utterance.dialogue_kind, utterance.script, utterance.scene) == (kind, script, scene)


def test_what_a_turn_brings_along(by_id, root):
    turn = by_id["iemocap/Ses01F_impro01_F000"]
    assert turn.audio == root / FIRST / "sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav"
    assert (turn.label, turn.corpus) == ("neutral", "iemocap")
    assert (turn.valence, turn.activation, turn.dominance) == (2.5, 3.0, 3.5)
    assert (turn.transcript, turn.transcript_source) == ("Excuse me.", REFERENCE)
    assert turn.start_seconds is turn.end_seconds is None  # the file is cut already


def test_raters_share_their_vote_and_actors_have_none(by_id):
    assert by_id["iemocap/Ses01F_impro01_F001"].votes == {"angry": 2.5, "other": 0.5}
    assert by_id["iemocap/Ses01F_impro01_M001"].votes == {"happy": 2.5, "other": 0.5}
    assert by_id["iemocap/Ses01F_impro01_F013"].votes == {"other": 3.0}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("C-E2:\tNeutral state;\t()", {"neutral": 1}),
        ("C-E2: Neutral", {"neutral": 1}),
        ("C-E2:\tfear; SURPRISE ;;\t(no; Anger; [laughs])", {"fearful": 0.5, "surprised": 0.5}),
        ("C-E2:\tAnger; Anger;\t()", {"angry": 1}),
        ("C-E2:\tAnger;\t()\nC-E3:\tFrustration; Anger;\t(", {"angry": 1.5, "frustrated": 0.5}),
        ("C-E2:\tHappiness;\t()\nC-M1:\tSadness;\t()\nC-F1:\tSadness;\t()\nA-E1:\tval 3;\t()", {"happy": 1}),
        ("C-E2:\t;\t()", None),
        ("", None),
    ],
)
def test_how_raters_write(session, line, expected):
    listing = session(votes(line))
    assert listing.utterances[0].votes == expected
    assert {finding.kind for finding in listing.findings} == {"absent_session", "no_transcript"}


def test_votes_have_the_same_order_in_every_run(session):
    line = "C-E2:\tSurprise; Other; Neutral; Happiness; Frustration; Fear; Excited; Disgust; Anger;\t()"
    order = ["angry", "disgust", "excited", "fearful", "frustrated", "happy", "neutral", "other", "surprised"]
    assert list(session(votes(line)).utterances[0].votes) == order


@pytest.mark.parametrize("line", ["C-E3:\tPuzzled;\t()", "C-E3 Neu", "a line of a comment)"])
def test_a_vote_that_cannot_be_read_takes_the_votes_of_its_turn_but_not_its_label(session, line):
    listing = session(votes(f"C-E2:\tAnger;\t()\n{line}\nC-E4:\tAnger;\t()"))
    assert [(utterance.label, utterance.votes) for utterance in listing.utterances] == [("neutral", None)]
    assert items(listing, "unreadable_vote") == ["Session1/dialog/EmoEvaluation/Ses01F_impro01.txt, line 3"]


def test_a_damaged_block_is_left_out_with_its_votes_and_the_rest_is_kept(session):
    good, torn = votes("C-E2:\tAnger;\t()"), tree.block("Ses01F_impro01_F001", "sad").replace("\tsad", "")
    listing = session(torn + good + torn)
    assert [(utterance.id, utterance.votes) for utterance in listing.utterances] == [
        ("iemocap/Ses01F_impro01_F000", {"angry": 1.0})
    ]
    assert items(listing, "unreadable_block") == ["Ses01F_impro01_F001"] * 2


@pytest.mark.parametrize("header", ["[6.2 - 8.2]\tSes01F_impro01_F001\tneu\t[2.5., 2, 2]", "[6.2 - 8.2]", "Ses01F_im"])
def test_headers_that_are_damaged(session, header):
    listing = session(f"{votes('')}\n{header}\nC-E2:\tAnger;\t()\n")
    assert [(utterance.id, utterance.votes) for utterance in listing.utterances] == [
        ("iemocap/Ses01F_impro01_F000", None)
    ]
    assert [finding.skipped for finding in listing.findings if finding.kind == "unreadable_block"] == [True]


def test_everything_passed_over_is_counted(listing):
    place = "Ses01F_impro01"
    assert items(listing, "no_majority") == [f"{place}_F014"]
    assert items(listing, "missing_audio") == [f"{place}_M020"]
    assert items(listing, "doubled_label") == [f"{place}_F000"]
    assert items(listing, "unreadable_block")[:2] == [f"{place}_M021", f"{place}_M022"]
    assert re.fullmatch(rf"{RATINGS}, line \d+", items(listing, "unreadable_block")[2])
    assert items(listing, "unlabelled_audio") == [f"{FIRST}/sentences/wav/{place}/{place}_M023.wav"]
    assert items(listing, "overlap_turn") == [f"{place}_FXX0", f"{place}_MXX1"]
    assert items(listing, "unlabelled_turn") == [f"{place}_M030"]
    assert items(listing, "unnamed_line") == [f"{FIRST}/dialog/transcriptions/{place}.txt, line 10"]
    skipped = Counter(finding.kind for finding in listing.findings if finding.skipped)
    assert skipped == {
        "no_majority": 1,
        "missing_audio": 1,
        "doubled_label": 1,
        "unreadable_block": 3,
        "unlabelled_audio": 1,
        "overlap_turn": 2,
        "unlabelled_turn": 1,
        "unnamed_line": 1,
    }
    assert {finding.kind for finding in listing.findings if not finding.skipped} == {"no_transcript"}


def test_a_missing_transcript_is_unknown(listing, by_id):
    without = [utterance.id for utterance in listing.utterances if utterance.transcript is None]
    assert sorted(without) == sorted(f"iemocap/{turn}" for turn in items(listing, "no_transcript"))
    assert by_id["iemocap/Ses01F_impro01_F010"].transcript_source is None
    assert by_id["iemocap/Ses03F_impro01_F001"].transcript is None  # an empty line
    assert len(without) == 4 + 4


def test_letters_of_another_encoding_and_line_ends_of_windows(by_id):
    assert by_id["iemocap/Ses03F_impro01_F000"].transcript == "A café?"
    assert by_id["iemocap/Ses02F_impro01_M002"].votes == {"excited": 2.5, "other": 0.5}


def test_a_corpus_unpacked_twice_counts_once_and_absent_sessions_are_named(tmp_path):
    tree.write_session(tmp_path / "Session2")
    tree.write_session(tmp_path / "again/Session2")
    listing = list_utterances(tmp_path)
    assert len(listing.utterances) == 24
    assert {utterance.audio.relative_to(tmp_path).parts[0] for utterance in listing.utterances} == {"Session2"}
    assert items(listing, "doubled_session") == ["again/Session2"]
    assert items(listing, "absent_session") == ["Session1", "Session3", "Session4", "Session5"]


def test_one_session_may_be_named_itself(tmp_path):
    tree.write_session(tmp_path / "Session5")
    assert {utterance.session for utterance in list_utterances(tmp_path / "Session5").utterances} == {"Ses05"}


@pytest.mark.parametrize(("files", "found"), [((), "0 sessions"), (("dialog",), "1 sessions with 24 labelled turns")])
def test_nothing_found_says_what_was_expected(tmp_path, files, found):
    if files:
        tree.write_session(tmp_path / "whole/Session1")
        (tmp_path / "data/Session1").mkdir(parents=True)
        (tmp_path / "whole/Session1/dialog").rename(tmp_path / "data/Session1/dialog")
    text = f"{tmp_path / 'data'}: found {found}"
    with pytest.raises(FileNotFoundError, match=re.escape(text) + ".*the folder that holds Session1 to Session5"):
        list_utterances(tmp_path / "data")
