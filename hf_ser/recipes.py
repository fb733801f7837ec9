"""The recipes and studies that come with the package, found by name wherever it is installed."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from hf_ser.files import packaged

RECIPES = "scripts/recipes"


def find_recipe(name: str | Path, folders: Sequence[Path]) -> Path:
    """A recipe or study by its path in one of some folders, or else by its name among those of this package.

    The latter as `seeds/alexnet.yaml` or, as in a checkout, `scripts/recipes/seeds/alexnet.yaml`.

    Raises:
        FileNotFoundError: there is none.
    """
    for file in (*(folder / name for folder in folders), packaged(RECIPES) / str(name).removeprefix(f"{RECIPES}/")):
        if file.is_file():
            return file
    known = sorted(str(file.relative_to(packaged(RECIPES))) for file in packaged(RECIPES).rglob("*.yaml"))
    near = get_close_matches(str(name), known, n=3, cutoff=0.6)
    raise FileNotFoundError(
        f"{name}: no such recipe. Expected a YAML file, or the name of one that comes with hf_ser: "
        f"{'did you mean ' + ', '.join(near) + '?' if near else ', '.join(known)}"
    )
