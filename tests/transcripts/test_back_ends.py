"""Both back ends decode in batches token for token as their libraries do one by one."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import whisper
from safetensors.torch import load_file, save_file
from transformers import WhisperConfig, WhisperForAudioClassification, WhisperForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput
from whisper.audio import log_mel_spectrogram, pad_or_trim
from whisper.decoding import DecodingOptions, DecodingTask

from hf_ser.transcripts.greedy import decode
from hf_ser.transcripts.loading import load_recogniser
from hf_ser.transcripts.random_whisper import write_random_whisper

PROMPT = "Kids are talking by the door"


def answers(recogniser, features, temperature=0.0, seeds=None, language="en", prompt=None, max_tokens=None) -> list:
    initial_tokens = [recogniser.initial_tokens(language, prompt)] * len(features)
    return decode(recogniser, features, initial_tokens, temperature, seeds or [0] * len(features), max_tokens)


def tokens(found) -> list[tuple[int, ...]]:
    return [tuple(each.tokens) for each in found]


def check_figures(found, expected) -> None:
    for figure in ("avg_logprob", "no_speech_prob"):
        np.testing.assert_allclose(*([getattr(each, figure) for each in one] for one in (found, expected)), atol=1e-4)


def by_openai(model, clips, **options) -> list:
    """Tokens of openai-whisper itself, one by one, for the input of its `transcribe`."""
    found = []
    for clip in clips:
        mel = pad_or_trim(log_mel_spectrogram(clip, padding=480_000)[:, : len(clip) // 160], 3000)
        found.append(model.decode(mel, DecodingOptions(without_timestamps=True, fp16=False, **options)))
    return found


def by_transformers(folder, recogniser, clips, prompt=None, **options) -> list[tuple[int, ...]]:
    """Tokens of transformers itself, one by one, without initial tokens and end."""
    model = WhisperForConditionalGeneration.from_pretrained(folder)
    rules, found = model.generation_config, []
    if prompt:
        options["prompt_ids"] = recogniser.tokenizer.get_prompt_ids(prompt, return_tensors="pt")
    for clip in clips:
        features = recogniser.extractor(clip, sampling_rate=16_000, return_tensors="pt").input_features
        sequence = model.generate(features, return_timestamps=False, return_dict_in_generate=True, **options).sequences[
            0
        ]
        start = sequence.tolist().index(rules.no_timestamps_token_id) + 1
        found.append(tuple(token for token in sequence[start:].tolist() if token != rules.eos_token_id))
    return found


@pytest.mark.parametrize("prompt", [None, PROMPT])
def test_openai_whisper_token_for_token(random_whispers, recognisers, clips, prompt):
    recogniser, clips = recognisers["openai-whisper"], clips if prompt is None else clips[:3]
    found = answers(recogniser, recogniser.encode(clips, 30), prompt=prompt)
    expected = by_openai(whisper.load_model(random_whispers[0]), clips, language="en", prompt=prompt)
    assert tokens(found) == tokens(expected)
    check_figures(found, expected)
    assert len({len(each.tokens) for each in found}) > 2  # else no row leaves the batch before another


@pytest.mark.parametrize("prompt", [None, PROMPT])
def test_transformers_token_for_token(random_whispers, recognisers, clips, prompt):
    recogniser, clips, options = recognisers["transformers"], clips[:3], {"language": "de", "task": "transcribe"}
    found = tokens(answers(recogniser, recogniser.encode(clips, 30), language="de", prompt=prompt))
    assert found == by_transformers(random_whispers[1], recogniser, clips, prompt, **options)


def test_equal_weights_give_the_same_text_in_both(recognisers, clips):
    # Clips that fill the window: what follows a clip is not silence to one of the libraries and is to the other.
    clips = [np.resize(clip, 480_000) for clip in clips[:3]]
    features = [recogniser.encode(clips, 30) for recogniser in recognisers.values()]
    torch.testing.assert_close(*features, rtol=0, atol=1e-3)
    found, expected = (answers(*each) for each in zip(recognisers.values(), features, strict=True))
    assert tokens(found) == tokens(expected)
    check_figures(found, expected)
    texts, expected = ([one.text(each.tokens) for each in found] for one in recognisers.values())
    assert texts == expected


def test_an_endless_answer_stops_where_openai_whisper_stops(random_whispers, clips, tmp_path):
    checkpoint = torch.load(random_whispers[0])
    checkpoint["dims"]["n_text_ctx"] = 64  # not 448, so as to come to the end sooner
    positions = checkpoint["model_state_dict"]["decoder.positional_embedding"][:64]
    checkpoint["model_state_dict"]["decoder.positional_embedding"] = positions.clone()
    torch.save(checkpoint, tmp_path / "short.pt")
    recogniser, model = load_recogniser(f"{tmp_path}/short.pt", "cpu"), whisper.load_model(f"{tmp_path}/short.pt")
    clips = clips[:2]
    babbling = {"language": "en", "suppress_tokens": [-1, recogniser.end]}
    options = DecodingOptions(without_timestamps=True, **babbling)
    recogniser.filters = DecodingTask(recogniser.model, options).logit_filters
    features = recogniser.encode(clips, 30)
    # A prompt that is longer than the model keeps, which leaves less room for the answer.
    for prompt, max_tokens, length in ((None, None, 32), ("word " * 99, None, 29), (None, 5, 5)):
        found = answers(recogniser, features, prompt=prompt, max_tokens=max_tokens)
        expected = by_openai(model, clips, prompt=prompt, sample_len=max_tokens, **babbling)
        assert tokens(found) == tokens(expected)
        assert [len(each.tokens) for each in found] == [length, length]
        check_figures(found, expected)


def test_sampling_depends_on_the_row_alone(recogniser, clips):
    features, seeds = recogniser.encode(clips[:4], 3), [7, 1, 2, 3]
    together = tokens(answers(recogniser, features, 0.8, seeds))
    for rows in ([0], [3, 2, 1, 0]):
        assert tokens(answers(recogniser, features[rows], 0.8, [seeds[row] for row in rows])) == [
            together[row] for row in rows
        ]
    for temperature, seed in ((0.8, 8), (0.0, 7)):
        assert tokens(answers(recogniser, features[:1], temperature, [seed])) != together[:1]


def test_tokens_are_drawn_as_often_as_they_are_probable():
    class Dice:
        """Generates one of two tokens, of log odds 1, and ends."""

        max_tokens, start, end, no_speech = 8, 3, 0, None

        def decoder(self, features):
            self.rows = len(features)
            return self

        def step(self, tokens):
            return torch.tensor([[[-9.0, 1.0, 0.0, -99.0]]]).repeat(len(tokens), 1, 1)

        def suppress(self, logits, n_generated):
            logits[:, [1, 2] if n_generated else [0]] = -torch.inf

        def keep(self, rows):
            pass

        def close(self):
            pass

    drawn = decode(Dice(), torch.zeros(4000, 1, 1), [[3]] * 4000, 0.5, range(4000), None)
    assert np.mean([each.tokens == (1,) for each in drawn]) == pytest.approx(1 / (1 + np.exp(-2)), abs=0.02)
    # The log probability is that of temperature 1, and of the two tokens that are allowed; the end is certain.
    expected = {(1,): -np.log(1 + np.exp(-1)) / 2, (2,): -np.log(1 + np.exp(1)) / 2}
    assert {each.tokens: each.avg_logprob for each in drawn} == pytest.approx(expected)


def test_a_window_of_the_clip_s_length(recogniser, clips, monkeypatch):
    long_before = recogniser.encode(clips[:1], 30)
    features = recogniser.encode(clips, 3)
    assert features.shape == (6, 150, 64)
    for row, clip in enumerate(clips):
        torch.testing.assert_close(recogniser.encode([clip], 3)[0], features[row], rtol=0, atol=1e-4)
    # What is cropped is the table of positions: with other positions the same audio gives other features.
    assert not torch.allclose(features[0], long_before[0, :150], atol=0.1)

    def break_down(*_):
        raise RuntimeError("no memory")

    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.functional, "gelu", break_down)
        with pytest.raises(RuntimeError, match="no memory"):
            recogniser.encode(clips, 3)
    assert torch.equal(recogniser.encode(clips[:1], 30), long_before)


def test_languages_are_detected_as_the_libraries_do(recognisers, clips):
    for name, recogniser in recognisers.items():
        features, model = recogniser.encode(clips, 30), recogniser.model
        if name == "transformers":
            found = model.detect_language(encoder_outputs=BaseModelOutput(features), input_features=None)
            tokens_of = {token: code.strip("<|>") for code, token in model.generation_config.lang_to_id.items()}
            expected = [tokens_of[token] for token in found.tolist()]
        else:
            expected = [max(each, key=each.get) for each in model.detect_language(features)[1]]
        assert recogniser.detect_languages(features) == expected
        assert len({*expected}) > 1


def test_a_language_that_the_model_does_not_know(recogniser):
    with pytest.raises(ValueError, match=r"--language xx: \S+random-mini does not know it. Expected one of .*\bde\b"):
        recogniser.initial_tokens("xx", None)
    with pytest.raises(ValueError, match="--language yue"):  # which only the newest know
        recogniser.initial_tokens("yue", None)


def test_bfloat16_has_the_same_revision_and_decodes(random_whispers, recognisers, clips):
    for path, exact in zip(random_whispers, recognisers.values(), strict=True):
        recogniser = load_recogniser(str(path), "cpu", "bfloat16")
        features = recogniser.encode(clips[2:4], 3)
        assert features.dtype == torch.bfloat16
        assert all(each.tokens and -3 < each.avg_logprob < 0 for each in answers(recogniser, features))
        assert all(recogniser.detect_languages(features))
        assert recogniser.revision == exact.revision


def test_an_english_only_model(tmp_path, clips):
    checkpoint, folder = write_random_whisper(tmp_path, "mini", multilingual=False)
    openai, transformers = (load_recogniser(str(path), "cpu") for path in (checkpoint, folder))
    clips = clips[:1]
    for recogniser, expected in (
        (openai, tokens(by_openai(whisper.load_model(checkpoint), clips, language="en", sample_len=9))),
        (transformers, by_transformers(folder, transformers, clips, max_new_tokens=9)),
    ):
        features = recogniser.encode(clips, 30)
        assert not recogniser.multilingual
        assert recogniser.detect_languages(features) == [None]
        assert tokens(answers(recogniser, features, language=None, max_tokens=9)) == expected
        with pytest.raises(ValueError, match=r"--language de: .* Expected one of en"):
            recogniser.initial_tokens("de", None)


def test_the_revision_is_that_of_the_weights(random_whispers, recognisers, tmp_path):
    other, folder = tmp_path / "other.pt", tmp_path / "other"
    checkpoint = torch.load(random_whispers[0])
    checkpoint["model_state_dict"]["decoder.ln.bias"][3] += 1e-3
    torch.save(checkpoint, other)
    shutil.copytree(random_whispers[1], folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.decoder.layer_norm.bias"][3] += 1e-3
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    changed = [load_recogniser(str(path), "cpu") for path in (other, folder)]
    assert [each.name for each in changed] == ["openai-whisper/other", f"{tmp_path.name}/other"]
    revisions = {each.revision for each in (*recognisers.values(), *changed)}
    assert len(revisions) == 4
    assert {len(each) for each in revisions} == {12}


class Harm:
    """An object that runs code when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("harm"),)


def test_models_that_cannot_be_loaded_are_refused(random_whispers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("text.pt").write_text("no checkpoint")
    torch.save({"weights": torch.zeros(3)}, "other.pt")
    torch.save(Harm(), "harm.pt")
    shutil.copytree(random_whispers[1], "old")
    Path("old/generation_config.json").unlink()
    config = WhisperConfig.from_pretrained(random_whispers[1])
    WhisperForAudioClassification(config).save_pretrained("encoder")
    Path("empty").mkdir()
    Path("bert").mkdir()
    Path("bert/config.json").write_text('{"model_type": "bert"}')
    for spec, kind, text in (
        ("nowhere.pt", FileNotFoundError, "nowhere.pt: found nothing, expected a .pt file"),
        *(
            (name, ValueError, f"{name}: not readable as a model of openai-whisper")
            for name in ("text.pt", "other.pt", "harm.pt")
        ),
        ("openai-whisper:huge", ValueError, "no such model. Expected one of tiny.en, tiny"),
        ("encoder", ValueError, "encoder: .* weights are not in the checkpoint .*: it has no decoder"),
        ("old", ValueError, "old: its generation_config.json is missing"),
        ("bert", ValueError, "bert: found a model of type bert"),
        ("transformers:empty", FileNotFoundError, "empty: found no model"),
        ("empty", ValueError, "--asr empty: .*Expected openai-whisper:NAME"),
        ("transformers:nobody/nothing", FileNotFoundError, "nobody/nothing: found no model"),
        ("base", ValueError, "--asr base: .*openai-whisper:NAME.*\\.pt file.*transformers:HUB_ID.*folder"),
    ):
        with pytest.raises(kind, match=text):
            load_recogniser(spec, "cpu")
    assert not Path("harm").exists()
    with pytest.raises(ValueError, match="on cpu: expected float32 or bfloat16"):
        load_recogniser(str(random_whispers[0]), "cpu", "float16")
