"""Whole training runs on corpora of other kinds: words without sound, raters' votes, label maps, joined corpora."""

import json
import shutil
from dataclasses import replace

import pytest
import soundfile

from hf_ser.data.corpora import meld, synthetic
from hf_ser.data.corpora import table as table_corpus
from hf_ser.data.prepare import prepare
from hf_ser.runs.predictions import read_predictions

QUICK = ("--num_train_epochs", "1", "--n_folds", "3", "--disable_tqdm", "true", "--early_stopping_patience", "0")


@pytest.fixture(scope="module")
def rated(table_listing, tmp_path_factory):
    """The small table with every second sound left out, as MELD lies without its films, and with raters' votes."""
    folder = tmp_path_factory.mktemp("rated")
    utterances = [
        replace(one, audio=None if n % 2 else one.audio, votes={one.label: 3, "sad": 1} if n % 3 else None)
        for n, one in enumerate(table_listing.utterances)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meld, "list_utterances", lambda _: replace(table_listing, utterances=utterances))
        prepare("meld", folder, folder / "data")
    return folder / "data"


@pytest.fixture(scope="module")
def table_listing(request):
    return table_corpus.list_utterances(request.getfixturevalue("table"))


def test_words_without_sound(rated, script, tmp_path):
    script("train_fusion", "--dataset", rated, "--output_dir", tmp_path / "fused", *QUICK)
    report = json.loads((tmp_path / "fused/report.json").read_text())
    assert report["n_utterances"] == 16
    with pytest.raises(ValueError, match="24 of 48 clips have no audio, and this model is audio-only"):
        script("train_audio", "--dataset", rated, "--output_dir", tmp_path / "audio", *QUICK)


@pytest.mark.parametrize("target", ["votes", "majority"])
def test_votes_as_the_target(rated, prepared, script, tmp_path, target, capsys):
    votes = ("--target", target)
    script("train_text", "--dataset", rated, "--output_dir", tmp_path / "o", *votes, *QUICK)
    assert "16 of 48 clips have no raters' votes: their label is the target" in capsys.readouterr().out
    report = json.loads((tmp_path / "o/report.json").read_text())
    assert report["soft_labels"]["n"] > 0
    assert {"kl", "cosine", "brier"} <= set(report["soft_labels"])
    rows = read_predictions(tmp_path / "o/predictions.jsonl")
    assert all(sum(row["votes"].values()) == pytest.approx(1) for row in rows if row["votes"])
    with pytest.raises(ValueError, match="Found no votes of raters in the 24 training rows"):
        script("train_text", "--dataset", prepared, "--output_dir", tmp_path / "p", *votes, *QUICK)
    assert not (tmp_path / "p/fold_1").exists()


def test_a_label_map(prepared, script, tmp_path, capsys):
    script("train_text", "--dataset", prepared, "--label_map", "valence_binary", "--output_dir", tmp_path, *QUICK)
    assert "label map valence_binary drops 12 clips: neutral 12" in capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["labels"] == ["negative", "positive"]
    assert report["label_map"] == {"name": "valence_binary", "dropped": {"neutral": 12}}
    script("evaluate", tmp_path / "predictions.jsonl")
    assert json.loads((tmp_path / "report.json").read_text()) == report
    assert "labels valence_binary, which drops 12 rows of the data: neutral 12" in capsys.readouterr().out
    assert json.loads((tmp_path / "run.json").read_text())["settings"]["label_map"] == "valence_binary"


@pytest.mark.slow
def test_joined_corpora_of_which_one_holds_copies_of_the_other(table, script, tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, "SPEAKERS", 6)  # those of the table
    for clip in table.parent.glob("*.wav"):
        samples, rate = soundfile.read(clip)
        soundfile.write(tmp_path / clip.name, 0.5 * samples[800:], rate)
    shutil.copy(table, tmp_path / "clips.csv")
    joined = ("--corpus", "table,synthetic", "--data_dir", f"{tmp_path / 'clips.csv'},", "--output_dir", tmp_path / "o")
    across = ("--protocol", "leave_one_corpus_out", "--fold", "2")
    with pytest.raises(ValueError, match=r"The audit found a leak: .*near_identical_sound_train_test"):
        script("train_text", *joined, *across, *QUICK)
    script("train_text", *joined, *across, "--allow_leak", *QUICK)
    report = json.loads((tmp_path / "o/report.json").read_text())
    assert report["corpus"] == "table"
    assert "near_identical_sound_train_test" in report["leaks"]
    assert report["audit"]["verdict"] == "leak"
