"""What trackers are shown of a fold, each by a stand-in of its library, and that none of them can end a run."""

import json
import sys
from types import ModuleType, SimpleNamespace

import pytest
from example_fold import predictions
from matplotlib.figure import Figure
from rows import make_report

from hf_ser.publish.trackers import check_trackers, track_results

ARGUMENTS = SimpleNamespace(run_name="o/fold_1", project="hf_ser", trackio_space_id="me/space")


@pytest.fixture
def fold(tmp_path):
    """A fold's folder with its report and a picture."""
    (tmp_path / "report.json").write_text(json.dumps(make_report(predictions()).to_json()))
    Figure().savefig(tmp_path / "confusion_matrix.png")
    return tmp_path


@pytest.fixture
def library(monkeypatch):
    """A function that puts a stand-in of a tracker's library where it would be imported from."""

    def put(name: str, **content):
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)

    return put


def test_wandb_gets_figures_pictures_and_the_report_and_the_run_ends(fold, library):
    seen = []
    library("wandb", Image=lambda path: ("image", path), Html=lambda text: text, log=seen.append)
    sys.modules["wandb"].finish = lambda: seen.append("finished")
    track_results(["wandb"], fold, ARGUMENTS)
    (told, end) = seen
    assert told["test/uar"] == make_report(predictions()).uar and end == "finished"
    assert told["confusion_matrix"] == ("image", str(fold / "confusion_matrix.png"))
    assert told["report"].startswith("<pre>") and "UAR" in told["report"]


def test_mlflow_gets_them_into_the_run_that_trainer_has_ended(fold, library):
    seen = []

    class Client:
        def log_metric(self, run, name, figure):
            seen.append((run, name))

        def log_artifact(self, run, file):
            seen.append((run, file))

    run = SimpleNamespace(info=SimpleNamespace(run_id="r1"))
    library("mlflow", MlflowClient=Client, last_active_run=lambda: run)
    track_results(["mlflow"], fold, ARGUMENTS)
    assert {("r1", "test/uar"), ("r1", str(fold / "report.json")), ("r1", str(fold / "confusion_matrix.png"))} <= set(
        seen
    )


def test_trackio_takes_up_the_same_run_in_the_same_space(fold, library):
    seen = []
    library("trackio", init=lambda **told: seen.append(told), log=seen.append, Image=str, Markdown=str)
    sys.modules["trackio"].finish = lambda: seen.append("finished")
    track_results(["trackio"], fold, ARGUMENTS)
    assert seen[0] == {"project": "hf_ser", "name": "o/fold_1", "space_id": "me/space", "resume": "must"}
    assert {"test/wa", "confusion_matrix", "report"} <= set(seen[1]) and seen[2] == "finished"


def test_a_tracker_that_fails_is_told_and_the_next_is_served(fold, library, capsys):
    def fails(**told):
        raise ConnectionError("no route")

    seen = []
    library("trackio", init=fails)
    library("wandb", Image=str, Html=str, log=seen.append, finish=lambda: None)
    track_results(["trackio", "wandb"], fold, ARGUMENTS)
    assert "trackio did not take the report of" in capsys.readouterr().out and seen


@pytest.mark.parametrize(
    ("name", "found"), [("wandb", "wandb is not installed"), ("wanbd", "found no tracker of this name")]
)
def test_a_tracker_that_is_not_there_is_told_before_the_work(name, found, monkeypatch):
    monkeypatch.setattr("hf_ser.publish.trackers.get_available_reporting_integrations", lambda: ["tensorboard"])
    check_trackers(["tensorboard"])
    with pytest.raises(ValueError, match=f"--report_to {name}: {found}"):
        check_trackers([name])
