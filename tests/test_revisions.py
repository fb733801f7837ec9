"""Names of the Hub with a revision, and names on disk that only look like one."""

import pytest

from hf_ser import revisions
from hf_ser.revisions import checkpoint_config, split_revision


def test_a_revision_is_what_follows_the_at_sign_unless_the_name_lies_on_disk(tmp_path):
    assert split_revision("user/name") == ("user/name", None)
    assert split_revision("user/name@v1.0") == ("user/name", "v1.0")
    folder = tmp_path / "runs@home"
    assert split_revision(str(folder)) == (str(tmp_path / "runs"), "home")
    folder.mkdir()
    assert split_revision(str(folder)) == (str(folder), None)


@pytest.mark.parametrize("name", ["user/name@", "@main"])
def test_half_a_name_is_refused(name):
    with pytest.raises(ValueError, match="expected user/name@revision"):
        split_revision(name)


def test_a_revision_of_a_folder_is_refused_for_it_would_be_passed_over(tmp_path, monkeypatch):
    (tmp_path / "user" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for use in (split_revision, checkpoint_config):
        with pytest.raises(ValueError, match=r"found the folder user/name, .*Leave out @deadbeef"):
            use("user/name@deadbeef")
    assert split_revision("user/name") == ("user/name", None)


def test_a_missing_checkpoint_is_refused_with_the_remedy(tmp_path):
    for name in (str(tmp_path), "nobody/nothing@main"):
        with pytest.raises(FileNotFoundError, match="found neither a model folder nor a model of the Hub"):
            checkpoint_config(name)


def test_a_run_is_not_a_model_and_its_models_are_named(tmp_path):
    (tmp_path / "fold_1").mkdir()
    (tmp_path / "fold_1" / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"found a run's folder, expected one of its models: name .*fold_1"):
        checkpoint_config(str(tmp_path))


def test_a_mistyped_folder_is_not_looked_up_on_the_hub(tmp_path, monkeypatch):
    def fail(*_):
        raise AssertionError("looked up")

    monkeypatch.setattr(revisions, "_look_up", fail)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "quickstart" / "fold_1").mkdir(parents=True)
    for name, remedy in (
        ("runs/quikstart", r"did you mean runs/quickstart\? \(For the model of the Hub give runs/quikstart@main\.\)"),
        ("runs/quickstart/fold_2", "did you mean runs/quickstart/fold_1"),
        ("./nothing", "check its spelling"),
        ("a/b/c", "check its spelling"),
        (str(tmp_path / "runs" / "x"), "check its spelling"),
    ):
        with pytest.raises(FileNotFoundError, match=f"found no such folder. .*{remedy}"):
            revisions.checkpoint_config(name)
    for name in ("user/name", "runs/quikstart@main"):  # meant as of the Hub
        with pytest.raises(AssertionError, match="looked up"):
            revisions.checkpoint_config(name)
