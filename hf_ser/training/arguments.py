"""The settings of a run with their defaults, and the checks of those that do not go together."""

import re
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import torch
from transformers import TrainingArguments

from hf_ser.augment.training import option
from hf_ser.data.corpora import CORPORA
from hf_ser.data.labels import LABEL_MAPS, NATIVE
from hf_ser.data.protocols import PROTOCOLS
from hf_ser.inputs.targets import TARGETS
from hf_ser.models import FUSIONS, HEADS, POOLINGS, PRESETS, TEXT_PRESETS
from hf_ser.models.config_checks import HIGHEST_SPEED, LOWEST_SPEED, MOST_SPEEDS
from hf_ser.models.front_end import NORMALISATIONS
from hf_ser.publish.trackers import check_trackers
from hf_ser.runs.scores import HIGHER_IS_BETTER
from hf_ser.training.limits import (
    Range,
    check_checkpoints,
    check_length,
    check_loading,
    check_methods,
    check_numbers,
    check_optimizer,
    check_precision,
    check_unused,
    follow_metric,
)
from hf_ser.training.parsing import settings
from hf_ser.training.schedule import Stage, parse_stages
from hf_ser.transcripts.fold_transcripts import BANK_LEAK, BANK_ROWS, NOISE_ROWS, TRANSCRIPT_SOURCES

MODALITIES = ("none", "audio", "text", "both")
LATE = [name for name, head in FUSIONS.items() if head.has_branches]
"""Those of FUSIONS whose branches have a loss of their own."""
LOSSES = ("cross_entropy", "focal")
NUMBER = re.compile(r"\d+(\.\d+)?|\.\d+")
LAYERS_HELP = (
    "layers of the encoder that are read: last, mix (all, with learned weights), or numbers, from 0 (its input),"
    " such as 3 or 2,3,4 (side by side)"
)


class HeadsOf:
    """The names of the heads of so many modalities; those of plugins too, which are registered later."""

    def __init__(self, modalities: int):
        self.modalities = modalities

    def __iter__(self):
        return (name for name, head in HEADS.items() if self.modalities in head.modalities)


@dataclass
class DataArguments:
    """Which data, and who is trained and tested on."""

    corpus: str = option(
        "synthetic", f"corpus to read, or several as a,b (prepared once, into the cache): {', '.join(CORPORA)}"
    )
    data_dir: str | None = option(None, "the corpus, or A,B for several: a folder, or the file of a table")
    columns: str | None = option(None, "names of a table's columns where they are not ours: path=file,label=emotion")
    speaker_pattern: str | None = option(None, "of a table: regular expression whose groups are the speaker in a path")
    label_pattern: str | None = option(None, "of a table: regular expression whose group is the label in a path")
    audio_dir: str | None = option(None, "of a table: folder where its paths begin; default: the table's own folder")
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
    not_copies: str | None = option(
        None, "CSV of pairs of utterance ids that a person has found to be no copies: they are then no leak"
    )
    transcript_source: str | None = option(
        None,
        "whose transcripts are used: the corpus's own (reference), a recogniser's (asr), or either in training and the "
        "recogniser's in evaluation (mixed); default: the transcript column, which scripts/transcribe.py overwrites",
        TRANSCRIPT_SOURCES,
    )
    transcript_noise: float = option(0.0, "word error rate to corrupt the transcripts to, such as 0.2")
    transcript_noise_rows: str = option("all", "rows whose transcripts are corrupted", NOISE_ROWS)
    sentence_bank: str | None = option(
        None, "add sentences of a row's label to its transcript: 'default' (ours), a YAML file, or default,FILE"
    )
    sentence_bank_share: float = option(0.5, "share of the rows that are given a sentence")
    sentence_bank_rows: str = option(
        "train", "rows that may be given a sentence; 'all' gives the label away and needs --allow_leak", BANK_ROWS
    )

    def __post_init__(self):
        check_choices(self)
        check_numbers(self)
        if self.sentence_bank and self.sentence_bank_rows == "all" and not self.allow_leak:
            raise ValueError(
                "--sentence_bank_rows all: on validation and test rows a sentence that is chosen by the label gives "
                "the label away. Expected --sentence_bank_rows train; to measure the leak itself, add --allow_leak "
                f"(the result is stamped {BANK_LEAK})."
            )


@dataclass
class AudioArguments:
    """The audio encoder."""

    audio_model: str = option(
        "random_kernels",
        f"made here, from scratch: {', '.join(PRESETS)}; a Hub id (user/name@REVISION pins it); or a folder, in which "
        "'{fold}' is replaced",
    )
    max_seconds: float = option(8.0, "longer clips keep their beginning; Whisper and AST are cropped to this length")
    audio_layers: str = option("last", LAYERS_HELP)
    audio_weights: str | None = option(
        None, "of --audio_model alexnet: torchvision's weights to start from, a file, or imagenet to download them"
    )
    trim_silence: bool | None = option(None, "cut silence off both ends of a clip; default: as the model does")
    speeds: str | None = option(
        None,
        "of heads that are solved for: speeds at which each clip is given, pitch and tempo together, such as "
        "0.9,1,1.1: in training each a row of its own, later their answers are averaged",
    )
    normalisation: str | None = option(
        None,
        "what the features of our spectrogram networks are normalised over; default: the network's own; of heads that "
        "are solved for, speaker: the mean of the speaker's clips is taken off",
        NORMALISATIONS,
    )
    enrolment_clips: int = option(
        0, "of --normalisation speaker: clips of a speaker that its statistics are taken from; 0: all of them"
    )

    def __post_init__(self):
        check_choices(self)
        check_numbers(self)
        check_layers(self, "audio_layers")
        check_speeds(self.speeds)
        ours = self.audio_model in PRESETS  # of others the front end is known once they are loaded
        if self.enrolment_clips and ours and self.normalisation != "speaker":
            raise ValueError(
                f"--enrolment_clips is {self.enrolment_clips}, --normalisation {self.normalisation or 'not given'}: "
                "found clips to know a speaker by, and nothing that uses them. Expected --normalisation speaker: add "
                "it, or leave --enrolment_clips out."
            )

    @property
    def speed_list(self) -> list[float]:
        """The speeds as numbers; none where clips are given as they are."""
        return [float(one) for one in str(self.speeds).split(",")] if self.speeds else []


@dataclass
class TextArguments:
    """The text encoder."""

    text_model: str = option(
        "gru",
        f"made here, from scratch: {', '.join(TEXT_PRESETS)}; a Hub id (user/name@REVISION pins it); or a folder, in "
        "which '{fold}' is replaced",
    )
    text_layers: str = option("last", LAYERS_HELP)

    def __post_init__(self):
        check_layers(self, "text_layers")


@dataclass
class CommonHeadArguments:
    """What all heads have."""

    pooling: str = option("attentive", "how the positions of a modality become one vector", POOLINGS)
    head_size: int = option(128, "width of the hidden layer of the head; in fusion also of each modality")
    head_dropout: float = option(0.2, "dropout of the head")
    dropout_samples: int = option(1, "dropout masks that the last layer is trained under at once, and averaged over")

    def __post_init__(self):
        check_choices(self)
        check_numbers(self)
        if self.dropout_samples > 1 and not self.head_dropout:
            raise ValueError(
                f"--dropout_samples is {self.dropout_samples}, --head_dropout 0: found samples of a dropout that is "
                "off. Expected --head_dropout above 0, or --dropout_samples 1."
            )


@dataclass
class HeadArguments(CommonHeadArguments):
    """The head of a model of one modality."""

    head: str = option(
        "mlp",
        "one hidden layer, or a linear one; on a frozen encoder also ridge or logistic: solved for at once",
        HeadsOf(1),
    )

    @property
    def chosen(self) -> str:
        """The key of HEADS."""
        return self.head

    def __post_init__(self):
        super().__post_init__()
        if self.head != "mlp":
            refuse_idle(self, "head_size", "head", "mlp")


@dataclass
class FusionArguments(CommonHeadArguments):
    """The head between the encoders."""

    fusion: str = option(
        "gated",
        "early: concat, gated, cross_attention; late: mean, weighted; on frozen encoders also ridge or logistic: "
        "solved for at once",
        HeadsOf(2),
    )
    modality_dropout: float = option(0.2, "share of training rows that lose their text or, as often, their audio")
    branch_loss_weight: float = option(0.3, "weight of each branch's own loss in late fusion")

    @property
    def chosen(self) -> str:
        """The key of HEADS."""
        return self.fusion

    def __post_init__(self):
        super().__post_init__()
        if self.fusion in HEADS and not HEADS[self.fusion].has_branches:
            refuse_idle(self, "branch_loss_weight", "fusion", " or ".join(LATE))


@dataclass
class AdaptArguments:
    """How much of the pretrained encoders is trained."""

    freeze: str = option("none", "encoders whose weights stay as they are", MODALITIES)
    freeze_feature_encoder: bool = option(False, "keep what comes before the audio encoder's layers: its convolutions")
    freeze_layers: int = option(0, "keep the embeddings, the feature encoder and the first so many layers of encoders")
    lora: str = option("none", "encoders that are trained through LoRA alone; merged when saved", MODALITIES)
    lora_rank: int = option(8, "rank of the LoRA matrices")
    lora_alpha: int = option(16, "scale of the LoRA update is alpha / rank")
    dora: bool = option(False, "let LoRA train the lengths of the weights apart from their directions (DoRA)")

    def __post_init__(self):
        check_choices(self)
        check_numbers(self)
        if self.lora == "none":
            refuse_idle(self, "lora_rank", "lora", "audio, text or both")
            refuse_idle(self, "lora_alpha", "lora", "audio, text or both")
        if self.dora and self.lora == "none":
            raise ValueError(
                "--dora true: found --lora none. Expected encoders to put it on: add --lora audio or both."
            )


@dataclass
class ObjectiveArguments:
    """What is minimised, and which rows are drawn; transformers' own label_smoothing_factor belongs to it."""

    loss: str = option("cross_entropy", "cross_entropy, or focal: rows that are right count less", LOSSES)
    focal_gamma: float = option(2.0, "of focal: how much less they count; 0 is cross entropy")
    class_weights: bool = option(
        False,
        "let a class count the more the rarer it is among the training rows; the ridge of random_kernels does so by "
        "itself",
    )
    balanced_sampling: bool = option(False, "draw training rows so that all classes come equally often")
    mixup: float = option(
        0.0,
        "alpha of mixup: train on mixtures of two clips (0.2 is usual), of their audio or, with --cache_frozen, of "
        "what is kept of them; 0: off",
    )
    r_drop: float = option(0.0, "weight of how far two dropouts' answers for a row lie apart (1 is usual); 0: off")

    def __post_init__(self):
        super().__post_init__()
        check_choices(self)
        if self.loss != "focal":
            refuse_idle(self, "focal_gamma", "loss", "focal")
        refuse_together(self, "mixup", "r_drop", "both change what one step is about; none has tried them together")
        refuse_together(
            self, "class_weights", "balanced_sampling", "both make up for rare classes, which then count twice"
        )
        if self.balanced_sampling and self.train_sampling_strategy != "random":
            raise ValueError(
                f"--balanced_sampling true, --train_sampling_strategy {self.train_sampling_strategy}: found two orders "
                "of the training rows. Expected one of them: leave the other out."
            )


@dataclass
class ScheduleArguments:
    """When and how fast each part is trained, and which of its weights are kept."""

    stages: str | None = option(
        None,
        "train in stages, each PART:EPOCHS@PEAK_RATE, such as head:5@1e-3,all:10@2e-5; parts: head, top:N (head and "
        "the last N layers of the encoders), audio, text (head and that encoder), all",
    )
    layer_decay: float = option(1.0, "learning rate of a layer over that of the layer above it; 1: all the same")
    head_learning_rate: float | None = option(
        None, "learning rate of everything but the encoders, in stages that train more than it; default: the same"
    )
    ema_decay: float = option(0.0, "keep a moving average of the weights and use that (0.999 is usual); 0: off")
    swa_start: float = option(0.0, "share of training after which weights are averaged (0.75 is usual); 0: off")
    find_learning_rate: bool = option(False, "try rising learning rates on the first fold, draw the loss, and stop")
    early_stopping_patience: int = option(5, "evaluations without a better UAR before training stops; 0 never stops")
    cache_frozen: bool = option(False, "compute what frozen encoders make of a clip once, and keep it")
    cache_views: int = option(0, "of --cache_frozen: augmented views of a clip that are kept; 0: the clip as it is")
    threads: int = option(0, "processor threads of a process; 0: by the size of what is trained")
    search: int = option(0, "trainings of each fold that look for better settings on its validation speakers; 0: none")
    search_space: str | None = option(None, "of --search: YAML file of settings and their ranges")

    def __post_init__(self):
        super().__post_init__()
        self.check_search()
        refuse_together(self, "ema_decay", "swa_start", "both average the weights")
        refuse_together(self, "stages", "find_learning_rate", "each stage has its own learning rate")
        refuse_together(self, "stages", "search", "each stage has its own learning rate")
        refuse_together(self, "find_learning_rate", "search", "the first trains nothing, the second searches the rate")
        refuse_together(self, "stages", "cache_frozen", "a later stage may train what was kept")
        if self.cache_views and not self.cache_frozen:
            raise ValueError(
                f"--cache_views is {self.cache_views}, --cache_frozen false: found views to keep and nothing that "
                "keeps them. Expected --cache_frozen true: add it, or leave --cache_views out."
            )
        if self.stages:
            self.follow_stages(parse_stages(self.stages))

    def check_search(self) -> None:
        """Make sure, before anything is computed, that a space to search is there and is searched.

        Raises:
            ValueError: nothing is searched.
            FileNotFoundError: there is no such file.
            ImportError: Optuna is not installed.
        """
        if not self.search:
            refuse_idle(self, "search_space", "search", "20 or so")
        elif find_spec("optuna") is None:
            raise ImportError(
                "--search: found no Optuna, which proposes the settings. Expected it installed: pip install "
                "hf_ser[search]; or leave --search out."
            )
        if self.search_space and not Path(self.search_space).is_file():
            raise FileNotFoundError(
                f"--search_space {self.search_space}: no such file. Expected a YAML file of lines such as "
                "'learning_rate: [1e-5, 1e-3, log]'."
            )

    def follow_stages(self, stages: list[Stage]) -> None:
        """Set the length of training and the highest learning rate to what the stages say.

        Raises:
            ValueError: another length, learning rate or schedule is asked for as well.
        """
        default = {f.name: f.default for f in fields(self)}
        given = {
            "num_train_epochs": float(sum(stage.epochs for stage in stages)),
            "learning_rate": max(stage.peak for stage in stages),
            "lr_scheduler_type": default["lr_scheduler_type"],
            "warmup_steps": default["warmup_steps"],
            "max_steps": default["max_steps"],
        }
        for name, value in given.items():
            found = getattr(self, name)
            if found not in (value, default[name]):
                raise ValueError(
                    f"--{name} is {found}, --stages {self.stages}: the stages say themselves how long and how fast "
                    f"each is trained. Expected no --{name}: leave it out, or leave out --stages."
                )
            setattr(self, name, value)


@dataclass
class BasicTrainingArguments(TrainingArguments):
    """transformers' TrainingArguments with this toolkit's defaults."""

    metrics: ClassVar = HIGHER_IS_BETTER
    """Whether higher is better, by the names of the metrics that may choose the checkpoint."""

    output_dir: str = option("runs/default", "folder of the results")
    num_train_epochs: float = option(20.0, "epochs, fewer when validation UAR stops rising")
    per_device_train_batch_size: int = option(16, "clips a device and step")
    per_device_eval_batch_size: int = option(16, "clips a device in evaluation; no effect beyond rounding")
    learning_rate: float = option(1e-3, "of the optimizer")
    weight_decay: float = option(0.01, "of the optimizer")
    warmup_steps: float = option(0.1, "steps of rising learning rate; below 1 a share of all steps")
    eval_strategy: str = option("epoch", "when to evaluate on the validation speakers")
    save_strategy: str = option("epoch", "when to save a checkpoint")
    save_total_limit: int | None = option(1, "checkpoints kept beside the best")
    logging_strategy: str = option("epoch", "when to log")
    load_best_model_at_end: bool = option(True, "keep the checkpoint with the best validation UAR")
    metric_for_best_model: str | None = option("uar", f"what chooses the checkpoint: {', '.join(HIGHER_IS_BETTER)}")
    greater_is_better: bool | None = option(True, "whether more of it is better: follows from the metric by itself")
    length_column_name: str = option("duration_seconds", "of --train_sampling_strategy group_by_length")
    dataloader_pin_memory: bool = option(torch.cuda.is_available(), "pin batches in memory; of use with a GPU alone")
    remove_unused_columns: bool = option(False, "must stay off: the collator reads the rows whole")
    report_to: list[str] = field(
        default_factory=lambda: ["none"], metadata={"help": "trackers: tensorboard, wandb, mlflow, trackio, or several"}
    )
    restore_callback_states_from_checkpoint: bool = option(True, "whether a resumed run goes on counting its patience")

    def __post_init__(self):
        for check in (check_length, check_numbers, check_choices, check_methods, check_unused, check_checkpoints):
            check(self)
        check_loading(self)
        check_precision(self)
        follow_metric(self, self.metrics)
        if (self.bf16 or self.bf16_full_eval) and not torch.accelerator.is_available():
            self.use_cpu = True  # else transformers asks for it, although there is nothing else
        try:
            super().__post_init__()
        except Exception as error:  # of a kind that transformers chooses, without the name of a setting
            raise ValueError(
                f"transformers refuses the training settings ({type(error).__name__}: {error}). Expected settings that "
                "go together: change or leave out what it names."
            ) from error
        check_trackers(self.report_to)
        check_optimizer(self)


@dataclass
class SerTrainingArguments(ObjectiveArguments, ScheduleArguments, BasicTrainingArguments):
    """What emotion models are trained with: the above, the objective and the schedule."""


def check_choices(arguments) -> None:
    """Make sure that fields with choices hold one: argparse looks at flags alone, not at what a recipe says.

    Raises:
        ValueError: one holds something else.
    """
    for f in fields(arguments):
        known, value = f.metadata.get("choices"), getattr(arguments, f.name)
        if known and value not in (*known, f.default):
            raise ValueError(f"--{f.name} is {value}: expected one of {', '.join(known)}.")


def check_layers(arguments, name: str) -> None:
    """Make sure that a choice of layers is `last`, `mix` or a number.

    Raises:
        ValueError: it is something else.
    """
    value = str(getattr(arguments, name))
    if value not in ("last", "mix") and not all(one.strip().isdecimal() for one in value.split(",")):
        raise ValueError(f"--{name} is {value}: expected last, mix, or numbers of layers such as 8 or 2,3,4.")
    numbers = [one.strip() for one in value.split(",")]
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"--{name} is {value}: found a layer twice, expected each once.")


def check_speeds(speeds: str | None) -> None:
    """Make sure that the speeds of a clip are numbers, each once.

    Raises:
        ValueError: they are not.
    """
    found = [one.strip() for one in str(speeds).split(",")] if speeds else []
    allowed = Range(LOWEST_SPEED, HIGHEST_SPEED)
    if len(found) > MOST_SPEEDS or not all(NUMBER.fullmatch(one) and allowed.holds(float(one)) for one in found):
        raise ValueError(
            f"--speeds is {speeds}: expected at most {MOST_SPEEDS} numbers, each {allowed}, such as 0.9,1,1.1."
        )
    if len(set(map(float, found))) < len(found):
        raise ValueError(f"--speeds is {speeds}: found a speed twice, expected each once.")


def refuse_together(arguments, one: str, other: str, why: str) -> None:
    """Make sure that of two settings one at most is used.

    Raises:
        ValueError: both are.
    """
    if getattr(arguments, one) and getattr(arguments, other):
        raise ValueError(
            f"--{one} is {getattr(arguments, one)}, --{other} is {getattr(arguments, other)}: {why}. Expected one of "
            "them: leave the other out."
        )


def refuse_idle(arguments, name: str, other: str, wanted: str) -> None:
    """Make sure that a setting is left alone, where another one makes nothing of it.

    Args:
        arguments: A dataclass of both.
        name: The setting.
        other: The one that it depends on.
        wanted: What `other` would have to be.

    Raises:
        ValueError: it differs from its default.
    """
    value, (default,) = getattr(arguments, name), (f.default for f in fields(arguments) if f.name == name)
    if value != default:
        raise ValueError(
            f"--{name} is {value}, --{other} is {getattr(arguments, other)}: found a setting that nothing would use. "
            f"Expected --{other} {wanted}: add it, or leave --{name} out."
        )


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
