"""Every recipe and study is read: keys that its script knows, values that it takes, and no default restated."""

import re
from pathlib import Path

import pytest
import yaml

from hf_ser.checks.study.plan import read_study, script_of
from hf_ser.training.parsing import parse_arguments
from hf_ser.training.tasks import TASKS

RECIPES = Path(__file__).parents[1] / "scripts" / "recipes"
SEEDS, STUDIES = sorted(RECIPES.glob("seeds/*.yaml")), sorted(RECIPES.glob("studies/*.yaml"))
TELLS_THE_SCRIPT = ("audio_model", "text_model")
"""May stand in a recipe though it is the default: scripts/compare.py goes by it."""


def parsed(script: str, arguments: list[str]):
    return parse_arguments(TASKS[script.removeprefix("train_").removesuffix(".py")].classes, arguments)


@pytest.mark.parametrize("file", SEEDS, ids=lambda file: file.stem)
def test_every_recipe_is_read_by_its_script_and_restates_no_default(file):
    script = script_of(file)
    arguments, fresh = parsed(script, [str(file)]), parsed(script, [])
    for key in re.findall(r"^(\w+):", file.read_text(), re.M):
        given, default = (next(getattr(one, key) for one in all_ if hasattr(one, key)) for all_ in (arguments, fresh))
        assert given != default or key in TELLS_THE_SCRIPT, f"{file.name} restates the default of {key}"


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_every_system_of_a_study_is_read_by_its_script(file):
    study = read_study(file)
    for system in study.systems:
        assert system.script == script_of(system.recipe), system.name
        data, *_, training = parsed(system.script, [str(system.recipe), *study.arguments(system, 7)])
        assert (training.seed, data.corpus) == (7, study.settings["corpus"]), system.name


def test_no_recipe_leaks_but_the_leaked_study_is_marked():
    assert not [file for file in SEEDS if yaml.safe_load(file.read_text()).get("allow_leak")]
    leaking = [file.stem for file in STUDIES if "--allow_leak" in read_study(file).flags]
    assert leaking == ["meld_text", "seeds_leaked"]
