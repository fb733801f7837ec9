"""The island: everything a saved model needs, as flat files that import only each other.

These files travel inside every saved model folder, so that `trust_remote_code=True` loads it where hf_ser is absent.
Importing this package registers the classes, so that where hf_ser is present its own code is used.
"""

from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForSequenceClassification,
    AutoProcessor,
)

from .configuration_ser import SerAudioConfig, SerFusionConfig
from .front_end import SpectrogramFrontEnd, WaveformFeatureExtractor
from .fusion import FUSIONS, POOLINGS
from .modeling_ser import SerAudioForAudioClassification, SerFusionForAudioClassification
from .pipeline_ser import SerAudioPipeline, SerPipeline
from .processing_ser import SerProcessor
from .recurrent import TEXT_PRESETS, TextRnnConfig, TextRnnForSequenceClassification, TextRnnModel
from .saving import copy_island, share_weights
from .spectrogram import PRESETS, SpectrogramConfig, SpectrogramModel

AutoConfig.register(SerFusionConfig.model_type, SerFusionConfig)
AutoModelForAudioClassification.register(SerFusionConfig, SerFusionForAudioClassification)
AutoProcessor.register(SerFusionConfig, SerProcessor)

AutoConfig.register(SerAudioConfig.model_type, SerAudioConfig)
AutoModelForAudioClassification.register(SerAudioConfig, SerAudioForAudioClassification)

AutoConfig.register(SpectrogramConfig.model_type, SpectrogramConfig)
AutoModel.register(SpectrogramConfig, SpectrogramModel)
AutoFeatureExtractor.register(SpectrogramConfig, WaveformFeatureExtractor)

AutoConfig.register(TextRnnConfig.model_type, TextRnnConfig)
AutoModel.register(TextRnnConfig, TextRnnModel)
AutoModelForSequenceClassification.register(TextRnnConfig, TextRnnForSequenceClassification)

# What each saved class writes into `auto_map`, so that its code is found in the saved folder.
SerFusionConfig.register_for_auto_class()
SerFusionForAudioClassification.register_for_auto_class("AutoModelForAudioClassification")
SerProcessor.register_for_auto_class()
SerAudioConfig.register_for_auto_class()
SerAudioForAudioClassification.register_for_auto_class("AutoModelForAudioClassification")
SpectrogramConfig.register_for_auto_class()
SpectrogramModel.register_for_auto_class("AutoModel")
WaveformFeatureExtractor.register_for_auto_class()
TextRnnConfig.register_for_auto_class()
TextRnnModel.register_for_auto_class("AutoModel")
TextRnnForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")

__all__ = [
    "FUSIONS",
    "POOLINGS",
    "PRESETS",
    "TEXT_PRESETS",
    "SerAudioConfig",
    "SerAudioForAudioClassification",
    "SerAudioPipeline",
    "SerFusionConfig",
    "SerFusionForAudioClassification",
    "SerPipeline",
    "SerProcessor",
    "SpectrogramConfig",
    "SpectrogramFrontEnd",
    "SpectrogramModel",
    "TextRnnConfig",
    "TextRnnForSequenceClassification",
    "TextRnnModel",
    "WaveformFeatureExtractor",
    "copy_island",
    "share_weights",
]
