"""Where the rows of a user's own corpus come from: a table file, a folder for each label, or a `datasets` data set."""

import json
import re
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from datasets import Audio, ClassLabel, Dataset, DatasetDict, List, Value, load_dataset, load_from_disk

from hf_ser.columns import TOLD, Finding

KNOWN = ("path", "label", "votes", "id", *TOLD, "channel", "start", "end")
"""Columns that are read; beside them `votes:<label>`, one for each label."""

ALSO = {"start_seconds": "start", "end_seconds": "end"}
VOTES = "votes:"

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff")
SPLIT_FOLDERS = {"train", "validation", "valid", "val", "dev", "test"}

HUB_NAME = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@([^:]+))?(?::(.+))?")


@dataclass(frozen=True)
class Rows:
    """What was found, by the names of KNOWN.

    Args:
        where: What messages call it.
        folder: Where relative paths begin.
        rows: A dictionary a clip; `path` is a text or a `Cell`.
        findings: What was passed over.
    """

    where: str
    folder: Path
    rows: list[dict]
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True)
class Cell:
    """The sound of one row of a data set: called, it reads the bytes, so that a listing holds none of them.

    Equal, and of one `repr`, where the fingerprint of the data set, the row and the column are.
    """

    fingerprint: str
    row: int
    column: str
    sounds: Dataset = field(repr=False, compare=False)
    name: str = field(repr=False, compare=False)

    def __call__(self) -> bytes:
        sound = self.sounds[self.row]
        content, path = sound[f"{self.column}.bytes"], sound[f"{self.column}.path"]
        if not content and not path:
            raise ValueError(
                f"{self.name}: found neither bytes nor a path in the column `{self.column}`. Expected one: leave this "
                "row out, or fill it in."
            )
        return content or Path(path).read_bytes()


def read_rows(data_dir: str | Path, columns: dict[str, str]) -> Rows:
    """Read the rows of whatever `data_dir` is, without their sound.

    Raises:
        FileNotFoundError: nothing is there, and it is no Hub id.
        ValueError: it cannot be read, or a column is missing.
    """
    place = Path(data_dir)
    if place.is_dir():
        if any((place / name).is_file() for name in ("dataset_dict.json", "state.json")):
            return _rows_of_datasets(str(place), lambda: load_from_disk(str(place)), columns)
        tables = [place / f"metadata{suffix}" for suffix in READERS]
        if metadata := [table for table in tables if table.is_file()]:
            return _rows_of_file(metadata[0], columns, {"path": "file_name"})
        return _rows_of_folder(place, columns)
    hub = HUB_NAME.fullmatch(str(data_dir))
    # A mistyped path must not be looked up on the Hub: it has the ending of a table, or its folder is there.
    if not place.exists() and hub and place.suffix.lower() not in READERS and not place.parent.is_dir():
        name, revision, config = hub.groups()
        return _rows_of_datasets(str(data_dir), lambda: load_dataset(name, config, revision=revision), columns)
    return _rows_of_file(place, columns, {})


def named_columns(where: str, found: list[str], asked: dict[str, str], usual: dict[str, str]) -> dict[str, str]:
    """Our name of each column that is read, with the name that it has in the data.

    Args:
        where: What messages call the data.
        found: Columns that are there; their capitals do not count.
        asked: Names that the user gave, ours with theirs. A column so named is not read under its own name.
        usual: Names that this kind of data has where the user gives none, ours with theirs.

    Raises:
        ValueError: an unknown name, a column that is not there, two for one name, or no path or label.
    """
    names = {ours: theirs for ours, theirs in usual.items() if theirs in found} | _asked_columns(where, found, asked)
    given, taken = set(names), set(names.values())
    for theirs in (name for name in found if name not in taken):
        ours = ALSO.get(theirs.strip().lower(), theirs.strip().lower())
        if ours.startswith(VOTES):
            ours = VOTES + theirs.strip()[len(VOTES) :].strip()  # a label keeps its capitals
        if not _is_known(ours) or ours in given:
            continue
        if ours in names:
            raise ValueError(
                f"{where}: found columns {names[ours]} and {theirs}. Expected one column for `{ours}`: remove one, "
                f"or say --columns {ours}={theirs}."
            )
        names[ours] = theirs
    if "path" not in names or not any(name == "label" or name.startswith("votes") for name in names):
        raise ValueError(
            f"{where}: found columns {', '.join(found)}. Expected `path` and `label` (or `votes`), and where known "
            "`speaker`, `sex`, `transcript`: rename the columns, or name them as --columns path=FILE,label=EMOTION."
        )
    return names


def _asked_columns(where: str, found: list[str], asked: dict[str, str]) -> dict[str, str]:
    spelled = {name.strip().lower(): name for name in found} | {name: name for name in found}
    names = {}
    for ours, theirs in asked.items():
        ours = ALSO.get(ours, ours)
        if not _is_known(ours):
            raise ValueError(
                f"--columns: found '{ours}={theirs}'. Expected before the = one of {', '.join(KNOWN)}, or votes:LABEL "
                "for the column of the votes for one label: name one of these."
            )
        names[ours] = spelled.get(theirs) or spelled.get(theirs.strip().lower())
        if names[ours] is None:
            raise ValueError(
                f"{where}: found columns {', '.join(found)}. Expected '{theirs}', which --columns gives for `{ours}`: "
                "name a column that is there."
            )
    return names


def _is_known(ours: str) -> bool:
    return ours in KNOWN or (ours.startswith(VOTES) and ours != VOTES)


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


def _rows_of_file(file: Path, columns: dict[str, str], usual: dict[str, str]) -> Rows:
    if not file.is_file():
        raise FileNotFoundError(
            f"{file}: no such table. Expected a {', '.join(READERS)} file, a folder, or the Hub id of a data set as "
            "user/name: name it in --data_dir."
        )
    if file.suffix.lower() not in READERS:
        raise ValueError(f"{file}: a table is one of {', '.join(READERS)}, found '{file.suffix}': convert it.")
    try:
        table = READERS[file.suffix.lower()](file)
    except (ValueError, pd.errors.ParserWarning) as error:  # the errors of pandas, pyarrow, json and decoding
        raise ValueError(f"{file}: not readable as {file.suffix} ({error}). Check the file's format.") from error
    table.columns = [str(column) for column in table.columns]
    names = named_columns(str(file), list(table), columns, usual)
    # A column may stand for several of ours.
    table = pd.DataFrame({ours: table[theirs].astype(object) for ours, theirs in names.items()})
    rows = table.where(table.notna(), None).to_dict("records")
    if any(isinstance(row["path"], dict) for row in rows):
        raise ValueError(
            f"{file}: found sounds in the column of paths. Expected paths: save it as a data set, with "
            "datasets.load_dataset('parquet', data_files=FILE).save_to_disk(DIR), and give DIR as --data_dir."
        )
    return Rows(str(file), file.parent, rows)


def _rows_of_folder(folder: Path, columns: dict[str, str]) -> Rows:
    files = [file.relative_to(folder) for file in sorted(folder.rglob("*")) if file.is_file()]
    files = [file for file in files if not any(part.startswith(".") for part in file.parts)]
    sounds = [file for file in files if file.suffix.lower() in AUDIO_SUFFIXES]
    # A folder of splits, each with a folder for each label: train/angry/x.wav.
    depth = 1 if sounds and {file.parts[0].lower() for file in sounds} <= SPLIT_FOLDERS else 0
    labelled = [file for file in sounds if len(file.parts) > depth + 1]
    if not labelled:
        raise ValueError(
            f"{folder}: found {len(files)} files, none of them {', '.join(AUDIO_SUFFIXES)} in the sub-folder of a "
            "label. Expected files such as angry/x.wav, a metadata.csv beside them, or a data set of "
            "datasets.save_to_disk: name a table of the files, or such a folder, in --data_dir."
        )
    found = ["path", "label", *(["split"] if depth else [])]
    names = named_columns(str(folder), found, columns, {})
    given = [{"path": file.as_posix(), "label": file.parts[depth], "split": file.parts[0]} for file in labelled]
    others = Counter(file.suffix.lower() or "no ending" for file in files if file not in set(sounds))
    findings = [
        Finding("not_audio", str(folder), f"{count} files with {suffix}", skipped=True)
        for suffix, count in sorted(others.items())
    ]
    findings += [
        Finding("no_label_folder", file.as_posix(), "not in the sub-folder of a label", skipped=True)
        for file in sorted(set(sounds) - set(labelled))
    ]
    return Rows(str(folder), folder, [{ours: row[theirs] for ours, theirs in names.items()} for row in given], findings)


def _rows_of_datasets(where: str, load: Callable[[], Dataset | DatasetDict], columns: dict[str, str]) -> Rows:
    try:
        loaded = load()
    except Exception as error:  # of the Hub, of the network, of the data set's own files
        raise ValueError(
            f"{where}: not readable as a data set, nor a file or folder here ({type(error).__name__}: {error}). "
            "Expected a folder of datasets.save_to_disk, or a Hub id as user/name, user/name@revision or "
            "user/name:config: check the name and the connection, or download its files and give their folder."
        ) from error
    splits = loaded if isinstance(loaded, DatasetDict) else {None: loaded}
    rows = []
    for split, dataset in splits.items():
        # Without its format, which may give tensors, or hide columns.
        rows += _rows_of_dataset(where, dataset.with_format(None), columns, split)
    return Rows(where, Path(where) if Path(where).is_dir() else Path(), rows)


def _rows_of_dataset(where: str, dataset: Dataset, columns: dict[str, str], split: str | None) -> list[dict]:
    names = named_columns(where, dataset.column_names, columns, {"path": "audio"})
    values = {ours: _values(dataset, ours, theirs, split) for ours, theirs in names.items()}
    classes = dataset.features[names["label"]] if "label" in names else None
    if isinstance(classes, ClassLabel) and isinstance(dataset.features.get(names.get("votes")), List):
        shares = values["votes"]
        values["votes"] = [None if row is None else dict(zip(classes.names, row, strict=True)) for row in shares]
    if split is not None:
        values["split"] = [split] * len(dataset)
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]


def _values(dataset: Dataset, ours: str, column: str, split: str | None) -> list:
    feature = dataset.features[column]
    if isinstance(feature, Audio) or (isinstance(feature, dict) and {"bytes", "path"} <= set(feature)):
        return _cells(dataset, column, split)
    values = dataset[column][:]
    if isinstance(feature, ClassLabel):
        return [None if index is None or index < 0 else feature.names[index] for index in values]
    if ours != "votes" and not isinstance(feature, Value):
        raise ValueError(
            f"column {column}: found {feature}, expected one text or number a row (for sounds an Audio column, or a "
            "struct of bytes and path): convert it, or name another column with --columns."
        )
    return values


def _cells(dataset: Dataset, column: str, split: str | None) -> list[Cell]:
    """Its sounds, none of them read: flattened, the bytes stay on disk while the names of the files are looked up."""
    sounds = dataset.select_columns([column])
    if isinstance(dataset.features[column], Audio):
        sounds = sounds.cast_column(column, Audio(decode=False))
    sounds = sounds.flatten()
    files = sounds.select_columns([f"{column}.path"])[:][f"{column}.path"]
    names = [Path(split or "", file or f"row {row}").as_posix() for row, file in enumerate(files, start=1)]
    # A private name, but the only one that tells a data set from another.
    return [Cell(dataset._fingerprint, row, column, sounds, name) for row, name in enumerate(names)]
