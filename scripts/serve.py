"""Serve a trained model over HTTP.

python scripts/serve.py runs/calls/final
curl -F file=@call.wav -F text="where is my parcel" http://127.0.0.1:8000/predict
HF_SER_TOKEN=secret python scripts/serve.py runs/calls/final --host 0.0.0.0

The server answers this machine alone, unless --host says otherwise. With the environment variable HF_SER_TOKEN it wants
`Authorization: Bearer TOKEN`. /docs describes the interface, /metrics is for Prometheus, /health for whoever starts it.
"""

from hf_ser.cli import parse_early, run

import argparse
import ipaddress
import os
import sys


def command_line() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """The parser, and the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("model", help="model folder, such as runs/quickstart/fold_1, or a Hub id, with or without @REVISION")
    add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 is all of this machine's")
    add("--port", type=int, default=8000)
    add("--device", default=None, help="such as cuda:0; default: a GPU where there is one")
    add("--batch_size", type=positive, default=8, help="most recordings that are answered together")
    add("--max_delay", type=seconds, default=0.02, help="seconds that a recording waits for others")
    add("--max_megabytes", type=seconds, default=20.0, help="largest recording, as it is sent (413)")
    add("--max_seconds", type=seconds, default=120.0, help="longest recording (422)")
    add("--max_requests", type=positive, default=128, help="most requests at once (429)")
    add("--max_waiting", type=positive, default=64, help="most recordings that wait for the model (503)")
    return parser, parser.parse_args()


def positive(text: str) -> int:
    """A number from 1 on."""
    if (number := int(text)) < 1:
        raise ValueError
    return number


def seconds(text: str) -> float:
    """A finite number above 0."""
    if not 0 < (number := float(text)) < float("inf"):
        raise ValueError
    return number


if __name__ == "__main__":
    parse_early(command_line)

from hf_ser.models.configuration_ser import AUDIO
from hf_ser.runs.classifier import Classifier

TOKEN = "HF_SER_TOKEN"


def main() -> None:
    """Load the model, and serve it until Ctrl-C."""
    import uvicorn  # where it is missing, this names the extra

    from hf_ser.deploy.server import Limits, build_app

    parser, arguments = command_line()
    if not 0 < arguments.port < 2**16:
        parser.error(f"--port {arguments.port}: expected 1 to 65535")
    classifier = Classifier(arguments.model, arguments.device)
    if AUDIO not in classifier.pipeline.modalities:
        raise ValueError(f"{arguments.model}: found a text-only model. Expected one that takes audio: name another.")
    limits = Limits(
        max_bytes=int(arguments.max_megabytes * 1e6),
        max_seconds=arguments.max_seconds,
        max_requests=arguments.max_requests,
        max_waiting=arguments.max_waiting,
        batch_size=arguments.batch_size,
        max_delay_seconds=arguments.max_delay,
    )
    token = os.environ.get(TOKEN) or None
    if token is None and not is_loopback(arguments.host):
        print(f"note: whoever reaches {arguments.host} may use this model: set {TOKEN} to ask for it", file=sys.stderr)
    print(f"{arguments.model} at http://{arguments.host}:{arguments.port}/docs", file=sys.stderr)
    app = build_app(classifier.pipeline, limits, token)
    uvicorn.run(app, host=arguments.host, port=arguments.port, log_level="warning", server_header=False)


def is_loopback(host: str) -> bool:
    """Whether an address is of this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    run(main)
