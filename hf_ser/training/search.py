"""`--search N`: settings that do best on a fold's validation speakers, found by Optuna in N short trainings.

    F/search.db      every trial, as it happens: a search that was killed goes on from there
    F/search.json    all trials and the best settings
    F/search.png     validation UAR by trial, and by each setting

No test speaker is looked at. The best of many trials is chosen by its validation UAR, which is therefore flattering:
the figure to believe is the test's.
"""

import json
import math
import shutil
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from hf_ser.files import atomic_write
from hf_ser.plotting import WARNING, save
from hf_ser.training.parsing import NOT_OF_THE_RESULT
from hf_ser.yaml_text import read_mapping

SEARCH, PICTURE, STORAGE = "search.json", "search.png", "search.db"
SEARCH_VERSION = 1

WARM_UP_TRIALS, WARM_UP_EPOCHS = 5, 1
"""Trials, and epochs of each, before the median of the others may end one."""

BATCH_SIZES = [8, 16, 32]
NOT_SEARCHED = {"seed", "data_seed", "search", "search_space", "cache_frozen", "cache_views", "stages"}
SCALES = ("log", "linear")
COMPLETE, PRUNED = "complete", "pruned"


def search(
    build_trainer: Callable[[TrainingArguments], Trainer], training: TrainingArguments, folder: str | Path, trials: int
) -> dict:
    """Find the settings with the best validation UAR.

    Args:
        build_trainer: Makes a fresh trainer, with a fresh model, from arguments; one is made for each trial. Its
            evaluation rows are the validation speakers.
        training: SerTrainingArguments of the run; its `search_space` may name a file of `read_space`.
        folder: The fold's, where the search is kept.
        trials: How many trainings there shall be, counting those of an earlier call.

    Returns:
        The best settings, fields of `training`, the same in all processes.

    Raises:
        ImportError: Optuna is not installed.
        ValueError: As `read_space`; the folder holds a search of another space; no trial came to its end.
    """
    optuna, folder = _optuna(), Path(folder)
    space = read_space(getattr(training, "search_space", None), training)
    quiet = _quiet(training, folder)
    main = PartialState().is_main_process
    study = _opened(optuna, folder, space, training) if main else None
    (left,) = broadcast_object_list([trials - len(_done(study)) if main else None])
    if left > 0:
        driver = TrialDriver(build_trainer, quiet)
        driver.hyperparameter_search(
            hp_space=lambda trial: {name: one.suggest(trial, name) for name, one in space.items()},
            compute_objective=lambda metrics: metrics["eval_uar"],
            n_trials=left,
            direction="maximize",
            backend="optuna",
            **(_place(folder) | {"sampler": study.sampler, "pruner": study.pruner} if main else {}),
        )
    set_seed(training.seed)  # what is trained after a search starts as if there had been none
    (result,) = broadcast_object_list([_result(study, space) if main else None])
    if main:
        shutil.rmtree(quiet.output_dir, ignore_errors=True)
        with atomic_write(folder / SEARCH) as file:
            file.write(json.dumps(result, indent=1) + "\n")
        plot_search(result, folder / PICTURE)
        print(format_search(result))
    return result["best"]["settings"]


class Range:
    """Numbers from `low` to `high`, drawn evenly or, where `log`, by their logarithm; whole ones where `whole`."""

    def __init__(self, low: float, high: float, log: bool, whole: bool = False):
        kind = int if whole else float
        self.low, self.high, self.log, self.whole = kind(low), kind(high), log, whole

    def suggest(self, trial, name: str):
        """One of them, from an Optuna trial."""
        draw = trial.suggest_int if self.whole else trial.suggest_float
        return draw(name, self.low, self.high, log=self.log)

    def extremes(self) -> list:
        """Values that are refused if any is."""
        return [self.low, self.high]

    def holds(self, value) -> bool:
        """Whether a value lies among them."""
        return self.low <= value <= self.high

    def told(self) -> list:
        """As a file of `read_space` says it."""
        return [self.low, self.high, SCALES[not self.log]]


class Choices:
    """One of some values."""

    def __init__(self, values: list):
        self.values = values

    def suggest(self, trial, name: str):
        """One of them, from an Optuna trial."""
        return trial.suggest_categorical(name, self.values)

    def extremes(self) -> list:
        """Values that are refused if any is."""
        return self.values

    def holds(self, value) -> bool:
        """Whether a value is among them."""
        return value in self.values

    def told(self) -> list:
        """As a file of `read_space` says it."""
        return self.values


def default_space(training: TrainingArguments) -> dict[str, Range | Choices]:
    """What is searched where no file says otherwise: around the run's own learning rate."""
    rate = training.learning_rate
    return {
        "learning_rate": Range(rate / 10, rate * 10, log=True),
        "weight_decay": Range(1e-4, 0.3, log=True),
        "warmup_steps": Range(0.0, 0.3, log=False),
        "per_device_train_batch_size": Choices(BATCH_SIZES),
    }


def read_space(file: str | Path | None, training: TrainingArguments) -> dict[str, Range | Choices]:
    """The settings that are searched, by name.

    Args:
        file: YAML with a line for each: `name: [low, high, log]`, `name: [low, high, linear]`, or a list of choices;
            None for `default_space`.
        training: Whose fields they are, and whose types they take.

    Raises:
        FileNotFoundError, ValueError: no such file; a name that is no field of the training; no range and no choices; a
            value that the training refuses.
    """
    if not file:
        return default_space(training)
    if not Path(file).is_file():
        raise FileNotFoundError(
            f"{file}: no such file. Expected YAML lines such as 'learning_rate: [1e-5, 1e-3, log]'."
        )
    lines = read_mapping(Path(file))
    if not lines:
        raise ValueError(f"{file}: found no 'name: [low, high, log]' lines, expected one for each setting to search.")
    fixed = NOT_OF_THE_RESULT | NOT_SEARCHED
    if unknown := [str(name) for name in lines if not hasattr(training, str(name)) or str(name) in fixed]:
        raise ValueError(
            f"{file}: found {', '.join(unknown)}, expected settings of the training such as learning_rate, "
            "weight_decay, warmup_steps or num_train_epochs. What builds the model is compared with scripts/compare.py."
        )
    space = {name: _entry(f"{file}: {name}", told, getattr(training, name)) for name, told in lines.items()}
    for name, one in space.items():
        for value in one.extremes():
            try:
                replace(training, **{name: value})
            except ValueError as error:
                raise ValueError(f"{file}: {name}: found {value}, which the training refuses: {error}") from error
    return space


def _entry(where: str, told, now) -> Range | Choices:
    """A line of a space; `now` is the run's own value, whose type is wanted."""
    values = [_number(one) for one in told] if isinstance(told, list) else []
    if len(values) == 3 and values[2] in SCALES:
        low, high, scale = values
        numbers = all(isinstance(one, int | float) for one in (low, high))
        if not numbers or not low < high or (scale == "log" and low <= 0):
            raise ValueError(f"{where}: found the range {told}, expected low < high, and above 0 where it is log.")
        return Range(low, high, scale == "log", whole=isinstance(now, int) and not isinstance(now, bool))
    if len(values) < 2 or any(isinstance(one, list | dict) for one in values):
        raise ValueError(f"{where}: found {told}, expected [low, high, log], [low, high, linear] or 2 choices or more.")
    return Choices(values)


def _number(value):
    """YAML leaves 1e-4 a text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


class TrialDriver(Trainer):
    """Lets `Trainer.hyperparameter_search` run trials of which each has a trainer of its own.

    Trained again and again, one trainer would carry over what its callbacks, averages and optimizer have counted. The
    driver itself trains nothing: its model is there because Trainer wants one.
    """

    def __init__(self, build_trainer: Callable[[TrainingArguments], Trainer], training: TrainingArguments):
        own = copy(training)
        own.eval_strategy = IntervalStrategy.NO  # the driver has no rows
        super().__init__(model_init=lambda: torch.nn.Identity(), args=own)
        self.build_trainer, self.training = build_trainer, training

    def train(self, resume_from_checkpoint=None, trial=None, **_):
        """Train one trial; its objective is the best validation UAR of its epochs, as training keeps that checkpoint.

        Raises:
            optuna.TrialPruned: it was behind the median of the others.
        """
        arguments = replace(self.training, **self.hp_space(trial))  # checked as flags are
        set_seed(arguments.seed)
        trainer, reporter = self.build_trainer(arguments), TrialReporter(trial, self.compute_objective)
        trainer.add_callback(reporter)
        trainer.train()
        if reporter.best is None:
            reporter.note(self.compute_objective(trainer.evaluate()))
        self.objective = reporter.best
        if reporter.behind and hasattr(trial, "study"):  # other processes hold a fixed trial, without its study
            raise _optuna().TrialPruned


class TrialReporter(TrainerCallback):
    """Reports the validation UAR of every epoch to Optuna, and ends a training that Optuna prunes, in all processes."""

    def __init__(self, trial, compute_objective: Callable[[dict], float]):
        self.trial, self.compute_objective = trial, compute_objective
        self.best, self.behind, self.reported = None, False, set()

    def note(self, figure: float) -> None:
        """Remember the best figure; one that is not finite counts for nothing."""
        figure = figure if math.isfinite(figure) else 0.0
        self.best = figure if self.best is None else max(self.best, figure)

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        """Report an epoch."""
        self.note(self.compute_objective(metrics))
        epoch = round(state.epoch or 0)
        if epoch not in self.reported and hasattr(self.trial, "study"):
            self.trial.report(self.best, epoch)
        self.reported.add(epoch)
        (behind,) = broadcast_object_list([self.trial.should_prune()])
        if behind:
            self.behind = control.should_training_stop = True


def format_search(result: dict) -> str:
    """The trials as plain text, best first."""
    names = list(result["space"])
    ranked = sorted(result["trials"], key=lambda trial: -trial["uar"])
    lines = ["trial  validation UAR  " + "  ".join(names)]
    for trial in ranked:
        values = "  ".join(f"{_short(trial['settings'][name]):>{len(name)}}" for name in names)
        note = "  (stopped: behind the median)" if trial["state"] == PRUNED else ""
        lines.append(f"{trial['number']:>5}  {100 * trial['uar']:>12.1f} %  {values}{note}")
    return "\n".join([*lines, result["note"]])


def plot_search(result: dict, path: str | Path) -> None:
    """Draw validation UAR by trial, with the best so far, and by each setting, as a PNG."""
    names, trials = list(result["space"]), result["trials"]
    columns = min(3, len(names) + 1)
    rows = -(-(len(names) + 1) // columns)
    figure = Figure(figsize=(4 * columns, 3.2 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    _dots(panels[0], trials, [trial["number"] for trial in trials])
    finished = [trial for trial in trials if trial["state"] == COMPLETE]
    best = [max(one["uar"] for one in finished[: place + 1]) for place in range(len(finished))]
    panels[0].step([one["number"] for one in finished], [100 * one for one in best], where="post", color=WARNING)
    panels[0].set(xlabel="trial (line: best so far)", ylabel="validation UAR, %")
    for axes, name in zip(panels[1:], names, strict=False):
        values = [trial["settings"][name] for trial in trials]
        texts = any(isinstance(value, str) for value in values)
        _dots(axes, trials, [str(value) for value in values] if texts else values)
        axes.set(
            xlabel=name.replace("$", r"\$"), xscale="log" if result["space"][name][-1] == "log" else axes.get_xscale()
        )
    for axes in panels[len(names) + 1 :]:
        axes.set_axis_off()
    figure.suptitle(f"{len(trials)} trials on the validation speakers (hollow: stopped early)", fontsize=11)
    save(figure, path)


def _dots(axes: Axes, trials: list[dict], values: list) -> None:
    for state, face in ((COMPLETE, "tab:blue"), (PRUNED, "white")):
        points = [(x, 100 * one["uar"]) for x, one in zip(values, trials, strict=True) if one["state"] == state]
        if points:
            axes.scatter(*zip(*points, strict=True), color=face, edgecolor="tab:blue")
    axes.grid(alpha=0.3)


def _optuna():
    try:
        import optuna
    except ImportError as error:
        raise ImportError(
            "--search: found no Optuna, which proposes the settings. Expected it installed: pip install hf_ser[search]."
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _quiet(training: TrainingArguments, folder: Path) -> TrainingArguments:
    """The run's arguments for trials: nothing is saved or reported to trackers, since no trial is kept."""
    if training.eval_strategy == IntervalStrategy.NO:
        raise ValueError("--search: found --eval_strategy no, expected epoch: trials are judged as they train.")
    quiet = copy(training)
    quiet.save_strategy, quiet.load_best_model_at_end, quiet.report_to = SaveStrategy.NO, False, []
    quiet.push_to_hub = False
    quiet.output_dir = str(folder / "search")
    return quiet


def _opened(optuna, folder: Path, space: dict, training: TrainingArguments):
    """The search that the folder holds, or a new one whose first trial is the run as it was given.

    Raises:
        ValueError: the folder holds a search of another space.
    """
    folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(direction="maximize", **_place(folder))
    searched = {name: one.told() for name, one in space.items()}
    recorded = study.user_attrs.get("space", searched)
    if recorded != searched:
        raise ValueError(
            f"{folder / STORAGE}: found a search of {recorded}, expected {searched}. Give the same --search_space and "
            "settings, or remove this file to search anew."
        )
    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)  # it was killed
    if not study.trials:
        study.set_user_attr("space", searched)
        own = {name: getattr(training, name) for name in space}
        if all(one.holds(own[name]) for name, one in space.items()):
            study.enqueue_trial(own)
    study.sampler = optuna.samplers.TPESampler(seed=training.seed + len(study.trials))
    study.pruner = optuna.pruners.MedianPruner(WARM_UP_TRIALS, WARM_UP_EPOCHS)
    return study


def _place(folder: Path) -> dict:
    """Where Optuna keeps the search, as `create_study` takes it."""
    storage = f"sqlite:///{(folder / STORAGE).absolute()}"
    return {"study_name": "search", "storage": storage, "load_if_exists": True}


def _done(study) -> list:
    """Trials that came to their end, or were stopped for being behind."""
    return [trial for trial in study.trials if trial.state.name.lower() in (COMPLETE, PRUNED)]


def _result(study, space: dict) -> dict:
    trials = [
        {
            "number": trial.number,
            "state": trial.state.name.lower(),
            "uar": trial.value if trial.value is not None else max(trial.intermediate_values.values(), default=0.0),
            "epochs": max(trial.intermediate_values, default=0),
            "settings": trial.params,
        }
        for trial in _done(study)
    ]
    finished = [trial for trial in trials if trial["state"] == COMPLETE]
    if not finished:
        raise ValueError("--search: found no trial that came to its end, expected one. Ask for more trials.")
    return {
        "search_version": SEARCH_VERSION,
        "space": {name: one.told() for name, one in space.items()},
        "best": max(finished, key=lambda trial: (trial["uar"], -trial["number"])),
        "trials": trials,
        "note": f"Chosen by validation speakers among {len(trials)} trials: their figure flatters, the test's counts.",
    }


def _short(value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
