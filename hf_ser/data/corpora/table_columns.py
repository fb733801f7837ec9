"""The columns of a user's own table: which are read, and by which names."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hf_ser.data.corpora.table_names import END, MILLISECONDS, START, TIMES, by_other_names, doubtful_columns
from hf_ser.data.schema import TOLD, Finding
from hf_ser.normal_form import normal_form, printable

KNOWN = ("path", "label", "votes", "id", *TOLD, "channel", *TIMES)
"""Columns that are read; beside them `votes:<label>`, one for each label. `end` goes before `duration`, and times in
seconds before those in milliseconds."""

ALSO = {"start_seconds": "start", "end_seconds": "end"}
VOTES = "votes:"
SEPARATOR = "separator of its table"
"""Key of a row beside the names of its columns: what parts the cells, in a table of separated text."""

NAMES = ("speaker", "session", "dialogue", "script", "scene", "sentence", "race", "ethnicity")
"""Columns of names, in which words for "not known" count as empty."""
ONLY_IN_PLACE = [one for one in TIMES if one not in ("start", "end")]
"""Read where there is no `start` or `end`: a duration alone is that of the whole file."""

MAX_NAMED = 20
"""Columns that a finding names."""


@dataclass(frozen=True)
class Rows:
    """What was found, by the names of KNOWN.

    Args:
        where: What messages call it.
        folder: Where relative paths begin.
        rows: A dictionary a clip; `path` is a text or a `Cell`.
        findings: What was passed over.
        free_splits: Whether an unknown split is the name that somebody gave a part of a data set, and only reported.
    """

    where: str
    folder: Path
    rows: list[dict]
    findings: list[Finding] = field(default_factory=list)
    free_splits: bool = False


@dataclass(frozen=True)
class Naming:
    """How the columns of a corpus are named.

    Args:
        asked: Names that the user gave, ours with theirs; an empty one leaves our column out.
        usual: Names that this kind of data has where the user gives none, ours with theirs.
        needs_label: Whether there must be a column of labels or votes.
        otherwise: Names that are looked for where a column of ours is not there, the first that is found.
    """

    asked: Mapping[str, str]
    usual: Mapping[str, str] = field(default_factory=dict)
    needs_label: bool = True
    otherwise: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def named(self, where: str, found: list[str]) -> dict[str, str]:
        """Our name of each column that is read, with the name that it has in the data.

        Args:
            where: What messages call the data.
            found: Columns that are there; their capitals do not count. A column that `asked` names is not read under
                its own name.

        Raises:
            ValueError: an unknown name, a column that is not there or is there twice, two for one name, or no path or
                label.
        """
        given = {ours: theirs for ours, theirs in self.usual.items() if theirs in found} | self._asked(where, found)
        names = {ours: theirs for ours, theirs in given.items() if theirs is not None}
        taken = set(names.values())
        for theirs in (name for name in dict.fromkeys(found) if name not in taken):
            ours = _our_name(theirs)
            if not is_known(ours) or ours in given or ours in ONLY_IN_PLACE:
                continue
            if ours in names:
                raise ValueError(
                    f"{where}: found columns {printable(names[ours])} and {printable(theirs)}. Expected one column for "
                    f"`{ours}`: remove one, or say --columns {ours}={printable(theirs)}."
                )
            names[ours] = theirs
        spelled = {normal_form(name).lower(): name for name in reversed(found)}
        for ours, others in self.otherwise.items():
            there = [spelled[name] for name in others if name in spelled and spelled[name] not in names.values()]
            if ours not in names and ours not in given and there:
                names[ours] = there[0]
        names |= by_other_names(found, names, self.left_out)
        self._check(where, found, names)
        self._check_has_ends(where, found, names)
        return names

    @property
    def left_out(self) -> list[str]:
        """Our columns that the user gave an empty name."""
        return [ALSO.get(ours, ours) for ours, theirs in self.asked.items() if not theirs and not is_of_cells(ours)]

    def findings(self, where: str, found: list[str], names: Mapping[str, str]) -> list[Finding]:
        """Say which columns were read by another name, and which were not read.

        Args:
            where, found: As of `named`.
            names: What it gave.
        """
        findings, asked = [], [ALSO.get(ours, ours) for ours in self.asked]
        other = {
            ours: theirs
            for ours, theirs in names.items()
            if ours not in asked and _our_name(theirs) != ours and self.usual.get(ours) != theirs
        }
        if other:
            said = ", ".join(f"{printable(theirs)} as `{ours}`" for ours, theirs in other.items())
            findings.append(Finding("read_as", where, f"columns by another name: read {said}", count=len(other)))
        unread = list(dict.fromkeys(name for name in found if name not in names.values()))
        for theirs, what, ours in doubtful_columns(unread, names, self.left_out):
            detail = (
                f"the name seems to be that of {what}, and it is not read: say {_example(ours, theirs)} if it is, or "
                f"--columns {ours}= (nothing after the equals sign) if it is not"
            )
            findings.append(Finding("doubtful_column", f"{where}, column {printable(theirs)}", detail))
        if unread:
            said = ", ".join(printable(name) for name in unread[:MAX_NAMED])
            more = f" and {len(unread) - MAX_NAMED} others" if len(unread) > MAX_NAMED else ""
            findings.append(Finding("unread_columns", where, f"not read: {said}{more}", count=len(unread)))
        return findings

    def _check_has_ends(self, where: str, found: list[str], names: Mapping[str, str]) -> None:
        """Make sure that no clip runs to the end of its file where a column that is not read may end it."""
        if not any(one in names for one in START) or any(one in names or one in self.left_out for one in END):
            return
        unread = [name for name in found if name not in names.values()]
        for theirs, what, ours in doubtful_columns(unread, [*names, *START], self.left_out):
            if what == "a time":
                start = next(names[one] for one in START if one in names)
                raise ValueError(
                    f"{where}: found the starts of clips in the column {printable(start)}, no ends, and a column "
                    f"{printable(theirs)} that is not read. Expected `end` or `duration`: say "
                    f"{_example(ours, theirs)}, or --columns end= (nothing after the equals sign) if every clip goes "
                    "on to the end of its file."
                )

    def _check(self, where: str, found: list[str], names: dict[str, str]) -> None:
        counts = Counter(found)
        if twice := [(ours, theirs) for ours, theirs in names.items() if counts[theirs] > 1]:
            ours, theirs = twice[0]
            raise ValueError(
                f"{where}: found {counts[theirs]} columns `{printable(theirs)}`, and one of them alone can be "
                f"`{ours}`. Expected every name once: rename or remove the others in the table."
            )
        has_label = not self.needs_label or any(name == "label" or name.startswith("votes") for name in names)
        if "path" not in names or not has_label:
            wanted = "`path` and `label` (or `votes`), and where known `speaker`, `sex`, `transcript`"
            example = "path=FILE,label=EMOTION"
            if not self.needs_label:
                wanted, example = "`path`, and where known `transcript`, `start`, `end`", "path=FILE"
            raise ValueError(
                f"{where}: found columns {', '.join(map(printable, found))}. Expected {wanted}: rename the columns, or "
                f"name them as --columns {example}.{_other_separator(found)}"
            )

    def _asked(self, where: str, found: list[str]) -> dict[str, str | None]:
        spelled = {normal_form(name).lower(): name for name in found} | {name: name for name in found}
        names = {}
        for ours, theirs in self.asked.items():
            ours = ALSO.get(ours, ours)
            if is_of_cells(ours):
                continue
            if not is_known(ours):
                raise ValueError(
                    f"--columns: found '{ours}={theirs}'. Expected before the = one of {', '.join(KNOWN)}, or "
                    "votes:LABEL for the column of the votes for one label: name one of these (what a cell means is "
                    "said by label:CELL=NAME)."
                )
            names[ours] = (spelled.get(theirs) or spelled.get(normal_form(theirs).lower())) if theirs else None
            if theirs and names[ours] is None:
                raise ValueError(
                    f"{where}: found columns {', '.join(map(printable, found))}. Expected '{theirs}', which --columns "
                    f"gives for `{ours}`: name a column that is there."
                )
        return names


def is_known(ours: str) -> bool:
    """Whether a column of this name is read."""
    return ours in KNOWN or (ours.startswith(VOTES) and ours != VOTES)


def is_of_cells(asked: str) -> bool:
    """Whether the left side of an entry of `--columns` names cells and no column: `label:NA`, `speaker:Nan`."""
    column, colon, cell = asked.partition(":")
    return bool(colon and cell) and column in ("label", *NAMES)


def meanings(columns: Mapping[str, str]) -> dict[tuple[str, str], str | None]:
    """What the user says that cells mean: `label:NA=NA` keeps one, `label:+=positive` names it, `label:-=` drops it."""
    said = {tuple(asked.split(":", 1)): name for asked, name in columns.items() if is_of_cells(asked)}
    return {(column, normal_form(cell)): name or None for (column, cell), name in said.items()}


def _our_name(theirs: str) -> str:
    name = normal_form(theirs)
    ours = ALSO.get(name.lower(), name.lower())
    return VOTES + name[len(VOTES) :].strip() if ours.startswith(VOTES) else ours  # a label keeps its capitals


def _other_separator(found: list[str]) -> str:
    """What to do where a header is one cell for its reader."""
    marks = Counter(re.findall(r"[|;:^~,\t]", found[0])) if len(found) == 1 else Counter()
    if not marks:
        return ""
    ((mark, _),) = marks.most_common(1)
    name = "a tab" if mark == "\t" else f"'{mark}'"
    return (
        f" Its cells look parted by {name}: commas, semicolons and tabs are read, and any other sign behind a first "
        f"line `sep={mark}`."
    )


def _example(ours: str, theirs: str) -> str:
    """What to write to have a column read."""
    said = f"--columns {ours}={printable(theirs)}"
    return f"{said} ({ours}{MILLISECONDS}= in milliseconds)" if ours in TIMES else said
