"""Train a model that only hears: a pretrained encoder with a head, or a network of ours from scratch.

accelerate launch scripts/train_audio.py --audio_model facebook/wav2vec2-base --corpus ravdess --data_dir DIR
"""

from hf_ser.cli import run

from hf_ser.augment.training import AugmentArguments
from hf_ser.training.arguments import (
    AdaptArguments,
    AudioArguments,
    DataArguments,
    HeadArguments,
    SerTrainingArguments,
    refuse_words,
)
from hf_ser.training.building import build_audio, from_fold
from hf_ser.training.fits import refuse_descent
from hf_ser.training.parsing import parse_arguments
from hf_ser.training.run import open_data, train_folds


def main() -> None:
    """Data, model, training, report."""
    classes = (DataArguments, AudioArguments, HeadArguments, AugmentArguments, AdaptArguments, SerTrainingArguments)
    data, audio, head, augment, adapt, training = parse_arguments(classes, output_dir="runs/audio")
    refuse_words(data)
    refuse_descent(audio, head, augment, adapt, training)
    dataset, folds, label_map = open_data(data, audio)

    def build(labels, _texts, _speakers, fold):
        return build_audio(labels, from_fold(audio, fold.name), head, adapt)

    train_folds("audio", build, dataset, folds, label_map, data, training, audio, head, augment, adapt)


if __name__ == "__main__":
    run(main)
