"""What is frozen is computed once, in one pass before the training, and read as it was computed."""

import copy
import hashlib
import io
import pickle
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from datasets import Dataset
from transformers import ASTConfig, ASTFeatureExtractor, Wav2Vec2Config, Wav2Vec2FeatureExtractor, set_seed

from hf_ser.augment.views import View, with_views
from hf_ser.data.folds import Fold
from hf_ser.data.prepared import load_prepared
from hf_ser.inputs.collate import Collator
from hf_ser.models import (
    SerConfig,
    SerModelForClassification,
    SerProcessor,
    SpectrogramConfig,
    TextRnnConfig,
    WaveformFeatureExtractor,
)
from hf_ser.models.front_end import SpectrogramFrontEnd
from hf_ser.training import frozen_pass
from hf_ser.training.arguments import AdaptArguments
from hf_ser.training.building import Candidate, label_maps
from hf_ser.training.fold_data import FoldData, fold_data
from hf_ser.training.frozen_pass import empty_features, frozen_features, passes
from hf_ser.training.pretrained import train_tokenizer
from hf_ser.training.standardisation import standardise_frozen
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


def row(seed: int, seconds: float, text: str | None) -> dict:
    """A row of a data set, its audio noise."""
    same = {"id": str(seed), "transcript": text, "label": seed % 2, "duration_seconds": seconds or None}
    if not seconds:
        return {"audio": None, "pcm_sha256": None, **same}
    clip, file = 0.1 * np.random.default_rng(seed).standard_normal(int(seconds * 16_000)), io.BytesIO()
    soundfile.write(file, clip, 16_000, format="WAV")
    sha = hashlib.sha256(file.getvalue()).hexdigest()
    return {"audio": {"bytes": file.getvalue(), "path": None}, "pcm_sha256": sha, **same}


ROWS = [row(0, 0.5, "hello you"), row(1, 0.9, None), row(2, 0.7, "what a day there")]
MIXED = [*ROWS, row(3, 0, "you there")]


def audio_only(config=None, freeze: bool = True) -> Candidate:
    """A tiny audio-only model, with its encoder frozen."""
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


def settings(folder, **more) -> SerTrainingArguments:
    """Arguments of three short epochs."""
    return SerTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=3,
        per_device_train_batch_size=2,
        per_device_eval_batch_size=2,
        learning_rate=1e-3,
        disable_tqdm=True,
        use_cpu=True,
        early_stopping_patience=0,
        load_best_model_at_end=False,
        **dict.fromkeys(("eval_strategy", "save_strategy", "logging_strategy"), "no"),
        **more,
    )


def data(rows: list[dict]) -> FoldData:
    """Rows as the training part of a fold that has no other."""
    whole = Dataset.from_list(rows)
    return FoldData(whole, whole.select([]), whole.select([]))


def read(candidate: Candidate, rows: list[dict], folder, monkeypatch, **more) -> dict:
    """The batch of rows by a collator that reads what the pass has stored, as spawned loader workers get it."""
    collator = replace(candidate.collator, frozen=frozen_features(candidate, data(rows), settings(folder, **more)))
    if "audio" in collator.frozen.stores:
        monkeypatch.setattr("hf_ser.inputs.collate.decode_audio", lambda _: pytest.fail("audio was decoded"))
    return pickle.loads(pickle.dumps(collator))(rows)


def test_a_batch_is_read_as_it_is_computed(tmp_path, monkeypatch):
    candidate = audio_only()
    plain = candidate.model(**candidate.collator(ROWS)).logits
    batch = read(candidate, ROWS, tmp_path, monkeypatch)
    assert sorted(batch) == ["audio_hidden", "audio_mask", "labels"]
    torch.testing.assert_close(candidate.model(**batch).logits, plain, atol=2e-3, rtol=0)
    assert not torch.allclose(plain[0], plain[1], atol=1e-2)


def test_the_pass_computes_each_clip_once_the_longest_first_and_names_its_bar(tmp_path, monkeypatch, capsys):
    candidate, seen = audio_only(), []
    computed = candidate.model.frozen_part
    monkeypatch.setattr(
        candidate.model, "frozen_part", lambda **batch: seen.append(batch["audio_mask"].sum(1)) or computed(**batch)
    )
    shown = replace(settings(tmp_path), disable_tqdm=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    features = frozen_features(candidate, data([*MIXED, ROWS[0]]), shown)
    lengths = torch.cat(seen).tolist()
    assert lengths == sorted(lengths, reverse=True) and len(lengths) == len(ROWS) == len(features.stores["audio"])
    assert "frozen audio features: 100%" in capsys.readouterr().err
    frozen_features(candidate, data([*MIXED, ROWS[0]]), shown)
    assert len(torch.cat(seen)) == len(ROWS) and "frozen audio" not in capsys.readouterr().err


def test_a_pass_that_is_killed_goes_on_where_it_was(tmp_path, monkeypatch):
    candidate = audio_only()
    computed, rows = candidate.model.frozen_part, [*ROWS, row(4, 0.4, None)]

    def killed_in_the_second_batch(**batch):
        if len(batch["audio_mask"]) == 2 and batch["audio_mask"].sum(1).max() < 12_000:
            raise KeyboardInterrupt
        return computed(**batch)

    monkeypatch.setattr(candidate.model, "frozen_part", killed_in_the_second_batch)
    with pytest.raises(KeyboardInterrupt):
        frozen_features(candidate, data(rows), settings(tmp_path))
    monkeypatch.setattr(candidate.model, "frozen_part", computed)
    store = empty_features(candidate, data(rows), settings(tmp_path)).stores["audio"]
    stored = store.get([rows[1]["pcm_sha256"]])
    assert len(store) == 2 and stored
    whole = frozen_features(candidate, data(rows), settings(tmp_path)).stores["audio"]
    assert len(whole) == 4


@pytest.mark.parametrize("way", ["audio", "bands", "front end"])
def test_a_training_on_stored_features_is_that_without(tmp_path, way):
    answers = []
    for cached in (False, True):
        candidate = {
            "audio": audio_only,
            "bands": lambda: audio_only(ASTConfig(**TRANSFORMER, max_length=100)),  # its positions are band by band
            "front end": lambda: audio_only(SpectrogramConfig(**CRNN), freeze=False),
        }[way]()
        plain, arguments, rows = candidate.collator, settings(tmp_path), data(ROWS)
        if cached:
            candidate.collator = replace(plain, frozen=frozen_features(candidate, rows, arguments))
        set_seed(1)
        SerTrainer(candidate, list(LABELS), args=arguments, train_dataset=rows.train).train()
        answers.append(candidate.model.eval()(**plain(ROWS)).logits)
    torch.testing.assert_close(*answers, atol=5e-3, rtol=0)


def standardised(candidate: Candidate, rows: FoldData, arguments) -> SerModelForClassification:
    """The model of a candidate, with the statistics of the rows."""
    plain = candidate.collator
    candidate.collator = replace(plain, frozen=frozen_features(candidate, rows, arguments))
    standardise_frozen(candidate, rows, arguments)
    candidate.collator = plain
    return candidate.model.eval()


@pytest.mark.parametrize("layers", ["last", "mix"])
def test_a_trained_head_reads_frozen_features_standardised_and_they_are_saved(tmp_path, layers):
    torch.manual_seed(0)
    config = {"audio_config": Wav2Vec2Config(**SPEECH), "audio_layers": layers, "head_size": 8, **label_maps(LABELS)}
    candidate = audio_only()
    model = candidate.model = SerModelForClassification(SerConfig(**config)).eval()
    candidate.encoders["audio"] = model.audio_encoder.requires_grad_(False)
    standardised(candidate, data(ROWS), settings(tmp_path / "run"))
    batch = candidate.collator(ROWS)
    audio = model.encode_audio(batch["input_values"], batch["audio_mask"])
    read = model.audio_standardisation(audio.hidden)[audio.mask]
    torch.testing.assert_close(read.mean(0), torch.zeros(read.shape[1:]), atol=0.02, rtol=0)
    assert read.std(0).min() > 0.8 and read.std(0).max() < 1.02 and read.abs().max() <= 4
    model.save_pretrained(tmp_path / "saved")
    again = SerModelForClassification.from_pretrained(tmp_path / "saved").eval()
    assert again.config.standardised == ["audio"]
    assert torch.equal(again(**batch).logits, model(**batch).logits)
    alone = model(**candidate.collator(ROWS[:1])).logits
    torch.testing.assert_close(alone, model(**batch).logits[:1], atol=1e-5, rtol=0)


def test_of_fusion_each_frozen_encoder_is_standardised_and_a_missing_modality_stays_missing(tmp_path):
    candidate = fused("audio", "text")
    plain = candidate.model(**candidate.collator(MIXED)).logits
    model = standardised(candidate, data(MIXED), settings(tmp_path))
    changed = model(**candidate.collator(MIXED)).logits
    assert model.config.standardised == ["audio", "text"]
    assert not torch.allclose(changed, plain, atol=1e-2)
    for row in MIXED:
        torch.testing.assert_close(
            model(**candidate.collator([row])).logits[0], changed[MIXED.index(row)], atol=1e-5, rtol=0
        )
    trained = fused("text")
    assert standardised(trained, data(MIXED), settings(tmp_path)).config.standardised == ["text"]


def test_a_frozen_text_is_standardised_beside_audio_that_is_augmented_anew(tmp_path):
    candidate = fused("text")
    rows = with_changes(candidate, "swelling", 0)
    assert standardised(candidate, rows, settings(tmp_path)).config.standardised == ["text"]


def test_features_without_room_are_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_SER_CACHE", str(tmp_path / "no/such/yet"))
    monkeypatch.setattr(frozen_pass.shutil, "disk_usage", lambda folder: SimpleNamespace(free=0))
    with pytest.raises(OSError, match=r"found room for 0.0 GB, and the features of .* HF_SER_CACHE"):
        frozen_features(audio_only(), data(ROWS), settings(tmp_path))


def test_room_is_looked_for_once_so_that_a_pass_may_fill_the_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_SER_CACHE", str(tmp_path / "cache"))
    left = iter([10**9, 0, 0])
    monkeypatch.setattr(frozen_pass.shutil, "disk_usage", lambda folder: SimpleNamespace(free=next(left)))
    features = frozen_features(audio_only(), data(ROWS), settings(tmp_path))  # two batches, without a bar
    assert len(features.stores["audio"]) == len(ROWS)


def test_what_is_standardised_has_an_encoder():
    with pytest.raises(ValueError, match=r"standardised is \['text'\]: expected some of audio"):
        SerConfig(audio_config=Wav2Vec2Config(**SPEECH), standardised=["text"])


@pytest.mark.parametrize(
    ("processor", "asked", "note"),
    [
        (True, False, "--bf16 true takes less time"),
        (False, True, "leave out --bf16"),
        (True, True, ""),
        (False, False, ""),
    ],
)
def test_a_note_says_which_precision_the_processor_is_made_for(tmp_path, monkeypatch, capsys, processor, asked, note):
    monkeypatch.setattr(frozen_pass, "computes_bfloat16", lambda: processor)
    monkeypatch.setenv("HF_SER_CACHE", str(tmp_path))
    frozen_pass.note_precision.cache_clear()
    frozen_features(audio_only(), data(ROWS), settings(tmp_path / "run", bf16=asked))
    printed = capsys.readouterr().out
    assert note in printed and ("bf" in printed) == bool(note)


def test_none_are_kept_under_fsdp_or_of_what_a_stage_may_train(tmp_path, monkeypatch, capsys):
    candidate, rows = audio_only(), data(ROWS)
    assert not frozen_features(candidate, rows, settings(tmp_path, stages="head:1@1e-3,all:2@1e-4")).stores
    assert (
        "features of the frozen audio encoder are neither kept nor standardised: a later stage may train it"
        in capsys.readouterr().out
    )
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert not frozen_features(candidate, rows, settings(tmp_path)).stores
    assert "FSDP splits the model" in capsys.readouterr().out


@pytest.mark.parametrize("frozen", [("audio",), ("text",), ("audio", "text")])
def test_fusion_reads_what_is_frozen_and_computes_the_rest(tmp_path, monkeypatch, frozen):
    candidate = fused(*frozen)
    plain = candidate.model(**candidate.collator(MIXED)).logits
    batch = read(candidate, MIXED, tmp_path, monkeypatch)
    assert {f"{name}_hidden" for name in frozen} == {name for name in batch if name.endswith("hidden")}
    torch.testing.assert_close(candidate.model(**batch).logits, plain, atol=2e-3, rtol=0)


def test_a_text_of_unknown_words_is_no_text_beside_audio_and_one_without(tmp_path, monkeypatch):
    candidate, unknown = fused("text"), "zzz"
    rows = [ROWS[0] | {"transcript": unknown}, ROWS[1], row(3, 0, unknown)]
    plain = candidate.collator(rows)
    batch = read(candidate, rows, tmp_path, monkeypatch)
    assert batch["text_mask"].any(1).tolist() == plain["text_mask"].bool().any(1).tolist() == [False, False, True]


def test_of_a_trained_network_of_ours_the_front_end_is_read(tmp_path, monkeypatch):
    candidate = audio_only(SpectrogramConfig(**CRNN), freeze=False)
    plain = candidate.model(**candidate.collator(ROWS)).logits
    answer = candidate.model(**read(candidate, ROWS, tmp_path, monkeypatch))
    torch.testing.assert_close(answer.logits, plain, atol=5e-3, rtol=0)
    answer.loss.backward()
    assert any(p.grad is not None and p.grad.any() for p in candidate.model.audio_encoder.parameters())


def swelling(clip: np.ndarray, _: str, view: int) -> np.ndarray:
    """An augmenter: louder towards the end, the more so the later the view."""
    return clip * np.linspace(1, 2 + view, len(clip), dtype=np.float32)


def with_changes(candidate: Candidate, key: str, views: int) -> FoldData:
    """The rows in views, which a fold of this candidate trains on."""
    view, rows = View(), data(ROWS)
    swelling.keys = (key,)
    candidate.collator.augmenter = swelling
    return replace(rows, train=with_views(rows.train, view, views), validation=rows.train, view=view)


def test_views_are_told_apart_and_new_ones_are_not_stored(tmp_path, monkeypatch, capsys):
    candidate = audio_only()
    arguments = settings(tmp_path, cache_views=2)
    rows = with_changes(candidate, "swelling", 2)
    features = frozen_features(candidate, rows, arguments)
    assert len(features.stores["audio"]) == 3 * len(ROWS)  # as validation rows, unchanged, and two views
    first = [ROWS[0], ROWS[0] | {"view": 0}, ROWS[0] | {"view": 1}]
    hidden = features.batch(first)["audio_hidden"]
    assert not torch.equal(hidden[0], hidden[1]) and not torch.equal(hidden[1], hidden[2])
    others = empty_features(candidate, with_changes(candidate, "fading", 2), arguments)
    assert others.batch(first[:1]) and others.stores["audio"].missing([others.key("audio", first[1])])
    assert not empty_features(candidate, with_changes(candidate, "swelling", 0), settings(tmp_path)).stores
    assert "augmented anew in every epoch. Limit the views (--cache_views" in capsys.readouterr().out


def test_a_head_that_is_solved_for_has_the_changed_validation_clips_too():
    rows = with_changes(audio_only(), "swelling", 2)
    parts = list(passes(rows, 2, is_solved=True))
    assert [view for view, part in parts if len(part)] == [None, None, 0, 0, 1, 1]
    assert [view for view, part in passes(rows, 2, is_solved=False) if len(part)] == [None, 0, 1]


def test_the_digest_follows_all_that_decides_the_features(tmp_path):
    def stored_at(candidate, **more):
        return empty_features(candidate, data(ROWS), settings(tmp_path, **more)).stores["audio"].folder

    plain = audio_only()
    assert stored_at(copy.deepcopy(plain)) == stored_at(plain)
    retrained, other_rate, other_head, mixed = audio_only(), audio_only(), audio_only(), audio_only()
    with torch.no_grad():
        next(retrained.encoders["audio"].parameters()).view(-1)[0] += 1e-3
        next(other_head.model.head.parameters()).add_(1)
    other_rate.processor.feature_extractor.do_normalize = False
    mixed.model.config.audio_layers = "mix"
    assert stored_at(other_head) == stored_at(plain)
    others = {stored_at(retrained), stored_at(other_rate), stored_at(mixed), stored_at(plain)}
    assert len(others) == 4


def test_of_what_is_trained_nothing_is_kept_and_nothing_said(tmp_path, capsys):
    from hf_ser.training.adaptation import adapted

    candidate = audio_only(freeze=False)
    features = frozen_features(candidate, data(ROWS), settings(tmp_path))
    assert not features.stores and "input_values" in replace(candidate.collator, frozen=features)(ROWS)
    model = adapted(candidate.model, candidate.encoders, AdaptArguments(lora="audio"), {"audio": "a model"})
    assert not empty_features(replace(candidate, model=model), data(ROWS), settings(tmp_path)).stores
    assert "kept" not in capsys.readouterr().out


def test_features_that_are_lost_in_training_are_an_error_that_says_what_to_do(tmp_path):
    candidate = audio_only()
    features = frozen_features(candidate, data(ROWS), settings(tmp_path))
    with pytest.raises(ValueError, match=r"no audio features of 1 clips.*give the same command again"):
        features.batch([row(9, 0.3, None)])
    with pytest.raises(ValueError, match="9: found no digest of its audio"):
        features.batch([row(9, 0.3, None) | {"pcm_sha256": None}])


def test_statistics_that_are_fitted_anew_are_known_by_their_clips(tmp_path):
    """Else one bit that a new start computes otherwise would throw away all that is stored."""
    candidate = audio_only(
        SpectrogramConfig(**CRNN | {"front_end": {"n_bands": 16, "normalisation": "speaker"}}), False
    )
    front_end = candidate.encoders["audio"].front_end

    def features(fitted: str | None):
        return empty_features(candidate, replace(data(ROWS), fitted=fitted), settings(tmp_path))

    before, loaded = features("these clips").stores["audio"].folder, features(None).stores["audio"].folder
    front_end.speaker_mean += 1e-6
    front_end.corpus_mean += 1e-6
    folders = {before, *(features(one).stores["audio"].folder for one in ("these clips", "other clips", None)), loaded}
    assert len(folders) == 4
    known = ROWS[0] | {"speaker_statistics": np.ones((2, 16), dtype=np.float32), "speaker_clips": "a"}
    rounded = known | {"speaker_statistics": known["speaker_statistics"] * np.float32(1 + 1e-6)}
    key = features("these clips").key
    assert key("audio", known) == key("audio", rounded) != key("audio", rounded | {"speaker_clips": "b"})


@pytest.mark.parametrize("normalisation", ["corpus", "speaker"])
def test_a_new_start_reads_what_is_stored_although_it_fits_the_statistics_anew(
    prepared, tmp_path, monkeypatch, normalisation
):
    whole, moments = load_prepared(prepared), SpectrogramFrontEnd.moments
    given = SimpleNamespace(target="label", cache_views=0, seed=0, enrolment_clips=0)
    computed = []

    def started(train: range):
        candidate = audio_only(
            SpectrogramConfig(**CRNN | {"front_end": {"n_bands": 16, "normalisation": normalisation}}), False
        )
        fold = Fold("1", train, range(40, 44), range(44, 48), "x")
        transcripts = SimpleNamespace(columns={})
        rows = fold_data(whole, fold, transcripts, candidate, given, given, given, None)
        part = candidate.model.frozen_part
        candidate.model.frozen_part = lambda **batch: computed.append(len(batch["input_values"])) or part(**batch)
        frozen_features(candidate, rows, settings(tmp_path))

    def rounded_otherwise(self, batches):
        found = moments(self, batches)
        return found._replace(mean=found.mean * (1 + 1e-6))

    started(range(40))
    assert computed
    computed.clear()
    monkeypatch.setattr(SpectrogramFrontEnd, "moments", rounded_otherwise)
    started(range(40))
    assert not computed
    started(range(36))
    assert computed, "other training rows"
