"""The kinds of model that are trained, by name: how their settings are read, and the run that follows."""

import shlex

from datasets import Dataset

from hf_ser.files import package_file
from hf_ser.recipes import RECIPES
from hf_ser.runs.folder import RunFolder
from hf_ser.training.asr_task import AsrTask
from hf_ser.training.emotion_task import AudioTask, FusionTask, TextTask
from hf_ser.training.parsing import parse_arguments
from hf_ser.training.run import Settings, open_data, train_folds

PAPER = "--pictures png,pdf,svg"
"""Flag of evaluate.py for pictures that a paper can use."""

TASKS = {task.name: task for task in (AudioTask, TextTask, FusionTask, AsrTask)}


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
    task = TASKS[name](given)
    train_folds(task, *open_data(task.data, *given.values(), dataset=dataset))
    return RunFolder(task.training.output_dir)


def next_commands(name: str, run: RunFolder, given: Settings) -> list[str]:
    """The two commands that people most often type after a training.

    Args:
        name: Key of TASKS.
        run: The run's folder.
        given: Its settings.
    """
    data, folds = given[TASKS[name].classes[0]], run.folds
    last = shell_word(next(reversed(folds.values())).path)
    if name == "asr":
        dataset = shell_word(data.dataset or "DATA_SET")
        return [f"transcribe --dataset {dataset} --asr {last}", f"train_fusion --dataset {dataset} --fold all"]
    evaluate = f"evaluate {shell_word(run.path)} {PAPER}"
    if data.dataset and run.report:
        evaluate = f"stress {shell_word(run.path)} --dataset {shell_word(data.dataset)}"
    use = f"push_to_hub {last} user/name --private" if name == "text" else f"predict {last} call.wav"
    return [use, f"push_to_hub {last} user/name --private" if run.report is None else evaluate]


def shell_word(path: object) -> str:
    """A path as a shell takes it."""
    return shlex.quote(str(path))
