"""Measure this toolkit beside what a user would do otherwise, and beside the least that the work takes.

python scripts/benchmark.py                                           # generated clips, random weights: minutes
python scripts/benchmark.py --data_dir RAVDESS --audio_model WHISPER_BASE_ENCODER --whisper WHISPER_DIR
python scripts/benchmark.py --size tiny --rows prepare predict

Prints a table, and writes benchmark.json and benchmark.png. Ways of one row take turns in processes of their own, and
are compared by CPU seconds, so that other jobs on the machine matter little.
"""

from hf_ser.cli import parse_early, run

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from hf_ser.settings import names_in


def command_line() -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=names_in("benchmark/case.py", "SIZES"), default="small", help="how much")
    parser.add_argument("--rows", nargs="+", help="names of rows, such as prepare or fit; default: all")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each way; the medians are compared")
    parser.add_argument("--data_dir", type=Path, help="folder of RAVDESS; default: generated clips")
    parser.add_argument("--audio_model", type=Path, help="folder of a Whisper encoder; default: random weights")
    parser.add_argument(
        "--whisper", type=Path, help="folder with whisper-base.pt and, for faster-whisper, ct2-base; default: random"
    )
    parser.add_argument("--output_dir", type=Path, default=Path("runs/benchmark"), help="folder of the results")
    parser.add_argument("--folder", type=Path, help="folder of temporary files; default: the system's")
    return parser.parse_args()


if __name__ == "__main__":
    parse_early(command_line)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # spinning threads would count as CPU seconds

from hf_ser.benchmark.case import SIZES, Case
from hf_ser.benchmark.results import described, draw, measure_all, table
from hf_ser.benchmark.rows import chosen_rows
from hf_ser.files import atomic_write


def main() -> None:
    """Measure, print, write."""
    arguments = command_line()
    rows = chosen_rows(SIZES[arguments.size], arguments.rows or ())
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    whisper = arguments.whisper or os.environ.get("HF_SER_WHISPER_DIR")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        paths = (arguments.data_dir, arguments.audio_model, Path(whisper) if whisper else None)
        case = Case(SIZES[arguments.size], Path(folder), *paths)
        for results in measure_all(rows, case, arguments.rounds):  # a run that is stopped leaves what it has
            benchmark = described(results, case, arguments.size)
            with atomic_write(arguments.output_dir / "benchmark.json") as file:
                json.dump(benchmark.to_json(), file, indent=1)
    print(table(benchmark))
    draw(benchmark, arguments.output_dir / "benchmark.png")
    print(f"written: {arguments.output_dir}/benchmark.json and benchmark.png")
    if any(row.ours.missing for row in benchmark.rows):  # nothing may be missing of ours
        sys.exit(1)


if __name__ == "__main__":
    run(main)
