"""What of a model or a data set may leave: which files, and what is taken out of them before they do."""

import json
import re
import shutil
from collections.abc import Iterable
from fnmatch import fnmatchcase
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
from datasets import Dataset, Value
from huggingface_hub import DatasetCard

import hf_ser.models
from hf_ser.checks.stress.plots import plot_stress
from hf_ser.checks.stress.results import PICTURE, STRESS
from hf_ser.data.corpora import CORPORA, corpus_of
from hf_ser.data.integrity import OUTSIDE
from hf_ser.data.prepare import REPORT as INTEGRITY
from hf_ser.data.prepare import quiet_datasets
from hf_ser.data.schema import UNKNOWN
from hf_ser.models.saving import PLUGINS
from hf_ser.publish.dataset_card import CARD, write_dataset_report
from hf_ser.publish.model_card import TASKS, origins, shown, write_model_card
from hf_ser.runs.predictions import PREDICTIONS
from hf_ser.runs.record import RECORD, corpora_of_stages, parsed_record, that_may_leave, without_names
from hf_ser.runs.report import REPORT

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


def model_files(folder: Path) -> dict[str, Path | bytes]:
    """What is pushed of a model's folder, by its name in the repository.

    Paths of the user's disk are cut to their last part. Where the clips may not be handed on, or only the user knows,
    neither are lists of them nor the names of who speaks: no predictions, and no speakers and ids in what is told.

    Raises:
        FileNotFoundError: no model there, or none of this package.
        ValueError: unfinished, a recogniser, or its weights are pickled.
    """
    record = _finished_record(folder)
    names = (*MODEL_FILES, *plugin_files(folder))
    files = {file.name: file for file in sorted(folder.iterdir()) if file.is_file() and matches(file.name, names)}
    held = {name: _read(files[name]) for name in WITHOUT_PATHS if name in files}
    told = {name: WITHOUT_PATHS[name](content) for name, content in held.items()}
    stressed = told[STRESS]["corpus"].split("+") if STRESS in told else []  # perhaps of another data set
    # What the encoders were trained on too: the record has hashes of it.
    of_stages = corpora_of_stages(record | {"sources": {}})
    if not all(corpus_of(name).MAY_BE_SHARED for name in (*of_stages, *stressed)):
        told |= {name: WITHOUT_PEOPLE[name](told[name]) for name in WITHOUT_PEOPLE if name in told}
        files = {name: file for name, file in files.items() if name not in NAMES_PEOPLE}
    if PICTURE in files and told.get(STRESS) != held.get(STRESS):
        files[PICTURE] = _drawn(told[STRESS])  # the old one says what was taken out
    return files | {name: _as_bytes(content) for name, content in told.items() if content != held[name]}


def plugin_files(folder: Path) -> list[str]:
    """Names of the files of a model's own parts, which its code imports."""
    file = folder / PLUGINS
    found = re.findall(r"^from \.(\w+) import", file.read_text(encoding="utf-8"), re.M) if file.is_file() else []
    return [f"{name}.py" for name in found]


def config_without_paths(config):
    """A configuration, whose parts do not say what folder their encoders were loaded from."""
    if not isinstance(config, dict):
        return config
    origin = {key: shown(config[key]) for key in ("_name_or_path", "name_or_path") if config.get(key)}
    return {key: config_without_paths(value) for key, value in config.items()} | origin


def record_without_paths(record: dict) -> dict:
    """A training record that tells nothing of the disk it was made on."""
    sources, words = record.get("sources", {}), record.get("words", {})
    record = that_may_leave(record)
    # Whoever wrote a list of cleared pairs may have named its file after people.
    settings = {key: value for key, value in record["settings"].items() if key != "not_copies"}
    told = {"settings": _plain(settings), "sources": _plain(sources), "encoders": origins(record)}
    if bank := words.get("sentence_bank"):
        told["words"] = words | {"sentence_bank": _plain(bank)}
    return record | told


def record_without_people(record: dict) -> dict:
    """A training record without any speaker or clip, by name or by a hash that a list of names would undo."""
    untold = {"detail": "not told: it may name clips or people", "evidence": []}
    return without_names(record) | {"audit": [finding | untold for finding in record.get("audit", [])]}


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


def model_card_of(folder: Path, files: dict[str, Path | bytes], repo_id: str, revision: str | None) -> bytes:
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
    record = parsed_record(folder / RECORD)
    if not record.get("finished"):
        raise ValueError(
            f"{folder}: found a training that has not ended. Expected a finished one: give its command again, and it "
            "goes on from its last checkpoint."
        )
    if record.get("settings", {}).get("model") not in TASKS:
        raise ValueError(
            f"{folder}: found a recogniser of train_asr.py. Expected a classifier of train_audio.py, train_text.py or "
            "train_fusion.py: push a recogniser with `hf upload`."
        )
    if not record.get("corpora"):
        raise ValueError(
            f"{folder}: found a {RECORD} that does not say which corpora the model was trained on. Expected their "
            "names in `corpora`, which decide what may leave: copy the record anew, or train the model again."
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
        if corpus_of(name).MAY_BE_SHARED is False:
            raise ValueError(
                f"Corpus '{name}' may not be handed on, in a private repository neither: its licence is "
                f'"{corpus_of(name).LICENCE}". Expected corpora that may be shared: push the model instead, and let '
                f"others get the corpus from {corpus_of(name).SOURCE}."
            )
    own = sorted(name for name in corpora if corpus_of(name).MAY_BE_SHARED is None)
    if own and not licence:
        raise ValueError(
            f"Corpus '{own[0]}' is your own, and only you know its licence. Expected one, as the Hub names it: if you "
            "may share these recordings, say --licence cc-by-4.0, or whatever it is."
        )
    if licence and not own:
        given = ", ".join(f"{name} is under {corpus_of(name).LICENCE}" for name in sorted(corpora))
        raise ValueError(f"--licence {licence}: {given}. Expected it with your own table alone: leave it out.")


def check_outside_files(folder: Path, allowed: bool) -> None:
    """Check that a data set holds no recordings from outside its corpus's folder, or that the user allows them.

    Whoever wrote a table may have named private files of this disk in it.

    Args:
        folder: The prepared data set.
        allowed: Whether the user said so.

    Raises:
        ValueError: it holds some.
    """
    integrity = _read(folder / INTEGRITY)
    if (count := integrity.get("noted", {}).get(OUTSIDE, 0)) and not allowed:
        detail = "; ".join(one["detail"] for one in integrity["findings"] if one["kind"] == OUTSIDE)
        raise ValueError(
            f"{folder}: {count} of its recordings come from elsewhere on this disk ({detail}). Expected recordings "
            "from the corpus's own folder alone: look whether you want to hand these on. If you do, say "
            "--allow_outside_files; else leave their rows out of the table and prepare it again."
        )


def ids_without_paths(dataset: Dataset) -> dict[str, str]:
    """A new id of each row whose own tells where its file lies on the disk it was prepared on, by the old one.

    An own table may name its files by their whole path, or by one that leads out of its folder. The new id is the
    beginning of the hash of the recording, which anybody can work out who has it, and the file's name.
    """
    names, taken = {}, set(dataset["id"][:])
    for number, (old, pcm) in enumerate(zip(dataset["id"][:], dataset["pcm_sha256"][:], strict=True), start=1):
        corpus, _, name = old.partition("/")
        if tells_the_disk(name):
            new = f"{corpus}/{(pcm or f'row_{number}')[:16]}-{_last_part(name)}"
            names[old] = new if new not in taken else f"{new}#{number}"
            taken.add(names[old])
    return names


DISK = re.compile(r"(?:[\\/~]|[A-Za-z]:[\\/]|file:|\.\.[\\/])|.*[\\/]\.\.[\\/]", re.DOTALL)
"""How a path begins that tells of a disk, or that leads out of its folder."""


ID_OF_DISK = re.compile(rf"(?:{'|'.join(CORPORA)})/(?:[\\/~]|[A-Za-z]:[\\/]|file:)|(?:^|[\\/])\.\.[\\/]")
"""In a text, an id of such a clip."""


def tells_the_disk(text: str | None) -> bool:
    """Whether a text is a path that says where something lies on a disk: absolute, of a home, or out of its folder."""
    return bool(text and len(re.split(r"[\\/]", text)) > 1 and DISK.match(text))


def rows_without_paths(dataset: Dataset, names: dict[str, str], work: Path) -> Dataset:
    """A data set whose cells tell nothing of the disk it was made on.

    Args:
        dataset: A prepared data set, which stays as it is.
        names: As `ids_without_paths` gives them.
        work: Folder for the changed rows.
    """
    texts = [name for name, kind in dataset.features.items() if kind == Value("string") and name != "id"]
    held = {name: set(dataset.unique(name)) for name in texts}
    plain = {name: {one: _last_part(one) for one in ones if _tells(name, one)} for name, ones in held.items()}
    plain = {name: _distinct(ones, held[name]) for name, ones in plain.items() if ones}
    if names:
        plain["id"] = names
    files = (path for cells in dataset.data.column("audio").chunks for path in cells.field("path").to_pylist())
    if not plain and not any(map(_cell_tells, files)):
        return dataset

    def change(rows: pa.Table) -> pa.Table:
        for name, ones in plain.items():
            values = [ones.get(one, one) for one in rows.column(name).to_pylist()]
            rows = rows.set_column(rows.column_names.index(name), name, pa.array(values, pa.string()))
        cells = rows.column("audio").combine_chunks()
        paths = [_last_part(one) if _cell_tells(one) else one for one in cells.field("path").to_pylist()]
        parts = {"bytes": cells.field("bytes"), "path": pa.array(paths, pa.string())}
        renamed = pa.StructArray.from_arrays(list(parts.values()), list(parts), mask=cells.is_null())
        return rows.set_column(rows.column_names.index("audio"), "audio", renamed)

    with quiet_datasets():
        # As Arrow, for what is encoded as Audio asks for torchcodec; and not beside the user's own files.
        changed = dataset.with_format("arrow").map(
            change,
            batched=True,
            batch_size=256,
            features=dataset.features,
            load_from_cache_file=False,
            cache_file_name=str(work / "rows.arrow"),
        )
    return changed.with_format(None)


def _tells(column: str, text: str | None) -> bool:
    """`_cell_tells`; what is spoken may begin with a slash, as `/laughs/ well`, and is a path if it ends as a file."""
    spoken = column in ("sentence", "script", "scene") or column.endswith("transcript")
    return _cell_tells(text) and not (spoken and not Path(text).suffix)


def _cell_tells(text: str | None) -> bool:
    """`tells_the_disk` of a cell, which may have a corpus before the path."""
    corpus, slash, rest = (text or "").partition("/")
    return tells_the_disk(rest if slash and corpus in CORPORA else text)


def _distinct(plain: dict[str, str], held: set) -> dict[str, str]:
    """New texts that stay as many as the old ones, so that two speakers do not become one."""
    taken = {one for one in held if one not in plain}
    for old in sorted(plain):
        new, number = plain[old], 2
        while plain[old] in taken:
            plain[old], number = f"{new}#{number}", number + 1
        taken.add(plain[old])
    return plain


def integrity_without_paths(integrity: dict, names: dict[str, str] | None = None) -> dict:
    """An integrity report that names files without the folders of the disk they lie on, and clips by their ids.

    Args:
        integrity: The report.
        names: New ids by the old ones, as `ids_without_paths` gives them.
    """
    names = names or {}
    longest = sorted(names, key=len, reverse=True)

    def plain_id(text: str) -> str:
        corpus, _, name = text.partition("/")
        return names.get(text) or (f"{corpus}/{_last_part(name)}" if tells_the_disk(name) else text)

    def plain_detail(text: str) -> str:
        for old in longest:
            text = text.replace(old, names[old])
        return "not told: it names files by where they lie on a disk" if ID_OF_DISK.search(text) else text

    def plain(finding: dict) -> dict:
        # A clip's id begins with its corpus, and only equal clips are told by the ids of others.
        is_id = finding["item"].partition("/")[0] in CORPORA
        item = plain_id(finding["item"]) if is_id else _last_part(finding["item"])
        detail = plain_detail(finding["detail"]) if finding["kind"] in DUPLICATES else _last_part(finding["detail"])
        return finding | {"item": item, "detail": detail}

    findings = [plain(finding) for finding in integrity["findings"]]
    return integrity | {"label_map": shown(integrity["label_map"]), "findings": findings}


def _last_part(text: str) -> str:
    """What follows the last slash: of a path its name, of words that begin with a path its name and the words."""
    return re.split(r"[\\/]", text.rstrip("\\/"))[-1]


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


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
