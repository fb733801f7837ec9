"""Prepare a data set on disk from utterances, in shards, so that a killed run can continue."""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc
from datasets import Dataset, Features, Value, load_from_disk
from datasets.utils.logging import disable_progress_bar, enable_progress_bar
from filelock import FileLock
from tqdm import tqdm

from hf_ser.data.audio import encode_flac, leading_zeros_seconds, pcm_sha256, read_clip, rms_dbfs
from hf_ser.data.column_digests import open_checked, write_digests
from hf_ser.data.corpora import CORPORA
from hf_ser.data.corpora.table_folders import AUDIO_SUFFIXES
from hf_ser.data.corpora.table_paths import by_other_capitals
from hf_ser.data.download import fetch
from hf_ser.data.fingerprint import fingerprint
from hf_ser.data.folders import files_under
from hf_ser.data.integrity import (
    clip_findings,
    duplicate_findings,
    format_findings,
    format_integrity,
    integrity_report,
    outside_findings,
    speaker_findings,
)
from hf_ser.data.labels import (
    NATIVE,
    joint_labels,
    labels_not_found,
    mapped_classes,
    not_found_notice,
    read_label_map,
    relabelled,
)
from hf_ser.data.schema import METADATA_COLUMNS, Finding, Listing, Utterance, features
from hf_ser.files import atomic_write, cache_folder, restore_folder
from hf_ser.models.audio_notes import part_note
from hf_ser.models.streams import CHANNELS, MIX
from hf_ser.normal_form import normal_form, normal_text, printable, storable

PREPARATION = "3"
"""Version of preparing. Raise it when its result changes: cached data sets are then prepared again."""

SHARD_ROWS = 256
REPORT = "integrity.json"

MEASURED = (
    *("audio", "duration_seconds", "level_dbfs", "leading_zeros_seconds"),
    *("source_format", "source_bytes", "pcm_sha256", "fingerprint"),
)
"""Columns measured from the audio; null in rows of text only."""


def prepare(
    corpus: str,
    data_dir: str | Path | None,
    output_dir: str | Path,
    label_map: str = NATIVE,
    channel: str | None = None,
    **table,
) -> tuple[Dataset, dict]:
    """Read one or several corpora, check every clip and write the data set.

    Args:
        corpus: Key of CORPORA, or several separated by commas.
        data_dir: Folder of each corpus; None for a generated one.
        output_dir: Folder to write; it appears only once it is complete. A killed run is continued.
        label_map: Label map; the rows that it drops are counted in the report.
        channel: Channel of files with several, if a table does not give it: `mix` (the mean, also None), `left` or
            `right`.
        table: Options of a table: `columns`, `speaker_pattern`, `label_pattern`, `audio_dir`.

    Returns:
        The data set, memory-mapped, and its integrity report (also in `output_dir/integrity.json`).

    Raises:
        FileExistsError: the folder exists.
        ValueError: unknown corpus or label map, or no readable clip.
    """
    output_dir = Path(output_dir)
    work = output_dir.with_name(output_dir.name + ".partial")
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{work}.lock")  # two runs on one folder would overwrite each other's shards
    with lock:
        try:
            report = _prepare(corpus, data_dir, output_dir, work, label_map, channel, table)
        finally:
            Path(lock.lock_file).unlink(missing_ok=True)
    return load_prepared(output_dir), report


def _prepare(corpus: str, data_dir, output_dir: Path, work: Path, label_map: str, channel, table: dict) -> dict:
    if output_dir.exists():
        found = "is a prepared data set" if (output_dir / REPORT).is_file() else "holds other files, which stay"
        raise FileExistsError(f"{output_dir} is there already and {found}: name another --output_dir.")
    read_label_map(label_map)  # a wrong name is refused before the work
    listing = with_channel(list_corpora(corpus, data_dir, **table), channel)
    _start_or_resume(work, listing)
    shards = _write_shards(listing, work)
    whole = work / "whole"
    report = _assemble(corpus, listing, shards, label_map, whole)
    with atomic_write(whole / REPORT) as file:
        json.dump(report, file, indent=1)
    write_digests(whole)
    os.replace(whole, output_dir)
    shutil.rmtree(work)
    return report


def already_prepared(
    corpus: str,
    data_dir: str | Path | None,
    folder: str | Path,
    label_map: str = NATIVE,
    channel: str | None = None,
    copies: int = 0,
    **table,
) -> tuple[Dataset, dict] | None:
    """Open the data set that an earlier run prepared from the same corpus, with its report; None if there is none.

    Args:
        corpus, data_dir, label_map, channel, table: As of `prepare`.
        folder: Folder of the data set.
        copies: Changed copies of each clip.
    """
    folder = Path(folder)
    if not (folder / REPORT).is_file():
        return None
    dataset, report = load_prepared(folder), json.loads((folder / REPORT).read_text(encoding="utf-8"))
    listing = with_channel(list_corpora(corpus, data_dir, **table), channel)
    ids, origins = dataset["id"][:], [None] * len(dataset)
    if "copy_of" in dataset.column_names:
        origins = dataset["copy_of"][:]
    originals = {name for name, origin in zip(ids, origins, strict=True) if origin is None}
    made = len(ids) - len(originals)
    same = (report["corpus"], report["label_map"]) == (corpus, label_map) and bool(made) == bool(copies)
    same = same and report["n_listed"] == len(listing.utterances) + made
    return (dataset, report) if same and originals <= {one.id for one in listing.utterances} else None


def list_corpora(corpus: str, data_dir: str | Path | None, **table) -> Listing:
    """List the utterances of one or several corpora, sorted by id.

    Args:
        corpus: Key of CORPORA, or several separated by commas, such as `ravdess,emodb`.
        data_dir: Folder of each, separated by commas; an empty one is None.
        table: Options of `hf_ser.data.corpora.table.list_utterances`; None is the default.

    Raises:
        ValueError: an unknown or repeated corpus, another number of folders, options without a table.
    """
    folders = named_folders(corpus, data_dir)
    options = {option: value for option, value in table.items() if value is not None}
    if options and "table" not in folders:
        raise ValueError(f"{', '.join(options)}: found for corpus '{corpus}', expected with --corpus table.")
    if "columns" in options:
        options["columns"] = column_names(options["columns"])
    listings, findings = [], []
    for name, folder in folders.items():
        if not folder and name != "synthetic":
            raise ValueError(f"Corpus '{name}' is read from disk: give its folder with --data_dir.")
        own = options if name == "table" else {}
        listings.append(CORPORA[name].list_utterances(folder, **own))
        files = [one.audio for one in listings[-1].utterances if isinstance(one.audio, str | Path)]
        roots = [Path(folder).parent if os.path.isfile(folder) else folder] if folder else []
        roots += [own["audio_dir"]] if "audio_dir" in own else []
        findings += [*listings[-1].findings, *outside_findings(name, files, roots)]
    utterances = [_normal(utterance) for listing in listings for utterance in listing.utterances]
    return Listing(
        labels=joint_labels(listing.labels for listing in listings),
        utterances=sorted(utterances, key=lambda utterance: utterance.id),
        findings=findings,
    )


def _normal(utterance: Utterance) -> Utterance:
    """Normalise the texts of an utterance."""
    changed = {}
    for name in ("id", *METADATA_COLUMNS):
        if isinstance(value := getattr(utterance, name), str):
            text = normal_text(value) if name == "transcript" else normal_form(value)
            if text != value:
                changed[name] = text
    return replace(utterance, **changed) if changed else utterance


def with_channel(listing: Listing, channel: str | None) -> Listing:
    """Set the channel of every clip that has none.

    Raises:
        ValueError: unknown channel.
    """
    if channel not in (None, *CHANNELS):
        raise ValueError(f"--channel {channel}: expected {', '.join(CHANNELS)}.")
    utterances = [replace(one, channel=one.channel or channel or MIX) for one in listing.utterances]
    return replace(listing, utterances=utterances)


def named_folders(corpus: str, data_dir: str | Path | None) -> dict[str, str | Path | None]:
    """Folder of each corpus of `a,b` and `A,B`, None if not given.

    Raises:
        ValueError: an unknown or repeated corpus, another number of folders.
    """
    names = corpus.split(",")
    folders = [data_dir] if len(names) == 1 else str(data_dir or "").split(",")
    if unknown := [name for name in names if name not in CORPORA]:
        known = ", ".join(CORPORA)
        raise ValueError(f"Unknown corpus '{unknown[0]}': expected one of {known}, or several with commas.")
    if len(set(names)) < len(names) or len(folders) != len(names):
        raise ValueError(
            f"--corpus {corpus} with --data_dir {data_dir}: found {len(folders)} folders for {len(names)} corpora, "
            "expected each corpus once and a folder for each, with commas between: --corpus a,b --data_dir A,B."
        )
    return {name: folder or None for name, folder in zip(names, folders, strict=True)}


def column_names(text: str) -> dict[str, str]:
    """Parse `path=file,label=emotion`; an empty name leaves a column out.

    Raises:
        ValueError: another form.
    """
    pairs = [pair.split("=", 1) for pair in text.split(",")]
    if not all(len(pair) == 2 and pair[0] for pair in pairs):
        raise ValueError(f"--columns {text}: expected our names and the table's, such as path=file,label=emotion.")
    return dict(pairs)


def download_corpora(corpus: str, data_dir: str | Path | None) -> None:
    """Download corpora from their publishers.

    Raises:
        ValueError: a corpus that cannot be downloaded, or no folder for it; else as `hf_ser.data.download.fetch`.
    """
    folders = named_folders(corpus, data_dir)
    public = [name for name, module in CORPORA.items() if hasattr(module, "DOWNLOADS")]
    if refused := [name for name in folders if name not in public]:
        raise ValueError(
            f"--download: {refused[0]} cannot be downloaded (its owners grant the licence, or there is no lasting "
            f"address). Expected one of {', '.join(public)}: get it from {CORPORA[refused[0]].SOURCE}."
        )
    for name, folder in folders.items():
        if folder is None:
            raise ValueError(f"--download: no folder to put {name} into: name one with --data_dir.")
        print(f"{name}: {CORPORA[name].LICENCE}")
        fetch(CORPORA[name].DOWNLOADS, folder, CORPORA[name].PAGE)


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


def load_or_prepare(corpus: str, data_dir: str | Path | None, **table) -> Dataset:
    """Open the prepared data set of a corpus from the cache, after preparing it if it is missing.

    The cache is `$HF_SER_CACHE`, else `~/.cache/hf_ser`. Its entries are keyed by the listing (ids, labels, file sizes
    and times), so that a changed folder is read again; a generated corpus by its code. One process prepares and others
    wait.
    """
    cache = cache_folder()
    if corpus == "synthetic":
        digest = hashlib.sha256(PREPARATION.encode() + Path(CORPORA[corpus].__file__).read_bytes()).hexdigest()
    else:
        digest = listing_digest(list_corpora(corpus, data_dir, **table))
    folder = cache / f"{corpus.replace(',', '+')}-{digest[:16]}"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            print(format_integrity(prepare(corpus, data_dir, folder, **table)[1]))
    return load_prepared(folder)


def listing_digest(listing: Listing) -> str:
    """Hash of a listing, with size and times of each file.

    `st_ctime_ns` is included, since a file may be overwritten and get its old `st_mtime_ns`. Hashing all recordings
    would read the whole corpus before every training.
    """
    digest = hashlib.sha256(PREPARATION.encode())
    digest.update(repr(listing.labels).encode())
    for utterance in listing.utterances:
        audio = utterance.audio
        if isinstance(audio, bytes):
            audio = hashlib.sha256(audio).hexdigest()
        elif isinstance(audio, str | Path) and os.path.isfile(audio):  # also False for a name that is too long
            status = os.stat(audio)
            audio = (str(audio), status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        digest.update(repr(replace(utterance, audio=str(audio))).encode())
    return digest.hexdigest()


def read_row(utterance: Utterance, labels: tuple[str, ...]) -> tuple[dict | None, list[Finding]]:
    """Read one utterance; return its row (None if skipped) and findings."""
    row = {
        "id": utterance.id,
        "label": labels.index(utterance.label),
        "votes": _shares(utterance.votes, labels),
        "corpus": utterance.corpus,
        **{column: getattr(utterance, column) for column in METADATA_COLUMNS},
        **dict.fromkeys(MEASURED),
    }
    if utterance.audio is None:
        return row, []
    whole_file = isinstance(utterance.audio, str | Path) and utterance.start_seconds is utterance.end_seconds is None
    item = storable(str(utterance.audio)) if whole_file else utterance.id
    try:
        source = utterance.audio() if callable(utterance.audio) else utterance.audio
        clip = read_clip(source, utterance.start_seconds, utterance.end_seconds, utterance.channel or MIX)
    except (OSError, ValueError, MemoryError) as error:
        detail = str(error).removeprefix(f"{item}: ").replace(f": {item!r}", "")
        path = Path(utterance.audio) if isinstance(utterance.audio, str | Path) else None
        if path is not None and not os.path.lexists(path) and (other := by_other_capitals(path)):
            detail += f"; there is {printable(other)}, which differs in capitals: write the name as the file has it"
        return None, [Finding("unreadable", storable(item), detail, skipped=True)]
    findings = clip_findings(item, clip)
    if detail := part_note(utterance.start_seconds, utterance.end_seconds, clip.duration_seconds):
        findings.append(Finding("cut_short", item, detail))
    if any(finding.skipped for finding in findings):
        return None, findings
    name = storable(Path(source).name) if isinstance(source, str | Path) else utterance.id
    return row | {
        "audio": {"bytes": encode_flac(clip.samples), "path": name},
        "duration_seconds": clip.duration_seconds,
        "level_dbfs": rms_dbfs(clip.samples),
        "leading_zeros_seconds": leading_zeros_seconds(clip.samples),
        "source_format": clip.source_format,
        "source_bytes": clip.source_bytes,
        "pcm_sha256": pcm_sha256(clip.samples),
        "fingerprint": fingerprint(clip.samples),
    }, findings


def _shares(votes: dict[str, float] | None, labels: tuple[str, ...]) -> list[float] | None:
    """Votes as a distribution over the labels; None if there are none for them."""
    counts = [(votes or {}).get(label, 0.0) for label in labels]
    total = sum(counts)
    return [count / total for count in counts] if total > 0 else None


def _start_or_resume(work: Path, listing: Listing) -> None:
    """Keep a partial folder of the same listing, remove another."""
    digest, marker = f"{listing_digest(listing)} {SHARD_ROWS}", work / "listing.sha256"
    if work.is_dir() and not (marker.is_file() and marker.read_text() == digest):
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    with atomic_write(marker) as file:
        file.write(digest)


def _write_shards(listing: Listing, work: Path) -> list[Path]:
    """Read all clips, a shard at a time; a shard's folder appears only once it is complete."""
    starts = range(0, len(listing.utterances), SHARD_ROWS)
    shards = [work / f"shard_{start:09d}" for start in starts]
    with (
        quiet_datasets(),
        ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool,
        tqdm(total=len(listing.utterances), unit=" clips", desc="reading", disable=None) as bar,
    ):
        for start, shard in zip(starts, shards, strict=True):
            part = listing.utterances[start : start + SHARD_ROWS]
            if not shard.is_dir():
                read = []
                for one in pool.map(lambda utterance: read_row(utterance, listing.labels), part):
                    read.append(one)
                    bar.update()
                _write_shard(shard, read, listing.labels)
            else:
                bar.update(len(part))
    return shards


@contextmanager
def quiet_datasets() -> Iterator[None]:
    """Hide the progress bars of `datasets`, one per shard: ours shows all of them."""
    disable_progress_bar()
    try:
        yield
    finally:
        enable_progress_bar()


def _write_shard(shard: Path, read: list[tuple[dict | None, list[Finding]]], labels: tuple[str, ...]) -> None:
    rows = [row for row, _ in read if row is not None]
    temporary = shard.with_name(shard.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    if rows:  # a data set without rows could be saved, but not opened again
        _as_dataset(rows, labels).save_to_disk(temporary)
    findings = [vars(finding) for _, found in read for finding in found]
    (temporary / "findings.json").write_text(json.dumps(findings))
    os.replace(temporary, shard)


def _as_dataset(rows: list[dict], labels: tuple[str, ...]) -> Dataset:
    typed = features(labels)
    # Audio cells are built as structs and cast: encoding them as Audio would need torchcodec.
    stored = {"bytes": Value("binary"), "path": Value("string")}
    plain = Features({**typed, "label": Value("int64"), "audio": stored})
    columns = {name: [row[name] for row in rows] for name in plain}
    return Dataset.from_dict(columns, features=plain).cast(typed)


def _assemble(corpus: str, listing: Listing, shards: list[Path], label_map: str, whole: Path) -> dict:
    """Write the kept rows of all shards as one data set, and return the report."""
    read = [Finding(**found) for shard in shards for found in json.loads((shard / "findings.json").read_text())]
    filled = [shard for shard in shards if (shard / "state.json").is_file()]
    if not filled:
        raise _no_usable_clip(corpus, listing, read)
    rows = pd.concat([_report_columns(shard) for shard in filled], ignore_index=True)
    given = rows["label"].to_numpy(dtype=int)
    classes, index = mapped_classes(label_map, listing.labels, given)
    mapped = index[given]
    dropped = Counter(listing.labels[i] for i in given[mapped < 0])
    rows["label"] = [classes[i] if i >= 0 else None for i in mapped]
    rows = rows[mapped >= 0]
    duplicates = duplicate_findings(rows[["id", "label", "speaker", "pcm_sha256"]].to_dict("records"))
    rows = rows[~rows["id"].isin([finding.item for finding in duplicates])]
    if rows.empty:
        raise _no_usable_clip(corpus, listing, duplicates)
    lost, classes, index = _without_lost_classes(classes, index, listing, set(rows["label"]), [*read, *duplicates])
    _join(filled, set(rows["id"]), lambda part: relabelled(part, classes, index), whole)
    formats = format_findings(rows["id"].tolist(), rows["source_format"].tolist())
    findings = [*listing.findings, *read, *duplicates, *formats, *lost]
    findings += speaker_findings(corpus, rows["speaker"].tolist(), rows["label"].tolist())
    have = [listing.labels[i] for i in sorted(set(given.tolist()))]
    if missing := labels_not_found(label_map, have):
        detail = not_found_notice(label_map, missing, have)
        findings.append(Finding("label_map_not_found", label_map, detail, count=len(missing)))
    report = integrity_report(corpus, len(listing.utterances), rows.to_dict("list"), findings)
    passed_over = sum(finding.count for finding in listing.findings if finding.skipped)
    report["n_found"] = len(listing.utterances) + passed_over
    return report | {"label_map": label_map, "dropped_by_label_map": dict(sorted(dropped.items()))}


def _without_lost_classes(
    classes: Sequence[str], index: np.ndarray, listing: Listing, kept: set[str], findings: list[Finding]
) -> tuple[list[Finding], tuple[str, ...], np.ndarray]:
    """Remove classes whose listed clips were all skipped, unless fewer than two classes are left.

    Args:
        classes, index: From `mapped_classes`.
        listing: The listing.
        kept: Classes of the kept clips.
        findings: Reasons why clips were skipped.

    Returns:
        A finding for each removed class, and the classes and the index without them.
    """
    listed = {one.label for one in listing.utterances}
    gone = {
        name
        for number, name in enumerate(classes)
        if name not in kept and listed & {listing.labels[i] for i in np.flatnonzero(index == number)}
    }
    if len(kept) < 2 or not gone:
        return [], tuple(classes), index
    left = tuple(name for name in classes if name not in gone)
    new = np.array([left.index(classes[i]) if i >= 0 and classes[i] in left else -1 for i in index])
    of_label = {one.id: one.label for one in listing.utterances} | {str(u.audio): u.label for u in listing.utterances}
    lost = []
    for number, name in enumerate(classes):
        if name not in gone:
            continue
        labels = {listing.labels[i] for i in np.flatnonzero(index == number)}
        count = sum(one.label in labels for one in listing.utterances)
        why = Counter(one.kind for one in findings if one.skipped and of_label.get(one.item) in labels)
        reasons = f" ({', '.join(f'{kind} {n}' for kind, n in sorted(why.items()))})" if why else ""
        detail = f"none of its {count} clips can be used{reasons}: it is not a class of this data set"
        lost.append(Finding("lost_class", f"label {name}", detail))
    return lost, left, new


def _report_columns(shard: Path) -> pd.DataFrame:
    """Columns of a shard that the report needs, without the audio."""
    names = ["id", "label", "speaker", "sex", "pcm_sha256", "duration_seconds", "source_format"]
    table = load_from_disk(str(shard)).select_columns(names)
    return pd.DataFrame({name: table[name][:] for name in names}).astype(object).where(lambda one: one.notna(), None)


def _join(shards: list[Path], kept: set[str], change: Callable[[Dataset], Dataset], whole: Path) -> None:
    """Write one data set from many, as `save_to_disk` does, with one shard open at a time to save memory."""
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir()
    names, states = [], []
    with quiet_datasets():
        for number, shard in enumerate(shards):
            part = change(load_from_disk(str(shard)))
            part = part.select([row for row, name in enumerate(part["id"][:]) if name in kept])
            if part.num_rows == 0:
                continue
            part.save_to_disk(shard / "part", num_shards=1)
            names.append(f"data-{number:05d}-of-{len(shards):05d}.arrow")
            states.append(json.loads((shard / "part/state.json").read_text()))
            (written,) = states[-1]["_data_files"]
            os.replace(shard / "part" / written["filename"], whole / names[-1])
            shutil.copy(shard / "part/dataset_info.json", whole)
            shutil.rmtree(shard / "part")
    fingerprint = hashlib.sha256("".join(state["_fingerprint"] for state in states).encode()).hexdigest()[:16]
    state = states[0] | {"_data_files": [{"filename": name} for name in names], "_fingerprint": fingerprint}
    (whole / "state.json").write_text(json.dumps(state, indent=1))


def _no_usable_clip(corpus: str, listing: Listing, findings: list[Finding]) -> ValueError:
    first = next(finding for finding in findings if finding.skipped)
    files = [one.audio for one in listing.utterances if isinstance(one.audio, str | Path)]
    # Remedy for a table that is in another folder than its recordings.
    elsewhere = files and corpus == "table" and not any(os.path.isfile(file) for file in files)
    remedy = " None of its files exists: give --audio_dir DIR, the folder where its paths begin." if elsewhere else ""
    return ValueError(
        f"{corpus}: none of {len(listing.utterances)} clips could be used. The first: {printable(first.item)[-300:]}: "
        f"{printable(first.detail)}{remedy}"
    )
