"""A tiny trained model, shared by the tests of using one."""

import pytest
from models.tiny import save_trained

from hf_ser.runs.classifier import Classifier


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of an audio-only model."""
    return save_trained("audio", tmp_path_factory.mktemp("audio"))


@pytest.fixture(scope="module")
def model(folder):
    """The model, loaded."""
    return Classifier(str(folder), "cpu")
