"""The report as one HTML page with all figures, pictures and, where its licence allows, audio."""

import base64
from collections.abc import Sequence
from functools import cache
from itertools import zip_longest
from pathlib import Path

from datasets import Dataset
from jinja2 import Template
from markupsafe import Markup

from hf_ser.data.corpora import CORPORA
from hf_ser.files import atomic_write, package_file
from hf_ser.markup import page_environment
from hf_ser.plotting import emotion_colours, folds_text
from hf_ser.publish.curves import ece_text
from hf_ser.publish.dimension_plots import DIMENSIONS_PICTURE
from hf_ser.runs.figures import DimensionReport, Report
from hf_ser.runs.findings import NOTE, Audit
from hf_ser.runs.report_text import ccc_text, counted, headline_ccc, transcripts_text
from hf_ser.runs.stress import StressLine, StressResult

PAGE = "report.html"
"""File name of the page, and of its template."""

MOST_CLIPS = 20
"""Most clips in a page, which should be small enough to mail: 20 of RAVDESS are 0.7 MB."""

CAPTIONS = {
    "confusion_matrix.png": (
        "Confusion matrix",
        "A row is a reference class, a column a predicted class; a cell counts utterances and gives their share of "
        "the row. The diagonal is the recall of each class, and UAR is its mean.",
    ),
    "reliability.png": (
        "Reliability",
        "How often the model is right among utterances of similar confidence. Bars under the dashed line: the model is "
        "overconfident. Below, the number of utterances of each bar; a bar of few utterances says little.",
    ),
    "risk_coverage.png": (
        "Risk and coverage",
        "The error rate if only the most confident share of the utterances is answered. The point is the threshold "
        "fitted on validation speakers.",
    ),
    "roc.png": (
        "ROC of each class",
        "Each class against all others, over every threshold of its probability. The nearer a line is to the upper "
        "left corner, the better the class is separated from the rest; the dotted line is chance. Folds are calibrated "
        "one by one and then pooled.",
    ),
    "groups.png": (
        "Sexes and speakers",
        "UAR of each sex, with its interval where there is one, and of each speaker, from the worst to the best. A "
        "hollow point is the WA of a group or speaker without utterances of some class.",
    ),
    DIMENSIONS_PICTURE: (
        "Valence, arousal and dominance",
        "Predicted against annotated value of each utterance; they are equal on the dashed line. In a flat cloud "
        "the predictions stay near the middle of the scale.",
    ),
    "learning_curves.png": (
        "Learning curves",
        "Loss and validation UAR by epoch, one line a fold; a star marks the checkpoint that was kept. Validation loss "
        "that rises while the training loss falls is overfitting.",
    ),
    "embedding_map.png": (
        "Map of the embeddings",
        "Input of the last layer for each utterance, in two dimensions (t-SNE), coloured by emotion and by speaker. "
        "The higher silhouette shows what the model groups by; distances between far groups mean nothing.",
    ),
    "stress.png": (
        "Stress",
        "Change of UAR under each condition against the clean clips, with its interval and limit.",
    ),
}
"""Title and caption of each picture, in the order of the page."""

FOLD_PICTURES = ("embedding_map.png", "stress.png")
"""Pictures of one model, in the folder of its fold."""


HEADLINE_CONDITIONS = ("telephone", "white_20db", "room_0.6s", "mp3_24kbit")
"""Conditions of the stress test that are most common in users' recordings, shown next to the headline."""


def write_page(
    report: Report | DimensionReport,
    folder: str | Path,
    stress: StressResult | None = None,
    clips: dict[str, bytes] | None = None,
    clips_note: str = "",
    system: str = "",
    audit: Audit | None = None,
    facts: dict[str, str] | None = None,
) -> Path:
    """Write `report.html`: one file without outside links, with the pictures in the folder.

    Args:
        report: Result of `make_report`.
        folder: Folder of the run; pictures of `CAPTIONS` are taken from it and its folds.
        stress: Content of stress.json; None where it was not run.
        clips, clips_note: FLAC bytes by utterance id, and a note on them, from `playable_clips`.
        system: The system in one line (`TrainingRecord.description`).
        audit: Content of audit.json; None where it was not run.
        facts: Facts about the models (`TrainingRecord.about`).

    Returns:
        The file that was written.

    Raises:
        FileNotFoundError: the template is missing.
    """
    folder, has_classes = Path(folder), isinstance(report, Report)
    matrix, *pictures = _pictures(report, folder) or [None]
    if matrix and matrix["title"] != CAPTIONS["confusion_matrix.png"][0]:
        matrix, pictures = None, [matrix, *pictures]
    text = page_template(PAGE).render(
        style=page_style(),
        report=report,
        has_classes=has_classes,
        headline_ccc=headline_ccc(report.dimensions) if report.dimensions else "",
        folds=folds_text(report.folds),
        facts=facts or {},
        colours=emotion_colours(report.labels) if has_classes else {},
        ece=ece_text(report.calibration) if has_classes else "",
        transcripts=transcripts_text(report.transcript_sources),
        system=system,
        matrix=matrix,
        pictures=pictures,
        stress=stress,
        changed=_changed(stress),
        leaks=_sentences(report.audit.leak, audit) if report.audit else [],
        warnings=_sentences(report.audit.warning, audit) if report.audit else [],
        findings=[one for one in (audit.findings if audit else []) if one.severity != NOTE],
        clips={name: data_uri(flac, "audio/flac") for name, flac in (clips or {}).items()},
        clips_note=clips_note,
    )
    with atomic_write(folder / PAGE) as file:
        file.write(text)
    return folder / PAGE


def _sentences(kinds: Sequence[str], audit: Audit | None) -> list[str]:
    """Detail of each kind of finding, from the first fold; without an audit, the name of the kind in words."""
    details = {one.kind: one.detail for one in reversed(audit.findings if audit else ())}
    return [details.get(kind, kind.replace("_", " ")) for kind in kinds]


def playable_clips(
    report: Report | DimensionReport, dataset: Dataset, allowed: bool | None = None
) -> tuple[dict[str, bytes], str]:
    """The audio of the worst confusions that may be shared; no other audio is read.

    Args:
        report: Result of `make_report`.
        dataset: The evaluated data set.
        allowed: True if the user's own clips may be shared; False for no clips at all.

    Returns:
        FLAC bytes by id, at most `MOST_CLIPS`, and a note for the page: their source, or why there are none.

    Raises:
        ValueError: `allowed` for clips whose licence forbids sharing.
    """
    if isinstance(report, DimensionReport):
        return {}, ""
    if allowed is False:
        return {}, "No clips: embedding was turned off."
    position = {name: index for index, name in enumerate(dataset["id"][:])}
    rows = dataset.select([position[name] for name in _worst_ids(report) if name in position])
    corpora = rows["corpus"][:]
    refused = _refused(sorted(set(corpora)), allowed)
    rows = rows.select([index for index, corpus in enumerate(corpora) if corpus not in refused])
    rows = rows.select(range(min(len(rows), MOST_CLIPS)))
    clips = {row["id"]: row["audio"]["bytes"] for row in rows.select_columns(["id", "audio"]) if row["audio"]}
    return clips, _clips_note(sorted(set(rows["corpus"][:])) if clips else [], refused)


def _worst_ids(report: Report) -> list[str]:
    """Ids of the worst mistake of each confusion, then of the second worst, and so on."""
    columns = zip_longest(*([one.id for one in pair.worst] for pair in report.confusions))
    return [name for column in columns for name in column if name is not None]


def _refused(corpora: list[str], allowed: bool | None) -> dict[str, str]:
    """Corpora whose clips are left out, and why."""
    may = {name: CORPORA[name].MAY_BE_SHARED if name in CORPORA else None for name in corpora}
    forbidden = [name for name, shared in may.items() if shared is False]
    if allowed and forbidden:
        raise ValueError(
            f"--embed_audio: found clips of {', '.join(forbidden)}, whose licence forbids sharing ("
            f"{'; '.join(CORPORA[name].LICENCE for name in forbidden)}); expected only corpora that may be shared, or "
            "a table of your own. Leave the option out: the page is then written without these clips."
        )
    reasons = {False: "its licence forbids sharing"}
    if not allowed:
        reasons[None] = "only you know whether they may be shared; if so, make the page again with --embed_audio"
    return {name: reasons[shared] for name, shared in may.items() if shared in reasons}


def _clips_note(embedded: list[str], refused: dict[str, str]) -> str:
    known = {name: f": {CORPORA[name].SOURCE}; {CORPORA[name].LICENCE}" for name in embedded if name in CORPORA}
    notes = [f"Clips of {name}{known.get(name, '')}." for name in embedded]
    notes += [f"No clips of {name}: {reason}." for name, reason in refused.items()]
    return " ".join(notes) or "No clips: the data set has no audio of these utterances."


def _pictures(report: Report | DimensionReport, folder: Path) -> list[dict]:
    """Title, caption, alternative text and data URI of each picture in the folder."""
    texts, found = _picture_texts(report) if isinstance(report, Report) else {}, []
    if report.dimensions:
        texts |= {DIMENSIONS_PICTURE: f"CCC {headline_ccc(report.dimensions)}."}
    for name, (title, caption) in CAPTIONS.items():
        files = {title: folder / name}
        if name in FOLD_PICTURES:
            files |= {f"{title}, {file.parent.name}": file for file in sorted(folder.glob(f"*/{name}"))}
        for heading, file in files.items():
            if file.is_file():
                uri = data_uri(file.read_bytes(), "image/png")
                alt = f"{heading}: {texts.get(name, caption)}"
                found.append({"title": heading, "caption": caption, "alt": alt, "uri": uri})
    return found


def _changed(stress: StressResult | None) -> list[StressLine]:
    """The conditions that are shown next to the headline."""
    return [one for one in stress.conditions if one.name in HEADLINE_CONDITIONS] if stress else []


def _picture_texts(report: Report) -> dict[str, str]:
    """Alternative texts of the pictures of a report."""
    calibration, groups = report.calibration, report.per_sex | report.per_speaker
    recall = [f"{label} {_percent(row.recall)} %" for label, row in report.per_class.items()]
    bins = [
        f"confidence {one.low:.2f} to {one.high:.2f}: {one.n} utterances, {_percent(one.accuracy)} % right"
        for one in calibration.bins
        if one.n
    ]
    points = [f"{name} UAR {_percent(one.uar)}, WA {_percent(one.wa)}" for name, one in groups.items()]
    areas = [f"{label} {one.auc:.3f}" for label, one in report.roc.items()]
    aurc, wrong = report.risk_coverage.aurc, _percent(1 - report.wa)
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


def data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def page_style() -> Markup:
    """The style that all pages of figures share."""
    return Markup(package_file("cards/page.css").read_text(encoding="utf-8"))


def page_template(name: str) -> Template:
    """A page's template of the folder cards/, with the filters of figures."""
    return _template(package_file(f"cards/{name}").read_text(encoding="utf-8"))


@cache
def _template(text: str) -> Template:
    environment = page_environment().overlay()
    environment.filters |= {"percent": _percent, "points": _points, "counted": counted, "ccc": ccc_text}
    return environment.from_string(text)
