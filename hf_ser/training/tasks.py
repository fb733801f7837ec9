"""The kinds of model that are trained: which settings each has, how these are checked, and what builds the model."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from datasets import Dataset

from hf_ser.data.protocols import Fold
from hf_ser.files import packaged
from hf_ser.recipes import RECIPES
from hf_ser.runs.folder import RunFolder
from hf_ser.training.arguments import (
    OF_MODEL,
    AdaptArguments,
    AudioArguments,
    AugmentArguments,
    DataArguments,
    FusionArguments,
    HeadArguments,
    TextArguments,
    refuse_words,
)
from hf_ser.training.building import Candidate, build_audio, build_fusion, build_text, from_fold
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
        build: Makes an untrained model from the settings, the class names, the texts and speakers of the training rows,
            and the fold.
        check: Raises ValueError for settings that this kind has no use for.
        default_recipe: Recipe that is used where nothing at all is given.
    """

    name: str
    classes: tuple[type, ...]
    build: Callable[[Settings, list[str], list[str | None], list[str | None], Fold], Candidate]
    check: Callable[[Settings], None]
    default_recipe: str | None = None


def _audio(given: Settings, labels, _texts, _speakers, fold: Fold) -> Candidate:
    return build_audio(labels, from_fold(given[AudioArguments], fold.name), given[HeadArguments], given[AdaptArguments])


def _text(given: Settings, labels, texts, speakers, fold: Fold) -> Candidate:
    return build_text(labels, texts, from_fold(given[TextArguments], fold.name), given[AdaptArguments], speakers)


def _fusion(given: Settings, labels, texts, speakers, fold: Fold) -> Candidate:
    encoders = [from_fold(given[one], fold.name) for one in (AudioArguments, TextArguments)]
    return build_fusion(labels, texts, *encoders, given[FusionArguments], given[AdaptArguments], speakers)


def _check_audio(given: Settings) -> None:
    refuse_words(given[DataArguments])
    of_descent = (AudioArguments, HeadArguments, AugmentArguments, AdaptArguments, SerTrainingArguments)
    refuse_descent(*(given[one] for one in of_descent))


def _classes(name: str) -> tuple[type, ...]:
    return (*OF_MODEL[name], SerTrainingArguments)


TASKS = {
    "audio": Task("audio", _classes("audio"), _audio, _check_audio),
    "text": Task("text", _classes("text"), _text, lambda _: None),
    "fusion": Task("fusion", _classes("fusion"), _fusion, lambda _: None, "quickstart.yaml"),
}


def parse_task(name: str, argv: list[str] | None = None) -> Settings:
    """Read the settings of a task from a recipe and flags, by default those of this process.

    Raises:
        FileNotFoundError, ValueError, SystemExit: see `parse_arguments`.
    """
    task = TASKS[name]
    recipe = task.default_recipe and packaged(f"{RECIPES}/{task.default_recipe}")
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
    task, data, training = TASKS[name], given[DataArguments], given[SerTrainingArguments]
    task.check(given)
    models = [given[one] for one in (AudioArguments, TextArguments) if one in given]
    dataset, folds, label_map = open_data(data, *models, dataset=dataset)
    others = [value for kind, value in given.items() if kind not in (DataArguments, SerTrainingArguments)]
    train_folds(name, partial(task.build, given), dataset, folds, label_map, data, training, *others)
    return RunFolder(training.output_dir)
