"""A user's own corpus that is no table: a folder for each label, a metadata.csv, a data set on disk or on the Hub."""

import tracemalloc

import pyarrow as pa
import pytest
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Features, Value

from hf_ser.data.corpora import table_rows
from hf_ser.data.corpora.table import list_utterances
from hf_ser.data.schema import features


@pytest.fixture(autouse=True)
def away_from_the_hub(monkeypatch):
    def load_dataset(*args, **options):
        raise AssertionError(f"the Hub was called with {args}")

    monkeypatch.setattr(table_rows, "load_dataset", load_dataset)


def plain(utterances) -> list[tuple]:
    return [(u.id.removeprefix("table/"), u.label, u.speaker and u.speaker.removeprefix("table/")) for u in utterances]


def test_a_folder_for_each_label(tree):
    root = tree("angry/x.wav", "angry/anna/old/y.FLAC", "Ärger zwei/x.mp3", "sad/z.ogg")
    listing = list_utterances(root, speaker_pattern=r"(anna)")
    assert listing.labels == ("angry", "sad", "Ärger zwei")
    assert plain(listing.utterances) == [
        ("angry/anna/old/y.FLAC", "angry", "anna"),
        ("angry/x.wav", "angry", None),
        ("sad/z.ogg", "sad", None),
        ("Ärger zwei/x.mp3", "Ärger zwei", None),
    ]
    assert [u.audio for u in listing.utterances] == [root / u.id.removeprefix("table/") for u in listing.utterances]
    assert [finding.kind for finding in listing.findings] == ["speaker_not_in_path"]


def test_other_files_in_a_folder_are_reported(tree):
    root = tree("sad/1_a.wav", "sad/._1_a.wav", ".git/x.wav", "sad/.cache/b.wav", "sad/notes.txt", "a.TXT", "README")
    listing = list_utterances(tree("loose.wav"), speaker_pattern=r"(\d)_")
    assert plain(listing.utterances) == [("sad/1_a.wav", "sad", "1")]
    assert [(f.kind, f.item, f.detail, f.skipped) for f in listing.findings] == [
        ("not_audio", str(root), "2 files with .txt", True),
        ("not_audio", str(root), "1 files with no ending", True),
        ("no_label_folder", "loose.wav", "not in the sub-folder of a label", True),
    ]


def test_a_folder_of_splits_with_a_folder_for_each_label(tree):
    listing = list_utterances(tree("train/sad/a.wav", "train/angry/b.wav", "Test/sad/c.wav", "dev/sad/d.wav"))
    assert listing.labels == ("angry", "sad")
    splits = {u.id: (u.split, u.label) for u in listing.utterances}
    assert splits == {
        "table/Test/sad/c.wav": ("test", "sad"),
        "table/dev/sad/d.wav": ("validation", "sad"),
        "table/train/angry/b.wav": ("train", "angry"),
        "table/train/sad/a.wav": ("train", "sad"),
    }


@pytest.mark.parametrize("names", [(), ("a.wav", "b.wav"), ("sad/a.m4a",), ("train/a.wav", "test/a.wav")])
def test_a_folder_without_labels(tree, names):
    with pytest.raises(
        ValueError, match=rf"found {len(names)} files, none of them .wav, .* Expected files such as angry"
    ):
        list_utterances(tree(*names))


def test_metadata_are_preferred_to_the_folders(tree):
    root = tree("angry/a.wav", "b.wav")
    (root / "metadata.csv").write_text("file_name,path,emotion,speaker\nangry/a.wav,other,calm,1\nb.wav,other,sad,2\n")
    listing = list_utterances(root, columns={"label": "emotion"})
    assert plain(listing.utterances) == [("angry/a.wav", "calm", "1"), ("b.wav", "sad", "2")]
    assert [u.audio for u in listing.utterances] == [root / "angry/a.wav", root / "b.wav"]


AUDIO = [bytes([i]) * 10 for i in range(4)]
NATIVE = Features({"audio": Audio(16_000), "label": ClassLabel(names=["sad", "angry"]), "speaker": Value("int64")})


STRUCT = {"bytes": Value("binary"), "path": Value("string")}


def built(typed: Features, **columns) -> Dataset:
    """A data set with a column `audio`, without torchcodec: plain structs are cast."""
    bare = Features({**typed, "label": Value("int64"), "audio": STRUCT})
    return Dataset.from_dict(columns, features=bare).cast(typed)


@pytest.fixture
def native() -> Dataset:
    cells = [{"bytes": content, "path": f"{i}.wav"} for i, content in enumerate(AUDIO)]
    return built(NATIVE, audio=cells, label=[0, 1, None, 1], speaker=[7, 8, 8, None])


def test_a_data_set_on_disk(native, tmp_path):
    native.with_format("numpy", columns=["label"]).save_to_disk(tmp_path / "ds")
    listing = list_utterances(tmp_path / "ds")
    assert plain(listing.utterances) == [("0.wav", "sad", "7"), ("1.wav", "angry", "8"), ("3.wav", "angry", None)]
    assert [u.audio() for u in listing.utterances] == [AUDIO[0], AUDIO[1], AUDIO[3]]
    assert [(f.kind, f.item) for f in listing.findings] == [("incomplete_row", "ds, row 3")]
    assert {u.split for u in listing.utterances} == {None}


def test_audio_of_a_data_set_is_identified_by_its_repr(native, tmp_path):
    native.save_to_disk(tmp_path / "ds")
    native.select([1, 0, 2, 3]).save_to_disk(tmp_path / "other")
    first, again, other = (list_utterances(tmp_path / name) for name in ("ds", "ds", "other"))
    assert first == again
    texts = [[repr(u.audio) for u in listing.utterances] for listing in (first, again, other)]
    assert texts[0] == texts[1]
    assert len({*texts[0], *texts[2]}) == 6
    assert all("row=" in text and "'audio'" in text and len(text) < 100 for text in texts[0])


def test_splits_of_a_data_set(native, tmp_path):
    parts = {"train": native, "validation": native.select([0]), "test": native.select([1]), "extra": native.select([3])}
    DatasetDict(parts).save_to_disk(tmp_path / "ds")
    listing = list_utterances(tmp_path / "ds")
    assert [(u.id, u.split, u.audio()) for u in listing.utterances] == [
        ("table/train/0.wav", "train", AUDIO[0]),
        ("table/train/1.wav", "train", AUDIO[1]),
        ("table/train/3.wav", "train", AUDIO[3]),
        ("table/validation/0.wav", "validation", AUDIO[0]),
        ("table/test/1.wav", "test", AUDIO[1]),
        ("table/extra/3.wav", None, AUDIO[3]),
    ]
    assert [(f.kind, f.item) for f in listing.findings if not f.skipped] == [("unknown_split", "table/extra/3.wav")]


@pytest.mark.parametrize("kind", ["audio", "struct", "paths"])
def test_columns_of_a_data_set(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(table_rows, "HF_HUB_CACHE", str(tmp_path))
    files = [tmp_path / "datasets--anna--emo" / f"{name}.wav" for name in "ab"]
    files[0].parent.mkdir()
    for file, content in zip(files, AUDIO, strict=False):
        file.write_bytes(content)
    cells = [str(file) if kind == "paths" else {"bytes": None, "path": str(file)} for file in files]
    typed = Features({"Emotion": Value("string"), "clip": Value("string") if kind == "paths" else STRUCT})
    dataset = Dataset.from_dict({"Emotion": ["sad", "angry"], "clip": cells}, features=typed)
    if kind == "audio":
        dataset = dataset.cast_column("clip", Audio())
    # As if from the Hub, for save_to_disk would take the files in.
    monkeypatch.setattr(table_rows, "load_dataset", lambda *given, **options: dataset)
    utterances = list_utterances("anna/emo", columns={"path": "clip", "label": "emotion"}).utterances
    assert [(u.id, u.label) for u in utterances] == [(f"table/{files[0]}", "sad"), (f"table/{files[1]}", "angry")]
    assert [u.audio() for u in utterances] == AUDIO[:2]


@pytest.mark.parametrize("kind", ["struct", "paths"])
@pytest.mark.parametrize("place", ["hub", "disk"])
def test_a_data_set_names_no_file_of_this_disk(tmp_path, monkeypatch, kind, place):
    """Whoever made it chose the names: a private recording would go into a data set that is then pushed."""
    private = tmp_path / "private.wav"
    private.write_bytes(b"private")
    own = tmp_path / ("datasets--anna--emo" if place == "hub" else "ds")
    own.mkdir()
    (own / "link.wav").symlink_to(private)
    (own / "inside.wav").write_bytes(AUDIO[1])
    names = [
        "/dev/zero",
        str(private),
        "../private.wav",
        "link.wav",
        str(own / "link.wav"),
        str(own),
        "/proc/self/environ",
    ]
    names.append("inside.wav")
    cells = [{"bytes": None, "path": name} if kind == "struct" else name for name in names]
    typed = Features({"label": Value("string"), "path": STRUCT if kind == "struct" else Value("string")})
    dataset = Dataset.from_dict({"label": ["sad"] * len(names), "path": cells}, features=typed)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(table_rows, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(table_rows, "load_dataset", lambda *given, **options: dataset)
    monkeypatch.setattr(table_rows, "load_from_disk", lambda *given: dataset)
    (own / "state.json").write_text("{}")
    *others, inside = list_utterances("anna/emo" if place == "hub" else own).utterances
    assert inside.audio() == AUDIO[1]
    for utterance in others:
        with pytest.raises(ValueError, match=r"names the file .*, expected one in the data set's own folder"):
            utterance.audio()


def test_a_row_without_audio_is_reported_when_it_is_read(tmp_path):
    cells = [{"bytes": b"x", "path": None}, {"bytes": None, "path": None}, None]
    typed = Features({**NATIVE, "audio": STRUCT})
    built(typed, audio=cells, label=[0, 1, 1], speaker=[1, 1, 1]).save_to_disk(tmp_path / "ds")
    utterances = list_utterances(tmp_path / "ds").utterances
    assert [u.id for u in utterances] == ["table/row 1", "table/row 2", "table/row 3"]
    assert utterances[0].audio() == b"x"
    for utterance in utterances[1:]:
        with pytest.raises(ValueError, match=r"row \d: found neither bytes nor a path in the column `audio`"):
            utterance.audio()


def test_the_audio_stays_on_disk(tmp_path):
    cells = [{"bytes": bytes([i]) * 2**20, "path": f"{i}.wav"} for i in range(16)]
    built(NATIVE, audio=cells, label=[0] * 16, speaker=[1] * 16).save_to_disk(tmp_path / "ds")
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    utterances = list_utterances(tmp_path / "ds").utterances
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 2**20
    assert pa.total_allocated_bytes() - before < 2**20
    assert utterances[15].audio() == cells[15]["bytes"]


def test_a_data_set_that_we_prepared(tmp_path):
    labels = ("neutral", "sad", "angry")
    typed = features(labels)
    row = dict.fromkeys(typed)
    row |= {"id": "toy/a", "audio": {"bytes": AUDIO[0], "path": "a.wav"}, "label": 2, "votes": [0.0, 0.25, 0.75]}
    row |= {"corpus": "toy", "speaker": "toy/1", "sex": "male", "age": 30.0, "split": "test", "valence": 2.5}
    row |= {"transcript": "oh", "transcript_source": "whisper@1", "fingerprint": b"\0", "source_bytes": 7}
    other = row | {"id": "toy/b", "label": 1, "votes": None, "speaker": "toy/2"}
    built(typed, **{name: [row[name], other[name]] for name in typed}).save_to_disk(tmp_path / "ds")
    listing = list_utterances(tmp_path / "ds")
    first, second = listing.utterances
    assert listing.labels == ("angry", "sad")
    assert (first.id, first.label, first.corpus, first.speaker) == ("table/toy/a", "angry", "table", "table/toy/1")
    assert (first.votes, second.votes) == ({"sad": 0.25, "angry": 0.75}, None)
    assert (first.sex, first.age, first.split, first.valence) == ("male", 30.0, "test", 2.5)
    assert (first.transcript, first.transcript_source) == ("oh", "whisper@1")
    assert first.audio() == AUDIO[0]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("anna/emo-1.0", ("anna/emo-1.0", None, None)),
        ("anna/emo@v2", ("anna/emo", None, "v2")),
        ("anna/emo:de", ("anna/emo", "de", None)),
        ("anna/emo@refs/convert/parquet:de", ("anna/emo", "de", "refs/convert/parquet")),
    ],
)
def test_a_data_set_on_the_hub(native, tmp_path, monkeypatch, given, expected):
    monkeypatch.chdir(tmp_path)
    calls = []

    def load_dataset(path, name=None, revision=None):
        calls.append((path, name, revision))
        return DatasetDict({"train": native})

    monkeypatch.setattr(table_rows, "load_dataset", load_dataset)
    listing = list_utterances(given)
    assert calls == [expected]
    assert [u.id for u in listing.utterances] == ["table/train/0.wav", "table/train/1.wav", "table/train/3.wav"]
    assert listing.utterances[2].audio() == AUDIO[3]


@pytest.mark.parametrize("error", [ConnectionError("no network"), RuntimeError("scripts are gone"), ImportError("x")])
def test_a_hub_data_set_that_does_not_load(tmp_path, monkeypatch, error):
    def load_dataset(*args, **options):
        raise error

    monkeypatch.setattr(table_rows, "load_dataset", load_dataset)
    text = (
        rf"^anna/emo: not readable as a data set, nor a file or folder here \({type(error).__name__}: {error}\)\. Exp"
    )
    with pytest.raises(ValueError, match=text):
        list_utterances("anna/emo")


@pytest.mark.parametrize("name", ["clips/table.csv", "there/clips", "emo", "a/b/c", "./emo", "/anna/emo", "~/emo"])
def test_a_mistyped_path_is_not_looked_up_on_the_hub(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    with pytest.raises(FileNotFoundError, match="no such table"):
        list_utterances(name)


def test_a_folder_that_is_a_broken_data_set(tmp_path):
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(ValueError, match=r"not readable as a data set.*Expected a folder of datasets\.save_to_disk"):
        list_utterances(tmp_path)
