"""The card of a trained model, made from what its training and its evaluation left in its folder."""

import json
import re
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from markupsafe import Markup

from hf_ser.checks.audit.findings import AuditFinding, verdict
from hf_ser.checks.stress.results import STRESS
from hf_ser.data.corpora import corpus_of
from hf_ser.data.protocols import FINAL
from hf_ser.files import atomic_write, package_file
from hf_ser.inputs.speakers import enrolment_note
from hf_ser.markup import filled_markdown
from hf_ser.publish.dataset_card import CARD, hub_licence
from hf_ser.revisions import HUB_NAME
from hf_ser.runs.calibration import made_worse
from hf_ser.runs.classifier import AUDIO, FUSION, TEXT
from hf_ser.runs.record import RECORD, read_record
from hf_ser.runs.report import REPORT, REPORT_VERSION
from hf_ser.runs.report_text import audit_text

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

ask = pipeline("text-classification", model={model}{revision}, top_k=None, trust_remote_code=True)
print(ask("where is my parcel"))""",
}
"""How a model of each kind is asked; the sound is any file that soundfile reads."""

ENROLLED = """
print(ask("call.wav", enrolment=["other1.wav", "other2.wav"]))  # other clips of the same speaker"""
"""And one whose features are scaled by speaker."""

TASKS = {AUDIO: "audio-classification", FUSION: "audio-classification", TEXT: "text-classification"}

HUB_METRICS = (
    ("recall", "uar", "UAR (unweighted average recall)"),
    ("accuracy", "wa", "WA (weighted accuracy)"),
    ("f1", "macro_f1", "macro F1"),
)
"""The Hub's kind of a figure, its key in the report, and what it is called."""

PICTURES = {
    "confusion_matrix.png": "Confusion matrix of the test speakers",
    "reliability.png": "Reliability: how often the model is right at each confidence",
    "stress.png": "Change in UAR under each changed recording",
}
"""Pictures that may lie beside the card, and what is said where they cannot be seen."""

OF_ALL = "This model was tested on nobody: it was trained on all speakers but those that chose its checkpoint."
OF_ALL_SOLVED = "This model was tested on nobody: it was trained on all speakers."
OF_OTHERS = "The speakers that this model was tested on lack a class, so that there is no UAR for it alone."

PRECISIONS = {"no": "float32", "fp16": "float16 mixed", "bf16": "bfloat16 mixed"}
"""What accelerate calls them, in words."""


def write_model_card(folder: str | Path, repo_id: str | None = None, revision: str | None = None) -> Path:
    """Write `README.md` into a trained model's folder.

    Args:
        folder: Of a fold, or `final`.
        repo_id: The Hub's name of the model, for the code that uses it; by default the folder's own name.
        revision: Commit that the code pins.

    Raises:
        FileNotFoundError: it holds no model that was trained by this package to its end, or the template is not there.
        ValueError: its report is of an earlier version.
    """
    folder = Path(folder)
    card = make_model_card(folder, repo_id, revision)
    with atomic_write(folder / CARD) as file:
        file.write(str(card))
    return folder / CARD


def make_model_card(folder: Path, repo_id: str | None = None, revision: str | None = None) -> ModelCard:
    """The card as `write_model_card` writes it."""
    record = read_record(folder) if (folder / RECORD).is_file() else None
    if not (record and record["finished"]):
        found = "an unfinished training" if record else "no training record"
        raise FileNotFoundError(
            f"{folder}: found {found}, expected the folder of a model that hf_ser has trained to its end, such as "
            "runs/quickstart/fold_1: name one, or let the training end by giving its command again."
        )
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    report, why_others = _report(folder, record)
    kind = record["settings"]["model"]
    name = repo_id or folder.resolve().name
    stress = _read(folder / STRESS)
    notices, by_speaker = _notices(record, report, stress), _by_speaker(config)
    values = {
        "card_data": Markup(_metadata(name, kind, record, report, why_others).to_yaml()),
        "title": name,
        "kind": {AUDIO: "the sound", TEXT: "the words", FUSION: "the sound and the words"}[kind],
        "notices": notices,
        "corpora": {corpus: corpus_of(corpus) for corpus in record["corpora"]},
        "record": record,
        "report": report,
        "why_others": why_others,
        "labels": list(config["id2label"].values()),
        "temperature": config.get("calibration_temperature"),
        "abstain_threshold": config.get("abstain_threshold"),
        "audit": _audit(report, record),
        "stress": stress,
        "pictures": {one: text for one, text in PICTURES.items() if (folder / one).is_file()},
        "is_worse": bool(report) and made_worse(report["calibration"]),
        "percent": lambda share: f"{100 * share:.1f}",
        "leaked": bool(record["leaks"] or (report and report["leaks"])),
        "precision": PRECISIONS.get(record["precision"], record["precision"]),
        "settings": {key: shown(value) for key, value in sorted(record["settings"].items()) if key != "model"},
        "encoders": origins(record),
        "usage": Markup(
            USAGE[kind]
            .replace("{model}", json.dumps(name))
            .replace("{revision}", f", revision={json.dumps(revision)}" if revision else "")
            + ENROLLED * by_speaker
        ),
        "enrolment": enrolment_note(record["settings"].get("enrolment_clips", 0)) if by_speaker else None,
        "pushed": repo_id is not None,
        "hears": kind != TEXT,
    }
    template = package_file("cards/model_card.md").read_text(encoding="utf-8")
    card = ModelCard(filled_markdown(template, values))
    card.text = re.sub(r"\n{3,}", "\n\n", card.text).rstrip() + "\n"  # where the template passed over a paragraph
    return card


def shown(value) -> str:
    """A setting as a card shows it: a name of the Hub as it is, of a path on somebody's disk its last part alone."""
    text = str(value)
    return text if HUB_NAME.fullmatch(text) else re.split(r"[\\/]", text.rstrip("\\/"))[-1]


def _by_speaker(config: dict) -> bool:
    front_end = (config.get("audio_config") or {}).get("front_end") or {}
    return front_end.get("normalisation") == "speaker"


def _report(folder: Path, record: dict) -> tuple[dict | None, str]:
    """The report that speaks for a model; where it is of other models too, why.

    A model that was trained on all speakers was tested on none, and a test without a class has no UAR. What the
    settings are worth is then told by all the folds that were trained with them into the same run.
    """
    report = _of_this_version(folder / REPORT) or _of_this_version(folder.parent / REPORT)
    fold = record["split"]["fold"]
    if report and list(report["folds"]) == [fold] and (folder / REPORT).is_file():
        return report, ""
    of_all = OF_ALL_SOLVED if record.get("solved") else OF_ALL
    return report, of_all if fold == FINAL else OF_OTHERS


def origins(record: dict) -> dict[str, str]:
    """How each encoder of a training record came to be, without the path that it was loaded from."""
    sources = record.get("sources", {})
    return {
        modality: said.replace(source, shown(source)) if (source := sources.get(modality)) else said
        for modality, said in record.get("encoders", {}).items()
    }


def _of_this_version(file: Path) -> dict | None:
    report = _read(file)
    if report and report["report_version"] != REPORT_VERSION:
        raise ValueError(
            f"{file}: found version {report['report_version']} of the report, expected {REPORT_VERSION}: make it anew "
            "with python scripts/evaluate.py and the run's folder."
        )
    return report


def _read(file: Path) -> dict | None:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def _notices(record: dict, report: dict | None, stress: dict | None) -> list[str]:
    """What stands at the top: what the report, the record and the stress test have to say first."""
    found = [*report["notices"]] if report else []
    said = set(report["leaks"]) if report else set()
    if leaks := sorted({*record["leaks"], *(stress["leaks"] if stress else [])} - said):
        found.append(f"LEAKED: {', '.join(leaks)}. Not all that stands here was measured on people it had never met.")
    if not report and "synthetic" in record["corpora"]:
        found.append("Trained on a synthetic corpus: it proves the machinery and knows nothing of speech.")
    return found


def _audit(report: dict | None, record: dict) -> str:
    found = [AuditFinding(**{**one, "evidence": tuple(one["evidence"])}) for one in record["audit"]]
    return audit_text(report["audit"] if report and report["audit"] else verdict(found))


def _metadata(name: str, kind: str, record: dict, report: dict | None, why_others: str) -> ModelCardData:
    """What the Hub reads."""
    licences = {hub_licence(corpus_of(corpus).LICENCE) for corpus in record["corpora"]}
    return ModelCardData(
        license=licences.pop() if len(licences) == 1 else "other",
        language=sorted({corpus_of(corpus).LANGUAGE for corpus in record["corpora"]} - {None}) or None,
        library_name="transformers",
        pipeline_tag=TASKS[kind],
        base_model=record.get("base_models") or None,
        tags=["speech-emotion-recognition", "emotion-recognition", "hf_ser", *record["corpora"]],
        model_name=name,
        eval_results=_results(kind, report, why_others) if report else None,
    )


def _results(kind: str, report: dict, why_others: str) -> list[EvalResult]:
    """UAR, WA and macro F1 as the Hub shows them beside a model; leaked, synthetic or other models' by that name."""
    leaked = report["leaks"] or (report["audit"] and report["audit"]["leak"])
    stamps = [
        *(["cross-validation with the same settings, not this model alone"] if why_others else []),
        *(["LEAKED, compare with no clean figure"] if leaked else []),
        *(["synthetic, not speech"] if "synthetic" in report["corpus"].split("+") else []),
    ]
    folds = f"test fold{'s' if len(report['folds']) > 1 else ''} {', '.join(report['folds'])}"
    named = ", ".join([report["corpus"], f"protocol {report['protocol']}", folds, *stamps])
    return [
        EvalResult(
            task_type=TASKS[kind],
            task_name="Speech emotion recognition",
            dataset_type=report["corpus"],
            dataset_name=named,
            dataset_config=report["protocol"],
            dataset_split="test",
            metric_type=metric,
            metric_name=name,
            metric_value=round(float(report[figure]), 4),
        )
        for metric, figure, name in HUB_METRICS
    ]
