"""Compiled networks: made while nobody waits, by a process of its own; kept across restarts, one for an architecture.

Weights are inputs of the compiled code, so that every checkpoint of one architecture shares it. Whether it is used is
measured, not hoped. The rival is the TorchScript graph with a share of the images for each core; compiled code cannot
be shared like that, since a call of it keeps Python's lock, so that all cores work within one call.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.borrowed import diffusers_class, torch
from lab.crew import spread
from lab.graph import Eps, Part, eps_of, graph
from lab.pictures import write_atomically
from lab.places import ROOT, home
from lab.planes import plane_by_plane
from lab.precision import in_bfloat16
from lab.priority import going_first, somebody_waits
from lab.processes import end
from lab.variants import Options

if TYPE_CHECKING:
    from torch import Tensor

FORM = 2  # of what is compiled: whoever changes it makes what lies on the shelves another network
LARGEST = 63  # images a call: diffusers' upsampling takes another path from 64 on
EXAMPLE = 32
WORTH = 1.05  # times as fast as the graph: less is noise
CLOSE = 0.02  # of the largest value: what another order of sums changes in bfloat16
ROUNDS = 7
IN_A_ROW = 3  # calls of a round
QUIET = 5.0  # seconds without a call of a network, after which nobody waits
SETTLE = 1.0  # seconds in which a training comes to the end of its step and pauses
GLANCE = 0.1  # seconds between looks for somebody who does
WANTED = 8  # architectures that wait to be compiled; the ones asked for last


class Blueprint(Options):
    """What decides compiled code, but for the machine: the architecture, the number format, how many cores work on it."""

    config: dict[str, Any]
    dtype: str
    cores: int = 1

    @classmethod
    def drawn_from(cls, unet: Any, dtype: torch.dtype, cores: int = 1) -> Blueprint | None:
        """Of a diffusers UNet2DModel; None for any other module."""
        if type(unet).__name__ != "UNet2DModel":
            return None
        config = {k: v for k, v in dict(unet.config).items() if not k.startswith("_")}
        plain = json.loads(json.dumps(config))
        return cls(config=plain, dtype=str(dtype).removeprefix("torch."), cores=cores)

    @property
    def key(self) -> str:
        """Its name on this machine, with these libraries."""
        import diffusers

        libraries = (sys.platform, torch.__version__, diffusers.__version__)
        machine = (torch.backends.cpu.get_cpu_capability(), os.environ.get("ONEDNN_MAX_CPU_ISA", ""))
        content = json.dumps([FORM, self.config, self.dtype, self.cores, libraries, machine], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def build(self) -> Any:
        """A network of this architecture, its weights being of no concern."""
        unet = diffusers_class("UNet2DModel")(**self.config).eval().requires_grad_(False)
        unet = torch.nn.Module.to(unet, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # missing in its stubs
        if self.dtype == "bfloat16":
            in_bfloat16(unet)
        return unet

    def example(self) -> Part:
        """Inputs of a call: x_t, t and, where the network has classes, labels."""
        size, classes = self.config["sample_size"], self.config.get("num_class_embeds")
        sides = (size, size) if isinstance(size, int) else tuple(size)
        draw = torch.Generator().manual_seed(0)
        x = torch.randn(EXAMPLE, self.config["in_channels"], *sides, generator=draw)
        x = x.to(getattr(torch, self.dtype)).contiguous(memory_format=torch.channels_last)
        t = torch.randint(1000, (EXAMPLE,), generator=draw)
        return (x, t, torch.randint(classes, (EXAMPLE,), generator=draw)) if classes else (x, t)


class Verdict(Options):
    """What came of compiling an architecture on this machine."""

    used: bool
    reason: str
    speedup: float | None = None  # times as fast as the graph, median of a few rounds
    seconds: float | None = None  # that compiling took


# The shelf --------------------------------------------------------------------------------------------------------


def shelf() -> Path:
    """Folder of compiled code, for this user alone: what lies there is run."""
    folder = _place()
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


def _place() -> Path:
    return home() / "compiled"


def verdict(blueprint: Blueprint) -> Verdict | None:
    """What came of compiling this architecture; None where nobody tried yet."""
    try:
        return Verdict(**json.loads((_place() / f"{blueprint.key}.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def shelved() -> float:
    """A number that changes with the shelf: networks made ready before may be made ready anew."""
    try:
        return _place().stat().st_mtime
    except OSError:
        return 0.0


def load(unet: Any, blueprint: Blueprint) -> Eps:
    """This network by the compiled code of its architecture; for a blueprint whose verdict is to use it."""
    package = _package(shelf() / f"{blueprint.key}.pt2")
    return _bound(package, dict(unet.state_dict()))


@lru_cache(maxsize=8)
def _package(path: Path) -> Any:
    from torch._inductor import aoti_load_package

    return aoti_load_package(str(path))


def _bound(package: Any, weights: dict[str, Tensor]) -> Eps:
    def eps(*part: Tensor) -> Tensor:
        n = len(part[0])
        pair = part if n > 1 else tuple(torch.cat([whole, whole]) for whole in part)
        return package(tuple(_plain(whole) for whole in pair), weights)[:n]

    return eps


def _plain(whole: Tensor) -> Tensor:
    """With the strides of the example: compiled code reads memory as it was told, also a t that is one number for all."""
    return whole.contiguous(memory_format=torch.channels_last if whole.ndim == 4 else torch.contiguous_format)


# Making -----------------------------------------------------------------------------------------------------------


def make(blueprint: Blueprint, rival: Eps | None = None) -> Verdict:
    """Compile an architecture, time it beside the graph and put what came of it on the shelf; takes a minute or two.

    rival: what it has to beat, if not the graph with a share of the images for each core.
    """
    torch.set_num_threads(blueprint.cores)
    beside = shelf() / f".{blueprint.key}"  # one that was given up left its own
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    found = _made(blueprint, beside / "network.pt2", rival)
    if found.used:
        os.replace(beside / "network.pt2", shelf() / f"{blueprint.key}.pt2")
    shutil.rmtree(beside)
    _shelve(blueprint, found)
    return found


def _shelve(blueprint: Blueprint, found: Verdict) -> None:
    write_atomically(shelf() / f"{blueprint.key}.json", found.model_dump_json().encode())


def _made(blueprint: Blueprint, path: Path, rival: Eps | None) -> Verdict:
    if not has_compiler():
        return Verdict(used=False, reason="this machine has no C++ compiler")
    unet, part, begun = blueprint.build(), blueprint.example(), time.monotonic()
    _compile(unet, part, path, blueprint.cores)
    seconds = round(time.monotonic() - begun, 1)
    compiled = _bound(_package(path), dict(unet.state_dict()))
    somebody_waits()  # beside a training all cores on one call are ten times as slow, and the verdict is kept
    time.sleep(SETTLE)
    return judge(compiled, rival or _by_shares(unet, part, blueprint.cores), part, seconds)


def _by_shares(unet: Any, part: Part, cores: int) -> Eps:
    """The graph as the denoiser runs it."""
    network = plane_by_plane(unet) if unet.dtype == torch.bfloat16 else unet
    network, size = graph(eps_of(network), part), -(-EXAMPLE // cores)
    return lambda *part: spread(network, part, size, cores)


def has_compiler() -> bool:
    """Whether inductor will find a C++ compiler."""
    names = [os.environ.get("CXX", ""), "c++", "g++", "clang++", "cl"]
    return any(shutil.which(name) for name in names if name)


def _compile(unet: Any, part: Part, path: Path, cores: int) -> None:
    from torch._inductor import aoti_compile_and_package
    from torch.export import Dim, export

    class Stateless(torch.nn.Module):
        def forward(self, part: Part, weights: dict[str, Tensor]) -> Tensor:
            return torch.func.functional_call(unet, weights, part, {"return_dict": False})[0]

    weights, batch = dict(unet.state_dict()), Dim("batch", min=2, max=LARGEST)
    dynamic = (tuple({0: batch} for _ in part), dict.fromkeys(weights))
    with torch.no_grad():
        program = export(Stateless(), (part, weights), dynamic_shapes=dynamic)
        aoti_compile_and_package(program, package_path=str(path), inductor_configs={"cpp.threads": cores})


def judge(compiled: Eps, rival: Eps, part: Part, seconds: float) -> Verdict:
    """Whether the compiled network gives the same as its rival, and sooner: medians of a few rounds in turns."""
    with torch.no_grad():
        ours, theirs = compiled(*part).float(), rival(*part).float()
        pairs = [(_timed(compiled, part), _timed(rival, part)) for _ in going_first(range(ROUNDS))]
    speedup = round(statistics.median(theirs / ours for ours, theirs in pairs), 2)
    if not (ours - theirs).abs().max() <= CLOSE * theirs.abs().max():
        return Verdict(used=False, reason="compiled it computes something else", speedup=speedup)
    used = speedup >= WORTH
    said = (
        f"compiled, {speedup} times as fast as"
        if used
        else f"compiled it would be {speedup} times as fast as"
    )
    return Verdict(used=used, reason=f"{said} its graph", speedup=speedup, seconds=seconds)


def _timed(eps: Eps, part: Part) -> float:
    """Seconds of a few calls in a row, as a sampling makes them.

    The one before is not counted: threads of a call with all cores spin for some milliseconds after it, on cores that
    its rival has begun to use.
    """
    eps(*part)
    begun = time.perf_counter()
    for _ in range(IN_A_ROW):
        eps(*part)
    return time.perf_counter() - begun


class Workshop:
    """Compiles what was asked for while nobody waits, one architecture at a time, in a process of lowest priority."""

    def __init__(self) -> None:
        self.wanted: deque[Blueprint] = deque(maxlen=WANTED)
        self.called = 0.0  # when a network was last called

    def ask(self, blueprint: Blueprint) -> None:
        """Note that this architecture has not been tried yet."""
        if blueprint not in self.wanted:
            self.wanted.append(blueprint)

    def open(self) -> None:
        """Start working; for a program that lives on, as the page does."""
        threading.Thread(target=self._work, name="workshop", daemon=True).start()

    def _work(self) -> None:
        while True:
            time.sleep(QUIET)
            if self.wanted and not self.is_needed():
                blueprint = self.wanted.popleft()
                if verdict(blueprint) is None and make_apart(blueprint, self.is_needed) is None:
                    self.wanted.append(blueprint)

    def is_needed(self) -> bool:
        """Whether a network was called a moment ago, so that somebody waits for the cores."""
        return time.monotonic() - self.called < QUIET


def make_apart(blueprint: Blueprint, is_needed: Callable[[], bool] = lambda: False) -> Verdict | None:
    """Make in a process of its own, which ends when this one does; what a failed one said lies beside the verdict.

    is_needed: whether somebody needs the cores now; then the work is given up, and None is returned.
    """
    command = [sys.executable, "-m", "lab.compiling", blueprint.model_dump_json()]
    log = shelf() / f"{blueprint.key}.log"
    with (
        log.open("wb") as said,
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=said, stderr=said) as process,
    ):
        while process.poll() is None:
            if is_needed():
                end(process.pid)
                return None
            time.sleep(GLANCE)
    if (found := verdict(blueprint)) is None:
        found = Verdict(used=False, reason=f"compiling it failed, see {log}")
        _shelve(blueprint, found)
    return found


def main() -> None:
    """Make the blueprint given as JSON; standard input stays open as long as whoever asked lives."""
    if hasattr(os, "nice"):
        os.nice(19)
    threading.Thread(target=_end_with_input, daemon=True).start()
    make(Blueprint(**json.loads(sys.argv[1])))


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(1)


WORKSHOP = Workshop()

if __name__ == "__main__":
    main()
