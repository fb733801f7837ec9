"""A trained model, a prepared data set or a demo onto the Hub: one commit each, and what is there is not sent again."""

import json
import re
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from datasets import Dataset
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, DatasetCard, HfApi
from huggingface_hub.errors import HTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled
from huggingface_hub.utils import HFValidationError, validate_repo_id
from jinja2 import StrictUndefined, Template

import hf_ser.models
from hf_ser.corpora import CORPORA
from hf_ser.dataset import REPORT as INTEGRITY
from hf_ser.dataset import load_prepared
from hf_ser.dataset_card import CARD, template, write_dataset_report
from hf_ser.evaluation.bootstrap import UNKNOWN
from hf_ser.evaluation.predictions import PREDICTIONS
from hf_ser.evaluation.report import REPORT
from hf_ser.files import cache_folder
from hf_ser.model_card import TASKS, shown, write_model_card
from hf_ser.provenance import RECORD
from hf_ser.stress.plots import plot_stress
from hf_ser.stress.results import PICTURE, STRESS

ISLAND = tuple(
    file.name for file in sorted(Path(hf_ser.models.__file__).parent.glob("*.py")) if file.stem != "__init__"
)
WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors")
OF_FIGURES = (
    *("confusion_matrix.png", "reliability.png", PICTURE, "roc.png", "risk_coverage.png", "learning_curves.png"),
)
OF_PEOPLE = ("groups.png", "embedding_map.png", "comparison.png")
MODEL_FILES = (
    *("config.json", *WEIGHTS, "model.safetensors.index.json"),
    *("preprocessor_config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt"),
    *("spiece.model", "sentencepiece.bpe.model"),
    *ISLAND,
    *(CARD, REPORT, RECORD, STRESS, PREDICTIONS, *OF_FIGURES, *OF_PEOPLE),
)
"""All that leaves a model's folder: checkpoints, optimizers, adapters, transcripts and anything else stay."""

NAMES_PEOPLE = (PREDICTIONS, *OF_PEOPLE)
"""Of these, nothing leaves the folder of a model whose clips may not be shared."""

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")

DATASET_FILES = ("data/*.parquet", CARD, INTEGRITY, "*.png")
SHARD_BYTES = 500_000_000

DUPLICATES = ("duplicate", "conflicting_duplicate")
"""Findings whose detail names clips by their ids; a slash in that of any other is one of a path."""

SPACE_FILES = ("app.py", "README.md", "requirements.txt")

PAUSES = (2, 8)
"""Seconds before each new attempt; within one, huggingface_hub itself tries a request several times."""


@dataclass(frozen=True)
class Target:
    """Where a push goes.

    Args:
        name: As `user/name`.
        kind: `model`, `dataset` or `space`.
        private: Whether only its owner may see it.
        revision: Branch; None is `main`.
        api: The Hub's client.
        kept: What of the user's is safe whatever happens, for the messages.
    """

    name: str
    kind: str
    private: bool
    revision: str | None
    api: HfApi
    kept: str

    @property
    def address(self) -> str:
        """As a browser has it."""
        return f"{self.api.endpoint}/{'' if self.kind == 'model' else self.kind + 's/'}{self.name}"


def push_model(
    folder: str | Path,
    repo_id: str,
    private: bool = False,
    space: bool = False,
    revision: str | None = None,
    api: HfApi | None = None,
) -> str:
    """Push a trained model with its processor, code, card, report and pictures.

    Its card is written anew from what is pushed, so that the code in it names the repository; nothing in the folder
    changes.

    Args:
        folder: Of a fold, or `final`.
        repo_id: As `user/name`; the repository is made where it is missing.
        private: Make it for its owner alone.
        space: Make a Space of the same name too, which runs the commit that was pushed.
        revision: Branch to push to, made where it is missing; None is `main`.
        api: The Hub's client; by default the user's own.

    Returns:
        Hash of the commit; where nothing has changed, of the one that is there.

    Raises:
        FileNotFoundError: no trained model there.
        PermissionError: no token, or no right to write there.
        ValueError: a bad name, an unfinished model, pickled weights, or a Hub that cannot be reached.
    """
    folder = Path(folder)
    files = model_files(folder)  # refuses before anything is written
    target = Target(checked_name(repo_id), "model", private, revision, api or HfApi(), f"The model is safe in {folder}")
    if space and not hears(folder):
        raise ValueError(f"{folder}: --space found a model of words alone, expected one that hears: leave --space out.")
    files[CARD] = _card(folder, files, repo_id, revision)
    _open(target)
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
) -> str:
    """Push a prepared data set as Parquet with its card, pictures and integrity report, if its licences allow it.

    `datasets.load_dataset(repo_id)` reads it, and `prepare_data.py --corpus table --data_dir repo_id@REVISION`.

    Args:
        folder: Written by `hf_ser.dataset.prepare`; nothing in it changes.
        repo_id, private, revision, api: As of `push_model`.
        licence: The Hub's name of the licence of a user's own table.

    Returns:
        As `push_model`.

    Raises:
        FileNotFoundError: no prepared data set there.
        PermissionError: no token, or no right to write there.
        ValueError: a licence that forbids sharing, or none given; else as `push_model`.
    """
    folder, dataset = Path(folder), load_prepared(folder)
    kept = f"The data set is safe in {folder}"
    target = Target(checked_name(repo_id), "dataset", private, revision, api or HfApi(), kept)
    check_licence(set(dataset["corpus"][:]), licence)
    _open(target)
    cache_folder().mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=cache_folder(), prefix="push_") as work:  # as large as the data: not in /tmp
        files = dataset_files(dataset, folder, Path(work), repo_id, licence)
        return _push(target, files, DATASET_FILES, "Data set of hf_ser")


def push_space(repo_id: str, sha: str, private: bool = False, api: HfApi | None = None) -> str:
    """Push a Gradio Space that runs a commit of a model of the same name.

    Args:
        repo_id: Of the model, and of the Space.
        sha: Commit of the model.
        private, api: As of `push_model`.

    Returns:
        Hash of the Space's commit.

    Raises:
        FileNotFoundError: the templates are not there.
        PermissionError, ValueError: as `push_model`.
    """
    target = Target(checked_name(repo_id), "space", private, None, api or HfApi(), f"The model is pushed, commit {sha}")
    told = {"repo_id": repo_id, "revision": sha, "name": repo_id.split("/")[-1]}
    files = {name: _filled(template(f"space/{name}"), told).encode() for name in SPACE_FILES}
    _open(target)
    commit = _push(target, files, SPACE_FILES, "Demo of a model of hf_ser")
    if private:
        print("A private Space reads a private model with a token: add it to the Space's secrets as HF_TOKEN.")
    return commit


def _filled(file: Path, told: dict[str, str]) -> str:
    return Template(file.read_text(encoding="utf-8"), undefined=StrictUndefined, keep_trailing_newline=True).render(
        told
    )


def check_push(repo_id: str, private: bool = False, api: HfApi | None = None) -> None:
    """Check, before a training starts, that its model can be pushed when it ends; makes the repository.

    Raises:
        PermissionError: no token, or no right to write there.
        ValueError: a bad name, or a Hub that cannot be reached.
    """
    target = Target(checked_name(repo_id), "model", private, None, api or HfApi(), "Nothing was begun")
    _persistently(target.api.whoami, target)
    _open(target)


def checked_name(repo_id: str) -> str:
    """The name itself.

    Raises:
        ValueError: it is not of the form `user/name`.
    """
    try:
        validate_repo_id(repo_id)
        if "/" not in repo_id:
            raise HFValidationError("it does not say whose it is")
    except HFValidationError as error:
        raise ValueError(f"Repository '{repo_id}': {error}. Expected user/name, such as jane/ser-ravdess.") from error
    return repo_id


def model_files(folder: Path) -> dict[str, Path | bytes]:
    """What is pushed of a model's folder, by its name in the repository.

    Paths of the user's disk are cut to their last part. Where the clips may not be handed on, or only the user knows,
    neither are lists of them nor the names of who speaks: no predictions, and no speakers and ids in what is told.

    Raises:
        FileNotFoundError: no model there, or none of this package.
        ValueError: unfinished, a recogniser, or its weights are pickled.
    """
    record = _finished_record(folder)
    files = {
        file.name: file for file in sorted(folder.iterdir()) if file.is_file() and _matches(file.name, MODEL_FILES)
    }
    held = {name: _read(files[name]) for name in WITHOUT_PATHS if name in files}
    told = {name: WITHOUT_PATHS[name](content) for name, content in held.items()}
    stressed = told[STRESS]["corpus"].split("+") if STRESS in told else []  # perhaps of another data set
    if not all(CORPORA[name].MAY_BE_SHARED for name in (*record["corpora"], *stressed)):
        told |= {name: WITHOUT_PEOPLE[name](told[name]) for name in WITHOUT_PEOPLE if name in told}
        files = {name: file for name, file in files.items() if name not in NAMES_PEOPLE}
    if PICTURE in files and told.get(STRESS) != held.get(STRESS):
        files[PICTURE] = _drawn(told[STRESS])  # the old one says what was taken out
    return files | {name: _as_bytes(content) for name, content in told.items() if content != held[name]}


def config_without_paths(config):
    """A configuration, whose parts do not say what folder their encoders were loaded from."""
    if not isinstance(config, dict):
        return config
    origin = {key: shown(config[key]) for key in ("_name_or_path", "name_or_path") if config.get(key)}
    return {key: config_without_paths(value) for key, value in config.items()} | origin


def record_without_paths(record: dict) -> dict:
    """A training record that tells nothing of the disk it was made on."""
    sources, words = record.get("sources", {}), record.get("words", {})
    encoders = {
        modality: said.replace(source, shown(source)) if (source := sources.get(modality)) else said
        for modality, said in record.get("encoders", {}).items()
    }
    told = {"settings": _plain(record["settings"]), "sources": _plain(sources), "encoders": encoders}
    if bank := words.get("sentence_bank"):
        told["words"] = words | {"sentence_bank": _plain(bank)}
    return record | told


def record_without_people(record: dict) -> dict:
    """A training record whose audit names no speaker and no clip; it holds hashes of them in any case."""
    untold = {"detail": "not told: it may name clips or people", "evidence": []}
    return record | {"audit": [finding | untold for finding in record.get("audit", [])]}


def report_without_paths(report: dict) -> dict:
    """A report that tells nothing of the disk it was made on."""
    return report | ({"label_map": _plain(report["label_map"])} if report.get("label_map") else {})


def report_without_people(report: dict) -> dict:
    """A report that names no speaker and no clip."""
    speakers = {
        UNKNOWN if name == UNKNOWN else f"speaker {number}": one
        for number, (name, one) in enumerate(report["per_speaker"].items(), start=1)
    }
    confusions, clip = [], count(1)
    for confusion in report["confusions"]:
        worst = [one | {"id": f"clip {next(clip)}"} for one in confusion["worst"]]
        confusions.append(confusion | {"worst": worst})
    return report | {"per_speaker": speakers, "confusions": confusions, "notices": _of_nobody(report["notices"])}


def stress_without_paths(stress: dict) -> dict:
    """A stress test that tells nothing of the disk it was made on."""
    return stress | {name: shown(stress[name]) for name in ("model", "dataset")}


def stress_without_people(stress: dict) -> dict:
    """A stress test that names no clip: how many were skipped under each condition, and not which."""
    clips = {clip for skipped in stress["skipped"].values() for clip in skipped}
    skipped = {name: len(skipped) for name, skipped in stress["skipped"].items()}
    return stress | {"skipped": skipped, "notices": _of_nobody(stress["notices"], clips)}


CONFIGS = ("config.json", "preprocessor_config.json", "processor_config.json", "tokenizer_config.json")
WITHOUT_PATHS = {
    **dict.fromkeys(CONFIGS, config_without_paths),
    RECORD: record_without_paths,
    REPORT: report_without_paths,
    STRESS: stress_without_paths,
}
WITHOUT_PEOPLE = {RECORD: record_without_people, REPORT: report_without_people, STRESS: stress_without_people}
"""What is told of a model by file, without what is taken out of it always, and where the clips may not be shared."""


def _card(folder: Path, files: dict[str, Path | bytes], repo_id: str, revision: str | None) -> bytes:
    """A model's card, made where nothing lies but what is pushed of its folder, and the report of its run above."""
    with TemporaryDirectory() as work:
        place = Path(work) / folder.resolve().name
        place.mkdir()
        for name, content in files.items():
            if name.endswith((".json", ".png")):  # a card reads no other
                (place / name).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
        if (report := folder.resolve().parent / REPORT).is_file():
            shutil.copy(report, work)
        return write_model_card(place, repo_id, revision).read_bytes()


def _of_nobody(notices: list[str], clips: Iterable[str] = ()) -> list[str]:
    """The notices that name no clip and no speaker, whose names begin with their corpus."""
    names = (*clips, *(f"{corpus}/" for corpus in CORPORA))
    return [notice for notice in notices if not any(name in notice for name in names)]


def _plain(told: dict) -> dict:
    return {key: shown(value) if isinstance(value, str) else value for key, value in told.items()}


def _drawn(stress: dict) -> bytes:
    """The picture of a stress test."""
    with TemporaryDirectory() as work:
        plot_stress(stress, Path(work) / PICTURE)
        return (Path(work) / PICTURE).read_bytes()


def _read(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8"))


def _as_bytes(content: dict) -> bytes:
    return json.dumps(content, indent=1, ensure_ascii=False).encode()


def _finished_record(folder: Path) -> dict:
    """The training record of a model that can be pushed; raises as `model_files`."""
    names = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    if "config.json" not in names or not any(_matches(name, WEIGHTS) for name in names):
        if pickled := sorted(name for name in names if name.endswith(PICKLES)):
            raise ValueError(
                f"{folder}: found weights in {pickled[0]}, expected model.safetensors: a pickle runs code where it is "
                "loaded. Load the model and save it with save_pretrained."
            )
        raise FileNotFoundError(
            f"{folder}: found no trained model. Expected config.json and model.safetensors, as in a fold's folder or "
            "`final` of a run: name one, such as runs/quickstart/fold_1."
        )
    if RECORD not in names:
        raise FileNotFoundError(
            f"{folder}: found a model without {RECORD}, expected one of hf_ser: name the folder of a fold."
        )
    record = _read(folder / RECORD)
    if not record["finished"]:
        raise ValueError(
            f"{folder}: found a training that has not ended. Expected a finished one: give its command again, and it "
            "goes on from its last checkpoint."
        )
    if record.get("settings", {}).get("model") not in TASKS:
        raise ValueError(
            f"{folder}: found a recogniser of train_asr.py. Expected a classifier of train_audio.py, train_text.py or "
            "train_fusion.py: push a recogniser with `hf upload`."
        )
    return record


def hears(folder: Path) -> bool:
    """Whether a model answers to sound."""
    config = _read(folder / "config.json")
    return "audio-classification" in (config.get("custom_pipelines") or {})


def check_licence(corpora: set[str], licence: str | None) -> None:
    """Check that the clips of some corpora may be handed on; of several the strictest decides.

    Args:
        corpora: Keys of CORPORA.
        licence: What the user says of the own table.

    Raises:
        ValueError: a licence forbids it, a user's own table comes without one, or one is given for nothing.
    """
    for name in sorted(corpora):
        if CORPORA[name].MAY_BE_SHARED is False:
            raise ValueError(
                f"Corpus '{name}' may not be handed on, in a private repository neither: its licence is "
                f'"{CORPORA[name].LICENCE}". Expected corpora that may be shared: push the model instead, and let '
                f"others get the corpus from {CORPORA[name].SOURCE}."
            )
    own = sorted(name for name in corpora if CORPORA[name].MAY_BE_SHARED is None)
    if own and not licence:
        raise ValueError(
            f"Corpus '{own[0]}' is your own, and only you know its licence. Expected one, as the Hub names it: if you "
            "may share these recordings, say --licence cc-by-4.0, or whatever it is."
        )
    if licence and not own:
        given = ", ".join(f"{name} is under {CORPORA[name].LICENCE}" for name in sorted(corpora))
        raise ValueError(f"--licence {licence}: {given}. Expected it with your own table alone: leave it out.")


def integrity_without_paths(integrity: dict) -> dict:
    """An integrity report that names files without the folders of the disk they lie on, and clips by their ids."""

    def plain(finding: dict) -> dict:
        # A clip's id begins with its corpus, and only equal clips are told by the ids of others.
        is_id = finding["item"].partition("/")[0] in CORPORA
        item = finding["item"] if is_id else _last_part(finding["item"])
        detail = finding["detail"] if finding["kind"] in DUPLICATES else _last_part(finding["detail"])
        return finding | {"item": item, "detail": detail}

    findings = [plain(finding) for finding in integrity["findings"]]
    return integrity | {"label_map": shown(integrity["label_map"]), "findings": findings}


def _last_part(text: str) -> str:
    """What follows the last slash: of a path its name, of words that begin with a path its name and the words."""
    return re.split(r"[\\/]", text)[-1]


def dataset_files(
    dataset: Dataset, folder: Path, work: Path, repo_id: str, licence: str | None
) -> dict[str, Path | bytes]:
    """Write what is pushed of a data set into a folder for the purpose.

    Args:
        dataset: The prepared data set.
        folder: Where it lies.
        work: Where to write.
        repo_id: For the card's code.
        licence: As of `push_dataset`.

    Returns:
        The files, by their names in the repository.
    """
    integrity = integrity_without_paths(_read(folder / INTEGRITY))
    report = write_dataset_report(dataset, integrity, work)
    _card_for_hub(work / CARD, repo_id, licence)
    files = {INTEGRITY: _as_bytes(integrity), **{file.name: file for file in report}}
    shards = 1 + dataset.data.nbytes // SHARD_BYTES
    for index in range(shards):
        name = f"train-{index:05d}-of-{shards:05d}.parquet"
        dataset.shard(shards, index, contiguous=True).to_parquet(work / name)
        files[f"data/{name}"] = work / name
    return files


LOADING = """\
## Loading

```python
from datasets import load_dataset

dataset = load_dataset("{repo_id}", split="train")  # `audio` holds FLAC bytes; pin it with revision=COMMIT
```

To train on it with hf_ser: `python scripts/prepare_data.py --corpus table --data_dir {repo_id} --output_dir DS`.
"""


def _card_for_hub(file: Path, repo_id: str, licence: str | None) -> None:
    """Tell the card where its rows lie, and a table's licence."""
    card = DatasetCard.load(file)
    card.data.configs = [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}]
    if licence:
        known = {card.data.license} if isinstance(card.data.license, str) else set(card.data.license)
        licences = sorted({licence, *(known - {"other"})})
        card.data.license = licences[0] if len(licences) == 1 else licences
    text = card.text.partition("## Loading\n")[0] + LOADING.format(repo_id=repo_id)
    own = CORPORA["table"]
    card.text = text.replace(f"{own.SOURCE} | {own.LICENCE} |", f"{own.SOURCE} | {licence} |")
    card.save(file)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _open(target: Target) -> None:
    """Make the repository and the branch where they are missing; raises as `push_model`."""
    api, name, kind = target.api, target.name, target.kind
    sdk = {"space_sdk": "gradio"} if kind == "space" else {}

    def made():
        api.create_repo(name, repo_type=kind, private=target.private, exist_ok=True, **sdk)
        api.auth_check(name, repo_type=kind, write=True)
        return api.repo_info(name, repo_type=kind)

    held = _persistently(made, target)
    if target.private and not held.private:
        raise ValueError(
            f"{target.address}: found a public repository, expected a private one with --private: name another, or "
            "make it private in its settings on the Hub."
        )
    if target.revision:
        _persistently(lambda: api.create_branch(name, branch=target.revision, repo_type=kind, exist_ok=True), target)


def _push(target: Target, files: dict[str, Path | bytes], ours: tuple[str, ...], message: str) -> str:
    """Bring a branch to hold just these of our files, in one commit, and say so.

    Args:
        target: Where.
        files: By their names in the repository.
        ours: Patterns of what a push writes; what of it is there and no longer among the files is removed.
        message: Of the commit.

    Returns:
        Hash of the commit.
    """

    def commit() -> tuple[str, bool]:
        # All anew at each attempt: one whose answer was lost may have been the last.
        held = target.api.repo_info(target.name, repo_type=target.kind, revision=target.revision)
        stale = sorted({one.rfilename for one in held.siblings} - set(files))
        operations = [CommitOperationDelete(path) for path in stale if _matches(path, ours)]
        operations += [CommitOperationAdd(path, content) for path, content in files.items()]
        made = target.api.create_commit(
            target.name, operations, commit_message=message, repo_type=target.kind, revision=target.revision
        )
        return made.oid, made.oid != held.sha

    sha, changed = _persistently(commit, target)
    print(f"{'pushed' if changed else 'nothing has changed'}: {target.address}, commit {sha}")
    return sha


def _persistently(action: Callable, target: Target):
    """Do something on the Hub, again after a pause where that may help; raises as `push_model`."""
    for pause in (*PAUSES, None):
        try:
            return action()
        except (HTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled, RuntimeError, ValueError) as error:
            cause = _cause(error)
            if pause is None or not _may_pass(cause):
                raise _in_own_words(cause, target) from error
            print(f"{target.address}: {_first_line(cause)}; trying again in {pause} s", flush=True)
            time.sleep(pause)
    return None


def _cause(error: BaseException) -> BaseException:
    """The Hub's answer, where the error of an upload's thread hides it."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _may_pass(error: BaseException) -> bool:
    """Whether the same call may succeed a little later."""
    status = _status(error)
    if status is None:
        return isinstance(error, HTTPError | RuntimeError)
    return status >= 500 or status in (408, 409, 412)  # the latter: another push at the same time


def _first_line(error: BaseException) -> str:
    """The beginning of a message that may be long."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _in_own_words(error: BaseException, target: Target) -> Exception:
    """What went wrong and what to do about it."""
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
            f"{where}: too many requests. Expected fewer: wait {wait}, then give the same command again; what was "
            f"uploaded is not sent again. {target.kept}."
        )
    if isinstance(error, ValueError) or (status is not None and status < 500):
        return ValueError(f"{where}: the Hub refused it ({' '.join(str(error).split())}). {target.kept}.")
    return ValueError(
        f"{where}: the Hub could not be reached, or broke off ({_first_line(error)}). Expected a connection: give the "
        f"same command again; what was uploaded is not sent again. {target.kept}."
    )
