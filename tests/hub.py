"""A stand-in for the Hugging Face Hub: one server with repositories and jobs, as far as the lab uses them."""

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
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from lab.places import ROOT
from lab.processes import end


class Hub(ThreadingHTTPServer):
    """Keeps files and jobs in memory; a job is a real process with the environment that it was given."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.commits: list[dict[str, Any]] = []
        self.jobs: dict[str, dict[str, Any]] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.private = True
        self.runs_jobs = True
        self.tokens: set[str] = set()

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
            case ["datasets", _, _, "resolve", _, *path] if "/".join(path) in self.server.files:
                content = self.server.files["/".join(path)]
                self.answer(content, ETag=f'"{oid(content)}"', X_Repo_Commit=self.server.head)
            case _:
                self.answer({"error": "not found"}, 404, X_Error_Code="EntryNotFound")

    def entries(self, folder: str) -> Iterator[dict[str, Any]]:
        for path, content in self.server.files.items():
            if path.startswith(f"{folder}/"):
                yield {"type": "file", "path": path, "oid": oid(content), "size": len(content)}

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        match self.parts():
            case ["api", "repos", "create"]:
                self.answer({"url": f"{self.server.address}/datasets/me/lab-runs"})
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
                self.commit([json.loads(line) for line in body.splitlines()])
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

    def commit(self, lines: list[dict[str, Any]]) -> None:
        files = self.server.files
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
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
