"""What a run shows people: reports, pictures, the page and the cards, all made from its predictions and records."""

import json
from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset

from hf_ser.checks.audit.findings import AUDIT, AuditFinding, verdict, write_audit
from hf_ser.checks.audit.run import audit_run
from hf_ser.checks.stress.plots import plot_stress
from hf_ser.checks.stress.results import PICTURE, STRESS, write_stress
from hf_ser.files import atomic_write
from hf_ser.publish.model_card import write_model_card
from hf_ser.publish.page import playable, write_page
from hf_ser.publish.plots import plot_confusion_matrix, plot_learning_curves, plot_reliability, write_pictures
from hf_ser.runs.folder import RunFolder
from hf_ser.runs.predictions import PREDICTIONS, read_predictions, write_predictions
from hf_ser.runs.record import RECORD, is_finished
from hf_ser.runs.report import REPORT, label_map_of, make_report, write_report
from hf_ser.runs.report_text import format_report

CURVES = "learning_curves.png"


def write_results(output_dir: str | Path, dataset: Dataset | None = None, embed_audio: bool | None = None) -> str:
    """Gather the folds of a run that are done, write all that people look at, and return the report's table.

    Args:
        output_dir: The run's folder.
        dataset: Its data set, for sounds to play in the page; without it there are none.
        embed_audio: As `hf_ser.publish.page.playable`'s `allowed`.

    Raises:
        ValueError: the page is asked for sounds that their licence does not let it hold.
    """
    output_dir = Path(output_dir)
    found = RunFolder(output_dir).folds
    folds, tested = [fold.path for fold in found.values()], [fold.path for fold in found.values() if fold.is_tested]
    histories = {name: fold.record["history"] for name, fold in found.items()}
    lines = [f"model of {folder.name}: {folder}" for folder in folds]
    if not tested:
        plot_learning_curves(histories, output_dir / CURVES)
        write_cards(folds)
        return "\n".join([*lines, "No speaker was left to test: for a figure run --fold all with the same settings."])
    rows = [row for folder in tested for row in read_predictions(folder / PREDICTIONS)]
    # The audit would take a report of fewer folds for one that its predictions do not bear out.
    (output_dir / REPORT).unlink(missing_ok=True)
    write_predictions(output_dir / PREDICTIONS, rows)
    findings = audit_run(output_dir)
    write_audit({"run": output_dir.name}, findings, output_dir / AUDIT)
    judged = [folder for folder in tested if write_fold_report(folder, findings)]
    report = make_report(rows, verdict(findings), label_map_of(output_dir))
    write_report(report, output_dir / REPORT)
    plot_learning_curves(histories, output_dir / CURVES, report["notices"])
    page = write_pictures_and_page(report, output_dir, dataset, embed_audio)
    for folder in folds:
        if folder not in judged:
            lend_report(output_dir, folder)
    write_cards(folds)
    return "\n".join([format_report(report), *lines, f"report: {page}"])


def write_pictures_and_page(
    report: dict, folder: Path, dataset: Dataset | None = None, embed_audio: bool | None = None
) -> Path:
    """The pictures of a report and the page that shows them, beside it."""
    write_pictures(report, folder)
    return write_page_of(report, folder, dataset, embed_audio)


def write_page_of(report: dict, folder: Path, dataset: Dataset | None = None, embed_audio: bool | None = None) -> Path:
    """The page of a report, with the pictures that lie beside it."""
    clips, note = ({}, "") if dataset is None else playable(report, dataset, embed_audio)
    return write_page(report, folder, stress_of(folder), clips, note)


def stress_of(folder: Path) -> dict | None:
    """What a stress test found: of the one model of a run that had one, or of the model whose folder this is."""
    files = [*folder.glob(STRESS), *folder.glob(f"*/{STRESS}")]
    return json.loads(files[0].read_text(encoding="utf-8")) if len(files) == 1 else None


def write_stress_results(result: dict, folder: Path, dataset: Dataset) -> None:
    """Write a stress test into a folder; where that is a trained model's, also into its card and its run's page."""
    write_stress(result, folder / STRESS)
    plot_stress(result, folder / PICTURE)
    if not ((folder / RECORD).is_file() and is_finished(folder)):
        return
    write_model_card(folder)
    if (report := folder.parent / REPORT).is_file() and (folder / PREDICTIONS).is_file():
        write_page_of(json.loads(report.read_text(encoding="utf-8")), folder.parent, dataset)


def write_fold_report(folder: Path, findings: Sequence[AuditFinding]) -> bool:
    """Report and pictures of one fold, which travel with its model; none where its test lacks a class of the task.

    Args:
        folder: Of the fold.
        findings: Of the audit of its run.

    Returns:
        Whether there is one.
    """
    rows = read_predictions(folder / PREDICTIONS)
    if {row["reference"] for row in rows} != set(rows[0]["probabilities"]):
        return False
    own = [one for one in findings if one.fold in (None, rows[0]["fold"])]
    report = make_report(rows, verdict(own), label_map_of(folder.parent))
    write_report(report, folder / REPORT)
    plot_confusion_matrix(report, folder / "confusion_matrix.png")
    plot_reliability(report, folder / "reliability.png")
    return True


def lend_report(run: Path, folder: Path) -> None:
    """Put the run's report and pictures beside a model that has none of its own; its card says whose they are."""
    for source in (run / REPORT, run / "confusion_matrix.png", run / "reliability.png"):
        if source.is_file():
            with atomic_write(folder / source.name, "wb") as file:
                file.write(source.read_bytes())


def write_cards(folders: Sequence[Path]) -> None:
    """The cards of some models."""
    for folder in folders:
        write_model_card(folder)
