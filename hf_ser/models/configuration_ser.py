"""Configuration of the fused model: the two encoders' own configurations and the head between them."""

from transformers import AutoConfig, PreTrainedConfig

from .fusion import FUSIONS, POOLINGS
from .recurrent import TextGruConfig
from .spectrogram import SpectrogramCnnConfig

# Our own encoders are found here and not in transformers' registry, so that a folder loads where hf_ser is absent.
OWN_CONFIGS = {config.model_type: config for config in (SpectrogramCnnConfig, TextGruConfig)}


def pipeline_entry(impl: str) -> dict:
    """The `custom_pipelines` value that makes `pipeline("audio-classification", trust_remote_code=True)` use `impl`."""
    return {
        "audio-classification": {
            "impl": f"pipeline_ser.{impl}",
            "pt": ["AutoModelForAudioClassification"],
            "type": "audio",
        }
    }


class SerFusionConfig(PreTrainedConfig):
    """What rebuilds a fused model.

    Args:
        audio_config: Configuration of the audio encoder (any that AutoModel knows, or ours).
        text_config: Configuration of the text encoder (any that AutoModel knows, or ours).
        fusion: Name of the head, a key of FUSIONS.
        fusion_size: Width of the head.
        num_fusion_heads: Attention heads of `cross_attention`.
        pooling: `mean` or `attentive`, over the positions of each modality.
        dropout: Of the head.
        modality_dropout: Share of training rows that lose one modality (text or audio, equally often, never both).
        branch_loss_weight: Weight of each branch's own loss in the late fusions.

    Raises:
        ValueError: unknown fusion or pooling.
    """

    model_type = "ser_fusion"
    sub_configs = {"audio_config": AutoConfig, "text_config": AutoConfig}  # noqa: RUF012  (transformers reads it so)

    audio_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    fusion: str = "gated"
    fusion_size: int = 128
    num_fusion_heads: int = 4
    pooling: str = "attentive"
    dropout: float = 0.2
    modality_dropout: float = 0.2
    branch_loss_weight: float = 0.3
    custom_pipelines: dict | None = None

    def __post_init__(self, **kwargs):
        self.audio_config = _sub_config(self.audio_config, SpectrogramCnnConfig)
        self.text_config = _sub_config(self.text_config, TextGruConfig)
        self.custom_pipelines = self.custom_pipelines or pipeline_entry("SerPipeline")
        for name, value, known in (("fusion", self.fusion, FUSIONS), ("pooling", self.pooling, POOLINGS)):
            if value not in known:
                raise ValueError(f"Unknown {name} '{value}': expected one of {', '.join(known)}.")
        super().__post_init__(**kwargs)


def _sub_config(given: dict | PreTrainedConfig | None, default: type[PreTrainedConfig]) -> PreTrainedConfig:
    if isinstance(given, PreTrainedConfig):
        return given
    if given is None:
        return default()
    values = {key: value for key, value in given.items() if key != "model_type"}
    own = OWN_CONFIGS.get(given["model_type"])
    return own(**values) if own else AutoConfig.for_model(given["model_type"], **values)
