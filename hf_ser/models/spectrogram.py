"""Our own audio encoder: a small convolutional network on a log-mel spectrogram, with its feature extractor.

Every step either looks at one position (channel LayerNorm) or is masked again after it, so that a clip's features do
not depend on what it was batched or padded with, and batch statistics never tie processes together.
"""

from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torchaudio.transforms import MelSpectrogram
from transformers import PreTrainedConfig, PreTrainedModel, SequenceFeatureExtractor
from transformers.feature_extraction_utils import BatchFeature
from transformers.modeling_outputs import BaseModelOutput, SequenceClassifierOutput

from .fusion import POOLINGS

WINDOW_SECONDS, HOP_SECONDS = 0.025, 0.010


class LogMelFeatureExtractor(SequenceFeatureExtractor):
    """Log-mel spectrogram of 25 ms windows every 10 ms, each clip scaled to mean 0 and deviation 1.

    The scaling removes the clip's gain, so that the level a corpus was recorded at is no shortcut.

    Args:
        feature_size: Mel bands.
        sampling_rate: Hz.
        max_seconds: Longer clips are cut at this length.
    """

    model_input_names = ("input_values", "attention_mask")

    def __init__(self, feature_size=64, sampling_rate=16_000, padding_value=0.0, max_seconds=8.0, **kwargs):
        super().__init__(feature_size, sampling_rate, padding_value, **kwargs)
        self.max_seconds = max_seconds

    def __call__(self, raw_speech, sampling_rate=None, return_tensors="pt", **kwargs) -> BatchFeature:
        """Turn clips into a padded batch.

        Shapes:
            raw_speech: one `(samples,)` array or a list of them;
            `input_values`: `(batch, mels, frames)`; `attention_mask`: `(batch, frames)`, 1 where there is sound.

        Raises:
            ValueError: the rate is not this extractor's.
        """
        if sampling_rate not in (None, self.sampling_rate):
            raise ValueError(
                f"Audio at {sampling_rate} Hz was given, {self.sampling_rate} Hz expected: resample it first."
            )
        clips = raw_speech if isinstance(raw_speech, list) else [raw_speech]
        mels = [self._log_mel(np.asarray(clip, dtype=np.float32)) for clip in clips]
        frames = max(mel.shape[1] for mel in mels)
        values = torch.full((len(mels), self.feature_size, frames), float(self.padding_value))
        mask = torch.zeros(len(mels), frames, dtype=torch.long)
        for row, mel in enumerate(mels):
            values[row, :, : mel.shape[1]] = mel
            mask[row, : mel.shape[1]] = 1
        return BatchFeature({"input_values": values, "attention_mask": mask}, tensor_type=return_tensors)

    def _log_mel(self, clip: np.ndarray) -> torch.Tensor:
        clip = torch.from_numpy(clip[: int(self.max_seconds * self.sampling_rate)])
        log_mel = _mel_transform(self.sampling_rate, self.feature_size)(clip).clamp(min=1e-10).log()
        return (log_mel - log_mel.mean()) / (log_mel.std() + 1e-5)


@lru_cache(maxsize=4)
def _mel_transform(sampling_rate: int, mels: int) -> MelSpectrogram:
    window = int(WINDOW_SECONDS * sampling_rate)
    return MelSpectrogram(sampling_rate, n_fft=window, hop_length=int(HOP_SECONDS * sampling_rate), n_mels=mels)


class SpectrogramCnnConfig(PreTrainedConfig):
    """Mel bands in, channels of each convolution block, size of the output frames, and how a clip is pooled."""

    model_type = "ser_spectrogram_cnn"

    num_mel_bins: int = 64
    channels: list[int] | tuple[int, ...] = (16, 32, 64, 128)
    hidden_size: int = 128
    dropout: float = 0.2
    pooling: str = "attentive"
    initializer_range: float = 0.05


class ConvBlock(nn.Module):
    """3x3 convolution with a stride that halves the bands (and the frames), LayerNorm over channels, ReLU."""

    def __init__(self, channels_in: int, channels_out: int, halve_frames: bool, dropout: float):
        super().__init__()
        self.stride = 2 if halve_frames else 1
        self.conv = nn.Conv2d(channels_in, channels_out, 3, stride=(2, self.stride), padding=1, bias=False)
        self.norm = nn.LayerNorm(channels_out)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Shapes: x `(batch, channels, mels, frames)`, zero where `mask` `(batch, frames)` is False."""
        x = self.norm(self.conv(x).permute(0, 2, 3, 1)).relu().permute(0, 3, 1, 2)
        mask = mask[:, :: self.stride]
        # Zero again, so that the next convolution sees past a clip's end what it sees when the clip is alone.
        return self.dropout(x.masked_fill(~mask[:, None, None], 0.0)), mask


class SpectrogramCnnPreTrainedModel(PreTrainedModel):
    config_class = SpectrogramCnnConfig
    base_model_prefix = "encoder"
    main_input_name = "input_values"
    _no_split_modules = ("ConvBlock",)


class SpectrogramCnnModel(SpectrogramCnnPreTrainedModel):
    """Four convolution blocks on a log-mel spectrogram; one output frame for every 40 ms."""

    def __init__(self, config: SpectrogramCnnConfig):
        super().__init__(config)
        sizes = (1, *config.channels)
        self.blocks = nn.ModuleList(
            ConvBlock(a, b, halve_frames=i < 2, dropout=config.dropout / 2) for i, (a, b) in enumerate(pairwise(sizes))
        )
        bands = config.num_mel_bins
        for _ in config.channels:
            bands = -(-bands // 2)
        self.project = nn.Linear(bands * sizes[-1], config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size)
        self.post_init()

    def forward(self, input_values: torch.Tensor, attention_mask: torch.Tensor | None = None) -> BaseModelOutput:
        """Shapes: input_values `(batch, mels, frames)`, mask `(batch, frames)`; out `(batch, frames/4, size)`."""
        if attention_mask is None:
            attention_mask = torch.ones(input_values.shape[0], input_values.shape[2], device=input_values.device)
        mask = attention_mask.bool()
        x = input_values[:, None].masked_fill(~mask[:, None, None], 0.0)
        for block in self.blocks:
            x, mask = block(x, mask)
        x = x.permute(0, 3, 1, 2).flatten(2)
        return BaseModelOutput(last_hidden_state=self.norm(self.project(x)))


class SpectrogramCnnForAudioClassification(SpectrogramCnnPreTrainedModel):
    """The encoder alone, pooled over the clip and classified."""

    accepts_loss_kwargs = False
    accepts_soft_labels = True

    def __init__(self, config: SpectrogramCnnConfig):
        super().__init__(config)
        self.encoder = SpectrogramCnnModel(config)
        self.pooling = POOLINGS[config.pooling](config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, input_values, attention_mask=None, labels=None) -> SequenceClassifierOutput:
        """Shapes: input_values `(batch, mels, frames)`; labels `(batch,)` or `(batch, classes)`."""
        hidden = self.encoder(input_values, attention_mask).last_hidden_state
        if attention_mask is None:
            attention_mask = torch.ones(input_values.shape[0], input_values.shape[2], device=hidden.device)
        logits = self.classifier(self.dropout(self.pooling(hidden, attention_mask[:, ::4].bool())))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)
