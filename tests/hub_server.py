"""A small Hub for tests: the part of the Hugging Face Hub's HTTP that a client needs to push and load a model.

Written from the client's requests and the published descriptions of the Hub, Git LFS and HTTP, for use with the real
client. It is strict: whatever the Hub would refuse, or a client has no reason to send, gets an error, and is listed in
`Hub.complaints`, so that a test can demand that there was none.

Two servers under two host names, as on the Hub: the Hub itself, and a store for large files, which takes signed
addresses only and refuses a token (a token that reaches it has leaked).

Faults are switched on with `Hub.faults`, and concern the content of files: see `Fault`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, quote, unquote, urlsplit

import yaml

_LFS_SUFFIXES = (".safetensors", ".onnx", ".npz", ".bin", ".engine")
_LFS_TYPE = "application/vnd.git-lfs+json"
_REGULAR_LIMIT = 10 * 1024 * 1024
_LICENCES = {"apache-2.0", "mit", "other", "unknown", "cc-by-4.0", "bsd-3-clause"}  # some of the Hub's


class Refused(Exception):
    """An answer with an error status."""

    def __init__(self, status: int, message: str, code: str | None = None, **more: Any) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.more = status, message, code, more


@dataclass(frozen=True)
class Blob:
    """A file of a commit: its content, and whether it is stored as a large file."""

    content: bytes
    lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def pointer(self) -> bytes:
        """What git holds of a large file."""
        return (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.content)}\n".encode()
        )

    @property
    def git_oid(self) -> str:
        """The hash that `git hash-object` gives."""
        content = self.pointer if self.lfs else self.content
        return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.git_oid


@dataclass
class Repository:
    """Commits, oldest first, and the names of some."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    parents: dict[str, str | None] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, Blob], branch: str = "main") -> str:
        parent = self.refs.get(branch)
        listing = json.dumps([parent, len(self.commits), sorted((path, blob.git_oid) for path, blob in files.items())])
        oid = hashlib.sha1(listing.encode()).hexdigest()
        self.commits[oid], self.parents[oid], self.refs[branch] = files, parent, oid
        return oid

    def resolve(self, revision: str) -> str:
        oid = self.refs.get(revision, revision)
        if oid not in self.commits:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return oid


@dataclass
class Fault:
    """What goes wrong with the content of files whose path matches.

    Kinds: `status` (answers with `value`), `truncate` (announces the full length, sends `value` bytes and breaks off),
    `short` (announces and sends half of it), `flip` (one wrong byte, right size), `no-range` (sends everything when
    asked for a part), `slow` (`value` seconds between chunks of 64 KiB), `no-commit` (omits the Hub's own header).
    """

    kind: str
    path: str = "*"
    value: float = 0
    times: float = float("inf")

    def spent(self) -> bool:
        self.times -= 1
        return self.times < 0


class Hub:
    """The state of both servers, and their addresses once `running`."""

    tokens: ClassVar[dict[str, set[str]]] = {"hf_writer": {"org"}, "hf_reader": set()}  # may write to organisations

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.moved: dict[str, str] = {}
        self.store: dict[str, bytes] = {}
        self.signed: dict[str, tuple[str, int]] = {}  # signature: hash and size of the upload it allows
        self.faults: list[Fault] = []
        self.down = False
        self.race: Any = None  # called once, right before a commit is made
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.lock = threading.RLock()
        self.url = self.store_url = ""

    def add(self, name: str, files: dict[str, bytes], **options: Any) -> str:
        """A repository with one commit of `files`; returns the commit."""
        repository = self.repositories.setdefault(name, Repository(**options))
        blobs = {path: Blob(content, path.endswith(_LFS_SUFFIXES)) for path, content in files.items()}
        self.store.update({blob.sha256: blob.content for blob in blobs.values() if blob.lfs})
        return repository.commit(blobs)

    def fault(self, path: str, *kinds: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.kind in kinds and fnmatch(path, fault.path) and not fault.spent():
                    return fault
        return None

    def sent(self, pattern: str) -> list[str]:
        """Requests so far, as `METHOD /path`, that match a regular expression."""
        return [request for request in self.requests if re.search(pattern, request)]

    @contextlib.contextmanager
    def running(self) -> Iterator[Hub]:
        servers = []
        # Two host names of this machine, since a client decides by the host whether it may send its token.
        for handler, host in ((_HubHandler, "127.0.0.1"), (_StoreHandler, "127.0.0.2")):
            server = ThreadingHTTPServer((host, 0), type(handler.__name__, (handler,), {"hub": self}))
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            servers.append(server)
        self.url, self.store_url = ("http://{}:{}".format(*server.server_address) for server in servers)
        try:
            yield self
        finally:
            for server in servers:
                server.shutdown()
                server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # the client was killed
            super().handle()

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        self.url_path, self.query = parts.path, {key: values[0] for key, values in parse_qs(parts.query).items()}
        self.body_read = False
        with self.hub.lock:
            self.hub.requests.append(f"{self.command} {self.path}")
        try:
            self.route()
        except Refused as refused:
            if not self.body_read:
                self.close_connection = True
            headers = {"X-Error-Message": refused.message, **refused.more.pop("headers", {})}
            if refused.code:
                headers["X-Error-Code"] = refused.code
            self.send_json({"error": refused.message, **refused.more}, refused.status, headers)

    def route(self) -> None:
        raise NotImplementedError

    def wrong(self, message: str, status: int = 400) -> Refused:
        """An error that a correct client never causes."""
        self.hub.complaints.append(f"{self.command} {self.path}: {message}")
        return Refused(status, message)

    def body(self) -> bytes:
        self.body_read = True
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            content = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content
        if "Content-Length" not in self.headers:
            raise self.wrong("neither Content-Length nor chunks", 411)
        return self.rfile.read(int(self.headers["Content-Length"]))

    def json_body(self, required: dict[str, type | tuple[type, ...]], optional: tuple[str, ...] = ()) -> dict[str, Any]:
        try:
            value = json.loads(self.body())
        except ValueError:
            raise self.wrong("the body is not JSON") from None
        if not isinstance(value, dict):
            raise self.wrong("the body is not an object")
        for key, kind in required.items():
            if not isinstance(value.get(key), kind):
                raise self.wrong(f"{key} is missing or of another type: {value.get(key)!r}")
        if surplus := set(value) - set(required) - set(optional):
            raise self.wrong(f"unknown keys {sorted(surplus)}")
        return value

    def send_json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_content(json.dumps(value).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def send_content(self, content: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def send_file(self, path: str, content: bytes, headers: dict[str, str]) -> None:
        """Sends a file or the part that `Range` asks for, with whatever fault concerns it."""
        if fault := self.hub.fault(path, "flip"):
            middle = len(content) // 2
            content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        if fault := self.hub.fault(path, "short"):
            content = content[: len(content) // 2]
        status, total = 200, len(content)
        if (wanted := self.headers.get("Range")) and not self.hub.fault(path, "no-range"):
            match = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)
            if not match:
                raise self.wrong(f"range {wanted}")
            start, stop = int(match[1]), int(match[2] or total - 1)
            if start >= total:
                raise Refused(416, "out of range", headers={"Content-Range": f"bytes */{total}"})
            content, status = content[start : stop + 1], 206
            headers = {**headers, "Content-Range": f"bytes {start}-{start + len(content) - 1}/{total}"}
        self.send_response(status)
        for key, value in {**headers, "Accept-Ranges": "bytes", "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        slow = self.hub.fault(path, "slow")
        if len(content) > 1 and (fault := self.hub.fault(path, "truncate")):
            self.wfile.write(content[: int(fault.value)])
            self.close_connection = True
            return
        for start in range(0, len(content), 65536):
            self.wfile.write(content[start : start + 65536])
            if slow:
                time.sleep(slow.value)


class _StoreHandler(_Handler):
    """Large files under signed addresses."""

    def route(self) -> None:
        if "Authorization" in self.headers:
            raise self.wrong("a token was sent to the store")
        match = re.fullmatch(r"/(upload|download)/([0-9a-f]{64})", self.url_path)
        signature = self.query.get("signature", "")
        if not match or self.hub.signed.get(signature, ("", 0))[0] != match[2]:
            raise self.wrong("not a signed address", 403)
        kind, oid = match.groups()
        if kind == "upload" and self.command == "PUT":
            content = self.body()
            if hashlib.sha256(content).hexdigest() != oid or len(content) != self.hub.signed[signature][1]:
                raise self.wrong("the content is not what was announced")
            self.hub.store[oid] = content
            self.send_content(b"", 200, {"ETag": f'"{oid}"'})
        elif kind == "download" and self.command in ("GET", "HEAD"):
            path = self.query["path"]
            if fault := self.hub.fault(path, "status"):
                raise Refused(int(fault.value), "fault")
            self.send_file(path, self.hub.store[oid], {"ETag": f'"{oid}"', "Content-Type": "application/octet-stream"})
        else:
            raise self.wrong("no such operation", 405)


class _HubHandler(_Handler):
    """The Hub itself."""

    def route(self) -> None:
        if self.hub.down:
            raise Refused(503, "down for maintenance")
        self.writes: set[str] | None = None  # None: no token
        if authorization := self.headers.get("Authorization"):
            if authorization.removeprefix("Bearer ") not in self.hub.tokens:
                raise Refused(401, "Invalid credentials in Authorization header")
            self.writes = self.hub.tokens[authorization.removeprefix("Bearer ")]
        path = self.url_path
        for old, new in self.hub.moved.items():
            if f"/{old}" in path:
                self.send_content(b"", 307, {"Location": self.path.replace(f"/{old}", f"/{new}")})
                return
        name = r"(?P<name>[\w.-]+/[\w.-]+)"
        for method, pattern, handler in (
            ("POST", r"/api/repos/create", self.create),
            ("POST", r"/api/validate-yaml", self.validate_yaml),
            ("GET", rf"/api/models/{name}(?:/revision/(?P<revision>[^/]+))?", self.describe),
            ("GET", rf"/api/models/{name}/tree/(?P<revision>[^/]+)", self.tree),
            ("POST", rf"/api/models/{name}/preupload/(?P<revision>[^/]+)", self.preupload),
            ("POST", rf"/api/models/{name}/commit/(?P<revision>[^/]+)", self.commit),
            ("POST", rf"/{name}\.git/info/lfs/objects/batch", self.batch),
            ("POST", rf"/{name}\.git/info/lfs/objects/verify", self.verify),
            ("GET", rf"/{name}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", self.resolve),
            ("GET", rf"/api/resolve-cache/models/{name}/(?P<revision>[0-9a-f]{{40}})/(?P<path>.+)", self.cached),
        ):
            match = re.fullmatch(pattern, path)
            if match and method == ("GET" if self.command == "HEAD" else self.command):
                arguments = match.groupdict()
                if arguments.get("revision"):
                    arguments["revision"] = unquote(arguments["revision"])
                handler(**arguments)
                return
        if path == "/api/agent-harnesses":  # the client asks for this list once a day and can do without
            raise Refused(404, "not part of this server")
        raise self.wrong("no such address", 404)

    def repository(self, name: str, write: bool = False, content: bool = False) -> Repository:
        """A repository that the token may read, or write."""
        found = self.hub.repositories.get(name)
        if found is None or (found.private and self.writes is None):
            # The Hub does not say whether a repository is absent or private.
            raise Refused(404 if self.writes is not None else 401, "Repository not found", "RepoNotFound")
        if write and self.writes is None:
            raise Refused(401, "Invalid username or password.")
        if write and name.split("/")[0] not in (self.writes or set()):
            raise Refused(403, "You don't have the rights to write to this repository")
        if content and found.gated and name.split("/")[0] not in (self.writes or set()):
            raise Refused(401 if self.writes is None else 403, "Access to this model is restricted", "GatedRepo")
        return found

    def create(self) -> None:
        value = self.json_body({"name": str}, ("organization", "type", "private", "visibility"))
        if self.writes is None:
            raise Refused(401, "Invalid username or password.")
        if value.get("organization") not in self.writes:
            raise Refused(403, "You don't have the rights to create a model under this namespace")
        if value.get("type", "model") != "model" or not re.fullmatch(r"[\w.-]{1,96}", value["name"]):
            raise self.wrong("not a model, or a wrong name")
        name = f"{value['organization']}/{value['name']}"
        url = f"{self.hub.url}/{name}"
        with self.hub.lock:
            if name in self.hub.repositories:
                raise Refused(409, "You already created this model repo", url=url)
            private = value.get("private") is True or value.get("visibility") == "private"
            attributes = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in _LFS_SUFFIXES)
            self.hub.add(name, {".gitattributes": attributes.encode()}, private=private)
        self.send_json({"url": url, "name": name, "id": secrets.token_hex(12)})

    def validate_yaml(self) -> None:
        value = self.json_body({"content": str, "repoType": str})
        errors, warnings = [], []
        match = re.match(r"---\r?\n(.*?)\r?\n---\r?\n", value["content"], re.DOTALL)
        if match is None:
            warnings.append("empty or missing yaml metadata in repo card")
        try:
            header = yaml.safe_load(match[1]) if match else {}
        except yaml.YAMLError as error:
            header, _ = {}, errors.append(str(error))
        if not isinstance(header, dict):
            header, _ = {}, errors.append("the metadata is not a mapping")
        if header and header.get("license") not in _LICENCES:
            errors.append('"license" must be one of the known licences')
        if header.get("license") == "other" and not isinstance(header.get("license_name"), str):
            warnings.append('"license_name" is missing')
        if not isinstance(header.get("tags", []), list) or not isinstance(header.get("model-index", []), list):
            errors.append('"tags" and "model-index" must be arrays')
        problems = {"errors": [{"message": text} for text in errors], "warnings": [{"message": w} for w in warnings]}
        self.send_json(problems, 400 if errors else 200)

    def describe(self, name: str, revision: str | None) -> None:
        repository = self.repository(name)
        oid = repository.resolve(revision or "main")
        siblings = []
        for path, blob in sorted(repository.commits[oid].items()):
            sibling: dict[str, Any] = {"rfilename": path}
            if "blobs" in self.query:
                sibling |= {"blobId": blob.git_oid, "size": len(blob.content)}
                if blob.lfs:
                    size = len(blob.content)
                    sibling["lfs"] = {"sha256": blob.sha256, "size": size, "pointerSize": len(blob.pointer)}
            siblings.append(sibling)
        about = {"_id": "0" * 24, "id": name, "modelId": name, "private": repository.private, "disabled": False}
        self.send_json({**about, "gated": "auto" if repository.gated else False, "sha": oid, "siblings": siblings})

    def tree(self, name: str, revision: str) -> None:
        repository = self.repository(name)
        entries: list[dict[str, Any]] = []
        for path, blob in sorted(repository.commits[repository.resolve(revision)].items()):
            entry: dict[str, Any] = {"type": "file", "oid": blob.git_oid, "size": len(blob.content), "path": path}
            if blob.lfs:
                entry["lfs"] = {"oid": blob.sha256, "size": len(blob.content), "pointerSize": len(blob.pointer)}
            entries.append(entry)
        folders = {path.rpartition("/")[0] for path in (entry["path"] for entry in entries) if "/" in path}
        entries += [{"type": "directory", "oid": "0" * 40, "size": 0, "path": folder} for folder in sorted(folders)]
        self.send_json(entries)

    def preupload(self, name: str, revision: str) -> None:
        value = self.json_body({"files": list}, ("gitIgnore", "gitAttributes"))
        repository = self.repository(name, write=True)
        present = repository.commits[repository.resolve(revision)]
        answers = []
        for file in value["files"]:
            if set(file) != {"path", "sample", "size"} or type(file["size"]) is not int:
                raise self.wrong(f"file {file}")
            if len(base64.b64decode(file["sample"], validate=True)) != min(512, file["size"]):
                raise self.wrong("the sample is not the first 512 bytes")
            lfs = file["path"].endswith(_LFS_SUFFIXES) or file["size"] > _REGULAR_LIMIT
            answer = {"path": file["path"], "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False}
            if file["path"] in present:
                answer["oid"] = present[file["path"]].etag
            answers.append(answer)
        self.send_json({"files": answers})

    def batch(self, name: str) -> None:
        for header in ("Accept", "Content-Type"):
            if not self.headers.get(header, "").startswith(_LFS_TYPE):
                raise self.wrong(f"{header} is {self.headers.get(header)}", 415)
        value = self.json_body({"operation": str, "transfers": list, "objects": list}, ("hash_algo", "ref"))
        if value["operation"] != "upload" or value.get("hash_algo", "sha256") != "sha256":
            raise self.wrong("only uploads, by SHA-256")
        if "basic" not in value["transfers"]:
            raise self.wrong("the transfer basic is not offered", 422)
        self.repository(name, write=True)
        objects = []
        for wanted in value["objects"]:
            if not re.fullmatch("[0-9a-f]{64}", wanted.get("oid", "")) or type(wanted.get("size")) is not int:
                raise self.wrong(f"object {wanted}", 422)
            answer = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.hub.store:
                upload = f"{self.hub.store_url}/upload/{wanted['oid']}?signature={self.sign(**answer)}"
                verify = f"{self.hub.url}/{name}.git/info/lfs/objects/verify"
                answer |= {"authenticated": True, "actions": {"upload": {"href": upload}, "verify": {"href": verify}}}
            objects.append(answer)
        self.send_json({"transfer": "basic", "objects": objects}, 200, {"Content-Type": _LFS_TYPE})

    def sign(self, oid: str, size: int) -> str:
        signature = secrets.token_hex(8)
        self.hub.signed[signature] = (oid, size)
        return signature

    def verify(self, name: str) -> None:
        value = self.json_body({"oid": str, "size": int})
        self.repository(name, write=True)
        if len(self.hub.store.get(value["oid"], b"")) != value["size"]:
            raise self.wrong("this object was not uploaded", 404)
        self.send_json({})

    def commit(self, name: str, revision: str) -> None:
        if self.headers.get("Content-Type") != "application/x-ndjson":
            raise self.wrong(f"Content-Type is {self.headers.get('Content-Type')}", 415)
        lines = [json.loads(line) for line in self.body().splitlines()]
        repository = self.repository(name, write=True)
        if not lines or lines[0]["key"] != "header" or not lines[0]["value"].get("summary"):
            raise self.wrong("the first line must be a header with a summary")
        if len(lines) == 1:
            raise self.wrong("an empty commit")
        if self.hub.race is not None:
            race, self.hub.race = self.hub.race, None
            race()
        with self.hub.lock:
            if revision not in repository.refs:
                raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
            head = repository.refs[revision]
            if lines[0]["value"].get("parentCommit", head) != head:
                raise Refused(412, "A commit has happened since. Please refresh and try again.")
            files = dict(repository.commits[head])
            for line in lines[1:]:
                self.apply(files, line["key"], line["value"])
            oid = repository.commit(files, revision)
        url = f"{self.hub.url}/{name}/commit/{oid}"
        self.send_json({"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})

    def apply(self, files: dict[str, Blob], key: str, value: dict[str, Any]) -> None:
        """One line of a commit."""
        path = value["path"]
        if not path or path.startswith("/") or {"", ".", "..", ".git"} & set(path.split("/")):
            raise self.wrong(f"path {path}")
        if key == "file" and value.get("encoding") == "base64":
            content = base64.b64decode(value["content"], validate=True)
            if len(content) > _REGULAR_LIMIT:
                raise self.wrong(f"{path} is too large for git")
            files[path] = Blob(content, lfs=False)
        elif key == "lfsFile" and value.get("algo") == "sha256":
            content = self.hub.store.get(value["oid"], b"")
            if value["oid"] not in self.hub.store or len(content) != value["size"]:
                raise self.wrong(f"{path}: the store has no such object")
            files[path] = Blob(content, lfs=True)
        elif key == "deletedFile":
            if path not in files:
                raise self.wrong(f"{path}: A file with this name doesn't exist", 404)
            del files[path]
        else:
            raise self.wrong(f"operation {key}")

    def resolve(self, name: str, revision: str, path: str) -> None:
        repository = self.repository(name, content=True)
        oid, path = repository.resolve(revision), unquote(path)
        commit = {} if self.hub.fault(path, "no-commit") else {"X-Repo-Commit": oid}
        if path not in repository.commits[oid]:
            raise Refused(404, "Entry not found", "EntryNotFound", headers=commit)
        blob = repository.commits[oid][path]
        about = {**commit, "X-Linked-Size": str(len(blob.content)), "X-Linked-Etag": f'"{blob.etag}"'}
        if blob.lfs:
            signature = self.sign(blob.sha256, len(blob.content))
            location = f"{self.hub.store_url}/download/{blob.sha256}?signature={signature}&path={quote(path)}"
            self.send_content(b"", 302, {**about, "Location": location})
        else:
            location = f"/api/resolve-cache/models/{name}/{oid}/{quote(path)}"
            self.send_content(b"", 307, {**about, "Location": location})

    def cached(self, name: str, revision: str, path: str) -> None:
        repository = self.repository(name, content=True)
        path = unquote(path)
        if fault := self.hub.fault(path, "status"):
            raise Refused(int(fault.value), "fault")
        blob = repository.commits[repository.resolve(revision)][path]
        commit = {} if self.hub.fault(path, "no-commit") else {"X-Repo-Commit": revision}
        self.send_file(path, blob.content, {**commit, "ETag": f'"{blob.etag}"', "Content-Type": "text/plain"})
