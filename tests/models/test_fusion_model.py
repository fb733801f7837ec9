"""The fused model: every encoder and head, whatever a clip is batched with, and with a modality missing."""

import pytest
import torch
from models.tiny import AUDIO, LABELS, SPEECH, TEXT, TEXTS, assert_same_answers, clips, fused

from hf_ser.models import FUSIONS, SerConfig
from hf_ser.models.encoders import family_of

PAIRS = [
    *((audio, "gru", "gated") for audio in AUDIO),
    *(("wav2vec2", text, "gated") for text in TEXT if text != "gru"),
    *(("crnn", "gru", fusion) for fusion in FUSIONS if fusion != "gated"),
    ("ast", "bert", "cross_attention"),
    ("whisper", "distilbert", "weighted"),
]


def logits(model, processor, audio, text):
    with torch.no_grad():
        return model(**processor(audio, text)).logits


@pytest.mark.parametrize(("audio", "text", "fusion"), PAIRS)
def test_a_clip_gives_the_same_alone_as_in_a_padded_batch(audio, text, fusion):
    model, processor = fused(audio, text, fusion)
    sounds = clips(1.0, 1.9, 0.35)
    batch = logits(model, processor, sounds, list(TEXTS))
    alone = torch.cat([logits(model, processor, [sound], [said]) for sound, said in zip(sounds, TEXTS, strict=True)])
    assert batch.std(0).min() > 1e-3, "the rows must differ, or this test could not fail"
    torch.testing.assert_close(batch, alone, atol=2e-5, rtol=0)


@pytest.mark.parametrize(("audio", "text", "fusion"), PAIRS)
def test_all_weights_learn_and_missing_words_are_no_other_words(audio, text, fusion):
    model, processor = fused(audio, text, fusion, modality_dropout=0.0)
    sounds = clips(1.0, 1.9, 0.35)
    spoken, silent = ["hello you"] * 3, [None] * 3
    assert_same_answers(logits(model, processor, sounds, silent), logits(model, processor, sounds, None))
    assert not torch.allclose(logits(model, processor, sounds, spoken), logits(model, processor, sounds, silent))
    words_only = logits(model, processor, [None] * 3, spoken)
    torch.testing.assert_close(words_only, logits(model, processor, None, spoken))
    model.train()
    model(**processor(sounds, ["hello you", None, "what a day"]), labels=torch.tensor([0, 1, 2])).loss.backward()
    # The words of a row are unused where it has none, its stand-in where it has some: here both occur.
    dead = {n for n, p in model.named_parameters() if p.grad is None and p.requires_grad}
    assert not {name for name in dead if "masked_spec_embed" not in name and "head.audio.missing" not in name}


def test_group_norm_models_depend_on_padding_without_the_mask():
    """What `ignore_padding` is for: transformers' own wav2vec2-base changes with what a clip is padded with."""
    from models.tiny import SPEECH, awaken
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    from hf_ser.models.padding import ignore_padding

    torch.manual_seed(0)
    stock = awaken(Wav2Vec2Model(Wav2Vec2Config(**SPEECH)))
    clip = torch.from_numpy(clips(0.5)[0])[None]
    padded, mask = torch.nn.functional.pad(clip, (0, 16_000)), torch.zeros(1, 24_000, dtype=torch.long)
    mask[:, :8000] = 1
    with torch.no_grad():
        alone = stock(clip).last_hidden_state
        before = stock(padded, attention_mask=mask).last_hidden_state[:, : alone.shape[1]]
        ignore_padding(stock)
        after = stock(padded, attention_mask=mask).last_hidden_state[:, : alone.shape[1]]
        unmasked = stock(clip).last_hidden_state
    assert (before - alone).abs().max() > 1e-2
    torch.testing.assert_close(after, alone, atol=2e-5, rtol=0)
    torch.testing.assert_close(unmasked, alone)


@pytest.mark.parametrize("audio", AUDIO)
def test_frames_of_padding_are_masked_out(audio):
    model, processor = fused(audio)
    batch = processor(clips(1.0, 0.5), None)
    with torch.no_grad():
        sequences = model.encode_audio(batch["input_values"], batch["audio_mask"])
        alone = model.encode_audio(*processor(clips(0.5, seed=1), None).values())
    long, short = sequences.mask.sum(1).tolist()
    assert 1.7 < long / short < 2.3
    assert short == alone.mask.sum()
    if audio not in ("whisper", "ast"):  # these two are padded to one length even alone
        assert short == alone.hidden.shape[1]
    model.training = True  # without the dropout of its parts
    with torch.no_grad():
        closed = model.encode_audio(batch["input_values"], batch["audio_mask"])
    assert closed.hidden.shape[1] == long, "in training none but the sound's own positions"
    for row in range(2):
        own, expected = (one.hidden[row][one.mask[row]] for one in (closed, sequences))
        torch.testing.assert_close(own, expected, rtol=0, atol=1e-6)


def test_an_encoder_whose_frames_are_not_known_is_refused():
    from transformers import PreTrainedConfig

    mask = torch.ones(2, 99, dtype=torch.bool)
    mask[1, 50:] = False
    assert family_of(PreTrainedConfig()).output_mask(PreTrainedConfig(), mask, 99).equal(mask)
    with pytest.raises(ValueError, match="gives 25 frames for 99 of its input"):
        family_of(PreTrainedConfig()).output_mask(PreTrainedConfig(), mask, 25)


def test_frames_of_wav2vec2_with_an_adapter():
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    config = Wav2Vec2Config(**SPEECH, add_adapter=True, num_adapter_layers=2, output_hidden_size=32)
    encoder = Wav2Vec2Model(config).eval()
    for samples in (8000, 16_000, 23_456):
        with torch.no_grad():
            frames = encoder(torch.zeros(1, samples)).last_hidden_state.shape[1]
        mask = torch.zeros(1, 24_000, dtype=torch.bool)
        mask[:, :samples] = True
        assert family_of(config).output_mask(config, mask, 300).sum() == frames


def test_late_fusion_is_a_mean_of_probabilities():
    model, processor = fused(fusion="mean")
    sounds = clips(1.0, 0.5)
    with torch.no_grad():
        both = model(**processor(sounds, ["hello", "you"])).logits.softmax(-1)
        sound = model(**processor(sounds, None)).logits.softmax(-1)
        words = model(**processor(None, ["hello", "you"])).logits.softmax(-1)
    torch.testing.assert_close(both, (sound + words) / 2, atol=1e-5, rtol=0)


def test_weighted_fusion_weighs():
    model, processor = fused(fusion="weighted")
    with torch.no_grad():
        model.head.weight_scores.copy_(torch.tensor([3.0, -3.0]))
        both = model(**processor(clips(1.0), ["hello"])).logits.softmax(-1)
        sound = model(**processor(clips(1.0), None)).logits.softmax(-1)
        words = model(**processor(None, ["hello"])).logits.softmax(-1)
    share = torch.tensor([3.0, -3.0]).softmax(0)
    torch.testing.assert_close(both, share[0] * sound + share[1] * words, atol=1e-5, rtol=0)


def test_soft_labels_equal_hard_ones_where_they_are_certain():
    model, processor = fused(fusion="weighted")
    batch = processor(clips(1.0, 0.5), ["hello", None])
    hard = model(**batch, labels=torch.tensor([2, 0])).loss
    soft = model(**batch, labels=torch.eye(3)[[2, 0]]).loss
    torch.testing.assert_close(hard, soft)


def test_modality_dropout_is_of_training_alone():
    model, processor = fused(modality_dropout=1.0)
    batch = processor(clips(1.0) * 8, ["hello"] * 8)
    with torch.no_grad():
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout | torch.nn.Dropout2d):
                module.p = 0.0
        trained = model(**batch).logits
        model.eval()
        quiet = model(**batch).logits
        single = torch.cat([model(**processor(clips(1.0), None)).logits, model(**processor(None, ["hello"])).logits])
    torch.testing.assert_close(quiet[0], quiet[7])
    # With a dropout of one every row answers with one modality alone.
    distance = (trained[:, None] - single[None]).abs().amax(-1).amin(1)
    assert distance.max() < 1e-5


def test_a_row_with_nothing_is_refused():
    model, processor = fused()
    with pytest.raises(ValueError, match="A row of the batch has no audio and no text"):
        model(**processor([None], [None]))
    with pytest.raises(ValueError, match="neither audio nor text in the batch: expected input_values or input_ids"):
        model()
    with pytest.raises(ValueError, match="2 clips, 1 texts"):
        processor(clips(1, 1), ["one"])


def test_unknown_heads_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="Unknown head 'sum': expected one of mlp, linear, concat, gated"):
        SerConfig(head="sum")
    with pytest.raises(ValueError, match="Unknown pooling 'max': expected one of mean, attentive"):
        SerConfig(pooling="max")


def test_configuration_round_trip(tmp_path):
    model, _ = fused("whisper", "distilbert", "concat")
    model.config.save_pretrained(tmp_path)
    loaded = SerConfig.from_pretrained(tmp_path)
    assert loaded.audio_config.to_dict() == model.config.audio_config.to_dict()
    assert (loaded.head, loaded.id2label) == ("concat", dict(enumerate(LABELS)))
    assert type(loaded.text_config).__name__ == "DistilBertConfig"


def test_the_masked_norm_is_the_same_in_one_program_and_clip_by_clip(monkeypatch):
    from hf_ser.models.padding import MaskedGroupNorm

    norm, lengths = MaskedGroupNorm(8, 8), (90, 50)
    norm.frames, x = torch.tensor(lengths), torch.randn(2, 8, 90, requires_grad=True)

    def valid(output: torch.Tensor) -> list[torch.Tensor]:
        kept = [row[:, :length] for row, length in zip(output, lengths, strict=True)]
        (gradient,) = torch.autograd.grad(sum(one.square().sum() + one.pow(3).sum() for one in kept), x)
        return [*kept, *(row[:, :length] for row, length in zip(gradient, lengths, strict=True))]

    by_clip = valid(norm(x))
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(by_clip, valid(norm(x)), rtol=0, atol=2e-4)
