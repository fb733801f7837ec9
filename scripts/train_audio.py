"""Fine-tune a model that only hears: any AutoModelForAudioClassification, or our CNN.

accelerate launch scripts/train_audio.py --audio_model facebook/wav2vec2-base --corpus ravdess --data_dir DIR
"""

from hf_ser.cli import run
from hf_ser.training.arguments import (
    AdaptArguments,
    AudioArguments,
    DataArguments,
    SerTrainingArguments,
    parse_arguments,
    refuse_words,
)
from hf_ser.training.building import build_audio, from_fold
from hf_ser.training.run import open_data, train_folds


def main() -> None:
    """Data, model, training, report."""
    classes = (DataArguments, AudioArguments, AdaptArguments, SerTrainingArguments)
    data, audio, adapt, training = parse_arguments(classes, output_dir="runs/audio")
    refuse_words(data)
    dataset, folds, label_map = open_data(data)

    def build(labels, _, fold):
        return build_audio(labels, from_fold(audio, fold.name), adapt)

    train_folds("audio", build, dataset, folds, label_map, data, training, audio, adapt)


if __name__ == "__main__":
    run(main)
