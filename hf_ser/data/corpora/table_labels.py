"""Labels of a user's table: join spellings of one label, and refuse or report what is not an emotion."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hf_ser.data.corpora.table_folders import LABEL_REMEDY, SEX_NAMES
from hf_ser.data.schema import Finding, Utterance
from hf_ser.normal_form import look_alike, normal_form, printable

NO_MAJORITY = frozenset(("xxx", "noagreement", "nomajority", "nomajorityvote"))
"""Labels without majority of the raters, in the form of `look_alike`; IEMOCAP's is `xxx`."""

DOUBTFUL = frozenset(("x", "none", "unknown", "unk", "undefined", "noise", "silence", "nolabel", "invalid"))
"""Labels that may mean a missing label."""


def is_no_majority(label: str) -> bool:
    """Whether a label means that the raters did not agree."""
    return look_alike(label) in NO_MAJORITY


def joined_labels(
    utterances: Sequence[Utterance], written: Mapping[str, Counter]
) -> tuple[list[Utterance], list[Finding]]:
    """Replace every spelling of a label by the most frequent one, also in votes.

    Args:
        utterances: Utterances with normalised labels.
        written: Counts of the original spellings of each label.

    Returns:
        The utterances, and a finding for each label with several spellings.
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
            listed = ", ".join(
                f"{shown(way)} ({count})" for way, count in sorted(ways.items(), key=lambda w: (-w[1], w[0]))
            )
            findings.append(Finding("joined_labels", f"label {label}", f"spellings that are read as one: {listed}"))
    return [_respelled(utterance, chosen) for utterance in utterances], findings


def _respelled(utterance: Utterance, chosen: Mapping[str, str]) -> Utterance:
    label, votes = chosen[look_alike(utterance.label)], Counter()
    for name, count in (utterance.votes or {}).items():
        votes[chosen.get(look_alike(name), name)] += count
    votes = dict(votes) if utterance.votes is not None else None
    if (label, votes) == (utterance.label, utterance.votes):
        return utterance
    return replace(utterance, label=label, votes=votes)


def joined_votes(votes: Mapping[str, float]) -> dict[str, float]:
    """Add up votes for spellings of one label, under the spelling with most votes."""
    spellings = defaultdict(dict)
    for name, count in votes.items():
        spellings[look_alike(name)][name] = count
    return {max(sorted(ways), key=ways.get): sum(ways.values()) for ways in spellings.values()}


def shown(text: str) -> str:
    """Spelling for a message, with codes for look-alike characters."""
    return f"'{printable(text)}'" if normal_form(text) == text else ascii(text)


def doubtful_findings(utterances: Sequence[Utterance]) -> list[Finding]:
    """Report labels that may be missing labels; they are kept as classes."""
    counts = Counter(utterance.label for utterance in utterances)
    detail = "clips have this label, which may mean that they have none; a --label_map leaves it out"
    return [
        Finding("doubtful_label", f"label {printable(label)}", f"{count} {detail}")
        for label, count in sorted(counts.items())
        if look_alike(label) in DOUBTFUL
    ]


MAY_BE_CLASS = re.compile(r"NA|None|Null|NULL|Nan|nil|\W+")
"""Labels read as missing that may be classes: negative affect, none, signs such as + and -."""

SURELY_MISSING = re.compile(r"[?.\s_]+")

GAP_CLIPS, GAP_SHARE, GAP_CLASSES = 3, 0.1, 20
"""Fewest clips, least share of all, and most classes for which a label read as missing is doubted."""


def reject_doubtful_gaps(where: str, missing: Mapping[str, int], labels: Mapping[str, int]) -> None:
    """Refuse a table if a label that is read as missing may be a class.

    Args:
        where: Name of the table in messages.
        missing: Clips of each label that is read as missing.
        labels: Clips of each other label.

    Raises:
        ValueError: one is frequent, and there are few classes.
    """
    total = sum(missing.values()) + sum(labels.values())
    may_be = [word for word in missing if MAY_BE_CLASS.fullmatch(word) and not SURELY_MISSING.fullmatch(word)]
    many = [word for word in may_be if missing[word] >= max(GAP_CLIPS, GAP_SHARE * total)]
    if not many or len(labels) + len(may_be) > GAP_CLASSES:
        return
    found = ", ".join(f"'{word}' ({missing[word]} of {total} clips)" for word in many)
    others = ", ".join(f"{printable(label)} ({count})" for label, count in sorted(labels.items())[:6]) or "none"
    keep = ",".join(f"label:{word}=NAME" for word in many)
    drop = ",".join(f"label:{word}=" for word in many)
    raise ValueError(
        f"{where}: found the label {found}, which programs write for a missing one, and {others}. Expected a "
        f"decision whether it is a class: keep it with --columns {keep} (NAME is the name of the class), or leave its "
        f"clips out with --columns {drop} (nothing after the equals sign)."
    )


SEVERAL = re.compile(r"[|;,/+&]| and | or ")
"""Separators of several labels in a cell."""

SURELY_SEVERAL = re.compile(r"[|;]")
"""Separators that are in no name of an emotion."""


def without_several(utterances: Sequence[Utterance]) -> tuple[list[Utterance], list[Finding]]:
    """Leave out clips whose cell has several labels.

    All parts must be labels of other clips; with | or ; one of them suffices.
    """
    counts = Counter(utterance.label for utterance in utterances)
    single = {look_alike(label) for label in counts if not SEVERAL.search(label)}
    several, findings = set(), []
    for label, count in sorted(counts.items()):
        parts = [look_alike(part) for part in SEVERAL.split(label) if part.strip()]
        known = [part in single for part in parts]
        if len(parts) > 1 and (all(known) or (SURELY_SEVERAL.search(label) and any(known))):
            several.add(label)
            detail = f"{count} clips have this cell, which holds {len(parts)} labels: give each clip one, or its votes"
            findings.append(Finding("several_labels", f"label {printable(label)}", detail, skipped=True, count=count))
        elif len(parts) > 1 and SURELY_SEVERAL.search(label):
            detail = f"{count} clips have this label, which may be several; it is kept as one class"
            findings.append(Finding("doubtful_label", f"label {printable(label)}", detail, count=count))
    return [utterance for utterance in utterances if utterance.label not in several], findings


NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)?")
MOST_FRACTIONS, MOST_NUMBERS = 12, 30
"""Most numeric classes, if some have a fraction, and if all are integers."""


def reject_ratings(where: str, utterances: Sequence[Utterance]) -> None:
    """Refuse labels that are ratings on a scale.

    Raises:
        ValueError: too many different numbers to be classes.
    """
    labels = sorted({utterance.label for utterance in utterances})
    if not all(NUMBER.fullmatch(label) for label in labels):
        return
    most = MOST_FRACTIONS if any(re.search("[.,]", label) for label in labels) else MOST_NUMBERS
    few_clips = 3 * len(labels) > len(utterances)
    if len(labels) > most or (len(labels) > MOST_FRACTIONS and few_clips):
        raise ValueError(
            f"{where}: found {len(labels)} different numbers in the column of the label, such as "
            f"{', '.join(labels[:4])}: these look like ratings. Expected emotions, or the numbers of a few classes: "
            "bin them into classes in the table, or name another column with --columns label=NAME (valence, activation "
            "and dominance have columns of their own)."
        )


LEAST_LETTERS, RARE_SHARE = 3, 0.05
"""Fewest letters of a label for which one edit is a likely typing error; greatest share of the other label's clips."""


def misspelt_findings(utterances: Sequence[Utterance]) -> list[Finding]:
    """Report rare labels that are one letter away from a frequent one; they are kept as classes."""
    counts, findings = Counter(utterance.label for utterance in utterances), []
    for label, count in sorted(counts.items()):
        many = [other for other, clips in counts.items() if count < clips and count <= max(RARE_SHARE * clips, 1)]
        frequent = [other for other in many if is_one_edit(look_alike(label), look_alike(other))]
        if frequent and len(label) >= LEAST_LETTERS and any(map(str.isalpha, label)):
            other = max(frequent, key=lambda name: (counts[name], name))
            detail = (
                f"{count} clips have this label and {counts[other]} have {printable(other)}, which is one letter away: "
                "correct it in the table if it is misspelt, or join the two with a --label_map"
            )
            findings.append(Finding("misspelt_label", f"label {printable(label)}", detail, count=count))
    return findings


def is_one_edit(one: str, other: str) -> bool:
    """Whether two texts differ by one inserted, deleted, substituted or swapped letter."""
    if one == other or abs(len(one) - len(other)) > 1:
        return False
    pairs = zip(one, other, strict=False)
    start = next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
    rest, other_rest = one[start:], other[start:]
    swapped = rest[:2] == other_rest[:2][::-1] and rest[2:] == other_rest[2:]
    return swapped or rest[1:] == other_rest[1:] or rest[1:] == other_rest or rest == other_rest[1:]


def reject_other_labels(where: str, utterances: Sequence[Utterance], column_is_named: bool = False) -> None:
    """Refuse labels that are the speakers, or the sexes unless the user named their column.

    Raises:
        ValueError: the labels are speakers or sexes.
    """
    labels = sorted({utterance.label for utterance in utterances})
    named = ", ".join(printable(label) for label in labels[:4]) + (" ..." if len(labels) > 4 else "")
    if not column_is_named and all(look_alike(label) in SEX_NAMES for label in labels):
        raise ValueError(
            f"{where}: found the labels {named}, which are sexes. Expected emotions: {LABEL_REMEDY}. To learn "
            "the sexes, name their column: --columns label=NAME."
        )
    speakers = [(utterance.speaker or "").removeprefix("table/") for utterance in utterances]
    alike = [look_alike(who) == look_alike(one.label) for who, one in zip(speakers, utterances, strict=True)]
    if len(labels) > 1 and all(alike):
        raise ValueError(
            f"{where}: found the labels {named}, which are their clips' speakers. Expected emotions: {LABEL_REMEDY}."
        )
