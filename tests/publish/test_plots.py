"""Pictures are written for every shape of report and history; what they look like was judged by eye."""

from dataclasses import replace
from types import SimpleNamespace

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread
from rows import compare
from rows import make_report as report_of

from hf_ser.data.labels import EMOTIONS
from hf_ser.plotting import EMOTION_COLOURS, WARNING, emotion_colours, picture_formats
from hf_ser.publish.plots import (
    PICTURES,
    plot_comparison,
    plot_confusion_matrix,
    plot_learning_curves,
    write_pictures,
)
from hf_ser.publish.results import CURVES, write_learning_curves
from hf_ser.publish.tables import write_tables
from hf_ser.runs.figures import Report
from hf_ser.runs.record import TrainingRecord

RAVDESS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")


def make_report(n_classes: int, notices: tuple[str, ...] = (), interval: list[float] | None = None) -> Report:
    return replace(
        report_of(make_rows(n_classes)),
        corpus="ravdess",
        protocol="emobox",
        labels=[f"label_{index}_with_a_long_name" for index in range(n_classes)],
        confusion_matrix=[[10 * (row == column) + column for column in range(n_classes)] for row in range(n_classes)],
        uar=0.5,
        uar_ci95=interval,
        notices=list(notices),
    )


def make_rows(n_classes: int = 3, n_speakers: int = 4, name: str = "speaker_{}", **changes) -> list[dict]:
    """Rows in which every speaker says every class twice, with random answers."""
    labels = [f"$label_{index}_with_a_long_name" for index in range(n_classes)]
    draw = np.random.default_rng(n_classes)
    rows = []
    for index in range(2 * n_classes * n_speakers):
        speaker = index // (2 * n_classes)
        probabilities = draw.dirichlet(np.ones(n_classes))
        row = {
            "id": f"table/{index}",
            "corpus": "table",
            "speaker": f"table/{name.format(speaker)}",
            "sex": ("female", "male", None)[speaker % 3],
            "protocol": "speaker_folds",
            "fold": str(speaker % 2 + 1),
            "split_fingerprint": f"print of {speaker % 2}",
            "leaks": [],
            "transcript_source": None,
            "votes": None,
            "temperature": 1.5,
            "abstain_threshold": 0.5,
            "reference": labels[index % n_classes],
            "probabilities": dict(zip(labels, probabilities.tolist(), strict=True)),
        }
        rows.append(row | changes)
    return rows


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """The figures that were saved, to look into them; as coarse pictures, which are faster."""
    figures, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **_: (figures.append(self), save(self, file, dpi=40)))
    return figures


def history(n_epochs: int) -> list[dict]:
    entries = []
    for epoch in range(1, n_epochs + 1):
        entries.append({"loss": 1 / epoch, "learning_rate": 1e-4, "epoch": float(epoch)})
        entries.append({"eval_loss": 1.1 / epoch, "eval_uar": 0.6 - 0.1 * abs(epoch - 3), "epoch": float(epoch)})
    return [*entries, {"train_runtime": 1.0, "train_loss": 0.4, "epoch": float(n_epochs)}]


@pytest.mark.parametrize("n_classes", [2, 4, 8])
def test_confusion_matrix_shows_counts_shares_title_and_notices(n_classes, tmp_path, drawn):
    report = make_report(n_classes, notices=("LEAKED RUN: random split.",), interval=[0.4, 0.6])
    plot_confusion_matrix(report, tmp_path / "new" / "confusion_matrix.png")
    assert imread(tmp_path / "new" / "confusion_matrix.png").ndim == 3
    (axes,) = drawn[0].axes
    cells = [text.get_text() for text in axes.texts]
    assert len(cells) == n_classes**2
    assert cells[0] == f"10\n{100 * 10 / (10 + sum(range(n_classes))):.1f} %"
    assert axes.get_ylabel() == "reference"
    assert axes.get_xlabel().startswith("predicted")
    assert "ravdess, protocol emobox, 2 folds\nUAR 50.0 %, 95 % interval [40.0, 60.0]" in drawn[0].get_suptitle()
    assert (axes.get_title(), axes.title.get_color()) == ("LEAKED RUN: random split.", WARNING)
    assert [label.get_text().replace("\n", "") for label in axes.get_yticklabels()] == report.labels


def test_confusion_matrix_of_a_clean_run_has_no_red(tmp_path, drawn):
    plot_confusion_matrix(make_report(3), tmp_path / "confusion_matrix.png")
    assert drawn[0].axes[0].get_title() == ""
    assert "no interval" in drawn[0].get_suptitle()


def test_learning_curves_mark_the_best_epoch_of_each_fold(tmp_path, drawn):
    plot_learning_curves({"1": history(5), "2": history(2)}, tmp_path / "curves.png")
    loss_axes, uar_axes = drawn[0].axes
    assert len(loss_axes.lines) == 4
    stars = [line.get_xydata()[0].tolist() for line in uar_axes.lines if line.get_label() == "best epoch"]
    assert stars == [pytest.approx([3, 0.6]), pytest.approx([2, 0.5])]
    assert [text.get_text() for text in loss_axes.get_legend().get_texts()] == ["training", "validation"]


@pytest.mark.parametrize(
    "histories",
    [
        {},
        {"1": []},
        {"1": [{"loss": 1.0}]},
        {"1": [{"loss": 1.0, "epoch": 0.01}]},
        {"1": [{"loss": 1.0, "epoch": 1.0}, {"train_loss": 0.5, "epoch": 1.0}]},
        {"1": [{"eval_uar": float("nan"), "eval_loss": float("nan"), "epoch": 1.0}]},
    ],
)
def test_learning_curves_of_less_than_two_epochs_are_not_drawn(histories, tmp_path, drawn):
    (tmp_path / "curves.pdf").touch()  # of an earlier call
    plot_learning_curves(histories, tmp_path / "curves.png")
    assert not drawn and not list(tmp_path.iterdir())


@pytest.mark.parametrize(("n_classes", "n_speakers"), [(2, 2), (12, 20)])
def test_every_picture_of_a_report_is_written_with_its_notices(n_classes, n_speakers, tmp_path, drawn):
    report = report_of(make_rows(n_classes, n_speakers, "${}_somebody_of_a_long_name", leaks=["random"]))
    paths = write_pictures(report, tmp_path / "new", "$wavlm, head ridge")
    assert [path.name for path in paths] == list(PICTURES)
    assert all(imread(path).ndim == 3 for path in paths)
    for figure in drawn:
        assert figure.axes[0].get_title().startswith("LEAKED RUN: random.")
        assert figure.get_suptitle().startswith(r"\$wavlm, head ridge")
        assert "table, protocol speaker_folds, 2 folds" in figure.get_suptitle()


def test_pictures_are_written_in_the_formats_that_are_named(tmp_path, drawn):
    with picture_formats("pdf, svg"):
        plot_confusion_matrix(make_report(2), tmp_path / "matrix.png")
    plot_confusion_matrix(make_report(2), tmp_path / "later.png")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["later.png", "matrix.pdf", "matrix.png", "matrix.svg"]
    with pytest.raises(ValueError, match="found gif, expected some of png, pdf, svg"), picture_formats("png,gif"):
        pass


def test_an_emotion_has_one_colour_whatever_the_other_classes_are():
    few, many = emotion_colours(["sad", "angry"]), emotion_colours(["angry", "mine", "sad", "other one"])
    assert few == {label: many[label] for label in few} == {label: EMOTION_COLOURS[label] for label in few}
    assert set(EMOTION_COLOURS) == set(EMOTIONS)
    assert len(set(many.values())) == 4


COLOUR_BLINDNESS = {
    "none": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
"""Machado, Oliveira & Fernandes 2009, A Physiologically-based Model for Simulation of Color Vision Deficiency."""


@pytest.mark.parametrize("kind", COLOUR_BLINDNESS)
def test_the_colours_of_emotions_differ_for_the_colour_blind(kind):
    srgb = np.array([to_rgb(one) for one in EMOTION_COLOURS.values()])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(COLOUR_BLINDNESS[kind]).T, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(seen @ to_xyz.T / [0.9505, 1, 1.089]).T
    lab = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)
    apart = np.linalg.norm(lab[:, None] - lab, axis=2)
    common = [place for place, name in enumerate(EMOTION_COLOURS) if name in RAVDESS]
    for chosen, least in ((common, 19), (range(len(lab)), 9)):
        between = apart[np.ix_(chosen, chosen)][np.triu_indices(len(chosen), 1)]
        assert between.min() > least


def test_tables_are_beside_the_report_as_csv_and_latex(tmp_path):
    report = report_of(make_rows(3, leaks=["random"]))
    files = write_tables(report, tmp_path, "50 % of $x")
    assert {file.suffix for file in files} == {".csv", ".tex"}
    classes = pd.read_csv(tmp_path / "tables" / "classes.csv", index_col="class")
    assert list(classes.index) == report.labels
    assert [f"{one:.1f}" for one in classes["recall"]] == [
        f"{100 * row.recall:.1f}" for row in report.per_class.values()
    ]
    latex = (tmp_path / "tables" / "classes.tex").read_text()
    assert r"50 \% of \$x" in latex and "LEAKED RUN" in latex and r"\$label\_0\_with" in latex
    assert (tmp_path / "tables" / "confusion_matrix.csv").read_text().startswith("reference,")


def test_reliability_draws_the_bins_that_have_utterances(tmp_path, drawn):
    report = report_of(make_rows())
    PICTURES["reliability.png"](report, tmp_path / "reliability.png")
    upper, lower = drawn[0].axes
    filled = [one for one in report.calibration.bins if one.n]
    assert [bar.get_height() for bar in upper.patches] == [one.accuracy for one in filled]
    assert [text.get_text() for text in lower.texts] == [str(one.n) for one in filled]
    before = report.calibration.ece_uncalibrated
    assert f"{before:.3f} before" in " ".join(drawn[0].get_suptitle().split())
    PICTURES["reliability.png"](report_of(make_rows(temperature=None)), tmp_path / "reliability.png")
    assert "no temperature was fitted" in drawn[1].get_suptitle()


@pytest.mark.parametrize(("threshold", "points"), [(0.5, 1), (1.0, 0), (None, 0)])
def test_risk_and_coverage_mark_the_threshold_where_there_is_one(threshold, points, tmp_path, drawn):
    report = report_of(make_rows(abstain_threshold=threshold))
    PICTURES["risk_coverage.png"](report, tmp_path / "risk_coverage.png")
    marks = [line.get_xydata()[0].tolist() for line in drawn[0].axes[0].lines if line.get_marker() == "o"]
    assert len(marks) == points
    assert all(mark == [report.abstention.coverage, 1 - report.abstention.wa] for mark in marks)


def test_groups_are_sorted_and_hollow_where_a_class_is_lacking(tmp_path, drawn):
    rows = make_rows(n_speakers=6)
    rows = [row for row in rows if (row["speaker"], row["reference"][7]) != ("table/speaker_1", "0")]
    report = report_of(rows)
    PICTURES["groups.png"](report, tmp_path / "groups.png")
    (axes,) = drawn[0].axes
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert names[:3] == ["female, 2 speakers", "male, 2 speakers", "unknown, 2 speakers"]
    alone = replace(report, per_sex={"female": replace(report.per_sex["female"], n_speakers=1)})
    PICTURES["groups.png"](alone, tmp_path / "groups.png")
    assert drawn[1].axes[0].get_xticklabels()[0].get_text() == "female, 1 speaker"
    figures = {name: one.best for name, one in report.per_speaker.items()}
    assert names[3:] == sorted(figures, key=figures.get)
    speakers = [line for line in axes.lines if line.get_marker() == "o" and line.get_markersize() == 6]
    speakers = [line for line in speakers if len(line.get_xdata())]
    assert [line.get_ydata()[0] for line in speakers] == sorted(figures.values())
    hollow = [line.get_markerfacecolor() == "white" for line in speakers]
    assert hollow == [name == "table/speaker_1" for name in names[3:]]


def test_comparison_shows_both_runs_the_verdict_and_the_notices(tmp_path, drawn):
    rows = make_rows()
    better = [
        row | {"probabilities": {label: float(label == row["reference"]) for label in row["probabilities"]}}
        for row in rows
    ]
    comparison = compare(rows, [row | {"leaks": ["random"]} for row in better], ("runs/a", "runs/$b"))
    plot_comparison(comparison, tmp_path / "comparison.png")
    left, right = drawn[0].axes
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["A: runs/a", r"B: runs/\$b"]
    differences = [one.difference for one in comparison.per_class.values()]
    assert [text.get_text() for text in left.texts] == [f"{100 * one:+.1f}" for one in differences]
    assert right.get_title() == "each speaker: B is ahead for 4 of 4"
    assert "LEAKED RUN" in drawn[0].get_suptitle()
    assert comparison.verdict.replace("$", r"\$") in drawn[0].get_supxlabel().replace("\n", " ")


def test_pyplot_is_left_alone(tmp_path):
    before = matplotlib.get_backend(), pyplot.get_fignums()
    plot_confusion_matrix(make_report(2), tmp_path / "confusion_matrix.png")
    assert (matplotlib.get_backend(), pyplot.get_fignums()) == before


def test_solved_heads_have_no_learning_curves(tmp_path):
    (tmp_path / CURVES).touch()  # of an earlier version
    write_learning_curves({"1": SimpleNamespace(record=TrainingRecord(solved=True, history=history(1)))}, tmp_path)
    assert not (tmp_path / CURVES).exists()
