"""The commands, ranges, locked versions and checks of an installation agree with each other."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from hf_ser import cli, versions
from hf_ser.files import package_file
from hf_ser.models import libraries
from hf_ser.publish.hub import SPACE_LIBRARIES
from hf_ser.recipes import find_recipe

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "hf_ser" / "models"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENTS = [Requirement(line) for line in PROJECT["dependencies"]]
JOBS = ("tests", "newest")
LOCK = dict(
    line.split("==") for line in (ROOT / ".ci/constraints.txt").read_text().splitlines() if not line.startswith("#")
)


def test_both_commands_of_the_readme_install_the_locked_versions_and_ci_runs_the_second():
    install = '.venv/bin/pip install -e ".[test]" -c .ci/constraints.txt'
    commands = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("python3 -m venv")]
    assert commands == [
        f"python3 -m venv .venv && {install} && .venv/bin/accelerate launch scripts/train_fusion.py",
        f"python3 -m venv .venv && {install} && .venv/bin/python -m pytest",
    ]
    run = (ROOT / ".ci/run").read_text().replace('"$scratch/venv"', ".venv").replace('"$scratch/venv/', '".venv/')
    run = re.sub(r'"(\.venv/bin/\w+)"', r"\1", run).replace("install --quiet", "install")
    assert commands[1] in run.splitlines()


def test_the_workflows_run_these_commands_for_a_change_and_weekly():
    changes, weekly = (yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text()) for name in JOBS)

    def commands(workflow: dict) -> dict:
        steps = {name: job["steps"] for name, job in workflow["jobs"].items()}
        return {name: [step["run"] for step in each if "run" in step] for name, each in steps.items()}

    types = ["pip install -e . -c .ci/constraints.txt pyright", "pyright"]
    assert commands(changes) == {"locked": [".ci/run"], "types": types, "wheel": [".ci/wheel"]}
    assert commands(weekly) == {"newest": [".ci/newest"]}
    assert {"push", "pull_request"} == set(changes[True]), "YAML reads `on` as True"
    assert weekly[True]["schedule"][0]["cron"].endswith(" * * 1")
    assert changes["jobs"]["locked"]["strategy"]["matrix"]["python"] == ["3.11", "3.13"]
    for name in ("run", "wheel", "newest", "machine"):
        subprocess.run(["bash", "-n", ROOT / ".ci" / name], check=True)
        assert os.access(ROOT / ".ci" / name, os.X_OK)


def test_the_hooks_format_as_the_lock_does():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert next(one["rev"] for one in hooks if "ruff" in one["repo"]) == f"v{LOCK['ruff']}"


def test_the_lock_holds_every_requirement_within_its_range():
    extras = [Requirement(line) for group in PROJECT["optional-dependencies"].values() for line in group]
    for requirement in (*REQUIREMENTS, *extras):
        assert requirement.specifier.contains(LOCK[canonicalize_name(requirement.name)]), requirement.name


def test_python_versions_are_promised_alike_everywhere():
    assert PROJECT["requires-python"] == ">=3.11"
    assert "Python 3.11 or later" in (ROOT / "README.md").read_text()
    promised = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", line)]
    assert promised == ["3.11", "3.12", "3.13", "3.14"]
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["target-version"] == "py311"


def test_the_code_that_travels_asks_for_the_versions_of_pyproject():
    by_name = {one.name: one.specifier for one in REQUIREMENTS}
    assert f">={libraries.LEAST_TRANSFORMERS}" in str(by_name["transformers"])
    assert dict(pin.split("==") for pin in libraries.PAIR) == {name: LOCK[name] for name in ("torch", "torchaudio")}


def test_a_space_gets_the_libraries_that_a_model_s_code_imports():
    imported = set()
    page = [package_file(name) for name in ("cards/space/app.py", "deploy/demo.py")]
    for file in *page, *Path(libraries.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.split(".")[0])
    # gradio is there in every Space, and demo.py is pushed with it.
    assert imported - sys.stdlib_module_names - {"gradio", "demo"} == set(SPACE_LIBRARIES)
    assert versions.pinned_requirements(["numpy", "soundfile"]) == [
        f"{name}=={versions.Version(versions.version(name)).public}" for name in ("numpy", "soundfile")
    ]


def test_only_one_file_imports_torchaudio():
    files = [*ROOT.glob("hf_ser/**/*.py"), *ROOT.glob("scripts/*.py")]
    users = [file.name for file in files if re.search(r"^\s*(from|import) torchaudio", file.read_text(), flags=re.M)]
    assert users == ["libraries.py"]


def test_transformers_4_copies_all_that_the_configuration_needs():
    """It copies the files that one file names itself; what these need in turn must be named there too."""
    folder = Path(libraries.__file__).parent

    def named(file: str) -> set[str]:
        return set(re.findall(r"^from \.(\w+) import", (folder / f"{file}.py").read_text(), flags=re.M))

    for entry in ("configuration_ser", "recurrent"):
        assert set().union(*(named(file) for file in named(entry))) <= named(entry)


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["numpy>=1"], None),
        (["numpy>=1", "numpy<1.5"], None),  # newer than the range: pip warns, and it may well work
        (
            ["numpy>=99,<100"],
            r"emotions needs .* numpy: 2.* \(expected <100,>=99\)\. Run: pip install \"numpy<100,>=99\"",
        ),
        (["no-such-library>=2"], r"no-such-library: not installed \(expected >=2\)\. Run: pip install"),
        (['no-such-library>=2; extra == "search"', 'no-such-library; python_version < "3"'], None),
    ],
)
def test_a_library_that_is_too_old_is_named_with_the_command_that_mends_it(monkeypatch, lines, found):
    monkeypatch.setattr(versions, "requires", lambda package: lines)
    if found is None:
        versions.check_versions("emotions")
    else:
        with pytest.raises(ImportError, match=found):
            versions.check_versions("emotions")


FAKE = """
import importlib.metadata as metadata, sys
true = metadata.version
metadata.version = lambda name: {{"{name}": "{version}"}}.get(name) or true(name)
{before}
try:
    import {module}
except ImportError as error:
    print("MESSAGE", error)
"""


def message(tmp_path, name: str, version: str, module: str, before: str = "") -> str:
    """The output of a fresh process that imports a module beside another version of a library."""
    code = FAKE.format(name=name, version=version, module=module, before=before)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert "MESSAGE" in done.stdout, done.stderr[-2000:]
    return done.stdout.partition("MESSAGE ")[2]


def test_an_old_transformers_is_named_before_anything_else_is_imported(tmp_path):
    output = message(tmp_path, "transformers", "4.57.3", "hf_ser")
    assert "Found transformers: 4.57.3 (expected <6,>=5.23). Run: pip install" in output
    before = f"import transformers; transformers.__version__ = '5.22.9'; sys.path.insert(0, {str(MODELS)!r})"
    output = message(tmp_path, "none", "0", "libraries", before)
    assert output.startswith("This model's code found transformers 5.22.9, expected 5.23 or later (below 6). Run: pip")


@pytest.mark.parametrize(
    ("torch", "failure", "pip"),
    [
        ("2.11.0", "OSError('undefined symbol: torch_x')", "pip install torch=="),
        ("2.14.1", "RuntimeError('operator torchaudio::x does not exist')", "pip install torch=="),
        ("2.13.0+cpu", "OSError('libc10_cuda.so: no such file')", "pip install --force-reinstall torch=="),
    ],
)
def test_a_torch_and_torchaudio_that_do_not_fit_are_named(tmp_path, torch, failure, pip):
    (tmp_path / "torchaudio").mkdir()
    (tmp_path / "torchaudio/__init__.py").write_text(f"raise {failure}")
    before = f"sys.path[:0] = ['.', {str(MODELS)!r}]"
    output = message(tmp_path, "torch", torch, "libraries; libraries.audio_functional", before)
    reason = failure.partition("'")[2].removesuffix("')")
    assert f" cannot be imported beside torch {torch} ({reason}). Expected two that fit each other" in output
    assert f"Run: {pip}" in output and output.strip().endswith(" ".join(libraries.PAIR))


def test_every_package_and_every_file_that_is_looked_up_is_in_the_wheel():
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {file.parent for file in ROOT.glob("hf_ser/**/__init__.py")}
    names = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert set(tool["packages"]) == names | {"hf_ser.scripts", "hf_ser.cards"}
    data = {
        file
        for package, patterns in tool["package-data"].items()
        for pattern in patterns
        for file in (ROOT / tool["package-dir"][package]).glob(pattern)
    }
    for folder in ("hf_ser", "scripts", "cards"):
        others = {f for f in (ROOT / folder).rglob("*") if f.is_file() and f.suffix not in (".py", ".pyc", ".png")}
        if folder != "cards":  # manuals, and the figures they quote, are for readers of the checkout alone
            others -= {*(ROOT / folder).rglob("README.md"), ROOT / "scripts/recipes/benchmark.json"}
        assert others - data == set()


def test_no_file_is_looked_for_outside_the_package():
    for file in (*ROOT.glob("hf_ser/**/*.py"), *ROOT.glob("scripts/*.py")):
        found = re.findall(r"__file__\)\.(?:parents\[[1-9]|parent\.parent)|[\"'/]\.\./", file.read_text())
        assert not found, f"{file} looks outside of its folder: {found}"


def test_recipes_are_found_by_name_wherever_the_command_is_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("quickstart.yaml", "scripts/recipes/quickstart.yaml"):
        assert find_recipe(name, (Path.cwd(),)) == package_file("scripts/recipes/quickstart.yaml")
    (tmp_path / "quickstart.yaml").write_text("seed: 1")
    assert find_recipe("quickstart.yaml", (Path.cwd(),)) == tmp_path / "quickstart.yaml"
    with pytest.raises(FileNotFoundError, match=r"quickstrat\.yaml: no such recipe.*did you mean quickstart\.yaml"):
        find_recipe("quickstrat.yaml", (Path.cwd(),))


def test_the_command_lists_every_script_and_runs_one(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["hf-ser"])
    cli.main()
    listed = capsys.readouterr().out
    names = {file.stem for file in ROOT.glob("scripts/*.py")} - {"__init__"}
    assert names == set(cli.scripts()) and all(f"\n  {name} " in listed for name in names)
    monkeypatch.setattr(sys, "argv", ["hf-ser", "push-to-hub", "--help"])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    assert "usage: hf-ser push_to_hub" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["hf-ser", "pridict"])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert "unknown command 'pridict', expected one of audit" in capsys.readouterr().err


def test_a_missing_soxr_is_named_with_the_command(tmp_path):
    (tmp_path / "soxr.py").write_text("raise ImportError('no soxr here')")
    output = message(tmp_path, "soxr", "0.1", "libraries", f"sys.path[:0] = ['.', {str(MODELS)!r}]")
    assert "found soxr 0.1 (no soxr here)" in output
    assert output.strip().endswith('Run: pip install "soxr>=0.5"')
    assert f">={libraries.LEAST_SOXR}" in str({one.name: one.specifier for one in REQUIREMENTS}["soxr"])
