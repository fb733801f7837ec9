"""A person's word that two clips are no copies: it clears the pair by name, is recorded, and brands nothing."""

import hashlib
import json
import unicodedata

import pytest
from checks.audit.copies import recoded

from hf_ser.checks.audit.data import audit_data
from hf_ser.checks.audit.not_copies import NotCopies, read_not_copies
from hf_ser.data.prepared import load_prepared
from hf_ser.data.splitting import make_folds
from hf_ser.runs.findings import LEAK, NOTE, WARNING
from hf_ser.runs.record import RECORD, ClearedPairs, TrainingRecord

QUICK = ("--num_train_epochs", "1", "--n_folds", "2", "--disable_tqdm", "true", "--early_stopping_patience", "0")


@pytest.fixture
def alike(prepared_of, clips):
    """A data set in which two clips of different speakers resemble each other."""
    row, samples = clips[0]
    other = next(i for i, (one, _) in enumerate(clips) if one["speaker"] == "s5" and one["label"] == row["label"])
    changed = list(clips)
    changed[other] = (clips[other][0], recoded(samples))
    return prepared_of(changed), f"table/{row['path']}", f"table/{clips[other][0]['path']}"


def listed(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def test_cleared_pairs_are_no_leak_and_are_recorded(alike, script, tmp_path):
    folder, one, other = alike
    run = ("--dataset", folder, "--fold", "all", "--output_dir", tmp_path / "o", *QUICK)
    with pytest.raises(ValueError, match=r"near_identical_sound_.*list them in a file for --not_copies"):
        script("train_text", *run)
    pairs = listed(tmp_path / "pairs.csv", "first,second", f"{other},{one}")
    script("train_text", *run, "--not_copies", pairs)
    sha = hashlib.sha256(pairs.read_bytes()).hexdigest()
    report = json.loads((tmp_path / "o/report.json").read_text())
    assert report["leaks"] == report["audit"]["leak"] == []
    (note,) = [one for one in report["notices"] if "not_copies" in one]
    assert note.startswith("1 pairs of clips")
    assert sha[:16] in note
    audit = json.loads((tmp_path / "o/audit.json").read_text())
    (found, *_) = [each for each in audit["findings"] if each["kind"] == "cleared_near_identical_sound"]
    assert found["severity"] == NOTE
    assert found["evidence"][0].startswith(" = ".join(sorted((one, other))))
    record = (tmp_path / "o/fold_1" / RECORD).read_text()
    assert json.loads(record)["not_copies"]["sha256"] == sha
    with pytest.raises(SystemExit) as end:  # the run's own records say what was cleared
        script("audit", "--run", tmp_path / "o", "--dataset", folder)
    assert end.value.code == 0
    for more, status in ((("--not_copies", pairs), 0), ((), 1)):
        with pytest.raises(SystemExit) as end:
            script("audit", "--dataset", folder, "--n_folds", 2, *more)
        assert end.value.code == status


def test_pairs_that_clear_nothing_are_noted(alike):
    folder, one, other = alike
    dataset = load_prepared(folder)
    ids = dataset["id"][:]
    stranger = next(name for name in ids if name not in (one, other))
    folds = make_folds(dataset, "speaker_folds", n_folds=4)
    cleared = NotCopies("p.csv", "0" * 64, frozenset({frozenset((one, other)), frozenset((one, stranger))}))
    found = {each.kind: each for each in audit_data(dataset, folds, cleared=cleared)}
    assert not [each for each in found.values() if each.severity == LEAK]
    assert found["not_copies_unreported"].severity == NOTE
    assert found["not_copies_unreported"].evidence == (" = ".join(sorted((one, stranger))),)
    # Of two other pairs nothing is cleared, and the copy stays a leak.
    wrong = NotCopies("p.csv", "0" * 64, frozenset({frozenset((one, stranger))}))
    kinds = {each.kind for each in audit_data(dataset, folds, cleared=wrong) if each.severity == LEAK}
    assert any(kind.startswith("near_identical_sound") for kind in kinds)


def test_equal_samples_cannot_be_cleared(prepared_of, clips):
    dataset = load_prepared(prepared_of(clips[:40]))
    hashes = dataset["pcm_sha256"][:]
    other = dataset["speaker"][:].index("table/s2")
    twins = dataset.map(lambda row, i: {"pcm_sha256": hashes[0 if i == other else i]}, with_indices=True)
    ids = twins["id"][:]
    cleared = NotCopies("p.csv", "0" * 64, frozenset({frozenset((ids[0], ids[other]))}))
    found = {each.kind: each.severity for each in audit_data(twins, cleared=cleared)}
    assert found["not_copies_identical"] == WARNING
    assert "identical_sound" in found


IDS = ["table/a.wav", "table/b.wav", "table/c, d.wav"]
PAIR = frozenset(IDS[:2])


@pytest.mark.parametrize(
    "text",
    [
        "table/a.wav,table/b.wav",
        "id_a,id_b\ntable/b.wav , table/a.wav\n\n",
        "\ufefffirst;second\r\ntable/a.wav;table/b.wav\r\n",
        "this clip\tis not\ntable/a.wav\ttable/b.wav",
        "table/a.wav,table/b.wav\ntable/b.wav,table/a.wav",
    ],
)
def test_lists_of_pairs(tmp_path, text):
    file = tmp_path / "pairs.csv"
    file.write_bytes(text.encode())
    assert read_not_copies(file, IDS).pairs == {PAIR}
    assert read_not_copies(file).pairs == {PAIR}
    assert read_not_copies(None, IDS).pairs == frozenset()


def test_ids_with_commas_and_without_a_prefix(tmp_path):
    file = listed(tmp_path / "pairs.csv", '"table/c, d.wav",table/a.wav')
    assert read_not_copies(file, IDS).pairs == {frozenset((IDS[2], IDS[0]))}
    file = listed(tmp_path / "pairs.csv", "x1,x2", "x3,x4")
    assert len(read_not_copies(file, ["x1", "x2", "x3", "x4"]).pairs) == 2
    with pytest.raises(ValueError, match="2 ids are not in the data set: x1, x2"):
        read_not_copies(file, ["x3", "x4"])  # a misspelt pair is no header


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("table/a.wav,table/z.wav\n", r"1 ids are not in the data set: table/z\.wav\. Expected ids as the audit"),
        ("id,id\ntable/a.wav\n", r"line 2: found 'table/a\.wav', expected the ids of two clips"),
        ("table/a.wav,table/a.wav\n", r"line 1: found 'table/a\.wav, table/a\.wav'"),
        ("table/a.wav,table/b.wav,0.5\n", "line 1: found"),
        ("\u00e9,b".encode("latin-1"), "not UTF-8"),
    ],
)
def test_lists_that_are_wrong(tmp_path, text, error):
    file = tmp_path / "pairs.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=error):
        read_not_copies(file, IDS)
    with pytest.raises(FileNotFoundError, match=r"gone\.csv: no such file"):
        read_not_copies(tmp_path / "gone.csv", IDS)


@pytest.mark.parametrize(
    ("name", "encoding"),
    [("nfd", "utf-8"), ("nfc", "utf-16"), ("nfd", "utf-8-sig"), ("quotes", "utf-8"), ("commas", "utf-8")],
)
def test_lists_are_read_as_tables_are(tmp_path, name, encoding):
    ids = {"quotes": ['table/"yes".wav', "table/b.wav"], "commas": ["table/oh, no.wav", "table/b.wav"]}
    ids = ids.get(name, ["table/Müller é.wav", "table/b.wav"])
    form = "NFD" if name == "nfd" else "NFC"
    text = unicodedata.normalize(form, f"{ids[0]}\t{ids[1]}\r\n" + "table/c, d.wav\ttable/b.wav\r\n")
    file = tmp_path / "pairs.txt"
    file.write_bytes(text.encode(encoding))
    read = read_not_copies(file, [*ids, "table/c, d.wav"])
    assert read.pairs == {frozenset(ids), frozenset(("table/c, d.wav", "table/b.wav"))}


def test_lone_quotes_join_no_lines(tmp_path):
    ids = ['table/"a.wav', 'table/"b.wav', "table/c.wav"]
    file = listed(tmp_path / "pairs.csv", f"{ids[0]},{ids[2]}", f"{ids[1]},{ids[2]}")
    assert len(read_not_copies(file, ids).pairs) == 2


def test_what_leaves_of_cleared_pairs_is_their_number_and_the_files_hash(tmp_path):
    file = listed(tmp_path / "anna and ben.csv", "table/a.wav,table/b.wav")
    cleared = read_not_copies(file, IDS)
    part = {"ids": ["1"], "pcm": ["2"], "speakers": ["3"], "names": ["anna"]}
    split = {"fold": "1", "split_fingerprint": "f", "corpora": ["table"], "train": part, "validation": part}
    written = {"finished": True, "not_copies": cleared.record().to_json(), "split": split | {"who": "anna"}}
    record = TrainingRecord.from_json(written | {"mine": "anna"}, "written")
    for leaving in (record.public(True), record.public(False), record.public(True).public(True)):
        assert leaving.not_copies == ClearedPairs(count=1, sha256=cleared.sha256)
        assert "anna" not in json.dumps(leaving.to_json()) and leaving.split.corpora == ["table"]
        assert NotCopies.of_record(leaving.not_copies, IDS) == NotCopies()
    assert not NotCopies.of_record(record.not_copies, IDS).pairs ^ {PAIR}
