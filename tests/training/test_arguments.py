"""A recipe gives values, flags override, and what is not known fails."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hf_ser.training.arguments import (
    AdaptArguments,
    AudioArguments,
    AugmentArguments,
    DataArguments,
    FusionArguments,
    HeadArguments,
    TextArguments,
)
from hf_ser.training.parsing import parse_arguments, settings
from hf_ser.training.trainer_arguments import SerTrainingArguments

ALL = (DataArguments, AudioArguments, TextArguments, FusionArguments, AdaptArguments, SerTrainingArguments)
RECIPES = sorted((Path(__file__).parents[2] / "scripts" / "recipes").glob("*.yaml"))


def recipe(tmp_path, text: str) -> str:
    (tmp_path / "r.yaml").write_text(text)
    return str(tmp_path / "r.yaml")


def test_flags_override_the_recipe_and_the_recipe_the_defaults(tmp_path):
    file = recipe(tmp_path, "learning_rate: 1e-4\nfusion: concat\nallow_leak: true\nfold: 2\n")
    data, audio, _, fusion, _, training = parse_arguments(ALL, [file, "--fusion", "mean", "--output_dir", "o"])
    assert training.learning_rate == 1e-4
    assert (fusion.fusion, data.allow_leak, data.fold, audio.audio_model) == ("mean", True, "2", "random_kernels")


def test_an_unknown_key_fails_and_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"unknown settings fusoin: did you mean fusion"):
        parse_arguments(ALL, [recipe(tmp_path, "fusoin: concat\n")])


def test_an_unknown_flag_fails_with_what_was_meant():
    with pytest.raises(ValueError, match=r"Unknown settings --audio_modle cnn.*did you mean --audio_model"):
        parse_arguments(ALL, ["--audio_modle", "cnn"])


def test_a_flag_cut_short_fails():
    with pytest.raises(ValueError, match=r"Unknown settings --num_train_epoch 3.*did you mean --num_train_epochs"):
        parse_arguments((SerTrainingArguments,), ["--num_train_epoch", "3"])


def test_a_flag_of_another_script_fails():
    with pytest.raises(ValueError, match="Unknown settings --fusion concat"):
        parse_arguments((DataArguments, AudioArguments, SerTrainingArguments), ["--fusion", "concat"])


def test_a_value_outside_the_choices_fails():
    with pytest.raises(ValueError, match=r"^argument --fusion: invalid choice: 'sum' [^\n]*; --help shows all$"):
        parse_arguments(ALL, ["--fusion", "sum"])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("num_train_epochs: many", "--num_train_epochs is many: expected a number."),
        ("num_train_epochs:", "--num_train_epochs is empty: expected a number."),
        ("num_train_epochs: [1, 2]", "--num_train_epochs is [1, 2]: expected a number."),
        ("seed: 1.5", "--seed is 1.5: expected a whole number."),
        ("bf16: sometimes", "--bf16 is sometimes: expected true or false."),
        ("audio_model: no", "--audio_model is false: expected a text (in quotes where YAML reads it as another kind"),
        ("optim: adamm", "--optim is adamm: expected one of adamw_torch"),
        ("learning_rate: {a: 1}", '--learning_rate is {"a": 1}: expected a number.'),
    ],
)
def test_a_value_of_the_wrong_kind_in_a_recipe_is_named_with_its_file(tmp_path, line, said, capsys):
    file = recipe(tmp_path, f"fusion: concat\n{line}\n")
    with pytest.raises(ValueError, match=re.escape(f"{file}: {said}")):
        parse_arguments(ALL, [file])
    assert not capsys.readouterr().err


def test_values_of_every_kind_in_a_recipe_are_read(tmp_path):
    lines = "lr_scheduler_kwargs: {num_cycles: 2}\nlr_scheduler_type: cosine_with_restarts\nreport_to: [none]\n"
    lines += "weight_decay: 0\ndata_dir: null\nlearning_rate: 1e-4\ndata_seed: 3\nfold: 2\nbf16: true\n"
    data, *_, training = parse_arguments(ALL, [recipe(tmp_path, lines)])
    assert (training.lr_scheduler_kwargs, training.learning_rate, training.data_seed) == ({"num_cycles": 2}, 1e-4, 3)
    assert (data.data_dir, data.fold, training.bf16, training.weight_decay) == (None, "2", True, 0)


def test_a_key_that_comes_twice_in_a_recipe_is_named_with_its_lines(tmp_path):
    file = recipe(tmp_path, "seed: 1\nfusion: concat\nseed: 2\n")
    with pytest.raises(ValueError, match=r"r\.yaml: .*line 3: found 'seed' again, which is in line 1 already"):
        parse_arguments(ALL, [file])


def test_the_ending_of_a_recipe_may_be_left_out(tmp_path, monkeypatch):
    recipe(tmp_path, "num_train_epochs: 3\n")
    monkeypatch.chdir(tmp_path)
    assert parse_arguments(ALL, ["r"])[-1].num_train_epochs == 3
    assert parse_arguments(ALL, ["quickstart", "--seed", "1"])[-1].output_dir == "runs/quickstart"
    with pytest.raises(FileNotFoundError, match=r"quikstart: no such recipe.*did you mean quickstart\.yaml\?"):
        parse_arguments(ALL, ["quikstart"])


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
    one_modality = "\nhead:" in file.read_text()
    classes = tuple(HeadArguments if one is FusionArguments and one_modality else one for one in ALL)
    classes = (*classes[:-1], AugmentArguments, classes[-1])
    arguments = parse_arguments(classes, [str(file)])
    fresh = parse_arguments(classes, [])
    for key in re.findall(r"^(\w+):", file.read_text(), re.M):
        given = next(getattr(a, key) for a in arguments if hasattr(a, key))
        default = next(getattr(a, key) for a in fresh if hasattr(a, key))
        assert given != default, f"{file.name} restates the default of {key}"


def test_settings_hold_what_decides_the_result():
    data, audio, *_, training = parse_arguments(
        ALL, ["--fold", "3", "--learning_rate", "5e-4", "--dataloader_num_workers", "2", "--audio_model", "m"]
    )
    assert settings(data, audio, training) == {"audio_model": "m", "learning_rate": 5e-4}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--label_smoothing_factor 1", "--label_smoothing_factor is 1: expected 0 to 0.99"),
        ("--class_weights 2", "--class_weights is 2: expected 0 to 1"),
        ("--search -1", "--search is -1: expected 0 or more"),
        ("--stages head:2@1e-3 --search 3", "each stage has its own learning rate"),
        (
            "--stages head:2@1e-3 --num_train_epochs 7",
            "--num_train_epochs is 7.0, --stages head:2@1e-3: the stages say",
        ),
        ("--stages head:2@1e-3 --learning_rate 1e-5", "--learning_rate is 1e-05, --stages"),
        ("--stages neck:2@1e-3", "'neck:2@1e-3' is not a stage"),
        ("--audio_layers 2,2", "--audio_layers is 2,2: found a layer twice, expected each once"),
        ("--audio_layers top", "--audio_layers is top: expected last, mix, or numbers of layers"),
        ("--enrolment_clips 3 --audio_model crnn", "found clips to know a speaker by, and nothing that uses them"),
        ("--lora_rank 4", "Expected --lora audio or text or both: add it, or leave --lora_rank out"),
    ],
)
def test_what_makes_no_sense_is_refused(given, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        parse_arguments(ALL, given.split())


def test_what_is_used_passes():
    used = "--lora text --lora_rank 4 --fusion mean --search 3 --cache_views 2"
    assert parse_arguments(ALL, used.split())[-1].search == 3


def test_values_of_a_recipe_are_checked_as_flags_are(tmp_path):
    with pytest.raises(ValueError, match="--freeze is head: expected one of none, audio, text, both"):
        parse_arguments(ALL, [recipe(tmp_path, "freeze: head\n")])


def test_stages_say_how_long_and_how_fast_training_is():
    training = parse_arguments(ALL, ["--stages", "head:5@1e-3,all:10@2e-5"])[-1]
    assert (training.num_train_epochs, training.learning_rate) == (15, 1e-3)
    changed = settings(training)
    assert changed == {"stages": "head:5@1e-3,all:10@2e-5", "num_train_epochs": 15}
    assert settings(replace(training, use_cpu=True)) == changed


def test_none_stands_for_what_a_model_does_by_itself():
    assert parse_arguments(ALL, [])[1].normalisation is None
    assert parse_arguments(ALL, ["--normalisation", "none"])[1].normalisation == "none"


def test_bf16_needs_no_word_about_the_processor_where_there_is_nothing_else():
    (training,) = parse_arguments((SerTrainingArguments,), ["--bf16", "true"])
    assert training.use_cpu == (not torch.accelerator.is_available())


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        *[("num_train_epochs", value) for value in ("0", "-1", "nan", "inf")],
        *[("learning_rate", value) for value in ("0", "-1e-3", "nan")],
        *[("max_steps", value) for value in ("0", "-5")],
    ],
)
def test_a_training_that_learns_nothing_is_refused(flag, value):
    with pytest.raises(ValueError, match=rf"--{flag} is .*xpected a number above 0"):
        parse_arguments((SerTrainingArguments,), [f"--{flag}={value}"])


@pytest.mark.parametrize(
    ("flag", "value", "wanted"),
    [
        *[("seed", value, r"0 to 4\.29497e\+09") for value in ("-1", "5000000000")],
        *[("per_device_train_batch_size", value, "1 or more") for value in ("0", "-4")],
        ("per_device_eval_batch_size", "0", "1 or more"),
        ("gradient_accumulation_steps", "0", "1 or more"),
        ("dataloader_num_workers", "-1", "0 or more"),
    ],
)
def test_what_a_library_would_refuse_late_is_refused_at_once(flag, value, wanted):
    with pytest.raises(ValueError, match=rf"--{flag} is .*: expected {wanted}"):
        parse_arguments((SerTrainingArguments,), [f"--{flag}={value}"])


def test_a_training_by_steps_or_by_a_part_of_an_epoch_is_none_of_these():
    (training,) = parse_arguments((SerTrainingArguments,), ["--max_steps", "3"])
    assert training.max_steps == 3
    (training,) = parse_arguments((SerTrainingArguments,), ["--num_train_epochs", "0.1"])
    assert training.num_train_epochs == 0.1


def test_all_settings_are_shown_on_request(capsys):
    with pytest.raises(SystemExit):
        parse_arguments(ALL, ["--help-all"])
    assert "--adam_beta2" in capsys.readouterr().out
