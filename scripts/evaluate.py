"""Make the report of a run anew, compare or rank runs, or test somebody else's model on your data.

    python scripts/evaluate.py runs/ravdess                               # report, pictures, page and cards
    python scripts/evaluate.py runs/ravdess --dataset DS --embedding_map  # audio in the page, a map of the embeddings
    python scripts/evaluate.py runs/a runs/b                              # is B better than A?
    python scripts/evaluate.py runs/a runs/b runs/c                       # a leaderboard, with a test against the best
    python scripts/evaluate.py --model user/name --dataset DS --protocol emobox --label_map happy=joy,sad=sadness

A run is its folder or a predictions.jsonl; from the latter report, pictures and page are made beside it. A model is
tested on the test parts of a protocol, and gets a run's folder to compare with your own runs.

This file hides the `evaluate` library from the scripts beside it, since Python puts a script's folder first on its
path. None of them needs that library.
"""

from hf_ser.cli import parse_early, run, show_next

import argparse
import shlex
from pathlib import Path

from hf_ser.settings import names_in

OF_MODEL = (
    "protocol",
    "fold",
    "n_folds",
    "split_seed",
    "split_file",
    "label_map",
    "batch_size",
    "device",
    "allow_leak",
)
"""Flags that go with --model alone."""


def command_line() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """The parser, and the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    many = "one run to report on, two to compare, or more to rank"
    parser.add_argument("runs", type=Path, nargs="*", metavar="run", help=many)
    where = "where to write (default: beside the predictions, of the last run; of a model runs/NAME)"
    parser.add_argument("--output_dir", type=Path, help=where)
    parser.add_argument(
        "--dataset", type=Path, help="data set of the run, for audio in the page; or to test --model on"
    )
    parser.add_argument("--embed_audio", action="store_true", help="put audio of your own table into the page too")
    parser.add_argument("--embedding_map", action="store_true", help="map what each model makes of its test clips")
    parser.add_argument("--pictures", default="png", help="formats of the pictures: png, pdf, svg, with commas")
    of_model = parser.add_argument_group("a model from elsewhere").add_argument
    of_model("--model", help="model folder or Hub id, also with @REVISION: any audio classifier of transformers")
    of_model("--protocol", choices=names_in("data/protocols.py", "PROTOCOLS"), help="default: speaker_folds")
    of_model("--fold", help="number of a fold, or all (default)")
    of_model("--n_folds", type=int, help="as in training")
    of_model("--split_seed", type=int, help="as in training")
    of_model("--split_file", help="split file of --protocol fixed")
    of_model(
        "--label_map",
        help="CLASS=LABEL pairs, the data set's class and the model's label, where their names differ; =LABEL leaves a "
        "label out; before them a label map of the data set as in training, such as four_class",
    )
    of_model("--batch_size", type=int, help="clips a forward pass; default: 16")
    of_model("--device", help="such as cuda:0; default: a GPU where there is one")
    of_model("--allow_leak", action="store_true", help="test clips that the model was trained on, stamped as leaked")
    return parser, parser.parse_args()


if __name__ == "__main__":
    parse_early(command_line)

from hf_ser.checks.study.leaderboard import FinishedRun, format_leaderboard, make_leaderboard
from hf_ser.data.prepared import load_prepared
from hf_ser.inputs.collate import clips
from hf_ser.plotting import picture_formats
from hf_ser.publish.evaluation import evaluate_model, summary
from hf_ser.publish.leaderboard import write_leaderboard
from hf_ser.publish.plots import plot_comparison
from hf_ser.publish.results import write_pictures_and_page, write_results
from hf_ser.runs.classifier import Classifier, statistics_of_rows
from hf_ser.runs.comparison import COMPARISON, compare, format_comparison, run_names, write_comparison
from hf_ser.runs.embeddings import embeddings, plot_embedding_map
from hf_ser.runs.findings import read_verdict
from hf_ser.runs.folder import FoldFolder, RunFolder
from hf_ser.runs.predictions import PREDICTIONS, predictions_file, read_predictions
from hf_ser.runs.record import RECORD, as_trained
from hf_ser.runs.report import REPORT, conditions_of, label_map_of, make_report, notices_of, write_report
from hf_ser.runs.report_text import format_report


def main() -> None:
    parser, arguments = command_line()
    if (arguments.embed_audio or arguments.embedding_map) and not arguments.dataset:
        parser.error("--embed_audio and --embedding_map need the audio: name the data set with --dataset")
    if not arguments.model and (given := [name for name in OF_MODEL if getattr(arguments, name)]):
        parser.error(f"--{given[0]} is for a model from elsewhere: name it with --model, or leave it out")
    with picture_formats(arguments.pictures):
        print(result(parser, arguments))
    show_next(*next_commands(arguments))


def next_commands(arguments: argparse.Namespace) -> list[str]:
    """The stress test of a model of ours; of one run its comparison with another, of several the first one's report."""
    name = str(arguments.model or arguments.runs[0])
    folder, shown = Path(name), shlex.quote(name)
    is_ours = (folder / RECORD).is_file() or (folder.is_dir() and RunFolder(folder).folds)
    stress = [f"stress {shown} --dataset {shlex.quote(str(arguments.dataset or 'DATA_SET'))}"] if is_ours else []
    if arguments.model:
        return [*stress, f"predict {shown} call.wav"]
    return [*stress, f"evaluate {shown}" if len(arguments.runs) > 1 else f"evaluate {shown} OTHER_RUN"]


def result(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> str:
    """Do what the arguments ask for, and return what is to be shown."""
    if arguments.model:
        return model_report(parser, arguments)
    if not arguments.runs:
        parser.error("0 runs: expected one to report on, two to compare, more to rank, or a model with --model")
    if len(arguments.runs) == 1:
        return report(arguments.runs[0], arguments)
    if len(arguments.runs) == 2:
        return comparison(*arguments.runs, arguments.output_dir)
    return leaderboard(arguments.runs, arguments.output_dir)


def model_report(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> str:
    """Test a model that was not trained here, and write a run's folder."""
    if arguments.runs or arguments.embedding_map or not arguments.dataset:
        parser.error("--model is tested on the data set of --dataset, without runs and without --embedding_map")
    split = {"n_folds": arguments.n_folds, "seed": arguments.split_seed, "split_file": arguments.split_file}
    made = evaluate_model(
        Classifier(arguments.model, arguments.device),
        load_prepared(arguments.dataset),
        arguments.protocol or "speaker_folds",
        arguments.fold or "all",
        output_dir=arguments.output_dir,
        label_map=arguments.label_map,
        batch_size=arguments.batch_size or 16,
        allow_leak=arguments.allow_leak,
        embed_audio=True if arguments.embed_audio else None,
        **{name: value for name, value in split.items() if value is not None},
    )
    return summary(made)


def report(source: Path, arguments: argparse.Namespace) -> str:
    """Write the report of one run: everything that training writes for a folder, report and pictures for a file."""
    dataset = load_prepared(arguments.dataset) if arguments.dataset else None
    embed_audio = True if arguments.embed_audio else None
    if dataset is not None:
        check_dataset(dataset, predictions_file(source), arguments.dataset)
    if arguments.embedding_map:
        write_embedding_maps(source, dataset)
    if source.is_dir() and not arguments.output_dir and RunFolder(source).folds:
        return write_results(source, dataset, embed_audio)
    file = predictions_file(source)
    run_folder = file.parent.parent if (file.parent / RECORD).is_file() else file.parent
    made = make_report(read_predictions(file), read_verdict(run_folder), label_map_of(run_folder))
    folder = arguments.output_dir or file.parent
    write_report(made, folder / REPORT)
    page = write_pictures_and_page(made, folder, dataset, embed_audio)
    return f"{format_report(made)}\nreport: {page}"


def comparison(a: Path, b: Path, output_dir: Path | None) -> str:
    """Compare two runs, and write comparison.json and comparison.png."""
    files = [predictions_file(source) for source in (a, b)]
    result = compare(*map(read_predictions, files), run_names([file.parent for file in files]))
    file = (output_dir or files[1].parent) / COMPARISON
    write_comparison(result, file)
    plot_comparison(result, file.with_suffix(".png"))
    return f"{format_comparison(result)}\ncomparison: {file}, {file.with_suffix('.png')}"


def leaderboard(sources: list[Path], output_dir: Path | None) -> str:
    """Rank several runs, and write leaderboard.html with its picture and tables."""
    folders = [predictions_file(source).parent for source in sources]
    runs = [FinishedRun(name, folder) for name, folder in zip(run_names(folders), folders, strict=True)]
    result = make_leaderboard(runs)
    page = write_leaderboard(result, output_dir or folders[-1], {run.name: RunFolder(run.folder).about for run in runs})
    return f"{format_leaderboard(result)}\nleaderboard: {page}"


def check_dataset(dataset, file: Path, name: Path) -> None:
    """Check that a data set has the utterances that a run was tested on."""
    tested = [row.id for row in read_predictions(file)]
    if not set(tested) & set(dataset["id"][:]):
        raise ValueError(
            f"{name}: found none of the {len(tested)} utterances of {file} (such as {tested[0]}), expected the "
            "data set of the run: name that one, or leave out --dataset."
        )


def write_embedding_maps(source: Path, dataset) -> None:
    """Write `embedding_map.png` into the folder of each fold of a run, or of the one fold given."""
    folds = [FoldFolder(source)] if (source / RECORD).is_file() else RunFolder(source).folds.values()
    tested_folds = [fold for fold in folds if fold.is_tested]
    if not tested_folds:
        raise ValueError(
            f"{source}: found no tested fold, whose model is needed for embeddings. Expected a run's folder with "
            f"fold_1/{PREDICTIONS} or the like: name one, or leave out --embedding_map."
        )
    for fold in tested_folds:
        folder, rows = fold.path, {row.id: row for row in fold.predictions}
        every = as_trained(dataset, fold.record.settings)
        tested = [position for position, name in enumerate(every["id"][:]) if name in rows]
        data = every.select(tested)
        if len(data) != len(rows):
            raise ValueError(
                f"{folder}: found {len(data)} of its {len(rows)} tested utterances in the data set, expected all: name "
                "the one that it was trained on with --dataset."
            )
        examples = data.select_columns(["id", "audio", "transcript"]).to_list()
        classifier, texts = Classifier(str(folder)), [row["transcript"] for row in examples]
        known, _ = statistics_of_rows(classifier, every, tested)
        vectors = embeddings(classifier, clips(examples), texts, speaker_statistics=known)
        predicted = [rows[row["id"]] for row in examples]
        emotions, speakers = [row.reference for row in predicted], [row.speaker for row in predicted]
        conditions = conditions_of(predicted)
        notices = notices_of(conditions, read_verdict(folder.parent))
        picture, system = folder / "embedding_map.png", fold.record.description
        plot_embedding_map(vectors, emotions, speakers, conditions, notices, picture, system)


if __name__ == "__main__":
    run(main)
