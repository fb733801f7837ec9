"""Measure this toolkit on this machine, on generated data.

python scripts/benchmark.py prepare --rows 10000 30000 100000

prepares tables of that many generated clips, each in a process of its own, and prints the time and the peak memory.
With --kill each is killed half-way and taken up; rows that are then lost or doubled end it with an error.
"""

import argparse
import csv
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from hf_ser.cli import run
from hf_ser.columns import SAMPLING_RATE
from hf_ser.dataset import SHARD_ROWS, load_prepared

PREPARE = Path(__file__).with_name("prepare_data.py")
SECONDS = 0.5
LABELS = ("angry", "happy", "neutral", "sad")


def main() -> None:
    """What is asked for, measured and printed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    jobs = parser.add_subparsers(dest="job", required=True)
    prepare = jobs.add_parser("prepare", help="reading a corpus")
    prepare.add_argument("--rows", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    prepare.add_argument("--kill", action="store_true", help="kill each half-way; the second run is measured")
    prepare.add_argument("--folder", help="where to put the generated clips (50 kB a row); default: temporary")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        table = generate(Path(folder), max(arguments.rows))
        print("    rows   seconds  CPU seconds  CPU ms/row   peak MB")
        for rows in arguments.rows:
            seconds, cpu, memory = measure(table[:rows], Path(folder) / f"data_{rows}", arguments.kill)
            print(f"{rows:>8} {seconds:>9.1f} {cpu:>12.1f} {1000 * cpu / rows:>11.2f} {memory:>9.0f}", flush=True)


def generate(folder: Path, rows: int) -> list[dict]:
    """Noise bursts of half a second, 16-bit WAV, no two alike; their rows as a table has them."""
    table = []
    for row in tqdm(range(rows), unit=" clips", desc="generating", disable=None):
        file = folder / "clips" / f"{row // 1000:04d}" / f"{row:07d}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(row).normal(0, 3000, int(SECONDS * SAMPLING_RATE)).astype(np.int16)
        soundfile.write(file, noise, SAMPLING_RATE)
        table.append({"path": str(file), "label": LABELS[row % 4], "speaker": f"s{row % 100}"})
    return table


def measure(table: list[dict], output_dir: Path, kill: bool) -> tuple[float, float, float]:
    """Seconds, CPU seconds and peak memory in MB of preparing; of the second run where the first is killed half-way.

    The memory is the largest resident size, pages of mapped files among it.

    Raises:
        ValueError: rows are missing, or there twice.
    """
    file = output_dir.with_suffix(".csv")
    with open(file, "w", newline="") as handle:
        writer = csv.DictWriter(handle, table[0])
        writer.writeheader()
        writer.writerows(table)
    command = [sys.executable, PREPARE, "--corpus", "table", "--data_dir", file, "--output_dir", output_dir]
    if kill:
        first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        shards = Path(f"{output_dir}.partial")
        while len(list(shards.glob("shard_*"))) < len(table) / SHARD_ROWS / 2:
            time.sleep(0.2)
        first.send_signal(signal.SIGKILL)
        first.wait()
        print(f"killed with {len(list(shards.glob('shard_*')))} of {-(-len(table) // SHARD_ROWS)} shards written")
    started = time.time()
    usage = json.loads(subprocess.run([sys.executable, "-c", USAGE, *command], check=True, capture_output=True).stdout)
    seconds = time.time() - started
    ids = load_prepared(output_dir)["id"][:]
    if sorted(ids) != sorted(f"table/{row['path']}" for row in table):
        raise ValueError(f"{output_dir}: found {len(ids)} rows, {len(set(ids))} distinct, expected {len(table)}.")
    return seconds, usage["cpu"], usage["kilobytes"] / 1024


USAGE = """
import json, resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"cpu": used.ru_utime + used.ru_stime, "kilobytes": used.ru_maxrss}))
"""


if __name__ == "__main__":
    run(main)
