"""Write a trained model as ONNX, with one file of Python that runs it without torch.

python scripts/export.py runs/calls/final calls_onnx
python scripts/export.py runs/calls/fold_1 calls_onnx --quantize int8 --dataset data/calls
python calls_onnx/onnx_ser.py call.wav

The answers are compared with torch's on generated clips: an export that differs by more than 0.0001 in a probability is
not written.
"""

from hf_ser.cli import parse_early, run, show_next

import argparse
import shlex
from pathlib import Path


def command_line() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """The parser, and the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("model", help="model folder, such as runs/quickstart/fold_1, or a Hub id, with or without @REVISION")
    add("output_dir", type=Path, metavar="OUT", help="folder to write; an older export in it is replaced")
    add(
        "--quantize",
        choices=["int8", "fp16"],
        help="int8 weights of the matrix products: smaller, and faster on most CPUs; fp16: stored in half precision",
    )
    add(
        "--dataset",
        help="prepared data set: measures UAR and time on the model's validation clips, or on clips that it was not "
        "trained on, and refuses smaller weights that cost a point of UAR",
    )
    add("--max_clips", type=int, help="measure on at most so many clips")
    return parser, parser.parse_args()


if __name__ == "__main__":
    parse_early(command_line)


def main() -> None:
    """Export, and print what was checked."""
    from hf_ser.deploy.onnx_export import export_onnx  # where onnxruntime is missing, this names the extra

    parser, arguments = command_line()
    if arguments.max_clips is not None and arguments.max_clips < 1:
        parser.error(f"--max_clips {arguments.max_clips}: expected 1 or more")
    done = export_onnx(
        arguments.model, arguments.output_dir, arguments.quantize, arguments.dataset, arguments.max_clips
    )
    print(format_export(done))
    model = shlex.quote(str(arguments.model))
    show_next(f"serve {model}", f"predict {model} call.wav")


def format_export(done) -> str:
    """The result of an export, an `Exported`, as text."""
    lines = [
        f"torch and onnxruntime differ by {done.difference:.1e} at most in a probability ({done.checked} answers)",
        *(
            f"{name:8} UAR {100 * one.uar:.1f} %, {one.milliseconds:.0f} ms of CPU a clip ({one.clips} clips)"
            for name, one in done.measured.items()
        ),
        *(f"note: {note}" for note in done.notes),
        f"{done.folder}: {done.megabytes:.1f} MB; run it with python {done.folder / 'onnx_ser.py'} AUDIO",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
