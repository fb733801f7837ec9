"""`predictions.jsonl`: the predictions of a run for its test utterances, from which its report is computed.

One JSON object a line, all with the same keys, among them corpus, protocol, split fingerprint and leaks.
"""

import json
import math
from collections.abc import Sequence
from numbers import Real
from pathlib import Path

from hf_ser.data.schema import SEXES
from hf_ser.files import atomic_write
from hf_ser.runs.scores import SUM_TOLERANCE

PREDICTIONS = "predictions.jsonl"

FIELDS = (
    "id",
    "corpus",
    "speaker",
    "sex",
    "protocol",
    "fold",
    "split_fingerprint",
    "leaks",
    "notes",
    "transcript_source",
    "reference",
    "votes",
    "temperature",
    "abstain_threshold",
    "probabilities",
)
"""Keys of a row, in the order in which they are written."""

_ADDED = ("transcript_source", "votes", "temperature", "abstain_threshold")
"""Keys that files of earlier versions lack: read as null."""

_OPTIONAL = ("speaker", "sex", "transcript_source")
_TEXTS = ("id", "corpus", "protocol", "fold", "split_fingerprint", "reference")


def write_predictions(path: str | Path, rows: Sequence[dict]) -> None:
    """Write rows as `predictions.jsonl`, whole or not at all.

    Args:
        path: File to write.
        rows: One dict an utterance with the keys `FIELDS`: `speaker` and `sex` may be None, `fold` is a string,
            `leaks` a list of names, `notes` a list of sentences for readers of the figures (may be left out),
            `transcript_source` the source of the transcript (None without one), `reference` a label name,
            `probabilities` `{label: probability}` in the order of the class indices, and `votes` the raters'
            `{label: share}` in the same order, or None. `temperature` is that of the calibration (None without) and
            `abstain_threshold` the confidence below which the model abstains.

    Raises:
        ValueError: As `check_predictions`; nothing is written.
    """
    check_predictions(rows, str(path))
    with atomic_write(path) as file:
        for row in rows:
            row = {"notes": []} | row
            line = {field: row[field] for field in FIELDS}
            for key in ("votes", "probabilities"):
                line[key] = line[key] and {label: float(share) for label, share in line[key].items()}
            file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")


def read_predictions(path: str | Path) -> list[dict]:
    """Read and check a `predictions.jsonl`.

    Returns:
        The rows in the order of the file; keys that an earlier version did not write are None.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A line that is no JSON, or as `check_predictions`; the text names file and line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: found {'a folder' if path.is_dir() else 'nothing'}, expected a predictions file. Pass the "
            "predictions.jsonl that the run wrote into its output folder."
        )
    rows = []
    with open(path, "rb") as file:  # bytes: text that is not UTF-8 then fails in json.loads, which knows the line
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(
                    f"{path}, line {number}: found {line[:60]!r}, expected one JSON object in UTF-8 ({error}). Write "
                    "the file again with write_predictions; a torn line means that it was copied while incomplete."
                ) from None
            rows.append({"notes": []} | dict.fromkeys(_ADDED) | row if isinstance(row, dict) else row)
    check_predictions(rows, str(path))
    return rows


def check_predictions(rows: Sequence[dict], source: str = "predictions") -> None:
    """Check that rows belong to one evaluation: same keys, labels and protocol, every utterance once.

    Args:
        rows: Rows as `write_predictions` takes them, of one or several corpora.
        source: Name of the rows in errors, such as the file; row 1 is its line 1.

    Raises:
        ValueError: no rows; missing or unknown keys; values of a wrong type; probabilities or votes that are no
            distribution; votes with other labels; an id that occurs twice; a reference outside the labels; labels,
            their order or protocols that differ between rows; two fingerprints within one fold.
    """
    if not rows:
        raise ValueError(f"{source}: found no rows, expected one for each test utterance. Run the evaluation again.")
    lines, fingerprints = {}, {}
    for number, row in enumerate(rows, start=1):
        where = f"{source}, line {number}"
        _check_fields(row, where)
        _check_probabilities(row, where)
        _check_same_task(row, rows[0], where)
        if (first := lines.setdefault(row["id"], number)) != number:
            raise ValueError(
                f"{where}: found the id {row['id']!r} in fold {row['fold']!r}, already on line {first} in fold "
                f"{rows[first - 1]['fold']!r}; expected every utterance in one test fold and once. Make the folds "
                "disjoint, or report the runs apart."
            )
        if (known := fingerprints.setdefault(row["fold"], row["split_fingerprint"])) != row["split_fingerprint"]:
            raise ValueError(
                f"{where}: found the split fingerprint {row['split_fingerprint']!r}, expected {known!r} as in the "
                f"other rows of fold {row['fold']!r}. Report runs over different splits apart."
            )


def _check_fields(row, where: str) -> None:
    if not isinstance(row, dict):
        raise ValueError(f"{where}: found {row!r}, expected a JSON object. Write the file with write_predictions.")
    missing, unknown = [key for key in FIELDS if key not in (*row, "notes")], [key for key in row if key not in FIELDS]
    if missing or unknown:
        raise ValueError(
            f"{where}: found missing keys {missing} and unknown keys {unknown}, expected exactly {', '.join(FIELDS)}. "
            "Write the file with write_predictions."
        )
    for key in _TEXTS + _OPTIONAL:
        if not (isinstance(row[key], str) and row[key]) and not (key in _OPTIONAL and row[key] is None):
            expected = "a text or null" if key in _OPTIONAL else "a text"
            raise ValueError(f"{where}: found {key} {row[key]!r}, expected {expected}. Write it as a string.")
    if row["sex"] not in (*SEXES, None):
        raise ValueError(f"{where}: found sex {row['sex']!r}, expected {' or '.join(SEXES)} or null. Map it to these.")
    for key in ("temperature", "abstain_threshold"):
        if row[key] is not None and not (_is_number(row[key]) and row[key] > 0):
            raise ValueError(
                f"{where}: found {key} {row[key]!r}, expected a number above 0 or null. Write one of these."
            )
    if not isinstance(row["leaks"], list) or not all(isinstance(leak, str) and leak for leak in row["leaks"]):
        raise ValueError(
            f"{where}: found leaks {row['leaks']!r}, expected a list of names, empty when there are none. Write a list."
        )


def _check_probabilities(row: dict, where: str) -> None:
    probabilities, votes = row["probabilities"], row["votes"]
    if not isinstance(probabilities, dict) or len(probabilities) < 2:
        raise ValueError(
            f"{where}: found probabilities {probabilities!r}, expected {{label: probability}} for two labels or more. "
            "Write all labels of the task."
        )
    _check_distribution("probabilities", probabilities, where, "the softmax of the model's logits")
    if row["reference"] not in probabilities:
        raise ValueError(
            f"{where}: found the reference {row['reference']!r}, expected one of {', '.join(probabilities)}. Map the "
            "corpus's labels to the task's, or leave the utterance out."
        )
    if votes is None:
        return
    if not isinstance(votes, dict) or list(votes) != list(probabilities):
        raise ValueError(
            f"{where}: found votes {votes!r}, expected {{label: share}} for {', '.join(probabilities)} in this order, "
            "or null. Write a share for every label of the task, or null where there were no raters."
        )
    _check_distribution("votes", votes, where, "each label's votes divided by all")


def _is_number(value) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _check_distribution(name: str, shares: dict, where: str, wanted: str) -> None:
    values = shares.values()
    if not all(map(_is_number, values)) or min(values) < -SUM_TOLERANCE or abs(sum(values) - 1) > SUM_TOLERANCE:
        raise ValueError(
            f"{where}: found {name} {shares!r}, expected finite numbers from 0 to 1 with the sum 1 "
            f"(tolerance {SUM_TOLERANCE}). Write {wanted}."
        )


def _check_same_task(row: dict, first: dict, where: str) -> None:
    labels, expected = list(row["probabilities"]), list(first["probabilities"])
    if labels != expected:
        raise ValueError(
            f"{where}: found the labels {labels}, expected {expected} in this order, as on line 1. Report runs with "
            "different labels apart."
        )
    if row["protocol"] != first["protocol"]:
        raise ValueError(
            f"{where}: found the protocol {row['protocol']!r}, expected {first['protocol']!r} as on line 1. Report "
            "runs under different protocols apart."
        )
