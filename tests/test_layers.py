"""The rooms of the package: each imports only rooms before it, and no files import each other in a circle."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "hf_ser"
ROOMS = (
    *(
        "versions",
        "files",
        "normal_form",
        "markup",
        "stable",
        "settings",
        "yaml_text",
        "json_record",
        "progress",
        "glyphs",
        "plotting",
        "recipes",
        "registry",
        "cli",
    ),
    *("models", "revisions"),
    *("data", "transcripts", "augment", "inputs", "runs", "prediction", "checks", "publish"),
    *("deploy", "training", "api"),
    "benchmark",
)
"""In import order; hf_ser/README.md says what each is for."""

SOURCES = sorted(PACKAGE.rglob("*.py"))


def name_of(file: Path) -> str:
    """`hf_ser/training/run.py` to `training.run`, `hf_ser/data/corpora/__init__.py` to `data.corpora`."""
    return ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


NAMES = {name_of(file) for file in SOURCES}


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


def modules_imported(file: Path) -> set[str]:
    """Modules of this package that a file imports, itself left out."""
    ours = [name.removeprefix("hf_ser.") for name in imports(file) if name.split(".")[0] == "hf_ser"]
    if file.parent.name == "models":
        ours += [f"models{name}" for name in imports(file) if name.startswith(".")]
    return {name if name in NAMES else name.rpartition(".")[0] for name in ours} - {name_of(file)}


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: name_of(file) or "hf_ser")
def test_a_room_imports_only_rooms_before_it(file):
    if not name_of(file):  # the package itself, which every room imports
        assert modules_imported(file) == {"versions"}
        return
    room = name_of(file).split(".")[0]
    assert room in ROOMS, f"{name_of(file)} is in no room: give it a place in ROOMS"
    for name in modules_imported(file):
        assert ROOMS.index(name.split(".")[0]) <= ROOMS.index(room), f"{name_of(file)} imports {name} of a later room"


def test_no_files_import_each_other_in_a_circle():
    order = TopologicalSorter({name_of(file): modules_imported(file) for file in SOURCES}).static_order()
    assert set(order) >= NAMES  # a circle raises CycleError, which names its files


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: name_of(file) or "hf_ser")
def test_what_travels_with_a_model_imports_its_siblings_and_the_rest_by_full_names(file):
    travels = file.parent.name == "models"
    siblings = {sibling.stem for sibling in PACKAGE.glob("models/*.py")} - {"__init__"}
    for name in imports(file):
        assert not (travels and name.split(".")[0] == "hf_ser"), f"{file.name} would not load without hf_ser: {name}"
        assert not name.startswith(".") or (travels and name.split(".")[1] in siblings), f"{file.name} imports {name}"


def test_nothing_imports_scripts_and_only_the_metric_imports_evaluate():
    users = {(name_of(file), name.split(".")[0]) for file in SOURCES for name in imports(file)}
    assert not {user for user, used in users if used == "scripts"}
    assert {user for user, used in users if used == "evaluate"} == {"runs.metrics"}  # scripts/evaluate.py would hide it
    scripts = {file.stem for file in PACKAGE.parent.glob("scripts/*.py")}
    assert not {used for _, used in users if used in scripts - {"evaluate"}}


def test_every_room_is_there():
    assert {name.split(".")[0] for name in NAMES if name} == set(ROOMS)


def test_the_manual_says_what_each_room_imports():
    first, manual = ROOMS.index("models"), (PACKAGE / "README.md").read_text(encoding="utf-8")
    for room in (
        "data",
        "transcripts",
        "augment",
        "inputs",
        "runs",
        "prediction",
        "checks",
        "publish",
        "deploy",
        "api",
    ):
        files = [file for file in SOURCES if name_of(file).split(".")[0] == room]
        used = {name.split(".")[0] for file in files for name in modules_imported(file)}
        imported = [one for one in ROOMS[first:] if one in used - {room}]
        line = next(one for one in manual.splitlines() if re.match(rf"\| \[?`?{room}\b", one))
        assert re.findall(r"`(\w+)`", line.split("|")[3]) == imported, room
