"""The training record of a model, and the check that no later stage is tested on what the model was trained on."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate import PartialState
from datasets import Dataset
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HTTPError, LocalEntryNotFoundError

from hf_ser.data.folds import Fold
from hf_ser.data.labels import NATIVE, apply_label_map
from hf_ser.files import atomic_write
from hf_ser.json_record import Record
from hf_ser.models import PRESETS, TEXT_PRESETS
from hf_ser.revisions import HUB_NAME, public_name, split_revision
from hf_ser.runs.findings import AuditFinding
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

SYSTEM_SETTINGS = (
    *("fusion", "head", "pooling", "target", "speeds", "freeze", "lora", "augment", "normalisation"),
    "enrolment_clips",
)
"""Settings that tell one system from another, in addition to its encoders."""

GUESSABLE = ("ids", "speakers")
"""Hashes that can be guessed from a list of names. Audio cannot be guessed from its hash."""

TRAINING_WITHHELD = "its training speakers and clips are withheld, so only equal recordings can be found"
REMOVED = "removed: it may name clips or people"


@dataclass(frozen=True, kw_only=True)
class RowHashes(Record):
    """Hashes of the ids, the audio and the speakers of some rows; `withheld` names those that the publisher removed."""

    ids: list[str]
    pcm: list[str]
    speakers: list[str]
    withheld: list[str] | None = None

    def without_names(self) -> "RowHashes":
        """The hashes of the audio alone."""
        return replace(self, withheld=list(GUESSABLE), **{kind: [] for kind in GUESSABLE})


@dataclass(frozen=True, kw_only=True)
class Split(Record):
    """What a model was trained on: hashes of its training and validation rows, the split's fingerprint, the corpora."""

    fold: str
    split_fingerprint: str
    corpora: list[str] | None = None
    train: RowHashes
    validation: RowHashes

    @property
    def parts(self) -> dict[str, RowHashes]:
        """The hashes of each part by its name."""
        return {"train": self.train, "validation": self.validation}

    def without_names(self) -> "Split":
        """The split without hashes of speakers and ids."""
        return replace(self, **{name: part.without_names() for name, part in self.parts.items()})


@dataclass(frozen=True, kw_only=True)
class ClearedPairs(Record):
    """Pairs of clips that a person has cleared, as hashes of ids; a pushed model has only their number."""

    count: int | None = None
    file: str | None = None
    sha256: str = ""
    pairs: list[list[str]] | None = None

    def public(self) -> "ClearedPairs":
        """Their number, and the hash of the file that lists them."""
        count = self.count or 0 if self.pairs is None else len(self.pairs)
        return ClearedPairs(count=count, sha256=self.sha256)


@dataclass(frozen=True, kw_only=True)
class TrainingRecord(Record):
    """What a model was trained on, and how.

    Args:
        finished: Whether the training is finished; until then, only `split` and `ancestors` are stored.
        split, ancestors: What the model and its encoders were trained on.
        settings: Settings that differ from the defaults.
        recipe: Name of the recipe that they were read from; None where there was none.
        notes: Sentences for readers of the figures.
        weights: SHA-256 of each file of weights by its name.
        corpora: Corpora of the whole data set.
        encoders: Origin of each encoder as text, by modality; `sources` has its name or folder.
        base_models: Encoders of the Hub.
        words: How changed transcripts were made.
        solved: Whether the head has a closed-form solution.
        history: `log_history` of the Trainer.
        asr, not_tested, language, left_out, known_texts, best_validation: Only for a recogniser.
    """

    WHAT: ClassVar[str] = "a training record of hf_ser"
    REMEDY: ClassVar[str] = "Copy it again, or remove it if this model's training data need not be known."

    finished: bool = False
    split: Split | None = None
    ancestors: list[Split] = field(default_factory=list)
    search: dict[str, Any] | None = None
    asr: dict[str, str] | None = None
    not_tested: dict[str, str] | None = None
    protocol: str | None = None
    leaks: list[str] = field(default_factory=list)
    audit: list[AuditFinding] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    recipe: str | None = None
    notes: list[str] | None = None
    weights: dict[str, str] | None = None
    not_copies: ClearedPairs | None = None
    language: str | None = None
    left_out: list[str] | None = None
    train_seconds: float | None = None
    prepare_seconds: float | None = None
    corpora: list[str] = field(default_factory=list)
    encoders: dict[str, str] | None = None
    sources: dict[str, str] = field(default_factory=dict)
    base_models: list[str] | None = None
    seed: int | None = None
    parameters: int | None = None
    parameters_trained: int | None = None
    transcript_sources: list[str] | None = None
    words: dict[str, Any] | None = None
    hardware: str | None = None
    precision: str | None = None
    best_validation_uar: float | None = None
    best_validation_ccc: float | None = None
    best_validation: float | None = None
    known_texts: int | None = None
    solved: bool | None = None
    history: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object; for an unfinished training, only its data."""
        values = super().to_json()
        started = ("finished", "split", "ancestors")
        return values if self.finished else {key: values[key] for key in started if key in values}

    @property
    def description(self) -> str:
        """The encoders with their layers, and the settings that name the system, in one line."""
        settings = {name: self.settings[name] for name in SYSTEM_SETTINGS if self.settings.get(name)}
        named = [f"{name.replace('_', ' ')} {value}" for name, value in settings.items()]
        return ", ".join([" and ".join(self.encoder_names), *named])

    @property
    def encoder_names(self) -> list[str]:
        """The encoders with their layers; this package's own networks are marked as trained from scratch."""
        layers = {modality: self.settings.get(f"{modality}_layers") for modality in self.sources}
        return [
            public_name(source)
            + (f" (layers {layers[modality]})" if layers[modality] else "")
            + (" (from scratch)" if is_own_network(source) else "")
            for modality, source in self.sources.items()
        ]

    @property
    def learner(self) -> str:
        """How the head was learned, in words."""
        if self.solved:
            return f"{self.settings.get('head') or self.settings.get('fusion')} head in closed form"
        epochs = max((entry.get("epoch") or 0 for entry in self.history), default=0)
        return f"gradient descent, {epochs:g} epochs"

    @property
    def about(self) -> dict[str, str]:
        """Kind, recipe, encoders and learner of the model, for a page or a card."""
        kinds = {"audio": "audio-only", "text": "text-only", "fusion": "audio and text", "asr": "recogniser"}
        facts = {
            "model": kinds.get(self.settings.get("model"), ""),
            "recipe": public_name(self.recipe or ""),
            "encoder": " and ".join(self.encoder_names),
            "learner": self.learner,
        }
        return {name: fact for name, fact in facts.items() if fact}

    @property
    def splits(self) -> list[Split]:
        """What the model and the models it was built from were trained on."""
        return [*([self.split] if self.split else []), *self.ancestors]

    @property
    def origins(self) -> dict[str, str]:
        """The origin of each encoder, without local folders."""
        return {
            modality: origin.replace(source, public_name(source)) if (source := self.sources.get(modality)) else origin
            for modality, origin in (self.encoders or {}).items()
        }

    def public(self, with_people: bool) -> "TrainingRecord":
        """The record as it is pushed with a model: no local path, and only the number of cleared pairs.

        Args:
            with_people: Keep hashes of speakers and ids, and findings that name them.
        """
        kept = replace(
            self,
            # The file name of a list of cleared pairs may name people.
            settings=without_folders({key: value for key, value in self.settings.items() if key != "not_copies"}),
            sources=without_folders(self.sources),
            encoders=self.origins,
            words=_without_bank_folder(self.words),
            not_copies=self.not_copies and self.not_copies.public(),
            **dict.fromkeys(("asr", "not_tested", "language", "left_out", "known_texts", "best_validation")),
        )
        if with_people:
            return kept
        return replace(
            kept,
            split=self.split and self.split.without_names(),
            ancestors=[split.without_names() for split in self.ancestors],
            audit=[replace(one, detail=REMOVED, evidence=()) for one in self.audit],
        )


def without_folders(values: dict[str, Any]) -> dict[str, Any]:
    """Settings with public names in place of local folders."""
    return {key: public_name(value) if isinstance(value, str) else value for key, value in values.items()}


def _without_bank_folder(words: dict[str, Any] | None) -> dict[str, Any] | None:
    bank = (words or {}).get("sentence_bank")
    return words | {"sentence_bank": without_folders(bank)} if bank else words


def hashed(name: str) -> str:
    """Hash of an id or a speaker, since a record must not name files or people."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def row_hashes(dataset: Dataset, rows) -> RowHashes:
    """Hashes of the ids, the audio and the speakers of some rows."""
    part = dataset.select_columns(["id", "pcm_sha256", "speaker"]).select(rows)[:]
    return RowHashes(
        ids=sorted(hashed(name) for name in part["id"]),
        pcm=sorted(sha[:16] for sha in part["pcm_sha256"] if sha),
        speakers=sorted({hashed(speaker) for speaker in part["speaker"] if speaker}),
    )


UNRECORDED = "not recorded"
"""Name of the corpus of an encoder whose training data is unknown."""
NOT_RECORDED = "its training data is not recorded"


def corpora_of_stages(record: TrainingRecord) -> set[str]:
    """The corpora that a model and its initial encoders were trained on; `UNRECORDED` where one is unknown.

    A Hub encoder without a record counts as public; a local folder without one counts as unknown.
    """
    found = set(record.corpora or [UNRECORDED])
    for split in record.ancestors:
        found.update(split.corpora or [UNRECORDED])
    for modality, source in record.sources.items():
        is_public = is_own_network(source) or split_revision(source)[0] in (record.base_models or ())
        if not is_public and NOT_RECORDED in (record.encoders or {}).get(modality, ""):
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
            found.update(split.corpora or [UNRECORDED])
    return found


def is_withheld(splits: list[Split]) -> bool:
    """Whether the publisher removed speakers and ids from a model's record."""
    return any(part.withheld for split in splits for part in split.parts.values())


def split_record(dataset: Dataset, fold: Fold) -> Split:
    """Hashes of the training and validation rows of a fold, with its name, fingerprint and corpora."""
    corpora = dataset.select_columns("corpus").select([*fold.train, *fold.validation])["corpus"][:]
    return Split(
        fold=fold.name,
        split_fingerprint=fold.fingerprint,
        corpora=sorted(set(corpora)),
        train=row_hashes(dataset, fold.train),
        validation=row_hashes(dataset, fold.validation),
    )


def write_record(folder: str | Path, record: TrainingRecord) -> None:
    """Write the training record of a model into its folder."""
    with atomic_write(Path(folder) / RECORD) as file:
        json.dump(record.to_json(), file, indent=1, default=asdict)


def read_record(source: str | Path) -> TrainingRecord | None:
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
            return TrainingRecord.read(place / RECORD)
    if isinstance(source, str) and HUB_NAME.fullmatch(source) and not folder.exists():
        return _record_on_hub(source)
    return None


def _record_on_hub(name: str) -> TrainingRecord | None:
    """The record of a model on the Hub or in the cache; None if it has none, or offline if it is not cached."""
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
        record = TrainingRecord.read_json(file)
    except ValueError:
        return None
    if not (isinstance(record, dict) and "split" in record):
        return None  # others may use this file's name too
    return TrainingRecord.from_json(record, f"{name}: {RECORD}")


def is_finished(folder: str | Path) -> bool:
    """Whether a fold's folder holds a model that was trained to its end."""
    file = Path(folder) / RECORD
    return file.is_file() and TrainingRecord.read(file).finished


def as_trained(dataset: Dataset, settings: dict) -> Dataset:
    """Give a data set the transcripts and the label space of a run.

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
            PartialState().print(f"note: {source}: {TRAINING_WITHHELD}")
        for split in splits:
            pairs = (("trained", split.train, "test", test), ("trained", split.train, "validation", validation))
            for how, theirs, part, ours in (*pairs, ("chosen", split.validation, "test", test)):
                ids, pcm, speakers = (
                    len(set(getattr(theirs, kind)) & set(getattr(ours, kind))) for kind in ("ids", "pcm", "speakers")
                )
                if not (ids or pcm or speakers):
                    continue
                if not allow_leak:
                    raise ValueError(
                        f"{source}: this {modality} model was {how} on data that fold {fold.name} uses as {part} "
                        f"({ids} utterances, {pcm} equal recordings and {speakers} speakers are shared). Expected one "
                        f"trained on other data: {REMEDIES.get(modality, REMEDY)}; or add --allow_leak to have the "
                        "result stamped as leaked."
                    )
                leaks.append(f"stage_leakage_{modality}_{part}")
    return sorted(set(leaks))


def ancestry(source: str) -> list[Split]:
    """The splits of an encoder and of the models it was built from."""
    record = read_record(source)
    if record is not None and record.split is None:
        raise ValueError(
            f"{source}: {RECORD}: found no split, expected what this model was trained on. {TrainingRecord.REMEDY}"
        )
    return record.splits if record else []


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
    return f"{source} ({TRAINING_WITHHELD if is_withheld(splits) else 'training data recorded'})"


def hardware() -> str:
    """The number of processes and their device."""
    state = PartialState()
    name = (
        torch.cuda.get_device_name(state.device)
        if state.device.type == "cuda"
        else f"{torch.get_num_threads()} CPU threads"
    )
    return f"{state.num_processes} process(es) on {name}"
