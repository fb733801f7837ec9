"""A run that is killed and resumed ends where an unbroken one ends, in weights and answers but for rounding."""

import multiprocessing
import os
import random
import signal

import numpy as np
import pytest
import torch
from peft import PeftModel
from training.small import assert_same_outcome, outcome, small_trainer
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    TrainerCallback,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    set_seed,
)

from hf_ser.data.prepared import load_prepared
from hf_ser.inputs.collate import Collator
from hf_ser.models import (
    SerConfig,
    SerModelForClassification,
    SerProcessor,
    SpectrogramConfig,
    WaveformFeatureExtractor,
)
from hf_ser.training.adaptation import adapted
from hf_ser.training.arguments import AdaptArguments
from hf_ser.training.building import Candidate, label_maps
from hf_ser.training.emotion_task import saved_figure
from hf_ser.training.fold_data import FoldData
from hf_ser.training.fold_run import Clock, last_complete_checkpoint, seconds_of
from hf_ser.training.frozen_pass import frozen_features
from hf_ser.training.standardisation import standardise_frozen
from hf_ser.training.trainer import SerTrainer
from hf_ser.training.trainer_arguments import SerTrainingArguments

TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
SPEECH = {
    **TINY,
    "conv_dim": (8, 8),
    "conv_kernel": (10, 8),
    "conv_stride": (40, 8),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    # Both of these draw in training: SpecAugment from numpy, the dropping of layers from torch.
    "mask_time_prob": 0.3,
    "mask_time_length": 2,
    "layerdrop": 0.3,
}
ENCODERS = {
    "crnn": lambda: (
        SpectrogramConfig(network="crnn", front_end={"n_bands": 16}, hidden_size=16, dropout=0.2),
        WaveformFeatureExtractor(),
    ),
    "wav2vec2": lambda: (Wav2Vec2Config(**SPEECH), Wav2Vec2FeatureExtractor()),
    "ast": lambda: (ASTConfig(**TINY, max_length=100), ASTFeatureExtractor(max_length=100)),
}
STEPS, SAVED_EVERY = 5, 2  # of three steps an epoch: checkpoints lie within epochs


class KilledError(Exception):
    """What ends a run from within."""


class Kill(TrainerCallback):
    """Ends a run behind a step: by an error, or as the system does."""

    def __init__(self, step: int, by_signal: bool = False):
        self.step, self.by_signal = step, by_signal

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            if self.by_signal:
                os.kill(os.getpid(), signal.SIGKILL)
            raise KilledError


def candidate(encoder: str, labels: list[str], adapt: AdaptArguments) -> Candidate:
    """A tiny model that hears."""
    config, extractor = ENCODERS[encoder]()
    extractor.max_seconds = 0.5
    config = SerConfig(audio_config=config, head_size=8, dropout=0.2, **label_maps(labels))
    model = SerModelForClassification(config)
    encoders = {"audio": model.audio_encoder}
    model = adapted(model, encoders, adapt, {"audio": "a model"})
    processor = SerProcessor(extractor)
    return Candidate(model, processor, Collator(processor), encoders)


def train(folder, data, encoder: str, adapt: AdaptArguments, kill: Kill | None = None, **settings):
    """Begin a run or go on with it, as `train_fold` does; its weights and its answers at the end."""
    arguments = SerTrainingArguments(
        output_dir=str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=3,
        eval_strategy="steps",
        eval_steps=SAVED_EVERY,
        save_strategy="steps",
        save_steps=SAVED_EVERY,
        load_best_model_at_end=False,  # the last weights are looked at, not those of before the kill
        early_stopping_patience=0,
        learning_rate=1e-2,
        disable_tqdm=True,
        use_cpu=True,
        seed=3,
        **settings,
    )
    set_seed(arguments.seed)
    labels = data.features["label"].names
    trained = candidate(encoder, labels, adapt)
    rows, held_out = data.select(range(20)), data.select(range(20, 32))
    if adapt.freeze != "none":
        parts = FoldData(rows, held_out, held_out.select([]))
        trained.collator.frozen = frozen_features(trained, parts, arguments)
        standardise_frozen(trained, parts, arguments)
    callbacks = [kill] if kill else []
    trainer = SerTrainer(
        trained, labels, args=arguments, train_dataset=rows, eval_dataset=held_out, callbacks=callbacks
    )
    trainer.train(resume_from_checkpoint=last_complete_checkpoint(folder))
    model = trained.model.merge_and_unload() if isinstance(trained.model, PeftModel) else trained.model
    return model.state_dict(), trainer.logits(held_out), trainer.state


def train_killed(folder, data, by_signal: bool, **what):
    """The same run, killed at a random step, by a signal before the first checkpoint too."""
    drawn = random.Random(str(what)).randrange(SAVED_EVERY, STEPS)
    for step in (1, drawn) if by_signal else (drawn,):
        if by_signal:
            # Not forked: once any test has had autograd start its threads, a forked process cannot train.
            process = multiprocessing.get_context("spawn").Process(
                target=train, args=(folder, data), kwargs=what | {"kill": Kill(step, by_signal=True)}
            )
            process.start()
            process.join()
            assert process.exitcode == -signal.SIGKILL
        else:
            with pytest.raises(KilledError):
                train(folder, data, kill=Kill(step), **what)
    return train(folder, data, **what)


WAYS = {
    "crnn": ("crnn", {}),
    "wav2vec2": ("wav2vec2", {}),
    "ast": ("ast", {}),
    "lora": ("wav2vec2", {"lora": "audio"}),
    "cached": ("wav2vec2", {"freeze": "audio"}),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_killed_run_ends_where_an_unbroken_one_ends(prepared, tmp_path, monkeypatch, way):
    encoder, adapt = WAYS[way]
    data = load_prepared(prepared)
    what = {"encoder": encoder, "adapt": AdaptArguments(**adapt)}
    monkeypatch.setenv("HF_SER_CACHE", str(tmp_path / "cache_1"))
    weights, logits, state = train(tmp_path / "unbroken", data, **what)
    monkeypatch.setenv("HF_SER_CACHE", str(tmp_path / "cache_2"))
    again, logits_again, state_again = train_killed(tmp_path / "killed", data, by_signal=way == "cached", **what)
    # Beside rounding a cache may have an output of the encoder one step of float16 apart.
    tolerance = 1e-4 if way == "cached" else 1e-5
    torch.testing.assert_close(again, weights, rtol=0, atol=tolerance)
    np.testing.assert_allclose(logits_again, logits, rtol=0, atol=tolerance)
    assert (state.best_metric, state.best_global_step) == (state_again.best_metric, state_again.best_global_step)
    # The mean loss of an epoch that was broken off is, in Trainer's log, that of the steps since it was resumed.
    told = [[one for one in each.log_history if "eval_loss" in one] for each in (state, state_again)]
    untimed = [
        [{n: v for n, v in one.items() if not n.endswith(("runtime", "second"))} for one in each] for each in told
    ]
    assert len(untimed[0]) == len(untimed[1]) > 0
    for one, other in zip(*untimed, strict=True):
        assert one == pytest.approx(other, abs=tolerance)


class KillInSave(TrainerCallback):
    """Ends a run behind a checkpoint."""

    def __init__(self, step: int):
        self.step = step

    def on_save(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KilledError


def patient(folder, callbacks=()):
    """Six epochs of three steps whose validation never gets better: patience ends them behind step 9."""
    by_epoch = {"eval_strategy": "epoch", "save_strategy": "epoch", "num_train_epochs": 6}
    trainer = small_trainer(folder, None, callbacks, early_stopping_patience=2, **by_epoch)
    trainer.compute_metrics = lambda _: {"uar": 0.5 - 0.1 * trainer.state.epoch}
    return trainer


def test_patience_that_is_used_up_ends_a_resumed_run_at_once(tmp_path):
    whole = patient(tmp_path / "whole")
    whole.train()
    with pytest.raises(KilledError):
        patient(tmp_path / "killed", [KillInSave(9)]).train()
    again = patient(tmp_path / "killed")
    again.train(resume_from_checkpoint=str(tmp_path / "killed" / "checkpoint-9"))
    assert (whole.state.global_step, again.state.global_step) == (9, 9)
    assert_same_outcome(outcome(again), outcome(whole))


def test_seconds_before_a_kill_are_counted(tmp_path):
    clock = Clock()
    clock.earlier = 1000.0
    with pytest.raises(KilledError):
        patient(tmp_path, [clock, KillInSave(3)]).train()
    again = seconds_of(patient(tmp_path, [Clock()]), str(tmp_path / "checkpoint-3"))
    assert 1000 < again < 1000 + 100
    assert seconds_of(patient(tmp_path / "new", [Clock()]), None) < 100


def test_the_uar_of_the_record_is_that_of_the_weights_that_are_kept(tmp_path):
    trainer = patient(tmp_path)
    assert saved_figure(trainer, "uar") is None
    trainer.train()
    assert (trainer.state.best_metric, saved_figure(trainer, "uar")) == (pytest.approx(0.4), pytest.approx(0.2))
    trainer.args.load_best_model_at_end = True
    assert saved_figure(trainer, "uar") == trainer.state.best_metric


@pytest.mark.parametrize(
    ("encoder", "settings", "tolerance"),
    [
        ("wav2vec2", {"gradient_checkpointing": True}, 1e-4),
        # wav2vec2 draws its masks otherwise
        pytest.param("ast", {"torch_compile": True, "torch_compile_backend": "eager"}, 1e-4, marks=pytest.mark.slow),
        ("wav2vec2", {"bf16": True}, 0.05),
    ],
    ids=["gradient_checkpointing", "torch_compile", "bf16"],
)
def test_other_ways_to_compute_train_alike(prepared, tmp_path, encoder, settings, tolerance):
    data = load_prepared(prepared)
    _, plain, _ = train(tmp_path / "plain", data, encoder, AdaptArguments())
    _, other, _ = train(tmp_path / "other", data, encoder, AdaptArguments(), **settings)
    np.testing.assert_allclose(other, plain, atol=tolerance)
    assert np.ptp(plain, axis=0).max() > 2 * tolerance, "rows must differ by more"
