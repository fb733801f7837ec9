"""Training on distributions: for every model a one-hot one is its label, and votes are learned better from votes."""

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Value
from models.tiny import AUDIO, LABELS, TEXT, TEXTS, assert_same_answers, clips, fused, tokenizer
from peft import LoraConfig, get_peft_model
from scipy.special import softmax

from hf_ser.data.schema import features
from hf_ser.inputs.collate import Collator
from hf_ser.inputs.targets import with_target
from hf_ser.models import (
    FUSIONS,
    SerConfig,
    SerModelForClassification,
    SerProcessor,
    TextRnnConfig,
)
from hf_ser.runs.scores import soft_scores
from hf_ser.training.building import Candidate, label_maps
from hf_ser.training.pretrained import train_tokenizer
from hf_ser.training.trainer import SerTrainer
from hf_ser.training.trainer_arguments import SerTrainingArguments

MODELS = [
    *(("audio", name) for name in AUDIO),
    *(("text", name) for name in TEXT),
    *(("fusion", name) for name in FUSIONS),
]
QUIET = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False, "disable_tqdm": True}


def build(kind: str, name: str) -> Candidate:
    """A tiny model of audio, text or both, without dropout."""
    torch.manual_seed(0)
    if kind == "fusion":
        model, processor = fused(fusion=name, modality_dropout=0.0, dropout=0.0)
    elif kind == "audio":
        config, extractor = AUDIO[name]()
        model, processor = single(audio_config=certain(config)), SerProcessor(extractor)
    else:
        words = tokenizer()
        model, processor = single(text_config=certain(TEXT[name](len(words)))), SerProcessor(None, words)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout | torch.nn.Dropout2d):
            module.p = 0.0
    return Candidate(model, processor, Collator(processor), {})


def single(**encoder) -> SerModelForClassification:
    return SerModelForClassification(SerConfig(**encoder, head_size=16, dropout=0.0, **label_maps(LABELS)))


def certain(config):
    """A configuration without dropout."""
    none = {key: 0.0 for key, value in config.to_dict().items() if "dropout" in key and value}
    config.update(none)
    return config


def trainer_for(candidate: Candidate, folder, rows=None, **settings) -> SerTrainer:
    arguments = SerTrainingArguments(
        **{"output_dir": str(folder), "use_cpu": True, "early_stopping_patience": 0, **QUIET, **settings}
    )
    return SerTrainer(candidate, list(LABELS), args=arguments, train_dataset=rows)


def sixteen_rows() -> list[dict]:
    sounds = clips(*([0.5, 0.8, 0.6, 0.4] * 4))
    return [
        {
            "audio": {"array": sound, "sampling_rate": 16_000},
            "transcript": TEXTS[i % 3] or "you",
            "label": i * 7 % 3,
        }
        for i, sound in enumerate(sounds)
    ]


def one_hot(rows: list[dict]) -> list[dict]:
    return [row | {"target": np.eye(3, dtype=np.float32)[row["label"]].tolist()} for row in rows]


@pytest.mark.parametrize(("kind", "name"), MODELS)
def test_a_one_hot_target_gives_the_loss_and_gradients_of_its_label(kind, name, tmp_path):
    candidate = build(kind, name)
    trainer, rows = trainer_for(candidate, tmp_path), sixteen_rows()[:5]
    found = []
    for batch in (rows, one_hot(rows)):
        candidate.model.zero_grad()
        loss, outputs = trainer.compute_loss(candidate.model, candidate.collator(batch), return_outputs=True)
        loss.backward()
        gradients = {n: p.grad.clone() for n, p in candidate.model.named_parameters() if p.grad is not None}
        found.append((loss.detach(), outputs["logits"].detach(), gradients))
    (hard, hard_logits, hard_gradients), (soft, soft_logits, soft_gradients) = found
    assert_same_answers(soft_logits, hard_logits)
    torch.testing.assert_close(soft, hard, rtol=1e-6, atol=0)
    assert sum(gradient.abs().sum() for gradient in hard_gradients.values()) > 0
    torch.testing.assert_close(soft_gradients, hard_gradients, rtol=1e-6, atol=1e-9)
    assert candidate.model.config.problem_type in (None, "single_label_classification")


def test_late_fusion_keeps_its_branch_losses_under_lora(tmp_path):
    model, processor = fused("wav2vec2", fusion="mean", modality_dropout=0.0)
    adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj"], modules_to_save=["head"])).eval()
    trainer = trainer_for(Candidate(adapted, processor, Collator(processor), {}), tmp_path)
    rows = sixteen_rows()[:3]
    batches = [Collator(processor)(batch) for batch in (rows, one_hot(rows))]
    hard, soft = (trainer.compute_loss(adapted, batch) for batch in batches)
    torch.testing.assert_close(soft, hard)
    bare = torch.nn.functional.cross_entropy(adapted(**batches[0]).logits, batches[0]["labels"])
    assert soft > bare + 0.1


@pytest.mark.parametrize(("kind", "name"), [m for m in MODELS if m[0] != "fusion" or m[1] == "concat"])
def test_the_loss_is_the_mean_cross_entropy_with_the_distribution(kind, name, tmp_path):
    candidate = build(kind, name)
    trainer, rows = trainer_for(candidate, tmp_path), sixteen_rows()[:4]
    shares = torch.tensor([[0.2, 0.5, 0.3], [1.0, 0, 0], [0.4, 0, 0.6], [0.7, 0.7, 0.7]])  # the last: a weighted row
    batch = candidate.collator([row | {"target": s.tolist()} for row, s in zip(rows, shares, strict=True)])
    loss, outputs = trainer.compute_loss(candidate.model, batch, return_outputs=True)
    expected = -(shares * outputs["logits"].log_softmax(-1)).sum(1).mean()
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize(("kind", "name"), [("audio", "wav2vec2"), ("text", "bert"), ("fusion", "mean")])
def test_a_step_is_the_same_however_its_batch_is_accumulated(kind, name, tmp_path):
    """Weights after one step of gradient descent on 16 rows: label or one-hot target, one batch or four."""
    weights, losses = {}, {}
    for steps in (1, 4):
        for rows in (sixteen_rows(), one_hot(sixteen_rows())):
            key = (steps, "target" in rows[0])
            candidate = build(kind, name)
            trainer = trainer_for(
                candidate, tmp_path / f"{key}", rows, max_steps=1, per_device_train_batch_size=16 // steps,
                gradient_accumulation_steps=steps, optim="sgd", learning_rate=0.5, max_grad_norm=0.0, warmup_steps=0,
                weight_decay=0.0, logging_strategy="steps", logging_steps=1,
            )  # fmt: skip
            before = [p.detach().clone() for p in candidate.model.parameters()]
            trainer.train()
            weights[key] = list(candidate.model.parameters())
            losses[key] = trainer.state.log_history[0]["loss"]
            assert max((a - b).abs().max() for a, b in zip(weights[key], before, strict=True)) > 1e-4
    for key in weights:
        assert losses[key] == pytest.approx(losses[1, False], rel=1e-5), key
        torch.testing.assert_close(weights[key], weights[1, False], rtol=1e-4, atol=1e-5)


WORDS = {
    "fury": (0.9, 0.1, 0.0),
    "glee": (0.0, 0.9, 0.1),
    "gloom": (0.1, 0.0, 0.9),
    "oh": (0.45, 0.35, 0.2),
    "so": (0.1, 0.4, 0.5),
}
"""How raters vote on a word."""


def sayings(n: int, seed: int) -> Dataset:
    """Texts of three words, each as ambiguous as its words: the raters' votes are the mean of theirs."""
    typed = features(LABELS)
    draw = np.random.default_rng(seed)
    texts = [draw.choice(list(WORDS), 3) for _ in range(n)]
    votes = [np.mean([WORDS[word] for word in text], axis=0) for text in texts]
    columns = {
        "id": [f"toy/{i}" for i in range(n)],
        "label": [int(shares.argmax()) for shares in votes],
        "votes": [shares.tolist() for shares in votes],
        "transcript": [" ".join(text) for text in texts],
        "duration_seconds": [1.0] * n,
    }
    return Dataset.from_dict(columns, features=Features({name: typed.get(name, Value("string")) for name in columns}))


def trained_on(target: str, data: Dataset, unseen: Dataset, folder) -> np.ndarray:
    words = train_tokenizer(data["transcript"][:])
    torch.manual_seed(0)
    text = TextRnnConfig(vocab_size=len(words), hidden_size=32, embedding_size=16)
    model, processor = (
        SerModelForClassification(SerConfig(text_config=text, head="linear", **label_maps(LABELS))),
        SerProcessor(None, words),
    )
    candidate = Candidate(model, processor, Collator(processor), {})
    rows = with_target(data, range(len(data)), target)
    trainer = trainer_for(candidate, folder, rows, num_train_epochs=8, learning_rate=3e-2)
    trainer.train()
    return softmax(trainer.logits(unseen), axis=-1)


def test_votes_are_learned_better_from_votes_than_from_labels(tmp_path):
    data, unseen = sayings(100, seed=1), sayings(60, seed=2)
    votes = np.array(unseen["votes"][:])
    hard, soft = (soft_scores(trained_on(target, data, unseen, tmp_path), votes) for target in ("label", "votes"))
    assert soft["kl"] < 0.05 < 0.3 < hard["kl"]
    assert soft["brier"] < 0.25 * hard["brier"]
    assert soft["cosine"] > hard["cosine"]
    assert soft["entropy_correlation"] > hard["entropy_correlation"]
    assert soft["majority_wa"] > 0.8
