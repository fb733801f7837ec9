"""Measures the same work done in several ways, in turns: each way in a process of its own, by its CPU seconds."""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, fields
from multiprocessing import get_context
from multiprocessing.connection import Connection

from hf_ser.json_record import Record

PRELOADED = ("hf_ser.benchmark.rows",)
"""Imported once; the processes are copies of the one that did, so that each begins with the same libraries."""

MB_OF_MAXRSS = 1 / 2**20 if sys.platform == "darwin" else 1 / 2**10


@dataclass(frozen=True)
class Usage(Record):
    """What a piece of work took.

    Args:
        cpu_seconds: Of the process and its children, in user code and in the system.
        seconds: On the clock.
        peak_mb: Most resident memory of the process, its libraries included.
    """

    cpu_seconds: float
    seconds: float
    peak_mb: float


Work = Callable[[], object]
"""What is measured. Where it returns a `Usage`, as `run_fresh` does, that is taken in place of what is measured."""


@dataclass(frozen=True)
class Way:
    """One way to do a piece of work.

    Args:
        about: The way in a few words.
        setup: From the `Case` to the work; what it does is not measured.
        missing: From the `Case` to the reason why it cannot be done here, or None.
        units: From the `Case` to the units that its work has, where these differ between the ways of a row.
    """

    about: str
    setup: Callable[..., Work]
    missing: Callable[..., str | None] = lambda case: None
    units: Callable[..., float] | None = None


class Worker:
    """A process in which a way is set up, and which does its work when `measure` is called."""

    def __init__(self, setup: Callable[..., Work], case):
        context = get_context("forkserver")
        context.set_forkserver_preload(list(PRELOADED))
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(setup, case, theirs), daemon=False)
        self.process.start()
        theirs.close()
        self._receive()

    def measure(self) -> Usage:
        """Do the work once."""
        self.connection.send(True)
        return self._receive()

    def close(self) -> None:
        """End the process."""
        self.connection.close()
        self.process.join()

    def _receive(self) -> Usage | None:
        try:
            answer = self.connection.recv()
        except EOFError:
            self.process.join()
            raise RuntimeError(
                f"a process of the benchmark ended with status {self.process.exitcode}, expected it to answer: it may "
                "have run out of memory. Give a smaller --size, or leave its row out with --rows."
            ) from None
        if isinstance(answer, Exception):
            raise answer
        return answer


def _serve(setup: Callable[..., Work], case, connection: Connection) -> None:
    with open(os.devnull, "w") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
        try:
            work = setup(case)
            connection.send(None)
            while connection.recv():
                connection.send(_measured(work))
        except (EOFError, BrokenPipeError):  # the other end is closed: no more is wanted
            return
        except Exception as error:
            connection.send(RuntimeError(f"{type(error).__name__}: {error}"))


def _measured(work: Work) -> Usage:
    started, cpu = time.perf_counter(), _cpu_seconds()
    result = work()
    if isinstance(result, Usage):
        return result
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MB_OF_MAXRSS
    return Usage(_cpu_seconds() - cpu, time.perf_counter() - started, peak)


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def run_fresh(*commands: Sequence[str]) -> Usage:
    """Run commands at the same time, each a fresh process: the sum of their CPU seconds, the highest of their peaks.

    Raises:
        RuntimeError: one of them fails.
    """
    started = time.perf_counter()
    # Each behind a small process: the peak of one that this large one starts would be as high as this one's own.
    running = [
        subprocess.Popen(
            [sys.executable, "-S", "-c", REPORTER, *map(str, one)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for one in commands
    ]
    used = []
    for process in running:
        output, errors = process.communicate()
        if process.returncode:
            last = errors.decode(errors="replace").strip().rpartition("\n")[2]
            raise RuntimeError(f"{' '.join(process.args[4:])[:200]} ended with status {process.returncode}: {last}")
        used.append(json.loads(output))
    cpu, peaks = zip(*used, strict=True)
    return Usage(sum(cpu), time.perf_counter() - started, max(peaks) * MB_OF_MAXRSS)


REPORTER = """
import json, resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss]))
sys.exit(status)
"""


def medians(measured: Sequence[Usage]) -> Usage:
    """The median of each figure."""
    names = [field.name for field in fields(Usage)]
    return Usage(*(statistics.median(getattr(one, name) for one in measured) for name in names))


def in_turns(setups: dict[str, Callable[..., Work]], case, rounds: int) -> dict[str, Usage | str]:
    """Measure ways in turns, so that each meets the machine as the others do.

    Returns:
        The medians by name; of a way that failed, why.
    """
    workers, measured, failed = {}, {name: [] for name in setups}, {}
    try:
        for _ in range(rounds):
            for name in (name for name in setups if name not in failed):
                try:
                    workers[name] = workers.get(name) or Worker(setups[name], case)
                    measured[name].append(workers[name].measure())
                except RuntimeError as error:
                    failed[name] = str(error)
    finally:
        for worker in workers.values():
            worker.close()
    return {name: failed.get(name) or medians(measured[name]) for name in setups}
