"""Spectrogram features inside a model: the same alone and padded, saved with it; and the extractor of waveforms."""

import math

import numpy as np
import pytest
import torch
from models.tiny import assert_same_answers
from torchaudio.transforms import MelSpectrogram
from transformers import PreTrainedConfig, PreTrainedModel

from hf_ser.models.front_end import (
    NORMALISATIONS,
    SpectrogramFrontEnd,
    WaveformFeatureExtractor,
)
from hf_ser.models.functionals import (
    PitchTrack,
    clip_streams,
    functionals,
    masked_quantiles,
    thirds,
    through_pauses,
)
from hf_ser.models.random_kernels import KERNELS, POOLED, RandomKernels
from hf_ser.models.samples import trimmed

KINDS = {
    "log_mel": {"n_bands": 40},
    "mfcc": {"features": "mfcc", "n_bands": 20},
    "log_spectrogram": {"features": "log_spectrogram", "n_bands": 200, "window_seconds": 0.04, "hop_seconds": 0.02},
    "fixed": {"n_bands": 40, "seconds": 0.8, "start_seconds": 0.1},
    "image": {"n_bands": 40, "image_size": [32, 48]},
    "functionals": {"features": "functionals", "n_bands": 40},
    "random_kernels": {"features": "random_kernels", "n_bands": 40},
}
WHOLE = ("functionals", "random_kernels")


def noise(*seconds: float) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [level * torch.randn(int(s * 16_000), generator=generator) for level, s in enumerate(seconds, 1)]


def batch(clips: list[torch.Tensor], beyond: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Padded by `beyond`, with a mask."""
    values = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True, padding_value=beyond)
    lengths = torch.tensor([len(clip) for clip in clips])
    return values, (torch.arange(values.shape[1])[None] < lengths[:, None]).long()


@pytest.mark.parametrize("deltas", [False, True])
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_has_the_same_features_alone_and_padded(kind, normalisation, deltas):
    if kind in WHOLE and (deltas or normalisation in ("clip", "band")):
        return  # refused, see below
    front_end = SpectrogramFrontEnd(**KINDS[kind], normalisation=normalisation, deltas=deltas)
    clips = noise(0.503, 1.0, 0.6)
    together, mask = front_end(*batch(clips, beyond=9.0))
    assert together.shape[1:3] == (front_end.n_channels, front_end.n_bands)
    assert front_end.n_frames in (None, together.shape[3])
    for row, clip in enumerate(clips):
        alone, own = front_end(clip[None])
        frames = own.shape[1]
        # A value that rounding brings over 0 counts for its share, which one frame changes by this.
        near = 0.03 if kind == "random_kernels" else 1e-5
        torch.testing.assert_close(together[row, ..., :frames], alone[0], atol=near, rtol=1e-4)
        assert mask[row].sum() == own.sum() == frames
        assert not together[row, ..., frames:].any()


def test_mel_bands_are_those_of_torchaudio():
    clip = noise(0.5)[0]
    ours, _ = SpectrogramFrontEnd(normalisation="none", top_db=None)(clip[None])
    theirs = MelSpectrogram(16_000, n_fft=400, hop_length=160, n_mels=64, pad_mode="constant")(clip)
    torch.testing.assert_close(ours[0, 0], theirs.clamp(min=1e-10).log(), atol=1e-4, rtol=1e-4)


def test_gain_and_what_lies_far_under_the_loudest_point_do_not_reach_the_features():
    (clip,) = noise(0.5)
    clip[:4000] = 0.0
    hissing = clip + 1e-7 * torch.randn(len(clip), generator=torch.Generator().manual_seed(1))
    front_end = SpectrogramFrontEnd(normalisation="clip")
    features = front_end(clip[None])[0]
    torch.testing.assert_close(front_end(0.01 * clip[None])[0], features, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(front_end(hissing[None])[0], features, atol=1e-4, rtol=1e-4)


def test_normalised_features_have_mean_0_and_deviation_1_over_a_clips_own_frames():
    clips = noise(0.5, 1.0)
    for normalisation, axes in (("clip", (0, 1)), ("band", (1,))):
        features, mask = SpectrogramFrontEnd(n_bands=20, normalisation=normalisation)(*batch(clips))
        for values, own in zip(features[:, 0], mask, strict=True):
            mean, deviation = values[:, own].mean(axes), values[:, own].std(axes, correction=0)
            torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-4, rtol=0)
            torch.testing.assert_close(deviation, torch.ones_like(mean), atol=1e-3, rtol=0)


def test_statistics_over_batches_are_those_of_all_frames_and_normalise_them():
    front_end = SpectrogramFrontEnd(n_bands=20, normalisation="corpus")
    clips = noise(0.5, 1.0, 0.3)
    front_end.fit_corpus([batch(clips[:2]), batch(clips[2:])])
    frames = torch.cat([front_end.raw(clip[None])[0][0] for clip in clips], 1)
    torch.testing.assert_close(front_end.corpus_mean, frames.mean(1), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(front_end.corpus_deviation, frames.std(1, correction=0), atol=1e-4, rtol=1e-4)
    by_speaker = SpectrogramFrontEnd(n_bands=20, normalisation="speaker")
    given = torch.stack([front_end.corpus_mean, front_end.corpus_deviation])[None].expand(3, -1, -1)
    torch.testing.assert_close(by_speaker(*batch(clips), given)[0], front_end(*batch(clips))[0])
    with pytest.raises(ValueError, match="no valid frame to take"):
        front_end.statistics([(torch.zeros(1, 800), torch.zeros(1, 800))])


def test_a_row_without_sound_has_no_frame():
    for kind in ("log_mel", "fixed", "image", *WHOLE):
        features, mask = SpectrogramFrontEnd(**{"normalisation": "none"} | KINDS[kind])(
            torch.ones(2, 8000), torch.tensor([[1], [0]]).expand(2, 8000)
        )
        assert mask[0].any() and not mask[1].any() and torch.isfinite(features).all() and not features[1].any()


def test_a_fixed_length_is_cut_from_its_start_and_moved_forward_at_a_clips_end():
    front_end = SpectrogramFrontEnd(seconds=0.5, start_seconds=0.25, normalisation="none")
    (clip,) = noise(1.0)
    whole, part = front_end(clip[None])[0], front_end(clip[None, 4000:12_000])[0]
    torch.testing.assert_close(whole, part)
    torch.testing.assert_close(front_end(clip[None, :9600])[0], front_end(clip[None, 1600:9600])[0])
    short, mask = front_end(clip[None, :1600])
    assert mask.all() and short[0, 0, :, 20:].unique().tolist() == [short.min().item()]


def test_float32_under_autocast():
    front_end, (clip,) = SpectrogramFrontEnd(), noise(0.3)
    with torch.autocast("cpu", torch.bfloat16):
        features, _ = front_end(clip[None].bfloat16().float())
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, front_end(clip[None].bfloat16())[0])


class Holder(PreTrainedModel):
    config_class = PreTrainedConfig

    def __init__(self, config):
        super().__init__(config)
        self.front_end = SpectrogramFrontEnd("random_kernels", n_bands=20, normalisation="corpus")
        self.layer = torch.nn.Linear(1, 1)
        self.post_init()


def test_tables_survive_saving_and_loading(tmp_path):
    model = Holder(PreTrainedConfig())
    model.front_end.fit_corpus([batch(noise(0.5))])
    model.save_pretrained(tmp_path)
    again = Holder.from_pretrained(tmp_path)
    torch.testing.assert_close(again.front_end.state_dict(), model.front_end.state_dict(), rtol=0, atol=0)
    assert set(model.front_end.state_dict()) == {name for name, _ in model.front_end.named_buffers()}
    (clip,) = noise(0.4)
    assert_same_answers(again.front_end(clip[None])[0], model.front_end(clip[None])[0])


def test_few_clips_of_a_speaker_are_drawn_towards_the_training_speakers():
    front_end, clips = SpectrogramFrontEnd(n_bands=20, normalisation="speaker"), noise(0.5, 1.0, 0.3)
    own, one = front_end.statistics([batch(clips[:2])]), front_end.moments([batch(clips[:2])])
    torch.testing.assert_close(front_end.speaker_scaling(one), own)  # of nobody else anything is known
    others = [one._replace(mean=one.mean + by, variance=one.variance + by, frames=n) for by, n in ((1, 100), (3, 300))]
    front_end.fit_speakers(others)
    of_mean, of_variance = front_end.prior_clips
    mean, deviation = front_end.speaker_scaling(front_end.moments([batch(clips[:1]), batch(clips[1:2])]))
    torch.testing.assert_close(mean, (2 * own[0] + of_mean * (own[0] + 2)) / (2 + of_mean))
    within = (100 * (own[1].square() + 1) + 300 * (own[1].square() + 3)) / 398  # of a frame each the mean is known
    torch.testing.assert_close(deviation.square(), (2 * own[1].square() + of_variance * within) / (2 + of_variance))


def test_of_a_speaker_of_one_clip_the_functionals_stay_moderate_and_two_of_them_tell_nothing():
    whole, clips = SpectrogramFrontEnd("functionals", n_bands=20, normalisation="speaker"), noise(0.5, 1.0, 0.3, 0.6)
    with pytest.raises(ValueError, match="2 training speakers have one clip each: found nothing that varies"):
        whole.fit_speakers([whole.moments([batch([clip])]) for clip in clips[:2]])
    whole.fit_speakers([whole.moments([batch(clips[:2])]), whole.moments([batch(clips[2:3])])])
    scaling = whole.speaker_scaling(whole.moments([batch(clips[3:])]))
    assert whole(clips[2][None], speaker_statistics=scaling[None])[0].abs().median() < 4, "another clip of the speaker"
    raw, mean, deviation = whole.raw(clips[0][None])[0], whole.speaker_mean, whole.speaker_variance.sqrt()
    torch.testing.assert_close(whole(clips[0][None])[0][:, 0], (raw - mean[:, None]) / (deviation[:, None] + 1e-5))


def test_fits_of_bands_are_numpys():
    """Of a clip that is loud from end to end, by the plain definition; cosines of one coefficient are the mean."""
    draw = np.random.default_rng(0)
    bands, pitch = draw.standard_normal((4, 41)), np.stack([draw.standard_normal(41), draw.random(41)])
    valid = torch.arange(50)[None] < 41
    padded = [torch.from_numpy(np.pad(x, ((0, 0), (0, 9)), constant_values=7))[None] for x in (bands, pitch)]
    heard = clip_streams(*padded, valid, torch.full((2, 1), 0.5, dtype=torch.float64))
    found = functionals(heard)[0].numpy()
    pairs = bands.reshape(2, 2, 41).mean(1)
    voiced = np.flatnonzero(pitch[1] > 0.55)
    f0 = np.interp(np.arange(41), voiced, pitch[0, voiced])
    streams = np.stack([*pairs, pairs.mean(0), f0, ((pitch[1] - 0.35) / 0.4).clip(0, 1)])
    p = np.pad(streams, ((0, 0), (2, 2)), mode="edge")
    deltas = (2 * (p[:, 4:] - p[:, :-4]) + p[:, 3:-1] - p[:, 1:-3]) / 10
    mean, said = streams.mean(1), pitch[0, voiced]
    expected = [mean, streams.std(1), *np.quantile(streams, (0.05, 0.25, 0.5, 0.75, 0.95), axis=1)]
    expected += [deltas.std(1), *np.quantile(deltas, (0.1, 0.9), axis=1)]
    expected += [third.mean(1) - mean for third in np.array_split(streams, 3, axis=1)]
    expected += [[said.mean(), said.std()], np.quantile(said, (0.05, 0.25, 0.5, 0.75, 0.95))]
    expected += [[np.abs(np.diff(said)).mean(), len(voiced) / 41, pitch[1].mean(), pitch[1].std(), np.log(41)]]
    expected += [[np.corrcoef(np.arange(len(said)), said)[0, 1]]]
    np.testing.assert_allclose(found, np.concatenate(expected), atol=1e-5)


def test_random_kernels_are_numpys_and_hear_nothing_behind_a_clips_end():
    """Of clips that the widest kernels do not fit in, that just do not, and that do."""
    kernels, channels, frames = RandomKernels(3), 3, 120
    lengths = torch.tensor([frames, 104, 50])
    streams = torch.randn(3, channels, frames, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = kernels(streams, torch.arange(frames) < lengths[:, None]).numpy().reshape(3, 5, POOLED, KERNELS)
    for row, length in enumerate(lengths):
        for place, dilation in enumerate((1, 2, 4, 8, 16)):
            weight, bias = (table[place, 7].double().numpy() for table in (kernels.weights, kernels.biases))
            span = 3 * dilation
            clip = streams[row, :, :length].numpy()
            if length <= 2 * span + 8:
                clip = np.pad(clip, ((0, 0), (span, span)))
            steps = np.arange(7) * dilation
            heard = [
                (weight * clip[:, t + steps]).sum() + bias for t in range(0, clip.shape[1] - 2 * span, min(2, dilation))
            ]
            heard = np.array(heard)
            expected = [(heard > 0).mean(), heard.clip(0).mean(), heard.max(), heard.std(ddof=1)]
            np.testing.assert_allclose(found[row, place, :, 7], expected, atol=1e-9)


def test_pitch_is_that_of_a_tone_and_noise_has_none():
    times = torch.arange(8000) / 16_000
    pitches = torch.tensor([[110.0], [333.0]])
    tones = sum(torch.sin(2 * math.pi * pitches * h * times) / h for h in range(1, 6))
    track = PitchTrack(16_000, 160)(torch.cat([tones, noise(0.5)[0][None]]), 51)[:, :, 5:-5]
    torch.testing.assert_close(100 * 2 ** track[:2, 0], pitches.expand(2, 41), rtol=5e-3, atol=0)
    assert track[:2, 1].min() > 0.9 and track[2, 1].max() < 0.55


def test_silence_at_the_ends_does_not_reach_the_functionals():
    (clip,) = noise(0.5)
    front_end = SpectrogramFrontEnd("functionals", n_bands=20, normalisation="none")
    quiet = 1e-4 * noise(0.8)[0]
    ends = [(quiet, quiet.flip(0)), (quiet[-3200:], quiet.flip(0)[:3200])]
    long, short = (front_end(torch.cat([before, clip, after])[None])[0] for before, after in ends)
    torch.testing.assert_close(long, short, atol=1e-3, rtol=1e-3)


def test_a_track_is_led_through_what_is_not_known():
    known = torch.tensor([[False, True, False, False, True, False], [False] * 6])
    track = torch.tensor([[9.0, 1.0, 9.0, 9.0, 4.0, 9.0]] * 2)
    assert through_pauses(track, known).tolist() == [[1.0, 1.0, 2.0, 3.0, 4.0, 4.0], [0.0] * 6]
    assert [third.sum().item() for third in thirds(torch.arange(9)[None] < 8)] == [3, 3, 2]


def test_quantiles_are_torchs():
    values = torch.randn(2, 3, 17, generator=torch.Generator().manual_seed(0))
    valid = torch.arange(17)[None] < torch.tensor([[17], [10]])
    ours = masked_quantiles(values, valid, (0.05, 0.5, 0.95))
    for row, length in enumerate((17, 10)):
        theirs = torch.quantile(values[row, :, :length], torch.tensor([0.05, 0.5, 0.95]), dim=1)
        torch.testing.assert_close(ours[row], theirs)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"features": "mel"}, "features is 'mel': expected one of log_mel"),
        ({"normalisation": "z"}, "normalisation is 'z'"),
        ({"n_bands": 128}, "of 128 mel bands hold no frequency of a window of 400 samples"),
        ({"features": "log_spectrogram", "n_bands": 300}, "n_bands is 300, and log_spectrogram has 201"),
        ({"features": "functionals", "deltas": True}, "one frame a clip: expected neither deltas"),
        ({"features": "functionals"}, "normalisation is 'clip', and functionals have one frame a clip"),
        ({"features": "functionals", "n_bands": 7, "normalisation": "none"}, "n_bands is 7: expected an even number"),
    ],
)
@pytest.mark.filterwarnings("ignore:At least one mel filterbank")
def test_what_cannot_be_made_is_refused(arguments, told):
    with pytest.raises(ValueError, match=told):
        SpectrogramFrontEnd(**arguments)


def test_trimming_takes_silence_from_both_ends_and_never_all():
    sound = np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    hiss = 1e-4 * sound
    np.testing.assert_array_equal(trimmed(np.concatenate([np.zeros(4800, np.float32), sound, hiss]), 16_000), sound)
    gap = np.concatenate([sound, hiss, sound])
    np.testing.assert_array_equal(trimmed(gap, 16_000), gap)
    for silent in (np.zeros(16_000, np.float32), np.full(16_000, 1e-9, np.float32)):
        np.testing.assert_array_equal(trimmed(silent, 16_000), silent)
    click = np.zeros(16_000, np.float32)
    click[-1] = 1.0
    assert len(trimmed(click, 16_000)) == 4000 and trimmed(click, 16_000)[-1] == 1.0


def test_the_extractor_trims_before_it_cuts_pads_and_is_saved(tmp_path):
    WaveformFeatureExtractor(max_seconds=0.5, trim_silence=True).save_pretrained(tmp_path)
    extractor = WaveformFeatureExtractor.from_pretrained(tmp_path)
    sound = np.ones(12_000, np.float32)
    made = extractor([np.concatenate([np.zeros(8000, np.float32), sound]), sound[:4000]], sampling_rate=16_000)
    assert made["input_values"].shape == (2, 8000) and made["input_values"].dtype == torch.float32
    assert made["input_values"].sum(1).tolist() == made["attention_mask"].sum(1).tolist() == [8000, 4000]
    with pytest.raises(ValueError, match="Audio at 8000 Hz was given, 16000 Hz expected"):
        extractor(sound, sampling_rate=8000)


def test_top_db_is_decibels():
    clip = torch.sin(2 * math.pi * 1000 * torch.arange(8000) / 16_000)
    values, _ = SpectrogramFrontEnd(normalisation="none", top_db=30.0)(clip[None])
    assert (values.max() - values.min()).item() == pytest.approx(math.log(1000), rel=1e-5)
