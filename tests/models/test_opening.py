"""WAV headers that say 0, and MP3 segments without pages on the standard error."""

import os
import struct
import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
import soundfile as sf

from hf_ser.models.decoding import read_audio
from hf_ser.models.opening import without_mpg123_messages
from hf_ser.models.wrong_headers import header_patch

RATE = 16_000


def noise(seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    return 0.1 * np.random.default_rng(0).standard_normal(int(seconds * rate))


def wav(samples, **options) -> bytearray:
    file = BytesIO()
    sf.write(file, samples, options.pop("rate", RATE), format="WAV", **options)
    return bytearray(file.getvalue())


@pytest.mark.parametrize("riff", [0, 36, None, 0xFFFFFFFF])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_a_size_of_zero_is_that_of_what_follows(riff, subtype, tmp_path):
    content = wav(np.stack([noise(), noise()], 1), subtype=subtype)
    wanted = read_audio(bytes(content)).samples
    place = content.index(b"data")
    content[place + 4 : place + 8] = bytes(4)
    if riff is not None:
        content[4:8] = struct.pack("<I", riff)
    (tmp_path / "x.wav").write_bytes(content)
    for source in (tmp_path / "x.wav", bytes(content), BytesIO(content)):
        audio = read_audio(source)
        np.testing.assert_array_equal(audio.samples, wanted)
        assert not audio.cut_short
    np.testing.assert_array_equal(read_audio(tmp_path / "x.wav", RATE, 0.25, 0.75).samples, wanted[4000:12000])


def test_an_empty_recording_stays_empty():
    content = wav(np.zeros(0))
    assert len(read_audio(bytes(content)).samples) == 0
    tags = b"LIST" + struct.pack("<I", 10) + b"INFOINAM\0\0"
    assert header_patch(BytesIO(content + tags)) == (None, None)
    assert header_patch(BytesIO(wav(noise()))) == (None, None)
    assert header_patch(BytesIO(content[:30])) == (None, None)


@pytest.mark.parametrize("field", [slice(24, 28), slice(22, 24)])
def test_a_rate_of_zero_is_named(field):
    content = wav(noise())
    content[field] = bytes(field.stop - field.start)
    with pytest.raises(ValueError, match=r"header says 0 Hz or 0 channels.*mend the rate|not readable as audio"):
        read_audio(bytes(content))


def test_segments_of_an_mp3_print_no_pages(tmp_path, capfd):
    sf.write(tmp_path / "x.mp3", noise(20), RATE, format="MP3")
    with sf.SoundFile(tmp_path / "x.mp3") as file:
        for start in range(14):
            file.seek(int((start + 0.4) * RATE))
            file.read(RATE)
    if "libmpg123" not in capfd.readouterr().err:
        pytest.skip("this libsndfile prints nothing")
    for start in range(14):
        for source in (tmp_path / "x.mp3", (tmp_path / "x.mp3").read_bytes()):
            read_audio(source, RATE, start + 0.4, start + 1.4)
    assert capfd.readouterr().err == ""


def test_only_the_lines_of_libmpg123_are_left_out(capfd):
    with without_mpg123_messages():
        os.write(2, b"[src/libmpg123/layer3.c:INT123_do_layer3():1774] error: dequantization failed!\nanother line\n")
        os.write(2, b"Warning: Xing stream size off by more than 1%, fuzzy seeking may be even more fuzzy!\n")
        os.write(2, b"Warning: the disk is full\n")
        print("from Python", file=sys.stderr)
    with pytest.raises(KeyError), without_mpg123_messages():
        os.write(2, b"before an error\n")
        raise KeyError
    printed = capfd.readouterr().err
    assert "libmpg123" not in printed and "Xing" not in printed
    assert {"another line", "Warning: the disk is full", "from Python", "before an error"} <= set(printed.splitlines())


def test_a_cut_off_mp3_prints_nothing(tmp_path, capfd):
    sf.write(tmp_path / "x.mp3", noise(5), RATE, format="MP3")
    content = (tmp_path / "x.mp3").read_bytes()
    assert len(read_audio(content[: len(content) // 3]).samples) > RATE
    assert capfd.readouterr().err == ""


FORK = """
import os, sys, threading
from hf_ser.models.decoding import read_audio
from hf_ser.models.opening import without_mpg123_messages

inside, done = threading.Event(), threading.Event()

def other():
    with without_mpg123_messages():
        inside.set()
        done.wait()

thread = threading.Thread(target=other)
thread.start()
inside.wait()
if (child := os.fork()) == 0:
    print(len(read_audio(sys.argv[1]).samples), flush=True)
    os.write(2, b"from the child\\n")
    os._exit(0)
os.waitpid(child, 0)
done.set()
thread.join()
os.write(2, b"from the parent\\n")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_is_forked_while_an_mp3_is_read_reads_another(tmp_path):
    sf.write(tmp_path / "x.mp3", noise(), RATE, format="MP3")
    command = [sys.executable, "-c", FORK, str(tmp_path / "x.mp3")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert int(ended.stdout) > 0.9 * RATE
    assert ended.stderr == "from the child\nfrom the parent\n"


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are UTF-8 or UTF-16 there")
@pytest.mark.parametrize("container", ["WAV", "MP3", "OGG"])
def test_a_name_that_is_no_utf_8_is_read_too(container, tmp_path):
    name = os.fsdecode(bytes(tmp_path) + b"/f\xfcr.audio")
    file = BytesIO()
    sf.write(file, noise(), RATE, format=container)
    with open(name, "wb") as to:
        to.write(file.getvalue())
    np.testing.assert_array_equal(read_audio(name).samples, read_audio(file.getvalue()).samples)
