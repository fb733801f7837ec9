"""`predictions.jsonl`: the predictions of a run for its test utterances, from which its report is computed.

One JSON object a line, all with the same keys, among them corpus, protocol, split fingerprint and leaks.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar, Literal

from hf_ser.files import atomic_write
from hf_ser.json_record import Record
from hf_ser.runs.scores import SUM_TOLERANCE

PREDICTIONS = "predictions.jsonl"
OPTIONAL_KEYS = ("dimensions", "annotated", "asr_avg_logprob")
"""Keys that not all rows have: those of a model that predicts dimensions, and that of a recogniser's transcripts."""


@dataclass(frozen=True, kw_only=True)
class Prediction(Record):
    """The prediction of a model for one test utterance: one line of the file.

    Args:
        id, corpus, speaker, sex: The utterance.
        protocol, fold, split_fingerprint: The split it was tested in.
        leaks: Names of leaks.
        notes: Sentences for readers of the figures.
        transcript_source: Source of the transcript; None without one.
        asr_avg_logprob: Mean log probability of the recogniser's tokens, where its transcript was read; absent where
            that is not known.
        reference: Its label.
        votes: Share of each label among the raters' votes, in the order of `probabilities`; None without raters.
        temperature: Temperature of the calibration; None if there is none.
        abstain_threshold: Confidence below which the model abstains.
        familiarity: How similar the utterance is to the training data; None if unknown.
        probabilities: Probability of each label, in the order of the class indices; empty if the model predicts
            only dimensions.
        dimensions: Predicted valence, arousal and dominance, from -1 to 1; absent if the model predicts none.
        annotated: Mean ratings of these on the same scale, None where there is none; absent likewise.
    """

    WHAT: ClassVar[str] = "a row of predictions"
    REMEDY: ClassVar[str] = "Write the file with write_predictions."

    id: str
    corpus: str
    speaker: str | None
    sex: Literal["female", "male"] | None
    protocol: str
    fold: str
    split_fingerprint: str
    leaks: list[str]
    notes: list[str] = field(default_factory=list)
    transcript_source: str | None = None
    asr_avg_logprob: float | None = None
    reference: str
    votes: dict[str, float] | None = None
    temperature: float | None = None
    abstain_threshold: float | None = None
    familiarity: float | None = None
    probabilities: dict[str, float]
    dimensions: dict[str, float] | None = None
    annotated: dict[str, float | None] | None = None

    def to_json(self) -> dict[str, Any]:
        """The row as a JSON object; missing values are null."""
        shares = {key: getattr(self, key) for key in ("votes", "probabilities")}
        numbers = {key: one and {label: float(share) for label, share in one.items()} for key, one in shares.items()}
        values = {one.name: getattr(self, one.name) for one in fields(self)} | numbers
        return {key: value for key, value in values.items() if key not in OPTIONAL_KEYS or value is not None}

    @property
    def labels(self) -> list[str]:
        """The classes of the task, in the order of their indices."""
        return list(self.probabilities)

    @property
    def predicted(self) -> str:
        """The most probable label; the first of equally probable ones."""
        return max(self.probabilities, key=self.probabilities.get)


def predictions_file(source: Path) -> Path:
    """The predictions file of a run's folder; a file is returned unchanged."""
    return source / PREDICTIONS if source.is_dir() else source


def write_predictions(path: str | Path, rows: Sequence[Prediction]) -> None:
    """Write rows as `predictions.jsonl`, atomically.

    Raises:
        ValueError: a value is not of its type, or as `check_predictions`; nothing is written.
    """
    lines = [row.to_json() for row in rows]
    written = [Prediction.from_json(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1)]
    check_predictions(written, str(path))
    with atomic_write(path) as file:
        file.writelines(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)


def read_predictions(path: str | Path) -> list[Prediction]:
    """Read and check a `predictions.jsonl`.

    Returns:
        The rows in the order of the file.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A line is not JSON, or as `write_predictions`; the message names file and line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: found {'a folder' if path.is_dir() else 'nothing'}, expected a predictions file. Pass the folder "
            "of a run, or the predictions.jsonl that it wrote there."
        )
    rows = []
    with open(path, "rb") as file:  # bytes, so that text that is not UTF-8 fails at its line
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(
                    f"{path}, line {number}: found {line[:60]!r}, expected one JSON object in UTF-8 ({error}). Write "
                    "the file again with write_predictions; a torn line means that it was copied while incomplete."
                ) from None
            rows.append(Prediction.from_json(row, f"{path}, line {number}"))
    check_predictions(rows, str(path))
    return rows


def check_predictions(rows: Sequence[Prediction], source: str = "predictions") -> None:
    """Check that rows belong to one evaluation: same labels and protocol, every utterance once.

    Args:
        rows: Rows of one or several corpora.
        source: Name of the rows in errors, such as the file; row 1 is its line 1.

    Raises:
        ValueError: no rows; an empty name; probabilities or votes that are not a distribution; votes with other labels;
            an id that occurs twice; a reference outside the labels; labels, their order or protocols that differ
            between rows; two fingerprints within one fold.
    """
    if not rows:
        raise ValueError(f"{source}: found no rows, expected one for each test utterance. Run the evaluation again.")
    lines, fingerprints = {}, {}
    for number, row in enumerate(rows, start=1):
        where = f"{source}, line {number}"
        _check_values(row, where)
        _check_dimensions(row, rows[0], where)
        _check_probabilities(row, where)
        _check_same_task(row, rows[0], where)
        if (first := lines.setdefault(row.id, number)) != number:
            raise ValueError(
                f"{where}: found the id {row.id!r} in fold {row.fold!r}, already on line {first} in fold "
                f"{rows[first - 1].fold!r}; expected every utterance in one test fold and once. Make the folds "
                "disjoint, or report the runs apart."
            )
        if (known := fingerprints.setdefault(row.fold, row.split_fingerprint)) != row.split_fingerprint:
            raise ValueError(
                f"{where}: found the split fingerprint {row.split_fingerprint!r}, expected {known!r} as in the "
                f"other rows of fold {row.fold!r}. Report runs over different splits apart."
            )


def _check_values(row: Prediction, where: str) -> None:
    for one in fields(row):
        if getattr(row, one.name) == "":
            raise ValueError(f"{where}: found an empty {one.name}, expected text or null.")
    for name in ("temperature", "abstain_threshold"):
        value = getattr(row, name)
        if value is not None and not (_is_number(value) and value > 0):
            raise ValueError(f"{where}: found {name} {value!r}, expected a number above 0 or null.")


def _check_probabilities(row: Prediction, where: str) -> None:
    probabilities, votes = row.probabilities, row.votes
    if not probabilities and row.dimensions:
        return
    if len(probabilities) < 2:
        raise ValueError(
            f"{where}: found probabilities {probabilities!r}, expected {{label: probability}} for two labels or more. "
            "Write all labels of the task."
        )
    _check_distribution("probabilities", probabilities, where, "the softmax of the model's logits")
    if row.reference not in probabilities:
        raise ValueError(
            f"{where}: found the reference {row.reference!r}, expected one of {', '.join(probabilities)}. Map the "
            "corpus's labels to the task's, or leave the utterance out."
        )
    if votes is None:
        return
    if list(votes) != list(probabilities):
        raise ValueError(
            f"{where}: found votes {votes!r}, expected {{label: share}} for {', '.join(probabilities)} in this order, "
            "or null. Write a share for every label of the task, or null where there were no raters."
        )
    _check_distribution("votes", votes, where, "each label's votes divided by all")


def _check_dimensions(row: Prediction, first: Prediction, where: str) -> None:
    """Check that a row has the dimensions of the first one, and finite numbers or None as annotations."""
    if (
        list(row.dimensions or ()) != list(first.dimensions or ())
        or (row.annotated or {}).keys() != (row.dimensions or {}).keys()
    ):
        raise ValueError(
            f"{where}: found the dimensions {list(row.dimensions or ())}, annotated {list(row.annotated or ())}, "
            f"expected {list(first.dimensions or ())} of both, as on line 1. Report runs of different dimensions apart."
        )
    values = [*(row.dimensions or {}).values(), *(one for one in (row.annotated or {}).values() if one is not None)]
    if wrong := [one for one in values if not _is_number(one)]:
        raise ValueError(f"{where}: found {wrong[0]!r} in dimensions or annotated, expected finite numbers.")


def _is_number(value) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _check_distribution(name: str, shares: dict, where: str, wanted: str) -> None:
    values = shares.values()
    if not all(map(_is_number, values)) or min(values) < -SUM_TOLERANCE or abs(sum(values) - 1) > SUM_TOLERANCE:
        raise ValueError(
            f"{where}: found {name} {shares!r}, expected finite numbers from 0 to 1 with the sum 1 "
            f"(tolerance {SUM_TOLERANCE}). Write {wanted}."
        )


def _check_same_task(row: Prediction, first: Prediction, where: str) -> None:
    labels, expected = row.labels, first.labels
    if labels != expected:
        raise ValueError(
            f"{where}: found the labels {labels}, expected {expected} in this order, as on line 1. Report runs with "
            "different labels apart."
        )
    if row.protocol != first.protocol:
        raise ValueError(
            f"{where}: found the protocol {row.protocol!r}, expected {first.protocol!r} as on line 1. Report "
            "runs under different protocols apart."
        )
