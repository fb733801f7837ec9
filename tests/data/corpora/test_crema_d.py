"""CREMA-D: the intended emotion as the label, perceived emotions as votes, and the tables beside the audio."""

import csv
import re
from collections import Counter

import pytest
from corpora_trees import crema_d as tree
from shared_data import SHARED

from hf_ser.data.corpora import crema_d
from hf_ser.data.corpora.crema_d import list_utterances, read_actors, read_votes
from hf_ser.data.labels import EMOTIONS
from hf_ser.data.schema import REFERENCE

REAL = SHARED / "data" / "crema_d"
LETTERS = {"A": "angry", "D": "disgust", "F": "fearful", "H": "happy", "N": "neutral", "S": "sad"}


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.fixture
def listed(tmp_path):
    """The example tree's listing, and its utterances by name."""
    listing = list_utterances(tree.build(tmp_path))
    return listing, {u.id.removeprefix("crema_d/"): u for u in listing.utterances}


@pytest.mark.parametrize(
    ("code", "label"),
    [
        ("ANG", "angry"),
        ("DIS", "disgust"),
        ("FEA", "fearful"),
        ("HAP", "happy"),
        ("NEU", "neutral"),
        ("SAD", "sad"),
    ],
)
def test_the_label_is_the_intended_emotion(tmp_path, code, label):
    (utterance,) = list_utterances(touch(tmp_path, f"AudioWAV/1001_IEO_{code}_HI.wav")).utterances
    assert utterance.id == f"crema_d/1001_IEO_{code}_HI"
    assert utterance.label == label
    assert (utterance.corpus, utterance.speaker, utterance.sentence) == ("crema_d", "crema_d/1001", "IEO")
    assert (utterance.transcript, utterance.transcript_source) == ("It's eleven o'clock", REFERENCE)


def test_labels_and_sentences_are_complete():
    named = set(crema_d.EMOTION_CODES.values())
    assert named == set(crema_d.VOTE_COLUMNS.values()) == set(crema_d.LABELS) <= set(EMOTIONS)
    assert crema_d.VOTE_COLUMNS == LETTERS
    assert len(crema_d.SENTENCES) == len(set(crema_d.SENTENCES.values())) == 12


def test_clips_of_the_repository(listed, tmp_path):
    listing, utterances = listed
    assert set(utterances) == {
        "1001_IEO_ANG_HI",
        "1001_IEO_NEU_XX",
        "1001_DFA_SAD_XX",
        "1002_TIE_HAP_XX",
        "1040_ITH_SAD_XX",
        "1076_MTI_NEU_XX",
        "1076_MTI_SAD_XX",
    }
    assert utterances["1040_ITH_SAD_XX"].audio == tmp_path / "AudioWAV/1040_ITH_SAD_X.wav"
    foreign = "file name is not that of a clip of this corpus"
    wrong_audio = "the raters were played other audio or none: its votes are left out"
    assert sorted((f.kind, f.item, f.detail, f.skipped) for f in listing.findings) == [
        (
            "absent_clips",
            "tabulatedVotes.csv",
            "1 of its 6 clips are not in the folder, the first: 1091_WSI_DIS_XX",
            False,
        ),
        ("doubled_file", "backup/AudioWAV/1001_IEO_ANG_HI.wav", "same clip as AudioWAV/1001_IEO_ANG_HI.wav", True),
        ("git_lfs_pointer", "AudioWAV/1003_TSI_FEA_XX.wav", "no audio: run `git lfs pull`", True),
        ("misheard", "crema_d/1076_MTI_NEU_XX", wrong_audio, False),
        ("misnamed", "AudioWAV/1040_ITH_SAD_X.wav", "read as 1040_ITH_SAD_XX", False),
        ("not_crema_d", "AudioWAV/._1001_IEO_ANG_HI.wav", foreign, True),
        ("not_crema_d", "AudioWAV/1001_XYZ_ANG_HI.wav", foreign, True),
        ("unrated", "crema_d/1002_TIE_HAP_XX", "no rater in tabulatedVotes.csv", False),
        ("unrated", "crema_d/1076_MTI_SAD_XX", "no rater in tabulatedVotes.csv", False),
    ]


def test_votes_are_those_of_the_voice_alone(listed):
    _, utterances = listed
    none = dict.fromkeys(crema_d.LABELS, 0)
    assert utterances["1001_IEO_ANG_HI"].votes == none | {"angry": 9}
    assert utterances["1001_IEO_NEU_XX"].votes == none | {"neutral": 5, "happy": 5}  # the table's emoVote: H:N
    # The face alone and both together were found sad.
    assert (utterances["1001_DFA_SAD_XX"].label, utterances["1001_DFA_SAD_XX"].votes) == (
        "sad",
        none | {"neutral": 6, "sad": 3},
    )
    assert utterances["1040_ITH_SAD_XX"].votes == none | {"sad": 7, "neutral": 1}, "the file is misnamed, not the table"


def test_an_unrated_clip_has_no_votes(listed):
    _, utterances = listed
    assert utterances["1002_TIE_HAP_XX"].votes is None
    assert utterances["1076_MTI_SAD_XX"].votes is None


def test_votes_for_other_audio_are_left_out(listed):
    _, utterances = listed
    assert utterances["1076_MTI_NEU_XX"].votes is None


def test_actors_are_described(listed):
    _, utterances = listed
    woman, man = utterances["1002_TIE_HAP_XX"], utterances["1001_IEO_ANG_HI"]
    assert (woman.sex, woman.age, woman.race, woman.ethnicity) == ("female", 21, "African American", "Hispanic")
    assert (man.sex, man.age, man.race, man.ethnicity) == ("male", 51, "Caucasian", "Not Hispanic")


def test_an_unknown_race_is_none(tmp_path):
    tree.write_actors(tmp_path / "actors.csv")
    assert read_actors(tmp_path / "actors.csv")["1003"] == {
        "sex": "female",
        "age": 35,
        "race": None,
        "ethnicity": "Not Hispanic",
    }


def test_without_tables_only_the_names_are_known_and_that_is_reported(tmp_path):
    listing = list_utterances(touch(tmp_path, "AudioWAV/1001_IEO_ANG_HI.wav"))
    (utterance,) = listing.utterances
    assert utterance.votes is utterance.sex is utterance.age is utterance.race is utterance.ethnicity is None
    assert [(f.kind, f.item, f.skipped) for f in listing.findings] == [
        ("no_table", "tabulatedVotes.csv", False),
        ("no_table", "VideoDemographics.csv", False),
    ]


def test_the_order_of_the_columns_does_not_matter(tmp_path):
    tree.write_votes(tmp_path / "one.csv")
    tree.write_votes(tmp_path / "other.csv", columns=tree.VOTE_COLUMNS[::-1])
    assert read_votes(tmp_path / "one.csv") == read_votes(tmp_path / "other.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A,D,F,H,N,S,fileName\n", "found no column '' (the row's number)"),
        ('"",A,D,F,H,N,fileName\n', "found no column S."),
        (
            '"",A,D,F,H,N,S,fileName\n1,0,0,0,0,9,0,x\n',
            "line 2: the row is numbered '1', expected 1 to 3 (voice, face,",
        ),
        ('"",A,D,F,H,N,S,fileName\n100001,0,0,0,many,9,0,x\n', "line 2: found 'many', expected a number"),
        ('"",A,D,F,H,N,S,fileName\n100001,0,0,0\n', "line 2: found '', expected a number"),
    ],
)
def test_a_table_of_votes_that_was_changed_is_refused(tmp_path, text, message):
    (tmp_path / "votes.csv").write_text(text)
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'votes.csv'}") + ".*" + re.escape(message)):
        read_votes(tmp_path / "votes.csv")


@pytest.mark.parametrize(
    "name",
    ["1001_IEO_ANG", "1001_IEO_ANG_YY", "1001_IEO_CAL_HI", "2001_IEO_ANG_HI", "1001_IEO_ANG_HI_2", "10011_IEO_ANG_HI"],
)
def test_foreign_names_are_reported_and_left_out(tmp_path, name):
    listing = list_utterances(touch(tmp_path, "1001_IEO_ANG_HI.wav", f"{name}.wav"))
    assert [u.id for u in listing.utterances] == ["crema_d/1001_IEO_ANG_HI"]
    assert ("not_crema_d", f"{name}.wav", True) in [(f.kind, f.item, f.skipped) for f in listing.findings]


def test_audio_is_preferred_to_a_pointer_to_it(tmp_path):
    touch(tmp_path, "1001_IEO_ANG_HI.wav", "deeper/1001_IEO_ANG_HI.wav")
    (tmp_path / "1001_IEO_ANG_HI.wav").write_text(tree.POINTER)
    (tmp_path / "deeper/1001_IEO_ANG_HI.wav").write_bytes(b"audio" * 100)
    (utterance,) = list_utterances(tmp_path).utterances
    assert utterance.audio == tmp_path / "deeper/1001_IEO_ANG_HI.wav"


def test_nothing_found_says_what_was_expected(tmp_path):
    touch(tmp_path, "speech.wav")
    text = f"{tmp_path}: found 1 .wav or .flac files, none with the name of a clip of crema_d. Expected files such as"
    with pytest.raises(FileNotFoundError, match=re.escape(text)):
        list_utterances(tmp_path)
    for name in ("1001_IEO_ANG_HI", "1001_IEO_HAP_HI"):
        (tmp_path / f"{name}.wav").write_text(tree.POINTER)
    with pytest.raises(FileNotFoundError, match=r"found 2 files that are only pointers of git-lfs.*run `git lfs pull`"):
        list_utterances(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"found 0 \.wav or \.flac files"):
        list_utterances(tmp_path / "missing")


@pytest.fixture
def published():
    """The published rows of the voice alone, by file name."""
    if not REAL.is_dir():
        pytest.skip(f"no CREMA-D tables under {SHARED}: name its folder in HF_SER_SHARED")
    with open(REAL / "tabulatedVotes.csv", newline="") as table:
        rows = list(csv.DictReader(table))
    assert Counter(row[""][0] for row in rows) == {"1": 7442, "2": 7442, "3": 7442}
    return {row["fileName"]: row for row in rows if row[""][0] == "1"}


@pytest.mark.real
def test_the_favourites_of_the_real_votes_are_the_published_ones(published):
    votes = read_votes(REAL / "tabulatedVotes.csv")
    assert set(votes) == set(published)
    ties = 0
    for name, counts in votes.items():
        shares = {label: count / sum(counts.values()) for label, count in counts.items()}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-12)
        assert sum(counts.values()) == int(published[name]["numResponses"])
        favourites = {label for label, count in counts.items() if count == max(counts.values())}
        assert favourites == {LETTERS[letter] for letter in published[name]["emoVote"].split(":")}, name
        assert max(shares.values()) == pytest.approx(float(published[name]["agreement"]))
        ties += len(favourites) > 1
    assert (len(votes), ties) == (7442, 644)


@pytest.mark.real
def test_the_real_votes_for_the_intended_emotion_are_as_rare_as_the_module_says(published):
    # Cao et al. 2014 give 40.9 % for the voice alone, 58.2 % and 63.6 % for the face and for both.
    votes = read_votes(REAL / "tabulatedVotes.csv")
    labels = {name: crema_d.EMOTION_CODES[crema_d.NAME.match(name)[3]] for name in votes}
    hits = sum(counts[labels[name]] for name, counts in votes.items())
    assert hits / sum(sum(counts.values()) for counts in votes.values()) == pytest.approx(0.400, abs=5e-4)
    alone = sum(LETTERS.get(published[name]["emoVote"]) == label for name, label in labels.items())
    assert alone / len(labels) == pytest.approx(0.416, abs=5e-4)


@pytest.mark.real
def test_the_real_list_of_clips_and_actors_fits_the_names(published):
    actors = read_actors(REAL / "VideoDemographics.csv")
    parts = [crema_d.NAME.match(name).groups() for name in published]
    assert {actor for actor, *_ in parts} == set(actors)
    assert {sentence for _, sentence, *_ in parts} == set(crema_d.SENTENCES)
    assert Counter(actor["sex"] for actor in actors.values()) == {"male": 48, "female": 43}
    assert (min(a["age"] for a in actors.values()), max(a["age"] for a in actors.values())) == (20, 74)
