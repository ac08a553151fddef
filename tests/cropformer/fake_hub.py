"""A Hugging Face hub on this machine: what ``huggingface_hub`` asks of one, in memory, with faults on demand."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest

LARGE = (".safetensors", ".pth", ".bin")  # kept apart from git and named by their sha256, as on the hub
WRITER = "hf_writer"


@dataclass
class Repository:
    """The files of every commit, and which commit each branch is at."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    private: bool = False
    messages: list[str] = field(default_factory=list)

    def commit(self, files: dict[str, bytes], message: str = "commit") -> str:
        """Add files to the main branch; returns the commit."""
        content = {**self.commits.get(self.branches.get("main", ""), {}), **files}
        digest = hashlib.sha1(f"{len(self.commits)} {sorted(content)}".encode()).hexdigest()
        self.commits[digest], self.branches["main"] = content, digest
        self.messages.append(message)
        return digest


@dataclass
class Request:
    """What was asked."""

    method: str
    path: str
    start: int | None  # where the range of bytes begins, None for the whole
    authorized: bool


class FakeHub:
    """The repositories, the requests so far, and the faults to come.

    Attributes:
        cut_at: the next download of a large file breaks off after so many bytes, once.
        damaged: whether large files are sent with their last byte wrong.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[Request] = []
        self.cut_at: int | None = None
        self.damaged = False
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.storage_url = f"http://localhost:{self.server.server_port}"  # another host, as on the hub
        Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def add(self, name: str, files: dict[str, bytes], *, gated: bool = False) -> str:
        """A repository, "datasets/owner/name" for one of data, with its first commit, which is returned."""
        self.repositories[name] = Repository(gated=gated)
        return self.repositories[name].commit(files)

    def downloads(self) -> list[Request]:
        """The requests for content."""
        return [request for request in self.requests if request.method == "GET"]

    def stop(self) -> None:
        """Refuse every further connection."""
        self.server.shutdown()
        self.server.server_close()


@contextmanager
def fake_hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A running hub that ``huggingface_hub`` takes for the real one, with an empty cache and login in ``home``."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    hub = FakeHub()
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(home / "stored_tokens"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1024)  # so that the half of a small file counts as progress
    for module in ("huggingface_hub.file_download.time", f"{_http.__name__}.time"):
        monkeypatch.setattr(module, SimpleNamespace(sleep=lambda seconds: None))  # retries need not wait here
    yield hub
    hub.stop()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub

    def do_HEAD(self) -> None:
        self._resolve()

    def do_GET(self) -> None:
        if about := re.match(r"/api/models/([^/?]+/[^/?]+)", self.path):
            self._describe(about[1])
        else:
            self._resolve()

    def do_PUT(self) -> None:
        self._note()
        content = self._body()
        self.hub.objects[hashlib.sha256(content).hexdigest()] = content
        self._answer(200)

    def do_POST(self) -> None:
        self._note()
        body = self._body()
        if self.path == "/api/validate-yaml":
            self._json({})
        elif not self._authorized():
            self._answer(403, {"X-Error-Message": "You need write access"})
        elif self.path == "/api/repos/create":
            self._create(json.loads(body))
        elif "/preupload/" in self.path:
            files = [
                {"path": f["path"], "uploadMode": _mode(f["path"]), "shouldIgnore": False}
                for f in json.loads(body)["files"]
            ]
            self._json({"files": files})
        elif self.path.endswith("/info/lfs/objects/batch"):
            href = {"actions": {"upload": {"href": f"{self.hub.url}/upload"}}}
            self._json({"transfer": "basic", "objects": [{**asked, **href} for asked in json.loads(body)["objects"]]})
        else:
            self._commit(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""

    def _describe(self, name: str) -> None:
        self._note()
        if name in self.hub.repositories:
            commit = self.hub.repositories[name].branches.get("main")
            self._json({"id": name, "sha": commit, "siblings": [], "tags": [], "xetEnabled": False})
        else:
            self._answer(401, {"X-Error-Code": "RepoNotFound"})

    def _create(self, asked: dict) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        known = name in self.hub.repositories
        if not known:
            private = asked.get("visibility") == "private" or asked.get("private") is True
            self.hub.repositories[name] = Repository(private=private)
        self._json({"url": f"{self.hub.url}/{name}"}, status=409 if known else 200)

    def _commit(self, body: bytes) -> None:
        """Lines of JSON: the message, then one line for each file, small ones with their content."""
        name = re.fullmatch(r"/api/models/(.+)/commit/main", self.path)[1]
        header, *lines = (json.loads(line) for line in body.splitlines())
        files = {}
        for value in (line["value"] for line in lines):
            small = base64.b64decode(value.get("content", ""))
            files[value["path"]] = self.hub.objects[value["oid"]] if "oid" in value else small
        commit = self.hub.repositories[name].commit(files, header["value"]["summary"])
        self._json({"commitUrl": f"{self.hub.url}/{name}/commit/{commit}", "commitOid": commit})

    def _resolve(self) -> None:
        self._note()
        if self.path.startswith("/objects/"):
            self._send(self.hub.objects[self.path.removeprefix("/objects/")])
            return
        asked = re.fullmatch(r"/(.+)/resolve/([^/]+)/(.+)", self.path)
        if asked is None:
            self._answer(404)
            return
        name, revision, path = asked.groups()
        repository = self.hub.repositories.get(name)
        if repository is None:
            self._answer(401, {"X-Error-Code": "RepoNotFound"})
        elif repository.gated and not self._authorized():
            self._answer(403, {"X-Error-Code": "GatedRepo"})
        elif (commit := repository.branches.get(revision, revision)) not in repository.commits:
            self._answer(404, {"X-Error-Code": "RevisionNotFound"})
        elif path not in repository.commits[commit]:
            self._answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        else:
            self._point_to(path, repository.commits[commit][path], commit)

    def _point_to(self, path: str, content: bytes, commit: str) -> None:
        """Send a small file; redirect to a large one, whose hash and size are told at once."""
        if _mode(path) == "regular":
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            self._send(content, {"X-Repo-Commit": commit, "ETag": f'"{blob}"'})
            return
        digest = hashlib.sha256(content).hexdigest()
        self.hub.objects[digest] = content
        linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
        self._answer(302, {"X-Repo-Commit": commit, "Location": f"{self.hub.storage_url}/objects/{digest}", **linked})

    def _send(self, content: bytes, headers: dict[str, str] | None = None) -> None:
        """The content from where the request's range starts, with the faults that were ordered."""
        start = self.hub.requests[-1].start
        sent = content[start or 0 :]
        self.send_response(200 if start is None else 206)
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(sent)))
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.hub.damaged:
            sent = sent[:-1] + bytes([sent[-1] ^ 1])
        self.wfile.write(sent if self.hub.cut_at is None else sent[: self.hub.cut_at])
        self.hub.cut_at = None

    def _answer(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": "0", **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()

    def _json(self, content: dict, *, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _note(self) -> None:
        start = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        request = Request(self.command, self.path, int(start[1]) if start else None, self._authorized())
        self.hub.requests.append(request)

    def _authorized(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {WRITER}"

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        return b"".join(chunks)


def _mode(path: str) -> str:
    return "lfs" if path.endswith(LARGE) else "regular"
