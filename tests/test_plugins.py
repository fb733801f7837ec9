"""Own parts in a file outside the package: they train, are saved with the model, and load where the file is not."""

import json
import os
import re
import subprocess
import sys
import textwrap
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from models.tiny import LABELS, awaken, clips, fused
from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2BertConfig

from hf_ser import registry
from hf_ser.data.corpora import CORPORA
from hf_ser.data.plans import Plan
from hf_ser.data.protocols import PROTOCOLS
from hf_ser.data.schema import Listing, Utterance
from hf_ser.data.splitting import make_folds
from hf_ser.models import (
    FAMILIES,
    PRESETS,
    SerConfig,
    SerModelForClassification,
    SerProcessor,
    WaveformFeatureExtractor,
)
from hf_ser.models.saving import copy_code, portable_source
from hf_ser.publish.privacy import model_files
from hf_ser.runs.folder import FoldFolder
from hf_ser.training.arguments import AudioArguments
from hf_ser.training.building import label_maps
from hf_ser.training.pretrained import load_audio_encoder

ROOT = Path(__file__).parents[1]
OWN = '''
"""Two voices of generated tones, and a head that multiplies."""

import sys
from pathlib import Path

import torch

from hf_ser import register
from hf_ser.augment.specification import Change
from hf_ser.data.plans import Plan
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


register("change", "{name}", Change(lambda samples, *_: samples / 2, 0.5, None, None, (0, 0), "", "Half as loud."))


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
    places = [getattr(import_module(module), name) for module, name in registry.PLACES.values()] + [PRESETS]
    before = [dict(one) for one in places]
    monkeypatch.setattr(registry, "_files", {})
    monkeypatch.setenv(registry.VARIABLE, "")
    yield
    for one, old in zip(places, before, strict=True):
        one.clear()
        one.update(old)


def test_a_file_registers_its_parts_once(tmp_path, forgotten):
    file = own_file(tmp_path, "own_once")
    registry.load_plugins(str(file))
    registry.load_plugins(str(file))
    assert CORPORA["own_once_tones"].LICENCE == "CC0" and "own_once_last_speaker" in PROTOCOLS
    assert len(registry.plugin_digests()) == 1
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


BLOCKS = re.findall(r"^( *)```python\n(.*?)^\1```", (ROOT / "hf_ser" / "README.md").read_text(), re.M | re.S)
MANUAL = [textwrap.dedent(text) for _, text in BLOCKS if "register(" in text]


def test_the_manuals_own_parts_work(tmp_path, forgotten):
    for number, text in enumerate(MANUAL):
        (tmp_path / f"manual_{number}.py").write_text(text)
        registry.load_plugins(str(tmp_path / f"manual_{number}.py"))
        portable_source(tmp_path / f"manual_{number}.py")
    assert len(MANUAL) == 4 and "mine" in CORPORA and "leave_one_sex_out" in PROTOCOLS
    encoder = load_audio_encoder(AudioArguments(audio_model="mean_over_time"))[0]
    config = SerConfig(audio_config=encoder.config, **label_maps(LABELS))
    assert_alone_as_padded(SerModelForClassification(config), SerProcessor(WaveformFeatureExtractor(max_seconds=3)))
    model, processor = fused(fusion="product")
    model.save_pretrained(tmp_path / "fused")
    assert (tmp_path / "fused" / "manual_0.py").is_file()
    assert_alone_as_padded(model, processor)


def test_an_own_family_is_fed_masked_and_saved(tmp_path, forgotten):
    (source,) = [text for text in MANUAL if "W2vBert" in text]
    (tmp_path / "own_family.py").write_text(source)
    registry.load_plugins(str(tmp_path / "own_family.py"))
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = Wav2Vec2BertConfig(**sizes, feature_projection_input_dim=160, conv_depthwise_kernel_size=3, layerdrop=0.0)
    torch.manual_seed(0)
    model = SerModelForClassification(SerConfig(audio_config=config, **label_maps(LABELS)))
    assert_alone_as_padded(model, SerProcessor(SeamlessM4TFeatureExtractor()))
    model.save_pretrained(tmp_path / "model")
    assert "Family" in (tmp_path / "model" / "own_family.py").read_text()
    assert FAMILIES["wav2vec2-bert"].lora_targets.startswith("linear_q")


def assert_alone_as_padded(model, processor) -> None:
    """Check that a clip gives the same answer alone as in a padded batch."""
    awaken(model)
    texts = ["hello you", "what a day", None] if processor.tokenizer is not None else None
    sounds = clips(1.0, 1.9, 0.35)
    with torch.no_grad():
        batch = model(**processor(sounds, texts)).logits
        alone = [model(**processor([one], texts and [texts[row]])).logits for row, one in enumerate(sounds)]
    assert batch.std(0).min() > 1e-4
    torch.testing.assert_close(batch, torch.cat(alone), atol=2e-5, rtol=0)


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
    ("line", "said"),
    [
        ("raise KeyError('nope')", "own_bad.py, line 1: KeyError: 'nope'"),
        ("import sys; sys.exit(3)", "own_bad.py, line 1: SystemExit: 3"),
        ("def (:", "own_bad.py, line 1: SyntaxError"),
    ],
)
def test_a_file_that_raises_is_named_with_its_line(tmp_path, line, said, forgotten):
    (tmp_path / "own_bad.py").write_text(f"{line}\n")
    with pytest.raises(ValueError, match=said):
        registry.load_plugins(str(tmp_path / "own_bad.py"))


def test_what_own_parts_return_is_checked(tmp_path, forgotten, dataset_of, monkeypatch):
    listing = Listing(("angry",), [Utterance("mine/a", tmp_path / "a.wav", "sad", corpus="mine", speaker="s")])
    for returned, said in (
        (None, "corpus 'mine': found NoneType, expected a Listing"),
        (Listing(("angry",), []), "corpus 'mine': found no utterance in"),
        (listing, "corpus 'mine', mine/a: label is 'sad', expected one of angry"),
        (Listing(("sad",), listing.utterances * 2), "corpus 'mine': 2 utterances have the id 'mine/a'"),
    ):
        checked = registry._checked_corpus("mine", lambda _, returned=returned: returned)
        with pytest.raises(ValueError, match=said):
            checked(tmp_path)
    data = dataset_of([(f"c/{i}", "ab"[i % 2], f"s{i // 4}", "female") for i in range(24)])
    for plans, said in (
        (None, "own: found NoneType, expected a list of Plan"),
        ([Plan(np.array([1000]))], "own, fold 1: the test rows are int64 .*expected positions from 0 to 23"),
        ([Plan(np.arange(24) < 4)], "own, fold 1: the test rows are bool .*for a mask: mask.nonzero"),
    ):
        PROTOCOLS["own"] = lambda rows, plans=plans, **_: plans
        with pytest.raises(ValueError, match=said):
            make_folds(data, "own")
    model, processor = fused()
    for returned, said in ((torch.zeros(1, 3), "found Tensor from its forward"), ((torch.zeros(1, 9), {}), "of shape")):
        monkeypatch.setattr(type(model.head), "forward", lambda *_, returned=returned, **__: returned)
        with pytest.raises(ValueError, match=f"head gated: .*{said}.*expected a pair"):
            model(**processor(clips(0.5), ["hello"]))


@pytest.mark.parametrize(
    ("kind", "name", "thing", "said"),
    [
        ("metric", "mine", object, "expected one of corpus, protocol, change, head, pooling, network, family as"),
        ("head", "gated", type("Head", (), {"forward": 1, "modalities": (2,)}), "there is one of this name already"),
        ("corpus", "mine", object(), "found object without list_utterances, LICENCE"),
        ("head", "2", torch.nn.Identity, "expected a name of"),
        ("change", "Half-Loud", object(), "expected a name of"),
        ("protocol", "mine", lambda rows: [], r"found no \*\*_ among its arguments"),
        ("head", "mine", type("Head", (), {"forward": 1, "modalities": "both"}), "modalities is 'both', expected"),
    ],
)
def test_what_cannot_be_registered_is_said(kind, name, thing, said, forgotten):
    with pytest.raises(ValueError, match=said):
        registry.register(kind, name, thing)


def test_files_that_cannot_be_plugins_are_refused(tmp_path, forgotten):
    with pytest.raises(FileNotFoundError, match=r"--plugins .*gone.py: no such file"):
        registry.load_plugins(str(tmp_path / "gone.py"))
    (tmp_path / "json.py").write_text("")
    with pytest.raises(ValueError, match="another module is called json"):
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
    record = FoldFolder(folder).record
    assert record.settings["fusion"] == "own_whole_product" and record.protocol == "own_whole_last_speaker"
    said = json.loads(
        script("predict", folder, clip, "--text", "this is all", "--json", "--plugins", folder / file.name)
    )
    assert {file.name, "plugins.py"} <= set(model_files(folder)), "both are pushed"
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
