"""A ridge on text, with the previous turns of a dialogue and with class weights to a power: runs on MELD in small."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from corpora_trees import meld as tree
from models.tiny import TINY
from transformers import AutoModel, BertConfig, ElectraConfig, MPNetConfig, RobertaConfig

from hf_ser.models import SerPipeline
from hf_ser.models.encoders import family_of
from hf_ser.runs.folder import RunFolder
from hf_ser.runs.predictions import PREDICTIONS, read_predictions
from hf_ser.training.arguments import AdaptArguments, AudioArguments, HeadArguments, TextArguments
from hf_ser.training.class_fits import RidgeFit, chosen_strength
from hf_ser.training.pretrained import train_tokenizer
from hf_ser.training.solved_heads import reject_descent
from hf_ser.training.trainer_arguments import SerTrainingArguments

SAID = dict(zip(tree.EMOTIONS, ("well", "great", "alas", "enough", "help", "yuck", "what"), strict=True))


@pytest.fixture(scope="module")
def meld(tmp_path_factory):
    """Dialogues of six turns, in each of which one emotion lasts; every speaker is in one part."""
    folder = tmp_path_factory.mktemp("meld")
    for part, dialogues in (("train", 21), ("dev", 7), ("test", 7)):
        rows = [
            tree.row(f"{SAID[emotion]} number {turn}", f"{part} {dialogue % 2}", emotion, dialogue, turn)
            for dialogue in range(dialogues)
            for emotion in [tree.EMOTIONS[dialogue % 7]]
            for turn in range(6)
        ]
        tree.write_table(folder / f"{part}_sent_emo.csv", rows)
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    words = train_tokenizer([*SAID.values(), "number 0 1 2 3 4 5"] * 3)
    words.save_pretrained(folder)
    AutoModel.from_config(BertConfig(vocab_size=len(words), **TINY)).save_pretrained(folder)
    return folder


def test_a_run_reads_previous_turns_and_its_model_answers_so_again(meld, bert, script, tmp_path):
    flags = ("--corpus", "meld", "--data_dir", meld, "--protocol", "fixed", "--disable_tqdm", "true")
    flags += ("--text_model", bert, "--text_layers", "1,2", "--head", "ridge", "--class_weights", "0.5")
    flags += ("--context", "2", "--allow_leak", "true")  # the words that are made here give the label
    script("train_text", *flags, "--output_dir", tmp_path)
    run = RunFolder(tmp_path).folds["1"]
    predicted = {row.id: row for row in read_predictions(run.path / PREDICTIONS)}
    assert run.record.notes and "the 2 turns before" in " ".join(run.record.notes)
    classify = SerPipeline.from_pretrained(run.path)
    turns = [f"{SAID['fear']} number {turn}" for turn in range(4)]
    answer = classify(turns[-1], context=turns[:-1])
    row = predicted["meld/test_dia4_utt3"]
    assert {each["label"]: each["score"] for each in answer} == pytest.approx(row.probabilities, abs=1e-4)


def test_a_head_that_reads_no_turns_refuses_them():
    parts = (AdaptArguments(), SerTrainingArguments(output_dir="x", use_cpu=True))
    with pytest.raises(ValueError, match="--context is 3, --head mlp: found a head that reads no previous turns"):
        reject_descent([TextArguments(context=3)], HeadArguments(), *parts)
    reject_descent([TextArguments(context=3, text_model="a/b")], HeadArguments(head="ridge"), *parts)


def test_class_weights_to_a_power_lie_between_equal_clips_and_equal_classes():
    draw, labels = np.random.default_rng(0), np.array([0] * 30 + [1] * 6)
    vectors, targets = draw.normal(size=(36, 4)) + labels[:, None], np.eye(2)[labels]
    found = {}
    for power in (0, 0.5, 1):
        fitted = RidgeFit(vectors, targets, class_power=power).fit(np.arange(36), 0.3)
        found[power] = (fitted.answers(vectors, 2).argmax(1) == 1).mean()
    assert found[0] < found[0.5] < found[1]


def test_a_ridge_takes_class_weights_and_a_logistic_regression_does_not():
    parts = (AdaptArguments(), SerTrainingArguments(output_dir="x", use_cpu=True, class_weights=0.5))
    reject_descent([TextArguments(text_model="a/b")], HeadArguments(head="ridge"), *parts)
    reject_descent([AudioArguments(audio_model="random_kernels")], HeadArguments(), *parts)
    with pytest.raises(ValueError, match=r"--class_weights is 0\.5, --head logistic: found a logistic regression"):
        reject_descent([TextArguments(text_model="a/b")], HeadArguments(head="logistic"), *parts)


@pytest.mark.parametrize("kind", [BertConfig, RobertaConfig, MPNetConfig, ElectraConfig])
def test_layers_above_the_highest_that_is_read_change_nothing_and_go(kind):
    config = kind(**TINY | {"num_hidden_layers": 4}, vocab_size=30)
    encoder, ids = AutoModel.from_config(config).eval(), torch.tensor([[3, 4, 5, 6]])
    with torch.no_grad():
        before = encoder(ids, output_hidden_states=True).hidden_states[2]
        family_of(config).drop_layers(encoder, 2)
        after = encoder(ids, output_hidden_states=True)
    assert len(encoder.encoder.layer) == encoder.config.num_hidden_layers == 2
    torch.testing.assert_close(after.last_hidden_state, before)


def test_classes_count_in_the_choice_of_the_strength_as_in_the_fit(monkeypatch):
    truth = np.array([0] * 40 + [1] * 10)
    method = RidgeFit(np.zeros((50, 2)), np.eye(2)[truth], class_power=0)
    of_strength = {0.3: (0.5, 1.0), 0.6: (1.0, 0.4), 1.2: (0.0, 1.0), 2.5: (1.0, 0.0)}  # recalls of the classes
    right = {
        strength: np.concatenate([np.arange(n) < share * n for n, share in zip((40, 10), shares, strict=True)])
        for strength, shares in of_strength.items()
    }

    def fits(rows, strengths):
        for strength in strengths:
            answers = np.eye(2)[np.where(right[strength], truth, 1 - truth)]
            left_out = np.setdiff1d(np.arange(50), rows)
            yield SimpleNamespace(answers=lambda _, __, answers=answers[left_out]: answers)

    monkeypatch.setattr(method, "fits", fits)
    speakers = [f"s{row % 5}" for row in range(50)]
    assert chosen_strength(method, speakers)[:2] == (0.6, pytest.approx(0.7))
    method.class_power = 1.0
    assert chosen_strength(method, speakers)[:2] == (0.3, pytest.approx(0.75))
