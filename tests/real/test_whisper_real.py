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


def without_voice(draw) -> list[np.ndarray]:
    """Silence, noises, tones of a telephone and hum, 4 s each, from hardly audible to loud."""
    times = np.arange(64_000) / 16_000
    white = draw.standard_normal(64_000)
    spectrum = np.fft.rfft(white)
    pink = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), 64_000)
    tones = [sum(np.sin(2 * np.pi * hertz * times) for hertz in pair) for pair in ((440, 480), (350, 440), (697, 1209))]
    hum = sum(np.sin(2 * np.pi * 50 * overtone * times) / overtone for overtone in (1, 2, 3, 5))
    noises = [
        white,
        white,
        pink,
        pink,
        *(tone + 1e-3 * white for tone in tones),
        tones[0] * (times < 2),
        hum + 0.1 * white,
    ]
    levels = (-75, -20, -40, -15, -20, -20, -20, -20, -20)  # dBFS
    loud = [
        one / np.sqrt(np.square(one).mean()) * 10 ** (level / 20) for one, level in zip(noises, levels, strict=True)
    ]
    return [np.zeros(64_000, np.float32), *(one.clip(-1, 1).astype(np.float32) for one in loud)]


def test_what_is_no_voice_has_no_words(whisper_files):
    recogniser = load_recogniser(str(whisper_files[0]), "cpu")
    clips = without_voice(np.random.default_rng(0))
    assert [one.text for one in transcripts(recogniser, clips)] == [""] * len(clips)


def test_the_times_of_words_are_in_order_and_those_of_both_libraries_alike(whisper_files, ct2_folder, utterances):
    found = []
    for name in (str(whisper_files[0]), f"faster-whisper:{ct2_folder}"):
        recogniser = load_recogniser(name, "cpu")
        language = "en" if recogniser.multilingual else None
        found.append([recogniser.words(decode_audio(one.audio), language) for one in utterances[:4]])
    for ours, theirs in zip(*found, strict=True):
        for words in (ours, theirs):
            times = [time for word in words for time in (word.start, word.end)]
            assert times == sorted(times) and times[0] >= 0
        # From the end on: by its beam one of them begins with "The kids", the other with "Kids".
        pairs = zip(reversed(ours), reversed(theirs), strict=False)
        same = [(a, b) for a, b in pairs if plain(a.text) == plain(b.text)]
        assert len(same) > 3 and np.median([abs(a.start - b.start) for a, b in same]) < 0.2
