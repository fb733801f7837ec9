"""What a fresh process takes: importing, help, the first answer; and two processes beside one."""

import sys

from hf_ser.benchmark.case import Case
from hf_ser.benchmark.measure import Usage, Work, run_fresh

OUR_IMPORT = "import hf_ser"
STOCK_IMPORT = "from transformers import Trainer, pipeline"
NO_IMPORT = "pass"

OUR_HELP = """
import sys; from hf_ser.cli import main
sys.argv = ["hf-ser", "train_audio", "--help"]; main()
"""
STOCK_HELP = """
from transformers import HfArgumentParser, TrainingArguments
HfArgumentParser(TrainingArguments).parse_args(["--help"])
"""
PLAIN_HELP = "import argparse; argparse.ArgumentParser().parse_args(['--help'])"

OUR_ANSWER = """
import sys; from transformers import pipeline
pipeline("audio-classification", model=sys.argv[1], trust_remote_code=True)(sys.argv[2])
"""
STOCK_ANSWER = """
import sys, soundfile; from transformers import pipeline
samples, rate = soundfile.read(sys.argv[2], dtype="float32")
pipeline("audio-classification", model=sys.argv[1])({"raw": samples, "sampling_rate": rate})
"""
BARE_ANSWER = """
import sys, soundfile, soxr, torch
from transformers import WhisperFeatureExtractor, WhisperForAudioClassification
samples, rate = soundfile.read(sys.argv[2], dtype="float32")
extractor = WhisperFeatureExtractor.from_pretrained(sys.argv[1])
inputs = extractor(soxr.resample(samples, rate, 16000), sampling_rate=16000, return_tensors="pt")
with torch.inference_mode():
    WhisperForAudioClassification.from_pretrained(sys.argv[1])(inputs["input_features"]).logits.argmax()
"""
COMMAND = "from hf_ser.cli import main; main()"


def fresh(code: str, case: Case) -> Work:
    """Some code in a process of its own."""
    return lambda: run_fresh([sys.executable, "-c", code])


def answer_of(code: str, ours: bool, case: Case) -> Work:
    """The first answer in a process of its own, by some code: of our model, or of the one of transformers."""
    model, clip = case.model() if ours else case.stock(), case.files()[0]
    return lambda: run_fresh([sys.executable, "-c", code, model, clip])


def label_all(processes: int, case: Case) -> Work:
    """predict.py over all clips in so many processes, each with its share."""
    model, table = case.model(), case.table()

    def work() -> Usage:
        with case.new_folder() as folder:
            shards = [f"{number + 1}/{processes}" for number in range(processes)]
            command = [sys.executable, "-c", COMMAND, "predict", model, "--input", table, "--output", folder / "labels"]
            return run_fresh(*([*command, "--shard", shard] for shard in shards))

    return work
