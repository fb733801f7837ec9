"""What is done to a saved model's folder so that other people can load it."""

import shutil
from pathlib import Path


def copy_island(folder: str | Path) -> None:
    """Put this package's files into a model folder, so that the folder loads where hf_ser is absent."""
    here = Path(__file__).parent
    for file in here.glob("*.py"):
        if file.name != "__init__.py" and Path(folder).resolve() != here:
            shutil.copyfile(file, Path(folder) / file.name)


class SharedWeights:
    """A `PreTrainedModel`'s `save_pretrained`, after which other people can read the weights."""

    def save_pretrained(self, save_directory, is_main_process: bool = True, **kwargs):
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
