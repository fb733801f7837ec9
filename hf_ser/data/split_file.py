"""Read the file of a published split: which ids are in which part."""

import json
from pathlib import Path

from hf_ser.data.schema import SPLITS, known_split_names, split_parts
from hf_ser.data.separated import Separated, read_separated
from hf_ser.normal_form import is_unknown, normal_form, printable
from hf_ser.yaml_text import unique_keys


def read_split(file: str | Path) -> dict[str, list[str]]:
    """Read the ids of each part from a CSV with the columns `id` and `split`, or JSON, `{"train": [ids], ...}`.

    The parts may have other names, see `hf_ser.data.schema.split_parts`; a row without one is in no part.

    Raises:
        FileNotFoundError, ValueError: no such file, or another form.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such split file. Expected a CSV with the columns id and split, or JSON.")
    try:
        if file.suffix.lower() == ".json":
            parts = json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=unique_keys)
            if texts := [part for part, names in parts.items() if isinstance(names, str)]:
                raise ValueError(f"{texts[0]} is a text, not a list of ids")
            pairs = [(part, str(name)) for part, names in parts.items() for name in names]
        else:
            pairs = _split_pairs(read_separated(file))
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{file}: not readable as a split ({error!r}). Expected a CSV with the columns id and split, or JSON such "
            'as {"train": ["ravdess/03-01-..."], "test": [...]}.'
        ) from error
    words = split_parts({normal_form(str(part)) for part, _ in pairs} - {""})
    if wrong := sorted(word for word, part in words.items() if part is None and not is_unknown(word)):
        raise ValueError(
            f"{file}: found the part '{printable(wrong[0])}', expected {', '.join(SPLITS)}, or another word for these: "
            f"{known_split_names()}: rename it."
        )
    return {part: [name for word, name in pairs if words.get(normal_form(str(word))) == part] for part in SPLITS}


def _split_pairs(table: Separated) -> list[tuple[str, str]]:
    """Part and id of each row of a split file."""
    names = [name.lower() for name in table.header]
    if twice := [name for name in ("id", "split") if names.count(name) > 1]:
        raise ValueError(f"found the column {twice[0]} twice")
    if short := [row.line for row in table.rows if len(row.cells) != len(names)]:
        raise ValueError(f"line {short[0]} has another number of cells than the header")
    columns = names.index("split"), names.index("id")
    return [tuple(normal_form(row.cells[column]) for column in columns) for row in table.rows]
