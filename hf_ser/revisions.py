"""`user/name@revision`: what lies on the Hub, pinned to a branch, a tag or a commit."""

import re
from difflib import get_close_matches
from pathlib import Path

from transformers import AutoConfig, PreTrainedConfig

from hf_ser.models import PRESETS, TEXT_PRESETS  # and our own configurations, which are then known by their names

HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(@[\w./-]+)?")
"""`user/name`, and its revision."""


def split_revision(name: str) -> tuple[str, str | None]:
    """Name and revision of a model or data set; what lies on disk under the whole name has none.

    Raises:
        ValueError: nothing stands before or after the `@`, or a folder of that name would be loaded instead.

    Examples:
        >>> split_revision("facebook/wav2vec2-base@main")
        ('facebook/wav2vec2-base', 'main')
    """
    if "@" not in name or Path(name).exists():
        return name, None
    repository, _, revision = name.partition("@")
    if not (repository and revision):
        raise ValueError(f"{name}: expected user/name@revision, such as facebook/wav2vec2-base@main.")
    if Path(repository).is_dir():  # which transformers prefers, and which has no revisions
        raise ValueError(
            f"{name}: found the folder {repository}, expected no revision of one: leave @{revision} out, or give the "
            "name of the Hub from where no such folder lies."
        )
    return repository, revision


def checkpoint_config(name: str) -> PreTrainedConfig:
    """Configuration of a checkpoint.

    Raises:
        FileNotFoundError: it is neither a model folder nor a Hub model that can be reached or is in the cache.
    """
    repository, revision = split_revision(name)
    models = sorted(Path(repository).glob("*/config.json")) if Path(repository).is_dir() else []
    if models and not (Path(repository) / "config.json").is_file():
        raise FileNotFoundError(
            f"{name}: found a run's folder, expected one of its models: name {models[0].parent}, or the like."
        )
    try:
        return AutoConfig.from_pretrained(repository, revision=revision)
    except (OSError, ValueError) as error:  # a ValueError where the folder is there and tells no model
        is_path = name.startswith(("/", ".", "~")) and not Path(name).exists()
        found = "no such folder" if is_path else f"neither a model folder nor a model of the Hub ({_first_line(error)})"
        near = get_close_matches(name, [*PRESETS, *TEXT_PRESETS], n=1, cutoff=0.7)
        ours = f"of ours: did you mean {near[0]}?" if near else f"of ours ({', '.join([*PRESETS, *TEXT_PRESETS])})."
        raise FileNotFoundError(
            f"{name}: found {found}. Expected a folder with a config.json, or a Hub id such as facebook/wav2vec2-base "
            f"or user/name@REVISION; in training also the name of a network {ours}"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
