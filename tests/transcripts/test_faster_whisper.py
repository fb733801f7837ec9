"""The back end of faster-whisper, an optional package: as openai-whisper with equal weights, and clear where absent."""

import sys

import numpy as np
import pytest

from hf_ser.transcripts.loading import load_recogniser

SPEC = "faster-whisper:"


@pytest.fixture(scope="module")
def folder(random_whispers, tmp_path_factory):
    """The random Whisper in CTranslate2's format."""
    pytest.importorskip("faster_whisper")
    from ctranslate2.converters import TransformersConverter

    output = tmp_path_factory.mktemp("ctranslate2") / "random"
    TransformersConverter(str(random_whispers[1]), copy_files=["tokenizer.json"]).convert(str(output))
    return output


@pytest.fixture(scope="module")
def recogniser(folder):
    return load_recogniser(f"{SPEC}{folder}", "cpu")


def answers(recogniser, clips, seconds=30, language="en", prompt=None, **options):
    initial_tokens = [recogniser.initial_tokens(language, prompt)] * len(clips)
    features = recogniser.encode(clips, seconds)
    return recogniser.decode(features, initial_tokens, 0.0, [0] * len(clips), **options)


def test_equal_weights_give_the_answers_of_openai_whisper(recogniser, recognisers, clips):
    expected, clips = recognisers["openai-whisper"], clips[:3]
    assert recogniser.initial_tokens("de", "Kim") == expected.initial_tokens("de", "Kim")
    for seconds in (4, 30):
        features = [one.encode(clips, seconds) for one in (recogniser, expected)]
        np.testing.assert_allclose(*features, atol=2e-3)
        assert recogniser.detect_languages(features[0]) == expected.detect_languages(features[1])
        found, wanted = (answers(one, clips, seconds, max_tokens=6) for one in (recogniser, expected))
        assert [one.tokens for one in found] == [one.tokens for one in wanted]
        assert recogniser.text(found[0].tokens) == expected.text(wanted[0].tokens)
        for figure in ("avg_logprob", "no_speech_prob"):
            pairs = [[getattr(one, figure) for one in given] for given in (found, wanted)]
            np.testing.assert_allclose(*pairs, rtol=0.2, atol=5e-3)


@pytest.mark.parametrize("prompt", [None, "Kids are talking by the door"])
def test_an_answer_may_have_as_many_tokens_as_allowed_and_no_more(recogniser, recognisers, clips, prompt):
    expected, lengths = recognisers["openai-whisper"], set()
    for limit in (1, 2, 5, 9):
        given = {"seconds": 4, "prompt": prompt, "max_tokens": limit}
        found, wanted = (answers(one, clips[:2], **given) for one in (recogniser, expected))
        assert [one.tokens for one in found] == [one.tokens for one in wanted]
        lengths |= {len(one.tokens) for one in found}
    assert len(lengths) > 2


def test_weights_in_int8_have_the_same_revision_and_answer(recogniser, folder, clips):
    rounded = load_recogniser(f"{SPEC}{folder}", "cpu", "int8")
    assert rounded.revision == recogniser.revision and rounded.name == "faster-whisper/random"
    assert answers(rounded, clips[:1], 4)[0].tokens
    with pytest.raises(ValueError, match=r"--precision int8 of x\.pt on cpu: expected float32 or bfloat16\."):
        load_recogniser("x.pt", "cpu", "int8")


def test_what_cannot_be_loaded_says_why(recogniser, folder, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"not loaded .*Expected a size such as base"):
        load_recogniser(f"{SPEC}{tmp_path}", "cpu")
    with pytest.raises(ValueError, match="--language xx"):
        recogniser.initial_tokens("xx", None)
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(ValueError, match=r"not installed .*pip install hf_ser\[fast\]"):
        load_recogniser(f"{SPEC}{folder}", "cpu")
