"""Own parts in a file outside the package: they train, are saved with the model, and load where the file is not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from models.tiny import fused

from hf_ser import registry
from hf_ser.data.corpora import CORPORA
from hf_ser.data.protocols import PROTOCOLS
from hf_ser.models.heads import HEADS
from hf_ser.models.saving import copy_code, portable_source

ROOT = Path(__file__).parents[1]
OWN = '''
"""Two voices of generated tones, and a head that multiplies."""

import sys
from pathlib import Path

import torch

from hf_ser import register
from hf_ser.data.protocols import Plan
from hf_ser.data.schema import Listing, Utterance
from hf_ser.models.heads import Classifier, FusionHead, Sequences

LICENCE, MAY_BE_SHARED, SOURCE, LANGUAGE = "CC0", True, "made here", "en"


@register("corpus", "{name}_tones")
def list_utterances(data_dir) -> Listing:
    """List the clips of a folder."""
    clips = []
    for file in sorted(Path(data_dir).glob("*.wav")):
        speaker, label, _ = file.stem.split("_")
        name, text = f"{name}_tones/{{file.stem}}", "this is all"
        clips.append(Utterance(name, file, label, corpus="{name}_tones", speaker=speaker, transcript=text))
    return Listing(("angry", "sad"), clips)


@register("protocol", "{name}_last_speaker")
def last_speaker(rows, **_) -> list[Plan]:
    return [Plan((rows.speaker == sorted(rows.speaker)[-1]).nonzero()[0], "the last speaker")]


@register("head", "{name}_product")
class Product(FusionHead):
    """The product of both vectors."""

    def __init__(self, config):
        super().__init__(config)
        self.classifier = Classifier(config, config.head_size)

    def forward(self, audio: Sequences, text: Sequences):
        return self.classifier(torch.tanh(self.audio(audio)) * self.text(text)), {{}}
'''


def own_file(folder: Path, name: str) -> Path:
    file = folder / f"{name}.py"
    file.write_text(OWN.format(name=name))
    return file


@pytest.fixture
def forgotten(monkeypatch):
    """Registers whose new entries are forgotten after the test."""
    for places in (CORPORA, PROTOCOLS, HEADS):
        for name in set(places):
            monkeypatch.setitem(places, name, places[name])
    before = [dict(places) for places in (CORPORA, PROTOCOLS, HEADS)]
    monkeypatch.setattr(registry, "_files", {})
    monkeypatch.setenv(registry.VARIABLE, "")
    yield
    for places, old in zip((CORPORA, PROTOCOLS, HEADS), before, strict=True):
        for name in set(places) - set(old):
            del places[name]


def test_a_file_registers_its_parts_once(tmp_path, forgotten):
    file = own_file(tmp_path, "own_once")
    registry.load_plugins(str(file))
    registry.load_plugins(str(file))
    assert CORPORA["own_once_tones"].LICENCE == "CC0" and "own_once_last_speaker" in PROTOCOLS
    assert list(registry.plugin_digests()) == ["own_once"]
    assert os.environ[registry.VARIABLE] == str(file)


def test_a_model_with_an_own_head_is_saved_with_its_file(tmp_path, forgotten):
    registry.load_plugins(str(own_file(tmp_path, "own_saved")))
    model, _ = fused(fusion="own_saved_product")
    model.save_pretrained(tmp_path / "model")
    code = (tmp_path / "model" / "own_saved.py").read_text()
    assert "from .heads import FusionHead" in code and "from .registration import register" in code
    assert "from .own_saved import" in (tmp_path / "model" / "plugins.py").read_text()
    copy_code(tmp_path / "model", fused()[0])
    assert "own_saved" not in (tmp_path / "model" / "plugins.py").read_text()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("import hf_ser as ser", "line 1: found `import hf_ser as ser`. Expected names one by one"),
        ("import my_own_helpers", "line 1: found an import of my_own_helpers, which is not installed as a package"),
        ("from . import other", "which is not installed as a package"),
    ],
)
def test_a_file_that_would_not_load_elsewhere_is_refused(tmp_path, line, said):
    file = tmp_path / "own_part.py"
    file.write_text(f"{line}\n")
    with pytest.raises(ValueError, match=said):
        portable_source(file)


def test_a_name_of_one_of_our_files_is_refused(tmp_path):
    (tmp_path / "heads.py").write_text("")
    with pytest.raises(ValueError, match="a file of this name belongs to hf_ser's own models"):
        portable_source(tmp_path / "heads.py")


@pytest.mark.parametrize(
    ("kind", "name", "thing", "said"),
    [
        ("metric", "mine", object, "expected one of corpus, protocol, change, head, pooling, family as the kind"),
        ("head", "gated", type("Head", (), {"forward": 1, "modalities": (2,)}), "there is one of this name already"),
        ("corpus", "mine", object(), "without list_utterances, LICENCE"),
    ],
)
def test_what_cannot_be_registered_is_said(kind, name, thing, said, forgotten):
    with pytest.raises(ValueError, match=said):
        registry.register(kind, name, thing)


def test_files_that_cannot_be_plugins_are_refused(tmp_path, forgotten):
    with pytest.raises(FileNotFoundError, match=r"--plugins .*gone.py: no such file"):
        registry.load_plugins(str(tmp_path / "gone.py"))
    (tmp_path / "json.py").write_text("")
    with pytest.raises(ValueError, match="found a module called json already"):
        registry.load_plugins(str(tmp_path / "json.py"))


ELSEWHERE = """
import sys
if {absent}:
    sys.modules["hf_ser"] = None
from transformers import pipeline
ask = pipeline("audio-classification", model={folder!r}, trust_remote_code=True)
answer = ask({clip!r}, text="this is all")
print("ANSWER", type(ask.model.head).__module__, *(f"{{one['label']}}={{one['score']:.6f}}" for one in answer))
"""


@pytest.mark.slow
def test_own_parts_from_recordings_to_an_answer_where_their_file_is_not(tmp_path):
    import numpy as np
    import soundfile as sf

    draw = np.random.default_rng(0)
    for index in range(36):
        label = ("angry", "sad")[index % 2]
        tone = np.sin(2 * np.pi * (200 + 300 * (index % 2)) * np.arange(16_000) / 16_000) * draw.uniform(0.2, 1, 16_000)
        (tmp_path / "wavs").mkdir(exist_ok=True)
        sf.write(tmp_path / "wavs" / f"{'abcdef'[index // 6]}_{label}_{index}.wav", 0.3 * tone, 16_000)
    (tmp_path / "own").mkdir()
    file = own_file(tmp_path / "own", "own_whole")
    run = tmp_path / "run"
    environment = {
        **os.environ,
        "HF_SER_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
    }

    def script(name, *arguments) -> str:
        command = [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        return done.stdout

    own = ("--corpus", "own_whole_tones", "--data_dir", tmp_path / "wavs", "--protocol", "own_whole_last_speaker")
    fast = (
        "--audio_model",
        "crnn",
        "--num_train_epochs",
        "2",
        "--disable_tqdm",
        "true",
        "--early_stopping_patience",
        "0",
    )
    script("train_fusion", "--plugins", file, *own, "--fusion", "own_whole_product", *fast, "--output_dir", run)
    folder, clip = run / "fold_1", tmp_path / "wavs" / "a_sad_1.wav"
    record = json.loads((folder / "training_record.json").read_text())
    assert record["settings"]["fusion"] == "own_whole_product" and record["protocol"] == "own_whole_last_speaker"
    said = json.loads(
        script("predict", folder, clip, "--text", "this is all", "--json", "--plugins", folder / file.name)
    )
    file.unlink()
    for absent in (True, False):
        code = ELSEWHERE.format(absent=absent, folder=str(folder), clip=str(clip))
        apart = {**environment, "HF_MODULES_CACHE": str(tmp_path / f"modules{absent}")}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=apart)
        assert done.returncode == 0, done.stderr[-3000:]
        (answer,) = [line for line in done.stdout.splitlines() if line.startswith("ANSWER")]
        home, *scores = answer.split()[1:]
        assert home.endswith("own_whole")
        for score in scores:
            label, value = score.split("=")
            assert float(value) == pytest.approx(said["scores"][label], abs=1e-6)
