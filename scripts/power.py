"""How many speakers and clips a difference between two systems needs, by the spread of finished runs.

    python scripts/power.py runs/a runs/b             # two runs on the same utterances
    python scripts/power.py runs/a                    # one run: two systems of its spread are assumed
    python scripts/power.py runs/a runs/b --difference 2 --output power.json

A run is its folder or a predictions.jsonl.
"""

from hf_ser.cli import parse_early, run

import argparse
from pathlib import Path


def command_line() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """The parser, and the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="run", help="one run, or two on the same utterances")
    parser.add_argument(
        "--difference", type=float, nargs="+", help="points of UAR whose number of speakers is wanted, such as 2"
    )
    parser.add_argument("--power", type=float, default=0.8, help="share of cases in which it is to be found")
    parser.add_argument("--level", type=float, default=0.05, help="of the two-sided test")
    parser.add_argument(
        "--correlation", type=float, help="of one run: how alike two such systems err over speakers; default: 0, not"
    )
    parser.add_argument("--output", type=Path, help="JSON to write; default: none")
    return parser, parser.parse_args()


if __name__ == "__main__":
    parse_early(command_line)

import json

from hf_ser.checks.power import DIFFERENCES, format_power, power_analysis
from hf_ser.files import atomic_write
from hf_ser.runs.comparison import run_names
from hf_ser.runs.predictions import predictions_file, read_predictions


def main() -> None:
    """Print the table, and write it where wanted."""
    parser, arguments = command_line()
    if len(arguments.runs) > 2:
        parser.error(f"{len(arguments.runs)} runs: expected one, or two on the same utterances")
    if arguments.correlation is not None and len(arguments.runs) == 2:
        parser.error("--correlation is for one run: two runs show how alike they err")
    if wrong := [one for one in arguments.difference or () if not 0 < one < 100]:
        parser.error(f"--difference {wrong[0]:g}: expected points of UAR above 0 and below 100, such as 2")
    files = [predictions_file(source) for source in arguments.runs]
    folders = [file.parent for file in files]
    analysis = power_analysis(
        *map(read_predictions, files),
        names=run_names(folders) if len(folders) == 2 else [folders[0].resolve().name],
        correlation=arguments.correlation or 0.0,
        power=arguments.power,
        level=arguments.level,
        differences=[one / 100 for one in arguments.difference] if arguments.difference else DIFFERENCES,
    )
    print(format_power(analysis))
    if arguments.output:
        with atomic_write(arguments.output) as file:
            json.dump(analysis.to_json(), file, indent=1)
        print(f"power: {arguments.output}")


if __name__ == "__main__":
    run(main)
