"""Speech emotion recognition from audio and text, on the Hugging Face stack.

    import hf_ser as ser
    data = ser.load_dataset("ravdess", "RAVDESS")  # or "calls.csv", a folder, "user/name"
    run = ser.train(data, protocol="emobox", fold="all", output_dir="runs/ravdess")
    run.report.uar

The names of `__all__` are imported when they are first used, so that `import hf_ser` costs next to nothing. Importing
any module of this package first checks that the installed libraries are not older than it needs.
"""

import os
from importlib import import_module

from hf_ser.versions import check_versions

check_versions()

_PLACES = {
    "hf_ser.api": (
        *("load_dataset", "Recipe", "train", "evaluate", "stress", "audit", "compare", "embeddings"),
        *("push_to_hub", "make_folds", "load_plugins", "timeline", "power"),
    ),
    "hf_ser.deploy.labeller": ("Labeller",),
    "hf_ser.deploy.stream": ("SerStream",),
    "hf_ser.deploy.timeline": ("Timeline",),
    "hf_ser.models": (*("SerConfig", "SerModelForClassification", "SerPipeline", "SerProcessor"),),
    "hf_ser.prediction": ("load_model", "predict"),
    "hf_ser.registry": ("register",),
    "hf_ser.runs.folder": ("RunFolder", "FoldFolder"),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}

__all__ = sorted(_MODULES)


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module 'hf_ser' has no attribute {name!r}: expected one of {', '.join(__all__)}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


if os.environ.get("HF_SER_PLUGINS"):  # also in processes that this one starts, such as loader workers
    import_module("hf_ser.registry").load_installed_plugins()
