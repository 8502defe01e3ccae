"""Machines of a Slurm cluster, through submitit."""

from __future__ import annotations

import json
import os
from typing import Any, ClassVar

from pydantic import Field

from lab.errors import Unavailable
from lab.launch.base import Launcher, answer, script
from lab.launch.process import birth, find
from lab.processes import end
from lab.store import Stored

LOCAL = "local"  # submitit's executor for trying it out: a process of this machine
SHELL = "/bin/sh"


class Slurm(Launcher):
    """A job of the Slurm cluster that this machine submits to; its machines see the lab, its Python and LAB_HOME alike."""

    kind = "slurm"
    slow: ClassVar[float] = 30.0
    cpus: int = Field(default=2, ge=1, le=1024, description="cores that the cluster keeps for it")
    gpus: int = Field(
        default=0, ge=0, le=64, description="GPUs of one machine, each with a process of its own"
    )
    memory: int = Field(default=8, ge=1, le=8192, description="gigabytes of memory")
    hours: int = Field(
        default=4, ge=1, le=720, description="time limit; a run that needs more goes on in a second job"
    )

    def start(self, run: Stored) -> dict[str, Any]:
        """Submit it. Partition, account and the like are the operator's, in LAB_SLURM_OPTIONS."""
        return answer("The Slurm cluster", lambda: self._submitted(run))

    def _submitted(self, run: Stored) -> dict[str, Any]:
        executor = _submitit().AutoExecutor(folder=str(run.folder.resolve() / "slurm"), cluster=_cluster())
        executor.update_parameters(
            name=f"lab-{run.id}",
            timeout_min=60 * self.hours,
            cpus_per_task=self.cpus,
            gpus_per_node=self.gpus,
            mem_gb=self.memory,
            slurm_additional_parameters=_options(),
        )
        # The job becomes the line itself, so that the cluster's signals reach the worker.
        job = executor.submit(os.execv, SHELL, [SHELL, "-c", script(run, max(1, self.gpus))])
        handle = {"job": str(job.job_id), "cluster": executor.cluster}
        return handle | ({"born": birth(int(job.job_id))} if executor.cluster == LOCAL else {})

    def is_alive(self, run: Stored, handle: dict[str, Any]) -> bool:
        """Whether Slurm does not say that it ended; submitit asks it for all runs at once, and ever more seldom."""
        if handle["cluster"] == LOCAL:
            return find(_as_process(handle)) is not None
        return answer("The Slurm cluster", lambda: not _job(run, handle).done())

    def stop(self, run: Stored, handle: dict[str, Any]) -> None:
        """Cancel it: Slurm terminates it, and kills it after its own grace time."""
        if handle["cluster"] == LOCAL:
            if find(_as_process(handle)):
                end(int(handle["job"]))
        else:
            answer("The Slurm cluster", lambda: _job(run, handle).cancel())


def _as_process(handle: dict[str, Any]) -> dict[str, Any]:
    return {"pid": int(handle["job"]), "born": handle["born"]}


def _job(run: Stored, handle: dict[str, Any]) -> Any:
    return _submitit().SlurmJob(folder=str(run.folder.resolve() / "slurm"), job_id=handle["job"])


def _cluster() -> str:
    return os.environ.get("LAB_SLURM_CLUSTER") or "slurm"


def _options() -> dict[str, Any]:
    """The operator's options of sbatch, as JSON."""
    try:
        options = json.loads(os.environ.get("LAB_SLURM_OPTIONS") or "{}")
    except ValueError:
        options = None
    if not isinstance(options, dict):
        raise Unavailable('LAB_SLURM_OPTIONS is JSON with options of sbatch, such as {"partition": "gpu"}.')
    return options


def _submitit() -> Any:
    try:
        import submitit
    except ImportError:
        raise Unavailable(
            "The launcher 'slurm' needs submitit: pip install -r requirements-slurm.txt."
        ) from None
    return submitit
