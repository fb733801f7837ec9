"""MSP-Podcast and MSP-Improv, in trees of their published layout."""

from collections import Counter

import pytest
from corpora_trees import msp_improv as improv_tree
from corpora_trees import msp_podcast as podcast_tree
from corpora_trees.clips import write_clip

from hf_ser.data.corpora import msp_improv, msp_podcast


@pytest.fixture(scope="module")
def podcast(tmp_path_factory):
    return msp_podcast.list_utterances(podcast_tree.build(tmp_path_factory.mktemp("msp_podcast")))


@pytest.fixture(scope="module")
def improv(tmp_path_factory):
    return msp_improv.list_utterances(improv_tree.build(tmp_path_factory.mktemp("msp_improv")))


def by_id(listing, name: str):
    return next(one for one in listing.utterances if one.id.endswith(name))


def test_a_turn_of_a_podcast(podcast):
    turn = by_id(podcast, "MSP-PODCAST_0001_0001")
    assert (turn.label, turn.speaker, turn.sex, turn.session) == (
        "angry",
        "msp_podcast/41",
        "male",
        "MSP-PODCAST_0001",
    )
    assert (turn.valence, turn.activation, turn.dominance) == (2.25, 5.85, 5.65)
    assert (turn.transcript, turn.votes) == ("well angry then", {"angry": 2.0, "other": 1.0})
    assert msp_podcast.DIMENSION_SCALE == (1.0, 7.0)


def test_parts_of_the_podcasts(podcast):
    parts = Counter(one.split for one in podcast.utterances)
    assert parts == {"train": 32, "validation": 16, "test": 17}


def test_an_unknown_speaker_has_no_name(podcast):
    turn = by_id(podcast, "MSP-PODCAST_0099_0001")
    assert (turn.speaker, turn.sex, turn.label, turn.dominance, turn.split) == (None, None, "contempt", None, "test")


def test_what_is_left_out_of_the_podcasts(podcast):
    found = {one.kind: one.item for one in podcast.findings if one.skipped}
    assert found == {
        "no_majority": "msp_podcast/MSP-PODCAST_0001_0009",
        "missing_audio": "msp_podcast/MSP-PODCAST_0001_0010",
        "no_label": "msp_podcast/MSP-PODCAST_0001_0011",
        "doubled_label": "msp_podcast/MSP-PODCAST_0001_0001",
        "unlabelled_audio": "labels_consensus.csv",
    }


def test_votes_of_an_older_release(tmp_path):
    listing = msp_podcast.list_utterances(podcast_tree.build_old(tmp_path))
    assert by_id(listing, "0001_0002").votes == {"happy": 1.0, "surprised": 1.0}


def test_names_without_an_ending_are_the_same_turns(tmp_path, podcast):
    tables = podcast_tree.build(tmp_path) / "Labels"
    for table in tables.glob("*.csv"):
        table.write_text(table.read_text().replace(".wav", ""))
    listing = msp_podcast.list_utterances(tmp_path)
    assert [(one.id, one.votes) for one in listing.utterances] == [(one.id, one.votes) for one in podcast.utterances]
    assert listing.findings == podcast.findings


def test_votes_of_an_older_release_without_an_ending(tmp_path):
    table = podcast_tree.build_old(tmp_path) / "Labels/labels.txt"
    before = msp_podcast.read_votes({"labels.txt": table})
    table.write_text(table.read_text().replace(".wav", ""))
    assert before and msp_podcast.read_votes({"labels.txt": table}) == before


def test_a_podcast_folder_without_its_table_is_refused(tmp_path):
    write_clip(tmp_path / "Audios/MSP-PODCAST_0001_0001.wav")
    with pytest.raises(FileNotFoundError, match=r"found no labels_consensus.csv. Expected Labels/labels_consensus.csv"):
        msp_podcast.list_utterances(tmp_path)
    (tmp_path / "labels_consensus.csv").write_text("FileName,EmoClass\nMSP-PODCAST_0001_0001.wav,A\n")
    with pytest.raises(ValueError, match="found no column EmoAct, EmoVal, EmoDom, SpkrID, Gender, Split_Set"):
        msp_podcast.list_utterances(tmp_path)


def test_a_turn_of_an_improvisation(improv):
    turn = by_id(improv, "MSP-IMPROV-S01A-F01-R-FF01")
    assert (turn.label, turn.speaker, turn.sex, turn.session) == ("angry", "msp_improv/F01", "female", "session1")
    assert (turn.dialogue_kind, turn.scene, turn.sentence) == ("script", "S01A", "S01")
    assert (turn.transcript, turn.votes) == ("How can I not.", {"angry": 2.0, "other": 1.0})
    assert (turn.valence, turn.activation, turn.dominance) == (2.0, 4.0, 4.0)  # the activation turned round
    other = by_id(improv, "S01A-F01-S-FM01")
    assert (other.dialogue_kind, other.sentence, other.transcript) == ("impro", None, None)


def test_activation_that_runs_down_is_turned_round(improv):
    (found,) = (one for one in improv.findings if one.kind == "reversed_activation")
    assert "read as 6 minus the value" in found.detail


def rated(code: str, activations) -> list:
    return [msp_improv._Rating(code, one, 2.0, 4.0) for one in activations]


def test_the_direction_of_activation_is_not_guessed_of_few_turns():
    angry, sad = rated("A", [4.0, 4.5] * 5), rated("S", [2.0, 2.5] * 5)
    assert (
        msp_improv.is_activation_reversed(angry + sad) is False
        and msp_improv.is_activation_reversed(rated("A", [1.0] * 10) + sad) is True
    )
    for few in (angry, angry + sad[:9], angry[:1] + sad[:1], rated("A", [2.2, 2.4] * 5) + sad, rated("N", [2.0])):
        assert msp_improv.is_activation_reversed(few) is None


def test_activation_of_unknown_direction_is_left_out(tmp_path):
    table = improv_tree.build(tmp_path) / "Evalution.txt"
    names = [(name, code) for name, code in improv_tree.names() if code != "S"]
    table.write_text("".join(improv_tree.block(*one, improv_tree.MEANS[one[1]]) for one in names))
    listing = msp_improv.list_utterances(tmp_path)
    assert len(listing.utterances) == 72 and {one.activation for one in listing.utterances} == {None}
    assert None not in {one.valence for one in listing.utterances}
    (found,) = (one for one in listing.findings if one.kind == "activation_left_out")
    assert found.item == "Evalution.txt" and "found 24 angry and 0 sad ones" in found.detail and not found.skipped


def test_what_is_left_out_of_the_improvisations(improv):
    assert len(improv.utterances) == 97
    assert len({one.speaker for one in improv.utterances}) == 12
    assert by_id(improv, "S03N-F01-P-FM02").dominance is None
    found = {one.kind: one.item for one in improv.findings if one.skipped}
    assert found == {
        "no_majority": "MSP-IMPROV-S03N-F01-P-FM01",
        "missing_audio": "MSP-IMPROV-S03N-M01-T-MF01",
        "unlabelled_audio": "MSP-IMPROV-S04H-F02-P-FM03",
        "unreadable_block": "Evalution.txt, line 496",
    }
