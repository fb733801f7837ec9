"""The road is one-way: a module imports only what stands before it, and the island imports nothing but itself."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "hf_ser"
ROAD = (
    *("versions", "models", "columns", "normal_form", "markup", "yaml_text", "separated", "labels", "files"),
    *("column_digests", "recipes", "revisions", "cli", "audio", "fingerprint"),
    *("download", "corpora", "given_clips"),
    *("fold_search", "protocols", "integrity", "dataset", "dataset_plots", "dataset_card", "provenance"),
    "checkpoints",
    *("transcripts.recogniser", "transcripts.greedy", "transcripts.openai_whisper", "transcripts.transformers_whisper"),
    *("transcripts.loading", "transcripts.random_whisper", "transcripts.transcriber", "transcripts.cache"),
    *("transcripts.wer", "transcripts.noise", "transcripts.run", "transcripts.results", "sentence_bank", "words"),
    *("targets", "collator", "sound_changes", "augmentation", "augmented_copies", "speaker_statistics"),
    *("scores", "metrics", "inference", "answers"),
    *("evaluation.predictions", "evaluation.calibration", "evaluation.bootstrap", "evaluation.report"),
    *(
        "evaluation.report_text",
        "evaluation.comparison",
        "evaluation.glyphs",
        "evaluation.drawing",
        "evaluation.curves",
    ),
    *("evaluation.plots", "evaluation.embeddings"),
    *("evaluation.page", "audit.findings", "audit.not_copies", "audit.probes", "audit.data", "audit.run"),
    *("stress.conditions", "stress.results", "stress.plots", "stress.run", "model_card", "sharing", "hub", "results"),
    *("study.plan", "study.run", "study.results", "study.plots"),
    *("training.adaptation", "training.schedule", "training.parsing", "training.limits", "training.trackers"),
    *("training.arguments", "training.objective"),
    "training.pretrained",
    *("training.building", "training.fold_data", "training.output_store", "training.frozen_cache"),
    *("training.averaging", "training.trainer", "training.learning_rate_finder", "training.fits"),
    *("training.search", "training.fold_run", "training.run"),
    *("training.asr", "training.asr_report", "training.asr_run"),
)
"""In the order of the data's way. The report comes before training, for a training run ends by writing one."""

SOURCES = sorted(PACKAGE.rglob("*.py"))


def name_of(file: Path) -> str:
    """`hf_ser/training/run.py` to `training.run`, `hf_ser/data/corpora/__init__.py` to `corpora`."""
    return ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


def imports(file: Path) -> list[str]:
    """Full names of all that a file imports, wherever in it; relative ones keep their dots."""
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = "." * node.level + (node.module or "")
            found += [f"{start}.{alias.name}".replace("..", ".") if node.level < 2 else start for alias in node.names]
    return found


def layer(name: str) -> int | None:
    """Where on the road a module stands, or a name imported from one."""
    return next((i for i, each in enumerate(ROAD) if f"{name}.".startswith(f"{each}.")), None)


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: name_of(file) or "hf_ser")
def test_imports_point_back_along_the_road(file):
    ours = [name.removeprefix("hf_ser.") for name in imports(file) if name.split(".")[0] == "hf_ser"]
    if not name_of(file):  # the package itself, which comes before all of it
        assert ours == ["versions.check_versions"]
        return
    if file.name == "__init__.py" and not imports(file):
        return  # a mere folder
    here = layer(name_of(file))
    assert here is not None, f"{name_of(file)} is on no layer: give it a place in ROAD"
    for name in ours:
        assert layer(name) is not None, f"{name_of(file)} imports {name}, which is on no layer"
        assert layer(name) <= here, f"{name_of(file)} imports {name}, which comes after it"


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: name_of(file) or "hf_ser")
def test_the_island_imports_its_siblings_and_the_rest_by_full_names(file):
    island = file.parent.name == "models"
    siblings = {sibling.stem for sibling in PACKAGE.glob("models/*.py")} - {"__init__"}
    for name in imports(file):
        assert not (island and name.split(".")[0] == "hf_ser"), f"{file.name} would not load without hf_ser: {name}"
        assert not name.startswith(".") or (island and name.split(".")[1] in siblings), f"{file.name} imports {name}"


def test_nothing_imports_scripts_and_only_the_metric_imports_evaluate():
    users = {(name_of(file), name.split(".")[0]) for file in SOURCES for name in imports(file)}
    assert not {user for user, used in users if used == "scripts"}
    assert {user for user, used in users if used == "evaluate"} == {"metrics"}  # scripts/evaluate.py would hide it
    scripts = {file.stem for file in PACKAGE.parent.glob("scripts/*.py")}
    assert not {used for _, used in users if used in scripts - {"evaluate"}}


def test_the_road_has_no_gaps():
    names = {name_of(file) for file in SOURCES}
    assert [each for each in ROAD if each not in names] == []
