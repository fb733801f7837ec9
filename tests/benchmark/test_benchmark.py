"""The benchmark: every row has a peer, a ratio is of what a unit takes, and a small one runs from its command."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hf_ser.benchmark.case import SIZES, Case
from hf_ser.benchmark.measure import Usage, Way, _measured, medians, run_fresh
from hf_ser.benchmark.results import Benchmark, RowResult, WayResult, draw, measure_row, table
from hf_ser.benchmark.rows import Row, chosen_rows, rows_of

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "benchmark.py"


def test_each_row_has_a_peer_and_a_name_of_its_own():
    for size in SIZES.values():
        rows = rows_of(size)
        assert len({row.name for row in rows}) == len(rows)
        for row in rows:
            assert row.peer.about and row.peer.about != row.ours.about and row.peer.setup != row.ours.setup
            assert all(hasattr(Case, need) for need in row.needs)


def test_an_unknown_row_is_refused_with_those_there_are():
    assert [row.name for row in chosen_rows(SIZES["tiny"], ["help", "fit"])] == ["help", "fit"]
    with pytest.raises(ValueError, match="--rows nothing: found no such row, expected some of prepare, fit, step"):
        chosen_rows(SIZES["tiny"], ["nothing"])


def test_a_worker_measures_its_own_work_and_that_of_its_children():
    used = _measured(lambda: subprocess.run([sys.executable, "-c", "sum(range(3_000_000))"], check=True) and None)
    assert used.cpu_seconds > 0.02 and used.seconds > 0.02 and used.peak_mb > 50
    assert _measured(lambda: Usage(1.0, 2.0, 3.0)) == Usage(1.0, 2.0, 3.0)  # what a command took, not who waited for it
    assert medians([Usage(1.0, 9.0, 5.0), Usage(3.0, 1.0, 5.0), Usage(2.0, 2.0, 6.0)]) == Usage(2.0, 2.0, 5.0)


def test_a_fresh_process_has_its_own_peak_and_says_why_it_failed():
    small, large = run_fresh([sys.executable, "-c", "pass"]), run_fresh([sys.executable, "-c", "bytearray(10**8)"])
    assert small.peak_mb < 60 and large.peak_mb - small.peak_mb == pytest.approx(95, abs=15)
    with pytest.raises(RuntimeError, match="status 1: ValueError: no such clip"):
        run_fresh([sys.executable, "-c", "raise ValueError('no such clip')"])


def test_a_way_that_cannot_be_measured_has_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "hf_ser.benchmark.results.in_turns",
        lambda setups, case, rounds: {name: Usage(8.0, 8.0, 100.0) for name in setups},
    )
    slow = Way("slow", len, units=lambda case: 1)
    row = Row("x", "do x", "clip", lambda case: 4, Way("fast", len), slow, Way("gone", len, lambda case: "not here"))
    found = measure_row(row, Case(SIZES["tiny"], tmp_path), 3)
    assert found.ours.seconds == 2.0 and found.peer.seconds == 8.0 and found.to_peer == 4.0
    assert found.floor.missing == "not here" and found.to_floor is None


def test_the_table_and_the_picture_show_every_row(tmp_path):
    def row(name: str, unit: str = "clip") -> RowResult:
        ours, peer = WayResult("ours", 0.002, 300.0), WayResult("theirs", 0.5, 900.0)
        return RowResult(
            name, f"do {name}", unit, "cpu_seconds", 3, ours, peer, WayResult("least", missing="not here"), 250
        )

    rows = [row("predict"), row("prepare_10"), row("prepare_100")]
    made = Benchmark("2026-11-30", "a processor", {}, "tiny", "generated", "random", "random", rows)
    shown = table(made)
    assert shown.count("| do ") == 3 and "| ours: 2 ms | theirs: 0.5 s | 250x | least: not measured |" in shown
    assert "predict: least: not here" in shown
    lacking = replace(rows[1], name="prepare_1000", peer=WayResult("theirs", missing="it failed"), to_peer=None)
    draw(replace(made, rows=[*rows, lacking]), tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000
    assert Benchmark.from_json(json.loads(json.dumps(made.to_json())), "here") == made


@pytest.mark.slow  # the libraries are imported in two processes
def test_a_small_benchmark_runs_from_its_command(tmp_path):
    names = ["step", "prepare_16"]
    options = ["--size", "tiny", "--rounds", "1", "--output_dir", tmp_path, "--rows", *names]
    done = subprocess.run([sys.executable, SCRIPT, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    made = Benchmark.read(tmp_path / "benchmark.json")
    assert [one.name for one in made.rows] == names
    assert all(one.ours.seconds > 0 and one.to_peer > 0 for one in made.rows)
    assert (tmp_path / "benchmark.png").is_file() and "| fine-tune wav2vec2, a clip | " in done.stdout


def test_the_figures_in_the_manuals_are_those_of_the_kept_results():
    kept = Benchmark.read(ROOT / "scripts" / "recipes" / "benchmark.json")
    manual, front = ((ROOT / file).read_text() for file in ("scripts/recipes/README.md", "README.md"))
    rows = [line for line in table(kept).splitlines() if line.startswith("|")]
    assert not [row for row in rows if row not in manual]
    peers = {row.name: row.to_peer for row in kept.rows}
    said = " ".join(front.split())
    assert f"({kept.day}, {kept.machine.split(',')[0]}, one thread)" in said
    assert f"preparing {int(peers['prepare'])} times as fast as librosa with pictures" in said
    answers = int(min(peers["predict"], peers["predict_batch"]))
    assert f"answers {answers} times as fast as transformers' pipeline" in said
    assert f"Whisper {int(peers['transcribe'])} times as fast as its loop" in said


def test_the_kept_results_are_of_rows_that_there_are():
    kept = Benchmark.read(ROOT / "scripts" / "recipes" / "benchmark.json")
    known = {row.name: row for row in rows_of(SIZES[kept.size])}
    for row in kept.rows:
        assert (row.about, row.peer.about) == (known[row.name].about, known[row.name].peer.about)
