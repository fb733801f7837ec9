"""Training: the recommended recipe, a step of fine-tuning, and an epoch on stored features, each beside a plain way."""

import os

import numpy as np
import soundfile
import soxr
import torch
from sklearn.linear_model import RidgeClassifierCV
from sklearn.preprocessing import StandardScaler
from torch import nn
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, Trainer, TrainingArguments

from hf_ser.api import load_dataset, train
from hf_ser.benchmark.case import Case
from hf_ser.benchmark.measure import Work
from hf_ser.data.prepared import load_prepared
from hf_ser.data.splitting import make_folds
from hf_ser.models.heads import Sequences
from hf_ser.models.samples import SAMPLING_RATE
from hf_ser.training.arguments import AdaptArguments, AudioArguments, HeadArguments
from hf_ser.training.building import Candidate, build_model
from hf_ser.training.fold_data import FoldData
from hf_ser.training.frozen_pass import frozen_features
from hf_ser.training.trainer import SerTrainer
from hf_ser.training.trainer_arguments import SerTrainingArguments

BATCH = 16
QUIET = {
    **dict.fromkeys(("eval_strategy", "save_strategy", "logging_strategy"), "no"),
    "report_to": ["none"],
    "disable_tqdm": True,
    "use_cpu": True,
}
OURS = QUIET | {"early_stopping_patience": 0, "load_best_model_at_end": False}
N_FOLDS, STORED_EPOCHS = 5, 3


def fit_all_folds(case: Case) -> Work:
    """Ours: from the files to the report of all folds; nothing is kept from one time to the next."""
    table, recipe = str(case.table()), case.recipe()

    def work():
        with case.new_folder() as folder:
            os.environ["HF_SER_CACHE"] = str(folder / "cache")
            train(load_dataset(table), fold="all", output_dir=folder / "run", **recipe)

    return work


def plain_trainer_of_a_fold(case: Case) -> Work:
    """The peer: transformers' Trainer on the frozen encoder, which encodes every clip in each epoch; the first fold."""
    rows = case.rows()
    tested = rows[::N_FOLDS]
    return plain_trainer(case, [row for row in rows if row not in tested], tested, case.size.epochs)


def plain_epoch(case: Case) -> Work:
    """The peer: an epoch of it on all clips."""
    return plain_trainer(case, case.rows(), [], 1)


def plain_trainer(case: Case, trained: list[dict], tested: list[dict], epochs: int) -> Work:
    """transformers' Trainer, as its manual has it."""
    stock, labels = case.stock(), case.labels()
    extractor = AutoFeatureExtractor.from_pretrained(stock)

    def collate(rows: list[dict]) -> dict[str, torch.Tensor]:
        clips = [read(row["path"]) for row in rows]
        inputs = extractor(clips, sampling_rate=SAMPLING_RATE, return_tensors="pt")
        return {**inputs, "labels": torch.tensor([labels.index(row["label"]) for row in rows])}

    def work():
        model = AutoModelForAudioClassification.from_pretrained(stock)
        model.freeze_encoder()
        with case.new_folder() as folder:
            arguments = TrainingArguments(
                output_dir=str(folder),
                num_train_epochs=epochs,
                per_device_train_batch_size=BATCH,
                per_device_eval_batch_size=BATCH,
                learning_rate=1e-3,
                remove_unused_columns=False,
                **QUIET,
            )
            trainer = Trainer(model, arguments, data_collator=collate, train_dataset=trained)
            trainer.train()
            if tested:
                trainer.predict(tested)

    return work


def sklearn_on_features(case: Case) -> Work:
    """The floor: a ridge of scikit-learn on the features, which are there already, for all folds."""
    dataset = load_prepared(case.dataset())
    folds = make_folds(dataset, "speaker_folds")
    draw, labels = np.random.default_rng(0), np.array(dataset["label"][:])
    size = len(case.layers().split(",")) * AutoModelForAudioClassification.from_pretrained(case.stock()).config.d_model
    vectors = draw.standard_normal((len(dataset), size)) + labels[:, None] / 4

    def work():
        for fold in folds:
            rows = [*fold.train, *fold.validation]
            scaler = StandardScaler().fit(vectors[rows])
            ridge = RidgeClassifierCV(np.array([0.3, 0.6, 1.2, 2.5]) * size, class_weight="balanced")
            ridge.fit(scaler.transform(vectors[rows]), labels[rows])
            if len(fold.test):
                ridge.predict(scaler.transform(vectors[fold.test]))

    return work


def batched_steps(case: Case) -> Work:
    """Ours: steps of fine-tuning in batches that are padded to their own longest clip."""
    size = case.size
    dataset = load_prepared(case.dataset()).select(range(trained_clips(case)))
    with case.new_folder() as folder:
        arguments = SerTrainingArguments(
            output_dir=str(folder),
            max_steps=size.steps,
            per_device_train_batch_size=size.batch,
            train_sampling_strategy="group_by_length",
            **OURS,
        )
    candidate = our_candidate(dataset, str(case.wav2vec2()), "none")
    trainer = SerTrainer(candidate, dataset.features["label"].names, args=arguments, train_dataset=dataset)
    return trainer.train


def single_steps(case: Case) -> Work:
    """The peer: clip after clip, each padded to the longest of the corpus, in float32."""
    model, clips, labels = wav2vec2_and_clips(case)
    optimizer, longest = torch.optim.AdamW(model.parameters(), lr=1e-4), max(len(read(file)) for file in case.files())
    extractor, size = AutoFeatureExtractor.from_pretrained(case.wav2vec2()), case.size

    def work():
        for start in range(0, size.steps * size.batch, size.batch):
            optimizer.zero_grad()
            for clip, label in zip(clips[start : start + size.batch], labels[start:], strict=False):
                inputs = extractor(
                    clip, sampling_rate=SAMPLING_RATE, padding="max_length", max_length=longest, return_tensors="pt"
                )
                (model(**inputs, labels=torch.tensor([label])).loss / size.batch).backward()
            optimizer.step()

    return work


def bare_steps(case: Case) -> Work:
    """The floor: the same number of clips of the mean length, in batches that are ready, without padding."""
    model, clips, labels = wav2vec2_and_clips(case)
    optimizer, mean = torch.optim.AdamW(model.parameters(), lr=1e-4), int(np.mean([len(clip) for clip in clips]))
    inputs = torch.randn(case.size.batch, mean)
    targets = torch.tensor(labels[: case.size.batch])

    def work():
        for _ in range(case.size.steps):
            optimizer.zero_grad()
            model(inputs, labels=targets).loss.backward()
            optimizer.step()

    return work


def trained_clips(case: Case) -> int:
    """Clips of the steps of fine-tuning."""
    return case.size.steps * case.size.batch


def wav2vec2_and_clips(case: Case) -> tuple[nn.Module, list[np.ndarray], list[int]]:
    """A stock model, and the samples and classes of as many clips as the steps take."""
    rows = sorted(case.rows(), key=lambda row: row["path"])[: trained_clips(case)]  # in the order of data sets
    model = AutoModelForAudioClassification.from_pretrained(case.wav2vec2()).train()
    return model, [read(row["path"]) for row in rows], [case.labels().index(row["label"]) for row in rows]


def stored_epochs(case: Case) -> Work:
    """Ours: epochs of the default head on features of the frozen encoder that are stored already."""
    dataset = load_prepared(case.dataset())
    os.environ["HF_SER_CACHE"] = str(case.folder / "stored")
    arguments = SerTrainingArguments(
        output_dir=str(case.folder / "stored_run"),
        num_train_epochs=STORED_EPOCHS,
        per_device_train_batch_size=BATCH,
        **OURS,
    )
    candidate = our_candidate(dataset, str(case.stock()), "audio")
    none = dataset.select([])
    candidate.collator.frozen = frozen_features(candidate, FoldData(dataset, none, none), arguments)
    trainer = SerTrainer(candidate, dataset.features["label"].names, args=arguments, train_dataset=dataset)
    return trainer.train


def epochs_in_memory(case: Case) -> Work:
    """The floor: a plain loop of torch with the same head, on batches that lie in memory, padded."""
    dataset = load_prepared(case.dataset())
    candidate = our_candidate(dataset, str(case.stock()), "audio")
    width, head = candidate.model.config.audio_config.d_model, candidate.model.head.train()
    labels = torch.tensor(dataset["label"][:])
    frames = [max(1, round(50 * min(5.0, seconds))) for seconds in dataset["duration_seconds"][:]]
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3)
    rows = [range(start, min(start + BATCH, len(labels))) for start in range(0, len(labels), BATCH)]
    batches = [(torch.randn(len(part), max(frames[row] for row in part), width), labels[part]) for part in rows]

    def work():
        for _ in range(STORED_EPOCHS):
            for hidden, targets in batches:
                optimizer.zero_grad()
                present = torch.ones(len(hidden), dtype=torch.bool)
                sequences = Sequences(hidden, present[:, None].expand(hidden.shape[:2]), present)
                logits, _ = head(audio=sequences)
                nn.functional.cross_entropy(logits, targets).backward()
                optimizer.step()

    return work


def our_candidate(dataset, audio_model: str, freeze: str) -> Candidate:
    """A model of ours on an encoder."""
    torch.manual_seed(0)
    audio = AudioArguments(audio_model=audio_model, max_seconds=5.0)
    return build_model(dataset.features["label"].names, HeadArguments(), AdaptArguments(freeze=freeze), audio)


def read(file: str) -> np.ndarray:
    """A clip at 16 kHz as scripts read it."""
    samples, rate = soundfile.read(file, dtype="float32")
    samples = samples if samples.ndim == 1 else samples.mean(axis=1)
    return samples if rate == SAMPLING_RATE else soxr.resample(samples, rate, SAMPLING_RATE)
