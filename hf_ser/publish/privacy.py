"""Select the files of a model or a data set to push, and remove private content from them."""

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
from datasets import Dataset, Value
from huggingface_hub import DatasetCard

import hf_ser.models
from hf_ser.checks.stress.plots import plot_stress
from hf_ser.checks.stress.results import PICTURE
from hf_ser.data.corpora import CORPORA, corpus_of
from hf_ser.data.integrity import OUTSIDE
from hf_ser.data.prepared import REPORT as INTEGRITY
from hf_ser.data.shards import quiet_datasets
from hf_ser.models.saving import PLUGINS
from hf_ser.publish.dataset_card import CARD, write_dataset_report
from hf_ser.publish.model_card import TASKS, names_emotions, write_model_card
from hf_ser.revisions import public_name
from hf_ser.runs.figures import read_report
from hf_ser.runs.predictions import PREDICTIONS
from hf_ser.runs.record import RECORD, TrainingRecord, corpora_of_stages
from hf_ser.runs.report import REPORT
from hf_ser.runs.stress import STRESS, StressResult

MODEL_CODE = tuple(
    file.name for file in sorted(Path(hf_ser.models.__file__).parent.glob("*.py")) if file.stem != "__init__"
)
WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors")
FIGURE_PICTURES = (
    "dimensions.png",
    *("confusion_matrix.png", "reliability.png", PICTURE, "roc.png", "risk_coverage.png", "learning_curves.png"),
)
SPEAKER_PICTURES = ("groups.png", "embedding_map.png", "comparison.png")
MODEL_FILES = (
    *("config.json", *WEIGHTS, "model.safetensors.index.json"),
    *("preprocessor_config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt"),
    *("spiece.model", "sentencepiece.bpe.model"),
    *MODEL_CODE,
    *(CARD, REPORT, RECORD, STRESS, PREDICTIONS, *FIGURE_PICTURES, *SPEAKER_PICTURES),
)
"""Files of a model that are pushed; checkpoints, optimizers, adapters, transcripts and all others are not."""

PRIVATE_FILES = (PREDICTIONS, *SPEAKER_PICTURES)
"""Files among these that are not pushed if the clips of the model may not be shared."""

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")

DATASET_FILES = ("data/*.parquet", CARD, INTEGRITY, "*.png")
SHARD_BYTES = 500_000_000

DUPLICATES = ("duplicate", "conflicting_duplicate")
"""Findings whose detail holds ids of clips; in all others a slash belongs to a path."""


def model_files(folder: Path) -> dict[str, Path | bytes]:
    """The files of a model to push, by their names in the repository.

    Local paths are cut to their last part. If the clips may not be shared, or this is unknown, predictions and all
    names of speakers and clips are removed.

    Raises:
        FileNotFoundError: no model there, or none of this package.
        ValueError: it is unfinished or a recogniser, or its weights are pickled.
    """
    record = _finished_record(folder)
    names = (*MODEL_FILES, *plugin_files(folder))
    files = {file.name: file for file in sorted(folder.iterdir()) if file.is_file() and matches(file.name, names)}
    configs = {name: _read(files[name]) for name in CONFIGS if name in files}
    records = {name: read(files[name]) for name, read in RECORDS.items() if name in files}
    stressed = records[STRESS].corpus.split("+") if STRESS in records else []  # perhaps of another data set
    # The training data of the encoders counts too: the record has hashes of it.
    of_stages = corpora_of_stages(replace(record, sources={}))
    with_people = all(corpus_of(name).MAY_BE_SHARED for name in (*of_stages, *stressed))
    if not with_people:
        files = {name: file for name, file in files.items() if name not in PRIVATE_FILES}
    public = {name: one.public(with_people) for name, one in records.items()}
    if PICTURE in files and public.get(STRESS) != records.get(STRESS):
        files[PICTURE] = _stress_picture(public[STRESS])  # the old picture shows what was removed
    original = configs | {name: _read(files[name]) for name in records}
    pushed = {name: config_without_paths(content) for name, content in configs.items()}
    pushed |= {name: one.to_json() for name, one in public.items()}
    return files | {name: _as_bytes(content) for name, content in pushed.items() if content != original[name]}


def plugin_files(folder: Path) -> list[str]:
    """Names of the files with a model's own heads and families, which its code imports."""
    file = folder / PLUGINS
    found = re.findall(r"^from \.(\w+) import", file.read_text(encoding="utf-8"), re.M) if file.is_file() else []
    return [f"{name}.py" for name in found]


def config_without_paths(config):
    """A configuration without the folders that its encoders were loaded from."""
    if not isinstance(config, dict):
        return config
    origin = {key: public_name(config[key]) for key in ("_name_or_path", "name_or_path") if config.get(key)}
    return {key: config_without_paths(value) for key, value in config.items()} | origin


CONFIGS = ("config.json", "preprocessor_config.json", "processor_config.json", "tokenizer_config.json")
RECORDS = {RECORD: TrainingRecord.read, REPORT: read_report, STRESS: StressResult.read}
"""Files of a model whose `public()` is pushed, and the functions that read them."""


def model_card_of(
    folder: Path, files: dict[str, Path | bytes], repo_id: str, revision: str | None, purpose: str | None = None
) -> bytes:
    """Make a model's card from only the pushed files and the report of its run."""
    with TemporaryDirectory() as work:
        place = Path(work) / folder.resolve().name
        place.mkdir()
        for name, content in files.items():
            if name.endswith((".json", ".png")):  # a card reads no other files
                (place / name).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
        if (report := folder.resolve().parent / REPORT).is_file():
            shutil.copy(report, work)
        return write_model_card(place, repo_id, revision, purpose).read_bytes()


def check_purpose(where: str | Path, labels: Sequence[str], purpose: str | None) -> None:
    """Check that a model whose classes are not emotions is pushed with a purpose.

    A model of sex, age or illness reveals something about people that they have not said.

    Raises:
        ValueError: most classes are not emotions, and no purpose is given.
    """
    if labels and not (names_emotions(labels) or (purpose or "").strip()):
        raise ValueError(
            f"{where}: found the classes {', '.join(labels[:6])}, most of which are not emotions. Expected a "
            'purpose for its card: push it by push_to_hub.py with --purpose "...".'
        )


def _stress_picture(stress: StressResult) -> bytes:
    """Draw the picture of a stress test."""
    with TemporaryDirectory() as work:
        plot_stress(stress, Path(work) / PICTURE)
        return (Path(work) / PICTURE).read_bytes()


def _read(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8"))


def _as_bytes(content: dict) -> bytes:
    return json.dumps(content, indent=1, ensure_ascii=False).encode()


def _finished_record(folder: Path) -> TrainingRecord:
    """The training record of a finished model; raises as `model_files`."""
    names = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    if "config.json" not in names or not any(matches(name, WEIGHTS) for name in names):
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
    record = TrainingRecord.read(folder / RECORD)
    if not record.finished:
        raise ValueError(
            f"{folder}: found an unfinished training. Expected a finished one: run its command again, which continues "
            "from the last checkpoint."
        )
    if record.settings.get("model") not in TASKS:
        raise ValueError(
            f"{folder}: found a recogniser of train_asr.py. Expected a classifier of train_audio.py, train_text.py or "
            "train_fusion.py: push a recogniser with `hf upload`."
        )
    if not record.corpora:
        raise ValueError(
            f"{folder}: found a {RECORD} without the corpora that the model was trained on. Expected their names in "
            "`corpora`, which decide what may be pushed: copy the record again, or train the model again."
        )
    return record


def labels_of_model(folder: Path) -> list[str]:
    """The classes of a model."""
    return list((_read(folder / "config.json").get("id2label") or {}).values())


def takes_audio(folder: Path) -> bool:
    """Whether a model takes audio."""
    config = _read(folder / "config.json")
    return "audio-classification" in (config.get("custom_pipelines") or {})


def check_licence(corpora: set[str], licence: str | None) -> None:
    """Check that the clips of all these corpora may be shared.

    Args:
        corpora: Keys of CORPORA.
        licence: Licence of the user's own table.

    Raises:
        ValueError: a licence forbids it, the licence of an own table is missing, or one is given without such a table.
    """
    for name in sorted(corpora):
        if corpus_of(name).MAY_BE_SHARED is False:
            raise ValueError(
                f"Corpus '{name}' may not be shared, not even in a private repository: its licence is "
                f'"{corpus_of(name).LICENCE}". Expected corpora that may be shared: push the model instead, and let '
                f"others get the corpus from {corpus_of(name).SOURCE}."
            )
    own = sorted(name for name in corpora if corpus_of(name).MAY_BE_SHARED is None)
    if own and not licence:
        raise ValueError(
            f"Corpus '{own[0]}' is your own, and its licence is missing. Expected the Hub's name of one: if you may "
            "share these recordings, add --licence cc-by-4.0, or the one that applies."
        )
    if licence and not own:
        given = ", ".join(f"{name} is under {corpus_of(name).LICENCE}" for name in sorted(corpora))
        raise ValueError(f"--licence {licence}: {given}. Expected it only with your own table: leave it out.")


def check_outside_files(folder: Path, allowed: bool) -> None:
    """Check that a data set holds no recordings from outside its corpus's folder, unless they are allowed.

    A table of another author may name private files of this disk.

    Args:
        folder: The prepared data set.
        allowed: Whether the user allows them.

    Raises:
        ValueError: it holds some that are not allowed.
    """
    integrity = _read(folder / INTEGRITY)
    if (count := integrity.get("noted", {}).get(OUTSIDE, 0)) and not allowed:
        detail = "; ".join(one["detail"] for one in integrity["findings"] if one["kind"] == OUTSIDE)
        raise ValueError(
            f"{folder}: {count} of its recordings come from elsewhere on this disk ({detail}). Expected only "
            "recordings from the corpus's own folder: check whether you want to share these. If so, add "
            "--allow_outside_files; else remove their rows from the table and prepare it again."
        )


def ids_without_paths(dataset: Dataset) -> dict[str, str]:
    """Map ids that are local paths to new ids.

    A user's table may name files by absolute paths, or by ones that lead out of its folder. The new id is the beginning
    of the recording's hash and the file name.
    """
    names, taken = {}, set(dataset["id"][:])
    for number, (old, pcm) in enumerate(zip(dataset["id"][:], dataset["pcm_sha256"][:], strict=True), start=1):
        corpus, _, name = old.partition("/")
        if is_local_path(name):
            new = f"{corpus}/{(pcm or f'row_{number}')[:16]}-{_last_part(name)}"
            names[old] = new if new not in taken else f"{new}#{number}"
            taken.add(names[old])
    return names


LOCAL_PATH = re.compile(r"(?:[\\/~]|[A-Za-z]:[\\/]|file:|\.\.[\\/])|.*[\\/]\.\.[\\/]", re.DOTALL)
"""The start of a path that is absolute, in a home folder, or leads out of its folder."""

LOCAL_ID = re.compile(rf"(?:{'|'.join(CORPORA)})/(?:[\\/~]|[A-Za-z]:[\\/]|file:)|(?:^|[\\/])\.\.[\\/]")
"""An id with such a path, within a text."""


def is_local_path(text: str | None) -> bool:
    """Whether a text is a path that is absolute, in a home folder, or leads out of its folder."""
    return bool(text and len(re.split(r"[\\/]", text)) > 1 and LOCAL_PATH.match(text))


def rows_without_paths(dataset: Dataset, names: dict[str, str], work: Path) -> Dataset:
    """A data set without local paths in its cells.

    Args:
        dataset: A prepared data set, which is not changed.
        names: Result of `ids_without_paths`.
        work: Folder for the changed rows.
    """
    texts = [name for name, kind in dataset.features.items() if kind == Value("string") and name != "id"]
    values = {name: set(dataset.unique(name)) for name in texts}
    plain = {name: {one: _last_part(one) for one in ones if _names_a_path(name, one)} for name, ones in values.items()}
    plain = {name: _made_distinct(ones, values[name]) for name, ones in plain.items() if ones}
    if names:
        plain["id"] = names
    files = (path for cells in dataset.data.column("audio").chunks for path in cells.field("path").to_pylist())
    if not plain and not any(map(_cell_is_local_path, files)):
        return dataset

    def change(rows: pa.Table) -> pa.Table:
        for name, ones in plain.items():
            values = [ones.get(one, one) for one in rows.column(name).to_pylist()]
            rows = rows.set_column(rows.column_names.index(name), name, pa.array(values, pa.string()))
        cells = rows.column("audio").combine_chunks()
        paths = [_last_part(one) if _cell_is_local_path(one) else one for one in cells.field("path").to_pylist()]
        parts = {"bytes": cells.field("bytes"), "path": pa.array(paths, pa.string())}
        renamed = pa.StructArray.from_arrays(list(parts.values()), list(parts), mask=cells.is_null())
        return rows.set_column(rows.column_names.index("audio"), "audio", renamed)

    with quiet_datasets():
        # As Arrow, since encoding Audio needs torchcodec; and cached outside the user's folder.
        changed = dataset.with_format("arrow").map(
            change,
            batched=True,
            batch_size=256,
            features=dataset.features,
            load_from_cache_file=False,
            cache_file_name=str(work / "rows.arrow"),
        )
    return changed.with_format(None)


def _names_a_path(column: str, text: str | None) -> bool:
    """Whether a cell is a local path; a transcript such as `/laughs/ well` is one only with a file suffix."""
    is_text = column in ("sentence", "script", "scene") or column.endswith("transcript")
    return _cell_is_local_path(text) and not (is_text and not Path(text).suffix)


def _cell_is_local_path(text: str | None) -> bool:
    """Whether a cell is a local path, also after the name of a corpus."""
    corpus, slash, rest = (text or "").partition("/")
    return is_local_path(rest if slash and corpus in CORPORA else text)


def _made_distinct(plain: dict[str, str], values: set) -> dict[str, str]:
    """Make new texts distinct where the old ones were, so that two speakers do not become one."""
    taken = {one for one in values if one not in plain}
    for old in sorted(plain):
        new, number = plain[old], 2
        while plain[old] in taken:
            plain[old], number = f"{new}#{number}", number + 1
        taken.add(plain[old])
    return plain


def integrity_without_paths(integrity: dict, names: dict[str, str] | None = None) -> dict:
    """An integrity report without local paths.

    Args:
        integrity: The report.
        names: New ids by the old ones, from `ids_without_paths`.
    """
    names = names or {}
    longest = sorted(names, key=len, reverse=True)

    def plain_id(text: str) -> str:
        corpus, _, name = text.partition("/")
        return names.get(text) or (f"{corpus}/{_last_part(name)}" if is_local_path(name) else text)

    def plain_detail(text: str) -> str:
        for old in longest:
            text = text.replace(old, names[old])
        return "removed: it names local files" if LOCAL_ID.search(text) else text

    def plain(finding: dict) -> dict:
        # A clip's id begins with its corpus, and only findings of equal clips hold ids of others.
        is_id = finding["item"].partition("/")[0] in CORPORA
        item = plain_id(finding["item"]) if is_id else _last_part(finding["item"])
        detail = plain_detail(finding["detail"]) if finding["kind"] in DUPLICATES else _last_part(finding["detail"])
        return finding | {"item": item, "detail": detail}

    findings = [plain(finding) for finding in integrity["findings"]]
    return integrity | {"label_map": public_name(integrity["label_map"]), "findings": findings}


def _last_part(text: str) -> str:
    """The text after the last slash."""
    return re.split(r"[\\/]", text.rstrip("\\/"))[-1]


def dataset_files(
    dataset: Dataset, folder: Path, work: Path, repo_id: str, licence: str | None
) -> dict[str, Path | bytes]:
    """Write the files of a data set to push.

    Args:
        dataset: The prepared data set.
        folder: Its folder.
        work: Folder to write to.
        repo_id: Name on the Hub, for the card's code.
        licence: As of `push_dataset`.

    Returns:
        The files, by their names in the repository.
    """
    names = ids_without_paths(dataset)
    integrity = integrity_without_paths(_read(folder / INTEGRITY), names)
    dataset = rows_without_paths(dataset, names, work)
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
    """Add the Parquet files, and the licence of a table, to the card."""
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


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
