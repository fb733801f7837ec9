"""Studies: what is run, skipped and reported, and which systems are compared with which."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from example_fold import RECORD, SPLIT
from rows import make_report, write_predictions

from hf_ser.checks.study.figures import StudyResult
from hf_ser.checks.study.leaderboard import FinishedRun, format_leaderboard, make_leaderboard, verdict_text
from hf_ser.checks.study.plan import Study, System, read_study, study_of_recipes
from hf_ser.checks.study.plots import plot_study
from hf_ser.checks.study.results import SystemResult, format_study, holm, make_study, write_study
from hf_ser.checks.study.run import runs_of, train
from hf_ser.publish.leaderboard import write_leaderboard
from hf_ser.runs.report import write_report

LABELS = ("angry", "sad")
SPEAKERS = 8


def written(folder: Path, right: float, seed: int = 1, protocol="emobox", leaks=(), fingerprint="abcdef"):
    """A run of one fold as its script leaves it; `right` is the share of right answers."""
    draw, rows = np.random.default_rng([seed, int(100 * right)]), []
    for number in range(SPEAKERS * 10):
        reference = LABELS[number % 2]
        predicted = reference if draw.random() < right else LABELS[1 - number % 2]
        rows.append(
            {
                "id": f"c/{number}",
                "corpus": "c",
                "speaker": f"c/{number // 10}",
                "sex": None,
                "votes": None,
                "protocol": protocol,
                "fold": "1",
                "split_fingerprint": fingerprint,
                "leaks": list(leaks),
                "transcript_source": None,
                "reference": reference,
                "temperature": None,
                "abstain_threshold": None,
                "probabilities": {label: 0.8 if label == predicted else 0.2 for label in LABELS},
            }
        )
    split = SPLIT | {"train": {"ids": [str(n) for n in range(100)], "pcm": [], "speakers": []}}
    (folder / "fold_1").mkdir(parents=True)
    record = RECORD | {"split": split, "history": [{"epoch": 3.0}]}
    (folder / "fold_1" / "training_record.json").write_text(json.dumps(record))
    write_predictions(folder / "predictions.jsonl", rows)
    write_report(make_report(rows), folder / "report.json")


def prepared(tmp_path, systems: dict[str, dict], seeds=(1, 2), **settings):
    """A study whose runs are done, each as `written` with the given settings; and those runs."""
    study = Study(tuple(System(name, "train_audio.py") for name in systems), {"protocol": "emobox"}, seeds, **settings)
    runs = runs_of(study, tmp_path)
    for run in runs:
        written(run.folder, seed=run.seed, **systems[run.system.name])
        run.mark.write_text(json.dumps(run.settings))
    return study, runs


@pytest.fixture
def calls(monkeypatch):
    """The command lines of runs, which train nothing: --fail fails, and others are right as often as --right says."""
    made = []

    def run(command, stdout, **_):
        made.append(command)
        flags = dict(zip(command[2::2], command[3::2], strict=True))
        if "--fail" in flags:
            stdout.write("a line before\nno such model\n")
            return SimpleNamespace(returncode=2)
        written(Path(flags["--output_dir"]), float(flags["--right"]), int(flags["--seed"]))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr("hf_ser.checks.study.run.subprocess.run", run)
    return made


def test_done_runs_are_skipped_and_a_failed_one_stops_no_other(tmp_path, calls):
    systems = [System("good", "train_audio.py", None, ("--right", "0.9"))]
    systems += [
        System("bad", "train_audio.py", None, ("--fail", "1")),
        System("fair", "train_text.py", None, ("--right", "0.7")),
    ]
    study, lines = Study(tuple(systems), {"dataset": "DS"}, (1, 2)), []
    runs = runs_of(study, tmp_path)
    failed = train(runs, Path("scripts"), say=lines.append)
    assert [run.name for run in failed] == ["bad, seed 1", "bad, seed 2"] and len(calls) == 6
    assert calls[0][1:8] == ["scripts/train_audio.py", "--dataset", "DS", "--right", "0.9", "--seed", "1"]
    assert any("FAILED (status 2)" in line and "    no such model" in line for line in lines)
    assert any(line.startswith("[1/6] good, seed 1: UAR") and "remaining" in line for line in lines)
    calls.clear()
    train(runs_of(study, tmp_path), Path("scripts"), say=lines.append)
    assert len(calls) == 2 and "4 of 6 runs are done already" in lines, "only what failed is tried again"
    result = make_study(study, runs_of(study, tmp_path))
    assert [one.name for one in result.systems] == ["good", "fair"]
    assert result.missing == ["bad, seed 1", "bad, seed 2"]
    changed = runs_of(Study(study.systems, {"dataset": "OTHER"}, (1, 2)), tmp_path)
    assert not any(run.is_done() for run in changed), "other settings are another run"


def test_a_report_of_more_folds_is_not_taken_for_that_of_one(tmp_path, calls):
    system, lines = System("good", "train_audio.py", None, ("--right", "0.9")), []
    (run,) = runs_of(Study((system,), {"fold": "1"}, (1,)), tmp_path)
    assert not train([run], Path("scripts"), say=lines.append) and run.is_done()
    (other,) = runs_of(Study((system,), {"fold": "2"}, (1,)), tmp_path)
    calls.clear()
    with pytest.raises(ValueError, match=r"seed_1: found fold 1 of an earlier study.*name another --output_dir"):
        train([other], Path("scripts"), say=lines.append)
    assert not calls and run.is_done() and not other.is_done(), "what was done is left as it was"


def test_seeds_are_pooled_by_speaker_and_stand_beside_their_spread(tmp_path):
    study, runs = prepared(tmp_path, {"good": {"right": 0.95}, "poor": {"right": 0.55}})
    result = make_study(study, runs)
    good, poor = result.systems
    assert good.uar == pytest.approx(np.mean(good.uar_by_seed)) and good.seeds == [1, 2]
    assert good.uar_spread == pytest.approx(np.std(good.uar_by_seed, ddof=1)) and good.n_speakers == SPEAKERS
    assert good.uar_ci95[0] < good.uar < good.uar_ci95[1] and "8 speakers" in good.interval_note
    assert good.clips_per_second == pytest.approx(100 * 3 / 90) and good.parameters_trained == 345
    difference = poor.difference
    assert good.difference is None and difference.to == "good" and difference.seeds == [1, 2]
    assert difference.uar == pytest.approx(poor.uar - good.uar)
    assert difference.p == difference.p_holm == 2 / 2**SPEAKERS and difference.is_significant
    table = format_study(result)
    assert f"| poor | {100 * poor.uar:.1f} [" in table and "difference to good" in table
    write_study(result, tmp_path)
    assert StudyResult.read(tmp_path / "study.json") == result


def test_leaked_systems_are_listed_apart_and_are_compared_with_none(tmp_path):
    systems = {"fair": {"right": 0.6}, "better": {"right": 0.7}}
    leaked = {"right": 1.0, "protocol": "random", "leaks": ["speaker_leakage"], "fingerprint": "other"}
    study, runs = prepared(tmp_path, {**systems, "leaky": leaked, "hidden": {"right": 1.0, "leaks": ["copies"]}}, (1,))
    result = make_study(study, runs)
    assert [one.name for one in result.systems] == ["better", "fair"] and result.baseline == "better"
    assert [one.why for one in result.apart] == ["LEAKED: speaker_leakage", "LEAKED: copies"]
    assert not any(hasattr(one, "difference") for one in result.apart)
    assert "**LEAKED: copies**" in format_study(result).split("Not to be compared")[1]
    plot_study(result, tmp_path / "study.png")
    assert (tmp_path / "study.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="leaky: found a system that is not finished, or whose result is leaked"):
        make_study(Study(study.systems, study.settings, study.seeds, baseline="leaky"), runs)


def test_different_splits_are_refused_and_another_protocol_is_listed_apart(tmp_path):
    other = {"right": 0.9, "protocol": "speaker_folds", "fingerprint": "zzz"}
    study, runs = prepared(tmp_path / "a", {"one": {"right": 0.8}, "two": other}, (1,))
    assert [one.why for one in make_study(study, runs).apart] == ["protocol speaker_folds, not emobox"]
    study, runs = prepared(tmp_path / "b", {"one": {"right": 0.8}, "two": {"right": 0.9, "fingerprint": "zzz"}}, (1,))
    with pytest.raises(ValueError, match=r"different splits in one \(split abcdef\) and two \(split zzz\)"):
        make_study(study, runs)


def test_few_speakers_give_no_significant_difference(tmp_path, monkeypatch):
    monkeypatch.setattr("test_study.SPEAKERS", 4)
    study, runs = prepared(tmp_path, {"one": {"right": 1.0}, "two": {"right": 0.5}}, seeds=(1,), baseline="two")
    result = make_study(study, runs)
    assert not result.systems[0].difference.is_significant and result.systems[0].uar_spread is None
    assert "4 test speakers and 1 comparison: the corrected p value cannot fall below 0.125" in result.notices[0]


def test_holm_multiplies_the_smallest_most_and_never_falls():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.9}) == pytest.approx(
        {"a": 0.04, "c": 0.09, "b": 0.09, "d": 0.9}
    )
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0} and holm({}) == {}


def test_a_study_file_is_read_in_both_forms(tmp_path):
    (tmp_path / "r.yaml").write_text("text_model: gru\n")
    (tmp_path / "s.yaml").write_text(
        "corpus: meld\nfold: 3\nseeds: 4,5\nflags: {label_map: native}\nsystems:\n"
        "  a: train_text.py r.yaml --learning_rate 1e-4\n"
        "  b: {recipe: r.yaml, protocol: random, allow_leak: true}\n"
    )
    study = read_study(tmp_path / "s.yaml")
    a, b = study.systems
    assert (a.recipe, b.script) == (tmp_path / "r.yaml", "train_text.py")
    common = ["--corpus", "meld", "--fold", "3", "--label_map", "native"]
    assert study.arguments(a, 4) == [*common, "--learning_rate", "1e-4", "--seed", "4"]
    assert study.arguments(b, 5) == [*common, "--protocol", "random", "--allow_leak", "true", "--seed", "5"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("systms: {}", "unknown keys systms"),
        ("systems: {a: train_audio.py}", "two or more"),
        ("systems: {a: train_asr.py, b: train_text.py}", "found the script 'train_asr.py'"),
        ("systems: {a/b: train_audio.py, b: train_text.py}", "found the name 'a/b'"),
        ("seeds: [1, 1]\nsystems: {a: train_audio.py, b: train_text.py}", "found seeds"),
        ("baseline: c\nsystems: {a: train_audio.py, b: train_text.py}", "expected one of the systems a, b"),
    ],
)
def test_a_study_that_cannot_be_is_refused(tmp_path, text, found):
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(ValueError, match=found):
        read_study(tmp_path / "s.yaml")


def test_the_script_of_a_recipe_is_known_by_its_keys_or_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in (("a", "audio_model: crnn"), ("b", "audio_model: x\ntext_model: y"), ("c", "seed: 1")):
        (tmp_path / f"{name}.yaml").write_text(text)
    study = study_of_recipes(["a.yaml", "b.yaml", "train_text.py:c.yaml"])
    assert [one.script for one in study.systems] == ["train_audio.py", "train_fusion.py", "train_text.py"]
    with pytest.raises(ValueError, match=r"name it, such as train_audio\.py:"):
        study_of_recipes(["a.yaml", "c.yaml"])


def test_the_script_ends_with_status_1_where_a_run_failed(tmp_path, calls, script, capsys):
    (tmp_path / "s.yaml").write_text("systems: {a: train_audio.py --right 0.8, b: train_audio.py --fail 1}")
    with pytest.raises(SystemExit, match="1"):
        script(
            "compare",
            tmp_path / "s.yaml",
            "--seeds",
            "3",
            "--output_dir",
            tmp_path / "o",
            "--",
            "--num_train_epochs",
            "2",
        )
    assert calls[0][2:4] == ["--num_train_epochs", "2"]
    assert {"study.json", "study.md", "study.png"} <= {file.name for file in (tmp_path / "o").iterdir()}
    assert "1 failed: b, seed 3" in capsys.readouterr().err


def test_systems_that_are_equal_but_for_rounding_stand_by_name(tmp_path, monkeypatch):
    study, runs = prepared(tmp_path, {"b": {"right": 0.9}, "a": {"right": 0.8}, "c": {"right": 0.7}})
    uar = {"a": 0.6, "b": np.nextafter(0.6, 1), "c": 0.7}
    monkeypatch.setattr(SystemResult, "figure", lambda one, _: uar[one.name])
    assert [one.name for one in make_study(study, runs).systems] == ["c", "a", "b"]


def ranked(tmp_path, runs: dict[str, dict]) -> StudyResult:
    """The leaderboard of runs, each as `written` with the given settings."""
    for name, settings in runs.items():
        written(tmp_path / name, **settings)
    return make_leaderboard([FinishedRun(name, tmp_path / name) for name in runs])


def test_a_leaderboard_ranks_runs_with_intervals_and_paired_tests(tmp_path):
    runs = {"fair": {"right": 0.6}, "best": {"right": 0.97}, "good": {"right": 0.93}}
    result = ranked(
        tmp_path, runs | {"leaked": {"right": 1.0, "leaks": ["random"]}, "other": {"right": 0.9, "fingerprint": "f"}}
    )
    assert [one.name for one in result.systems] == ["best", "good", "fair"]
    assert {one.name: one.why for one in result.apart} == {
        "leaked": "LEAKED: random",
        "other": "other splits than fair",
    }
    told = {one.name: one.difference and one.difference.is_significant for one in result.systems}
    assert told == {"best": None, "good": False, "fair": True}
    assert (
        verdict_text(result)
        == "best has the highest UAR. Significantly worse: fair. Not significantly different: good."
    )
    text = format_leaderboard(result)
    assert "best was chosen as the best by the figures of this table" in text and "--baseline" not in text
    assert [line.split()[:2] for line in text.splitlines() if line[:2].strip().isdecimal()] == [
        ["1", "best"],
        ["2", "good"],
        ["3", "fair"],
    ]


def test_the_leaderboard_is_a_page_with_its_tables(tmp_path):
    result = ranked(tmp_path, {"<b>a": {"right": 0.9}, "b": {"right": 0.8}})
    page = write_leaderboard(result, tmp_path / "out", {"b": {"encoder": "wavlm & co", "learner": "ridge"}})
    text = page.read_text()
    assert "&lt;b&gt;a" in text and "<b>a" not in text and "wavlm &amp; co" in text
    assert text.count("data:image/png;base64,") == 1 and "http:" not in text and "https:" not in text
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == {f"leaderboard.{kind}" for kind in ("html", "json", "png", "csv", "tex")}
    assert StudyResult.read(tmp_path / "out" / "leaderboard.json") == result


def test_the_script_ranks_three_runs(tmp_path, script, capsys):
    for name, right in (("a", 0.9), ("b", 0.8), ("c", 0.7)):
        written(tmp_path / name, right)
    script("evaluate", *(tmp_path / name for name in "abc"))
    assert "leaderboard: " in capsys.readouterr().out and (tmp_path / "c" / "leaderboard.html").is_file()
