"""Check whether a result can be trusted: what the parts of a split share, and what gives the label away.

python scripts/audit.py --dataset DS --protocol emobox     # before training
python scripts/audit.py --run runs/NAME [--dataset DS]     # a finished run

The exit status is 1 for a leak, 0 for none, 2 for an input error.
"""

from hf_ser.cli import parse_early, run, show_next

import argparse
import shlex
import sys
from pathlib import Path

from hf_ser.settings import names_in


def command_line() -> argparse.Namespace:
    """The arguments."""
    maps = names_in("data/labels.py", "LABEL_MAPS")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", help="folder written by prepare_data.py")
    parser.add_argument("--run", help="--output_dir of a training script")
    parser.add_argument("--protocol", default="speaker_folds", choices=names_in("data/protocols.py", "PROTOCOLS"))
    parser.add_argument("--fold", default="all", help="number of a fold, or all")
    parser.add_argument("--n_folds", type=int, default=5)
    parser.add_argument("--validation_fraction", type=float, default=0.2)
    parser.add_argument("--split_seed", type=int, default=0)
    parser.add_argument("--split_file", help="split file of --protocol fixed")
    parser.add_argument("--not_copies", help="CSV of pairs of ids that a person has found to be no copies")
    parser.add_argument("--label_map", default="native", help=f"native, {', '.join(maps)}, or a YAML file")
    parser.add_argument("--sound_only", action="store_true", help="for an audio-only model, to which text is no leak")
    parser.add_argument("--output", type=Path, help="JSON to write; default: audit.json of the run or data set")
    return parser.parse_args()


if __name__ == "__main__":
    parse_early(command_line)

from hf_ser.checks.audit.data import audit_data, integrity_findings, recogniser_findings
from hf_ser.checks.audit.not_copies import read_not_copies
from hf_ser.checks.audit.run import audit_run
from hf_ser.data.folds import describe
from hf_ser.data.labels import apply_label_map
from hf_ser.data.prepared import load_prepared
from hf_ser.data.splitting import make_folds
from hf_ser.runs.findings import AUDIT, LEAK, format_audit, write_audit


def main() -> None:
    """Data set and folds, or run; findings; verdict."""
    arguments = command_line()
    if not (arguments.dataset or arguments.run):
        raise ValueError("Found neither --dataset nor --run: name a prepared data set or a run to audit.")

    dataset = load_prepared(arguments.dataset) if arguments.dataset else None
    if arguments.not_copies and dataset is None:
        raise ValueError("--not_copies needs --dataset: found none. Name the prepared data set too.")
    cleared = read_not_copies(arguments.not_copies, dataset["id"][:]) if arguments.not_copies else None
    if arguments.run:
        subject = {"run": arguments.run, "dataset": arguments.dataset}
        findings = audit_run(arguments.run, dataset, cleared)
    else:
        dataset, _ = apply_label_map(dataset, arguments.label_map)
        folds = make_folds(
            dataset,
            arguments.protocol,
            arguments.fold,
            arguments.n_folds,
            arguments.validation_fraction,
            arguments.split_seed,
            True,  # an audit reports leaks instead of refusing them
            arguments.split_file,
        )
        print("\n".join(describe(dataset, fold) for fold in folds))
        subject = {"dataset": arguments.dataset, "protocol": arguments.protocol, "fold": arguments.fold}
        found = audit_data(dataset, folds, not arguments.sound_only, cleared)
        findings = [*integrity_findings(arguments.dataset), *found]
        if not arguments.sound_only:
            findings += recogniser_findings(dataset, folds, arguments.dataset)
    output = arguments.output or Path(arguments.run or arguments.dataset) / AUDIT
    write_audit(subject, findings, output)
    print(format_audit(findings))
    print(f"audit: {output}")
    if arguments.dataset and not arguments.run:
        name = shlex.quote(str(arguments.dataset))
        show_next(f"train_audio --dataset {name} --fold all", f"train_fusion --dataset {name} --fold all")
    sys.exit(int(any(finding.severity == LEAK for finding in findings)))


if __name__ == "__main__":
    run(main)
