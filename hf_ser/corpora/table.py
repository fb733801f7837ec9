"""A user's own corpus: a table with a row for each clip, a folder for each label, or a data set of `datasets`.

A table has the columns `path` (relative to the table's folder, or absolute) and `label` or votes: `votes`, an object of
counts by label (in a CSV, JSON), or `votes:<label>`, a column of counts for each label. `start` and `end` are the
seconds of a clip that is part of a file, `channel` (left, right or mix) its channel. All others are optional: `id`, and
what `hf_ser.columns.TOLD` names.
"""

import json
import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path, PureWindowsPath

from hf_ser.columns import DIALOGUE_KINDS, NUMBERS, REFERENCE, SEXES, SPLITS, TOLD, Finding, Listing, Utterance
from hf_ser.corpora.table_rows import VOTES, Cell, Rows, read_rows
from hf_ser.models.decoding import CHANNELS

LICENCE = "the user's own"
MAY_BE_SHARED = None
SOURCE = "the user's own"
LANGUAGE = None

WORDS = {
    "sex": (SEXES, {"w": "female", "woman": "female", "man": "male"}),
    "split": (SPLITS, {"dev": "validation"}),
    "dialogue_kind": (DIALOGUE_KINDS, {"improvised": "impro", "scripted": "script"}),
}
CHANNEL_WORDS = {
    "1": "left",
    "2": "right",
    "l": "left",
    "r": "right",
    "mono": "mix",
    **{name: name for name in CHANNELS},
}
"""What a column `channel` may say."""

"""The words of a column, and other words for them; their beginnings are understood too."""


def list_utterances(
    data_dir: str | Path, columns: dict[str, str] | None = None, speaker_pattern: str | None = None
) -> Listing:
    """List the clips of a table, of a folder or of a data set.

    Args:
        data_dir: A .csv, .tsv, .jsonl or .parquet file; a folder with a sub-folder for each label, or a metadata.csv
            with `file_name`; a folder of `datasets.save_to_disk`; or the Hub id of a data set, as `user/name`,
            `user/name@revision` or `user/name:config`.
        columns: Names of the columns where they are not ours: `{"path": "file", "votes:angry": "ang"}`.
        speaker_pattern: Regular expression whose one group is the speaker, searched for in the path of a clip relative
            to `data_dir`, where no column tells the speaker.

    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: not a kind of table that is read, a column is missing, or no row has a label.
    """
    pattern = _pattern(speaker_pattern)
    return _listing(read_rows(data_dir, columns or {}), pattern)


def _pattern(text: str | None) -> re.Pattern | None:
    try:
        pattern = re.compile(text) if text is not None else None
    except re.error as error:
        raise ValueError(f"--speaker_pattern '{text}': no regular expression ({error}). Mend it.") from error
    if pattern is not None and pattern.groups != 1:
        raise ValueError(
            f"--speaker_pattern '{text}': found {pattern.groups} groups. Expected one, around the speaker, such as "
            r"'speaker(\d+)/': write others as (?:...)."
        )
    return pattern


def _listing(source: Rows, pattern: re.Pattern | None) -> Listing:
    utterances, findings, uses = [], list(source.findings), Counter()
    for number, row in enumerate(source.rows, start=1):
        place = f"{Path(source.where).name}, row {number}"
        votes = _votes(row, f"{source.where}, row {number}")
        label = _text(row.get("label")) or _majority(votes)
        name = _name(row["path"])
        if problem := "no path" if not name else "no label, and no majority of votes" if not label else None:
            findings.append(Finding("incomplete_row", place, problem, skipped=True))
            continue
        try:
            part = _part(row)
            channel = _channel(row)
        except ValueError as error:
            findings.append(Finding("bad_segment", place, str(error), skipped=True))
            continue
        unique = _unique(_text(row.get("id")) or name + _suffix(part) + (f"@{channel}" if channel else ""), uses)
        if _text(row.get("id")) not in (None, unique):
            detail = f"the id {_text(row['id'])} was there before, so this row is {unique}"
            findings.append(Finding("repeated_id", f"table/{unique}", detail))
        known, odd = _known(row)
        known["speaker"] = known["speaker"] or _speaker(source.folder, name, pattern)
        findings += [Finding(kind, f"table/{unique}", detail) for kind, detail in odd]
        known["channel"] = channel
        utterances.append(_utterance(source.folder, row["path"], unique, label, votes, part, known))
    if not utterances:
        raise ValueError(
            f"{source.where}: none of its {len(source.rows)} rows has a path and a label: fill these columns in."
        )
    findings += _speaker_findings(source.where, utterances, pattern)
    return _with_labels(utterances, findings)


def _with_labels(utterances: list[Utterance], findings: list[Finding]) -> Listing:
    """Name the labels; votes for what is nobody's label are left out."""
    labels = {utterance.label for utterance in utterances}
    spellings = Counter(name.lower() for name in labels)
    findings += [
        Finding(
            "similar_label", f"label {name}", "differs from another only in capitals, and counts as a class of its own"
        )
        for name in sorted(labels)
        if spellings[name.lower()] > 1
    ]
    lost = Counter(name for u in utterances for name in u.votes or {} if name not in labels)
    findings += [
        Finding("lost_votes", f"votes for {name}", f"no clip has this label; left out of {count} clips' votes")
        for name, count in sorted(lost.items())
    ]
    utterances = [replace(u, votes=_among(u.votes, labels)) if u.votes else u for u in utterances]
    return Listing(tuple(sorted(labels)), utterances, findings)


def _speaker_findings(where: str, utterances: list[Utterance], pattern: re.Pattern | None) -> list[Finding]:
    unknown = [utterance.id for utterance in utterances if utterance.speaker is None]
    if len(unknown) == len(utterances):
        remedy = "add a column `speaker`, or say --speaker_pattern, for a split by speaker needs to know who speaks"
        return [Finding("no_speakers", where, f"no clip has a speaker: {remedy}")]
    if unknown and pattern is not None:
        detail = f"'{pattern.pattern}' finds no speaker in {len(unknown)} paths, the first that of {unknown[0]}"
        return [Finding("speaker_not_in_path", where, detail)]
    return []


def _utterance(folder: Path, path, name: str, label: str, votes: dict | None, part: tuple, known: dict) -> Utterance:
    audio = path if isinstance(path, Cell) else folder / _local(folder, _text(path))
    start, end = part
    return Utterance(
        id=f"table/{name}",
        audio=audio,
        label=label,
        corpus="table",
        votes=votes,
        start_seconds=start,
        end_seconds=end,
        **known | {"speaker": f"table/{known['speaker']}" if known["speaker"] else None},
    )


def _local(folder: Path, path: str) -> Path:
    windows = "\\" in path and not (folder / path).is_file()  # a table written on Windows
    return Path(PureWindowsPath(path).as_posix() if windows else path)


def _name(path) -> str | None:
    return path.name if isinstance(path, Cell) else _text(path)


def _speaker(folder: Path, name: str, pattern: re.Pattern | None) -> str | None:
    if pattern is None:
        return None
    path = _local(folder, name)
    found = pattern.search((path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix())
    return found[1] if found else None


def _unique(name: str, uses: Counter) -> str:
    unique = name
    while unique in uses:
        uses[name] += 1
        unique = f"{name}#{uses[name]}"
    uses[unique] += 1
    return unique


def _known(row: dict) -> tuple[dict, list[tuple[str, str]]]:
    """What a row tells beside path and label, and the kind and detail of each finding about it."""
    known, odd = {column: _text(row.get(column)) for column in TOLD}, []
    for column, (words, others) in WORDS.items():
        given = known[column]
        known[column] = _word(given, words, others) if given else None
        if given and known[column] is None:
            odd.append((f"unknown_{column}", f"found '{given}', expected {' or '.join(words)}"))
    for column in NUMBERS:
        try:
            known[column] = _number(row.get(column))
        except ValueError as error:
            known[column] = None
            odd.append(("bad_number", f"{column}: {error}"))
    known["transcript_source"] = (known["transcript_source"] or REFERENCE) if known["transcript"] else None
    return known, odd


def _part(row: dict) -> tuple[float | None, float | None]:
    start, end = _number(row.get("start")), _number(row.get("end"))
    if (start or 0.0) < 0 or (end is not None and end <= (start or 0.0)):
        raise ValueError(f"found seconds {start} to {end}, expected a start from 0 on and an end after it")
    return start, end


def _channel(row: dict) -> str | None:
    given = (_text(row.get("channel")) or "").lower()
    if given and given not in CHANNEL_WORDS:
        raise ValueError(f"found the channel '{given}', expected left, right or mix (or 1, 2)")
    return CHANNEL_WORDS.get(given)


def _suffix(part: tuple[float | None, float | None]) -> str:
    """`@1.5-3` of a clip that is part of a file, to the millisecond."""
    start, end = part
    if start is None and end is None:
        return ""
    return f"@{round(start or 0.0, 3):.10g}-{'' if end is None else f'{round(end, 3):.10g}'}"


def _text(value) -> str | None:
    if isinstance(value, float) and value.is_integer():  # what a column of whole numbers with gaps becomes
        value = int(value)
    return str(value).strip() or None if value is not None else None


def _number(value) -> float | None:
    text = _text(value)
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"found '{text}', expected a number")
    return number


def _word(given: str, words: tuple[str, ...], others: dict[str, str]) -> str | None:
    begun = [word for word in words if word.startswith(given.lower())]
    return others.get(given.lower()) or (begun[0] if len(begun) == 1 else None)


def _votes(row: dict, where: str) -> dict[str, float] | None:
    spread = {name.removeprefix(VOTES): count for name, count in row.items() if name.startswith(VOTES)}
    value = row.get("votes")
    if value is None or value == "":
        value = {name: count for name, count in spread.items() if _text(count)}
    try:
        votes = json.loads(value) if isinstance(value, str) else dict(value)
        votes = {str(name): float(count) for name, count in votes.items() if count is not None}
        if not all(0 <= count < float("inf") for count in votes.values()):
            raise ValueError("a count is negative or not finite")
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{where}: votes are {value!r}. Expected an object of counts by label such as {{"angry": 2, "sad": 1}}.'
        ) from error
    return votes if sum(votes.values()) > 0 else None


def _majority(votes: dict[str, float] | None) -> str | None:
    first, *rest = sorted((votes or {}).items(), key=lambda vote: -vote[1]) or [(None, 0)]
    return None if rest and rest[0][1] == first[1] else first[0]


def _among(votes: dict[str, float], labels: set[str]) -> dict[str, float] | None:
    kept = {name: count for name, count in votes.items() if name in labels}
    return kept if sum(kept.values()) > 0 else None
