"""Spectrogram networks: independent of padding and of where features are made, saved whole, and built as published."""

import pytest
import torch
from models.tiny import assert_same_answers, weights_of
from transformers import ResNetConfig, ViTConfig
from transformers.models.resnet import ResNetModel
from transformers.models.vit import ViTModel

from hf_ser.models.feature_changes import FeatureChanges
from hf_ser.models.spectrogram import (
    PRESETS,
    SpectrogramConfig,
    SpectrogramModel,
    vision_config,
    with_backbone,
)

RESNET = ResNetConfig(embedding_size=4, hidden_sizes=(4, 8), depths=(1, 1), layer_type="basic")
VIT = ViTConfig(
    hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8
)
SHORT = {"six_layer_cnn": {"n_bands": 64, "seconds": 0.8}, "resnet": {"n_bands": 32, "seconds": 1.0}}
"""Smaller pictures than the presets', for time."""
SYSTEMS = PRESETS | {"resnet": vision_config(RESNET), "vit": vision_config(VIT)}
ALEXNET = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}


def network(name: str, **settings) -> SpectrogramModel:
    torch.manual_seed(0)
    config = SpectrogramConfig(**SYSTEMS[name] | settings)
    config.front_end |= SHORT.get(name, {})
    return SpectrogramModel(config).eval()


@pytest.fixture(scope="module")
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Three clips of noise of 1.6, 0.9 and 0.3 seconds, with noise in the padding too."""
    waveforms = 0.1 * torch.randn(3, 25_600, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([25_600, 14_401, 4_800])
    return waveforms, (torch.arange(25_600)[None] < lengths[:, None]).long()


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_clip_gives_the_same_alone_padded_from_its_features_and_after_reloading(name, batch, tmp_path):
    model, (waveforms, mask) = network(name), batch
    with torch.no_grad():
        out = model(waveforms, mask)
        alone = model(waveforms[1:2, :14_401])
        from_features = model(*model.front_end(waveforms, mask))
        model.save_pretrained(tmp_path)
        again = SpectrogramModel.from_pretrained(tmp_path).eval()
        reloaded = again(waveforms, mask)
    assert out.last_hidden_state.shape == (*out.attention_mask.shape, model.config.hidden_size)
    torch.testing.assert_close(
        out.last_hidden_state[1][out.attention_mask[1]], alone.last_hidden_state[0], atol=1e-4, rtol=1e-4
    )
    assert alone.attention_mask.all() and out.attention_mask.any(1).all()
    assert_same_answers(from_features.last_hidden_state, out.last_hidden_state)
    assert weights_of(again) == weights_of(model)
    assert_same_answers(reloaded.last_hidden_state, out.last_hidden_state)
    assert out.last_hidden_state[0, 0].std() > 0.01  # a network that answers nothing passes all of the above


@pytest.mark.parametrize("name", [name for name in SYSTEMS if name != "functionals"])
def test_every_weight_learns(name, batch):
    model = network(name).train()
    out = model(*(rows[1:, :14_401] for rows in batch))
    (out.last_hidden_state * out.attention_mask[..., None]).square().sum().backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []
    assert model(batch[0][:1, :8_000]).last_hidden_state.isfinite().all()  # the last batch may be one clip


def test_functionals_need_a_front_end_of_one_frame():
    with pytest.raises(ValueError, match="found a front end of any number of frames, expected one"):
        SpectrogramModel(SpectrogramConfig(network="functionals"))


def test_fits_and_random_kernels_have_their_shares_and_none_is_wild():
    model = network("random_kernels")
    vectors = model.network.vectors(torch.full((3, 8819), 100.0)).detach()  # all at their bounds
    functionals, kernels = vectors[:, :819], vectors[:, 819:]
    torch.testing.assert_close(functionals.square().sum(1), torch.full((3,), 16 * 8819 * 0.3))
    assert kernels.abs().max().item() == pytest.approx(4 * (8819 * 0.7 / 8000) ** 0.5)
    with pytest.raises(ValueError, match="found a front end of 819 functionals, expected more than 8000"):
        SpectrogramModel(SpectrogramConfig(**PRESETS["functionals"] | {"network": "random_kernels"}))


CHANGES = {"warp": 0.1, "shift": 2.0, "stretch": 0.2, "curve": 0.2, "gain": 0.2, "band_mask": 8, "frame_mask": 20}


def test_features_change_in_training_only_and_by_torchs_generator(batch):
    model = network("crnn", feature_changes=CHANGES, dropout=0.0, channels=(2, 2), hidden_size=8)
    with torch.no_grad():
        plain = network("crnn", dropout=0.0, channels=(2, 2), hidden_size=8)(*batch).last_hidden_state
        assert_same_answers(model(*batch).last_hidden_state, plain)
        model.train()
        drawn = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            drawn.append(model(*batch).last_hidden_state)
    assert_same_answers(drawn[0], drawn[1])
    assert (drawn[0] - drawn[2]).abs().max() > 1e-3


def test_each_change_of_features_does_what_it_says():
    mask = torch.arange(40)[None] < torch.tensor([[40], [20]])
    ramp = (torch.arange(10.0)[:, None] + 100 * torch.arange(40.0)).expand(2, 1, -1, -1) * mask[:, None, None]

    def changed(**settings):
        torch.manual_seed(3)
        return FeatureChanges(**settings)(ramp, mask)

    features, stretched = changed(stretch=0.3)
    lengths = stretched.sum(1)
    assert (lengths != mask.sum(1)).all() and (features[1, ..., lengths[1] :] == 0).all()
    steps = features[0, 0, 0, : lengths[0] - 2].diff()  # as steep everywhere, by as much as the length changed
    torch.testing.assert_close(steps, torch.full_like(steps, float(steps[0])), atol=1e-2, rtol=0)
    assert 100 * 40 / float(steps[0]) == pytest.approx(float(lengths[0]), abs=1)
    assert (changed(shift=2.0)[0] - ramp)[0, 0, 3:-3].std() < 0.01 < (changed(shift=2.0)[0] - ramp).abs().max()
    added = (changed(curve=1.0)[0] - ramp)[0, 0]
    assert (added.std(1) < 1e-4).all() and added.std(0).min() > 0.1
    blank = changed(frame_mask=8, band_mask=4)[0][0, 0] == 0
    assert 0 < blank.all(0).sum() <= 16 and 0 < blank.all(1).sum() <= 8


def test_clips_of_a_fixed_length_are_not_stretched():
    with pytest.raises(ValueError, match="stretch clips whose length image_size fixes"):
        network("spectrogram_cnn", feature_changes={"stretch": 0.1})


def test_alexnet_has_the_published_layers():
    weights = network("alexnet").network.features.state_dict()
    assert {name: tuple(weight.shape) for name, weight in weights.items() if weight.dim() == 4} == {
        f"{layer}.weight": shape for layer, shape in ALEXNET.items()
    }


@pytest.mark.parametrize(("name", "kind", "config"), [("resnet", ResNetModel, RESNET), ("vit", ViTModel, VIT)])
def test_a_trained_image_model_is_put_in_and_survives_saving(name, kind, config, tmp_path):
    torch.manual_seed(1)
    trained = kind(config)
    weight = next(trained.parameters()).clone()
    with_backbone(network(name), trained).save_pretrained(tmp_path)
    assert torch.equal(next(SpectrogramModel.from_pretrained(tmp_path).network.backbone.parameters()), weight)


def test_a_backbone_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="The backbone given is vit, the configuration's is resnet"):
        with_backbone(network("resnet"), ViTModel(VIT))
    with pytest.raises(ValueError, match="given no backbone_config"):
        SpectrogramConfig(network="vision")
    with pytest.raises(ValueError, match="Unknown network 'lenet': expected one of crnn, "):
        SpectrogramConfig(network="lenet")
