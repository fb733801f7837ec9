"""Training without descent: a linear head that is solved for on one vector a clip, saved as any other model is.

Its coefficients become the head. What the encoder gives is read from the kept features, so that further folds need not
compute it again.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from datasets import Dataset
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers.trainer_utils import TrainOutput

from hf_ser.augment.views import with_views
from hf_ser.inputs.speakers import enrolment_rows
from hf_ser.models import SOLVED_HEADS
from hf_ser.models.configuration_ser import TEXT
from hf_ser.models.dimensions import concordance_loss
from hf_ser.models.heads import Sequences, SpeakerMeans, Standardisation, context_apart
from hf_ser.models.networks import FITTED
from hf_ser.training.building import Candidate
from hf_ser.training.class_fits import (
    FITS,
    Coefficients,
    copy_coefficients,
    fitted_head,
    found_of,
    mean_loss,
    side_by_side,
    uar_of,
)
from hf_ser.training.dimension_fits import DimensionCoefficients, DimensionFit, copy_dimensions, fitted_dimensions
from hf_ser.training.predicting import PredictingTrainer
from hf_ser.training.ridge import LEAST_SCALE, PENALTY

CONTEXT_WEIGHT = 0.3
"""What the standardised mean of the previous turns is multiplied by, see scripts/recipes/README.md."""


class FittedTrainer(PredictingTrainer):
    """Solves for a linear head on one vector a clip, in place of gradient descent.

    The strength of its penalty is chosen on speakers who were left out in turn. The head is then solved for on training
    and validation speakers together: nothing is left for the latter to choose. Of audio and text each is solved for by
    itself, and their logits are added: where one is missing, the other answers as if it were alone, but for the bias of
    the missing one, which stays. Dimensions are solved for by a ridge on both together, where a missing one counts as
    the mean.

    Args:
        candidate: A model of audio alone with one of FITTED, or any with one of SOLVED_HEADS; no adapter.
        labels: Emotion names in class order; none of a model that predicts dimensions alone.
        enrolment_clips: Of a head that takes speakers' means off: clips that a speaker is known by when rows are
            predicted; 0: all of them.
        view: A `View`, which is set to each changed view in turn; or None.
        kwargs: As PredictingTrainer's.

    Attributes:
        left_out: Logits and labels of all these speakers' rows, each answered by a head that was not solved for on its
            speaker; None before training, and where there is only one speaker.

    Raises:
        ValueError: the head is not one linear layer on the vectors.
    """

    def __init__(self, candidate: Candidate, labels: list[str], view=None, enrolment_clips: int = 0, **kwargs):
        super().__init__(candidate, labels, **kwargs)
        self.view, self.enrolment_clips = view, enrolment_clips
        self.left_out: tuple[np.ndarray, np.ndarray] | None = None
        config, self.network = candidate.model.config, getattr(candidate.encoders.get("audio"), "network", None)
        if config.head in SOLVED_HEADS:
            self.method, sizes = FITS[config.head], candidate.model.head.sizes
        else:
            self.method, sizes = FITS[config.audio_config.network], [self.network.size]
        if (power := self.args.class_weights) is not None:
            self.method = partial(self.method, class_power=power)
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
        """As PredictingTrainer's; a head that takes speakers' means off knows each by clips that are drawn for it."""
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
        """`vectors_of` each part, then of each changed view of it: `cache_views` of them, where clips are changed."""
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
