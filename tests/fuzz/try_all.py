"""Gives every damaged input of one seed to the readers, under a memory limit; run as a process of its own.

Writes one JSON line for each input: its name, what came of it (`read`, `skipped`, `refused`, or the fault), seconds.
"""

import json
import resource
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile as sf
from fuzz import damage
from fuzz.bad_inputs import doors
from models.tiny import AUDIO, LABELS, awaken, save_trained
from transformers import AutoModelForAudioClassification

import hf_ser
from hf_ser.data.audio import read_clip
from hf_ser.data.listing import list_corpora
from hf_ser.data.schema import Utterance
from hf_ser.data.shards import read_row
from hf_ser.runs.classifier import Classifier
from hf_ser.training.building import label_maps

PACKAGE = str(Path(hf_ser.__file__).parent)
REFUSALS = (ValueError, FileNotFoundError, OSError, ImportError)
MORE_BYTES = 1_500_000_000
"""What reading half a second may take beyond what this process has when it begins."""


def limit_memory() -> None:
    """Allow this process `MORE_BYTES` of addresses more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MORE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def outcome(read: Callable[[], str], name: str) -> str:
    """What came of one input: the word that `read` returns, `refused`, or a description of the fault."""
    try:
        return read()
    except REFUSALS as error:
        raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
        message = str(error)
        if type(error) not in REFUSALS or not raised_in.startswith(PACKAGE):
            return f"{type(error).__name__} of {raised_in}: {message}"
        if name not in message or not any(word in message for word in ("xpected", "leave out")):
            return f"names no file or no remedy: {message}"
        return "refused"
    except BaseException as error:  # whatever a library raises is the fault that is looked for
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} of {where.filename}:{where.lineno}: {error}"


def prepared(utterances: list[Utterance], labels: tuple[str, ...]) -> str:
    """Read clips as a preparation does."""
    rows = [read_row(utterance, labels) for utterance in utterances]
    for row, findings in rows:
        if row is None and not any(finding.skipped and finding.detail for finding in findings):
            return "skipped without a reason"
        if row is not None and not np.isfinite(row["duration_seconds"]):
            return "a row without a duration"
    return "skipped" if any(row is None for row, _ in rows) else "read"


def prepared_whole(utterance: Utterance, whole: bytes | None) -> str:
    """Read a clip as a preparation does; where it is known, all of the recording and no more is to be read."""
    result = prepared([utterance], ("angry",))
    if whole is None or result == "refused":
        return result
    there = len(sf.read(BytesIO(whole))[0]) / sf.info(BytesIO(whole)).samplerate
    read = read_clip(utterance.audio).duration_seconds
    return result if abs(read - there) < 1e-3 else f"{read} s were read, of {there}"


def read_table(file: Path) -> str:
    """List a table and read its clips."""
    listing = list_corpora("table", file)
    return prepared(listing.utterances, listing.labels)


def asked(classifier: Classifier, source: str) -> str:
    """Ask a model for the emotion of a file."""
    answer = classifier.pipeline(source)
    scores = [one["score"] for one in answer]
    if not (np.isfinite(scores).all() and abs(sum(scores) - 1) < 1e-4):
        return f"scores that are no probabilities: {scores}"
    return "read"


def audio(folder: Path, seed: int):
    """Damaged recordings, read by a preparation and by a pipeline."""
    save_trained("audio", folder / "model")
    classifier = Classifier(str(folder / "model"), "cpu")
    for name, content, whole in damage.audio_files(seed, damaged_copies=20):
        path = folder / name
        path.write_bytes(content)
        utterance = Utterance(id="table/1", audio=path, label="angry", corpus="table")
        yield f"prepare {name}", lambda utterance=utterance, whole=whole: prepared_whole(utterance, whole), name
        yield f"pipeline {name}", lambda path=path: asked(classifier, str(path)), name
        path.unlink()


def tables(folder: Path, seed: int):
    """Odd tables, listed and read as a preparation does."""
    samples = 0.3 * np.sin(2 * np.pi * 200 * np.arange(8_000) / 16_000)
    for number in range(8):
        sf.write(folder / f"clip_{number}.wav", samples * (1 + number) / 8, 16_000)
    for name, content in damage.tables(seed, 400):
        (folder / name).write_bytes(content)
        yield name, lambda name=name: read_table(folder / name), name


def models(folder: Path, seed: int):
    """Impossible configurations of models and of what reads their input, loaded and used."""
    samples = 0.3 * np.sin(2 * np.pi * 200 * np.arange(16_000) / 16_000)
    sf.write(folder / "clip.wav", samples, 16_000)
    save_trained("audio", folder / "audio")
    save_trained("fusion", folder / "fusion")
    save_stock("wav2vec2", folder / "stock")
    for kind, file, number in (
        *(("audio", "config.json", 60), ("audio", "preprocessor_config.json", 40)),
        *(("fusion", "config.json", 60), ("fusion", "tokenizer_config.json", 20)),
        *(("stock", "config.json", 60), ("stock", "preprocessor_config.json", 40)),
    ):
        whole = json.loads((folder / kind / file).read_text())
        for index, (changes, changed) in enumerate(damage.configurations(whole, seed, number)):
            model = folder / f"{kind}_{index}"
            shutil.copytree(folder / kind, model)
            (model / file).write_text(json.dumps(changed))
            yield f"{kind} {file}: {changes}", lambda model=model: load_and_ask(model, folder / "clip.wav"), model.name
            shutil.rmtree(model)


def save_stock(kind: str, folder: Path) -> None:
    """Save one of transformers' own classifiers with random weights."""
    config, extractor = AUDIO[kind]()
    config.id2label, config.label2id = label_maps(LABELS).values()
    awaken(AutoModelForAudioClassification.from_config(config)).save_pretrained(folder)
    extractor.save_pretrained(folder)


def load_and_ask(model: Path, file: Path) -> str:
    """Load a model folder and ask it for the emotion of a file."""
    return asked(Classifier(str(model), "cpu"), str(file))


def main(kind: str, folder: str, seed: str) -> None:
    cases = {"audio": audio, "tables": tables, "models": models, "doors": doors}[kind](Path(folder), int(seed))
    first = True
    for name, read, named in cases:
        if first:
            limit_memory()
            first = False
        print(json.dumps({"case": name}), flush=True)  # an input that kills the process is known by this line
        started = time.perf_counter()
        result = outcome(read, named)
        print(json.dumps({"result": result, "seconds": time.perf_counter() - started}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
