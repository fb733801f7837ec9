"""Read the rows of a user's corpus: a table, a folder with metadata or label folders, or a data set."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
from datasets import Audio, ClassLabel, Dataset, DatasetDict, List, Value, load_dataset, load_from_disk
from datasets.config import DOWNLOADED_DATASETS_PATH
from huggingface_hub.constants import HF_HUB_CACHE

from hf_ser.data.corpora.table_columns import SEPARATOR, Naming, Rows
from hf_ser.data.corpora.table_folders import audio_below, rows_of_label_folders
from hf_ser.data.folders import files_under
from hf_ser.data.schema import Finding, split_parts
from hf_ser.data.separated import Row, Separated, read_separated
from hf_ser.normal_form import is_text, normal_form, normal_name, printable
from hf_ser.yaml_text import unique_keys

HUB_NAME = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@([^:]+))?(?::(.+))?")


@dataclass(frozen=True)
class Cell:
    """Audio of one row of a data set; calling it reads the bytes, so that a listing holds none.

    Cells are equal, and have one `repr`, if data set fingerprint, row and column are equal.
    """

    fingerprint: str
    row: int
    column: str
    audio: Dataset = field(repr=False, compare=False)
    name: str = field(repr=False, compare=False)
    folders: tuple[Path, ...] = field(repr=False, compare=False)

    def __call__(self) -> bytes:
        row = self.audio[self.row]
        content, path = row[f"{self.column}.bytes"], row[f"{self.column}.path"]
        if not content and not path:
            raise ValueError(
                f"{self.name}: found neither bytes nor a path in the column `{self.column}`. Expected one: leave this "
                "row out, or fill it in."
            )
        return content or self._file(path).read_bytes()

    def _file(self, path: str) -> Path:
        """File of a cell; only files in the folders of the data set are allowed, since its author chose the path."""
        for folder in self.folders:
            file = (folder / path).resolve()
            if file.is_relative_to(folder.resolve()) and file.is_file():
                return file
        raise ValueError(
            f"{self.name}: names the file {path}, expected one in the data set's own folder: a data set that comes "
            "from elsewhere could name any file of this disk. If it is yours, save it with the audio in it "
            "(save_to_disk of an Audio column does), or name its files in a table: --data_dir TABLE.csv."
        )


class FileCell(Cell):
    """Cell of a column of file names."""

    def __call__(self) -> bytes:
        return self._file(self.audio[self.row][self.column]).read_bytes()


def read_rows(data_dir: str | Path, naming: Naming, audio_dir: str | Path | None = None) -> Rows:
    """Read the rows of a table, folder or data set, without their audio.

    Args:
        data_dir: A file, folder or Hub id.
        naming: Column names.
        audio_dir: Base of relative paths; by default the folder of the table.

    Raises:
        FileNotFoundError: no such file, folder, Hub id or `audio_dir`.
        ValueError: it is not readable, or a column is missing.
    """
    if audio_dir is not None and not Path(audio_dir).is_dir():
        raise FileNotFoundError(f"--audio_dir {audio_dir}: no such folder. Expected the one that holds the recordings.")
    place = Path(data_dir)
    if place.is_dir():
        if any((place / name).is_file() for name in ("dataset_dict.json", "state.json")):
            return _with_folder(
                _rows_of_datasets(str(place), lambda: load_from_disk(str(place)), naming, (place,)), audio_dir
            )
        if metadata := _metadata(place):
            return _with_folder(_rows_of_metadata(place, metadata, naming), audio_dir)
        if audio_dir is not None:
            raise ValueError(
                f"--audio_dir {audio_dir}: found for the folder {place}, whose own files are read. Expected a table in "
                "--data_dir: name one, or leave --audio_dir out."
            )
        return rows_of_label_folders(place, naming)
    hub = HUB_NAME.fullmatch(str(data_dir))
    # A mistyped path must not be requested from the Hub: it has the ending of a table, or its folder exists.
    if not place.exists() and hub and place.suffix.lower() not in READERS and not place.parent.is_dir():
        name, revision, config = hub.groups()
        folders = (Path(HF_HUB_CACHE) / f"datasets--{name.replace('/', '--')}", Path(DOWNLOADED_DATASETS_PATH))
        load = lambda: load_dataset(name, config, revision=revision)  # noqa: E731
        rows = _rows_of_datasets(str(data_dir), load, naming, folders)
        return _with_folder(rows, audio_dir)
    return _with_folder(_rows_of_file(place, naming), audio_dir)


def _with_folder(rows: Rows, audio_dir: str | Path | None) -> Rows:
    return rows if audio_dir is None else replace(rows, folder=Path(audio_dir))


def _read_separated(file: Path) -> tuple[list[str], list[dict], list[Finding]]:
    """Read a CSV or TSV; only empty cells are missing here."""
    table = read_separated(file)
    width, rows, short = len(table.header), [], []
    for row in table.rows:
        if len(row.cells) > width:
            why = _why_more_cells(row, table)
            raise ValueError(f"line {row.line}: Expected {width} cells as in the header, found {len(row.cells)}: {why}")
        if len(row.cells) < width:
            short.append(row.line)
        cells = [cell.strip(" ") or None for cell in row.cells] + [None] * (width - len(row.cells))
        rows.append(dict(zip(table.header, cells, strict=True)) | {SEPARATOR: table.separator})
    findings = list(table.findings)
    if short:
        detail = f"{len(short)} rows have fewer cells than the header; the last columns are empty there"
        findings.append(Finding("short_row", f"{file.name}, line {short[0]}", detail, count=len(short)))
    return table.header, rows, findings


def _why_more_cells(row: Row, table: Separated) -> str:
    """Likely cause of a row that is longer than the header."""
    width = len(table.header)
    if table.header[0].startswith("#"):
        return "the first line seems to be a comment: remove it"
    if row.cells[0].lstrip().startswith("#"):
        return "the line seems to be a comment: remove it"
    if all(len(one.cells) == width + 1 for one in table.rows):
        return "every row has one cell more, as R's write.table does for row names: write it with row.names=FALSE"
    mark = "tab" if table.separator == "\t" else table.separator
    return f"a text with '{mark}' in it has to be in quotes"


def _read_jsonl(file: Path) -> tuple[list[str], list[dict | None], list[Finding]]:
    """Read a JSON object per line; other lines are None and reported."""
    rows, findings, first = [], [], None
    # Bytes that are not UTF-8 become surrogates, which are reported with their row.
    with open(file, encoding="utf-8-sig", errors="surrogateescape") as lines:
        for line_number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line, object_pairs_hook=unique_keys)
                if not isinstance(row, dict):
                    raise ValueError(f"found {type(row).__name__}, expected an object")
                rows.append(row)
            except (ValueError, RecursionError) as error:
                first = first or error
                detail = f"not a JSON object: {printable(error)}"
                findings.append(Finding("unreadable_row", f"{file.name}, line {line_number}", detail, skipped=True))
                rows.append(None)
    if first is not None and not any(rows):
        raise ValueError(first)
    return list(dict.fromkeys(name for row in rows for name in row or ())), rows, findings


def _read_parquet(file: Path) -> tuple[list[str], list[dict], list[Finding]]:
    table = pd.read_parquet(file, dtype_backend="numpy_nullable")
    names = [str(column) for column in table.columns]
    columns = [table.iloc[:, index].astype(object) for index in range(len(names))]
    columns = [column.where(column.notna(), None).tolist() for column in columns]
    return names, [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)], []


READERS = {".csv": _read_separated, ".tsv": _read_separated, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
"""Readers by file ending; they return column names, rows and findings."""

CONVERT = {
    **dict.fromkeys((".xlsx", ".xls", ".ods", ".numbers"), "Save it from its program as 'CSV UTF-8'."),
    **dict.fromkeys((".sav", ".por"), "With pandas and pyreadstat: pandas.read_spss(FILE).to_csv('clips.csv')."),
    ".dta": "With pandas: pandas.read_stata(FILE).to_csv('clips.csv').",
    **dict.fromkeys((".rds", ".rda", ".rdata"), "In R: write.csv(DATA, 'clips.csv', row.names=FALSE)."),
    **dict.fromkeys((".zip", ".gz", ".7z", ".rar", ".tar"), "Unpack it, and name the table or the folder in it."),
    ".json": "With pandas: pandas.read_json(FILE).to_json('clips.jsonl', orient='records', lines=True).",
    ".txt": "Rename it to .tsv if tabs separate its cells, or to .csv.",
}
"""How to convert tables of other kinds."""


def _rows_of_file(file: Path, naming: Naming) -> Rows:
    if not file.is_file():
        home = " A shell expands ~ only outside quotes." if str(file)[:1] == "~" else ""
        raise FileNotFoundError(
            f"{file}: no such table. Expected a {', '.join(READERS)} file, a folder, or the Hub id of a data set as "
            f"user/name: name it in --data_dir.{home}"
        )
    if file.suffix.lower() not in READERS:
        raise ValueError(
            f"{file}: a table is one of {', '.join(READERS)}, found '{file.suffix}': convert it."
            + (f" {CONVERT[file.suffix.lower()]}" if file.suffix.lower() in CONVERT else "")
        )
    try:
        found, rows, findings = READERS[file.suffix.lower()](file)
    except PermissionError:
        raise
    except Exception as error:  # a damaged file can make pandas, pyarrow or json raise anything
        text = printable(error) or type(error).__name__
        raise ValueError(
            f"{file}: not readable as {file.suffix} ({text}). Expected a complete file, in UTF-8 if it is text: "
            "export it again, or copy it again."
        ) from error
    names = naming.named(str(file), found)
    findings = [*findings, *naming.findings(str(file), found, names)]
    # A column may be several of ours.
    rows = [
        {ours: row.get(theirs) for ours, theirs in names.items()}
        | {"place": f"{file.name}, row {number}", SEPARATOR: row.get(SEPARATOR)}
        for number, row in enumerate(rows, start=1)
        if row is not None
    ]
    rows, repeated = _without_headers(rows, names)
    findings = [*findings, *repeated]
    if any(isinstance(row["path"], dict) for row in rows):
        raise ValueError(
            f"{file}: found audio in the column of paths. Expected paths: save it as a data set, with "
            "datasets.load_dataset('parquet', data_files=FILE).save_to_disk(DIR), and give DIR as --data_dir."
        )
    return Rows(str(file), file.parent, *_of_text(rows, findings))


def _without_headers(rows: list[dict], names: dict[str, str]) -> tuple[list[dict], list[Finding]]:
    """Leave out rows that repeat the header, as in concatenated tables."""
    kept, findings = [], []
    for row in rows:
        cells = [row[ours] for ours in names]
        same = [
            isinstance(cell, str) and normal_form(cell) == names[ours] for ours, cell in zip(names, cells, strict=True)
        ]
        if len(names) > 1 and all(same):
            detail = "repeats the names of the columns, as in concatenated tables"
            findings.append(Finding("repeated_header", row["place"], detail, skipped=True))
        else:
            kept.append(row)
    return kept, findings


def _of_text(rows: list[dict], findings: list[Finding]) -> tuple[list[dict], list[Finding]]:
    """Rows whose texts can be stored, and a finding for each other row."""
    kept, found = [], list(findings)
    for row in rows:
        values = {column: value for column, value in row.items() if column not in ("votes", "path")}
        nested = [column for column, value in values.items() if isinstance(value, list | dict)]
        if bad := nested or [column for column, value in row.items() if isinstance(value, str) and not is_text(value)]:
            what = f"{type(row[bad[0]]).__name__}, expected a text" if nested else "half of a surrogate pair"
            detail = f"{bad[0]} is not a text: {what}, {printable(row[bad[0]])[:80]}"
            found.append(Finding("unreadable_row", row["place"], detail, skipped=True))
        else:
            kept.append(row)
    return kept, found


def _metadata(folder: Path) -> list[Path]:
    """Metadata files of a folder, as `datasets` reads them: next to the files, or in the folder of each split."""
    files = [file for file in files_under(folder)[0] if file.stem == "metadata" and file.suffix.lower() in READERS]
    files = [file for file in files if not any(part.startswith(".") for part in file.relative_to(folder).parts)]
    order = list(READERS)
    # If a folder has several kinds, the first is read.
    first = {file.parent: file for file in sorted(files, key=lambda file: -order.index(file.suffix.lower()))}
    return [first[folder]] if folder in first else [first[each] for each in sorted(first)]


def _rows_of_metadata(folder: Path, tables: list[Path], naming: Naming) -> Rows:
    """Rows of one or several metadata files; the folders of several name the split."""
    rows, findings = [], []
    for table in tables:
        read = _rows_of_file(table, replace(naming, usual={"path": "file_name"}))
        within = table.parent.relative_to(folder)
        splits = [name for name, part in split_parts(map(normal_name, within.parts)).items() if part]
        for row in read.rows:
            path = None if row["path"] is None else str(within / str(row["path"]))
            split = {"split": splits[-1]} if splits and "split" not in {*row, *naming.requested} else {}
            rows.append(row | {"path": path} | split)
        findings += read.findings
    named = {normal_form(Path(str(row["path"])).as_posix()) for row in rows}
    audio, _ = audio_below(folder)
    if without := [file for file in audio if normal_form(file.as_posix()) not in named]:
        detail = f"{len(without)} audio files are in no metadata, the first: {printable(without[0])}"
        findings.append(Finding("not_in_metadata", str(folder), detail, skipped=True, count=len(without)))
    return Rows(str(folder if len(tables) > 1 else tables[0]), folder, rows, findings)


def _rows_of_datasets(
    where: str, load: Callable[[], Dataset | DatasetDict], naming: Naming, folders: tuple[Path, ...]
) -> Rows:
    """Rows of a data set; its cells may only name files in `folders`."""
    try:
        loaded = load()
    except IndexError as error:  # `datasets` raises it if no file has a row
        raise ValueError(
            f"{where}: found a data set without a row. Expected one a clip: save it again with its rows."
        ) from error
    except Exception as error:  # from the Hub, the network, or the files
        raise ValueError(
            f"{where}: not readable as a data set, nor a file or folder here "
            f"({type(error).__name__}: {printable(error)}). Expected a folder of datasets.save_to_disk, or a Hub id as "
            "user/name, user/name@revision or user/name:config: check the name and the connection, or download its "
            "files and give their folder."
        ) from error
    splits = loaded if isinstance(loaded, DatasetDict) else {None: loaded}
    rows, named = [], []
    for split, dataset in splits.items():
        # Without its format, which may return tensors or hide columns.
        read, found = _rows_of_dataset(where, dataset.with_format(None), naming, split, folders)
        rows, named = rows + read, named + [one for one in found if one not in named]
    rows = [row | {"place": f"{Path(where).name}, row {number}"} for number, row in enumerate(rows, start=1)]
    rows, findings = _of_text(rows, named)
    folder = Path(where) if Path(where).is_dir() else Path()
    return Rows(where, folder, rows, findings, free_splits=isinstance(loaded, DatasetDict))


def _rows_of_dataset(
    where: str, dataset: Dataset, naming: Naming, split: str | None, folders
) -> tuple[list[dict], list[Finding]]:
    naming = replace(naming, usual={"path": "audio"})
    names = naming.named(where, dataset.column_names)
    findings = naming.findings(where, dataset.column_names, names)
    values = {ours: _values(dataset, ours, theirs, split, folders) for ours, theirs in names.items()}
    classes = dataset.features[names["label"]] if "label" in names else None
    if isinstance(classes, ClassLabel) and isinstance(dataset.features.get(names.get("votes")), List):
        shares = values["votes"]
        values["votes"] = [None if row is None else dict(zip(classes.names, row, strict=True)) for row in shares]
    if split is not None:
        values["split"] = [split] * len(dataset)
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)], findings


def _values(dataset: Dataset, ours: str, column: str, split: str | None, folders: tuple[Path, ...]) -> list:
    feature = dataset.features[column]
    if isinstance(feature, Audio) or (isinstance(feature, dict) and {"bytes", "path"} <= set(feature)):
        return _cells(dataset, column, split, folders)
    values = dataset[column][:]
    if ours == "path" and feature == Value("string"):
        files = dataset.select_columns([column])
        cells = [FileCell(dataset._fingerprint, row, column, files, name, folders) for row, name in enumerate(values)]
        return [cell if (cell.name or "").strip() else None for cell in cells]
    if isinstance(feature, ClassLabel):
        return [None if index is None or index < 0 else feature.names[index] for index in values]
    if ours != "votes" and not isinstance(feature, Value):
        raise ValueError(
            f"column {column}: found {feature}, expected one text or number a row (for audio an Audio column, or a "
            "struct of bytes and path): convert it, or name another column with --columns."
        )
    return values


def _cells(dataset: Dataset, column: str, split: str | None, folders: tuple[Path, ...]) -> list[Cell]:
    """Cells of an audio column; flattened, so that reading the file names does not read the bytes."""
    audio = dataset.select_columns([column])
    if isinstance(dataset.features[column], Audio):
        audio = audio.cast_column(column, Audio(decode=False))
    audio = audio.flatten()
    files = audio.select_columns([f"{column}.path"])[:][f"{column}.path"]
    names = [Path(split or "", file or f"row {row}").as_posix() for row, file in enumerate(files, start=1)]
    # A private attribute, but the only one that identifies a data set.
    return [Cell(dataset._fingerprint, row, column, audio, name, folders) for row, name in enumerate(names)]
