"""Figures of dimensions from predictions: CCC by hand, its interval over speakers, and a report of them alone."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from hf_ser.models.dimensions import concordance
from hf_ser.publish.dimension_plots import plot_dimensions
from hf_ser.runs.dimension_figures import MOST_POINTS, ccc_from_moments, dimension_figures
from hf_ser.runs.figures import DimensionReport, Report, read_report
from hf_ser.runs.intervals import CCC_COVERAGE, moment_intervals
from hf_ser.runs.predictions import Prediction, read_predictions, write_predictions
from hf_ser.runs.report import make_report, write_report
from hf_ser.runs.report_text import format_report

SAME = {"corpus": "iemocap", "protocol": "speaker_folds", "fold": "1", "split_fingerprint": "f", "leaks": []}


def row(number: int, predicted: float, annotated: float | None, speaker="s1", classes=False, **more) -> Prediction:
    sex = ("female", "male")[int(speaker[1:]) % 2]
    probabilities = {"sad": 0.4 + 0.4 * (number % 2), "happy": 0.6 - 0.4 * (number % 2)} if classes else {}
    label = ("happy", "sad")[number % 2]
    values = {"dimensions": {"valence": predicted}, "annotated": {"valence": annotated}}
    return Prediction(
        id=f"r{number:04d}",
        speaker=speaker,
        sex=sex,
        reference=label,
        probabilities=probabilities,
        **SAME,
        **values,
        **more,
    )


def drawn(n: int = 80, speakers: int = 8, classes: bool = False) -> list[Prediction]:
    draw = np.random.default_rng(0)
    rows = []
    for number in range(n):
        truth = float(draw.uniform(-1, 1))
        predicted = float(np.clip(truth + draw.normal(0, 0.4), -1, 1))
        rows.append(row(number, predicted, truth if number % 10 else None, f"s{number % speakers}", classes))
    return rows


def test_ccc_as_worked_out_by_hand():
    values = ((0.1, 0.1), (0.2, 0.3), (0.3, 0.5))
    found = dimension_figures([row(number, *pair) for number, pair in enumerate(values)] + [row(9, 1.0, None)])
    assert found.ccc["valence"] == found.mean_ccc == pytest.approx(8 / 13)
    assert found.pearson["valence"] == pytest.approx(1)
    assert found.mae["valence"] == pytest.approx(0.1)
    assert found.n == {"valence": 3} and found.scale == [-1.0, 1.0]
    assert found.mean_ccc_ci95 is None and "one speaker only" in found.ccc_ci95_note


def test_figures_agree_with_the_loss_of_training():
    rows = drawn()
    known = [one for one in rows if one.annotated["valence"] is not None]
    pairs = torch.tensor([[one.dimensions["valence"], one.annotated["valence"]] for one in known], dtype=torch.float64)
    found = dimension_figures(rows)
    assert found.ccc["valence"] == pytest.approx(concordance(pairs[:, :1], pairs[:, 1:]).item(), abs=1e-9)
    assert found.n["valence"] == 72


def test_the_interval_is_over_speakers():
    found = dimension_figures(drawn())
    low, high = found.ccc_ci95["valence"]
    assert low < found.ccc["valence"] < high and found.mean_ccc_ci95 == [low, high]
    assert "bootstrap over 8 speakers" in found.ccc_ci95_note
    assert set(found.per_speaker) == {f"s{number}" for number in range(8)}
    assert {name: group.n for name, group in found.per_sex.items()} == {"female": 40, "male": 40}
    assert found.per_sex["male"].mean_ccc_ci95 is not None and found.per_speaker["s1"].sex == "male"


def test_equal_speakers_have_an_interval_of_no_width():
    moments = {name: np.array([[3.0, 0.6, 0.9, 0.14, 0.35, 0.22]]) for name in ("a", "b", "c")}
    (interval,), _ = moment_intervals(moments, lambda pooled: pooled[..., 1] / pooled[..., 0])
    assert interval == pytest.approx([0.2, 0.2])


def test_a_report_of_dimensions_alone(tmp_path):
    rows = drawn()
    write_predictions(tmp_path / "predictions.jsonl", rows)
    report = make_report(read_predictions(tmp_path / "predictions.jsonl"))
    assert isinstance(report, DimensionReport)
    write_report(report, tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == report
    text = format_report(report)
    assert "CCC" in text and "UAR" not in text and "valence" in text
    public = report.public(with_people=False)
    assert next(iter(public.dimensions.per_speaker)) == "speaker 1"


def test_a_dimension_without_annotation_has_an_empty_panel(tmp_path):
    rows = [replace(one, annotated={"valence": None}) for one in drawn()]
    report = make_report(rows)
    assert report.dimensions.n == {"valence": 0} and report.dimensions.ccc == {"valence": None}
    plot_dimensions(report, tmp_path / "dimensions.png")
    assert (tmp_path / "dimensions.png").stat().st_size > 0


def test_a_report_of_both(tmp_path):
    report = make_report(drawn(classes=True))
    assert isinstance(report, Report) and report.dimensions.mean_ccc > 0.5
    write_report(report, tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == report
    assert "s1" not in report.public(with_people=False).dimensions.per_speaker
    assert read_report(tmp_path / "absent.json") is None


def test_files_of_classes_have_no_keys_of_dimensions(tmp_path):
    rows = [
        Prediction(
            id=f"r{n}", speaker="s1", sex=None, reference="sad", probabilities={"sad": 0.5, "happy": 0.5}, **SAME
        )
        for n in range(2)
    ]
    write_predictions(tmp_path / "p.jsonl", rows)
    assert not {"dimensions", "annotated"} & json.loads((tmp_path / "p.jsonl").read_text().splitlines()[0]).keys()


def test_rows_of_different_dimensions_do_not_mix(tmp_path):
    other = Prediction(**{**vars(row(2, 0.1, 0.2)), "dimensions": {"arousal": 0.1}, "annotated": {"arousal": 0.2}})
    with pytest.raises(ValueError, match=r"line 2: found the dimensions \['arousal'\]"):
        write_predictions(tmp_path / "p.jsonl", [row(1, 0.1, 0.2), other])
    with pytest.raises(ValueError, match="found nan in dimensions or annotated, expected finite numbers"):
        write_predictions(tmp_path / "p.jsonl", [row(1, float("nan"), 0.2)])


def test_a_picture_has_so_many_points():
    rows = [row(number, 0.1, 0.2 + number / 9000) for number in range(MOST_POINTS + 200)]
    assert len(dimension_figures(rows).points["valence"]) == MOST_POINTS


def simulated(draw, speakers: int) -> np.ndarray:
    """Sums over 40 clips and 3 dimensions of speakers whose predictions have their own offset, slope and noise."""
    one, each = (speakers, 1, 3), (speakers, 40, 3)
    offset, slope = draw.normal(0, 0.15, one), np.exp(draw.normal(-0.2, 0.25, one))
    truth = np.clip(draw.normal(0, 0.15, one) + draw.normal(0, 0.4, each), -1, 1)
    noise = 0.35 * np.exp(draw.normal(0, 0.2, (speakers, 1, 1)))
    predicted = np.clip(offset + slope * truth + draw.normal(0, 1, each) * noise, -1, 1)
    products = (np.ones(each), predicted, truth, predicted**2, truth**2, predicted * truth)
    return np.stack(products, axis=-1).sum(1)


@pytest.mark.parametrize(("speakers", "expected"), [(3, CCC_COVERAGE[3]), (12, 95)])
def test_how_often_the_interval_holds_the_true_ccc(speakers, expected):
    draw = np.random.default_rng(0)
    true = ccc_from_moments(simulated(draw, 20_000).sum(0)).mean()
    held, corpora = 0, 250
    for _ in range(corpora):
        moments = dict(zip(map(str, range(speakers)), simulated(draw, speakers), strict=True))
        intervals, _ = moment_intervals(moments, lambda pooled: ccc_from_moments(pooled).mean(-1, keepdims=True), 500)
        held += intervals[0][0] <= true <= intervals[0][1]
    assert 100 * held / corpora == pytest.approx(expected, abs=6)
