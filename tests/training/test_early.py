"""A mistake on the command line of a training is refused before torch is imported; what is right passes."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from transformers import Seq2SeqTrainingArguments, TrainingArguments

from hf_ser.checks.study.plan import script_of
from hf_ser.training.arguments import OF_MODEL, AsrCommonArguments, TrainingSettings
from hf_ser.training.early import check_command_line, names_of_transformers
from hf_ser.training.parsing import EarlyParser, SettingsParser
from hf_ser.training.tasks import TASKS

RECIPES = sorted((Path(__file__).parents[2] / "scripts" / "recipes").glob("**/*.yaml"))
RECIPES = [file for file in RECIPES if file.parent.name != "studies"]


def look_at(monkeypatch, *words, name: str = "audio"):
    monkeypatch.setattr(sys, "argv", [f"train_{name}.py", *map(str, words)])
    check_command_line(name)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("--lora_rnk", "3"), "Unknown settings --lora_rnk 3: did you mean --lora_rank"),
        (("seeds/crn",), r"seeds/crn: no such recipe.*did you mean seeds/crnn.yaml"),
        (("whisper_ridge", "--head", "rigde"), "--head: invalid choice: 'rigde'"),
        (("--augment", "pink:0.5@5-20,telefone"), "found 'telefone', expected one of"),
        (("--max_seconds", "-3"), "--max_seconds is -3: expected 0.5 to 600 seconds"),
        (("--weight_decay", "x"), "invalid float value: .x."),
        (("--label_smoothing_factor", "2"), "--label_smoothing_factor is 2: expected 0 to 0.99"),
        (("--max_grad_norm", "much"), "invalid float value: 'much'"),
    ],
)
def test_a_mistake_is_refused(words, found, monkeypatch):
    with pytest.raises((ValueError, FileNotFoundError), match=found):
        look_at(monkeypatch, *words)


def test_an_unknown_key_of_a_recipe_is_refused(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text("audio_model: crnn\nmax_grad_nrom: 1\n")
    with pytest.raises(ValueError, match="unknown settings max_grad_nrom: did you mean max_grad_norm"):
        look_at(monkeypatch, tmp_path / "mine.yaml")


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_every_recipe_passes(file, monkeypatch):
    script = "train_fusion.py" if file.stem == "quickstart" else script_of(file)  # which names no model
    look_at(monkeypatch, file, name=script.removeprefix("train_").removesuffix(".py"))


def test_settings_of_transformers_pass_in_all_their_forms(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text("optim: adafactor\nsave_total_limit: 2\ndataloader_drop_last: true\n")
    given = ["--tf32", "true", "--no_load_best_model_at_end", "--report_to", "none", "--max-grad-norm", "1e-1"]
    look_at(monkeypatch, tmp_path / "mine.yaml", *given, "--gradient_checkpointing", "--learning_rate=1e-5")
    look_at(monkeypatch, "--generation_num_beams", "3", name="asr")


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_flag_of_the_whole_parser_passes(name):
    whole = SettingsParser(TASKS[name].classes, allow_abbrev=False)
    training = AsrCommonArguments if name == "asr" else TrainingSettings
    early = EarlyParser((*OF_MODEL[name], training), names_of_transformers())
    flags = {flag for action in whole._actions for flag in action.option_strings}
    assert not flags - {flag for action in early._actions for flag in action.option_strings}


def test_a_setting_that_is_gone_says_what_became_of_it(monkeypatch):
    with pytest.raises(ValueError, match="cache_frozen is gone; features of frozen encoders are always kept"):
        look_at(monkeypatch, "--cache_frozen", "true")


def test_the_settings_of_transformers_are_those_it_has():
    known = {one.name for kind in (TrainingArguments, Seq2SeqTrainingArguments) for one in fields(kind) if one.init}
    assert set(names_of_transformers()) == known


def test_torch_is_not_imported_for_it():
    code = (
        "import sys; from hf_ser.training.early import check_command_line\n"
        "sys.argv = ['train_audio.py', 'whisper_ridge', '--augment', 'white@15-25/room']\n"
        "check_command_line('audio')\n"
        "print(sorted({'torch', 'datasets', 'pandas', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
