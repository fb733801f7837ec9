"""Choose the transcripts of a fold: by source, with word errors, and with sentences of the row's emotion.

A prepared data set has the corpus's own transcripts in `transcript`. A transcribed one has the recogniser's there, and
the corpus's in `reference_transcript`. Everything random depends on the seed and the row's id alone, not on other rows,
their order or the number of processes.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from datasets import Dataset, Value

from hf_ser.data.folds import Fold
from hf_ser.data.schema import REFERENCE, SPLITS
from hf_ser.stable import uniform
from hf_ser.transcripts.sentence_bank import bank_digest, sentence_bank

TRANSCRIPT_SOURCES = ("reference", "asr", "mixed")
_, ASR, MIXED = TRANSCRIPT_SOURCES

BANK, BANK_SHARE = "bank", 0.5
"""Mark in `transcript_source` of a training row with an added sentence, and the share of them that get one."""


def references(dataset: Dataset) -> list[str | None]:
    """Reference transcript of each row; None if the corpus has none."""
    if "reference_transcript" in dataset.column_names:
        return dataset["reference_transcript"][:]
    pairs = zip(dataset["transcript"][:], dataset["transcript_source"][:], strict=True)
    return [text if source == REFERENCE else None for text, source in pairs]


@dataclass(frozen=True)
class Transcripts:
    """Transcripts of a data set by source, one entry a row; None if missing.

    Args:
        reference: The corpus's own.
        recognised: A recogniser's, empty if it found no speech.
        recogniser: Its id, `<id>@<revision>`.
    """

    reference: list[str | None]
    recognised: list[str | None]
    recogniser: list[str | None]

    @classmethod
    def of(cls, dataset: Dataset) -> "Transcripts":
        """Transcripts of a data set as it was prepared or transcribed, or from `with_transcript_source`."""
        kind = "asr_" if "asr_transcript" in dataset.column_names else ""
        texts, sources = dataset[f"{kind}transcript"][:], dataset[f"{kind}transcript_source"][:]
        recognised = [None if source == REFERENCE else text for text, source in zip(texts, sources, strict=True)]
        return cls(references(dataset), recognised, [None if source == REFERENCE else source for source in sources])


def with_transcript_source(dataset: Dataset, source: str | None) -> Dataset:
    """Data set whose `transcript` is of one source; the others are kept in other columns.

    The audio is not copied unless rows were selected before.

    Args:
        dataset: A prepared data set, transcribed or not.
        source: `reference` for the corpus's own; `asr`, and `mixed` (whose evaluation rows are the same), for a
            recogniser's; None for the column as it is. Rows without a transcript of the source have None.

    Raises:
        ValueError: unknown source, or no transcripts of it.
    """
    if source is None:
        return dataset
    if source not in TRANSCRIPT_SOURCES:
        raise ValueError(f"Unknown --transcript_source '{source}': expected one of {', '.join(TRANSCRIPT_SOURCES)}.")
    known = Transcripts.of(dataset)
    if source != REFERENCE and all(one is None for one in known.recognised):
        raise ValueError(
            f"--transcript_source {source}: found no recogniser's transcripts in this data set. Expected one that was "
            "transcribed: run scripts/transcribe.py --dataset DS, then train with --dataset DS."
        )
    if source != ASR and all(one is None for one in known.reference):
        raise ValueError(
            f"--transcript_source {source}: found no transcripts of the corpus's own in this data set. Expected a "
            f"corpus that was published with transcripts: use --transcript_source {ASR}."
        )
    columns = {
        "transcript": known.recognised,
        "transcript_source": known.recogniser,
        "reference_transcript": known.reference,
    }
    if source == REFERENCE:
        columns |= {"asr_transcript": known.recognised, "asr_transcript_source": known.recogniser}
        columns["transcript"] = known.reference
        columns["transcript_source"] = [None if text is None else REFERENCE for text in known.reference]
    if all(dataset[name][:] == columns[name] for name in ("transcript", "transcript_source")):
        return dataset
    changed = dataset.remove_columns([name for name in columns if name in dataset.column_names])
    for name, column in columns.items():
        changed = changed.add_column(name, column, feature=Value("string"))
    return changed


@dataclass(frozen=True)
class FoldTranscripts:
    """Transcripts that a fold is trained and evaluated on, by id; only rows of its parts.

    Args:
        text: None if missing.
        source: `transcript_source`, such as `reference+bank`.
        changed: Whether they differ from the data set's.
        details: How they were made, for the training record.
        context: Texts of the previous turns by id; None where the model reads none.
    """

    text: dict[str, str | None]
    source: dict[str, str | None]
    changed: bool
    details: dict
    context: dict[str, list[str]] | None = None

    @property
    def columns(self) -> dict[str, dict[str, str | None]]:
        """Columns that replace those of the data set, or come beside them, by id; empty if nothing differs."""
        changed = {"transcript": self.text, "transcript_source": self.source} if self.changed else {}
        return changed if self.context is None else {**changed, "context": self.context}


def fold_transcripts(dataset: Dataset, fold: Fold, data, seed: int) -> FoldTranscripts:
    """Choose the transcripts of a fold's rows.

    Args:
        dataset: A data set from `with_transcript_source`.
        fold: The fold.
        data: DataArguments. `transcript_source` `mixed` draws the source of each training row, reference or recogniser,
            or takes the other if it is missing. `sentence_bank` adds a sentence of its label to half of the training
            rows.
        seed: Seed of all draws.

    Raises:
        FileNotFoundError, ValueError: see `sentence_bank`.
    """
    names, known = dataset["id"][:], Transcripts.of(dataset)
    parts = {part: getattr(fold, part).tolist() for part in SPLITS}
    stored = dict(enumerate(zip(dataset["transcript"][:], dataset["transcript_source"][:], strict=True)))
    chosen = {row: stored[row] for rows in parts.values() for row in rows}
    details = {"requested": data.transcript_source or "as the data set has them", "seed": seed}
    if data.transcript_source == MIXED:
        chosen |= _drawn_sources(known, names, parts["train"], seed)
    if data.sentence_bank:
        extended, details["sentence_bank"] = _with_sentences(chosen, dataset, names, parts["train"], data, seed)
        chosen |= extended
    details["rows"] = {part: dict(Counter(chosen[row][1] or "none" for row in rows)) for part, rows in parts.items()}
    return FoldTranscripts(
        text={names[row]: text for row, (text, _) in chosen.items()},
        source={names[row]: source for row, (_, source) in chosen.items()},
        changed=any(chosen[row] != stored[row] for row in chosen),
        details=details,
    )


def _drawn_sources(known: Transcripts, names: Sequence[str], rows: Sequence[int], seed: int) -> dict[int, tuple]:
    """Text and source of training rows, drawn from reference and recogniser."""
    chosen = {}
    for row in rows:
        pairs = [(known.reference[row], REFERENCE), (known.recognised[row], known.recogniser[row])]
        if uniform("source", seed, names[row]) >= 0.5:
            pairs.reverse()
        chosen[row] = next(((text, source) for text, source in pairs if text is not None), (None, None))
    return chosen


def _with_sentences(chosen: dict[int, tuple], dataset: Dataset, names, rows: Sequence[int], data, seed: int):
    """Text and source of the training rows that get a sentence of their label, and details for the record."""
    labels, targets = dataset.features["label"].names, dataset["label"][:]
    bank = sentence_bank(data.sentence_bank, labels)
    extended = {}
    for row in rows:
        if uniform("bank", seed, names[row]) < BANK_SHARE:
            sentences, (text, source) = bank[labels[targets[row]]], chosen[row]
            sentence = sentences[int(uniform("sentence", seed, names[row]) * len(sentences))]
            extended[row] = (f"{text} {sentence}" if text else sentence, f"{source}+{BANK}" if source else BANK)
    return extended, {"bank": data.sentence_bank, "digest": bank_digest(bank), "rows": len(extended)}
