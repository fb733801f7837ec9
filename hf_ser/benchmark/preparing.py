"""Preparing a corpus: ours, the way of many notebooks, and the least that any way has to do."""

import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import soundfile
import soxr

from hf_ser.benchmark.case import Case
from hf_ser.benchmark.measure import Usage, Work, run_fresh
from hf_ser.data.prepare import prepare
from hf_ser.models.samples import SAMPLING_RATE


def checked_data_set(case: Case) -> Work:
    """Ours: decoded, checked, hashed, fingerprinted, kept as FLAC in a data set that memory-maps."""
    table = str(case.table())

    def work():
        with case.new_folder() as folder:
            prepare("table", table, folder / "data")

    return work


def mel_pictures(case: Case) -> Work:
    """The peer: each clip by librosa as a picture of its mel spectrogram, drawn by matplotlib."""
    import librosa
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    files = case.files()

    def picture(file: str, output: Path):
        samples, rate = librosa.load(file, sr=SAMPLING_RATE)
        mel = librosa.feature.melspectrogram(y=samples, sr=rate, n_mels=128)
        plt.figure(figsize=(4, 4))
        librosa.display.specshow(librosa.power_to_db(mel, ref=np.max), sr=rate)
        plt.axis("off")
        plt.savefig(output, bbox_inches="tight", pad_inches=0)
        plt.close()

    def work():
        with case.new_folder() as folder:
            for number, file in enumerate(files):
                picture(file, folder / f"{number}.png")

    with case.new_folder() as folder:  # librosa compiles at its first call
        picture(files[0], folder / "first.png")
    return work


def without_librosa(case: Case) -> str | None:
    """Why the peer cannot be measured."""
    return None if find_spec("librosa") else "found no librosa: pip install hf_ser[bench]"


def flac_files(case: Case) -> Work:
    """The floor: soundfile reads, soxr resamples, soundfile writes FLAC; nothing is checked."""
    files = case.files()

    def work():
        with case.new_folder() as folder:
            for number, file in enumerate(files):
                samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
                mono = samples.mean(axis=1)
                if rate != SAMPLING_RATE:
                    mono = soxr.resample(mono, rate, SAMPLING_RATE)
                soundfile.write(folder / f"{number}.flac", mono, SAMPLING_RATE)

    return work


PREPARED = "import sys; from hf_ser.data.prepare import prepare; prepare('table', sys.argv[1], sys.argv[2] + '/data')"
LISTED = """
import csv, pickle, sys, soundfile, soxr
rows = list(csv.DictReader(open(sys.argv[1])))
for row in rows:
    samples, rate = soundfile.read(row["path"], dtype="float32")
    row["samples"] = samples if rate == 16000 else soxr.resample(samples, rate, 16000)
pickle.dump(rows, open(sys.argv[2] + "/data.pickle", "wb"))
"""


def many_prepared(number: int) -> Callable[[Case], Work]:
    """Ours: the table of this number in `Case.many`, in a fresh process."""
    return partial(_in_fresh_process, PREPARED, number)


def many_listed(number: int) -> Callable[[Case], Work]:
    """The peer: all clips of the table in one list, which is pickled."""
    return partial(_in_fresh_process, LISTED, number)


def _in_fresh_process(code: str, number: int, case: Case) -> Work:
    table = case.many()[number]

    def work() -> Usage:
        with case.new_folder() as folder:
            return run_fresh([sys.executable, "-c", code, table, folder])

    return work
