"""A leaderboard of finished runs: each with its interval, and a paired test against the best.

    O/leaderboard.json    all figures, as those of a study
    O/leaderboard.png     UAR with its interval, leaked runs in red
    O/leaderboard.html    the table as a page (`hf_ser.publish.leaderboard`)

A run with a leak, or one that was tested on other utterances than the first run without a leak, is listed separately
and not compared.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hf_ser.checks.study.figures import ComparedSystem, StudyConditions, StudyResult, SystemApart, SystemFigures
from hf_ser.checks.study.results import MUST_AGREE, SystemResult, notices_of_comparisons, with_holm
from hf_ser.markup import line_width
from hf_ser.normal_form import printable
from hf_ser.runs.comparison import check_has_classes
from hf_ser.runs.figures import Report
from hf_ser.runs.findings import read_verdict
from hf_ser.runs.predictions import PREDICTIONS, read_predictions
from hf_ser.runs.report import REPORT, label_map_of, make_report
from hf_ser.runs.scores import DIGITS

ANY_SEED = 0
"""Seed of every run: a leaderboard compares runs regardless of the seeds that they were trained with."""


CHOSEN = "{} was chosen as the best by the figures of this table, so the differences to it are a little too large."


@dataclass(frozen=True)
class FinishedRun:
    """A run's folder, as `SystemResult` reads it."""

    name: str
    folder: Path
    seed: int = ANY_SEED

    def report(self) -> Report:
        """The report of the run, made from its predictions if it was not written."""
        rows = read_predictions(self.folder / PREDICTIONS)
        check_has_classes(rows, self.name)
        if (self.folder / REPORT).is_file():
            return Report.read(self.folder / REPORT)
        return make_report(rows, read_verdict(self.folder), label_map_of(self.folder))


def make_leaderboard(runs: Sequence[FinishedRun]) -> StudyResult:
    """Rank finished runs by UAR, and compare each with the best by a paired test over speakers.

    Args:
        runs: The runs, with names that differ.

    Raises:
        FileNotFoundError, ValueError: a run without predictions, or with damaged ones.
    """
    measured = [SystemResult(run.name, [run]) for run in runs]
    first = next((one for one in measured if not one.leaks), None)
    why = {one.name: _why_apart(one, first) for one in measured}
    fair = [one for one in measured if not why[one.name]]
    fair.sort(key=lambda one: (-round(one.figure("uar"), DIGITS), one.name))
    best = fair[0] if fair else None
    compared = with_holm({one.name: one.difference_to(best) for one in fair if one is not best})
    return StudyResult(
        conditions=StudyConditions(**vars(best.conditions), labels=best.labels) if best else None,
        chance_uar=1 / len((best or measured[0]).labels),
        baseline=best.name if best else None,
        seeds=[ANY_SEED],
        systems=[ComparedSystem(**vars(one.figures()), difference=compared.get(one.name)) for one in fair],
        apart=[SystemApart(**vars(one.figures()), why=why[one.name]) for one in measured if why[one.name]],
        missing=[],
        notices=[
            # With no baseline, the notice would suggest a flag that a leaderboard does not have.
            *([CHOSEN.format(best.name)] if compared else []),
            *notices_of_comparisons(best and best.name, [ANY_SEED], fair, compared),
        ],
    )


def _why_apart(one: SystemResult, first: SystemResult | None) -> str:
    """Why a run cannot be compared with the first one without a leak; empty if it can."""
    if one.leaks:
        return f"LEAKED: {', '.join(one.leaks)}"
    ours, theirs = _tested_on(one), _tested_on(first)
    other = [word for key, word in MUST_AGREE.items() if ours[key] != theirs[key]]
    if "corpora" in other:
        return f"another corpus than {first.name}"
    return f"other {' and '.join(other)} than {first.name}" if other else ""


def _tested_on(one: SystemResult) -> dict:
    return {**vars(one.conditions), "labels": one.labels, "references": one.references}


def format_leaderboard(result: StudyResult) -> str:
    """The leaderboard as text for the terminal, in per cent and points."""
    all_runs = [*result.systems, *result.apart]
    names = {one.name: printable(one.name) for one in all_runs}
    width = max(len("run"), *map(len, names.values()))
    lines = [line for notice in _notices(result) for line in textwrap.wrap(notice, line_width())]
    lines += [
        *([""] if lines else []),
        f"    {'run':<{width}}    UAR  95 % interval     WA   to the best, points   p (Holm)",
    ]
    for place, one in enumerate(result.systems, start=1):
        lines.append(f"{place:>2}  {names[one.name]:<{width}}  {_figures(one)}{_against_text(one)}".rstrip())
    for one in result.apart:
        lines.append(f" -  {names[one.name]:<{width}}  {_figures(one)}   {printable(one.why)}")
    return "\n".join([*lines, "", *textwrap.wrap(verdict_text(result), line_width())])


def verdict_text(result: StudyResult) -> str:
    """Result of the paired tests in a sentence."""
    if len(result.systems) < 2:
        return "There are no two runs that can be compared."
    worse = [one.name for one in result.systems if one.difference and one.difference.is_significant]
    same = [one.name for one in result.systems if one.difference and not one.difference.is_significant]
    best = f"{result.baseline} has the highest UAR"
    if not worse:
        return f"{best}, but no other run is significantly different (paired tests over speakers)."
    if not same:
        return f"{best}, and every other run is significantly worse (paired tests over speakers, p <= 0.05 after Holm)."
    return f"{best}. Significantly worse: {', '.join(worse)}. Not significantly different: {', '.join(same)}."


def _notices(result: StudyResult) -> list[str]:
    return list(dict.fromkeys([*result.notices, *(notice for one in result.systems for notice in one.notices)]))


def _figures(one: SystemFigures) -> str:
    span = f"{100 * one.uar_ci95[0]:.1f} to {100 * one.uar_ci95[1]:.1f}" if one.uar_ci95 else "none"
    return f"{100 * one.uar:5.1f}  {span:<13}  {100 * one.wa:5.1f}"


def _against_text(one: ComparedSystem) -> str:
    if one.difference is None:
        return ""
    interval, p = one.difference.uar_ci95, one.difference.p_holm
    span = f"[{100 * interval[0]:+.1f}, {100 * interval[1]:+.1f}]" if interval else ""
    mark = "  *" if one.difference.is_significant else ""
    return f"   {100 * one.difference.uar:+5.1f} {span:<14}   {'none' if p is None else f'{p:.4f}'}{mark}"
