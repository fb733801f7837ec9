"""How many speakers a difference needs: by simulation, and by hand."""

import json
import math

import numpy as np
import pytest
from example_fold import predictions
from rows import typed, write_predictions

import hf_ser
from hf_ser.checks.power import NO_PARTS, detectable, power_analysis, speakers_needed
from hf_ser.runs.comparison import permutation_test
from hf_ser.runs.predictions import Prediction

CLASSES, CLIPS = ("angry", "sad"), 10
BASE, BETWEEN = 0.6, 0.08


def drawn(draw, n_speakers: int, gain: float) -> np.ndarray:
    """Right answers of two systems, `(2, speakers, classes, clips)`: each speaker is easier or harder for each."""
    chance = BASE + np.array([0, gain])[:, None] + BETWEEN * draw.standard_normal((2, n_speakers))
    return draw.random((2, n_speakers, len(CLASSES), CLIPS)) < chance.clip(0, 1)[:, :, None, None]


def rows_of(right: np.ndarray) -> list[Prediction]:
    same = {"corpus": "table", "sex": None, "protocol": "speaker_folds", "fold": "1", "split_fingerprint": "a"}
    rows = []
    for (who, label, clip), is_right in np.ndenumerate(right):
        shares = {name: float((index == label) == is_right) for index, name in enumerate(CLASSES)}
        name = f"{who}_{label}_{clip}"
        rows.append(
            Prediction(id=name, speaker=str(who), leaks=[], reference=CLASSES[label], probabilities=shares, **same)
        )
    return rows


def confusions(right: np.ndarray) -> dict[str, np.ndarray]:
    hits = right.sum(axis=-1)
    return {
        str(who): np.array([[a, CLIPS - a], [CLIPS - b, b]]) for who, (a, b) in enumerate(hits.tolist())
    }  # fmt: skip


def test_the_detectable_difference_is_found_in_eighty_of_a_hundred_simulated_comparisons():
    draw = np.random.default_rng(0)
    pilot = drawn(draw, 500, 0.05)
    analysis = power_analysis(*map(rows_of, pilot))
    assert analysis.spread_between == pytest.approx(math.sqrt(2) * BETWEEN, rel=0.15)
    assert analysis.spread_of_clips == pytest.approx(math.sqrt(2 * 0.24 / 20), rel=0.1)
    (twelve,) = [row for row in analysis.table if row.speakers == 12]
    half, same, double, unlimited = twelve.by_clips
    assert half > same > double > unlimited and analysis.clips == [10, 20, 40]
    found = 0
    for _ in range(400):
        one, other = map(confusions, drawn(draw, 12, same))
        found += permutation_test(one, other).p <= 0.05
    assert 0.74 <= found / 400 <= 0.86


def test_figures_follow_the_t_distribution():
    # Tables of the paired t test: 34 pairs find half a standard deviation in 80 of 100 cases.
    assert speakers_needed(0.5, 1.0) == 34 and speakers_needed(1.0, 1.0) == 10
    assert detectable(1.0, 34) == pytest.approx(0.494, abs=0.002)
    assert speakers_needed(1e-6, 1.0) is None
    assert detectable(1.0, 20, power=0.9) > detectable(1.0, 20, power=0.8)


def test_one_run_and_two_by_the_script_and_from_python(script, tmp_path, capsys):
    right = drawn(np.random.default_rng(1), 8, 0.1)
    for name, of_run in zip("ab", right, strict=True):
        (tmp_path / name).mkdir()
        write_predictions(tmp_path / name / "predictions.jsonl", rows_of(of_run))
    script("power", tmp_path / "a", tmp_path / "b", "--difference", 4, "--output", tmp_path / "power.json")
    out = capsys.readouterr().out
    written = json.loads((tmp_path / "power.json").read_text())
    assert "8 speakers, 20 clips each" in out and f"4 points: {written['speakers_needed']['0.04']}" in out
    of_both = hf_ser.power(tmp_path / "a", tmp_path / "b", differences=[0.04])
    assert of_both.to_json() == written and of_both.difference == pytest.approx(right[1].mean() - right[0].mean())
    alone = hf_ser.power(tmp_path / "a")
    assert alone.difference is None and alone.correlation == 0 and "Name a second run" in alone.notes[0]
    halved = hf_ser.power(tmp_path / "a", correlation=0.75)
    assert halved.detectable == pytest.approx(alone.detectable / 2)
    with pytest.raises(SystemExit):
        script("power", tmp_path / "a", "--difference", 150)
    assert "--difference 150: expected points of UAR above 0 and below 100, such as 2" in capsys.readouterr().err


def test_a_part_of_the_clips_that_is_zero_is_not_called_unknown():
    of_speakers = np.arange(4)[:, None, None] % 2 == np.arange(2)[None, :, None]  # each right on one class, always
    of_speakers[0] = True
    alike = power_analysis(rows_of(np.repeat(of_speakers, 2, axis=2)))
    assert alike.spread_of_clips == 0 and NO_PARTS not in alike.notes
    assert NO_PARTS in power_analysis(rows_of(of_speakers)).notes


def test_runs_that_say_nothing_are_refused():
    rows = typed(predictions())
    with pytest.raises(ValueError, match=r"A: found 2 speakers, expected 3 or more known speakers"):
        power_analysis(rows)
    same = rows_of(np.ones((4, 2, 3), bool))
    with pytest.raises(ValueError, match="A and B: found no spread over the speakers"):
        power_analysis(same, same)
    with pytest.raises(ValueError, match=r"difference is 2: expected a share above 0 and below 1"):
        power_analysis(same, differences=[2])
