"""Source, noise and sentences of a row's transcript depend on its own id alone."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset, Value, load_from_disk

from hf_ser.data.folds import Fold
from hf_ser.training.arguments import DataArguments
from hf_ser.transcripts.fold_transcripts import fold_transcripts, with_transcript_source
from hf_ser.transcripts.sentence_bank import read_bank

ASR = "whisper@abc"
FOLD = Fold("1", np.arange(0, 60), np.arange(60, 80), np.arange(80, 100), "x")
LABELS = ("angry", "happy", "sad")


def reference(name: str) -> str:
    row = int(name[2:])
    return f"Well, part{'T' if row < 60 else 'E'} {row} said it was {LABELS[row % 3]} then and there, I think."


@pytest.fixture
def prepared_rows(dataset_of) -> Dataset:
    """A hundred rows with reference transcripts."""
    rows = [(f"c/{i:02d}", LABELS[i % 3], f"s{i // 10}", None) for i in range(100)]
    return dataset_of(rows, transcript=reference, transcript_source=["reference"] * 100)


@pytest.fixture
def transcribed(prepared_rows) -> Dataset:
    """The same transcribed: `said` is `fed`; rows 3 and 63 failed, 4 and 64 are silent, 5 and 65 have no reference."""
    mine = [None if row in (5, 65) else text for row, text in enumerate(prepared_rows["transcript"][:])]
    asr = [reference(name).lower().replace("said", "fed") for name in prepared_rows["id"][:]]
    asr = [None if row in (3, 63) else "" if row in (4, 64) else text for row, text in enumerate(asr)]
    data = prepared_rows.remove_columns(["transcript", "transcript_source"])
    columns = {
        "transcript": asr,
        "transcript_source": [None if text is None else ASR for text in asr],
        "reference_transcript": mine,
    }
    for name, column in columns.items():
        data = data.add_column(name, column, feature=Value("string"))
    return data


def choose(dataset: Dataset, fold: Fold = FOLD, seed: int = 0, **settings):
    data = DataArguments(**settings)
    return fold_transcripts(with_transcript_source(dataset, data.transcript_source), fold, data, seed)


def test_without_settings_nothing_changes(transcribed):
    assert with_transcript_source(transcribed, None) is transcribed
    found = choose(transcribed)
    assert found.columns == {}
    assert found.text == dict(zip(transcribed["id"][:], transcribed["transcript"][:], strict=True))
    assert with_transcript_source(transcribed, "asr") is transcribed, "these are the recogniser's already"


def test_the_transcript_column_has_the_requested_source(transcribed, prepared_rows):
    own = with_transcript_source(transcribed, "reference")
    assert own["transcript"][:] == transcribed["reference_transcript"][:]
    assert Counter(own["transcript_source"][:]) == {"reference": 98, None: 2}
    back = with_transcript_source(own, "asr")
    assert all(back[name][:] == transcribed[name][:] for name in transcribed.column_names)
    assert with_transcript_source(prepared_rows, "reference") is prepared_rows


def test_rows_without_a_recogniser_s_transcript_have_none(prepared_rows):
    """As of a user's own table, where `transcript_source` is a column."""
    sources = ["reference" if row % 2 else ASR for row in range(100)]
    data = prepared_rows.remove_columns("transcript_source").add_column(
        "transcript_source", sources, feature=Value("string")
    )
    assert with_transcript_source(data, "asr")["transcript"][:2] == [reference("c/00"), None]
    assert with_transcript_source(data, "reference")["transcript"][:2] == [None, reference("c/01")]
    assert choose(data, transcript_source="mixed").details["rows"]["train"] == {"reference": 30, ASR: 30}


@pytest.mark.parametrize("source", ["asr", "mixed"])
def test_missing_transcripts_are_refused(prepared_rows, transcribed, source):
    with pytest.raises(ValueError, match=r"found no recogniser's transcripts.*scripts/transcribe\.py"):
        with_transcript_source(prepared_rows, source)
    bare = transcribed.remove_columns("reference_transcript")
    with pytest.raises(ValueError, match=r"--transcript_source reference: found no transcripts of the corpus's own"):
        with_transcript_source(bare, "reference")
    with pytest.raises(ValueError, match="Unknown --transcript_source 'ars': expected one of reference, asr, mixed"):
        with_transcript_source(prepared_rows, "ars")


def test_mixed_is_random_in_training_and_the_recogniser_s_in_evaluation(transcribed):
    found = choose(transcribed, transcript_source="mixed")
    assert found.text["c/03"] == reference("c/03"), "the recogniser failed, so the other's"
    assert found.source["c/05"] == ASR, "the corpus has none, so the other's"
    read = Counter(found.source[f"c/{row:02d}"] for row in range(60))
    assert set(read) == {"reference", ASR}
    assert min(read.values()) > 15
    assert {found.source[f"c/{row:02d}"] for row in range(60, 100)} == {ASR, None}
    assert (found.text["c/63"], found.text["c/64"]) == (None, "")
    assert found.details["rows"]["validation"] == {ASR: 19, "none": 1}
    assert choose(transcribed, seed=1, transcript_source="mixed").source != found.source


@pytest.mark.parametrize("source", ["reference", "mixed"])
def test_the_transcript_of_a_row_does_not_depend_on_the_order(transcribed, source):
    settings = {"transcript_source": source, "sentence_bank": "default"}
    order = np.random.default_rng(0).permutation(100)
    parts = {part: np.flatnonzero(np.isin(order, getattr(FOLD, part))) for part in ("train", "validation", "test")}
    one, other = (
        choose(transcribed, **settings),
        choose(transcribed.select(order), Fold("1", fingerprint="x", **parts), **settings),
    )
    assert (one.text, one.source, one.details) == (other.text, other.source, other.details)


def test_a_share_of_the_training_rows_gets_a_sentence_of_its_label(transcribed, monkeypatch):
    bank = read_bank("default")
    found = choose(transcribed, sentence_bank="default")
    given = {name: text for name, text in found.text.items() if (found.source[name] or "").endswith("bank")}
    assert 18 <= len(given) <= 42
    assert max(int(name[2:]) for name in given) < 60
    for name, text in given.items():
        sentence = next(one for one in bank[LABELS[int(name[2:]) % 3]] if text.endswith(one))
        assert text.removesuffix(sentence).strip() == (transcribed["transcript"][int(name[2:])] or "")
    assert len({text.split(".")[-1] or text for text in given.values()}) > 5, "not one sentence for all"
    assert found.details["sentence_bank"]["rows"] == len(given)
    monkeypatch.setattr("hf_ser.transcripts.fold_transcripts.BANK_SHARE", 1.0)
    everyone = choose(transcribed, sentence_bank="default")
    assert (everyone.source["c/03"], everyone.text["c/03"] in bank["angry"]) == ("bank", True)
    assert (everyone.source["c/04"], everyone.text["c/04"] in bank["happy"]) == (f"{ASR}+bank", True)


def test_the_audio_is_not_copied(transcribed, tmp_path):
    audio = [{"bytes": bytes(100_000), "path": None}] * 100
    transcribed.add_column("audio", audio).save_to_disk(tmp_path)
    data = load_from_disk(str(tmp_path))
    before, files = pa.total_allocated_bytes(), sorted(tmp_path.iterdir())
    read = with_transcript_source(data, "reference")
    assert pa.total_allocated_bytes() - before < 1_000_000
    assert sorted(tmp_path.iterdir()) == files
    assert read["transcript"][:] == data["reference_transcript"][:]
