"""What a model was trained on, written beside it, and the check that no later stage is tested on it."""

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
"""What to do about a model that has met the test rows, by its modality where it is not `REMEDY`."""


SEEN = ("ids", "pcm", "speakers")
"""What a record says of the rows of a part: hashes of their ids, of their recordings, of who speaks."""


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


WITHHELD = "withheld"
"""Key of a part in the record of a model that was pushed: what of SEEN was left out of it, and cannot be checked."""
NAMES = ("ids", "speakers")
"""Of SEEN, what people can guess: a name hashes to the same wherever, so whoever has a list of names finds it. A
recording cannot be guessed; its hash tells nothing to those who have not got it."""

CANNOT_BE_CHECKED = "whom it was trained on is withheld: beyond equal recordings, this cannot be checked"


MAY_LEAVE = frozenset(
    (
        *("finished", "protocol", "leaks", "audit", "settings", "notes", "weights", "not_copies", "search", "corpora"),
        *("train_seconds", "prepare_seconds", "encoders", "sources", "base_models", "seed", "parameters"),
        *("parameters_trained", "transcript_sources", "words", "hardware", "precision", "best_validation_uar"),
        *("history", "solved"),
    )
)
"""Keys of a record that leave with a model, beside its split and its ancestors. A new key stays until it is here."""

SPLIT_MAY_LEAVE = ("fold", "split_fingerprint", "corpora")
"""The same of a split, beside its parts; of a part, what `SEEN` names."""


def that_may_leave(record: dict) -> dict:
    """A training record as it may be handed on: what is known to be harmless, and of cleared pairs their number."""
    kept = {key: value for key, value in record.items() if key in MAY_LEAVE}
    if cleared := record.get("not_copies"):
        kept["not_copies"] = {"count": _count_of(cleared), "sha256": cleared.get("sha256", "")}
    if record.get("split"):
        kept["split"] = _split_that_may_leave(record["split"])
    if "ancestors" in record:
        kept["ancestors"] = [_split_that_may_leave(split) for split in record["ancestors"] or []]
    return kept


def _count_of(cleared: dict) -> int:
    return len(cleared["pairs"]) if "pairs" in cleared else cleared.get("count", 0)


def _split_that_may_leave(split: dict) -> dict:
    parts = {
        part: {key: split[part][key] for key in (*SEEN, WITHHELD) if key in split[part]}
        for part in ("train", "validation")
    }
    return {key: split[key] for key in SPLIT_MAY_LEAVE if key in split} | parts


def without_names(record: dict) -> dict:
    """A training record that may leave, whose split and ancestors hold no hash of a speaker or an id, and say so."""
    kept = that_may_leave(record)
    told = {"split": _unnamed(kept["split"])} if kept.get("split") else {}
    if kept.get("ancestors"):
        told["ancestors"] = [_unnamed(split) for split in kept["ancestors"]]
    return kept | told


def _unnamed(split: dict) -> dict:
    nothing = {key: [] for key in NAMES} | {WITHHELD: list(NAMES)}
    return split | {part: split[part] | nothing for part in ("train", "validation")}


UNRECORDED = "not recorded"
"""In place of a corpus: of an encoder that does not say what it was trained on."""
NOT_RECORDED = "its training data is not recorded"


def corpora_of_stages(record: dict) -> set[str]:
    """The corpora that a model and the encoders it began with were trained on, `UNRECORDED` for one that is not known.

    An encoder of the Hub that has no record is a public one; of a folder on this disk nothing is known.
    """
    found = set(record.get("corpora") or [UNRECORDED])
    for split in record.get("ancestors") or ():
        found.update(split.get("corpora") or [UNRECORDED])
    of_hub = set(record.get("base_models") or ())
    encoders = record.get("encoders") or {}
    for modality, source in (record.get("sources") or {}).items():
        is_public = made_here(source) or split_revision(source)[0] in of_hub
        if not is_public and NOT_RECORDED in str(encoders.get(modality, "")):
            found.add(UNRECORDED)
    return found


def corpora_of_sources(sources: Iterable[str]) -> set[str]:
    """The same of encoders before they are trained further."""
    found = set()
    for source in sources:
        if made_here(source):
            continue
        splits = ancestry(source)
        if not splits and Path(source).exists():
            found.add(UNRECORDED)
        for split in splits:
            found.update(split.get("corpora") or [UNRECORDED])
    return found


def is_withheld(splits: list[dict]) -> bool:
    """Whether a record does not say whom a model was trained on, of which it was the model's publisher's to decide."""
    return any(split[part].get(WITHHELD) for split in splits for part in ("train", "validation"))


def split_record(dataset: Dataset, fold: Fold) -> dict:
    """What of a data set trains, chooses and tests in a fold."""
    return {
        "fold": fold.name,
        "split_fingerprint": fold.fingerprint,
        "corpora": sorted(set(dataset.select_columns("corpus").select([*fold.train, *fold.validation])["corpus"][:])),
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
        ValueError: the file holds no training record, or the Hub does not tell whether there is one.
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
            f"{name}: found no answer to whether {RECORD} lies beside this model ({str(error).partition(chr(10))[0]}), "
            "expected one: without it nothing tells what the model was trained on. Check name, revision and connection "
            "and try again, or set HF_HUB_OFFLINE=1 to use the cache alone."
        ) from error
    try:
        record = _as_json(Path(file))
    except ValueError:
        return None
    if not (isinstance(record, dict) and "split" in record):
        return None  # others may use this file's name too
    check_record(record, f"{name}: {RECORD}")
    return record


KINDS = {
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
"""What the keys of a record are, where they are there."""


def parsed_record(file: Path) -> dict:
    """A training record from its file.

    Raises:
        ValueError: it is none, or one of its keys is not what it should be.
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
        ValueError: it has another.
    """
    if not isinstance(record, dict):
        raise _no_record(where, f"a {type(record).__name__}", "an object of keys and values")
    for key, kind in KINDS.items():
        value = record.get(key)
        if value is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
            raise _no_record(where, f"{key} {str(value)[:60]!r}", f"{key} as training writes it")
    if not all(isinstance(name, str) for name in (*(record.get("corpora") or ()), *(record.get("leaks") or ()))):
        raise _no_record(where, "corpora or leaks that are no text", "their names")
    for split in (record.get("split"), *(record.get("ancestors") or ())):
        if split is not None:
            _check_split(split, where)


def _check_split(split, where: str) -> None:
    for part in ("train", "validation"):
        rows = split.get(part) if isinstance(split, dict) else None
        hashes = [rows.get(kind) for kind in SEEN] if isinstance(rows, dict) else [None]
        if not all(isinstance(one, list) and all(isinstance(each, str) for each in one) for one in hashes):
            raise _no_record(where, f"a split whose {part} part has not {', '.join(SEEN)}", "lists of hashes for each")


def _no_record(where: str, found: str, expected: str) -> ValueError:
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
        settings: Those of its record.
    """
    dataset = with_transcript_source(dataset, settings.get("transcript_source"))
    return apply_label_map(dataset, settings.get("label_map", NATIVE))[0]


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
                        f"({shared['ids']} utterances, {shared['pcm']} equal sounds, {shared['speakers']} speakers are "
                        f"shared). Expected one that has not met them: {REMEDIES.get(modality, REMEDY)}; "
                        "or add --allow_leak to have the result stamped as leaked."
                    )
                leaks.append(f"stage_leakage_{modality}_{part}")
    return sorted(set(leaks))


def ancestry(source: str) -> list[dict]:
    """The split records of an encoder and of what it was itself built from."""
    record = read_record(source)
    if record is None:
        return []
    if "split" not in record:
        raise _no_record(f"{source}: {RECORD}", "no split", "what this model was trained on")
    return [record["split"], *(record.get("ancestors") or [])]


def made_here(source: str) -> bool:
    """Whether an encoder is one of ours, which starts from random weights."""
    return source in PRESETS or source in TEXT_PRESETS


def provenance(sources: dict[str, str]) -> dict[str, str]:
    """How each encoder came to be, in words for the report."""
    return {modality: _origin(source) for modality, source in sources.items()}


def _origin(source: str) -> str:
    if made_here(source):
        return "trained here from scratch"
    if not (splits := ancestry(source)):
        return f"{source} ({NOT_RECORDED})"
    return f"{source} ({CANNOT_BE_CHECKED if is_withheld(splits) else 'training data recorded'})"


def hardware() -> str:
    """What this process and its siblings compute on."""
    state = PartialState()
    name = (
        torch.cuda.get_device_name(state.device)
        if state.device.type == "cuda"
        else f"{torch.get_num_threads()} CPU threads"
    )
    return f"{state.num_processes} process(es) on {name}"
