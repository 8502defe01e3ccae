"""Pickled weights to safetensors: `python -m lab.hub.pickled FROM TO`, a process of its own with little memory and time.

torch's own reader with weights_only=True builds tensors and plain containers and calls nothing else. Should it fail at
that one day, this process has no token, and ends after some minutes of computing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from lab.errors import BadCheckpoint
from lab.places import ROOT
from lab.trust import check_finite, plain, short

SECONDS = 120  # of computing, and of waiting
MEMORY = 4 * 2**30  # bytes, beside three times the file
SECRETS = ("TOKEN", "SECRET", "PASSWORD", "KEY")  # parts of names in the environment that stay outside


def convert(source: Path, to: Path) -> None:
    """Write the tensors of a pickle as safetensors, in a process of its own; a BadCheckpoint says why it is refused."""
    env = {name: value for name, value in os.environ.items() if not any(s in name.upper() for s in SECRETS)}
    command = [sys.executable, "-m", "lab.hub.pickled", str(source.resolve()), str(to.resolve())]
    try:
        done = subprocess.run(
            command,
            env=env,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise BadCheckpoint(f"{source.name} was not read within {SECONDS} seconds; it is refused.") from None
    if done.returncode:
        said = (done.stdout.strip().splitlines() or ["its reader ended without a word"])[-1]
        raise BadCheckpoint(f"{source.name} is refused: {plain(said)[:200].rstrip('.')}.")


def _limit(size: int) -> None:
    """Bound this process, where the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    memory, written = MEMORY + 3 * size, 2 * size + 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (written, written))


def _main(source: Path, to: Path) -> int:
    import torch
    from safetensors.torch import save_file

    _limit(source.stat().st_size)
    try:
        found = torch.load(source, map_location="cpu", weights_only=True)
        tensors = {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}
        if len(tensors) != len(found) or not all(isinstance(name, str) for name in tensors):
            raise ValueError("it holds other things than tensors by name")
        if not all(value.is_floating_point() for value in tensors.values()):
            raise ValueError("it holds tensors that are no numbers with a fraction")
        check_finite(tensors)
        save_file({name: value.contiguous().clone() for name, value in tensors.items()}, to)
    except Exception as error:  # whatever a hostile file makes of a reader
        sys.stdout.write(f"{_why(error)}\n")
        return 1
    return 0


def _why(error: Exception) -> str:
    """Why, without torch's advice to trust the file all the same."""
    if "weights_only" in str(error) or "Unpickl" in type(error).__name__:
        return "it wants to run code, or is no pickle of tensors"
    return short(error)


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), Path(sys.argv[2])))
