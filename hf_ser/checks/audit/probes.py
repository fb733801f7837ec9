"""Probes: how well one property of a clip, such as its words or its loudness, predicts the label of unseen speakers.

A probe is a small classifier that is given that property alone and scored on speakers that it was not fitted to. What
it reaches, any model may reach by the same road. A probe measures; what to make of the figure is the reader's affair: a
sad voice is softer, so loudness that carries the label is a caution, whereas words that give every label away are a
fault of the data.

Tried and left, UAR on MELD's 304 speakers: words without punctuation (35.3 against 39.8 with it), character n-grams
(38.8 against 39.4 for words that occur twice, at three times the cost; both together 39.4). On RAVDESS's loudness,
gradient boosting, forests, splines and quantile bins are within 2 points of one tree, at 3 times its cost or far more;
quantile bins do not see a spike at zero.
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
"""Parts into which the scripts are dealt, each unseen in turn."""

MIN_CLASS_ROWS = 10
"""A class with fewer rows, or of a single speaker, is left out: its recall on unseen speakers cannot be measured."""

MAX_TEXT_ROWS, MAX_SCRIPT_ROWS = 20_000, 6_000
"""Of more texts this many are drawn, so that a probe stays a matter of seconds; with scripts it is fitted 45 times."""

MARGIN = 0.05
"""UAR over chance below which a property counts as nothing that a model would lean on."""

GIVEN_AWAY = 0.90
SIGNIFICANT = 0.001
BOOTSTRAPS = 500

SINGULAR = 1e-8
"""Variance of a direction, in units of its entries' own, that counts as zero. Of ranks and of indicators, which the
scores are, it was under 3e-14 where it is zero but for rounding, and over 0.9 where it is not (random designs with rare
classes, values and groups, 200 to 20,000 rows)."""

CJK = "\u3040-\u30ff\u3400-\u9fff"
WORD = rf"[{CJK}]|[^\W{CJK}]+|[^\w\s]"
"""A word, a mark of punctuation, or one character of a script that puts no spaces between its words."""

NAME_PART = re.compile(r"[^\W\d_]+|\d+")


@dataclass(frozen=True)
class Probe:
    """What one property tells of the label.

    Args:
        name: The property.
        uar: Of the predictions for unseen groups, over the classes that could be measured.
        low, high: 95 % interval of `uar`, over resampled groups and rows in them.
        chance: UAR of guessing, one over the number of classes.
        n: Rows that were scored.
        groups: Groups (speakers) that they come from.
        p_value: That the property differs as much from label to label within groups if it had nothing to do with it;
            None where this was not tested (texts).
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
        """A model could lean on it for speakers that it has not heard: the whole interval is over chance + MARGIN."""
        return self.low > self.chance + MARGIN + ROUNDING

    @property
    def carries_nothing(self) -> bool:
        """Measured well enough to say so: the whole interval is below chance + MARGIN.

        With few rows or speakers neither this nor `carries_label` holds, and the probe has no answer.
        """
        return self.high < self.chance + MARGIN - ROUNDING

    @property
    def gives_away(self) -> bool:
        """So good a guess that the label is as good as written there."""
        return self.uar >= GIVEN_AWAY - ROUNDING

    @property
    def depends_on_label(self) -> bool:
        """It differs with the label beyond accident, by however little; a large corpus shows ever smaller differences.

        A property may depend on the label and yet predict next to nothing: `uar` says how much it tells.
        """
        return self.p_value is not None and self.p_value < SIGNIFICANT


@dataclass(frozen=True)
class ScriptProbes:
    """The words' probe on rows that have a script, three times over the same rows and speakers.

    Args:
        seen: Trained on all other speakers, who read the same scripts.
        control: The same less as many scripted rows, drawn by chance, as `unseen` has to leave out.
        unseen: Trained on other speakers and other scripts.
    """

    seen: Probe
    control: Probe
    unseen: Probe

    @property
    def through_script(self) -> bool:
        """Words tell more because training knows the script: UAR falls without it by more than fewer rows cost."""
        fall = self.control.uar - self.unseen.uar
        is_apart = self.unseen.high < self.control.low - ROUNDING
        return self.control.carries_label and fall > MARGIN + ROUNDING and is_apart


@dataclass(frozen=True)
class SpeakerProbe:
    """What the speaker alone tells of the label.

    Args:
        accuracy: Of predicting each clip's label as the most frequent label of its speaker's other clips.
        majority: Of predicting the most frequent label of all, on the same clips.
        n: Clips of speakers who have several.
        speakers: Of these clips.
    """

    accuracy: float
    majority: float
    n: int
    speakers: int

    @property
    def gain(self) -> float:
        """Share of the majority's errors that knowing the speaker mends; below 0 where it makes more."""
        return (self.accuracy - self.majority) / (1 - self.majority)


def probe_speaker(labels: Sequence, speakers: Sequence) -> SpeakerProbe | None:
    """How well the speaker alone determines the label, each clip predicted from its speaker's other clips.

    Between labels that are equally frequent the guess is by chance, and counts as the share of times it is right.

    Shapes:
        labels, speakers: `(utterances,)`; an unknown speaker is None or empty.

    Returns:
        None where no two speakers have several clips, or they have one label.
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
    """How well the words predict the label: TF-IDF and balanced logistic regression, cross-validated by group.

    Punctuation counts as words, since models read it. Of more than MAX_TEXT_ROWS rows a sample is taken. Rows without
    words or group are left out, and so are classes that cannot be measured (see MIN_CLASS_ROWS).

    Args:
        texts: Transcripts; None or blank where there is none.
        labels: Class of each row.
        groups: Speaker of each row, None or empty where unknown. Or what else shall be unseen, such as the script.
        seed: Of the folds, the sample and the interval.

    Shapes:
        texts, labels, groups: `(utterances,)`

    Returns:
        The probe named `transcript`; None where it cannot be made: fewer than two groups or two classes, or no word
        that occurs twice.
    """
    return _probe_words("transcript", texts, labels, groups, _words, seed)


def probe_trivia(
    columns: Mapping[str, Sequence], labels: Sequence, groups: Sequence, seed: int = 0
) -> dict[str, Probe]:
    """How well each of the trivial properties of a file predicts the label, one probe for each.

    Numbers go through a small decision tree, which finds relations of any shape, spikes at zero among them; other
    columns are taken as categories, but `name` as the parts of a file name and their places. Whether a name that gives
    the label away is a fault depends on the corpus: many are named by their own code of the labels.

    Args:
        columns: Values by property, such as `duration_seconds`, `leading_zeros_seconds`, `level_dbfs`, `source_bytes`,
            `source_format` and `name`; None or NaN where a value is not known.
        labels: Class of each row.
        groups: Speaker of each row, None or empty where unknown.
        seed: Of the folds and the interval.

    Shapes:
        every column, labels, groups: `(utterances,)`

    Returns:
        Probes by property, without those that cannot be made: constant or empty columns, fewer than two groups or two
        classes among the rows that have a value.
    """
    probes = {}
    for name, column in columns.items():
        if name == "name":
            probe = _probe_words(name, column, labels, groups, _name_parts, seed)
        else:
            probe = _probe_column(name, column, labels, groups, seed)
        if probe is not None:
            probes[name] = probe
    return probes


def text_through_script(
    texts: Sequence, labels: Sequence, speakers: Sequence, scripts: Sequence, seed: int = 0
) -> ScriptProbes | None:
    """Whether the words predict the label only because training and test read from the same script.

    Rows without a script (improvised) are trained on and never scored. Of more than MAX_SCRIPT_ROWS rows a sample is
    taken.

    Args:
        texts, labels: As in `probe_text`.
        speakers: Speaker of each row, or session, None or empty where unknown.
        scripts: Script or sentence of each row, None or empty where there is none.
        seed: Of the folds, the sample, the control and the intervals.

    Shapes:
        texts, labels, speakers, scripts: `(utterances,)`

    Returns:
        The three probes; None where they cannot be made: see `probe_text`, or fewer than two scripts.
    """
    speaker, script = _coded(speakers), _coded(scripts)
    known = _sampled(_has_words(texts) & (speaker >= 0), MAX_SCRIPT_ROWS, seed)
    classes = _measurable(labels, known & (script >= 0), speaker, script)
    rows, label = _rows_of(classes, labels, known)
    if len(classes) < 2 or (features := _tf_idf([texts[i] for i in rows], _words)) is None:
        return None
    speaker, script = speaker[rows], script[rows]
    has_script = script >= 0
    blocks = np.full(len(rows), -1)
    splitter = GroupKFold(min(SCRIPT_BLOCKS, len(np.unique(script[has_script]))))
    for number, (_, test) in enumerate(splitter.split(script[has_script], groups=script[has_script])):
        blocks[np.flatnonzero(has_script)[test]] = number
    folds = _script_folds(_folds(label, speaker, seed), blocks, np.random.default_rng(seed))
    predicted = {way: _predicted(_linear(), features, label, each) for way, each in folds.items()}
    told = np.logical_and.reduce([each >= 0 for each in predicted.values()])  # the same rows in all three
    probes = {
        way: _scored(way, np.where(told, each, -1), label, speaker, len(classes), seed)
        for way, each in predicted.items()
    }
    return None if None in probes.values() else ScriptProbes(**probes)


def _probe_words(name, texts, labels, groups, analyzer: Callable, seed: int) -> Probe | None:
    group = _coded(groups)
    known = _sampled(_has_words(texts) & (group >= 0), MAX_TEXT_ROWS, seed)
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
    # A leaf holds three hundredths of the weight, of which every class has an equal share: rare classes are not
    # drowned, and the tree cannot learn single clips.
    tree = DecisionTreeClassifier(
        max_leaf_nodes=16, min_weight_fraction_leaf=0.03, class_weight="balanced", random_state=seed
    )
    predicted = _predicted(tree, features, label, _folds(label, group, seed))
    return _scored(name, predicted, label, group, len(classes), seed, _dependence(scores, label, group))


def _scored(
    name: str, predicted: np.ndarray, label: np.ndarray, group: np.ndarray, classes: int, seed: int, p_value=None
) -> Probe | None:
    """The probe of out-of-fold predictions, -1 where there is none; None where a class was never predicted for.

    The interval is a Bayesian bootstrap (Rubin 1981) of two stages: weights for the groups, times weights for the rows,
    which with few groups are most of the doubt. Unlike a draw of whole groups it never loses a class.
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
    """Probability of scores that differ as much between labels if labels were dealt out anew within each group.

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
    # In units of each entry's own deviation, so that what is zero but for rounding (the counts of the labels of a group
    # sum to its rows) is told from what is small since a value or a label is rare.
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
    """Pairs of training and test rows of each of the three ways, tested on one block of scripts at a time."""
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
    if len(np.unique(group)) <= FOLDS:  # nothing is left to balance, and the splitter might leave a fold empty
        return list(LeaveOneGroupOut().split(label, label, group))
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    return list(splitter.split(label, label, group))


def _predicted(model: ClassifierMixin, features, label: np.ndarray, folds: list[tuple]) -> np.ndarray:
    """Predictions of models that have not seen the row's fold; -1 where training had no two classes."""
    predicted = np.full(len(label), -1)
    for train, test in folds:
        if len(test) and len(np.unique(label[train])) > 1:
            predicted[test] = clone(model).fit(features[train], label[train]).predict(features[test])
    return predicted


def _linear() -> LogisticRegression:
    # The tolerance costs nothing in UAR (MELD) and saves a third of the time.
    return LogisticRegression(class_weight="balanced", tol=1e-3, max_iter=500)


def _tf_idf(texts: list[str], analyzer: Callable):
    """Weighted counts, one table for all folds since labels play no part; None where no word occurs in two texts."""
    vectorizer = TfidfVectorizer(analyzer=analyzer, min_df=2, sublinear_tf=True, dtype=np.float32)
    try:
        return vectorizer.fit_transform(texts)
    except ValueError:  # "empty vocabulary", "no terms remain"
        return None


def _words(text: str) -> list[str]:
    """Words and pairs of neighbours."""
    words = re.findall(WORD, text.lower())
    return [*words, *(f"{one} {other}" for one, other in pairwise(words))]


def _name_parts(name: str) -> list[str]:
    """Runs of letters and of digits, alone and with their place, as codes of a corpus are read."""
    parts = NAME_PART.findall(name.lower())
    return [*parts, *(f"{place} {part}" for place, part in enumerate(parts))]


def _measurable(labels: Sequence, known: np.ndarray, *groupings: np.ndarray) -> dict[object, int]:
    """Class index of the labels with enough known rows, and more than one group in every grouping."""
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
    """Numbers with NaN for what is not known, or texts with None; and whether they are numbers."""
    try:
        numbers = np.array([np.nan if value is None else value for value in column], dtype=np.float64)
    except (TypeError, ValueError):
        return np.array([None if value is None else str(value) for value in column], dtype=object), False
    # Digital silence has a level of minus infinity; the tree takes only what float32 holds.
    return np.where(np.isnan(numbers), np.nan, np.clip(numbers, -1e30, 1e30)), True


def _has_words(texts: Sequence) -> np.ndarray:
    return np.array([bool(text and text.strip()) for text in texts], dtype=bool)


def _coded(groups: Sequence) -> np.ndarray:
    """Groups as numbers, -1 where there is none."""
    names = sorted({group for group in groups if group is not None and group != ""}, key=str)
    numbers = {name: number for number, name in enumerate(names)}
    return np.array([numbers.get(group, -1) for group in groups], dtype=int)


def _sampled(known: np.ndarray, most: int, seed: int) -> np.ndarray:
    """The same mask with `most` rows at most."""
    rows = np.flatnonzero(known)
    if len(rows) <= most:
        return known
    sampled = np.zeros_like(known)
    sampled[np.random.default_rng(seed).choice(rows, most, replace=False)] = True
    return sampled
