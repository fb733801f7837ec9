"""What a study compares: systems, each a training script with its recipe and flags, and the seeds of each."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hf_ser.recipes import find_recipe
from hf_ser.yaml_text import read_mapping

SCRIPTS = ("train_audio.py", "train_text.py", "train_fusion.py")
COMMON = ("dataset", "corpus", "data_dir", "protocol", "fold")
"""Settings that hold for all systems of a study; a system may override each of them."""

KEYS = (*COMMON, "seeds", "baseline", "flags", "systems")
SYSTEM_KEYS = ("script", "recipe", "flags", "protocol", "allow_leak")
SEEDS = (1, 2, 3)
NAME = re.compile(r"[\w.+-]+")


@dataclass(frozen=True)
class System:
    """One model of a study.

    Args:
        name: What the tables call it, and its folder.
        script: Of `SCRIPTS`.
        recipe: YAML file, or None.
        flags: Words of the command line after the recipe.
    """

    name: str
    script: str
    recipe: Path | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Study:
    """Systems that are compared.

    Args:
        systems: In the order of the file.
        settings: Of `COMMON`, those that are given.
        seeds: Each system is trained once with each.
        flags: Words for the command line of all systems.
        baseline: The system that all others are compared with; None for the best.
    """

    systems: tuple[System, ...]
    settings: dict[str, str] = field(default_factory=dict)
    seeds: tuple[int, ...] = SEEDS
    flags: tuple[str, ...] = ()
    baseline: str | None = None

    def arguments(self, system: System, seed: int) -> list[str]:
        """The flags of one run, the system's own after those of the study, so that they override them."""
        common = [word for name, value in self.settings.items() for word in (f"--{name}", value)]
        return [*common, *self.flags, *system.flags, "--seed", str(seed)]


def read_study(file: str | Path) -> Study:
    """A study from its YAML file.

    Args:
        file: `systems:` with a line for each, command words (`train_audio.py seeds/alexnet.yaml --learning_rate 1e-4`)
            or a mapping of `SYSTEM_KEYS`; beside it any of `KEYS`.
            Recipes are looked for where the command is given, beside the file, and among those of this package.

    Raises:
        FileNotFoundError, ValueError: no such file or recipe, unknown keys or scripts, fewer than two systems.
    """
    file = find_recipe(file, (Path.cwd(),))
    told = read_mapping(file)
    _known(file, told, KEYS, "a study")
    systems = told.get("systems")
    if not isinstance(systems, dict) or len(systems) < 2:
        raise ValueError(f"{file}: found systems {systems!r}, expected two or more 'name: command' lines to compare.")
    folders = (Path.cwd(), file.parent)
    study = Study(
        systems=tuple(_system(file, str(name), one, folders) for name, one in systems.items()),
        settings={name: str(told[name]) for name in COMMON if told.get(name) is not None},
        seeds=read_seeds(told.get("seeds", SEEDS), str(file)),
        flags=_flags(told.get("flags")),
        baseline=told.get("baseline"),
    )
    return checked(study)


def study_of_recipes(sources: Sequence[str]) -> Study:
    """A study of recipes that are given one by one, each as `RECIPE.yaml` or `script.py:RECIPE.yaml`.

    Raises:
        FileNotFoundError, ValueError: as `read_study`; a recipe's keys do not tell its script.
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
    """The study, if its names can be those of folders and are all different.

    Raises:
        ValueError: they cannot, or the baseline is none of them.
    """
    names = [system.name for system in study.systems]
    if wrong := [name for name in names if not NAME.fullmatch(name) or name in (".", "..")]:
        raise ValueError(f"systems: found the name {wrong[0]!r}, expected letters, digits and . _ + - as in a folder.")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"systems: found {', '.join(twice)} twice, expected different names: use a study file.")
    if study.baseline not in (None, *names):
        raise ValueError(f"--baseline {study.baseline}: expected one of the systems {', '.join(names)}.")
    return study


def chosen(study: Study, names: Sequence[str]) -> tuple[System, ...]:
    """The systems of some names, all where there are none.

    Raises:
        ValueError: a name is none of the study's.
    """
    known = [system.name for system in study.systems]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"--only {', '.join(unknown)}: expected some of the systems {', '.join(known)}.")
    return tuple(system for system in study.systems if not names or system.name in names)


def overridden(study: Study, settings: dict, seeds=None, flags: Sequence[str] = (), baseline=None) -> Study:
    """The study with what the command line says instead."""
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


def read_seeds(told, where: str) -> tuple[int, ...]:
    """Seeds from `1,2,3` or a list.

    Raises:
        ValueError: they are no whole numbers, or one comes twice.
    """
    parts = told if isinstance(told, list | tuple) else str(told).split(",")
    seeds = [int(part) for part in parts if str(part).strip().isdecimal()]
    if not seeds or len(seeds) != len(parts) or len(set(seeds)) != len(seeds):
        raise ValueError(f"{where}: found seeds {told}, expected different whole numbers such as 1,2,3.")
    return tuple(seeds)


def script_of(recipe: Path) -> str:
    """The script that a recipe is for, by its keys.

    Raises:
        ValueError: they do not tell.
    """
    keys = set(read_mapping(recipe))
    if "fusion" in keys or {"audio_model", "text_model"} <= keys:
        return "train_fusion.py"
    for kind in ("audio", "text"):
        if f"{kind}_model" in keys:
            return f"train_{kind}.py"
    raise ValueError(
        f"{recipe}: found neither audio_model nor text_model nor fusion, expected one of them to tell the script: "
        f"name it, such as train_audio.py:{recipe}."
    )


def _system(file: Path, name: str, told, folders: Sequence[Path]) -> System:
    if isinstance(told, str):
        script, *words = shlex.split(told) or [""]
        given = {"script": script, "flags": words}
        if words and not words[0].startswith("-"):
            given = {"script": script, "recipe": words[0], "flags": words[1:]}
    elif isinstance(told, dict):
        given = told
        _known(f"{file}: {name}", told, SYSTEM_KEYS, "a system")
    else:
        raise ValueError(f"{file}: found {name}: {told!r}, expected a command such as 'train_audio.py RECIPE.yaml'.")
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


def _flags(told) -> tuple[str, ...]:
    """Command words from a text, a list, or a mapping of settings."""
    if isinstance(told, dict):
        return tuple(word for name, value in told.items() for word in (f"--{name}", _word(value)))
    return tuple(map(str, told if isinstance(told, list | tuple) else shlex.split(told or "")))


def _word(value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _script(name: str, where: str) -> str:
    script = f"{Path(name).stem}.py"
    if script not in SCRIPTS:
        raise ValueError(f"{where}: found the script {name!r}, expected one of {', '.join(SCRIPTS)}.")
    return script


def _known(where, told: dict, keys: Sequence[str], what: str) -> None:
    if unknown := sorted(map(str, set(told) - set(keys))):
        raise ValueError(f"{where}: unknown keys {', '.join(unknown)}. {what.capitalize()} knows {', '.join(keys)}.")
