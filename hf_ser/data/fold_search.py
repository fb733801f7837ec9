"""Search folds of whole speakers with every class in every part, for corpora whose speakers have few classes each.

The usual splitter balances the classes without guaranteeing any. Here speakers are moved and exchanged until every part
has every class; if that fails, an integer program finds an assignment or proves that there is none. All costs are
integers, so that no rounding decides a split. The program stays small because it counts speakers with equal classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

RESTARTS, KEPT = 24, 4
"""Number of starts, and of valid results among which the best balanced is chosen."""

MISSING = 10**15
"""Cost of a class missing from a part; all imbalance together costs far less."""

SCALE = 1000
"""Deviations from balance are in thousandths of the target."""

MAX_REPORTED_FOLDS, SECONDS, MESSAGE_SECONDS = 20, 60, 5
"""Numbers of folds tried for an error message, and the time limits of a proof: before training, and for a message."""

INFEASIBLE = 2
"""Status of `milp` if no assignment exists; other failures mean that none was found."""


@dataclass(frozen=True)
class Assignment:
    """Test and validation speakers of all folds.

    Shapes:
        test: `(speakers,)`, the fold in which a speaker is tested; validation: `(folds, speakers)`.
    """

    test: np.ndarray
    validation: np.ndarray


def find_folds(
    has: np.ndarray, clips: np.ndarray, n_folds: int, validation_parts: int, seed: int, kept: Assignment | None = None
) -> Assignment | None:
    """Find folds whose training, validation and test parts have every class; None if there are none.

    Args:
        has: Whether a speaker has a class.
        clips: Number of clips of each speaker by stratum (class and sex).
        n_folds: Number of folds.
        validation_parts: About one in so many of the other speakers is used for validation.
        seed: Seed of the folds.
        kept: Folds to keep; a `test` of -1 marks speakers of the folds to search.

    Shapes:
        has: `(speakers, classes)`; clips: `(speakers, strata)`, in an order that does not depend on that of the rows.

    Raises:
        TimeoutError: neither a solution nor a proof in SECONDS.
    """
    if (has.sum(axis=0) < speakers_needed(n_folds)).any():
        return None
    targets = np.ones(n_folds, dtype=np.int64)
    for restart in range(RESTARTS if kept is None else 1):
        test = _balanced(has, clips, targets, 2, (seed, restart), None if kept is None else kept.test)
        if test is None:
            break
        validation = _validation_of_all(has, clips, test, validation_parts, seed, kept)
        if validation is not None:
            return Assignment(test, validation)
    return _by_integer_program(has, n_folds) if kept is None else None


def find_validation(has: np.ndarray, clips: np.ndarray, parts: int, seed: int, number: int) -> np.ndarray | None:
    """Choose about one of `parts` parts of the speakers for validation, with every class in both; None if impossible.

    Args:
        has, clips, seed: As of `find_folds`, without test speakers.
        number: Number of the fold.

    Returns:
        A mask of the speakers.
    """
    if (has.sum(axis=0) < 2).any():
        return None
    found = _balanced(has, clips, np.array([1, parts - 1]), 0, (seed, number + 1))
    if found is None:
        try:
            found = _by_integer_program(has, 2, with_validation=False)
        except TimeoutError:
            return None
    return None if found is None else found == 0


def folds_exist(has: np.ndarray, n_folds: int) -> bool:
    """Whether an assignment to so many folds was found within MESSAGE_SECONDS."""
    if (has.sum(axis=0) < speakers_needed(n_folds)).any():
        return False
    try:
        return _by_integer_program(has, n_folds, seconds=MESSAGE_SECONDS) is not None
    except TimeoutError:
        return False


def speakers_needed(n_folds: int) -> int:
    """Fewest speakers of a class to have one in every part of every fold.

    With two folds, one tests at least half of them, and two must remain.
    """
    return 4 if n_folds == 2 else max(n_folds, 3)


def max_folds(has: np.ndarray) -> int | None:
    """Largest possible number of folds with every class in every part, None if there is none."""
    most = min(int(has.sum(axis=0).min()), MAX_REPORTED_FOLDS)
    return next((n_folds for n_folds in range(most, 1, -1) if folds_exist(has, n_folds)), None)


def blocking_classes(has: np.ndarray, n_folds: int) -> list[int]:
    """Classes without which folds exist: those with too few speakers, else found by trying."""
    few = np.flatnonzero(has.sum(axis=0) < speakers_needed(n_folds)).tolist()
    if few:
        return few
    without = [np.delete(has, one, axis=1) for one in range(has.shape[1])]
    alone = [one for one, others in enumerate(without) if folds_exist(others[others.any(axis=1)], n_folds)]
    return alone or [int(has.sum(axis=0).argmin())]


def _validation_of_all(has, clips, test, parts: int, seed: int, kept: Assignment | None) -> np.ndarray | None:
    """Validation speakers of each fold, `(folds, speakers)`; None if a fold has no solution."""
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


def _balanced(has, clips, targets, spare: int, seed: tuple[int, int], fixed_parts=None) -> np.ndarray | None:
    """Assign speakers to parts in proportion to `targets`, with every class in each part; None if not found.

    Each class also has `spare` speakers outside of every part.

    Shapes:
        has: `(speakers, classes)`; clips: `(speakers, strata)`; targets: `(parts,)`; fixed_parts: `(speakers,)`, the
        part that a speaker stays in, or -1; the result: `(speakers,)`.
    """
    fixed_parts = np.full(len(has), -1) if fixed_parts is None else fixed_parts
    strata = np.column_stack([clips, clips.sum(axis=1)]).astype(np.int64)
    cost = _Cost(has.astype(np.int64), strata, targets, spare)
    free_parts = np.setdiff1d(np.arange(len(targets)), fixed_parts)
    if not len(free_parts):
        return fixed_parts.copy()
    best, found = None, 0
    for restart in range(RESTARTS):
        generator = np.random.default_rng([*seed, restart])
        total, parts = _local_search(
            cost, _initial_parts(cost, fixed_parts, free_parts, generator), fixed_parts < 0, free_parts, generator
        )
        if total < MISSING:
            found += 1
            best = (total, parts) if best is None or total < best[0] else best
        if found == KEPT:
            break
    return None if best is None else best[1]


@dataclass(frozen=True)
class _Cost:
    """Cost of a part: missing classes, classes with too few speakers outside, and the imbalance of its clips.

    Shapes:
        has: `(speakers, classes)`; clips: `(speakers, strata)`; targets: `(parts,)`.
    """

    has: np.ndarray
    clips: np.ndarray
    targets: np.ndarray
    spare: int

    def sums(self, parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Speakers by class and clips by stratum of each part, `(parts, classes)` and `(parts, strata)`."""
        members = (np.arange(len(self.targets))[:, None] == parts).astype(np.int64)
        return members @ self.has, members @ self.clips

    def of(self, part, speakers: np.ndarray, clips: np.ndarray) -> np.ndarray:
        """Cost of a part with these sums.

        Shapes:
            part: `(...)`; speakers: `(..., classes)`; clips: `(..., strata)`; the result: `(...)`.
        """
        missing = np.maximum(1 - speakers, 0) + np.maximum(speakers + self.spare - self.has.sum(axis=0), 0)
        total, share = self.clips.sum(axis=0), self.targets[part][..., None]
        away = (self.targets.sum() * clips - share * total) * SCALE // np.maximum(share * total, 1)
        # The last stratum is all clips: the size of a part counts as much as all strata.
        return MISSING * missing.sum(axis=-1) + (away[..., :-1] ** 2).sum(axis=-1) + away.shape[-1] * away[..., -1] ** 2


def _initial_parts(cost: _Cost, fixed_parts, free_parts, generator) -> np.ndarray:
    """Assign one speaker after another to the cheapest part, those with the rarest classes first."""
    rarest = np.where(cost.has > 0, cost.has.sum(axis=0), len(cost.has) + 1).min(axis=1, initial=len(cost.has) + 1)
    order = generator.permutation(len(fixed_parts))
    order = order[np.lexsort((-cost.clips.sum(axis=1)[order], rarest[order]))]
    parts = fixed_parts.copy()
    speakers, clips = cost.sums(parts)
    for one in order[fixed_parts[order] < 0]:
        before = cost.of(free_parts, speakers[free_parts], clips[free_parts])
        after = cost.of(free_parts, speakers[free_parts] + cost.has[one], clips[free_parts] + cost.clips[one])
        chosen = free_parts[np.argmin(after - before)]
        parts[one] = chosen
        speakers[chosen] += cost.has[one]
        clips[chosen] += cost.clips[one]
    return parts


def _local_search(cost: _Cost, parts, is_free, free_parts, generator) -> tuple[int, np.ndarray]:
    """Move and exchange speakers until no step lowers the cost; return the cost and the assignment."""
    free = generator.permutation(np.flatnonzero(is_free))
    stuck = 0
    while stuck < len(free):
        for one in free:
            stuck = 0 if _move_one(cost, parts, one, free, free_parts) else stuck + 1
            if stuck >= len(free):
                break
    speakers, clips = cost.sums(parts)
    return int(cost.of(np.arange(len(cost.targets)), speakers, clips).sum()), parts


def _move_one(cost: _Cost, parts, one: int, free, free_parts) -> bool:
    """Move one speaker, or exchange it with another, whichever lowers the cost most; `parts` is modified."""
    speakers, clips = cost.sums(parts)
    now = cost.of(np.arange(len(cost.targets)), speakers, clips)
    here = parts[one]
    others = free[parts[free] != here]
    # Exchanges, then moves; a move is an exchange with row -1, which is empty.
    there = np.concatenate([parts[others], free_parts[free_parts != here]])
    back = np.concatenate([others, np.full(len(there) - len(others), -1)])
    has, counts = (np.vstack([each, np.zeros_like(each[:1])]) for each in (cost.has, cost.clips))
    source = cost.of(here, speakers[here] - has[one] + has[back], clips[here] - counts[one] + counts[back])
    target = cost.of(there, speakers[there] + has[one] - has[back], clips[there] + counts[one] - counts[back])
    gain = source + target - now[here] - now[there]
    if not len(gain) or gain.min() >= 0:
        return False
    best = int(np.argmin(gain))
    parts[one] = there[best]
    if back[best] >= 0:
        parts[back[best]] = here
    return True


def _by_integer_program(has: np.ndarray, n_parts: int, with_validation: bool = True, seconds: float | None = None):
    """Find an assignment by integer programming; None if there is none.

    Args:
        has: Whether a speaker has a class, `(speakers, classes)`.
        n_parts: Number of folds, or without validation of parts.
        with_validation: Whether the speakers outside of a part are split into training and validation.
        seconds: Time limit, by default SECONDS.

    Returns:
        `Assignment`; without validation the part of each speaker.

    Raises:
        TimeoutError: neither a solution nor a proof within the time limit.
    """
    kinds, kind, sizes = np.unique(has, axis=0, return_inverse=True, return_counts=True)
    n_kinds, n = len(kinds), len(kinds) * n_parts
    classes = kinds.T.astype(float)  # (classes, kinds)
    by_part = np.kron(np.eye(n_parts), classes)
    none = np.zeros_like(by_part)
    outside = np.tile(classes @ sizes, n_parts)
    assigned = np.kron(np.ones((1, n_parts)), np.eye(n_kinds))
    if with_validation:
        rows = [
            (np.hstack([assigned, np.zeros_like(assigned)]), sizes, sizes),
            (np.hstack([np.eye(n), np.eye(n)]), 0, np.tile(sizes, n_parts)),
            (np.hstack([by_part, none]), 1, np.inf),
            (np.hstack([none, by_part]), 1, np.inf),
            (np.hstack([by_part, by_part]), 0, outside - 1),
        ]
    else:
        rows = [(assigned, sizes, sizes), (by_part, 1, np.inf)]
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
    return _assign_speakers(taken, kind.ravel(), n_parts)


def _assign_speakers(taken: np.ndarray, kind: np.ndarray, n_parts: int):
    """Assign speakers by numbers of speakers of each kind, `(1 or 2, parts, kinds)`."""
    test = np.empty(len(kind), dtype=int)
    validation = np.zeros((n_parts, len(kind)), dtype=bool)
    for one in range(taken.shape[2]):
        members = np.flatnonzero(kind == one)
        test[members] = np.repeat(np.arange(n_parts), taken[0, :, one])
        for part in range(n_parts if len(taken) > 1 else 0):
            validation[part, members[test[members] != part][: taken[1, part, one]]] = True
    return Assignment(test, validation) if len(taken) > 1 else test


def list_classes(names: Sequence[str], has: np.ndarray, which: Sequence[int]) -> str:
    """List classes with their numbers of speakers, for messages."""
    return ", ".join(f"{names[one]} ({has[:, one].sum()} speakers)" for one in which)
