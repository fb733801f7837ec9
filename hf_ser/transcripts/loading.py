"""Load a recogniser by the name that a user gives."""

from pathlib import Path

import torch

from hf_ser.transcripts.recogniser import PRECISIONS, Recogniser

OPENAI, TRANSFORMERS = "openai-whisper:", "transformers:"
FORMS = (
    f"{OPENAI}NAME (such as {OPENAI}base), the path of a .pt file of openai-whisper, {TRANSFORMERS}HUB_ID with or "
    f"without @REVISION (such as {TRANSFORMERS}openai/whisper-small), or a folder with a model of transformers"
)


def default_precision(device: str) -> str:
    """Precision as in Whisper's own code: float16 on a GPU, else float32."""
    return "float16" if device.startswith("cuda") else "float32"


def load_recogniser(spec: str, device: str | None = None, precision: str = "float32") -> Recogniser:
    """Load a Whisper; a name or Hub id is downloaded if it is not cached.

    Args:
        spec: `openai-whisper:base`, a `.pt` file, `transformers:openai/whisper-small`, or a folder.
        device: As torch names it; None is a GPU if there is one.
        precision: float32, or on a GPU float16 or bfloat16 (bfloat16 also on a CPU that supports it).

    Raises:
        FileNotFoundError, ValueError: no such model, or one that cannot be used.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if precision not in PRECISIONS or (precision == "float16" and device == "cpu"):
        possible = [name for name in PRECISIONS if device != "cpu" or name != "float16"]
        raise ValueError(f"--precision {precision} on {device}: expected {' or '.join(possible)}.")
    # Imported here: openai-whisper takes seconds, and few runs need both back ends.
    if spec.startswith(OPENAI) or spec.endswith(".pt"):
        from hf_ser.transcripts.openai_whisper import load

        return load(spec.removeprefix(OPENAI), device, precision)
    if spec.startswith(TRANSFORMERS) or Path(spec, "config.json").is_file():
        from hf_ser.transcripts.transformers_whisper import load

        return load(spec.removeprefix(TRANSFORMERS), device, precision)
    raise ValueError(f"--asr {spec}: found nothing of this name. Expected {FORMS}.")
