"""What words a model reads: whose they are, and which sentences are added to them.

A prepared data set has the corpus's own words in `transcript`; one that was transcribed has a recogniser's there, and
the corpus's in `reference_transcript`. What is asked for beyond that is decided row by row from the seed and the row's
id: a row is read in the same words whatever rows there are beside it, in whatever order, by however many processes.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from datasets import Dataset, Value

from hf_ser.data.protocols import Fold
from hf_ser.data.schema import REFERENCE, SPLITS
from hf_ser.stable import share
from hf_ser.transcripts.sentence_bank import bank_digest, sentence_bank

TRANSCRIPT_SOURCES = ("reference", "asr", "mixed")
_, ASR, MIXED = TRANSCRIPT_SOURCES

BANK, BANK_SHARE = "bank", 0.5
"""What `transcript_source` says of a training row that was given a sentence, and the share of them that are."""


def references(dataset: Dataset) -> list[str | None]:
    """The corpus's own words of each row."""
    if "reference_transcript" in dataset.column_names:
        return dataset["reference_transcript"][:]
    said = zip(dataset["transcript"][:], dataset["transcript_source"][:], strict=True)
    return [words if source == REFERENCE else None for words, source in said]


@dataclass(frozen=True)
class Told:
    """What a data set knows of the words, one entry a row; None where it knows none.

    Args:
        reference: The corpus's own words.
        heard: A recogniser's, empty where it heard nobody speak.
        recogniser: Which one heard them, `<id>@<revision>`.
    """

    reference: list[str | None]
    heard: list[str | None]
    recogniser: list[str | None]

    @classmethod
    def of(cls, dataset: Dataset) -> "Told":
        """Of a data set as it was prepared or transcribed, or as `read_as` gives it."""
        kind = "asr_" if "asr_transcript" in dataset.column_names else ""
        words, sources = dataset[f"{kind}transcript"][:], dataset[f"{kind}transcript_source"][:]
        heard = [None if source == REFERENCE else text for text, source in zip(words, sources, strict=True)]
        return cls(references(dataset), heard, [None if source == REFERENCE else source for source in sources])


def read_as(dataset: Dataset, source: str | None) -> Dataset:
    """A data set whose `transcript` has the words that are asked for; the others are kept beside it.

    The sound is not copied where no rows have been selected yet.

    Args:
        dataset: A prepared data set, transcribed or not.
        source: `reference` for the corpus's own words; `asr`, and `mixed`, whose evaluation rows read the same, for a
            recogniser's; None for what stands in the column. A row that lacks them has no words.

    Raises:
        ValueError: unknown source, or the data set has no such words.
    """
    if source is None:
        return dataset
    if source not in TRANSCRIPT_SOURCES:
        raise ValueError(f"Unknown --transcript_source '{source}': expected one of {', '.join(TRANSCRIPT_SOURCES)}.")
    told = Told.of(dataset)
    if source != REFERENCE and _none(told.heard):
        raise ValueError(
            f"--transcript_source {source}: found no recogniser's transcripts in this data set. Expected one that was "
            "transcribed: run scripts/transcribe.py --dataset DS, then train with --dataset DS."
        )
    if source != ASR and _none(told.reference):
        raise ValueError(
            f"--transcript_source {source}: found no words of the corpus's own in this data set. Expected a corpus "
            f"that was published with transcripts: use --transcript_source {ASR}."
        )
    columns = {"transcript": told.heard, "transcript_source": told.recogniser, "reference_transcript": told.reference}
    if source == REFERENCE:
        columns |= {"asr_transcript": told.heard, "asr_transcript_source": told.recogniser}
        columns["transcript"] = told.reference
        columns["transcript_source"] = [None if words is None else REFERENCE for words in told.reference]
    if all(dataset[name][:] == columns[name] for name in ("transcript", "transcript_source")):
        return dataset
    read = dataset.remove_columns([name for name in columns if name in dataset.column_names])
    for name, column in columns.items():
        read = read.add_column(name, column, feature=Value("string"))
    return read


@dataclass(frozen=True)
class Words:
    """The words that a fold is trained and judged on, by id; rows that are in none of its parts are left out.

    Args:
        text: None where a row has no words.
        source: What `transcript_source` says of them, such as `reference+bank`.
        changed: Whether they differ from what stands in the data set.
        details: How they were made, for the training record.
    """

    text: dict[str, str | None]
    source: dict[str, str | None]
    changed: bool
    details: dict

    @property
    def columns(self) -> dict[str, dict[str, str | None]]:
        """Columns that the rows are to be read with, by id; empty where the data set has them so already."""
        return {"transcript": self.text, "transcript_source": self.source} if self.changed else {}


def fold_words(dataset: Dataset, fold: Fold, data, seed: int) -> Words:
    """The words of a fold's rows.

    Args:
        dataset: A data set as `read_as` gives it.
        fold: The fold.
        data: DataArguments. `transcript_source` `mixed` lets a coin say whose words a training row reads, the corpus's
            or the recogniser's, the other's where these are lacking. `sentence_bank` adds a sentence of its label to
            half of the training rows: on others it would give the label away.
        seed: Of all draws.

    Raises:
        FileNotFoundError, ValueError: see `sentence_bank`.
    """
    names, told = dataset["id"][:], Told.of(dataset)
    parts = {part: getattr(fold, part).tolist() for part in SPLITS}
    stands = dict(enumerate(zip(dataset["transcript"][:], dataset["transcript_source"][:], strict=True)))
    words = {row: stands[row] for rows in parts.values() for row in rows}
    details = {"asked": data.transcript_source or "as the data set has them", "seed": seed}
    if data.transcript_source == MIXED:
        words |= _by_coin(told, names, parts["train"], seed)
    if data.sentence_bank:
        richer, details["sentence_bank"] = _with_sentences(words, dataset, names, parts["train"], data, seed)
        words |= richer
    details["rows"] = {part: dict(Counter(words[row][1] or "none" for row in rows)) for part, rows in parts.items()}
    return Words(
        text={names[row]: text for row, (text, _) in words.items()},
        source={names[row]: source for row, (_, source) in words.items()},
        changed=any(words[row] != stands[row] for row in words),
        details=details,
    )


def _none(words: Sequence[str | None]) -> bool:
    return all(one is None for one in words)


def _by_coin(told: Told, names: Sequence[str], rows: Sequence[int], seed: int) -> dict[int, tuple]:
    """Words and source of training rows, of the corpus or of the recogniser."""
    chosen = {}
    for row in rows:
        pairs = [(told.reference[row], REFERENCE), (told.heard[row], told.recogniser[row])]
        if share("source", seed, names[row]) >= 0.5:
            pairs.reverse()
        chosen[row] = next(((text, source) for text, source in pairs if text is not None), (None, None))
    return chosen


def _with_sentences(words: dict[int, tuple], dataset: Dataset, names, rows: Sequence[int], data, seed: int):
    """Words of the training rows that are given a sentence of their label, and what the record says of the bank."""
    labels, given = dataset.features["label"].names, dataset["label"][:]
    bank = sentence_bank(data.sentence_bank, labels)
    richer = {}
    for row in rows:
        if share("bank", seed, names[row]) < BANK_SHARE:
            sentences, (text, source) = bank[labels[given[row]]], words[row]
            sentence = sentences[int(share("sentence", seed, names[row]) * len(sentences))]
            richer[row] = (f"{text} {sentence}" if text else sentence, f"{source}+{BANK}" if source else BANK)
    return richer, {"bank": data.sentence_bank, "digest": bank_digest(bank), "rows": len(richer)}
