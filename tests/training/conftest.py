"""What the tests of training share: no pictures, for they take longer than the trainings."""

import pytest


@pytest.fixture(autouse=True)
def draws_nothing(request):
    """But where a test asks for `pictures`."""
    if "pictures" not in request.fixturenames:
        request.getfixturevalue("no_pictures")


@pytest.fixture
def pictures():
    """A test that looks at pictures asks for this."""
