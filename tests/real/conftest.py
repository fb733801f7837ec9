"""Real Whisper weights: a folder that HF_SER_WHISPER_DIR names, beside which nothing is fetched."""

import os
from pathlib import Path

import pytest

VARIABLE = "HF_SER_WHISPER_DIR"
MODELS = ("base", "tiny.en")


@pytest.fixture(scope="session", params=MODELS)
def whisper_files(request) -> tuple[Path, Path]:
    """A model's `whisper-NAME.pt` of openai-whisper and its folder `whisper-NAME` of transformers, for each model."""
    folder = Path(os.environ.get(VARIABLE) or "nowhere")
    files = folder / f"whisper-{request.param}.pt", folder / f"whisper-{request.param}"
    if not all(file.exists() for file in files):
        pytest.skip(f"no whisper-{request.param}.pt and whisper-{request.param}/: name their folder in {VARIABLE}")
    return files


@pytest.fixture(scope="session")
def ct2_folder(whisper_files) -> Path:
    """The same model in the form of CTranslate2, `ct2-NAME` beside it."""
    folder = whisper_files[1].with_name(whisper_files[1].name.replace("whisper-", "ct2-"))
    pytest.importorskip("faster_whisper", reason="pip install hf_ser[fast]")
    if not folder.is_dir():
        pytest.skip(f"no {folder.name}/ in {folder.parent}")
    return folder
