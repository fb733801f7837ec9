"""Averages of the weights over the steps of training, which are evaluated and saved in place of the last weights."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import TrainerCallback

AVERAGING = "averaging.safetensors"
"""In a checkpoint: the weights that are trained and their average. The checkpoint's model is the average."""


class WeightAveraging(TrainerCallback):
    """A moving average of the weights, after each step.

    Training goes on with the weights themselves. Buffers of floating point, such as BatchNorm's statistics, are
    averaged like the weights; others, such as its counter, stay the current ones.
    """

    def __init__(self, model: nn.Module, ema_decay: float):
        self.ema_decay, self.count = ema_decay, 0
        self.averaged = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.averaged |= {name: b for name, b in model.named_buffers() if b.is_floating_point()}
        self.average: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def on_step_end(self, args, state, control, **kwargs):
        """Take this step's weights into the average."""
        # As in TensorFlow's moving average: the first steps, far from where training ends, are soon forgotten.
        share = 1 - min(self.ema_decay, (1 + self.count) / (10 + self.count))
        if not self.count:
            self.average = {name: tensor.detach().float().clone() for name, tensor in self.averaged.items()}
        for name, tensor in self.averaged.items():
            average, current = self.average[name], tensor.detach().float()
            # Equal ones as they are: constants stay exact, and infinite ones do not become NaN.
            average.copy_(torch.where(average == current, average, average.lerp(current, share)))
        self.count += 1

    def on_train_end(self, args, state, control, **kwargs):
        """Put the average into the model, unless the best checkpoint, which is an average, has been loaded."""
        if not (args.load_best_model_at_end and state.best_model_checkpoint):
            self._put(self.average)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Replace the weights by their average inside the context, if there is one yet."""
        raw = {name: tensor.detach().clone() for name, tensor in self.averaged.items()} if self.count else {}
        self._put(self.average)
        try:
            yield
        finally:
            self._put(raw)

    def save(self, folder: str | Path) -> None:
        """Write the weights and their average beside a checkpoint's model."""
        held = {f"average.{name}": tensor for name, tensor in self.average.items()}
        if self.count:
            held |= {f"weights.{name}": tensor.detach().clone() for name, tensor in self.averaged.items()}
        held = {name: tensor.cpu().contiguous() for name, tensor in held.items()}
        save_file(held, Path(folder) / AVERAGING, {"count": json.dumps(self.count)})

    def load(self, folder: str | Path) -> None:
        """Go on from a checkpoint whose model, the average, has been loaded: put the weights into the model.

        Raises:
            FileNotFoundError: the checkpoint holds no average.
        """
        file = Path(folder) / AVERAGING
        if not file.is_file():
            raise FileNotFoundError(
                f"{file}: no such file, so the average of this run's weights is lost. Expected a checkpoint that was "
                "written with --ema_decay: remove the checkpoints and train this fold again."
            )
        with safe_open(file, "pt") as held:
            self.count = json.loads(held.metadata()["count"])
            if self.count:
                device = {name: tensor.device for name, tensor in self.averaged.items()}
                self.average = {name: held.get_tensor(f"average.{name}").to(device[name]) for name in self.averaged}
                self._put({name: held.get_tensor(f"weights.{name}") for name in self.averaged})

    @torch.no_grad()
    def _put(self, values: dict[str, torch.Tensor]) -> None:
        for name, value in values.items():
            self.averaged[name].copy_(value)
