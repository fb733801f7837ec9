"""What the tests of training share: no pictures, for they take longer than the trainings."""

import pytest


@pytest.fixture(autouse=True)
def no_pictures(request, monkeypatch):
    """Runs draw nothing, but where a test asks for `pictures` (and in fixtures of whole modules)."""
    if "pictures" not in request.fixturenames:
        for drawing in ("write_pictures", "plot_confusion_matrix", "plot_reliability", "plot_learning_curves"):
            monkeypatch.setattr(f"hf_ser.results.{drawing}", lambda *_: None)


@pytest.fixture
def pictures():
    """A test that looks at pictures asks for this."""
