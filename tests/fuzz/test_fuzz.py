"""Damaged and odd input ends in an answer, a skip with a reason, or a message of ours: never in a library's error."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
MOST_SECONDS = 20
"""For one input, on a busy machine: a limit that does not hold shows as a minute and more."""

SAME = {("read", "read"), ("skipped", "refused")}


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory limit needs /proc")
@pytest.mark.parametrize(("kind", "least"), [("audio", 600), ("tables", 400), ("models", 250), ("doors", 300)])
def test_damaged_input_is_read_skipped_or_refused_and_takes_little_memory(kind, least, tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    command = [sys.executable, str(TESTS / "fuzz" / "try_all.py"), kind, str(tmp_path), "15"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", timeout=400)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"ended at {lines[-1:]}: {done.stderr[-2000:]}"
    cases = [{**case, **result} for case, result in zip(lines[::2], lines[1::2], strict=True)]
    assert len(cases) >= least
    faults = [case for case in cases if case["result"] not in ("read", "skipped", "refused")]
    assert not faults, "\n".join(f"{case['case']}: {case['result']}" for case in faults)
    assert max(case["seconds"] for case in cases) < MOST_SECONDS
    if kind == "audio":  # what a preparation skips the pipeline refuses, and nothing else
        pairs = zip(cases[::2], cases[1::2], strict=True)
        assert not [a["case"] for a, b in pairs if (a["result"], b["result"]) not in SAME]
    # A fuzz test whose inputs are all refused at the door, or all whole, tries nothing.
    for result in ("read", "refused"):
        assert sum(case["result"] == result for case in cases) >= least / 20
