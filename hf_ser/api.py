"""What `import hf_ser` offers: the steps of the scripts as functions."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from datasets import Dataset
from huggingface_hub import HfApi

from hf_ser.checks.audit.data import audit_data
from hf_ser.checks.audit.findings import AuditFinding
from hf_ser.checks.audit.run import audit_run
from hf_ser.data.corpora import CORPORA
from hf_ser.data.labels import NATIVE, apply_label_map
from hf_ser.data.prepare import REPORT, load_or_prepare, load_prepared
from hf_ser.data.protocols import make_folds
from hf_ser.models.decoding import decode_audio
from hf_ser.publish.hub import push_model
from hf_ser.publish.results import write_results
from hf_ser.runs.classifier import Classifier
from hf_ser.runs.comparison import compare as compare_predictions
from hf_ser.runs.comparison import run_names
from hf_ser.runs.embeddings import embeddings as embed_clips
from hf_ser.runs.folder import FoldFolder, RunFolder
from hf_ser.runs.predictions import PREDICTIONS, read_predictions
from hf_ser.training.parsing import as_flag
from hf_ser.training.tasks import TASKS, parse_task, run_task

Audio = str | Path | np.ndarray

FLAG = re.compile(r"((?:\S+\.py|hf-ser|pip|accelerate)\b[^,;:)]*)|--(?=[a-z])")
"""The dashes of a flag, or a whole command, in which they belong there."""


@contextmanager
def errors_in_python() -> Iterator[None]:
    """Let an error name settings as Python has them, `head` in place of `--head`."""
    try:
        yield
    except (ValueError, FileNotFoundError, ImportError) as error:
        error.args = tuple(
            FLAG.sub(lambda found: found[1] or "", one) if isinstance(one, str) else one for one in error.args
        )
        raise


@errors_in_python()
def load_dataset(
    source: str | Path,
    data_dir: str | Path | None = None,
    *,
    columns: str | None = None,
    speaker_pattern: str | None = None,
    label_pattern: str | None = None,
    audio_dir: str | Path | None = None,
) -> Dataset:
    """Load a corpus, your own recordings, or a folder of prepare_data.py.

    Args:
        source: Name of a corpus, with `data_dir` (`load_dataset("ravdess", "RAVDESS")`; `"synthetic"` needs none); a
            table (CSV, TSV, JSONL, Parquet), a folder with a sub-folder for each label, or a data set of the Hub; or
            the folder of a prepared data set.
        data_dir: Folder of the corpus.
        columns, speaker_pattern, label_pattern, audio_dir: As the flags of prepare_data.py, for a table.

    Returns:
        A `datasets.Dataset` that lies on disk: one row an utterance, with `audio` (mono, 16 kHz), `label`, `speaker`,
        `transcript` and more. What was skipped, and why, is printed.

    Raises:
        FileNotFoundError, ValueError: there is no such corpus or file, or nothing in it can be used.
    """
    if data_dir is None and (Path(source) / REPORT).is_file():
        return load_prepared(source)
    if str(source) in CORPORA:
        return load_or_prepare(str(source), data_dir)
    if data_dir is not None:
        raise ValueError(f"{source}: no corpus of this name. Expected one of {', '.join(CORPORA)}, or no data_dir.")
    table = {"columns": columns, "speaker_pattern": speaker_pattern, "label_pattern": label_pattern}
    return load_or_prepare("table", str(source), **table, audio_dir=audio_dir and str(audio_dir))


@errors_in_python()
def train(
    dataset: Dataset | str | Path,
    recipe: str | Path | None = None,
    *,
    model: str = "audio",
    output_dir: str | Path | None = None,
    **settings,
) -> RunFolder:
    """Train and test a model on speaker-independent folds, and write the run's folder with report, cards and models.

    A run that was killed goes on where it was; one that is finished is read. Other settings want another folder.

    Args:
        dataset: What `load_dataset` gives, or the folder of a prepared data set.
        recipe: A YAML file, or the name of a recipe of this package, such as `seeds/crnn`.
        model: `audio`, `text`, `fusion` (audio and text), or `asr` (a Whisper that is fine-tuned for transcripts).
        output_dir: The run's folder; by default `runs/` and the kind of model.
        settings: Flags of `train_audio.py` and its siblings by name: `protocol="emobox"`, `fold="all"`,
            `audio_model="openai/whisper-base"`, `num_train_epochs=10`; they override the recipe.

    Raises:
        ValueError, FileNotFoundError: an unknown setting or one that does not fit, data that no split of these speakers
            can be made of, a leak.
    """
    if model not in TASKS:
        raise ValueError(f"model is {model!r}, expected one of {', '.join(TASKS)}.")
    if not isinstance(dataset, Dataset):
        settings["dataset"], dataset = str(dataset), None
    if output_dir is not None:
        settings["output_dir"] = str(output_dir)
    # As a command line has them, so that both pass the same checks.
    flags = [word for name, value in settings.items() if value is not None for word in as_flag(name, value)]
    argv = flags if recipe is None else [str(recipe), *flags]
    return run_task(model, parse_task(model, argv), dataset)


@errors_in_python()
def evaluate(run: RunFolder | str | Path, dataset: Dataset | None = None) -> dict | None:
    """Write a run's report, pictures, page and cards anew from its predictions; the report.

    Args:
        run: The run.
        dataset: Its data set, so that the page can play clips.

    Returns:
        The figures as `report.json` holds them; None where no speaker was tested.
    """
    run = _run(run)
    write_results(run.path, dataset)
    return run.report


@errors_in_python()
def audit(
    data: Dataset | RunFolder | str | Path, protocol: str = "speaker_folds", *, label_map: str = NATIVE, **split
) -> list[AuditFinding]:
    """Look for what makes a figure too good: shared speakers, copies of recordings, text that gives the label away.

    Args:
        data: A data set, which is audited under a protocol; or a finished run, which is audited as it was trained.
        protocol: How the folds of a data set are made.
        label_map: Label space of a data set.
        split: More arguments of `make_folds`, such as `n_folds`.

    Returns:
        Findings, each with its kind, severity, evidence and remedy.
    """
    if not isinstance(data, Dataset):
        return audit_run(_run(data).path)
    data, _ = apply_label_map(data, label_map)
    return audit_data(data, make_folds(data, protocol, allow_leak=True, **split), reads_text=True)


@errors_in_python()
def compare(a: RunFolder | str | Path, b: RunFolder | str | Path) -> dict:
    """Compare two runs on the utterances that both were tested on: is B better than A?

    Returns:
        The difference in UAR with a paired interval over speakers, a permutation test, and what it comes from.
    """
    runs = [_run(a), _run(b)]
    names = run_names([run.path for run in runs])
    return compare_predictions(*(read_predictions(run.path / PREDICTIONS) for run in runs), names)


@errors_in_python()
def embeddings(
    model: Classifier | FoldFolder | str | Path, clips: Sequence[Audio], texts: Sequence[str | None] | None = None
) -> np.ndarray:
    """What a model's last linear layer is given for each clip.

    Args:
        model: A model, its folder, or its name on the Hub.
        clips: Files, or arrays `(samples,)` at 16 kHz.
        texts: Transcripts, for a model of audio and text; None where one is not known.

    Shapes:
        the result `(clips, size)` float32.
    """
    decoded = [clip if isinstance(clip, np.ndarray) else decode_audio(str(clip)) for clip in clips]
    return embed_clips(load_model(model), decoded, texts or [None] * len(decoded))


@errors_in_python()
def load_model(model: Classifier | FoldFolder | str | Path, device: str | None = None) -> Classifier:
    """Load a model with this package's own code: none of a model's folder is run.

    `load_model("user/name@v1").pipeline("call.wav", text="where is my parcel")` answers as
    `pipeline("audio-classification")` does.
    """
    return model if isinstance(model, Classifier) else Classifier(os.fspath(model), device)


@errors_in_python()
def push_to_hub(model: FoldFolder | str | Path, name: str, private: bool | None = None, **options) -> str:
    """Push a trained model with its card, report and code, less what may not be shared.

    Args:
        model: The folder of a fold.
        name: On the Hub, `user/name`.
        private: Whether nobody else sees it; by default a model of your own recordings is private.
        options: `revision` and more of `hf_ser.publish.hub.push_model`.
    """
    return push_model(Path(model), name, private, api=options.pop("api", None) or HfApi(), **options)


def _run(run: RunFolder | str | Path) -> RunFolder:
    return run if isinstance(run, RunFolder) else RunFolder(run)
