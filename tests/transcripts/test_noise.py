"""Noise at a word error rate: the measured rate is the requested one, in any order."""

import jiwer
import numpy as np
import pytest

from hf_ser.transcripts.noise import Confusions, corrupt, vocabulary_confusions
from hf_ser.transcripts.wer import error_pairs


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """2,000 texts of 1 to 15 words out of 300, the frequent ones much more frequent, as in a language."""
    generator = np.random.default_rng(0)
    shares = 1 / np.arange(1, 301)
    words = generator.choice([f"w{i}" for i in range(300)], size=(2000, 15), p=shares / shares.sum())
    return [" ".join(line[:length]) for line, length in zip(words, generator.integers(1, 16, size=2000), strict=True)]


@pytest.fixture(scope="module")
def ids(texts) -> list[str]:
    return [f"corpus/{i}" for i in range(len(texts))]


def shares(references: list[str], hypotheses: list[str]) -> list[float]:
    """Substitutions, deletions, insertions among the errors of an alignment."""
    errors = [error for one in error_pairs(jiwer.process_words(references, hypotheses)) for error in one]
    kinds = [(not new and "deletion") or (not old and "insertion") or "substitution" for old, new in errors]
    return [kinds.count(kind) / len(kinds) for kind in ("substitution", "deletion", "insertion")]


@pytest.mark.parametrize("wer", [0.05, 0.2, 0.5])
def test_the_measured_rate_is_the_requested_one(texts, ids, wer):
    noisy = corrupt(texts, ids, wer, vocabulary_confusions(texts), seed=1)
    assert jiwer.wer(texts, noisy) == pytest.approx(wer, rel=0.05)
    assert shares(texts, noisy) == pytest.approx([0.6, 0.25, 0.15], abs=0.04)


def test_a_text_depends_on_its_id_and_the_seed_alone(texts, ids):
    texts, ids = texts[:300], ids[:300]
    confusions = vocabulary_confusions(texts)
    noisy = corrupt(texts, ids, 0.5, confusions, seed=1)
    assert corrupt(texts[::-1], ids[::-1], 0.5, vocabulary_confusions(texts[::-1]), seed=1) == noisy[::-1]
    assert corrupt(texts[7:9], ids[7:9], 0.5, confusions, seed=1) == noisy[7:9]
    assert corrupt(texts, ids, 0.5, confusions, seed=2) != noisy
    same = corrupt(["a b c d e f"] * 20, ids[:20], 0.5, confusions, seed=1)
    assert len(set(same)) > 10, "equal texts of different ids get different errors"


def test_errors_at_a_lower_rate_stay_at_a_higher_one(ids):
    text, confusions = list("abcdefghij"), Confusions(dict.fromkeys("uvwxyz", 1), 1, 0, 0)
    rates = [corrupt([" ".join(text)] * 100, ids[:100], wer, confusions, seed=1) for wer in (0.1, 0.3, 0.8)]
    for lines in zip(*rates, strict=True):
        low, middle, high = ({i: new for i, new in enumerate(line.split()) if new != text[i]} for line in lines)
        assert (len(low), len(middle), len(high)) == (1, 3, 8)
        assert low.items() < middle.items() < high.items()


def test_other_words_are_unchanged():
    text = "Well,  you’re  LATE - (again) I think..."
    confusions = Confusions({"x": 1}, 1, 0, 0)
    tokens = {
        "Well,": "X,",
        "you’re": "x",
        "LATE": "X",
        "-": "-",
        "(again)": "(x)",
        "I": "x",
        "think...": "x...",
    }
    assert corrupt([text], ["1"], 1, confusions, seed=0) == [" ".join(tokens.values())]
    few = [one.split() for one in corrupt([text] * 50, list(map(str, range(50))), 0.3, confusions, seed=0)]
    assert all(new in (old, tokens[old]) for line in few for old, new in zip(tokens, line, strict=True))
    assert corrupt([text, None, "", "..."], list("abcd"), 0, confusions, seed=0) == [text, None, "", "..."]
    assert corrupt([None, "", "..."], list("abc"), 1, confusions, seed=0) == [None, "", "..."]


def test_a_substitute_is_another_word():
    text = "No no NO, no Yes yes"
    confusions = Confusions({"no": 1000, "yes": 1}, 1, 0, 0)
    assert corrupt([text], ["1"], 1, confusions, seed=0) == ["Yes yes YES, yes No no"]


def test_a_vocabulary_of_one_word_loses_or_repeats_it():
    noisy = corrupt(["no"] * 400, [str(i) for i in range(400)], 1, vocabulary_confusions(["No!"]), seed=0)
    assert set(noisy) == {"", "no no"}
    assert noisy.count("") == pytest.approx(250, abs=40)  # 25 deletions to 15 insertions
    assert corrupt(["no"], ["1"], 1, Confusions({"no": 1}, 1, 0, 0), seed=0) == [""]


def test_wrong_arguments_are_refused(texts):
    confusions = vocabulary_confusions(texts)
    for wer in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=f"wer: found {wer}, expected a share of the words from 0 to 1"):
            corrupt(["a"], ["1"], wer, confusions, seed=0)
    with pytest.raises(ValueError, match="Found 2 texts and 1 ids"):
        corrupt(["a", "b"], ["1"], 0.1, confusions, seed=0)
    with pytest.raises(ValueError, match="Found no words in 2 texts"):
        vocabulary_confusions([None, "..."])
