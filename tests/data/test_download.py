"""Downloads against a server on this machine that breaks off, ignores Range, is busy, or has another file by now."""

import errno
import hashlib
import io
import json
import re
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tqdm import tqdm

from hf_ser.data import download as module
from hf_ser.data.download import Download, dataverse, download, fetch, git_lfs, unpack

BYTES = bytes(range(256)) * 4096  # 1 MiB
HALF = len(BYTES) // 2
DAMAGED = BYTES[:-1] + b"?"


class Publisher(ThreadingHTTPServer):
    """Serves `files` by path, in the ways that a test sets.

    `breaks` answers end half-way; `statuses` are given first, one an answer; `sent` counts the bytes of the files.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files, self.breaks, self.statuses, self.retry_after = {}, 0, [], None
        self.ranges = self.tags = True
        self.sent, self.received = 0, []

    def offer(self, content=BYTES, name="clips.bin", **known) -> Download:
        """Put a file there; how a corpus would name it."""
        self.files[f"/{name}"] = content
        known = {"size_bytes": len(content), "checksum": f"md5:{hashlib.md5(content).hexdigest()}"} | known
        return Download(f"{self.url}/{name}", name, **known)

    def handle_error(self, *_):
        """A client that goes away is what is tested here."""


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        server.received.append((self.path, dict(self.headers)))
        content = server.files.get(self.path)
        status = server.statuses.pop(0) if server.statuses else 404 if content is None else 200
        if status != 200:
            self.send_response(status)
            if server.retry_after:
                self.send_header("Retry-After", server.retry_after)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        start, total = 0, len(content)
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if server.ranges and wanted:
            start = int(wanted[1])
            if start >= total:
                self.send_response(416)
                self.send_header("Content-Length", "0")
                return self.end_headers()
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        else:
            self.send_response(200)
        if server.tags:
            self.send_header("ETag", tag)
        body = content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.breaks:
            server.breaks -= 1
            body = body[: len(body) // 2]
            self.close_connection = True
        server.sent += len(body)  # before the client can have it, so that a test finds it counted
        return self.wfile.write(body)


@pytest.fixture
def publisher(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    server = Publisher()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """How long each pause would have been, in seconds."""
    seconds = []
    monkeypatch.setattr(module, "sleep", seconds.append)
    return seconds


@pytest.fixture
def interrupted(monkeypatch):
    """A function: the next download is interrupted once that many bytes have come."""

    def after(n_bytes, error=KeyboardInterrupt):
        usual = module.tqdm

        class Bar(tqdm):
            def update(self, n=1):
                self.come = getattr(self, "come", 0) + n
                if self.come >= n_bytes:
                    monkeypatch.setattr(module, "tqdm", usual)
                    raise error

        monkeypatch.setattr(module, "tqdm", Bar)

    return after


@pytest.fixture
def bars(monkeypatch):
    """The progress bars, in the order of their making."""
    made = []

    class Bar(tqdm):
        def __init__(self, **options):
            super().__init__(**options | {"disable": False, "file": io.StringIO()})
            made.append(self)

    monkeypatch.setattr(module, "tqdm", Bar)
    return made


def names(folder) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def zipped(**members) -> bytes:
    """A zip archive; `__` in a keyword is a slash."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return buffer.getvalue()


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_a_file_is_complete_and_not_downloaded_twice(publisher, tmp_path, algorithm, capsys):
    item = publisher.offer(checksum=f"{algorithm}:{hashlib.new(algorithm, BYTES).hexdigest().upper()}")
    assert download([item], tmp_path / "new" / "folder") == [tmp_path / "new" / "folder" / "clips.bin"]
    assert (tmp_path / "new" / "folder" / "clips.bin").read_bytes() == BYTES
    assert names(tmp_path) == ["new/folder/clips.bin"]  # no .part and no note is left
    download([item], str(tmp_path / "new" / "folder"))
    assert (len(publisher.received), publisher.sent) == (1, len(BYTES))
    assert publisher.received[0][1]["Accept-Encoding"] == "identity"  # else lengths are those of something else
    assert capsys.readouterr().out == ""


def test_a_broken_connection_goes_on_where_it_broke(publisher, tmp_path, waits):
    publisher.breaks = 3
    download([publisher.offer()], tmp_path)
    assert (tmp_path / "clips.bin").read_bytes() == BYTES
    assert publisher.sent <= len(BYTES) + 3 * module.CHUNK_BYTES  # what was under way when it broke may come again
    assert "Range" not in publisher.received[0][1]
    starts = [int(headers["Range"][6:-1]) for _, headers in publisher.received[1:]]
    assert starts == sorted(starts)
    assert starts[0] == HALF
    assert waits == [1, 1, 1]  # each attempt got further


def test_a_killed_download_is_resumed_by_the_next_call(publisher, tmp_path, interrupted):
    item = publisher.offer()
    interrupted(HALF)
    with pytest.raises(KeyboardInterrupt):
        download([item], tmp_path)
    assert names(tmp_path) == ["clips.bin.part", "clips.bin.part.json"]
    assert (tmp_path / "clips.bin.part").stat().st_size == HALF
    publisher.sent = 0
    download([item], tmp_path)
    assert publisher.sent == HALF
    assert names(tmp_path) == ["clips.bin"]
    assert (tmp_path / "clips.bin").read_bytes() == BYTES


def test_a_complete_part_needs_no_request(publisher, tmp_path, interrupted):
    item = publisher.offer()
    interrupted(len(BYTES))  # killed between the last byte and the new name
    with pytest.raises(KeyboardInterrupt):
        download([item], tmp_path)
    download([item], tmp_path)
    assert len(publisher.received) == 1
    assert names(tmp_path) == ["clips.bin"]


@pytest.mark.parametrize("lost", ["clips.bin.part.json", "half of it"])
def test_a_part_of_which_nothing_is_known_is_not_continued(publisher, tmp_path, interrupted, lost):
    item = publisher.offer()
    interrupted(HALF)
    with pytest.raises(KeyboardInterrupt):
        download([item], tmp_path)
    note = tmp_path / "clips.bin.part.json"
    note.unlink() if lost == note.name else note.write_text(note.read_text()[:9])
    publisher.sent = 0
    download([item], tmp_path)
    assert publisher.sent == len(BYTES)
    assert "Range" not in publisher.received[-1][1]


def test_from_a_server_that_ignores_ranges_all_is_downloaded(publisher, tmp_path, bars, interrupted):
    publisher.ranges = False
    item = publisher.offer()
    interrupted(HALF)
    with pytest.raises(KeyboardInterrupt):
        download([item], tmp_path)
    publisher.sent = 0
    download([item], tmp_path)
    assert publisher.received[-1][1]["Range"] == f"bytes={HALF}-"
    assert (bars[-1].initial, bars[-1].n) == (HALF, len(BYTES))
    assert publisher.sent == len(BYTES)
    assert (tmp_path / "clips.bin").read_bytes() == BYTES


@pytest.mark.parametrize(
    ("new", "tags"),
    [(BYTES[::-1], True), (BYTES[::-1] + b"longer", True), (BYTES[::-1] + b"longer", False), (BYTES[:1000], False)],
    ids=["other tag", "other tag and size", "other size", "shorter than the part"],
)
def test_a_file_that_changed_meanwhile_is_started_over(publisher, tmp_path, interrupted, new, tags):
    publisher.tags = tags
    interrupted(HALF)
    with pytest.raises(KeyboardInterrupt):
        download([publisher.offer(size_bytes=None, checksum=None)], tmp_path)
    download([publisher.offer(new, size_bytes=None, checksum=None)], tmp_path)
    assert (tmp_path / "clips.bin").read_bytes() == new  # nothing else would notice a join of the two


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_retried(publisher, tmp_path, waits, status):
    publisher.statuses = [status] * 3
    download([publisher.offer()], tmp_path)
    assert (tmp_path / "clips.bin").read_bytes() == BYTES
    assert waits == [1, 2, 4]


def test_the_server_s_retry_after_is_obeyed(publisher, tmp_path, waits):
    publisher.statuses, publisher.retry_after = [429], "60"
    download([publisher.offer()], tmp_path)
    assert waits == [60]


def test_a_server_that_asks_for_an_hour_is_not_waited_for(publisher, tmp_path, waits):
    publisher.statuses, publisher.retry_after = [429], "3600"
    with pytest.raises(FileNotFoundError, match=r"found HTTP 429.*Run again later"):
        download([publisher.offer()], tmp_path)
    assert waits == []


@pytest.mark.parametrize(("status", "requests"), [(403, 1), (404, 1), (500, module.ATTEMPTS)])
def test_a_refusal_names_the_address_and_the_manual_download(publisher, tmp_path, status, requests):
    item = publisher.offer()
    publisher.statuses = [status] * 9
    text = rf"{item.url}: found HTTP {status} .*by hand from https://corpus\.example, unpack it, and point --data_dir"
    with pytest.raises(FileNotFoundError, match=text):
        download([item], tmp_path, "https://corpus.example")
    assert len(publisher.received) == requests
    assert names(tmp_path) == []


def test_an_unknown_host_is_reported(publisher, tmp_path, waits):
    item = Download("http://corpus.invalid/clips.bin", "clips.bin")
    with pytest.raises(FileNotFoundError, match=r"http://corpus\.invalid/clips\.bin: the server cannot be reached"):
        download([item], tmp_path)
    assert waits == [1, 2, 4, 8]


def test_a_certificate_that_is_refused_is_not_tried_again(publisher, tmp_path, waits):
    url = publisher.url.replace("http:", "https:")  # it does not speak TLS at all
    with pytest.raises(FileNotFoundError, match=r"https://127.*cannot be reached.*SSL"):
        download([Download(f"{url}/clips.bin", "clips.bin")], tmp_path)
    assert waits == []


def test_a_server_that_always_breaks_at_the_same_place_is_given_up(publisher, tmp_path, waits):
    publisher.ranges, publisher.breaks = False, 99
    item = publisher.offer()
    with pytest.raises(FileNotFoundError, match=f"{item.url}: the server cannot be reached or breaks off"):
        download([item], tmp_path)
    assert len(publisher.received) == module.ATTEMPTS
    assert (tmp_path / "clips.bin.part").stat().st_size == HALF  # kept for a better day


@pytest.mark.parametrize(
    ("known", "found", "expected"),
    [
        ({"checksum": "md5:" + "0" * 32}, f"md5:{hashlib.md5(BYTES).hexdigest()}", "md5:" + "0" * 32),
        ({"checksum": "sha256:" + "0" * 64}, f"sha256:{hashlib.sha256(BYTES).hexdigest()}", "sha256:" + "0" * 64),
        ({"size_bytes": 7, "checksum": None}, f"{len(BYTES)} bytes", "7 bytes"),
    ],
    ids=["md5", "sha256", "size"],
)
def test_a_file_that_is_not_the_published_one_is_deleted(publisher, tmp_path, known, found, expected):
    item = publisher.offer(**known)
    text = rf"{tmp_path}/clips\.bin: found .*{found}, expected .*{expected} as published; it was deleted.*by hand"
    with pytest.raises(ValueError, match=text):
        download([item], tmp_path)
    assert names(tmp_path) == []


def test_a_damaged_file_is_fetched_again_and_replaced_only_by_a_good_one(publisher, tmp_path):
    (tmp_path / "clips.bin").write_bytes(DAMAGED)
    publisher.statuses = [404]
    with pytest.raises(FileNotFoundError):
        download([publisher.offer()], tmp_path)
    assert (tmp_path / "clips.bin").read_bytes() == DAMAGED
    download([publisher.offer()], tmp_path)
    assert (tmp_path / "clips.bin").read_bytes() == BYTES


def test_a_file_without_a_published_checksum_is_reported_as_unchecked(publisher, tmp_path, capsys):
    item = publisher.offer(size_bytes=None, checksum=None)
    download([item], tmp_path)
    sha256 = hashlib.sha256(BYTES).hexdigest()
    assert f"it was not checked. Found sha256:{sha256}" in capsys.readouterr().out
    download([item], tmp_path)
    assert len(publisher.received) == 1


def test_many_files_share_one_bar_and_only_the_missing_ones_are_fetched(publisher, tmp_path, bars):
    items = [publisher.offer(bytes([i]) * 100, f"AudioWAV/{i}.wav") for i in range(5)]
    download(items[:2], tmp_path)
    files = download(items, tmp_path)
    download(items, tmp_path)
    assert [file.relative_to(tmp_path).as_posix() for file in files] == [f"AudioWAV/{i}.wav" for i in range(5)]
    assert [(bar.total, bar.n, bar.unit, bar.desc) for bar in bars] == [
        (200, 200, "B", "2 files"),
        (300, 300, "B", "3 files"),
    ]
    assert len(publisher.received) == 5


def test_the_bar_of_an_unknown_size_learns_it_and_counts_what_was_there(publisher, tmp_path, interrupted, bars):
    item = publisher.offer(size_bytes=None)
    interrupted(HALF)
    with pytest.raises(KeyboardInterrupt):
        download([item], tmp_path)
    download([item], tmp_path)
    assert (bars[-1].initial, bars[-1].n, bars[-1].total) == (HALF, len(BYTES), len(BYTES))


@pytest.mark.parametrize("name", ["../evil.wav", "/evil.wav", "a/../../evil.wav", "..\\evil.wav", "C:\\evil.wav"])
def test_a_name_that_leads_out_of_the_folder_is_refused(publisher, tmp_path, name):
    item = publisher.offer()
    with pytest.raises(ValueError, match="which leads out of the folder"):
        download([Download(item.url, name)], tmp_path / "corpus")
    assert publisher.received == []
    with pytest.raises(ValueError, match="which leads out of the folder"):
        (tmp_path / "corpus.zip").write_bytes(zipped(good=b"", **{name: b"evil"}))
        unpack(tmp_path / "corpus.zip", tmp_path / "corpus" / "unpacked")
    assert names(tmp_path) == ["corpus.zip"]


def test_a_full_disk_is_named_and_what_came_is_kept(publisher, tmp_path, interrupted):
    interrupted(HALF, OSError(errno.ENOSPC, "No space left on device"))
    item = publisher.offer()
    with pytest.raises(ValueError, match=r"clips\.bin: the disk is full.*continues"):
        download([item], tmp_path)
    publisher.sent = 0
    download([item], tmp_path)
    assert publisher.sent == HALF


def test_a_folder_that_may_not_be_written_is_named(publisher, tmp_path, interrupted):
    interrupted(1, PermissionError(errno.EACCES, "Permission denied"))
    with pytest.raises(PermissionError, match=f"{tmp_path} may not be written. Name another --data_dir"):
        download([publisher.offer()], tmp_path)


def test_a_proxy_of_the_environment_is_used(publisher, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", publisher.url)
    publisher.files["http://corpus.invalid/clips.bin"] = BYTES  # requested from a proxy
    download([Download("http://corpus.invalid/clips.bin", "clips.bin")], tmp_path)
    assert (tmp_path / "clips.bin").read_bytes() == BYTES


def test_a_corpus_is_fetched_and_unpacked_once(publisher, tmp_path):
    archive = publisher.offer(zipped(Actor_01__a=b"one", Actor_02__b=b"two"), "clips.zip")
    table = publisher.offer(b"x,y\n", "table.csv")
    for _ in range(2):
        assert fetch([archive, table], tmp_path / "corpus") == tmp_path / "corpus"
        assert names(tmp_path / "corpus") == [
            "clips/Actor_01/a",
            "clips/Actor_02/b",
            "downloads/clips.zip",
            "table.csv",
        ]
    assert len(publisher.received) == 2
    assert (tmp_path / "corpus/clips/Actor_02/b").read_bytes() == b"two"


def test_unpacking_that_was_killed_starts_over(publisher, tmp_path, monkeypatch):
    archive = publisher.offer(zipped(a=b"one", b=b"two"), "clips.zip")
    with monkeypatch.context() as patch:
        patch.setattr(module.os, "replace", lambda source, target: (_ for _ in ()).throw(KeyboardInterrupt))
        file = tmp_path / "clips.zip"
        file.write_bytes(publisher.files["/clips.zip"])
        with pytest.raises(KeyboardInterrupt):
            unpack(file, tmp_path / "clips")
    assert not (tmp_path / "clips").exists()
    (tmp_path / "clips.partial" / "of another version").touch()
    unpack(file, tmp_path / "clips")
    assert names(tmp_path) == ["clips.zip", "clips/a", "clips/b"]
    assert archive.file_name == file.name


def test_an_incomplete_folder_of_that_name_is_refused(tmp_path):
    (tmp_path / "clips.zip").write_bytes(zipped(a=b"one", b=b"two"))
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a").write_bytes(b"one")
    with pytest.raises(ValueError, match=r"found 1 of the 2 files of .*for example not b. Move the folder away"):
        unpack(tmp_path / "clips.zip", tmp_path / "clips")


def test_what_is_no_zip_archive_is_named(tmp_path):
    (tmp_path / "clips.zip").write_bytes(b"<html>Please log in</html>")
    with pytest.raises(ValueError, match=r"clips\.zip: found .*, expected a zip archive"):
        unpack(tmp_path / "clips.zip", tmp_path / "clips")


def test_a_dataverse_gives_all_files_of_a_dataset(publisher, tmp_path):
    def entry(number, label, content, **more):
        publisher.offer(content, f"api/access/datafile/{number}")
        md5 = hashlib.md5(content).hexdigest()
        file = {"id": number, "filename": label, "filesize": len(content), "md5": md5}
        file["checksum"] = {"type": "MD5", "value": md5}
        return {"label": label, "restricted": False, "version": 1, "dataFile": file} | more

    first = entry(96558, "OAF_back_angry.wav", b"angry")
    second = entry(96358, "OAF_back_disgust.wav", b"disgust", directoryLabel="OAF")
    second["dataFile"]["checksum"] = {"type": "SHA-256", "value": hashlib.sha256(b"disgust").hexdigest()}
    answer = {"status": "OK", "data": {"id": 1, "latestVersion": {"files": [first, second]}}}
    doi = "doi:10.5683/SP2/E8H2MF"
    publisher.offer(json.dumps(answer).encode(), f"api/datasets/:persistentId/?persistentId={doi}")
    for _ in range(2):
        fetch(lambda folder: dataverse(publisher.url, doi, folder), tmp_path)
    assert names(tmp_path) == [
        "OAF/OAF_back_disgust.wav",
        "OAF_back_angry.wav",
        "downloads/doi-10.5683-SP2-E8H2MF.json",
    ]
    assert len(publisher.received) == 3


@pytest.mark.parametrize("answer", [b"<html>maintenance</html>", b"[]", b'{"status": "ERROR", "message": "not found"}'])
def test_an_answer_that_lists_no_files_is_not_kept(publisher, tmp_path, answer):
    publisher.offer(answer, "api/datasets/:persistentId/?persistentId=doi:7")
    with pytest.raises(ValueError, match=r"persistentId=doi:7: found no list of files.*by hand from .*doi:7"):
        dataverse(publisher.url, "doi:7", tmp_path)
    assert names(tmp_path) == []


def pointer(content: bytes) -> bytes:
    sha256 = hashlib.sha256(content).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(content)}\n".encode()


def test_git_lfs_pointers_give_sizes_and_checksums(publisher, tmp_path):
    archive = publisher.offer(
        zipped(
            **{
                "CREMA-D-1658cd3/AudioWAV/": b"",
                "CREMA-D-1658cd3/AudioWAV/1001_DFA_ANG_XX.wav": pointer(b"anger"),
                "CREMA-D-1658cd3/AudioWAV/1001#DFA.wav": pointer(b"blank"),
                "CREMA-D-1658cd3/AudioWAV/README": b"not a pointer",
                "CREMA-D-1658cd3/AudioMP3/1001_DFA_ANG_XX.mp3": pointer(b"other"),
            }
        ),
        "archive/1658cd3.zip",
    )
    publisher.offer(b"anger", "raw/AudioWAV/1001_DFA_ANG_XX.wav")
    publisher.offer(b"blank", "raw/AudioWAV/1001%23DFA.wav")
    archive = Download(archive.url, "CREMA-D-1658cd3.zip")

    def downloads(folder):
        return git_lfs(archive, "AudioWAV/", f"{publisher.url}/raw", folder, "https://github.com/crema")

    for _ in range(2):
        fetch(downloads, tmp_path)
    assert names(tmp_path) == [
        *("AudioWAV/1001#DFA.wav", "AudioWAV/1001_DFA_ANG_XX.wav", "downloads/CREMA-D-1658cd3.zip"),
    ]
    assert len(publisher.received) == 3
    publisher.files["/raw/AudioWAV/1001_DFA_ANG_XX.wav"] = pointer(b"anger")  # a host that gives the pointer itself
    (tmp_path / "AudioWAV/1001_DFA_ANG_XX.wav").unlink()
    with pytest.raises(ValueError, match="expected 5 bytes, sha256:"):
        fetch(downloads, tmp_path)
    with pytest.raises(ValueError, match=r"found no Git LFS pointer in VideoFlash/.*by hand from https://github.com"):
        git_lfs(archive, "VideoFlash/", publisher.url, tmp_path / "downloads", "https://github.com/crema")
