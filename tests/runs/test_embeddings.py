"""Embeddings belong to their rows whatever the batches; the map tells emotions from people."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from models.tiny import AUDIO, LABELS, TEXTS, awaken, clips, fused, save_trained
from torch import nn
from transformers import AutoModelForAudioClassification

from hf_ser.models.configuration_ser import PIPELINE
from hf_ser.runs.classifier import Classifier
from hf_ser.runs.embeddings import embedding_map, embeddings, last_layers, plot_embedding_map, silhouette
from hf_ser.training.building import label_maps

SPOKEN = ("hello", "what a day", "there you hello what a day", TEXTS[0], TEXTS[2])
SECONDS = (0.4, 1.5, 0.9, 1.1, 0.3)


def saved(kind: str, folder):
    if kind in ("audio", "text"):
        return save_trained(kind, folder)
    if kind == "whisper":
        config, processor = AUDIO["whisper"]()
        config.update(label_maps(LABELS))
        config.custom_pipelines = {"audio-classification": PIPELINE}
        model = awaken(AutoModelForAudioClassification.from_config(config))
    else:
        model, processor = fused(fusion=kind)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "size"), [("audio", 16), ("text", None), ("whisper", None), ("gated", 16), ("mean", 32)]
)
def test_embeddings_are_what_the_logits_are_made_of_row_by_row(kind, size, tmp_path):
    classifier, audio = Classifier(str(saved(kind, tmp_path)), "cpu"), clips(*SECONDS)
    alone = np.concatenate([embeddings(classifier, [one], [text]) for one, text in zip(audio, SPOKEN, strict=True)])
    for batch_size in (1, 4):
        together = embeddings(classifier, audio, SPOKEN, batch_size)
        np.testing.assert_allclose(together, alone, atol=2e-5)
    assert size in (None, alone.shape[1])
    assert (
        np.abs(alone - alone[0]).max(axis=1)[1:].min() > 1e-3
    )  # rows that could be taken for each other prove nothing
    if kind != "mean":
        (layer,) = last_layers(classifier.model).values()
        logits = layer(torch.from_numpy(alone)).detach().numpy()
        np.testing.assert_allclose(logits, classifier.forward(audio, SPOKEN), atol=1e-4)


def test_nothing_stays_hooked_to_the_model_and_no_rows_are_an_error(tmp_path):
    classifier = Classifier(str(saved("mean", tmp_path)), "cpu")
    layers = last_layers(classifier.model)
    assert list(layers) == ["head.audio_classifier.classifier", "head.text_classifier.classifier"]
    embeddings(classifier, clips(0.3), ["hello"])
    assert not any(layer._forward_pre_hooks for layer in layers.values())
    with pytest.raises(ValueError, match="No rows: expected at least one"):
        embeddings(classifier, [], [])


def test_a_model_without_a_linear_last_layer_is_refused():
    model = fused()[0]
    model.head = nn.Identity()
    with pytest.raises(ValueError, match="found no linear layer with 3 outputs outside of its encoders"):
        last_layers(model)


def test_the_map_and_the_silhouettes_tell_what_is_grouped(tmp_path, monkeypatch):
    figures, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **_: (figures.append(self), save(self, file, dpi=30)))
    draw = np.random.default_rng(0)
    labels, speakers = ["sad", "$happy"] * 12, ["s1"] * 12 + ["s2"] * 11 + [None]
    vectors = draw.normal(size=(24, 6)) + 9 * np.array([[label == "sad"] for label in labels])
    points = embedding_map(vectors)
    assert points.shape == (24, 2)
    assert silhouette(points, labels) > 0.5
    # The same seed gives the same map. In this process: another may turn a rounding into another place of a point.
    np.testing.assert_allclose(embedding_map(vectors.copy()), points, atol=1e-3 * np.ptp(points))
    assert silhouette(vectors, labels) > 0.5 > 0.2 > silhouette(vectors, speakers)
    conditions = SimpleNamespace(corpus="c", protocol="p", folds={"1": ""})
    plot_embedding_map(vectors, labels, speakers, conditions, ["LEAKED"], tmp_path / "map.png")
    by_emotion, by_speaker = figures[0].axes
    assert by_emotion.get_title() == f"by emotion: silhouette {silhouette(vectors, labels):.2f}"
    assert by_speaker.get_title() == f"by speaker: silhouette {silhouette(vectors, speakers):.2f}"
    assert figures[0].get_suptitle() == "LEAKED"


def test_of_too_few_rows_there_is_no_map_and_of_one_name_no_silhouette(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(5, 3))
    assert embedding_map(vectors).shape == (5, 2)
    assert silhouette(vectors, ["sad"] * 5) is None
    assert silhouette(vectors, ["a", "b", "c", "d", None]) is None
    with pytest.raises(ValueError, match="Found 4 rows, expected 5 or more"):
        embedding_map(vectors[:4])
    with pytest.raises(ValueError, match="Found 5 rows, 5 labels and 4 speakers"):
        plot_embedding_map(vectors, ["sad"] * 5, ["a"] * 4, None, (), tmp_path / "map.png")
