"""Protocols: which speakers are trained on, which choose the checkpoint, and which are tested.

A protocol only says what is tested in each fold. Validation speakers are then always taken from the training side, and
every fold is checked for shared speakers, whichever protocol made it.
"""

import hashlib
import warnings
from collections import Counter
from dataclasses import dataclass

import numpy as np
from datasets import Dataset
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

FINAL = "final"

EMOBOX = ((1, 11, 20, 21), (4, 10, 12, 14), (8, 9, 19, 23), (3, 5, 7, 24), (2, 15, 16, 18), (6, 13, 17, 22))
"""Test actors of RAVDESS by fold. Source: Ma et al. 2024, EmoBox, Interspeech."""

LUNA_JIMENEZ = ((2, 5, 14, 15, 16), (3, 6, 7, 13, 18), (10, 11, 12, 19, 20), (8, 17, 21, 23, 24), (1, 4, 9, 22))
"""Test actors of RAVDESS by fold. Source: Luna-Jimenez et al. 2021, Sensors 21(22)."""


PUBLISHED = {"emobox": EMOBOX, "luna_jimenez": LUNA_JIMENEZ}


@dataclass(frozen=True)
class Rows:
    """What a protocol may look at, one entry an utterance, in the order of the ids.

    Shapes:
        every field is `(utterances,)`; `position` is the row in the data set.
    """

    position: np.ndarray
    id: np.ndarray
    label: np.ndarray
    speaker: np.ndarray
    sex: np.ndarray

    @classmethod
    def of(cls, dataset: Dataset) -> "Rows":
        """Sorted by id, so that a split does not depend on the order in which a data set was written."""
        ids = np.array(dataset["id"][:])
        order = np.argsort(ids)
        names = dataset.features["label"].names
        columns = {
            "label": np.array([names[i] for i in dataset["label"][:]]),
            "speaker": np.array([s or "" for s in dataset["speaker"][:]]),
            "sex": np.array([s or "" for s in dataset["sex"][:]]),
        }
        return cls(position=order, id=ids[order], **{name: column[order] for name, column in columns.items()})


@dataclass(frozen=True)
class Fold:
    """One split of a data set.

    Shapes:
        train, validation, test: `(rows of that part,)` row numbers of the data set; test is empty in `final`.
    """

    name: str
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    fingerprint: str
    leaks: tuple[str, ...] = ()


def speaker_folds(rows: Rows, n_folds: int, seed: int) -> list[np.ndarray]:
    """`n_folds` folds of whole speakers, balanced by label and sex."""
    speakers = len(set(rows.speaker))
    if n_folds < 2 or speakers < n_folds:
        raise ValueError(
            f"speaker_folds with n_folds {n_folds}: found {speakers} speakers, expected at least one a fold, 2 folds, "
            "and 3 speakers (to train, to choose the checkpoint, to test): change --n_folds, or add speakers."
        )
    if n_folds == speakers:  # nothing is left to balance, and the splitter might leave a fold empty
        return leave_one_speaker_out(rows, n_folds, seed)
    return _grouped(rows, n_folds, seed)


def leave_one_speaker_out(rows: Rows, n_folds: int, seed: int) -> list[np.ndarray]:
    """One fold for each speaker; `n_folds` is not used."""
    return [np.flatnonzero(rows.speaker == speaker) for speaker in sorted(set(rows.speaker))]


def emobox(rows: Rows, n_folds: int, seed: int) -> list[np.ndarray]:
    """The six published folds of EmoBox; RAVDESS only."""
    return _listed_actors(rows, EMOBOX, "emobox")


def luna_jimenez(rows: Rows, n_folds: int, seed: int) -> list[np.ndarray]:
    """The five published folds of Luna-Jimenez et al.; RAVDESS only."""
    return _listed_actors(rows, LUNA_JIMENEZ, "luna_jimenez")


def random(rows: Rows, n_folds: int, seed: int) -> list[np.ndarray]:
    """Clips dealt out without regard to who speaks. It leaks: for showing how much, never for a result."""
    if not 2 <= n_folds <= len(rows.id):
        raise ValueError(f"random with n_folds {n_folds}: expected 2 to {len(rows.id)} folds, no more than clips.")
    splitter = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    return [test for _, test in splitter.split(rows.id, rows.label)]


PROTOCOLS = {
    "speaker_folds": speaker_folds,
    "leave_one_speaker_out": leave_one_speaker_out,
    "emobox": emobox,
    "luna_jimenez": luna_jimenez,
    "random": random,
}


def make_folds(
    dataset: Dataset,
    protocol: str,
    which: str = "all",
    n_folds: int = 5,
    validation_fraction: float = 0.2,
    seed: int = 0,
    allow_leak: bool = False,
) -> list[Fold]:
    """Split a data set.

    Args:
        dataset: A prepared data set.
        protocol: Key of PROTOCOLS.
        which: `all`, the number of one fold counted from 1, or `final` (no test part).
        n_folds: Folds of `speaker_folds` and `random`; the others have their own number.
        validation_fraction: Share of the training speakers (about) that choose the checkpoint.
        seed: Of the split, apart from the training's seed, so that several runs share a split.
        allow_leak: Let a split pass that shares speakers; it is then named in every result.

    Raises:
        ValueError: unknown protocol or fold, a protocol that the corpus cannot support, speakers unknown or shared, a
            class that is missing from a part that is scored.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"Unknown protocol '{protocol}': expected one of {', '.join(PROTOCOLS)}.")
    if not 0 < validation_fraction <= 0.5:
        raise ValueError(
            f"validation_fraction {validation_fraction}: expected a share above 0 and at most 0.5 of the training "
            "speakers: give --validation_fraction such as 0.2."
        )
    if (classes := len(dataset.features["label"].names)) < 2:
        raise ValueError(f"Found {classes} label in the data, expected at least 2 to tell apart: add clips of others.")
    rows = Rows.of(dataset)
    if protocol == "random" and not allow_leak:
        raise ValueError(
            "Protocol 'random' puts clips of one speaker into training and test. Expected a speaker-independent "
            "protocol such as speaker_folds; to measure the leak itself, add --allow_leak (the result is stamped)."
        )
    if protocol != "random" and (unknown := int((rows.speaker == "").sum())):
        raise ValueError(
            f"{unknown} of {len(rows.id)} utterances have no speaker, so no split can be speaker-independent. Fill in "
            "the speaker column; or use --protocol random --allow_leak and have the result stamped as leaked."
        )
    if which == FINAL:
        tests = {FINAL: np.array([], dtype=int)}
    else:
        listed = PROTOCOLS[protocol](rows, n_folds, seed)
        tests = {str(number): test for number, test in enumerate(listed, start=1)}
        tests = _chosen(tests, which)
    folds = [_fold(rows, name, test, validation_fraction, seed, protocol == "random") for name, test in tests.items()]
    folds = [checked(dataset, fold, allow_leak) for fold in folds]
    _require_all_classes(dataset, folds)
    return folds


def checked(dataset: Dataset, fold: Fold, allow_leak: bool = False) -> Fold:
    """The same fold with the leaks found in it.

    Raises:
        ValueError: two parts share a speaker or an utterance, and `allow_leak` is not given.
    """
    speakers = dataset["speaker"][:]
    parts = {"train": fold.train, "validation": fold.validation, "test": fold.test}
    leaks = []
    for one, other in (("train", "test"), ("validation", "test"), ("train", "validation")):
        if rows := set(parts[one].tolist()) & set(parts[other].tolist()):
            raise ValueError(f"Fold {fold.name}: {len(rows)} utterances stand in both {one} and {other}: split them.")
        shared = {speakers[i] for i in parts[one]} & {speakers[i] for i in parts[other]}
        if not shared:
            continue
        if not allow_leak:
            raise ValueError(
                f"Fold {fold.name}: {len(shared)} speakers stand in both {one} and {other} "
                f"({', '.join(sorted(map(str, shared))[:5])}). Expected every speaker in one part only: choose a "
                "speaker-independent protocol, or add --allow_leak to have the result stamped as leaked."
            )
        leaks.append(f"speaker_overlap_{one}_{other}")
    return Fold(fold.name, fold.train, fold.validation, fold.test, fold.fingerprint, tuple(leaks))


def fingerprint(parts: dict[str, list[str]]) -> str:
    """Hash of a split: the sorted ids of each part, so that equal splits are known by one word."""
    lines = (f"{name}:{utterance}\n" for name in sorted(parts) for utterance in sorted(parts[name]))
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode())
    return digest.hexdigest()[:16]


def describe(dataset: Dataset, fold: Fold) -> str:
    """Who is where, in a few lines."""
    speakers, labels = dataset["speaker"][:], dataset["label"][:]
    names = dataset.features["label"].names
    lines = [f"fold {fold.name}  split {fold.fingerprint}" + ("  LEAKED" if fold.leaks else "")]
    for part in ("train", "validation", "test"):
        rows = getattr(fold, part)
        if len(rows) == 0:
            continue
        who = sorted({str(speakers[i]).split("/", 1)[-1] for i in rows})
        counts = Counter(names[labels[i]] for i in rows)
        spoken = f"{len(who)} speakers" + (f" ({' '.join(who)})" if len(who) <= 24 else "")
        lines.append(f"  {part:<10} {len(rows):>6} clips, {spoken}")
        lines.append(f"  {'':<10} " + "  ".join(f"{name} {counts[name]}" for name in names))
    return "\n".join(lines)


def _fold(rows: Rows, name: str, test: np.ndarray, fraction: float, seed: int, by_clip: bool) -> Fold:
    rest = np.setdiff1d(np.arange(len(rows.id)), test)
    inner = Rows(*(getattr(rows, field)[rest] for field in rows.__dataclass_fields__))
    splits = max(2, round(1 / fraction))
    if by_clip:
        validation = rest[random(inner, splits, seed)[0]]
    else:
        if (left := len(set(inner.speaker))) < 2:
            raise ValueError(
                f"Fold {name}: {left} speaker is left beside the test speakers, expected at least 2 (one trains, one "
                "chooses the checkpoint). Use fewer test speakers, or a corpus with more speakers."
            )
        validation = rest[_grouped(inner, min(splits, left), seed)[0]]
    parts = {"train": np.setdiff1d(rest, validation), "validation": validation, "test": test}
    return Fold(
        name=name,
        fingerprint=fingerprint({part: rows.id[indices].tolist() for part, indices in parts.items()}),
        **{part: np.sort(rows.position[indices]) for part, indices in parts.items()},
    )


def _grouped(rows: Rows, n_folds: int, seed: int) -> list[np.ndarray]:
    labels_and_sexes = np.array([f"{label} {sex}" for label, sex in zip(rows.label, rows.sex, strict=True)])
    # The finest balance that scikit-learn takes: it refuses strata that all have fewer clips than there are folds.
    choices = (labels_and_sexes, rows.label, np.full(len(rows.id), "any"))
    strata = next(each for each in choices if max(Counter(each.tolist()).values()) >= n_folds)
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # It warns of strata with fewer clips than folds; what that may lead to is checked by _require_all_classes.
        warnings.simplefilter("ignore", UserWarning)
        return [test for _, test in splitter.split(rows.id, strata, groups=rows.speaker)]


def _listed_actors(rows: Rows, lists: tuple, protocol: str) -> list[np.ndarray]:
    if not all(speaker.startswith("ravdess/") for speaker in rows.speaker):
        raise ValueError(
            f"Protocol '{protocol}' is a list of RAVDESS actors and this data set holds other speakers. Expected "
            "--corpus ravdess; for other corpora use speaker_folds or leave_one_speaker_out."
        )
    actors = np.array([int(speaker.split("/")[1]) for speaker in rows.speaker])
    return [np.flatnonzero(np.isin(actors, test)) for test in lists]


def _chosen(tests: dict[str, np.ndarray], which: str) -> dict[str, np.ndarray]:
    if which != "all" and which not in tests:
        raise ValueError(f"No fold '{which}': expected a number from 1 to {len(tests)}, 'all' or '{FINAL}'.")
    chosen = tests if which == "all" else {which: tests[which]}
    if empty := [name for name, test in chosen.items() if len(test) == 0]:
        raise ValueError(
            f"Fold {', '.join(empty)}: none of its test speakers is in this data set. "
            "Run the others one by one with --fold N."
        )
    return chosen


def _require_all_classes(dataset: Dataset, folds: list[Fold]) -> None:
    labels, names = np.array(dataset["label"][:]), dataset.features["label"].names
    tested = np.concatenate([fold.test for fold in folds])
    scored = {f"fold {fold.name}: training": fold.train for fold in folds}
    scored |= {f"fold {fold.name}: validation": fold.validation for fold in folds}
    scored |= {"the test rows": tested} if len(tested) else {}
    for part, rows in scored.items():
        if missing := [name for i, name in enumerate(names) if i not in set(labels[rows].tolist())]:
            raise ValueError(
                f"{part} has no utterance of {', '.join(missing)}, so recall over all {len(names)} classes cannot be "
                "computed. Expected every class, which takes at least 3 speakers who have it: try --split_seed, "
                "--n_folds or a larger --validation_fraction, --fold all for a test part, or leave the class out."
            )
