"""Training without descent: a linear head fitted on one vector a clip, saved as any other model is.

Its coefficients become the head. What the encoder gives is read from the cache of frozen outputs where there is one, so
that further folds need not compute it again.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from datasets import Dataset
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, recall_score
from sklearn.model_selection import GroupKFold
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers.trainer_utils import TrainOutput

from hf_ser.augment.views import with_views
from hf_ser.inputs.speakers import enrolment_rows
from hf_ser.models import PRESETS, SOLVED_HEADS, TEXT_PRESETS, SerConfig
from hf_ser.models.configuration_ser import AUDIO, TEXT
from hf_ser.models.dimensions import concordance_loss
from hf_ser.models.heads import Sequences, SpeakerMeans, Standardisation, context_apart
from hf_ser.models.networks import FITTED
from hf_ser.runs.calibration import fit_temperature
from hf_ser.runs.scores import DIGITS
from hf_ser.training.building import Candidate
from hf_ser.training.dimension_fits import DimensionCoefficients, DimensionFit, copy_dimensions, fitted_dimensions
from hf_ser.training.parsing import settings
from hf_ser.training.ridge import INNER_FOLDS, LEAST_SCALE, PENALTIES, PENALTY, ridge_solutions, row_products
from hf_ser.training.trainer import SerTrainer

NEVER_SEEN = -30.0
"""Bias of a class without a training row."""
SHARPNESS = 10.0
"""What the answers of a ridge, near 0 and 1, are multiplied by to be logits, before a temperature is fitted to them."""

CONTEXT_WEIGHT = 0.3
"""What the standardised mean of the previous turns is multiplied by, see scripts/recipes/README.md."""


class Coefficients(NamedTuple):
    """A linear layer of the classes that have training rows.

    Shapes: classes `(known,)`, indices among all of them; weight `(known, size)`, bias `(known,)`.
    """

    classes: np.ndarray
    weight: np.ndarray
    bias: np.ndarray

    def answers(self, vectors: np.ndarray, n_classes: int) -> np.ndarray:
        """Shapes: vectors `(rows, size)`; returns `(rows, n_classes)`."""
        answers = np.full((len(vectors), n_classes), NEVER_SEEN)
        answers[:, self.classes] = vectors @ self.weight.T + self.bias
        return answers

    def sharpened(self, factor: float) -> "Coefficients":
        """All answers of the classes that are known times a factor."""
        return Coefficients(self.classes, factor * self.weight, factor * self.bias)

    def unstandardised(self, mean: np.ndarray, scale: np.ndarray) -> "Coefficients":
        """For vectors as they were before `(vectors - mean) / scale`; both `(size,)`."""
        weight = self.weight / scale
        return Coefficients(self.classes, weight, self.bias - weight @ mean)


class LogisticFit:
    """Logistic regression; a row whose target is shared by several classes counts for each by its share.

    Shapes: vectors `(rows, size)`, targets `(rows, classes)`.
    """

    strengths = (0.001, 0.003, 0.01, 0.03, 0.1)
    """Inverse, among which speakers that were left out choose."""
    strength_name = "regularisation_c"
    gives_logits = True
    class_balance = 1.0

    def __init__(self, vectors: np.ndarray, targets: np.ndarray, copies: int = 1):
        self.vectors, self.targets = vectors, targets / copies

    def fit(self, rows: np.ndarray, strength: float) -> Coefficients:
        """Solve for the coefficients of some of the rows, by their indices."""
        of, classes = np.nonzero(self.targets[rows])
        regression = LogisticRegression(C=strength, max_iter=1000)
        regression.fit(self.vectors[rows][of], classes, sample_weight=self.targets[rows][of, classes])
        weight, bias = regression.coef_, regression.intercept_
        if len(regression.classes_) == 2:  # scikit-learn keeps one row for two classes
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        return Coefficients(regression.classes_, weight, bias)

    def fits(self, rows: np.ndarray, strengths: Sequence[float]) -> Iterator[Coefficients]:
        """`fit` with each of several strengths."""
        return (self.fit(rows, strength) for strength in strengths)


class RidgeFit:
    """Ridge regression on the targets, in which by default every class weighs alike.

    Solved between the rows where these are fewer than the features, else between the features, so that memory grows
    with the smaller of the two. What a row's targets sum to is its weight: it says how much the row counts, not what
    its answer shall be.

    Args:
        copies: How many rows each clip has; all of them together weigh as much as one would.
        class_balance: Power by which a class weighs the more, the rarer it is; 1: all classes weigh alike; 0: all rows.

    Shapes: as LogisticFit's.
    """

    strengths = PENALTIES
    strength_name = PENALTY
    gives_logits = False

    def __init__(self, vectors: np.ndarray, targets: np.ndarray, copies: int = 1, class_balance: float = 1.0):
        self.vectors, self.row_weights, self.copies = vectors, targets.sum(1), copies
        self.class_balance = class_balance
        self.targets = targets / np.where(self.row_weights > 0, self.row_weights, 1.0)[:, None]
        self.products = row_products(vectors)

    def fit(self, rows: np.ndarray, strength: float) -> Coefficients:
        """Solve for the coefficients of some of the rows, by their indices."""
        return next(self.fits(rows, [strength]))

    def fits(self, rows: np.ndarray, strengths: Sequence[float]) -> Iterator[Coefficients]:
        """`fit` with each of several strengths, which have the products of the features in common."""
        of_classes = self.row_weights[rows] @ self.targets[rows]
        classes = np.flatnonzero(of_classes)
        targets = self.targets[np.ix_(rows, classes)]
        counts = of_classes[classes]
        of_class = counts**-self.class_balance * len(rows) / (counts ** (1 - self.class_balance)).sum()
        weights = self.row_weights[rows] * (targets @ of_class) / self.copies
        centred = targets - 1 / len(classes)
        for weight, bias in ridge_solutions(self.vectors, self.products, rows, centred, weights, strengths):
            yield Coefficients(classes, weight, bias)


FITS = {"functionals": LogisticFit, "random_kernels": RidgeFit, "logistic": LogisticFit, "ridge": RidgeFit}
"""How the head is solved for, by the network under it or by its own name.

UAR on validation speakers of RAVDESS, mean of EmoBox's six folds, vectors not scaled by speaker: a ridge on the
functionals alone gives 58.5 %, an RBF-SVM 54.8 %, a kernel ridge of RBF kernels 58.5 % at best; a penalty on what
differs between speakers 58.0 % where the plain ridge gives 58.4 %.
"""


OF_DESCENT = (
    *("stages", "search", "learning_rate", "head_learning_rate"),
    *("num_train_epochs", "max_steps", "warmup_steps", "lr_scheduler_type", "lr_scheduler_kwargs", "optim"),
    *("optim_args", "weight_decay", "max_grad_norm", "adam_beta1", "adam_beta2", "adam_epsilon"),
    *("class_weights", "mixup", "label_smoothing_factor"),
    *("ema_decay", "load_best_model_at_end", "metric_for_best_model"),
    *("gradient_accumulation_steps", "gradient_checkpointing", "torch_compile"),
)
"""Settings of the training that a fit has no use for, but for those that a study may give to all its systems."""
FITTED_HEAD = {"head": "linear", "pooling": "mean"}
"""What its head is in any case, and may be said."""


def is_solved(config: SerConfig) -> bool:
    """Whether a model's head is solved for at once: by its own kind, or by that of the network under it."""
    network = getattr(config.audio_config, "network", None)
    return config.head in SOLVED_HEADS or (config.modalities == (AUDIO,) and network in FITTED)


def fitted_network(models: list) -> str | None:
    """The network whose head is solved for in any case, of an audio-only model; arguments as of `reject_descent`."""
    name = getattr(models[0], "audio_model", None)
    return name if name in FITTED and len(models) == 1 else None


def reject_descent(models: list, head, augment, adapt, training) -> None:
    """Make sure that no setting of gradient descent is given for a head that is solved for.

    Args:
        models: AudioArguments, TextArguments or both.
        head, augment, adapt, training: HeadArguments or FusionArguments, AugmentArguments (None of text alone),
            AdaptArguments and SerTrainingArguments.

    Raises:
        ValueError: one is, the encoder has random weights, or speeds or previous turns are given for
            another head.
    """
    network, has_solved_head = fitted_network(models), head.chosen in SOLVED_HEADS
    if not has_solved_head and (speeds := getattr(models[0], "speeds", None)):
        raise ValueError(
            f"--speeds is {speeds}, --{'fusion' if len(models) == 2 else 'head'} {head.chosen}: found a head that does "
            f"not average over the speeds of a clip. Expected {' or '.join(SOLVED_HEADS)}; or, to change clips in "
            "training alone, --augment speed."
        )
    if not has_solved_head and (turns := getattr(models[-1], "context", 0)):
        raise ValueError(
            f"--context is {turns}, --{'fusion' if len(models) == 2 else 'head'} {head.chosen}: found a head that "
            f"reads no previous turns. Expected {' or '.join(SOLVED_HEADS)}: add it, or leave --context out."
        )
    if not has_solved_head and network is None:
        return
    named = {
        name: value for one in models for name, value in vars(one).items() if name in ("audio_model", "text_model")
    }
    for name, value in named.items():
        if has_solved_head and network is None and value in (*PRESETS, *TEXT_PRESETS):
            raise ValueError(
                f"--{'fusion' if len(models) == 2 else 'head'} {head.chosen}, --{name} {value}: found a network of "
                "random weights, which such a head leaves as it is. Expected a pretrained encoder, such as "
                "openai/whisper-base for audio and sentence-transformers/all-MiniLM-L6-v2 for text, or random_kernels "
                "for audio alone, which has a ridge in any case."
            )
    if augment is not None and augment.augment and not training.cache_views:
        raise ValueError(
            f"--augment is {augment.augment}: found no --cache_views, and a head that is solved for has no epochs in "
            "which to meet changed clips. Expected --cache_views 2 or the like: so many changed copies of each clip."
        )
    of_training = settings(training)
    given = {name: of_training[name] for name in OF_DESCENT if name in of_training} | settings(adapt)
    if has_solved_head and adapt.freeze in ("both" if len(models) == 2 else next(iter(named)).split("_")[0], "both"):
        given.pop("freeze", None)  # it is in any case
    own = FITTED_HEAD if network else {"head": head.chosen, "fusion": head.chosen, "pooling": "mean"}
    own = own | {"class_balance": head.class_balance}  # which only a ridge has
    given |= {name: value for name, value in settings(head).items() if own.get(name) != value}
    if given:
        name, value = next(iter(given.items()))
        ridge = network == "random_kernels" or head.chosen == "ridge"
        rare = ridge and name == "class_weights"
        solved = f"--audio_model {network}" if network else f"--head {head.chosen}"
        raise ValueError(
            f"--{name} is {getattr(value, 'value', value)}, {solved}: found a setting that a "
            "fit has no use for: its linear head is solved for at once, on the clips as they are"
            f"{', by a ridge in which all classes weigh alike' * rare}. Expected none: leave it out, or name a network "
            "that is trained in epochs: --audio_model functionals_mlp or crnn."
        )


class FittedTrainer(SerTrainer):
    """SerTrainer for a linear head on one vector a clip: solves for the head instead of descending.

    The strength of its penalty is chosen on speakers who were left out in turn. The head is then solved for on training
    and validation speakers together: nothing is left for the latter to choose. Of audio and text each is solved for by
    itself, and their logits are added: where one is missing, the other answers as if it were alone. Dimensions are
    solved for by a ridge on both together, where a missing one counts as the mean.

    Args:
        candidate: A model of audio alone with one of FITTED, or any with one of SOLVED_HEADS; no adapter.
        labels: Emotion names in class order; none of a model that predicts dimensions alone.
        enrolment_clips: Of a head that takes speakers' means off: clips that a speaker is known by when rows are
            predicted; 0: all of them.
        class_balance: As of RidgeFit, of head `ridge`.
        kwargs: As SerTrainer's.

    Attributes:
        left_out: Logits and labels of all these speakers' rows, each answered by a head that was not solved for on its
            speaker; None before training, and where there is only one speaker.

    Raises:
        ValueError: the head is not one linear layer on the vectors.
    """

    def __init__(
        self,
        candidate: Candidate,
        labels: list[str],
        enrolment_clips: int = 0,
        class_balance: float = 1.0,
        **kwargs,
    ):
        super().__init__(candidate, labels, **kwargs)
        self.enrolment_clips = enrolment_clips
        self.view = kwargs.get("view")
        self.left_out: tuple[np.ndarray, np.ndarray] | None = None
        config, self.network = candidate.model.config, getattr(candidate.encoders.get("audio"), "network", None)
        if config.head in SOLVED_HEADS:
            self.method, sizes = FITS[config.head], candidate.model.head.sizes
        else:
            self.method, sizes = FITS[config.audio_config.network], [self.network.size]
        if config.head == "ridge":
            self.method = partial(self.method, class_balance=class_balance)
        self.classifier = linear_head(candidate.model, sum(sizes))

    def train(self, resume_from_checkpoint=None, **kwargs) -> TrainOutput:
        """Solve for the head; there is nothing to resume."""
        self.model.to(self.args.device).eval()
        parts = [self.train_dataset, self.eval_dataset]
        speakers = np.concatenate([speakers_of(part) for part in parts])
        vectors, targets = (np.concatenate(both) for both in zip(*self.views_of(parts), strict=True))
        copies = len(vectors) // len(speakers)
        originals = np.arange(len(vectors)) < len(speakers)
        speakers = np.tile(speakers, copies)
        vectors = self.without_speakers(vectors, speakers, originals)
        has_modality = [~np.isnan(vectors[:, :, columns]).any((1, 2)) for columns in self.columns]
        mean, scale = np.nanmean(vectors[originals], (0, 1)), np.nanstd(vectors[originals], (0, 1))
        vectors = np.where(np.isnan(vectors), mean, vectors)
        scale[scale < LEAST_SCALE] = 1.0
        if self.model.config.context_turns:
            scale[-self.model.config.size_of(TEXT) :] /= CONTEXT_WEIGHT
        is_folded = self.statistics is None  # else the model standardises, and cuts off
        vectors = (vectors - mean) / scale if is_folded else self.standardised(vectors, mean, scale)
        n_classes = self.model.config.num_labels
        targets, annotated = targets[:, :n_classes], targets[:, n_classes:]
        copies_of = {"speakers": speakers, "originals": originals, "copies": copies}
        loss, found = 0.0, {}
        if n_classes:
            fitted, found, loss = self.solve_classes(vectors, targets, has_modality, **copies_of)
            copy_coefficients(self.classifier, fitted.unstandardised(mean, scale) if is_folded else fitted)
        if annotated.shape[1]:
            fitted, of_dimensions, of_ccc = self.solve_dimensions(vectors, annotated, **copies_of)
            copy_dimensions(self.classifier, fitted.unstandardised(mean, scale) if is_folded else fitted)
            loss, found = loss + of_ccc, found | of_dimensions
        self.state.epoch = 1.0
        names = {"inner_uar": "eval_uar", "inner_ccc": "eval_ccc"}
        reached = {names[name]: found[name] for name in names if found.get(name) is not None}
        self.log({"loss": loss, **found} | reached)
        self.state.best_metric = found["inner_uar" if n_classes else "inner_ccc"]
        self.state.best_global_step = 0
        return TrainOutput(0, loss, {})

    def solve_classes(
        self, vectors, targets, has_modality, speakers, originals, copies
    ) -> tuple[Coefficients, dict[str, float | None], float]:
        """The coefficients of the classes, what was chosen in solving for them, and their loss.

        Shapes: vectors `(rows, views, size)`, targets `(rows, classes)`; has_modality `(rows,)` each; speakers and
        originals `(rows,)`.
        """
        views = vectors.shape[1]
        counted = targets.any(1)  # a row of no weight, of raters who agree on nothing, has no answer to score by
        solved, answers = [], np.zeros_like(targets)
        for columns, is_there in zip(self.columns, has_modality, strict=True):
            chosen = counted & is_there
            rows = np.concatenate(vectors[chosen][:, :, columns])
            method = self.method(rows, np.repeat(targets[chosen], views, 0), copies * views)
            solved.append(fitted_head(method, speakers[chosen].tolist(), originals[chosen], views))
            if solved[-1][2] is not None:
                answers[chosen] += solved[-1][2]
        fitted, found = side_by_side([one[0] for one in solved]), found_of(self.model.config.modalities, solved)
        scored = originals & counted
        if all(one[2] is not None for one in solved):
            self.left_out = answers[scored], targets[scored].argmax(1)
            if len(solved) > 1:
                found["inner_uar"] = uar_of(*self.left_out)
        return fitted, found, mean_loss(fitted, vectors[originals].mean(1), targets[originals])

    def solve_dimensions(
        self, vectors, annotated, speakers, originals, copies
    ) -> tuple[DimensionCoefficients, dict[str, float | None], float]:
        """The coefficients of the dimensions, what was chosen in solving for them, and their loss, one minus the CCC.

        Shapes: vectors `(rows, views, size)`, annotated `(rows, dimensions)`; speakers and originals `(rows,)`.
        """
        views = vectors.shape[1]
        method = DimensionFit(np.concatenate(vectors), np.repeat(annotated, views, 0), copies * views)
        fitted = fitted_dimensions(method, speakers.tolist(), originals, views)
        strengths = zip(self.model.config.dimensions, fitted.strengths.tolist(), strict=True)
        found = {f"{PENALTY}_{name}": strength for name, strength in strengths}
        answers = vectors[originals].mean(1) @ fitted.weight.T + fitted.bias
        loss = concordance_loss(torch.from_numpy(answers), torch.from_numpy(annotated[originals])).item()
        return fitted, found | {"inner_ccc": fitted.inner_ccc}, loss

    @property
    def columns(self) -> list[slice]:
        """The columns of the vectors that each modality has; those of previous turns belong to the text."""
        sizes = list(self.model.head.sizes) if self.model.config.head in SOLVED_HEADS else [self.classifier.in_features]
        if self.model.config.context_turns:
            sizes[-2:] = [sum(sizes[-2:])]
        return [slice(end - size, end) for end, size in zip(np.cumsum(sizes), sizes, strict=True)]

    @property
    def speaker_means(self) -> SpeakerMeans | None:
        """The module of the model that takes speakers' means off; None where none are."""
        return getattr(self.model.head, "speakers", None)

    @torch.no_grad()
    def without_speakers(self, vectors: np.ndarray, speakers: np.ndarray, originals: np.ndarray) -> np.ndarray:
        """The vectors without the means of their speakers, by all clips of each; of every copy by these copies.

        Shapes: vectors `(rows, views, size)`, speakers and originals `(rows,)`.

        Raises:
            ValueError: a row without a speaker.
        """
        if self.speaker_means is None:
            return vectors
        for part in (self.train_dataset, self.eval_dataset):
            enrolment_rows(part)  # refuses
        clips, given = int(originals.sum()), torch.from_numpy(vectors).to(self.speaker_means.mean)
        rows = [np.flatnonzero(speakers[:clips] == one) for one in sorted(set(speakers))]
        self.speaker_means.fit(given[:clips], rows)
        for copy in given.split(clips):
            for some in rows:
                copy[some] -= self.speaker_means.offset(copy[some])
        return given.double().cpu().numpy()

    @torch.no_grad()
    def outputs(self, dataset: Dataset, prefix: str = "test") -> np.ndarray:
        """As SerTrainer's; a head that takes speakers' means off knows each by clips that are drawn for it."""
        if self.speaker_means is None:
            return super().outputs(dataset, prefix)
        vectors = torch.from_numpy(self.vectors_of(dataset)[0]).to(self.speaker_means.mean)
        speakers, offsets = np.array(dataset.with_format(None)["speaker"][:]), torch.zeros_like(vectors)
        for speaker, rows in enrolment_rows(dataset, self.enrolment_clips, self.args.seed).items():
            offsets[np.flatnonzero(speakers == speaker)] = self.speaker_means.offset(vectors[rows])
        is_there = ~vectors.isnan().any(-1)
        audio = Sequences(vectors, is_there, is_there.all(1))
        return self.model.head(audio=audio, speaker_statistics=offsets)[0].double().cpu().numpy()

    def views_of(self, parts: list[Dataset]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """`vectors_of` each part, then of each changed view of it: so many as `--cache_views`, if clips are changed."""
        if self.view is None:
            yield from map(self.vectors_of, parts)
            return
        train, validation = parts
        parts = [train, with_views(validation, self.view, self.args.cache_views)]
        for view in (None, *range(self.args.cache_views)):
            self.view.set(view)
            yield from map(self.vectors_of, parts)

    @property
    def statistics(self) -> nn.Module | None:
        """The module of the model that standardises vectors; None where the coefficients have to."""
        if hasattr(self.model.head, "standardisation"):
            return self.model.head.standardisation
        return getattr(self.network, "standardise", None)

    @torch.no_grad()
    def vectors_of(self, rows: Dataset) -> tuple[np.ndarray, np.ndarray]:
        """The vectors of rows, the same in every process, and their targets.

        Shapes: vectors `(rows, views, size)`, NaN in the part of a modality that a row lacks; targets
        `(rows, outputs)`.
        """
        loader = DataLoader(
            rows,
            batch_size=self.args.per_device_eval_batch_size,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
        )
        vectors, targets = [], []
        for batch in tqdm(loader, desc="reading vectors", unit=" batches", disable=self.args.disable_tqdm or None):
            inputs = dict(self._prepare_inputs(batch))
            labels = inputs.pop("labels")
            if not labels.is_floating_point():
                labels = nn.functional.one_hot(labels, self.classifier.out_features)
            vectors.append(self.vectors_in(self.model.frozen_part(**inputs), len(labels)))
            targets.append(labels.double().cpu().numpy())
        return np.concatenate(vectors), np.concatenate(targets)

    def vectors_in(self, outputs: dict[str, torch.Tensor], rows: int) -> np.ndarray:
        """The outputs of the frozen encoders side by side, NaN where a row lacks the modality, or previous turns.

        Shapes: `(rows, views, size)`; a text is the same beside each view of the audio.
        """
        config, parts = self.model.config, []
        for modality in config.modalities:
            reads_context = bool(config.context_turns) and modality == TEXT
            hidden = outputs.get(f"{modality}_hidden")
            if hidden is None:
                parts += [np.full((rows, 1, config.size_of(modality)), np.nan)] * (1 + reads_context)
                continue
            mask = outputs[f"{modality}_mask"]
            # Functionals are given as features of one frame.
            one = Sequences(hidden if hidden.dim() == 3 else hidden.flatten(1)[:, None], mask, mask.any(1))
            for sequences in context_apart(one) if reads_context else (one,):
                part = sequences.hidden.double().cpu().numpy()
                part[~sequences.present.cpu().numpy()] = np.nan
                parts.append(part)
        views = max(part.shape[1] for part in parts)
        return np.concatenate([np.broadcast_to(part, (rows, views, part.shape[2])) for part in parts], axis=2)

    @torch.no_grad()
    def standardised(self, vectors: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Give the model its statistics, and the vectors as it then hands them on.

        Shapes: vectors `(rows, views, size)`, mean and scale `(size,)`.
        """
        module = self.statistics
        if isinstance(module, Standardisation):
            module.mean.copy_(torch.from_numpy(mean))
            module.deviation.copy_(torch.from_numpy(scale))
            return module(torch.from_numpy(vectors).to(module.mean)).double().cpu().numpy()
        module.running_mean.copy_(torch.from_numpy(mean))
        module.running_var.copy_(torch.from_numpy(scale**2))
        made = self.network.vectors(torch.from_numpy(np.concatenate(vectors)).to(module.running_mean))
        return made.unflatten(0, vectors.shape[:2]).double().cpu().numpy()


def speakers_of(rows: Dataset) -> list[str]:
    """Speaker of each row; a row without one counts as a speaker by itself."""
    named = rows.with_format(None)
    pairs = zip(named["id"][:], named["speaker"][:], strict=True)
    return [f"row {name}" if speaker is None else f"speaker {speaker}" for name, speaker in pairs]


def linear_head(model: nn.Module, size: int) -> nn.Linear:
    """The layer that coefficients can be copied into.

    Raises:
        ValueError: there is none of this width.
    """
    classifier = getattr(getattr(model, "head", None), "classifier", None)
    if not isinstance(classifier, nn.Linear) or classifier.in_features != size:
        raise ValueError(
            f"The head is {classifier}, expected one linear layer of the {size} functionals: build the model with head "
            f"linear and pooling mean, and give no LoRA with --audio_model {' or '.join(FITTED)}."
        )
    return classifier


def fitted_head(
    method: LogisticFit | RidgeFit, speakers: list[str], scored: np.ndarray | None = None, views: int = 1
) -> tuple[Coefficients, dict[str, float | None], np.ndarray | None]:
    """The head of all rows, with the strength, and of a ridge the sharpness, that suit speakers who were left out.

    Args:
        method: With its rows.
        speakers: Who speaks in each clip.
        scored: Which clips count in these choices: all by default.
        views: Rows of each clip, one after another, over which its answer is averaged.

    Returns:
        The coefficients; what was chosen, by name; and the logits of left-out speakers, None where there was only one.

    Shapes:
        the logits: `(clips, classes)`.
    """
    scored = np.ones(len(speakers), bool) if scored is None else scored
    strength, inner_uar, answers = chosen_strength(method, speakers, scored, views)
    fitted, found = method.fit(np.arange(len(method.targets)), strength), {method.strength_name: strength}
    if not method.gives_logits:
        factor = SHARPNESS
        if answers is not None:
            factor /= fit_temperature(SHARPNESS * answers[scored], method.targets[::views][scored].argmax(1))
            answers = factor * answers
        fitted, found = fitted.sharpened(factor), found | {"sharpness": factor}
    return fitted, found | {"inner_uar": inner_uar}, answers


def chosen_strength(
    method: LogisticFit | RidgeFit, speakers: list[str], scored: np.ndarray | slice = slice(None), views: int = 1
) -> tuple[float, float | None, np.ndarray | None]:
    """The strength that does best on training speakers who were left out, its UAR over their rows, and its answers.

    Of equally good ones the first. Of a single speaker it cannot be found: the middle one, and None. Arguments as of
    `fitted_head`.

    Shapes:
        the answers: `(clips, classes)`.
    """
    folds = min(INNER_FOLDS, len(set(speakers)))
    if folds < 2:
        return method.strengths[len(method.strengths) // 2], None, None
    n_classes, truth = method.targets.shape[1], method.targets[::views].argmax(1)
    answers = {strength: np.empty((len(truth), n_classes)) for strength in method.strengths}
    # The views of a clip are the rows behind its first.
    first, places = views * np.arange(len(truth))[:, None], np.arange(views)
    splits = list(GroupKFold(folds).split(truth, groups=speakers))
    for inner, left_out in tqdm(splits, desc=f"choosing {method.strength_name}", disable=None):
        fits = method.fits((first[inner] + places).ravel(), method.strengths)
        vectors = method.vectors[first[left_out] + places].mean(1)  # linear: the mean of their answers
        for answer, fitted in zip(answers.values(), fits, strict=True):
            answer[left_out] = fitted.answers(vectors, n_classes)
    uar = {
        strength: recall_score(
            truth[scored], answer[scored].argmax(1), labels=np.unique(truth[scored]), average="macro", zero_division=0
        )
        for strength, answer in answers.items()
    }
    scores = uar
    if method.class_balance != 1:  # classes count in the choice as they do in the fit
        weights = np.bincount(truth[scored])[truth[scored]] ** -float(method.class_balance)
        scores = {
            strength: accuracy_score(truth[scored], answer[scored].argmax(1), sample_weight=weights)
            for strength, answer in answers.items()
        }
    best = max(scores, key=lambda strength: round(scores[strength], DIGITS))
    return best, float(uar[best]), answers[best]


def side_by_side(parts: Sequence[Coefficients]) -> Coefficients:
    """The sum of linear layers, each of columns of its own; a class that one does not know is left to the others."""
    classes = np.unique(np.concatenate([one.classes for one in parts]))
    weight, bias = [], np.zeros(len(classes))
    for one in parts:
        places = np.searchsorted(classes, one.classes)
        weight.append(np.zeros((len(classes), one.weight.shape[1])))
        weight[-1][places] = one.weight
        bias[places] += one.bias
    return Coefficients(classes, np.concatenate(weight, axis=1), bias)


def found_of(modalities: Sequence[str], solved: Sequence[tuple]) -> dict[str, float | None]:
    """What was chosen in solving for each modality, by name; of two the modality is in the name."""
    if len(solved) == 1:
        return dict(solved[0][1])
    chosen = {
        f"{name}_{modality}": value
        for modality, (_, found, _) in zip(modalities, solved, strict=True)
        for name, value in found.items()
        if name != "inner_uar"
    }
    return chosen | {"inner_uar": None}


def uar_of(logits: np.ndarray, truth: np.ndarray) -> float:
    """The mean recall of the classes that are there; logits `(rows, classes)`, truth `(rows,)`."""
    return float(recall_score(truth, logits.argmax(1), labels=np.unique(truth), average="macro", zero_division=0))


def mean_loss(fitted: Coefficients, vectors: np.ndarray, targets: np.ndarray) -> float:
    """Cross entropy over the rows; vectors `(rows, size)`, targets `(rows, classes)`."""
    logarithms = log_softmax(fitted.answers(vectors, targets.shape[1]), axis=1)
    return float(-(targets * logarithms).sum(1).mean())


def copy_coefficients(classifier: nn.Linear, fitted: Coefficients) -> None:
    """Into a linear layer of all classes, of which the fit may know fewer."""
    with torch.no_grad():
        classifier.weight.zero_()
        classifier.bias.fill_(NEVER_SEEN)
        classifier.weight[fitted.classes] = torch.from_numpy(fitted.weight).to(classifier.weight)
        classifier.bias[fitted.classes] = torch.from_numpy(fitted.bias).to(classifier.bias)
