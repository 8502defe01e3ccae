"""Where runs are started: the table of launchers."""

from __future__ import annotations

import json
import os

from lab.launch.base import Launcher
from lab.launch.hf_jobs import HfJobs
from lab.launch.process import Process
from lab.launch.ray import Ray
from lab.launch.slurm import Slurm
from lab.variants import Registry

__all__ = ["LAUNCHERS", "Launcher", "Process", "chosen"]

LAUNCHERS: Registry[Launcher] = Registry("launcher", Process, Ray, Slurm, HfJobs)


def chosen() -> Launcher:
    """Where runs go that name no launcher: the operator's LAB_LAUNCHER, a kind or JSON, or a process of this machine."""
    words = os.environ.get("LAB_LAUNCHER") or Process.kind
    try:
        return LAUNCHERS.parse(json.loads(words))
    except json.JSONDecodeError:
        return LAUNCHERS.parse(words)
