"""Whether the installed libraries are as recent as pyproject.toml asks, before anything of them is imported."""

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement
from packaging.version import Version

PACKAGE = "hf_ser"


def requirements(package: str = PACKAGE) -> dict[str, Requirement]:
    """What a package needs wherever it is used, by the name of the library; empty where it is not installed."""
    try:
        lines = requires(package) or []
    except PackageNotFoundError:  # a checkout that is on the path and was never installed
        return {}
    needed = [Requirement(line) for line in lines]
    return {one.name: one for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})}


def check_versions(package: str = PACKAGE) -> None:
    """Make sure that no library is missing, or older than needed.

    One that is newer than the range is let pass: pip warns of it, and it may well work.

    Raises:
        ImportError: some are; it names each with what was found and needed, and the command that mends it.
    """
    wrong = {one: found for one in requirements(package).values() if (found := _unfit(one)) is not None}
    if wrong:
        told = ", ".join(f"{one.name} {found} (expected {one.specifier})" for one, found in wrong.items())
        names = " ".join(f'"{one.name}{one.specifier}"' for one in wrong)
        raise ImportError(f"{package} found {told}. Run: pip install {names}")


def installed(names: Iterable[str]) -> list[str]:
    """Requirements of other people for what is installed here, such as `torch==2.14.1`, in the order of the names.

    A version that no package index has (a development build) is replaced by the range that this package needs.
    """
    needed, pins = requirements(), []
    for name in names:
        found = Version(version(name))
        pins.append(str(needed.get(name, name)) if found.is_devrelease else f"{name}=={found.public}")
    return pins


def _unfit(needed: Requirement) -> str | None:
    """What was found where it is older than needed, else None."""
    try:
        found = version(needed.name)
    except PackageNotFoundError:
        return "not installed"
    least = [Version(one.version) for one in needed.specifier if one.operator in (">=", "==")]
    return found if any(Version(found) < one for one in least) else None
