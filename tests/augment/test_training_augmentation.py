"""A changed clip depends on the seed, its id and the view; evaluated clips are not changed."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import soundfile as sf
from datasets import Dataset
from torch.utils.data import DataLoader

from hf_ser.augment.augmenter import Augmenter
from hf_ser.augment.copies import prepare_copies, without_evaluated_copies
from hf_ser.augment.specification import CHANGES, parse_augmentation
from hf_ser.augment.views import View, number_of_views, with_views
from hf_ser.data.prepared import load_prepared
from hf_ser.data.splitting import make_folds
from hf_ser.inputs.targets import with_columns
from hf_ser.training.arguments import AugmentArguments

RATE = 16_000
EVERY = ",".join(f"{name}:1" for name in CHANGES if name != "noise_folder")


@pytest.fixture
def dataset(prepared):
    return load_prepared(prepared)


def clip(seconds: float = 0.6) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(int(seconds * RATE))).astype(np.float32)


def test_a_specification_is_read_with_defaults_and_in_the_order_of_use():
    (changes,) = parse_augmentation("gain@-6-6, telephone,pink:0.4,speed:1@1.1")
    assert [str(one) for one in changes] == ["speed:1@1.1-1.1", "pink:0.4@5-20", "gain:0.5@-6-6", "telephone:0.2"]
    ((gain,),) = parse_augmentation("gain:1@-6--3")
    assert (gain.low, gain.high) == (-6, -3)


def test_changes_parted_by_a_slash_take_turns_and_are_certain():
    turns = parse_augmentation("telephone/speed@0.9/white:0.5@20,gain@3/speed@1.1")
    assert [[str(one) for one in turn] for turn in turns] == [
        ["telephone:1"],
        ["speed:1@0.9-0.9"],
        ["white:0.5@20-20", "gain:1@3-3"],
        ["speed:1@1.1-1.1"],
    ]
    augmenter = Augmenter("telephone/speed@0.9", None, [], seed=1)
    assert [augmenter.describe("one", view) for view in range(4)] == 2 * [["telephone"], ["speed 0.9"]]


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ("reverb", "found 'reverb', expected one of pitch_shift"),
        ("pink,", "found '', expected one of"),
        ("pink:half", "found 'pink:half'"),
        ("pink:1.5", r"probability of 'pink:1.5' is 1.5, expected above 0"),
        ("pink:0.5@20-5", "range 20 to 5, expected the lower number first"),
        ("speed@0.9-9", "range 0.9 to 9, expected .* from 0.5 to 2"),
        ("pink:0.1.2", "has no number"),
        ("telephone@3", "telephone has no strength"),
        ("pink,gain,pink", "found pink twice"),
        ("telephone/", "found '', expected one of"),
    ],
)
def test_a_wrong_specification_is_refused(spec, error):
    with pytest.raises(ValueError, match=error):
        AugmentArguments(spec)


def test_noise_folder_and_noise_dir_go_together():
    for wrong in (("noise_folder", None), ("pink", "noises")):
        with pytest.raises(ValueError, match="expected both the change noise_folder and the folder"):
            AugmentArguments(*wrong)


def is_same_audio(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and np.allclose(one, other, rtol=0, atol=1e-6)


def test_a_head_that_is_solved_for_has_a_view_for_each_turn_and_others_new_ones():
    turns = "white/pink/telephone"
    assert [number_of_views(turns, given, True) for given in (0, 3, 6)] == [3, 3, 6]
    assert [number_of_views(turns, given, False) for given in (0, 4)] == [0, 4]
    assert number_of_views(None, 0, True) == 0 and number_of_views("white,pink", 0, True) == 1
    with pytest.raises(ValueError, match="--cache_views is 2: found no --augment, and so nothing for views of a clip"):
        number_of_views(None, 2, True)
    with pytest.raises(ValueError, match=r"fewer views of a clip than turns, 3, .* give --cache_views 3"):
        number_of_views(turns, 2, False)


def test_views_depend_on_seed_id_and_view_alone(dataset):
    rows = list(range(24))
    made = Augmenter(EVERY, dataset, rows)
    again = pickle.loads(pickle.dumps(Augmenter(EVERY, dataset.select(rows[::-1]), rows)))
    ids, samples = dataset["id"][:2], clip(0.3)
    first = {(name, view): made(samples, name, view) for name in ids for view in (0, 1)}
    for name, view in reversed(first):
        np.testing.assert_allclose(again(samples, name, view), first[name, view], rtol=0, atol=1e-6)
    others = [*list(first.values())[1:], Augmenter(EVERY, dataset, rows, seed=1)(samples, ids[0], 0)]
    assert not any(is_same_audio(one, first[ids[0], 0]) for one in others)
    np.testing.assert_array_equal(samples, clip(0.3))
    assert not made.failed
    assert made.keys == again.keys != Augmenter(EVERY, dataset, rows[:-1]).keys
    for one in first.values():
        assert (one.dtype, np.isfinite(one).all(), np.abs(one).max() <= 1) == (np.float32, True, True)


def test_a_new_version_of_a_change_makes_its_kept_views_old_and_no_others(monkeypatch):
    made = Augmenter("telephone/white,pink", None, ()).keys
    monkeypatch.setitem(CHANGES, "pink", replace(CHANGES["pink"], version=2))
    again = Augmenter("telephone/white,pink", None, ()).keys
    assert [one == other for one, other in zip(made, again, strict=True)] == [True, False]


def test_another_change_does_not_alter_the_draws_of_the_others():
    made = Augmenter("shift,speed:0.5", None, ())
    more = Augmenter("shift,speed:0.5,pitch_shift:0.5", None, ())
    others = [[one for one in more.describe(str(i), 0) if "pitch" not in one] for i in range(9)]
    assert others == [made.describe(str(i), 0) for i in range(9)]


def test_nothing_is_changed_without_a_view_or_a_specification():
    samples = clip()
    assert Augmenter("pink:1", None, ())(samples, "a", None) is samples
    assert Augmenter(None, None, ())(samples, "a", 3) is samples


@pytest.mark.parametrize("kind", ["white", "pink", "noise", "babble"])
def test_noise_has_the_requested_ratio(kind, dataset):
    samples = 0.1 * clip()
    noise = Augmenter(f"{kind}:1@7", dataset, range(16))(samples, "a", 0) - samples
    assert 10 * np.log10(np.square(samples).mean() / np.square(noise).mean()) == pytest.approx(7, abs=0.05)


def test_babble_is_of_other_training_speakers(dataset, monkeypatch):
    speakers, mixed_in = dataset["speaker"][:], set()
    rows = [row for row, who in enumerate(speakers) if who[-1] in "1234"]
    augmenter = Augmenter("babble:1", dataset, rows)

    def decoded(cell):
        mixed_in.add(cell["path"].split("_")[0])
        return clip()

    monkeypatch.setattr("hf_ser.augment.mixing.decode_audio", decoded)
    for view in range(6):
        augmenter(clip(), dataset["id"][rows[0]], view)
    assert mixed_in == set("1234") - {speakers[rows[0]][-1]}
    with pytest.raises(ValueError, match="found audio of 1 training speaker"):
        Augmenter("babble", dataset, rows[:4])


def test_bad_files_of_a_noise_folder_are_left_out(tmp_path, caplog):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        Augmenter("noise_folder", load_nothing(), (), tmp_path / "none")
    (tmp_path / "bad.wav").write_bytes(b"RIFF but no more")
    with pytest.raises(ValueError, match=r"found 1 audio files, none of which can be read; the first: .*bad.wav"):
        Augmenter("noise_folder", load_nothing(), (), tmp_path)
    time = np.arange(3 * 22_050) / 22_050
    sf.write(tmp_path / "hum.wav", 0.2 * np.sin(2 * np.pi * 50 * time), 22_050)
    augmenter = Augmenter("noise_folder:1@0", load_nothing(), (), tmp_path)
    assert "1 files are left out" in augmenter.notices[0]
    assert "bad.wav" in augmenter.notices[0]
    samples = 0.1 * clip(1.0)
    noise = augmenter(samples, "a", 0) - samples
    assert np.abs(np.fft.rfft(noise)).argmax() == 50
    (tmp_path / "hum.wav").unlink()
    for view in (1, 2):
        assert augmenter(samples, "a", view) is samples
    assert augmenter.failed == {"noise_folder": 2}
    assert caplog.text.count("stays without noise_folder") == 1


def load_nothing() -> Dataset:
    return Dataset.from_dict({name: [] for name in ("id", "speaker", "duration_seconds", "pcm_sha256")})


class Views:
    """A collator that gives the id, the view and the changed samples of each row."""

    def __init__(self, augmenter):
        self.augmenter = augmenter

    def __call__(self, rows):
        return [(row["id"], row["view"], row["more"], self.augmenter(clip(), row["id"], row["view"])) for row in rows]


def test_loader_workers_follow_the_epoch_and_change_nothing(dataset):
    augmenter = Augmenter("pink:1,speed:1", None, ())
    part = dataset.select_columns(["id"]).select(range(8))
    part = with_columns(part, {"more": {name: i for i, name in enumerate(part["id"][:])}})
    view = View()
    seen = []
    for workers in (0, 2):
        loader = DataLoader(
            copy.deepcopy(with_views(part, view, cache_views=2)),
            batch_size=2,
            num_workers=workers,
            collate_fn=Views(augmenter),
            persistent_workers=workers > 0,
            multiprocessing_context="fork" if workers else None,
        )
        for epoch in range(3):
            view.set(epoch)
            seen.append([one for batch in loader for one in batch])
    named = [[one[:3] for one in epoch] for epoch in seen]
    audio = [[one[3] for one in epoch] for epoch in seen]

    def is_same(one: int, other: int) -> bool:
        pairs = zip(audio[one], audio[other], strict=True)
        return named[one] == named[other] and all(is_same_audio(*pair) for pair in pairs)

    assert all(is_same(epoch, epoch + 3) for epoch in range(3))
    assert [{view for _, view, _ in epoch} for epoch in named[:3]] == [{0}, {1}, {0}]
    assert is_same(0, 2)
    assert not any(is_same_audio(*pair) for pair in zip(audio[0], audio[1], strict=True))
    assert [more for _, _, more, _ in seen[0]] == list(range(8))


def test_copies_are_not_evaluated_or_reported_as_a_leak(prepared, tmp_path):
    data, report = prepare_copies(prepared, tmp_path / "data", 1, "gain:1")
    assert (report["noted"]["augmented_copies"], report["n_kept"]) == (1, 96)
    assert [file.name for file in tmp_path.iterdir()] == ["data"]
    origins = np.array(data["copy_of"][:], dtype=object)
    copies = np.array([one is not None for one in origins])
    assert (len(data), copies.sum()) == (96, 48)
    assert len(set(data["pcm_sha256"][:])) == 96
    assert data[1]["id"] == f"{data[0]['id']}#copy1"
    assert (data[1]["copy_of"], data[1]["label"], data[1]["speaker"]) == tuple(
        data[0][n] for n in ("id", "label", "speaker")
    )
    (fold,) = make_folds(data, "speaker_folds", which="1", n_folds=3, validation_fraction=0.5)
    cleaned = without_evaluated_copies(data, fold)
    assert not copies[np.concatenate([cleaned.test, cleaned.validation])].any()
    assert len(cleaned.test) * 2 == len(fold.test)
    assert (list(cleaned.train), cleaned.leaks) == (list(fold.train), ())
    assert cleaned.fingerprint != fold.fingerprint
    (leaked,) = make_folds(data, "random", which="1", n_folds=3, allow_leak=True)
    named = without_evaluated_copies(data, leaked)
    assert "augmented_copy_overlap_train_test" in named.leaks
    assert list(named.test) == list(leaked.test)


def test_copies_and_their_changes_are_given_together(script, capsys):
    with pytest.raises(SystemExit):
        script("prepare_data", "--corpus", "synthetic", "--output_dir", "never", "--augmented_copies", 3)
    assert "--augmented_copies N and --augment SPEC go together" in capsys.readouterr().err


def test_the_preview_shows_each_view_and_loads_nothing(prepared, tmp_path, script):
    arguments = ("--dataset", prepared, "--augment", "gain:1", "--clips", 1, "--views", 1, "--output_dir", tmp_path)
    script("augment_preview", *arguments)
    page = (tmp_path / "preview.html").read_text()
    assert page.count('<img src="data:image/png;base64,') == 2
    assert "http" not in page.replace("http-equiv", "")
    assert "<audio" not in page
    assert "only you know whether they may be handed on" in page
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".html", ".png", ".png", ".wav", ".wav"]
