"""Where runs are started: the table of launchers."""

from __future__ import annotations

import json
import os

from lab import space
from lab.launch.base import Launcher
from lab.launch.hf_jobs import HfJobs
from lab.launch.process import Process
from lab.launch.ray import Ray
from lab.launch.slices import Slices
from lab.launch.slurm import Slurm
from lab.variants import Registry

__all__ = ["LAUNCHERS", "Launcher", "Process", "Slices", "chosen"]

LAUNCHERS: Registry[Launcher] = Registry("launcher", Process, Slices, Ray, Slurm, HfJobs)


def chosen() -> Launcher:
    """Where runs go that name no launcher: the operator's LAB_LAUNCHER, a kind or JSON, or a process of this machine.

    On ZeroGPU that process would have no GPU: runs train there while their visitor asks.
    """
    words = os.environ.get("LAB_LAUNCHER") or (Slices if space.is_zero() else Process).kind
    try:
        return LAUNCHERS.parse(json.loads(words))
    except json.JSONDecodeError:
        return LAUNCHERS.parse(words)
