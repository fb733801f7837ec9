"""The report as one page for people: every figure, picture and, where it may be handed on, sound, in a single file."""

import base64
import hashlib
from functools import cache
from itertools import zip_longest
from pathlib import Path

from datasets import Dataset
from jinja2 import Template

from hf_ser.data.corpora import CORPORA
from hf_ser.files import atomic_write, package_file
from hf_ser.markup import page_environment
from hf_ser.publish.curves import ece_text
from hf_ser.runs.report_text import headline_uar

PAGE = "report.html"
"""Of the run, and of the template that it is made from."""

MOST_CLIPS = 20
"""Clips in a page: 20 of RAVDESS are 0.7 MB, and a page should still go by mail."""

CAPTIONS = {
    "confusion_matrix.png": (
        "Confusion matrix",
        "A row is a reference class, a column what was predicted; a cell counts utterances and gives their share of "
        "the row. The diagonal is the recall of each class, and UAR is its mean.",
    ),
    "reliability.png": (
        "Reliability",
        "How often the model is right among utterances of like confidence. Bars under the dashed line: more confident "
        "than right. Below, how many utterances each bar stands on; a bar on few of them says little.",
    ),
    "risk_coverage.png": (
        "Risk and coverage",
        "Were only the most confident share of the utterances answered (to the right: more of them), this share of the "
        "answers would be wrong. The point is what the thresholds fitted on validation speakers come to.",
    ),
    "roc.png": (
        "ROC of each class",
        "Each class against all others, over every threshold of its probability. The nearer a line runs to the upper "
        "left corner, the better the class is told from the rest; the dotted line is chance. Folds are pooled, each "
        "calibrated by itself before.",
    ),
    "groups.png": (
        "Sexes and speakers",
        "UAR of each sex, with its interval where there is one, and of each speaker, from the worst to the best. A "
        "hollow point is the WA of somebody who lacks a class.",
    ),
    "learning_curves.png": (
        "Learning curves",
        "Loss and validation UAR by epoch, a line a fold; a star marks the checkpoint that was kept. Validation loss "
        "that rises while the training loss falls is overfitting.",
    ),
    "embedding_map.png": (
        "Map of the embeddings",
        "What the last layer is given for each utterance, in two dimensions (t-SNE), coloured by emotion and by "
        "speaker. The higher silhouette tells what the model groups; distances between far groups mean nothing.",
    ),
    "stress.png": (
        "Stress",
        "Change of UAR under each condition against the clean clips, with its interval and the limit it is held to.",
    ),
}
"""Title and caption of each picture, in the order of the page."""

OF_FOLDS = ("embedding_map.png", "stress.png")
"""Pictures of one model: they lie in the folder of its fold."""


def write_page(
    report: dict,
    folder: str | Path,
    stress: dict | None = None,
    clips: dict[str, bytes] | None = None,
    clips_note: str = "",
) -> Path:
    """Write `report.html`: one file without a single outside link, with the pictures that lie in the folder.

    Args:
        report: As `make_report` gives it.
        folder: Of the run; its pictures, and those of its folds, are found by the names of `CAPTIONS`.
        stress: As stress.json has it; None where it was not run.
        clips: FLAC bytes by utterance id, and what to know about them, as `playable` gives both.
        clips_note: Likewise.

    Returns:
        The file that was written.

    Raises:
        FileNotFoundError: the template is not there.
    """
    folder = Path(folder)
    text = _template(package_file(f"cards/{PAGE}").read_text(encoding="utf-8")).render(
        report=report,
        headline=headline_uar(report),
        ece=ece_text(report["calibration"]),
        pictures=_pictures(report, folder),
        stress=stress,
        clips={name: _data_uri(sound, "audio/flac") for name, sound in (clips or {}).items()},
        clips_note=clips_note,
    )
    with atomic_write(folder / PAGE) as file:
        file.write(text)
    return folder / PAGE


def playable(report: dict, dataset: Dataset, allowed: bool | None = None) -> tuple[dict[str, bytes], str]:
    """The sound of the worst confusions, as far as everybody may hand it on; no other sound is read.

    Args:
        report: As `make_report` gives it.
        dataset: What was evaluated, as `hf_ser.data.prepare.load_prepared` opens it.
        allowed: True where the user says that the clips of a corpus of theirs may be handed on; False for none at all.

    Returns:
        FLAC bytes by id, `MOST_CLIPS` at most, and a note for the page: what they are, or why there are none.

    Raises:
        ValueError: clips were asked for whose licence forbids to hand them on.
    """
    if allowed is False:
        return {}, "No clips: none were to be embedded."
    asked = _worst_ids(report)
    position = {name: index for index, name in enumerate(dataset["id"][:])}
    rows = dataset.select([position[name] for name in asked if name in position])
    corpora = rows["corpus"][:]
    refused = _refused(sorted(set(corpora)), allowed)
    rows = rows.select([index for index, corpus in enumerate(corpora) if corpus not in refused])
    rows = rows.select(range(min(len(rows), MOST_CLIPS)))
    clips = {row["id"]: row["audio"]["bytes"] for row in rows.select_columns(["id", "audio"]) if row["audio"]}
    return clips, _clips_note(sorted(set(rows["corpus"][:])) if clips else [], refused)


def _worst_ids(report: dict) -> list[str]:
    """The worst of each confusion, then the second of each, and so on."""
    columns = zip_longest(*([one["id"] for one in pair["worst"]] for pair in report["confusions"]))
    return [name for column in columns for name in column if name is not None]


def _refused(corpora: list[str], allowed: bool | None) -> dict[str, str]:
    """Corpora whose clips stay out, and why."""
    may = {name: CORPORA[name].MAY_BE_SHARED if name in CORPORA else None for name in corpora}
    forbidden = [name for name, shared in may.items() if shared is False]
    if allowed and forbidden:
        raise ValueError(
            f"--embed_audio: found clips of {', '.join(forbidden)}, whose licence forbids to hand them on ("
            f"{'; '.join(CORPORA[name].LICENCE for name in forbidden)}); expected only corpora that may be shared, or "
            "a table of your own. Leave the option out: the page is then written without these clips."
        )
    reasons = {False: "its licence forbids to hand clips on"}
    if not allowed:
        reasons[None] = "only you know whether they may be handed on; if so, make the page again with --embed_audio"
    return {name: reasons[shared] for name, shared in may.items() if shared in reasons}


def _clips_note(embedded: list[str], refused: dict[str, str]) -> str:
    known = {name: f": {CORPORA[name].SOURCE}; {CORPORA[name].LICENCE}" for name in embedded if name in CORPORA}
    told = [f"Clips of {name}{known.get(name, '')}." for name in embedded]
    told += [f"No clips of {name}: {reason}." for name, reason in refused.items()]
    return " ".join(told) or "No clips: the data set has no sound of these utterances."


def _pictures(report: dict, folder: Path) -> list[dict]:
    """Title, caption, text in place of the picture, and the picture itself, of each that lies there."""
    told, found = _told(report), []
    for name, (title, caption) in CAPTIONS.items():
        files = {title: folder / name}
        if name in OF_FOLDS:
            files |= {f"{title}, {file.parent.name}": file for file in sorted(folder.glob(f"*/{name}"))}
        for heading, file in files.items():
            if file.is_file():
                uri = _data_uri(file.read_bytes(), "image/png")
                alt = f"{heading}: {told.get(name, caption)}"
                found.append({"title": heading, "caption": caption, "alt": alt, "uri": uri})
    return found


def _told(report: dict) -> dict[str, str]:
    """What the pictures of a report show, in figures, for whoever cannot see them."""
    calibration, groups = report["calibration"], report["per_sex"] | report["per_speaker"]
    recall = [f"{label} {_percent(row['recall'])} %" for label, row in report["per_class"].items()]
    bins = [
        f"confidence {one['low']:.2f} to {one['high']:.2f}: {one['n']} utterances, {_percent(one['accuracy'])} % right"
        for one in calibration["bins"]
        if one["n"]
    ]
    points = [f"{name} UAR {_percent(one['uar'])}, WA {_percent(one['wa'])}" for name, one in groups.items()]
    areas = [f"{label} {one['auc']:.3f}" for label, one in report["roc"].items()]
    aurc, wrong = report["risk_coverage"]["aurc"], _percent(1 - report["wa"])
    return {
        "confusion_matrix.png": f"recall of {', '.join(recall)}.",
        "reliability.png": f"{ece_text(calibration)}; {'; '.join(bins)}.",
        "risk_coverage.png": f"area under the curve {aurc:.3f}; {wrong} % wrong if all are answered.",
        "roc.png": f"AUC of {', '.join(areas)}.",
        "groups.png": f"{'; '.join(points)}.",
    }


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{100 * share:.1f}"


def _points(difference: float | None) -> str:
    return "none" if difference is None else f"{100 * difference:+.1f}"


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _sha256(style: str) -> str:
    """Of the style sheet, as a Content-Security-Policy names it: no other style then counts, whatever a text holds."""
    return base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()


@cache
def _template(text: str) -> Template:
    environment = page_environment().overlay()
    environment.filters |= {"percent": _percent, "points": _points, "sha256": _sha256}
    return environment.from_string(text)
