"""Read the clips of a listing into shards, each complete or absent, and join them."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa
from datasets import Dataset, load_from_disk
from datasets.table import InMemoryTable
from datasets.utils.logging import disable_progress_bar, enable_progress_bar

from hf_ser.data.audio import encode_flac, leading_zeros_seconds, pcm_sha256, read_clip, rms_dbfs
from hf_ser.data.corpora.table_paths import by_other_capitals
from hf_ser.data.fingerprint import fingerprint
from hf_ser.data.integrity import clip_findings
from hf_ser.data.listing import listing_digest
from hf_ser.data.schema import METADATA_COLUMNS, Finding, Listing, Utterance, features
from hf_ser.files import atomic_write
from hf_ser.models.audio_notes import part_note
from hf_ser.models.streams import MIX
from hf_ser.normal_form import printable, storable
from hf_ser.progress import Progress
from hf_ser.stable import text_digest

SHARD_ROWS = 256

MEASURED = (
    *("audio", "duration_seconds", "level_dbfs", "leading_zeros_seconds"),
    *("source_format", "source_bytes", "pcm_sha256", "fingerprint"),
)
"""Columns measured from the audio; null in rows of text only."""


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


def start_or_resume(work: Path, listing: Listing) -> None:
    """Keep a partial folder of the same listing, remove another."""
    digest, marker = f"{listing_digest(listing)} {SHARD_ROWS}", work / "listing.sha256"
    if work.is_dir() and not (marker.is_file() and marker.read_text() == digest):
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    with atomic_write(marker) as file:
        file.write(digest)


def write_shards(listing: Listing, work: Path) -> list[Path]:
    """Read all clips, a shard at a time; a shard's folder appears only once it is complete."""
    starts = range(0, len(listing.utterances), SHARD_ROWS)
    shards = [work / f"shard_{start:09d}" for start in starts]
    with (
        quiet_datasets(),
        ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool,
        Progress(len(listing.utterances), "reading", "clips") as bar,
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
        _as_dataset(rows, labels).save_to_disk(temporary, num_shards=1)
    findings = [vars(finding) for _, found in read for finding in found]
    (temporary / "findings.json").write_text(json.dumps(findings))
    os.replace(temporary, shard)


def _as_dataset(rows: list[dict], labels: tuple[str, ...]) -> Dataset:
    # From an Arrow table, since `datasets` needs torchcodec to encode Audio, and hashes all of the audio to make a
    # fingerprint, although the rows have a hash of it.
    schema = features(labels).arrow_schema
    table = pa.table({name: [row[name] for row in rows] for name in schema.names}, schema=schema)
    described = [[value for name, value in row.items() if name != "audio"] for row in rows]
    return Dataset(InMemoryTable(table), fingerprint=text_digest(repr((labels, described)))[:16])


def report_columns(shard: Path) -> pd.DataFrame:
    """Columns of a shard that the report needs, without the audio."""
    names = ["id", "label", "speaker", "sex", "pcm_sha256", "duration_seconds", "source_format"]
    table = load_from_disk(str(shard)).select_columns(names)
    return pd.DataFrame({name: table[name][:] for name in names}).astype(object).where(lambda one: one.notna(), None)


def join_shards(shards: list[Path], kept: set[str], change: Callable[[Dataset], Dataset], whole: Path) -> None:
    """Write one data set from many, as `save_to_disk` does, with one shard open at a time to save memory."""
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir()
    names, states = [], []
    with quiet_datasets():
        for number, shard in enumerate(shards):
            stored = load_from_disk(str(shard))
            part = change(stored)
            rows = [row for row, name in enumerate(part["id"][:]) if name in kept]
            if not rows:
                continue
            folder = shard
            if part is not stored or len(rows) < len(part) or len(stored.cache_files) > 1:
                folder = shard / "part"
                part.select(rows).save_to_disk(folder, num_shards=1)
            names.append(f"data-{number:05d}-of-{len(shards):05d}.arrow")
            states.append(json.loads((folder / "state.json").read_text()))
            (written,) = states[-1]["_data_files"]
            _link_or_copy(folder / written["filename"], whole / names[-1])
            shutil.copy(folder / "dataset_info.json", whole)
            shutil.rmtree(shard / "part", ignore_errors=True)
    fingerprint = hashlib.sha256("".join(state["_fingerprint"] for state in states).encode()).hexdigest()[:16]
    state = states[0] | {"_data_files": [{"filename": name} for name in names], "_fingerprint": fingerprint}
    (whole / "state.json").write_text(json.dumps(state, indent=1))


def _link_or_copy(file: Path, new: Path) -> None:
    """Link a file under a new name, so that a killed run still finds the old one; copy it where links do not work."""
    try:
        os.link(file, new)
    except OSError:
        shutil.copyfile(file, new)
