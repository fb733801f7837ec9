"""How alike a clip is to the training data: measured, saved, and given with the answers."""

import json

import numpy as np
import pytest
import soundfile as sf
import torch
from models.tiny import audio_only, fused, save_trained

import hf_ser
from hf_ser.models import SerModelForClassification, SerPipeline
from hf_ser.models.familiarity import UNFAMILIAR, Familiarity
from hf_ser.models.pipeline_answers import Dimensions, Scores
from hf_ser.runs.answers import Answer


def drawn(rows: int, seed: int) -> torch.Tensor:
    """Features of which 3 of 40 directions hold most of the variance."""
    draw = torch.Generator().manual_seed(seed)
    mixing = torch.randn(3, 40, generator=torch.Generator().manual_seed(0))
    return 5 + torch.randn(rows, 3, generator=draw) @ mixing + 0.1 * torch.randn(rows, 40, generator=draw)


def test_familiarity_is_a_share_of_the_validation_clips_and_small_far_from_them():
    measured = Familiarity.fitted(drawn(300, 1), drawn(100, 2))
    alike = measured(drawn(1000, 3))
    assert 0.002 < (alike < UNFAMILIAR).float().mean() < 0.03 and 0.4 < alike.median() < 0.6
    beside = drawn(100, 4) + 0.5 * torch.randn(100, 40, generator=torch.Generator().manual_seed(5))
    assert (measured(beside) < UNFAMILIAR).all()  # no feature is out of its own range
    assert measured.directions.shape == (32, 40)
    assert Familiarity.fitted(drawn(8, 1), drawn(8, 2)).directions.shape == (2, 40)


def test_with_as_many_directions_as_features_the_distance_is_mahalanobis():
    train, other = drawn(300, 1)[:, :20], 100 * drawn(50, 2)[:, :20]
    found = Familiarity.fitted(train, drawn(100, 3)[:, :20]).distance(other)
    away, covariance = (other - train.mean(0)).double(), torch.cov(train.double().T, correction=0)
    expected = (away * torch.linalg.solve(covariance, away.T).T).sum(1) / 20
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=0)


@pytest.fixture(scope="module")
def run(prepared, tmp_path_factory):
    """A fold of the default model, whose head is solved for."""
    folder = tmp_path_factory.mktemp("runs") / "a"
    with pytest.MonkeyPatch.context() as patch:
        for drawing in ("write_pictures", "plot_confusion_matrix", "plot_reliability"):
            patch.setattr(f"hf_ser.publish.results.{drawing}", lambda *_: None)
        return hf_ser.train(prepared, model="audio", audio_model="functionals", n_folds=3, output_dir=folder)


def tones(seed: int) -> np.ndarray:
    """Chords of 2 s, as of music."""
    draw, time = np.random.default_rng(seed), np.arange(8_000) / 16_000
    notes = 220 * 2 ** (draw.integers(0, 24, (4, 3)) / 12)
    return np.concatenate([np.sin(2 * np.pi * chord[:, None] * time).sum(0) / 10 for chord in notes])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_other_audio_is_unlike_the_training_data_and_test_clips_are_not(run, prepared, script, tmp_path, capsys):
    fold = run.folds["1"]
    alike = [row.familiarity for row in fold.predictions]
    assert (
        run.report.unfamiliar == pytest.approx(np.mean([one < UNFAMILIAR for one in alike]))
        and run.report.unfamiliar < 0.3
    )
    ask = SerPipeline.from_pretrained(str(fold.path), familiarity=True)
    other = [*map(tones, range(5)), *[0.1 * np.random.default_rng(n).standard_normal(32_000) for n in range(5)]]
    assert np.mean([one.familiarity < UNFAMILIAR for one in ask(other)]) > run.report.unfamiliar + 0.3
    data = hf_ser.load_dataset(prepared)
    rows = {row["id"]: row for row in data.select_columns(["id", "audio"]).to_list()}
    again = ask([rows[row.id]["audio"]["bytes"] for row in fold.predictions], batch_size=3)
    np.testing.assert_allclose([one.familiarity for one in again], alike, atol=1e-4)
    assert ask(tones(0), familiarity=False).familiarity is None
    (tmp_path / "clip.wav").write_bytes(rows[fold.predictions[0].id]["audio"]["bytes"])
    sf.write(tmp_path / "tones.wav", tones(1), 16_000)
    script(
        "predict", fold.path, tmp_path / "clip.wav", tmp_path / "tones.wav", "--json", "--output", tmp_path / "o.csv"
    )
    told = capsys.readouterr()
    found = [json.loads(line) for line in told.out.splitlines()]
    assert found[0]["familiarity"] == pytest.approx(alike[0], abs=1e-4) and found[1]["familiarity"] < UNFAMILIAR
    assert any("unlike the training data" in note for note in found[1]["notes"])
    assert "files are unlike the training data" in told.err and "familiarity" in (tmp_path / "o.csv").read_text()


def test_it_is_saved_with_the_model_and_older_models_do_without(tmp_path):
    model, extractor = audio_only()
    model.set_familiarity(Familiarity.fitted(torch.randn(40, 16), torch.randn(20, 16)))
    model.save_pretrained(tmp_path / "new")
    extractor.save_pretrained(tmp_path / "new")
    loaded = SerModelForClassification.from_pretrained(tmp_path / "new")
    vectors = torch.randn(5, 16)
    assert torch.equal(loaded.familiarity(vectors), model.familiarity(vectors))
    older = save_trained("audio", tmp_path / "older")
    clip = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    with pytest.warns(UserWarning, match="no speech found"):
        assert SerPipeline.from_pretrained(str(older))(clip, familiarity=True).familiarity is None
    assert Answer(None).is_unlike_training is False
    file = tmp_path / "new" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"familiarity_directions": 10**9}))
    with pytest.raises(ValueError, match="familiarity_directions 1000000000: expected 0 to"):
        SerModelForClassification.from_pretrained(tmp_path / "new")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_clip_without_its_text_has_none_of_a_model_of_both():
    model, processor = fused()
    model.set_familiarity(Familiarity.fitted(torch.randn(40, 16), torch.randn(20, 16)))
    parts = {"feature_extractor": processor.feature_extractor, "tokenizer": processor.tokenizer}
    ask = SerPipeline(model=model, task="audio-classification", **parts)
    clip = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    with_text, without = ask([clip, clip], text=["hello you", None], familiarity=True)
    assert 0 <= with_text.familiarity <= 1 and without.familiarity is None


@pytest.mark.usefixtures("no_pictures")
def test_a_model_that_is_tested_again_says_the_same_of_its_test_clips(run, prepared, tmp_path):
    report = hf_ser.evaluate(run.folds["1"], prepared, "speaker_folds", 1, n_folds=3, output_dir=tmp_path)
    assert (report.unfamiliar, report.uar) == (pytest.approx(run.report.unfamiliar), pytest.approx(run.report.uar))


def test_an_answer_of_dimensions_has_it_too():
    scores = Scores(dimensions={"valence": 0.25}, familiarity=0.5)
    answer = Dimensions(scores)
    assert answer == {"valence": 0.25} and answer.familiarity == 0.5 and answer.scores is scores
