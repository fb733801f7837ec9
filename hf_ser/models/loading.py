"""What is checked of a model's weights when they are loaded: all of them are there, and each is a number."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

MAY_BE_FRESH = ("masked_spec_embed", "pooler.")
"""Weights that the pretraining task leaves out, and that are used only where training masks its input."""


class CheckedWeights:
    """A `PreTrainedModel`'s `from_pretrained` that refuses a folder whose weights are not all there.

    Whoever passes `output_loading_info=True` gets what is missing, and looks at it; `ignore_mismatched_sizes=True` asks
    for fresh weights in place of those of another shape, as of a head for other classes.
    """

    @classmethod
    def from_pretrained(cls, name, *args, output_loading_info: bool = False, **kwargs):
        if output_loading_info:
            with whole_files(name):
                return super().from_pretrained(name, *args, output_loading_info=True, **kwargs)
        new_head = kwargs.get("ignore_mismatched_sizes", False)
        kwargs["ignore_mismatched_sizes"] = True  # weights of another shape are refused here, with a clearer message
        with whole_files(name):
            model, loading = super().from_pretrained(name, *args, output_loading_info=True, **kwargs)
        check_weights(model, loading | ({"mismatched_keys": []} if new_head else {}), name)
        return model


@contextmanager
def whole_files(name) -> Iterator[None]:
    """Say which model's weights are cut off or damaged.

    Raises:
        ValueError: safetensors cannot read them.
    """
    try:
        yield
    except Exception as error:
        # By its name: the code that travels needs no library of its own for this.
        if type(error).__name__ != "SafetensorError":
            raise
        raise ValueError(
            f"{name}: its weights are cut off or damaged ({error}). Expected a whole model.safetensors: copy it anew "
            "from where the model comes from, or train it again."
        ) from error


def check_weights(model: nn.Module, loading: dict, name) -> None:
    """Make sure that a model's weights all come from its file, and are numbers.

    Args:
        model: The model.
        loading: What `from_pretrained(..., output_loading_info=True)` says of it.
        name: Of the folder or the Hub model, for the message.

    Raises:
        ValueError: a weight is missing, has another shape than the configuration says, or is NaN or infinite.
    """
    if fresh := fresh_weights(loading):
        shapes = {key: tuple(map(tuple, shapes)) for key, *shapes in loading["mismatched_keys"]}
        first = fresh[0]
        found = "{} in the file, {} by config.json".format(*shapes[first]) if first in shapes else "not in the file"
        raise ValueError(
            f"{name}: {len(fresh)} weights of this {model.config.model_type} model are missing or of another shape "
            f"(such as {first}, {found}) and would be random numbers. Expected a whole model that was trained for this "
            "task: name another, take it anew from its publisher, or train one, which may start from this encoder."
        )
    if bad := not_finite(model):
        raise ValueError(
            f"{name}: {len(bad)} weights hold NaN or infinity (such as {bad[0]}), expected numbers: its training "
            "failed, or the file is damaged. Name another model, or train it again at a lower learning rate."
        )


def fresh_weights(loading: dict) -> list[str]:
    """Names of the weights that were not loaded, without those that no answer depends on."""
    fresh = set(loading["missing_keys"]) | {key for key, *_ in loading["mismatched_keys"]}
    return sorted(key for key in fresh if not any(part in key for part in MAY_BE_FRESH))


def not_finite(model: nn.Module) -> list[str]:
    """Names of the parameters and tables that hold NaN or infinity."""
    held = [*model.named_parameters(), *model.named_buffers()]
    return [
        name
        for name, values in held
        if values.is_floating_point() and not values.is_meta and not torch.isfinite(values).all()
    ]
