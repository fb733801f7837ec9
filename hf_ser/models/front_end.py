"""From waveforms to spectrogram features inside a model, and the feature extractor that brings the waveforms.

The features are made where the model is, so on its GPU, and every table is a persistent buffer: what is saved is what
answers. A clip's features do not depend on what it was batched or padded with.
"""

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import nn
from torchaudio.functional import compute_deltas, create_dct, melscale_fbanks
from transformers import SequenceFeatureExtractor
from transformers.feature_extraction_utils import BatchFeature

FEATURES = ("log_mel", "mfcc", "log_spectrogram", "functionals")
N_COEFFICIENTS = 20
QUANTILES, OUTER_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95), (0.05, 0.95)
"""Of functionals: see `functionals`."""
WILDEST = 6.0
"""Deviations from the mean at which a standardised functional is cut off."""
NORMALISATIONS = ("clip", "band", "corpus", "speaker", "none")
LEAST_POWER = 1e-10
LEAST_DEVIATION = 1e-5

TRIM_FRAME_SECONDS = 0.010
TRIM_DB = 60.0
"""Frames this far under a clip's loudest are cut from its ends: digital zeros and the noise of a quiet room."""
LEAST_SECONDS = 0.25
"""Trimming leaves at least this much of a clip."""


class SpectrogramFrontEnd(nn.Module):
    """Waveforms to spectrogram features, without any parameter to train.

    Power below the clip's loudest point by more than `top_db` counts as silence, so that neither its gain nor digital
    zeros reach the features (of "clip", "band" and "speaker" normalisation).

    Args:
        features: "log_mel", "mfcc", "log_spectrogram" (the lowest `n_bands` frequency bins), or "functionals" of
            log-mel bands: one frame a clip, of which the property `n_bands` counts the functionals.
        sampling_rate: Hz.
        n_bands: Mel bands, coefficients (mfcc) or frequency bins that are kept.
        n_mels: Mel bands that an mfcc is made of.
        window_seconds: Window, and Fourier transform, of a frame.
        hop_seconds: From frame to frame.
        top_db: Range that is kept under a clip's loudest point; None for all of it.
        deltas: Static, delta and delta-delta as three channels.
        seconds: Fixed length: longer clips are cut, shorter ones padded with silence.
        start_seconds: Where the fixed length begins; sooner in a clip that would end before it.
        image_size: (bands, frames) that each clip is resized to.
        normalisation: "clip" (one mean and deviation over a clip), "band" (each band over a clip), "corpus" (each band
            over the training clips, set once by `fit_corpus`), "speaker" (each band over a speaker's clips, given to
            `forward`), or "none". Of functionals the first two scale the bands that they are made of, the others the
            functionals themselves.

    Raises:
        ValueError: an unknown word, more bands than the window resolves, or deltas or an image of functionals.
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
        if features == "functionals" and (deltas or image_size):
            raise ValueError(
                "Functionals have one frame a clip: expected neither deltas nor image_size, leave them out."
            )
        self.image_size = tuple(image_size) if image_size else None
        self.window_samples = round(window_seconds * sampling_rate)
        self.hop_samples = round(hop_seconds * sampling_rate)
        self.samples = round(seconds * sampling_rate) if seconds else None
        self.start_sample = round(start_seconds * sampling_rate)
        # from_pretrained builds on the meta device, where tables could not be checked: these are made for real.
        with torch.device("cpu"):
            self._make_tables(sampling_rate, n_bands, n_mels)

    def _make_tables(self, sampling_rate: int, n_bands: int, n_mels: int) -> None:
        bins = self.window_samples // 2 + 1
        mels = {"log_mel": n_bands, "mfcc": n_mels, "functionals": n_bands}.get(self.features)
        if n_bands > (mels or bins):
            raise ValueError(
                f"n_bands is {n_bands}, and {self.features} has {mels or bins} to take them from: expected no more."
            )
        self.register_buffer("window", torch.hann_window(self.window_samples, dtype=torch.float32))
        if mels:
            self.register_buffer("filter_bank", _mel_filters(bins, mels, sampling_rate))
        coefficients = {"mfcc": n_bands, "functionals": min(N_COEFFICIENTS, n_bands)}.get(self.features)
        if coefficients:
            self.register_buffer("cosines", create_dct(coefficients, mels, norm="ortho").float())
        self.raw_bands = n_functionals(n_bands, coefficients) if self.features == "functionals" else n_bands
        self.register_buffer("corpus_mean", torch.zeros(self.raw_bands, dtype=torch.float32))
        self.register_buffer("corpus_deviation", torch.ones(self.raw_bands, dtype=torch.float32))

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
        if self.features == "functionals":
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
            waveforms: `(batch, samples)`, padded at the end; mask `(batch, samples)`, 1 where there is sound (None:
            everywhere);
            speaker_statistics: `(batch, 2, bands)`, mean and deviation of `raw` over each speaker's clips; of
            normalisation "speaker", where without them a clip's own take their place (of functionals, the corpus's);
            returns `(batch, channels, bands, frames)`, 0 where the frame mask `(batch, frames)` is False. The mask of a
            fixed length or image is True all over, but for rows without any sound.
        """
        with torch.no_grad(), torch.autocast(waveforms.device.type, enabled=False):
            values, valid = self.raw(waveforms, mask)
            if not self._scaled_before():
                values = self._normalised(values, valid, speaker_statistics)
            if self.samples:  # the silence behind a clip is part of the picture
                valid = valid.any(1, keepdim=True).expand_as(valid)
            values = _with_deltas(values, valid) if self.deltas else values[:, None]
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
                self.window_samples,
                self.hop_samples,
                window=self.window.float(),
                pad_mode="constant",
                return_complex=True,
            )
            power = spectrum.abs().square()
            frames = torch.where(lengths > 0, 1 + lengths // self.hop_samples, 0)
            valid = torch.arange(power.shape[2], device=power.device)[None] < frames[:, None]
            values = self._bands(power, valid)
            if self.features != "functionals":
                return values, valid
            if self._scaled_before():
                values = self._normalised(values, valid, None)
            return functionals(values, valid, self.cosines.float())[..., None], valid.any(1, keepdim=True)

    def _scaled_before(self) -> bool:
        """Whether functionals are made of bands that are scaled already: one frame has no deviation of its own."""
        return self.features == "functionals" and self.normalisation in ("clip", "band")

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
        values = power.clamp(min=LEAST_POWER).log()
        if self.top_db is not None:
            peak = values.masked_fill(~valid[:, None], math.log(LEAST_POWER)).amax((1, 2), keepdim=True)
            values = values.maximum(peak - self.top_db * math.log(10) / 10)
        return self.cosines.float().T @ values if self.features == "mfcc" else values

    def _normalised(self, values: torch.Tensor, valid: torch.Tensor, speaker: torch.Tensor | None) -> torch.Tensor:
        kind = self.normalisation
        if kind == "speaker" and speaker is None:
            kind = "corpus" if self.features == "functionals" else "band"
        if kind == "none":
            return values
        if kind == "speaker":
            mean, deviation = speaker.to(values).unbind(1)
        elif kind == "corpus":
            mean, deviation = self.corpus_mean.float()[None], self.corpus_deviation.float()[None]
        else:
            mean, deviation = masked_moments(values, valid, over_bands=kind == "clip")
        return (values - mean[..., None]) / (deviation[..., None] + LEAST_DEVIATION)

    def statistics(self, batches: Iterable[tuple[torch.Tensor, torch.Tensor | None]]) -> torch.Tensor:
        """Mean and deviation of each band of `raw` over all frames of several batches, summed in float64.

        Shapes: of each batch, waveforms and mask `(batch, samples)`; returns `(2, bands)` float32.

        Raises:
            ValueError: there is no frame of sound in them.
        """
        frames, sums, squares = 0, 0.0, 0.0
        for waveforms, mask in batches:
            values, valid = self.raw(waveforms, mask)
            chosen = values.transpose(1, 2)[valid].double()
            frames += len(chosen)
            sums, squares = sums + chosen.sum(0), squares + chosen.square().sum(0)
        if frames == 0:
            raise ValueError("No frame of sound was found to take statistics of: expected clips with sound.")
        mean = sums / frames
        return torch.stack([mean, (squares / frames - mean.square()).clamp(min=0).sqrt()]).float()

    def fit_corpus(self, batches: Iterable[tuple[torch.Tensor, torch.Tensor | None]]) -> None:
        """Set the statistics of normalisation "corpus" from the training clips (never from others).

        Shapes: of each batch, waveforms and mask `(batch, samples)`.
        """
        mean, deviation = self.statistics(batches)
        self.corpus_mean.copy_(mean)
        self.corpus_deviation.copy_(deviation)


class Functionals(nn.Module):
    """The network behind features "functionals": their standardisation, which training sets.

    Args:
        n_bands: Functionals of a clip, `n_bands` of its front end.
    """

    def __init__(self, n_bands: int):
        super().__init__()
        self.size = n_bands
        self.register_buffer("mean", torch.zeros(n_bands, dtype=torch.float32))
        self.register_buffer("scale", torch.ones(n_bands, dtype=torch.float32))

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Shapes: features `(batch, functionals, 1)`, mask `(batch, 1)`; returns `(batch, functionals)` float32.

        Raises:
            ValueError: features of more than one frame.
        """
        if features.shape[-1] != 1:
            raise ValueError(
                f"{features.shape[-1]} frames were given, one expected: take a front end with features='functionals'."
            )
        # One wild functional should not decide for a clip.
        return ((features[..., 0].float() - self.mean) / self.scale).clamp(-WILDEST, WILDEST)


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
            `input_values`: `(batch, samples)`; `attention_mask`: `(batch, samples)`, 1 where there is sound.

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


def trimmed(clip: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Without the silence at both ends: frames far under the clip's loudest, or digital zeros.

    A clip that is silent all over stays as it is.
    """
    frame, least = round(TRIM_FRAME_SECONDS * sampling_rate), int(LEAST_SECONDS * sampling_rate)
    if len(clip) <= least:
        return clip
    frames = np.pad(clip, (0, -len(clip) % frame)).reshape(-1, frame)
    energy = np.square(frames, dtype=np.float64).sum(1)
    loud = np.flatnonzero(energy > energy.max() * 10 ** (-TRIM_DB / 10))
    if len(loud) == 0:
        return clip
    stop = min(len(clip), max((loud[-1] + 1) * frame, loud[0] * frame + least))
    return clip[min(loud[0] * frame, stop - least) : stop]


def functionals(bands: torch.Tensor, valid: torch.Tensor, cosines: torch.Tensor) -> torch.Tensor:
    """A clip as one vector: how each of its log-mel bands, and of their cepstral coefficients, is spread over time.

    Mean, deviation and five quantiles of the values and of their deltas, deviation and two quantiles of their second
    deltas; last, the logarithm of the number of frames.

    Shapes:
        bands `(batch, bands, frames)`, valid `(batch, frames)`, cosines `(bands, coefficients)`;
        returns `(batch, n_functionals(bands, coefficients))`.
    """
    values, first, second = _with_deltas(torch.cat([bands, cosines.T @ bands], 1), valid).unbind(1)
    return torch.cat(
        [
            *masked_moments(values, valid),
            masked_quantiles(values, valid, QUANTILES).flatten(1),
            *masked_moments(first, valid),
            masked_quantiles(first, valid, QUANTILES).flatten(1),
            masked_moments(second, valid)[1],
            masked_quantiles(second, valid, OUTER_QUANTILES).flatten(1),
            valid.sum(1, keepdim=True).clamp(min=1).log(),
        ],
        1,
    )


def n_functionals(bands: int, coefficients: int) -> int:
    return (bands + coefficients) * (2 * (2 + len(QUANTILES)) + 1 + len(OUTER_QUANTILES)) + 1


def masked_moments(
    values: torch.Tensor, valid: torch.Tensor, over_bands: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation of each band over a clip's own frames, or one of each over all bands.

    Shapes: values `(batch, bands, frames)`, valid `(batch, frames)`; returns two of `(batch, bands)`, or `(batch, 1)`.
    """
    axes = (1, 2) if over_bands else (2,)
    count = valid.sum(1).clamp(min=1)[:, None] * (values.shape[1] if over_bands else 1)
    outside = ~valid[:, None]
    mean = values.masked_fill(outside, 0.0).sum(axes).reshape(len(values), -1) / count
    spread = (values - mean[..., None]).masked_fill(outside, 0.0).square().sum(axes).reshape(len(values), -1)
    return mean, (spread / count).sqrt()


def masked_quantiles(values: torch.Tensor, valid: torch.Tensor, quantiles: tuple[float, ...]) -> torch.Tensor:
    """Quantiles of each band over a clip's own frames, between two values on the line through them.

    Shapes: values `(batch, bands, frames)`, valid `(batch, frames)`; returns `(batch, quantiles, bands)`.
    """
    ordered = values.masked_fill(~valid[:, None], torch.inf).sort(2).values
    last = (valid.sum(1) - 1).clamp(min=0)
    taken = []
    for quantile in quantiles:
        place = quantile * last
        below = place.long()
        low, high = (
            ordered.gather(2, index[:, None, None].expand(-1, values.shape[1], 1))[..., 0]
            for index in (below, (below + 1).minimum(last))
        )
        taken.append(low + (high - low) * (place - below)[:, None])
    return torch.nan_to_num(torch.stack(taken, 1), nan=0.0, posinf=0.0)


def _check_word(name: str, found: str, words: tuple[str, ...]) -> None:
    if found not in words:
        raise ValueError(f"{name} is {found!r}: expected one of {', '.join(words)}.")


def _mel_filters(bins: int, mels: int, sampling_rate: int) -> torch.Tensor:
    """Shapes: returns `(bins, mels)`."""
    filters = melscale_fbanks(bins, 0.0, sampling_rate / 2, mels, sampling_rate).float()
    if (empty := int((filters.amax(0) == 0).sum())) > 0:
        raise ValueError(
            f"{empty} of {mels} mel bands hold no frequency of a window of {2 * (bins - 1)} samples: expected each to "
            "hold one: take fewer bands or a larger window_seconds."
        )
    return filters


def _with_deltas(values: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Shapes: values `(batch, bands, frames)`, valid `(batch, frames)`; returns `(batch, 3, bands, frames)`."""
    channels = [_last_repeated(values, valid)]
    for _ in range(2):
        channels.append(_last_repeated(compute_deltas(channels[-1]), valid))
    return torch.stack(channels, 1)


def _last_repeated(values: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Each clip's last frame in place of those behind it, as `compute_deltas` repeats that of a clip alone."""
    last = (valid.sum(1) - 1).clamp(min=0)
    places = torch.arange(values.shape[2], device=values.device).minimum(last[:, None])
    return values.gather(2, places[:, None].expand_as(values))


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
