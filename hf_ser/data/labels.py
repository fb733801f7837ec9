"""Emotion names and label maps.

Every corpus uses the names of `EMOTIONS`, so that corpora can be joined and share maps. Labels on one line of a map
become one class; labels on no line are dropped.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import yaml
from datasets import Dataset

from hf_ser.data.schema import features
from hf_ser.normal_form import look_alike, normal_name
from hf_ser.yaml_text import load_yaml

EMOTIONS = (
    *("neutral", "calm", "happy", "excited", "sad", "angry"),
    *("frustrated", "fearful", "disgust", "contempt", "surprised", "bored", "other"),
)
"""Common vocabulary, in the class order of joined data sets."""

NATIVE = "native"

LABEL_MAPS = {
    "ekman6": """
        happy:     happy, excited
        sad:       sad
        angry:     angry
        fearful:   fearful
        disgust:   disgust
        surprised: surprised
    """,
    "four_class": """
        neutral: neutral
        happy:   happy, excited
        sad:     sad
        angry:   angry
    """,
    "valence_binary": """
        negative: sad, angry, frustrated, fearful, disgust, bored
        positive: calm, happy, excited
    """,
    "arousal_quadrants": """
        aroused_negative: angry, frustrated, fearful, disgust
        aroused_positive: happy, excited
        relaxed_negative: sad, bored
        relaxed_positive: calm
    """,
}
"""Named maps. `ekman6`: Ekman 1992, An argument for basic emotions. `four_class`: the task most IEMOCAP papers report.
The last two group emotions by valence and arousal (Russell 1980, A circumplex model of affect) and drop neutral,
surprised and other."""


def read_label_map(name: str) -> dict[str, str] | None:
    """Read a named map, or a YAML file of the same form, `class: label, label`.

    Returns:
        The class of each label; None for `native`, which keeps all labels.

    Raises:
        ValueError: unknown name, or another form.
    """
    if name == NATIVE:
        return None
    file = Path(name)
    if name not in LABEL_MAPS and not (file.suffix in (".yaml", ".yml") and file.is_file()):
        raise ValueError(
            f"Unknown label map '{name}': expected {NATIVE}, {', '.join(LABEL_MAPS)}, or a YAML file with lines such "
            "as 'happy: happy, excited'."
        )
    try:
        text = LABEL_MAPS.get(name) or file.read_text(encoding="utf-8")
        # Only strings: YAML would read a label `no` as False.
        lines = load_yaml(text, yaml.BaseLoader)
        named = {normal_name(target): _names(sources) for target, sources in lines.items()}
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{name}: expected lines such as 'happy: happy, excited', found no such map. ({error})"
        ) from error
    if len(lines) > len(named):
        raise ValueError(f"{name}: a class is on two lines ({', '.join(lines)}), expected one: join their labels.")
    if twice := [source for source, n in Counter(s for names in named.values() for s in names).items() if n > 1]:
        raise ValueError(f"{name}: {', '.join(twice)} is on two lines, expected each label on one: remove it.")
    if len(named) < 2:
        raise ValueError(f"{name}: found {len(named)} class, expected at least 2 to tell apart: add a line.")
    return {source: target for target, names in named.items() for source in names}


def apply_label_map(dataset: Dataset, name: str) -> tuple[Dataset, dict[str, int]]:
    """Map the labels of a data set.

    Returns:
        The mapped data set, with classes in the order of the map, and the number of dropped rows by label.

    Raises:
        ValueError: unknown map, or fewer than two of its classes occur.
    """
    if name == NATIVE:
        return dataset, {}
    old, indices = dataset.features["label"].names, dataset["label"][:]
    classes, index = mapped_classes(name, old, indices)
    dropped = Counter(old[i] for i in indices if index[i] < 0)
    return relabelled(dataset, classes, index), dict(sorted(dropped.items()))


def mapped_classes(name: str, labels: Sequence[str], indices: Sequence[int]) -> tuple[tuple[str, ...], np.ndarray]:
    """Classes of a map that occur in some rows.

    Args:
        name: As `read_label_map`.
        labels: Original labels.
        indices: Label index of each row.

    Shapes:
        indices: `(rows,)`; the second result: `(labels,)`, the class of each label, -1 for a dropped one.

    Raises:
        ValueError: unknown map, or fewer than two of its classes occur.
    """
    mapping = read_label_map(name)
    if mapping is None:
        return tuple(labels), np.arange(len(labels))
    mapping = _as_spelled(mapping, labels)
    present = {mapping.get(labels[i]) for i in set(indices)}
    classes = tuple(target for target in dict.fromkeys(mapping.values()) if target in present)
    if len(classes) < 2:
        raise ValueError(
            f"Label map '{name}' finds {len(classes)} of its classes in this data set, expected at least 2. The data "
            f"has the labels {', '.join(labels)}; the map reads {', '.join(mapping)}: choose another --label_map."
        )
    return classes, np.array([classes.index(mapping[one]) if mapping.get(one) in classes else -1 for one in labels])


def labels_not_found(name: str, labels: Iterable[str]) -> list[str]:
    """Labels of a user's own map that no row has, each with similar labels of the data.

    The named maps are not checked, since no corpus has all of their labels.

    Args:
        name: As `read_label_map`.
        labels: Labels of the rows.
    """
    if name == NATIVE or name in LABEL_MAPS:
        return []
    have = sorted(set(labels))
    alike = {look_alike(label) for label in have}
    missing = [label for label in read_label_map(name) if look_alike(label) not in alike]
    near = {label: get_close_matches(label, have, n=2, cutoff=0.6) for label in missing}
    return [f"{label} (did you mean {' or '.join(near[label])}?)" if near[label] else label for label in missing]


def not_found_notice(name: str, missing: Sequence[str], labels: Iterable[str]) -> str:
    """Message about the labels that `labels_not_found` returned."""
    return (
        f"label map {name} reads labels that no clip has: {', '.join(missing)}; the data has the labels "
        f"{', '.join(sorted(set(labels)))}. Correct the map, unless it is meant for several corpora"
    )


def relabelled(dataset: Dataset, classes: tuple[str, ...], index: np.ndarray) -> Dataset:
    """Keep the rows whose label has a class.

    Votes are summed over merged labels and normalised again, without those for dropped labels; None if none are left.
    """
    if list(classes) == dataset.features["label"].names and np.array_equal(index, np.arange(len(classes))):
        return dataset
    labels = [int(index[i]) for i in dataset["label"][:]]
    columns = {
        "label": [label if label >= 0 else None for label in labels],
        "votes": [_merged(votes, index, len(classes)) for votes in dataset["votes"][:]],
    }
    # Columns before rows: adding a column to a selection would copy all of its audio.
    typed, mapped = features(classes), dataset.remove_columns(list(columns))
    for name, column in columns.items():
        mapped = mapped.add_column(name, column, feature=typed[name])
    return mapped.select_columns(dataset.column_names).select([row for row, label in enumerate(labels) if label >= 0])


def joint_labels(label_sets: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Labels of joined corpora: their common order, else that of `EMOTIONS`, then others by name."""
    sets = list(label_sets)
    if len(set(sets)) == 1:
        return sets[0]
    names = set().union(*sets)
    return (*(name for name in EMOTIONS if name in names), *sorted(names - set(EMOTIONS)))


def _as_spelled(mapping: dict[str, str], labels: Sequence[str]) -> dict[str, str]:
    """Map with the labels spelled as in the data: `Sad` of the map is `sad` of the data."""
    alike = {look_alike(label): target for label, target in mapping.items()}
    found = {label: mapping.get(label, alike.get(look_alike(label))) for label in labels}
    return mapping | {label: target for label, target in found.items() if target is not None}


def _names(sources: str | list) -> list[str]:
    parts = sources.split(",") if isinstance(sources, str) else sources
    if wrong := [part for part in parts if not isinstance(part, str)]:
        raise TypeError(f"found {wrong[0]!r:.80}, expected a label")
    return [normal_name(part) for part in parts if part.strip()]


def _merged(votes: list[float] | None, index: np.ndarray, classes: int) -> list[float] | None:
    if votes is None:
        return None
    shares = np.zeros(classes)
    np.add.at(shares, index[index >= 0], np.array(votes)[index >= 0])
    return (shares / shares.sum()).tolist() if shares.sum() > 0 else None
