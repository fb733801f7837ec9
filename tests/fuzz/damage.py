"""Damaged audio files, odd tables and impossible model configurations, each drawn from a seed."""

import copy
import csv
import io
import json
from collections.abc import Iterator

import numpy as np
import pandas as pd
import soundfile as sf

FORMATS = {
    "pcm16.wav": ("WAV", "PCM_16"),
    "pcm24.wav": ("WAV", "PCM_24"),
    "float.wav": ("WAV", "FLOAT"),
    "mulaw.wav": ("WAV", "ULAW"),
    "adpcm.wav": ("WAV", "IMA_ADPCM"),
    "extensible.wav": ("WAVEX", "PCM_16"),
    "big.rf64": ("RF64", "PCM_16"),
    "sony.w64": ("W64", "PCM_16"),
    "apple.aiff": ("AIFF", "PCM_16"),
    "apple.caf": ("CAF", "ALAC_16"),
    "sun.au": ("AU", "PCM_16"),
    "free.flac": ("FLAC", "PCM_16"),
    "vorbis.ogg": ("OGG", "VORBIS"),
    "opus.ogg": ("OGG", "OPUS"),
    "layer3.mp3": ("MP3", "MPEG_LAYER_III"),
}
HEADER_BYTES = 120
EXTREMES = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)

CELLS = (
    *("", " ", "nan", "None", "-1", "0", "1e309", "-inf", "0x10", "1,5", "00:01", "2026-11-30", "=1+1", "#", "\\", "/"),
    *("..", ".", "/dev/zero", "C:\\a.wav", "clip_0.wav/", "file:///etc/hosts", "https://example.org/a.wav", "a" * 5000),
    *(
        '"',
        '""',
        '"open',
        "'",
        "\x00",
        "\x1b[2J",
        "\ufeff",
        "\u200b",
        "\ud800",
        "e\u0301",
        "\uff11",
        "a\nb",
        "a\r",
        "a|b",
    ),
    *("{}", "[1, 2]", '{"a": 1}', "<script>", "99999999999999999999", "1e-300", "True"),
)
VALUES = (
    *(0, -1, 1, 7, 2**31, 10**9, 10**30, 1e-300, 1e300, float("nan"), float("inf"), -float("inf"), 0.5, -0.1),
    *(
        True,
        False,
        None,
        "",
        "relu",
        "a" * 1000,
        "../../etc/passwd",
        [],
        [0],
        [1, "a"],
        [[]],
        {},
        {"a": 1},
        {"0": None},
    ),
)


BEHIND = (
    b"TAG" + bytes(125),
    b"ID3\x04\0\0\0\0\x03\x00" + b"TIT2" * 96,
    b"APETAGEX\xd0\x07\0\0" + b"\x40\0\0\0" + b"Artist" * 30,
    b"<?xml version='1.0'?>" + b"<a/>" * 50,
    b"\xff" * 4096,
    bytes(4096),
    b"LIST\xff\xff\x00\x00INFO",
    b"bext\x00\x00",
)
"""What programs, and copies that failed, leave behind the end of a recording."""


def audio_files(seed: int, damaged_copies: int) -> Iterator[tuple[str, bytes, bytes | None]]:
    """Names and contents of short recordings in every format, each whole at first and then damaged.

    Yields:
        The third is the whole recording where the damage lies behind its end: all of it is to be read, and no more.
    """
    generator = np.random.default_rng(seed)
    time = np.arange(12_000) / 24_000
    voice = 0.4 * np.sin(2 * np.pi * 180 * time) * (1 + np.sin(2 * np.pi * 5 * time)) / 2
    stereo = np.stack([voice, 0.5 * voice + 0.01 * generator.standard_normal(len(time))], axis=1)
    for name, (kind, subtype) in FORMATS.items():
        whole = io.BytesIO()
        sf.write(whole, stereo, 24_000, format=kind, subtype=subtype)
        yield f"whole_{name}", whole.getvalue(), whole.getvalue()
        for number, behind in enumerate((*BEHIND, generator.bytes(1000), generator.bytes(4097))):
            yield f"behind_{number}_{name}", whole.getvalue() + behind, whole.getvalue()
        for number in range(damaged_copies):
            yield f"{number}_{name}", damaged(whole.getvalue(), generator), None


def damaged(content: bytes, generator: np.random.Generator) -> bytes:
    """The content with one to four changes: flipped bits, extreme numbers in the header, parts cut, doubled, moved."""
    data = bytearray(content)
    for _ in range(generator.integers(1, 5)):
        if len(data) < 8:
            break
        end = min(HEADER_BYTES, len(data)) if generator.random() < 0.7 else len(data)
        at = int(generator.integers(0, max(1, end - 4)))
        change = generator.integers(0, 7)
        if change == 0:
            data[at] ^= 1 << int(generator.integers(0, 8))
        elif change == 1:
            order = "little" if generator.random() < 0.5 else "big"
            data[at : at + 4] = int(generator.choice(EXTREMES)).to_bytes(4, order)
        elif change == 2:
            del data[int(generator.integers(0, len(data))) :]
        elif change == 3:
            del data[at : at + int(generator.integers(1, 64))]
        elif change == 4:
            data[at:at] = data[: int(generator.integers(1, 256))]
        elif change == 5:
            data[at:at] = generator.bytes(int(generator.integers(1, 64)))
        else:
            data[at : at + 16] = bytes(16)
    return bytes(data)


def tables(seed: int, number: int) -> Iterator[tuple[str, bytes]]:
    """Names and contents of tables of eight clips (`clip_0.wav` ...) with odd cells, columns, quotes and bytes."""
    generator = np.random.default_rng(seed)
    for index in range(number):
        rows = _odd_rows(generator)
        kind = generator.choice(("csv", "csv", "tsv", "jsonl", "parquet"))
        content = _written(rows, str(kind), generator)
        if generator.random() < 0.3:
            content = damaged(content, generator)
        yield f"table_{index}.{kind}", content


def _odd_rows(generator: np.random.Generator) -> list[dict]:
    rows = [
        {
            "path": f"clip_{number}.wav",
            "label": ("angry", "happy")[number % 2],
            "speaker": f"speaker {number // 2}",
            "transcript": "one, two and three",
            "start": 0.0,
            "end": 0.4,
            "votes:angry": 1 + number % 2,
            "votes:happy": 2 - number % 2,
            "age": 30 + number,
        }
        for number in range(8)
    ]
    kept = [name for name in rows[0] if name in ("path", "label") or generator.random() < 0.6]
    rows = [{name: row[name] for name in kept} for row in rows]
    for _ in range(generator.integers(0, 6)):
        row, name = rows[generator.integers(0, len(rows))], str(generator.choice(kept))
        row[name] = (CELLS + VALUES)[generator.integers(0, len(CELLS) + len(VALUES))]
    if generator.random() < 0.15:
        gone = str(generator.choice(kept))
        rows = [{name: value for name, value in row.items() if name != gone} for row in rows]
    if generator.random() < 0.15:
        renamed = str(generator.choice(kept))
        odd = str(generator.choice(CELLS))
        rows = [{odd if name == renamed else name: value for name, value in row.items()} for row in rows]
    return rows


def _written(rows: list[dict], kind: str, generator: np.random.Generator) -> bytes:
    if kind == "jsonl":
        return "\n".join(json.dumps(row) for row in rows).encode()
    if kind == "parquet":
        content = io.BytesIO()
        texts = [{name: str(value).encode("utf-8", "replace").decode() for name, value in row.items()} for row in rows]
        pd.DataFrame(texts if generator.random() < 0.8 else texts[:0]).to_parquet(content)
        return content.getvalue()
    text = io.StringIO(newline="")
    quoting = (csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONE)[generator.integers(0, 3)]
    separator = "\t" if kind == "tsv" else str(generator.choice((",", ",", ";", "|", "\t")))
    end = str(generator.choice(("\n", "\r\n")))
    writer = csv.writer(text, delimiter=separator, quoting=quoting, escapechar="\\", lineterminator=end)
    writer.writerows([list(rows[0]), *(list(row.values()) for row in rows)])
    encoding = str(generator.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1")))
    return text.getvalue().encode(encoding, "replace" if encoding == "latin-1" else "surrogatepass")


def configurations(whole: dict, seed: int, number: int) -> Iterator[tuple[str, dict]]:
    """Descriptions and copies of a JSON object with one or two of its values, at any depth, replaced or removed."""
    generator = np.random.default_rng(seed)
    for _ in range(number):
        changed, done = copy.deepcopy(whole), []
        for _ in range(generator.integers(1, 3)):
            inner, key = _place(changed, generator)
            if generator.random() < 0.1:
                inner.pop(key)
                done.append(f"without {key}")
            else:
                inner[key] = copy.deepcopy(VALUES[generator.integers(0, len(VALUES))])
                done.append(f"{key}={inner[key]!r:.40}")
        yield ", ".join(done), changed


def _place(values: dict, generator: np.random.Generator) -> tuple[dict, str]:
    key = str(generator.choice(list(values)))
    while isinstance(values[key], dict) and values[key] and generator.random() < 0.8:
        values = values[key]
        key = str(generator.choice(list(values)))
    return values, key
