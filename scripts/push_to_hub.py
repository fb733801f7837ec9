"""Push a trained model or a prepared data set to the Hub; run again, it sends only what is new.

python scripts/push_to_hub.py runs/quickstart/fold_1 user/name [--private] [--space]   # a model, and a demo of it
python scripts/push_to_hub.py runs/calls/final user/name [--public]                    # of your own table: private
python scripts/push_to_hub.py DS user/name [--private] [--licence cc-by-4.0]           # a data set of prepare_data.py
"""

from hf_ser.cli import parse_early, run, show_next

import argparse
from pathlib import Path


def command_line() -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="trained model (fold_1, final) or prepared data set")
    parser.add_argument("repo_id", help="user/name; made where it is missing")
    visible = parser.add_mutually_exclusive_group()
    visible.add_argument("--private", action="store_true", help="visible to its owner alone")
    visible.add_argument("--public", action="store_true", help="make a model of your own recordings public")
    parser.add_argument("--space", action="store_true", help="for a model: also make a Gradio Space of the same name")
    parser.add_argument("--licence", help="for a data set from your own table: the Hub's name of its licence")
    parser.add_argument(
        "--allow_outside_files",
        action="store_true",
        help="of a data set: push recordings from outside its folder too",
    )
    parser.add_argument("--purpose", help="for a model's card: what it is for; needed unless most classes are emotions")
    parser.add_argument("--revision", help="branch to push to; default: main")
    return parser.parse_args()


if __name__ == "__main__":
    parse_early(command_line)

from hf_ser.data.prepared import REPORT
from hf_ser.publish.hub import push_dataset, push_model


def main() -> None:
    """Folder, repository, commit."""
    arguments = command_line()

    folder, repo_id = arguments.folder, arguments.repo_id
    if (folder / REPORT).is_file():
        if arguments.space:
            raise ValueError(f"{folder}: found a data set, expected a model with --space: leave it out.")
        if arguments.public:
            raise ValueError(f"{folder}: found a data set, expected a model with --public: use --licence for your own.")
        if arguments.purpose:
            raise ValueError(f"{folder}: found a data set, expected a model with --purpose: leave it out.")
        push_dataset(
            *(folder, repo_id, arguments.private, arguments.licence, arguments.revision),
            allow_outside_files=arguments.allow_outside_files,
        )
        return
    if arguments.allow_outside_files:
        raise ValueError(f"{folder}: found no data set, expected one with --allow_outside_files: leave it out.")
    if arguments.licence:
        raise ValueError(f"{folder}: found no data set, expected one with --licence: leave it out for a model.")
    private = True if arguments.private else False if arguments.public else None
    push_model(folder, repo_id, private, arguments.space, arguments.revision, purpose=arguments.purpose)
    show_next(f"predict {repo_id} call.wav", f"serve {repo_id}")


if __name__ == "__main__":
    run(main)
