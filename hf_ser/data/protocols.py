"""Protocols: split a data set into folds with training, validation and test speakers.

A protocol only chooses the test rows of each fold. Validation speakers are then taken from the other rows, and every
fold is checked for shared speakers.
"""

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import networkx as nx
import numpy as np
from datasets import Dataset
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

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
from hf_ser.data.schema import REFERENCE, SPLITS, known_split_names, split_parts
from hf_ser.data.separated import Separated, read_separated
from hf_ser.normal_form import bare_words, is_unknown, normal_form, printable
from hf_ser.yaml_text import unique_keys

FINAL = "final"
TEXT_FOLDS = 2
"""Parts into which the protocols of unseen texts divide sentences, scripts or scenes."""
CHOSEN_ON_TEST = "checkpoint_chosen_on_test"

EMOBOX = ((1, 11, 20, 21), (4, 10, 12, 14), (8, 9, 19, 23), (3, 5, 7, 24), (2, 15, 16, 18), (6, 13, 17, 22))
"""Test actors of RAVDESS by fold. Source: Ma et al. 2024, EmoBox, Interspeech."""

LUNA_JIMENEZ = ((2, 5, 14, 15, 16), (3, 6, 7, 13, 18), (10, 11, 12, 19, 20), (8, 17, 21, 23, 24), (1, 4, 9, 22))
"""Test actors of RAVDESS by fold. Source: Luna-Jimenez et al. 2021, Sensors 21(22)."""


PUBLISHED = {"emobox": EMOBOX, "luna_jimenez": LUNA_JIMENEZ}
OF_ACTORS = ("ravdess/", "paired/")
"""What the names of RAVDESS's actors begin with: in the corpus itself, and where its clips have other texts."""


@dataclass(frozen=True)
class Rows:
    """Columns that protocols may use, one entry an utterance, sorted by id.

    Sessions, scripts, scenes, sentences and dialogues are prefixed with the corpus, so that joined corpora do not share
    them; an empty string is unknown.

    Shapes:
        every field is `(utterances,)`; `position` is the row in the data set.
    """

    position: np.ndarray
    id: np.ndarray
    label: np.ndarray
    speaker: np.ndarray
    sex: np.ndarray
    corpus: np.ndarray
    session: np.ndarray
    dialogue: np.ndarray
    script: np.ndarray
    scene: np.ndarray
    sentence: np.ndarray
    split: np.ndarray

    @classmethod
    def of(cls, dataset: Dataset) -> "Rows":
        """Rows of a data set, sorted by id, so that a split does not depend on their order."""
        names = dataset.features["label"].names
        fields = (*cls.__dataclass_fields__, "transcript", "transcript_source", "reference_transcript")
        known = dataset.select_columns([name for name in fields if name in dataset.column_names])[:]
        empty = [None] * dataset.num_rows
        columns = {name: known.get(name, empty) for name in cls.__dataclass_fields__ if name != "position"}
        columns["label"] = [names[i] for i in columns["label"]]
        for name in ("session", "dialogue", "script", "scene", "sentence"):
            columns[name] = [
                f"{corpus}/{one}" if one else "" for corpus, one in zip(columns["corpus"], columns[name], strict=True)
            ]
        # A split must be the same before and after transcribing.
        references = known.get("reference_transcript", empty)
        texts, sources = known.get("transcript", empty), known.get("transcript_source", empty)
        texts = [kept or text for kept, text in zip(references, texts, strict=True)]
        sources = [REFERENCE if kept else source for kept, source in zip(references, sources, strict=True)]
        columns["sentence"] = _sentences(columns["sentence"], texts, sources)
        order = np.argsort(np.array(columns["id"]))
        arrays = {name: np.array([one or "" for one in column])[order] for name, column in columns.items()}
        return cls(position=order, **arrays)

    def at(self, indices: np.ndarray) -> "Rows":
        """Select rows."""
        return Rows(*(getattr(self, name)[indices] for name in self.__dataclass_fields__))


def _sentences(ids: list[str], transcripts: list[str | None], sources: list[str | None]) -> list[str]:
    """Common name of all clips with one sentence id, or the same text except for capitals and punctuation.

    Texts join two ids (of two corpora, say) only if they are references, since recognisers make errors.
    """
    texts = [bare_words(text or "") for text in transcripts]
    graph = nx.Graph()
    for sentence, text, source in zip(ids, texts, sources, strict=True):
        if sentence and text and source in (REFERENCE, None):
            graph.add_edge(("id", sentence), ("text", text))
    # A cluster is named after its first id; a text without an id names itself.
    names = {node: min(cluster)[1] for cluster in nx.connected_components(graph) for node in cluster}
    return [
        names.get(("id", sentence), sentence) if sentence else names.get(("text", text), text)
        for sentence, text in zip(ids, texts, strict=True)
    ]


@dataclass(frozen=True)
class Plan:
    """Test rows of one fold, before validation speakers are chosen.

    Shapes:
        test: `(test rows,)`; train: `(training and validation rows,)`, by default all others; validation: `(rows,)` if
        the protocol chooses them.
    """

    test: np.ndarray
    held_out: str = ""
    train: np.ndarray | None = None
    validation: np.ndarray | None = None


@dataclass(frozen=True)
class Fold:
    """One split of a data set.

    Args:
        held_out: Description of the test part, if it is more than some speakers.

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


def speaker_folds(rows: Rows, n_folds: int, seed: int, **_) -> list[Plan]:
    """`n_folds` folds of whole speakers, balanced by label and sex."""
    speakers = len(set(rows.speaker))
    if n_folds < 2 or speakers < n_folds:
        raise ValueError(
            f"speaker_folds with n_folds {n_folds}: found {speakers} speakers, expected at least one a fold, 2 folds, "
            "and 3 speakers (to train, to choose the checkpoint, to test): change --n_folds, or add speakers."
        )
    if n_folds == speakers:  # nothing to balance, and the splitter might leave a fold empty
        return leave_one_speaker_out(rows)
    return [Plan(test) for test in _grouped(rows, rows.speaker, n_folds, seed)]


def leave_one_speaker_out(rows: Rows, **_) -> list[Plan]:
    """One fold for each speaker."""
    return _leave_one_out(rows.speaker)


def leave_one_session_out(rows: Rows, **_) -> list[Plan]:
    """One fold for each recording session; five for IEMOCAP, with two unseen speakers each."""
    _require(rows, "leave_one_session_out", "session", "a recording session, as IEMOCAP has them")
    if len(set(rows.session)) < 2:
        raise ValueError(
            f"leave_one_session_out: found the session {rows.session[0]} alone, expected at least two, so that one is "
            "tested and others trained on: use speaker_folds."
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


def fold_folder(name: str) -> str:
    """Folder name of a fold within a run."""
    return FINAL if name == FINAL else f"fold_{name}"


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
    folds = [_fold(rows, name, plan, validation_fraction, seed, by_clip) for name, plan in plans.items()]
    if _missing(dataset, folds) and not by_clip:
        number = n_folds if protocol == "speaker_folds" and which != FINAL else None
        folds = _search_missing_classes(dataset, rows, plans, folds, number, validation_fraction, seed)
    folds = [check_leaks(dataset, fold, allow_leak) for fold in folds]
    _require_all_classes(dataset, folds)
    return folds


def _check_plans(plans, protocol: str, count: int) -> None:
    """Make sure that a protocol, perhaps of somebody's own, gives test rows by their positions.

    Raises:
        ValueError: it gives something else.
    """
    if not isinstance(plans, list) or not plans or not all(isinstance(plan, Plan) for plan in plans):
        raise ValueError(f"{protocol}: found {type(plans).__name__} of no plans, expected a list of Plan, one a fold.")
    for number, plan in enumerate(plans, start=1):
        test = np.asarray(plan.test)
        if len(test) and not (np.issubdtype(test.dtype, np.integer) and test.min() >= 0 and test.max() < count):
            raise ValueError(
                f"{protocol}, fold {number}: the test rows are {test.dtype} {test[:3]}, expected positions from 0 to "
                f"{count - 1}; of a mask: mask.nonzero()[0]."
            )


def read_split(file: str | Path) -> dict[str, list[str]]:
    """Read the ids of each part from a CSV with the columns `id` and `split`, or JSON, `{"train": [ids], ...}`.

    The parts may have other names, see `hf_ser.data.schema.split_parts`; a row without one is in no part.

    Raises:
        FileNotFoundError, ValueError: no such file, or another form.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such split file. Expected a CSV with the columns id and split, or JSON.")
    try:
        if file.suffix.lower() == ".json":
            parts = json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=unique_keys)
            if texts := [part for part, names in parts.items() if isinstance(names, str)]:
                raise ValueError(f"{texts[0]} is a text, not a list of ids")
            pairs = [(part, str(name)) for part, names in parts.items() for name in names]
        else:
            pairs = _split_pairs(read_separated(file))
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{file}: not readable as a split ({error!r}). Expected a CSV with the columns id and split, or JSON such "
            'as {"train": ["ravdess/03-01-..."], "test": [...]}.'
        ) from error
    words = split_parts({normal_form(str(part)) for part, _ in pairs} - {""})
    if wrong := sorted(word for word, part in words.items() if part is None and not is_unknown(word)):
        raise ValueError(
            f"{file}: found the part '{printable(wrong[0])}', expected {', '.join(SPLITS)}, or another word for these: "
            f"{known_split_names()}: rename it."
        )
    return {part: [name for word, name in pairs if words.get(normal_form(str(word))) == part] for part in SPLITS}


def _split_pairs(table: Separated) -> list[tuple[str, str]]:
    """Part and id of each row of a split file."""
    names = [name.lower() for name in table.header]
    if twice := [name for name in ("id", "split") if names.count(name) > 1]:
        raise ValueError(f"found the column {twice[0]} twice")
    if short := [row.line for row in table.rows if len(row.cells) != len(names)]:
        raise ValueError(f"line {short[0]} has another number of cells than the header")
    columns = names.index("split"), names.index("id")
    return [tuple(normal_form(row.cells[column]) for column in columns) for row in table.rows]


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


def _fold(rows: Rows, name: str, plan: Plan, fraction: float, seed: int, by_clip: bool) -> Fold:
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
            f"Fold {name}: {left} speaker is left beside the test speakers, expected at least 2 (one trains, one "
            "chooses the checkpoint). Use fewer test speakers, or a corpus with more speakers."
        )
    return _grouped(rows, rows.speaker, min(splits, left), seed)[0]


def _grouped(rows: Rows, groups: np.ndarray, n_folds: int, seed: int) -> list[np.ndarray]:
    """Test rows of folds of whole groups, balanced by label and sex."""
    labels_and_sexes = np.array([f"{label} {sex}" for label, sex in zip(rows.label, rows.sex, strict=True)])
    # The finest strata that scikit-learn accepts: it refuses if all have fewer clips than there are folds.
    choices = (labels_and_sexes, rows.label, np.full(len(rows.id), "any"))
    strata = next(each for each in choices if max(Counter(each.tolist()).values()) >= n_folds)
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # It warns of strata with fewer clips than folds; _require_all_classes checks the consequences.
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
            f"Found {len(distinct)} of the {what} of a protocol that tests some and trains on others, expected "
            f"{TEXT_FOLDS} at least: use another --protocol, such as speaker_folds."
        )
    by_session = sessions_part_speakers(rows.session, rows.speaker)
    speaker_plans = leave_one_session_out(rows) if by_session else speaker_folds(rows, n_folds, seed)
    plans = []
    for text_rows in _grouped(rows, texts, TEXT_FOLDS, seed):
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
    if not all(speaker.startswith(OF_ACTORS) for speaker in rows.speaker):
        raise ValueError(
            f"Protocol '{protocol}' is a list of RAVDESS actors and this data set holds other speakers. Expected "
            "--corpus ravdess; for other corpora use speaker_folds or leave_one_speaker_out."
        )
    actors = np.array([int(speaker.split("/")[1]) for speaker in rows.speaker])
    return [Plan(np.flatnonzero(np.isin(actors, test))) for test in PUBLISHED[protocol]]


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


def _missing(dataset: Dataset, folds: list[Fold]) -> dict[str, list[str]]:
    """Classes missing from each part; the test parts count together, as they are scored together."""
    labels, names = np.array(dataset["label"][:]), dataset.features["label"].names
    tested = np.concatenate([fold.test for fold in folds])
    scored = {f"fold {fold.name}: training": fold.train for fold in folds}
    scored |= {f"fold {fold.name}: validation": fold.validation for fold in folds}
    scored |= {"the test rows": tested} if len(tested) else {}
    found = {part: set(labels[rows].tolist()) for part, rows in scored.items()}
    missing = {part: [name for i, name in enumerate(names) if i not in classes] for part, classes in found.items()}
    return {part: absent for part, absent in missing.items() if absent}


def _require_all_classes(dataset: Dataset, folds: list[Fold]) -> None:
    for part, missing in _missing(dataset, folds).items():
        raise ValueError(
            f"{part} has no utterance of {', '.join(missing)}, so recall over all "
            f"{len(dataset.features['label'].names)} classes cannot be "
            "computed. Expected every class, which takes at least 3 speakers who have it, one of them beside each "
            "test part: use --fold all for a test part, another --n_folds or --protocol, a --label_map FILE that joins "
            "the class with another or leaves it out (of joined corpora: of what all of them have), or add speakers."
        )


def _search_missing_classes(
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
        usual = [_fold(rows, str(number), plan, fraction, seed, False) for number, plan in listed]
        if not _missing(dataset, usual):
            return folds  # all folds together are complete, and one alone must be the same as among them
        found = _search_speaker_folds(rows, usual, parts, seed)
        return [_fold(rows, name, found[int(name) - 1], fraction, seed, False) for name in plans]
    completed = []
    for (name, plan), fold in zip(plans.items(), folds, strict=True):
        rest = np.setdiff1d(np.arange(len(rows.id)), plan.test) if plan.train is None else plan.train
        if plan.validation is None and not _has_all(rows, fold.train, fold.validation):
            names, has, clips = _speaker_table(rows.at(rest), np.unique(rows.label))
            chosen = find_validation(has, clips, parts, seed, int(name) if name.isdigit() else 0)
            if chosen is not None:
                validation = rest[np.isin(rows.speaker[rest], names[chosen])]
                plan = replace(plan, train=np.setdiff1d(rest, validation), validation=validation)
                fold = _fold(rows, name, plan, fraction, seed, False)
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
        f"training, validation and test part of every fold. In the way: {blocking}. Expected at least "
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
