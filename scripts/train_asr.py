"""Fine-tune Whisper on a corpus's transcripts; word error rate before and after, on speakers it was not trained on.

accelerate launch scripts/train_asr.py --dataset DS --asr_model openai/whisper-small --fold all --output_dir runs/asr
accelerate launch scripts/train_asr.py --dataset DS --asr_model FOLDER --lora true --language de
python scripts/transcribe.py --dataset DS --asr runs/asr/fold_1 --output_dir DS_1  # for emotion models of fold 1
"""

from hf_ser.cli import parse_early, run

from hf_ser.training.arguments import AsrArguments, DataArguments, show_help

if __name__ == "__main__":
    parse_early(lambda: show_help("asr"))

from hf_ser.training.asr import AsrTrainingArguments
from hf_ser.training.asr_run import train_folds
from hf_ser.training.parsing import parse_arguments
from hf_ser.training.run import open_data


def main() -> None:
    """Train and test recognisers."""
    data, asr, training = parse_arguments((DataArguments, AsrArguments, AsrTrainingArguments), output_dir="runs/asr")
    dataset, folds, label_map = open_data(data, asr)
    train_folds(dataset, folds, label_map, data, asr, training)


if __name__ == "__main__":
    run(main)
