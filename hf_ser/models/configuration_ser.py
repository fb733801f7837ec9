"""Configuration of our classifier: the encoders' own configurations, and the head behind them."""

# First of all, and before transformers 4 fails at a name that it does not have: are the libraries recent enough?
from .libraries import check_transformers  # noqa: F401

# isort: split
from transformers import AutoConfig, PreTrainedConfig

# transformers 4 copies only the files that this one names. It is given all that these need in turn, so that it comes as
# far as `libraries`, which says that it is too old.
from .config_checks import MOST_SPEEDS, MOST_TURNS, check_own_config
from .dimensions import check_dimensions
from .encoders import FAMILIES
from .familiarity import check_measured
from .feature_changes import FeatureChanges  # noqa: F401
from .front_end import SpectrogramFrontEnd  # noqa: F401
from .functionals import functionals  # noqa: F401
from .heads import HEADS, POOLINGS, SOLVED_HEADS
from .loading import check_weights  # noqa: F401
from .networks import NETWORKS  # noqa: F401
from .plugins import __doc__ as _  # noqa: F401  (the user's own heads and families register themselves)
from .random_kernels import RandomKernels  # noqa: F401
from .recurrent import TextRnnConfig  # noqa: F401
from .samples import trimmed  # noqa: F401
from .saving import share_weights  # noqa: F401
from .spectrogram import SpectrogramConfig  # noqa: F401

AUDIO, TEXT = "audio", "text"
LAST, MIX = "last", "mix"
"""Which hidden layer of an encoder is read: the last, a learned mixture of all, or one by its number (0: before the
first)."""
PIPELINE = {
    "impl": "pipeline_ser.SerPipeline",
    "pt": ["AutoModelForAudioClassification"],
    "type": "audio",
}
"""The value in `custom_pipelines` that makes `pipeline("audio-classification", trust_remote_code=True)` use ours."""


class SerConfig(PreTrainedConfig):
    """What rebuilds a model of audio, of text, or of both.

    Args:
        audio_config: Configuration of the audio encoder (any that AutoModel knows, or ours); None: text alone.
        text_config: Configuration of the text encoder (any that AutoModel knows, or ours); None: audio alone.
        audio_layers: Layers of the audio encoder that are read: `last`, `mix`, a number, or several numbers, which are
            put side by side.
        text_layers: As `audio_layers`.
        head: Key of HEADS: `mlp` (the default) or `linear` of one modality, one of FUSIONS of both (`gated`), one of
            SOLVED_HEADS of any.
        pooling: Key of POOLINGS, over the positions.
        head_size: Width of the head.
        dropout: Of the head.
        num_fusion_heads: Attention heads of `cross_attention`.
        modality_dropout: Share of training rows that lose one modality (text or audio, equally often, never both).
        branch_loss_weight: Weight of each branch's own loss in the late fusions.
        speaker_views: Of one of SOLVED_HEADS on audio alone: views of a clip of which the mean of its speaker's is
            taken off; 0: it is not.
        context_turns: Of one of SOLVED_HEADS with text: previous turns of the dialogue that are read beside a text, at
            most; 0: none are.
        standardised: Modalities of which what a frozen encoder puts out is standardised by the training rows before the
            head reads it; None: none.
        dimensions: Names of the dimensions that a model predicts, such as valence, in the order of its outputs: beside
            its classes or in their place; None: none.
        dimension_scale: Their lowest and highest value, `[-1.0, 1.0]`; None where there are none.
        familiarity_size, familiarity_directions: Of what is known of the training clips, see `Familiarity`; 0: nothing.

    Raises:
        ValueError: no encoder, unknown pooling, head or layer, a head for other modalities, or a value that no model
            has.
    """

    model_type = "ser"
    has_no_defaults_at_init = True  # a model without any encoder is none
    keys_to_ignore_at_inference = ["branch_logits"]  # noqa: RUF012  (Trainer would gather them as predictions)
    sub_configs = {"audio_config": AutoConfig, "text_config": AutoConfig}  # noqa: RUF012  (transformers reads it so)

    audio_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    audio_layers: str | int | list[int] = LAST
    text_layers: str | int | list[int] = LAST
    head: str | None = None
    pooling: str = "attentive"
    head_size: int = 128
    dropout: float = 0.2
    num_fusion_heads: int = 4
    modality_dropout: float = 0.2
    branch_loss_weight: float = 0.3
    speaker_views: int = 0
    context_turns: int = 0
    standardised: list[str] | None = None
    dimensions: list[str] | None = None
    dimension_scale: list[float] | None = None
    familiarity_size: int = 0
    familiarity_directions: int = 0
    custom_pipelines: dict | None = None

    def __post_init__(self, **kwargs):
        check_own_config(self, kwargs)
        for modality in (AUDIO, TEXT):
            name = f"{modality}_config"
            setattr(self, name, encoder_config(name, getattr(self, name)))
        for modality in self.modalities:
            layers = f"{modality}_layers"
            setattr(self, layers, checked_layers(layers, getattr(self, layers), getattr(self, f"{modality}_config")))
        tasks = ("audio-classification", *("text-classification",) * (self.modalities == (TEXT,)))
        self.custom_pipelines = self.custom_pipelines or {task: dict(PIPELINE) for task in tasks}
        self.head = self.head or ("gated" if len(self.modalities) == 2 else "mlp")
        self._check_choice("pooling", POOLINGS)
        self._check_choice("head", HEADS)
        self._check_head()
        self._check_standardised()
        check_measured(self.familiarity_size, self.familiarity_directions)
        check_dimensions(self.dimensions, self.dimension_scale)
        super().__post_init__(**kwargs)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that the model has an encoder for: `audio`, `text` or both."""
        return tuple(one for one in (AUDIO, TEXT) if getattr(self, f"{one}_config") is not None)

    @property
    def num_outputs(self) -> int:
        """Outputs of the head: those of the classes, then those of the dimensions."""
        return self.num_labels + len(self.dimensions or ())

    def size_of(self, modality: str) -> int:
        """Width of an encoder's positions as the head reads them."""
        layers = getattr(self, f"{modality}_layers")
        return (len(layers) if isinstance(layers, list) else 1) * getattr(self, f"{modality}_config").hidden_size

    def shape_of(self, modality: str) -> tuple[int, ...]:
        """Shape of one position as an encoder puts it out: its width, of a mixture of layers `(layers, size)`."""
        size = self.size_of(modality)
        if getattr(self, f"{modality}_layers") != MIX:
            return (size,)
        return number_of_layers(getattr(self, f"{modality}_config")) + 1, size

    def _check_standardised(self) -> None:
        if self.standardised and not set(self.standardised) <= set(self.modalities):
            raise ValueError(
                f"standardised is {self.standardised}: expected some of {', '.join(self.modalities)}, of which the "
                "model has an encoder."
            )

    def _check_choice(self, name: str, known) -> None:
        if not isinstance(value := getattr(self, name), str) or value not in known:
            raise ValueError(
                f"Unknown {name} '{value}': expected one of {', '.join(known)}, or one of a file that is named by "
                "--plugins (beside a saved model: --plugins FOLDER/FILE.py)."
            )

    def _check_head(self) -> None:
        if not self.modalities:
            raise ValueError("audio_config and text_config are None: expected the configuration of an encoder or two.")
        takes = HEADS[self.head].modalities
        if len(self.modalities) not in takes:
            fitting = [name for name, head in HEADS.items() if len(self.modalities) in head.modalities]
            raise ValueError(
                f"head is {self.head}, with {' and '.join(self.modalities)}: expected one of {', '.join(fitting)}."
            )
        if self.head in SOLVED_HEADS and self.pooling != "mean":
            raise ValueError(f"pooling is {self.pooling}: expected mean with head {self.head}.")
        takes_means = self.head in SOLVED_HEADS and self.modalities == (AUDIO,)
        if not 0 <= self.speaker_views <= (MOST_SPEEDS if takes_means else 0):
            raise ValueError(
                f"speaker_views is {self.speaker_views}, head {self.head}: expected 0, or up to {MOST_SPEEDS} with "
                f"{' or '.join(SOLVED_HEADS)} on audio alone."
            )
        takes_context = self.head in SOLVED_HEADS and TEXT in self.modalities
        if not 0 <= self.context_turns <= (MOST_TURNS if takes_context else 0):
            raise ValueError(
                f"context_turns is {self.context_turns}, head {self.head}: expected 0, or up to {MOST_TURNS} with "
                f"{' or '.join(SOLVED_HEADS)} and text."
            )
        if self.head in SOLVED_HEADS and MIX in (self.audio_layers, self.text_layers):
            raise ValueError(f"A layer is {MIX}, whose weights are trained: expected numbers with head {self.head}.")


def number_of_layers(config: PreTrainedConfig) -> int:
    """Hidden layers that an encoder shows; 0 where it shows its last alone, as our own networks do."""
    return getattr(config, "encoder_layers", None) or getattr(config, "num_hidden_layers", 0)


def checked_layers(name: str, layers: str | int | list, config: PreTrainedConfig) -> str | int | list[int]:
    """`last`, `mix`, the number of a layer that the encoder has, or a list of several.

    Raises:
        ValueError: anything else.
    """
    if layers == LAST:
        return layers
    known = number_of_layers(config)
    if not known:
        raise ValueError(f"{name} is {layers}: {config.model_type} shows its last layer alone. Expected {LAST}.")
    if layers == MIX:
        return layers
    numbers = layers if isinstance(layers, list | tuple) else str(layers).split(",")
    if not numbers or not all(str(one).strip().isdigit() and int(one) <= known for one in numbers):
        expected = f"{LAST}, {MIX}, or numbers from 0 to {known}, such as 2 or 2,3"
        raise ValueError(f"{name} is {layers}: expected {expected}.")
    numbers = [int(one) for one in numbers]
    return numbers if isinstance(layers, list | tuple) or len(numbers) > 1 else numbers[0]


def encoder_config(name: str, given: dict | PreTrainedConfig | None) -> PreTrainedConfig | None:
    """The configuration of an encoder as an object; None stays None.

    Raises:
        ValueError: it is none of an encoder.
    """
    if given is None or isinstance(given, PreTrainedConfig):
        return given
    if not isinstance(given, dict) or "model_type" not in given:
        raise ValueError(f"{name} is {str(given)[:60]}: expected the configuration of an encoder, with its model_type.")
    values = {key: value for key, value in given.items() if key != "model_type"}
    # Our own encoders are not in transformers' registry where hf_ser is absent.
    own = getattr(FAMILIES.get(given["model_type"]), "config_class", None)
    return own(**values) if own else AutoConfig.for_model(given["model_type"], **values)
