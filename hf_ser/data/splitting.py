"""Split a data set into folds by a protocol, and refuse a split that leaks or misses a class."""

from pathlib import Path

import numpy as np
from datasets import Dataset

from hf_ser.data.complete_folds import missing_classes, require_all_classes, search_missing_classes
from hf_ser.data.folds import FINAL, Fold, check_leaks, fold_of
from hf_ser.data.plans import Plan, Rows
from hf_ser.data.protocols import PROTOCOLS
from hf_ser.data.split_file import read_split


def make_folds(
    dataset: Dataset,
    protocol: str,
    which: str = "all",
    n_folds: int = 5,
    validation_fraction: float = 0.2,
    seed: int = 0,
    allow_leak: bool = False,
    split_file: str | Path | None = None,
) -> list[Fold]:
    """Split a data set into folds.

    Args:
        dataset: A prepared data set.
        protocol: Key of PROTOCOLS.
        which: `all`, the number of one fold counted from 1, or `final` (no test part).
        n_folds: Folds of `speaker_folds`, `random` and the speakers of `sentence_disjoint`; other protocols have their
            own number.
        validation_fraction: Approximate share of the training speakers for validation.
        seed: Seed of the split, independent of the training seed.
        allow_leak: Allow shared speakers; every result then names the leak.
        split_file: File for `fixed`, see `read_split`.

    Raises:
        ValueError: unknown protocol or fold, an unsupported protocol, unknown or shared speakers, a class missing from
            a part.
    """
    _check_arguments(dataset, protocol, validation_fraction, allow_leak, split_file)
    rows = Rows.of(dataset)
    _require_speakers(rows, protocol, allow_leak)
    if which == FINAL:
        plans = {FINAL: Plan(np.array([], dtype=int))}
    else:
        split = read_split(split_file) if split_file else None
        listed = PROTOCOLS[protocol](rows, n_folds=n_folds, seed=seed, split=split)
        _check_plans(listed, protocol, len(rows.id))
        plans = _select({str(number): plan for number, plan in enumerate(listed, start=1)}, which)
    by_clip = protocol == "random" or "" in rows.speaker
    folds = [fold_of(rows, name, plan, validation_fraction, seed, by_clip) for name, plan in plans.items()]
    if missing_classes(dataset, folds) and not by_clip:
        number = n_folds if protocol == "speaker_folds" and which != FINAL else None
        folds = search_missing_classes(dataset, rows, plans, folds, number, validation_fraction, seed)
    folds = [check_leaks(dataset, fold, allow_leak) for fold in folds]
    require_all_classes(dataset, folds)
    return folds


def _check_plans(plans, protocol: str, count: int) -> None:
    """Check that a protocol, also a user's own, returns test rows by their positions.

    Raises:
        ValueError: it returns something else.
    """
    if not isinstance(plans, list) or not plans or not all(isinstance(plan, Plan) for plan in plans):
        raise ValueError(f"{protocol}: found {type(plans).__name__}, expected a list of Plan, one a fold.")
    for number, plan in enumerate(plans, start=1):
        test = np.asarray(plan.test)
        if len(test) and not (np.issubdtype(test.dtype, np.integer) and test.min() >= 0 and test.max() < count):
            raise ValueError(
                f"{protocol}, fold {number}: the test rows are {test.dtype} {test[:3]}, expected positions from 0 to "
                f"{count - 1}; for a mask: mask.nonzero()[0]."
            )


def _check_arguments(dataset: Dataset, protocol: str, fraction: float, allow_leak: bool, split_file) -> None:
    if protocol not in PROTOCOLS:
        raise ValueError(f"Unknown protocol '{protocol}': expected one of {', '.join(PROTOCOLS)}.")
    if not 0 < fraction <= 0.5:
        raise ValueError(
            f"validation_fraction {fraction}: expected a share above 0 and at most 0.5 of the training "
            "speakers: give --validation_fraction such as 0.2."
        )
    if (classes := len(dataset.features["label"].names)) < 2:
        raise ValueError(f"Found {classes} label in the data, expected at least 2 to tell apart: add clips of others.")
    if protocol == "random" and not allow_leak:
        raise ValueError(
            "Protocol 'random' puts clips of one speaker into training and test. Expected a speaker-independent "
            "protocol such as speaker_folds; to measure the leak itself, add --allow_leak (the result is stamped)."
        )
    if split_file and protocol != "fixed":
        raise ValueError(f"--split_file is read by --protocol fixed, found --protocol {protocol}: name that one.")


def _require_speakers(rows: Rows, protocol: str, allow_leak: bool) -> None:
    unknown = int((rows.speaker == "").sum())
    if unknown and not (protocol in ("random", "fixed") and allow_leak):
        raise ValueError(
            f"{unknown} of {len(rows.id)} utterances have no speaker, so no split can be speaker-independent. Fill in "
            "the speaker column; or use --protocol random --allow_leak and have the result stamped as leaked."
        )


def _select(plans: dict[str, Plan], which: str) -> dict[str, Plan]:
    if which != "all" and which not in plans:
        raise ValueError(
            f"--fold {which}: found no such fold among the {len(plans)} of this protocol. Expected a number from 1 to "
            f"{len(plans)}, 'all' or '{FINAL}'."
        )
    chosen = plans if which == "all" else {which: plans[which]}
    if empty := [name for name, plan in chosen.items() if len(plan.test) == 0]:
        raise ValueError(
            f"Fold {', '.join(empty)}: none of its test speakers is in this data set. "
            "Run the others one by one with --fold N."
        )
    return chosen
