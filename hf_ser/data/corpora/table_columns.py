"""Columns of a user's table: which are read, and by which names."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hf_ser.data.corpora.table_names import END, MILLISECONDS, START, TIMES, by_other_names, doubtful_columns
from hf_ser.data.schema import METADATA_COLUMNS, Finding
from hf_ser.normal_form import normal_form, printable

KNOWN = ("path", "label", "votes", "id", *METADATA_COLUMNS, "channel", *TIMES)
"""Columns that are read, besides `votes:<label>`, one for each label. `end` is preferred to `duration`, seconds to
milliseconds."""

ALIASES = {"start_seconds": "start", "end_seconds": "end"}
VOTES = "votes:"
SEPARATOR = "separator of its table"
"""Key of a row, besides its columns, with the separator of its table."""

NAMES = ("speaker", "session", "dialogue", "script", "scene", "sentence", "race", "ethnicity")
"""Columns of names, in which spellings of "not known" count as empty."""
ALTERNATIVE_TIMES = [one for one in TIMES if one not in ("start", "end")]
"""Read if there is no `start` or `end`: a duration alone is that of the whole file."""

MAX_LISTED = 20
"""Columns that a finding lists."""


@dataclass(frozen=True)
class Rows:
    """Rows of a table or data set, with the column names of KNOWN.

    Args:
        where: Name in messages.
        folder: Base of relative paths.
        rows: A dictionary per clip; `path` is a text or a `Cell`.
        findings: Remarks.
        free_splits: Whether unknown split names are only reported, as those of a data set.
    """

    where: str
    folder: Path
    rows: list[dict]
    findings: list[Finding] = field(default_factory=list)
    free_splits: bool = False


@dataclass(frozen=True)
class Naming:
    """Column names of a corpus, ours to theirs.

    Args:
        requested: Names that the user gave; an empty one leaves our column out.
        usual: Default names of this kind of data.
        needs_label: Whether a column of labels or votes is required.
        alternatives: Other names that are tried in order if our column is missing.
    """

    requested: Mapping[str, str]
    usual: Mapping[str, str] = field(default_factory=dict)
    needs_label: bool = True
    alternatives: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def named(self, where: str, found: list[str]) -> dict[str, str]:
        """Map our names to those of the data, for the columns that are read.

        Args:
            where: Name of the data in messages.
            found: Columns of the data; capitals are ignored. A column in `requested` is not read under its own name.

        Raises:
            ValueError: an unknown, missing, repeated or ambiguous column, or no path or label.
        """
        given = {ours: theirs for ours, theirs in self.usual.items() if theirs in found} | self._requested_names(
            where, found
        )
        names = {ours: theirs for ours, theirs in given.items() if theirs is not None}
        taken = set(names.values())
        for theirs in (name for name in dict.fromkeys(found) if name not in taken):
            ours = _our_name(theirs)
            if not is_known(ours) or ours in given or ours in ALTERNATIVE_TIMES:
                continue
            if ours in names:
                raise ValueError(
                    f"{where}: found columns {printable(names[ours])} and {printable(theirs)}. Expected one column for "
                    f"`{ours}`: remove one, or give --columns {ours}={printable(theirs)}."
                )
            names[ours] = theirs
        spelled = {normal_form(name).lower(): name for name in reversed(found)}
        for ours, others in self.alternatives.items():
            there = [spelled[name] for name in others if name in spelled and spelled[name] not in names.values()]
            if ours not in names and ours not in given and there:
                names[ours] = there[0]
        names |= by_other_names(found, names, self.left_out)
        self._check(where, found, names)
        self._check_has_ends(where, found, names)
        return names

    @property
    def left_out(self) -> list[str]:
        """Our columns with an empty name."""
        return [
            ALIASES.get(ours, ours) for ours, theirs in self.requested.items() if not theirs and not is_cell_entry(ours)
        ]

    def findings(self, where: str, found: list[str], names: Mapping[str, str]) -> list[Finding]:
        """Report columns that were read by another name, and those that were not read.

        Args:
            where, found: As of `named`.
            names: Result of `named`.
        """
        findings, requested = [], [ALIASES.get(ours, ours) for ours in self.requested]
        other = {
            ours: theirs
            for ours, theirs in names.items()
            if ours not in requested and _our_name(theirs) != ours and self.usual.get(ours) != theirs
        }
        if other:
            listed = ", ".join(f"{printable(theirs)} as `{ours}`" for ours, theirs in other.items())
            findings.append(Finding("read_as", where, f"columns by another name: read {listed}", count=len(other)))
        unread = list(dict.fromkeys(name for name in found if name not in names.values()))
        for theirs, what, ours in doubtful_columns(unread, names, self.left_out):
            detail = (
                f"the name seems to be that of {what}, and it is not read: give {_example(ours, theirs)} if it is, or "
                f"--columns {ours}= (nothing after the equals sign) if it is not"
            )
            findings.append(Finding("doubtful_column", f"{where}, column {printable(theirs)}", detail))
        if unread:
            listed = ", ".join(printable(name) for name in unread[:MAX_LISTED])
            more = f" and {len(unread) - MAX_LISTED} others" if len(unread) > MAX_LISTED else ""
            findings.append(Finding("unread_columns", where, f"not read: {listed}{more}", count=len(unread)))
        return findings

    def _check_has_ends(self, where: str, found: list[str], names: Mapping[str, str]) -> None:
        """Refuse starts without ends if an unread column may have the ends."""
        if not any(one in names for one in START) or any(one in names or one in self.left_out for one in END):
            return
        unread = [name for name in found if name not in names.values()]
        for theirs, what, ours in doubtful_columns(unread, [*names, *START], self.left_out):
            if what == "a time":
                start = next(names[one] for one in START if one in names)
                raise ValueError(
                    f"{where}: found the starts of clips in the column {printable(start)}, no ends, and a column "
                    f"{printable(theirs)} that is not read. Expected `end` or `duration`: give "
                    f"{_example(ours, theirs)}, or --columns end= (nothing after the equals sign) if every clip "
                    "extends to the end of its file."
                )

    def _check(self, where: str, found: list[str], names: dict[str, str]) -> None:
        counts = Counter(found)
        if twice := [(ours, theirs) for ours, theirs in names.items() if counts[theirs] > 1]:
            ours, theirs = twice[0]
            raise ValueError(
                f"{where}: found {counts[theirs]} columns `{printable(theirs)}`, and only one of them can be "
                f"`{ours}`. Expected every name once: rename or remove the others in the table."
            )
        has_label = not self.needs_label or any(name == "label" or name.startswith("votes") for name in names)
        if "path" not in names or not has_label:
            wanted = "`path` and `label` (or `votes`), and if known `speaker`, `sex`, `transcript`"
            example = "path=FILE,label=EMOTION"
            if not self.needs_label:
                wanted, example = "`path`, and if known `transcript`, `start`, `end`", "path=FILE"
            raise ValueError(
                f"{where}: found columns {', '.join(map(printable, found))}. Expected {wanted}: rename the columns, or "
                f"name them as --columns {example}.{_other_separator(found)}"
            )

    def _requested_names(self, where: str, found: list[str]) -> dict[str, str | None]:
        spelled = {normal_form(name).lower(): name for name in found} | {name: name for name in found}
        names = {}
        for ours, theirs in self.requested.items():
            ours = ALIASES.get(ours, ours)
            if is_cell_entry(ours):
                continue
            if not is_known(ours):
                raise ValueError(
                    f"--columns: found '{ours}={theirs}'. Expected before the = one of {', '.join(KNOWN)}, or "
                    "votes:LABEL for the column of votes for one label (label:CELL=NAME gives the meaning of a cell)."
                )
            names[ours] = (spelled.get(theirs) or spelled.get(normal_form(theirs).lower())) if theirs else None
            if theirs and names[ours] is None:
                raise ValueError(
                    f"{where}: found columns {', '.join(map(printable, found))}. Expected '{theirs}', which --columns "
                    f"gives for `{ours}`: name an existing column."
                )
        return names


def is_known(ours: str) -> bool:
    """Whether a column with this name is read."""
    return ours in KNOWN or (ours.startswith(VOTES) and ours != VOTES)


def is_cell_entry(requested: str) -> bool:
    """Whether an entry of `--columns` is about cells, not a column: `label:NA`, `speaker:Nan`."""
    column, colon, cell = requested.partition(":")
    return bool(colon and cell) and column in ("label", *NAMES)


def cell_meanings(columns: Mapping[str, str]) -> dict[tuple[str, str], str | None]:
    """Meaning of cells by the user: `label:NA=NA` keeps one, `label:+=positive` renames it, `label:-=` drops it."""
    given = {tuple(requested.split(":", 1)): name for requested, name in columns.items() if is_cell_entry(requested)}
    return {(column, normal_form(cell)): name or None for (column, cell), name in given.items()}


def _our_name(theirs: str) -> str:
    name = normal_form(theirs)
    ours = ALIASES.get(name.lower(), name.lower())
    return VOTES + name[len(VOTES) :].strip() if ours.startswith(VOTES) else ours  # a label keeps its capitals


def _other_separator(found: list[str]) -> str:
    """Remedy for a header that is read as one cell."""
    marks = Counter(re.findall(r"[|;:^~,\t]", found[0])) if len(found) == 1 else Counter()
    if not marks:
        return ""
    ((mark, _),) = marks.most_common(1)
    name = "a tab" if mark == "\t" else f"'{mark}'"
    return (
        f" Its cells seem to be separated by {name}: commas, semicolons and tabs are read, and any other separator "
        f"after a first line `sep={mark}`."
    )


def _example(ours: str, theirs: str) -> str:
    """Option that reads a column."""
    option = f"--columns {ours}={printable(theirs)}"
    return f"{option} ({ours}{MILLISECONDS}= in milliseconds)" if ours in TIMES else option
