"""Comparison of two runs on the same utterances, with a paired interval and a permutation test over speakers."""

import json
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hf_ser.data.schema import UNKNOWN
from hf_ser.files import atomic_write
from hf_ser.markup import line_width
from hf_ser.runs.comparison_figures import (
    ClassRecalls,
    Comparison,
    Difference,
    Example,
    Outcomes,
    Permutation,
    RunFigures,
    SpeakerPair,
)
from hf_ser.runs.figures import Conditions
from hf_ser.runs.intervals import SEED, STATISTICS, difference_intervals
from hf_ser.runs.predictions import Prediction, check_predictions
from hf_ser.runs.report import NO_TEXT, PredictionArrays, conditions_of, notices_of, prediction_arrays
from hf_ser.runs.report_text import counted
from hf_ser.runs.scores import ROUNDING, difference, uar_from_confusion

COMPARISON = "comparison.json"

MOST_EXACT = 4_096
"""Most permutations that are enumerated; if there are more, `PERMUTATIONS` are drawn."""

PERMUTATIONS = 10_000
EXAMPLES = 5
LARGEST_P = 0.05
FEWEST_SPEAKERS = 6
"""Fewest speakers to call one run better: with 5, no permutation test can give p <= 0.05."""


MUST_AGREE = {
    "protocol": "protocols",
    "split_fingerprint": "splits, so their models did not learn from the same speakers",
    "transcript_sources": "sources of transcripts",
    "leaks": "leaks",
}
"""Conditions in which two runs should agree, and what a notice calls them."""


def check_has_classes(rows: Sequence[Prediction], name: str) -> None:
    """Check that predictions have classes, whose recalls are compared.

    Raises:
        ValueError: they have only dimensions.
    """
    if not rows[0].probabilities:
        raise ValueError(
            f"{name}: found predictions of {', '.join(rows[0].dimensions)} without classes, expected classes: "
            "runs are compared by their recall. Compare the CCC in the reports, or train with --target both."
        )


def compare(
    rows_a: Sequence[Prediction], rows_b: Sequence[Prediction], names: Sequence[str] = ("A", "B")
) -> Comparison:
    """Compare two runs on the utterances that both were tested on.

    Args:
        rows_a, rows_b: Results of `read_predictions`.
        names: Two names; equal ones get `(A)` and `(B)`.

    Raises:
        ValueError: as `check_predictions`; other than two names; different labels; no common utterance; different
            references or speakers for one utterance; a class that no common utterance has.
    """
    names = _distinct_names(names)
    check_predictions(rows_a, f"predictions of {names[0]}")
    check_predictions(rows_b, f"predictions of {names[1]}")
    check_has_classes(rows_a, names[0])
    check_has_classes(rows_b, names[1])
    a, b, notices = common_utterances(rows_a, rows_b, names)
    by_speaker = {"a": a.confusions(a.column("speaker")), "b": b.confusions(a.column("speaker"))}
    intervals, note = difference_intervals(by_speaker["a"], by_speaker["b"])
    figures = _figures({run: sum(matrices.values()) for run, matrices in by_speaker.items()}, a.labels)
    change = _difference(figures["a"], figures["b"], intervals)
    conditions = {"a": conditions_of(a.rows), "b": conditions_of(b.rows)}
    permutation = permutation_test(by_speaker["a"], by_speaker["b"])
    outcomes, examples = _outcomes(a, b)
    return Comparison(
        names={"a": names[0], "b": names[1]},
        n_utterances=len(a.rows),
        n_speakers=len(by_speaker["a"].keys() - {UNKNOWN}),
        n_only_a=len(rows_a) - len(a.rows),
        n_only_b=len(rows_b) - len(a.rows),
        conditions=conditions,
        verdict=_verdict(change, names, len(by_speaker["a"]), permutation.p),
        **figures,
        difference=change,
        interval_note=note,
        permutation=permutation,
        per_class=_per_class(a, b),
        per_speaker=_per_speaker(by_speaker),
        outcomes=outcomes,
        examples=examples,
        notices=[*_run_notices(conditions, names), *_differing(conditions, names), *notices],
    )


def write_comparison(comparison: Comparison, path: str | Path) -> None:
    """Write a comparison as indented JSON, atomically."""
    with atomic_write(path) as file:
        file.write(json.dumps(comparison.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def permutation_test(by_speaker: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> Permutation:
    """Paired permutation test of the difference in UAR, which swaps the two models for whole speakers.

    The clips of a speaker are not independent. The difference is a sum over speakers, and a swap changes one sign.

    Shapes:
        each matrix: (classes, classes)

    Source: Good 2005, Permutation, Parametric and Bootstrap Tests of Hypotheses, chapter 3 (paired comparisons).
    """
    if UNKNOWN in by_speaker:
        return Permutation(p=None, n_permutations=0, exact=False)
    support = sum(by_speaker.values()).sum(axis=1)
    shares = np.array([(np.diag(other[name] - by_speaker[name]) / support).mean() for name in by_speaker])
    n_speakers = len(shares)
    exact = 2**n_speakers <= MOST_EXACT
    if exact:
        swapped = np.arange(2**n_speakers)[:, None] >> np.arange(n_speakers) & 1
    else:
        swapped = np.random.default_rng(SEED).integers(0, 2, size=(PERMUTATIONS, n_speakers))
    sums = (1 - 2 * swapped) @ shares  # (permutations,)
    extreme = int((np.abs(sums) >= abs(shares.sum()) - ROUNDING).sum())
    # The observed assignment is one of the enumerated ones; it is added to drawn ones.
    p = extreme / len(sums) if exact else (extreme + 1) / (len(sums) + 1)
    return Permutation(p=p, n_permutations=len(sums), exact=exact)


def format_comparison(comparison: Comparison) -> str:
    """The comparison as plain text for the terminal, in per cent and points."""
    names, p, counts = comparison.names, comparison.permutation.p, comparison.outcomes
    p_value = "no p value" if p is None else f"p = {p:.4f}"
    lines = [
        *comparison.notices,
        f"A: {names['a']}, B: {names['b']}; {counted(comparison.n_utterances, 'utterance')} of both, "
        + counted(comparison.n_speakers, "speaker"),
        f"{comparison.verdict} Paired permutation test over speakers: {p_value}.",
        comparison.interval_note,
    ]
    table = [_figure_line(name, comparison) for name in STATISTICS]
    outcomes = (
        f"both right {counts.both_right}, only A {counts.only_a_right}, only B {counts.only_b_right}, "
        f"both wrong {counts.both_wrong}"
    )
    return "\n".join(
        [
            *(part for line in lines for part in textwrap.wrap(line, line_width())),
            "",
            *table,
            "",
            *_class_table(comparison.per_class),
            "",
            *textwrap.wrap(outcomes, line_width()),
            *_example_lines(comparison.examples),
        ]
    )


def run_names(folders: Sequence[Path]) -> list[str]:
    """Names of run folders, or their paths if two names are equal."""
    names = [folder.name for folder in folders]
    return [str(folder) for folder in folders] if len(set(names)) < len(names) else names


def _distinct_names(names: Sequence[str]) -> Sequence[str]:
    """The two names; equal ones with `(A)` and `(B)`."""
    if len(names) != 2:
        raise ValueError(f"names: found {list(names)}, expected two. Give one name for each run.")
    return names if names[0] != names[1] else [f"{name} ({run})" for name, run in zip(names, "AB", strict=True)]


def common_utterances(
    rows_a: Sequence[Prediction], rows_b: Sequence[Prediction], names: Sequence[str]
) -> tuple[PredictionArrays, PredictionArrays, list[str]]:
    """Both runs on their common utterances, in the same order of rows and labels, and a notice of rows left out."""
    labels, others = rows_a[0].labels, rows_b[0].labels
    if set(labels) != set(others):
        raise ValueError(
            f"labels: found {labels} in {names[0]} and {others} in {names[1]}, expected the same ones. Compare runs "
            "of one task; a label map can bring corpora to the same labels before training."
        )
    by_id = {row.id: row for row in rows_b}
    pairs = [(row, by_id[row.id]) for row in rows_a if row.id in by_id]
    if not pairs:
        raise ValueError(
            f"utterances: found none that both runs tested ({names[0]}: {rows_a[0].id}, ...; {names[1]}: "
            f"{rows_b[0].id}, ...), expected some. Compare runs on the same corpus and folds."
        )
    joined = [_agreed(one, other, names, labels) for one, other in pairs]
    left = [f"{len(rows) - len(pairs)} of {name}" for rows, name in ((rows_a, names[0]), (rows_b, names[1]))]
    partial = max(len(rows_a), len(rows_b)) > len(pairs)
    notice = f"Left out, since only one run tested them: {' and '.join(left)} utterances."
    return (
        prediction_arrays([one for one, _ in joined]),
        prediction_arrays([other for _, other in joined]),
        [notice] if partial else [],
    )


def _agreed(
    one: Prediction, other: Prediction, names: Sequence[str], labels: list[str]
) -> tuple[Prediction, Prediction]:
    """Two rows of one utterance, with the first run's order of labels and the speaker from either row."""
    for key in ("reference", "speaker"):
        ours, theirs = getattr(one, key), getattr(other, key)
        found = {ours, theirs} - {None}
        if len(found) > 1:
            raise ValueError(
                f"{one.id}: found the {key} {ours!r} in {names[0]} and {theirs!r} in {names[1]}, expected "
                "the same. Compare runs on one version of the corpus."
            )
    speaker = one.speaker or other.speaker
    probabilities = {label: other.probabilities[label] for label in labels}
    return replace(one, speaker=speaker), replace(other, speaker=speaker, probabilities=probabilities)


def _figures(confusions: dict[str, np.ndarray], labels: list[str]) -> dict[str, RunFigures]:
    uar_from_confusion(confusions["a"], labels)  # raises if a class is absent
    return {run: RunFigures(**{name: float(one(confusions[run])) for name, one in STATISTICS.items()}) for run in "ab"}


def _difference(a: RunFigures, b: RunFigures, intervals: dict[str, list[float] | None]) -> Difference:
    changes = {name: difference(getattr(b, name), getattr(a, name)) for name in STATISTICS}
    return Difference(**changes, **{f"{name}_ci95": interval for name, interval in intervals.items()})


def _verdict(differences: Difference, names: Sequence[str], n_speakers: int, p: float | None) -> str:
    change, interval = differences.uar, differences.uar_ci95
    if change == 0:
        return f"{names[0]} and {names[1]} have the same UAR on these utterances."
    better, worse = (names[1], names[0]) if change >= 0 else (names[0], names[1])
    points = f"{100 * abs(change):.1f} points of UAR"
    if interval is None:
        return f"{better} is ahead of {worse} by {points}; without an interval this says nothing about other speakers."
    low, high = interval if change >= 0 else (-interval[1], -interval[0])
    span = f"95 % interval {100 * low:.1f} to {100 * high:.1f}"
    ahead = f"{better} is ahead of {worse} by {points}"
    if low <= ROUNDING:
        return f"{ahead}, but the interval contains 0 ({span}): it is open which is better."
    if n_speakers < FEWEST_SPEAKERS:
        return f"{ahead} ({span}), but {n_speakers} speakers are too few to call it better."
    if p > LARGEST_P:
        return f"{ahead} ({span}), but the permutation test does not confirm it (p = {p:.3f})."
    return f"{better} is better than {worse} by {points} ({span}, p = {p:.3f})."


def _per_class(a: PredictionArrays, b: PredictionArrays) -> dict[str, ClassRecalls]:
    recalls = {}
    for index, label in enumerate(a.labels):
        own = a.references == index
        in_a, in_b = (float(answers.correct[own].mean()) for answers in (a, b))
        recalls[label] = ClassRecalls(support=int(own.sum()), a=in_a, b=in_b, difference=difference(in_b, in_a))
    return recalls


def _per_speaker(by_speaker: dict[str, dict[str, np.ndarray]]) -> dict[str, SpeakerPair]:
    """UAR of each speaker who has every class, WA of the others."""
    figures = {}
    for name, confusion in by_speaker["a"].items():
        measure = "uar" if confusion.sum(axis=1).all() else "wa"
        a, b = (float(STATISTICS[measure](by_speaker[run][name])) for run in "ab")
        figures[name] = SpeakerPair(n=int(confusion.sum()), measure=measure, a=a, b=b, difference=difference(b, a))
    return figures


def _outcomes(a: PredictionArrays, b: PredictionArrays) -> tuple[Outcomes, dict[str, list[Example]]]:
    """Counts of which run was right, and for each run its most confident utterances that only it got right."""
    kinds = {
        "both_right": a.correct & b.correct,
        "only_a_right": a.correct & ~b.correct,
        "only_b_right": ~a.correct & b.correct,
        "both_wrong": ~a.correct & ~b.correct,
    }
    examples = {}
    for kind, right in (("only_a_right", a), ("only_b_right", b)):
        chosen = np.flatnonzero(kinds[kind])
        chosen = chosen[np.argsort(-right.confidence[chosen], kind="stable")][:EXAMPLES]
        examples[kind] = [
            Example(
                id=a.rows[i].id,
                reference=a.labels[a.references[i]],
                a=a.labels[a.predicted[i]],
                b=b.labels[b.predicted[i]],
            )
            for i in chosen
        ]
    return Outcomes(**{kind: int(which.sum()) for kind, which in kinds.items()}), examples


def _run_notices(conditions: dict[str, Conditions], names: Sequence[str]) -> list[str]:
    """Notices of the two runs' reports."""
    return [
        f"{name}: {notice}" for run, name in zip("ab", names, strict=True) for notice in notices_of(conditions[run])
    ]


def _differing(conditions: dict[str, Conditions], names: Sequence[str]) -> list[str]:
    def value_text(run: str, key: str) -> str:
        value = getattr(conditions[run], key)
        if key == "split_fingerprint":
            return value[:12]  # as long as the report's own table shows it
        return (", ".join(value) or "none") if isinstance(value, list) else value

    return [
        f"The runs have different {word}: {names[0]} {value_text('a', key)}, {names[1]} {value_text('b', key)}."
        for key, word in MUST_AGREE.items()
        if len(values := {str(getattr(one, key)) for one in conditions.values()}) > 1
        and not (key == "transcript_sources" and str(NO_TEXT) in values)
    ]


def _figure_line(name: str, comparison: Comparison) -> str:
    a, b, change = (getattr(one, name) for one in (comparison.a, comparison.b, comparison.difference))
    interval = getattr(comparison.difference, f"{name}_ci95")
    span = f"95 % interval [{100 * interval[0]:+.1f}, {100 * interval[1]:+.1f}]" if interval else "no interval"
    return f"{name:<8}  A {100 * a:5.1f} %  B {100 * b:5.1f} %  B - A {100 * change:+5.1f}, {span}"


def _class_table(classes: dict[str, ClassRecalls]) -> list[str]:
    width = max(len("recall of"), *(len(label) for label in classes))
    header = f"{'recall of':<{width}}      A      B   B - A  support"
    return [header] + [
        f"{label:<{width}}  {100 * row.a:5.1f}  {100 * row.b:5.1f}  {100 * row.difference:+6.1f}  {row.support:>7}"
        for label, row in classes.items()
    ]


def _example_lines(examples: dict[str, list[Example]]) -> list[str]:
    lines = []
    for kind, rows in examples.items():
        if rows:
            ids = ", ".join(f"{row.id} ({row.reference})" for row in rows)
            lines += textwrap.wrap(f"{kind.replace('_', ' ')}: {ids}", line_width(), subsequent_indent="  ")
    return lines
