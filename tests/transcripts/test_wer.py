"""Word error rates: errors counted by hand against the report."""

import json
import math

import pytest
from matplotlib.image import imread

from hf_ser.transcripts.confidence import THIRDS, logprob_of, thirds
from hf_ser.transcripts.wer import BINS, ERRORS, error_rate, format_wer, normalised, plot_wer, wer_report, word_errors
from hf_ser.transcripts.wer_figures import GroupErrors, WordErrors


def clip(name: str, reference: str | None, hypothesis: str | None, **more) -> dict:
    known = {"speaker": "anna", "label": "sad", "corpus": "one", "language": "en"}
    return known | {"id": name, "reference": reference, "hypothesis": hypothesis} | more


ROWS = [
    clip("1", "a b c d e f g h i j", "a b c d e f g h i j"),
    clip("2", "one cup of tea", "one cap of", label="happy", sex="female"),  # one substitution, one deletion
    clip("3", "no", "no well no", speaker="ben", corpus="two", sex="male"),  # two insertions
    clip("4", "we are here", None, speaker="ben"),  # three deletions
    clip("5", "", "thank you", label="happy"),
    clip("6", None, "thank you"),
]


def test_equivalent_texts_are_equal_when_normalised():
    references = ["You’re Mr. Smith, aren't you?", "colour: twenty-two", "...", None]
    hypotheses = ["you are mister smith ARE NOT you", "Color 22", "", "- !"]
    assert (
        normalised(references, "en")
        == normalised(hypotheses, "en")
        == ["you are mister smith are not you", "color 22", "", ""]
    )
    assert normalised(["Größe, zwei!"], "de") == normalised(["größe zwei"], None) == ["größe zwei"]
    assert normalised(["我很好。"], "zh") == ["我 很 好"]


def test_the_errors_of_each_clip():
    columns = [[row[key] for row in ROWS] for key in ("reference", "hypothesis", "language")]
    found = word_errors(*columns)
    expected = [(10, 0, 0, 0), (4, 1, 1, 0), (1, 0, 0, 2), (3, 0, 3, 0), (0, 0, 0, 2), (0, 0, 0, 2)]
    assert list(found[["words", *ERRORS]].itertuples(index=False, name=None)) == expected
    assert found["wer"][:4].tolist() == [0, 0.5, 2, 1]
    assert found["wer"][4:].map(math.isnan).all()
    assert error_rate(*columns) == 7 / 18
    assert math.isnan(error_rate(*(column[4:] for column in columns)))


def test_each_clip_is_normalised_by_its_own_language():
    references, hypotheses = ["colour", "colour", "colour"], ["color"] * 3
    assert word_errors(references, hypotheses, ["de", "en", None])["wer"].tolist() == [1, 0, 1]


def test_the_report_weighs_words_and_leaves_out_clips_without_any():
    report = wer_report(ROWS[::-1])
    assert report == wer_report(ROWS)
    assert WordErrors.from_json(json.loads(json.dumps(report.to_json(), allow_nan=False)), "wer.json") == report
    assert (report.n_clips, report.n_clips_without_words, report.n_words) == (4, 2, 18)
    assert report.wer == 7 / 18
    assert [report.substitution_rate, report.deletion_rate, report.insertion_rate] == [1 / 18, 4 / 18, 2 / 18]
    assert report.share_without_error == 0.25
    assert report.wer_quantiles["50%"] == 0.75
    assert {name: count for name, count in report.wer_histogram.items() if count} == {
        "0": 1,
        "0.4-0.5": 1,
        "0.9-1": 1,
        ">1": 1,
    }
    assert report.by_label["happy"] == GroupErrors(n_clips=1, n_words=4, wer=0.5)
    assert {name: one.wer for name, one in report.by_corpus.items()} == {"one": 5 / 17, "two": 2}
    assert list(report.by_sex) == ["female", "male", "unknown"]
    assert wer_report(ROWS[:1]).by_sex == {}
    pairs = [(one.reference, one.recognised) for one in report.confusions]
    assert {("cup", "cap"), ("tea", ""), ("", "well")} < set(pairs)
    assert ("", "thank") not in pairs
    assert [one.id for one in report.worst_clips] == ["3", "4", "2"]


def test_the_interval_is_of_speakers_not_clips():
    """Two speakers, one without an error, one with nothing else: half of the resamples hold one of them alone."""
    texts = {"clear": "yes", "mumbling": "us"}
    rows = [clip(f"{name}{i}", "yes", text, speaker=name) for i in range(50) for name, text in texts.items()]
    report = wer_report(rows)
    assert (report.wer, report.wer_ci95) == (0.5, [0, 1])
    assert "over 2 speakers" in report.wer_ci95_note
    assert "too narrow" in report.wer_ci95_note
    alone, unknown = wer_report(rows[::2]), wer_report([*rows, clip("x", "yes", "yes", speaker=None)])
    assert alone.wer_ci95 is unknown.wer_ci95 is None
    assert "one speaker" in alone.wer_ci95_note
    assert "1 clips have no speaker" in unknown.wer_ci95_note


def test_errors_of_those_that_the_recogniser_is_least_sure_of():
    assert wer_report(ROWS).by_confidence == {}
    said = {-0.9: "no", -0.5: "yes", -0.1: "yes"}
    rows = [clip(f"{sure}{i}", "yes", text) | {"avg_logprob": sure} for sure, text in said.items() for i in range(2)]
    report = wer_report([*rows, clip("unsure", "yes", "no")])
    assert {name: (one.n_clips, one.wer) for name, one in report.by_confidence.items()} == {
        "least sure": (2, 1),
        "middle": (2, 0),
        "most sure": (2, 0),
    }
    assert "least sure      100.0         2        2" in format_wer(report)


def test_thirds_hold_equal_clips_together_and_want_three():
    assert thirds([-1.0, None, -0.5, float("nan")]) == [None] * 4
    assert thirds([-3.0, -2.0, -1.0, None]) == [*THIRDS, None]
    assert thirds([-1.0] * 3) == ["middle"] * 3


def test_a_log_probability_is_of_a_recogniser_s_transcript():
    row = {"asr_avg_logprob": -0.25}
    assert logprob_of(row, "base@1") == -0.25
    assert logprob_of(row, "reference") is logprob_of(row, None) is logprob_of({}, "base@1") is None
    assert logprob_of({"asr_avg_logprob": float("nan")}, "base@1") is None


def test_terminal_and_picture(tmp_path):
    report = wer_report(ROWS)
    text = format_wer(report)
    assert text.startswith("WER    38.9 %, 95 % interval [")
    assert "cup as cap 1" in text
    assert "tea lost 1" in text
    assert "well added 1" in text
    assert "happy        50.0         4        1" in text
    assert max(map(len, text.splitlines())) <= 100
    plot_wer(report, tmp_path / "new" / "wer.png")
    assert imread(tmp_path / "new" / "wer.png").ndim == 3
    perfect = wer_report([clip("1", "yes", "Yes.", speaker=None)])
    assert "every word is correct" in format_wer(perfect)
    plot_wer(perfect, tmp_path / "wer.png")


def test_bins_hold_their_upper_edge():
    words = " ".join("abcdefghij")
    rows = [clip(str(lost), words, words[: 2 * (10 - lost)]) for lost in range(11)]
    rows.append(clip("11", "a", "b c"))
    assert wer_report(rows).wer_histogram == dict.fromkeys(BINS, 1)


def test_nothing_to_measure_is_refused():
    with pytest.raises(ValueError, match="Found 2 clips and no reference with words, expected one at least"):
        wer_report(ROWS[4:])
    with pytest.raises(ValueError, match="Found no clips"):
        wer_report([])
    with pytest.raises(ValueError, match="Found 1 references, 2 hypotheses and 1 languages"):
        word_errors(["a"], ["a", "b"], ["en"])
