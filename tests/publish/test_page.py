"""The page holds all it shows, escapes users' texts, and plays only what may be shared."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from datasets import Dataset, Features
from example_fold import STRESS
from rows import make_report

import hf_ser.files
from hf_ser.data.schema import features
from hf_ser.publish import page
from hf_ser.publish.page import CAPTIONS, MOST_CLIPS, playable_clips, write_page
from hf_ser.runs.figures import LabelMap
from hf_ser.runs.findings import LEAK, Audit, Verdict, finding, verdict
from hf_ser.runs.stress import StressResult

EVIL = "<script>alert('x')</script>"
PICTURE = b"\x89PNG of any kind"


def make_rows(n: int = 12, corpora: tuple[str, ...] = ("ravdess",), evil: str = "", **changes) -> list[dict]:
    """Rows of two classes, of which every second is wrong and the later ones surer."""
    labels = ("sad", "happy" + evil)
    rows = []
    for index in range(n):
        corpus, right = corpora[index % len(corpora)], index // 2 % 2
        confidence = 0.6 + 0.3 * index / n
        predicted = (index + 1 - right) % 2
        row = {
            "id": f"{corpus}/{index:03d}{evil}",
            "corpus": corpus,
            "speaker": f"{corpus}/{index // 4}{evil}",
            "sex": ("female", "male")[index // 4 % 2],
            "protocol": "speaker_folds",
            "fold": str(index // 4 % 2 + 1),
            "split_fingerprint": f"print of {index // 4 % 2}",
            "leaks": [],
            "transcript_source": None,
            "votes": None,
            "temperature": None,
            "abstain_threshold": None,
            "reference": labels[index % 2],
            "probabilities": {labels[predicted]: confidence, labels[1 - predicted]: 1 - confidence},
        }
        row["probabilities"] = {label: row["probabilities"][label] for label in labels}
        rows.append(row | changes)
    return rows


def dataset_of_rows(rows: list[dict], silent: str = "") -> Dataset:
    """Their data set; the audio of a row is its own id."""
    typed = features(("sad", "happy"))
    wanted = Features({name: typed[name] for name in ("id", "corpus", "audio")})
    columns = {"id": [row["id"] for row in rows], "corpus": [row["corpus"] for row in rows]}
    cells = [None if row["id"] == silent else {"bytes": row["id"].encode(), "path": None} for row in rows]
    return Dataset.from_dict(columns | {"audio": cells}).cast(wanted)


class Parts(HTMLParser):
    """Every tag of a page with its attributes, and its text."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)

    def of(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_page_is_one_file_that_loads_nothing(tmp_path):
    rows = make_rows()
    report = make_report(rows, Verdict(verdict="warnings", leak=[], warning=["level_by_class"]))
    for name in CAPTIONS:
        (tmp_path / name).write_bytes(PICTURE)
    (tmp_path / "fold_1").mkdir()
    (tmp_path / "fold_1" / "embedding_map.png").write_bytes(PICTURE)
    clips, note = playable_clips(report, dataset_of_rows(rows))
    file = write_page(report, tmp_path, clips=clips, clips_note=note)
    assert file == tmp_path / "report.html"
    text = file.read_text()
    parts = Parts(text)
    images = parts.of("img")
    assert len(images) == len(CAPTIONS) + 1
    assert {one["src"] for one in images} == {"data:image/png;base64," + base64.b64encode(PICTURE).decode()}
    assert all(len(one["alt"]) > 40 for one in images)
    loaded = [one[key] for _, one in parts.tags for key in ("src", "href", "action", "data") if key in one]
    assert all(link.startswith(("data:", "#")) for link in loaded)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in parts.tags}
    assert "@import" not in text and "url(" not in text
    style = re.search(r"<style>(.*?)</style>", text, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (policy,) = [one["content"] for one in parts.of("meta") if one.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none';")
    assert f"style-src 'sha256-{digest}'" in policy
    assert all("scope" in one for one in parts.of("th"))
    texts = " ".join(parts.texts)
    for expected in (
        "no leak found",
        "Warnings: level by class.",
        "sad taken for happy",
        "Map of the embeddings, fold_1",
    ):
        assert expected in texts


def test_the_first_screen_says_what_the_audit_found(tmp_path):
    found = [finding("speaker_overlap", LEAK, f"{n} speakers are in both", "split anew", fold=n) for n in "12"]
    report = make_report(make_rows(), verdict(found))
    text = write_page(report, tmp_path, audit=Audit(**vars(verdict(found)), findings=found)).read_text()
    assert "leak found: 1 speakers are in both</span>." in text and "leak found: speaker_overlap" not in text


def test_notices_stand_before_all_else(tmp_path):
    report = make_report(make_rows(leaks=["random"]))
    text = write_page(report, tmp_path).read_text()
    assert 0 < text.index("LEAKED RUN: random") < text.index("<h1>")
    assert "Audit: not run" in text
    assert not Parts(text).of("img") and not Parts(text).of("audio")


def test_texts_of_users_files_are_no_markup(tmp_path):
    rows = make_rows(evil=EVIL + '" onload="x')
    report = make_report(rows, label_map=LabelMap(name=EVIL, dropped={EVIL: 3}))
    report = replace(report, notices=[EVIL])
    (tmp_path / "groups.png").write_bytes(PICTURE)
    text = write_page(report, tmp_path, clips={rows[0]["id"]: b"x"}, clips_note=EVIL).read_text()
    parts = Parts(text)
    assert not parts.of("script") and "<script" not in text
    assert not [one for _, one in parts.tags if "onload" in one]
    assert EVIL in " ".join(parts.texts)


def test_audio_of_the_worst_confusions_are_in_the_page(tmp_path):
    rows = make_rows(12)
    report = make_report(rows)
    clips, note = playable_clips(report, dataset_of_rows(rows, silent="ravdess/009"))
    wrong = {row["id"] for row in rows if max(row["probabilities"], key=row["probabilities"].get) != row["reference"]}
    assert clips == {name: name.encode() for name in wrong - {"ravdess/009"}}
    assert "Livingstone & Russo 2018" in note and "CC BY-NC-SA 4.0" in note
    audio = Parts(write_page(report, tmp_path, clips=clips, clips_note=note).read_text()).of("audio")
    expected = {"data:audio/flac;base64," + base64.b64encode(clip).decode() for clip in clips.values()}
    assert {one["src"] for one in audio} == expected
    assert all("controls" in one and one["preload"] == "none" for one in audio)


def test_the_worst_of_each_confusion_come_first_and_no_more_than_fit(monkeypatch):
    rows = make_rows(24)
    report, dataset = make_report(rows), dataset_of_rows(rows)
    monkeypatch.setattr(page, "MOST_CLIPS", 3)
    worst = [[one.id for one in pair.worst] for pair in report.confusions]
    assert list(playable_clips(report, dataset)[0]) == [worst[0][0], worst[1][0], worst[0][1]]
    assert MOST_CLIPS == 20


@pytest.mark.parametrize(
    ("corpora", "allowed", "embedded", "message"),
    [
        (("ravdess",), False, set(), "embedding was turned off"),
        (("iemocap",), None, set(), "No clips of iemocap: its licence forbids sharing."),
        (("table",), None, set(), "No clips of table: only you know whether they may be shared; .* --embed_audio"),
        (("unknown_corpus",), None, set(), "No clips of unknown_corpus: only you know"),
        (("table",), True, {"table"}, "Clips of table"),
        (
            ("ravdess", "iemocap", "table"),
            None,
            {"ravdess"},
            "Clips of ravdess.*No clips of iemocap.*No clips of table",
        ),
    ],
)
def test_only_what_may_be_shared_is_embedded(corpora, allowed, embedded, message):
    rows = make_rows(24, corpora)
    clips, note = playable_clips(make_report(rows), dataset_of_rows(rows), allowed)
    assert {name.split("/")[0] for name in clips} == embedded
    assert re.search(message, note)


def test_what_a_licence_forbids_is_refused_even_with_embed_audio():
    rows = make_rows(24, ("ravdess", "iemocap"))
    with pytest.raises(ValueError, match="--embed_audio: found clips of iemocap, whose licence forbids"):
        playable_clips(make_report(rows), dataset_of_rows(rows), allowed=True)


def test_no_other_audio_is_read(monkeypatch):
    rows = make_rows(24, ("ravdess", "iemocap"))
    dataset, read = dataset_of_rows(rows), []
    formatted = Dataset.__iter__
    monkeypatch.setattr(Dataset, "__iter__", lambda self: read.append(self["id"][:]) or formatted(self))
    clips, _ = playable_clips(make_report(rows), dataset)
    assert clips and read == [list(clips)]


def test_everything_right_and_a_stress_table(tmp_path):
    rows = [
        row | {"probabilities": {label: float(label == row["reference"]) for label in row["probabilities"]}}
        for row in make_rows()
    ]
    condition = {"name": "noise", "group": "noise", "level": "20 dB", "severity": "mild", "what": "Noise at 20 dB."}
    judged = {"n": 12, "uar": 0.5, "delta_uar": -0.25, "delta_ci95": [-0.3, -0.2], "limit": 0.05, "verdict": "failed"}
    unjudged = {"delta_ci95": None, "limit": None, "verdict": "not judged", "what": "Noise at 0 dB."}
    changes = {
        "n_speakers": 3,
        "notices": ["GENERATED WORDS"],
        "clean": {"uar": 0.75, "uar_ci95": None, "wa": 0.7},
        "failed": ["noise"],
        "conditions": [condition | judged, condition | judged | unjudged],
        "interval_note": "Of three speakers only.",
    }
    stress = StressResult.from_json(STRESS | changes, "stress")
    parts = Parts(write_page(make_report(rows), tmp_path, stress).read_text())
    texts = " ".join(" ".join(parts.texts).split())
    for expected in (
        "None: every utterance was classified correctly.",
        "-25.0",
        "-30.0 to -20.0",
        "not judged",
        "GENERATED WORDS",
        "Intervals of the changes: Of three speakers only.",
        "Interval, female: Expanded percentile bootstrap over 2 speakers",
        "Interval, male: No interval: one speaker only",
    ):
        assert expected in texts


def test_the_caption_of_the_roc_says_that_folds_are_pooled_after_their_own_calibration():
    assert "Folds are calibrated one by one and then pooled." in CAPTIONS["roc.png"][1]


def test_a_missing_template_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(hf_ser.files, "files", lambda package: tmp_path)
    with pytest.raises(FileNotFoundError, match=r"cards/report\.html: found no such file"):
        write_page(make_report(make_rows()), tmp_path)


def test_the_first_screen_names_the_model_and_shows_clean_beside_telephone(tmp_path):
    facts = {"model": "audio-only", "recipe": "whisper_ridge", "encoder": "whisper-base", "learner": "ridge head"}
    stress = StressResult.from_json(STRESS, "stress.json")
    line = replace(stress.conditions[0], name="telephone", uar=0.4, delta_uar=-0.1, delta_ci95=[-0.2, -0.05])
    report = make_report(make_rows())
    (tmp_path / "confusion_matrix.png").write_bytes(PICTURE)
    text = write_page(report, tmp_path, replace(stress, conditions=[line]), system="whisper-base, ridge", facts=facts)
    first = text.read_text().partition('id="figures"')[0]
    head = re.search("<title>(.*?)</title>", first)[1]
    assert head.startswith("whisper-base, ridge: UAR") and "ravdess, speaker_folds, 2 folds" in head
    for expected in (
        *facts.values(),
        "40.0 %",
        "-10.0 points",
        f"UAR {100 * report.uar:.1f} %",
        "Stress test: ",
        "<img",
    ):
        assert expected in first
    assert first.index("40.0 %") < first.index("<img")


def test_wide_tables_show_that_they_scroll_and_print_is_on_white():
    style = page.page_style()
    assert "overflow-x: auto; background:" in style and "local" in style
    assert "--back: #fff" in style.partition("@media print")[2]
