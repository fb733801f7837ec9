"""Train several systems with several seeds under one protocol, and test which of them differ.

    python scripts/compare.py scripts/recipes/studies/seeds_ravdess.yaml --data_dir DIR
    python scripts/compare.py STUDY.yaml --dataset DS --seeds 1,2,3 --fold all --only crnn,alexnet
    python scripts/compare.py A.yaml B.yaml --dataset DS -- --num_train_epochs 5   # two recipes; flags for all after --

Each system and seed is a run of its training script. Run again, the command continues: what is finished with the same
settings is not trained again. A failed run stops no other; the exit status is then 1. Systems whose result is leaked,
or of another protocol, are listed apart and compared with no other.
"""

from hf_ser.cli import parse_early, run, show_next

import argparse
import shlex
import sys
from pathlib import Path

from hf_ser.settings import names_in


def command_line() -> tuple[argparse.Namespace, list[str]]:
    """The arguments, and the flags behind `--`, which are for the training scripts."""
    place = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", metavar="study", help="a study, or two recipes or more")
    parser.add_argument("--dataset", help="folder written by prepare_data.py")
    parser.add_argument("--corpus", help="corpus to read instead, from --data_dir")
    parser.add_argument("--data_dir", help="folder of the corpus")
    parser.add_argument(
        "--protocol",
        choices=names_in("data/protocols.py", "PROTOCOLS"),
        help="of the systems that name none of their own",
    )
    parser.add_argument("--fold", help="number of a fold, or all")
    parser.add_argument("--seeds", help="such as 1,2,3")
    parser.add_argument("--baseline", help="system to compare all others with; default: the best")
    parser.add_argument("--only", help="systems to train, with commas; the table shows all that are done")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/study"), help="default: %(default)s")
    parser.add_argument("--pictures", default="png", help="formats of the picture: png, pdf, svg, with commas")
    parser.add_argument("--jobs", type=int, default=1, choices=range(1, 65), metavar="N", help="runs at a time")
    return parser.parse_args(sys.argv[1:place]), sys.argv[place + 1 :]


if __name__ == "__main__":
    parse_early(command_line)

from hf_ser.checks.study.plan import COMMON, Study, read_study, select_systems, study_of_recipes, with_overrides
from hf_ser.checks.study.plots import plot_study
from hf_ser.checks.study.results import PICTURE, TABLE, format_study, make_study, write_study
from hf_ser.checks.study.run import runs_of, train
from hf_ser.plotting import picture_formats

SCRIPTS = Path(__file__).parent


def main() -> None:
    """Plan, runs, result."""
    arguments, flags = command_line()
    study = with_overrides(
        _read(arguments.sources),
        {name: getattr(arguments, name) for name in COMMON},
        arguments.seeds,
        flags,
        arguments.baseline,
    )
    systems = select_systems(study, arguments.only.split(",") if arguments.only else ())
    failed = train(runs_of(study, arguments.output_dir, systems), SCRIPTS, arguments.jobs)

    result = make_study(study, runs_of(study, arguments.output_dir))
    write_study(result, arguments.output_dir)
    with picture_formats(arguments.pictures):
        plot_study(result, arguments.output_dir / PICTURE)
    print(format_study(result))
    print(f"\nstudy: {arguments.output_dir / TABLE}, {arguments.output_dir / PICTURE}")
    best = [runs.folder for runs in runs_of(study, arguments.output_dir) if runs.is_done()]
    shown = [shlex.quote(str(folder)) for folder in best]
    show_next(f"evaluate {' '.join(shown[:4])}", f"stress {shown[0]} --dataset {arguments.dataset or 'DATA_SET'}")
    if failed:
        print(f"{len(failed)} failed: {'; '.join(one.name for one in failed)}", file=sys.stderr)
        sys.exit(1)


def _read(sources: list[str]) -> Study:
    """Read one study file, or several recipes."""
    return read_study(sources[0]) if len(sources) == 1 else study_of_recipes(sources)


if __name__ == "__main__":
    run(main, continues=True)
