"""A stand-in for ZeroGPU's package `spaces` (0.51): what it does to a decorated generator, but for the GPU.

Each call forks a daemon, in which a thread does the work. Options and results cross as pickles, an exception loses all
but its name, and a caller that closes the generator is heard after the next result. Python has to import it before torch.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from multiprocessing.reduction import ForkingPickler
from typing import Any

if "torch" in sys.modules:
    raise RuntimeError("CUDA has been initialized before importing the `spaces` package.")

import torch

FORK = multiprocessing.get_context("fork")
asked: list[int] = []  # seconds of each call


def GPU(duration: Callable[..., int]) -> Callable[[Callable[..., Iterator[Any]]], Any]:
    """Decorate a generator function."""

    def decorate(task: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        @wraps(task)
        def call(*arguments: Any) -> Iterator[Any]:
            asked.append(duration(*arguments))
            sent = bytes(ForkingPickler.dumps(arguments))
            results, stop = FORK.SimpleQueue(), FORK.Event()
            process = FORK.Process(target=_work, args=(task, sent, results, stop), daemon=True)
            process.start()
            try:
                yield from _received(results)
            finally:
                stop.set()
                process.join()

        return call

    return decorate


def _received(results: Any) -> Iterator[Any]:
    while (result := results.get())[0] != "end":
        if result[0] == "error":
            raise RuntimeError(f"ZeroGPU worker error: {result[1]}")
        yield result[1]


def _work(task: Callable[..., Iterator[Any]], sent: bytes, results: Any, stop: Any) -> None:
    with ThreadPoolExecutor(1) as executor:
        executor.submit(_iterated, task, sent, results, stop).result()
    results.put(("end", None))


def _iterated(task: Callable[..., Iterator[Any]], sent: bytes, results: Any, stop: Any) -> None:
    generator = task(*ForkingPickler.loads(sent))
    try:
        for result in generator:
            if stop.is_set():
                generator.close()
                return
            _refuse_tensors(result)
            results.put(("ok", result))
    except Exception as error:
        results.put(("error", type(error).__name__))


def _refuse_tensors(result: Any) -> None:
    """A GPU's tensor could not leave its process; none may try."""
    if isinstance(result, torch.Tensor):
        raise TypeError
    if isinstance(result, dict):
        result = list(result.values())
    for each in result if isinstance(result, list | tuple) else ():
        _refuse_tensors(each)
