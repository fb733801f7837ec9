"""Reports, comparisons and predictions files of rows that a test writes as dictionaries."""

from hf_ser.checks.stress import results
from hf_ser.runs import comparison, predictions, report
from hf_ser.runs.predictions import Prediction


def typed(rows) -> list[Prediction]:
    return [row if isinstance(row, Prediction) else Prediction(**row) for row in rows]


def make_report(rows, *others, **named):
    return report.make_report(typed(rows), *others, **named)


def compare(rows_a, rows_b, *names):
    return comparison.compare(typed(rows_a), typed(rows_b), *names)


def make_stress(about, rows, *others, **named):
    return results.make_stress(about, typed(rows), *others, **named)


def write_predictions(path, rows):
    predictions.write_predictions(path, typed(rows))
