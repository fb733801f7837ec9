"""What a tracker is shown beside transformers' own curves: the test figures, the pictures and the report of a fold.

Nothing here is imported, and nothing reaches a tracker, unless `--report_to` names it.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from accelerate import PartialState
from matplotlib.image import imread
from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback

from hf_ser.evaluation.report import REPORT
from hf_ser.evaluation.report_text import format_report

TENSORBOARD = "tensorboard"
FIGURES = ("uar", "wa", "macro_f1", "ece")


def tensorboard_beside(report_to: Sequence[str], folder: Path) -> tuple[list[str], list[TrainerCallback]]:
    """The trackers that Trainer is left with, and TensorBoard's callback, which writes into `FOLDER/tensorboard`.

    Trainer's own would write among the checkpoints, which go when a fold is done.

    Raises:
        ValueError: TensorBoard is asked for and not installed.
    """
    if TENSORBOARD not in report_to:
        return list(report_to), []
    others = [name for name in report_to if name != TENSORBOARD]
    # Other processes write nothing: their callback never makes a writer.
    writer = _summary_writer(folder) if PartialState().is_main_process else None
    return others, [TensorBoardCallback(writer)]


def track_results(report_to: Sequence[str], folder: Path, run_name: str, project: str) -> None:
    """Show the trackers of a fold its report and pictures. A tracker that has no place for them is passed over."""
    if not (folder / REPORT).is_file():  # its test lacks a class
        return
    report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    figures = {f"test/{name}": report[name] for name in FIGURES}
    pictures = sorted(folder.glob("*.png"))
    for name in report_to:
        if name in TRACKERS:
            TRACKERS[name](figures, pictures, format_report(report), folder, run_name, project)


def _tensorboard(figures, pictures, text, folder, run_name, project) -> None:
    writer = _summary_writer(folder)
    for name, figure in figures.items():
        writer.add_scalar(name, figure)
    for picture in pictures:
        pixels = np.asarray(imread(picture))[..., :3]  # (height, width, colour), 0 to 1
        writer.add_image(picture.stem, pixels, dataformats="HWC")
    writer.add_text("report", "\n".join(f"    {line}" for line in text.splitlines()))  # as it is, not as Markdown
    writer.close()


def _wandb(figures, pictures, text, folder, run_name, project) -> None:
    import wandb

    images = {picture.stem: wandb.Image(str(picture)) for picture in pictures}
    wandb.log({**figures, **images, "report": wandb.Html(f"<pre>{text}</pre>")})
    wandb.finish()  # the next fold is a run of its own


def _mlflow(figures, pictures, text, folder, run_name, project) -> None:
    import mlflow

    client, run_id = mlflow.MlflowClient(), mlflow.last_active_run().info.run_id  # Trainer has ended it by now
    for name, figure in figures.items():
        client.log_metric(run_id, name, figure)
    for file in [*pictures, folder / REPORT]:
        client.log_artifact(run_id, str(file))


def _trackio(figures, pictures, text, folder, run_name, project) -> None:
    import trackio

    trackio.init(project=project, name=run_name, resume="must")  # Trainer has finished it by now
    trackio.log({**figures, **{picture.stem: trackio.Image(str(picture)) for picture in pictures}})
    trackio.finish()


TRACKERS = {TENSORBOARD: _tensorboard, "wandb": _wandb, "mlflow": _mlflow, "trackio": _trackio}


def _summary_writer(folder: Path):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError(
            "--report_to tensorboard: found no TensorBoard here. Expected it installed: pip install tensorboard, or "
            "leave the flag out."
        ) from error
    return SummaryWriter(str(folder / TENSORBOARD))
