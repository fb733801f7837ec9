"""A trained model behind HTTP: requests that wait are answered in one batch; what is too much is refused in words.

A recording passes the pipeline's own reading, so that an answer is the pipeline's. Nothing that a client sends names a
file here: uploads are read as bytes and not kept, and their names are not looked at.
"""

import asyncio
import hmac
import logging
import time
import warnings
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Annotated, Literal

import numpy as np
import python_multipart  # noqa: F401  (FastAPI names it only in a traceback)
import soundfile as sf
from fastapi import Depends, FastAPI, File, Form, HTTPException, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel

from hf_ser.deploy.metrics import Metrics
from hf_ser.models import SerPipeline
from hf_ser.models.configuration_ser import TEXT
from hf_ser.models.pipeline_answers import Scores
from hf_ser.runs.answers import unlike_note

LOG = logging.getLogger(__name__)
FORM_BYTES = 64_000
"""Of a request beside the recording: the text, and what separates the fields."""
RETRY = {"Retry-After": "1"}
UNCOMPRESSED = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU")
READERS = 4
"""Threads that decode recordings."""


@dataclass(frozen=True)
class Limits:
    """What a server takes.

    Args:
        max_bytes: Of a recording, as it is sent.
        max_seconds: Of a recording, decoded.
        max_characters: Of a text.
        max_requests: That are read at once, or wait.
        max_waiting: Recordings that wait for the model.
        batch_size: Recordings that are answered together.
        max_delay_seconds: How long the first of them waits for others.
        upload_seconds: How long a client may be silent while it sends.
    """

    max_bytes: int = 20_000_000
    max_seconds: float = 120.0
    max_characters: int = 10_000
    max_requests: int = 128
    max_waiting: int = 64
    batch_size: int = 8
    max_delay_seconds: float = 0.02
    upload_seconds: float = 15.0


class Score(BaseModel):
    """The probability of one emotion."""

    label: str
    score: float


class Prediction(BaseModel):
    """The answer for one recording; `scores` as the pipeline gives them, the most probable first.

    `dimensions` are null of a model that predicts none, `familiarity` where it is not known.
    """

    label: str
    confidence: float
    unsure: bool
    scores: list[Score]
    dimensions: dict[str, float] | None
    familiarity: float | None
    notes: list[str]


@dataclass
class Waiting:
    """A recording that waits for the model."""

    clip: np.ndarray
    notes: dict[str, str]
    text: str | None
    answer: asyncio.Future


class Batches:
    """Recordings of all requests in a queue, and what answers them batch by batch.

    Args:
        classify: The model, which one thread runs.
        limits: Of the queue and of a batch.
        metrics: What is counted.
    """

    def __init__(self, classify: SerPipeline, limits: Limits, metrics: Metrics):
        self.classify, self.limits, self.metrics = classify, limits, metrics
        self.queue: asyncio.Queue[Waiting] = asyncio.Queue(limits.max_waiting)
        self.thread = ThreadPoolExecutor(1, "model")

    async def answer(self, clip: np.ndarray, notes: dict[str, str], text: str | None) -> Prediction:
        """The answer for a recording, once its turn has come.

        Raises:
            HTTPException: too many wait already, or the model failed.
        """
        one = Waiting(clip, notes, text, asyncio.get_running_loop().create_future())
        try:
            self.queue.put_nowait(one)
        except asyncio.QueueFull:
            detail = f"{self.limits.max_waiting} recordings wait for the model already: try again later."
            raise HTTPException(503, detail, RETRY) from None
        return await one.answer

    async def work(self) -> None:
        """Answer what waits, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            batch, size = [await self.queue.get()], self.limits.batch_size
            if self.queue.qsize() < size - 1:
                await asyncio.sleep(self.limits.max_delay_seconds)
            while len(batch) < size and not self.queue.empty():
                batch.append(self.queue.get_nowait())
            batch = [one for one in batch if not one.answer.done()]  # a client may have gone
            for one, answer in zip(batch, await loop.run_in_executor(self.thread, self._answers, batch), strict=True):
                if one.answer.done():
                    continue
                if isinstance(answer, Exception):
                    one.answer.set_exception(answer)
                else:
                    one.answer.set_result(answer)

    def _answers(self, batch: Sequence[Waiting]) -> list[Prediction | Exception]:
        """Predictions of a batch; where it fails, each recording alone, so that none suffers from another."""
        if not batch:
            return []
        self.metrics.batches.append(len(batch))
        try:
            scores = self.classify.answers([one.clip for one in batch], [one.text for one in batch])
            return [self._prediction(one, found) for one, found in zip(batch, scores, strict=True)]
        except Exception:  # whatever it is: this thread has to go on for the others
            if len(batch) > 1:
                return [answer for one in batch for answer in self._answers([one])]
            LOG.exception("a recording could not be answered")
            return [HTTPException(500, "The model could not answer this recording: see the server's log.")]

    def _prediction(self, one: Waiting, scores: Scores) -> Prediction:
        unsure = self.classify.is_unsure(scores[0]["score"], one.notes)
        notes = [*one.notes.values(), *self.classify.text_notes(one.text).values(), *unlike_note(scores.familiarity)]
        return Prediction(
            label=scores[0]["label"],
            confidence=scores[0]["score"],
            unsure=unsure,
            scores=scores,
            dimensions=scores.dimensions,
            familiarity=scores.familiarity,
            notes=notes,
        )


class RequestLimits:
    """ASGI middleware: counts requests, and refuses too many of them, too many bytes and clients that fall silent.

    Before a form is parsed, so that nothing large is ever stored.
    """

    def __init__(self, app, limits: Limits, metrics: Metrics):
        self.app, self.limits, self.metrics, self.running = app, limits, metrics, 0

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["path"] != "/predict":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def noting_send(message):
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self.running += 1
        try:
            if (refusal := self._refusal(dict(scope["headers"]))) is not None:
                await refusal(scope, receive, noting_send)
            else:
                await self.app(scope, self._limited(receive), noting_send)
        finally:
            self.running -= 1
            self.metrics.request(status, time.perf_counter() - began)

    @property
    def most_bytes(self) -> int:
        """Of a whole request."""
        return self.limits.max_bytes + FORM_BYTES

    def _refusal(self, headers: dict[bytes, bytes]) -> JSONResponse | None:
        if self.running > self.limits.max_requests:
            detail = f"{self.limits.max_requests} requests are being answered: try again later."
            return JSONResponse({"detail": detail}, 429, RETRY)
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self.most_bytes:
            return JSONResponse({"detail": too_large(self.limits)}, 413, {"Connection": "close"})
        return None

    def _limited(self, receive):
        read = 0

        async def limited():
            nonlocal read
            try:
                message = await asyncio.wait_for(receive(), self.limits.upload_seconds)
            except TimeoutError:
                raise HTTPException(408, "The request came too slowly: send it again.") from None
            read += len(message.get("body", b""))
            if read > self.most_bytes:
                raise HTTPException(413, too_large(self.limits), {"Connection": "close"})
            return message

        return limited


def too_large(limits: Limits) -> str:
    """The refusal of a recording that is too large."""
    return f"The recording is larger than {limits.max_bytes / 1e6:g} MB: send a shorter one, or one as FLAC or OGG."


def build_app(classify: SerPipeline, limits: Limits | None = None, token: str | None = None) -> FastAPI:
    """The web application of a model of audio, or of audio and text.

    Args:
        classify: The model.
        limits: What it takes; default: `Limits()`.
        token: What clients have to send as `Authorization: Bearer TOKEN`; None: nothing.
    """
    limits = limits or Limits()
    if not classify.model.config.num_labels:
        raise ValueError(
            f"{classify.model.name_or_path}: found a model of dimensions without classes, and the server answers with "
            "classes. Expected one with classes, such as one that was trained with --target both: name another model."
        )
    labels = [classify.model.config.id2label[index] for index in range(classify.model.config.num_labels)]
    metrics = Metrics(labels)
    readers = ThreadPoolExecutor(READERS, "reader")
    takes_text = TEXT in classify.modalities

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.batches = Batches(classify, limits, metrics)
        worker = asyncio.create_task(app.state.batches.work())
        yield
        worker.cancel()
        readers.shutdown(wait=False)
        app.state.batches.thread.shutdown(wait=False)

    app = FastAPI(title="hf_ser", summary="Speech emotion recognition", lifespan=lifespan)
    app.add_middleware(RequestLimits, limits=limits, metrics=metrics)
    app.add_exception_handler(RequestValidationError, validation_message)
    known = [Depends(token_check(token))]

    @app.post("/predict", dependencies=known)
    async def predict(
        file: Annotated[UploadFile, File(description="WAV, FLAC, OGG or MP3, any rate")],
        text: Annotated[str | None, Form(description="The transcript, where it is known")] = None,
        channel: Annotated[Literal["mix", "left", "right"], Form(description="Of several channels")] = "mix",
    ) -> Prediction:
        """Emotion of a recording, and of its transcript."""
        text = checked_text(text, takes_text, limits)
        content = await file.read()
        if len(content) > limits.max_bytes:
            raise HTTPException(413, too_large(limits))
        loop = asyncio.get_running_loop()
        clip, notes = await loop.run_in_executor(readers, read_clip, classify, content, channel, limits)
        answer = await app.state.batches.answer(clip, notes, text)
        metrics.answer(answer.label, answer.unsure, bool(unlike_note(answer.familiarity)))
        return answer

    @app.get("/health")
    async def health() -> dict:
        """Whether the server answers, and what its model can say."""
        config = classify.model.config
        return {
            "status": "ok",
            "labels": labels,
            "modalities": list(classify.modalities),
            "abstain_threshold": getattr(config, "abstain_threshold", None),
            "waiting": app.state.batches.queue.qsize(),
        }

    @app.get("/metrics", dependencies=known)
    async def show_metrics() -> PlainTextResponse:
        """Counts of requests and answers in the text format of Prometheus."""
        return PlainTextResponse(metrics.text(app.state.batches.queue.qsize()), media_type="text/plain; version=0.0.4")

    return app


def token_check(token: str | None):
    """A dependency that refuses requests without the token."""

    async def check(request: Request) -> None:
        if token is None:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(given.strip().encode("latin-1"), token.encode())  # the same time for each
        if scheme.lower() != "bearer" or not right:
            detail = "Found no valid token. Expected the header `Authorization: Bearer TOKEN`."
            raise HTTPException(401, detail, {"WWW-Authenticate": "Bearer"})

    return check


async def validation_message(request: Request, error: RequestValidationError) -> JSONResponse:
    """A form that does not fit, in one sentence and without what was sent."""
    wrong = "; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in error.errors())
    detail = f"The form does not fit: {wrong}. Expected multipart/form-data with a recording as `file`."
    return JSONResponse({"detail": detail}, 422)


def checked_text(text: str | None, takes_text: bool, limits: Limits) -> str | None:
    """A text that the model takes; an empty one is none.

    Raises:
        HTTPException: the model takes none, or it is too long.
    """
    if text is None or not text.strip():
        return None
    if not takes_text:
        raise HTTPException(422, "This model was trained on audio alone: leave out `text`.")
    if len(text) > limits.max_characters:
        raise HTTPException(422, f"The text is longer than {limits.max_characters} characters: cut it.")
    return text


def read_clip(classify: SerPipeline, content: bytes, channel: str, limits: Limits) -> tuple[np.ndarray, dict[str, str]]:
    """Decode a recording as the pipeline does; its samples and notes.

    Raises:
        HTTPException: it is too long, cannot be read, or holds no audio that a model could judge.
    """
    too_long = HTTPException(422, f"The recording is longer than {limits.max_seconds:g} s: cut it.")
    promised = seconds_of(content)
    if promised is not None and promised > limits.max_seconds:
        raise too_long
    # The header may promise too little: no more than the limit is ever decoded. Nothing is a part of an empty file.
    end = None if promised == 0 else limits.max_seconds + 1
    try:
        with warnings.catch_warnings(action="ignore"):
            clip, notes = classify.read(content, channel, None, end)
    except MemoryError:
        raise too_long from None
    except (ValueError, OSError) as error:
        raise HTTPException(422, str(error).replace("bytes given", "the recording")) from error
    if len(clip) > limits.max_seconds * classify.feature_extractor.sampling_rate:
        raise too_long
    notes.pop("cut_short", None)  # that it ends before the limit
    return clip, notes


def seconds_of(content: bytes) -> float | None:
    """The length that a recording's header promises; None where it cannot be read, or promises more than is there."""
    try:
        header = sf.info(BytesIO(content))
    except (sf.SoundFileError, TypeError, ValueError):
        return None
    if header.samplerate <= 0:
        return None
    if header.format in UNCOMPRESSED and header.frames * header.channels / 2 > len(content):  # 4 bits a sample or less
        return None  # a stream, whose header was written before its length was known
    return header.frames / header.samplerate
