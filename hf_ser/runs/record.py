"""The training record of a model, and the check that no later stage is tested on what the model was trained on."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import PartialState
from datasets import Dataset
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HTTPError, LocalEntryNotFoundError

from hf_ser.data.labels import NATIVE, apply_label_map
from hf_ser.data.protocols import Fold
from hf_ser.files import atomic_write
from hf_ser.models import PRESETS, TEXT_PRESETS
from hf_ser.revisions import HUB_NAME, split_revision
from hf_ser.transcripts.fold_transcripts import with_transcript_source

RECORD = "training_record.json"
ASR_RECORD = "asr"
"""Folder of a transcribed data set that holds the record of its recogniser's training."""
REMEDY = (
    "train it with the same --protocol, --split_seed and --fold (several folds: name it with {fold}, such as "
    "runs/audio/fold_{fold})"
)
REMEDIES = {
    "transcripts": "transcribe with the recogniser of this fold (--asr runs/asr/fold_1 --output_dir DS_1), or use "
    "--transcript_source reference"
}
"""Remedies against a model that was trained on test rows, by modality; `REMEDY` for all others."""

ROW_HASHES = ("ids", "pcm", "speakers")
"""Hashes that a record holds of the rows of a part: ids, samples, speakers."""


def hashed(name: str) -> str:
    """Hash of an id or a speaker: a record names neither files nor people."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def row_hashes(dataset: Dataset, rows) -> dict[str, list[str]]:
    """Hashes of the ids, the audio and the speakers of some rows."""
    part = dataset.select_columns(["id", "pcm_sha256", "speaker"]).select(rows)[:]
    return {
        "ids": sorted(hashed(name) for name in part["id"]),
        "pcm": sorted(sha[:16] for sha in part["pcm_sha256"] if sha),
        "speakers": sorted({hashed(speaker) for speaker in part["speaker"] if speaker}),
    }


WITHHELD = "withheld"
"""Key of a part in the record of a pushed model: which of ROW_HASHES were removed."""
GUESSABLE = ("ids", "speakers")
"""Those of ROW_HASHES that a list of names reveals. Audio cannot be guessed from its hash."""

CANNOT_BE_CHECKED = "whom it was trained on is withheld: beyond equal recordings, this cannot be checked"

PUBLIC_KEYS = frozenset(
    (
        *("finished", "protocol", "leaks", "audit", "settings", "notes", "weights", "not_copies", "search", "corpora"),
        *("train_seconds", "prepare_seconds", "encoders", "sources", "base_models", "seed", "parameters"),
        *("parameters_trained", "transcript_sources", "words", "hardware", "precision", "best_validation_uar"),
        *("history", "solved"),
    )
)
"""Keys of a record that are published with a model, beside its split and its ancestors."""

PUBLIC_SPLIT_KEYS = ("fold", "split_fingerprint", "corpora")
"""Keys of a split that are published, beside the `ROW_HASHES` of its parts."""


def public_record(record: dict) -> dict:
    """A training record with its public keys only; of cleared pairs their number."""
    kept = {key: value for key, value in record.items() if key in PUBLIC_KEYS}
    if cleared := record.get("not_copies"):
        kept["not_copies"] = {"count": _number_of_pairs(cleared), "sha256": cleared.get("sha256", "")}
    if record.get("split"):
        kept["split"] = _public_split(record["split"])
    if "ancestors" in record:
        kept["ancestors"] = [_public_split(split) for split in record["ancestors"] or []]
    return kept


def _number_of_pairs(cleared: dict) -> int:
    return len(cleared["pairs"]) if "pairs" in cleared else cleared.get("count", 0)


def _public_split(split: dict) -> dict:
    parts = {
        part: {key: split[part][key] for key in (*ROW_HASHES, WITHHELD) if key in split[part]}
        for part in ("train", "validation")
    }
    return {key: split[key] for key in PUBLIC_SPLIT_KEYS if key in split} | parts


def public_record_without_names(record: dict) -> dict:
    """A public training record without hashes of speakers and ids; `WITHHELD` names what was removed."""
    kept = public_record(record)
    if kept.get("split"):
        kept["split"] = _split_without_names(kept["split"])
    if kept.get("ancestors"):
        kept["ancestors"] = [_split_without_names(split) for split in kept["ancestors"]]
    return kept


def _split_without_names(split: dict) -> dict:
    nothing = {key: [] for key in GUESSABLE} | {WITHHELD: list(GUESSABLE)}
    return split | {part: split[part] | nothing for part in ("train", "validation")}


UNRECORDED = "not recorded"
"""In place of a corpus, for an encoder whose training data is unknown."""
NOT_RECORDED = "its training data is not recorded"


def corpora_of_stages(record: dict) -> set[str]:
    """The corpora that a model and its initial encoders were trained on; `UNRECORDED` where one is unknown.

    A Hub encoder without a record counts as public; a local folder without one counts as unknown.
    """
    found = set(record.get("corpora") or [UNRECORDED])
    for split in record.get("ancestors") or ():
        found.update(split.get("corpora") or [UNRECORDED])
    of_hub = set(record.get("base_models") or ())
    encoders = record.get("encoders") or {}
    for modality, source in (record.get("sources") or {}).items():
        is_public = is_own_network(source) or split_revision(source)[0] in of_hub
        if not is_public and NOT_RECORDED in str(encoders.get(modality, "")):
            found.add(UNRECORDED)
    return found


def corpora_of_sources(sources: Iterable[str]) -> set[str]:
    """The corpora that encoders were trained on, before they are trained further."""
    found = set()
    for source in sources:
        if is_own_network(source):
            continue
        splits = ancestry(source)
        if not splits and Path(source).exists():
            found.add(UNRECORDED)
        for split in splits:
            found.update(split.get("corpora") or [UNRECORDED])
    return found


def is_withheld(splits: list[dict]) -> bool:
    """Whether the publisher removed speakers and ids from a model's record."""
    return any(split[part].get(WITHHELD) for split in splits for part in ("train", "validation"))


def split_record(dataset: Dataset, fold: Fold) -> dict:
    """Hashes of the training and validation rows of a fold, with its name, fingerprint and corpora."""
    return {
        "fold": fold.name,
        "split_fingerprint": fold.fingerprint,
        "corpora": sorted(set(dataset.select_columns("corpus").select([*fold.train, *fold.validation])["corpus"][:])),
        "train": row_hashes(dataset, fold.train),
        "validation": row_hashes(dataset, fold.validation),
    }


def write_record(folder: str | Path, record: dict) -> None:
    """Write a training record beside a model."""
    with atomic_write(Path(folder) / RECORD) as file:
        json.dump(record, file, indent=1, default=asdict)


def read_record(source: str | Path) -> dict | None:
    """Read the training record of a model; None where there is none.

    Folders above are searched too: `fold_1/adapter`, `fold_1/checkpoints/checkpoint-9`.

    Args:
        source: A folder, or a name of the Hub, also with `@REVISION`.

    Raises:
        ValueError: the file holds no training record, or the Hub did not answer.
    """
    folder = Path(source)
    for place in (folder, *list(folder.absolute().parents)[:2]) if folder.is_dir() else ():
        if (place / RECORD).is_file():
            return parsed_record(place / RECORD)
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
            f"{name}: could not find out whether this model has a {RECORD} ({str(error).partition(chr(10))[0]}). It "
            "is needed to know what the model was trained on. Check name, revision and connection and try again, or "
            "set HF_HUB_OFFLINE=1 to use the cache alone."
        ) from error
    try:
        record = _as_json(Path(file))
    except ValueError:
        return None
    if not (isinstance(record, dict) and "split" in record):
        return None  # others may use this file's name too
    check_record(record, f"{name}: {RECORD}")
    return record


KEY_TYPES = {
    "finished": bool,
    "split": dict,
    "ancestors": list,
    "settings": dict,
    "corpora": list,
    "leaks": list,
    "audit": list,
    "history": list,
    "notes": list,
    "seed": int,
    "encoders": dict,
    "sources": dict,
    "words": dict,
    "weights": dict,
    "parameters": int,
    "parameters_trained": int,
    "train_seconds": (int, float),
    "prepare_seconds": (int, float),
}
"""Types of a record's keys, each of which may be missing."""


def parsed_record(file: Path) -> dict:
    """A training record from its file.

    Raises:
        ValueError: it is no training record, or one of its keys has a wrong type.
    """
    record = _as_json(file)
    check_record(record, str(file))
    return record


def _as_json(file: Path):
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{file}: not readable as JSON ({str(error).partition(chr(10))[0]}). Expected a training record as "
            "training writes it: copy it anew, or remove it if this model's training data need not be known."
        ) from error


def check_record(record, where: str) -> None:
    """Make sure that a training record has the form that training gives it.

    Raises:
        ValueError: it has another form.
    """
    if not isinstance(record, dict):
        raise _invalid_record(where, f"a {type(record).__name__}", "an object of keys and values")
    for key, kind in KEY_TYPES.items():
        value = record.get(key)
        if value is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
            raise _invalid_record(where, f"{key} {str(value)[:60]!r}", f"{key} as training writes it")
    if not all(isinstance(name, str) for name in (*(record.get("corpora") or ()), *(record.get("leaks") or ()))):
        raise _invalid_record(where, "corpora or leaks that are no text", "their names")
    for split in (record.get("split"), *(record.get("ancestors") or ())):
        if split is not None:
            _check_split(split, where)


def _check_split(split, where: str) -> None:
    for part in ("train", "validation"):
        rows = split.get(part) if isinstance(split, dict) else None
        hashes = [rows.get(kind) for kind in ROW_HASHES] if isinstance(rows, dict) else [None]
        if not all(isinstance(one, list) and all(isinstance(each, str) for each in one) for one in hashes):
            raise _invalid_record(
                where, f"a split whose {part} part has not {', '.join(ROW_HASHES)}", "lists of hashes for each"
            )


def _invalid_record(where: str, found: str, expected: str) -> ValueError:
    return ValueError(
        f"{where}: found {found}, expected {expected}: this is no training record of hf_ser, or a damaged one. Copy it "
        "anew, or remove it if this model's training data need not be known."
    )


def is_finished(folder: str | Path) -> bool:
    """Whether a fold's folder holds a model that was trained to its end."""
    file = Path(folder) / RECORD
    return file.is_file() and bool(parsed_record(file).get("finished"))


def as_trained(dataset: Dataset, settings: dict) -> Dataset:
    """Read a data set as a run did: with its transcripts, and in its label space.

    Args:
        dataset: The run's data set.
        settings: The `settings` of its record.
    """
    dataset = with_transcript_source(dataset, settings.get("transcript_source"))
    return apply_label_map(dataset, settings.get("label_map", NATIVE))[0]


def stage_leaks(dataset: Dataset, fold: Fold, sources: dict[str, str], allow_leak: bool) -> list[str]:
    """Check that no encoder was trained on this fold's validation or test rows, or chosen on its test rows.

    The encoder's own `ancestors` are checked too.

    Args:
        dataset: The data set.
        fold: The fold to be trained.
        sources: Folder or name of each encoder, by modality.
        allow_leak: Return the leaks instead of raising.

    Returns:
        Names of the leaks found.

    Raises:
        ValueError: an encoder has seen rows or speakers of this fold's validation or test part.
    """
    test, validation = row_hashes(dataset, fold.test), row_hashes(dataset, fold.validation)
    leaks = []
    for modality, source in sources.items():
        splits = ancestry(source)
        if is_withheld(splits):
            PartialState().print(f"note: {source}: {CANNOT_BE_CHECKED}")
        for record in splits:
            trained, chosen = record["train"], record["validation"]
            pairs = (("trained", trained, "test", test), ("trained", trained, "validation", validation))
            for how, theirs, part, ours in (*pairs, ("chosen", chosen, "test", test)):
                shared = {kind: len(set(theirs[kind]) & set(ours[kind])) for kind in ours}
                if not any(shared.values()):
                    continue
                if not allow_leak:
                    raise ValueError(
                        f"{source}: this {modality} model was {how} on data that fold {fold.name} uses as {part} "
                        f"({shared['ids']} utterances, {shared['pcm']} equal recordings and {shared['speakers']} "
                        f"speakers are shared). Expected one trained on other data: {REMEDIES.get(modality, REMEDY)}; "
                        "or add --allow_leak to have the result stamped as leaked."
                    )
                leaks.append(f"stage_leakage_{modality}_{part}")
    return sorted(set(leaks))


def ancestry(source: str) -> list[dict]:
    """The split records of an encoder and of the models it was built from."""
    record = read_record(source)
    if record is None:
        return []
    if "split" not in record:
        raise _invalid_record(f"{source}: {RECORD}", "no split", "what this model was trained on")
    return [record["split"], *(record.get("ancestors") or [])]


def is_own_network(source: str) -> bool:
    """Whether an encoder is one of this package's networks, which start from random weights."""
    return source in PRESETS or source in TEXT_PRESETS


def provenance(sources: dict[str, str]) -> dict[str, str]:
    """The origin of each encoder, as text for the report."""
    return {modality: _origin(source) for modality, source in sources.items()}


def _origin(source: str) -> str:
    if is_own_network(source):
        return "trained here from scratch"
    if not (splits := ancestry(source)):
        return f"{source} ({NOT_RECORDED})"
    return f"{source} ({CANNOT_BE_CHECKED if is_withheld(splits) else 'training data recorded'})"


def hardware() -> str:
    """The number of processes and their device."""
    state = PartialState()
    name = (
        torch.cuda.get_device_name(state.device)
        if state.device.type == "cuda"
        else f"{torch.get_num_threads()} CPU threads"
    )
    return f"{state.num_processes} process(es) on {name}"
