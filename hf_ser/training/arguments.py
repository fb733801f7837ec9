"""The settings of a run: what there is of each, its default and its limits, without importing what is large."""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from hf_ser.settings import (
    COUNT,
    NOT_NEGATIVE,
    POSITIVE,
    SEED,
    Range,
    Registered,
    check_settings,
    default_of,
    help_of,
    names_in,
    setting,
)

MODALITIES = ("none", "audio", "text", "both")
LAYERS = (
    "layers of the encoder that are read: last, mix (all, with learned weights), or numbers, from 0 (its input),"
    " such as 3 or 2,3,4 (side by side)"
)
SPEED, MOST_SPEEDS, TURNS = Range(0.5, 2), 16, Range(0, 16)
"""As a saved model may have them (`models/config_checks.py`, which is not imported here because it is large)."""
NUMBER = re.compile(r"\d+(\.\d+)?|\.\d+")
MADE_HERE = "made here, from scratch:"
PRETRAINED = "a Hub id (user/name@REVISION pins it); or a folder, in which '{fold}' is replaced"
NETWORKS, TEXT_NETWORKS = (
    Registered("models/spectrogram.py", "PRESETS"),
    Registered("models/recurrent.py", "TEXT_PRESETS"),
)


class Checked:
    """A dataclass whose settings are checked as it is made."""

    def __post_init__(self):
        check_settings(self)


class HeadsOf:
    """The names of the heads of so many modalities; those of plugins too, once the heads are imported."""

    def __init__(self, modalities: int):
        self.modalities = modalities

    def __iter__(self) -> Iterator[str]:
        if heads := sys.modules.get("hf_ser.models.heads"):
            return (name for name, head in heads.HEADS.items() if self.modalities in head.modalities)
        first = ("mlp", "linear") if self.modalities == 1 else names_in("models/heads.py", "FUSIONS")
        return iter((*first, *names_in("models/heads.py", "SOLVED_HEADS")))


@dataclass
class DataArguments(Checked):
    """Which data, and who is trained and tested on."""

    corpus: str = setting(
        "synthetic",
        "corpus to read, or several as a,b (prepared once, into the cache): "
        f"{', '.join(names_in('data/corpora/__init__.py', 'CORPORA'))}",
    )
    data_dir: str | None = setting(None, "the corpus, or A,B for several: a folder, or the file of a table")
    columns: str | None = setting(None, "names of a table's columns where they are not ours: path=file,label=emotion")
    speaker_pattern: str | None = setting(None, "of a table: regular expression whose groups are the speaker in a path")
    label_pattern: str | None = setting(None, "of a table: regular expression whose group is the label in a path")
    audio_dir: str | None = setting(None, "of a table: folder where its paths begin; default: the table's own folder")
    dataset: str | None = setting(None, "folder written by prepare_data.py, instead of --corpus and --data_dir")
    label_map: str = setting(
        "native", f"label space: native, {', '.join(names_in('data/labels.py', 'LABEL_MAPS'))}, or a YAML file"
    )
    target: str = setting(
        "label",
        "what is trained towards: the corpus's label, or the raters' votes; dimensions (valence, arousal, dominance) "
        "in place of the label, or both",
        Registered("inputs/targets.py", "TARGETS"),
    )
    dimension_scale: str | None = setting(
        None,
        "of a table: lowest and highest value of its valence, arousal and dominance, such as =1,7",
        only_with=("target", ("dimensions", "both")),
    )
    protocol: str = setting("speaker_folds", "how the folds are made", Registered("data/protocols.py", "PROTOCOLS"))
    fold: str = setting("1", "number of a fold (from 1), 'all', or 'final': train on all but the validation speakers")
    n_folds: int = setting(
        5, "folds of speaker_folds and random, and over the speakers of sentence_disjoint", range=Range(2)
    )
    split_file: str | None = setting(None, "of --protocol fixed: CSV with id and split, or JSON; default: split column")
    validation_fraction: float = setting(
        0.2,
        "share of the training speakers (about) that choose the checkpoint",
        range=Range(0, 0.5, above=True, unit=", such as 0.2"),
    )
    split_seed: int = setting(0, "seed of the split, apart from --seed", range=SEED)
    allow_leak: bool = setting(False, "let a leaking split or encoder pass; the result is stamped as leaked")
    not_copies: str | None = setting(
        None, "CSV of pairs of utterance ids that a person has found to be no copies: they are then no leak"
    )
    transcript_source: str | None = setting(
        None,
        "whose transcripts are used: the corpus's own, a recogniser's, or either in training and the recogniser's in "
        "evaluation; default: the transcript column, which scripts/transcribe.py overwrites",
        Registered("transcripts/fold_transcripts.py", "TRANSCRIPT_SOURCES"),
    )
    sentence_bank: str | None = setting(
        None,
        "add a sentence of its label to half of the training transcripts: from 'default' (ours), a YAML file, or "
        "default,FILE",
    )


@dataclass
class AudioArguments(Checked):
    """The audio encoder."""

    audio_model: str = setting("random_kernels", f"{MADE_HERE} {', '.join(NETWORKS)}; {PRETRAINED}")
    max_seconds: float = setting(
        8.0,
        "longer clips keep their beginning; Whisper and AST are cropped to this length",
        range=Range(0.5, 600, unit=" seconds"),
    )
    audio_layers: str = setting("last", LAYERS)
    speeds: str | None = setting(
        None,
        "of heads that are solved for: speeds at which each clip is given, pitch and tempo together, such as "
        "0.9,1,1.1: in training each a row of its own, later their answers are averaged",
    )
    normalisation: str | None = setting(
        None,
        "what the features of our spectrogram networks are normalised over; default: the network's own; of heads that "
        "are solved for, speaker: the mean of the speaker's clips is taken off",
        Registered("models/front_end.py", "NORMALISATIONS"),
    )
    enrolment_clips: int = setting(
        0,
        "of --normalisation speaker: clips of a speaker that its statistics are taken from; 0: all of them",
        range=NOT_NEGATIVE,
    )

    def __post_init__(self):
        super().__post_init__()
        check_layers("audio_layers", self.audio_layers)
        check_speeds(self.speeds)
        ours = self.audio_model in NETWORKS  # of others the front end is known once they are loaded
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
class TextArguments(Checked):
    """The text encoder."""

    text_model: str = setting("gru", f"{MADE_HERE} {', '.join(TEXT_NETWORKS)}; {PRETRAINED}")
    text_layers: str = setting("last", LAYERS)
    context: int = setting(
        0,
        "of heads that are solved for: previous turns of the dialogue that are read beside a text, as one more vector, "
        "their mean",
        range=TURNS,
    )

    def __post_init__(self):
        super().__post_init__()
        check_layers("text_layers", self.text_layers)


def check_speeds(speeds: str | None) -> None:
    """Make sure that the speeds of a clip are numbers, each once.

    Raises:
        ValueError: they are not.
    """
    found = [one.strip() for one in str(speeds).split(",")] if speeds else []
    if len(found) > MOST_SPEEDS or not all(NUMBER.fullmatch(one) and SPEED.holds(float(one)) for one in found):
        raise ValueError(
            f"--speeds is {speeds}: expected at most {MOST_SPEEDS} numbers, each {SPEED}, such as 0.9,1,1.1."
        )
    if len(set(map(float, found))) < len(found):
        raise ValueError(f"--speeds is {speeds}: found a speed twice, expected each once.")


def check_layers(name: str, layers: str) -> None:
    """Make sure that the layers that are read are `last`, `mix` or numbers.

    Raises:
        ValueError: they are something else.
    """
    numbers = [one.strip() for one in str(layers).split(",")]
    if layers not in ("last", "mix") and not all(one.isdecimal() for one in numbers):
        raise ValueError(f"--{name} is {layers}: expected last, mix, or numbers of layers such as 8 or 2,3,4.")
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"--{name} is {layers}: found a layer twice, expected each once.")


@dataclass
class CommonHeadArguments(Checked):
    """What all heads have."""

    pooling: str = setting(
        "attentive", "how the positions of a modality become one vector", Registered("models/heads.py", "POOLINGS")
    )
    head_dropout: float = setting(0.2, "dropout of the head", range=Range(0, 0.95))


@dataclass
class HeadArguments(CommonHeadArguments):
    """The head of a model of one modality."""

    head: str = setting(
        "mlp",
        "one hidden layer, or a linear one; on a frozen encoder also ridge or logistic: solved for at once",
        HeadsOf(1),
    )

    @property
    def chosen(self) -> str:
        """The key of HEADS."""
        return self.head


@dataclass
class FusionArguments(CommonHeadArguments):
    """The head between the encoders."""

    fusion: str = setting(
        "gated",
        "early: concat, gated, cross_attention; late: mean, weighted; on frozen encoders also ridge or logistic: "
        "solved for at once",
        HeadsOf(2),
    )
    modality_dropout: float = setting(
        0.2, "share of training rows that lose their text or, as often, their audio", range=Range(0, 1)
    )

    @property
    def chosen(self) -> str:
        """The key of HEADS."""
        return self.fusion


@dataclass
class AugmentArguments(Checked):
    """How training clips are changed from epoch to epoch; clips that are evaluated never are."""

    augment: str | None = setting(
        None,
        "changes of training clips, as name or name:probability@low-high with commas, or with slashes, to take turns "
        "from view to view: "
        f"{', '.join(names_in('augment/specification.py', 'CHANGES'))}; look at them with scripts/augment_preview.py",
    )
    noise_dir: str | None = setting(None, "folder with the audio files of the change noise_folder")

    def __post_init__(self):
        from hf_ser.augment.specification import parse_augmentation  # which imports numpy: --help needs none

        super().__post_init__()
        names = {one.name for turn in parse_augmentation(self.augment) for one in turn} if self.augment else set()
        if bool(self.noise_dir) != ("noise_folder" in names):
            raise ValueError(
                f"--augment {self.augment} with --noise_dir {self.noise_dir}: expected both the change noise_folder "
                "and the folder of its files, or neither: add the one that is missing."
            )


@dataclass
class AdaptArguments(Checked):
    """How much of the pretrained encoders is trained."""

    freeze: str = setting("none", "encoders whose weights stay as they are", MODALITIES)
    lora: str = setting("none", "encoders that are trained through LoRA alone; merged when saved", MODALITIES)
    lora_rank: int = setting(
        8, "rank of the LoRA matrices; their scale is 2", range=COUNT, only_with=("lora", MODALITIES[1:])
    )


@dataclass
class CommonArguments:
    """Length and speed of training, and where its results go."""

    output_dir: str = setting("runs/default", "folder of the results")
    num_train_epochs: float = setting(20.0, "epochs, fewer when validation UAR stops rising")
    max_steps: int = setting(-1, "steps in place of --num_train_epochs, where above 0")
    learning_rate: float = setting(1e-3, "of the optimizer")
    per_device_train_batch_size: int = setting(16, "clips a device and step", range=COUNT)
    gradient_accumulation_steps: int = setting(1, "batches whose gradients make one step", range=COUNT)
    label_smoothing_factor: float = setting(0.0, "share of the target that all classes get alike", range=Range(0, 0.99))
    seed: int = setting(42, "of the weights, the order of the clips and all draws", range=SEED)
    bf16: bool = setting(False, "compute in bfloat16")
    use_cpu: bool = setting(False, "train on the processor, also where there is a GPU")
    pictures: str = setting("png", "formats of the pictures, with commas: png, pdf, svg; PNG is always among them")
    report_to: list[str] = setting(["none"], "trackers: tensorboard, wandb, mlflow, trackio, or several")
    push_to_hub: bool = setting(False, "push the model when it is trained, to --hub_model_id")
    hub_model_id: str | None = setting(None, "its name on the Hub, as user/name")
    hub_private_repo: bool | None = setting(None, "make it private; default: where it is of your own recordings")


@dataclass
class ObjectiveArguments:
    """What is minimised."""

    class_weights: float | None = setting(
        None,
        "power by which a class counts the more, the rarer it is in training: 1: all classes count alike, as in UAR; "
        "0: all clips do, as a logistic head always counts; default: 1 in a ridge, 0 in what is trained in epochs",
        range=Range(0, 1),
    )


@dataclass
class ScheduleArguments:
    """When and how fast each part is trained."""

    stages: str | None = setting(
        None,
        "train in stages, each PART:EPOCHS@PEAK_RATE, such as head:5@1e-3,all:10@2e-5; parts: head, top:N (head and "
        "the last N layers of the encoders), audio, text (head and that encoder), all",
        not_with={"search": "each stage has its own learning rate"},
    )
    head_learning_rate: float | None = setting(
        None,
        "learning rate of everything but the encoders, in stages that train more than it; default: the same",
        range=POSITIVE,
    )
    early_stopping_patience: int = setting(
        5, "evaluations without a better UAR before training stops; 0 never stops", range=NOT_NEGATIVE
    )
    cache_views: int = setting(
        0,
        "augmented views of a clip, in turn, whose frozen features are kept; 0: a new view in every epoch, none kept; "
        "of heads that are solved for one for each turn of --augment",
        range=NOT_NEGATIVE,
    )
    search: int = setting(
        0,
        "trainings of each fold that look for a better learning rate, weight decay, warm-up and batch size on its "
        "validation speakers; 0: none",
        range=NOT_NEGATIVE,
    )


@dataclass
class TrainingSettings(ObjectiveArguments, ScheduleArguments, CommonArguments):
    """Our settings of the training, to which `SerTrainingArguments` adds those of transformers."""


@dataclass
class AsrArguments(Checked):
    """Which recogniser, and how much of it is trained."""

    asr_model: str = setting("openai/whisper-small", "a whole Whisper: Hub id or folder; '{fold}' is replaced")
    language: str | None = setting(None, "code of the language that is spoken, such as en; default: the corpus's")
    lora: bool = setting(False, "train through LoRA alone; merged when saved")
    lora_rank: int = setting(8, "rank of the LoRA matrices; their scale is 2", range=COUNT, only_with=("lora", (True,)))


ASR_LEARNING_RATE, ASR_LORA_LEARNING_RATE = 1e-5, 1e-3


@dataclass
class AsrCommonArguments(CommonArguments):
    """Length and speed of training, and where its results go."""

    output_dir: str = setting("runs/asr", "folder of the results")
    num_train_epochs: float = setting(10.0, "epochs, fewer when the validation word error rate stops falling")
    per_device_train_batch_size: int = setting(8, "clips a device and step", range=COUNT)
    learning_rate: float | None = setting(
        None, f"of the optimizer; default: {ASR_LEARNING_RATE:g}, with --lora {ASR_LORA_LEARNING_RATE:g}"
    )
    early_stopping_patience: int = setting(
        3, "evaluations without a better one before training stops; 0 never stops", range=NOT_NEGATIVE
    )


OF_MODEL = {
    "audio": (DataArguments, AudioArguments, HeadArguments, AugmentArguments, AdaptArguments),
    "text": (DataArguments, TextArguments, HeadArguments, AdaptArguments),
    "fusion": (*(DataArguments, AudioArguments, TextArguments, FusionArguments, AugmentArguments, AdaptArguments),),
    "asr": (DataArguments, AsrArguments),
}
"""The settings of each kind of model beside those of the training, in the order of `--help`."""


def show_help(name: str) -> None:
    """Print the settings of a kind of model, and leave, where that is what the command line asks for.

    Raises:
        SystemExit: it is.
    """
    if {"-h", "--help"} & set(sys.argv[1:]):
        training = (CommonArguments, ObjectiveArguments, ScheduleArguments)
        groups = (*OF_MODEL[name], *((AsrCommonArguments,) if name == "asr" else training))
        print(help_of(Path(sys.argv[0]).name, groups, {"output_dir": f"runs/{name}"}))
        raise SystemExit


TRANSCRIPT_SETTINGS = {"transcript_source", "sentence_bank"}
"""Settings of DataArguments that an audio-only model has no use for."""


def reject_transcript_settings(data: DataArguments) -> None:
    """Make sure that no setting of the transcripts is given to an audio-only model.

    Raises:
        ValueError: one is.
    """
    for one in fields(data):
        value = getattr(data, one.name)
        if one.name in TRANSCRIPT_SETTINGS and value != default_of(one):
            raise ValueError(
                f"--{one.name} is {value}: found a setting of the transcripts for an audio-only model. Expected none: "
                "leave it out, or use train_text.py or train_fusion.py."
            )
