"""Folders of a run and of its folds, read on access."""

import json
from functools import cached_property
from pathlib import Path

from transformers.utils import CONFIG_NAME

from hf_ser.revisions import public_name
from hf_ser.runs.classifier import Classifier
from hf_ser.runs.figures import DimensionReport, Report, read_report
from hf_ser.runs.findings import AUDIT, Audit
from hf_ser.runs.predictions import PREDICTIONS, Prediction, read_predictions
from hf_ser.runs.record import RECORD, TrainingRecord
from hf_ser.runs.report import REPORT, RUN
from hf_ser.runs.stress import STRESS, StressResult
from hf_ser.runs.word_errors import AsrReport


class FoldFolder:
    """The folder of one finished fold: its model, predictions and report.

    Args:
        path: The folder, such as `runs/NAME/fold_1`.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"FoldFolder({str(self.path)!r})"

    def __fspath__(self) -> str:
        return str(self.path)

    @cached_property
    def record(self) -> TrainingRecord:
        """`training_record.json`: what the model was trained on, and how.

        Raises:
            ValueError: it is damaged.
        """
        return TrainingRecord.read(self.path / RECORD)

    @property
    def name(self) -> str:
        """The fold: a number from 1, or `final`."""
        if self.record.split is None:
            raise ValueError(f"{self.path / RECORD}: found no split, expected one. {TrainingRecord.REMEDY}")
        return self.record.split.fold

    @property
    def is_tested(self) -> bool:
        """Whether there are predictions; a model trained on all speakers has none."""
        return (self.path / PREDICTIONS).is_file()

    @cached_property
    def predictions(self) -> list[Prediction]:
        """One row for each test utterance; empty where there are none."""
        return read_predictions(self.path / PREDICTIONS) if self.is_tested else []

    @property
    def report(self) -> Report | DimensionReport | None:
        """The fold's own report; None where it has none."""
        return read_report(self.path / REPORT)

    @property
    def stress(self) -> StressResult | None:
        """The stress test of the model; None where none was made."""
        return StressResult.read_if_there(self.path / STRESS)

    def model(self, device: str | None = None) -> Classifier:
        """Load the trained model; see `Classifier`."""
        return Classifier(str(self.path), device)


class RunFolder:
    """The folder that a training script or `hf_ser.train` writes.

    Args:
        path: Its `--output_dir`.

    Raises:
        FileNotFoundError: there is no such folder.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_dir():
            raise FileNotFoundError(f"{path}: no such folder. Expected the folder that a training wrote.")

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r}, folds={list(self.folds)})"

    @property
    def folds(self) -> dict[str, FoldFolder]:
        """The finished folds by name, in the order of their folders."""
        folds = [FoldFolder(file.parent) for file in sorted(self.path.glob(f"*/{RECORD}"))]
        return {fold.name: fold for fold in folds if fold.record.finished}

    @property
    def settings(self) -> dict:
        """The settings that differ from the defaults and affect the result."""
        file = self.path / RUN
        return json.loads(file.read_text(encoding="utf-8")).get("settings", {}) if file.is_file() else {}

    @property
    def report(self) -> Report | DimensionReport | None:
        """The figures over all tested folds, such as `report.uar`; None if no fold was tested, and for a recogniser.

        `report.dimensions` has those of valence, arousal and dominance.
        """
        return None if self.is_of_recogniser else read_report(self.path / REPORT)

    @property
    def word_errors(self) -> AsrReport | None:
        """The word error rates of a fine-tuned recogniser; None if no fold was tested, and for other models."""
        return AsrReport.read_if_there(self.path / REPORT) if self.is_of_recogniser else None

    @property
    def is_of_recogniser(self) -> bool:
        """Whether the run fine-tuned a Whisper recogniser."""
        return self.settings.get("model") == "asr"

    @property
    def system(self) -> str:
        """The encoders, head and settings of the models in one line, or the name of a model that was only evaluated.

        Empty if no fold is finished.
        """
        evaluated = public_name(self.settings.get("evaluated", ""))
        return next((fold.record.description for fold in self.folds.values()), evaluated)

    @property
    def about(self) -> dict[str, str]:
        """Kind, recipe, encoders and learner of the models; empty if no fold is finished."""
        return next((fold.record.about for fold in self.folds.values()), {})

    @property
    def audit(self) -> Audit | None:
        """The audit; None where none was made."""
        return Audit.read_if_there(self.path / AUDIT)


def model_or_run(name: str | Path, device: str | None = None) -> Classifier | RunFolder:
    """Open a folder that holds folds as a run, anything else as a model of a folder or of the Hub."""
    folder = Path(name)
    is_run = folder.is_dir() and not (folder / CONFIG_NAME).is_file() and any(folder.glob(f"*/{RECORD}"))
    return RunFolder(folder) if is_run else Classifier(str(name), device)
