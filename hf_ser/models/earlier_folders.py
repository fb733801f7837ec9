"""Folders of models that version 0.1 saved: read as the one kind of model that there is now."""

from .configuration_ser import SerConfig

HEADS_BEFORE = {r"^(audio|fusion)_head\.": "head."}
"""Names of weights then and now."""


class EarlierAudioConfig(SerConfig):
    """Reads the configuration of an audio-only model as SerConfig."""

    model_type = "ser_audio"

    @classmethod
    def from_dict(cls, config_dict: dict, **kwargs):
        """Return a SerConfig."""
        values = {key: value for key, value in config_dict.items() if key not in ("model_type", "custom_pipelines")}
        if "fusion" in values:
            values["head"] = values.pop("fusion")
        return SerConfig.from_dict(values, **kwargs)


class EarlierFusionConfig(EarlierAudioConfig):
    """Reads the configuration of a fused model as SerConfig."""

    model_type = "ser_fusion"
