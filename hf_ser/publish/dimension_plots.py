"""Picture of predicted against annotated valence, arousal and dominance."""

from pathlib import Path

from matplotlib.figure import Figure

from hf_ser.plotting import BLUE, save, title
from hf_ser.runs.figures import DimensionReport, Report
from hf_ser.runs.report_text import headline_ccc

DIMENSIONS_PICTURE = "dimensions.png"


def plot_dimensions(report: Report | DimensionReport, path: str | Path, system: str = "") -> None:
    """Draw the predicted against the annotated value of each utterance as a PNG, one panel a dimension.

    Args:
        report: Result of `make_report`, with dimensions.
        path: PNG file to write.
        system: The system in one line, for the title.
    """
    figures = report.dimensions
    low, high = figures.scale
    margin = 0.05 * (high - low)
    ends = [low - margin, high + margin]
    figure = Figure(figsize=(4 * len(figures.points), 4.6 + 0.3 * len(report.notices)), layout="constrained")
    panels = figure.subplots(1, len(figures.points), squeeze=False)[0]
    for axes, (name, points) in zip(panels, figures.points.items(), strict=True):
        axes.plot(ends, ends, "--", color="gray", linewidth=1)
        if points:  # none where the test part has no annotation of it
            axes.scatter(*zip(*points, strict=True), s=8, alpha=0.4, color=BLUE, linewidths=0)
        ccc = "none" if figures.ccc[name] is None else f"{figures.ccc[name]:.3f}"
        axes.set(xlabel=f"{name}, annotated (n {figures.n[name]}, CCC {ccc})", ylabel="predicted", xlim=ends, ylim=ends)
        axes.set_aspect("equal")
        axes.grid(alpha=0.3)
    headline = f"CCC {headline_ccc(figures)}"
    title(figure, panels[len(panels) // 2], report, width=36 * len(panels), figures=headline, system=system)
    save(figure, path)
