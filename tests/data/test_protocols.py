"""Splits: no speaker is in training and test, and every split has its own fingerprint."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from hf_ser.data import splitting
from hf_ser.data.folds import Fold, check_leaks, describe, fingerprint
from hf_ser.data.plans import Rows
from hf_ser.data.protocols import PROTOCOLS
from hf_ser.data.schema import split_parts
from hf_ser.data.splitting import make_folds

FOR_ALL_CORPORA = ("speaker_folds", "leave_one_speaker_out")
SPEAKER_INDEPENDENT = (*FOR_ALL_CORPORA, "emobox", "luna_jimenez")

# Test actors by fold as published, copied from notes and papers and not from the module.
EMOBOX = ["1 11 20 21", "4 10 12 14", "8 9 19 23", "3 5 7 24", "2 15 16 18", "6 13 17 22"]
LUNA_JIMENEZ = ["2 5 14 15 16", "3 6 7 13 18", "10 11 12 19 20", "8 17 21 23 24", "1 4 9 22"]


def clips(speakers=range(1, 25), labels="angry calm sad", takes=2, corpus="ravdess") -> list[tuple]:
    """Every speaker with every label; odd numbers are men."""
    return [
        (
            f"{corpus}/{speaker:02d}-{label}-{take}",
            label,
            f"{corpus}/{speaker:02d}",
            "male" if speaker % 2 else "female",
        )
        for speaker in speakers
        for label in labels.split()
        for take in range(takes)
    ]


@pytest.fixture(scope="module")
def ravdess(dataset_of):
    return dataset_of(clips())


def speakers(dataset, rows) -> set[str]:
    names = dataset["speaker"][:]
    return {names[row] for row in rows}


def ids(dataset, fold) -> dict[str, set[str]]:
    names = dataset["id"][:]
    return {part: {names[row] for row in getattr(fold, part)} for part in ("train", "validation", "test")}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("protocol", SPEAKER_INDEPENDENT)
def test_parts_share_no_speaker_and_hold_every_clip_once(ravdess, protocol, seed):
    for fold in make_folds(ravdess, protocol, seed=seed):
        train, validation, test = (speakers(ravdess, part) for part in (fold.train, fold.validation, fold.test))
        assert not train & validation
        assert not (train | validation) & test
        assert train
        assert validation
        assert test
        assert sorted([*fold.train, *fold.validation, *fold.test]) == list(range(ravdess.num_rows))
        assert fold.leaks == ()


@pytest.mark.parametrize(
    ("protocol", "folds"), [("speaker_folds", 5), ("leave_one_speaker_out", 24), ("emobox", 6), ("luna_jimenez", 5)]
)
def test_every_clip_is_tested_once_over_all_folds(ravdess, protocol, folds):
    made = make_folds(ravdess, protocol, "all")
    assert [fold.name for fold in made] == [str(number) for number in range(1, folds + 1)]
    assert sorted(row for fold in made for row in fold.test) == list(range(ravdess.num_rows))
    assert len({fold.fingerprint for fold in made}) == folds


@pytest.mark.parametrize(("protocol", "published"), [("emobox", EMOBOX), ("luna_jimenez", LUNA_JIMENEZ)])
def test_published_folds(ravdess, protocol, published):
    folds = make_folds(ravdess, protocol)
    for fold, actors in zip(folds, published, strict=True):
        assert speakers(ravdess, fold.test) == {f"ravdess/{int(actor):02d}" for actor in actors.split()}
    assert sorted(int(actor) for actors in published for actor in actors.split()) == list(range(1, 25))


@pytest.mark.parametrize("protocol", ["emobox", "luna_jimenez"])
def test_published_folds_are_refused_elsewhere(dataset_of, protocol):
    text = (
        f"Protocol '{protocol}' is a list of RAVDESS actors and this data set holds other speakers. Expected --corpus"
    )
    for rows in (clips(corpus="table"), clips(range(1, 13)) + clips(range(13, 25), corpus="table")):
        with pytest.raises(ValueError, match=text):
            make_folds(dataset_of(rows), protocol)


def test_published_folds_on_a_part_of_the_actors(dataset_of):
    dataset = dataset_of(clips([2, 3, 4, 5, 6, 8, 9]))
    (fold,) = make_folds(dataset, "emobox", "3")
    assert speakers(dataset, fold.test) == {"ravdess/08", "ravdess/09"}
    for which in ("1", "all"):
        with pytest.raises(ValueError, match=r"Fold 1: none of its test speakers is in this data set. Run the others"):
            make_folds(dataset, "emobox", which)


def test_one_fold_is_the_same_fold_as_among_all(ravdess):
    for fold in make_folds(ravdess, "speaker_folds", n_folds=4):
        (alone,) = make_folds(ravdess, "speaker_folds", fold.name, n_folds=4)
        assert alone.fingerprint == fold.fingerprint
        assert ids(ravdess, alone) == ids(ravdess, fold)


def test_leave_one_speaker_out_leaves_out_one(ravdess):
    tested = [speakers(ravdess, fold.test) for fold in make_folds(ravdess, "leave_one_speaker_out")]
    assert tested == [{f"ravdess/{number:02d}"} for number in range(1, 25)]


def test_speaker_folds_are_balanced_by_label_and_sex(dataset_of):
    # Two kinds of speakers, so that folds of whole speakers can be balanced and folds at random would not be.
    rows = clips(range(1, 9), "angry sad", takes=3) + clips(range(9, 17), "angry", takes=6)
    dataset = dataset_of(rows)
    sexes, labels = dataset["sex"][:], dataset["label"][:]
    for fold in make_folds(dataset, "speaker_folds", n_folds=4):
        counts = Counter((labels[row], sexes[row]) for row in fold.test)
        assert counts == {(0, "male"): 9, (0, "female"): 9, (1, "male"): 3, (1, "female"): 3}


def test_as_many_folds_as_speakers_are_one_each(dataset_of):
    # Left to the splitter, these five speakers made four folds and an empty one.
    spoken = ("sad sad sad", "angry", "angry", "sad sad sad", "angry sad sad")
    rows = [
        (f"table/{speaker}-{take}", label, f"table/{speaker}", "male" if speaker % 2 else "female")
        for speaker, labels in enumerate(spoken)
        for take, label in enumerate(labels.split())
    ]
    folds = PROTOCOLS["speaker_folds"](Rows.of(dataset_of(rows)), 5, 0)
    assert sorted(len(fold.test) for fold in folds) == [1, 1, 3, 3, 3]


def test_a_corpus_of_few_clips_can_be_split(dataset_of):
    # scikit-learn refuses where every stratum has fewer clips than there are folds: 3 by label and sex here,
    dataset = dataset_of(clips(range(1, 7), takes=1))
    assert len(make_folds(dataset, "speaker_folds", n_folds=4)) == 4
    assert len(make_folds(dataset, "leave_one_speaker_out")) == 6
    # and 2 by label alone here.
    one_clip_each = [clips([n], ("angry", "calm", "sad")[n % 3], takes=1)[0] for n in range(6)]
    folds = PROTOCOLS["speaker_folds"](Rows.of(dataset_of(one_clip_each)), 5, 0)
    assert sorted(len(fold.test) for fold in folds) == [1, 1, 1, 1, 2]


@pytest.mark.parametrize(("fraction", "expected"), [(0.1, 2), (0.2, 4), (0.5, 10)])
def test_validation_fraction_counts_training_speakers(ravdess, fraction, expected):
    (fold,) = make_folds(ravdess, "emobox", "1", validation_fraction=fraction)  # leaves 20 speakers
    assert len(speakers(ravdess, fold.validation)) == expected
    assert len(speakers(ravdess, fold.train)) == 20 - expected


@pytest.mark.parametrize("fraction", [0, -0.2, 0.6, 1, float("nan")])
def test_impossible_validation_fractions(ravdess, fraction):
    with pytest.raises(ValueError, match=f"validation_fraction {fraction}: expected a share above 0 and at most 0.5"):
        make_folds(ravdess, "emobox", validation_fraction=fraction)


@pytest.mark.parametrize("protocol", [*SPEAKER_INDEPENDENT, "random"])
def test_a_split_does_not_depend_on_the_order_of_the_rows(ravdess, protocol):
    shuffled = ravdess.shuffle(seed=3)
    assert shuffled["id"][:] != ravdess["id"][:]
    options = {"n_folds": 3, "allow_leak": protocol == "random"}
    for fold, again in zip(
        make_folds(ravdess, protocol, **options), make_folds(shuffled, protocol, **options), strict=True
    ):
        assert again.fingerprint == fold.fingerprint
        assert ids(shuffled, again) == ids(ravdess, fold)
        assert again.train.tolist() == sorted(again.train)


def test_another_split_has_another_fingerprint(ravdess, dataset_of):
    def name(dataset=ravdess, which="1", **options):
        (fold,) = make_folds(dataset, "speaker_folds", which, **options)
        return fold.fingerprint

    one_clip_less = ravdess.select(range(1, ravdess.num_rows))
    others = [name(which="2"), name(seed=1), name(n_folds=4), name(validation_fraction=0.1), name(one_clip_less)]
    assert len({name(), *others}) == 1 + len(others)
    assert name() == name(dataset_of(clips()))


def test_fingerprint_knows_which_part_an_utterance_is_in():
    parts = {"train": ["a", "b"], "validation": ["c"], "test": ["d"]}
    assert fingerprint(parts) == fingerprint({"test": ["d"], "train": ["b", "a"], "validation": ["c"]})
    assert len(fingerprint(parts)) == 16
    others = [
        {"train": ["a", "c"], "validation": ["b"], "test": ["d"]},
        {"train": ["a", "b"], "validation": ["d"], "test": ["c"]},
        {"train": ["a"], "validation": ["b", "c"], "test": ["d"]},
        {"train": ["a", "b"], "validation": ["c"], "test": []},
    ]
    assert len({fingerprint(each) for each in [parts, *others]}) == 5


def test_random_needs_leave_and_is_stamped(ravdess):
    with pytest.raises(
        ValueError, match=r"'random' puts clips of one speaker into training and test.*add --allow_leak"
    ):
        make_folds(ravdess, "random")
    folds = make_folds(ravdess, "random", n_folds=3, allow_leak=True)
    assert sorted(row for fold in folds for row in fold.test) == list(range(ravdess.num_rows))
    leaks = {f"speaker_overlap_{pair}" for pair in ("train_test", "validation_test", "train_validation")}
    for fold in folds:
        assert set(fold.leaks) == leaks
        assert "LEAKED" in describe(ravdess, fold)


def test_leave_to_leak_changes_nothing_where_nothing_leaks(ravdess):
    for strict, lenient in zip(
        make_folds(ravdess, "emobox"), make_folds(ravdess, "emobox", allow_leak=True), strict=True
    ):
        assert lenient.leaks == ()
        assert lenient.fingerprint == strict.fingerprint


@pytest.mark.parametrize("protocol", SPEAKER_INDEPENDENT)
@pytest.mark.parametrize("which", ["all", "1", "final"])
def test_unknown_speakers_are_refused(dataset_of, protocol, which):
    rows = clips(takes=1)
    rows[5] = (*rows[5][:2], None, None)
    rows[7] = (*rows[7][:2], "", None)
    with pytest.raises(ValueError, match=r"2 of 72 utterances have no speaker, so no split can be speaker-independent"):
        make_folds(dataset_of(rows), protocol, which, allow_leak=True)


def test_random_takes_unknown_speakers_and_says_so(dataset_of):
    rows = [(name, label, None, None) for name, label, *_ in clips(range(1, 9))]
    for fold in make_folds(dataset_of(rows), "random", n_folds=2, allow_leak=True):
        assert "speaker_overlap_train_test" in fold.leaks


def test_too_few_speakers(dataset_of):
    for n_folds, found in ((5, 4), (1, 4)):
        expected = f"n_folds {n_folds}: found {found} speakers, expected 2 folds .* change --n_folds to 2 to {found}"
        with pytest.raises(ValueError, match=expected):
            make_folds(dataset_of(clips(range(1, found + 1))), "speaker_folds", n_folds=n_folds)
    two = dataset_of(clips([1, 2]))
    for protocol, which in (("leave_one_speaker_out", "all"), ("speaker_folds", "1")):
        with pytest.raises(
            ValueError, match="Fold 1: 1 speaker is left besides the test speakers, expected at least 2"
        ):
            make_folds(two, protocol, which, n_folds=2)
    with pytest.raises(ValueError, match="Fold final: 1 speaker is left besides the test speakers"):
        make_folds(dataset_of(clips([1])), "speaker_folds", "final")
    (final,) = make_folds(two, "speaker_folds", "final")  # one trains, one chooses
    assert len(speakers(two, final.train)) == len(speakers(two, final.validation)) == 1


RARE = {  # where the only clips labelled calm are, by speaker, and which part then lacks the class
    "validation": ([1, 2], r"fold 1: validation has no utterance of calm, so recall over all 3 classes cannot be"),
    "training": ([1], r"fold 1: training has no utterance of calm"),
}


@pytest.mark.parametrize("part", RARE)
def test_a_class_that_is_missing_where_it_is_needed(dataset_of, part):
    holders, text = RARE[part]
    rows = clips(range(1, 7), "angry sad")
    rows += [(f"ravdess/calm-{n}", "calm", f"ravdess/{n:02d}", "male" if n % 2 else "female") for n in holders]
    dataset = dataset_of(rows)
    with pytest.raises(ValueError, match=text + ".*Expected every class, which takes at least 3 speakers who have it"):
        make_folds(dataset, "leave_one_speaker_out", "1")


def test_a_class_that_no_test_row_has(dataset_of):
    rows = clips(range(1, 13), "angry sad") + clips([1, 3, 5, 7, 9, 11], "calm")
    dataset = dataset_of(rows)
    with pytest.raises(ValueError, match="the test rows has no utterance of calm, so recall over all 3 classes"):
        make_folds(dataset, "leave_one_speaker_out", "2")
    # One test fold may lack a class as long as the folds together have it.
    folds = make_folds(dataset, "leave_one_speaker_out", "all")
    assert len(folds) == 12


def test_unknown_protocol_and_fold(ravdess):
    with pytest.raises(ValueError, match=r"^Unknown protocol 'loso': expected one of speaker_folds, leave_one_spea"):
        make_folds(ravdess, "loso")
    for which in ("0", "7", "one", ""):
        with pytest.raises(
            ValueError,
            match=f"^--fold {which}: found no such fold among the 6 of this protocol",
        ):
            make_folds(ravdess, "emobox", which)


@pytest.mark.parametrize("protocol", SPEAKER_INDEPENDENT)
def test_final_tests_no_speaker_and_uses_all(ravdess, protocol):
    (fold,) = make_folds(ravdess, protocol, "final")
    assert fold.name == "final"
    assert fold.test.tolist() == []
    assert not speakers(ravdess, fold.train) & speakers(ravdess, fold.validation)
    assert len(fold.train) + len(fold.validation) == ravdess.num_rows
    assert "test" not in describe(ravdess, fold)


def hand_made(ravdess) -> Fold:
    """Actors 1 to 16 train, 17 to 20 validate, 21 to 24 test; six clips each."""
    return Fold("mine", np.arange(96), np.arange(96, 120), np.arange(120, 144), "0" * 16)


def test_a_fold_without_leaks_passes(ravdess):
    fold = hand_made(ravdess)
    same = check_leaks(ravdess, fold)
    assert same.leaks == ()
    assert (same.name, same.fingerprint, same.test.tolist()) == ("mine", "0" * 16, list(range(120, 144)))


@pytest.mark.parametrize(
    ("part", "rows", "pair", "speaker", "leak"),
    [
        ("train", [*range(90), *range(120, 122)], "train and test", "21", "train_test"),
        ("validation", [*range(96, 120), 121], "validation and test", "21", "validation_test"),
        ("train", [*range(96), 118], "train and validation", "20", "train_validation"),
    ],
)
def test_checked_refuses_a_shared_speaker(ravdess, part, rows, pair, speaker, leak):
    fold = replace(hand_made(ravdess), **{part: np.array(rows)})
    # A speaker is shared, not a clip: what the other part has of these rows is taken from it.
    other = pair.replace(part, "").replace(" and ", "")
    fold = replace(fold, **{other: np.setdiff1d(getattr(fold, other), rows)})
    expected = rf"Fold mine: 1 speakers are in both {pair} \(ravdess/{speaker}\)\. Expected every speaker in one part"
    with pytest.raises(ValueError, match=expected):
        check_leaks(ravdess, fold)
    assert check_leaks(ravdess, fold, allow_leak=True).leaks == (f"speaker_overlap_{leak}",)


@pytest.mark.parametrize(
    ("part", "row", "pair"),
    [
        ("train", 130, "train and test"),
        ("train", 100, "train and validation"),
    ],
)
def test_checked_refuses_a_shared_utterance_even_where_leaks_are_allowed(ravdess, part, row, pair):
    fold = hand_made(ravdess)
    fold = replace(fold, **{part: np.append(getattr(fold, part), row)})
    with pytest.raises(ValueError, match=f"Fold mine: 1 utterances are in both {pair}: split them"):
        check_leaks(ravdess, fold, allow_leak=True)


def test_describe_names_who_is_where(ravdess):
    (fold,) = make_folds(ravdess, "emobox", "1")
    lines = describe(ravdess, fold).splitlines()
    assert lines[0] == f"fold 1  split {fold.fingerprint}"
    assert lines[-2].split() == ["test", "24", "clips,", "4", "speakers", "(01", "11", "20", "21)"]
    assert lines[-1].split() == ["angry", "8", "calm", "8", "sad", "8"]
    for part, line in (("train", lines[1]), ("validation", lines[3])):
        who = sorted(speaker.removeprefix("ravdess/") for speaker in speakers(ravdess, getattr(fold, part)))
        assert line.strip().startswith(f"{part} ")
        assert line.endswith(f" {6 * len(who)} clips, {len(who)} speakers ({' '.join(who)})")


def test_describe_tells_speakers_apart_whose_names_end_alike(dataset_of):
    rows = [
        (f"table/{session}{sex}{label}", label, f"table/{session}/{sex}", None)
        for session in ("s1", "s2", "s3", "s4")
        for sex in ("F", "M")
        for label in ("angry", "sad")
    ]
    dataset = dataset_of(rows)
    fold = Fold("mine", np.arange(8), np.arange(8, 12), np.arange(12, 16), "0" * 16)
    assert "4 speakers (s1/F s1/M s2/F s2/M)" in describe(dataset, fold)


def test_describe_counts_a_crowd_without_naming_it(dataset_of):
    dataset = dataset_of(clips(range(1, 61), takes=1))
    (fold,) = make_folds(dataset, "speaker_folds", "1", n_folds=4)
    train = describe(dataset, fold).splitlines()[1]
    assert train.endswith("clips, 36 speakers")


def test_one_label_is_nothing_to_tell_apart(dataset_of):
    rows = [(f"a{i}", "calm", f"toy/{i}", None) for i in range(6)]
    with pytest.raises(ValueError, match="Found 1 label in the data, expected at least 2"):
        make_folds(dataset_of(rows), "speaker_folds")


SCENES = ("script01_1", "script02_1", "impro01", "impro02")


@pytest.fixture(scope="module")
def iemocap(dataset_of):
    """Five sessions of two speakers; every scene is played in every session, by both speakers, under every label."""
    rows = [
        (f"iemocap/Ses0{n}F_{scene}_{letter}00{i}", label, f"iemocap/Ses0{n}{letter}", sex)
        for n in range(1, 6)
        for scene in SCENES
        for letter, sex in (("F", "female"), ("M", "male"))
        for i, label in enumerate(("angry", "happy", "sad"))
    ]
    scene = [row[0].split("_", 1)[1].rsplit("_", 1)[0] for row in rows]
    return dataset_of(
        rows,
        corpus=["iemocap"] * len(rows),
        session=[row[0][8:13] for row in rows],
        dialogue=[row[0][8:].rsplit("_", 1)[0] for row in rows],
        script=[one if one.startswith("script") else None for one in scene],
        scene=scene,
    )


def values(dataset, column, rows) -> set:
    held = dataset[column][:]
    return {held[row] for row in rows}


def test_leave_one_session_out_holds_out_both_speakers_of_a_session(iemocap):
    folds = make_folds(iemocap, "leave_one_session_out")
    assert [values(iemocap, "session", fold.test) for fold in folds] == [{f"Ses0{n}"} for n in range(1, 6)]
    assert sorted(row for fold in folds for row in fold.test) == list(range(iemocap.num_rows))
    for fold in folds:
        assert len(speakers(iemocap, fold.test)) == 2
        assert len(values(iemocap, "session", [*fold.train, *fold.validation])) == 4
    assert "iemocap/Ses02 held out" in describe(iemocap, folds[1])


@pytest.mark.parametrize(("protocol", "column"), [("script_disjoint", "script"), ("scene_disjoint", "scene")])
def test_neither_session_nor_text_of_a_test_row_is_trained_on(iemocap, protocol, column):
    folds = make_folds(iemocap, protocol)
    assert len(folds) == 10
    assert sorted(row for fold in folds for row in fold.test) == list(range(iemocap.num_rows))
    for fold in folds:
        met = [*fold.train, *fold.validation]
        assert not (values(iemocap, column, met) & values(iemocap, column, fold.test)) - {None}
        assert not values(iemocap, "session", met) & values(iemocap, "session", fold.test)
        assert len(fold.train)
        said = describe(iemocap, fold)
        assert f"with the {column}s" in said
        assert "clips, in no part" in said


def test_an_improvised_dialogue_is_a_text_of_its_own_for_script_disjoint(iemocap):
    fold = next(
        fold for fold in make_folds(iemocap, "script_disjoint") if "impro01" in values(iemocap, "scene", fold.test)
    )
    assert "impro01" in values(iemocap, "scene", fold.train)


def test_sentence_disjoint_tests_an_unseen_sentence_of_unseen_speakers(dataset_of):
    rows = clips(range(1, 13), takes=4)
    dataset = dataset_of(rows, corpus=lambda one: "ravdess", sentence=lambda one: str(int(one[-1]) // 2))
    folds = make_folds(dataset, "sentence_disjoint", n_folds=3)
    assert len(folds) == 6
    assert sorted(row for fold in folds for row in fold.test) == list(range(dataset.num_rows))
    for fold in folds:
        assert not values(dataset, "sentence", [*fold.train, *fold.validation]) & values(dataset, "sentence", fold.test)
        assert not speakers(dataset, [*fold.train, *fold.validation]) & speakers(dataset, fold.test)
    one = dataset_of(rows, corpus=lambda one: "ravdess", sentence=lambda one: "1")
    with pytest.raises(ValueError, match=r"Found 1 sentences, expected at least 2, .*tests some and trains on"):
        make_folds(one, "sentence_disjoint")


def test_equal_texts_are_one_sentence_if_the_corpus_has_no_ids(dataset_of):
    rows = clips(range(1, 13), takes=4)
    spoken = ("Get up!", "get  up!", "Sit down", "sit down")
    dataset = dataset_of(rows, corpus=lambda one: "table", transcript=lambda one: spoken[int(one[-1])])
    for fold in make_folds(dataset, "sentence_disjoint", n_folds=3):
        assert {text.lower().split()[0] for text in values(dataset, "transcript", fold.test)} in ({"get"}, {"sit"})


def test_leave_one_corpus_out(dataset_of):
    rows = clips(range(1, 5)) + clips(range(1, 5), corpus="emodb")
    dataset = dataset_of(rows, corpus=lambda one: one.split("/")[0])
    folds = make_folds(dataset, "leave_one_corpus_out")
    assert [values(dataset, "corpus", fold.test) for fold in folds] == [{"emodb"}, {"ravdess"}]
    for fold in folds:
        assert values(dataset, "corpus", fold.train) == values(dataset, "corpus", fold.validation)
    alone = dataset_of(clips(range(1, 5)), corpus=lambda one: "ravdess")
    with pytest.raises(ValueError, match="leave_one_corpus_out: found the corpus ravdess, expected at least two"):
        make_folds(alone, "leave_one_corpus_out")


@pytest.mark.parametrize(
    ("protocol", "column"),
    [
        ("leave_one_session_out", "session"),
        ("script_disjoint", "script"),
        ("scene_disjoint", "scene"),
        ("sentence_disjoint", "sentence"),
        ("fixed", "split"),
    ],
)
def test_a_corpus_that_lacks_what_a_protocol_splits_by(ravdess, protocol, column):
    expected = f"Protocol '{protocol}' splits by {column}, and 144 of 144 utterances have none. Expected a"
    with pytest.raises(ValueError, match=expected):
        make_folds(ravdess, protocol)


PARTS = {"train": range(1, 13), "validation": range(13, 19), "test": range(19, 23)}


def part_of(name: str) -> str | None:
    """Actors 23 and 24 are in no part."""
    actor = int(name.split("/")[1][:2])
    return next((part for part, actors in PARTS.items() if actor in actors), None)


def test_fixed_by_a_column(dataset_of):
    dataset = dataset_of(clips(), corpus=lambda one: "ravdess", split=part_of)
    (fold,) = make_folds(dataset, "fixed")
    for part, actors in PARTS.items():
        assert speakers(dataset, getattr(fold, part)) == {f"ravdess/{actor:02d}" for actor in actors}
    assert "12 clips, in no part" in describe(dataset, fold)


@pytest.mark.parametrize("suffix", [".json", ".csv"])
def test_fixed_by_a_file_without_validation_takes_it_from_the_training_speakers(ravdess, tmp_path, suffix):
    parts = {name: part_of(name) for name in ravdess["id"][:]}
    parts = {name: "train" if part == "validation" else part for name, part in parts.items() if part}
    file = tmp_path / f"split{suffix}"
    if suffix == ".csv":
        file.write_text("id,split\n" + "".join(f"{name},{part}\n" for name, part in parts.items()))
    else:
        by_part = {part: [name for name in parts if parts[name] == part] for part in ("train", "test")}
        file.write_text(json.dumps(by_part))
    (fold,) = make_folds(ravdess, "fixed", split_file=file)
    assert speakers(ravdess, fold.test) == {f"ravdess/{actor}" for actor in range(19, 23)}
    assert not speakers(ravdess, fold.train) & speakers(ravdess, fold.validation)
    assert len(speakers(ravdess, [*fold.train, *fold.validation])) == 18


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            '{"train": ["ravdess/01-angry-0"], "test": ["ravdess/99-angry-0"]}',
            "1 of its ids are not in the data, such as",
        ),
        ('{"train": "ravdess/01-angry-0", "test": []}', "train is a text, not a list of ids"),
        ('{"train": ["ravdess/01-angry-0"], "exam": ["x"]}', "found the part 'exam', expected train, validation, test"),
        ('{"train": ["ravdess/01-angry-0"]}', "found 1 training and 0 test rows, expected some of each"),
        ("[1]", "not readable as a split"),
        ("[" * 100_000, "not readable as a split"),
        ("{", "not readable as a split"),
    ],
)
def test_wrong_split_files_are_refused(ravdess, tmp_path, text, error):
    file = tmp_path / "split.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=error):
        make_folds(ravdess, "fixed", split_file=file)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_split_files_of_published_names_and_other_spellings(ravdess, tmp_path, separator):
    parts = {name: part_of(name) for name in ravdess["id"][:]}
    names = {"train": "Training", "validation": "dev-clean", "test": "Test1", None: ""}
    spelled = {f"\u200b{name.replace('0', chr(0xFF10))}\u00a0": names[part] for name, part in parts.items()}
    lines = ["\ufeffid|split", *(f"{name}|{word}" for name, word in spelled.items())]
    (tmp_path / "split.csv").write_text("\n".join(lines).replace("|", separator), encoding="utf-8")
    (fold,) = make_folds(ravdess, "fixed", split_file=tmp_path / "split.csv")
    for part in ("train", "validation", "test"):
        assert {ravdess["id"][i] for i in getattr(fold, part)} == {name for name in parts if parts[name] == part}


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (("train", "dev", "eval"), ("train", "validation", "test")),
        (("train", "eval", "test"), ("train", "validation", "test")),
        (("Train", "Evaluation"), ("train", "test")),
        (("Development", "Test1", "Test 2"), ("validation", "test", "test")),
        (("train-other-500", "DEVEL", "test_unseen"), ("train", "validation", "test")),
        (("train-dev", "validated", "1", "t", "nodev"), (None, None, None, None, None)),
    ],
)
def test_names_of_published_splits(names, parts):
    assert split_parts(names) == dict(zip(names, parts, strict=True))


def test_split_files_of_no_use(ravdess, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.csv: no such split file"):
        make_folds(ravdess, "fixed", split_file=tmp_path / "gone.csv")
    with pytest.raises(ValueError, match="--split_file is read by --protocol fixed, found --protocol emobox"):
        make_folds(ravdess, "emobox", split_file="split.csv")
    (tmp_path / "no_header.csv").write_text("ravdess/01-angry-0,train\n" * 2)
    with pytest.raises(
        ValueError, match=r"no_header\.csv: not readable as a split .*CSV with the columns id and split"
    ):
        make_folds(ravdess, "fixed", split_file=tmp_path / "no_header.csv")


def test_a_published_split_that_shares_speakers_is_refused_or_stamped(dataset_of):
    dataset = dataset_of(clips(), split=lambda one: "test" if one.endswith("1") else "train")
    with pytest.raises(ValueError, match="19 speakers are in both train and test"):
        make_folds(dataset, "fixed")
    (fold,) = make_folds(dataset, "fixed", allow_leak=True)
    assert "speaker_overlap_train_test" in fold.leaks


def test_a_checkpoint_chosen_on_the_test_rows_is_refused_or_stamped(ravdess, tmp_path):
    parts = {part: [name for name in ravdess["id"][:] if part_of(name) == part] for part in ("train", "test")}
    file = tmp_path / "split.json"
    file.write_text(json.dumps({**parts, "validation": parts["test"]}))
    with pytest.raises(ValueError, match="24 utterances are in both validation and test"):
        make_folds(ravdess, "fixed", split_file=file)
    (fold,) = make_folds(ravdess, "fixed", split_file=file, allow_leak=True)
    assert fold.leaks == ("checkpoint_chosen_on_test",)


def test_texts_that_differ_in_punctuation_alone_are_one_sentence(dataset_of):
    rows = clips(range(1, 13), takes=4)
    spoken = ("Get up!", "get up", "Sit down.", "sit -- DOWN")
    dataset = dataset_of(rows, corpus=lambda one: "table", transcript=lambda one: spoken[int(one[-1])])
    for fold in make_folds(dataset, "sentence_disjoint", n_folds=3):
        said = [{text.lower()[:3] for text in values(dataset, "transcript", part)} for part in (fold.train, fold.test)]
        assert sorted(map(sorted, said)) == [["get"], ["sit"]]


def test_joined_corpora_share_their_sentences(dataset_of):
    rows = clips(range(1, 7)) + clips(range(1, 7), corpus="emodb")
    columns = {"corpus": lambda one: one.split("/")[0], "sentence": lambda one: one[0] + one[-1]}
    dataset = dataset_of(rows, **columns, transcript=lambda one: ("get up", "sit down")[int(one[-1])])
    for fold in make_folds(dataset, "sentence_disjoint", n_folds=3):
        assert not values(dataset, "transcript", fold.train) & values(dataset, "transcript", fold.test)


def test_recognition_errors_do_not_join_two_sentences(dataset_of):
    rows = clips(range(1, 13), takes=4)
    said = {"transcript": lambda one: "get up", "transcript_source": lambda one: "whisper@1"}
    dataset = dataset_of(rows, corpus=lambda one: "table", sentence=lambda one: one[-1], **said)
    assert len(make_folds(dataset, "sentence_disjoint", n_folds=3)) == 6


def test_sessions_that_share_speakers_do_not_part_them(dataset_of):
    """As MELD's episodes: the speakers are then split into folds."""
    dataset = dataset_of(
        clips(range(1, 13), takes=4), corpus=lambda one: "meld", session=lambda one: one[-1],
        sentence=lambda one: str(int(one[-1]) % 2),
    )  # fmt: skip
    folds = make_folds(dataset, "sentence_disjoint", n_folds=3)
    assert len(folds) == 6
    for fold in folds:
        assert not speakers(dataset, [*fold.train, *fold.validation]) & speakers(dataset, fold.test)


def test_a_published_split_may_name_clips_that_were_left_out(ravdess, tmp_path):
    parts = {part: [name for name in ravdess["id"][:] if part_of(name) == part] for part in PARTS}
    (tmp_path / "split.json").write_text(json.dumps({**parts, "train": [*parts["train"], "ravdess/gone"]}))
    (fold,) = make_folds(ravdess, "fixed", split_file=tmp_path / "split.json")
    assert "1 ids of the split file are not in the data, such as ravdess/gone" in describe(ravdess, fold)


def talk_show(seed: int, rarest: int = 4, n_speakers: int = 29) -> list[tuple]:
    """Guests of a talk show: most have one emotion each, `rarest` of them are neutral, numbers of clips vary."""
    generator = np.random.default_rng(seed)
    others = ("angry", "disgust", "fear", "happy", "sad")
    spoken = [["neutral"]] * rarest
    spoken += [[others[n % len(others)]] for n in range(n_speakers - rarest)]
    for guest in generator.choice(np.arange(rarest, n_speakers), 4, replace=False):
        spoken[guest] = [*spoken[guest], others[generator.integers(len(others))]]
    return [
        (f"show/{guest:02d}-{label}-{take}", label, f"show/{guest:02d}", "male" if guest % 3 else "female")
        for guest, labels in enumerate(spoken)
        for label in sorted(set(labels))
        for take in range(int(generator.integers(2, 16)))
    ]


def without_search(dataset, *arguments, **settings) -> list[Fold]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splitting, "search_missing_classes", lambda dataset, rows, plans, folds, *more: folds)
        return make_folds(dataset, *arguments, **settings)


def labels_of(dataset, rows) -> set[str]:
    names, labels = dataset.features["label"].names, dataset["label"][:]
    return {names[labels[row]] for row in rows}


@pytest.mark.parametrize(("n_folds", "fraction", "seed"), [(2, 0.2, 0), (3, 0.3, 1), (4, 0.2, 1), (4, 0.3, 0)])
def test_folds_of_speakers_with_one_emotion_each_are_searched_for(dataset_of, n_folds, fraction, seed):
    dataset = dataset_of(talk_show(seed))
    settings = {"n_folds": n_folds, "validation_fraction": fraction, "seed": seed}
    folds = make_folds(dataset, "speaker_folds", **settings)
    try:
        usual = without_search(dataset, "speaker_folds", **settings)
    except ValueError as error:
        assert "has no utterance of" in str(error)
    else:  # rarely, and then it stays
        assert [fold.fingerprint for fold in folds] == [fold.fingerprint for fold in usual]
        return
    assert sorted(row for fold in folds for row in fold.test) == list(range(dataset.num_rows))
    for fold in folds:
        parts = (fold.train, fold.validation, fold.test)
        assert sorted(np.concatenate(parts)) == list(range(dataset.num_rows))
        assert [len(labels_of(dataset, part)) for part in parts] == [6, 6, 6]
        who = [speakers(dataset, part) for part in parts]
        assert sum(map(len, who)) == 29 == len(set.union(*who))
        # Balanced: a test part of 1 / n_folds of the clips, and validation of about its share of the rest.
        assert len(fold.test) == pytest.approx(dataset.num_rows / n_folds, rel=0.1)
        assert len(fold.validation) < 0.6 * len(fold.train) / (1 - fraction)
    (alone,) = make_folds(dataset, "speaker_folds", "2", **settings)
    assert alone.fingerprint == folds[1].fingerprint


def test_searched_folds_do_not_depend_on_the_order_of_the_rows(dataset_of):
    rows = talk_show(0)
    shuffled = [rows[i] for i in np.random.default_rng(1).permutation(len(rows))]
    first, second = (make_folds(dataset_of(each), "speaker_folds", n_folds=4) for each in (rows, shuffled))
    assert [fold.fingerprint for fold in first] == [fold.fingerprint for fold in second]
    others = make_folds(dataset_of(rows), "speaker_folds", n_folds=4, seed=1)
    assert {fold.fingerprint for fold in first}.isdisjoint(fold.fingerprint for fold in others)


@pytest.mark.parametrize("rarest", [3, 4])
def test_without_such_folds_the_largest_number_that_has_them_is_named(dataset_of, rarest):
    dataset = dataset_of(talk_show(0, rarest))
    text = (
        rf"n_folds 5: no assignment of the 29 speakers has every class .*Too rare: neutral \({rarest} speakers\)\. "
        rf"Expected at least 5 speakers of each class: use --n_folds {rarest}, .*--label_map FILE that joins such a "
        "class with another or leaves it out.*Another --split_seed changes nothing"
    )
    with pytest.raises(ValueError, match=text):
        make_folds(dataset, "speaker_folds")
    assert len(make_folds(dataset, "speaker_folds", n_folds=rarest)) == rarest


def test_two_speakers_of_a_class_have_no_folds_at_all(dataset_of):
    with pytest.raises(ValueError, match=r"Too rare: neutral \(2 speakers\).*no --n_folds has them"):
        make_folds(dataset_of(talk_show(0, 2)), "speaker_folds", n_folds=3)


def test_validation_speakers_are_searched_for_where_a_protocol_says_who_is_tested(dataset_of):
    dataset = dataset_of(talk_show(1))
    for protocol, which in (("leave_one_speaker_out", "all"), ("speaker_folds", "final")):
        with pytest.raises(ValueError, match="validation has no utterance of"):
            without_search(dataset, protocol, which)
        for fold in make_folds(dataset, protocol, which):
            assert len(labels_of(dataset, fold.train)) == len(labels_of(dataset, fold.validation)) == 6
            assert fold.leaks == ()


def test_folds_that_lack_nothing_stay_while_the_others_are_searched_for(dataset_of):
    kept = 0
    for seed in (1, 2):
        dataset = dataset_of(talk_show(seed, 6, 40))
        usual = [_alone(dataset, str(number)) for number in range(1, 5)]
        folds = make_folds(dataset, "speaker_folds", n_folds=4)
        for fold, before in zip(folds, usual, strict=True):
            assert len(labels_of(dataset, fold.validation)) == len(labels_of(dataset, fold.test)) == 6
            kept += None in usual and before is not None and fold.fingerprint == before.fingerprint
    assert kept


def _alone(dataset, which: str) -> Fold | None:
    try:
        return without_search(dataset, "speaker_folds", which, n_folds=4)[0]
    except ValueError:
        return None
