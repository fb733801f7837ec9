"""A model on the Hub: what is pushed and what is not, what comes back, and every way in which it can go wrong."""

import json
import sys
from dataclasses import replace
from importlib.metadata import version

import calls
import numpy as np
import pytest
import torch
from example_fold import predictions
from huggingface_hub import HfApi, constants
from packaging.requirements import Requirement
from packaging.version import Version
from publish.stand_in import READER_TOKEN
from rows import make_report
from safetensors.torch import load_file, save_file
from transformers import pipeline

from hf_ser.publish.hub import SPACE_LIBRARIES, check_push, push_model
from hf_ser.publish.privacy import MODEL_CODE
from hf_ser.runs.figures import Report
from hf_ser.runs.report import write_report

REPO = "user/emotion"
PULL = """
import json, os, sys, types
sys.modules["hf_ser"] = None  # any import of it fails
import numpy as np
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import RepositoryNotFoundError
from transformers import pipeline
clip = np.load({clip!r})
def scores(answers):
    return {{one["label"]: one["score"] for one in answers}}
older = pipeline("audio-classification", model={repo!r}, revision={older!r}, trust_remote_code=True)
def refused(token):
    try:
        hf_hub_download("user/secret", "config.json", token=token)
    except RepositoryNotFoundError:
        return True
    return False
class Stub:
    def __init__(self, *args, **kwargs):
        self.args, self.kwargs = args, kwargs
gradio = types.ModuleType("gradio")
gradio.Audio = gradio.Textbox = gradio.Label = gradio.Interface = gradio.HighlightedText = Stub
gradio.update = dict
gradio.Error = type("Error", (Exception,), {{}})
sys.modules["gradio"] = gradio
sys.path.insert(0, os.path.dirname(hf_hub_download({repo!r}, "demo.py", repo_type="space")))
app = {{"__name__": "app"}}
exec(open(hf_hub_download({repo!r}, "app.py", repo_type="space")).read(), app)
answer, inputs, outputs = app["demo"].args
unsure = answer(clip, "hello you")[:2]
app["classify"].model.config.abstain_threshold = 0.0
sure = answer(clip, "")[:2]
try:
    answer(None)
except gradio.Error as error:
    message = str(error)
print(json.dumps({{
    "scores": [scores(older(clip)), scores(app["classify"](clip))],
    "refused": [refused(False), refused(True)],
    "app": [unsure, sure], "message": message, "inputs": len(inputs), "pinned": app["REVISION"],
}}))
"""


def local_scores(folder, clip, **more) -> dict[str, float]:
    answers = pipeline("audio-classification", model=str(folder), trust_remote_code=True)(clip, **more)
    return {one["label"]: one["score"] for one in answers}


def retrain(folder) -> None:
    """Other weights, as of another training."""
    weights = load_file(folder / "model.safetensors")
    save_file({name: values * 1.5 for name, values in weights.items()}, folder / "model.safetensors", {"format": "pt"})


def contents(folder) -> dict:
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_what_comes_back_is_what_was_trained_at_every_commit(hub, api, model, fresh, tmp_path, capsys):
    config = json.loads((model / "config.json").read_text()) | {"abstain_threshold": 1.0}
    (model / "config.json").write_text(json.dumps(config))
    clip = calls.voice(1, 1.0).astype(np.float32)  # in noise no speech is found
    np.save(tmp_path / "clip.npy", clip)
    expected = [local_scores(model, clip)]
    shas = [push_model(model, REPO, api=api)]
    retrain(model)
    expected += [local_scores(model, clip)]
    shas += [push_model(model, REPO, space=True, api=api)]
    assert push_model(model, "user/secret", private=True, api=api)
    assert shas[0] != shas[1] and expected[0] != expected[1]
    assert f"commit {shas[1]}" in capsys.readouterr().out

    found = fresh(PULL.format(clip=str(tmp_path / "clip.npy"), repo=REPO, older=shas[0]))
    for scores, trained in zip(found["scores"], expected, strict=True):
        assert scores == pytest.approx(trained, abs=1e-6)
    assert hub.files("models", REPO)["model.safetensors"] == (model / "model.safetensors").read_bytes()
    assert found["refused"] == [True, False]
    assert found["pinned"] == shas[1] and found["inputs"] == 2
    unsure, sure = found["app"]
    assert unsure == [pytest.approx(local_scores(model, clip, text="hello you"), abs=1e-6), "unsure"]
    assert sure == [pytest.approx(expected[1], abs=1e-6), max(expected[1], key=expected[1].get)]
    assert found["message"].startswith("There is no recording")
    space = hub.files("spaces", REPO)
    assert {"app.py", "demo.py", "requirements.txt"} < set(space) and b"\nmodels:\n- user/emotion\n" in space[
        "README.md"
    ]
    pins = [Requirement(line) for line in space["requirements.txt"].decode().splitlines()]
    assert [pin.name for pin in pins] == list(SPACE_LIBRARIES)
    assert all(pin.specifier.contains(Version(version(pin.name)).public) and "==" in str(pin) for pin in pins)
    assert f'\npython_version: "{sys.version_info.major}.{sys.version_info.minor}"\n'.encode() in space["README.md"]


def test_only_what_belongs_to_a_model_is_pushed(hub, api, model):
    before = contents(model)
    push_model(model, REPO, api=api)
    pushed = hub.files("models", REPO)
    assert set(pushed) - {".gitattributes"} == {
        *MODEL_CODE,
        *("config.json", "model.safetensors", "processor_config.json", "tokenizer.json", "tokenizer_config.json"),
        *("README.md", "training_record.json", "report.json", "confusion_matrix.png", "predictions.jsonl"),
    }
    assert "model='user/emotion'" in pushed["README.md"].decode()
    assert contents(model) == before


@pytest.mark.parametrize("corpus", ["iemocap", "table"])
def test_clips_and_people_of_a_corpus_that_may_not_be_shared_stay_here(corpus, hub, api, model):
    record = json.loads((model / "training_record.json").read_text()) | {"corpora": ["ravdess", corpus]}
    (model / "training_record.json").write_text(json.dumps(record))
    rows = [row | {"id": f"table/call_of_anna_{n}"} for n, row in enumerate(predictions("table"))]
    rows = [row | {"speaker": None if row["speaker"] == "table/0" else "table/anna"} for row in rows]
    report = make_report(rows)
    report = replace(report, notices=["LEAKED RUN", "table/anna is absent"])
    write_report(report, model / "report.json")
    (model / "embedding_map.png").write_bytes(b"with names in its legend")
    push_model(model, REPO, api=api)
    pushed = hub.files("models", REPO)
    assert {"predictions.jsonl", "embedding_map.png"}.isdisjoint(pushed)
    public = Report.from_json(json.loads(pushed["report.json"]), "pushed")
    assert public.per_speaker == {
        "speaker 1": report.per_speaker["table/anna"],
        "unknown": report.per_speaker["unknown"],
    }
    assert public.confusions[0] == replace(
        report.confusions[0],
        worst=[replace(report.confusions[0].worst[0], id="clip 1"), *public.confusions[0].worst[1:]],
    )
    assert (public.uar, public.notices) == (report.uar, ["LEAKED RUN"]) and b"anna" not in pushed["report.json"]


def test_local_paths_are_not_pushed(hub, api, model):
    record = json.loads((model / "training_record.json").read_text())
    record |= {"sources": {"audio": "/home/anna/secret/wav2vec2"}}
    record["settings"] = record["settings"] | {"audio_model": "/home/anna/secret/wav2vec2"}
    record["words"] = {"sentence_bank": {"bank": "/home/anna/secret/bank.yaml", "digest": "0"}}
    (model / "training_record.json").write_text(json.dumps(record))
    push_model(model, REPO, api=api)
    message = hub.files("models", REPO)["training_record.json"].decode()
    assert "secret" not in message and '"audio_model": "wav2vec2"' in message


def test_an_unchanged_model_is_not_sent_again(hub, api, model, capsys):
    sha, sent, commits = push_model(model, REPO, api=api), hub.put_bytes, hub.calls["commit"]
    assert push_model(model, REPO, api=api) == sha
    assert (hub.put_bytes, hub.calls["commit"]) == (sent, commits)
    assert "nothing has changed" in capsys.readouterr().out


def test_a_later_push_removes_what_the_model_has_no_more_and_nothing_else(hub, api, model):
    push_model(model, REPO, api=api)
    api.upload_file(path_or_fileobj=b"by hand", path_in_repo="NOTES.md", repo_id=REPO)
    (model / "confusion_matrix.png").unlink()
    push_model(model, REPO, api=api)
    assert {"NOTES.md"} == {"NOTES.md", "confusion_matrix.png"} & set(hub.files("models", REPO))


def test_a_branch(hub, api, model):
    first = push_model(model, REPO, api=api)
    retrain(model)
    second = push_model(model, REPO, revision="trial", api=api)
    assert "revision='trial'" in hub.files("models", REPO, "trial")["README.md"].decode()
    assert "revision=None" in hub.files("models", REPO)["README.md"].decode()
    assert hub.repositories["models", REPO].branches == {"main": first, "trial": second}


def test_a_push_that_died_goes_on_where_it_was(hub, api, model, pauses):
    large = {name: (model / name).stat().st_size for name in ("model.safetensors", "confusion_matrix.png")}
    hub.fail("put", None, times=1000, spared=1)
    with pytest.raises(ValueError, match=rf"broke off .*same command again; .*model is safe in {model}"):
        push_model(model, REPO, api=api)
    (arrived,) = hub.objects.values()
    assert hub.put_bytes == len(arrived) and hub.calls["commit"] == 0 and pauses.ours == [2, 8]
    hub.faults.clear()
    push_model(model, REPO, api=api)
    assert hub.put_bytes == sum(large.values())  # each once
    assert hub.files("models", REPO)["model.safetensors"] == (model / "model.safetensors").read_bytes()


@pytest.mark.parametrize("late", [False, True], ids=["not made", "made, but its answer was lost"])
def test_a_commit_that_breaks_off_is_tried_again_and_made_once(hub, api, model, pauses, late):
    hub.fail("commit", None, late=late)
    sha = push_model(model, REPO, api=api)
    assert pauses.ours == [2]
    assert len(hub.repositories["models", REPO].commits) == 2  # the empty one, and this
    assert hub.repositories["models", REPO].branches["main"] == sha


@pytest.mark.parametrize(
    ("kind", "status", "error", "message", "attempts"),
    [
        ("create", 401, PermissionError, "no token, or one that is not valid.*hf auth login.*HF_TOKEN", 1),
        ("commit", 401, PermissionError, "no token, or one that is not valid.*hf auth login.*HF_TOKEN", 1),
        ("preupload", 403, PermissionError, "this token may not write there.*name another repository", 1),
        ("commit", 429, ValueError, "too many requests.*wait 30 s.*not sent again", 1),
        ("commit", 500, ValueError, "could not be reached, or broke off.*500.*same command again", 3),
        ("commit", 400, ValueError, "the Hub refused it .*ordered", 1),
        ("yaml", 400, ValueError, "the Hub refused it .*Invalid metadata in README.md", 1),
    ],
)
def test_each_refusal_has_its_message(hub, api, model, kind, status, error, message, attempts):
    hub.fail(kind, status, times=1000, Retry_After="30")
    with pytest.raises(error, match=f"{hub.endpoint}/{REPO}: .*{message}.*The model is safe in {model}"):
        push_model(model, REPO, api=api)
    assert hub.calls[kind] == attempts
    assert not [sha for held in hub.repositories.values() for sha in list(held.commits)[1:]]


def test_a_missing_token_or_connection_is_found_before_training(hub, online, monkeypatch, tmp_path):
    check_push(REPO, private=True)
    assert hub.repositories["models", REPO].private
    with pytest.raises(PermissionError, match="may not write there"):
        check_push(REPO.replace("user", "other"))
    check_push("user/public")
    with pytest.raises(ValueError, match="found a public repository, expected a private one"):
        check_push("user/public", private=True)
    with pytest.raises(PermissionError, match="may not write there"):  # it is there, but another's
        check_push("user/public", api=HfApi(token=READER_TOKEN))
    with monkeypatch.context() as patch, pytest.raises(ValueError, match="HF_HUB_OFFLINE set, expected a connection"):
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        check_push(REPO)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(PermissionError, match="no token, or one that is not valid"):
        check_push(REPO)


def test_a_hub_that_is_not_there(online, model, pauses):
    with pytest.raises(ValueError, match=r"could not be reached.*ConnectError"):
        push_model(model, REPO, api=HfApi(endpoint="http://127.0.0.1:9", token="x"))
    assert pauses.ours == [2, 8]


def spoil(folder, how: str) -> None:
    record = json.loads((folder / "training_record.json").read_text())
    if how == "unfinished":
        record["finished"] = False
    if how == "recogniser":
        record["settings"]["model"] = "asr"
    (folder / "training_record.json").write_text(json.dumps(record))
    if how == "unrecorded":
        (folder / "training_record.json").unlink()
    if how in ("pickled", "no weights"):
        weights = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        (folder / "optimizer.pt").unlink()
        if how == "pickled":
            torch.save(weights, folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("no weights", FileNotFoundError, "found no trained model. Expected config.json and model.safetensors"),
        ("pickled", ValueError, "found weights in pytorch_model.bin, expected model.safetensors.*save_pretrained"),
        ("unrecorded", FileNotFoundError, "found a model without training_record.json"),
        ("unfinished", ValueError, "found an unfinished training.*run its command again"),
        ("recogniser", ValueError, "found a recogniser"),
    ],
)
def test_what_is_no_finished_model_is_refused_before_anything_is_sent(hub, api, model, how, error, message):
    spoil(model, how)
    with pytest.raises(error, match=message):
        push_model(model, REPO, api=api)
    assert not hub.calls


def test_a_demo_of_a_text_only_model(hub, api, model):
    config = json.loads((model / "config.json").read_text()) | {"custom_pipelines": None}
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"--space found a text-only model.*leave --space out"):
        push_model(model, REPO, space=True, api=api)
    assert not hub.calls


@pytest.mark.parametrize("name", ["emotion", "user/emo tion", "a/b/c", "user/emotion.git"])
def test_a_name_that_is_none(hub, api, model, name):
    with pytest.raises(ValueError, match=f"Repository '{name}': .*Expected user/name"):
        push_model(model, name, api=api)
    assert not hub.calls


def test_a_model_of_other_classes_than_emotions_needs_a_purpose(hub, api, model):
    config = json.loads((model / "config.json").read_text()) | {"id2label": {"0": "female", "1": "male", "2": "x"}}
    (model / "config.json").write_text(json.dumps(config))
    for purpose in (None, " "):
        with pytest.raises(ValueError, match=r"female, male, x, most of which are not emotions.*--purpose"):
            push_model(model, REPO, api=api, purpose=purpose)
    assert not hub.calls
    push_model(model, REPO, api=api, purpose="to balance corpora")
    assert "purpose='to balance corpora'" in hub.files("models", REPO)["README.md"].decode()
