"""`user/name@revision`: what lies on the Hub, pinned to a branch, a tag or a commit."""

from pathlib import Path

from transformers import AutoConfig, PreTrainedConfig

import hf_ser.models  # noqa: F401  (our own configurations, so that they are known by their names)


def split_revision(name: str) -> tuple[str, str | None]:
    """Name and revision of a model or data set; what lies on disk under the whole name has none.

    Raises:
        ValueError: nothing stands before or after the `@`.

    Examples:
        >>> split_revision("facebook/wav2vec2-base@main")
        ('facebook/wav2vec2-base', 'main')
    """
    if "@" not in name or Path(name).exists():
        return name, None
    repository, _, revision = name.partition("@")
    if not (repository and revision):
        raise ValueError(f"{name}: expected user/name@revision, such as facebook/wav2vec2-base@main.")
    return repository, revision


def checkpoint_config(name: str) -> PreTrainedConfig:
    """Configuration of a checkpoint.

    Raises:
        FileNotFoundError: it is neither a model folder nor a Hub model that can be reached or is in the cache.
    """
    repository, revision = split_revision(name)
    try:
        return AutoConfig.from_pretrained(repository, revision=revision)
    except (OSError, ValueError) as error:  # a ValueError where the folder is there and tells no model
        raise FileNotFoundError(
            f"{name}: found neither a model folder nor a model of the Hub ({str(error).splitlines()[0]}). Expected a "
            "folder with a config.json, or a Hub id such as facebook/wav2vec2-base or user/name@REVISION; in training "
            "'cnn' and 'gru' are our own."
        ) from error
