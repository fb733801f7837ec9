"""Protocols: which rows of a data set each fold tests. Validation speakers are taken from the others (`folds.py`)."""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hf_ser.data.plans import Plan, Rows
from hf_ser.data.schema import SPLITS
from hf_ser.normal_form import normal_form

TEXT_FOLDS = 2
"""Parts into which the protocols of unseen texts divide sentences, scripts or scenes."""

EMOBOX = ((1, 11, 20, 21), (4, 10, 12, 14), (8, 9, 19, 23), (3, 5, 7, 24), (2, 15, 16, 18), (6, 13, 17, 22))
"""Test actors of RAVDESS by fold. Source: Ma et al. 2024, EmoBox, Interspeech."""

LUNA_JIMENEZ = ((2, 5, 14, 15, 16), (3, 6, 7, 13, 18), (10, 11, 12, 19, 20), (8, 17, 21, 23, 24), (1, 4, 9, 22))
"""Test actors of RAVDESS by fold. Source: Luna-Jimenez et al. 2021, Sensors 21(22)."""

PUBLISHED = {"emobox": EMOBOX, "luna_jimenez": LUNA_JIMENEZ}

ACTOR_PREFIXES = ("ravdess/", "paired/")
"""Prefixes of the names of RAVDESS's actors: in the corpus itself, and where its clips have other texts."""


def speaker_folds(rows: Rows, n_folds: int, seed: int, **_) -> list[Plan]:
    """`n_folds` folds of whole speakers, balanced by label and sex."""
    speakers = len(set(rows.speaker))
    if n_folds < 2 or speakers < n_folds:
        fewer = f"change --n_folds to 2 to {speakers}, or " if speakers > 2 else ""
        raise ValueError(
            f"speaker_folds with n_folds {n_folds}: found {speakers} speaker{'s' * (speakers != 1)}, expected 2 "
            "folds to as many as there are speakers, and at least 3 speakers (for training, validation and test): "
            f"{fewer}add speakers."
        )
    if n_folds == speakers:  # nothing to balance, and the splitter might leave a fold empty
        return leave_one_speaker_out(rows)
    return [Plan(test) for test in grouped(rows, rows.speaker, n_folds, seed)]


def leave_one_speaker_out(rows: Rows, **_) -> list[Plan]:
    """One fold for each speaker."""
    return _leave_one_out(rows.speaker)


def leave_one_session_out(rows: Rows, **_) -> list[Plan]:
    """One fold for each recording session; five for IEMOCAP, with two unseen speakers each."""
    _require(rows, "leave_one_session_out", "session", "a recording session, as IEMOCAP has them")
    if len(set(rows.session)) < 2:
        raise ValueError(
            f"leave_one_session_out: found only the session {rows.session[0]}, expected at least two, one for "
            "testing and others for training: use speaker_folds."
        )
    return _leave_one_out(rows.session)


def leave_one_corpus_out(rows: Rows, **_) -> list[Plan]:
    """One fold for each of the joined corpora."""
    if len(set(rows.corpus)) < 2:
        raise ValueError(
            f"leave_one_corpus_out: found the corpus {rows.corpus[0]}, expected at least two joined ones: prepare them "
            "together with --corpus a,b --data_dir A,B and, where their labels differ, a --label_map."
        )
    return _leave_one_out(rows.corpus)


def sentence_disjoint(rows: Rows, n_folds: int, seed: int, **_) -> list[Plan]:
    """Speaker and sentence both unseen; without sentence ids, clips of equal text share a sentence."""
    _require(rows, "sentence_disjoint", "sentence", "a sentence id or a transcript")
    return _cross(rows, rows.sentence, "sentences", n_folds, seed)


def script_disjoint(rows: Rows, n_folds: int, seed: int, **_) -> list[Plan]:
    """Session (or speaker) and script both unseen; an improvised dialogue counts as a script."""
    _require(rows, "script_disjoint", "script", "a script id, as IEMOCAP's scripted dialogues have", some=True)
    texts = np.where(rows.script != "", rows.script, rows.dialogue)
    _require(replace(rows, dialogue=texts), "script_disjoint", "dialogue", "a dialogue id for what is not scripted")
    return _cross(rows, texts, "scripts", n_folds, seed)


def scene_disjoint(rows: Rows, n_folds: int, seed: int, **_) -> list[Plan]:
    """Session (or speaker) and scene both unseen: neither a script nor an improvised scenario is shared."""
    _require(rows, "scene_disjoint", "scene", "a script or scenario id, as IEMOCAP has them")
    return _cross(rows, rows.scene, "scenes", n_folds, seed)


def emobox(rows: Rows, **_) -> list[Plan]:
    """The six published folds of EmoBox; RAVDESS's actors only."""
    return _listed_actors(rows, "emobox")


def luna_jimenez(rows: Rows, **_) -> list[Plan]:
    """The five published folds of Luna-Jimenez et al.; RAVDESS's actors only."""
    return _listed_actors(rows, "luna_jimenez")


def fixed(rows: Rows, split: dict[str, list[str]] | None = None, **_) -> list[Plan]:
    """One fold by the `split` column or a file of ids; validation speakers are chosen if it has none."""
    if split is None:
        _require(rows, "fixed", "split", "a published split (train, validation, test)", some=True)
        split = {part: rows.id[rows.split == part] for part in SPLITS}
    ids = np.array([normal_form(name) for name in rows.id])
    split = {part: [normal_form(name) for name in names] for part, names in split.items()}
    unknown = sorted({name for names in split.values() for name in names} - set(ids))
    train, validation, test = (np.flatnonzero(np.isin(ids, list(split.get(part, ())))) for part in SPLITS)
    if not (len(train) and len(test)):
        raise ValueError(
            f"fixed: found {len(train)} training and {len(test)} test rows, expected some of each: mark rows with "
            "'train' and 'test' (and 'validation') in the split column or in the --split_file"
            + (f"; {len(unknown)} of its ids are not in the data, such as {unknown[0]}." if unknown else ".")
        )
    # A published list also names clips that preparing skips as silent, duplicated or damaged.
    missing = f"; {len(unknown)} ids of the split file are not in the data, such as {unknown[0]}" if unknown else ""
    return [Plan(test, f"the fixed test part{missing}", train, validation if len(validation) else None)]


def random(rows: Rows, n_folds: int, seed: int, **_) -> list[Plan]:
    """Random folds of clips, which leak speakers: only for measuring the leak."""
    if not 2 <= n_folds <= len(rows.id):
        raise ValueError(f"random with n_folds {n_folds}: expected 2 to {len(rows.id)} folds, no more than clips.")
    from sklearn.model_selection import StratifiedKFold  # takes a second, and a trained model makes no folds

    splitter = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    return [Plan(test) for _, test in splitter.split(rows.id, rows.label)]


PROTOCOLS = {
    "speaker_folds": speaker_folds,
    "leave_one_speaker_out": leave_one_speaker_out,
    "leave_one_session_out": leave_one_session_out,
    "leave_one_corpus_out": leave_one_corpus_out,
    "sentence_disjoint": sentence_disjoint,
    "script_disjoint": script_disjoint,
    "scene_disjoint": scene_disjoint,
    "emobox": emobox,
    "luna_jimenez": luna_jimenez,
    "fixed": fixed,
    "random": random,
}


def grouped(rows: Rows, groups: np.ndarray, n_folds: int, seed: int) -> list[np.ndarray]:
    """Test rows of folds of whole groups, balanced by label and sex."""
    labels_and_sexes = np.array([f"{label} {sex}" for label, sex in zip(rows.label, rows.sex, strict=True)])
    # The finest strata that scikit-learn accepts: it refuses if all have fewer clips than there are folds.
    choices = (labels_and_sexes, rows.label, np.full(len(rows.id), "any"))
    strata = next(each for each in choices if max(Counter(each.tolist()).values()) >= n_folds)
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # It warns of strata with fewer clips than folds; `require_all_classes` checks the consequences.
        warnings.simplefilter("ignore", UserWarning)
        return [test for _, test in splitter.split(rows.id, strata, groups=groups)]


def sessions_part_speakers(sessions: Sequence[str], speakers: Sequence[str]) -> bool:
    """Whether every row has a session, there are several, and no speaker is in two of them."""
    pairs = set(zip(sessions, speakers, strict=True))
    return all(sessions) and len(set(sessions)) > 1 and len(pairs) == len({speaker for _, speaker in pairs})


def _leave_one_out(groups: np.ndarray) -> list[Plan]:
    return [Plan(np.flatnonzero(groups == group), f"{group} held out") for group in sorted(set(groups))]


def _cross(rows: Rows, texts: np.ndarray, what: str, n_folds: int, seed: int) -> list[Plan]:
    """Test every part of the speakers with every part of the texts; neither is trained on.

    The parts of the speakers are the sessions if no speaker is in two of them, else `n_folds` speaker folds. Rows that
    share only the speakers, or only the texts, of a test part are in no part of that fold.
    """
    distinct = sorted(set(texts))
    if len(distinct) < TEXT_FOLDS:
        raise ValueError(
            f"Found {len(distinct)} {what}, expected at least {TEXT_FOLDS}, as the protocol tests some and trains on "
            "others: use another --protocol, such as speaker_folds."
        )
    by_session = sessions_part_speakers(rows.session, rows.speaker)
    speaker_plans = leave_one_session_out(rows) if by_session else speaker_folds(rows, n_folds, seed)
    plans = []
    for text_rows in grouped(rows, texts, TEXT_FOLDS, seed):
        of_texts = np.isin(texts, texts[text_rows])
        for plan in speaker_plans:
            of_speakers = np.zeros(len(texts), dtype=bool)
            of_speakers[plan.test] = True
            tested = np.flatnonzero(of_texts & of_speakers)
            if len(tested) == 0:
                continue  # these speakers have none of these texts
            shared = np.isin(texts, texts[tested])
            names = sorted({text.split("/", 1)[-1] for text in texts[tested]})
            listed = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
            held_out = f"{plan.held_out or 'speakers held out'}, with the {what} {listed}"
            plans.append(Plan(tested, held_out, np.flatnonzero(~shared & ~of_speakers)))
    return plans


def _require(rows: Rows, protocol: str, column: str, what: str, some: bool = False) -> None:
    """Refuse a protocol if the column that it splits by is empty."""
    known = getattr(rows, column) != ""
    if not (known.any() if some else known.all()):
        raise ValueError(
            f"Protocol '{protocol}' splits by {column}, and {int((~known).sum())} of {len(known)} utterances have "
            f"none. Expected {what}: fill in the column, or use speaker_folds."
        )


def _listed_actors(rows: Rows, protocol: str) -> list[Plan]:
    if not all(speaker.startswith(ACTOR_PREFIXES) for speaker in rows.speaker):
        raise ValueError(
            f"Protocol '{protocol}' is a list of RAVDESS actors and this data set holds other speakers. Expected "
            "--corpus ravdess; for other corpora use speaker_folds or leave_one_speaker_out."
        )
    actors = np.array([int(speaker.split("/")[1]) for speaker in rows.speaker])
    return [Plan(np.flatnonzero(np.isin(actors, test))) for test in PUBLISHED[protocol]]
