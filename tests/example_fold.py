"""A trained fold as a run leaves it, in small: record, predictions, stress test, model."""

import json

import numpy as np
from models.tiny import LABELS, save_trained

from hf_ser.runs.figures import Report
from hf_ser.runs.report import write_report

SPLIT = {
    "fold": "1",
    "split_fingerprint": "abcdef",
    **{part: {"ids": [part], "pcm": [], "speakers": [part]} for part in ("train", "validation")},
}
RECORD = {
    "finished": True,
    "split": SPLIT,
    "ancestors": [],
    "protocol": "speaker_folds",
    "leaks": [],
    "audit": [],
    "settings": {"model": "fusion", "audio_model": "/home/somebody/secret/wav2vec2", "num_train_epochs": 3.0},
    "train_seconds": 90.0,
    "corpora": ["ravdess"],
    "encoders": {"audio": "/home/somebody/secret/wav2vec2 (its training data is not recorded)", "text": "trained here"},
    "sources": {"audio": "/home/somebody/secret/wav2vec2", "text": "gru"},
    "base_models": ["facebook/wav2vec2-base"],
    "seed": 42,
    "parameters": 12_345,
    "parameters_trained": 345,
    "transcript_sources": ["reference"],
    "words": {},
    "hardware": "1 process(es) on 2 CPU threads",
    "precision": "no",
    "best_validation_uar": 0.5,
    "history": [],
}


STRESS = {
    "model": "m",
    "dataset": "d",
    "corpus": "ravdess",
    "n_utterances": 12,
    "n_speakers": 2,
    "seed": 0,
    "leaks": [],
    "notices": [],
    "clean": {"uar": 0.7, "uar_ci95": None, "wa": 0.7},
    "sex_gap": {"uar": 0.1, "ci95": None, "note": ""},
    "thresholds": {"mild": 0.05, "hard": 0.15},
    "limits": {"mild": 0.05, "hard": 0.15},
    "verdict": "failed",
    "failed": ["white_20db"],
    "conditions": [
        {
            "name": "white_20db",
            "group": "noise",
            "level": "20 dB",
            "what": "White noise at 20 dB.",
            "n": 12,
            "limit": 0.05,
            "severity": "mild",
            "verdict": "failed",
            "uar": 0.6,
            "delta_uar": -0.1,
            "delta_ci95": [-0.2, 0.0],
        }
    ],
    "skipped": {},
    "versions": {},
}


def predictions(corpus: str = "ravdess", leaks: tuple[str, ...] = ()) -> list[dict]:
    """Two speakers, each of whom has every class twice; one prediction in three is wrong."""
    rows = []
    for number in range(12):
        answer = np.full(3, 0.1)
        answer[(number + (number % 3 == 0)) % 3] = 0.8
        row = {
            "id": f"{corpus}/{number}",
            "corpus": corpus,
            "speaker": f"{corpus}/{number // 6}",
            "sex": ("female", "male")[number // 6],
            "protocol": "speaker_folds",
            "fold": "1",
            "split_fingerprint": "abcdef",
            "leaks": list(leaks),
            "transcript_source": "reference",
            "reference": LABELS[number % 3],
            "votes": None,
            "temperature": 2.5,
            "abstain_threshold": 0.4,
            "probabilities": dict(zip(LABELS, answer.tolist(), strict=True)),
        }
        rows.append(row)
    return rows


def trained(folder, kind: str = "fusion", report: Report | None = None, **changes):
    """A folder as a training leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    save_trained(kind, folder)
    record = RECORD | changes
    record["settings"] = record["settings"] | {"model": kind}
    (folder / "training_record.json").write_text(json.dumps(record))
    if report:
        write_report(report, folder / "report.json")
    return folder
