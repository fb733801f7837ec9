"""scripts/predict.py: files, folders, wild cards and tables in; an answer or an error a line, in order, out."""

import csv
import json
import os
import subprocess
import sys
import time
from io import BytesIO, TextIOWrapper
from pathlib import Path
from types import SimpleNamespace

import calls
import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from models.tiny import LABELS, save_trained

from hf_ser.data.given_clips import GivenClip, given_clips
from hf_ser.models import SerModelForClassification
from hf_ser.normal_form import is_text
from hf_ser.runs.answers import ClipPredictor, json_line
from hf_ser.runs.classifier import Classifier
from hf_ser.runs.embeddings import embeddings

RATE = 16_000


@pytest.fixture(scope="module")
def audio_model(tmp_path_factory):
    return save_trained("audio", tmp_path_factory.mktemp("audio"))


@pytest.fixture(scope="module")
def fused_model(tmp_path_factory):
    return save_trained("fusion", tmp_path_factory.mktemp("fusion"))


@pytest.fixture
def folder(tmp_path):
    """Voices in a folder and below it, a file that is none and one that cannot be read."""
    (tmp_path / "calls" / "deep").mkdir(parents=True)
    for name in ("b.wav", "a.WAV", "deep/c.flac", ".hidden.wav"):
        sf.write(tmp_path / "calls" / name, calls.voice(len(name), 1.5), RATE)
    (tmp_path / "calls" / "notes.txt").write_text("x")
    return tmp_path / "calls"


def rows(printed: str) -> list[dict]:
    return [json.loads(line) for line in printed.splitlines()]


def names(given) -> list[str]:
    return [Path(clip.file).name for clip in given.clips]


# What is given


def test_a_folder_is_all_its_audio_files_in_order(folder):
    given = given_clips([str(folder)])
    assert names(given) == ["a.WAV", "b.wav", "c.flac"]
    assert [note for note in given.notes if "1 with .txt" in note]
    (folder / "empty").mkdir()
    (clip,) = given_clips([str(folder / "empty")]).clips
    assert "found no audio files" in clip.error


def test_wild_cards_that_the_shell_left_are_filled_in(folder):
    assert names(given_clips([str(folder / "*.wav")])) == ["b.wav"]
    assert names(given_clips([str(folder / "**" / "*.flac"), str(folder / "[b].wav")])) == ["c.flac", "b.wav"]
    assert names(given_clips([str(folder / "dee?")])) == ["c.flac"]
    (clip,) = given_clips([str(folder / "*.mp3")]).clips
    assert "no file matches" in clip.error
    sf.write(folder / "odd[1].wav", calls.voice(1, 1.0), RATE)
    assert names(given_clips([str(folder / "odd[1].wav")])) == ["odd[1].wav"]


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs links")
def test_wild_cards_end_where_links_lead_round_and_give_each_file_once(folder):
    for name in ("x", "y", "z"):
        (folder / "deep" / name).symlink_to(folder, target_is_directory=True)
        (folder / name).symlink_to(folder / "deep", target_is_directory=True)
    (folder / "gone.wav").symlink_to(folder / "nowhere.wav")
    for card, wanted in {
        "**/*.wav": ["b.wav"],
        "**/**/*.flac": ["c.flac"],
        "**/*.[wW][aA][vV]": ["a.WAV", "b.wav"],
        "**": ["a.WAV", "b.wav", "c.flac"],
        "deep/**/c.*": ["c.flac"],
        "**/deep/*.flac": ["c.flac"],
        "**/.*.wav": [".hidden.wav"],
    }.items():
        given = given_clips([str(folder / card)])
        assert [Path(one.file).name for one in given.clips if one.error is None] == wanted, card
    assert any("not entered again" in note for note in given_clips([str(folder / "**/*.wav")]).notes)
    (clip,) = given_clips([str(folder / "deep" / "**" / "*.mp3")]).clips
    assert "no file matches" in clip.error


def test_a_table_in_milliseconds_is_refused_and_a_part_beyond_its_file_noted(audio_model, folder):
    (folder / "ms.csv").write_text("path,start,end\nb.wav,0,1400\na.WAV,100,1200\n")
    (clip,) = given_clips([str(folder / "ms.csv")]).clips
    assert "ms.csv: found segments far beyond" in clip.error and "divide them by 1000" in clip.error
    (folder / "long.csv").write_text("path,start,end\nb.wav,0.5,9\na.WAV,0.5,1.5\n")
    given = given_clips([str(folder / "long.csv")])
    classify = Classifier(str(audio_model), "cpu").pipeline
    far, whole = ClipPredictor(classify).answers(given.clips)
    assert "the part is 8.50 s long, and the file ends after 1.00 s of it" in far.notes and not whole.notes


@pytest.mark.parametrize("channels", [2, 4, 6])
def test_averaging_more_than_two_channels_is_noted(audio_model, folder, channels):
    draw = np.random.default_rng(0)
    both = calls.voice(2, 1.5)[:, None] * draw.uniform(0.2, 0.9, channels) + 0.001 * draw.normal(
        size=(24_000, channels)
    )
    sf.write(folder / "many.wav", both, RATE)
    classify = Classifier(str(audio_model), "cpu").pipeline
    for channel, noted in (("mix", channels > 2), ("left", False)):
        (answer,) = ClipPredictor(classify, channel=channel).answers([GivenClip("m", str(folder / "many.wav"))])
        assert (f"{channels} channels, different, averaged" in answer.notes) == noted


def test_a_file_name_with_a_leading_dash_is_refused_with_the_remedy(audio_model, folder, script, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    sf.write("-b.wav", calls.voice(1, 1.0), RATE)
    with pytest.raises(SystemExit):
        script("predict", audio_model, "-b.wav")
    assert "-b.wav is a file here, but was read as an option: give it as ./-b.wav" in capsys.readouterr().err
    script("predict", audio_model, "./-b.wav")


TABLE = {
    "Path": ["b.wav", "deep/c.flac", "deep\\c.flac", None, "b.wav"],
    "text": ["hello you", None, "n/a", "lost", "what a day"],
    "start": [0.5, None, None, None, 3.0],
    "end": [1.25, None, None, None, 1.0],
    "channel": [None, "left", None, None, None],
}


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_kind_of_table_is_read_row_by_row(folder, kind):
    table, file = pd.DataFrame(TABLE), folder / f"list{kind}"
    if kind in (".csv", ".tsv"):
        table.to_csv(file, index=False, sep="," if kind == ".csv" else "\t")
    else:
        table.to_json(file, orient="records", lines=True) if kind == ".jsonl" else table.to_parquet(file)
    first, second, third, pathless, turned = given_clips([str(file)]).clips
    assert (first.path, first.text) == (str(folder / "b.wav"), "hello you")
    assert (first.start_seconds, first.end_seconds, first.name) == (0.5, 1.25, f"{folder}/b.wav@0.5-1.25")
    assert (second.text, second.start_seconds, second.channel) == (None, None, "left")
    assert (third.path, third.text) == (str(folder / "deep/c.flac"), None)
    assert "row 4: found no path" in pathless.error and "seconds 3.0 to 1.0" in turned.error


def test_columns_of_other_names_and_tables_that_cannot_be_read(folder):
    (folder / "t.csv").write_text("audio,words,transcript\nb.wav,hello,you\n")
    (clip,) = given_clips([str(folder / "t.csv")]).clips
    assert (clip.path, clip.text) == (str(folder / "b.wav"), "you")
    (clip,) = given_clips([str(folder / "t.csv")], {"transcript": "words"}).clips
    assert clip.text == "hello"
    (folder / "bad.csv").write_text("who,what\nx,y\n")
    (folder / "no.csv").write_text("path\n")
    (folder / "web.csv").write_text("path\nhttps://a.org/x.wav\n")
    (web,) = given_clips([str(folder / "web.csv")]).clips
    assert web.path == "https://a.org/x.wav"
    for name, why in (("bad.csv", "Expected `path`"), ("no.csv", "no rows"), ("gone.csv", "no such table")):
        (clip,) = given_clips([str(folder / name)]).clips
        assert why in clip.error and "label" not in clip.error


# What comes out


def test_json_has_a_line_for_each_file_and_what_it_needs(audio_model, folder, tmp_path, script, capsys):
    (folder / "broken.wav").write_bytes(b"RIFF")
    sf.write(folder / "z.wav", 0.1 * np.random.default_rng(0).standard_normal(RATE), RATE)
    with pytest.raises(SystemExit) as ended:
        script("predict", audio_model, folder, "https://a.org/x.wav", "--json", "--batch_size", 2)
    printed, errors = capsys.readouterr()
    answers = rows(printed)
    assert ended.value.code == 1 and "2 of 6 files could not be read" in errors
    assert [Path(one["file"]).name for one in answers] == ["a.WAV", "b.wav", "broken.wav", "c.flac", "z.wav", "x.wav"]
    failed = [one for one in answers if "error" in one]
    assert [set(one) for one in failed] == [{"file", "error"}] * 2 and "web address" in failed[1]["error"]
    for one in (answers[index] for index in (0, 1, 3, 4)):
        assert one["label"] == max(one["scores"], key=one["scores"].get) and set(one["scores"]) == set(LABELS)
        assert one["confidence"] == max(one["scores"].values())
        is_noise = one["file"].endswith("z.wav")
        assert one["unsure"] == (is_noise or one["confidence"] < 0.4)
        assert [note[:15] for note in one["notes"]] == (["no speech found"] if is_noise else [])
    assert f"note: {folder}/z.wav: no speech found: a steady tone or noise" in errors


def test_people_see_the_table_that_they_know(audio_model, folder, script, capsys):
    script("predict", audio_model, folder / "b.wav")
    printed, errors = capsys.readouterr()
    assert printed.startswith(f"{folder}/b.wav  ") and printed.count(" %") == 3 and errors == ""
    sf.write(folder / "z.wav", calls.tones(440, seconds=1.0), RATE)
    script("predict", audio_model, folder / "z.wav")
    assert capsys.readouterr().out.startswith(f"{folder}/z.wav  unsure: ")


def test_batches_do_not_change_the_answers_and_come_as_they_are_ready(audio_model, folder):
    classify, read = Classifier(str(audio_model), "cpu").pipeline, []

    def each(number):
        for index in range(number):
            read.append(index)
            yield GivenClip("b", str(folder / ("b.wav", "a.WAV", "gone.wav")[index % 3]))

    answers = ClipPredictor(classify, batch_size=4).answers(each(20))
    first = [next(answers), next(answers), next(answers)]
    assert len(read) == 4 and [one.error is None for one in first] == [True, True, False]
    alone = list(ClipPredictor(classify, batch_size=1).answers(each(3)))
    for one, other in zip(first[:2], alone, strict=False):
        assert [s["score"] for s in one.scores] == pytest.approx([s["score"] for s in other.scores], abs=1e-5)
    assert len(list(answers)) == 17


def test_what_a_batch_cannot_take_is_tried_alone(audio_model, folder, monkeypatch):
    classify = Classifier(str(audio_model), "cpu").pipeline
    usual = classify.answers

    def little_memory(clips, *rest):
        if len(clips) > 1 or len(clips[0]) > 1.2 * RATE:
            raise RuntimeError("CUDA out of memory")
        return usual(clips, *rest)

    monkeypatch.setattr(classify, "answers", little_memory)
    sf.write(folder / "short.wav", calls.voice(1, 1.0), RATE)
    clips = [GivenClip(name, str(folder / name)) for name in ("short.wav", "b.wav", "short.wav")]
    errors = [one.error for one in ClipPredictor(classify).answers(clips)]
    assert errors[0] is errors[2] is None and "b.wav: the model failed on this clip" in errors[1]


def test_a_fused_model_without_a_text_and_a_synthetic_one_are_noted(fused_model, folder, script, capsys):
    (folder / "t.csv").write_text("path,text\nb.wav,hello you\na.WAV,\n")
    (fused_model / "training_record.json").write_text(json.dumps({"corpora": ["synthetic"]}))
    try:
        script("predict", fused_model, folder / "t.csv", "--json")
    finally:
        (fused_model / "training_record.json").unlink()
    printed, errors = capsys.readouterr()
    with_text, without = rows(printed)
    assert with_text["text"] == "hello you" and without["text"] is None
    assert [note for note in with_text["notes"] if "synthetic" in note] == with_text["notes"]
    assert "no text is given" in without["notes"][1] and "1 of 2 files: no text is given" in errors
    assert errors.count("synthetic corpus (generated voices)") == 1
    script("predict", fused_model, folder / "b.wav", "--json")
    (one,) = rows(capsys.readouterr().out)
    assert len(one["notes"]) == 1 and "no text is given" in one["notes"][0]


def test_a_recogniser_gives_the_texts_of_parts_too(fused_model, folder, script, capsys, monkeypatch):
    def transcribe(recogniser, requests, options):
        for request in requests:
            yield request, SimpleNamespace(text=f"{len(request.read()) / RATE:g} s")

    loaded = SimpleNamespace(revision="tiny@0")
    monkeypatch.setattr("hf_ser.transcripts.loading.load_recogniser", lambda *_: loaded)
    monkeypatch.setattr("hf_ser.transcripts.transcriber.transcribe", transcribe)
    (folder / "t.csv").write_text("path,start,end,text\nb.wav,0.5,1.25,mine\nb.wav,,,\ngone.wav,,,\n")
    with pytest.raises(SystemExit):
        script("predict", fused_model, folder / "t.csv", "--json", "--asr", "tiny")
    assert [row.get("text") for row in rows(capsys.readouterr().out)] == ["0.75 s", "1.5 s", None]


def test_texts_for_an_audio_only_model_and_wrong_numbers_of_texts_are_refused(audio_model, folder, script, capsys):
    wrong = {
        "2 files and 1 texts": (folder / "b.wav", folder / "a.WAV", "--text", "x"),
        "is an audio-only model": (folder / "b.wav", "--text", "x"),
        "--language is for --asr": (folder / "b.wav", "--language", "en"),
        "batch_size": (folder / "b.wav", "--batch_size", "0"),
    }
    for why, arguments in wrong.items():
        with pytest.raises(SystemExit) as ended:
            script("predict", audio_model, *arguments)
        assert ended.value.code == 2 and why in capsys.readouterr().err


def test_abstaining_leaves_the_label_out(audio_model, folder, script, capsys):
    config = json.loads((audio_model / "config.json").read_text())
    (audio_model / "config.json").write_text(json.dumps(config | {"abstain_threshold": 0.99}))
    try:
        script("predict", audio_model, folder / "b.wav", "--json", "--abstain")
        script("predict", audio_model, folder / "b.wav", "--abstain")
        script("predict", audio_model, folder / "b.wav", "--json")
        script("predict", audio_model, folder / "b.wav")
    finally:
        (audio_model / "config.json").write_text(json.dumps(config))
    without, unsure, with_label, table = capsys.readouterr().out.splitlines()
    assert json.loads(without)["label"] is None and json.loads(with_label)["label"] in LABELS
    assert json.loads(without)["unsure"] and json.loads(with_label)["unsure"]
    assert "b.wav  unsure: " in unsure and "unsure" not in table


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_answers_go_to_a_file_too_whole_or_not_at_all(kind, audio_model, folder, tmp_path, script, capsys, monkeypatch):
    output = tmp_path / "new" / f"answers.{kind}"
    (folder / "x.wav").write_bytes(b"")
    with pytest.raises(SystemExit):
        script("predict", audio_model, folder, "--json", "--output", output)
    printed = rows(capsys.readouterr().out)
    if kind == "jsonl":
        assert rows(output.read_text()) == printed
    else:
        with open(output, newline="") as file:
            table = list(csv.DictReader(file))
        assert [row["file"] for row in table] == [row["file"] for row in printed]
        assert float(table[0]["score:sad"]) == printed[0]["scores"]["sad"] and table[0]["unsure"] in ("true", "false")
        assert "0 bytes" in table[3]["error"] and not table[3]["label"]
    before = output.read_bytes()
    monkeypatch.setattr("hf_ser.runs.answers.ClipPredictor._read", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        script("predict", audio_model, folder, "--output", output)
    assert output.read_bytes() == before and os.listdir(output.parent) == [output.name]


def test_embeddings_go_to_a_parquet_file(audio_model, folder, tmp_path, script, capsys, monkeypatch):
    (folder / "broken.wav").write_bytes(b"RIFF")
    forward, passes = SerModelForClassification.forward, []

    def counted(self, **inputs):
        passes.append(len(inputs["input_values"]))
        return forward(self, **inputs)

    monkeypatch.setattr(SerModelForClassification, "forward", counted)
    with pytest.raises(SystemExit):  # of the file that cannot be read
        script("predict", audio_model, folder, "--batch_size", "2", "--embeddings", tmp_path / "v.parquet")
    assert sum(passes) == 3, "each clip once"
    kept = pd.read_parquet(tmp_path / "v.parquet")
    assert [Path(name).name for name in kept["file"]] == ["a.WAV", "b.wav", "c.flac"]
    clips = [Classifier(str(audio_model)).pipeline.read(name)[0] for name in kept["file"]]
    expected = embeddings(Classifier(str(audio_model)), clips, [None] * 3)
    assert np.stack(kept["embedding"]) == pytest.approx(expected, abs=1e-5)
    assert set(kept["label"]) <= set(LABELS) and "wrote " in capsys.readouterr().err
    with pytest.raises(SystemExit):
        script("predict", audio_model, folder, "--embeddings", tmp_path / "v.csv")
    assert "ends in .parquet" in capsys.readouterr().err


def test_a_file_for_the_answers_is_refused_before_the_work(audio_model, folder, script, tmp_path):
    (folder / "t.csv").write_text("path\nb.wav\n")
    (tmp_path / "x.csv").mkdir()
    for output, why in ((folder / "t.csv", "an input table"), ("x.txt", "Expected .csv"), ("x.csv", "a folder")):
        with pytest.raises(ValueError, match=why):
            script("predict", audio_model, folder / "t.csv", "--output", tmp_path / output)


def test_many_files_have_a_bar_with_a_rate(audio_model, folder, script, capsys, monkeypatch):
    monkeypatch.setattr("hf_ser.progress.SECONDS_BETWEEN_LINES", 0)
    script("predict", audio_model, *[folder / "b.wav"] * 25)
    printed, errors = capsys.readouterr()
    assert len(printed.splitlines()) == 25
    assert "predicting: 25 of 25 files, " in errors and "files/s, about 0 s left" in errors


def test_names_and_labels_cannot_control_a_terminal(audio_model, folder, script, capsys):
    name = folder / "\x1b]0;owned\x07\u202e.wav"
    os.rename(folder / "b.wav", name)
    script("predict", audio_model, name)
    script("predict", audio_model, name, "--json")
    with pytest.raises(SystemExit):
        script("predict", audio_model, str(name) + "\x9b31m")
    printed, errors = capsys.readouterr()
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(printed + errors)
    assert r"\x1b]0;owned" in printed and json.loads(printed.splitlines()[1])["file"] == str(name)


def test_json_is_json_in_every_encoding():
    row = {"file": "für \u4f60\udcfc\x9b\x7f"}
    for encoding in ("utf-8", "ascii", "cp1252", "no such encoding"):
        line = json_line(row, encoding)
        assert json.loads(line) == row and is_text(line) and line.isprintable()
    assert json_line({"file": "für"}) == '{"file": "für"}' and json_line({"file": "für"}, "cp1252") == '{"file": "für"}'


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", "f\\xfcr \\u4f60"), ("cp1252", "für \\u4f60")])
def test_a_console_of_another_encoding_shows_every_name(encoding, shown, audio_model, folder, script, monkeypatch):
    from hf_ser.cli import run

    os.rename(folder / "b.wav", folder / "für 你.wav")
    console = TextIOWrapper(BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", console)
    run(lambda: script("predict", audio_model, folder / "für 你.wav"))
    console.flush()
    assert f"{shown}.wav  " in console.buffer.getvalue().decode(encoding)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("MODEL/config.json", r"found a file\. Expected the folder of a model: give .*audio"),
        ("https://huggingface.co/user/name/tree/v1", "found a web address.*: give user/name@v1"),
        ("s3://bucket/model", "found a web address.*: give user/name"),
    ],
)
def test_an_invalid_model_is_named(name, message, audio_model, folder, script):
    with pytest.raises(FileNotFoundError, match=message):
        script("predict", name.replace("MODEL", str(audio_model)), folder)


def test_cut_off_weights_are_named(audio_model, tmp_path):
    from transformers import AutoModelForAudioClassification

    for file in audio_model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    content = (audio_model / "model.safetensors").read_bytes()
    for size in (0, 100, len(content) // 2, len(content) - 1):
        (tmp_path / "model.safetensors").write_bytes(content[:size])
        for load in (Classifier, AutoModelForAudioClassification.from_pretrained):
            with pytest.raises(ValueError, match=r"its weights are cut off or damaged.*copy it anew"):
                load(str(tmp_path))


# Ctrl-C


STARTS = """
import sys
sys.argv = ["predict.py", "model", "file"]
import hf_ser.cli
hf_ser.cli.stop_at_once_on_interrupt()
print("ready", flush=True)
import time
time.sleep(60)
"""
RUNS = """
import time
from hf_ser.cli import run, stop_at_once_on_interrupt
stop_at_once_on_interrupt()
def main():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("cleaned up", flush=True)
run(main)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals are other ones there")
@pytest.mark.parametrize(("code", "left"), [(STARTS, ""), (RUNS, "cleaned up\n")], ids=["importing", "running"])
def test_ctrl_c_is_one_line(code, left):
    import signal

    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=20)
    assert (process.returncode, printed, errors) == (130, left, "stopped by Ctrl-C\n")


def test_every_script_is_ready_for_ctrl_c_before_it_imports_anything_large():
    for file in (Path(__file__).parents[1] / "scripts").glob("[a-z]*.py"):
        lines = [line for line in file.read_text().splitlines() if line.startswith(("import ", "from "))]
        assert lines[0].startswith("from hf_ser.cli import "), file.name
    code = "import hf_ser.cli, sys; print([name for name in ('torch', 'datasets', 'pandas') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_a_reader_that_is_gone_ends_a_script_quietly(monkeypatch):
    code = "from hf_ser.cli import run\nrun(lambda: [print('x' * 1000) for _ in range(10_000)])"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait() == 141
