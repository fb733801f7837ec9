"""Settings that a library would refuse late, or follow into nonsense, are refused as they are read, by name."""

import math
import re
import typing
from dataclasses import fields

import pytest
from transformers import TrainingArguments

from hf_ser.settings import Range
from hf_ser.training.arguments import (
    AdaptArguments,
    AsrArguments,
    AudioArguments,
    DataArguments,
    FusionArguments,
    TextArguments,
)
from hf_ser.training.asr import AsrTrainingArguments
from hf_ser.training.limits import METHODS, RANGES, UNUSED
from hf_ser.training.parsing import parse_arguments
from hf_ser.training.trainer_arguments import SerTrainingArguments

ALL = (DataArguments, AudioArguments, TextArguments, FusionArguments, AdaptArguments, SerTrainingArguments)
ASR = (AsrArguments, AsrTrainingArguments)


def numeric(cls) -> set[str]:
    """Names of the settings that may be a number and are no switch."""
    hints = typing.get_type_hints(cls)
    kinds = {f.name: {hints[f.name], *typing.get_args(hints[f.name])} for f in fields(cls) if f.init}
    return {name for name, kind in kinds.items() if kind & {int, float}}


def refused(given: str, said: str, classes=(SerTrainingArguments,)) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        parse_arguments(classes, given.split())


@pytest.mark.parametrize("cls", [*ALL, *ASR], ids=lambda cls: cls.__name__)
def test_every_number_has_a_range(cls):
    say_it_themselves = {f.name for f in fields(cls) if f.metadata.get("range")}
    by_length = {"num_train_epochs", "max_steps", "learning_rate"}  # of `check_length`
    assert numeric(cls) - RANGES.keys() - say_it_themselves - by_length == set()


def test_every_range_names_a_setting_of_transformers():
    ours = {f.name for cls in (*ALL, *ASR) for f in fields(cls) if f.metadata.get("range")}
    assert RANGES.keys() - set().union(*map(numeric, (*ALL, *ASR))) == RANGES.keys() & ours == set()
    known = {f.name for cls in (TrainingArguments, AsrTrainingArguments) for f in fields(cls)}
    assert (METHODS.keys() | UNUSED.keys()) - known == set()


def test_a_range_says_what_it_holds():
    assert [str(one) for one in (Range(0, 1), Range(1), Range(0, above=True), Range(0, 1, below=True))] == [
        *("0 to 1", "1 or more", "above 0", "0 or more and below 1")
    ]
    assert Range(0, 1, above=True).holds(1) and not Range(0, 1, above=True).holds(0)
    assert not Range(0, 1, below=True).holds(1) and not Range(0, 1).holds(math.nan)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--adam_beta1 2", "--adam_beta1 is 2: expected 0 or more and below 1."),
        ("--adam_beta2 1", "--adam_beta2 is 1: expected 0 or more and below 1."),
        ("--adam_epsilon=-1", "--adam_epsilon is -1: expected 0 or more."),
        ("--warmup_steps=-5", "--warmup_steps is -5: expected 0 or more."),
        ("--weight_decay=-1", "--weight_decay is -1: expected 0 or more."),
        ("--max_grad_norm=-1", "--max_grad_norm is -1: expected 0 or more."),
        ("--data_seed=-1", "--data_seed is -1: expected 0 to"),
        ("--save_total_limit 0", "--save_total_limit is 0: expected 1 or more."),
        ("--label_smoothing_factor 3", "--label_smoothing_factor is 3: expected 0 to 0.99."),
        ("--logging_steps=-1", "--logging_steps is -1: expected above 0."),
        ("--eval_accumulation_steps 0", "--eval_accumulation_steps is 0: expected 1 or more."),
        ("--ddp_timeout 0", "--ddp_timeout is 0: expected 1 or more."),
        ("--seed 1" + 400 * "0", "expected 0 to 4.29497e+09, a number that is finite."),
    ],
)
def test_a_number_out_of_its_range_is_refused(given, said):
    refused(given, said)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("cls", [*ALL, *ASR], ids=lambda cls: cls.__name__)
def test_what_is_no_finite_number_is_refused_of_every_setting(cls, value):
    for name in numeric(cls):
        with pytest.raises(ValueError, match=rf"--{name} is -?(nan|inf).*xpected "):
            cls(**{name: float(value)})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"lr_scheduler_type": "foo"}, "--lr_scheduler_type is foo: expected one of linear, cosine"),
        ({"optim": "adamw_torhc"}, "did you mean adamw_torch"),
        ({"eval_strategy": "epochs"}, "is epochs: expected one of no, steps, epoch (did you mean epoch?)"),
        ({"save_strategy": "never"}, "--save_strategy is never: expected one of no, steps, epoch, best."),
        ({"logging_strategy": "x"}, "--logging_strategy is x: expected one of no, steps, epoch."),
        ({"train_sampling_strategy": "x"}, "--train_sampling_strategy is x: expected one of random, sequential"),
        ({"report_to": "nonsense"}, "--report_to nonsense: found no tracker of this name"),
        ({"metric_for_best_model": "foo"}, "--metric_for_best_model is foo: expected one of uar, wa, macro_f1"),
        ({"metric_for_best_model": "eval_f1"}, "--metric_for_best_model is eval_f1: expected one of uar"),
        ({"greater_is_better": False}, "the highest value is best. Expected true: leave it out."),
        ({"debug": "everything"}, "transformers refuses the training settings (ValueError: everything is not"),
        ({"fsdp_config": "none.json", "fsdp": "full_shard"}, "transformers refuses the training settings"),
        ({"fp16": True}, "--fp16 is true: found no GPU"),
    ],
)
def test_a_method_that_is_none_is_refused(given, said, monkeypatch):
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    with pytest.raises(ValueError, match=re.escape(said)):
        SerTrainingArguments(**given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--eval_strategy no", "--eval_strategy no: found a training that is never evaluated"),
        ("--eval_strategy no --load_best_model_at_end false", "--early_stopping_patience 0."),
        ("--save_strategy no", "--save_strategy no: found a training that saves no checkpoint"),
        ("--save_strategy steps", "--save_strategy is steps, --eval_strategy is epoch: the best checkpoint is among"),
        ("--eval_strategy steps --save_strategy steps --eval_steps 20 --save_steps 30", "multiple"),
    ],
)
def test_a_best_checkpoint_that_cannot_be_found_is_refused(given, said):
    refused(given, said)


@pytest.mark.parametrize(
    "given",
    [
        "--eval_strategy no --save_strategy no --load_best_model_at_end false --early_stopping_patience 0",
        "--save_strategy no --load_best_model_at_end false",
        "--save_strategy best",
        '--lr_scheduler_type cosine_with_restarts --lr_scheduler_kwargs {"num_cycles":2}',
        "--optim sgd --optim_args momentum=0.9",
        "--optim adafactor",
        "--dataloader_num_workers 2 --dataloader_persistent_workers true",
        "--do_train --do_eval",
    ],
)
def test_what_goes_together_passes(given):
    parse_arguments((SerTrainingArguments,), given.split())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--lr_scheduler_type warmup_stable_decay", "--lr_scheduler_type warmup_stable_decay: it cannot be made"),
        ('--lr_scheduler_kwargs {"cycles":2}', "--lr_scheduler_type linear --lr_scheduler_kwargs {'cycles': 2}: it"),
        ("--optim sgd --optim_args momentum=-1", "--optim sgd --optim_args momentum=-1: it cannot be made"),
        ("--optim galore_adamw", "--optim galore_adamw: it cannot be made"),
        ("--dataloader_persistent_workers true", "found a setting of loader workers, of which there are none"),
        ("--dataloader_prefetch_factor 2", "--dataloader_prefetch_factor is 2, --dataloader_num_workers is 0"),
        ("--resume_from_checkpoint x", "--resume_from_checkpoint is x: found a setting that is not used here"),
        ("--remove_unused_columns true", "the collator reads the rows whole. Expected false: leave it out."),
        ("--hub_strategy checkpoint", "--hub_strategy is checkpoint: found a setting that is not used here"),
        ("--prediction_loss_only true", "need the predictions. Expected false"),
        ("--label_names a b", "--label_names is ['a', 'b']: found a setting that is not used here"),
    ],
)
def test_what_would_not_be_followed_is_refused(given, said):
    refused(given, said)


@pytest.mark.parametrize(("name", "higher"), [("uar", True), ("eval_mcc", True), ("loss", False), ("eval_ece", False)])
def test_whether_more_is_better_follows_from_the_metric(name, higher):
    (training,) = parse_arguments((SerTrainingArguments,), ["--metric_for_best_model", name])
    assert training.greater_is_better is higher


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--metric_for_best_model uar", "--metric_for_best_model is uar: expected one of wer, loss."),
        ("--predict_with_generate false", "--predict_with_generate is False: found a setting that is not used here"),
        ("--label_smoothing_factor 0.1", "has no start token without them. Expected 0: leave it out."),
        ("--lora_rank 0", "--lora_rank is 0: expected 1 or more."),
        ("--generation_max_length 0", "--generation_max_length is 0: expected 1 or more."),
    ],
)
def test_settings_of_a_recogniser_are_checked_as_well(given, said):
    refused(given, said, ASR)


@pytest.mark.parametrize("cls", [SerTrainingArguments, AsrTrainingArguments])
def test_a_level_of_logging_that_is_none_is_refused(cls):
    with pytest.raises(ValueError, match="--log_level is loud: expected one of detail, debug"):
        cls(log_level="loud")
