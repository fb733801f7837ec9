"""Own corpora, protocols, changes of a recording, heads, networks and encoder families, from a user's own file.

The file registers them when it is imported. It is named by `--plugins FILE.py`, by the environment variable
HF_SER_PLUGINS, or by an entry point of an installed package in the group `hf_ser`. Nothing of a model's own folder is
imported so: whoever wants the own head of a stranger's model names its file.
"""

import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import MutableMapping
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace

PLACES = {
    "corpus": ("hf_ser.data.corpora", "CORPORA"),
    "protocol": ("hf_ser.data.protocols", "PROTOCOLS"),
    "change": ("hf_ser.augment.training", "CHANGES"),
    "head": ("hf_ser.models.heads", "HEADS"),
    "pooling": ("hf_ser.models.heads", "POOLINGS"),
    "network": ("hf_ser.models.networks", "NETWORKS"),
    "family": ("hf_ser.models.encoders", "FAMILIES"),
}
"""Where each kind of part is kept: a module and its dictionary of parts by name."""
NEEDED = {
    "corpus": ("list_utterances", "LICENCE", "MAY_BE_SHARED", "SOURCE", "LANGUAGE", "__file__"),
    "protocol": ("__call__",),
    "change": ("change", "probability", "limits"),
    "head": ("forward", "modalities"),
    "pooling": ("forward",),
    "network": ("forward",),
    "family": ("build", "encode", "inputs"),
}
"""What a part of each kind has."""
VARIABLE = "HF_SER_PLUGINS"
"""Files of plugins for processes that this one starts, such as loader workers."""

_files: dict[str, Path] = {}


def register(kind: str, name: str, thing=None):
    """Make an own part known by a name; a decorator where `thing` is not given.

    Args:
        kind: Key of PLACES.
        name: As settings and recipes name it.
        thing: A corpus is a function that lists its utterances, in a file that has LICENCE, MAY_BE_SHARED, SOURCE and
            LANGUAGE above it; a protocol a function; a change a `hf_ser.augment.training.Change`; a head, a pooling and
            a network subclasses of `nn.Module`; a family a subclass of `hf_ser.models.encoders.Family`, its name the
            `model_type` of a configuration. hf_ser/README.md has one of each.

    Raises:
        ValueError: an unknown kind, a name that is taken, or a part that lacks something.

    Example:
        >>> from hf_ser import register
        >>> from hf_ser.models.heads import FusionHead
        >>> @register("head", "product")
        ... class ProductFusion(FusionHead): ...
    """

    def put(thing):
        places, part = _place(kind), thing
        if kind == "corpus" and callable(thing):
            known = vars(sys.modules[thing.__module__])
            part = SimpleNamespace(**{name: known[name] for name in NEEDED[kind] if name in known})
            part.list_utterances, part.__module__ = thing, thing.__module__
        if lacking := [one for one in NEEDED[kind] if not hasattr(part, one)]:
            raise ValueError(f"{kind} {name!r}: found {part!r} without {', '.join(lacking)}, expected all of them.")
        if name in places and getattr(places[name], "__module__", None) != getattr(part, "__module__", ""):
            raise ValueError(f"{kind} {name!r}: there is one of this name already. Expected another name.")
        if PLACES[kind][0].startswith("hf_ser.models"):
            importlib.import_module("hf_ser.models.registration").register(kind, name, part)
        else:
            places[name] = part
        return thing

    return put if thing is None else put(thing)


def _place(kind: str) -> MutableMapping:
    if kind not in PLACES:
        raise ValueError(f"register({kind!r}, ...): expected one of {', '.join(PLACES)} as the kind.")
    module, dictionary = PLACES[kind]
    return getattr(importlib.import_module(module), dictionary)


def load_plugins(*sources: str) -> None:
    """Import files that register own parts, each once.

    Args:
        sources: Paths of Python files, or names of modules that can be imported.

    Raises:
        FileNotFoundError, ValueError: a file is not there, is no Python file, or has the name of another module.
    """
    for source in sources:
        file = Path(source)
        if file.suffix != ".py":
            module = importlib.import_module(source)
            file = Path(str(module.__file__))
        elif not file.is_file():
            raise FileNotFoundError(f"--plugins {source}: no such file. Expected a Python file, or a module's name.")
        elif file.resolve() not in _files.values():
            _import_file(file.resolve())
        _files[file.stem] = file.resolve()
    if sources:
        os.environ[VARIABLE] = os.pathsep.join(map(str, _files.values()))


def _import_file(file: Path) -> None:
    if file.stem in sys.modules or not file.stem.isidentifier():
        raise ValueError(
            f"--plugins {file}: found a module called {file.stem} already, or a name that is none of a module. "
            "Expected another: rename the file."
        )
    # One that was saved with a model imports the files beside it, which are those of hf_ser.models.
    name = f"hf_ser.models.{file.stem}" if (file.parent / "modeling_ser.py").is_file() else file.stem
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ValueError(f"--plugins {file}: found no Python file, expected one.")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def load_installed_plugins() -> None:
    """Import what the environment variable and installed packages' entry points name."""
    for entry in entry_points(group="hf_ser"):
        entry.load()
    load_plugins(*filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)))


def plugin_digests() -> dict[str, str]:
    """SHA-256 of each plugin file by its name: what is trained depends on them."""
    return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in sorted(_files.items())}
