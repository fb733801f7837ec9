"""Fine-tune Whisper on a corpus's transcripts; word error rate before and after, on speakers it was not trained on.

accelerate launch scripts/train_asr.py --dataset DS --asr_model openai/whisper-small --fold all --output_dir runs/asr
accelerate launch scripts/train_asr.py --dataset DS --asr_model FOLDER --lora true --language de
python scripts/transcribe.py --dataset DS --asr runs/asr/fold_1 --output_dir DS_1  # for emotion models of fold 1
"""

from hf_ser.cli import parse_early, run, show_next

from hf_ser.training.early import check_command_line

if __name__ == "__main__":
    parse_early(lambda: check_command_line("asr"))

from hf_ser.training.tasks import next_commands, parse_task, run_task


def main() -> None:
    """Train and test a model."""
    given = parse_task("asr")
    show_next(*next_commands("asr", run_task("asr", given), given))


if __name__ == "__main__":
    run(main, continues=True)
