"""Write the results of a run: reports, pictures, page and cards, from its predictions and records."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from datasets import Dataset

from hf_ser.checks.audit.run import audit_run
from hf_ser.checks.stress.plots import plot_stress
from hf_ser.checks.stress.results import PICTURE, write_stress
from hf_ser.files import atomic_write
from hf_ser.plotting import remove_picture
from hf_ser.publish.dimension_plots import DIMENSIONS_PICTURE, plot_dimensions
from hf_ser.publish.model_card import write_model_card
from hf_ser.publish.page import playable_clips, write_page
from hf_ser.publish.plots import plot_confusion_matrix, plot_learning_curves, plot_reliability, write_pictures
from hf_ser.publish.tables import write_tables
from hf_ser.runs.figures import DimensionReport, Report, read_report
from hf_ser.runs.findings import AUDIT, AuditFinding, verdict, write_audit
from hf_ser.runs.folder import FoldFolder, RunFolder
from hf_ser.runs.predictions import PREDICTIONS, read_predictions, write_predictions
from hf_ser.runs.record import RECORD, is_finished
from hf_ser.runs.report import REPORT, label_map_of, make_report, write_report
from hf_ser.runs.report_text import format_report
from hf_ser.runs.stress import STRESS, StressResult

CURVES = "learning_curves.png"


def write_results(output_dir: str | Path, dataset: Dataset | None = None, embed_audio: bool | None = None) -> str:
    """Write report, pictures, page and cards of a run's finished folds, and return the report as text.

    Args:
        output_dir: The run's folder.
        dataset: Its data set, for audio in the page; None for a page without audio.
        embed_audio: As `allowed` of `hf_ser.publish.page.playable_clips`.

    Raises:
        ValueError: audio would be embedded whose licence forbids sharing.
    """
    output_dir = Path(output_dir)
    found = RunFolder(output_dir).folds
    folds, tested = [fold.path for fold in found.values()], [fold.path for fold in found.values() if fold.is_tested]
    lines = [f"model of {folder.name}: {folder}" for folder in folds]
    if not tested:
        write_learning_curves(found, output_dir)
        write_cards(folds)
        return "\n".join([*lines, "No speaker was left to test: for figures run --fold all with the same settings."])
    rows = [row for folder in tested for row in read_predictions(folder / PREDICTIONS)]
    # Otherwise the audit would report that an older report of fewer folds does not follow from the predictions.
    (output_dir / REPORT).unlink(missing_ok=True)
    write_predictions(output_dir / PREDICTIONS, rows)
    findings = audit_run(output_dir)
    write_audit({"run": output_dir.name}, findings, output_dir / AUDIT)
    with_report = [folder for folder in tested if write_fold_report(folder, findings)]
    report = make_report(rows, verdict(findings), label_map_of(output_dir))
    write_report(report, output_dir / REPORT)
    write_learning_curves(found, output_dir, report.notices)
    page = write_pictures_and_page(report, output_dir, dataset, embed_audio)
    for folder in folds:
        if folder not in with_report:
            copy_run_report_to(output_dir, folder)
    write_cards(folds)
    heading = [f"model  {RunFolder(output_dir).system}"]
    if untested := [name for name, fold in found.items() if not fold.is_tested]:
        of_folds = ", ".join(name for name, fold in found.items() if fold.is_tested)
        heading.append(f"Figures of fold {of_folds}; {', '.join(untested)} has none: no speaker was left to test.")
    return "\n".join([*heading, format_report(report), *lines, f"report: {page}"])


def write_learning_curves(folds: Mapping[str, FoldFolder], folder: Path, notices: Sequence[str] = ()) -> None:
    """Draw the learning curves of the folds; none for closed-form heads, which are not trained by epochs."""
    histories = {name: fold.record.history for name, fold in folds.items() if not fold.record.solved}
    if histories:
        system = next(iter(folds.values())).record.description
        plot_learning_curves(histories, folder / CURVES, notices, system)
    else:
        remove_picture(folder / CURVES)


def write_pictures_and_page(
    report: Report | DimensionReport, folder: Path, dataset: Dataset | None = None, embed_audio: bool | None = None
) -> Path:
    """Write the pictures, tables and page of a report."""
    system = RunFolder(folder).system
    write_pictures(report, folder, system)
    write_tables(report, folder, system)
    return write_page_of(report, folder, dataset, embed_audio)


def write_page_of(
    report: Report | DimensionReport, folder: Path, dataset: Dataset | None = None, embed_audio: bool | None = None
) -> Path:
    """Write the page of a report, with the pictures in its folder."""
    clips, note = ({}, "") if dataset is None else playable_clips(report, dataset, embed_audio)
    run = RunFolder(folder)
    return write_page(report, folder, stress_of(folder), clips, note, run.system, run.audit, run.about)


def stress_of(folder: Path) -> StressResult | None:
    """The stress test of a run or a model by its folder, or of a run's only model that has one; else None."""
    files = [file for file in (folder / STRESS,) if file.is_file()] or list(folder.glob(f"*/{STRESS}"))
    return StressResult.read(files[0]) if len(files) == 1 else None


def write_stress_results(result: StressResult, folder: Path, dataset: Dataset) -> None:
    """Write a stress test into a folder, and update a trained model's card and the page of its run."""
    write_stress(result, folder / STRESS)
    plot_stress(result, folder / PICTURE)
    run = folder
    if (folder / RECORD).is_file() and is_finished(folder):
        write_model_card(folder)
        run = folder.parent
    if (run / REPORT).is_file() and (folder / PREDICTIONS).is_file():
        write_page_of(read_report(run / REPORT), run, dataset)


def write_fold_report(folder: Path, findings: Sequence[AuditFinding]) -> bool:
    """Write report and pictures of one fold into its folder, unless its test lacks a class.

    Args:
        folder: Folder of the fold.
        findings: Findings of the run's audit.

    Returns:
        Whether they were written.
    """
    rows = read_predictions(folder / PREDICTIONS)
    if rows[0].probabilities and {row.reference for row in rows} != set(rows[0].probabilities):
        return False
    own = [one for one in findings if one.fold in (None, rows[0].fold)]
    report = make_report(rows, verdict(own), label_map_of(folder.parent))
    write_report(report, folder / REPORT)
    system = FoldFolder(folder).record.description if (folder / RECORD).is_file() else ""
    if rows[0].probabilities:
        plot_confusion_matrix(report, folder / "confusion_matrix.png", system)
        plot_reliability(report, folder / "reliability.png", system)
    if report.dimensions:
        plot_dimensions(report, folder / DIMENSIONS_PICTURE, system)
    return True


def copy_run_report_to(run: Path, folder: Path) -> None:
    """Copy the run's report and pictures to a model without its own; its card says that they are the run's."""
    for source in (run / name for name in (REPORT, "confusion_matrix.png", "reliability.png", DIMENSIONS_PICTURE)):
        if source.is_file():
            with atomic_write(folder / source.name, "wb") as file:
                file.write(source.read_bytes())


def write_cards(folders: Sequence[Path]) -> None:
    """Write the cards of some models."""
    for folder in folders:
        write_model_card(folder)
