"""Inputs that are no recording, no list, no turns and no time line, each given to every door of a trained model."""

import gzip
import io
import json
import os
import struct
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile as sf
from models.tiny import save_trained

from hf_ser.data.given_clips import given_clips
from hf_ser.deploy.labeller import Labeller
from hf_ser.deploy.timeline import Timeline, make_timeline
from hf_ser.deploy.timeline_turns import read_turns
from hf_ser.runs.answers import ClipPredictor
from hf_ser.runs.classifier import Classifier

RATE = 16_000
VOICE = 0.4 * np.sin(2 * np.pi * 180 * np.arange(RATE) / RATE) * (1 + np.sin(2 * np.pi * 5 * np.arange(RATE) / RATE))
Case = tuple[str, Callable[[], str], str]
"""What an input is, what gives it to a door and returns a word, and what its refusal has to name."""


def wav(samples=VOICE, rate: int = RATE, subtype: str = "PCM_16", kind: str = "WAV") -> bytes:
    """A whole file."""
    content = io.BytesIO()
    sf.write(content, samples, rate, format=kind, subtype=subtype)
    return content.getvalue()


def header(form: int = 1, channels: int = 1, rate: int = RATE, bits: int = 16, promised: int = 2**32 - 1) -> bytes:
    """The header of a WAV file."""
    block = channels * bits // 8 % 65536
    chunk = struct.pack("<HHIIHH", form, channels, rate % 2**32, rate * block % 2**32, block, bits)
    return b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<I", 16) + chunk + b"data" + struct.pack("<I", promised)


def files() -> dict[str, bytes]:
    """Names and contents of files that are no recordings, or recordings without a voice; and of three whole ones."""
    odd = VOICE.copy()
    odd[500] = np.nan
    table = "path,text\ncall.wav,hello\n"
    return {
        **{f"whole.{kind.lower()}": wav(kind=kind) for kind in ("WAV", "FLAC")},
        "whole.mp3": wav(kind="MP3", subtype="MPEG_LAYER_III"),
        "empty.wav": b"",
        "one_byte.flac": b"f",
        "text.wav": b"this is a letter, no recording\n" * 50,
        "utf16.mp3": "Guten Tag".encode("utf-16") * 40,
        "page.mp3": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "picture.wav": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
        "archive.flac": b"PK\x03\x04" + bytes(500),
        "packed.wav": gzip.compress(wav()),
        "document.ogg": b"%PDF-1.7\n" + bytes(300),
        "film.wav": b"\x00\x00\x00\x20ftypisom" + bytes(400),
        "voice.m4a": b"\x00\x00\x00\x20ftypM4A " + bytes(400),
        "voice.amr": b"#!AMR\n" + bytes(range(200)),
        "voice.wma": bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + bytes(400),
        "pointer.wav": b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12345\n",
        "object.wav": b'{"audio": [0.1, 0.2]}',
        "table.wav": table.encode(),
        "zeros.wav": bytes(10_000),
        "noise.mp3": np.random.default_rng(0).bytes(5000),
        "tag_only.mp3": b"ID3\x04\0\0\0\0\x03\x00" + b"TIT2" * 96,
        "samples_only.raw": (VOICE * 30_000).astype("<i2").tobytes(),
        "samples_only.wav": (VOICE * 30_000).astype("<i2").tobytes(),
        "cut_header.wav": wav()[:20],
        "no_samples.wav": wav(np.zeros(0)),
        "no_samples.flac": wav(np.zeros(0), kind="FLAC"),
        "header_of_4_gb.wav": header() + b"\x01\x00" * 5,
        "no_channels.wav": header(channels=0) + bytes(4000),
        "many_channels.wav": header(channels=65_535) + bytes(4000),
        "no_rate.wav": header(rate=0) + bytes(4000),
        "rate_of_1.wav": header(rate=1) + wav()[44:],
        "rate_of_4_ghz.wav": header(rate=2**32 - 1) + wav()[44:],
        "no_bits.wav": header(bits=0) + bytes(4000),
        "bits_of_7.wav": header(bits=7) + bytes(4000),
        "unknown_form.wav": header(form=0x9999) + bytes(4000),
        "no_data.wav": wav()[:36],
        "silence.wav": wav(np.zeros(RATE)),
        "silence.flac": wav(np.zeros(RATE), kind="FLAC"),
        "constant.wav": wav(np.full(RATE, 0.2)),
        "short.wav": wav(VOICE[:100]),
        "one_sample.wav": wav(VOICE[:1]),
        "nan.wav": wav(odd, subtype="FLOAT"),
        "all_nan.wav": wav(np.full(RATE, np.nan), subtype="FLOAT"),
        "infinite.wav": wav(np.where(np.arange(RATE) == 9, np.inf, VOICE), subtype="DOUBLE"),
        "huge.wav": wav(1e30 * VOICE, subtype="FLOAT"),
        "tiny.wav": wav(1e-30 * VOICE, subtype="FLOAT"),
        "cut.flac": wav(kind="FLAC")[:60],
        "cut.ogg": wav(kind="OGG", subtype="VORBIS")[:100],
        "turned.flac": wav(kind="FLAC")[::-1],
    }


def places(folder: Path) -> dict[str, str]:
    """Names and paths of what is no file, and of names that are odd."""
    for name in ("a folder.wav", "empty folder"):
        (folder / name).mkdir()
    (folder / "dangling.wav").symlink_to(folder / "gone")
    (folder / "loop.wav").symlink_to(folder / "loop.wav")
    os.mkfifo(folder / "pipe.wav")
    for name in (
        "new\nline.wav",
        "\x1b[2Jscreen.wav",
        "-dash.wav",
        "name with spaces .wav",
        "\u202egnp.wav",
        "*.wav[1]",
    ):
        (folder / name).write_bytes(b"no audio")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe.wav")).write_bytes(b"no audio")  # no UTF-8
    names = {one.name: str(one) for one in folder.iterdir() if one.name != "model"}
    missing = {"missing.wav": str(folder / "missing.wav"), "a" * 300 + ".wav": str(folder / ("a" * 300 + ".wav"))}
    devices = {"/dev/zero": "/dev/zero", "/dev/null": "/dev/null", "/proc/self/mem": "/proc/self/mem"}
    web = {"https://example.org/a.wav": "https://example.org/a.wav", "~/gone.wav": "~/gone.wav"}
    return names | missing | devices | web | {"zero\x00.wav": f"{folder}/zero\x00.wav"}


def objects() -> dict[str, object]:
    """What a caller from Python may give as a clip by mistake."""
    rows = {"array": VOICE, "sampling_rate": RATE}
    return {
        "a number": 5,
        "a float": 3.2,
        "a truth": True,
        "no name": "",
        "no bytes": b"",
        "bytes of text": b"hello",
        "no keys": {},
        "no array": {"array": None, "sampling_rate": RATE},
        "an empty array": {"array": np.zeros(0), "sampling_rate": RATE},
        "a text for an array": {"array": "abc", "sampling_rate": RATE},
        "three axes": {"array": np.zeros((2, 3, 100)), "sampling_rate": RATE},
        "complex numbers": {"array": VOICE.astype(complex), "sampling_rate": RATE},
        "texts": {"array": np.array(["a", "b"]), "sampling_rate": RATE},
        "objects": {"array": np.array([None, 1], dtype=object), "sampling_rate": RATE},
        "NaN": np.full(RATE, np.nan),
        "samples beyond any scale": 1e30 * VOICE,
        "truths": VOICE > 0,
        "times": np.array(["2026-11-30"], dtype="datetime64[D]"),
        "a rate of 0": rows | {"sampling_rate": 0},
        "a rate below 0": rows | {"sampling_rate": -16_000},
        "a rate of NaN": rows | {"sampling_rate": float("nan")},
        "an infinite rate": rows | {"sampling_rate": float("inf")},
        "a rate as a text": rows | {"sampling_rate": "16k"},
        "no rate": rows | {"sampling_rate": None},
        "a start below 0": rows | {"start": -1.0},
        "a start behind the end": rows | {"start": 0.5, "end": 0.2},
        "a start beyond the clip": rows | {"start": 100.0},
        "a start as a text": rows | {"start": "1:30"},
        "an unknown channel": rows | {"channel": "middle"},
        "a missing channel": rows | {"channel": "right"},
        "an unknown key": rows | {"speaker": "anna"},
        "a path of None": {"path": None},
        "a path of a number": {"path": 5},
        "bytes of no audio": {"bytes": b"hello", "path": "call.wav"},
        "a pair the wrong way round": (VOICE, RATE),
        "a triple": (RATE, VOICE, 3),
        "half a pair": (RATE,),
        "a function": print,
        "an object": object(),
        "a text file": io.StringIO("hello"),
        "a closed file": closed(),
    }


def closed() -> io.BytesIO:
    """A file object that is closed."""
    one = io.BytesIO(wav())
    one.close()
    return one


SETTINGS: list[dict] = [
    *({"top_k": one} for one in (0, -1, 1.5, "all", True)),
    *({"batch_size": one} for one in (0, -3, "8", 2.5)),
    *({"abstain_below": one} for one in (-0.1, 1.1, "half", float("nan"))),
    *({"channel": one} for one in ("middle", "", None, 1)),
    *({"function_to_apply": one} for one in ("relu", 5)),
    *({"text": one} for one in ("hello", ["hello"], 5)),
    {"context": ["before"]},
    {"enrolment": []},
    {"enrolment": VOICE},
    {"dimensions": True},
    {"transcribe": "openai/whisper-tiny"},
]
"""Settings of a call that a model of audio alone cannot follow."""

TURNS = {
    "empty.rttm": b"",
    "binary.rttm": bytes(range(256)),
    "latin.rttm": "SPEAKER call 1 0.0 1.0 <NA> <NA> J\xfcrgen <NA> <NA>\n".encode("latin-1"),
    "prose.rttm": b"Anna speaks first, then Ben.\n",
    "few_cells.rttm": b"SPEAKER call 1 0.0 1.0\n",
    "text_times.rttm": b"SPEAKER call 1 start 1.0 <NA> <NA> anna <NA> <NA>\n",
    "before_0.rttm": b"SPEAKER call 1 -1.0 1.0 <NA> <NA> anna <NA> <NA>\n",
    "no_length.rttm": b"SPEAKER call 1 0.0 0.0 <NA> <NA> anna <NA> <NA>\n",
    "nan.rttm": b"SPEAKER call 1 nan 1.0 <NA> <NA> anna <NA> <NA>\n",
    "infinite.rttm": b"SPEAKER call 1 0.0 inf <NA> <NA> anna <NA> <NA>\n",
    "infinite_start.rttm": b"SPEAKER call 1 inf 1.0 <NA> <NA> anna <NA> <NA>\n",
    "beyond.rttm": b"SPEAKER call 1 900.0 1.0 <NA> <NA> anna <NA> <NA>\n",
    "others.rttm": b"".join(b"SPEAKER %s 1 0 1 <NA> <NA> anna <NA> <NA>\n" % one for one in (b"x", b"y")),
    "utf16.rttm": "SPEAKER call 1 0.0 1.0 <NA> <NA> anna <NA> <NA>\n".encode("utf-16"),
}

WHOLE = {
    "file": "call.wav",
    "seconds": 1.0,
    "model": "m",
    "labels": ["angry", "happy"],
    "voice_activity": "energy",
    "window_seconds": 5.0,
    "segments": [{"start": 0.0, "end": 1.0, "speech": False}],
}
TIMELINES = {
    "empty.json": b"",
    "text.json": b"hello",
    "list.json": b"[]",
    "number.json": b"5",
    "null.json": b"null",
    "binary.json": bytes(range(256)),
    "cut.json": json.dumps(WHOLE).encode()[:60],
    "deep.json": b"[" * 100_000,
    "twice.json": b'{"file": "a", "file": "b"}',
    "nan.json": json.dumps(WHOLE | {"seconds": float("nan")}).encode(),
    **{f"without_{key}.json": json.dumps({k: v for k, v in WHOLE.items() if k != key}).encode() for key in WHOLE},
    **{f"wrong_{key}.json": json.dumps(WHOLE | {key: {"a": 1}}).encode() for key in WHOLE},
    "wrong_segment.json": json.dumps(WHOLE | {"segments": [{"start": "now"}]}).encode(),
}

LISTS = {
    "empty.csv": b"",
    "header_only.csv": b"path\n",
    "no_path.csv": b"name,text\na,b\n",
    "binary.csv": bytes(range(256)) * 4,
    "ragged.csv": b"path,text\na.wav\nb.wav,x,y,z\n",
    "gone.csv": b"path\ngone.wav\n",
    "wrong_times.csv": b"path,start,end\na.wav,5,1\n",
    "text_times.csv": b"path,start\na.wav,soon\n",
    "text.parquet": b"no parquet",
    "cut.parquet": b"PAR1" + bytes(30),
    "text.jsonl": b"hello\n",
    "list.jsonl": b"[1, 2]\n",
    "cut.jsonl": b'{"path": "a.wav"\n',
    "empty.jsonl": b"",
    "empty.tsv": b"",
}


def doors(folder: Path, seed: int) -> Iterator[Case]:
    """Every input at every door that it can come to."""
    warnings.simplefilter("ignore")
    save_trained("audio", folder / "model")
    model = Classifier(str(folder / "model"), "cpu")
    given = folder / "given"
    given.mkdir()
    for name, content in files().items():
        (given / name).write_bytes(content)
    labeller = Labeller(str(folder / "model"), "cpu")
    for name, path in places(given).items():
        yield f"pipeline {name!r}", lambda path=path: word(model.pipeline(path)), Path(path).name
        yield f"timeline {name!r}", lambda path=path: word(make_timeline(model, path)), Path(path).name
        yield f"predict {name!r}", lambda path=path: predicted(model, path), Path(path).name
        yield f"labeller {name!r}", lambda path=path: labelled(labeller, path), Path(path).name
    for name, one in objects().items():
        yield f"pipeline {name}", lambda one=one: word(model.pipeline(one)), ""
    for settings in SETTINGS:
        yield f"pipeline {settings}", lambda settings=settings: word(model.pipeline(VOICE, **settings)), ""
    call = folder / "call.wav"
    call.write_bytes(wav(np.tile(VOICE, 3)))
    for kind, contents in (("rttm", TURNS), ("timeline", TIMELINES), ("list", LISTS)):
        for name, content in contents.items():
            path = folder / f"{kind}_{name}"
            path.write_bytes(content)
            read = {"rttm": turns_of, "timeline": read_timeline, "list": listed}[kind]
            yield f"{kind} {name}", lambda read=read, path=path: read(model, call, path), path.name
    yield from server_cases(model, files())


def word(answer) -> str:
    """What an input is that was answered."""
    return "read" if answer is not None else "no answer"


def turns_of(model: Classifier, call: Path, path: Path) -> str:
    """Read turns, and make a time line of a call by them."""
    read_turns(path)
    return word(make_timeline(model, call, turns=path))


def read_timeline(model: Classifier, call: Path, path: Path) -> str:
    """Read a time line that was stored."""
    return word(Timeline.read(path))


def listed(model: Classifier, call: Path, path: Path) -> str:
    """Classify the files of a list."""
    return predicted(model, str(path))


def predicted(model: Classifier, path: str) -> str:
    """What `hf-ser predict` gives for a file or a list: answers, or errors that name it."""
    return answered(ClipPredictor(model.pipeline).answers(given_clips([path]).clips), path)


def answered(answers, path: str) -> str:
    """`refused` where an error is in place of an answer; a fault where it does not name its file or its remedy."""
    errors = [one.error for one in answers if one.error is not None]
    for error in errors:
        if "xpected" not in error:
            return f"names no remedy: {error}"
    return "refused" if errors else "read"


def labelled(labeller: Labeller, path: str) -> str:
    """What a labeller puts into the column `error`."""
    (error,) = labeller({"path": [path]})["error"]
    if error is None:
        return "read"
    return "refused" if "xpected" in error else f"names no remedy: {error}"


def server_cases(model: Classifier, contents: dict[str, bytes]) -> Iterator[Case]:
    """What is sent to a server: each file as bytes, and forms that do not fit."""
    from fastapi.testclient import TestClient

    from hf_ser.deploy.server import Limits, build_app

    limits = Limits(max_bytes=200_000, max_seconds=5.0, max_characters=100, max_delay_seconds=0.0)
    with TestClient(build_app(model.pipeline, limits), raise_server_exceptions=False) as client:
        good = {"file": ("a.wav", wav())}

        def post(**request) -> str:
            return status_word(client.post("/predict", **request))

        for name, content in contents.items():
            yield f"server {name}", lambda content=content: post(files={"file": ("a", content)}), ""
        forms = {
            "no form": {},
            "an object": {"json": {"file": "a.wav"}},
            "no file": {"data": {"text": "hello"}},
            "a text as the file": {"data": {"file": "hello"}},
            "a text for audio alone": {"files": good, "data": {"text": "hello"}},
            "an unknown channel": {"files": good, "data": {"channel": "middle"}},
            "a channel that is missing": {"files": good, "data": {"channel": "right"}},
            "too many bytes": {"files": {"file": ("a.wav", bytes(300_000))}},
            "too many seconds": {"files": {"file": ("a.flac", wav(np.tile(VOICE, 9), kind="FLAC"))}},
            "no boundary": {"content": b"hello", "headers": {"Content-Type": "multipart/form-data"}},
            "another boundary": {
                "content": b"--a\r\n\r\nhello\r\n--a--",
                "headers": {"Content-Type": "multipart/form-data; boundary=b"},
            },
            "a cut form": {
                "content": b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nRIFF',
                "headers": {"Content-Type": "multipart/form-data; boundary=b"},
            },
        }
        for name, request in forms.items():
            yield f"server {name}", lambda request=request: post(**request), ""
        yield "server GET", lambda: status_word(client.get("/predict")), ""
        yield "server another path", lambda: status_word(client.post("/other", files=good)), ""


def status_word(response) -> str:
    """`read`, or `refused` with a status of the client's fault and a reason."""
    if response.status_code == 200:
        return "read"
    detail = response.json().get("detail")
    if 400 <= response.status_code < 500 and isinstance(detail, str) and "Traceback" not in detail:
        return "refused"
    return f"status {response.status_code}: {response.text[:200]}"
