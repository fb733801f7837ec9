"""A range test: which learning rate a model learns fastest with, before it is trained."""

import json
import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from hf_ser.files import atomic_write
from hf_ser.plotting import WARNING, save

LOWEST, HIGHEST, STEPS = 1e-6, 1.0, 100
MEMORY = 0.9
"""Share of the loss so far in the smoothed one."""
UNSETTLED = 10
"""Steps at the start whose smoothed losses are of too few batches to tell where they fall."""
TOO_MUCH = 4.0
"""The test stops where the smoothed loss is so many times its lowest."""


def find_learning_rate(trainer, folder: str | Path) -> float:
    """Train for at most 100 steps with a rising learning rate, draw the loss, and put the model back as it was.

    Rates that are set apart (`--head_learning_rate`, `--layer_decay`) keep their ratio to `--learning_rate`. Writes
    `learning_rate.json` and `learning_rate.png`.

    Args:
        trainer: A SerTrainer that has not begun; nothing else is to be done with it.
        folder: Where the results go.

    Returns:
        The learning rate where the smoothed loss falls most steeply.

    Raises:
        ValueError: the model is sharded, or the loss is not finite from the start.

    Source: Smith 2017, Cyclical Learning Rates for Training Neural Networks, section 3.3.
    """
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise ValueError(
            "--find_learning_rate needs the whole model: run it by one process, without FSDP or DeepSpeed."
        )
    before = {name: tensor.detach().clone() for name, tensor in trainer.model.state_dict().items()}
    rates, losses = range_test(trainer)
    with torch.no_grad():
        for name, tensor in trainer.model.state_dict().items():
            tensor.copy_(before[name])
    trainer.optimizer = None
    smoothed = smooth(losses)
    found = steepest(rates, smoothed)
    if trainer.is_world_process_zero():
        with atomic_write(Path(folder) / "learning_rate.json") as file:
            told = {"suggestion": found, "rates": rates, "losses": losses, "smoothed": smoothed}
            json.dump(told, file, indent=1)
        draw(rates, losses, smoothed, found, Path(folder) / "learning_rate.png")
    return found


def range_test(trainer) -> tuple[list[float], list[float]]:
    """The learning rates, and the loss of the batch that each step begins with."""
    args, accelerator = trainer.args, trainer.accelerator
    loader = trainer.get_train_dataloader()
    model, optimizer = accelerator.prepare(trainer.model, trainer.create_optimizer())
    shares = [group["lr"] / args.learning_rate for group in optimizer.param_groups]
    trainer.current_gradient_accumulation_steps = 1
    rates, losses, lowest = [], [], math.inf
    for rate, batch in zip(np.geomspace(LOWEST, HIGHEST, STEPS), islice(endless(loader), STEPS), strict=True):
        for group, share in zip(optimizer.param_groups, shares, strict=True):
            group["lr"] = float(rate) * share
        loss = accelerator.gather(trainer.training_step(model, batch).reshape(1)).mean().item()
        if not math.isfinite(loss):
            break
        rates.append(float(rate))
        losses.append(loss)
        now = smooth(losses)[-1]
        lowest = min(lowest, now)
        if now > TOO_MUCH * lowest:
            break
        if args.max_grad_norm > 0:
            accelerator.clip_grad_norm_(model.parameters(), args.max_grad_norm)
        optimizer.step()
        model.zero_grad()
    model.zero_grad()
    accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    return rates, losses


def endless(loader) -> Iterator:
    """Its batches, epoch after epoch."""
    while True:
        yield from loader


def smooth(losses: list[float]) -> list[float]:
    """A moving average of losses that is not drawn towards zero at its start."""
    mean, smoothed = 0.0, []
    for step, loss in enumerate(losses, start=1):
        mean = MEMORY * mean + (1 - MEMORY) * loss
        smoothed.append(mean / (1 - MEMORY**step))
    return smoothed


def steepest(rates: list[float], smoothed: list[float]) -> float:
    """The learning rate where the smoothed loss falls most steeply, before it is lowest.

    Raises:
        ValueError: there are too few losses to tell.
    """
    if len(smoothed) < 4:
        raise ValueError(
            f"--find_learning_rate: the loss was finite for {len(smoothed)} steps. Expected more: look at the data, or "
            "lower --head_learning_rate."
        )
    begin = min(UNSETTLED, len(smoothed) - 4)
    until = max(begin + int(np.argmin(smoothed[begin:])) + 1, begin + 4)
    slope = np.gradient(np.array(smoothed[begin:until]), np.log(rates[begin:until]))
    return float(rates[begin + int(np.argmin(slope))])


def draw(rates: list[float], losses: list[float], smoothed: list[float], found: float, file: Path) -> None:
    """Draw the loss over the learning rate, with the suggestion."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, losses, ".", color="0.7", label="a batch")
    axes.plot(rates, smoothed, label="smoothed")
    axes.axvline(found, color=WARNING, linestyle="--", label=f"steepest: {found:.1e}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss", title="Range test of the learning rate")
    top = 1.5 * max(smoothed[: max(len(smoothed) // 2, 1)])
    axes.set_ylim(0, max(top, 1.1 * min(smoothed)))
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, file)
