"""The runs of a study, each a process of its training script; finished runs are skipped, failed ones stop no other.

O/SYSTEM/seed_1/        the run's folder, as its script writes it
O/SYSTEM/seed_1.log     the output of the script
O/SYSTEM/seed_1.json    the settings of the finished run
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

from hf_ser.checks.study.plan import Study, System
from hf_ser.files import atomic_write
from hf_ser.runs.figures import DimensionReport, Report, read_report
from hf_ser.runs.report import REPORT

print_now = partial(print, flush=True)
"""Print without buffering, so that progress shows in a file too."""

LAST_LINES = 15
"""Lines of a failed run's log that are shown."""


@dataclass(frozen=True)
class Run:
    """One system with one seed."""

    system: System
    seed: int
    folder: Path
    arguments: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.system.name}, seed {self.seed}"

    @property
    def log(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def mark(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.json")

    @property
    def settings(self) -> dict:
        """The settings that its result depends on."""
        recipe = self.system.recipe
        text = recipe.read_text(encoding="utf-8") if recipe else None
        return {"script": self.system.script, "recipe": text, "arguments": list(self.arguments)}

    def is_done(self) -> bool:
        """Whether it finished with these settings."""
        if not self.mark.is_file() or json.loads(self.mark.read_text(encoding="utf-8")) != self.settings:
            return False
        return (self.folder / REPORT).is_file() and not self.other_folds()

    def other_folds(self) -> list[str]:
        """Folds in its report that are not in the study: a report covers all folds in a folder."""
        fold = dict(pairwise(self.arguments)).get("--fold", "all")
        return [] if fold == "all" else sorted(set(self.report().folds) - {fold})

    def report(self) -> Report:
        """The report of the run."""
        file = self.folder / REPORT
        report = read_report(file) or Report.read(file)
        if isinstance(report, DimensionReport):
            raise ValueError(
                f"{file}: found a report with only dimensions, expected classes, whose UAR a study compares. "
                "Train its systems with --target both or label."
            )
        return report


def runs_of(study: Study, folder: Path, systems: tuple[System, ...] | None = None) -> list[Run]:
    """All runs of a study, seed by seed, so that an interrupted study has results of every system."""
    return [
        Run(system, seed, folder / system.name / f"seed_{seed}", tuple(study.arguments(system, seed)))
        for seed in study.seeds
        for system in systems or study.systems
    ]


def train(runs: list[Run], scripts: Path, jobs: int = 1, say: Callable[[str], None] = print_now) -> list[Run]:
    """Train the runs that are not done, `jobs` at a time.

    Returns:
        The runs that failed.

    Raises:
        ValueError: a run's folder holds other folds, which would become part of its report.
    """
    left = [run for run in runs if not run.is_done()]
    for run in left:
        if (run.folder / REPORT).is_file() and (more := run.other_folds()):
            raise ValueError(
                f"{run.folder}: found fold {', '.join(more)} of an earlier study, and a report covers all folds in a "
                "folder. Expected only the folds of this study: name another --output_dir."
            )
    if len(left) < len(runs):
        say(f"{len(runs) - len(left)} of {len(runs)} runs are done already")
    started, failed = time.monotonic(), []
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {pool.submit(_train, run, scripts, jobs): run for run in left}
        try:
            for number, done in enumerate(as_completed(waiting), start=1):
                run, passed = waiting[done], time.monotonic() - started
                remaining = passed / number * (len(left) - number)
                clock = f"{_minutes(passed)} elapsed, about {_minutes(remaining)} remaining"
                say(f"[{number}/{len(left)}] {run.name}: {_outcome(run, done.result())} ({clock})")
                failed += [] if run.is_done() else [run]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # do not start the waiting runs
            raise
    return failed


def _train(run: Run, scripts: Path, jobs: int) -> int:
    """Run the script and return its exit status."""
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    recipe = [str(run.system.recipe)] if run.system.recipe else []
    command = [sys.executable, str(scripts / run.system.script), *recipe, *run.arguments]
    command += ["--output_dir", str(run.folder), "--disable_tqdm", "true"]
    environment = dict(os.environ)
    if jobs > 1:
        # By default every process would use all cores, which slows all of them down.
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    with open(run.log, "w", encoding="utf-8") as log:
        status = subprocess.run(
            command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment
        ).returncode
    if status == 0 and (run.folder / REPORT).is_file():
        with atomic_write(run.mark) as file:
            json.dump(run.settings, file, indent=1)
    return status


def _outcome(run: Run, status: int) -> str:
    if run.is_done():
        return f"UAR {100 * run.report().uar:.1f} %"
    lines = run.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
    why = f"status {status}" if status else "it wrote no report, as for a fold without test speakers"
    return "\n".join([f"FAILED ({why}); the end of {run.log}:", *(f"    {line}" for line in lines), ""])


def _minutes(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
