"""Read a corpus, or several as one, into a data set folder that memory-maps, and say what is wrong with it.

python scripts/prepare_data.py --corpus ravdess --data_dir DIR --output_dir DS [--download] [--report]
python scripts/prepare_data.py --corpus ravdess,emodb --data_dir A,B --label_map four_class --output_dir DS
python scripts/prepare_data.py --corpus table --data_dir CLIPS.csv --columns path=file,label=emotion --output_dir DS
python scripts/prepare_data.py ... --augmented_copies 3 --augment white:1@15-25,shift:1   # to show a leak, see below

To change clips in training, give --augment to the training script: --augmented_copies is for measuring the leak of
copies that are made before the split. Training on them under --protocol random --allow_leak is stamped as leaked.
"""

from hf_ser.cli import parse_early, run, show_next

import argparse
import shlex
from pathlib import Path

from hf_ser.settings import names_in


def command_line() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """The parser, and the arguments."""
    maps = names_in("data/labels.py", "LABEL_MAPS")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--corpus",
        required=True,
        help=f"one, or several with commas: {', '.join(names_in('data/corpora/__init__.py', 'CORPORA'))}",
    )
    parser.add_argument("--data_dir", help="its folder, one for each corpus with commas; of a table: its file")
    parser.add_argument("--output_dir", required=True, help="folder to write; a killed run is continued")
    parser.add_argument("--label_map", default="native", help=f"native, {', '.join(maps)}, or a YAML file")
    parser.add_argument(
        "--columns",
        help="names of a table's columns if not ours: path=file,label=emotion; label:NA=negative says what "
        "a cell means, speaker:Nan=Nan that it is a name",
    )
    parser.add_argument(
        "--speaker_pattern", help="of a table: regular expression whose groups are the speaker in a path"
    )
    parser.add_argument("--label_pattern", help="of a table: regular expression whose group is the label in a path")
    parser.add_argument("--audio_dir", help="of a table: folder where its paths begin; default: the table's own folder")
    parser.add_argument(
        "--channel",
        choices=names_in("models/streams.py", "CHANNELS"),
        help="of several channels: their mean (mix, default), or one",
    )
    parser.add_argument("--download", action="store_true", help="fetch the corpus into --data_dir first")
    parser.add_argument("--report", action="store_true", help="write pictures and a data-set card into --output_dir")
    parser.add_argument("--augmented_copies", type=int, default=0, help="changed copies of each clip, to show a leak")
    parser.add_argument("--augment", help="what changes the copies, such as white:1@15-25,shift:1")
    parser.add_argument("--noise_dir", help="folder with the audio files of the change noise_folder")
    parser.add_argument("--seed", type=int, default=0, help="of the copies")
    return parser, parser.parse_args()


if __name__ == "__main__":
    parse_early(command_line)

from datasets import Dataset

from hf_ser.data.integrity import format_integrity
from hf_ser.data.listing import download_corpora
from hf_ser.data.prepare import already_prepared, prepare
from hf_ser.files import temporary_folder


def main() -> None:
    """Corpus, data set, integrity report."""
    parser, arguments = command_line()
    if bool(arguments.augment) != (arguments.augmented_copies > 0):
        parser.error("--augmented_copies N and --augment SPEC go together: give both, or neither")
    if arguments.augment:
        from hf_ser.augment.specification import parse_augmentation

        parse_augmentation(arguments.augment)  # a wrong one is refused before the work

    if arguments.download:
        download_corpora(arguments.corpus, arguments.data_dir)
    if unreported := without_report(arguments):
        dataset, integrity = unreported
        print(f"{arguments.output_dir} holds this data set already, and no report of it yet: it is drawn now")
    elif arguments.augmented_copies:
        dataset, integrity = prepare_with_copies(arguments)
    else:
        dataset, integrity = prepare_originals(arguments, arguments.output_dir)
    print(format_integrity(integrity))
    print(f"data set: {arguments.output_dir}, all findings: {arguments.output_dir}/integrity.json")
    if arguments.report:
        from hf_ser.publish.dataset_card import write_dataset_report  # imports matplotlib and torch

        for file in write_dataset_report(dataset, integrity, arguments.output_dir):
            print(f"wrote {file}")
    folder = shlex.quote(str(arguments.output_dir))
    has_text = any(dataset["transcript"][:])
    show_next(
        f"{'train_fusion' if has_text else 'train_audio'} --dataset {folder} --fold all",
        f"audit --dataset {folder}" if has_text else f"transcribe --dataset {folder} --asr openai-whisper:base",
    )


def without_report(arguments: argparse.Namespace) -> tuple[Dataset, dict] | None:
    """Data set of an earlier run of this command that ended before its report, None if there is none."""
    if not arguments.report:
        return None
    from hf_ser.publish.dataset_card import CARD

    if (Path(arguments.output_dir) / CARD).exists():
        return None
    where = arguments.corpus, arguments.data_dir, arguments.output_dir, arguments.label_map
    return already_prepared(*where, copies=arguments.augmented_copies, **table_options(arguments))


def table_options(arguments: argparse.Namespace) -> dict:
    """Options of reading a corpus."""
    names = ("columns", "speaker_pattern", "label_pattern", "audio_dir", "channel")
    return {name: getattr(arguments, name) for name in names}


def prepare_originals(arguments: argparse.Namespace, folder: str | Path) -> tuple[Dataset, dict]:
    """Prepare the corpus without copies."""
    return prepare(arguments.corpus, arguments.data_dir, folder, arguments.label_map, **table_options(arguments))


def prepare_with_copies(arguments: argparse.Namespace) -> tuple[Dataset, dict]:
    """Prepare the corpus with changed copies of each clip."""
    from hf_ser.augment.copies import prepare_copies

    output_dir = Path(arguments.output_dir)
    with temporary_folder(output_dir.parent, output_dir.name) as work:
        prepare_originals(arguments, work / "originals")
        copies, noise_dir = arguments.augmented_copies, arguments.noise_dir
        return prepare_copies(work / "originals", output_dir, copies, arguments.augment, arguments.seed, noise_dir)


if __name__ == "__main__":
    run(main, continues=True)
