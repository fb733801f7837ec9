"""A study: systems to compare, each a training script with its recipe and flags, and their seeds."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hf_ser.recipes import find_recipe
from hf_ser.yaml_text import read_mapping

SCRIPTS = ("train_audio.py", "train_text.py", "train_fusion.py")
COMMON = ("dataset", "corpus", "data_dir", "protocol", "fold")
"""Settings of all systems of a study, which a system may override."""

KEYS = (*COMMON, "seeds", "baseline", "flags", "systems")
SYSTEM_KEYS = ("script", "recipe", "flags", "protocol", "allow_leak")
SEEDS = (1, 2, 3)
NAME = re.compile(r"[\w.+-]+")


@dataclass(frozen=True)
class System:
    """One model of a study.

    Args:
        name: Name in tables, and of its folder.
        script: One of `SCRIPTS`.
        recipe: YAML file, or None.
        flags: Command-line arguments after the recipe.
    """

    name: str
    script: str
    recipe: Path | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Study:
    """Systems to compare.

    Args:
        systems: The systems, in the order of the file.
        settings: Values of `COMMON` that are given.
        seeds: Seeds, with each of which every system is trained once.
        flags: Command-line arguments of all systems.
        baseline: The system that all others are compared with; None for the best.
    """

    systems: tuple[System, ...]
    settings: dict[str, str] = field(default_factory=dict)
    seeds: tuple[int, ...] = SEEDS
    flags: tuple[str, ...] = ()
    baseline: str | None = None

    def arguments(self, system: System, seed: int) -> list[str]:
        """The arguments of one run; the system's own come last and override those of the study."""
        common = [part for name, value in self.settings.items() for part in (f"--{name}", value)]
        return [*common, *self.flags, *system.flags, "--seed", str(seed)]


def read_study(file: str | Path) -> Study:
    """Read a study from its YAML file.

    Args:
        file: `systems:` with a line for each, a command (`train_audio.py seeds/alexnet.yaml --learning_rate 1e-4`) or
            a mapping of `SYSTEM_KEYS`; other keys are any of `KEYS`. Recipes are searched for in the working directory,
            the folder of the file, and this package.

    Raises:
        FileNotFoundError, ValueError: no such file or recipe, unknown keys or scripts, fewer than two systems.
    """
    file = find_recipe(file, (Path.cwd(),))
    given = read_mapping(file)
    _check_keys(file, given, KEYS, "a study")
    systems = given.get("systems")
    if not isinstance(systems, dict) or len(systems) < 2:
        raise ValueError(f"{file}: found systems {systems!r}, expected two or more 'name: command' lines to compare.")
    folders = (Path.cwd(), file.parent)
    study = Study(
        systems=tuple(_system(file, str(name), one, folders) for name, one in systems.items()),
        settings={name: str(given[name]) for name in COMMON if given.get(name) is not None},
        seeds=read_seeds(given.get("seeds", SEEDS), str(file)),
        flags=_flags(given.get("flags")),
        baseline=given.get("baseline"),
    )
    return checked(study)


def study_of_recipes(sources: Sequence[str]) -> Study:
    """Make a study of recipes, each given as `RECIPE.yaml` or `script.py:RECIPE.yaml`.

    Raises:
        FileNotFoundError, ValueError: as `read_study`; a recipe's keys do not show its script.
    """
    systems = []
    for source in sources:
        script, _, name = source.rpartition(":")
        recipe = find_recipe(name, (Path.cwd(),))
        systems.append(System(recipe.stem, _script(script, source) if script else script_of(recipe), recipe))
    if len(systems) < 2:
        raise ValueError(f"{', '.join(sources)}: found one recipe, expected two or more, or a file with 'systems:'.")
    return checked(Study(tuple(systems)))


def checked(study: Study) -> Study:
    """Return the study, after checking that its names are distinct and valid names of folders.

    Raises:
        ValueError: they are not, or the baseline is not one of the systems.
    """
    names = [system.name for system in study.systems]
    if wrong := [name for name in names if not NAME.fullmatch(name) or name in (".", "..")]:
        raise ValueError(f"systems: found the name {wrong[0]!r}, expected letters, digits and . _ + - as in a folder.")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"systems: found {', '.join(twice)} twice, expected different names: use a study file.")
    if study.baseline not in (None, *names):
        raise ValueError(f"--baseline {study.baseline}: expected one of the systems {', '.join(names)}.")
    return study


def select_systems(study: Study, names: Sequence[str]) -> tuple[System, ...]:
    """The systems with these names; all if no name is given.

    Raises:
        ValueError: an unknown name.
    """
    known = [system.name for system in study.systems]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"--only {', '.join(unknown)}: expected some of the systems {', '.join(known)}.")
    return tuple(system for system in study.systems if not names or system.name in names)


def with_overrides(study: Study, settings: dict, seeds=None, flags: Sequence[str] = (), baseline=None) -> Study:
    """The study with the settings of the command line."""
    given = {name: str(value) for name, value in settings.items() if value is not None}
    return checked(
        replace(
            study,
            settings={**study.settings, **given},
            seeds=read_seeds(seeds, "--seeds") if seeds else study.seeds,
            flags=(*study.flags, *flags),
            baseline=baseline or study.baseline,
        )
    )


def read_seeds(given, where: str) -> tuple[int, ...]:
    """Seeds from `1,2,3` or a list.

    Raises:
        ValueError: a seed is not a whole number, or occurs twice.
    """
    parts = given if isinstance(given, list | tuple) else str(given).split(",")
    seeds = [int(part) for part in parts if str(part).strip().isdecimal()]
    if not seeds or len(seeds) != len(parts) or len(set(seeds)) != len(seeds):
        raise ValueError(f"{where}: found seeds {given}, expected different whole numbers such as 1,2,3.")
    return tuple(seeds)


def script_of(recipe: Path) -> str:
    """The script of a recipe, from its keys.

    Raises:
        ValueError: the keys do not show it.
    """
    keys = set(read_mapping(recipe))
    if "fusion" in keys or {"audio_model", "text_model"} <= keys:
        return "train_fusion.py"
    for kind in ("audio", "text"):
        if f"{kind}_model" in keys:
            return f"train_{kind}.py"
    raise ValueError(
        f"{recipe}: found neither audio_model nor text_model nor fusion, expected one of them to show the script: "
        f"name it, such as train_audio.py:{recipe}."
    )


def _system(file: Path, name: str, given, folders: Sequence[Path]) -> System:
    if isinstance(given, str):
        script, *rest = shlex.split(given) or [""]
        given = {"script": script, "flags": rest}
        if rest and not rest[0].startswith("-"):
            given = {"script": script, "recipe": rest[0], "flags": rest[1:]}
    elif isinstance(given, dict):
        _check_keys(f"{file}: {name}", given, SYSTEM_KEYS, "a system")
    else:
        raise ValueError(f"{file}: found {name}: {given!r}, expected a command such as 'train_audio.py RECIPE.yaml'.")
    recipe = find_recipe(given["recipe"], folders) if given.get("recipe") else None
    flags = _flags(given.get("flags"))
    if given.get("protocol"):
        flags += ("--protocol", str(given["protocol"]))
    if given.get("allow_leak"):
        flags += ("--allow_leak", "true")
    script = _script(given["script"], f"{file}: {name}") if given.get("script") else None
    if not (script or recipe):
        raise ValueError(f"{file}: {name} has neither script nor recipe, expected one of {', '.join(SCRIPTS)}.")
    return System(name, script or script_of(recipe), recipe, flags)


def _flags(given) -> tuple[str, ...]:
    """Command-line arguments from a text, a list, or a mapping of settings."""
    if isinstance(given, dict):
        return tuple(part for name, value in given.items() for part in (f"--{name}", _argument(value)))
    return tuple(map(str, given if isinstance(given, list | tuple) else shlex.split(given or "")))


def _argument(value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _script(name: str, where: str) -> str:
    script = f"{Path(name).stem}.py"
    if script not in SCRIPTS:
        raise ValueError(f"{where}: found the script {name!r}, expected one of {', '.join(SCRIPTS)}.")
    return script


def _check_keys(where, given: dict, keys: Sequence[str], what: str) -> None:
    if unknown := sorted(map(str, set(given) - set(keys))):
        raise ValueError(f"{where}: unknown keys {', '.join(unknown)}. {what.capitalize()} has {', '.join(keys)}.")
