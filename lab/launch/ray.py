"""Machines of a Ray cluster, through Ray Jobs."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import Field

from lab.errors import Unavailable
from lab.launch.base import Launcher, answer, script
from lab.store import Stored

T = TypeVar("T")
# Ray's own variables, in the order in which it reads them
ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
WORKING = ("PENDING", "RUNNING")


class Ray(Launcher):
    """A job of the Ray cluster that RAY_ADDRESS names; its machines see the lab, its Python and LAB_HOME where this one does."""

    kind = "ray"
    cpus: int = Field(default=1, ge=1, le=1024, description="cores that the cluster keeps for it")
    gpus: int = Field(
        default=0, ge=0, le=64, description="GPUs of one machine, each with a process of its own"
    )

    def start(self, run: Stored) -> dict[str, Any]:
        """Submit it; the cluster chooses the machine, or lets it wait."""
        job = f"{run.id}-{secrets.token_hex(4)}"
        submit = {
            "entrypoint": script(run, max(1, self.gpus)),
            "submission_id": job,
            "entrypoint_num_cpus": self.cpus,
            "entrypoint_num_gpus": self.gpus,
        }
        _asked(lambda client: client.submit_job(**submit))
        return {"job": job}

    def is_alive(self, run: Stored, handle: dict[str, Any]) -> bool:
        """Whether the cluster knows it as waiting or working; a cluster that was started anew knows nothing."""
        return _asked(lambda client: _known(client.get_job_status, handle["job"])) in WORKING

    def stop(self, run: Stored, handle: dict[str, Any]) -> None:
        """Let the cluster end it: Ray terminates it, and kills it three seconds later."""
        _asked(lambda client: _known(client.stop_job, handle["job"]))


def _asked(question: Callable[[Any], T]) -> T:
    """The answer of the operator's cluster."""
    try:
        from ray.job_submission import JobSubmissionClient
    except ImportError:
        raise Unavailable(
            "The launcher 'ray' needs Ray: pip install -r requirements-ray.txt, here and on the cluster."
        ) from None
    if not any(os.environ.get(name) for name in ADDRESSES):
        raise Unavailable(
            "The launcher 'ray' needs a cluster: whoever runs the lab sets RAY_ADDRESS, such as http://head:8265."
        )
    return answer("The Ray cluster", lambda: question(JobSubmissionClient()))


def _known(call: Callable[[str], T], job: str) -> T | None:
    """None where the cluster knows no such job."""
    try:
        return call(job)
    except RuntimeError as error:  # Ray has no other word for it
        if "status code 404" in str(error):
            return None
        raise
