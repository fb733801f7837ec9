"""Using a model: answers one by one and in batches, a long recording over its time, transcripts."""

from collections.abc import Callable
from functools import partial

import numpy as np
import soundfile
import torch
from transformers import Pipeline, pipeline

from hf_ser.benchmark.case import Case
from hf_ser.benchmark.measure import Work
from hf_ser.benchmark.training import read
from hf_ser.deploy.timeline import make_timeline
from hf_ser.models import SerPipeline
from hf_ser.models.decoding import decode_audio
from hf_ser.models.processing_ser import audio_inputs
from hf_ser.models.samples import SAMPLING_RATE
from hf_ser.runs.classifier import Classifier
from hf_ser.transcripts.recogniser import DecodeOptions

BATCH = 16
WINDOW_SECONDS = 5
PEER_CLIPS, PEER_MINUTES = BATCH, 0.5
"""What the pipeline of transformers is given, and no more of the clips and of the long recording: it takes longest."""
LANGUAGE, MOST_TOKENS = "en", 40


def ours_one_by_one(case: Case) -> Work:
    """Ours: the pipeline, clip after clip."""
    classify, files = our_pipeline(case), case.files()
    return lambda: [classify(file) for file in files]


def ours_in_batches(case: Case) -> Work:
    """Ours: the pipeline on all clips."""
    classify, files = our_pipeline(case), case.files()
    return lambda: classify(files, batch_size=BATCH)


def our_pipeline(case: Case) -> SerPipeline:
    """Our model as users load it."""
    return pipeline("audio-classification", model=str(case.model()), trust_remote_code=True)


def stock_one_by_one(case: Case) -> Work:
    """The peer: the pipeline of transformers, clip after clip, on the first clips."""
    classify, files = stock_pipeline(case), case.files()[:PEER_CLIPS]
    return lambda: [classify(stored(file)) for file in files]


def stock_in_batches(case: Case) -> Work:
    """The peer: the pipeline of transformers on the first clips, in one batch."""
    classify, files = stock_pipeline(case), case.files()[:PEER_CLIPS]
    return lambda: classify([stored(file) for file in files], batch_size=BATCH)


def stock_pipeline(case: Case) -> Pipeline:
    """The model of transformers as users load it."""
    return pipeline("audio-classification", model=str(case.stock()))


def stored(file: str) -> dict:
    """A clip as it is stored, in the form that transformers' pipeline takes without ffmpeg."""
    samples, rate = soundfile.read(file, dtype="float32")
    return {"raw": samples if samples.ndim == 1 else samples.mean(axis=1), "sampling_rate": rate}


def bare_encoder(batch: int, case: Case) -> Work:
    """The floor: the encoder of our model alone, on batches of its features that are ready."""
    classifier = Classifier(str(case.model()))
    clips = sorted((decode_audio(file) for file in case.files()), key=len)
    extractor, model = classifier.pipeline.feature_extractor, classifier.model
    batches = [audio_inputs(extractor, clips[start : start + batch]) for start in range(0, len(clips), batch)]

    def work():
        with torch.inference_mode():
            for inputs in batches:
                model.frozen_part(**inputs)

    return work


def our_timeline(case: Case) -> Work:
    """Ours: speech, windows that overlap by half, the turns of all."""
    classifier, file = Classifier(str(case.model())), str(case.recording())
    return lambda: make_timeline(classifier, file, voice_activity="energy")


def windows_of_stock(case: Case) -> Work:
    """The peer: the file read whole, cut into windows that overlap by half, each given to transformers' pipeline."""
    classify, file, window = stock_pipeline(case), str(case.recording()), WINDOW_SECONDS * SAMPLING_RATE

    def work():
        samples, _ = soundfile.read(file, dtype="float32", frames=int(60 * peer_minutes(case) * SAMPLING_RATE))
        for start in range(0, max(1, len(samples) - window // 2), window // 2):
            classify({"raw": samples[start : start + window], "sampling_rate": SAMPLING_RATE})

    return work


def bare_windows(case: Case) -> Work:
    """The floor: the encoder of our model alone on ready windows of this length, without any overlap."""
    classifier = Classifier(str(case.model()))
    count = round(60 * peer_minutes(case) / WINDOW_SECONDS)
    extractor, model = classifier.pipeline.feature_extractor, classifier.model
    noise = np.random.default_rng(0).normal(0, 0.1, (2, WINDOW_SECONDS * SAMPLING_RATE)).astype(np.float32)
    inputs = audio_inputs(extractor, list(noise))

    def work():
        with torch.inference_mode():
            for _ in range(0, count, len(noise)):
                model.frozen_part(**inputs)

    return work


def peer_minutes(case: Case) -> float:
    """How much of the long recording others than ours read."""
    return min(case.size.minutes, PEER_MINUTES)


def whisper_loop(case: Case) -> Work:
    """The peer: `model.transcribe`, clip after clip, greedy, with the language given."""
    import whisper

    model = whisper.load_model(case.checkpoint(), device="cpu")
    how = {"temperature": 0, "without_timestamps": True, "condition_on_previous_text": False, "fp16": False}
    clips = asr_clips(case)
    return lambda: [
        model.transcribe(clip, language=LANGUAGE, sample_len=MOST_TOKENS, **how)["text"] for clip in clips.values()
    ]


def whisper_in_batches(spec: Callable[[Case], str], case: Case) -> Work:
    """Ours: `hf_ser.transcripts` by a recogniser."""
    from hf_ser.transcripts.loading import load_recogniser
    from hf_ser.transcripts.transcriber import Request, transcribe

    recogniser, clips = load_recogniser(spec(case), "cpu"), asr_clips(case)
    options = DecodeOptions(temperatures=(0.0,), max_tokens=MOST_TOKENS)

    def work():
        requests = [
            Request(file, len(samples) / SAMPLING_RATE, partial(np.copy, samples), LANGUAGE)
            for file, samples in clips.items()
        ]
        return {request.key: answer.text for request, answer in transcribe(recogniser, requests, options, BATCH)}

    return work


def faster_whisper(case: Case) -> Work:
    """The floor: faster-whisper's own `transcribe`, clip after clip."""
    from faster_whisper import WhisperModel

    model, clips = WhisperModel(str(case.whisper / "ct2-base"), device="cpu", compute_type="float32"), asr_clips(case)
    how = {"beam_size": 1, "temperature": 0.0, "without_timestamps": True, "max_new_tokens": MOST_TOKENS}

    def work():
        for clip in clips.values():
            segments, _ = model.transcribe(clip, language=LANGUAGE, **how)
            for _ in segments:  # they are made as they are read
                pass

    return work


def without_faster_whisper(case: Case) -> str | None:
    """Why the floor of transcribing cannot be measured."""
    from importlib.util import find_spec

    if case.whisper is None or not (case.whisper / "ct2-base").is_dir():
        return "found no weights for faster-whisper: name a folder with ct2-base by --whisper"
    return None if find_spec("faster_whisper") else "found no faster-whisper: pip install hf_ser[fast]"


def asr_clips(case: Case) -> dict[str, np.ndarray]:
    """The clips that are transcribed, by file."""
    files = case.files()
    return {file: read(file) for file in files[:: max(1, len(files) // case.size.asr_clips)][: case.size.asr_clips]}
