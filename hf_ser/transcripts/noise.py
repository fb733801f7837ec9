"""Corrupt transcripts at a word error rate, to test models on errors of a recogniser."""

import unicodedata
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

import numpy as np

from hf_ser.stable import generator
from hf_ser.transcripts.wer import APOSTROPHES

SUBSTITUTIONS, DELETIONS, INSERTIONS = 0.60, 0.25, 0.15
"""Shares of the kinds of error: chosen, not measured."""


@dataclass(frozen=True)
class Confusions:
    """Word confusions of a recogniser: any word of some texts may be written for any other, frequent ones more often.

    Args:
        vocabulary: The words of the texts, with counts.
        substitutions, deletions, insertions: Shares of the three kinds of error, with the sum 1.
    """

    vocabulary: dict[str, int]
    substitutions: float = SUBSTITUTIONS
    deletions: float = DELETIONS
    insertions: float = INSERTIONS

    def substitute(self, word: str, generator: np.random.Generator) -> str | None:
        """Draw a substitute of a word in lower case; None if the vocabulary has no other word."""
        return self._sampler.draw(generator, but=word)

    def insertion(self, generator: np.random.Generator) -> str | None:
        """Draw a word to insert."""
        return self._sampler.draw(generator)

    @cached_property
    def _sampler(self) -> "WordSampler":
        return WordSampler(self.vocabulary)


class WordSampler:
    """Draws words in proportion to their counts."""

    def __init__(self, counts: dict[str, int]):
        self.words = sorted(counts)  # the order must not depend on that of the texts
        self.ends = list(accumulate(counts[word] for word in self.words))
        self.spans = dict(zip(self.words, pairwise((0, *self.ends)), strict=True))

    def draw(self, generator: np.random.Generator, but: str | None = None) -> str | None:
        """Draw a word other than `but`; None if there is no other."""
        total = self.ends[-1] if self.ends else 0
        begin, end = self.spans.get(but, (total, total))
        if end - begin == total:
            return None
        number = int(generator.integers(total - (end - begin)))
        return self.words[bisect_right(self.ends, number if number < begin else number + end - begin)]


def vocabulary_confusions(texts: Sequence[str | None]) -> Confusions:
    """Confusions of an unknown recogniser: any word becomes any other, frequent words more often.

    Raises:
        ValueError: no text has words.
    """
    vocabulary = dict(Counter(word for text in texts for word in _words(text)))
    if not vocabulary:
        raise ValueError(
            f"Found no words in {len(texts)} texts, expected some to put in the place of others: a corpus without "
            "transcripts must be transcribed first."
        )
    return Confusions(vocabulary)


def corrupt(
    texts: Sequence[str | None], ids: Sequence[str], wer: float, confusions: Confusions, seed: int
) -> list[str | None]:
    """Corrupt texts so that their expected word error rate is `wer`.

    A text of `n` words gets `wer * n` errors, rounded randomly so that the mean is right, each in another word. The
    errors of a text depend on its words, its id, the seed and the confusions alone. Other words are unchanged; a
    substitute keeps the punctuation and capitals of its word. A text may lose all its words.

    A text gets deletions or insertions, never both: an alignment counts an inserted word near a deleted one as one
    substitution, so that the measured rate would be too low. It is still slightly too low towards a rate of 1. A word
    without a substitute gets the other kind of error of its text.

    The rate counts words between spaces. Whisper's normalisation, as in `word_errors`, writes `you're` as two words, so
    that the rate there is slightly higher.

    Args:
        texts: None and empty texts are kept. Languages without spaces between words are not supported.
        ids: Ids of the utterances.
        wer: Share of the words, 0 to 1.
        confusions: The words to write, such as `vocabulary_confusions`.
        seed: Seed of the errors.

    Raises:
        ValueError: a rate below 0 or above 1; lists of different lengths.
    """
    if not 0 <= wer <= 1:
        raise ValueError(f"wer: found {wer}, expected a share of the words from 0 to 1, such as 0.2 for 20 %.")
    if len(texts) != len(ids):
        raise ValueError(f"Found {len(texts)} texts and {len(ids)} ids, expected one id for each text.")
    return [
        _corrupt(text, wer, confusions, generator(f"{seed} {name}")) if text and wer else text
        for text, name in zip(texts, ids, strict=True)
    ]


def _corrupt(text: str, wer: float, confusions: Confusions, generator: np.random.Generator) -> str:
    tokens = text.split()
    places = [place for place, token in enumerate(tokens) if _without_punctuation(token)]  # a dash alone is not a word
    n_errors = int(wer * len(places) + generator.random())
    if not n_errors:
        return text
    others = confusions.deletions + confusions.insertions
    # If all errors are substitutions, a word without a substitute is deleted.
    inserts = generator.random() * others < confusions.insertions
    for place in generator.permutation(places)[:n_errors]:
        token, new = tokens[place], None
        if generator.random() < confusions.substitutions:
            new = _substitute(token, confusions, generator)
        if new is not None:
            tokens[place] = new
        elif inserts:
            added = confusions.insertion(generator)
            tokens[place] = " ".join((token, added) if generator.random() < 0.5 else (added, token))
        else:
            tokens[place] = ""
    return " ".join(filter(None, tokens))


def _substitute(token: str, confusions: Confusions, generator: np.random.Generator) -> str | None:
    """Substitute the word of a token, keeping punctuation and capitals; None if there is no other word."""
    core = _without_punctuation(token)
    new = confusions.substitute(_lower_case(core), generator)
    if new is None:
        return None
    if len(core) > 1 and core.isupper():
        new = new.upper()
    elif len(core) > 1 and core[0].isupper():  # not a lone I
        new = new[0].upper() + new[1:]
    return token.replace(core, new, 1)


def _words(text: str | None) -> list[str]:
    return [_lower_case(core) for token in (text or "").split() if (core := _without_punctuation(token))]


def _without_punctuation(token: str) -> str:
    """Token without the punctuation around it; empty if there is nothing else."""
    inside = [place for place, letter in enumerate(token) if unicodedata.category(letter)[0] in "LMN"]
    return token[inside[0] : inside[-1] + 1] if inside else ""


def _lower_case(core: str) -> str:
    return core.lower().translate(APOSTROPHES)
