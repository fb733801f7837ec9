"""Download a corpus from its publisher, with resuming and checksums, and unpack it.

A corpus lists its files as `Download`s, or as a function that queries the publisher's public interface for them
(`dataverse`, `git_lfs`), so that the checksums are the publisher's own.
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
"""Failures in a row without progress after which a transfer is given up."""

LONGEST_WAIT_SECONDS = 300
TIMEOUT_SECONDS = (10, 60)  # to connect, and between two packets
CHUNK_BYTES = 1 << 16
TEMPORARY_STATUSES = (408, 429, 500, 502, 503, 504)  # HTTP statuses worth another attempt

PUBLISHER = "its publisher"
LFS_POINTER = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\noid (sha256:[0-9a-f]{64})\nsize (\d+)\n")


@dataclass(frozen=True)
class Download:
    """A file to download.

    Args:
        url: Address.
        file_name: Local name, perhaps with folders (`AudioWAV/1001_DFA_ANG_XX.wav`).
        size_bytes: Published size; None if unknown.
        checksum: Published checksum, `md5:...` or `sha256:...`; None if unknown.
    """

    url: str
    file_name: str
    size_bytes: int | None = None
    checksum: str | None = None


def fetch(
    downloads: Sequence[Download] | Callable[[Path], Sequence[Download]], data_dir: str | Path, page: str = PUBLISHER
) -> Path:
    """Download a corpus and unpack its archives.

    Archives are kept in `data_dir/downloads`; each is unpacked into a folder of its name. Other files go into
    `data_dir`. Complete files and folders are neither downloaded nor unpacked again.

    Args:
        downloads: The files, or a function that returns them for the folder of the archives.
        data_dir: Folder of the corpus; created if missing.
        page: Web page for a manual download, for messages.

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
    """Download files over HTTP with one progress bar; proxies are taken from the environment.

    A file gets its name only once its size and checksum are right. Until then it is `<name>.part`, which a later call
    resumes unless the server's file has changed. Temporary errors are retried, up to `ATTEMPTS` times in a row without
    progress. A file with the published checksum, or else size, is kept.

    Args:
        items: The files.
        folder: Target folder; created if missing.
        page: Web page for a manual download, for messages.

    Returns:
        The files, in the order of `items`.

    Raises:
        FileNotFoundError: the server refuses the file, or cannot be reached.
        ValueError: a file differs from its published size or checksum (it is deleted), a name leads out of the folder,
            or the disk is full.
        PermissionError: the folder is not writable.
    """
    files = [_path_inside(Path(folder), item.file_name) for item in items]
    wanted = [pair for pair in zip(items, files, strict=True) if not _is_complete(*pair)]
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
            with _errors_explained(file):
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
    """Unpack a zip archive into a folder that gets its name only once it is complete.

    Raises:
        ValueError: a damaged archive, a member that leads out of the folder (nothing is unpacked then), an incomplete
            folder of that name, or a full disk.
        PermissionError: the folder is not writable.
    """
    archive, folder = Path(archive), Path(folder)
    partial = folder.with_name(f"{folder.name}.partial")
    try:
        with zipfile.ZipFile(archive) as zipped, _errors_explained(folder):
            members = [member for member in zipped.infolist() if not member.is_dir()]
            for member in members:
                _path_inside(folder, member.filename)
            if folder.exists():
                missing = [member for member in members if _size(folder / member.filename) != member.file_size]
                if missing:
                    raise ValueError(
                        f"{folder}: found {len(members) - len(missing)} of the {len(members)} files of {archive}, for "
                        f"example not {missing[0].filename}. Move the folder away and run again, or use it as it is by "
                        "leaving out --download."
                    )
                return folder
            shutil.rmtree(partial, ignore_errors=True)  # left by a killed run
            zipped.extractall(partial)
            os.replace(partial, folder)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{archive}: found {error}, expected a zip archive. Delete it and run again.") from error
    return folder


def dataverse(server: str, doi: str, folder: str | Path) -> list[Download]:
    """List all files of a Dataverse dataset, with the sizes and checksums that Dataverse publishes.

    The content of a file number never changes.

    Args:
        server: Such as `https://borealisdata.ca`.
        doi: Such as `doi:10.5683/SP2/E8H2MF`.
        folder: Folder that caches the dataset's description.

    Raises:
        FileNotFoundError, PermissionError: as `download` does.
        ValueError: the response is not from a Dataverse.

    Source: https://guides.dataverse.org/en/latest/api/native-api.html and dataaccess.html.
    """

    def read(answer: dict) -> list[Download]:
        items = []
        for entry in answer["data"]["latestVersion"]["files"]:
            file = entry["dataFile"]
            algorithm = file["checksum"]["type"].lower().replace("-", "")  # "SHA-256" to hashlib's name
            name = str(PurePosixPath(entry.get("directoryLabel", ""), entry["label"]))
            checksum = f"{algorithm}:{file['checksum']['value']}"
            items.append(Download(f"{server}/api/access/datafile/{file['id']}", name, file["filesize"], checksum))
        return items

    page = f"{server}/dataset.xhtml?persistentId={doi}"
    url = f"{server}/api/datasets/:persistentId/?persistentId={doi}"
    return _published_files(url, re.sub(r"[^\w.]+", "-", doi) + ".json", folder, page, read)


def git_lfs(archive: Download, inside: str, base_url: str, folder: str | Path, page: str) -> list[Download]:
    """List the Git LFS files of a Git repository, with the sizes and SHA-256 sums of their pointers.

    Args:
        archive: Zip archive of the repository at one commit, as GitHub makes it, which holds the pointers.
        inside: Folder of the repository, such as `AudioWAV/`.
        base_url: Address before a file's path in the repository, of the repository or of a mirror.
        folder: Folder that caches the archive.
        page: Web page of the repository, for messages.

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
                name = member.filename.partition("/")[
                    2
                ]  # the archive has one folder, named after repository and commit
                pointer = LFS_POINTER.fullmatch(zipped.read(member)) if name.startswith(inside) else None
                if pointer:
                    items.append(Download(f"{base_url}/{quote(name)}", name, int(pointer[2]), pointer[1].decode()))
    except zipfile.BadZipFile as error:
        raise ValueError(f"{file}: found {error}, expected a zip archive. Delete it and run again.") from error
    if not items:
        raise ValueError(f"{file}: found no Git LFS pointer in {inside}, expected one a file. {_manual(page)}")
    return items


def _published_files(
    url: str, name: str, folder: str | Path, page: str, read: Callable[[dict], list]
) -> list[Download]:
    """Download a publisher's list of files, cache it and read it."""
    (file,) = download([Download(url, name)], folder, page)
    try:
        return read(json.loads(file.read_text(encoding="utf-8")))
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        file.unlink()
        raise ValueError(f"{url}: found no list of files in the response ({error!r}). {_manual(page)}") from error


def _transfer(session: requests.Session, item: Download, part: Path, bar: tqdm, page: str) -> None:
    """Download a file, and retry after temporary errors."""
    failures, most = 0, _size(part)
    while True:
        try:
            return _receive(session, item, part, bar)
        except requests.RequestException as error:
            # A server that ignores Range and breaks at the same place makes no progress.
            failures = 1 if _size(part) > most else failures + 1
            most = max(most, _size(part))
            wait = _wait_seconds(error, failures)
            if not _is_temporary(error) or failures == ATTEMPTS or wait > LONGEST_WAIT_SECONDS:
                raise FileNotFoundError(f"{item.url}: {_description(error)}. {_manual(page)}") from error
            sleep(wait)


def _receive(session: requests.Session, item: Download, part: Path, bar: tqdm) -> None:
    """One request: the rest of `part` if the server still has the same file, else all of it."""
    have, known = _size(part), _read_state(part)
    if have and have == known.get("size"):
        return None  # killed between the last byte and the new name
    headers = {"Accept-Encoding": "identity"}  # so that lengths and positions are those of the file
    if have and known:
        headers["Range"] = f"bytes={have}-"
    with session.get(item.url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as response:
        if "Range" in headers and (response.status_code == 416 or _is_other_part(response, have, known)):
            part.unlink()
            bar.update(-have)
            return _receive(session, item, part, bar)
        response.raise_for_status()
        if response.status_code != 206:
            part.unlink(missing_ok=True)  # before the state changes: a kill must not join two files
            bar.update(-have)
            have, known = 0, _identity(response)
            _state(part).write_text(json.dumps(known), encoding="utf-8")
        if item.size_bytes is None and known["size"]:
            bar.total = max(bar.total or 0, bar.n + known["size"] - have)
        with open(part, "ab") as handle:
            for chunk in response.iter_content(CHUNK_BYTES):
                handle.write(chunk)
                bar.update(len(chunk))
    if known["size"] and _size(part) < known["size"]:  # urllib3 before 2 takes a broken response for a short one
        raise requests.ConnectionError(f"the connection ended after {_size(part)} of {known['size']} bytes")
    return None


def _identity(response: requests.Response) -> dict:
    """Entity tag and size in bytes of the server's file, each None if missing."""
    size = response.headers.get("Content-Length")
    if response.status_code == 206:
        size = response.headers.get("Content-Range", "").rpartition("/")[2]
    is_known = size and size.isdigit() and "Content-Encoding" not in response.headers
    return {"etag": response.headers.get("ETag"), "size": int(size) if is_known else None}


def _is_other_part(response: requests.Response, have: int, known: dict) -> bool:
    """Whether a partial response is not the rest of the same file."""
    starts = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
    return response.status_code == 206 and not (starts and _identity(response) == known)


def _is_temporary(error: requests.RequestException) -> bool:
    """Whether another attempt may succeed."""
    if error.response is not None:
        return error.response.status_code in TEMPORARY_STATUSES
    broken = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    return isinstance(error, broken) and not isinstance(error, requests.exceptions.SSLError)


def _wait_seconds(error: requests.RequestException, failures: int) -> float:
    """Seconds of the server's `Retry-After`, else 1, 2, 4, ..."""
    retry_after = error.response.headers.get("Retry-After", "") if error.response is not None else ""
    return int(retry_after) if retry_after.isdigit() else 2 ** (failures - 1)


def _description(error: requests.RequestException) -> str:
    if error.response is not None:
        return f"found HTTP {error.response.status_code} {error.response.reason}, expected the file"
    return f"the server cannot be reached or breaks off ({error})"


def _manual(page: str) -> str:
    return (
        "Run again later, which continues where this ended, or get the corpus by hand from "
        f"{page}, unpack it, and point --data_dir at it without --download."
    )


def _verify(item: Download, part: Path, page: str) -> None:
    """Delete and refuse a file whose size or checksum differs from the published one."""
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
            f"deleted. Something between here and {item.url} altered it, or the file was replaced. {_manual(page)}"
        )


def _is_complete(item: Download, file: Path) -> bool:
    if not file.is_file() or item.size_bytes not in (None, _size(file)):
        return False
    return item.checksum is None or _digest(file, item.checksum.partition(":")[0]) == item.checksum.lower()


def _digest(file: Path, algorithm: str) -> str:
    """Digest of a file, `sha256:...`."""
    digest = hashlib.new(algorithm)
    with open(file, "rb") as handle:
        while chunk := handle.read(1 << 20):
            digest.update(chunk)
    return f"{algorithm}:{digest.hexdigest()}"


def _path_inside(folder: Path, name: str) -> Path:
    """Path in a folder, by an untrusted name."""
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
    """File beside a `.part` with the identity of the server's file."""
    return part.with_name(f"{part.name}.json")


def _read_state(part: Path) -> dict:
    with suppress(FileNotFoundError, json.JSONDecodeError):
        return json.loads(_state(part).read_text(encoding="utf-8"))
    return {}


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


@contextmanager
def _errors_explained(path: Path) -> Iterator[None]:
    """Explain errors of a full disk or a folder that is not writable."""
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
