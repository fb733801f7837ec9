"""A recipe gives values, flags override, and what is not known fails."""

import re
from pathlib import Path

import pytest

from hf_ser.training.arguments import (
    AdaptArguments,
    AudioArguments,
    DataArguments,
    FusionArguments,
    SerTrainingArguments,
    TextArguments,
    parse_arguments,
    settings,
)

ALL = (DataArguments, AudioArguments, TextArguments, FusionArguments, AdaptArguments, SerTrainingArguments)
RECIPES = sorted((Path(__file__).parents[2] / "scripts" / "recipes").glob("*.yaml"))


def recipe(tmp_path, text: str) -> str:
    (tmp_path / "r.yaml").write_text(text)
    return str(tmp_path / "r.yaml")


def test_flags_override_the_recipe_and_the_recipe_the_defaults(tmp_path):
    file = recipe(tmp_path, "learning_rate: 1e-4\nfusion: concat\nallow_leak: true\nfold: 2\n")
    data, audio, _, fusion, _, training = parse_arguments(ALL, [file, "--fusion", "mean", "--output_dir", "o"])
    assert training.learning_rate == 1e-4
    assert (fusion.fusion, data.allow_leak, data.fold, audio.audio_model) == ("mean", True, "2", "cnn")


def test_an_unknown_key_fails_and_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"unknown keys fusoin. Expected flags of this script; did you mean fusion"):
        parse_arguments(ALL, [recipe(tmp_path, "fusoin: concat\n")])


def test_an_unknown_flag_fails_with_what_was_meant():
    with pytest.raises(ValueError, match=r"Unknown arguments --audio_modle cnn.*did you mean --audio_model"):
        parse_arguments(ALL, ["--audio_modle", "cnn"])


def test_a_flag_of_another_script_fails():
    with pytest.raises(ValueError, match="Unknown arguments --fusion concat"):
        parse_arguments((DataArguments, AudioArguments, SerTrainingArguments), ["--fusion", "concat"])


def test_a_value_outside_the_choices_fails(tmp_path, capsys):
    with pytest.raises(SystemExit):
        parse_arguments(ALL, ["--fusion", "sum"])
    assert "invalid choice: 'sum'" in capsys.readouterr().err


def test_a_missing_or_broken_recipe_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.yaml: no such recipe"):
        parse_arguments(ALL, [str(tmp_path / "none.yaml")])
    with pytest.raises(ValueError, match="expected 'key: value' lines, found list"):
        parse_arguments(ALL, [recipe(tmp_path, "- a\n- b\n")])


def test_no_arguments_mean_the_default_recipe(tmp_path):
    file = recipe(tmp_path, "num_train_epochs: 3\n")
    assert parse_arguments(ALL, [], default_recipe=Path(file))[-1].num_train_epochs == 3
    assert parse_arguments(ALL, ["--seed", "1"], default_recipe=Path(file))[-1].num_train_epochs == 20


@pytest.mark.parametrize("file", RECIPES, ids=[f.stem for f in RECIPES])
def test_every_recipe_is_read_and_restates_no_default(file):
    arguments = parse_arguments(ALL, [str(file)])
    fresh = parse_arguments(ALL, [])
    for key in re.findall(r"^(\w+):", file.read_text(), re.M):
        given = next(getattr(a, key) for a in arguments if hasattr(a, key))
        default = next(getattr(a, key) for a in fresh if hasattr(a, key))
        assert given != default, f"{file.name} restates the default of {key}"


def test_settings_hold_what_decides_the_result():
    data, audio, *_, training = parse_arguments(
        ALL, ["--fold", "3", "--learning_rate", "5e-4", "--dataloader_num_workers", "2", "--audio_model", "m"]
    )
    assert settings(data, audio, training) == {"audio_model": "m", "learning_rate": 5e-4}
