"""Fetch a corpus from its publisher: continued where it broke off, checked, unpacked. Only a call contacts anyone.

A corpus says where its files are, either as a list of `Download`s or as a function that asks the publisher's public
interface for them (`zenodo`, `dataverse`, `git_lfs`), so that the checksums are the publisher's own.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from time import sleep
from urllib.parse import quote

import requests
from tqdm import tqdm

ATTEMPTS = 5
"""How often in a row a transfer may fail without getting any further."""

LONGEST_WAIT_SECONDS = 300
TIMEOUT_SECONDS = (10, 60)  # to connect, and between two packets
CHUNK_BYTES = 1 << 16
PASSING = (408, 429, 500, 502, 503, 504)  # HTTP statuses that another attempt may not meet

PUBLISHER = "its publisher"
LFS_POINTER = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\noid (sha256:[0-9a-f]{64})\nsize (\d+)\n")


@dataclass(frozen=True)
class Download:
    """One file to fetch.

    Args:
        url: Where it is.
        file_name: What it is called here, perhaps below folders (`AudioWAV/1001_DFA_ANG_XX.wav`).
        size_bytes: As published; None where it is not.
        checksum: As published, `md5:...` or `sha256:...`; None where the publisher gives none.
    """

    url: str
    file_name: str
    size_bytes: int | None = None
    checksum: str | None = None


def fetch(
    downloads: Sequence[Download] | Callable[[Path], Sequence[Download]], data_dir: str | Path, page: str = PUBLISHER
) -> Path:
    """Download a corpus and unpack its archives, so that the folder can be listed.

    Archives are kept in `data_dir/downloads`; each is unpacked into a folder of its name. Other files are put into
    `data_dir` itself. What is already there and whole is neither fetched nor unpacked again.

    Args:
        downloads: The files, or a function from the folder of the archives to them.
        data_dir: Folder of the corpus; made where it is missing.
        page: Web page from which a person gets the corpus by hand, for the errors.

    Returns:
        `data_dir`.

    Raises:
        FileNotFoundError, ValueError, PermissionError: as `download` and `unpack` do.
    """
    data_dir = Path(data_dir)
    items = downloads(data_dir / "downloads") if callable(downloads) else downloads
    archives = [item for item in items if item.file_name.lower().endswith(".zip")]
    download([item for item in items if item not in archives], data_dir, page)
    for archive in download(archives, data_dir / "downloads", page):
        unpack(archive, data_dir / archive.stem)
    return data_dir


def download(items: Sequence[Download], folder: str | Path, page: str = PUBLISHER) -> list[Path]:
    """Fetch files over HTTP, with one progress bar; proxies are taken from the environment.

    A file takes its name only once it is whole and its checksum is right. Until then it is `<name>.part`, which a later
    call continues where it ends, unless the server's file is another one by then. A broken connection and a server that
    is busy are tried again, `ATTEMPTS` times in a row without getting further. A file that is there with the published
    checksum (or size, where that is all there is) is not fetched.

    Args:
        items: The files.
        folder: Where they go; made where it is missing.
        page: Web page from which a person gets them by hand, for the errors.

    Returns:
        The files, in the order of `items`.

    Raises:
        FileNotFoundError: the server does not give the file, or cannot be reached.
        ValueError: a file differs from its published size or checksum (it is deleted), a name leads out of the folder,
            or the disk is full.
        PermissionError: the folder may not be written.
    """
    files = [_inside(Path(folder), item.file_name) for item in items]
    wanted = [pair for pair in zip(items, files, strict=True) if not _is_there(*pair)]
    if not wanted:
        return files
    have = sum(_size(_part(file)) for _, file in wanted)
    total = sum(item.size_bytes or 0 for item, _ in wanted) or None
    title = wanted[0][1].name if len(wanted) == 1 else f"{len(wanted)} files"
    with (
        requests.Session() as session,
        tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=title, disable=None) as bar,
    ):
        for item, file in wanted:
            with _plain_errors(file):
                file.parent.mkdir(parents=True, exist_ok=True)
                _transfer(session, item, _part(file), bar, page)
                _verify(item, _part(file), page)
                os.replace(_part(file), file)
                _state(_part(file)).unlink(missing_ok=True)
    for item, file in wanted:
        if item.checksum is None:
            found = _digest(file, "sha256")
            print(f"{file}: no checksum is published for it, so it was not checked. Found {found}")
    return files


def unpack(archive: str | Path, folder: str | Path) -> Path:
    """Unpack a zip archive into a folder that takes its name only once all of it is there.

    Raises:
        ValueError: not a whole zip archive, a member that leads out of the folder (nothing is unpacked then), a folder
            of that name which lacks members, or a full disk.
        PermissionError: the folder may not be written.
    """
    archive, folder = Path(archive), Path(folder)
    partial = folder.with_name(f"{folder.name}.partial")
    try:
        with zipfile.ZipFile(archive) as zipped, _plain_errors(folder):
            members = [member for member in zipped.infolist() if not member.is_dir()]
            for member in members:
                _inside(folder, member.filename)
            if folder.exists():
                lacking = [member for member in members if _size(folder / member.filename) != member.file_size]
                if lacking:
                    raise ValueError(
                        f"{folder}: found {len(members) - len(lacking)} of the {len(members)} files of {archive}, for "
                        f"example not {lacking[0].filename}. Move the folder away and run again, or use it as it is by "
                        "leaving out --download."
                    )
                return folder
            shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
            zipped.extractall(partial)
            os.replace(partial, folder)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{archive}: found {error}, expected a zip archive. Delete it and run again.") from error
    return folder


def zenodo(record: int, names: Sequence[str], folder: str | Path, server: str = "https://zenodo.org") -> list[Download]:
    """Files of a Zenodo record, with the sizes and MD5 sums that Zenodo publishes.

    Args:
        record: Number of the record's version; the files of one never change.
        names: Files to take of it.
        folder: Keeps the record's description, so that it is asked for once.
        server: The Zenodo to ask.

    Raises:
        FileNotFoundError, PermissionError: as `download` does.
        ValueError: the record has no such file, or the answer is not that of Zenodo.

    Source: https://developers.zenodo.org, "Records".
    """
    page = f"{server}/records/{record}"

    def read(answer: dict) -> list[Download]:
        found = {file["key"]: file for file in answer["files"]}
        if lacking := [name for name in names if name not in found]:
            raise ValueError(f"{page}: found files {', '.join(found)}, expected {', '.join(lacking)} among them.")
        return [
            Download(found[name]["links"]["self"], name, found[name]["size"], found[name]["checksum"]) for name in names
        ]

    return _published(f"{server}/api/records/{record}", f"zenodo-{record}.json", folder, page, read)


def dataverse(server: str, doi: str, folder: str | Path) -> list[Download]:
    """All files of a Dataverse dataset, with the sizes and checksums that the Dataverse publishes.

    The number by which a file is fetched stands for the same bytes for ever.

    Args:
        server: Such as `https://borealisdata.ca`.
        doi: Such as `doi:10.5683/SP2/E8H2MF`.
        folder: Keeps the dataset's description, so that it is asked for once.

    Raises:
        FileNotFoundError, PermissionError: as `download` does.
        ValueError: the answer is not that of a Dataverse.

    Source: https://guides.dataverse.org/en/latest/api/native-api.html and dataaccess.html.
    """

    def read(answer: dict) -> list[Download]:
        items = []
        for entry in answer["data"]["latestVersion"]["files"]:
            file = entry["dataFile"]
            algorithm = file["checksum"]["type"].lower().replace("-", "")  # "SHA-256" to the name that hashlib has
            name = str(PurePosixPath(entry.get("directoryLabel", ""), entry["label"]))
            checksum = f"{algorithm}:{file['checksum']['value']}"
            items.append(Download(f"{server}/api/access/datafile/{file['id']}", name, file["filesize"], checksum))
        return items

    page = f"{server}/dataset.xhtml?persistentId={doi}"
    url = f"{server}/api/datasets/:persistentId/?persistentId={doi}"
    return _published(url, re.sub(r"[^\w.]+", "-", doi) + ".json", folder, page, read)


def git_lfs(archive: Download, inside: str, base_url: str, folder: str | Path, page: str) -> list[Download]:
    """Files that a Git repository stores by Git LFS, with the sizes and SHA-256 sums of their pointers.

    Args:
        archive: Zip archive of the repository at one commit, as GitHub makes it: it holds the pointers.
        inside: Folder of the repository whose files to take, `AudioWAV/`.
        base_url: Address that gives a file's content, where its path in the repository is added: of the repository or
            of any mirror, for the checksums are those of the pointers.
        folder: Keeps the archive.
        page: Web page of the repository, for the errors.

    Raises:
        FileNotFoundError, PermissionError: as `download` does.
        ValueError: no zip archive, or one without pointers in that folder.

    Source: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
    """
    (file,) = download([archive], folder, page)
    items = []
    try:
        with zipfile.ZipFile(file) as zipped:
            for member in zipped.infolist():
                name = member.filename.partition("/")[2]  # all lies in a folder named after repository and commit
                pointer = LFS_POINTER.fullmatch(zipped.read(member)) if name.startswith(inside) else None
                if pointer:
                    items.append(Download(f"{base_url}/{quote(name)}", name, int(pointer[2]), pointer[1].decode()))
    except zipfile.BadZipFile as error:
        raise ValueError(f"{file}: found {error}, expected a zip archive. Delete it and run again.") from error
    if not items:
        raise ValueError(f"{file}: found no Git LFS pointer in {inside}, expected one a file. {_by_hand(page)}")
    return items


def _published(url: str, name: str, folder: str | Path, page: str, read: Callable[[dict], list]) -> list[Download]:
    """What a publisher's interface answers, kept as a file and read."""
    (file,) = download([Download(url, name)], folder, page)
    try:
        return read(json.loads(file.read_text(encoding="utf-8")))
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        file.unlink()
        raise ValueError(f"{url}: found no list of files in the answer ({error!r}). {_by_hand(page)}") from error


def _transfer(session: requests.Session, item: Download, part: Path, bar: tqdm, page: str) -> None:
    """Receive a file, again and again where the connection breaks."""
    failures, most = 0, _size(part)
    while True:
        try:
            return _receive(session, item, part, bar)
        except requests.RequestException as error:
            # A server that ignores Range and breaks at the same place gets no further, however much it sends.
            failures = 1 if _size(part) > most else failures + 1
            most = max(most, _size(part))
            wait = _wait_seconds(error, failures)
            if not _may_pass(error) or failures == ATTEMPTS or wait > LONGEST_WAIT_SECONDS:
                raise FileNotFoundError(f"{item.url}: {_what_happened(error)}. {_by_hand(page)}") from error
            sleep(wait)


def _receive(session: requests.Session, item: Download, part: Path, bar: tqdm) -> None:
    """One request: the rest of `part` where the server still has the same file, else all of it."""
    have, known = _size(part), _read_state(part)
    if have and have == known.get("size"):
        return None  # killed between the last byte and the new name
    headers = {"Accept-Encoding": "identity"}  # lengths and positions are those of the file itself
    if have and known:
        headers["Range"] = f"bytes={have}-"
    with session.get(item.url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as response:
        if "Range" in headers and (response.status_code == 416 or _is_other_part(response, have, known)):
            part.unlink()
            bar.update(-have)
            return _receive(session, item, part, bar)
        response.raise_for_status()
        if response.status_code != 206:
            part.unlink(missing_ok=True)  # before its state is another one's: a kill must not join two files
            bar.update(-have)
            have, known = 0, _offered(response)
            _state(part).write_text(json.dumps(known), encoding="utf-8")
        if item.size_bytes is None and known["size"]:
            bar.total = max(bar.total or 0, bar.n + known["size"] - have)
        with open(part, "ab") as handle:
            for chunk in response.iter_content(CHUNK_BYTES):
                handle.write(chunk)
                bar.update(len(chunk))
    if known["size"] and _size(part) < known["size"]:  # urllib3 before 2 takes a broken answer for a short one
        raise requests.ConnectionError(f"the connection ended after {_size(part)} of {known['size']} bytes")
    return None


def _offered(response: requests.Response) -> dict:
    """What tells the server's file from another one: its entity tag and its size in bytes, each None if not told."""
    size = response.headers.get("Content-Length")
    if response.status_code == 206:
        size = response.headers.get("Content-Range", "").rpartition("/")[2]
    told = size and size.isdigit() and "Content-Encoding" not in response.headers
    return {"etag": response.headers.get("ETag"), "size": int(size) if told else None}


def _is_other_part(response: requests.Response, have: int, known: dict) -> bool:
    """Whether a partial answer is not the rest of the file that was begun."""
    starts = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
    return response.status_code == 206 and not (starts and _offered(response) == known)


def _may_pass(error: requests.RequestException) -> bool:
    """Whether another attempt may go better."""
    if error.response is not None:
        return error.response.status_code in PASSING
    broken = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    return isinstance(error, broken) and not isinstance(error, requests.exceptions.SSLError)


def _wait_seconds(error: requests.RequestException, failures: int) -> float:
    """What the server asks for (`Retry-After` in seconds), else 1, 2, 4, ..."""
    asked = error.response.headers.get("Retry-After", "") if error.response is not None else ""
    return int(asked) if asked.isdigit() else 2 ** (failures - 1)


def _what_happened(error: requests.RequestException) -> str:
    if error.response is not None:
        return f"found HTTP {error.response.status_code} {error.response.reason}, expected the file"
    return f"the server cannot be reached or breaks off ({error})"


def _by_hand(page: str) -> str:
    return (
        "Run again later, which continues where this ended, or get the corpus by hand from "
        f"{page}, unpack it, and point --data_dir at it without --download."
    )


def _verify(item: Download, part: Path, page: str) -> None:
    """Refuse and delete a file that is not the published one."""
    found, expected = [f"{_size(part)} bytes"], [f"{item.size_bytes} bytes"]
    if item.size_bytes is None:
        found, expected = [], []
    if item.checksum:
        found.append(_digest(part, item.checksum.partition(":")[0]))
        expected.append(item.checksum.lower())
    if found != expected:
        part.unlink()
        _state(part).unlink(missing_ok=True)
        raise ValueError(
            f"{part.with_suffix('')}: found {', '.join(found)}, expected {', '.join(expected)} as published; it was "
            f"deleted. Something between here and {item.url} altered it, or the file was replaced. {_by_hand(page)}"
        )


def _is_there(item: Download, file: Path) -> bool:
    if not file.is_file() or item.size_bytes not in (None, _size(file)):
        return False
    return item.checksum is None or _digest(file, item.checksum.partition(":")[0]) == item.checksum.lower()


def _digest(file: Path, algorithm: str) -> str:
    """`sha256:...` of a file's bytes."""
    digest = hashlib.new(algorithm)
    with open(file, "rb") as handle:
        while chunk := handle.read(1 << 20):
            digest.update(chunk)
    return f"{algorithm}:{digest.hexdigest()}"


def _inside(folder: Path, name: str) -> Path:
    """A file below a folder, by a name that someone else chose."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or PureWindowsPath(name).drive:
        raise ValueError(
            f"{folder}: found a file named {name!r}, which leads out of the folder, expected names below it. Nothing "
            "was written: do not trust where this came from."
        )
    return folder / path


def _part(file: Path) -> Path:
    return file.with_name(f"{file.name}.part")


def _state(part: Path) -> Path:
    """Beside a `.part`: which of the server's files it is the beginning of."""
    return part.with_name(f"{part.name}.json")


def _read_state(part: Path) -> dict:
    with suppress(FileNotFoundError, json.JSONDecodeError):
        return json.loads(_state(part).read_text(encoding="utf-8"))
    return {}


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


@contextmanager
def _plain_errors(path: Path) -> Iterator[None]:
    """Say what to do where the disk is full or the folder may not be written."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ValueError(
                f"{path}: the disk is full. Free some space and run again, which continues where this ended, or name "
                "another --data_dir."
            ) from error
        if isinstance(error, PermissionError):
            raise PermissionError(f"{path}: {path.parent} may not be written. Name another --data_dir.") from error
        raise
