"""Fine-tune a fused model of sound and words.

accelerate launch scripts/train_fusion.py                       # the embedded default, no data or network
accelerate launch scripts/train_fusion.py RECIPE.yaml [--flags] # a recipe, flags override it
"""

from hf_ser.cli import run

from pathlib import Path

from hf_ser.augment.training import AugmentArguments
from hf_ser.training.arguments import (
    AdaptArguments,
    AudioArguments,
    DataArguments,
    FusionArguments,
    SerTrainingArguments,
    TextArguments,
)
from hf_ser.training.building import build_fusion, from_fold
from hf_ser.training.parsing import parse_arguments
from hf_ser.training.run import open_data, train_folds

QUICKSTART = Path(__file__).parent / "recipes" / "quickstart.yaml"


def main() -> None:
    """Data, model, training, report."""
    classes = (DataArguments, AudioArguments, TextArguments, FusionArguments, AugmentArguments, AdaptArguments)
    classes = (*classes, SerTrainingArguments)
    data, audio, text, fusion, augment, adapt, training = parse_arguments(classes, None, QUICKSTART, "runs/fusion")
    dataset, folds, label_map = open_data(data, audio, text)

    def build(labels, texts, speakers, fold):
        of_fold = from_fold(audio, fold.name), from_fold(text, fold.name)
        return build_fusion(labels, texts, *of_fold, fusion, adapt, speakers)

    train_folds("fusion", build, dataset, folds, label_map, data, training, audio, text, fusion, augment, adapt)


if __name__ == "__main__":
    run(main)
