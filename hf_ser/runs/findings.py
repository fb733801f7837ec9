"""Findings of an audit, with severity, evidence and remedy, and the verdict over them."""

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from hf_ser.files import atomic_write
from hf_ser.json_record import Record
from hf_ser.markup import line_width
from hf_ser.normal_form import printable

AUDIT_VERSION = 1
AUDIT = "audit.json"
LEAK, WARNING, NOTE = "leak", "warning", "note"
SEVERITIES = (LEAK, WARNING, NOTE)
MAX_EVIDENCE = 50


@dataclass(frozen=True)
class AuditFinding(Record):
    """One finding that affects whether a result can be trusted.

    Args:
        kind: A controlled name, such as `speaker_overlap_train_test`.
        severity: `leak`: the test says nothing about unseen speech. `warning`: readers of the figures must know it.
            `note`: for information.
        detail: What was found, with figures.
        remedy: What to do about it.
        evidence: Ids of utterances, or pairs of them joined by ` = `; at most `MAX_EVIDENCE`.
        fold: The fold; None for the whole data set.
        n_evidence: Number of all items of evidence.
    """

    kind: str
    severity: str
    detail: str
    remedy: str
    evidence: tuple[str, ...]
    fold: str | None
    n_evidence: int


def finding(
    kind: str, severity: str, detail: str, remedy: str, evidence: Sequence[str] = (), fold: str | None = None
) -> AuditFinding:
    """Make a finding; it keeps at most `MAX_EVIDENCE` items of its evidence, sorted."""
    return AuditFinding(kind, severity, detail, remedy, tuple(sorted(evidence)[:MAX_EVIDENCE]), fold, len(evidence))


@dataclass(frozen=True, kw_only=True)
class Verdict(Record):
    """Result of an audit: its worst severity, and the kinds of leaks and warnings."""

    WHAT: ClassVar[str] = "an audit of hf_ser"
    REMEDY: ClassVar[str] = "Make it again with python scripts/audit.py."

    verdict: Literal["clean", "warnings", "leak"]
    leak: list[str]
    warning: list[str]


@dataclass(frozen=True, kw_only=True)
class Audit(Verdict):
    """Contents of `audit.json`, without the audited data set, protocol or run."""

    findings: list[AuditFinding]


def verdict(findings: Sequence[AuditFinding]) -> Verdict:
    """The verdict over some findings."""
    kinds = {severity: sorted({f.kind for f in findings if f.severity == severity}) for severity in (LEAK, WARNING)}
    word = LEAK if kinds[LEAK] else "warnings" if kinds[WARNING] else "clean"
    return Verdict(verdict=word, **kinds)


def write_audit(subject: dict, findings: Sequence[AuditFinding], path: str | Path) -> None:
    """Write an audit as JSON, atomically.

    Args:
        subject: The audited data set, protocol or run.
        findings: All findings.
        path: File to write.
    """
    audit = Audit(**vars(verdict(findings)), findings=list(findings))
    with atomic_write(path) as file:
        json.dump({"audit_version": AUDIT_VERSION, **subject, **audit.to_json()}, file, indent=1, ensure_ascii=False)


def read_verdict(folder: str | Path) -> Verdict | None:
    """The verdict of the audit in a run's folder; None where there is none."""
    return Verdict.read_if_there(Path(folder) / AUDIT)


def format_audit(findings: Sequence[AuditFinding], examples: int = 3) -> str:
    """Findings as text for a terminal, the most severe first; a finding of several folds is printed once."""
    lines = []
    for severity in SEVERITIES:
        for kind in dict.fromkeys(f.kind for f in findings if f.severity == severity):
            same = [f for f in findings if (f.kind, f.severity) == (kind, severity)]
            folds = [f.fold for f in same if f.fold is not None]
            where = f" (fold {', '.join(folds)})" if folds else ""
            lines.append(f"{severity.upper():<8} {kind}{where}")
            detail = f"fold {folds[0]}: {same[0].detail}" if len(folds) > 1 else same[0].detail
            lines += textwrap.wrap(detail, line_width(110), initial_indent=" " * 9, subsequent_indent=" " * 9)
            lines += [f"           {one}" for one in same[0].evidence[:examples]]
            if (more := same[0].n_evidence - examples) > 0:
                lines.append(f"           ... and {more} more (the JSON has up to {MAX_EVIDENCE})")
            if severity != NOTE:
                lines += textwrap.wrap(
                    f"remedy: {same[0].remedy}", line_width(110), initial_indent=" " * 9, subsequent_indent=" " * 9
                )
    summary = verdict(findings)
    texts = {
        LEAK: f"LEAK: {', '.join(summary.leak)}",
        "warnings": f"no leak found; {len(summary.warning)} warnings",
        "clean": "no leak found",
    }
    return "\n".join(printable(line) for line in [*lines, f"verdict: {texts[summary.verdict]}"])
