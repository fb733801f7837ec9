"""What an audit says: findings with a severity, the evidence and the remedy, and the verdict over them."""

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from hf_ser.files import atomic_write
from hf_ser.normal_form import printable

AUDIT_VERSION = 1
AUDIT = "audit.json"
LEAK, WARNING, NOTE = "leak", "warning", "note"
SEVERITIES = (LEAK, WARNING, NOTE)
MAX_EVIDENCE = 50
LINE = 110


@dataclass(frozen=True)
class AuditFinding:
    """One thing that bears on whether a result can be believed.

    Args:
        kind: A short controlled word, e.g. `speaker_overlap_train_test`.
        severity: `leak`, the test says nothing about unseen speech; `warning`, a person must know it to read the
            figure; `note`, it was looked at and this is what was found.
        detail: What was found, with its figures.
        remedy: What to do about it.
        evidence: Ids of utterances, or pairs of them joined by ` = `; at most `MAX_EVIDENCE` are kept.
        fold: Fold that it was found in, None where it is of the whole data set.
        n_evidence: How much evidence there is.
    """

    kind: str
    severity: str
    detail: str
    remedy: str
    evidence: tuple[str, ...] = ()
    fold: str | None = None
    n_evidence: int = 0


def finding(
    kind: str, severity: str, detail: str, remedy: str, evidence: Sequence[str] = (), fold: str | None = None
) -> AuditFinding:
    """A finding with as much of its evidence as is kept, sorted."""
    return AuditFinding(kind, severity, detail, remedy, tuple(sorted(evidence)[:MAX_EVIDENCE]), fold, len(evidence))


def verdict(findings: Sequence[AuditFinding]) -> dict:
    """`{"verdict": "leak" | "warnings" | "clean", "leak": [kinds], "warning": [kinds]}`, as a report carries it."""
    kinds = {severity: sorted({f.kind for f in findings if f.severity == severity}) for severity in (LEAK, WARNING)}
    word = LEAK if kinds[LEAK] else "warnings" if kinds[WARNING] else "clean"
    return {"verdict": word, **kinds}


def write_audit(subject: dict, findings: Sequence[AuditFinding], path: str | Path) -> dict:
    """Write an audit as JSON, whole or not at all, and return what was written.

    Args:
        subject: What was audited: data set, protocol, run.
        findings: All findings.
        path: File to write.
    """
    audit = {"audit_version": AUDIT_VERSION, **subject, **verdict(findings), "findings": [asdict(f) for f in findings]}
    with atomic_write(path) as file:
        json.dump(audit, file, indent=1, ensure_ascii=False)
    return audit


def read_verdict(folder: str | Path) -> dict | None:
    """The verdict of the audit that lies in a run's folder, None where there is none."""
    file = Path(folder) / AUDIT
    if not file.is_file():
        return None
    audit = json.loads(file.read_text(encoding="utf-8"))
    return {name: audit[name] for name in ("verdict", LEAK, WARNING)}


def format_audit(findings: Sequence[AuditFinding], examples: int = 3) -> str:
    """Findings as lines for a terminal, the gravest first; a finding of several folds is told once."""
    lines = []
    for severity in SEVERITIES:
        for kind in dict.fromkeys(f.kind for f in findings if f.severity == severity):
            same = [f for f in findings if (f.kind, f.severity) == (kind, severity)]
            folds = [f.fold for f in same if f.fold is not None]
            where = f" (fold {', '.join(folds)})" if folds else ""
            lines.append(f"{severity.upper():<8} {kind}{where}")
            told = f"fold {folds[0]}: {same[0].detail}" if len(folds) > 1 else same[0].detail
            lines += textwrap.wrap(told, LINE, initial_indent=" " * 9, subsequent_indent=" " * 9)
            lines += [f"           {one}" for one in same[0].evidence[:examples]]
            if (more := same[0].n_evidence - examples) > 0:
                lines.append(f"           ... and {more} more (the JSON has up to {MAX_EVIDENCE})")
            if severity != NOTE:
                lines += textwrap.wrap(
                    f"remedy: {same[0].remedy}", LINE, initial_indent=" " * 9, subsequent_indent=" " * 9
                )
    said = verdict(findings)
    words = {
        LEAK: f"LEAK: {', '.join(said[LEAK])}",
        "warnings": f"no leak found; {len(said[WARNING])} warnings",
        "clean": "no leak found",
    }
    return "\n".join(printable(line) for line in [*lines, f"verdict: {words[said['verdict']]}"])
