"""Runs of train_text.py: the requested transcripts are what the model is given, row by row."""

import json
import shutil
from collections import Counter

import pytest
import torch
from datasets import Value
from transformers import AutoTokenizer

from hf_ser.data.prepared import REPORT, load_prepared
from hf_ser.data.splitting import make_folds
from hf_ser.inputs.targets import SetColumns
from hf_ser.models import SerModelForClassification
from hf_ser.runs.predictions import read_predictions
from hf_ser.runs.record import RECORD, TrainingRecord, read_record, split_record, write_record
from hf_ser.training import emotion_task, run
from hf_ser.training.arguments import DataArguments
from hf_ser.transcripts.fold_transcripts import fold_transcripts

ASR = "whisper@abc"
QUICK = ("--num_train_epochs", "1", "--n_folds", "3", "--disable_tqdm", "true", "--early_stopping_patience", "0")


@pytest.fixture(scope="module")
def transcribed(prepared, tmp_path_factory):
    """The small corpus as scripts/transcribe.py leaves it.

    The recogniser heard every `a` as `o`, silence in one clip of each speaker, and failed on another of each.
    """
    data = load_prepared(prepared)
    own, nth = data["transcript"][:], Counter()
    heard = []
    for text, speaker in zip(own, data["speaker"][:], strict=True):
        nth[speaker] += 1
        heard.append({1: "", 2: None}.get(nth[speaker], text.replace("a", "o")))
    columns = {
        "transcript": heard,
        "transcript_source": [None if text is None else ASR for text in heard],
        "reference_transcript": own,
    }
    data = data.remove_columns(["transcript", "transcript_source"])
    for name, column in columns.items():
        data = data.add_column(name, column, feature=Value("string"))
    sure = [None if text is None else -len(text) / 10 for text in heard]
    data = data.add_column("asr_avg_logprob", sure, feature=Value("float32"))
    folder = tmp_path_factory.mktemp("transcribed") / "data"
    data.save_to_disk(folder)
    shutil.copy(prepared / REPORT, folder)
    return folder


@pytest.fixture(autouse=True)
def given(monkeypatch):
    """What the GRU is given, as counts of rows of tokens; how many rows are read at once; and what the audit reads.

    The audit finds nothing, for it takes longer than the rest.
    """
    seen = {"train": Counter(), "evaluation": Counter(), "rows": [0], "audited": []}
    forward, read = SerModelForClassification.forward, SetColumns.__call__

    def watched(self, input_ids, text_mask, labels=None):
        kind = "train" if self.training else "evaluation"
        seen[kind].update(tuple(row[mask.bool()].tolist()) for row, mask in zip(input_ids, text_mask, strict=True))
        return forward(self, input_ids=input_ids, text_mask=text_mask, labels=labels)

    def counted(self, rows):
        seen["rows"].append(len(rows["id"]))
        return read(self, rows)

    def audited(dataset, *_):
        seen["audited"] = dataset["transcript"][:]
        return []

    def uncalibrated(trainer, config, validation):  # which would read the validation rows once more
        config.calibration_temperature, config.abstain_threshold = 1.0, 0.5

    monkeypatch.setattr(run, "audit_data", audited)
    monkeypatch.setattr(emotion_task, "calibrate", uncalibrated)
    monkeypatch.setattr(emotion_task, "learn_familiarity", lambda *_: None)  # likewise, and the training rows
    monkeypatch.setattr(SerModelForClassification, "forward", watched)
    monkeypatch.setattr(SetColumns, "__call__", counted)
    return seen


def first_fold(folder):
    data = load_prepared(folder)
    return data, make_folds(data, "speaker_folds", "1", n_folds=3)[0]


def tokens(output_dir, texts) -> Counter:
    """Texts as the model of a run is given them; [UNK] stands for no words."""
    tokenizer = AutoTokenizer.from_pretrained(output_dir / "fold_1")
    return Counter(tuple(tokenizer(text or "[UNK]")["input_ids"]) for text in texts)


@pytest.mark.parametrize(
    ("source", "column", "told"),
    [
        (None, "transcript", {ASR, None}),
        ("reference", "reference_transcript", {"reference"}),
        ("mixed", "transcript", {ASR, None}),
    ],
)
def test_the_model_reads_the_words_of_the_source(transcribed, script, tmp_path, given, source, column, told):
    flags = () if source is None else ("--transcript_source", source)
    script("train_text", "--dataset", transcribed, *QUICK, *flags, "--output_dir", tmp_path)
    data, fold = first_fold(transcribed)
    judged = [data[column][row] for row in (*fold.validation, *fold.test)]
    assert given["evaluation"] == tokens(tmp_path, judged)
    assert given["audited"] == data[column][:]
    trained = [data[column][row] for row in fold.train]
    if source == "mixed":
        trained = list(fold_transcripts(data, fold, DataArguments(transcript_source="mixed"), 42).text.values())
        trained = trained[: len(fold.train)]
        assert None not in trained
    assert given["train"] == tokens(tmp_path, trained)
    assert {row.transcript_source for row in read_predictions(tmp_path / "predictions.jsonl")} == told
    report = json.loads((tmp_path / "report.json").read_text())
    assert ("per_asr_confidence" in report) == (source != "reference")
    record = read_record(tmp_path / "fold_1")
    assert ("reference" in record.transcript_sources) == (source is not None)
    assert record.settings.get("transcript_source") == source
    assert (max(given["rows"]) > 0) == (source == "mixed"), "rows are read through nothing where the data set has them"


def test_sentences_on_training_rows_leave_evaluation_as_it_is(prepared, script, tmp_path, given):
    bank = tmp_path / "mine.yaml"
    bank.write_text("happy: [Hurray!]\n")
    flags = ("--dataset", prepared, *QUICK, "--sentence_bank", f"default,{bank}")
    flags += ("--per_device_train_batch_size", "8", "--per_device_eval_batch_size", "8")
    script("train_text", *flags, "--output_dir", tmp_path)
    data, fold = first_fold(prepared)
    assert given["evaluation"] == tokens(tmp_path, [data["transcript"][row] for row in (*fold.validation, *fold.test)])
    words = fold_transcripts(data, fold, DataArguments(sentence_bank=f"default,{bank}"), 42)
    names = [data["id"][row] for row in fold.train]
    assert given["train"] == tokens(tmp_path, [words.text[name] for name in names])
    assert sum(words.source[name] == "reference+bank" for name in names) > 8
    assert max(given["rows"]) == 8, "the test rows are ordered without reading all of their sound"
    assert {row.transcript_source for row in read_predictions(tmp_path / "predictions.jsonl")} == {"reference"}
    assert read_record(tmp_path / "fold_1").leaks == []
    bank.write_text("happy: [Whoopee!]\n")
    with pytest.raises(ValueError, match=r"holds another run \(other data\)"):
        script("train_text", *flags, "--output_dir", tmp_path)


def test_a_recogniser_that_was_trained_on_the_test_speakers_is_refused(transcribed, script, tmp_path):
    data = load_prepared(transcribed)
    other = make_folds(data, "speaker_folds", "2", n_folds=3)[0]
    folder = shutil.copytree(transcribed, tmp_path / "data")
    write_record(folder / "asr", TrainingRecord(split=split_record(data, other)))
    flags = ("--dataset", folder, *QUICK, "--output_dir", tmp_path / "o")
    with pytest.raises(ValueError, match=r"asr: this transcripts model was trained on data that fold 1 uses as test"):
        script("train_text", *flags)
    script("train_text", *flags, "--allow_leak")
    report = json.loads((tmp_path / "o" / "report.json").read_text())
    assert "stage_leakage_transcripts_test" in report["leaks"]
    data = DataArguments(dataset=str(folder), transcript_source="reference")
    assert emotion_task.recogniser_source(data, reads_text=True) == {}
    assert emotion_task.recogniser_source(DataArguments(dataset=str(folder)), reads_text=False) == {}
    assert (folder / "asr" / RECORD).is_file()


def test_a_model_that_only_hears_has_no_words_to_set(prepared, script, tmp_path):
    for flag, value in (("--sentence_bank", "default"), ("--transcript_source", "asr")):
        with pytest.raises(ValueError, match=f"{flag} is {value}: found a setting of the transcripts.*train_text.py"):
            script("train_audio", "--dataset", prepared, flag, value, "--output_dir", tmp_path)


def test_clips_of_the_same_words_have_the_same_answers(prepared, script, tmp_path, monkeypatch):
    forward = SerModelForClassification.forward

    def rounded_otherwise(self, input_ids, text_mask, labels=None):
        outputs = forward(self, input_ids=input_ids, text_mask=text_mask, labels=labels)
        outputs["logits"] = outputs["logits"] + 1e-7 * torch.randn_like(outputs["logits"])
        return outputs

    monkeypatch.setattr(SerModelForClassification, "forward", rounded_otherwise)
    data = load_prepared(prepared)
    two = data.remove_columns("transcript").add_column("transcript", [f"say {row % 3} now" for row in range(len(data))])
    two.cast_column("transcript", Value("string")).save_to_disk(tmp_path / "data")
    shutil.copy(prepared / REPORT, tmp_path / "data")
    script("train_text", "--dataset", tmp_path / "data", *QUICK, "--output_dir", tmp_path / "o")
    said = dict(zip(two["id"][:], two["transcript"][:], strict=True))
    rows = read_predictions(tmp_path / "o" / "predictions.jsonl")
    answers = {(said[row.id], tuple(row.probabilities.values())) for row in rows if row.fold == "1"}
    assert len(answers) == len({text for text, _ in answers}) == 3
