"""Fine-tune Whisper on a corpus's transcripts; word error rate before and after, on speakers it was not trained on.

accelerate launch scripts/train_asr.py --dataset DS --asr_model openai/whisper-small --fold all --output_dir runs/asr
accelerate launch scripts/train_asr.py --dataset DS --asr_model FOLDER --lora true --language de
python scripts/transcribe.py --dataset DS --asr runs/asr/fold_1 --output_dir DS_1  # for emotion models of fold 1
"""

from hf_ser.cli import parse_early, run

from hf_ser.training.arguments import show_help

if __name__ == "__main__":
    parse_early(lambda: show_help("asr"))

from hf_ser.training.tasks import parse_task, run_task


def main() -> None:
    """Train and test a model."""
    run_task("asr", parse_task("asr"))


if __name__ == "__main__":
    run(main)
