"""Everything a saved model needs, as flat files that import only each other.

These files are copied into every saved model, so that `trust_remote_code=True` loads it where hf_ser is absent.
Importing this package registers the classes, so that where hf_ser is present its own code is used.
"""

from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForAudioClassification,
    AutoProcessor,
)

from .configuration_ser import SerConfig
from .earlier_folders import EarlierAudioConfig, EarlierFusionConfig
from .encoders import FAMILIES
from .front_end import SpectrogramFrontEnd, WaveformFeatureExtractor
from .heads import FUSIONS, HEADS, POOLINGS, SOLVED_HEADS
from .modeling_ser import SerModelForClassification
from .pipeline_ser import SerPipeline
from .processing_ser import SerProcessor
from .recurrent import TEXT_PRESETS, TextRnnConfig, TextRnnModel
from .saving import copy_code, share_weights
from .spectrogram import PRESETS, SpectrogramConfig, SpectrogramModel

AutoConfig.register(SerConfig.model_type, SerConfig)
AutoModelForAudioClassification.register(SerConfig, SerModelForClassification)
AutoProcessor.register(SerConfig, SerProcessor)
for earlier in (EarlierAudioConfig, EarlierFusionConfig):
    AutoConfig.register(earlier.model_type, earlier)

AutoConfig.register(SpectrogramConfig.model_type, SpectrogramConfig)
AutoModel.register(SpectrogramConfig, SpectrogramModel)
AutoFeatureExtractor.register(SpectrogramConfig, WaveformFeatureExtractor)

AutoConfig.register(TextRnnConfig.model_type, TextRnnConfig)
AutoModel.register(TextRnnConfig, TextRnnModel)

# What each saved class writes into `auto_map`, so that its code is found in the saved folder.
SerConfig.register_for_auto_class()
SerModelForClassification.register_for_auto_class("AutoModelForAudioClassification")
SerProcessor.register_for_auto_class()
SpectrogramConfig.register_for_auto_class()
SpectrogramModel.register_for_auto_class("AutoModel")
WaveformFeatureExtractor.register_for_auto_class()
TextRnnConfig.register_for_auto_class()
TextRnnModel.register_for_auto_class("AutoModel")

__all__ = [
    "FAMILIES",
    "FUSIONS",
    "HEADS",
    "POOLINGS",
    "PRESETS",
    "SOLVED_HEADS",
    "TEXT_PRESETS",
    "SerConfig",
    "SerModelForClassification",
    "SerPipeline",
    "SerProcessor",
    "SpectrogramConfig",
    "SpectrogramFrontEnd",
    "SpectrogramModel",
    "TextRnnConfig",
    "TextRnnModel",
    "WaveformFeatureExtractor",
    "copy_code",
    "share_weights",
]
