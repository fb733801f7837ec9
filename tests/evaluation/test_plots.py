"""Pictures are written for every shape of report and history; what they look like was judged by eye."""

import matplotlib
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from matplotlib.image import imread

from hf_ser.evaluation import plots
from hf_ser.evaluation.plots import plot_confusion_matrix, plot_learning_curves


def make_report(n_classes: int, notices: tuple[str, ...] = (), interval: list[float] | None = None) -> dict:
    return {
        "corpus": "ravdess",
        "protocol": "emobox",
        "labels": [f"label_{index}_with_a_long_name" for index in range(n_classes)],
        "confusion_matrix": [
            [10 * (row == column) + column for column in range(n_classes)] for row in range(n_classes)
        ],
        "uar": 0.5,
        "uar_ci95": interval,
        "chance_uar": 1 / n_classes,
        "notices": list(notices),
    }


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """The figures that were saved, to look into them."""
    figures, save = [], plots._save
    monkeypatch.setattr(plots, "_save", lambda figure, path: (figures.append(figure), save(figure, path)))
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
    assert cells[0] == f"10\n{100 * 10 / (10 + sum(range(n_classes))):.0f} %"
    assert axes.get_ylabel() == "reference"
    assert axes.get_xlabel().startswith("predicted")
    assert "ravdess, protocol emobox\nUAR 50.0 %, 95 % interval [40.0, 60.0]" in drawn[0].get_suptitle()
    assert (axes.get_title(), axes.title.get_color()) == ("LEAKED RUN: random split.", plots.WARNING)
    assert [label.get_text().replace("\n", "") for label in axes.get_yticklabels()] == report["labels"]


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
def test_learning_curves_of_meagre_histories(histories, tmp_path, drawn):
    plot_learning_curves(histories, tmp_path / "curves.png")
    assert imread(tmp_path / "curves.png").ndim == 3
    assert all(line.get_label() != "best epoch" for axes in drawn[0].axes for line in axes.lines)


def test_pyplot_is_left_alone(tmp_path):
    before = matplotlib.get_backend(), pyplot.get_fignums()
    plot_confusion_matrix(make_report(2), tmp_path / "confusion_matrix.png")
    assert (matplotlib.get_backend(), pyplot.get_fignums()) == before
