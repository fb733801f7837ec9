"""Utterances to a data set on disk that memory-maps, in shards, so that a killed run goes on where it was."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from datasets import Dataset, Features, Value, concatenate_datasets, load_from_disk
from datasets.utils.logging import disable_progress_bar, enable_progress_bar
from filelock import FileLock
from tqdm import tqdm

from hf_ser.audio import encode_flac, pcm_sha256, read_clip
from hf_ser.integrity import clip_findings, duplicate_findings, format_findings, format_integrity, integrity_report
from hf_ser.columns import Finding, Listing, Utterance, features
from hf_ser.corpora import CORPORA
from hf_ser.files import atomic_write

PREPARATION = "1"
"""Version of what preparing does to a clip. Raise it when that changes: cached data sets are then made anew."""

SHARD_ROWS = 256
REPORT = "integrity.json"


def prepare(corpus: str, data_dir: str | Path | None, output_dir: str | Path) -> tuple[Dataset, dict]:
    """Read a corpus, check every clip and write the data set.

    Args:
        corpus: Key of CORPORA.
        data_dir: Where it lies; None for a corpus that is generated.
        output_dir: Folder to write; it appears only when it is whole. What a killed run had done is taken up.

    Returns:
        The data set, memory-mapped, and its integrity report (also in `output_dir/integrity.json`).

    Raises:
        FileExistsError: the folder is there already.
        ValueError: unknown corpus, or no clip could be read.
    """
    output_dir = Path(output_dir)
    if output_dir.exists():
        raise FileExistsError(f"{output_dir} is there already: remove it, or name another --output_dir.")
    listing = list_corpus(corpus, data_dir)
    work = output_dir.with_name(output_dir.name + ".partial")
    _start_or_resume(work, listing)
    shards = _write_shards(listing, work)
    dataset, report = _assemble(corpus, listing, shards)
    whole = work / "whole"
    shutil.rmtree(whole, ignore_errors=True)
    with _quiet_datasets():
        dataset.save_to_disk(whole)
    with atomic_write(whole / REPORT) as file:
        json.dump(report, file, indent=1)
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    os.replace(whole, output_dir)
    shutil.rmtree(work)
    return load_prepared(output_dir), report


def list_corpus(corpus: str, data_dir: str | Path | None) -> Listing:
    """What a corpus holds, sorted by id.

    Raises:
        ValueError: unknown corpus, or it needs a folder and none is given.
    """
    if corpus not in CORPORA:
        raise ValueError(f"Unknown corpus '{corpus}': expected one of {', '.join(CORPORA)}.")
    if data_dir is None and corpus != "synthetic":
        raise ValueError(f"Corpus '{corpus}' is read from disk: say where it lies with --data_dir.")
    listing = CORPORA[corpus].list_utterances(data_dir)
    return replace(listing, utterances=sorted(listing.utterances, key=lambda utterance: utterance.id))


def load_prepared(folder: str | Path) -> Dataset:
    """Open a prepared data set without reading its audio.

    Raises:
        FileNotFoundError: the folder is missing, unfinished or no prepared data set.
    """
    folder = Path(folder)
    if not (folder / REPORT).is_file():
        partial = folder.with_name(folder.name + ".partial")
        found = f"an unfinished one, {partial}" if partial.is_dir() else "no prepared data set"
        raise FileNotFoundError(
            f"{folder}: found {found}. Expected a folder written by scripts/prepare_data.py: run it with "
            f"--output_dir {folder} (an unfinished one is taken up where it was)."
        )
    return load_from_disk(str(folder))


def load_or_prepare(corpus: str, data_dir: str | Path | None) -> Dataset:
    """The prepared data set of a corpus from the cache, prepared first if it is not there.

    The cache is `$HF_SER_CACHE`, else `~/.cache/hf_ser`. Its entries are named by what the corpus lists (ids, labels,
    file sizes and times), so that a changed folder is read anew; a generated corpus by the code that generates it. Of
    several processes, and of several runs, one prepares and the others wait.
    """
    cache = Path(os.environ.get("HF_SER_CACHE", "~/.cache/hf_ser")).expanduser()
    if corpus == "synthetic":
        digest = hashlib.sha256(PREPARATION.encode() + Path(CORPORA[corpus].__file__).read_bytes()).hexdigest()
    else:
        digest = listing_digest(list_corpus(corpus, data_dir))
    folder = cache / f"{corpus}-{digest[:16]}"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            print(format_integrity(prepare(corpus, data_dir, folder)[1]))
    return load_prepared(folder)


def listing_digest(listing: Listing) -> str:
    """Hash of everything a listing says, with size and time of each file."""
    digest = hashlib.sha256(PREPARATION.encode())
    digest.update(repr(listing.labels).encode())
    for utterance in listing.utterances:
        audio = utterance.audio
        if isinstance(audio, bytes):
            audio = hashlib.sha256(audio).hexdigest()
        elif Path(audio).is_file():
            audio = (str(audio), os.stat(audio).st_size, os.stat(audio).st_mtime_ns)
        digest.update(repr(replace(utterance, audio=str(audio))).encode())
    return digest.hexdigest()


def read_row(utterance: Utterance, labels: tuple[str, ...]) -> tuple[dict | None, list[Finding]]:
    """Read one utterance: its row (None if it is skipped) and what was found."""
    item = utterance.id if isinstance(utterance.audio, bytes) else str(utterance.audio)
    try:
        clip = read_clip(utterance.audio)
    except (OSError, ValueError) as error:
        return None, [Finding("unreadable", item, str(error), skipped=True)]
    findings = clip_findings(item, clip)
    if any(finding.skipped for finding in findings):
        return None, findings
    votes = None
    if utterance.votes:
        total = sum(utterance.votes.values())
        votes = [utterance.votes.get(label, 0.0) / total for label in labels]
    columns = ("id", "speaker", "sex", "session", "sentence", "transcript", "transcript_source", "corpus")
    name = utterance.id if isinstance(utterance.audio, bytes) else Path(utterance.audio).name
    return {
        **{column: getattr(utterance, column) for column in columns},
        "audio": {"bytes": encode_flac(clip.samples), "path": name},
        "label": labels.index(utterance.label),
        "votes": votes,
        "duration_seconds": clip.duration_seconds,
        "pcm_sha256": pcm_sha256(clip.samples),
        "source_format": clip.source_format,
    }, findings


def _start_or_resume(work: Path, listing: Listing) -> None:
    """Keep a partial folder of the same listing, drop one of another."""
    digest, marker = f"{listing_digest(listing)} {SHARD_ROWS}", work / "listing.sha256"
    if work.is_dir() and not (marker.is_file() and marker.read_text() == digest):
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    with atomic_write(marker) as file:
        file.write(digest)


def _write_shards(listing: Listing, work: Path) -> list[Path]:
    """Read all clips, a shard at a time; a shard's folder appears only when it is whole."""
    starts = range(0, len(listing.utterances), SHARD_ROWS)
    shards = [work / f"shard_{start:09d}" for start in starts]
    with (
        _quiet_datasets(),
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
def _quiet_datasets() -> Iterator[None]:
    """Without the bars of `datasets`, one a shard: ours runs over all of them."""
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
        _typed(rows, labels).save_to_disk(temporary)
    findings = [vars(finding) for _, found in read for finding in found]
    (temporary / "findings.json").write_text(json.dumps(findings))
    os.replace(temporary, shard)


def _typed(rows: list[dict], labels: tuple[str, ...]) -> Dataset:
    typed = features(labels)
    # Audio cells are built as plain structs and cast: encoding them as Audio would ask for torchcodec.
    stored = {"audio": {"bytes": Value("binary"), "path": Value("string")}, "source_format": Value("string")}
    plain = Features({**typed, "label": Value("int64"), **stored})
    columns = {name: [row[name] for row in rows] for name in plain}
    dataset = Dataset.from_dict(columns, features=plain)
    return dataset.cast(Features({**typed, "source_format": Value("string")}))


def _assemble(corpus: str, listing: Listing, shards: list[Path]) -> tuple[Dataset, dict]:
    read = [Finding(**found) for shard in shards for found in json.loads((shard / "findings.json").read_text())]
    filled = [load_from_disk(str(shard)) for shard in shards if (shard / "state.json").is_file()]
    dataset = concatenate_datasets(filled) if filled else _typed([], listing.labels)
    light = {name: dataset[name][:] for name in ("id", "label", "speaker", "pcm_sha256")}
    light["label"] = [listing.labels[i] for i in light["label"]]
    duplicates = duplicate_findings(dict(zip(light, row, strict=True)) for row in zip(*light.values(), strict=True))
    dropped = {finding.item for finding in duplicates}
    kept = np.array([i for i, name in enumerate(light["id"]) if name not in dropped], dtype=np.int64)
    findings = [*listing.findings, *read, *duplicates]
    if len(kept) == 0:
        first = next(finding for finding in [*read, *duplicates] if finding.skipped)
        raise ValueError(
            f"{corpus}: none of {len(listing.utterances)} clips could be used. The first: {first.item}: {first.detail}"
        )
    dataset = dataset.select(kept)
    columns = {name: dataset[name][:] for name in ("label", "speaker", "sex", "duration_seconds", "source_format")}
    columns["label"] = [listing.labels[i] for i in columns["label"]]
    findings += format_findings(dataset["id"][:], columns["source_format"])
    report = integrity_report(corpus, len(listing.utterances), columns, findings)
    return dataset.remove_columns("source_format"), report
