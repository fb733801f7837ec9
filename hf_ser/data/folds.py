"""Folds: training, validation and test rows, the check that they share no speakers, and their fingerprint."""

import hashlib
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from datasets import Dataset

from hf_ser.data.plans import Plan, Rows
from hf_ser.data.protocols import grouped, random
from hf_ser.normal_form import printable

FINAL = "final"

CHOSEN_ON_TEST = "checkpoint_chosen_on_test"


@dataclass(frozen=True)
class Fold:
    """One split of a data set.

    Args:
        held_out: Description of the test part, if it is not only some speakers.

    Shapes:
        train, validation, test: `(rows of that part,)` row numbers of the data set; test is empty in `final`. A row
        may be in no part, such as one whose sentence is tested but not its speaker.
    """

    name: str
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    fingerprint: str
    leaks: tuple[str, ...] = ()
    held_out: str = ""


def fold_folder(name: str) -> str:
    """Folder name of a fold within a run."""
    return FINAL if name == FINAL else f"fold_{name}"


def fold_of(rows: Rows, name: str, plan: Plan, fraction: float, seed: int, by_clip: bool) -> Fold:
    """Make a fold of a plan, with validation speakers (or clips, if `by_clip`) if the plan has none."""
    rest = np.setdiff1d(np.arange(len(rows.id)), plan.test) if plan.train is None else plan.train
    if plan.validation is not None:
        train, validation = rest, plan.validation
    else:
        validation = rest[_validation(rows.at(rest), name, fraction, seed, by_clip)]
        train = np.setdiff1d(rest, validation)
    parts = {"train": train, "validation": validation, "test": plan.test}
    return Fold(
        name=name,
        fingerprint=fingerprint({part: rows.id[indices].tolist() for part, indices in parts.items()}),
        held_out=plan.held_out,
        **{part: np.sort(rows.position[indices]) for part, indices in parts.items()},
    )


def _validation(rows: Rows, name: str, fraction: float, seed: int, by_clip: bool) -> np.ndarray:
    """Choose validation rows among the rows that are not tested."""
    splits = max(2, round(1 / fraction))
    if by_clip:
        return random(rows, splits, seed)[0].test
    if (left := len(set(rows.speaker))) < 2:
        raise ValueError(
            f"Fold {name}: {left} speaker is left besides the test speakers, expected at least 2 (one trains, one "
            "chooses the checkpoint). Use fewer test speakers, or a corpus with more speakers."
        )
    return grouped(rows, rows.speaker, min(splits, left), seed)[0]


def check_leaks(dataset: Dataset, fold: Fold, allow_leak: bool = False) -> Fold:
    """Return a fold with the leaks found in it.

    Raises:
        ValueError: shared speakers or a checkpoint chosen on test rows without `allow_leak`, or a training row in
            another part.
    """
    speakers = dataset["speaker"][:]
    parts = {"train": fold.train, "validation": fold.validation, "test": fold.test}
    leaks = []
    for one, other in (("train", "test"), ("validation", "test"), ("train", "validation")):
        if rows := set(parts[one].tolist()) & set(parts[other].tolist()):
            if allow_leak and one == "validation":
                leaks.append(CHOSEN_ON_TEST)
                continue
            raise ValueError(f"Fold {fold.name}: {len(rows)} utterances are in both {one} and {other}: split them.")
        shared = {speakers[i] for i in parts[one]} & {speakers[i] for i in parts[other]}
        if not shared:
            continue
        if not allow_leak:
            raise ValueError(
                f"Fold {fold.name}: {len(shared)} speakers are in both {one} and {other} "
                f"({', '.join(sorted(map(str, shared))[:5])}). Expected every speaker in one part only: choose a "
                "speaker-independent protocol, or add --allow_leak to have the result stamped as leaked."
            )
        leaks.append(f"speaker_overlap_{one}_{other}")
    return replace(fold, leaks=tuple(leaks))


def fingerprint(parts: dict[str, list[str]]) -> str:
    """Hash of the sorted ids of each part, which is equal for equal splits."""
    lines = (f"{name}:{utterance}\n" for name in sorted(parts) for utterance in sorted(parts[name]))
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode())
    return digest.hexdigest()[:16]


def describe(dataset: Dataset, fold: Fold) -> str:
    """Summary of a fold: clips, speakers and classes of each part."""
    speakers, labels = dataset["speaker"][:], dataset["label"][:]
    names = dataset.features["label"].names
    held_out = f"  {fold.held_out}" if fold.held_out else ""
    lines = [f"fold {fold.name}  split {fold.fingerprint}{held_out}" + ("  LEAKED" if fold.leaks else "")]
    for part in ("train", "validation", "test"):
        rows = getattr(fold, part)
        if len(rows) == 0:
            continue
        who = sorted({str(speakers[i]).split("/", 1)[-1] for i in rows})
        counts = Counter(names[labels[i]] for i in rows)
        spoken = f"{len(who)} speaker{'s' * (len(who) != 1)}" + (f" ({' '.join(who)})" if len(who) <= 24 else "")
        lines.append(f"  {part:<10} {len(rows):>6} clips, {spoken}")
        lines.append(f"  {'':<10} " + "  ".join(f"{name} {counts[name]}" for name in names))
    if apart := dataset.num_rows - sum(len(rows) for rows in (fold.train, fold.validation, fold.test)):
        lines.append(f"  {'apart':<10} {apart:>6} clips, in no part: they share what is held out")
    return "\n".join(printable(line) for line in lines)
