"""How far a model's confidence can be trusted, and what it may leave unanswered.

Temperature and threshold are fitted on validation speakers; everything else here only measures.
"""

import math

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from hf_ser.runs.scores import ECE_BINS, ROUNDING, calibration_bins

LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.25, 10.0
"""A validation part without a mistake would ask for a temperature of 0, one answered by chance for an infinite one."""

TARGET_COVERAGE = 0.8
"""Share of the validation clips that the abstain threshold lets a model answer."""

CURVE_POINTS = 101
"""Points that a curve has at most: enough for a picture, and a report of many classes stays readable."""

LEAST = 1e-12
"""Probability under which a class counts as ruled out by `nll`: its logarithm must be finite."""

SMALLEST = np.finfo(np.float64).tiny
"""What a probability of 0 counts as where another temperature is taken: a higher floor would tell other logits."""

SHOWN = 0.001
"""The last digit that reports show of a calibration error: a smaller difference is none."""

THRESHOLD_MARGIN = 1e-6
"""By how much the abstain threshold is below the confidence it is taken from: equal answers differ by some 3e-8 with
their batch, and the pipeline computes its scores in float32. Neither may decide which of them are given."""


def fit_temperature(logits: np.ndarray, references: np.ndarray) -> float:
    """The temperature under which the softmax of the logits is most likely, within the two limits above.

    Args:
        logits: Of validation utterances; log probabilities will do.
        references: Class indices.

    Shapes:
        logits: (utterances, classes), references: (utterances,)

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, section 4.2.
    """
    logits = np.asarray(logits, dtype=np.float64)
    rows = np.arange(len(logits))

    def loss(log_temperature: float) -> float:
        return -log_softmax(logits / np.exp(log_temperature), axis=1)[rows, references].mean()

    limits = np.log([LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE])
    return float(np.exp(minimize_scalar(loss, bounds=limits, method="bounded").x))


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities as a softmax at another temperature would give them; `1 / temperature` takes it back.

    Shapes:
        probabilities: (..., classes), and so is the result.
    """
    return softmax(np.log(np.clip(probabilities, SMALLEST, None)) / temperature, axis=-1)


def made_worse(calibration: dict) -> bool:
    """Whether the test speakers' calibration error is larger with the temperature than without.

    Few validation speakers, or validation speakers that have chosen the model too, can give such a temperature.

    Args:
        calibration: Of a report.
    """
    before = calibration["ece_uncalibrated"]
    return before is not None and calibration["ece"] > before + SHOWN / 2


def abstain_threshold(probabilities: np.ndarray, coverage: float = TARGET_COVERAGE) -> float:
    """The highest confidence that a share `coverage` of the validation utterances reaches, less `THRESHOLD_MARGIN`.

    Shapes:
        probabilities: (utterances, classes), calibrated.
    """
    confidence = np.sort(np.max(probabilities, axis=1))
    # Counted, for a quantile at 1 - 0.8 is not one at 0.2: of 11 utterances it would let 10 pass, where 9 are enough.
    n_answered = max(1, math.ceil(coverage * len(confidence) - ROUNDING))
    return float(confidence[-n_answered]) - THRESHOLD_MARGIN


def answered(confidence: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """Which utterances a model that may abstain answers: those whose confidence reaches the threshold.

    Shapes:
        confidence, threshold: (utterances,), and so is the result.
    """
    return confidence >= threshold


def nll(probabilities: np.ndarray, references: np.ndarray) -> float:
    """Mean negative log probability of the true class, in nats; one of 0 counts as `LEAST`, 27.6 nats.

    Shapes:
        probabilities: (utterances, classes), references: (utterances,)
    """
    true = np.take_along_axis(probabilities, references[:, None], axis=1)
    return float(-np.log(np.clip(true, LEAST, None)).mean())


def reliability_bins(confidence: np.ndarray, correct: np.ndarray) -> list[dict]:
    """Mean confidence and accuracy of the utterances in each of the bins over which `ece` is computed.

    Shapes:
        confidence, correct: (utterances,)

    Returns:
        `{"low", "high", "n", "confidence", "accuracy"}` for each bin, the last two None where it is empty.
    """
    edges = np.linspace(0, 1, ECE_BINS + 1).tolist()
    return [
        {
            "low": low,
            "high": high,
            "n": int(n),
            "confidence": float(confident / n) if n else None,
            "accuracy": float(right / n) if n else None,
        }
        for low, high, (n, confident, right) in zip(
            edges[:-1], edges[1:], calibration_bins(confidence, correct).T, strict=True
        )
    ]


def risk_coverage(confidence: np.ndarray, correct: np.ndarray) -> dict:
    """How often a model errs that answers only what it is most sure of.

    Utterances of equal confidence have no order: their mistakes count as spread evenly over their places, which is the
    mean over all orders.

    Shapes:
        confidence, correct: (utterances,)

    Returns:
        `coverage` and `risk`: the share answered, and the share of wrong answers among those, at `CURVE_POINTS` places
        at most. `aurc`: mean risk over every number of answers from one to all; 0 is best.

    Source: Geifman and El-Yaniv 2017, Selective Classification for Deep Neural Networks (the curve); Geifman, Uziel and
    El-Yaniv 2019, Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers (`aurc`).
    """
    n = len(confidence)
    order = np.argsort(-confidence, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(confidence[order])) + 1, n)  # of each run of equal confidences
    mistakes = np.cumsum(~correct[order].astype(bool))[ends - 1]
    places = np.arange(1, n + 1)
    risk = np.interp(places, np.append(0, ends), np.append(0, mistakes)) / places
    shown = curve_points(n)
    return {"coverage": (places[shown] / n).tolist(), "risk": risk[shown].tolist(), "aurc": float(risk.mean())}


def curve_points(n: int) -> np.ndarray:
    """Indices of at most `CURVE_POINTS` of n points, evenly spaced, first and last among them.

    Shapes:
        the result: (points,)
    """
    return np.unique(np.linspace(0, n - 1, min(n, CURVE_POINTS)).round().astype(int))
