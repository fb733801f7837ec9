"""The stress test of a model, from changed recordings to the files in its folder."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from hf_ser.checks.stress.conditions import CONDITIONS, GROUPS
from hf_ser.checks.stress.results import MAX_DROP, make_stress
from hf_ser.checks.stress.run import clean_rows, run_conditions, select_rows
from hf_ser.data.prepare import load_prepared
from hf_ser.publish.model_card import public_name
from hf_ser.publish.results import write_stress_results
from hf_ser.runs.classifier import AUDIO, Classifier


def stress_model(
    classifier: Classifier,
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
) -> dict:
    """Test a model on changed recordings, and write the result, its picture, and the model's card and page anew.

    Args:
        classifier: The model.
        folder: Of a prepared data set.
        groups: Keys of GROUPS.
        max_clips, seed, batch_size, output_dir, label_map, allow_leak, max_drop: As of `hf_ser.stress`.

    Raises:
        ValueError, FileNotFoundError: an unknown group, or no row that can be tested.
    """
    if unknown := [group for group in groups if group not in GROUPS]:
        raise ValueError(f"--groups {', '.join(unknown)}: expected some of {', '.join(GROUPS)}.")
    started = time.time()
    if set(groups) <= {"words"} and classifier.kind == AUDIO:
        raise ValueError(
            f"{classifier.name}: found an audio-only model, which changed transcripts do not affect. Expected groups "
            f"that change the audio: name some of {', '.join(GROUPS[:-1])}."
        )
    output_dir = Path(output_dir or classifier.name)
    chosen = select_rows(classifier, folder, label_map, max_clips, seed, allow_leak)
    conditions = [condition for condition in CONDITIONS if condition.group in groups]
    partial = [f"Only some changes were tried: {', '.join(groups)}."] if set(groups) < set(GROUPS) else []
    partial += [f"At most {max_clips} clips were tested."] if max_clips else []
    (clean, *outcomes), notices = run_conditions(
        classifier, chosen, conditions, output_dir / "stress", seed, batch_size
    )
    about = {"model": public_name(classifier.name), "dataset": public_name(str(folder)), "seed": seed}
    thresholds = MAX_DROP | dict(max_drop or {})
    rows = clean_rows(classifier, chosen, clean)
    result = make_stress(about, rows, clean, outcomes, thresholds, [*partial, *chosen.notices, *notices])
    result["seconds"] = round(time.time() - started, 1)
    write_stress_results(result, output_dir, load_prepared(folder))
    return result
