"""A model from waveforms on as one module that torch exports: what its feature extractor does is inside.

Each class here does what a feature extractor of transformers does, in operations that ONNX has, so that what runs the
export only pads waveforms. `export_onnx` checks that both give the same.
"""

import torch
from torch import nn
from transformers import FeatureExtractionMixin
from transformers.audio_utils import mel_filter_bank

from hf_ser.models import SerModelForClassification


class Waveforms(nn.Module):
    """Waveforms as they are, with a mask, for a network that makes its own features."""

    padded_samples: int | None = None
    """Samples that every clip is padded to; None: to the longest of its batch."""

    def __init__(self, extractor: FeatureExtractionMixin):
        super().__init__()

    def forward(self, waveform: torch.Tensor, samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Shapes: waveform `(clips, samples)`, samples `(clips,)`, how many are a clip's own; values and their mask."""
        return waveform, own_samples(waveform, samples).long()


class ScaledWaveforms(Waveforms):
    """Waveforms of mean 0 and deviation 1, as wav2vec2 and its like take them."""

    def __init__(self, extractor: FeatureExtractionMixin):
        super().__init__(extractor)
        self.scales = extractor.do_normalize

    def forward(self, waveform, samples):
        own = own_samples(waveform, samples)
        if self.scales:
            count = samples.clamp(min=1)[:, None]
            mean = waveform.masked_fill(~own, 0.0).sum(1, keepdim=True) / count
            spread = (waveform - mean).masked_fill(~own, 0.0).square().sum(1, keepdim=True) / count
            waveform = (waveform - mean) / (spread + 1e-7).sqrt()
        return waveform.masked_fill(~own, 0.0), own.long()


class WhisperFeatures(Waveforms):
    """Whisper's log-mel spectrogram of clips that are padded to one length."""

    def __init__(self, extractor: FeatureExtractionMixin):
        super().__init__(extractor)
        self.padded_samples, self.hop = extractor.n_samples, extractor.hop_length
        self.fft = extractor.n_fft
        self.register_buffer("window", torch.hann_window(extractor.n_fft))
        self.register_buffer("filters", torch.from_numpy(extractor.mel_filters).float())

    def forward(self, waveform, samples):
        own = own_samples(waveform, samples)
        waveform = waveform.masked_fill(~own, 0.0)
        spectrum = torch.stft(waveform, self.fft, self.hop, window=self.window, return_complex=True)[..., :-1]
        mels = self.filters.T @ (spectrum.real.square() + spectrum.imag.square())
        levels = mels.clamp(min=1e-10).log10()
        levels = levels.maximum(levels.amax((1, 2), keepdim=True) - 8.0)
        return (levels + 4.0) / 4.0, own[:, :: self.hop].long()


class AstFeatures(Waveforms):
    """The mel spectrogram of AST, as Kaldi makes it, of clips that are padded to one length.

    Source: torchaudio.compliance.kaldi.fbank, which takes one clip and branches on its length.
    """

    window_samples, hop, fft, preemphasis, lowest_hz = 400, 160, 512, 0.97, 20.0

    def __init__(self, extractor: FeatureExtractionMixin):
        super().__init__(extractor)
        self.frames = extractor.max_length
        self.padded_samples = self.window_samples + self.hop * (self.frames - 1)
        self.mean, self.deviation = (extractor.mean, extractor.std) if extractor.do_normalize else (0.0, 0.5)
        filters = mel_filter_bank(
            num_frequency_bins=self.fft // 2 + 1,
            num_mel_filters=extractor.num_mel_bins,
            min_frequency=self.lowest_hz,
            max_frequency=extractor.sampling_rate / 2,
            sampling_rate=extractor.sampling_rate,
            norm=None,
            mel_scale="kaldi",
            triangularize_in_mel_space=True,
        )
        self.register_buffer("filters", torch.from_numpy(filters).float())
        self.register_buffer("window", torch.hann_window(self.window_samples, periodic=False))

    def forward(self, waveform, samples):
        waveform = waveform.masked_fill(~own_samples(waveform, samples), 0.0)
        frames = waveform.unfold(1, self.window_samples, self.hop)
        frames = frames - frames.mean(2, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], 2)
        spectrum = torch.fft.rfft((frames - self.preemphasis * before) * self.window, self.fft)
        power = spectrum.real.square() + spectrum.imag.square()
        levels = (power @ self.filters).clamp(min=torch.finfo(torch.float32).eps).log()
        whole = 1 + (samples - self.window_samples).div(self.hop, rounding_mode="floor")
        mask = torch.arange(self.frames, device=samples.device) < whole[:, None]
        levels = levels.masked_fill(~mask[..., None], 0.0)
        return (levels - self.mean) / (2 * self.deviation), mask.long()


FEATURES = {
    "WaveformFeatureExtractor": Waveforms,
    "Wav2Vec2FeatureExtractor": ScaledWaveforms,
    "WhisperFeatureExtractor": WhisperFeatures,
    "ASTFeatureExtractor": AstFeatures,
}
"""By the class name of a feature extractor."""


def own_samples(waveform: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
    """Which samples are a clip's own; shapes `(clips, samples)`, `(clips,)`, out as the first."""
    return torch.arange(waveform.shape[1], device=waveform.device) < samples[:, None]


class WaveformModel(nn.Module):
    """From waveforms, and tokens where the model takes text, to logits.

    Args:
        model: Of audio, or of audio and text.
        extractor: Its feature extractor.

    Raises:
        ValueError: there is no module that does what this extractor does.
    """

    def __init__(self, model: SerModelForClassification, extractor: FeatureExtractionMixin):
        super().__init__()
        kind = type(extractor).__name__
        if kind not in FEATURES:
            raise ValueError(
                f"The features of {kind} cannot be exported yet. Expected one of {', '.join(FEATURES)}: choose another "
                "encoder, or deploy the model with scripts/serve.py, which runs torch."
            )
        self.features, self.model = FEATURES[kind](extractor), model.eval()

    def forward(
        self,
        waveform: torch.Tensor,
        samples: torch.Tensor,
        input_ids: torch.Tensor | None = None,
        text_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Classify a batch.

        Shapes:
            waveform `(clips, samples)`, samples `(clips,)`, 0 of a clip without audio; of several speeds
            `(clips, speeds, samples)` and `(clips, speeds)`; input_ids and text_mask `(clips, tokens)`; the result
            `(clips, classes)`.
        """
        if waveform.dim() == 3:
            values, mask = self.features(waveform.flatten(0, 1), samples.flatten())
            values, mask = (one.unflatten(0, (-1, waveform.shape[1])) for one in (values, mask))
        else:
            values, mask = self.features(waveform, samples)
        text = {} if input_ids is None else {"input_ids": input_ids, "text_mask": text_mask}
        return self.model(input_values=values, audio_mask=mask, **text).logits
