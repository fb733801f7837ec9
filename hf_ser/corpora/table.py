"""A user's own corpus: one CSV, JSONL or Parquet file with a row for each clip.

Columns `path` (relative to the table's folder, or absolute) and `label` or `votes`; optional `id`, `speaker`, `sex`,
`session`, `sentence`, `transcript`, `transcript_source`. `votes` is an object of counts by label (in a CSV, JSON).
"""

import json
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path, PureWindowsPath

import pandas as pd

from hf_ser.columns import REFERENCE, SEXES, Finding, Listing, Utterance

LICENCE = "the user's own"
SOURCE = "the user's own"

OPTIONAL = ("speaker", "sex", "session", "sentence", "transcript", "transcript_source")
NOT_READ = ("start", "end")
SEX_WORDS = {"w": "female", "woman": "female", "man": "male"}  # beside the words themselves and their beginnings


def _read_separated(file: Path) -> pd.DataFrame:
    with open(file, encoding="utf-8-sig") as lines:
        header = lines.readline()
    separator = max(",;\t", key=header.count)
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # a row longer than the header would lose its end
        # Only an empty cell is missing: a speaker "NA" or the words "None" are what they say.
        return pd.read_csv(
            file,
            sep=separator,
            dtype=str,
            keep_default_na=False,
            index_col=False,
            skipinitialspace=True,
            encoding="utf-8-sig",
        )


def _read_jsonl(file: Path) -> pd.DataFrame:
    with open(file, encoding="utf-8-sig") as lines:
        return pd.DataFrame([json.loads(line) for line in lines if line.strip()], dtype=object)


READERS = {
    ".csv": _read_separated,
    ".tsv": _read_separated,
    ".jsonl": _read_jsonl,
    ".parquet": lambda file: pd.read_parquet(file, dtype_backend="numpy_nullable"),
}


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
    except (ValueError, pd.errors.ParserWarning) as error:  # the errors of pandas, pyarrow, json and decoding
        raise ValueError(f"{file}: not readable as {file.suffix} ({error}). Check the file's format.") from error
    table.columns = [str(column).strip().lower() for column in table.columns]
    if segments := sorted(set(NOT_READ) & set(table)):
        raise ValueError(
            f"{file}: found columns {', '.join(segments)}. Expected one file a clip, for parts of files are not read "
            "yet: cut the files first, and leave these columns out."
        )
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
        name = unique = _text(row.get("id")) or _text(row["path"])
        while unique in uses:
            uses[name] += 1
            unique = f"{name}#{uses[name]}"
        uses[unique] += 1
        sex = _text(row.get("sex"))
        if sex and _sex(sex) is None:
            findings.append(Finding("unknown_sex", f"table/{unique}", f"found '{sex}', expected female or male"))
        utterances.append(_utterance(file, row, unique, label, votes))
    if not utterances:
        raise ValueError(f"{file}: none of its {len(rows)} rows has a path and a label: fill these columns in.")
    labels = {utterance.label for utterance in utterances}
    spellings = Counter(name.lower() for name in labels)
    findings += [
        Finding(
            "similar_label", f"label {name}", "differs from another only in capitals, and counts as a class of its own"
        )
        for name in sorted(labels)
        if spellings[name.lower()] > 1
    ]
    lost = Counter(name for u in utterances for name in u.votes or {} if name not in labels)
    findings += [
        Finding("lost_votes", f"votes for {name}", f"no clip has this label; left out of {count} clips' votes")
        for name, count in sorted(lost.items())
    ]
    utterances = [replace(u, votes=_among(u.votes, labels)) for u in utterances]
    return Listing(tuple(sorted(labels)), utterances, findings)


def _among(votes: dict[str, float] | None, labels: set[str]) -> dict[str, float] | None:
    kept = {name: count for name, count in (votes or {}).items() if name in labels}
    return kept if sum(kept.values()) > 0 else None


def _utterance(file: Path, row: dict, name: str, label: str, votes: dict | None) -> Utterance:
    known = {column: _text(row.get(column)) for column in OPTIONAL}
    known["sex"] = _sex(known["sex"])
    if known["speaker"]:
        known["speaker"] = f"table/{known['speaker']}"
    known["transcript_source"] = (known["transcript_source"] or REFERENCE) if known["transcript"] else None
    path = Path(_text(row["path"]))
    if "\\" in str(path) and not (file.parent / path).is_file():  # a table written on Windows
        path = Path(PureWindowsPath(path).as_posix())
    audio = path if path.is_absolute() else file.parent / path
    return Utterance(id=f"table/{name}", audio=audio, label=label, corpus="table", votes=votes, **known)


def _text(value) -> str | None:
    if isinstance(value, float) and value.is_integer():  # what a column of whole numbers with gaps becomes
        value = int(value)
    return str(value).strip() or None if value is not None else None


def _sex(value: str | None) -> str | None:
    given = (value or "").lower()
    return SEX_WORDS.get(given) or next((sex for sex in SEXES if given and sex.startswith(given)), None)


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
