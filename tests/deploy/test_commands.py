"""The commands of this room: without their packages they name them, and they refuse what they cannot use."""

from hf_ser.cli import missing_package_message

import sys

import pytest
from models.tiny import save_trained


@pytest.fixture(scope="module")
def text_model(tmp_path_factory):
    return save_trained("text", tmp_path_factory.mktemp("text"))


@pytest.mark.parametrize(("command", "module"), [("serve", "uvicorn"), ("demo", "gradio"), ("export", "onnxscript")])
def test_a_command_whose_package_is_missing_names_it(script, monkeypatch, tmp_path, command, module):
    if command == "export":
        pytest.importorskip("onnxruntime", reason="needs it to come as far as onnxscript")
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "hf_ser.deploy.demo", raising=False)
    with pytest.raises(ModuleNotFoundError) as caught:
        script(command, "model", *[tmp_path / "out"] * (command == "export"))
    assert f"found no package {module}, which is needed here" in missing_package_message(caught.value)


@pytest.mark.parametrize(("command", "package"), [("serve", "fastapi"), ("demo", "gradio")])
def test_a_text_only_model_is_refused(script, text_model, command, package):
    pytest.importorskip(package, reason=f"needs the extra of {command}")
    with pytest.raises(ValueError, match=r"found a text-only model\. Expected one that takes audio"):
        script(command, text_model)
