"""Prepare a data set on disk from a corpus, in shards, so that a killed run can continue."""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from datasets import Dataset
from filelock import FileLock

from hf_ser.data.column_digests import write_digests
from hf_ser.data.corpora import CORPORA
from hf_ser.data.integrity import (
    duplicate_findings,
    format_findings,
    format_integrity,
    integrity_report,
    speaker_findings,
)
from hf_ser.data.labels import (
    NATIVE,
    labels_not_found,
    mapped_classes,
    not_found_notice,
    read_label_map,
    relabelled,
)
from hf_ser.data.listing import PREPARATION, list_corpora, listing_digest, with_channel
from hf_ser.data.prepared import REPORT, load_prepared
from hf_ser.data.schema import Finding, Listing
from hf_ser.data.shards import join_shards, report_columns, start_or_resume, write_shards
from hf_ser.files import atomic_write, cache_folder
from hf_ser.normal_form import printable


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
        raise FileExistsError(f"{output_dir} already exists and {found}: name another --output_dir.")
    read_label_map(label_map)  # a wrong name is refused before the work
    listing = with_channel(list_corpora(corpus, data_dir, **table), channel)
    start_or_resume(work, listing)
    shards = write_shards(listing, work)
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


def _assemble(corpus: str, listing: Listing, shards: list[Path], label_map: str, whole: Path) -> dict:
    """Write the kept rows of all shards as one data set, and return the report."""
    read = [Finding(**found) for shard in shards for found in json.loads((shard / "findings.json").read_text())]
    filled = [shard for shard in shards if (shard / "state.json").is_file()]
    if not filled:
        raise _no_usable_clip(corpus, listing, read)
    rows = pd.concat([report_columns(shard) for shard in filled], ignore_index=True)
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
    join_shards(filled, set(rows["id"]), lambda part: relabelled(part, classes, index), whole)
    formats = format_findings(rows["id"].tolist(), rows["source_format"].tolist())
    findings = [*listing.findings, *read, *duplicates, *formats, *lost]
    findings += speaker_findings(corpus, rows["speaker"].tolist(), rows["label"].tolist())
    have = [listing.labels[i] for i in sorted(set(given.tolist()))]
    if missing := labels_not_found(label_map, have):
        detail = not_found_notice(label_map, missing, have)
        findings.append(Finding("label_map_not_found", label_map, detail, count=len(missing)))
    report = integrity_report(corpus, len(listing.utterances), rows.to_dict("list"), findings)
    n_skipped = sum(finding.count for finding in listing.findings if finding.skipped)
    report["n_found"] = len(listing.utterances) + n_skipped
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
