"""Results of a study: every system's figures over its seeds, and which differences are significant.

    O/study.json    all figures, with the conditions they were measured under
    O/study.md      the same as a table
    O/study.png     UAR with its interval, leaked systems in red

Seeds of one system share their test utterances and are not independent: for intervals and tests a speaker is drawn, or
swapped, with the predictions of all seeds. The spread over seeds is given as well.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hf_ser.checks.study.figures import (
    ComparedSystem,
    StudyConditions,
    StudyResult,
    SystemApart,
    SystemDifference,
    SystemFigures,
)
from hf_ser.checks.study.plan import Study
from hf_ser.checks.study.run import Run
from hf_ser.data.schema import UNKNOWN
from hf_ser.files import atomic_write
from hf_ser.markup import escaped
from hf_ser.runs.comparison import FEWEST_SPEAKERS, LARGEST_P, permutation_test
from hf_ser.runs.folder import RunFolder
from hf_ser.runs.intervals import STATISTICS, difference_intervals, holds_zero, speaker_intervals
from hf_ser.runs.predictions import PREDICTIONS, read_predictions
from hf_ser.runs.record import TrainingRecord
from hf_ser.runs.report import conditions_of, prediction_arrays
from hf_ser.runs.report_text import counted
from hf_ser.runs.scores import DIGITS, difference

STUDY, TABLE, PICTURE = "study.json", "study.md", "study.png"

MUST_AGREE = {
    "corpus": "corpora",
    "split_fingerprint": "splits",
    "labels": "classes",
    "references": "utterances or references",
}
"""What two systems of one protocol must share to be compared, and its name in errors."""


def make_study(study: Study, runs: Sequence[Run]) -> StudyResult:
    """Compute figures and comparisons of the finished runs.

    Raises:
        ValueError: no run is done; systems of one protocol, or the seeds of one system, differ in split, data or
            classes; the baseline is not among the comparable systems.
    """
    by_system = {
        system.name: [run for run in runs if run.system == system and run.is_done()] for system in study.systems
    }
    measured = [SystemResult(name, done) for name, done in by_system.items() if done]
    if not measured:
        raise ValueError("study: found no finished run, expected at least one. See the logs of the runs.")
    protocol = _protocol(study, measured)
    fair = [one for one in measured if not one.leaks and one.conditions.protocol == protocol]
    _check_same_conditions(fair)
    fair.sort(key=lambda one: (-round(one.figure("uar"), DIGITS), one.name))
    baseline = _baseline(study, fair)
    compared = with_holm({one.name: one.difference_to(baseline) for one in fair if one is not baseline})
    return StudyResult(
        conditions=StudyConditions(**vars(fair[0].conditions), labels=fair[0].labels) if fair else None,
        chance_uar=1 / len(measured[0].labels),
        baseline=baseline.name if baseline else None,
        seeds=list(study.seeds),
        systems=[ComparedSystem(**vars(one.figures()), difference=compared.get(one.name)) for one in fair],
        apart=[SystemApart(**vars(one.figures()), why=_why(one, protocol)) for one in measured if one not in fair],
        missing=[run.name for run in runs if not run.is_done()],
        notices=notices_of_comparisons(study.baseline, study.seeds, fair, compared),
    )


def write_study(result: StudyResult, folder: str | Path) -> None:
    """Write `study.json` and `study.md`."""
    with atomic_write(Path(folder) / STUDY) as file:
        file.write(json.dumps(result.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    with atomic_write(Path(folder) / TABLE) as file:
        file.write(format_study(result) + "\n")


class SystemResult:
    """The finished runs of one system: predictions, pooled over seeds, and training records.

    Raises:
        ValueError: its seeds were tested on different splits, data or classes.
    """

    def __init__(self, name: str, runs: Sequence[Run]):
        self.name, self.reports = name, [run.report() for run in runs]
        self.seeds = [run.seed for run in runs]
        answers = [prediction_arrays(read_predictions(run.folder / PREDICTIONS)) for run in runs]
        self.records = [_records(run.folder) for run in runs]
        self.conditions, self.labels = conditions_of(answers[0].rows), answers[0].labels
        self.references = [(row.id, row.reference, row.speaker) for row in answers[0].rows]
        for run, one in zip(runs, answers, strict=True):
            references = [(row.id, row.reference, row.speaker) for row in one.rows]
            if (conditions_of(one.rows), one.labels, references) != (self.conditions, self.labels, self.references):
                raise ValueError(
                    f"{run.name}: found another split, protocol or data than in {runs[0].name}, expected the same for "
                    f"all seeds. Remove {run.folder} and train it again."
                )
        self.by_seed = {
            seed: one.confusions(one.column("speaker")) for seed, one in zip(self.seeds, answers, strict=True)
        }
        later = {leak for report in self.reports for leak in (report.audit.leak if report.audit else ())}
        self.leaks = sorted({*self.conditions.leaks, *later})

    def pooled(self, seeds: Sequence[int]) -> dict[str, np.ndarray]:
        """One confusion matrix for each speaker, summed over some seeds."""
        speakers = self.by_seed[seeds[0]]
        return {speaker: sum(self.by_seed[seed][speaker] for seed in seeds) for speaker in speakers}

    def figure(self, name: str) -> float:
        """One of `STATISTICS` over all seeds; for UAR and WA this is the mean over seeds."""
        return float(STATISTICS[name](sum(self.pooled(self.seeds).values())))

    def difference_to(self, other: "SystemResult") -> SystemDifference | None:
        """The paired difference to another system on the common seeds, p not corrected; None where there are none."""
        seeds = [seed for seed in self.seeds if seed in other.seeds]
        if not seeds:
            return None
        theirs, ours = other.pooled(seeds), self.pooled(seeds)
        intervals, note = difference_intervals(theirs, ours)
        uar = [float(STATISTICS["uar"](sum(one.values()))) for one in (theirs, ours)]
        return SystemDifference(
            to=other.name,
            seeds=seeds,
            uar=difference(uar[1], uar[0]),
            uar_ci95=intervals["uar"],
            interval_note=note,
            **vars(permutation_test(theirs, ours)),
            p_holm=None,  # set by with_holm, which needs the p values of all systems
            is_significant=False,
        )

    def figures(self) -> SystemFigures:
        """The system's figures."""
        intervals, note = speaker_intervals(self.pooled(self.seeds))
        uars = [report.uar for report in self.reports]
        return SystemFigures(
            name=self.name,
            seeds=self.seeds,
            protocol=self.conditions.protocol,
            split_fingerprint=self.conditions.split_fingerprint,
            transcript_sources=self.conditions.transcript_sources,
            leaks=self.leaks,
            n_utterances=len(self.references),
            n_speakers=len(self.by_seed[self.seeds[0]].keys() - {UNKNOWN}),
            uar=self.figure("uar"),
            uar_ci95=intervals["uar"],
            interval_note=note,
            uar_by_seed=uars,
            uar_spread=statistics.stdev(uars) if len(uars) > 1 else None,
            wa=self.figure("wa"),
            weighted_f1=statistics.fmean(report.weighted_f1 for report in self.reports),
            **_cost(self.records),
            notes=sorted({note for report in self.reports for note in report.notes}),
            notices=sorted({notice for report in self.reports for notice in report.notices}),
        )


def with_holm(compared: Mapping[str, SystemDifference | None]) -> dict[str, SystemDifference | None]:
    """The comparisons with p values corrected for multiple testing, and whether each is significant.

    Source: Holm 1979, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of Statistics 6(2).
    """
    corrected = holm({name: one.p for name, one in compared.items() if one and one.p is not None})
    return {
        name: one and replace(one, p_holm=(p := corrected.get(name)), is_significant=_is_significant(one, p))
        for name, one in compared.items()
    }


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's corrected p values: the smallest times their number, the next times one less, never decreasing."""
    corrected, largest = {}, 0.0
    for place, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        largest = max(largest, min(1.0, p_values[name] * (len(p_values) - place)))
        corrected[name] = largest
    return corrected


def _is_significant(one: SystemDifference, p: float | None) -> bool:
    interval = one.uar_ci95
    return p is not None and p <= LARGEST_P and interval is not None and not holds_zero(interval)


def _protocol(study: Study, measured: Sequence[SystemResult]) -> str:
    """The protocol of the comparison: the baseline's, the study's, or that of the first system without a leak."""
    if study.baseline:
        named = [one for one in measured if one.name == study.baseline]
    else:
        named = [one for one in measured if one.conditions.protocol == study.settings.get("protocol")]
    fair = [one for one in [*named, *measured] if not one.leaks] or measured
    return fair[0].conditions.protocol


def _baseline(study: Study, fair: Sequence[SystemResult]) -> SystemResult | None:
    if not study.baseline:
        return fair[0] if fair else None
    if named := [one for one in fair if one.name == study.baseline]:
        return named[0]
    raise ValueError(
        f"--baseline {study.baseline}: found a system that is not finished, or whose result is leaked. Expected one of "
        f"{', '.join(one.name for one in fair) or 'none yet'}."
    )


def _check_same_conditions(fair: Sequence[SystemResult]) -> None:
    """Check that systems of one protocol have the same test.

    Raises:
        ValueError: they differ.
    """
    tests = [{**vars(one.conditions), "labels": one.labels, "references": one.references} for one in fair]
    for one, conditions in zip(fair[1:], tests[1:], strict=True):
        if other := [word for key, word in MUST_AGREE.items() if conditions[key] != tests[0][key]]:
            raise ValueError(
                f"study: found different {' and '.join(other)} in {fair[0].name} (split "
                f"{tests[0]['split_fingerprint'][:12]}) and {one.name} (split {conditions['split_fingerprint'][:12]}), "
                f"both of protocol {conditions['protocol']}. Expected the same test for all: give them the same data, "
                "fold and label_map, or put them into a study of their own."
            )


def _why(one: SystemResult, protocol: str) -> str:
    if one.leaks:
        return f"LEAKED: {', '.join(one.leaks)}"
    return f"protocol {one.conditions.protocol}, not {protocol}"


def notices_of_comparisons(
    baseline: str | None,
    seeds: Sequence[int],
    fair: Sequence[SystemResult],
    compared: Mapping[str, SystemDifference | None],
) -> list[str]:
    """Notices of comparisons with the baseline, or with the best system if `baseline` is None."""
    found = []
    if fair and compared and not baseline:
        found.append(
            f"{fair[0].name} was chosen as the best by the figures of this table, so the differences to it are a "
            "little too large; name a system beforehand with --baseline."
        )
    tests = [one for one in compared.values() if one and one.p is not None]
    if tests:
        speakers = len(fair[0].by_seed[fair[0].seeds[0]])
        smallest = len(tests) * 2 / 2**speakers
        if smallest > LARGEST_P or speakers < FEWEST_SPEAKERS:
            found.append(
                f"{counted(speakers, 'test speaker')} and {counted(len(tests), 'comparison')}: the corrected p value "
                f"cannot fall below {min(1.0, smallest):.3g}, so no difference can be significant here. Use --fold all."
            )
    if any(one and len(one.seeds) < len(seeds) for one in compared.values()):
        found.append("Some systems lack seeds; each difference is over the seeds that both systems have.")
    return found


def _records(folder: Path) -> list[TrainingRecord]:
    """The training records of a run's folds."""
    return [fold.record for fold in RunFolder(folder).folds.values()] if folder.is_dir() else []


def _cost(by_seed: Sequence[Sequence[TrainingRecord]]) -> dict:
    """Size, training time and speed of a system; times include evaluation and are summed over folds."""
    records = [record for folds in by_seed for record in folds]
    seconds = [sum(record.train_seconds for record in folds) for folds in by_seed]
    clips = sum(_clips_trained(record) for record in records)
    return {
        "parameters": max((record.parameters for record in records), default=None),
        "parameters_trained": max((record.parameters_trained for record in records), default=None),
        "train_seconds": statistics.fmean(seconds),
        "clips_per_second": clips / sum(seconds) if clips and sum(seconds) else None,
        "hardware": sorted({record.hardware for record in records}),
    }


def _clips_trained(record: TrainingRecord) -> float:
    """Number of clips that a training processed over all epochs."""
    epochs = max((entry.get("epoch") or 0 for entry in record.history), default=0)
    return len(record.split.train.ids) * epochs


def format_study(result: StudyResult) -> str:
    """The study as Markdown."""
    parts = ["# Comparison of systems", *_heading(result), *map(escaped, result.notices)]
    if result.systems:
        parts.append(_table(result.systems, result.baseline))
        parts.append(result.systems[0].interval_note)
    if result.apart:
        parts.append("## Not to be compared with the above")
        parts.append(_table(result.apart, None))
    parts += [f"- {escaped(name)}: {escaped(note)}" for name, note in _remarks(result)]
    if result.missing:
        parts.append(f"Not done: {escaped('; '.join(result.missing))}.")
    return "\n\n".join(parts)


def _heading(result: StudyResult) -> list[str]:
    if not result.systems:
        return ["No system without a leak is done."]
    first, conditions = result.systems[0], result.conditions
    return [
        f"{escaped(conditions.corpus)}, protocol {escaped(conditions.protocol)}, "
        f"{counted(len(conditions.folds), 'fold')}, split {conditions.split_fingerprint[:12]}: "
        f"{counted(first.n_utterances, 'utterance')}, {counted(first.n_speakers, 'speaker')}; "
        f"chance {100 * result.chance_uar:.1f} %. "
        "UAR, WA and F1 in per cent, means over seeds."
    ]


def _table(systems: Sequence[ComparedSystem | SystemApart], baseline: str | None) -> str:
    last = [f"difference to {escaped(baseline)}", "p (Holm)", "significant"] if baseline else ["why"]
    columns = ["system", "UAR [95 %]", "seeds", "spread", "WA", "weighted F1", "trained / all parameters"]
    columns += ["training", "clips/s", *last]
    lines = [columns, ["---"] * len(columns), *(_row(one, baseline) for one in systems)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _row(one: ComparedSystem | SystemApart, baseline: str | None) -> list[str]:
    spread, speed = one.uar_spread, one.clips_per_second
    return [
        escaped(one.name),
        f"{100 * one.uar:.1f} {_span(one.uar_ci95)}",
        str(len(one.seeds)),
        "" if spread is None else f"± {100 * spread:.1f}",
        f"{100 * one.wa:.1f}",
        f"{100 * one.weighted_f1:.1f}",
        f"{_count(one.parameters_trained)} / {_count(one.parameters)}",
        f"{one.train_seconds:.0f} s",
        "" if speed is None else f"{speed:.0f}",
        *(_against(one.difference) if baseline else [f"**{escaped(one.why)}**"]),
    ]


def _against(difference: SystemDifference | None) -> list[str]:
    if difference is None:
        return ["", "", ""]
    p = "none" if difference.p_holm is None else f"{difference.p_holm:.3f}"
    span = _span(difference.uar_ci95, "+.1f")
    return [f"{100 * difference.uar:+.1f} {span}", p, "yes" if difference.is_significant else "no"]


def _span(interval: list[float] | None, form: str = ".1f") -> str:
    return "(no interval)" if interval is None else f"[{100 * interval[0]:{form}}, {100 * interval[1]:{form}}]"


def _count(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def _remarks(result: StudyResult) -> list[tuple[str, str]]:
    all_systems = [*result.systems, *result.apart]
    return [(one.name, note) for one in all_systems for note in dict.fromkeys((*one.notices, *one.notes))]
