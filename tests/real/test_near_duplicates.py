"""Near-identical clips of the real RAVDESS: how many siblings are found, and how many strangers are taken for one.

`pytest -s` prints the table that the docstring of hf_ser.data.fingerprint sums up. The constants there were chosen on
actors 1 to 10; the siblings here are of actors 11 to 20. Strangers are all pairs of the 1,200 clips, both halves apart.
"""

import time
from io import BytesIO
from itertools import combinations

import numpy as np
import pytest
import soundfile as sf
import torch
from scipy.signal import fftconvolve
from shared_data import SHARED
from torchaudio import functional as audio

from hf_ser.data.fingerprint import fingerprint, similar_pairs
from hf_ser.data.schema import SAMPLING_RATE
from hf_ser.models.decoding import decode_audio

RAVDESS = SHARED / "data" / "ravdess"

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        not RAVDESS.is_dir(), reason=f"no data/ravdess under {SHARED}: name its folder in HF_SER_SHARED"
    ),
]

TWINS = ("03-01-03-01-02-01-07", "03-01-03-01-02-02-07")
SIBLINGS = 120
"""Clips that each change is made to."""


def codec(container, subtype, clip):
    """There and back at the lowest bit rate that libsndfile offers."""
    buffer = BytesIO()
    sf.write(buffer, clip, SAMPLING_RATE, format=container, subtype=subtype, compression_level=0.99)
    return sf.read(BytesIO(buffer.getvalue()), dtype="float32")[0]


def mp3(clip):
    return codec("MP3", "MPEG_LAYER_III", clip)


def resampled(clip, rate, back=SAMPLING_RATE):
    return audio.resample(audio.resample(torch.from_numpy(clip), SAMPLING_RATE, rate), rate, back).numpy()


def telephone(clip):
    coded = audio.mu_law_encoding(audio.resample(torch.from_numpy(clip), SAMPLING_RATE, 8000).clamp(-1, 1), 256)
    return audio.resample(audio.mu_law_decoding(coded, 256), 8000, SAMPLING_RATE).numpy()


def clipped(clip, decibels):
    return np.clip(clip / np.abs(clip).max() * 10 ** (decibels / 20), -1, 1)


def on_bits(clip, bits):
    return np.round(clip * 2 ** (bits - 1)) / 2 ** (bits - 1)


def cut(clip, before, after=0.0):
    return clip[int(before * len(clip)) : len(clip) - int(after * len(clip))]


def cut_one_side(clip, rng):
    return cut(clip, *rng.permutation([rng.uniform(0.1, 0.4), 0]))


def mixed(clip, noise, snr):
    return clip + noise * np.sqrt(np.mean(clip**2) / np.mean(noise**2)) * 10 ** (-snr / 20)


def white(clip, snr, rng):
    return mixed(clip, rng.standard_normal(len(clip)), snr)


def babble(clip, rng, voices):
    chosen = [voices[i] for i in rng.choice(len(voices), 4, replace=False)]
    return mixed(clip, sum(np.resize(np.roll(v / v.std(), rng.integers(len(v))), len(clip)) for v in chosen), 10)


def reverberant(clip, rng):
    """A direct sound and a tail 6 dB under it that falls by 60 dB in 0.3 s."""
    time_seconds = np.arange(int(0.3 * SAMPLING_RATE)) / SAMPLING_RATE
    tail = rng.standard_normal(len(time_seconds)) * 10 ** (-3 * time_seconds / 0.3) * (time_seconds > 0.003)
    tail *= 0.5 / np.sqrt((tail**2).sum())
    tail[0] = 1
    return fftconvolve(clip, tail)[: len(clip)]


def filtered(kind, clip, hertz):
    return kind(torch.from_numpy(clip), SAMPLING_RATE, hertz).numpy()


def semitone(clip, up):
    """Pitch moved by 18/17, 0.99 semitones, at the same tempo."""
    window, ratio = torch.hann_window(512), 18 / 17 if up else 17 / 18
    spectrum = torch.stft(torch.from_numpy(clip), 512, 128, window=window, return_complex=True)
    slower = audio.phase_vocoder(spectrum, 1 / ratio, torch.linspace(0, np.pi * 128, 257)[:, None])
    return audio.resample(torch.istft(slower, 512, 128, window=window), *((18, 17) if up else (17, 18))).numpy()


REQUIRED = {
    "MP3, lowest rate": lambda x, rng, voices: mp3(x),
    "OGG Vorbis, lowest rate": lambda x, rng, voices: codec("OGG", "VORBIS", x),
    "telephone, 8 kHz mu-law": lambda x, rng, voices: telephone(x),
    "to 22,050 Hz and back": lambda x, rng, voices: resampled(x, 22_050),
    "to 11,025 Hz and back": lambda x, rng, voices: resampled(x, 11_025),
    "8 bits of its own peak": lambda x, rng, voices: on_bits(x / np.abs(x).max(), 8),
    "gain -20 to 0 dB, 16 bits": lambda x, rng, voices: on_bits(x * 10 ** rng.uniform(-1, 0), 16),
    "clipped by 0 to 12 dB": lambda x, rng, voices: clipped(x, rng.uniform(0, 12)),
    "10-40 % off one side": lambda x, rng, voices: cut_one_side(x, rng),
    "10-40 % off both sides": lambda x, rng, voices: cut(x, *rng.uniform(0.1, 0.4, 2)),
    "middle third alone": lambda x, rng, voices: cut(x, 1 / 3, 1 / 3),
    "0.05-1.5 s zeros before": lambda x, rng, voices: np.pad(x, (rng.integers(800, 24_000), 0)),
    "white noise 20 dB": lambda x, rng, voices: white(x, 20, rng),
    "white noise 10 dB": lambda x, rng, voices: white(x, 10, rng),
    "white noise 5 dB": lambda x, rng, voices: white(x, 5, rng),
    "babble of four 10 dB": lambda x, rng, voices: babble(x, rng, voices),
    "reverberation 0.3 s": lambda x, rng, voices: reverberant(x, rng),
    "low-pass 1.5-4 kHz": lambda x, rng, voices: filtered(audio.lowpass_biquad, x, rng.uniform(1500, 4000)),
    "high-pass 200-600 Hz": lambda x, rng, voices: filtered(audio.highpass_biquad, x, rng.uniform(200, 600)),
    "cut, noise 15 dB, gain, MP3": lambda x, rng, voices: mp3(
        clipped(white(cut_one_side(x, rng), 15, rng), rng.uniform(-20, 6)).astype(np.float32)
    ),
}
REPORTED = {
    "8 bits of full scale": lambda x, rng, voices: on_bits(x, 8),
    "middle third cut out": lambda x, rng, voices: np.concatenate([cut(x, 0, 2 / 3), cut(x, 2 / 3)]),
    "middle second alone": lambda x, rng, voices: x[len(x) // 2 - 8000 : len(x) // 2 + 8000],
    "middle half second alone": lambda x, rng, voices: x[len(x) // 2 - 4000 : len(x) // 2 + 4000],
    "speed 0.9": lambda x, rng, voices: audio.resample(torch.from_numpy(x), 9, 10).numpy(),
    "speed 1.1": lambda x, rng, voices: audio.resample(torch.from_numpy(x), 11, 10).numpy(),
    "pitch by a semitone": lambda x, rng, voices: semitone(x, rng.random() < 0.5),
}


@pytest.fixture(scope="module")
def clips():
    return {file.stem: decode_audio(file) for file in sorted(RAVDESS.rglob("*.flac"))}


@pytest.fixture(scope="module")
def prints(clips):
    begin = time.process_time()
    found = {name: fingerprint(clip) for name, clip in clips.items()}
    seconds = sum(map(len, clips.values())) / SAMPLING_RATE
    print(f"\n{(time.process_time() - begin) / len(clips) * 1000:.1f} ms a clip, ", end="")
    print(f"{sum(map(len, found.values())) / seconds:.0f} bytes a second of sound")
    return found


def test_of_all_pairs_of_clips_only_the_known_twins_are_found(prints):
    names = list(prints)
    repetitions = [(a, b) for a, b in combinations(names, 2) if a[:15] + a[18:] == b[:15] + b[18:]]
    begin = time.process_time()
    found = {(names[i], names[j]): score for i, j, score in similar_pairs(list(prints.values()))}
    print(f"\nsimilar_pairs of {len(names)} clips: {time.process_time() - begin:.1f} s")
    strangers = set(found) - {TWINS}
    print(f"false alarms: {len(strangers)} of {len(names) * (len(names) - 1) // 2 - 1} pairs, of which ", end="")
    print(f"{len(strangers & set(repetitions))} of {len(repetitions) - 1} repetitions of a sentence by its actor")
    assert len(repetitions) == 600
    assert found == {TWINS: 1.0}


def test_siblings_of_actors_not_used_for_tuning_are_found(clips, prints):
    unseen = [name for name in clips if int(name[-2:]) > 10]
    names, recalls, false_alarms, pairs = list(clips), {}, [], 0
    voices = [clips[name] for name in unseen]
    for number, (title, change) in enumerate({**REQUIRED, **REPORTED}.items()):
        rng = np.random.default_rng(number)
        chosen = rng.choice(unseen, SIBLINGS, replace=False).tolist()
        changed = [fingerprint(change(clips[name], rng, voices).astype(np.float32)) for name in chosen]
        parts = [0] * len(names) + [1] * SIBLINGS
        found = similar_pairs([*prints.values(), *changed], parts)
        hits = [(names[i], chosen[j - len(names)]) for i, j, _ in found]
        recalls[title] = sum(a == b for a, b in hits) / SIBLINGS
        if not title.startswith("babble"):  # where the voices that babble are rightly found too
            pairs += SIBLINGS * (len(names) - 1)
            false_alarms += [(title, *hit) for hit in hits if hit[0] != hit[1] and set(hit) != set(TWINS)]
        print(f"{title:<30} {'required' if title in REQUIRED else 'reported'} recall {recalls[title]:.3f}")
    overall = np.mean([recalls[title] for title in REQUIRED])
    print(
        f"recall {overall:.4f} of {SIBLINGS * len(REQUIRED)} required siblings; false alarms {false_alarms} of {pairs}"
    )
    assert overall >= 0.97
    assert min(recalls[title] for title in REQUIRED) >= 0.9
    assert len(false_alarms) <= 1e-5 * pairs
