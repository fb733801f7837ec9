"""Names on the Hub with a revision, `user/name@revision`, and configurations of checkpoints."""

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

from hf_ser.models import PRESETS, TEXT_PRESETS  # also registers this package's configurations
from hf_ser.models.config_checks import check_config

CONFIG_NAME = "config.json"
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(@[\w./-]+)?")
"""`user/name`, and its revision."""

WEB_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://|(?:www\.)?(?:huggingface\.co|hf\.co)/", re.IGNORECASE)
HUB_ADDRESS = re.compile(
    r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/(?P<name>[\w.-]+/[\w.-]+)"
    r"(?:/(?:tree|blob|resolve)/(?P<revision>[^/?#]+))?",
    re.IGNORECASE,
)
"""`https://huggingface.co/user/name/tree/REVISION`, as a browser shows it."""


def public_name(value) -> str:
    """A setting without local folders: a name on the Hub unchanged, of a path its last part."""
    text = str(value)
    return text if HUB_NAME.fullmatch(text) else re.split(r"[\\/]", text.rstrip("\\/"))[-1]


def split_revision(name: str) -> tuple[str, str | None]:
    """Name and revision of a model or data set; a path on disk has no revision.

    Raises:
        ValueError: nothing before or after the `@`, or a folder of that name would be loaded instead.

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
            f"{name}: found the folder {repository}, and folders have no revisions. Leave out @{revision}, or run the "
            "command where there is no such folder."
        )
    return repository, revision


def checkpoint_config(name: str) -> PreTrainedConfig:
    """Load the configuration of a checkpoint without running code from its folder.

    Raises:
        FileNotFoundError: it is neither a model folder nor a Hub model that can be reached or is in the cache.
        ValueError: its config.json describes no valid model.
    """
    check_not_a_file(name)
    check_not_a_missing_folder(name)
    repository, revision = split_revision(name)
    models = sorted(Path(repository).glob("*/config.json")) if Path(repository).is_dir() else []
    if models and not (Path(repository) / "config.json").is_file():
        raise FileNotFoundError(
            f"{name}: found a run's folder, expected one of its models: name {models[0].parent}, or the like."
        )
    values = _config_values(name, repository, revision)
    where = f"{Path(repository) / 'config.json' if Path(repository).is_dir() else f'{name}: config.json'}"
    check_config(values, where)
    if not isinstance(values.get("model_type"), str):
        raise ValueError(f"{where}: found no model_type, expected the name of a kind of model, such as wav2vec2.")
    if values["model_type"] not in CONFIG_MAPPING:
        raise ValueError(
            f"{where}: model_type is {values['model_type'][:60]!r}, which neither this package nor transformers has. "
            "Expected one, since code from a model's folder is not run here. Use another model, or a newer "
            "transformers."
        )
    with clear_loading_errors(name):
        config = AutoConfig.from_pretrained(repository, revision=revision, trust_remote_code=False)
        config.num_labels  # noqa: B018  (computed on access)
    return config


def check_not_a_file(name: str) -> None:
    """Check that a model's name is neither a file nor a web address.

    Raises:
        FileNotFoundError: it is one.
    """
    if Path(name).is_file():
        folder = Path(name).parent
        is_model = (folder / "config.json").is_file()
        remedy = f"give {folder}" if is_model else "give a folder with a config.json, or a Hub id such as user/name"
        raise FileNotFoundError(f"{name}: found a file. Expected the folder of a model: {remedy}.")
    if WEB_ADDRESS.match(name):
        on_hub = HUB_ADDRESS.match(name)
        hub_id = on_hub["name"] + (f"@{on_hub['revision']}" if on_hub["revision"] else "") if on_hub else "user/name"
        raise FileNotFoundError(
            f"{name}: found a web address. Expected the folder of a model or its Hub id: give {hub_id}."
        )


def check_not_a_missing_folder(name: str) -> None:
    """Check that a name that can only be meant as a path is one, so that a typing error is not looked up on the Hub.

    A path begins with `/`, `.` or `~`, has more than one slash, or lies in a folder that is there. A revision, as in
    `user/name@main`, says that the Hub is meant.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    repository, _, revision = name.partition("@")
    path = Path(repository)
    parent_is_there = "/" in repository and path.parent.is_dir() and not revision
    if Path(name).exists() or not (
        repository.startswith(("/", ".", "~")) or repository.count("/") > 1 or parent_is_there
    ):
        return
    beside = [one.name for one in path.parent.iterdir() if one.is_dir()] if path.parent.is_dir() else []
    near = get_close_matches(path.name, beside, n=1)
    remedy = f"did you mean {path.parent / near[0]}?" if near else "check its spelling and where the command runs."
    if parent_is_there and HUB_NAME.fullmatch(repository):
        remedy += f" (For the model of the Hub give {repository}@main.)"
    raise FileNotFoundError(f"{name}: found no such folder. Expected the folder of a model, or a Hub id: {remedy}")


def _config_values(name: str, repository: str, revision: str | None) -> dict:
    """The content of config.json; raises as `checkpoint_config`."""
    try:
        if not Path(repository).exists():
            _look_up(repository, revision)
        values = PreTrainedConfig.get_config_dict(repository, revision=revision)[0]
        if not values and not (Path(repository) / "config.json").is_file():
            raise OSError("found no config.json there")
        return values
    except RecursionError as error:
        raise ValueError(f"{name}: config.json is nested too deep, expected a model's configuration.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: config.json is no text, expected a model's configuration.") from error
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        file = Path(repository) / "config.json"
        if file.is_file():
            raise ValueError(
                f"{file}: not readable as a model's configuration ({_first_line(error)}). Expected an object in JSON: "
                "download the model again."
            ) from error
        found = f"neither a model folder nor a model of the Hub ({_first_line(error)})"
        near = get_close_matches(name, [*PRESETS, *TEXT_PRESETS], n=1, cutoff=0.7)
        ours = f": did you mean {near[0]}?" if near else f" ({', '.join([*PRESETS, *TEXT_PRESETS])})."
        raise FileNotFoundError(
            f"{name}: found {found}. Expected a folder with a config.json, or a Hub id such as facebook/wav2vec2-base "
            f"or user/name@REVISION; in training also the name of a network of hf_ser{ours}"
        ) from error


def _look_up(repository: str, revision: str | None) -> None:
    """Check with one request that a model's config.json is in the cache or on the Hub.

    Without this, transformers retries for half a minute where the network is down.

    Raises:
        OSError: it is in neither, with the reason.
    """
    if isinstance(try_to_load_from_cache(repository, CONFIG_NAME, revision=revision), str):
        return
    tried = f"the cache {constants.HF_HUB_CACHE} does not hold it"
    if constants.HF_HUB_OFFLINE:
        raise OSError(f"{tried}, and HF_HUB_OFFLINE is set, so the Hub was not tried")
    try:
        get_hf_file_metadata(hf_hub_url(repository, CONFIG_NAME, revision=revision))
    except (RevisionNotFoundError, RemoteEntryNotFoundError, GatedRepoError) as error:
        raise OSError(f"{tried}, and of {constants.ENDPOINT}: {_first_line(error)}") from error
    except RepositoryNotFoundError as error:
        why = "has no such model, or it is private and your token may not read it (hf auth login)"
        raise OSError(f"{tried}, and {constants.ENDPOINT} {why}") from error
    except HFValidationError as error:
        raise OSError(f"it is not a valid repository name: {_first_line(error)}") from error
    except Exception as error:  # network errors of several libraries
        raise OSError(f"{tried}, and {constants.ENDPOINT} could not be reached: {_first_line(error)}") from error


@contextmanager
def clear_loading_errors(name: str) -> Iterator[None]:
    """Turn errors of libraries that load a damaged folder into one that names the model.

    Raises:
        ValueError: for any error inside; this package's own errors keep their type and text.
    """
    try:
        yield
    except Exception as error:
        last = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
        ours = Path(__file__).parent in last.parents or Path(__file__) == last
        if ours and isinstance(error, ValueError | FileNotFoundError | ImportError):
            if name in str(error):
                raise
            raise type(error)(f"{name}: {error}") from error
        raise ValueError(
            f"{name}: could not be loaded as a model ({type(error).__name__}: {_first_line(error)}). Expected a "
            "complete folder from save_pretrained, or such a model on the Hub: copy its files again, or use another."
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
