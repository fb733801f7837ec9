"""Each condition changes a clip as its name says, independently of the other rows."""

from functools import partial

import jiwer
import numpy as np
import pytest
from scipy.signal import welch

from hf_ser.augment.changes import codec_problem, encoded, with_codec
from hf_ser.checks.stress.conditions import (
    CONDITIONS,
    NEEDS_AUDIO,
    SEVERITIES,
    Condition,
    OtherRows,
    Sample,
    apply,
    reason_to_skip,
)
from hf_ser.data.prepared import load_prepared
from hf_ser.transcripts.noise import vocabulary_confusions

RATE = 16_000
NAMED = {condition.name: condition for condition in CONDITIONS}
SENTENCE = "the quick brown fox jumps over a lazy dog and runs home again before night falls on all of us"
VOCABULARY = SENTENCE.split()


def voice(seconds: float = 3.0, seed: int = 0) -> np.ndarray:
    """Noise of all frequencies that rises and falls as speech does."""
    draw = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    return (0.05 * draw.standard_normal(len(time)) * (0.1 + np.sin(5 * time) ** 2)).astype(np.float32)


class Company:
    """Other rows with generated clips and texts."""

    def __init__(self):
        self.ids = [f"clip{i}" for i in range(40)]
        self.texts = [" ".join(np.random.default_rng(i).permutation(VOCABULARY)) for i in range(40)]
        self.confusions = vocabulary_confusions(self.texts)
        self.clips_of = {name: [0] for name in "abc"}

    def voices(self, name, generator):
        return [voice(1 + generator.random(), int(generator.integers(1000))) for _ in range(5)]


COMPANY = Company()


def under(name: str, samples=None, text=None, id="clip0", seed=0) -> Sample:
    return apply(NAMED[name], Sample(id, voice() if samples is None else samples, text), seed, COMPANY)


def power(samples) -> float:
    return float(np.mean(np.square(samples, dtype=np.float64)))


def share_above(samples, hertz: float) -> float:
    frequencies, density = welch(samples, RATE, nperseg=512)
    return density[frequencies > hertz].sum() / density.sum()


@pytest.mark.parametrize("snr", [20, 10, 0])
@pytest.mark.parametrize("kind", ["white", "pink", "babble"])
def test_noise_has_the_set_ratio_and_silence_around_a_clip_does_not_change_it(kind, snr):
    clip = np.pad(voice(2.0), (RATE, 2 * RATE))
    noise = under(f"{kind}_{snr}db", clip).samples - clip
    loud = slice(RATE, 3 * RATE)
    found = 10 * np.log10(power(clip[loud]) / power(noise))
    assert found == pytest.approx(snr, abs=0.05)
    assert power(noise[:RATE]) > 0.2 * power(noise)  # there before the clip begins, too


def test_pink_noise_falls_by_three_decibels_an_octave_and_white_does_not():
    clip = voice(20.0)
    slopes = {}
    for kind in ("white", "pink"):
        frequencies, density = welch(under(f"{kind}_0db", clip).samples - clip, RATE, nperseg=2048)
        octaves = [10 * np.log10(density[(frequencies >= f) & (frequencies < 2 * f)].mean()) for f in (250, 4000)]
        slopes[kind] = (octaves[1] - octaves[0]) / 4
    assert slopes == {"white": pytest.approx(0, abs=0.3), "pink": pytest.approx(-3, abs=0.3)}


def test_noise_at_a_ratio_is_refused_for_digital_silence():
    with pytest.raises(ValueError, match="digital silence has no signal-to-noise ratio"):
        under("white_10db", np.zeros(RATE, dtype=np.float32))


def test_level():
    clip = voice()
    for name, gain in (("gain_minus_30db", -30), ("gain_minus_15db", -15)):
        np.testing.assert_allclose(under(name, clip).samples, clip * 10 ** (gain / 20), rtol=1e-5)
    loud = under("gain_plus_15db", clip / np.abs(clip).max()).samples
    assert np.abs(loud).max() == 1
    assert 0.01 < (np.abs(loud) == 1).mean() < 0.5


@pytest.mark.parametrize(("name", "share"), [("clipping_1", 0.01), ("clipping_10", 0.10)])
def test_clipping_cuts_the_set_share_and_leaves_the_rest(name, share):
    clip, flat = voice(), under(name).samples
    changed = flat != clip
    assert changed.mean() == pytest.approx(share, abs=0.001)
    assert np.abs(clip[changed]).min() >= np.abs(flat).max()


@pytest.mark.parametrize(
    ("name", "hertz"),
    [("telephone", 3_700), ("low_pass_4khz", 4_500), ("from_8khz", 4_200), ("gsm", 4_200)],
)
def test_bands_end_where_they_should_and_nothing_is_delayed(name, hertz):
    clip, narrow = voice(), under(name).samples
    assert share_above(clip, hertz) > 0.4
    assert share_above(narrow, hertz) < 0.01
    assert len(narrow) == len(clip)
    lag = np.correlate(narrow[8000:16000], clip[8000:16000], "same").argmax() - 4000
    assert abs(lag) <= 1
    if name == "telephone":
        assert 1 - share_above(narrow, 250) < 0.02


def test_aliasing_folds_what_lay_above_4_khz_under_it():
    time = np.arange(2 * RATE) / RATE
    tone = (0.1 * np.sin(2 * np.pi * 6_000 * time)).astype(np.float32)
    frequencies, density = welch(under("aliased", tone).samples, RATE, nperseg=1600)
    assert frequencies[density.argmax()] == 2_000
    assert power(under("from_8khz", tone).samples) < 1e-4 * power(tone)


@pytest.mark.parametrize("name", [one.name for one in CONDITIONS if one.group == "codec"])
def test_codecs_answer_at_the_clips_own_place_and_length(name):
    """Sines that sweep have one place only where they fit: MP3 at low rates begins 1,105 samples late."""
    if reason := reason_to_skip(NAMED[name], "audio", COMPANY):
        pytest.skip(reason)
    time = np.arange(2 * RATE) / RATE
    clip = (0.3 * np.sin(2 * np.pi * (300 * time + 200 * time**2)) * (time > 0.3)).astype(np.float32)
    decoded = under(name, clip).samples
    assert len(decoded) == len(clip)
    assert not np.array_equal(decoded, clip)
    assert np.corrcoef(decoded, clip)[0, 1] > 0.85


@pytest.mark.parametrize("name", [one.name for one in CONDITIONS if one.group == "codec"])
def test_a_level_that_names_a_bit_rate_keeps_it_for_any_audio(name):
    if reason := reason_to_skip(NAMED[name], "audio", COMPANY):
        pytest.skip(reason)
    settings, level = NAMED[name].change.keywords, NAMED[name].level
    time = np.arange(8 * RATE) / RATE
    tone = (0.3 * np.sin(2 * np.pi * 300 * time)).astype(np.float32)
    rates = []
    for clip in (voice(8.0), tone, np.zeros_like(tone)):
        file = encoded(clip[:: RATE // settings["rate"]], **settings)
        rates.append(8 * len(file) / 8.0 / 1000)
    if "kbit/s" in level:
        assert rates == pytest.approx([float(level.split()[1])] * 3, rel=0.05)
        assert f"_{level.split()[1]}kbit" in name or name == "gsm"
    elif name != "mu_law":
        assert max(rates) > 1.5 * min(rates), "no figure, since there is no one rate"


def test_a_codec_that_libsndfile_lacks_is_named():
    lost = Condition(
        "lost", "codec", "", "mild", "", partial(with_codec, format="OGG", subtype="AMR", rate=RATE), "codec"
    )
    assert "does not write and read OGG AMR" in reason_to_skip(lost, "audio", COMPANY)
    assert codec_problem("WAV", "ULAW", 8_000) is None


@pytest.mark.parametrize(("name", "seconds"), [("room_0.3s", 0.3), ("room_0.6s", 0.6), ("room_1.2s", 1.2)])
def test_rooms_keep_the_direct_signal_and_the_level_and_fall_by_60_db_in_rt60(name, seconds):
    click = np.zeros(2 * RATE, dtype=np.float32)
    click[0] = 0.5
    response = under(name, click).samples
    assert response.argmax() == 0
    assert power(response) == pytest.approx(power(click), rel=1e-3)
    window = int(0.05 * RATE)
    early, late = int(0.1 * seconds * RATE), int(0.8 * seconds * RATE)
    fall = 10 * np.log10(power(response[early : early + window]) / power(response[late : late + window]))
    assert fall == pytest.approx(60 * 0.7, abs=2.5)
    assert np.abs(response[int(seconds * RATE) + 1 :]).max(initial=0) < 1e-7


@pytest.mark.parametrize(
    ("name", "length"),
    [
        ("first_2s", 2.0),
        ("first_1s", 1.0),
        ("last_half", 1.5),
        ("middle_half", 1.5),
        ("speed_0.9", 3 / 0.9),
        ("speed_1.1", 3 / 1.1),
        ("speed_0.75", 4.0),
        ("speed_1.33", 3 / 1.33),
        ("silence_0.5s", 3.5),
        ("silence_2s", 5.0),
        ("taken_for_8khz", 6.0),
        ("taken_for_22khz", 3 * 16 / 22.05),
        ("taken_for_44khz", 3 * 16 / 44.1),
    ],
)
def test_lengths(name, length):
    assert len(under(name).samples) / RATE == pytest.approx(length, abs=1e-3)


def test_cuts_and_silence_are_where_they_should_be():
    clip = voice()
    np.testing.assert_array_equal(under("last_half").samples, clip[len(clip) // 2 :])
    np.testing.assert_array_equal(under("middle_half").samples, clip[RATE * 3 // 4 : RATE * 9 // 4])
    np.testing.assert_array_equal(under("silence_2s").samples[2 * RATE :], clip)
    assert not under("silence_2s").samples[: 2 * RATE].any()
    padded = np.pad(clip, (RATE, RATE))
    np.testing.assert_array_equal(under("no_leading_zeros", padded).samples, padded[RATE:])
    filled = under("no_zeros", padded).samples
    assert (filled != 0).all()
    assert 10 * np.log10(power(filled[:RATE])) == pytest.approx(-70, abs=0.2)
    np.testing.assert_array_equal(filled[RATE:-RATE], clip)


@pytest.mark.parametrize("rate", [8_000, 21_280])
def test_speed_moves_the_pitch(rate):
    time = np.arange(2 * RATE) / RATE
    tone = (0.1 * np.sin(2 * np.pi * 500 * time)).astype(np.float32)
    name = {8_000: "taken_for_8khz", 21_280: "speed_1.33"}[rate]
    frequencies, density = welch(under(name, tone).samples, RATE, nperseg=16_000)
    assert frequencies[density.argmax()] == pytest.approx(500 * rate / RATE, abs=1)


@pytest.mark.parametrize(("name", "wer"), [("wer_0.1", 0.1), ("wer_0.2", 0.2), ("wer_0.4", 0.4)])
def test_words_are_wrong_at_the_set_rate(name, wer):
    changed = [under(name, text=text, id=one).text for one, text in zip(COMPANY.ids, COMPANY.texts, strict=True)]
    assert jiwer.wer(COMPANY.texts, changed) == pytest.approx(wer, abs=0.03)
    assert set(" ".join(changed).split()) <= set(VOCABULARY)


def test_babble_is_of_other_speakers_and_wrong_transcripts_of_other_labels(prepared, monkeypatch):
    dataset = load_prepared(prepared)
    others, speakers = OtherRows(dataset), []

    def decoded(cell):
        speakers.append(cell["path"].split("_")[0])  # of speaker s1: 1_7.wav
        return voice(0.5)

    monkeypatch.setattr("hf_ser.checks.stress.conditions.decode_audio", decoded)
    for row in (0, 20):
        cell = dataset[row]
        speakers.clear()
        apply(NAMED["babble_10db"], Sample(cell["id"], voice(), None), 0, others)
        assert len(speakers) == len(set(speakers)) == 5
        assert cell["speaker"].split("/s")[-1] not in speakers
        other = apply(NAMED["wrong_words"], Sample(cell["id"], None, cell["transcript"]), 0, others).text
        assert cell["label"] not in {row["label"] for row in dataset if row["transcript"] == other}
    two = OtherRows(dataset.select([row for row, name in enumerate(dataset["speaker"][:]) if name[-1] in "12"]))
    assert reason_to_skip(NAMED["babble_10db"], "audio", two) == "babble needs 3 known speakers, found 2"
    turned = OtherRows(dataset.select(range(len(dataset) - 1, -1, -1)))
    draws = [one.other_text(dataset[0]["id"], np.random.default_rng(3)) for one in (others, turned)]
    assert draws[0] == draws[1]


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda one: one.name)
def test_every_condition_keeps_its_promises(condition):
    """On a clip of 0.15 s too; nothing is changed in place; text conditions leave the audio, others the text."""
    for clip in (voice(), voice(0.15)):
        before, text = clip.copy(), SENTENCE
        sample = Sample("clip0", clip, text)
        if condition.name == "wrong_words":
            continue
        changed = apply(condition, sample, 0, COMPANY)
        np.testing.assert_array_equal(clip, before)
        if condition.group == "words":
            assert changed.text != text or condition.name in ("no_sound", "wer_0.1")
            assert (changed.samples is None) if condition.name == "no_sound" else (changed.samples == clip).all()
            continue
        assert changed.text == text
        assert changed.samples.dtype == np.float32
        assert np.isfinite(changed.samples).all()
        assert np.abs(changed.samples).max() <= 1
        assert len(changed.samples) >= 0.05 * RATE
        if condition.group == "cut":
            assert len(changed.samples) >= 0.1 * RATE


@pytest.mark.parametrize("name", ["white_10db", "babble_10db", "room_0.6s", "no_zeros", "wer_0.4"])
def test_draws_belong_to_condition_seed_and_row(name):
    clip = np.pad(voice(), (100, 0))

    def made(id="a", seed=0, name=name):
        changed = under(name, clip, COMPANY.texts[0], id, seed)
        return changed.text if name.startswith("wer") else changed.samples

    def is_same(one, other) -> bool:
        if isinstance(one, str):
            return one == other
        return one.shape == other.shape and np.allclose(one, other, rtol=0, atol=1e-6)

    first, other, reseeded = made(), made("b"), made(seed=1)
    assert is_same(made(), first)
    assert not any(is_same(*pair) for pair in ((first, other), (first, reseeded), (other, reseeded)))


def test_names_are_unique_files_and_severities_are_known():
    assert len(NAMED) == len(CONDITIONS)
    assert all(set(one.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.") for one in CONDITIONS)
    assert {one.severity for one in CONDITIONS} == set(SEVERITIES)
    assert {one.name for one in CONDITIONS if reason_to_skip(one, "text", COMPANY) is None} == {
        *("wer_0.1", "wer_0.2", "wer_0.4", "wrong_words")
    }
    assert NAMED["white_10db"].needs == NEEDS_AUDIO
