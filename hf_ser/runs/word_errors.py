"""Contents of `report.json` of a fine-tuned recogniser: its word error rates before and after."""

from dataclasses import dataclass
from typing import Any, ClassVar

from hf_ser.json_record import Record
from hf_ser.transcripts.wer_figures import FineTunedErrors


@dataclass(frozen=True, kw_only=True)
class AsrReport(Record):
    """Word error rates of a recogniser on test speakers, and what they were measured on.

    Args:
        folds: Fingerprint of the split of each fold.
        asr: The recogniser before and after, by fold.
        known_texts: Number of test clips whose sentence is also spoken in training.
        left_out: What was left out of the data.
        settings, seeds, hardware, precision, versions: How it was trained.
        wer: Word errors before and after.
        per_fold: The rates of each fold, `before` and `after`.
    """

    WHAT: ClassVar[str] = "a report of fine-tuning a recogniser"
    REMEDY: ClassVar[str] = "Make it again with python scripts/train_asr.py and the same settings."

    corpus: str
    protocol: str | None
    language: str | None
    folds: dict[str, str]
    asr: dict[str, Any]
    leaks: list[str]
    known_texts: int
    left_out: list[str]
    notices: list[str]
    settings: dict[str, Any]
    seeds: dict[str, Any]
    hardware: list[str]
    precision: str | None = None
    versions: dict[str, str]
    wer: FineTunedErrors
    per_fold: dict[str, dict[str, float]]
