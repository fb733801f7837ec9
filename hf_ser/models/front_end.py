"""From waveforms to spectrogram features inside a model, and the feature extractor that brings the waveforms.

The features are made where the model is, so on its GPU, and every table is a persistent buffer: what is saved is what
answers. A clip's features do not depend on what it was batched or padded with.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from transformers import SequenceFeatureExtractor
from transformers.feature_extraction_utils import BatchFeature

from .functionals import PitchTrack, clip_streams, functionals, masked_moments, n_functionals, with_deltas
from .libraries import audio_functional
from .random_kernels import N_KERNEL_FEATURES, RandomKernels
from .samples import trimmed

WHOLE = ("functionals", "random_kernels")
"""Features that are one vector a clip; what is said of functionals holds for both."""
FEATURES = ("log_mel", "mfcc", "log_spectrogram", *WHOLE)
N_COEFFICIENTS = 20
"""Cepstral coefficients among the functionals."""
LOWEST_MEL = 20.0
"""Hz from which the bands of functionals begin."""
NORMALISATIONS = ("clip", "band", "corpus", "speaker", "none")
PRIOR_CLIPS = (1.0, 16.0)
"""Clips that what is known of training speakers counts for beside a speaker's own: in the mean, in the variance.

Chosen on validation speakers of RAVDESS (EmoBox folds 1, 3, 5; two layers on functionals, three draws) from 0, 1, 2, 4
and 0, 2, 4, 8, 16, 64, 1000: UAR 61.4 % in place of 55.4 % without, of 4 clips; 63.1 % in place of 61.6 %, of 10.
"""
LEAST_POWER = 1e-10
NOISE_POWER = 1e-6
"""Added to the bands of functionals, so that the noise of a quiet recording does not tell one from another."""
LEAST_DEVIATION = 1e-5


class Moments(NamedTuple):
    """How the bands of some clips lie, over all their frames, in float64.

    Shapes: mean and variance `(bands,)`.
    """

    clips: int
    frames: int
    mean: torch.Tensor
    variance: torch.Tensor


class SpectrogramFrontEnd(nn.Module):
    """Waveforms to spectrogram features, without any parameter to train.

    Power below the clip's loudest point by more than `top_db` counts as silence, so that neither its gain nor digital
    zeros reach the features (of "clip", "band" and "speaker" normalisation).

    Args:
        features: "log_mel", "mfcc", "log_spectrogram" (the lowest `n_bands` frequency bins), or "functionals" of
            log-mel bands and pitch: one frame a clip, of which the property `n_bands` counts the functionals;
            "random_kernels" are functionals too, behind them those of random convolutions.
        sampling_rate: Hz.
        n_bands: Mel bands, coefficients (mfcc) or frequency bins that are kept; of functionals an even number of mel
            bands.
        n_mels: Mel bands that an mfcc is made of.
        window_seconds: Window of a frame, and its Fourier transform, which of functionals is the next power of two.
        hop_seconds: From frame to frame.
        top_db: Range that is kept under a clip's loudest point; None for all of it.
        deltas: Static, delta and delta-delta as three channels.
        seconds: Fixed length: longer clips are cut, shorter ones padded with silence.
        start_seconds: Where the fixed length begins; sooner in a clip that would end before it.
        image_size: (bands, frames) that each clip is resized to.
        normalisation: "clip" (one mean and deviation over a clip), "band" (each band over a clip), "corpus" (each band
            over the training clips, set once by `fit_corpus`), "speaker" (each band over a speaker's clips, given to
            `forward`), or "none". Functionals have one frame, so of them not the first two.

    Raises:
        ValueError: an unknown word, more bands than the window resolves, or what functionals cannot have.
    """

    def __init__(
        self,
        features: str = "log_mel",
        sampling_rate: int = 16_000,
        n_bands: int = 64,
        n_mels: int = 64,
        window_seconds: float = 0.025,
        hop_seconds: float = 0.010,
        top_db: float | None = 80.0,
        deltas: bool = False,
        seconds: float | None = None,
        start_seconds: float = 0.0,
        image_size: tuple[int, int] | list[int] | None = None,
        normalisation: str = "clip",
    ):
        super().__init__()
        _check_word("features", features, FEATURES)
        _check_word("normalisation", normalisation, NORMALISATIONS)
        self.features, self.normalisation, self.deltas, self.top_db = features, normalisation, deltas, top_db
        self.is_whole = features in WHOLE
        if self.is_whole:
            _check_functionals(n_bands, deltas, image_size, normalisation)
        self.image_size = tuple(image_size) if image_size else None
        self.window_samples = round(window_seconds * sampling_rate)
        self.hop_samples = round(hop_seconds * sampling_rate)
        self.samples = round(seconds * sampling_rate) if seconds else None
        self.start_sample = round(start_seconds * sampling_rate)
        # from_pretrained builds on the meta device, where tables could not be checked: these are made for real.
        with torch.device("cpu"):
            self._make_tables(sampling_rate, n_bands, n_mels)
            self._make_statistics()

    def _make_tables(self, sampling_rate: int, n_bands: int, n_mels: int) -> None:
        whole = self.is_whole
        self.fft_samples = 2 ** math.ceil(math.log2(self.window_samples)) if whole else self.window_samples
        bins = self.fft_samples // 2 + 1
        mels = n_bands if whole else {"log_mel": n_bands, "mfcc": n_mels}.get(self.features)
        if n_bands > (mels or bins):
            raise ValueError(
                f"n_bands is {n_bands}, and {self.features} has {mels or bins} to take them from: expected no more."
            )
        self.register_buffer("window", torch.hann_window(self.window_samples, dtype=torch.float32))
        if mels:
            self.register_buffer("filter_bank", _mel_filters(bins, mels, sampling_rate, LOWEST_MEL if whole else 0.0))
        self.raw_bands = n_bands
        if self.features == "mfcc":
            self.register_buffer("cosines", audio_functional.create_dct(n_bands, mels, norm="ortho").float())
        elif whole:
            coefficients = min(N_COEFFICIENTS, n_bands // 2)
            cosines = audio_functional.create_dct(coefficients, n_bands // 2, norm="ortho")
            self.register_buffer("cosines", cosines.float())
            self.pitch = PitchTrack(sampling_rate, self.hop_samples)
            self.raw_bands = n_functionals(n_bands, coefficients)
            if self.features == "random_kernels":
                self.kernels = RandomKernels(coefficients + 2)
                self.raw_bands += N_KERNEL_FEATURES

    def _make_statistics(self) -> None:
        """What training clips and training speakers are like, once that is known; saved with the tables."""
        self.register_buffer("corpus_mean", torch.zeros(self.raw_bands, dtype=torch.float32))
        self.register_buffer("corpus_deviation", torch.ones(self.raw_bands, dtype=torch.float32))
        self.register_buffer("speaker_mean", torch.zeros(self.raw_bands, dtype=torch.float32))
        self.register_buffer("speaker_variance", torch.ones(self.raw_bands, dtype=torch.float32))
        self.register_buffer("prior_clips", torch.zeros(2, dtype=torch.float32))

    def _apply(self, fn, recurse: bool = True):
        """As torch's, which moves and converts a module; the tables stay in float32, as the features are computed."""

        def kept(values: torch.Tensor) -> torch.Tensor:
            changed = fn(values)
            if not values.is_floating_point() or values.is_meta or changed.dtype == values.dtype:
                return changed
            return values.to(changed.device)

        return super()._apply(kept, recurse)

    @property
    def n_channels(self) -> int:
        return 3 if self.deltas else 1

    @property
    def n_bands(self) -> int:
        return self.image_size[0] if self.image_size else self.raw_bands

    @property
    def n_frames(self) -> int | None:
        """Frames of every clip; None where they follow its length."""
        if self.image_size:
            return self.image_size[1]
        if self.is_whole:
            return 1
        return 1 + self.samples // self.hop_samples if self.samples else None

    def forward(
        self,
        waveforms: torch.Tensor,
        mask: torch.Tensor | None = None,
        speaker_statistics: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Make the features of a batch, in float32 whatever the model computes in.

        Shapes:
            waveforms: `(batch, samples)`, padded at the end; mask `(batch, samples)`, 1 where there is audio (None:
            everywhere);
            speaker_statistics: `(batch, 2, bands)`, mean and deviation of `raw` over each speaker's clips; of
            normalisation "speaker", where without them a clip's own take their place (of functionals, those of
            training speakers);
            returns `(batch, channels, bands, frames)`, 0 where the frame mask `(batch, frames)` is False. The mask of a
            fixed length or image is True all over, but for rows without any audio.
        """
        with torch.no_grad(), torch.autocast(waveforms.device.type, enabled=False):
            values, valid = self.raw(waveforms, mask)
            values = self._normalised(values, valid, speaker_statistics)
            if self.samples:  # the silence behind a clip is part of the picture
                valid = valid.any(1, keepdim=True).expand_as(valid)
            values = with_deltas(values, valid) if self.deltas else values[:, None]
            if self.image_size:
                values, valid = _resized(values, valid, self.image_size)
            return values.masked_fill(~valid[:, None, None], 0.0), valid

    def raw(self, waveforms: torch.Tensor, mask: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Features before normalisation, deltas and resizing: what statistics are made of.

        Shapes:
            waveforms and mask `(batch, samples)`;
            returns `(batch, bands, frames)`, silence behind a clip's end, and the mask `(batch, frames)` of its own
            frames, 1 + samples // hop of them.
        """
        with torch.no_grad(), torch.autocast(waveforms.device.type, enabled=False):
            waveforms, lengths = self._cut(waveforms, mask)
            spectrum = torch.stft(
                waveforms,
                self.fft_samples,
                self.hop_samples,
                self.window_samples,
                window=self.window.float(),
                pad_mode="constant",
                return_complex=True,
            )
            power = spectrum.real.square() + spectrum.imag.square()  # abs takes four times as long
            frames = torch.where(lengths > 0, 1 + lengths // self.hop_samples, 0)
            valid = torch.arange(power.shape[2], device=power.device)[None] < frames[:, None]
            values = self._bands(power, valid)
            if not self.is_whole:
                return values, valid
            pitch = self.pitch(waveforms, values.shape[2])
            return self._vectors(values, pitch, valid)[..., None], valid.any(1, keepdim=True)

    def _vectors(self, bands: torch.Tensor, pitch: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """Bands and pitch `(batch, *, frames)` to a vector a clip."""
        cosines = self.cosines.float()
        streams = clip_streams(bands, pitch, valid, cosines)
        vectors = functionals(streams)
        if self.features == "random_kernels":
            vectors = torch.cat([vectors, self.kernels(streams.for_kernels(cosines), streams.valid)], 1)
        return vectors

    def _cut(self, waveforms: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Silence behind each clip's end, and the fixed length where there is one."""
        waveforms = waveforms.float()
        if mask is None:
            lengths = torch.full(waveforms.shape[:1], waveforms.shape[1], device=waveforms.device)
        else:
            waveforms, lengths = waveforms.masked_fill(mask == 0, 0.0), mask.long().sum(1)
        if self.samples is None:
            return waveforms, lengths
        start = (lengths - self.samples).clamp(min=0, max=self.start_sample)
        positions = start[:, None] + torch.arange(self.samples, device=waveforms.device)
        inside = positions < lengths[:, None]
        cut = waveforms.gather(1, positions.clamp(max=waveforms.shape[1] - 1)).masked_fill(~inside, 0.0)
        return cut, inside.sum(1)

    def _bands(self, power: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """Power `(batch, bins, frames)` to the logarithm of bands, or to coefficients."""
        filtered = self.features != "log_spectrogram"
        power = self.filter_bank.float().T @ power if filtered else power[:, : self.raw_bands]
        values = (power + NOISE_POWER).log() if self.is_whole else power.clamp(min=LEAST_POWER).log()
        if self.top_db is not None:
            peak = values.masked_fill(~valid[:, None], math.log(LEAST_POWER)).amax((1, 2), keepdim=True)
            values = values.maximum(peak - self.top_db * math.log(10) / 10)
        return self.cosines.float().T @ values if self.features == "mfcc" else values

    def _normalised(self, values: torch.Tensor, valid: torch.Tensor, speaker: torch.Tensor | None) -> torch.Tensor:
        kind = self.normalisation
        if kind == "speaker" and speaker is None and not self.is_whole:
            kind = "band"
        if kind == "none":
            return values
        if kind == "speaker" and speaker is None:
            mean, deviation = self.speaker_mean.float()[None], self.speaker_variance.float()[None].sqrt()
        elif kind == "speaker":
            mean, deviation = speaker.to(values).unbind(1)
        elif kind == "corpus":
            mean, deviation = self.corpus_mean.float()[None], self.corpus_deviation.float()[None]
        else:
            mean, deviation = masked_moments(values, valid, over_bands=kind == "clip")
        return (values - mean[..., None]) / (deviation[..., None] + LEAST_DEVIATION)

    def statistics(self, batches: Iterable[tuple[torch.Tensor, torch.Tensor | None]]) -> torch.Tensor:
        """Mean and deviation of each band of `raw` over all frames of several batches.

        Shapes: of each batch, waveforms and mask `(batch, samples)`; returns `(2, bands)` float32.

        Raises:
            ValueError: they have no valid frame.
        """
        one = self.moments(batches)
        return torch.stack([one.mean, one.variance.sqrt()]).float()

    def speaker_scaling(self, speaker: Moments) -> torch.Tensor:
        """What a speaker's clips are scaled by: the fewer of them are known, the nearer to those of training speakers.

        How near, `fit_speakers` has set; the model keeps it, so that training, evaluation and use scale alike.

        Shapes: as `statistics`.
        """
        clips, (of_mean, of_variance) = speaker.clips, self.prior_clips.double()
        mean = (clips * speaker.mean + of_mean * self.speaker_mean) / (clips + of_mean)
        variance = (clips * speaker.variance + of_variance * self.speaker_variance) / (clips + of_variance)
        return torch.stack([mean, variance.sqrt()]).float()

    def fit_speakers(self, speakers: Sequence[Moments]) -> None:
        """Set what `speaker_scaling` leans on: training speakers' mean, and the variance within one of them.

        Raises:
            ValueError: no speaker has two frames, so that nothing varies within a speaker.
        """
        frames = torch.tensor([one.frames for one in speakers]).to(self.window.device, torch.float64)
        if not (within := (frames - 1).sum()):
            raise ValueError(
                f"{len(speakers)} training speakers have one clip each: found nothing that varies within a speaker, "
                "and normalisation speaker scales by it. Expected several clips of each: name another normalisation "
                "(corpus), or bring the speakers' names."
            )
        self.speaker_mean.copy_(torch.stack([one.mean for one in speakers]).mean(0))
        self.speaker_variance.copy_((torch.stack([one.variance for one in speakers]).T @ frames) / within)
        self.prior_clips.copy_(torch.tensor(PRIOR_CLIPS))

    def moments(self, batches: Iterable[tuple[torch.Tensor, torch.Tensor | None]]) -> Moments:
        """Of all frames of several batches.

        Shapes, Raises: as `statistics`.
        """
        clips, frames, sums, squares = 0, 0, 0.0, 0.0
        for waveforms, mask in batches:
            values, valid = self.raw(waveforms, mask)
            chosen = values.transpose(1, 2)[valid].double()
            clips, frames = clips + int(valid.any(1).sum()), frames + len(chosen)
            sums, squares = sums + chosen.sum(0), squares + chosen.square().sum(0)
        if frames == 0:
            raise ValueError("Found no valid frame to take statistics of: expected clips with audio.")
        mean = sums / frames
        return Moments(clips, frames, mean, (squares / frames - mean.square()).clamp(min=0))

    @property
    def device(self) -> torch.device:
        """Where its inputs have to be."""
        return self.window.device

    def fit_corpus(self, batches: Iterable[tuple[torch.Tensor, torch.Tensor | None]]) -> None:
        """Set the statistics of normalisation "corpus" from the training clips (never from others).

        Shapes: of each batch, waveforms and mask `(batch, samples)`.
        """
        mean, deviation = self.statistics(batches)
        self.corpus_mean.copy_(mean)
        self.corpus_deviation.copy_(deviation)


class WaveformFeatureExtractor(SequenceFeatureExtractor):
    """Clips to one padded batch of waveforms, for a network that makes its own features.

    Args:
        feature_size: Always 1.
        sampling_rate: Hz.
        padding_value: What shorter clips are padded with.
        max_seconds: Longer clips are cut at this length, after trimming; None for all of them.
        trim_silence: Cut both ends where 10 ms frames are 60 dB and more under the clip's loudest; at least 0.25 s of a
            clip stay.
    """

    model_input_names = ("input_values", "attention_mask")

    def __init__(
        self,
        feature_size=1,
        sampling_rate=16_000,
        padding_value=0.0,
        max_seconds=8.0,
        trim_silence=False,
        **kwargs,
    ):
        super().__init__(feature_size, sampling_rate, padding_value, **kwargs)
        self.max_seconds = max_seconds
        self.trim_silence = trim_silence

    def __call__(self, raw_speech, sampling_rate=None, return_tensors="pt", **kwargs) -> BatchFeature:
        """Turn clips into a padded batch.

        Shapes:
            raw_speech: one `(samples,)` array or a list of them;
            `input_values`: `(batch, samples)`; `attention_mask`: `(batch, samples)`, 1 where there is audio.

        Raises:
            ValueError: the rate is not this extractor's.
        """
        if sampling_rate not in (None, self.sampling_rate):
            raise ValueError(
                f"Audio at {sampling_rate} Hz was given, {self.sampling_rate} Hz expected: resample it first."
            )
        clips = raw_speech if isinstance(raw_speech, list) else [raw_speech]
        clips = [self._prepared(np.asarray(clip, dtype=np.float32)) for clip in clips]
        values = np.full((len(clips), max(map(len, clips))), self.padding_value, dtype=np.float32)
        mask = np.zeros(values.shape, dtype=np.int64)
        for row, clip in enumerate(clips):
            values[row, : len(clip)] = clip
            mask[row, : len(clip)] = 1
        return BatchFeature({"input_values": values, "attention_mask": mask}, tensor_type=return_tensors)

    def _prepared(self, clip: np.ndarray) -> np.ndarray:
        clip = trimmed(clip, self.sampling_rate) if self.trim_silence else clip
        return clip[: int(self.max_seconds * self.sampling_rate)] if self.max_seconds else clip


def _check_word(name: str, found: str, words: tuple[str, ...]) -> None:
    if found not in words:
        raise ValueError(f"{name} is {found!r}: expected one of {', '.join(words)}.")


def _check_functionals(n_bands: int, deltas: bool, image_size, normalisation: str) -> None:
    if deltas or image_size:
        raise ValueError("Functionals have one frame a clip: expected neither deltas nor image_size, leave them out.")
    if normalisation in ("clip", "band"):
        raise ValueError(
            f"normalisation is {normalisation!r}, and functionals have one frame a clip: expected corpus, speaker or "
            "none."
        )
    if n_bands % 2:
        raise ValueError(f"n_bands is {n_bands}: expected an even number, for functionals are made of pairs of bands.")


def _mel_filters(bins: int, mels: int, sampling_rate: int, lowest: float) -> torch.Tensor:
    """Shapes: returns `(bins, mels)`."""
    filters = audio_functional.melscale_fbanks(bins, lowest, sampling_rate / 2, mels, sampling_rate).float()
    if (empty := int((filters.amax(0) == 0).sum())) > 0:
        raise ValueError(
            f"{empty} of {mels} mel bands hold no frequency of a window of {2 * (bins - 1)} samples: expected each to "
            "hold one: take fewer bands or a larger window_seconds."
        )
    return filters


def _resized(values: torch.Tensor, valid: torch.Tensor, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Each clip's own frames as a picture of one size.

    Shapes: values `(batch, channels, bands, frames)`, valid `(batch, frames)`.
    """
    frames = valid.sum(1).clamp(min=1).tolist()
    pictures = [
        nn.functional.interpolate(clip[None, ..., :length], size=size, mode="bilinear", antialias=True)
        for clip, length in zip(values, frames, strict=True)
    ]
    return torch.cat(pictures), valid.any(1, keepdim=True).expand(-1, size[1])
