"""hf_ser/deploy/labeller*.py: labels of very many files, in shards that go on where they broke, and as a callable."""

import json
import pickle
import subprocess
import sys
import time

import calls
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import soundfile as sf
import torch
from datasets import Audio, Dataset
from models.tiny import LABELS

from hf_ser.data.given_clips import GivenClip, given_clips
from hf_ser.deploy.labeller import Labeller
from hf_ser.deploy.labeller_shards import Labelled, Shard, label_shard
from hf_ser.runs.answers import ClipPredictor

RATE = 16_000


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Eleven short clips, and one that is no audio."""
    place = tmp_path_factory.mktemp("clips")
    for number in range(11):
        sf.write(place / f"{number:02d}.wav", calls.voice(number, 0.5), RATE)
    (place / "broken.wav").write_bytes(b"no audio")
    return place


def clips_of(place) -> list[GivenClip]:
    return given_clips([str(place)]).clips


def rows_of(output) -> pd.DataFrame:
    parts = sorted(output.glob("shard-*/part-*.parquet"))
    return pd.concat([pq.read_table(part).to_pandas() for part in parts], ignore_index=True)


def last(labelling) -> Labelled:
    return list(labelling)[-1]


# On disk


def test_shards_are_disjoint_and_hold_all_files_by_their_names_alone(model, files, tmp_path):
    clips = clips_of(files)
    for index in (1, 2, 3):
        last(label_shard(model, clips if index < 3 else clips[::-1], tmp_path, Shard(index, 3), part_files=2))
    assert sorted(rows_of(tmp_path)["name"]) == sorted(clip.name for clip in clips)
    assert [Shard(3, 16).holds(f"call{n}") for n in range(40)] == [Shard(3, 16).holds(f"call{n}") for n in range(40)]
    counts = np.bincount([next(k for k in range(16) if Shard(k + 1, 16).holds(f"{n}.wav")) for n in range(1600)])
    assert counts.min() > 60 and counts.max() < 140


def test_labels_are_those_of_predict_and_failures_have_their_reason(model, files, tmp_path):
    result = last(label_shard(model, clips_of(files), tmp_path, part_files=5))
    rows = rows_of(tmp_path).set_index("name")
    for answer in ClipPredictor(model.pipeline).answers(clips_of(files)):
        row = rows.loc[answer.clip.name]
        if answer.error:
            assert row["error"] == answer.error and pd.isna(row["label"]) and pd.isna(row["confidence"])
            continue
        assert row["label"] == answer.scores[0]["label"] and row["unsure"] == answer.unsure
        assert row[f"score:{row['label']}"] == pytest.approx(answer.scores[0]["score"], abs=1e-5)
    (line,) = (tmp_path / "shard-1-of-1" / "errors.jsonl").read_text().splitlines()
    assert json.loads(line)["file"].endswith("broken.wav") and "not readable" in json.loads(line)["error"]
    assert (result.files, result.failed, result.before) == (12, 1, 0) and "files a second" in str(result)
    assert f"{100 * rows['unsure'].eq(True).sum() / 11:.1f} % of the 11 answered are unsure" in str(result)


def test_what_is_there_is_not_labelled_again_and_what_is_new_is(model, files, tmp_path):
    clips = clips_of(files)
    last(label_shard(model, clips[:7], tmp_path, part_files=3))
    before = {part: part.stat().st_mtime_ns for part in tmp_path.glob("*/*.parquet")}
    result = last(label_shard(model, [*clips, clips[0]], tmp_path, part_files=3))
    assert all(part.stat().st_mtime_ns == changed for part, changed in before.items())
    assert (result.before, result.files, result.failed) == (7, 12, 1)
    assert sorted(rows_of(tmp_path)["name"]) == sorted(clip.name for clip in clips)
    assert last(label_shard(model, clips, tmp_path)).before == 12
    assert len((tmp_path / "shard-1-of-1" / "errors.jsonl").read_text().splitlines()) == 1


WORK = """
import sys, time
from hf_ser.data.given_clips import given_clips
from hf_ser.deploy.labeller_shards import label_shard
from hf_ser.runs.answers import ClipPredictor
from hf_ser.runs.classifier import Classifier
whole = ClipPredictor._classify_batch
def slow(self, batch):
    time.sleep(0.05)
    return whole(self, batch)
ClipPredictor._classify_batch = slow
for _ in label_shard(Classifier(sys.argv[1], "cpu"), given_clips([sys.argv[2]]).clips, sys.argv[3], batch_size=1,
                     part_files=2):
    print("part", flush=True)
"""


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_without_loss_or_doubles(model, folder, files, tmp_path):
    command = [sys.executable, "-c", WORK, str(folder), str(files), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as work:
        for _ in range(3):  # the start and two parts
            assert work.stdout.readline() == "part\n"
        time.sleep(0.07)  # in the middle of the third
        work.kill()
    shard = tmp_path / "shard-1-of-1"
    assert 2 <= len(list(shard.glob("part-*.parquet"))) < 6
    with open(shard / "errors.jsonl", "a") as errors:
        errors.write('{"file": "half a li')
    result = last(label_shard(model, clips_of(files), tmp_path, part_files=2))
    assert result.before >= 4 and result.files == 12 and result.failed == 1
    assert sorted(rows_of(tmp_path)["name"]) == sorted(clip.name for clip in clips_of(files))
    assert [json.loads(line)["file"][-10:] for line in (shard / "errors.jsonl").read_text().splitlines()] == [
        "broken.wav"
    ]
    assert not list(shard.glob(".part*"))


def test_another_model_or_number_of_shards_is_refused(model, files, tmp_path):
    last(label_shard(model, clips_of(files)[:1], tmp_path))
    with pytest.raises(ValueError, match=r"made with shards 1, expected 2"):
        last(label_shard(model, [], tmp_path, Shard(1, 2)))
    with pytest.raises(ValueError, match=r"made with channel mix, expected left"):
        last(label_shard(model, [], tmp_path, channel="left"))
    running = label_shard(model, clips_of(files), tmp_path)
    next(running)
    with pytest.raises(ValueError, match="another process that labels this shard"):
        last(label_shard(model, [], tmp_path))


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/2/3"])
def test_a_shard_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="expected such as 3/16"):
        Shard.parsed(text)


def test_predict_labels_a_shard_of_a_table(script, folder, files, tmp_path, capsys):
    pd.DataFrame({"path": [str(one.path) for one in clips_of(files)]}).to_parquet(tmp_path / "list.parquet")
    for index in (1, 2):
        try:
            script(
                "predict",
                folder,
                "--input",
                tmp_path / "list.parquet",
                "--output",
                tmp_path / "out",
                "--shard",
                f"{index}/2",
            )
        except SystemExit as ended:
            assert ended.code == 1  # the shard with the broken file
    assert len(rows_of(tmp_path / "out")) == 12
    printed = capsys.readouterr()
    assert "files a second" in printed.err and "errors.jsonl" in printed.err and not printed.out
    with pytest.raises(SystemExit):
        script("predict", folder, files, "--shard", "1/2", "--output", tmp_path / "a.csv")
    with pytest.raises(SystemExit):
        script("predict", folder)
    assert "give --output FOLDER" in (found := capsys.readouterr().err) and "no files are given" in found


# As a callable


def test_a_labeller_of_columns_has_errors_as_a_column(folder, files):
    label = Labeller(folder, "cpu")
    names = [str(files / "00.wav"), str(files / "broken.wav"), None, str(files / "01.wav")]
    found = label({"path": np.array(names, dtype=object), "id": np.arange(4), "start": [None, None, None, "x"]})
    assert list(found["id"]) == [0, 1, 2, 3] and found["label"][0] in LABELS
    assert [error is None for error in found["error"]] == [True, False, False, False]
    assert (
        "not readable" in found["error"][1]
        and "found no audio" in found["error"][2]
        and "start 'x'" in found["error"][3]
    )
    assert found["confidence"].dtype == np.float64 and np.isnan(found["confidence"][1])
    with pytest.raises(ValueError, match=r"found the columns a. Expected audio in one of path, file, audio"):
        label({"a": [1]})


def test_a_labeller_of_frames_as_spark_gives_them(folder, files):
    frame = pd.DataFrame({"path": [str(files / "02.wav"), str(files / "broken.wav")], "end": [0.4, np.nan]})
    (found,) = Labeller(folder, "cpu").in_pandas(iter([frame]))
    assert list(found["path"]) == list(frame["path"]) and found["label"][0] in LABELS and found["error"][1]


def test_a_labeller_of_a_data_set_and_of_bytes(folder, files):
    names = [str(files / "03.wav"), str(files / "04.wav")]
    rows = Dataset.from_dict({"audio": names}).cast_column("audio", Audio(decode=False))
    content = [{"bytes": (files / "03.wav").read_bytes(), "path": None}, {"bytes": b"x", "path": "x.wav"}]
    label = Labeller(folder, "cpu")
    found = rows.map(label, batched=True, load_from_cache_file=False)
    assert found["label"][0] in LABELS and found["error"][:] == [None, None]
    of_bytes = label({"audio": content})
    assert of_bytes["label"][0] == found["label"][0] and "not readable" in of_bytes["error"][1]


def test_a_labeller_is_pickled_without_its_model_and_has_one_thread(folder, files):
    label = Labeller(folder, "cpu")
    first = label({"path": [str(files / "05.wav")]})
    assert len(content := pickle.dumps(label)) < 1000 and label.classifier is not None
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert pickle.loads(content)({"path": [str(files / "05.wav")]}) == first
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
def test_ray_data_gives_the_answers_of_the_plain_call(folder, files):
    ray = pytest.importorskip("ray", reason="needs the extra ray")
    names = [str(clip.path) for clip in clips_of(files)]
    expected = Labeller(folder, "cpu")({"path": names})
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        rows = ray.data.from_items([{"path": name} for name in names])
        settings = {"model": str(folder), "device": "cpu"}
        found = rows.map_batches(Labeller, fn_constructor_kwargs=settings, batch_size=4, concurrency=1).take_all()
    finally:
        ray.shutdown()
    assert {row["path"]: row["label"] for row in found} == dict(zip(names, expected["label"], strict=True))
    confidences = {row["path"]: row["confidence"] for row in found if row["label"]}
    for name, label, confidence in zip(names, expected["label"], expected["confidence"], strict=True):
        assert label is None or confidences[name] == pytest.approx(confidence, abs=1e-6)
    assert sum(row["error"] is not None for row in found) == 1
