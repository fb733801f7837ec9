"""Transcripts made worse at a word error rate, to train and test models for what a recogniser mishears."""

import unicodedata
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

import jiwer
import numpy as np

from hf_ser.stable import generator
from hf_ser.transcripts.wer import APOSTROPHES, misheard

SUBSTITUTIONS, DELETIONS, INSERTIONS = 0.60, 0.25, 0.15
"""Shares of the kinds of error where there are no pairs to learn them from. A choice, not a measurement."""


@dataclass(frozen=True)
class Confusions:
    """What a recogniser makes of words: plain numbers, so that `dataclasses.asdict` is ready for JSON.

    Args:
        heard: For each word that was ever misheard the words heard instead, with counts.
        inserted: Words that were heard where none was spoken, with counts.
        vocabulary: All words that were spoken, with counts: what is heard instead of a word not in `heard`.
        substitutions, deletions, insertions: Shares of the three kinds among all errors, with the sum 1.
    """

    heard: dict[str, dict[str, int]]
    inserted: dict[str, int]
    vocabulary: dict[str, int]
    substitutions: float
    deletions: float
    insertions: float

    def substitute(self, word: str, generator: np.random.Generator) -> str | None:
        """A word to be heard instead of another, which is in lower case; None where the vocabulary has no other."""
        return self._hats.get(word, self._hats[""]).draw(generator, but=word)

    def extra(self, generator: np.random.Generator) -> str | None:
        """A word to be heard where none was spoken; None where none ever was."""
        return self._inserted_hat.draw(generator)

    @cached_property
    def _hats(self) -> dict[str, "Hat"]:
        """Of each word in `heard`, and of the vocabulary under the empty word."""
        return {word: Hat(counts) for word, counts in self.heard.items()} | {"": Hat(self.vocabulary)}

    @cached_property
    def _inserted_hat(self) -> "Hat":
        return Hat(self.inserted)


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


def learn_confusions(references: Sequence[str | None], hypotheses: Sequence[str | None]) -> Confusions:
    """Learn from transcripts beside the words that were spoken what is heard instead of what.

    Words are what blanks part, in lower case and without the punctuation around them. As in a word error rate, a
    hypothesis of None has every word deleted, and a clip whose reference has no words does not count.

    Raises:
        ValueError: lists of different lengths; not one error in the pairs.
    """
    if len(references) != len(hypotheses):
        raise ValueError(f"Found {len(references)} references and {len(hypotheses)} hypotheses, expected pairs.")
    pairs = [(_words(spoken), _words(heard)) for spoken, heard in zip(references, hypotheses, strict=True)]
    pairs = [pair for pair in pairs if pair[0]]
    spoken, heard = ([" ".join(pair[side]) for pair in pairs] for side in (0, 1))
    errors = [error for clip in misheard(jiwer.process_words(spoken, heard)) for error in clip]
    if not errors:
        raise ValueError(
            f"Found no error in {len(pairs)} pairs of texts with words, expected some to learn from: transcribe more "
            "clips, or take vocabulary_confusions, which needs no pairs."
        )
    instead: dict[str, Counter] = defaultdict(Counter)
    for word, other in errors:
        instead[word][other] += 1
    inserted = dict(instead.pop("", {}))
    deletions = sum(others.pop("", 0) for others in instead.values()) / len(errors)
    insertions = sum(inserted.values()) / len(errors)
    return Confusions(
        heard={word: dict(others) for word, others in instead.items() if others},
        inserted=inserted,
        vocabulary=dict(Counter(word for words, _ in pairs for word in words)),
        substitutions=1 - deletions - insertions,
        deletions=deletions,
        insertions=insertions,
    )


def vocabulary_confusions(texts: Sequence[str | None]) -> Confusions:
    """Confusions where nothing is known of a recogniser: any word is heard as any other, the frequent ones more often.

    Raises:
        ValueError: no text has words.
    """
    vocabulary = dict(Counter(word for text in texts for word in _words(text)))
    if not vocabulary:
        raise ValueError(
            f"Found no words in {len(texts)} texts, expected some to put in the place of others: a corpus without "
            "transcripts wants transcribing first."
        )
    return Confusions({}, vocabulary, vocabulary, SUBSTITUTIONS, DELETIONS, INSERTIONS)


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
        confusions: Of `learn_confusions` or `vocabulary_confusions`.
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
    inserts = bool(confusions.inserted) and generator.random() * others < confusions.insertions
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
