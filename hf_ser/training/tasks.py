"""The kinds of model that are trained: which settings each has, how these are checked, and what builds the model."""

from dataclasses import dataclass
from functools import partial

from datasets import Dataset

from hf_ser.data.protocols import Fold
from hf_ser.files import package_file
from hf_ser.recipes import RECIPES
from hf_ser.runs.folder import RunFolder
from hf_ser.training.arguments import (
    OF_MODEL,
    AdaptArguments,
    AudioArguments,
    AugmentArguments,
    CommonHeadArguments,
    DataArguments,
    FusionArguments,
    HeadArguments,
    TextArguments,
    refuse_words,
)
from hf_ser.training.building import Candidate, build_model, from_fold
from hf_ser.training.fits import refuse_descent
from hf_ser.training.parsing import parse_arguments
from hf_ser.training.run import open_data, train_folds
from hf_ser.training.trainer_arguments import SerTrainingArguments

Settings = dict[type, object]
"""The settings of a run by their dataclass."""


@dataclass(frozen=True)
class Task:
    """A kind of model.

    Args:
        name: `audio`, `text` or `fusion`.
        classes: Dataclasses of its settings, in the order of `--help`.
        default_recipe: Recipe that is used where nothing at all is given.
    """

    name: str
    classes: tuple[type, ...]
    default_recipe: str | None = None


def _build(given: Settings, labels, texts, speakers, fold: Fold) -> Candidate:
    parts = {"audio": given.get(AudioArguments), "text": given.get(TextArguments)}
    parts = {name: part and from_fold(part, fold.name) for name, part in parts.items()}
    return build_model(labels, _head(given), given[AdaptArguments], **parts, texts=texts, speakers=speakers)


def _head(given: Settings) -> CommonHeadArguments:
    return given.get(HeadArguments) or given[FusionArguments]


def _check(given: Settings) -> None:
    if TextArguments not in given:
        refuse_words(given[DataArguments])
    models = [given[one] for one in (AudioArguments, TextArguments) if one in given]
    refuse_descent(
        models, _head(given), given.get(AugmentArguments), given[AdaptArguments], given[SerTrainingArguments]
    )


TASKS = {
    "audio": Task("audio", (*OF_MODEL["audio"], SerTrainingArguments)),
    "text": Task("text", (*OF_MODEL["text"], SerTrainingArguments)),
    "fusion": Task("fusion", (*OF_MODEL["fusion"], SerTrainingArguments), "quickstart.yaml"),
}


def parse_task(name: str, argv: list[str] | None = None) -> Settings:
    """Read the settings of a task from a recipe and flags, by default those of this process.

    Raises:
        FileNotFoundError, ValueError, SystemExit: see `parse_arguments`.
    """
    task = TASKS[name]
    recipe = task.default_recipe and package_file(f"{RECIPES}/{task.default_recipe}")
    values = parse_arguments(task.classes, argv, recipe, f"runs/{name}")
    return dict(zip(task.classes, values, strict=True))


def run_task(name: str, given: Settings, dataset: Dataset | None = None) -> RunFolder:
    """Train the folds that the settings name, test them, and write the run's folder.

    Args:
        name: Key of TASKS.
        given: Its settings.
        dataset: A prepared data set; by default the one that the settings name.

    Raises:
        ValueError, FileNotFoundError: settings, data or folds that cannot be used; a leak.
    """
    data, training = given[DataArguments], given[SerTrainingArguments]
    _check(given)
    models = [given[one] for one in (AudioArguments, TextArguments) if one in given]
    dataset, folds, label_map = open_data(data, *models, dataset=dataset)
    others = [value for kind, value in given.items() if kind not in (DataArguments, SerTrainingArguments)]
    train_folds(name, partial(_build, given), dataset, folds, label_map, data, training, *others)
    return RunFolder(training.output_dir)
