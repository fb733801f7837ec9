"""Probes: how well one property of a clip, such as its text or its loudness, predicts the label of unseen speakers.

A probe is a small classifier on that property alone; a model may use the property as well. What was tried instead is in
scripts/recipes/README.md, Shortcuts in RAVDESS.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.stats import chi2, rankdata
from sklearn.base import ClassifierMixin, clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, LeaveOneGroupOut, StratifiedGroupKFold
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier

from hf_ser.runs.scores import ROUNDING, uar_from_confusion

FOLDS = 5
SCRIPT_BLOCKS = 3
"""Parts into which the scripts are split, each unseen in turn."""

MIN_CLASS_ROWS = 10
"""A class with fewer rows, or of a single speaker, is left out: its recall on unseen speakers cannot be measured."""

MAX_TEXT_ROWS, MAX_SCRIPT_ROWS = 20_000, 6_000
"""Most texts of a probe, which then takes seconds; with scripts it is fitted 45 times."""

MARGIN = 0.05
"""UAR above chance below which a property counts as unrelated to the label."""

GIVEN_AWAY = 0.90
SIGNIFICANT = 0.001
BOOTSTRAPS = 500

SINGULAR = 1e-8
"""Relative variance below which a direction counts as constant: in random designs it was under 3e-14 or over 0.9."""

CJK = "\u3040-\u30ff\u3400-\u9fff"
WORD = rf"[{CJK}]|[^\W{CJK}]+|[^\w\s]"
"""A word, a punctuation mark, or one character of a script without spaces."""

NAME_PART = re.compile(r"[^\W\d_]+|\d+")


@dataclass(frozen=True)
class Probe:
    """How well one property predicts the label.

    Args:
        name: The property.
        uar: UAR on unseen groups, over the classes that could be measured.
        low, high: 95 % interval of `uar`, over groups and rows.
        chance: UAR of guessing, one over the number of classes.
        n: Number of scored rows.
        groups: Number of their groups (speakers).
        p_value: p value of a test that the property is independent of the label within groups; None for texts.
    """

    name: str
    uar: float
    low: float
    high: float
    chance: float
    n: int
    groups: int
    p_value: float | None = None

    @property
    def carries_label(self) -> bool:
        """Whether it predicts the label of unseen speakers: the whole interval is above chance + MARGIN."""
        return self.low > self.chance + MARGIN + ROUNDING

    @property
    def carries_nothing(self) -> bool:
        """Whether it predicts next to nothing: the whole interval is below chance + MARGIN.

        With few rows or speakers neither this nor `carries_label` may hold.
        """
        return self.high < self.chance + MARGIN - ROUNDING

    @property
    def gives_away(self) -> bool:
        """Whether it predicts nearly every label."""
        return self.uar >= GIVEN_AWAY - ROUNDING

    @property
    def depends_on_label(self) -> bool:
        """Whether it differs significantly between labels; in a large corpus it may still predict little (`uar`)."""
        return self.p_value is not None and self.p_value < SIGNIFICANT


@dataclass(frozen=True)
class ScriptProbes:
    """Three probes of the text on the same scripted rows and speakers.

    Args:
        seen: Trained on all other speakers, who read the same scripts.
        control: As `seen`, but without random scripted rows, as many as `unseen` leaves out.
        unseen: Trained on other speakers and other scripts.
    """

    seen: Probe
    control: Probe
    unseen: Probe

    @property
    def through_script(self) -> bool:
        """Whether text predicts the label because training has the script: UAR falls by more than fewer rows cost."""
        fall = self.control.uar - self.unseen.uar
        is_apart = self.unseen.high < self.control.low - ROUNDING
        return self.control.carries_label and fall > MARGIN + ROUNDING and is_apart


@dataclass(frozen=True)
class SpeakerProbe:
    """How well the speaker alone predicts the label.

    Args:
        accuracy: Accuracy of the most frequent label of the speaker's other clips.
        majority: Accuracy of the most frequent label of all clips.
        n: Number of clips of speakers with several clips.
        speakers: Number of these speakers.
    """

    accuracy: float
    majority: float
    n: int
    speakers: int

    @property
    def gain(self) -> float:
        """Share of the majority label's errors that knowing the speaker corrects; negative where it adds errors."""
        return (self.accuracy - self.majority) / (1 - self.majority)


def probe_speaker(labels: Sequence, speakers: Sequence) -> SpeakerProbe | None:
    """Predict the label of each clip from its speaker's other clips; ties are guesses, scored by their expectation.

    Shapes:
        labels, speakers: `(utterances,)`; an unknown speaker is None or empty.

    Returns:
        None where no two speakers have several clips, or all have one label.
    """
    speaker, label = _coded(speakers), _coded(labels)
    counts = np.zeros((speaker.max(initial=-1) + 1, label.max(initial=-1) + 1))
    known = (speaker >= 0) & (label >= 0)
    np.add.at(counts, (speaker[known], label[known]), 1)
    counts = counts[counts.sum(axis=1) > 1]
    if len(counts) < 2 or (counts.sum(axis=0) > 0).sum() < 2:
        return None
    right = 0.0
    for one in range(counts.shape[1]):
        others = counts.copy()
        others[:, one] -= 1  # without the clip itself, where it has this label
        most = others.max(axis=1)
        right += (counts[:, one] * (others[:, one] == most) / (others == most[:, None]).sum(axis=1)).sum()
    n = counts.sum()
    return SpeakerProbe(float(right / n), float(counts.sum(axis=0).max() / n), int(n), len(counts))


def probe_text(texts: Sequence, labels: Sequence, groups: Sequence, seed: int = 0) -> Probe | None:
    """Predict the label from the text: TF-IDF and balanced logistic regression, cross-validated by group.

    Punctuation marks count as words. A sample of MAX_TEXT_ROWS rows is used if there are more. Rows without text or
    group are left out, and classes below MIN_CLASS_ROWS.

    Args:
        texts: Transcripts; None or blank where missing.
        labels: Class of each row.
        groups: Speaker, or script, of each row; None or empty where unknown.
        seed: Seed of folds, sample and interval.

    Shapes:
        texts, labels, groups: `(utterances,)`

    Returns:
        The probe named `transcript`; None with fewer than two groups or two classes, or no word that occurs twice.
    """
    return _probe_tokens("transcript", texts, labels, groups, _word_ngrams, seed)


def probe_trivia(
    columns: Mapping[str, Sequence], labels: Sequence, groups: Sequence, seed: int = 0
) -> dict[str, Probe]:
    """Predict the label from each trivial property of a file, one probe for each.

    Numbers are classified by a small decision tree, which also finds spikes at zero; other columns are categories, and
    `name` is split into the parts of a file name.

    Args:
        columns: Values by property, such as `duration_seconds`, `level_dbfs`, `source_format` and `name`; None or NaN
            where unknown.
        labels: Class of each row.
        groups: Speaker of each row; None or empty where unknown.
        seed: Seed of folds and interval.

    Shapes:
        every column, labels, groups: `(utterances,)`

    Returns:
        Probes by property, without constant or empty columns and those with fewer than two groups or two classes.
    """
    probes = {}
    for name, column in columns.items():
        if name == "name":
            probe = _probe_tokens(name, column, labels, groups, _name_parts, seed)
        else:
            probe = _probe_column(name, column, labels, groups, seed)
        if probe is not None:
            probes[name] = probe
    return probes


def text_through_script(
    texts: Sequence, labels: Sequence, speakers: Sequence, scripts: Sequence, seed: int = 0
) -> ScriptProbes | None:
    """Probe whether the text predicts the label only because training and test share the scripts.

    Rows without a script (improvised) are trained on and not scored. A sample of MAX_SCRIPT_ROWS rows is used if
    there are more.

    Args:
        texts, labels: As in `probe_text`.
        speakers: Speaker or session of each row; None or empty where unknown.
        scripts: Script or sentence of each row; None or empty where there is none.
        seed: Seed of folds, sample, control and intervals.

    Shapes:
        texts, labels, speakers, scripts: `(utterances,)`

    Returns:
        The three probes; None as in `probe_text`, or with fewer than two scripts.
    """
    speaker, script = _coded(speakers), _coded(scripts)
    known = _sampled(_has_text(texts) & (speaker >= 0), MAX_SCRIPT_ROWS, seed)
    classes = _measurable(labels, known & (script >= 0), speaker, script)
    rows, label = _rows_of(classes, labels, known)
    if len(classes) < 2 or (features := _tf_idf([texts[i] for i in rows], _word_ngrams)) is None:
        return None
    speaker, script = speaker[rows], script[rows]
    has_script = script >= 0
    blocks = np.full(len(rows), -1)
    splitter = GroupKFold(min(SCRIPT_BLOCKS, len(np.unique(script[has_script]))))
    for number, (_, test) in enumerate(splitter.split(script[has_script], groups=script[has_script])):
        blocks[np.flatnonzero(has_script)[test]] = number
    folds = _script_folds(_folds(label, speaker, seed), blocks, np.random.default_rng(seed))
    predicted = {way: _predicted(_linear(), features, label, each) for way, each in folds.items()}
    scored_in_all = np.logical_and.reduce([each >= 0 for each in predicted.values()])  # the same rows in all three
    probes = {
        way: _scored(way, np.where(scored_in_all, each, -1), label, speaker, len(classes), seed)
        for way, each in predicted.items()
    }
    return None if None in probes.values() else ScriptProbes(**probes)


def _probe_tokens(name, texts, labels, groups, analyzer: Callable, seed: int) -> Probe | None:
    group = _coded(groups)
    known = _sampled(_has_text(texts) & (group >= 0), MAX_TEXT_ROWS, seed)
    classes = _measurable(labels, known, group)
    rows, label = _rows_of(classes, labels, known)
    if len(classes) < 2 or (features := _tf_idf([texts[i] for i in rows], analyzer)) is None:
        return None
    group = group[rows]
    predicted = _predicted(_linear(), features, label, _folds(label, group, seed))
    return _scored(name, predicted, label, group, len(classes), seed)


def _probe_column(name: str, column: Sequence, labels: Sequence, groups: Sequence, seed: int) -> Probe | None:
    values, is_number = _values(column)
    group = _coded(groups)
    known = (np.isfinite(values) if is_number else np.not_equal(values, None)) & (group >= 0)
    classes = _measurable(labels, known, group)
    rows, label = _rows_of(classes, labels, known)
    group, values = group[rows], values[rows]
    if len(classes) < 2 or len(set(values.tolist())) < 2:
        return None
    if is_number:
        features, scores = values[:, None], rankdata(values)[:, None]
    else:
        features = scores = OneHotEncoder(max_categories=32, sparse_output=False).fit_transform(values[:, None])
    # Balanced weights keep rare classes, and a leaf of 3 % of the weight cannot hold single clips.
    tree = DecisionTreeClassifier(
        max_leaf_nodes=16, min_weight_fraction_leaf=0.03, class_weight="balanced", random_state=seed
    )
    predicted = _predicted(tree, features, label, _folds(label, group, seed))
    return _scored(name, predicted, label, group, len(classes), seed, _dependence(scores, label, group))


def _scored(
    name: str, predicted: np.ndarray, label: np.ndarray, group: np.ndarray, classes: int, seed: int, p_value=None
) -> Probe | None:
    """The probe of out-of-fold predictions, -1 where missing; None where no row of some class was scored.

    The interval is a two-stage Bayesian bootstrap (Rubin 1981) over groups and rows, in which no class is lost.
    """
    scored = predicted >= 0
    predicted, label, group = predicted[scored], label[scored], group[scored]
    if len(np.unique(label)) < classes:
        return None
    cell = label * classes + predicted
    where, counts = np.unique(np.stack([group, cell]), axis=1, return_counts=True)
    generator = np.random.default_rng(seed)

    def confusion(weights: np.ndarray) -> np.ndarray:
        return np.bincount(where[1], weights=weights, minlength=classes**2).reshape(classes, classes)

    resampled = np.empty(BOOTSTRAPS)
    for i in range(BOOTSTRAPS):
        of_groups = generator.standard_exponential(group.max() + 1)[where[0]]
        # The sum of as many exponential weights as the cell has rows.
        resampled[i] = uar_from_confusion(confusion(of_groups * generator.standard_gamma(counts)))
    low, high = np.quantile(resampled, (0.025, 0.975))
    return Probe(
        name=name,
        uar=uar_from_confusion(confusion(counts)),
        low=float(low),
        high=float(high),
        chance=1 / classes,
        n=len(label),
        groups=len(np.unique(group)),
        p_value=p_value,
    )


def _dependence(scores: np.ndarray, label: np.ndarray, group: np.ndarray) -> float:
    """p value of a test that scores are independent of labels within groups.

    Shapes:
        scores: `(rows, scores)`; label, group: `(rows,)`

    Source: Landis, Heyman & Koch 1978, Average partial association in three-way contingency tables, the generalised
    Cochran-Mantel-Haenszel statistic.
    """
    indicators = np.eye(label.max() + 1)[label]
    size = indicators.shape[1] * scores.shape[1]
    difference, covariance = np.zeros(size), np.zeros((size, size))
    for one in np.unique(group):
        rows = group == one
        if rows.sum() < 2:
            continue
        of_label = indicators[rows] - indicators[rows].mean(axis=0)
        of_score = scores[rows] - scores[rows].mean(axis=0)
        difference += (of_label.T @ of_score).ravel()
        covariance += np.kron(of_label.T @ of_label, of_score.T @ of_score) / (rows.sum() - 1)
    # Relative to each entry's own deviation, which separates rounding errors (the label counts of a group sum to its
    # rows) from small variances of rare values or labels.
    deviation = np.sqrt(covariance.diagonal())
    varies = deviation > 0
    if not varies.any():  # the same throughout each group
        return 1.0
    deviation, difference = deviation[varies], difference[varies]
    values, vectors = np.linalg.eigh(covariance[np.ix_(varies, varies)] / np.outer(deviation, deviation))
    free = values > SINGULAR
    along = vectors[:, free].T @ (difference / deviation)
    return float(chi2.sf((along**2 / values[free]).sum(), free.sum()))


def _script_folds(folds: list[tuple], blocks: np.ndarray, generator: np.random.Generator) -> dict[str, list[tuple]]:
    """Training and test rows of `seen`, `control` and `unseen`, tested on one block of scripts at a time."""
    ways = {"seen": [], "control": [], "unseen": []}
    for train, test in folds:
        ways["seen"].append((train, test[blocks[test] >= 0]))
        scripted = train[blocks[train] >= 0]
        for block in np.unique(blocks[test][blocks[test] >= 0]):
            tested = test[blocks[test] == block]
            known = train[blocks[train] == block]
            dropped = generator.choice(scripted, len(known), replace=False)
            ways["unseen"].append((np.setdiff1d(train, known), tested))
            ways["control"].append((np.setdiff1d(train, dropped), tested))
    return ways


def _folds(label: np.ndarray, group: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    if len(np.unique(group)) <= FOLDS:  # StratifiedGroupKFold might leave a fold empty
        return list(LeaveOneGroupOut().split(label, label, group))
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    return list(splitter.split(label, label, group))


def _predicted(model: ClassifierMixin, features, label: np.ndarray, folds: list[tuple]) -> np.ndarray:
    """Out-of-fold predictions; -1 where training had fewer than two classes."""
    predicted = np.full(len(label), -1)
    for train, test in folds:
        if len(test) and len(np.unique(label[train])) > 1:
            predicted[test] = clone(model).fit(features[train], label[train]).predict(features[test])
    return predicted


def _linear() -> LogisticRegression:
    # The larger tolerance saves a third of the time at the same UAR (MELD).
    return LogisticRegression(class_weight="balanced", tol=1e-3, max_iter=500)


def _tf_idf(texts: list[str], analyzer: Callable):
    """TF-IDF of all rows, which needs no labels; None where no word occurs in two texts."""
    vectorizer = TfidfVectorizer(analyzer=analyzer, min_df=2, sublinear_tf=True, dtype=np.float32)
    try:
        return vectorizer.fit_transform(texts)
    except ValueError:  # "empty vocabulary", "no terms remain"
        return None


def _word_ngrams(text: str) -> list[str]:
    """Words and word pairs."""
    words = re.findall(WORD, text.lower())
    return [*words, *(f"{one} {other}" for one, other in pairwise(words))]


def _name_parts(name: str) -> list[str]:
    """Runs of letters and of digits, alone and with their position."""
    parts = NAME_PART.findall(name.lower())
    return [*parts, *(f"{place} {part}" for place, part in enumerate(parts))]


def _measurable(labels: Sequence, known: np.ndarray, *groupings: np.ndarray) -> dict[object, int]:
    """Class index of each label with enough known rows and several groups in every grouping."""
    names = np.array(labels, dtype=object)[known]
    kept = [
        name
        for name in sorted(set(names.tolist()) - {None}, key=str)
        if (names == name).sum() >= MIN_CLASS_ROWS
        and all(len(np.unique(grouping[known][names == name])) > 1 for grouping in groupings)
    ]
    return {name: index for index, name in enumerate(kept)}


def _rows_of(classes: dict[object, int], labels: Sequence, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The known rows of these classes, and the class index of each."""
    label = np.array([classes.get(one, -1) for one in labels], dtype=int)
    rows = np.flatnonzero(known & (label >= 0))
    return rows, label[rows]


def _values(column: Sequence) -> tuple[np.ndarray, bool]:
    """The column as numbers (NaN where unknown) or texts (None where unknown), and whether it is numbers."""
    try:
        numbers = np.array([np.nan if value is None else value for value in column], dtype=np.float64)
    except (TypeError, ValueError):
        return np.array([None if value is None else str(value) for value in column], dtype=object), False
    # Digital silence has a level of minus infinity; the tree needs finite float32.
    return np.where(np.isnan(numbers), np.nan, np.clip(numbers, -1e30, 1e30)), True


def _has_text(texts: Sequence) -> np.ndarray:
    return np.array([bool(text and text.strip()) for text in texts], dtype=bool)


def _coded(groups: Sequence) -> np.ndarray:
    """Groups as numbers; -1 where there is none."""
    names = sorted({group for group in groups if group is not None and group != ""}, key=str)
    numbers = {name: number for number, name in enumerate(names)}
    return np.array([numbers.get(group, -1) for group in groups], dtype=int)


def _sampled(known: np.ndarray, most: int, seed: int) -> np.ndarray:
    """The mask reduced to a sample of at most `most` rows."""
    rows = np.flatnonzero(known)
    if len(rows) <= most:
        return known
    sampled = np.zeros_like(known)
    sampled[np.random.default_rng(seed).choice(rows, most, replace=False)] = True
    return sampled
