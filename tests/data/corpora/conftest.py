"""What the tests of several corpora share."""

import pytest


@pytest.fixture
def tree(tmp_path):
    """A function that makes empty files; the listing reads names alone."""

    def make(*names):
        for name in names:
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        return tmp_path

    return make
