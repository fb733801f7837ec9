"""The report against hand counts, a bootstrap written the long way, and its own script."""

import hashlib
import json
import random
import re

import numpy as np
import pytest
from jsonschema import ValidationError, validate
from rows import make_report, write_predictions
from scipy.stats import norm
from scipy.stats import t as student
from sklearn.metrics import auc, confusion_matrix, precision_recall_fscore_support, recall_score

from hf_ser.runs.calibration import tempered
from hf_ser.runs.figures import LabelMap, Report
from hf_ser.runs.findings import Verdict
from hf_ser.runs.report import write_report
from hf_ser.runs.report_text import format_report

SCHEMA = Report.schema()
LABELS = ["neutral", "happy", "sad", "angry"]


def make_rows(n: int = 240, n_speakers: int = 12, n_folds: int = 3, seed: int = 0, **changes) -> list[dict]:
    """Rows of speakers who differ in how well they are recognised, every class said by every speaker."""
    rng = np.random.default_rng(seed)
    ease = rng.uniform(-0.5, 3.0, n_speakers)
    rows = []
    for index in range(n):
        speaker, label = (index // len(LABELS)) % n_speakers, index % len(LABELS)
        logits = rng.normal(size=len(LABELS))
        logits[label] += ease[speaker]
        probabilities = np.exp(logits) / np.exp(logits).sum()
        fold = str(speaker % n_folds + 1)
        row = {
            "id": f"ravdess/{index:04}",
            "corpus": "ravdess",
            "speaker": f"ravdess/{speaker + 1}",
            "sex": ["male", "female"][speaker % 2],
            "protocol": "emobox",
            "fold": fold,
            "split_fingerprint": f"print of {fold}",
            "leaks": [],
            "transcript_source": "reference",
            "votes": None,
            "temperature": None,
            "abstain_threshold": None,
            "reference": LABELS[label],
            "probabilities": dict(zip(LABELS, probabilities.tolist(), strict=True)),
        }
        rows.append(row | changes)
    return rows


def hand_row(name: str, reference: str, predicted: str, **changes) -> dict:
    probabilities = {"sad": 0.0, "happy": 0.0} | {predicted: 1.0}
    return make_rows(1)[0] | {"id": name, "reference": reference, "probabilities": probabilities} | changes


def predicted_of(rows: list[dict]) -> list[str]:
    return [max(row["probabilities"], key=row["probabilities"].get) for row in rows]


def test_actors_absent_from_a_published_fold_are_named():
    rows = make_rows(40)
    actors = ("01", "11", "20", "21")
    whole = [row | {"fold": "1", "split_fingerprint": "x"} for row in rows]
    whole = [row | {"speaker": f"ravdess/{actors[i // 4 % 4]}"} for i, row in enumerate(whole)]
    assert make_report(whole).notices == []
    (notice,) = make_report([row for row in whole if row["speaker"] != "ravdess/21"]).notices
    assert notice.startswith(
        "Test actors absent from the data: 21 in fold 1. Do not compare this figure with published ones"
    )
    other = [row | {"protocol": "speaker_folds"} for row in whole if row["speaker"] != "ravdess/21"]
    assert make_report(other).notices == []


def test_hand_worked_report():
    rows = [
        hand_row("1", "sad", "sad", speaker="r/a", sex="male"),
        hand_row("2", "sad", "happy", speaker="r/a", sex="male"),
        hand_row("3", "happy", "happy", speaker="r/a", sex="male"),
        hand_row("4", "sad", "sad", speaker="r/b", sex=None),
        hand_row("5", "sad", "sad", speaker="r/b", sex=None),
    ]
    report = make_report([row | {"protocol": "speaker_folds"} for row in rows])
    assert report.confusion_matrix == [[3, 1], [0, 1]]
    assert report.labels == ["sad", "happy"]
    assert (report.uar, report.wa, report.chance_uar) == (0.875, 0.8, 0.5)
    assert (report.n_utterances, report.n_speakers) == (5, 2)
    man, other = {"n": 3, "wa": 2 / 3, "uar": 0.75}, {"n": 2, "wa": 1.0, "uar": None}
    assert report.to_json()["per_speaker"] == {"r/a": man | {"sex": "male"}, "r/b": other | {"sex": None}}
    more = {"n_speakers": 1, "uar_ci95": None}
    alone = "No interval: one speaker only, and the bootstrap draws whole speakers."
    lacks = "No interval: a class of the task is absent."
    assert report.to_json()["per_sex"] == {
        "male": man | more | {"uar_ci95_note": alone, "recall": {"sad": 0.5, "happy": 1.0}},
        "unknown": other | more | {"uar_ci95_note": lacks, "recall": {"sad": 1.0, "happy": None}},
    }
    assert report.to_json()["sex_gap"] == {
        "uar": None,
        "ci95": None,
        "note": "No gap: no utterance of a female speaker.",
    }
    worst = {"id": "2", "fold": "1", "confidence": 1.0}
    confused = {"reference": "sad", "predicted": "happy", "n": 1, "share": 0.25, "worst": [worst]}
    assert report.to_json()["confusions"] == [confused]
    assert report.to_json()["per_fold"] == {"1": {"n": 5, "wa": 0.8, "uar": 0.875}}
    assert report.per_class["sad"].to_json() == {"precision": 1.0, "recall": 0.75, "f1": 6 / 7, "support": 4}
    assert report.per_class["happy"].to_json() == {"precision": 0.5, "recall": 1.0, "f1": 2 / 3, "support": 1}
    assert (report.split_fingerprint, report.folds) == ("print of 1", {"1": "print of 1"})
    assert report.leaks == report.notices == []


def test_a_model_that_is_never_right_has_a_report_that_can_be_read(tmp_path):
    wrong = {"sad": "happy", "happy": "sad"}
    report = make_report([hand_row(str(i), label, wrong[label]) for i, label in enumerate(["sad", "happy", "happy"])])
    assert report.per_class["happy"].support == 2
    write_report(report, tmp_path / "report.json")
    assert Report.read(tmp_path / "report.json").uar == 0


def test_agrees_with_scikit_learn():
    rows = make_rows()
    references, predicted = [row["reference"] for row in rows], predicted_of(rows)
    report = make_report(rows)
    assert report.confusion_matrix == confusion_matrix(references, predicted, labels=LABELS).tolist()
    assert report.uar == pytest.approx(recall_score(references, predicted, average="macro"))
    columns = precision_recall_fscore_support(references, predicted, labels=LABELS)
    for name, column in zip(("precision", "recall", "f1", "support"), columns, strict=True):
        assert [getattr(report.per_class[label], name) for label in LABELS] == pytest.approx(column.tolist())
    for speaker, figures in report.per_speaker.items():
        own = [index for index, row in enumerate(rows) if row["speaker"] == speaker]
        uar = recall_score([references[i] for i in own], [predicted[i] for i in own], average="macro")
        assert figures.uar == pytest.approx(uar)
    assert sum(fold.n for fold in report.per_fold.values()) == len(rows)


def test_order_of_rows_changes_nothing():
    rows = make_rows(n_folds=12)
    report = make_report(rows)
    shuffled = random.Random(1).sample(rows, len(rows))
    assert json.dumps(make_report(shuffled).to_json()) == json.dumps(report.to_json())
    assert list(report.per_fold) == list(report.folds) == [str(fold) for fold in range(1, 13)]


def test_fingerprint_of_several_folds():
    report = make_report(make_rows(n_folds=2))
    assert report.folds == {"1": "print of 1", "2": "print of 2"}
    assert report.split_fingerprint == hashlib.sha256(b"1:print of 1\n2:print of 2").hexdigest()


def test_interval_is_that_of_resampled_speakers():
    rows = make_rows()
    low, high = make_report(rows).uar_ci95
    z = student.ppf(0.975, 11) * np.sqrt(12 / 11)  # of 12 speakers
    rng = np.random.default_rng(7)
    speakers = np.array([row["speaker"] for row in rows])
    references, predicted = np.array([row["reference"] for row in rows]), np.array(predicted_of(rows))
    clips = [np.flatnonzero(speakers == speaker) for speaker in sorted(set(speakers))]
    uars = []
    for _ in range(2000):
        drawn = np.concatenate([clips[index] for index in rng.integers(0, len(clips), len(clips))])
        hits = predicted[drawn] == references[drawn]
        uars.append(np.mean([hits[references[drawn] == label].mean() for label in LABELS]))
    assert [low, high] == pytest.approx(np.quantile(uars, norm.cdf([-z, z])), abs=0.02)
    assert high - low > 1.1 * np.diff(np.percentile(uars, [2.5, 97.5]))[0], "wider than the plain one"


def test_interval_is_reproducible_contains_the_figure_and_widens_with_fewer_speakers():
    many, few = make_report(make_rows(n_speakers=48)), make_report(make_rows(n_speakers=5))
    for report in (many, few):
        low, high = report.uar_ci95
        assert 0 <= low < report.uar < high <= 1
    assert few.uar_ci95[1] - few.uar_ci95[0] > 1.5 * (many.uar_ci95[1] - many.uar_ci95[0])
    assert make_report(make_rows(n_speakers=48)).uar_ci95 == many.uar_ci95
    assert "over 48 speakers, 5000 resamples, seed 0; 0 resamples lacked a class" in many.uar_ci95_note
    assert "it is too narrow: in simulations it held the true figure 91 times in 100" in few.uar_ci95_note
    assert "too narrow" not in many.uar_ci95_note


def test_intervals_of_wa_and_macro_f1_hold_their_figures():
    rows = [row for index, row in enumerate(make_rows()) if row["reference"] != "sad" or index % 3 == 0]
    report = make_report(rows)
    assert report.wa != report.uar
    for name in ("uar", "wa", "macro_f1"):
        low, high = getattr(report, f"{name}_ci95")
        assert low < getattr(report, name) < high
    assert len({tuple(getattr(report, f"{name}_ci95")) for name in ("uar", "wa", "macro_f1")}) == 3


def test_no_interval_says_why():
    one = make_report(make_rows(speaker="ravdess/1"))
    assert one.uar_ci95 is None
    assert one.uar_ci95_note.startswith("No interval: one speaker only")
    rows = make_rows()
    rows[0]["speaker"] = rows[9]["speaker"] = None
    unknown = make_report(rows)
    assert unknown.uar_ci95 is None
    assert unknown.uar_ci95_note.startswith("No interval: 2 utterances have no speaker")
    assert unknown.n_speakers == 12
    assert unknown.per_speaker["unknown"].n == 2
    one_class_each = [row | {"speaker": f"ravdess/{row['reference']}"} for row in make_rows()]
    assert "resamples of the speakers lacked a class" in make_report(one_class_each).uar_ci95_note


def test_resamples_without_a_class_are_dropped_and_counted():
    rows = [row for row in make_rows() if row["reference"] != "sad" or row["speaker"] in ("ravdess/1", "ravdess/2")]
    report = make_report(rows)
    dropped = int(report.uar_ci95_note.split("; ")[1].split()[0])
    assert dropped / 5000 == pytest.approx((10 / 12) ** 12, abs=0.03)  # neither of the two speakers drawn
    assert report.uar_ci95 is not None
    assert report.per_speaker["ravdess/3"].uar is None


def test_absent_class_raises():
    rows = [row for row in make_rows() if row["reference"] != "sad"]
    with pytest.raises(ValueError, match="found no utterance with the reference 'sad', expected at least one"):
        make_report(rows)


def test_wrong_rows_raise():
    with pytest.raises(ValueError, match="predictions: found no rows"):
        make_report([])
    with pytest.raises(ValueError, match="predictions, line 241: found the id"):
        make_report([*make_rows(), make_rows()[0]])


def test_notices_and_joined_corpora():
    rows = make_rows(leaks=["shared speakers"]) + [
        row | {"id": f"synthetic/{index}", "corpus": "synthetic", "leaks": ["random split", "shared speakers"]}
        for index, row in enumerate(make_rows())
    ]
    report = make_report(rows)
    assert report.corpus == "ravdess+synthetic"
    assert report.leaks == ["random split", "shared speakers"]
    assert report.notices[0].startswith("LEAKED RUN: random split, shared speakers.")
    synthetic = "Synthetic corpus: this figure tests the software and says nothing about speech."
    assert report.notices[1] == synthetic
    assert format_report(report).startswith("LEAKED RUN: random split, shared speakers.")
    assert synthetic in format_report(report)


def test_figures_on_text_of_another_corpus_say_so():
    report = make_report([row | {"id": f"paired/{n}", "corpus": "paired"} for n, row in enumerate(make_rows())])
    assert report.notices[0].startswith("Paired corpus: clips of RAVDESS with sentences of MELD")
    assert "Paired corpus" in format_report(report)


def test_table_for_the_terminal():
    report = make_report(make_rows())
    table = format_report(report)
    low, high = (f"{100 * end:.1f}" for end in report.uar_ci95)
    assert f"UAR          {100 * report.uar:.1f} %, 95 % interval [{low}, {high}], chance 25.0 %" in table
    assert "ravdess, protocol emobox, 3 folds" in table
    assert all(any(line.startswith(label) for line in table.splitlines()) for label in LABELS)
    assert "sex          female: UAR" in table
    assert max(map(len, table.splitlines())) <= 100
    assert "no interval" in format_report(make_report(make_rows(speaker=None)))
    assert "240 utterances, 1 speaker, " in format_report(make_report(make_rows(speaker="ravdess/1")))
    assert "calibration  not calibrated: ECE" in table
    assert "answered     no threshold, AURC" in table
    first = report.confusions[0]
    assert f"wrong        {first.reference} taken for {first.predicted}: {first.n}, " in table
    assert sum("taken for" in line for line in table.splitlines()) == 3
    gap, (low, high) = (report.sex_gap.uar, report.sex_gap.ci95)
    assert f"UAR female - male {100 * gap:+.1f} points, 95 % interval [{100 * low:+.1f}, {100 * high:+.1f}]" in table
    calibrated = format_report(make_report(make_rows(temperature=1.5, abstain_threshold=0.5)))
    assert re.search(r"calibration ECE 0\.\d+ before, 0\.\d+ after, .* temperature 1\.50", " ".join(calibrated.split()))
    assert re.search(r"answered +\d+\.\d % \(n \d+\), UAR \d+\.\d % on those, AURC 0\.\d+", calibrated)


def test_figures_against_votes_are_over_the_rows_that_have_any():
    rows = [
        hand_row("1", "sad", "sad", votes={"sad": 1.0, "happy": 0.0}),
        hand_row("2", "happy", "happy", votes={"sad": 0.6, "happy": 0.4}),
        hand_row("3", "happy", "sad"),
    ]
    rows[1]["probabilities"] = {"sad": 0.2, "happy": 0.8}
    report = make_report(rows)
    soft = report.soft_labels
    kl = (0.6 * np.log(0.6 / 0.2) + 0.4 * np.log(0.4 / 0.8)) / 2
    cosine = (1 + (0.6 * 0.2 + 0.4 * 0.8) / np.sqrt((0.36 + 0.16) * (0.04 + 0.64))) / 2
    assert (soft.n, soft.majority_wa) == (2, 0.5)
    assert (soft.kl, soft.cosine) == (pytest.approx(kl, abs=1e-5), pytest.approx(cosine))
    assert soft.brier == pytest.approx(0.16)  # (0 + 0.4² + 0.4²) / 2
    assert report.wa == pytest.approx(2 / 3), "against the corpus's label, as without votes"
    assert f"rater votes  KL {kl:.3f} nats, cosine {cosine:.3f}, Brier 0.160, most voted class 50.0 %" in format_report(
        report
    )
    assert "(votes of 2 utterances)" in " ".join(format_report(report).split())


def test_without_votes_the_report_says_so_and_makes_none_up():
    report = make_report(make_rows())
    assert report.soft_labels.to_json().keys() == {"n", "note"}
    assert report.soft_labels.n == 0
    assert report.soft_labels.note.startswith("No rater votes in this corpus")
    assert "rater votes  none in this corpus" in format_report(report).splitlines()


def test_sources_of_transcripts_are_in_the_report_of_a_model_with_text():
    rows = make_rows()
    rows[0]["transcript_source"], rows[5]["transcript_source"] = "openai/whisper-tiny@169d4a4", None
    report = make_report(rows)
    assert report.transcript_sources == ["none", "openai/whisper-tiny@169d4a4", "reference"]
    line = "240 utterances, 12 speakers, transcripts: none, openai/whisper-tiny@169d4a4, reference"
    assert line in " ".join(format_report(report).split())
    audio_only = make_report([row | {"transcript_source": None} for row in rows])
    assert "240 utterances, 12 speakers\n" in format_report(audio_only)


def test_errors_are_related_to_the_confidence_of_the_recogniser():
    rows = make_rows(9, n_speakers=1, n_folds=1, asr_avg_logprob=None)
    assert make_report(rows).per_asr_confidence is None
    assert "recogniser" not in format_report(make_report(rows))
    # In thirds by log probability, whatever the order of the rows: the first is of the clips that are least sure.
    rows = [
        hand_row(f"ravdess/{n}", "sad", "sad" if n % 3 < n // 3 else "happy", asr_avg_logprob=(n - 9) / 10)
        for n in range(9)
    ]
    rows += [hand_row("ravdess/9", "happy", "happy"), hand_row("ravdess/10", "sad", "sad", asr_avg_logprob=None)]
    found = make_report(rows[::-1]).per_asr_confidence
    assert {name: (one.n, one.wa) for name, one in found.items()} == {
        "least sure": (3, 0),
        "middle": (3, pytest.approx(1 / 3)),
        "most sure": (3, pytest.approx(2 / 3)),
    }
    assert "least sure: WA 0.0 (n 3)" in format_report(make_report(rows))


def test_the_audit_is_in_the_report():
    rows = make_rows(protocol="speaker_folds")
    assert make_report(rows).audit is None
    assert "audit        not run" in format_report(make_report(rows)).splitlines()
    clean = make_report(rows, Verdict(verdict="clean", leak=[], warning=[]))
    assert "audit        no leak found" in format_report(clean).splitlines()
    warned = make_report(rows, Verdict(verdict="warnings", leak=[], warning=["level", "silence"]))
    assert "audit        no leak found; warnings: level, silence" in format_report(warned).splitlines()
    assert clean.notices == warned.notices == []
    audit = Verdict(verdict="leak", leak=["identical_sound_train_test"], warning=["level"])
    leaked = make_report(rows, audit)
    assert leaked.audit == audit
    assert "audit        LEAK: identical_sound_train_test; warnings: level" in format_report(leaked).splitlines()
    assert format_report(leaked).startswith("THE AUDIT FOUND A LEAK: identical_sound_train_test.")
    stamped = make_report([row | {"leaks": ["identical_sound_train_test"]} for row in rows], audit)
    assert [notice.split(":")[0] for notice in stamped.notices] == ["LEAKED RUN"], "once only"
    with pytest.raises(ValueError, match=r"audit\.json: found verdict: 'fine', expected one of clean, warnings, leak"):
        Verdict.from_json({"verdict": "fine", "leak": [], "warning": []}, "audit.json")


def test_the_report_keeps_to_its_schema_and_is_read_as_it_was_written(tmp_path):
    voted = [row | {"votes": dict(row["probabilities"])} for row in make_rows()]
    for rows in (make_rows(temperature=1.5, abstain_threshold=0.4), make_rows(speaker=None, sex=None), voted):
        report = make_report(rows, Verdict(verdict="clean", leak=[], warning=[]), LabelMap(name="native", dropped={}))
        write_report(report, tmp_path / "report.json")
        written = json.loads((tmp_path / "report.json").read_text())
        validate(written, SCHEMA)
        assert Report.read(tmp_path / "report.json") == report == Report.from_json(written | {"newer": 1}, "x")
    with pytest.raises(ValidationError, match="'uar' is a required property"):
        validate({key: value for key, value in written.items() if key != "uar"}, SCHEMA)
    with pytest.raises(ValueError, match=r"x: found no uar, expected uar, a number: .*Make it again with python s"):
        Report.from_json({key: value for key, value in written.items() if key != "uar"}, "x")


def test_every_key_of_the_schema_is_described():
    assert [key for key, part in SCHEMA["properties"].items() if not has_description(part)] == ["report_version"]


def has_description(part: dict) -> bool:
    below = [part[key] for key in ("items", "additionalProperties") if key in part] + part.get("anyOf", [])
    return "description" in part or any(map(has_description, below))


def test_calibration_is_taken_back_with_the_temperature_of_the_fold():
    def stretched(row: dict) -> dict:
        temperature = {"1": 2.0, "2": 0.5, "3": 1.0}[row["fold"]]
        given = tempered(np.array(list(row["probabilities"].values())), temperature)
        return row | {"temperature": temperature, "probabilities": dict(zip(LABELS, given.tolist(), strict=True))}

    raw = make_report(make_rows())
    report = make_report([stretched(row) for row in make_rows()])
    calibration = report.calibration
    assert calibration.temperature == {"1": 2.0, "2": 0.5, "3": 1.0}
    assert calibration.ece_uncalibrated == pytest.approx(raw.ece)
    assert calibration.nll_uncalibrated == pytest.approx(raw.calibration.nll)
    assert calibration.ece == report.ece != raw.ece
    assert report.uar == raw.uar
    assert raw.calibration.ece_uncalibrated is raw.calibration.nll_uncalibrated is None
    weighted = [b.n * abs(b.confidence - b.accuracy) for b in calibration.bins if b.n]
    assert sum(weighted) / 240 == pytest.approx(report.ece), "the bins are those of the ECE"
    rows = make_rows()
    rows[0]["temperature"] = 2.0
    with pytest.raises(ValueError, match="fold '1': found 2 values of temperature, expected one"):
        make_report(rows)


def test_abstention_counts_what_reaches_the_threshold_of_its_fold():
    rows = [row | {"abstain_threshold": {"1": 0.5, "2": 0.7, "3": 0.9}[row["fold"]]} for row in make_rows()]
    abstention = make_report(rows).abstention
    kept = [row for row in rows if max(row["probabilities"].values()) >= row["abstain_threshold"]]
    figures = make_report(kept)
    assert (abstention.n, abstention.coverage) == (len(kept), len(kept) / len(rows))
    assert (abstention.wa, abstention.uar) == (pytest.approx(figures.wa), pytest.approx(figures.uar))
    assert abstention.threshold == {"1": 0.5, "2": 0.7, "3": 0.9}
    nothing = make_report([row | {"abstain_threshold": 1.5} for row in rows])
    assert (nothing.abstention.n, nothing.abstention.wa) == (0, None)
    assert "answered     no utterance" in format_report(nothing)
    rows = [row | {"abstain_threshold": None} if row["fold"] == "2" else row for row in rows]
    partial = make_report(rows).abstention
    assert partial.coverage is partial.uar is None
    assert "fold 2 of these predictions has no abstain threshold" in partial.note


def test_sex_gap_is_the_difference_of_the_two():
    report = make_report(make_rows())
    per_sex, gap = report.per_sex, report.sex_gap
    assert gap.uar == pytest.approx(per_sex["female"].uar - per_sex["male"].uar)
    assert gap.ci95[0] < gap.uar < gap.ci95[1]
    for sex in per_sex.values():
        assert sex.uar == pytest.approx(np.mean(list(sex.recall.values())))
        assert sex.uar_ci95[0] < sex.uar < sex.uar_ci95[1]
        assert sex.n_speakers == 6
    rows = [row for row in make_rows() if row["sex"] == "female" or row["reference"] != "sad"]
    assert make_report(rows).sex_gap.note == "No gap: a class of the task is absent for male speakers."
    few = make_report(make_rows(n_speakers=6)).per_sex["female"]
    assert "With only 3 speakers it is too narrow" in few.uar_ci95_note and few.uar_ci95


def test_confusions_are_those_of_the_matrix():
    rows = make_rows(960)
    report = make_report(rows)
    matrix, confusions = np.array(report.confusion_matrix), report.confusions
    assert len(confusions) == 10
    counts = [one.n for one in confusions]
    assert counts == sorted(matrix[~np.eye(4, dtype=bool)].tolist(), reverse=True)[:10]
    by_id = {row["id"]: row for row in rows}
    for one in confusions:
        true, other = LABELS.index(one.reference), LABELS.index(one.predicted)
        assert (one.n, one.share) == (matrix[true, other], matrix[true, other] / 240)
        surest = sorted(
            row["probabilities"][one.predicted]
            for row in rows
            if row["reference"] == one.reference and predicted_of([row]) == [one.predicted]
        )[-5:]
        assert [each.confidence for each in one.worst] == pytest.approx(surest[::-1])
        assert all(by_id[each.id]["reference"] == one.reference for each in one.worst)


def test_roc_curves_enclose_their_area():
    report = make_report(make_rows(960))
    areas = [curve.auc for curve in report.roc.values()]
    assert np.mean(areas) == pytest.approx(report.roc_auc_ovr)
    for curve in report.roc.values():
        false, true = curve.false_positive_rate, curve.true_positive_rate
        assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
        assert len(false) == len(true) <= 101
        assert auc(false, true) == pytest.approx(curve.auc, abs=0.01)


def test_script_makes_the_report_anew(tmp_path, script, capsys):
    rows = make_rows(leaks=["random split"])
    write_predictions(tmp_path / "run" / "predictions.jsonl", rows)
    write_report(make_report(rows), tmp_path / "expected.json")
    script("evaluate", tmp_path / "run" / "predictions.jsonl", "--output_dir", tmp_path / "out")
    assert (tmp_path / "out" / "report.json").read_bytes() == (tmp_path / "expected.json").read_bytes()
    assert (tmp_path / "out" / "confusion_matrix.png").read_bytes().startswith(b"\x89PNG")
    assert format_report(make_report(rows)) in capsys.readouterr().out


def test_a_model_without_skill_is_noted():
    one = {label: float(label == LABELS[0]) for label in LABELS}
    constant = [row | {"probabilities": one} for row in make_rows()]
    notice = f"The model predicts one class for every utterance: {LABELS[0]}."
    assert notice in make_report(constant).notices
    wrong = [hand_row("1", "sad", "happy"), hand_row("2", "happy", "sad")]
    assert "UAR is not above chance: the model has learned nothing." in make_report(wrong).notices
    assert not any("one class" in notice or "chance" in notice for notice in make_report(make_rows()).notices)
