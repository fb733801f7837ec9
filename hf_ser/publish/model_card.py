"""The card of a trained model, made from the files in its folder."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from markupsafe import Markup

from hf_ser.data.corpora import corpus_of
from hf_ser.data.corpora.table_folders import EMOTION_NAMES
from hf_ser.data.folds import FINAL
from hf_ser.data.labels import LABEL_MAPS, read_label_map
from hf_ser.files import atomic_write, package_file
from hf_ser.inputs.speakers import enrolment_note
from hf_ser.markup import filled_markdown
from hf_ser.normal_form import look_alike
from hf_ser.publish.dataset_card import CARD, hub_licence
from hf_ser.revisions import public_name
from hf_ser.runs.classifier import AUDIO, FUSION, TEXT
from hf_ser.runs.figures import DimensionReport, Report, read_report
from hf_ser.runs.findings import verdict
from hf_ser.runs.record import RECORD, TrainingRecord, is_own_network
from hf_ser.runs.report import REPORT
from hf_ser.runs.report_text import audit_text, ccc_text, counted
from hf_ser.runs.stress import STRESS, StressResult

USAGE = {
    AUDIO: """\
from transformers import pipeline

ask = pipeline("audio-classification", model={model}{revision}, trust_remote_code=True)
print(ask("call.wav"))""",
    FUSION: """\
from transformers import pipeline

ask = pipeline("audio-classification", model={model}{revision}, trust_remote_code=True)
print(ask("call.wav"))
print(ask("call.wav", text="where is my parcel"))""",
    TEXT: """\
from transformers import pipeline

ask = pipeline("text-classification", model={model}{revision}, trust_remote_code=True)
print(ask("where is my parcel"))""",
}
"""Code that uses a model of each kind."""

ENROLMENT_USAGE = """
print(ask("call.wav", enrolment=["other1.wav", "other2.wav"]))  # other clips of the same speaker"""
"""More code for a model with per-speaker normalisation."""

TASKS = {AUDIO: "audio-classification", FUSION: "audio-classification", TEXT: "text-classification"}

HUB_METRICS = (
    ("recall", "uar", "UAR (unweighted average recall)"),
    ("accuracy", "wa", "WA (weighted accuracy)"),
    ("f1", "macro_f1", "macro F1"),
)
"""The Hub's type of a figure, its key in the report, and its name."""

PICTURES = {
    "confusion_matrix.png": "Confusion matrix of the test speakers",
    "reliability.png": "Reliability: how often the model is right at each confidence",
    "dimensions.png": "Predicted against annotated valence, arousal and dominance",
    "stress.png": "Change in UAR under each changed recording",
}
"""Pictures that may be in the folder of the card, and their alternative texts."""

NOT_TESTED = "This model was not tested: it was trained on all speakers except those for choosing its checkpoint."
NOT_TESTED_SOLVED = "This model was not tested: it was trained on all speakers."
NO_OWN_UAR = "The test speakers of this model lack a class, so it has no UAR of its own."

OF_ANY_TASK = frozenset(("neutral", "other", "positive", "negative"))
"""Classes that models of emotion share with models of sex, age or illness."""

PRECISIONS = {"no": "float32", "fp16": "float16 mixed", "bf16": "bfloat16 mixed"}
"""Accelerate's names of precisions, and what the card calls them."""


def write_model_card(
    folder: str | Path, repo_id: str | None = None, revision: str | None = None, purpose: str | None = None
) -> Path:
    """Write `README.md` into a trained model's folder.

    Args:
        folder: Folder of a fold, or `final`.
        repo_id: Name of the model on the Hub, for the code in the card; by default the folder's name.
        revision: Commit to pin in the code.
        purpose: What the model is for, as stated by its publisher.

    Raises:
        FileNotFoundError: it holds no finished model of this package, or the template is missing.
        ValueError: its report is of an earlier version.
    """
    folder = Path(folder)
    card = make_model_card(folder, repo_id, revision, purpose)
    with atomic_write(folder / CARD) as file:
        file.write(str(card))
    return folder / CARD


def make_model_card(
    folder: Path, repo_id: str | None = None, revision: str | None = None, purpose: str | None = None
) -> ModelCard:
    """Make the card; raises as `write_model_card`."""
    record = TrainingRecord.read_if_there(folder / RECORD)
    if not (record and record.finished):
        found = "an unfinished training" if record else "no training record"
        raise FileNotFoundError(
            f"{folder}: found {found}, expected the folder of a model that hf_ser has finished training, such as "
            "runs/quickstart/fold_1: name one, or finish the training by running its command again."
        )
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    report, why_others = _report(folder, record)
    kind = record.settings["model"]
    name = repo_id or folder.resolve().name
    stress = StressResult.read_if_there(folder / STRESS)
    labels = list(config["id2label"].values())
    pictures = {one: text for one, text in PICTURES.items() if (folder / one).is_file()}
    top = next(iter(pictures.items()), None)
    notices, by_speaker = _notices(record, report, stress), _by_speaker(config)
    values = {
        "card_data": Markup(_metadata(name, kind, record, report, why_others).to_yaml()),
        "title": name,
        "kind": {AUDIO: "audio", TEXT: "text", FUSION: "audio and text"}[kind],
        "notices": notices,
        "corpora": {corpus: corpus_of(corpus) for corpus in record.corpora},
        "record": record,
        "report": report,
        "why_others": why_others,
        "labels": labels,
        "of_emotions": names_emotions(labels) or not labels,
        "purpose": purpose,
        "architecture": " and ".join(record.encoder_names) or config.get("model_type", ""),
        "pretrained": any(not is_own_network(source) for source in record.sources.values()),
        "top_picture": top,
        "dimensions": config.get("dimensions") or [],
        "scale": [f"{end:g}" for end in config.get("dimension_scale") or ()],
        "ccc": ccc_text,
        "temperature": config.get("calibration_temperature"),
        "abstain_threshold": config.get("abstain_threshold"),
        "audit": _audit(report, record),
        "stress": stress,
        "pictures": {one: text for one, text in pictures.items() if one != top[0]} if top else {},
        "is_worse": isinstance(report, Report) and report.calibration.is_worse,
        "percent": lambda share: f"{100 * share:.1f}",
        "counted": counted,
        "leaked": bool(record.leaks or (report and report.leaks)),
        "precision": PRECISIONS.get(record.precision, record.precision),
        "settings": {key: public_name(value) for key, value in sorted(record.settings.items()) if key != "model"},
        "encoders": record.origins,
        "usage": Markup(
            USAGE[kind]
            .replace("{model}", json.dumps(name))
            .replace("{revision}", f", revision={json.dumps(revision)}" if revision else "")
            + ENROLMENT_USAGE * by_speaker
        ),
        "enrolment": enrolment_note(record.settings.get("enrolment_clips", 0)) if by_speaker else None,
        "pushed": repo_id is not None,
    }
    template = package_file("cards/model_card.md").read_text(encoding="utf-8")
    card = ModelCard(filled_markdown(template, values))
    card.text = re.sub(r"\n{3,}", "\n\n", card.text).rstrip() + "\n"  # where the template left out a paragraph
    return card


def names_emotions(labels: Sequence[str]) -> bool:
    """Whether most of a model's classes are emotions, by the vocabulary, a label map, or the names of other corpora.

    Classes that other tasks share are not counted; if there are no other classes, they are taken for valence.
    """
    known = {look_alike(one) for one in EMOTION_NAMES}
    known |= {look_alike(one) for name in LABEL_MAPS for one in (read_label_map(name) or {}).values()}
    specific = {look_alike(label) for label in labels} - OF_ANY_TASK
    return bool(labels) and (not specific or 2 * len(specific & known) > len(specific))


def _by_speaker(config: dict) -> bool:
    front_end = (config.get("audio_config") or {}).get("front_end") or {}
    return front_end.get("normalisation") == "speaker" or bool(config.get("speaker_views"))


def _report(folder: Path, record: TrainingRecord) -> tuple[Report | DimensionReport | None, str]:
    """The report of a model; if it was not tested or its test lacks a class, that of its run and the reason."""
    report = read_report(folder / REPORT) or read_report(folder.parent / REPORT)
    fold = record.split.fold
    if report and list(report.folds) == [fold] and (folder / REPORT).is_file():
        return report, ""
    of_all = NOT_TESTED_SOLVED if record.solved else NOT_TESTED
    return report, of_all if fold == FINAL else NO_OWN_UAR


def _notices(record: TrainingRecord, report: Report | None, stress: StressResult | None) -> list[str]:
    """Notices at the top of the card, from report, record and stress test."""
    found = [*report.notices] if report else []
    known = set(report.leaks) if report else set()
    if leaks := sorted({*record.leaks, *(stress.leaks if stress else [])} - known):
        found.append(f"LEAKED: {', '.join(leaks)}. Not all figures here were measured on unseen speakers.")
    if not report and "synthetic" in record.corpora:
        found.append("Trained on a synthetic corpus: it tests the software and says nothing about speech.")
    if not report and "paired" in record.corpora:
        found.append("Trained on clips of RAVDESS with sentences of MELD, which are not what is spoken.")
    return found


def _audit(report: Report | None, record: TrainingRecord) -> str:
    return audit_text(report.audit if report and report.audit else verdict(record.audit))


def _metadata(name: str, kind: str, record: TrainingRecord, report: Report | None, why_others: str) -> ModelCardData:
    """The card's metadata for the Hub."""
    licences = {hub_licence(corpus_of(corpus).LICENCE) for corpus in record.corpora}
    return ModelCardData(
        license=licences.pop() if len(licences) == 1 else "other",
        language=sorted({corpus_of(corpus).LANGUAGE for corpus in record.corpora} - {None}) or None,
        library_name="transformers",
        pipeline_tag=TASKS[kind],
        base_model=record.base_models or None,
        tags=["speech-emotion-recognition", "emotion-recognition", "hf_ser", *record.corpora],
        model_name=name,
        eval_results=_results(kind, report, why_others) if report else None,
    )


def _results(kind: str, report: Report, why_others: str) -> list[EvalResult]:
    """UAR, WA, macro F1 and CCC for the Hub, marked where they are leaked, synthetic, paired or of other models."""
    leaked = report.is_leaked
    stamps = [
        *(["cross-validation with the same settings, not this model alone"] if why_others else []),
        *(["LEAKED, do not compare with clean figures"] if leaked else []),
        *(["synthetic, not speech"] if report.is_synthetic else []),
        *(["paired, text is not what is spoken"] if report.is_paired else []),
    ]
    figures = [(metric, name, getattr(report, figure, None)) for metric, figure, name in HUB_METRICS]
    if report.dimensions:
        figures.append(("ccc", "CCC (mean concordance correlation coefficient)", report.dimensions.mean_ccc))
    folds = f"test fold{'s' if len(report.folds) > 1 else ''} {', '.join(report.folds)}"
    named = ", ".join([report.corpus, f"protocol {report.protocol}", folds, *stamps])
    return [
        EvalResult(
            task_type=TASKS[kind],
            task_name="Speech emotion recognition",
            dataset_type=report.corpus,
            dataset_name=named,
            dataset_config=report.protocol,
            dataset_split="test",
            metric_type=metric,
            metric_name=name,
            metric_value=round(float(value), 4),
        )
        for metric, name, value in figures
        if value is not None
    ]
