"""Calibration against cases whose answer is known: logits stretched by 3, and orders of confidence worked by hand."""

import numpy as np
import pytest
from scipy.special import softmax

from hf_ser.publish.curves import ece_text
from hf_ser.runs.calibration import (
    HIGHEST_TEMPERATURE,
    LOWEST_TEMPERATURE,
    abstain_threshold,
    curve_points,
    fit_temperature,
    nll,
    reliability_bins,
    risk_coverage,
    tempered,
)
from hf_ser.runs.figures import Calibration
from hf_ser.runs.scores import score

LABELS = ["neutral", "happy", "sad", "angry"]


def stretched(n: int = 6000, factor: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from the softmax of logits, and those logits times a factor."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, (n, len(LABELS)))
    references = (softmax(logits, axis=1).cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return factor * logits, np.minimum(references, len(LABELS) - 1)


def test_a_known_temperature_is_found_and_mends_the_calibration():
    logits, references = stretched()
    temperature = fit_temperature(logits[:3000], references[:3000])
    assert temperature == pytest.approx(3, rel=0.08)
    before = score(softmax(logits[3000:], axis=1), references[3000:], LABELS)
    calibrated = softmax(logits[3000:] / temperature, axis=1)
    after = score(calibrated, references[3000:], LABELS)
    assert before["ece"] > 0.2
    assert after["ece"] < 0.03
    assert {name: after[name] for name in ("uar", "wa", "macro_f1")} == {
        name: before[name] for name in ("uar", "wa", "macro_f1")
    }
    raw = softmax(logits[3000:], axis=1)
    assert nll(calibrated, references[3000:]) < nll(raw, references[3000:])
    assert tempered(calibrated, 1 / temperature) == pytest.approx(raw, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.25, 0.5, 1.0, 4.0])
def test_a_temperature_is_taken_back_wherever_no_probability_underflows(temperature):
    logits, references = stretched(500, 8.0)
    raw, calibrated = softmax(logits, axis=1), softmax(logits / temperature, axis=1)
    assert calibrated.min() > 0
    assert temperature >= 1 or calibrated.min() < 1e-20
    np.testing.assert_allclose(tempered(calibrated, 1 / temperature), raw, rtol=1e-9)
    assert nll(tempered(calibrated, 1 / temperature), references) == pytest.approx(nll(raw, references))


def test_a_probability_of_zero_stays_next_to_nothing():
    assert tempered(np.array([[1.0, 0.0]]), 4.0) == pytest.approx(np.array([[1.0, 0.0]]), abs=1e-70)


@pytest.mark.parametrize(("factor", "found"), [(0.02, LOWEST_TEMPERATURE), (1000, HIGHEST_TEMPERATURE)])
def test_temperature_stays_within_its_limits(factor, found):
    logits, references = stretched(500, factor)
    assert fit_temperature(logits, references) == pytest.approx(found, rel=1e-3)


def test_validation_without_a_mistake_asks_for_no_zero():
    logits, _ = stretched(200)
    assert fit_temperature(logits, logits.argmax(axis=1)) == pytest.approx(LOWEST_TEMPERATURE, rel=1e-3)


def test_nll_of_a_class_that_was_ruled_out_is_finite():
    assert nll(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(-np.log(1e-12))
    assert nll(np.array([[0.25, 0.75], [0.5, 0.5]]), np.array([1, 0])) == pytest.approx(-np.log([0.75, 0.5]).mean())


def test_reliability_bins_by_hand():
    bins = reliability_bins(np.array([1.0, 0.95, 14 / 15, 0.5]), np.array([True, False, True, True]))
    assert [one.n for one in bins] == [0] * 7 + [1] + [0] * 5 + [1, 2]  # 14/15 is the upper edge of the 14th bin
    assert bins[14].to_json() == {
        "low": pytest.approx(14 / 15),
        "high": 1.0,
        "n": 2,
        "confidence": pytest.approx(0.975),
        "accuracy": 0.5,
    }
    assert bins[0].to_json() == {
        "low": 0.0,
        "high": pytest.approx(1 / 15),
        "n": 0,
        "confidence": None,
        "accuracy": None,
    }


def test_risk_coverage_of_the_best_and_the_worst_order():
    confidence = np.linspace(0.9, 0.3, 10)
    wrong = 4
    places = np.arange(1, 11)
    best = risk_coverage(confidence, places <= 10 - wrong)
    assert best.risk == pytest.approx(np.clip(places - 6, 0, None) / places)
    assert best.aurc == pytest.approx((1 / 7 + 2 / 8 + 3 / 9 + 4 / 10) / 10)
    worst = risk_coverage(confidence, places > wrong)
    assert worst.aurc == pytest.approx((4 + 4 / 5 + 4 / 6 + 4 / 7 + 4 / 8 + 4 / 9 + 4 / 10) / 10)
    assert (best.risk[-1], worst.risk[-1], best.coverage[-1]) == (0.4, 0.4, 1.0)
    assert risk_coverage(confidence, places > 0).aurc == 0


def test_equal_confidences_have_no_order():
    rng = np.random.default_rng(1)
    confidence, correct = rng.choice([0.3, 0.6, 0.9], 250), rng.random(250) < 0.7
    curve = risk_coverage(confidence, correct)
    order = rng.permutation(250)
    assert risk_coverage(confidence[order], correct[order]) == curve
    alike = risk_coverage(np.full(250, 0.5), correct)
    assert alike.risk == pytest.approx([1 - correct.mean()] * 101), "no confidence tells right from wrong"
    orders = [rng.permutation(250) for _ in range(300)]
    broken = [risk_coverage(confidence[o] - 1e-9 * np.arange(250), correct[o]).aurc for o in orders]
    assert curve.aurc == pytest.approx(np.mean(broken), abs=3 * np.std(broken) / np.sqrt(300))


def test_long_curves_are_thinned_and_keep_their_ends():
    assert curve_points(7).tolist() == list(range(7))
    assert curve_points(1).tolist() == [0]
    points = curve_points(5000)
    assert (len(points), points[0], points[-1]) == (101, 0, 4999)
    assert len(risk_coverage(np.linspace(0, 1, 5000), np.ones(5000, dtype=bool)).risk) == 101


@pytest.mark.parametrize("coverage", [0.5, 0.8, 1.0])
def test_the_threshold_lets_its_share_pass(coverage):
    probabilities = softmax(stretched(1000)[0], axis=1)
    share = (probabilities.max(axis=1) >= abstain_threshold(probabilities, coverage)).mean()
    assert coverage <= share <= coverage + 0.002


@pytest.mark.parametrize(("n", "n_answered"), [(1, 1), (4, 4), (5, 4), (10, 8), (11, 9), (15, 12), (1000, 800)])
def test_the_threshold_lets_as_few_pass_as_are_enough(n, n_answered):
    confidence = np.random.default_rng(n).permutation(np.linspace(0.5, 0.9, n))
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    assert (confidence >= abstain_threshold(probabilities, 0.8)).sum() == n_answered


def test_equal_answers_that_rounding_sets_apart_are_given_together():
    draw = np.random.default_rng(0)
    confidence = np.repeat([0.9, 0.7, 0.5], [3, 6, 1]) + 3e-8 * draw.standard_normal(10)
    threshold = abstain_threshold(np.stack([confidence, 1 - confidence], axis=1), 0.8)
    assert (confidence >= threshold).sum() == (confidence.astype(np.float32) >= threshold).sum() == 9


@pytest.mark.parametrize(("ece", "before", "is_worse"), [(0.12, 0.1, True), (0.1, 0.12, False), (0.1, None, False)])
def test_a_temperature_that_made_it_worse_is_called_so(ece, before, is_worse):
    temperature, none = {"1": before and 0.8}, {"nll": 0.0, "nll_uncalibrated": None, "bins": []}
    calibration = Calibration(temperature=temperature, ece=ece, ece_uncalibrated=before, **none)
    assert calibration.is_worse == is_worse
    assert ("worse than without it" in ece_text(calibration)) == is_worse
    assert "calibrated" not in ece_text(calibration)
