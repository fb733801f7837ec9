"""What is done to a saved model's folder so that other people can load it."""

import shutil
from pathlib import Path

from torch import nn

LIBRARIES = ("torch", "torchaudio", "torchvision", "transformers", "peft", "timm")
"""Where classes may come from that every loader has; all others must be in the code copied into the folder."""


def check_is_loadable(model: nn.Module) -> None:
    """Make sure that a model's folder will load elsewhere: each of its parts is a library's class or one of this code.

    Raises:
        ValueError: one is defined somewhere else, such as a fusion head that was put into FUSIONS.
    """
    ours = __name__.rpartition(".")[0]
    for name, part in model.named_modules():
        home = type(part).__module__
        if home.partition(".")[0] not in LIBRARIES and home.rpartition(".")[0] != ours:
            raise ValueError(
                f"{type(part).__name__} ({name or 'the model'}) is defined in {home}, which is not copied into the "
                "model's folder: what is trained could not be loaded elsewhere. Expected parts that are defined in "
                "hf_ser/models: put the class into one of its files, such as fusion.py, and its name into the "
                "dictionary there."
            )


def copy_code(folder: str | Path) -> None:
    """Put this package's files into a model folder, so that the folder loads where hf_ser is absent."""
    here = Path(__file__).parent
    for file in here.glob("*.py"):
        if file.name != "__init__.py" and Path(folder).resolve() != here:
            shutil.copyfile(file, Path(folder) / file.name)


class SharedWeights:
    """A `PreTrainedModel`'s `save_pretrained`, after which other people can read the weights."""

    def save_pretrained(self, save_directory, is_main_process: bool = True, **kwargs):
        check_is_loadable(self)
        super().save_pretrained(save_directory, is_main_process=is_main_process, **kwargs)
        if is_main_process:
            share_weights(save_directory)


def share_weights(folder: str | Path) -> None:
    """Give the weights in a folder the permissions of any new file there.

    safetensors 0.8 writes them for their owner alone, so a server, a container or a colleague could not read them.
    """
    for weights in Path(folder).glob("*.safetensors"):
        probe = weights.with_name(f".{weights.name}.mode")
        probe.touch()
        shutil.copymode(probe, weights)
        probe.unlink()
