"""What a probe must see, what it must not see, and when it has to say that it cannot tell."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from hf_ser.checks.audit import probes
from hf_ser.checks.audit.data import speaker_findings
from hf_ser.checks.audit.probes import Probe, ScriptProbes, probe_speaker, probe_text, probe_trivia, text_through_script
from hf_ser.data.plans import Rows
from hf_ser.runs.findings import NOTE, WARNING

EMOTIONS = ("angry", "calm", "happy", "sad")
SENTENCES = ("Kids are talking by the door", "Dogs are sitting by the door")


@pytest.fixture
def acted():
    """Labels, speakers and sentences of 12 speakers who each say two sentences ten times in four emotions."""
    grid = [(e, f"s{k}", t) for k in range(12) for e in EMOTIONS for t in SENTENCES for _ in range(10)]
    return tuple(list(column) for column in zip(*grid, strict=True))


@pytest.fixture
def generator():
    return np.random.default_rng(0)


def one(column, labels, speakers, seed=0) -> Probe:
    return probe_trivia({"it": column}, labels, speakers, seed)["it"]


# Words


def test_two_sentences_spoken_in_every_emotion_carry_nothing(acted):
    labels, speakers, texts = acted
    probe = probe_text(texts, labels, speakers)
    assert probe.name == "transcript"
    assert (probe.n, probe.groups, probe.chance) == (960, 12, 0.25)
    assert probe.uar == pytest.approx(0.25, abs=0.02)
    assert probe.carries_nothing
    assert not (probe.carries_label or probe.gives_away or probe.depends_on_label)


def test_a_sentence_chosen_by_the_label_gives_it_away(acted):
    labels, _, texts = acted
    appended = dict(zip(EMOTIONS, ("I am furious", "I am at ease", "What a day", "I could cry"), strict=True))
    probe = probe_text([f"{text}. {appended[label]}" for text, label in zip(texts, labels, strict=True)], *acted[:2])
    assert probe.uar == 1
    assert probe.gives_away and probe.carries_label and not probe.carries_nothing


def test_text_that_leans_one_way_carries_the_label_without_giving_it_away(acted, generator):
    labels, speakers, texts = acted
    spoken = [label if generator.random() < 0.4 else generator.choice(EMOTIONS) for label in labels]
    probe = probe_text([f"{text} {word}" for text, word in zip(texts, spoken, strict=True)], labels, speakers)
    assert 0.45 < probe.uar < 0.65
    assert probe.low < probe.uar < probe.high
    assert probe.carries_label and not probe.gives_away and not probe.carries_nothing


def test_what_holds_within_one_speaker_only_is_not_counted(acted):
    # Each speaker has words of his own for each emotion: they give the label of known speakers and of no unseen one.
    labels, speakers, texts = acted
    own = [f"{text} {label}{who}" for text, label, who in zip(texts, labels, speakers, strict=True)]
    assert probe_text(own, labels, speakers).uar < 0.3
    assert probe_text(own, labels, [str(i % 7) for i in range(len(labels))]).uar == 1


@pytest.mark.parametrize(
    "texts",
    [
        {"angry": "no!", "calm": "no.", "happy": "no?", "sad": "no,"},
        {"angry": "他很生气", "calm": "天气平静", "happy": "他们很高兴", "sad": "我非常难过"},
        {"angry": "NO way", "calm": "way no", "happy": "way way", "sad": "no no no"},
    ],
)
def test_punctuation_scripts_without_spaces_and_word_pairs_are_used(acted, texts, generator):
    labels, speakers, _ = acted
    # A filler between signs, so that no whole phrase repeats.
    marked = [f"{texts[label]}{''.join(generator.choice(list('天地人和你我'), 3))}" for label in labels]
    assert probe_text(marked, labels, speakers).gives_away


@pytest.mark.parametrize(
    "spoil",
    [
        lambda texts, labels, speakers: (texts, labels, ["s0"] * len(texts)),
        lambda texts, labels, speakers: (texts, labels, [None] * len(texts)),
        lambda texts, labels, speakers: (texts, labels, [""] * len(texts)),
        lambda texts, labels, speakers: (texts, ["sad"] * len(texts), speakers),
        lambda texts, labels, speakers: ([None] * len(texts), labels, speakers),
        lambda texts, labels, speakers: ([" "] * len(texts), labels, speakers),
        lambda texts, labels, speakers: ([f"word{i}" for i in range(len(texts))], labels, speakers),
        lambda texts, labels, speakers: (texts[:12], labels[:12], [str(i) for i in range(12)]),
        lambda texts, labels, speakers: (texts, [f"of {speaker}" for speaker in speakers], speakers),
        lambda texts, labels, speakers: ([], [], []),
    ],
    ids=[
        "one speaker",
        "no speakers",
        "empty speakers",
        "one class",
        "no texts",
        "blank texts",
        "no word twice",
        "few rows",
        "classes of one speaker each",
        "nothing",
    ],
)
def test_what_cannot_be_probed_is_none(acted, spoil):
    labels, speakers, texts = acted
    assert probe_text(*spoil(texts, labels, speakers)) is None


def test_rows_without_text_speaker_or_label_are_left_out(acted):
    labels, speakers, texts = acted
    probe = probe_text(
        [*texts, None, "", "Kids", "Kids"], [*labels, *labels[:3], None], [*speakers, "s0", "s0", "", "s0"]
    )
    assert (probe.n, probe.groups) == (960, 12)


def test_a_class_of_few_rows_or_one_speaker_is_left_out(acted):
    labels, speakers, texts = acted
    rare, single = probes.MIN_CLASS_ROWS - 1, 20
    probe = probe_text(
        [*texts, *["door"] * (rare + single)],
        [*labels, *["bored"] * rare, *["other"] * single],
        [*speakers, *(f"s{i}" for i in range(rare)), *["s0"] * single],
    )
    assert (probe.n, probe.chance) == (960, 0.25)


def test_of_very_many_texts_a_sample_is_probed(acted, monkeypatch):
    labels, speakers, texts = acted
    monkeypatch.setattr(probes, "MAX_TEXT_ROWS", 400)
    probe = probe_text(texts, labels, speakers, seed=1)
    assert probe.n == 400
    assert asdict(probe) == pytest.approx(asdict(probe_text(texts, labels, speakers, seed=1)))


def test_recall_counts_every_class_alike(generator):
    # 900 of one class and 100 of the other: always naming the large one is right in 90 % and worth chance.
    labels = ["neutral"] * 900 + ["sad"] * 100
    speakers = [f"s{i % 10}" for i in range(1000)]
    texts = [f"word{generator.integers(20)}" for _ in labels]
    probe = probe_text(texts, labels, speakers)
    assert probe.chance == 0.5
    assert abs(probe.uar - 0.5) < 0.1
    assert not probe.gives_away


# Verdicts


def test_verdicts_go_by_the_whole_interval():
    probe = Probe("level_dbfs", uar=0.4, low=0.31, high=0.5, chance=0.25, n=100, groups=10)
    assert probe.carries_label and not probe.carries_nothing
    wide = replace(probe, low=0.29)
    assert not wide.carries_label and not wide.carries_nothing
    assert replace(probe, uar=0.24, low=0.2, high=0.29).carries_nothing
    assert not replace(probe, low=np.nextafter(0.3, 1)).carries_label, "just the margin, which rounding puts beyond it"
    assert not replace(probe, low=0.2, high=np.nextafter(0.3, 0)).carries_nothing
    assert replace(probe, uar=np.nextafter(0.9, 0)).gives_away
    assert replace(probe, uar=0.9).gives_away and not replace(probe, uar=0.89).gives_away
    assert replace(probe, p_value=1e-4).depends_on_label
    assert not replace(probe, p_value=1e-2).depends_on_label


def test_few_rows_have_no_answer():
    labels, speakers = EMOTIONS * 10, ["a"] * 20 + ["b"] * 20
    probe = probe_text([SENTENCES[i % 3 % 2] for i in range(40)], labels, speakers)
    assert not probe.carries_label and not probe.carries_nothing


@pytest.mark.parametrize(("speakers", "clips"), [(2, 40), (20, 60)])
def test_noise_of_the_speaker_and_the_clip_carries_nothing_by_accident(speakers, clips):
    generator = np.random.default_rng(3)
    who = np.repeat(np.arange(speakers), clips)
    found = []
    for seed in range(12):
        column = 3 * generator.normal(size=speakers)[who] + generator.normal(size=len(who))
        found.append(one(column, generator.choice(EMOTIONS, len(who)), who.astype(str), seed))
    assert not any(probe.carries_label or probe.depends_on_label for probe in found)
    assert sum(probe.p_value < 0.2 for probe in found) <= 7  # 2.4 expected


def test_the_seed_alone_decides(acted, generator):
    labels, speakers, _ = acted
    column = generator.normal(size=len(labels))
    first, again, other = (asdict(one(column, labels, speakers, seed)) for seed in (4, 4, 5))
    assert again == pytest.approx(first)
    assert other != pytest.approx(first)


def test_a_script_matters_by_a_clear_fall_beyond_what_fewer_rows_cost():
    seen = Probe("seen", uar=0.8, low=0.79, high=0.81, chance=0.25, n=9000, groups=10)
    control, unseen = replace(seen, name="control"), replace(seen, name="unseen", uar=0.5, low=0.49, high=0.51)
    assert ScriptProbes(seen, control, unseen).through_script
    assert not ScriptProbes(seen, unseen, unseen).through_script
    assert not ScriptProbes(seen, control, replace(unseen, high=0.85)).through_script
    assert not ScriptProbes(seen, control, replace(unseen, uar=0.77, high=0.78)).through_script
    assert not ScriptProbes(seen, replace(control, low=0.28), replace(unseen, uar=0.2, high=0.26)).through_script


# Trivia


def test_a_rare_class_is_found_by_its_number(generator):
    # 40 of 1,000 clips are sad and longer than most: the tree has to weigh classes, not clips.
    labels = ["neutral"] * 960 + ["sad"] * 40
    speakers = [f"s{i % 10}" for i in range(1000)]
    duration = generator.normal(size=1000) + 2 * np.array([label == "sad" for label in labels])
    assert one(duration, labels, speakers).uar > 0.75


def test_loudness_that_follows_the_emotion_carries_the_label(acted, generator):
    labels, speakers, _ = acted
    level = [-40 + 6 * EMOTIONS.index(label) + 5 * generator.normal() for label in labels]
    probe = one(level, labels, speakers)
    assert probe.carries_label and probe.depends_on_label and not probe.gives_away


def test_a_middle_value_is_found_although_the_means_are_equal(acted, generator):
    labels, speakers, _ = acted
    duration = [3 if label == "sad" else 3 + generator.choice([-1, 1]) for label in labels]
    probe = one(np.array(duration) + 0.1 * generator.normal(size=len(labels)), labels, speakers)
    assert probe.uar > 0.45
    assert probe.carries_label


def test_leading_zeros_in_one_emotion_are_found_among_clips_without(acted, generator):
    labels, speakers, _ = acted
    zeros = [0.3 * (label == "sad" and generator.random() < 0.9) for label in labels]
    probe = one(zeros, labels, speakers)
    assert 0.4 < probe.uar < 0.5  # sad against the rest is known, and of the rest nothing
    assert probe.carries_label


def test_leading_zeros_that_only_know_the_speaker_do_not_depend_on_the_label(acted):
    labels, speakers, _ = acted
    probe = one([0.1 * int(who[1:]) for who in speakers], labels, speakers)
    assert probe.p_value == 1
    assert probe.carries_nothing


def test_a_slight_shift_within_speakers_depends_on_the_label_and_hardly_predicts_it(acted, generator):
    # Speakers differ by far more than emotions do, as the leading zeros of RAVDESS.
    labels, speakers, _ = acted
    shift = np.array([0.5 * (label == "sad") for label in labels])
    of_speaker = np.array([20 * int(who[1:]) for who in speakers])
    probe = one(of_speaker + shift + generator.normal(size=len(labels)), labels, speakers)
    assert probe.depends_on_label and not probe.carries_label


def test_the_p_value_is_that_of_scipy_for_one_group_of_two_classes(generator):
    from scipy.stats import kruskal

    column, labels = generator.normal(size=60), np.repeat(["happy", "sad", "angry"], 20)
    expected = kruskal(*(column[labels == label] for label in np.unique(labels))).pvalue
    ranks = column.argsort().argsort()[:, None]
    classes = np.unique(labels, return_inverse=True)[1]
    assert probes._dependence(ranks, classes, np.zeros(60, int)) == pytest.approx(expected)


@pytest.mark.parametrize("rows", [40, 400, 20_000])
def test_degrees_of_freedom_do_not_depend_on_rounding(rows):
    """Against the same statistic without the columns that follow from the others, whose matrix is regular."""
    from scipy.stats import chi2

    for seed in range(8):
        generator = np.random.default_rng(seed)
        n_classes, n_values, n_groups = generator.integers(2, 6), generator.integers(2, 5), generator.integers(1, 5)
        # Every class and value in every group, and the last ones in no more than that: as rare as they can be.
        rare = np.stack(np.meshgrid(range(n_classes), range(n_values), range(n_groups))).reshape(3, -1)
        common = generator.integers(0, [[n_classes - 1], [n_values - 1], [n_groups]], (3, rows))
        label, value, group = np.concatenate([rare, common], axis=1)
        one_hot = np.eye(n_values)[value]
        size = (n_classes - 1) * (n_values - 1)
        difference, covariance = np.zeros(size), np.zeros((size, size))
        for one_group in range(n_groups):
            of_label = np.eye(n_classes)[label[group == one_group], :-1]
            of_value = one_hot[group == one_group, :-1]
            of_label, of_value = of_label - of_label.mean(0), of_value - of_value.mean(0)
            difference += (of_label.T @ of_value).ravel()
            covariance += np.kron(of_label.T @ of_label, of_value.T @ of_value) / (len(of_label) - 1)
        expected = chi2.sf(difference @ np.linalg.solve(covariance, difference), size)
        assert probes._dependence(one_hot, label, group) == pytest.approx(expected, rel=1e-6)
        order = generator.permutation(len(label))
        again = probes._dependence(one_hot[order], label[order], group[order])
        assert again == pytest.approx(expected, rel=1e-6)


def test_a_format_of_one_class_is_found_and_constant_or_empty_columns_are_skipped(acted):
    labels, speakers, _ = acted
    n = len(labels)
    columns = {
        "source_format": ["48000 Hz" if label == "sad" else "16000 Hz" for label in labels],
        "source_bytes": [4096] * n,
        "level_dbfs": [None] * n,
        "duration_seconds": [np.nan] * n,
        "other": ["FLAC"] * n,
    }
    found = probe_trivia(columns, labels, speakers)
    assert list(found) == ["source_format"]
    assert found["source_format"].name == "source_format"
    assert found["source_format"].uar == pytest.approx(0.5)
    assert found["source_format"].carries_label and found["source_format"].depends_on_label


def test_digital_silence_is_a_level_and_an_unknown_level_is_none(acted):
    labels, speakers, _ = acted
    level = [-np.inf if label == "sad" else -30.0 - i % 5 for i, label in enumerate(labels)]
    probe = one([*level, None, np.nan], [*labels, "sad", "sad"], [*speakers, "s0", "s0"])
    assert probe.n == 960
    assert probe.uar > 0.45


def test_names_are_read_by_their_parts_and_places(acted):
    labels, speakers, _ = acted
    codes = {"angry": "05", "calm": "02", "happy": "03", "sad": "04"}
    names = [
        f"{i % 2 + 2:02d}-{codes[label]}-{i % 4 + 2:02d}-{who[1:]}"  # other parts hold the same digits
        for i, (label, who) in enumerate(zip(labels, speakers, strict=True))
    ]
    assert probe_trivia({"name": names}, labels, speakers)["name"].gives_away
    shuffled = np.random.default_rng(0).permutation(names)
    assert probe_trivia({"name": list(shuffled)}, labels, speakers)["name"].carries_nothing


def test_no_probe_without_two_speakers(acted):
    labels, _, _ = acted
    assert probe_trivia({"level_dbfs": range(len(labels))}, labels, ["s0"] * len(labels)) == {}


# Scripts


def play(generator, scripts=6, lines=12, telling=False) -> tuple[list, ...]:
    """Texts, labels, speakers, scripts: eight speakers read plays whose lines have their own emotion, and improvise."""
    words = [f"w{i}" for i in range(600)]
    rows = []
    for line in range(scripts * lines + 300):
        label = str(generator.choice(EMOTIONS))
        text = " ".join(generator.choice(words, 8)) + (f" {label}" if telling else "")
        if line < scripts * lines:
            rows += [(text, label, f"s{k}", f"script{line % scripts}") for k in range(8)]
        else:
            rows.append((text, label, f"s{line % 8}", None))
    return tuple(list(column) for column in zip(*rows, strict=True))


def test_text_that_is_known_from_the_shared_script_falls_to_chance_without_it(generator):
    found = text_through_script(*play(generator))
    assert found.seen.uar > 0.9
    assert found.control.uar > 0.8
    assert found.unseen.uar < 0.35
    assert found.through_script
    assert {(probe.n, probe.groups) for probe in (found.seen, found.control, found.unseen)} == {(6 * 12 * 8, 8)}


def test_text_that_gives_the_label_by_itself_does_not_need_the_script(generator):
    found = text_through_script(*play(generator, telling=True))
    assert found.unseen.uar > 0.9
    assert not found.through_script


def test_two_sentences_are_no_script_that_tells_the_label(acted):
    labels, speakers, texts = acted
    found = text_through_script(texts, labels, speakers, texts)
    assert found.seen.carries_nothing
    assert not found.through_script


@pytest.mark.parametrize("scripts", [[None] * 960, [""] * 960, ["one"] * 960])
def test_fewer_than_two_scripts_cannot_be_probed(acted, scripts):
    labels, speakers, texts = acted
    assert text_through_script(texts, labels, speakers, scripts) is None


def test_the_control_trains_on_as_many_rows_and_no_fold_shares_what_it_must_not(generator):
    speakers, blocks = np.repeat(np.arange(6), 30), np.tile(np.arange(-1, 2), 60)
    folds = probes._folds(np.tile(np.arange(2), 90), speakers, 0)
    ways = probes._script_folds(folds, blocks, generator)
    for (train, test), (fewer, same) in zip(ways["unseen"], ways["control"], strict=True):
        assert set(test) == set(same) and len(train) == len(fewer)
        assert not set(speakers[train]) & set(speakers[test]) and not set(speakers[fewer]) & set(speakers[test])
        assert not set(blocks[train]) & set(blocks[test])
        assert set(blocks[fewer]) & set(blocks[test])
    for way in ways.values():
        tested = np.concatenate([test for _, test in way])
        assert sorted(tested) == np.flatnonzero(blocks >= 0).tolist()


def speaker_labels(of_speakers: list[str]):
    """Labels and speakers of clips: one text of label initials for each speaker."""
    labels = [letter for spoken in of_speakers for letter in spoken]
    return labels, [f"s{n}" for n, spoken in enumerate(of_speakers) for _ in spoken]


def test_how_well_the_speaker_alone_tells_the_label():
    probe = probe_speaker(*speaker_labels(["aaaa", "bbbb", "aaab"]))
    # All of the first two; of the third the three a (the others are mostly a), and not the b.
    assert (probe.accuracy, probe.majority, probe.n, probe.speakers) == (11 / 12, 7 / 12, 12, 3)
    assert probe.gain == pytest.approx(0.8)
    # A clip is never predicted from itself, and speakers of one clip tell nothing.
    assert probe_speaker(*speaker_labels(["ab", "ab", "b"])).accuracy == 0
    assert probe_speaker(*speaker_labels(["abc" * 4] * 3)).accuracy == 0
    # Between a and b the guess is right half of the time.
    assert probe_speaker(*speaker_labels(["aab", "aab"])).accuracy == pytest.approx(1 / 3)


@pytest.mark.parametrize("spoken", [[], ["aaab"], ["a", "b", "c"], ["aaa", "aa"]])
def test_without_two_speakers_of_several_clips_and_two_labels_there_is_nothing_to_tell(spoken):
    assert probe_speaker(*speaker_labels(spoken)) is None
    labels, _ = speaker_labels(["aab", "abb"])
    assert probe_speaker(labels, [None, ""] * 3) is None


def test_labels_by_speaker_are_a_finding(dataset_of):
    def found(*spoken):
        names = {"a": "angry", "h": "happy", "s": "sad"}
        rows = [
            (f"show/{guest}-{take}", names[one], f"show/{guest}", None)
            for guest, labels in enumerate(spoken)
            for take, one in enumerate(labels)
        ]
        return speaker_findings(Rows.of(dataset_of(rows)))

    (guests,) = found("aaaaaa", "hhhhhh", "ssssss", "hhhhhh", "aaaaah")
    assert (guests.kind, guests.severity) == ("label_by_speaker", WARNING)
    assert "gives the label of 96.7 % of clips" in guests.detail
    assert "right for 43.3 %" in guests.detail
    assert "4 of 5 speakers have one label only" in guests.detail
    assert guests.evidence == ("show/0", "show/1", "show/2", "show/3")
    (leaning,) = found("aaaahs", "hhhhas", "ssssah", "aaaahs")
    assert leaning.severity == NOTE
    assert found(*["aahhss"] * 6) == []
