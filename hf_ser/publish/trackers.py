"""Send the test figures, pictures and report of a fold to trackers, in addition to transformers' own curves.

A tracker is imported and used only if `--report_to` names it.
"""

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from accelerate import PartialState
from matplotlib.image import imread
from transformers import TrainerCallback, TrainingArguments
from transformers.integrations import (
    INTEGRATION_TO_CALLBACK,
    TensorBoardCallback,
    get_available_reporting_integrations,
)

from hf_ser.runs.figures import read_report
from hf_ser.runs.report import REPORT
from hf_ser.runs.report_text import format_report

TENSORBOARD = "tensorboard"
FIGURES = ("uar", "wa", "macro_f1", "ece")


def check_trackers(report_to: Sequence[str]) -> None:
    """Check before training that the trackers are installed.

    Raises:
        ValueError: one is unknown or not installed.
    """
    known, installed = sorted(INTEGRATION_TO_CALLBACK), get_available_reporting_integrations()
    for name in report_to:
        if name not in known:
            raise ValueError(f"--report_to {name}: found no tracker of this name. Expected some of {', '.join(known)}.")
        if name not in installed:
            raise ValueError(
                f"--report_to {name}: {name} is not installed. Install it (pip install {name}), or leave it out."
            )


def separate_tensorboard(report_to: Sequence[str], folder: Path) -> tuple[list[str], list[TrainerCallback]]:
    """Separate TensorBoard, whose callback writes into `FOLDER/tensorboard`, from the other trackers.

    Trainer's own callback would write into the checkpoints' folder, which is deleted after training.
    """
    if TENSORBOARD not in report_to:
        return list(report_to), []
    others = [name for name in report_to if name != TENSORBOARD]
    # Without a writer, the callbacks of other processes write nothing.
    writer = _summary_writer(folder) if PartialState().is_main_process else None
    return others, [TensorBoardCallback(writer)]


def track_results(report_to: Sequence[str], folder: Path, arguments: TrainingArguments) -> None:
    """Send report and pictures of a fold to its trackers; a failure is printed and does not stop the run.

    Trackers without such a function are skipped.
    """
    if not (folder / REPORT).is_file():  # its test lacks a class
        return
    report = read_report(folder / REPORT)
    figures = {f"test/{name}": getattr(report, name) for name in FIGURES if hasattr(report, name)}
    if report.dimensions and report.dimensions.mean_ccc is not None:
        figures["test/ccc"] = report.dimensions.mean_ccc
    pictures = sorted(folder.glob("*.png"))
    for name in report_to:
        if name not in TRACKERS:
            continue
        try:
            TRACKERS[name](figures, pictures, format_report(report), folder, arguments)
        except Exception as error:  # the model is trained: no failure of a service may stop the run
            print(f"note: {name} did not take the report of {folder} ({type(error).__name__}: {error})")


def _tensorboard(figures, pictures, text, folder, arguments) -> None:
    writer = _summary_writer(folder)
    for name, figure in figures.items():
        writer.add_scalar(name, figure)
    for picture in pictures:
        pixels = np.asarray(imread(picture))[..., :3]  # (height, width, colour), 0 to 1
        writer.add_image(picture.stem, pixels, dataformats="HWC")
    # Indented, so that Markdown keeps the lines.
    writer.add_text("report", "\n".join(f"    {line}" for line in text.splitlines()))
    writer.close()


def _wandb(figures, pictures, text, folder, arguments) -> None:
    import wandb

    images = {picture.stem: wandb.Image(str(picture)) for picture in pictures}
    wandb.log({**figures, **images, "report": wandb.Html(f"<pre>{html.escape(text)}</pre>")})
    wandb.finish()  # the next fold is a run of its own


def _mlflow(figures, pictures, text, folder, arguments) -> None:
    import mlflow

    client, run_id = mlflow.MlflowClient(), mlflow.last_active_run().info.run_id  # Trainer has already ended it
    for name, figure in figures.items():
        client.log_metric(run_id, name, figure)
    for file in [*pictures, folder / REPORT]:
        client.log_artifact(run_id, str(file))


def _trackio(figures, pictures, text, folder, arguments) -> None:
    import trackio

    # Trainer has already finished the run.
    trackio.init(project=arguments.project, name=arguments.run_name, space_id=arguments.trackio_space_id, resume="must")
    pictured = {picture.stem: trackio.Image(str(picture)) for picture in pictures}
    trackio.log({**figures, **pictured, "report": trackio.Markdown(f"```\n{text}\n```")})
    trackio.finish()


TRACKERS = {TENSORBOARD: _tensorboard, "wandb": _wandb, "mlflow": _mlflow, "trackio": _trackio}


def _summary_writer(folder: Path):
    from torch.utils.tensorboard import SummaryWriter  # needs TensorBoard installed

    return SummaryWriter(str(folder / TENSORBOARD))
