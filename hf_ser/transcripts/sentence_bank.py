"""Sentences for each emotion, added to the transcripts of training rows.

A sentence chosen by a row's label reveals the label. On training rows it is augmentation; on evaluation rows it would
be a leak, and is not done.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from hf_ser.yaml_text import load_yaml

DEFAULT = "default"
"""Name of the packaged bank: English, ten sentences for each emotion of `EMOTIONS`."""

FORM = "a list of sentences under each class, such as 'happy: [She said yes!]'"


def sentence_bank(name: str, labels: Sequence[str]) -> dict[str, list[str]]:
    """Read the sentences of each class of a task.

    Args:
        name: `default`, a YAML file of the same form (class to list of sentences), or several separated by commas,
            which are joined, as in `default,mine.yaml`.
        labels: Classes of the task, after the label map.

    Raises:
        FileNotFoundError, ValueError: no such file, another form, or a class without sentences.
    """
    banks = [read_bank(one) for one in name.split(",")]
    joined = {label: list(dict.fromkeys(one for bank in banks for one in bank.get(label, ()))) for label in labels}
    if missing := [label for label, sentences in joined.items() if not sentences]:
        raise ValueError(
            f"--sentence_bank {name}: found no sentences for {', '.join(missing)}, expected some for each class of the "
            f"task ({', '.join(labels)}). Write them into a YAML file, {FORM}, and join it: --sentence_bank "
            f"{name},FILE.yaml; or leave out --sentence_bank."
        )
    return joined


def read_bank(name: str) -> dict[str, list[str]]:
    """Read one bank, `default` or a file.

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
        bank = load_yaml(text, yaml.BaseLoader)  # only strings: YAML would read a sentence `Yes` as True
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
    """Digest of the sentences of a bank."""
    return hashlib.sha256(json.dumps(bank, sort_keys=True).encode()).hexdigest()[:16]
