"""Everything a saved model needs, as flat files that import only each other.

These files are copied into every saved model, so that `trust_remote_code=True` loads it where hf_ser is absent.
Importing a name of this package registers the classes, so that where hf_ser is present its own code is used. That is
done when a name is first used: a file of this package that reads audio needs neither torch nor transformers, which
take seconds.
"""

from functools import cache
from importlib import import_module

_PLACES = {
    "configuration_ser": ("SerConfig",),
    "encoders": ("FAMILIES",),
    "front_end": ("SpectrogramFrontEnd", "WaveformFeatureExtractor"),
    "heads": ("FUSIONS", "HEADS", "POOLINGS", "SOLVED_HEADS"),
    "modeling_ser": ("SerModelForClassification",),
    "pipeline_ser": ("SerPipeline",),
    "processing_ser": ("SerProcessor",),
    "recurrent": ("TEXT_PRESETS", "TextRnnConfig", "TextRnnModel"),
    "saving": ("copy_code", "share_weights"),
    "spectrogram": ("PRESETS", "SpectrogramConfig", "SpectrogramModel"),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}

__all__ = sorted(_MODULES)


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    _register()
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


@cache
def _register() -> None:
    """Make the classes known to transformers."""
    from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification, AutoProcessor

    from .configuration_ser import SerConfig
    from .earlier_folders import EarlierAudioConfig, EarlierFusionConfig
    from .front_end import WaveformFeatureExtractor
    from .modeling_ser import SerModelForClassification
    from .processing_ser import SerProcessor
    from .recurrent import TextRnnConfig, TextRnnModel
    from .spectrogram import SpectrogramConfig, SpectrogramModel

    known = {"exist_ok": True}  # two threads may be here at once
    for config in (SerConfig, EarlierAudioConfig, EarlierFusionConfig, SpectrogramConfig, TextRnnConfig):
        AutoConfig.register(config.model_type, config, **known)
    AutoModelForAudioClassification.register(SerConfig, SerModelForClassification, **known)
    AutoProcessor.register(SerConfig, SerProcessor, **known)
    AutoModel.register(SpectrogramConfig, SpectrogramModel, **known)
    AutoFeatureExtractor.register(SpectrogramConfig, WaveformFeatureExtractor, **known)
    AutoModel.register(TextRnnConfig, TextRnnModel, **known)

    # What each saved class writes into `auto_map`, so that its code is found in the saved folder.
    SerConfig.register_for_auto_class()
    SerModelForClassification.register_for_auto_class("AutoModelForAudioClassification")
    SerProcessor.register_for_auto_class()
    SpectrogramConfig.register_for_auto_class()
    SpectrogramModel.register_for_auto_class("AutoModel")
    WaveformFeatureExtractor.register_for_auto_class()
    TextRnnConfig.register_for_auto_class()
    TextRnnModel.register_for_auto_class("AutoModel")
