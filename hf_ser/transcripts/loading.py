"""Load a recogniser by the name that a user gives."""

from pathlib import Path

import torch

from hf_ser.transcripts.recogniser import PRECISIONS, Recogniser

OPENAI, TRANSFORMERS, FASTER = "openai-whisper:", "transformers:", "faster-whisper:"
FORMS = (
    f"{OPENAI}NAME (such as {OPENAI}base), the path of a .pt file of openai-whisper, {TRANSFORMERS}HUB_ID with or "
    f"without @REVISION (such as {TRANSFORMERS}openai/whisper-small), a folder with a model of transformers, or "
    f"{FASTER}NAME or {FASTER}FOLDER"
)


def default_precision(device: str, spec: str = "") -> str:
    """Precision where none is given: float16 on a GPU, bfloat16 on a processor that computes it itself, else float32.

    On other processors bfloat16 takes longer than float32, and CTranslate2 lacks it on most.
    """
    if device.startswith("cuda"):
        return "float16"
    return "bfloat16" if computes_bfloat16() and not spec.startswith(FASTER) else "float32"


def computes_bfloat16() -> bool:
    """Whether the processor has instructions for products in bfloat16."""
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def load_recogniser(spec: str, device: str | None = None, precision: str = "float32") -> Recogniser:
    """Load a Whisper; a name or Hub id is downloaded if it is not cached.

    Args:
        spec: `openai-whisper:base`, a `.pt` file, `transformers:openai/whisper-small`, a folder, or
            `faster-whisper:base`.
        device: As torch names it; None is a GPU if there is one.
        precision: float32, bfloat16, on a GPU float16, of faster-whisper int8.

    Raises:
        FileNotFoundError, ValueError: no such model, or one that cannot be used.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    faster = spec.startswith(FASTER)
    possible = [name for name in (*PRECISIONS, *["int8"] * faster) if device != "cpu" or name != "float16"]
    if precision not in possible:
        raise ValueError(f"--precision {precision} of {spec} on {device}: expected {' or '.join(possible)}.")
    if faster:
        from hf_ser.transcripts.faster_whisper import load

        return load(spec.removeprefix(FASTER), device, precision)
    # Imported here: openai-whisper takes seconds, and few runs need both back ends.
    if spec.startswith(OPENAI) or spec.endswith(".pt"):
        from hf_ser.transcripts.openai_whisper import load

        return load(spec.removeprefix(OPENAI), device, precision)
    if spec.startswith(TRANSFORMERS) or Path(spec, "config.json").is_file():
        from hf_ser.transcripts.transformers_whisper import load

        return load(spec.removeprefix(TRANSFORMERS), device, precision)
    raise ValueError(f"--asr {spec}: found nothing of this name. Expected {FORMS}.")
