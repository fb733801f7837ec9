"""Transcribing a data set: what is decoded, what a kill leaves, and what is written."""

import multiprocessing
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transcripts.fake import FakeRecogniser

from hf_ser.checks.audit.data import recogniser_findings
from hf_ser.data.prepared import load_prepared
from hf_ser.data.schema import REFERENCE
from hf_ser.data.splitting import make_folds
from hf_ser.files import replace_folder
from hf_ser.publish.transcribed import (
    SUMMARY,
    compared_rows,
    format_summary,
    summarise,
    with_transcripts,
    word_errors_of,
    write_transcribed,
)
from hf_ser.publish.transcription_summary import TranscriptionSummary
from hf_ser.runs.record import ASR_RECORD, TrainingRecord, read_record, split_record, write_record
from hf_ser.transcripts import run
from hf_ser.transcripts.cache import TranscriptCache
from hf_ser.transcripts.recogniser import DecodeOptions, Transcript
from hf_ser.transcripts.run import Job, check_window, transcribe_dataset


@pytest.fixture
def job(tmp_path):
    """A job for the fake recogniser, greedy, with a cache of its own."""

    def make(language="en", **options) -> Job:
        options = DecodeOptions(**{"temperatures": (0.0,), **options})
        return Job(FakeRecogniser(), options, language, batch_size=8, cache=tmp_path / "cache.sqlite")

    return make


@pytest.fixture
def dataset(prepared) -> Dataset:
    return load_prepared(prepared)


def texts(done) -> list[str | None]:
    return [one and one.text for one in done.transcripts]


def test_a_second_run_decodes_nothing_and_a_new_model_everything(dataset, job):
    first = transcribe_dataset(dataset, job())
    assert len(set(texts(first))) > 5 and first.decoded == len(dataset)
    again = job()
    second = transcribe_dataset(dataset, again)
    assert (texts(second), second.decoded, again.recogniser.encoded) == (texts(first), 0, [])
    for other in (job("de"), job(whole_window=True), job()):
        if other.language == "en" and not other.options.whole_window:
            other.recogniser.revision = "1" * 12
        assert transcribe_dataset(dataset, other).decoded == len(dataset)


def test_equal_clips_are_decoded_once_and_the_order_of_rows_does_not_matter(dataset, job):
    first = transcribe_dataset(dataset, job(whole_window=True))
    twice = dataset.select([*reversed(range(len(dataset))), 0, 1])
    one = job(whole_window=True, no_speech_threshold=0.61)  # another key
    done = transcribe_dataset(twice, one)
    assert sum(len(voices) for _, voices in one.recogniser.encoded) == done.decoded == len(dataset)
    assert texts(done) == [*texts(first)[::-1], *texts(first)[:2]]


def test_the_language_is_the_corpus_s_unless_another_is_given(job):
    assert [job(None).decoding_language(corpus) for corpus in ("emodb", "ravdess", "table", "unknown")] == [
        "de",
        "en",
        None,
        None,
    ]
    assert job("ja").decoding_language("emodb") == "ja"
    assert job("detect").decoding_language("emodb") is None


def test_an_unreadable_clip_is_reported_and_the_others_are_transcribed(dataset, job):
    clips = dataset["audio"][:]
    clips[5]["bytes"] = b"no audio"
    spoilt = dataset.remove_columns("audio").add_column("audio", clips)
    done = transcribe_dataset(spoilt, job())
    assert list(done.failed) == [dataset["id"][5]] and "format" in done.failed[dataset["id"][5]].lower()
    assert texts(done).count(None) == 1 and done.decoded == len(dataset) - 1


def _transcribe(folder, job, pipe):
    """In another process: report every batch that is cached, and wait for a reply."""
    run.STORE_SECONDS, put = 0.0, TranscriptCache.put

    def put_and_wait(self, entries):
        put(self, entries)
        pipe.send(len(entries))
        pipe.recv()

    TranscriptCache.put = put_and_wait
    torch.set_num_threads(1)  # OpenMP does not outlive a fork
    transcribe_dataset(load_prepared(folder), job)


def test_a_run_killed_twenty_times_loses_nothing_and_ends_as_an_unbroken_one(prepared, dataset, job, tmp_path):
    whole = texts(transcribe_dataset(dataset, job()))
    broken = Job(FakeRecogniser(), job().options, "en", 1, tmp_path / "killed.sqlite")
    keys, _ = run.requests_of(dataset, broken)
    lot, known, fork = random.Random(0), 0, multiprocessing.get_context("fork")
    for _ in range(20):
        ours, theirs = fork.Pipe()
        child = fork.Process(target=_transcribe, args=(prepared, broken, theirs))
        child.start()
        theirs.close()  # else an end of the child would be waited for without end
        stored = 0
        for _ in range(lot.randrange(3)):
            stored += ours.recv()
            ours.send("go on")
        # Wherever it is then: on a fast machine it waits behind the next batch, and so is not done before the kills.
        time.sleep(lot.uniform(0, 0.03))
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        with TranscriptCache(broken.cache) as cache:
            found = len(cache.get(keys))
        assert found >= known + stored
        known = found
    assert 10 < known < len(dataset)
    done = transcribe_dataset(dataset, broken)
    assert texts(done) == whole
    assert done.decoded == len(dataset) - known


def written(dataset, job, folder, output_dir):
    done = transcribe_dataset(dataset, job)
    transcribed = with_transcripts(dataset, done.transcripts, job.source)
    checked = check_window(dataset, job, 5)
    summary = summarise(transcribed, job, done, checked)
    write_transcribed(transcribed, job, summary, folder, output_dir)
    return done, summary


def test_the_columns_are_kept_beside_the_corpus_s_own_transcripts(prepared, job, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(prepared, folder)
    (folder / "audit.json").write_text("{}")  # of the old transcripts
    (folder / "notes").mkdir()  # the user's own
    before = load_prepared(folder)
    own, rows = before["transcript"][:], before.remove_columns(["transcript", "transcript_source"])[:]
    done, summary = written(before, job(), folder, folder)

    after = load_prepared(folder)
    assert after["transcript"][:] == texts(done)
    assert after["reference_transcript"][:] == own
    assert set(after["transcript_source"][:]) == {"fake@000000000000"}
    assert after["asr_avg_logprob"][:] == pytest.approx([one.avg_logprob for one in done.transcripts])
    assert after["asr_no_speech_prob"][:] == pytest.approx([one.no_speech_prob for one in done.transcripts])
    assert after["asr_compression_ratio"][:] == pytest.approx([one.compression_ratio for one in done.transcripts])
    assert "asr_compression_ratio" in format_summary(summary)
    assert after.select_columns(list(rows))[:] == rows
    assert sorted(file.name for file in tmp_path.iterdir()) == ["cache.sqlite", "cache.sqlite.lock", "data"]
    assert not (folder / "audit.json").exists() and (folder / "notes").is_dir()
    assert TranscriptionSummary.read(folder / SUMMARY).to_json() == summary.to_json()
    assert (folder / "transcripts.png").stat().st_size > 10_000
    assert summary.word_errors.n_clips == len(after)
    assert summary.check_window.clips == 5 and summary.decoded == len(after)
    assert "48 of 48 clips transcribed" in format_summary(summary)

    # A second recogniser replaces the first one; the reference transcripts stay.
    other = job()
    other.recogniser.revision = "1" * 12
    written(after, other, folder, folder)
    again = load_prepared(folder)
    assert again["reference_transcript"][:] == own
    assert set(again["transcript_source"][:]) == {"fake@111111111111"}
    assert again.column_names == after.column_names


def test_the_columns_of_an_earlier_version_are_replaced(dataset, job):
    done = transcribe_dataset(dataset, job())
    earlier = dataset.add_column("no_speech_prob", [0.5] * len(dataset))
    after = with_transcripts(earlier, done.transcripts, "fake@0")
    assert "no_speech_prob" not in after.column_names and "asr_no_speech_prob" in after.column_names


def test_folds_are_the_same_before_and_after(dataset, job):
    done = transcribe_dataset(dataset, job())
    after = with_transcripts(dataset, done.transcripts, "fake@0")
    assert set(after["transcript_source"][:]) != {REFERENCE}
    for protocol in ("speaker_folds", "sentence_disjoint"):
        folds = [make_folds(one, protocol, "all", n_folds=3) for one in (dataset, after)]
        assert [fold.fingerprint for fold in folds[0]] == [fold.fingerprint for fold in folds[1]]


def test_a_kill_while_a_folder_is_replaced_is_repaired_when_the_data_set_is_opened(prepared, tmp_path, monkeypatch):
    folder, new = Path(shutil.copytree(prepared, tmp_path / "data")), Path(shutil.copytree(prepared, tmp_path / "new"))
    replace, calls = os.replace, []

    def killed(*names):
        calls.append(names)
        if len(calls) == 2:
            raise KeyboardInterrupt
        replace(*names)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        replace_folder(new, folder)
    monkeypatch.undo()
    assert not folder.exists()
    assert len(load_prepared(folder)) == 48
    replace_folder(new, folder)
    assert [file.name for file in tmp_path.iterdir() if file.is_dir()] == ["data"]


def test_word_error_rates_are_in_the_language_of_the_corpus_whatever_is_given(dataset, job):
    own = ["You're twenty, Mr. Gray"] * len(dataset)
    recognised = [Transcript("you are 20 mister grey", None, -0.1, 0.0, 0.0)] * len(dataset)
    spoken = dataset.remove_columns("transcript").add_column("transcript", own)
    spoken = spoken.remove_columns("corpus").add_column("corpus", ["ravdess"] * len(dataset))
    for language, multilingual in (("en", True), ("detect", True), (None, False)):
        one = job(language)
        one.recogniser.multilingual = multilingual
        rows = compared_rows(with_transcripts(spoken, recognised, "fake@0"), one)
        assert word_errors_of(rows).wer == 0.0
    assert word_errors_of([{**rows[0], "reference": "..."}]) is None


def test_a_model_of_english_alone_is_not_given_german(job):
    one = job(None)
    one.recogniser.multilingual = False
    one.check(["ravdess", "table"])
    with pytest.raises(ValueError, match=r"knows English alone, found clips in de"):
        one.check(["ravdess", "emodb"])


def test_the_training_speakers_of_the_recogniser_are_recorded(prepared, dataset, job, tmp_path):
    fold = make_folds(dataset, "speaker_folds", "1", n_folds=3)[0]
    record = TrainingRecord(split=split_record(dataset, fold))
    write_record(tmp_path / "asr_model", record)
    trained = Job(**{**vars(job()), "folder": str(tmp_path / "asr_model")})
    _, summary = written(dataset, trained, prepared, tmp_path / "out")
    assert read_record(tmp_path / "out" / ASR_RECORD) == record
    assert summary.clips_of_met_speakers == len(dataset) - len(fold.test)
    assert summary.word_errors_of_unmet_speakers.n_clips == len(fold.test)
    assert f"NOTE: {len(dataset) - len(fold.test)} clips are of speakers" in format_summary(summary)

    folds = make_folds(dataset, "speaker_folds", "all", n_folds=3)
    found = recogniser_findings(dataset, folds, tmp_path / "out")
    assert {(one.fold, one.severity) for one in found} == {("2", "leak"), ("3", "leak")}
