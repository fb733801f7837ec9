"""A stand-in for the Hub on this machine: all that `huggingface_hub` calls to push and pull, in memory, with faults.

It speaks the classic protocol (LFS; no Xet). Every commit stays readable by its hash, as on the Hub.
"""

import base64
import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, RLock, Thread
from urllib.parse import parse_qs, unquote, urlsplit

OWNER_TOKEN, READER_TOKEN = "hf_owner", "hf_reader"
"""Of `user`, who may write to `user/...`; and of one who may only read what is public."""

USERS = {OWNER_TOKEN: "user", READER_TOKEN: "reader"}
LARGE = (".safetensors", ".parquet", ".png", ".bin")
"""Endings that go through LFS whatever their size, as the Hub's own `.gitattributes` has it."""


def git_oid(content: bytes) -> str:
    """Name of a file in git."""
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


@dataclass
class Repository:
    """Commits by hash, each a whole listing of path to content; branches by name."""

    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        """Add a commit to a branch and return its hash."""
        listing = "".join(f"{path} {git_oid(files[path])}\n" for path in sorted(files))
        sha = hashlib.sha1(f"{len(self.commits)} {self.branches.get(branch)}\n{listing}".encode()).hexdigest()
        self.commits[sha], self.branches[branch] = files, sha
        return sha


@dataclass
class Fault:
    """What to answer to the next `times` calls of a kind, after `spared` of them went well; no status breaks off.

    A `late` one breaks off when all is done, so that only the answer is lost.
    """

    status: int | None
    times: int
    spared: int = 0
    late: bool = False
    headers: dict = field(default_factory=dict)


class Hub(ThreadingHTTPServer):
    """The server; a context manager that serves in its own thread.

    Attributes:
        endpoint: Its address.
        repositories: By kind and id, such as `("models", "user/name")`.
        objects: LFS contents by hash.
        calls: How often each kind was called: create, yaml, whoami, auth, preupload, batch, put, verify, commit, info,
            tree, paths, refs, branch, resolve.
        put_bytes: Bytes of LFS files that arrived whole.
        faults: What goes wrong next, by kind of call.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.calls, self.put_bytes, self.faults, self.lock = Counter(), 0, {}, RLock()

    def __enter__(self):
        Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.shutdown()
        self.server_close()

    def fail(self, kind: str, status: int | None, times: int = 1, spared: int = 0, late=False, **headers) -> None:
        """Order a fault; `Retry_After="30"` is a header."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.faults[kind] = Fault(status, times, spared, late, named)

    def fault(self, kind: str) -> Fault | None:
        """The fault that this call meets, which is then one fewer."""
        with self.lock:
            self.calls[kind] += 1
            fault = self.faults.get(kind)
            if fault is None or fault.times == 0:
                return None
            if fault.spared:
                fault.spared -= 1
                return None
            fault.times -= 1
            return fault

    def files(self, kind: str, name: str, revision: str = "main") -> dict[str, bytes]:
        """Path to content of a repository at a revision, for a test to look at."""
        repository = self.repositories[kind, name]
        return repository.commits[repository.branches.get(revision, revision)]


REPO = r"(?P<kind>models|datasets|spaces)/(?P<name>[\w.-]+/[\w.-]+)"
FILES = r"(?:(?P<kind>datasets|spaces)/)?(?P<name>[\w.-]+/[\w.-]+)"
ROUTES = [
    ("POST", "create", r"/api/repos/create"),
    ("POST", "yaml", r"/api/validate-yaml"),
    ("GET", "whoami", r"/api/whoami-v2"),
    ("GET", "auth", rf"/api/{REPO}/auth-check(?P<write>/write)?"),
    ("POST", "preupload", rf"/api/{REPO}/preupload/(?P<revision>.+)"),
    ("POST", "batch", rf"/{FILES}\.git/info/lfs/objects/batch"),
    ("PUT", "put", r"/lfs/(?P<oid>\w+)"),
    ("POST", "verify", r"/lfs/verify"),
    ("POST", "commit", rf"/api/{REPO}/commit/(?P<revision>.+)"),
    ("POST", "branch", rf"/api/{REPO}/branch/(?P<revision>.+)"),
    ("GET", "refs", rf"/api/{REPO}/refs"),
    ("GET", "tree", rf"/api/{REPO}/tree/(?P<revision>[^/]+)(?:/(?P<path>.*))?"),
    ("POST", "paths", rf"/api/{REPO}/paths-info/(?P<revision>[^/]+)"),
    ("GET", "info", rf"/api/{REPO}(?:/revision/(?P<revision>.+))?"),
    ("GET", "resolve", rf"/{FILES}/resolve/(?P<revision>[^/]+)/(?P<path>.+)"),
]
ROUTES = [(method, kind, re.compile(pattern)) for method, kind, pattern in ROUTES]

READING, WRITING = {"refs", "tree", "paths", "info", "resolve", "auth"}, {"preupload", "batch", "commit", "branch"}


class Handler(BaseHTTPRequestHandler):
    """One connection; a method a kind of call."""

    protocol_version = "HTTP/1.1"
    wbufsize, disable_nagle_algorithm = -1, True  # headers and body in one packet: 40 ms a call otherwise
    timeout = 20  # an idle connection must not outlive the tests
    server: Hub

    def do_GET(self):
        self.serve("GET")

    def do_HEAD(self):
        self.serve("GET")

    def do_POST(self):
        self.serve("POST")

    def do_PUT(self):
        self.serve("PUT")

    def log_message(self, *arguments):
        """Nothing: pytest would show it."""

    def serve(self, method: str) -> None:
        """Find the route, meet its fault or its refusal, else answer."""
        path = unquote(urlsplit(self.path).path)
        found = ((kind, pattern.fullmatch(path)) for verb, kind, pattern in ROUTES if verb == method)
        kind, match = next(((kind, match) for kind, match in found if match), (None, None))
        if match is None:
            self.silent = False
            self.answer(404, {"error": f"no route {method} {path}"})
            return
        fault = self.server.fault(kind)
        self.close_connection = self.silent = bool(fault and fault.status is None)
        if self.silent and not fault.late:  # in the middle of what is being sent
            self.rfile.read(int(self.headers.get("Content-Length") or 0) // 2)
            return
        self.body = self.read_body()
        if fault and not fault.late:
            self.answer(fault.status, {"error": "ordered"}, fault.headers)
            return
        with self.server.lock:
            if not self.refused(kind, match.groupdict()):
                getattr(self, kind)(**match.groupdict())

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0] or b"0", 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def answer(self, status: int, content=b"", headers: dict | None = None) -> None:
        """Send JSON, or bytes as they are."""
        if self.silent:
            return
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    @property
    def user(self) -> str | None:
        return USERS.get(self.headers.get("Authorization", "").removeprefix("Bearer "))

    def refused(self, kind: str, named: dict) -> bool:
        """Answer where the caller may not, or where nothing is there."""
        writes = kind in WRITING or bool(named.get("write"))
        if (kind in {"create", "whoami"} or writes) and self.user is None:
            self.answer(401, {"error": "Invalid username or password."})
            return True
        if kind not in READING | WRITING:
            return False
        repository = self.server.repositories.get((named["kind"] or "models", named["name"]))
        owner = named["name"].split("/")[0]
        if repository is None or (repository.private and self.user != owner):
            self.answer(404 if self.user else 401, {"error": "not found"}, {"X-Error-Code": "RepoNotFound"})
            return True
        if writes and self.user != owner:
            self.answer(403, {"error": "forbidden"}, {"X-Error-Message": "You have no write rights here"})
            return True
        revision = named.get("revision") or "main"
        if revision not in repository.branches and revision not in repository.commits and kind != "branch":
            self.answer(404, {"error": "no such revision"}, {"X-Error-Code": "RevisionNotFound"})
            return True
        return False

    def at(self, kind: str | None, name: str, revision: str | None) -> tuple[Repository, str, dict[str, bytes]]:
        """A repository, the hash that a revision stands for, and its files."""
        repository = self.server.repositories[kind or "models", name]
        sha = repository.branches.get(revision or "main", revision)
        return repository, sha, repository.commits[sha]

    def whoami(self):
        self.answer(200, {"type": "user", "name": self.user, "orgs": [], "auth": {"type": "access_token"}})

    def auth(self, kind, name, write):
        self.answer(200, {})

    def yaml(self):
        self.answer(200, {"errors": [], "warnings": []})

    def create(self):
        wanted = json.loads(self.body)
        kind, owner = f"{wanted.get('type') or 'model'}s", wanted.get("organization") or self.user
        name = f"{owner}/{wanted['name']}"
        if owner != self.user:
            self.answer(403, {"error": "forbidden"}, {"X-Error-Message": "You have no rights to this namespace"})
            return
        url = f"{self.server.endpoint}/{'' if kind == 'models' else kind + '/'}{name}"
        if (kind, name) in self.server.repositories:
            self.answer(409, {"error": "You already created this repo", "url": url})
            return
        private = wanted.get("private") or wanted.get("visibility") == "private"
        repository = self.server.repositories[kind, name] = Repository(bool(private))
        repository.commit("main", {".gitattributes": b"*.safetensors filter=lfs\n"})
        self.answer(200, {"url": url, "name": name})

    def preupload(self, kind, name, revision):
        _, _, files = self.at(kind, name, revision)
        answers = []
        for one in json.loads(self.body)["files"]:
            large = one["path"].endswith(LARGE) or one["size"] > 10_000_000
            answer = {"path": one["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            if (held := files.get(one["path"])) is not None:
                answer["oid"] = hashlib.sha256(held).hexdigest() if large else git_oid(held)
            answers.append(answer)
        self.answer(200, {"files": answers})

    def batch(self, kind, name):
        answers = []
        for one in json.loads(self.body)["objects"]:
            answer = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in self.server.objects:
                href = f"{self.server.endpoint}/lfs"
                answer["actions"] = {"upload": {"href": f"{href}/{one['oid']}"}, "verify": {"href": f"{href}/verify"}}
            answers.append(answer)
        self.answer(200, {"transfer": "basic", "objects": answers})

    def put(self, oid):
        if hashlib.sha256(self.body).hexdigest() != oid:
            self.answer(400, {"error": "the content is not that of its hash"})
            return
        self.server.objects[oid] = self.body
        self.server.put_bytes += len(self.body)
        self.answer(200)

    def verify(self):
        wanted = json.loads(self.body)
        there = len(self.server.objects.get(wanted["oid"], b"")) == wanted["size"]
        self.answer(200 if there else 404, {})

    def commit(self, kind, name, revision):
        repository, _, files = self.at(kind, name, revision)
        files = dict(files)
        for line in self.body.splitlines():
            key, value = (item := json.loads(line))["key"], item["value"]
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.server.objects[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        sha = repository.commit(revision, files)
        self.answer(
            200, {"commitUrl": f"{self.server.endpoint}/{name}/commit/{sha}", "commitOid": sha, "success": True}
        )

    def branch(self, kind, name, revision):
        repository, sha, _ = self.at(kind, name, "main")
        taken = revision in repository.branches
        repository.branches.setdefault(revision, sha)
        self.answer(409 if taken else 201, {"error": "exists"} if taken else {})

    def refs(self, kind, name):
        repository, _, _ = self.at(kind, name, "main")
        branches = [
            {"name": branch, "ref": f"refs/heads/{branch}", "targetCommit": sha}
            for branch, sha in repository.branches.items()
        ]
        self.answer(200, {"branches": branches, "tags": [], "converts": []})

    def info(self, kind, name, revision):
        repository, sha, files = self.at(kind, name, revision)
        self.answer(
            200,
            {
                "_id": hashlib.sha1(name.encode()).hexdigest()[:24],
                "id": name,
                "modelId": name,
                "author": name.split("/")[0],
                "sha": sha,
                "private": repository.private,
                "disabled": False,
                "gated": False,
                "tags": [],
                "downloads": 0,
                "likes": 0,
                "lastModified": "2024-01-01T00:00:00.000Z",
                "createdAt": "2024-01-01T00:00:00.000Z",
                "siblings": [{"rfilename": path} for path in sorted(files)],
            },
        )

    def tree(self, kind, name, revision, path):
        _, _, files = self.at(kind, name, revision)
        start = f"{path.rstrip('/')}/" if path else ""
        recursive = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() in ("true", "1")
        below = [one[len(start) :] for one in files if one.startswith(start)]
        if start and not below:
            self.answer(404, {"error": "no such folder"}, {"X-Error-Code": "EntryNotFound"})
            return
        folders = {part.split("/")[0] for part in below if "/" in part}
        rows = [{"type": "directory", "path": start + one, "oid": git_oid(one.encode()), "size": 0} for one in folders]
        rows += [entry(start + one, files[start + one]) for one in below if recursive or "/" not in one]
        self.answer(200, sorted(rows, key=lambda row: row["path"]))

    def paths(self, kind, name, revision):
        _, _, files = self.at(kind, name, revision)
        if "json" in self.headers.get("Content-Type", ""):
            wanted = json.loads(self.body)["paths"]
        else:
            wanted = parse_qs(self.body.decode()).get("paths", [])
        wanted = [wanted] if isinstance(wanted, str) else wanted
        rows = [entry(path, files[path]) for path in wanted if path in files]
        rows += [
            {"type": "directory", "path": path, "oid": git_oid(path.encode()), "size": 0}
            for path in wanted
            if any(one.startswith(f"{path}/") for one in files)
        ]
        self.answer(200, rows)

    def resolve(self, kind, name, revision, path):
        _, sha, files = self.at(kind, name, revision)
        if path not in files:
            self.answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha})
            return
        content, headers = files[path], {"X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        if path.endswith(LARGE):
            headers |= {"X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Linked-Size": str(len(content))}
        headers["ETag"] = headers.get("X-Linked-Etag", f'"{git_oid(content)}"')
        if span := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(span[1]), int(span[2] or len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            self.answer(206, content[first : last + 1], headers)
            return
        self.answer(200, content, headers)


def entry(path: str, content: bytes) -> dict:
    """A file in a listing."""
    row = {"type": "file", "path": path, "size": len(content), "oid": git_oid(content)}
    if path.endswith(LARGE):
        row["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return row


if __name__ == "__main__":  # an empty Hub until it is killed; its address is printed
    with Hub() as server:
        print(server.endpoint, flush=True)
        Event().wait()
