"""Where runs are started: the table of launchers."""

from __future__ import annotations

from lab.launch.base import Launcher
from lab.launch.hf_jobs import HfJobs
from lab.launch.process import Process
from lab.launch.ray import Ray
from lab.launch.slurm import Slurm
from lab.variants import Registry

__all__ = ["LAUNCHERS", "Launcher", "Process"]

LAUNCHERS: Registry[Launcher] = Registry("launcher", Process, Ray, Slurm, HfJobs)
