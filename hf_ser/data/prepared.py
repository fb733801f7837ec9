"""Open a prepared data set, and refuse a folder that holds none."""

from pathlib import Path

import pyarrow.compute as pc
from datasets import Dataset

from hf_ser.data.column_digests import open_checked
from hf_ser.data.corpora import CORPORA
from hf_ser.data.corpora.table_folders import AUDIO_SUFFIXES
from hf_ser.data.folders import files_under
from hf_ser.data.schema import features
from hf_ser.files import restore_folder

REPORT = "integrity.json"


def load_prepared(folder: str | Path) -> Dataset:
    """Open a prepared data set without reading its audio, and compare its columns with their stored digests.

    Raises:
        FileNotFoundError: the folder is missing, unfinished or not a prepared data set.
        ValueError: an earlier version, damaged files, or changed values.
    """
    folder = Path(folder)
    restore_folder(folder)
    if not (folder / REPORT).is_file():
        raise _not_prepared(folder)
    dataset, is_checked = open_checked(folder)
    if not is_checked:
        print(
            f"note: {folder} has no digests of its columns (an earlier version or another program wrote it): whether a "
            "label or a transcript has changed since cannot be checked."
        )
    check_columns(dataset, folder)
    check_holds_audio(dataset, folder)
    return dataset


def check_columns(dataset: Dataset, where: str | Path) -> None:
    """Check that a data set has the columns of a prepared one.

    Args:
        dataset: Any data set.
        where: Its name in the message.

    Raises:
        ValueError: missing columns.
    """
    if missing := sorted(set(features(("", " "))) - set(dataset.column_names)):
        raise ValueError(
            f"{where}: found a data set without the columns {', '.join(missing)}, of an earlier version or not "
            "prepared by hf_ser. Expected a prepared one: run scripts/prepare_data.py with another --output_dir, or "
            "use hf_ser.load_dataset."
        )


def _not_prepared(folder: Path) -> FileNotFoundError:
    """Error for a folder or file that is not a prepared data set."""
    partial = folder.with_name(folder.name + ".partial")
    expected = "Expected a folder written by scripts/prepare_data.py"
    if partial.is_dir() or not folder.exists():
        found = f"an unfinished one, {partial}" if partial.is_dir() else "no prepared data set"
        return FileNotFoundError(
            f"{folder}: found {found}. {expected}: run it with --output_dir {folder} (an unfinished one is continued)."
        )
    what = "a file"
    if (folder / "state.json").is_file():
        return FileNotFoundError(
            f"{folder}: found a data set without {REPORT}, as save_to_disk writes one after select or filter. "
            f"{expected}, with its {REPORT}: prepare this one with --corpus table --data_dir {folder}, here or in "
            "scripts/prepare_data.py with an --output_dir of its own."
        )
    if folder.is_dir():
        has_audio = any(file.suffix.lower() in AUDIO_SUFFIXES for file in files_under(folder)[0])
        what = "recordings" if has_audio else "other files"
    return FileNotFoundError(
        f"{folder}: found no prepared data set but {what}. {expected} for --dataset. Name what you have by --corpus "
        f"table --data_dir {folder} instead of --dataset (or, for one of {', '.join(CORPORA)}, by that name), here or "
        "in scripts/prepare_data.py with an --output_dir of its own."
    )


def check_holds_audio(dataset: Dataset, folder: Path) -> None:
    """Check that audio cells contain bytes, since one with a path could name any file of this disk.

    Raises:
        ValueError: a cell without bytes.
    """
    count = 0
    for cells in dataset.data.column("audio").chunks:
        sizes = pc.fill_null(pc.binary_length(cells.field("bytes")), 0)
        count += pc.sum(pc.and_(cells.is_valid(), pc.equal(sizes, 0))).as_py() or 0
    if count:
        raise ValueError(
            f"{folder}: {count} audio cells hold no bytes, expected all of them to, as scripts/prepare_data.py writes "
            "them: files of this disk that a data set names are not read. Prepare it again from the recordings."
        )
