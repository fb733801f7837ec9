"""The labels of a user's own table: spellings of one label joined, and what is no emotion refused or named."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hf_ser.columns import Finding, Utterance
from hf_ser.corpora.table_folders import SEX_WORDS, WAY_OUT
from hf_ser.normal_form import look_alike, normal_form, printable

NO_MAJORITY = frozenset(("xxx", "noagreement", "nomajority", "nomajorityvote"))
"""What corpora write where their raters agreed on no emotion, as `look_alike` spells it; IEMOCAP's is `xxx`."""

DOUBTFUL = frozenset(("x", "none", "unknown", "unk", "undefined", "noise", "silence", "nolabel", "invalid"))
"""Labels that may mean that there is none."""


def is_no_majority(label: str) -> bool:
    """Whether a label says that the raters did not agree."""
    return look_alike(label) in NO_MAJORITY


def joined_labels(
    utterances: Sequence[Utterance], written: Mapping[str, Counter]
) -> tuple[list[Utterance], list[Finding]]:
    """Give every spelling of a label the one that most clips have, in votes too.

    Args:
        utterances: With labels in their normal form.
        written: How each label was written, and how often.

    Returns:
        The utterances, and a finding for each label that was written in several ways.
    """
    spellings = defaultdict(Counter)
    for utterance in utterances:
        spellings[look_alike(utterance.label)][utterance.label] += 1
    chosen = {key: min(counts, key=lambda name: (-counts[name], name)) for key, counts in spellings.items()}
    chosen = {key: key if key.isdecimal() and len(spellings[key]) > 1 else name for key, name in chosen.items()}
    findings = []
    for key, label in sorted(chosen.items(), key=lambda item: item[1]):
        ways = sum((written[name] for name in spellings[key]), Counter())
        if len(ways) > 1:
            said = ", ".join(
                f"{shown(way)} ({count})" for way, count in sorted(ways.items(), key=lambda w: (-w[1], w[0]))
            )
            findings.append(Finding("joined_labels", f"label {label}", f"spellings that are read as one: {said}"))
    return [_respelled(utterance, chosen) for utterance in utterances], findings


def _respelled(utterance: Utterance, chosen: Mapping[str, str]) -> Utterance:
    label, votes = chosen[look_alike(utterance.label)], Counter()
    for name, count in (utterance.votes or {}).items():
        votes[chosen.get(look_alike(name), name)] += count
    votes = dict(votes) if utterance.votes is not None else None
    if (label, votes) == (utterance.label, utterance.votes):
        return utterance
    return replace(utterance, label=label, votes=votes)


def shown(text: str) -> str:
    """A spelling for a message, with codes for the characters that look like others."""
    return f"'{printable(text)}'" if normal_form(text) == text else ascii(text)


def doubtful_findings(utterances: Sequence[Utterance]) -> list[Finding]:
    """Labels that may be no emotion, which are kept as classes."""
    counts = Counter(utterance.label for utterance in utterances)
    detail = "clips have this label, which may mean that they have none; a --label_map leaves it out"
    return [
        Finding("doubtful_label", f"label {printable(label)}", f"{count} {detail}")
        for label, count in sorted(counts.items())
        if look_alike(label) in DOUBTFUL
    ]


def refuse_other_labels(where: str, utterances: Sequence[Utterance]) -> None:
    """Make sure that the labels are neither the sexes nor the speakers.

    Raises:
        ValueError: they are.
    """
    labels = sorted({utterance.label for utterance in utterances})
    named = ", ".join(printable(label) for label in labels[:4]) + (" ..." if len(labels) > 4 else "")
    if all(look_alike(label) in SEX_WORDS for label in labels):
        raise ValueError(f"{where}: found the labels {named}, which are sexes. Expected emotions: {WAY_OUT}.")
    speakers = [(utterance.speaker or "").removeprefix("table/") for utterance in utterances]
    alike = [look_alike(who) == look_alike(one.label) for who, one in zip(speakers, utterances, strict=True)]
    if len(labels) > 1 and all(alike):
        raise ValueError(
            f"{where}: found the labels {named}, which are the speakers of their clips. Expected emotions: {WAY_OUT}."
        )
