"""Figures of a recogniser's word errors, as `wer.json`, `transcripts.json` and a recogniser's `report.json` have them.

Rates are errors divided by the words of the reference: a share that may be larger than 1.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from hf_ser.json_record import Record


@dataclass(frozen=True, kw_only=True)
class GroupErrors(Record):
    """Word error rate of one group of clips, such as a label."""

    n_clips: int
    n_words: int
    wer: float


@dataclass(frozen=True, kw_only=True)
class WordConfusion(Record):
    """An error and its count.

    Args:
        reference: Word of the reference; empty for an inserted word.
        recognised: Word of the recogniser; empty for a deleted word.
        count: How often.
    """

    reference: str
    recognised: str
    count: int


@dataclass(frozen=True, kw_only=True)
class ClipErrors(Record):
    """Word error rate of one clip."""

    id: str
    wer: float
    n_words: int


@dataclass(frozen=True, kw_only=True)
class WordErrors(Record):
    """Word error rate of a corpus.

    Of the corpus's texts only the most confused words are in it, since some licences forbid to share more.

    Args:
        n_clips: Clips whose reference has words.
        n_clips_without_words: The others, which are in no other figure.
        n_speakers: Speakers that are known.
        n_words: Words of the references.
        wer: Errors of all clips divided by the words of all references.
        wer_ci95: 95 % interval over speakers; None where `wer_ci95_note` says why.
        wer_ci95_note: How the interval was made and how far it can be trusted, or why there is none.
        substitution_rate, deletion_rate, insertion_rate: Errors of one kind divided by the words.
        share_without_error: Share of the clips without an error.
        wer_quantiles: Quantiles of the clips' word error rates.
        wer_histogram: Clips by their word error rate.
        by_label, by_corpus: Figures of groups of clips.
        by_sex: The same by sex of the speaker; empty where it is unknown.
        by_confidence: The same by thirds of the clips, by how sure the recogniser was of their transcripts; empty where
            that is not known.
        confusions: Most frequent errors.
        worst_clips: Clips with the highest word error rates.
    """

    WHAT: ClassVar[str] = "a report on word errors"
    REMEDY: ClassVar[str] = "Make it again with python scripts/transcribe.py or scripts/train_asr.py."

    n_clips: int
    n_clips_without_words: int
    n_speakers: int
    n_words: int
    wer: float
    wer_ci95: list[float] | None
    wer_ci95_note: str
    substitution_rate: float
    deletion_rate: float
    insertion_rate: float
    share_without_error: float
    wer_quantiles: dict[str, float]
    wer_histogram: dict[str, int]
    by_label: dict[str, GroupErrors]
    by_corpus: dict[str, GroupErrors]
    by_sex: dict[str, GroupErrors]
    by_confidence: dict[str, GroupErrors] = field(default_factory=dict)
    confusions: list[WordConfusion]
    worst_clips: list[ClipErrors]


@dataclass(frozen=True, kw_only=True)
class FineTunedErrors(Record):
    """Word errors of a recogniser on the same clips, before and after fine-tuning."""

    WHAT: ClassVar[str] = "the word errors of a fine-tuned recogniser"
    REMEDY: ClassVar[str] = "Make it again with python scripts/train_asr.py and the same settings."

    before: WordErrors
    after: WordErrors
