"""Whole runs of the three scripts on a small corpus: what they write, what they refuse, and how they go on."""

import json
import math
import os
import shutil
import socket
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset
from models.tiny import AUDIO, TEXT, awaken, tokenizer
from permissions import assert_as_any_new_file
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForAudioClassification, pipeline

from hf_ser.data.prepared import load_prepared
from hf_ser.data.splitting import make_folds
from hf_ser.inputs.collate import clips
from hf_ser.models import TextRnnConfig
from hf_ser.models.last_layers import last_layers
from hf_ser.publish.results import write_results
from hf_ser.runs.calibration import fit_temperature
from hf_ser.runs.classifier import Classifier
from hf_ser.runs.predictions import read_predictions
from hf_ser.runs.record import is_finished, read_record
from hf_ser.training.arguments import AdaptArguments, AudioArguments, HeadArguments
from hf_ser.training.building import build_model
from hf_ser.training.emotion_task import AudioTask
from hf_ser.training.run import check_can_push
from hf_ser.training.threads import choose_threads
from hf_ser.training.trainer import SerTrainer
from hf_ser.training.trainer_arguments import SerTrainingArguments

ROOT = Path(__file__).parents[2]
QUICK = ("--num_train_epochs", "1", "--n_folds", "3", "--disable_tqdm", "true", "--early_stopping_patience", "0")
SMALL = ("--audio_model", "spectrogram_cnn")
"""What the fixture `script` adds where no audio model is named."""


@pytest.fixture(scope="module")
def run(prepared, tmp_path_factory):
    """A finished run over all three folds."""
    import importlib.util

    output_dir = tmp_path_factory.mktemp("run") / "o"
    spec = importlib.util.spec_from_file_location("train_fusion_once", ROOT / "scripts" / "train_fusion.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    argv, sys.argv = (
        sys.argv,
        ["train_fusion", "--dataset", str(prepared), "--fold", "all", "--output_dir", str(output_dir), *QUICK, *SMALL],
    )
    module.main()
    sys.argv = argv
    return output_dir


def test_a_run_writes_all_that_is_promised(run, prepared):
    for name in ("predictions.jsonl", "report.json", "report.html", "run.json", "tables/classes.tex", "roc.png"):
        assert (run / name).is_file(), name
    report = json.loads((run / "report.json").read_text())
    promised = (
        "corpus protocol split_fingerprint n_utterances n_speakers uar uar_ci95 wa macro_f1 weighted_f1 mcc "
        "roc_auc_ovr ece per_class confusion_matrix labels per_speaker per_sex leaks versions"
    )
    assert set(promised.split()) <= set(report)
    assert (report["corpus"], report["protocol"], report["n_utterances"], report["n_speakers"]) == (
        "table",
        "speaker_folds",
        48,
        6,
    )
    rows = read_predictions(run / "predictions.jsonl")
    assert sorted(row.id for row in rows) == sorted(load_prepared(prepared)["id"][:])
    for fold in make_folds(load_prepared(prepared), "speaker_folds", n_folds=3):
        record = read_record(run / f"fold_{fold.name}")
        assert record.split.split_fingerprint == fold.fingerprint
        assert record.encoders == {"audio": "trained here from scratch", "text": "trained here from scratch"}
        assert not list((run / f"fold_{fold.name}").glob("*.bin"))
        assert not (run / f"fold_{fold.name}" / "checkpoints").exists()
    assert_as_any_new_file(run)


def test_the_pipeline_says_what_the_predictions_say(run, prepared):
    ask = pipeline("audio-classification", model=str(run / "fold_1"), trust_remote_code=True)
    data = load_prepared(prepared)
    position = {name: i for i, name in enumerate(data["id"][:])}
    for row in read_predictions(run / "fold_1" / "predictions.jsonl"):
        clip = data[position[row.id]]
        answer = {a["label"]: a["score"] for a in ask(clip["audio"]["bytes"], text=clip["transcript"])}
        assert answer == pytest.approx(row.probabilities, abs=1e-5)


def test_a_finished_run_is_not_trained_again(run, prepared, script, capsys):
    before = {f: f.stat().st_mtime_ns for f in run.rglob("model.safetensors")}
    report = (run / "report.json").read_text()
    script("train_fusion", "--dataset", prepared, "--fold", "all", "--output_dir", run, *QUICK)
    assert "fold 2 is done" in capsys.readouterr().out
    assert before == {f: f.stat().st_mtime_ns for f in run.rglob("model.safetensors")}
    assert report == (run / "report.json").read_text()


def test_a_folder_holds_the_runs_of_one_script(run, prepared, script):
    with pytest.raises(ValueError, match=r"holds another run \(.*model was fusion, is audio"):
        script("train_audio", "--dataset", prepared, "--output_dir", run, *QUICK)


def test_a_folder_holds_the_runs_of_one_data_set(run, table, script):
    """Corrected labels or speakers are another data set, though every sound is the same."""
    import pandas as pd

    for column, change in (("label", {"angry": "sad", "sad": "angry"}), ("speaker", {"s1": "s2", "s2": "s1"})):
        changed = pd.read_csv(table)
        changed[column] = changed[column].replace(change)
        changed.to_csv(table.with_name(f"other_{column}.csv"), index=False)
        other = ("--corpus", "table", "--data_dir", table.with_name(f"other_{column}.csv"))
        with pytest.raises(ValueError, match=r"holds another run \(other data\)"):
            script("train_fusion", *other, "--output_dir", run, *QUICK)


def test_a_speaker_without_a_class_is_tested_all_the_same(table, script, tmp_path):
    import pandas as pd

    rows = pd.read_csv(table)
    rows[(rows.speaker != "s1") | (rows.label != "sad")].to_csv(table.with_name("lacking.csv"), index=False)
    script(
        "train_text", "--corpus", "table", "--data_dir", table.with_name("lacking.csv"), *QUICK,
        "--protocol", "leave_one_speaker_out", "--fold", "all", "--output_dir", tmp_path,
    )  # fmt: skip
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["n_utterances"], len(report["folds"])) == (46, 6)
    assert report["per_speaker"]["table/s1"]["uar"] is None


def test_a_folder_holds_one_run(run, prepared, script):
    with pytest.raises(ValueError, match=r"holds another run \(fusion was default, is concat\)"):
        script("train_fusion", "--dataset", prepared, "--output_dir", run, *QUICK, "--fusion", "concat")


def test_final_trains_on_all_but_the_validation_speakers(prepared, script, tmp_path, capsys):
    script("train_fusion", "--dataset", prepared, "--fold", "final", "--output_dir", tmp_path / "o", *QUICK)
    record = read_record(tmp_path / "o" / "final")
    assert len(record.split.train.ids) + len(record.split.validation.ids) == 48
    assert "No speaker was left to test" in capsys.readouterr().out
    assert not (tmp_path / "o" / "report.json").exists()
    stage = ("--audio_model", tmp_path / "a" / "fold_{fold}", "--fold", "final", "--output_dir", tmp_path / "f")
    script("train_audio", "--dataset", prepared, "--fold", "final", "--output_dir", tmp_path / "a", *QUICK)
    script("train_fusion", "--dataset", prepared, *stage, *QUICK)
    assert "final (training data recorded)" in read_record(tmp_path / "f" / "final").encoders["audio"]


def test_a_leaky_split_is_refused_or_stamped(prepared, script, tmp_path, capsys):
    with pytest.raises(ValueError, match="add --allow_leak"):
        script("train_audio", "--dataset", prepared, "--protocol", "random", "--output_dir", tmp_path / "a", *QUICK)
    script(
        "train_audio",
        "--dataset",
        prepared,
        "--protocol",
        "random",
        "--allow_leak",
        "--output_dir",
        tmp_path / "b",
        *QUICK,
    )
    report = json.loads((tmp_path / "b" / "report.json").read_text())
    assert "speaker_overlap_train_test" in report["leaks"]
    assert "LEAKED" in capsys.readouterr().out


@pytest.mark.slow
def test_two_stages_fold_by_fold(prepared, script, tmp_path):
    """Encoders of the other two scripts go into the fused model of the same fold, and of no other."""
    common = ("--dataset", prepared, *QUICK)
    for fold in ("1", "2"):
        script("train_audio", *common, "--fold", fold, "--output_dir", tmp_path / "audio")
        script("train_text", *common, "--fold", fold, "--output_dir", tmp_path / "text")
    encoders = ("--text_model", tmp_path / "text" / "fold_{fold}", "--freeze", "both")
    audio = tmp_path / "audio"
    script("train_fusion", *common, "--audio_model", audio / "fold_{fold}", *encoders, "--output_dir", tmp_path / "f")
    fused, alone = (load_file(folder / "fold_1" / "model.safetensors") for folder in (tmp_path / "f", audio))
    for key in alone:
        if key.startswith("encoder."):
            assert torch.equal(fused[key.replace("encoder.", "audio_encoder.", 1)], alone[key]), "frozen, so unchanged"
    record = read_record(tmp_path / "f" / "fold_1")
    assert "training data recorded" in record.encoders["audio"]
    assert len(record.ancestors) == 2
    wrong = ("--audio_model", audio / "fold_2", *encoders, "--output_dir", tmp_path / "g")
    with pytest.raises(ValueError, match="audio model was trained on data that fold 1 uses as"):
        script("train_fusion", *common, *wrong)
    script("train_fusion", *common, *wrong, "--allow_leak")
    assert "stage_leakage_audio_test" in json.loads((tmp_path / "g" / "report.json").read_text())["leaks"]


@pytest.mark.parametrize(
    ("audio", "extra"),
    [
        ("ast", ()),
        pytest.param("wav2vec2", ("--lora", "both"), marks=pytest.mark.slow),
        ("whisper", ("--lora", "audio", "--freeze", "text")),
    ],
)
def test_the_best_checkpoint_is_what_is_saved(prepared, script, tmp_path, audio, extra):
    """AST and LoRA are where Trainer restores less than it saved (stock AST: 11 of 43 tensors)."""
    config, extractor = AUDIO[audio]()
    auto = AutoModelForAudioClassification if audio == "whisper" else AutoModel
    awaken(auto.from_config(config)).save_pretrained(tmp_path / "a")
    extractor.save_pretrained(tmp_path / "a")
    words = tokenizer()
    awaken(AutoModel.from_config(TEXT["distilbert"](len(words)))).save_pretrained(tmp_path / "t")
    words.save_pretrained(tmp_path / "t")
    common = (
        "--dataset",
        prepared,
        "--n_folds",
        "3",
        "--disable_tqdm",
        "true",
        "--num_train_epochs",
        "4",
        "--max_seconds",
        "2",
    )
    script(
        "train_fusion", *common, "--audio_model", tmp_path / "a", "--text_model", tmp_path / "t", "--output_dir",
        tmp_path / "o", "--learning_rate", "1e-2", *extra,
    )  # fmt: skip
    record = read_record(tmp_path / "o" / "fold_1")
    data = load_prepared(prepared)
    fold = make_folds(data, "speaker_folds", "1", n_folds=3)[0]
    assert validation_uar(tmp_path / "o" / "fold_1", data.select(fold.validation)) == pytest.approx(
        record.best_validation_uar
    )


def validation_uar(folder, rows) -> float:
    from hf_ser.runs.scores import score

    ask = pipeline("audio-classification", model=str(folder), trust_remote_code=True)
    labels = rows.features["label"].names
    said = ask([row["audio"]["bytes"] for row in rows.to_list()], text=rows["transcript"][:])
    table = [[next(a["score"] for a in answer if a["label"] == name) for name in labels] for answer in said]
    return score(np.array(table), np.array(rows["label"][:]), labels)["uar"]


def trainer_for(prepared, tmp_path, model="crnn", **settings):
    data = load_prepared(prepared)
    fold = make_folds(data, "speaker_folds", "1", n_folds=3)[0]
    torch.manual_seed(0)
    labels = data.features["label"].names
    candidate = build_model(labels, HeadArguments(), AdaptArguments(), AudioArguments(audio_model=model, max_seconds=2))
    arguments = SerTrainingArguments(output_dir=str(tmp_path), disable_tqdm=True, num_train_epochs=2, **settings)
    parts = {"train_dataset": data.select(fold.train), "eval_dataset": data.select(fold.validation)}
    return SerTrainer(candidate, labels, args=arguments, **parts), data


def test_stock_ast_goes_on_from_its_checkpoint(prepared, tmp_path):
    from transformers.trainer_utils import get_last_checkpoint

    config, extractor = AUDIO["ast"]()
    awaken(AutoModelForAudioClassification.from_config(config)).save_pretrained(tmp_path / "a")
    extractor.save_pretrained(tmp_path / "a")
    trainer, data = trainer_for(prepared, tmp_path / "c", str(tmp_path / "a"), learning_rate=1e-2)
    trainer.train()
    wanted = trainer.logits(data)
    again, _ = trainer_for(prepared, tmp_path / "d", str(tmp_path / "a"))
    again._load_from_checkpoint(trainer.state.best_model_checkpoint)
    np.testing.assert_allclose(again.logits(data), wanted, atol=1e-6)
    assert get_last_checkpoint(str(tmp_path / "c"))


def test_predictions_stay_with_their_rows_under_any_sampling(prepared, tmp_path):
    trainer, data = trainer_for(
        prepared, tmp_path, train_sampling_strategy="group_by_length", length_column_name="duration_seconds"
    )
    grouped = trainer.logits(data)
    assert trainer.args.train_sampling_strategy == "group_by_length"
    backwards = trainer.logits(data.select(range(len(data) - 1, -1, -1)))[::-1]
    trainer.args.per_device_eval_batch_size = 1
    one_by_one = trainer.logits(data)
    np.testing.assert_allclose(grouped, one_by_one, atol=1e-5)
    np.testing.assert_allclose(backwards, one_by_one, atol=1e-5)
    assert np.abs(one_by_one - one_by_one.mean(0)).max() > 1e-3


def test_outputs_and_embeddings_of_rows_take_one_pass(prepared, tmp_path):
    trainer, data = trainer_for(prepared, tmp_path)
    passes = []
    trainer.model.audio_encoder.register_forward_hook(lambda *_: passes.append(1))
    outputs, vectors = trainer.outputs_and_measured(data, "test", torch.nn.Identity())
    assert len(passes) == math.ceil(len(data) / trainer.args.eval_batch_size)
    (layer,) = last_layers(trainer.model).values()
    np.testing.assert_allclose(layer(torch.from_numpy(vectors)).detach(), outputs, atol=1e-5)
    np.testing.assert_allclose(trainer.outputs(data), outputs, atol=1e-6)


def test_classes_that_are_not_predicted_do_not_hinder_a_push(monkeypatch):
    dataset = Dataset.from_dict({"label": [0, 1], "corpus": ["mine"] * 2}).cast_column(
        "label", ClassLabel(names=["female", "male"])
    )
    pushed = []
    monkeypatch.setattr("hf_ser.training.run.check_push", lambda name, *_: pushed.append(name))
    training = SimpleNamespace(hub_model_id="user/mine", hub_private_repo=None, hub_token=None)
    task = object.__new__(AudioTask)
    task.settings, task.training, task.dataset = {}, training, dataset
    for target in ("both", "dimensions"):
        task.data = SimpleNamespace(target=target)
        with pytest.raises(ValueError, match="female, male") if target == "both" else nullcontext():
            check_can_push([SimpleNamespace(name="final")], task, dataset)
    assert pushed == ["user/mine"]


def test_head_learning_rate_is_of_all_but_the_encoder(prepared, tmp_path):
    trainer, _ = trainer_for(prepared, tmp_path, learning_rate=1e-5, head_learning_rate=1e-2)
    rates = {id(p): group["lr"] for group in trainer.create_optimizer().param_groups for p in group["params"]}
    assert len(rates) == len(list(trainer.model.parameters()))
    for name, parameter in trainer.model.named_parameters():
        assert rates[id(parameter)] == (1e-5 if name.startswith("audio_encoder.") else 1e-2), name


@pytest.mark.parametrize("model", ["crnn", "wav2vec2"])
def test_gradient_accumulation_keeps_the_loss(prepared, tmp_path, model):
    """A loss that Trainer divides by the accumulated items again would be four times as large, as for stock models."""
    config, extractor = AUDIO[model]()
    for name in ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "final_dropout"):
        setattr(config, name, 0.0)
    AutoModel.from_config(config).save_pretrained(tmp_path / "m")
    extractor.save_pretrained(tmp_path / "m")
    model = str(tmp_path / "m")
    losses = {}
    for steps in (1, 4):
        trainer, _ = trainer_for(
            prepared, tmp_path / str(steps), model, max_steps=1, per_device_train_batch_size=16 // steps,
            gradient_accumulation_steps=steps, eval_strategy="no", save_strategy="no", load_best_model_at_end=False,
            logging_steps=1, logging_strategy="steps", early_stopping_patience=0,
        )  # fmt: skip
        for module in trainer.model.modules():
            if isinstance(module, torch.nn.Dropout | torch.nn.Dropout2d):
                module.p = 0.0
        trainer.train()
        losses[steps] = trainer.state.log_history[0]["loss"]
    assert losses[4] == pytest.approx(losses[1], rel=1e-4)


def test_frozen_encoders_run_without_dropout(prepared, tmp_path):
    data = load_prepared(prepared)
    labels = data.features["label"].names
    candidate = build_model(labels, HeadArguments(), AdaptArguments(), AudioArguments())
    candidate.encoders["audio"].requires_grad_(False)
    trainer = SerTrainer(
        candidate, labels, args=SerTrainingArguments(output_dir=str(tmp_path)), train_dataset=data, eval_dataset=data
    )
    trainer.model.train()
    trainer.compute_loss(trainer.model, candidate.collator([data[0], data[1]]))
    assert not trainer.model.audio_encoder.training
    assert trainer.model.head.training


def test_a_killed_run_goes_on_from_its_checkpoint(prepared, script, tmp_path, monkeypatch):
    patient = ("--n_folds", "3", "--disable_tqdm", "true", "--early_stopping_patience", "2")
    arguments = ("--dataset", prepared, "--output_dir", tmp_path / "o", *patient, "--num_train_epochs", "9")

    class KilledError(Exception):
        pass

    evaluate, calls = SerTrainer.evaluate, []

    def dies_in_the_third_epoch(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise KilledError
        return evaluate(self, *args, **kwargs)

    monkeypatch.setattr(SerTrainer, "evaluate", dies_in_the_third_epoch)
    with pytest.raises(KilledError):
        script("train_text", *arguments)
    assert (tmp_path / "o" / "fold_1" / "checkpoints" / "checkpoint-4").is_dir()
    assert not is_finished(tmp_path / "o" / "fold_1")
    assert read_record(tmp_path / "o" / "fold_1" / "checkpoints" / "checkpoint-4").split.train.ids
    torn = tmp_path / "o" / "fold_1" / "checkpoints" / "checkpoint-6"  # the disk of a run killed while it saves
    torn.mkdir(exist_ok=True)
    (torn / "model.safetensors").write_bytes(b"half")
    (torn / "trainer_state.json").unlink(missing_ok=True)
    monkeypatch.setattr(SerTrainer, "evaluate", evaluate)
    script("train_text", *arguments)
    resumed = read_record(tmp_path / "o" / "fold_1")
    whole = ("--dataset", prepared, "--output_dir", tmp_path / "p", *arguments[4:])
    script("train_text", *whole)
    a, b = (load_file(tmp_path / o / "fold_1" / "model.safetensors") for o in "op")
    assert all(torch.allclose(a[key], b[key], rtol=0, atol=1e-5) for key in a), "as an unbroken run"
    unbroken = read_record(tmp_path / "p" / "fold_1")
    figures = [[log["eval_uar"] for log in record.history if "eval_uar" in log] for record in (resumed, unbroken)]
    assert figures[0] == figures[1], "patience is counted on, so both stop at one epoch"


def launched(*arguments) -> None:
    """Run train_fusion.py by `accelerate launch` in two processes."""
    config = ("--config_file", ROOT / "scripts" / "accelerate" / "two_cpu_processes.yaml")
    script = ROOT / "scripts" / "train_fusion.py"
    command = (sys.executable, "-m", "accelerate.commands.launch", *config, script, *arguments)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_PORT": port}
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, env=environment, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]


def test_two_processes_give_the_losses_of_one(prepared, script, tmp_path):
    """12 of the 24 training clips a step, over all processes. The one is this process: another imports for seconds."""
    config, extractor = AUDIO["crnn"]()
    config.dropout = 0.0
    AutoModel.from_config(config).save_pretrained(tmp_path / "a")
    extractor.save_pretrained(tmp_path / "a")
    words = tokenizer()
    AutoModel.from_config(TextRnnConfig(vocab_size=len(words), dropout=0.0)).save_pretrained(tmp_path / "t")
    words.save_pretrained(tmp_path / "t")
    told = (
        *("--dataset", prepared, "--use_cpu", "--num_train_epochs", "2", *QUICK[2:]),
        *("--audio_model", tmp_path / "a", "--text_model", tmp_path / "t"),
        *("--modality_dropout", "0", "--head_dropout", "0", "--logging_strategy", "steps", "--logging_steps", "1"),
    )
    script("train_fusion", *told, "--output_dir", tmp_path / "1", "--per_device_train_batch_size", "12")
    launched(*told, "--output_dir", tmp_path / "2", "--per_device_train_batch_size", "6")
    one, two = (read_record(tmp_path / n / "fold_1") for n in "12")
    assert "2 process(es)" in two.hardware
    assert "1 process(es)" in one.hardware
    for kind in ("loss", "eval_loss", "eval_uar"):
        losses = [[log[kind] for log in record.history if kind in log] for record in (one, two)]
        assert len(losses[0]) >= 2
        assert losses[0] == pytest.approx(losses[1], abs=2e-4), kind
    a, b = (read_predictions(tmp_path / n / "predictions.jsonl") for n in "12")
    for x, y in zip(a, b, strict=True):
        assert (x.id, x.reference) == (y.id, y.reference)
        assert x.probabilities == pytest.approx(y.probabilities, abs=1e-3)


@pytest.mark.slow
def test_the_embedded_default_runs_without_data(script, tmp_path, capsys):
    recipe = ROOT / "scripts" / "recipes" / "quickstart.yaml"
    script("train_fusion", recipe, "--num_train_epochs", "1", "--output_dir", tmp_path, "--disable_tqdm", "true")
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["corpus"], report["n_utterances"], report["leaks"]) == ("synthetic", 120, [])
    assert any("says nothing about speech" in notice for notice in report["notices"])
    assert "says nothing about speech" in capsys.readouterr().out


def test_a_corpus_without_words_is_heard_and_not_read(table, script, tmp_path, capsys):
    import pandas as pd

    silent = table.with_name("silent.csv")
    pd.read_csv(table).drop(columns="transcript").to_csv(silent, index=False)
    common = ("--corpus", "table", "--data_dir", silent, *QUICK)
    with pytest.raises(ValueError, match="None of the training clips has a transcript"):
        script("train_text", *common, "--output_dir", tmp_path / "t")
    with pytest.raises(
        ValueError, match=r"Fold 1: none of its \d+ training clips has a tr.*train_audio.py.*transcribe"
    ):
        script("train_fusion", *common, "--output_dir", tmp_path / "f")
    assert not (tmp_path / "f").exists()
    script("train_audio", *common, "--output_dir", tmp_path / "f", "--max_seconds", "1")
    said = capsys.readouterr().out
    assert "clips are longer than --max_seconds 1" in said
    ask = pipeline("audio-classification", model=str(tmp_path / "f" / "fold_1"), trust_remote_code=True)
    assert len(ask(str(next(table.parent.glob("*.wav"))))) == 4


def test_a_model_that_is_not_there_is_named(prepared, script, tmp_path):
    common = ("--dataset", prepared, *QUICK, "--output_dir", tmp_path / "o")
    with pytest.raises(FileNotFoundError, match="no/such: found neither a model folder nor a model of the Hub"):
        script("train_audio", *common, "--audio_model", "no/such")
    script("train_audio", *common)
    assert (tmp_path / "o" / "fold_1" / "config.json").is_file(), "a refused run does not hold its folder"


@pytest.mark.parametrize(
    ("name", "kind", "processes"),
    [
        ("one_gpu", "NO", 1),
        ("multi_gpu", "MULTI_GPU", 2),
        ("fsdp2", "FSDP", 2),
        ("deepspeed_zero2", "DEEPSPEED", 2),
        ("two_cpu_processes", "MULTI_GPU", 2),
    ],
)
def test_accelerate_reads_every_configuration(name, kind, processes):
    """Only that Accelerate knows all of its keys: GPUs, FSDP2 and DeepSpeed are not run here."""
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(ROOT / "scripts" / "accelerate" / f"{name}.yaml"))
    assert (config.distributed_type.value, config.num_processes) == (kind, processes)


def test_temperature_and_threshold_come_from_the_validation_speakers_alone(run, prepared):
    data = load_prepared(prepared)
    for fold in make_folds(data, "speaker_folds", n_folds=3):
        folder = run / f"fold_{fold.name}"
        ask = Classifier(str(folder), "cpu")
        rows = data.select(fold.validation)
        batches = list(ask.batches(clips(rows), rows["transcript"][:]))
        logits = np.empty((len(rows), len(ask.labels)))
        for part in batches:
            logits[part] = ask.forward(clips(rows.select(part)), rows.select(part)["transcript"][:])
        assert ask.temperature == pytest.approx(fit_temperature(logits, np.array(rows["label"][:])), rel=1e-3)
        confidence = ask.probabilities(clips(rows), rows["transcript"][:]).max(axis=1)
        assert (confidence >= ask.abstain_threshold - 1e-6).mean() == pytest.approx(0.8, abs=1 / len(rows))
        told = {(row.temperature, row.abstain_threshold) for row in read_predictions(folder / "predictions.jsonl")}
        assert told == {(ask.temperature, ask.abstain_threshold)}


def test_a_report_of_fewer_folds_is_no_leak(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    before = json.loads((folder / "report.json").read_text())
    (folder / "report.json").write_text(json.dumps(before | {"uar": before["uar"] + 0.1}))
    write_results(folder)
    assert json.loads((folder / "report.json").read_text())["leaks"] == before["leaks"] == []
    assert "figures_do_not_follow" not in (folder / "audit.json").read_text()


def test_every_model_has_its_card_and_the_run_its_page(run):
    card = (run / "fold_1" / "README.md").read_text()
    report = json.loads((run / "fold_1" / "report.json").read_text())
    assert f"UAR {100 * report['uar']:.1f} %" in card and "trained here from scratch" in card
    assert report["n_utterances"] == len(read_predictions(run / "fold_1" / "predictions.jsonl"))
    page = (run / "report.html").read_text()
    assert "data:image/png;base64" in page and "<audio" not in page  # nobody said that this table may be shared


def test_tensorboard_is_shown_figures_pictures_and_report_and_they_stay(prepared, tmp_path, script, pictures):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    told = ("--dataset", prepared, "--output_dir", tmp_path / "o", *QUICK, "--report_to", "tensorboard")
    script("train_text", *told)
    seen = EventAccumulator(str(tmp_path / "o" / "fold_1" / "tensorboard"))
    seen.Reload()
    tags = seen.Tags()
    assert {"test/uar", "test/ece", "eval/uar"} <= set(tags["scalars"])
    assert {"confusion_matrix", "reliability"} <= set(tags["images"])
    report = json.loads((tmp_path / "o" / "fold_1" / "report.json").read_text())
    assert seen.Scalars("test/uar")[0].value == pytest.approx(report["uar"], abs=1e-6)
    assert any("report" in tag for tag in tags["tensors"])


@pytest.mark.parametrize(
    "told, found",
    [((), "no --hub_model_id"), (("--hub_model_id", "a/b", "--fold", "all"), "3 folds, a model each")],
)
def test_a_push_that_cannot_be_is_refused_before_the_work(prepared, tmp_path, script, told, found):
    with pytest.raises(ValueError, match=f"--push_to_hub: found {found}"):
        script("train_text", "--dataset", prepared, "--output_dir", tmp_path / "o", *QUICK, "--push_to_hub", *told)
    assert not (tmp_path / "o").exists()


def test_threads_fit_the_model_and_the_machine(monkeypatch):
    told = []
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    small, large = torch.nn.Linear(1, 1), torch.nn.Linear(2500, 2500)
    arguments = SimpleNamespace(device=torch.device("cpu"))
    choose_threads(small, arguments)
    choose_threads(large, arguments)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    choose_threads(large, arguments)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")  # torch has read it
    choose_threads(large, arguments)
    assert told == [1, 8, 2]
