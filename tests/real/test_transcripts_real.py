"""Whisper on real speech: with random weights in batches as one by one, and with real ones where there are some."""

import os

import jiwer
import pytest
from shared_data import SHARED

from hf_ser.audio import read_clip
from hf_ser.transcripts.loading import load_recogniser
from hf_ser.transcripts.random_whisper import write_random_whisper
from hf_ser.transcripts.recogniser import DecodeOptions
from hf_ser.transcripts.transcriber import Request, transcribe
from hf_ser.transcripts.wer import normalised

RAVDESS = SHARED / "data" / "ravdess"
SENTENCES = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}
"""By the fifth number of a file's name."""

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not RAVDESS.is_dir(), reason="needs RAVDESS beside the checkout, or HF_SER_SHARED"),
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Random weights of the size of whisper-tiny, as both back ends take them."""
    return write_random_whisper(tmp_path_factory.mktemp("whisper"), "tiny")


def requests(files, language) -> list[Request]:
    clips = [read_clip(file).samples for file in files]
    return [
        Request(file.stem, len(clip) / 16_000, lambda clip=clip: clip, language)
        for file, clip in zip(files, clips, strict=True)
    ]


@pytest.mark.parametrize("short_window", [False, True], ids=["30_s", "short"])
@pytest.mark.parametrize("back_end", [0, 1], ids=["openai_whisper", "transformers"])
def test_batches_by_length_say_what_one_by_one_says(tiny, back_end, short_window, monkeypatch):
    files = sorted(RAVDESS.glob("Actor_*/*.flac"))[3::200]
    recogniser, said = load_recogniser(str(tiny[back_end])), []
    monkeypatch.setattr(recogniser, "text", lambda tokens: said.append(tuple(tokens)) or " ".join(map(str, tokens)))
    options = DecodeOptions(temperatures=(0.0,), short_window=short_window, max_tokens=16)
    together, alone = (
        {
            request.key: answer.text
            for request, answer in transcribe(recogniser, requests(files, "en"), options, batch_size)
        }
        for batch_size in (len(files), 1)
    )
    assert together == alone
    assert len(set(together.values())) > len(files) / 2  # or any two clips would pass for each other
    assert min(len(text.split()) for text in together.values()) >= 3


@pytest.mark.skipif(
    not os.environ.get("HF_SER_WHISPER"),
    reason="needs a whole Whisper: name one in HF_SER_WHISPER as scripts/transcribe.py --asr takes it",
)
@pytest.mark.parametrize("short_window", [False, True], ids=["30_s", "short"])
def test_a_real_whisper_hears_the_two_sentences(short_window):
    files = sorted(RAVDESS.glob("Actor_*/03-01-0[13]-01-0?-01-*.flac"))[:40]  # neutral and happy, normal intensity
    recogniser = load_recogniser(os.environ["HF_SER_WHISPER"])
    heard = {
        request.key: answer.text
        for request, answer in transcribe(recogniser, requests(files, "en"), DecodeOptions(short_window=short_window))
    }
    true = normalised([SENTENCES[name.split("-")[4]] for name in heard], "en")
    rate = jiwer.wer(true, normalised(list(heard.values()), "en"))
    print(f"{recogniser.name}@{recogniser.revision}, short windows {short_window}: WER {100 * rate:.1f} %")
    assert len(files) == 40 and rate < 0.2
