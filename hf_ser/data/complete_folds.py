"""Folds in which every part has every class, where the usual assignment of speakers misses one."""

from dataclasses import replace

import numpy as np
from datasets import Dataset

from hf_ser.data.fold_search import (
    SECONDS,
    Assignment,
    blocking_classes,
    find_folds,
    find_validation,
    list_classes,
    max_folds,
    speakers_needed,
)
from hf_ser.data.folds import Fold, fold_of
from hf_ser.data.plans import Plan, Rows
from hf_ser.data.protocols import speaker_folds


def missing_classes(dataset: Dataset, folds: list[Fold]) -> dict[str, list[str]]:
    """Classes missing from each part; the test parts count together, as they are scored together."""
    labels, names = np.array(dataset["label"][:]), dataset.features["label"].names
    tested = np.concatenate([fold.test for fold in folds])
    scored = {f"fold {fold.name}: training": fold.train for fold in folds}
    scored |= {f"fold {fold.name}: validation": fold.validation for fold in folds}
    scored |= {"the test rows": tested} if len(tested) else {}
    found = {part: set(labels[rows].tolist()) for part, rows in scored.items()}
    missing = {part: [name for i, name in enumerate(names) if i not in classes] for part, classes in found.items()}
    return {part: absent for part, absent in missing.items() if absent}


def require_all_classes(dataset: Dataset, folds: list[Fold]) -> None:
    """Raise a ValueError if a part of a fold lacks a class."""
    for part, missing in missing_classes(dataset, folds).items():
        raise ValueError(
            f"{part} has no utterance of {', '.join(missing)}, so recall over all "
            f"{len(dataset.features['label'].names)} classes cannot be "
            "computed. Expected every class, which takes at least 3 speakers who have it, one for each part of "
            "a fold: use --fold all for a test part, another --n_folds or --protocol, a --label_map FILE that joins "
            "the class with another or leaves it out (in joined corpora: one that not all have), or add speakers."
        )


def search_missing_classes(
    dataset, rows: Rows, plans: dict[str, Plan], folds: list[Fold], n_folds, fraction, seed
) -> list[Fold]:
    """Search folds with every class in every part if the usual assignment of speakers misses one.

    Complete folds are kept. If the protocol fixes the test speakers (`n_folds` is None), only validation speakers are
    searched.

    Raises:
        ValueError: `speaker_folds` of this number do not exist.
    """
    parts = max(2, round(1 / fraction))
    if n_folds is not None and n_folds < len(set(rows.speaker)):
        listed = enumerate(speaker_folds(rows, n_folds, seed), start=1)
        usual = [fold_of(rows, str(number), plan, fraction, seed, False) for number, plan in listed]
        if not missing_classes(dataset, usual):
            return folds  # all folds together are complete, and one alone must be the same as among them
        found = _search_speaker_folds(rows, usual, parts, seed)
        return [fold_of(rows, name, found[int(name) - 1], fraction, seed, False) for name in plans]
    completed = []
    for (name, plan), fold in zip(plans.items(), folds, strict=True):
        rest = np.setdiff1d(np.arange(len(rows.id)), plan.test) if plan.train is None else plan.train
        if plan.validation is None and not _has_all(rows, fold.train, fold.validation):
            names, has, clips = _speaker_table(rows.at(rest), np.unique(rows.label))
            chosen = find_validation(has, clips, parts, seed, int(name) if name.isdigit() else 0)
            if chosen is not None:
                validation = rest[np.isin(rows.speaker[rest], names[chosen])]
                plan = replace(plan, train=np.setdiff1d(rest, validation), validation=validation)
                fold = fold_of(rows, name, plan, fraction, seed, False)
        completed.append(fold)
    return completed


def _search_speaker_folds(rows: Rows, usual: list[Fold], parts: int, seed: int) -> list[Plan]:
    """Plans of all folds; complete usual folds are kept if the others can still be completed."""
    names, has, clips = _speaker_table(rows, np.unique(rows.label))
    n_folds = len(usual)
    at = np.argsort(rows.position)  # rows by their number in the data set
    test, validation = np.full(len(names), -1), np.zeros((n_folds, len(names)), dtype=bool)
    for number, fold in enumerate(usual):
        if _has_all(rows, fold.train, fold.validation, fold.test):
            test[np.isin(names, rows.speaker[at[fold.test]])] = number
            validation[number] = np.isin(names, rows.speaker[at[fold.validation]])
    found = find_folds(has, clips, n_folds, parts, seed, Assignment(test, validation)) if (test >= 0).any() else None
    try:
        found = found or find_folds(has, clips, n_folds, parts, seed)
    except TimeoutError as error:
        raise ValueError(
            f"speaker_folds with n_folds {n_folds}: found no assignment of the {len(has)} speakers with every class in "
            f"the training, validation and test part of every fold in {SECONDS} s; there may be one. Expected one: use "
            "a smaller --n_folds, another --split_seed, or a --label_map FILE that joins or leaves out rare classes."
        ) from error
    if found is None:
        _refuse_folds(np.unique(rows.label).tolist(), has, n_folds)
    plans = []
    for number in range(n_folds):
        of = {"test": found.test == number, "validation": found.validation[number]}
        of["train"] = ~(of["test"] | of["validation"])
        plans.append(Plan(**{part: np.flatnonzero(np.isin(rows.speaker, names[who])) for part, who in of.items()}))
    return plans


def _refuse_folds(labels: list[str], has: np.ndarray, n_folds: int) -> None:
    blocking = list_classes(labels, has, blocking_classes(has, n_folds))
    most = max_folds(has)
    remedy = f"use --n_folds {most}, the largest number that has them" if most else "no --n_folds has them"
    raise ValueError(
        f"speaker_folds with n_folds {n_folds}: no assignment of the {len(has)} speakers has every class in the "
        f"training, validation and test part of every fold. Too rare: {blocking}. Expected at least "
        f"{speakers_needed(n_folds)} speakers of each class: {remedy}; or a --label_map FILE that joins such a class "
        "with another or leaves it out; or add speakers who have it. Another --split_seed changes nothing."
    )


def _has_all(rows: Rows, *parts: np.ndarray) -> bool:
    """Whether each part, given as row numbers of the data set, has every class."""
    classes = len(set(rows.label))
    return all(len(set(rows.label[np.isin(rows.position, part)])) == classes for part in parts)


def _speaker_table(rows: Rows, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sorted speakers, whether each has a class, and the number of clips of each by class and sex."""
    names, who = np.unique(rows.speaker, return_inverse=True)
    _, stratum = np.unique(
        np.array([f"{a}\0{b}" for a, b in zip(rows.label, rows.sex, strict=True)]), return_inverse=True
    )
    clips = np.zeros((len(names), stratum.max() + 1), dtype=np.int64)
    np.add.at(clips, (who, stratum), 1)
    has = np.zeros((len(names), len(labels)), dtype=bool)
    has[who, np.searchsorted(labels, rows.label)] = True
    return names, has, clips
