"""Finding recipes and studies by path or by name."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from hf_ser.files import package_file

RECIPES = "scripts/recipes"


def find_recipe(name: str | Path, folders: Sequence[Path]) -> Path:
    """Find a recipe or study by its path in one of some folders, or by its name among those of this package.

    A name is `seeds/alexnet.yaml` or `scripts/recipes/seeds/alexnet.yaml`; `.yaml` may be left out.

    Raises:
        FileNotFoundError: there is none.
    """
    names = [str(name)] if Path(name).suffix in (".yaml", ".yml") else [str(name), f"{name}.yaml", f"{name}.yml"]
    places = [(folder, one) for one in names for folder in folders]
    places += [(package_file(RECIPES), one.removeprefix(f"{RECIPES}/")) for one in names]
    for folder, one in places:
        if (folder / one).is_file():
            return folder / one
    known = sorted(str(file.relative_to(package_file(RECIPES))) for file in package_file(RECIPES).rglob("*.yaml"))
    near = get_close_matches(str(name), known, n=3, cutoff=0.6) or [one for one in known if Path(one).stem == name]
    raise FileNotFoundError(
        f"{name}: no such recipe. Expected a YAML file, or the name of one that comes with hf_ser: "
        f"{'did you mean ' + ', '.join(near) + '?' if near else ', '.join(known)}"
    )
