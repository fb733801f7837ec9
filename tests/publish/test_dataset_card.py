"""The report on a data set: every kind of rows is drawn and described; what pictures look like was judged by eye."""

import re

import numpy as np
import pytest
from datasets import Dataset, Features, Value
from huggingface_hub import DatasetCard
from matplotlib.image import imread

import hf_ser.files
from hf_ser.data.audio import encode_flac, on_grid
from hf_ser.data.integrity import integrity_report
from hf_ser.data.protocols import PROTOCOLS
from hf_ser.data.schema import ASR_COLUMNS, features
from hf_ser.publish import dataset_card
from hf_ser.publish.dataset_card import (
    COLUMNS,
    escaped,
    hub_licence,
    light_table,
    make_card,
    size_category,
    write_dataset_report,
)
from hf_ser.publish.dataset_plots import (
    MAX_EXAMPLES,
    MAX_SPEAKERS,
    choose_examples,
    draw_class_counts,
    draw_durations,
    draw_examples,
    draw_speaker_by_class,
    shortened,
)

LABELS = ("angry", "happy", "sad")
AUDIO = {"bytes": encode_flac(on_grid(np.sin(np.arange(4800) / 20) / 2)), "path": "clip.wav"}
PICTURES = ["class_counts.png", "speaker_by_class.png", "durations.png", "examples.png"]


def row(number: int, seconds: float | None = 1.0, corpus: str = "ravdess", **more) -> dict:
    """A row of the data; without seconds it has no audio."""
    measured = {"level_dbfs": -20.0 - number % 3, "leading_zeros_seconds": 0.0, "source_format": "16000 Hz"}
    return {
        "id": f"{corpus}/{number:03d}",
        "label": number % 3,
        "corpus": corpus,
        "speaker": f"{corpus}/{number % 4}",
        "sex": ("female", "male")[number % 2],
        "audio": AUDIO if seconds else None,
        "duration_seconds": seconds,
        **(measured if seconds else {}),
        **more,
    }


def dataset(rows: list[dict], labels: tuple[str, ...] = LABELS) -> Dataset:
    typed = features(labels)
    stored = {"bytes": Value("binary"), "path": Value("string")}
    plain = Features({**typed, "label": Value("int64"), "audio": stored})
    return Dataset.from_dict({name: [one.get(name) for one in rows] for name in plain}, features=plain).cast(typed)


def integrity(data: Dataset, **more) -> dict:
    columns = {name: data[name][:] for name in ("label", "speaker", "sex", "duration_seconds", "source_format")}
    columns["label"] = [data.features["label"].names[i] for i in columns["label"]]
    return integrity_report("a corpus", len(data) + 2, columns, []) | more


def card_of(rows: list[dict], labels: tuple[str, ...] = LABELS, **more) -> DatasetCard:
    data = dataset(rows, labels)
    return make_card(light_table(data), integrity(data, **more), "folder")


def joined(card: DatasetCard) -> str:
    """The text with its lines joined, so that a phrase is found wherever it breaks."""
    return " ".join(card.text.split())


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_the_report_is_four_pictures_and_a_card_that_shows_them(tmp_path):
    data = dataset([row(number) for number in range(24)])
    files = write_dataset_report(data, integrity(data), tmp_path / "new")
    assert [file.relative_to(tmp_path / "new").as_posix() for file in files] == [*PICTURES, "README.md"]
    assert sorted(files) == sorted((tmp_path / "new").iterdir())  # nothing temporary is left
    assert all(imread(file).ndim == 3 for file in files[:-1])
    card = DatasetCard.load(files[-1])
    assert all(f"]({name})" in card.text for name in PICTURES)
    assert 'load_prepared("new")' in card.text
    assert not [line for line in card.text.splitlines() if "{" in line or "}" in line]


def test_the_front_matter_is_what_the_hub_reads():
    data = card_of([row(number) for number in range(24)]).data
    assert (data.license, data.language, data.size_categories) == ("cc-by-nc-sa-4.0", ["en"], "n<1K")
    assert data.task_categories == ["audio-classification"]
    assert "ravdess" in data.tags
    joined = card_of([row(1, corpus="ravdess"), row(2, corpus="emodb"), row(3, corpus="table")]).data
    assert (joined.license, joined.language) == (["cc-by-nc-sa-4.0", "other"], ["de", "en"])
    assert card_of([row(1, corpus="table")]).data.language is None


@pytest.mark.parametrize(("rows", "name"), [(999, "n<1K"), (1000, "1K<n<10K"), (99_999, "10K<n<100K")])
def test_size_categories_are_the_hubs(rows, name):
    assert size_category(rows) == name


def test_a_licence_is_named_only_where_it_is_exactly_that_licence():
    assert hub_licence("CC BY 4.0") == "cc-by-4.0"
    assert hub_licence("CC BY-NC 4.0; some copies say otherwise") == "other"


def test_every_column_of_a_row_is_explained():
    assert list(COLUMNS) == [*features(LABELS), *ASR_COLUMNS]
    text = card_of([row(0, sex=None), row(1), row(2, seconds=None)]).text
    assert "| `sex` | `female` or `male` | 2 |" in text
    assert "| `votes` | raters' votes as a distribution over the classes | 0 |" in text
    assert [line.split("|")[3].strip() for line in text.splitlines() if line.startswith("| `audio`")] == ["2"]


def test_classes_are_counted_and_measured():
    lines = card_of([row(0, seconds=1.0), row(3, seconds=3.0, leading_zeros_seconds=0.5), row(1, seconds=None)]).text
    assert "| angry | 2 | 66.7 % | 2 | 2.00 | -20.0 | 50.0 % |" in lines
    assert "| happy | 1 | 33.3 % | 1 | | | |" in lines
    assert "| sad | 0 | 0.0 % | 0 | | | |" in lines


def test_votes_and_transcripts_are_only_claimed_where_there_are_some():
    bare = joined(card_of([row(0), row(1)]))
    assert "This data has no rater votes." in bare
    assert "**Transcripts.** There are none." in bare
    given = [row(0, votes=[0.5, 0.5, 0.0], transcript="a", transcript_source="reference"), row(1)]
    given.append(row(2, transcript="b", transcript_source="whisper@abc"))
    full = joined(card_of(given))
    assert "1 of 3 rows have raters' votes" in full
    assert "2 of 3 rows have a transcript, by source: `reference` 1, `whisper@abc` 1." in full


def test_skipped_utterances_are_counted():
    card = card_of(
        [row(0), row(1)],
        skipped={"unreadable": 2},
        noted={"stereo": 5},
        label_map="four_class",
        dropped_by_label_map={"calm": 3, "bored": 4},
    )
    assert "| unreadable | 2 |" in card.text
    assert "| stereo | 5 |" in card.text
    assert "4 utterances were listed, 2 are in this data set. Skipped" in joined(card)
    assert "`four_class` dropped 7 rows, whose labels have no class in it: calm 3, bored 4." in joined(card)
    assert "None was skipped." in joined(card_of([row(0)]))


def test_generated_audio_is_named_at_the_top_and_on_every_picture(tmp_path, monkeypatch):
    noticed = []
    monkeypatch.setattr(dataset_card, "write_pictures", lambda *arguments: noticed.append(arguments[-1]) or [])
    data = dataset([row(number, corpus="synthetic") for number in range(6)])
    write_dataset_report(data, integrity(data), tmp_path)
    assert "> **Generated audio, not speech" in DatasetCard.load(tmp_path / "README.md").text[:200]
    data = dataset([row(1, corpus="synthetic"), row(2)])
    write_dataset_report(data, integrity(data), tmp_path)
    assert noticed[0].startswith("Generated audio")
    assert noticed[1].startswith("1 of 2 rows are generated audio")
    assert "enerated audio" not in card_of([row(0)]).text


def test_text_that_is_not_what_is_spoken_is_named_at_the_top():
    card = card_of([row(number, corpus="paired") for number in range(6)])
    assert "**Paired text: 6 of 6 clips" in joined(card)[:400]
    assert "Paired text" not in card_of([row(0)]).text


def test_protocols_are_those_that_the_rows_allow():
    def offered(rows: list[dict]) -> set[str]:
        named = dataset_card.suitable_protocols(light_table(dataset(rows)))
        assert set(named) <= set(PROTOCOLS)
        return set(named)

    always = {"speaker_folds", "leave_one_speaker_out"}
    assert offered([row(number) for number in range(12)]) == always
    assert offered([row(number, speaker=None) for number in range(12)]) == set()
    assert offered([row(number, speaker=f"s{number % 2}") for number in range(12)]) == set()
    assert offered([row(number, speaker=f"s{number}") for number in range(31)]) == {"speaker_folds"}
    actors = [row(number, speaker=f"ravdess/{number % 24:02d}", sentence=str(number % 2)) for number in range(48)]
    assert offered(actors) == {*always, "emobox", "luna_jimenez", "sentence_disjoint"}
    plays = {"dialogue": "d", "scene": "c", "script": "s"}
    sessions = [row(number, session=f"Ses0{number % 4}", **plays) for number in range(12)]
    assert offered(sessions) == {*always, "leave_one_session_out", "script_disjoint", "scene_disjoint"}
    both = [row(number, corpus=("tess", "savee")[number % 2]) for number in range(12)]
    assert offered(both) == {*always, "leave_one_corpus_out"}


def test_a_published_split_that_shares_speakers_is_marked():
    shared = [row(number, split=("train", "test")[number % 3 == 0]) for number in range(12)]
    assert "shares 4 speakers between train and test: needs `--allow_leak`" in joined(card_of(shared))
    clean = [row(number, split=("train", "test")[number % 4 == 0]) for number in range(12)]
    assert "`fixed`: the split that the corpus was published with A random" in joined(card_of(clean))


def test_unknown_speakers_leave_no_split_to_recommend():
    text = joined(card_of([row(number, speaker=None if number < 5 else "a") for number in range(9)]))
    assert "5 rows have no speaker. So no split can be shown to be speaker-independent" in text


def test_fixed_sentences_are_described_by_their_classes():
    rows = [row(number, sentence=str(number // 3 % 2)) for number in range(18)]
    assert "each occurs in every class, so that the text predicts almost nothing" in joined(card_of(rows))
    rows = [row(number, sentence=str(number % 3)) for number in range(18)]
    assert "3 of them do not occur in every class" in joined(card_of(rows))
    rows = [row(number, sentence="1", corpus=("tess", "savee")[number // 3 % 2]) for number in range(18)]
    assert "2 fixed sentences are shared by many clips; each occurs in every class" in joined(card_of(rows))


def test_rows_without_audio_leave_out_its_pictures(tmp_path):
    data = dataset([row(number, seconds=None) for number in range(6)])
    files = write_dataset_report(data, integrity(data), tmp_path)
    assert [file.name for file in files] == ["class_counts.png", "speaker_by_class.png", "README.md"]
    text = files[-1].read_text()
    assert "**No row has audio:**" in text
    assert "durations.png" not in text
    assert "decode_audio(" not in text


def test_some_rows_without_audio(tmp_path):
    data = dataset([row(0), row(1, seconds=None), row(2, seconds=None)])
    assert len(write_dataset_report(data, integrity(data), tmp_path)) == 5
    assert "**2 rows have no audio**" in (tmp_path / "README.md").read_text()
    (axes,) = draw_durations(light_table(data)).axes
    assert axes.get_title() == "1 clips, 0.00 hours; 2 rows without audio are not shown"


def test_names_that_would_break_a_table_or_a_formula(tmp_path):
    labels = ("a|b", "$c_{$ and a very long name", "sad")
    data = dataset([row(number, speaker=f"x$y_{{$/{number % 3}") for number in range(6)], labels)
    write_dataset_report(data, integrity(data), tmp_path)
    assert r"| a\|b | 2 |" in (tmp_path / "README.md").read_text()


def test_without_the_template_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(hf_ser.files, "files", lambda package: tmp_path / package)
    data = dataset([row(0)])
    with pytest.raises(FileNotFoundError, match=r"cards/dataset_card\.md: found no such file in the installed package"):
        write_dataset_report(data, integrity(data), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_no_rows_are_refused(tmp_path):
    data = dataset([row(0)])
    with pytest.raises(ValueError, match="no rows"):
        write_dataset_report(data.select([]), {}, tmp_path)


def test_class_counts_have_a_panel_for_each_corpus_and_a_bar_for_each_sex():
    rows = [row(0), row(3), row(6), row(1, sex=None), *(row(number, corpus=f"c{number}") for number in range(4))]
    figure = draw_class_counts(light_table(dataset(rows)))
    panels = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title() for axes in panels] == [*(f"c{number}: 1 rows" for number in range(4)), "ravdess: 4 rows"]
    widths = [[bar.get_width() for bar in bars] for bars in panels[-1].containers]
    assert widths == [[2, 0, 0], [1, 0, 0], [0, 1, 0]]  # female, male, unknown by class
    assert texts(panels[-1]) == ["2", "", "", "1", "", "", "", "1", "", " none"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["female", "male", "speaker's sex unknown"]


def test_of_many_speakers_the_largest_are_shown_and_the_others_summed():
    many = MAX_SPEAKERS + 5
    rows = [row(number, speaker=f"s{number:03d}") for number in range(many)]
    rows += [row(number, speaker=f"s{many - 1:03d}") for number in range(9)] + [row(0, speaker=None)]
    (axes,) = draw_speaker_by_class(light_table(dataset(rows))).axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names[:2] == [f"s{many - 1:03d}", "s000"]
    assert names[MAX_SPEAKERS:] == ["5 other speakers together", "speaker unknown"]
    cells = np.reshape([int(text) for text in texts(axes)], (MAX_SPEAKERS + 2, 4))
    assert cells[0].sum() == 2 * 10
    assert cells[-2].tolist()[-1] == 5
    assert cells[:, -1].sum() == len(rows)


def test_a_speaker_table_where_no_speaker_is_known():
    (axes,) = draw_speaker_by_class(light_table(dataset([row(0, speaker=None), row(1, speaker=None)]))).axes
    assert texts(axes) == ["1", "1", "0", "2"]


def test_the_example_of_a_class_is_its_clip_of_median_length():
    rows = [row(0, seconds=9.0), row(3, seconds=1.0), row(6, seconds=2.0), row(9, seconds=None), row(1, seconds=None)]
    rows += [row(5, seconds=1.0), row(2, seconds=1.0)]
    data = dataset(rows)
    assert choose_examples(light_table(data)) == [2, 6]
    waves = draw_examples(data, [2, 6]).axes[::2]
    assert [axes.get_title() for axes in waves] == ["angry", "sad"]
    assert texts(waves[0]) == ["ravdess/006, -20.0 dBFS"]


def test_examples_stop_at_the_largest_classes():
    names = tuple(f"class_{number:02d}" for number in range(MAX_EXAMPLES + 3))
    rows = [row(number, label=number % len(names)) for number in range(2 * len(names))]
    rows = [one for one in rows if one["label"] not in (1, 3, 5) or one["id"] < "ravdess/010"]
    data = dataset(rows, names)
    shown = [data[place]["label"] for place in choose_examples(light_table(data))]
    assert shown == [label for label in range(len(names)) if label not in (1, 3, 5)]


def test_long_clips_among_short_ones_are_drawn_on_a_logarithmic_axis():
    def scale(*seconds: float) -> str:
        (axes,) = draw_durations(light_table(dataset([row(i, seconds=one) for i, one in enumerate(seconds)]))).axes
        return axes.get_xscale()

    assert scale(1.0, 1.0, 3.0) == "linear"
    assert scale(1.0, 1.0, 300.0) == "log"


def test_long_names_keep_their_beginning_and_their_end():
    assert shortened("corpus/a_very_long_name_000123", 16) == "corpus/…e_000123"
    assert len(shortened("x" * 50, 31)) == 31
    assert shortened("short", 16) == "short"


EVIL = (
    "\x1b]0;PWNED\x07\x1b[31mred",
    "<script>document.title='PWN'</script>",
    "a|b\n\n---\nlicense: mit\n---\n# <img src=x onerror=alert(1)> [x](javascript:y) `c` **d** ![e](f)",
)


def test_no_text_of_a_user_is_more_than_text_in_the_card():
    rows = [row(number, transcript="x", transcript_source="w`|\n# h\x1b@1") for number in range(12)]
    more = {"label_map": "m`\n# x.yaml", "dropped_by_label_map": {EVIL[2]: 3}}
    card = make_card(light_table(dataset(rows, EVIL)), integrity(dataset(rows, EVIL), **more), 'f"o`\nlder')
    assert not [mark for mark in ("\x1b", "\x07", "<script", "<img", "license: mit\n") if mark in card.text]
    table = card.text.split("## Classes")[1].split("\n\n")[1].splitlines()
    assert len(table) == 2 + len(EVIL)
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
    assert r"\[x\](javascript:y) \`c\` \*\*d\*\* \!\[e\](f)" in card.text
    assert "\n# h" not in card.text and "\n# x" not in card.text


def test_plain_labels_stay_as_they_are():
    assert [escaped(label) for label in ("sad", "aroused_negative", "生气", "no: really", "sad/depressed")] == [
        *("sad", "aroused_negative", "生气", "no: really", "sad/depressed")
    ]
    assert [escaped(label) for label in ("- x", "1. x", "_x_", "a|b")] == [r"\- x", r"\1. x", r"\_x\_", r"a\|b"]
