"""Compare the installed versions with the lock, or write them there; run by the environment in question.

python .ci/versions.py            # what differs from .ci/constraints.txt
python .ci/versions.py --write    # make .ci/constraints.txt anew
"""

import platform
import sys
from datetime import date
from importlib.metadata import distributions
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import Version

LOCK = Path(__file__).with_name("constraints.txt")
LEFT_OUT = {"hf-ser", "pip"}


def installed() -> dict[str, str]:
    """Versions by package, without the label of a local build (torch's +cpu)."""
    found = {canonicalize_name(one.metadata["Name"]): Version(one.version).public for one in distributions()}
    return {name: version for name, version in sorted(found.items()) if name not in LEFT_OUT}


def locked() -> dict[str, str]:
    """Versions by package, as the lock has them."""
    lines = LOCK.read_text(encoding="utf-8").splitlines() if LOCK.is_file() else []
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def write() -> None:
    header = (
        f"# The versions that the whole suite passed with, on {date.today()}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}.\n"
        "# Made by `.ci/newest --lock`; README's commands install them with `-c`. Not to be edited by hand.\n"
    )
    LOCK.write_text(header + "".join(f"{name}=={version}\n" for name, version in installed().items()), "utf-8")


def differences() -> list[str]:
    now, lock = installed(), locked()
    return [
        f"  {name}: {lock.get(name, 'not locked')} -> {now.get(name, 'not installed')}"
        for name in sorted(now.keys() | lock.keys())
        if now.get(name) != lock.get(name)
    ]


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        write()
    different = differences()
    print(f"{len(different)} of {len(installed())} packages differ from the lock", *different, sep="\n")
