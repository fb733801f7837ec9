"""Read a corpus, or several as one, into a data set folder that memory-maps, and say what is wrong with it.

python scripts/prepare_data.py --corpus ravdess --data_dir DIR --output_dir DS [--download] [--report]
python scripts/prepare_data.py --corpus ravdess,emodb --data_dir A,B --label_map four_class --output_dir DS
python scripts/prepare_data.py --corpus table --data_dir CLIPS.csv --columns path=file,label=emotion --output_dir DS
"""

import argparse

from hf_ser.cli import run
from hf_ser.corpora import CORPORA
from hf_ser.dataset import download_corpora, prepare
from hf_ser.dataset_card import write_dataset_report
from hf_ser.integrity import format_integrity
from hf_ser.labels import LABEL_MAPS, NATIVE


def main() -> None:
    """Corpus, data set, integrity report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True, help=f"one, or several with commas: {', '.join(CORPORA)}")
    parser.add_argument("--data_dir", help="where it lies, one for each corpus with commas; of a table: its file")
    parser.add_argument("--output_dir", required=True, help="folder to write; a killed run is taken up where it was")
    parser.add_argument("--label_map", default=NATIVE, help=f"{NATIVE}, {', '.join(LABEL_MAPS)}, or a YAML file")
    parser.add_argument("--columns", help="names of a table's columns where they are not ours: path=file,label=emotion")
    parser.add_argument("--speaker_pattern", help="of a table: regular expression whose group is the speaker in a path")
    parser.add_argument("--download", action="store_true", help="fetch the corpus into --data_dir first")
    parser.add_argument("--report", action="store_true", help="write pictures and a data-set card into --output_dir")
    arguments = parser.parse_args()

    if arguments.download:
        download_corpora(arguments.corpus, arguments.data_dir)
    dataset, integrity = prepare(
        arguments.corpus,
        arguments.data_dir,
        arguments.output_dir,
        arguments.label_map,
        columns=arguments.columns,
        speaker_pattern=arguments.speaker_pattern,
    )
    print(format_integrity(integrity))
    print(f"data set: {arguments.output_dir}, all findings: {arguments.output_dir}/integrity.json")
    if arguments.report:
        for file in write_dataset_report(dataset, integrity, arguments.output_dir):
            print(f"wrote {file}")


if __name__ == "__main__":
    run(main)
