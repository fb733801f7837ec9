"""What all tests share: no hub, no cache of the user's, small data sets in memory and on disk, and the scripts."""

import csv
import gc
import importlib.util
import os
import pickle
import sys
from pathlib import Path
from typing import TYPE_CHECKING

os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is: the tests run in two processes

import pytest

# What takes seconds to import is imported in the fixtures: the process that hands out the tests runs none of them.
if TYPE_CHECKING:
    from datasets import Dataset

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """No search for garbage while modules are imported, and none through them later: torch and transformers stay.

    Without it a quarter of the time of these tests is spent looking through the half a million objects of the two.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """A cache that ends with the tests."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("hf_ser_cache")
        patch.setenv("HF_SER_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def dataset_of():
    """A function from rows of (id, label, speaker, sex) to a data set in memory, labels in alphabetical order.

    More columns are given by name, as functions of an id or as lists.
    """

    from datasets import Dataset, Features

    from hf_ser.data.schema import features

    def build(rows: list[tuple], **more) -> "Dataset":
        labels = tuple(sorted({row[1] for row in rows}))
        typed = features(labels)
        columns = dict(zip(("id", "label", "speaker", "sex"), map(list, zip(*rows, strict=True)), strict=True))
        columns |= {name: list(map(one, columns["id"])) if callable(one) else one for name, one in more.items()}
        columns["label"] = [labels.index(label) for label in columns["label"]]
        return Dataset.from_dict(columns, features=Features({name: typed[name] for name in columns}))

    return build


@pytest.fixture(scope="session")
def table(tmp_path_factory) -> Path:
    """A corpus small enough to train on in seconds: a CSV of 6 speakers with 8 clips each, two a label."""
    from hf_ser.data.corpora import synthetic

    folder = tmp_path_factory.mktemp("corpus")
    rows = []
    for speaker in range(1, 7):
        taken = dict.fromkeys(synthetic.LABELS, 0)
        for clip in range(1, 41):
            utterance = synthetic.utterance(speaker, clip)
            if taken[utterance.label] == 2:
                continue
            taken[utterance.label] += 1
            name = f"{speaker}_{clip}.wav"
            (folder / name).write_bytes(utterance.audio)
            rows.append(
                {
                    "path": name,
                    "label": utterance.label,
                    "speaker": f"s{speaker}",
                    "sex": utterance.sex,
                    "transcript": utterance.transcript,
                }
            )
    with open(folder / "clips.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return folder / "clips.csv"


@pytest.fixture(scope="session")
def prepared(table, tmp_path_factory) -> Path:
    """The same as a prepared data set folder."""
    from hf_ser.data.prepare import prepare

    folder = tmp_path_factory.mktemp("prepared") / "data"
    prepare("table", table, folder)
    return folder


@pytest.fixture
def no_pictures(monkeypatch):
    """Runs draw nothing (but in fixtures of whole modules): it takes longer than the trainings of the tests."""
    for drawing in ("write_pictures", "plot_confusion_matrix", "plot_reliability", "plot_learning_curves"):
        monkeypatch.setattr(f"hf_ser.publish.results.{drawing}", lambda *_: None)


@pytest.fixture(scope="session")
def remembered():
    """A decorator that computes a function once for equal arguments, as long as the session lasts."""
    results = {}

    def computed_once(function):
        def call(*args, **kwargs):
            key = (function, pickle.dumps((args, kwargs)))
            if key not in results:
                results[key] = function(*args, **kwargs)
            return results[key]

        return call

    return computed_once


@pytest.fixture
def script(monkeypatch, remembered):
    """Call a script's `main` in this process with the given arguments.

    The audit of the same clips and the template of the same card are computed once: most tests train on `prepared`.

    Where none of them names an audio model or a recipe, it is the one that a few clips are trained on fastest.
    """

    import jinja2

    from hf_ser.checks.audit import data

    for module, pure in ((data, "probe_trivia"), (data, "probe_text"), (jinja2, "Template")):
        monkeypatch.setattr(module, pure, remembered(getattr(module, pure)))

    def call(name: str, *arguments) -> None:
        named = any(str(one) == "--audio_model" or str(one).endswith(".yaml") for one in arguments)
        if name in ("train_audio", "train_fusion") and not named:
            arguments = (*arguments, "--audio_model", "spectrogram_cnn")
        spec = importlib.util.spec_from_file_location(f"script_{name}", SCRIPTS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        module.main()

    return call
