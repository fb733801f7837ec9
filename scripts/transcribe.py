"""Transcribe a prepared data set with Whisper; the corpus's own transcripts are kept beside.

python scripts/transcribe.py --dataset DS --asr openai-whisper:base
python scripts/transcribe.py --dataset DS --asr transformers:openai/whisper-small --output_dir DS_small
accelerate launch --config_file scripts/accelerate/multi_gpu.yaml scripts/transcribe.py --dataset DS --asr FOLDER
"""

from hf_ser.cli import parse_early, run, show_next

import argparse
import shlex
from dataclasses import fields
from datetime import timedelta
from pathlib import Path


def command_line() -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--dataset", required=True, type=Path, help="folder written by prepare_data.py")
    add(
        "--asr",
        required=True,
        help="openai-whisper:NAME, FILE.pt, transformers:HUB_ID[@REVISION], a model's folder, or faster-whisper:NAME",
    )
    add("--output_dir", type=Path, help="folder to write; default: --dataset itself gets the columns")
    add("--language", help="code, or detect; default: the corpus's if known, else detected")
    add("--prompt", help="text that the model takes as preceding, such as names")
    add("--whole_window", action="store_true", help="encode 30 s of every clip, as Whisper's own code does: slower")
    add("--check_window", type=int, default=0, metavar="N", help="measure what that changes, on N clips")
    for removed in ("--short_window", "--check_short_window"):
        add(removed, nargs="?", const=True, help=argparse.SUPPRESS)
    add(
        "--temperatures",
        type=float,
        nargs="+",
        default=argparse.SUPPRESS,
        help="tried while an answer is poor",
    )
    add("--max_tokens", type=int, help="longest answer to a window; default: the model's (224)")
    add("--no_speech_threshold", type=float, default=argparse.SUPPRESS)
    add("--logprob_threshold", type=float, default=argparse.SUPPRESS)
    add("--compression_ratio_threshold", type=float, default=argparse.SUPPRESS)
    add(
        "--precision",
        choices=("float32", "float16", "bfloat16", "int8"),
        help="default: float16 on a GPU, bfloat16 on a CPU that computes it itself, else float32; int8: faster-whisper",
    )
    add("--batch_size", type=int, default=32, help="windows decoded together; no effect beyond rounding")
    add("--cache", type=Path, help="file of the cache, which serves all data sets and models; default: the user's")
    arguments = parser.parse_args()
    if arguments.short_window or arguments.check_short_window:
        raise ValueError(
            "--short_window and --check_short_window are gone: real models repeated themselves without end. Clips are "
            "encoded in their own length in any case, followed by silence; leave the flag out, or measure the effect "
            "with --check_window 50."
        )
    if arguments.check_window < 0 or arguments.batch_size < 1:
        raise ValueError("--check_window and --batch_size: expected a number of clips, 1 or more.")
    return arguments


if __name__ == "__main__":
    parse_early(command_line)

import torch
from accelerate import PartialState

from hf_ser.data.prepared import load_prepared
from hf_ser.publish.transcribed import format_summary, reject_existing, summarise, with_transcripts, write_transcribed
from hf_ser.transcripts.cache import cache_file
from hf_ser.transcripts.loading import default_precision, load_recogniser
from hf_ser.transcripts.recogniser import DecodeOptions
from hf_ser.transcripts.run import Job, check_window, transcribe_dataset


def main() -> None:
    """Data set, recogniser, transcripts, their error rates, data set."""
    arguments = command_line()
    folder = arguments.dataset.resolve()  # of a link, the folder itself is what gets the columns
    output_dir = (arguments.output_dir or folder).resolve()
    if output_dir != folder:
        reject_existing(output_dir)
    if folder in output_dir.parents:
        raise ValueError(f"{output_dir} is inside the data set {folder}: name an --output_dir outside of it.")
    # Said before anything asks for the state: without `cpu`, several processes on a CPU would not know of each other;
    # and who has done its part waits for the slowest longer than the default of ten minutes.
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=7))
    arguments.precision = arguments.precision or default_precision(str(state.device), arguments.asr)
    with state.main_process_first():  # of several processes one downloads the model
        dataset = load_prepared(folder)
        recogniser = load_recogniser(arguments.asr, str(state.device), arguments.precision)
    job = Job(
        recogniser=recogniser,
        options=options(arguments),
        language=arguments.language,
        batch_size=arguments.batch_size,
        cache=arguments.cache or cache_file(),
        folder=arguments.asr.removeprefix("transformers:").removeprefix("faster-whisper:"),
    )
    # Before the first clip, not after hours.
    job.check(dataset.unique("corpus"))
    checked = check_window(dataset, job, arguments.check_window) if state.is_main_process else []
    done = transcribe_dataset(dataset, job)
    if state.is_main_process:
        dataset = with_transcripts(dataset, done.transcripts, job.source)
        summary = summarise(dataset, job, done, checked)
        write_transcribed(dataset, job, summary, folder, output_dir)
        print(format_summary(summary))
        print(f"data set: {output_dir}, all figures: {output_dir}/transcripts.json")
        name = shlex.quote(str(output_dir))
        show_next(f"train_fusion --dataset {name} --fold all", f"train_text --dataset {name} --fold all")
    state.wait_for_everyone()


def options(arguments: argparse.Namespace) -> DecodeOptions:
    """The arguments that decide the transcripts."""
    given = vars(arguments) | {"temperatures": tuple(getattr(arguments, "temperatures", DecodeOptions.temperatures))}
    return DecodeOptions(**{one.name: given[one.name] for one in fields(DecodeOptions) if one.name in given})


if __name__ == "__main__":
    run(main, continues=True)
