"""Calibration and abstention: temperature and threshold from validation speakers, and how good they are."""

import math

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from hf_ser.runs.figures import Bin, RiskCoverage
from hf_ser.runs.scores import ECE_BINS, ROUNDING, calibration_bins

LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.25, 10.0
"""Limits of the temperature, which would be 0 for perfect predictions and infinite for predictions at chance."""

TARGET_COVERAGE = 0.8
"""Share of the validation clips that the abstain threshold lets a model answer."""

CURVE_POINTS = 101
"""Most points of a curve in the report."""

NLL_FLOOR = 1e-12
"""Smallest probability in `nll`, whose logarithm must be finite."""

SMALLEST = np.finfo(np.float64).tiny
"""Smallest probability in `tempered`; a larger floor would change the logits."""

THRESHOLD_MARGIN = 1e-6
"""Distance of the abstain threshold below its confidence: scores differ by some 3e-8 with the batch and float32."""


def fit_temperature(logits: np.ndarray, references: np.ndarray) -> float:
    """Fit the temperature that maximises the likelihood of the references, within the two limits above.

    Args:
        logits: Logits or log probabilities of the validation utterances.
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
    """Probabilities rescaled by a temperature; `1 / temperature` undoes it.

    Shapes:
        probabilities: (..., classes), and so is the result.
    """
    return softmax(np.log(np.clip(probabilities, SMALLEST, None)) / temperature, axis=-1)


def abstain_threshold(probabilities: np.ndarray, coverage: float = TARGET_COVERAGE) -> float:
    """The highest confidence that a share `coverage` of the validation utterances reaches, minus `THRESHOLD_MARGIN`.

    Shapes:
        probabilities: (utterances, classes), calibrated.
    """
    confidence = np.sort(np.max(probabilities, axis=1))
    # Counted, since 1 - 0.8 is not exactly 0.2: of 11 utterances, a quantile would pass 10 where 9 are enough.
    n_answered = max(1, math.ceil(coverage * len(confidence) - ROUNDING))
    return float(confidence[-n_answered]) - THRESHOLD_MARGIN


def reaches_threshold(confidence: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """Mask of the utterances whose confidence reaches the threshold.

    Shapes:
        confidence, threshold: (utterances,), and so is the result.
    """
    return confidence >= threshold


def nll(probabilities: np.ndarray, references: np.ndarray) -> float:
    """Mean negative log probability of the true class, in nats; at most 27.6 (`NLL_FLOOR`).

    Shapes:
        probabilities: (utterances, classes), references: (utterances,)
    """
    true = np.take_along_axis(probabilities, references[:, None], axis=1)
    return float(-np.log(np.clip(true, NLL_FLOOR, None)).mean())


def reliability_bins(confidence: np.ndarray, correct: np.ndarray) -> list[Bin]:
    """Mean confidence and accuracy in each of the bins of `ece`.

    Shapes:
        confidence, correct: (utterances,)
    """
    edges = np.linspace(0, 1, ECE_BINS + 1).tolist()
    return [
        Bin(
            low=low,
            high=high,
            n=int(n),
            confidence=float(confident / n) if n else None,
            accuracy=float(right / n) if n else None,
        )
        for low, high, (n, confident, right) in zip(
            edges[:-1], edges[1:], calibration_bins(confidence, correct).T, strict=True
        )
    ]


def risk_coverage(confidence: np.ndarray, correct: np.ndarray) -> RiskCoverage:
    """Error rate among the most confident utterances, for every share of them.

    Errors among utterances of equal confidence are spread evenly, which is the mean over all orders.

    Shapes:
        confidence, correct: (utterances,)

    Returns:
        At most `CURVE_POINTS` points.

    Source: Geifman and El-Yaniv 2017, Selective Classification for Deep Neural Networks (the curve); Geifman, Uziel and
    El-Yaniv 2019, Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers (`aurc`).
    """
    n = len(confidence)
    order = np.argsort(-confidence, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(confidence[order])) + 1, n)  # the end of each run of equal confidences
    mistakes = np.cumsum(~correct[order].astype(bool))[ends - 1]
    places = np.arange(1, n + 1)
    risk = np.interp(places, np.append(0, ends), np.append(0, mistakes)) / places
    shown = curve_points(n)
    return RiskCoverage(coverage=(places[shown] / n).tolist(), risk=risk[shown].tolist(), aurc=float(risk.mean()))


def curve_points(n: int) -> np.ndarray:
    """Indices of at most `CURVE_POINTS` of n points, evenly spaced, first and last included.

    Shapes:
        the result: (points,)
    """
    return np.unique(np.linspace(0, n - 1, min(n, CURVE_POINTS)).round().astype(int))
