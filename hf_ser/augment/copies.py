"""A data set with changed copies of its clips, as older systems made them before the split: to measure that leak.

Split at random, such a data set has copies of test clips in training. `without_evaluated_copies` reports that as a
leak, and otherwise removes copies from validation and test.
"""

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, Value

from hf_ser.augment.augmenter import Augmenter
from hf_ser.augment.specification import parse_augmentation
from hf_ser.data.audio import encode_flac, leading_zeros_seconds, on_grid, pcm_sha256, rms_dbfs
from hf_ser.data.column_digests import write_digests
from hf_ser.data.fingerprint import fingerprint
from hf_ser.data.folds import Fold
from hf_ser.data.folds import fingerprint as split_fingerprint
from hf_ser.data.integrity import integrity_report
from hf_ser.data.prepared import REPORT, load_prepared
from hf_ser.data.schema import SAMPLING_RATE, SPLITS, Finding
from hf_ser.files import atomic_write, hidden_sibling
from hf_ser.models.decoding import decode_audio

COPIES_LEAK = "augmented_copy_overlap"
"""Beginning of the name of the leak of copies of one clip in two parts."""


def prepare_copies(
    prepared: str | Path, output_dir: str | Path, copies: int, spec: str, seed: int = 0, noise_dir=None
) -> tuple[Dataset, dict]:
    """Write a prepared data set again with changed copies of each row; the folder appears only once it is complete.

    Args:
        prepared: Folder of the originals.
        output_dir: Folder to write.
        copies: Copies of each row with audio. Their ids are `<id>#copy1` and so on, and `copy_of` is the id of the
            original (null in the originals).
        spec: As `parse_augmentation` reads it.
        seed: Seed of the draws.
        noise_dir: Folder for `noise_folder`.

    Returns:
        The data set and its integrity report, which counts the copies.

    Raises:
        FileExistsError: the folder exists.
        ValueError: fewer than one copy, a data set with copies, babble in `spec`, or as `Augmenter`.
    """
    output_dir = Path(output_dir)
    if output_dir.exists():
        raise FileExistsError(f"{output_dir} is there already: name another --output_dir.")
    originals, work = load_prepared(prepared), hidden_sibling(output_dir, "copies")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    _check_copies(originals, copies, spec)
    augmenter = Augmenter(spec, originals, range(len(originals)), noise_dir, seed)
    dataset = _add_copies(originals, copies, augmenter, work / "rows.arrow")
    dataset.save_to_disk(work / "whole")
    given = json.loads((Path(prepared) / REPORT).read_text(encoding="utf-8"))
    report = _report_with_copies(given, dataset, f"{copies} of each clip: {spec}, seed {seed}")
    with atomic_write(work / "whole" / REPORT) as file:
        json.dump(report, file, indent=1)
    write_digests(work / "whole")
    os.replace(work / "whole", output_dir)
    shutil.rmtree(work)
    return load_prepared(output_dir), report


def _report_with_copies(report: dict, dataset: Dataset, description: str) -> dict:
    """Integrity report of a data set with copies, from that of the originals."""
    names = ("label", "speaker", "sex", "duration_seconds", "source_format")
    columns = {name: dataset[name][:] for name in names}
    columns["label"] = [dataset.features["label"].names[label] for label in columns["label"]]
    made = sum(origin is not None for origin in dataset["copy_of"][:])
    findings = [Finding(**found) for found in report["findings"]]
    detail = f"{made} clips are changed copies of others, {description}"
    findings.append(Finding("augmented_copies", report["corpus"], detail))
    counted = integrity_report(report["corpus"], report["n_listed"] + made, columns, findings)
    return report | counted | {"n_found": report.get("n_found", report["n_listed"]) + made}


def _check_copies(dataset: Dataset, copies: int, spec: str) -> None:
    if copies < 1 or "copy_of" in dataset.column_names:
        found = "copies already" if "copy_of" in dataset.column_names else f"{copies} copies of each clip"
        raise ValueError(f"--augmented_copies: found {found}, expected 1 or more for a data set without: change it.")
    if any(drawn.name == "babble" for turn in parse_augmentation(spec) for drawn in turn):
        raise ValueError(
            f"--augment {spec}: found babble for copies that are made before any split, where it mixes voices of "
            "test clips into training. Expected changes of a clip by itself: leave babble out, or use it in training."
        )


def _add_copies(dataset: Dataset, copies: int, augmenter: Augmenter, cache_file: Path) -> Dataset:
    """Data set in which each row is followed by its changed copies."""
    # `datasets` would need torchcodec to write Audio cells.
    stored = {"bytes": Value("binary"), "path": Value("string")}
    plain = Features({**dataset.features, "label": Value("int64"), "audio": stored, "copy_of": Value("string")})
    made = dataset.cast(Features({**dataset.features, "label": Value("int64"), "audio": stored})).map(
        _with_copies,
        batched=True,
        batch_size=32,
        fn_kwargs={"copies": copies, "augmenter": augmenter},
        features=plain,
        remove_columns=dataset.column_names,
        cache_file_name=str(cache_file),
        load_from_cache_file=False,
        new_fingerprint=hashlib.sha256(repr((dataset["id"][:], copies, augmenter.keys)).encode()).hexdigest()[:16],
        desc="copies",
    )
    return made.cast(Features({**dataset.features, "copy_of": Value("string")}))


def _with_copies(rows: dict[str, list], copies: int, augmenter: Augmenter) -> dict[str, list]:
    """Batch of rows, each followed by its changed copies."""
    made = []
    for values in zip(*rows.values(), strict=True):
        row: dict[str, Any] = {**dict(zip(rows, values, strict=True)), "copy_of": None}
        made.append(row)
        if row["audio"] is not None:
            samples = decode_audio(row["audio"])
            made += [_copy(row, augmenter(samples, row["id"], view), view) for view in range(1, copies + 1)]
    return {name: [row[name] for row in made] for name in made[0]}


def _copy(row: dict[str, Any], samples: np.ndarray, number: int) -> dict[str, Any]:
    """Row of a changed clip, with the measured columns of its audio."""
    samples, name = on_grid(samples), f"{row['id']}#copy{number}"
    return row | {
        "id": name,
        "copy_of": row["id"],
        "audio": {"bytes": encode_flac(samples), "path": f"{row['audio']['path']}#copy{number}"},
        "duration_seconds": len(samples) / SAMPLING_RATE,
        "level_dbfs": rms_dbfs(samples),
        "leading_zeros_seconds": leading_zeros_seconds(samples),
        "pcm_sha256": pcm_sha256(samples),
        "fingerprint": fingerprint(samples),
    }


def without_evaluated_copies(dataset: Dataset, fold: Fold) -> Fold:
    """Remove augmented copies from the validation and test parts of a fold, or report them as a leak.

    If copies of one clip are in two parts, the fold is unchanged and its leaks name the parts, since that is the
    mistake to be measured. Speaker-independent protocols have all copies of a clip in one part.
    """
    if "copy_of" not in dataset.column_names:
        return fold
    ids, origins = dataset["id"][:], dataset["copy_of"][:]
    parts = {part: getattr(fold, part) for part in SPLITS}
    sources = {part: {origins[row] or ids[row] for row in rows} for part, rows in parts.items()}
    pairs = (("train", "test"), ("validation", "test"), ("train", "validation"))
    shared = tuple(f"{COPIES_LEAK}_{one}_{other}" for one, other in pairs if sources[one] & sources[other])
    if shared:
        return replace(fold, leaks=(*fold.leaks, *shared))
    for part in ("validation", "test"):
        parts[part] = np.array([row for row in parts[part] if origins[row] is None], dtype=int)
    named = {part: [ids[row] for row in rows] for part, rows in parts.items()}
    return replace(fold, **parts, fingerprint=split_fingerprint(named))
