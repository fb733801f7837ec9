"""The stress test of a model or of a run's models, from changed recordings to the files in its folder."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from hf_ser.checks.stress.conditions import CONDITIONS, GROUPS
from hf_ser.checks.stress.results import MAX_DROP, Outcome, make_stress
from hf_ser.checks.stress.run import clean_rows, run_conditions, select_rows
from hf_ser.data.prepared import load_prepared
from hf_ser.publish.results import write_stress_results
from hf_ser.revisions import public_name
from hf_ser.runs.classifier import AUDIO, Classifier
from hf_ser.runs.folder import FoldFolder, RunFolder
from hf_ser.runs.predictions import Prediction
from hf_ser.runs.stress import StressResult


@dataclass(frozen=True)
class TestedModel:
    """Predictions of one model.

    Args:
        rows: Its predictions of the unchanged clips.
        clean, outcomes: Its predictions without changes, and under each condition.
        notices: Notices on the clips and conditions.
    """

    rows: list[Prediction]
    clean: Outcome
    outcomes: list[Outcome]
    notices: list[str]


def stress_model(
    model: Classifier | RunFolder,
    folder: str | Path,
    groups: Sequence[str],
    *,
    max_clips: int | None = None,
    seed: int = 0,
    batch_size: int = 16,
    output_dir: str | Path | None = None,
    label_map: str | None = None,
    allow_leak: bool = False,
    max_drop: Mapping[str, float] | None = None,
    device: str | None = None,
) -> StressResult:
    """Test on changed recordings, write the result and its picture, and update the model's card and the run's page.

    Args:
        model: The model; or a run, each of whose models is tested on the test clips of its own fold.
        folder: Folder of a prepared data set.
        groups: Keys of GROUPS.
        max_clips, seed, batch_size, output_dir, label_map, allow_leak, max_drop: As of `hf_ser.stress`.
        device: Device for the models of a run.

    Raises:
        ValueError, FileNotFoundError: an unknown group, a run without a tested model, or no row that can be tested.
    """
    if unknown := [group for group in groups if group not in GROUPS]:
        raise ValueError(f"--groups {', '.join(unknown)}: expected some of {', '.join(GROUPS)}.")
    started = time.time()
    conditions = [condition for condition in CONDITIONS if condition.group in groups]
    partial = [f"Only some changes were tried: {', '.join(groups)}."] if set(groups) < set(GROUPS) else []
    partial += [f"At most {max_clips} clips were tested."] if max_clips else []
    name = str(model.path) if isinstance(model, RunFolder) else model.name
    output_dir = Path(output_dir or name)
    members = members_of(model, output_dir)
    share = -(-max_clips // len(members)) if max_clips else None
    tested = []
    for one, kept in members:
        classifier = one if isinstance(one, Classifier) else one.model(device)
        check_applies(groups, classifier)
        chosen = select_rows(classifier, folder, label_map, share, seed, allow_leak)
        (clean, *outcomes), notices = run_conditions(classifier, chosen, conditions, kept, seed, batch_size)
        rows = clean_rows(classifier, chosen, clean)
        tested.append(TestedModel(rows, clean, outcomes, [*chosen.notices, *notices]))
    rows = [row for one in tested for row in one.rows]
    notices = list(dict.fromkeys([*partial, *chain.from_iterable(one.notices for one in tested)]))
    about = {"model": public_name(name), "dataset": public_name(str(folder)), "seed": seed}
    thresholds = MAX_DROP | dict(max_drop or {})
    outcomes = merge_outcomes([one.outcomes for one in tested])
    (clean,) = merge_outcomes([[one.clean] for one in tested])
    result = make_stress(about, rows, clean, outcomes, thresholds, notices)
    result = replace(result, seconds=round(time.time() - started, 1))
    write_stress_results(result, output_dir, load_prepared(folder))
    return result


def members_of(model: Classifier | RunFolder, output_dir: Path) -> list[tuple[Classifier | FoldFolder, Path]]:
    """The model, or the tested folds of a run, each with the folder of its cached answers.

    Raises:
        ValueError: no fold of the run was tested.
    """
    if isinstance(model, Classifier):
        return [(model, output_dir / "stress")]
    folds = [fold for fold in model.folds.values() if fold.is_tested]
    if not folds:
        raise ValueError(
            f"{model.path}: found no model whose fold was tested. Expected a run's folder with one, or the folder of a "
            f"model, such as {model.path / 'final'}."
        )
    return [(fold, output_dir / fold.path.name / "stress") for fold in folds]


def check_applies(groups: Sequence[str], classifier: Classifier) -> None:
    """Check that some of the changes affect a model.

    Raises:
        ValueError: the model is audio-only, and only transcripts are changed.
    """
    if set(groups) <= {"words"} and classifier.kind == AUDIO:
        raise ValueError(
            f"{classifier.name}: found an audio-only model, which changed transcripts do not affect. Expected groups "
            f"that change the audio: name some of {', '.join(GROUPS[:-1])}."
        )


def merge_outcomes(outcomes: Sequence[Sequence[Outcome]]) -> list[Outcome]:
    """Merge the outcomes of several models, each on its own clips, by condition."""
    found: dict[str, Outcome] = {}
    for one in chain.from_iterable(outcomes):
        if (before := found.get(one.condition.name)) is not None:
            names = ("probabilities", "skipped", "dimensions", "familiarity")
            one = Outcome(one.condition, *({**getattr(before, name), **getattr(one, name)} for name in names))
        found[one.condition.name] = one
    return list(found.values())
