"""What is done to a saved model's folder so that other people can load it."""

import ast
import shutil
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

from torch import nn

LIBRARIES = ("torch", "torchaudio", "torchvision", "transformers", "peft", "timm")
"""Where classes may come from that every loader has; all others must be in the code copied into the folder."""
PLUGINS = "plugins.py"
"""The file of a saved model that imports its own parts."""


def check_is_loadable(model: nn.Module) -> None:
    """Make sure that a model's folder will load elsewhere.

    Raises:
        ValueError: a part is defined where it cannot be copied from, or in a file that would not load elsewhere.
    """
    for file in own_files(model):
        portable_source(file)


def own_files(model: nn.Module) -> list[Path]:
    """Return the files of the user that define parts of a model, such as a fusion head or the family of an encoder.

    Raises:
        ValueError: a part is not defined in a file of its own.
    """
    found = {}
    for name, part in (*model.named_modules(), *getattr(model, "families", {}).items()):
        home = type(part).__module__
        file = getattr(sys.modules.get(home), "__file__", None)
        if home.partition(".")[0] in LIBRARIES or (file and Path(file).parent == Path(__file__).parent):
            continue
        if file is None or home == "__main__" or home.rpartition(".")[0] not in ("", __package__):
            raise ValueError(
                f"{type(part).__name__} ({name or 'the model'}) is defined in {home}, which cannot be copied into the "
                "model's folder: what is trained could not be loaded elsewhere. Expected a file of its own beside the "
                "package, in which `hf_ser.register` names it, given by --plugins FILE.py."
            )
        found[Path(file)] = None
    return list(found)


def copy_code(folder: str | Path, model: nn.Module) -> None:
    """Put the code of a model into its folder, so that the folder loads where hf_ser is absent.

    Args:
        folder: Of the model.
        model: What is saved there; its own parts' files are copied too.
    """
    here, folder = Path(__file__).parent, Path(folder)
    if folder.resolve() == here:
        return
    for file in here.glob("*.py"):
        if file.name != "__init__.py":
            shutil.copyfile(file, folder / file.name)
    names = []
    for file in own_files(model):
        (folder / file.name).write_text(portable_source(file), encoding="utf-8")
        names.append(file.stem)
    imports = "".join(f"from .{name} import __doc__ as _{name}  # noqa: F401\n" for name in sorted(names))
    if imports:
        text = '"""Imports the user\'s own parts of this model."""\n\n'
        (folder / PLUGINS).write_text(text + imports, encoding="utf-8")


def portable_source(file: Path) -> str:
    """Return the source of a user's file as it loads beside a saved model, where hf_ser may be absent.

    Imports of `hf_ser.models` become those of the files beside it. Other names of hf_ser, which a corpus, a protocol
    or a change needs and a saved model does not, become `Absent`: importing hf_ser would put its own classes in the
    place of the folder's.

    Raises:
        ValueError: an import that no other computer could follow.
    """
    source = file.read_text(encoding="utf-8")
    lines = source.splitlines(keepends=True)
    if (Path(__file__).parent / file.name).exists():
        raise ValueError(f"{file}: a file of this name belongs to hf_ser's own models. Expected another: rename it.")
    for node in reversed(ast.parse(source).body):  # from the end on, so that line numbers stay right
        if isinstance(node, ast.Import | ast.ImportFrom):
            lines[node.lineno - 1 : node.end_lineno] = _portable_import(node, file)
    return "".join(lines)


def _portable_import(node: ast.Import | ast.ImportFrom, file: Path) -> list[str]:
    """The lines in place of an import statement of a user's file."""
    named = [alias.name for alias in node.names]
    roots = {(node.module or "").partition(".")[0]} if isinstance(node, ast.ImportFrom) else set()
    roots = roots or {name.partition(".")[0] for name in named}
    if "hf_ser" not in roots:
        if getattr(node, "level", 0) == 1 and (Path(__file__).parent / f"{node.module}.py").is_file():
            return [f"{ast.unparse(node)}\n"]  # of a file that was made portable before
        if getattr(node, "level", 0) or roots - {*sys.stdlib_module_names, *packages_distributions()}:
            raise ValueError(
                f"{file}, line {node.lineno}: found an import of {', '.join(sorted(roots))}, which is not installed as "
                "a package and would be missing where the model is loaded. Expected one file: move what it needs into "
                "it, or install the package."
            )
        return [f"{ast.unparse(node)}\n"]
    if isinstance(node, ast.Import):
        raise ValueError(
            f"{file}, line {node.lineno}: found `{ast.unparse(node)}`. Expected names one by one, which can be found "
            "beside a saved model: from hf_ser import register; from hf_ser.models.heads import FusionHead."
        )
    return [line for alias in node.names for line in _portable_name(node.module, alias)]


def _portable_name(module: str, alias: ast.alias) -> list[str]:
    as_name = f" as {alias.asname}" if alias.asname else ""
    if module == "hf_ser" and alias.name == "register":
        return [f"from .registration import register{as_name}\n"]
    if module.startswith("hf_ser.models"):
        home = module.removeprefix("hf_ser.models").lstrip(".")
        if not home:
            files = sorted(file.stem for file in Path(__file__).parent.glob("*.py") if file.stem != "__init__")
            home = next(stem for stem in files if hasattr(sys.modules.get(f"{__package__}.{stem}"), alias.name))
        return [f"from .{home} import {alias.name}{as_name}\n"]
    return [f"from .registration import Absent as {alias.asname or alias.name}\n"]


class SharedWeights:
    """A `PreTrainedModel`'s `save_pretrained`, after which other people can read the weights."""

    def save_pretrained(self, save_directory, is_main_process: bool = True, **kwargs):
        check_is_loadable(self)
        super().save_pretrained(save_directory, is_main_process=is_main_process, **kwargs)
        if is_main_process:
            share_weights(save_directory)


def share_weights(folder: str | Path) -> None:
    """Give the weights in a folder the permissions of any new file there.

    safetensors 0.8 writes them for their owner alone, so a server, a container or a colleague could not read them.
    """
    for weights in Path(folder).glob("*.safetensors"):
        probe = weights.with_name(f".{weights.name}.mode")
        probe.touch()
        shutil.copymode(probe, weights)
        probe.unlink()
