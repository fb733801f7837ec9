"""The figures against hand-worked cases and against scikit-learn called another way."""

from pathlib import Path

import evaluate
import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, matthews_corrcoef, recall_score, roc_auc_score

from hf_ser.runs import metrics
from hf_ser.runs.metrics import SerMetric
from hf_ser.runs.scores import KL_FLOOR, calibration_bins, difference, score, soft_scores, uar_from_confusion

LABELS = ["angry", "happy", "sad"]
FIGURES = {"uar", "wa", "macro_f1", "weighted_f1", "mcc", "roc_auc_ovr", "ece"}


def random_predictions(n: int, n_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    references = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, n - n_classes)])
    logits = rng.normal(size=(n, n_classes)) + 1.2 * np.eye(n_classes)[references]
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), references


def certain(predicted: list[int], n_classes: int) -> np.ndarray:
    return np.eye(n_classes)[predicted]


def test_hand_worked_case():
    # angry: 2 of 3 right; happy: 1 of 2; sad: 1 of 1. Predictions: angry 2, happy 2, sad 2.
    figures = score(certain([0, 0, 1, 1, 2, 2], 3), np.array([0, 0, 0, 1, 1, 2]), LABELS)
    assert set(figures) == FIGURES
    assert figures["uar"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert figures["wa"] == pytest.approx(4 / 6)
    f1 = [4 / 5, 2 / 4, 2 / 3]  # 2 hits / (predicted + true)
    assert figures["macro_f1"] == pytest.approx(sum(f1) / 3)
    assert figures["weighted_f1"] == pytest.approx((3 * f1[0] + 2 * f1[1] + 1 * f1[2]) / 6)
    assert figures["ece"] == pytest.approx(2 / 6)  # always certain, right 4 times of 6


@pytest.mark.parametrize("n_classes", [2, 4, 8])
def test_agrees_with_scikit_learn(n_classes):
    probabilities, references = random_predictions(300, n_classes)
    predicted = probabilities.argmax(axis=1)
    figures = score(probabilities, references, [f"emotion {index}" for index in range(n_classes)])
    one_against_rest = [roc_auc_score(references == index, probabilities[:, index]) for index in range(n_classes)]
    expected = {
        "uar": recall_score(references, predicted, average="macro"),
        "wa": np.mean(predicted == references),
        "macro_f1": f1_score(references, predicted, average="macro"),
        "weighted_f1": f1_score(references, predicted, average="weighted"),
        "mcc": matthews_corrcoef(references, predicted),
        "roc_auc_ovr": np.mean(one_against_rest),
    }
    assert {name: figures[name] for name in expected} == pytest.approx(expected)
    assert all(type(figure) is float for figure in figures.values())


def test_ece_against_a_loop_over_bins():
    probabilities, references = random_predictions(500, 4, seed=1)
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == references
    expected = 0.0
    for index in range(15):
        inside = (confidence > index / 15) & (confidence <= (index + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    assert score(probabilities, references, list("abcd"))["ece"] == pytest.approx(expected)


def test_absent_class_raises_where_balanced_accuracy_shrinks_the_mean():
    references, predicted = np.array([0] * 5 + [1] * 5), [0] * 4 + [2] + [1] * 4 + [3]
    with pytest.warns(UserWarning, match="not in y_true"):
        assert balanced_accuracy_score(references, predicted) == pytest.approx(0.8)
    assert recall_score(references, predicted, labels=range(4), average="macro", zero_division=0) == pytest.approx(0.4)
    with pytest.raises(ValueError, match=r"found no utterance with the reference 'sad', 'calm', expected at least one"):
        score(certain(predicted, 4), references, ["angry", "happy", "sad", "calm"])


def test_uar_from_confusion_takes_leading_axes_and_names_what_is_absent():
    matrix = np.array([[3, 1], [1, 1]])
    assert uar_from_confusion(matrix) == 0.625
    assert uar_from_confusion(np.stack([matrix, np.eye(2)])).tolist() == [0.625, 1.0]
    with pytest.raises(ValueError, match="reference 'class 1', expected"):
        uar_from_confusion([[3, 1], [0, 0]])
    with pytest.raises(ValueError, match="reference 'sad', expected"):
        uar_from_confusion(np.stack([matrix, [[3, 1], [0, 0]]]), ["happy", "sad"])


def test_rows_may_miss_the_sum_by_the_tolerance():
    probabilities, references = random_predictions(50, 4)
    exact = score(probabilities, references, list("abcd"))
    rounded = score(probabilities * 1.0009, references, list("abcd"))
    assert rounded == pytest.approx(exact)


def test_soft_figures_worked_by_hand():
    votes = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    figures = soft_scores(np.array([[0.25, 0.5, 0.25], [0.5, 0.25, 0.25]]), votes)
    # KL: 0.5 log 2 + 0.5 log 1, and 1 log 2. Brier: 1/16 + 0 + 1/16, and 1/4 + 1/16 + 1/16.
    assert figures["kl"] == pytest.approx(0.75 * np.log(2))
    assert figures["brier"] == pytest.approx((2 / 16 + 6 / 16) / 2)
    first = 0.375 / np.sqrt(0.5 * 0.375)  # the lengths' squares: 1/4 + 1/4, and 1/16 + 1/4 + 1/16
    assert figures["cosine"] == pytest.approx((first + 0.5 / np.sqrt(0.375)) / 2)
    assert figures["majority_wa"] == 1.0, "the first row's class is one of two with the most votes"
    assert figures["entropy_correlation"] is None, "both predictions are as unsure"
    assert all(type(figure) is float for name, figure in figures.items() if name != "entropy_correlation")


def test_soft_figures_at_their_ends():
    best = soft_scores(np.array([[0.5, 0.3, 0.2], [0, 1, 0]]), np.array([[0.5, 0.3, 0.2], [0, 1, 0]]))
    expected = {"kl": 0, "cosine": 1, "brier": 0, "majority_wa": 1, "entropy_correlation": 1}
    assert best == pytest.approx(expected, abs=3 * KL_FLOOR)
    worst = soft_scores(np.array([[0, 1.0]]), np.array([[1.0, 0]]))
    assert worst["kl"] == pytest.approx(-np.log(KL_FLOOR), abs=1e-5)
    assert (worst["cosine"], worst["brier"], worst["majority_wa"]) == (0, 2, 0)


def test_certain_votes_give_the_accuracy_and_the_cross_entropy_of_a_label():
    probabilities, references = random_predictions(200, 4)
    figures = soft_scores(probabilities, certain(references, 4))
    assert figures["majority_wa"] == score(probabilities, references, list("abcd"))["wa"]
    assert figures["kl"] == pytest.approx(-np.log(probabilities[np.arange(200), references]).mean(), abs=1e-4)


def test_doubt_is_ranked():
    votes = np.array([[1.0, 0, 0], [0.8, 0.2, 0], [0.5, 0.5, 0], [0.4, 0.3, 0.3]])
    like, unlike = soft_scores(votes**2 / (votes**2).sum(1, keepdims=True), votes), soft_scores(votes[::-1], votes)
    assert like["entropy_correlation"] == pytest.approx(1)
    assert unlike["entropy_correlation"] == pytest.approx(-1)


@pytest.mark.parametrize(
    ("probabilities", "votes", "text"),
    [
        ([[0.5, 0.5]], [[2, 1]], r"votes: found \[2.0, 1.0\] \(sum 3\) in row 0.*divide each utterance's votes"),
        ([[0.5, 0.5]], [[0.5, 0.3, 0.2]], r"probabilities: found shape \(1, 2\), expected \(utterances, 3\)"),
        ([[0.5, 0.5]] * 2, [[0.5, 0.5]], "votes: found 1 rows, expected one for each of 2 predictions"),
        ([[0.5, 0.6]], [[0.5, 0.5]], "probabilities: found .* in row 0.*Pass the softmax"),
        ([], [], "expected .utterances"),
    ],
)
def test_soft_figures_reject_what_is_no_distribution(probabilities, votes, text):
    with pytest.raises(ValueError, match=text):
        soft_scores(probabilities, votes)


@pytest.mark.parametrize(
    ("probabilities", "references", "text"),
    [
        ([[0.5, np.nan, 0.5]], [0], r"row 0, expected finite numbers. Look for a diverged"),
        ([[1, 0, 0], [0.5, 0.2, 0.2]], [0, 1], r"\(sum 0.9\) in row 1, expected numbers from 0 to 1 with the sum 1"),
        ([[1.5, -0.5, 0.0]], [0], r"\[1.5, -0.5, 0.0\] \(sum 1\) in row 0"),
        ([[0.5, 0.5]], [0], r"found shape \(1, 2\), expected \(utterances, 3\).*Check that the model and the labels"),
        ([[0.5, 0.5], [1, 0, 0]], [0, 1], "found rows of different lengths, expected 3 numbers"),
        (np.zeros((0, 3)), [], r"found shape \(0, 3\), expected \(utterances, 3\) with one utterance or more"),
        ([[1, 0, 0]], [0, 1], r"of shape \(2,\), expected one integer class index for each of the 1 rows"),
        ([[1, 0, 0]], ["angry"], "Pass indices into the labels, not names"),
        ([[1, 0, 0], [1, 0, 0]], [0, 3], r"references: found 3 in row 1, expected 0 to 2"),
        ([[1, 0, 0]], [-100], r"references: found -100 in row 0, expected 0 to 2.*Leave out unlabelled"),
    ],
)
def test_errors_say_found_expected_and_remedy(probabilities, references, text):
    with pytest.raises(ValueError, match=text):
        score(probabilities, references, LABELS)


def test_a_task_needs_two_labels():
    with pytest.raises(ValueError, match=r"labels: found \['angry'\], expected two classes or more"):
        score(np.ones((3, 1)), np.zeros(3, int), ["angry"])


def test_metric_adds_batches(tmp_path):
    probabilities, references = random_predictions(60, 3)
    metric = SerMetric(labels=LABELS, cache_dir=str(tmp_path))
    for part in range(0, 60, 20):  # arrays and lists, as a training loop gives either
        metric.add_batch(predictions=probabilities[part : part + 20], references=references[part : part + 20].tolist())
    expected = score(probabilities, references, LABELS)
    assert metric.compute() == expected
    assert metric.compute(predictions=probabilities.tolist(), references=references.tolist()) == expected
    on_disk = SerMetric(labels=LABELS, cache_dir=str(tmp_path), keep_in_memory=False)
    assert on_disk.compute(predictions=probabilities, references=references) == expected


def test_metric_combines(tmp_path):
    class Size(evaluate.Metric):
        def _info(self):
            return SerMetric._info(self)

        def _compute(self, predictions, references):
            return {"n": len(references)}

    probabilities, references = random_predictions(30, 3)
    both = evaluate.combine([SerMetric(LABELS, cache_dir=str(tmp_path)), Size(cache_dir=str(tmp_path))])
    figures = both.compute(predictions=probabilities, references=references)
    assert figures == {**score(probabilities, references, LABELS), "n": 30}


def test_metric_raises_on_an_absent_class(tmp_path):
    metric = SerMetric(LABELS, cache_dir=str(tmp_path))
    with pytest.raises(ValueError, match="no utterance with the reference 'sad'"):
        metric.compute(predictions=certain([0, 1], 3), references=[0, 1])


def test_metric_loads_from_its_file(tmp_path):
    metric = evaluate.load(str(Path(metrics.__file__)), labels=["happy", "sad"], cache_dir=str(tmp_path))
    metric.add_batch(predictions=[[0.9, 0.1], [0.6, 0.4]], references=[0, 1])
    assert metric.compute()["uar"] == 0.5


def test_confidence_at_the_edge_of_a_bin_stays_in_it_however_it_is_rounded():
    beyond = np.nextafter(0.6, 1)  # as 0.6 / (0.6 + 0.3 + 0.1) is
    bins = calibration_bins(np.array([0.6, beyond]), np.array([1, 1]))
    assert np.flatnonzero(bins[0]).tolist() == [8]
    assert calibration_bins(np.array([0.6 + 1e-6]), np.array([1]))[0, 9] == 1


def test_doubts_that_differ_by_rounding_are_equal():
    noise = 1e-8 * np.random.default_rng(0).standard_normal((4, 1))
    predicted = np.array([[0.6, 0.3, 0.1]] * 4) + noise * [1, -1, 0]
    votes = np.array([[1.0, 0, 0], [0.8, 0.2, 0], [0.5, 0.5, 0], [0.4, 0.3, 0.3]])
    assert soft_scores(predicted, votes)["entropy_correlation"] is None


def test_a_difference_of_rounding_is_none():
    assert difference(0.1 + 0.2, 0.3) == 0 and 0.1 + 0.2 != 0.3
    assert difference(0.5, 0.75) == -0.25
