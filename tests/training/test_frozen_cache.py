"""What is frozen is computed once: stored whole or not at all, and read as it was computed."""

import copy
import hashlib
import io
import pickle
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from models.tiny import assert_same_answers
from transformers import ASTConfig, ASTFeatureExtractor, Wav2Vec2Config, Wav2Vec2FeatureExtractor, set_seed

from hf_ser.data.prepare import load_prepared
from hf_ser.data.protocols import Fold
from hf_ser.inputs.collate import Collator
from hf_ser.inputs.frozen import CachedCollator, FrozenCache
from hf_ser.models import (
    SerConfig,
    SerModelForClassification,
    SerProcessor,
    SpectrogramConfig,
    TextRnnConfig,
    WaveformFeatureExtractor,
)
from hf_ser.models.front_end import SpectrogramFrontEnd
from hf_ser.training.arguments import AdaptArguments
from hf_ser.training.building import Candidate, label_maps
from hf_ser.training.fold_data import fold_data
from hf_ser.training.pretrained import train_tokenizer
from hf_ser.training.trainer import SerTrainer
from hf_ser.training.trainer_arguments import SerTrainingArguments

LABELS = ("angry", "happy")
TRANSFORMER = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
SPEECH = {
    **TRANSFORMER,
    "conv_dim": (8, 8),
    "conv_kernel": (10, 8),
    "conv_stride": (40, 8),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "num_feat_extract_layers": 2,
}
CRNN = {"network": "crnn", "front_end": {"n_bands": 16}, "hidden_size": 16}


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_SER_CACHE", str(tmp_path))


def row(seed: int, seconds: float, words: str | None, **more) -> dict:
    """A row of a data set, with noise for a sound."""
    if not seconds:
        return {"id": str(seed), "audio": None, "pcm_sha256": None, "transcript": words, "label": 0, **more}
    clip, file = 0.1 * np.random.default_rng(seed).standard_normal(int(seconds * 16_000)), io.BytesIO()
    soundfile.write(file, clip, 16_000, format="WAV")
    sha = hashlib.sha256(file.getvalue()).hexdigest()
    audio = {"bytes": file.getvalue(), "path": None}
    return {"id": str(seed), "audio": audio, "pcm_sha256": sha, "transcript": words, "label": seed % 2, **more}


ROWS = [row(0, 0.5, "hello you"), row(1, 0.9, None), row(2, 0.7, "what a day there")]
MIXED = [*ROWS, row(3, 0, "you there")]


def audio_only(config=None, freeze: bool = True) -> Candidate:
    """A tiny model that hears, with its encoder frozen."""
    torch.manual_seed(0)
    config = config or Wav2Vec2Config(**SPEECH)
    model = SerModelForClassification(SerConfig(audio_config=config, head_size=8, **label_maps(LABELS)))
    extractor = {
        SpectrogramConfig: lambda: WaveformFeatureExtractor(max_seconds=2),
        ASTConfig: lambda: ASTFeatureExtractor(max_length=config.max_length),
        Wav2Vec2Config: Wav2Vec2FeatureExtractor,
    }[type(config)]()
    model.audio_encoder.requires_grad_(not freeze)
    processor = SerProcessor(extractor)
    return Candidate(model.eval(), processor, Collator(processor), {"audio": model.audio_encoder})


def fused(*frozen: str) -> Candidate:
    """A tiny model of both, with some encoders frozen."""
    torch.manual_seed(0)
    words = train_tokenizer(["hello you what a day there"] * 3)
    text = TextRnnConfig(vocab_size=len(words), hidden_size=16, embedding_size=8)
    config = SerConfig(audio_config=Wav2Vec2Config(**SPEECH), text_config=text, head_size=8, **label_maps(LABELS))
    model = SerModelForClassification(config).eval()
    encoders = {"audio": model.audio_encoder, "text": model.text_encoder}
    for name in frozen:
        encoders[name].requires_grad_(False)
    processor = SerProcessor(Wav2Vec2FeatureExtractor(), words)
    return Candidate(model, processor, Collator(processor), encoders)


def first_and_second(candidate: Candidate, rows: list[dict], monkeypatch, **settings) -> tuple[dict, dict]:
    """A batch as it is computed and as it is read afterwards; the second decodes no sound where all is stored."""
    cache = FrozenCache(candidate, **settings)
    collator = CachedCollator(candidate.collator, cache)
    computed = cache.fill(candidate.model, collator(rows))
    if "audio" in cache.stores:
        monkeypatch.setattr("hf_ser.inputs.collate.decode_audio", lambda _: pytest.fail("a sound was decoded"))
    fresh = CachedCollator(candidate.collator, FrozenCache(candidate, **settings))
    return computed, pickle.loads(pickle.dumps(fresh))(rows)  # as spawned loader workers get it


def test_the_first_epoch_computes_with_what_later_ones_read(monkeypatch):
    candidate = audio_only()
    plain = candidate.model(**candidate.collator(ROWS)).logits
    state = torch.get_rng_state()
    candidate.model.train()
    computed, read = first_and_second(candidate, ROWS, monkeypatch)
    assert torch.equal(torch.get_rng_state(), state), "a batch that is computed would train unlike one that is read"
    assert sorted(computed) == sorted(read) == ["audio_hidden", "audio_mask", "labels"]
    assert all(torch.equal(computed[name], read[name]) for name in read)
    candidate.model.eval()
    torch.testing.assert_close(candidate.model(**read).logits, plain, atol=2e-3, rtol=0)
    assert not torch.allclose(plain[0], plain[1], atol=1e-2)


@pytest.mark.parametrize("way", ["audio", "bands", "front end"])
def test_a_training_from_the_cache_is_that_without(tmp_path, way):
    answers = []
    for cached in (False, True):
        candidate = {
            "audio": audio_only,
            "bands": lambda: audio_only(ASTConfig(**TRANSFORMER, max_length=100)),  # whose positions lie band by band
            "front end": lambda: audio_only(SpectrogramConfig(**CRNN), freeze=False),
        }[way]()
        frozen = FrozenCache(candidate) if cached else None
        if frozen:
            candidate = replace(candidate, collator=CachedCollator(candidate.collator, frozen))
        arguments = SerTrainingArguments(
            output_dir=str(tmp_path),
            num_train_epochs=3,
            per_device_train_batch_size=2,
            learning_rate=1e-3,
            disable_tqdm=True,
            use_cpu=True,
            early_stopping_patience=0,
            load_best_model_at_end=False,
            **dict.fromkeys(("eval_strategy", "save_strategy", "logging_strategy"), "no"),
        )
        set_seed(1)
        SerTrainer(candidate, list(LABELS), frozen, args=arguments, train_dataset=ROWS).train()
        plain = candidate.collator.collator if cached else candidate.collator
        answers.append(candidate.model.eval()(**plain(ROWS)).logits)
    torch.testing.assert_close(*answers, atol=5e-3, rtol=0)


def test_under_fsdp_the_cache_is_refused(tmp_path, monkeypatch):
    candidate = audio_only()
    made = SerTrainer.create_accelerator_and_postprocess

    def sharded(trainer):
        made(trainer)
        trainer.is_fsdp_enabled = True

    monkeypatch.setattr(SerTrainer, "create_accelerator_and_postprocess", sharded)
    arguments = SerTrainingArguments(output_dir=str(tmp_path), use_cpu=True, load_best_model_at_end=False)
    with pytest.raises(ValueError, match="--cache_frozen: found FSDP, under which it was never tested"):
        SerTrainer(
            candidate, list(LABELS), FrozenCache(candidate), args=arguments, train_dataset=ROWS, eval_dataset=ROWS
        )


def test_a_batch_of_which_a_part_is_stored_keeps_that_part(monkeypatch):
    """Else a run that is killed while it stores a batch would go on with other values than it had begun with."""
    candidate = audio_only()
    cache = FrozenCache(candidate)
    cache.stores["audio"].put({ROWS[0]["pcm_sha256"]: np.ones((4, 16), dtype=np.float16)})
    batch = cache.fill(candidate.model, CachedCollator(candidate.collator, cache)(ROWS))
    assert batch["audio_hidden"][0, :4].eq(1).all() and batch["audio_mask"].sum(1)[0] == 4
    assert len(cache.stores["audio"]) == 3


@pytest.mark.parametrize("frozen", [("audio",), ("text",), ("audio", "text")])
def test_fusion_reads_what_is_frozen_and_computes_the_rest(monkeypatch, frozen):
    candidate = fused(*frozen)
    plain = candidate.model(**candidate.collator(MIXED)).logits
    computed, read = first_and_second(candidate, MIXED, monkeypatch)
    assert {f"{name}_hidden" for name in frozen} == {name for name in read if name.endswith("hidden")}
    assert_same_answers(candidate.model(**read).logits.detach(), candidate.model(**computed).logits.detach())
    torch.testing.assert_close(candidate.model(**read).logits, plain, atol=2e-3, rtol=0)


def test_of_a_trained_network_of_ours_the_front_end_is_read(monkeypatch):
    candidate = audio_only(SpectrogramConfig(**CRNN), freeze=False)
    plain = candidate.model(**candidate.collator(ROWS)).logits
    computed, read = first_and_second(candidate, ROWS, monkeypatch)
    assert torch.equal(computed["audio_hidden"], read["audio_hidden"])
    answer = candidate.model(**read)
    torch.testing.assert_close(answer.logits, plain, atol=5e-3, rtol=0)
    answer.loss.backward()
    assert any(p.grad is not None and p.grad.any() for p in candidate.model.audio_encoder.parameters())


def swelling(clip: np.ndarray, _: str, view: int) -> np.ndarray:
    """An augmenter: louder towards the end, the more so the later the view."""
    return clip * np.linspace(1, 2 + view, len(clip), dtype=np.float32)


def test_views_are_told_apart_and_new_ones_are_not_stored(monkeypatch, capsys):
    candidate = audio_only()
    candidate.collator.augmenter = swelling
    views = [ROWS[0], ROWS[0] | {"view": 0}, ROWS[0] | {"view": 1}]
    computed, _ = first_and_second(candidate, views, monkeypatch, augmentation="swelling", views=2)
    hidden = computed["audio_hidden"]
    assert not torch.equal(hidden[0], hidden[1]) and not torch.equal(hidden[1], hidden[2])
    other = CachedCollator(candidate.collator, FrozenCache(candidate, augmentation="fading", views=2))
    assert "cache_keys" not in other(views[:1])
    with pytest.raises(pytest.fail.Exception, match="a sound was decoded"):
        other(views[1:])
    assert not FrozenCache(candidate, augmentation="swelling").stores
    assert "augmented anew in every epoch. Limit the views (--cache_views" in capsys.readouterr().out


def test_the_digest_follows_all_that_decides_the_outputs():
    def stored_at(candidate, **settings):
        return FrozenCache(candidate, settings).stores["audio"].folder

    plain = audio_only()
    assert stored_at(copy.deepcopy(plain)) == stored_at(plain)
    retrained, other_rate, other_head = audio_only(), audio_only(), audio_only()
    with torch.no_grad():
        next(retrained.encoders["audio"].parameters()).view(-1)[0] += 1e-3
        next(other_head.model.head.parameters()).add_(1)
    other_rate.processor.feature_extractor.do_normalize = False
    assert stored_at(other_head) == stored_at(plain)
    others = {stored_at(retrained), stored_at(other_rate), stored_at(plain, audio_layers="mix")}
    assert len(others | {stored_at(plain)}) == 4


def test_what_cannot_be_cached_is_told(capsys):
    from hf_ser.training.adaptation import adapted

    candidate = audio_only(freeze=False)
    assert not FrozenCache(candidate).stores
    batch = CachedCollator(candidate.collator, FrozenCache(candidate))(ROWS)
    assert "input_values" in batch and "cache_keys" not in batch
    model = adapted(candidate.model, candidate.encoders, AdaptArguments(lora="audio"), {"audio": "a model"})
    assert not FrozenCache(Candidate(model, candidate.processor, candidate.collator, candidate.encoders)).stores
    told = capsys.readouterr().out
    assert all(words in told for words in ("it is trained. Freeze it", "LoRA trains it"))


def test_what_is_frozen_must_stay_frozen():
    candidate = audio_only()
    cache = FrozenCache(candidate)
    candidate.encoders["audio"].requires_grad_(True)
    with pytest.raises(ValueError, match="another part of the audio encoder frozen"):
        cache.fill(candidate.model, {})


def test_what_float16_cannot_hold_is_not_stored(capsys):
    candidate = audio_only()
    part = candidate.model.frozen_part

    def large(**batch):
        batch = part(**batch)
        batch["audio_hidden"][1] *= 1e6
        return batch

    candidate.model.frozen_part = large
    cache = FrozenCache(candidate)
    batch = cache.fill(candidate.model, CachedCollator(candidate.collator, cache)(ROWS))
    assert batch["audio_hidden"].isfinite().all() and batch["audio_hidden"][1].abs().max() > 65504
    assert len(cache.stores["audio"]) == 2
    assert "beyond what float16 holds" in capsys.readouterr().out


def test_statistics_that_are_fitted_anew_are_known_by_their_clips(monkeypatch):
    """Else one bit that a new start computes otherwise would throw away all that is stored."""
    candidate = audio_only(
        SpectrogramConfig(**CRNN | {"front_end": {"n_bands": 16, "normalisation": "speaker"}}), False
    )
    front_end = candidate.encoders["audio"].front_end

    def stored_at(fitted: str | None):
        return FrozenCache(candidate, fitted=fitted).stores["audio"].folder

    known = {"speaker_statistics": np.ones((2, 16), dtype=np.float32), "speaker_clips": "a"}
    cache = FrozenCache(candidate, fitted="these clips")
    cache.fill(candidate.model, CachedCollator(candidate.collator, cache)([ROWS[0] | known]))
    loaded = stored_at(None)
    front_end.speaker_mean += 1e-6
    front_end.corpus_mean += 1e-6
    rounded = known | {"speaker_statistics": known["speaker_statistics"] * np.float32(1 + 1e-6)}
    again = CachedCollator(candidate.collator, FrozenCache(candidate, fitted="these clips"))
    assert "cache_keys" not in again([ROWS[0] | rounded])
    assert "cache_keys" in again([ROWS[0] | rounded | {"speaker_clips": "b"}])
    assert len({cache.stores["audio"].folder, stored_at("other clips"), loaded, stored_at(None)}) == 4


@pytest.mark.parametrize("normalisation", ["corpus", "speaker"])
def test_a_new_start_reads_what_is_stored_although_it_fits_the_statistics_anew(prepared, monkeypatch, normalisation):
    data, moments = load_prepared(prepared), SpectrogramFrontEnd.moments
    settings = SimpleNamespace(target="label", cache_views=0, seed=0, enrolment_clips=0)

    def started(train: range):
        candidate = audio_only(
            SpectrogramConfig(**CRNN | {"front_end": {"n_bands": 16, "normalisation": normalisation}}), False
        )
        fold = Fold("1", train, range(40, 44), range(44, 48), "x")
        words = SimpleNamespace(columns={})
        rows = fold_data(data, fold, words, candidate, settings, settings, settings, None)
        cache = FrozenCache(candidate, fitted=rows.fitted)
        return candidate, cache, CachedCollator(candidate.collator, cache)([rows.test[0], rows.test[1]])

    def rounded_otherwise(self, batches):
        found = moments(self, batches)
        return found._replace(mean=found.mean * (1 + 1e-6))

    candidate, cache, batch = started(range(40))
    cache.fill(candidate.model, batch)
    monkeypatch.setattr(SpectrogramFrontEnd, "moments", rounded_otherwise)
    assert "cache_keys" not in started(range(40))[2]
    assert "cache_keys" in started(range(36))[2], "other training rows"
