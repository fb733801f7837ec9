"""The report of fine-tuning a recogniser: word error rates before and after, over the finished folds."""

import json
import math
import textwrap
from importlib.metadata import version
from pathlib import Path

from hf_ser.files import atomic_write
from hf_ser.markup import line_width
from hf_ser.runs.folder import RunFolder
from hf_ser.runs.record import TrainingRecord
from hf_ser.runs.report import REPORT
from hf_ser.runs.word_errors import AsrReport
from hf_ser.transcripts.wer import plot_wer, wer_report
from hf_ser.transcripts.wer_figures import FineTunedErrors

TRANSCRIPTS, WER = "transcripts.jsonl", "wer.json"
TIMES = ("before", "after")

PACKAGES = ("hf_ser", "torch", "transformers", "peft", "datasets")


def word_error_rates(lines: list[dict]) -> FineTunedErrors:
    """The word error rates of some transcripts, before and after."""
    return FineTunedErrors(
        **{when: wer_report([{**line, "hypothesis": line[when]} for line in lines]) for when in TIMES}
    )


def write_results(output_dir: Path) -> str:
    """Gather the finished folds, write the report, and return it as a table."""
    records = {fold.path: fold.record for fold in RunFolder(output_dir).folds.values()}
    models = [f"model of {folder.name}: {folder}" for folder in records]
    tested = [folder for folder in records if (folder / TRANSCRIPTS).is_file()]
    if not tested:
        return "\n".join([*models, "No speaker was left to test: for a figure run --fold all with the same settings."])
    lines = [json.loads(line) for folder in tested for line in (folder / TRANSCRIPTS).read_text("utf-8").splitlines()]
    wer = word_error_rates(lines)
    for when in TIMES:
        plot_wer(getattr(wer, when), output_dir / f"wer_{when}.png")
    rates = {records[folder].split.fold: FineTunedErrors.read(folder / WER) for folder in tested}
    per_fold = {name: {"before": found.before.wer, "after": found.after.wer} for name, found in rates.items()}
    report = AsrReport(**conditions([records[folder] for folder in tested], lines), wer=wer, per_fold=per_fold)
    with atomic_write(output_dir / REPORT) as file:
        json.dump(report.to_json(), file, indent=1)
    return "\n".join([format_report(report), *models, f"report: {output_dir / REPORT}"])


def conditions(records: list[TrainingRecord], lines: list[dict]) -> dict:
    """What the word error rates of some folds were measured on, and how the models were trained."""
    leaks = sorted({leak for record in records for leak in record.leaks})
    known = sum(record.known_texts for record in records)
    corpora = sorted({line["corpus"] for line in lines})
    notices = [
        f"LEAKED RUN: {', '.join(leaks)}. The test rows were not independent of training." if leaks else "",
        "Synthetic corpus: this figure tests the software and says nothing about speech."
        if "synthetic" in corpora
        else "",
        f"{known} of {len(lines)} test clips speak sentences that others speak in training: on new sentences the gain "
        "may be smaller. Measure it with --protocol sentence_disjoint."
        if known
        else "",
    ]
    first, by_fold = records[0], {record.split.fold: record for record in records}
    return {
        "corpus": "+".join(corpora),
        "protocol": first.protocol,
        "language": first.language,
        "folds": {name: record.split.split_fingerprint for name, record in by_fold.items()},
        "asr": {name: record.asr for name, record in by_fold.items()},
        "leaks": leaks,
        "known_texts": known,
        "left_out": sorted({notice for record in records for notice in record.left_out}),
        "notices": [notice for notice in notices if notice],
        "settings": first.settings,
        "seeds": {name: record.seed for name, record in by_fold.items()},
        "hardware": sorted({record.hardware for record in records}),
        "precision": first.precision,
        "versions": {package: version(package) for package in PACKAGES},
    }


def format_report(report: AsrReport) -> str:
    """The report as a plain-text table for the terminal; rates in per cent."""
    before, after, folds = report.wer.before, report.wer.after, report.per_fold
    lines = [
        *(line for notice in report.notices for line in textwrap.wrap(notice, line_width())),
        f"{report.corpus}, protocol {report.protocol}, {len(folds)} fold{'s' if len(folds) > 1 else ''}: "
        f"{after.n_clips} clips of {after.n_speakers} speakers, language {report.language}",
        "",
        "          WER  95 % interval   substituted  deleted  inserted",
    ]
    for when, found in zip(TIMES, (before, after), strict=True):
        low, high = (f"{100 * rate:.1f}" for rate in found.wer_ci95 or (math.nan, math.nan))
        kinds = [100 * rate for rate in (found.substitution_rate, found.deletion_rate, found.insertion_rate)]
        lines.append(
            f"{when:<6}  {100 * found.wer:>5.1f}  {f'{low} to {high}':>14}  {kinds[0]:>11.1f}  {kinds[1]:>7.1f}  "
            f"{kinds[2]:>8.1f}"
        )
    if len(folds) > 1:
        rates = (f"{name}: {100 * one['before']:.1f} > {100 * one['after']:.1f}" for name, one in folds.items())
        lines += textwrap.wrap("folds   " + ", ".join(rates), line_width(), subsequent_indent=" " * 8)
    return "\n".join([*lines, *textwrap.wrap(after.wer_ci95_note, line_width()), ""])
