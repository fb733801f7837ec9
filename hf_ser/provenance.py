"""What a model was trained on, written beside it, and the check that no later stage is tested on it."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import PartialState
from datasets import Dataset
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HTTPError, LocalEntryNotFoundError

from hf_ser.files import atomic_write
from hf_ser.models import PRESETS, TEXT_PRESETS
from hf_ser.protocols import Fold
from hf_ser.revisions import HUB_NAME, split_revision

RECORD = "training_record.json"
REMEDY = (
    "train it with the same --protocol, --split_seed and --fold (several folds: name it with {fold}, such as "
    "runs/audio/fold_{fold})"
)
REMEDIES = {
    "transcripts": "transcribe with the recogniser of this fold (--asr runs/asr/fold_1 --output_dir DS_1), or use "
    "--transcript_source reference"
}
"""What to do about a model that has met the test rows, by its modality where it is not `REMEDY`."""


def hashed(name: str) -> str:
    """Hash of an id or a speaker, so that a record can be shared without naming files or people."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def seen(dataset: Dataset, rows) -> dict[str, list[str]]:
    """Hashes of the utterances, the sounds and the speakers in some rows."""
    part = dataset.select_columns(["id", "pcm_sha256", "speaker"]).select(rows)[:]
    return {
        "ids": sorted(hashed(name) for name in part["id"]),
        "pcm": sorted(sha[:16] for sha in part["pcm_sha256"] if sha),
        "speakers": sorted({hashed(speaker) for speaker in part["speaker"] if speaker}),
    }


def split_record(dataset: Dataset, fold: Fold) -> dict:
    """What of a data set trains, chooses and tests in a fold."""
    return {
        "fold": fold.name,
        "split_fingerprint": fold.fingerprint,
        "train": seen(dataset, fold.train),
        "validation": seen(dataset, fold.validation),
    }


def write_record(folder: str | Path, record: dict) -> None:
    """Write a training record beside a model."""
    with atomic_write(Path(folder) / RECORD) as file:
        json.dump(record, file, indent=1, default=asdict)


def read_record(source: str | Path) -> dict | None:
    """The record of a model, None where there is none (a model of others).

    It lies in the fold's folder, which may be above the one given: `fold_1/adapter`, `fold_1/checkpoints/checkpoint-9`.

    Args:
        source: A folder, or a name of the Hub, also with `@REVISION`.

    Raises:
        ValueError: the Hub does not tell whether there is one.
    """
    folder = Path(source)
    for place in (folder, *list(folder.absolute().parents)[:2]) if folder.is_dir() else ():
        if (place / RECORD).is_file():
            return json.loads((place / RECORD).read_text(encoding="utf-8"))
    if isinstance(source, str) and HUB_NAME.fullmatch(source) and not folder.exists():
        return _record_on_hub(source)
    return None


def _record_on_hub(name: str) -> dict | None:
    """The record beside a model on the Hub, or in the cache; offline, what is not there is not recorded."""
    repository, revision = split_revision(name)
    try:
        file = hf_hub_download(repository, RECORD, revision=revision)
    except (EntryNotFoundError, HTTPError, OSError) as error:
        unreached = isinstance(error, LocalEntryNotFoundError) and not constants.HF_HUB_OFFLINE
        if isinstance(error, EntryNotFoundError) and not unreached:
            return None
        raise ValueError(
            f"{name}: found no answer to whether {RECORD} lies beside this model ({str(error).partition(chr(10))[0]}), "
            "expected one: without it nothing tells what the model was trained on. Check name, revision and connection "
            "and try again, or set HF_HUB_OFFLINE=1 to use the cache alone."
        ) from error
    record = json.loads(Path(file).read_text(encoding="utf-8"))
    return record if isinstance(record, dict) and "split" in record else None  # others may use this file's name too


def is_finished(folder: str | Path) -> bool:
    """Whether a fold's folder holds a model that was trained to its end."""
    file = Path(folder) / RECORD
    return file.is_file() and json.loads(file.read_text(encoding="utf-8"))["finished"]


def stage_leaks(dataset: Dataset, fold: Fold, sources: dict[str, str], allow_leak: bool) -> list[str]:
    """Check that no encoder has been trained, or its checkpoint chosen, on rows that this fold is judged by.

    An encoder may have been trained on what trains here, and its checkpoint chosen on what trains or chooses here.
    What trained it itself (a fused model's own encoders, say) is recorded in `ancestors` and checked too.

    Args:
        dataset: The data set.
        fold: The fold to be trained.
        sources: Folder or name of each encoder, by modality.
        allow_leak: Name the leak instead of refusing it.

    Returns:
        Leaks found, one word each.

    Raises:
        ValueError: an encoder has seen rows or speakers of this fold's validation or test part.
    """
    test, validation = seen(dataset, fold.test), seen(dataset, fold.validation)
    leaks = []
    for modality, source in sources.items():
        for record in ancestry(source):
            trained, chosen = record["train"], record["validation"]
            pairs = (("trained", trained, "test", test), ("trained", trained, "validation", validation))
            for how, theirs, part, ours in (*pairs, ("chosen", chosen, "test", test)):
                shared = {kind: len(set(theirs[kind]) & set(ours[kind])) for kind in ours}
                if not any(shared.values()):
                    continue
                if not allow_leak:
                    raise ValueError(
                        f"{source}: this {modality} model was {how} on data that fold {fold.name} uses as {part} "
                        f"({shared['ids']} utterances, {shared['pcm']} equal sounds, {shared['speakers']} speakers are "
                        f"shared). Expected one that has not met them: {REMEDIES.get(modality, REMEDY)}; "
                        "or add --allow_leak to have the result stamped as leaked."
                    )
                leaks.append(f"stage_leakage_{modality}_{part}")
    return sorted(set(leaks))


def ancestry(source: str) -> list[dict]:
    """The split records of an encoder and of what it was itself built from."""
    record = read_record(source)
    return [] if record is None else [record["split"], *record["ancestors"]]


def made_here(source: str) -> bool:
    """Whether an encoder is one of ours, which starts from random weights."""
    return source in PRESETS or source in TEXT_PRESETS


def provenance(sources: dict[str, str]) -> dict[str, str]:
    """How each encoder came to be, in words for the report."""
    return {
        modality: "trained here from scratch"
        if made_here(source)
        else f"{source} (training data recorded)"
        if read_record(source)
        else f"{source} (its training data is not recorded)"
        for modality, source in sources.items()
    }


def hardware() -> str:
    """What this process and its siblings compute on."""
    state = PartialState()
    name = (
        torch.cuda.get_device_name(state.device)
        if state.device.type == "cuda"
        else f"{torch.get_num_threads()} CPU threads"
    )
    return f"{state.num_processes} process(es) on {name}"
