"""Valence, arousal and dominance: the CCC worked out by hand, its loss, and models that predict them."""

import pytest
import torch
from models.tiny import AUDIO, LABELS, clips

from hf_ser.models import FUSIONS, SerConfig, SerModelForClassification, SpectrogramConfig, TextRnnConfig
from hf_ser.models.dimensions import concordance, concordance_loss, within_scale
from hf_ser.training.building import label_maps

DIMENSIONS = {"dimensions": ["valence", "arousal", "dominance"], "dimension_scale": [-1.0, 1.0]}


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values)[:, None]


def test_ccc_as_worked_out_by_hand():
    # Means 2 and 3, variances 2/3 and 8/3, covariance 4/3: 2 * 4/3 / (2/3 + 8/3 + 1) = 8/13.
    found = concordance(column(1.0, 2.0, 3.0), column(1.0, 3.0, 5.0))
    assert found.item() == pytest.approx(8 / 13)
    # The same values, but one too high: 2 * 2/3 / (2/3 + 2/3 + 1) = 4/7.
    assert concordance(column(1.0, 2.0, 3.0), column(2.0, 3.0, 4.0)).item() == pytest.approx(4 / 7)
    assert concordance(column(1.0, 2.0, 3.0), column(3.0, 2.0, 1.0)).item() == pytest.approx(-1)
    assert concordance(column(1.0, 2.0, 3.0), column(1.0, 2.0, 3.0)).item() == pytest.approx(1)


def test_rows_without_an_annotation_do_not_count():
    annotated = column(1.0, 3.0, float("nan"), 5.0)
    assert concordance(column(1.0, 2.0, 99.0, 3.0), annotated).item() == pytest.approx(8 / 13)
    two = torch.cat([annotated, torch.full((4, 1), torch.nan)], 1)
    predicted = torch.randn(4, 2, requires_grad=True)
    loss = concordance_loss(predicted, two)
    loss.backward()
    assert loss.item() == pytest.approx(1 - concordance(predicted[:, :1].detach(), annotated).item())
    assert predicted.grad.isfinite().all() and (predicted.grad[:, 1] == 0).all() and predicted.grad[2, 0] == 0
    assert concordance_loss(predicted, torch.full((4, 2), torch.nan)).item() == 0


def test_a_dimension_that_does_not_vary_has_none():
    assert concordance(column(2.0, 2.0), column(2.0, 2.0)).isnan()
    assert concordance(column(1.0, 2.0), column(2.0, 2.0)).item() == 0
    assert concordance(column(1.0), column(2.0)).isnan()


def test_descent_on_the_loss_reaches_the_annotation():
    torch.manual_seed(0)
    features, wanted = torch.randn(40, 5), torch.randn(5, 2)
    layer = torch.nn.Linear(5, 2)
    optimizer = torch.optim.Adam(layer.parameters(), 0.05)
    for _ in range(200):
        optimizer.zero_grad()
        concordance_loss(layer(features), features @ wanted + 0.3).backward()
        optimizer.step()
    assert (concordance(layer(features), features @ wanted + 0.3) > 0.99).all()


def test_predictions_are_cut_to_the_scale():
    assert within_scale(torch.tensor([-1.5, 0.2, 3.0])).tolist() == pytest.approx([-1, 0.2, 1])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dimensions": {"valence": [1, 5]}}, "dimensions is .*expected a list of names"),
        ({"dimensions": ["valence", "valence"], "dimension_scale": [-1, 1]}, "expected a list of names"),
        ({"dimensions": ["valence"]}, "dimension_scale is None, expected the lowest and the highest value"),
        ({"dimensions": ["valence"], "dimension_scale": [1, -1]}, "dimension_scale is .*expected the lowest"),
    ],
)
def test_a_configuration_names_its_dimensions_and_their_scale(given, message):
    with pytest.raises(ValueError, match=message):
        SerConfig(audio_config=AUDIO["crnn"]()[0], **label_maps(LABELS), **given)


def model_of(labels, **settings) -> SerModelForClassification:
    torch.manual_seed(0)
    parts = {"audio_config": AUDIO["crnn"]()[0], "head_size": 8, "modality_dropout": 0.0}
    return SerModelForClassification(SerConfig(**parts, **label_maps(labels), **DIMENSIONS, **settings)).eval()


def batch() -> dict[str, torch.Tensor]:
    return {"input_values": torch.from_numpy(clips(0.5)[0])[None].repeat(4, 1) * torch.rand(4, 1)}


@pytest.mark.parametrize("labels", [LABELS, []])
def test_outputs_of_a_model_with_and_without_classes(labels, tmp_path):
    model, given = model_of(labels), batch()
    targets = torch.cat([torch.eye(len(LABELS))[[0, 1, 2, 0], : len(labels)], torch.rand(4, 3)], 1)
    output = model(**given, labels=targets)
    assert output.logits.shape == (4, len(labels)) and output.dimensions.shape == (4, 3)
    wanted = concordance_loss(output.dimensions, targets[:, len(labels) :])
    if labels:
        wanted = wanted + torch.nn.functional.cross_entropy(output.logits, targets[:, : len(labels)])
    torch.testing.assert_close(output.loss, wanted)
    model.save_pretrained(tmp_path)
    again = SerModelForClassification.from_pretrained(tmp_path)
    assert again.config.dimensions == DIMENSIONS["dimensions"] and again.config.num_labels == len(labels)
    for name, weights in model.state_dict().items():
        assert torch.equal(weights, again.state_dict()[name])
    torch.testing.assert_close(again(**given).dimensions, output.dimensions, atol=1e-6, rtol=0)


@pytest.mark.parametrize("head", FUSIONS)
def test_every_fusion_gives_dimensions(head):
    text = TextRnnConfig(vocab_size=9, hidden_size=8, embedding_size=4)
    model = model_of(LABELS, text_config=text, head=head)
    output = model(**batch(), input_ids=torch.randint(1, 9, (4, 3)), labels=torch.rand(4, 6))
    assert output.dimensions.shape == (4, 3) and output.loss.isfinite()
    output.loss.backward()


def test_late_fusion_gives_the_mean_of_the_branches_dimensions():
    text = TextRnnConfig(vocab_size=9, hidden_size=8, embedding_size=4)
    model = model_of(LABELS, text_config=text, head="mean")
    output = model(**batch(), input_ids=torch.randint(1, 9, (4, 3)))
    of_branches = [outputs[:, len(LABELS) :] for outputs, _ in output.branch_logits.values()]
    torch.testing.assert_close(output.dimensions, sum(of_branches) / 2)


def test_classes_alone_are_as_before():
    config = SerConfig(audio_config=SpectrogramConfig(), **label_maps(LABELS))
    assert config.dimensions is None and config.num_outputs == len(LABELS)
    assert SerModelForClassification(config)(**batch()).dimensions is None
