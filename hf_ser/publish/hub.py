"""Push a trained model, a prepared data set or a demo to the Hub, one commit each."""

import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled
from huggingface_hub.utils import HFValidationError, validate_repo_id
from jinja2 import StrictUndefined, Template

from hf_ser.data.corpora import corpus_of
from hf_ser.data.prepared import load_prepared
from hf_ser.files import cache_folder, package_file, temporary_folder
from hf_ser.publish.dataset_card import CARD
from hf_ser.publish.privacy import (
    DATASET_FILES,
    MODEL_FILES,
    check_licence,
    check_outside_files,
    check_purpose,
    dataset_files,
    labels_of_model,
    matches,
    model_card_of,
    model_files,
    takes_audio,
)
from hf_ser.runs.record import RECORD, TrainingRecord, corpora_of_stages
from hf_ser.versions import pinned_requirements

SPACE_FILES = ("app.py", "README.md", "requirements.txt")
"""Files of the folder cards/space."""
DEMO = "demo.py"
"""File of hf_ser/deploy with the page that `hf-ser demo` also shows."""
SPACE_LIBRARIES = ("numpy", "packaging", "soundfile", "soxr", "torch", "torchaudio", "transformers")
"""Libraries that a Space needs in addition to Gradio: those that a model's code imports."""

PAUSES = (2, 8)
"""Seconds before each new attempt; huggingface_hub itself also retries requests."""


@dataclass(frozen=True)
class Target:
    """The destination of a push.

    Args:
        name: `user/name`.
        kind: `model`, `dataset` or `space`.
        private: Whether only its owner may see it.
        revision: Branch; None is `main`.
        api: The Hub's client.
        kept: What is safe if the push fails, for messages.
    """

    name: str
    kind: str
    private: bool
    revision: str | None
    api: HfApi
    kept: str

    @property
    def address(self) -> str:
        """The web address."""
        return f"{self.api.endpoint}/{'' if self.kind == 'model' else self.kind + 's/'}{self.name}"


def push_model(
    folder: str | Path,
    repo_id: str,
    private: bool | None = None,
    space: bool = False,
    revision: str | None = None,
    api: HfApi | None = None,
    purpose: str | None = None,
) -> str:
    """Push a trained model with its processor, code, card, report and pictures.

    The card is made from what is pushed and names the repository; nothing in the folder changes.

    Args:
        folder: Folder of a fold, or `final`.
        repo_id: `user/name`; the repository is created if missing.
        private: Whether only the owner may see it; None as `is_private_push`.
        space: Also make a Space of the same name, which runs the pushed commit.
        revision: Branch to push to, created if missing; None is `main`.
        api: The Hub's client; by default the user's own.
        purpose: What the model is for, for its card; needed unless most classes are emotions.

    Returns:
        Hash of the commit; without changes, of the latest one.

    Raises:
        FileNotFoundError: no trained model there.
        PermissionError: no token, or no right to write there.
        ValueError: a bad name, an unfinished model, pickled weights, or a Hub that cannot be reached.
    """
    folder = Path(folder)
    files = model_files(folder)  # raises before anything is written
    check_purpose(folder, labels_of_model(folder), purpose)
    private = is_private_push(corpora_of_stages(TrainingRecord.read(folder / RECORD)), private)
    target = Target(checked_name(repo_id), "model", private, revision, api or HfApi(), f"The model is safe in {folder}")
    if space and not takes_audio(folder):
        raise ValueError(f"{folder}: --space found a text-only model, expected a model of audio: leave --space out.")
    files[CARD] = model_card_of(folder, files, repo_id, revision, purpose)
    _create_repository(target)
    sha = _push(target, files, MODEL_FILES, "Model of hf_ser")
    if space:
        push_space(repo_id, sha, private, target.api)
    return sha


def push_dataset(
    folder: str | Path,
    repo_id: str,
    private: bool = False,
    licence: str | None = None,
    revision: str | None = None,
    api: HfApi | None = None,
    allow_outside_files: bool = False,
) -> str:
    """Push a prepared data set as Parquet with its card, pictures and integrity report, if its licences allow it.

    `datasets.load_dataset(repo_id)` reads it, and `prepare_data.py --corpus table --data_dir repo_id@REVISION`.

    Args:
        folder: Folder of a prepared data set; nothing in it changes.
        repo_id, private, revision, api: As of `push_model`.
        licence: The Hub's name of the licence of a user's own table.
        allow_outside_files: Also push recordings from outside the folder of their table.

    Returns:
        As `push_model`.

    Raises:
        FileNotFoundError: no prepared data set there.
        PermissionError: no token, or no right to write there.
        ValueError: a licence that forbids sharing, or none given; recordings from outside; else as `push_model`.
    """
    folder, dataset = Path(folder), load_prepared(folder)
    kept = f"The data set is safe in {folder}"
    target = Target(checked_name(repo_id), "dataset", private, revision, api or HfApi(), kept)
    check_licence(set(dataset["corpus"][:]), licence)
    check_outside_files(folder, allow_outside_files)
    _create_repository(target)
    with temporary_folder(cache_folder(), "push") as work:  # as large as the data, so not in /tmp
        files = dataset_files(dataset, folder, work, repo_id, licence)
        return _push(target, files, DATASET_FILES, "Data set of hf_ser")


def push_space(repo_id: str, sha: str, private: bool = False, api: HfApi | None = None) -> str:
    """Push a Gradio Space that runs a commit of a model of the same name.

    Args:
        repo_id: Name of the model and of the Space.
        sha: Commit of the model.
        private, api: As of `push_model`.

    Returns:
        Hash of the Space's commit.

    Raises:
        FileNotFoundError: the templates are missing.
        PermissionError, ValueError: as `push_model`.
    """
    target = Target(checked_name(repo_id), "space", private, None, api or HfApi(), f"The model is pushed, commit {sha}")
    values = {
        "repo_id": repo_id,
        "revision": sha,
        "name": repo_id.split("/")[-1],
        "pins": pinned_requirements(SPACE_LIBRARIES),
    }
    values["python"] = ".".join(platform.python_version_tuple()[:2])  # the one that these versions work with
    files = {name: _filled(package_file(f"cards/space/{name}"), values).encode() for name in SPACE_FILES}
    files[DEMO] = package_file(f"deploy/{DEMO}")
    _create_repository(target)
    commit = _push(target, files, (*SPACE_FILES, DEMO), "Demo of a model of hf_ser")
    if private:
        print("A private Space reads a private model with a token: add it to the Space's secrets as HF_TOKEN.")
    return commit


def _filled(file: Path, values: dict) -> str:
    return Template(file.read_text(encoding="utf-8"), undefined=StrictUndefined, keep_trailing_newline=True).render(
        values
    )


def is_private_push(corpora: Iterable[str], private: bool | None) -> bool:
    """Whether a model is pushed as private: by default if it was trained on a user's own recordings.

    Own recordings may be private, and a model retains something of them.

    Args:
        corpora: Keys of CORPORA that it and its encoders were trained on; other names count as own recordings.
        private: The user's choice; None for the default.
    """
    own = sorted(name for name in set(corpora) if corpus_of(name).MAY_BE_SHARED is None)
    if private is None and own:
        print(
            f"This model was trained on your own recordings ({', '.join(own)}), so it is pushed as a private model. "
            "Unknown training data of its initial encoders counts as your own. "
            "To make it public: push_to_hub.py --public, or in training --hub_private_repo false."
        )
    return bool(own) if private is None else private


def check_push(repo_id: str, private: bool = False, api: HfApi | None = None) -> None:
    """Check before training that the model can be pushed, and create the repository.

    Raises:
        PermissionError: no token, or no right to write there.
        ValueError: a bad name, or a Hub that cannot be reached.
    """
    target = Target(checked_name(repo_id), "model", private, None, api or HfApi(), "Nothing was begun")
    _with_retries(target.api.whoami, target)
    _create_repository(target)


def checked_name(repo_id: str) -> str:
    """Return a valid name of a repository.

    Raises:
        ValueError: it is not of the form `user/name`.
    """
    try:
        validate_repo_id(repo_id)
        if "/" not in repo_id:
            raise HFValidationError("the user is missing")
    except HFValidationError as error:
        raise ValueError(f"Repository '{repo_id}': {error}. Expected user/name, such as jane/ser-ravdess.") from error
    return repo_id


def _create_repository(target: Target) -> None:
    """Create the repository and the branch if they are missing; raises as `push_model`."""
    api, name, kind = target.api, target.name, target.kind
    sdk = {"space_sdk": "gradio"} if kind == "space" else {}

    def create():
        api.create_repo(name, repo_type=kind, private=target.private, exist_ok=True, **sdk)
        api.auth_check(name, repo_type=kind, write=True)
        return api.repo_info(name, repo_type=kind)

    remote = _with_retries(create, target)
    if target.private and not remote.private:
        raise ValueError(
            f"{target.address}: found a public repository, expected a private one: name another, make it private in "
            "its settings on the Hub, or use --public (in training --hub_private_repo false) if it may be public."
        )
    if target.revision:
        _with_retries(lambda: api.create_branch(name, branch=target.revision, repo_type=kind, exist_ok=True), target)


def _push(target: Target, files: dict[str, Path | bytes], ours: tuple[str, ...], message: str) -> str:
    """Update a branch to these files in one commit, and print the result.

    Args:
        target: The destination.
        files: Files by their names in the repository.
        ours: Patterns of the files that hf_ser pushes; old ones that are not in `files` are deleted.
        message: Message of the commit.

    Returns:
        Hash of the commit.
    """

    def commit() -> tuple[str, bool]:
        # Repeat everything at each attempt: the previous one may have succeeded without a response.
        remote = target.api.repo_info(target.name, repo_type=target.kind, revision=target.revision)
        stale = sorted({one.rfilename for one in remote.siblings} - set(files))
        operations = [CommitOperationDelete(path) for path in stale if matches(path, ours)]
        operations += [CommitOperationAdd(path, content) for path, content in files.items()]
        info = target.api.create_commit(
            target.name, operations, commit_message=message, repo_type=target.kind, revision=target.revision
        )
        return info.oid, info.oid != remote.sha

    sha, changed = _with_retries(commit, target)
    print(f"{'pushed' if changed else 'nothing has changed'}: {target.address}, commit {sha}")
    return sha


def _with_retries(action: Callable, target: Target):
    """Call an action on the Hub and retry after temporary errors; raises as `push_model`."""
    for pause in (*PAUSES, None):
        try:
            return action()
        except (HTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled, RuntimeError, ValueError) as error:
            cause = _cause(error)
            if pause is None or not _is_temporary(cause):
                raise _explained_error(cause, target) from error
            print(f"{target.address}: {_first_line(cause)}; trying again in {pause} s", flush=True)
            time.sleep(pause)
    return None


def _cause(error: BaseException) -> BaseException:
    """The underlying error of an error in an upload thread."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _is_temporary(error: BaseException) -> bool:
    """Whether the same call may succeed later."""
    status = _status(error)
    if status is None:
        return isinstance(error, HTTPError | RuntimeError)
    return status >= 500 or status in (408, 409, 412)  # 409 and 412: another push at the same time


def _first_line(error: BaseException) -> str:
    """Type and first line of an error message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _explained_error(error: BaseException, target: Target) -> Exception:
    """The error for users: what went wrong and the remedy."""
    where, status = target.address, _status(error)
    if isinstance(error, OfflineModeIsEnabled):
        return ValueError(f"{where}: found HF_HUB_OFFLINE set, expected a connection: unset it to push.")
    if isinstance(error, LocalTokenNotFoundError) or status == 401:
        return PermissionError(
            f"{where}: found no token, or one that is not valid. Expected one with the right to write: log in with "
            f"`hf auth login`, or set HF_TOKEN. {target.kept}."
        )
    if status == 403:
        return PermissionError(
            f"{where}: this token may not write there. Expected a repository of yours and a token with the right to "
            f"write: check both, or name another repository. {target.kept}."
        )
    if status == 404:
        return ValueError(f"{where}: found no such repository or revision ({_first_line(error)}): check its name.")
    if status == 429:
        seconds = error.response.headers.get("Retry-After")
        wait = f"{seconds} s" if seconds else "some minutes"
        return ValueError(
            f"{where}: too many requests. Expected fewer: wait {wait}, then run the same command again; what was "
            f"uploaded is not sent again. {target.kept}."
        )
    if isinstance(error, ValueError) or (status is not None and status < 500):
        return ValueError(f"{where}: the Hub refused it ({' '.join(str(error).split())}). {target.kept}.")
    return ValueError(
        f"{where}: the Hub could not be reached, or broke off ({_first_line(error)}). Expected a connection: run the "
        f"same command again; what was uploaded is not sent again. {target.kept}."
    )
