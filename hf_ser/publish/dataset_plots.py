"""Pictures of a data set: counts, durations and examples."""

import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hf_ser.data.schema import SAMPLING_RATE, SEXES, UNKNOWN
from hf_ser.models.decoding import decode_audio
from hf_ser.models.libraries import audio_transforms
from hf_ser.plotting import BLUE, GRAY, ORANGE, WARNING, save, wrapped

NARROW = 14
"""Characters per line of labels at an axis."""

SEX_COLOURS = {"female": ORANGE, "male": BLUE, UNKNOWN: GRAY}

MAX_EXAMPLES, MAX_SPEAKERS = 12, 40
MEL_TICKS_HZ = (500, 1000, 2000, 4000, 8000)
DYNAMIC_RANGE_DB = 70


def write_pictures(dataset: Dataset, table: pd.DataFrame, folder: Path, notice: str = "") -> list[Path]:
    """Draw all pictures of a data set; those of the audio only where there is audio.

    Args:
        dataset: The rows; the audio of one clip a class is read.
        table: Result of `hf_ser.publish.dataset_card.light_table`.
        folder: Folder for the PNG files.
        notice: Notice to write in red on each picture.

    Returns:
        The files that were written.
    """
    figures = {"class_counts.png": draw_class_counts(table), "speaker_by_class.png": draw_speaker_by_class(table)}
    if table["duration_seconds"].notna().any():
        figures["durations.png"] = draw_durations(table)
        figures["examples.png"] = draw_examples(dataset, choose_examples(table))
    for name, figure in figures.items():
        if notice:
            lines = textwrap.fill(notice, int(11 * figure.get_figwidth()))
            figure.suptitle(lines, color=WARNING, fontsize=10)
        save(figure, folder / name, dpi=130)
    return [folder / name for name in figures]


def draw_class_counts(table: pd.DataFrame) -> Figure:
    """Draw the rows of each class by sex, one panel a corpus."""
    labels = list(table["label"].cat.categories)
    sexes = [sex for sex in (*SEXES, UNKNOWN) if (table["sex"] == sex).any()]
    corpora = sorted(table["corpus"].unique())
    across = min(len(corpora), 3)
    down = -(-len(corpora) // across)
    height = (0.24 * len(sexes) + 0.16) * len(labels) + 0.8
    figure = Figure(figsize=(max(7, 4.6 * across), height * down + 0.6), layout="constrained")
    panels = figure.subplots(down, across, sharey=True, squeeze=False).flatten()
    for axes, corpus in zip(panels, corpora, strict=False):  # the last line of panels may not be full
        rows = table[table["corpus"] == corpus]
        counts = pd.crosstab(rows["label"], rows["sex"]).reindex(index=labels, columns=sexes, fill_value=0)
        for place, sex in enumerate(sexes):
            centres = np.arange(len(labels)) + (place - (len(sexes) - 1) / 2) * 0.8 / len(sexes)
            bars = axes.barh(centres, counts[sex], height=0.8 / len(sexes), color=SEX_COLOURS[sex], label=sex)
            axes.bar_label(bars, labels=[str(count) if count else "" for count in counts[sex]], padding=2, fontsize=8)
        for place in np.flatnonzero(counts.sum(axis=1) == 0):
            axes.text(0, place, " none", va="center", color="gray", fontsize=8)
        axes.set_title(f"{corpus}: {len(rows)} rows", fontsize=11)
        axes.set_xlabel("rows")
        axes.margins(x=0.14)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    for axes in panels[len(corpora) :]:
        axes.set_axis_off()
    first = figure.axes[0]
    first.set_yticks(range(len(labels)), [wrapped(label, NARROW) for label in labels])
    first.set_ylim(len(labels) - 0.5, -0.5)  # the first class on top
    handles, names = first.get_legend_handles_labels()
    names = [f"speaker's sex {UNKNOWN}" if name == UNKNOWN else name for name in names]
    figure.legend(handles, names, loc="outside lower center", ncols=len(sexes), fontsize=9)
    return figure


def draw_durations(table: pd.DataFrame) -> Figure:
    """Draw the lengths of the clips of each class: median, quartiles, 1st and 99th percentile, and outliers."""
    labels = list(table["label"].cat.categories)
    with_audio = table[table["duration_seconds"].notna()]
    lengths = [with_audio["duration_seconds"][with_audio["label"] == label].to_numpy() for label in labels]
    figure = Figure(figsize=(8, 0.42 * len(labels) + 1.5), layout="constrained")
    axes = figure.subplots()
    names = [f"{wrapped(label, NARROW)} ({len(length)})" for label, length in zip(labels, lengths, strict=True)]
    axes.boxplot(
        lengths,
        orientation="horizontal",
        tick_labels=names,
        whis=(1, 99),
        widths=0.6,
        patch_artist=True,
        boxprops={"facecolor": "lightsteelblue"},
        medianprops={"color": "black", "linewidth": 1.6},
        flierprops={"marker": ".", "markersize": 3, "alpha": 0.4},
    )
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("seconds (line: median, box: quartiles, whiskers: 1st and 99th percentile)")
    longest, median = with_audio["duration_seconds"].max(), with_audio["duration_seconds"].median()
    if longest > 12 * median:  # else a few long clips would compress all others
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
    else:
        axes.set_xlim(left=0)
    n_without_audio = len(table) - len(with_audio)
    lacking = f"; {n_without_audio} rows without audio are not shown" if n_without_audio else ""
    hours = with_audio["duration_seconds"].sum() / 3600
    axes.set_title(f"{len(with_audio)} clips, {hours:.2f} hours{lacking}", fontsize=11)
    return figure


def choose_examples(table: pd.DataFrame) -> list[int]:
    """Row numbers of a clip of median length for each class with audio, at most for the `MAX_EXAMPLES` largest."""
    with_audio = table[table["duration_seconds"].notna()]
    largest = with_audio["label"].value_counts(sort=False).nlargest(MAX_EXAMPLES).index
    chosen = []
    for label in table["label"].cat.categories:
        rows = with_audio[with_audio["label"] == label].sort_values(["duration_seconds", "id"])
        if label in largest and len(rows):
            chosen.append(int(rows.index[(len(rows) - 1) // 2]))
    return chosen


def draw_examples(dataset: Dataset, rows: list[int]) -> Figure:
    """Draw waveform and log-mel spectrogram of the given rows, with the level in dBFS.

    Each has its own scale: in some corpora one class is 20 dB louder than another.
    """
    across = min(len(rows), 4)
    down = -(-len(rows) // across)
    figure = Figure(figsize=(max(5, 3.5 * across), 3.1 * down + 0.4), layout="constrained")
    grid = figure.add_gridspec(2 * down, across, height_ratios=(1, 1.6) * down)
    names = dataset.features["label"].names
    for place, row in enumerate(dataset.select_columns(["id", "label", "level_dbfs", "audio"]).select(rows)):
        clip = decode_audio(row["audio"])
        top, left = 2 * (place // across), place % across
        wave, mel = figure.add_subplot(grid[top, left]), figure.add_subplot(grid[top + 1, left])
        subtitle = f"{shortened(row['id'], 32)}, {row['level_dbfs']:.1f} dBFS"
        wave.set_title(wrapped(names[row["label"]], NARROW), fontsize=11, fontweight="bold", pad=16)
        wave.text(0.5, 1.03, subtitle, transform=wave.transAxes, ha="center", va="bottom", fontsize=8)
        _draw_wave(wave, clip)
        _draw_log_mel(mel, clip)
        wave.set_xlim(mel.get_xlim())
        mel.set_xlabel("seconds", fontsize=8)
        if left == 0:
            wave.set_ylabel("amplitude", fontsize=8)
            mel.set_ylabel("Hz (mel scale)", fontsize=8)
    return figure


def draw_speaker_by_class(table: pd.DataFrame) -> Figure:
    """Draw the rows of each speaker in each class; beyond `MAX_SPEAKERS`, the others are one line."""
    labels = list(table["label"].cat.categories)
    counts = pd.crosstab(table["speaker"], table["label"]).reindex(columns=labels, fill_value=0)
    known = counts.drop(UNKNOWN, errors="ignore").sort_index()
    known = known.loc[known.sum(axis=1).sort_values(ascending=False, kind="stable").index]
    single = known[:MAX_SPEAKERS].to_numpy()
    lines = [(shortened(name, 28), line) for name, line in zip(known.index, single, strict=False)]
    if others := len(known) - len(single):
        lines.append((f"{others} other speakers together", known[MAX_SPEAKERS:].sum().to_numpy()))
    if UNKNOWN in counts.index:
        lines.append(("speaker unknown", counts.loc[UNKNOWN].to_numpy()))
    return _heat_map(labels, lines, len(single), f"rows of each of {len(known)} speakers in each class")


def shortened(name: str, length: int) -> str:
    """Shorten a long name in the middle; dollar signs are escaped for matplotlib."""
    if len(name) > length:
        name = f"{name[: length // 2 - 1]}…{name[-(length - length // 2) :]}"
    return name.replace("$", r"\$")


def _draw_wave(axes: Axes, clip: np.ndarray) -> None:
    """Draw minimum and maximum of short segments, which is fast for long clips too."""
    segments = np.array_split(clip, min(600, len(clip)))
    seconds = (np.arange(len(segments)) + 0.5) * len(clip) / len(segments) / SAMPLING_RATE
    axes.fill_between(seconds, [s.min() for s in segments], [s.max() for s in segments], linewidth=0.5, color="black")
    peak = float(np.abs(clip).max())
    axes.set_ylim(-1.05 * peak, 1.05 * peak)
    axes.tick_params(labelbottom=False, labelsize=7)


def _draw_log_mel(axes: Axes, clip: np.ndarray) -> None:
    mel = audio_transforms.MelSpectrogram(SAMPLING_RATE, n_fft=1024, win_length=400, hop_length=160, n_mels=80)
    decibel = audio_transforms.AmplitudeToDB("power", top_db=DYNAMIC_RANGE_DB)(mel(torch.from_numpy(clip)))
    extent = (0, len(clip) / SAMPLING_RATE, 0, _mel(SAMPLING_RATE / 2))
    axes.imshow(decibel, origin="lower", aspect="auto", cmap="magma", extent=extent)
    axes.set_yticks([_mel(hz) for hz in MEL_TICKS_HZ], [str(hz) for hz in MEL_TICKS_HZ])
    axes.tick_params(labelsize=7)


def _mel(hz: float) -> float:
    """Frequency on the mel scale of torchaudio's filters, `mel_scale="htk"`."""
    return 2595 * np.log10(1 + hz / 700)


def _heat_map(labels: list[str], lines: list[tuple[str, np.ndarray]], coloured: int, caption: str) -> Figure:
    """Draw counts with their sum at the right; only the first `coloured` lines, one speaker each, are coloured."""
    names = [name for name, _ in lines]
    counts = np.stack([line for _, line in lines])
    longest = max(len(line) for label in labels for line in wrapped(label, NARROW).split("\n"))
    width = max(0.55, 0.09 * longest) * (len(labels) + 1) + 0.085 * max(map(len, names)) + 0.6
    figure = Figure(figsize=(max(5, width), 0.24 * len(names) + 1.5), layout="constrained")
    axes = figure.subplots()
    shade = np.full((len(names), len(labels) + 1), np.nan)  # white except for counts of one speaker
    shade[:coloured, :-1] = counts[:coloured]
    full = max(np.nanmax(shade), 1) if coloured else 1
    axes.imshow(shade, cmap="Blues", vmin=0, vmax=full, aspect="auto")
    for (row, column), count in np.ndenumerate(np.column_stack([counts, counts.sum(axis=1)])):
        colour = "white" if shade[row, column] > 0.6 * full else "black" if count else "darkgray"
        # The layout need not measure hundreds of texts inside the axes.
        axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8, in_layout=False)
    axes.axvline(len(labels) - 0.5, color="black", linewidth=0.8)
    axes.axhline(coloured - 0.5, color="black", linewidth=0.8)
    axes.set_xticks(range(len(labels) + 1), [*map(wrapped, labels), "all"], fontsize=9)
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.tick_params(length=0)
    axes.set_xlabel(caption, fontsize=9)
    return figure
