"""What is trained when, and how fast: stages, and a learning rate of the head's own."""

import math
import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, chain

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import EarlyStoppingCallback, TrainerCallback

from hf_ser.training.adaptation import by_depth

STAGE = re.compile(r"(head|all|audio|text|top:[1-9]\d*):([1-9]\d*)@([^@]+)")
HEAD = "head"
RISE = 0.3
"""Share of a stage in which its learning rate rises."""


@dataclass(frozen=True)
class Stage:
    """A part of training in which the same weights are trained.

    Args:
        part: What is trained: head, top:N, audio, text or all; the head always is.
        epochs: How long.
        peak: Its highest learning rate.
    """

    part: str
    epochs: int
    peak: float


def parse_stages(text: str) -> list[Stage]:
    """Stages from `head:5@1e-3,all:10@2e-5`.

    Raises:
        ValueError: one is not readable.
    """
    stages = []
    for one in text.split(","):
        found = STAGE.fullmatch(one.strip())
        try:
            peak = float(found[3]) if found else 0.0
        except ValueError:
            peak = 0.0
        if not 0 < peak < math.inf:
            raise ValueError(
                f"--stages {text}: '{one.strip()}' is not a stage. Expected PART:EPOCHS@PEAK_RATE, such as "
                "head:5@1e-3, with head, top:N, audio, text or all for PART and a whole number of epochs."
            )
        stages.append(Stage(found[1], int(found[2]), peak))
    return stages


def trained_in(part: str, model: nn.Module, encoders: dict[str, nn.Module]) -> set[int]:
    """The `id`s of the parameters that a stage trains, among those that are not frozen.

    Raises:
        ValueError: the part is missing, or all of it is frozen.
    """
    if part in ("audio", "text") and part not in encoders:
        raise ValueError(f"--stages {part}: this model has no {part} encoder, it has {', '.join(encoders)}.")
    in_encoders = {id(parameter) for encoder in encoders.values() for parameter in encoder.parameters()}
    wanted = {id(parameter) for parameter in model.parameters()} - in_encoders
    for name, encoder in encoders.items():
        if part in ("all", name):
            wanted |= {id(parameter) for parameter in encoder.parameters()}
        elif part.startswith("top:"):
            # The layers, and what comes after them.
            layers = by_depth(encoder)[1:]
            wanted |= {id(parameter) for parameter in chain(*layers[-int(part[4:]) - 1 :])}
    found = {id(parameter) for parameter in model.parameters() if parameter.requires_grad} & wanted
    if not found or (part != HEAD and not found & in_encoders):
        raise ValueError(
            f"--stages {part}: found only frozen weights. Expected a part that --freeze and the like leave to be "
            "trained: leave that stage out, or train the part."
        )
    return found


class Stages(TrainerCallback):
    """Trains the weights of each stage in it only. Other weights get no gradient, so no step and no decay either."""

    def __init__(self, stages: list[Stage], model: nn.Module, encoders: dict[str, nn.Module]):
        """Freezes what no stage trains, so that it is neither given to the optimizer nor counted.

        Raises:
            ValueError: a stage has nothing to train.
        """
        self.stages, self.current = stages, None
        self.trained = [trained_in(stage.part, model, encoders) for stage in stages]
        self.parameters = [p for p in model.parameters() if any(id(p) in trained for trained in self.trained)]
        ever = {id(parameter) for parameter in self.parameters}
        for parameter in model.parameters():
            parameter.requires_grad_(id(parameter) in ever)

    def on_train_begin(self, args, state, control, **kwargs):
        """Start in the first stage, or in that of a resumed run."""
        self.current = None
        self.on_step_begin(args, state, control)

    def on_step_begin(self, args, state, control, **kwargs):
        """Enter the stage of this step."""
        stage = stage_of(self.stages, state.global_step, state.max_steps)
        if stage != self.current:
            self.current = stage
            for parameter in self.parameters:
                parameter.requires_grad_(id(parameter) in self.trained[stage])


class Patience(EarlyStoppingCallback):
    """Early stopping in the last stage only: what comes later may be better."""

    def on_train_begin(self, args, state, control, **kwargs):
        """Start counting, or stop at once where a resumed run had used up its patience."""
        super().on_train_begin(args, state, control, **kwargs)
        if not state.global_step:
            self.early_stopping_patience_counter = 0
        elif self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        """Count an evaluation of the last stage's weights."""
        if state.global_step > patient_until(args, state.max_steps):
            super().on_evaluate(args, state, control, metrics, **kwargs)


def patient_until(args, max_steps: int) -> float:
    """The last step whose evaluation does not count against the patience."""
    before_last = ends_of(parse_stages(args.stages), max_steps)[:-1] if args.stages else []
    return max([0, *before_last])


def ends_of(stages: list[Stage], max_steps: int) -> list[int]:
    """The step with which each stage is over."""
    epochs = list(accumulate(stage.epochs for stage in stages))
    return [round(max_steps * epoch / epochs[-1]) for epoch in epochs]


def stage_of(stages: list[Stage], step: int, max_steps: int) -> int:
    """The stage that a step is in, from 0."""
    return min(bisect_right(ends_of(stages, max_steps), step), len(stages) - 1)


def one_cycle(progress: float) -> float:
    """Learning rate over its peak, at a share of a stage: it rises in a line, then falls as half a cosine.

    Source: Smith and Topin 2018, Super-Convergence, without their cycle of momentum.
    """
    if progress < RISE:
        return progress / RISE
    return 0.5 * (1 + math.cos(math.pi * (min(progress, 1) - RISE) / (1 - RISE)))


def stage_schedule(
    optimizer: Optimizer, stages: list[Stage], trained: list[set[int]], args, max_steps: int
) -> LambdaLR:
    """One cycle of the learning rate a stage; a function of the step alone, so a resumed run goes on with it.

    Args:
        optimizer: Its groups are those of `split_groups`.
        stages, trained: The stages, and the parameters that each trains, by `id`.
        args: SerTrainingArguments; `head_learning_rate` is the head's peak in stages that train an encoder too.
        max_steps: Steps of all stages.
    """
    ends = ends_of(stages, max_steps)

    def of_group(group: dict) -> Callable[[int], float]:
        members = {id(parameter) for parameter in group["params"]}

        def factor(step: int) -> float:
            now = stage_of(stages, step, max_steps)
            if not members & trained[now]:
                return 0.0
            peak, begin = stages[now].peak, ends[now - 1] if now else 0
            if group["part"] == HEAD and stages[now].part != HEAD and args.head_learning_rate is not None:
                peak = args.head_learning_rate
            # From the middle of the step, so that no step of a short stage has a learning rate of zero.
            return peak * one_cycle((step + 0.5 - begin) / max(ends[now] - begin, 1)) / args.learning_rate

        return factor

    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] = args.learning_rate
    return LambdaLR(optimizer, [of_group(group) for group in optimizer.param_groups])


def split_groups(optimizer: Optimizer, encoders: dict[str, nn.Module], args) -> None:
    """Split the groups of an optimizer, in place: the head and each encoder, with stages also by its depths.

    Trainer's groups with and without weight decay stay apart. Each group gets the key `part` (head or a modality).
    """
    place = {}
    for name, encoder in encoders.items():
        for depth, parameters in enumerate(by_depth(encoder)):
            # With stages every depth is a group of its own, for a stage may train some of them.
            place |= {id(p): (name, depth if args.stages else 0) for p in parameters}
    groups = list(optimizer.param_groups)
    optimizer.param_groups.clear()
    for group in groups:
        parts: dict[tuple, list[nn.Parameter]] = {}
        for parameter in group["params"]:
            parts.setdefault(place.get(id(parameter), (HEAD, 0)), []).append(parameter)
        # The head first: its learning rate is the one that is logged.
        for (name, _), members in sorted(parts.items(), key=lambda item: item[0][0] != HEAD):
            head = args.head_learning_rate if name == HEAD else None
            rate = group["lr"] if head is None else head
            optimizer.add_param_group({**group, "params": members, "lr": rate, "part": name})
