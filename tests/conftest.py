"""What all tests share: no hub, no cache of the user's, and small data sets made in memory."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub is imported

import pytest
from datasets import Dataset, Features

from hf_ser.columns import features


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """A cache that ends with the tests."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("hf_ser_cache")
        patch.setenv("HF_SER_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def dataset_of():
    """A function from rows of (id, label, speaker, sex) to a data set in memory, labels in alphabetical order."""

    def build(rows: list[tuple]) -> Dataset:
        labels = tuple(sorted({row[1] for row in rows}))
        typed = features(labels)
        names = ("id", "label", "speaker", "sex")
        columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
        columns["label"] = [labels.index(label) for label in columns["label"]]
        return Dataset.from_dict(columns, features=Features({name: typed[name] for name in names}))

    return build
