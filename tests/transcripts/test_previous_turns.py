"""Previous turns are those of the same dialogue and the same part, by their numbers."""

import numpy as np
import pytest

from hf_ser.data.folds import Fold
from hf_ser.transcripts.context import previous_turns

TURNS = [("d1", number) for number in range(12)] + [("d2", number) for number in range(4)] + [(None, 0)]
IDS = [f"meld/{dialogue}_utt{number}" for dialogue, number in TURNS]
TEST = np.array([10, 11])


@pytest.fixture
def dialogues(dataset_of):
    """A dialogue of twelve turns, the last two of them of the test part; one of four; and a row of none."""
    rows = [(name, ("angry", "sad")[row % 2], f"s{row % 3}", None) for row, name in enumerate(IDS)]
    texts = [None if name == "meld/d2_utt1" else f"text of {name}" for name in IDS]
    return dataset_of(rows, dialogue=[dialogue for dialogue, _ in TURNS], transcript=texts)


def context(dataset, turns: int = 3) -> dict[str, list[str]]:
    names = dataset["id"][:]
    test = np.array([row for row, name in enumerate(names) if name in {IDS[one] for one in TEST}])
    fold = Fold("1", np.setdiff1d(np.arange(len(names)), test), np.array([], int), test, "x")
    return previous_turns(dataset, fold, dict(zip(names, dataset["transcript"][:], strict=True)), turns)


def test_turns_before_a_text_in_the_order_of_their_numbers(dialogues):
    # By their names 10 would come before 2.
    found = context(dialogues.select(np.random.default_rng(0).permutation(len(dialogues))))
    assert found["meld/d1_utt9"] == [f"text of meld/d1_utt{number}" for number in (6, 7, 8)]
    assert found["meld/d1_utt1"] == ["text of meld/d1_utt0"] and found["meld/d1_utt0"] == []
    assert context(dialogues, 1)["meld/d1_utt9"] == ["text of meld/d1_utt8"]


def test_no_turn_comes_from_another_dialogue_or_another_part(dialogues):
    found = context(dialogues, 16)
    assert found["meld/d1_utt10"] == [] and found["meld/d1_utt11"] == ["text of meld/d1_utt10"]
    parts = {name: (dialogue, row in TEST) for row, (name, (dialogue, _)) in enumerate(zip(IDS, TURNS, strict=True))}
    for name, turns in found.items():
        assert all(parts[one.removeprefix("text of ")] == parts[name] for one in turns)
    assert found["meld/None_utt0"] == []


def test_a_turn_without_text_is_passed_over(dialogues):
    assert context(dialogues)["meld/d2_utt2"] == ["text of meld/d2_utt0"]


def test_turns_whose_order_is_not_known_are_refused(dataset_of):
    rows = [(name, label, "s", None) for name, label in (("i/d_F000", "sad"), ("i/d_M000", "angry"))]
    with pytest.raises(ValueError, match=r"turns of dialogue d are named i/d_F000, i/d_M000, and their order is not"):
        context(dataset_of(rows, dialogue=["d", "d"], transcript=["a", "b"]))
    with pytest.raises(ValueError, match="--context 3: found no dialogues"):
        context(dataset_of(rows, dialogue=[None, None], transcript=["a", "b"]))
