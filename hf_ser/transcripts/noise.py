"""Transcripts made worse at a word error rate, to test models for what a recogniser mishears."""

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
"""Shares of the kinds of error. A choice, not a measurement."""


@dataclass(frozen=True)
class Confusions:
    """What a recogniser may write in place of words: any word of some texts, the frequent ones more often.

    Args:
        vocabulary: The words of the texts, with counts.
        substitutions, deletions, insertions: Shares of the three kinds among all errors, with the sum 1.
    """

    vocabulary: dict[str, int]
    substitutions: float = SUBSTITUTIONS
    deletions: float = DELETIONS
    insertions: float = INSERTIONS

    def substitute(self, word: str, generator: np.random.Generator) -> str | None:
        """A word to be written instead of another, which is in lower case; None where the vocabulary has no other."""
        return self._hat.draw(generator, but=word)

    def extra(self, generator: np.random.Generator) -> str | None:
        """A word to be written where none was spoken."""
        return self._hat.draw(generator)

    @cached_property
    def _hat(self) -> "Hat":
        return Hat(self.vocabulary)


class Hat:
    """Words to draw from, each in it as often as it was counted."""

    def __init__(self, counts: dict[str, int]):
        self.words = sorted(counts)  # equal counts are equal hats, whatever the order of the texts
        self.ends = list(accumulate(counts[word] for word in self.words))
        self.spans = dict(zip(self.words, pairwise((0, *self.ends)), strict=True))

    def draw(self, generator: np.random.Generator, but: str | None = None) -> str | None:
        """One word other than `but`; None where there is no other."""
        total = self.ends[-1] if self.ends else 0
        begin, end = self.spans.get(but, (total, total))
        if end - begin == total:
            return None
        ticket = int(generator.integers(total - (end - begin)))
        return self.words[bisect_right(self.ends, ticket if ticket < begin else ticket + end - begin)]


def vocabulary_confusions(texts: Sequence[str | None]) -> Confusions:
    """The confusions of a recogniser of which nothing is known, from the words of some texts.

    Raises:
        ValueError: no text has words.
    """
    vocabulary = dict(Counter(word for text in texts for word in _words(text)))
    if not vocabulary:
        raise ValueError(
            f"Found no words in {len(texts)} texts, expected some to put in the place of others: a corpus without "
            "transcripts wants transcribing first."
        )
    return Confusions(vocabulary)


def corrupted(
    texts: Sequence[str | None], ids: Sequence[str], wer: float, confusions: Confusions, seed: int
) -> list[str | None]:
    """Put errors into texts so that their word error rate is expected to be `wer`.

    A text of `n` words gets `wer * n` errors, rounded up or down by chance so that the mean is right; each falls on a
    word of its own. What happens to a text depends on its words, its id, the seed and the confusions alone, neither on
    the other texts nor on their order. Untouched words stay as they were written; a substitute takes over the
    punctuation and the capitals of its word. A text may lose all its words.

    A text gets deletions or insertions, never both: an alignment reads an inserted word near a deleted one as one
    substitution, and the measured rate would fall below the one asked for. Chance still brings some errors together
    that are read as fewer: hardly any up to a rate of 0.5, more towards 1. Where a word has no substitute, since the
    vocabulary has no other word, it gets the kind that the text has beside substitutions.

    The rate is that of words between blanks. Whisper's normalisation, as in `word_errors`, writes `you're` as two
    words and reads the rate some per cent of it higher.

    Args:
        texts: None and empty texts stay. Words are what blanks part; a language written without them is not for this.
        ids: Of the utterances.
        wer: Share from 0 (the texts come back as they are) to 1.
        confusions: What words are taken for, such as `vocabulary_confusions`.
        seed: Another seed, other errors.

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
    places = [place for place, token in enumerate(tokens) if _core(token)]  # a dash alone is no word
    n_errors = int(wer * len(places) + generator.random())
    if not n_errors:
        return text
    others = confusions.deletions + confusions.insertions
    # Errors that are all substitutions leave deletion for a word without a substitute.
    inserts = generator.random() * others < confusions.insertions
    for place in generator.permutation(places)[:n_errors]:
        token, new = tokens[place], None
        if generator.random() < confusions.substitutions:
            new = _substitute(token, confusions, generator)
        if new is not None:
            tokens[place] = new
        elif inserts:
            added = confusions.extra(generator)
            tokens[place] = " ".join((token, added) if generator.random() < 0.5 else (added, token))
        else:
            tokens[place] = ""
    return " ".join(filter(None, tokens))


def _substitute(token: str, confusions: Confusions, generator: np.random.Generator) -> str | None:
    """The token with another word in the punctuation and the capitals of its own; None where there is no other."""
    core = _core(token)
    new = confusions.substitute(_plain(core), generator)
    if new is None:
        return None
    if len(core) > 1 and core.isupper():
        new = new.upper()
    elif len(core) > 1 and core[0].isupper():  # not a lone I
        new = new[0].upper() + new[1:]
    return token.replace(core, new, 1)


def _words(text: str | None) -> list[str]:
    return [_plain(core) for token in (text or "").split() if (core := _core(token))]


def _core(token: str) -> str:
    """The token without the punctuation around it; empty where it is nothing else."""
    inside = [place for place, letter in enumerate(token) if unicodedata.category(letter)[0] in "LMN"]
    return token[inside[0] : inside[-1] + 1] if inside else ""


def _plain(core: str) -> str:
    return core.lower().translate(APOSTROPHES)
