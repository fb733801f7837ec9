"""Train a text-only model: a pretrained text encoder, or a GRU from nothing, under a head.

accelerate launch scripts/train_text.py --text_model distilbert-base-uncased --corpus table --data_dir CLIPS.csv
"""

from hf_ser.cli import parse_early, run, show_next

from hf_ser.training.early import check_command_line

if __name__ == "__main__":
    parse_early(lambda: check_command_line("text"))

from hf_ser.training.tasks import next_commands, parse_task, run_task


def main() -> None:
    """Train and test a model."""
    given = parse_task("text")
    show_next(*next_commands("text", run_task("text", given), given))


if __name__ == "__main__":
    run(main, continues=True)
