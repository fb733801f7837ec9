"""Folds of whole speakers with every class in every part, for corpora whose speakers have few of the classes each.

The usual splitter balances the classes and guarantees none of them. Here speakers are moved and exchanged until every
part has every class; where that ends without success, an integer programme finds an assignment or proves that there is
none. All costs are integers, so that no rounding decides a split.

Only the set of classes that a speaker has matters for whether an assignment exists. The programme counts speakers of
equal sets and stays small.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

RESTARTS, KEPT = 24, 4
"""Starts that are tried, and valid results of which the best balanced is taken."""

MISSING = 10**15
"""Cost of a class that a part lacks; all imbalance together stays far below."""

SCALE = 1000
"""Deviations from balance are counted in thousandths of what a part should have."""

MOST_FOLDS, SECONDS, SECONDS_OF_MESSAGE = 20, 60, 5
"""Numbers of folds that are tried for an error message, and the longest that a proof may take: one that decides whether
a training begins, and one of the many that only an error message asks for."""


INFEASIBLE = 2
"""Status of `milp` that says that no assignment exists; any other without one says that none was found."""


@dataclass(frozen=True)
class Assignment:
    """Who is tested and who chooses the checkpoint.

    Shapes:
        test: `(speakers,)`, the number of the fold that tests a speaker; validation: `(folds, speakers)`.
    """

    test: np.ndarray
    validation: np.ndarray


def find_folds(
    has: np.ndarray, clips: np.ndarray, n_folds: int, validation_parts: int, seed: int, kept: Assignment | None = None
) -> Assignment | None:
    """Folds whose training, validation and test part have every class each; None where there are none.

    Args:
        has: Whether a speaker has a class.
        clips: Clips of each speaker by what is balanced (class and sex).
        n_folds: Number of folds.
        validation_parts: One part of so many of the other speakers (about) is validation.
        seed: Of the folds.
        kept: Folds to keep as they are; a `test` of -1 marks the speakers of the others, which are searched for.

    Shapes:
        has: `(speakers, classes)`; clips: `(speakers, strata)`. In an order that does not depend on that of the rows.

    Raises:
        TimeoutError: none was found in SECONDS, and none was proved not to exist.
    """
    if (has.sum(axis=0) < speakers_needed(n_folds)).any():
        return None
    wanted = np.ones(n_folds, dtype=np.int64)
    for restart in range(RESTARTS if kept is None else 1):
        test = _balanced(has, clips, wanted, 2, (seed, restart), None if kept is None else kept.test)
        if test is None:
            break
        validation = _validation_of_all(has, clips, test, validation_parts, seed, kept)
        if validation is not None:
            return Assignment(test, validation)
    return _by_programme(has, n_folds) if kept is None else None


def find_validation(has: np.ndarray, clips: np.ndarray, parts: int, seed: int, number: int) -> np.ndarray | None:
    """Speakers for validation, about one part of `parts`, so that they and the others have every class; else None.

    Args:
        has, clips, seed: As `find_folds` takes them, of the speakers that are not tested.
        number: Of the fold.

    Returns:
        A mask of the speakers.
    """
    if (has.sum(axis=0) < 2).any():
        return None
    found = _balanced(has, clips, np.array([1, parts - 1]), 0, (seed, number + 1))
    if found is None:
        try:
            found = _by_programme(has, 2, with_validation=False)
        except TimeoutError:
            return None
    return None if found is None else found == 0


def folds_exist(has: np.ndarray, n_folds: int) -> bool:
    """Whether speakers can be assigned to so many folds with every class in every part, as far as can be told soon."""
    if (has.sum(axis=0) < speakers_needed(n_folds)).any():
        return False
    try:
        return _by_programme(has, n_folds, seconds=SECONDS_OF_MESSAGE) is not None
    except TimeoutError:
        return False


def speakers_needed(n_folds: int) -> int:
    """Speakers that a class needs for every part of every fold to have one of them.

    Of two folds one tests half of them or more, and two must remain.
    """
    return 4 if n_folds == 2 else max(n_folds, 3)


def most_folds(has: np.ndarray) -> int | None:
    """The largest number of folds with every class in every part, None where no number has them."""
    most = min(int(has.sum(axis=0).min()), MOST_FOLDS)
    return next((n_folds for n_folds in range(most, 1, -1) if folds_exist(has, n_folds)), None)


def classes_in_the_way(has: np.ndarray, n_folds: int) -> list[int]:
    """Classes without which there are folds: of too few speakers each or, where all have enough, by trying."""
    few = np.flatnonzero(has.sum(axis=0) < speakers_needed(n_folds)).tolist()
    if few:
        return few
    without = [np.delete(has, one, axis=1) for one in range(has.shape[1])]
    alone = [one for one, others in enumerate(without) if folds_exist(others[others.any(axis=1)], n_folds)]
    return alone or [int(has.sum(axis=0).argmin())]


def _validation_of_all(has, clips, test, parts: int, seed: int, kept: Assignment | None) -> np.ndarray | None:
    """Validation speakers of each fold, `(folds, speakers)`; None where a fold has none."""
    found = []
    for number in range(int(test.max()) + 1):
        rest = np.flatnonzero(test != number)
        if kept is not None and (kept.test == number).any():
            found.append(kept.validation[number])
            continue
        chosen = find_validation(has[rest], clips[rest], parts, seed, number)
        if chosen is None:
            return None
        mask = np.zeros(len(test), dtype=bool)
        mask[rest[chosen]] = True
        found.append(mask)
    return np.array(found)


def _balanced(has, clips, wanted, spare: int, seed: tuple[int, int], fixed=None) -> np.ndarray | None:
    """Parts in proportion to `wanted`, each with every class and `spare` speakers of it elsewhere; None if not found.

    Shapes:
        has: `(speakers, classes)`; clips: `(speakers, strata)`; wanted: `(parts,)`; fixed: `(speakers,)`, the part that
        a speaker stays in, or -1; what is returned: `(speakers,)`.
    """
    fixed = np.full(len(has), -1) if fixed is None else fixed
    strata = np.column_stack([clips, clips.sum(axis=1)]).astype(np.int64)
    cost = _Cost(has.astype(np.int64), strata, wanted, spare)
    free_parts = np.setdiff1d(np.arange(len(wanted)), fixed)
    if not len(free_parts):
        return fixed.copy()
    best, found = None, 0
    for restart in range(RESTARTS):
        generator = np.random.default_rng([*seed, restart])
        total, parts = _improved(cost, _first(cost, fixed, free_parts, generator), fixed < 0, free_parts, generator)
        if total < MISSING:
            found += 1
            best = (total, parts) if best is None or total < best[0] else best
        if found == KEPT:
            break
    return None if best is None else best[1]


@dataclass(frozen=True)
class _Cost:
    """What a part costs: classes that it lacks or leaves too few speakers of, and how far its clips are from its share.

    Shapes:
        has: `(speakers, classes)`; clips: `(speakers, strata)`; wanted: `(parts,)`.
    """

    has: np.ndarray
    clips: np.ndarray
    wanted: np.ndarray
    spare: int

    def sums(self, parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Speakers by class and clips by stratum of each part, `(parts, classes)` and `(parts, strata)`."""
        members = (np.arange(len(self.wanted))[:, None] == parts).astype(np.int64)
        return members @ self.has, members @ self.clips

    def of(self, part, speakers: np.ndarray, clips: np.ndarray) -> np.ndarray:
        """Cost of part number `part` with these sums.

        Shapes:
            part: `(...)`; speakers: `(..., classes)`; clips: `(..., strata)`; what is returned: `(...)`.
        """
        missing = np.maximum(1 - speakers, 0) + np.maximum(speakers + self.spare - self.has.sum(axis=0), 0)
        total, share = self.clips.sum(axis=0), self.wanted[part][..., None]
        away = (self.wanted.sum() * clips - share * total) * SCALE // np.maximum(share * total, 1)
        # The last stratum is all clips: the size of a part counts as much as all else.
        return MISSING * missing.sum(axis=-1) + (away[..., :-1] ** 2).sum(axis=-1) + away.shape[-1] * away[..., -1] ** 2


def _first(cost: _Cost, fixed, free_parts, generator) -> np.ndarray:
    """One speaker after another, those with the rarest classes first, where it costs least at that moment."""
    rarest = np.where(cost.has > 0, cost.has.sum(axis=0), len(cost.has) + 1).min(axis=1, initial=len(cost.has) + 1)
    order = generator.permutation(len(fixed))
    order = order[np.lexsort((-cost.clips.sum(axis=1)[order], rarest[order]))]
    parts = fixed.copy()
    speakers, clips = cost.sums(parts)
    for one in order[fixed[order] < 0]:
        before = cost.of(free_parts, speakers[free_parts], clips[free_parts])
        after = cost.of(free_parts, speakers[free_parts] + cost.has[one], clips[free_parts] + cost.clips[one])
        chosen = free_parts[np.argmin(after - before)]
        parts[one] = chosen
        speakers[chosen] += cost.has[one]
        clips[chosen] += cost.clips[one]
    return parts


def _improved(cost: _Cost, parts, is_free, free_parts, generator) -> tuple[int, np.ndarray]:
    """The assignment after moves and exchanges of speakers, until none of them lowers the cost; and its cost."""
    free = generator.permutation(np.flatnonzero(is_free))
    stuck = 0
    while stuck < len(free):
        for one in free:
            stuck = 0 if _changed(cost, parts, one, free, free_parts) else stuck + 1
            if stuck >= len(free):
                break
    speakers, clips = cost.sums(parts)
    return int(cost.of(np.arange(len(cost.wanted)), speakers, clips).sum()), parts


def _changed(cost: _Cost, parts, one: int, free, free_parts) -> bool:
    """Move one speaker, or exchange it with another, where that lowers the cost the most; `parts` is changed."""
    speakers, clips = cost.sums(parts)
    now = cost.of(np.arange(len(cost.wanted)), speakers, clips)
    here = parts[one]
    others = free[parts[free] != here]
    # Exchanges first, then moves: a move is an exchange with nobody.
    there = np.concatenate([parts[others], free_parts[free_parts != here]])
    back = np.concatenate([others, np.full(len(there) - len(others), -1)])
    has, held = (np.vstack([each, np.zeros_like(each[:1])]) for each in (cost.has, cost.clips))  # row -1 is nobody
    source = cost.of(here, speakers[here] - has[one] + has[back], clips[here] - held[one] + held[back])
    target = cost.of(there, speakers[there] + has[one] - has[back], clips[there] + held[one] - held[back])
    gain = source + target - now[here] - now[there]
    if not len(gain) or gain.min() >= 0:
        return False
    best = int(np.argmin(gain))
    parts[one] = there[best]
    if back[best] >= 0:
        parts[back[best]] = here
    return True


def _by_programme(has: np.ndarray, n_parts: int, with_validation: bool = True, seconds: float | None = None):
    """An assignment by integer programming, or None where there is none.

    Args:
        has: Whether a speaker has a class, `(speakers, classes)`.
        n_parts: Number of folds or, without validation, of parts.
        with_validation: Whether the speakers outside of a part are divided into training and validation too.
        seconds: The longest that it may take, by default SECONDS.

    Returns:
        `Assignment`; without validation the part of each speaker.

    Raises:
        TimeoutError: the time was over before one was found or proved not to exist.
    """
    kinds, kind, sizes = np.unique(has, axis=0, return_inverse=True, return_counts=True)
    n_kinds, n = len(kinds), len(kinds) * n_parts
    classes = kinds.T.astype(float)  # (classes, kinds)
    by_part = np.kron(np.eye(n_parts), classes)
    none = np.zeros_like(by_part)
    outside = np.tile(classes @ sizes, n_parts)
    every = np.kron(np.ones((1, n_parts)), np.eye(n_kinds))
    if with_validation:
        rows = [
            (np.hstack([every, np.zeros_like(every)]), sizes, sizes),
            (np.hstack([np.eye(n), np.eye(n)]), 0, np.tile(sizes, n_parts)),
            (np.hstack([by_part, none]), 1, np.inf),
            (np.hstack([none, by_part]), 1, np.inf),
            (np.hstack([by_part, by_part]), 0, outside - 1),
        ]
    else:
        rows = [(every, sizes, sizes), (by_part, 1, np.inf)]
    constraints = [LinearConstraint(coo_array(left).tocsr(), low, high) for left, low, high in rows]
    counts = np.tile(sizes, n_parts * (2 if with_validation else 1))
    solved = milp(
        np.zeros(len(counts)),
        integrality=np.ones(len(counts)),
        bounds=Bounds(0, counts),
        constraints=constraints,
        options={"time_limit": SECONDS if seconds is None else seconds},
    )
    if solved.x is None:
        if solved.status != INFEASIBLE:
            raise TimeoutError(solved.message)
        return None
    taken = np.rint(solved.x).astype(int).reshape(-1, n_parts, n_kinds)
    return _of_counts(taken, kind.ravel(), n_parts)


def _of_counts(taken: np.ndarray, kind: np.ndarray, n_parts: int):
    """Speakers in place of numbers of speakers of each kind, `(1 or 2, parts, kinds)`."""
    test = np.empty(len(kind), dtype=int)
    validation = np.zeros((n_parts, len(kind)), dtype=bool)
    for one in range(taken.shape[2]):
        members = np.flatnonzero(kind == one)
        test[members] = np.repeat(np.arange(n_parts), taken[0, :, one])
        for part in range(n_parts if len(taken) > 1 else 0):
            validation[part, members[test[members] != part][: taken[1, part, one]]] = True
    return Assignment(test, validation) if len(taken) > 1 else test


def named_classes(names: Sequence[str], has: np.ndarray, which: Sequence[int]) -> str:
    """Classes with their numbers of speakers, for messages."""
    return ", ".join(f"{names[one]} ({has[:, one].sum()} speakers)" for one in which)
