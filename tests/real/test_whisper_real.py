"""Trained Whispers on real speech: as their libraries, alone and in 30 s, and silent where there is no voice."""

import numpy as np
import pytest
import whisper
from jiwer import wer
from shared_data import SHARED
from transformers import WhisperForConditionalGeneration
from whisper.normalizers import EnglishTextNormalizer

from hf_ser.data.corpora.ravdess import list_utterances
from hf_ser.models.decoding import decode_audio
from hf_ser.transcripts.loading import load_recogniser
from hf_ser.transcripts.recogniser import DecodeOptions
from hf_ser.transcripts.transcriber import Request, transcribe

RAVDESS = SHARED / "data" / "ravdess"
CLIPS = 8

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not RAVDESS.is_dir(), reason=f"no RAVDESS under {SHARED}: name its folder in HF_SER_SHARED"),
]
plain = EnglishTextNormalizer()


@pytest.fixture(scope="module")
def utterances():
    return list_utterances(RAVDESS).utterances[7 :: 1200 // CLIPS][:CLIPS]


def transcripts(recogniser, clips, **options):
    language = "en" if recogniser.multilingual else None
    requests = [
        Request(str(place), len(clip) / 16_000, lambda clip=clip: clip, language) for place, clip in enumerate(clips)
    ]
    answers = {int(one.key): answer for one, answer in transcribe(recogniser, requests, DecodeOptions(**options))}
    return [answers[place] for place in range(len(clips))]


def by_openai(checkpoint, clips):
    model = whisper.load_model(checkpoint, device="cpu")
    how = {"language": "en", "temperature": 0, "without_timestamps": True, "fp16": False}
    return [model.transcribe(clip, **how)["text"].strip() for clip in clips]


def by_transformers(folder, recogniser, clips):
    model, texts = WhisperForConditionalGeneration.from_pretrained(folder, dtype="float32"), []
    options = {"language": "en", "task": "transcribe"} if recogniser.multilingual else {}
    for clip in clips:
        features = recogniser.extractor(clip, sampling_rate=16_000, return_tensors="pt").input_features
        texts += recogniser.tokenizer.batch_decode(model.generate(features, **options), skip_special_tokens=True)
    return [text.strip() for text in texts]


@pytest.mark.parametrize("back_end", [0, 1], ids=["openai-whisper", "transformers"])
def test_the_transcripts_are_the_library_s_and_a_clip_alone_has_as_few_errors(whisper_files, utterances, back_end):
    clips = [decode_audio(one.audio) for one in utterances]
    said = [plain(one.transcript) for one in utterances]
    recogniser = load_recogniser(str(whisper_files[back_end]), "cpu")
    library = by_transformers(whisper_files[1], recogniser, clips) if back_end else by_openai(whisper_files[0], clips)
    whole = [one.text for one in transcripts(recogniser, clips, whole_window=True)]
    assert whole == library
    alone = transcripts(recogniser, clips)
    assert wer(said, [plain(one.text) for one in alone]) <= wer(said, list(map(plain, whole))) + 0.04
    assert not any(one.suspicious for one in alone)


def test_what_is_no_voice_has_no_words(whisper_files):
    draw = np.random.default_rng(0)
    silence = np.zeros(48_000, np.float32)
    faint = (1e-4 * draw.standard_normal(48_000)).astype(np.float32)
    recogniser = load_recogniser(str(whisper_files[0]), "cpu")
    assert [one.text for one in transcripts(recogniser, [silence, faint])] == ["", ""]
