"""Who speaks when, from an RTTM file, as diarisation programs write it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Turn:
    """A stretch in which one speaker speaks.

    Args:
        start, end: Seconds.
        speaker: Name.
    """

    start: float
    end: float
    speaker: str


def read_turns(path: str | Path, recording: str | None = None) -> list[Turn]:
    """Read the SPEAKER lines of an RTTM file, in order of time.

    Args:
        path: The file.
        recording: Name of the recording without its ending; of a file with lines of several recordings only those of
            this one are read.

    Raises:
        FileNotFoundError, ValueError: there is no such file, a line is not of this form, or there are no turns.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file. Expected an RTTM file: check its name and folder.")
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: {error}. Expected an RTTM file in UTF-8: save it as such.") from error
    turns, names = [], set()
    for number, line in enumerate(lines, start=1):
        cells = line.split()
        if not cells or cells[0] != "SPEAKER":
            continue
        try:
            name, start, length, speaker = cells[1], float(cells[3]), float(cells[4]), cells[7]
            if not (0 <= start < float("inf") and 0 < length < float("inf")):
                raise ValueError
        except (IndexError, ValueError):
            raise ValueError(
                f"{path}, line {number}: found {line[:100]!r}. Expected SPEAKER RECORDING CHANNEL START SECONDS <NA> "
                "<NA> NAME <NA> <NA>: mend the line."
            ) from None
        names.add(name)
        turns.append((name, Turn(start, start + length, speaker)))
    wanted = {recording} if len(names) > 1 else names
    found = sorted((turn for name, turn in turns if name in wanted), key=lambda turn: (turn.start, turn.speaker))
    if not found:
        more = f" of {recording}, only of {', '.join(sorted(names)[:5])}" if names else ""
        raise ValueError(f"{path}: found no turns{more}. Expected SPEAKER lines: check that it belongs to the file.")
    return found
