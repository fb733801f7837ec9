"""Read a corpus into a data set folder that memory-maps, and say what is wrong with it.

python scripts/prepare_data.py --corpus ravdess --data_dir DIR --output_dir DS
python scripts/prepare_data.py --corpus table --data_dir CLIPS.csv --output_dir DS
"""

import argparse

from hf_ser.integrity import format_integrity
from hf_ser.cli import run
from hf_ser.corpora import CORPORA
from hf_ser.dataset import prepare


def main() -> None:
    """Corpus, data set, integrity report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True, choices=CORPORA)
    parser.add_argument("--data_dir", help="the corpus folder, or the table file of --corpus table")
    parser.add_argument("--output_dir", required=True, help="folder to write; a killed run is taken up where it was")
    arguments = parser.parse_args()

    _, report = prepare(arguments.corpus, arguments.data_dir, arguments.output_dir)
    print(format_integrity(report))
    print(f"data set: {arguments.output_dir}, all findings: {arguments.output_dir}/integrity.json")


if __name__ == "__main__":
    run(main)
