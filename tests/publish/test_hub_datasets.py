"""A data set on the Hub: whose recordings may go there, what comes back, and the script that pushes either kind."""

import hashlib
import shutil
from pathlib import Path

import pytest

from hf_ser.data.prepared import load_prepared
from hf_ser.publish.hub import push_dataset

REPO = "user/voices"
PULL = """
import hashlib, json
from datasets import load_dataset
from huggingface_hub import DatasetCard
from hf_ser.data.corpora.table import list_utterances
def digest(content):
    return hashlib.sha256(content).hexdigest()
rows = load_dataset("user/voices", split="train", revision={sha!r})
table = list_utterances("user/voices@{sha}").utterances
card = DatasetCard.load("user/voices", repo_type="dataset")
print(json.dumps({{
    "audio": {{row["id"]: digest(row["audio"]["bytes"]) for row in rows}},
    "labels": rows.features["label"].names,
    "columns": rows.column_names,
    "table": {{one.id.removeprefix("table/"): [one.label, one.speaker, digest(one.audio())] for one in table}},
    "licence": card.data.license, "task": card.data.task_categories, "text": card.text,
}}))
"""


@pytest.fixture(scope="module")
def data_of(prepared, tmp_path_factory):
    """A prepared data set whose clips are said to be of the given corpora in turn."""

    def build(*corpora: str) -> Path:
        folder = tmp_path_factory.mktemp("data") / "DS"
        dataset = load_prepared(prepared)
        names = [corpora[row % len(corpora)] for row in range(len(dataset))]
        typed = dataset.map(lambda row, index: {"corpus": names[index]}, with_indices=True, load_from_cache_file=False)
        typed.save_to_disk(str(folder))
        shutil.copy(prepared / "integrity.json", folder)
        return folder

    return build


@pytest.fixture
def no_pictures(monkeypatch):
    """Seconds saved where the pictures are not what is tested."""
    monkeypatch.setattr("hf_ser.publish.dataset_card.write_pictures", lambda *anything: [])


@pytest.mark.slow
def test_what_comes_back_is_what_was_prepared(hub, api, data_of, fresh, capsys):
    folder = data_of("synthetic", "ravdess")
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    sha = push_dataset(folder, REPO, api=api)
    sent = hub.put_bytes
    assert push_dataset(folder, REPO, api=api) == sha and hub.put_bytes == sent and hub.calls["commit"] == 1
    assert "nothing has changed" in capsys.readouterr().out
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert "integrity.json" in hub.files("datasets", REPO)

    found, rows = fresh(PULL.format(sha=sha)), load_prepared(folder)
    names = rows.features["label"].names
    audio = {row["id"]: hashlib.sha256(row["audio"]["bytes"]).hexdigest() for row in rows}
    assert found["audio"] == audio and found["columns"] == rows.column_names and found["labels"] == names
    table = {row["id"]: [names[row["label"]], row["speaker"], audio[row["id"]]] for row in rows}
    assert found["table"] == table  # what prepare_data.py --corpus table reads
    assert found["licence"] == ["cc-by-nc-sa-4.0", "other"] and found["task"] == ["audio-classification"]
    assert 'load_dataset("user/voices"' in found["text"] and "load_prepared" not in found["text"]


def test_a_smaller_data_set_leaves_no_old_rows_behind(hub, api, data_of, no_pictures, monkeypatch):
    folder = data_of("synthetic")
    with monkeypatch.context() as patch:
        patch.setattr("hf_ser.publish.privacy.SHARD_BYTES", load_prepared(folder).data.nbytes // 2)
        push_dataset(folder, REPO, api=api)
    assert len([name for name in hub.files("datasets", REPO) if name.endswith(".parquet")]) > 1
    push_dataset(folder, REPO, api=api)
    assert [name for name in hub.files("datasets", REPO) if name.endswith(".parquet")] == [
        "data/train-00000-of-00001.parquet"
    ]


@pytest.mark.parametrize("options", [{}, {"private": True}, {"licence": "cc-by-4.0"}])
def test_a_corpus_that_may_not_be_shared_decides_for_all(hub, api, data_of, options):
    with pytest.raises(ValueError, match="Corpus 'iemocap' may not be shared, not even in a private repository"):
        push_dataset(data_of("synthetic", "table", "iemocap"), REPO, api=api, **options)
    assert not hub.calls


def test_a_users_own_table_wants_a_licence(hub, api, data_of, no_pictures):
    own = data_of("table", "synthetic")
    with pytest.raises(ValueError, match=r"Corpus 'table' is your own.*add --licence"):
        push_dataset(own, REPO, api=api)
    with pytest.raises(ValueError, match=r"--licence mit: synthetic is under .*leave it out"):
        push_dataset(data_of("synthetic"), REPO, licence="mit", api=api)
    assert not hub.calls
    push_dataset(own, REPO, licence="cc-by-4.0", api=api)
    card = hub.files("datasets", REPO)["README.md"].decode()
    assert "\nlicense: cc-by-4.0\n" in card and "| the user's own | cc-by-4.0 |" in card


def test_the_script_tells_a_model_from_a_data_set(hub, online, model, prepared, no_pictures, script):
    script("push_to_hub", model, "user/emotion", "--space", "--private")
    script("push_to_hub", prepared, REPO, "--licence", "cc-by-4.0", "--revision", "trial")
    assert set(hub.repositories) == {("models", "user/emotion"), ("spaces", "user/emotion"), ("datasets", REPO)}
    assert hub.repositories["spaces", "user/emotion"].private
    assert set(hub.repositories["datasets", REPO].branches) == {"main", "trial"}
    with pytest.raises(ValueError, match="found a data set, expected a model with --space"):
        script("push_to_hub", prepared, REPO, "--space")
    with pytest.raises(ValueError, match="found no data set, expected one with --licence"):
        script("push_to_hub", model, REPO, "--licence", "mit")
