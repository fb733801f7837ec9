"""MELD with and without audio, in parts that number their dialogues alike."""

import re
from collections import Counter

import pytest
from corpora_trees import meld as tree
from shared_data import SHARED

from hf_ser.data.corpora.meld import LABELS, list_utterances
from hf_ser.data.schema import REFERENCE

REAL = SHARED / "data" / "meld"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tree.build(tmp_path_factory.mktemp("meld"))


@pytest.fixture(scope="module")
def listing(root):
    return list_utterances(root)


@pytest.fixture(scope="module")
def by_id(listing):
    return {utterance.id: utterance for utterance in listing.utterances}


@pytest.fixture
def table(tmp_path):
    """A function that writes a train table, or that of another part, and lists it."""

    def make(*rows, part="train", encoding="utf-8"):
        tree.write_table(tmp_path / f"{part}_sent_emo.csv", list(rows), encoding)
        return list_utterances(tmp_path)

    return make


def items(listing, kind: str) -> list[str]:
    return [finding.item for finding in listing.findings if finding.kind == kind]


def test_what_a_row_brings_along(by_id, root):
    utterance = by_id["meld/dev_dia1_utt3"]
    assert utterance.audio == root / "MELD.Raw/dev_splits_complete/dia1_utt3.wav"
    assert (utterance.label, utterance.corpus, utterance.split) == ("angry", "meld", "validation")
    assert (utterance.speaker, utterance.sex) == ("meld/Mr. Heckles", None)
    assert (utterance.session, utterance.dialogue) == ("s08e21", "dev_dia1")
    assert (utterance.transcript, utterance.transcript_source) == ("This is anger, Mr. Heckles.", REFERENCE)
    assert utterance.votes is utterance.scene is utterance.script is None


@pytest.mark.parametrize("word", tree.EMOTIONS)
def test_emotions_have_our_names(table, word):
    ours = {"joy": "happy", "sadness": "sad", "anger": "angry", "fear": "fearful", "surprise": "surprised"}
    listing = table(tree.row("Oh.", "Ross", word, 0, 0), tree.row("Oh.", "Ross", word.upper(), 0, 1))
    assert {utterance.label for utterance in listing.utterances} == {ours.get(word, word)} <= set(LABELS)


def test_every_part_is_there_and_its_clips_are_its_own(listing, root):
    assert Counter(utterance.split for utterance in listing.utterances) == {"train": 25, "validation": 14, "test": 14}
    for utterance in listing.utterances:
        part, _, name = utterance.id.removeprefix("meld/").partition("_")
        if utterance.audio:
            assert utterance.audio == root / "MELD.Raw" / tree.FOLDERS[part] / f"{name}.wav"
    assert len({utterance.audio for utterance in listing.utterances if utterance.audio}) == 53 - 2


def test_rows_that_cannot_be_used_are_left_out_and_counted(listing):
    assert items(listing, "several_speakers") == ["train_dia9_utt0", "train_dia9_utt1"]
    assert items(listing, "unknown_emotion") == ["train_dia9_utt3"]
    assert items(listing, "doubled_row") == ["train_dia9_utt4"]
    assert items(listing, "unreadable_row") == ["train_sent_emo.csv, line 29"]
    assert items(listing, "not_meld") == ["MELD.Raw/train_splits/final_videos_testdia9_utt7.wav"]
    assert items(listing, "unplaced_audio") == ["MELD.Raw/elsewhere/dia9_utt7.wav"]
    assert items(listing, "unlabelled_audio") == [f"MELD.Raw/train_splits/dia9_utt{turn}.wav" for turn in (20, 5)]
    assert Counter(finding.kind for finding in listing.findings if finding.skipped) == {
        "several_speakers": 2,
        "unknown_emotion": 1,
        "doubled_row": 1,
        "unreadable_row": 1,
        "not_meld": 1,
        "unplaced_audio": 1,
        "unlabelled_audio": 2,
    }
    assert Counter(finding.kind for finding in listing.findings if not finding.skipped) == {
        "same_voice": 2,
        "missing_audio": 1,
        "film_only": 1,
    }


def test_one_voice_is_one_speaker(by_id):
    assert by_id["meld/train_dia9_utt2"].speaker == by_id["meld/test_dia1_utt0"].speaker == "meld/Phoebe"
    assert by_id["meld/train_dia9_utt4"].speaker == "meld/Rachel"


@pytest.mark.parametrize("speaker", ["All", "Both", "Monica and Ross", "The Guys"])
def test_several_people_at_once_are_no_speaker(table, speaker):
    listing = table(tree.row("Oh.", speaker, "joy", 0, 0), tree.row("Oh.", "Allesandro", "joy", 0, 1))
    assert [utterance.speaker for utterance in listing.utterances] == ["meld/Allesandro"]


def test_rows_without_audio_have_text_only(by_id, listing):
    assert by_id["meld/train_dia9_utt6"].audio is by_id["meld/train_dia9_utt7"].audio is None
    assert items(listing, "missing_audio") == ["train_dia9_utt7"]
    (film,) = (finding for finding in listing.findings if finding.kind == "film_only")
    assert film.item == "1 rows"
    assert "ffmpeg -i" in film.detail


def test_films_alone_give_one_finding_however_many_they_are(table, tmp_path):
    rows = [tree.row("Oh.", "Ross", "joy", 0, turn) for turn in range(3)]
    for turn in range(3):
        film = tree.clip(tmp_path, "train", 0, turn, ".mp4")
        film.parent.mkdir(parents=True, exist_ok=True)
        film.touch()
    listing = table(*rows)
    assert [utterance.audio for utterance in listing.utterances] == [None] * 3
    assert [finding.kind for finding in listing.findings] == ["absent_table", "absent_table", "film_only"]
    assert items(listing, "film_only") == ["3 rows"]


def test_tables_alone_have_text_only(table):
    listing = table(tree.row("Oh.", "Ross", "joy", 0, 0))
    assert [utterance.audio for utterance in listing.utterances] == [None]
    assert items(listing, "absent_table") == ["dev_sent_emo.csv", "test_sent_emo.csv"]
    assert items(listing, "words_only") == ["all 1 rows"]


@pytest.mark.parametrize("name", ["test", "wav/Test_16k", "MELD/output_repeated_splits_test/wavs"])
def test_the_nearest_folder_that_names_a_part_counts(table, tmp_path, name):
    table(tree.row("Oh.", "Ross", "joy", 0, 0))
    file = tree.write_clip(tmp_path / "train" / name / "dia0_utt0.wav")
    listing = table(tree.row("Ah.", "Ross", "joy", 0, 0), part="test")
    assert {utterance.id: utterance.audio for utterance in listing.utterances} == {
        "meld/train_dia0_utt0": None,
        "meld/test_dia0_utt0": file,
    }


def test_with_one_table_clips_may_lie_anywhere(table, tmp_path):
    file = tree.write_clip(tmp_path / "latest/dia0_utt0.flac")
    assert table(tree.row("Oh.", "Ross", "joy", 0, 0), part="dev").utterances[0].audio == file


def test_what_is_there_twice_counts_once(table, tmp_path):
    file = tree.write_clip(tmp_path / "train/dia0_utt0.wav")
    tree.write_clip(tmp_path / "copy/train/dia0_utt0.wav")
    tree.write_table(tmp_path / "copy/train_sent_emo.csv", [tree.row("Ah.", "Ross", "joy", 0, 0)])
    listing = table(tree.row("Oh.", "Ross", "joy", 0, 0))
    assert [(utterance.transcript, utterance.audio) for utterance in listing.utterances] == [("Oh.", file)]
    assert items(listing, "doubled_file") == ["copy/train_sent_emo.csv", "copy/train/dia0_utt0.wav"]


def test_a_turn_in_two_dialogues_is_reported(table):
    turn = tree.row("Noo.", "Rachel", "sadness", 3, 5)
    again = [*turn[:3], "disgust", turn[4], "6", "0", *turn[7:]]
    listing = table(turn, again, tree.row("Noo.", "Rachel", "sadness", 3, 6))
    assert len(listing.utterances) == 3
    (finding,) = (finding for finding in listing.findings if finding.kind == "repeated_turn")
    assert (finding.item, finding.skipped) == ("train_dia6_utt0", False)
    assert finding.detail == "the same turn as train_dia3_utt5; labels disgust and sad"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_quotes_in_every_encoding(table, encoding):
    listing = table(tree.row("He’s  “lost” it…", "Richard’s Date", "joy", 0, 0), encoding=encoding)
    assert [(utterance.transcript, utterance.speaker) for utterance in listing.utterances] == [
        ("He’s “lost” it…", "meld/Richard’s Date")
    ]


def test_quotes_stored_as_control_characters(by_id):
    assert by_id["meld/train_dia9_utt2"].transcript == "No I’m not…"


@pytest.mark.parametrize("column", range(len(tree.HEADER)))
def test_an_empty_cell_counts_where_it_is_needed(table, column):
    row = tree.row("Oh.", "Ross", "joy", 0, 0)
    row[column] = " "
    listing = table(row, tree.row("Ah.", "Ross", "joy", 0, 1))
    needed = tree.HEADER[column] not in ("Sr No.", "Sentiment", "StartTime", "EndTime")
    assert items(listing, "unreadable_row") == ["train_sent_emo.csv, line 2"] * needed
    assert len(listing.utterances) == 2 - needed


def test_no_table_says_what_was_expected(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        text = re.escape(f"{folder}: found no train_sent_emo.csv, dev")
        with pytest.raises(FileNotFoundError, match=text + ".*point --data_dir"):
            list_utterances(folder)


def test_another_table_says_what_is_lacking(tmp_path):
    (tmp_path / "dev_sent_emo.csv").write_text("Utterance;Speaker\nOh.;Ross\n")
    with pytest.raises(ValueError, match=r"found columns Utterance, Speaker\. Expected also Emotion, Dialogue_ID"):
        list_utterances(tmp_path)


def test_a_table_without_a_row_that_can_be_used_says_why(table):
    with pytest.raises(ValueError, match=r"none of the 1 rows.*found 'bored', expected one of neutral, joy"):
        table(tree.row("Oh.", "Ross", "bored", 0, 0))


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason=f"no MELD under {SHARED}: name its folder in HF_SER_SHARED")
def test_the_published_tables():
    listing = list_utterances(REAL)
    several = Counter(item.split("_")[0] for item in items(listing, "several_speakers"))
    kept = Counter(utterance.id.removeprefix("meld/").split("_")[0] for utterance in listing.utterances)
    assert several == {"train": 44, "dev": 14, "test": 11}
    assert kept + several == {"train": 9_989, "dev": 1_109, "test": 2_610}
    assert Counter(finding.kind for finding in listing.findings) == {
        "several_speakers": 69,
        "same_voice": 31,
        "repeated_turn": 11,
        "words_only": 1,
    }
    test = Counter(utterance.label for utterance in listing.utterances if utterance.split == "test")
    assert test == {
        "neutral": 1_251,
        "happy": 397,
        "angry": 344,
        "surprised": 281,
        "sad": 208,
        "disgust": 68,
        "fearful": 50,
    }
    speakers = {split: {u.speaker for u in listing.utterances if u.split == split} for split in ("train", "test")}
    assert {f"meld/{n}" for n in ("Chandler", "Joey", "Monica", "Phoebe", "Rachel", "Ross")} <= set.intersection(
        *speakers.values()
    )
