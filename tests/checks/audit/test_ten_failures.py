"""What goes wrong in this field, ten times: each is done here on purpose, and is refused or named."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from checks.audit.copies import recoded
from corpora_trees import iemocap

from hf_ser.checks.audit.data import audit_data, copy_findings, text_findings
from hf_ser.checks.audit.run import audit_run
from hf_ser.data.folds import Fold
from hf_ser.data.labels import apply_label_map
from hf_ser.data.plans import Rows
from hf_ser.data.prepare import prepare
from hf_ser.data.prepared import load_prepared
from hf_ser.data.splitting import make_folds
from hf_ser.runs.findings import LEAK, NOTE, WARNING
from hf_ser.runs.predictions import read_predictions, write_predictions
from hf_ser.runs.record import RECORD, hashed, read_record, write_record
from hf_ser.runs.report import make_report, write_report
from hf_ser.runs.scores import score, uar_from_confusion

QUICK = ("--num_train_epochs", "1", "--n_folds", "3", "--disable_tqdm", "true", "--early_stopping_patience", "0")


def kinds(findings, severity) -> set[str]:
    return {one.kind for one in findings if one.severity == severity}


def audited(folder, protocol="speaker_folds", reads=True, **how):
    dataset = load_prepared(folder)
    return audit_data(dataset, make_folds(dataset, protocol, n_folds=4, allow_leak=True, **how), reads)


def test_1_random_splits(prepared_of, clips, prepared, script, tmp_path):
    folder = prepared_of(clips)
    assert kinds(audited(folder), LEAK) == set()
    assert "speaker_overlap_train_test" in kinds(audited(folder, "random"), LEAK)
    with pytest.raises(ValueError, match="'random' puts clips of one speaker into training and test"):
        script("train_text", "--dataset", prepared, "--protocol", "random", "--output_dir", tmp_path / "o", *QUICK)
    leaky = ("--protocol", "random", "--allow_leak", "--output_dir", tmp_path / "o")
    script("train_text", "--dataset", prepared, *leaky, *QUICK)
    report = json.loads((tmp_path / "o/report.json").read_text())
    assert "speaker_overlap_train_test" in report["leaks"]
    assert report["audit"]["verdict"] == "leak"
    assert any("LEAK" in notice for notice in report["notices"])


def test_2_copies_augmented_before_the_split(prepared_of, clips):
    copies = [
        ({**row, "path": f"aug_{row['path']}", "speaker": f"aug_{row['speaker']}"}, recoded(samples))
        for row, samples in clips
    ]
    # Named as other speakers, the copies pass every check for speakers.
    findings = audited(prepared_of(clips + copies))
    assert "near_identical_sound_train_test" in kinds(findings, LEAK)
    assert not any(kind.startswith("speaker_overlap") for kind in kinds(findings, LEAK))
    pairs = {pair for one in findings if one.kind == "near_identical_sound_train_test" for pair in one.evidence}
    for pair in pairs:
        one, other = (part.split(" ")[0].removeprefix("table/") for part in pair.split(" = "))
        assert one.removeprefix("aug_") == other.removeprefix("aug_")


def test_2_copies_that_stay_on_one_side_are_no_leak(prepared_of, clips):
    copies = [({**row, "path": f"aug_{row['path']}"}, recoded(samples)) for row, samples in clips]
    findings = audited(prepared_of(clips + copies))
    assert kinds(findings, LEAK) == set()
    assert "near_identical_sound" in kinds(findings, NOTE)


@pytest.fixture
def stages(prepared, script, tmp_path):
    """An encoder of another split, and a model fused from it."""
    of_text = ("--dataset", prepared, "--split_seed", "1", "--output_dir", tmp_path / "text")
    script("train_text", *of_text, *QUICK)
    return ("--dataset", prepared, "--text_model", tmp_path / "text/fold_1", "--output_dir", tmp_path / "fused")


def test_3_stages_on_splits_of_their_own(stages, script, tmp_path):
    with pytest.raises(ValueError, match=r"this text model was (trained|chosen) on data that fold 1 uses as"):
        script("train_fusion", *stages, *QUICK)
    script("train_fusion", *stages, "--allow_leak", *QUICK)
    findings = audit_run(tmp_path / "fused")
    assert "stage_leakage" in kinds(findings, LEAK)
    (one,) = [one for one in findings if one.kind == "stage_leakage"][:1]
    assert one.evidence
    assert "{fold}" in one.remedy


def test_4_a_sentence_chosen_by_the_label(prepared_of, clips, script, tmp_path):
    added = {"angry": "how dare you", "happy": "what a day", "neutral": "it is noon", "sad": "she is gone"}
    spoiled = [({**row, "transcript": f"{row['transcript']} {added[row['label']]}"}, clip) for row, clip in clips]
    folder = prepared_of(spoiled)
    assert "label_in_text" in kinds(audited(folder), LEAK)
    assert "label_in_text" in kinds(audited(folder, reads=False), WARNING)
    with pytest.raises(ValueError, match=r"The audit found a leak: .*label_in_text"):
        script("train_text", "--dataset", folder, "--output_dir", tmp_path / "o", *QUICK)


def test_5_the_checkpoint_chosen_on_the_test_fold(prepared, script, tmp_path):
    dataset = load_prepared(prepared)
    by_speaker = dict(zip(dataset["id"][:], dataset["speaker"][:], strict=True))
    tested = [name for name, who in by_speaker.items() if who in ("table/s1", "table/s2")]
    parts = {"train": sorted(by_speaker.keys() - set(tested)), "validation": tested, "test": tested}
    (tmp_path / "split.json").write_text(json.dumps(parts))
    fixed = ("--dataset", prepared, "--protocol", "fixed", "--split_file", tmp_path / "split.json")
    with pytest.raises(ValueError, match="16 utterances are in both validation and test"):
        script("train_text", *fixed, "--output_dir", tmp_path / "o", *QUICK)
    script("train_text", *fixed, "--allow_leak", "--output_dir", tmp_path / "o", *QUICK)
    assert "checkpoint_chosen_on_test" in json.loads((tmp_path / "o/report.json").read_text())["leaks"]
    # Without the stamp too: the record of what was trained tells it.
    record = read_record(tmp_path / "o/fold_1")
    write_record(tmp_path / "o/fold_1", replace(record, leaks=[], audit=[]))
    assert "checkpoint_chosen_on_test" in kinds(audit_run(tmp_path / "o"), LEAK)


def test_6_iemocap_speakers_read_off_the_front_of_the_name(prepared_of, clips):
    rows = []
    for n, (row, samples) in enumerate(clips):
        session, wearer, letter = 1 + n % 4, "FM"[n // 4 % 2], "FM"[n // 8 % 2]
        name = f"Ses0{session}{wearer}_impro01_{letter}{n:03d}"
        rows.append(({**row, "path": f"{name}.wav", "speaker": f"Ses0{session}{wearer}"}, samples))
    folder = prepared_of(rows)
    (found,) = [one for one in audited(folder) if one.kind == "iemocap_speaker_by_prefix"]
    assert found.severity == LEAK
    for wrong in found.evidence:
        assert wrong.split("/")[1][5] != wrong.split("_")[-1][0]


def test_6_iemocap_speakers_read_off_the_last_group(tmp_path):
    prepare("iemocap", iemocap.build(tmp_path / "tree"), tmp_path / "data")
    dataset, _ = apply_label_map(load_prepared(tmp_path / "data"), "four_class")
    assert not [one for one in audit_data(dataset) if one.kind == "iemocap_speaker_by_prefix"]


@pytest.fixture
def scripted(prepared_of, clips):
    """Dialogues of four scripts, each in every session, whose lines tell the emotion only to who knows the script."""
    lines = {
        (script, label): f"{label[::-1][:2]}{script}lo {label[:3]}{script}ma ki{script}{len(label)}"
        for script in range(4)
        for label in ("angry", "happy", "neutral", "sad")
    }
    rows, taken = [], {}
    for row, samples in clips:
        key = (row["speaker"], row["label"])
        script = taken[key] = taken.get(key, -1) + 1
        columns = {"transcript": lines[(script, row["label"])], "script": f"script0{script}"}
        columns |= {
            "session": f"Ses0{(int(row['speaker'][1:]) + 1) // 2}",
            "dialogue": f"{row['speaker']}_script0{script}",
        }
        rows.append(({**row, **columns}, samples))
    return prepared_of(rows)


def test_7_scripts_that_training_and_test_share(scripted):
    findings = audited(scripted, "leave_one_session_out")
    shared = [one for one in findings if one.kind == "script_overlap"]
    assert {one.severity for one in shared} == {LEAK}
    assert len(shared) == 4
    assert "32 of 32 test clips have a script that training has too" in shared[0].detail
    assert "script_disjoint" in shared[0].remedy
    assert {
        one.severity for one in audited(scripted, "leave_one_session_out", reads=False) if "script" in one.kind
    } == {WARNING}
    assert not [one for one in audited(scripted, "script_disjoint") if one.kind == "script_overlap"]


def test_8_frozen_encoders_that_were_never_trained(prepared, script, tmp_path):
    run = ("--dataset", prepared, "--output_dir", tmp_path / "o")
    with pytest.raises(ValueError, match="--freeze audio: the audio encoder is made here, with random weights"):
        script("train_fusion", *run, "--freeze", "audio", *QUICK)
    # As another tool, or an older version, would have left it:
    script("train_fusion", *run, *QUICK)
    record = read_record(tmp_path / "o/fold_1")
    write_record(tmp_path / "o/fold_1", replace(record, settings=record.settings | {"freeze": "audio"}))
    assert "untrained_encoder" in kinds(audit_run(tmp_path / "o"), WARNING)


def test_9_figures_over_the_classes_that_are_there(prepared_of, clips, tmp_path):
    labels = ["angry", "happy", "neutral", "sad"]
    probabilities, references = np.eye(4)[[0, 1, 1, 0]] * 0.97 + 0.0075, np.array([0, 1, 1, 0])
    with pytest.raises(ValueError, match="UAR: found no utterance with the reference 'neutral', 'sad'"):
        score(probabilities, references, labels)
    with pytest.raises(ValueError, match="expected at least one of each"):
        uar_from_confusion(np.diag([2, 2, 0, 0]), labels)
    lacking = [(row, clip) for row, clip in clips if (row["speaker"], row["label"]) != ("s1", "sad")]
    findings = audited(prepared_of(lacking), "leave_one_speaker_out")
    (found,) = [one for one in findings if one.kind == "missing_class_test"]
    assert (found.severity, found.evidence, found.fold) == (WARNING, ("sad",), "1")


def test_9_weighted_and_unweighted_swapped(prepared, script, tmp_path):
    script("train_text", "--dataset", prepared, "--output_dir", tmp_path, *QUICK)
    rows = read_predictions(tmp_path / "predictions.jsonl")
    rows = [row for row in rows if row.reference != "sad" or row.id == rows[-1].id] + [
        row for row in rows if row.reference == "sad"
    ][:1]
    rows = list({row.id: row for row in rows}.values())
    write_predictions(tmp_path / "predictions.jsonl", rows)
    report = make_report(rows)
    assert report.uar != report.wa
    write_report(replace(report, uar=report.wa, wa=report.uar), tmp_path / "report.json")
    (found,) = [one for one in audit_run(tmp_path) if one.kind == "figures_do_not_follow"]
    assert found.severity == LEAK
    write_report(report, tmp_path / "report.json")
    assert "figures_do_not_follow" not in {one.kind for one in audit_run(tmp_path)}


def test_10_text_that_does_not_carry_the_label(dataset_of):
    spoken = ("Kids are talking by the door", "Dogs are sitting by the door")
    rows = [
        (f"ravdess/{speaker:02d}-{label}-{take}", label, f"ravdess/{speaker:02d}", None)
        for speaker in range(1, 25)
        for label in ("angry", "calm", "happy", "sad")
        for take in range(16)
    ]
    columns = {"sentence": [str(n % 2) for n in range(len(rows))], "corpus": ["ravdess"] * len(rows)}
    dataset = dataset_of(rows, **columns)
    found = text_findings(
        Rows.of(dataset), [spoken[n % 2] for n in range(len(rows))], make_folds(dataset, "emobox"), True
    )
    assert [(one.kind, one.severity) for one in found][:2] == [
        ("text_carries_nothing", NOTE),
        ("sentence_overlap", NOTE),
    ]
    assert "at best equal an audio-only" in found[0].remedy


def test_10_a_fusion_below_its_own_branch(prepared, script, tmp_path):
    script("train_text", "--dataset", prepared, "--output_dir", tmp_path / "text", *QUICK)
    staged = ("--text_model", tmp_path / "text/fold_{fold}", "--output_dir", tmp_path / "fused")
    script("train_fusion", "--dataset", prepared, *staged, *QUICK)
    branch = tmp_path / "text/fold_1/predictions.jsonl"
    right = [
        replace(row, probabilities={name: float(name == row.reference) for name in row.probabilities})
        for row in read_predictions(branch)
    ]
    write_predictions(branch, right)
    (found,) = [one for one in audit_run(tmp_path / "fused") if one.kind == "fusion_below_branch"]
    assert found.severity == WARNING
    assert "its text encoder alone 100.0 %" in found.detail


def test_an_audit_of_nothing(tmp_path, prepared, script):
    with pytest.raises(FileNotFoundError, match="found no finished fold, expected the --output_dir of a training scr"):
        audit_run(tmp_path)
    script("train_text", "--dataset", prepared, "--output_dir", tmp_path / "o", *QUICK)
    shutil.copy(tmp_path / "o/fold_1" / RECORD, tmp_path / "record.json")
    assert kinds(audit_run(tmp_path / "o"), LEAK) == set()
    assert kinds(audit_run(tmp_path / "o", load_prepared(prepared)), LEAK) == set()
    assert "other_data" in kinds(audit_run(tmp_path / "o", load_prepared(prepared).select(range(40))), WARNING)


def test_a_record_that_was_changed_to_hide_a_leak(prepared, script, tmp_path):
    leaky = ("--dataset", prepared, "--protocol", "random", "--allow_leak", "--output_dir", tmp_path)
    script("train_text", *leaky, *QUICK)
    record = read_record(tmp_path / "fold_1")
    tested = {hashed(row.speaker) for row in read_predictions(tmp_path / "predictions.jsonl")}
    parts = {
        part: replace(seen, speakers=sorted(set(seen.speakers) - tested), ids=seen.ids[: len(seen.ids) // 2])
        for part, seen in record.split.parts.items()
    }
    write_record(tmp_path / "fold_1", replace(record, split=replace(record.split, **parts), leaks=[], audit=[]))
    assert "speaker_overlap_train_test" in kinds(audit_run(tmp_path), LEAK)  # the predictions are stamped too
    assert "record_does_not_match" in kinds(audit_run(tmp_path, load_prepared(prepared)), LEAK)
    (tmp_path / "fold_1/predictions.jsonl").unlink()
    assert "speaker_overlap_train_test" in kinds(audit_run(tmp_path), LEAK)  # those of the whole run
    (tmp_path / "predictions.jsonl").unlink()
    assert "no_predictions" in kinds(audit_run(tmp_path), WARNING)


def test_a_run_and_the_data_of_another(prepared, script, tmp_path, prepared_of, clips):
    script("train_text", "--dataset", prepared, "--output_dir", tmp_path / "o", *QUICK)
    other = load_prepared(prepared_of([({**row, "path": f"b_{row['path']}"}, clip) for row, clip in clips]))
    with pytest.raises(ValueError, match="none of the run's 48 rows is in this data set"):
        audit_run(tmp_path / "o", other)


def test_one_recording_in_three_places(prepared_of, clips):
    dataset = load_prepared(prepared_of(clips))
    fold = make_folds(dataset, "speaker_folds", n_folds=4)[0]
    hashes = dataset["pcm_sha256"][:]
    apart, train, test = fold.train[0], fold.train[1], fold.test[0]
    for row in (train, test):
        hashes[row] = hashes[apart]
    same = dataset.remove_columns("pcm_sha256").add_column("pcm_sha256", hashes)
    fold = replace(fold, train=fold.train[1:])
    assert "identical_sound_train_test" in kinds(copy_findings(same, [fold]), LEAK)


def test_speakers_of_two_spellings(prepared_of, clips):
    spelled = [
        ({**row, "speaker": row["speaker"].upper() if n % 2 else row["speaker"]}, clip)
        for n, (row, clip) in enumerate(clips)
    ]
    found = [one for one in audited(prepared_of(spelled)) if one.kind == "similar_speakers"]
    assert {one.severity for one in found} == {LEAK}
    assert {"table/s1", "table/S1"} <= set(found[0].evidence)


@pytest.mark.parametrize("other", ["spk-{}", "SPK_{}", "spk_0{}", "s\u0440k_{}"])
def test_speakers_who_look_alike_across_a_split(prepared_of, clips, other):
    spelled = [
        ({**row, "speaker": (other if n % 2 else "spk_{}").format(row["speaker"][1:])}, clip)
        for n, (row, clip) in enumerate(clips)
    ]
    folder = prepared_of(spelled)
    (found, *_) = [one for one in audited(folder) if one.kind == "similar_speakers"]
    assert found.severity == LEAK and "in both train and" in found.detail
    everybody = np.arange(len(clips))
    dataset = load_prepared(folder)
    fold = Fold("1", everybody, everybody[:0], everybody[:0], "x")
    (found,) = [one for one in audit_data(dataset, [fold]) if one.kind == "similar_speakers"]
    assert found.severity == WARNING


def test_an_audit_does_not_depend_on_the_order_of_the_rows(prepared_of, clips):
    dataset = load_prepared(prepared_of(clips))
    shuffled = dataset.select(np.random.default_rng(0).permutation(len(dataset)))
    one, other = (
        audit_data(each, make_folds(each, "random", n_folds=4, allow_leak=True)) for each in (dataset, shuffled)
    )
    assert one == other
