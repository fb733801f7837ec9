"""Emotion names and the maps between label spaces.

Every corpus names its emotions by `EMOTIONS`, so that corpora can be joined and one map serves them all. A map is read
as it stands: names on one line become one class, and a name on no line is dropped.
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
    *("frustrated", "fearful", "disgust", "surprised", "bored", "other"),
)
"""The common vocabulary, in the order in which a joined data set lists its classes."""

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
The last two place emotions in the plane of valence and arousal (Russell 1980, A circumplex model of affect); neutral,
surprised and other have no side there and are dropped."""


def read_label_map(name: str) -> dict[str, str] | None:
    """The map of a name or of a YAML file of the same form, `class: label, label`.

    Returns:
        The class of each label; None for `native`, which leaves all as they are.

    Raises:
        ValueError: unknown name, or a text that is no map.
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
        # Plain texts: YAML would read a label `no` as False.
        lines = load_yaml(text, yaml.BaseLoader)
        named = {normal_name(target): _names(sources) for target, sources in lines.items()}
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{name}: expected lines such as 'happy: happy, excited', found no such map. ({error})"
        ) from error
    if len(lines) > len(named):
        raise ValueError(f"{name}: a class stands on two lines ({', '.join(lines)}), expected one: join their labels.")
    if twice := [source for source, n in Counter(s for names in named.values() for s in names).items() if n > 1]:
        raise ValueError(f"{name}: {', '.join(twice)} stands on two lines, expected each label on one: remove it.")
    if len(named) < 2:
        raise ValueError(f"{name}: found {len(named)} class, expected at least 2 to tell apart: add a line.")
    return {source: target for target, names in named.items() for source in names}


def apply_label_map(dataset: Dataset, name: str) -> tuple[Dataset, dict[str, int]]:
    """A data set under another label space.

    Returns:
        The mapped data set, its classes in the order of the map, and how many rows of each label were dropped.

    Raises:
        ValueError: unknown map, or fewer than two of its classes are in the data.
    """
    if name == NATIVE:
        return dataset, {}
    old, given = dataset.features["label"].names, dataset["label"][:]
    classes, index = mapped_classes(name, old, given)
    dropped = Counter(old[i] for i in given if index[i] < 0)
    return relabelled(dataset, classes, index), dict(sorted(dropped.items()))


def mapped_classes(name: str, labels: Sequence[str], given: Sequence[int]) -> tuple[tuple[str, ...], np.ndarray]:
    """The classes of a map that occur in some rows.

    Args:
        name: As `read_label_map`.
        labels: The labels before.
        given: Index of the label of each row.

    Shapes:
        given: `(rows,)`; the second of what is returned: `(labels,)`, the class of each label, -1 for a dropped one.

    Raises:
        ValueError: unknown map, or fewer than two of its classes occur.
    """
    mapping = read_label_map(name)
    if mapping is None:
        return tuple(labels), np.arange(len(labels))
    mapping = _as_spelled(mapping, labels)
    present = {mapping.get(labels[i]) for i in set(given)}
    classes = tuple(target for target in dict.fromkeys(mapping.values()) if target in present)
    if len(classes) < 2:
        raise ValueError(
            f"Label map '{name}' finds {len(classes)} of its classes in this data set, expected at least 2. The data "
            f"has the labels {', '.join(labels)}; the map reads {', '.join(mapping)}: choose another --label_map."
        )
    return classes, np.array([classes.index(mapping[one]) if mapping.get(one) in classes else -1 for one in labels])


def labels_not_found(name: str, labels: Iterable[str]) -> list[str]:
    """The labels that a person's own map reads and no row has, each with those of the data that it may be meant for.

    A map that comes with this package serves many corpora, and none has all of its labels.

    Args:
        name: As `read_label_map`.
        labels: The labels that rows have.
    """
    if name == NATIVE or name in LABEL_MAPS:
        return []
    have = sorted(set(labels))
    alike = {look_alike(label) for label in have}
    lacking = [label for label in read_label_map(name) if look_alike(label) not in alike]
    near = {label: get_close_matches(label, have, n=2, cutoff=0.6) for label in lacking}
    return [f"{label} (is {' or '.join(near[label])} meant?)" if near[label] else label for label in lacking]


def not_found_notice(name: str, lacking: Sequence[str], labels: Iterable[str]) -> str:
    """What to say of labels that `labels_not_found` has found."""
    return (
        f"label map {name} reads labels that no clip has: {', '.join(lacking)}; the data has the labels "
        f"{', '.join(sorted(set(labels)))}. Correct the map, unless it is meant for several corpora"
    )


def relabelled(dataset: Dataset, classes: tuple[str, ...], index: np.ndarray) -> Dataset:
    """The rows that keep a class.

    Votes are summed over merged labels and made a distribution again; votes for dropped labels fall away, and a clip
    all of whose votes did has none.
    """
    if list(classes) == dataset.features["label"].names and np.array_equal(index, np.arange(len(classes))):
        return dataset
    labels = [int(index[i]) for i in dataset["label"][:]]
    columns = {
        "label": [label if label >= 0 else None for label in labels],
        "votes": [_merged(votes, index, len(classes)) for votes in dataset["votes"][:]],
    }
    # Columns first, rows after: to add one to a selection, `datasets` would copy all of its sound.
    typed, mapped = features(classes), dataset.remove_columns(list(columns))
    for name, column in columns.items():
        mapped = mapped.add_column(name, column, feature=typed[name])
    return mapped.select_columns(dataset.column_names).select([row for row, label in enumerate(labels) if label >= 0])


def joint_labels(label_sets: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Labels of joined corpora: the one order that all share, else that of `EMOTIONS`, then the rest by name."""
    sets = list(label_sets)
    if len(set(sets)) == 1:
        return sets[0]
    names = set().union(*sets)
    return (*(name for name in EMOTIONS if name in names), *sorted(names - set(EMOTIONS)))


def _as_spelled(mapping: dict[str, str], labels: Sequence[str]) -> dict[str, str]:
    """A map whose labels are spelled as the data spells them: a map's `Sad` is the `sad` of the data."""
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
