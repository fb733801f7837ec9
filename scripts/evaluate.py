"""Recompute the report of a run from its predictions alone, without the model or the audio.

    python scripts/evaluate.py runs/ravdess/predictions.jsonl

writes report.json and confusion_matrix.png beside the predictions and prints the table.

Python puts a script's folder first on its path, where this file hides the `evaluate` library from the scripts beside
it. None of them needs that library: the figures are computed by hf_ser.scores.
"""

import argparse
from pathlib import Path

from hf_ser.audit.findings import read_verdict
from hf_ser.cli import run
from hf_ser.evaluation.plots import plot_confusion_matrix
from hf_ser.evaluation.predictions import read_predictions
from hf_ser.evaluation.report import format_report, label_map_of, make_report, write_report


def main() -> None:
    parser = argparse.ArgumentParser(description="Recompute report.json and the confusion matrix from predictions.")
    parser.add_argument("predictions", type=Path, help="predictions.jsonl of a run")
    parser.add_argument("--output_dir", type=Path, help="where to write (default: beside the predictions)")
    arguments = parser.parse_args()
    output_dir = arguments.output_dir or arguments.predictions.parent

    run_folder = arguments.predictions.parent
    rows = read_predictions(arguments.predictions)
    report = make_report(rows, read_verdict(run_folder), label_map_of(run_folder))
    write_report(report, output_dir / "report.json")
    plot_confusion_matrix(report, output_dir / "confusion_matrix.png")
    print(format_report(report))


if __name__ == "__main__":
    run(main)
