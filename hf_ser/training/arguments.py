"""What a run is told: a YAML recipe first, flags over it, and nothing that is not known."""

import sys
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path

import torch
import yaml
from transformers import HfArgumentParser, TrainingArguments

from hf_ser.corpora import CORPORA
from hf_ser.labels import LABEL_MAPS, NATIVE
from hf_ser.models import FUSIONS, POOLINGS
from hf_ser.protocols import PROTOCOLS
from hf_ser.targets import TARGETS
from hf_ser.words import BANK_LEAK, BANK_ROWS, NOISE_ROWS, TRANSCRIPT_SOURCES

MODALITIES = ("none", "audio", "text", "both")


def option(default, help: str, choices=None):
    """A dataclass field with a help text, as HfArgumentParser reads it."""
    return field(default=default, metadata={"help": help, **({"choices": list(choices)} if choices else {})})


@dataclass
class DataArguments:
    """Which data, and who is trained and tested on."""

    corpus: str = option(
        "synthetic", f"corpus to read, or several as a,b (prepared once, into the cache): {', '.join(CORPORA)}"
    )
    data_dir: str | None = option(None, "where the corpus lies, or A,B for several: a folder, or the file of a table")
    columns: str | None = option(None, "names of a table's columns where they are not ours: path=file,label=emotion")
    speaker_pattern: str | None = option(None, "of a table: regular expression whose group is the speaker in a path")
    dataset: str | None = option(None, "folder written by prepare_data.py, instead of --corpus and --data_dir")
    label_map: str = option(NATIVE, f"label space: {NATIVE}, {', '.join(LABEL_MAPS)}, or a YAML file")
    target: str = option("label", "what is trained towards: the corpus's label, or the raters' votes", TARGETS)
    agreement_weight: bool = option(False, "let a clip count the more the more its raters agree")
    protocol: str = option("speaker_folds", "how the folds are made", PROTOCOLS)
    fold: str = option("1", "number of a fold (from 1), 'all', or 'final': train on all but the validation speakers")
    n_folds: int = option(5, "folds of speaker_folds and random, and over the speakers of sentence_disjoint")
    n_text_folds: int = option(2, "parts into which the *_disjoint protocols deal sentences, scripts or scenes")
    split_file: str | None = option(None, "of --protocol fixed: CSV with id and split, or JSON; default: split column")
    validation_fraction: float = option(0.2, "share of the training speakers (about) that choose the checkpoint")
    split_seed: int = option(0, "seed of the split, apart from --seed")
    allow_leak: bool = option(False, "let a leaking split or encoder pass; the result is stamped as leaked")
    transcript_source: str | None = option(
        None,
        "whose words are read: the corpus's own (reference), a recogniser's (asr), or either in training and the "
        "recogniser's in evaluation (mixed); default: the transcript column, which scripts/transcribe.py overwrites",
        TRANSCRIPT_SOURCES,
    )
    transcript_noise: float = option(0.0, "word error rate to corrupt the words to, such as 0.2")
    transcript_noise_rows: str = option("all", "rows whose words are corrupted", NOISE_ROWS)
    sentence_bank: str | None = option(
        None, "add sentences of a row's label to its words: 'default' (ours), a YAML file, or both as default,FILE"
    )
    sentence_bank_share: float = option(0.5, "share of the rows that are given a sentence")
    sentence_bank_rows: str = option(
        "train", "rows that may be given a sentence; 'all' gives the label away and needs --allow_leak", BANK_ROWS
    )

    def __post_init__(self):
        for f in fields(self):
            # argparse looks at the choices of flags alone, not at what a recipe says.
            known, value = f.metadata.get("choices"), getattr(self, f.name)
            if known and value not in (*known, f.default):
                raise ValueError(f"--{f.name} is {value}: expected one of {', '.join(known)}.")
        if not 0 <= self.transcript_noise <= 1:
            raise ValueError(f"--transcript_noise is {self.transcript_noise:g}: expected 0 to 1, such as 0.2 for 20 %.")
        if not 0 < self.sentence_bank_share <= 1:
            raise ValueError(f"--sentence_bank_share is {self.sentence_bank_share:g}: expected above 0 and at most 1.")
        if self.sentence_bank and self.sentence_bank_rows == "all" and not self.allow_leak:
            raise ValueError(
                "--sentence_bank_rows all: on validation and test rows a sentence that is chosen by the label gives "
                "the label away. Expected --sentence_bank_rows train; to measure the leak itself, add --allow_leak "
                f"(the result is stamped {BANK_LEAK})."
            )


@dataclass
class AudioArguments:
    """The encoder of the sound."""

    audio_model: str = option(
        "cnn", "'cnn' (ours, from scratch), a Hub id (user/name@REVISION pins it), or a folder; '{fold}' is replaced"
    )
    max_seconds: float = option(8.0, "longer clips keep their beginning; Whisper and AST are cropped to this length")

    def __post_init__(self):
        if not 0.5 <= self.max_seconds <= 600:
            raise ValueError(f"--max_seconds is {self.max_seconds:g}: expected 0.5 to 600 seconds.")


@dataclass
class TextArguments:
    """The encoder of the words."""

    text_model: str = option(
        "gru", "'gru' (ours, from scratch), a Hub id (user/name@REVISION pins it), or a folder; '{fold}' is replaced"
    )


@dataclass
class FusionArguments:
    """The head between the encoders."""

    fusion: str = option("gated", "early: concat, gated, cross_attention; late: mean, weighted", FUSIONS)
    fusion_size: int = option(128, "width of the head")
    pooling: str = option("attentive", "how the positions of a modality become one vector", POOLINGS)
    head_dropout: float = option(0.2, "dropout of the head")
    modality_dropout: float = option(0.2, "share of training rows that lose their words or, as often, their sound")
    branch_loss_weight: float = option(0.3, "weight of each branch's own loss in late fusion")


@dataclass
class AdaptArguments:
    """How much of the pretrained encoders is trained."""

    freeze: str = option("none", "encoders whose weights stay as they are", MODALITIES)
    lora: str = option("none", "encoders that are trained through LoRA alone; merged when saved", MODALITIES)
    lora_rank: int = option(8, "rank of the LoRA matrices")
    lora_alpha: int = option(16, "scale of the LoRA update is alpha / rank")


@dataclass
class SerTrainingArguments(TrainingArguments):
    """transformers' TrainingArguments with this toolkit's defaults, and what it adds."""

    output_dir: str = option("runs/default", "folder of the results")
    num_train_epochs: float = option(20.0, "epochs, fewer when validation UAR stops rising")
    per_device_train_batch_size: int = option(16, "clips a device and step")
    per_device_eval_batch_size: int = option(16, "clips a device in evaluation; the result does not depend on it")
    learning_rate: float = option(1e-3, "of the optimizer")
    weight_decay: float = option(0.01, "of the optimizer")
    warmup_steps: float = option(0.1, "steps of rising learning rate; below 1 a share of all steps")
    eval_strategy: str = option("epoch", "when to evaluate on the validation speakers")
    save_strategy: str = option("epoch", "when to save a checkpoint")
    save_total_limit: int | None = option(1, "checkpoints kept beside the best")
    logging_strategy: str = option("epoch", "when to log")
    load_best_model_at_end: bool = option(True, "keep the checkpoint with the best validation UAR")
    metric_for_best_model: str | None = option("uar", "what chooses the checkpoint")
    greater_is_better: bool | None = option(True, "whether more of it is better")
    dataloader_pin_memory: bool = option(torch.cuda.is_available(), "pin batches in memory; of use with a GPU alone")
    remove_unused_columns: bool = option(False, "must stay off: the collator reads the rows whole")
    report_to: list[str] = field(
        default_factory=lambda: ["none"], metadata={"help": "trackers: tensorboard, wandb, mlflow, trackio, or several"}
    )
    restore_callback_states_from_checkpoint: bool = option(True, "whether a resumed run goes on counting its patience")
    head_learning_rate: float | None = option(None, "learning rate of everything but the encoders; default: the same")
    early_stopping_patience: int = option(5, "evaluations without a better UAR before training stops; 0 never stops")


def parse_arguments(
    classes: tuple[type, ...],
    argv: list[str] | None = None,
    default_recipe: Path | None = None,
    output_dir: str = "runs/default",
):
    """Read a recipe and flags into dataclasses.

    Args:
        classes: Dataclasses whose fields are the known keys.
        argv: Arguments; by default those of the process. The first may be a YAML recipe.
        default_recipe: Recipe to use where there are no arguments at all.
        output_dir: The script's own default for the results.

    Returns:
        One instance of each class.

    Raises:
        FileNotFoundError, ValueError: the recipe is missing, is no mapping, or has unknown keys; a flag is unknown.
        SystemExit: a bad value, with argparse's message.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv and default_recipe is not None:
        argv = [str(default_recipe)]
    parser = HfArgumentParser(classes)
    parser.set_defaults(output_dir=output_dir)
    if argv and argv[0].endswith((".yaml", ".yml")):
        known = {f.name for one in classes for f in fields(one) if f.init}
        parser.set_defaults(**read_recipe(argv.pop(0), known))
    *arguments, unknown = parser.parse_args_into_dataclasses(argv, return_remaining_strings=True)
    if unknown:
        flags = [f"--{f.name}" for one in classes for f in fields(one) if f.init]
        near = get_close_matches(unknown[0], flags, n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "see --help."
        raise ValueError(f"Unknown arguments {' '.join(unknown)}: expected flags of this script; {hint}")
    return arguments


def read_recipe(file: str, known: set[str]) -> dict:
    """A recipe as a dictionary of known keys.

    Raises:
        FileNotFoundError, ValueError: see `parse_arguments`.
    """
    if not Path(file).is_file():
        raise FileNotFoundError(f"{file}: no such recipe. Recipes lie in scripts/recipes.")
    try:
        values = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{file}: not readable as YAML ({error}).") from error
    if not isinstance(values, dict):
        raise ValueError(f"{file}: expected 'key: value' lines, found {type(values).__name__}.")
    if unknown := sorted(map(str, set(values) - known)):
        near = get_close_matches(unknown[0], known, n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "see --help."
        raise ValueError(f"{file}: unknown keys {', '.join(unknown)}. Expected flags of this script; {hint}")
    # As a flag would give them: argparse turns text into the field's type (YAML leaves 1e-4 a text), lists stay.
    return {key: value if isinstance(value, list | bool | None) else str(value) for key, value in values.items()}


# Settings that may differ between two calls for the same run: where and how it is computed, never what.
NOT_OF_THE_RESULT = {
    *("corpus", "data_dir", "dataset", "columns", "speaker_pattern", "fold"),
    *("output_dir", "per_device_eval_batch_size", "save_total_limit"),
    *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_prefetch_factor", "dataloader_persistent_workers"),
    *("disable_tqdm", "logging_steps", "logging_strategy", "log_level", "report_to", "run_name", "project"),
    *("do_eval", "use_cpu", "local_rank", "push_to_hub", "hub_model_id", "hub_token", "hub_private_repo"),
    *("hub_revision", "hub_strategy", "hub_always_push", "trackio_space_id", "trackio_bucket_id"),
    "trackio_static_space_id",
}


OF_THE_WORDS = {
    *("transcript_source", "transcript_noise", "transcript_noise_rows"),
    *("sentence_bank", "sentence_bank_share", "sentence_bank_rows"),
}
"""Settings of DataArguments that a model which only hears has no use for."""


def refuse_words(data: DataArguments) -> None:
    """Make sure that nothing is asked of the words of a model that only hears.

    Raises:
        ValueError: something is.
    """
    if given := sorted(OF_THE_WORDS & settings(data).keys()):
        raise ValueError(
            f"--{given[0]} is {getattr(data, given[0])}: found a setting of the words for a model that only hears. "
            "Expected none: leave it out, or use train_text.py or train_fusion.py."
        )


PLAIN = str | int | float | bool | list | dict


def settings(*arguments) -> dict:
    """What differs from the defaults, over all dataclasses of a run: the part of a run that decides its result."""
    changed = {}
    for one in arguments:
        for f in fields(one):
            value, default = getattr(one, f.name), None if f.default is MISSING else f.default
            # TrainingArguments turns some fields into objects as it is made, and None into False or an empty list or
            # dictionary; none of this is a setting.
            unset = default in (None, "") and (value is False or value in ([], {}))
            plain = isinstance(value, PLAIN) and value != default and not unset
            if f.init and plain and f.name not in NOT_OF_THE_RESULT:
                changed[f.name] = value
    return changed
