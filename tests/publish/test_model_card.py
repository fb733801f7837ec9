"""The card of a model: its figures, what it leaves out, and that its code runs."""

import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import soundfile as sf
from example_fold import SPLIT, STRESS, predictions, trained
from huggingface_hub import ModelCard
from models.tiny import LABELS, clips
from rows import make_report

from hf_ser.publish.model_card import names_emotions, write_model_card
from hf_ser.publish.results import copy_run_report_to
from hf_ser.runs.report import write_report

NEVER = "chosen on validation speakers, never on those of the test"


def test_the_card_tells_the_figures_and_the_hub_reads_them(tmp_path):
    report = make_report(predictions())
    folder = trained(tmp_path / "fold_1", report=report)
    (folder / "confusion_matrix.png").write_bytes(b"")
    card = ModelCard.load(write_model_card(folder, "somebody/feelings"))
    assert card.data.license == "cc-by-nc-sa-4.0" and card.data.pipeline_tag == "audio-classification"
    assert card.data.base_model == ["facebook/wav2vec2-base"]
    figures = {result.metric_name.split(" ")[0]: result.metric_value for result in card.data.eval_results}
    assert figures == {
        "UAR": pytest.approx(report.uar, abs=1e-4),
        "WA": pytest.approx(report.wa, abs=1e-4),
        "macro": pytest.approx(report.macro_f1, abs=1e-4),
    }
    assert card.data.eval_results[0].dataset_name == "ravdess, protocol speaker_folds, test fold 1"
    assert f"**UAR {100 * report.uar:.1f} %**" in card.text
    assert "](confusion_matrix.png)" in card.text and "](stress.png)" not in card.text
    for needed in (
        "no leak found",
        "abcdef",
        "CC BY-NC-SA",
        "1.5 minutes",
        "Article 5(1)(f)",
        "2 February 2025",
        "2304.00860",
        "energy",
    ):
        assert needed in card.text
    assert "undefined" not in card.text.lower() and "secret" not in str(card) and "wav2vec2" in card.text


def test_a_leaked_and_a_synthetic_run_say_so_at_the_top_and_in_the_metadata(tmp_path):
    leaked = make_report(predictions(leaks=("speaker_overlap_train_test",)))
    card = ModelCard.load(write_model_card(trained(tmp_path / "a", report=leaked)))
    assert card.text.index("LEAKED RUN") < card.text.index("## Figures")
    assert "LEAKED" in card.data.eval_results[0].dataset_name
    synthetic = make_report(predictions("synthetic"))
    card = ModelCard.load(write_model_card(trained(tmp_path / "b", report=synthetic, corpora=["synthetic"])))
    assert card.text.index("Synthetic corpus") < card.text.index("## Figures")
    assert "synthetic" in card.data.eval_results[0].dataset_name


def test_a_run_on_text_of_another_corpus_says_so_too(tmp_path):
    report = make_report(predictions("paired"))
    card = ModelCard.load(write_model_card(trained(tmp_path / "a", report=report, corpora=["paired"])))
    assert card.text.index("Paired corpus") < card.text.index("## Figures")
    assert "paired, text is not" in card.data.eval_results[0].dataset_name
    card = ModelCard.load(write_model_card(trained(tmp_path / "b", corpora=["paired"])))
    assert card.text.index("not what is spoken") < card.text.index("## Figures")


def test_a_leak_of_the_training_or_of_the_stress_test_is_at_the_top_of_a_clean_report(tmp_path):
    clean = make_report(predictions())
    folder = trained(tmp_path / "a", report=clean, leaks=["stage_leakage_audio_test"])
    card = write_model_card(folder).read_text()
    assert card.index("LEAKED: stage_leakage_audio_test") < card.index("## Figures")
    assert NEVER not in " ".join(card.split()) and "leaked into each other" in card
    folder = trained(tmp_path / "b", report=clean)
    (folder / "stress.json").write_text(json.dumps(STRESS | {"leaks": ["met_in_training"], "notices": ["Only gain."]}))
    card = write_model_card(folder).read_text()
    assert card.index("LEAKED: met_in_training") < card.index("## Figures") and "- Only gain." in card
    assert NEVER in " ".join(write_model_card(trained(tmp_path / "c", report=clean)).read_text().split())


def test_names_of_classes_and_settings_are_text_and_tell_no_path(tmp_path):
    settings = {"label_map": "../anna/my map.yaml", "audio_model": r"C:\anna\enc", "text_model": "user/bert@v1"}
    folder = trained(tmp_path / "fold_1", settings=settings)
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {"0": "<b>fett</b>", "1": "a|b", "2": "sad"}
    (folder / "config.json").write_text(json.dumps(config))
    card = write_model_card(folder).read_text()
    assert "anna" not in card and "| my map.yaml |" in card and "| user/bert@v1 |" in card
    assert "&lt;b&gt;fett" in card and "<b>" not in card


def test_a_model_without_a_test_shows_the_figures_of_its_run(tmp_path):
    final = {"split": SPLIT | {"fold": "final"}}
    card = write_model_card(trained(tmp_path / "final", **final)).read_text()
    assert "There are no figures for this model" in card and "was not tested" in card and "model-index" not in card
    write_report(make_report(predictions()), tmp_path / "report.json")
    card = write_model_card(tmp_path / "final").read_text()
    assert "was not tested" in card and "are of the 1 model of its run" in card
    assert "cross-validation with the same settings, not this model alone" in " ".join(card.split())
    for name in ("confusion_matrix.png", "reliability.png"):
        (tmp_path / name).write_bytes(b"of the run")
    copy_run_report_to(tmp_path, tmp_path / "final")  # as it is pushed
    copied = write_model_card(tmp_path / "final").read_text()
    assert copied.replace("\n", "").startswith(card.replace("\n", "")[:200]) and "was not tested" in copied
    assert "](reliability.png)" in copied


def test_an_unfinished_or_foreign_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no training record, expected the folder of a model"):
        write_model_card(tmp_path)
    with pytest.raises(FileNotFoundError, match="an unfinished training"):
        write_model_card(trained(tmp_path / "fold_1", finished=False))


def test_a_report_of_an_earlier_version_is_to_be_made_anew(tmp_path):
    folder = trained(tmp_path / "fold_1", report=replace(make_report(predictions()), report_version=2))
    with pytest.raises(ValueError, match=r"found report_version: 2, expected 3: .* Make it again with python"):
        write_model_card(folder)


def test_the_code_of_the_card_runs_where_hf_ser_is_absent(tmp_path):
    code = "import sys; sys.modules['hf_ser'] = None\n"
    for kind in ("audio", "fusion", "text"):  # in one process: it takes seconds to begin
        card = write_model_card(trained(tmp_path / kind, kind, make_report(predictions()))).read_text()
        code += "".join(re.findall(r"```python\n(.+?)```", card, re.DOTALL))
    sf.write(tmp_path / "call.wav", clips(1.0)[0], 16_000)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answers = done.stdout.strip().splitlines()  # audio, both without and with text, text
    assert len(answers) == 4 and all(f"'label': '{label}'" in line for line in answers for label in LABELS)


@pytest.mark.parametrize(("ece", "is_worse"), [(0.2, True), (0.05, False)])
def test_a_card_calls_no_scores_calibrated_that_the_temperature_made_worse(tmp_path, ece, is_worse):
    report = make_report(predictions())
    report = replace(report, calibration=replace(report.calibration, ece=ece, ece_uncalibrated=0.1))
    card = write_model_card(trained(tmp_path / "fold_1", report=report)).read_text()
    assert ("made it worse on the test speakers" in card) == is_worse
    assert f"ECE {ece:.3f}, 0.100 before" in card and "scores are calibrated" not in card


def test_the_card_begins_with_architecture_and_picture(tmp_path):
    folder = trained(tmp_path / "fold_1", report=make_report(predictions()))
    (folder / "confusion_matrix.png").write_bytes(b"")
    card = write_model_card(folder).read_text()
    top = card.partition("## Figures")[0]
    assert top.index("](confusion_matrix.png)") < top.index("**Architecture:** wav2vec2 and gru (from scratch)")
    assert card.count("](confusion_matrix.png)") == 1 and "no pretrained weights" not in card
    own = trained(tmp_path / "own", sources={"audio": "random_kernels"}, recipe="quickstart")
    card = write_model_card(own).read_text()
    assert "It has no pretrained weights" in card and "| recipe | quickstart |" in card


def test_a_model_of_other_classes_than_emotions_says_so_and_what_it_is_for(tmp_path):
    folder = trained(tmp_path / "fold_1")
    config = json.loads((folder / "config.json").read_text()) | {"id2label": {"0": "child", "1": "adult"}}
    (folder / "config.json").write_text(json.dumps(config))
    card = write_model_card(folder, purpose="To choose *stories* by age.").read_text()
    assert "fold_1: speech classification from" in card.replace("\\", "")
    assert r"by its publisher:** To choose \*stories\* by age." in card


def test_classes_that_any_task_may_have_make_no_model_one_of_emotions():
    for emotions in (["Wut", "Anger", "sad"], ["aroused_negative"], ["negative", "positive"], ["other", "angry"]):
        assert names_emotions(emotions), emotions
    for others in (["female", "male", "other"], ["young", "old", "neutral"], ["ill", "Healthy", "Other", "sad"], []):
        assert not names_emotions(others), others
