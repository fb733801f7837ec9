"""RAVDESS's clips with MELD's sentences: the same emotion, each sentence once, and no dialogue of two actors."""

from collections import defaultdict
from pathlib import Path

import pytest
from corpora_trees import meld as tree
from corpora_trees.clips import write_clip

from hf_ser.data.corpora import meld, paired, ravdess
from hf_ser.data.prepare import prepare
from hf_ser.data.splitting import make_folds
from hf_ser.normal_form import bare_words

ACTORS = ("01", "04", "08", "12")


def both(folder: Path, dialogues: int = 40) -> Path:
    """A folder with clips of some actors, one of each emotion, and a table of short dialogues."""
    for actor in ACTORS:
        for emotion in range(1, 9):
            write_clip(folder / f"RAVDESS/Actor_{actor}/03-01-0{emotion}-01-02-01-{actor}.wav")
    rows = [
        tree.row(f"Turn {turn} of {dialogue}.", "Ross", tree.EMOTIONS[(dialogue + turn) % 7], dialogue, turn)
        for dialogue in range(dialogues)
        for turn in range(3)
    ]
    said_twice = [tree.row("Oh my God!", "Ross", "fear", dialogue, 3) for dialogue in range(dialogues)]
    tree.write_table(folder / "MELD/train_sent_emo.csv", rows + said_twice)
    return folder


@pytest.fixture(scope="module")
def listing(tmp_path_factory):
    return paired.list_utterances(both(tmp_path_factory.mktemp("both")))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return both(tmp_path_factory.mktemp("again"))


def test_a_clip_has_a_sentence_of_its_emotion(listing, root):
    labels = {one.id.partition("/")[2]: one.label for one in ravdess.list_utterances(root).utterances}
    said = {one.transcript: one.label for one in meld.list_utterances(root).utterances}
    assert len(listing.utterances) == 8 * len(ACTORS)
    for one in listing.utterances:
        heard = labels[one.id.partition("/")[2]]
        assert one.label == said[one.transcript] == ("neutral" if heard == "calm" else heard)
        assert one.transcript_source == "meld"


def test_no_two_actors_share_a_sentence_or_a_dialogue(listing):
    assert len({bare_words(one.transcript) for one in listing.utterances}) == len(listing.utterances)
    actors = defaultdict(set)
    for one in listing.utterances:
        actors[one.dialogue].add(one.speaker)
    assert all(len(found) == 1 for found in actors.values())


def test_the_pairs_do_not_depend_on_where_the_folder_is(listing, root):
    again = {one.id: one.transcript for one in paired.list_utterances(root).utterances}
    assert again == {one.id: one.transcript for one in listing.utterances}


def test_clips_for_which_no_sentence_is_left_are_counted(tmp_path):
    listing = paired.list_utterances(both(tmp_path, dialogues=8))
    (finding,) = [one for one in listing.findings if one.kind == "no_sentence"]
    assert 0 < len(listing.utterances) == 8 * len(ACTORS) - finding.count
    assert finding.skipped


def test_it_takes_published_folds_of_actors(root, tmp_path):
    dataset, report = prepare("paired", root, tmp_path / "data")
    assert report["n_found"] == dataset.num_rows == 8 * len(ACTORS)
    (fold,) = make_folds(dataset, "emobox", "1")
    assert set(dataset.select(fold.test)["speaker"]) == {"paired/01"}
    texts = [set(dataset.select(part)["dialogue"]) for part in (fold.train, fold.validation, fold.test)]
    assert not texts[0] & texts[1] and not texts[0] & texts[2] and not texts[1] & texts[2]


def test_tables_alone_are_refused(tmp_path):
    tree.write_table(tmp_path / "train_sent_emo.csv", [tree.row("Oh.", "Ross", "fear", 0, 0)])
    with pytest.raises(FileNotFoundError, match="RAVDESS"):
        paired.list_utterances(tmp_path)
