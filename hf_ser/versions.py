"""Whether the installed libraries are as recent as this package was installed to need, before they are imported."""

import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement
from packaging.version import Version

PACKAGE = "hf_ser"
EXTRA = re.compile(r'extra == "([^"]+)"')


def requirements(package: str = PACKAGE) -> dict[str, Requirement]:
    """What a package needs wherever it is used, by the name of the library; empty where it is not installed."""
    try:
        lines = requires(package) or []
    except PackageNotFoundError:  # a checkout that is on the path and was never installed
        return {}
    needed = [Requirement(line) for line in lines]
    return {one.name: one for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})}


def extra_of(module: str, package: str = PACKAGE) -> str | None:
    """The extra of a package that installs a library, such as `search` for optuna; None where no one does."""
    try:
        needed = [Requirement(line) for line in requires(package) or []]
    except PackageNotFoundError:
        return None
    extras = {one.name.replace("-", "_"): EXTRA.search(str(one.marker)) for one in reversed(needed) if one.marker}
    return extras[module][1] if extras.get(module) else None


def check_versions(package: str = PACKAGE) -> None:
    """Make sure that no library is missing, or older than needed.

    One that is newer than the range is let pass: pip warns of it, and it may well work.

    Raises:
        ImportError: some are; it names each with what was found and needed, and the command that mends it.
    """
    wrong = {one: what for one in requirements(package).values() if (what := _unfit(one)) is not None}
    if wrong:
        found = ", ".join(f"{one.name}: {what} (expected {one.specifier})" for one, what in wrong.items())
        names = " ".join(f'"{one.name}{one.specifier}"' for one in wrong)
        raise ImportError(f"{package} needs other versions of its libraries. Found {found}. Run: pip install {names}")


def installed(names: Iterable[str]) -> list[str]:
    """Requirements of other people for what is installed here, such as `torch==2.14.1`, in the order of the names.

    A version that an index may not have (a development build or another pre-release) is replaced by the range that this
    package needs.
    """
    needed, pins = requirements(), []
    for name in names:
        found = Version(version(name))
        pins.append(str(needed.get(name, name)) if found.is_prerelease else f"{name}=={found.public}")
    return pins


def _unfit(needed: Requirement) -> str | None:
    """What was found where it is older than needed, else None."""
    try:
        found = version(needed.name)
    except PackageNotFoundError:
        return "not installed"
    least = [Version(one.version) for one in needed.specifier if one.operator in (">=", "~=")]
    # Of 5.23.0.dev0 or 5.23rc1, on the way to a release, that release counts.
    return found if any(Version(Version(found).base_version) < one for one in least) else None
