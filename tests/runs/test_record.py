"""An encoder that was trained on test rows of a fused model is refused."""

import dataclasses
import json

import pytest

from hf_ser.data.prepared import load_prepared
from hf_ser.data.splitting import make_folds
from hf_ser.runs.findings import LEAK, finding
from hf_ser.runs.record import (
    Split,
    TrainingRecord,
    ancestry,
    hashed,
    is_finished,
    provenance,
    read_record,
    row_hashes,
    split_record,
    stage_leaks,
    write_record,
)


@pytest.fixture(scope="module")
def data(prepared):
    return load_prepared(prepared)


@pytest.fixture(scope="module")
def folds(data):
    return make_folds(data, "speaker_folds", n_folds=3)


def encoder_trained_on(folder, data, fold, ancestors=()):
    write_record(folder, TrainingRecord(split=split_record(data, fold), ancestors=list(ancestors)))
    return {"audio": str(folder)}


def test_an_encoder_of_the_same_fold_passes(tmp_path, data, folds):
    assert stage_leaks(data, folds[0], encoder_trained_on(tmp_path, data, folds[0]), allow_leak=False) == []


def test_an_encoder_of_another_fold_is_refused_with_the_remedy(tmp_path, data, folds):
    sources = encoder_trained_on(tmp_path, data, folds[1])
    with pytest.raises(ValueError, match="this audio model was trained on data that fold 1 uses as test") as error:
        stage_leaks(data, folds[0], sources, allow_leak=False)
    for part in (str(tmp_path), "16 utterances", "2 speakers", "{fold}", "--allow_leak"):
        assert part in str(error.value)


def test_the_leak_is_named_where_it_is_allowed(tmp_path, data, folds):
    sources = encoder_trained_on(tmp_path, data, folds[1])
    assert "stage_leakage_audio_test" in stage_leaks(data, folds[0], sources, allow_leak=True)


def test_a_checkpoint_chosen_on_test_rows_is_refused(tmp_path, data, folds):
    fold = folds[0]
    chosen = dataclasses.replace(fold, train=fold.train[:1], validation=fold.test)
    with pytest.raises(ValueError, match="was chosen on data that fold 1 uses as test"):
        stage_leaks(data, fold, encoder_trained_on(tmp_path, data, chosen), allow_leak=False)


def test_an_equal_speaker_or_recording_is_enough(tmp_path, data, folds):
    fold, nothing = folds[0], row_hashes(data, [])
    test = row_hashes(data, fold.test)
    for kind in ("speakers", "pcm"):
        trained = dataclasses.replace(nothing, **{kind: getattr(test, kind)[:1]})
        split = Split(fold="1", split_fingerprint="x", train=trained, validation=nothing)
        write_record(tmp_path, TrainingRecord(split=split))
        with pytest.raises(ValueError, match="was trained on data that fold 1 uses as test"):
            stage_leaks(data, fold, {"audio": str(tmp_path)}, allow_leak=False)


def test_what_an_encoder_was_built_from_counts(tmp_path, data, folds):
    ancestor = split_record(data, folds[1])
    sources = encoder_trained_on(tmp_path, data, folds[0], ancestors=[ancestor])
    with pytest.raises(ValueError, match="was trained on data"):
        stage_leaks(data, folds[0], sources, allow_leak=False)


def test_an_encoder_without_a_record_passes(tmp_path, data, folds):
    assert stage_leaks(data, folds[0], {"text": str(tmp_path), "audio": "crnn"}, allow_leak=False) == []


def test_a_name_of_the_hub_that_is_not_in_the_cache_is_not_recorded_offline():
    for name in ("nobody/nothing", "nobody/nothing@main"):
        assert read_record(name) is None and ancestry(name) == []


def test_a_record_holds_no_names(tmp_path, data, folds):
    encoder_trained_on(tmp_path, data, folds[0])
    text = (tmp_path / "training_record.json").read_text()
    assert "table/" not in text
    assert hashed(data[int(folds[0].train[0])]["speaker"]) in text
    assert len(read_record(tmp_path).split.train.ids) == len(folds[0].train)


HASHES = {"ids": [], "pcm": [], "speakers": []}
SPLIT = {"fold": "1", "split_fingerprint": "x", "train": HASHES, "validation": HASHES}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "[" * 100_000,
        json.dumps({"finished": "yes"}),
        json.dumps({"finished": True, "split": [], "ancestors": []}),
        json.dumps({"finished": True, "split": {}, "ancestors": []}),
        json.dumps({"finished": True, "split": SPLIT | {"train": None}, "ancestors": []}),
        json.dumps({"finished": True, "split": SPLIT | {"train": HASHES | {"ids": 5}}, "ancestors": []}),
        json.dumps({"finished": True, "split": SPLIT | {"validation": HASHES | {"pcm": [1]}}, "ancestors": []}),
        json.dumps({"finished": True, "split": SPLIT, "ancestors": {"a": 1}}),
        json.dumps({"finished": True, "split": SPLIT, "ancestors": ["x"]}),
        json.dumps({"finished": True, "split": SPLIT, "ancestors": [], "corpora": [None]}),
        json.dumps({"finished": True, "split": SPLIT, "ancestors": [], "settings": "audio"}),
        json.dumps({"finished": True, "split": SPLIT, "ancestors": [], "seed": "1"}),
        json.dumps({"finished": True, "split": SPLIT, "ancestors": [], "weights": ["abc"]}),
    ],
    ids=lambda text: text[:60],
)
def test_a_bad_record_is_refused_by_its_file(tmp_path, text):
    file = tmp_path / "training_record.json"
    file.write_text(text)
    for use in (read_record, is_finished, ancestry):
        with pytest.raises(ValueError, match=rf"{file}: .*[eE]xpected .*remove it if"):
            use(tmp_path)


def test_a_record_without_a_split_tells_nothing_of_the_training_data(tmp_path):
    (tmp_path / "training_record.json").write_text('{"finished": true}')
    assert is_finished(tmp_path)
    with pytest.raises(ValueError, match="found no split, expected what this model was trained on"):
        ancestry(str(tmp_path))


def test_withheld_names_are_noted_and_equal_recordings_still_found(tmp_path, data, folds, capsys):
    record = TrainingRecord(split=split_record(data, folds[1]), ancestors=[split_record(data, folds[2])])
    public = record.public(with_people=False)
    text, names = json.dumps(public.to_json()), [hashed(name) for name in (*data["speaker"][:], *data["id"][:])]
    assert not [name for name in names if name in text] and public.split.train.pcm
    write_record(tmp_path, public)
    with pytest.raises(ValueError, match=r"\(0 utterances, \d+ equal recordings and 0 speakers are shared\)"):
        stage_leaks(data, folds[0], {"audio": str(tmp_path)}, allow_leak=False)
    nothing = dataclasses.replace(public.split.train, pcm=[])
    splits = [dataclasses.replace(split, train=nothing, validation=nothing) for split in public.splits]
    write_record(tmp_path, TrainingRecord(split=splits[0], ancestors=splits[1:]))
    capsys.readouterr()
    assert stage_leaks(data, folds[0], {"audio": str(tmp_path)}, allow_leak=False) == []
    assert f"note: {tmp_path}: its training speakers and clips are withheld" in capsys.readouterr().out
    assert "withheld, so only equal recordings can be found" in provenance({"audio": str(tmp_path)})["audio"]


def test_a_record_is_read_as_it_was_written_and_keys_of_newer_versions_pass(tmp_path, data, folds):
    (found,) = [finding("a_kind", LEAK, "what", "do", ["b", "a"], "1")]
    record = TrainingRecord(finished=True, split=split_record(data, folds[0]), audit=[found], seed=1, train_seconds=2.5)
    write_record(tmp_path, record)
    written = json.loads((tmp_path / "training_record.json").read_text())
    assert list(written)[:3] == ["finished", "split", "ancestors"] and "search" not in written
    assert written["audit"][0]["fold"] == "1" and list(written["audit"][0])[-1] == "n_evidence"
    assert read_record(tmp_path) == record == TrainingRecord.from_json(written | {"newer": 1}, "the file")


def test_a_bad_value_is_named_with_its_place_and_what_was_expected():
    with pytest.raises(ValueError, match=r"the file: found split\.train\.ids\.1: 5, expected a text: this is not a tr"):
        TrainingRecord.from_json({"split": SPLIT | {"train": HASHES | {"ids": ["a", 5]}}}, "the file")
    with pytest.raises(ValueError, match=r"found split: no validation, expected validation, an object of keys"):
        TrainingRecord.from_json({"split": {key: SPLIT[key] for key in ("fold", "split_fingerprint", "train")}}, "f")
