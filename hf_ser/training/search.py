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
from hf_ser.plotting import BLUE, WARNING, save

SEARCH, PICTURE, STORAGE = "search.json", "search.png", "search.db"
SEARCH_VERSION = 1

WARM_UP_TRIALS, WARM_UP_EPOCHS = 5, 1
"""Trials, and epochs of each, before the median of the others may end one."""

BATCH_SIZES = [8, 16, 32]
COMPLETE, PRUNED = "complete", "pruned"


def search(
    build_trainer: Callable[[TrainingArguments], Trainer], training: TrainingArguments, folder: str | Path, trials: int
) -> dict:
    """Find the settings with the best validation UAR.

    Args:
        build_trainer: Makes a fresh trainer, with a fresh model, from arguments; one is made for each trial. Its
            evaluation rows are the validation speakers.
        training: SerTrainingArguments of the run.
        folder: The fold's, where the search is kept.
        trials: How many trainings there shall be, counting those of an earlier call.

    Returns:
        The best settings, fields of `training`, the same in all processes.

    Raises:
        ImportError: Optuna is not installed.
        ValueError: the folder holds a search around another learning rate; no trial came to its end.
    """
    optuna, folder = _optuna(), Path(folder)
    space = search_space(training)
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
    """Numbers from `low` to `high`, drawn evenly or, where `log`, by their logarithm."""

    def __init__(self, low: float, high: float, log: bool):
        self.low, self.high, self.log = low, high, log

    def suggest(self, trial, name: str):
        """One of them, from an Optuna trial."""
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def holds(self, value) -> bool:
        """Whether a value is among them."""
        return self.low <= value <= self.high

    def to_json(self) -> list:
        """The values as the record of a search keeps them."""
        return [self.low, self.high, "log" if self.log else "linear"]


class Choices:
    """One of some values."""

    def __init__(self, values: list):
        self.values = values

    def suggest(self, trial, name: str):
        """One of them, from an Optuna trial."""
        return trial.suggest_categorical(name, self.values)

    def holds(self, value) -> bool:
        """Whether a value is among them."""
        return value in self.values

    def to_json(self) -> list:
        """The values as the record of a search keeps them."""
        return self.values


def search_space(training: TrainingArguments) -> dict[str, Range | Choices]:
    """The settings that are searched: around the run's own learning rate."""
    rate = training.learning_rate
    return {
        "learning_rate": Range(rate / 10, rate * 10, log=True),
        "weight_decay": Range(1e-4, 0.3, log=True),
        "warmup_steps": Range(0.0, 0.3, log=False),
        "per_device_train_batch_size": Choices(BATCH_SIZES),
    }


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
    for state, face in ((COMPLETE, BLUE), (PRUNED, "white")):
        points = [(x, 100 * one["uar"]) for x, one in zip(values, trials, strict=True) if one["state"] == state]
        if points:
            axes.scatter(*zip(*points, strict=True), color=face, edgecolor=BLUE)
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
    searched = {name: one.to_json() for name, one in space.items()}
    recorded = study.user_attrs.get("space", searched)
    if recorded != searched:
        raise ValueError(
            f"{folder / STORAGE}: found a search of {recorded}, expected {searched}. Give the same settings, or remove "
            "this file to search anew."
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
        "space": {name: one.to_json() for name, one in space.items()},
        "best": max(finished, key=lambda trial: (trial["uar"], -trial["number"])),
        "trials": trials,
        "note": f"Chosen by validation speakers among {len(trials)} trials: their figure flatters, the test's counts.",
    }


def _short(value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
