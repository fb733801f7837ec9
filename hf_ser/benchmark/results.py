"""The results of the benchmark: records, a table, a picture."""

import os
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import torch
import transformers
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from hf_ser.benchmark.case import Case
from hf_ser.benchmark.measure import in_turns
from hf_ser.benchmark.rows import GROWTH, Row
from hf_ser.json_record import Record
from hf_ser.plotting import save


@dataclass(frozen=True)
class WayResult(Record):
    """What a way took, for one unit.

    Args:
        about: The way in a few words.
        seconds: Of a unit: CPU seconds, or those on the clock, as the row says.
        peak_mb: Most memory of the process, with its libraries.
        missing: Why it was not measured.
    """

    about: str
    seconds: float | None = None
    peak_mb: float | None = None
    missing: str | None = None


@dataclass(frozen=True)
class RowResult(Record):
    """One row.

    Args:
        name, about, unit, by: Of the `Row`.
        rounds: Times each way took its turn; the figures are medians.
        ours, peer, floor: Each way.
    """

    name: str
    about: str
    unit: str
    by: str
    rounds: int
    ours: WayResult
    peer: WayResult
    floor: WayResult | None = None
    to_peer: float | None = None
    to_floor: float | None = None


@dataclass(frozen=True)
class Benchmark(Record):
    """All rows, and where they were measured.

    Args:
        day: The day.
        machine: Processor and the number of cores.
        libraries: Versions.
        size, data, audio_model, whisper: Settings.
    """

    day: str
    machine: str
    libraries: dict[str, str]
    size: str
    data: str
    audio_model: str
    whisper: str
    rows: list[RowResult]


def measure_row(row: Row, case: Case, rounds: int) -> RowResult:
    """Measure the ways of a row that can be measured here."""
    ways, results = row.ways(), {}
    reasons = {name: way.missing(case) for name, way in ways.items()}
    for need in row.needs:
        getattr(case, need)()
    there = {name: way.setup for name, way in ways.items() if reasons[name] is None}
    used = in_turns(there, case, min(rounds, row.rounds)) | {name: why for name, why in reasons.items() if why}
    for name, way in ways.items():
        found = used[name]
        if isinstance(found, str):
            results[name] = WayResult(way.about, missing=found)
        else:
            seconds = getattr(found, row.by) / row.units_of(way, case)
            results[name] = WayResult(way.about, seconds, round(found.peak_mb, 1))
    ratios = {
        "to_peer": ratio(results["peer"], results["ours"]),
        "to_floor": ratio(results["ours"], results.get("floor")),
    }
    return RowResult(row.name, row.about, row.unit, row.by, min(rounds, row.rounds), **results, **ratios)


def ratio(longer: WayResult, shorter: WayResult | None) -> float | None:
    """How many times as long one takes; None where one was not measured."""
    if shorter is None or longer.seconds is None or not shorter.seconds:
        return None
    return longer.seconds / shorter.seconds


def measure_all(rows: Sequence[Row], case: Case, rounds: int) -> Iterator[list[RowResult]]:
    """Measure rows one after another; after each all that are there."""
    results = []
    with tqdm(total=len(rows), unit=" rows", desc="measuring", disable=None) as bar:
        for row in rows:
            bar.set_postfix_str(row.name)
            results.append(measure_row(row, case, rounds))
            bar.update()
            bar.write(f"{row.name}: {times(results[-1].to_peer) or 'not compared'} to the peer", file=sys.stderr)
            yield results


def described(rows: list[RowResult], case: Case, size: str) -> Benchmark:
    """Rows with what they were measured on."""
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    return Benchmark(
        day=date.today().isoformat(),
        machine=machine(),
        libraries=versions | {"transformers": transformers.__version__},
        size=size,
        data="generated clips" if case.data_dir is None else f"RAVDESS, {len(case.files())} clips",
        audio_model="random weights" if case.audio_model is None else case.audio_model.name,
        whisper="random weights" if case.whisper is None else "whisper-base",
        rows=rows,
    )


def machine() -> str:
    """The processor, its vector instructions as torch names them, the number of cores, and the GPU, which is not
    measured."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        named = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        name = named[0] if named else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpu = "GPU: not measured" if torch.cuda.is_available() else "no GPU"
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}, {cores} cores, {gpu}"


def table(benchmark: Benchmark) -> str:
    """The results as a table in Markdown."""
    lines = [
        f"{benchmark.day}, {benchmark.machine}; size {benchmark.size}; {benchmark.data}; encoder: "
        f"{benchmark.audio_model}; Whisper: {benchmark.whisper}; CPU time, median of the rounds",
        "",
        "| | rounds | ours | peer | | floor | | peak MB, ours and peer |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.about}, a {row.unit} | {row.rounds} | {cell(row.ours)} | {cell(row.peer)} | {times(row.to_peer)} | "
        f"{cell(row.floor)} | {times(row.to_floor)} | {megabytes(row.ours)}, {megabytes(row.peer)} |"
        for row in benchmark.rows
    ]
    missing = {
        f"{row.name}: {way.about}: {way.missing}" for row in benchmark.rows for way in ways_of(row) if way.missing
    }
    lines += [
        "",
        "To the peer: how many times as fast; to the floor: how many times as long.",
        *sorted(missing),
    ]
    return "\n".join(lines).rstrip()


def ways_of(row: RowResult) -> list[WayResult]:
    """The ways of a row."""
    return [way for way in (row.ours, row.peer, row.floor) if way is not None]


def cell(way: WayResult | None) -> str:
    """A way and what it took."""
    if way is None:
        return ""
    if way.seconds is None:
        return f"{way.about}: not measured"
    figure = f"{way.seconds:.3g} s" if way.seconds >= 0.1 else f"{1000 * way.seconds:.3g} ms"
    return f"{way.about}: {figure}"


def times(ratio: float | None) -> str:
    """A ratio."""
    return "" if ratio is None else f"{ratio:.2g}x" if ratio < 10 else f"{ratio:.0f}x"


def megabytes(way: WayResult) -> str:
    """Peak memory."""
    return "-" if way.peak_mb is None else f"{way.peak_mb:.0f}"


def draw(benchmark: Benchmark, file: Path) -> None:
    """Draw the ratios to the peers, and how time and memory of preparing grow with the rows."""
    growth = [row for row in benchmark.rows if row.name.removeprefix(GROWTH).isdigit()]
    compared = [row for row in benchmark.rows if row.to_peer is not None and row not in growth]
    figure = Figure(figsize=(11, max(3.5, 0.4 * len(compared) + 1)), layout="constrained")
    bars, *of_growth = figure.subplots(
        1, 3 if growth else 1, width_ratios=(2, 1, 1) if growth else None, squeeze=False
    )[0]
    bars.barh([row.name for row in compared], [row.to_peer for row in compared], color="tab:blue")
    for place, row in enumerate(compared):
        bars.text(row.to_peer, place, f" {times(row.to_peer)}", va="center")
    bars.axvline(1, color="black", linewidth=0.8)
    bars.set(xscale="log", xlabel="times as fast as the peer", title="ours to the peer")
    bars.margins(x=0.15)
    bars.invert_yaxis()
    if growth:
        draw_growth(growth, *of_growth)
    save(figure, file)


def draw_growth(growth: list[RowResult], time: Axes, memory: Axes) -> None:
    """Draw what preparing a clip takes, and the memory, over the number of clips."""
    rows = [int(row.name.removeprefix(GROWTH)) for row in growth]
    for name, color in (("ours", "tab:blue"), ("peer", "tab:orange")):
        ways = [getattr(row, name) for row in growth]
        label = f"{name}: {ways[0].about}"
        seconds = [np.nan if way.seconds is None else 1000 * way.seconds for way in ways]
        megabytes_at_most = [np.nan if way.peak_mb is None else way.peak_mb for way in ways]
        time.plot(rows, seconds, "o-", color=color, label=label)
        memory.plot(rows, megabytes_at_most, "o-", color=color, label=label)
    time.set(xscale="log", xlabel="clips", ylabel="CPU ms a clip", title="preparing: time", ylim=(0, None))
    memory.set(xscale="log", xlabel="clips", ylabel="peak MB", title="preparing: memory", ylim=(0, None))
    time.legend(fontsize="small")
