"""What every corpus owes the rest of the package. A new corpus gets a tree here, and nothing else."""

from pathlib import Path

import pytest
from corpora_trees import crema_d, emodb, iemocap, meld, msp_improv, msp_podcast, savee, tess
from corpora_trees.clips import write_clip

from hf_ser.data.corpora import CORPORA
from hf_ser.data.prepare import prepare
from hf_ser.data.schema import SEXES, Listing, features


def ravdess_tree(folder: Path) -> Path:
    for actor in ("01", "02", "24"):
        for emotion in range(1, 9):
            write_clip(folder / f"Actor_{actor}" / f"03-01-0{emotion}-01-02-01-{actor}.wav")
    (folder / "Actor_01/._03-01-01-01-02-01-01.wav").touch()
    (folder / "03-02-01-01-02-01-01.wav").touch()
    return folder


def ravdess_and_meld(folder: Path) -> Path:
    ravdess_tree(folder / "RAVDESS")
    meld.build(folder / "MELD")
    return folder


def table_file(folder: Path) -> Path:
    lines = [
        '{"path": "a.wav", "label": "sad", "speaker": "01", "sex": "f", "transcript": "oh", "votes": {"sad": 1}}',
        '{"path": "a.wav", "label": "sad", "speaker": "table/01", "sex": "?"}',
        '{"path": "b.wav", "votes": {"angry": 2, "sad": 1}}',
        '{"path": "c.wav"}',
    ]
    (folder / "clips.jsonl").write_text("\n".join(lines))
    for name in "abc":
        write_clip(folder / f"{name}.wav")
    return folder / "clips.jsonl"


DATA = {
    "ravdess": ravdess_tree,
    "iemocap": iemocap.build,
    "emodb": emodb.build,
    "crema_d": crema_d.build,
    "tess": tess.build,
    "savee": savee.build,
    "meld": meld.build,
    "msp_podcast": msp_podcast.build,
    "msp_improv": msp_improv.build,
    "paired": ravdess_and_meld,
    "table": table_file,
    "synthetic": lambda folder: None,
}
"""How to lay out a small example of each corpus: a function of an empty folder that gives the --data_dir."""


OF_CLIPS = ("unreadable", "empty", "duplicate", "conflicting_duplicate")
"""Findings of preparation that leave out a listed clip."""


@pytest.fixture(scope="module", params=CORPORA)
def corpus(request, tmp_path_factory):
    """Name, --data_dir and listing."""
    data_dir = DATA[request.param](tmp_path_factory.mktemp(request.param))
    return request.param, data_dir, CORPORA[request.param].list_utterances(data_dir)


def test_the_corpus_says_whose_it_is(corpus):
    name, *_ = corpus
    for constant in (CORPORA[name].LICENCE, CORPORA[name].SOURCE):
        assert isinstance(constant, str)
        assert constant.strip()
    assert CORPORA[name].MAY_BE_SHARED in (True, False, None)
    assert CORPORA[name].LANGUAGE is None or len(CORPORA[name].LANGUAGE) == 2
    assert hasattr(CORPORA[name], "DOWNLOADS") == hasattr(CORPORA[name], "PAGE")


def test_labels(corpus):
    *_, listing = corpus
    assert isinstance(listing, Listing)
    assert len(set(listing.labels)) == len(listing.labels) >= 2
    assert features(listing.labels)["label"].names == list(listing.labels)
    assert {u.label for u in listing.utterances} <= set(listing.labels)
    assert {label for u in listing.utterances for label in u.votes or {}} <= set(listing.labels)


def test_names_carry_the_corpus(corpus):
    name, _, listing = corpus
    ids = [u.id for u in listing.utterances]
    assert len(set(ids)) == len(ids) >= 3
    assert {u.corpus for u in listing.utterances} == {name}
    for known in [*ids, *(u.speaker for u in listing.utterances if u.speaker is not None)]:
        assert known.startswith(f"{name}/")
        assert known != f"{name}/"


def test_columns_hold_what_they_may(corpus):
    *_, listing = corpus
    for utterance in listing.utterances:
        assert utterance.sex in (*SEXES, None)
        assert utterance.audio is None or isinstance(utterance.audio, bytes) or Path(utterance.audio).is_file()
        assert (utterance.transcript is None) == (utterance.transcript_source is None)
        for column in ("speaker", "session", "sentence", "transcript", "transcript_source"):
            value = getattr(utterance, column)
            assert value is None or (isinstance(value, str) and value.strip() == value != ""), column
        assert utterance.votes is None or sum(utterance.votes.values()) > 0


def test_findings_say_what_and_where(corpus):
    *_, listing = corpus
    for finding in listing.findings:
        assert all(isinstance(text, str) and text for text in (finding.kind, finding.item, finding.detail))


def test_a_listing_comes_out_the_same_again(corpus):
    name, data_dir, listing = corpus
    assert CORPORA[name].list_utterances(data_dir) == listing


def test_it_goes_through_preparation(corpus, tmp_path):
    name, data_dir, listing = corpus
    if name == "synthetic":
        return  # whole, it is prepared by every run of the quickstart
    dataset, report = prepare(name, data_dir, tmp_path / "data")
    assert dataset.num_rows > 0
    skipped = sum(count for kind, count in report["skipped"].items() if kind in OF_CLIPS)
    assert dataset.num_rows + skipped == len(listing.utterances)
    assert dataset.features["label"].names == list(listing.labels)
