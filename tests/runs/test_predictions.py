"""Predictions files: an exact round trip, and errors that name the line."""

import json
from fractions import Fraction

import numpy as np
import pytest
from rows import typed, write_predictions

from hf_ser.files import atomic_write
from hf_ser.runs.predictions import check_predictions, read_predictions


def row(name: str, **changes) -> dict:
    return {
        "id": f"ravdess/{name}",
        "corpus": "ravdess",
        "speaker": "ravdess/07",
        "sex": "female",
        "protocol": "emobox",
        "fold": "1",
        "split_fingerprint": "f1",
        "leaks": [],
        "notes": ["of a test speaker all clips are used"],
        "transcript_source": "reference",
        "reference": "sad",
        "votes": None,
        "temperature": None,
        "abstain_threshold": None,
        "familiarity": None,
        "probabilities": {"sad": 0.1 + 0.2, "happy": 0.7},
    } | changes


def test_round_trip_is_exact(tmp_path):
    other = {"speaker": None, "sex": None, "leaks": ["shared speakers"], "fold": "2", "split_fingerprint": "f2"}
    rows = [
        row("ä", temperature=1.4, abstain_threshold=0.5),
        row("b", transcript_source=None, votes={"sad": 2 / 3, "happy": 1 / 3}, **other),
    ]
    write_predictions(tmp_path / "new" / "predictions.jsonl", rows)
    assert read_predictions(tmp_path / "new" / "predictions.jsonl") == typed(rows)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["predictions.jsonl"]
    first = (tmp_path / "new" / "predictions.jsonl").read_text("utf-8").splitlines()[0]
    assert list(json.loads(first)) == list(row("a"))
    assert "ä" in first


def test_numpy_numbers_are_written_as_numbers(tmp_path):
    write_predictions(
        tmp_path / "p.jsonl", [row("a", probabilities={"sad": np.float32(0.25), "happy": Fraction(3, 4)})]
    )
    assert read_predictions(tmp_path / "p.jsonl")[0].probabilities == {"sad": 0.25, "happy": 0.75}


@pytest.mark.parametrize(
    "lacking",
    [["transcript_source", "votes", "temperature", "abstain_threshold"], ["temperature", "abstain_threshold"]],
    ids=["version 1", "version 2"],
)
def test_files_of_earlier_versions_are_read_with_nulls(lacking, tmp_path):
    rows = [row("a"), row("b")]
    old = [{key: value for key, value in one.items() if key not in lacking} for one in rows]
    (tmp_path / "old.jsonl").write_text("".join(json.dumps(one) + "\n" for one in old))
    assert read_predictions(tmp_path / "old.jsonl") == typed(one | dict.fromkeys(lacking) for one in rows)


def test_keys_of_newer_versions_pass(tmp_path):
    (tmp_path / "new.jsonl").write_text(json.dumps(row("a", emotion="sad")) + "\n")
    assert read_predictions(tmp_path / "new.jsonl") == typed([row("a")])


def test_a_joined_corpus_is_one_evaluation():
    check_predictions(typed([row("a"), row("b") | {"id": "emodb/b", "corpus": "emodb"}]))


WRONG = {
    "missing": ({"id": "x"}, r"found no corpus, expected corpus, a text"),
    "no object": ([1], r"found \[1\], expected an object of keys and values: this is not a row of predictions"),
    "number as fold": (row("b", fold=1), "found fold: 1, expected a text"),
    "empty speaker": (row("b", speaker=""), "found an empty speaker, expected text or null"),
    "empty source": (row("b", transcript_source=""), "found an empty transcript_source, expected text or null"),
    "sex": (row("b", sex="F"), "found sex: 'F', expected one of female, male or null"),
    "temperature": (row("b", temperature=0), "found temperature 0, expected a number above 0 or null"),
    "threshold": (
        row("b", abstain_threshold="0.5"),
        "found abstain_threshold: '0.5', expected a number or null",
    ),
    "leaks": (row("b", leaks="random split"), "found leaks: 'random split', expected a list"),
    "reference": (
        row("b", reference="calm"),
        "found the reference 'calm', expected one of sad, happy. Map the corpus's",
    ),
    "label order": (row("b", probabilities={"happy": 0.7, "sad": 0.3}), r"labels \['happy', 'sad'\], expected \['sad'"),
    "label set": (row("b", probabilities={"sad": 0.5, "calm": 0.5}), r"labels \['sad', 'calm'\], expected \['sad'"),
    "one label": (row("b", probabilities={"sad": 1.0}), "for two labels or more"),
    "sum": (row("b", probabilities={"sad": 0.5, "happy": 0.6}), "expected finite numbers from 0 to 1 with the sum 1"),
    "negative": (row("b", probabilities={"sad": 1.5, "happy": -0.5}), "Write the softmax of the model's logits"),
    "not finite": (row("b", probabilities={"sad": float("nan"), "happy": 0.5}), "expected finite numbers"),
    "no number": (row("b", probabilities={"sad": "0.5", "happy": 0.5}), "probabilities.sad: '0.5', expected a number"),
    "votes lack a label": (row("b", votes={"sad": 1.0}), r"votes {'sad': 1.0}, expected {label: share} for sad, happy"),
    "votes in another order": (row("b", votes={"happy": 0.5, "sad": 0.5}), "for sad, happy in this order, or null"),
    "votes as list": (row("b", votes=[0.5, 0.5]), r"found votes: \[0.5, 0.5\], expected an object"),
    "counted votes": (
        row("b", votes={"sad": 2, "happy": 1}),
        "with the sum 1.*Write each label's votes divided by all",
    ),
    "protocol": (row("b", protocol="random"), "found the protocol 'random', expected 'emobox' as on line 1"),
    "fingerprint": (
        row("b", split_fingerprint="f2"),
        "fingerprint 'f2', expected 'f1' as in the other rows of fold '1'",
    ),
    "twice": (row("a"), r"found the id 'ravdess/a' in fold '1', already on line 1 in fold '1'"),
    "over folds": (row("a", fold="2"), r"in fold '2', already on line 1 in fold '1'.*Make the folds disjoint"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_row_is_named_by_file_and_line(wrong, tmp_path):
    second, text = WRONG[wrong]
    path = tmp_path / "predictions.jsonl"
    path.write_text(json.dumps(row("a")) + "\n" + json.dumps(second) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"predictions.jsonl, line 2: .*{text}"):
        read_predictions(path)


def test_a_wrong_row_is_not_written(tmp_path):
    for wrong in ("number as fold", "sum", "twice"):
        second, text = WRONG[wrong]
        with pytest.raises(ValueError, match=f"line 2: .*{text}"):
            write_predictions(tmp_path / "predictions.jsonl", [row("a"), second])
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("line", [b'{"id": "ravdess/b", "cor', b"", b'{"id": "\xff"}'])
def test_a_torn_line_is_named(line, tmp_path):
    path = tmp_path / "predictions.jsonl"
    path.write_bytes(json.dumps(row("a")).encode() + b"\n" + line + b"\n")
    with pytest.raises(ValueError, match=r"predictions.jsonl, line 2: found b'.*expected one JSON object in UTF-8"):
        read_predictions(path)


def test_missing_and_empty_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent.jsonl: found nothing, expected a predictions file. Pass the"):
        read_predictions(tmp_path / "absent.jsonl")
    with pytest.raises(FileNotFoundError, match="found a folder"):
        read_predictions(tmp_path)
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(ValueError, match=r"empty.jsonl: found no rows, expected one for each test utterance"):
        read_predictions(tmp_path / "empty.jsonl")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "report.json"
    path.write_text("good")
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write("half of a bet")
        raise RuntimeError
    assert path.read_text() == "good"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_write_takes_bytes_and_refuses_other_modes(tmp_path):
    with atomic_write(tmp_path / "x.png", "wb") as file:
        file.write(b"\x89PNG")
    assert (tmp_path / "x.png").read_bytes() == b"\x89PNG"
    with pytest.raises(ValueError, match="found mode 'a', expected 'w'"), atomic_write(tmp_path / "x", "a"):
        pass
