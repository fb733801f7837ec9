"""A linear head that is fitted and not descended to: what is saved answers as the regression did."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from models.tiny import AUDIO, SPEECH, audio_only, awaken, fused
from safetensors.torch import load_file
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression, Ridge
from torch import nn
from transformers import Data2VecAudioConfig, Wav2Vec2FeatureExtractor

from hf_ser.inputs.speakers import enrolment_rows
from hf_ser.models import SOLVED_HEADS, SerConfig, SerModelForClassification, SpectrogramConfig
from hf_ser.models.dimensions import concordance
from hf_ser.models.modeling_ser import HeadEnrolment
from hf_ser.models.networks import FITTED
from hf_ser.models.processing_ser import audio_inputs
from hf_ser.runs.calibration import fit_temperature
from hf_ser.runs.folder import RunFolder
from hf_ser.training.arguments import (
    AdaptArguments,
    AudioArguments,
    DataArguments,
    FusionArguments,
    HeadArguments,
    TextArguments,
)
from hf_ser.training.building import build_model, label_maps
from hf_ser.training.class_fits import FITS, LogisticFit, RidgeFit, chosen_strength, copy_coefficients, fitted_head
from hf_ser.training.fitted_trainer import FittedTrainer, linear_head
from hf_ser.training.parsing import parse_arguments
from hf_ser.training.solved_heads import reject_descent
from hf_ser.training.trainer_arguments import SerTrainingArguments

CLASSES = 3
ASKED = (AudioArguments, HeadArguments, AdaptArguments, SerTrainingArguments)
SEEDS = Path(__file__).parents[2] / "scripts" / "recipes" / "seeds"


def hears(network: str, normalisation: str = "none") -> SerModelForClassification:
    """An encoder of few bands under a linear head."""
    front_end = {"features": network, "n_bands": 8, "normalisation": normalisation}
    config = SpectrogramConfig(network=network, front_end=front_end)
    labels = {index: str(index) for index in range(CLASSES)}
    config = SerConfig(audio_config=config, pooling="mean", head="linear", id2label=labels)
    return SerModelForClassification(config).eval()


class Rows(list):
    """Rows of a data set, as far as the trainer asks for them."""

    def with_format(self, _):
        named = {name: [row[name] for row in self] for name in ("id", "speaker")}
        return named | {"duration_seconds": [1.0] * len(self)}


def rows() -> Rows:
    """A second a clip, a part of its samples quieter by its class; 4 speakers of 9 clips."""
    draw, made = np.random.default_rng(0), Rows()
    for index in range(36):
        clip, label = draw.standard_normal(16_000), index % CLASSES
        clip[:: 1 + label] *= 0.1
        made.append({"id": index, "clip": torch.from_numpy(clip).float(), "labels": label, "speaker": f"s{index // 9}"})
    return made


def collate(batch: list[dict]) -> dict[str, torch.Tensor]:
    values = torch.stack([row["clip"] for row in batch])
    made = {"input_values": values, "audio_mask": torch.ones_like(values, dtype=torch.long)}
    return made | {"labels": torch.tensor([row["labels"] for row in batch])}


def trainer_of(model: SerModelForClassification, data: Rows) -> FittedTrainer:
    """With what its `train` touches of Trainer, and without the rest; the last 9 rows are for validation."""
    trainer = FittedTrainer.__new__(FittedTrainer)
    trainer.model, trainer.left_out = model, None
    trainer.network = network = getattr(model.audio_encoder, "network", None)
    trainer.method = FITS[model.config.audio_config.network if network else model.config.head]
    sizes = map(model.config.size_of, model.config.modalities)
    trainer.classifier = linear_head(model, network.size if network else sum(sizes))
    trainer._prepare_inputs = dict
    trainer.args = SimpleNamespace(
        device="cpu", per_device_eval_batch_size=8, dataloader_num_workers=0, disable_tqdm=True, seed=0
    )
    trainer.view = None
    trainer.train_dataset, trainer.eval_dataset = Rows(data[:-9]), Rows(data[-9:])
    trainer.all_rows, trainer.data_collator = data, collate
    trainer.state = SimpleNamespace(log_history=[], best_metric=None, epoch=None)
    trainer.log = lambda entry: trainer.state.log_history.append(entry)
    return trainer


def saved_and_answering(trainer: FittedTrainer, folder) -> tuple[np.ndarray, torch.Tensor]:
    """Logits of the training rows by the model that was saved and loaded, and their classes."""
    trainer.model.save_pretrained(folder)
    again = SerModelForClassification.from_pretrained(folder)
    batch = collate(trainer.all_rows)
    labels = batch.pop("labels")
    return again(**batch).logits.detach().double().numpy(), labels


@pytest.mark.parametrize("normalisation", ["none", "corpus", "speaker"])
def test_the_saved_model_answers_as_the_regression(normalisation, monkeypatch, tmp_path):
    monkeypatch.setattr(LogisticFit, "strengths", (0.003, 0.03))
    trainer = trainer_of(hears("functionals", normalisation), rows())
    trainer.train()
    logits, labels = saved_and_answering(trainer, tmp_path)
    vectors, targets = trainer.vectors_of(trainer.all_rows)
    vectors = vectors[:, 0]
    assert targets.argmax(1).tolist() == labels.tolist()
    entry = trainer.state.log_history[0]
    assert entry["regularisation_c"] in (0.003, 0.03) and trainer.state.best_metric == entry["inner_uar"] > 0.9
    scaled = (vectors - vectors.mean(0)) / np.where(vectors.std(0) < 1e-6, 1.0, vectors.std(0))
    theirs = LogisticRegression(C=entry["regularisation_c"], max_iter=1000).fit(scaled, labels)
    np.testing.assert_allclose(softmax(logits, 1), theirs.predict_proba(scaled), atol=1e-4)
    assert (logits.argmax(1) == labels.numpy()).mean() > 0.9


def test_the_saved_model_answers_as_the_ridge(tmp_path):
    trainer = trainer_of(hears("random_kernels"), Rows(rows()[1:]))  # classes of unlike size
    trainer.train()
    logits, labels = saved_and_answering(trainer, tmp_path)
    entry = trainer.state.log_history[0]
    vectors, targets = trainer.vectors_of(trainer.all_rows)
    vectors = vectors[:, 0]
    size = vectors.shape[1]
    blocks = np.repeat([(size - 8000) / 0.3, 8000 / 0.7], [size - 8000, 8000])
    scaled = ((vectors - vectors.mean(0)) / np.sqrt(vectors.var(0) + 1e-5)).clip(-4, 4) * np.sqrt(size / blocks)
    # The bias is the coefficient of a feature that is worth as much as all others together.
    scaled = np.concatenate([scaled, np.full((len(scaled), 1), size**0.5)], 1)
    ridge = Ridge(alpha=entry["ridge_lambda"] * size, fit_intercept=False)
    ridge.fit(scaled, targets - 1 / CLASSES, sample_weight=len(labels) / CLASSES / np.bincount(labels)[labels])
    np.testing.assert_allclose(logits, entry["sharpness"] * ridge.predict(scaled), atol=2e-3)
    assert (logits.argmax(1) == labels.numpy()).mean() > 0.9
    assert entry["inner_uar"] > 0.9 and softmax(logits, 1).max(1).mean() > 0.8  # sure of what is told easily


@pytest.mark.parametrize("method", [LogisticFit, RidgeFit])
def test_strength_is_chosen_on_speakers_who_were_left_out(method, monkeypatch):
    monkeypatch.setattr(method, "strengths", (1e-3, 1e3))
    speakers = [f"s{index // 10}" for index in range(60)]
    truth = np.arange(60) % 2
    # Each speaker tells the classes apart by an axis of their own, strongly; all of them share a weak one.
    vectors = np.zeros((60, 7))
    vectors[np.arange(60), 1 + np.arange(60) // 10] = 20 * (2 * truth - 1)
    vectors[:, 0] = 0.1 * (2 * truth - 1)
    _, uar, answers = chosen_strength(method(vectors, np.eye(2)[truth]), speakers)
    assert uar == 1.0 and (answers.argmax(1) == truth).all()
    vectors[:, 0] = 0.0  # of the others' axes, nobody who was left out has anything
    assert chosen_strength(method(vectors, np.eye(2)[truth]), speakers)[1] == 0.5
    assert chosen_strength(method(vectors, np.eye(2)[truth]), ["s0"] * 60) == (1e3, None, None)


def test_a_rows_weight_says_how_much_it_counts_and_not_what_it_shall_answer():
    draw = np.random.default_rng(0)
    vectors, truth, weights = draw.standard_normal((30, 4)), np.arange(30) % 3, draw.uniform(0.1, 2, 30)
    weights[0] = 0.0
    targets = np.eye(3)[truth]
    answers = RidgeFit(vectors, targets * weights[:, None]).fit(np.arange(30), 0.6).answers(vectors, 3)
    widened = np.concatenate([vectors, np.full((30, 1), 2.0)], 1)
    of_classes = np.bincount(truth, weights)
    ridge = Ridge(alpha=0.6 * 4, fit_intercept=False)
    ridge.fit(widened, targets - 1 / 3, sample_weight=weights * 30 / 3 / of_classes[truth])
    np.testing.assert_allclose(answers, ridge.predict(widened), atol=1e-8)
    # A class whose raters agree less is not answered less for it.
    less = np.array([1.0, 1.0, 0.2])[truth][:, None]
    one, other = (RidgeFit(vectors, t).fit(np.arange(30), 0.6).answers(vectors, 3) for t in (targets, targets * less))
    np.testing.assert_allclose(one, other, atol=1e-8)


def test_shared_targets_count_by_their_shares():
    vectors = np.zeros((2, 1))
    method = LogisticFit(vectors, np.array([[0.75, 0.25, 0.0], [0.75, 0.0, 0.25]]))
    answers = method.fit(np.arange(2), 1.0).answers(vectors[:1], 3)
    np.testing.assert_allclose(softmax(answers, 1), [[0.75, 0.125, 0.125]], atol=1e-3)


@pytest.mark.parametrize("method", [LogisticFit, RidgeFit])
def test_two_classes_and_a_class_without_rows_fit_the_layer(method):
    vectors = np.random.default_rng(0).standard_normal((20, 2))
    truth = np.where(vectors[:, 0] > 0, 2, 0)
    layer, mean, scale = nn.Linear(2, 3), np.array([1.0, -2.0]), np.array([3.0, 0.5])
    fitted = method(vectors, np.eye(3)[truth]).fit(np.arange(20), 1.0)
    copy_coefficients(layer, fitted.unstandardised(mean, scale))
    answers = layer(torch.from_numpy(vectors * scale + mean).float()).detach().numpy()
    np.testing.assert_allclose(answers, fitted.answers(vectors, 3), atol=1e-4)
    assert (answers.argmax(1) == truth).mean() > 0.9 and (answers[:, 1] == -30).all()


ENCODERS = {name: AUDIO[name] for name in ("whisper", "wav2vec2", "hubert", "wavlm", "ast")} | {
    "data2vec": lambda: (Data2VecAudioConfig(**SPEECH), Wav2Vec2FeatureExtractor())
}
"""One encoder of each family, as `studies/encoders.yaml` compares them."""


@pytest.mark.parametrize(
    ("encoder", "head", "layers"),
    [("whisper", "logistic", 1), ("whisper", "ridge", 1), *((name, "ridge", [1, 2]) for name in ENCODERS)],
)
def test_a_head_is_solved_for_on_the_layers_of_any_frozen_encoder(encoder, head, layers, tmp_path):
    config, extractor = ENCODERS[encoder]()
    config = SerConfig(
        audio_config=config,
        audio_layers=layers,
        head=head,
        pooling="mean",
        **label_maps([str(i) for i in range(CLASSES)]),
    )
    torch.manual_seed(0)
    model = awaken(SerModelForClassification(config)).requires_grad_(False)
    trainer = trainer_of(model, rows())
    trainer.data_collator = partial(feature_batch, extractor=extractor)
    trainer.train()
    model.save_pretrained(tmp_path)
    again = SerModelForClassification.from_pretrained(tmp_path)
    batch = feature_batch(trainer.all_rows, extractor)
    labels = batch.pop("labels")
    logits = again(**batch).logits
    assert (logits.argmax(1) == labels).float().mean() > 0.8
    vectors = trainer.vectors_of(trainer.all_rows)[0][:, 0]
    assert vectors.shape == (36, 32 * (len(layers) if isinstance(layers, list) else 1))
    torch.testing.assert_close(again.head.standardisation.mean.double(), torch.from_numpy(vectors.mean(0)))
    torch.testing.assert_close(again(**again.frozen_part(**batch)).logits, logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shuffled", [False, True])
def test_the_speeds_of_a_clip_are_rows_in_training_and_one_answer_in_every_score(shuffled):
    model, extractor = audio_only("whisper", head="ridge", pooling="mean")
    model.requires_grad_(False)
    data, draw = rows(), np.random.default_rng(1)
    extractor.speeds = [0.8, 1.0, 1.25]
    if shuffled:
        for place, label in enumerate(np.concatenate([draw.permutation(9) % CLASSES for _ in range(4)]).tolist()):
            data[place]["labels"] = label
    trainer = trainer_of(model, data)
    trainer.data_collator = lambda batch: feature_batch(batch, extractor)
    trainer.train()
    vectors, targets = trainer.vectors_of(data)
    assert vectors.shape == (36, 3, 32)
    statistics = model.head.standardisation
    torch.testing.assert_close(statistics.mean.double(), torch.from_numpy(vectors.mean((0, 1))))
    found = trainer.state.log_history[0]
    assert len(trainer.left_out[0]) == 36
    made = statistics(torch.from_numpy(vectors).float()).double().numpy()
    one = RidgeFit(np.concatenate(made), np.repeat(targets, 3, 0), copies=3)
    fitted = one.fit(np.arange(108), found["ridge_lambda"]).sharpened(found["sharpness"])
    batch = feature_batch(data, extractor)
    labels = batch.pop("labels")
    logits = model(**batch).logits
    torch.testing.assert_close(
        logits.double(), torch.from_numpy(fitted.answers(made.mean(1), CLASSES)), atol=1e-4, rtol=0
    )
    if shuffled:
        assert found["inner_uar"] < 0.6, "shuffled within each speaker, the labels cannot be known"
    else:
        assert found["inner_uar"] > 0.8 and (logits.argmax(1) == labels).float().mean() > 0.8


def test_the_mean_of_a_speaker_is_taken_off_by_as_much_as_so_many_clips_tell(tmp_path):
    model, extractor = audio_only("whisper", head="ridge", pooling="mean", speaker_views=2)
    model.requires_grad_(False)
    extractor.speeds = [0.8, 1.0]
    data = rows()
    for row in data:  # each speaker's voice has another colour
        row["clip"] = row["clip"] + (0.2 + 0.2 * int(row["speaker"][1:])) * row["clip"].roll(1)
    trainer = trainer_of(model, data)
    trainer.data_collator = lambda batch: feature_batch(batch, extractor)
    trainer.enrolment_clips = 4
    trainer.train()
    vectors = torch.from_numpy(trainer.vectors_of(trainer.all_rows)[0])
    by_speaker, means = vectors.unflatten(0, (4, 9)), model.head.speakers
    within = by_speaker.var(1).mean((0, 1))
    between = (by_speaker.mean(1).var(0).mean(0) - within / 9).clamp(min=0)
    torch.testing.assert_close(means.within.double(), within, rtol=1e-3, atol=0)
    torch.testing.assert_close(means.between.double(), between, rtol=1e-2, atol=1e-5)
    expected = between / (between + within / 4) * (by_speaker[0, :4].mean(0) - vectors.mean(0))
    torch.testing.assert_close(means.offset(vectors[:4].float()).double(), expected, rtol=1e-2, atol=1e-4)
    tested = Rows(trainer.all_rows[:9])
    known = enrolment_rows(tested, 4, 0)["s0"]
    batch = feature_batch(tested, extractor)
    batch.pop("labels")
    model.save_pretrained(tmp_path)
    again = SerModelForClassification.from_pretrained(tmp_path)
    enrolment = HeadEnrolment(again)
    inputs = feature_batch([tested[row] for row in known], extractor)
    offset = enrolment.speaker_scaling(enrolment.moments([(inputs["input_values"], inputs["audio_mask"])]))
    answers = again(**batch, speaker_statistics=offset.expand(9, -1, -1)).logits
    torch.testing.assert_close(torch.from_numpy(trainer.logits(tested)).float(), answers, atol=1e-4, rtol=0)
    assert (answers - again(**batch).logits).abs().max() > 1e-3
    frozen = again.frozen_part(**batch, speaker_statistics=offset.expand(9, -1, -1))
    torch.testing.assert_close(again(**frozen).logits, answers)


def test_means_of_speakers_are_for_audio_alone_and_clips_need_speakers():
    with pytest.raises(ValueError, match="speaker_views is 1, head mlp: expected 0"):
        audio_only("whisper", speaker_views=1)
    model, extractor = audio_only("whisper", head="ridge", pooling="mean", speaker_views=1)
    trainer = trainer_of(model.requires_grad_(False), Rows(row | {"speaker": None} for row in rows()))
    trainer.data_collator = lambda batch: feature_batch(batch, extractor)
    with pytest.raises(ValueError, match="27 of 27 clips have no speaker"):
        trainer.train()


@pytest.mark.parametrize("method", [LogisticFit, RidgeFit])
def test_left_out_clips_are_answered_by_the_mean_of_their_views(method):
    draw = np.random.default_rng(0)
    truth, speakers = np.arange(40) % 2, [f"s{clip % 4}" for clip in range(40)]
    vectors = draw.normal(size=(40, 3, 6)) + 3 * truth[:, None, None]
    fit = method(vectors.reshape(120, 6), np.repeat(np.eye(2)[truth], 3, 0), copies=3)
    strength, uar, answers = chosen_strength(fit, speakers, views=3)
    assert answers.shape == (40, 2) and uar > 0.9
    left_out = np.array([speaker == "s0" for speaker in speakers])
    fitted = fit.fit(np.flatnonzero(np.repeat(~left_out, 3)), strength)
    each = np.stack([fitted.answers(vectors[left_out, view], 2) for view in range(3)])
    np.testing.assert_allclose(answers[left_out], each.mean(0), atol=1e-9)


def feature_batch(batch: list[dict], extractor=None) -> dict[str, torch.Tensor]:
    """Features of rows, by default Whisper's."""
    extractor = extractor or AUDIO["whisper"]()[1]
    made = audio_inputs(extractor, [row["clip"].numpy() for row in batch])
    return made | {"labels": torch.tensor([row["labels"] for row in batch])}


def test_a_ridge_is_the_same_between_rows_and_between_features():
    draw = np.random.default_rng(0)
    vectors, targets = draw.normal(size=(40, 30)), np.eye(3)[np.arange(40) % 3]
    few, many = RidgeFit(vectors[:20], targets[:20]), RidgeFit(vectors, targets)
    assert few.products is not None and many.products is None
    one, other = few.fit(np.arange(20), 0.6), many.fit(np.arange(20), 0.6)
    np.testing.assert_allclose(one.weight, other.weight, atol=1e-9)
    np.testing.assert_allclose(one.bias, other.bias, atol=1e-9)


def test_changed_copies_are_learned_from_and_not_scored(prepared, script, tmp_path):
    flags = ("--dataset", prepared, "--audio_model", "random_kernels", "--disable_tqdm", "true", "--n_folds", "3")
    views = ("--augment", "white@0-5/telephone")
    for name, more in (("plain", ()), ("copies", views), ("again", (*views, "--per_device_eval_batch_size", "5"))):
        script("train_audio", *flags, *more, "--output_dir", tmp_path / name)
    folds = {name: RunFolder(tmp_path / name).folds["1"] for name in ("plain", "copies", "again")}
    weights = {name: load_file(fold.path / "model.safetensors") for name, fold in folds.items()}
    statistics = [key for key in weights["plain"] if key.endswith("running_mean")]
    assert statistics and all(torch.equal(weights["plain"][key], weights["copies"][key]) for key in statistics)
    head = "head.classifier.weight"
    assert not torch.allclose(weights["plain"][head], weights["copies"][head], rtol=0.1)
    assert torch.allclose(weights["again"][head], weights["copies"][head], atol=1e-5)
    card = (folds["copies"].path / "README.md").read_text()
    assert folds["copies"].record.solved and "the training and the validation part" in card
    assert "each left out in turn" in card and "checkpoint" not in card.partition("## Under stress")[0]


def test_fewer_views_than_turns_are_refused(prepared, script, tmp_path):
    flags = ("--dataset", prepared, "--n_folds", "3", "--output_dir", tmp_path / "run")
    with pytest.raises(ValueError, match=r"fewer views of a clip than turns, 3, .* give --cache_views 3"):
        script("train_audio", *flags, "--augment", "white/pink/telephone", "--cache_views", "2")
    assert not (tmp_path / "run/fold_1").exists()


@pytest.mark.parametrize("method", [LogisticFit, RidgeFit])
def test_copies_of_each_clip_weigh_as_much_as_the_clip_alone(method):
    draw = np.random.default_rng(0)
    vectors, targets = draw.normal(size=(30, 8)), np.eye(3)[np.arange(30) % 3]
    one = method(vectors, targets).fit(np.arange(30), 0.3)
    other = method(np.tile(vectors, (3, 1)), np.tile(targets, (3, 1)), copies=3).fit(np.arange(90), 0.3)
    np.testing.assert_allclose(one.weight, other.weight, atol=1e-3)


def test_a_head_that_coefficients_do_not_fit_is_refused():
    model = hears("functionals")
    with pytest.raises(ValueError, match=r"expected one linear layer of the 5 functionals: build the model with head"):
        linear_head(model, 5)
    with pytest.raises(ValueError, match="The head is None"):
        linear_head(nn.Linear(2, 2), 2)


@pytest.mark.parametrize("name", FITTED)
def test_a_fitted_network_needs_no_other_flag_and_only_what_standardises_is_fused(name):
    audio, adapt = AudioArguments(audio_model=name), AdaptArguments()
    model = build_model(["a", "b"], HeadArguments(), adapt, audio).model
    assert linear_head(model, model.audio_encoder.network.size).out_features == 2 and set(FITS) == {
        *FITTED,
        *SOLVED_HEADS,
    }
    of_both = (["a", "b"], FusionArguments(), adapt, audio, TextArguments(text_model="gru"), ["one two"] * 3)
    if name == "functionals":
        with pytest.raises(ValueError, match="Expected with text a network that standardises: random_kernels"):
            build_model(*of_both)
    else:
        assert build_model(*of_both).model.audio_encoder.network.standardise.running_mean.shape == (8819,)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--learning_rate 0.01", "--learning_rate is 0.01, --audio_model random_kernels: found a setting that a fit"),
        (
            "--num_train_epochs 3",
            "leave it out, or take what is trained in epochs, such as --audio_model crnn",
        ),
        ("--stages head:5@1e-2", "--stages is head:5@1e-2"),  # and not the length that it stands for
        ("--search 3", "--search is 3"),
        ("--class_weights 1 --audio_model functionals", "functionals: found a logistic regression.*Expected none"),
        ("--warmup_steps 0", "--warmup_steps is 0"),
        ("--lr_scheduler_type cosine", "--lr_scheduler_type is cosine"),
        ("--pooling attentive_statistics", "--pooling is attentive_statistics"),
        ("--head linear --head_dropout 0", "--head_dropout is 0.0"),
        ("--freeze audio", "--freeze is audio"),
        ("--lora audio --lora_rank 4", "--lora is audio"),
    ],
)
def test_a_fit_refuses_what_it_would_not_use(given, said):
    asked = parse_arguments(ASKED, given.split())
    with pytest.raises(ValueError, match=said):
        reject_descent(asked[:1], *asked[1:])
    reject_descent([replace(asked[0], audio_model="crnn")], *asked[1:])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--head ridge --learning_rate 0.01", "--learning_rate is 0.01, --head ridge: found a setting that a fit"),
        ("--head logistic --lora audio", "--lora is audio, --head logistic"),
        ("--speeds 0.9,1", "--speeds is 0.9,1, --head mlp: found a head that does not average over the speeds"),
        ("--head ridge --audio_model crnn", "found a network of random weights, which such a head leaves as it is"),
        ("--head ridge --pooling attentive_statistics", "--pooling is attentive_statistics, --head ridge"),
    ],
)
def test_a_solved_head_refuses_what_it_would_not_use(given, said):
    asked = parse_arguments(ASKED, ["--audio_model", "openai/whisper-base", *given.split()])
    with pytest.raises(ValueError, match=said):
        reject_descent(asked[:1], *asked[1:])


def test_a_solved_head_wants_pretrained_encoders_and_means_of_layers_that_are_not_trained():
    with pytest.raises(ValueError, match=r"--freeze audio.*random weights|random weights"):
        build_model(["a", "b"], HeadArguments(head="ridge"), AdaptArguments(), AudioArguments(audio_model="crnn"))
    of_both = [AudioArguments("openai/whisper-base"), TextArguments(text_model="gru")]
    others = (AdaptArguments(), SerTrainingArguments())
    with pytest.raises(ValueError, match="--fusion ridge, --text_model gru: found a network of random weights"):
        reject_descent(of_both, FusionArguments(fusion="ridge"), *others)
    audio_config, _ = AUDIO["whisper"]()
    with pytest.raises(ValueError, match="pooling is attentive: expected mean with head ridge"):
        SerConfig(audio_config=audio_config, head="ridge")
    with pytest.raises(ValueError, match="A layer is mix, whose weights are trained: expected numbers with head ridge"):
        SerConfig(audio_config=audio_config, head="ridge", pooling="mean", audio_layers="mix")


def test_a_solved_head_reads_the_text_too_and_answers_without_it(tmp_path):
    model, processor = fused("whisper", "bert", fusion="ridge", pooling="mean", audio_layers=[1, 2])
    model.requires_grad_(False)
    data = rows()
    texts = [None if row["id"] % 5 == 0 else ("hello you", "what a day", "there")[row["labels"]] for row in data]

    def batch_of(some: list[dict]) -> dict[str, torch.Tensor]:
        made = processor.features([row["clip"].numpy() for row in some], [texts[row["id"]] for row in some])
        return {**made, "labels": torch.tensor([row["labels"] for row in some])}

    trainer = trainer_of(model, data)
    trainer.data_collator = batch_of
    trainer.train()
    model.save_pretrained(tmp_path)
    again = SerModelForClassification.from_pretrained(tmp_path)
    batch = batch_of(data)
    labels = batch.pop("labels")
    logits = again(**batch).logits
    assert (logits.argmax(1) == labels).float().mean() > 0.9
    vectors = trainer.vectors_of(data)[0][:, 0]
    assert vectors.shape == (36, 64 + 32) and np.isnan(vectors[::5, 64:]).all() and not np.isnan(vectors[:, :64]).any()
    audio_alone = {name: values for name, values in batch.items() if name in ("input_values", "audio_mask")}
    missing = torch.tensor([text is None for text in texts])
    torch.testing.assert_close(again(**audio_alone).logits[missing], logits[missing])
    torch.testing.assert_close(again(**again.frozen_part(**batch)).logits, logits, atol=1e-5, rtol=0)
    head, features = again.head, again.frozen_part(**batch)
    by_audio = nn.functional.cross_entropy(again(**audio_alone).logits, labels)
    has_text = features["text_mask"].any(1)
    of_text = {name: values[has_text] for name, values in features.items() if name.startswith("text")}
    by_text = (again(**of_text).logits.argmax(1) == labels[has_text]).float().mean()
    assert by_audio < 0.3 and by_text > 0.9, "each answers where the other is missing"
    weight = head.classifier.weight.detach().clone()
    shuffled = [texts[row] for row in torch.randperm(len(texts), generator=torch.Generator().manual_seed(0))]
    texts[:] = shuffled  # the text's columns are solved for by themselves: other texts leave those of the audio
    other = trainer_of(awaken(SerModelForClassification(model.config)), data)
    other.model.load_state_dict(model.state_dict())
    other.data_collator = batch_of
    other.train()
    torch.testing.assert_close(other.model.head.classifier.weight[:, :64], weight[:, :64])
    assert not torch.allclose(other.model.head.classifier.weight[:, 64:], weight[:, 64:])


@pytest.mark.parametrize("has_classes", [True, False])
def test_dimensions_are_solved_for_beside_the_classes_or_alone(has_classes, tmp_path):
    names = {"dimensions": ["valence", "arousal"], "dimension_scale": [-1.0, 1.0]}
    settings = names if has_classes else {**names, "id2label": {}, "label2id": {}}
    model, processor = fused("whisper", "bert", fusion="ridge", pooling="mean", audio_layers=[1, 2], **settings)
    model.requires_grad_(False)
    data, draw = rows(), np.random.default_rng(0)
    texts = [None if row["id"] % 5 == 0 else ("hello you", "what a day", "there")[row["labels"]] for row in data]
    annotated = torch.tensor([[(-0.6, 0.1, 0.7)[row["labels"]], (0.5, 0.5, -0.5)[row["labels"]]] for row in data])
    annotated += torch.from_numpy(draw.normal(0, 0.05, annotated.shape))
    annotated[::4, 1] = torch.nan

    def batch_of(some: list[dict]) -> dict[str, torch.Tensor]:
        made = processor.features([row["clip"].numpy() for row in some], [texts[row["id"]] for row in some])
        classes = nn.functional.one_hot(torch.tensor([row["labels"] for row in some]), CLASSES).float()
        wanted = [*([classes] if has_classes else []), annotated[[row["id"] for row in some]].float()]
        return {**made, "labels": torch.cat(wanted, 1)}

    trainer = trainer_of(model, data)
    trainer.data_collator = batch_of
    trainer.train()
    entry = trainer.state.log_history[0]
    assert entry["inner_ccc"] > 0.8 and ("inner_uar" in entry) == has_classes
    assert trainer.state.best_metric == entry["inner_uar" if has_classes else "inner_ccc"]
    assert {"ridge_lambda_valence", "ridge_lambda_arousal"} < set(entry)
    model.save_pretrained(tmp_path)
    again = SerModelForClassification.from_pretrained(tmp_path)
    output = again(**{name: values for name, values in batch_of(data).items() if name != "labels"})
    assert (concordance(output.dimensions, annotated.float()) > 0.8).all()
    assert output.logits.shape == (36, CLASSES * has_classes)


def test_a_fit_takes_its_recipes_flags_and_what_says_where_it_is_computed(tmp_path):
    where = "--early_stopping_patience 0 --per_device_train_batch_size 4 --seed 2"
    where += f" --disable_tqdm true --use_cpu true --output_dir {tmp_path}"
    audio, *others = parse_arguments(ASKED, [*where.split(), "--head", "linear", "--pooling", "mean"])
    reject_descent([audio], *others)
    for name in (f"{network}{scaled}" for network in FITTED for scaled in ("", "_speaker")):
        _, audio, *others = parse_arguments((DataArguments, *ASKED), [str(SEEDS / f"{name}.yaml")])
        reject_descent([audio], *others)


def test_of_strengths_that_are_equal_but_for_rounding_the_first_is_chosen(monkeypatch):
    draw = np.random.default_rng(0)
    truth, speakers = np.arange(60) % 2, [f"s{row // 10}" for row in range(60)]
    method = LogisticFit(draw.normal(size=(60, 3)), np.eye(2)[truth])
    scores = iter([0.5, 0.6, np.nextafter(0.6, 1), 0.6, 0.4])
    monkeypatch.setattr("hf_ser.training.class_fits.recall_score", lambda *_, **__: next(scores))
    assert chosen_strength(method, speakers)[:2] == (LogisticFit.strengths[1], 0.6)


@pytest.mark.parametrize("fit", [RidgeFit, LogisticFit])
def test_the_temperature_comes_from_speakers_who_were_left_out(fit):
    generator = np.random.default_rng(0)
    speakers = [f"s{row % 12}" for row in range(240)]
    truth = generator.integers(0, 3, 240)
    of_speaker = generator.normal(0, 2, (12, 40))[np.arange(240) % 12]
    vectors = np.eye(3, 40)[truth] * 3 + of_speaker + generator.normal(0, 2, (240, 40))
    fitted, _, left_out = fitted_head(fit(vectors, np.eye(3)[truth]), speakers)
    temperature = fit_temperature(left_out, truth)
    new_truth = generator.integers(0, 3, 3000)
    of_speaker = generator.normal(0, 2, (300, 40))[np.arange(3000) % 300]
    new = np.eye(3, 40)[new_truth] * 3 + of_speaker + generator.normal(0, 2, (3000, 40))
    best = fit_temperature(fitted.answers(new, 3), new_truth)
    assert 0.6 < temperature / best < 1.6, "near what speakers ask for whom nobody has met"
    assert fitted_head(fit(vectors, np.eye(3)[truth]), ["one"] * 240)[2] is None
