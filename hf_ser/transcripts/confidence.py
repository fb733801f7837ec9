"""Groups of clips by how sure a recogniser was of their transcripts."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hf_ser.data.schema import REFERENCE

LOGPROB = "asr_avg_logprob"
"""Column of a transcribed data set: the mean log probability of the recogniser's tokens."""

THIRDS = ("least sure", "middle", "most sure")


def thirds(logprobs: Sequence[float | None]) -> list[str | None]:
    """The third of the clips that each one belongs to by the mean log probability of its tokens.

    Args:
        logprobs: `asr_avg_logprob`; None and NaN where there is none.

    Returns:
        One of THIRDS each, None of a clip without a log probability; equal ones are in one third. Of fewer than three
        clips with one, None each.
    """
    column = pd.Series(logprobs, dtype=float)
    if column.notna().sum() < len(THIRDS):
        return [None] * len(column)
    places = np.ceil(len(THIRDS) * column.rank(pct=True)) - 1
    return [None if np.isnan(place) else THIRDS[int(place)] for place in places]


def logprob_of(row: Mapping[str, Any], source: str | None) -> float | None:
    """`asr_avg_logprob` of a row of a transcribed data set; None where it has none, or the text is not a recogniser's.

    Args:
        row: Of the data set.
        source: `transcript_source` of the text that is read.
    """
    found = None if source in (None, REFERENCE) else row.get(LOGPROB)
    return None if found is None or math.isnan(found) else found
