"""How far a model's confidence can be trusted, and what it may leave unanswered.

Temperature and threshold are fitted on validation speakers; everything else here only measures.
"""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.25, 10.0
"""A validation part without a mistake would ask for a temperature of 0, one answered by chance for an infinite one."""

TARGET_COVERAGE = 0.8
"""Share of the validation clips that the abstain threshold lets a model answer."""

LEAST = 1e-12
"""Probability under which a class counts as ruled out: its logarithm must be finite."""


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
    return softmax(np.log(np.clip(probabilities, LEAST, None)) / temperature, axis=-1)


def abstain_threshold(probabilities: np.ndarray, coverage: float = TARGET_COVERAGE) -> float:
    """The confidence that a share `coverage` of the validation utterances reaches.

    Shapes:
        probabilities: (utterances, classes), calibrated.
    """
    return float(np.quantile(np.max(probabilities, axis=1), 1 - coverage, method="lower"))
