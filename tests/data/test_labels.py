"""Label spaces: what a map merges and drops is what its text says, for labels and for votes alike."""

import pytest
from datasets import Dataset, Features

from hf_ser.data.corpora import CORPORA
from hf_ser.data.labels import (
    EMOTIONS,
    LABEL_MAPS,
    NATIVE,
    apply_label_map,
    joint_labels,
    labels_not_found,
    mapped_classes,
    not_found_notice,
    read_label_map,
)
from hf_ser.data.schema import features

LABELS = ("neutral", "happy", "excited", "sad", "angry", "frustrated")


@pytest.fixture
def rated():
    """A row of each label; all have votes but the last."""
    typed = features(LABELS)
    votes = [
        [0.75, 0.25, 0, 0, 0, 0],
        [0, 0.5, 0.5, 0, 0, 0],
        [0, 0.2, 0.6, 0, 0, 0.2],
        [0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 1],
        None,
    ]
    names = ("id", "label", "votes")
    columns = {"id": [f"x/{name}" for name in LABELS], "label": list(range(6)), "votes": votes}
    return Dataset.from_dict(columns, features=Features({name: typed[name] for name in names}))


def test_native_changes_nothing(rated):
    assert apply_label_map(rated, NATIVE) == (rated, {})


def test_a_map_merges_drops_and_counts(rated):
    mapped, dropped = apply_label_map(rated, "four_class")
    assert mapped.features["label"].names == ["neutral", "happy", "sad", "angry"]
    assert mapped["id"][:] == ["x/neutral", "x/happy", "x/excited", "x/sad", "x/angry"]
    assert mapped["label"][:] == [0, 1, 1, 2, 3]
    assert dropped == {"frustrated": 1}
    assert mapped.column_names == rated.column_names


def test_votes_are_summed_and_stay_a_distribution(rated):
    mapped, _ = apply_label_map(rated, "four_class")
    votes = mapped["votes"][:]
    assert votes[:2] == [[0.75, 0.25, 0, 0], [0, 1, 0, 0]]
    assert votes[2] == [0, 1, 0, 0]  # 0.2 and 0.6 are one class; 0.2 for frustrated fell away
    assert votes[4] is None  # all its votes were for frustrated


def test_only_classes_that_occur(rated):
    mapped, dropped = apply_label_map(rated, "ekman6")
    assert mapped.features["label"].names == ["happy", "sad", "angry"]
    assert dropped == {"frustrated": 1, "neutral": 1}


def test_a_map_of_the_users_own(rated, tmp_path):
    file = tmp_path / "map.yaml"
    file.write_text("upset: angry, frustrated\nother: [happy, neutral]\n")
    mapped, dropped = apply_label_map(rated, str(file))
    assert mapped.features["label"].names == ["upset", "other"]
    assert mapped["label"][:] == [1, 1, 0, 0]
    assert dropped == {"excited": 1, "sad": 1}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a: happy\nb: happy, sad", "happy is on two lines, expected each label on one"),
        ("a: happy", "found 1 class, expected at least 2"),
        ("a: happy\nb: angry\na: sad", "line 3: found 'a' again, which is in line 1 already"),
        ('A: happy\nb: angry\n"A.": sad', "a class is on two lines"),
        ("just text", "expected lines such as 'happy: happy, excited'"),
        ("a: [", "expected lines such as 'happy: happy, excited'"),
    ],
)
def test_texts_that_are_no_map(tmp_path, text, error):
    file = tmp_path / "map.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=error):
        read_label_map(str(file))


def test_labels_that_yaml_would_read_as_booleans(tmp_path):
    (tmp_path / "map.yaml").write_text("yes: happy\nno: sad, off")
    assert read_label_map(str(tmp_path / "map.yaml")) == {"happy": "yes", "sad": "no", "off": "no"}


def test_unknown_maps_and_data_without_its_classes(rated):
    with pytest.raises(ValueError, match="Unknown label map 'five': expected native, ekman6, four_class, valence_bin"):
        apply_label_map(rated, "five")
    with pytest.raises(ValueError, match="Label map 'four_class' finds 1 of its classes in this data set"):
        apply_label_map(
            rated.select([3]).cast_column("label", features(("x", "y", "z", "sad", "u", "v"))["label"]), "four_class"
        )


def test_every_named_map_reads_the_common_vocabulary():
    for name in LABEL_MAPS:
        assert set(read_label_map(name)) <= set(EMOTIONS), name
    assert read_label_map("four_class") == {
        **{name: name for name in ("neutral", "happy", "sad", "angry")},
        "excited": "happy",
    }


def test_every_corpus_speaks_the_common_vocabulary():
    for name in set(CORPORA) - {"table"}:
        assert set(CORPORA[name].LABELS) <= set(EMOTIONS), name


def test_labels_of_joined_corpora():
    assert joint_labels([("sad", "angry"), ("sad", "angry")]) == ("sad", "angry")
    assert joint_labels([("sad", "angry"), ("bored", "neutral"), ("zeal",)]) == (
        *("neutral", "sad", "angry", "bored"),
        "zeal",
    )


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (BOMB, "line 1: found the anchor 'a', expected none"),
        ("a: *b\nc: d\n", "line 1: found the alias 'b'"),
        ("a: " + "[" * 2000 + "]" * 2000, "found lists in lists beyond 50 levels"),
        ("a: x\nb: " + "y, " * 500_000, "characters, expected at most"),
        ("a: [[x]]\nb: y\n", r"found \['x'\], expected a label"),
    ],
    ids=["bomb", "alias", "deep", "long", "nested"],
)
def test_a_map_that_would_grow_is_refused_at_once(tmp_path, text, found):
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(ValueError, match=f"m.yaml: expected lines such as .*{found}") as error:
        read_label_map(str(tmp_path / "m.yaml"))
    assert len(str(error.value)) < 1000


def test_a_map_spells_its_labels_as_the_data_does_or_alike():
    classes, index = mapped_classes("ekman6", ("Happy", "sad.", "surprised", "nothing"), [0, 1, 2, 3])
    assert classes == ("happy", "sad", "surprised")
    assert index.tolist() == [0, 1, 2, -1]


def test_labels_of_a_map_that_no_row_has_are_named_with_what_may_be_meant(rated, tmp_path):
    (tmp_path / "map.yaml").write_text("upset: angyr, Frustrated\ngood: happy, joy\n")
    file, labels = str(tmp_path / "map.yaml"), ["angry", "frustrated", "happy", "sad"]
    assert labels_not_found(file, labels) == ["angyr (did you mean angry?)", "joy"]
    assert labels_not_found("four_class", ["sad", "happy"]) == labels_not_found("native", ["sad"]) == []
    assert "reads labels that no clip has: joy; the data has the labels happy, sad." in not_found_notice(
        file, ["joy"], ["sad", "happy", "sad"]
    )
