"""The synthetic corpus: equal bytes in every run, valid audio, and neither audio nor text reveals the label."""

import hashlib
import io
import os
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import soundfile
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hf_ser.data.corpora import synthetic
from hf_ser.data.schema import REFERENCE, SAMPLING_RATE, SEXES

AROUSED = np.array([True, True, False, False])  # of angry, happy, neutral, sad


@pytest.fixture(scope="module")
def listing():
    return synthetic.list_utterances()


@pytest.fixture(scope="module")
def waves(listing):
    return [soundfile.read(io.BytesIO(utterance.audio))[0] for utterance in listing.utterances]


@pytest.fixture(scope="module")
def log_probabilities(listing, waves):
    """Of each label on unseen speakers, `(480, 4)`, by the modality of the probe."""
    counts = CountVectorizer().fit_transform([utterance.transcript for utterance in listing.utterances]).toarray()
    return {
        "audio": _probe(listing, np.array([_functionals(wave) for wave in waves]), C=0.3),
        "spectrum": _probe(listing, np.array([_log_spectrum(wave) for wave in waves]), C=0.01),
        "text": _probe(listing, counts.astype(float), C=0.1),
    }


def _probe(listing, features, C):  # noqa: N803
    return cross_val_predict(
        make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=2000)),
        features,
        _targets(listing),
        groups=[utterance.speaker for utterance in listing.utterances],
        cv=GroupKFold(6),
        method="predict_log_proba",
    )


def _targets(listing):
    return np.array([listing.labels.index(utterance.label) for utterance in listing.utterances])


def _power(wave, fft_size=1024):
    """Of frames of 32 ms every 10 ms, `(frames, frequencies)`."""
    frames = np.lib.stride_tricks.sliding_window_view(wave, 512)[::160] * np.hanning(512)
    return np.abs(np.fft.rfft(frames, fft_size)) ** 2


def _functionals(wave):
    """Energy, tilt and pitch over the loud frames, and duration, `(16,)`."""
    power = _power(wave)
    energy = np.log(power.sum(axis=1))
    tilt = np.log(power[:, 64:].sum(axis=1) / power[:, :64].sum(axis=1))  # above against below 1 kHz
    period = 32 + np.fft.irfft(power, axis=1)[:, 32:240].argmax(axis=1)
    loud = energy > energy.max() - 5
    tracks = [track[loud] for track in (energy, tilt, -np.log2(period))]
    return np.r_[
        np.concatenate([[track.mean(), track.std(), *np.percentile(track, [10, 50, 90])] for track in tracks]),
        np.log(len(wave)),
    ]


def _log_spectrum(wave):
    """Mean and standard deviation of the log power in about 30 mel-spaced bands."""
    mels = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 33)
    edges = np.unique(np.round(700 * (10 ** (mels / 2595) - 1) / 8000 * 256).astype(int))
    bands = np.log(np.add.reduceat(_power(wave, 512), edges[:-1], axis=1) + 1e-8)
    return np.r_[bands.mean(axis=0), bands.std(axis=0)]


def _uar(listing, scores):
    return recall_score(_targets(listing), scores.argmax(axis=1), average="macro")


def _valence_accuracy(listing, scores):
    """How often the right one is found of the two labels that share the utterance's arousal."""
    targets = _targets(listing)
    within = np.where(AROUSED[targets, None] == AROUSED, scores, -np.inf)
    return np.mean(within.argmax(axis=1) == targets)


def _arousal_accuracy(listing, scores):
    return np.mean(AROUSED[scores.argmax(axis=1)] == AROUSED[_targets(listing)])


def test_counts_are_balanced(listing):
    utterances = listing.utterances
    assert listing.labels == ("angry", "happy", "neutral", "sad")
    assert listing.findings == []
    assert len(utterances) == len({utterance.id for utterance in utterances}) == 480
    per_cell = Counter((utterance.speaker, utterance.label) for utterance in utterances)
    assert len(per_cell) == 48 and set(per_cell.values()) == {10}
    speakers_of = {sex: {utterance.speaker for utterance in utterances if utterance.sex == sex} for sex in SEXES}
    assert [len(speakers) for speakers in speakers_of.values()] == [6, 6]
    assert not speakers_of["female"] & speakers_of["male"]


def test_columns(listing):
    for utterance in listing.utterances:
        assert re.fullmatch(r"synthetic/s(0[1-9]|1[0-2])_0([0-3]\d|40)", utterance.id)
        assert utterance.id.startswith(f"{utterance.speaker}_")
        assert utterance.corpus == "synthetic"
        assert 3 <= len(utterance.transcript.split()) <= 5
        assert utterance.transcript_source == REFERENCE
        assert utterance.votes is None


def test_place_in_the_list_says_nothing_about_the_label(listing):
    sequences = [
        tuple(utterance.label for utterance in listing.utterances[start : start + 40]) for start in range(0, 480, 40)
    ]
    assert len(set(sequences)) == 12
    at_most = max(max(Counter(labels).values()) for labels in zip(*sequences, strict=True))
    assert at_most < 10, "one clip number has the same label for nearly every speaker"


def test_same_bytes_alone_and_under_another_hash_seed(listing):
    assert synthetic.utterance(7, 23) == listing.utterances[6 * 40 + 22]
    script = (
        "import hashlib; from hf_ser.data.corpora import synthetic; u = synthetic.utterance(12, 40);"
        "print(u.id, u.label, hashlib.sha256(u.audio).hexdigest(), u.transcript, sep='|')"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    output = subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True)
    last = listing.utterances[-1]
    expected = [last.id, last.label, hashlib.sha256(last.audio).hexdigest(), last.transcript]
    assert output.stdout.strip().split("|") == expected


def test_audio_is_mono_16_bit_and_in_range(listing, waves):
    assert len({utterance.audio for utterance in listing.utterances}) == 480
    for utterance, wave in zip(listing.utterances, waves, strict=True):
        info = soundfile.info(io.BytesIO(utterance.audio))
        assert (info.samplerate, info.channels, info.subtype, info.format) == (SAMPLING_RATE, 1, "PCM_16", "WAV")
        assert 0.7 <= len(wave) / SAMPLING_RATE <= 1.8
        assert 0.05 < np.abs(wave).max() < 0.95
        assert wave[0] != 0


def test_noise_floor_differs_from_clip_to_clip(waves):
    # Every clip begins with at least 40 ms before the first word.
    floors_db = np.array([20 * np.log10(np.sqrt(np.mean(wave[:560] ** 2))) for wave in waves])
    assert floors_db.min() > -71 and floors_db.max() < -60
    assert 1 < floors_db.std() < 3


def test_no_word_belongs_to_a_label(listing):
    labels_by_word = {}
    for utterance in listing.utterances:
        for word in set(utterance.transcript.split()):
            labels_by_word.setdefault(word, Counter())[utterance.label] += 1
    leaning = {word for words in synthetic.LEANING.values() for word in words}
    assert set(labels_by_word) == leaning | set(synthetic.INVENTED)
    shares = {word: max(labels.values()) / labels.total() for word, labels in labels_by_word.items()}
    assert max(shares.values()) < 0.9
    assert max(shares[word] for word in synthetic.INVENTED) < 0.5
    assert 0.08 < np.mean([not leaning & set(utterance.transcript.split()) for utterance in listing.utterances]) < 0.25


def test_audio_and_text_give_about_two_thirds_each_and_more_together(listing, log_probabilities):
    uar = {name: _uar(listing, scores) for name, scores in log_probabilities.items()}
    together = _uar(listing, log_probabilities["audio"] + log_probabilities["text"])
    assert 0.6 < uar["audio"] < 0.82
    assert 0.58 < uar["spectrum"] < 0.82
    assert 0.57 < uar["text"] < 0.77
    assert max(uar.values()) + 0.05 < together < 0.97


def test_audio_shows_arousal_and_text_valence(listing, log_probabilities):
    audio, text = log_probabilities["audio"], log_probabilities["text"]
    assert _arousal_accuracy(listing, audio) > 0.88 > _arousal_accuracy(listing, text) + 0.05
    assert _valence_accuracy(listing, text) > _valence_accuracy(listing, audio) + 0.05


def test_a_folder_is_refused(tmp_path):
    text = r"synthetic needs no --data_dir: found '.*', expected none, .* leave --data_dir out"
    with pytest.raises(ValueError, match=text):
        synthetic.list_utterances(tmp_path)


@pytest.mark.parametrize("speaker, clip", [(0, 1), (13, 1), (1, 0), (1, 41)])
def test_a_clip_that_is_not_there(speaker, clip):
    text = rf"no clip {clip} of speaker {speaker}: expected a speaker from 1 to 12 and a clip from 1 to 40"
    with pytest.raises(ValueError, match=text):
        synthetic.utterance(speaker, clip)
