"""Integrity of a corpus: what is wrong with single clips, and which clips are the same sound."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from hf_ser.data.audio import Clip
from hf_ser.data.schema import Finding
from hf_ser.models.audio_notes import mixed, scale_hint, source_notes
from hf_ser.models.decoding import audio_problem
from hf_ser.normal_form import printable

MAX_SECONDS = 30.0
NOTED = ("quiet", "truncated", "wrong_header", "long", "stereo", "cancelling_channels", "scaled", "over_full_scale")
"""Kinds of findings of clips that are kept, in the order in which they are listed."""

OUTSIDE = "outside_folder"
"""Kind of the finding of recordings that lie outside the folder of their corpus."""

EXAMPLES = 3


def outside_findings(corpus: str, files: Iterable[str | Path], folders: Sequence[str | Path]) -> list[Finding]:
    """Find recordings that lie outside the folders of their corpus, by their path or through a link.

    Whoever wrote a table, or packed a folder with links in it, can name any file of this disk.

    Args:
        corpus: Name of the corpus.
        files: Recordings that the corpus names.
        folders: Where they are expected: that of the table, `--audio_dir`.
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
        f"{len(outside)} recordings lie outside {' and '.join(printable(folder) for folder in folders)}: "
        f"{', '.join(outside[:EXAMPLES])}{more}"
    )
    return [Finding(OUTSIDE, corpus, detail, count=len(outside))]


def clip_findings(item: str, clip: Clip) -> list[Finding]:
    """What a person should know of one decoded clip; findings with `skipped` keep it out of the data set."""
    if problem := audio_problem(clip.samples):
        kind, detail = problem
        return [Finding(kind, item, detail + scale_hint(kind, clip.source_subtype, clip.peak), skipped=True)]
    found = source_notes(clip.samples, clip)
    if (seconds := clip.duration_seconds) > MAX_SECONDS:
        found["long"] = f"{seconds:.1f} s; models hear the first --max_seconds of it"
    if clip.source_channels > 1:
        found["stereo"] = (
            f"{clip.source_channels} channels, {mixed(clip.channels_equal, clip.asked_channel, clip.channel)}"
        )
    return [Finding(kind, item, found[kind]) for kind in NOTED if kind in found]


def duplicate_findings(rows: Iterable[dict]) -> list[Finding]:
    """Find clips with the same sound, by PCM hash.

    Of clips that agree in label and speaker the first by id is kept. Where they disagree one of the labels is wrong,
    and nothing tells which: all of them are refused.

    Args:
        rows: Dictionaries with `id`, `label`, `speaker` and `pcm_sha256` (None where there is no sound).
    """
    same = defaultdict(list)
    for row in rows:
        if row["pcm_sha256"] is not None:
            same[row["pcm_sha256"]].append(row)
    findings = []
    for group in (sorted(group, key=lambda row: row["id"]) for group in same.values() if len(group) > 1):
        claims = {(row["label"], row["speaker"]) for row in group}
        if len(claims) == 1:
            detail = f"same sound as {group[0]['id']}, which is kept"
            findings += [Finding("duplicate", row["id"], detail, skipped=True) for row in group[1:]]
        else:
            said = ", ".join(f"{row['id']} is {row['label']} by {row['speaker']}" for row in group)
            findings += [Finding("conflicting_duplicate", row["id"], f"same sound: {said}", True) for row in group]
    return findings


def format_findings(ids: list[str], formats: list[str | None]) -> list[Finding]:
    """Name the files that are stored otherwise than most of their corpus; all are read."""
    known = Counter(stored for stored in formats if stored)
    usual = max(known, key=known.get, default=None)
    return [
        Finding("other_format", item, f"{stored}; most are {usual}")
        for item, stored in zip(ids, formats, strict=True)
        if stored not in (usual, None)
    ]


def speaker_findings(corpus: str, speakers: list[str | None], labels: list[str]) -> list[Finding]:
    """Say how many clips have no speaker, where others have one, and how many of each label."""
    lacking = Counter(label for speaker, label in zip(speakers, labels, strict=True) if not speaker)
    if not 0 < lacking.total() < len(speakers):
        return []
    of_labels = ", ".join(f"{label} {count}" for label, count in sorted(lacking.items()))
    detail = (
        f"{lacking.total()} of {len(speakers)} clips have no speaker ({of_labels}): training refuses them, since no "
        "split of them is independent of speakers; fill in the speaker, or remove these rows"
    )
    return [Finding("missing_speakers", corpus, detail, count=lacking.total())]


def integrity_report(corpus: str, n_listed: int, columns: dict[str, list], findings: list[Finding]) -> dict:
    """All that was found and what is left.

    Args:
        corpus: Name of the corpus.
        n_listed: Utterances that the corpus listed; `n_found`, which a preparation raises by what the listing passed
            over, is the sum of what is kept, skipped and dropped.
        columns: `label` (names), `speaker`, `sex`, `duration_seconds` and `source_format` of the rows that are kept.
        findings: Of the listing, of the clips and of the duplicates.
    """
    formats = Counter(stored or "words only" for stored in columns["source_format"])
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
    """The report as lines for a terminal, with a few examples of each kind of finding."""
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
    """What became of all that was found, as a sum."""
    skipped, dropped = sum(report["skipped"].values()), sum(report["dropped_by_label_map"].values())
    found = report.get("n_found", report["n_listed"])
    parts = f"{report['n_kept']} kept + {skipped} skipped + {dropped} dropped by the label map"
    differing = found - report["n_kept"] - skipped - dropped
    return f"{found} rows and files = {parts}" + (f" + {differing} not accounted for" if differing else "")
