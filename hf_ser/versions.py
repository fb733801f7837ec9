"""Checks of the installed libraries' versions, before they are imported."""

import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement
from packaging.version import Version

PACKAGE = "hf_ser"
EXTRA = re.compile(r'extra == "([^"]+)"')


def requirements(package: str = PACKAGE) -> dict[str, Requirement]:
    """The requirements of a package without its extras, by library; empty where it is not installed."""
    try:
        lines = requires(package) or []
    except PackageNotFoundError:  # a checkout on the path that was not installed
        return {}
    needed = [Requirement(line) for line in lines]
    return {one.name: one for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})}


def extra_of(module: str, package: str = PACKAGE) -> str | None:
    """The extra of a package that installs a library, such as `search` for optuna; None where none does."""
    try:
        needed = [Requirement(line) for line in requires(package) or []]
    except PackageNotFoundError:
        return None
    extras = {one.name.replace("-", "_"): EXTRA.search(str(one.marker)) for one in reversed(needed) if one.marker}
    return extras[module][1] if extras.get(module) else None


def check_versions(package: str = PACKAGE) -> None:
    """Check that no library is missing or older than needed; newer ones pass.

    Raises:
        ImportError: some are; it names each with what was found and needed, and the command to run.
    """
    wrong = {one: what for one in requirements(package).values() if (what := _outdated(one)) is not None}
    if wrong:
        found = ", ".join(f"{one.name}: {what} (expected {one.specifier})" for one, what in wrong.items())
        names = " ".join(f'"{one.name}{one.specifier}"' for one in wrong)
        raise ImportError(f"{package} needs other versions of its libraries. Found {found}. Run: pip install {names}")


def pinned_requirements(names: Iterable[str]) -> list[str]:
    """Requirements that pin the installed versions, such as `torch==2.14.1`, in the order of the names.

    A pre-release, which an index may not have, is replaced by the range that this package needs.
    """
    needed, pins = requirements(), []
    for name in names:
        found = Version(version(name))
        pins.append(str(needed.get(name, name)) if found.is_prerelease else f"{name}=={found.public}")
    return pins


def _outdated(needed: Requirement) -> str | None:
    """What is installed, where it is missing or older than needed; else None."""
    try:
        found = version(needed.name)
    except PackageNotFoundError:
        return "not installed"
    least = [Version(one.version) for one in needed.specifier if one.operator in (">=", "~=")]
    # 5.23.0.dev0 and 5.23rc1 count as 5.23.
    return found if any(Version(Version(found).base_version) < one for one in least) else None
