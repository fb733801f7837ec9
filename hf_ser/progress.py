"""Progress of long work: a bar on a terminal, and elsewhere, such as in a log, a line now and then."""

import sys
import time

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30.0


class Progress(tqdm):
    """A bar with its name, a rate and the time that remains; where there is no terminal, lines that say the same.

    Args:
        total: Of all that is to be done.
        name: Of the work.
        unit: What is counted, such as `clips`.
        hidden: Whether nothing is shown, such as in all processes but one.
    """

    def __init__(self, total: int, name: str, unit: str, hidden: bool = False):
        super().__init__(total=total, desc=name, unit=f" {unit}", dynamic_ncols=True, disable=True if hidden else None)
        self.is_written = self.disable and not hidden
        self.name, self.counted, self.began = name, unit, time.monotonic()
        self.written = self.began

    def update(self, n: float = 1):
        """Count what was done; a line is written where the last is some time ago."""
        if not self.is_written:
            return super().update(n)
        self.n += n
        now = time.monotonic()
        if now - self.written >= SECONDS_BETWEEN_LINES and self.n:
            self.written = now
            rate = self.n / max(now - self.began, 1e-9)
            left = max(0, self.total - self.n) / rate
            done = f"{self.name}: {self.n:g} of {self.total:g} {self.counted}, {rate:.3g} {self.counted}/s"
            print(f"{done}, about {_duration(left)}", file=sys.stderr)
        return None


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s left" if seconds < 90 else f"{seconds / 60:.0f} min left"
