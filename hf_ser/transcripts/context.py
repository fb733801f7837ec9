"""Previous turns of a dialogue, which some models read beside a text."""

import re
from collections import defaultdict

from datasets import Dataset

from hf_ser.data.folds import Fold
from hf_ser.data.schema import SPLITS

NUMBERED = re.compile(r"(.*?)(\d+)$", re.DOTALL)
"""An id that ends with the number of the turn."""


def previous_turns(dataset: Dataset, fold: Fold, texts: dict[str, str | None], turns: int) -> dict[str, list[str]]:
    """The texts of the turns before each one of a fold: of the same dialogue and the same part, the latest last.

    Turns are in the order of their numbers. One that is not in the part (left out of the corpus, dropped by a label
    map, or without a text) is passed over.

    Args:
        dataset: A prepared data set.
        fold: The fold.
        texts: Text of each row by id, as the model reads it.
        turns: At most so many.

    Raises:
        ValueError: no row has a dialogue, or the ids of a dialogue do not number its turns.
    """
    columns = dataset.select_columns(["id", "dialogue"])[:]
    if not any(columns["dialogue"]):
        raise ValueError(
            f"--context {turns}: found no dialogues in this data set (column dialogue). Expected a corpus of "
            "dialogues, such as MELD: leave --context out."
        )
    found = {}
    for part in SPLITS:
        dialogues = defaultdict(list)
        for row in getattr(fold, part).tolist():
            name, dialogue = columns["id"][row], columns["dialogue"][row]
            found[name] = []
            if dialogue:
                dialogues[name.partition("/")[0], dialogue].append(name)  # an id begins with its corpus
        for (_, dialogue), names in dialogues.items():
            spoken = [name for name in in_order(names, dialogue) if (texts[name] or "").strip()]
            found |= {name: [texts[one] for one in spoken[max(0, n - turns) : n]] for n, name in enumerate(spoken)}
    return found


def in_order(names: list[str], dialogue: str) -> list[str]:
    """The ids of a dialogue by the number at their end.

    Raises:
        ValueError: they have none, or differ in more than it.
    """
    parts = [NUMBERED.match(name) for name in names]
    if None in parts or len({part[1] for part in parts}) > 1:
        raise ValueError(
            f"--context: the turns of dialogue {dialogue} are named {', '.join(sorted(names)[:3])}, and their order is "
            "not known from that. Expected ids that differ in the number at their end alone, as MELD's do: leave "
            "--context out."
        )
    return sorted(names, key=lambda name: int(NUMBERED.match(name)[2]))
