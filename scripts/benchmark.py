"""Measure this toolkit on this machine.

python scripts/benchmark.py prepare --rows 10000 30000 100000

prepares tables of that many generated clips, each in a process of its own, and prints the time and the peak memory.
With --kill each is killed half-way and resumed; lost or repeated rows are an error.

python scripts/benchmark.py transcribe --data_dir RAVDESS --corpus ravdess --asr openai-whisper:base faster-whisper:base

transcribes clips with openai-whisper in a loop of `model.transcribe(clip)`, one at a time, and with this toolkit, in
turns, and prints the CPU seconds, how much faster the batches are, for how many clips the texts are the same and, with
--corpus, the word error rate. Without --asr the model has the size of whisper-tiny and random weights: its texts mean
nothing.

python scripts/benchmark.py frozen --dataset DATA --audio_model MODEL [--clips 64] [--head linear --pooling mean]

trains a head on a frozen encoder, once encoding every clip in every epoch and once from the cache (--cache_frozen), and
prints the time of an epoch both ways, that of the first with the pass that computes the features, and the difference of
the logits. The cache is temporary.

python scripts/benchmark.py encode --audio_model MODEL [--max_seconds 30 5] [--seconds 3.7]

runs an audio encoder on clips of one length, for each --max_seconds that it may be cropped to (for wav2vec2 and similar
models the clips are padded to it), in float32 and in bfloat16, in turns.
"""

from hf_ser.cli import parse_early, run

import argparse
import csv
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from hf_ser.settings import names_in


def command_line() -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    jobs = parser.add_subparsers(dest="job", required=True)
    prepare = jobs.add_parser("prepare", help="reading a corpus")
    prepare.add_argument("--rows", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    prepare.add_argument("--kill", action="store_true", help="kill each half-way; the second run is measured")
    prepare.add_argument("--folder", help="where to put the generated clips (50 kB a row); default: temporary")
    asr = jobs.add_parser("transcribe", help="Whisper in batches against one clip at a time")
    asr.add_argument("--data_dir", type=Path, required=True, help="folder with audio files, in any depth")
    asr.add_argument("--corpus", help="name of the corpus in --data_dir, whose transcripts give the word error rate")
    asr.add_argument("--asr", nargs="+", help="first an openai-whisper:NAME or FILE.pt, then others to compare")
    asr.add_argument("--ways", nargs="+", default=[""], help="parts of the names of the ways to measure; default: all")
    asr.add_argument("--clips", type=int, default=32, help="files, evenly chosen among those of --data_dir")
    asr.add_argument("--language", default="en", help="code of what is spoken in the files")
    asr.add_argument("--max_tokens", type=int, help="longest answer, in the loop too; default: the model's (224)")
    asr.add_argument("--batch_size", type=int, default=32)
    asr.add_argument("--rounds", type=int, default=3, help="each way takes its turn so often; the medians are compared")
    frozen = jobs.add_parser("frozen", help="training on a frozen encoder, with its features kept and without")
    frozen.add_argument("--dataset", required=True, help="folder written by prepare_data.py")
    frozen.add_argument("--audio_model", required=True, help="a trained audio encoder: folder or Hub id")
    frozen.add_argument("--clips", type=int, default=64, help="training rows, evenly chosen; as many are held out")
    frozen.add_argument("--max_seconds", type=float, default=5.0)
    frozen.add_argument("--epochs", type=int, default=4, help="the first has the pass in it, of the others the median")
    frozen.add_argument("--batch_size", type=int, default=16, help="of both ways")
    frozen.add_argument("--head", choices=("mlp", "linear"), default="mlp")
    frozen.add_argument("--pooling", choices=names_in("models/heads.py", "POOLINGS"), default="attentive")
    encode = jobs.add_parser("encode", help="an audio encoder, by the length that it computes and the precision")
    encode.add_argument("--audio_model", required=True, help="an audio encoder: folder or Hub id")
    encode.add_argument("--max_seconds", type=float, nargs="+", default=[30.0, 5.0])
    encode.add_argument("--seconds", type=float, default=3.7, help="length of the clips")
    encode.add_argument("--clips", type=int, default=4, help="of a batch")
    encode.add_argument("--rounds", type=int, default=3, help="each way takes its turn so often")
    encode.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    parse_early(command_line)

import numpy as np
import soundfile
import torch
import whisper
from tqdm import tqdm
from transformers import TrainerCallback, set_seed

from hf_ser.data.audio import read_clip
from hf_ser.data.corpora import CORPORA
from hf_ser.data.prepared import load_prepared
from hf_ser.data.schema import SAMPLING_RATE
from hf_ser.data.shards import SHARD_ROWS
from hf_ser.models.encoders import family_of
from hf_ser.models.processing_ser import audio_inputs
from hf_ser.runs.record import hardware
from hf_ser.training.arguments import AdaptArguments, AudioArguments, HeadArguments
from hf_ser.training.building import build_model
from hf_ser.training.fold_data import FoldData
from hf_ser.training.frozen_pass import frozen_features
from hf_ser.training.pretrained import load_audio_encoder
from hf_ser.training.trainer import SerTrainer
from hf_ser.training.trainer_arguments import SerTrainingArguments
from hf_ser.transcripts.loading import FASTER, load_recogniser
from hf_ser.transcripts.random_whisper import write_random_whisper
from hf_ser.transcripts.recogniser import DecodeOptions
from hf_ser.transcripts.transcriber import Request, transcribe
from hf_ser.transcripts.wer import error_rate

PREPARE = Path(__file__).with_name("prepare_data.py")
SECONDS = 0.5
LABELS = ("angry", "happy", "neutral", "sad")


def main() -> None:
    """Measure and print what the arguments name."""
    arguments = command_line()
    MEASURES[arguments.job](arguments)


def measure_prepare(arguments: argparse.Namespace) -> None:
    """Measure time and memory of preparing."""
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        table = generate(Path(folder), max(arguments.rows))
        print("    rows   seconds  CPU seconds  CPU ms/row   peak MB")
        for rows in arguments.rows:
            seconds, cpu, memory = measure(table[:rows], Path(folder) / f"data_{rows}", arguments.kill)
            print(f"{rows:>8} {seconds:>9.1f} {cpu:>12.1f} {1000 * cpu / rows:>11.2f} {memory:>9.0f}", flush=True)


def generate(folder: Path, rows: int) -> list[dict]:
    """Write distinct noise bursts of half a second as 16-bit WAV files, and return the rows of their table."""
    table = []
    for row in tqdm(range(rows), unit=" clips", desc="generating", disable=None):
        file = folder / "clips" / f"{row // 1000:04d}" / f"{row:07d}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(row).normal(0, 3000, int(SECONDS * SAMPLING_RATE)).astype(np.int16)
        soundfile.write(file, noise, SAMPLING_RATE)
        table.append({"path": str(file), "label": LABELS[row % 4], "speaker": f"s{row % 100}"})
    return table


def measure(table: list[dict], output_dir: Path, kill: bool) -> tuple[float, float, float]:
    """Seconds, CPU seconds and peak resident memory in MB of preparing; with `kill`, of resuming a killed run.

    Raises:
        ValueError: rows are missing or repeated.
    """
    file = output_dir.with_suffix(".csv")
    with open(file, "w", newline="") as handle:
        writer = csv.DictWriter(handle, table[0])
        writer.writeheader()
        writer.writerows(table)
    command = [sys.executable, PREPARE, "--corpus", "table", "--data_dir", file, "--output_dir", output_dir]
    if kill:
        first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        shards = Path(f"{output_dir}.partial")
        while len(list(shards.glob("shard_*"))) < len(table) / SHARD_ROWS / 2:
            time.sleep(0.2)
        first.send_signal(signal.SIGKILL)
        first.wait()
        print(f"killed with {len(list(shards.glob('shard_*')))} of {-(-len(table) // SHARD_ROWS)} shards written")
    started = time.time()
    usage = json.loads(subprocess.run([sys.executable, "-c", USAGE, *command], check=True, capture_output=True).stdout)
    seconds = time.time() - started
    ids = load_prepared(output_dir)["id"][:]
    if sorted(ids) != sorted(f"table/{row['path']}" for row in table):
        raise ValueError(f"{output_dir}: found {len(ids)} rows, {len(set(ids))} distinct, expected {len(table)}.")
    return seconds, usage["cpu"], usage["kilobytes"] / 1024


USAGE = """
import json, resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"cpu": used.ru_utime + used.ru_stime, "kilobytes": used.ru_maxrss}))
"""


def measure_transcribe(arguments: argparse.Namespace) -> None:
    """Compare the loop and the batches, in time and in their texts."""
    files = audio_files(arguments.data_dir, arguments.clips)
    with tempfile.TemporaryDirectory() as folder:
        ways = ways_to_transcribe(arguments, Path(folder))
        ways = {name: way for name, way in ways.items() if any(part in name for part in arguments.ways)}
        seconds, texts = {name: [] for name in ways}, {}
        turns = [name for _ in range(arguments.rounds) for name in ways]
        for name in tqdm(turns, unit=" turns", desc="measuring", disable=None):
            started = time.process_time()
            texts[name] = ways[name](files)
            seconds[name].append(time.process_time() - started)
    print(f"{len(files)} clips of {arguments.data_dir}, {hardware()}, model: {arguments.asr or 'random weights'}")
    print(f"{'':<48} {'CPU s a clip':>12} {'than the loop':>14} {'with language':>14} {'same text':>10} {'WER':>7}")
    said = transcripts_of(arguments)
    medians = {name: statistics.median(measured) for name, measured in seconds.items()}
    for name, median in medians.items():
        loops = (LOOP, LOOP_WITH_LANGUAGE)
        faster = [f"{medians[loop] / median:.1f}x" if loop in medians else "-" for loop in loops]
        same = sum(texts[name][file] == texts.get(LOOP_WITH_LANGUAGE, {}).get(file) for file in files)
        pairs = [(said[file], texts[name][file], arguments.language) for file in files if file in said]
        rate = f"{100 * error_rate(*zip(*pairs, strict=True)):.2f} %" if pairs else "-"
        print(f"{name:<48} {median / len(files):>12.3f} {faster[0]:>14} {faster[1]:>14} {same:>10} {rate:>7}")


def transcripts_of(arguments: argparse.Namespace) -> dict[str, str]:
    """Transcripts of a corpus's files, where it is named."""
    if not arguments.corpus:
        return {}
    listing = CORPORA[arguments.corpus].list_utterances(arguments.data_dir)
    return {str(one.audio): one.transcript for one in listing.utterances if one.transcript}


def audio_files(folder: Path, clips: int) -> list[str]:
    """A number of files of a folder, evenly chosen.

    Raises:
        ValueError: there are none.
    """
    kinds = (".flac", ".wav", ".mp3", ".ogg")
    found = sorted(str(file) for file in folder.rglob("*") if file.suffix.lower() in kinds)
    if not found:
        raise ValueError(f"--data_dir {folder}: found no audio file, expected some ending in {', '.join(kinds)}.")
    return found[:: max(1, len(found) // clips)][:clips]


LOOP, LOOP_WITH_LANGUAGE = "loop of model.transcribe", "the same, language given"


def ways_to_transcribe(arguments: argparse.Namespace, folder: Path) -> dict[str, Callable[[list[str]], dict[str, str]]]:
    """Functions from files to their texts: two loops, then the batches.

    The batches with `whole_window` and without it. All are greedy, without time stamps. The first loop detects the
    language of each clip, as `model.transcribe(path)` does; the others are given it. The loops do not start ffmpeg for
    each file, which saves them time.
    """
    checkpoint, *others = arguments.asr or write_random_whisper(folder)
    # The model of the first back end, with its own `transcribe`.
    model = whisper.load_model(str(checkpoint).removeprefix("openai-whisper:"))
    how = {"temperature": 0, "without_timestamps": True, "condition_on_previous_text": False}
    how |= {"sample_len": arguments.max_tokens, "fp16": model.device.type == "cuda"}

    def loop(language, files):
        return {file: model.transcribe(samples_of(file), language=language, **how)["text"].strip() for file in files}

    def batches(recogniser, whole, files):
        options = DecodeOptions(whole_window=whole, temperatures=(0.0,), max_tokens=arguments.max_tokens)
        requests = [
            Request(file, soundfile.info(file).duration, partial(samples_of, file), arguments.language)
            for file in files
        ]
        answers = transcribe(recogniser, requests, options, arguments.batch_size)
        return {request.key: answer.text for request, answer in answers}

    ways = {LOOP: partial(loop, None), LOOP_WITH_LANGUAGE: partial(loop, arguments.language)}
    for spec in map(str, (checkpoint, *others)):
        for precision in ("float32", "int8") if spec.startswith(FASTER) else ("float32",):
            recogniser = load_recogniser(spec, precision=precision)
            for window, whole in (("30 s", True), ("the clip alone", False)):
                ways[f"batches, {recogniser.name}, {precision}, {window}"] = partial(batches, recogniser, whole)
    return ways


def measure_encode(arguments: argparse.Namespace) -> None:
    """Measure clips a second of an encoder by length and precision, as medians over the rounds."""
    torch.set_num_threads(arguments.threads)
    ways = {}
    for seconds in arguments.max_seconds:
        encoder, extractor = load_audio_encoder(AudioArguments(arguments.audio_model, max_seconds=seconds))
        draw = np.random.default_rng(0)
        clip = 0.1 * draw.standard_normal(int(arguments.seconds * SAMPLING_RATE)).astype(np.float32)
        batch = audio_inputs(extractor, [clip] * arguments.clips)
        if batch["input_values"].dim() == 2:
            missing = int(seconds * SAMPLING_RATE) - batch["input_values"].shape[1]
            batch = {name: torch.nn.functional.pad(value, (0, max(0, missing))) for name, value in batch.items()}
        for half in (False, True):
            ways[seconds, half] = partial(encode_once, encoder.eval(), batch, half)
    times = {way: [] for way in ways}
    for _ in tqdm(range(arguments.rounds), unit=" rounds"):
        for way, once in ways.items():
            started = time.perf_counter()
            once()
            times[way].append(time.perf_counter() - started)
    print(f"{arguments.audio_model}, {arguments.clips} clips of {arguments.seconds:g} s, {arguments.threads} thread(s)")
    first = statistics.median(next(iter(times.values())))
    for (seconds, half), taken in times.items():
        median = statistics.median(taken)
        precision = "bfloat16" if half else "float32"
        speed = f"{arguments.clips / median:6.2f} clips/s, {first / median:5.2f}x"
        print(f"  cropped or padded to {seconds:4g} s, {precision:8}: {speed}")


def encode_once(encoder, batch: dict[str, torch.Tensor], half: bool) -> None:
    """One forward pass."""
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        family_of(encoder.config).encode(encoder, encoder.config, batch["input_values"], batch["audio_mask"])


def measure_frozen(arguments: argparse.Namespace) -> None:
    """Run the same training twice: encoding every clip in every epoch, and from the cache."""
    data = load_prepared(arguments.dataset)
    step = max(1, len(data) // (2 * arguments.clips))
    chosen = range(0, len(data), step)[: 2 * arguments.clips]
    rows, held_out = data.select(chosen[::2]), data.select(chosen[1::2])
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_SER_CACHE"] = folder
        for way in ("encoded every epoch", "from the cache"):
            results[way] = train_frozen(arguments, rows, held_out, way == "from the cache", Path(folder) / "run")
    print(f"{len(rows)} clips of {arguments.dataset}, {hardware()}, model: {arguments.audio_model}")
    print(f"head {arguments.head}, pooling {arguments.pooling}, batches of {arguments.batch_size}")
    print(f"{'':<22} {'first epoch s':>13} {'epoch s':>9} {'clips/s':>9} {'held-out WA':>13}")
    for way, (seconds, logits) in results.items():
        epoch = statistics.median(seconds[1:])
        # WA, since evenly chosen rows may lack a class.
        accuracy = (logits.argmax(axis=1) == np.array(held_out["label"][:])).mean()
        print(f"{way:<22} {seconds[0]:>13.2f} {epoch:>9.3f} {len(rows) / epoch:>9.1f} {accuracy:>13.4f}")
    (slow, logits), (fast, read) = results.values()
    print(
        f"an epoch is {statistics.median(slow[1:]) / statistics.median(fast[1:]):.1f}x as fast from the cache; ", end=""
    )
    same = (logits.argmax(1) == read.argmax(1)).sum()
    print(f"{same} of {len(read)} answers are the same, logits differ by at most {np.abs(logits - read).max():.1e}")


def train_frozen(arguments, rows, held_out, cached: bool, folder: Path) -> tuple[list[float], np.ndarray]:
    """Train, and return the seconds of each epoch (the pass that computes the features in the first) and the logits of
    the held-out rows."""
    training = SerTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=arguments.epochs,
        per_device_train_batch_size=arguments.batch_size,
        cache_frozen=cached,
        early_stopping_patience=0,
        load_best_model_at_end=False,
        **dict.fromkeys(("eval_strategy", "save_strategy", "logging_strategy"), "no"),
        disable_tqdm=True,
    )
    set_seed(training.seed)
    labels = rows.features["label"].names
    audio = AudioArguments(audio_model=arguments.audio_model, max_seconds=arguments.max_seconds)
    head = HeadArguments(head=arguments.head, pooling=arguments.pooling)
    candidate = build_model(labels, head, AdaptArguments(freeze="audio"), audio)
    started = time.perf_counter()
    if cached:
        candidate.collator.frozen = frozen_features(candidate, FoldData(rows, held_out.select([]), held_out), training)
        print(candidate.collator.frozen.summary())
    passed = time.perf_counter() - started
    epochs = Epochs()
    trainer = SerTrainer(candidate, labels, args=training, train_dataset=rows, callbacks=[epochs])
    trainer.train()
    return [passed + epochs.seconds[0], *epochs.seconds[1:]], trainer.logits(held_out)


class Epochs(TrainerCallback):
    """Records the seconds of each epoch."""

    def __init__(self):
        self.seconds: list[float] = []
        self.started = 0.0

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.started = time.perf_counter()

    def on_epoch_end(self, args, state, control, **kwargs):
        self.seconds.append(time.perf_counter() - self.started)


def samples_of(file: str) -> np.ndarray:
    """The samples of a file."""
    return read_clip(file).samples


MEASURES = {
    "prepare": measure_prepare,
    "transcribe": measure_transcribe,
    "frozen": measure_frozen,
    "encode": measure_encode,
}

if __name__ == "__main__":
    run(main)
