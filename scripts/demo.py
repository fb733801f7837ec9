"""Try a trained model in the browser: record or upload, and see the scores as bars.

python scripts/demo.py runs/quickstart/fold_1
python scripts/demo.py user/name@REVISION --port 7861

The page is for this machine alone, unless --host says otherwise. `push_to_hub.py --space` pushes the same page.
"""

from hf_ser.cli import parse_early, run

import argparse
import os
import sys


def command_line() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """The parser, and the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("model", help="model folder, such as runs/quickstart/fold_1, or a Hub id, with or without @REVISION")
    add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 is all of this machine's")
    add("--port", type=int, default=7860)
    add("--device", default=None, help="such as cuda:0; default: a GPU where there is one")
    return parser, parser.parse_args()


if __name__ == "__main__":
    parse_early(command_line)
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before gradio is imported: nothing is sent anywhere

from functools import partial

from hf_ser.models.configuration_ser import AUDIO
from hf_ser.runs.classifier import Classifier


def main() -> None:
    """Load the model, and show its page until Ctrl-C."""
    from hf_ser.deploy.demo import build_demo, read_card  # where gradio is missing, this names the extra
    from hf_ser.deploy.demo_timeline import timeline_view

    parser, arguments = command_line()
    if not 0 < arguments.port < 2**16:
        parser.error(f"--port {arguments.port}: expected 1 to 65535")
    classifier = Classifier(arguments.model, arguments.device)
    if AUDIO not in classifier.pipeline.modalities:
        raise ValueError(f"{arguments.model}: found a text-only model. Expected one that takes audio: name another.")
    over_time = partial(timeline_view, classifier)
    page = build_demo(classifier.pipeline, arguments.model, card=read_card(arguments.model), timeline=over_time)
    print(f"{arguments.model} at http://{arguments.host}:{arguments.port}", file=sys.stderr)
    page.launch(server_name=arguments.host, server_port=arguments.port, quiet=True, show_error=True)


if __name__ == "__main__":
    run(main)
