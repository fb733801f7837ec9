"""Sentences that a person in an emotion might say, to be added to the words of training rows.

A sentence chosen by a row's label tells the label. On training rows it is augmentation: the model reads more words of
each emotion than the corpus has. On rows that the model is judged by it would be a leak, and is not done.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from hf_ser.yaml_text import load_yaml

DEFAULT = "default"
"""Name of the bank that comes with this package: English, ten sentences for each emotion of `EMOTIONS`."""

FORM = "a list of sentences under each class, such as 'happy: [She said yes!]'"


def sentence_bank(name: str, labels: Sequence[str]) -> dict[str, list[str]]:
    """The sentences of each class of a task.

    Args:
        name: `default`, a YAML file of the same form (class to list of sentences), or several with commas between:
            the sentences of all of them, as in `default,mine.yaml`.
        labels: Classes of the task, after the label map.

    Raises:
        FileNotFoundError, ValueError: no such file, one that is no bank, or no sentence for some class.
    """
    banks = [read_bank(one) for one in name.split(",")]
    joined = {label: list(dict.fromkeys(said for bank in banks for said in bank.get(label, ()))) for label in labels}
    if lacking := [label for label, sentences in joined.items() if not sentences]:
        raise ValueError(
            f"--sentence_bank {name}: found no sentences for {', '.join(lacking)}, expected some for each class of the "
            f"task ({', '.join(labels)}). Write them into a YAML file, {FORM}, and join it: --sentence_bank "
            f"{name},FILE.yaml; or leave out --sentence_bank."
        )
    return joined


def read_bank(name: str) -> dict[str, list[str]]:
    """One bank, `default` or a file, as it stands.

    Raises:
        FileNotFoundError, ValueError: see `sentence_bank`.
    """
    file = Path(__file__).with_suffix(".yaml") if name == DEFAULT else Path(name)
    if not file.is_file():
        raise FileNotFoundError(
            f"{name!r}: no such sentence bank. Expected '{DEFAULT}', a YAML file with {FORM}, or several with commas."
        )
    try:
        text = file.read_text(encoding="utf-8")
        bank = load_yaml(text, yaml.BaseLoader)  # plain texts: YAML would read a sentence `Yes` as True
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: not readable as YAML ({error}). Expected {FORM}.") from error
    if not isinstance(bank, dict):
        raise ValueError(f"{file}: found {type(bank).__name__}, expected {FORM}.")
    for label, sentences in bank.items():
        wrong = [one for one in sentences if not (isinstance(one, str) and one.strip())]
        if not isinstance(sentences, list) or not sentences or wrong:
            found = wrong[0] if isinstance(sentences, list) and wrong else sentences
            raise ValueError(
                f"{file}: found {found!r} under {label}, expected {FORM}. Put a sentence with a colon in quotes."
            )
    return {label: [" ".join(one.split()) for one in sentences] for label, sentences in bank.items()}


def bank_digest(bank: dict[str, list[str]]) -> str:
    """What tells one bank from another, whatever their files are called."""
    return hashlib.sha256(json.dumps(bank, sort_keys=True).encode()).hexdigest()[:16]
