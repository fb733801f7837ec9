"""Train an audio-only model: a pretrained encoder with a head, or an own network from scratch.

accelerate launch scripts/train_audio.py --audio_model facebook/wav2vec2-base --corpus ravdess --data_dir DIR
"""

from hf_ser.cli import parse_early, run, show_next

from hf_ser.training.early import check_command_line

if __name__ == "__main__":
    parse_early(lambda: check_command_line("audio"))

from hf_ser.training.tasks import next_commands, parse_task, run_task


def main() -> None:
    """Train and test a model."""
    given = parse_task("audio")
    show_next(*next_commands("audio", run_task("audio", given), given))


if __name__ == "__main__":
    run(main, continues=True)
