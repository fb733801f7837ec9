"""Integrity of a corpus: defects of single clips, duplicates, and the report."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from hf_ser.data.audio import Clip
from hf_ser.data.schema import Finding
from hf_ser.models.audio_notes import mixed, scale_hint, source_notes
from hf_ser.models.samples import audio_problem
from hf_ser.normal_form import printable

MAX_SECONDS = 30.0
NOTED = ("quiet", "truncated", "wrong_header", "long", "stereo", "cancelling_channels", "scaled", "over_full_scale")
"""Kinds of findings about kept clips, in the order of the report."""

OUTSIDE = "outside_folder"
"""Kind of the finding about recordings outside of the folder of their corpus."""

EXAMPLES = 3


def outside_findings(corpus: str, files: Iterable[str | Path], folders: Sequence[str | Path]) -> list[Finding]:
    """Find recordings outside of the folders of their corpus, by path or through a link.

    A table, or a folder with links, from someone else can name any file of this disk.

    Args:
        corpus: Name of the corpus.
        files: Recordings that the corpus names.
        folders: Expected folders: that of the table, `--audio_dir`.
    """
    roots, resolved, outside = [Path(os.path.realpath(folder)) for folder in folders], {}, []
    for file in files:
        folder, name = os.path.split(file)
        if folder not in resolved:
            real = Path(os.path.realpath(folder))
            resolved[folder] = any(real.is_relative_to(root) for root in roots)
        inside = resolved[folder] and name != ".."
        if os.path.islink(file):
            inside = any(Path(os.path.realpath(file)).is_relative_to(root) for root in roots)
        if not inside and os.path.isfile(file):
            outside.append(printable(file))
    if not outside:
        return []
    more = " ..." if len(outside) > EXAMPLES else ""
    detail = (
        f"{len(outside)} recordings are outside {' and '.join(printable(folder) for folder in folders)}, or links that "
        f"lead out of it: "
        f"{', '.join(outside[:EXAMPLES])}{more}"
    )
    return [Finding(OUTSIDE, corpus, detail, count=len(outside))]


def clip_findings(item: str, clip: Clip) -> list[Finding]:
    """Findings about a decoded clip; one with `skipped` keeps it out of the data set."""
    if problem := audio_problem(clip.samples):
        kind, detail = problem
        return [Finding(kind, item, detail + scale_hint(kind, clip.source_subtype, clip.peak), skipped=True)]
    found = source_notes(clip.samples, clip)
    if (seconds := clip.duration_seconds) > MAX_SECONDS:
        found["long"] = f"{seconds:.1f} s; models use the first --max_seconds of it"
    if clip.source_channels > 1:
        found["stereo"] = (
            f"{clip.source_channels} channels, {mixed(clip.channels_equal, clip.requested_channel, clip.channel)}"
        )
    return [Finding(kind, item, found[kind]) for kind in NOTED if kind in found]


def duplicate_findings(rows: Iterable[dict]) -> list[Finding]:
    """Find clips with the same audio, by PCM hash.

    The first of them by id is kept. If their labels or speakers differ, one is wrong and it is unknown which, so all of
    the clips are skipped.

    Args:
        rows: Dictionaries with `id`, `label`, `speaker` and `pcm_sha256` (None without audio).
    """
    same = defaultdict(list)
    for row in rows:
        if row["pcm_sha256"] is not None:
            same[row["pcm_sha256"]].append(row)
    findings = []
    for group in (sorted(group, key=lambda row: row["id"]) for group in same.values() if len(group) > 1):
        annotations = {(row["label"], row["speaker"]) for row in group}
        if len(annotations) == 1:
            detail = f"same audio as {group[0]['id']}, which is kept"
            findings += [Finding("duplicate", row["id"], detail, skipped=True) for row in group[1:]]
        else:
            listed = ", ".join(f"{row['id']} is {row['label']} by {row['speaker']}" for row in group)
            findings += [Finding("conflicting_duplicate", row["id"], f"same audio: {listed}", True) for row in group]
    return findings


def format_findings(ids: list[str], formats: list[str | None]) -> list[Finding]:
    """Report files in another format than most of their corpus; all are read."""
    counts = Counter(stored for stored in formats if stored)
    usual = max(counts, key=counts.get, default=None)
    return [
        Finding("other_format", item, f"{stored}; most are {usual}")
        for item, stored in zip(ids, formats, strict=True)
        if stored not in (usual, None)
    ]


def speaker_findings(corpus: str, speakers: list[str | None], labels: list[str]) -> list[Finding]:
    """Report the clips without a speaker by label, if others have one."""
    missing = Counter(label for speaker, label in zip(speakers, labels, strict=True) if not speaker)
    if not 0 < missing.total() < len(speakers):
        return []
    of_labels = ", ".join(f"{label} {count}" for label, count in sorted(missing.items()))
    detail = (
        f"{missing.total()} of {len(speakers)} clips have no speaker ({of_labels}): training refuses them, since no "
        "split of them is independent of speakers; fill in the speaker, or remove these rows"
    )
    return [Finding("missing_speakers", corpus, detail, count=missing.total())]


def integrity_report(corpus: str, n_listed: int, columns: dict[str, list], findings: list[Finding]) -> dict:
    """Integrity report of a prepared data set.

    Args:
        corpus: Name of the corpus.
        n_listed: Listed utterances. `n_found`, to which preparing adds what the listing skipped, is the sum of kept,
            skipped and dropped ones.
        columns: `label` (names), `speaker`, `sex`, `duration_seconds` and `source_format` of the kept rows.
        findings: Findings about the listing, the clips and the duplicates.
    """
    formats = Counter(stored or "text only" for stored in columns["source_format"])
    return {
        "corpus": corpus,
        "n_listed": n_listed,
        "n_found": n_listed,
        "n_kept": len(columns["label"]),
        "hours": round(sum(seconds or 0 for seconds in columns["duration_seconds"]) / 3600, 4),
        "labels": dict(sorted(Counter(columns["label"]).items())),
        "speakers": dict(sorted(Counter(s or "unknown" for s in columns["speaker"]).items())),
        "sexes": dict(sorted(Counter(s or "unknown" for s in columns["sex"]).items())),
        "source_formats": dict(formats.most_common()),
        "skipped": _counts(f for f in findings if f.skipped),
        "noted": _counts(f for f in findings if not f.skipped),
        "findings": [vars(f) for f in findings],
    }


def _counts(findings: Iterable[Finding]) -> dict[str, int]:
    counts = Counter()
    for finding in findings:
        counts[finding.kind] += finding.count
    return dict(sorted(counts.items()))


def format_integrity(report: dict, examples: int = 3) -> str:
    """Format the report for a terminal, with a few examples of each kind of finding."""
    lines = [
        f"{report['corpus']}: {report['n_kept']} of {report['n_listed']} listed clips kept, "
        f"{report['hours']:.2f} hours, {len(report['speakers'].keys() - {'unknown'})} known speakers",
        "labels    " + "  ".join(f"{name} {count}" for name, count in report["labels"].items()),
        "sexes     " + "  ".join(f"{name} {count}" for name, count in report["sexes"].items()),
        "formats   " + "; ".join(f"{count} x {name}" for name, count in report["source_formats"].items()),
    ]
    lines.insert(1, f"found     {_sum(report)}")
    if report["dropped_by_label_map"]:
        dropped = "  ".join(f"{name} {count}" for name, count in report["dropped_by_label_map"].items())
        lines.append(f"dropped   by label map {report['label_map']}: {dropped}")
    for title in ("skipped", "noted"):
        for kind, count in report[title].items():
            shown = [f for f in report["findings"] if f["kind"] == kind and f["skipped"] == (title == "skipped")]
            lines.append(f"{title:<9} {kind} {count}")
            lines += [f"            {f['item']}: {f['detail']}" for f in shown[:examples]]
            if len(shown) > examples:
                lines.append(f"            ... and {len(shown) - examples} more in integrity.json")
    return "\n".join(printable(line) for line in lines)


def _sum(report: dict) -> str:
    """Sum of kept, skipped and dropped items."""
    skipped, dropped = sum(report["skipped"].values()), sum(report["dropped_by_label_map"].values())
    found = report.get("n_found", report["n_listed"])
    parts = f"{report['n_kept']} kept + {skipped} skipped + {dropped} dropped by the label map"
    differing = found - report["n_kept"] - skipped - dropped
    return f"{found} rows and files = {parts}" + (f" + {differing} not accounted for" if differing else "")
