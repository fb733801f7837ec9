"""Whose words a row reads, how noisy, and with which sentence: by its own id, whatever stands beside it."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset, Value, load_from_disk

from hf_ser.data.protocols import Fold
from hf_ser.training.arguments import DataArguments
from hf_ser.transcripts.sentence_bank import read_bank
from hf_ser.transcripts.words import fold_words, read_as

ASR = "whisper@abc"
FOLD = Fold("1", np.arange(0, 60), np.arange(60, 80), np.arange(80, 100), "x")
LABELS = ("angry", "happy", "sad")


def reference(name: str) -> str:
    row = int(name[2:])
    return f"Well, part{'T' if row < 60 else 'E'} {row} said it was {LABELS[row % 3]} then and there, I think."


@pytest.fixture
def told(dataset_of) -> Dataset:
    """A hundred rows with the corpus's own words."""
    rows = [(f"c/{i:02d}", LABELS[i % 3], f"s{i // 10}", None) for i in range(100)]
    return dataset_of(rows, transcript=reference, transcript_source=["reference"] * 100)


@pytest.fixture
def heard(told) -> Dataset:
    """The same transcribed: `said` became `fed`; rows 3 and 63 failed, 4 and 64 are silent, 5 and 65 were not written
    down by the corpus."""
    mine = [None if row in (5, 65) else text for row, text in enumerate(told["transcript"][:])]
    asr = [reference(name).lower().replace("said", "fed") for name in told["id"][:]]
    asr = [None if row in (3, 63) else "" if row in (4, 64) else text for row, text in enumerate(asr)]
    data = told.remove_columns(["transcript", "transcript_source"])
    columns = {
        "transcript": asr,
        "transcript_source": [None if text is None else ASR for text in asr],
        "reference_transcript": mine,
    }
    for name, column in columns.items():
        data = data.add_column(name, column, feature=Value("string"))
    return data


def words(dataset: Dataset, fold: Fold = FOLD, seed: int = 0, **asked):
    data = DataArguments(**asked)
    return fold_words(read_as(dataset, data.transcript_source), fold, data, seed)


def test_where_nothing_is_asked_nothing_is_set(heard):
    assert read_as(heard, None) is heard
    found = words(heard)
    assert found.columns == {}
    assert found.text == dict(zip(heard["id"][:], heard["transcript"][:], strict=True))
    assert read_as(heard, "asr") is heard, "these are the recogniser's already"


def test_the_words_asked_for_stand_in_the_transcript(heard, told):
    own = read_as(heard, "reference")
    assert own["transcript"][:] == heard["reference_transcript"][:]
    assert Counter(own["transcript_source"][:]) == {"reference": 98, None: 2}
    back = read_as(own, "asr")
    assert all(back[name][:] == heard[name][:] for name in heard.column_names)
    assert read_as(told, "reference") is told


def test_a_recogniser_that_wrote_down_some_rows_leaves_the_others_without_words(told):
    """As of a user's own table, where `transcript_source` is a column."""
    sources = ["reference" if row % 2 else ASR for row in range(100)]
    data = told.remove_columns("transcript_source").add_column("transcript_source", sources, feature=Value("string"))
    assert read_as(data, "asr")["transcript"][:2] == [reference("c/00"), None]
    assert read_as(data, "reference")["transcript"][:2] == [None, reference("c/01")]
    assert words(data, transcript_source="mixed").details["rows"]["train"] == {"reference": 30, ASR: 30}


@pytest.mark.parametrize("source", ["asr", "mixed"])
def test_words_that_the_data_does_not_have_are_refused(told, heard, source):
    with pytest.raises(ValueError, match=r"found no recogniser's transcripts.*scripts/transcribe\.py"):
        read_as(told, source)
    bare = heard.remove_columns("reference_transcript")
    with pytest.raises(ValueError, match=r"--transcript_source reference: found no words of the corpus's own"):
        read_as(bare, "reference")
    with pytest.raises(ValueError, match="Unknown --transcript_source 'ars': expected one of reference, asr, mixed"):
        read_as(told, "ars")


def test_mixed_is_a_coin_in_training_and_the_recogniser_in_evaluation(heard):
    found = words(heard, transcript_source="mixed")
    assert found.text["c/03"] == reference("c/03"), "the recogniser failed, so the other's"
    assert found.source["c/05"] == ASR, "the corpus has none, so the other's"
    read = Counter(found.source[f"c/{row:02d}"] for row in range(60))
    assert set(read) == {"reference", ASR}
    assert min(read.values()) > 15
    assert {found.source[f"c/{row:02d}"] for row in range(60, 100)} == {ASR, None}
    assert (found.text["c/63"], found.text["c/64"]) == (None, "")
    assert found.details["rows"]["validation"] == {ASR: 19, "none": 1}
    assert words(heard, seed=1, transcript_source="mixed").source != found.source


@pytest.mark.parametrize("source", ["reference", "mixed"])
def test_the_words_of_a_row_depend_on_no_order(heard, source):
    asked = {"transcript_source": source, "sentence_bank": "default"}
    order = np.random.default_rng(0).permutation(100)
    parts = {part: np.flatnonzero(np.isin(order, getattr(FOLD, part))) for part in ("train", "validation", "test")}
    one, other = words(heard, **asked), words(heard.select(order), Fold("1", fingerprint="x", **parts), **asked)
    assert (one.text, one.source, one.details) == (other.text, other.source, other.details)


def test_half_of_the_training_rows_is_given_a_sentence_of_its_label(heard, monkeypatch):
    bank = read_bank("default")
    found = words(heard, sentence_bank="default")
    given = {name: text for name, text in found.text.items() if (found.source[name] or "").endswith("bank")}
    assert 18 <= len(given) <= 42
    assert max(int(name[2:]) for name in given) < 60
    for name, text in given.items():
        sentence = next(one for one in bank[LABELS[int(name[2:]) % 3]] if text.endswith(one))
        assert text.removesuffix(sentence).strip() == (heard["transcript"][int(name[2:])] or "")
    assert len({text.split(".")[-1] or text for text in given.values()}) > 5, "not one sentence for all"
    assert found.details["sentence_bank"]["rows"] == len(given)
    monkeypatch.setattr("hf_ser.transcripts.words.BANK_SHARE", 1.0)
    everyone = words(heard, sentence_bank="default")
    assert (everyone.source["c/03"], everyone.text["c/03"] in bank["angry"]) == ("bank", True)
    assert (everyone.source["c/04"], everyone.text["c/04"] in bank["happy"]) == (f"{ASR}+bank", True)


def test_the_sound_is_not_copied(heard, tmp_path):
    sound = [{"bytes": bytes(100_000), "path": None}] * 100
    heard.add_column("audio", sound).save_to_disk(tmp_path)
    data = load_from_disk(str(tmp_path))
    before, files = pa.total_allocated_bytes(), sorted(tmp_path.iterdir())
    read = read_as(data, "reference")
    assert pa.total_allocated_bytes() - before < 1_000_000
    assert sorted(tmp_path.iterdir()) == files
    assert read["transcript"][:] == data["reference_transcript"][:]
