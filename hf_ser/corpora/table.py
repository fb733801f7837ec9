"""A user's own corpus: one CSV, JSONL or Parquet file with a row for each clip.

Columns `path` (relative to the table's folder, or absolute) and `label` or `votes`; optional `id`, `speaker`, `sex`,
`session`, `sentence`, `transcript`, `transcript_source`. `votes` is an object of counts by label (in a CSV, JSON).
"""

import json
from collections import Counter
from pathlib import Path

import pandas as pd

from hf_ser.columns import REFERENCE, SEXES, Finding, Listing, Utterance

LICENCE = "the user's own"
SOURCE = "the user's own"

READERS = {
    # Only an empty cell is missing: a speaker "NA" or the words "None" are what they say.
    ".csv": lambda file: pd.read_csv(file, dtype=str, keep_default_na=False),
    ".tsv": lambda file: pd.read_csv(file, dtype=str, keep_default_na=False, sep="\t"),
    ".jsonl": lambda file: pd.read_json(file, lines=True, dtype=False, convert_dates=False),
    ".parquet": pd.read_parquet,
}
OPTIONAL = ("speaker", "sex", "session", "sentence", "transcript", "transcript_source")


def list_utterances(data_dir: str | Path) -> Listing:
    """List the clips of a table.

    Args:
        data_dir: The table file itself.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a kind of table that is read, a column is missing, or no row has a label.
    """
    file = Path(data_dir)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such table. Expected a {', '.join(READERS)} file: name it in --data_dir.")
    if file.suffix.lower() not in READERS:
        raise ValueError(f"{file}: a table is one of {', '.join(READERS)}, found '{file.suffix}': convert it.")
    try:
        table = READERS[file.suffix.lower()](file)
    except ValueError as error:  # pandas' parse errors and pyarrow's are ValueErrors
        raise ValueError(f"{file}: not readable as {file.suffix} ({error}). Check the file's format.") from error
    if "path" not in table or not {"label", "votes"} & set(table):
        raise ValueError(
            f"{file}: found columns {', '.join(map(str, table))}. Expected `path` and `label` (or `votes`), and where "
            "known `speaker`, `sex`, `transcript`: rename the columns."
        )
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return _listing(file, rows)


def _listing(file: Path, rows: list[dict]) -> Listing:
    utterances, findings, uses = [], [], Counter()
    for number, row in enumerate(rows, start=1):
        votes = _votes(row.get("votes"), f"{file}, row {number}")
        label = _text(row.get("label")) or _majority(votes)
        problem = "no path" if not _text(row["path"]) else "no label, and no majority of votes" if not label else None
        if problem:
            findings.append(Finding("incomplete_row", f"{file.name}, row {number}", problem, skipped=True))
            continue
        name = _text(row.get("id")) or _text(row["path"])
        uses[name] += 1
        unique = name if uses[name] == 1 else f"{name}#{uses[name]}"
        utterances.append(_utterance(file, row, unique, label, votes))
    if not utterances:
        raise ValueError(f"{file}: none of its {len(rows)} rows has a path and a label: fill these columns in.")
    labels = sorted({u.label for u in utterances} | {name for u in utterances for name in u.votes or {}})
    return Listing(tuple(labels), utterances, findings)


def _utterance(file: Path, row: dict, name: str, label: str, votes: dict | None) -> Utterance:
    known = {column: _text(row.get(column)) for column in OPTIONAL}
    known["sex"] = _sex(known["sex"])
    if known["speaker"]:
        known["speaker"] = f"table/{known['speaker']}"
    known["transcript_source"] = (known["transcript_source"] or REFERENCE) if known["transcript"] else None
    path = Path(_text(row["path"]))
    audio = path if path.is_absolute() else file.parent / path
    return Utterance(id=f"table/{name}", audio=audio, label=label, corpus="table", votes=votes, **known)


def _text(value) -> str | None:
    if isinstance(value, float) and value.is_integer():  # what a column of whole numbers with gaps becomes
        value = int(value)
    return str(value).strip() or None if value is not None else None


def _sex(value: str | None) -> str | None:
    given = (value or "").lower()
    return next((sex for sex in SEXES if given and sex.startswith(given)), None)


def _votes(value, where: str) -> dict[str, float] | None:
    if value is None or value == "":
        return None
    try:
        votes = json.loads(value) if isinstance(value, str) else dict(value)
        votes = {str(name): float(count) for name, count in votes.items() if count is not None}
        if not all(0 <= count < float("inf") for count in votes.values()):
            raise ValueError("a count is negative or not finite")
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{where}: votes are {value!r}. Expected an object of counts by label such as {{"angry": 2, "sad": 1}}.'
        ) from error
    return votes if sum(votes.values()) > 0 else None


def _majority(votes: dict[str, float] | None) -> str | None:
    first, *rest = sorted((votes or {}).items(), key=lambda vote: -vote[1]) or [(None, 0)]
    return None if rest and rest[0][1] == first[1] else first[0]
