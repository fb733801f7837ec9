"""Real speech through both back ends: a random Whisper in batches and alone, and a real one against the known words."""

import os
from pathlib import Path

import numpy as np
import pytest
import whisper
from jiwer import wer
from shared_data import SHARED
from transformers import WhisperForConditionalGeneration
from whisper.audio import log_mel_spectrogram, pad_or_trim
from whisper.decoding import DecodingOptions
from whisper.normalizers import EnglishTextNormalizer

from hf_ser.data.corpora.ravdess import list_utterances
from hf_ser.models.decoding import decode_audio
from hf_ser.transcripts.greedy import decode
from hf_ser.transcripts.loading import load_recogniser
from hf_ser.transcripts.random_whisper import write_random_whisper

RAVDESS = SHARED / "data" / "ravdess"
WHISPER = os.environ.get("HF_SER_WHISPER")
LONGEST = 24

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not RAVDESS.is_dir(), reason=f"no RAVDESS under {SHARED}: name its folder in HF_SER_SHARED"),
]


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    """Six of different speakers, the longest first, as a transcription takes them."""
    utterances = list_utterances(RAVDESS).utterances[7::200][:6]
    return sorted((decode_audio(utterance.audio) for utterance in utterances), key=len, reverse=True)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> tuple[Path, Path]:
    return write_random_whisper(tmp_path_factory.mktemp("whispers"), "tiny")


def said(recogniser, features) -> list[list[int]]:
    initial_tokens = [recogniser.initial_tokens("en", None)] * len(features)
    answers = decode(recogniser, features, initial_tokens, 0.0, range(len(features)), LONGEST)
    return [list(answer.tokens) for answer in answers]


def by_openai(checkpoint, clips) -> list[list[int]]:
    model = whisper.load_model(checkpoint, device="cpu")
    options = DecodingOptions(language="en", without_timestamps=True, fp16=False, sample_len=LONGEST)
    heard = (log_mel_spectrogram(clip, padding=480_000)[:, : len(clip) // 160] for clip in clips)
    return [model.decode(pad_or_trim(mel, 3000), options).tokens for mel in heard]


def by_transformers(folder, recogniser, clips) -> list[list[int]]:
    model, found = WhisperForConditionalGeneration.from_pretrained(folder), []
    options = {"language": "en", "task": "transcribe", "return_timestamps": False, "max_new_tokens": LONGEST}
    for clip in clips:
        heard = recogniser.extractor(clip, sampling_rate=16_000, return_tensors="pt").input_features
        tokens = model.generate(heard, return_dict_in_generate=True, **options).sequences[0, 4:].tolist()
        found.append([token for token in tokens if token != recogniser.end])
    return found


def test_batches_of_real_clips_token_for_token(tiny, clips):
    for path in tiny:
        recogniser = load_recogniser(str(path), "cpu")
        seconds = -(-max(map(len, clips)) // 16_000)
        short = recogniser.encode(clips, seconds)
        alone = [said(recogniser, recogniser.encode([clip], seconds))[0] for clip in clips]
        assert said(recogniser, short) == alone
        whole = said(recogniser, recogniser.encode(clips, 30))
        assert whole == (by_openai(path, clips) if path.suffix else by_transformers(path, recogniser, clips))
        assert len({tuple(answer) for answer in whole}) == len(clips)
        assert len({len(answer) for answer in whole}) > 2  # else no row leaves the batch before another


@pytest.mark.skipif(not WHISPER, reason="HF_SER_WHISPER names no trained Whisper (such as openai-whisper:base)")
def test_a_trained_whisper_hears_what_was_said():
    utterances = list_utterances(RAVDESS).utterances
    by_words = {
        words: [each for each in utterances if each.transcript == words]
        for words in {each.transcript for each in utterances}
    }
    chosen = [utterance for same in by_words.values() for utterance in same[:: len(same) // 20][:20]]
    assert len(chosen) == 40
    recogniser = load_recogniser(WHISPER)
    words = []
    for start in range(0, len(chosen), 8):
        features = recogniser.encode([decode_audio(utterance.audio) for utterance in chosen[start : start + 8]], 30)
        initial_tokens = [recogniser.initial_tokens("en" if recogniser.multilingual else None, None)] * len(features)
        answers = decode(recogniser, features, initial_tokens, 0.0, range(len(features)), None)
        words += [recogniser.text(answer.tokens) for answer in answers]
    plain = EnglishTextNormalizer()
    rate = wer([plain(utterance.transcript) for utterance in chosen], [plain(heard) for heard in words])
    print(f"{WHISPER}: WER {rate:.3f} on {len(chosen)} clips of RAVDESS")
    assert rate < 0.2
