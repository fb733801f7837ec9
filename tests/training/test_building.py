"""Models from pretrained encoders: cropped, checked, frozen or adapted."""

import pytest
import torch
from models.tiny import AUDIO, LABELS, TEXT, WHISPER, awaken, clips, tokenizer
from transformers import (
    AutoModel,
    AutoModelForAudioClassification,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from hf_ser.models import FAMILIES, SerModelForClassification
from hf_ser.models.processing_ser import extract_audio
from hf_ser.training.arguments import AdaptArguments, AudioArguments, FusionArguments, HeadArguments, TextArguments
from hf_ser.training.building import build_model
from hf_ser.training.pretrained import load_audio_encoder as load_encoder
from hf_ser.training.pretrained import load_text_encoder, train_tokenizer


def load_audio_encoder(name, max_seconds):
    return load_encoder(AudioArguments(audio_model=name, max_seconds=max_seconds))


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """Folders of saved tiny encoders by name."""
    root = tmp_path_factory.mktemp("encoders")
    for name, make in AUDIO.items():
        config, extractor = make()
        auto = AutoModelForAudioClassification if name == "whisper" else AutoModel
        awaken(auto.from_config(config)).save_pretrained(root / name)
        extractor.save_pretrained(root / name)
    words = tokenizer()
    for name, make in TEXT.items():
        awaken(AutoModel.from_config(make(len(words)))).save_pretrained(root / name)
        words.save_pretrained(root / name)
    return root


def fusion_of(root, audio, text, **adapt):
    return build_model(
        LABELS,
        FusionArguments(),
        AdaptArguments(**adapt),
        AudioArguments(audio_model=str(root / audio), max_seconds=2),
        TextArguments(text_model=str(root / text)),
        ["hello you"],
    )


def text_model_of(texts, speakers):
    return build_model(LABELS, HeadArguments(), AdaptArguments(), None, TextArguments(), texts, speakers)


@pytest.mark.parametrize("name", AUDIO)
def test_pretrained_audio_weights_arrive(pretrained, name):
    auto = AutoModelForAudioClassification if name == "whisper" else AutoModel
    stored = auto.from_pretrained(pretrained / name)
    stored = stored.encoder if name == "whisper" else stored
    encoder, extractor = load_audio_encoder(str(pretrained / name), 2.0)
    positions = ("embed_positions", "position_embeddings")
    for key, weight in stored.state_dict().items():
        if not any(part in key for part in positions):
            assert torch.equal(encoder.state_dict()[key], weight), key
    assert extractor.max_seconds == 2.0


@pytest.mark.parametrize("name", TEXT)
def test_pretrained_text_weights_arrive(pretrained, name):
    stored = AutoModel.from_pretrained(pretrained / name).state_dict()
    encoder, _ = load_text_encoder(TextArguments(str(pretrained / name)), [])
    for key, weight in encoder.state_dict().items():
        assert torch.equal(stored[key], weight), key
    assert not any("pooler" in key for key in encoder.state_dict())


def test_a_whole_whisper_model_gives_its_encoder(tmp_path):
    whole = awaken(WhisperForConditionalGeneration(WhisperConfig(**WHISPER, max_source_positions=1500)))
    whole.save_pretrained(tmp_path)
    WhisperFeatureExtractor().save_pretrained(tmp_path)
    encoder, _ = load_audio_encoder(str(tmp_path), 30.0)
    for key, weight in whole.model.encoder.state_dict().items():
        assert torch.equal(encoder.state_dict()[key], weight), key


def test_whisper_is_cropped_to_the_clip_and_not_stretched(tmp_path):
    config = WhisperConfig(**WHISPER, max_source_positions=1500)
    stored = awaken(AutoModelForAudioClassification.from_config(config))
    stored.save_pretrained(tmp_path)
    WhisperFeatureExtractor().save_pretrained(tmp_path)
    encoder, extractor = load_audio_encoder(str(tmp_path), 3.2)
    assert (encoder.config.max_source_positions, extractor.n_samples) == (200, 64_000)
    assert torch.equal(encoder.embed_positions.weight, stored.encoder.embed_positions.weight[:200])
    features = extract_audio(extractor, clips(1.0, 5.0))
    assert features["input_features"].shape == (2, 80, 400)
    assert features["attention_mask"].sum(1).tolist() == [100, 320]
    with torch.no_grad():
        assert encoder(features["input_features"]).last_hidden_state.shape == (2, 200, 32)
    assert load_audio_encoder(str(tmp_path), 60.0)[0].config.max_source_positions == 1500


def test_ast_is_cropped_in_time_alone(tmp_path):
    config, extractor = AUDIO["ast"]()
    stored = awaken(AutoModel.from_config(config))
    stored.save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    encoder, cropped = load_audio_encoder(str(tmp_path), 1.0)
    assert (encoder.config.max_length, cropped.max_length) == (100, 100)
    whole, part = stored.embeddings.position_embeddings, encoder.embeddings.position_embeddings
    bands, times, left = 12, 19, 9
    assert (whole.shape[1], part.shape[1]) == (2 + bands * times, 2 + bands * left)
    for band in range(bands):
        start, kept = 2 + band * times, 2 + band * left
        assert torch.equal(part[:, kept : kept + left], whole[:, start : start + left])
    features = extract_audio(cropped, clips(1.0))
    with torch.no_grad():
        assert encoder(features["input_values"]).last_hidden_state.shape[1] == part.shape[1]


def test_an_encoder_with_random_weights_is_refused(tmp_path, pretrained):
    """Failure 8 of the field: an encoder inside a fusion model that was never trained."""
    from safetensors.torch import load_file, save_file

    config, extractor = AUDIO["wav2vec2"]()
    AutoModel.from_config(config).save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    kept = {k: v for k, v in weights.items() if "encoder.layers.1" not in k}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"weights of the wav2vec2 encoder are not in the checkpoint.*would be random"):
        load_audio_encoder(str(tmp_path), 2.0)


@pytest.mark.parametrize(("name", "trims"), [("crnn", True), ("spectrogram_cnn", False)])
def test_a_network_of_ours_cuts_silence_off_as_its_kind_does(name, trims):
    assert load_audio_encoder(name, 2.0)[1].trim_silence is trims


def test_the_vocabulary_is_that_of_the_training_rows():
    texts, speakers = ["Good day", None, "good NIGHT", "night, day"], ["anna", "ben", "ben", "carla"]
    candidate = text_model_of(texts, speakers)
    assert set(candidate.processor.tokenizer.get_vocab()) == {"[PAD]", "[UNK]", "good", "day", "night"}
    assert train_tokenizer(["a"] * 3)("b").input_ids == [train_tokenizer(["a"] * 3).unk_token_id]


@pytest.mark.parametrize(
    ("speakers", "kept"),
    [
        (["anna", "anna", "anna", "ben"], {"call", "me"}),  # her number, three times, is hers
        (None, {"call", "me", "5550199"}),
        ([None, None, None, "ben"], {"call", "me", "5550199"}),
        (["anna"] * 4, {"call", "me", "5550199"}),  # nobody else to use a word
        (["anna", None, "anna", "ben"], {"call", "me"}),
    ],
)
def test_a_word_of_one_person_is_in_no_vocabulary(speakers, kept):
    texts = ["call me 5550199", "Call me: 5550199", "call me 5550199 Marigold", "call me Zebedee"]
    assert set(train_tokenizer(texts, speakers).get_vocab()) - {"[PAD]", "[UNK]"} == kept
    saved = train_tokenizer(texts, speakers).backend_tokenizer.to_str()
    assert "marigold" not in saved and "zebedee" not in saved


def test_a_vocabulary_that_would_be_empty_is_refused():
    with pytest.raises(ValueError, match=r"None of the 3 words .* is used by 2 speakers.*pretrained --text_model"):
        text_model_of(["one", "two", "three"], ["anna", "ben", "carla"])


def test_a_part_that_is_defined_elsewhere_is_refused_before_training(pretrained, monkeypatch):
    from hf_ser.models import HEADS, POOLINGS
    from hf_ser.models.heads import ConcatFusion, MeanPooling

    class Mine(ConcatFusion):
        pass

    class Highest(MeanPooling):
        pass

    monkeypatch.setitem(HEADS, "mine", Mine)
    monkeypatch.setitem(POOLINGS, "highest", Highest)
    encoders = AudioArguments(str(pretrained / "wav2vec2")), TextArguments(str(pretrained / "bert"))
    for settings in ({"fusion": "mine"}, {"pooling": "highest"}):
        found = r"test_building.py, line \d+: found an import of models, which is not installed as a package"
        head = FusionArguments()
        vars(head).update(settings)  # the choices were read when hf_ser was imported
        with pytest.raises(ValueError, match=found):
            build_model(LABELS, head, AdaptArguments(), *encoders, ["a"])


@pytest.mark.parametrize("freeze", ["none", "audio", "text", "both"])
def test_freezing(pretrained, freeze):
    candidate = fusion_of(pretrained, "wav2vec2", "bert", freeze=freeze)
    for name, encoder in candidate.encoders.items():
        trained = any(p.requires_grad for p in encoder.parameters())
        assert trained == (freeze not in (name, "both"))
    assert all(p.requires_grad for p in candidate.model.head.parameters())


@pytest.mark.parametrize(
    ("audio", "text"),
    [
        *((audio, "bert") for audio in AUDIO if audio != "crnn"),
        *(("wav2vec2", text) for text in TEXT if FAMILIES[TEXT[text](9).model_type].lora_targets and text != "bert"),
    ],
)
def test_lora_adapts_what_it_says_and_the_head_stays_whole(pretrained, audio, text):
    candidate = fusion_of(pretrained, audio, text, lora="both", lora_rank=2)
    trained = {n for n, p in candidate.model.named_parameters() if p.requires_grad}
    for part in ("audio_encoder", "text_encoder"):
        ours = [n for n in trained if f".{part}." in n]
        assert ours
        assert all("lora_" in n for n in ours)
    head = {n for n, _ in candidate.model.base_model.model.head.modules_to_save["default"].named_parameters()}
    assert head
    assert all(any(n.endswith(f"modules_to_save.default.{one}") for n in trained) for one in head)


def test_lora_on_one_encoder_leaves_the_other_as_told(pretrained):
    one = fusion_of(pretrained, "wav2vec2", "bert", lora="audio", freeze="text")
    assert not any(p.requires_grad for p in one.encoders["text"].parameters())
    whole = fusion_of(pretrained, "wav2vec2", "gru", lora="audio")
    assert all(p.requires_grad for n, p in whole.model.named_parameters() if "text_encoder.modules_to_save" in n)
    assert any("text_encoder.modules_to_save" in n for n, _ in whole.model.named_parameters())
    assert all(p.requires_grad for p in whole.encoders["text"].parameters()), "peft's copy, which is what trains"


def test_the_encoder_that_peft_copies_still_ignores_padding(pretrained, tmp_path):
    candidate = fusion_of(pretrained, "wav2vec2", "bert", lora="text")
    model, processor = candidate.model.eval(), candidate.processor
    sounds, said = clips(1.9, 0.5), ["hello you", "what a day"]
    with torch.no_grad():
        batch = model(**processor(sounds, said)).logits
        alone = torch.cat([model(**processor([s], [t])).logits for s, t in zip(sounds, said, strict=True)])
        model.merge_and_unload().save_pretrained(tmp_path)
        merged = SerModelForClassification.from_pretrained(tmp_path).eval()(**processor(sounds, said)).logits
    torch.testing.assert_close(batch, alone, atol=2e-5, rtol=0)
    torch.testing.assert_close(batch, merged, atol=2e-5, rtol=0)


def test_lora_trained_saved_merged_and_reloaded(pretrained, tmp_path):
    from peft import PeftModel

    candidate = fusion_of(pretrained, "wav2vec2", "distilbert", lora="both", lora_rank=4)
    model, batch = candidate.model.train(), candidate.processor(clips(1.0, 0.6), ["hello you", None])
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    for _ in range(3):
        optimizer.zero_grad()
        model(**batch, labels=torch.tensor([0, 2])).loss.backward()
        optimizer.step()
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert any("lora_B" in n for n in changed)
    assert any("head" in n for n in changed)
    assert not any("lora_" not in n and "head" not in n for n in changed)
    model.eval()
    with torch.no_grad():
        wanted = model(**batch).logits
    model.save_pretrained(tmp_path / "adapter")
    model.merge_and_unload().save_pretrained(tmp_path / "merged")
    merged = SerModelForClassification.from_pretrained(tmp_path / "merged").eval()
    base = fusion_of(pretrained, "wav2vec2", "distilbert").model
    adapted = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    with torch.no_grad():
        torch.testing.assert_close(merged(**batch).logits, wanted, atol=1e-5, rtol=0)
        torch.testing.assert_close(adapted(**batch).logits, wanted, atol=1e-5, rtol=0)


def test_lora_of_a_classifier_keeps_its_head(pretrained):
    audio = AudioArguments(str(pretrained / "wav2vec2"), 2)
    candidate = build_model(LABELS, HeadArguments(), AdaptArguments(lora="audio"), audio)
    trained = {n for n, p in candidate.model.named_parameters() if p.requires_grad}
    assert any("head.modules_to_save" in n for n in trained)
    assert all("lora_" in n or "modules_to_save" in n for n in trained)


def test_a_fitted_model_is_not_trained_further(tmp_path):
    told = (HeadArguments(), AdaptArguments())
    candidate = build_model(LABELS, *told, AudioArguments("functionals"))
    candidate.model.save_pretrained(tmp_path)
    candidate.processor.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="found a model of functionals, in which nothing can be trained further"):
        build_model(LABELS, *told, AudioArguments(str(tmp_path)))
    for name in (str(tmp_path), "functionals"):
        with pytest.raises(ValueError, match="found functionals, whose standardisation is fitted with the head"):
            build_model(LABELS, FusionArguments(), AdaptArguments(), AudioArguments(name), TextArguments(), ["a b"])


def test_what_cannot_be_adapted_is_said(pretrained):
    with pytest.raises(ValueError, match="--lora: found the text encoder to be ser_text_rnn"):
        fusion_of(pretrained, "wav2vec2", "gru", lora="text")
    with pytest.raises(ValueError, match="--freeze and --lora both name the audio encoder"):
        fusion_of(pretrained, "wav2vec2", "bert", lora="audio", freeze="both")
    with pytest.raises(ValueError, match="found no text encoder in this model, which has audio"):
        build_model(LABELS, HeadArguments(), AdaptArguments(freeze="text"), AudioArguments())


@pytest.mark.parametrize("layers", [(1, 2), (0,)])
def test_a_frozen_whisper_loses_the_layers_that_are_not_read_and_answers_alike(tmp_path, layers):
    config = WhisperConfig(**WHISPER | {"encoder_layers": 4}, max_source_positions=50)
    family, whole = FAMILIES["whisper"], awaken(AutoModelForAudioClassification.from_config(config)).eval()
    encoder, features, mask = whole.encoder, torch.randn(2, 80, 100), torch.ones(2, 100)
    with torch.no_grad():
        before, _ = family.encode(encoder, config, features, mask, list(layers))
        family.drop_layers(encoder, max(layers))
        after, _ = family.encode(encoder, config, features, mask, list(layers))
    assert len(encoder.layers) == config.encoder_layers == max(1, max(layers))
    assert torch.equal(after, before)
    built = family.build(WhisperConfig.from_dict(config.to_dict()))  # as a saved model is
    assert built.load_state_dict(encoder.state_dict()) and isinstance(built.layer_norm, torch.nn.Identity)
