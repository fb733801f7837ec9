"""Fine-tune a model that only reads: any AutoModelForSequenceClassification, or our GRU.

accelerate launch scripts/train_text.py --text_model distilbert-base-uncased --corpus table --data_dir CLIPS.csv
"""

from hf_ser.cli import run

from hf_ser.training.arguments import (
    AdaptArguments,
    DataArguments,
    SerTrainingArguments,
    TextArguments,
    refuse_text_layers,
)
from hf_ser.training.building import build_text, from_fold
from hf_ser.training.parsing import parse_arguments
from hf_ser.training.run import open_data, train_folds


def main() -> None:
    """Data, model, training, report."""
    classes = (DataArguments, TextArguments, AdaptArguments, SerTrainingArguments)
    data, text, adapt, training = parse_arguments(classes, output_dir="runs/text")
    refuse_text_layers(text)
    dataset, folds, label_map = open_data(data, text)

    def build(labels, texts, speakers, fold):
        return build_text(labels, texts, from_fold(text, fold.name), adapt, speakers)

    train_folds("text", build, dataset, folds, label_map, data, training, text, adapt)


if __name__ == "__main__":
    run(main)
