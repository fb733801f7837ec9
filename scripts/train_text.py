"""Train a text-only model: a pretrained text encoder, or a GRU from nothing, under a head.

accelerate launch scripts/train_text.py --text_model distilbert-base-uncased --corpus table --data_dir CLIPS.csv
"""

from hf_ser.cli import parse_early, run

from hf_ser.training.arguments import show_help

if __name__ == "__main__":
    parse_early(lambda: show_help("text"))

from hf_ser.training.tasks import parse_task, run_task


def main() -> None:
    """Train and test a model."""
    run_task("text", parse_task("text"))


if __name__ == "__main__":
    run(main)
