"""Training without descent: logistic regression on a clip's functionals, saved as any other model is.

Its coefficients, and the standardisation before them, become the linear head. What the encoder gives is read from the
cache of frozen outputs where there is one, so that further folds need not compute it again.
"""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.model_selection import GroupKFold
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers.trainer_utils import TrainOutput

from hf_ser.training.building import Candidate
from hf_ser.training.trainer import SerTrainer

REGULARISATIONS = (0.001, 0.003, 0.01, 0.03, 0.1)
"""Inverse strengths among which speakers that were left out choose."""
INNER_FOLDS = 5
LEAST_SCALE = 1e-6
"""Deviation under which a functional counts as constant."""
NEVER_SEEN = -30.0
"""Bias of a class without a training row."""


class FunctionalsTrainer(SerTrainer):
    """SerTrainer for network "functionals" with a linear head: fits the head instead of descending.

    Args:
        candidate: A `SerAudioForAudioClassification` of a functionals encoder, without an adapter.
        labels: Emotion names in class order.
        kwargs: As SerTrainer's.

    Raises:
        ValueError: the head is not one linear layer on the functionals.
    """

    def __init__(self, candidate: Candidate, labels: list[str], **kwargs):
        super().__init__(candidate, labels, **kwargs)
        self.encoder = candidate.encoders["audio"]
        self.classifier = linear_head(candidate.model, self.encoder.network.size)

    def train(self, resume_from_checkpoint=None, **kwargs) -> TrainOutput:
        """Fit the head on the training rows and score it on the validation rows; there is nothing to resume."""
        self.model.to(self.args.device).eval()
        vectors, targets = self.training_vectors()
        mean, scale = vectors.mean(0), vectors.std(0)
        scale[scale < LEAST_SCALE] = 1.0
        vectors = (vectors - mean) / scale
        strength, inner_uar = chosen_strength(vectors, targets, self.training_speakers())
        fitted = fit(vectors, targets, strength)
        copy_coefficients(self.classifier, fitted, mean, scale)
        self.state.epoch = 1.0
        self.log({"loss": mean_loss(fitted, vectors, targets), "regularisation_c": strength, "inner_uar": inner_uar})
        metrics = self.evaluate()
        self.state.best_metric = metrics["eval_uar"]
        return TrainOutput(0, self.state.log_history[0]["loss"], metrics)

    @torch.no_grad()
    def training_vectors(self) -> tuple[np.ndarray, np.ndarray]:
        """Functionals `(rows, size)` in the order of the rows, the same in every process; targets `(rows, classes)`."""
        loader = DataLoader(
            self.train_dataset,
            batch_size=self.args.per_device_eval_batch_size,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
        )
        vectors, targets = [], []
        for batch in tqdm(loader, desc="functionals", unit=" batches", disable=self.args.disable_tqdm):
            inputs = dict(self._prepare_inputs(batch))
            labels = inputs.pop("labels")
            if not labels.is_floating_point():
                labels = nn.functional.one_hot(labels, self.classifier.out_features)
            vectors.append(self.model.audio_sequences(**inputs).hidden[:, 0].double().cpu().numpy())
            targets.append(labels.double().cpu().numpy())
        return np.concatenate(vectors), np.concatenate(targets)

    def training_speakers(self) -> list[str]:
        """Speaker of each training row; a row without one counts as a speaker by itself."""
        speakers = self.train_dataset.with_format(None)["speaker"][:]
        return [f"row {row}" if speaker is None else f"speaker {speaker}" for row, speaker in enumerate(speakers)]


def linear_head(model: nn.Module, size: int) -> nn.Linear:
    """The layer that coefficients can be copied into.

    Raises:
        ValueError: there is none of this width.
    """
    classifier = getattr(getattr(model, "audio_head", None), "classifier", None)
    if not isinstance(classifier, nn.Linear) or classifier.in_features != size:
        raise ValueError(
            f"The head is {classifier}, expected one linear layer of the {size} functionals: give --head linear, "
            "--pooling mean and no LoRA with --audio_model functionals."
        )
    return classifier


def chosen_strength(vectors: np.ndarray, targets: np.ndarray, speakers: list[str]) -> tuple[float, float | None]:
    """The strength that does best on training speakers who were left out, and its UAR over their rows.

    Of a single speaker it cannot be told: the middle one, and None.

    Shapes:
        vectors `(rows, size)`, targets `(rows, classes)`.
    """
    folds = min(INNER_FOLDS, len(set(speakers)))
    if folds < 2:
        return REGULARISATIONS[len(REGULARISATIONS) // 2], None
    truth = targets.argmax(1)
    answers = {strength: np.empty_like(truth) for strength in REGULARISATIONS}
    splits = list(GroupKFold(folds).split(vectors, groups=speakers))
    for strength, answer in tqdm(answers.items(), desc="choosing C", disable=None):
        for inner, left_out in splits:
            answer[left_out] = fit(vectors[inner], targets[inner], strength).predict(vectors[left_out])
    present = np.unique(truth)
    uar = {s: recall_score(truth, a, labels=present, average="macro", zero_division=0) for s, a in answers.items()}
    best = max(uar, key=uar.get)
    return best, float(uar[best])


def fit(vectors: np.ndarray, targets: np.ndarray, strength: float) -> LogisticRegression:
    """Logistic regression; a row whose target is shared by several classes counts for each by its share.

    Shapes: vectors `(rows, size)`, targets `(rows, classes)`.
    """
    rows, classes = np.nonzero(targets)
    regression = LogisticRegression(C=strength, max_iter=1000)
    return regression.fit(vectors[rows], classes, sample_weight=targets[rows, classes])


def mean_loss(fitted: LogisticRegression, vectors: np.ndarray, targets: np.ndarray) -> float:
    """Cross entropy over the rows; vectors `(rows, size)`, targets `(rows, classes)`."""
    logarithms = fitted.predict_log_proba(vectors)
    return float(-(targets[:, fitted.classes_] * logarithms).sum(1).mean())


def copy_coefficients(classifier: nn.Linear, fitted: LogisticRegression, mean: np.ndarray, scale: np.ndarray) -> None:
    """Into a linear layer of all classes, of which the regression may know fewer, for vectors as they are.

    Shapes: mean and scale, of the vectors before they were standardised, `(size,)`.
    """
    weight, bias = fitted.coef_, fitted.intercept_
    if len(fitted.classes_) == 2:  # scikit-learn keeps one row for two classes
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / scale
    bias = bias - weight @ mean
    with torch.no_grad():
        classifier.weight.zero_()
        classifier.bias.fill_(NEVER_SEEN)
        classifier.weight[fitted.classes_] = torch.from_numpy(weight).to(classifier.weight)
        classifier.bias[fitted.classes_] = torch.from_numpy(bias).to(classifier.bias)
