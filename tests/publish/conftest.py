"""A Hub on this machine, a client of it, and a tiny trained model to push."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from example_fold import predictions
from huggingface_hub import HfApi, constants
from models.tiny import fused
from publish.stand_in import OWNER_TOKEN, Hub
from rows import make_report

import hf_ser.publish.hub
import hf_ser.publish.privacy
from hf_ser.models import copy_code

RECORD = {"finished": True, "corpora": ["synthetic"], "settings": {"model": "fusion"}, "leaks": []}


@pytest.fixture
def hub():
    """An empty Hub."""
    with Hub() as server:
        yield server


@pytest.fixture
def pauses(monkeypatch):
    """No waiting between attempts; the seconds of waiting, ours and those of huggingface_hub."""
    waits = SimpleNamespace(ours=[], theirs=[])
    monkeypatch.setattr(hf_ser.publish.hub, "time", SimpleNamespace(sleep=waits.ours.append))
    quick = SimpleNamespace(**{**vars(time), "sleep": waits.theirs.append})
    monkeypatch.setattr(huggingface_hub.utils._http, "time", quick)
    return waits


@pytest.fixture
def online(hub, pauses, monkeypatch):
    """This process connected to the Hub that stands in, and to no other, as its owner."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    addresses = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.endpoint)
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", addresses)
    monkeypatch.setenv("HF_TOKEN", OWNER_TOKEN)


@pytest.fixture
def api(hub, online) -> HfApi:
    """Its owner's client."""
    return HfApi(endpoint=hub.endpoint, token=OWNER_TOKEN)


@pytest.fixture
def card(monkeypatch):
    """A card of one line in place of the real one, which wants the whole record of a training."""

    def write(folder, repo_id=None, revision=None, purpose=None):
        file = Path(folder) / "README.md"
        file.write_text(f"---\nlicense: mit\n---\n\nmodel={repo_id!r}, {revision=}, {purpose=}\n")
        return file

    monkeypatch.setattr(hf_ser.publish.privacy, "write_model_card", write)


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A fused model's folder as training leaves it, with private files in it."""
    folder = tmp_path_factory.mktemp("trained") / "fold_1"
    model, processor = fused(abstain_threshold=0.5, calibration_temperature=1.5)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    copy_code(folder, model)
    (folder / "confusion_matrix.png").write_bytes(b"\x89PNG a picture")
    texts = {
        "training_record.json": json.dumps(RECORD),
        "report.json": json.dumps(make_report(predictions()).to_json()),
        "predictions.jsonl": '{"id": "a"}\n',
    }
    private = ("transcripts.jsonl", "optimizer.pt", "secret.txt", "checkpoints/checkpoint-1/model.safetensors")
    for name, text in {**texts, **dict.fromkeys(private, "private")}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def model(trained, card, tmp_path) -> Path:
    """The same, to be changed by one test."""
    return Path(shutil.copytree(trained, tmp_path / "fold_1"))


@pytest.fixture
def fresh(hub, tmp_path):
    """Run code in a fresh process with an empty cache and what it prints as JSON; `token` is its user's."""

    def run(code: str, token: str | None = OWNER_TOKEN):
        extra = {
            "HF_ENDPOINT": hub.endpoint,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": "0",
            "OMP_NUM_THREADS": "1",
        }
        extra |= {"HF_HOME": str(tmp_path / "hf_home"), "HF_HUB_DISABLE_TELEMETRY": "1"}
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")} | extra
        environment |= {"HF_TOKEN": token} if token else {}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=900
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run
