"""Measure how a trained model holds up under noise, codecs, rooms, cuts and wrong transcripts.

python scripts/stress.py runs/quickstart/fold_1 --dataset DS
python scripts/stress.py runs/calls --dataset DS
python scripts/stress.py user/name@revision --dataset DS --groups noise,codec --max_clips 200 --output_dir O

Tests a fold's model on the rows its fold was tested on, any other on the rows of DS that it was not trained on; of a
run's folder every fold's model, each on the test rows of its own fold, with one result of all. Answers are kept, so
that the command continues when it is run again. The exit status is 0; with --strict 1 if it failed.
"""

from hf_ser.cli import parse_early, run, show_next

import argparse
import shlex
import sys
from pathlib import Path


def command_line() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """The parser, and the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "model", help="model folder, such as runs/quickstart/fold_1, a run's folder, or a Hub id, also with @REVISION"
    )
    parser.add_argument("--dataset", required=True, help="folder written by prepare_data.py or transcribe.py")
    parser.add_argument("--groups", help="kinds of change, with commas, such as noise,codec; default: all")
    parser.add_argument("--max_clips", type=int, help="test at most so many clips, of all classes alike")
    parser.add_argument("--seed", type=int, default=0, help="of all noise and all draws")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--output_dir", type=Path, help="default: the model's folder")
    parser.add_argument("--label_map", help="where the model's training record names none")
    parser.add_argument("--max_drop_mild", type=float, help="UAR that a mild change may cost, such as 0.05")
    parser.add_argument("--max_drop_hard", type=float, help="UAR that a hard change may cost, such as 0.15")
    parser.add_argument(
        "--allow_leak", action="store_true", help="test clips that the model has met, stamped as leaked"
    )
    parser.add_argument("--strict", action="store_true", help="end with status 1 where the verdict is failed")
    parser.add_argument("--pictures", default="png", help="formats of the picture: png, pdf, svg, with commas")
    parser.add_argument("--device", default=None, help="such as cuda:0; default: a GPU where there is one")
    return parser, parser.parse_args()


if __name__ == "__main__":
    parse_early(command_line)

from hf_ser.checks.stress.conditions import GROUPS, HARD, MILD
from hf_ser.checks.stress.results import FAILED, PICTURE, format_stress
from hf_ser.checks.stress.run import own_predictions
from hf_ser.data.prepared import load_prepared
from hf_ser.plotting import picture_formats
from hf_ser.publish.stress import stress_model
from hf_ser.runs.classifier import TEXT, Classifier
from hf_ser.runs.folder import RunFolder, model_or_run
from hf_ser.runs.stress import STRESS


def main() -> None:
    """Test the model and print the result."""
    parser, arguments = command_line()
    groups = arguments.groups.split(",") if arguments.groups else list(GROUPS)
    if unknown := [group for group in groups if group not in GROUPS]:
        parser.error(f"--groups {', '.join(unknown)}: expected some of {', '.join(GROUPS)}")
    for name in ("max_clips", "batch_size"):
        if getattr(arguments, name) is not None and getattr(arguments, name) < 1:
            parser.error(f"--{name} {getattr(arguments, name)}: expected 1 or more")
    if not (arguments.output_dir or Path(arguments.model).is_dir()):
        parser.error(
            f"{arguments.model} is no folder here; for a model of the Hub name one for the result: --output_dir O"
        )
    output_dir = arguments.output_dir or Path(arguments.model)
    drops = {MILD: arguments.max_drop_mild, HARD: arguments.max_drop_hard}
    with picture_formats(arguments.pictures):
        model = model_or_run(arguments.model, arguments.device)
        result = stress_model(
            model,
            arguments.dataset,
            groups,
            max_clips=arguments.max_clips,
            seed=arguments.seed,
            batch_size=arguments.batch_size,
            output_dir=output_dir,
            label_map=arguments.label_map,
            allow_leak=arguments.allow_leak,
            max_drop={kind: drop for kind, drop in drops.items() if drop is not None},
            device=arguments.device,
        )
    print(format_stress(result))
    print(f"stress test: {output_dir / STRESS}, {output_dir / PICTURE}")
    if result.verdict == FAILED and not arguments.strict:
        print("The exit status is 0 all the same; with --strict it is 1.")
    show_next(*next_commands(model, arguments.model, arguments.dataset))
    sys.exit(int(arguments.strict and result.verdict == FAILED))


def next_commands(model: Classifier | RunFolder, name: str, dataset: str) -> list[str]:
    """The report with the audio, where it is of this data set, and a prediction, of a run by the model of a fold."""
    use, kind = name, getattr(model, "kind", None)
    if isinstance(model, RunFolder):
        fold = next(reversed(model.folds.values()))
        use, kind = str(fold.path), fold.record.settings.get("model")
    has_report = own_predictions(name, load_prepared(dataset))
    return [
        *([f"evaluate {shlex.quote(name)} --dataset {shlex.quote(dataset)}"] if has_report else []),
        *([f"predict {shlex.quote(use)} call.wav"] if kind != TEXT else []),
    ]


if __name__ == "__main__":
    run(main, continues=True)
