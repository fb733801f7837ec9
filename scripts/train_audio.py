"""Train an audio-only model: a pretrained encoder with a head, or an own network from scratch.

accelerate launch scripts/train_audio.py --audio_model facebook/wav2vec2-base --corpus ravdess --data_dir DIR
"""

from hf_ser.cli import parse_early, run

from hf_ser.training.arguments import show_help

if __name__ == "__main__":
    parse_early(lambda: show_help("audio"))

from hf_ser.training.tasks import parse_task, run_task


def main() -> None:
    """Train and test a model."""
    run_task("audio", parse_task("audio"))


if __name__ == "__main__":
    run(main)
