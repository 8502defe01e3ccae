"""Machines of Hugging Face, through HF Jobs and a private repository."""

from __future__ import annotations

import json
import os
import shutil
from typing import Any, ClassVar

from filelock import FileLock
from pydantic import Field

from lab.errors import Unavailable
from lab.launch.base import Launcher, answer
from lab.launch.parcel import CHECKPOINT, SMALL, Parcel, hub, token
from lab.models import as_json, roots
from lab.pictures import write_atomically
from lab.places import beside
from lab.recipe import Recipe
from lab.store import ACTIVE, State, Store, Stored

PLACE = "Hugging Face"
WORKING = ("SCHEDULING", "RUNNING")


class HfJobs(Launcher):
    """A paid job at Hugging Face; the recipe goes there and the results come back through a private repository."""

    kind = "hf_jobs"
    slow: ClassVar[float] = 30.0
    flavor: str = Field(default="cpu-basic", pattern=r"^[a-z0-9-]{1,40}$", description="kind of machine")
    hours: int = Field(default=1, ge=1, le=72, description="after which the job is ended, whatever it does")
    processes: int = Field(
        default=1, ge=1, le=8, description="processes that train together, one for each GPU"
    )

    def start(self, run: Stored) -> dict[str, Any]:
        """Send the recipe and start a job of the operator's image, which fetches it."""
        return answer(PLACE, lambda: self._started(run, Parcel(run.id)))

    def _started(self, run: Stored, parcel: Parcel) -> dict[str, Any]:
        image = os.environ.get("LAB_HF_IMAGE")
        if not image:
            raise Unavailable(
                "The launcher 'hf_jobs' needs an image with the lab in it: whoever runs the lab sets LAB_HF_IMAGE."
            )
        secret = token()
        parcel.make_sure()
        parcel.send(_outward(run), ["cancel"] if parcel.has("cancel") else [])
        job = hub().run_job(
            image=image,
            command=["python", "-m", "lab.launch.away", run.id],
            env={
                "PYTHONPATH": os.environ.get("LAB_HF_FOLDER", "/app"),
                "LAB_HF_REPO": parcel.repo,
                **_endpoint(),
            },
            secrets={"HF_TOKEN": secret},
            flavor=self.flavor,
            timeout=f"{self.hours}h",
            labels={"lab-run": run.id},
            namespace=_namespace(parcel),
        )
        (run.folder / "fetched.json").unlink(missing_ok=True)
        return {"job": job.id}

    def is_alive(self, run: Stored, handle: dict[str, Any]) -> bool:
        """Whether the job waits or works; what it has sent since the last look is fetched."""
        return answer(PLACE, lambda: _looked(run, handle, Parcel(run.id)))

    def stop(self, run: Stored, handle: dict[str, Any]) -> None:
        """Cancel the job."""
        answer(PLACE, lambda: hub().cancel_job(job_id=handle["job"], namespace=_namespace(Parcel(run.id))))


def _namespace(parcel: Parcel) -> str:
    return parcel.repo.split("/")[0]


def _endpoint() -> dict[str, str]:
    endpoint = os.environ.get("HF_ENDPOINT")
    return {"HF_ENDPOINT": endpoint} if endpoint else {}


def _outward(run: Stored) -> dict[str, bytes]:
    """What the job must know; whose run it is stays here."""
    about = {name: value for name, value in run.about.model_dump(mode="json").items() if name != "owner"}
    content = {"recipe": run.recipe, "about": about, "state": run.state.model_dump(mode="json")}
    files = {f"{name}.json": as_json(value) for name, value in content.items()}
    if run.exam.questions:
        files["exam.json"] = (run.folder / "exam.json").read_bytes()
    return files


def _looked(run: Stored, handle: dict[str, Any], parcel: Parcel) -> bool:
    stage = _stage(handle["job"], _namespace(parcel))
    if run.is_asked_to_stop and not handle.get("told"):
        parcel.send({"cancel": b"asked\n"})
        run.keep_handle({**handle, "told": True})
    with FileLock(beside(run.folder) / "fetch.lock").acquire(timeout=0):  # a large file may outlast one look
        _fetch(run, parcel)  # after the question: what a job sent before its end is seen at its end
    return stage in WORKING


def _stage(job: str, namespace: str) -> str:
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return str(hub().inspect_job(job_id=job, namespace=namespace).status.stage)
    except HfHubHTTPError as error:
        if error.response is not None and error.response.status_code == 404:
            return "DELETED"
        raise


def _fetch(run: Stored, parcel: Parcel) -> None:
    """Bring over what changed, then believe what the job says of itself."""
    near, known = run.folder / "away", run.folder / "fetched.json"
    before = json.loads(known.read_bytes()) if known.exists() else {}
    found = parcel.fetch(near, rf"({SMALL})|{CHECKPOINT}", before)
    for path in sorted(near.rglob("*")) if near.exists() else ():
        name = str(path.relative_to(near))
        if path.is_file() and name not in ("recipe.json", "about.json", "state.json", "exam.json"):
            (run.folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, run.folder / name)
    _believe(run, _said(near / "state.json"))
    write_atomically(known, as_json(found))


def _said(path: Any) -> State:
    try:
        return State(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):  # nothing new
        return State()


def _believe(run: Stored, said: State) -> None:
    """Take over how far a run is; one that has ended here meanwhile stays so."""
    if run.state.condition not in ACTIVE or said.condition == "queued":
        return
    if said.condition == "done":
        run.become("done", checkpoint=_put_away(run))
    elif said.condition != run.state.condition:
        if said.condition == "stopped":
            run.ask_to_stop(False)
        run.become(said.condition, error=said.error)
    (run.folder / "away" / "state.json").unlink()


def _put_away(run: Stored) -> str:
    """Put the fetched checkpoint among one's own, but for that of a study's cell; returns its name."""
    if run.about.study:
        return run.id
    name = Store(run.folder.parent).name(run, Recipe.of(**run.recipe))
    final = roots()[1] / name
    if not final.exists():
        final.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(run.folder / "checkpoint", final)
    return name
