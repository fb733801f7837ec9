"""Own corpora, protocols, changes of a recording, heads, networks and encoder families, from a user's own file.

The file registers them when it is imported. It is named by `--plugins FILE.py`, by the environment variable
HF_SER_PLUGINS, or by an entry point of an installed package in the group `hf_ser`. Nothing of a model's own folder is
imported so: whoever wants the own head of a stranger's model names its file.
"""

import hashlib
import importlib
import importlib.util
import os
import re
import sys
import traceback
from collections import Counter
from collections.abc import MutableMapping
from functools import wraps
from importlib.metadata import entry_points
from inspect import signature
from pathlib import Path
from types import SimpleNamespace

PLACES = {
    "corpus": ("hf_ser.data.corpora", "CORPORA"),
    "protocol": ("hf_ser.data.protocols", "PROTOCOLS"),
    "change": ("hf_ser.augment.specification", "CHANGES"),
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
OPTIONAL = {"corpus": ("DIMENSION_SCALE",)}
"""What it may have too."""
VARIABLE = "HF_SER_PLUGINS"
"""Files of plugins for processes that this one starts, such as loader workers."""

_files: dict[str, Path] = {}


def register(kind: str, name: str, thing=None):
    """Make an own part known by a name; a decorator where `thing` is not given.

    Args:
        kind: Key of PLACES.
        name: As settings and recipes name it.
        thing: A corpus is a function that lists its utterances, in a file that has LICENCE, MAY_BE_SHARED, SOURCE and
            LANGUAGE above it; a protocol a function; a change a `hf_ser.augment.specification.Change`; a head, a
            pooling and a network subclasses of `nn.Module`; a family a subclass of `hf_ser.models.encoders.Family`,
            its name the `model_type` of a configuration. hf_ser/README.md has one of each.

    Raises:
        ValueError: an unknown kind, a name that is taken, or a part that lacks something.

    Example:
        >>> from hf_ser import register
        >>> from hf_ser.models.heads import FusionHead
        >>> @register("head", "product")
        ... class ProductFusion(FusionHead): ...
    """

    pattern = r"[a-z_]+" if kind == "change" else r"[A-Za-z_][\w.-]*"
    if not isinstance(name, str) or not re.fullmatch(pattern, name):
        raise ValueError(f"register({kind!r}, {name!r}): expected a name of {pattern}, as settings can give it.")

    def put(thing):
        places, part = _place(kind), thing
        if kind == "corpus" and callable(thing):
            known = vars(sys.modules[thing.__module__])
            names = (*NEEDED[kind], *OPTIONAL[kind])
            part = SimpleNamespace(**{name: known[name] for name in names if name in known})
            part.list_utterances, part.__module__ = _checked_corpus(name, thing), thing.__module__
            part.__qualname__ = thing.__qualname__
        if lacking := [one for one in NEEDED[kind] if not hasattr(part, one)]:
            found = getattr(thing, "__name__", type(thing).__name__)
            raise ValueError(f"{kind} {name!r}: found {found} without {', '.join(lacking)}, expected all of them.")
        if kind == "protocol" and not any(one.kind is one.VAR_KEYWORD for one in signature(thing).parameters.values()):
            raise ValueError(f"protocol {name!r}: found no **_ among its arguments, expected (rows, **_).")
        if kind == "head" and not (isinstance(part.modalities, tuple) and {*part.modalities} <= {1, 2}):
            raise ValueError(f"head {name!r}: modalities is {part.modalities!r}, expected (1,), (2,) or (1, 2).")
        if name in places and _origin(places[name]) != _origin(part):
            raise ValueError(f"{kind} {name!r}: there is one of this name already. Expected another name.")
        if PLACES[kind][0].startswith("hf_ser.models"):
            importlib.import_module("hf_ser.models.registration").register(kind, name, part)
        else:
            places[name] = part
        return thing

    return put if thing is None else put(thing)


def _origin(part) -> tuple:
    return getattr(part, "__module__", None), getattr(part, "__qualname__", type(part).__qualname__)


def _checked_corpus(name: str, list_utterances):
    """The function of a corpus, whose listing is checked before anything is done with it."""

    @wraps(list_utterances)
    def checked(data_dir, **options):
        listing = list_utterances(data_dir, **options)
        if not (hasattr(listing, "utterances") and hasattr(listing, "labels")):
            raise ValueError(
                f"corpus {name!r}: found {type(listing).__name__}, expected a Listing(labels, utterances)."
            )
        if not listing.utterances:
            raise ValueError(f"corpus {name!r}: found no utterance in {data_dir}. Expected some: name another folder.")
        ids = Counter(one.id for one in listing.utterances)
        for one in listing.utterances:
            if one.label not in listing.labels:
                known = ", ".join(listing.labels)
                raise ValueError(f"corpus {name!r}, {one.id}: label is {one.label!r}, expected one of {known}.")
            if one.corpus != name:
                raise ValueError(f"corpus {name!r}, {one.id}: corpus is {one.corpus!r}, expected {name!r}.")
            if ids[one.id] > 1:
                raise ValueError(
                    f"corpus {name!r}: {ids[one.id]} utterances have the id {one.id!r}, expected one each."
                )
        return listing

    return checked


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
    if any(isinstance(source, list | tuple) for source in sources):
        raise ValueError("load_plugins takes files one by one: load_plugins('a.py', 'b.py'), or load_plugins(*files).")
    for source in sources:
        file = Path(source)
        if file.is_dir():
            raise ValueError(f"--plugins {source}: found a folder, expected a Python file, such as {file / 'mine.py'}.")
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
    # One that was saved with a model imports the files beside it, which are those of hf_ser.models.
    name = f"hf_ser.models.{file.stem}" if (file.parent / "modeling_ser.py").is_file() else file.stem
    if not file.stem.isidentifier():
        raise ValueError(
            f"--plugins {file}: a module cannot have this name. Expected letters, digits and _: rename it."
        )
    if name in sys.modules:
        raise ValueError(
            f"--plugins {file}: another module is called {file.stem}. Expected another name: rename the file."
        )
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ValueError(f"--plugins {file}: found no Python file, expected one.")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        lines = [one.lineno for one in traceback.extract_tb(error.__traceback__) if one.filename == str(file)]
        place = f", line {getattr(error, 'lineno', None) or (lines or [None])[-1]}"
        raise ValueError(
            f"--plugins {file}{place}: {type(error).__name__}: {error}. Expected a file that imports."
        ) from error


def load_installed_plugins() -> None:
    """Import what the environment variable and installed packages' entry points name."""
    for entry in entry_points(group="hf_ser"):
        entry.load()
    load_plugins(*filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)))


def plugin_digests() -> list[str]:
    """SHA-256 of each plugin file, whatever its name: what is trained depends on them."""
    return sorted(hashlib.sha256(file.read_bytes()).hexdigest() for file in _files.values())
