"""Intervals over speakers: whether they hold the truth as often as they say, on generated speakers."""

import numpy as np
import pytest
from scipy.special import expit

from hf_ser.runs.intervals import (
    PAIRED_COVERAGE,
    UNKNOWN,
    difference_intervals,
    gap_interval,
    macro_f1_from_confusion,
    speaker_intervals,
    wa_from_confusion,
)

CLIPS = np.array([4] + [8] * 7)
"""Clips of a RAVDESS speaker in each class."""

EASE = np.linspace(-1, 2, len(CLIPS))
SPREAD = 0.8
"""Standard deviation of a speaker's logit recall, of the speaker and of each class of theirs."""


def corpora(n_corpora: int, n_speakers: int, shift: float = 0, seed: int = 0, common=0) -> list[dict]:
    """Confusion matrices of speakers with own skill, for each corpus; `common` is added to the speakers' logits."""
    rng = np.random.default_rng(seed)
    own = rng.normal(0, SPREAD, (n_corpora, n_speakers, 1)) + rng.normal(0, SPREAD, (n_corpora, n_speakers, len(CLIPS)))
    hits = rng.binomial(CLIPS, expit(EASE + shift + own + common))
    matrices = np.zeros((*hits.shape, len(CLIPS)))
    classes = np.arange(len(CLIPS))
    matrices[..., classes, classes] = hits
    matrices[..., classes, (classes + 1) % len(CLIPS)] = CLIPS - hits
    return [{str(name): matrix for name, matrix in enumerate(corpus)} for corpus in matrices]


def true_uar(shift: float = 0, variance: float = 2 * SPREAD**2) -> float:
    """Mean recall over all speakers that there could be."""
    points, weights = np.polynomial.hermite_e.hermegauss(80)
    recalls = expit(EASE[:, None] + shift + np.sqrt(variance) * points)
    return float((recalls * weights).sum(axis=1).mean() / weights.sum())


def share_held(intervals: list, truth: float) -> float:
    return np.mean([low <= truth <= high for low, high in intervals])


def test_the_interval_holds_the_true_uar_as_often_as_it_says():
    truth = true_uar()
    held = share_held([speaker_intervals(one, resamples=500)[0]["uar"] for one in corpora(1000, 24)], truth)
    assert 0.92 <= held <= 0.98
    few = share_held([speaker_intervals(one, resamples=1000)[0]["uar"] for one in corpora(100, 3)], truth)
    assert few < 0.85, "of three speakers it cannot, and the note says so"


def test_the_paired_interval_holds_the_true_difference_and_is_narrower_than_two_apart():
    common = np.random.default_rng(5).normal(0, 1.5, (200, 24, 1))  # what makes a speaker easy for both models
    pairs = list(zip(corpora(200, 24, 0, 1, common), corpora(200, 24, 0.4, 2, common), strict=True))
    variance = 2 * SPREAD**2 + 1.5**2
    intervals = [difference_intervals(*pair, resamples=500)[0]["uar"] for pair in pairs]
    assert 0.92 <= share_held(intervals, true_uar(0.4, variance) - true_uar(0, variance)) <= 0.98
    apart = gap_interval(pairs[0][1], pairs[0][0])[0]
    assert np.diff(intervals[0])[0] < 0.8 * np.diff(apart)[0]


def test_the_gap_of_two_groups_holds_the_true_gap():
    groups = zip(corpora(200, 12, 0.5, 3), corpora(200, 12, 0, 4), strict=True)
    held = share_held([gap_interval(*pair, resamples=500)[0] for pair in groups], true_uar(0.5) - true_uar())
    assert 0.92 <= held <= 0.98


def test_statistics_by_hand():
    matrix = np.array([[3, 1], [0, 1]])
    assert wa_from_confusion(matrix) == 0.8
    assert macro_f1_from_confusion(matrix) == pytest.approx((6 / 7 + 2 / 3) / 2)
    assert wa_from_confusion(np.stack([matrix, np.eye(2)])).tolist() == [0.8, 1.0]


def test_a_run_differs_from_itself_by_nothing():
    (one,) = corpora(1, 10)
    intervals, note = difference_intervals(one, dict(reversed(one.items())))
    assert intervals == {"uar": [0, 0], "wa": [0, 0], "macro_f1": [0, 0]}
    assert note.startswith("Expanded percentile bootstrap over 10 speakers, 5000 resamples, seed 0; 0 resamples lacked")


def test_groups_of_speakers_are_drawn_independently():
    (one,) = corpora(1, 10)
    low, high = gap_interval(one, one)[0]
    assert low < -0.05
    assert high == pytest.approx(-low, abs=0.03)


@pytest.mark.parametrize("n_speakers", [2, 3, 4, 5])
def test_few_speakers_are_warned_of_with_what_was_measured(n_speakers):
    (few,), (many,) = corpora(1, n_speakers), corpora(1, 12)
    measured = {2: 51, 3: 74, 4: 86, 5: 91}[n_speakers]
    assert f"held the true figure {measured} times in 100 instead of 95" in speaker_intervals(few)[1]
    assert "too narrow" not in speaker_intervals(many)[1]
    assert ("too narrow" in gap_interval(few, many)[1]) == (n_speakers < 4)


def test_a_pair_and_a_gap_of_few_speakers_are_warned_of_with_their_own_figures():
    pairs, (many,) = list(zip(corpora(300, 3), corpora(300, 3, 0, 1), strict=True)), corpora(1, 12)
    measured = share_held([difference_intervals(*pair, resamples=500)[0]["uar"] for pair in pairs], 0)
    assert measured == pytest.approx(PAIRED_COVERAGE[3] / 100, abs=0.08)
    note = difference_intervals(*pairs[0])[1]
    assert (
        f"With only 3 speakers it is too narrow: in simulations it held the true figure {PAIRED_COVERAGE[3]} " in note
    )
    assert note.endswith("An interval of zero width only says that these speakers have the same figure.")
    two = dict(list(many.items())[:2])
    for other in (two, many):  # both were measured, and the figures lie apart
        assert "With 2 speakers in a group it is too narrow" in gap_interval(two, other)[1]
        assert "held the true figure 67 to 85 times in 100" in gap_interval(other, two)[1]


def test_why_there_is_none():
    (one,) = corpora(1, 4)
    alone = {"0": one["0"]}
    assert speaker_intervals(alone)[0] == {"uar": None, "wa": None, "macro_f1": None}
    assert "one speaker only" in gap_interval(one, alone)[1]
    assert gap_interval({**one, UNKNOWN: one["0"]}, one) == (
        None,
        "No interval: 60 utterances have no speaker, and the bootstrap draws whole speakers.",
    )
    hidden = {name: matrix * (np.arange(8) != int(name))[:, None] for name, matrix in one.items()}
    assert speaker_intervals(hidden)[0]["uar"] is not None
    apart = {name: matrix * (np.arange(8) % 4 == int(name))[:, None] for name, matrix in one.items()}
    assert "of 5000 resamples of the speakers lacked a class" in speaker_intervals(apart)[1]


def test_other_speakers_or_references_cannot_be_paired():
    one, other = corpora(2, 4)
    with pytest.raises(ValueError, match="found two sets of confusion matrices with different speakers or references"):
        difference_intervals(one, {name: other[name] for name in list(other)[:3]})
    with pytest.raises(ValueError, match="expected predictions of the same utterances"):
        difference_intervals(one, {name: matrix[::-1] for name, matrix in other.items()})
