"""Comparisons of two runs whose difference is known, and what may not be compared."""

import json
import random
from itertools import product

import numpy as np
import pytest
from rows import compare, make_report

from hf_ser.runs.comparison import format_comparison, permutation_test, write_comparison
from hf_ser.runs.comparison_figures import ClassRecalls, Comparison, Example, Outcomes, Permutation, SpeakerPair
from hf_ser.runs.intervals import COVERAGE, PAIRED_COVERAGE, holds_zero

LABELS = ["sad", "happy"]
CLIPS = 10
"""Clips of each speaker in each class."""


def run_of(right: list[int], **changes) -> list[dict]:
    """A run in which the first `right[s]` clips of speaker s are recognised in each class."""
    rows = []
    for speaker, n_right in enumerate(right):
        for label, other in (LABELS, LABELS[::-1]):
            for clip in range(CLIPS):
                said = label if clip < n_right else other
                probabilities = {name: 0.9 if name == said else 0.1 for name in LABELS}
                row = {
                    "id": f"r/{speaker:02}-{label}-{clip}",
                    "corpus": "ravdess",
                    "speaker": f"r/{speaker}",
                    "sex": None,
                    "protocol": "speaker_folds",
                    "fold": "1",
                    "split_fingerprint": "f1",
                    "leaks": [],
                    "transcript_source": None,
                    "reference": label,
                    "votes": None,
                    "temperature": None,
                    "abstain_threshold": None,
                    "probabilities": probabilities,
                }
                rows.append(row | changes)
    return rows


def test_one_run_is_right_wherever_the_other_is_and_more():
    a, b = run_of([5] * 8), run_of([7, 6, 8, 7, 6, 7, 8, 7])
    result = compare(a, b, ("old", "new"))
    assert (result.a.uar, result.b.uar) == (0.5, pytest.approx(0.7))
    assert result.difference.uar == pytest.approx(0.2)
    low, high = result.difference.uar_ci95
    assert 0.1 < low < 0.2 < high < 0.3
    assert result.verdict.startswith("new is better than old by 20.0 points of UAR (95 % interval ")
    assert result.verdict.endswith(", p = 0.008).")
    assert result.outcomes == Outcomes(both_right=80, only_a_right=0, only_b_right=32, both_wrong=48)
    assert result.examples["only_a_right"] == []
    assert len(result.examples["only_b_right"]) == 5
    assert result.examples["only_b_right"][0] == Example(id="r/00-happy-5", reference="happy", a="sad", b="happy")
    assert result.per_class["sad"] == ClassRecalls(support=80, a=0.5, b=0.7, difference=pytest.approx(0.2))
    one = SpeakerPair(n=20, measure="uar", a=0.5, b=0.8, difference=pytest.approx(0.3))
    assert result.per_speaker["r/2"] == one
    assert result.permutation == Permutation(p=2 / 2**8, n_permutations=256, exact=True)
    assert result.notices == []
    for figures, rows in ((result.a, a), (result.b, b)):
        report = make_report(rows)
        assert figures.to_json() == pytest.approx({name: getattr(report, name) for name in ("uar", "wa", "macro_f1")})


def test_the_verdict_follows_the_interval_in_both_directions():
    good, poor = run_of([8, 9, 7, 8, 9, 8]), run_of([5, 6, 4, 5, 7, 5])
    assert compare(good, poor).verdict.startswith("A is better than B by 28.3 points of UAR (95 % interval 2")
    few = compare(good[:60], poor[:60])  # the interval of three speakers is known to hold too little
    assert few.difference.uar_ci95[1] < 0 and few.verdict.endswith("but 3 speakers are too few to call it better.")
    mixed = compare(run_of([5, 6, 4, 5, 7, 5]), run_of([8, 3, 7, 2, 9, 5]))
    assert "B is ahead of A by 3.3 points of UAR, but the interval contains 0" in mixed.verdict
    assert mixed.permutation.p > 0.5
    assert compare(good, good).verdict == "A and B have the same UAR on these utterances."
    assert compare(good, good).permutation.p == 1
    # One of six speakers is the same to both: no resample turns the sign, but 4 of 64 assignments are as far apart.
    tied = compare(run_of([5] * 6), run_of([7] * 5 + [5]))
    assert tied.difference.uar_ci95[0] > 0
    assert tied.verdict.startswith("B is ahead of A by 16.7 points of UAR (95 % interval ")
    assert tied.verdict.endswith("), but the permutation test does not confirm it (p = 0.062).")
    alone = compare(run_of([5]), run_of([7]))
    assert alone.verdict.endswith("by 20.0 points of UAR; without an interval this says nothing about other speakers.")
    assert alone.interval_note.startswith("No interval: one speaker only")


def test_p_value_is_the_share_of_assignments_at_least_as_far_apart():
    gains = np.array([3, 1, -2, 2, 0])
    a = {str(s): np.array([[5, 5], [5, 5]]) for s in range(5)}
    b = {str(s): np.array([[5 + gain, 5 - gain], [5, 5]]) for s, gain in enumerate(gains)}
    sums = [abs(np.dot(signs, gains)) for signs in product([-1, 1], repeat=5)]
    assert permutation_test(a, b).p == np.mean(np.array(sums) >= 4)
    many = np.tile(gains, 3)  # 15 speakers: 32,768 assignments are more than are counted out
    a = {str(s): np.array([[5, 5], [5, 5]]) for s in range(15)}
    b = {str(s): np.array([[5 + gain, 5 - gain], [5, 5]]) for s, gain in enumerate(many)}
    drawn = permutation_test(a, b)
    signs = 1 - 2 * (np.arange(2**15)[:, None] >> np.arange(15) & 1)
    assert (drawn.n_permutations, drawn.exact) == (10_000, False)
    assert drawn.p == pytest.approx((np.abs(signs @ many) >= 12).mean(), abs=0.015)
    assert permutation_test(a, b) == drawn
    sure = {name: np.array([[10, 0], [0, 10]]) for name in a}
    assert permutation_test(a, sure).p == 1 / 10_001, "drawn permutations never give 0"


def test_order_of_rows_and_labels_changes_nothing():
    a, b = run_of([5, 6, 4, 8]), run_of([7, 6, 8, 3])
    turned = [row | {"probabilities": dict(reversed(row["probabilities"].items()))} for row in b]
    shuffled = random.Random(0).sample(turned, len(turned))
    assert json.dumps(compare(a[::-1], shuffled).to_json()) == json.dumps(compare(a, b).to_json())


def test_utterances_of_one_run_alone_are_left_out_and_counted():
    a, b = run_of([5] * 4), run_of([7] * 4)
    result = compare(a[:60], b[20:])
    assert (result.n_utterances, result.n_only_a, result.n_only_b, result.n_speakers) == (40, 20, 20, 2)
    assert result.notices == ["Left out, since only one run tested them: 20 of A and 20 of B utterances."]
    with pytest.raises(ValueError, match=r"found none that both runs tested \(A: r/00-sad-0, ...; B: r/01-sad-0"):
        compare(a[:20], b[20:])
    sad = [row for row in a if row["reference"] == "sad"]
    with pytest.raises(ValueError, match="UAR: found no utterance with the reference 'happy'"):
        compare(sad, b)


def test_speakers_and_classes_that_are_not_there():
    a, b = run_of([5] * 3, speaker=None), run_of([7] * 3, speaker=None)
    result = compare(a, b)
    assert result.difference.uar_ci95 is result.permutation.p is None
    assert "no p value" in format_comparison(result)
    assert compare(a, run_of([7] * 3)).n_speakers == 3, "the other run knows them"
    only_sad = [row for row in run_of([5] * 3) if row["speaker"] != "r/1" or row["reference"] == "sad"]
    assert compare(only_sad, run_of([7] * 3)).per_speaker["r/1"].measure == "wa"


@pytest.mark.parametrize(
    ("changes", "names", "text"),
    [
        ({"reference": "sad"}, "AB", "found the reference 'happy' in A and 'sad' in B, expected the same"),
        ({"speaker": "r/9"}, "AB", "found the speaker 'r/0' in A and 'r/9' in B, expected the same"),
        ({"probabilities": {"sad": 0.5, "calm": 0.5}, "reference": "sad"}, "AB", r"\['sad', 'calm'\] in B, expected"),
        ({}, "A", r"names: found \['A'\], expected two"),
    ],
    ids=["reference", "speaker", "labels", "names"],
)
def test_what_may_not_be_compared(changes, names, text):
    with pytest.raises(ValueError, match=text):
        compare(run_of([5, 6]), run_of([5, 6], **changes), names)


def test_runs_of_equal_names_get_letters():
    result = compare(run_of([5] * 3), run_of([7] * 3), ("run", "run"))
    assert result.names == {"a": "run (A)", "b": "run (B)"}
    assert result.verdict.startswith("run (B) is ahead of run (A) by 20.0 points")


def test_the_note_of_few_speakers_is_that_of_pairs():
    note = compare(run_of([5] * 5), run_of([7] * 5)).interval_note
    assert (
        f"With only 5 speakers it is too narrow: in simulations it held the true figure {PAIRED_COVERAGE[5]} times"
        in (note)
    )
    assert PAIRED_COVERAGE[5] != COVERAGE[5]


def test_differing_conditions_are_noted():
    a = run_of([5, 6], leaks=["random split"])
    b = run_of([5, 6], protocol="emobox", split_fingerprint="f2", transcript_source="reference", corpus="synthetic")
    result = compare(a, b, ("one", "two"))
    text = " ".join(result.notices)
    assert result.notices[0].startswith("one: LEAKED RUN: random split.")
    assert "two: Synthetic corpus: this figure tests the software" in text
    assert "different protocols: one speaker_folds, two emobox." in text
    assert "different splits, so their models did not learn from the same speakers: one f1, two f2." in text
    assert "different sources of transcripts" not in text, "an audio-only model has none"
    assert "different leaks: one random split, two none." in text
    text = " ".join(compare(run_of([5, 6], transcript_source="asr@1"), b).notices)
    assert "different sources of transcripts: A asr@1, B reference." in text


def test_text_and_file(tmp_path):
    result = compare(run_of([5, 6, 4, 5]), run_of([7, 7, 6, 8]), ("runs/audio", "runs/fused"))
    write_comparison(result, tmp_path / "comparison.json")
    assert Comparison.read(tmp_path / "comparison.json") == result
    text = format_comparison(result)
    assert "A: runs/audio, B: runs/fused; 80 utterances of both, 4 speakers" in text
    assert "runs/fused is ahead of runs/audio by 20.0 points of UAR" in text
    assert "Paired permutation test over speakers: p = 0.1250." in " ".join(text.split())
    assert "uar       A  50.0 %  B  70.0 %  B - A +20.0, 95 % interval [+" in text
    assert "both right 40, only A 0, only B 16, both wrong 24" in text
    assert "only b right: r/00-happy-5 (happy), " in text
    assert max(map(len, text.splitlines())) <= 100


def test_speakers_who_fare_alike_but_for_rounding_are_ahead_nowhere():
    """0.1 + 0.2 + 0.3 is more than 0.3 + 0.2 + 0.1."""
    labels = ["sad", "happy", "angry"]

    def run(right: list[int]) -> list[dict]:
        rows = []
        for row, (speaker, place, clip) in zip(
            run_of([0] * 6), product(range(2), range(3), range(CLIPS)), strict=False
        ):
            said = labels[place] if clip < right[place] else labels[place - 1]
            probabilities = {label: 0.8 if label == said else 0.1 for label in labels}
            name = {"id": f"r/{speaker}-{place}-{clip}", "speaker": f"r/{speaker}", "reference": labels[place]}
            rows.append(row | name | {"probabilities": probabilities})
        return rows

    result = compare(run([3, 2, 1]), run([1, 2, 3]))
    assert all(one.a != one.b and one.difference == 0 for one in result.per_speaker.values())
    assert result.difference.uar == 0 and result.verdict.endswith("have the same UAR on these utterances.")


def test_an_interval_that_ends_at_zero_but_for_rounding_holds_it():
    assert holds_zero([1e-17, 0.2]) and holds_zero([-0.2, -1e-17]) and holds_zero([-0.1, 0.1])
    assert not holds_zero([1e-3, 0.2]) and not holds_zero([-0.2, -1e-3])
