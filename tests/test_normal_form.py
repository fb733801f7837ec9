"""Normal forms of compared texts, the texts that mean "unknown", and users' texts on a terminal."""

import pytest

from hf_ser.normal_form import (
    is_missing_label,
    is_unknown,
    look_alike,
    normal_form,
    normal_name,
    normal_text,
    printable,
    storable,
)


@pytest.mark.parametrize(
    "spelling",
    [
        *("Jürgen 12", "Ju\u0308rgen 12", "Jürgen\u00a012", "Jürgen \uff11\uff12", "\ufeffJürgen 12"),
        *("Jü\u200brgen 12", "  Jürgen\t12 ", "Ju\u200d\u0308rgen 12", "Jürgen\u202f12\u200e", "Jür\u00adgen 12"),
        *("Jürgen\u30001\u20602", "J\ufe0fürgen 12", "Jürgen\n12", "\x1bJürgen 12\x00"),
    ],
)
def test_spellings_that_look_the_same_are_one_name(spelling):
    assert normal_form(spelling) == normal_name(spelling) == normal_text(spelling) == "Jürgen 12"


def test_a_transcript_keeps_the_joiners_of_its_language_alone():
    text = "می\u200cخواهم"
    assert normal_text(f" \u200c{text}\u200b\u200d ") == text
    assert normal_form(text) == "میخواهم"


def test_dots_around_a_name_are_removed():
    assert [normal_name(name) for name in ("sad.", " . sad", "J. R.", "...", "sad\u2026")] == [
        *("sad", "sad", "J. R", "...", "sad")
    ]
    assert normal_form("../a.wav") == "../a.wav"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(("spk-3", "spk_3"), ("spk 3", "SPK3"), ("spk-03", "spk3"), ("anna", "anna."), ("1", "1.0"), ("007", "7")),
        *(("anna\u2011maria", "anna-maria"), ("\u0430nna", "anna"), ("o’neil", "o'neil"), ("table/S01", "table/s1")),
        *(("+1", "1"), ("+2.0", "2")),
    ],
)
def test_names_that_a_person_would_read_as_the_same(one, other):
    assert look_alike(one) == look_alike(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1_11", "11_1"),
        ("-1", "1"),
        ("1.1", "1.10"),
        ("anna", "anne"),
        ("a-", "a+"),
        ("10", "1"),
        ("1.5", "15"),
        ("+", "-"),
        ("arousal+", "arousal"),
    ],
)
def test_names_that_differ(one, other):
    assert look_alike(one) != look_alike(other)


@pytest.mark.parametrize(
    "word",
    [
        *("Unknown", "UNK", "nan", "NaN", "N/A", "n.a.", "-", "--", "?", "???", "none", "None", "NULL", "<unk>", "NA"),
        *("[unknown]", "unknown_speaker", " unknown. ", "\u2014", "#N/A", "unbekannt", "un\u200bknown", "", "_", "-1"),
        *("anonymous", "Not specified", "not-specified", "TBD", "spk_unknown", "unknown_1", "Unknown 3", "UNK-02"),
        *("Speaker Unknown", "unknown speaker 4", "anon12", "<anonymous>", "t.b.d.", "Anonymous-3"),
    ],
)
def test_texts_that_mean_unknown(word):
    assert is_unknown(word)


@pytest.mark.parametrize(
    "word",
    [
        "Una",
        "Nan Goldin",
        "0",
        "1",
        "unknown soldier",
        "anonymous anna",
        "id 3",
        "speaker 1",
        "tbd2x",
        "Nona",
        "N",
        "李",
        "spk?1",
    ],
)
def test_names_that_do_not_mean_unknown(word):
    assert not is_unknown(word)


def test_labels_that_programs_write_into_empty_cells_are_missing():
    assert all(map(is_missing_label, ("nan", "NaN", "None", "null", "<NA>", "N/A", "?", "-", "n\u200ban")))
    assert not any(map(is_missing_label, ("none", "unknown", "sad", "0", "neutral")))


def test_control_codes_never_reach_a_terminal():
    assert printable("\x1b]0;x\x07\x1b[31mred\u202e\ud800\r\n") == r"\x1b]0;x\x07\x1b[31mred\u202e\ud800\r\n"
    assert printable("Ärger, 生气 (möglich)") == "Ärger, 生气 (möglich)"
    assert printable("a\nb\x9b", keep_lines=True) == "a\nb\\x9b"
    assert storable("gr\udcfcn.wav") == r"gr\udcfcn.wav"
