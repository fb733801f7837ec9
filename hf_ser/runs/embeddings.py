"""Embeddings of a model, the inputs of its last linear layer, and a map of them by emotion and by speaker."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score
from sklearn.preprocessing import StandardScaler

from hf_ser.models.last_layers import last_layers, layer_inputs, side_by_side
from hf_ser.plotting import WARNING, colours, emotion_colours, folds_text, save, wrapped, wrapped_notices
from hf_ser.runs.classifier import Classifier
from hf_ser.runs.figures import Conditions

PERPLEXITY = 30.0
FEWEST_ROWS = 5
MOST_IN_LEGEND = 24
MARKERS = "os^vDP*X"


def embeddings(
    classifier: Classifier,
    clips: Sequence[np.ndarray | None],
    texts: Sequence[str | None],
    batch_size: int = 16,
    speaker_statistics: np.ndarray | None = None,
) -> np.ndarray:
    """Input of the model's last linear layer for each row; for late fusion, those of both branches concatenated.

    Args:
        classifier: A model of any kind.
        clips, texts, speaker_statistics: As `Classifier.probabilities` takes them.
        batch_size: Rows a forward pass; no effect on the result beyond rounding.

    Shapes:
        the result `(rows, size)` float32, in the order of the rows.

    Raises:
        ValueError: no row, a model without such a layer, or as the pipeline.
    """
    if not len(texts):
        raise ValueError("No rows: expected at least one to embed.")
    vectors = [None] * len(texts)
    with layer_inputs(last_layers(classifier.model)) as given:
        for rows in classifier.batches(clips, texts, batch_size):
            given.clear()
            known = None if speaker_statistics is None else speaker_statistics[rows]
            classifier.forward([clips[row] for row in rows], [texts[row] for row in rows], known)
            for row, vector in zip(rows, side_by_side(given), strict=True):
                vectors[row] = vector
    return np.stack(vectors)


def embedding_map(vectors: np.ndarray, seed: int = 0) -> np.ndarray:
    """Map rows to two dimensions by t-SNE; distances between far groups mean nothing.

    Shapes:
        vectors: `(rows, size)`; the result: `(rows, 2)`.

    Raises:
        ValueError: fewer than `FEWEST_ROWS` rows.

    Source: van der Maaten & Hinton 2008, Visualizing Data using t-SNE.
    """
    _check_enough(vectors)
    # At most a third of the rows can be neighbours, and small data has fewer rows than the default needs.
    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    init = "pca" if vectors.shape[1] > 1 else "random"
    tsne = TSNE(perplexity=perplexity, init=init, random_state=seed)
    return tsne.fit_transform(StandardScaler().fit_transform(vectors.astype(np.float64)))


def silhouette(vectors: np.ndarray, names: Sequence[str | None]) -> float | None:
    """Silhouette of the standardised vectors grouped by name: 1 is well separated, 0 mixed.

    Rows without a name are left out. A map of the vectors would exaggerate the groups.

    Returns:
        None where there are fewer than two names, or no two rows share one.

    Shapes:
        vectors: `(rows, size)`.

    Source: Rousseeuw 1987, Silhouettes: a graphical aid to the interpretation and validation of cluster analysis.
    """
    named = np.array([name is not None for name in names])
    kept = [name for name in names if name is not None]
    if not 2 <= len(set(kept)) < len(kept):
        return None
    return float(silhouette_score(StandardScaler().fit_transform(vectors[named].astype(np.float64)), kept))


def plot_embedding_map(
    vectors: np.ndarray,
    labels: Sequence[str],
    speakers: Sequence[str | None],
    conditions: Conditions,
    notices: Sequence[str],
    path: str | Path,
    system: str = "",
) -> None:
    """Draw the map of a model's embeddings as a PNG, coloured by emotion and by speaker.

    Args:
        vectors: Result of `embeddings`.
        labels: Emotion of each row.
        speakers: Speaker of each row; None where unknown.
        conditions, notices: What the utterances come from, and warnings to show in the plot.
        path: PNG file to write.
        system: The system in one line, for the title.

    Shapes:
        vectors: `(rows, size)`.

    Raises:
        ValueError: as `embedding_map`; numbers of rows, labels and speakers differ.
    """
    if not len(vectors) == len(labels) == len(speakers):
        found = f"{len(vectors)} rows, {len(labels)} labels and {len(speakers)} speakers"
        raise ValueError(f"Found {found}: expected a label and a speaker (or None) for each row.")
    points = embedding_map(vectors)
    figure = Figure(figsize=(13.5, 5.6 + 0.3 * len(notices)), layout="constrained")
    palettes = (emotion_colours(labels), dict(zip(known := _distinct(speakers), colours(len(known)), strict=True)))
    kinds = zip(figure.subplots(1, 2), ("emotion", "speaker"), (labels, speakers), palettes, strict=True)
    for axes, what, names, palette in kinds:
        _scatter(axes, points, names, palette)
        value = silhouette(vectors, names)
        figure_text = "no silhouette" if value is None else f"silhouette {value:.2f}"
        axes.set_title(f"by {what}: {figure_text}", fontsize=11)
    head = f"{conditions.corpus}, protocol {conditions.protocol}, {folds_text(conditions.folds)}"
    head = f"{system}, {head}" if system else head
    figure.supxlabel(f"{head}: input of the last layer for {len(vectors)} utterances, t-SNE", fontsize=10)
    if notices:
        figure.suptitle(wrapped_notices(notices, 130), color=WARNING, fontsize=9, fontweight="bold")
    save(figure, path)


def _distinct(names: Sequence[str | None]) -> list[str]:
    return sorted({name for name in names if name is not None})


def _scatter(axes: Axes, points: np.ndarray, names: Sequence[str | None], palette: dict[str, str]) -> None:
    distinct = _distinct(names)
    named = np.array([name or "" for name in names])
    axes.scatter(*points[named == ""].T, s=12, color="lightgray")
    for index, name in enumerate(distinct):
        marker = MARKERS[index % len(MARKERS)]  # for readers who cannot distinguish the colours
        axes.scatter(*points[named == name].T, s=14, color=palette[name], marker=marker, label=wrapped(name), alpha=0.8)
    axes.set(xticks=[], yticks=[])
    if 0 < len(distinct) <= MOST_IN_LEGEND:
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5), markerscale=1.4)


def _check_enough(vectors: np.ndarray) -> None:
    if len(vectors) < FEWEST_ROWS:
        raise ValueError(f"Found {len(vectors)} rows, expected {FEWEST_ROWS} or more for a map. Embed more utterances.")
