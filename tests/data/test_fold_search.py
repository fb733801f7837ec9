"""The search for folds: what it finds holds, what it denies does not exist, and nothing but the seed decides it."""

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest

from hf_ser.data import fold_search
from hf_ser.data.fold_search import blocking_classes, find_folds, find_validation, folds_exist, max_folds


def holds(has, found, n_folds) -> bool:
    for number in range(n_folds):
        test, validation = found.test == number, found.validation[number]
        parts = (test, validation, ~(test | validation))
        if (test & validation).any() or not all(has[part].any(axis=0).all() for part in parts):
            return False
    return True


def exists(has, n_folds) -> bool:
    """By trying everything."""
    n = len(has)
    both = [np.array(sides, dtype=bool) for sides in product((0, 1), repeat=n)]
    halves = [side for side in both if has[side].any(axis=0).all()]

    def parts_exist(test):
        rest = ~test
        return has[test].any(axis=0).all() and any(
            has[side & rest].any(axis=0).all() and has[~side & rest].any(axis=0).all() for side in halves
        )

    good = {test.tobytes() for test in both if parts_exist(test)}
    return any(
        all((np.array(parts) == number).tobytes() in good for number in range(n_folds))
        for parts in product(range(n_folds), repeat=n)
        if parts[0] == 0
    )


@pytest.mark.parametrize("seed", range(12))
def test_what_is_found_holds_and_what_is_denied_does_not_exist(seed):
    generator = np.random.default_rng(seed)
    has = generator.random((6, 2)) < 0.75
    has[:, 0] |= ~has.any(axis=1)
    for n_folds in (2, 3):
        found = find_folds(has, has.astype(int), n_folds, 3, seed)
        assert (found is not None) == exists(has, n_folds)
        assert found is None or holds(has, found, n_folds)


@pytest.mark.parametrize("seed", range(4))
def test_the_programme_finds_them_where_moving_speakers_does_not(monkeypatch, seed):
    generator = np.random.default_rng(seed)
    has = np.eye(5, dtype=bool)[generator.permutation(np.arange(25) % 5)]
    has[:3, generator.integers(5)] = True
    monkeypatch.setattr(fold_search, "_balanced", lambda *arguments: None)
    assert holds(has, find_folds(has, has.astype(int), 4, 5, 0), 4)
    chosen = find_validation(has, has.astype(int), 5, 0, 1)
    assert has[chosen].any(axis=0).all()
    assert has[~chosen].any(axis=0).all()


def test_blocking_classes_are_found_by_the_proof():
    # Three classes over the pairs of three speakers: no two sides have all, though each class has two speakers.
    has = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1]], dtype=bool)
    assert find_validation(has, has.astype(int), 2, 0, 1) is None
    # The seven lines of a plane over seven points: every class has three speakers, and no two sides have all seven.
    lines = ("124", "235", "346", "457", "156", "267", "137")
    plane = np.array([[str(point) in line for line in lines] for point in range(1, 8)])
    assert find_validation(plane, plane.astype(int), 2, 0, 1) is None
    assert max_folds(plane) is None
    assert blocking_classes(plane, 3)


def test_parts_are_balanced_by_the_given_strata():
    has = np.eye(3, dtype=bool)[np.arange(30) % 3]
    clips = np.concatenate([has * 10, has * 10])[:30]
    found = find_folds(has, clips, 5, 4, 0)
    assert all(clips[found.test == number].sum(axis=0).tolist() == [20, 20, 20] for number in range(5))
    assert all(clips[each].sum(axis=0).tolist() == [20, 20, 20] for each in found.validation)


def test_a_search_that_ends_too_soon_denies_nothing(monkeypatch):
    has = np.eye(3, dtype=bool)[np.arange(12) % 3]
    ended = SimpleNamespace(x=None, status=1, message="time limit reached")
    monkeypatch.setattr(fold_search, "milp", lambda *arguments, **options: ended)
    monkeypatch.setattr(fold_search, "_balanced", lambda *arguments: None)
    with pytest.raises(TimeoutError, match="time limit reached"):
        find_folds(has, has.astype(int), 3, 3, 0)
    assert find_validation(has, has.astype(int), 3, 0, 1) is None
    assert not folds_exist(has, 3)


def test_whether_folds_exist_is_not_searched_by_moving_speakers(monkeypatch):
    monkeypatch.setattr(fold_search, "_balanced", None)  # would be called
    has = np.eye(3, dtype=bool)[np.arange(1000) % 3]
    assert folds_exist(has, 5) and not folds_exist(has[:8], 5)
