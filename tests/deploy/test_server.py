"""The server answers as the pipeline does, many clients at once, and refuses in words what it cannot take."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO

import calls
import numpy as np
import pytest
import requests
import soundfile as sf
import torch
from models.tiny import audio_only, save_trained

pytest.importorskip("uvicorn", reason="needs the extra serve")
pytest.importorskip("fastapi", reason="needs the extra serve")
pytest.importorskip("python_multipart", reason="needs the extra serve")

import uvicorn

from hf_ser.deploy.metrics import Metrics
from hf_ser.deploy.server import Limits, build_app
from hf_ser.models import SerPipeline
from hf_ser.models.familiarity import UNFAMILIAR, Familiarity

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
LIMITS = Limits(max_bytes=400_000, max_seconds=6.0, max_characters=100, upload_seconds=1.0)


@contextmanager
def served(classify, limits=LIMITS, token=None):
    """The address of a server that runs in a thread."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(
        uvicorn.Config(build_app(classify, limits, token), host="127.0.0.1", port=port, log_level="critical")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def wav(samples, rate=16_000, **kind) -> bytes:
    file = BytesIO()
    sf.write(file, samples, rate, **{"format": "WAV", **kind})
    return file.getvalue()


VOICE = wav(calls.voice(1, 1.2))


@pytest.fixture(scope="module")
def fused(tmp_path_factory):
    return SerPipeline.from_pretrained(str(save_trained("fusion", tmp_path_factory.mktemp("fusion"))))


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    return SerPipeline.from_pretrained(str(save_trained("audio", tmp_path_factory.mktemp("audio"))))


@pytest.fixture(scope="module")
def server(fused):
    with served(fused) as address:
        yield address


@pytest.fixture(scope="module")
def audio_server(audio):
    with served(audio) as address:
        yield address


def post(address: str, content: bytes = VOICE, name: str = "a.wav", headers=None, **fields):
    return requests.post(
        f"{address}/predict", files={"file": (name, content)}, data=fields, headers=headers, timeout=30
    )


def scores_of(answer: dict) -> dict[str, float]:
    return {one["label"]: one["score"] for one in answer["scores"]}


def expected(classify, content: bytes, text=None) -> dict[str, float]:
    return {one["label"]: one["score"] for one in classify(content, text=text)}


def test_fifty_clients_at_once_get_the_answers_of_the_pipeline_and_none_is_lost(server, fused):
    texts = ("hello you", None, "what a day")
    contents = [wav(calls.voice(seed, 0.6 + 0.2 * (seed % 5))) for seed in range(10)]
    asked = [(contents[i % 10], texts[i % 3]) for i in range(50)]
    known = {one: expected(fused, *one) for one in set(asked)}
    with ThreadPoolExecutor(50) as clients:
        answers = list(clients.map(lambda one: post(server, one[0], **({"text": one[1]} if one[1] else {})), asked))
    assert [one.status_code for one in answers] == [200] * 50
    for answer, one in zip(answers, asked, strict=True):
        assert scores_of(answer.json()) == pytest.approx(known[one], abs=1e-5)
        assert answer.json()["label"] == answer.json()["scores"][0]["label"]
    counts = metrics_of(server)
    assert counts["hf_ser_batches_total"] < counts["hf_ser_batched_recordings_total"], "none was answered in a batch"


def metrics_of(address: str, **kwargs) -> dict[str, float]:
    lines = requests.get(f"{address}/metrics", timeout=10, **kwargs).text.splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


@pytest.mark.parametrize(
    ("content", "fields", "status", "message"),
    [
        (b"", {}, 422, "0 bytes"),
        (b"hello, this is a text", {}, 422, "not readable as audio"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), {}, 422, "a PNG picture"),
        (b"%PDF-1.7" + bytes(100), {}, 422, "a PDF"),
        (b"PK\x03\x04" + bytes(100), {}, 422, "a ZIP archive"),
        (b"\x1a\x45\xdf\xa3" + bytes(100), {}, 422, "WebM or Matroska"),
        (VOICE[:20], {}, 422, "not readable as audio"),
        (VOICE[:44], {}, 422, "empty"),
        (np.random.default_rng(0).bytes(5000), {}, 422, "not readable as audio"),
        (wav(np.zeros(16_000)), {}, 422, "silent"),
        (wav(np.full(16_000, 0.5)), {}, 422, "silent"),
        (wav(calls.voice(1, 0.05)), {}, 422, "too short"),
        (wav(np.full(16_000, np.nan), subtype="FLOAT"), {}, 422, "not finite"),
        (wav(np.full(16_000, 1e9), subtype="FLOAT"), {}, 422, "float samples reach"),
        (wav(calls.voice(1, 6.5)), {}, 422, "longer than 6 s"),
        (wav(np.zeros(16_000 * 60 * 60), format="FLAC"), {}, 422, "longer than 6 s"),
        (
            wav(calls.voice(1, 1.0), 16_000).replace(b"\x80>\x00\x00", b"\x01\x00\x00\x00", 1),
            {},
            422,
            "longer than 6 s",
        ),
        (bytes(500_000), {}, 413, "larger than 0.4 MB"),
        (VOICE, {"text": "x" * 101}, 422, "longer than 100 characters"),
        (VOICE, {"channel": "up"}, 422, "channel: Input should be 'mix', 'left' or 'right'"),
        (VOICE, {"channel": "right"}, 422, "the right channel was requested"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_words(server, content, fields, status, message):
    answer = post(server, content, **fields)
    assert (answer.status_code, message in answer.json()["detail"]) == (status, True), answer.text


def test_a_wav_that_was_streamed_promises_nothing_and_is_read(server, fused):
    size = VOICE.index(b"data") + 4
    streamed = VOICE[:4] + b"\xff" * 4 + VOICE[8:size] + b"\xff" * 4 + VOICE[size + 4 :]
    answer = post(server, streamed)
    assert answer.status_code == 200 and scores_of(answer.json()) == pytest.approx(expected(fused, VOICE), abs=1e-5)


def test_requests_that_are_no_form_are_refused_in_words(server, audio_server):
    for given in ({}, {"data": {"text": "x"}}, {"data": VOICE}, {"json": {"file": "/etc/passwd"}}):
        answer = requests.post(f"{server}/predict", timeout=10, **given)
        assert answer.status_code == 422 and "Expected multipart/form-data with a recording as `file`" in answer.text
    answer = requests.post(f"{server}/predict", data={"file": "/etc/passwd"}, timeout=10)
    assert answer.status_code == 422 and "root:" not in answer.text
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert requests.post(f"{server}/predict", data=b"--y\r\nbroken", headers=headers, timeout=10).status_code in (
        400,
        422,
    )
    assert requests.get(f"{server}/predict", timeout=10).status_code == 405
    assert requests.get(f"{server}/nothing", timeout=10).status_code == 404
    answer = post(audio_server, text="hello")
    assert answer.status_code == 422 and "trained on audio alone: leave out `text`" in answer.text


def test_names_of_clients_are_not_looked_at(server):
    for name in ("../../etc/passwd", "/etc/shadow", "a\x00b.wav", "\u202e.wav", "x" * 3000):
        answer = post(server, name=name)
        assert answer.status_code == 200, answer.text
        refused = post(server, b"no audio", name=name)
        assert refused.status_code == 422 and "passwd" not in refused.text and "shadow" not in refused.text


def test_a_body_without_its_length_is_counted_as_it_comes(server):
    def endless():
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(100):
            yield bytes(10_000)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = requests.post(f"{server}/predict", data=endless(), headers=headers, timeout=10)
    assert answer.status_code == 413 and "larger than 0.4 MB" in answer.text


def test_a_client_that_falls_silent_is_refused(server):
    host, _, port = server.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as client:
        head = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        client.sendall(f"{head}Content-Length: 1000\r\n\r\n--x".encode())
        assert b" 408 " in client.recv(1000)


def test_too_many_at_once_are_told_to_come_again(audio, monkeypatch):
    """Of eight clients one is answered at a time, one waits for the model, and the others are refused."""
    answers = audio.answers

    def slow(clips, texts):
        time.sleep(0.5)
        return answers(clips, texts)

    monkeypatch.setattr(audio, "answers", slow)
    for limits, status, message in (
        (Limits(max_waiting=1, batch_size=1), 503, "1 recordings wait for the model already"),
        (Limits(max_requests=2), 429, "2 requests are being answered"),
    ):
        with served(audio, limits) as address, ThreadPoolExecutor(8) as clients:
            given = list(clients.map(lambda _, address=address: post(address), range(8)))
        statuses = {one.status_code for one in given}
        assert statuses == {200, status}
        refused = next(one for one in given if one.status_code == status)
        assert message in refused.text and refused.headers["retry-after"] == "1"


def test_a_recording_that_the_model_fails_on_does_not_spoil_its_batch(audio, monkeypatch):
    answers, bad = audio.answers, wav(calls.voice(5, 2.0))

    def failing(clips, texts):
        if any(len(clip) == 32_000 for clip in clips):
            raise RuntimeError("no memory for this")
        return answers(clips, texts)

    monkeypatch.setattr(audio, "answers", failing)
    with served(audio, Limits(max_delay_seconds=0.3)) as address, ThreadPoolExecutor(4) as clients:
        given = list(clients.map(lambda content: post(address, content), [VOICE, bad, VOICE, VOICE]))
    assert [one.status_code for one in given] == [200, 500, 200, 200]
    assert "could not answer" in given[1].text and "no memory" not in given[1].text


def test_a_token_is_wanted_where_one_is_set(audio):
    with served(audio, token="geheim-ü") as address:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic geheim"}):
            answer = post(address, headers=headers)
            assert answer.status_code == 401 and "Authorization: Bearer TOKEN" in answer.text
            assert requests.get(f"{address}/metrics", headers=headers, timeout=10).status_code == 401
        assert post(address, headers={"Authorization": "Bearer geheim-ü".encode()}).status_code == 200
        assert requests.get(f"{address}/health", timeout=10).json()["status"] == "ok"


def test_the_interface_describes_itself_and_counts(audio):
    with served(audio) as address:
        health = requests.get(f"{address}/health", timeout=10).json()
        assert health["labels"] == ["angry", "happy", "sad"] and health["modalities"] == ["audio"]
        document = requests.get(f"{address}/openapi.json", timeout=10).json()
        assert set(document["paths"]) == {"/predict", "/health", "/metrics"}
        assert requests.get(f"{address}/docs", timeout=10).status_code == 200
        label = post(address).json()["label"]
        post(address, b"no audio")
        counts = metrics_of(address)
    assert counts['hf_ser_requests_total{status="200"}'] == counts['hf_ser_requests_total{status="422"}'] == 1
    assert counts[f'hf_ser_answers_total{{emotion="{label}"}}'] == 1
    assert counts["hf_ser_request_seconds_count"] == 2 and counts['hf_ser_request_seconds_bucket{le="+Inf"}'] == 2


def test_dimensions_and_familiarity_are_in_the_answer(audio):
    assert {post_one(audio)[0][name] for name in ("dimensions", "familiarity")} == {None}
    model, extractor = audio_only(dimensions=["valence", "arousal"], dimension_scale=[-1.0, 1.0])
    model.set_familiarity(Familiarity.fitted(torch.randn(40, 16), torch.randn(20, 16)))
    classify = SerPipeline(model=model, task="audio-classification", feature_extractor=extractor)
    vector = torch.from_numpy(classify(VOICE, embeddings=True).embedding)[None]
    model.familiarity.distances[0] = model.familiarity.distance(vector).log()  # such as half of the validation clips
    known = classify(VOICE, familiarity=True)
    answer, counts = post_one(classify)
    assert list(answer["dimensions"]) == ["valence", "arousal"] and known.familiarity == pytest.approx(0.5)
    assert answer["dimensions"] == pytest.approx(known.dimensions, abs=1e-5)
    assert answer["familiarity"] == pytest.approx(known.familiarity, abs=1e-5) and answer["notes"] == []
    assert counts["hf_ser_unfamiliar_total"] == 0
    model.familiarity.distances[0] = -100  # now any clip is far
    answer, counts = post_one(classify)
    assert answer["familiarity"] < UNFAMILIAR and "unlike the training data" in answer["notes"][0]
    assert counts["hf_ser_unfamiliar_total"] == 1


def post_one(classify) -> tuple[dict, dict]:
    """The answer of a new server for one recording, and its counts."""
    with served(classify) as address:
        return post(address).json(), metrics_of(address)


def test_metrics_escape_labels():
    metrics = Metrics(['say "ah"\n'])
    metrics.answer('say "ah"\n', True, False)
    assert 'hf_ser_answers_total{emotion="say \\"ah\\"\\n"} 1' in metrics.text(0)
    assert (metrics.unsure, metrics.unfamiliar) == (1, 0)
