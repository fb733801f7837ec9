"""Fine-tuning a recogniser: whole runs of train_asr.py on a few clips, what they write and refuse, how they go on."""

import importlib.util
import json
import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from models.tiny import AUDIO
from peft import PeftModel
from permissions import assert_as_any_new_file
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForAudioClassification
from whisper.tokenizer import get_tokenizer

from hf_ser.data.folds import Fold
from hf_ser.data.prepared import load_prepared
from hf_ser.data.splitting import make_folds
from hf_ser.runs.checkpoints import weights_digests
from hf_ser.runs.record import hashed, is_finished, read_record
from hf_ser.training import asr, asr_task
from hf_ser.training.building import Candidate
from hf_ser.transcripts.random_whisper import write_random_whisper
from hf_ser.transcripts.transformers_whisper import TransformersWhisper, load_whole
from hf_ser.transcripts.wer import error_rate

ROOT = Path(__file__).parents[2]
QUICK = (
    *("--language", "en", "--disable_tqdm", "true"),
    *("--generation_max_length", "12", "--metric_for_best_model", "loss"),
)
LORA = ("--lora", "true", "--num_train_epochs", "2", "--per_device_train_batch_size", "2", "--warmup_steps", "0")


@pytest.fixture(scope="module")
def whisper(tmp_path_factory) -> Path:
    """A random Whisper of transformers."""
    return write_random_whisper(tmp_path_factory.mktemp("whisper"), "mini")[1]


@pytest.fixture(scope="module")
def few(prepared, tmp_path_factory) -> tuple:
    """Flags for a split of 12 of the clips, one a label in each part: a window of 30 s takes its time."""
    rows = load_prepared(prepared).select_columns(["id", "speaker", "label"]).to_list()
    clips = {speaker: [row for row in rows if row["speaker"] == f"table/s{speaker}"] for speaker in range(1, 5)}
    speakers = {"train": (1, 1, 1, 1), "validation": (2, 2, 2, 2), "test": (3, 4, 3, 4)}
    parts = {
        part: [next(row["id"] for row in clips[who] if row["label"] == label) for label, who in enumerate(spoken)]
        for part, spoken in speakers.items()
    }
    file = tmp_path_factory.mktemp("split") / "split.json"
    file.write_text(json.dumps(parts))
    return ("--dataset", prepared, "--protocol", "fixed", "--split_file", file, *QUICK)


@pytest.fixture(scope="module")
def run(few, whisper, tmp_path_factory) -> Path:
    """A finished run through LoRA."""
    output_dir = tmp_path_factory.mktemp("run") / "o"
    spec = importlib.util.spec_from_file_location("train_asr_once", ROOT / "scripts" / "train_asr.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.MonkeyPatch.context() as patch:
        flags = (*few, *LORA, "--asr_model", whisper, "--output_dir", output_dir)
        patch.setattr(sys, "argv", ["train_asr", *map(str, flags)])
        module.main()
    return output_dir


@pytest.fixture(scope="module")
def candidate(whisper) -> Candidate:
    """The same, ready to be trained."""
    return asr.build_asr(asr.AsrArguments(asr_model=str(whisper)), "1", "en", {})


def validation_loss(model, processor, prepared, few) -> float:
    """Of a model as it was loaded, over the rows that choose the checkpoint."""
    data = load_prepared(prepared)
    fold = make_folds(data, "fixed", split_file=few[5])[0]
    words = dict(zip(data["id"][:], data["transcript"][:], strict=True))
    collate = asr.AsrCollator(processor, words, model.config.max_source_positions)
    with torch.inference_mode():
        return model.eval()(**collate(data.select(fold.validation).to_list())).loss.item()


def test_a_run_writes_all_that_is_promised(run, few):
    fold = run / "fold_1"
    for name in (
        "../wer_before.png",
        "../wer_after.png",
        "wer.json",
        "transcripts.jsonl",
        "model.safetensors",
        "adapter",
    ):
        assert (fold / name).exists(), name
    assert not (fold / "checkpoints").exists()
    assert not list(fold.glob("*.bin"))
    assert_as_any_new_file(fold)  # the adapter's too
    record, report = read_record(fold), json.loads((run / "report.json").read_text())
    assert (report["corpus"], report["protocol"], report["language"]) == ("table", "fixed", "en")
    assert report["folds"] == {"1": record.split.split_fingerprint}
    assert report["settings"]["learning_rate"] == 1e-3, "the default of LoRA"
    assert record.parameters_trained < record.parameters / 10
    assert record.weights == weights_digests(fold), "what every task's record says"
    losses = [log["loss"] for log in record.history if "loss" in log]
    assert losses[0] > losses[1]
    lines = [json.loads(line) for line in (fold / "transcripts.jsonl").read_text().splitlines()]
    tested = json.loads(Path(few[5]).read_text())["test"]
    assert sorted(line["id"] for line in lines) == sorted(tested)
    met = {*record.split.train.ids, *record.split.validation.ids}
    assert len(met) == 8
    assert not met & {hashed(name) for name in tested}
    for when in ("before", "after"):
        wanted = error_rate([line["reference"] for line in lines], [line[when] for line in lines], ["en"] * 4)
        assert report["wer"][when]["wer"] == report["per_fold"]["1"][when] == wanted
    assert [line["before"] for line in lines] != [line["after"] for line in lines]


def test_what_loads_is_what_was_trained_through_lora(run, whisper, prepared, few):
    record, (merged, processor) = read_record(run / "fold_1"), load_whole(str(run / "fold_1"))
    assert validation_loss(merged, processor, prepared, few) == pytest.approx(record.best_validation, rel=1e-5)
    told = merged.generation_config
    assert (processor.tokenizer.language, told.language, told.task) == ("en", "en", "transcribe")
    assert told.temperature is None, "Seq2SeqTrainer's defaults are not written into it"
    recogniser = TransformersWhisper(merged, processor, "fold_1", "cpu", "float32")
    assert record.asr["after"].endswith(f"fold_1@{recogniser.revision}"), "what was measured is what is there"
    base_and_adapter = PeftModel.from_pretrained(load_whole(str(whisper))[0], run / "fold_1" / "adapter")
    inputs = {"input_features": torch.randn(1, 80, 3000), "decoder_input_ids": torch.tensor([[50258, 50259, 50359]])}
    with torch.inference_mode():
        logits = [model.eval()(**inputs).logits for model in (merged, base_and_adapter)]
    torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-3)


def test_what_loads_is_what_was_trained_whole(whisper, prepared, few, script, tmp_path, monkeypatch, capsys):
    """With a window of 3 s and nothing to transcribe, as with --fold final."""
    model, processor = load_whole(str(whisper))
    encoder = model.get_encoder()
    encoder.embed_positions = nn.Embedding.from_pretrained(encoder.embed_positions.weight[:150])
    model.config.max_source_positions = 150
    for part in (model, processor):
        part.save_pretrained(tmp_path / "short")
    monkeypatch.setattr(asr_task, "compare", lambda *_: ({}, {}))
    slices = ("--per_device_train_batch_size", "1", "--gradient_accumulation_steps", "4")
    once = ("--num_train_epochs", "1", "--warmup_steps", "0")
    flags = (*slices, *once, "--asr_model", tmp_path / "short")
    script("train_asr", *few, *flags, "--output_dir", tmp_path / "o")
    record, folder = read_record(tmp_path / "o" / "fold_1"), tmp_path / "o" / "fold_1"
    found = validation_loss(*load_whole(str(folder)), prepared, few)
    assert found == pytest.approx(record.best_validation, rel=1e-5)
    first = record.history[0]["loss"]
    assert first < 100, "the mean over the tokens of a step, not the sum over the steps that are accumulated"
    before, after = (load_file(one / "model.safetensors") for one in (tmp_path / "short", folder))
    assert {key.split(".")[1] for key in before if not torch.equal(before[key], after[key])} == {"encoder", "decoder"}
    assert "No speaker was left to test" in capsys.readouterr().out


def test_a_killed_run_goes_on_from_its_checkpoint(run, few, whisper, script, tmp_path, monkeypatch):
    flags = (*few, *LORA, "--asr_model", whisper, "--output_dir", tmp_path / "o")

    class KilledError(Exception):
        pass

    evaluate, calls = asr.AsrTrainer.evaluate, []

    def dies_in_the_second_epoch(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KilledError
        return evaluate(self, *args, **kwargs)

    monkeypatch.setattr(asr.AsrTrainer, "evaluate", dies_in_the_second_epoch)
    monkeypatch.setattr(asr_task, "compare", lambda *_: ({}, {}))
    with pytest.raises(KilledError):
        script("train_asr", *flags)
    fold = tmp_path / "o" / "fold_1"
    assert [checkpoint.name for checkpoint in (fold / "checkpoints").iterdir()] == ["checkpoint-2"]
    assert not is_finished(fold)
    assert read_record(fold).split.train.ids, "a checkpoint says whom it has met"
    script("train_asr", *flags)
    assert len(calls) == 3, "the first epoch is not done again"
    a, b = (load_file(folder / "model.safetensors") for folder in (fold, run / "fold_1"))
    assert all(torch.allclose(a[key], b[key], rtol=0, atol=1e-5) for key in b), "as an unbroken run"


def test_a_finished_run_is_not_trained_again_and_its_folder_holds_one_run(run, few, whisper, script, capsys):
    before = {file: file.stat().st_mtime_ns for file in run.rglob("model.safetensors")}
    flags = (*few, *LORA, "--asr_model", whisper, "--output_dir", run)
    script("train_asr", *flags)
    assert "fold 1 is done" in (said := capsys.readouterr().out)
    assert "WER  95 % interval" in said
    assert before == {file: file.stat().st_mtime_ns for file in run.rglob("model.safetensors")}
    with pytest.raises(ValueError, match=r"holds another run \(lora_rank was default, is 4\)"):
        script("train_asr", *flags, "--lora_rank", "4")


def test_a_recogniser_that_has_met_the_test_speakers_is_refused(run, few, script, tmp_path):
    parts = json.loads(Path(few[5]).read_text())
    (tmp_path / "s.json").write_text(json.dumps({**parts, "train": parts["test"], "test": parts["train"]}))
    flags = (*few[:5], tmp_path / "s.json", *QUICK, "--asr_model", run / "fold_{fold}", "--output_dir", tmp_path / "o")
    with pytest.raises(ValueError, match="this asr model was trained on data that fold 1 uses as test"):
        script("train_asr", *flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--language", "xx"), r"--language xx: .* does not know it. Expected one of .*\ben\b"),
        (("--target", "votes"), "--target is votes: found a setting of emotion models"),
        (("--push_to_hub", "true"), "--push_to_hub true: found a recogniser, which training does not push"),
        (("--asr_model", "ENCODER"), "weights are not in the checkpoint .such as model.decoder"),
    ],
)
def test_what_cannot_be_trained_is_refused(few, whisper, script, tmp_path, flags, message):
    config, extractor = AUDIO["whisper"]()
    AutoModelForAudioClassification.from_config(config).save_pretrained(tmp_path / "e")
    extractor.save_pretrained(tmp_path / "e")
    flags = [tmp_path / "e" if flag == "ENCODER" else flag for flag in flags]
    with pytest.raises(ValueError, match=message):
        script("train_asr", *few, "--asr_model", whisper, "--output_dir", tmp_path / "o", *flags)


def rows_of(dataset_of, **more):
    rows = [(f"ravdess/{clip}", ("sad", "angry")[clip % 2], f"ravdess/{clip}", "female") for clip in range(6)]
    columns = {
        "corpus": ["ravdess"] * 6,
        "transcript": ["Hello there.", "hello, there", "[laughter]", None, "good day", "another one"],
        "transcript_source": ["reference", "reference", "reference", None, "reference", "whisper@0"],
        "duration_seconds": [1.0, 2.0, 1.0, 1.0, 31.0, 1.0],
    }
    return dataset_of(rows, **{**columns, **more})


def test_rows_without_words_or_too_long_are_left_out_and_counted(dataset_of):
    data = rows_of(dataset_of)
    rows, notices = asr_task.usable_rows(data, asr_task.references(data), "en")
    assert rows == {0, 1}
    assert notices == [
        "3 of 6 clips have no audio or no reference transcript: left out",
        "1 of 6 clips are longer than 30 s: left out",
    ]
    fold = Fold("1", np.array([0, 4]), np.array([2]), np.array([1]), "f")
    with pytest.raises(ValueError, match="Fold 1: none of its validation clips has audio and a reference transcript"):
        asr_task.with_rows(fold, rows)
    kept = asr_task.with_rows(fold, rows | {2})
    assert (kept.train.tolist(), kept.test.tolist(), kept.fingerprint) == ([0], [1], "f")
    assert asr_task.known_texts(data, kept) == 1, "the same words but for capitals and punctuation"
    with pytest.raises(ValueError, match="None of 6 clips has both audio and a reference transcript"):
        asr_task.usable_rows(data, [None] * 6, "en")


def test_the_language_is_the_corpus_s_where_all_agree(dataset_of):
    assert asr_task.spoken_language(rows_of(dataset_of), None) == "en"
    joined = rows_of(dataset_of, corpus=["ravdess"] * 3 + ["emodb"] * 3)
    with pytest.raises(ValueError, match=r"the corpora \(emodb, ravdess\) are not known to be of one language"):
        asr_task.spoken_language(joined, None)
    assert asr_task.spoken_language(joined, "de") == "de"


@pytest.mark.parametrize(("language", "text", "answer"), [("en", "Kids are", " Kids are"), ("ja", " 子供", "子供")])
def test_a_text_is_taught_as_whisper_writes_it(candidate, language, text, answer):
    """The tokens that openai-whisper opens and ends with, without the start, which the model puts there itself."""
    tokenizer = deepcopy(candidate.processor.tokenizer)
    if language != "en":
        tokenizer.set_prefix_tokens(language=language)
    theirs = get_tokenizer(True, language=language, task="transcribe")
    wanted = [*theirs.sot_sequence_including_notimestamps, *theirs.encode(answer), theirs.eot]
    assert asr.label_tokens(tokenizer, text) == wanted[1:]
    assert candidate.model.config.decoder_start_token_id == wanted[0]


def test_what_a_model_has_no_positions_for_is_not_taught(candidate):
    words = ["short", "long " * 500, "short", "long " * 500]
    fold = Fold("1", np.array([0, 1]), np.array([2]), np.array([3]), "f")
    kept, notices = asr_task.without_long_texts(fold, candidate, words)
    assert (kept.train.tolist(), kept.validation.tolist(), kept.test.tolist()) == ([0], [2], [3])
    assert notices == ["fold 1: 1 clips have transcripts of over 448 tokens: left out of training"]
