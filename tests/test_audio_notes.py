"""What is noted of a clip: the same by the pipeline, also where hf_ser is absent, by predict.py and in a data set."""

import os
import subprocess
import sys

import calls
import numpy as np
import pytest
import soundfile as sf
import torch
from models.tiny import audio_only, fused, save_trained
from scipy.signal import butter, sosfilt
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForSequenceClassification

from hf_ser.data.audio import read_clip
from hf_ser.data.corpora import synthetic
from hf_ser.data.integrity import clip_findings
from hf_ser.models import SerPipeline
from hf_ser.models.audio_notes import no_speech
from hf_ser.models.decoding import decode_audio

RATE = 16_000


def white(seconds: float = 2.0, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(int(seconds * RATE))


def coloured(power: float, seconds: float = 2.0) -> np.ndarray:
    spectrum = np.fft.rfft(white(seconds))
    return 0.1 * np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 1) ** power)


def silence_around(clip: np.ndarray) -> np.ndarray:
    return np.pad(clip, RATE)


STEADY = {
    "white": white(),
    "half a second": white(0.5, seed=3),
    "pink": coloured(0.5),
    "brown": coloured(1.0),
    "a band": sosfilt(butter(4, (800, 1200), "bandpass", fs=RATE, output="sos"), white()),
    "over the telephone": calls.telephone(white()),
    "a low tone": calls.tones(110, seconds=2.0),
    "a high tone": calls.tones(5000, seconds=2.0),
    "two tones": calls.tones(350, 440, seconds=3.0),
    "hum": calls.hum(np.zeros(2 * RATE), -20),
    "hum in hiss": calls.hiss(calls.hum(np.zeros(2 * RATE), -20), 0, -30),
    "a tone with silence around": silence_around(calls.tones(440, seconds=1.0)),
    "noise with silence around": silence_around(white()),
}


@pytest.mark.parametrize("name", STEADY)
@pytest.mark.parametrize("gain", [1.0, 0.003])
def test_steady_tones_and_noise_are_no_speech(name, gain):
    assert no_speech(gain * STEADY[name]).startswith("no speech found: a steady tone or noise")


def in_noise(clip: np.ndarray, decibels: float, seed: int = 0) -> np.ndarray:
    noise = white(len(clip) / RATE, seed)[: len(clip)]
    return clip + noise * np.sqrt((clip**2).mean() / (noise**2).mean() / 10 ** (decibels / 10))


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x,
        lambda x: in_noise(x, 5),
        calls.telephone,
        lambda x: calls.telephone(in_noise(x, 5)),
        lambda x: x / 99,
    ],
    ids=["clean", "noise", "telephone", "noise over the telephone", "quiet"],
)
def test_voices_are_speech(change):
    for seed in range(8):
        assert no_speech(change(calls.voice(seed, 2.5))) is None
        generated = decode_audio({"bytes": synthetic.utterance(seed + 1, 3).audio}).astype(np.float64)
        assert no_speech(change(generated)) is None


@pytest.mark.parametrize("seconds", [0.005, 0.03, 0.08])
def test_a_click_or_a_knock_is_no_speech(seconds):
    length = int(8 * seconds * RATE)
    knock = np.random.default_rng(0).standard_normal(length) * np.exp(-np.arange(length) / (seconds * RATE / 3 * 8 / 3))
    clip = 0.001 * white(2.0)
    clip[8000 : 8000 + length] += 0.3 * knock * (np.arange(length) < seconds * RATE)
    assert no_speech(clip).startswith("no speech found: a short noise such as a click")


def test_what_is_short_or_comes_and_goes_is_left_alone():
    assert no_speech(white(0.3)) is None
    assert no_speech(np.zeros(0)) is None and no_speech(np.zeros(RATE)) is not None
    assert no_speech(calls.dialled("0123456")) is None
    assert no_speech(calls.music(3.0)) is None


def test_a_long_clip_is_measured_in_blocks_alike():
    one = white(1.0)
    long = np.tile(one, 30)
    assert no_speech(long) is not None
    assert no_speech(np.concatenate([long, calls.voice(0, 4.0)])) is None


@pytest.fixture(scope="module")
def ask():
    model, extractor = audio_only("crnn")
    return SerPipeline(model=model, feature_extractor=extractor, task="audio-classification")


def written(folder, name: str, samples, **options):
    sf.write(folder / name, samples, RATE, **options)
    return str(folder / name)


def odd_files(folder) -> dict[str, str]:
    """A file for each kind of note."""
    voice = calls.voice(1, 2.0)
    files = {
        "cancelling_channels": written(folder, "c.wav", np.stack([voice, -voice], 1) / 2),
        "scaled": written(folder, "s.wav", voice * 20_000, subtype="FLOAT"),
        "over_full_scale": written(folder, "o.wav", voice * 1.5, subtype="FLOAT"),
        "quiet": written(folder, "q.wav", voice * 2e-4, subtype="PCM_24"),
        "cut": written(folder, "l.wav", calls.voice(2, 5.0)),
        "no_speech": written(folder, "n.wav", white()),
        "truncated": str(folder / "t.wav"),
    }
    content = (folder / "l.wav").read_bytes()
    (folder / "t.wav").write_bytes(content[: len(content) // 3])
    return files


def test_the_pipeline_warns_of_each_kind_once_with_the_texts_of_a_data_set(ask, tmp_path):
    for kind, file in odd_files(tmp_path).items():
        with pytest.warns(UserWarning) as warned:
            answer = ask(file)
        assert len(warned) == len(answer.notes) == 1, kind
        assert str(warned[0].message) == f"{file}: {answer.notes[0]}"
        assert warned[0].filename == "hf_ser"  # no path of this package
        if kind not in ("cut", "no_speech"):
            found = {finding.kind: finding.detail for finding in clip_findings(file, read_clip(file))}
            assert answer.notes[0] == f"{kind.replace('_', ' ')}, {found[kind]}"
        assert answer.unsure == (kind == "no_speech")
        assert [set(one) for one in answer] == [{"label", "score"}] * 3


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_answers_of_a_batch_have_their_own_notes(ask, tmp_path):
    files = odd_files(tmp_path)
    good = written(tmp_path, "good.wav", calls.voice(3, 2.0))
    first, second, third = ask([files["no_speech"], good, files["scaled"]], batch_size=2)
    assert (first.unsure, second.unsure, third.unsure) == (True, False, False)
    assert (len(first.notes), second.notes, len(third.notes)) == (1, (), 1)
    ask.model.config.abstain_threshold = 1.0
    try:
        assert all(ask(good, function_to_apply=name).unsure for name in ("softmax", "sigmoid", "none"))
    finally:
        ask.model.config.abstain_threshold = None


ALONE = """
import sys, warnings
sys.modules["hf_ser"] = None
from transformers import pipeline
ask = pipeline("audio-classification", model=sys.argv[1], trust_remote_code=True)
for file in sys.argv[2:]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        answer = ask(file)
    print("FOUND", answer.unsure, [str(one.message) for one in caught if issubclass(one.category, UserWarning)])
"""


@pytest.mark.slow
def test_a_saved_pipeline_notes_the_same_where_hf_ser_is_absent(tmp_path):
    model = save_trained("audio", tmp_path / "model")
    files = odd_files(tmp_path)
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules")}
    command = [sys.executable, "-c", ALONE, str(model), files["no_speech"], files["cancelling_channels"], files["cut"]]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    found = [line for line in done.stdout.splitlines() if line.startswith("FOUND")]
    assert len(found) == 3, done.stderr[-2000:]
    assert "FOUND True" in found[0] and "no speech found" in found[0]
    assert "cancelling channels" in found[1] and "only the first 3 s count" in found[2]


def test_a_warning_cannot_control_a_terminal(ask, tmp_path):
    file = written(tmp_path, "\x1b[31mred\u202e.wav", white())
    with pytest.warns(UserWarning) as warned:
        ask(file)
    assert r"\x1b[31mred\u202e.wav" in str(warned[0].message)


@pytest.mark.parametrize(
    ("samples", "options", "expected"),
    [
        (np.stack([calls.voice(1, 1.0), np.zeros(RATE)], 1), {"channel": "right"}, "right channel.*another channel"),
        (np.append(calls.voice(1, 1.0), np.nan), {}, "NaN or infinity.*export it again"),
        (calls.voice(1, 0.05), {}, "too short.*give a longer clip"),
        (np.zeros(RATE), {}, "silence.*check which file"),
    ],
)
def test_a_refusal_names_the_remedy_of_its_kind(samples, options, expected, ask, tmp_path):
    file = written(tmp_path, "x.wav", samples, subtype="FLOAT")
    with pytest.raises(ValueError, match=rf"x\.wav: .*expected speech, found .*{expected}") as error:
        ask(file, **options)
    assert "record it again" not in str(error.value)


def test_nothing_is_no_clip(ask):
    with pytest.raises(ValueError, match="inputs is None: expected audio"):
        ask(None)
    with pytest.raises(ValueError, match="A clip is None"):
        ask([calls.voice(1, 1.0), None])
    model, processor = fused()
    both = SerPipeline(
        model=model,
        feature_extractor=processor.feature_extractor,
        tokenizer=processor.tokenizer,
        task="audio-classification",
    )
    assert len(both([None], text=["hello you"])) == 1
    for text in (None, [""], [None]):
        with pytest.raises(ValueError, match="A clip is None and has no text"):
            both([None], text=text)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_stock_classifier_in_half_precision_gets_its_input_in_it(dtype):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    layers = {"conv_dim": (16, 16), "conv_kernel": (10, 3), "conv_stride": (5, 4), "num_conv_pos_embeddings": 16}
    groups = {"num_conv_pos_embedding_groups": 4, "mask_time_prob": 0.0}
    model = Wav2Vec2ForSequenceClassification(Wav2Vec2Config(**sizes, **layers, **groups, num_labels=3)).eval()
    parts = {"feature_extractor": Wav2Vec2FeatureExtractor(), "task": "audio-classification"}
    clip = calls.voice(1, 1.0).astype(np.float32)
    whole = {one["label"]: one["score"] for one in SerPipeline(model=model, **parts)(clip)}
    half = SerPipeline(model=model.to(dtype), **parts)([clip, clip], batch_size=2)[1]
    assert {one["label"]: one["score"] for one in half} == pytest.approx(whole, abs=0.02)
