"""Choose the transcripts of a fold: by source, with word errors, and with sentences of the row's emotion.

A prepared data set has the corpus's own transcripts in `transcript`. A transcribed one has the recogniser's there, and
the corpus's in `reference_transcript`. Everything random depends on the seed and the row's id alone, not on other rows,
their order or the number of processes.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import jiwer
from datasets import Dataset, Value

from hf_ser.data.protocols import Fold
from hf_ser.data.schema import REFERENCE, SPLITS
from hf_ser.stable import uniform
from hf_ser.transcripts.noise import Confusions, corrupt, learn_confusions, vocabulary_confusions
from hf_ser.transcripts.sentence_bank import bank_digest, sentence_bank

ASR, MIXED = "asr", "mixed"
TRANSCRIPT_SOURCES = (REFERENCE, ASR, MIXED)
NOISE_ROWS = ("all", "train", "evaluation")
BANK_ROWS = ("train", "all")

BANK, BANK_LEAK = "bank", "sentence_bank_on_evaluation"
"""Mark in `transcript_source` of a row with an added sentence, and the leak of such evaluation rows."""


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
        source: `transcript_source`, such as `reference+noise0.2+bank`.
        changed: Whether they differ from the data set's.
        leaks: Leaks that they cause.
        details: How they were made, for the training record.
    """

    text: dict[str, str | None]
    source: dict[str, str | None]
    changed: bool
    leaks: tuple[str, ...]
    details: dict

    @property
    def columns(self) -> dict[str, dict[str, str | None]]:
        """Columns that replace those of the data set, by id; empty if nothing differs."""
        return {"transcript": self.text, "transcript_source": self.source} if self.changed else {}


def fold_transcripts(dataset: Dataset, fold: Fold, data, seed: int) -> FoldTranscripts:
    """Choose the transcripts of a fold's rows.

    Args:
        dataset: A data set from `with_transcript_source`.
        fold: The fold.
        data: DataArguments. `transcript_source` `mixed` draws the source of each training row, reference or recogniser,
            or takes the other if it is missing. `transcript_noise` is the word error rate of `transcript_noise_rows`;
            the confusions are learned from training rows alone. `sentence_bank` then adds a sentence of its label to a
            `sentence_bank_share` of `sentence_bank_rows`.
        seed: Seed of all draws.

    Raises:
        FileNotFoundError, ValueError: see `sentence_bank`.
    """
    names, known = dataset["id"][:], Transcripts.of(dataset)
    parts = {part: getattr(fold, part).tolist() for part in SPLITS}
    stored = dict(enumerate(zip(dataset["transcript"][:], dataset["transcript_source"][:], strict=True)))
    chosen = {row: stored[row] for rows in parts.values() for row in rows}
    details = {"asked": data.transcript_source or "as the data set has them", "seed": seed}
    if data.transcript_source == MIXED:
        chosen |= _drawn_sources(known, names, parts["train"], seed)
    if data.transcript_noise:
        noisy, details["noise"] = _with_noise(chosen, known, names, parts, data, seed)
        chosen |= noisy
    if data.sentence_bank:
        extended, details["sentence_bank"] = _with_sentences(chosen, dataset, names, parts, data, seed)
        chosen |= extended
    details["rows"] = {part: dict(Counter(chosen[row][1] or "none" for row in rows)) for part, rows in parts.items()}
    return FoldTranscripts(
        text={names[row]: text for row, (text, _) in chosen.items()},
        source={names[row]: source for row, (_, source) in chosen.items()},
        changed=any(chosen[row] != stored[row] for row in chosen),
        leaks=(BANK_LEAK,) if data.sentence_bank and data.sentence_bank_rows == "all" else (),
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


def _with_noise(
    chosen: dict[int, tuple], known: Transcripts, names, parts, data, seed: int
) -> tuple[dict[int, tuple], dict]:
    """Corrupted text and source of the rows that have words, and details for the record."""
    noisy_parts = [part for part in SPLITS if data.transcript_noise_rows in ("all", _noise_kind(part))]
    with_words = {part: [row for row in parts[part] if (chosen[row][0] or "").split()] for part in noisy_parts}
    rows = sorted(set().union(*with_words.values()))  # validation and test may share rows
    confusions, how = _confusions(chosen, known, parts["train"])
    texts = corrupt(
        [chosen[row][0] for row in rows], [names[row] for row in rows], data.transcript_noise, confusions, seed
    )
    mark = f"noise{data.transcript_noise:g}"
    noisy = {row: (text, _joined(chosen[row][1] or REFERENCE, mark)) for row, text in zip(rows, texts, strict=True)}
    measured = {
        part: round(jiwer.wer([chosen[row][0] for row in rows], [noisy[row][0] for row in rows]), 4)
        for part, rows in with_words.items()
        if rows
    }
    return noisy, {"asked_wer": data.transcript_noise, "measured_wer": measured, "confusions": how}


def _confusions(chosen: dict[int, tuple], known: Transcripts, train: Sequence[int]) -> tuple[Confusions, str]:
    """Confusions of the training rows, and a description of how they were found."""
    rows = [row for row in train if known.reference[row] and known.recognised[row] is not None]
    if rows:
        try:
            found = learn_confusions([known.reference[row] for row in rows], [known.recognised[row] for row in rows])
            return found, f"learned from what a recogniser made of {len(rows)} training rows"
        except ValueError:
            pass  # the recogniser made no errors
    return vocabulary_confusions([chosen[row][0] for row in train]), "any word of the training rows for any other"


def _with_sentences(chosen: dict[int, tuple], dataset: Dataset, names, parts, data, seed: int):
    """Text and source of the rows that get a sentence of their label, and details for the record."""
    labels, targets = dataset.features["label"].names, dataset["label"][:]
    bank = sentence_bank(data.sentence_bank, labels)
    extended = {}
    for row in [row for part in SPLITS if data.sentence_bank_rows in ("all", part) for row in parts[part]]:
        if uniform("bank", seed, names[row]) < data.sentence_bank_share:
            sentences, (text, source) = bank[labels[targets[row]]], chosen[row]
            sentence = sentences[int(uniform("sentence", seed, names[row]) * len(sentences))]
            extended[row] = (f"{text} {sentence}" if text else sentence, _joined(source, BANK))
    added = {part: sum(row in extended for row in rows) for part, rows in parts.items()}
    return extended, {"bank": data.sentence_bank, "digest": bank_digest(bank), "rows": added}


def _joined(source: str | None, mark: str) -> str:
    return f"{source}+{mark}" if source else mark


def _noise_kind(part: str) -> str:
    return "train" if part == "train" else "evaluation"
