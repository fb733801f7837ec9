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

from .configuration_ser import SerFusionConfig
from .fusion import FUSIONS, POOLINGS
from .modeling_ser import SerFusionForAudioClassification
from .pipeline_ser import SerAudioPipeline, SerPipeline, copy_island
from .processing_ser import SerProcessor
from .recurrent import TextGruConfig, TextGruForSequenceClassification, TextGruModel
from .spectrogram import (
    LogMelFeatureExtractor,
    SpectrogramCnnConfig,
    SpectrogramCnnForAudioClassification,
    SpectrogramCnnModel,
)

AutoConfig.register(SerFusionConfig.model_type, SerFusionConfig)
AutoModelForAudioClassification.register(SerFusionConfig, SerFusionForAudioClassification)
AutoProcessor.register(SerFusionConfig, SerProcessor)

AutoConfig.register(SpectrogramCnnConfig.model_type, SpectrogramCnnConfig)
AutoModel.register(SpectrogramCnnConfig, SpectrogramCnnModel)
AutoModelForAudioClassification.register(SpectrogramCnnConfig, SpectrogramCnnForAudioClassification)
AutoFeatureExtractor.register(SpectrogramCnnConfig, LogMelFeatureExtractor)

AutoConfig.register(TextGruConfig.model_type, TextGruConfig)
AutoModel.register(TextGruConfig, TextGruModel)
AutoModelForSequenceClassification.register(TextGruConfig, TextGruForSequenceClassification)

# What each saved class writes into `auto_map`, so that its code is found in the saved folder.
SerFusionConfig.register_for_auto_class()
SerFusionForAudioClassification.register_for_auto_class("AutoModelForAudioClassification")
SerProcessor.register_for_auto_class()
SpectrogramCnnConfig.register_for_auto_class()
SpectrogramCnnModel.register_for_auto_class("AutoModel")
SpectrogramCnnForAudioClassification.register_for_auto_class("AutoModelForAudioClassification")
LogMelFeatureExtractor.register_for_auto_class()
TextGruConfig.register_for_auto_class()
TextGruModel.register_for_auto_class("AutoModel")
TextGruForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")

__all__ = [
    "FUSIONS",
    "POOLINGS",
    "LogMelFeatureExtractor",
    "SerAudioPipeline",
    "SerFusionConfig",
    "SerFusionForAudioClassification",
    "SerPipeline",
    "SerProcessor",
    "SpectrogramCnnConfig",
    "SpectrogramCnnForAudioClassification",
    "SpectrogramCnnModel",
    "TextGruConfig",
    "TextGruForSequenceClassification",
    "TextGruModel",
    "copy_island",
]
