"""scripts/transcribe.py in one process and in two, and what it refuses."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hf_ser.data.prepared import load_prepared
from hf_ser.publish.transcribed import SUMMARY

ROOT = Path(__file__).parents[2]


@pytest.fixture
def few(prepared, tmp_path) -> Path:
    """A copy of the prepared data set that may be changed."""
    return Path(shutil.copytree(prepared, tmp_path / "data"))


@pytest.mark.slow
def test_two_processes_write_what_one_writes(few, random_whispers, script, tmp_path, capsys):
    two = shutil.copytree(few, tmp_path / "two")
    flags = ("--asr", random_whispers[1], "--language", "en", "--temperatures", 0, "--max_tokens", 12)
    script("transcribe", "--dataset", few, *flags, "--cache", tmp_path / "one.sqlite", "--check_window", 3)
    output = capsys.readouterr().out
    assert "48 of 48 clips transcribed" in output and "not in 30 s, on 3 clips" in output and "WER" in output

    config = ROOT / "scripts/accelerate/two_cpu_processes.yaml"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", config, "--main_process_port", "0"]
    command += [ROOT / "scripts/transcribe.py", "--dataset", two, *flags, "--cache", tmp_path / "two.sqlite"]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("48 of 48 clips transcribed") == 1  # one of them writes and tells
    ours, theirs = load_prepared(few), load_prepared(two)
    for column in ("id", "transcript", "transcript_source", "reference_transcript"):
        assert ours[column][:] == theirs[column][:]
    assert theirs["asr_avg_logprob"][:] == pytest.approx(ours["asr_avg_logprob"][:], abs=1e-4)
    assert "2 process(es)" in json.loads((Path(two) / SUMMARY).read_text())["hardware"]


def test_what_cannot_be_transcribed_is_refused_before_anything_is_written(few, random_whispers, script, tmp_path):
    def refused(error, message, *flags):
        with pytest.raises(error, match=message):
            script("transcribe", "--dataset", few, "--cache", tmp_path / "cache.sqlite", *flags)

    refused(ValueError, "Expected openai-whisper:NAME", "--asr", "whisper-base")
    refused(FileNotFoundError, "nothing.pt", "--asr", "nothing.pt")
    refused(FileExistsError, "exists already", "--asr", random_whispers[0], "--output_dir", few.parent)
    refused(ValueError, "xx", "--asr", random_whispers[0], "--language", "xx")
    refused(ValueError, "--short_window .* are gone: .* --check_window", "--asr", "x", "--short_window")
    refused(ValueError, "--short_window .* are gone", "--asr", "x", "--check_short_window", "50")
    refused(ValueError, "--temperatures", "--asr", random_whispers[0], "--temperatures", "-1")
    assert not (few / SUMMARY).exists() and "reference_transcript" not in load_prepared(few).column_names
