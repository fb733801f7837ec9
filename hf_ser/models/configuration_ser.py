"""Configurations of our classifiers: the encoders' own configurations, and the head behind them."""

# First of all, and before transformers 4 fails at a name that it does not have: are the libraries recent enough?
from .libraries import check_transformers  # noqa: F401

# isort: split
from transformers import AutoConfig, PreTrainedConfig

# transformers 4 copies only the files that this one names. It is given all that these need in turn, so that it comes as
# far as `libraries`, which says that it is too old.
from .config_checks import check_own_config
from .feature_changes import FeatureChanges  # noqa: F401
from .front_end import SpectrogramFrontEnd  # noqa: F401
from .functionals import functionals  # noqa: F401
from .fusion import FUSIONS, POOLINGS
from .loading import check_weights  # noqa: F401
from .networks import NETWORKS  # noqa: F401
from .random_kernels import RandomKernels  # noqa: F401
from .recurrent import TextRnnConfig
from .saving import share_weights  # noqa: F401
from .spectrogram import SpectrogramConfig

# Our own encoders are found here and not in transformers' registry, so that a folder loads where hf_ser is absent.
OWN_CONFIGS = {config.model_type: config for config in (SpectrogramConfig, TextRnnConfig)}

LAST, MIX = "last", "mix"
"""Which hidden layer of an encoder is read: the last, a learned mixture of all, or one by its number (0: before the
first)."""
SOLVED_HEADS = ("ridge", "logistic")
"""Linear heads on standardised means, which are solved for at once; their encoder is frozen."""
HEADS = ("mlp", "linear", *SOLVED_HEADS)


def pipeline_entry(impl: str) -> dict:
    """The `custom_pipelines` value that makes `pipeline("audio-classification", trust_remote_code=True)` use `impl`."""
    return {
        "audio-classification": {
            "impl": f"pipeline_ser.{impl}",
            "pt": ["AutoModelForAudioClassification"],
            "type": "audio",
        }
    }


class SerAudioConfig(PreTrainedConfig):
    """What rebuilds a model that only hears.

    Args:
        audio_config: Configuration of the audio encoder (any that AutoModel knows, or ours).
        audio_layers: Layers that are read: `last`, `mix`, a number, or several numbers, which are put side by side.
        pooling: Key of POOLINGS, over the positions.
        head: `mlp`, `linear`, or one of SOLVED_HEADS.
        head_size: Width of the head.
        dropout: Of the head.
        dropout_samples: Dropout masks over which the logits are averaged in training.

    Raises:
        ValueError: unknown pooling, head or layer, or a value that no model has.
    """

    model_type = "ser_audio"
    sub_configs = {"audio_config": AutoConfig}  # noqa: RUF012  (transformers reads it so)

    audio_config: dict | PreTrainedConfig | None = None
    audio_layers: str | int | list[int] = LAST
    pooling: str = "attentive"
    head: str = "mlp"
    head_size: int = 128
    dropout: float = 0.2
    dropout_samples: int = 1
    custom_pipelines: dict | None = None

    def __post_init__(self, **kwargs):
        check_own_config(self, kwargs)
        self.audio_config = _sub_config("audio_config", self.audio_config, SpectrogramConfig)
        self.custom_pipelines = self.custom_pipelines or pipeline_entry("SerAudioPipeline")
        self.audio_layers = checked_layers("audio_layers", self.audio_layers, self.audio_config)
        self.check("pooling", POOLINGS)
        self.check("head", HEADS)
        if self.head in SOLVED_HEADS and self.pooling != "mean":
            raise ValueError(f"pooling is {self.pooling}: expected mean with head {self.head}.")
        super().__post_init__(**kwargs)

    def check(self, name: str, known) -> None:
        """Make sure that a field has one of the known values."""
        if not isinstance(value := getattr(self, name), str) or value not in known:
            raise ValueError(f"Unknown {name} '{value}': expected one of {', '.join(known)}.")


class SerFusionConfig(SerAudioConfig):
    """What rebuilds a fused model; more than SerAudioConfig:

    Args:
        text_config: Configuration of the text encoder (any that AutoModel knows, or ours).
        text_layers: As `audio_layers`.
        fusion: Name of the head, a key of FUSIONS.
        num_fusion_heads: Attention heads of `cross_attention`.
        modality_dropout: Share of training rows that lose one modality (text or audio, equally often, never both).
        branch_loss_weight: Weight of each branch's own loss in the late fusions.

    Raises:
        ValueError: unknown fusion, pooling, head or layer.
    """

    model_type = "ser_fusion"
    keys_to_ignore_at_inference = ["branch_logits"]  # noqa: RUF012  (Trainer would gather them as predictions)
    sub_configs = {"audio_config": AutoConfig, "text_config": AutoConfig}  # noqa: RUF012

    text_config: dict | PreTrainedConfig | None = None
    text_layers: str | int = LAST
    fusion: str = "gated"
    num_fusion_heads: int = 4
    modality_dropout: float = 0.2
    branch_loss_weight: float = 0.3

    def __post_init__(self, **kwargs):
        self.text_config = _sub_config("text_config", self.text_config, TextRnnConfig)
        self.custom_pipelines = self.custom_pipelines or pipeline_entry("SerPipeline")
        self.text_layers = checked_layers("text_layers", self.text_layers, self.text_config)
        self.check("fusion", FUSIONS)
        if self.head in SOLVED_HEADS:
            raise ValueError(f"head is {self.head}, which is for audio alone: expected mlp or linear in fusion.")
        super().__post_init__(**kwargs)


def number_of_layers(config: PreTrainedConfig) -> int:
    """Hidden layers that an encoder shows; 0 where it shows its last alone (our own networks)."""
    if config.model_type in OWN_CONFIGS:
        return 0
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


def _sub_config(name: str, given: dict | PreTrainedConfig | None, default: type[PreTrainedConfig]) -> PreTrainedConfig:
    if isinstance(given, PreTrainedConfig):
        return given
    if given is None:
        return default()
    if not isinstance(given, dict) or "model_type" not in given:
        raise ValueError(f"{name} is {str(given)[:60]}: expected the configuration of an encoder, with its model_type.")
    values = {key: value for key, value in given.items() if key != "model_type"}
    own = OWN_CONFIGS.get(given["model_type"])
    return own(**values) if own else AutoConfig.for_model(given["model_type"], **values)
