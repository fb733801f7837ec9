"""Small random Whispers in the formats of both libraries, and clips for them."""

import numpy as np
import pytest

from hf_ser.data.corpora import synthetic
from hf_ser.models.decoding import decode_audio
from hf_ser.transcripts.loading import load_recogniser

BACK_ENDS = ("openai-whisper", "transformers")


@pytest.fixture(scope="session")
def random_whispers(tmp_path_factory):
    """A `.pt` file and a folder of transformers with the same weights."""
    # Imported here: it imports openai-whisper, which takes seconds and which few of these tests need.
    from hf_ser.transcripts.random_whisper import write_random_whisper

    return write_random_whisper(tmp_path_factory.mktemp("whispers"), "mini")


@pytest.fixture(scope="session")
def recognisers(random_whispers) -> dict:
    """Both loaded, by back end."""
    return {name: load_recogniser(str(path), "cpu") for name, path in zip(BACK_ENDS, random_whispers, strict=True)}


@pytest.fixture(params=BACK_ENDS)
def recogniser(request, recognisers):
    """Each in turn."""
    return recognisers[request.param]


@pytest.fixture(scope="session")
def clips() -> list[np.ndarray]:
    """Six clips of 0.5 to 3 s: generated speech, noise and a tone."""
    voices = [decode_audio(synthetic.utterance(speaker, clip).audio) for speaker, clip in ((1, 1), (2, 5), (3, 9))]
    noise = np.random.default_rng(0).normal(0, 0.1, 48_000).astype(np.float32)
    tone = 0.3 * np.sin(np.arange(20_000, dtype=np.float32) / 5)
    return [voices[0], np.concatenate(voices[1:]), noise[:8_000], 0.1 * noise, tone, np.concatenate([tone, noise])]
