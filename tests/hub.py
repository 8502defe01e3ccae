"""A stand-in for the Hugging Face Hub: one server with models, a dataset repository and jobs, as far as the lab uses them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from lab.places import ROOT
from lab.processes import end


@dataclass
class Model:
    """A model's repository, and what goes wrong with it."""

    files: dict[str, bytes]
    tags: list[str] = field(default_factory=lambda: ["diffusers", "diffusers:DDPMPipeline"])
    downloads: int = 7
    licence: str = "apache-2.0"
    sha: str = "a" * 40
    gated: bool | str = False
    private: bool = False
    breaks: list[int] = field(default_factory=list)  # after so many bytes a download's connection ends
    spoilt: set[str] = field(default_factory=set)  # files that are not what the listing says
    fault: tuple[int, str] | None = None  # status and error code of every answer
    ranges: list[str] = field(default_factory=list)  # that downloads asked for
    served: list[str] = field(default_factory=list)

    def info(self, name: str) -> dict[str, Any]:
        about = {"tags": self.tags, "downloads": self.downloads, "cardData": {"license": self.licence}}
        closed = {"gated": "manual" if self.gated is True else self.gated, "private": self.private}
        files = [_sibling(path, content) for path, content in self.files.items()]
        return {"id": name, "modelId": name, "sha": self.sha, **about, **closed, "siblings": files}


def _sibling(path: str, content: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    large = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "pointerSize": 134}
    is_large = path.endswith((".safetensors", ".bin"))
    return {"rfilename": path, "size": len(content), "blobId": blob, **({"lfs": large} if is_large else {})}


class Hub(ThreadingHTTPServer):
    """Keeps files and jobs in memory; a job is a real process with the environment that it was given."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.models: dict[str, Model] = {}
        self.fault: tuple[int, str] | None = None
        self.commits: list[dict[str, Any]] = []
        self.jobs: dict[str, dict[str, Any]] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.private = True
        self.runs_jobs = True
        self.tokens: set[str] = set()
        self.large: dict[str, bytes] = {}  # uploads that wait for their commit, by sha256
        self.refuses: dict[
            str, tuple[int, str]
        ] = {}  # status and error code for what is written, by its verb
        self.deeds: list[tuple[str, str, Any]] = []  # what was done to models: verb, name, and how

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def head(self) -> str:
        return hashlib.sha1(str(len(self.commits)).encode()).hexdigest()

    def start_job(self, spec: dict[str, Any]) -> dict[str, Any]:
        job = f"job{len(self.jobs) + 1}"
        self.jobs[job] = spec
        if self.runs_jobs:
            env = {**os.environ, **spec["environment"], **spec["secrets"], "HF_HUB_OFFLINE": "0"}
            env |= {"PYTHONPATH": str(ROOT), "LAB_HOME": "", "LAB_HF_EVERY": "1"}
            command = [sys.executable, *spec["command"][1:]]
            self.processes[job] = subprocess.Popen(command, env=env, cwd="/", stdin=subprocess.DEVNULL)
        return self.info(job)

    def info(self, job: str) -> dict[str, Any]:
        process = self.processes.get(job)
        stage = self.jobs[job].get("stage") or "RUNNING"
        if process and process.poll() is not None:
            stage = "ERROR" if process.returncode else "COMPLETED"
        owner = {"id": "1", "name": "me", "type": "user"}
        return {"id": job, "status": {"stage": stage, "message": None}, "owner": owner}


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def answer(self, content: Any, status: int = 200, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def parts(self) -> list[str]:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts[1:2] != ["agent-harnesses"]:  # which the client asks for itself, and everybody may
            self.server.tokens.add(self.headers.get("Authorization", "").removeprefix("Bearer "))
        return parts

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        match self.parts():
            case ["api", "jobs", _, job] if job in self.server.jobs:
                self.answer(self.server.info(job))
            case ["api", "datasets", owner, name] | ["api", "datasets", owner, name, "revision", _]:
                head, private = self.server.head, self.server.private
                self.answer({"id": f"{owner}/{name}", "sha": head, "private": private, "siblings": []})
            case ["api", "datasets", _, _, "tree", _, *folder]:
                self.answer(list(self.entries("/".join(folder))))
            case ["api", "models"]:
                self.found()
            case ["api", "models", owner, name]:
                self.about(f"{owner}/{name}", "main")
            case ["api", "models", owner, name, "revision", revision]:
                self.about(f"{owner}/{name}", revision)
            case [owner, name, "resolve", revision, *path] if f"{owner}/{name}" in self.server.models:
                self.file(self.server.models[f"{owner}/{name}"], revision, "/".join(path))
            case ["datasets", _, _, "resolve", _, *path] if "/".join(path) in self.server.files:
                content = self.server.files["/".join(path)]
                self.answer(content, ETag=f'"{oid(content)}"', X_Repo_Commit=self.server.head)
            case _:
                self.answer({"error": "not found"}, 404, X_Error_Code="EntryNotFound")

    def found(self) -> None:
        """Models with all the words in their names."""
        words = parse_qs(urlsplit(self.path).query).get("search", [""])[0].lower().split()
        if self.server.fault:
            return self.refuse(*self.server.fault)
        models = [each.info(name) for name, each in self.server.models.items() if not each.private]
        self.answer([each for each in models if all(word in each["id"].lower() for word in words)])

    def about(self, name: str, revision: str) -> None:
        model = self.server.models.get(name)
        if model is None:
            return self.refuse(401, "RepoNotFound")
        if model.fault:
            return self.refuse(*model.fault)
        if revision not in ("main", model.sha):
            return self.refuse(404, "RevisionNotFound")
        self.answer(model.info(name))

    def file(self, model: Model, revision: str, path: str) -> None:
        """A file, from a byte on where that is asked for; the connection may end in the middle."""
        if path not in model.files or revision not in ("main", model.sha):
            return self.refuse(404, "EntryNotFound")
        if model.fault:
            return self.refuse(*model.fault)
        content = model.files[path]
        content = content[:-1] + b"?" if path in model.spoilt else content
        asked = self.headers.get("Range", "")
        first = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        model.served.append(path)
        model.ranges += [asked] if asked else []
        end = model.breaks.pop(0) if model.breaks and path.endswith(".safetensors") else len(content)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(content) - first))
        self.send_header("ETag", f'"{oid(content)}"')
        self.send_header("X-Repo-Commit", model.sha)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[first : first + end])
        self.close_connection = True

    def refuse(self, status: int, code: str) -> None:
        self.answer({"error": "refused"}, status, X_Error_Code=code)

    def entries(self, folder: str) -> Iterator[dict[str, Any]]:
        for path, content in self.server.files.items():
            if path.startswith(f"{folder}/"):
                yield {"type": "file", "path": path, "oid": oid(content), "size": len(content)}

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        match self.parts():
            case ["api", "repos", "create"] if json.loads(body).get("type") != "dataset":
                self.create(json.loads(body))
            case ["api", "repos", "create"]:
                self.answer({"url": f"{self.server.address}/datasets/me/lab-runs"})
            case ["api", "validate-yaml"]:
                self.answer({"warnings": [], "errors": []})
            case ["api", "models", _, _, "preupload", _]:
                modes = {True: "lfs", False: "regular"}
                files = [
                    {"path": path, "uploadMode": modes[path.endswith(".safetensors")], "shouldIgnore": False}
                    for path in (each["path"] for each in json.loads(body)["files"])
                ]
                self.answer({"files": files})
            case [owner, name, "info", "lfs", "objects", "batch"] if name.endswith(".git"):
                self.room(json.loads(body)["objects"])
            case ["api", "models", owner, name, "commit", _]:
                self.commit_model(f"{owner}/{name}", [json.loads(line) for line in body.splitlines()])
            case ["api", "datasets", _, _, "preupload", _]:
                files = json.loads(body)["files"]
                self.answer(
                    {
                        "files": [
                            {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files
                        ]
                    }
                )
            case ["api", "datasets", _, _, "commit", _]:
                self.commit(self.server.files, [json.loads(line) for line in body.splitlines()])
                url = f"{self.server.address}/datasets/me/lab-runs/commit/{self.server.head}"
                self.answer(
                    {"success": True, "commitOid": self.server.head, "commitUrl": url, "hookOutput": ""}
                )
            case ["api", "jobs", _]:
                self.answer(self.server.start_job(json.loads(body)))
            case ["api", "jobs", _, job, "cancel"]:
                self.server.jobs[job]["stage"] = "CANCELED"
                if process := self.server.processes.get(job):
                    end(process.pid)
                self.answer({})
            case _:
                self.answer({"error": "not found"}, 404)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        match self.parts():
            case ["large", oid]:
                assert hashlib.sha256(body).hexdigest() == oid
                self.server.large[oid] = body
                self.answer({})
            case ["api", "models", owner, name, "settings"]:
                self.settings(f"{owner}/{name}", json.loads(body))
            case _:
                self.answer({"error": "not found"}, 404)

    def refused(self, verb: str) -> bool:
        """Whether this kind of writing is refused; it was answered then."""
        if verb in self.server.refuses:
            self.refuse(*self.server.refuses[verb])
        return verb in self.server.refuses

    def create(self, wish: dict[str, Any]) -> None:
        """A model's repository, as private as is asked for; one that is there stays."""
        if self.refused("create"):
            return
        name = f"{wish['organization']}/{wish['name']}"
        url = f"{self.server.address}/{name}"
        if name in self.server.models:
            return self.answer({"url": url, "error": "You already created this model repo"}, 409)
        private = wish.get("visibility") == "private"
        self.server.models[name] = Model({}, private=private)
        self.server.deeds.append(("create", name, {"private": private}))
        self.answer({"url": url})

    def settings(self, name: str, wish: dict[str, Any]) -> None:
        if self.refused("settings"):
            return
        model = self.server.models[name]
        model.gated = wish.get("gated", model.gated)
        model.private = wish["visibility"] == "private" if "visibility" in wish else model.private
        self.server.deeds.append(("settings", name, wish))
        self.answer({})

    def room(self, objects: list[dict[str, Any]]) -> None:
        """Where each large file is uploaded to."""
        if self.refused("large"):
            return
        place = f"{self.server.address}/large"
        found = [{**each, "actions": {"upload": {"href": f"{place}/{each['oid']}"}}} for each in objects]
        self.answer({"transfer": "basic", "objects": found})

    def commit_model(self, name: str, lines: list[dict[str, Any]]) -> None:
        if self.refused("commit"):
            return
        model = self.server.models[name]
        self.commit(model.files, lines)
        how = {"private": model.private, "gated": model.gated}
        model.sha = self.server.head
        self.server.deeds.append(("commit", name, how))
        url = f"{self.server.address}/{name}/commit/{model.sha}"
        self.answer({"success": True, "commitOid": model.sha, "commitUrl": url, "hookOutput": ""})

    def commit(self, files: dict[str, bytes], lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.large.pop(value["oid"])
            elif line["key"] == "deletedFile":
                del files[value["path"]]
            elif line["key"] == "deletedFolder":
                for path in [path for path in files if path.startswith(value["path"].rstrip("/") + "/")]:
                    del files[path]
        self.server.commits.append({line["value"].get("path", ""): line["key"] for line in lines})


def oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@contextmanager
def stand_in() -> Iterator[Hub]:
    """The server, answering; with it end the jobs that it started."""
    hub = Hub()
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        for process in hub.processes.values():
            end(process.pid)
            process.wait()
        hub.shutdown()
        hub.server_close()
