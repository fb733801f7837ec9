"""What `import hf_ser` offers: the steps of the scripts as functions."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml
from datasets import Dataset
from huggingface_hub import HfApi

from hf_ser import registry
from hf_ser.checks.audit.data import audit_data
from hf_ser.checks.audit.run import audit_run
from hf_ser.checks.power import PowerAnalysis, power_analysis
from hf_ser.checks.stress.conditions import GROUPS
from hf_ser.data import splitting
from hf_ser.data.corpora import CORPORA
from hf_ser.data.labels import NATIVE, apply_label_map
from hf_ser.data.prepare import load_or_prepare
from hf_ser.data.prepared import REPORT, load_prepared
from hf_ser.deploy.timeline import Timeline, make_timeline
from hf_ser.deploy.timeline_transcript import timing_recogniser
from hf_ser.files import atomic_write
from hf_ser.models.decoding import decode_audio
from hf_ser.models.streams import MIX
from hf_ser.prediction import Audio, errors_in_python, load_model
from hf_ser.publish.evaluation import evaluate_model
from hf_ser.publish.hub import push_model
from hf_ser.publish.results import write_results
from hf_ser.publish.stress import stress_model
from hf_ser.revisions import HUB_NAME
from hf_ser.runs.classifier import Classifier
from hf_ser.runs.comparison import compare as compare_predictions
from hf_ser.runs.comparison import run_names
from hf_ser.runs.comparison_figures import Comparison
from hf_ser.runs.embeddings import embeddings as embed_clips
from hf_ser.runs.figures import DimensionReport, Report
from hf_ser.runs.findings import AuditFinding
from hf_ser.runs.folder import FoldFolder, RunFolder
from hf_ser.runs.predictions import PREDICTIONS, read_predictions
from hf_ser.runs.stress import StressResult
from hf_ser.training.parsing import flags_of
from hf_ser.training.parsing import settings as changed_settings
from hf_ser.training.tasks import TASKS, parse_task, run_task


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
        A `datasets.Dataset` on disk: one row an utterance, with `audio` (mono, 16 kHz), `label`, `speaker`,
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
    if not Path(source).exists() and not HUB_NAME.fullmatch(str(source)):
        raise FileNotFoundError(
            f"{source}: found no such file or folder, and no corpus of this name. Expected a table, a folder, a data "
            f"set of the Hub as user/name, or one of {', '.join(CORPORA)}, these with data_dir."
        )
    table = {"columns": columns, "speaker_pattern": speaker_pattern, "label_pattern": label_pattern}
    return load_or_prepare("table", str(source), **table, audio_dir=audio_dir and str(audio_dir))


class Recipe:
    """Settings of a training by name, checked when it is made.

    `Recipe("whisper_ridge", fold="all")` changes one of a recipe; `Recipe(model="fusion", audio_model="crnn")` has the
    defaults otherwise.

    Args:
        name: A YAML file, or the name of a recipe of this package; None: no more than `settings`.
        model: As of `train`.
        settings: As of `train`.

    Raises:
        ValueError, FileNotFoundError: an unknown setting or one that does not fit, or no such recipe.
    """

    def __init__(self, name: str | Path | None = None, *, model: str = "audio", **settings):
        if model not in TASKS:
            raise ValueError(f"model is {model!r}, expected one of {', '.join(TASKS)}.")
        self.name, self.model, self.settings = name, model, settings
        with errors_in_python():
            self.parsed()

    def __repr__(self) -> str:
        name = "" if self.name is None else f"{str(self.name)!r}, "
        more = "".join(f", {key}={value!r}" for key, value in self.settings.items())
        return f"Recipe({name}model={self.model!r}{more})"

    def parsed(self) -> dict[type, object]:
        """The settings as dataclasses, by their class, with all defaults."""
        # As a command line has them, so that both pass the same checks.
        flags = flags_of(TASKS[self.model].classes, self.settings)
        return parse_task(self.model, flags if self.name is None else [str(self.name), *flags])

    def save(self, file: str | Path) -> None:
        """Write what differs from the defaults as a YAML file, which `train` and the scripts read."""
        with atomic_write(Path(file)) as out:
            yaml.safe_dump(changed_settings(*self.parsed().values()), out, sort_keys=False)


@errors_in_python()
def train(
    dataset: Dataset | str | Path,
    recipe: "Recipe | str | Path | None" = None,
    *,
    model: str | None = None,
    output_dir: str | Path | None = None,
    **settings,
) -> RunFolder:
    """Train and test a model on speaker-independent folds, and write the run's folder with report, cards and models.

    A run that was killed goes on where it was; one that is finished is read. Other settings want another folder.

    Args:
        dataset: What `load_dataset` gives, or the folder of a prepared data set.
        recipe: A YAML file, the name of a recipe of this package, such as `seeds/crnn`, or a `Recipe`.
        model: `audio`, `text`, `fusion` (audio and text), or `asr` (a Whisper that is fine-tuned for transcripts); by
            default the recipe's, else `audio`.
        output_dir: The run's folder; by default `runs/` and the kind of model.
        settings: Flags of `train_audio.py` and its siblings by name: `protocol="emobox"`, `fold="all"`,
            `audio_model="openai/whisper-base"`, `num_train_epochs=10`; they override the recipe.

    Raises:
        ValueError, FileNotFoundError: an unknown setting or one that does not fit, data that no split of these speakers
            can be made of, a leak.
    """
    if not isinstance(recipe, Recipe | str | Path | None):
        raise ValueError(
            f"recipe is a {type(recipe).__name__}, expected a Recipe, a YAML file or the name of a recipe. Folds are "
            'named by settings: protocol="emobox", fold="all".'
        )
    if not isinstance(recipe, Recipe):
        recipe = Recipe(recipe, model=model or "audio")
    if model not in (None, recipe.model):
        raise ValueError(
            f"model is {model!r}, and the recipe is of {recipe.model!r}: expected one of them, leave out model."
        )
    settings = recipe.settings | settings
    prepared = dataset if isinstance(dataset, Dataset) else None
    if prepared is None:
        settings["dataset"] = str(dataset)
    if output_dir is not None:
        settings["output_dir"] = str(output_dir)
    return run_task(recipe.model, Recipe(recipe.name, model=recipe.model, **settings).parsed(), prepared)


make_folds = errors_in_python()(splitting.make_folds)
load_plugins = errors_in_python()(registry.load_plugins)


@errors_in_python()
def evaluate(
    run: RunFolder | Classifier | FoldFolder | str | Path,
    dataset: Dataset | str | Path | None = None,
    protocol: str | None = None,
    fold: str | int = "all",
    **options,
) -> Report | DimensionReport | None:
    """Write a run's report, pictures, page and cards anew from its predictions; or test a model from elsewhere.

    Args:
        run: The run; with `protocol` a model, its folder, or its name on the Hub.
        dataset: The run's data set, so that the page can play clips; or what the model is tested on.
        protocol: Protocol on whose test parts a model is tested.
        fold: Its fold, or `all`.
        options: `output_dir`, `label_map` and more of `hf_ser.publish.evaluation.evaluate_model`.

    Returns:
        The figures of `report.json`, such as `.uar`, of a model of dimensions alone `.dimensions`; None where no
        speaker was tested.

    Raises:
        ValueError, FileNotFoundError: as `RunFolder`, or as `evaluate_model`; a run with a protocol, or a model
            without one.
    """
    if isinstance(dataset, str | Path):
        dataset = load_prepared(dataset)
    if protocol is not None:
        if dataset is None:
            raise ValueError("dataset is missing: expected the prepared data set that the model is to be tested on.")
        if isinstance(run, RunFolder):
            raise ValueError(f"{run.path}: found a run, expected one model. Name a fold of it, such as run.folds['1'].")
        return evaluate_model(load_model(run), dataset, protocol, str(fold), **options).report
    if isinstance(run, Classifier | FoldFolder):
        raise ValueError("Found a model, expected a run. To test it on a data set, name a protocol too.")
    if options:
        raise ValueError(f"{next(iter(options))} is for a model from elsewhere: name a protocol too, or leave it out.")
    run = _run(run)
    write_results(run.path, dataset)
    return run.report


@errors_in_python()
def audit(
    data: Dataset | RunFolder | str | Path, protocol: str = "speaker_folds", *, label_map: str = NATIVE, **split
) -> list[AuditFinding]:
    """Look for what makes a figure too good: shared speakers, copies of recordings, text that gives the label away.

    Args:
        data: A data set or its prepared folder, which is audited under a protocol; or a finished run, which is audited
            as it was trained.
        protocol: How the folds of a data set are made.
        label_map: Label space of a data set.
        split: More arguments of `make_folds`, such as `n_folds`.

    Returns:
        Findings, each with its kind, severity, evidence and remedy.
    """
    if isinstance(data, str | Path) and (Path(data) / REPORT).is_file():
        data = load_prepared(data)
    if not isinstance(data, Dataset):
        return audit_run(_run(data).path)
    data, _ = apply_label_map(data, label_map)
    return audit_data(data, make_folds(data, protocol, allow_leak=True, **split), reads_text=True)


@errors_in_python()
def stress(
    model: Classifier | FoldFolder | RunFolder | str | Path,
    dataset: Dataset | str | Path,
    groups: Sequence[str] = (),
    *,
    max_clips: int | None = None,
    seed: int = 0,
    batch_size: int = 16,
    output_dir: str | Path | None = None,
    label_map: str | None = None,
    allow_leak: bool = False,
    max_drop: Mapping[str, float] | None = None,
) -> StressResult:
    """Test a model on changed recordings: noise, rooms, codecs, speeds and more; write JSON and a picture.

    Args:
        model: A model, its folder, or its name on the Hub; or a run, each of whose models is tested on the test clips
            of its own fold.
        dataset: What `load_dataset` gives, or the folder of a prepared data set; rows that the model was trained on are
            left out.
        groups: Kinds of change, such as `("noise", "codec")`; by default all.
        max_clips: Test at most so many clips, of all classes alike.
        seed: Of all noise and all draws.
        batch_size: Clips a forward pass; the result does not depend on it beyond rounding.
        output_dir: By default the model's folder.
        label_map: Where the model's training record names none.
        allow_leak: Test clips that the model was trained on; the result is stamped as leaked.
        max_drop: UAR that a `mild` and a `hard` change may cost.

    Returns:
        The content of `stress.json`, with the UAR and its interval under each change in `conditions`.

    Raises:
        ValueError, FileNotFoundError: an unknown group, or no row that can be tested.
    """
    return stress_model(
        model if isinstance(model, RunFolder) else load_model(model),
        prepared_folder(dataset),
        list(groups or GROUPS),
        max_clips=max_clips,
        seed=seed,
        batch_size=batch_size,
        output_dir=output_dir,
        label_map=label_map,
        allow_leak=allow_leak,
        max_drop=max_drop,
    )


def prepared_folder(dataset: Dataset | str | Path) -> Path:
    """Return the folder of a prepared data set.

    Raises:
        ValueError: the data set is not one that `load_dataset` has read from a folder.
    """
    if not isinstance(dataset, Dataset):
        return Path(dataset)
    files = [Path(one["filename"]).parent for one in dataset.cache_files]
    if not files or not (files[0] / REPORT).is_file():
        raise ValueError("The data set is in no folder: expected one of load_dataset, or the folder of a prepared one.")
    return files[0]


@errors_in_python()
def timeline(
    model: Classifier | FoldFolder | str | Path,
    file: str | Path,
    *,
    window_seconds: float | None = None,
    voice_activity: str | None = None,
    channels: bool = False,
    turns: str | Path | None = None,
    channel: str = MIX,
    asr: str | None = None,
    language: str | None = None,
) -> Timeline:
    """Classify a recording of any length over its time.

    Args:
        model: A model that takes audio, its folder, or its name on the Hub.
        file: The recording.
        window_seconds: What is classified at a time; by default the longest that the model takes, at most 5 s.
        voice_activity: `silero` or `energy`; by default silero-vad where it is installed.
        channels: Take the two channels for two speakers.
        turns: An RTTM file that says who speaks when.
        channel: Of several channels, `mix`, `left` or `right`.
        asr: Whisper that transcribes the speech with the times of words, such as `openai-whisper:base`.
        language: Code of the spoken language, for `asr`; by default detected.

    Returns:
        A record with `segments`; `to_json()` and `save("call.html")` give it to others.

    Raises:
        FileNotFoundError, ValueError: the file cannot be read, or settings that do not go together.
    """
    settings = {"window_seconds": window_seconds, "voice_activity": voice_activity, "channels": channels}
    if asr is not None:
        settings |= {"recogniser": timing_recogniser(asr), "language": language}
    return make_timeline(load_model(model), file, **settings, turns=turns, channel=channel)


@errors_in_python()
def compare(a: RunFolder | str | Path, b: RunFolder | str | Path) -> Comparison:
    """Compare two runs on the utterances that both were tested on: is B better than A?

    Returns:
        A record with `verdict`, `difference` (with paired intervals over speakers), `permutation`, the figures of each
        class and speaker, and `to_json()`.
    """
    runs = [_run(a), _run(b)]
    names = run_names([run.path for run in runs])
    of_a, of_b = (read_predictions(run.path / PREDICTIONS) for run in runs)
    return compare_predictions(of_a, of_b, names)


@errors_in_python()
def power(a: RunFolder | str | Path, b: RunFolder | str | Path | None = None, **options) -> PowerAnalysis:
    """How many speakers and clips a difference between two systems needs, by the spread of one run or two.

    Args:
        a, b: Runs on the same utterances; of one run, two systems of its spread are assumed.
        options: `differences`, `correlation`, `power` and `level` of `hf_ser.checks.power.power_analysis`.

    Returns:
        A record with `detectable`, `table`, `speakers_needed` and `to_json()`.

    Raises:
        ValueError: clips without a speaker, fewer than three speakers, runs on different utterances.
    """
    runs = [_run(one) for one in (a, b) if one is not None]
    names = run_names([run.path for run in runs]) if len(runs) == 2 else [runs[0].path.name]
    return power_analysis(*(read_predictions(run.path / PREDICTIONS) for run in runs), names=names, **options)


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
def push_to_hub(model: FoldFolder | str | Path, name: str, private: bool | None = None, **options) -> str:
    """Push a trained model with its card, report and code, less what may not be shared.

    Args:
        model: The folder of a fold.
        name: On the Hub, `user/name`.
        private: Whether it is visible to its owner alone; by default a model of your own recordings is private.
        options: `revision` and more of `hf_ser.publish.hub.push_model`.
    """
    return push_model(Path(model), name, private, api=options.pop("api", None) or HfApi(), **options)


def _run(run: RunFolder | str | Path) -> RunFolder:
    return run if isinstance(run, RunFolder) else RunFolder(run)
