"""The stress test end to end: which rows, answers that are kept, the verdict, and what is written."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from models.tiny import LABELS, save_trained
from rows import make_stress, write_predictions

from hf_ser.checks.stress.conditions import CONDITIONS, Condition
from hf_ser.checks.stress.plots import plot_stress
from hf_ser.checks.stress.results import HOW_TO_READ, Outcome, format_stress, gap_verdict, shared_note
from hf_ser.checks.stress.run import SEEN_IN_TRAINING, UNRECORDED, clean_rows, run_conditions, select_rows
from hf_ser.data.prepared import load_prepared
from hf_ser.runs.classifier import Classifier
from hf_ser.runs.figures import SexGap
from hf_ser.runs.predictions import PREDICTIONS
from hf_ser.runs.record import Split, TrainingRecord, row_hashes, write_record
from hf_ser.runs.stress import StressResult

SOME = [one for one in CONDITIONS if one.name in ("white_10db", "babble_0db", "speed_1.1", "gain_minus_30db")]


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    return Classifier(str(save_trained("audio", tmp_path_factory.mktemp("audio"))), "cpu")


@pytest.fixture
def calls(monkeypatch):
    """How many rows a model classified; `calls.limit` kills the run after so many calls."""

    class Calls(list):
        limit = None

    made, ask = Calls(), Classifier.answers

    def counted(self, clips, texts, batch_size=16):
        if made.limit is not None and len(made) >= made.limit:
            raise KeyboardInterrupt
        made.append(len(clips))
        return ask(self, clips, texts, batch_size)

    monkeypatch.setattr(Classifier, "answers", counted)
    return made


def record(dataset, rows, **settings) -> TrainingRecord:
    trained, chosen = row_hashes(dataset, rows), row_hashes(dataset, [])
    split = Split(fold="1", split_fingerprint="x", train=trained, validation=chosen)
    return TrainingRecord(finished=True, split=split, settings=settings)


def prediction(row: dict, leaks=()) -> dict:
    return {
        **{name: row[name] for name in ("id", "corpus", "speaker", "sex")},
        "protocol": "speaker_folds",
        "fold": "1",
        "split_fingerprint": "x",
        "leaks": list(leaks),
        **dict.fromkeys(("transcript_source", "votes", "temperature", "abstain_threshold")),
        "reference": ("angry", "happy", "neutral", "sad")[row["label"]],
        "probabilities": dict(zip(LABELS, (0.5, 0.3, 0.2), strict=True)),
    }


def test_a_fused_model_end_to_end_and_again_from_what_was_kept(prepared, tmp_path, script, calls, capsys):
    model = save_trained("fusion", tmp_path / "model")
    arguments = ("stress", model, "--dataset", prepared, "--groups", "gain,words,babbling", "--max_clips", "18")
    with pytest.raises(SystemExit):
        script(*arguments)
    assert "--groups babbling: expected some of noise, gain" in capsys.readouterr().err
    arguments = (*arguments[:4], "--groups", "gain,words", "--max_clips", "18")
    with pytest.raises(SystemExit) as ended:
        script(*arguments)
    assert ended.value.code == 0
    output = capsys.readouterr().out
    assert output.startswith("verdict: ")
    assert output.index("How to read it") < output.index("condition ")
    result = json.loads((model / "stress.json").read_text())
    assert list(result)[:9] == [
        *("stress_version", "model", "dataset", "seed", "corpus", "n_utterances", "n_speakers", "leaks", "notices")
    ]
    assert (result["stress_version"], result["n_utterances"], result["n_speakers"]) == (1, 18, 6)
    assert result["thresholds"] == {"mild": 0.05, "hard": 0.15}
    assert UNRECORDED in result["notices"]
    assert "12 clips are left out: the model does not know their labels." in result["notices"]
    names = [one["name"] for one in result["conditions"]]
    assert names == [one.name for one in CONDITIONS if one.group in ("gain", "words")]
    for one in result["conditions"]:
        assert one["delta_uar"] == pytest.approx(one["uar"] - result["clean"]["uar"])
        low, high = one["delta_ci95"]
        assert low <= one["delta_uar"] <= high
        assert (one["verdict"] == "failed") == (one["name"] in result["failed"])
        assert (one["limit"] is None) == (one["verdict"] == "not judged")
        assert one["limit"] is None or one["severity"] != "extreme"
    assert (model / "stress.png").read_bytes()[:4] == b"\x89PNG"
    assert len(calls) == len(names) + 1

    calls.clear()
    with pytest.raises(SystemExit):
        script(*arguments)
    again = json.loads((model / "stress.json").read_text())
    assert not calls
    assert again | {"seconds": 0} == result | {"seconds": 0}
    with pytest.raises(SystemExit) as ended:
        script(*arguments, "--strict", "--max_drop_mild", "-1", "--max_drop_hard", "-1")
    assert ended.value.code == 1
    assert not calls


def test_a_killed_run_goes_on_and_what_is_damaged_or_stale_is_computed_again(prepared, tmp_path, audio, calls):
    chosen = select_rows(audio, prepared, max_clips=12)
    calls.limit = 3
    with pytest.raises(KeyboardInterrupt):
        run_conditions(audio, chosen, SOME, tmp_path)
    assert len(list(tmp_path.glob("*.json"))) == 3
    calls.limit = None
    first, _ = run_conditions(audio, chosen, SOME, tmp_path)
    assert len(calls) == 5

    calls.clear()
    torn, changed = tmp_path / "white_10db.json", tmp_path / "speed_1.1.json"
    torn.write_text(torn.read_text()[:-40])
    held = json.loads(changed.read_text())
    held["probabilities"][next(iter(held["probabilities"]))] = [1.0, 0.0, 0.0]
    changed.write_text(json.dumps(held))
    second, _ = run_conditions(audio, chosen, SOME, tmp_path)
    assert len(calls) == 2
    for one, other in zip(first, second, strict=True):
        assert one.probabilities.keys() == other.probabilities.keys()
        for name, row in one.probabilities.items():
            assert other.probabilities[name] == pytest.approx(row, rel=0, abs=1e-6)

    calls.clear()
    run_conditions(audio, chosen, SOME, tmp_path, seed=1)
    assert len(calls) == 5
    weights = next(audio.model.parameters())
    weights.data += 1e-3
    calls.clear()
    run_conditions(audio, chosen, SOME, tmp_path, seed=1)
    weights.data -= 1e-3
    assert len(calls) == 5


def test_answers_depend_neither_on_the_order_of_the_rows_nor_on_the_batch(prepared, tmp_path, audio):
    chosen = select_rows(audio, prepared, max_clips=9)
    turned = type(chosen)(chosen.dataset, chosen.rows[::-1], {}, (), ())
    whole, _ = run_conditions(audio, chosen, SOME, tmp_path / "a", batch_size=16)
    parts, _ = run_conditions(audio, turned, SOME, tmp_path / "b", batch_size=1)
    for one, other in zip(whole, parts, strict=True):
        assert one.condition == other.condition
        for name, row in one.probabilities.items():
            assert other.probabilities[name] == pytest.approx(row, abs=1e-5)


def test_a_clip_that_cannot_be_changed_is_skipped_by_name_and_compared_without(prepared, tmp_path, audio):
    chosen = select_rows(audio, prepared)
    broken = chosen.dataset[chosen.rows[4]]["id"]

    def breaks(sample, generator, others):
        if sample.id == broken:
            raise ValueError("it is broken")
        return sample

    condition = Condition("breaks", "x", "", "mild", "", partial(breaks))
    (clean, outcome), _ = run_conditions(audio, chosen, [condition], tmp_path)
    result = make_stress(ABOUT, clean_rows(audio, chosen, clean), clean, [outcome])
    assert result.skipped == {"breaks": {broken: "it is broken"}}
    assert f"breaks: 1 clips skipped, such as {broken}: it is broken" in result.notices
    (line,) = result.conditions
    assert (line.n, line.delta_uar, line.verdict) == (35, 0, "not judged")  # fresh weights: at chance


def test_the_rows_of_a_fold_are_those_it_was_tested_on_with_their_leaks(prepared, tmp_path):
    folder, dataset = save_trained("audio", tmp_path), load_prepared(prepared)
    rows = [row for row in dataset if row["label"] != 2][::2]
    write_predictions(Path(folder) / PREDICTIONS, [prediction(row, ["speaker_overlap"]) for row in rows])
    write_record(folder, record(dataset, range(len(dataset))))  # the fold's own test rows are not filtered
    model = Classifier(str(folder), "cpu")
    chosen = select_rows(model, prepared)
    assert [dataset[row]["id"] for row in chosen.rows] == [row["id"] for row in rows]
    assert chosen.leaks == ("speaker_overlap",)
    (clean,), _ = run_conditions(model, chosen, [], tmp_path / "stress")
    result = make_stress(ABOUT, clean_rows(model, chosen, clean), clean, [])
    assert result.leaks == ["speaker_overlap"]
    assert any(notice.startswith("LEAKED RUN: speaker_overlap") for notice in result.notices)


def test_of_a_run_each_model_is_tested_on_its_own_fold_and_all_clips_are_in_one_result(
    prepared, tmp_path, script, calls, capsys
):
    dataset, run = load_prepared(prepared), tmp_path / "run"
    speakers = sorted(set(dataset["speaker"][:]))
    rows = [row for row in dataset if row["label"] != 2]
    for number, tested in (("1", speakers[:2]), ("2", speakers[2:])):
        folder = save_trained("audio", run / f"fold_{number}")
        trained = record(dataset, range(len(dataset)))
        write_record(folder, replace(trained, split=replace(trained.split, fold=number)))
        lines = [prediction(row) | {"fold": number} for row in rows if row["speaker"] in tested]
        write_predictions(Path(folder) / PREDICTIONS, lines)
    with pytest.raises(SystemExit):
        script("stress", run, "--dataset", prepared, "--groups", "gain")
    output = capsys.readouterr().out
    assert f"predict.py {run / 'fold_2'} call.wav" in output and "evaluate.py" not in output  # no predictions of all
    result = StressResult.read(run / "stress.json")
    assert (result.n_utterances, result.n_speakers) == (len(rows), len(speakers))
    assert {line.n for line in result.conditions} == {len(rows)} and (run / "stress.png").is_file()
    assert (run / "fold_2" / "stress" / "gain_plus_15db.json").is_file() and not (run / "fold_2/stress.json").exists()
    assert sum(calls) == 4 * len(rows)
    with pytest.raises(SystemExit):
        script("stress", run, "--dataset", prepared, "--groups", "gain")
    assert sum(calls) == 4 * len(rows), "the answers were kept"
    for file in run.glob("*/predictions.jsonl"):
        file.unlink()
    with pytest.raises(ValueError, match=r"found no model whose fold was tested.*final"):
        script("stress", run, "--dataset", prepared)


def test_rows_that_training_has_met_are_left_out_or_stamped(prepared, tmp_path):
    folder, dataset = save_trained("audio", tmp_path), load_prepared(prepared)
    speakers = np.array(dataset["speaker"][:])
    anna = np.flatnonzero(speakers == speakers[0])
    one = record(dataset, anna[:1])  # one clip of hers: the others share her voice
    ancestors = [record(dataset, np.flatnonzero(speakers == speakers[-1])[:1]).split]
    write_record(folder, replace(one, ancestors=ancestors))
    model = Classifier(str(folder), "cpu")
    chosen = select_rows(model, prepared)
    assert set(speakers[chosen.rows]) == set(speakers) - {speakers[0], speakers[-1]}
    assert chosen.notices[0].startswith("16 of 48 clips are left out: they, equal recordings")
    assert select_rows(model, prepared, allow_leak=True).leaks == (SEEN_IN_TRAINING,)
    write_record(folder, record(dataset, range(len(dataset))))
    with pytest.raises(ValueError, match=r"no row is left to test .*48 of 48 clips are left out.*--allow_leak"):
        select_rows(model, prepared)


def test_labels_and_label_maps_that_do_not_fit_are_refused(prepared, tmp_path, audio):
    with pytest.raises(ValueError, match=r"has the classes angry, happy, sad; .* has negative, positive .*lacks angry"):
        select_rows(audio, prepared, label_map="valence_binary")
    folder = save_trained("audio", tmp_path)
    write_record(folder, record(load_prepared(prepared), [0], label_map="ekman6"))
    model = Classifier(str(folder), "cpu")
    with pytest.raises(ValueError, match=r"--label_map native: .* was trained with the label map ekman6"):
        select_rows(model, prepared, label_map="native")
    assert "The label map ekman6 drops 12 clips." in select_rows(model, prepared).notices  # ekman6 knows no neutral


def test_few_clips_are_of_all_classes_and_the_same_each_time(prepared, audio):
    chosen = select_rows(audio, prepared, max_clips=7)
    labels = [chosen.dataset[row]["label"] for row in chosen.rows]
    assert sorted(map(labels.count, set(labels))) == [2, 2, 3]
    assert select_rows(audio, prepared, max_clips=7).rows == chosen.rows
    assert select_rows(audio, prepared, max_clips=7, seed=1).rows != chosen.rows


ABOUT = {"model": "m", "dataset": "d", "seed": 0}


def stress_of(wrong: dict[str, int], severity="mild", thresholds=None, n=20, clean_wrong=0) -> StressResult:
    """A result of two labels, two women and two men; of each speaker's `n` clips a label so many are made wrong.

    `clean_wrong` of each speaker's clips a label, others, are wrong in the clean run already.
    """
    rows, clean, changed = [], {}, {}
    for speaker, errors in wrong.items():
        for clip in range(2 * n):
            sex = "female" if speaker < "c" else "male"
            row = prediction({"id": f"{speaker}{clip}", "corpus": "c", "speaker": speaker, "sex": sex, "label": 0})
            reference, other = ("angry", "sad") if clip % 2 else ("sad", "angry")
            row |= {"reference": reference, "probabilities": {reference: 0.9, other: 0.1}}
            row["probabilities"] = {label: row["probabilities"][label] for label in ("angry", "sad")}
            right = list(row["probabilities"].values())
            rows.append(row)
            before = right[::-1] if clip // 2 >= n - clean_wrong else right
            row["probabilities"] = dict(zip(("angry", "sad"), before, strict=True))
            clean[row["id"]], changed[row["id"]] = before, before[::-1] if clip // 2 < errors else before
    condition = Condition("x", "g", "l", severity, "w", partial(min))
    limits = {} if thresholds is None else {"thresholds": thresholds}
    return make_stress(ABOUT, rows, Outcome(condition, clean, {}), [Outcome(condition, changed, {})], **limits)


@pytest.mark.parametrize(
    ("errors", "severity", "verdict"),
    [(1, "mild", "passed"), (2, "mild", "failed"), (3, "hard", "passed"), (4, "hard", "failed")],
)
def test_a_fall_by_more_than_the_limit_fails(errors, severity, verdict):
    result = stress_of(dict.fromkeys("abcd", errors), severity)
    (line,) = result.conditions
    assert line.delta_uar == pytest.approx(-errors / 20)
    assert line.delta_ci95 == pytest.approx([-errors / 20] * 2)  # all speakers alike
    assert (line.verdict, result.verdict, result.failed) == (
        *(verdict, verdict),
        ["x"] if verdict == "failed" else [],
    )


def test_a_model_near_chance_may_lose_but_a_share_of_what_it_knows():
    poor = stress_of(dict.fromkeys("abcd", 1), clean_wrong=8)  # UAR 0.6 of two classes: 0.1 above chance
    assert poor.clean.uar == pytest.approx(0.6)
    assert poor.limits["mild"] == poor.conditions[0].limit == pytest.approx(0.025)
    assert poor.limits["hard"] == pytest.approx(0.05)
    assert poor.conditions[0].delta_uar == pytest.approx(-0.05) and poor.verdict == "failed"


def test_a_model_at_chance_passes_nothing():
    hopeless = stress_of(dict.fromkeys("abcd", 0), clean_wrong=10)  # UAR 0.5 of two classes
    assert hopeless.verdict == hopeless.conditions[0].verdict == "not judged"
    assert any("not above chance, so no change is judged" in notice for notice in hopeless.notices)


def test_extreme_conditions_are_reported_and_not_judged_and_limits_can_be_moved():
    assert stress_of(dict.fromkeys("abcd", 20), "extreme").verdict == "passed"
    result = stress_of({"a": 0, "b": 1, "c": 2, "d": 5}, "mild", {"mild": 0.2})
    assert result.verdict == "passed"
    low, high = result.conditions[0].delta_ci95
    assert low < -0.1 < high <= 0


@pytest.mark.parametrize(
    ("uar", "interval", "verdict"),
    [
        (-0.2, [-0.3, -0.1], "failed"),
        (-0.2, [-0.4, 0.1], "passed"),
        (0.08, [0.05, 0.11], "passed"),
        (0.8 - 0.7, [0.05, 0.15], "passed"),  # just the limit, which rounding puts beyond it
        (-0.2, [-0.4, -1e-17], "passed"),
        (0.2, None, "not judged"),
        (None, None, "not judged"),
    ],
)
def test_a_gap_between_the_sexes_fails_where_it_is_wide_and_no_chance(uar, interval, verdict):
    gap = SexGap(uar=uar, ci95=interval, note="Why so.")
    assert gap_verdict(gap) == verdict
    text = " ".join(format_stress(replace(stress_of(dict.fromkeys("abcd", 1)), sex_gap=gap)).split())
    assert f": {'unknown' if uar is None else verdict}. Why so." in text


def test_the_note_on_few_speakers_is_given_once_wherever_their_intervals_are(tmp_path, monkeypatch):
    result = stress_of(dict.fromkeys("abcd", 1))
    assert result.conditions[0].delta_ci95 == pytest.approx([-0.05, -0.05])
    note = result.interval_note
    assert "With only 4 speakers it is too narrow" in note
    assert note.endswith("An interval of zero width only says that these speakers have the same figure.")
    text = " ".join(format_stress(result).split())
    assert text.count(f"intervals of the changes: {note}") == text.count(HOW_TO_READ) == 1
    drawn = []
    monkeypatch.setattr("hf_ser.checks.stress.plots.save", lambda figure, path: drawn.append(figure))
    plot_stress(result, tmp_path / "stress.png")
    assert " ".join(drawn[0].legends[0].get_title().get_text().split()) == note


def test_notes_that_differ_between_conditions_name_theirs():
    assert shared_note({"a": "All.", "b": "Odd.", "c": "All."}) == "All. b: Odd."
    assert shared_note({}) == ""
