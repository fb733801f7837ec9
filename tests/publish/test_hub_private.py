"""What a real training leaves on the Hub: whole and valid, and without the people in it and the disk it was made on."""

import json
import shutil
import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants
from jsonschema import validate
from models.tiny import AUDIO, awaken
from publish.stand_in import OWNER_TOKEN
from transformers import AutoModel

from hf_ser.checks.stress.conditions import CONDITIONS
from hf_ser.checks.stress.plots import plot_stress
from hf_ser.checks.stress.results import Outcome, make_stress, write_stress
from hf_ser.data.prepared import load_prepared
from hf_ser.data.splitting import make_folds
from hf_ser.publish.hub import is_private_push, push_dataset, push_model
from hf_ser.runs.checkpoints import weights_digests
from hf_ser.runs.figures import Report
from hf_ser.runs.predictions import read_predictions
from hf_ser.runs.record import (
    Split,
    TrainingRecord,
    ancestry,
    corpora_of_sources,
    hashed,
    is_withheld,
    provenance,
    read_record,
    split_record,
    stage_leaks,
    write_record,
)

REPO = "user/emotion"
ROOT = Path(__file__).parents[2]
SCHEMA = Report.schema()
QUICK = ("--num_train_epochs", "1", "--n_folds", "3", "--disable_tqdm", "true", "--early_stopping_patience", "0")
LABELS = "angry: angry\nhappy: happy\nneutral: neutral\nsad: sad\n"


@pytest.fixture(scope="module")
def real(prepared, tmp_path_factory) -> Path:
    """A fold's folder as a leaky training makes it of files in a home, with a stress test of which a clip was left."""
    home = tmp_path_factory.mktemp("home") / "anna smith" / "secret"
    config, extractor = AUDIO["wav2vec2"]()
    awaken(AutoModel.from_config(config)).save_pretrained(home / "my encoder")
    extractor.save_pretrained(home / "my encoder")
    (home / "my labels.yaml").write_text(LABELS)
    arguments = ("--dataset", prepared, "--output_dir", home / "run", "--audio_model", home / "my encoder", *QUICK)
    arguments += ("--label_map", home / "my labels.yaml", "--protocol", "random", "--allow_leak", "--max_seconds", "2")
    spec = spec_from_file_location("train_fusion_real", ROOT / "scripts" / "train_fusion.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train_fusion", *map(str, arguments)])
        module.main()
    folder = home / "run" / "fold_1"
    stress_test(folder, prepared)
    (folder / "groups.png").write_bytes(b"speaker by speaker")
    return folder


def stress_test(folder: Path, dataset: Path) -> None:
    rows = read_predictions(folder / "predictions.jsonl")
    answers = {row.id: list(row.probabilities.values()) for row in rows}
    clean, first = Outcome(CONDITIONS[0], answers, {}), rows[0].id
    fewer = {name: answer for name, answer in answers.items() if name != first}
    about = {"model": str(folder), "dataset": str(dataset), "seed": 0}
    result = make_stress(about, rows, clean, [Outcome(CONDITIONS[1], fewer, {first: "too short"})])
    result.notices.extend([f"the quietest is {first}", "as it should be"])
    write_stress(result, folder / "stress.json")
    plot_stress(result, folder / "stress.png")


@pytest.fixture
def model_of(model, tmp_path):
    """A tiny model's folder, with a record of some corpora."""

    def build(*corpora: str) -> Path:
        record = json.loads((model / "training_record.json").read_text()) | {"corpora": list(corpora)}
        (model / "training_record.json").write_text(json.dumps(record))
        (model / "report.json").unlink(missing_ok=True)
        return model

    return build


@pytest.fixture
def pushed(hub, api, real) -> dict[str, bytes]:
    """What of it is on the Hub, on a branch."""
    push_model(real, REPO, revision="trial", api=api)
    return hub.files("models", REPO, "trial")


def test_no_part_of_a_path_of_the_users_disk_is_pushed(pushed):
    for name, content in pushed.items():
        for part in (b"anna", b"smith", b"secret", b"pytest-of", b"home0"):
            assert name.endswith((".safetensors", ".png")) or part not in content, name
    record, stress = json.loads(pushed["training_record.json"]), json.loads(pushed["stress.json"])
    assert record["settings"]["audio_model"] == record["sources"]["audio"] == "my encoder"
    assert json.loads(pushed["config.json"])["audio_config"]["_name_or_path"] == "my encoder"
    assert record["encoders"]["audio"] == "my encoder (its training data is not recorded)"
    assert json.loads(pushed["report.json"])["label_map"]["name"] == "my labels.yaml"
    assert (stress["model"], stress["dataset"]) == ("fold_1", "data")


def test_no_clip_and_no_speaker_is_named(pushed, real):
    assert {"predictions.jsonl", "groups.png"}.isdisjoint(pushed) and "confusion_matrix.png" in pushed
    for name, content in pushed.items():
        assert b"table/" not in content, name
    record, ours = TrainingRecord.from_json(json.loads(pushed["training_record.json"]), "pushed"), read_record(real)
    evident = [one for one in ours.audit if any("table/" in name for name in one.evidence)]
    assert evident, "nothing to hide, so nothing is tested"
    for one, before in zip(record.audit, ours.audit, strict=True):
        assert one == replace(before, evidence=(), detail="removed: it may name clips or people")


def test_a_list_of_names_finds_no_speaker(pushed, real, prepared):
    """An unkeyed hash of a name is the name, to whoever has a list."""
    data, ours = load_prepared(prepared), read_record(real).to_json()
    names = [hashed(one) for column in ("speaker", "id") for one in data[column][:]]
    assert any(name in json.dumps(ours) for name in names), "nothing to hide, so nothing is tested"
    assert not [name for name in names if name in pushed["training_record.json"].decode()]
    record = json.loads(pushed["training_record.json"])
    assert ours["weights"] == record["weights"] == weights_digests(real)
    assert record["split"]["train"] == ours["split"]["train"] | {
        "ids": [],
        "speakers": [],
        "withheld": ["ids", "speakers"],
    }


def test_a_report_without_people_is_still_a_report(pushed, real):
    report, ours = json.loads(pushed["report.json"]), json.loads((real / "report.json").read_text())
    validate(report, SCHEMA)
    assert list(report["per_speaker"].values()) == list(ours["per_speaker"].values())
    worst = [one for pair in report["confusions"] for one in pair["worst"]]
    mine = [one for pair in ours["confusions"] for one in pair["worst"]]
    assert [one | {"id": ""} for one in worst] == [one | {"id": ""} for one in mine]
    assert [one["id"] for one in worst] == [f"clip {number}" for number in range(1, len(mine) + 1)]
    card = pushed["README.md"].decode()
    assert f"UAR {100 * ours['uar']:.1f} %" in card and 'revision="trial"' in card


def test_a_stress_test_counts_skipped_clips_without_naming_them(pushed, real):
    stress, ours = json.loads(pushed["stress.json"]), json.loads((real / "stress.json").read_text())
    assert stress["skipped"] == {CONDITIONS[1].name: 1}
    assert "as it should be" in stress["notices"] and len(stress["notices"]) == len(ours["notices"]) - 2
    assert stress["conditions"] == ours["conditions"]
    assert pushed["stress.png"].startswith(b"\x89PNG") and pushed["stress.png"] != (real / "stress.png").read_bytes()


def test_what_may_be_shared_is_pushed_with_its_clips(hub, api, real, tmp_path):
    folder = Path(shutil.copytree(real, tmp_path / "fold_1"))
    write_record(folder, replace(read_record(folder), corpora=["ravdess"]))
    (folder / "mine.png").write_bytes(b"of the user")
    push_model(folder, REPO, api=api)
    assert b"table/" not in hub.files("models", REPO)["stress.json"]  # the stress test was on clips of another corpus
    stress = json.loads((folder / "stress.json").read_text()) | {"corpus": "ravdess"}
    (folder / "stress.json").write_text(json.dumps(stress))
    push_model(folder, REPO, api=api)
    files = hub.files("models", REPO)
    assert {"predictions.jsonl", "groups.png"} < set(files) and "mine.png" not in files
    for name in ("report.json", "training_record.json", "stress.json"):
        assert b"table/" in files[name] and b"anna" not in files[name], name


def test_a_data_set_names_files_without_their_folders(hub, api, prepared, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_ser.publish.dataset_card.write_pictures", lambda *anything: [])
    folder = Path(shutil.copytree(prepared, tmp_path / "DS"))
    integrity = json.loads((folder / "integrity.json").read_text())
    same = {"kind": "duplicate", "item": "table/a", "detail": "same audio as table/b, which is kept", "skipped": True}
    unread = {"kind": "unreadable", "item": "/home/anna smith/1.wav", "detail": "/home/anna smith/1.wav: no sound"}
    relative = {"kind": "quiet", "item": "anna\\data/2.wav", "detail": "level -61 dBFS", "skipped": False}
    integrity |= {"findings": [same, unread, relative], "label_map": "/home/anna smith/map.yaml"}
    (folder / "integrity.json").write_text(json.dumps(integrity))
    push_dataset(folder, REPO, licence="cc-by-4.0", api=api)
    files = hub.files("datasets", REPO)
    assert not [name for name, content in files.items() if b"anna" in content]
    arguments = json.loads(files["integrity.json"])["findings"]
    assert arguments == [same, unread | {"item": "1.wav", "detail": "1.wav: no sound"}, relative | {"item": "2.wav"}]


def absolute(prepared, folder: Path) -> Path:
    """A data set whose table named its files by where they lie; one of them was left out, another has no audio."""
    dataset = load_prepared(prepared)
    old = dataset["id"][:]
    places = ["/home/anna smith/calls/{}.wav", "C:\\Users\\anna\\{}.wav", "~/anna/{}.wav", "../../anna/{}.wav"]
    places += ["calls/../../anna/{}.wav", "file:///home/anna/{}.wav", "\\\\server\\anna\\{}.wav"]
    names = [f"table/{places[row % len(places)].format(row)}" for row in range(len(old) - 2)] + old[-2:]

    def change(rows: pa.Table) -> pa.Table:
        count = len(rows)
        columns = {
            "id": names,
            "session": ["/home/anna/one" if row % 2 else "/mnt/anna/one" for row in range(count)],
            "transcript": ["/laughs/ hello", "/home/anna/words/1.txt"] + ["yes / no"] * (count - 2),
        }
        for name, values in columns.items():
            rows = rows.set_column(rows.column_names.index(name), name, pa.array(values, pa.string()))
        cells = rows.column("audio").combine_chunks()
        parts = [cells.field("bytes"), pa.array([name.removeprefix("table/") for name in names])]
        audio = pa.StructArray.from_arrays(parts, ["bytes", "path"])
        return rows.set_column(rows.column_names.index("audio"), "audio", audio)

    changed = dataset.with_format("arrow").map(change, batched=True, batch_size=None, load_from_cache_file=False)
    changed.with_format(None).save_to_disk(str(folder))
    integrity = json.loads((prepared / "integrity.json").read_text())
    kept, lost = names[0], "table//home/anna smith/calls/lost, is it.wav"
    same = f"same audio as {kept}, which is kept"
    integrity["findings"] = [
        {"kind": "duplicate", "item": lost, "detail": same, "skipped": True},
        {"kind": "duplicate", "item": names[1], "detail": f"same audio as {lost}, which is kept", "skipped": True},
        {"kind": "conflicting_duplicate", "item": lost, "detail": f"same audio: {lost} is sad by x", "skipped": True},
    ]
    (folder / "integrity.json").write_text(json.dumps(integrity))
    return folder


def test_a_data_set_tells_of_no_disk_in_any_cell(hub, api, prepared, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_ser.publish.dataset_card.write_pictures", lambda *anything: [])
    folder = absolute(prepared, tmp_path / "DS")
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    push_dataset(folder, REPO, licence="cc-by-4.0", api=api)
    files = hub.files("datasets", REPO)
    (tmp_path / "x.parquet").write_bytes(files["data/train-00000-of-00001.parquet"])
    rows, ours = pq.read_table(tmp_path / "x.parquet").to_pylist(), load_prepared(folder)
    assert not [name for name, content in files.items() if b"anna" in content and not name.endswith(".parquet")]
    assert "anna" not in str([{name: cell for name, cell in row.items() if name != "fingerprint"} for row in rows])
    assert [row["audio"]["bytes"] for row in rows] == [cell["bytes"] for cell in ours["audio"][:]]
    first, pcm = rows[0], ours["pcm_sha256"][0]
    assert first["id"] == f"table/{pcm[:16]}-0.wav" and first["audio"]["path"] == "0.wav"
    assert len({row["id"] for row in rows}) == len(rows) and rows[-1]["id"] == ours["id"][-1]
    assert {row["session"] for row in rows} == {"one", "one#2"}, "two sessions are still two"
    assert [row["transcript"] for row in rows[:3]] == ["/laughs/ hello", "1.txt", "yes / no"]
    findings = json.loads(files["integrity.json"])["findings"]
    assert findings[0]["item"] == "table/lost, is it.wav" and first["id"] in findings[0]["detail"]
    assert findings[1]["detail"] == findings[2]["detail"] == "removed: it names local files"
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """Nothing pulled before."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


def test_a_training_pushes_its_model_when_it_ends(hub, online, prepared, script, tmp_path, no_pictures):
    arguments = ("--dataset", prepared, "--output_dir", tmp_path / "o", *QUICK, "--push_to_hub", "--hub_model_id", REPO)
    script("train_text", *arguments, "--hub_token", OWNER_TOKEN, "--hub_revision", "trial")
    repository, files = hub.repositories["models", REPO], hub.files("models", REPO, "trial")
    assert repository.private and set(repository.branches) == {"main", "trial"}
    assert files["model.safetensors"] == (tmp_path / "o" / "fold_1" / "model.safetensors").read_bytes()
    assert len(repository.commits) == 2 and not [name for name in files if "checkpoint" in name]
    assert OWNER_TOKEN.encode() not in b"".join(files.values())


def test_a_model_of_own_recordings_is_private_by_default(hub, online, api, model_of, prepared, script, capsys):
    push_model(model_of("table"), "user/own", api=api)
    assert hub.repositories["models", "user/own"].private
    assert "trained on your own recordings (table), so it is pushed as a private model" in capsys.readouterr().out
    push_model(model_of("table", "ravdess"), "user/both", api=api)
    assert hub.repositories["models", "user/both"].private
    push_model(model_of("ravdess"), "user/corpus", api=api)
    assert not hub.repositories["models", "user/corpus"].private
    script("push_to_hub", model_of("table"), "user/public", "--public")
    assert not hub.repositories["models", "user/public"].private
    with pytest.raises(ValueError, match=r"found a public repository, expected a private one.*--public"):
        push_model(model_of("table"), "user/public", api=api)
    with pytest.raises(ValueError, match="found a data set, expected a model with --public"):
        script("push_to_hub", prepared, "user/data", "--public")
    for corpora, choice, private in (("table", None, True), ("savee", None, False), ("table", False, False)):
        assert is_private_push({corpora, "ravdess"}, choice) is private  # what training checks before it starts


def test_an_encoder_of_the_hub_that_has_met_the_test_rows_is_refused(hub, api, empty_cache, real, prepared):
    sha = push_model(real, REPO, api=api)
    data = load_prepared(prepared)
    fold, name = make_folds(data, "speaker_folds", n_folds=3)[0], f"{REPO}@{sha}"
    assert is_withheld(ancestry(name)) and not is_withheld(ancestry(str(real)))
    withheld = "its training speakers and clips are withheld, so only equal recordings can be found"
    assert provenance({"audio": name}) == {"audio": f"{name} ({withheld})"}
    with pytest.raises(ValueError, match=rf"{name}: this audio model was trained on data that fold 1 uses as test"):
        stage_leaks(data, fold, {"audio": name}, allow_leak=False)


def test_only_a_hub_without_a_record_gives_none(hub, api, empty_cache, monkeypatch):
    api.create_repo("user/other")
    assert read_record("user/other") is None
    api.upload_file(path_or_fileobj=b'{"loss": 1}', path_in_repo="training_record.json", repo_id="user/other")
    assert read_record("user/other") is None  # another's file of this name
    unknown = "could not find out whether this model has a training_record.json.*Check name, revision and connection"
    for name in ("user/nothing", "user/other@nowhere"):
        with pytest.raises(ValueError, match=f"{name}: {unknown}"):
            read_record(name)
    api.create_repo("user/third")
    hub.fail("resolve", 500, times=1000)
    with pytest.raises(ValueError, match=f"user/third: {unknown}"):
        read_record("user/third")
    with monkeypatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        calls = hub.calls.total()
        assert read_record("user/nothing") is None and hub.calls.total() == calls


def stage(*corpora):
    part = {"ids": [hashed("anna")], "pcm": [], "speakers": [hashed("anna")]}
    split = {"fold": "1", "split_fingerprint": "f", "train": part, "validation": part}
    return split | ({"corpora": list(corpora)} if corpora else {})


@pytest.mark.parametrize(
    ("more", "private"),
    [
        ({"ancestors": [stage("ravdess"), stage("table", "emodb")]}, True),
        ({"ancestors": [stage("ravdess")]}, False),
        ({"ancestors": [stage()]}, True),  # of an earlier version
        ({"corpora": ["my_plug_in"]}, True),
        ({"sources": {"audio": "enc"}, "encoders": {"audio": "enc (its training data is not recorded)"}}, True),
        (
            {
                "sources": {"audio": "user/enc@abc"},
                "encoders": {"audio": "user/enc@abc (its training data is not recorded)"},
                "base_models": ["user/enc"],
            },
            False,
        ),
    ],
)
def test_what_the_encoders_were_trained_on_counts(hub, online, api, model_of, capsys, more, private):
    folder = model_of("ravdess")
    record = json.loads((folder / "training_record.json").read_text()) | more
    (folder / "training_record.json").write_text(json.dumps(record))
    push_model(folder, "user/stages", api=api)
    assert hub.repositories["models", "user/stages"].private is private
    assert ("your own recordings" in capsys.readouterr().out) is private
    if private and "ancestors" in more:
        assert hashed("anna") not in hub.files("models", "user/stages")["training_record.json"].decode()


def test_a_record_without_its_corpora_is_refused(api, model_of):
    with pytest.raises(ValueError, match="without the corpora that the model was trained on"):
        push_model(model_of(), "user/nothing", api=api)


def test_stages_tell_the_corpora_of_their_clips(prepared, tmp_path):
    data = load_prepared(prepared)
    split = split_record(data, make_folds(data, "speaker_folds", n_folds=3)[0])
    assert split.corpora == ["table"]
    (tmp_path / "fold_1").mkdir()
    write_record(tmp_path / "fold_1", TrainingRecord(split=split, ancestors=[Split.from_json(stage(), "stage")]))
    assert corpora_of_sources([str(tmp_path / "fold_1"), "gru"]) == {"table", "not recorded"}
    (tmp_path / "enc").mkdir()
    assert corpora_of_sources([str(tmp_path / "enc")]) == {"not recorded"}
