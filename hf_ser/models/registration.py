"""Own parts of models under the names that configurations have: heads, poolings, networks, families of encoders."""

from .encoders import FAMILIES
from .heads import HEADS, POOLINGS
from .networks import NETWORKS
from .spectrogram import PRESETS

PARTS = {"head": HEADS, "pooling": POOLINGS, "network": NETWORKS, "family": FAMILIES}


class Absent:
    """Takes the place of what a user's file imports of hf_ser and a saved model does not need."""

    def __init__(self, *args, **kwargs):
        pass

    def __call__(self, *args, **kwargs) -> "Absent":
        return self

    def __getattr__(self, name: str) -> "Absent":
        return self


def register(kind: str, name: str, thing=None):
    """Make an own part known by its name; a decorator where `thing` is not given.

    What is no part of a model (a corpus, a protocol) is ignored: where a saved model is used, nothing reads it.
    """

    def put(thing):
        if kind in PARTS:
            PARTS[kind][name] = thing() if kind == "family" and isinstance(thing, type) else thing
        if kind == "network":
            PRESETS[name] = {"network": name, **getattr(thing, "settings", {})}
        return thing

    return put if thing is None else put(thing)
