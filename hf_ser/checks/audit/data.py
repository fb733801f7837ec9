"""The audit of a data set and its split: what the parts share, and shortcuts that give the label away."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from datasets import Dataset
from tqdm import tqdm

from hf_ser.checks.audit.not_copies import NotCopies
from hf_ser.checks.audit.probes import Probe, probe_speaker, probe_text, probe_trivia, text_through_script
from hf_ser.data.fingerprint import similar_pairs
from hf_ser.data.folds import CHOSEN_ON_TEST, Fold
from hf_ser.data.plans import Rows
from hf_ser.data.prepared import REPORT as INTEGRITY
from hf_ser.data.schema import SPLITS
from hf_ser.normal_form import look_alike
from hf_ser.runs.findings import LEAK, NOTE, WARNING, AuditFinding, finding
from hf_ser.runs.record import ASR_RECORD, REMEDIES, TRAINING_WITHHELD, ancestry, is_withheld, stage_leaks
from hf_ser.runs.scores import ROUNDING

CLASS_RATIO = 3.0
"""Ratio of the largest to the smallest class above which an imbalance is reported."""

SEX_DIFFERENCE = 0.25
"""Difference between the share of women in a class and in all clips, above which it is reported."""

SPEAKER_NOTE, SPEAKER_WARNING = 0.2, 0.5
"""Share of the majority label's errors that knowing the speaker corrects, from which it is reported."""

IEMOCAP_NAME = re.compile(r"(Ses\d\d)[FM]_\w+_([FM])\d+")
TRIVIA = ("duration_seconds", "leading_zeros_seconds", "level_dbfs", "source_bytes", "source_format")
PAIRS = (("train", "test"), ("validation", "test"), ("train", "validation"))
TEXT_IDS = ("script", "scene", "sentence")


def audit_data(
    dataset: Dataset, folds: Sequence[Fold] = (), reads_text: bool = True, cleared: NotCopies | None = None
) -> list[AuditFinding]:
    """Audit a data set, and its parts in every fold.

    Args:
        dataset: A prepared data set.
        folds: The split; without one only the data set itself is audited.
        reads_text: Whether the model reads text; text that gives the label away is then a leak, else a warning.
        cleared: Pairs of clips that a person has cleared: they are not copies.

    Returns:
        Findings, those of the split first.
    """
    rows = Rows.of(dataset)
    rows = rows.at(np.argsort(rows.position))  # in the order of the data set, to which the folds' indices refer
    texts = [text or "" for text in dataset["transcript"][:]]
    checks = (
        lambda: [found for fold in folds for found in overlap_findings(rows, fold)],
        lambda: copy_findings(dataset, folds, cleared),
        lambda: text_findings(rows, texts, folds, reads_text),
        lambda: unknown_speaker_findings(rows) + spelling_findings(rows, folds) + iemocap_findings(rows),
        lambda: trivia_findings(dataset, rows) + speaker_findings(rows),
        lambda: balance_findings(rows, folds),
    )
    bar = tqdm(checks, unit=" checks", desc="audit", leave=False, disable=None)
    return [found for check in bar for found in check()]


def integrity_findings(folder: str | Path) -> list[AuditFinding]:
    """Report equal recordings and bad files that were found when the data set was prepared."""
    report = json.loads((Path(folder) / INTEGRITY).read_text(encoding="utf-8"))
    found = []
    for kind in ("duplicate", "conflicting_duplicate"):
        same = [one for one in report["findings"] if one["kind"] == kind]
        if same:
            detail = f"{len(same)} clips were the same recording as another, sample for sample, and were left out"
            evidence = [f"{one['item']}: {one['detail']}" for one in same]
            found.append(finding(f"removed_{kind}", NOTE, detail, "", evidence))
    skipped = {kind: n for kind, n in report["skipped"].items() if not kind.endswith("duplicate")}
    if skipped:
        detail = "clips left out when the data set was prepared: " + ", ".join(f"{k} {n}" for k, n in skipped.items())
        found.append(finding("removed_clips", NOTE, detail, ""))
    return found


def overlap_findings(rows: Rows, fold: Fold) -> list[AuditFinding]:
    """Find utterances, speakers and dialogues that two parts of a fold share."""
    found = []
    for one, other in PAIRS:
        ours, theirs = getattr(fold, one), getattr(fold, other)
        if same := sorted(set(ours.tolist()) & set(theirs.tolist())):
            kind = CHOSEN_ON_TEST if (one, other) == ("validation", "test") else f"utterance_overlap_{one}_{other}"
            detail = f"{len(same)} utterances are in both {one} and {other}"
            found.append(finding(kind, LEAK, detail, "put every utterance into one part", rows.id[same], fold.name))
        if shared := _shared(rows.speaker, ours, theirs):
            n = int(np.isin(rows.speaker[theirs], list(shared)).sum())
            detail = (
                f"{len(shared)} speakers are in both {one} and {other}; {n} of {len(theirs)} {other} clips are theirs"
            )
            remedy = "split by speaker: --protocol speaker_folds, or a published protocol of the corpus"
            remedy = "fill in the speaker column" if "" in shared else remedy
            kind = f"speaker_overlap_{one}_{other}"
            found.append(finding(kind, LEAK, detail, remedy, [who or "unknown speaker" for who in shared], fold.name))
        if shared := _shared(rows.dialogue, ours, theirs) - {""}:
            n = int(np.isin(rows.dialogue[theirs], list(shared)).sum())
            detail = f"{n} of {len(theirs)} {other} clips are turns of {len(shared)} dialogues that {one} has turns of"
            remedy = "keep dialogues whole: leave_one_session_out if no speaker is in two sessions, or --protocol fixed"
            found.append(finding(f"dialogue_overlap_{one}_{other}", WARNING, detail, remedy, shared, fold.name))
    return found


def copy_findings(dataset: Dataset, folds: Sequence[Fold], cleared: NotCopies | None = None) -> list[AuditFinding]:
    """Find copies of a recording in two parts: equal samples, or a changed copy.

    Pairs that a person has cleared are not leaks. Equal samples cannot be cleared.
    """
    cleared = cleared or NotCopies()
    ids, hashes = dataset["id"][:], dataset["pcm_sha256"][:]
    equal = defaultdict(list)
    for row, sha in enumerate(hashes):
        if sha is not None:
            equal[sha].append(row)
    identical = [(one, other, 1.0) for group in equal.values() for one, other in combinations(group, 2)]
    similar = similar_pairs([one or b"" for one in dataset["fingerprint"][:]])
    near = [(i, j, score) for i, j, score in similar if hashes[i] != hashes[j]]
    passed = [pair for pair in near if frozenset((ids[pair[0]], ids[pair[1]])) in cleared.pairs]
    found = cleared_findings(cleared, passed, identical, ids)
    near = [pair for pair in near if pair not in passed]
    for what, pairs in (("identical_sound", identical), ("near_identical_sound", near)):
        crossing = 0
        for fold in folds:
            part = _part_of(fold, len(ids))
            for one, other in PAIRS:
                across = [pair for pair in pairs if {part[pair[0]], part[pair[1]]} == {one, other}]
                crossing += len(across)
                if across:
                    kind = f"{what}_{one}_{other}"
                    detail = f"{len(across)} pairs of clips in {one} and {other} are {COPY_TEXT[what]}"
                    found.append(finding(kind, LEAK, detail, COPY_REMEDIES[what], _pair_names(across, ids), fold.name))
        if pairs and not crossing:
            detail = f"{len(pairs)} pairs of clips are {COPY_TEXT[what]}; none is in two parts"
            found.append(finding(what, NOTE, detail, COPY_REMEDIES[what], _pair_names(pairs, ids)))
    return found


CLEARED = "cleared_near_identical_sound"


def cleared_findings(cleared: NotCopies, passed: list[tuple], identical: list[tuple], ids) -> list[AuditFinding]:
    """Report the pairs that a list cleared, and the pairs of the list that had no effect."""
    if not cleared.pairs:
        return []
    # Its hash, since the name of the file would be published with reports and records, and may name people.
    source = f"list with the SHA-256 {cleared.sha256[:16]}"
    detail = (
        f"{len(passed)} pairs of clips that resemble copies of one recording were cleared by a person, by name "
        f"(--not_copies, {source})"
    )
    found = [finding(CLEARED, NOTE, detail, "", _pair_names(passed, ids))] if passed else []
    same = {frozenset((ids[i], ids[j])) for i, j, _ in identical} & cleared.pairs
    if same:
        detail = f"{len(same)} pairs of the {source} are the same recording, sample for sample: they are still reported"
        found.append(finding("not_copies_identical", WARNING, detail, "take them out of the list", _pair_lists(same)))
    unreported = cleared.pairs - same - {frozenset((ids[i], ids[j])) for i, j, _ in passed}
    if unreported:
        detail = f"{len(unreported)} pairs of the {source} were not reported as copies: the list has no effect on them"
        found.append(finding("not_copies_unreported", NOTE, detail, "", _pair_lists(unreported)))
    return found


def _pair_lists(pairs: set[frozenset[str]]) -> list[str]:
    return [" = ".join(sorted(pair)) for pair in pairs]


COPY_TEXT = {
    "identical_sound": "the same recording, sample for sample",
    "near_identical_sound": "copies of one recording",
}
COPY_REMEDY = "keep one of the copies, or give all of them one speaker; augment after the split, only in training"
NEAR_COPY_REMEDY = f"{COPY_REMEDY}; if two clips are not copies (listen to them), list them in a file for --not_copies"
COPY_REMEDIES = {"identical_sound": COPY_REMEDY, "near_identical_sound": NEAR_COPY_REMEDY}


def _pair_names(pairs: list[tuple[int, int, float]], ids: list[str]) -> list[str]:
    return [f"{ids[i]} = {ids[j]}" + (f" ({score:.2f})" if score < 1 else "") for i, j, score in pairs]


def text_findings(rows: Rows, texts: list[str], folds: Sequence[Fold], reads_text: bool) -> list[AuditFinding]:
    """Find out whether the text alone predicts the label, and whether only because the parts share the text."""
    inflated = LEAK if reads_text else WARNING
    order = np.argsort(rows.id)  # so that no figure depends on the order of the data set
    in_order = rows.at(order)
    ordered_texts = [texts[row] for row in order]
    probe = probe_text(ordered_texts, in_order.label, in_order.speaker)
    found = []
    if probe is None:
        detail = "the text could not be probed: too few transcripts, speakers or classes"
        found.append(finding("text_not_probed", NOTE, detail, "fill in the transcript column to have it checked"))
    elif probe.gives_away:
        detail = (
            f"the text alone gives the label: {_figure(probe)}, by TF-IDF and logistic regression on unseen speakers"
        )
        remedy = "look for words that were added by label; use transcripts that were written without knowing it"
        found.append(finding("label_in_text", inflated, detail, remedy, _example_texts(texts, rows)))
    else:
        kind = "text_carries_label" if probe.carries_label else "text_uncertain"
        kind = "text_carries_nothing" if probe.carries_nothing else kind
        detail = f"the text alone, on unseen speakers: {_figure(probe)}"
        remedy = "a fused model can at best equal an audio-only model" if probe.carries_nothing else ""
        found.append(finding(kind, NOTE, detail, remedy))
    for column in TEXT_IDS:
        ids = getattr(rows, column)
        overlaps = {fold.name: _shared(ids, fold.train, fold.test) - {""} for fold in folds}
        if not any(overlaps.values()):
            continue
        severity, detail = NOTE, "the text does not predict the label"
        if probe is None or not probe.carries_nothing:
            severity, detail = _script_effect(ordered_texts, in_order, getattr(in_order, column), column, inflated)
        for fold in folds:
            if shared := overlaps[fold.name]:
                n = int(np.isin(ids[fold.test], list(shared)).sum())
                overlap = f"{n} of {len(fold.test)} test clips have a {column} that training has too; {detail}"
                remedy = f"--protocol {column}_disjoint, or an audio-only model"
                found.append(finding(f"{column}_overlap", severity, overlap, remedy, shared, fold.name))
    return found


def _script_effect(texts: list[str], rows: Rows, ids: np.ndarray, column: str, inflated: str) -> tuple[str, str]:
    """Severity and figures of a shared text: does the UAR of the text fall to chance once the script is unseen?"""
    probes = text_through_script(texts, rows.label, rows.speaker, ids)
    if probes is None:
        return (
            WARNING,
            f"its effect on the text could not be measured (too few rows, speakers or words of each {column})",
        )
    seen, control, unseen = (f"{100 * probe.uar:.1f} %" for probe in (probes.seen, probes.control, probes.unseen))
    detail = (
        f"the text predicts the label of unseen speakers with UAR {seen} ({control} from as few rows), and with "
        f"{unseen} where the {column} is unseen too (chance {100 * probes.seen.chance:.1f} %)"
    )
    if probes.through_script:
        return inflated, detail
    return (NOTE if probes.seen.carries_label or probes.seen.carries_nothing else WARNING), detail


def unknown_speaker_findings(rows: Rows) -> list[AuditFinding]:
    """Find clips without a speaker."""
    unknown = rows.id[rows.speaker == ""].tolist()
    if not unknown:
        return []
    detail = f"{len(unknown)} of {len(rows.id)} clips have no speaker: no split of them can be speaker-independent"
    return [finding("unknown_speakers", WARNING, detail, "fill in the speaker column", unknown)]


def spelling_findings(rows: Rows, folds: Sequence[Fold]) -> list[AuditFinding]:
    """Find speakers and labels whose names are so similar that they may be the same."""
    found = []
    if labels := _similar_names(rows.label):
        detail = f"{len(labels)} labels {DIFFER}, and count as classes of their own"
        found.append(finding("similar_labels", WARNING, detail, "merge them with a --label_map", labels))
    similar = _similar_names(rows.speaker)
    if not similar:
        return found
    keys, has_similar = np.array([look_alike(who) for who in rows.speaker]), np.isin(rows.speaker, similar)
    detail = f"{len(similar)} speakers {DIFFER}"
    remedy = "give each person one name; give different people clearly different names"
    leaks = []
    for fold in folds:
        of_parts = {part: getattr(fold, part)[has_similar[getattr(fold, part)]] for part in SPLITS}
        if crossed := [f"{one} and {other}" for one, other in PAIRS if _shared(keys, of_parts[one], of_parts[other])]:
            shared = f"{detail}; some are in both {', in both '.join(crossed)}"
            leaks.append(finding("similar_speakers", LEAK, shared, remedy, similar, fold.name))
    return [*found, *(leaks or [finding("similar_speakers", WARNING, detail, remedy, similar)])]


DIFFER = "differ only in capitals, blanks, hyphens, dots, leading zeros or letters of the same shape"


def _similar_names(names: np.ndarray) -> list[str]:
    """The names that look like another one."""
    spellings = defaultdict(set)
    for name in set(names.tolist()) - {""}:
        spellings[look_alike(name)].add(name)
    return sorted(name for group in spellings.values() if len(group) > 1 for name in group)


def iemocap_findings(rows: Rows) -> list[AuditFinding]:
    """Find IEMOCAP speakers taken from the wrong letter of the file name."""
    people = defaultdict(set)
    for name, who in zip(rows.id, rows.speaker, strict=True):
        if match := IEMOCAP_NAME.search(name):
            people[who].add("".join(match.groups()))
    mixed = sorted(who for who, names in people.items() if len(names) > 1)
    if not mixed:
        return []
    wrong = [n for n, who in zip(rows.id, rows.speaker, strict=True) if who in mixed and not _named_last(n, who)]
    detail = (
        f"{len(mixed)} speakers of IEMOCAP clips are two people each ({', '.join(mixed)}): the first "
        "letter of a name is the speaker who wears the markers, the last group the one who speaks"
    )
    remedy = "take the speaker from the last group (Ses01F_impro01_M000 is Ses01M), or use --corpus iemocap"
    return [finding("iemocap_speaker_by_prefix", LEAK, detail, remedy, wrong)]


def trivia_findings(dataset: Dataset, rows: Rows) -> list[AuditFinding]:
    """Find properties of the file that predict the label without its speech."""
    columns = dataset.select_columns(list(TRIVIA))[:]
    columns = {name: np.array(columns[name], dtype=object) for name in TRIVIA}
    order = np.argsort(rows.id)
    with_audio = order[[columns["duration_seconds"][row] is not None for row in order]]
    kept = rows.at(with_audio)
    columns = {name: column[with_audio] for name, column in columns.items()}
    if len(with_audio) and set(kept.corpus) == {"table"}:
        # In other corpora the label is read from the name.
        columns["name"] = np.array([name.rsplit("/", 1)[-1] for name in kept.id], dtype=object)
    found = []
    for name, probe in probe_trivia(columns, kept.label, kept.speaker).items():
        if probe.carries_label or probe.depends_on_label:
            detail = f"{TRIVIA_TEXT[name]} differs with the label; alone, on unseen speakers, it gives {_figure(probe)}"
            severity = WARNING if probe.carries_label and name != "name" else NOTE
            found.append(finding(f"shortcut_{name}", severity, detail, TRIVIA_REMEDIES.get(name, REMEDY_TRIVIA)))
    return found


TRIVIA_TEXT = {
    "duration_seconds": "the length of a clip",
    "leading_zeros_seconds": "the digital silence at the start of a clip",
    "level_dbfs": "the loudness of a clip",
    "source_bytes": "the size of the file",
    "source_format": "the format of the file",
    "name": "the name of the file",
}
REMEDY_TRIVIA = "make sure that the model cannot use it, and test on recordings of another source"
TRIVIA_REMEDIES = {
    "leading_zeros_seconds": "use a network that cuts silence off (random_kernels, crnn), or trim all clips before use",
    "level_dbfs": "normalise the level or vary the gain in training; loudness is also a part of expression",
    "name": "harmless, since no model reads file names",
}


def speaker_findings(rows: Rows) -> list[AuditFinding]:
    """Find labels that hardly vary within speakers, so that the voice gives the label."""
    probe = probe_speaker(rows.label, rows.speaker)
    if probe is None or probe.gain < SPEAKER_NOTE - ROUNDING:
        return []
    labels_of = defaultdict(set)
    for who, label in zip(rows.speaker, rows.label, strict=True):
        labels_of[who].add(label)
    single = [who for who, labels in labels_of.items() if who and len(labels) == 1]
    detail = (
        f"the speaker alone gives the label of {100 * probe.accuracy:.1f} % of clips: each predicted as the most "
        f"frequent label of its speaker's other clips ({probe.n} clips of {probe.speakers} speakers; the most frequent "
        f"label of all is right for {100 * probe.majority:.1f} %); {len(single)} of {len(labels_of.keys() - {''})} "
        "speakers have one label only"
    )
    remedy = (
        "a model may learn voices instead of emotions: test it on unseen speakers, by UAR, and record several emotions "
        "of each speaker"
    )
    severity = WARNING if probe.gain >= SPEAKER_WARNING - ROUNDING else NOTE
    return [finding("label_by_speaker", severity, detail, remedy, single)]


def balance_findings(rows: Rows, folds: Sequence[Fold]) -> list[AuditFinding]:
    """Find classes missing from a part, class imbalance, and classes spoken mostly by one sex."""
    counts, found = Counter(rows.label.tolist()), []
    for fold in folds:
        for part in SPLITS:
            indices = getattr(fold, part)
            if len(indices) and (missing := sorted(counts.keys() - set(rows.label[indices].tolist()))):
                detail = f"{part} has no clip of {', '.join(missing)}"
                remedy = "evaluate all folds together, or choose a protocol whose parts have every class"
                found.append(finding(f"missing_class_{part}", WARNING, detail, remedy, missing, fold.name))
    (most, n), (least, m) = counts.most_common(1)[0], counts.most_common()[-1]
    if n > CLASS_RATIO * m:
        detail = f"{most} has {n} clips, {least} {m}: a ratio of {n / m:.1f}"
        found.append(finding("class_imbalance", WARNING, detail, "evaluate by UAR, which weights classes equally"))
    known = rows.sex != ""
    if known.any():
        women = (rows.sex == "female")[known]
        for label in counts:
            of_label = rows.label[known] == label
            if of_label.any() and abs(women[of_label].mean() - women.mean()) > SEX_DIFFERENCE + ROUNDING:
                share, of_all = 100 * women[of_label].mean(), 100 * women.mean()
                detail = f"{share:.0f} % of {label} is spoken by women, {of_all:.0f} % of all"
                remedy = "a model may learn the sex instead: look at per_sex in the report, record the other sex too"
                found.append(finding("sex_imbalance", WARNING, detail, remedy, [label]))
    return found


def _shared(values: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> set[str]:
    return set(values[ours].tolist()) & set(values[theirs].tolist())


def _part_of(fold: Fold, n_rows: int) -> list[str]:
    part = [""] * n_rows
    for name in SPLITS:
        for row in getattr(fold, name):
            part[row] = name
    return part


def _figure(probe: Probe) -> str:
    interval = f"{100 * probe.low:.1f} to {100 * probe.high:.1f}"
    return f"UAR {100 * probe.uar:.1f} % ({interval}, chance {100 * probe.chance:.1f} %)"


def _named_last(name: str, who: str) -> bool:
    return who.endswith("".join(IEMOCAP_NAME.search(name).groups()))


def _example_texts(texts: list[str], rows: Rows) -> list[str]:
    """The transcript of one clip of each class."""
    first = {label: row for row, label in reversed(list(enumerate(rows.label)))}
    return [f"{rows.id[row]} ({label}): {texts[row]}" for label, row in first.items()]


def recogniser_findings(dataset: Dataset, folds: Sequence[Fold], folder: str | Path) -> list[AuditFinding]:
    """Check that the recogniser of the transcripts was not trained on validation or test rows of a fold.

    Args:
        dataset, folds: The data set and its split.
        folder: Folder of the data set, in which `asr` holds the recogniser's training record.
    """
    record = {"transcripts": str(Path(folder) / ASR_RECORD)}
    detail = "the recogniser of the transcripts was trained on validation or test speakers or clips of this fold"
    found = []
    if is_withheld(ancestry(record["transcripts"])):
        unknown = f"the recogniser of the transcripts: {TRAINING_WITHHELD}"
        found = [finding("recogniser_withheld", WARNING, unknown, "use a recogniser that you trained", [])]
    return found + [
        finding(kind, LEAK, detail, REMEDIES["transcripts"], [], fold.name)
        for fold in folds
        for kind in stage_leaks(dataset, fold, record, allow_leak=True)
    ]
