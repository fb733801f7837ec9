"""What rows are trained towards: votes, their majority, and how much agreement counts."""

import numpy as np
import pytest
import torch
from datasets import Dataset, Features

from hf_ser.data.labels import apply_label_map
from hf_ser.data.schema import features
from hf_ser.inputs.collate import labels
from hf_ser.inputs.targets import with_target

NAMES = ("angry", "happy", "sad")


def rated(*rows: tuple[str, list | None]) -> Dataset:
    """A data set of (label, votes)."""
    typed = features(NAMES)
    columns = {
        "id": [f"test/{i}" for i in range(len(rows))],
        "label": [NAMES.index(label) for label, _ in rows],
        "votes": [votes for _, votes in rows],
    }
    return Dataset.from_dict(columns, features=Features({name: typed[name] for name in columns}))


def targets(dataset: Dataset, target: str, rows=None, **settings) -> np.ndarray:
    rows = range(len(dataset)) if rows is None else rows
    return np.array([row["target"] for row in with_target(dataset, rows, target, **settings)])


def test_votes_are_the_target_and_rows_without_any_have_their_label():
    data = rated(("angry", [0.25, 0.75, 0.0]), ("sad", None), ("happy", [0.0, 1.0, 0.0]))
    assert targets(data, "votes").tolist() == [[0.25, 0.75, 0], [0, 0, 1], [0, 1, 0]]


def test_the_majority_is_one_class_or_the_label_or_shared():
    data = rated(
        ("sad", [0.2, 0.5, 0.3]),  # though the label says otherwise
        ("sad", [0.4, 0.2, 0.4]),
        ("happy", [0.4, 0.2, 0.4]),
        ("happy", [1 / 3, 1 / 3, 1 / 3]),
        ("angry", None),
    )
    assert targets(data, "majority").tolist() == [[0, 1, 0], [0, 0, 1], [0.5, 0, 0.5], [0, 1, 0], [1, 0, 0]]


def test_only_the_chosen_rows_have_a_target_and_all_keep_their_label():
    data = rated(("angry", [0.5, 0.5, 0.0]), ("sad", None), ("happy", [0.0, 1.0, 0.0]), ("sad", [0.0, 0.0, 1.0]))
    chosen = with_target(data, np.array([3, 0]), "votes")
    assert chosen["id"][:] == ["test/3", "test/0"]
    assert chosen["label"][:] == [2, 0]
    assert chosen[:]["target"] == [[0, 0, 1], [0.5, 0.5, 0]]
    assert "target" not in data.column_names
    assert with_target(data, [1, 2]).column_names == data.column_names, "the label needs no column"


def test_no_votes_are_made_up():
    data = rated(("angry", None), ("sad", None), ("sad", [0, 0, 1]))
    for settings in ({"target": "votes"}, {"target": "majority"}):
        with pytest.raises(ValueError, match=r"Found no votes of raters in the 2 training rows.*use --target label"):
            with_target(data, [0, 1], **settings)
    assert len(with_target(data, [0, 1], "label")) == 2


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match="Unknown target 'vote': expected one of label, votes, majority"):
        with_target(rated(("sad", None)), [0], "vote")


def test_adding_a_target_does_not_copy_the_rest_of_the_row(tmp_path):
    rated(*[("sad", [0, 0, 1])] * 50).save_to_disk(tmp_path)
    data = Dataset.load_from_disk(str(tmp_path))
    before = {file.name for file in tmp_path.iterdir()}
    chosen = with_target(data, range(10, 30, 2), "votes")
    assert chosen[:]["target"] == [[0, 0, 1]] * 10
    assert {file.name for file in tmp_path.iterdir()} == before


def test_nor_where_a_label_map_dropped_rows(tmp_path):
    rated(*[("sad", [0, 0, 1]), ("happy", [0, 1, 0]), ("angry", [1, 0, 0])] * 20).save_to_disk(tmp_path)
    (tmp_path / "map.yaml").write_text("low: sad\nhigh: happy")
    data, _ = apply_label_map(Dataset.load_from_disk(str(tmp_path)), str(tmp_path / "map.yaml"))
    before = {file.name for file in tmp_path.iterdir()}
    assert with_target(data, [0, 1], "votes")[:]["target"] == [[1, 0], [0, 1]]
    assert {file.name for file in tmp_path.iterdir()} == before


def test_a_batch_has_targets_where_its_rows_have_some():
    data = rated(("angry", [0.25, 0.75, 0.0]), ("sad", None))
    hard, soft = labels(data.to_list()), labels(list(with_target(data, [0, 1], "votes")))
    assert (hard.dtype, hard.tolist()) == (torch.int64, [0, 2])
    assert (soft.dtype, soft.tolist()) == (torch.float32, [[0.25, 0.75, 0], [0, 0, 1]])
