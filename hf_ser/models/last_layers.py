"""What a model's last linear layers are given: the embedding of a clip."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel


def last_layers(model: PreTrainedModel) -> dict[str, nn.Linear]:
    """The layers that give the logits, by name: linear, with one output a class, outside the encoders.

    Of a model that predicts dimensions one a dimension too. Inner layers of a fusion head whose `head_size` equals the
    number of outputs are included.

    Raises:
        ValueError: there is none.
    """
    outputs = getattr(model.config, "num_outputs", model.config.num_labels)
    encoders = [name for name, part in model.named_modules() if name and isinstance(part, PreTrainedModel)]
    found = {
        name: part
        for name, part in model.named_modules()
        if isinstance(part, nn.Linear)
        and part.out_features == outputs
        and not any(name.startswith(f"{encoder}.") for encoder in encoders)
    }
    if not found:
        raise ValueError(
            f"{type(model).__name__}: found no linear layer with {outputs} outputs outside of its "
            "encoders, expected one that gives the logits. Embeddings of such a model cannot be taken."
        )
    return found


@contextmanager
def layer_inputs(layers: dict[str, nn.Linear]) -> Iterator[dict[str, np.ndarray]]:
    """Record the latest input of each layer inside the block, by name: `(batch, size)`."""
    given = {}

    def keep(name: str):
        def hook(_layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            given[name] = inputs[0].detach().float().cpu().numpy()

        return hook

    with ExitStack() as stack:
        for name, layer in layers.items():
            stack.callback(layer.register_forward_pre_hook(keep(name)).remove)
        yield given


def side_by_side(given: dict[str, np.ndarray]) -> np.ndarray:
    """The embeddings of a batch, `(batch, size)` float32, from what `layer_inputs` has recorded."""
    return np.concatenate(list(given.values()), axis=1)
